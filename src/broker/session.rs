//! Session State (4.1): what outlives the connection of a client.
//!
//! There may be very many that do nothing: what only some need has memory of its own.

use super::ConnectionId;
use super::deadlines::Deadline;
use super::decisions::Who;
use super::ending::Will;
use super::hash::Seeded;
use super::limits::Limits;
use super::pending::Pending;
use super::received::Received;
use super::replays::Replays;
use super::subscriptions::SubscriptionKey;

/// Session Expiry Interval of a session that never expires (3.1.2.11.2).
pub const NEVER_EXPIRES: u32 = u32::MAX;

#[derive(Debug)]
pub struct Session {
    pub client_id: Box<str>,
    /// As what the client connected last, where that matters, see `authority.rs`.
    pub who: Option<Box<Who>>,
    pub connection: Option<ConnectionId>,
    /// Of its queue among the records, see `journal.rs`; 0 where it is not durable.
    pub queue: u32,
    /// Seconds the session outlives its connection.
    pub expiry_interval: u32,
    pub expiry_deadline: Deadline,
    pub subscriptions: Vec<SubscriptionKey>,
    /// Bytes of their filters.
    pub filter_bytes: usize,
    pub will: Option<Box<Will>>,
    pub will_deadline: Deadline,
    /// QoS 2 messages from the client that it has not released.
    pub received: Received,
    pending: Option<Box<Pending>>,
    /// Retained messages still to be sent to new subscriptions.
    pub replays: Replays,
    /// In the broker's list of those who can go on.
    pub in_refill: bool,
    /// What waits on disk has been asked for.
    pub in_fetch: bool,
    /// What waits on disk cannot be read now.
    pub is_stuck: bool,
}

impl Session {
    pub fn new(client_id: Box<str>) -> Session {
        Session {
            client_id,
            who: None,
            connection: None,
            queue: 0,
            expiry_interval: 0,
            expiry_deadline: Deadline::default(),
            subscriptions: Vec::new(),
            filter_bytes: 0,
            will: None,
            will_deadline: Deadline::default(),
            received: Received::default(),
            pending: None,
            replays: Replays::default(),
            in_refill: false,
            in_fetch: false,
            is_stuck: false,
        }
    }

    /// Stands for the client where what it published is kept: the same after each start.
    pub fn identity(&self) -> u64 {
        const SEED: u64 = 0x6D_6964_6765;
        Seeded::new(SEED).bytes(self.client_id.as_bytes())
    }

    /// What is on its way to the client.
    pub fn pending(&self) -> &Pending {
        self.pending.as_deref().unwrap_or(Pending::NONE)
    }

    pub fn pending_mut(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// Whether its Will has a delay that may go on after a restart.
    pub fn keeps_will(&self) -> bool {
        let is_delayed = |will: &Will| will.delay_interval > 0;
        self.queue != 0 && self.will.as_deref().is_some_and(is_delayed)
    }

    /// Whether the client, were it to read, had anything to get.
    pub fn has_more(&self) -> bool {
        !self.replays.is_empty() || self.pending().has_more()
    }

    /// The client has taken all that it was owed: should messages be dropped again, it is another
    /// episode.
    pub fn all_taken(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.dropping = false;
        }
    }

    /// Bytes of what waits for it in memory and could be dropped: nothing of it is on disk.
    pub fn bytes_to_drop(&self) -> usize {
        match self.queue {
            0 => self.pending().queue_bytes(),
            _ => 0,
        }
    }

    /// The client is gone.
    pub fn disconnected(&mut self) {
        self.connection = None;
    }

    /// The client may be away for long: what is kept for it elsewhere, or empty, need not be in
    /// memory.
    pub fn rest(&mut self) {
        let may_shelve = self.queue != 0;
        if let Some(pending) = &mut self.pending {
            pending.rest(may_shelve);
        }
    }

    /// Whether it is a member of a group.
    pub fn is_member(&self) -> bool {
        let is_shared = |key: &SubscriptionKey| matches!(key, SubscriptionKey::Shared(_));
        self.subscriptions.iter().any(is_shared)
    }

    /// Whether the next message that has to wait goes to disk only: behind others that do, or as
    /// there is enough in memory for the client to go on with. What a group shares does not, as
    /// others of the group may have to have it; no order holds between it and the rest.
    pub fn shelves(&self, is_shared: bool) -> bool {
        let pending = self.pending();
        let is_plenty =
            || self.connection.is_none() || pending.queue_bytes() >= Limits::BACKLOG_BYTES;
        self.queue != 0 && !is_shared && (!pending.shelf.is_empty() || is_plenty())
    }

    /// The client is connected (again).
    pub fn connected(&mut self, connection: ConnectionId) {
        assert!(self.connection.is_none(), "a session with two connections");
        self.connection = Some(connection);
        self.is_stuck = false;
        self.received.begin_connection();
        if let Some(pending) = &mut self.pending {
            pending.connected();
        }
    }

    /// Panics where the parts of the state disagree, or are larger than they may be.
    pub fn check_invariants(&self, limits: &Limits) {
        assert!(self.subscriptions.len() <= limits.subscriptions_max);
        assert!(self.filter_bytes <= Limits::FILTER_BYTES_PER_SESSION);
        self.pending().check_invariants(limits);
        self.received.check_invariants();
        self.replays.check_invariants();
        if let Some(who) = &self.who {
            who.check_invariants();
        }
        if self.connection.is_some() {
            assert!(!self.expiry_deadline.is_armed() && !self.will_deadline.is_armed());
        }
    }
}
