//! A broker and four hostile connections at once, with a virtual clock.
//!
//! The input is a little program. Its first bytes draw the options, with small limits, so that they
//! are met. Each further step is a byte: which connection (two bits), which verb (three), and an
//! argument (three); what the verb needs follows. What is said comes as packets of `grammar.rs`,
//! whole, in pieces, in bursts, with a bit wrong, or as raw bytes. After each verb the broker's
//! invariants are checked, which include its limits, and `peer.rs` reads what it has to say.

#[allow(dead_code)] // Some of its names are for the seeds, which `cargo test` writes.
pub mod grammar;
mod logging;
mod peer;

use std::time::{Duration, Instant};

use midge::broker::limits::{Limits, ListenerOptions, Options, QueueOverflow};
use midge::broker::{Broker, Check, ConnectionId, Turn, Verdict};
use midge::packet::QoS;

use grammar::{Input, pick};
use peer::{Peer, Rules};

/// The verbs, in the bits from the third on.
pub const PACKET: u8 = 0;
pub const BURST: u8 = 1;
pub const RAW: u8 = 2;
pub const ANSWER: u8 = 3;
pub const READ: u8 = 4;
pub const ADVANCE: u8 = 5;
pub const END_TURN: u8 = 6;
pub const LINE: u8 = 7;

const CONNECTIONS: usize = 4;
const DURATIONS: [Duration; 8] = [
    Duration::from_millis(1),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(15),
    Duration::from_secs(90),
    Duration::from_secs(3_600),
    Duration::from_secs(40 * 86_400),
];
/// Deadlines kept on the way when time passes; a machine that slept notices the others late.
const DEADLINES_ON_THE_WAY: usize = 6;
/// More turns than this in a row without anything new, and the broker spins.
const TURNS_MAX: usize = 1_000;

pub fn run(bytes: &[u8]) {
    logging::listen();
    let mut input = Input(bytes);
    let mut world = World::new(&mut input);
    while !input.is_empty() {
        world.step(&mut input);
    }
    world.finish();
}

/// A step's first byte.
#[allow(dead_code)] // For the seeds, which `cargo test` writes.
pub fn step(connection: u8, verb: u8, argument: u8) -> u8 {
    connection | verb << 2 | argument << 5
}

struct World {
    broker: Broker,
    rules: Rules,
    now: Instant,
    peers: [Option<Peer>; CONNECTIONS],
    turn: Turn,
    /// Clients that wait for their passwords to be checked, and how many have been.
    asked: Vec<Check>,
    checked: usize,
    /// What is being said.
    bytes: Vec<u8>,
}

impl World {
    fn new(input: &mut Input) -> World {
        let options = options(input);
        let now = Instant::now();
        World {
            rules: Rules::new(&options),
            broker: Broker::new(options, now),
            now,
            peers: Default::default(),
            turn: Turn::default(),
            asked: Vec::new(),
            checked: 0,
            bytes: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input) {
        let byte = input.u8();
        let (index, argument) = (usize::from(byte & 3), byte >> 5);
        match byte >> 2 & 7 {
            PACKET => self.say_packet(index, argument, input),
            BURST => self.say_burst(index, argument, input),
            RAW => {
                let length = usize::from(input.u8()) << argument;
                self.bytes.clear();
                self.bytes.extend_from_slice(input.take(length));
                self.say(index);
            }
            ANSWER => self.answer(index, argument),
            READ => {
                let count = [1, 3, 20, 100, 1_000, 4_000, 20_000, usize::MAX];
                self.read(index, count[usize::from(argument)]);
            }
            ADVANCE => self.advance(DURATIONS[usize::from(argument)]),
            END_TURN if argument == 7 => {
                self.broker.stop(self.now);
                self.look();
            }
            END_TURN => self.end_turn(),
            LINE.. => self.change_line(index, argument),
        }
    }

    // ---- the clients' side --------------------------------------------------------------------

    fn open(&mut self, index: usize) -> ConnectionId {
        if self.peers[index].is_none() {
            let peer = ([192, 0, 2, 1], 1883);
            let id = self.broker.open(index % 2, peer, self.now);
            self.peers[index] = Some(Peer::new(id));
        }
        self.peers[index].as_ref().expect("it was just opened").id
    }

    /// What is in `bytes` arrives.
    fn say(&mut self, index: usize) {
        let id = self.open(index);
        let peer = self.peers[index].as_mut().expect("it is open");
        let pending = std::mem::take(&mut peer.pending);
        for bytes in [&pending, &self.bytes] {
            if !bytes.is_empty() {
                peer.said(bytes);
                self.broker.receive(id, bytes, self.now);
            }
        }
        self.look();
    }

    fn say_packet(&mut self, index: usize, argument: u8, input: &mut Input) {
        self.open(index);
        let peer = self.peers[index].as_mut().expect("it is open");
        self.bytes.clear();
        grammar::packet(input, peer.version(), 0, &mut self.bytes);
        match argument {
            // One byte is wrong.
            6 => {
                let at = usize::from(input.u8()) % self.bytes.len();
                self.bytes[at] ^= input.u8();
                self.say(index);
            }
            // The end of it comes before what is said next.
            7 => {
                let at = usize::from(input.u8()) % self.bytes.len();
                let rest = self.bytes.split_off(at);
                self.say(index);
                let peer = self.peers[index].as_mut().expect("it is open");
                peer.pending = rest;
            }
            _ => self.say(index),
        }
    }

    /// The same again and again, in one piece; only Packet Identifiers are counted up.
    fn say_burst(&mut self, index: usize, argument: u8, input: &mut Input) {
        self.open(index);
        let peer = self.peers[index].as_mut().expect("it is open");
        self.bytes.clear();
        let said = input.0;
        for again in 0..u16::from(argument) + 2 {
            input.0 = said;
            grammar::packet(input, peer.version(), again, &mut self.bytes);
        }
        self.say(index);
    }

    /// The client acknowledges what it was sent, oldest first.
    fn answer(&mut self, index: usize, argument: u8) {
        let Some(peer) = &mut self.peers[index] else {
            return;
        };
        self.bytes.clear();
        for _ in 0..=argument {
            if let Some(answer) = peer.to_answer.pop_front() {
                answer.encode(peer.version(), &mut self.bytes);
            }
        }
        self.say(index);
    }

    fn read(&mut self, index: usize, count: usize) {
        if let Some(peer) = &mut self.peers[index] {
            let count = count.min(peer.owed);
            if count > 0 {
                peer.owed -= count;
                self.broker.sent(peer.id, count);
                self.look();
            }
        }
    }

    /// The connection is lost, and another may begin, with a CONNECT of the more useful kinds.
    fn change_line(&mut self, index: usize, argument: u8) {
        if let Some(peer) = &self.peers[index] {
            self.broker.lost(peer.id, self.now);
            self.look();
        }
        let connect: &[u8] = match argument {
            0 | 1 => return,
            2 => &[0x00, 0],                // 3.1.1, lasting session
            3 => &[0x40, 1],                // 3.1.1, clean session
            4 => &[0x10, 0, 0x43],          // 5.0, lasting session, aliases
            5 => &[0x10, 1, 0x06],          // 5.0, session of 100 s, Receive Maximum 1
            6 => &[0x90, 2, 1, 0x59, 0x37], // 5.0, session of 5 s, will
            _ => &[0x60, 3],                // 3.1, clean session
        };
        self.end_turn();
        self.bytes.clear();
        let mut connect = connect.to_vec();
        // Everybody under a name of his own.
        connect[1] = index as u8;
        let version = midge::packet::Version::V311;
        grammar::packet(&mut Input(&connect), version, 0, &mut self.bytes);
        self.say(index);
    }

    // ---- the shell's side ---------------------------------------------------------------------

    /// What comes of each check: most are right.
    fn verify(&mut self) {
        const VERDICTS: [Verdict; 5] = [
            Verdict::Right,
            Verdict::Right,
            Verdict::WrongPassword,
            Verdict::UnknownUser,
            Verdict::TooMany,
        ];
        for check in std::mem::take(&mut self.asked) {
            // What it has said since its CONNECT is answered now.
            self.peers.iter_mut().flatten().for_each(Peer::is_verified);
            let verdict = VERDICTS[self.checked % VERDICTS.len()];
            self.broker.verified(check, verdict, self.now);
            self.checked += 1;
            self.look();
        }
    }

    fn advance(&mut self, duration: Duration) {
        self.verify();
        let end = self.now + duration;
        for _ in 0..DEADLINES_ON_THE_WAY {
            let due = self.broker.poll_timeout();
            let Some(at) = due.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.tick();
        }
        self.now = end;
        self.settle();
    }

    /// Turns until there is nothing to do now.
    fn settle(&mut self) {
        for turns in 0.. {
            assert!(
                turns < TURNS_MAX,
                "the broker always has something left to do"
            );
            self.tick();
            if self.broker.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
        }
    }

    /// Deadlines, and the end of that turn.
    fn tick(&mut self) {
        self.broker.handle_timeout(self.now);
        self.look();
        self.end_turn();
    }

    fn end_turn(&mut self) {
        self.broker.end_turn(&mut self.turn, self.now);
        self.asked.append(&mut self.turn.verify);
        let Turn { flush, close, .. } = &self.turn;
        for (at, id) in close.iter().enumerate() {
            assert!(!close[..at].contains(id), "a connection is closed twice");
            let open = self.peers.iter().flatten().any(|peer| peer.id == *id);
            assert!(open, "a connection is closed that is not open");
        }
        for slot in &mut self.peers {
            let Some(peer) = slot else { continue };
            let grew = peer.look(&self.broker, &self.rules);
            let closed = close.contains(&peer.id);
            peer.end_turn(grew, flush.contains(&peer.id), closed, &self.rules);
            if closed {
                self.broker.forget(peer.id);
                *slot = None;
            }
        }
        self.broker.check_invariants();
    }

    /// After each verb: reads what the broker has added to what it owes. Not while a turn ends, as
    /// what is closed must be forgotten first.
    fn look(&mut self) {
        self.broker.check_invariants();
        for peer in self.peers.iter_mut().flatten() {
            let grew = peer.look(&self.broker, &self.rules);
            peer.grew_in_turn |= grew;
        }
    }

    /// Everybody reads all there is; then they go, and all that was temporary ends.
    fn finish(&mut self) {
        for rounds in 0.. {
            assert!(rounds < TURNS_MAX, "there is always more to read");
            self.verify();
            self.settle();
            let owed: usize = self.peers.iter().flatten().map(|peer| peer.owed).sum();
            if owed == 0 {
                break;
            }
            for index in 0..CONNECTIONS {
                self.read(index, usize::MAX);
            }
        }
        for peer in self.peers.iter().flatten() {
            self.broker.lost(peer.id, self.now);
        }
        self.settle();
        assert!(
            self.peers.iter().all(Option::is_none),
            "lost and never closed"
        );
        assert_eq!(self.broker.connected(), 0);
        self.advance(DURATIONS[7]);
    }
}

/// Options with limits that a short program can meet.
fn options(input: &mut Input) -> Options {
    let sizes = [input.u8(), input.u8(), input.u8(), input.u8()];
    let (flags, more) = (input.u8(), input.u8());
    let limits = Limits {
        packet_bytes_max: pick(sizes[0], 0, [2_000_000, 30, 200, 5_000]),
        connections_max: pick(sizes[0], 2, [usize::MAX, 1, 2, 3]),
        sessions_max: pick(sizes[0], 4, [100_000, 1, 2, 4]),
        subscriptions_max: pick(sizes[0], 6, [20_000, 1, 2, 5]),
        inflight_messages_max: pick(sizes[1], 0, [20, 1, 2, 40]),
        inflight_bytes_max: pick(sizes[1], 2, [usize::MAX, 1, 60, 400]),
        queued_messages_max: pick(sizes[1], 4, [60, 1, 2, 10]),
        queued_bytes_max: pick(sizes[1], 6, [16 << 20, 1, 60, 400]),
        receive_maximum: pick(sizes[2], 0, [u16::MAX, 1, 2, 10]),
        topic_alias_max: pick(sizes[2], 2, [10, 0, 1, 2]),
        topic_alias_max_broker: pick(sizes[2], 4, [10, 0, 1, 2]),
        retained_messages_max: pick(sizes[2], 6, [1_000_000, 1, 3, 100]),
        retained_bytes_max: pick(sizes[3], 0, [256 << 20, 1, 60, 4_500]),
        outbound_bytes_max: pick(sizes[3], 2, [8 << 20, 1_024, 1_024, 20_000]),
        ..Limits::default()
    };
    Options {
        limits,
        listeners: vec![
            ListenerOptions {
                allow_anonymous: true,
                passwords: more & 0x80 != 0,
                ..ListenerOptions::default()
            },
            ListenerOptions {
                allow_anonymous: flags & 0x80 == 0,
                passwords: more & 0x80 != 0,
                ..ListenerOptions::default()
            },
        ],
        max_qos: pick(
            flags,
            0,
            [
                QoS::ExactlyOnce,
                QoS::AtMostOnce,
                QoS::AtLeastOnce,
                QoS::ExactlyOnce,
            ],
        ),
        retain_available: flags & 4 == 0,
        allow_zero_length_client_id: flags & 8 == 0,
        max_keep_alive: pick(flags, 4, [0, 0, 20, 100]),
        queue_qos0_messages: flags & 0x40 != 0,
        queue_overflow: match more & 1 {
            0 => QueueOverflow::DropNewest,
            _ => QueueOverflow::DropOldest,
        },
        upgrade_outgoing_qos: more & 2 != 0,
        persistent_client_expiration: (more & 4 != 0).then_some(Duration::from_secs(60)),
        sys_interval: pick(more, 3, [None, Some(10), Some(60), None]).map(Duration::from_secs),
        auto_id_prefix: pick(more, 5, ["auto-", "", "é", "x"]).to_string(),
        ..Options::default()
    }
}
