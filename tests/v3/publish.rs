//! Chapters 3.3 and 4.3 from the publisher's side: how a PUBLISH is answered, and what is retained.

use midge::packet::*;

use crate::common::*;
use crate::{V311, client, packet, subscriber};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn again(message: Publish) -> Packet {
    Packet::Publish(Publish {
        dup: true,
        ..message
    })
}

/// Publishes with RETAIN and completes it.
fn retain(world: &mut World, qos: QoS, topic: &str, payload: &str) {
    let publisher = client(world, "retainer");
    let message = Publish {
        retain: true,
        qos,
        packet_id: (qos > QoS::AtMostOnce).then_some(1),
        ..publish(topic, payload)
    };
    world.send(publisher, &Packet::Publish(message));
    if qos == QoS::ExactlyOnce {
        world.send(publisher, &Packet::PubRel(ack(1)));
    }
    world.read_all(publisher);
    world.disconnect(publisher);
}

/// QoS and payload of what a new subscription brings.
fn brought(world: &mut World, filter: &str, qos: QoS) -> Vec<(QoS, String)> {
    let late = subscriber(world, "late", filter, qos);
    let received = world.publishes(late);
    world.disconnect(late);
    let told = |one: &Received| {
        let publish = one.publish();
        let payload = String::from_utf8_lossy(publish.payload).into_owned();
        (publish.qos, payload)
    };
    received.iter().map(told).collect()
}

#[test]
fn each_qos_has_its_answer() {
    for id in [b"\0\x01", b"\x01\x02", b"\xFF\xFF"] {
        let mut world = World::new();
        let publisher = client(&mut world, "p");
        let answer = |world: &mut World, first: u8, parts: &[&[u8]]| {
            world.send_bytes(publisher, &packet(first, parts));
            let answers = world.read_all(publisher);
            answers.into_iter().map(|one| one.bytes).collect::<Vec<_>>()
        };
        // [v3 MQTT-3.3.4-1]
        let nothing: [Vec<u8>; 0] = [];
        assert_eq!(answer(&mut world, 0x30, &[b"\0\x01t", id]), nothing);
        // [v3 MQTT-2.3.1-6] PUBACK and PUBREC have the id of the PUBLISH.
        let puback = answer(&mut world, 0x32, &[b"\0\x01t", id]);
        assert_eq!(puback, [packet(0x40, &[id])]);
        let pubrec = answer(&mut world, 0x34, &[b"\0\x01t", id]);
        assert_eq!(pubrec, [packet(0x50, &[id])]);
        let pubcomp = answer(&mut world, 0x62, &[id]);
        assert_eq!(pubcomp, [packet(0x70, &[id])]);
    }
}

#[test]
fn a_qos_1_message_with_an_acknowledged_id_is_a_new_one() {
    let mut world = World::new();
    let listener = subscriber(&mut world, "s", "t", QoS::AtMostOnce);
    let publisher = client(&mut world, "p");
    let message = publish_qos(QoS::AtLeastOnce, 7, "t", "x");
    for packet in [Packet::Publish(message), again(message), again(message)] {
        world.send(publisher, &packet);
        world.expect(publisher, &puback(7));
        // [v3 MQTT-4.3.2-2] whatever DUP says.
        assert_eq!(world.payloads(listener), ["x"]);
    }
}

#[test]
fn a_qos_2_message_is_one_message_until_it_is_released() {
    let mut world = World::new();
    let listener = subscriber(&mut world, "s", "t", QoS::ExactlyOnce);
    let publisher = client(&mut world, "p");
    for payload in ["first", "second"] {
        let message = publish_qos(QoS::ExactlyOnce, 7, "t", payload);
        let other = publish_qos(QoS::ExactlyOnce, 8, "other", "x");
        for packet in [
            Packet::Publish(message),
            again(message),
            Packet::Publish(message),
        ] {
            world.send(publisher, &packet);
            // [v3 MQTT-4.3.3-2] a PUBREC each time, ...
            world.expect(publisher, &Packet::PubRec(ack(7)));
            // Another message in between changes nothing.
            world.publish_as(publisher, QoS::ExactlyOnce, "other", "x");
            world.send(publisher, &Packet::Publish(other));
            world.expect(publisher, &Packet::PubRec(ack(8)));
        }
        // ... delivered once, ...
        assert_eq!(world.payloads(listener), [payload]);
        // ... and PUBCOMP for PUBREL, as often as it comes; then the id is free.
        for _ in 0..2 {
            world.send(publisher, &Packet::PubRel(ack(7)));
            world.expect(publisher, &Packet::PubComp(ack(7)));
        }
    }
}

#[test]
fn dup_is_between_publisher_and_server() {
    for published in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for granted in QOS {
            let mut world = World::new();
            let listener = subscriber(&mut world, "s", "t", granted);
            let publisher = client(&mut world, "p");
            world.send(publisher, &again(publish_qos(published, 1, "t", "x")));
            assert!(!world.read(listener).publish().dup); // [v3 MQTT-3.3.1-3]
        }
    }
}

#[test]
fn what_is_retained_is_sent_to_future_subscribers_with_its_qos() {
    for stored in QOS {
        for granted in QOS {
            let mut world = World::new();
            retain(&mut world, stored, "a/b", "x");
            let expected = [(stored.min(granted), "x".to_string())];
            // [v3 MQTT-3.3.1-5] to each of them.
            for filter in ["a/b", "a/+", "#"] {
                assert_eq!(brought(&mut world, filter, granted), expected);
            }
            assert_eq!(brought(&mut world, "b", granted), []);
        }
    }
}

#[test]
fn a_new_subscription_brings_the_last_retained_message_of_every_topic_that_matches() {
    let mut world = World::new();
    for topic in ["a/1", "a/2", "a/3", "b/1"] {
        retain(&mut world, QoS::AtLeastOnce, topic, "old");
        retain(&mut world, QoS::AtLeastOnce, topic, topic);
    }
    // Those who are subscribed already are sent nothing for the subscription of another.
    let early = subscriber(&mut world, "early", "a/+", QoS::AtLeastOnce);
    world.read_all(early);
    let late = subscriber(&mut world, "late", "a/+", QoS::AtMostOnce);
    assert_eq!(world.payloads(late), ["a/1", "a/2", "a/3"]); // [v3 MQTT-3.3.1-6]
    world.subscribe(late, "b/1", QoS::AtMostOnce);
    assert_eq!(world.payloads(late), ["b/1"]);
    world.expect_nothing(early);
}

#[test]
fn a_retained_message_of_qos_0_takes_the_place_of_the_one_before() {
    for before in QOS {
        let mut world = World::new();
        retain(&mut world, before, "t", "old");
        retain(&mut world, QoS::AtMostOnce, "t", "new");
        let brought = brought(&mut world, "t", QoS::ExactlyOnce);
        assert_eq!(brought, [(QoS::AtMostOnce, "new".into())]); // [v3 MQTT-3.3.1-7]
    }
}

#[test]
fn an_empty_message_is_not_retained() {
    for qos in QOS {
        let mut world = World::new();
        retain(&mut world, qos, "never", "");
        retain(&mut world, qos, "cleared", "x");
        retain(&mut world, qos, "cleared", "");
        assert_eq!(brought(&mut world, "#", QoS::ExactlyOnce), []); // [v3 MQTT-3.3.1-11]
    }
}

#[test]
fn a_message_without_retain_leaves_what_is_retained_alone() {
    for qos in QOS {
        let mut world = World::new();
        retain(&mut world, QoS::AtLeastOnce, "kept", "kept");
        let publisher = client(&mut world, "p");
        world.publish_as(publisher, qos, "kept", "passing");
        world.publish_as(publisher, qos, "kept", "");
        world.publish_as(publisher, qos, "new", "passing");
        let expected = (QoS::AtLeastOnce, "kept".to_string());
        // [v3 MQTT-3.3.1-12]
        assert_eq!(brought(&mut world, "#", QoS::ExactlyOnce), [expected]);
    }
}

#[test]
fn to_those_who_are_subscribed_a_message_comes_without_retain() {
    for qos in QOS {
        let mut world = World::new();
        let present = subscriber(&mut world, "present", "t", qos);
        let away = world.connect(crate::keeping("away"));
        world.subscribe(away, "t", QoS::AtLeastOnce);
        world.lose(away);
        retain(&mut world, QoS::ExactlyOnce, "t", "x");
        assert!(!world.read(present).publish().retain); // [v3 MQTT-3.3.1-9]
        let away = world.connect(crate::keeping("away"));
        assert!(!world.read(away).publish().retain);
        // A new subscription to what is retained is another matter.
        world.subscribe(present, "+", QoS::AtMostOnce);
        assert!(world.read(present).publish().retain); // [v3 MQTT-3.3.1-8]
    }
}

/// 3.1.1 cannot say no to a PUBLISH.
#[test]
fn a_message_that_is_not_allowed_is_acknowledged_and_delivered_to_nobody() {
    let mut world = World::new();
    let listener = subscriber(&mut world, "s", "$SYS/mine", QoS::AtMostOnce);
    let publisher = world.client(V311, "p");
    for (id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
        let message = publish_qos(qos, id, "$SYS/mine", "x");
        world.send(publisher, &Packet::Publish(message));
        assert_eq!(world.read(publisher).ack().0, id); // [v3 MQTT-3.3.5-2]
    }
    world.expect_nothing(publisher);
    world.expect_nothing(listener);
}
