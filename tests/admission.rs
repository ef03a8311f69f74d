//! Who is let in: client ids, limits, packet sizes, and refusals in each version's form.

mod common;

use std::collections::HashSet;

use common::*;
use midge::broker::limits::{Limits, ListenerOptions, Options};
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

#[test]
fn a_connect_of_more_than_100_000_bytes_is_refused() {
    let payload = vec![b'x'; 50_000];
    let password = vec![b'x'; 60_000];
    for version in ALL {
        let mut world = World::new();
        let client = world.try_connect(Connect {
            will: Some(will("w", &payload)),
            user_name: Some("user"),
            password: Some(&password),
            ..connect(version, "a")
        });
        match version {
            V5 => world.expect_refused(client, R::PacketTooLarge),
            V31 | V311 => world.expect_closed(client),
        }
        // A large Will fits.
        let client = world.try_connect(Connect {
            will: Some(will("w", &password)),
            ..connect(version, "a")
        });
        assert_eq!(world.read(client).connack().reason, R::Success);
    }
}

fn will<'a>(topic: &'a str, payload: &'a [u8]) -> Will<'a> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic,
        payload,
    }
}

#[test]
fn a_packet_above_the_servers_maximum_size_ends_the_connection() {
    let mut options = Options::default();
    options.limits.packet_bytes_max = 1_000;
    for version in ALL {
        let mut world = World::with(options.clone());
        let client = world.try_connect(connect(version, "a"));
        let received = world.read(client);
        let announced = received.connack().properties.number(P::MaximumPacketSize);
        assert_eq!(announced, (version == V5).then_some(1_000));
        // The largest one that fits: header 3, topic 3, properties 0 or 1.
        let fits = "x".repeat(if version == V5 { 993 } else { 994 });
        world.publish(client, "t", &fits);
        world.expect_nothing(client);
        // [MQTT-3.2.2-15]: the header of a larger one is enough.
        world.send_bytes(client, &[0x30, 0xE6, 0x07]);
        match version {
            V5 => world.expect_disconnect(client, R::PacketTooLarge),
            V31 | V311 => world.expect_closed(client),
        }
    }
}

#[test]
fn the_client_id_is_any_string() {
    for version in ALL {
        let mut world = World::new();
        // [MQTT-3.1.3-5]
        for id in [
            "0",
            "abcdefghijABCDEFGHIJ019",
            "with spaces / and ☃",
            "$SYS",
        ] {
            let client = world.try_connect(connect(version, id));
            assert_eq!(world.read(client).connack().reason, R::Success, "{id}");
        }
        let long = "x".repeat(Limits::CLIENT_ID_BYTES_MAX + 1);
        let client = world.try_connect(connect(version, &long[1..]));
        assert_eq!(world.read(client).connack().reason, R::Success);
        let client = world.try_connect(connect(version, &long));
        world.expect_refused(client, R::ClientIdentifierNotValid);
    }
}

#[test]
fn a_client_without_an_id_is_given_one() {
    let mut world = World::new();
    let mut assigned = vec![];
    for _ in 0..3 {
        let client = world.try_connect(connect(V5, ""));
        let received = world.read(client);
        // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
        let connack = received.connack();
        let id = connack.properties.text(P::AssignedClientIdentifier);
        let id = id.unwrap().to_string();
        assert!(id.starts_with("auto-"), "{id}");
        assert!(!assigned.contains(&id));
        world.expect_nothing(client);
        assigned.push(id);
    }
    // It is an id like any other.
    let again = world.try_connect(connect(V5, &assigned[0]));
    let received = world.read(again);
    let id = received
        .connack()
        .properties
        .text(P::AssignedClientIdentifier);
    assert_eq!((received.connack().reason, id), (R::Success, None));
    assert_eq!(world.broker.connected(), 3);
}

#[test]
fn an_id_that_was_assigned_once_is_not_given_to_another() {
    // Whatever was drawn at start.
    for seed in [0, 1, 0xFFFF, u64::MAX] {
        let mut world = World::with(Options {
            seed,
            ..Options::default()
        });
        let mut assigned = HashSet::new();
        for _ in 0..100 {
            let client = world.try_connect(connect(V5, ""));
            let received = world.read(client);
            let properties = received.connack().properties;
            let id = properties.text(P::AssignedClientIdentifier).unwrap();
            assert!(assigned.insert(id.to_string()), "{id} of seed {seed}");
            world.disconnect(client);
        }
    }
}

#[test]
fn a_session_without_an_id_of_its_own_can_be_resumed_by_the_assigned_one() {
    let mut world = World::new();
    let hour = expiry(3_600);
    let client = world.try_connect(durable(V5, "", &hour));
    let received = world.read(client);
    let id = received
        .connack()
        .properties
        .text(P::AssignedClientIdentifier);
    let id = id.unwrap().to_string();
    world.disconnect(client);
    let client = world.try_connect(durable(V5, &id, &hour));
    assert!(world.read(client).connack().session_present); // [MQTT-3.1.3-7]
}

#[test]
fn before_5_0_a_client_without_an_id_needs_a_clean_session() {
    let mut world = World::new();
    let clean = world.try_connect(connect(V311, ""));
    assert_eq!(world.read(clean).connack().reason, R::Success); // [v3 MQTT-3.1.3-6]
    let kept = world.try_connect(Connect {
        clean_start: false,
        ..connect(V311, "")
    });
    // [v3 MQTT-3.1.3-8] [v3 MQTT-3.1.3-9]
    world.expect_refused(kept, R::ClientIdentifierNotValid);
    // MQTT 3.1 has no clients without an id.
    let old = world.try_connect(connect(V31, ""));
    world.expect_refused(old, R::ClientIdentifierNotValid);
}

#[test]
fn the_server_can_insist_on_client_ids() {
    let mut world = World::with(Options {
        allow_zero_length_client_id: false,
        ..Options::default()
    });
    for version in ALL {
        let client = world.try_connect(connect(version, ""));
        world.expect_refused(client, R::ClientIdentifierNotValid); // [MQTT-3.1.3-8]
        let client = world.try_connect(connect(version, "a"));
        assert_eq!(world.read(client).connack().reason, R::Success);
    }
}

#[test]
fn a_listener_may_keep_anonymous_clients_out() {
    for version in ALL {
        let mut world = World::with(Options {
            listeners: vec![ListenerOptions {
                allow_anonymous: false,
                ..ListenerOptions::default()
            }],
            ..Options::default()
        });
        let anonymous = world.try_connect(connect(version, "a"));
        world.expect_refused(anonymous, R::NotAuthorized); // [MQTT-3.1.4-2]
        // A name that nobody can check opens no door.
        let named = world.try_connect(Connect {
            user_name: Some("root"),
            password: Some(b"guess"),
            ..connect(version, "a")
        });
        world.expect_refused(named, R::NotAuthorized);
        assert_eq!(world.broker.connected(), 0);
    }
}

#[test]
fn names_and_passwords_do_no_harm_where_anonymous_clients_are_welcome() {
    for version in ALL {
        let mut world = World::new();
        let client = world.try_connect(Connect {
            user_name: Some("user"),
            password: Some(b"pass"),
            ..connect(version, "a")
        });
        assert_eq!(world.read(client).connack().reason, R::Success);
    }
}

#[test]
fn extended_authentication_is_refused() {
    let mut world = World::new();
    let mut method = PropertyBlock::new();
    method.text(P::AuthenticationMethod, "SCRAM-SHA-1");
    let client = world.try_connect(Connect {
        properties: method.as_properties(),
        ..connect(V5, "a")
    });
    // [MQTT-4.12.0-1] [MQTT-4.12.0-4]
    world.expect_refused(client, R::BadAuthenticationMethod);

    let client = world.client(V5, "a");
    let auth = Auth {
        reason: R::ReAuthenticate,
        properties: method.as_properties(),
    };
    world.send(client, &Packet::Auth(auth));
    // [MQTT-4.12.0-7] [MQTT-4.12.1-2] none was agreed on.
    world.expect_disconnect(client, R::ProtocolError);

    let client = world.client(V5, "a");
    world.send_bytes(client, b"\xF0\x00");
    world.expect_disconnect(client, R::ProtocolError);

    let client = world.client(V311, "a");
    world.send_bytes(client, b"\xF0\x00");
    world.expect_closed(client);
}

#[test]
fn a_will_that_cannot_be_published_is_refused_with_its_connect() {
    let options = Options {
        max_qos: QoS::AtLeastOnce,
        retain_available: false,
        ..Options::default()
    };
    let plain = will("w", b"bye");
    let best = Will {
        qos: QoS::ExactlyOnce,
        ..plain
    };
    let keep = Will {
        retain: true,
        ..plain
    };
    for (will, code, return_code) in [
        (best, R::QoSNotSupported, None),    // [MQTT-3.2.2-12]
        (keep, R::RetainNotSupported, None), // [MQTT-3.2.2-13]
        (will("w/#", b""), R::MalformedPacket, None),
        (will("", b""), R::MalformedPacket, None),
        (
            will("$SYS/x", b""),
            R::NotAuthorized,
            Some(R::NotAuthorized),
        ),
    ] {
        for version in ALL {
            let mut world = World::with(options.clone());
            let client = world.try_connect(Connect {
                will: Some(will),
                ..connect(version, "a")
            });
            match (version, return_code) {
                (V5, _) => world.expect_refused(client, code), // [MQTT-3.2.2-8]
                (_, Some(code)) => world.expect_refused(client, code),
                // [v3 MQTT-3.2.2-6] no return code says that.
                (_, None) => world.expect_closed(client),
            }
        }
    }
}

#[test]
fn a_refusal_never_says_that_a_session_is_present() {
    let mut world = World::new();
    let hour = expiry(3_600);
    let client = world.connect(durable(V5, "a", &hour));
    world.disconnect(client);
    let client = world.try_connect(Connect {
        will: Some(will("#", b"")),
        ..durable(V5, "a", &hour)
    });
    world.expect_refused(client, R::MalformedPacket); // [MQTT-3.2.2-6]
    let client = world.try_connect(durable(V5, "a", &hour));
    assert!(world.read(client).connack().session_present);
}

#[test]
fn the_number_of_clients_is_limited() {
    let mut options = Options::default();
    options.limits.connections_max = 2;
    for version in ALL {
        let mut world = World::with(options.clone());
        let a = world.client(V311, "a");
        let b = world.client(V5, "b");
        let c = world.try_connect(connect(version, "c"));
        match version {
            V5 => world.expect_refused(c, R::QuotaExceeded),
            V31 | V311 => world.expect_refused(c, R::ServerUnavailable),
        }
        // A client that is there may come again: it is not one more.
        let again = world.client(version, "a");
        world.expect_closed(a);
        world.expect_nothing(again);
        world.disconnect(b);
        let c = world.client(version, "c");
        world.expect_nothing(c);
    }
}

#[test]
fn the_number_of_clients_is_limited_for_those_with_a_session_too() {
    let mut options = Options::default();
    options.limits.connections_max = 1;
    let mut world = World::with(options);
    let hour = expiry(3_600);
    let a = world.connect(durable(V5, "a", &hour));
    world.disconnect(a);
    world.client(V5, "b");
    let a = world.try_connect(durable(V5, "a", &hour));
    world.expect_refused(a, R::QuotaExceeded);
    assert_eq!(world.broker.connected(), 1);
}

#[test]
fn the_number_of_sessions_is_limited() {
    let mut options = Options::default();
    options.limits.sessions_max = 2;
    let mut world = World::with(options);
    let hour = expiry(3_600);
    let a = world.connect(durable(V5, "a", &hour));
    world.disconnect(a);
    world.client(V311, "b");
    let c = world.try_connect(connect(V5, "c"));
    world.expect_refused(c, R::QuotaExceeded);
    let c = world.try_connect(connect(V311, "c"));
    world.expect_refused(c, R::ServerUnavailable);
    let a = world.try_connect(durable(V5, "a", &hour));
    assert!(world.read(a).connack().session_present);
}

#[test]
fn reasons_are_given_as_text_unless_the_client_declines() {
    for (wanted, text) in [(None, true), (Some(1), true), (Some(0), false)] {
        let mut world = World::new();
        let properties = match wanted {
            Some(wanted) => numbers(&[(P::RequestProblemInformation, wanted)]),
            None => PropertyBlock::new(),
        };
        let client = world.connect(Connect {
            properties: properties.as_properties(),
            ..connect(V5, "a")
        });
        let to_sys = publish_qos(QoS::AtLeastOnce, 1, "$SYS/x", "");
        world.send(client, &Packet::Publish(to_sys));
        let received = world.read(client);
        let Packet::PubAck(ack) = received.packet() else {
            panic!("expected PUBACK");
        };
        assert_eq!(ack.reason, R::NotAuthorized);
        assert_eq!(ack.properties.text(P::ReasonString).is_some(), text); // [MQTT-3.1.2-29]
        // A DISCONNECT may always say why.
        world.send_bytes(client, b"\x00\x00");
        let received = world.read(client);
        let Packet::Disconnect(disconnect) = received.packet() else {
            panic!("expected DISCONNECT");
        };
        assert_eq!(disconnect.reason, R::MalformedPacket);
        assert!(!reason_string(disconnect.properties).is_empty());
        assert_eq!(disconnect.properties.number(P::SessionExpiryInterval), None); // [MQTT-3.14.2-2]
        world.expect_closed(client); // [MQTT-4.13.1-1]
    }
}

/// What a client may ask for in vain, each with the shortest answer that says so. A longer one
/// would have a Reason String or a User Property.
fn vain() -> Vec<(Packet<'static>, Packet<'static>)> {
    let deep: &str = "/".repeat(200).leak();
    let filters = [(deep, SubscriptionOptions::new(QoS::AtMostOnce))];
    let to_sys = |qos| Packet::Publish(publish_qos(qos, 1, "$SYS/x", ""));
    let refused = Ack::new(1, R::NotAuthorized);
    let unknown = Ack::new(1, R::PacketIdentifierNotFound);
    let invalid = SubAck {
        packet_id: 1,
        properties: Properties::NONE,
        reasons: vec![R::TopicFilterInvalid],
    };
    vec![
        (to_sys(QoS::AtLeastOnce), Packet::PubAck(refused)),
        (to_sys(QoS::ExactlyOnce), Packet::PubRec(refused)),
        (Packet::PubRec(ack(1)), Packet::PubRel(unknown)),
        (Packet::PubRel(ack(1)), Packet::PubComp(unknown)),
        (subscribe(1, &filters), Packet::SubAck(invalid.clone())),
        (unsubscribe(1, &[deep]), Packet::UnsubAck(invalid)),
    ]
}

#[test]
fn a_client_that_declines_reasons_is_sent_none() {
    let mut world = World::new();
    let declines = numbers(&[(P::RequestProblemInformation, 0)]);
    let client = world.connect(Connect {
        properties: declines.as_properties(),
        ..connect(V5, "a")
    });
    for (asked, answer) in vain() {
        world.send(client, &asked);
        world.expect(client, &answer); // [MQTT-3.1.2-29]
    }
}

#[test]
fn nothing_is_added_that_makes_a_packet_too_large() {
    let mut options = Options::default();
    options.limits.topic_alias_max = 0;
    let mut world = World::with(options);
    // A CONNACK that says no more than it has to.
    let small = numbers(&[(P::MaximumPacketSize, 10)]);
    let client = world.try_connect(Connect {
        properties: small.as_properties(),
        ..connect(V5, "a")
    });
    let connack = world.read(client);
    assert_eq!(connack.connack().reason, R::Success);
    assert_eq!(connack.bytes.len(), 10); // [MQTT-3.2.2-19] [MQTT-3.2.2-20]
    for (asked, answer) in vain() {
        world.send(client, &asked);
        // [MQTT-3.4.2-1] [MQTT-3.4.2-2] [MQTT-3.4.2-3] PUBACK
        // [MQTT-3.5.2-1] [MQTT-3.5.2-2] [MQTT-3.5.2-3] PUBREC
        // [MQTT-3.6.2-1] [MQTT-3.6.2-2] [MQTT-3.6.2-3] PUBREL
        // [MQTT-3.7.2-1] [MQTT-3.7.2-2] [MQTT-3.7.2-3] PUBCOMP
        // [MQTT-3.9.2-1] [MQTT-3.9.2-2] SUBACK
        // [MQTT-3.11.2-1] [MQTT-3.11.2-2] UNSUBACK
        world.expect(client, &answer);
    }
    world.send_bytes(client, b"\x00\x00");
    let malformed = Disconnect {
        reason: R::MalformedPacket,
        properties: Properties::NONE,
    };
    world.expect(client, &Packet::Disconnect(malformed)); // [MQTT-3.14.2-3] [MQTT-3.14.2-4]
    world.expect_closed(client);

    let refused = world.try_connect(Connect {
        properties: small.as_properties(),
        will: Some(will("#", b"")),
        ..connect(V5, "a")
    });
    let malformed = ConnAck {
        session_present: false,
        reason: R::MalformedPacket,
        properties: Properties::NONE,
    };
    world.expect(refused, &Packet::ConnAck(malformed)); // [MQTT-3.2.2-19] [MQTT-3.2.2-20]
    world.expect_closed(refused);
}

/// A client may name a maximum that even an acknowledgement exceeds.
#[test]
fn no_packet_at_all_is_larger_than_the_client_takes() {
    for max in [1, 2, 4, 5, 10, 20] {
        let mut world = World::new();
        let small = numbers(&[(P::MaximumPacketSize, max)]);
        let client = world.try_connect(Connect {
            properties: small.as_properties(),
            ..connect(V5, "a")
        });
        let filters = [("t", SubscriptionOptions::new(QoS::AtMostOnce)); 30];
        for packet in [
            Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, "t", "x")),
            Packet::PingReq,
            subscribe(2, &filters),
        ] {
            if world.is_open(client) {
                world.send(client, &packet);
            }
        }
        for received in world.read_all(client) {
            // [MQTT-3.1.2-24]
            let length = received.bytes.len();
            assert!(length <= max as usize, "{length} bytes, {max} at most");
        }
        // [MQTT-4.13.2-1] whether or not it could be told.
        assert!(
            !world.is_open(client),
            "a client that cannot be answered is not served"
        );
    }
}

#[test]
fn a_client_that_cannot_be_answered_takes_no_session_over() {
    let mut world = World::new();
    let old = world.client(V5, "a");
    let small = numbers(&[(P::MaximumPacketSize, 6)]);
    let client = world.try_connect(Connect {
        properties: small.as_properties(),
        ..connect(V5, "a")
    });
    // Too small for a CONNACK with properties, large enough to say so.
    assert_eq!(world.read(client).connack().reason, R::PacketTooLarge);
    world.expect_closed(client);
    world.expect_nothing(old);
}

// ---- the terms of a listener -------------------------------------------------------------------

/// Two listeners, of which the second has terms of its own.
fn behind(second: ListenerOptions) -> World {
    World::with(Options {
        listeners: vec![ListenerOptions::default(), second],
        ..Options::default()
    })
}

#[test]
fn a_listener_may_have_fewer_clients_than_the_server() {
    let mut world = behind(ListenerOptions {
        connections_max: 1,
        ..ListenerOptions::default()
    });
    world.client(V5, "elsewhere");
    world.listener = 1;
    let a = world.client(V5, "a");
    let b = world.try_connect(connect(V5, "b"));
    world.expect_refused(b, R::QuotaExceeded);
    let b = world.try_connect(connect(V311, "b"));
    world.expect_refused(b, R::ServerUnavailable);
    // One that comes from another listener takes the place of its own older connection, not of a's.
    let elsewhere = world.try_connect(connect(V5, "elsewhere"));
    world.expect_refused(elsewhere, R::QuotaExceeded);
    let again = world.client(V5, "a");
    world.expect_disconnect(a, R::SessionTakenOver);
    world.disconnect(again);
    world.client(V5, "b");
    world.listener = 0;
    world.client(V5, "c");
}

#[test]
fn a_listener_may_ask_for_other_client_ids_than_the_server() {
    let second = ListenerOptions {
        client_id_prefix: "box-7".to_string(),
        ..ListenerOptions::default()
    };
    let mut world = World::with(Options {
        listeners: vec![ListenerOptions::default(), second],
        client_id_prefix: "box-".to_string(),
        ..Options::default()
    });
    for (listener, id, right) in [
        (0, "box-6", true),
        (0, "a", false),
        (1, "box-71", true),
        (1, "box-6", false),
        (1, "a", false),
    ] {
        world.listener = listener;
        let client = world.try_connect(connect(V5, id));
        match right {
            true => assert_eq!(world.read(client).connack().reason, R::Success, "{id}"),
            false => world.expect_refused(client, R::NotAuthorized),
        }
    }
}

#[test]
fn a_listener_may_be_stricter_than_the_server() {
    let mut world = behind(ListenerOptions {
        max_qos: QoS::AtMostOnce,
        topic_alias_max: 0,
        versions: vec![V5],
        auto_id_prefix: Some("guest-".to_string()),
        ..ListenerOptions::default()
    });
    let granted = |world: &mut World, client| {
        let options = SubscriptionOptions::new(QoS::ExactlyOnce);
        world.send(client, &subscribe(1, &[("t", options)]));
        match world.read(client).packet() {
            Packet::SubAck(suback) => suback.reasons[0],
            other => panic!("{other:?} is no SUBACK"),
        }
    };
    let free = world.client(V5, "free");
    assert_eq!(granted(&mut world, free), R::GrantedQoS2);
    world.listener = 1;
    for version in [V31, V311] {
        let old = world.try_connect(connect(version, "old"));
        world.expect_refused(old, R::UnsupportedProtocolVersion);
    }
    let guest = world.try_connect(connect(V5, ""));
    let connack = world.read(guest);
    let properties = connack.connack().properties;
    assert_eq!(properties.number(P::MaximumQoS), Some(0));
    assert_eq!(properties.number(P::TopicAliasMaximum), None);
    let id = properties.text(P::AssignedClientIdentifier);
    assert!(id.is_some_and(|id| id.starts_with("guest-")), "{id:?}");
    assert_eq!(granted(&mut world, guest), R::Success);
    world.send(
        guest,
        &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, "t", "")),
    );
    world.expect_disconnect(guest, R::QoSNotSupported);
}

#[test]
fn a_will_with_too_large_a_payload_is_refused_with_its_connect() {
    let mut options = Options::default();
    options.limits.payload_bytes_max = 3;
    let mut world = World::with(options);
    let with = |payload| Connect {
        will: Some(will("w", payload)),
        ..connect(V5, "a")
    };
    let refused = world.try_connect(with(b"four"));
    world.expect_refused(refused, R::PacketTooLarge);
    world.connect(with(b"two"));
}
