//! What is due when: one ordered set, at most one entry for each timer.
//!
//! Nothing is moved per packet. A connection's deadline is set once and looked at when it comes:
//! if the client has spoken meanwhile, it is set again.

use std::collections::BTreeSet;

use super::{ConnectionId, SessionId};

/// Milliseconds of the broker's clock, which begins with the first start and goes on where the last
/// run ended: what the core reckons with once `now` has come in.
pub type Millis = u64;

/// When a timer is due, if it is armed; kept by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Millis);

impl Deadline {
    const NONE: Deadline = Deadline(Millis::MAX);

    pub fn is_armed(self) -> bool {
        self != Deadline::NONE
    }

    /// Whether it is armed, and no later than that.
    pub fn is_by(self, at: Millis) -> bool {
        self.is_armed() && self.0 <= at
    }
}

impl Default for Deadline {
    fn default() -> Deadline {
        Deadline::NONE
    }
}

/// Whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// No CONNECT in time, or silence beyond the keep alive.
    Connection(ConnectionId),
    SessionExpiry(SessionId),
    WillDelay(SessionId),
    /// Expired retained messages are to be removed.
    RetainedSweep,
    Sys,
    /// Memory is short.
    Memory,
}

#[derive(Debug, Default)]
pub struct Deadlines {
    set: BTreeSet<(Millis, Timer)>,
}

impl Deadlines {
    /// Sets `timer` to `at`, keeping it in `slot`, which its owner passes every time.
    pub fn arm(&mut self, slot: &mut Deadline, at: Millis, timer: Timer) {
        self.disarm(slot, timer);
        self.set.insert((at, timer));
        *slot = Deadline(at);
    }

    pub fn disarm(&mut self, slot: &mut Deadline, timer: Timer) {
        let armed = std::mem::take(slot);
        if armed.is_armed() {
            let found = self.set.remove(&(armed.0, timer));
            assert!(found, "a timer was armed and is not in the set");
        }
    }

    pub fn next(&self) -> Option<Millis> {
        self.set.first().map(|(at, _)| *at)
    }

    /// Removes and returns the first timer that is due. Its owner clears the slot.
    pub fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        let (at, timer) = *self.set.first()?;
        (at <= now).then(|| {
            self.set.pop_first();
            timer
        })
    }

    pub fn len(&self) -> usize {
        self.set.len()
    }
}
