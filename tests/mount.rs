//! Mount points: clients of one listener live below a prefix that they do not see.

mod common;

use common::*;
use midge::broker::Verdict;
use midge::broker::acl_file;
use midge::broker::limits::{ListenerOptions, Options};
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

const PLAIN: usize = 0;
const GARDEN: usize = 1;
const HOUSE: usize = 2;

fn listeners() -> Vec<ListenerOptions> {
    let of = |prefix: Option<&str>| ListenerOptions {
        mount_point: prefix.map(Into::into),
        ..ListenerOptions::default()
    };
    vec![of(None), of(Some("garden/")), of(Some("house/"))]
}

/// A plain listener, and two with prefixes.
fn world() -> World {
    World::with(Options {
        listeners: listeners(),
        ..Options::default()
    })
}

fn client_at(world: &mut World, listener: usize, version: Version, id: &str) -> Client {
    world.listener = listener;
    world.client(version, id)
}

/// Topic and payload of what a client was sent; all of it acknowledged.
fn messages(world: &mut World, client: Client) -> Vec<(String, String)> {
    let mut messages = vec![];
    loop {
        let received = world.publishes(client);
        if received.is_empty() {
            return messages;
        }
        for one in received {
            let publish = one.publish();
            let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
            messages.push((publish.topic.to_string(), payload));
            let Some(id) = publish.packet_id else {
                continue;
            };
            match publish.qos {
                QoS::ExactlyOnce => {
                    world.send(client, &Packet::PubRec(ack(id)));
                    world.send(client, &Packet::PubComp(ack(id)));
                }
                _ => world.send(client, &Packet::PubAck(ack(id))),
            }
        }
    }
}

fn message(topic: &str, payload: &str) -> (String, String) {
    (topic.to_string(), payload.to_string())
}

#[test]
fn clients_of_a_mount_point_see_what_is_below_it_and_not_its_name() {
    for version in ALL {
        for qos in QOS {
            let mut world = world();
            let outside = client_at(&mut world, PLAIN, V5, "outside");
            let inside = client_at(&mut world, GARDEN, version, "inside");
            let next_door = client_at(&mut world, HOUSE, version, "next door");
            for client in [outside, inside, next_door] {
                world.subscribe(client, "#", qos);
            }
            let mut publish = |listener, topic, payload| {
                let publisher = client_at(&mut world, listener, version, "publisher");
                world.publish_as(publisher, qos, topic, payload);
            };
            publish(GARDEN, "gate", "open");
            publish(PLAIN, "garden/lamp", "on");
            publish(PLAIN, "roof", "wet");
            let seen = [message("gate", "open"), message("lamp", "on")];
            assert_eq!(messages(&mut world, inside), seen, "{version:?} {qos:?}");
            assert_eq!(messages(&mut world, next_door), []);
            let all = [
                message("garden/gate", "open"),
                message("garden/lamp", "on"),
                message("roof", "wet"),
            ];
            assert_eq!(messages(&mut world, outside), all);
        }
    }
}

#[test]
fn many_behind_different_prefixes_get_each_its_own_name_of_a_message() {
    let mut world = world();
    let mut clients = vec![];
    for (number, listener) in [PLAIN, GARDEN, PLAIN, GARDEN].into_iter().enumerate() {
        for version in ALL {
            let id = format!("{version:?} {number}");
            let client = client_at(&mut world, listener, version, &id);
            let filter = if listener == PLAIN { "garden/+" } else { "+" };
            world.subscribe(client, filter, QoS::AtLeastOnce);
            clients.push((client, listener));
        }
    }
    let publisher = client_at(&mut world, GARDEN, V5, "publisher");
    let large = "x".repeat(5_000);
    for payload in ["small", &large] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            world.publish_as(publisher, qos, "gate", payload);
            for (client, listener) in &clients {
                let topic = ["garden/gate", "gate"][*listener];
                assert_eq!(messages(&mut world, *client), [message(topic, payload)]);
            }
        }
    }
}

#[test]
fn what_waits_for_a_client_is_sent_by_its_name_below_the_mount_point() {
    for version in ALL {
        let mut world = world();
        let hour = expiry(3_600);
        world.listener = GARDEN;
        let client = world.connect(durable(version, "inside", &hour));
        world.subscribe(client, "gate", QoS::AtLeastOnce);
        world.lose(client);
        let outside = client_at(&mut world, PLAIN, V5, "outside");
        world.publish_as(outside, QoS::AtLeastOnce, "garden/gate", "open");
        world.publish_as(outside, QoS::AtLeastOnce, "gate", "another");
        world.listener = GARDEN;
        let client = world.try_connect(durable(version, "inside", &hour));
        // Sent, and again as it was not acknowledged.
        let received = world.publishes(client);
        assert_eq!(received[0].publish().topic, "gate");
        world.lose(client);
        let client = world.try_connect(durable(version, "inside", &hour));
        let received = world.publishes(client);
        assert!(received[0].publish().dup);
        assert_eq!(received[0].publish().topic, "gate");
        assert_eq!(received.len(), 1);
    }
}

#[test]
fn what_is_retained_has_its_full_name() {
    for version in ALL {
        let mut world = world();
        let inside = client_at(&mut world, GARDEN, version, "inside");
        world.send(inside, &Packet::Publish(retained("gate", "open")));
        let outside = client_at(&mut world, PLAIN, version, "outside");
        world.subscribe(outside, "garden/gate", QoS::AtMostOnce);
        assert_eq!(
            messages(&mut world, outside),
            [message("garden/gate", "open")]
        );
        // The filter garden/# matches the topic above it too, which has no name below it.
        world.send(outside, &Packet::Publish(retained("garden", "above")));
        world.send(outside, &Packet::Publish(retained("garden/", "above")));
        for qos in QOS {
            let fresh = client_at(&mut world, GARDEN, version, "fresh");
            world.subscribe(fresh, "#", qos);
            assert_eq!(messages(&mut world, fresh), [message("gate", "open")]);
        }
        // Cleared from inside.
        world.send(inside, &Packet::Publish(retained("gate", "")));
        let cleared = [message("garden/gate", "")];
        assert_eq!(messages(&mut world, outside), cleared);
        world.subscribe(outside, "garden/+", QoS::AtMostOnce);
        let left = [message("garden/", "above")];
        assert_eq!(messages(&mut world, outside), left);
    }
}

#[test]
fn a_will_is_published_below_the_mount_point() {
    for version in ALL {
        let mut world = world();
        let outside = client_at(&mut world, PLAIN, V5, "outside");
        world.subscribe(outside, "#", QoS::AtMostOnce);
        world.listener = GARDEN;
        let client = world.connect(Connect {
            will: Some(will("gone")),
            ..connect(version, "inside")
        });
        world.lose(client);
        assert_eq!(
            messages(&mut world, outside),
            [message("garden/gone", "bye")]
        );
        // A name that is none stays none.
        for topic in ["", "a/+", "#"] {
            let refused = world.try_connect(Connect {
                will: Some(will(topic)),
                ..connect(V5, "inside")
            });
            world.expect_refused(refused, R::MalformedPacket);
        }
    }
}

#[test]
fn the_will_of_a_client_that_waited_for_its_password_has_the_prefix_once() {
    let guarded = listeners().into_iter().map(|options| ListenerOptions {
        passwords: true,
        ..options
    });
    let guarded = guarded.collect();
    let mut world = World::with(Options {
        listeners: guarded,
        ..Options::default()
    });
    let outside = client_at(&mut world, PLAIN, V5, "outside");
    world.subscribe(outside, "#", QoS::AtMostOnce);
    world.listener = GARDEN;
    let client = world.try_connect(Connect {
        will: Some(will("gone")),
        user_name: Some("user"),
        password: Some(b"secret"),
        ..connect(V5, "inside")
    });
    world.answer(Verdict::Right);
    world.lose(client);
    let seen = [message("garden/gone", "bye")];
    assert_eq!(messages(&mut world, outside), seen);
}

fn will(topic: &str) -> Will<'_> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic,
        payload: b"bye",
    }
}

#[test]
fn whoever_unsubscribes_below_a_mount_point_gets_no_more() {
    for version in ALL {
        let mut world = world();
        let inside = client_at(&mut world, GARDEN, version, "inside");
        world.subscribe(inside, "gate", QoS::AtMostOnce);
        world.send(inside, &unsubscribe(2, &["garden/gate", "gate"]));
        let answer = world.read(inside);
        if version == V5 {
            assert_eq!(answer.reasons(), [R::NoSubscriptionExisted, R::Success]);
        }
        world.publish(inside, "gate", "open");
        world.expect_nothing(inside);
    }
}

#[test]
fn a_group_shares_what_is_below_the_mount_point_of_its_members() {
    let mut world = world();
    let inside: Vec<Client> = (0..2)
        .map(|number| {
            let client = client_at(&mut world, GARDEN, V5, &format!("inside {number}"));
            world.subscribe(client, "$share/g/gate", QoS::AtLeastOnce);
            client
        })
        .collect();
    let next_door = client_at(&mut world, HOUSE, V5, "next door");
    world.subscribe(next_door, "$share/g/gate", QoS::AtLeastOnce);
    // A member that came through another listener, and asks for the same by its full name.
    let outside = client_at(&mut world, PLAIN, V5, "outside");
    world.subscribe(outside, "$share/g/garden/gate", QoS::AtLeastOnce);
    let publisher = client_at(&mut world, GARDEN, V5, "publisher");
    for number in 0..6 {
        let payload = number.to_string();
        world.publish_as(publisher, QoS::AtLeastOnce, "gate", &payload);
    }
    let mut got = vec![];
    for client in inside {
        let messages = messages(&mut world, client);
        assert!(messages.iter().all(|(topic, _)| topic == "gate"));
        got.push(messages.len());
    }
    let full = messages(&mut world, outside);
    assert!(full.iter().all(|(topic, _)| topic == "garden/gate"));
    got.push(full.len());
    assert_eq!(got, [2, 2, 2]);
    assert_eq!(messages(&mut world, next_door), []);
    // They leave the group by the name that they know.
    world.send(next_door, &unsubscribe(2, &["$share/g/gate"]));
    assert_eq!(world.read(next_door).reasons(), [R::Success]);
}

#[test]
fn the_servers_figures_are_outside_of_every_mount_point() {
    for version in ALL {
        let mut world = world();
        let inside = client_at(&mut world, GARDEN, version, "inside");
        world.subscribe(inside, "$SYS/#", QoS::AtMostOnce);
        world.advance(secs(30));
        world.expect_nothing(inside);
        // What it calls so is a topic like any other.
        world.publish(inside, "$SYS/broker/uptime", "mine");
        let own = [message("$SYS/broker/uptime", "mine")];
        assert_eq!(messages(&mut world, inside), own);
    }
}

#[test]
fn aliases_stand_for_names_below_the_mount_point() {
    let mut world = world();
    let outside = client_at(&mut world, PLAIN, V5, "outside");
    world.subscribe(outside, "garden/#", QoS::AtMostOnce);
    world.listener = GARDEN;
    let mut block = PropertyBlock::new();
    block.number(P::TopicAliasMaximum, 5);
    let inside = world.connect(Connect {
        properties: block.as_properties(),
        ..connect(V5, "inside")
    });
    world.subscribe(inside, "#", QoS::AtMostOnce);
    let mut alias = PropertyBlock::new();
    alias.number(P::TopicAlias, 1);
    for (topic, payload) in [
        ("gate", "one"),
        ("", "two"),
        ("lamp", "three"),
        ("", "four"),
    ] {
        let publish = Publish {
            properties: alias.as_properties(),
            ..publish(topic, payload)
        };
        world.send(inside, &Packet::Publish(publish));
    }
    let full = ["garden/gate", "garden/gate", "garden/lamp", "garden/lamp"];
    let topics: Vec<String> = messages(&mut world, outside)
        .into_iter()
        .map(|(topic, _)| topic)
        .collect();
    assert_eq!(topics, full);
    // And the broker's own: each name is sent once, then its alias.
    let received = world.publishes(inside);
    let sent: Vec<_> = received
        .iter()
        .map(|one| {
            let publish = one.publish();
            (publish.topic, publish.properties.number(P::TopicAlias))
        })
        .collect();
    let expected = [
        ("gate", Some(1)),
        ("", Some(1)),
        ("lamp", Some(2)),
        ("", Some(2)),
    ];
    assert_eq!(sent, expected);
}

#[test]
fn a_response_topic_is_passed_on_unaltered() {
    let mut world = world();
    let outside = client_at(&mut world, PLAIN, V5, "outside");
    world.subscribe(outside, "#", QoS::AtMostOnce);
    let inside = client_at(&mut world, GARDEN, V5, "inside");
    world.subscribe(inside, "#", QoS::AtMostOnce);
    let mut block = PropertyBlock::new();
    block.text(P::ResponseTopic, "answers/here");
    let request = Publish {
        properties: block.as_properties(),
        ..publish("ask", "?")
    };
    world.send(inside, &Packet::Publish(request));
    for client in [outside, inside] {
        let received = world.read(client);
        let topic = received.publish().properties.text(P::ResponseTopic);
        assert_eq!(topic, Some("answers/here")); // [MQTT-3.3.2-15]
    }
}

#[test]
fn a_session_that_comes_back_through_another_listener_sees_what_that_one_shows() {
    for version in ALL {
        let mut world = world();
        let hour = expiry(3_600);
        world.listener = PLAIN;
        let client = world.connect(durable(version, "rover", &hour));
        for filter in ["garden/gate", "house/door", "roof"] {
            world.subscribe(client, filter, QoS::AtLeastOnce);
        }
        world.lose(client);
        let outside = client_at(&mut world, PLAIN, V5, "outside");
        for topic in ["garden/gate", "house/door", "roof"] {
            world.publish_as(outside, QoS::AtLeastOnce, topic, "kept");
        }
        world.listener = GARDEN;
        let client = world.try_connect(durable(version, "rover", &hour));
        let seen = [message("gate", "kept")];
        assert_eq!(messages(&mut world, client), seen);
        // Live ones too; what it may not see takes no place in its window.
        for number in 0..50 {
            world.publish_as(outside, QoS::AtLeastOnce, "roof", "wet");
            let payload = number.to_string();
            world.publish_as(outside, QoS::AtLeastOnce, "garden/gate", &payload);
            let seen = [message("gate", &payload)];
            assert_eq!(messages(&mut world, client), seen);
        }
        world.lose(client);
        // By its full name, where there is no prefix; what it could not see it is not sent now.
        world.publish_as(outside, QoS::AtLeastOnce, "roof", "dry");
        world.publish_as(outside, QoS::AtLeastOnce, "garden/gate", "open");
        world.listener = PLAIN;
        let client = world.try_connect(durable(version, "rover", &hour));
        let seen = [message("garden/gate", "open")];
        assert_eq!(messages(&mut world, client), seen);
    }
}

/// It could not unsubscribe from them either: they would fill its queue with what it cannot see.
#[test]
fn subscriptions_from_before_a_mount_point_do_not_push_out_what_is_wanted() {
    let mut options = Options {
        listeners: listeners(),
        ..Options::default()
    };
    options.limits.queued_messages_max = 5;
    let mut world = World::with(options);
    let hour = expiry(3_600);
    world.listener = PLAIN;
    let rover = world.connect(durable(V5, "rover", &hour));
    for filter in ["gate", "$share/g/gate"] {
        world.subscribe(rover, filter, QoS::AtLeastOnce);
    }
    world.lose(rover);
    world.listener = GARDEN;
    let rover = world.try_connect(durable(V5, "rover", &hour));
    assert!(world.read(rover).connack().session_present);
    world.subscribe(rover, "gate", QoS::AtLeastOnce);
    messages(&mut world, rover);
    world.lose(rover);
    let outside = client_at(&mut world, PLAIN, V5, "outside");
    for _ in 0..5 {
        world.publish_as(outside, QoS::AtLeastOnce, "gate", "unseen");
    }
    world.publish_as(outside, QoS::AtLeastOnce, "garden/gate", "wanted");
    world.listener = GARDEN;
    let rover = world.try_connect(durable(V5, "rover", &hour));
    assert_eq!(messages(&mut world, rover), [message("gate", "wanted")]);
}

#[test]
fn what_was_sent_by_its_full_name_is_not_sent_again_to_who_may_not_see_it() {
    for version in ALL {
        let mut world = world();
        let hour = expiry(3_600);
        world.listener = PLAIN;
        let client = world.connect(durable(version, "rover", &hour));
        world.subscribe(client, "roof", QoS::ExactlyOnce);
        let outside = client_at(&mut world, PLAIN, V5, "outside");
        world.publish_as(outside, QoS::ExactlyOnce, "roof", "wet");
        assert_eq!(world.publishes(client).len(), 1);
        world.lose(client);
        world.listener = GARDEN;
        let client = world.try_connect(durable(version, "rover", &hour));
        assert_eq!(messages(&mut world, client), []);
        // Its place is free again, for what comes next.
        world.subscribe(client, "gate", QoS::ExactlyOnce);
        world.publish_as(outside, QoS::ExactlyOnce, "garden/gate", "open");
        assert_eq!(messages(&mut world, client), [message("gate", "open")]);
    }
}

#[test]
fn a_member_that_may_not_see_a_message_does_not_take_it_from_its_group() {
    let mut world = world();
    let hour = expiry(3_600);
    world.listener = PLAIN;
    let rover = world.connect(durable(V5, "rover", &hour));
    world.subscribe(rover, "$share/g/roof", QoS::AtLeastOnce);
    world.lose(rover);
    let other = client_at(&mut world, PLAIN, V5, "other");
    world.subscribe(other, "$share/g/roof", QoS::AtLeastOnce);
    world.listener = GARDEN;
    let rover = world.try_connect(durable(V5, "rover", &hour));
    let publisher = client_at(&mut world, PLAIN, V5, "publisher");
    for _ in 0..4 {
        world.publish_as(publisher, QoS::AtLeastOnce, "roof", "wet");
    }
    assert_eq!(messages(&mut world, rover), []);
    assert_eq!(messages(&mut world, other).len(), 4);
}

#[test]
fn with_the_prefix_a_topic_may_be_too_long_or_too_deep() {
    let long = "x".repeat(usize::from(u16::MAX) - 3);
    let deep = "/".repeat(topic::TOPIC_LEVELS_MAX - 1);
    for topic in [&long, &deep] {
        let mut world = world();
        let outside = client_at(&mut world, PLAIN, V5, "outside");
        // As it stands it is one.
        world.subscribe(outside, topic, QoS::AtMostOnce);
        world.publish(outside, topic, "");
        assert_eq!(world.publishes(outside).len(), 1);
        let inside = client_at(&mut world, GARDEN, V5, "inside");
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters = [("fits", options), (topic, options)];
        world.send(inside, &subscribe(1, &filters));
        assert_eq!(
            world.read(inside).reasons(),
            [R::Success, R::TopicFilterInvalid]
        );
        world.send(inside, &unsubscribe(2, &[topic]));
        assert_eq!(world.read(inside).reasons(), [R::TopicFilterInvalid]);
        world.publish(inside, topic, "");
        world.expect_disconnect(inside, R::TopicNameInvalid);
        let refused = world.try_connect(Connect {
            will: Some(will(topic)),
            ..connect(V5, "inside")
        });
        world.expect_refused(refused, R::TopicNameInvalid);
    }
}

/// Mosquitto takes such a prefix too; a filter that begins with a wildcard has no full name then.
#[test]
fn a_prefix_that_ends_within_a_level_leaves_no_wildcard_in_that_level() {
    let mut options = Options {
        listeners: listeners(),
        ..Options::default()
    };
    options.listeners[GARDEN].mount_point = Some("garden".into());
    let mut world = World::with(options);
    let inside = client_at(&mut world, GARDEN, V311, "inside");
    let wanted = SubscriptionOptions::new(QoS::AtMostOnce);
    let filters = [("#", wanted), ("+/a", wanted), ("/#", wanted)];
    world.send(inside, &subscribe(1, &filters));
    let answer = world.read(inside);
    assert_eq!(answer.reasons().len(), 3);
    assert_eq!(answer.bytes[4..], [0x80, 0x80, 0]);
    world.publish(inside, "/gate", "open");
    assert_eq!(messages(&mut world, inside), [message("/gate", "open")]);
}

#[test]
fn no_local_holds_below_a_mount_point() {
    let mut world = world();
    let inside = client_at(&mut world, GARDEN, V5, "inside");
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    world.subscribe_with(inside, "gate", options);
    world.publish(inside, "gate", "own");
    world.expect_nothing(inside);
}

#[test]
fn rules_are_about_full_names() {
    for version in ALL {
        let mut world = world();
        let rules = "topic readwrite garden/gate\ntopic read garden/lamp\ntopic readwrite roof\n";
        let file = acl_file::parse("rules", rules.as_bytes()).unwrap();
        let of_listeners = vec![Some(0); listeners().len()];
        world.broker.set_acls(vec![file], &of_listeners);
        let inside = client_at(&mut world, GARDEN, version, "inside");
        world.subscribe(inside, "#", QoS::AtMostOnce);
        for topic in ["gate", "lamp", "roof", "garden/gate"] {
            world.publish(inside, topic, "mine");
        }
        assert_eq!(messages(&mut world, inside), [message("gate", "mine")]);
        // A will too.
        let watcher = client_at(&mut world, PLAIN, V5, "watcher");
        world.subscribe(watcher, "#", QoS::AtMostOnce);
        world.listener = GARDEN;
        for topic in ["roof", "gate"] {
            let client = world.connect(Connect {
                will: Some(will(topic)),
                ..connect(version, topic)
            });
            world.lose(client);
        }
        let seen = [message("garden/gate", "bye")];
        assert_eq!(messages(&mut world, watcher), seen);
    }
}
