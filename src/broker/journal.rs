//! What must survive, as records: sessions that outlive their connections, and what is retained.
//!
//! A session that is durable has a number: of its queue among the records, and the start of the
//! keys of what belongs to it. Sessions that end with their connections leave no trace.
//!
//! | Key | Value |
//! |---|---|
//! | `c` | the broker's clock and the wall clock, see [`clock`] |
//! | `s` client id | number, Session Expiry Interval, when it expires (0 while connected), who |
//! | `f` number, topic as subscribed | options, Subscription Identifier |
//! | `i` number, packet id | of a QoS 2 message that came and was not released |
//! | `o` number, packet id | of a QoS 2 message that was sent: its place, its order; or: released |
//! | `p` number, topic as subscribed | what is retained for it has not all been sent |
//! | `w` number | will: when it is due (0 while connected), delay, expiry, RETAIN, message |
//! | `r` topic | publisher, expiry, QoS, who that was, properties, payload |
//!
//! Who somebody is may be missing, see `kept.rs`. Numbers are big-endian. Messages that wait for a
//! durable client, or were sent to it and not acknowledged, stand in its queue. A Packet Identifier
//! of QoS 1 is not kept: to the client, what is sent again may always have come before.
//!
//! Each record says how soon it must be on the medium: what is acknowledged before that, what
//! nobody waits for within [`SOON`].

use super::authority::Source;
use super::deadlines::Millis;
use super::deliver::Way;
use super::ending::Will;
use super::kept::{self, ClientId};
use super::limits::Durability;
use super::message::{Content, Message};
use super::pending::Delivery;
use super::replays::Replay;
use super::session::Session;
use super::shelf::Sequence;
use super::subscriptions::Subscriber;
use crate::packet::{PacketId, QoS, ReasonCode, Refusal, SubscriptionTopic, TopicName};
use crate::record::{Batch, Ref};

/// What nobody is told about: should power be lost before, a message comes twice, or a value that
/// was published with QoS 0 is an older one.
pub const SOON: Millis = 5_000;
/// When the kernel likes.
pub const WHENEVER: Millis = Millis::MAX;

/// The largest scratch that is kept.
const VALUE_BYTES: usize = 64 << 10;

pub(super) const CLOCK: u8 = b'c';
pub(super) const SESSION: u8 = b's';
pub(super) const SUBSCRIPTION: u8 = b'f';
pub(super) const RECEIVED: u8 = b'i';
pub(super) const SENT: u8 = b'o';
pub(super) const REPLAY: u8 = b'p';
pub(super) const WILL: u8 = b'w';
pub(super) const RETAINED: u8 = b'r';
/// Beside the QoS of what is retained: it says who published it.
pub(super) const HAS_SOURCE: u8 = 4;

/// What may be asked of the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    #[default]
    Good,
    /// No room: nothing new is kept, but what goes is noted.
    Full,
    /// No room even for what was taken in: it is held, and may be lost.
    Stuck,
    /// It failed: what is on it is not known, until the next start.
    Broken,
}

/// Where a message waits.
#[derive(Debug)]
struct Waiting {
    queue: u32,
    sequence: Sequence,
    /// Of what only this queue needs to know.
    extra_end: usize,
}

#[derive(Debug, Default)]
pub struct Journal {
    /// `None`: nothing is kept.
    durability: Option<Durability>,
    /// What listeners are known by.
    listeners: Vec<Box<str>>,
    pub storage: Storage,
    records: Batch,
    /// How soon one of them must be on the medium.
    within: Option<Millis>,
    /// Of the message that is on its way.
    waiting: Vec<Waiting>,
    extras: Vec<u8>,
    /// Durable sessions that began, or the highest number of those that there were at the start.
    pub queues: u64,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Journal {
    pub fn new(durability: Option<Durability>, listeners: Vec<Box<str>>) -> Journal {
        Journal {
            durability,
            listeners,
            ..Journal::default()
        }
    }

    /// Other terms for what is kept; whether anything is, stays.
    pub fn set_durability(&mut self, durability: Option<Durability>) {
        if durability.is_some() == self.is_on() {
            self.durability = durability;
        }
    }

    pub fn is_on(&self) -> bool {
        self.durability.is_some()
    }

    /// Why nothing new can be kept, if so.
    pub fn check(&self) -> Result<(), Refusal> {
        let why = match self.storage {
            Storage::Good => return Ok(()),
            Storage::Full | Storage::Stuck => "there is no room on the server's disk to keep it",
            Storage::Broken => "the server's disk has failed and keeps nothing more",
        };
        Err(Refusal::new(ReasonCode::QuotaExceeded, why))
    }

    /// Whether a durable session can go on: each of its steps must be kept.
    pub fn serves_durable(&self) -> bool {
        match self.storage {
            Storage::Good | Storage::Full => true,
            Storage::Stuck | Storage::Broken => false,
        }
    }

    /// Whether there is nothing to hand out.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Hands out the records of a turn, and how soon they must be on the medium.
    pub fn end_turn(&mut self, records: &mut Batch) -> Option<Millis> {
        assert!(self.waiting.is_empty(), "a message was routed and not kept");
        records.clear();
        std::mem::swap(records, &mut self.records);
        self.within.take()
    }

    // ---- sessions: a number of 0 is that of one that is not durable, of which nothing is kept --

    /// `expires_at` is 0 while it is connected, or never expires.
    pub fn session(&mut self, session: &Session, interval: u32, expires_at: Millis) {
        let queue = session.queue;
        if queue == 0 {
            return;
        }
        self.value.extend_from_slice(&queue.to_be_bytes());
        self.value.extend_from_slice(&interval.to_be_bytes());
        self.value.extend_from_slice(&expires_at.to_be_bytes());
        if let Some(who) = &session.who {
            let known = ClientId::Known(&session.client_id);
            kept::encode(&who.identity, known, &self.listeners, &mut self.value);
        }
        self.put_named(SESSION, session.client_id.as_bytes(), self.usual());
    }

    /// A session has ended, whose subscriptions and will are gone.
    pub fn no_session(&mut self, session: &Session) {
        let queue = session.queue;
        if queue == 0 {
            return;
        }
        for packet_id in session.received.ids() {
            self.not_received(queue, packet_id);
        }
        for packet_id in session.pending().exactly_once_ids() {
            self.not_sent(queue, packet_id);
        }
        self.no_queue(queue);
        self.delete_named(SESSION, session.client_id.as_bytes(), self.usual());
    }

    pub fn subscription(&mut self, queue: u32, topic: SubscriptionTopic, subscriber: &Subscriber) {
        if queue == 0 {
            return;
        }
        let flags = subscriber.qos as u8
            | u8::from(subscriber.no_local) << 2
            | u8::from(subscriber.retain_as_published) << 3;
        self.value.push(flags);
        let id = subscriber.subscription_id.to_be_bytes();
        self.value.extend_from_slice(&id);
        self.put(
            SUBSCRIPTION,
            queue,
            topic.to_string().as_bytes(),
            self.usual(),
        );
    }

    pub fn no_subscription(&mut self, queue: u32, topic: SubscriptionTopic) {
        if queue == 0 {
            return;
        }
        self.delete(
            SUBSCRIPTION,
            queue,
            topic.to_string().as_bytes(),
            self.usual(),
        );
    }

    /// Retained messages for a new subscription are not all sent by the end of its turn.
    pub fn replay(&mut self, queue: u32, topic: SubscriptionTopic, replay: &mut Replay) {
        if queue != 0 && !std::mem::replace(&mut replay.is_kept, true) {
            self.put(REPLAY, queue, topic.to_string().as_bytes(), self.usual());
        }
    }

    /// They are, or need not be any more.
    pub fn no_replay(&mut self, queue: u32, topic: SubscriptionTopic, replay: Option<Replay>) {
        if replay.is_some_and(|replay| replay.is_kept) {
            self.delete(REPLAY, queue, topic.to_string().as_bytes(), self.soon());
        }
    }

    /// `due_at` is 0 while the client is connected.
    pub fn will(&mut self, queue: u32, will: &Will, due_at: Millis) {
        if queue == 0 {
            return;
        }
        self.value.extend_from_slice(&due_at.to_be_bytes());
        let delay = will.delay_interval.to_be_bytes();
        self.value.extend_from_slice(&delay);
        let expiry = will.expiry_interval.map_or(u64::MAX, u64::from);
        self.value.extend_from_slice(&expiry.to_be_bytes());
        self.value.push(u8::from(will.retain));
        self.value.extend_from_slice(will.message.as_bytes());
        self.put(WILL, queue, &[], self.usual());
    }

    pub fn no_will(&mut self, queue: u32) {
        if queue == 0 {
            return;
        }
        self.delete(WILL, queue, &[], self.usual());
    }

    /// Of a session that nothing else is known of.
    pub fn no_queue(&mut self, queue: u32) {
        self.note(self.soon());
        self.records.drop_queue(queue);
    }

    // ---- QoS 2 --------------------------------------------------------------------------------

    /// A message came [MQTT-4.3.3-10].
    #[inline]
    pub fn received(&mut self, queue: u32, packet_id: PacketId) {
        if queue == 0 {
            return;
        }
        self.put(RECEIVED, queue, &packet_id.to_be_bytes(), self.usual());
    }

    /// Its id may stand for another one.
    #[inline]
    pub fn not_received(&mut self, queue: u32, packet_id: PacketId) {
        if queue == 0 {
            return;
        }
        self.delete(RECEIVED, queue, &packet_id.to_be_bytes(), self.usual());
    }

    /// A message is sent under that id: under another, the client would take it for a new one.
    #[inline]
    pub fn sent(&mut self, queue: u32, packet_id: PacketId, delivery: &Delivery, order: u64) {
        if delivery.sequence != 0 && delivery.qos == QoS::ExactlyOnce {
            self.put_sent(queue, packet_id, delivery, order);
        }
    }

    fn put_sent(&mut self, queue: u32, packet_id: PacketId, delivery: &Delivery, order: u64) {
        // Forgotten, its id could stand for a message that was to be safe.
        let within = self.within_of(delivery.message.topic()).min(self.usual());
        let sequence = delivery.sequence.to_be_bytes();
        self.value.extend_from_slice(&sequence);
        self.value.extend_from_slice(&order.to_be_bytes());
        self.put(SENT, queue, &packet_id.to_be_bytes(), within);
    }

    /// PUBREC came: the message must not be sent again.
    pub fn released(&mut self, queue: u32, packet_id: PacketId) {
        if queue == 0 {
            return;
        }
        self.put(SENT, queue, &packet_id.to_be_bytes(), self.usual());
    }

    /// The id is free. What is sent under it next is behind this in the log.
    #[inline]
    pub fn not_sent(&mut self, queue: u32, packet_id: PacketId) {
        if queue == 0 {
            return;
        }
        self.delete(SENT, queue, &packet_id.to_be_bytes(), self.soon());
    }

    // ---- messages -----------------------------------------------------------------------------

    /// The message that is on its way waits in that queue, too; see [`Journal::message`].
    /// `group` is the shared subscription that it came by.
    pub(super) fn wait(
        &mut self,
        queue: u32,
        sequence: Sequence,
        way: Way,
        group: Option<SubscriptionTopic>,
    ) {
        let has_ids = !way.subscription_ids.is_empty();
        let flags = way.qos as u8 | u8::from(way.retain) << 2 | u8::from(has_ids) << 3;
        self.extras.push(flags);
        if has_ids {
            let count = way.subscription_ids.len() as u16;
            self.extras.extend_from_slice(&count.to_be_bytes());
            for id in &way.subscription_ids[..usize::from(count)] {
                self.extras.extend_from_slice(&id.to_be_bytes());
            }
        }
        if let Some(group) = group {
            self.extras.extend_from_slice(group.to_string().as_bytes());
        }
        self.waiting.push(Waiting {
            queue,
            sequence,
            extra_end: self.extras.len(),
        });
    }

    /// The message that was on its way: kept once, for all the queues it waits in.
    #[inline]
    pub fn message(&mut self, content: &Content, qos: QoS, is_acknowledged: bool) {
        if !self.waiting.is_empty() {
            self.put_message(content, qos, is_acknowledged);
        }
    }

    fn put_message(&mut self, content: &Content, qos: QoS, is_acknowledged: bool) {
        let within = match is_acknowledged {
            true => self.within_of(content.topic),
            false => self.soon(),
        };
        self.note(within);
        Message::encode(content, qos, &mut self.value);
        let (mut start, extras) = (0, &self.extras);
        let refs = self.waiting.iter().map(|waiting| {
            let extra = &extras[start..waiting.extra_end];
            start = waiting.extra_end;
            Ref {
                queue: waiting.queue,
                sequence: waiting.sequence,
                extra,
            }
        });
        self.records.message(refs, &self.value);
        self.forget_value();
        self.waiting.clear();
        self.extras.clear();
    }

    /// It has left the queue, if it was kept.
    #[inline]
    pub fn done(&mut self, queue: u32, sequence: Sequence) {
        if sequence != 0 {
            self.note(self.soon());
            self.records.done(queue, sequence);
        }
    }

    pub fn retained(
        &mut self,
        content: &Content,
        qos: QoS,
        publisher: u64,
        source: Option<&Source>,
        is_acknowledged: bool,
    ) {
        let expires_at = content.expires_at.unwrap_or(Millis::MAX);
        let properties = content.properties.as_bytes();
        self.value.extend_from_slice(&publisher.to_be_bytes());
        self.value.extend_from_slice(&expires_at.to_be_bytes());
        self.value
            .push(qos as u8 | source.map_or(0, |_| HAS_SOURCE));
        if let Some(source) = source {
            let who = &source.identity;
            kept::encode(who, ClientId::Inside, &self.listeners, &mut self.value);
        }
        let len = properties.len() as u32;
        self.value.extend_from_slice(&len.to_be_bytes());
        self.value.extend_from_slice(properties);
        self.value.extend_from_slice(content.payload);
        let within = match is_acknowledged {
            true => self.within_of(content.topic),
            false => self.soon(),
        };
        self.put_named(RETAINED, content.topic.as_bytes(), within);
    }

    pub fn not_retained(&mut self, topic: TopicName, is_acknowledged: bool) {
        let within = match is_acknowledged {
            true => self.within_of(topic),
            false => self.soon(),
        };
        self.delete_named(RETAINED, topic.as_bytes(), within);
    }

    // ---- how soon -----------------------------------------------------------------------------

    fn usual(&self) -> Millis {
        let durability = self.durability.as_ref();
        durability.map_or(WHENEVER, |durability| durability.within)
    }

    fn soon(&self) -> Millis {
        self.usual().max(SOON)
    }

    fn within_of(&self, topic: TopicName) -> Millis {
        let durability = self.durability.as_ref();
        durability.map_or(WHENEVER, |durability| durability.of(topic))
    }

    fn note(&mut self, within: Millis) {
        self.within = Some(self.within.map_or(within, |other| other.min(within)));
    }

    // ---- records ------------------------------------------------------------------------------

    fn put(&mut self, kind: u8, queue: u32, name: &[u8], within: Millis) {
        self.key.push(kind);
        self.key.extend_from_slice(&queue.to_be_bytes());
        self.key.extend_from_slice(name);
        self.put_key(within);
    }

    fn put_named(&mut self, kind: u8, name: &[u8], within: Millis) {
        self.key.push(kind);
        self.key.extend_from_slice(name);
        self.put_key(within);
    }

    fn put_key(&mut self, within: Millis) {
        self.note(within);
        self.records.put(&self.key, &self.value);
        self.key.clear();
        self.forget_value();
    }

    fn forget_value(&mut self) {
        self.value.clear();
        self.value.shrink_to(VALUE_BYTES);
    }

    fn delete(&mut self, kind: u8, queue: u32, name: &[u8], within: Millis) {
        self.key.push(kind);
        self.key.extend_from_slice(&queue.to_be_bytes());
        self.key.extend_from_slice(name);
        self.delete_key(within);
    }

    fn delete_named(&mut self, kind: u8, name: &[u8], within: Millis) {
        self.key.push(kind);
        self.key.extend_from_slice(name);
        self.delete_key(within);
    }

    fn delete_key(&mut self, within: Millis) {
        self.note(within);
        self.records.delete(&self.key);
        self.key.clear();
    }
}

/// Notes what time it is: the broker's, in milliseconds, which everything above is reckoned in and
/// which goes on where the last run ended; and the wall's, since 1970, which says how long the
/// broker was off.
pub fn clock(records: &mut Batch, clock: Millis, wall: u64) {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&clock.to_be_bytes());
    value[8..].copy_from_slice(&wall.to_be_bytes());
    records.put(&[CLOCK], &value);
}
