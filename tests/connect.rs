//! How connections begin: CONNECT and CONNACK, and what is no CONNECT at all.

mod common;

use common::*;
use midge::broker::limits::{Limits, Options};
use midge::packet::property::Value;
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

/// `name` as a string with its length, then the rest of a CONNECT.
fn raw_connect(name: &str, level: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0, name.len() as u8];
    body.extend(name.as_bytes());
    body.push(level);
    body.extend(rest);
    let mut bytes = vec![0x10, body.len() as u8];
    bytes.extend(body);
    bytes
}

#[test]
fn a_client_of_each_version_is_welcomed() {
    for version in ALL {
        let mut world = World::new();
        let client = world.try_connect(connect(version, "a"));
        let received = world.read(client);
        let connack = received.connack();
        // [MQTT-3.1.4-5]; [v3 MQTT-7.0.0-2] the specification's CONNECT is all it takes.
        assert_eq!(connack.reason, R::Success);
        assert!(!connack.session_present);
        // [MQTT-3.2.0-2] once.
        world.expect_nothing(client);
        assert_eq!(world.broker.connected(), 1);
        // [MQTT-3.12.4-1]
        world.send(client, &Packet::PingReq);
        world.expect(client, &Packet::PingResp);
        world.disconnect(client);
        assert_eq!(world.broker.connected(), 0);
    }
}

#[test]
fn connack_names_only_what_differs_from_the_defaults() {
    let mut world = World::new();
    let client = world.try_connect(connect(V5, "a"));
    let received = world.read(client);
    let named: Vec<_> = received
        .connack()
        .properties
        .iter()
        .map(|property| (property.id, property.value))
        .collect();
    assert_eq!(
        named,
        [
            (P::MaximumPacketSize, Value::Number(2_000_000)),
            (P::TopicAliasMaximum, Value::Number(10)),
        ]
    );

    let mut options = Options {
        max_qos: QoS::AtLeastOnce,
        retain_available: false,
        ..Options::default()
    };
    options.limits.receive_maximum = 7;
    options.limits.topic_alias_max = 0;
    let mut world = World::with(options);
    let client = world.try_connect(connect(V5, "a"));
    let received = world.read(client);
    let properties = received.connack().properties;
    assert_eq!(properties.number(P::ReceiveMaximum), Some(7));
    assert_eq!(properties.number(P::MaximumQoS), Some(1)); // [MQTT-3.2.2-9]
    assert_eq!(properties.number(P::RetainAvailable), Some(0));
    assert_eq!(properties.number(P::TopicAliasMaximum), None);
    assert_eq!(properties.number(P::ServerKeepAlive), None);
    // [MQTT-4.12.0-6] no method, and no AUTH either.
    assert_eq!(properties.text(P::AuthenticationMethod), None);
    world.expect_nothing(client);
}

#[test]
fn response_information_is_not_given_even_if_asked_for() {
    for asked in [0, 1] {
        let mut world = World::new();
        let properties = numbers(&[(P::RequestResponseInformation, asked)]);
        let client = world.try_connect(Connect {
            properties: properties.as_properties(),
            ..connect(V5, "a")
        });
        let received = world.read(client);
        // [MQTT-3.1.2-28]
        let information = received.connack().properties.text(P::ResponseInformation);
        assert_eq!(information, None);
    }
}

#[test]
fn what_follows_connect_in_the_same_read_is_answered_after_connack() {
    for version in ALL {
        let mut world = World::new();
        let client = world.open(version);
        let mut bytes = Vec::new();
        Packet::Connect(connect(version, "a")).encode(version, &mut bytes);
        Packet::PingReq.encode(version, &mut bytes);
        world.send_bytes(client, &bytes);
        assert_eq!(world.read(client).connack().reason, R::Success); // [MQTT-3.2.0-1]
        world.expect(client, &Packet::PingResp);
    }
}

#[test]
fn connack_comes_before_what_the_session_has_waiting() {
    for version in ALL {
        let mut world = World::new();
        let hour = expiry(3_600);
        let a = world.connect(durable(version, "a", &hour));
        world.subscribe(a, "t", QoS::AtLeastOnce);
        world.disconnect(a);
        let publisher = world.client(V311, "p");
        let message = publish_qos(QoS::AtLeastOnce, 1, "t", "waiting");
        world.send(publisher, &Packet::Publish(message));
        let a = world.try_connect(durable(version, "a", &hour));
        assert_eq!(world.read(a).connack().reason, R::Success); // [MQTT-3.2.0-1]
        assert_eq!(world.payloads(a), ["waiting"]);
    }
}

#[test]
fn the_first_packet_must_be_connect() {
    for bytes in [
        &b"\xC0\x00"[..],
        b"\x30\x03\x00\x01a",
        b"\xE0\x00",
        b"\xF0\x00",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\n",
    ] {
        let mut world = World::new();
        let client = world.open(V5);
        world.send_bytes(client, bytes);
        world.expect_closed(client); // [MQTT-3.1.0-1]
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    for version in ALL {
        let mut world = World::new();
        let client = world.client(version, "a");
        world.send(client, &Packet::Connect(connect(version, "a")));
        // [MQTT-3.1.0-2] [MQTT-3.2.0-2] no second CONNACK.
        match version {
            V5 => world.expect_disconnect(client, R::ProtocolError),
            V31 | V311 => world.expect_closed(client),
        }
    }
}

#[test]
fn a_second_connect_is_no_better_for_being_broken() {
    for level in [3, 4, 6, 0x84] {
        let mut world = World::new();
        let client = world.client(V5, "a");
        // A version that is not spoken here has a reason code that DISCONNECT cannot carry.
        let mut bytes = b"\x10\x0d\x00\x04MQTT\x00\x02\x00\x00\x00\x01a".to_vec();
        bytes[8] = level;
        world.send_bytes(client, &bytes);
        // [MQTT-3.1.0-2]
        world.expect_disconnect(client, R::ProtocolError);
    }
}

#[test]
fn packets_that_only_a_server_sends_end_the_connection() {
    let suback = SubAck {
        packet_id: 1,
        properties: Properties::NONE,
        reasons: vec![R::Success],
    };
    let connack = ConnAck {
        session_present: false,
        reason: R::Success,
        properties: Properties::NONE,
    };
    for packet in [
        Packet::ConnAck(connack),
        Packet::SubAck(suback.clone()),
        Packet::UnsubAck(suback),
        Packet::PingResp,
    ] {
        let mut world = World::new();
        let client = world.client(V5, "a");
        world.send(client, &packet);
        world.expect_disconnect(client, R::ProtocolError); // [MQTT-4.13.1-1] [MQTT-4.13.2-1]
    }
}

#[test]
fn wrong_flags_end_the_connection() {
    for bytes in [
        &b"\x42\x02\x00\x01"[..],             // [MQTT-2.1.3-1] PUBACK.
        b"\x60\x02\x00\x01",                  // [MQTT-3.6.1-1] PUBREL.
        b"\x80\x07\x00\x01\x00\x00\x01a\x00", // [MQTT-3.8.1-1] SUBSCRIBE.
        b"\xA0\x06\x00\x01\x00\x00\x01a",     // [MQTT-3.10.1-1] UNSUBSCRIBE.
        b"\xE1\x00",                          // [MQTT-3.14.1-1] DISCONNECT.
        b"\xF1\x00",                          // [MQTT-3.15.1-1] AUTH.
    ] {
        let mut world = World::new();
        let client = world.client(V5, "a");
        world.send_bytes(client, bytes);
        world.expect_disconnect(client, R::MalformedPacket);
    }
}

#[test]
fn a_version_of_the_future_is_refused_in_the_form_of_5_0() {
    let mut world = World::new();
    let client = world.open(V5);
    world.send_bytes(client, &raw_connect("MQTT", 6, b"whatever they put there"));
    let received = world.read(client);
    assert_eq!(received.connack().reason, R::UnsupportedProtocolVersion);
    let why = reason_string(received.connack().properties);
    assert!(why.contains("3.1.1 and 5.0"), "{why}");
    world.expect_closed(client); // [MQTT-3.1.2-2]
}

#[test]
fn a_version_of_the_past_is_refused_with_return_code_1() {
    for (name, level) in [("MQTT", 1), ("MQTT", 2), ("MQTT", 3), ("MQIsdp", 4)] {
        let mut world = World::new();
        let client = world.open(V311);
        world.send_bytes(client, &raw_connect(name, level, b"\x02\0\0\0\x01a"));
        // [v3 MQTT-3.1.2-2]
        world.expect_refused(client, R::UnsupportedProtocolVersion);
    }
}

#[test]
fn what_is_not_mqtt_is_closed_without_a_word() {
    let mut world = World::new();
    let client = world.open(V5);
    world.send_bytes(client, &raw_connect("AMQP", 5, b"\x02\0\0\0\0\x01a"));
    world.expect_closed(client); // [MQTT-3.1.2-1]
}

#[test]
fn a_malformed_connect_is_refused_in_5_0_and_closed_silently_before() {
    // The reserved flag is set.
    for (version, name) in [(V31, "MQIsdp"), (V311, "MQTT")] {
        let mut world = World::new();
        let client = world.open(version);
        let bytes = raw_connect(name, version as u8, b"\x03\0\0\0\x01a");
        world.send_bytes(client, &bytes);
        world.expect_closed(client); // [v3 MQTT-3.1.4-1] [v3 MQTT-3.1.2-3]
    }
    let mut world = World::new();
    let client = world.open(V5);
    world.send_bytes(client, &raw_connect("MQTT", 5, b"\x03\0\0\0\0\x01a"));
    let received = world.read(client);
    // [MQTT-3.1.2-3]; [MQTT-3.14.0-1] a CONNACK, not a DISCONNECT.
    assert_eq!(received.connack().reason, R::MalformedPacket);
    assert!(reason_string(received.connack().properties).contains("reserved"));
    world.expect_closed(client); // [MQTT-3.1.4-1] [MQTT-3.2.2-7]
}

#[test]
fn nothing_after_a_refused_connect_counts() {
    for version in ALL {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "#", QoS::AtMostOnce);
        let client = world.open(version);
        let too_long = "x".repeat(Limits::CLIENT_ID_BYTES_MAX + 1);
        let mut bytes = Vec::new();
        Packet::Connect(connect(version, &too_long)).encode(version, &mut bytes);
        Packet::Publish(publish("t", "sneaked in")).encode(version, &mut bytes);
        world.send_bytes(client, &bytes);
        world.expect_refused(client, R::ClientIdentifierNotValid);
        world.expect_nothing(watcher); // [MQTT-3.1.4-6]
    }
}

#[test]
fn a_peer_that_sends_no_connect_is_gone_after_ten_seconds() {
    let mut world = World::new();
    let silent = world.open(V311);
    let slow = world.open(V311);
    let mut bytes = Vec::new();
    Packet::Connect(connect(V311, "slow")).encode(V311, &mut bytes);
    for byte in &bytes[..9] {
        world.advance(secs(1));
        world.send_bytes(slow, &[*byte]);
    }
    world.advance(millis(999));
    world.expect_nothing(silent);
    world.expect_nothing(slow);
    world.advance(millis(1));
    world.expect_closed(silent);
    // A byte now and then is no excuse.
    world.expect_closed(slow);
}

#[test]
fn peers_that_are_slow_to_say_who_they_are_keep_nobody_out() {
    let mut world = World::new();
    let honest = world.open(V311);
    world.send(honest, &Packet::Connect(connect(V311, "honest")));
    assert_eq!(world.read(honest).connack().reason, R::Success);
    let silent: Vec<Client> = (0..Limits::UNCONNECTED_MAX)
        .map(|_| world.accept(V311))
        .collect();
    world.turn();
    assert!(silent.iter().all(|client| world.is_open(*client)));
    // There are as many as may be: each that comes takes the place of the oldest.
    let late = world.client(V311, "late");
    world.expect_closed(silent[0]);
    assert!(silent[1..].iter().all(|client| world.is_open(*client)));
    // It has said who it is, which makes room for one.
    world.open(V311);
    assert!(world.is_open(silent[1]));
    world.open(V311);
    world.expect_closed(silent[1]);
    assert!(world.is_open(honest) && world.is_open(late));
}
