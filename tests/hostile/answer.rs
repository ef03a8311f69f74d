//! What the broker answered, as the table writes it.
//!
//! `CONNACK 0x00, PUBACK 7 0x10, stays`: packets with their packet ids and codes in hexadecimal,
//! then whether the connection is left open. Equal ones in a row are counted (`3 × …`), those that
//! only count up are drawn together (`PUBREC 1–20 …`).

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use midge::packet::{Ack, Packet, ReasonCode, Version};

use crate::bytes;
use crate::common::Received;
use crate::rows::{Row, Start};
use crate::socket::{Client, PATIENCE};

const STAYS: &str = "stays";

/// A PUBREL for nothing, which every version answers: what came before it is all that came.
const LAST: [u8; 4] = [0x62, 2, 0xFF, 0xFF];
const LAST_ID: u16 = 0xFFFF;

/// Does to the broker what the row says, in that version, and returns how many connections it took.
pub fn try_row(port: u16, row: &Row, version: Version) -> usize {
    let expected = expected(row.v311, row.v5, version);
    if expected.is_empty() {
        return 0;
    }
    let all = (row.send)(version);
    for (index, bytes) in all.iter().enumerate() {
        let mut client = opened(port, version, row.start);
        let last = if expected.ends_with(STAYS) {
            &LAST[..]
        } else {
            &[]
        };
        // It may be closed before all of it is sent.
        let _ = client.stream.write_all(&[bytes, last].concat());
        let (answer, shown) = (answer(&mut client), &bytes[..bytes.len().min(48)]);
        assert_eq!(
            answer, expected,
            "{} ({version:?}, {index}): {shown:02X?}",
            row.name
        );
    }
    all.len()
}

pub fn expected(v311: &'static str, v5: &'static str, version: Version) -> &'static str {
    match version {
        Version::V5 => v5,
        Version::V31 | Version::V311 => v311,
    }
}

/// A connection on which as much has been said as `start` says.
pub fn opened(port: u16, version: Version, start: Start) -> Client {
    let mut client = Client::open(port, version);
    if start == Start::Connected {
        client.send_bytes(&bytes::good(version));
        let connack = client.read();
        assert_eq!(connack.connack().reason, ReasonCode::Success);
    }
    client
}

/// All that the client is sent, up to the answer to `LAST` or to the end.
fn answer(client: &mut Client) -> String {
    let mut texts = Vec::new();
    let end = loop {
        let Some(received) = client.try_read() else {
            break "closed";
        };
        match received.packet() {
            Packet::PubComp(ack) if ack.packet_id == LAST_ID => break STAYS,
            _ => texts.push(written(&received)),
        }
    };
    if texts.is_empty() && end == STAYS {
        texts.push((None, "nothing".to_string()));
    }
    texts.push((None, end.to_string()));
    together(&texts)
}

/// Packet id, if that is worth telling, and the rest.
fn written(received: &Received) -> (Option<u16>, String) {
    let ack = |name: &str, ack: &Ack| {
        let code = ack.reason as u8;
        (Some(ack.packet_id), format!("{name} # {code:#04X}"))
    };
    let (id, text) = match received.packet() {
        Packet::ConnAck(connack) => {
            let code = match received.version {
                Version::V5 => connack.reason as u8,
                Version::V31 | Version::V311 => received.bytes[3],
            };
            (None, format!("CONNACK {code:#04X}"))
        }
        Packet::Publish(publish) => {
            let payload = String::from_utf8_lossy(publish.payload);
            let id = publish.packet_id;
            (
                id,
                format!("PUBLISH {}`{payload}`", id.map_or("", |_| "# ")),
            )
        }
        Packet::PubAck(packet) => ack("PUBACK", &packet),
        Packet::PubRec(packet) => ack("PUBREC", &packet),
        Packet::PubRel(packet) => ack("PUBREL", &packet),
        Packet::PubComp(packet) => ack("PUBCOMP", &packet),
        Packet::SubAck(suback) => (None, format!("SUBACK{}", codes(received, &suback.reasons))),
        Packet::UnsubAck(suback) => (
            None,
            format!("UNSUBACK{}", codes(received, &suback.reasons)),
        ),
        Packet::PingResp => (None, "PINGRESP".to_string()),
        Packet::Disconnect(disconnect) => {
            (None, format!("DISCONNECT {:#04X}", disconnect.reason as u8))
        }
        other => panic!("a server does not send {other:?}"),
    };
    (id, text.replace("0X", "0x"))
}

/// The codes of a SUBACK or UNSUBACK, as they stand at its end.
fn codes(received: &Received, reasons: &[ReasonCode]) -> String {
    let codes = &received.bytes[received.bytes.len() - reasons.len()..];
    let mut text = String::new();
    for run in codes.chunk_by(|one, other| one == other) {
        match run.len() {
            1 => text += &format!(" 0x{:02X}", run[0]),
            count => text += &format!(" {count} × 0x{:02X}", run[0]),
        }
    }
    text
}

fn together(texts: &[(Option<u16>, String)]) -> String {
    let goes_on = |one: &(Option<u16>, String), next: &(Option<u16>, String)| {
        one.1 == next.1 && one.0.map(|id| id + 1) == next.0
    };
    let mut parts = Vec::new();
    for equal in texts.chunk_by(|one, next| one == next) {
        parts.push((equal.len(), equal[0].clone()));
    }
    let mut shown = Vec::new();
    for run in parts.chunk_by(|one, next| one.0 == 1 && next.0 == 1 && goes_on(&one.1, &next.1)) {
        let (count, (first, text)) = &run[0];
        let (_, (last, _)) = &run[run.len() - 1];
        let ids = match (first, last) {
            (Some(first), Some(last)) if first != last => format!("{first}–{last}"),
            (Some(first), _) => first.to_string(),
            (None, _) => String::new(),
        };
        let text = text.replace('#', &ids);
        shown.push(match count {
            1 => text,
            count => format!("{count} × {text}"),
        });
    }
    shown.join(", ")
}

// ---- slowly -------------------------------------------------------------------------------------

/// What takes its time: sent byte by byte, or begun and never finished.
pub struct Slow {
    pub name: &'static str,
    pub start: Start,
    pub send: fn(Version) -> Vec<u8>,
    /// Between two bytes; zero for all at once.
    pub every: Duration,
    pub v311: &'static str,
    pub v5: &'static str,
    /// When the connection ends: not before the one, nor after the other. Zero if it stays.
    pub ends: (Duration, Duration),
}

/// Does it, and checks what came, and when.
pub fn try_slow(port: u16, slow: &Slow, version: Version) {
    let expected = expected(slow.v311, slow.v5, version);
    let stays = expected.ends_with(STAYS);
    let mut client = opened(port, version, slow.start);
    let start = Instant::now();
    client
        .stream
        .set_read_timeout(Some(PATIENCE + PATIENCE))
        .expect("not zero");
    let mut stream = client.stream.try_clone().expect("it is open");
    let mut bytes = (slow.send)(version);
    if stays {
        bytes.extend(LAST);
    }
    let answer = thread::scope(|scope| {
        scope.spawn(move || dribble(&mut stream, &bytes, slow.every));
        let answer = answer(&mut client);
        // Whoever still dribbles notices.
        let _ = client.stream.shutdown(Shutdown::Both);
        answer
    });
    assert_eq!(answer, expected, "{} ({version:?})", slow.name);
    let (earliest, latest) = slow.ends;
    let took = start.elapsed();
    assert!(
        stays || (earliest..latest).contains(&took),
        "{} ({version:?}): after {took:?}",
        slow.name
    );
}

fn dribble(stream: &mut impl Write, bytes: &[u8], every: Duration) {
    let size = if every.is_zero() {
        bytes.len().max(1)
    } else {
        1
    };
    for piece in bytes.chunks(size) {
        if stream.write_all(piece).is_err() {
            return;
        }
        thread::sleep(every); // This is what it is to be slow.
    }
}
