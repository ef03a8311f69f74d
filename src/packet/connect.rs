//! CONNECT (3.1) and CONNACK (3.2).

use bytes::BufMut;

use super::PacketType;
use super::field::{Reader, put_binary, variable_byte_integer};
use super::property::{Place, Properties};
use super::{QoS, ReasonCode, Refusal, Version, optional};

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;
/// Bridges of Mosquitto and RSMB set this bit of the protocol level (`try_private`).
const BRIDGE: u8 = 0x80;

/// A Client asks for a Session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// The client says it is a bridge: it wants RETAIN as published, and nothing back that it
    /// sent.
    pub bridge: bool,
    /// Clean Session before 5.0.
    pub clean_start: bool,
    /// Seconds, 0 for none.
    pub keep_alive: u16,
    pub properties: Properties<'a>,
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

/// The message to publish when the connection ends badly (3.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub properties: Properties<'a>,
    pub topic: &'a str,
    pub payload: &'a [u8],
}

impl<'a> Connect<'a> {
    pub(super) fn decode(reserved: u8, body: &'a [u8]) -> Result<Connect<'a>, Refusal> {
        let mut reader = Reader::new(body);
        let (version, bridge) = decode_version(&mut reader)?;
        // [MQTT-2.1.3-1] except in MQTT 3.1, which reserves none.
        if reserved != 0 && version != Version::V31 {
            return Err(Refusal::malformed(
                "reserved flags of the fixed header are wrong",
            ));
        }
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = optional(version, &mut reader, Place::In(PacketType::Connect))?;
        let client_id = reader.string()?;
        let will = match flags & WILL {
            0 => None,
            _ => Some(decode_will(flags, version, &mut reader)?),
        };
        let user_name = match flags & USER_NAME {
            0 => None,
            _ => Some(reader.string()?),
        };
        let password = match flags & PASSWORD {
            0 => None,
            _ => Some(reader.binary()?),
        };
        reader.finish()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Connect {
            version,
            bridge,
            clean_start,
            keep_alive,
            properties,
            client_id,
            will,
            user_name,
            password,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_binary(
            out,
            if self.version == Version::V31 {
                b"MQIsdp"
            } else {
                b"MQTT"
            },
        );
        out.put_u8(self.version as u8 | if self.bridge { BRIDGE } else { 0 });
        let mut flags = if self.clean_start { CLEAN_START } else { 0 };
        if let Some(will) = self.will {
            flags |= WILL | (will.qos as u8) << 3 | if will.retain { WILL_RETAIN } else { 0 };
        }
        flags |= self.user_name.map_or(0, |_| USER_NAME) | self.password.map_or(0, |_| PASSWORD);
        out.put_u8(flags);
        out.put_u16(self.keep_alive);
        if self.version == Version::V5 {
            self.properties.encode(out);
        }
        put_binary(out, self.client_id.as_bytes());
        if let Some(will) = self.will {
            if self.version == Version::V5 {
                will.properties.encode(out);
            }
            put_binary(out, will.topic.as_bytes());
            put_binary(out, will.payload);
        }
        if let Some(user_name) = self.user_name {
            put_binary(out, user_name.as_bytes());
        }
        if let Some(password) = self.password {
            put_binary(out, password);
        }
    }
}

/// The form in which to answer a CONNECT that cannot be accepted, however broken the rest of it
/// is; `None` where the sender does not speak MQTT. `bytes` is the beginning of the packet.
pub fn answer_version(bytes: &[u8]) -> Option<Version> {
    let (_, length) = variable_byte_integer(bytes.get(1..)?).ok()??;
    let mut reader = Reader::new(bytes.get(1 + length..)?);
    let name = reader.binary().ok()?;
    match (name, reader.u8().ok()? & !BRIDGE) {
        (b"MQIsdp", _) => Some(Version::V31),
        (b"MQTT", 0..5) => Some(Version::V311),
        (b"MQTT", _) => Some(Version::V5),
        _ => None,
    }
}

/// Protocol Name and Protocol Version (3.1.2.1, 3.1.2.2).
fn decode_version(reader: &mut Reader) -> Result<(Version, bool), Refusal> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    match (name, level & !BRIDGE) {
        (b"MQIsdp", 3) => Ok((Version::V31, level & BRIDGE != 0)),
        (b"MQTT", 4) => Ok((Version::V311, level & BRIDGE != 0)),
        (b"MQTT", 5) if level & BRIDGE == 0 => Ok((Version::V5, false)),
        (b"MQTT" | b"MQIsdp", _) => Err(Refusal::new(
            ReasonCode::UnsupportedProtocolVersion,
            "this server speaks MQTT 3.1, 3.1.1 and 5.0",
        )),
        _ => Err(Refusal::malformed("the protocol name is not MQTT")),
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), Refusal> {
    // [MQTT-3.1.2-3]
    if flags & RESERVED != 0 {
        return Err(Refusal::malformed("the reserved connect flag is set"));
    }
    // [MQTT-3.1.2-11] [MQTT-3.1.2-13] without a Will its QoS and RETAIN are 0.
    if flags & WILL == 0 && flags & 0x38 != 0 {
        return Err(Refusal::malformed("will QoS or will retain without a will"));
    }
    // [v3 MQTT-3.1.2-22] only 5.0 allows a password alone.
    if version != Version::V5 && flags & USER_NAME == 0 && flags & PASSWORD != 0 {
        return Err(Refusal::malformed("a password without a user name"));
    }
    Ok(())
}

fn decode_will<'a>(
    flags: u8,
    version: Version,
    reader: &mut Reader<'a>,
) -> Result<Will<'a>, Refusal> {
    // [MQTT-3.1.2-12]
    let qos = QoS::parse(flags >> 3 & 3)?;
    let retain = flags & WILL_RETAIN != 0;
    let properties = optional(version, reader, Place::Will)?;
    let (topic, payload) = (reader.string()?, reader.binary()?);
    Ok(Will {
        qos,
        retain,
        properties,
        topic,
        payload,
    })
}

/// The Server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<ConnAck<'a>, Refusal> {
        let mut reader = Reader::new(body);
        // The byte is reserved in MQTT 3.1, and says nothing.
        let flags = match (version, reader.u8()?) {
            (Version::V31, _) => 0,
            (Version::V311 | Version::V5, flags @ 0..=1) => flags,
            (Version::V311 | Version::V5, _) => {
                return Err(Refusal::malformed("reserved CONNACK flags are set"));
            }
        };
        let code = reader.u8()?;
        let reason = match version {
            Version::V5 => ReasonCode::parse(code, PacketType::ConnAck)?,
            Version::V31 | Version::V311 => ReasonCode::from_connect_return_code(code)?,
        };
        let properties = optional(version, &mut reader, Place::In(PacketType::ConnAck))?;
        reader.finish()?;
        Ok(ConnAck {
            session_present: flags == 1,
            reason,
            properties,
        })
    }

    /// Before 5.0 only for a reason that has a return code.
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        // The byte is reserved in MQTT 3.1.
        out.put_u8(u8::from(self.session_present && version != Version::V31));
        match version {
            Version::V5 => {
                out.put_u8(self.reason as u8);
                self.properties.encode(out);
            }
            Version::V31 | Version::V311 => {
                let code = self.reason.connect_return_code();
                out.put_u8(code.expect("the caller closes without a CONNACK"));
            }
        }
    }
}
