//! What the broker may be told, and what everything that can grow is limited to.
//!
//! Plain data with defaults; `config/` fills it from flags. A limit that no flag sets is a
//! constant here, so that all of them can be read in one place.

use std::time::Duration;

use super::deadlines::Millis;
use crate::packet::{QoS, TopicFilter, TopicName, Version};

/// How the broker behaves, for all clients.
#[derive(Clone, Debug)]
pub struct Options {
    pub limits: Limits,
    /// One for each listener, in the order of their indices.
    pub listeners: Vec<ListenerOptions>,
    /// The best QoS a client may publish with, and is granted.
    pub max_qos: QoS,
    pub retain_available: bool,
    /// Whether what is retained is sent only as long as its publisher may write it.
    pub check_retain_source: bool,
    /// Whether a client may leave its id to the server.
    pub allow_zero_length_client_id: bool,
    /// What assigned client ids start with.
    pub auto_id_prefix: String,
    /// What all client ids must start with; empty for anything.
    pub client_id_prefix: String,
    /// Longest keep alive, in seconds; 0 for any.
    pub max_keep_alive: u16,
    /// Whether messages of QoS 0 wait for absent clients too.
    pub queue_qos0_messages: bool,
    pub queue_overflow: QueueOverflow,
    /// Deliver with the QoS of the subscription, even where the publisher used a lower one.
    pub upgrade_outgoing_qos: bool,
    /// Sessions end at the latest this long after their connection.
    pub persistent_client_expiration: Option<Duration>,
    /// How often `$SYS` is brought up to date; `None` for never.
    pub sys_interval: Option<Duration>,
    /// Bytes of the heap, or what comes near, for `$SYS` and for the limit of it: the core cannot
    /// know.
    pub memory_in_use: fn() -> u64,
    /// Log who connects and who leaves.
    pub connection_messages: bool,
    /// How soon what must survive is to be on the medium; `None` where nothing is kept.
    pub durability: Option<Durability>,
    /// Drawn once at start: keeps hashes and assigned ids from being foreseen.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: Limits::default(),
            listeners: vec![ListenerOptions::default()],
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            check_retain_source: true,
            allow_zero_length_client_id: true,
            auto_id_prefix: "auto-".to_string(),
            client_id_prefix: String::new(),
            max_keep_alive: 0,
            queue_qos0_messages: false,
            queue_overflow: QueueOverflow::DropNewest,
            upgrade_outgoing_qos: false,
            persistent_client_expiration: None,
            sys_interval: Some(Duration::from_secs(10)),
            memory_in_use: || 0,
            connection_messages: true,
            durability: None,
            seed: 0,
        }
    }
}

/// Who gets in through one listener, and on what terms; nobody gets more than the server grants.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// What it is known by from start to start; empty for that of sockets that no listener asked
    /// for. Where two have the same one, neither is found by it.
    pub name: Box<str>,
    /// Clients without a user name.
    pub allow_anonymous: bool,
    /// There are users: who brings a user name must have its password, see [`super::Verdict`].
    pub passwords: bool,
    /// Clients connected through it at once.
    pub connections_max: usize,
    pub max_qos: QoS,
    pub topic_alias_max: u16,
    pub topic_alias_max_broker: u16,
    /// Empty for all.
    pub versions: Vec<Version>,
    /// A client's user name is its id.
    pub use_username_as_client_id: bool,
    /// What assigned client ids start with here.
    pub auto_id_prefix: Option<String>,
    /// What the topics of its clients begin with, unseen by them; it has no wildcards.
    pub mount_point: Option<Box<str>>,
    /// What all client ids must start with here, besides what the server asks.
    pub client_id_prefix: String,
    /// It is open, and should not be any more: nobody comes in by it.
    pub is_gone: bool,
}

impl Default for ListenerOptions {
    fn default() -> ListenerOptions {
        ListenerOptions {
            name: Box::default(),
            allow_anonymous: true,
            passwords: false,
            connections_max: usize::MAX,
            max_qos: QoS::ExactlyOnce,
            topic_alias_max: u16::MAX,
            topic_alias_max_broker: u16::MAX,
            versions: Vec::new(),
            use_username_as_client_id: false,
            auto_id_prefix: None,
            mount_point: None,
            client_id_prefix: String::new(),
            is_gone: false,
        }
    }
}

/// How soon what must survive is to be on the medium, in milliseconds. 0 is: before it is
/// acknowledged. [`super::journal::WHENEVER`] leaves it to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    pub within: Millis,
    /// Other terms for messages to topics that a filter matches; the first one counts.
    pub by_topic: Vec<(Box<str>, Millis)>,
}

impl Durability {
    /// Of a message: the first filter that matches decides.
    pub fn of(&self, topic: TopicName) -> Millis {
        let mut by_topic = self.by_topic.iter();
        let fitting = by_topic.find(|(filter, _)| TopicFilter::trusted(filter).matches(topic));
        fitting.map_or(self.within, |(_, within)| *within)
    }
}

/// Which message goes when a session's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOverflow {
    DropNewest,
    DropOldest,
}

/// How much of everything there may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest packet a client may send, in bytes.
    pub packet_bytes_max: usize,
    /// Largest payload that is delivered.
    pub payload_bytes_max: usize,
    /// Clients connected at once.
    pub connections_max: usize,
    /// Sessions, connected or not.
    pub sessions_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_max: usize,
    /// QoS 1 and 2 messages sent to one client and not yet acknowledged.
    pub inflight_messages_max: u16,
    /// Their bytes; one message may always be in flight.
    pub inflight_bytes_max: usize,
    /// Messages waiting for one client.
    pub queued_messages_max: usize,
    /// Their bytes, topics and properties included. They may be on disk: more than memory has.
    pub queued_bytes_max: u64,
    /// QoS 2 messages a client may have begun to send and not yet released.
    pub receive_maximum: u16,
    /// Topic Aliases a client may set.
    pub topic_alias_max: u16,
    /// Topic Aliases the broker sets, for clients that take them.
    pub topic_alias_max_broker: u16,
    pub retained_messages_max: usize,
    /// Those who published them count with each, though they are there once.
    pub retained_bytes_max: u64,
    /// Soft limit of the bytes a client has not yet taken: beyond it no message is added; QoS 0 is
    /// dropped, QoS 1 and 2 wait in the queue.
    pub outbound_bytes_max: usize,
    /// Bytes of the heap, see `memory.rs`.
    pub memory_bytes_max: u64,
    /// An id that goes from one connection to another again and again does so this seldom, in
    /// milliseconds; 0 for as often as clients like.
    pub takeover_interval: Millis,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            packet_bytes_max: 2_000_000,
            payload_bytes_max: usize::MAX,
            connections_max: usize::MAX,
            sessions_max: 100_000,
            subscriptions_max: 20_000,
            inflight_messages_max: 20,
            inflight_bytes_max: usize::MAX,
            queued_messages_max: 100_000,
            queued_bytes_max: 16 << 20,
            receive_maximum: u16::MAX,
            topic_alias_max: 10,
            topic_alias_max_broker: 10,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 256 << 20,
            outbound_bytes_max: 8 << 20,
            memory_bytes_max: u64::MAX,
            takeover_interval: 15_000,
        }
    }
}

impl Limits {
    /// A peer must send its CONNECT this soon.
    pub const CONNECT_WITHIN: Millis = 10_000;
    /// Largest packet before the CONNECT is accepted, in bytes: a Will of 64 KiB fits.
    pub const CONNECT_PACKET_BYTES_MAX: usize = 100_000;
    /// Peers that have not sent their CONNECT; more are turned away at once.
    pub const UNCONNECTED_MAX: usize = 1_000;
    /// What waits for a client, in its queue or among the retained messages, is brought out until
    /// it is owed so many bytes of it; the rest waits until they have been taken.
    pub const BACKLOG_BYTES: usize = 64 << 10;
    /// Retained topics looked at for one session, and messages of its queue that it is not sent,
    /// before the others have their turn: less than a millisecond.
    pub const EFFORT_PER_PUMP: usize = 1_000;
    /// Payloads from this size on are shared by those who wait for them; smaller ones are copied.
    pub const SHARED_PAYLOAD_BYTES: usize = 4 << 10;
    /// Distinct patterns of wildcards in all filters: how often one message is looked up at most.
    /// A lookup that finds a filter compares it, level by level, which is what costs most.
    pub const WILDCARD_SHAPES_MAX: usize = 1_024;
    /// Those that one session may bring up.
    pub const WILDCARD_SHAPES_PER_SESSION: usize = 64;
    /// The `+` of all those patterns together: each costs a lookup in vain an addition.
    pub const WILDCARD_PLUSES_MAX: usize = 8 * Limits::WILDCARD_SHAPES_MAX;
    pub const WILDCARD_PLUSES_PER_SESSION: usize = 8 * Limits::WILDCARD_SHAPES_PER_SESSION;
    /// Groups that share one filter: how often one message goes out for it at most.
    pub const GROUPS_PER_FILTER: usize = 1_000;
    /// Members of one such group: each message may have to look for one that can take it.
    pub const MEMBERS_PER_GROUP: usize = 1_000;
    /// Bytes of all Topic Filters of one session, names of groups included.
    pub const FILTER_BYTES_PER_SESSION: usize = 2 << 20;
    /// Clients that wait for their passwords to be checked; more are told to try again.
    pub const WAITING_MAX: usize = 10_000;
    /// What one of them may have sent, its CONNECT included, and all of them together.
    pub const HELD_BYTES_MAX: usize = 256 << 10;
    pub const HELD_BYTES_OF_ALL_MAX: usize = 16 << 20;
    /// How often an id may go from one connection to another before that is too often.
    pub const TAKEOVERS_AT_WILL: Millis = 5;
    /// Ids of which it is remembered how often they did of late: rows, and ids in a row.
    pub const TAKEOVER_ROWS: usize = 64;
    pub const TAKEOVERS_PER_ROW: usize = 8;
    /// What a limit of memory is at least: midge itself takes nearly half of it.
    pub const MEMORY_LIMIT_MIN: u64 = 256 << 10;
    /// Dropping goes on until one such part of the limit is free, and what stays may not take it.
    pub const MEMORY_FREE_PART: u64 = 16;
    /// What a client may be owed then before QoS 0 is dropped for it.
    pub const OWED_BYTES_WHEN_SHORT: usize = 16 << 10;
    /// Messages that are dropped then in one turn, and from one queue before the longest is looked
    /// for again.
    pub const MEMORY_DROPS: usize = 4_096;
    pub const MEMORY_DROPS_AT_ONCE: usize = 32;
    /// Queues that are found by one look at all of them, and looks in one turn.
    pub const MEMORY_QUEUES_AT_ONCE: usize = 64;
    pub const MEMORY_LOOKS: usize = 16;
    /// How long the limit must not have been reached, and how long memory must have sufficed to say
    /// that it does.
    pub const MEMORY_CALM: Millis = 1_000;
    pub const MEMORY_QUIET: Millis = 5_000;
    /// How long it may be short before connections end that take most, and how many at once.
    pub const MEMORY_PATIENCE: Millis = 5_000;
    pub const MEMORY_DISCONNECTS: usize = 64;
    /// What the kernel is to hold for one socket each way is such a part of the limit, and no less
    /// than that; where it would be more than that, it is the kernel's choice.
    pub const SOCKET_BUFFER_PART: u64 = 1_024;
    pub const SOCKET_BUFFER_BYTES_MIN: u64 = 8 << 10;
    pub const SOCKET_BUFFER_BYTES_MAX: u64 = 64 << 10;
    /// Bytes of the mount point of a listener.
    pub const MOUNT_POINT_BYTES_MAX: usize = 1_024;
    /// Bytes of a Client Identifier.
    pub const CLIENT_ID_BYTES_MAX: usize = 1_024;
    /// Bytes of a user name: it is kept as long as the session.
    pub const USER_NAME_BYTES_MAX: usize = 1_024;
    /// Bytes of an ACL file, and lines in it that say something.
    pub const ACL_FILE_BYTES_MAX: usize = 16 << 20;
    pub const ACL_LINES_MAX: usize = 100_000;
    pub const ACL_GROUPS_MAX: usize = 1_000;
    pub const ACL_GROUPS_PER_USER: usize = 64;
    pub const ACL_RANGES_PER_LINE: usize = 16;
    /// Said about one file.
    pub const ACL_WARNINGS_MAX: usize = 100;
    /// What a session may do with topics is remembered for so many, a power of 2, of such length.
    pub const DECISIONS_PER_SESSION: usize = 64;
    pub const DECISION_TOPIC_BYTES: usize = 256;

    /// Raises each limit that `other` has higher.
    pub fn stretch(&mut self, other: &Limits) {
        let Limits {
            packet_bytes_max,
            payload_bytes_max,
            connections_max,
            sessions_max,
            subscriptions_max,
            inflight_messages_max,
            inflight_bytes_max,
            queued_messages_max,
            queued_bytes_max,
            receive_maximum,
            topic_alias_max,
            topic_alias_max_broker,
            retained_messages_max,
            retained_bytes_max,
            outbound_bytes_max,
            memory_bytes_max,
            // How long something takes is no room that anything has taken.
            takeover_interval: _,
        } = self;
        for (limit, other) in [
            (packet_bytes_max, other.packet_bytes_max),
            (payload_bytes_max, other.payload_bytes_max),
            (connections_max, other.connections_max),
            (sessions_max, other.sessions_max),
            (subscriptions_max, other.subscriptions_max),
            (inflight_bytes_max, other.inflight_bytes_max),
            (queued_messages_max, other.queued_messages_max),
            (retained_messages_max, other.retained_messages_max),
            (outbound_bytes_max, other.outbound_bytes_max),
        ] {
            *limit = other.max(*limit);
        }
        for (limit, other) in [
            (queued_bytes_max, other.queued_bytes_max),
            (retained_bytes_max, other.retained_bytes_max),
            (memory_bytes_max, other.memory_bytes_max),
        ] {
            *limit = other.max(*limit);
        }
        for (limit, other) in [
            (inflight_messages_max, other.inflight_messages_max),
            (receive_maximum, other.receive_maximum),
            (topic_alias_max, other.topic_alias_max),
            (topic_alias_max_broker, other.topic_alias_max_broker),
        ] {
            *limit = other.max(*limit);
        }
    }

    /// Hard limit of the bytes a client has not yet taken: only the answers to its own packets get
    /// it beyond the soft one, and it is disconnected.
    pub fn outbound_bytes_hard(&self) -> usize {
        self.outbound_bytes_max
            .saturating_mul(2)
            .saturating_add(self.packet_bytes_max)
    }
}
