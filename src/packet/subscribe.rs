//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (3.8 to 3.11).

use bytes::BufMut;

use super::PacketType;
use super::field::{Reader, put_binary};
use super::property::{Place, Properties};
use super::{PacketId, QoS, ReasonCode, Refusal, Version, optional};

/// A Client asks for one or more subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    /// At least one; not yet checked to be Topic Filters.
    pub filters: Vec<(&'a str, SubscriptionOptions)>,
}

/// Subscription Options (3.8.3.1). Before 5.0 only the QoS can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Whether retained messages are sent when the subscription is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainHandling {
    Send = 0,
    SendIfNew = 1,
    DoNotSend = 2,
}

impl SubscriptionOptions {
    pub fn new(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    fn decode(byte: u8, version: Version) -> Result<SubscriptionOptions, Refusal> {
        // [MQTT-3.8.3-5] reserved bits are malformed; before 5.0 all but the QoS are reserved.
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if byte & reserved != 0 {
            return Err(Refusal::malformed("reserved subscription options are set"));
        }
        let qos = match byte & 3 {
            3 => return Err(Refusal::protocol("QoS 3 does not exist")),
            qos => QoS::parse(qos)?,
        };
        let retain_handling = match byte >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Refusal::protocol("retain handling 3 does not exist")),
        };
        Ok(SubscriptionOptions {
            qos,
            no_local: byte & 0x04 != 0,
            retain_as_published: byte & 0x08 != 0,
            retain_handling,
        })
    }

    fn encode(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Subscribe<'a>, Refusal> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = optional(version, &mut reader, Place::In(PacketType::Subscribe))?;
        let mut filters = Vec::new();
        while !reader.is_empty() {
            let filter = reader.string()?;
            filters.push((filter, SubscriptionOptions::decode(reader.u8()?, version)?));
        }
        // [MQTT-3.8.3-2]
        if filters.is_empty() {
            return Err(Refusal::protocol("SUBSCRIBE without a topic filter"));
        }
        Ok(Subscribe {
            packet_id,
            properties,
            filters,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
        }
        for (filter, options) in &self.filters {
            put_binary(out, filter.as_bytes());
            out.put_u8(options.encode());
        }
    }
}

/// The answer to each filter of a SUBSCRIBE, in their order; also of an UNSUBSCRIBE in 5.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    /// Empty in an UNSUBACK before 5.0.
    pub reasons: Vec<ReasonCode>,
}

impl<'a> SubAck<'a> {
    pub(super) fn decode(
        packet_type: PacketType,
        body: &'a [u8],
        version: Version,
    ) -> Result<SubAck<'a>, Refusal> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = optional(version, &mut reader, Place::In(packet_type))?;
        let mut reasons = Vec::new();
        while !reader.is_empty() {
            let byte = reader.u8()?;
            // [v3 MQTT-3.9.3-2] before 5.0 one code says that a filter was refused, and an
            // UNSUBACK says nothing.
            if version != Version::V5
                && (packet_type == PacketType::UnsubAck || !matches!(byte, 0..=2 | 0x80))
            {
                return Err(Refusal::malformed("a reason code that only MQTT 5.0 has"));
            }
            reasons.push(ReasonCode::parse(byte, packet_type)?);
        }
        Ok(SubAck {
            packet_id,
            properties,
            reasons,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
        }
        for reason in &self.reasons {
            // [v3 MQTT-3.9.3-2] before 5.0 there is one code for failure. 3.1 has none: its
            // clients see a QoS that does not exist, which is better than one that was not
            // granted.
            match version {
                Version::V31 | Version::V311 if reason.is_error() => out.put_u8(0x80),
                _ => out.put_u8(*reason as u8),
            }
        }
    }
}

/// A Client gives subscriptions up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub properties: Properties<'a>,
    /// At least one.
    pub filters: Vec<&'a str>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Unsubscribe<'a>, Refusal> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = optional(version, &mut reader, Place::In(PacketType::Unsubscribe))?;
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(reader.string()?);
        }
        // [MQTT-3.10.3-2]
        if filters.is_empty() {
            return Err(Refusal::protocol("UNSUBSCRIBE without a topic filter"));
        }
        Ok(Unsubscribe {
            packet_id,
            properties,
            filters,
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.put_u16(self.packet_id);
        if version == Version::V5 {
            self.properties.encode(out);
        }
        for filter in &self.filters {
            put_binary(out, filter.as_bytes());
        }
    }
}
