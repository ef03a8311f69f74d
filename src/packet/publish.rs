//! PUBLISH (3.3): the packet that everything else is about.

use bytes::BufMut;

use super::PacketType;
use super::field::{Reader, put_binary, put_variable_byte_integer, variable_byte_integer_len};
use super::property::{Place, Properties};
use super::{PacketId, QoS, Refusal, Version, optional};

const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

/// An Application Message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty where a Topic Alias stands for it; not yet checked to be a Topic Name.
    pub topic: &'a str,
    /// There if and only if the QoS is not 0.
    pub packet_id: Option<PacketId>,
    pub properties: Properties<'a>,
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    pub(super) fn decode(
        flags: u8,
        body: &'a [u8],
        version: Version,
    ) -> Result<Publish<'a>, Refusal> {
        // [MQTT-3.3.1-4] both QoS bits set is malformed.
        let qos = QoS::parse(flags >> 1 & 3)?;
        let dup = flags & DUP != 0;
        // [MQTT-3.3.1-2]
        if dup && qos == QoS::AtMostOnce {
            return Err(Refusal::malformed("DUP is set with QoS 0"));
        }
        let mut reader = Reader::new(body);
        let topic = reader.string()?;
        // [MQTT-2.2.1-2] none with QoS 0. [MQTT-2.2.1-3] none is 0.
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = optional(version, &mut reader, Place::In(PacketType::Publish))?;
        let payload = reader.rest();
        let retain = flags & RETAIN != 0;
        Ok(Publish {
            dup,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload,
        })
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let head = self.head();
        out.reserve(head.packet_len(version));
        head.encode(version, out);
        out.put_slice(self.payload);
    }

    /// How many bytes [`Publish::encode`] appends.
    pub fn encoded_len(&self, version: Version) -> usize {
        self.head().packet_len(version)
    }

    fn head(&self) -> PublishHead<'a> {
        PublishHead {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic.as_bytes(),
            packet_id: self.packet_id,
            properties: self.properties,
            payload_len: self.payload.len(),
        }
    }
}

/// A PUBLISH but for its payload, as it is written: whoever sends one copies the payload behind
/// it, or shares it.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty where a Topic Alias stands for it.
    pub topic: &'a [u8],
    /// There if and only if the QoS is not 0.
    pub packet_id: Option<PacketId>,
    pub properties: Properties<'a>,
    pub payload_len: usize,
}

impl PublishHead<'_> {
    /// Appends it, fixed header included: the length of the packet is known beforehand.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let body = self.body_len(version);
        let flags = if self.dup { DUP } else { 0 } | if self.retain { RETAIN } else { 0 };
        out.put_u8((PacketType::Publish as u8) << 4 | flags | (self.qos as u8) << 1);
        put_variable_byte_integer(out, body);
        put_binary(out, self.topic);
        if let Some(id) = self.packet_id {
            out.put_u16(id);
        }
        if version == Version::V5 {
            self.properties.encode(out);
        }
    }

    /// Where the Packet Identifier stands in what is appended, if there is one.
    pub fn packet_id_at(&self, version: Version) -> usize {
        1 + variable_byte_integer_len(self.body_len(version)) + 2 + self.topic.len()
    }

    /// Bytes of the whole packet, with its payload.
    pub fn packet_len(&self, version: Version) -> usize {
        let body = self.body_len(version);
        1 + variable_byte_integer_len(body) + body
    }

    fn body_len(&self, version: Version) -> usize {
        let properties = match version {
            Version::V5 => {
                let length = self.properties.as_bytes().len();
                variable_byte_integer_len(length) + length
            }
            Version::V31 | Version::V311 => 0,
        };
        2 + self.topic.len() + self.packet_id.map_or(0, |_| 2) + properties + self.payload_len
    }
}
