//! Retained messages: stored, replaced, cleared, and sent to new subscribers, many at a time.

mod common;

use std::collections::BTreeMap;

use common::*;
use midge::broker::limits::{Limits, Options};
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions {
        retain_handling,
        ..SubscriptionOptions::new(QoS::AtLeastOnce)
    }
}

fn retain(world: &mut World, topic: &str, payload: &str) {
    let publisher = world.client(V311, "retainer");
    world.send(publisher, &Packet::Publish(retained(topic, payload)));
    world.disconnect(publisher);
}

#[test]
fn a_new_subscriber_is_sent_the_last_retained_message() {
    for version in ALL {
        let mut world = World::new();
        retain(&mut world, "a/b", "old");
        retain(&mut world, "a/b", "new"); // [MQTT-3.3.1-5]
        retain(&mut world, "a/c", "other");
        retain(&mut world, "z", "no match");
        // It outlives whoever sent it [v3 MQTT-3.1.2-7].
        for filter in ["a/+", "a/b"] {
            let client = world.client(version, filter);
            world.subscribe(client, filter, QoS::AtLeastOnce);
            let received = world.read(client);
            let publish = received.publish();
            assert_eq!((publish.topic, publish.payload), ("a/b", &b"new"[..]));
            assert!(publish.retain); // [v3 MQTT-3.3.1-8]
            assert_eq!(publish.qos, QoS::AtMostOnce); // [MQTT-3.8.4-8]
        }
    }
}

#[test]
fn a_message_without_retain_leaves_the_retained_one_alone() {
    let mut world = World::new();
    retain(&mut world, "t", "kept");
    let publisher = world.client(V5, "p");
    world.publish(publisher, "t", "passing");
    world.publish(publisher, "t", "");
    world.publish(publisher, "u", "passing");
    let client = world.client(V5, "s");
    world.subscribe(client, "#", QoS::AtMostOnce);
    assert_eq!(world.payloads(client), ["kept"]); // [MQTT-3.3.1-8]
}

#[test]
fn an_empty_payload_clears_the_topic() {
    for version in ALL {
        let mut world = World::new();
        retain(&mut world, "t", "x");
        let present = world.client(version, "present");
        world.subscribe(present, "t", QoS::AtMostOnce);
        world.read_all(present);
        retain(&mut world, "t", "");
        retain(&mut world, "never there", "");
        // [v3 MQTT-3.3.1-10] those who are there get it like any message.
        let received = world.read(present);
        assert_eq!(received.publish(), publish("t", ""));
        let late = world.client(version, "late");
        world.subscribe(late, "#", QoS::AtMostOnce);
        world.expect_nothing(late); // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
    }
}

#[test]
fn retained_messages_keep_their_qos_and_properties() {
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    let mut block = PropertyBlock::new();
    block.pair("a", "1").text(P::ContentType, "text/plain");
    let message = Publish {
        retain: true,
        properties: block.as_properties(),
        ..publish_qos(QoS::ExactlyOnce, 1, "t", "x")
    };
    world.send(publisher, &Packet::Publish(message));
    let client = world.client(V5, "s");
    for granted in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        world.subscribe(client, "t", granted);
        let received = world.read(client);
        assert_eq!(received.publish().qos, granted);
        assert_eq!(received.publish().properties, block.as_properties());
    }
}

#[test]
fn the_subscriber_says_whether_it_wants_retained_messages() {
    use RetainHandling::{DoNotSend, Send, SendIfNew};
    // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]
    for (retain_handling, at_first, again) in [
        (Send, true, true),
        (SendIfNew, true, false),
        (DoNotSend, false, false),
    ] {
        let mut world = World::new();
        retain(&mut world, "t", "x");
        let client = world.client(V5, "s");
        for expected in [at_first, again] {
            world.subscribe_with(client, "t", handling(retain_handling));
            assert_eq!(world.payloads(client).len(), usize::from(expected));
        }
        // After an UNSUBSCRIBE it is new again.
        world.send(client, &unsubscribe(1, &["t"]));
        world.read(client);
        world.subscribe_with(client, "t", handling(retain_handling));
        assert_eq!(world.payloads(client).len(), usize::from(at_first));
    }
}

#[test]
fn a_retained_message_names_the_subscription_it_is_sent_for() {
    let mut world = World::new();
    retain(&mut world, "t", "x");
    let client = world.client(V5, "s");
    for (filter, identifier) in [("t", 1), ("#", 2)] {
        let block = numbers(&[(P::SubscriptionIdentifier, identifier)]);
        let packet = Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: block.as_properties(),
            filters: vec![(filter, handling(RetainHandling::Send))],
        });
        world.send(client, &packet);
        world.read(client);
        let received = world.read(client);
        // [MQTT-3.3.4-5]
        let properties = received.publish().properties;
        assert_eq!(properties, block.as_properties());
    }
}

#[test]
fn a_retained_message_expires() {
    let mut world = World::new();
    let publisher = world.client(V5, "p");
    let block = numbers(&[(P::MessageExpiryInterval, 60)]);
    let message = Publish {
        properties: block.as_properties(),
        ..retained("t", "x")
    };
    world.send(publisher, &Packet::Publish(message));
    world.advance(secs(59));
    let client = world.client(V5, "s");
    world.subscribe(client, "t", QoS::AtMostOnce);
    let received = world.read(client);
    let left = received.publish().properties;
    assert_eq!(left.number(P::MessageExpiryInterval), Some(1)); // [MQTT-3.3.2-6]
    world.advance(secs(1));
    world.subscribe(client, "t", QoS::AtMostOnce);
    world.expect_nothing(client); // [MQTT-3.3.2-5]
    // Whatever nobody asks for is removed in time, and then there is nothing to wake up for.
    world.advance(secs(120));
    assert_eq!(world.wake_ups(secs(1_000_000)), 0);
}

#[test]
fn the_store_for_retained_messages_is_limited() {
    for by_bytes in [false, true] {
        let mut options = Options::default();
        match by_bytes {
            true => options.limits.retained_bytes_max = 2_100,
            false => options.limits.retained_messages_max = 2,
        }
        let mut world = World::with(options);
        let watcher = world.client(V5, "w");
        world.subscribe(watcher, "#", QoS::AtMostOnce);
        let publisher = world.client(V5, "p");
        let old = world.client(V311, "old");
        let payload = "x".repeat(1_000);
        let message = |topic| Publish {
            retain: true,
            ..publish_qos(QoS::AtLeastOnce, 1, topic, &payload)
        };
        for (client, topic, reason) in [
            (publisher, "a", R::Success),
            (publisher, "b", R::Success),
            (publisher, "c", R::QuotaExceeded),
            (old, "c", R::Success),
            (publisher, "a", R::Success),
        ] {
            world.send(client, &Packet::Publish(message(topic)));
            assert_eq!(world.read(client).ack(), (1, reason), "{topic}");
        }
        // What is refused is refused as a whole.
        assert_eq!(world.payloads(watcher).len(), 3);
        // Clearing a topic makes room.
        world.send(publisher, &Packet::Publish(retained("b", "")));
        world.send(publisher, &Packet::Publish(message("c")));
        assert_eq!(world.read(publisher).ack(), (1, R::Success));
    }
}

#[test]
fn expired_messages_that_nobody_asks_for_make_room_for_others() {
    // Whichever of them is the first to be due.
    for lifetimes in [[60, 3_600], [3_600, 60]] {
        let mut options = Options::default();
        options.limits.retained_messages_max = 2;
        let mut world = World::with(options);
        let publisher = world.client(V5, "p");
        for seconds in lifetimes {
            let block = numbers(&[(P::MessageExpiryInterval, seconds)]);
            let message = Publish {
                properties: block.as_properties(),
                ..retained(if seconds == 60 { "short" } else { "long" }, "x")
            };
            world.send(publisher, &Packet::Publish(message));
        }
        assert!(!fits(&mut world, publisher, "new", 1));
        // They are looked for once a minute at most.
        world.advance(secs(120));
        assert!(fits(&mut world, publisher, "new", 1));
        assert!(!fits(&mut world, publisher, "newer", 1));
    }
}

/// Retains a payload of that length; whether it was accepted.
fn fits(world: &mut World, publisher: Client, topic: &str, length: usize) -> bool {
    let payload = "x".repeat(length);
    let message = Publish {
        retain: true,
        ..publish_qos(QoS::AtLeastOnce, 1, topic, &payload)
    };
    world.send(publisher, &Packet::Publish(message));
    match world.read(publisher).ack().1 {
        R::Success | R::NoMatchingSubscribers => true,
        R::QuotaExceeded => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_store_for_retained_messages_can_be_filled_to_the_byte() {
    let mut options = Options::default();
    options.limits.retained_bytes_max = 2_000;
    let mut world = World::with(options);
    let publisher = world.client(V5, "p");
    let p = publisher;
    assert!(fits(&mut world, p, "a", 1_000));
    assert!(!fits(&mut world, p, "b", 1_000));
    let fitting = (1..1_000)
        .rev()
        .find(|length| fits(&mut world, p, "b", *length));
    let most = fitting.expect("there is room for some");
    // Full: what replaces a message may be as long as that, and no longer.
    for (topic, length, expected) in [
        ("b", most, true),
        ("b", most + 1, false),
        ("a", 1_000, true),
        ("a", 1_001, false),
        ("c", 1, false),
        // What one gives up another may have.
        ("a", 990, true),
        ("b", most + 11, false),
        ("b", most + 10, true),
        ("a", 991, false),
    ] {
        let fitted = fits(&mut world, p, topic, length);
        assert_eq!(fitted, expected, "{topic} {length}");
    }
}

/// A world with many retained messages of that QoS.
fn many(topics: usize, qos: QoS) -> World {
    let mut world = World::new();
    let publisher = world.client(V311, "retainer");
    for number in 0..topics {
        let (topic, payload) = (format!("dev/{number:05}/state"), number.to_string());
        let message = Publish {
            retain: true,
            packet_id: (qos > QoS::AtMostOnce).then_some(1),
            qos,
            ..publish(&topic, &payload)
        };
        world.deliver_bytes(publisher, &bytes(&message));
        if number % 100 == 0 {
            world.turn();
            world.read_all(publisher);
        }
    }
    world.turn();
    world.read_all(publisher);
    world.disconnect(publisher);
    world
}

fn bytes(publish: &Publish) -> Vec<u8> {
    let mut bytes = Vec::new();
    publish.encode(V311, &mut bytes);
    bytes
}

/// How often each topic came with each payload, repetitions with DUP left out.
#[derive(Default)]
struct Seen(BTreeMap<(String, String), usize>);

impl Seen {
    /// Notes what the client was sent and acknowledges it; returns how many messages there were.
    fn take(&mut self, world: &mut World, client: Client) -> usize {
        let received = world.publishes(client);
        for received in &received {
            let publish = received.publish();
            let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
            let key = (publish.topic.to_string(), payload);
            let count = self.0.entry(key).or_default();
            if !publish.dup || *count == 0 {
                *count += 1;
            }
            if let Some(id) = publish.packet_id {
                world.send(client, &puback(id));
            }
        }
        received.len()
    }

    fn count(&self, topic: &str, payload: &str) -> usize {
        let key = (topic.to_string(), payload.to_string());
        self.0.get(&key).copied().unwrap_or(0)
    }

    /// Every one of so many retained messages came once, apart from `changed`.
    fn check(&self, topics: usize, changed: &[usize]) {
        for number in 0..topics {
            let expected = usize::from(!changed.contains(&number));
            let topic = format!("dev/{number:05}/state");
            assert_eq!(self.count(&topic, &number.to_string()), expected, "{topic}");
        }
    }
}

#[test]
fn fifty_thousand_retained_messages_reach_a_slow_reader() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut world = many(50_000, qos);
        let client = world.client(V311, "slow");
        let publisher = world.client(V311, "p");
        world.read_only(client, 0);
        world.send(
            client,
            &subscribe(1, &[("dev/#", SubscriptionOptions::new(qos))]),
        );
        let mut seen = Seen::default();
        let mut rounds = 0;
        loop {
            world.read_only(client, 5_000);
            // A replay waits until the client has read what it was sent.
            assert!(world.owed(client) < Limits::BACKLOG_BYTES + 1_000);
            let count = seen.take(&mut world, client);
            if count == 0 {
                break;
            }
            // Live messages do not wait for the end of it.
            if rounds == 3 {
                world.publish(publisher, "dev/live", "now");
            }
            if rounds == 200 {
                assert_eq!(seen.count("dev/live", "now"), 1);
            }
            rounds += 1;
        }
        assert!(rounds > 200, "the client was not slow");
        seen.check(50_000, &[]);
        assert_eq!(seen.0.len(), 50_001);
        assert_eq!(world.payloads(client), [] as [&str; 0]);
    }
}

#[test]
fn what_is_retained_during_a_replay_arrives_once() {
    let mut world = many(5_000, QoS::AtLeastOnce);
    let client = world.client(V311, "slow");
    let publisher = world.client(V311, "p");
    world.subscribe(client, "dev/+/state", QoS::AtLeastOnce);
    let mut seen = Seen::default();
    for _ in 0..100 {
        seen.take(&mut world, client);
    }
    // Before, at and behind the place it has come to, and one that is new.
    assert!((1_000..4_000).contains(&seen.0.len()));
    let changed = [0, 4_900, 4_999];
    for number in changed {
        let topic = format!("dev/{number:05}/state");
        world.send(publisher, &Packet::Publish(retained(&topic, "changed")));
    }
    world.send(
        publisher,
        &Packet::Publish(retained("dev/04999x/state", "changed")),
    );
    world.send(publisher, &Packet::Publish(retained("dev/04800/state", "")));
    while seen.take(&mut world, client) > 0 {}
    for number in changed {
        let topic = format!("dev/{number:05}/state");
        assert_eq!(seen.count(&topic, "changed"), 1, "{topic}");
    }
    assert_eq!(seen.count("dev/04999x/state", "changed"), 1);
    assert_eq!(seen.count("dev/04800/state", ""), 1);
    seen.check(5_000, &[4_800, 4_900, 4_999]);
}

#[test]
fn a_replay_goes_on_after_a_reconnect() {
    let mut world = many(5_000, QoS::AtLeastOnce);
    let hour = expiry(3_600);
    let mut client = world.connect(durable(V5, "s", &hour));
    world.subscribe(client, "dev/#", QoS::AtLeastOnce);
    let mut seen = Seen::default();
    for _ in 0..5 {
        for _ in 0..30 {
            seen.take(&mut world, client);
        }
        world.lose(client);
        world.advance(secs(60));
        client = world.connect(durable(V5, "s", &hour));
    }
    while seen.take(&mut world, client) > 0 {}
    seen.check(5_000, &[]);
}

#[test]
fn a_replay_ends_with_its_subscription() {
    let mut world = many(5_000, QoS::AtLeastOnce);
    let client = world.client(V311, "s");
    world.subscribe(client, "dev/#", QoS::AtLeastOnce);
    let mut seen = Seen::default();
    seen.take(&mut world, client);
    world.send(client, &unsubscribe(1, &["dev/#"]));
    for _ in 0..5 {
        seen.take(&mut world, client);
    }
    // What was sent before is all there is.
    assert!(seen.0.len() <= 60, "{}", seen.0.len());
}

#[test]
fn a_replay_leaves_room_for_others() {
    let mut world = many(5_000, QoS::AtMostOnce);
    let quick = world.client(V311, "quick");
    let client = world.client(V311, "s");
    world.read_only(client, 0);
    // Nothing matches until the very end: 5,000 topics are looked at in vain.
    let filters = [("dev/+/nothing", SubscriptionOptions::new(QoS::AtMostOnce))];
    let mut packet = Vec::new();
    subscribe(1, &filters).encode(V311, &mut packet);
    world.deliver_bytes(client, &packet);
    world.deliver_bytes(quick, &[0xC0, 0]);
    let mut turn = midge::broker::Turn::default();
    world.broker.end_turn(&mut turn, world.now);
    // The turn ends, with work left for the next.
    assert_eq!(turn.flush.len(), 2);
    assert!(
        world
            .broker
            .poll_timeout()
            .is_some_and(|at| at <= world.now)
    );
    world.turn();
    world.expect(quick, &Packet::PingResp);
}

#[test]
fn a_replay_looks_only_at_topics_that_begin_like_its_filter() {
    let mut world = many(5_000, QoS::AtMostOnce);
    let client = world.client(V311, "s");
    for (filter, expected) in [
        ("before/#", 0),
        ("dev/00000/state", 1),
        ("dev/00000/+", 1),
        ("dev/00000", 0),
    ] {
        let filters = [(filter, SubscriptionOptions::new(QoS::AtMostOnce))];
        let mut packet = Vec::new();
        subscribe(1, &filters).encode(V311, &mut packet);
        world.deliver_bytes(client, &packet);
        // More topics than one turn has time for would leave work for the next.
        let mut turn = midge::broker::Turn::default();
        world.broker.end_turn(&mut turn, world.now);
        assert_eq!(world.broker.poll_timeout(), None, "{filter}");
        world.turn();
        assert_eq!(world.payloads(client).len(), expected, "{filter}");
    }
}

#[test]
fn a_replay_follows_its_subscription_when_that_is_replaced() {
    let mut world = many(5_000, QoS::AtLeastOnce);
    let client = world.client(V5, "s");
    world.subscribe(client, "dev/#", QoS::AtLeastOnce);
    let mut seen = Seen::default();
    seen.take(&mut world, client);
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::DoNotSend,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    world.send(client, &subscribe(2, &[("dev/#", options)]));
    let qos = |received: &Received| match received.packet() {
        Packet::Publish(publish) => Some(publish.qos),
        _ => None,
    };
    // What was on its way comes first, with QoS 1; the rest as the new subscription has it.
    let all = world.read_all(client);
    let after = all
        .iter()
        .filter_map(qos)
        .filter(|qos| *qos == QoS::AtMostOnce);
    assert!(after.count() > 4_000, "most are sent after the change");
}

#[test]
fn no_local_leaves_out_ones_own_retained_messages() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    let other = world.client(V5, "b");
    world.send(client, &Packet::Publish(retained("t/mine", "x")));
    world.send(other, &Packet::Publish(retained("t/others", "y")));
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    world.subscribe_with(client, "t/#", options);
    assert_eq!(world.payloads(client), ["y"]); // [MQTT-3.8.3-3]
}
