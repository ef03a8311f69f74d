//! Publishers and subscribers that cost little, all in one thread, and what they saw.
//!
//! No message is allocated for: a publisher has its packet ready and fills in packet id and
//! sequence number, a subscriber reads both where they stand in the read buffer. Every payload
//! begins with the publisher (4 bytes) and the sequence number (8 bytes).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::process::Broker;

const PAYLOAD_BYTES: usize = 100;
const READ_BYTES: usize = 256 << 10;
/// A publisher does not prepare more than this before it is written.
const OUT_BYTES: usize = 64 << 10;
/// Nothing has come for so long: what is missing will not come any more.
const PATIENCE: Duration = Duration::from_secs(3);

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    AllToAll,
    /// Publisher n has subscriber n.
    Pairs,
}

/// Who publishes how much to whom.
#[derive(Clone, Copy)]
pub struct Load {
    pub publishers: usize,
    pub subscribers: usize,
    pub shape: Shape,
    pub qos: u8,
    /// Messages that a publisher has under way.
    pub window: u64,
}

/// What was measured, and what went wrong from beginning to end.
pub struct Outcome {
    pub delivered: u64,
    pub wall: Duration,
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub lost: u64,
    pub duplicates: u64,
    pub disorder: u64,
}

/// Puts `broker` under load, measures after `warm_up`, waits for what is under way.
pub fn run(
    load: &Load,
    broker: &Broker,
    warm_up: Duration,
    measured: Duration,
) -> io::Result<Outcome> {
    let mut clients = Clients::connect(load, broker.address)?;
    clients.publish_for(warm_up)?;
    let (start, cpu, delivered) = (Instant::now(), broker.cpu(), clients.tally.delivered);
    clients.publish_for(measured)?;
    let (wall, cpu) = (start.elapsed(), broker.cpu() - cpu);
    let delivered = clients.tally.delivered - delivered;
    let resident_bytes = broker.resident_bytes();
    if delivered == 0 {
        return Err(io::Error::new(ErrorKind::TimedOut, "nothing was delivered"));
    }
    clients.drain()?;
    Ok(Outcome {
        delivered,
        wall,
        cpu,
        resident_bytes,
        lost: clients.lost(),
        duplicates: clients.tally.duplicates,
        disorder: clients.tally.disorder,
    })
}

// ---- all of them ----------------------------------------------------------------------------

struct Clients {
    load: Load,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    tally: Tally,
    /// When a message came last, and how many had come by then.
    last: (Instant, u64),
}

/// What the subscribers have got, together.
#[derive(Default)]
struct Tally {
    delivered: u64,
    duplicates: u64,
    disorder: u64,
    /// By publisher: how far its subscribers have come, added up.
    progress: Vec<u64>,
}

impl Clients {
    fn connect(load: &Load, address: SocketAddr) -> io::Result<Clients> {
        let mut subscribers = Vec::new();
        for number in 0..load.subscribers {
            let link = Link::connect(address, &format!("subscriber-{number}"))?;
            let filter = match load.shape {
                Shape::Pairs => topic(number),
                Shape::AllToAll if load.publishers == 1 => topic(0),
                Shape::AllToAll => "load/+".to_string(),
            };
            subscribers.push(Subscriber::new(link, &filter, load)?);
        }
        let mut publishers = Vec::new();
        for number in 0..load.publishers {
            let link = Link::connect(address, &format!("publisher-{number}"))?;
            publishers.push(Publisher::new(link, number, load));
        }
        let mut clients = Clients {
            load: *load,
            poll: Poll::new()?,
            events: Events::with_capacity(1_024),
            buffer: vec![0; READ_BYTES],
            publishers,
            subscribers,
            tally: Tally {
                progress: vec![0; load.publishers],
                ..Tally::default()
            },
            last: (Instant::now(), 0),
        };
        clients.register()?;
        Ok(clients)
    }

    fn register(&mut self) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let publishers = self.publishers.iter_mut().map(|client| &mut client.link);
        let subscribers = self.subscribers.iter_mut().map(|client| &mut client.link);
        for (token, link) in publishers.chain(subscribers).enumerate() {
            let registry = self.poll.registry();
            registry.register(&mut link.stream, Token(token), interest)?;
        }
        Ok(())
    }

    fn publish_for(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.is_stuck() {
            for (number, publisher) in self.publishers.iter_mut().enumerate() {
                publisher.fill(self.tally.progress[number], &self.load);
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Waits for what is under way.
    fn drain(&mut self) -> io::Result<()> {
        self.last = (Instant::now(), self.tally.delivered);
        while !self.is_done() && !self.is_stuck() {
            self.turn()?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let is_acked = |client: &Publisher| self.load.qos == 0 || client.acked == client.sent;
        self.lost() == 0 && self.publishers.iter().all(is_acked)
    }

    /// Deliveries that are still to come, or never will.
    fn lost(&self) -> u64 {
        let sent: u64 = self.publishers.iter().map(|client| client.sent).sum();
        let reached: u64 = self.tally.progress.iter().sum();
        let skipped = self.subscribers.iter().map(|client| client.missing.len());
        sent * self.load.fan_out() - reached + skipped.sum::<usize>() as u64
    }

    fn is_stuck(&mut self) -> bool {
        let delivered = self.tally.delivered;
        if delivered != self.last.1 {
            self.last = (Instant::now(), delivered);
        }
        self.last.0.elapsed() > PATIENCE
    }

    /// Writes what there is, waits, reads what has come.
    fn turn(&mut self) -> io::Result<()> {
        for publisher in &mut self.publishers {
            publisher.link.flush()?;
        }
        for subscriber in &mut self.subscribers {
            subscriber.link.flush()?;
        }
        let timeout = Duration::from_millis(100);
        self.poll.poll(&mut self.events, Some(timeout))?;
        for event in &self.events {
            let Token(token) = event.token();
            match token.checked_sub(self.publishers.len()) {
                None => self.publishers[token].on_event(&mut self.buffer, self.load.qos)?,
                Some(number) => {
                    self.subscribers[number].on_event(&mut self.buffer, &mut self.tally)?;
                }
            }
        }
        Ok(())
    }
}

impl Load {
    /// Subscribers of one publisher.
    fn fan_out(&self) -> u64 {
        match self.shape {
            Shape::AllToAll => self.subscribers as u64,
            Shape::Pairs => 1,
        }
    }
}

// ---- a publisher ----------------------------------------------------------------------------

struct Publisher {
    link: Link,
    /// The PUBLISH, but for packet id and sequence number.
    packet: Vec<u8>,
    /// Where the packet id stands; the payload is behind it or, with QoS 0, in its place.
    id_at: usize,
    sent: u64,
    /// Messages with PUBREC.
    received: u64,
    /// Messages with PUBACK or PUBCOMP.
    acked: u64,
}

impl Publisher {
    fn new(link: Link, number: usize, load: &Load) -> Publisher {
        let mut body = field(&topic(number));
        let id_at = 2 + body.len();
        if load.qos > 0 {
            body.extend([0, 0]);
        }
        body.extend((number as u32).to_be_bytes());
        body.resize(body.len() + PAYLOAD_BYTES - 4, b'x');
        Publisher {
            link,
            packet: packet(PUBLISH | load.qos << 1, &body),
            id_at,
            sent: 0,
            received: 0,
            acked: 0,
        }
    }

    /// Prepares as many messages as the window has room for.
    fn fill(&mut self, progress: u64, load: &Load) {
        let under_way = (self.sent * load.fan_out() - progress).div_ceil(load.fan_out());
        let unacked = match load.qos {
            0 => 0,
            _ => self.sent - self.acked,
        };
        let room = load.window.saturating_sub(under_way.max(unacked));
        for _ in 0..room {
            if self.link.out.len() >= OUT_BYTES {
                break;
            }
            let mut payload_at = self.id_at;
            if load.qos > 0 {
                self.packet[payload_at..][..2].copy_from_slice(&packet_id(self.sent));
                payload_at += 2;
            }
            self.packet[payload_at + 4..][..8].copy_from_slice(&self.sent.to_be_bytes());
            self.link.out.extend_from_slice(&self.packet);
            self.sent += 1;
        }
    }

    fn on_event(&mut self, buffer: &mut [u8], qos: u8) -> io::Result<()> {
        let Publisher {
            link,
            received,
            acked,
            ..
        } = self;
        link.read(buffer, |packet_type, body, out| {
            let count = match (packet_type, qos) {
                (PUBREC, 2) => {
                    out.extend([PUBREL, 2, body[0], body[1]]);
                    &mut *received
                }
                (PUBACK, 1) | (PUBCOMP, 2) => &mut *acked,
                _ => return Err(unexpected("a publisher got a packet that is not for it")),
            };
            // [MQTT-4.6.0-2] and its like: in the order of the messages.
            if body[..2] != packet_id(*count) {
                return Err(unexpected("an acknowledgement out of order"));
            }
            *count += 1;
            Ok(())
        })
    }
}

/// The packet id of message number `sent`.
fn packet_id(sent: u64) -> [u8; 2] {
    ((sent % 65_535) as u16 + 1).to_be_bytes()
}

// ---- a subscriber ---------------------------------------------------------------------------

struct Subscriber {
    link: Link,
    /// By publisher: the sequence number to come.
    expected: Vec<u64>,
    /// Publisher and number of messages that others have overtaken.
    missing: Vec<(usize, u64)>,
}

impl Subscriber {
    fn new(mut link: Link, filter: &str, load: &Load) -> io::Result<Subscriber> {
        let mut body = vec![0, 1];
        body.extend(field(filter));
        body.push(load.qos);
        link.ask(SUBSCRIBE, &body, SUBACK, &[0, 1, load.qos])?;
        Ok(Subscriber {
            link,
            expected: vec![0; load.publishers],
            missing: Vec::new(),
        })
    }

    fn on_event(&mut self, buffer: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        let Subscriber {
            link,
            expected,
            missing,
        } = self;
        link.read(buffer, |first, body, out| {
            if first == PUBREL {
                out.extend([PUBCOMP, 2, body[0], body[1]]);
                return Ok(());
            }
            let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            match first {
                PUBLISH => {}
                0x32 | 0x34 => {
                    let answer = if first == 0x32 { PUBACK } else { PUBREC };
                    out.extend([answer, 2, body[at], body[at + 1]]);
                    at += 2;
                }
                _ => return Err(unexpected("a subscriber got a packet that is not for it")),
            }
            let payload = &body[at..];
            if payload.len() != PAYLOAD_BYTES {
                return Err(unexpected("a message has another length"));
            }
            let publisher = u32::from_be_bytes(payload[..4].try_into().expect("4 bytes"));
            let number = u64::from_be_bytes(payload[4..12].try_into().expect("8 bytes"));
            note(publisher as usize, number, expected, missing, tally);
            Ok(())
        })
    }
}

fn note(
    publisher: usize,
    number: u64,
    expected: &mut [u64],
    missing: &mut Vec<(usize, u64)>,
    tally: &mut Tally,
) {
    let next = expected[publisher];
    tally.delivered += 1;
    if number >= next {
        missing.extend((next..number).map(|skipped| (publisher, skipped)));
        expected[publisher] = number + 1;
        tally.progress[publisher] += number + 1 - next;
    } else if let Some(at) = missing.iter().position(|one| *one == (publisher, number)) {
        missing.swap_remove(at);
        tally.disorder += 1;
    } else {
        tally.duplicates += 1;
    }
}

// ---- a connection ---------------------------------------------------------------------------

struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    /// The beginning of a packet whose end has not come.
    leftover: Vec<u8>,
}

impl Link {
    fn connect(address: SocketAddr, client_id: &str) -> io::Result<Link> {
        let stream = net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut link = Link {
            stream: TcpStream::from_std(stream),
            out: Vec::new(),
            written: 0,
            leftover: Vec::new(),
        };
        // MQTT 3.1.1, clean session, no keep alive.
        let mut body = field("MQTT");
        body.extend([4, 2, 0, 0]);
        body.extend(field(client_id));
        link.ask(CONNECT, &body, CONNACK, &[0, 0])?;
        Ok(link)
    }

    /// Sends a packet and waits for an answer that says just that.
    fn ask(&mut self, first: u8, body: &[u8], answer: u8, says: &[u8]) -> io::Result<()> {
        self.out.extend(packet(first, body));
        self.flush()?;
        let wanted = packet(answer, says);
        let mut got = vec![0; wanted.len()];
        let mut count = 0;
        let start = Instant::now();
        while count < got.len() {
            match self.stream.read(&mut got[count..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if start.elapsed() > PATIENCE {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    sleep(Duration::from_micros(100));
                }
                Err(error) => return Err(error),
            }
        }
        match got == wanted {
            true => Ok(()),
            false => Err(unexpected("a CONNECT or SUBSCRIBE was refused")),
        }
    }

    /// Reads until there is no more, and shows each packet: its first byte, its body, and where to
    /// put an answer.
    fn read(
        &mut self,
        buffer: &mut [u8],
        mut on_packet: impl FnMut(u8, &[u8], &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let kept = self.leftover.len();
            buffer[..kept].copy_from_slice(&self.leftover);
            let end = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => kept + count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut rest = &buffer[..end];
            while let Some((first, body, behind)) = cut(rest) {
                on_packet(first, body, &mut self.out)?;
                rest = behind;
            }
            self.leftover.clear();
            self.leftover.extend_from_slice(rest);
            if end < buffer.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

// ---- packets --------------------------------------------------------------------------------

/// First byte and body of the packet that `bytes` start with, and what is behind it.
fn cut(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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

/// A packet with less than 128 bytes behind its header.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 0x80, "the length takes more than one byte");
    [&[first, body.len() as u8], body].concat()
}

fn field(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn topic(publisher: usize) -> String {
    format!("load/{publisher}")
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
