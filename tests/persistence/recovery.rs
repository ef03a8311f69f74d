//! What is there again after a power cut: retained messages, sessions, subscriptions, queues.

use midge::broker::limits::Options;
use midge::packet::{
    Packet, PropertyBlock, PropertyId, Publish, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscriptionOptions, Version,
};

use crate::board::{Board, SEEDS};
use crate::common::{
    connect, durable, expiry, millis, numbers, publish, publish_qos, retained, secs, unsubscribe,
};

#[test]
fn retained_messages_come_back_as_they_were() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let publisher = board.client(Version::V5, "publisher");
        let mut block = PropertyBlock::new();
        block.number(PropertyId::PayloadFormatIndicator, 1);
        block.number(PropertyId::MessageExpiryInterval, 100);
        block.text(PropertyId::ResponseTopic, "answer/to");
        block.pair("unit", "°C");
        for (qos, topic) in [
            (QoS::AtMostOnce, "a/0"),
            (QoS::AtLeastOnce, "a/1"),
            (QoS::ExactlyOnce, "a/2"),
        ] {
            let message = Publish {
                qos,
                retain: true,
                packet_id: (qos > QoS::AtMostOnce).then_some(7),
                properties: block.as_properties(),
                ..publish(topic, "21")
            };
            board.send(publisher, &Packet::Publish(message));
        }
        board.send(publisher, &Packet::Publish(retained("a/gone", "x")));
        board.send(publisher, &Packet::Publish(retained("a/gone", "")));
        board.send(publisher, &Packet::Publish(retained("a/later", "1")));
        board.send(publisher, &Packet::Publish(retained("a/later", "2")));
        board.advance(secs(10));
        board.cut_power_for(secs(20));
        let reader = board.client(Version::V5, "reader");
        board.subscribe(reader, "a/#", QoS::ExactlyOnce);
        let received = board.publishes(reader);
        let seen: Vec<_> = received
            .iter()
            .map(|received| {
                let publish = received.publish();
                assert!(publish.retain, "{seed}");
                let expiry = publish.properties.number(PropertyId::MessageExpiryInterval);
                let left = [
                    publish
                        .properties
                        .number(PropertyId::PayloadFormatIndicator)
                        .map(u64::from),
                    publish
                        .properties
                        .text(PropertyId::ResponseTopic)
                        .map(|t| t.len() as u64),
                ];
                let pairs = publish.properties.iter();
                let pairs = pairs.filter(|property| property.id == PropertyId::UserProperty);
                (
                    publish.topic.to_string(),
                    publish.qos,
                    expiry,
                    left,
                    pairs.count(),
                )
            })
            .collect();
        let all = [Some(1), Some(9)];
        let expected = [
            ("a/0".to_string(), QoS::AtMostOnce, Some(70), all, 1),
            ("a/1".to_string(), QoS::AtLeastOnce, Some(70), all, 1),
            ("a/2".to_string(), QoS::ExactlyOnce, Some(70), all, 1),
            (
                "a/later".to_string(),
                QoS::AtMostOnce,
                None,
                [None, None],
                0,
            ),
        ];
        assert_eq!(seen, expected, "{seed}");
        let payloads: Vec<_> = received.iter().map(|one| one.publish().payload).collect();
        assert_eq!(payloads, [b"21", b"21", b"21", &b"2"[..]], "{seed}");
    }
}

#[test]
fn a_retained_message_whose_publisher_has_no_local_is_not_sent_to_it_after_a_restart_either() {
    let mut board = Board::new(1);
    let client = board.client(Version::V5, "a");
    board.send(client, &Packet::Publish(retained("t", "own")));
    board.advance(secs(6));
    board.cut_power();
    let client = board.client(Version::V5, "a");
    let no_local = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    board.subscribe_with(client, "t", no_local);
    board.expect_nothing(client);
    let other = board.client(Version::V5, "b");
    board.subscribe_with(other, "t", no_local);
    assert_eq!(board.payloads(other), ["own"]);
}

#[test]
fn subscriptions_come_back_with_their_options_and_identifiers() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V5, "client");
        let options = |no_local, retain_as_published, qos| SubscriptionOptions {
            no_local,
            retain_as_published,
            retain_handling: RetainHandling::DoNotSend,
            ..SubscriptionOptions::new(qos)
        };
        let mut subscribe = |id, filter, options| {
            let block = numbers(&[(PropertyId::SubscriptionIdentifier, id)]);
            let subscribe = Subscribe {
                packet_id: 1,
                properties: block.as_properties(),
                filters: vec![(filter, options)],
            };
            board.send(client, &Packet::Subscribe(subscribe));
        };
        subscribe(
            268_435_455,
            "plain/+",
            options(false, false, QoS::AtLeastOnce),
        );
        subscribe(2, "own/#", options(true, false, QoS::AtMostOnce));
        subscribe(3, "as/published", options(false, true, QoS::ExactlyOnce));
        subscribe(4, "twice", options(false, false, QoS::AtMostOnce));
        subscribe(5, "twice", options(false, false, QoS::ExactlyOnce));
        subscribe(6, "left", options(false, false, QoS::AtMostOnce));
        board.send(client, &unsubscribe(2, &["left"]));
        board.cut_power();
        let client = board.resume(Version::V5, "client");
        board.expect_nothing(client);
        for topic in ["plain/x", "own/x", "as/published", "twice", "left"] {
            let publish = Publish {
                retain: true,
                ..publish_qos(QoS::ExactlyOnce, 1, topic, topic)
            };
            board.send(client, &Packet::Publish(publish));
            board.send(client, &Packet::PubRel(crate::common::ack(1)));
        }
        let received = board.publishes(client);
        let seen: Vec<_> = received
            .iter()
            .map(|received| {
                let publish = received.publish();
                let id = publish
                    .properties
                    .number(PropertyId::SubscriptionIdentifier);
                (publish.topic.to_string(), publish.qos, publish.retain, id)
            })
            .collect();
        let expected = [
            ("plain/x", QoS::AtLeastOnce, false, Some(268_435_455)),
            ("as/published", QoS::ExactlyOnce, true, Some(3)),
            ("twice", QoS::ExactlyOnce, false, Some(5)),
        ];
        let expected =
            expected.map(|(topic, qos, retain, id)| (topic.to_string(), qos, retain, id));
        assert_eq!(seen, expected, "{seed}");
    }
}

#[test]
fn what_waited_keeps_its_properties_and_subscription_identifiers() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V5, "client");
        for (id, filter) in [(1, "a/b"), (300, "a/+"), (70_000, "#")] {
            let block = numbers(&[(PropertyId::SubscriptionIdentifier, id)]);
            let subscribe = Subscribe {
                packet_id: 1,
                properties: block.as_properties(),
                filters: vec![(filter, SubscriptionOptions::new(QoS::AtLeastOnce))],
            };
            board.send(client, &Packet::Subscribe(subscribe));
        }
        board.lose(client);
        let publisher = board.client(Version::V5, "publisher");
        let mut block = PropertyBlock::new();
        block.number(PropertyId::MessageExpiryInterval, 60);
        block.text(PropertyId::ContentType, "text/plain");
        let message = Publish {
            properties: block.as_properties(),
            ..publish_qos(QoS::AtLeastOnce, 1, "a/b", "x")
        };
        board.send(publisher, &Packet::Publish(message));
        board.cut_power_for(secs(15));
        let client = board.resume(Version::V5, "client");
        let received = board.read(client);
        let properties = received.publish().properties;
        let mut ids: Vec<_> = properties
            .iter()
            .filter(|property| property.id == PropertyId::SubscriptionIdentifier)
            .map(|property| property.bytes.to_vec())
            .collect();
        ids.sort();
        assert_eq!(ids.len(), 3, "{seed}");
        assert_eq!(properties.text(PropertyId::ContentType), Some("text/plain"));
        assert_eq!(
            properties.number(PropertyId::MessageExpiryInterval),
            Some(45)
        );
    }
}

#[test]
fn a_clean_start_removes_everything() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V5, "client");
        board.subscribe(client, "a/+", QoS::ExactlyOnce);
        board.subscribe(client, "$share/g/b", QoS::AtLeastOnce);
        let publish = publish_qos(QoS::ExactlyOnce, 4, "nobody", "x");
        board.send(client, &Packet::Publish(publish));
        let other = board.client(Version::V5, "other");
        for number in 0..40 {
            board.publish_as(other, QoS::ExactlyOnce, "a/x", &number.to_string());
            board.publish_as(other, QoS::AtLeastOnce, "b", &number.to_string());
        }
        let messages = board.messages(client);
        let of_qos2 = messages
            .iter()
            .find(|(_, qos, ..)| *qos == QoS::ExactlyOnce);
        let released = of_qos2.and_then(|(.., id)| *id).expect("an id");
        board.send(client, &Packet::PubRec(crate::common::ack(released)));
        if seed % 2 == 0 {
            board.lose(client);
            board.cut_power();
        }
        assert!(board.messages_kept() > 70);
        let client = board.client(Version::V5, "client");
        board.expect_nothing(client);
        board.advance(secs(6));
        board.expect_nothing_kept();
        assert!(
            board.figures().live_bytes < 100,
            "{}",
            board.figures().live_bytes
        );
        board.cut_power();
        board.expect_nothing_kept();
        let client = board.try_connect(durable(Version::V5, "client", &expiry(9)));
        assert!(!board.read(client).connack().session_present);
    }
}

#[test]
fn a_session_that_expires_leaves_nothing() {
    let mut board = Board::new(2);
    board.absent(Version::V5, "client", "#", QoS::ExactlyOnce);
    let other = board.client(Version::V5, "other");
    board.publish_as(other, QoS::AtLeastOnce, "t", "1");
    board.cut_power();
    board.advance(secs(3_700));
    board.expect_nothing_kept();
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let mut board = Board::new(3);
    let publisher = board.client(Version::V5, "publisher");
    let subscriber = board.durable(Version::V5, "subscriber");
    board.subscribe(subscriber, "a/#", QoS::AtLeastOnce);
    board.send(publisher, &Packet::Publish(retained("s", "on")));
    board.lose(subscriber);
    let subscriber = board.resume(Version::V5, "subscriber");
    board.advance(secs(10));
    let before = board.figures();
    for _ in 0..10 {
        board.send(publisher, &Packet::Publish(retained("s", "on")));
        board.subscribe(subscriber, "a/#", QoS::AtLeastOnce);
        board.advance(millis(100));
    }
    assert_eq!(board.figures(), before);
    // Nothing either where it came back from the disk.
    board.cut_power();
    let publisher = board.client(Version::V5, "publisher");
    let subscriber = board.resume(Version::V5, "subscriber");
    board.advance(secs(10));
    let before = board.figures();
    board.send(publisher, &Packet::Publish(retained("s", "on")));
    board.subscribe(subscriber, "a/#", QoS::AtLeastOnce);
    assert_eq!(board.figures(), before);
    board.send(publisher, &Packet::Publish(retained("s", "off")));
    assert!(board.figures().bytes_written > before.bytes_written);
    let before = board.figures();
    board.subscribe(subscriber, "a/#", QoS::ExactlyOnce);
    assert!(board.figures().bytes_written > before.bytes_written);
}

#[test]
fn a_client_that_comes_and_goes_before_mqtt_5_writes_nothing() {
    let mut board = Board::new(3);
    board.absent(Version::V311, "sleepy", "a", QoS::AtLeastOnce);
    board.advance(secs(10));
    let before = board.figures();
    for _ in 0..10 {
        let client = board.resume(Version::V311, "sleepy");
        board.subscribe(client, "a", QoS::AtLeastOnce);
        board.disconnect(client);
    }
    assert_eq!(board.figures(), before);
}

#[test]
fn client_ids_are_told_apart_by_every_byte() {
    let mut board = Board::new(3);
    let long = "x".repeat(1_024);
    for id in ["", "a", "a/b", "s", "ü", &long] {
        let connect = connect(Version::V311, id);
        if !id.is_empty() {
            board.absent(Version::V311, id, "t", QoS::AtMostOnce);
        } else {
            board.connect(connect);
        }
    }
    board.cut_power();
    for id in ["a", "a/b", "s", "ü", &long] {
        board.resume(Version::V311, id);
    }
    assert_eq!(board.kept().0.len(), 10);
}

#[test]
fn an_orderly_stop_loses_nothing_that_waits_for_a_sync() {
    let mut board = Board::with(5, crate::board::terms(60_000, &[]));
    let client = board.client(Version::V5, "a");
    board.send(client, &Packet::Publish(retained("t", "x")));
    board.stop();
    board.cut_power();
    let client = board.client(Version::V5, "a");
    board.subscribe(client, "t", QoS::AtMostOnce);
    assert_eq!(board.payloads(client), ["x"]);
}

#[test]
fn a_session_of_expiry_0_leaves_no_record() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        // Of its own, or of a durable one that its client goes on with under other terms.
        let client = board.client(Version::V5, "brief");
        board.subscribe(client, "#", QoS::ExactlyOnce);
        board.publish_as(client, QoS::AtLeastOnce, "t", "x");
        board.lose(client);
        board.expect_nothing_kept();
        board.absent(Version::V5, "long", "#", QoS::ExactlyOnce);
        let other = board.client(Version::V311, "other");
        board.publish_as(other, QoS::ExactlyOnce, "t", "1");
        board.publish_as(other, QoS::AtLeastOnce, "t", "2");
        let client = board.resume_with(durable(Version::V5, "long", &expiry(0)));
        assert_eq!(board.messages(client).len(), 2);
        match seed % 3 {
            // The board goes off while it is connected.
            0 => board.cut_power(),
            1 => board.lose(client),
            _ => board.disconnect(client),
        }
        board.advance(secs(6));
        board.expect_nothing_kept();
        board.cut_power();
        assert_eq!(board.sys("damaged"), "0");
        board.expect_nothing_kept();
    }
}

#[test]
fn queues_come_back_in_order_whatever_is_in_flight() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        board.absent(Version::V5, "client", "#", QoS::ExactlyOnce);
        let publisher = board.client(Version::V5, "publisher");
        for number in 0..60 {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number % 2];
            board.publish_as(publisher, qos, "t", &number.to_string());
        }
        // 20 are in flight; the first ones of them are acknowledged, and others follow.
        let client = board.resume(Version::V5, "client");
        for (_, qos, dup, id) in board.messages(client).into_iter().take(10) {
            assert!(!dup);
            board.complete(client, qos, id.expect("an id"));
            board.read_all(client);
        }
        board.advance(secs(6));
        board.cut_power();
        let client = board.resume(Version::V5, "client");
        let mut again = Vec::new();
        loop {
            let messages = board.messages(client);
            if messages.is_empty() {
                break;
            }
            for (payload, qos, dup, id) in messages {
                again.push((payload.parse::<usize>().expect("a number"), qos, dup));
                match qos {
                    QoS::ExactlyOnce => {
                        board.send(client, &Packet::PubRec(crate::common::ack(id.unwrap())));
                        board.send(client, &Packet::PubComp(crate::common::ack(id.unwrap())));
                    }
                    _ => board.send(client, &Packet::PubAck(crate::common::ack(id.unwrap()))),
                }
            }
        }
        for (parity, qos) in [(0, QoS::AtLeastOnce), (1, QoS::ExactlyOnce)] {
            let of_it: Vec<_> = again.iter().filter(|(_, other, _)| *other == qos).collect();
            let numbers: Vec<_> = of_it.iter().map(|(number, ..)| *number).collect();
            let expected: Vec<_> = (10..60).filter(|number| number % 2 == parity).collect();
            assert_eq!(numbers, expected, "{seed}: {qos:?}");
            // DUP on what was in flight, and on nothing else of QoS 2.
            for (number, _, dup) in of_it {
                let was_sent = *number < 30;
                assert!(*dup || !was_sent, "{seed}: {number} was sent before");
                assert!(!dup || was_sent, "{seed}: {number} was never sent");
            }
        }
        board.disconnect(client);
        assert_eq!(board.messages_kept(), 0, "{seed}");
    }
}

#[test]
fn the_figures_of_the_server_reach_a_session_that_was_there_before() {
    let mut board = Board::with(4, Options::default());
    board.absent(
        Version::V5,
        "watcher",
        "$SYS/broker/uptime",
        QoS::AtMostOnce,
    );
    board.cut_power();
    let client = board.resume(Version::V5, "watcher");
    board.advance(secs(11));
    assert!(!board.payloads(client).is_empty());
}

#[test]
fn subscriptions_come_back_whoever_brought_their_patterns_up() {
    let mut board = Board::new(1);
    let filter = |number: usize| {
        let plus = "+/".repeat(number % 12 + 1);
        let rest = "a/".repeat(number / 12);
        format!("{plus}{rest}#")
    };
    // The first to come back has more patterns than one session may bring up: half of them were
    // another's.
    let first = board.durable(Version::V5, "first");
    let second = board.durable(Version::V5, "second");
    for number in 0..60 {
        board.subscribe(second, &filter(number), QoS::AtMostOnce);
    }
    for number in 0..120 {
        board.subscribe(first, &filter(number), QoS::AtMostOnce);
    }
    board.cut_power();
    let first = board.resume(Version::V5, "first");
    for number in 0..120 {
        board.send(first, &unsubscribe(1, &[&filter(number)]));
        assert_eq!(
            board.read(first).reasons(),
            [ReasonCode::Success],
            "{number}"
        );
    }
}
