//! One packet decoder, fed with anything.
//!
//! The first byte says which version is spoken and which packet size is allowed, the rest is a
//! stream; behind a packet that is refused it goes on where that would have ended. What must hold:
//! decoding never panics; it waits for more (`Ok(None)`) only as long as the packet is not whole;
//! what follows a packet has no influence on it; a packet larger than allowed is refused by its
//! header; what was decoded can be written, and reads the same again.

use midge::packet::{
    self, Packet, Properties, Refusal, SubscriptionTopic, TopicFilter, TopicName, Version,
};

type Decoded<'a> = Result<Option<(Packet<'a>, usize)>, Refusal>;

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const PACKET_BYTES_MAX: [usize; 4] = [2, 20, 200, packet::PACKET_BYTES_MAX];

pub fn run(bytes: &[u8]) {
    let Some((first, mut stream)) = bytes.split_first() else {
        return;
    };
    let version = VERSIONS[usize::from(first & 3) % 3];
    let bytes_max = PACKET_BYTES_MAX[usize::from(first >> 2 & 3)];
    while !stream.is_empty() {
        let decoded = packet::decode(stream, version, usize::MAX);
        check_length(stream, &decoded);
        check_prefixes(stream, version, &decoded);
        check_limit(stream, version, bytes_max, &decoded);
        if let Ok(Some((packet, length))) = decoded {
            check_written(&packet, version, length);
            check_texts(&packet);
        }
        let next = announced(stream).and_then(|length| stream.get(length..));
        stream = next.unwrap_or_default();
    }
}

/// How long the header says the packet is; `None` while it cannot be known.
fn announced(bytes: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for (index, byte) in bytes[1..].iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(2 + index + remaining);
        }
    }
    None
}

fn check_length(stream: &[u8], decoded: &Decoded) {
    let announced = announced(stream);
    match decoded {
        Ok(Some((_, length))) => {
            assert_eq!(announced, Some(*length), "not as long as its header says");
            assert!(*length <= stream.len(), "longer than the bytes there are");
            assert!(
                *length <= packet::PACKET_BYTES_MAX,
                "longer than there can be"
            );
        }
        Ok(None) => {
            let whole = announced.map_or(stream.len() >= 5, |length| length <= stream.len());
            assert!(!whole, "waits for more of a packet that is whole");
        }
        Err(_) => {}
    }
}

/// What comes behind the packet changes nothing; what is cut off makes it wait.
fn check_prefixes(stream: &[u8], version: Version, decoded: &Decoded) {
    let mut longer = stream.to_vec();
    longer.extend([0xC0, 0, 0xFF]);
    let Ok(Some((_, length))) = decoded else {
        if decoded.is_err() {
            let again = packet::decode(&longer, version, usize::MAX);
            assert_eq!(&again, decoded, "more bytes make bad ones good");
        }
        return;
    };
    let exact = &stream[..*length];
    for bytes in [&longer[..], exact] {
        let again = packet::decode(bytes, version, usize::MAX);
        assert_eq!(&again, decoded, "what follows a packet changes it");
    }
    let shorter = (0..length - 1).take(12).chain([length / 2, length - 1]);
    for count in shorter {
        let prefix = packet::decode(&exact[..count], version, usize::MAX);
        assert_eq!(prefix, Ok(None), "the first {count} of {length} bytes");
    }
}

fn check_limit(stream: &[u8], version: Version, bytes_max: usize, decoded: &Decoded) {
    let limited = packet::decode(stream, version, bytes_max);
    match announced(stream) {
        Some(length) if length > bytes_max => {
            assert!(limited.is_err(), "a packet above the limit was not refused");
        }
        _ => assert_eq!(&limited, decoded, "a limit that is kept changes nothing"),
    }
}

fn check_written(packet: &Packet, version: Version, length: usize) {
    let mut written = Vec::new();
    packet.encode(version, &mut written);
    assert!(written.len() <= length, "written longer than it was read");
    if let Packet::Publish(publish) = packet {
        assert_eq!(publish.encoded_len(version), written.len());
    }
    let again = packet::decode(&written, version, usize::MAX);
    let expected = (packet.clone(), written.len());
    assert_eq!(again, Ok(Some(expected)), "written and read again");
}

/// Looks at all that the packet says.
fn check_texts(packet: &Packet) {
    match packet {
        Packet::Connect(connect) => {
            check_properties(connect.properties);
            if let Some(will) = connect.will {
                check_properties(will.properties);
                check_topic(will.topic);
            }
        }
        Packet::Publish(publish) => {
            check_properties(publish.properties);
            check_topic(publish.topic);
        }
        Packet::Subscribe(subscribe) => {
            check_properties(subscribe.properties);
            for (filter, _) in &subscribe.filters {
                check_filter(filter);
            }
        }
        Packet::Unsubscribe(unsubscribe) => {
            check_properties(unsubscribe.properties);
            unsubscribe
                .filters
                .iter()
                .for_each(|text| check_filter(text));
        }
        Packet::ConnAck(connack) => check_properties(connack.properties),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            assert_ne!(ack.packet_id, 0);
            check_properties(ack.properties);
        }
        Packet::SubAck(suback) | Packet::UnsubAck(suback) => check_properties(suback.properties),
        Packet::Disconnect(disconnect) => check_properties(disconnect.properties),
        Packet::Auth(auth) => check_properties(auth.properties),
        Packet::PingReq | Packet::PingResp => {}
    }
}

/// Every byte of a block that was accepted belongs to a property.
fn check_properties(properties: Properties) {
    let bytes: Vec<u8> = properties.iter().flat_map(|p| p.bytes.to_vec()).collect();
    assert_eq!(bytes, properties.as_bytes(), "a property got lost");
}

fn check_topic(text: &str) {
    if let Ok(topic) = TopicName::parse(text) {
        // A topic name is a filter too: one that matches nothing else.
        let filter = TopicFilter::parse(text).expect("a topic name is a topic filter");
        assert!(filter.matches(topic) && !filter.has_wildcard());
    }
}

fn check_filter(text: &str) {
    if let Ok(SubscriptionTopic { filter, .. }) = SubscriptionTopic::parse(text) {
        let prefix = filter.literal_prefix();
        assert!(filter.as_str().starts_with(prefix));
        assert_eq!(filter.has_wildcard(), prefix.len() < filter.as_str().len());
    }
}
