//! What expires goes on doing so while the board is off, as far as the clock on the wall tells.

use midge::packet::{Disconnect, Packet, PropertyId, Publish, QoS, ReasonCode, Version};

use crate::board::{Board, SEEDS, WALL, set_wall};
use crate::common::{connect, durable, expiry, numbers, publish, publish_qos, secs};

/// A session that was left `seconds` ago with an expiry of 100, and a retained message as old.
fn aged(board: &mut Board, seconds: u64) {
    publish_for(board, 100);
    board.advance(secs(seconds));
}

/// A retained message, and a session before it.
fn publish_for(board: &mut Board, message_expiry: u32) {
    let client = board.connect(durable(Version::V5, "a", &expiry(100)));
    board.disconnect(client);
    let block = numbers(&[(PropertyId::MessageExpiryInterval, message_expiry)]);
    let publisher = board.client(Version::V5, "publisher");
    let message = Publish {
        retain: true,
        properties: block.as_properties(),
        ..publish_qos(QoS::AtLeastOnce, 1, "t", "x")
    };
    board.send(publisher, &Packet::Publish(message));
}

/// How long the retained message has left, if it is there.
fn left(board: &mut Board) -> Option<u32> {
    let reader = board.client(Version::V5, "reader");
    board.subscribe(reader, "t", QoS::AtMostOnce);
    let received = board.try_read(reader);
    board.disconnect(reader);
    received.and_then(|one| {
        let properties = one.publish().properties;
        properties.number(PropertyId::MessageExpiryInterval)
    })
}

fn is_there(board: &mut Board, id: &str) -> bool {
    let client = board.try_connect(durable(Version::V5, id, &expiry(100)));
    let is_present = board.read(client).connack().session_present;
    board.disconnect(client);
    is_present
}

#[test]
fn expiry_goes_on_while_the_board_is_off() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        aged(&mut board, 30);
        board.cut_power_for(secs(50));
        assert_eq!(left(&mut board), Some(20), "{seed}");
        board.advance(secs(15));
        assert!(is_there(&mut board, "a"), "{seed}");
        aged(&mut board, 30);
        board.cut_power_for(secs(71));
        assert_eq!(left(&mut board), None, "{seed}");
        assert!(!is_there(&mut board, "a"), "{seed}");
    }
}

#[test]
fn the_clock_of_the_broker_goes_on_over_any_number_of_starts() {
    let mut board = Board::new(2);
    aged(&mut board, 0);
    for number in 1..=9 {
        board.advance(secs(5));
        board.cut_power_for(secs(5));
        assert_eq!(left(&mut board), Some(100 - number * 10));
    }
}

#[test]
fn a_client_that_was_connected_has_all_its_time_when_the_board_is_back() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        board.connect(durable(Version::V5, "a", &expiry(100)));
        board.advance(secs(1_000));
        board.cut_power_for(secs(1_000));
        // And it goes on counting over the next cut.
        board.advance(secs(50));
        board.cut_power();
        board.advance(secs(40));
        board.cut_power();
        assert_eq!(board.kept().0.len(), 1, "{seed}");
        board.advance(secs(20));
        assert!(!is_there(&mut board, "a"), "{seed}");
    }
}

#[test]
fn a_session_that_never_expires_does_not() {
    let mut board = Board::new(3);
    board.absent(Version::V311, "old", "t", QoS::AtMostOnce);
    board.absent(Version::V5, "new", "t", QoS::AtMostOnce);
    let client = board.resume_with(durable(Version::V5, "new", &expiry(u32::MAX)));
    board.lose(client);
    board.cut_power_for(secs(100 * 365 * 86_400));
    board.resume(Version::V311, "old");
    board.resume(Version::V5, "new");
}

#[test]
fn messages_that_wait_expire_while_the_board_is_off() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        board.absent(Version::V5, "a", "#", QoS::ExactlyOnce);
        let publisher = board.client(Version::V5, "publisher");
        for (seconds, qos) in [
            (10, QoS::AtLeastOnce),
            (100, QoS::ExactlyOnce),
            (20, QoS::ExactlyOnce),
        ] {
            let block = numbers(&[(PropertyId::MessageExpiryInterval, seconds)]);
            let payload = seconds.to_string();
            let message = Publish {
                qos,
                packet_id: Some(1),
                properties: block.as_properties(),
                ..publish("t", &payload)
            };
            board.send(publisher, &Packet::Publish(message));
            board.send(publisher, &Packet::PubRel(crate::common::ack(1)));
        }
        board.cut_power_for(secs(50));
        let client = board.resume(Version::V5, "a");
        assert_eq!(board.drain(client), ["100"], "{seed}");
        board.advance(secs(6));
        assert_eq!(board.messages_kept(), 0, "{seed}");
    }
}

#[test]
fn what_has_expired_is_swept_from_the_disk() {
    let mut board = Board::new(4);
    aged(&mut board, 0);
    board.cut_power_for(secs(200));
    board.advance(secs(130));
    board.expect_nothing_kept();
    let client = board.connect(connect(Version::V311, "a"));
    board.expect_nothing(client);
}

#[test]
fn expiry_goes_on_beyond_what_32_bits_can_count() {
    // In January 2038 and in February 2106, in seconds since 1970; and some time later.
    for end in [1 << 31, 1 << 32, 1 << 40] {
        let mut board = Board::new(1);
        set_wall(end - 40);
        aged(&mut board, 30);
        board.cut_power_for(secs(50));
        assert_eq!(left(&mut board), Some(20), "{end}");
        board.advance(secs(15));
        assert!(is_there(&mut board, "a"), "{end}");
    }
}

#[test]
fn a_board_whose_clock_has_not_been_set_counts_the_time_it_runs() {
    for (before, after) in [
        (WALL, 7),
        (WALL, WALL - 10_000),
        (7, WALL),
        (7, 3),
        (7, 900),
    ] {
        let mut board = Board::new(1);
        set_wall(before);
        aged(&mut board, 30);
        board.disk.power_on(&mut crate::common::Prng::new(1));
        set_wall(after);
        board.start();
        // Not all of the 30 have been noted.
        let left = left(&mut board).expect("it is there");
        assert!((70..=100).contains(&left), "{left}: {before}, {after}");
        board.advance(secs(60));
        assert!(is_there(&mut board, "a"), "{before}, {after}");
        board.advance(secs(101));
        assert!(!is_there(&mut board, "a"), "{before}, {after}");
    }
}

#[test]
fn the_longest_expiry_grows_no_longer_where_the_clock_went_back() {
    let mut board = Board::new(1);
    set_wall(7);
    board.durable(Version::V5, "first");
    // The time is noted once a minute.
    board.advance(secs(50));
    publish_for(&mut board, u32::MAX);
    board.disk.power_on(&mut crate::common::Prng::new(1));
    set_wall(7);
    board.start();
    assert_eq!(left(&mut board), Some(u32::MAX));
}

#[test]
fn an_expiry_that_the_disconnect_changed_is_kept() {
    for (seed, (at_first, at_last)) in [(100, u32::MAX), (u32::MAX, 100), (100, 200), (200, 100)]
        .into_iter()
        .enumerate()
    {
        let mut board = Board::new(seed as u64);
        let client = board.connect(durable(Version::V5, "a", &expiry(at_first)));
        let block = expiry(at_last);
        let disconnect = Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: block.as_properties(),
        });
        board.send(client, &disconnect);
        board.expect_closed(client);
        board.cut_power();
        board.advance(secs(150));
        assert_eq!(
            board.kept().0.len(),
            usize::from(at_last > 150),
            "{at_first} {at_last}"
        );
        board.advance(secs(100));
        let is_there = is_there(&mut board, "a");
        assert_eq!(is_there, at_last > 250, "{at_first}, then {at_last}");
    }
}
