//! A disk without room: what must be durable is refused, all else goes on, nothing is lost.

use midge::packet::{Packet, Publish, QoS, ReasonCode, SubscriptionOptions, Version};

use crate::board::{Board, SEEDS};
use crate::common::{Client, ack, durable, expiry, publish_qos, secs, subscribe, unsubscribe};
use crate::disk::Faults;

const MIB: u64 = 1 << 20;

/// There are so many bytes on the disk, and what the store has taken.
fn room(board: &Board, bytes: u64) {
    board.disk.set_faults(Faults {
        capacity: Some(bytes),
        ..Faults::default()
    });
}

fn payload(number: usize) -> String {
    format!("{number:05}{}", "x".repeat(40_000))
}

/// Publishes with QoS 1 for who is away until that is refused; how many were accepted.
fn fill(board: &mut Board, publisher: Client, first: usize) -> usize {
    for number in first..first + 500 {
        let payload = payload(number);
        let publish = publish_qos(QoS::AtLeastOnce, 1, "t", &payload);
        board.send(publisher, &Packet::Publish(publish));
        match board.read(publisher).ack().1 {
            ReasonCode::Success => {}
            ReasonCode::QuotaExceeded => return number,
            other => panic!("{other:?}"),
        }
    }
    panic!("it is never full")
}

/// Numbers of the messages that a client gets.
fn numbers(payloads: &[String]) -> Vec<usize> {
    let number = |payload: &String| payload[..5].parse().expect("a number");
    payloads.iter().map(number).collect()
}

/// Somebody is away, and the disk is full.
fn scene(seed: u64) -> (Board, Client, usize) {
    let mut board = Board::new(seed);
    board.absent(Version::V5, "absent", "t", QoS::AtLeastOnce);
    let publisher = board.client(Version::V5, "publisher");
    room(&board, 3 * MIB);
    let accepted = fill(&mut board, publisher, 0);
    assert!(accepted > 20, "{accepted}");
    (board, publisher, accepted)
}

#[test]
fn what_must_be_durable_is_refused_and_all_else_goes_on() {
    let (mut board, publisher, accepted) = scene(1);
    assert_eq!(board.sys("alarm"), "full");
    // Before MQTT 5 there is no way to say no, but to say nothing.
    let old = board.client(Version::V311, "old");
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        board.send(old, &Packet::Publish(publish_qos(qos, 1, "t", "x")));
        board.expect_nothing(old);
        board.send(publisher, &Packet::Publish(publish_qos(qos, 1, "t", "x")));
        assert_eq!(board.read(publisher).ack(), (1, ReasonCode::QuotaExceeded));
    }
    let keep = Publish {
        retain: true,
        ..publish_qos(QoS::AtLeastOnce, 2, "r", "x")
    };
    board.send(publisher, &Packet::Publish(keep));
    assert_eq!(board.read(publisher).ack(), (2, ReasonCode::QuotaExceeded));
    let new = board.try_connect(durable(Version::V5, "new", &expiry(60)));
    board.expect_refused(new, ReasonCode::QuotaExceeded);
    let new = board.try_connect(durable(Version::V311, "new", &expiry(60)));
    board.expect_refused(new, ReasonCode::ServerUnavailable);
    // Who needs no disk is served.
    let bystander = board.client(Version::V5, "bystander");
    board.subscribe(bystander, "#", QoS::ExactlyOnce);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        board.publish_as(old, qos, "other", "x");
        assert_eq!(board.payloads(bystander), ["x"], "{qos:?}");
    }
    board.publish_as(old, QoS::AtMostOnce, "t", "for who is here");
    assert_eq!(board.payloads(bystander), ["for who is here"]);
    // A durable session gets what waits, subscribes to nothing new, and may leave.
    let absent = board.resume(Version::V5, "absent");
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    assert!(!board.messages(absent).is_empty());
    board.send(absent, &subscribe(1, &[("new", options), ("t", options)]));
    let answer = [ReasonCode::QuotaExceeded, ReasonCode::GrantedQoS1];
    assert_eq!(board.read(absent).reasons(), answer);
    board.send(absent, &unsubscribe(1, &["t"]));
    assert_eq!(board.read(absent).reasons(), [ReasonCode::Success]);
    assert!(board.messages_kept() == accepted);
}

#[test]
fn handshakes_go_on_while_the_disk_is_full() {
    let mut board = Board::new(1);
    let client = board.durable(Version::V5, "client");
    board.subscribe(client, "two", QoS::ExactlyOnce);
    let publisher = board.durable(Version::V5, "two");
    board.publish_as(publisher, QoS::ExactlyOnce, "two", "x");
    let begun = publish_qos(QoS::ExactlyOnce, 5, "two", "y");
    board.send(publisher, &Packet::Publish(begun));
    board.read_all(publisher);
    let ids: Vec<_> = board
        .messages(client)
        .into_iter()
        .filter_map(|one| one.3)
        .collect();
    board.absent(Version::V5, "absent", "t", QoS::AtLeastOnce);
    room(&board, 3 * MIB);
    fill(&mut board, publisher, 0);
    board.send(publisher, &Packet::Publish(Publish { dup: true, ..begun }));
    assert_eq!(
        board.read(publisher).ack(),
        (5, ReasonCode::Success),
        "it was kept"
    );
    board.send(publisher, &Packet::PubRel(ack(5)));
    assert_eq!(board.read(publisher).ack(), (5, ReasonCode::Success));
    for id in &ids {
        board.complete(client, QoS::ExactlyOnce, *id);
    }
    board.advance(secs(6));
    let capacity = Some(3 * MIB);
    board.cut_power();
    board.disk.set_faults(Faults {
        capacity,
        ..Faults::default()
    });
    let client = board.resume(Version::V5, "client");
    board.expect_nothing(client);
}

/// In one turn: more than there is room for.
fn too_much(board: &mut Board, version: Version, qos: QoS) -> Vec<Client> {
    let clients: Vec<_> = (0..40)
        .map(|number| board.durable(version, &format!("from {number}")))
        .collect();
    let (payload, mut bytes) = ("x".repeat(100_000), Vec::new());
    let publish = publish_qos(qos, 1, "t", &payload);
    Packet::Publish(publish).encode(version, &mut bytes);
    board.send_from_all(&clients, &bytes);
    clients
}

#[test]
fn a_commit_that_is_larger_than_the_room_is_held_and_nobody_is_told_until_it_is_kept() {
    for version in [Version::V5, Version::V311] {
        let mut board = Board::new(1);
        board.absent(version, "absent", "t", QoS::ExactlyOnce);
        let bystander = board.client(Version::V5, "bystander");
        room(&board, 3 * MIB);
        let clients = too_much(&mut board, version, QoS::ExactlyOnce);
        for client in &clients {
            board.expect_closed(*client);
        }
        assert_eq!(board.sys("alarm"), "full");
        board.expect_nothing(bystander);
        // It comes back, and says the same again: it is told nothing that is not kept.
        for _ in 0..3 {
            board.advance(secs(2));
            let back = board.try_connect(durable(version, "from 7", &expiry(3_600)));
            let mut again = Vec::new();
            let payload = "x".repeat(100_000);
            let publish = Publish {
                dup: true,
                ..publish_qos(QoS::ExactlyOnce, 1, "t", &payload)
            };
            Packet::Publish(publish).encode(version, &mut again);
            if board.is_open(back) {
                board.send_bytes(back, &again);
            }
            let told = board.read_all(back);
            let accepted = told
                .iter()
                .filter(|one| matches!(one.packet(), Packet::PubRec(_)));
            assert_eq!(accepted.count(), 0, "{version:?}: it is not kept");
        }
        // There is room: all that was held is kept, once.
        board.disk.set_faults(Faults::default());
        board.advance(secs(200));
        assert_eq!(board.sys("alarm"), "none");
        assert_eq!(board.messages_kept(), 40);
        board.cut_power();
        let back = board.resume(version, "from 7");
        let publish = Publish {
            dup: true,
            ..publish_qos(QoS::ExactlyOnce, 1, "t", "x")
        };
        board.send(back, &Packet::Publish(publish));
        board.expect(back, &Packet::PubRec(ack(1)));
        assert_eq!(board.messages_kept(), 40);
        let absent = board.resume(version, "absent");
        assert_eq!(board.drain(absent).len(), 40);
    }
}

#[test]
fn a_commit_that_is_held_is_lost_with_the_power_and_nobody_was_told() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "absent", "t", QoS::ExactlyOnce);
    room(&board, 3 * MIB);
    let clients = too_much(&mut board, Version::V5, QoS::AtLeastOnce);
    assert!(
        clients
            .iter()
            .all(|client| board.try_read(*client).is_none())
    );
    board.cut_power();
    assert_eq!(board.messages_kept(), 0);
    let absent = board.resume(Version::V5, "absent");
    board.expect_nothing(absent);
}

#[test]
fn who_is_present_gets_what_was_held_once_it_is_kept() {
    let mut board = Board::new(1);
    let reader = board.durable(Version::V5, "reader");
    board.subscribe(reader, "t", QoS::ExactlyOnce);
    room(&board, 3 * MIB);
    too_much(&mut board, Version::V5, QoS::AtLeastOnce);
    board.disk.set_faults(Faults::default());
    board.advance(secs(200));
    let reader = board.resume(Version::V5, "reader");
    assert_eq!(board.drain(reader).len(), 40);
}

#[test]
fn a_broker_starts_on_a_full_disk() {
    let (board, _, accepted) = scene(1);
    board.disk.power_on(&mut crate::common::Prng::new(3));
    room(&board, 3 * MIB);
    let limits = board.options.clone();
    let mut board = Board::on(board.disk.clone(), 2, limits);
    let absent = board.resume(Version::V5, "absent");
    assert_eq!(board.drain(absent).len(), accepted);
}

#[test]
fn it_goes_on_when_the_messages_that_take_the_room_are_gone() {
    let (mut board, publisher, accepted) = scene(1);
    let absent = board.resume(Version::V5, "absent");
    let got = numbers(&board.drain(absent));
    assert_eq!(got, (0..accepted).collect::<Vec<_>>());
    // What was acknowledged to us is noted, full as it is.
    assert_eq!(board.messages_kept(), 0);
    board.advance(secs(200));
    assert_eq!(board.sys("alarm"), "none");
    board.lose(absent);
    assert!(fill(&mut board, publisher, 0) > 20);
}

#[test]
fn it_goes_on_without_a_restart_when_the_disk_has_room_again() {
    let (mut board, publisher, accepted) = scene(1);
    let watcher = board.client(Version::V5, "alarms");
    board.subscribe(watcher, "$SYS/broker/store/alarm", QoS::AtMostOnce);
    assert_eq!(board.payloads(watcher), ["full"]);
    board.advance(secs(300));
    assert_eq!(board.payloads(watcher), [""; 0]);
    // Nobody does anything: it is found all the same.
    room(&board, 100 * MIB);
    board.advance(secs(200));
    let mut alarms = board.payloads(watcher);
    alarms.dedup();
    assert_eq!(alarms, ["none"]);
    board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload(accepted));
    let absent = board.resume(Version::V5, "absent");
    let got = numbers(&board.drain(absent));
    assert_eq!(got, (0..=accepted).collect::<Vec<_>>());
}

#[test]
fn nothing_that_was_acknowledged_is_lost_and_all_goes_on_when_there_is_room() {
    for seed in SEEDS {
        let (mut board, _, accepted) = scene(seed);
        if seed % 2 == 0 {
            board.disk.set_faults(Faults::default());
            board.advance(secs(200));
            assert_eq!(board.sys("alarm"), "none");
        }
        board.cut_power();
        let absent = board.resume(Version::V5, "absent");
        let got = numbers(&board.drain(absent));
        assert_eq!(got, (0..accepted).collect::<Vec<_>>(), "{seed}");
        board.lose(absent);
        let publisher = board.client(Version::V5, "publisher");
        board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload(7));
        let absent = board.resume(Version::V5, "absent");
        assert_eq!(numbers(&board.drain(absent)), [7]);
    }
}

#[test]
fn a_will_reaches_who_is_present_while_the_disk_is_full() {
    let (mut board, ..) = scene(1);
    let reader = board.client(Version::V5, "reader");
    board.subscribe(reader, "t", QoS::AtLeastOnce);
    let mortal = board.connect(midge::packet::Connect {
        will: Some(midge::packet::Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: midge::packet::Properties::NONE,
            topic: "t",
            payload: b"gone",
        }),
        ..crate::common::connect(Version::V5, "mortal")
    });
    board.lose(mortal);
    assert_eq!(board.payloads(reader), ["gone"]);
}

#[test]
fn what_has_to_be_cleared_or_passes_by_needs_no_room() {
    let mut board = Board::new(1);
    let publisher = board.client(Version::V5, "publisher");
    for topic in ["state", "old"] {
        let message = Publish {
            retain: true,
            ..publish_qos(QoS::AtLeastOnce, 1, topic, "on")
        };
        board.send(publisher, &Packet::Publish(message));
        board.read(publisher);
    }
    let reader = board.client(Version::V5, "reader");
    board.subscribe(reader, "state", QoS::AtMostOnce);
    board.read_all(reader);
    board.absent(Version::V5, "absent", "t", QoS::AtLeastOnce);
    room(&board, 3 * MIB);
    fill(&mut board, publisher, 0);
    let say = |topic, payload, qos| Publish {
        retain: true,
        packet_id: (qos > QoS::AtMostOnce).then_some(9),
        ..publish_qos(qos, 9, topic, payload)
    };
    // Who is there is told, though it is not retained.
    board.send(
        publisher,
        &Packet::Publish(say("state", "off", QoS::AtMostOnce)),
    );
    assert_eq!(board.payloads(reader), ["off"]);
    // The same value again, and an empty one, are no news to the disk, or good news.
    for (topic, payload) in [("state", "on"), ("old", "")] {
        board.send(
            publisher,
            &Packet::Publish(say(topic, payload, QoS::AtLeastOnce)),
        );
        assert!(!board.read(publisher).ack().1.is_error(), "{topic}");
    }
    room(&board, u64::MAX);
    board.cut_power();
    let late = board.client(Version::V5, "late");
    for (topic, left) in [("state", &["on"][..]), ("old", &[])] {
        board.subscribe(late, topic, QoS::AtMostOnce);
        assert_eq!(board.payloads(late), left, "{topic}");
    }
}

#[test]
fn want_of_descriptors_costs_a_client_its_connection_and_no_message() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "absent", "t", QoS::AtLeastOnce);
    let publisher = board.client(Version::V5, "publisher");
    for number in 0..100 {
        board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload(number));
    }
    board.disk.set_faults(Faults {
        no_descriptors: true,
        ..Faults::default()
    });
    let client = board.resume(Version::V5, "absent");
    board.expect_disconnect(client, ReasonCode::ServerBusy);
    board.disk.set_faults(Faults::default());
    let client = board.resume(Version::V5, "absent");
    let all = board.drain(client);
    assert_eq!(numbers(&all), Vec::from_iter(0..100));
}
