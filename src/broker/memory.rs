//! What goes when the heap reaches `--memory-limit`, in this order:
//!
//! 1. New clients are refused while only a part of the limit is left. So are, even before, retained
//!    messages that take more room than those they replace: nothing that stays is to take what new
//!    clients need. Clients that have a session may come: they empty its queue, and end the
//!    connection that they had before.
//! 2. QoS 0 is dropped for clients that have not taken what they are owed, and waits for nobody.
//! 3. The oldest messages of the longest queue go, those of QoS 0 before all others. What is on
//!    disk stays, but its places in memory may not take that part either: without others to drop,
//!    nothing new waits there.
//! 4. While all of the limit is used, publishers are not read, nor are packets that have begun.
//! 5. When there has been nothing more to drop for a while, the connections that take most end.
//!
//! In 3 so much goes that the part is free again; all that ends when the limit has not been reached
//! for a moment. In a flood it is reached again at once: only what lasts is an end in the log.
//! Without a limit nobody is asked anything.

use std::time::Instant;

use log::{info, warn};

use super::connection::{Connection, Phase};
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
    /// Since when the limit has not been reached.
    calm_since: Option<Millis>,
    /// When connections are to end that take most, as dropping has not made enough room.
    impatient_at: Millis,
    /// In this turn something was refused or dropped so that new clients have room.
    has_saved: bool,
    /// The log says that it is short, and not yet that it is over; and that nothing can be done.
    is_told: bool,
    is_told_to_be_hopeless: bool,
    deadline: Deadline,
    /// Whose queues were the longest when they were last looked for, and how many messages of the
    /// last one may go before it is another's turn.
    longest: Vec<SessionId>,
    left: usize,
    /// In this turn.
    looks: usize,
    /// Nobody has a queue to drop from, as far as was found in this turn.
    has_no_queue: bool,
    /// No message of QoS 0 waits for anybody, and none comes as long as it is short.
    has_no_qos0: bool,
    pub figures: Figures,
    /// Those of the end of the turn before the log said so.
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

    /// What goes, goes until no more than that is in use; what stays may not pass it.
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
        let is_full = in_use >= self.memory_limit();
        if in_use < self.enough() {
            self.memory.impatient_at = now + Limits::MEMORY_PATIENCE;
        }
        match (self.memory.is_short, self.memory.calm_since) {
            (false, _) if is_full => self.memory_is_short(now),
            (true, None) if !is_full => {
                self.memory.is_given_up = false;
                self.memory.calm_since = Some(now);
                self.watch_memory(now + Limits::MEMORY_CALM);
            }
            (true, Some(since)) if !is_full && now >= since + Limits::MEMORY_CALM => {
                self.memory_suffices(now);
            }
            (true, Some(_)) if is_full => {
                self.memory.calm_since = None;
                self.watch_memory(self.memory.impatient_at.max(now + 1));
            }
            (_, _) => {}
        }
    }

    fn memory_is_short(&mut self, now: Millis) {
        self.memory.is_short = true;
        self.memory.has_no_qos0 = false;
        self.set_owed_max();
        self.lose_patience_later(now);
        self.tell("New clients are refused, messages dropped");
    }

    /// Once, until it is over.
    fn tell(&mut self, what_is_done: &str) {
        if std::mem::replace(&mut self.memory.is_told, true) {
            return;
        }
        let (in_use, limit) = ((self.options.memory_in_use)(), self.memory_limit());
        warn!(
            "Memory is short: {in_use} bytes are in use, {limit} may be (--memory-limit). \
             {what_is_done}."
        );
    }

    fn memory_suffices(&mut self, now: Millis) {
        self.memory.is_short = false;
        self.memory.is_given_up = false;
        self.memory.calm_since = None;
        self.memory.longest = Vec::new();
        self.set_owed_max();
        self.watch_memory(now + Limits::MEMORY_QUIET);
    }

    fn tell_that_it_is_over(&mut self, now: Millis) {
        if self.has_enough() {
            return self.watch_memory(now + Limits::MEMORY_QUIET);
        }
        let in_use = (self.options.memory_in_use)();
        let Memory {
            figures, before, ..
        } = self.memory;
        self.memory.is_told = false;
        self.memory.is_told_to_be_hopeless = false;
        info!(
            target: NOTICE,
            "Memory suffices again: {in_use} bytes are in use. Meanwhile {} clients and retained \
             messages were refused, {} messages dropped, {} clients slowed, {} disconnected.",
            figures.refused - before.refused,
            figures.dropped - before.dropped,
            figures.slowed - before.slowed,
            figures.disconnected - before.disconnected,
        );
    }

    fn lose_patience_later(&mut self, now: Millis) {
        self.memory.impatient_at = now + Limits::MEMORY_PATIENCE;
        self.watch_memory(self.memory.impatient_at);
    }

    fn watch_memory(&mut self, at: Millis) {
        self.deadlines
            .arm(&mut self.memory.deadline, at, Timer::Memory);
    }

    // ---- new clients and retained messages --------------------------------------------------

    /// For a new client.
    pub(super) fn check_memory(&mut self) -> Result<(), Refusal> {
        match self.memory.is_short && self.has_enough() {
            true => Err(self.refuse_for_memory()),
            false => Ok(()),
        }
    }

    /// Whether nothing more may stay.
    pub(super) fn has_enough(&self) -> bool {
        self.has_memory_limit() && (self.options.memory_in_use)() >= self.enough()
    }

    pub(super) fn refuse_for_memory(&mut self) -> Refusal {
        self.memory.figures.refused += 1;
        self.memory.has_saved = true;
        let why = "memory is short (--memory-limit)";
        Refusal::new(ReasonCode::QuotaExceeded, why)
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

    /// A message is about to wait, and `stays` if it does so on disk: where there is no room,
    /// others go for it. Returns whether it may.
    pub(super) fn make_memory(&mut self, stays: bool, qos: QoS) -> bool {
        if !stays || !self.has_enough() {
            if self.memory.is_short && self.is_full() {
                // Two, as what replaces them may be larger.
                self.drop_oldest_of_longest(2);
            }
            return true;
        }
        let has_made = match qos {
            QoS::AtMostOnce => self.drop_queued_qos0().is_some(),
            QoS::AtLeastOnce | QoS::ExactlyOnce => self.drop_oldest_of_longest(2) > 0,
        };
        self.memory.has_saved |= !has_made;
        has_made
    }

    /// At the end of a turn.
    pub(super) fn relieve_memory(&mut self, now: Millis) {
        self.feel(now);
        self.memory.looks = 0;
        self.memory.has_no_queue = false;
        if std::mem::take(&mut self.memory.has_saved) && !self.memory.is_short {
            self.tell("Nothing more is retained, nor kept for clients that are away");
            self.watch_memory(now + Limits::MEMORY_QUIET);
        }
        if !self.memory.is_told {
            self.memory.before = self.memory.figures;
        }
        if !self.memory.is_short {
            self.memory.has_no_qos0 = false;
            self.memory.is_busy = false;
            return;
        }
        let mut left = Limits::MEMORY_DROPS;
        while left > 0 && (self.options.memory_in_use)() >= self.enough() {
            match self.drop_oldest_of_longest(1) {
                0 => break,
                dropped => left = left.saturating_sub(dropped),
            }
        }
        self.memory.is_busy = left == 0 || self.memory.looks > Limits::MEMORY_LOOKS;
        self.memory.looks = 0;
        self.memory.has_no_queue = false;
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
        if self.memory.has_no_queue || !self.may_look() {
            return None;
        }
        let sizes = || {
            let sessions = self.sessions.iter();
            sessions.map(|(id, session)| (id, session.bytes_to_drop()))
        };
        let most = sizes().map(|(_, bytes)| bytes).max().unwrap_or(0);
        self.memory.has_no_queue = most == 0;
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
        if self.memory.is_given_up && self.owes_much_of_a_packet(id) && self.is_full() {
            self.disconnect_for_memory(id, now);
            return false;
        }
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

    /// Memory has been short for a while, and there is nothing more to drop; or it has sufficed.
    pub(super) fn on_memory_deadline(&mut self, now: Millis) {
        self.memory.deadline = Deadline::default();
        self.feel(now);
        match (self.memory.is_short, self.memory.calm_since) {
            // It has become another matter just now.
            _ if self.memory.deadline.is_armed() => {}
            (true, Some(since)) => self.watch_memory(since + Limits::MEMORY_CALM),
            (true, None) => self.disconnect_largest(now),
            (false, _) => self.tell_that_it_is_over(now),
        }
    }

    fn disconnect_largest(&mut self, now: Millis) {
        let mut missing = (self.options.memory_in_use)().saturating_sub(self.enough());
        let mut ended = 0;
        while missing > 0
            && ended < Limits::MEMORY_DISCONNECTS
            && let Some((id, bytes)) = self.largest_connection()
        {
            self.disconnect_for_memory(id, now);
            missing = missing.saturating_sub(bytes as u64);
            ended += 1;
        }
        self.memory.is_given_up = ended == 0;
        let memory = &mut self.memory;
        if ended == 0 && !std::mem::replace(&mut memory.is_told_to_be_hopeless, true) {
            warn!("Memory is short (--memory-limit), and there is nothing more to drop.");
        }
        self.lose_patience_later(now);
    }

    fn disconnect_for_memory(&mut self, id: ConnectionId, now: Millis) {
        let why = "memory is short (--memory-limit), and this client takes most of it";
        self.refuse(id, Refusal::new(ReasonCode::QuotaExceeded, why), now);
        self.memory.figures.disconnected += 1;
    }

    /// Who has begun a large packet, and may bring more of it.
    fn owes_much_of_a_packet(&self, id: ConnectionId) -> bool {
        let Connection {
            phase, leftover, ..
        } = &self.connections[id];
        *phase != Phase::Closing && leftover.len() >= Limits::OWED_BYTES_WHEN_SHORT
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
