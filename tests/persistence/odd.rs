//! A start from what nobody expects: lower limits, and records that make no sense.

use midge::broker::limits::Limits;
use midge::packet::{Packet, QoS, ReasonCode, SubscriptionOptions, Version};
use midge::record::{Batch, Ref};

use crate::board::{Board, SEEDS, disk_with, set_wall, terms};
use crate::common::{Prng, connect, durable, expiry, publish_qos, retained, secs, subscribe};

/// The same board with other limits.
fn limit(board: &mut Board, change: impl FnOnce(&mut Limits)) {
    change(&mut board.options.limits);
    board.start();
}

#[test]
fn sessions_beyond_the_limit_are_restored_and_no_others_begin() {
    let mut board = Board::new(1);
    for number in 0..5 {
        board.absent(Version::V5, &number.to_string(), "t", QoS::AtLeastOnce);
    }
    limit(&mut board, |limits| limits.sessions_max = 3);
    for number in 0..5 {
        let client = board.resume(Version::V5, &number.to_string());
        if number < 3 {
            let refused = board.try_connect(connect(Version::V5, "new"));
            board.expect_refused(refused, ReasonCode::QuotaExceeded);
            let over = board.resume_with(durable(Version::V5, &number.to_string(), &expiry(0)));
            board.expect_disconnect(client, ReasonCode::SessionTakenOver);
            board.disconnect(over);
        }
    }
    board.client(Version::V5, "new");
}

#[test]
fn retained_messages_beyond_the_limit_are_restored_and_no_others_stored() {
    for (count, bytes) in [(3, u64::MAX), (usize::MAX, 90)] {
        let mut board = Board::new(1);
        let client = board.client(Version::V5, "publisher");
        for topic in ["a", "b", "c", "d", "e"] {
            board.send(client, &Packet::Publish(retained(topic, "1234567890")));
        }
        board.advance(secs(6));
        limit(&mut board, |limits| {
            (limits.retained_messages_max, limits.retained_bytes_max) = (count, bytes);
        });
        let client = board.client(Version::V5, "publisher");
        let mut put = |topic, payload| {
            let publish = midge::packet::Publish {
                retain: true,
                ..publish_qos(QoS::AtLeastOnce, 1, topic, payload)
            };
            board.send(client, &Packet::Publish(publish));
            board.read(client).ack().1
        };
        let (fine, full) = (ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded);
        assert_eq!(put("f", "1"), full);
        // What is there may change, and go.
        assert_eq!(put("a", "1"), fine);
        assert_eq!(put("b", ""), fine);
        assert_eq!(put("f", "1"), full);
        assert_eq!(put("c", ""), fine);
        assert_eq!(put("d", ""), fine);
        assert_eq!(put("f", "1"), fine);
        let reader = board.client(Version::V5, "reader");
        board.subscribe(reader, "#", QoS::AtMostOnce);
        assert_eq!(board.payloads(reader), ["1", "1234567890", "1"]);
    }
}

#[test]
fn what_waits_and_is_in_flight_beyond_the_limits_is_restored() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V5, "client");
        for filter in ["a", "b", "c", "t"] {
            board.subscribe(client, filter, QoS::ExactlyOnce);
        }
        let publisher = board.client(Version::V5, "publisher");
        for number in 0..40 {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number % 2];
            board.publish_as(publisher, qos, "t", &number.to_string());
        }
        // Of 20 in flight, 8 are released.
        let sent = board.messages(client);
        let ids = sent.iter().filter(|(_, qos, ..)| *qos == QoS::ExactlyOnce);
        let ids: Vec<_> = ids.filter_map(|(.., id)| *id).collect();
        for id in &ids[..8] {
            board.send(client, &Packet::PubRec(crate::common::ack(*id)));
            board.read(client);
        }
        board.advance(secs(6));
        limit(&mut board, |limits| {
            limits.inflight_messages_max = 2;
            limits.queued_messages_max = 3;
            limits.queued_bytes_max = 50;
            limits.subscriptions_max = 2;
        });
        let client = board.resume(Version::V5, "client");
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let mut released = Vec::new();
        let mut got = Vec::new();
        loop {
            let received = board.read_all(client);
            if received.is_empty() {
                break;
            }
            for received in received {
                match received.packet() {
                    Packet::PubRel(ack) => {
                        released.push(ack.packet_id);
                        board.send(client, &Packet::PubComp(ack));
                    }
                    Packet::Publish(publish) => {
                        let text = String::from_utf8(publish.payload.to_vec()).expect("UTF-8");
                        got.push(text.parse::<usize>().expect("a number"));
                        let ack = crate::common::ack(publish.packet_id.expect("an id"));
                        board.send(
                            client,
                            &match publish.qos {
                                QoS::ExactlyOnce => Packet::PubRec(ack),
                                _ => Packet::PubAck(ack),
                            },
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        released.dedup();
        assert_eq!(&released[..8], &ids[..8], "{seed}");
        got.sort_unstable();
        let is_left = |number: &usize| number.is_multiple_of(2) || *number > 15;
        let expected: Vec<_> = (0..40).filter(is_left).collect();
        assert_eq!(got, expected, "{seed}");
        board.send(client, &subscribe(1, &[("new", options), ("a", options)]));
        let answer = [ReasonCode::QuotaExceeded, ReasonCode::Success];
        assert_eq!(board.read(client).reasons(), answer);
    }
}

#[test]
fn a_broker_without_retained_messages_or_qos_2_starts_from_one_that_had_them() {
    let mut board = Board::new(1);
    let client = board.client(Version::V5, "publisher");
    board.send(client, &Packet::Publish(retained("t", "x")));
    board.absent(Version::V5, "a", "t", QoS::ExactlyOnce);
    board.publish_as(client, QoS::ExactlyOnce, "t", "x");
    board.options.max_qos = QoS::AtMostOnce;
    board.options.retain_available = false;
    board.start();
    let client = board.resume(Version::V5, "a");
    assert_eq!(board.drain(client), ["x"]);
}

#[test]
fn records_that_make_no_sense_are_left_out() {
    let mut records = Batch::new();
    let number = 9u32.to_be_bytes();
    let key = |kind: u8, rest: &[u8]| [&[kind], &number[..], rest].concat();
    // Of no kind, too short, of no session, and of one that is fine.
    records.put(b"", b"");
    records.put(b"z", b"what is that");
    records.put(b"c", b"\x01");
    records.put(b"ss", b"\0\0");
    records.put(b"s\xFF\xFE", &[0; 16]);
    records.put(b"r", b"");
    records.put(b"r+/x", &[0; 40]);
    records.put(b"rtopic", &[0xFF; 40]);
    records.put(b"f", b"");
    records.put(&key(b'f', b"a/#/b"), &[1, 0, 0, 0, 0]);
    records.put(&key(b'f', b"$share//x"), &[1, 0, 0, 0, 0]);
    records.put(&key(b'f', b"bad/qos"), &[3, 0, 0, 0, 0]);
    records.put(&key(b'f', b"fine"), &[1, 0, 0, 0, 0]);
    records.put(&key(b'i', b"\x01"), b"");
    records.put(&key(b'i', b"\0\x05"), b"");
    records.put(&key(b'o', b""), b"");
    records.put(&key(b'o', b"\0\x07"), &77u32.to_be_bytes());
    records.put(&key(b'w', b""), &[0; 30]);
    records.put(b"f\0\0\0\x55other", &[1, 0, 0, 0, 0]);
    let expires_never = [&number[..], &u32::MAX.to_be_bytes(), &[0; 8]].concat();
    records.put(b"sclient", &expires_never);
    for (queue, sequence, extra, body) in [
        (9, 1, &b""[..], &b""[..]),
        (9, 2, b"\x01", b"too short"),
        (9, 3, b"\x09\0\x05", &[0; 20]),
        (66, 1, b"\x01", b"of nobody"),
    ] {
        records.message(
            [Ref {
                queue,
                sequence,
                extra,
            }],
            body,
        );
    }
    set_wall(crate::board::WALL);
    let mut board = Board::on(disk_with(&records), 1, terms(0, &[]));
    let client = board.resume(Version::V5, "client");
    board.expect_nothing(client);
    let other = board.client(Version::V5, "other");
    board.publish_as(other, QoS::AtLeastOnce, "fine", "x");
    board.publish_as(other, QoS::AtLeastOnce, "bad/qos", "y");
    assert_eq!(board.drain(client), ["x"]);
    board.send(client, &Packet::PubRel(crate::common::ack(5)));
    assert_eq!(board.read(client).ack(), (5, ReasonCode::Success));
    // The same start again and again; of what belongs to nobody nothing is left.
    board.advance(secs(6));
    for _ in 0..2 {
        board.cut_power();
        let client = board.resume(Version::V5, "client");
        board.expect_nothing(client);
        assert_eq!(board.messages_kept(), 0);
    }
}

#[test]
fn numbers_of_queues_begin_anew_and_pass_over_those_in_use() {
    let mut records = Batch::new();
    for (key, queue) in [(b"sfirst", 1), (b"sthird", 3), (b"slast_", u32::MAX)] {
        let never = [queue, u32::MAX, 0, 0].map(u32::to_be_bytes).concat();
        records.put(key, &never);
        let topic = [&b"f"[..], &queue.to_be_bytes(), b"old"].concat();
        records.put(&topic, &[1, 0, 0, 0, 0]);
    }
    set_wall(crate::board::WALL);
    let mut board = Board::on(disk_with(&records), 1, terms(0, &[]));
    for id in ["new", "newer"] {
        board.absent(Version::V5, id, "new", QoS::AtLeastOnce);
    }
    let publisher = board.client(Version::V5, "publisher");
    for topic in ["old", "new"] {
        board.publish_as(publisher, QoS::AtLeastOnce, topic, topic);
    }
    board.cut_power();
    for id in ["first", "third", "last_", "new", "newer"] {
        let client = board.resume(Version::V5, id);
        let expected = if id.starts_with("new") { "new" } else { "old" };
        assert_eq!(board.drain(client), [expected], "{id}");
    }
}

#[test]
fn any_records_whatever_make_no_broker_fall() {
    let mut prng = Prng::new(12);
    for round in 0..40 {
        let mut records = Batch::new();
        for _ in 0..40 {
            let mut key = vec![*prng.pick(b"csfiowr")];
            key.extend([0, 0, 0, prng.below(4) as u8]);
            key.extend((0..prng.below(5)).map(|_| prng.next() as u8));
            if prng.chance(50) {
                key.extend(b"a/b");
            }
            let mut value: Vec<u8> = [0, 0, 0, prng.below(4) as u8].to_vec();
            value.extend((0..prng.below(40)).map(|_| match prng.below(3) {
                0 => prng.next() as u8,
                one => one as u8 - 1,
            }));
            match prng.below(3) {
                0 => {
                    let (queue, sequence) = (prng.below(4) as u32, prng.next() as u32);
                    let (extra, body) = value.split_at(prng.below(value.len() + 1));
                    records.message(
                        [Ref {
                            queue,
                            sequence,
                            extra,
                        }],
                        body,
                    );
                }
                _ => records.put(&key, &value),
            }
        }
        set_wall(crate::board::WALL);
        let mut board = Board::on(disk_with(&records), round, terms(0, &[]));
        board.broker.check_invariants();
        board.advance(secs(5));
        let reader = board.client(Version::V5, "reader");
        board.subscribe(reader, "#", QoS::ExactlyOnce);
        board.read_all(reader);
        let client = board.durable(Version::V5, "client");
        board.expect_nothing(client);
        board.cut_power();
        board.resume(Version::V5, "client");
    }
}
