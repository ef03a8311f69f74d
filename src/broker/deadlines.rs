//! What is due when: one ordered set, at most one entry for each timer.
//!
//! Nothing is moved per packet. A connection's deadline is set once and looked at when it comes:
//! if the client has spoken meanwhile, it is set again.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{ConnectionId, SessionId};

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
}

#[derive(Debug, Default)]
pub struct Deadlines {
    set: BTreeSet<(Instant, Timer)>,
}

impl Deadlines {
    /// Sets `timer` to `at`, keeping it in `slot`, which its owner passes every time.
    pub fn arm(&mut self, slot: &mut Option<Instant>, at: Instant, timer: Timer) {
        self.disarm(slot, timer);
        self.set.insert((at, timer));
        *slot = Some(at);
    }

    pub fn disarm(&mut self, slot: &mut Option<Instant>, timer: Timer) {
        if let Some(at) = slot.take() {
            let found = self.set.remove(&(at, timer));
            assert!(found, "a timer was armed and is not in the set");
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.set.first().map(|(at, _)| *at)
    }

    /// Removes and returns the first timer that is due. Its owner clears the slot.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
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
