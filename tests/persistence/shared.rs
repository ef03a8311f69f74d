//! Shared subscriptions: what waits for a member goes to others as it does without a disk.

use midge::packet::{QoS, SubscriptionOptions, Version};

use crate::board::{Board, SEEDS};
use crate::common::{Client, secs, subscribe};
use crate::disk::Faults;

const FILTER: &str = "$share/group/t";

fn texts(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| number.to_string())
        .collect()
}

fn publish(board: &mut Board, numbers: std::ops::Range<usize>, qos: QoS) {
    let publisher = board.client(Version::V5, "publisher");
    for number in numbers {
        board.publish_as(publisher, qos, "t", &number.to_string());
    }
    board.disconnect(publisher);
}

/// A clean start ends the session that was there.
fn end(board: &mut Board, id: &str) {
    let client = board.client(Version::V5, id);
    board.disconnect(client);
}

fn sorted(mut payloads: Vec<String>) -> Vec<usize> {
    payloads.sort_by_key(|payload| payload.parse::<usize>().expect("a number"));
    payloads
        .iter()
        .map(|payload| payload.parse().expect("a number"))
        .collect()
}

#[test]
fn what_waits_for_a_member_comes_back_to_it() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        board.absent(Version::V5, "a", FILTER, QoS::ExactlyOnce);
        publish(&mut board, 0..30, QoS::AtLeastOnce);
        publish(&mut board, 30..60, QoS::ExactlyOnce);
        board.cut_power();
        let a = board.resume(Version::V5, "a");
        assert_eq!(board.drain(a), texts(0..60), "{seed}");
        assert_eq!(board.messages_kept(), 0);
    }
}

/// Both are there, and `a` has as much in flight as it may, and some waiting behind it.
fn busy(board: &mut Board) -> (Client, Client) {
    let a = board.durable(Version::V5, "a");
    board.subscribe(a, FILTER, QoS::AtLeastOnce);
    publish(board, 0..60, QoS::AtLeastOnce);
    let b = board.durable(Version::V5, "b");
    board.subscribe(b, FILTER, QoS::AtLeastOnce);
    (a, b)
}

#[test]
fn a_member_that_leaves_hands_on_what_it_has_and_keeps_nothing_of_it() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let (a, b) = busy(&mut board);
        board.lose(a);
        board.sync();
        if seed % 2 == 0 {
            assert_eq!(board.drain(b), texts(0..60), "{seed}");
        } else {
            board.cut_power();
            let b = board.resume(Version::V5, "b");
            assert_eq!(board.drain(b), texts(0..60), "{seed}");
        }
        let a = board.resume(Version::V5, "a");
        board.expect_nothing(a);
        board.advance(secs(6));
        assert_eq!(board.messages_kept(), 0);
    }
}

#[test]
fn a_hand_over_that_the_power_cuts_short_loses_nothing() {
    for cut in 0..4 {
        for seed in SEEDS {
            let mut board = Board::new(seed);
            let (a, _) = busy(&mut board);
            board.sync();
            board.disk.set_faults(Faults {
                cut: Some(cut),
                ..Faults::default()
            });
            board.lose(a);
            board.cut_power();
            let (a, b) = (
                board.resume(Version::V5, "a"),
                board.resume(Version::V5, "b"),
            );
            let mut got = board.drain(a);
            got.extend(board.drain(b));
            let mut got = sorted(got);
            got.dedup();
            assert_eq!(got, (0..60).collect::<Vec<_>>(), "{cut}, {seed}");
        }
    }
}

#[test]
fn a_member_that_leaves_while_the_disk_is_full_loses_nothing() {
    let mut board = Board::new(1);
    let (a, b) = busy(&mut board);
    board.absent(Version::V5, "absent", "fill", QoS::AtLeastOnce);
    board.disk.set_faults(Faults {
        capacity: Some(3 << 20),
        ..Faults::default()
    });
    let publisher = board.client(Version::V5, "publisher");
    let payload = "x".repeat(40_000);
    for _ in 0..40 {
        board.publish_as(publisher, QoS::AtLeastOnce, "fill", &payload);
    }
    assert_eq!(board.sys("alarm"), "full");
    board.lose(a);
    let mut got = board.drain(b);
    let a = board.resume(Version::V5, "a");
    got.extend(board.drain(a));
    let mut got = sorted(got);
    got.dedup();
    assert_eq!(got, (0..60).collect::<Vec<_>>());
}
