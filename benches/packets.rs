//! What it costs to read and to write one packet: nanoseconds, the median of several rounds.
//!
//! ```text
//! cargo bench --bench packets
//! ```
//!
//! First every packet for itself, again and again from the same bytes: all in the first cache. Then
//! a read buffer of 64 KiB full of them, cut into packets from its beginning to its end as the
//! broker does it, and a write buffer that is filled with as many.

use std::hint::black_box;
use std::time::{Duration, Instant};

use midge::packet::{
    Ack, ConnAck, Connect, Packet, Properties, PropertyBlock, PropertyId, Publish, QoS, ReasonCode,
    SubAck, Subscribe, SubscriptionOptions, Version, Will, decode,
};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(8);
const BUFFER_BYTES: usize = 64 << 10;
const TOPIC: &str = "site/12/device/3456/temperature";
/// As many bytes, and not all of them ASCII.
const TOPIC_IN_UTF8: &str = "örtl/12/gerät/3456/wärmegrad";

/// One packet, as it stands on the wire.
struct Case {
    name: String,
    version: Version,
    bytes: Vec<u8>,
}

fn main() {
    let mut cases = publishes();
    cases.extend(acknowledgements());
    cases.extend(subscribes());
    cases.extend(connects());
    header("one packet");
    for case in &cases {
        let (decoding, encoding) = (time_decode(case), time_encode(case));
        print_row(&case.name, case, case.bytes.len(), decoding, encoding);
    }
    println!();
    header("64 KiB full of them");
    let wanted = ["QoS 0, 100 B", "QoS 1, 100 B", "QoS 0, 1024 B", "PUBACK"];
    let full = cases
        .iter()
        .filter(|case| wanted.iter().any(|name| case.name.ends_with(name)));
    for case in full {
        let count = BUFFER_BYTES / case.bytes.len();
        let decoding = time_decode_buffer(case, count) / count as f64;
        let encoding = time_encode_buffer(case, count) / count as f64;
        let name = format!("{count} x {}", case.name);
        print_row(&name, case, case.bytes.len(), decoding, encoding);
    }
}

// ---- what is measured -----------------------------------------------------------------------

fn time_decode(case: &Case) -> f64 {
    median_ns(|| {
        let bytes = black_box(&case.bytes[..]);
        let packet = decode(bytes, case.version, usize::MAX).expect("a good packet");
        black_box(&packet);
    })
}

fn time_encode(case: &Case) -> f64 {
    let packet = decoded(case);
    let mut out = Vec::with_capacity(BUFFER_BYTES);
    median_ns(|| {
        out.clear();
        black_box(&packet).encode(case.version, &mut out);
        black_box(&out);
    })
}

fn time_decode_buffer(case: &Case, count: usize) -> f64 {
    let buffer = case.bytes.repeat(count);
    median_ns(|| {
        let mut rest = black_box(&buffer[..]);
        while let Ok(Some((packet, length))) = decode(rest, case.version, usize::MAX) {
            black_box(&packet);
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "the buffer holds whole packets");
    })
}

fn time_encode_buffer(case: &Case, count: usize) -> f64 {
    let packet = decoded(case);
    let mut out = Vec::with_capacity(BUFFER_BYTES);
    median_ns(|| {
        out.clear();
        for _ in 0..count {
            black_box(&packet).encode(case.version, &mut out);
        }
        black_box(&out);
    })
}

fn decoded(case: &Case) -> Packet<'_> {
    let decoded = decode(&case.bytes, case.version, usize::MAX).expect("a good packet");
    decoded.expect("a whole packet").0
}

/// Nanoseconds that one call takes: the median of some rounds of many calls.
fn median_ns(mut call: impl FnMut()) -> f64 {
    let mut round = |calls: u64| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed()
    };
    let mut calls = 1;
    while round(calls) < ROUND {
        calls *= 2;
    }
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| round(calls).as_nanos() as f64 / calls as f64)
        .collect();
    rounds.sort_unstable_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

// ---- the table ------------------------------------------------------------------------------

fn header(what: &str) {
    println!(
        "{what:<34} {:>7} {:>6} {:>10} {:>10} {:>12}",
        "version", "bytes", "decode ns", "encode ns", "decode MB/s"
    );
}

fn print_row(name: &str, case: &Case, bytes: usize, decoding: f64, encoding: f64) {
    let version = match case.version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    };
    let rate = bytes as f64 * 1e3 / decoding;
    println!("{name:<34} {version:>7} {bytes:>6} {decoding:>10.1} {encoding:>10.1} {rate:>12.0}");
}

// ---- packets --------------------------------------------------------------------------------

fn case(name: impl Into<String>, version: Version, packet: &Packet) -> Case {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    Case {
        name: name.into(),
        version,
        bytes,
    }
}

fn publishes() -> Vec<Case> {
    let mut block = PropertyBlock::new();
    block
        .number(PropertyId::MessageExpiryInterval, 3_600)
        .text(PropertyId::ContentType, "application/json")
        .pair("unit", "celsius");
    let mut cases = Vec::new();
    for (qos, payload_bytes) in [(0, 100), (1, 100), (0, 1_024), (1, 1_024)] {
        let payload = vec![b'x'; payload_bytes];
        let name = format!("PUBLISH QoS {qos}, {payload_bytes} B");
        let plain = Publish {
            dup: false,
            qos: QoS::parse(qos).expect("0 or 1"),
            retain: false,
            topic: TOPIC,
            packet_id: (qos > 0).then_some(12_345),
            properties: Properties::NONE,
            payload: &payload,
        };
        let rich = Publish {
            properties: block.as_properties(),
            ..plain
        };
        cases.push(case(&name, Version::V311, &Packet::Publish(plain)));
        cases.push(case(&name, Version::V5, &Packet::Publish(plain)));
        let name = name + ", properties";
        cases.push(case(name, Version::V5, &Packet::Publish(rich)));
        if (qos, payload_bytes) == (0, 100) {
            let name = "PUBLISH QoS 0, topic not ASCII";
            let topic = TOPIC_IN_UTF8;
            let other = Publish { topic, ..plain };
            cases.push(case(name, Version::V311, &Packet::Publish(other)));
        }
    }
    cases
}

fn acknowledgements() -> Vec<Case> {
    let ack = Ack::new(12_345, ReasonCode::Success);
    let nobody = Ack::new(12_345, ReasonCode::NoMatchingSubscribers);
    let suback = SubAck {
        packet_id: 12_345,
        properties: Properties::NONE,
        reasons: vec![ReasonCode::Success],
    };
    vec![
        case("PUBACK", Version::V311, &Packet::PubAck(ack)),
        case("PUBACK", Version::V5, &Packet::PubAck(ack)),
        case("PUBACK, reason", Version::V5, &Packet::PubAck(nobody)),
        case("PUBREC", Version::V311, &Packet::PubRec(ack)),
        case("PUBREL", Version::V311, &Packet::PubRel(ack)),
        case("SUBACK, 1 filter", Version::V311, &Packet::SubAck(suback)),
        case("PINGREQ", Version::V311, &Packet::PingReq),
    ]
}

fn subscribes() -> Vec<Case> {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let subscribe = |filters: usize| {
        Packet::Subscribe(Subscribe {
            packet_id: 12_345,
            properties: Properties::NONE,
            filters: vec![("site/12/device/+/temperature", options); filters],
        })
    };
    vec![
        case("SUBSCRIBE, 1 filter", Version::V311, &subscribe(1)),
        case("SUBSCRIBE, 1 filter", Version::V5, &subscribe(1)),
        case("SUBSCRIBE, 10 filters", Version::V311, &subscribe(10)),
    ]
}

fn connects() -> Vec<Case> {
    let mut block = PropertyBlock::new();
    block
        .number(PropertyId::SessionExpiryInterval, 3_600)
        .number(PropertyId::ReceiveMaximum, 100)
        .number(PropertyId::TopicAliasMaximum, 10);
    let plain = Connect {
        version: Version::V311,
        bridge: false,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::NONE,
        client_id: "device-3456",
        will: None,
        user_name: None,
        password: None,
    };
    let rich = Connect {
        version: Version::V5,
        properties: block.as_properties(),
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: Properties::NONE,
            topic: "site/12/device/3456/state",
            payload: b"offline",
        }),
        user_name: Some("device-3456"),
        password: Some(b"correct horse"),
        ..plain
    };
    let connack = ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        properties: Properties::NONE,
    };
    vec![
        case("CONNECT", Version::V311, &Packet::Connect(plain)),
        case("CONNECT, all of it", Version::V5, &Packet::Connect(rich)),
        case("CONNACK", Version::V311, &Packet::ConnAck(connack)),
    ]
}
