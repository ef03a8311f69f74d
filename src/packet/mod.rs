//! Bytes ⇄ MQTT Control Packets, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Pure and stateless: [`decode`] borrows a packet from the bytes it stands in, [`Packet::encode`]
//! appends one to a buffer. What a packet *means* is the broker's business; what is checked here
//! is all that can be seen in the packet alone. A file per family of packets, each with the clause
//! of the specification above the line that enforces it.

mod ack;
mod connect;
mod disconnect;
pub mod field;
pub mod property;
mod publish;
mod reason;
pub mod scan;
mod subscribe;
pub mod topic;

pub use ack::Ack;
pub use connect::{ConnAck, Connect, Will, answer_version};
pub use disconnect::{Auth, Disconnect};
pub use property::{Properties, PropertyBlock, PropertyId};
pub use publish::{Publish, PublishHead};
pub use reason::{ReasonCode, Refusal};
pub use subscribe::{RetainHandling, SubAck, Subscribe, SubscriptionOptions, Unsubscribe};
pub use topic::{SubscriptionTopic, TopicFilter, TopicName};

use field::{Reader, check_minimal, put_with_length, variable_byte_integer};
use property::Place;

/// The longest packet there can be: a first byte, a length of four bytes, and what that can say.
pub const PACKET_BYTES_MAX: usize = 1 + 4 + field::VARIABLE_BYTE_INTEGER_MAX as usize;

/// Packet Identifier (2.2.1), never 0.
pub type PacketId = u16;

/// The protocol a client speaks, by its Protocol Version byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1, "MQIsdp".
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

/// Quality of Service (4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    pub fn parse(bits: u8) -> Result<QoS, Refusal> {
        match bits {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(Refusal::malformed("QoS 3 does not exist")),
        }
    }
}

/// MQTT Control Packet types (2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    pub const ALL: [PacketType; 15] = [
        PacketType::Connect,
        PacketType::ConnAck,
        PacketType::Publish,
        PacketType::PubAck,
        PacketType::PubRec,
        PacketType::PubRel,
        PacketType::PubComp,
        PacketType::Subscribe,
        PacketType::SubAck,
        PacketType::Unsubscribe,
        PacketType::UnsubAck,
        PacketType::PingReq,
        PacketType::PingResp,
        PacketType::Disconnect,
        PacketType::Auth,
    ];

    fn parse(byte: u8) -> Result<PacketType, Refusal> {
        let index = usize::from(byte >> 4).wrapping_sub(1);
        let known = PacketType::ALL.get(index).copied();
        known.ok_or(Refusal::malformed("packet type 0 is reserved"))
    }

    /// The low four bits of the first byte, where they are reserved (2.1.3).
    fn reserved_flags(self) -> u8 {
        match self {
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
            _ => 0,
        }
    }
}

/// One MQTT Control Packet, borrowed from the bytes it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(SubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// The first two to five bytes of a packet (2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    pub packet_type: PacketType,
    flags: u8,
    /// Bytes of the header itself.
    header_len: usize,
    /// Bytes of header and body together.
    pub packet_len: usize,
}

impl FixedHeader {
    /// The header that `bytes` start with, `None` while more is needed to know it.
    pub fn parse(bytes: &[u8], version: Version) -> Result<Option<FixedHeader>, Refusal> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let packet_type = PacketType::parse(*first)?;
        let flags = first & 0x0F;
        // [MQTT-2.1.3-1] reserved flags have the value the table lists; MQTT 3.1 reserves none,
        // its clients may set DUP on whatever they repeat.
        // A CONNECT brings its version: there they are checked with the rest of it.
        let reserved = !matches!(packet_type, PacketType::Publish | PacketType::Connect);
        if reserved && version != Version::V31 && flags != packet_type.reserved_flags() {
            return Err(Refusal::malformed(
                "reserved flags of the fixed header are wrong",
            ));
        }
        let Some((remaining, length)) = variable_byte_integer(rest)? else {
            return Ok(None);
        };
        // [MQTT-1.5.5-1] is a rule of 5.0; before, a length may be padded. For a CONNECT see
        // `decode`.
        if version == Version::V5 {
            check_minimal(remaining, length)?;
        }
        let header_len = 1 + length;
        let packet_len = header_len + remaining as usize;
        Ok(Some(FixedHeader {
            packet_type,
            flags,
            header_len,
            packet_len,
        }))
    }
}

/// The packet that `bytes` start with, and how many of them it takes; `Ok(None)` says that `bytes`
/// are the beginning of a packet and more are needed.
///
/// `version` is what the sender's CONNECT named; a CONNECT itself brings its own. A packet longer
/// than `packet_bytes_max` is refused as soon as its header can be read.
pub fn decode(
    bytes: &[u8],
    version: Version,
    packet_bytes_max: usize,
) -> Result<Option<(Packet<'_>, usize)>, Refusal> {
    let Some(header) = FixedHeader::parse(bytes, version)? else {
        return Ok(None);
    };
    if header.packet_len > packet_bytes_max {
        let why = "the packet is larger than the server's maximum packet size (--max-packet-size)";
        return Err(Refusal::new(ReasonCode::PacketTooLarge, why));
    }
    let Some(body) = bytes.get(header.header_len..header.packet_len) else {
        return Ok(None);
    };
    let packet = decode_body(header, body, version)?;
    // [MQTT-1.5.5-1] only now is it known of which version a CONNECT is.
    if matches!(&packet, Packet::Connect(connect) if connect.version == Version::V5) {
        check_minimal(body.len() as u32, header.header_len - 1)?;
    }
    Ok(Some((packet, header.packet_len)))
}

fn decode_body(header: FixedHeader, body: &[u8], version: Version) -> Result<Packet<'_>, Refusal> {
    let ack = |body| Ack::decode(header.packet_type, body, version);
    Ok(match header.packet_type {
        PacketType::Connect => Packet::Connect(Connect::decode(header.flags, body)?),
        PacketType::ConnAck => Packet::ConnAck(ConnAck::decode(body, version)?),
        PacketType::Publish => Packet::Publish(Publish::decode(header.flags, body, version)?),
        PacketType::PubAck => Packet::PubAck(ack(body)?),
        PacketType::PubRec => Packet::PubRec(ack(body)?),
        PacketType::PubRel => Packet::PubRel(ack(body)?),
        PacketType::PubComp => Packet::PubComp(ack(body)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(body, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::decode(PacketType::SubAck, body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        PacketType::UnsubAck => {
            Packet::UnsubAck(SubAck::decode(PacketType::UnsubAck, body, version)?)
        }
        PacketType::PingReq => {
            Reader::new(body).finish()?;
            Packet::PingReq
        }
        PacketType::PingResp => {
            Reader::new(body).finish()?;
            Packet::PingResp
        }
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(body, version)?),
        PacketType::Auth => Packet::Auth(Auth::decode(body, version)?),
    })
}

impl Packet<'_> {
    pub fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet as `version` writes it.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if let Packet::Publish(publish) = self {
            return publish.encode(version, out);
        }
        let packet_type = self.packet_type();
        out.push((packet_type as u8) << 4 | packet_type.reserved_flags());
        put_with_length(out, |out| self.encode_body(version, out));
    }

    fn encode_body(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(connect) => connect.encode(out),
            Packet::ConnAck(connack) => connack.encode(version, out),
            Packet::Publish(_) => unreachable!("a PUBLISH writes its own header"),
            Packet::PubAck(ack)
            | Packet::PubRec(ack)
            | Packet::PubRel(ack)
            | Packet::PubComp(ack) => ack.encode(version, out),
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::SubAck(suback) | Packet::UnsubAck(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::PingReq | Packet::PingResp => {}
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(out),
        }
    }
}

/// A block of properties where the version has them.
fn optional<'a>(
    version: Version,
    reader: &mut Reader<'a>,
    place: Place,
) -> Result<Properties<'a>, Refusal> {
    match version {
        Version::V5 => Properties::decode(reader, place),
        Version::V31 | Version::V311 => Ok(Properties::NONE),
    }
}
