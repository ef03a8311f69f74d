//! MQTT 3.1.1, as far as the generator speaks it.
//!
//! Packets are made once and stamped for each message; what comes in is read where it stands. Every
//! payload begins with the number of its series (4 bytes), its place in the series (8 bytes) and a
//! time (8 bytes), which the tally and the latency read back.

use std::io::{self, ErrorKind};

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBCOMP: u8 = 0x70;
pub const DISCONNECT: [u8; 2] = [0xE0, 0];
const PUBLISH: u8 = 0x30;
const PUBREL: u8 = 0x62;
/// What the numbers in a payload take.
const NUMBERS_BYTES: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Session {
    Clean,
    Kept,
}

pub fn connect(client_id: &str, session: Session, keep_alive: u16) -> Vec<u8> {
    let mut body = field("MQTT");
    body.extend([4, if session == Session::Clean { 2 } else { 0 }]);
    body.extend(keep_alive.to_be_bytes());
    body.extend(field(client_id));
    packet(0x10, &body)
}

/// The answer to CONNECT: with the session that was there, or without.
pub fn connack(session_present: bool) -> [u8; 4] {
    [0x20, 2, u8::from(session_present), 0]
}

pub fn subscribe(filters: &[String], qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        body.extend(field(filter));
        body.push(qos);
    }
    packet(0x82, &body)
}

pub fn suback(filters: usize, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.resize(2 + filters, qos);
    packet(0x90, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(body);
    bytes
}

fn field(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

// ---- PUBLISH --------------------------------------------------------------------------------

/// A PUBLISH, but for its packet id and the numbers in its payload.
pub struct Template {
    pub bytes: Vec<u8>,
    pub series: u32,
    /// Where the topic ends. There stands the packet id, if there is one.
    topic_end: usize,
    payload_at: usize,
}

/// What all messages of a run have in common.
#[derive(Clone, Copy)]
pub struct Kind {
    pub qos: u8,
    pub retain: bool,
    pub payload_bytes: usize,
}

impl Template {
    pub fn new(topic: &str, series: u32, kind: Kind) -> Template {
        let mut body = field(topic);
        if kind.qos > 0 {
            body.extend([0, 0]);
        }
        body.extend(series.to_be_bytes());
        body.resize(body.len() + kind.payload_bytes - 4, b'x');
        let first = PUBLISH | kind.qos << 1 | u8::from(kind.retain);
        let bytes = packet(first, &body);
        let payload_at = bytes.len() - kind.payload_bytes;
        Template {
            bytes,
            series,
            topic_end: payload_at - if kind.qos > 0 { 2 } else { 0 },
            payload_at,
        }
    }

    /// `sent` messages have gone before on this connection, `number` in this series.
    pub fn stamp(&mut self, sent: u64, number: u64, time: u64) {
        let (head, payload) = self.bytes.split_at_mut(self.payload_at);
        if let [high, low] = &mut head[self.topic_end..] {
            [*high, *low] = packet_id(sent);
        }
        payload[4..12].copy_from_slice(&number.to_be_bytes());
        payload[12..20].copy_from_slice(&time.to_be_bytes());
    }

    /// Writes `number` over the last digits of the topic.
    pub fn number_topic(&mut self, mut number: u64, digits: usize) {
        for byte in self.bytes[self.topic_end - digits..self.topic_end]
            .iter_mut()
            .rev()
        {
            *byte = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

/// The packet id of the message before which `sent` were sent.
pub fn packet_id(sent: u64) -> [u8; 2] {
    ((sent % 65_535) as u16 + 1).to_be_bytes()
}

/// What is read of a PUBLISH.
pub struct Message {
    pub series: usize,
    pub number: u64,
    pub time: u64,
}

/// Takes a packet that a subscriber got, puts the answer to `out`: nothing but a PUBLISH is a
/// message.
pub fn receive(first: u8, body: &[u8], out: &mut Vec<u8>) -> io::Result<Option<Message>> {
    if first == PUBREL {
        out.extend([PUBCOMP, 2, body[0], body[1]]);
        return Ok(None);
    }
    let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    match first & 0xFE {
        PUBLISH => {}
        0x32 | 0x34 => {
            let answer = if first & 2 != 0 { PUBACK } else { PUBREC };
            out.extend([answer, 2, body[at], body[at + 1]]);
            at += 2;
        }
        _ => return Err(unexpected("a subscriber got a packet that is not for it")),
    }
    let payload = &body[at..];
    if payload.len() < NUMBERS_BYTES {
        return Err(unexpected("a message is too short"));
    }
    Ok(Some(Message {
        series: u32::from_be_bytes(payload[..4].try_into().expect("4 bytes")) as usize,
        number: u64::from_be_bytes(payload[4..12].try_into().expect("8 bytes")),
        time: u64::from_be_bytes(payload[12..20].try_into().expect("8 bytes")),
    }))
}

/// How far the acknowledgements of a publisher have come.
#[derive(Default)]
pub struct Acks {
    /// Messages with PUBREC.
    received: u64,
    /// Messages with PUBACK or PUBCOMP.
    pub complete: u64,
}

impl Acks {
    /// Takes a packet that a publisher got, puts the answer to `out`.
    pub fn receive(&mut self, first: u8, body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let count = match first {
            PUBREC => {
                out.extend([PUBREL, 2, body[0], body[1]]);
                &mut self.received
            }
            PUBACK | PUBCOMP => &mut self.complete,
            _ => return Err(unexpected("a publisher got a packet that is not for it")),
        };
        // [MQTT-4.6.0-2] and its like: in the order of the messages.
        if body[..2] != packet_id(*count) {
            return Err(unexpected("an acknowledgement out of order"));
        }
        *count += 1;
        Ok(())
    }
}

/// First byte and body of the packet that `bytes` start with, and what is behind it.
pub fn cut(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let mut length = 0;
    for (index, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let (body, behind) = bytes[index + 2..].split_at_checked(length)?;
            return Some((bytes[0], body, behind));
        }
    }
    None
}

pub fn unexpected(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
