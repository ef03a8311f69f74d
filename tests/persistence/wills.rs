//! Wills of clients that were connected, or away, when the power went.

use midge::packet::{self, Connect, Properties, PropertyBlock, PropertyId, QoS, Version};

use crate::board::{Board, SEEDS};
use crate::common::{durable, expiry, numbers, secs};

/// A block with a Will Delay Interval, and an expiry.
fn delay(seconds: u32) -> PropertyBlock {
    let delay = (PropertyId::WillDelayInterval, seconds);
    numbers(&[delay, (PropertyId::MessageExpiryInterval, 500)])
}

fn will<'a>(properties: Properties<'a>, payload: &'a str) -> Option<packet::Will<'a>> {
    Some(packet::Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        properties,
        topic: "will",
        payload: payload.as_bytes(),
    })
}

/// Connects with a will of that delay, and a session of `interval` seconds.
fn mortal(board: &mut Board, id: &str, interval: u32, seconds: u32) -> crate::common::Client {
    let (block, interval) = (delay(seconds), expiry(interval));
    board.connect(Connect {
        will: will(block.as_properties(), id),
        ..durable(Version::V5, id, &interval)
    })
}

/// Wills that have reached somebody who was away all the time.
fn heard(board: &mut Board) -> Vec<String> {
    let reader = board.resume(Version::V5, "reader");
    let payloads = board.drain(reader);
    board.lose(reader);
    payloads
}

fn board(seed: u64) -> Board {
    let mut board = Board::new(seed);
    board.absent(Version::V5, "reader", "will", QoS::AtLeastOnce);
    board
}

#[test]
fn the_will_of_a_client_that_was_connected_is_published_when_the_board_is_back() {
    for seed in SEEDS {
        let mut board = board(seed);
        mortal(&mut board, "a", 3_600, 0);
        board.connect(Connect {
            will: will(Properties::NONE, "b"),
            ..durable(Version::V311, "b", &expiry(0))
        });
        // Of a session that ends with its connection nothing is kept.
        board.connect(Connect {
            will: will(Properties::NONE, "c"),
            ..crate::common::connect(Version::V311, "c")
        });
        board.cut_power();
        assert_eq!(heard(&mut board), ["a", "b"], "{seed}");
        board.advance(secs(6));
        board.cut_power();
        assert_eq!(heard(&mut board), [""; 0], "{seed}: once");
        let late = board.client(Version::V5, "late");
        board.subscribe(late, "will", QoS::AtMostOnce);
        let received = board.read(late);
        assert_eq!(received.publish().payload, b"b", "retained");
    }
}

#[test]
fn a_delay_begins_when_the_board_is_back_and_ends_with_the_client() {
    for seed in SEEDS {
        let mut board = board(seed);
        mortal(&mut board, "a", 3_600, 30);
        mortal(&mut board, "back", 3_600, 30);
        board.cut_power_for(secs(1_000));
        board.advance(secs(29));
        board.resume(Version::V5, "back");
        assert_eq!(heard(&mut board), [""; 0], "{seed}");
        board.advance(secs(3));
        assert_eq!(heard(&mut board), ["a"], "{seed}");
        board.advance(secs(6));
        board.cut_power();
        assert_eq!(heard(&mut board), [""; 0], "{seed}");
    }
}

#[test]
fn a_delay_that_had_begun_goes_on_while_the_board_is_off() {
    for seed in SEEDS {
        let mut board = board(seed);
        let client = mortal(&mut board, "a", 3_600, 30);
        board.lose(client);
        board.advance(secs(10));
        board.cut_power_for(secs(10));
        board.advance(secs(8));
        assert_eq!(heard(&mut board), [""; 0], "{seed}");
        board.advance(secs(3));
        assert_eq!(heard(&mut board), ["a"], "{seed}");
    }
}

#[test]
fn a_will_comes_with_the_end_of_its_session_where_that_is_sooner() {
    for seed in SEEDS {
        let mut board = board(seed);
        let client = mortal(&mut board, "a", 20, 3_000);
        board.lose(client);
        board.advance(secs(10));
        board.cut_power();
        board.advance(secs(9));
        assert_eq!(heard(&mut board), [""; 0], "{seed}");
        board.advance(secs(2));
        assert_eq!(heard(&mut board), ["a"], "{seed}");
    }
}

#[test]
fn a_will_that_was_taken_back_stays_so() {
    for seed in SEEDS {
        let mut board = board(seed);
        let client = mortal(&mut board, "a", 3_600, 0);
        board.disconnect(client);
        mortal(&mut board, "b", 3_600, 0);
        // Taken over, it is published; the second connection has none.
        board.resume(Version::V5, "b");
        board.cut_power();
        assert_eq!(heard(&mut board), ["b"], "{seed}");
    }
}

#[test]
fn the_will_of_a_session_that_ends_as_the_broker_starts_reaches_those_before_and_behind_it() {
    for seed in SEEDS {
        let mut board = board(seed);
        let client = mortal(&mut board, "a", 3_600, 0);
        board.disconnect(client);
        board.absent(Version::V5, "later", "will", QoS::AtLeastOnce);
        mortal(&mut board, "a", 0, 100);
        board.cut_power();
        assert_eq!(heard(&mut board), ["a"], "{seed}");
        let later = board.resume(Version::V5, "later");
        assert_eq!(board.drain(later), ["a"], "{seed}");
    }
}

#[test]
fn the_expiry_of_a_will_begins_when_it_is_published() {
    let mut board = board(1);
    let client = mortal(&mut board, "a", 3_600, 100);
    board.lose(client);
    board.cut_power_for(secs(50));
    board.advance(secs(60));
    let reader = board.resume(Version::V5, "reader");
    let received = board.read(reader);
    let left = received
        .publish()
        .properties
        .number(PropertyId::MessageExpiryInterval);
    assert!((489..=491).contains(&left.expect("an expiry")), "{left:?}");
}

#[test]
fn a_will_is_durable_before_its_client_is_told_that_it_is_connected() {
    let mut board = board(3);
    board.durable(Version::V311, "a");
    board.disk.set_faults(crate::disk::Faults {
        cut: Some(1),
        ..Default::default()
    });
    let client = board.try_connect(Connect {
        will: will(Properties::NONE, "a"),
        ..durable(Version::V311, "a", &expiry(0))
    });
    assert!(board.disk.is_off());
    assert_eq!(board.read_all(client), []);
}

#[test]
fn a_delayed_will_waits_for_its_client_over_an_orderly_stop_too() {
    let mut board = board(2);
    mortal(&mut board, "at once", 3_600, 0);
    mortal(&mut board, "connected", 3_600, 30);
    let client = mortal(&mut board, "away", 3_600, 30);
    board.lose(client);
    board.stop();
    board.start();
    board.resume(Version::V5, "connected");
    assert_eq!(heard(&mut board), ["at once"]);
    board.advance(secs(31));
    assert_eq!(heard(&mut board), ["away"]);
}
