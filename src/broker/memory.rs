//! What goes when the heap reaches `--memory-limit`, in this order:
//!
//! 1. New clients are refused, and so are retained messages that take more room than those they
//!    replace. Clients that have a session may come: they empty its queue, and end the connection
//!    that they had before.
//! 2. QoS 0 is dropped for clients that have not taken what they are owed, and waits for nobody.
//! 3. The oldest messages of the longest queue go, those of QoS 0 before all others; what is on
//!    disk stays.
//! 4. While all of the limit is used, publishers are not read, nor are packets that have begun.
//! 5. When there has been nothing more to drop for a while, the connections that take most end.
//!
//! 1 to 3 go on until a part of the limit has been free for a moment, so that a flood is one
//! episode in the log, not a thousand. Without a limit nobody is asked anything.

use std::time::Instant;

use log::{info, warn};

use super::connection::Phase;
use super::deadlines::{Deadline, Millis, Timer};
use super::limits::Limits;
use super::session::Session;
use super::{Broker, ConnectionId, NOTICE, SessionId};
use crate::packet::{QoS, ReasonCode, Refusal};

/// What is done about it, and how often it was.
#[derive(Debug, Default)]
pub struct Memory {
    /// Steps 1 to 3 are taken.
    pub is_short: bool,
    /// What a client may be owed before QoS 0 messages to it are dropped, and others wait.
    pub owed_max: usize,
    /// More is to be dropped in the next turn.
    pub is_busy: bool,
    /// Nothing more can be done: not reading would last for ever.
    is_given_up: bool,
    /// Since when that part has been free.
    calm_since: Option<Millis>,
    deadline: Deadline,
    /// Whose queues were the longest when they were last looked for, and how many messages of the
    /// last one may go before it is another's turn.
    longest: Vec<SessionId>,
    left: usize,
    /// In this turn.
    looks: usize,
    /// No message of QoS 0 waits for anybody.
    has_no_qos0: bool,
    pub figures: Figures,
    /// Those of the time when it became short.
    before: Figures,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Clients, and messages that were to be retained.
    pub refused: u64,
    pub dropped: u64,
    /// How often a client was not read.
    pub slowed: u64,
    pub disconnected: u64,
}

impl Memory {
    pub fn new(limits: &Limits) -> Memory {
        Memory {
            owed_max: limits.outbound_bytes_max,
            ..Memory::default()
        }
    }
}

impl Broker {
    fn is_full(&self) -> bool {
        (self.options.memory_in_use)() >= self.memory_limit()
    }

    fn memory_limit(&self) -> u64 {
        self.options.limits.memory_bytes_max
    }

    pub(super) fn has_memory_limit(&self) -> bool {
        self.options.limits.memory_bytes_max != u64::MAX
    }

    /// Below that memory is not short any more.
    fn enough(&self) -> u64 {
        let limit = self.memory_limit();
        limit - limit / Limits::MEMORY_FREE_PART
    }

    /// Looks whether memory has become short, or is no longer.
    #[inline]
    pub(super) fn feel(&mut self, now: Millis) {
        if self.has_memory_limit() || self.memory.is_short {
            self.measure(now);
        }
    }

    #[inline(never)]
    fn measure(&mut self, now: Millis) {
        let in_use = (self.options.memory_in_use)();
        self.sys.note_memory(in_use);
        let (is_full, is_calm) = (in_use >= self.memory_limit(), in_use < self.enough());
        match (self.memory.is_short, self.memory.calm_since) {
            (false, _) if is_full => self.memory_is_short(in_use, now),
            (true, None) if is_calm => {
                self.memory.calm_since = Some(now);
                self.watch_memory(now + Limits::MEMORY_CALM);
            }
            (true, Some(since)) if is_calm && now >= since + Limits::MEMORY_CALM => {
                self.memory_suffices(in_use);
            }
            (true, Some(_)) if is_full => self.lose_patience_later(now),
            (_, _) => {}
        }
    }

    fn memory_is_short(&mut self, in_use: u64, now: Millis) {
        let limit = self.memory_limit();
        warn!(
            "Memory is short: {in_use} bytes are in use, {limit} may be (--memory-limit). New \
             clients are refused, messages dropped."
        );
        self.memory.is_short = true;
        self.set_owed_max();
        self.memory.before = self.memory.figures;
        self.lose_patience_later(now);
    }

    fn memory_suffices(&mut self, in_use: u64) {
        let Memory {
            figures, before, ..
        } = self.memory;
        info!(
            target: NOTICE,
            "Memory suffices again: {in_use} bytes are in use. Meanwhile {} clients and retained \
             messages were refused, {} messages dropped, {} clients slowed, {} disconnected.",
            figures.refused - before.refused,
            figures.dropped - before.dropped,
            figures.slowed - before.slowed,
            figures.disconnected - before.disconnected,
        );
        self.deadlines
            .disarm(&mut self.memory.deadline, Timer::Memory);
        self.memory = Memory {
            figures,
            ..Memory::default()
        };
        self.set_owed_max();
    }

    fn lose_patience_later(&mut self, now: Millis) {
        self.memory.calm_since = None;
        self.watch_memory(now + Limits::MEMORY_PATIENCE);
    }

    fn watch_memory(&mut self, at: Millis) {
        self.deadlines
            .arm(&mut self.memory.deadline, at, Timer::Memory);
    }

    // ---- new clients and retained messages --------------------------------------------------

    /// For what would stay.
    pub(super) fn check_memory(&mut self) -> Result<(), Refusal> {
        if !self.memory.is_short {
            return Ok(());
        }
        self.memory.figures.refused += 1;
        let why = "memory is short (--memory-limit)";
        Err(Refusal::new(ReasonCode::QuotaExceeded, why))
    }

    // ---- messages ---------------------------------------------------------------------------

    /// Whenever it may be another: it is asked for with each message.
    pub(super) fn set_owed_max(&mut self) {
        let most = self.options.limits.outbound_bytes_max;
        self.memory.owed_max = match self.memory.is_short {
            false => most,
            true => most.min(Limits::OWED_BYTES_WHEN_SHORT),
        };
    }

    /// A message is about to wait: where there is no room at all, others go for it.
    pub(super) fn make_memory(&mut self) {
        if self.memory.is_short && self.is_full() {
            // Two, as what replaces them may be larger.
            self.drop_oldest_of_longest(2);
        }
    }

    /// At the end of a turn.
    pub(super) fn relieve_memory(&mut self, now: Millis) {
        self.feel(now);
        if !self.memory.is_short {
            return;
        }
        self.memory.looks = 0;
        let mut left = Limits::MEMORY_DROPS;
        while left > 0 && (self.options.memory_in_use)() >= self.enough() {
            match self.drop_oldest_of_longest(1) {
                0 => break,
                dropped => left = left.saturating_sub(dropped),
            }
        }
        self.memory.is_busy = left == 0 || self.memory.looks > Limits::MEMORY_LOOKS;
        self.memory.looks = 0;
        self.feel(now);
    }

    /// Drops `count` messages, or those of QoS 0 of one queue; returns how many.
    fn drop_oldest_of_longest(&mut self, count: usize) -> usize {
        if let Some(dropped) = self.drop_queued_qos0() {
            return dropped;
        }
        let Some(id) = self.longest_queue() else {
            return 0;
        };
        let pending = self.sessions[id].pending_mut();
        let mut dropped = 0;
        while dropped < count && pending.next_queued().is_some() {
            dropped += 1;
        }
        self.memory.left = self.memory.left.saturating_sub(dropped);
        self.note_dropped_for_memory(id, dropped);
        dropped
    }

    /// One of those that were the longest some messages ago, or are now.
    fn longest_queue(&mut self) -> Option<SessionId> {
        while let Some(&id) = self.memory.longest.last() {
            let session = self.sessions.get_mut(id);
            if self.memory.left > 0 && session.is_some_and(|one| one.bytes_to_drop() > 0) {
                return Some(id);
            }
            self.memory.longest.pop();
            self.memory.left = Limits::MEMORY_DROPS_AT_ONCE;
        }
        if !self.may_look() {
            return None;
        }
        let sizes = || {
            let sessions = self.sessions.iter();
            sessions.map(|(id, session)| (id, session.bytes_to_drop()))
        };
        let most = sizes().map(|(_, bytes)| bytes).max().unwrap_or(0);
        // Looking at all of them for each would take long where there are many.
        let long = sizes().filter(|(_, bytes)| *bytes > most / 2);
        let long = long.map(|(id, _)| id).take(Limits::MEMORY_QUEUES_AT_ONCE);
        let long: Vec<SessionId> = long.collect();
        self.memory.longest = long;
        self.memory.left = Limits::MEMORY_DROPS_AT_ONCE;
        self.memory.longest.last().copied()
    }

    /// Looking through all sessions takes its time.
    fn may_look(&mut self) -> bool {
        self.memory.looks += 1;
        self.memory.looks <= Limits::MEMORY_LOOKS
    }

    /// `None` where there are none.
    fn drop_queued_qos0(&mut self) -> Option<usize> {
        if self.memory.has_no_qos0 || !self.may_look() {
            return None;
        }
        let has_qos0 = |session: &Session| {
            session.bytes_to_drop() > 0 && session.pending().has_queued(QoS::AtMostOnce)
        };
        let found = self.sessions.iter().find(|(_, one)| has_qos0(one));
        let found = found.map(|(id, _)| id);
        let Some(id) = found else {
            // None comes, as long as memory is short.
            self.memory.has_no_qos0 = true;
            return None;
        };
        let pending = self.sessions[id].pending_mut();
        let (inflight, mut queue) = pending.take_pending();
        let before = queue.len();
        queue.retain(|delivery| delivery.qos > QoS::AtMostOnce);
        let dropped = before - queue.len();
        pending.put_pending(inflight, queue);
        self.note_dropped_for_memory(id, dropped);
        Some(dropped)
    }

    pub(super) fn note_dropped_for_memory(&mut self, id: SessionId, count: usize) {
        self.memory.figures.dropped += count as u64;
        self.note_dropped(id, count);
    }

    // ---- connections ------------------------------------------------------------------------

    /// Whether the shell is not to read from this connection now: it publishes, or has begun a
    /// packet, and there is no room. That is no silence of its client.
    pub fn holds_back(&mut self, id: ConnectionId, now: Instant) -> bool {
        if !self.has_memory_limit() && !self.connections[id].is_held_back {
            return false;
        }
        let now = self.millis(now);
        self.feel(now);
        let may_read = self.may_read_on();
        let connection = &mut self.connections[id];
        let publishes = connection.has_published || !connection.leftover.is_empty();
        let holds = !may_read && publishes && connection.phase != Phase::Closing;
        match (
            holds,
            std::mem::replace(&mut connection.is_held_back, holds),
        ) {
            (true, false) => self.memory.figures.slowed += 1,
            (false, true) => connection.last_packet = now,
            (true, true) | (false, false) => {}
        }
        holds
    }

    /// Whether those that were not read may be tried again.
    pub fn may_read_on(&self) -> bool {
        !self.memory.is_short || self.memory.is_given_up || !self.is_full()
    }

    /// Memory has been short for a while, and there is nothing more to drop.
    pub(super) fn on_memory_deadline(&mut self, now: Millis) {
        self.memory.deadline = Deadline::default();
        self.feel(now);
        if !self.memory.is_short {
            return;
        }
        if self.memory.calm_since.is_some() {
            return self.lose_patience_later(now);
        }
        let mut missing = (self.options.memory_in_use)().saturating_sub(self.enough());
        let mut ended = 0;
        while missing > 0
            && ended < Limits::MEMORY_DISCONNECTS
            && let Some((id, bytes)) = self.largest_connection()
        {
            let why = "memory is short (--memory-limit), and this client takes most of it";
            self.refuse(id, Refusal::new(ReasonCode::QuotaExceeded, why), now);
            missing = missing.saturating_sub(bytes as u64);
            ended += 1;
        }
        self.memory.figures.disconnected += ended as u64;
        if ended == 0 && !std::mem::replace(&mut self.memory.is_given_up, true) {
            warn!("Memory is short (--memory-limit), and there is nothing more to drop.");
        }
        self.lose_patience_later(now);
    }

    /// That with most bytes that it has not taken, or has not made a packet of.
    fn largest_connection(&self) -> Option<(ConnectionId, usize)> {
        let open = self.connections.iter();
        let open = open.filter(|(_, connection)| connection.phase != Phase::Closing);
        let sizes = open.map(|(id, one)| (id, one.outbound.len() + one.leftover.len()));
        let largest = sizes.max_by_key(|(_, bytes)| *bytes);
        largest.filter(|(_, bytes)| *bytes >= Limits::OWED_BYTES_WHEN_SHORT)
    }
}
