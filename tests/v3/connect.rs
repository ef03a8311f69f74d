//! Chapters 3.1, 3.2 and 3.12: CONNECT, its answer, and how long a connection may be silent.

use midge::broker::limits::{ListenerOptions, Options};
use midge::packet::*;

use crate::common::*;
use crate::{V311, client, keeping, packet, raw_connect, string, subscriber};

const ACCEPTED: &[u8] = b"\x20\x02\0\0";
const ACCEPTED_SESSION_PRESENT: &[u8] = b"\x20\x02\x01\0";

fn clean(id: &str) -> Connect<'_> {
    connect(V311, id)
}

/// All bytes that a CONNECT is answered with, and the client, which says no more.
fn answer(world: &mut World, connect: Connect) -> (Vec<u8>, Client) {
    let client = world.try_connect(connect);
    let received = world.read_all(client).into_iter();
    (received.flat_map(|one| one.bytes).collect(), client)
}

/// Leaves a session of that id behind, with a subscription to "t".
fn leave_session(world: &mut World, id: &str) {
    let client = world.connect(keeping(id));
    world.subscribe(client, "t", QoS::AtLeastOnce);
    world.lose(client);
}

#[test]
fn an_accepted_connect_is_answered_with_return_code_0_and_whether_there_was_a_session() {
    let mut world = World::new();
    assert_eq!(answer(&mut world, clean("a")).0, ACCEPTED); // [v3 MQTT-3.1.4-4]
    // Nothing is stored yet: not of the client that was clean either.
    assert_eq!(answer(&mut world, keeping("a")).0, ACCEPTED); // [v3 MQTT-3.2.2-3]
    let (bytes, client) = answer(&mut world, keeping("a"));
    assert_eq!(bytes, ACCEPTED_SESSION_PRESENT); // [v3 MQTT-3.2.2-2]
    world.disconnect(client);
    world.advance(secs(1_000));
    assert_eq!(answer(&mut world, keeping("a")).0, ACCEPTED_SESSION_PRESENT);
    // There is one, but a clean client does not have it.
    assert_eq!(answer(&mut world, clean("a")).0, ACCEPTED); // [v3 MQTT-3.2.2-1]
}

#[test]
fn connack_is_the_first_packet_whatever_is_due_to_the_client() {
    let mut world = World::new();
    leave_session(&mut world, "a");
    let publisher = client(&mut world, "p");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "waiting");
    let client = world.open(V311);
    let bytes = [
        &raw_connect(0x00, &[b"a"])[..],
        b"\xC0\0\x82\x06\0\x07\0\x01u\0",
    ]
    .concat();
    world.send_bytes(client, &bytes);
    let received = world.read_all(client);
    let first: Vec<u8> = received.iter().map(|one| one.bytes[0] >> 4).collect();
    assert_eq!(first, [2, 3, 13, 9]); // [v3 MQTT-3.2.0-1] CONNACK, then the others.
}

#[test]
fn a_refusal_says_why_knows_no_session_and_ends_the_connection() {
    let version_1 = packet(0x10, &[b"\0\x04MQTT\x01\0\0\0\0\x01a"]);
    let no_id = raw_connect(0x00, &[b""]);
    let known = raw_connect(0x00, &[b"a"]);
    let limits = |connections_max| {
        let mut options = Options::default();
        options.limits.connections_max = connections_max;
        options
    };
    for (return_code, options, bytes) in [
        (1, Options::default(), version_1),
        (2, Options::default(), no_id),
        (3, limits(1), known),
    ] {
        let mut world = World::with(options);
        // There is a session, and the server may have no more than one client.
        leave_session(&mut world, "a");
        client(&mut world, "other");
        let client = world.open(V311);
        world.send_bytes(client, &bytes);
        // [v3 MQTT-3.2.2-4] Session Present is 0.
        assert_eq!(world.read(client).bytes, [0x20, 2, 0, return_code]);
        world.expect_closed(client); // [v3 MQTT-3.2.2-5]
    }
}

#[test]
fn nothing_that_follows_a_refused_connect_is_processed() {
    let nobody = Options {
        listeners: vec![
            ListenerOptions {
                allow_anonymous: true,
                ..ListenerOptions::default()
            },
            ListenerOptions {
                allow_anonymous: false,
                ..ListenerOptions::default()
            },
        ],
        allow_zero_length_client_id: false,
        ..Options::default()
    };
    let mut world = World::with(nobody);
    let watcher = subscriber(&mut world, "watcher", "#", QoS::AtMostOnce);
    let publish = packet(0x30, &[b"\0\x01t", b"sneaked in"]);
    for refused in [
        raw_connect(0x02, &[b""]),  // With a return code.
        raw_connect(0x03, &[b"a"]), // Without.
        raw_connect(0x06, &[b"", b"w", b"its will"]),
    ] {
        let client = world.accept(V311);
        // With the CONNECT, and before the connection is closed.
        world.deliver_bytes(client, &[&refused[..], &publish].concat());
        world.deliver_bytes(
            client,
            &[&raw_connect(0x02, &[b"b"])[..], &publish].concat(),
        );
        world.turn();
        assert!(!world.is_open(client));
        world.expect_nothing(watcher); // [v3 MQTT-3.1.4-5]
        assert_eq!(world.broker.connected(), 1);
    }
    let client = world.open(V311);
    world.send_bytes(
        client,
        &[&raw_connect(0x02, &[b"a"])[..], &publish].concat(),
    );
    assert_eq!(world.payloads(watcher), ["sneaked in"]);
}

#[test]
fn what_names_another_protocol_is_not_taken_for_mqtt() {
    for name in ["MQTT", "MQTt", "mqtt", "MQTT ", "MQT", "AMQP", ""] {
        let mut world = World::new();
        leave_session(&mut world, "a");
        let client = world.open(V311);
        let clean: &[u8] = b"\x04\x02\0\0\0\x01a";
        world.send_bytes(client, &packet(0x10, &[&string(name.as_bytes()), clean]));
        if name == "MQTT" {
            assert_eq!(world.read(client).bytes, ACCEPTED);
            continue;
        }
        // [v3 MQTT-3.1.2-1] no CONNACK, and the session that it named is as it was.
        world.expect_closed(client);
        assert_eq!(answer(&mut world, keeping("a")).0, ACCEPTED_SESSION_PRESENT);
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    let mut world = World::new();
    let client = client(&mut world, "a");
    world.send(client, &Packet::Connect(clean("a")));
    world.expect_closed(client); // [v3 MQTT-3.1.0-2]
    assert_eq!(world.broker.connected(), 0);
}

#[test]
fn a_client_that_connects_again_ends_its_older_connection() {
    for (old, new) in [
        (clean("a"), clean("a")),
        (clean("a"), keeping("a")),
        (keeping("a"), clean("a")),
        (keeping("a"), keeping("a")),
    ] {
        let mut world = World::new();
        let other = client(&mut world, "b");
        let first = world.connect(old);
        world.subscribe(first, "t", QoS::AtLeastOnce);
        let (bytes, second) = answer(&mut world, new);
        world.expect_closed(first); // [v3 MQTT-3.1.4-2]
        world.expect_nothing(other);
        // [v3 MQTT-3.1.4-3] what CleanSession says of the session holds here too.
        let goes_on = !old.clean_start && !new.clean_start;
        let expected = match goes_on {
            true => ACCEPTED_SESSION_PRESENT,
            false => ACCEPTED,
        };
        assert_eq!(bytes, expected);
        world.publish(other, "t", "x");
        assert_eq!(world.publishes(second).len(), usize::from(goes_on));
    }
}

#[test]
fn client_ids_of_up_to_23_letters_and_digits_are_taken() {
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut world = World::new();
    for length in 1..=23 {
        for start in (0..all.len()).step_by(length) {
            let id = &all[start..(start + length).min(all.len())];
            let (bytes, client) = answer(&mut world, clean(id));
            assert_eq!(bytes, ACCEPTED, "{id}"); // [v3 MQTT-3.1.3-5]
            world.expect_nothing(client);
            world.disconnect(client);
        }
    }
}

#[test]
fn a_client_without_an_id_is_given_one_of_its_own() {
    let mut world = World::new();
    let clients = [(); 3].map(|()| world.connect(clean("")));
    for client in clients {
        // Each is served, and none has taken the place of another.
        world.subscribe(client, "t", QoS::AtMostOnce);
        world.expect_nothing(client); // [v3 MQTT-3.1.3-6]
    }
    assert_eq!(world.broker.connected(), 3);
}

#[test]
fn pingreq_is_answered() {
    let mut world = World::new();
    let client = client(&mut world, "a");
    world.send_bytes(client, b"\xC0\0\xC0\0");
    for _ in 0..2 {
        assert_eq!(world.read(client).bytes, b"\xD0\0"); // [v3 MQTT-3.12.4-1]
    }
    world.expect_nothing(client);
}

#[test]
fn a_client_that_is_silent_for_one_and_a_half_keep_alives_counts_as_lost() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "w", QoS::AtMostOnce);
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic: "w",
        payload: b"lost",
    };
    let client = world.connect(Connect {
        keep_alive: 60,
        will: Some(will),
        ..keeping("a")
    });
    for _ in 0..10 {
        world.advance(secs(89));
        world.send_bytes(client, b"\x40\x02\0\x01");
    }
    // Half a packet is none.
    world.advance(secs(89));
    world.send_bytes(client, b"\xC0");
    world.expect_nothing(client);
    world.expect_nothing(watcher);
    // A sixteenth later at most: clients are looked at together.
    world.advance(secs(7));
    world.expect_closed(client); // [v3 MQTT-3.1.2-24]
    assert_eq!(world.payloads(watcher), ["lost"]);
    assert_eq!(answer(&mut world, keeping("a")).0, ACCEPTED_SESSION_PRESENT);
}
