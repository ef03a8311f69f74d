//! Chapters 1.5, 2 and 4.8: what no client may send, and what it costs to send it.

use midge::broker::limits::Options;
use midge::packet::*;

use crate::common::*;
use crate::{V311, client, packet, raw_connect, string};

const PINGREQ: [u8; 2] = [0xC0, 0];

/// Whether a client that sends these bytes is served afterwards. If not, it is closed without a
/// word: 3.1.1 has no DISCONNECT from the server.
fn is_accepted(bytes: &[u8]) -> bool {
    let mut world = World::new();
    let client = client(&mut world, "a");
    is_served(&mut world, client, bytes)
}

fn is_served(world: &mut World, client: Client, bytes: &[u8]) -> bool {
    world.send_bytes(client, &[bytes, &PINGREQ].concat());
    let answers = world.read_all(client);
    let served = answers.last().map(Received::packet) == Some(Packet::PingResp);
    if !served {
        assert_eq!(answers, []);
        world.expect_closed(client);
    }
    served
}

/// The same for bytes that a connection begins with.
fn is_connected(bytes: &[u8]) -> bool {
    let mut world = World::new();
    let client = world.open(V311);
    is_served(&mut world, client, bytes)
}

/// A packet around a string, and whether it begins a connection.
type Place = (&'static str, bool, fn(&[u8]) -> Vec<u8>);

/// Every place for a string in what a client sends.
const STRINGS: [Place; 6] = [
    ("PUBLISH", false, |s| packet(0x30, &[&string(s), b"x"])),
    ("SUBSCRIBE", false, |s| {
        packet(0x82, &[b"\0\x01", &string(s), b"\0"])
    }),
    ("UNSUBSCRIBE", false, |s| {
        packet(0xA2, &[b"\0\x01", &string(s)])
    }),
    ("client id", true, |s| raw_connect(0x02, &[s])),
    ("will topic", true, |s| raw_connect(0x06, &[b"a", s, b"x"])),
    ("user name", true, |s| raw_connect(0x82, &[b"a", s])),
];

fn accepts_string((_, begins, packet): Place, text: &[u8]) -> bool {
    match begins {
        true => is_connected(&packet(text)),
        false => is_accepted(&packet(text)),
    }
}

#[test]
fn a_string_that_is_not_utf8_ends_the_connection() {
    for place in STRINGS {
        for text in ["ä€😀", "\u{D7FF}", "\u{E000}", "\u{10FFFD}"] {
            assert!(accepts_string(place, text.as_bytes()), "{}", place.0);
        }
        for bytes in [
            &b"a\xED\xA0\x80"[..], // The first surrogate, and the last.
            b"a\xED\xBF\xBF",
            b"\xED\xA0\xBD\xED\xB8\x80", // A pair of them.
            b"\xC0\xAF",                 // Longer than it needs to be.
            b"\xE2\x82",                 // Cut short.
            b"\xF4\x90\x80\x80",         // Beyond the last character.
            b"\xFF",
        ] {
            // [v3 MQTT-1.5.3-1]
            assert!(!accepts_string(place, bytes), "{bytes:x?} in {}", place.0);
        }
    }
}

#[test]
fn a_string_with_the_null_character_ends_the_connection() {
    for place in STRINGS {
        assert!(accepts_string(place, b"a0b"));
        for bytes in [&b"\0"[..], b"a\0b", b"ab\0"] {
            // [v3 MQTT-1.5.3-2]
            assert!(!accepts_string(place, bytes), "{bytes:x?} in {}", place.0);
        }
    }
}

#[test]
fn a_byte_order_mark_is_a_character_like_any_other() {
    let mut world = World::new();
    let marked = client(&mut world, "s");
    world.subscribe(marked, "\u{feff}a/+", QoS::AtMostOnce);
    let plain = client(&mut world, "\u{feff}s");
    world.subscribe(plain, "a/+", QoS::AtMostOnce);
    let publisher = client(&mut world, "p");
    world.publish(publisher, "\u{feff}a/\u{feff}", "x");
    // [v3 MQTT-1.5.3-3] in a topic, a filter and a client id, at the beginning and behind it.
    let expected = packet(0x30, &[&string("\u{feff}a/\u{feff}".as_bytes()), b"x"]);
    assert_eq!(world.read(marked).bytes, expected);
    world.expect_nothing(marked);
    world.expect_nothing(plain);
}

/// The values of the four flags with which a packet is accepted.
fn flags_accepted(packet_type: u8, parts: &[&[u8]]) -> Vec<u8> {
    let accepted = |flags: &u8| is_accepted(&packet(packet_type << 4 | flags, parts));
    (0..16).filter(accepted).collect()
}

#[test]
fn reserved_flags_are_as_the_table_has_them_or_the_connection_ends() {
    let id: &[u8] = b"\0\x01";
    assert_eq!(flags_accepted(4, &[id]), [0], "PUBACK"); // [v3 MQTT-2.2.2-2]
    assert_eq!(flags_accepted(5, &[id]), [0], "PUBREC");
    assert_eq!(flags_accepted(6, &[id]), [2], "PUBREL"); // [v3 MQTT-3.6.1-1]
    assert_eq!(flags_accepted(7, &[id]), [0], "PUBCOMP");
    assert_eq!(flags_accepted(8, &[id, b"\0\x01a\0"]), [2]); // [v3 MQTT-3.8.1-1] SUBSCRIBE
    assert_eq!(flags_accepted(10, &[id, b"\0\x01a"]), [2]); // [v3 MQTT-3.10.1-1] UNSUBSCRIBE
    assert_eq!(flags_accepted(12, &[]), [0], "PINGREQ");
    for flags in 1..16 {
        let mut connect = raw_connect(0x02, &[b"a"]);
        assert!(is_connected(&connect));
        connect[0] |= flags;
        assert!(!is_connected(&connect), "CONNECT with {flags:04b}");
    }
}

/// Both end the connection, but only a DISCONNECT that is one makes the Will void.
#[test]
fn a_disconnect_with_reserved_flags_is_none() {
    for flags in 0..16 {
        let mut world = World::new();
        let watcher = crate::subscriber(&mut world, "watcher", "w", QoS::AtMostOnce);
        let client = world.open(V311);
        world.send_bytes(client, &raw_connect(0x06, &[b"a", b"w", b"bye"]));
        world.read(client);
        world.send_bytes(client, &packet(0xE0 | flags, &[]));
        world.expect_closed(client);
        let expected: &[&str] = if flags == 0 { &[] } else { &["bye"] };
        assert_eq!(world.payloads(watcher), expected); // [v3 MQTT-3.14.1-1]
    }
}

#[test]
fn a_packet_identifier_is_never_zero_and_never_left_out() {
    let packets: [(u8, &[u8], &[u8]); 4] = [
        (0x32, b"\0\x01t", b"x"),
        (0x34, b"\0\x01t", b"x"),
        (0x82, b"", b"\0\x01t\0"),
        (0xA2, b"", b"\0\x01t"),
    ];
    for (first, before, after) in packets {
        let name = format!("{first:x}");
        assert!(is_accepted(&packet(first, &[before, b"\0\x01", after])));
        assert!(is_accepted(&packet(first, &[before, b"\xFF\xFF", after])));
        let zero = packet(first, &[before, b"\0\0", after]);
        assert!(!is_accepted(&zero), "{name}"); // [v3 MQTT-2.3.1-1]
        assert!(!is_accepted(&packet(first, &[before])), "{name}");
    }
}

#[test]
fn a_publish_has_a_qos_that_exists() {
    for (first, accepted) in [(0x32, true), (0x34, true), (0x36, false), (0x37, false)] {
        let bytes = packet(first, &[b"\0\x01t\0\x01x"]);
        assert_eq!(is_accepted(&bytes), accepted, "{first:x}"); // [v3 MQTT-3.3.1-4]
    }
}

#[test]
fn a_publish_begins_with_its_topic_name() {
    assert!(is_accepted(b"\x30\x03\0\x01t"));
    for bytes in [&b"\x30\x00"[..], b"\x30\x01\0", b"\x30\x02\0\x01"] {
        assert!(!is_accepted(bytes), "{bytes:x?}"); // [v3 MQTT-3.3.2-1]
    }
}

#[test]
fn requested_qos_beyond_two_and_reserved_bits_end_the_connection() {
    for options in 0..=255 {
        let bytes = packet(0x82, &[b"\0\x01\0\x01a", &[options]]);
        let exists = options <= 2;
        assert_eq!(is_accepted(&bytes), exists, "{options:x}"); // [v3 MQTT-3.8.3-4]
    }
}

#[test]
fn a_protocol_violation_costs_the_connection_it_came_on_and_no_other() {
    for (what, bytes) in [
        ("a second CONNECT", &raw_connect(0x02, &[b"a"])[..]),
        ("CONNACK", b"\x20\x02\0\0"),
        ("SUBACK", b"\x90\x03\0\x01\0"),
        ("UNSUBACK", b"\xB0\x02\0\x01"),
        ("PINGRESP", b"\xD0\0"),
        ("packet type 0", b"\0\0"),
        ("packet type 15", b"\xF0\0"),
        ("a length of five bytes", b"\x30\x80\x80\x80\x80\x01"),
        ("PINGREQ with a body", b"\xC0\x01\0"),
        ("SUBSCRIBE for nothing", b"\x82\x02\0\x01"),
        ("UNSUBSCRIBE from nothing", b"\xA2\x02\0\x01"),
        ("a filter cut short", b"\x82\x05\0\x01\0\x09a"),
        ("bytes behind the end", b"\x40\x03\0\x01\0"),
        ("DUP with QoS 0", b"\x38\x03\0\x01t"),
    ] {
        let mut world = World::new();
        let other = client(&mut world, "other");
        let client = client(&mut world, "a");
        // [v3 MQTT-4.8.0-1]
        assert!(!is_served(&mut world, client, bytes), "{what}");
        assert!(is_served(&mut world, other, &PINGREQ), "{what}");
    }
}

/// 3.1.1 calls it a transient error when a buffer is full and a packet cannot be answered.
#[test]
fn a_packet_that_cannot_be_answered_for_want_of_room_ends_its_connection() {
    let mut options = Options::default();
    options.limits.outbound_bytes_max = 1_000;
    options.limits.packet_bytes_max = 2_000;
    let mut world = World::with(options);
    let other = client(&mut world, "other");
    let client = client(&mut world, "a");
    world.read_only(client, 0);
    // There is room for answers of 4,000 bytes.
    world.send_bytes(client, &PINGREQ.repeat(2_000));
    world.expect_nothing(client);
    world.send_bytes(client, &PINGREQ);
    world.expect_closed(client); // [v3 MQTT-4.8.0-2]
    assert!(is_served(&mut world, other, &PINGREQ));
}
