//! Messages to clients: acknowledgements, redelivery, windows.

mod common;

use common::*;
use midge::broker::limits::Options;
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

/// A subscriber to "t" with QoS 2, and a publisher.
fn pair(world: &mut World, version: Version) -> (Client, Client) {
    let subscriber = world.connect(durable(version, "s", &expiry(3_600)));
    world.subscribe(subscriber, "t", QoS::ExactlyOnce);
    (subscriber, world.client(V5, "p"))
}

#[test]
fn a_subscriber_is_sent_each_message_once_as_long_as_it_is_connected() {
    for version in ALL {
        let mut world = World::new();
        let (subscriber, publisher) = pair(&mut world, version);
        world.publish_as(publisher, QoS::AtLeastOnce, "t", "1");
        world.publish_as(publisher, QoS::ExactlyOnce, "t", "2");
        let received = world.publishes(subscriber);
        let (one, two) = (received[0].publish(), received[1].publish());
        // [MQTT-4.3.2-2] [MQTT-4.3.3-2]
        assert_eq!((one.qos, one.dup), (QoS::AtLeastOnce, false));
        assert_eq!((two.qos, two.dup), (QoS::ExactlyOnce, false));
        // [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]
        assert_ne!(one.packet_id, two.packet_id);
        // Nothing is sent again on the same connection, whatever time passes.
        world.advance(secs(100_000));
        world.expect_nothing(subscriber); // [MQTT-4.4.0-1]
        world.complete(subscriber, QoS::AtLeastOnce, one.packet_id.unwrap());
        world.complete(subscriber, QoS::ExactlyOnce, two.packet_id.unwrap());
        world.expect_nothing(subscriber);
    }
}

#[test]
fn qos_0_is_sent_without_dup() {
    let mut world = World::new();
    let subscriber = world.client(V5, "s");
    world.subscribe(subscriber, "t", QoS::AtMostOnce);
    let publisher = world.client(V5, "p");
    let repeated = Publish {
        dup: true,
        ..publish_qos(QoS::AtLeastOnce, 1, "t", "x")
    };
    world.send(publisher, &Packet::Publish(repeated));
    let received = world.read(subscriber);
    // [MQTT-4.3.1-1] [MQTT-3.3.1-2]; [MQTT-2.2.1-2] to the byte, so without an id.
    assert_eq!(received.bytes, b"\x30\x05\x00\x01t\x00x");
}

#[test]
fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
    for version in ALL {
        let mut world = World::new();
        let (subscriber, publisher) = pair(&mut world, version);
        for (qos, payload) in [
            (QoS::AtLeastOnce, "1"),
            (QoS::ExactlyOnce, "2"),
            (QoS::ExactlyOnce, "3"),
            (QoS::AtLeastOnce, "4"),
            (QoS::AtLeastOnce, "5"),
            (QoS::AtMostOnce, "6"),
        ] {
            world.publish_as(publisher, qos, "t", payload);
        }
        let first = world.publishes(subscriber);
        let id = packet_ids(&first[..5]);
        world.send(subscriber, &puback(id[3]));
        world.send(subscriber, &Packet::PubRec(ack(id[1])));
        world.expect(subscriber, &Packet::PubRel(ack(id[1])));
        world.lose(subscriber);
        for _ in 0..2 {
            let subscriber = world.connect(durable(version, "s", &expiry(3_600)));
            world.expect(subscriber, &Packet::PubRel(ack(id[1]))); // [MQTT-4.3.3-5]
            let again = world.publishes(subscriber);
            // [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.4.0-1] [v3 MQTT-4.4.0-1] [v3 MQTT-2.3.1-4] with
            // the same ids; [MQTT-4.3.3-6] the released one is not among them; [MQTT-4.6.0-6].
            assert_eq!(packet_ids(&again), [id[0], id[2], id[4]]);
            for (again, original) in again.iter().zip([0, 2, 4]) {
                // [MQTT-3.3.1-1] DUP, and otherwise what it was.
                let expected = Publish {
                    dup: true,
                    ..first[original].publish()
                };
                assert_eq!(again.publish(), expected);
            }
            world.lose(subscriber);
        }
        // Acknowledged on another connection than sent.
        let subscriber = world.connect(durable(version, "s", &expiry(3_600)));
        world.read_all(subscriber);
        world.complete(subscriber, QoS::AtLeastOnce, id[0]);
        world.complete(subscriber, QoS::ExactlyOnce, id[2]);
        world.complete(subscriber, QoS::AtLeastOnce, id[4]);
        world.send(subscriber, &Packet::PubComp(ack(id[1])));
        world.lose(subscriber);
        let subscriber = world.connect(durable(version, "s", &expiry(3_600)));
        world.expect_nothing(subscriber);
    }
}

#[test]
fn pubrec_twice_is_answered_twice() {
    let mut world = World::new();
    let (subscriber, publisher) = pair(&mut world, V5);
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "x");
    let id = packet_ids(&world.publishes(subscriber))[0];
    for _ in 0..2 {
        world.send(subscriber, &Packet::PubRec(ack(id)));
        world.expect(subscriber, &Packet::PubRel(ack(id))); // [MQTT-4.3.3-4]
    }
    world.send(subscriber, &Packet::PubComp(ack(id)));
    // Done with: the id is unknown now.
    world.send(subscriber, &Packet::PubRec(ack(id)));
    assert_eq!(
        world.read(subscriber).ack(),
        (id, R::PacketIdentifierNotFound)
    );
}

#[test]
fn acknowledgements_for_nothing_do_no_harm() {
    for version in ALL {
        let mut world = World::new();
        let client = world.client(version, "a");
        world.send(client, &puback(7));
        world.send(client, &Packet::PubComp(ack(7)));
        world.expect_nothing(client);
    }
}

#[test]
fn an_acknowledgement_out_of_step_ends_the_connection() {
    let steps: [(QoS, MakeAck); 3] = [
        (QoS::ExactlyOnce, Packet::PubAck),
        (QoS::AtLeastOnce, Packet::PubRec),
        (QoS::ExactlyOnce, Packet::PubComp),
    ];
    for (qos, wrong) in steps {
        for version in ALL {
            let mut world = World::new();
            let (subscriber, publisher) = pair(&mut world, version);
            world.publish_as(publisher, qos, "t", "x");
            let id = packet_ids(&world.publishes(subscriber))[0];
            world.send(subscriber, &wrong(ack(id)));
            match version {
                V5 => world.expect_disconnect(subscriber, R::ProtocolError),
                V31 | V311 => world.expect_closed(subscriber),
            }
            // The message is still owed.
            let subscriber = world.connect(durable(version, "s", &expiry(3_600)));
            assert_eq!(packet_ids(&world.publishes(subscriber)), [id]);
        }
    }
}

#[test]
fn a_refusal_is_an_acknowledgement() {
    let refusals: [(QoS, MakeAck); 2] = [
        (QoS::AtLeastOnce, Packet::PubAck),
        (QoS::ExactlyOnce, Packet::PubRec),
    ];
    for (qos, refusal) in refusals {
        let mut world = World::new();
        let one = numbers(&[(P::ReceiveMaximum, 1), (P::SessionExpiryInterval, 3_600)]);
        let subscriber = world.connect(durable(V5, "s", &one));
        world.subscribe(subscriber, "t", QoS::ExactlyOnce);
        let publisher = world.client(V5, "p");
        world.publish_as(publisher, qos, "t", "1");
        world.publish_as(publisher, qos, "t", "2");
        let received = world.publishes(subscriber);
        assert_eq!(received.len(), 1);
        let refused = Ack::new(packet_ids(&received)[0], R::ImplementationSpecificError);
        world.send(subscriber, &refusal(refused));
        assert_eq!(world.payloads(subscriber), ["2"]);
        world.lose(subscriber);
        let subscriber = world.connect(durable(V5, "s", &one));
        assert_eq!(world.payloads(subscriber), ["2"]); // [MQTT-4.4.0-2]
    }
}

#[test]
fn the_clients_receive_maximum_is_kept() {
    let mut world = World::new();
    let two = numbers(&[(P::ReceiveMaximum, 2), (P::SessionExpiryInterval, 3_600)]);
    let subscriber = world.connect(durable(V5, "s", &two));
    world.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = world.client(V5, "p");
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "1");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "2");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "3");
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "4");
    world.publish_as(publisher, QoS::AtMostOnce, "t", "0");
    let received = world.publishes(subscriber);
    // [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
    let payloads: Vec<_> = received.iter().map(|r| r.publish().payload).collect();
    assert_eq!(payloads, [b"1", b"2", b"0"]);
    let id = packet_ids(&received[..2]);
    // [MQTT-3.3.4-10] [MQTT-4.9.0-3] other packets are not held back.
    world.send(subscriber, &Packet::PingReq);
    world.expect(subscriber, &Packet::PingResp);
    // A released QoS 2 message holds its place until PUBCOMP.
    world.send(subscriber, &Packet::PubRec(ack(id[0])));
    world.expect(subscriber, &Packet::PubRel(ack(id[0])));
    world.expect_nothing(subscriber);
    world.send(subscriber, &Packet::PubComp(ack(id[0])));
    assert_eq!(world.payloads(subscriber), ["3"]);
    world.send(subscriber, &puback(id[1]));
    assert_eq!(world.payloads(subscriber), ["4"]);
    // On the next connection the client takes less at once.
    world.lose(subscriber);
    let one = numbers(&[(P::ReceiveMaximum, 1), (P::SessionExpiryInterval, 3_600)]);
    let subscriber = world.connect(durable(V5, "s", &one));
    let received = world.publishes(subscriber);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].publish().payload, b"3");
    world.send(subscriber, &puback(packet_ids(&received)[0]));
    assert_eq!(world.payloads(subscriber), ["4"]);
}

#[test]
fn the_server_limits_how_many_messages_are_in_flight() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 3;
    for version in ALL {
        let mut world = World::with(options.clone());
        let (subscriber, publisher) = pair(&mut world, version);
        for number in 0..10 {
            world.publish_as(publisher, QoS::AtLeastOnce, "t", &number.to_string());
        }
        let mut payloads = vec![];
        let mut received = world.publishes(subscriber);
        assert_eq!(received.len(), 3);
        while !received.is_empty() {
            let text = |r: &Received| String::from_utf8(r.publish().payload.to_vec()).unwrap();
            payloads.extend(received.iter().map(text));
            for id in packet_ids(&received) {
                world.send(subscriber, &puback(id));
            }
            received = world.publishes(subscriber);
            assert!(received.len() <= 3);
        }
        let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(payloads, expected); // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    }
}

#[test]
fn the_server_limits_how_many_bytes_are_in_flight() {
    let mut options = Options::default();
    options.limits.inflight_bytes_max = 500;
    let mut world = World::with(options);
    let (subscriber, publisher) = pair(&mut world, V311);
    let (large, small) = ("x".repeat(1_000), "x".repeat(100));
    // However large, one message may go.
    world.publish_as(publisher, QoS::AtLeastOnce, "t", &large);
    for _ in 0..6 {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", &small);
    }
    let received = world.publishes(subscriber);
    assert_eq!(received.len(), 1);
    world.send(subscriber, &puback(packet_ids(&received)[0]));
    assert_eq!(world.publishes(subscriber).len(), 4);
}

#[test]
fn packet_ids_in_use_are_not_given_again() {
    let mut world = World::new();
    let (subscriber, publisher) = pair(&mut world, V5);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "never acknowledged");
    let kept = packet_ids(&world.publishes(subscriber))[0];
    let message = publish_qos(QoS::AtLeastOnce, 1, "t", "x");
    for _ in 0..66_000 {
        world.send(publisher, &Packet::Publish(message));
        let id = world.read(subscriber).publish().packet_id.unwrap();
        // [MQTT-2.2.1-4]
        assert!(id != kept && id != 0);
        world.send(subscriber, &puback(id));
    }
}

#[test]
fn the_operator_may_have_messages_delivered_with_the_granted_qos() {
    let mut world = World::with(Options {
        upgrade_outgoing_qos: true,
        ..Options::default()
    });
    let (subscriber, publisher) = pair(&mut world, V5);
    world.publish_as(publisher, QoS::AtMostOnce, "t", "x");
    let received = world.publishes(subscriber);
    assert_eq!(received[0].publish().qos, QoS::ExactlyOnce);
    world.complete(subscriber, QoS::ExactlyOnce, packet_ids(&received)[0]);
    world.expect_nothing(subscriber);
}

#[test]
fn a_message_that_was_sent_once_does_not_expire() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::new();
        let (subscriber, publisher) = pair(&mut world, V5);
        let block = numbers(&[(P::MessageExpiryInterval, 1)]);
        let message = Publish {
            properties: block.as_properties(),
            ..publish_qos(qos, 1, "t", "x")
        };
        world.send(publisher, &Packet::Publish(message));
        world.lose(subscriber);
        world.advance(secs(100));
        let subscriber = world.connect(durable(V5, "s", &expiry(3_600)));
        // [MQTT-4.3.3-7]
        assert_eq!(world.payloads(subscriber), ["x"]);
    }
}
