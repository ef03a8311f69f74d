//! Shared subscriptions: what waits for a member goes to others as it does without a disk.

use midge::broker::limits::{Limits, Options, QueueOverflow};
use midge::packet::{QoS, SubscriptionOptions, Version};

use crate::board::{Board, SEEDS};
use crate::common::{Client, durable, expiry, secs, subscribe};
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
        for seed in 0..4 {
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

#[test]
fn messages_of_a_group_behind_a_long_queue_go_to_another_member_too() {
    for is_cut in [false, true] {
        let mut board = Board::new(1);
        board.absent(Version::V5, "a", "plain", QoS::AtLeastOnce);
        let publisher = board.client(Version::V5, "publisher");
        let payload = "x".repeat(5_000);
        for _ in 0..50 {
            board.publish_as(publisher, QoS::AtLeastOnce, "plain", &payload);
        }
        // It has much on disk, and then begins to share.
        let a = board.resume(Version::V5, "a");
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        board.send(a, &subscribe(1, &[(FILTER, options)]));
        for number in 50..80 {
            board.publish_as(publisher, QoS::AtLeastOnce, "t", &number.to_string());
        }
        board.lose(a);
        if is_cut {
            board.cut_power();
        }
        let b = board.durable(Version::V5, "b");
        board.subscribe(b, FILTER, QoS::AtLeastOnce);
        end(&mut board, "a");
        assert_eq!(board.drain(b), texts(50..80), "{is_cut}");
    }
}

#[test]
fn what_is_not_shared_waits_on_disk_for_a_member_too() {
    let mut board = Board::new(1);
    let a = board.durable(Version::V5, "a");
    board.subscribe(a, FILTER, QoS::AtLeastOnce);
    board.subscribe(a, "plain", QoS::AtLeastOnce);
    board.lose(a);
    let publisher = board.client(Version::V5, "publisher");
    for number in 0..50 {
        board.publish_as(publisher, QoS::AtLeastOnce, "plain", &number.to_string());
    }
    board.broker.check_all_waits_on_disk("a");
    for number in 50..60 {
        board.publish_as(publisher, QoS::AtLeastOnce, "t", &number.to_string());
        board.publish_as(
            publisher,
            QoS::AtLeastOnce,
            "plain",
            &(number + 10).to_string(),
        );
    }
    let a = board.resume(Version::V5, "a");
    let got = board.drain(a);
    let (shared, plain): (Vec<_>, Vec<_>) =
        got.into_iter().partition(|one| texts(50..60).contains(one));
    assert_eq!(shared, texts(50..60));
    assert_eq!(plain, texts((0..50).chain(60..70)));
}

#[test]
fn what_waits_for_a_member_that_expires_after_a_restart_goes_to_another() {
    let mut board = Board::new(1);
    board.absent(Version::V311, "b", FILTER, QoS::AtLeastOnce);
    let a = board.durable(Version::V5, "a");
    board.subscribe(a, FILTER, QoS::AtLeastOnce);
    publish(&mut board, 0..30, QoS::AtLeastOnce);
    board.lose(a);
    board.cut_power();
    board.advance(secs(3_700));
    let b = board.resume(Version::V311, "b");
    assert_eq!(sorted(board.drain(b)), (0..30).collect::<Vec<_>>());
}

#[test]
fn what_waits_for_a_member_that_ends_goes_to_another_that_is_away() {
    for is_cut in [false, true] {
        for seed in SEEDS {
            let mut board = Board::new(seed);
            board.absent(Version::V5, "a", FILTER, QoS::AtLeastOnce);
            publish(&mut board, 0..30, QoS::AtLeastOnce);
            board.absent(Version::V5, "b", FILTER, QoS::AtLeastOnce);
            if is_cut {
                board.cut_power();
            }
            end(&mut board, "a");
            board.cut_power();
            let b = board.resume(Version::V5, "b");
            assert_eq!(board.drain(b), texts(0..30), "{seed}, {is_cut}");
            board.advance(secs(6));
            assert_eq!(board.messages_kept(), 0);
        }
    }
}

#[test]
fn what_waits_for_a_member_whose_session_ends_as_the_broker_starts_goes_to_another() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        board.absent(Version::V5, "a", FILTER, QoS::AtLeastOnce);
        publish(&mut board, 0..30, QoS::AtLeastOnce);
        board.absent(Version::V5, "b", FILTER, QoS::AtLeastOnce);
        board.resume_with(durable(Version::V5, "a", &expiry(0)));
        board.cut_power();
        let b = board.resume(Version::V5, "b");
        assert_eq!(board.drain(b), texts(0..30), "{seed}");
    }
}

#[test]
fn the_oldest_go_first_where_a_queue_is_in_memory_and_on_disk() {
    let options = Options {
        limits: Limits {
            queued_messages_max: 10,
            ..Limits::default()
        },
        queue_overflow: QueueOverflow::DropOldest,
        ..Options::default()
    };
    let mut board = Board::with(1, options);
    let a = board.durable(Version::V5, "a");
    board.subscribe(a, FILTER, QoS::AtLeastOnce);
    board.subscribe(a, "plain", QoS::AtLeastOnce);
    board.lose(a);
    let publisher = board.client(Version::V5, "publisher");
    for number in 0..30 {
        let topic = ["plain", "plain", "t"][number % 3];
        board.publish_as(publisher, QoS::AtLeastOnce, topic, &number.to_string());
    }
    let a = board.resume(Version::V5, "a");
    // What came to the group first is gone too; later there was no room for more of it.
    let got = sorted(board.drain(a));
    assert_eq!(got, [15, 16, 18, 19, 21, 22, 24, 25, 27, 28]);
    board.advance(secs(6));
    assert_eq!(board.messages_kept(), 0);
}
