//! SUBSCRIBE and UNSUBSCRIBE: what matches, options, acknowledgements, limits.

mod common;

use common::*;
use midge::broker::limits::{Limits, Options};
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

fn qos0() -> SubscriptionOptions {
    SubscriptionOptions::new(QoS::AtMostOnce)
}

/// Subscribes with a Subscription Identifier.
fn subscribe_as(world: &mut World, client: Client, filter: &str, qos: QoS, identifier: u32) {
    let block = numbers(&[(P::SubscriptionIdentifier, identifier)]);
    let packet = Packet::Subscribe(Subscribe {
        packet_id: 1,
        properties: block.as_properties(),
        filters: vec![(filter, SubscriptionOptions::new(qos))],
    });
    world.send(client, &packet);
    assert_eq!(world.read(client).reasons()[0] as u8, qos as u8);
}

fn identifiers(received: &Received) -> Vec<u32> {
    let properties = received.publish().properties;
    let identifiers = properties.iter().filter_map(|property| {
        let is_one = property.id == P::SubscriptionIdentifier;
        match property.value {
            property::Value::Number(number) if is_one => Some(number),
            _ => None,
        }
    });
    let mut identifiers: Vec<u32> = identifiers.collect();
    identifiers.sort_unstable();
    identifiers
}

#[test]
fn wildcards_match_as_section_4_7_says() {
    for (filter, matching) in [
        ("sport/#", vec!["sport", "sport/", "sport/a", "sport/a/b"]),
        ("sport/+", vec!["sport/", "sport/a"]),
        ("+/a", vec!["sport/a"]),
        ("+", vec!["sport", "Sport"]),
        ("/+", vec!["/sport"]),
        ("+/+", vec!["sport/", "sport/a", "/sport"]),
        ("sport", vec!["sport"]),
        ("$own/#", vec!["$own/a"]),
        ("$own/+", vec!["$own/a"]),
        // [MQTT-4.7.2-1]
        (
            "#",
            vec!["sport", "sport/", "sport/a", "sport/a/b", "/sport", "Sport"],
        ),
    ] {
        let mut world = World::new();
        let subscriber = world.client(V5, "s");
        world.subscribe(subscriber, filter, QoS::AtMostOnce);
        let publisher = world.client(V311, "p");
        for topic in [
            "sport",
            "sport/",
            "sport/a",
            "sport/a/b",
            "/sport",
            "Sport",
            "$own/a",
        ] {
            world.publish(publisher, topic, "x");
        }
        let received = world.publishes(subscriber);
        let topics: Vec<_> = received.iter().map(|r| r.publish().topic).collect();
        assert_eq!(topics, matching, "{filter}"); // [MQTT-3.3.2-3]
    }
}

#[test]
fn overlapping_subscriptions_bring_one_copy_with_the_best_qos_and_all_identifiers() {
    // Whichever of them has the best.
    for best in ["a/b", "a/+", "#"] {
        let mut world = World::new();
        let subscriber = world.client(V5, "s");
        for (filter, identifier) in [("a/b", 1), ("a/+", 268_435_455), ("#", 128), ("other", 5)] {
            let qos = if filter == best {
                QoS::ExactlyOnce
            } else {
                QoS::AtMostOnce
            };
            subscribe_as(&mut world, subscriber, filter, qos, identifier);
        }
        world.subscribe(subscriber, "+/b", QoS::AtLeastOnce);
        let publisher = world.client(V311, "p");
        let message = publish_qos(QoS::ExactlyOnce, 1, "a/b", "x");
        world.send(publisher, &Packet::Publish(message));
        let received = world.read(subscriber);
        assert_eq!(received.publish().qos, QoS::ExactlyOnce); // [MQTT-3.3.4-2]
        // [MQTT-3.3.4-3] [MQTT-3.3.4-4]
        assert_eq!(identifiers(&received), [1, 128, 268_435_455]);
        world.expect_nothing(subscriber);
    }
}

#[test]
fn identifiers_stay_with_messages_that_wait() {
    let mut world = World::new();
    let hour = expiry(3_600);
    let subscriber = world.connect(durable(V5, "s", &hour));
    subscribe_as(&mut world, subscriber, "a", QoS::AtLeastOnce, 7);
    subscribe_as(&mut world, subscriber, "+", QoS::AtLeastOnce, 7);
    world.lose(subscriber);
    let publisher = world.client(V311, "p");
    let message = publish_qos(QoS::AtLeastOnce, 1, "a", "x");
    world.send(publisher, &Packet::Publish(message));
    for _ in 0..2 {
        // Waiting, then in flight.
        let subscriber = world.connect(durable(V5, "s", &hour));
        assert_eq!(identifiers(&world.read(subscriber)), [7, 7]);
        world.lose(subscriber);
    }
    // The subscription itself is part of the session, its identifier included.
    let subscriber = world.connect(durable(V5, "s", &hour));
    world.read_all(subscriber);
    world.publish(publisher, "a", "y");
    assert_eq!(identifiers(&world.read(subscriber)), [7, 7]);
}

#[test]
fn a_client_before_5_0_gets_one_copy_too() {
    for version in [V31, V311] {
        let mut world = World::new();
        let subscriber = world.client(version, "s");
        world.subscribe(subscriber, "a/#", QoS::AtMostOnce);
        world.subscribe(subscriber, "a/b", QoS::AtLeastOnce);
        let publisher = world.client(V5, "p");
        let message = publish_qos(QoS::ExactlyOnce, 1, "a/b", "x");
        world.send(publisher, &Packet::Publish(message));
        assert_eq!(world.read(subscriber).publish().qos, QoS::AtLeastOnce); // [v3 MQTT-3.3.5-1]
        world.expect_nothing(subscriber);
    }
}

#[test]
fn a_repeated_subscription_replaces_the_first() {
    let mut world = World::new();
    let subscriber = world.client(V5, "s");
    subscribe_as(&mut world, subscriber, "a/+", QoS::AtLeastOnce, 1);
    subscribe_as(&mut world, subscriber, "a/+", QoS::AtMostOnce, 2);
    let publisher = world.client(V311, "p");
    let message = publish_qos(QoS::AtLeastOnce, 1, "a/b", "x");
    world.send(publisher, &Packet::Publish(message));
    let received = world.read(subscriber);
    // [MQTT-3.8.4-3]
    assert_eq!(received.publish().qos, QoS::AtMostOnce);
    assert_eq!(identifiers(&received), [2]);
    world.expect_nothing(subscriber);
    // It is one subscription, which one UNSUBSCRIBE ends.
    world.send(subscriber, &unsubscribe(1, &["a/+"]));
    assert_eq!(world.read(subscriber).reasons(), [R::Success]);
    world.publish(publisher, "a/b", "x");
    world.expect_nothing(subscriber);
}

#[test]
fn replacing_a_subscription_loses_no_message() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    let mut world = World::with(options);
    let hour = expiry(3_600);
    let subscriber = world.connect(durable(V5, "s", &hour));
    world.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = world.client(V5, "p");
    for payload in ["in flight", "waits"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    world.publishes(subscriber);
    world.subscribe(subscriber, "t", QoS::ExactlyOnce);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "new");
    // What is in flight is there to be sent again.
    world.lose(subscriber);
    let subscriber = world.connect(durable(V5, "s", &hour));
    let mut received = world.publishes(subscriber);
    for expected in ["in flight", "waits", "new"] {
        // [MQTT-3.8.4-4]
        assert_eq!(received[0].publish().payload, expected.as_bytes());
        world.send(subscriber, &puback(packet_ids(&received)[0]));
        received = world.publishes(subscriber);
    }
    assert_eq!(received, []);
}

#[test]
fn every_filter_of_a_subscribe_is_answered_in_order() {
    for version in ALL {
        let mut world = World::with(Options {
            max_qos: QoS::AtLeastOnce,
            ..Options::default()
        });
        let subscriber = world.client(version, "s");
        let qos = SubscriptionOptions::new;
        let deep = "/".repeat(200);
        let filters = [
            ("a", qos(QoS::AtLeastOnce)),
            (&deep, qos(QoS::AtMostOnce)),
            ("b/#", qos(QoS::AtMostOnce)),
            ("c", qos(QoS::ExactlyOnce)),
            ("a", qos(QoS::AtMostOnce)),
        ];
        world.send(subscriber, &subscribe(0x0102, &filters));
        let received = world.read(subscriber);
        let Packet::SubAck(suback) = received.packet() else {
            panic!("expected SUBACK"); // [MQTT-3.8.4-1]
        };
        assert_eq!(suback.packet_id, 0x0102); // [MQTT-3.8.4-2] [MQTT-2.2.1-6]
        let refused = match version {
            V5 => R::TopicFilterInvalid,
            V31 | V311 => R::UnspecifiedError, // [v3 MQTT-3.9.3-2]
        };
        // [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
        let expected = [
            R::GrantedQoS1,
            refused,
            R::Success,
            R::GrantedQoS1,
            R::Success,
        ];
        assert_eq!(suback.reasons, expected);
        // The last one counts.
        let publisher = world.client(V5, "p");
        let message = publish_qos(QoS::AtLeastOnce, 1, "a", "x");
        world.send(publisher, &Packet::Publish(message));
        assert_eq!(world.read(subscriber).publish().qos, QoS::AtMostOnce);
    }
}

#[test]
fn a_filter_that_is_none_ends_the_connection() {
    for filter in [
        "",
        "a#",
        "#/a",
        "a/#/b",
        "+a",
        "a/b+",
        "$share/",
        "$share/g",
        "$share//t",
        "$share/g/",
        "$share/+/t",
        "$share/g#/t",
    ] {
        for version in ALL {
            for unsubscribing in [false, true] {
                let mut world = World::new();
                let client = world.client(version, "s");
                let hour = expiry(3_600);
                let watcher = world.connect(durable(V5, "w", &hour));
                let packet = match unsubscribing {
                    true => unsubscribe(1, &["good", filter]),
                    false => subscribe(1, &[("good", qos0()), (filter, qos0())]),
                };
                world.send(client, &packet);
                // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
                match version {
                    V5 => world.expect_disconnect(client, R::MalformedPacket),
                    V31 | V311 => world.expect_closed(client),
                }
                world.expect_nothing(watcher);
            }
        }
    }
}

#[test]
fn a_malformed_subscribe_changes_nothing() {
    let mut world = World::new();
    let hour = expiry(3_600);
    let client = world.connect(durable(V5, "s", &hour));
    world.send(client, &subscribe(1, &[("good", qos0()), ("a#", qos0())]));
    world.expect_disconnect(client, R::MalformedPacket);
    let client = world.connect(durable(V5, "s", &hour));
    let publisher = world.client(V311, "p");
    world.publish(publisher, "good", "x");
    world.expect_nothing(client);
}

#[test]
fn no_local_spares_a_client_its_own_messages() {
    let mut world = World::new();
    let own = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtLeastOnce)
    };
    let hour = expiry(3_600);
    let client = world.connect(durable(V5, "s", &hour));
    world.subscribe_with(client, "t", own);
    let other = world.client(V5, "other");
    world.publish(client, "t", "mine");
    world.publish(other, "t", "yours");
    assert_eq!(world.payloads(client), ["yours"]); // [MQTT-3.8.3-3]
    // The client id counts, not the connection.
    world.lose(client);
    let client = world.connect(durable(V5, "s", &hour));
    world.publish(client, "t", "mine");
    world.expect_nothing(client);
    // Another subscription that matches still brings them.
    world.subscribe(client, "#", QoS::AtMostOnce);
    world.publish(client, "t", "mine");
    assert_eq!(world.payloads(client), ["mine"]);
}

#[test]
fn without_no_local_a_client_hears_itself() {
    for version in ALL {
        let mut world = World::new();
        let client = world.client(version, "s");
        world.subscribe(client, "t", QoS::AtMostOnce);
        world.publish(client, "t", "mine");
        assert_eq!(world.payloads(client), ["mine"]);
    }
}

#[test]
fn retain_is_forwarded_as_published_on_request() {
    for (retain_as_published, retain) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let mut world = World::new();
        let client = world.client(V5, "s");
        let options = SubscriptionOptions {
            retain_as_published,
            ..qos0()
        };
        world.subscribe_with(client, "t", options);
        let publisher = world.client(V311, "p");
        let message = Publish {
            retain,
            ..publish("t", "x")
        };
        world.send(publisher, &Packet::Publish(message));
        // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        let expected = retain && retain_as_published;
        assert_eq!(world.read(client).publish().retain, expected);
    }
}

#[test]
fn a_bridge_gets_retain_as_published_and_nothing_back() {
    for version in [V31, V311] {
        let mut world = World::new();
        let bridge = world.connect(Connect {
            bridge: true,
            ..connect(version, "bridge")
        });
        world.subscribe(bridge, "#", QoS::AtLeastOnce);
        let publisher = world.client(V5, "p");
        world.publish(bridge, "t", "its own");
        world.expect_nothing(bridge);
        world.send(publisher, &Packet::Publish(retained("t", "x")));
        assert!(world.read(bridge).publish().retain);
    }
}

#[test]
fn the_number_of_subscriptions_is_limited() {
    let mut options = Options::default();
    options.limits.subscriptions_max = 2;
    for version in ALL {
        let refused = match version {
            V5 => R::QuotaExceeded,
            V31 | V311 => R::UnspecifiedError,
        };
        let mut world = World::with(options.clone());
        let client = world.client(version, "s");
        let filters = [("a", qos0()), ("b", qos0()), ("c", qos0())];
        world.send(client, &subscribe(1, &filters));
        let reasons = world.read(client).reasons();
        assert_eq!(reasons, [R::Success, R::Success, refused]);
        // What is there may be replaced, and given up.
        world.subscribe(client, "a", QoS::AtLeastOnce);
        world.send(client, &unsubscribe(1, &["b"]));
        world.read(client);
        world.subscribe(client, "c", QoS::AtMostOnce);
        let other = world.client(version, "other");
        world.subscribe(other, "d", QoS::AtMostOnce);
    }
}

#[test]
fn the_bytes_of_all_filters_of_a_client_are_limited() {
    let mut world = World::new();
    let client = world.client(V5, "s");
    let filter = |number: usize| format!("{number:032768}");
    let fit = Limits::FILTER_BYTES_PER_SESSION / filter(0).len();
    let try_subscribe = |world: &mut World, filter: &str| {
        world.send(client, &subscribe(1, &[(filter, qos0())]));
        world.read(client).reasons()
    };
    for number in 0..fit {
        assert_eq!(try_subscribe(&mut world, &filter(number)), [R::Success]);
    }
    // Full to the byte; what is there may be replaced.
    assert_eq!(try_subscribe(&mut world, "x"), [R::QuotaExceeded]);
    assert_eq!(try_subscribe(&mut world, &filter(0)), [R::Success]);
    // What is given up makes room for as much, and for no more.
    world.send(client, &unsubscribe(1, &[filter(0).as_str()]));
    assert_eq!(world.read(client).reasons(), [R::Success]);
    assert_eq!(try_subscribe(&mut world, &filter(fit)), [R::Success]);
    assert_eq!(try_subscribe(&mut world, "x"), [R::QuotaExceeded]);
}

#[test]
fn the_number_of_wildcard_patterns_is_limited() {
    let mut world = World::new();
    let client = world.client(V5, "s");
    let filter = |bits: usize| -> String {
        let level = |n: usize| if bits >> n & 1 == 1 { "+/" } else { "x/" };
        (0..8).map(level).collect::<String>() + "#"
    };
    for bits in 0..Limits::WILDCARD_SHAPES_PER_SESSION {
        world.subscribe(client, &filter(bits), QoS::AtMostOnce);
    }
    let one_more = filter(Limits::WILDCARD_SHAPES_PER_SESSION);
    world.send(client, &subscribe(1, &[(&one_more, qos0())]));
    assert_eq!(world.read(client).reasons(), [R::QuotaExceeded]);
    // The patterns that are there cost nothing, nor do filters without any.
    world.subscribe(client, &filter(3).replace('x', "y"), QoS::AtMostOnce);
    world.subscribe(client, "plain", QoS::AtMostOnce);
    let publisher = world.client(V311, "p");
    world.publish(publisher, "x/x/x/x/x/x/x/x/deep", "x");
    assert_eq!(world.payloads(client), ["x"]);
}

#[test]
fn a_pattern_may_have_many_wildcards_but_not_very_many_of_them() {
    let mut world = World::new();
    let client = world.client(V5, "s");
    let filter = |levels: usize| "+/".repeat(levels) + "#";
    let mut pluses = 0;
    for levels in (100..=120).rev() {
        world.send(client, &subscribe(1, &[(&filter(levels), qos0())]));
        let expected = match pluses + levels <= Limits::WILDCARD_PLUSES_PER_SESSION {
            true => R::Success,
            false => R::QuotaExceeded,
        };
        assert_eq!(world.read(client).reasons(), [expected], "{levels}");
        if expected == R::Success {
            pluses += levels;
        }
    }
    // Few of them are welcome all the same, and what ends makes room.
    world.subscribe(client, "+/+/a", QoS::AtMostOnce);
    world.send(client, &unsubscribe(2, &[&filter(120)]));
    world.read(client);
    world.subscribe(client, &filter(110), QoS::AtMostOnce);
}

#[test]
fn all_patterns_together_have_a_limit_of_wildcards_too() {
    let mut world = World::new();
    let mut granted = vec![];
    let mut pluses = 0;
    // Each client brings up as many as it may, in patterns that no other has.
    for client in 0..40 {
        let id = format!("c{client}");
        let hostile = world.client(V5, &id);
        for pattern in 0..5 {
            let number = client * 5 + pattern;
            let filter = "x/".repeat(number % 25) + &"+/".repeat(100 - number / 25) + "#";
            world.send(hostile, &subscribe(1, &[(&filter, qos0())]));
            if world.read(hostile).reasons() == [R::Success] {
                granted.push(hostile);
                pluses += 100 - number / 25;
            }
        }
    }
    assert!(pluses <= Limits::WILDCARD_PLUSES_MAX);
    assert!(pluses + 100 > Limits::WILDCARD_PLUSES_MAX, "{pluses}");
    let honest = world.client(V5, "honest");
    let filter = "y/".to_string() + &"+/".repeat(101) + "#";
    world.send(honest, &subscribe(1, &[(&filter, qos0())]));
    assert_eq!(world.read(honest).reasons(), [R::QuotaExceeded]);
    // Once one of them has left, there is room.
    world.lose(granted[0]);
    world.send(honest, &subscribe(2, &[(&filter, qos0())]));
    assert_eq!(world.read(honest).reasons(), [R::Success]);
}

#[test]
fn unsubscribe_is_answered_for_every_filter() {
    for version in ALL {
        let mut world = World::new();
        let client = world.client(version, "s");
        for filter in ["a", "b/+", "c/#"] {
            world.subscribe(client, filter, QoS::AtMostOnce);
        }
        let deep = "/".repeat(200);
        let filters = ["b/+", "b/c", "A", "c/#", "c/#", &deep];
        world.send(client, &unsubscribe(0x0102, &filters));
        let received = world.read(client);
        let Packet::UnsubAck(unsuback) = received.packet() else {
            panic!("expected UNSUBACK"); // [MQTT-3.10.4-4]
        };
        assert_eq!(unsuback.packet_id, 0x0102); // [MQTT-3.10.4-5] [MQTT-2.2.1-6]
        // [MQTT-3.10.4-1] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
        let expected = [
            R::Success,
            R::NoSubscriptionExisted,
            R::NoSubscriptionExisted,
            R::Success,
            R::NoSubscriptionExisted,
            R::TopicFilterInvalid,
        ];
        match version {
            V5 => assert_eq!(unsuback.reasons, expected),
            V31 | V311 => assert_eq!(unsuback.reasons, []),
        }
        let publisher = world.client(V311, "p");
        for topic in ["a", "b/c", "c/d"] {
            world.publish(publisher, topic, topic);
        }
        assert_eq!(world.payloads(client), ["a"]); // [MQTT-3.10.4-2]
        // [MQTT-3.10.4-5] even where there is nothing to give up.
        world.send(client, &unsubscribe(3, &["never there"]));
        assert!(
            matches!(world.read(client).packet(), Packet::UnsubAck(unsuback)
            if unsuback.packet_id == 3)
        );
    }
}

#[test]
fn what_was_begun_is_completed_after_unsubscribe() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    let mut world = World::with(options);
    let client = world.client(V5, "s");
    world.subscribe(client, "t", QoS::ExactlyOnce);
    let publisher = world.client(V5, "p");
    let message = publish_qos(QoS::ExactlyOnce, 1, "t", "x");
    world.send(publisher, &Packet::Publish(message));
    let id = world.read(client).publish().packet_id.unwrap();
    world.send(client, &unsubscribe(1, &["t"]));
    world.read(client);
    world.complete(client, QoS::ExactlyOnce, id); // [MQTT-3.10.4-3]
    world.expect_nothing(client);
}

#[test]
fn a_client_that_comes_and_goes_leaves_nothing_behind() {
    for version in ALL {
        let mut world = World::new();
        for round in 0..50 {
            let client = world.client(version, &format!("client {round}"));
            for filter in ["a", "a/+", "#", "$share/g/a"] {
                world.subscribe(client, filter, QoS::AtLeastOnce);
            }
            if round % 2 == 0 {
                world.lose(client);
            } else {
                world.disconnect(client);
            }
        }
        let publisher = world.client(V5, "p");
        let message = publish_qos(QoS::AtLeastOnce, 1, "a", "x");
        world.send(publisher, &Packet::Publish(message));
        assert_eq!(world.read(publisher).ack(), (1, R::NoMatchingSubscribers));
    }
}
