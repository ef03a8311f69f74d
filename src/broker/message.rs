//! Application Messages: borrowed while they pass through, owned where they outlive the call.
//!
//! A `Message` is one allocation that every queue, every window and the retained store share. Its
//! bytes: expiry (8), topic length (2), properties length (4), QoS (1), topic, properties,
//! payload.

use std::rc::Rc;

use bytes::{Buf, BufMut};

use super::deadlines::Millis;
use super::draft::LATEST;
use crate::packet::property::{Place, Value};
use crate::packet::{
    PacketType, Properties, PropertyBlock, PropertyId, QoS, ReasonCode, Refusal, TopicName,
};

/// No Message Expiry Interval.
const NEVER: Millis = Millis::MAX;
const HEADER_LEN: usize = 15;
/// The largest scratch that is kept.
const SCRATCH_BYTES: usize = 64 << 10;

/// What a message says, wherever its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub topic: TopicName<'a>,
    /// Those that are forwarded unaltered: no expiry, no alias, no subscription identifiers.
    pub properties: Properties<'a>,
    pub payload: &'a [u8],
    pub expires_at: Option<Millis>,
    /// The owner of the bytes, if there is one to share the payload with.
    pub message: Option<&'a Message>,
}

/// An Application Message that is kept.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Rc<[u8]>,
}

impl Message {
    /// `bytes` is scratch: whoever makes many messages passes the same one again.
    pub fn new(content: &Content, qos: QoS, bytes: &mut Vec<u8>) -> Message {
        bytes.clear();
        Message::encode(content, qos, bytes);
        let message = Message {
            bytes: Rc::from(&bytes[..]),
        };
        if bytes.capacity() > SCRATCH_BYTES {
            *bytes = Vec::new();
        }
        message
    }

    /// Appends the bytes of a message.
    pub fn encode(content: &Content, qos: QoS, bytes: &mut Vec<u8>) {
        let topic = content.topic.as_bytes();
        let properties = content.properties.as_bytes();
        bytes.reserve(Message::len_of(content));
        let mut header = [0; HEADER_LEN];
        let mut fields = &mut header[..];
        fields.put_u64(content.expires_at.unwrap_or(NEVER));
        fields.put_u16(topic.len() as u16);
        fields.put_u32(properties.len() as u32);
        fields.put_u8(qos as u8);
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(topic);
        bytes.extend_from_slice(properties);
        bytes.extend_from_slice(content.payload);
    }

    /// Bytes that were kept elsewhere, which nobody vouches for.
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        let mut header = bytes.get(..HEADER_LEN)?;
        let expires_at = header.get_u64();
        if expires_at > LATEST && expires_at != NEVER {
            return None;
        }
        let topic_len = usize::from(header.get_u16());
        let properties_len = header.get_u32() as usize;
        QoS::parse(header.get_u8()).ok()?;
        let (topic, rest) = bytes[HEADER_LEN..].split_at_checked(topic_len)?;
        TopicName::parse(std::str::from_utf8(topic).ok()?).ok()?;
        let (properties, _) = rest.split_at_checked(properties_len)?;
        forwarded(properties)?;
        let bytes = Rc::from(bytes);
        Some(Message { bytes })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes it takes in memory, near enough to count with.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What [`Message::len`] of a message with this content is.
    pub fn len_of(content: &Content) -> usize {
        let Content {
            topic,
            properties,
            payload,
            ..
        } = content;
        HEADER_LEN + topic.as_bytes().len() + properties.as_bytes().len() + payload.len()
    }

    pub fn topic(&self) -> TopicName<'_> {
        TopicName::trusted(&self.bytes[HEADER_LEN..HEADER_LEN + self.topic_len()])
    }

    /// The QoS it was published with.
    pub fn qos(&self) -> QoS {
        QoS::parse(self.bytes[14]).expect("it was a QoS when it was stored")
    }

    pub fn expires_at(&self) -> Option<Millis> {
        Some((&self.bytes[..8]).get_u64()).filter(|at| *at != NEVER)
    }

    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    pub fn content(&self) -> Content<'_> {
        let properties_at = HEADER_LEN + self.topic_len();
        Content {
            topic: self.topic(),
            properties: Properties::trusted(&self.bytes[properties_at..self.payload_at()]),
            payload: &self.bytes[self.payload_at()..],
            expires_at: self.expires_at(),
            message: Some(self),
        }
    }

    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload_at()..]
    }

    fn topic_len(&self) -> usize {
        usize::from((&self.bytes[8..10]).get_u16())
    }

    fn payload_at(&self) -> usize {
        HEADER_LEN + self.topic_len() + (&self.bytes[10..14]).get_u32() as usize
    }
}

/// Properties that were kept, if they are such as are forwarded.
pub fn forwarded(bytes: &[u8]) -> Option<Properties<'_>> {
    let properties = Properties::check(bytes, Place::In(PacketType::Publish)).ok()?;
    let mut all = properties.iter();
    all.all(|property| is_forwarded(property.id))
        .then_some(properties)
}

fn is_forwarded(id: PropertyId) -> bool {
    !matches!(
        id,
        PropertyId::MessageExpiryInterval
            | PropertyId::TopicAlias
            | PropertyId::SubscriptionIdentifier
            | PropertyId::WillDelayInterval
    )
}

/// The properties of a message that are forwarded unaltered and in order; what is left out is said
/// anew for each receiver.
pub fn put_forwarded(properties: &Properties, block: &mut PropertyBlock) {
    for property in properties.iter() {
        if is_forwarded(property.id) {
            block.raw(property.bytes);
        }
    }
}

/// What can be wrong with the properties of a message, its payload at hand.
pub fn check_properties(properties: &Properties, payload: &[u8]) -> Result<(), Refusal> {
    for property in properties.iter() {
        match (property.id, property.value) {
            // [MQTT-3.3.2-14] the Response Topic is a Topic Name.
            (PropertyId::ResponseTopic, Value::Text(topic)) => {
                TopicName::parse(topic)?;
            }
            (PropertyId::PayloadFormatIndicator, Value::Number(1))
                if std::str::from_utf8(payload).is_err() =>
            {
                let why = "the payload is said to be UTF-8 and is not";
                return Err(Refusal::new(ReasonCode::PayloadFormatInvalid, why));
            }
            _ => {}
        }
    }
    Ok(())
}
