//! A broker and its clients in a virtual world: a clock that moves only when told, connections that
//! are byte strings. No sockets, no sleeping; every verb is followed by `check_invariants`.

#![allow(dead_code)] // Each test file uses its own part of this.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use midge::broker::limits::Options;
use midge::broker::{Broker, Check, ConnectionId, Turn, Verdict};
use midge::net::{Commit, Gate, Keeper};
use midge::packet::{
    self, Ack, ConnAck, Connect, Disconnect, Packet, PacketId, Properties, PropertyBlock,
    PropertyId, Publish, QoS, ReasonCode, Subscribe, SubscriptionOptions, Unsubscribe, Version,
};

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The broker, the clock, and all connections.
pub struct World {
    pub broker: Broker,
    /// Where anything is to survive.
    pub keeper: Option<Box<dyn Keeper>>,
    /// Who checks passwords; without it, `asked` has what a test is to answer.
    pub gate: Option<Box<dyn Gate>>,
    pub asked: Vec<Check>,
    pub now: Instant,
    /// Where new connections come in.
    pub listener: usize,
    links: Vec<Link>,
    turn: Turn,
}

/// One connection: what the client has been sent and not read.
struct Link {
    id: ConnectionId,
    version: Version,
    inbox: Vec<u8>,
    /// What it sent while the broker did not read it.
    unread: Vec<u8>,
    /// Bytes the client's end still takes; `usize::MAX` for one that reads all the time.
    room: usize,
    open: bool,
}

/// A client's end of a connection: an index that stays valid after it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(usize);

/// A packet that the broker sent, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub version: Version,
}

impl Received {
    pub fn packet(&self) -> Packet<'_> {
        packet::decode(&self.bytes, self.version, usize::MAX)
            .unwrap()
            .unwrap()
            .0
    }
}

impl World {
    pub fn new() -> World {
        World::with(Options::default())
    }

    pub fn with(options: Options) -> World {
        let now = Instant::now();
        World {
            broker: Broker::new(options, now),
            keeper: None,
            gate: None,
            asked: vec![],
            now,
            listener: 0,
            links: vec![],
            turn: Turn::default(),
        }
    }

    /// A connection that has said nothing yet.
    pub fn open(&mut self, version: Version) -> Client {
        let client = self.accept(version);
        self.turn();
        client
    }

    /// The same, within the turn.
    pub fn accept(&mut self, version: Version) -> Client {
        self.accept_from([192, 0, 2, 1], version)
    }

    /// The same, from that address.
    pub fn accept_from(&mut self, address: [u8; 4], version: Version) -> Client {
        let peer = SocketAddr::from((address, self.links.len() as u16));
        let id = self.broker.open(self.listener, peer, self.now);
        self.broker.check_invariants();
        let inbox = Vec::new();
        self.links.push(Link {
            id,
            version,
            inbox,
            unread: vec![],
            room: usize::MAX,
            open: true,
        });
        Client(self.links.len() - 1)
    }

    /// A connection with its CONNECT sent and its CONNACK, which must say success, read.
    pub fn connect(&mut self, connect: Connect) -> Client {
        let client = self.open(connect.version);
        self.send(client, &Packet::Connect(connect));
        match self.read(client).packet() {
            Packet::ConnAck(connack) => assert_eq!(connack.reason, ReasonCode::Success),
            other => panic!("expected CONNACK, got {other:?}"),
        }
        client
    }

    /// A client of that id with a clean session.
    pub fn client(&mut self, version: Version, id: &str) -> Client {
        self.connect(connect(version, id))
    }

    pub fn send(&mut self, client: Client, packet: &Packet) {
        let mut bytes = Vec::new();
        packet.encode(self.links[client.0].version, &mut bytes);
        self.send_bytes(client, &bytes);
    }

    /// Sends bytes and ends the turn.
    pub fn send_bytes(&mut self, client: Client, bytes: &[u8]) {
        self.deliver_bytes(client, bytes);
        self.turn();
    }

    /// Sends bytes within the turn, see [`World::turn`].
    pub fn deliver_bytes(&mut self, client: Client, bytes: &[u8]) {
        let link = &mut self.links[client.0];
        assert!(link.open, "the connection is closed");
        if self.broker.holds_back(link.id, self.now) {
            link.unread.extend(bytes);
            return;
        }
        let unread = std::mem::take(&mut link.unread);
        if !unread.is_empty() {
            self.broker.receive(link.id, &unread, self.now);
        }
        self.broker.receive(link.id, bytes, self.now);
        self.broker.check_invariants();
    }

    /// Whether what the client sends would be read now.
    pub fn broker_reads(&mut self, client: Client) -> bool {
        !self.broker.holds_back(self.links[client.0].id, self.now)
    }

    /// The client's end is gone without a word.
    pub fn lose(&mut self, client: Client) {
        assert!(self.links[client.0].open, "the connection is closed");
        self.broker.lost(self.links[client.0].id, self.now);
        self.broker.check_invariants();
        self.turn();
    }

    pub fn disconnect(&mut self, client: Client) {
        self.send(client, &disconnect());
        self.expect_closed(client);
    }

    /// Time passes: every deadline on the way is kept.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
            self.broker.check_invariants();
            self.turn();
        }
        self.now = end;
    }

    fn deadline(&self) -> Option<Instant> {
        let keeper = self.keeper.as_ref().and_then(|keeper| keeper.deadline());
        let gate = self.gate.as_ref().and_then(|gate| gate.deadline());
        self.broker
            .poll_timeout()
            .into_iter()
            .chain(keeper)
            .chain(gate)
            .min()
    }

    /// Answers the first of what was asked.
    pub fn answer(&mut self, verdict: Verdict) {
        let check = self.asked.remove(0);
        self.broker.verified(check, verdict, self.now);
        self.broker.check_invariants();
        self.turn();
    }

    /// How many times the broker wants to be woken in that time with nothing sent to it.
    pub fn wake_ups(&mut self, duration: Duration) -> usize {
        let end = self.now + duration;
        let mut count = 0;
        while let Some(at) = self.deadline().filter(|at| *at <= end) {
            count += 1;
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
            self.turn();
        }
        self.now = end;
        count
    }

    /// The client takes this many bytes more, and then no others; `usize::MAX` for all.
    pub fn read_only(&mut self, client: Client, bytes: usize) {
        self.links[client.0].room = bytes;
        self.turn();
    }

    /// Ends turns until there is nothing left to do now.
    pub fn turn(&mut self) {
        loop {
            let mut turn = std::mem::take(&mut self.turn);
            self.broker.end_turn(&mut turn, self.now);
            self.keep(&mut turn);
            // A socket that had no room takes more as soon as it has, as a real one would say.
            for index in 0..self.links.len() {
                if self.links[index].open {
                    self.flush(index);
                }
            }
            for id in &turn.close {
                let link = self
                    .links
                    .iter_mut()
                    .find(|link| link.open && link.id == *id);
                link.expect("a closed connection was open").open = false;
                self.broker.forget(*id);
            }
            self.broker.check_invariants();
            match &mut self.gate {
                Some(gate) => gate.check(&mut self.broker, &turn, self.now),
                None => self.asked.append(&mut turn.verify),
            }
            self.broker.check_invariants();
            self.turn = turn;
            if self.read_held_back() {
                continue;
            }
            let gate = self.gate.as_ref().and_then(|gate| gate.deadline());
            let next = self.broker.poll_timeout().into_iter().chain(gate).min();
            if next.is_none_or(|at| at > self.now) {
                break;
            }
            self.broker.handle_timeout(self.now);
        }
    }

    /// Reads one of those that had not been read; whether there was one that may be.
    fn read_held_back(&mut self) -> bool {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            let waits = link.open && !link.unread.is_empty();
            if waits && !self.broker.holds_back(link.id, self.now) {
                let bytes = std::mem::take(&mut link.unread);
                self.broker.receive(link.id, &bytes, self.now);
                self.broker.check_invariants();
                return true;
            }
        }
        false
    }

    /// Durable before anybody is told of it; those who would be told of what is not are cut off.
    fn keep(&mut self, turn: &mut Turn) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        if keeper.commit(&mut self.broker, turn, self.now) == Commit::Failed {
            for id in turn.flush.drain(..) {
                self.broker.cut(id, self.now);
            }
        }
    }

    fn flush(&mut self, index: usize) {
        let link = &mut self.links[index];
        loop {
            let mut slices = [IoSlice::new(&[]); 4];
            let used = self.broker.outbound(link.id, &mut slices);
            let bytes: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let count = bytes.len().min(link.room);
            if count == 0 {
                return;
            }
            link.inbox.extend(&bytes[..count]);
            if link.room != usize::MAX {
                link.room -= count;
            }
            self.broker.sent(link.id, count);
        }
    }

    /// The next packet the client was sent, if there is one.
    pub fn try_read(&mut self, client: Client) -> Option<Received> {
        let link = &mut self.links[client.0];
        let decoded = packet::decode(&link.inbox, link.version, usize::MAX);
        let length = decoded
            .expect("the broker sends only well-formed packets")?
            .1;
        let rest = link.inbox.split_off(length);
        let bytes = std::mem::replace(&mut link.inbox, rest);
        Some(Received {
            bytes,
            version: link.version,
        })
    }

    pub fn read(&mut self, client: Client) -> Received {
        self.try_read(client)
            .unwrap_or_else(|| panic!("{client:?} was sent nothing"))
    }

    pub fn read_all(&mut self, client: Client) -> Vec<Received> {
        std::iter::from_fn(|| self.try_read(client)).collect()
    }

    /// The payloads of the PUBLISH packets the client was sent, anything else left out.
    pub fn payloads(&mut self, client: Client) -> Vec<String> {
        let text = |received: &Received| match received.packet() {
            Packet::Publish(publish) => Some(String::from_utf8(publish.payload.to_vec()).unwrap()),
            _ => None,
        };
        self.read_all(client).iter().filter_map(text).collect()
    }

    pub fn expect(&mut self, client: Client, expected: &Packet) {
        let received = self.read(client);
        assert_eq!(&received.packet(), expected);
    }

    pub fn expect_nothing(&mut self, client: Client) {
        if let Some(received) = self.try_read(client) {
            panic!("{client:?} was sent {:?}", received.packet());
        }
        assert!(self.links[client.0].open, "{client:?} is closed");
    }

    /// Closed, with nothing more to read.
    pub fn expect_closed(&mut self, client: Client) {
        if let Some(received) = self.try_read(client) {
            panic!("{client:?} was sent {:?}", received.packet());
        }
        assert!(!self.links[client.0].open, "{client:?} is open");
    }

    /// A DISCONNECT with that reason, then closed.
    pub fn expect_disconnect(&mut self, client: Client, reason: ReasonCode) {
        match self.read(client).packet() {
            Packet::Disconnect(disconnect) => assert_eq!(disconnect.reason, reason),
            other => panic!("expected DISCONNECT, got {other:?}"),
        }
        self.expect_closed(client);
    }

    /// The broker is gone, and another one is there: what clients were sent they still have.
    pub fn replace(&mut self, broker: Broker, keeper: Option<Box<dyn Keeper>>) {
        self.links.iter_mut().for_each(|link| link.open = false);
        self.turn = Turn::default();
        (self.broker, self.keeper) = (broker, keeper);
    }

    pub fn is_open(&self, client: Client) -> bool {
        self.links[client.0].open
    }

    /// Subscribes and reads the SUBACK, which must grant what was asked for.
    pub fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) {
        self.subscribe_with(client, filter, SubscriptionOptions::new(qos));
    }

    pub fn subscribe_with(&mut self, client: Client, filter: &str, options: SubscriptionOptions) {
        self.send(client, &subscribe(1, &[(filter, options)]));
        match self.read(client).packet() {
            Packet::SubAck(suback) => assert_eq!(suback.reasons[0] as u8, options.qos as u8),
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    /// Publishes with QoS 0.
    pub fn publish(&mut self, client: Client, topic: &str, payload: &str) {
        self.send(client, &Packet::Publish(publish(topic, payload)));
    }
}

/// A CONNECT for a clean session, without keep alive.
pub fn connect(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        properties: Properties::NONE,
        client_id,
        will: None,
        user_name: None,
        password: None,
    }
}

/// A CONNECT for a session that stays: Clean Session 0, or an expiry interval of an hour in
/// `properties`, which see [`expiry`].
pub fn durable<'a>(
    version: Version,
    client_id: &'a str,
    properties: &'a PropertyBlock,
) -> Connect<'a> {
    let properties = match version {
        Version::V5 => properties.as_properties(),
        Version::V31 | Version::V311 => Properties::NONE,
    };
    Connect {
        clean_start: false,
        properties,
        ..connect(version, client_id)
    }
}

/// A block with a Session Expiry Interval.
pub fn expiry(seconds: u32) -> PropertyBlock {
    let mut block = PropertyBlock::new();
    block.number(packet::PropertyId::SessionExpiryInterval, seconds);
    block
}

/// A PUBLISH with QoS 0.
pub fn publish<'a>(topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: Properties::NONE,
        payload: payload.as_bytes(),
    }
}

/// A PUBLISH with QoS 1 or 2.
pub fn publish_qos<'a>(qos: QoS, id: PacketId, topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish {
        qos,
        packet_id: Some(id),
        ..publish(topic, payload)
    }
}

pub fn retained<'a>(topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish {
        retain: true,
        ..publish(topic, payload)
    }
}

pub fn subscribe<'a>(id: PacketId, filters: &[(&'a str, SubscriptionOptions)]) -> Packet<'a> {
    let filters = filters.to_vec();
    Packet::Subscribe(Subscribe {
        packet_id: id,
        properties: Properties::NONE,
        filters,
    })
}

pub fn unsubscribe<'a>(id: PacketId, filters: &[&'a str]) -> Packet<'a> {
    let filters = filters.to_vec();
    Packet::Unsubscribe(Unsubscribe {
        packet_id: id,
        properties: Properties::NONE,
        filters,
    })
}

pub fn ack(id: PacketId) -> Ack<'static> {
    Ack::new(id, ReasonCode::Success)
}

pub fn disconnect() -> Packet<'static> {
    Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties: Properties::NONE,
    })
}

/// A small generator of numbers (xorshift): the same seed, the same world.
pub struct Prng(u64);

impl Prng {
    pub fn new(seed: u64) -> Prng {
        Prng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `bound`; the same on 32 bit.
    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 11) % bound as u64) as usize
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

// ---- for the stories ---------------------------------------------------------------------------

impl Received {
    pub fn publish(&self) -> Publish<'_> {
        match self.packet() {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    pub fn connack(&self) -> ConnAck<'_> {
        match self.packet() {
            Packet::ConnAck(connack) => connack,
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    /// Reason codes of a SUBACK or UNSUBACK.
    pub fn reasons(&self) -> Vec<ReasonCode> {
        match self.packet() {
            Packet::SubAck(suback) | Packet::UnsubAck(suback) => suback.reasons,
            other => panic!("expected SUBACK or UNSUBACK, got {other:?}"),
        }
    }

    /// Packet Identifier and reason of PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn ack(&self) -> (PacketId, ReasonCode) {
        match self.packet() {
            Packet::PubAck(ack)
            | Packet::PubRec(ack)
            | Packet::PubRel(ack)
            | Packet::PubComp(ack) => (ack.packet_id, ack.reason),
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }
}

impl World {
    /// Sends a CONNECT on a new connection; its answer is not read.
    pub fn try_connect(&mut self, connect: Connect) -> Client {
        let client = self.open(connect.version);
        self.send(client, &Packet::Connect(connect));
        client
    }

    /// The CONNACK refuses, with that reason or the return code for it, and the connection ends.
    pub fn expect_refused(&mut self, client: Client, reason: ReasonCode) {
        let received = self.read(client);
        let connack = received.connack();
        assert_eq!((connack.session_present, connack.reason), (false, reason));
        self.expect_closed(client);
    }

    /// Bytes that wait in the broker for the client to read them.
    pub fn owed(&self, client: Client) -> usize {
        let mut slices = [IoSlice::new(&[]); 4_096];
        let used = self.broker.outbound(self.links[client.0].id, &mut slices);
        slices[..used].iter().map(|slice| slice.len()).sum()
    }

    /// Publishes, and completes it: the acknowledgements are read.
    pub fn publish_as(&mut self, client: Client, qos: QoS, topic: &str, payload: &str) {
        let message = Publish {
            qos,
            packet_id: (qos > QoS::AtMostOnce).then_some(1),
            ..publish(topic, payload)
        };
        self.send(client, &Packet::Publish(message));
        if qos == QoS::ExactlyOnce {
            self.send(client, &Packet::PubRel(ack(1)));
        }
        self.read_all(client);
    }

    /// Bytes within the turn, one of very many: the invariants are for the end of it.
    pub fn broker_receive(&mut self, client: Client, bytes: &[u8]) {
        let id = self.links[client.0].id;
        self.broker.receive(id, bytes, self.now);
    }

    /// The same bytes from many clients within one turn.
    pub fn send_from_all(&mut self, clients: &[Client], bytes: &[u8]) {
        for client in clients {
            self.broker
                .receive(self.links[client.0].id, bytes, self.now);
        }
        self.broker.check_invariants();
        self.turn();
    }

    /// The broker stops in an orderly way.
    pub fn stop(&mut self) {
        self.broker.stop(self.now);
        self.broker.check_invariants();
        self.turn();
        self.sync();
    }

    /// What is kept is to be on the medium now.
    pub fn sync(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.sync(&mut self.broker, self.now);
        }
    }

    /// The PUBLISH packets the client was sent, anything else left out.
    pub fn publishes(&mut self, client: Client) -> Vec<Received> {
        let mut received = self.read_all(client);
        received.retain(|received| matches!(received.packet(), Packet::Publish(_)));
        received
    }

    /// Acknowledges what was received as far as its QoS asks for, and reads what that brings up to
    /// and with the last of it.
    pub fn complete(&mut self, client: Client, qos: QoS, id: PacketId) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(client, &Packet::PubAck(ack(id))),
            QoS::ExactlyOnce => {
                self.send(client, &Packet::PubRec(ack(id)));
                self.expect(client, &Packet::PubRel(ack(id)));
                self.send(client, &Packet::PubComp(ack(id)));
            }
        }
    }
}

/// A block of numeric properties.
pub fn numbers(properties: &[(PropertyId, u32)]) -> PropertyBlock {
    let mut block = PropertyBlock::new();
    for (id, number) in properties {
        block.number(*id, *number);
    }
    block
}

pub fn reason_string<'a>(properties: Properties<'a>) -> &'a str {
    let text = properties.text(PropertyId::ReasonString);
    text.expect("there is a Reason String")
}

/// A PUBLISH with QoS 0 and properties.
pub fn publish_with<'a>(topic: &'a str, payload: &'a str, block: &'a PropertyBlock) -> Packet<'a> {
    Packet::Publish(Publish {
        properties: block.as_properties(),
        ..publish(topic, payload)
    })
}

/// The Packet Identifiers of PUBLISH packets.
pub fn packet_ids(received: &[Received]) -> Vec<PacketId> {
    let id = |received: &Received| received.publish().packet_id;
    received.iter().filter_map(id).collect()
}

/// PUBACK and its kin, as functions of what they say.
pub type MakeAck = fn(Ack<'static>) -> Packet<'static>;

pub fn puback(id: PacketId) -> Packet<'static> {
    Packet::PubAck(ack(id))
}
