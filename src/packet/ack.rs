//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7): four steps of delivery, one shape.

use bytes::BufMut;

use super::PacketType;
use super::field::Reader;
use super::property::{Place, Properties};
use super::{PacketId, ReasonCode, Refusal, Version};

/// One step in the delivery of the message that `packet_id` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    /// Always `Success` before 5.0.
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Ack<'static> {
        Ack {
            packet_id,
            reason,
            properties: Properties::NONE,
        }
    }

    pub(super) fn decode(
        packet_type: PacketType,
        body: &'a [u8],
        version: Version,
    ) -> Result<Ack<'a>, Refusal> {
        let mut reader = Reader::new(body);
        let mut ack = Ack::new(reader.packet_id()?, ReasonCode::Success);
        // Reason code and properties may be left out from the end (3.4.2.1, 3.4.2.2.1).
        if version == Version::V5 && !reader.is_empty() {
            ack.reason = ReasonCode::parse(reader.u8()?, packet_type)?;
            if !reader.is_empty() {
                ack.properties = Properties::decode(&mut reader, Place::In(packet_type))?;
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version != Version::V5 {
            return;
        }
        if !self.properties.is_empty() {
            out.put_u8(self.reason as u8);
            self.properties.encode(out);
        } else if self.reason != ReasonCode::Success {
            out.put_u8(self.reason as u8);
        }
    }
}
