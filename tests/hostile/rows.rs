//! What broken and hostile clients send, and what each gets: the table that the test runs and
//! `docs/hostile.md` shows.
//!
//! A row may have several things to send, each on a connection of its own; all get the same. What
//! they get is written as `answer.rs` writes it; nothing stands where a version has no such thing.

use midge::packet::Version::{self, V5};

use crate::bytes::*;

/// What has been said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Nothing,
    /// A CONNECT, which was accepted.
    Connected,
}

use Start::{Connected, Nothing};

pub struct Row {
    pub name: &'static str,
    pub start: Start,
    pub send: fn(Version) -> Vec<Vec<u8>>,
    pub v311: &'static str,
    pub v5: &'static str,
}

const fn row(
    name: &'static str,
    start: Start,
    send: fn(Version) -> Vec<Vec<u8>>,
    v311: &'static str,
    v5: &'static str,
) -> Row {
    Row {
        name,
        start,
        send,
        v311,
        v5,
    }
}

/// What the broker is told in addition to its defaults, so that its limits are within reach.
pub const PACKET_BYTES_MAX: usize = 100_000;
pub const RECEIVE_MAXIMUM: u16 = 20;

/// Of the first message that the broker sends with a packet id, and that rows acknowledge wrongly.
const FIRST_ID: u16 = 2;

pub const SECTIONS: &[(&str, &[Row])] = &[
    ("Not MQTT", NOT_MQTT),
    ("CONNECT", CONNECT),
    ("CONNECT: properties", CONNECT_PROPERTIES),
    ("Any packet", ANY_PACKET),
    ("PUBLISH", PUBLISH),
    ("PUBLISH: properties", PUBLISH_PROPERTIES),
    ("Acknowledgements", ACKNOWLEDGEMENTS),
    ("SUBSCRIBE and UNSUBSCRIBE", SUBSCRIBE),
];

#[rustfmt::skip]
const NOT_MQTT: &[Row] = &[
    row("TLS", Nothing, |_| one(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"), "closed", "closed"),
    row("HTTP", Nothing, |_| one(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "closed", "closed"),
    row("SSH", Nothing, |_| one(b"SSH-2.0-OpenSSH_9.2\r\n"), "closed", "closed"),
    row("64 bytes 0x00, or 0xFF", Nothing, |_| each(&[0x00, 0xFF], |byte| vec![byte; 64]), "closed", "closed"),
    row("any other packet before CONNECT", Nothing, |v| { // [MQTT-3.1.0-1] [v3 MQTT-3.1.0-1] [MQTT-3.14.0-1]
        let mut all = each(&[2, 4, 5, 6, 7, 9, 11, 13, 14, 15], |kind: u8| ack(kind << 4, 7));
        all.extend([publish(v, 0x30, b"t", b""), subscribe(v, b"", &[(b"#", 0)]), unsubscribe(v, &[b"#"])]);
        all.extend([packet(0xC0, b""), packet(0xE0, b"")]);
        all
    }, "closed", "closed"),
];

#[rustfmt::skip]
const CONNECT: &[Row] = &[
    row("protocol name `MQTS`, `mqtt`, `MQT`, none", Nothing, |v| of(&[b"MQTS", b"mqtt", b"MQT", b""], |name| { // [MQTT-3.1.2-1]
        packet(0x10, &[text(name), hello_body(v, 0x02, b"", &[b""])[6..].to_vec()].concat())
    }), "closed", "closed"),
    row("protocol level 0 to 2; 6, 127", Nothing, |v| { // [v3 MQTT-3.1.2-2] [MQTT-3.1.2-2]
        let levels: &[u8] = if v == V5 { &[6, 127] } else { &[0, 1, 2] };
        each(levels, |level| { let mut bytes = good(v); bytes[8] = level; bytes })
    }, "CONNACK 0x01, closed", "CONNACK 0x84, closed"),
    row("each reserved flag of the first byte", Nothing, |v| (1..16) // [MQTT-2.1.3-1] [v3 MQTT-2.2.2-2]
        .map(|flags| packet(0x10 | flags, &good(v)[2..])).collect(), "closed", "CONNACK 0x81, closed"),
    row("the reserved connect flag", Nothing, |v| one(hello(v, 0x03, b"", &[b""])), // [MQTT-3.1.2-3] [v3 MQTT-3.1.2-3]
        "closed", "CONNACK 0x81, closed"),
    row("will QoS 3", Nothing, |v| each(&[0x1E, 0x3E], |flags| { // [MQTT-3.1.2-12] [v3 MQTT-3.1.2-14]
        let mut bytes = testator(v, b"t"); bytes[9] = flags; bytes
    }), "closed", "CONNACK 0x81, closed"),
    row("will QoS or will retain without a will", Nothing, |v| each(&[0x0A, 0x12, 0x22], // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        |flags| hello(v, flags, b"", &[b""])), "closed", "CONNACK 0x81, closed"), // [v3 MQTT-3.1.2-13] [v3 MQTT-3.1.2-15]
    row("will topic with wildcards, or empty", Nothing, |v| of(&[b"a/+", b"#", b""], |topic| testator(v, topic)),
        "closed", "CONNACK 0x81, closed"),
    row("will topic with U+0000, or no UTF-8", Nothing, |v| of(&[NULS, ILL_FORMED].concat(), |topic| testator(v, topic)), // [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.1.3-11] [v3 MQTT-3.1.3-10]
        "closed", "CONNACK 0x81, closed"),
    row("will topic of 65,536 levels", Nothing, |v| one(testator(v, &levels(STRING_MAX + 1))), "closed", "CONNACK 0x90, closed"),
    row("will for `$SYS`", Nothing, |v| one(testator(v, b"$SYS/broker/version")), "CONNACK 0x05, closed", "CONNACK 0x87, closed"),
    row("a password without a user name", Nothing, |v| one(hello(v, 0x42, b"", &[b"", b"secret"])), // [v3 MQTT-3.1.2-22]
        "closed", "CONNACK 0x00, stays"),
    row("user name announced and missing", Nothing, |v| one(hello(v, 0x82, b"", &[b""])), "closed", "CONNACK 0x81, closed"), // [MQTT-3.1.2-17] [v3 MQTT-3.1.2-19]
    row("user name with U+0000, or no UTF-8", Nothing, |v| of(&[NULS, ILL_FORMED].concat(), // [MQTT-1.5.4-1] [MQTT-1.5.4-2] [v3 MQTT-3.1.3-11] [MQTT-3.1.3-12]
        |name| hello(v, 0x82, b"", &[b"", name])), "closed", "CONNACK 0x81, closed"),
    row("client id with U+0000", Nothing, |v| of(NULS, |id| hello(v, 0x02, b"", &[id])), // [MQTT-1.5.4-2] [v3 MQTT-1.5.3-2]
        "closed", "CONNACK 0x81, closed"),
    row("client id that is no UTF-8: surrogates, overlong, cut", Nothing, |v| of(ILL_FORMED, // [MQTT-1.5.4-1] [v3 MQTT-1.5.3-1] [v3 MQTT-3.1.3-4] [MQTT-3.1.3-4]
        |id| hello(v, 0x02, b"", &[id])), "closed", "CONNACK 0x81, closed"),
    row("client id of control characters and noncharacters", Nothing,
        |v| one(hello(v, 0x02, b"", &["\u{1}\u{1F}\u{7F}\u{9F}\u{FDD0}\u{FFFF}".as_bytes()])), "CONNACK 0x00, stays", "CONNACK 0x00, stays"),
    row("client id of 1,024 bytes", Nothing, |v| one(hello(v, 0x02, b"", &[&[b'x'; 1_024]])), "CONNACK 0x00, stays", "CONNACK 0x00, stays"),
    row("client id of 1,025 bytes, of 65,535 bytes", Nothing, |v| each(&[1_025, STRING_MAX], // [v3 MQTT-3.1.3-9] [MQTT-3.1.3-8]
        |length| hello(v, 0x02, b"", &[&vec![b'x'; length]])), "CONNACK 0x02, closed", "CONNACK 0x85, closed"),
    row("no client id for a session that stays", Nothing, |v| one(hello(v, 0x00, b"", &[b""])), // [v3 MQTT-3.1.3-8]
        "CONNACK 0x02, closed", "CONNACK 0x00, stays"),
    row("cut before the level", Nothing, |v| (0..7).map(|end| packet(0x10, &hello_body(v, 0x02, b"", &[b"id"])[..end])).collect(),
        "closed", "closed"),
    row("cut anywhere after the level", Nothing, |v| { // [MQTT-3.1.4-1] [v3 MQTT-3.1.4-1]
        let body = hello_body(v, 0xC6, b"", &[b"id", b"will", b"payload", b"user", b"password"]);
        (7..body.len()).map(|end| packet(0x10, &body[..end])).collect()
    }, "closed", "CONNACK 0x81, closed"),
    row("bytes after the last field", Nothing, |v| one(packet(0x10, &[&good(v)[2..], b"x"].concat())), "closed", "CONNACK 0x81, closed"),
    row("remaining length 256 MB, and no more", Nothing, |_| one(b"\x10\xFF\xFF\xFF\x7F"), "closed", "closed"),
    row("remaining length 256 MB, up to the level", Nothing,
        |v| one([b"\x10\xFF\xFF\xFF\x7F", &good(v)[2..]].concat()), "closed", "CONNACK 0x95, closed"),
    row("remaining length in five bytes", Nothing, |v| of(&[b"\x10\xFF\xFF\xFF\xFF\x7F", b"\x10\x80\x80\x80\x80\x01"],
        |header| [header, &good(v)[2..]].concat()), "closed", "closed"),
    row("remaining length in more bytes than needed", Nothing, |v| one(padded(0x10, &good(v)[2..])), // [MQTT-1.5.5-1]
        "CONNACK 0x00, stays", "CONNACK 0x81, closed"),
    row("100,001 bytes", Nothing, |v| {
        let rest = 100_001 - hello(v, 0xC2, b"", &[b"", &[b'x'; STRING_MAX], b""]).len();
        one(hello(v, 0xC2, b"", &[b"", &[b'x'; STRING_MAX], &vec![b'x'; rest]]))
    }, "closed", "CONNACK 0x95, closed"),
    row("a second CONNECT", Nothing, |v| one([good(v), good(v)].concat()), // [MQTT-3.1.0-2] [v3 MQTT-3.1.0-2]
        "CONNACK 0x00, closed", "CONNACK 0x00, DISCONNECT 0x82, closed"),
    row("a good one, and garbage in the same segment", Nothing, |v| one([&good(v)[..], &[0; 64]].concat()),
        "CONNACK 0x00, closed", "CONNACK 0x00, DISCONNECT 0x81, closed"),
];

/// A CONNECT with these properties, of which there are none before 5.0.
fn with(v: Version, blocks: &[&[u8]]) -> Vec<Vec<u8>> {
    of(blocks, |block| hello(v, 0x02, block, &[b""]))
}

#[rustfmt::skip]
const CONNECT_PROPERTIES: &[Row] = &[
    row("Receive Maximum 0", Nothing, |v| with(v, &[b"\x21\0\0"]), "", "CONNACK 0x82, closed"),
    row("Maximum Packet Size 0", Nothing, |v| with(v, &[b"\x27\0\0\0\0"]), "", "CONNACK 0x82, closed"),
    row("Maximum Packet Size 1 to 4: too small for any answer", Nothing, |v| with(v, // [MQTT-3.1.2-24]
        &[b"\x27\0\0\0\x01", b"\x27\0\0\0\x02", b"\x27\0\0\0\x03", b"\x27\0\0\0\x04"]), "", "closed"),
    row("a property twice", Nothing, |v| with(v, &[b"\x11\0\0\0\0\x11\0\0\0\0", b"\x21\0\x09\x21\0\x09", b"\x22\0\x01\x22\0\x01",
        b"\x27\0\x01\0\0\x27\0\x01\0\0", b"\x17\0\x17\0", b"\x19\0\x19\0", b"\x15\0\x01a\x15\0\x01a"]), "", "CONNACK 0x82, closed"),
    row("a property that does not exist", Nothing, |v| with(v, &[b"\x00\0", b"\x04\0", b"\x2B\0", b"\x7F\0", b"\xFF\x01\0"]), "", "CONNACK 0x81, closed"),
    row("a property of another packet", Nothing, |v| with(v, &[b"\x01\x01", b"\x0B\x01", b"\x12\0\x01a", b"\x18\0\0\0\0", b"\x1F\0\x01a",
        b"\x23\0\x01", b"\x24\x01"]), "", "CONNACK 0x81, closed"),
    row("a flag that is neither 0 nor 1", Nothing, |v| with(v, &[b"\x17\x02", b"\x19\xFF"]), "", "CONNACK 0x82, closed"),
    row("a property cut at the end of its block", Nothing, |v| with(v, &[b"\x21", b"\x21\0", b"\x11\0\0\0", b"\x26\0\x01a", b"\x15\0\x09a"]),
        "", "CONNACK 0x81, closed"),
    row("a property identifier in more bytes than needed", Nothing, |v| with(v, &[b"\xA1\0\0\x01", b"\xA1\x80\x80\x80\0\0\x01"]), // [MQTT-1.5.5-1]
        "", "CONNACK 0x81, closed"),
    row("Property Length beyond the packet, in five bytes, padded", Nothing, |v| of( // [MQTT-1.5.5-1]
        &[b"\x05", b"\xFF\xFF\xFF\x7F", b"\xFF\xFF\xFF\xFF\x7F", b"\x80\0"],
        |length| packet(0x10, &[&good(v)[2..12], length, b"\0\0"].concat())), "", "CONNACK 0x81, closed"),
    row("a user property with U+0000, or no UTF-8", Nothing, |v| of(&[NULS, ILL_FORMED].concat(), // [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1]
        |name| hello(v, 0x02, &[b"\x26", &text(name)[..], &text(b"x")].concat(), &[b""])), "", "CONNACK 0x81, closed"),
    row("authentication data without a method", Nothing, |v| with(v, &[b"\x16\0\x01a"]), "", "CONNACK 0x82, closed"),
    row("an authentication method", Nothing, |v| with(v, &[b"\x15\0\x0BSCRAM-SHA-1"]), "", "CONNACK 0x8C, closed"), // [MQTT-4.12.0-1]
];

/// `body` with a first byte of each wrong set of flags.
fn flags(kind: u8, right: u8, body: &[u8]) -> Vec<Vec<u8>> {
    let wrong = (0..16).filter(|flags| *flags != right);
    wrong.map(|flags| packet(kind << 4 | flags, body)).collect()
}

#[rustfmt::skip]
const ANY_PACKET: &[Row] = &[
    row("packet type 0", Connected, |_| (0..16).map(|flags| packet(flags, b"\0\x07")).collect(), "closed", "DISCONNECT 0x81, closed"),
    row("packet type 15, which is AUTH, without a method", Connected, |_| of(&[b"\xF0\0", b"\xF0\x01\x18", b"\xF0\x02\0\0"],
        |auth| auth.to_vec()), "closed", "DISCONNECT 0x82, closed"),
    row("AUTH with a method that was not agreed on", Connected, |_| each(&[0x00, 0x18, 0x19],
        |code| packet(0xF0, &[&[code, 4], &b"\x15\0\x01a"[..]].concat())), "closed", "DISCONNECT 0x82, closed"),
    row("CONNACK, SUBACK, UNSUBACK, PINGRESP", Connected, |v| { // [MQTT-4.13.1-1]
        let connack = [b"\0\0", &block(v, b"")[..]].concat();
        let suback = [b"\0\x07", &block(v, b"")[..], b"\0"].concat();
        vec![packet(0x20, &connack), packet(0x90, &suback), packet(0xB0, &suback), packet(0xD0, b"")]
    }, "closed", "DISCONNECT 0x82, closed"),
    row("reserved flags: PUBACK, PUBREC, PUBCOMP", Connected, |_| [4, 5, 7].iter() // [MQTT-2.1.3-1] [v3 MQTT-2.2.2-2]
        .flat_map(|kind| flags(*kind, 0, b"\0\x07")).collect(), "closed", "DISCONNECT 0x81, closed"),
    row("reserved flags: PUBREL", Connected, |_| flags(6, 2, b"\0\x07"), "closed", "DISCONNECT 0x81, closed"), // [MQTT-3.6.1-1] [v3 MQTT-3.6.1-1]
    row("reserved flags: SUBSCRIBE", Connected, |v| flags(8, 2, &subscribe(v, b"", &[(b"a", 0)])[2..]), // [MQTT-3.8.1-1] [v3 MQTT-3.8.1-1]
        "closed", "DISCONNECT 0x81, closed"),
    row("reserved flags: UNSUBSCRIBE", Connected, |v| flags(10, 2, &unsubscribe(v, &[b"a"])[2..]), // [MQTT-3.10.1-1] [v3 MQTT-3.10.1-1]
        "closed", "DISCONNECT 0x81, closed"),
    row("reserved flags: PINGREQ", Connected, |_| flags(12, 0, b""), "closed", "DISCONNECT 0x81, closed"), // [MQTT-2.1.3-1] [v3 MQTT-2.2.2-2]
    row("reserved flags: DISCONNECT", Connected, |_| flags(14, 0, b""), "closed", "DISCONNECT 0x81, closed"), // [MQTT-3.14.1-1] [v3 MQTT-3.14.1-1]
    row("reserved flags: AUTH", Connected, |_| flags(15, 0, b"\x18\x04\x15\0\x01a"), "closed", "DISCONNECT 0x81, closed"), // [MQTT-3.15.1-1]
    row("PINGREQ with a body", Connected, |_| one(packet(0xC0, b"x")), "closed", "DISCONNECT 0x81, closed"),
    row("remaining length 256 MB", Connected, |_| each(&[0x30, 0x32, 0x40, 0x62, 0x82, 0xA2, 0xC0, 0xE0],
        |first| vec![first, 0xFF, 0xFF, 0xFF, 0x7F]), "closed", "DISCONNECT 0x95, closed"),
    row("a packet of exactly the Maximum Packet Size", Connected, |v| one(sized(v, PACKET_BYTES_MAX)), "nothing, stays", "nothing, stays"),
    row("one byte more", Connected, |v| one(sized(v, PACKET_BYTES_MAX + 1)), "closed", "DISCONNECT 0x95, closed"), // [MQTT-3.2.2-15]
    row("remaining length in five bytes", Connected, |_| of(&[b"\xC0\x80\x80\x80\x80\x01", b"\x30\xFF\xFF\xFF\xFF\x7F"],
        |bytes| bytes.to_vec()), "closed", "DISCONNECT 0x81, closed"),
    row("remaining length in more bytes than needed", Connected, |_| of(&[b"\xC0\x80\0", b"\xC0\x80\x80\0", b"\xC0\x80\x80\x80\0"], // [MQTT-1.5.5-1]
        |bytes| bytes.to_vec()), "PINGRESP, stays", "DISCONNECT 0x81, closed"),
    row("DISCONNECT, and more after it", Connected, |v| one([packet(0xE0, b""), publish(v, 0x32, b"t", b""), vec![0; 64]].concat()),
        "closed", "closed"),
    row("DISCONNECT with a reason code that is none", Connected, |_| one(b"\xE0\x01\x05"), "closed", "DISCONNECT 0x81, closed"),
    row("DISCONNECT that prolongs a session that was to end", Connected, |_| one(b"\xE0\x07\0\x05\x11\0\0\0\x01"), "", "DISCONNECT 0x82, closed"),
];

#[rustfmt::skip]
const PUBLISH: &[Row] = &[
    row("QoS 3", Connected, |v| each(&[0x36, 0x37, 0x3E, 0x3F], |first| publish(v, first, b"t", b"")), // [MQTT-3.3.1-4] [v3 MQTT-3.3.1-4]
        "closed", "DISCONNECT 0x81, closed"),
    row("DUP with QoS 0", Connected, |v| each(&[0x38, 0x39], |first| publish(v, first, b"t", b"")), "closed", "DISCONNECT 0x81, closed"), // [MQTT-3.3.1-2] [v3 MQTT-3.3.1-2]
    row("empty topic", Connected, |v| each(&[0x30, 0x32, 0x34], |first| publish(v, first, b"", b"")), "closed", "DISCONNECT 0x82, closed"), // [v3 MQTT-4.7.3-1]
    row("wildcards in the topic", Connected, |v| of(&[b"#", b"+", b"a/+/b", b"a/#", b"a+b"], |topic| publish(v, 0x32, topic, b"")), // [MQTT-3.3.2-2] [MQTT-4.7.0-1] [v3 MQTT-3.3.2-2]
        "closed", "DISCONNECT 0x81, closed"),
    row("topic with U+0000", Connected, |v| of(NULS, |topic| publish(v, 0x32, topic, b"")), // [MQTT-1.5.4-2] [v3 MQTT-1.5.3-2]
        "closed", "DISCONNECT 0x81, closed"),
    row("topic that is no UTF-8", Connected, |v| of(ILL_FORMED, |topic| publish(v, 0x32, topic, b"")), // [MQTT-1.5.4-1] [v3 MQTT-1.5.3-1] [MQTT-3.3.2-1] [v3 MQTT-3.3.2-1]
        "closed", "DISCONNECT 0x81, closed"),
    row("topic of 128 levels", Connected, |v| one(publish(v, 0x32, &levels(128), b"")), "PUBACK 7 0x00, stays", "PUBACK 7 0x10, stays"),
    row("topic of 129 levels, of 65,536 levels", Connected, |v| each(&[129, STRING_MAX + 1],
        |count| publish(v, 0x32, &levels(count), b"")), "closed", "DISCONNECT 0x90, closed"),
    row("topic of 65,535 bytes in one level", Connected, |v| one(publish(v, 0x32, &[b'x'; STRING_MAX], b"")),
        "PUBACK 7 0x00, stays", "PUBACK 7 0x10, stays"),
    row("topic under `$SYS`", Connected, |v| one(publish(v, 0x32, b"$SYS/broker/version", b"")), // [v3 MQTT-3.3.5-2]
        "PUBACK 7 0x00, stays", "PUBACK 7 0x87, stays"),
    row("topic under `$share`", Connected, |v| one(publish(v, 0x34, b"$share/group/t", b"")), "PUBREC 7 0x00, stays", "PUBREC 7 0x90, stays"),
    row("topic longer than the packet", Connected, |_| of(&[b"\0\x02a", b"\xFF\xFFabc", b"\0", b""], |body| packet(0x30, body)),
        "closed", "DISCONNECT 0x81, closed"),
    row("cut within the packet id", Connected, |_| of(&[b"\0\x01a", b"\0\x01a\0"], |body| packet(0x32, body)),
        "closed", "DISCONNECT 0x81, closed"),
    row("packet id 0", Connected, |v| each(&[0x32, 0x34], |first| publish_id(v, first, b"t", 0, b"")), "closed", "DISCONNECT 0x82, closed"), // [MQTT-2.2.1-3] [v3 MQTT-2.3.1-1]
    row("a packet id used again at once, QoS 1", Connected, |v| one(publish(v, 0x32, b"t", b"").repeat(3)),
        "3 × PUBACK 7 0x00, stays", "3 × PUBACK 7 0x10, stays"),
    row("a packet id used again before PUBREL: delivered once", Connected, // [MQTT-4.3.3-10]
        |v| one([subscribe(v, b"", &[(b"hostile/twice", 0)]), publish(v, 0x34, b"hostile/twice", b"").repeat(3)].concat()),
        "SUBACK 0x00, PUBLISH `x`, 3 × PUBREC 7 0x00, stays", "SUBACK 0x00, PUBLISH `x`, 3 × PUBREC 7 0x00, stays"),
    row("a packet id used again after PUBREL: delivered twice", Connected, // [MQTT-4.3.3-12]
        |v| one([subscribe(v, b"", &[(b"hostile/again", 0)]), [publish(v, 0x34, b"hostile/again", b""), ack(0x62, 7)].concat().repeat(2)].concat()),
        "SUBACK 0x00, PUBLISH `x`, PUBREC 7 0x00, PUBCOMP 7 0x00, PUBLISH `x`, PUBREC 7 0x00, PUBCOMP 7 0x00, stays",
        "SUBACK 0x00, PUBLISH `x`, PUBREC 7 0x00, PUBCOMP 7 0x00, PUBLISH `x`, PUBREC 7 0x00, PUBCOMP 7 0x00, stays"),
    row("a packet id under way used for QoS 1 and SUBSCRIBE", Connected,
        |v| one([publish(v, 0x34, b"t", b""), publish(v, 0x32, b"t", b""), subscribe(v, b"", &[(b"hostile/other", 0)])].concat()),
        "PUBREC 7 0x00, PUBACK 7 0x00, SUBACK 0x00, stays", "PUBREC 7 0x10, PUBACK 7 0x10, SUBACK 0x00, stays"),
    row("one QoS 2 message more than the Receive Maximum", Connected, |v| one((1..=RECEIVE_MAXIMUM + 1) // [MQTT-3.3.4-7]
        .flat_map(|id| publish_id(v, 0x34, b"t", id, b"")).collect::<Vec<u8>>()),
        "PUBREC 1–21 0x00, stays", "PUBREC 1–20 0x10, DISCONNECT 0x93, closed"),
];

/// A PUBLISH with each of these blocks.
fn carrying(v: Version, blocks: &[&[u8]]) -> Vec<Vec<u8>> {
    of(blocks, |block| publish(v, 0x32, b"t", block))
}

#[rustfmt::skip]
const PUBLISH_PROPERTIES: &[Row] = &[
    row("topic alias 0, 11, 65,535 (10 is the maximum)", Connected, |v| carrying(v, &[b"\x23\0\0", b"\x23\0\x0B", b"\x23\xFF\xFF"]), // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
        "", "DISCONNECT 0x94, closed"),
    row("topic alias 10", Connected, |v| carrying(v, &[b"\x23\0\x0A"]), "", "PUBACK 7 0x10, stays"),
    row("a topic alias that was never set", Connected, |v| of(&[b"\x23\0\x01", b"\x23\0\x0A"], |alias| publish(v, 0x32, b"", alias)),
        "", "DISCONNECT 0x82, closed"),
    row("an alias for a topic with wildcards", Connected, |v| one(publish(v, 0x32, b"a/#", b"\x23\0\x01")), "", "DISCONNECT 0x81, closed"),
    row("response topic with wildcards, or empty", Connected, |v| carrying(v, &[b"\x08\0\x01#", b"\x08\0\x03a/+", b"\x08\0\0"]), // [MQTT-3.3.2-14]
        "", "DISCONNECT 0x81, closed"),
    row("payload format 2", Connected, |v| carrying(v, &[b"\x01\x02"]), "", "DISCONNECT 0x82, closed"),
    row("payload said to be UTF-8, with surrogates", Connected, |v| {
        of(ILL_FORMED, |payload| packet(0x32, &[&text(b"t")[..], b"\0\x07", &block(v, b"\x01\x01"), payload].concat()))
    }, "", "DISCONNECT 0x99, closed"),
    row("a subscription identifier", Connected, |v| carrying(v, &[b"\x0B\x01", b"\x0B\0"]), "", "DISCONNECT 0x82, closed"), // [MQTT-3.3.4-6]
    row("a property twice", Connected, |v| carrying(v, &[b"\x01\0\x01\0", b"\x02\0\0\0\x01\x02\0\0\0\x01", b"\x03\0\0\x03\0\0", b"\x08\0\x01a\x08\0\x01a",
        b"\x09\0\0\x09\0\0", b"\x23\0\x01\x23\0\x01"]), "", "DISCONNECT 0x82, closed"),
    row("a property that does not exist, or not here", Connected, |v| carrying(v, &[b"\0", b"\x7F\0", b"\x11\0\0\0\0", b"\x1F\0\0", b"\x21\0\x01"]),
        "", "DISCONNECT 0x81, closed"),
    row("Property Length beyond the packet", Connected, |_| of(&[b"\x05", b"\xFF\xFF\xFF\x7F"],
        |length| packet(0x32, &[b"\0\x01t\0\x07", length, b"x"].concat())), "", "DISCONNECT 0x81, closed"),
    row("user properties of 90,000 bytes", Connected,
        |v| one(publish(v, 0x32, b"t", &[&b"\x26"[..], &text(&[b'n'; 100]), &text(&[b'v'; 797])].concat().repeat(100))), "", "PUBACK 7 0x10, stays"),
];

#[rustfmt::skip]
const ACKNOWLEDGEMENTS: &[Row] = &[
    row("PUBREL for nothing", Connected, |_| one(ack(0x62, 7)), "PUBCOMP 7 0x00, stays", "PUBCOMP 7 0x92, stays"), // [MQTT-4.3.3-11]
    row("PUBACK for nothing", Connected, |_| one(ack(0x40, 7)), "nothing, stays", "nothing, stays"),
    row("PUBREC for nothing", Connected, |_| one(ack(0x50, 7)), "PUBREL 7 0x00, stays", "PUBREL 7 0x92, stays"), // [MQTT-4.3.3-4]
    row("PUBCOMP for nothing", Connected, |_| one(ack(0x70, 7)), "nothing, stays", "nothing, stays"),
    row("PUBACK twice", Connected, |v| one([echo(v, b"hostile/puback", 1), ack(0x40, FIRST_ID).repeat(2)].concat()),
        "SUBACK 0x01, PUBLISH 2 `x`, PUBACK 7 0x00, stays", "SUBACK 0x01, PUBLISH 2 `x`, PUBACK 7 0x00, stays"),
    row("PUBREC for a QoS 1 message", Connected, |v| one([echo(v, b"hostile/pubrec", 1), ack(0x50, FIRST_ID)].concat()),
        "SUBACK 0x01, PUBLISH 2 `x`, PUBACK 7 0x00, closed", "SUBACK 0x01, PUBLISH 2 `x`, PUBACK 7 0x00, DISCONNECT 0x82, closed"),
    row("PUBCOMP for a QoS 1 message", Connected, |v| one([echo(v, b"hostile/pubcomp", 1), ack(0x70, FIRST_ID)].concat()),
        "SUBACK 0x01, PUBLISH 2 `x`, PUBACK 7 0x00, closed", "SUBACK 0x01, PUBLISH 2 `x`, PUBACK 7 0x00, DISCONNECT 0x82, closed"),
    row("PUBACK for a QoS 2 message, or PUBCOMP before PUBREC", Connected,
        |v| each(&[0x40, 0x70], |first| [echo(v, b"hostile/order", 2), ack(first, FIRST_ID)].concat()),
        "SUBACK 0x02, PUBLISH 2 `x`, PUBREC 7 0x00, closed", "SUBACK 0x02, PUBLISH 2 `x`, PUBREC 7 0x00, DISCONNECT 0x82, closed"),
    row("packet id 0", Connected, |_| each(&[0x40, 0x50, 0x62, 0x70], |first| ack(first, 0)), "closed", "DISCONNECT 0x82, closed"),
    row("no packet id, or half of it", Connected, |_| [0x40, 0x50, 0x62, 0x70].iter()
        .flat_map(|first| of(&[b"", b"\0"], |body| packet(*first, body))).collect(), "closed", "DISCONNECT 0x81, closed"),
    row("a reason code that is none of this packet's", Connected, |_| [(0x40, 1), (0x50, 0x92), (0x62, 0x10), (0x70, 0x80)].iter()
        .map(|(first, code)| packet(*first, &[0, 7, *code])).collect(), "closed", "DISCONNECT 0x81, closed"),
    row("a property that is none of this packet's", Connected, |_| each(&[0x40, 0x50, 0x62, 0x70],
        |first| packet(first, b"\0\x07\0\x03\x21\0\x01")), "closed", "DISCONNECT 0x81, closed"),
];

/// A SUBSCRIBE for each of these filters.
fn filters(v: Version, filters: &[&[u8]]) -> Vec<Vec<u8>> {
    of(filters, |filter| subscribe(v, b"", &[(filter, 0)]))
}

#[rustfmt::skip]
const SUBSCRIBE: &[Row] = &[
    row("SUBSCRIBE without a filter", Connected, |v| one(subscribe(v, b"", &[])), // [MQTT-3.8.3-2] [v3 MQTT-3.8.3-3]
        "closed", "DISCONNECT 0x82, closed"),
    row("packet id 0: SUBSCRIBE, UNSUBSCRIBE", Connected, |v| vec![ // [MQTT-2.2.1-3] [v3 MQTT-2.3.1-1]
        packet(0x82, &[b"\0\0", &block(v, b"")[..], b"\0\x01a\0"].concat()), packet(0xA2, &[b"\0\0", &block(v, b"")[..], b"\0\x01a"].concat()),
    ], "closed", "DISCONNECT 0x82, closed"),
    row("QoS 3", Connected, |v| one(subscribe(v, b"", &[(b"a", 3)])), "closed", "DISCONNECT 0x82, closed"), // [v3 MQTT-3.8.3-4]
    row("each reserved option", Connected, |v| each(if v == V5 { &[0x40, 0x80, 0xC0] } else { &[0x04, 0x08, 0x10, 0x20, 0x40, 0x80] },
        |options| subscribe(v, b"", &[(b"a", options)])), "closed", "DISCONNECT 0x81, closed"), // [MQTT-3.8.3-5] [v3 MQTT-3.8.3-4]
    row("retain handling 3", Connected, |v| one(subscribe(v, b"", &[(b"a", 0x30)])), "", "DISCONNECT 0x82, closed"),
    row("no local on a shared subscription", Connected, |v| one(subscribe(v, b"", &[(b"$share/group/a", 0x04)])), "", "DISCONNECT 0x82, closed"), // [MQTT-3.8.3-4]
    row("subscription identifier 0, or two of them", Connected, |v| of(&[b"\x0B\0", b"\x0B\x01\x0B\x02"],
        |block| subscribe(v, block, &[(b"a", 0)])), "", "DISCONNECT 0x82, closed"),
    row("filter cut, or its options missing", Connected, |v| of(&[b"\0", b"\0\x02a", b"\0\x01a", b"\xFF\xFFabc"],
        |rest| packet(0x82, &[b"\0\x07", &block(v, b"")[..], rest].concat())), "closed", "DISCONNECT 0x81, closed"),
    row("empty filter", Connected, |v| filters(v, &[b""]), "closed", "DISCONNECT 0x81, closed"), // [MQTT-4.7.3-1] [v3 MQTT-4.7.3-1]
    row("wildcards where they must not stand", Connected, |v| filters(v, &[b"a/#/b", b"a#", b"#/", b"##", b"+a", b"a+", b"a/+b/c", b"++"]), // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [v3 MQTT-4.7.1-2] [v3 MQTT-4.7.1-3]
        "closed", "DISCONNECT 0x81, closed"),
    row("shared subscription without name or filter", Connected, |v| filters(v, // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        &[b"$share/", b"$share/a", b"$share/a/", b"$share//a", b"$share/+/a", b"$share/a#/a"]), "closed", "DISCONNECT 0x81, closed"),
    row("filter with U+0000, or no UTF-8", Connected, |v| filters(v, &[NULS, ILL_FORMED].concat()), // [MQTT-1.5.4-1] [MQTT-1.5.4-2] [v3 MQTT-3.8.3-1] [MQTT-3.8.3-1]
        "closed", "DISCONNECT 0x81, closed"),
    row("a bad filter behind a good one: neither is made", Connected,
        |v| one([subscribe(v, b"", &[(b"hostile/none", 0), (b"a#", 0)]), publish(v, 0x30, b"hostile/none", b"")].concat()),
        "closed", "DISCONNECT 0x81, closed"),
    row("filter of 128 levels", Connected, |v| filters(v, &[&levels(128)]), "SUBACK 0x00, stays", "SUBACK 0x00, stays"),
    row("filter of 129 levels, of 65,536 levels", Connected, |v| filters(v, &[&levels(129), &levels(STRING_MAX + 1)]),
        "SUBACK 0x80, stays", "SUBACK 0x8F, stays"),
    row("filter of 65,535 bytes in one level", Connected, |v| filters(v, &[&[b'x'; STRING_MAX]]), "SUBACK 0x00, stays", "SUBACK 0x00, stays"),
    row("65 patterns of wildcards", Connected, |v| {
        let texts: Vec<String> = (1..=65).map(|count| format!("hostile/shapes{}/+", "/x".repeat(count))).collect();
        let filters: Vec<(&[u8], u8)> = texts.iter().map(|text| (text.as_bytes(), 0)).collect();
        one(subscribe(v, b"", &filters))
    }, "SUBACK 64 × 0x00 0x80, stays", "SUBACK 64 × 0x00 0x97, stays"),
    row("patterns with 5 times 100 wildcards, and 100 more", Connected, |v| {
        let texts: Vec<String> = (0..6).map(|depth| format!("{}hostile{}", "x/".repeat(depth), "/+".repeat(100))).collect();
        let filters: Vec<(&[u8], u8)> = texts.iter().map(|text| (text.as_bytes(), 0)).collect();
        one(subscribe(v, b"", &filters))
    }, "SUBACK 5 × 0x00 0x80, stays", "SUBACK 5 × 0x00 0x97, stays"),
    row("UNSUBSCRIBE without a filter", Connected, |v| one(unsubscribe(v, &[])), // [MQTT-3.10.3-2] [v3 MQTT-3.10.3-2]
        "closed", "DISCONNECT 0x82, closed"),
    row("UNSUBSCRIBE from a filter that is none", Connected, |v| of(&[b"", b"a#", b"$share//a"], |filter| unsubscribe(v, &[filter])),
        "closed", "DISCONNECT 0x81, closed"),
    row("UNSUBSCRIBE from what was never subscribed", Connected, |v| one(unsubscribe(v, &[b"hostile/never"])), // [v3 MQTT-3.10.4-5] [MQTT-3.10.4-5]
        "UNSUBACK, stays", "UNSUBACK 0x11, stays"),
];
