//! Properties, MQTT 5.0 section 2.2.2: one table says what exists, where, of which type, how
//! often.
//!
//! A block of properties is checked once, when it is parsed, and then carried as the bytes it came
//! in: a PUBLISH forwards most of them unaltered and in order. `Properties` is the proof that the
//! bytes were checked; 3.1 and 3.1.1 packets simply have none.

use bytes::BufMut;

use super::PacketType::{self, *};
use super::Refusal;
use super::field::{Reader, put_binary, put_variable_byte_integer};

/// Property Identifiers, table 2-4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PropertyId {
    PayloadFormatIndicator = 0x01,
    MessageExpiryInterval = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionIdentifier = 0x0B,
    SessionExpiryInterval = 0x11,
    AssignedClientIdentifier = 0x12,
    ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15,
    AuthenticationData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelayInterval = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22,
    TopicAlias = 0x23,
    MaximumQoS = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardSubscriptionAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29,
    SharedSubscriptionAvailable = 0x2A,
}

use PropertyId::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A byte that may be 0 or 1 only: every byte property of MQTT 5.0 is one.
    Flag,
    TwoByte,
    FourByte,
    VariableByte,
    /// A number of that kind which must not be 0.
    NonZero(&'static Kind),
    String,
    Binary,
    StringPair,
}

use Kind::*;

/// A packet that can carry properties; a CONNECT has a second block for its Will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    In(PacketType),
    Will,
}

use Place::{In, Will};

struct Row {
    id: PropertyId,
    kind: Kind,
    places: &'static [Place],
}

const fn row(id: PropertyId, kind: Kind, places: &'static [Place]) -> Row {
    Row { id, kind, places }
}

/// Everything with an answer to "why": CONNACK, the acknowledgements, DISCONNECT, AUTH.
const REASONED: &[Place] = &[
    In(ConnAck),
    In(PubAck),
    In(PubRec),
    In(PubRel),
    In(PubComp),
    In(SubAck),
    In(UnsubAck),
    In(Disconnect),
    In(Auth),
];
const ANYWHERE: &[Place] = &[
    In(Connect),
    In(ConnAck),
    In(Publish),
    Will,
    In(PubAck),
    In(PubRec),
    In(PubRel),
    In(PubComp),
    In(Subscribe),
    In(SubAck),
    In(Unsubscribe),
    In(UnsubAck),
    In(Disconnect),
    In(Auth),
];

const TABLE: &[Row] = &[
    row(PayloadFormatIndicator, Flag, &[In(Publish), Will]),
    row(MessageExpiryInterval, FourByte, &[In(Publish), Will]),
    row(ContentType, String, &[In(Publish), Will]),
    row(ResponseTopic, String, &[In(Publish), Will]),
    row(CorrelationData, Binary, &[In(Publish), Will]),
    row(
        SubscriptionIdentifier,
        NonZero(&VariableByte),
        &[In(Publish), In(Subscribe)],
    ),
    row(
        SessionExpiryInterval,
        FourByte,
        &[In(Connect), In(ConnAck), In(Disconnect)],
    ),
    row(AssignedClientIdentifier, String, &[In(ConnAck)]),
    row(ServerKeepAlive, TwoByte, &[In(ConnAck)]),
    row(
        AuthenticationMethod,
        String,
        &[In(Connect), In(ConnAck), In(Auth)],
    ),
    row(
        AuthenticationData,
        Binary,
        &[In(Connect), In(ConnAck), In(Auth)],
    ),
    row(RequestProblemInformation, Flag, &[In(Connect)]),
    row(WillDelayInterval, FourByte, &[Will]),
    row(RequestResponseInformation, Flag, &[In(Connect)]),
    row(ResponseInformation, String, &[In(ConnAck)]),
    row(ServerReference, String, &[In(ConnAck), In(Disconnect)]),
    row(ReasonString, String, REASONED),
    row(
        ReceiveMaximum,
        NonZero(&TwoByte),
        &[In(Connect), In(ConnAck)],
    ),
    row(TopicAliasMaximum, TwoByte, &[In(Connect), In(ConnAck)]),
    // Zero is invalid as well, but has a reason code of its own (3.3.2.3.4): the broker checks it.
    row(TopicAlias, TwoByte, &[In(Publish)]),
    row(MaximumQoS, Flag, &[In(ConnAck)]),
    row(RetainAvailable, Flag, &[In(ConnAck)]),
    row(UserProperty, StringPair, ANYWHERE),
    row(
        MaximumPacketSize,
        NonZero(&FourByte),
        &[In(Connect), In(ConnAck)],
    ),
    row(WildcardSubscriptionAvailable, Flag, &[In(ConnAck)]),
    row(SubscriptionIdentifierAvailable, Flag, &[In(ConnAck)]),
    row(SharedSubscriptionAvailable, Flag, &[In(ConnAck)]),
];

/// One property's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

/// A checked block of properties, as it stands on the wire behind its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    pub const NONE: Properties<'static> = Properties { bytes: &[] };

    /// Takes a block with its length off `reader` and checks it.
    pub fn decode(reader: &mut Reader<'a>, place: Place) -> Result<Properties<'a>, Refusal> {
        let length = reader.variable_byte_integer()?;
        Properties::check(reader.take(length as usize)?, place)
    }

    /// A block without its length.
    pub fn check(bytes: &'a [u8], place: Place) -> Result<Properties<'a>, Refusal> {
        let mut rest = Reader::new(bytes);
        let mut seen = 0u64;
        while !rest.is_empty() {
            let (row, _) = read(&mut rest)?;
            if !row.places.contains(&place) {
                return Err(Refusal::malformed(
                    "a property does not belong into this packet",
                ));
            }
            let bit = 1u64 << row.id as u8;
            if seen & bit != 0 && !may_repeat(row.id, place) {
                return Err(Refusal::protocol("a property occurs more than once"));
            }
            seen |= bit;
        }
        let properties = Properties { bytes };
        if seen & 1 << AuthenticationData as u8 != 0 && seen & 1 << AuthenticationMethod as u8 == 0
        {
            return Err(Refusal::protocol("authentication data without a method"));
        }
        Ok(properties)
    }

    /// Bytes that came from a checked block, or from a [`PropertyBlock`].
    pub fn trusted(bytes: &'a [u8]) -> Properties<'a> {
        Properties { bytes }
    }

    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn iter(&self) -> PropertyIter<'a> {
        PropertyIter {
            rest: Reader::new(self.bytes),
        }
    }

    /// The first value of `id`, if it is there and a number.
    pub fn number(&self, id: PropertyId) -> Option<u32> {
        match self.find(id) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// The first value of `id`, if it is there and a string.
    pub fn text(&self, id: PropertyId) -> Option<&'a str> {
        match self.find(id) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn find(&self, id: PropertyId) -> Option<Value<'a>> {
        if self.bytes.is_empty() {
            return None;
        }
        self.iter()
            .find(|property| property.id == id)
            .map(|property| property.value)
    }

    /// Appends length and block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_variable_byte_integer(out, self.bytes.len());
        out.put_slice(self.bytes);
    }
}

/// One property of a block: what it says and the bytes that say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    pub id: PropertyId,
    pub value: Value<'a>,
    /// Identifier and value as on the wire.
    pub bytes: &'a [u8],
}

pub struct PropertyIter<'a> {
    rest: Reader<'a>,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let before = self.rest.rest();
        let (row, value) = read(&mut self.rest).ok()?;
        let length = before.len() - self.rest.rest().len();
        Some(Property {
            id: row.id,
            value,
            bytes: &before[..length],
        })
    }
}

/// A block under construction.
#[derive(Clone, Debug, Default)]
pub struct PropertyBlock {
    bytes: Vec<u8>,
}

impl PropertyBlock {
    pub fn new() -> PropertyBlock {
        PropertyBlock::default()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes }
    }

    pub fn number(&mut self, id: PropertyId, number: u32) -> &mut PropertyBlock {
        self.bytes.push(id as u8);
        put_number(&mut self.bytes, kind(id), number);
        self
    }

    pub fn text(&mut self, id: PropertyId, text: &str) -> &mut PropertyBlock {
        self.binary(id, text.as_bytes())
    }

    pub fn binary(&mut self, id: PropertyId, bytes: &[u8]) -> &mut PropertyBlock {
        self.bytes.push(id as u8);
        put_binary(&mut self.bytes, bytes);
        self
    }

    pub fn pair(&mut self, name: &str, value: &str) -> &mut PropertyBlock {
        self.binary(UserProperty, name.as_bytes());
        put_binary(&mut self.bytes, value.as_bytes());
        self
    }

    /// Properties of another block, unaltered.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut PropertyBlock {
        self.bytes.put_slice(bytes);
        self
    }
}

fn read<'a>(reader: &mut Reader<'a>) -> Result<(&'static Row, Value<'a>), Refusal> {
    let id = reader.variable_byte_integer()?;
    let row = TABLE
        .iter()
        .find(|row| row.id as u32 == id)
        .ok_or(Refusal::malformed("an unknown property identifier"))?;
    Ok((row, read_value(reader, row.kind)?))
}

fn read_value<'a>(reader: &mut Reader<'a>, kind: Kind) -> Result<Value<'a>, Refusal> {
    Ok(match kind {
        Flag => match reader.u8()? {
            flag @ 0..=1 => Value::Number(u32::from(flag)),
            _ => {
                return Err(Refusal::protocol(
                    "a property that is 0 or 1 has another value",
                ));
            }
        },
        TwoByte => Value::Number(u32::from(reader.u16()?)),
        FourByte => Value::Number(reader.u32()?),
        VariableByte => Value::Number(reader.variable_byte_integer()?),
        NonZero(kind) => match read_value(reader, *kind)? {
            Value::Number(0) => {
                return Err(Refusal::protocol("a property that must not be 0 is 0"));
            }
            value => value,
        },
        String => Value::Text(reader.string()?),
        Binary => Value::Binary(reader.binary()?),
        StringPair => Value::Pair(reader.string()?, reader.string()?),
    })
}

fn put_number(out: &mut Vec<u8>, kind: Kind, number: u32) {
    match kind {
        Flag => out.put_u8(number as u8),
        TwoByte => out.put_u16(number as u16),
        FourByte => out.put_u32(number),
        VariableByte => put_variable_byte_integer(out, number as usize),
        NonZero(kind) => put_number(out, *kind, number),
        String | Binary | StringPair => panic!("not a numeric property"),
    }
}

fn kind(id: PropertyId) -> Kind {
    TABLE
        .iter()
        .find(|row| row.id == id)
        .expect("every property has a row")
        .kind
}

/// User Properties may; a PUBLISH names each subscription that it is sent for (3.3.2.3.8).
fn may_repeat(id: PropertyId, place: Place) -> bool {
    id == UserProperty || (id == SubscriptionIdentifier && place == In(Publish))
}
