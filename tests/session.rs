//! How connections end, and what outlives them: DISCONNECT, keep alive, takeover, session expiry.

mod common;

use common::*;
use midge::broker::limits::Options;
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

fn disconnect_with(reason: R, properties: &PropertyBlock) -> Packet<'_> {
    let properties = properties.as_properties();
    Packet::Disconnect(Disconnect { reason, properties })
}

/// Whether the broker says that it has a session of "a", which is left as it was.
fn has_session(world: &mut World, version: Version, properties: &PropertyBlock) -> bool {
    let client = world.try_connect(durable(version, "a", properties));
    let present = world.read(client).connack().session_present;
    world.lose(client);
    present
}

#[test]
fn a_clean_start_finds_nothing_and_a_durable_session_is_found_again() {
    // The form of MQTT 3.1 cannot say whether a session was present: its subscription tells.
    for version in ALL {
        let mut world = World::new();
        let hour = expiry(3_600);
        let publisher = world.client(V311, "p");
        let a = world.connect(durable(version, "a", &hour));
        world.subscribe(a, "t", QoS::AtLeastOnce);
        world.disconnect(a);

        let a = world.try_connect(durable(version, "a", &hour));
        // [MQTT-3.1.2-5] [MQTT-3.2.2-3]
        assert_eq!(world.read(a).connack().session_present, version != V31);
        world.publish(publisher, "t", "1");
        assert_eq!(world.payloads(a), ["1"]);
        world.disconnect(a);

        let a = world.try_connect(connect(version, "a"));
        // [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2]
        assert!(!world.read(a).connack().session_present);
        world.publish(publisher, "t", "2");
        world.expect_nothing(a);
        world.disconnect(a);

        // The clean one was not kept either.
        let a = world.try_connect(durable(version, "a", &hour));
        assert!(!world.read(a).connack().session_present); // [MQTT-3.1.2-6]
        world.publish(publisher, "t", "3");
        world.expect_nothing(a);
    }
}

#[test]
fn a_session_belongs_to_its_client_id() {
    let mut world = World::new();
    let hour = expiry(3_600);
    let a = world.connect(durable(V5, "a", &hour));
    world.subscribe(a, "t", QoS::AtLeastOnce);
    world.disconnect(a);
    let publisher = world.client(V5, "p");
    for id in ["b", "A", "a ", "aa"] {
        let other = world.try_connect(durable(V5, id, &hour));
        assert!(!world.read(other).connack().session_present, "{id:?}"); // [MQTT-3.1.3-2]
        world.publish(publisher, "t", "x");
        world.expect_nothing(other);
    }
    let a = world.try_connect(durable(V5, "a", &hour));
    assert!(world.read(a).connack().session_present); // [MQTT-3.1.3-2]
    world.publish(publisher, "t", "x");
    assert_eq!(world.payloads(a), ["x"]);
}

#[test]
fn a_session_is_kept_as_long_as_its_connection_is_open() {
    for properties in [expiry(0), expiry(60)] {
        let mut world = World::new();
        let client = world.connect(durable(V5, "a", &properties));
        world.subscribe(client, "t", QoS::AtLeastOnce);
        world.advance(secs(100_000));
        let publisher = world.client(V5, "p");
        world.publish(publisher, "t", "x");
        assert_eq!(world.payloads(client), ["x"]); // [MQTT-4.1.0-1]
    }
}

#[test]
fn messages_wait_for_a_durable_session() {
    for version in ALL {
        let mut world = World::new();
        let hour = expiry(3_600);
        let a = world.connect(durable(version, "a", &hour));
        world.subscribe(a, "t", QoS::ExactlyOnce);
        world.lose(a);
        let publisher = world.client(V311, "p");
        for (id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
            let payload = id.to_string();
            let message = publish_qos(qos, id, "t", &payload);
            world.send(publisher, &Packet::Publish(message));
        }
        world.publish(publisher, "t", "QoS 0 does not wait");
        let a = world.connect(durable(version, "a", &hour));
        // [MQTT-3.1.2-23] [MQTT-4.5.0-1]
        assert_eq!(world.payloads(a), ["1", "2"]);
    }
}

#[test]
fn a_session_expires_when_it_said_it_would() {
    let mut world = World::new();
    let minute = expiry(60);
    let a = world.connect(durable(V5, "a", &minute));
    // Not while it is connected.
    world.advance(secs(1_000));
    world.lose(a);
    world.advance(millis(59_999));
    assert!(has_session(&mut world, V5, &minute));
    // It was connected in between: the time begins anew.
    world.advance(millis(59_999));
    assert!(has_session(&mut world, V5, &minute));
    world.advance(secs(60));
    // [MQTT-4.1.0-2]
    assert!(!has_session(&mut world, V5, &minute));
}

#[test]
fn a_session_of_5_0_without_an_expiry_interval_ends_with_its_connection() {
    let mut world = World::new();
    let nothing = PropertyBlock::new();
    assert!(!has_session(&mut world, V5, &nothing));
    assert!(!has_session(&mut world, V5, &nothing));
    // Clean Start does not say how long the new session lasts.
    let hour = expiry(3_600);
    let client = world.connect(Connect {
        properties: hour.as_properties(),
        ..connect(V5, "a")
    });
    world.lose(client);
    assert!(has_session(&mut world, V5, &hour));
}

#[test]
fn a_session_can_live_for_ever() {
    let years = secs(20 * 365 * 24 * 3_600);
    for (version, properties) in [(V311, PropertyBlock::new()), (V5, expiry(u32::MAX))] {
        let mut world = World::new();
        let client = world.connect(durable(version, "a", &properties));
        world.disconnect(client);
        world.advance(years);
        assert!(has_session(&mut world, version, &properties));
    }
}

#[test]
fn the_server_can_limit_how_long_sessions_live() {
    let options = Options {
        persistent_client_expiration: Some(secs(100)),
        ..Options::default()
    };
    for (version, properties) in [
        (V311, PropertyBlock::new()),
        (V5, expiry(u32::MAX)),
        (V5, expiry(101)),
    ] {
        let mut world = World::with(options.clone());
        let client = world.try_connect(durable(version, "a", &properties));
        let received = world.read(client);
        let said = received
            .connack()
            .properties
            .number(P::SessionExpiryInterval);
        assert_eq!(said, (version == V5).then_some(100));
        world.disconnect(client);
        world.advance(millis(99_999));
        assert!(has_session(&mut world, version, &properties));
        world.advance(secs(100));
        assert!(!has_session(&mut world, version, &properties));
    }
    // A shorter one is the client's own affair.
    let mut world = World::with(options);
    let client = world.try_connect(durable(V5, "a", &expiry(50)));
    let received = world.read(client);
    let said = received
        .connack()
        .properties
        .number(P::SessionExpiryInterval);
    assert_eq!(said, None);
}

#[test]
fn a_client_may_change_its_mind_about_expiry_when_it_leaves() {
    let hour = expiry(3_600);
    let mut world = World::new();
    let client = world.connect(durable(V5, "a", &hour));
    world.send(client, &disconnect_with(R::Success, &expiry(0)));
    world.expect_closed(client);
    assert!(!has_session(&mut world, V5, &hour));

    let client = world.connect(durable(V5, "a", &hour));
    world.send(client, &disconnect_with(R::Success, &expiry(7_200)));
    world.expect_closed(client);
    world.advance(secs(7_199));
    assert!(has_session(&mut world, V5, &hour));
    world.advance(secs(3_600));
    assert!(!has_session(&mut world, V5, &hour));
}

#[test]
fn a_session_that_was_to_end_cannot_be_prolonged_when_the_client_leaves() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    world.send(client, &disconnect_with(R::Success, &expiry(60)));
    world.expect_disconnect(client, R::ProtocolError);
    assert!(!has_session(&mut world, V5, &expiry(60)));
    // Saying 0 again is no change.
    let client = world.client(V5, "b");
    world.send(client, &disconnect_with(R::Success, &expiry(0)));
    world.expect_closed(client);
}

#[test]
fn nothing_after_disconnect_counts() {
    for version in ALL {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "#", QoS::AtMostOnce);
        let client = world.client(version, "a");
        let mut bytes = Vec::new();
        disconnect().encode(version, &mut bytes);
        Packet::Publish(publish("t", "late")).encode(version, &mut bytes);
        Packet::PingReq.encode(version, &mut bytes);
        world.send_bytes(client, &bytes);
        world.expect_closed(client);
        world.expect_nothing(watcher);
    }
}

#[test]
fn nothing_follows_the_servers_disconnect() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    world.subscribe(client, "t", QoS::AtMostOnce);
    let publisher = world.client(V5, "p");
    let mut message = Vec::new();
    Packet::Publish(publish("t", "late")).encode(V5, &mut message);
    // All in one turn: a packet that cannot be, a question after it, a message for the client.
    world.deliver_bytes(client, b"\x00\x00\xC0\x00");
    world.deliver_bytes(client, b"\xC0\x00");
    world.deliver_bytes(publisher, &message);
    world.turn();
    let received = world.read_all(client);
    assert_eq!(received.len(), 1); // [MQTT-3.14.4-1]
    assert!(matches!(received[0].packet(), Packet::Disconnect(_)));
    assert!(!world.is_open(client)); // [MQTT-3.14.4-2]
}

#[test]
fn a_newer_connection_takes_the_session_over() {
    for (old_version, new_version) in [(V311, V311), (V5, V5), (V311, V5), (V5, V31)] {
        let mut world = World::new();
        let hour = expiry(3_600);
        let old = world.connect(durable(old_version, "a", &hour));
        world.subscribe(old, "t", QoS::AtLeastOnce);
        let new = world.try_connect(durable(new_version, "a", &hour));
        // [MQTT-3.1.4-3]
        match old_version {
            V5 => world.expect_disconnect(old, R::SessionTakenOver),
            V31 | V311 => world.expect_closed(old),
        }
        let present = world.read(new).connack().session_present;
        assert_eq!(present, new_version != V31);
        let publisher = world.client(V311, "p");
        world.publish(publisher, "t", "to the new one");
        assert_eq!(world.payloads(new), ["to the new one"]);
        assert_eq!(world.broker.connected(), 2);
    }
}

#[test]
fn a_session_that_ends_with_its_connection_is_not_there_to_be_taken_over() {
    for version in [V311, V5] {
        let mut world = World::new();
        let old = world.client(version, "a");
        world.subscribe(old, "t", QoS::AtLeastOnce);
        let new = world.try_connect(durable(version, "a", &expiry(3_600)));
        assert!(!world.read(new).connack().session_present);
        let publisher = world.client(V311, "p");
        world.publish(publisher, "t", "x");
        world.expect_nothing(new);
    }
}

#[test]
fn two_clients_that_fight_for_one_id_take_turns() {
    let mut world = World::new();
    let mut last = world.client(V5, "a");
    for _ in 0..50 {
        let next = world.client(V5, "a");
        world.expect_disconnect(last, R::SessionTakenOver);
        world.expect_nothing(next);
        last = next;
        // Sooner than that it would not be let in again and again, see takeover.rs.
        world.advance(secs(15));
    }
    assert_eq!(world.broker.connected(), 1);
}

#[test]
fn a_silent_client_is_gone_after_one_and_a_half_keep_alives() {
    for version in ALL {
        for keep_alive in [1, 10, 60, 65_535] {
            let mut world = World::new();
            // Not at a time that suits the server's grid.
            world.advance(millis(12_345));
            let client = world.connect(Connect {
                keep_alive,
                ..connect(version, "a")
            });
            let silence = millis(u64::from(keep_alive) * 1_500);
            world.advance(silence - millis(1));
            world.expect_nothing(client);
            // Once a sixteenth later at the latest, so that many clients can be seen to at once.
            world.advance(millis(2) + silence / 16);
            // [MQTT-3.1.2-22]
            match version {
                V5 => world.expect_disconnect(client, R::KeepAliveTimeout),
                V31 | V311 => world.expect_closed(client),
            }
        }
    }
}

#[test]
fn any_packet_keeps_a_client_alive_and_half_a_packet_does_not() {
    let mut world = World::new();
    let client = world.connect(Connect {
        keep_alive: 10,
        ..connect(V5, "a")
    });
    for packet in [
        Packet::PingReq,
        Packet::Publish(publish("t", "x")),
        puback(7),
        subscribe(1, &[("s", SubscriptionOptions::new(QoS::AtMostOnce))]),
        unsubscribe(2, &["s"]),
    ] {
        world.advance(millis(14_900));
        world.send(client, &packet);
    }
    world.read_all(client);
    assert!(world.is_open(client));
    world.advance(secs(10));
    world.send_bytes(client, &[0xC0]);
    world.advance(secs(6));
    world.expect_disconnect(client, R::KeepAliveTimeout);
}

#[test]
fn what_the_client_is_sent_does_not_keep_it_alive() {
    let mut world = World::new();
    let client = world.connect(Connect {
        keep_alive: 10,
        ..connect(V5, "a")
    });
    world.subscribe(client, "t", QoS::AtMostOnce);
    let publisher = world.client(V5, "p");
    for _ in 0..16 {
        world.advance(secs(1));
        world.publish(publisher, "t", "x");
    }
    world.publishes(client);
    assert!(!world.is_open(client));
}

#[test]
fn without_keep_alive_a_client_may_be_silent_for_ever() {
    for version in ALL {
        let mut world = World::new();
        let client = world.client(version, "a");
        world.advance(secs(10 * 365 * 24 * 3_600));
        world.expect_nothing(client);
    }
}

#[test]
fn the_server_can_limit_the_keep_alive() {
    let options = Options {
        max_keep_alive: 60,
        ..Options::default()
    };
    for (asked, told) in [(0, Some(60)), (61, Some(60)), (60, None), (10, None)] {
        let mut world = World::with(options.clone());
        let client = world.try_connect(Connect {
            keep_alive: asked,
            ..connect(V5, "a")
        });
        let received = world.read(client);
        let connack = received.connack();
        assert_eq!(connack.properties.number(P::ServerKeepAlive), told);
        let kept = u64::from(told.map_or(u32::from(asked), |told| told));
        world.advance(millis(kept * 1_499));
        world.expect_nothing(client);
        world.advance(millis(kept * 100));
        // [MQTT-3.1.2-21] what it was told counts, [MQTT-3.2.2-22] or else what it asked for.
        world.expect_disconnect(client, R::KeepAliveTimeout);
    }
    // Before 5.0 there is no way to tell the client.
    for version in [V31, V311] {
        let mut world = World::with(options.clone());
        for keep_alive in [0, 61] {
            let client = world.try_connect(Connect {
                keep_alive,
                ..connect(version, "a")
            });
            world.expect_refused(client, R::ClientIdentifierNotValid);
        }
        let client = world.try_connect(Connect {
            keep_alive: 60,
            ..connect(version, "a")
        });
        assert_eq!(world.read(client).connack().reason, R::Success);
    }
}

#[test]
fn when_the_server_stops_everybody_is_told() {
    let mut world = World::new();
    let old = world.client(V31, "old");
    let usual = world.client(V311, "usual");
    let new = world.client(V5, "new");
    let nobody = world.open(V5);
    world.stop();
    world.expect_closed(old);
    world.expect_closed(usual);
    world.expect_disconnect(new, R::ServerShuttingDown); // [MQTT-3.14.2-1]
    world.expect_closed(nobody);
    assert_eq!(world.broker.connected(), 0);
}
