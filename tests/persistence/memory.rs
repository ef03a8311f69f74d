//! `--memory-limit` where sessions are kept: what is on disk takes its place in memory too.

use std::cell::Cell;

use midge::broker::limits::{Limits, Options};
use midge::packet::{Packet, QoS, ReasonCode, Version};

use crate::board::{Board, SEEDS};
use crate::common::{Client, connect, durable, expiry, publish, publish_qos};

const LIMIT: u64 = 4 << 20;
/// Only what new clients need is left.
const ENOUGH: u64 = LIMIT - LIMIT / Limits::MEMORY_FREE_PART;

thread_local! {
    /// What a test says is in use.
    static SAID: Cell<u64> = const { Cell::new(0) };
}

fn limited() -> Options {
    let mut options = Options {
        memory_in_use: || SAID.get(),
        ..Options::default()
    };
    options.limits.memory_bytes_max = LIMIT;
    options
}

#[test]
fn nothing_more_waits_on_disk_where_its_place_would_take_what_new_clients_need() {
    let block = expiry(3_600);
    for seed in SEEDS {
        let mut board = Board::with(seed, limited());
        let away = board.connect(durable(Version::V5, "away", &block));
        board.subscribe(away, "t", QoS::AtLeastOnce);
        board.disconnect(away);
        let publisher = board.connect(connect(Version::V5, "publisher"));
        for (in_use, payload) in [(ENOUGH - 1, "kept"), (ENOUGH, "dropped"), (0, "kept again")] {
            SAID.set(in_use);
            let publish = publish_qos(QoS::AtLeastOnce, 1, "t", payload);
            board.send(publisher, &Packet::Publish(publish));
            assert_eq!(board.read(publisher).ack(), (1, ReasonCode::Success));
        }
        board.connect(connect(Version::V5, "new"));
        board.cut_power();
        let back = board.connect(durable(Version::V5, "away", &block));
        assert_eq!(board.drain(back), ["kept", "kept again"]);
    }
}

#[test]
fn what_waits_in_memory_goes_for_what_is_to_be_kept() {
    let block = expiry(3_600);
    for seed in SEEDS {
        let mut board = Board::with(seed, limited());
        // Nothing of it is on disk.
        stopped(&mut board, "live");
        let away = board.connect(durable(Version::V5, "away", &block));
        board.subscribe(away, "t", QoS::AtLeastOnce);
        board.disconnect(away);
        let publisher = board.connect(connect(Version::V5, "publisher"));
        let publish = |board: &mut Board, topic: &str, payload: &str| {
            let publish = publish_qos(QoS::AtLeastOnce, 1, topic, payload);
            board.send(publisher, &Packet::Publish(publish));
            board.read(publisher).ack()
        };
        SAID.set(0);
        // More than are in flight: some wait.
        for _ in 0..70 {
            publish(&mut board, "live", &"x".repeat(1_000));
        }
        SAID.set(ENOUGH);
        publish(&mut board, "t", "kept");
        board.cut_power();
        SAID.set(0);
        let back = board.connect(durable(Version::V5, "away", &block));
        assert_eq!(board.drain(back), ["kept"]);
    }
}

#[test]
fn what_was_kept_for_a_group_is_handed_on_where_nothing_more_may_wait() {
    let block = expiry(3_600);
    for seed in SEEDS {
        SAID.set(0);
        let mut board = Board::with(seed, limited());
        let member = |board: &mut Board, name: &str| {
            let member = board.connect(durable(Version::V5, name, &block));
            board.subscribe(member, "$share/group/t", QoS::AtLeastOnce);
            board.read_only(member, 0);
            member
        };
        let first = member(&mut board, "first");
        let second = member(&mut board, "second");
        let publisher = board.connect(connect(Version::V5, "publisher"));
        for number in 0..200 {
            let number = number.to_string();
            let publish = publish_qos(QoS::AtLeastOnce, 1, "t", &number);
            board.send(publisher, &Packet::Publish(publish));
        }
        SAID.set(ENOUGH);
        board.lose(first);
        board.lose(second);
        // It begins anew: what it had is the other's.
        board.connect(connect(Version::V5, "first"));
        let second = board.connect(durable(Version::V5, "second", &block));
        let mut received = board.drain(second);
        received.sort_by_key(|number| number.parse::<u32>().unwrap());
        received.dedup();
        let sent: Vec<String> = (0..200).map(|number: u32| number.to_string()).collect();
        assert_eq!(received, sent);
    }
}

/// A client that reads nothing, whose session ends with its connection.
fn stopped(board: &mut Board, filter: &str) -> Client {
    let stopped = board.connect(connect(Version::V5, "stopped"));
    board.subscribe(stopped, filter, QoS::AtLeastOnce);
    board.read_only(stopped, 0);
    stopped
}

/// More than are in flight for one or two clients: some wait.
fn publish_some(board: &mut Board, publisher: Client, count: u32) {
    for number in 0..count {
        let publish = publish_qos(QoS::AtLeastOnce, 1, "t", "x");
        board.send(publisher, &Packet::Publish(publish));
        assert_eq!(board.read(publisher).ack().0, 1, "{number}");
    }
}

#[test]
fn a_member_that_may_keep_no_more_does_not_take_a_message_from_one_that_has_room() {
    let block = expiry(3_600);
    for seed in SEEDS {
        SAID.set(0);
        let mut board = Board::with(seed, limited());
        let live = stopped(&mut board, "$share/group/t");
        let kept = board.connect(durable(Version::V5, "kept", &block));
        board.subscribe(kept, "$share/group/t", QoS::AtLeastOnce);
        board.read_only(kept, 0);
        let publisher = board.connect(connect(Version::V5, "publisher"));
        publish_some(&mut board, publisher, 100);
        SAID.set(ENOUGH);
        publish_some(&mut board, publisher, 20);
        SAID.set(0);
        let mut received = 0;
        for client in [live, kept] {
            board.read_only(client, usize::MAX);
            received += board.drain(client).len();
        }
        assert_eq!(received, 120);
    }
}

#[test]
fn qos_0_that_is_to_be_kept_pushes_out_nothing_that_was_acknowledged() {
    let block = expiry(3_600);
    for seed in SEEDS {
        SAID.set(0);
        let options = Options {
            queue_qos0_messages: true,
            ..limited()
        };
        let mut board = Board::with(seed, options);
        let stopped = stopped(&mut board, "t");
        let away = board.connect(durable(Version::V5, "away", &block));
        board.subscribe(away, "telemetry", QoS::AtMostOnce);
        board.disconnect(away);
        let publisher = board.connect(connect(Version::V5, "publisher"));
        publish_some(&mut board, publisher, 70);
        SAID.set(ENOUGH);
        for _ in 0..5 {
            board.send(publisher, &Packet::Publish(publish("telemetry", "x")));
        }
        SAID.set(0);
        board.read_only(stopped, usize::MAX);
        assert_eq!(board.drain(stopped).len(), 70);
    }
}
