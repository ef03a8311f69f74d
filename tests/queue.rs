//! Messages that wait: queues and their limits, expiry, packets too large for a client.

mod common;

use common::*;
use midge::broker::limits::{Options, QueueOverflow};
use midge::packet::*;

use PropertyId as P;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

/// A subscriber to "t" with QoS 2, and a publisher.
fn pair(world: &mut World, version: Version) -> (Client, Client) {
    let subscriber = world.connect(durable(version, "s", &expiry(3_600)));
    world.subscribe(subscriber, "t", QoS::ExactlyOnce);
    (subscriber, world.client(V5, "p"))
}

fn with_numbers<'a>(connect: Connect<'a>, block: &'a PropertyBlock) -> Connect<'a> {
    Connect {
        properties: block.as_properties(),
        ..connect
    }
}

#[test]
fn a_full_queue_drops_what_its_policy_says() {
    for (queue_overflow, expected) in [
        (QueueOverflow::DropNewest, ["1", "2", "3"]),
        (QueueOverflow::DropOldest, ["3", "4", "5"]),
    ] {
        for version in ALL {
            let mut options = Options {
                queue_overflow,
                ..Options::default()
            };
            options.limits.queued_messages_max = 3;
            let mut world = World::with(options);
            let (subscriber, publisher) = pair(&mut world, version);
            world.lose(subscriber);
            for payload in ["1", "2", "3", "4", "5"] {
                world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
            }
            let subscriber = world.connect(durable(version, "s", &expiry(3_600)));
            assert_eq!(world.payloads(subscriber), expected);
        }
    }
}

#[test]
fn a_queue_is_limited_in_bytes_too() {
    for (queue_overflow, expected) in [
        (QueueOverflow::DropNewest, [400, 300, 200]),
        (QueueOverflow::DropOldest, [300, 200, 250]),
    ] {
        let mut options = Options {
            queue_overflow,
            ..Options::default()
        };
        options.limits.queued_bytes_max = 1_000;
        let mut world = World::with(options);
        let (subscriber, publisher) = pair(&mut world, V311);
        world.lose(subscriber);
        for length in [400, 300, 200, 250] {
            world.publish_as(publisher, QoS::AtLeastOnce, "t", &"x".repeat(length));
        }
        let subscriber = world.connect(durable(V311, "s", &expiry(3_600)));
        let lengths: Vec<_> = world.payloads(subscriber).iter().map(String::len).collect();
        assert_eq!(lengths, expected);
    }
}

#[test]
fn a_message_larger_than_any_queue_empties_none() {
    let mut options = Options {
        queue_overflow: QueueOverflow::DropOldest,
        ..Options::default()
    };
    options.limits.queued_bytes_max = 1_000;
    let mut world = World::with(options);
    let (subscriber, publisher) = pair(&mut world, V311);
    world.lose(subscriber);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "waits");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", &"x".repeat(2_000));
    let subscriber = world.connect(durable(V311, "s", &expiry(3_600)));
    assert_eq!(world.payloads(subscriber), ["waits"]);
}

#[test]
fn qos_0_waits_for_absent_clients_only_if_the_operator_wants_it() {
    for (queue_qos0_messages, expected) in [(false, vec!["1"]), (true, vec!["0", "1"])] {
        let mut world = World::with(Options {
            queue_qos0_messages,
            ..Options::default()
        });
        let (subscriber, publisher) = pair(&mut world, V311);
        world.lose(subscriber);
        world.publish_as(publisher, QoS::AtMostOnce, "t", "0");
        world.publish_as(publisher, QoS::AtLeastOnce, "t", "1");
        let subscriber = world.connect(durable(V311, "s", &expiry(3_600)));
        assert_eq!(world.payloads(subscriber), expected);
    }
}

#[test]
fn a_message_too_large_for_one_client_is_dropped_for_it_alone() {
    let mut world = World::new();
    let small = numbers(&[(P::MaximumPacketSize, 50), (P::TopicAliasMaximum, 5)]);
    let narrow = world.connect(with_numbers(connect(V5, "narrow"), &small));
    world.subscribe(narrow, "t", QoS::AtLeastOnce);
    let wide = world.client(V5, "wide");
    world.subscribe(wide, "t", QoS::AtLeastOnce);
    let publisher = world.client(V5, "p");
    let large = "x".repeat(60);
    for _ in 0..30 {
        // More than a window of them.
        world.publish_as(publisher, QoS::AtLeastOnce, "t", &large);
        world.publish_as(publisher, QoS::AtMostOnce, "t", &large);
        let received = world.publishes(wide);
        assert_eq!(received.len(), 2);
        world.send(wide, &puback(packet_ids(&received[..1])[0]));
    }
    world.expect_nothing(narrow); // [MQTT-3.1.2-24]
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "fits");
    let received = world.read(narrow); // [MQTT-3.1.2-25] the window is open.
    // Its topic, as no alias was set by what was never sent.
    assert_eq!(received.publish().topic, "t");
    assert_eq!(received.publish().payload, b"fits");
}

#[test]
fn a_message_that_fits_to_the_byte_is_sent() {
    // Header 2, topic 3, properties 1, payload 20.
    for (max, fits) in [(26, true), (25, false)] {
        for aliases in [0, 5] {
            let mut world = World::new();
            let block = numbers(&[(P::MaximumPacketSize, max), (P::TopicAliasMaximum, aliases)]);
            let subscriber = world.connect(with_numbers(connect(V5, "s"), &block));
            world.subscribe(subscriber, "t", QoS::AtMostOnce);
            let publisher = world.client(V311, "p");
            world.publish(publisher, "t", &"x".repeat(20));
            let received = world.publishes(subscriber);
            assert_eq!(received.len(), usize::from(fits));
        }
    }
}

#[test]
fn what_waits_may_be_too_large_for_the_next_connection() {
    let mut world = World::new();
    let (subscriber, publisher) = pair(&mut world, V5);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", &"in flight ".repeat(10));
    world.lose(subscriber);
    world.publish_as(publisher, QoS::ExactlyOnce, "t", &"queued ".repeat(10));
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "fits");
    let small = numbers(&[
        (P::MaximumPacketSize, 50),
        (P::SessionExpiryInterval, 3_600),
    ]);
    let subscriber = world.connect(durable(V5, "s", &small));
    assert_eq!(world.payloads(subscriber), ["fits"]);
}

#[test]
fn a_message_says_how_long_it_is_still_good() {
    let mut world = World::new();
    let (subscriber, publisher) = pair(&mut world, V5);
    let old = world.connect(durable(V311, "old", &expiry(0)));
    world.subscribe(old, "t", QoS::AtLeastOnce);
    let block = numbers(&[(P::MessageExpiryInterval, 60)]);
    let good_for_a_minute = Publish {
        properties: block.as_properties(),
        ..publish_qos(QoS::AtLeastOnce, 1, "t", "news")
    };
    world.send(publisher, &Packet::Publish(good_for_a_minute));
    let left = |received: &Received| {
        let properties = received.publish().properties;
        properties.number(P::MessageExpiryInterval)
    };
    let received = world.publishes(subscriber);
    assert_eq!(left(&received[0]), Some(60));
    world.send(subscriber, &puback(packet_ids(&received)[0]));
    let received = world.publishes(old);
    world.send(old, &puback(packet_ids(&received)[0]));

    // Half of it spent in the queue.
    world.lose(subscriber);
    world.send(publisher, &Packet::Publish(good_for_a_minute));
    world.advance(secs(30));
    let subscriber = world.connect(durable(V5, "s", &expiry(3_600)));
    let received = world.publishes(subscriber);
    assert_eq!(left(&received[0]), Some(30)); // [MQTT-3.3.2-6]
    world.send(subscriber, &puback(packet_ids(&received)[0]));

    // All of it: clients of every version are spared it.
    world.lose(subscriber);
    world.lose(old);
    world.send(publisher, &Packet::Publish(good_for_a_minute));
    world.advance(secs(60));
    let subscriber = world.connect(durable(V5, "s", &expiry(3_600)));
    let old = world.connect(durable(V311, "old", &expiry(0)));
    world.expect_nothing(subscriber); // [MQTT-3.3.2-5]
    // But the one before was sent to `old` in time, and not acknowledged.
    assert_eq!(world.payloads(old), ["news"]);
}

#[test]
fn a_new_message_does_not_overtake_the_queue() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    let mut world = World::with(options);
    let (subscriber, publisher) = pair(&mut world, V5);
    for payload in ["1", "2", "3"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    let mut order = vec![];
    for payload in ["4", "5", "6", "7", "8", "9"] {
        let received = world.read(subscriber);
        order.push(received.publish().payload[0]);
        world.send(subscriber, &puback(received.publish().packet_id.unwrap()));
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    assert_eq!(order, b"123456"); // [MQTT-4.6.0-5]
}
