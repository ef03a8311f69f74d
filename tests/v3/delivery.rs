//! Chapters 3.3 and 4.3 to 4.6 from the subscriber's side: what the server sends, how often, and in
//! which order.

use midge::broker::limits::Options;
use midge::packet::*;

use crate::common::*;
use crate::{V311, client, keeping, packet, subscriber};

/// A subscriber to "t" that keeps its session, and a publisher.
fn pair(world: &mut World) -> (Client, Client) {
    let listener = world.connect(keeping("s"));
    world.subscribe(listener, "t", QoS::ExactlyOnce);
    (listener, client(world, "p"))
}

fn back(world: &mut World) -> Client {
    world.connect(keeping("s"))
}

/// Acknowledges all that comes until nothing more does; returns what was published.
fn drain(world: &mut World, client: Client) -> Vec<(QoS, String)> {
    let mut drained = vec![];
    while let Some(received) = world.try_read(client) {
        let answer = match received.packet() {
            Packet::Publish(publish) => {
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                drained.push((publish.qos, payload));
                let id = publish.packet_id.unwrap_or_default();
                match publish.qos {
                    QoS::AtMostOnce => continue,
                    QoS::AtLeastOnce => Packet::PubAck(ack(id)),
                    QoS::ExactlyOnce => Packet::PubRec(ack(id)),
                }
            }
            Packet::PubRel(release) => Packet::PubComp(ack(release.packet_id)),
            other => panic!("expected PUBLISH or PUBREL, got {other:?}"),
        };
        world.send(client, &answer);
    }
    drained
}

#[test]
fn a_publish_of_qos_0_has_neither_packet_identifier_nor_dup() {
    let mut world = World::new();
    let (listener, publisher) = pair(&mut world);
    world.publish(publisher, "t", "hi");
    let received = world.read(listener).bytes;
    // Topic Name, then at once the payload.
    assert_eq!(received[2..], *b"\0\x01thi"); // [v3 MQTT-2.3.1-5] [v3 MQTT-3.3.2-1]
    assert_eq!(received[0], 0x30); // [v3 MQTT-4.3.1-1]
    // To the server, what follows the topic name is payload too.
    world.send_bytes(publisher, b"\x30\x05\0\x01t\0\x07");
    assert_eq!(world.read(listener).publish().payload, b"\0\x07");
}

#[test]
fn no_message_of_qos_0_has_dup_however_it_came_to_be_one() {
    let mut world = World::with(Options {
        queue_qos0_messages: true,
        ..Options::default()
    });
    let listener = world.connect(keeping("s"));
    world.subscribe(listener, "t", QoS::AtMostOnce);
    let publisher = client(&mut world, "p");
    let repeated = Publish {
        dup: true,
        ..publish_qos(QoS::AtLeastOnce, 1, "t", "x")
    };
    world.send(publisher, &Packet::Publish(repeated));
    assert_eq!(world.read(listener).bytes[0], 0x30); // [v3 MQTT-3.3.1-2]
    // It waits, and is sent on another connection than it was meant for.
    world.lose(listener);
    world.send(publisher, &Packet::Publish(repeated));
    let listener = back(&mut world);
    assert_eq!(world.read(listener).bytes[0], 0x30);
}

#[test]
fn every_packet_from_the_server_has_the_flags_of_the_table() {
    let mut world = World::new();
    let client = world.open(V311);
    world.send(client, &Packet::Connect(keeping("a")));
    let filters = [("t", SubscriptionOptions::new(QoS::ExactlyOnce))];
    world.send(client, &subscribe(1, &filters));
    world.send(client, &unsubscribe(1, &["u"]));
    world.send(client, &Packet::PingReq);
    let two = publish_qos(QoS::ExactlyOnce, 1, "t", "x");
    world.send(client, &Packet::Publish(two));
    world.send(client, &Packet::PubRel(ack(1)));
    let one = publish_qos(QoS::AtLeastOnce, 1, "u", "x");
    world.send(client, &Packet::Publish(one));
    let received = world.read_all(client);
    let own = received.iter().find(|one| one.bytes[0] == 0x34);
    let id = own.expect("its own message").publish().packet_id.unwrap();
    world.send(client, &Packet::PubRec(ack(id)));
    let released = world.read(client).bytes[0];
    let mut first: Vec<u8> = received.iter().map(|one| one.bytes[0]).collect();
    first.push(released);
    first.sort_unstable();
    // [v3 MQTT-2.2.2-1] CONNACK, PUBLISH with QoS 2, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK,
    // UNSUBACK, PINGRESP.
    let expected = [0x20, 0x34, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0];
    assert_eq!(first, expected);
}

#[test]
fn a_qos_1_message_is_sent_again_until_puback() {
    let mut world = World::new();
    let (listener, publisher) = pair(&mut world);
    for payload in ["1", "2"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    let first = world.publishes(listener);
    let ids = packet_ids(&first);
    let sent = |at: usize, dup| Publish {
        dup,
        ..publish_qos(QoS::AtLeastOnce, ids[at], "t", ["1", "2"][at])
    };
    // [v3 MQTT-4.3.2-1] QoS 1 without DUP, an id that no other message has, ...
    assert_eq!(first[0].publish(), sent(0, false));
    assert_eq!(first[1].publish(), sent(1, false));
    assert!(ids[0] != ids[1] && ids.iter().all(|id| *id != 0));
    // ... and unacknowledged until its own PUBACK: no other counts.
    world.send(listener, &puback(ids[1] + 1_000));
    world.send(listener, &puback(ids[1]));
    for _ in 0..2 {
        let listener = back(&mut world);
        let again = world.publishes(listener);
        assert_eq!(again.len(), 1);
        // [v3 MQTT-4.4.0-1] [v3 MQTT-2.3.1-4] under its own id. [v3 MQTT-3.3.1-1] DUP
        assert_eq!(again[0].publish(), sent(0, true));
    }
    let listener = back(&mut world);
    world.read(listener);
    world.send(listener, &puback(ids[0]));
    let listener = back(&mut world);
    world.expect_nothing(listener);
}

#[test]
fn a_qos_2_message_goes_on_from_the_step_it_came_to() {
    let mut world = World::new();
    let (listener, publisher) = pair(&mut world);
    for payload in ["1", "2"] {
        world.publish_as(publisher, QoS::ExactlyOnce, "t", payload);
    }
    let first = world.publishes(listener);
    let ids = packet_ids(&first);
    let sent = |at: usize, dup| Publish {
        dup,
        ..publish_qos(QoS::ExactlyOnce, ids[at], "t", ["1", "2"][at])
    };
    // [v3 MQTT-4.3.3-1] QoS 2 without DUP, an id that no other message has, ...
    assert_eq!(first[0].publish(), sent(0, false));
    assert_eq!(first[1].publish(), sent(1, false));
    assert_ne!(ids[0], ids[1]);
    // ... until PUBREC it is the PUBLISH that is sent again, ...
    let listener = back(&mut world);
    let again = world.publishes(listener);
    assert_eq!(again[0].publish(), sent(0, true));
    assert_eq!(again[1].publish(), sent(1, true));
    // ... PUBREC is answered with PUBREL, by the id of the message, ...
    world.send(listener, &Packet::PubRec(ack(ids[1])));
    let pubrel = packet(0x62, &[&ids[1].to_be_bytes()]);
    assert_eq!(world.read(listener).bytes, pubrel); // [v3 MQTT-2.3.1-6]
    // ... and until PUBCOMP the PUBREL is sent again, the PUBLISH never.
    for _ in 0..2 {
        let listener = back(&mut world);
        assert_eq!(world.read(listener).bytes, pubrel);
        world.expect(listener, &Packet::Publish(sent(0, true)));
        world.expect_nothing(listener);
    }
    let listener = back(&mut world);
    world.read_all(listener);
    world.send(listener, &Packet::PubComp(ack(ids[1])));
    world.complete(listener, QoS::ExactlyOnce, ids[0]);
    let listener = back(&mut world);
    world.expect_nothing(listener);
}

#[test]
fn an_id_in_use_is_given_to_no_other_message() {
    let mut world = World::new();
    let (listener, publisher) = pair(&mut world);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "never acknowledged");
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "never completed");
    let kept = packet_ids(&world.publishes(listener));
    world.send(listener, &Packet::PubRec(ack(kept[1])));
    world.read(listener);
    let message = publish_qos(QoS::AtLeastOnce, 1, "t", "x");
    let mut again = 0;
    let mut first = None;
    // Once around all ids there are, and a little further.
    for _ in 0..65_600 {
        world.send(publisher, &Packet::Publish(message));
        let id = world.read(listener).publish().packet_id.unwrap();
        // [v3 MQTT-2.3.1-4]
        assert!(!kept.contains(&id));
        assert_ne!(id, 0); // [v3 MQTT-2.3.1-1]
        again += usize::from(*first.get_or_insert(id) == id);
        world.send(listener, &puback(id));
    }
    // Those that are free come again.
    assert_eq!(again, 2);
}

#[test]
fn a_message_becomes_part_of_every_session_whose_subscriptions_match() {
    let mut world = World::new();
    let matching = ["a/b", "a/+", "+/b", "a/#", "#", "a/b/#"];
    let others = ["a", "a/b/c", "b/a", "+", "A/b", "/a/b"];
    let mut clients = vec![];
    for filter in matching.into_iter().chain(others) {
        let here = world.connect(keeping(filter));
        world.subscribe(here, filter, QoS::AtLeastOnce);
        let id = format!("away from {filter}");
        let away = world.connect(keeping(&id));
        world.subscribe(away, filter, QoS::ExactlyOnce);
        world.disconnect(away);
        clients.push((filter, here, id));
    }
    let publisher = client(&mut world, "p");
    world.publish_as(publisher, QoS::ExactlyOnce, "a/b", "x");
    for (filter, here, id) in clients {
        let away = world.connect(keeping(&id));
        let expected: &[&str] = if matching.contains(&filter) {
            &["x"]
        } else {
            &[]
        };
        assert_eq!(world.payloads(here), expected, "{filter}"); // [v3 MQTT-4.5.0-1]
        assert_eq!(world.payloads(away), expected, "{filter}");
    }
}

/// What two publishers sent by turns, with every QoS by turns, arrives in the order of each.
#[test]
fn messages_arrive_in_the_order_of_their_publisher() {
    for topic in ["t", "a/b/c", "/", "$own/topic"] {
        let mut world = World::new();
        let exact = world.connect(keeping("exact"));
        world.subscribe(exact, topic, QoS::ExactlyOnce);
        let mut clients = vec![exact];
        if !topic.starts_with('$') {
            clients.push(subscriber(&mut world, "any", "#", QoS::ExactlyOnce));
        }
        let publishers = [client(&mut world, "p"), client(&mut world, "q")];
        // Far more than may be in flight: most of them wait.
        for number in 0..120 {
            for (publisher, name) in publishers.into_iter().zip(["p", "q"]) {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    let payload = format!("{name}{number}");
                    world.publish_as(publisher, qos, topic, &payload);
                }
            }
        }
        for client in clients {
            let received = drain(&mut world, client);
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for name in ["p", "q"] {
                    let own = received
                        .iter()
                        .filter(|(of, payload)| *of == qos && payload.starts_with(name));
                    let numbers: Vec<_> = own.map(|(_, payload)| &payload[1..]).collect();
                    let expected: Vec<_> = (0..120).map(|number| number.to_string()).collect();
                    assert_eq!(numbers, expected, "{topic}"); // [v3 MQTT-4.6.0-5]
                }
            }
        }
    }
}

#[test]
fn order_survives_reconnects_and_acknowledgements_out_of_order() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 6;
    let mut world = World::with(options);
    let (listener, publisher) = pair(&mut world);
    for number in 0..12 {
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number % 2];
        world.publish_as(publisher, qos, "t", &number.to_string());
    }
    let first = packet_ids(&world.publishes(listener));
    // PUBREL comes in the order of PUBREC, not of PUBLISH.
    for at in [5, 1] {
        world.send(listener, &Packet::PubRec(ack(first[at])));
    }
    world.expect(listener, &Packet::PubRel(ack(first[5])));
    world.expect(listener, &Packet::PubRel(ack(first[1])));
    world.send(listener, &puback(first[2]));
    world.send(listener, &Packet::PubComp(ack(first[5])));
    assert_eq!(world.payloads(listener), ["6", "7"]);
    // Sent again in the order in which it was sent first, then what waited.
    let listener = back(&mut world);
    world.expect(listener, &Packet::PubRel(ack(first[1])));
    assert_eq!(world.payloads(listener), ["0", "3", "4", "6", "7"]); // [v3 MQTT-4.6.0-6]
    let listener = back(&mut world);
    let all = drain(&mut world, listener);
    let all: Vec<_> = all.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(all, ["0", "3", "4", "6", "7", "8", "9", "10", "11"]);
}

#[test]
fn a_small_message_does_not_overtake_a_large_one_that_waits() {
    let mut options = Options::default();
    options.limits.inflight_bytes_max = 1_000;
    let mut world = World::with(options);
    let (listener, publisher) = pair(&mut world);
    let large = "x".repeat(600);
    for payload in [&large, &large, "small"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    // One is on its way: beside it there would be room for the small one only.
    let received = drain(&mut world, listener);
    let lengths: Vec<usize> = received.iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(lengths, [600, 600, 5]); // [v3 MQTT-4.6.0-6]
}
