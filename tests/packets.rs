//! One table of packets: each row is decoded, cut short at every byte, and written again.
//!
//! A row has the packet's bytes in a notation of its own: hex digits; `[…]` for what stands behind
//! its length as a Variable Byte Integer; `'…'` for text behind its length in two bytes.

mod common;

use common::{ack, connect, disconnect, publish, publish_qos, retained, subscribe, unsubscribe};
use midge::packet::property::Value;
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ANY_SIZE: usize = usize::MAX;

fn bytes(notation: &str) -> Vec<u8> {
    let mut blocks = vec![vec![]];
    let mut rest = notation.chars();
    while let Some(next) = rest.next() {
        let block = blocks.last_mut().unwrap();
        match next {
            ' ' => {}
            '[' => blocks.push(vec![]),
            ']' => {
                let inner = blocks.pop().unwrap();
                let outer = blocks.last_mut().unwrap();
                outer.extend(variable_byte_integer(inner.len()));
                outer.extend(inner);
            }
            '\'' => {
                let text: String = rest.by_ref().take_while(|next| *next != '\'').collect();
                block.extend((text.len() as u16).to_be_bytes());
                block.extend(text.as_bytes());
            }
            digit => {
                let pair = [digit, rest.next().unwrap()];
                let pair = pair.map(|digit| digit.to_digit(16).unwrap() as u8);
                block.push(pair[0] << 4 | pair[1]);
            }
        }
    }
    assert_eq!(blocks.len(), 1, "brackets do not match: {notation}");
    blocks.remove(0)
}

fn variable_byte_integer(mut value: usize) -> Vec<u8> {
    let mut bytes = vec![];
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

/// Properties as they stand in the notation.
fn properties(notation: &str) -> Properties<'static> {
    Properties::trusted(bytes(notation).leak())
}

#[derive(Clone)]
struct Row(&'static str, Version, &'static str, Packet<'static>);

fn check(rows: Vec<Row>) {
    for Row(name, version, notation, expected) in rows {
        let bytes = check_decode(name, version, notation, &expected);
        let mut written = Vec::new();
        expected.encode(version, &mut written);
        assert_eq!(written, bytes, "{name}: written");
    }
}

/// For packets that can be said in fewer bytes than the row takes.
fn check_decode(name: &str, version: Version, notation: &str, expected: &Packet) -> Vec<u8> {
    let bytes = bytes(notation);
    let decoded = decode(&bytes, version, ANY_SIZE).map(|found| found.unwrap());
    let expected = (expected.clone(), bytes.len());
    assert_eq!(decoded.as_ref(), Ok(&expected), "{name}: read");
    for length in 0..bytes.len() {
        let prefix = decode(&bytes[..length], version, ANY_SIZE);
        assert_eq!(prefix, Ok(None), "{name}: the first {length} bytes");
    }
    let mut more = bytes.clone();
    more.extend([0xC0, 0]);
    assert_eq!(decode(&more, version, ANY_SIZE), Ok(Some(expected)));
    bytes
}

fn will(qos: QoS, retain: bool) -> Will<'static> {
    Will {
        qos,
        retain,
        properties: Properties::NONE,
        topic: "w",
        payload: b"bye",
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn connect_is_read_and_written() {
    let v = connect;
    let everything = Connect {
        keep_alive: 10,
        properties: properties(
            "11 0000000a 21 0014 27 00010000 22 000a 19 01 17 00 26 'k' 'v' 15 'm' 16 'd'",
        ),
        will: Some(Will {
            properties: properties(
                "18 00000005 01 01 02 0000003c 03 't' 08 'r' 09 'c' 26 'k' 'v'",
            ),
            ..will(QoS::ExactlyOnce, true)
        }),
        user_name: Some("user"),
        password: Some(b"pass"),
        ..v(V5, "a")
    };
    check(vec![
        Row("3.1", V31, "10 ['MQIsdp' 03 02 0000 'a']", Packet::Connect(v(V31, "a"))),
        Row("3.1.1", V311, "10 ['MQTT' 04 02 0000 'a']", Packet::Connect(v(V311, "a"))),
        // [MQTT-2.2.2-1]
        Row("5.0", V5, "10 ['MQTT' 05 02 0000 [] 'a']", Packet::Connect(v(V5, "a"))),
        Row("keep alive", V311, "10 ['MQTT' 04 02 ffff 'a']",
            Packet::Connect(Connect { keep_alive: 65_535, ..v(V311, "a") })),
        Row("session kept", V311, "10 ['MQTT' 04 00 0000 'a']",
            Packet::Connect(Connect { clean_start: false, ..v(V311, "a") })),
        Row("no client id", V311, "10 ['MQTT' 04 02 0000 '']", Packet::Connect(v(V311, ""))),
        // A byte order mark is a character like any other.
        Row("BOM kept in 5.0", V5, "10 ['MQTT' 05 02 0000 [] 0004 efbbbf 61]", // [MQTT-1.5.4-3]
            Packet::Connect(v(V5, "\u{feff}a"))),
        Row("BOM kept", V311, "10 ['MQTT' 04 02 0000 0004 efbbbf 61]",
            Packet::Connect(v(V311, "\u{feff}a"))),
        Row("bridge 3.1", V31, "10 ['MQIsdp' 83 02 0000 'a']",
            Packet::Connect(Connect { bridge: true, ..v(V31, "a") })),
        Row("bridge 3.1.1", V311, "10 ['MQTT' 84 02 0000 'a']",
            Packet::Connect(Connect { bridge: true, ..v(V311, "a") })),
        Row("will QoS 0", V311, "10 ['MQTT' 04 06 0000 'a' 'w' 'bye']",
            Packet::Connect(Connect { will: Some(will(QoS::AtMostOnce, false)), ..v(V311, "a") })),
        Row("will QoS 1", V311, "10 ['MQTT' 04 0e 0000 'a' 'w' 'bye']",
            Packet::Connect(Connect { will: Some(will(QoS::AtLeastOnce, false)), ..v(V311, "a") })),
        Row("will QoS 2, retain", V311, "10 ['MQTT' 04 36 0000 'a' 'w' 'bye']",
            Packet::Connect(Connect { will: Some(will(QoS::ExactlyOnce, true)), ..v(V311, "a") })),
        Row("user name", V311, "10 ['MQTT' 04 82 0000 'a' 'user']",
            Packet::Connect(Connect { user_name: Some("user"), ..v(V311, "a") })),
        Row("user name and password", V31, "10 ['MQIsdp' 03 c2 0000 'a' 'user' 'pass']",
            Packet::Connect(Connect {
                user_name: Some("user"), password: Some(b"pass"), ..v(V31, "a")
            })),
        Row("binary password alone in 5.0", V5, "10 ['MQTT' 05 42 0000 [] 'a' 0002 00ff]",
            Packet::Connect(Connect { password: Some(b"\x00\xff"), ..v(V5, "a") })),
        Row("everything", V5, // [MQTT-3.1.2-12]
            "10 ['MQTT' 05 f6 000a
               [11 0000000a 21 0014 27 00010000 22 000a 19 01 17 00 26 'k' 'v' 15 'm' 16 'd']
               'a' [18 00000005 01 01 02 0000003c 03 't' 08 'r' 09 'c' 26 'k' 'v']
               'w' 'bye' 'user' 'pass']".replace('\n', "").leak(),
            Packet::Connect(everything)),
    ]);
}

fn connack(session_present: bool, reason: R, notation: &str) -> Packet<'static> {
    let properties = properties(notation);
    Packet::ConnAck(ConnAck {
        session_present,
        reason,
        properties,
    })
}

#[test]
#[rustfmt::skip] // One row, one line.
fn connack_is_read_and_written() {
    check(vec![
        Row("3.1", V31, "20 02 0000", connack(false, R::Success, "")),
        Row("3.1.1", V311, "20 02 0000", connack(false, R::Success, "")),
        Row("session present", V311, "20 02 0100", connack(true, R::Success, "")),
        Row("return code 1", V311, "20 02 0001", connack(false, R::UnsupportedProtocolVersion, "")),
        Row("return code 2", V311, "20 02 0002", connack(false, R::ClientIdentifierNotValid, "")),
        Row("return code 3", V311, "20 02 0003", connack(false, R::ServerUnavailable, "")),
        Row("return code 4", V311, "20 02 0004", connack(false, R::BadUserNameOrPassword, "")),
        Row("return code 5", V31, "20 02 0005", connack(false, R::NotAuthorized, "")),
        // [MQTT-2.2.2-1] [MQTT-3.2.2-1]
        Row("5.0", V5, "20 [01 00 []]", connack(true, R::Success, "")),
        Row("5.0 refused", V5, "20 [00 84 [1f 'no']]",
            connack(false, R::UnsupportedProtocolVersion, "1f 'no'")),
        Row("all properties", V5,
            "20 [00 00 [11 0000000a 21 0014 24 01 25 00 27 00010000 12 'id' 22 000a 1f 'why' \
             26 'k' 'v' 28 00 29 00 2a 00 13 003c 1a 'info' 1c 'other' 15 'm' 16 'd']]",
            connack(false, R::Success,
                "11 0000000a 21 0014 24 01 25 00 27 00010000 12 'id' 22 000a 1f 'why' \
                 26 'k' 'v' 28 00 29 00 2a 00 13 003c 1a 'info' 1c 'other' 15 'm' 16 'd'")),
    ]);
}

#[test]
fn in_mqtt_3_1_the_first_byte_of_connack_says_nothing() {
    for notation in ["20 02 0100", "20 02 0200"] {
        check_decode(
            "reserved byte",
            V31,
            notation,
            &connack(false, R::Success, ""),
        );
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn publish_is_read_and_written() {
    let one = |id| publish_qos(QoS::AtLeastOnce, id, "a/b", "hi");
    let two = |id| publish_qos(QoS::ExactlyOnce, id, "a/b", "hi");
    let all = "01 01 02 0000003c 23 0007 08 'r' 09 0002 00ff 26 'k' 'v' 26 'k' 'w' \
               0b 8001 0b 01 03 't'";
    check(vec![
        Row("QoS 0 in 3.1", V31, "30 ['a/b' 6869]", Packet::Publish(publish("a/b", "hi"))),
        Row("QoS 0 in 3.1.1", V311, "30 ['a/b' 6869]", Packet::Publish(publish("a/b", "hi"))),
        // [MQTT-2.2.1-2] [MQTT-2.2.2-1]
        Row("QoS 0 in 5.0", V5, "30 ['a/b' [] 6869]", Packet::Publish(publish("a/b", "hi"))),
        Row("QoS 1 in 3.1.1", V311, "32 ['a/b' 0001 6869]", Packet::Publish(one(1))),
        Row("QoS 1 in 5.0", V5, "32 ['a/b' ffff [] 6869]", Packet::Publish(one(65_535))),
        Row("QoS 2 in 3.1.1", V311, "34 ['a/b' 0100 6869]", Packet::Publish(two(256))),
        Row("QoS 2 in 5.0", V5, "34 ['a/b' 0100 [] 6869]", Packet::Publish(two(256))),
        Row("retain", V311, "31 ['a/b' 6869]", Packet::Publish(retained("a/b", "hi"))),
        Row("DUP", V311, "3a ['a/b' 0001 6869]", Packet::Publish(Publish { dup: true, ..one(1) })),
        Row("everything set", V5, "3d ['a/b' 0100 [] 6869]",
            Packet::Publish(Publish { dup: true, retain: true, ..two(256) })),
        Row("no payload", V311, "30 ['a']", Packet::Publish(publish("a", ""))),
        Row("no topic, for an alias", V5, "30 ['' [23 0001] 6869]",
            Packet::Publish(Publish { properties: properties("23 0001"), ..publish("", "hi") })),
        Row("all properties", V5, "30 ['a' [01 01 02 0000003c 23 0007 08 'r' 09 0002 00ff 26 'k' \
             'v' 26 'k' 'w' 0b 8001 0b 01 03 't']]",
            Packet::Publish(Publish { properties: properties(all), ..publish("a", "") })),
        Row("topic with spaces and accents", V311, "30 ['Zürich /☃' 6869]",
            Packet::Publish(publish("Zürich /☃", "hi"))),
    ]);
}

#[test]
fn the_four_acknowledgements_are_read_and_written() {
    type Make = fn(Ack<'static>) -> Packet<'static>;
    let kinds: [(&str, Make, &[R]); 4] = [
        (
            "40",
            Packet::PubAck,
            &[R::NoMatchingSubscribers, R::QuotaExceeded],
        ),
        (
            "50",
            Packet::PubRec,
            &[R::NoMatchingSubscribers, R::PayloadFormatInvalid],
        ),
        ("62", Packet::PubRel, &[R::PacketIdentifierNotFound]),
        ("70", Packet::PubComp, &[R::PacketIdentifierNotFound]),
    ];
    let leak = |text: String| -> &'static str { text.leak() };
    for (first, packet, reasons) in kinds {
        let short = leak(format!("{first} 02 0102"));
        let mut rows = [V31, V311, V5]
            .map(|version| Row("id alone", version, short, packet(ack(0x0102))))
            .to_vec();
        for reason in reasons {
            let code = *reason as u8;
            let said = leak(format!("{first} 03 0001 {code:02x}"));
            rows.push(Row("reason", V5, said, packet(Ack::new(1, *reason))));
            let why = leak(format!("{first} [0001 {code:02x} [1f 'why' 26 'k' 'v']]"));
            let explained = Ack {
                properties: properties("1f 'why' 26 'k' 'v'"),
                ..Ack::new(1, *reason)
            };
            rows.push(Row("properties", V5, why, packet(explained)));
        }
        check(rows);
        // What could have been left out may be there.
        for rest in ["00", "00 []"] {
            let long = format!("{first} [0001 {rest}]");
            check_decode("success said at length", V5, &long, &packet(ack(1)));
        }
    }
}

#[test]
fn in_mqtt_3_1_a_repeated_packet_may_be_marked_as_such() {
    let filters = [("a", SubscriptionOptions::new(QoS::AtLeastOnce))];
    for (name, notation, expected) in [
        ("PUBREL", "6a 02 0001", Packet::PubRel(ack(1))),
        ("SUBSCRIBE", "8a [0001 'a' 01]", subscribe(1, &filters)),
        ("UNSUBSCRIBE", "aa [0001 'a']", unsubscribe(1, &["a"])),
    ] {
        check_decode(name, V31, notation, &expected);
        let refused = decode(&bytes(notation), V311, ANY_SIZE).unwrap_err();
        // [v3 MQTT-3.6.1-1] [v3 MQTT-3.8.1-1] [v3 MQTT-3.10.1-1]
        assert_eq!(refused.code, R::MalformedPacket, "{name} in 3.1.1");
    }
}

fn suback(reasons: &[R], notation: &str) -> SubAck<'static> {
    SubAck {
        packet_id: 1,
        properties: properties(notation),
        reasons: reasons.to_vec(),
    }
}

#[test]
#[rustfmt::skip] // One row, one line.
fn subscribe_and_its_kin_are_read_and_written() {
    let qos = SubscriptionOptions::new;
    let three = [
        ("a", qos(QoS::AtMostOnce)),
        ("b/+", qos(QoS::AtLeastOnce)),
        ("#", qos(QoS::ExactlyOnce)),
    ];
    let options = SubscriptionOptions {
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..qos(QoS::ExactlyOnce)
    };
    let if_new = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..qos(QoS::AtMostOnce)
    };
    let subscribe_with = |notation: &str| Packet::Subscribe(Subscribe {
        packet_id: 1,
        properties: properties(notation),
        filters: vec![("a", options), ("b", if_new)],
    });
    let unsubscribe_with = |notation: &str| Packet::Unsubscribe(Unsubscribe {
        packet_id: 1,
        properties: properties(notation),
        filters: vec!["a", "b/+"],
    });
    let granted = [R::Success, R::GrantedQoS1, R::GrantedQoS2, R::UnspecifiedError];
    let refused = [R::GrantedQoS2, R::TopicFilterInvalid, R::QuotaExceeded];
    let gone = [R::Success, R::NoSubscriptionExisted, R::TopicFilterInvalid];
    check(vec![
        Row("SUBSCRIBE in 3.1", V31, "82 [0001 'a' 00 'b/+' 01 '#' 02]", subscribe(1, &three)),
        Row("SUBSCRIBE in 3.1.1", V311, "82 [0001 'a' 00 'b/+' 01 '#' 02]", subscribe(1, &three)),
        Row("SUBSCRIBE in 5.0", V5, "82 [0001 [] 'a' 00 'b/+' 01 '#' 02]", subscribe(1, &three)),
        Row("all options", V5, "82 [0001 [0b ffffff7f 26 'k' 'v'] 'a' 2e 'b' 10]",
            subscribe_with("0b ffffff7f 26 'k' 'v'")),
        Row("SUBACK in 3.1.1", V311, "90 [0001 00010280]", Packet::SubAck(suback(&granted, ""))),
        // [MQTT-2.2.2-1]
        Row("SUBACK in 5.0", V5, "90 [0001 [] 00010280]", Packet::SubAck(suback(&granted, ""))),
        Row("SUBACK, refused", V5, "90 [0001 [1f 'why'] 028f97]",
            Packet::SubAck(suback(&refused, "1f 'why'"))),
        Row("UNSUBSCRIBE in 3.1", V31, "a2 [0001 'a' 'b/+']", unsubscribe(1, &["a", "b/+"])),
        Row("UNSUBSCRIBE in 3.1.1", V311, "a2 [0001 'a' 'b/+']", unsubscribe(1, &["a", "b/+"])),
        Row("UNSUBSCRIBE in 5.0", V5, "a2 [0001 [26 'k' 'v'] 'a' 'b/+']",
            unsubscribe_with("26 'k' 'v'")),
        Row("UNSUBACK in 3.1", V31, "b0 02 0001", Packet::UnsubAck(suback(&[], ""))),
        Row("UNSUBACK in 3.1.1", V311, "b0 02 0001", Packet::UnsubAck(suback(&[], ""))),
        Row("UNSUBACK in 5.0", V5, "b0 [0001 [1f 'why'] 00118f]",
            Packet::UnsubAck(suback(&gone, "1f 'why'"))),
    ]);
    // Before 5.0 there is one code for every failure.
    let mut written = Vec::new();
    Packet::SubAck(suback(&refused, "")).encode(V311, &mut written);
    assert_eq!(written, bytes("90 [0001 028080]")); // [v3 MQTT-3.9.3-2]
}

#[test]
#[rustfmt::skip] // One row, one line.
fn the_short_ones_are_read_and_written() {
    let disconnected = |reason, notation: &str|
        Packet::Disconnect(Disconnect { reason, properties: properties(notation) });
    let auth = |reason, notation: &str|
        Packet::Auth(Auth { reason, properties: properties(notation) });
    check(vec![
        Row("PINGREQ in 3.1", V31, "c0 00", Packet::PingReq),
        Row("PINGREQ in 3.1.1", V311, "c0 00", Packet::PingReq),
        Row("PINGREQ in 5.0", V5, "c0 00", Packet::PingReq),
        Row("PINGRESP in 3.1", V31, "d0 00", Packet::PingResp),
        Row("PINGRESP in 3.1.1", V311, "d0 00", Packet::PingResp),
        Row("PINGRESP in 5.0", V5, "d0 00", Packet::PingResp),
        Row("DISCONNECT in 3.1", V31, "e0 00", disconnect()),
        Row("DISCONNECT in 3.1.1", V311, "e0 00", disconnect()),
        Row("DISCONNECT in 5.0", V5, "e0 00", disconnect()),
        Row("with will", V5, "e0 01 04", disconnected(R::DisconnectWithWill, "")),
        Row("all properties", V5, "e0 [00 [11 0000000a 1f 'why' 26 'k' 'v' 1c 'other']]",
            disconnected(R::Success, "11 0000000a 1f 'why' 26 'k' 'v' 1c 'other'")),
        Row("AUTH", V5, "f0 [18 [15 'm' 16 'd' 1f 'why' 26 'k' 'v']]",
            auth(R::ContinueAuthentication, "15 'm' 16 'd' 1f 'why' 26 'k' 'v'")),
        Row("AUTH again", V5, "f0 [19 [15 'm']]", auth(R::ReAuthenticate, "15 'm'")),
    ]);
    check_decode("DISCONNECT at length", V5, "e0 [00 []]", &disconnect());
}

#[test]
#[rustfmt::skip] // One row, one line.
fn what_is_wrong_is_refused() {
    use ReasonCode::{MalformedPacket as Malformed, ProtocolError as Protocol};
    const VERSION: R = R::UnsupportedProtocolVersion;
    for (name, version, notation, code) in [
        ("packet type 0", V5, "00 00", Malformed),
        ("length of five bytes", V311, "30 8080808001", Malformed),
        ("overlong length", V5, "c0 8000", Malformed), // [MQTT-1.5.5-1]
        // A CONNECT is read before its version is known.
        ("overlong length of a CONNECT", V311, "10 8e00 'MQTT' 05 02 0000 [] 'a'", Malformed),
        ("overlong length of 127", V5, "30 ff8000", Malformed),
        ("overlong property length", V5, "30 04 'a' 8000", Malformed),
        ("overlong property identifier", V5, "30 ['a' [8100 01]]", Malformed),
        ("bad UTF-8 in a topic", V311, "30 [0002 c328]", Malformed),
        // [MQTT-1.5.4-1] [MQTT-3.3.2-1]
        ("bad UTF-8 in a topic of 5.0", V5, "30 [0002 c328 []]", Malformed),
        ("a surrogate in a topic", V311, "30 [0003 eda080]", Malformed),
        ("overlong UTF-8 in a topic", V311, "30 [0002 c1bf]", Malformed),
        ("beyond U+10FFFF in a topic", V5, "30 [0004 f4908080 []]", Malformed),
        // [MQTT-1.5.4-1] [MQTT-3.1.3-4]
        ("a surrogate in a client id", V5, "10 ['MQTT' 05 02 0000 [] 0003 eda080]", Malformed),
        ("U+0000 in a topic", V311, "30 [0003 610062]", Malformed),
        // [MQTT-1.5.4-2] [MQTT-4.7.3-2]
        ("U+0000 in a topic of 5.0", V5, "30 [0003 610062 []]", Malformed),
        ("U+0000 in a client id", V311, "10 ['MQTT' 04 02 0000 0001 00]", Malformed),
        ("U+0000 in a filter", V5, "82 [0001 [] 0001 00 00]", Malformed), // [MQTT-4.7.3-2]
        // [MQTT-1.5.7-1]
        ("bad UTF-8 in a pair", V5, "30 ['a' [26 'k' 0001 ff]]", Malformed),
        ("U+0000 in the name of a pair", V5, "30 ['a' [26 0001 00 'v']]", Malformed),
        ("CONNECT flags", V311, "11 ['MQTT' 04 02 0000 'a']", Malformed),
        // [MQTT-2.1.3-1]
        ("CONNECT flags", V5, "11 ['MQTT' 05 02 0000 [] 'a']", Malformed),
        ("PUBACK flags", V5, "42 02 0001", Malformed),
        ("PUBREC flags", V311, "51 02 0001", Malformed),
        ("PUBREL without its flag", V311, "60 02 0001", Malformed),
        ("PUBREL with another flag", V5, "63 02 0001", Malformed), // [MQTT-3.6.1-1]
        ("PUBCOMP flags", V5, "78 02 0001", Malformed),
        ("SUBSCRIBE without its flag", V311, "80 [0001 'a' 00]", Malformed),
        ("SUBSCRIBE with DUP", V5, "8a [0001 [] 'a' 00]", Malformed), // [MQTT-3.8.1-1]
        ("UNSUBSCRIBE without its flag", V311, "a0 [0001 'a']", Malformed),
        ("UNSUBSCRIBE with DUP", V5, "aa [0001 [] 'a']", Malformed), // [MQTT-3.10.1-1]
        ("PINGREQ flags", V311, "c1 00", Malformed),
        ("DISCONNECT flags", V5, "e1 00", Malformed), // [MQTT-3.14.1-1]
        ("AUTH flags", V5, "f1 [18 [15 'm']]", Malformed), // [MQTT-3.15.1-1]

        ("CONNECT: no name", V311, "10 [0000 04 02 0000 'a']", Malformed),
        ("CONNECT: another name", V311, "10 ['HTTP' 04 02 0000 'a']", Malformed),
        // [MQTT-3.1.2-1]
        ("CONNECT: name in lower case", V5, "10 ['mqtt' 05 02 0000 [] 'a']", Malformed),
        ("CONNECT: level 1", V311, "10 ['MQTT' 01 02 0000 'a']", VERSION),
        ("CONNECT: level 3, new name", V311, "10 ['MQTT' 03 02 0000 'a']", VERSION),
        ("CONNECT: level 4, old name", V31, "10 ['MQIsdp' 04 02 0000 'a']", VERSION),
        ("CONNECT: level 6", V5, "10 ['MQTT' 06 02 0000 [] 'a']", VERSION), // [MQTT-3.1.2-2]
        ("CONNECT: bridge in 5.0", V5, "10 ['MQTT' 85 02 0000 [] 'a']", VERSION),
        ("CONNECT: reserved flag", V311, "10 ['MQTT' 04 03 0000 'a']", Malformed),
        // [MQTT-3.1.2-3]
        ("CONNECT: reserved flag", V5, "10 ['MQTT' 05 03 0000 [] 'a']", Malformed),
        ("CONNECT: will QoS without will", V311, "10 ['MQTT' 04 0a 0000 'a']", Malformed),
        // [MQTT-3.1.2-11]
        ("CONNECT: will QoS without will", V5, "10 ['MQTT' 05 0a 0000 [] 'a']", Malformed),
        // [MQTT-3.1.2-13]
        ("CONNECT: will retain without will", V5, "10 ['MQTT' 05 22 0000 [] 'a']", Malformed),
        ("CONNECT: will QoS 3", V311, "10 ['MQTT' 04 1e 0000 'a' 'w' 'm']", Malformed),
        // [MQTT-3.1.2-12]
        ("CONNECT: will QoS 3", V5, "10 ['MQTT' 05 1e 0000 [] 'a' [] 'w' 'm']", Malformed),
        // [v3 MQTT-3.1.2-22]
        ("CONNECT: password alone", V311, "10 ['MQTT' 04 42 0000 'a' 'p']", Malformed),
        ("CONNECT: password alone", V31, "10 ['MQIsdp' 03 42 0000 'a' 'p']", Malformed),
        ("CONNECT: no client id field", V311, "10 ['MQTT' 04 02 0000]", Malformed),
        // [MQTT-3.1.3-3]
        ("CONNECT: no client id field", V5, "10 ['MQTT' 05 02 0000 []]", Malformed),
        ("CONNECT: no will field", V311, "10 ['MQTT' 04 06 0000 'a' 'w']", Malformed),
        // [MQTT-3.1.2-9]
        ("CONNECT: no will field", V5, "10 ['MQTT' 05 06 0000 [] 'a' [] 'w']", Malformed),
        // [MQTT-3.1.2-9]
        ("CONNECT: no will properties", V5, "10 ['MQTT' 05 06 0000 [] 'a' 'w' 'm']", Malformed),
        ("CONNECT: no user name field", V311, "10 ['MQTT' 04 82 0000 'a']", Malformed),
        // [MQTT-3.1.2-17]
        ("CONNECT: no user name field", V5, "10 ['MQTT' 05 82 0000 [] 'a']", Malformed),
        ("CONNECT: no password field", V311, "10 ['MQTT' 04 c2 0000 'a' 'u']", Malformed),
        // [MQTT-3.1.2-19]
        ("CONNECT: no password field", V5, "10 ['MQTT' 05 c2 0000 [] 'a' 'u']", Malformed),
        ("CONNECT: user name without flag", V311, "10 ['MQTT' 04 02 0000 'a' 'u']", Malformed),
        // [MQTT-3.1.2-16]
        ("CONNECT: user name without flag", V5, "10 ['MQTT' 05 02 0000 [] 'a' 'u']", Malformed),
        ("CONNECT: password without flag", V311, "10 ['MQTT' 04 82 0000 'a' 'u' 'p']", Malformed),
        // [MQTT-3.1.2-18]
        ("CONNECT: password without flag", V5, "10 ['MQTT' 05 82 0000 [] 'a' 'u' 'p']", Malformed),
        ("CONNECT: user name not UTF-8", V311, "10 ['MQTT' 04 82 0000 'a' 0001 ff]", Malformed),
        // [MQTT-3.1.3-12]
        ("CONNECT: user name not UTF-8", V5, "10 ['MQTT' 05 82 0000 [] 'a' 0001 ff]", Malformed),
        ("CONNECT: will not UTF-8", V311, "10 ['MQTT' 04 06 0000 'a' 0001 ff 'm']", Malformed),
        // [MQTT-3.1.3-11]
        ("CONNECT: will not UTF-8", V5, "10 ['MQTT' 05 06 0000 [] 'a' [] 0001 ff 'm']", Malformed),
        ("CONNECT: no properties", V5, "10 ['MQTT' 05 02 0000]", Malformed),
        ("CONNECT: will delay, no will", V5, "10 ['MQTT' 05 02 0000 [18 00000001] 'a']", Malformed),
        ("CONNECT: will with a connection's property", V5,
            "10 ['MQTT' 05 06 0000 [] 'a' [11 00000001] 'w' 'm']", Malformed),
        ("CONNECT: property cut short", V5, "10 ['MQTT' 05 02 0000 [11 0000] 'a']", Malformed),
        ("CONNECT: properties beyond the end", V5, "10 ['MQTT' 05 02 0000 7f 11 0000]", Malformed),
        ("CONNECT: receive maximum 0", V5, "10 ['MQTT' 05 02 0000 [21 0000] 'a']", Protocol),
        ("CONNECT: packet size 0", V5, "10 ['MQTT' 05 02 0000 [27 00000000] 'a']", Protocol),
        ("CONNECT: problem information 2", V5, "10 ['MQTT' 05 02 0000 [17 02] 'a']", Protocol),
        ("CONNECT: response information 2", V5, "10 ['MQTT' 05 02 0000 [19 02] 'a']", Protocol),
        ("CONNECT: data without method", V5, "10 ['MQTT' 05 02 0000 [16 'd'] 'a']", Protocol),
        ("CONNACK: reserved flags", V5, "20 [02 00 []]", Malformed), // [MQTT-3.2.2-1]
        ("CONNACK: reserved flags in 3.1.1", V311, "20 02 0200", Malformed),
        ("CONNACK: return code 6", V311, "20 02 0006", Malformed),
        ("CONNACK: a DISCONNECT's reason", V5, "20 [00 8b []]", Malformed),

        ("PUBLISH: QoS 3", V311, "36 ['a' 0001]", Malformed),
        ("PUBLISH: QoS 3", V5, "36 ['a' 0001 []]", Malformed), // [MQTT-3.3.1-4]
        ("PUBLISH: DUP with QoS 0", V311, "38 ['a']", Malformed),
        ("PUBLISH: DUP with QoS 0", V5, "38 ['a' []]", Malformed), // [MQTT-3.3.1-2]
        ("PUBLISH: packet id 0", V311, "32 ['a' 0000]", Protocol),
        ("PUBLISH: packet id 0", V5, "32 ['a' 0000 []]", Protocol), // [MQTT-2.2.1-3]
        ("PUBLISH: no packet id", V311, "34 ['a']", Malformed),
        ("PUBLISH: nothing", V311, "30 00", Malformed),
        ("PUBLISH: nothing", V5, "30 00", Malformed), // [MQTT-3.3.2-1]
        ("PUBLISH: topic cut short", V311, "30 02 0005", Malformed),
        ("PUBLISH: no property length", V5, "30 ['a']", Malformed), // [MQTT-2.2.2-1]
        ("PUBLISH: unknown property", V5, "30 ['a' [7f 00]]", Malformed),
        ("PUBLISH: a CONNECT's property", V5, "30 ['a' [21 0001]]", Malformed),
        ("PUBLISH: subscription identifier 0", V5, "30 ['a' [0b 00]]", Protocol),
        ("PUBLISH: payload format 2", V5, "30 ['a' [01 02]]", Protocol),
        // [MQTT-3.3.2-13]
        ("PUBLISH: bad UTF-8 in the response topic", V5, "30 ['a' [08 0001 ff]]", Malformed),
        // [MQTT-3.3.2-19]
        ("PUBLISH: bad UTF-8 in the content type", V5, "30 ['a' [03 0001 ff]]", Malformed),

        ("PUBACK: packet id 0", V311, "40 02 0000", Protocol),
        ("PUBACK: nothing", V311, "40 00", Malformed),
        ("PUBACK: reason in 3.1.1", V311, "40 03 0001 00", Malformed),
        ("PUBACK: a SUBACK's reason", V5, "40 03 0001 01", Malformed), // [MQTT-3.4.2-1]
        ("PUBREC: an unknown reason", V5, "50 03 0001 7f", Malformed), // [MQTT-3.5.2-1]
        ("PUBREL: a PUBREC's reason", V5, "62 03 0001 10", Malformed), // [MQTT-3.6.2-1]
        ("PUBCOMP: a PUBREC's reason", V5, "70 03 0001 97", Malformed), // [MQTT-3.7.2-1]
        ("PUBACK: a PUBLISH's property", V5, "40 [0001 00 [01 00]]", Malformed),
        ("PUBACK: bytes behind the end", V5, "40 [0001 00 [] 00]", Malformed),

        ("SUBSCRIBE: packet id 0", V311, "82 [0000 'a' 00]", Protocol),
        ("SUBSCRIBE: packet id 0", V5, "82 [0000 [] 'a' 00]", Protocol), // [MQTT-2.2.1-3]
        ("SUBSCRIBE: no filter", V311, "82 [0001]", Protocol),
        ("SUBSCRIBE: no filter", V5, "82 [0001 []]", Protocol), // [MQTT-3.8.3-2]
        ("SUBSCRIBE: no options", V311, "82 [0001 'a']", Malformed),
        ("SUBSCRIBE: bad UTF-8", V311, "82 [0001 0001 ff 00]", Malformed),
        ("SUBSCRIBE: bad UTF-8", V5, "82 [0001 [] 0001 ff 00]", Malformed), // [MQTT-3.8.3-1]
        ("SUBSCRIBE: reserved bits", V5, "82 [0001 [] 'a' 40]", Malformed), // [MQTT-3.8.3-5]
        // [v3 MQTT-3.8.3-4]
        ("SUBSCRIBE: options of 5.0 in 3.1.1", V311, "82 [0001 'a' 04]", Malformed),
        ("SUBSCRIBE: QoS 3", V5, "82 [0001 [] 'a' 03]", Protocol),
        ("SUBSCRIBE: retain handling 3", V5, "82 [0001 [] 'a' 30]", Protocol),
        ("SUBSCRIBE: identifier 0", V5, "82 [0001 [0b 00] 'a' 00]", Protocol),
        ("SUBSCRIBE: two identifiers", V5, "82 [0001 [0b 01 0b 02] 'a' 00]", Protocol),
        ("SUBSCRIBE: identifier of five bytes", V5, "82 [0001 [0b 8080808001] 'a' 00]", Malformed),
        ("UNSUBSCRIBE: packet id 0", V5, "a2 [0000 [] 'a']", Protocol),
        ("UNSUBSCRIBE: no filter", V311, "a2 [0001]", Protocol),
        ("UNSUBSCRIBE: no filter", V5, "a2 [0001 []]", Protocol), // [MQTT-3.10.3-2]
        ("UNSUBSCRIBE: bad UTF-8", V311, "a2 [0001 0001 ff]", Malformed),
        ("UNSUBSCRIBE: bad UTF-8", V5, "a2 [0001 [] 0001 ff]", Malformed), // [MQTT-3.10.3-1]
        ("SUBACK: a CONNACK's reason", V5, "90 [0001 [] 85]", Malformed), // [MQTT-3.9.3-2]
        // [v3 MQTT-3.9.3-2]
        ("SUBACK: a reason of 5.0 in 3.1.1", V311, "90 [0001 87]", Malformed),
        ("SUBACK: a reason of 5.0 in 3.1", V31, "90 [0001 97]", Malformed),
        ("UNSUBACK: a reason in 3.1.1", V311, "b0 [0001 00]", Malformed),
        ("UNSUBACK: a reason in 3.1", V31, "b0 [0001 11]", Malformed),
        ("UNSUBACK: a SUBACK's reason", V5, "b0 [0001 [] 01]", Malformed), // [MQTT-3.11.3-2]

        ("PINGREQ with a body", V311, "c0 01 00", Malformed),
        ("PINGRESP with a body", V5, "d0 01 00", Malformed),
        ("DISCONNECT with a body in 3.1.1", V311, "e0 01 00", Malformed),
        ("DISCONNECT: a CONNACK's reason", V5, "e0 01 85", Malformed), // [MQTT-3.14.2-1]
        ("DISCONNECT: bytes behind the end", V5, "e0 [00 [] 00]", Malformed),
        ("AUTH in 3.1.1", V311, "f0 00", Malformed),
        ("AUTH without a method", V5, "f0 00", Protocol),
        ("AUTH: a DISCONNECT's reason", V5, "f0 [04 [15 'm']]", Malformed), // [MQTT-3.15.2-1]
    ] {
        let bytes = bytes(notation);
        let refused = decode(&bytes, version, ANY_SIZE).map_err(|refusal| refusal.code);
        assert_eq!(refused, Err(code), "{name} in {version:?}");
        for length in 0..bytes.len() {
            let prefix = decode(&bytes[..length], version, ANY_SIZE);
            assert!(!matches!(prefix, Ok(Some(_))), "{name}: the first {length} bytes");
        }
    }
}

/// Identifier, a value of it, where it may stand: first byte of the packets, `w` for the will.
#[rustfmt::skip] // One row, one line.
const PROPERTIES: &[(P, &str, &str)] = &[
    (P::PayloadFormatIndicator, "01 01", "3w"),
    (P::MessageExpiryInterval, "02 0000003c", "3w"),
    (P::ContentType, "03 't'", "3w"),
    (P::ResponseTopic, "08 't'", "3w"),
    (P::CorrelationData, "09 't'", "3w"),
    (P::SubscriptionIdentifier, "0b 01", "38"),
    (P::SessionExpiryInterval, "11 00000001", "12e"),
    (P::AssignedClientIdentifier, "12 't'", "2"),
    (P::ServerKeepAlive, "13 0001", "2"),
    (P::AuthenticationMethod, "15 't'", "12f"),
    (P::AuthenticationData, "16 't'", "12f"),
    (P::RequestProblemInformation, "17 01", "1"),
    (P::WillDelayInterval, "18 00000001", "w"),
    (P::RequestResponseInformation, "19 01", "1"),
    (P::ResponseInformation, "1a 't'", "2"),
    (P::ServerReference, "1c 't'", "2e"),
    (P::ReasonString, "1f 't'", "245679bef"),
    (P::ReceiveMaximum, "21 0001", "12"),
    (P::TopicAliasMaximum, "22 0001", "12"),
    (P::TopicAlias, "23 0001", "3"),
    (P::MaximumQoS, "24 01", "2"),
    (P::RetainAvailable, "25 01", "2"),
    (P::UserProperty, "26 't' 't'", "123456789abefw"),
    (P::MaximumPacketSize, "27 00000001", "12"),
    (P::WildcardSubscriptionAvailable, "28 01", "2"),
    (P::SubscriptionIdentifierAvailable, "29 01", "2"),
    (P::SharedSubscriptionAvailable, "2a 01", "2"),
];

/// A packet around a block of properties.
fn around(place: char, block: &str) -> String {
    match place {
        '1' => format!("10 ['MQTT' 05 02 0000 [{block}] 'a']"),
        'w' => format!("10 ['MQTT' 05 06 0000 [] 'a' [{block}] 'w' 'm']"),
        '2' => format!("20 [00 00 [{block}]]"),
        '3' => format!("30 ['a' [{block}]]"),
        '4' | '5' | '7' => format!("{place}0 [0001 00 [{block}]]"),
        '6' => format!("62 [0001 00 [{block}]]"),
        '8' => format!("82 [0001 [{block}] 'a' 00]"),
        '9' => format!("90 [0001 [{block}] 00]"),
        'a' => format!("a2 [0001 [{block}] 'a']"),
        'b' => format!("b0 [0001 [{block}] 00]"),
        'e' => format!("e0 [00 [{block}]]"),
        'f' => format!("f0 [00 [{block}]]"),
        _ => panic!("no packet {place}"),
    }
}

#[test]
fn every_property_stands_in_its_packets_only_and_once() {
    for (id, value, places) in PROPERTIES {
        for place in "123456789abefw".chars() {
            // Some cannot stand without an authentication method, AUTH never.
            let wants_method = place == 'f' || *id == P::AuthenticationData;
            let method = match wants_method && *id != P::AuthenticationMethod {
                true => "15 'm'",
                false => "",
            };
            let once = bytes(&around(place, &format!("{value} {method}")));
            let twice = bytes(&around(place, &format!("{value} {value} {method}")));
            let decoded = decode(&once, V5, ANY_SIZE).map_err(|refusal| refusal.code);
            if !places.contains(place) {
                assert_eq!(decoded, Err(R::MalformedPacket), "{id:?} in packet {place}");
                continue;
            }
            assert!(decoded.is_ok(), "{id:?} in packet {place}: {decoded:?}");
            let decoded = decode(&twice, V5, ANY_SIZE).map_err(|refusal| refusal.code);
            let may_repeat =
                *id == P::UserProperty || (*id == P::SubscriptionIdentifier && place == '3');
            match may_repeat {
                true => assert!(decoded.is_ok(), "{id:?} twice in packet {place}"),
                false => assert_eq!(decoded, Err(R::ProtocolError), "{id:?} twice in {place}"),
            }
        }
    }
}

#[test]
fn property_values_are_what_they_say() {
    let values = [
        ("01 01", P::PayloadFormatIndicator, Value::Number(1)),
        ("13 fffe", P::ServerKeepAlive, Value::Number(0xFFFE)),
        (
            "02 fffffffe",
            P::MessageExpiryInterval,
            Value::Number(u32::MAX - 1),
        ),
        (
            "0b ffffff7f",
            P::SubscriptionIdentifier,
            Value::Number(268_435_455),
        ),
        ("03 'text'", P::ContentType, Value::Text("text")),
        (
            "09 0002 00ff",
            P::CorrelationData,
            Value::Binary(&[0, 0xFF]),
        ),
        (
            "26 'name' 'value'",
            P::UserProperty,
            Value::Pair("name", "value"),
        ),
    ];
    for (notation, id, value) in values {
        let block = properties(notation);
        let property = block.iter().next().unwrap();
        assert_eq!((property.id, property.value), (id, value));
        assert_eq!(property.bytes, block.as_bytes());
        let mut written = PropertyBlock::new();
        match value {
            Value::Number(number) => written.number(id, number),
            Value::Text(text) => written.text(id, text),
            Value::Binary(bytes) => written.binary(id, bytes),
            Value::Pair(name, value) => written.pair(name, value),
        };
        assert_eq!(written.as_properties(), block);
    }
}

#[test]
fn lengths_are_right_at_the_edges_of_their_bytes() {
    for (length, header) in [
        (127, "30 7f"),
        (128, "30 8001"),
        (16_383, "30 ff7f"),
        (16_384, "30 808001"),
        (2_097_151, "30 ffff7f"),
        (2_097_152, "30 80808001"),
    ] {
        let payload = "x".repeat(length - 3);
        let packet = Packet::Publish(publish("a", &payload));
        let mut written = Vec::new();
        packet.encode(V311, &mut written);
        let header = bytes(header);
        assert_eq!(written[..header.len()], header);
        assert_eq!(written.len(), header.len() + length);
        let expected = Ok(Some((packet, written.len())));
        assert_eq!(decode(&written, V311, ANY_SIZE), expected);
        assert_eq!(
            decode(&written[..written.len() - 1], V311, ANY_SIZE),
            Ok(None)
        );
    }
}

#[test]
fn packets_other_than_publish_can_be_long_too() {
    let filter = "f".repeat(100);
    for count in [1, 2, 200] {
        let filters = vec![(&filter[..], SubscriptionOptions::new(QoS::AtLeastOnce)); count];
        let packet = subscribe(1, &filters);
        let mut written = Vec::new();
        packet.encode(V5, &mut written);
        let expected = Ok(Some((packet, written.len())));
        assert_eq!(decode(&written, V5, ANY_SIZE), expected);
    }
}

#[test]
fn a_packet_above_the_maximum_size_is_refused_at_its_header() {
    let header = bytes("30 8001"); // 131 bytes in all.
    assert_eq!(decode(&header, V5, 131), Ok(None));
    let refusal = decode(&header, V5, 130).unwrap_err();
    assert_eq!(refusal.code, R::PacketTooLarge);
    // The header alone, as much of it as there is, says nothing yet.
    assert_eq!(decode(&header[..2], V5, 130), Ok(None));
}

#[test]
fn a_length_in_publish_is_known_before_it_is_written() {
    for length in [0, 1, 120, 121, 122, 123, 127, 16_370, 16_380, 20_000] {
        let payload = "x".repeat(length);
        for version in [V31, V311, V5] {
            let packet = publish_qos(QoS::AtLeastOnce, 7, "a/b", &payload);
            let mut written = Vec::new();
            packet.encode(version, &mut written);
            assert_eq!(written.len(), packet.encoded_len(version));
        }
    }
}

#[test]
fn the_longest_packet_is_the_one_whose_length_is_the_highest_number() {
    let head = |payload_len| PublishHead {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: b"t",
        packet_id: None,
        properties: Properties::NONE,
        payload_len,
    };
    let topic_len = 2 + 1;
    let longest = head(field::VARIABLE_BYTE_INTEGER_MAX as usize - topic_len);
    assert_eq!(longest.packet_len(V311), PACKET_BYTES_MAX);
}

/// Any bytes whatever: no panic, and nothing is read that is not there.
#[test]
fn noise_does_no_harm() {
    let mut prng = common::Prng::new(1);
    for _ in 0..200_000 {
        let length = prng.below(40);
        let mut noise: Vec<u8> = (0..length).map(|_| prng.next() as u8).collect();
        if length > 2 && prng.chance(80) {
            noise[1] = length as u8 - 2;
        }
        for version in [V31, V311, V5] {
            if let Ok(Some((packet, length))) = decode(&noise, version, ANY_SIZE) {
                assert!(length <= noise.len());
                let mut written = Vec::new();
                packet.encode(version, &mut written);
                assert!(written.len() <= length, "{packet:?} grew");
            }
        }
    }
}

#[test]
fn before_mqtt_5_a_length_may_be_padded() {
    for version in [V31, V311] {
        let decoded = decode(&[0xC0, 0x80, 0x80, 0x00], version, ANY_SIZE);
        assert_eq!(decoded, Ok(Some((Packet::PingReq, 4))), "{version:?}");
    }
}

#[test]
fn mqtt_31_reserves_no_flags_not_even_in_connect() {
    let mut bytes = Vec::new();
    Packet::Connect(connect(V31, "a")).encode(V31, &mut bytes);
    bytes[0] |= 0x0A;
    assert!(matches!(
        decode(&bytes, V311, ANY_SIZE),
        Ok(Some((Packet::Connect(_), _)))
    ));
    let mut bytes = Vec::new();
    Packet::Connect(connect(V311, "a")).encode(V311, &mut bytes);
    bytes[0] |= 0x02;
    assert!(decode(&bytes, V311, ANY_SIZE).is_err()); // [v3 MQTT-2.2.2-1]
}
