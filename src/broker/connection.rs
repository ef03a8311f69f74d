//! Network Connections, as the broker sees them: who speaks, in which version, what is owed to
//! them.
//!
//! A connection knows bytes and limits; what it means is in its `Session`. Invariant: a connection
//! with new bytes is in `flush`, a condemned one in `close`; slots are freed only by
//! [`super::Broker::forget`], at the end of a turn, so that no id of the same turn can mean
//! another.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::aliases::{Alias, Aliases};
use super::deadlines::{Deadline, Millis};
use super::entrance::Granted;
use super::limits::Limits;
use super::message::Content;
use super::mount::Mounts;
use super::outbound::{Outbound, SpareBuffers};
use super::sys::Counters;
use super::template::Template;
use super::{ConnectionId, Peer, SessionId};
use crate::packet::{
    self, Packet, PacketId, PacketType, Properties, PropertyBlock, PropertyId, PublishHead, QoS,
    Version,
};

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    AwaitConnect,
    /// Its password is being checked, under that ticket; see `verify.rs`.
    AwaitVerdict(u64),
    Connected(SessionId),
    /// Condemned: nothing it says counts any more, its slot is freed at the end of the turn.
    Closing,
}

#[derive(Debug)]
pub struct Connection {
    /// Index into the options' listeners.
    pub listener: usize,
    /// Where the peer is.
    pub peer: Peer,
    pub phase: Phase,
    pub version: Version,
    /// A bridge of MQTT 3.x, see [`crate::packet::Connect::bridge`].
    pub bridge: bool,
    /// The beginning of a packet whose end has not come yet; all that came, of one that waits for
    /// its password to be checked.
    pub leftover: Vec<u8>,
    pub outbound: Outbound,
    /// How much of it, at most, is of what had waited for the client.
    backlog_owed: usize,
    in_flush: bool,
    /// When the last packet came.
    pub last_packet: Millis,
    /// Milliseconds the client may be silent, one and a half times the keep alive; 0 for any.
    pub silence_max: u32,
    pub deadline: Deadline,
    /// Largest packet the client takes (3.1.2.11.4).
    pub packet_bytes_max: usize,
    /// QoS 1 and 2 messages the client takes at once (3.1.2.11.3), within our own limit.
    pub receive_maximum: u16,
    /// Whether the client wants Reason Strings on acknowledgements (3.1.2.11.7).
    pub wants_problem_information: bool,
    pub aliases: Option<Box<Aliases>>,
    pub granted: Granted,
    /// An answer is larger than the client takes: it cannot be served.
    pub speechless: bool,
    /// It was the server that ended it.
    pub refused: bool,
    /// It has sent a PUBLISH.
    pub has_published: bool,
    /// It is not read, see `memory.rs`.
    pub is_held_back: bool,
    /// Its listener has a mount point.
    is_mounted: bool,
    /// Its place in the order of opening.
    opened: u64,
}

impl Connection {
    fn new(listener: usize, peer: Peer, now: Millis) -> Connection {
        Connection {
            listener,
            peer,
            phase: Phase::AwaitConnect,
            version: Version::V311,
            bridge: false,
            leftover: Vec::new(),
            outbound: Outbound::default(),
            backlog_owed: 0,
            in_flush: false,
            last_packet: now,
            silence_max: 0,
            deadline: Deadline::default(),
            packet_bytes_max: packet::PACKET_BYTES_MAX,
            receive_maximum: u16::MAX,
            wants_problem_information: true,
            aliases: None,
            granted: Granted::ANYTHING,
            speechless: false,
            refused: false,
            has_published: false,
            is_held_back: false,
            is_mounted: false,
            opened: 0,
        }
    }

    pub fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Connected(session) => Some(session),
            Phase::AwaitConnect | Phase::AwaitVerdict(_) | Phase::Closing => None,
        }
    }

    /// Whether it has taken enough of what it is owed to be sent another message.
    pub fn has_room(&self, owed_max: usize) -> bool {
        self.outbound.len() < owed_max
    }

    /// The same for one that had to wait. What passes by meanwhile, QoS 0, does not count: it must
    /// not keep the backlog waiting.
    pub fn has_room_for_backlog(&self, owed_max: usize) -> bool {
        self.backlog_owed < Limits::BACKLOG_BYTES && self.has_room(owed_max)
    }

    fn gives_aliases(&self) -> bool {
        let aliases = self.aliases.as_ref();
        aliases.is_some_and(|aliases| aliases.gives())
    }

    fn alias(&self, topic: &[u8]) -> Alias {
        let aliases = self.aliases.as_ref();
        aliases.map_or(Alias::None, |aliases| aliases.alias(topic))
    }

    fn set_alias(&mut self, topic: &[u8], alias: u16) {
        if let Some(aliases) = &mut self.aliases {
            aliases.set(topic, alias);
        }
    }
}

/// How a message is sent to one client.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: Option<PacketId>,
    pub subscription_ids: &'a [u32],
    /// It comes from the client's backlog.
    pub has_waited: bool,
}

/// Whether a message was added to what is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Yes,
    /// The client takes no packet as large as that.
    TooLarge,
    /// The topic is not one that clients of its listener see, see `mount.rs`.
    Unseen,
}

#[derive(Debug, Default)]
pub struct Connections {
    slab: Slab<Connection>,
    /// With bytes that were added in this turn.
    pub flush: Vec<ConnectionId>,
    /// Condemned in this turn.
    pub close: Vec<ConnectionId>,
    /// Those that have not sent their CONNECT, in the order of opening.
    awaiting: BTreeMap<u64, ConnectionId>,
    opened: u64,
    mounts: Mounts,
    pub counters: Counters,
    spare: SpareBuffers,
    /// Scratch for the properties that we add to a message.
    added: PropertyBlock,
}

/// What an alias, an expiry interval and longer length fields add to a packet at most.
const ADDED_BYTES: usize = 3 + 5 + 4;

impl Connections {
    pub fn new(mounts: Mounts) -> Connections {
        Connections {
            mounts,
            ..Connections::default()
        }
    }

    pub fn open(&mut self, listener: usize, peer: Peer, now: Millis) -> ConnectionId {
        self.opened += 1;
        let mut connection = Connection::new(listener, peer, now);
        connection.is_mounted = self.mounts.of(listener).is_some();
        connection.opened = self.opened;
        let id = ConnectionId(self.slab.insert(connection) as u32);
        self.awaiting.insert(self.opened, id);
        id
    }

    /// The connection has sent its CONNECT, or will never.
    pub fn no_longer_awaited(&mut self, id: ConnectionId) {
        let opened = self[id].opened;
        self.awaiting.remove(&opened);
    }

    /// What the topics of this client begin with, unseen by it.
    pub fn mount(&self, id: ConnectionId) -> Option<&str> {
        self.mounts.of(self[id].listener)
    }

    /// Whether any listener has such a prefix.
    pub fn has_mounts(&self) -> bool {
        !self.mounts.is_empty()
    }

    /// Whether the client may see a topic, as far as its listener is concerned.
    pub fn sees(&self, id: ConnectionId, topic: &[u8]) -> bool {
        let connection = &self[id];
        !connection.is_mounted || self.mounts.below(connection.listener, topic).is_some()
    }

    /// Those that have sent no CONNECT yet.
    pub fn awaiting_count(&self) -> usize {
        self.awaiting.len()
    }

    /// The one that has gone without a CONNECT for the longest time, if there are too many.
    pub fn one_too_many(&self) -> Option<ConnectionId> {
        let too_many = self.awaiting_count() > Limits::UNCONNECTED_MAX;
        let (_, oldest) = self.awaiting.first_key_value()?;
        too_many.then_some(*oldest)
    }

    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slab.get(id.index())
    }

    pub fn remove(&mut self, id: ConnectionId) -> Connection {
        self.slab.remove(id.index())
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.slab
            .iter()
            .map(|(key, connection)| (ConnectionId(key as u32), connection))
    }

    /// Open connections, those of this turn's close list included.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Appends a packet, which leaves at the end of the turn; one that is larger than the client
    /// takes is not sent, and the connection is marked, see [`Connection::speechless`].
    pub fn send(&mut self, id: ConnectionId, packet: &Packet) {
        let (version, bytes_max) = (self[id].version, self[id].packet_bytes_max);
        let tail = self.tail(id);
        let start = tail.len();
        packet.encode(version, tail);
        // [MQTT-3.1.2-24]
        if tail.len() - start > bytes_max {
            tail.truncate(start);
            self[id].speechless = true;
            return;
        }
        self.counters.packet_out(packet.packet_type());
    }

    /// Appends a packet with a Reason String, if the client wants one there and it fits.
    pub fn send_reason(
        &mut self,
        id: ConnectionId,
        why: &str,
        packet: impl for<'p> Fn(Properties<'p>) -> Packet<'p>,
    ) {
        let connection = &self[id];
        let (version, bytes_max) = (connection.version, connection.packet_bytes_max);
        let plain = packet(Properties::NONE);
        // [MQTT-3.1.2-29] on request only, except on CONNACK and DISCONNECT.
        let always = matches!(
            plain.packet_type(),
            PacketType::ConnAck | PacketType::Disconnect
        );
        if version == Version::V5 && (always || connection.wants_problem_information) {
            let mut block = PropertyBlock::new();
            block.text(PropertyId::ReasonString, why);
            let explained = packet(block.as_properties());
            let mut bytes = Vec::new();
            explained.encode(version, &mut bytes);
            // [MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.14.2-3] not beyond the Maximum Packet Size.
            if bytes.len() <= bytes_max {
                self.tail(id).extend_from_slice(&bytes);
                self.counters.packet_out(explained.packet_type());
                return;
            }
        }
        self.send(id, &plain);
    }

    /// Appends a PUBLISH of `content`.
    pub fn publish(
        &mut self,
        id: ConnectionId,
        content: &Content,
        sending: Sending,
        now: Millis,
    ) -> Sent {
        let connection = &mut self.slab[id.index()];
        let version = connection.version;
        let mut topic = content.topic.as_bytes();
        if connection.is_mounted {
            match self.mounts.below(connection.listener, topic) {
                Some(below) => topic = below,
                None => return Sent::Unseen,
            }
        }
        let mut head = PublishHead {
            dup: sending.dup,
            qos: sending.qos,
            retain: sending.retain,
            topic,
            packet_id: sending.packet_id,
            properties: content.properties,
            payload_len: content.payload.len(),
        };
        let mut alias = Alias::None;
        if version == Version::V5 {
            // An alias must not be what makes a packet too large.
            let added_max = ADDED_BYTES + 5 * sending.subscription_ids.len();
            if head.packet_len(version) + added_max <= connection.packet_bytes_max {
                alias = connection.alias(topic);
            }
            let added = &mut self.added;
            added.clear();
            add_properties(added, content, sending.subscription_ids, alias, now);
            if let Alias::Known(_) = alias {
                head.topic = &[];
            }
            head.properties = added.as_properties();
        }
        let packet_len = head.packet_len(version);
        if packet_len > connection.packet_bytes_max {
            return Sent::TooLarge;
        }
        // Only now: an alias of a packet that is not sent would be unknown to the client.
        if let Alias::New(number) = alias {
            connection.set_alias(topic, number);
        }
        let tail = connection.outbound.next_packet(&mut self.spare);
        match content.message {
            Some(message) if content.payload.len() >= Limits::SHARED_PAYLOAD_BYTES => {
                head.encode(version, tail);
                connection.outbound.share(message.clone());
            }
            _ => {
                tail.reserve(packet_len);
                head.encode(version, tail);
                tail.extend_from_slice(content.payload);
            }
        }
        if sending.has_waited {
            connection.backlog_owed += packet_len;
        }
        self.note_published(id, content);
        Sent::Yes
    }

    /// Does the same for a message that goes to many, see [`Template`].
    pub fn publish_to_many(
        &mut self,
        id: ConnectionId,
        content: &Content,
        sending: Sending,
        template: &mut Template,
        now: Millis,
    ) -> Sent {
        let connection = &mut self.slab[id.index()];
        let is_special = !sending.subscription_ids.is_empty()
            || content.expires_at.is_some()
            || content.payload.len() >= Limits::SHARED_PAYLOAD_BYTES
            || connection.gives_aliases()
            || connection.is_mounted;
        if is_special {
            return self.publish(id, content, sending, now);
        }
        let encoded = template.fit(connection.version, content, sending);
        if encoded.len() > connection.packet_bytes_max {
            return Sent::TooLarge;
        }
        let tail = connection.outbound.next_packet(&mut self.spare);
        encoded.append(sending.packet_id, tail);
        self.note_published(id, content);
        Sent::Yes
    }

    fn note_published(&mut self, id: ConnectionId, content: &Content) {
        self.counters.packet_out(PacketType::Publish);
        self.counters.publish_bytes_sent += content.payload.len() as u64;
        self.mark_flush(id);
    }

    /// `count` bytes have gone to the socket.
    pub fn advance(&mut self, id: ConnectionId, count: usize) {
        self.counters.bytes_sent += count as u64;
        let connection = &mut self.slab[id.index()];
        connection.outbound.advance(count, &mut self.spare);
        connection.backlog_owed = connection.backlog_owed.saturating_sub(count);
    }

    /// Drops what it is owed.
    pub fn silence(&mut self, id: ConnectionId) {
        let connection = &mut self.slab[id.index()];
        let owed = connection.outbound.len();
        connection.outbound.advance(owed, &mut self.spare);
    }

    /// The turn is over: the lists of it are handed out, see [`super::Turn`].
    pub fn end_turn(&mut self, flush: &mut Vec<ConnectionId>, close: &mut Vec<ConnectionId>) {
        for id in &self.flush {
            self.slab[id.index()].in_flush = false;
        }
        flush.clear();
        close.clear();
        std::mem::swap(flush, &mut self.flush);
        std::mem::swap(close, &mut self.close);
    }

    fn tail(&mut self, id: ConnectionId) -> &mut Vec<u8> {
        self.mark_flush(id);
        let outbound = &mut self.slab[id.index()].outbound;
        outbound.next_packet(&mut self.spare)
    }

    fn mark_flush(&mut self, id: ConnectionId) {
        let connection = &mut self.slab[id.index()];
        if !connection.in_flush {
            connection.in_flush = true;
            self.flush.push(id);
        }
    }
}

impl Index<ConnectionId> for Connections {
    type Output = Connection;

    fn index(&self, id: ConnectionId) -> &Connection {
        &self.slab[id.index()]
    }
}

impl IndexMut<ConnectionId> for Connections {
    fn index_mut(&mut self, id: ConnectionId) -> &mut Connection {
        &mut self.slab[id.index()]
    }
}

/// The properties of a forwarded message: ours, then the publisher's.
fn add_properties(
    block: &mut PropertyBlock,
    content: &Content,
    subscription_ids: &[u32],
    alias: Alias,
    now: Millis,
) {
    if let Some(at) = content.expires_at {
        // [MQTT-3.3.2-6] what is left of it, in whole seconds. After a power cut the clock may be a
        // little behind that by which it came.
        let seconds = at.saturating_sub(now).div_ceil(1_000);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        block.number(PropertyId::MessageExpiryInterval, seconds);
    }
    if let Alias::New(number) | Alias::Known(number) = alias {
        block.number(PropertyId::TopicAlias, u32::from(number));
    }
    // [MQTT-3.3.4-4] all of them in the one copy that is sent.
    for id in subscription_ids {
        block.number(PropertyId::SubscriptionIdentifier, *id);
    }
    // [MQTT-3.3.2-4] [MQTT-3.3.2-15] to [MQTT-3.3.2-18] [MQTT-3.3.2-20] unaltered, in order.
    block.raw(content.properties.as_bytes());
}
