//! Other options while clients are there: they go on under the terms that they were told, new ones
//! get the new ones.

mod common;

use midge::broker::limits::{Limits, Options, QueueOverflow};
use midge::packet::{Packet, PropertyId, QoS, ReasonCode, Version};

use common::{
    Client, Prng, World, ack, connect, disconnect, durable, expiry, publish_qos, retained, secs,
};

fn limited(packet_bytes_max: usize, receive_maximum: u16, max_qos: QoS) -> Options {
    Options {
        limits: Limits {
            packet_bytes_max,
            receive_maximum,
            ..Limits::default()
        },
        max_qos,
        ..Options::default()
    }
}

fn set(world: &mut World, options: Options) {
    world.broker.set_options(options, world.now);
    world.broker.check_invariants();
    world.turn();
}

#[test]
fn who_is_connected_goes_on_under_the_terms_of_its_connack() {
    let mut world = World::with(limited(2_000, 10, QoS::ExactlyOnce));
    let old = world.client(Version::V5, "old");
    let strict = limited(100, 1, QoS::AtMostOnce);
    set(
        &mut world,
        Options {
            retain_available: false,
            ..strict
        },
    );
    // Larger, better, more and longer kept than what is granted now.
    let payload = "x".repeat(1_000);
    for id in 1..=10 {
        world.send(
            old,
            &Packet::Publish(publish_qos(QoS::ExactlyOnce, id, "t", &payload)),
        );
        assert_eq!(
            world.read(old).ack(),
            (id, ReasonCode::NoMatchingSubscribers)
        );
    }
    world.send(old, &Packet::Publish(retained("kept", "x")));
    assert!(world.is_open(old));
    world.send(
        old,
        &Packet::Publish(publish_qos(QoS::ExactlyOnce, 11, "t", "")),
    );
    world.expect_disconnect(old, ReasonCode::ReceiveMaximumExceeded);

    let new = world.open(Version::V5);
    world.send(new, &Packet::Connect(connect(Version::V5, "new")));
    let connack = world.read(new);
    let properties = connack.connack().properties;
    for (property, expected) in [
        (PropertyId::MaximumPacketSize, 100),
        (PropertyId::ReceiveMaximum, 1),
        (PropertyId::MaximumQoS, 0),
        (PropertyId::RetainAvailable, 0),
    ] {
        assert_eq!(properties.number(property), Some(expected), "{property:?}");
    }
    world.send(
        new,
        &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, "t", "")),
    );
    world.expect_disconnect(new, ReasonCode::QoSNotSupported);
}

/// A smaller queue drops nothing of what waits already, and takes nothing more.
#[test]
fn what_waits_goes_on_waiting_when_there_may_be_less() {
    let mut world = World::new();
    let block = expiry(1_000);
    let reader = world.connect(durable(Version::V5, "reader", &block));
    world.subscribe(reader, "t", QoS::AtLeastOnce);
    world.send(reader, &disconnect());
    let writer = world.client(Version::V5, "writer");
    let publish = |world: &mut World, payload: &str| {
        world.publish_as(writer, QoS::AtLeastOnce, "t", payload);
    };
    for payload in ["1", "2", "3"] {
        publish(&mut world, payload);
    }
    let mut options = Options::default();
    options.limits.queued_messages_max = 1;
    set(&mut world, options);
    publish(&mut world, "4");
    let reader = world.connect(durable(Version::V5, "reader", &block));
    assert_eq!(world.payloads(reader), ["1", "2", "3"]);
}

#[test]
fn another_interval_brings_the_figures_at_another_time() {
    let interval = |seconds: Option<u64>| Options {
        sys_interval: seconds.map(secs),
        ..Options::default()
    };
    let mut world = World::with(interval(Some(10)));
    let reader = world.client(Version::V5, "reader");
    world.subscribe(reader, "$SYS/broker/uptime", QoS::AtMostOnce);
    world.payloads(reader);
    set(&mut world, interval(Some(3)));
    world.advance(secs(4));
    assert_eq!(world.payloads(reader), ["3 seconds"]);
    set(&mut world, interval(None));
    world.advance(secs(60));
    assert!(world.payloads(reader).is_empty());
    set(&mut world, interval(Some(10)));
    world.advance(secs(11));
    assert_eq!(world.payloads(reader).len(), 1);
}

/// Limits go up and down at random under traffic: no client is disconnected, every message that was
/// acknowledged arrives once, in order; `World` checks the invariants after every verb.
#[test]
fn options_change_under_traffic_and_nobody_notices() {
    for seed in 0..20 {
        let mut chance = Prng::new(seed);
        let mut world = World::new();
        let clients: Vec<Client> = ["a", "b", "c"]
            .iter()
            .map(|id| world.client(Version::V5, id))
            .collect();
        for &client in &clients {
            world.subscribe(client, "all/#", QoS::AtLeastOnce);
        }
        let (mut sent, mut received) = (Vec::new(), vec![Vec::new(); clients.len()]);
        for count in 0..200 {
            if chance.chance(20) {
                set(&mut world, any_options(&mut chance));
            }
            let payload = count.to_string();
            let writer = *chance.pick(&clients);
            let publish = publish_qos(QoS::AtLeastOnce, 9, "all/t", &payload);
            world.send(writer, &Packet::Publish(publish));
            sent.push(payload);
            for (index, &client) in clients.iter().enumerate() {
                take(&mut world, client, &mut received[index]);
            }
        }
        for (index, &client) in clients.iter().enumerate() {
            assert!(world.is_open(client), "seed {seed}");
            take(&mut world, client, &mut received[index]);
            assert_eq!(received[index], sent, "seed {seed}");
        }
    }
}

fn any_options(chance: &mut Prng) -> Options {
    let limits = Limits {
        packet_bytes_max: 100 + chance.below(10_000),
        receive_maximum: 1 + chance.below(20) as u16,
        inflight_messages_max: 1 + chance.below(20) as u16,
        queued_messages_max: 10 + chance.below(100),
        connections_max: 1 + chance.below(5),
        sessions_max: 1 + chance.below(5),
        subscriptions_max: 1 + chance.below(5),
        topic_alias_max: chance.below(20) as u16,
        outbound_bytes_max: 100 + chance.below(10_000),
        ..Limits::default()
    };
    Options {
        limits,
        max_qos: *chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        queue_overflow: *chance.pick(&[QueueOverflow::DropNewest, QueueOverflow::DropOldest]),
        retain_available: chance.chance(50),
        ..Options::default()
    }
}

/// Reads and acknowledges what came.
fn take(world: &mut World, client: Client, payloads: &mut Vec<String>) {
    loop {
        let packets = world.read_all(client);
        if packets.is_empty() {
            return;
        }
        for packet in &packets {
            if let Packet::Publish(publish) = packet.packet() {
                payloads.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                world.send(client, &Packet::PubAck(ack(publish.packet_id.unwrap())));
            }
        }
    }
}
