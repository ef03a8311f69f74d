//! Messages from clients: acknowledgements, properties, what is refused.

mod common;

use common::*;
use midge::broker::limits::Options;
use midge::packet::property::Value;
use midge::packet::topic::TOPIC_LEVELS_MAX;
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A client subscribed to everything with QoS 2.
fn watcher(world: &mut World, version: Version) -> Client {
    let watcher = world.client(version, "watcher");
    world.subscribe(watcher, "#", QoS::ExactlyOnce);
    watcher
}

#[test]
fn each_qos_has_its_answer() {
    for version in ALL {
        let mut world = World::new();
        watcher(&mut world, V311);
        let client = world.client(version, "a");
        // [MQTT-3.3.4-1]
        world.publish(client, "t", "x");
        world.expect_nothing(client);
        let one = publish_qos(QoS::AtLeastOnce, 0x0102, "t", "x");
        world.send(client, &Packet::Publish(one));
        world.expect(client, &puback(0x0102)); // [MQTT-2.2.1-5] [MQTT-4.3.2-4]
        let two = publish_qos(QoS::ExactlyOnce, 0xFFFF, "t", "x");
        world.send(client, &Packet::Publish(two));
        world.expect(client, &Packet::PubRec(ack(0xFFFF))); // [MQTT-4.3.3-8]
        world.send(client, &Packet::PubRel(ack(0xFFFF)));
        world.expect(client, &Packet::PubComp(ack(0xFFFF))); // [MQTT-4.3.3-11]
        world.expect_nothing(client);
    }
}

#[test]
fn a_publisher_of_5_0_is_told_that_nobody_listens() {
    for version in ALL {
        let mut world = World::new();
        let client = world.client(version, "a");
        let reason = match version {
            V5 => R::NoMatchingSubscribers,
            V31 | V311 => R::Success,
        };
        let one = publish_qos(QoS::AtLeastOnce, 1, "t", "x");
        world.send(client, &Packet::Publish(one));
        world.expect(client, &Packet::PubAck(Ack::new(1, reason)));
        let two = publish_qos(QoS::ExactlyOnce, 2, "t", "x");
        world.send(client, &Packet::Publish(two));
        world.expect(client, &Packet::PubRec(Ack::new(2, reason)));
    }
}

#[test]
fn a_message_arrives_with_the_lower_of_both_qos() {
    for version in ALL {
        for (published, granted) in QOS
            .into_iter()
            .flat_map(|qos| QOS.map(|other| (qos, other)))
        {
            let mut world = World::new();
            let subscriber = world.client(version, "s");
            world.subscribe(subscriber, "t", granted);
            let publisher = world.client(V5, "p");
            let message = Publish {
                qos: published,
                packet_id: (published > QoS::AtMostOnce).then_some(1),
                ..publish("t", "x")
            };
            world.send(publisher, &Packet::Publish(message));
            let received = world.read(subscriber);
            // [MQTT-3.8.4-8]
            assert_eq!(received.publish().qos, published.min(granted));
            assert_eq!(received.publish().payload, b"x");
        }
    }
}

#[test]
fn a_qos_2_message_that_comes_twice_is_delivered_once() {
    for version in ALL {
        let mut world = World::new();
        let watcher = watcher(&mut world, V311);
        let client = world.client(version, "a");
        let message = publish_qos(QoS::ExactlyOnce, 1, "t", "first");
        let again = Publish {
            dup: true,
            ..message
        };
        for packet in [message, again, again] {
            world.send(client, &Packet::Publish(packet));
            // [MQTT-4.3.3-10]
            world.expect(client, &Packet::PubRec(ack(1)));
        }
        assert_eq!(world.payloads(watcher), ["first"]);
        world.send(client, &Packet::PubRel(ack(1)));
        world.expect(client, &Packet::PubComp(ack(1)));
        // [MQTT-4.3.3-12] the id is free: what comes with it now is another message.
        let next = publish_qos(QoS::ExactlyOnce, 1, "t", "second");
        world.send(client, &Packet::Publish(next));
        assert_eq!(world.payloads(watcher), ["second"]);
    }
}

#[test]
fn a_qos_2_message_repeated_after_a_reconnect_is_delivered_once() {
    for version in ALL {
        let mut world = World::new();
        let watcher = watcher(&mut world, V311);
        let hour = expiry(3_600);
        let client = world.connect(durable(version, "a", &hour));
        let message = publish_qos(QoS::ExactlyOnce, 9, "t", "x");
        world.send(client, &Packet::Publish(message));
        world.lose(client);
        let client = world.connect(durable(version, "a", &hour));
        let again = Publish {
            dup: true,
            ..message
        };
        world.send(client, &Packet::Publish(again));
        world.expect(client, &Packet::PubRec(ack(9)));
        assert_eq!(world.payloads(watcher), ["x"]);
        // PUBREL lost on the way, and its answer.
        for reason in [R::Success, R::PacketIdentifierNotFound] {
            world.send(client, &Packet::PubRel(ack(9)));
            let reason = if version == V5 { reason } else { R::Success };
            world.expect(client, &Packet::PubComp(Ack::new(9, reason)));
        }
    }
}

#[test]
fn a_qos_1_message_that_comes_twice_is_two_messages() {
    let mut world = World::new();
    let watcher = watcher(&mut world, V5);
    let client = world.client(V5, "a");
    let message = publish_qos(QoS::AtLeastOnce, 1, "t", "x");
    world.send(client, &Packet::Publish(message));
    world.send(
        client,
        &Packet::Publish(Publish {
            dup: true,
            ..message
        }),
    );
    // [MQTT-4.3.2-5] [MQTT-3.3.1-3] DUP is between the publisher and us.
    let received = world.publishes(watcher);
    let dups: Vec<bool> = received.iter().map(|r| r.publish().dup).collect();
    assert_eq!(dups, [false, false]);
}

#[test]
fn a_refused_qos_2_message_leaves_its_id_free() {
    let mut world = World::new();
    let watcher = watcher(&mut world, V311);
    let client = world.client(V5, "a");
    let refused = publish_qos(QoS::ExactlyOnce, 1, "$SYS/x", "x");
    world.send(client, &Packet::Publish(refused));
    assert_eq!(world.read(client).ack(), (1, R::NotAuthorized));
    // [MQTT-4.3.3-9]
    let message = publish_qos(QoS::ExactlyOnce, 1, "t", "y");
    world.send(client, &Packet::Publish(message));
    world.expect(client, &Packet::PubRec(ack(1)));
    assert_eq!(world.payloads(watcher), ["y"]);
}

#[test]
fn a_client_may_not_exceed_the_servers_receive_maximum() {
    let mut options = Options::default();
    options.limits.receive_maximum = 2;
    let mut world = World::with(options);
    let client = world.client(V5, "a");
    let message = |id| Packet::Publish(publish_qos(QoS::ExactlyOnce, id, "t", "x"));
    world.send(client, &message(1));
    world.send(client, &message(2));
    // What was sent before is no further message; QoS 0 and 1 are done with at once.
    world.send(client, &message(2));
    world.publish(client, "t", "x");
    let one = publish_qos(QoS::AtLeastOnce, 3, "t", "x");
    world.send(client, &Packet::Publish(one));
    world.send(client, &Packet::PubRel(ack(1)));
    world.send(client, &message(4));
    assert_eq!(world.read_all(client).len(), 6);
    world.send(client, &message(5));
    world.expect_disconnect(client, R::ReceiveMaximumExceeded); // [MQTT-3.3.4-7]
}

#[test]
fn a_qos_above_the_servers_ends_the_connection() {
    for version in ALL {
        let mut world = World::with(Options {
            max_qos: QoS::AtLeastOnce,
            ..Options::default()
        });
        let client = world.client(version, "a");
        // [MQTT-3.2.2-10] a subscription is accepted, and granted less.
        let asked = ["r", "s", "t"]
            .into_iter()
            .zip(QOS.map(SubscriptionOptions::new));
        world.send(client, &subscribe(1, &asked.collect::<Vec<_>>()));
        let granted = [R::Success, R::GrantedQoS1, R::GrantedQoS1];
        assert_eq!(world.read(client).reasons(), granted);
        let one = publish_qos(QoS::AtLeastOnce, 1, "t", "x");
        world.send(client, &Packet::Publish(one));
        assert_eq!(world.payloads(client), ["x"]);
        // [MQTT-3.2.2-11]
        let two = publish_qos(QoS::ExactlyOnce, 2, "t", "x");
        world.send(client, &Packet::Publish(two));
        match version {
            V5 => world.expect_disconnect(client, R::QoSNotSupported),
            V31 | V311 => world.expect_closed(client),
        }
    }
}

#[test]
fn retain_ends_the_connection_where_it_is_not_available() {
    for version in ALL {
        let mut world = World::with(Options {
            retain_available: false,
            ..Options::default()
        });
        let client = world.client(version, "a");
        world.send(client, &Packet::Publish(retained("t", "x")));
        // [MQTT-3.2.2-14]
        match version {
            V5 => world.expect_disconnect(client, R::RetainNotSupported),
            V31 | V311 => world.expect_closed(client),
        }
    }
}

#[test]
fn what_is_no_topic_name_ends_the_connection() {
    for (topic, reason) in [
        ("a/+", R::MalformedPacket),
        ("#", R::MalformedPacket),
        ("a#", R::MalformedPacket),
        ("", R::ProtocolError),
    ] {
        for version in ALL {
            let mut world = World::new();
            let client = world.client(version, "a");
            world.publish(client, topic, "x");
            // [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1]
            match version {
                V5 => world.expect_disconnect(client, reason),
                V31 | V311 => world.expect_closed(client),
            }
        }
    }
    let mut world = World::new();
    let client = world.client(V5, "a");
    world.send(
        client,
        &publish_with("a/+", "x", &numbers(&[(P::TopicAlias, 1)])),
    );
    world.expect_disconnect(client, R::MalformedPacket);
}

#[test]
fn topic_names_are_taken_as_they_are() {
    let mut world = World::new();
    let watcher = watcher(&mut world, V5);
    let publisher = world.client(V5, "publisher");
    let topics = [
        "/",
        "//",
        "a//b",
        " ",
        "A",
        "e\u{301}",
        "é",
        "\u{feff}a",
        "a/",
        "a",
    ];
    let subscribers = topics.map(|topic| {
        let subscriber = world.client(V5, topic);
        world.subscribe(subscriber, topic, QoS::AtMostOnce);
        subscriber
    });
    for topic in topics {
        world.publish(publisher, topic, topic);
    }
    let received = world.publishes(watcher);
    let seen: Vec<_> = received.iter().map(|r| r.publish().topic).collect();
    assert_eq!(seen, topics); // [MQTT-1.5.4-3]
    for (subscriber, topic) in subscribers.into_iter().zip(topics) {
        assert_eq!(world.payloads(subscriber), [topic]); // [MQTT-4.7.3-4]
    }
}

#[test]
fn a_topic_may_be_as_long_as_a_string_can_be() {
    for version in ALL {
        let mut world = World::new();
        let client = world.client(version, "a");
        let topic = "x".repeat(65_535);
        world.subscribe(client, &topic, QoS::AtMostOnce);
        world.publish(client, &topic, "found");
        let received = world.read(client);
        // [MQTT-4.7.3-3] [v3 MQTT-4.7.3-3]
        assert_eq!(received.publish().topic, topic);
        assert_eq!(received.publish().payload, b"found");
    }
}

#[test]
fn the_exchange_for_qos_2_is_completed_though_the_message_has_expired() {
    let mut world = World::new();
    let away = world.connect(durable(V5, "away", &expiry(3_600)));
    world.subscribe(away, "t", QoS::ExactlyOnce);
    world.lose(away);
    let client = world.client(V5, "a");
    let second = numbers(&[(P::MessageExpiryInterval, 1)]);
    let message = Publish {
        properties: second.as_properties(),
        ..publish_qos(QoS::ExactlyOnce, 1, "t", "x")
    };
    world.send(client, &Packet::Publish(message));
    world.expect(client, &Packet::PubRec(ack(1)));
    world.advance(secs(100));
    // [MQTT-4.3.3-13]
    let again = Publish {
        dup: true,
        ..message
    };
    world.send(client, &Packet::Publish(again));
    world.expect(client, &Packet::PubRec(ack(1)));
    world.send(client, &Packet::PubRel(ack(1)));
    world.expect(client, &Packet::PubComp(ack(1)));
    let away = world.connect(durable(V5, "away", &expiry(3_600)));
    world.expect_nothing(away);
}

#[test]
fn a_text_payload_must_be_text() {
    let format = numbers(&[(P::PayloadFormatIndicator, 1)]);
    let mut world = World::new();
    let watcher = watcher(&mut world, V5);
    let client = world.client(V5, "a");
    let text = Publish {
        properties: format.as_properties(),
        ..publish("t", "Grüße")
    };
    world.send(client, &Packet::Publish(text));
    let received = world.read(watcher);
    // [MQTT-3.3.2-4]
    let forwarded = received.publish().properties;
    assert_eq!(forwarded.number(P::PayloadFormatIndicator), Some(1));
    let noise = Publish {
        payload: b"\xFF\xFE",
        ..text
    };
    world.send(client, &Packet::Publish(noise));
    world.expect_disconnect(client, R::PayloadFormatInvalid);
    world.expect_nothing(watcher);
    // Without the claim a payload is bytes.
    let client = world.client(V5, "a");
    let bytes = Publish {
        properties: Properties::NONE,
        ..noise
    };
    world.send(client, &Packet::Publish(bytes));
    assert_eq!(world.read(watcher).publish().payload, b"\xFF\xFE");
}

#[test]
fn a_response_topic_has_no_wildcards() {
    for topic in ["a/+", "#", ""] {
        let mut world = World::new();
        let client = world.client(V5, "a");
        let mut properties = PropertyBlock::new();
        properties.text(P::ResponseTopic, topic);
        world.send(client, &publish_with("t", "x", &properties));
        // [MQTT-3.3.2-14]
        world.expect_disconnect(client, R::MalformedPacket);
    }
}

#[test]
fn a_client_must_not_send_subscription_identifiers() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    let properties = numbers(&[(P::SubscriptionIdentifier, 1)]);
    world.send(client, &publish_with("t", "x", &properties));
    world.expect_disconnect(client, R::ProtocolError); // [MQTT-3.3.4-6]
}

#[test]
fn sys_is_not_for_clients_to_write() {
    for version in ALL {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "$SYS/mine/#", QoS::AtMostOnce);
        world.subscribe(watcher, "$SYS/broker/connection/#", QoS::AtMostOnce);
        world.read_all(watcher);
        let client = world.client(version, "a");
        let reason = match version {
            V5 => R::NotAuthorized,
            V31 | V311 => R::Success, // [v3 MQTT-3.3.5-2]
        };
        world.publish(client, "$SYS/mine/x", "x");
        for (id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
            let message = publish_qos(qos, id, "$SYS/mine/x", "x");
            world.send(client, &Packet::Publish(message));
            assert_eq!(world.read(client).ack(), (id, reason));
        }
        assert_eq!(world.publishes(watcher), []);
        // But bridges tell there how they are.
        world.publish(client, "$SYS/broker/connection/home/state", "1");
        assert_eq!(world.payloads(watcher), ["1"]);
        world.expect_nothing(client);
        // Other topics with a dollar are nobody's in particular.
        world.subscribe(watcher, "$SYSTEM/x", QoS::AtMostOnce);
        world.publish(client, "$SYSTEM/x", "fine");
        assert_eq!(world.payloads(watcher), ["fine"]);
    }
}

#[test]
fn nobody_publishes_to_a_share() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    let message = publish_qos(QoS::AtLeastOnce, 1, "$share/g/t", "x");
    world.send(client, &Packet::Publish(message));
    assert_eq!(world.read(client).ack(), (1, R::TopicNameInvalid));
}

#[test]
fn properties_are_forwarded_unaltered_and_in_order() {
    let mut block = PropertyBlock::new();
    block
        .pair("z", "1")
        .number(P::PayloadFormatIndicator, 1)
        .text(P::ContentType, "text/plain")
        .pair("a", "2")
        .text(P::ResponseTopic, "answers")
        .binary(P::CorrelationData, &[0, 255])
        .pair("z", "1");
    let sent = Publish {
        properties: block.as_properties(),
        retain: true,
        ..publish_qos(QoS::AtLeastOnce, 1, "t", "x")
    };
    let mut world = World::new();
    let hour = expiry(3_600);
    let away = world.connect(durable(V5, "away", &hour));
    world.subscribe(away, "t", QoS::AtLeastOnce);
    world.lose(away);
    let present = watcher(&mut world, V5);
    let old = world.client(V311, "old");
    world.subscribe(old, "t", QoS::AtMostOnce);
    let client = world.client(V5, "a");
    world.send(client, &Packet::Publish(sent));

    let late = world.client(V5, "late");
    world.subscribe(late, "t", QoS::AtLeastOnce);
    let away = world.connect(durable(V5, "away", &hour));
    for subscriber in [present, late, away] {
        let received = world.read(subscriber);
        // [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
        // [MQTT-3.3.2-20]
        assert_eq!(received.publish().properties, block.as_properties());
    }
    // MQTT 3.1.1 has none.
    assert_eq!(world.read(old).publish().payload, b"x");
}

#[test]
fn what_is_between_publisher_and_server_stays_there() {
    let mut world = World::new();
    let watcher = watcher(&mut world, V5);
    let client = world.client(V5, "a");
    let mut block = numbers(&[(P::TopicAlias, 3)]);
    block.pair("kept", "yes");
    world.send(client, &publish_with("t", "x", &block));
    let received = world.read(watcher);
    let properties: Vec<_> = received.publish().properties.iter().collect();
    assert_eq!(properties.len(), 1);
    assert_eq!(properties[0].value, Value::Pair("kept", "yes"));
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    for version in ALL {
        let mut stream = Vec::new();
        Packet::Connect(connect(version, "a")).encode(version, &mut stream);
        let long = "x".repeat(300);
        for packet in [
            subscribe(1, &[("t", SubscriptionOptions::new(QoS::ExactlyOnce))]),
            Packet::Publish(publish("t", "first")),
            Packet::PingReq,
            Packet::Publish(publish_qos(QoS::ExactlyOnce, 5, "t", &long)),
            Packet::PubRel(ack(5)),
            unsubscribe(2, &["t"]),
            Packet::Publish(publish("t", "nobody")),
        ] {
            packet.encode(version, &mut stream);
        }
        let whole = answers(version, &[&stream]);
        assert_eq!(whole.len(), 8);
        for cut in 1..stream.len() {
            let (start, end) = stream.split_at(cut);
            assert_eq!(answers(version, &[start, end]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(answers(version, &bytes), whole, "byte by byte");
        let bytes: Vec<&[u8]> = stream.chunks(7).collect();
        assert_eq!(answers(version, &bytes), whole, "seven at a time");
    }
}

/// What a client is sent for a stream that comes in pieces.
fn answers(version: Version, pieces: &[&[u8]]) -> Vec<Received> {
    let mut world = World::new();
    let client = world.open(version);
    for piece in pieces {
        world.deliver_bytes(client, piece);
    }
    world.turn();
    world.read_all(client)
}

#[test]
fn many_packets_in_one_read_are_all_heard() {
    for version in ALL {
        let mut world = World::new();
        let watcher = watcher(&mut world, version);
        let client = world.client(version, "a");
        let mut stream = Vec::new();
        let expected: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
        for payload in &expected {
            Packet::Publish(publish("t", payload)).encode(version, &mut stream);
        }
        world.send_bytes(client, &stream);
        assert_eq!(world.payloads(watcher), expected); // [MQTT-4.6.0-5]
    }
}

#[test]
fn messages_of_an_earlier_connection_do_not_use_up_the_receive_maximum() {
    let mut options = Options::default();
    options.limits.receive_maximum = 2;
    let mut world = World::with(options);
    let hour = expiry(3_600);
    let client = world.connect(durable(V5, "a", &hour));
    let message = |id| Packet::Publish(publish_qos(QoS::ExactlyOnce, id, "t", "x"));
    world.send(client, &message(1));
    world.send(client, &message(2));
    world.lose(client);
    // 4.9: a new connection begins with the full quota.
    let client = world.connect(durable(V5, "a", &hour));
    world.send(client, &message(3));
    world.send(client, &message(4));
    assert_eq!(world.read_all(client).len(), 2);
    world.send(client, &message(5));
    world.expect_disconnect(client, R::ReceiveMaximumExceeded);
}

#[test]
fn a_topic_with_too_many_levels_is_not_accepted() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    world.publish(client, &"/".repeat(TOPIC_LEVELS_MAX), "x");
    world.expect_disconnect(client, R::TopicNameInvalid);
}
