//! Where the broker asks what the ACL file says, on a virtual clock.

use midge::broker::limits::{Limits, ListenerOptions, Options};
use midge::broker::{Turn, acl_file};
use midge::packet::{
    Ack, Connect, Packet, Properties, PropertyId, QoS, ReasonCode, SubscriptionOptions, Version,
    Will,
};

use crate::common::{
    Client, World, ack, connect, durable, expiry, numbers, publish, publish_qos, retained, secs,
    subscribe,
};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A broker with that ACL file.
fn world(text: &str) -> World {
    let mut world = World::new();
    load(&mut world, text);
    world
}

/// The file is another one from now on.
fn load(world: &mut World, text: &str) {
    let file = acl_file::parse("acl", text.as_bytes()).expect("it is a good file");
    world.broker.set_acls(vec![file], &[Some(0)]);
    world.broker.check_invariants();
}

fn user<'a>(version: Version, name: &'a str, id: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some(name),
        ..connect(version, id)
    }
}

/// A client that may do everything, and sees all.
fn root(world: &mut World) -> Client {
    let root = world.connect(user(Version::V5, "root", "root"));
    world.subscribe(root, "#", QoS::AtMostOnce);
    root
}

const ROOT: &str = "user root\ntopic readwrite #\n";

// ---- listeners ----------------------------------------------------------------------------------

/// Through the first listener nothing secret goes, through the second all, and the third has no
/// rules.
fn three_listeners() -> World {
    let mut world = World::with(Options {
        listeners: vec![ListenerOptions::default(); 3],
        ..Options::default()
    });
    load_by_listener(&mut world, "topic readwrite #\ntopic deny secret/#\n");
    world
}

fn load_by_listener(world: &mut World, first: &str) {
    let file = |text: &str| acl_file::parse("acl", text.as_bytes()).expect("it is a good file");
    let files = vec![file("topic readwrite secret/#\n"), file(first)];
    world.broker.set_acls(files, &[Some(1), Some(0), None]);
    world.broker.check_invariants();
}

fn through(world: &mut World, listener: usize, id: &str) -> Client {
    world.listener = listener;
    world.client(Version::V5, id)
}

#[test]
fn each_listener_has_its_own_rules() {
    let mut world = three_listeners();
    let clients: Vec<Client> = (0..3)
        .map(|listener| through(&mut world, listener, &format!("c{listener}")))
        .collect();
    for client in &clients {
        world.subscribe(*client, "#", QoS::AtMostOnce);
    }
    let mut publish = |from: usize, topic| {
        let message = publish_qos(QoS::AtLeastOnce, 7, topic, topic);
        world.send(clients[from], &Packet::Publish(message));
        let mut reasons = Vec::new();
        let mut readers = Vec::new();
        for (index, client) in clients.iter().enumerate() {
            while let Some(packet) = world.try_read(*client) {
                match packet.packet() {
                    Packet::PubAck(ack) => reasons.push(ack.reason),
                    Packet::Publish(_) => readers.push(index),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(reasons.len(), 1);
        (reasons[0] == ReasonCode::Success, readers)
    };
    assert_eq!(publish(0, "a"), (true, vec![0, 2]));
    assert_eq!(publish(0, "secret/a"), (false, vec![]));
    assert_eq!(publish(1, "a"), (false, vec![]));
    assert_eq!(publish(1, "secret/a"), (true, vec![1, 2]));
    assert_eq!(publish(2, "a"), (true, vec![0, 2]));
    assert_eq!(publish(2, "secret/a"), (true, vec![1, 2]));
}

#[test]
fn what_is_retained_is_judged_by_the_rules_of_the_listener_it_came_through() {
    let mut world = three_listeners();
    let (first, third) = (through(&mut world, 0, "a"), through(&mut world, 2, "c"));
    world.send(first, &Packet::Publish(retained("one", "1")));
    world.send(third, &Packet::Publish(retained("two", "2")));
    load_by_listener(&mut world, "topic read #\n");
    let reader = through(&mut world, 2, "reader");
    world.subscribe(reader, "#", QoS::AtMostOnce);
    assert_eq!(
        world.payloads(reader),
        ["2"],
        "the first may no longer write"
    );
}

#[test]
fn a_client_that_comes_back_through_another_listener_has_the_rules_of_that() {
    let mut world = three_listeners();
    for (listener, expected) in [(0, &["a"][..]), (1, &["secret/b"]), (0, &["a"])] {
        world.listener = listener;
        let client = world.connect(durable(Version::V5, "same", &expiry(100)));
        world.subscribe(client, "#", QoS::AtMostOnce);
        let writer = through(&mut world, 2, "writer");
        for topic in ["a", "secret/b"] {
            world.publish(writer, topic, topic);
        }
        assert_eq!(world.payloads(client), expected);
    }
}

// ---- publishing ---------------------------------------------------------------------------------

#[test]
fn a_v5_client_is_told_that_it_may_not_publish() {
    let mut world = world(&format!("topic write ok\n{ROOT}"));
    let root = root(&mut world);
    let client = world.client(Version::V5, "a");
    let refused = Ack::new(7, ReasonCode::NotAuthorized);
    world.send(
        client,
        &Packet::Publish(publish_qos(QoS::AtLeastOnce, 7, "no", "x")),
    );
    assert_eq!(ack_of(&mut world, client), refused);
    world.send(
        client,
        &Packet::Publish(publish_qos(QoS::ExactlyOnce, 7, "no", "x")),
    );
    assert_eq!(ack_of(&mut world, client), refused);
    // The Packet Identifier is free again, and nothing else has changed.
    world.send(
        client,
        &Packet::Publish(publish_qos(QoS::ExactlyOnce, 7, "ok", "y")),
    );
    assert_eq!(ack_of(&mut world, client), ack(7));
    assert_eq!(world.payloads(root), ["y"]);
}

/// Without its Reason String.
fn ack_of(world: &mut World, client: Client) -> Ack<'static> {
    match world.read(client).packet() {
        Packet::PubAck(ack) | Packet::PubRec(ack) => Ack::new(ack.packet_id, ack.reason),
        other => panic!("expected an acknowledgement, got {other:?}"),
    }
}

#[test]
fn an_older_client_is_acknowledged_and_its_message_dropped() {
    for version in [Version::V31, Version::V311] {
        let mut world = world(ROOT);
        let root = root(&mut world);
        let client = world.client(version, "a");
        world.send(
            client,
            &Packet::Publish(publish_qos(QoS::AtLeastOnce, 7, "no", "x")),
        );
        world.expect(client, &Packet::PubAck(ack(7)));
        world.send(
            client,
            &Packet::Publish(publish_qos(QoS::ExactlyOnce, 8, "no", "x")),
        );
        world.expect(client, &Packet::PubRec(ack(8)));
        world.send(client, &Packet::PubRel(ack(8)));
        world.expect(client, &Packet::PubComp(ack(8)));
        world.expect_nothing(root);
    }
}

#[test]
fn what_may_not_be_published_is_not_retained_and_clears_nothing() {
    let mut world = world(ROOT);
    let root = root(&mut world);
    world.send(root, &Packet::Publish(retained("t", "kept")));
    let client = world.client(Version::V311, "a");
    world.send(client, &Packet::Publish(retained("t", "other")));
    world.send(client, &Packet::Publish(retained("t", "")));
    let late = world.connect(user(Version::V311, "root", "late"));
    world.subscribe(late, "t", QoS::AtMostOnce);
    assert_eq!(world.payloads(late), ["kept"]);
}

#[test]
fn a_message_of_qos_0_that_may_not_be_published_is_counted() {
    let mut world = world("user root\ntopic readwrite #\ntopic read $SYS/#\n");
    let client = world.client(Version::V5, "a");
    for _ in 0..3 {
        world.publish(client, "no", "x");
        world.expect_nothing(client);
    }
    world.advance(secs(11));
    let root = world.connect(user(Version::V5, "root", "root"));
    world.subscribe(
        root,
        "$SYS/broker/publish/messages/dropped",
        QoS::AtMostOnce,
    );
    assert_eq!(world.payloads(root), ["3"]);
}

#[test]
fn a_topic_alias_hides_nothing() {
    let mut world = world(&format!("topic write ok\n{ROOT}"));
    let root = root(&mut world);
    let client = world.client(Version::V5, "a");
    let mut block = midge::packet::PropertyBlock::new();
    block.number(midge::packet::PropertyId::TopicAlias, 1);
    for topic in ["no", ""] {
        let properties = block.as_properties();
        let publish = publish_qos(QoS::AtLeastOnce, 7, topic, "x");
        world.send(
            client,
            &Packet::Publish(midge::packet::Publish {
                properties,
                ..publish
            }),
        );
        assert_eq!(ack_of(&mut world, client).reason, ReasonCode::NotAuthorized);
    }
    world.expect_nothing(root);
}

// ---- delivery -----------------------------------------------------------------------------------

#[test]
fn subscribing_always_succeeds_and_only_what_may_be_read_is_sent() {
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut world = world(&format!(
                "{ROOT}user alice\ntopic read a/#\ntopic deny a/secret\n"
            ));
            let root = root(&mut world);
            let alice = world.connect(user(version, "alice", "a"));
            let bob = world.connect(user(version, "bob", "b"));
            world.subscribe(alice, "#", qos);
            world.subscribe(alice, "+/+", qos);
            world.subscribe(bob, "#", qos);
            for topic in ["a/x", "a/secret", "b", "a"] {
                world.send(
                    root,
                    &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, topic, topic)),
                );
            }
            assert_eq!(world.payloads(alice), ["a/x", "a"]);
            world.expect_nothing(bob);
        }
    }
}

#[test]
fn a_publisher_is_told_that_nobody_may_read_it() {
    let mut world = world("topic write t\n");
    let subscriber = world.client(Version::V5, "s");
    world.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = world.client(Version::V5, "p");
    world.send(
        publisher,
        &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, "t", "x")),
    );
    let expected = Ack::new(1, ReasonCode::NoMatchingSubscribers);
    assert_eq!(ack_of(&mut world, publisher), expected);
}

#[test]
fn a_shared_subscription_chooses_a_member_that_may_read() {
    let mut world = world(&format!("{ROOT}user alice\ntopic read t\n"));
    let publisher = world.connect(user(Version::V5, "root", "p"));
    let members: Vec<Client> = [("bob", "b"), ("alice", "a1"), ("eve", "e"), ("alice", "a2")]
        .map(|(name, id)| world.connect(user(Version::V5, name, id)))
        .to_vec();
    for member in &members {
        world.subscribe(*member, "$share/g/t", QoS::AtLeastOnce);
    }
    for n in 0..20 {
        world.publish(publisher, "t", &n.to_string());
    }
    let counts: Vec<usize> = members
        .iter()
        .map(|one| world.payloads(*one).len())
        .collect();
    assert_eq!((counts[0], counts[2]), (0, 0));
    assert_eq!(counts[1] + counts[3], 20);
    assert!(counts[1] > 0 && counts[3] > 0, "{counts:?}");
}

#[test]
fn what_a_member_leaves_behind_goes_to_one_that_may_read_it() {
    let mut world = world(&format!("{ROOT}user alice\ntopic read t\n"));
    let alice = world.connect(user(Version::V5, "alice", "a"));
    let eve = world.connect(user(Version::V5, "eve", "e"));
    for member in [alice, eve] {
        world.subscribe(member, "$share/g/t", QoS::AtLeastOnce);
    }
    let publisher = world.connect(user(Version::V5, "root", "p"));
    world.send(
        publisher,
        &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, "t", "x")),
    );
    assert_eq!(world.payloads(alice), ["x"]);
    let again = world.connect(user(Version::V5, "alice", "again"));
    world.subscribe(again, "$share/g/t", QoS::AtLeastOnce);
    world.lose(alice);
    world.expect_nothing(eve);
    assert_eq!(world.payloads(again), ["x"]);
}

#[test]
fn sys_topics_are_read_by_those_who_have_a_line_for_them() {
    let mut world = world("user a\ntopic read $SYS/broker/uptime\nuser b\ntopic read #\n");
    for (name, count) in [("a", 1), ("b", 0)] {
        let client = world.connect(user(Version::V5, name, name));
        world.subscribe(client, "$SYS/#", QoS::AtMostOnce);
        assert_eq!(world.payloads(client).len(), count, "{name}");
        world.advance(secs(11));
        assert_eq!(world.payloads(client).len(), count, "{name}");
    }
}

// ---- wills --------------------------------------------------------------------------------------

fn with_will<'a>(version: Version, id: &'a str, topic: &'a str) -> Connect<'a> {
    Connect {
        will: Some(Will {
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            properties: Properties::NONE,
            payload: b"gone",
        }),
        ..connect(version, id)
    }
}

#[test]
fn a_will_that_may_not_be_published_is_not_and_its_client_is_let_in() {
    for version in VERSIONS {
        for (id, expected) in [("a", &[][..]), ("w", &["gone"])] {
            let mut world = world(&format!("pattern write will/%c\n{ROOT}"));
            let root = root(&mut world);
            let client = world.connect(with_will(version, id, "will/w"));
            world.lose(client);
            assert_eq!(world.payloads(root), expected, "{id}");
        }
    }
}

#[test]
fn a_will_is_not_published_where_rules_have_changed() {
    for (rules, expected) in [
        ("topic write will\n", &["gone"][..]),
        ("topic read will\n", &[]),
    ] {
        let mut world = world(&format!("topic write will\n{ROOT}"));
        let root = root(&mut world);
        let client = world.connect(with_will(Version::V5, "a", "will"));
        load(&mut world, &format!("{rules}{ROOT}"));
        world.lose(client);
        assert_eq!(world.payloads(root), expected);
    }
}

// ---- what is retained ---------------------------------------------------------------------------

/// It connected when there were no rules, and did not bring a name.
#[test]
fn the_will_of_who_is_away_when_the_first_rules_come_is_judged_by_them() {
    for (rules, expected) in [("topic read #\n", &[][..]), ("topic readwrite #\n", &["w"])] {
        let mut world = World::new();
        let (delay, expiry) = (
            numbers(&[(PropertyId::WillDelayInterval, 30)]),
            expiry(3_600),
        );
        let client = world.connect(Connect {
            will: Some(Will {
                qos: QoS::AtLeastOnce,
                retain: true,
                properties: delay.as_properties(),
                topic: "t",
                payload: b"w",
            }),
            ..durable(Version::V5, "away", &expiry)
        });
        world.lose(client);
        load(&mut world, rules);
        let reader = world.client(Version::V5, "reader");
        world.subscribe(reader, "#", QoS::AtMostOnce);
        world.advance(secs(31));
        assert_eq!(world.payloads(reader), expected, "{rules}");
    }
}

#[test]
fn retained_messages_are_sent_to_those_who_may_read_them() {
    let mut world = world(&format!(
        "{ROOT}user alice\ntopic read a/+\ntopic deny a/2\n"
    ));
    let publisher = world.connect(user(Version::V5, "root", "p"));
    for topic in ["a/1", "a/2", "a/3", "b/1"] {
        world.send(publisher, &Packet::Publish(retained(topic, topic)));
    }
    let alice = world.connect(user(Version::V5, "alice", "a"));
    world.subscribe(alice, "#", QoS::AtLeastOnce);
    assert_eq!(world.payloads(alice), ["a/1", "a/3"]);
}

#[test]
fn a_retained_message_is_not_sent_once_its_publisher_may_not_write_it() {
    let before = "user eve\ntopic write t/#\nuser r\ntopic read #\n";
    let mut world = world(before);
    let eve = world.connect(user(Version::V5, "eve", "e"));
    for topic in ["t/1", "t/2"] {
        world.send(eve, &Packet::Publish(retained(topic, topic)));
    }
    // It need not be there any more.
    world.disconnect(eve);
    load(&mut world, &before.replace("write t/#", "write t/2"));
    let reader = world.connect(user(Version::V5, "r", "r"));
    world.subscribe(reader, "#", QoS::AtMostOnce);
    assert_eq!(world.payloads(reader), ["t/2"]);
    load(&mut world, before);
    world.subscribe(reader, "#", QoS::AtMostOnce);
    assert_eq!(world.payloads(reader), ["t/1", "t/2"]);
}

/// Looking at what it may not read costs time, and brings the client nothing that it would have to
/// take first.
#[test]
fn who_subscribes_again_and_again_is_served_once_more_at_the_end_of_the_turn() {
    let mut world = world(&format!("{ROOT}user alice\ntopic read t/099\n"));
    let publisher = world.connect(user(Version::V5, "root", "p"));
    for number in 0..100 {
        let topic = format!("t/{number:03}");
        world.send(publisher, &Packet::Publish(retained(&topic, &topic)));
    }
    let alice = world.connect(user(Version::V5, "alice", "a"));
    let filters = [("t/+", SubscriptionOptions::new(QoS::AtMostOnce))];
    let mut packets = Vec::new();
    for id in 1..=50 {
        subscribe(id, &filters).encode(Version::V5, &mut packets);
    }
    world.send_bytes(alice, &packets);
    assert_eq!(world.payloads(alice), ["t/099", "t/099"]);
    // In another turn it is another matter.
    world.subscribe(alice, "t/+", QoS::AtMostOnce);
    assert_eq!(world.payloads(alice), ["t/099"]);
}

#[test]
fn a_queue_that_may_not_be_read_any_more_is_not_dropped_in_one_turn() {
    let mut world = world(&format!("{ROOT}user alice\ntopic read t\n"));
    let block = expiry(3_600);
    let session = Connect {
        user_name: Some("alice"),
        ..durable(Version::V5, "a", &block)
    };
    let alice = world.connect(session);
    world.subscribe(alice, "t", QoS::AtLeastOnce);
    world.disconnect(alice);
    let publisher = world.connect(user(Version::V5, "root", "p"));
    let mut packets = Vec::new();
    for id in 1..=2_500 {
        let publish = publish_qos(QoS::AtLeastOnce, id, "t", "x");
        Packet::Publish(publish).encode(Version::V5, &mut packets);
    }
    world.send_bytes(publisher, &packets);
    load(&mut world, ROOT);
    let alice = world.open(Version::V5);
    let mut packet = Vec::new();
    Packet::Connect(session).encode(Version::V5, &mut packet);
    world.deliver_bytes(alice, &packet);
    let mut turn = Turn::default();
    world.broker.end_turn(&mut turn, world.now);
    let next = world.broker.poll_timeout();
    assert!(next.is_some_and(|at| at <= world.now), "all is done");
    world.turn();
    assert!(world.payloads(alice).is_empty());
    load(&mut world, &format!("{ROOT}user alice\ntopic read t\n"));
    world.publish(publisher, "t", "later");
    assert_eq!(world.payloads(alice), ["later"]);
}

// ---- other rules --------------------------------------------------------------------------------

/// Who reads it is judged all the same.
#[test]
fn what_is_retained_may_outlive_the_right_of_its_publisher() {
    let mut world = World::with(Options {
        check_retain_source: false,
        ..Options::default()
    });
    load(&mut world, "topic readwrite #\n");
    let client = world.client(Version::V5, "publisher");
    for topic in ["a", "b"] {
        world.send(client, &Packet::Publish(retained(topic, topic)));
    }
    load(&mut world, "topic read a\n");
    let replayed = |world: &mut World| {
        let reader = world.client(Version::V5, "reader");
        world.subscribe(reader, "#", QoS::AtMostOnce);
        world.payloads(reader)
    };
    assert_eq!(replayed(&mut world), ["a"]);
    world.broker.set_options(Options::default(), world.now);
    assert_eq!(replayed(&mut world), [""; 0]);
}

#[test]
fn messages_that_waited_are_judged_by_the_rules_when_they_are_sent() {
    let before = format!("{ROOT}user alice\ntopic read a\ntopic read b\n");
    let block = expiry(3_600);
    let session = |version| Connect {
        user_name: Some("alice"),
        ..durable(version, "a", &block)
    };
    for version in [Version::V311, Version::V5] {
        let mut world = world(&before);
        let alice = world.connect(session(version));
        world.subscribe(alice, "#", QoS::ExactlyOnce);
        world.disconnect(alice);
        let publisher = world.connect(user(Version::V5, "root", "p"));
        for topic in ["a", "b", "c"] {
            world.send(
                publisher,
                &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, topic, topic)),
            );
        }
        load(&mut world, &before.replace("read a", "read c"));
        let alice = world.connect(session(version));
        // Of c there is none: it was not to be read when it came.
        assert_eq!(world.payloads(alice), ["b"]);
    }
}

#[test]
fn another_user_of_the_same_client_id_is_not_sent_what_is_not_for_it() {
    let mut world = world(&format!("{ROOT}user alice\ntopic read a\n"));
    let block = expiry(3_600);
    let session = |name| Connect {
        user_name: Some(name),
        ..durable(Version::V5, "id", &block)
    };
    let alice = world.connect(session("alice"));
    world.subscribe(alice, "a", QoS::AtLeastOnce);
    let publisher = world.connect(user(Version::V5, "root", "p"));
    let send = |world: &mut World, payload| {
        let publish = publish_qos(QoS::AtLeastOnce, 1, "a", payload);
        world.send(publisher, &Packet::Publish(publish));
    };
    send(&mut world, "sent");
    assert_eq!(world.payloads(alice), ["sent"]);
    world.lose(alice);
    send(&mut world, "queued");
    let eve = world.connect(session("eve"));
    world.expect_nothing(eve);
    send(&mut world, "new");
    world.expect_nothing(eve);
}

#[test]
fn new_rules_hold_at_once_and_nobody_is_disconnected() {
    let open = format!("{ROOT}user u\ntopic readwrite #\n");
    let mut world = world(&open);
    let root = root(&mut world);
    let one = world.connect(user(Version::V5, "u", "1"));
    world.subscribe(one, "t/#", QoS::AtLeastOnce);
    for round in 0..10 {
        for (rules, passes) in [(&*open, true), (ROOT, false)] {
            load(&mut world, rules);
            for n in 0..5 {
                let topic = format!("t/{n}");
                world.send(
                    one,
                    &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, &topic, "up")),
                );
                let expected = match passes {
                    true => ReasonCode::Success,
                    false => ReasonCode::NotAuthorized,
                };
                assert_eq!(own_ack(&mut world, one), expected, "round {round}");
                let seen = if passes { vec!["up"] } else { vec![] };
                assert_eq!(world.payloads(root), seen);
                world.publish(root, &topic, "down");
                let seen = if passes { vec!["down"] } else { vec![] };
                assert_eq!(world.payloads(one), seen);
                world.payloads(root);
            }
        }
    }
    assert!(world.is_open(one) && world.is_open(root));
}

/// The reason of the acknowledgement; what the client published itself is acknowledged by it.
fn own_ack(world: &mut World, client: Client) -> ReasonCode {
    let mut reason = None;
    for received in world.read_all(client) {
        match received.packet() {
            Packet::PubAck(ack) => reason = Some(ack.reason),
            Packet::Publish(publish) => {
                let id = publish.packet_id.expect("it has QoS 1");
                world.send(client, &Packet::PubAck(ack(id)));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    reason.expect("it was acknowledged")
}

#[test]
fn a_file_that_comes_later_holds_for_those_who_are_connected() {
    let mut world = World::new();
    let named = world.connect(user(Version::V5, "alice", "a"));
    let nameless = world.client(Version::V311, "b");
    for client in [named, nameless] {
        world.subscribe(client, "#", QoS::AtMostOnce);
    }
    let publisher = world.connect(user(Version::V5, "root", "p"));
    load(
        &mut world,
        &format!("topic read b\n{ROOT}user alice\ntopic read a\n"),
    );
    for topic in ["a", "b"] {
        world.publish(publisher, topic, topic);
    }
    assert_eq!(world.payloads(named), ["a"]);
    assert_eq!(world.payloads(nameless), ["b"]);
    world.broker.set_acls(vec![], &[None]);
    world.publish(publisher, "c", "c");
    assert_eq!(world.payloads(named), ["c"]);
    assert_eq!(world.payloads(nameless), ["c"]);
}

#[test]
fn answers_are_remembered_within_limits_and_stay_right() {
    let mut world = world(&format!(
        "{ROOT}user u\ntopic write +/7\ntopic write long/#\n"
    ));
    let root = root(&mut world);
    let client = world.connect(user(Version::V5, "u", "u"));
    let long = "x".repeat(Limits::DECISION_TOPIC_BYTES);
    for _ in 0..2 {
        let mut expected = 0;
        for n in 0..50 * Limits::DECISIONS_PER_SESSION {
            world.publish(client, &format!("{}/{}", n, n % 10), "x");
            expected += usize::from(n % 10 == 7);
        }
        for topic in [format!("long/{long}"), format!("{long}/long")] {
            world.publish(client, &topic, "x");
        }
        assert_eq!(world.payloads(root).len(), expected + 1);
    }
}

// ---- beyond Mosquitto ---------------------------------------------------------------------------

#[test]
fn with_subscribe_lines_a_subscription_needs_one() {
    for version in VERSIONS {
        let mut world = world("topic read #\ntopic subscribe a/#\npattern subscribe %c\n");
        let client = world.client(version, "id");
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        let filters = ["a/+", "#", "id", "$share/g/a/b", "$share/g/b"].map(|f| (f, options));
        world.send(client, &subscribe(1, &filters));
        let received = world.read(client);
        let Packet::SubAck(suback) = received.packet() else {
            panic!("expected SUBACK, got {:?}", received.packet());
        };
        let refused = match version {
            Version::V5 => 0x87,
            Version::V31 | Version::V311 => 0x80,
        };
        let reasons: Vec<u8> = suback.reasons.iter().map(|reason| *reason as u8).collect();
        assert_eq!(reasons, [1, refused, 1, 1, refused]);
    }
}

/// Another user takes the client id, and with it the session.
#[test]
fn who_goes_on_with_a_session_keeps_subscriptions_only_that_it_could_make() {
    let expiry = expiry(3_600);
    let session = |name| Connect {
        user_name: Some(name),
        ..durable(Version::V5, "id", &expiry)
    };
    let mut world = world(&format!(
        "{ROOT}topic subscribe #\nuser bob\ntopic read #\ntopic subscribe public/#\n"
    ));
    let alice = world.connect(session("root"));
    for filter in ["secret/#", "$share/g/secret/#", "public/a"] {
        world.subscribe(alice, filter, QoS::AtLeastOnce);
    }
    world.lose(alice);
    let bob = world.connect(session("bob"));
    let root = world.connect(user(Version::V5, "root", "root"));
    for topic in ["secret/x", "public/a"] {
        world.publish(root, topic, topic);
    }
    assert_eq!(world.payloads(bob), ["public/a"]);
    // They are gone for good.
    world.lose(bob);
    let alice = world.connect(session("root"));
    world.publish(root, "secret/x", "x");
    assert_eq!(world.payloads(alice), [""; 0]);
    world.broker.check_invariants();
}

#[test]
fn with_new_subscribe_lines_a_session_that_goes_on_keeps_what_they_cover() {
    let expiry = expiry(3_600);
    let mut world = world("topic readwrite #\n");
    let client = world.connect(durable(Version::V5, "id", &expiry));
    for filter in ["secret/#", "public/a"] {
        world.subscribe(client, filter, QoS::AtMostOnce);
    }
    load(&mut world, "topic readwrite #\ntopic subscribe public/#\n");
    let both = |world: &mut World, client| {
        for topic in ["secret/x", "public/a"] {
            world.publish(client, topic, topic);
        }
        world.payloads(client)
    };
    let stays = both(&mut world, client);
    assert_eq!(stays, ["secret/x", "public/a"], "nobody takes them away");
    world.lose(client);
    let client = world.connect(durable(Version::V5, "id", &expiry));
    assert_eq!(both(&mut world, client), ["public/a"]);
}

#[test]
fn addresses_decide_where_the_file_says_so() {
    // Everybody in this world comes from 192.0.2.1.
    for (range, expected) in [("192.0.2.0/24", &["x"][..]), ("192.0.3.0/24", &[])] {
        let mut world = world(&format!("address {range}\ntopic read t\n{ROOT}"));
        let client = world.client(Version::V5, "a");
        world.subscribe(client, "t", QoS::AtMostOnce);
        let publisher = world.connect(user(Version::V5, "root", "p"));
        world.publish(publisher, "t", "x");
        assert_eq!(world.payloads(client), expected);
    }
}

/// It was not noted when they connected, as nobody asked.
#[test]
fn a_first_line_about_addresses_holds_for_those_who_are_connected() {
    let mut world = world("topic readwrite #\n");
    let connected = |world: &mut World, address, name| {
        let client = world.accept_from(address, Version::V5);
        world.send(client, &Packet::Connect(user(Version::V5, name, name)));
        assert_eq!(world.read(client).connack().reason, ReasonCode::Success);
        world.subscribe(client, "#", QoS::AtMostOnce);
        client
    };
    let near = connected(&mut world, [10, 0, 0, 1], "near");
    let far = connected(&mut world, [192, 0, 2, 1], "far");
    let lines = "topic write #\naddress 10.0.0.0/8\ntopic read #\n";
    load(&mut world, &format!("user near\n{lines}user far\n{lines}"));
    world.publish(far, "t", "x");
    assert_eq!(world.payloads(near), ["x"]);
    assert_eq!(world.payloads(far), [""; 0]);
}

#[test]
fn a_user_name_has_a_limit() {
    let mut world = World::new();
    let (longest, longer) = ("u".repeat(1_024), "u".repeat(1_025));
    world.connect(user(Version::V5, &longest, "a"));
    let client = world.open(Version::V5);
    world.send(client, &Packet::Connect(user(Version::V5, &longer, "b")));
    match world.read(client).packet() {
        Packet::ConnAck(connack) => {
            assert_eq!(connack.reason, ReasonCode::BadUserNameOrPassword);
        }
        other => panic!("expected CONNACK, got {other:?}"),
    }
}

#[test]
fn messages_to_a_topic_that_is_not_published_by_its_name_alone() {
    let mut world = world(&format!("topic write a\n{ROOT}"));
    let root = root(&mut world);
    let client = world.client(Version::V5, "a");
    for topic in ["a", "a/", "A", "/a", "a/b"] {
        world.send(client, &Packet::Publish(publish(topic, topic)));
    }
    assert_eq!(world.payloads(root), ["a"]);
}

// ---- figures ------------------------------------------------------------------------------------

#[test]
fn what_was_refused_is_counted() {
    let mut world = world(&format!(
        "topic write ok\ntopic subscribe ok\n{ROOT}topic read $SYS/#\n\
        topic subscribe $SYS/#\n"
    ));
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic: "no",
        payload: b"",
    };
    let client = world.connect(Connect {
        will: Some(will),
        ..connect(Version::V311, "a")
    });
    for topic in ["no", "ok", "no"] {
        world.publish(client, topic, "x");
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        world.send(client, &subscribe(1, &[(topic, options)]));
        world.read(client);
    }
    world.lose(client);
    let watcher = world.connect(user(Version::V5, "root", "root"));
    world.subscribe(watcher, "$SYS/broker/auth/+/refused", QoS::AtMostOnce);
    // Both messages and the Will; and two subscriptions.
    assert_eq!(world.payloads(watcher), ["3", "2"]);
}
