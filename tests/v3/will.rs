//! Chapters 3.1.2.5 to 3.1.2.7 and 3.14: the Will Message, and the DISCONNECT that makes it void.

use midge::packet::*;

use crate::common::*;
use crate::{client, keeping, subscriber};

fn with_will(id: &str, qos: QoS, retain: bool) -> Connect<'_> {
    Connect {
        will: Some(Will {
            qos,
            retain,
            properties: Properties::NONE,
            topic: "w",
            payload: b"bye",
        }),
        keep_alive: 10,
        ..keeping(id)
    }
}

fn mortal(id: &str) -> Connect<'_> {
    with_will(id, QoS::AtMostOnce, false)
}

/// A world with somebody who hears every will.
fn heard() -> (World, Client) {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "w", QoS::ExactlyOnce);
    (world, watcher)
}

#[test]
fn a_will_is_published_however_the_connection_ends_without_disconnect() {
    type Ending = fn(&mut World, Client);
    let endings: [(&str, Ending); 5] = [
        ("the network fails", |world, client| world.lose(client)),
        ("silence", |world, _| world.advance(secs(16))),
        ("a protocol error", |world, client| {
            world.send_bytes(client, b"\0\0");
        }),
        ("another connection", |world, _| {
            world.connect(keeping("a"));
        }),
        ("the server stops", |world, _| world.stop()),
    ];
    for (name, end) in endings {
        let (mut world, watcher) = heard();
        let client = world.connect(mortal("a"));
        world.expect_nothing(watcher);
        end(&mut world, client);
        assert!(!world.is_open(client), "{name}");
        assert_eq!(world.payloads(watcher), ["bye"], "{name}"); // [v3 MQTT-3.1.2-8]
    }
}

#[test]
fn the_will_of_a_connect_that_is_refused_is_not_published() {
    let (mut world, watcher) = heard();
    let client = world.try_connect(mortal(""));
    world.expect_refused(client, ReasonCode::ClientIdentifierNotValid);
    world.expect_nothing(watcher);
}

#[test]
fn disconnect_makes_the_will_void() {
    let (mut world, watcher) = heard();
    for clean_start in [false, true] {
        let client = world.connect(Connect {
            clean_start,
            ..mortal("a")
        });
        world.disconnect(client);
        world.advance(secs(100_000));
        world.expect_nothing(watcher); // [v3 MQTT-3.14.4-3]
    }
}

/// The session stays, the Will does not: neither one that was published nor one that was void.
#[test]
fn a_will_is_no_part_of_the_session_any_more_once_its_connection_has_ended() {
    let (mut world, watcher) = heard();
    let client = world.connect(mortal("a"));
    world.lose(client);
    assert_eq!(world.payloads(watcher), ["bye"]);
    for goodbye in [false, true] {
        let client = world.try_connect(keeping("a"));
        assert!(world.read(client).connack().session_present);
        world.lose(client);
        world.expect_nothing(watcher); // [v3 MQTT-3.1.2-10]
        if !goodbye {
            let client = world.connect(mortal("a"));
            world.disconnect(client);
        }
    }
}

#[test]
fn a_will_without_will_retain_is_an_ordinary_message() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut world, watcher) = heard();
        let publisher = client(&mut world, "p");
        world.send(publisher, &Packet::Publish(retained("w", "kept")));
        world.read(watcher);
        let client = world.connect(with_will("a", qos, false));
        world.lose(client);
        assert_eq!(world.read(watcher).publish().qos, qos);
        // Who comes later is sent what was retained before.
        let late = subscriber(&mut world, "late", "w", QoS::ExactlyOnce);
        assert_eq!(world.payloads(late), ["kept"]); // [v3 MQTT-3.1.2-16]
    }
}

#[test]
fn a_will_with_will_retain_is_retained() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut world, watcher) = heard();
        let client = world.connect(with_will("a", qos, true));
        let early = subscriber(&mut world, "early", "w", QoS::ExactlyOnce);
        world.expect_nothing(early);
        world.lose(client);
        assert_eq!(world.payloads(watcher), ["bye"]);
        let late = subscriber(&mut world, "late", "w", QoS::ExactlyOnce);
        let received = world.read(late);
        let publish = received.publish();
        // [v3 MQTT-3.1.2-17]
        assert_eq!((publish.payload, publish.retain), (&b"bye"[..], true));
        assert_eq!(publish.qos, qos);
    }
}
