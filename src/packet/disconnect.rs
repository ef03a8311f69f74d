//! DISCONNECT (3.14) and AUTH (3.15): a reason code and properties, both of which may be left out.

use bytes::BufMut;

use super::PacketType;
use super::field::Reader;
use super::property::{Place, Properties, PropertyId};
use super::{ReasonCode, Refusal, Version};

/// The last packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Always `Success`, that is Normal disconnection, before 5.0.
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Disconnect<'a>, Refusal> {
        let (reason, properties) = match version {
            Version::V5 => decode_reason(PacketType::Disconnect, body)?,
            Version::V31 | Version::V311 => {
                Reader::new(body).finish()?;
                (ReasonCode::Success, Properties::NONE)
            }
        };
        Ok(Disconnect { reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V5 {
            encode_reason(self.reason, self.properties, out);
        }
    }
}

/// A step of an extended authentication (4.12); 5.0 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Auth<'a>, Refusal> {
        if version != Version::V5 {
            return Err(Refusal::malformed(
                "packet type 15 is reserved before MQTT 5.0",
            ));
        }
        let (reason, properties) = decode_reason(PacketType::Auth, body)?;
        if properties.text(PropertyId::AuthenticationMethod).is_none() {
            return Err(Refusal::protocol("AUTH without an authentication method"));
        }
        Ok(Auth { reason, properties })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_reason(self.reason, self.properties, out);
    }
}

/// Without a reason code it is 0x00; without a Property Length there are no properties.
fn decode_reason(
    packet_type: PacketType,
    body: &[u8],
) -> Result<(ReasonCode, Properties<'_>), Refusal> {
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok((ReasonCode::Success, Properties::NONE));
    }
    let reason = ReasonCode::parse(reader.u8()?, packet_type)?;
    if reader.is_empty() {
        return Ok((reason, Properties::NONE));
    }
    let properties = Properties::decode(&mut reader, Place::In(packet_type))?;
    reader.finish()?;
    Ok((reason, properties))
}

fn encode_reason(reason: ReasonCode, properties: Properties, out: &mut Vec<u8>) {
    if !properties.is_empty() {
        out.put_u8(reason as u8);
        properties.encode(out);
    } else if reason != ReasonCode::Success {
        out.put_u8(reason as u8);
    }
}
