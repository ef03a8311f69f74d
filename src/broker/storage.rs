//! What the broker and whoever keeps its records ask of each other.
//!
//! The broker hands out records with each turn, asks for messages that wait on disk only, and is
//! told how the disk does. It cannot tell who does all that: `persistence.rs` does, and tests.

use std::time::Instant;

use super::deadlines::Millis;
use super::journal::Storage;
use super::session::Session;
use super::shelf::Sequence;
use super::{Broker, ConnectionId, SessionId};
use crate::packet::{ReasonCode, Refusal};

/// Messages of a queue that a client can go on with, from `first` on: about
/// [`super::limits::Limits::BACKLOG_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub id: SessionId,
    pub queue: u32,
    pub first: u32,
}

/// What became of a [`Fetch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    All,
    /// The first cannot be read any more.
    Lost,
    /// It may be read later: its client is to come back then.
    NotNow,
}

/// What `$SYS` tells of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageFigures {
    /// Since the broker was started.
    pub bytes_written: u64,
    pub syncs: u64,
    /// How long the last one took, in microseconds.
    pub sync_micros: u64,
    /// Of what still counts.
    pub live_bytes: u64,
    /// That the files take.
    pub total_bytes: u64,
    /// Parts that had gone bad, and were set aside at the start.
    pub damaged_parts: u64,
}

impl Broker {
    /// Asks for what waits on disk, once nothing is left in memory.
    pub(super) fn fetch(&mut self, id: SessionId) {
        let session = &mut self.sessions[id];
        let Some(first) = session.pending().shelf.first() else {
            return;
        };
        if !std::mem::replace(&mut session.in_fetch, true) {
            let queue = session.queue;
            self.fetch.push(Fetch { id, queue, first });
        }
    }

    /// A message that was asked for, from its place in the queue; `false` where it is none.
    pub fn fetched(
        &mut self,
        fetch: &Fetch,
        sequence: Sequence,
        extra: &[u8],
        body: &[u8],
    ) -> bool {
        let Some(delivery) = self.restore_delivery(sequence, extra, body) else {
            return false;
        };
        let Some(session) = self.fetching(fetch) else {
            return true;
        };
        let is_next = session.pending().shelf.first() == Some(sequence);
        if is_next && session.connection.is_some() {
            session.pending_mut().unshelve(delivery);
        }
        true
    }

    /// All that was asked for has come, as far as it could be read.
    pub fn end_fetch(&mut self, fetch: &Fetch, outcome: Fetched) {
        let Some(session) = self.fetching(fetch) else {
            return;
        };
        session.in_fetch = false;
        let first = session.pending().shelf.first();
        match outcome {
            Fetched::Lost if first == Some(fetch.first) => {
                session.pending_mut().shelf.pop();
                self.journal.done(fetch.queue, fetch.first);
                self.note_dropped(fetch.id, 1);
            }
            Fetched::All | Fetched::Lost => {}
            Fetched::NotNow => session.is_stuck = true,
        }
        self.refill(fetch.id);
    }

    /// The number of a durable session that begins; 0 is none. When all have been taken once, those
    /// of sessions that are still there are passed over.
    pub(super) fn next_queue(&mut self) -> u32 {
        loop {
            let begun = &mut self.journal.queues;
            let queue = (*begun % u64::from(u32::MAX)) as u32 + 1;
            *begun += 1;
            let is_first_time = *begun <= u64::from(u32::MAX);
            if is_first_time || self.sessions.iter().all(|(_, one)| one.queue != queue) {
                return queue;
            }
        }
    }

    /// What waits for a client cannot be read now: it is to come back for it.
    pub(super) fn send_away(&mut self, id: SessionId, now: Millis) {
        if let Some(connection) = self.sessions[id].connection {
            let why = "what waits for the client cannot be read now";
            self.refuse(connection, Refusal::new(ReasonCode::ServerBusy, why), now);
        }
    }

    pub(super) fn fetching(&mut self, fetch: &Fetch) -> Option<&mut Session> {
        let session = self.sessions.get_mut(fetch.id);
        session.filter(|session| session.queue == fetch.queue)
    }

    /// What the broker's clock says, in milliseconds: it goes on where the last run ended.
    pub fn clock(&self, now: Instant) -> Millis {
        self.millis(now)
    }

    /// Nothing that it is owed may be sent, as what it would tell could not be kept: its
    /// connection ends.
    pub fn cut(&mut self, id: ConnectionId, now: Instant) {
        self.connections.silence(id);
        self.lost(id, now);
    }

    /// The disk does well again, or does not: then nothing new is kept. Where nothing at all is,
    /// the connections of durable sessions end, whose every step must be.
    pub fn set_storage(&mut self, storage: Storage, now: Instant) {
        self.journal.storage = storage;
        if !self.journal.serves_durable() {
            let durable = self.sessions.iter().filter(|(_, one)| one.queue != 0);
            let connected: Vec<_> = durable.filter_map(|(_, one)| one.connection).collect();
            connected.into_iter().for_each(|id| self.cut(id, now));
        }
        // With the next turn: this one is being sent.
        self.sys.is_alarm_due = true;
    }

    pub fn storage(&self) -> Storage {
        self.journal.storage
    }

    pub fn set_storage_figures(&mut self, figures: StorageFigures) {
        self.sys.storage = figures;
    }
}
