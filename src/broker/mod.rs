//! The broker as a state machine: bytes and `now` in, bytes and the next deadline out.
//!
//! It knows no socket, clock, file or source of chance; whoever drives it brings them (`net` for
//! sockets, tests for a virtual world). A turn: any number of [`Broker::open`],
//! [`Broker::receive`], [`Broker::sent`] and [`Broker::lost`], then [`Broker::handle_timeout`] and
//! [`Broker::end_turn`], which names the connections to write to and those to close. Nothing is
//! closed or freed before.
//!
//! This file has the verbs; `receive.rs` has the way from bytes to packets. What packets do is in
//! `connect.rs`, `publish.rs`, `subscribe.rs` and `ending.rs`, how messages reach clients in
//! `deliver.rs`, `waiting.rs` and `pump.rs`, who may do what in `access.rs` and `authority.rs`,
//! what survives a stop in `journal.rs` and `restore.rs`, how passwords are asked for in
//! `verify.rs`, what topics are called in `mount.rs`, who keeps an id that two have in
//! `takeover.rs`, what a session that goes on leaves behind in `review.rs`, what goes when there is
//! no memory left in `memory.rs`.

mod access;
pub mod acl;
pub mod acl_file;
pub mod acl_lines;
mod aliases;
mod authority;
mod change;
mod connect;
mod connection;
mod deadlines;
mod decisions;
mod deliver;
mod delivery;
mod draft;
mod ending;
mod entrance;
pub mod explain;
mod groups;
mod handover;
mod hash;
mod invariants;
pub mod journal;
mod kept;
pub mod limits;
mod lines;
mod lookup;
mod memory;
mod message;
mod mount;
mod outbound;
mod peer;
mod pending;
mod printable;
mod publish;
mod pump;
mod queue;
mod receive;
mod received;
mod replays;
pub mod restore;
mod retained;
mod review;
mod session;
mod sessions;
mod shapes;
mod shelf;
pub mod storage;
mod subscribe;
mod subscribers;
pub mod subscriptions;
mod sys;
mod takeover;
mod template;
mod text;
pub mod tree;
mod verify;
mod waiting;

use std::io::IoSlice;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::packet::{ReasonCode, Refusal};
use crate::record::Batch;
use authority::Authority;
use connection::{Connections, Phase};
use deadlines::{Deadline, Deadlines, Millis, Timer};
use deliver::Scratch;
use ending::End;
pub use hash::Seeded;
use journal::Journal;
use limits::{Limits, Options};
use memory::Memory;
use mount::Mounts;
pub use peer::Peer;
use printable::Printable;
use retained::Retained;
use sessions::Sessions;
use storage::Fetch;
use subscriptions::Subscriptions;
use sys::Sys;
use takeover::Takeovers;
use verify::Checks;
pub use verify::{Check, Credentials, Verdict};

/// Log target of what Mosquitto calls notices.
const NOTICE: &str = "notice";

/// A Network Connection: its slot, the same in the broker and in the shell that owns the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

impl ConnectionId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A Session: its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u32);

impl SessionId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a turn asks of the shell: first to write, then to close.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be kept before anything is sent.
    pub records: Batch,
    /// How soon they must be on the medium, in milliseconds; 0: before anything is sent.
    pub durable_within: Option<Millis>,
    /// Messages to bring from where they are kept, see [`Broker::fetched`].
    pub fetch: Vec<Fetch>,
    /// Passwords to check, see [`Broker::credentials`].
    pub verify: Vec<Check>,
    /// Something was added to what these are owed.
    pub flush: Vec<ConnectionId>,
    /// To be closed once what they are owed has been written, or could not be: one attempt. Then
    /// [`Broker::forget`] them.
    pub close: Vec<ConnectionId>,
}

/// The server's whole state.
#[derive(Debug)]
pub struct Broker {
    options: Options,
    /// The limits, what was restored where that is beyond them, and what they were before they
    /// were lowered: up to there nobody is disturbed.
    stretched: Limits,
    started: Instant,
    /// What the broker's clock said then.
    started_at: Millis,
    hash: Seeded,
    authority: Authority,
    connections: Connections,
    sessions: Sessions,
    subscriptions: Subscriptions,
    retained: Retained,
    sweep_deadline: Deadline,
    deadlines: Deadlines,
    sys: Sys,
    /// Clients connected now.
    connected: usize,
    /// Those of each listener.
    connected_through: Vec<usize>,
    /// Too many peers have sent no CONNECT, which was logged.
    crowded: bool,
    /// Assigned client ids so far.
    assigned: u64,
    /// Sessions that can be sent more in this turn.
    refill: Vec<SessionId>,
    fetch: Vec<Fetch>,
    checks: Checks,
    takeovers: Takeovers,
    memory: Memory,
    journal: Journal,
    scratch: Scratch,
}

impl Broker {
    pub fn new(options: Options, now: Instant) -> Broker {
        let hash = Seeded::new(options.seed);
        let names = options.listeners.iter().map(|one| one.name.clone());
        let journal = Journal::new(options.durability.clone(), names.collect());
        let mounts = options.listeners.iter().map(|one| one.mount_point.clone());
        let mounts = Mounts::new(mounts);
        Broker {
            connected_through: vec![0; options.listeners.len()],
            stretched: options.limits.clone(),
            authority: Authority::new(hash, options.check_retain_source),
            memory: Memory::new(&options.limits),
            options,
            started: now,
            started_at: 0,
            hash,
            connections: Connections::new(mounts),
            sessions: Sessions::new(hash),
            subscriptions: Subscriptions::new(hash),
            retained: Retained::default(),
            sweep_deadline: Deadline::default(),
            deadlines: Deadlines::default(),
            sys: Sys::new(),
            connected: 0,
            crowded: false,
            assigned: 0,
            refill: Vec::new(),
            fetch: Vec::new(),
            checks: Checks::default(),
            takeovers: Takeovers::default(),
            journal,
            scratch: Scratch::default(),
        }
    }

    /// A socket was accepted by the listener of that index; `peer` is at its other end.
    pub fn open(&mut self, listener: usize, peer: impl Into<Peer>, now: Instant) -> ConnectionId {
        let now = self.millis(now);
        self.connections.counters.sockets += 1;
        let id = self.connections.open(listener, peer.into(), now);
        let deadline = &mut self.connections[id].deadline;
        self.deadlines.arm(
            deadline,
            now + Limits::CONNECT_WITHIN,
            Timer::Connection(id),
        );
        // Those who are slow to say who they are must not keep the others out.
        match self.connections.one_too_many() {
            None => self.crowded = false,
            Some(oldest) => {
                if !std::mem::replace(&mut self.crowded, true) {
                    warn!("Too many peers have sent no CONNECT: the oldest are closed.");
                }
                self.connections.counters.refused += 1;
                self.end_connection(oldest, End::Lost, now);
            }
        }
        id
    }

    /// The peer is gone, without a DISCONNECT.
    pub fn lost(&mut self, id: ConnectionId, now: Instant) {
        let now = self.millis(now);
        self.end_connection(id, End::Lost, now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Of the time that has passed, only whole milliseconds count: nothing is due too early.
        let passed = now.saturating_duration_since(self.started).as_millis() as Millis;
        let passed = self.started_at + passed;
        let now = self.millis(now);
        while let Some(timer) = self.deadlines.pop_due(passed) {
            match timer {
                Timer::Connection(id) => self.on_connection_deadline(id, now),
                Timer::SessionExpiry(id) => {
                    self.sessions[id].expiry_deadline = Deadline::default();
                    self.connections.counters.expired += 1;
                    let client_id = Printable(&self.sessions[id].client_id);
                    info!(client:% = client_id; "Expiring client {client_id}.");
                    self.end_session(id, now);
                }
                Timer::WillDelay(id) => {
                    self.sessions[id].will_deadline = Deadline::default();
                    self.publish_will(id, now);
                }
                Timer::RetainedSweep => self.sweep_retained(now),
                Timer::Sys => self.on_sys_interval(now),
                Timer::Memory => self.on_memory_deadline(now),
            }
        }
    }

    /// When to call [`Broker::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle = self.refill.is_empty()
            && self.connections.flush.is_empty()
            && self.connections.close.is_empty()
            && self.checks.is_idle()
            && self.journal.is_empty()
            && !self.sys.is_alarm_due
            && !self.memory.is_busy;
        match idle {
            true => {
                let next = self.deadlines.next()?.saturating_sub(self.started_at);
                Some(self.started + Duration::from_millis(next))
            }
            // There is work to go on with at once.
            false => Some(self.started),
        }
    }

    /// Ends the turn and fills in what it asks for.
    pub fn end_turn(&mut self, turn: &mut Turn, now: Instant) {
        let now = self.millis(now);
        self.publish_alarm(now);
        self.relieve_memory(now);
        let empty = std::mem::take(&mut self.scratch.refill);
        let mut refill = std::mem::replace(&mut self.refill, empty);
        for id in refill.drain(..) {
            if let Some(session) = self.sessions.get_mut(id) {
                session.in_refill = false;
                match std::mem::take(&mut session.is_stuck) {
                    true => self.send_away(id, now),
                    false => self.pump(id, now),
                }
            }
        }
        self.scratch.refill = refill;
        // Where that was lowered, who is owed more may go on.
        let hard = self.stretched.outbound_bytes_hard();
        for index in 0..self.connections.flush.len() {
            let id = self.connections.flush[index];
            if self.connections[id].outbound.len() > hard {
                let why = "the client does not read what it is sent";
                self.refuse(id, Refusal::new(ReasonCode::QuotaExceeded, why), now);
            }
        }
        self.connections.end_turn(&mut turn.flush, &mut turn.close);
        turn.durable_within = self.journal.end_turn(&mut turn.records);
        turn.fetch.clear();
        std::mem::swap(&mut turn.fetch, &mut self.fetch);
        self.take_checks(&mut turn.verify);
    }

    /// Fills `slices` with what `id` is owed, as far as they go, and returns how many it took.
    pub fn outbound<'a>(&'a self, id: ConnectionId, slices: &mut [IoSlice<'a>]) -> usize {
        self.connections[id].outbound.slices(slices)
    }

    /// The socket took `count` bytes of what `id` is owed.
    pub fn sent(&mut self, id: ConnectionId, count: usize) {
        self.connections.advance(id, count);
        let connection = &self.connections[id];
        let Some(session_id) = connection.session() else {
            return;
        };
        let is_empty = connection.outbound.is_empty();
        let has_room = connection.has_room_for_backlog(self.memory.owed_max);
        let session = &mut self.sessions[session_id];
        if !session.has_more() {
            if is_empty {
                session.all_taken();
            }
        } else if has_room {
            self.refill(session_id);
        }
    }

    /// Whether it was the server that condemned this connection: its peer may have a reason to
    /// read.
    pub fn was_refused(&self, id: ConnectionId) -> bool {
        self.connections[id].refused
    }

    /// The socket of a condemned connection is closed: its slot is free. Call only at the end of a
    /// turn.
    pub fn forget(&mut self, id: ConnectionId) {
        let connection = self.connections.remove(id);
        assert!(
            connection.phase == Phase::Closing,
            "a connection was forgotten before it ended"
        );
    }

    /// The server stops: Wills are published, but for those whose delay goes on when it is back;
    /// everybody is told, every connection ends.
    pub fn stop(&mut self, now: Instant) {
        let now = self.millis(now);
        let sessions = self.sessions.iter().filter(|(_, one)| !one.keeps_will());
        let sessions: Vec<_> = sessions.map(|(id, _)| id).collect();
        for session in sessions {
            self.publish_will(session, now);
        }
        let ids: Vec<_> = self.connections.iter().map(|(id, _)| id).collect();
        for id in ids {
            // A CONNACK has no such reason.
            let code = match self.connections[id].phase {
                Phase::AwaitVerdict(_) => ReasonCode::ServerUnavailable,
                Phase::AwaitConnect | Phase::Connected(_) | Phase::Closing => {
                    ReasonCode::ServerShuttingDown
                }
            };
            self.refuse(id, Refusal::new(code, "the server is shutting down"), now);
        }
    }

    /// Clients connected now.
    pub fn connected(&self) -> usize {
        self.connected
    }

    /// What is called now, rounded up.
    fn millis(&self, now: Instant) -> Millis {
        let since = now.saturating_duration_since(self.started);
        self.started_at
            + since.as_secs() * 1_000
            + u64::from(since.subsec_nanos().div_ceil(1_000_000))
    }

    fn is_closing(&self, id: ConnectionId) -> bool {
        self.connections[id].phase == Phase::Closing
    }
}
