//! How soon what is kept is on the medium, as `--durability` and `--durable` say.

use midge::broker::journal::WHENEVER;
use midge::packet::{Packet, Publish, QoS, ReasonCode, Version};

use crate::board::{Board, SEEDS, terms};
use crate::common::{Client, ack, millis, publish_qos, retained, secs};

/// Publishes to somebody who is away, is told at once, and says how many syncs that took.
fn publish(board: &mut Board, client: Client, topic: &str) -> u64 {
    let syncs = board.figures().syncs;
    let publish = publish_qos(QoS::AtLeastOnce, 1, topic, "x");
    board.send(client, &Packet::Publish(publish));
    assert_eq!(board.read(client).ack(), (1, ReasonCode::Success));
    board.figures().syncs - syncs
}

fn board(within: u64, by_topic: &[(&str, u64)]) -> (Board, Client) {
    let mut board = Board::with(1, terms(within, by_topic));
    board.absent(Version::V311, "absent", "#", QoS::AtLeastOnce);
    board.advance(secs(100));
    let client = board.client(Version::V5, "client");
    (board, client)
}

#[test]
fn in_the_turn_is_before_anybody_is_told() {
    let (mut board, client) = board(0, &[]);
    assert_eq!(publish(&mut board, client, "t"), 1);
}

#[test]
fn within_milliseconds_is_after_it_and_no_later_than_that() {
    let (mut board, client) = board(200, &[]);
    let before = board.figures().syncs;
    assert_eq!(publish(&mut board, client, "t"), 0);
    // More of them do not put it off.
    for _ in 0..19 {
        board.advance(millis(10));
        assert_eq!(publish(&mut board, client, "t"), 0);
    }
    board.advance(millis(9));
    assert_eq!(board.figures().syncs, before);
    board.advance(millis(1));
    assert_eq!(board.figures().syncs, before + 1);
    // All of them were in it: nothing is left to do.
    board.advance(secs(60));
    assert_eq!(board.figures().syncs, before + 1);
}

#[test]
fn what_was_synced_later_survives_and_what_was_not_may_not() {
    let mut lost = 0;
    for seed in SEEDS {
        let mut board = Board::with(seed, terms(200, &[]));
        board.absent(Version::V5, "absent", "#", QoS::AtLeastOnce);
        let client = board.client(Version::V5, "client");
        publish(&mut board, client, "1");
        board.advance(millis(200));
        publish(&mut board, client, "2");
        board.cut_power();
        let absent = board.resume(Version::V5, "absent");
        let count = board.drain(absent).len();
        assert!((1..=2).contains(&count), "{seed}: {count}");
        lost += 2 - count;
    }
    assert!((1..8).contains(&lost), "{lost}: the disk forgets at times");
}

#[test]
fn what_is_left_to_the_kernel_is_never_synced_by_us() {
    let (mut board, client) = board(WHENEVER, &[]);
    let before = board.figures();
    for _ in 0..100 {
        assert_eq!(publish(&mut board, client, "t"), 0);
    }
    board.send(client, &Packet::Publish(retained("r", "x")));
    board.advance(secs(86_400));
    assert_eq!(board.figures().syncs, before.syncs);
    assert!(board.figures().bytes_written > before.bytes_written);
    // It is with the kernel: another process finds it.
    assert_eq!(board.messages_kept(), 100);
    board.stop();
    assert_eq!(
        board.figures().syncs,
        before.syncs + 1,
        "an orderly stop syncs"
    );
}

#[test]
fn the_first_filter_that_matches_a_topic_decides() {
    let by_topic = [("a/+", 0), ("a/b", WHENEVER), ("c/#", 300), ("#", WHENEVER)];
    let (mut board, client) = board(0, &by_topic);
    assert_eq!(publish(&mut board, client, "a/b"), 1);
    assert_eq!(publish(&mut board, client, "a/c"), 1);
    assert_eq!(publish(&mut board, client, "a/b/c"), 0);
    board.advance(secs(60));
    let before = board.figures().syncs;
    assert_eq!(publish(&mut board, client, "c"), 0);
    board.advance(millis(299));
    assert_eq!(board.figures().syncs, before);
    board.advance(millis(1));
    assert_eq!(board.figures().syncs, before + 1);
    // A session is on other terms than messages.
    let before = board.figures().syncs;
    board.durable(Version::V5, "session");
    assert_eq!(board.figures().syncs, before + 1);
}

#[test]
fn what_must_be_synced_now_takes_what_waits_for_it_along() {
    let (mut board, client) = board(WHENEVER, &[("now", 0), ("soon", 1_000)]);
    assert_eq!(publish(&mut board, client, "soon"), 0);
    assert_eq!(publish(&mut board, client, "now"), 1);
    let before = board.figures().syncs;
    board.advance(secs(10));
    assert_eq!(board.figures().syncs, before);
}

#[test]
fn what_nobody_waits_for_is_synced_within_5_seconds() {
    let (mut board, client) = board(0, &[]);
    let before = board.figures().syncs;
    board.send(client, &Packet::Publish(retained("r", "1")));
    board.advance(millis(4_999));
    assert_eq!(board.figures().syncs, before);
    board.advance(millis(1));
    assert_eq!(board.figures().syncs, before + 1);
    // What was acknowledged to us.
    publish(&mut board, client, "t");
    let absent = board.resume(Version::V311, "absent");
    let id = board.messages(absent)[0].3.expect("an id");
    let before = board.figures();
    board.send(absent, &Packet::PubAck(ack(id)));
    assert!(board.figures().bytes_written > before.bytes_written);
    assert_eq!(board.figures().syncs, before.syncs);
    board.advance(secs(5));
    assert_eq!(board.figures().syncs, before.syncs + 1);
    // The same with QoS 1 has to wait for it.
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        packet_id: Some(1),
        ..retained("r", "2")
    };
    board.send(client, &Packet::Publish(publish));
    assert_eq!(board.figures().syncs, before.syncs + 2);
}

#[test]
fn a_sync_can_be_asked_for() {
    let (mut board, client) = board(WHENEVER, &[]);
    publish(&mut board, client, "t");
    let before = board.figures().syncs;
    board.sync();
    assert_eq!(board.figures().syncs, before + 1);
    board.sync();
    assert_eq!(board.figures().syncs, before + 1);
}

#[test]
fn all_of_a_turn_is_one_sync() {
    let (mut board, _) = board(0, &[]);
    let clients: Vec<_> = (0..50)
        .map(|number| board.client(Version::V5, &number.to_string()))
        .collect();
    let before = board.figures().syncs;
    let mut bytes = Vec::new();
    let publish = publish_qos(QoS::AtLeastOnce, 1, "t", "x");
    Packet::Publish(publish).encode(Version::V5, &mut bytes);
    board.send_from_all(&clients, &bytes);
    assert!(
        clients
            .iter()
            .all(|client| board.try_read(*client).is_some())
    );
    assert_eq!(board.figures().syncs, before + 1);
}

#[test]
fn the_time_is_noted_once_a_minute_and_only_beside_something_else() {
    let (mut board, client) = board(0, &[]);
    let before = board.figures();
    board.advance(secs(86_400));
    assert_eq!(board.figures(), before);
    let written = |board: &mut Board| {
        let before = board.figures().bytes_written;
        publish(board, client, "t");
        board.figures().bytes_written - before
    };
    let with_time = written(&mut board);
    let without = written(&mut board);
    assert!(with_time > without, "{with_time} {without}");
    board.advance(secs(59));
    assert_eq!(written(&mut board), without);
    board.advance(secs(1));
    assert_eq!(written(&mut board), with_time);
}
