//! Nothing is sent before it is durable.

use midge::packet::{Packet, Publish, QoS, ReasonCode, SubscriptionOptions, Version};

use crate::board::{Board, SEEDS};
use crate::common::{
    Client, ack, connect, durable, expiry, publish_qos, retained, subscribe, unsubscribe,
};
use crate::disk::Faults;

type Act = fn(&mut Board, Client);

/// What a client with a durable session does, and would be told.
const ACTS: [(&str, Act); 6] = [
    ("PUBACK", |board, client| {
        let publish = publish_qos(QoS::AtLeastOnce, 9, "away", "x");
        board.send(client, &Packet::Publish(publish));
    }),
    ("PUBREC", |board, client| {
        let publish = publish_qos(QoS::ExactlyOnce, 9, "nobody", "x");
        board.send(client, &Packet::Publish(publish));
    }),
    ("PUBCOMP", |board, client| {
        board.send(client, &Packet::PubRel(ack(5)))
    }),
    ("SUBACK", |board, client| {
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        board.send(client, &subscribe(3, &[("new", options)]));
    }),
    ("PUBLISH", |board, client| {
        // To itself: who has a message of QoS 2 must not get it again under another id.
        let publish = publish_qos(QoS::ExactlyOnce, 10, "old", "x");
        board.send(client, &Packet::Publish(publish));
    }),
    ("UNSUBACK", |board, client| {
        board.send(client, &unsubscribe(3, &["old"]))
    }),
];

/// A client with a durable session and one message of QoS 2 not released; somebody is away.
fn scene(seed: u64) -> (Board, Client) {
    let mut board = Board::new(seed);
    board.absent(Version::V5, "absent", "away", QoS::AtLeastOnce);
    let client = board.durable(Version::V5, "client");
    board.subscribe(client, "old", QoS::ExactlyOnce);
    let publish = publish_qos(QoS::ExactlyOnce, 5, "nobody", "x");
    board.send(client, &Packet::Publish(publish));
    board.read_all(client);
    (board, client)
}

#[test]
fn nobody_is_told_what_a_power_cut_during_the_write_or_the_sync_undoes() {
    for (name, act) in ACTS {
        for cut in 0..2 {
            let (mut board, client) = scene(0);
            board.disk.set_faults(Faults {
                cut: Some(cut),
                ..Faults::default()
            });
            act(&mut board, client);
            assert!(board.disk.is_off(), "{name} is not kept");
            assert_eq!(board.read_all(client), [], "{name} at verb {cut}");
        }
    }
}

#[test]
fn the_same_is_told_where_the_power_stays() {
    for (name, act) in ACTS {
        let (mut board, client) = scene(0);
        let syncs = board.figures().syncs;
        act(&mut board, client);
        assert!(!board.read_all(client).is_empty(), "{name}");
        assert!(board.figures().syncs > syncs, "{name}");
    }
}

#[test]
fn a_session_that_begins_is_durable_before_its_connack() {
    for (version, cut) in [(Version::V5, 0), (Version::V5, 1), (Version::V311, 1)] {
        let mut board = Board::new(1);
        board.disk.set_faults(Faults {
            cut: Some(cut),
            ..Faults::default()
        });
        let client = board.try_connect(durable(version, "a", &expiry(60)));
        assert!(board.disk.is_off());
        assert_eq!(board.read_all(client), []);
    }
}

#[test]
fn what_was_told_before_a_power_cut_is_true_after_it() {
    for seed in SEEDS {
        let (mut board, client) = scene(seed);
        for (_, act) in ACTS {
            act(&mut board, client);
        }
        board.cut_power();
        assert_eq!(board.messages_kept(), 2, "{seed}: one each");
        let absent = board.resume(Version::V5, "absent");
        assert_eq!(board.drain(absent), ["x"], "{seed}");
        let client = board.resume(Version::V5, "client");
        assert_eq!(board.drain(client), ["x"], "{seed}");
        // `new` is subscribed, `old` is not. 9 has come and is not released, 5 is.
        let other = board.client(Version::V311, "other");
        board.publish(other, "new", "1");
        board.publish(other, "old", "2");
        assert_eq!(board.payloads(client), ["1"], "{seed}");
        let release = |id| Packet::PubRel(ack(id));
        board.send(client, &release(9));
        assert_eq!(board.read(client).ack(), (9, ReasonCode::Success));
        board.send(client, &release(5));
        let unknown = ReasonCode::PacketIdentifierNotFound;
        assert_eq!(board.read(client).ack(), (5, unknown));
    }
}

#[test]
fn a_sync_that_fails_cuts_off_who_would_be_told_and_refuses_durable_sessions_until_a_restart() {
    let (mut board, client) = scene(3);
    let idle = board.durable(Version::V311, "idle");
    let bystander = board.client(Version::V5, "bystander");
    board.subscribe(bystander, "news", QoS::AtMostOnce);
    let alarm = board.client(Version::V5, "alarm");
    board.subscribe(alarm, "$SYS/broker/store/alarm", QoS::AtMostOnce);
    assert_eq!(board.payloads(alarm), ["none"]);
    board.disk.set_faults(Faults {
        bad_sync: Some(0),
        ..Faults::default()
    });
    (ACTS[0].1)(&mut board, client);
    // Cut off without a word; and so is who has a durable session and did nothing.
    board.expect_closed(client);
    board.expect_closed(idle);
    assert_eq!(board.payloads(alarm), ["broken"]);
    assert_eq!(board.sys("alarm"), "broken");
    // Others are served, but for what would have to be kept.
    board.publish(bystander, "news", "1");
    assert_eq!(board.payloads(bystander), ["1"]);
    assert!(board.is_accepted(bystander, QoS::AtLeastOnce, 1, "news"));
    let publish = publish_qos(QoS::AtLeastOnce, 2, "away", "x");
    board.read_all(bystander);
    board.send(bystander, &Packet::Publish(publish));
    assert_eq!(board.read(bystander).ack(), (2, ReasonCode::QuotaExceeded));
    for _ in 0..2 {
        let (old, new) = (expiry(3_600), expiry(1));
        let old = board.try_connect(durable(Version::V5, "client", &old));
        board.expect_refused(old, ReasonCode::QuotaExceeded);
        let new = board.try_connect(durable(Version::V5, "unheard", &new));
        board.expect_refused(new, ReasonCode::QuotaExceeded);
        let v3 = board.try_connect(durable(Version::V311, "idle", &expiry(0)));
        board.expect_refused(v3, ReasonCode::ServerUnavailable);
        board.advance(crate::common::secs(600));
    }
    let clean = board.client(Version::V311, "clean");
    board.expect_nothing(clean);
    // The next start believes what is on the disk.
    board.cut_power();
    assert_eq!(board.sys("alarm"), "none");
    board.resume(Version::V311, "idle");
    board.resume(Version::V5, "client");
}

#[test]
fn a_write_that_fails_does_the_same() {
    let (mut board, client) = scene(3);
    board.disk.set_faults(Faults {
        bad_write: Some(0),
        ..Faults::default()
    });
    (ACTS[1].1)(&mut board, client);
    board.expect_closed(client);
    assert_eq!(board.sys("alarm"), "broken");
}

#[test]
fn only_those_who_would_be_told_in_that_turn_are_cut_off() {
    let mut board = Board::new(4);
    board.absent(Version::V5, "absent", "away", QoS::AtLeastOnce);
    let clients: Vec<_> = ["a", "b", "c"]
        .map(|id| board.connect(connect(Version::V311, id)))
        .into();
    board.disk.set_faults(Faults {
        bad_sync: Some(0),
        ..Faults::default()
    });
    let mut bytes = Vec::new();
    let publish = publish_qos(QoS::AtLeastOnce, 1, "away", "x");
    Packet::Publish(publish).encode(Version::V311, &mut bytes);
    board.send_from_all(&clients[..2], &bytes);
    board.expect_closed(clients[0]);
    board.expect_closed(clients[1]);
    board.expect_nothing(clients[2]);
}

#[test]
fn a_retained_message_is_durable_before_it_is_acknowledged() {
    let mut board = Board::new(5);
    let client = board.client(Version::V311, "a");
    board.disk.set_faults(Faults {
        cut: Some(1),
        ..Faults::default()
    });
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        packet_id: Some(1),
        ..retained("t", "x")
    };
    board.send(client, &Packet::Publish(publish));
    assert!(board.disk.is_off());
    assert_eq!(board.read_all(client), []);
}

#[test]
fn what_is_not_to_survive_touches_no_disk() {
    let mut board = Board::new(6);
    let client = board.client(Version::V5, "a");
    board.subscribe(client, "#", QoS::ExactlyOnce);
    let written = board.figures().bytes_written;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        board.publish_as(client, qos, "t", "x");
    }
    board.lose(client);
    board.advance(crate::common::secs(300));
    assert_eq!(board.figures().bytes_written, written);
    board.expect_nothing_kept();
}

#[test]
fn a_clear_that_is_acknowledged_is_durable_whatever_cleared_before() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.client(Version::V5, "client");
        let set = Publish {
            retain: true,
            ..publish_qos(QoS::AtLeastOnce, 1, "t", "x")
        };
        board.send(client, &Packet::Publish(set));
        board.read(client);
        // Nobody waits for the first.
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let clear = Publish {
                retain: true,
                packet_id: (qos > QoS::AtMostOnce).then_some(2),
                ..publish_qos(qos, 2, "t", "")
            };
            board.send(client, &Packet::Publish(clear));
        }
        board.read(client).ack();
        board.cut_power();
        board.expect_nothing_kept();
    }
}
