//! `--memory-limit` where sessions are kept: what is on disk takes its place in memory too.

use std::cell::Cell;

use midge::broker::limits::{Limits, Options};
use midge::packet::{Packet, QoS, ReasonCode, Version};

use crate::board::{Board, SEEDS};
use crate::common::{connect, durable, expiry, publish_qos};

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
        // The session of this one ends with its connection: nothing of it is on disk.
        let stopped = board.connect(connect(Version::V5, "stopped"));
        board.subscribe(stopped, "live", QoS::AtLeastOnce);
        board.read_only(stopped, 0);
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
