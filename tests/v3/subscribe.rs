//! Chapters 3.8 to 3.11: SUBSCRIBE, UNSUBSCRIBE, and how they are answered.

use midge::broker::limits::Options;
use midge::packet::*;

use crate::common::*;
use crate::{client, keeping, packet, subscriber};

use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const QOS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];

fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions::new(qos)
}

fn retain(world: &mut World, topic: &str, payload: &str) {
    let publisher = client(world, "retainer");
    world.send(publisher, &Packet::Publish(retained(topic, payload)));
    world.disconnect(publisher);
}

#[test]
fn subscribe_and_unsubscribe_are_answered_with_their_packet_identifier() {
    for id in [1, 0x0102, 0xFFFF_u16] {
        let mut world = World::new();
        let client = client(&mut world, "s");
        world.send(client, &subscribe(id, &[("a", options(AtLeastOnce))]));
        let suback = world.read(client).bytes;
        assert_eq!(suback[0], 0x90); // [v3 MQTT-3.8.4-1]
        assert_eq!(suback[2..4], id.to_be_bytes()); // [v3 MQTT-3.8.4-2]
        // The first filter is there, the second is not.
        for filter in ["a", "never subscribed"] {
            world.send(client, &unsubscribe(id, &[filter]));
            let unsuback = world.read(client).bytes;
            // [v3 MQTT-3.10.4-4] [v3 MQTT-3.10.4-5]
            assert_eq!(unsuback, packet(0xB0, &[&id.to_be_bytes()]));
            assert_eq!(unsuback[2..], suback[2..4]); // [v3 MQTT-2.3.1-7]
        }
        world.expect_nothing(client);
    }
}

/// With one subscription of a client at most QoS 1, and no more than three of them.
fn narrow() -> World {
    let mut narrow = Options {
        max_qos: AtLeastOnce,
        ..Options::default()
    };
    narrow.limits.subscriptions_max = 3;
    World::with(narrow)
}

#[test]
fn every_filter_has_a_return_code_that_says_what_was_granted() {
    let mut world = narrow();
    let listener = client(&mut world, "s");
    let filters = [
        ("a", options(AtMostOnce)),
        ("b", options(AtLeastOnce)),
        ("c", options(ExactlyOnce)),
        ("d", options(AtMostOnce)),
        ("b", options(AtLeastOnce)),
    ];
    world.send(listener, &subscribe(1, &filters));
    let codes = world.read(listener).bytes[4..].to_vec();
    // [v3 MQTT-3.8.4-5] QoS 2 is not to be had here, and a fourth subscription neither.
    assert_eq!(codes, [0, 1, 1, 0x80, 1]);
    // What they say is what is done.
    let publisher = client(&mut world, "p");
    for (topic, code) in ["a", "b", "c", "d"].into_iter().zip(codes) {
        world.publish_as(publisher, AtLeastOnce, topic, "x");
        let received = world.publishes(listener);
        let qos: Vec<u8> = received.iter().map(|one| one.publish().qos as u8).collect();
        let expected = if code == 0x80 { vec![] } else { vec![code] };
        assert_eq!(qos, expected, "{topic}");
    }
}

#[test]
fn return_codes_are_in_the_order_of_the_filters() {
    let filters = [
        ("a", AtMostOnce, 0),
        ("b", AtLeastOnce, 1),
        ("c", ExactlyOnce, 2),
        (&"/".repeat(200), AtMostOnce, 0x80),
    ];
    for first in 0..4 {
        let mut order = filters;
        order.rotate_left(first);
        let asked = order.map(|(filter, qos, _)| (filter, options(qos)));
        let mut world = World::new();
        let client = client(&mut world, "s");
        world.send(client, &subscribe(1, &asked));
        let codes = order.map(|(_, _, code)| code);
        assert_eq!(world.read(client).bytes[4..], codes); // [v3 MQTT-3.9.3-1]
    }
}

#[test]
fn a_message_has_the_lower_of_the_qos_it_was_published_with_and_that_granted() {
    for published in QOS {
        for granted in QOS {
            let mut world = World::new();
            let listener = subscriber(&mut world, "s", "t", granted);
            let publisher = client(&mut world, "p");
            world.publish_as(publisher, published, "t", "x");
            let received = world.publishes(listener);
            assert_eq!(received.len(), 1);
            // [v3 MQTT-3.8.4-6]
            assert_eq!(received[0].publish().qos, published.min(granted));
        }
    }
    // Granted less than was asked for.
    let mut world = narrow();
    let listener = client(&mut world, "s");
    world.send(listener, &subscribe(1, &[("t", options(ExactlyOnce))]));
    world.read(listener);
    let publisher = client(&mut world, "p");
    world.publish_as(publisher, AtLeastOnce, "t", "x");
    assert_eq!(world.read(listener).publish().qos, AtLeastOnce);
}

#[test]
fn a_repeated_subscription_takes_the_place_of_the_first() {
    for (before, after) in [(AtMostOnce, ExactlyOnce), (ExactlyOnce, AtMostOnce)] {
        for filter in ["a/b", "a/+", "#"] {
            let mut world = World::new();
            retain(&mut world, "a/b", "retained");
            let other = subscriber(&mut world, "other", filter, before);
            world.read_all(other);
            let listener = subscriber(&mut world, "s", filter, before);
            assert_eq!(world.payloads(listener), ["retained"]);
            // [v3 MQTT-3.8.4-3] What is retained comes again, ...
            world.subscribe(listener, filter, after);
            assert_eq!(world.payloads(listener), ["retained"]);
            // ... a message comes once, with the QoS of the new one, ...
            let publisher = client(&mut world, "p");
            world.publish_as(publisher, ExactlyOnce, "a/b", "x");
            let received = world.publishes(listener);
            let qos: Vec<QoS> = received.iter().map(|one| one.publish().qos).collect();
            assert_eq!(qos, [after]);
            // ... nobody else's subscription is meant, and one UNSUBSCRIBE ends it.
            assert_eq!(world.read(other).publish().qos, before);
            world.send(listener, &unsubscribe(1, &[filter]));
            world.read(listener);
            world.publish(publisher, "a/b", "y");
            world.expect_nothing(listener);
        }
    }
}

#[test]
fn a_repeated_subscription_does_not_interrupt_the_flow_of_messages() {
    let mut narrow = Options::default();
    narrow.limits.inflight_messages_max = 1;
    let mut world = World::with(narrow);
    let listener = subscriber(&mut world, "s", "t", AtLeastOnce);
    let publisher = client(&mut world, "p");
    let mut received = vec![];
    for number in 0..10 {
        world.publish_as(publisher, AtLeastOnce, "t", &number.to_string());
        if number % 3 == 1 {
            world.send(listener, &subscribe(1, &[("t", options(AtLeastOnce))]));
        }
    }
    // One was sent, the others waited: none is lost, and none comes twice.
    while let Some(one) = world.try_read(listener) {
        if let Packet::Publish(publish) = one.packet() {
            received.push(String::from_utf8(publish.payload.to_vec()).unwrap());
            world.send(listener, &puback(publish.packet_id.unwrap()));
        }
    }
    let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(received, expected); // [v3 MQTT-3.8.4-3]
}

/// Codes of all SUBACKs, what is sent for the subscriptions at once, and what later.
fn effect(packets: &[Packet]) -> (Vec<u8>, Vec<String>, Vec<(String, u8)>) {
    let mut world = narrow();
    for topic in ["a", "b", "c", "d"] {
        retain(&mut world, topic, topic);
    }
    let listener = client(&mut world, "s");
    let (mut codes, mut at_once) = (vec![], vec![]);
    for packet in packets {
        world.send(listener, packet);
        for received in world.read_all(listener) {
            match received.packet() {
                Packet::SubAck(_) => codes.extend(&received.bytes[4..]),
                _ => at_once.push(received.publish().topic.to_string()),
            }
        }
    }
    let publisher = client(&mut world, "p");
    for topic in ["a", "b", "c", "d"] {
        world.publish_as(publisher, AtLeastOnce, topic, "x");
    }
    let later = world.publishes(listener);
    let told = |one: &Received| {
        let publish = one.publish();
        (publish.topic.to_string(), publish.qos as u8)
    };
    at_once.sort();
    (codes, at_once, later.iter().map(told).collect())
}

#[test]
fn many_filters_in_one_subscribe_are_as_many_subscribes_with_one_answer() {
    let filters = [
        ("b", options(AtLeastOnce)),
        ("+", options(AtMostOnce)),
        ("a", options(ExactlyOnce)),
        ("c", options(AtLeastOnce)),
        ("b", options(AtMostOnce)),
    ];
    let one_by_one: Vec<_> = filters.iter().map(|one| subscribe(1, &[*one])).collect();
    // Codes, retained messages for every filter that matches, messages: all the same.
    let (different, expected) = (subscribe(1, &filters[..4]), effect(&one_by_one[..4]));
    assert_eq!(expected.0, [1, 0, 1, 0x80]);
    assert_eq!(effect(&[different]), expected); // [v3 MQTT-3.8.4-4]
    // Of two subscriptions with the same filter the later one counts.
    let (repeated, expected) = (effect(&[subscribe(1, &filters)]), effect(&one_by_one));
    assert_eq!((repeated.0, repeated.2), (expected.0, expected.2));
}

#[test]
fn unsubscribe_ends_the_subscription_with_exactly_that_filter() {
    let mut world = World::new();
    let listener = client(&mut world, "s");
    let filters = ["a/+", "a/b", "a/#", "é"];
    let count = |world: &mut World, publisher| {
        for topic in ["a/b", "é"] {
            world.publish(publisher, topic, topic);
        }
        world.payloads(listener)
    };
    let publisher = client(&mut world, "p");
    for (filter, left) in [("a/+", "a/b"), ("a/b", "a/b"), ("é", "é"), ("a/#", "a/b")] {
        for other in filters {
            world.subscribe(listener, other, AtMostOnce);
        }
        // These are none of them, though some match the same topics.
        let unlike = ["A/+", "a/+/", "+/b", "a", "#", "e\u{301}", "a/b/#", "+/+"];
        world.send(listener, &unsubscribe(1, &unlike));
        world.read(listener);
        assert_eq!(count(&mut world, publisher), ["a/b", "é"]); // [v3 MQTT-3.10.4-1]
        let but_one: Vec<&str> = filters.into_iter().filter(|one| *one != filter).collect();
        world.send(listener, &unsubscribe(1, &but_one));
        world.read(listener);
        assert_eq!(count(&mut world, publisher), [left]);
        world.send(listener, &unsubscribe(1, &[filter]));
        world.read(listener);
        assert_eq!(count(&mut world, publisher), [""; 0]); // [v3 MQTT-3.10.4-1]
    }
}

#[test]
fn after_unsubscribe_nothing_new_comes_and_what_was_begun_is_completed() {
    for qos in [AtLeastOnce, ExactlyOnce] {
        let mut world = World::new();
        let listener = world.connect(keeping("s"));
        world.subscribe(listener, "t", qos);
        let publisher = client(&mut world, "p");
        world.publish_as(publisher, qos, "t", "begun");
        let id = world.read(listener).publish().packet_id.unwrap();
        world.send(listener, &unsubscribe(1, &["t"]));
        world.read(listener);
        world.publish_as(publisher, qos, "t", "new");
        world.expect_nothing(listener); // [v3 MQTT-3.10.4-2]
        world.lose(listener);
        world.publish_as(publisher, qos, "t", "new");
        // The message that was sent is owed still.
        let listener = world.connect(keeping("s"));
        let begun = Publish {
            dup: true,
            ..publish_qos(qos, id, "t", "begun")
        };
        world.expect(listener, &Packet::Publish(begun)); // [v3 MQTT-3.10.4-3]
        world.complete(listener, qos, id);
        world.expect_nothing(listener); // [v3 MQTT-3.10.4-2]
    }
}

#[test]
fn many_filters_in_one_unsubscribe_are_as_many_unsubscribes_with_one_answer() {
    let mut world = World::new();
    let listener = client(&mut world, "s");
    for filter in ["a", "b", "c", "d"] {
        world.subscribe(listener, filter, AtMostOnce);
    }
    world.send(listener, &unsubscribe(7, &["a", "none", "c", "a", "d"]));
    // [v3 MQTT-3.10.4-6]
    world.expect(listener, &Packet::UnsubAck(unsuback(7)));
    world.expect_nothing(listener);
    let publisher = client(&mut world, "p");
    for topic in ["a", "b", "c", "d"] {
        world.publish(publisher, topic, topic);
    }
    assert_eq!(world.payloads(listener), ["b"]);
}

fn unsuback(packet_id: PacketId) -> SubAck<'static> {
    SubAck {
        packet_id,
        properties: Properties::NONE,
        reasons: vec![],
    }
}
