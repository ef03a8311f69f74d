//! Clients whose connections end at any time, and which keep the state of their sessions as the
//! specification wants it: packet ids, what was not acknowledged, in its order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use midge::packet::{
    self, Packet, PacketId, Publish, QoS, ReasonCode, SubscriptionOptions, Version,
};

use crate::common::{Prng, Received, ack, durable, expiry, publish_qos, subscribe, unsubscribe};
use crate::ledger::{Ledger, clears};
use crate::socket::encoded;

/// How long a client waits for something to come before it looks around.
const GLANCE: Duration = Duration::from_millis(5);
const MOMENT: Duration = Duration::from_millis(1);
/// Messages that a publisher has in flight at most.
const WINDOW: usize = 20;
pub const FICKLE_TOPICS: usize = 8;

// ---- a connection -------------------------------------------------------------------------------

pub struct Link {
    stream: TcpStream,
    version: Version,
    inbox: Vec<u8>,
    is_lost: bool,
}

impl Link {
    /// To a session that stays, and is there if it was before; waits for a broker, unless the test
    /// is over.
    fn to(
        ledger: &Ledger,
        port: u16,
        version: Version,
        id: &str,
        session: &mut bool,
    ) -> Option<Link> {
        let properties = expiry(u32::MAX);
        let mut link = Link::open(ledger, port, version)?;
        link.send(&Packet::Connect(durable(version, id, &properties)));
        if let Some(connack) = link.wait(ledger) {
            let connack = connack.connack();
            assert_eq!(connack.reason, ReasonCode::Success);
            assert!(connack.session_present || !*session, "{id}: no session");
            *session = true;
        }
        Some(link)
    }

    fn open(ledger: &Ledger, port: u16, version: Version) -> Option<Link> {
        while !ledger.is_over() {
            let stream = match ledger.is_open() {
                true => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok(),
                false => None,
            };
            if let Some(stream) = stream {
                stream.set_read_timeout(Some(GLANCE)).expect("not zero");
                stream.set_nodelay(true).ok();
                return Some(Link {
                    stream,
                    version,
                    inbox: Vec::new(),
                    is_lost: false,
                });
            }
            thread::sleep(MOMENT);
        }
        None
    }

    fn send(&mut self, packet: &Packet) {
        let sent = self.stream.write_all(&encoded(packet, self.version));
        self.is_lost |= sent.is_err();
    }

    /// The next packet, if one comes soon.
    fn read(&mut self) -> Option<Received> {
        let version = self.version;
        let mut buffer = [0; 16 << 10];
        loop {
            let decoded = packet::decode(&self.inbox, version, usize::MAX);
            if let Some((_, length)) = decoded.expect("the broker sends well-formed packets") {
                let bytes = self.inbox.drain(..length).collect();
                return Some(Received { bytes, version });
            }
            if self.is_lost {
                return None;
            }
            match self.stream.read(&mut buffer) {
                Ok(count @ 1..) => self.inbox.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                Ok(0) | Err(_) => self.is_lost = true,
            }
        }
    }

    /// The next packet, if one comes before the connection is lost.
    fn wait(&mut self, ledger: &Ledger) -> Option<Received> {
        loop {
            match self.read() {
                Some(received) => return Some(received),
                None if self.is_lost || ledger.is_over() => return None,
                None => {}
            }
        }
    }
}

// ---- publisher ----------------------------------------------------------------------------------

struct Post {
    id: PacketId,
    topic: String,
    qos: QoS,
    retain: bool,
    number: u64,
    /// PUBREC has come, PUBREL is sent.
    is_released: bool,
}

impl Post {
    fn send(&self, link: &mut Link, dup: bool) {
        if self.is_released {
            return link.send(&Packet::PubRel(ack(self.id)));
        }
        let payload = match self.retain && clears(self.number) {
            true => String::new(),
            false => self.number.to_string(),
        };
        link.send(&Packet::Publish(Publish {
            dup,
            retain: self.retain,
            ..publish_qos(self.qos, self.id, &self.topic, &payload)
        }));
    }
}

/// Publishes to each of its topics with QoS 1 and 2, as fast as it is acknowledged.
pub struct Publisher<'l> {
    pub ledger: &'l Ledger,
    pub port: u16,
    pub version: Version,
    pub id: &'static str,
    pub topics: &'static [&'static str],
    pub retain: bool,
    pub random: Prng,
}

impl Publisher<'_> {
    pub fn run(mut self) {
        let (mut in_flight, mut last_id, mut session) = (VecDeque::new(), 0, false);
        while !self.ledger.is_over() {
            let (ledger, port) = (self.ledger, self.port);
            let link = Link::to(ledger, port, self.version, self.id, &mut session);
            let Some(mut link) = link else { return };
            // [MQTT-4.4.0-1] [MQTT-4.6.0-1] what is not acknowledged, again and in order.
            in_flight
                .iter()
                .for_each(|post: &Post| post.send(&mut link, true));
            while !link.is_lost && !self.ledger.is_over() {
                while self.ledger.is_busy() && in_flight.len() < WINDOW {
                    last_id = last_id % PacketId::MAX + 1;
                    let post = self.next(last_id);
                    post.send(&mut link, false);
                    in_flight.push_back(post);
                }
                match link.read() {
                    Some(received) => self.on_packet(&received, &mut in_flight, &mut link),
                    None if in_flight.is_empty() => thread::sleep(MOMENT),
                    None => {}
                }
            }
        }
    }

    fn next(&mut self, id: PacketId) -> Post {
        let at = self.random.below(self.topics.len());
        let topic = self.topics[at].to_string();
        // Of what is retained, each topic has one QoS. With both, a message of QoS 1 that is sent
        // again would put an older value over that of QoS 2, which is known and not taken again.
        let second = match self.retain {
            true => at % 2 == 1,
            false => self.random.chance(50),
        };
        let qos = match second {
            true => QoS::ExactlyOnce,
            false => QoS::AtLeastOnce,
        };
        let number = self.ledger.begin(&topic, qos, self.retain);
        Post {
            id,
            topic,
            qos,
            retain: self.retain,
            number,
            is_released: false,
        }
    }

    fn on_packet(&self, received: &Received, in_flight: &mut VecDeque<Post>, link: &mut Link) {
        let (id, reason) = received.ack();
        // It may have forgotten the id, where PUBCOMP was lost.
        let is_forgotten = reason == ReasonCode::PacketIdentifierNotFound
            && matches!(received.packet(), Packet::PubComp(_));
        assert!(!reason.is_error() || is_forgotten, "{reason:?}");
        let at = in_flight.iter().position(|post| post.id == id);
        let at = at.expect("only what is in flight is acknowledged");
        let post = &mut in_flight[at];
        match received.packet() {
            Packet::PubAck(_) => {
                self.ledger
                    .promise(&post.topic, post.qos, self.retain, post.number);
                in_flight.remove(at);
                self.ledger.complete();
            }
            Packet::PubRec(_) => {
                if !post.is_released {
                    self.ledger
                        .promise(&post.topic, post.qos, self.retain, post.number);
                    post.is_released = true;
                }
                link.send(&Packet::PubRel(ack(id)));
            }
            Packet::PubComp(_) => {
                assert!(post.is_released, "PUBCOMP without PUBREL");
                in_flight.remove(at);
                self.ledger.complete();
            }
            other => panic!("a publisher got {other:?}"),
        }
    }
}

// ---- subscriber ---------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// There whenever a broker is.
    Steady,
    /// Loses its connection now and then, and takes its time.
    Flighty,
    /// There only while nobody publishes: all that it gets has waited.
    Absent,
}

/// Gets everything under `load/` with the QoS it was published with.
pub struct Subscriber<'l> {
    pub ledger: &'l Ledger,
    pub port: u16,
    pub version: Version,
    pub id: &'static str,
    pub habit: Habit,
    pub random: Prng,
}

impl Subscriber<'_> {
    pub fn run(mut self) {
        let (mut session, mut is_subscribed) = (false, false);
        // QoS 2: ids whose PUBREL has not come.
        let mut received = BTreeSet::new();
        while !self.ledger.is_over() {
            if self.habit == Habit::Absent && is_subscribed && self.ledger.is_busy() {
                thread::sleep(MOMENT);
                continue;
            }
            let (ledger, port) = (self.ledger, self.port);
            let link = Link::to(ledger, port, self.version, self.id, &mut session);
            let Some(mut link) = link else { return };
            if !is_subscribed {
                let options = SubscriptionOptions::new(QoS::ExactlyOnce);
                link.send(&subscribe(1, &[("load/#", options)]));
                let suback = link.wait(self.ledger);
                is_subscribed = suback.is_some();
                if is_subscribed {
                    self.ledger.note_subscribed();
                }
            }
            self.listen(&mut link, &mut received);
        }
    }

    fn listen(&mut self, link: &mut Link, received: &mut BTreeSet<PacketId>) {
        // Answers leave some at a time, so that much is in flight when the broker dies.
        let mut answers = Vec::new();
        while !link.is_lost && !self.ledger.is_over() {
            let (busy, next) = (self.ledger.is_busy(), link.read());
            match (self.habit, &next) {
                (Habit::Absent, _) if busy => return,
                (Habit::Flighty, Some(_)) if busy && self.random.chance(1) => {
                    thread::sleep(Duration::from_millis(self.random.below(20) as u64));
                    return;
                }
                _ => {}
            }
            if let Some(packet) = &next {
                answers.push(self.answer(packet, received));
            }
            if next.is_none() || self.random.chance(20) {
                answers.drain(..).for_each(|answer| link.send(&answer));
            }
        }
    }

    fn answer(&self, packet: &Received, received: &mut BTreeSet<PacketId>) -> Packet<'static> {
        match packet.packet() {
            Packet::Publish(publish) => {
                let id = publish.packet_id.expect("nothing is published with QoS 0");
                if publish.qos == QoS::AtLeastOnce {
                    self.note(&publish);
                    return Packet::PubAck(ack(id));
                }
                if received.insert(id) {
                    self.note(&publish);
                }
                Packet::PubRec(ack(id))
            }
            Packet::PubRel(release) => {
                received.remove(&release.packet_id);
                Packet::PubComp(ack(release.packet_id))
            }
            other => panic!("a subscriber got {other:?}"),
        }
    }

    fn note(&self, publish: &Publish) {
        let number = std::str::from_utf8(publish.payload).expect("it is a number");
        let number = number.parse().expect("it is a number");
        let is_once = publish.qos == QoS::ExactlyOnce;
        self.ledger
            .got(self.id, publish.topic, publish.qos, number, is_once);
    }
}

// ---- one who subscribes, and unsubscribes -------------------------------------------------------

/// What it was told of each of its filters; `None` where it was told nothing.
pub type Wishes = BTreeMap<String, Option<bool>>;

/// Subscribes to `fickle/0` and so on and changes its mind; to `fickle/end` it stays subscribed.
pub struct Fickle<'l> {
    pub ledger: &'l Ledger,
    pub port: u16,
    pub wishes: &'l Mutex<Wishes>,
    /// Topics of the messages that came.
    pub heard: &'l Mutex<Vec<String>>,
    pub random: Prng,
}

impl Fickle<'_> {
    pub fn run(mut self) {
        let (mut session, mut changes) = (false, 0);
        while !self.ledger.is_over() {
            let version = Version::V5;
            let link = Link::to(self.ledger, self.port, version, "fickle", &mut session);
            let Some(mut link) = link else { break };
            while !link.is_lost && !self.ledger.is_over() {
                if !self.wishes.lock().unwrap().contains_key("fickle/end") {
                    self.change("fickle/end", true, &mut link);
                } else if self.ledger.is_busy() {
                    let topic = format!("fickle/{}", self.random.below(FICKLE_TOPICS));
                    changes += 1;
                    let to = self.random.chance(50);
                    self.change(&topic, to, &mut link);
                } else if let Some(received) = link.read() {
                    let topic = received.publish().topic.to_string();
                    link.send(&Packet::PubAck(ack(received
                        .publish()
                        .packet_id
                        .expect("QoS 1"))));
                    self.heard.lock().unwrap().push(topic);
                }
            }
        }
        assert!(changes > 0, "it never changed its mind");
    }

    fn change(&mut self, topic: &str, to: bool, link: &mut Link) {
        let wish = |wish| {
            let mut wishes = self.wishes.lock().unwrap();
            wishes.insert(topic.to_string(), wish);
        };
        if topic != "fickle/end" {
            wish(None);
        }
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        match to {
            true => link.send(&subscribe(1, &[(topic, options)])),
            false => link.send(&unsubscribe(1, &[topic])),
        }
        if let Some(answer) = link.wait(self.ledger) {
            assert!(!answer.reasons()[0].is_error());
            wish(Some(to));
        }
    }
}
