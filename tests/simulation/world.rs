//! The virtual world: a broker, a clock, and networks that cut, delay and lose bytes.
//!
//! Every verb of the broker goes through here; each is followed by `check_invariants`, told to the
//! model, and what the broker produced is shown to the model packet by packet, before the client
//! gets any of it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use midge::broker::limits::Options;
use midge::broker::{Broker, ConnectionId, Turn};
use midge::packet::{self, Packet, Version};

use midge::net::{Commit, Keeper};
use midge::persistence::Persistence;
use midge::record::{Record, records};
use midge::store::{self, Store};

use crate::common::Prng;
use crate::disk::{Faults, TestDisk};
use crate::model::{End, Millis, Model};

/// One connection, from the accepting of the socket to its end.
pub struct Link {
    id: ConnectionId,
    pub version: Version,
    /// Written by the client, not yet with the broker.
    pub to_broker: VecDeque<u8>,
    /// With the client, not yet read by it.
    pub inbox: Vec<u8>,
    /// All that the broker ever produced for it.
    pub produced: Vec<u8>,
    /// Bytes of it that the model has seen.
    checked: usize,
    /// Bytes of it that may leave: what the last turn flushed.
    flushed: usize,
    taken: usize,
    /// The broker has it.
    pub open: bool,
    /// The broker was told that it is gone.
    lost: bool,
}

pub struct World {
    broker: Broker,
    start: Instant,
    pub now: Millis,
    /// All there ever were.
    pub links: Vec<Link>,
    /// Those of them that the broker has.
    open: Vec<usize>,
    /// `None` in a run that is only compared with one that was judged.
    model: Option<Model>,
    /// What the model was asked, in the order of asking: the other run is answered the same.
    pub answers: VecDeque<bool>,
    hard: usize,
    disk: Option<Kept>,
    pub trace: bool,
}

/// A disk below the broker, and the states that may be on it when the power is cut.
struct Kept {
    disk: TestDisk,
    persistence: Option<Persistence<TestDisk>>,
    prng: Prng,
    options: Options,
    /// Turns that have changed something.
    turns: u64,
    /// What the model was at the end of each of those that are not certain to be on the medium,
    /// and of the last one that is.
    states: VecDeque<(u64, Option<Model>)>,
}

/// Stands in each frame, and says of which turn it is. The broker knows no such record.
const MARK: &[u8] = b"turn";
const SEGMENT_BYTES: u32 = 16 << 10;
const SYNC_ERROR: &str = "a disk without faults refuses nothing";

std::thread_local! {
    /// The clock on the wall: some time in 2026, and what has passed since.
    static WALL: Cell<u64> = const { Cell::new(0) };
}

fn wall() -> u64 {
    1_790_000_000_000 + WALL.get()
}

impl World {
    /// `answers` are those that were given in the run to compare this one with, if it is not the
    /// first.
    pub fn new(options: Options, answers: Option<VecDeque<bool>>, trace: bool) -> World {
        let start = Instant::now();
        World {
            hard: options.limits.outbound_bytes_hard(),
            model: answers.is_none().then(|| Model::new(options.clone())),
            answers: answers.unwrap_or_default(),
            broker: Broker::new(options, start),
            start,
            now: 0,
            links: Vec::new(),
            open: Vec::new(),
            disk: None,
            trace,
        }
    }

    /// The broker keeps what must survive, and `seed` says how the power is cut.
    pub fn keep(&mut self, options: Options, seed: u64) {
        let disk = TestDisk::new();
        self.disk = Some(Kept {
            disk,
            persistence: None,
            prng: Prng::new(seed),
            options,
            turns: 0,
            states: VecDeque::new(),
        });
        self.start();
    }

    pub fn is_kept(&self) -> bool {
        self.disk.is_some()
    }

    // ---- power ------------------------------------------------------------------------------

    /// The power is cut: now, or while something is written soon.
    pub fn cut(&mut self, within_verbs: Option<usize>) {
        let Some(kept) = &mut self.disk else {
            return;
        };
        if let Some(cut) = within_verbs {
            return kept.disk.set_faults(Faults {
                cut: Some(cut),
                ..Faults::default()
            });
        }
        self.restart();
    }

    /// The power stays on from now on.
    pub fn secure(&mut self) {
        if let Some(kept) = &self.disk {
            kept.disk.set_faults(Faults::default());
        }
    }

    /// What is not on the medium is gone; the power comes back some time later.
    fn restart(&mut self) {
        for link in std::mem::take(&mut self.open) {
            let link = &mut self.links[link];
            (link.open, link.lost) = (false, true);
            link.to_broker.clear();
        }
        if let Some(kept) = &mut self.disk {
            kept.persistence = None;
            kept.disk.power_on(&mut kept.prng);
            self.now += *kept.prng.pick(&[0, 10, 3_000, 90_000]);
        }
        self.trace(|| "    the power is cut".to_string());
        self.start();
        self.turn();
    }

    /// Starts a broker on what the disk has; the power may be cut meanwhile, too.
    fn start(&mut self) {
        WALL.set(self.now);
        let instant = self.instant();
        let Some(kept) = &mut self.disk else {
            return;
        };
        let options = store::Options {
            segment_bytes: SEGMENT_BYTES,
            nonce: kept.prng.next(),
        };
        let is_first = kept.persistence.is_none() && kept.states.is_empty();
        let is_cut_again = !is_first && kept.prng.chance(20);
        let cut = is_cut_again.then(|| kept.prng.below(12));
        kept.disk.set_faults(Faults {
            cut,
            ..Faults::default()
        });
        let persistence = loop {
            let mut broker = Broker::new(kept.options.clone(), instant);
            let disk = kept.disk.clone();
            match Persistence::open(disk, &options, &mut broker, wall, instant) {
                Ok(persistence) => {
                    self.broker = broker;
                    break persistence;
                }
                Err(error) => assert!(kept.disk.is_off(), "{error}"),
            }
            kept.disk.power_on(&mut kept.prng);
        };
        kept.disk.set_faults(Faults::default());
        kept.persistence = Some(persistence);
        let turn = last_turn(&kept.disk, &options);
        let now = self.now;
        if is_first {
            kept.states.push_back((0, self.model.clone()));
        }
        let state = kept.states.iter().find(|(number, _)| *number == turn);
        let (_, state) = state.expect("what was certain to be on the medium is not");
        if let Some(mut model) = state.clone() {
            model.is_blind |= self.model.as_ref().is_some_and(|model| model.is_blind);
            model.resume(self.model.take());
            if !is_first {
                model.crash(now);
            }
            self.model = Some(model);
        }
        kept.turns = turn;
        kept.states = VecDeque::from([(turn, self.model.clone())]);
        self.check_invariants();
    }

    /// Makes a turn durable; `false` if the power was cut.
    fn commit(&mut self, turn: &mut Turn) -> bool {
        WALL.set(self.now);
        let now = self.instant();
        let Some(kept) = &mut self.disk else {
            return true;
        };
        if !turn.records.is_empty() {
            for (_, record) in records(turn.records.bytes()).filter(|_| self.trace) {
                println!("{:>8}         {}", self.now, brief_record(&record));
            }
            kept.turns += 1;
            turn.records.put(MARK, &kept.turns.to_be_bytes());
            kept.states.push_back((kept.turns, self.model.clone()));
        }
        let persistence = kept.persistence.as_mut().expect("it was opened");
        let commit = persistence.commit(&mut self.broker, turn, now);
        if kept.disk.is_off() {
            self.restart();
            return false;
        }
        assert_eq!(commit, Commit::Done, "{SYNC_ERROR}");
        if turn.durable_within == Some(0) {
            let last = kept.turns;
            kept.states.retain(|(number, _)| *number >= last);
        }
        true
    }

    // ---- verbs ------------------------------------------------------------------------------

    pub fn open(&mut self, version: Version) -> usize {
        let link = self.links.len();
        let peer = SocketAddr::from(([192, 0, 2, 1], link as u16));
        let id = self.broker.open(0, peer, self.instant());
        self.links.push(Link {
            id,
            version,
            to_broker: VecDeque::new(),
            inbox: Vec::new(),
            produced: Vec::new(),
            checked: 0,
            flushed: 0,
            taken: 0,
            open: true,
            lost: false,
        });
        self.open.push(link);
        self.judge(|model| model.opened(link));
        self.after_verb();
        link
    }

    /// The client writes; nothing has arrived yet.
    pub fn write(&mut self, link: usize, packet: &Packet) {
        let mut bytes = Vec::new();
        packet.encode(self.links[link].version, &mut bytes);
        self.trace(|| format!("    {link} writes {}", brief(packet)));
        self.links[link].to_broker.extend(bytes);
    }

    /// `count` of the bytes that the client wrote arrive at the broker.
    pub fn deliver(&mut self, link: usize, count: usize) {
        let one = &mut self.links[link];
        let bytes: Vec<u8> = one.to_broker.drain(..count).collect();
        if !one.open || one.lost || bytes.is_empty() {
            return;
        }
        let id = one.id;
        self.trace(|| format!("    {link} delivers {count} bytes"));
        self.broker.receive(id, &bytes, self.instant());
        self.judge(|model| model.received(link, &bytes));
        self.after_verb();
    }

    /// The network is gone, with all that was under way.
    pub fn lose(&mut self, link: usize) {
        if !self.links[link].open || self.links[link].lost {
            return;
        }
        self.trace(|| format!("    {link} is lost"));
        self.links[link].lost = true;
        self.links[link].to_broker.clear();
        self.broker.lost(self.links[link].id, self.instant());
        self.judge(|model| model.close(link, End::WithWill));
        self.after_verb();
    }

    /// The client's end takes `count` bytes.
    pub fn take(&mut self, link: usize, count: usize) {
        let one = &mut self.links[link];
        let bytes = one.produced[one.taken..one.taken + count].to_vec();
        one.taken += count;
        one.inbox.extend(bytes);
        if one.open && count > 0 {
            self.broker.sent(one.id, count);
            self.after_verb();
        }
    }

    /// Bytes that are ready to be taken by the client's end.
    pub fn ready(&self, link: usize) -> usize {
        self.links[link].flushed - self.links[link].taken
    }

    /// Ends turns until the broker has nothing left to do now.
    pub fn turn(&mut self) {
        self.end_turn();
        for turns in 0.. {
            assert!(turns < 10_000, "the broker always has something left to do");
            let due = self.broker.poll_timeout();
            if due.is_none_or(|at| at > self.instant()) {
                return;
            }
            self.tick();
        }
    }

    /// Time passes, and each deadline is kept.
    pub fn pass(&mut self, duration: Millis) {
        let end = self.now + duration;
        loop {
            let due = self.broker.poll_timeout();
            let due = due.map(|at| {
                let since = at.saturating_duration_since(self.start);
                since.as_nanos().div_ceil(1_000_000) as Millis
            });
            let Some(at) = due.filter(|at| *at <= end) else {
                break;
            };
            self.set_now(self.now.max(at));
            self.tick();
        }
        // A power cut may have taken longer.
        self.set_now(self.now.max(end));
    }

    /// Time jumps, as for a machine that slept: deadlines are noticed late, and together. Not where
    /// a connection could end in it, as the model could not tell in which order.
    pub fn jump(&mut self, duration: Millis) {
        let end = self.now + duration;
        if self.ask(|model| model.silence_could_end_by(end)) {
            return self.pass(duration);
        }
        self.set_now(self.now + duration);
        self.tick();
        self.turn();
    }

    fn set_now(&mut self, now: Millis) {
        self.now = now;
        self.judge(|model| model.now = now);
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    /// Deadlines, and the end of that turn.
    fn tick(&mut self) {
        self.broker.handle_timeout(self.instant());
        self.check_invariants();
        let turn = self.broker_end_turn();
        self.after_turn(turn, true);
        self.judge(|model| model.check_silence());
    }

    fn end_turn(&mut self) {
        let turn = self.broker_end_turn();
        self.after_turn(turn, false);
    }

    fn broker_end_turn(&mut self) -> Turn {
        let mut turn = Turn::default();
        self.broker.end_turn(&mut turn, self.instant());
        turn
    }

    /// `timed_out`: the turn began with the deadlines.
    fn after_turn(&mut self, turn: Turn, timed_out: bool) {
        let mut closed = Vec::new();
        let mut overfull = Vec::new();
        for id in &turn.close {
            let link = self.open.iter().find(|link| self.links[**link].id == *id);
            let link = *link.expect("the broker closes what was closed");
            assert!(!closed.contains(&link), "closed twice");
            closed.push(link);
            let owed = self.owed(link);
            let hard = self.hard;
            self.judge(|model| {
                if model.is_closed(link) {
                    return;
                }
                if timed_out && model.may_be_closed_for_silence(link) {
                    return model.close(link, End::WithWill);
                }
                assert!(owed > hard, "link {link} was closed without a reason");
                overfull.push(link);
            });
        }
        self.judge(|model| {
            if timed_out {
                model.time_passed();
            }
            for link in overfull {
                model.close(link, End::WithWill);
            }
        });
        // Not the invariants: what was closed is not forgotten yet.
        self.check_output();
        let mut turn = turn;
        if !self.commit(&mut turn) {
            return;
        }
        for &link in &self.open {
            let one = &mut self.links[link];
            let grew = one.flushed < one.produced.len();
            assert!(
                !grew || turn.flush.contains(&one.id),
                "link {link} is owed bytes and not in the flush list"
            );
            one.flushed = one.produced.len();
            if let Some(model) = &self.model {
                assert!(
                    model.is_closed(link) == closed.contains(&link),
                    "link {link} was not closed"
                );
            }
        }
        for link in closed {
            self.trace(|| format!("    {link} is closed"));
            self.broker.forget(self.links[link].id);
            self.links[link].open = false;
            self.open.retain(|open| *open != link);
        }
        self.check_invariants();
    }

    // ---- looking on -------------------------------------------------------------------------

    fn owed(&self, link: usize) -> usize {
        let mut slices = [IoSlice::new(&[]); 512];
        let used = self.broker.outbound(self.links[link].id, &mut slices);
        slices[..used].iter().map(|slice| slice.len()).sum()
    }

    fn judge(&mut self, with: impl FnOnce(&mut Model)) {
        if let Some(model) = &mut self.model {
            with(model);
        }
    }

    /// Asks the model, or is told what it said in the run before.
    pub fn ask(&mut self, question: impl FnOnce(&Model) -> bool) -> bool {
        let Some(model) = &self.model else {
            return self.answers.pop_front().unwrap_or(false);
        };
        let answer = question(model);
        self.answers.push_back(answer);
        answer
    }

    /// Everybody has read and acknowledged everything.
    pub fn check_drained(&mut self) {
        self.judge(|model| model.check_drained());
    }

    fn check_invariants(&self) {
        if self.model.is_some() {
            self.broker.check_invariants();
        }
    }

    /// Shows the model what a verb has produced.
    fn after_verb(&mut self) {
        self.check_invariants();
        self.check_output();
    }

    fn check_output(&mut self) {
        let mut owed = vec![0; self.links.len()];
        for at in 0..self.open.len() {
            let link = self.open[at];
            owed[link] = self.copy_new(link);
            self.check_new(link);
        }
        self.judge(|model| model.verb_is_over(&owed));
    }

    /// Copies what is new of the bytes owed; returns how many are owed.
    fn copy_new(&mut self, link: usize) -> usize {
        let one = &mut self.links[link];
        let mut few = [IoSlice::new(&[]); 8];
        let mut many;
        let mut slices = &mut few[..];
        let mut used = self.broker.outbound(one.id, slices);
        if used == slices.len() {
            many = [IoSlice::new(&[]); 512];
            slices = &mut many[..];
            used = self.broker.outbound(one.id, slices);
            assert!(used < slices.len());
        }
        let owed: usize = slices[..used].iter().map(|slice| slice.len()).sum();
        let known = one.produced.len() - one.taken;
        assert!(owed >= known, "bytes owed have vanished");
        let mut skip = known;
        for slice in &slices[..used] {
            let from = skip.min(slice.len());
            one.produced.extend_from_slice(&slice[from..]);
            skip -= from;
        }
        owed
    }

    fn check_new(&mut self, link: usize) {
        let Some(mut model) = self.model.take() else {
            return;
        };
        let one = &self.links[link];
        let bytes = one.produced[one.checked..].to_vec();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let decoded = packet::decode(rest, self.links[link].version, usize::MAX);
            let (packet, length) = decoded
                .expect("the broker sends well-formed packets")
                .expect("the broker sends whole packets");
            self.trace(|| format!("        -> {link} {}", brief(&packet)));
            model.sent(link, &packet, length);
            rest = &rest[length..];
        }
        self.links[link].checked += bytes.len();
        self.model = Some(model);
    }

    /// All bytes that each connection was sent, and what the model was asked.
    pub fn outcome(self) -> (Vec<Vec<u8>>, VecDeque<bool>) {
        let produced = self.links.into_iter().map(|link| link.produced);
        (produced.collect(), self.answers)
    }

    pub fn trace(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>8} {}", self.now, text());
        }
    }
}

/// The turn whose frame is the last on the disk.
fn last_turn(disk: &TestDisk, options: &store::Options) -> u64 {
    let mut turn = 0;
    let found = |key: &[u8], value: &[u8]| {
        if key == MARK {
            turn = u64::from_be_bytes(value.try_into().expect("a number"));
        }
    };
    Store::open(disk.copy(), options, found).expect("it was opened before");
    turn
}

/// A record as the trace prints it.
fn brief_record(record: &Record) -> String {
    match record {
        Record::Put { key, value } => {
            let value = &value[..value.len().min(60)];
            format!("put {} = {}", key.escape_ascii(), value.escape_ascii())
        }
        Record::Delete { key } => format!("delete {}", key.escape_ascii()),
        Record::Message { refs, body } => {
            let places: Vec<_> = refs.clone().map(|one| (one.queue, one.sequence)).collect();
            let body = &body[..body.len().min(60)];
            format!("message {} in {places:?}", body.escape_ascii())
        }
        Record::Done { queue, sequence } => format!("done {:?}", (queue, sequence)),
        Record::Drop { queue } => format!("drop {queue}"),
    }
}

/// A packet as the trace prints it.
fn brief(packet: &Packet) -> String {
    let Packet::Publish(publish) = packet else {
        return format!("{packet:?}");
    };
    let payload = String::from_utf8_lossy(publish.payload);
    format!(
        "PUBLISH {:?} {:?} to {:?} id {:?} retain {} dup {} {:?}",
        payload.trim_end_matches('.'),
        publish.qos,
        publish.topic,
        publish.packet_id,
        publish.retain,
        publish.dup,
        publish.properties.as_bytes(),
    )
}
