//! Topic Aliases, both ways.

mod common;

use common::*;
use midge::broker::limits::Options;
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V311};

fn alias(number: u32) -> PropertyBlock {
    numbers(&[(P::TopicAlias, number)])
}

#[test]
fn an_alias_stands_for_its_topic() {
    let mut world = World::new();
    let watcher = world.client(V311, "watcher");
    world.subscribe(watcher, "#", QoS::ExactlyOnce);
    let client = world.client(V5, "a");
    // [MQTT-3.3.2-12] all of 1 to 10.
    for number in 1..=10 {
        let topic = format!("topic/{number}");
        world.send(client, &publish_with(&topic, "first", &alias(number)));
    }
    world.send(client, &publish_with("", "again", &alias(10)));
    world.send(client, &publish_with("other", "new", &alias(10)));
    world.send(client, &publish_with("", "again", &alias(10)));
    world.send(client, &publish_with("", "again", &alias(9)));
    let received = world.publishes(watcher);
    let topics: Vec<_> = received[9..].iter().map(|r| r.publish().topic).collect();
    assert_eq!(
        topics,
        ["topic/10", "topic/10", "other", "other", "topic/9"]
    );
    world.expect_nothing(client);
}

#[test]
fn an_alias_out_of_range_ends_the_connection() {
    for (max, number) in [(10, 0), (10, 11), (10, 65_535), (0, 1)] {
        let mut options = Options::default();
        options.limits.topic_alias_max = max;
        let mut world = World::with(options);
        let client = world.client(V5, "a");
        world.send(client, &publish_with("t", "x", &alias(number)));
        // [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17] [MQTT-3.2.2-18]
        world.expect_disconnect(client, R::TopicAliasInvalid);
    }
}

#[test]
fn an_alias_is_known_on_its_own_connection_only() {
    let mut world = World::new();
    let hour = expiry(3_600);
    let client = world.connect(durable(V5, "a", &hour));
    world.send(client, &publish_with("t", "x", &alias(1)));
    world.send(client, &publish_with("", "x", &alias(2)));
    world.expect_disconnect(client, R::ProtocolError);
    let client = world.connect(durable(V5, "a", &hour));
    world.send(client, &publish_with("", "x", &alias(1)));
    // [MQTT-3.3.2-7]
    world.expect_disconnect(client, R::ProtocolError);
}

#[test]
fn an_alias_set_by_a_message_that_is_refused_is_set() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    let one = alias(1);
    for (id, topic) in [(1, "$SYS/x"), (2, "")] {
        let message = Publish {
            properties: one.as_properties(),
            ..publish_qos(QoS::AtLeastOnce, id, topic, "x")
        };
        world.send(client, &Packet::Publish(message));
        assert_eq!(world.read(client).ack(), (id, R::NotAuthorized));
    }
}

#[test]
fn topics_are_sent_as_aliases_to_those_who_take_them() {
    let mut world = World::new();
    let two = numbers(&[(P::TopicAliasMaximum, 2), (P::SessionExpiryInterval, 3_600)]);
    let subscriber = world.connect(durable(V5, "s", &two));
    world.subscribe(subscriber, "#", QoS::AtMostOnce);
    let plain = world.client(V5, "plain");
    world.subscribe(plain, "#", QoS::AtMostOnce);
    let publisher = world.client(V311, "p");
    let seen = |world: &mut World, client| -> Vec<(String, Option<u32>)> {
        let received = world.publishes(client);
        let seen = received.iter().map(|received| {
            let publish = received.publish();
            let alias = publish.properties.number(P::TopicAlias);
            (publish.topic.to_string(), alias)
        });
        seen.collect()
    };
    for topic in ["a", "b", "c", "a", "b", "c"] {
        world.publish(publisher, topic, "x");
    }
    let expected = [
        ("a", Some(1)), // [MQTT-3.3.2-8]
        ("b", Some(2)),
        ("c", None), // [MQTT-3.1.2-26] [MQTT-3.3.2-11]
        ("", Some(1)),
        ("", Some(2)),
        ("c", None),
    ];
    let expected = expected.map(|(topic, alias)| (topic.to_string(), alias));
    assert_eq!(seen(&mut world, subscriber), expected);
    // [MQTT-3.1.2-27]
    let plain = seen(&mut world, plain);
    assert!(
        plain
            .iter()
            .all(|(topic, alias)| !topic.is_empty() && alias.is_none())
    );
    // [MQTT-3.3.2-7] the next connection begins anew.
    world.lose(subscriber);
    let subscriber = world.connect(durable(V5, "s", &two));
    world.publish(publisher, "b", "x");
    assert_eq!(seen(&mut world, subscriber), [("b".to_string(), Some(1))]);
}

/// The PUBLISH packets that a client of that Maximum Packet Size is sent for one message.
fn sent_within(bytes_max: usize, message: &Packet) -> Vec<Received> {
    let mut world = World::new();
    let terms = numbers(&[
        (P::TopicAliasMaximum, 1),
        (P::MaximumPacketSize, bytes_max as u32),
    ]);
    let subscriber = world.connect(Connect {
        properties: terms.as_properties(),
        ..connect(V5, "s")
    });
    world.subscribe(subscriber, "#", QoS::AtMostOnce);
    let publisher = world.client(V5, "p");
    world.send(publisher, message);
    world.publishes(subscriber)
}

#[test]
fn an_alias_does_not_make_a_packet_too_large() {
    for lifetime in [None, Some(60)] {
        // Lengths from which on the packet's own length takes a byte more are among them.
        for length in 105..125 {
            let payload = "x".repeat(length);
            let mut block = PropertyBlock::new();
            if let Some(seconds) = lifetime {
                block.number(P::MessageExpiryInterval, seconds);
            }
            let packet = publish_with("t", &payload, &block);
            let mut bytes = Vec::new();
            packet.encode(V5, &mut bytes);
            let sent = sent_within(bytes.len(), &packet);
            assert_eq!(sent.len(), 1, "{length} {lifetime:?}");
            assert_eq!(sent[0].packet(), packet, "{length} {lifetime:?}");
            for room in 1..=12 {
                let sent = sent_within(bytes.len() + room, &packet);
                assert_eq!(sent.len(), 1, "{length} {lifetime:?} {room}");
            }
            // Three bytes of its own, and at most nine for what else may be added.
            let sent = sent_within(bytes.len() + 12, &packet);
            let alias = sent[0].publish().properties.number(P::TopicAlias);
            assert_eq!(alias, Some(1), "{length} {lifetime:?}");
        }
    }
}
