//! From records back to the state they were written for, when the broker starts.
//!
//! Values come in any order, so sessions are drafted first and built at the end. What makes no
//! sense is left out, counted, and said: a broker always starts.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use bytes::Buf;
use log::warn;

use super::acl::Identity;
use super::authority::Source;
use super::deadlines::{Millis, Timer};
use super::decisions::Who;
use super::draft::{Draft, LATEST, Sent, subscriber, subscription_id, time, will};
use super::ending::Will;
use super::journal::{
    CLOCK, HAS_SOURCE, RECEIVED, REPLAY, RETAINED, SENT, SESSION, SUBSCRIPTION, WILL,
};
use super::kept::{self, ClientId};
use super::message::{Content, Message, forwarded};
use super::pending::{Delivery, InflightState, Origin};
use super::printable::Printable;
use super::replays::Replay;
use super::retained::Cursor;
use super::session::NEVER_EXPIRES;
use super::shelf::Sequence;
use super::storage::Fetch;
use super::subscriptions::{Outcome, Subscriber, SubscriptionKey};
use super::{Broker, SessionId};
use crate::packet::{PacketId, QoS, SubscriptionTopic, TopicName};

/// A clock on the wall that shows an earlier time has not been set: the year 2024, in milliseconds
/// since 1970. Boards without a battery begin in 1970, or where they were switched off.
const PLAUSIBLE: Millis = 1_704_067_200_000;

/// A broker whose state comes back.
#[derive(Debug)]
pub struct Restore<'b> {
    broker: &'b mut Broker,
    /// By number.
    drafts: BTreeMap<u32, Draft>,
    clock: Option<(Millis, u64)>,
    /// Who published what is retained, as it is kept.
    sources: BTreeMap<Box<[u8]>, Rc<Identity>>,
    /// Records that make no sense.
    lost: usize,
}

/// What [`Restore::finish`] made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub sessions: usize,
    pub retained: usize,
    /// Records that made no sense, and were left out.
    pub lost: usize,
    /// Messages that were in flight with QoS 2, in their order. They must be brought before the
    /// first turn, one each; see [`Broker::restored`].
    pub sent: Vec<(Fetch, PacketId)>,
    /// Queues in which messages of a group may wait: after those all in them must be brought; see
    /// [`Broker::restored_shared`].
    pub shared: Vec<Fetch>,
    /// They were to end with their connections; see [`Broker::end_restored`].
    pub ended: Vec<SessionId>,
}

impl Broker {
    /// To be called before anything else happens.
    pub fn restore(&mut self) -> Restore<'_> {
        Restore {
            broker: self,
            drafts: BTreeMap::new(),
            clock: None,
            sources: BTreeMap::new(),
            lost: 0,
        }
    }

    /// What became of one of [`Restored::sent`]: place, extra and body as they were kept, or
    /// nothing where it cannot be read. It is to be sent again under its id.
    pub fn restored(
        &mut self,
        (fetch, packet_id): (Fetch, PacketId),
        found: Option<(Sequence, &[u8], &[u8])>,
    ) {
        let found = found.filter(|(sequence, ..)| *sequence == fetch.first);
        let delivery = found.and_then(|(at, extra, body)| self.restore_delivery(at, extra, body));
        let Some(session) = self.fetching(&fetch) else {
            return;
        };
        let pending = session.pending_mut();
        let was_there = pending.shelf.remove(fetch.first);
        match delivery.filter(|_| was_there) {
            Some(delivery) => {
                pending.restore_sent(packet_id, InflightState::Published(delivery));
            }
            None => {
                self.journal.not_sent(fetch.queue, packet_id);
                self.journal.done(fetch.queue, fetch.first);
            }
        }
    }

    /// One message of [`Restored::shared`]: if it came to a group, it waits in memory.
    pub fn restored_shared(&mut self, fetch: &Fetch, at: Sequence, extra: &[u8], body: &[u8]) {
        let delivery = self.restore_delivery(at, extra, body);
        let Some(delivery) = delivery.filter(|delivery| delivery.group().is_some()) else {
            return;
        };
        if let Some(session) = self.fetching(fetch)
            && session.pending().shelf.contains(at)
        {
            session.pending_mut().queue(delivery);
        }
    }

    /// All of one of [`Restored::shared`] has been brought.
    pub fn end_restored_shared(&mut self, fetch: &Fetch) {
        if let Some(session) = self.fetching(fetch) {
            session.pending_mut().unshelve_shared();
        }
    }

    /// At last: all who may get their wills, and what waits for them, are there.
    pub fn end_restored(&mut self, ended: &[SessionId], now: Instant) {
        let now = self.millis(now);
        ended.iter().for_each(|id| self.end_session(*id, now));
    }

    /// A message from the queue of a session, unless it makes no sense.
    pub(super) fn restore_delivery(
        &self,
        sequence: Sequence,
        extra: &[u8],
        body: &[u8],
    ) -> Option<Delivery> {
        let mut extra = extra;
        let flags = extra.try_get_u8().ok()?;
        let mut subscription_ids = Vec::new();
        if flags & 8 != 0 {
            for _ in 0..extra.try_get_u16().ok()? {
                let id = subscription_id(&mut extra)?;
                subscription_ids.push(Some(id).filter(|id| *id != 0)?);
            }
        }
        let group = std::str::from_utf8(extra)
            .ok()
            .filter(|text| !text.is_empty());
        let group = group.and_then(|text| SubscriptionTopic::parse(text).ok());
        let group = group.and_then(|topic| self.subscriptions.group(topic));
        let matters = !subscription_ids.is_empty() || group.is_some();
        let origin = Origin {
            subscription_ids,
            group,
        };
        Some(Delivery {
            message: Message::decode(body)?,
            qos: QoS::parse(flags & 3).ok()?,
            retain: flags & 4 != 0,
            sequence,
            origin: matters.then(|| Box::new(origin)),
        })
    }
}

impl Restore<'_> {
    /// One value, in any order.
    pub fn value(&mut self, key: &[u8], value: &[u8]) {
        if self.try_value(key, value).is_none() {
            self.lost += 1;
        }
    }

    fn try_value(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (&kind, mut key) = key.split_first()?;
        let mut value = value;
        match kind {
            CLOCK => self.clock = Some((time(&mut value)?, value.try_get_u64().ok()?)),
            SESSION => {
                let client_id = std::str::from_utf8(key).ok()?;
                let draft = self.drafts.entry(value.try_get_u32().ok()?).or_default();
                draft.expiry_interval = value.try_get_u32().ok()?;
                draft.expires_at = time(&mut value)?;
                draft.client_id = Some(client_id.into());
                // What was written before who it is was kept ends here.
                if !value.is_empty() {
                    let listeners = &self.broker.options.listeners;
                    let who = kept::decode(&mut value, ClientId::Known(client_id), listeners)?;
                    draft.who = Some(who);
                }
            }
            RETAINED => self.retained(key, value)?,
            SUBSCRIPTION => {
                let draft = self.drafts.entry(key.try_get_u32().ok()?).or_default();
                let topic = std::str::from_utf8(key).ok()?;
                SubscriptionTopic::parse(topic).ok()?;
                let subscriber = subscriber(value)?;
                draft.subscriptions.push((topic.into(), subscriber));
            }
            REPLAY => {
                let draft = self.drafts.entry(key.try_get_u32().ok()?).or_default();
                draft.replays.push(std::str::from_utf8(key).ok()?.into());
            }
            RECEIVED => {
                let draft = self.drafts.entry(key.try_get_u32().ok()?).or_default();
                draft.received.push(key.try_get_u16().ok()?);
            }
            SENT => {
                let draft = self.drafts.entry(key.try_get_u32().ok()?).or_default();
                draft.sent.push(Sent {
                    packet_id: key.try_get_u16().ok()?,
                    sequence: value.try_get_u32().unwrap_or(0),
                    order: value.try_get_u64().unwrap_or(0),
                });
            }
            WILL => {
                let draft = self.drafts.entry(key.try_get_u32().ok()?).or_default();
                draft.will = Some(will(value)?);
            }
            _ => return None,
        }
        Some(())
    }

    fn retained(&mut self, topic: &[u8], value: &[u8]) -> Option<()> {
        let mut rest = value;
        let publisher = rest.try_get_u64().ok()?;
        let expires_at = match rest.try_get_u64().ok()? {
            Millis::MAX => None,
            at => Some(Some(at).filter(|at| *at <= LATEST)?),
        };
        let flags = rest.try_get_u8().ok()?;
        let qos = QoS::parse(flags & !HAS_SOURCE).ok()?;
        let source = match flags & HAS_SOURCE {
            0 => None,
            _ => Some(self.source(&mut rest)?),
        };
        let properties_len = rest.try_get_u32().ok()? as usize;
        let (properties, payload) = rest.split_at_checked(properties_len)?;
        let content = Content {
            topic: TopicName::parse(std::str::from_utf8(topic).ok()?).ok()?,
            properties: forwarded(properties)?,
            payload,
            expires_at,
            message: None,
        };
        let Broker {
            retained, scratch, ..
        } = &mut *self.broker;
        let message = Message::new(&content, qos, &mut scratch.message);
        retained.store(message, publisher, source);
        if let Some(at) = expires_at {
            self.broker.sweep_by(at);
        }
        Some(())
    }

    /// Who published much is there once.
    fn source(&mut self, rest: &mut &[u8]) -> Option<Source> {
        let bytes = *rest;
        let who = kept::decode(rest, ClientId::Inside, &self.broker.options.listeners)?;
        let bytes = &bytes[..bytes.len() - rest.len()];
        if let Some(known) = self.sources.get(bytes) {
            return Some(Source::new(known.clone()));
        }
        let who = Rc::new(who);
        self.sources.insert(bytes.into(), who.clone());
        Some(Source::new(who))
    }

    /// A message that waits in a queue, by its length: in their order, after all values.
    pub fn waiting(&mut self, queue: u32, sequence: Sequence, len: u32) {
        if sequence == 0 {
            return self.lost += 1;
        }
        let draft = self.drafts.entry(queue).or_default();
        draft.shelf.push(sequence, len as usize);
        draft.last = sequence;
    }

    /// Builds the sessions. `wall` is what the clock on the wall says, in milliseconds since 1970:
    /// it tells how long the broker was off, if it can be believed now and could then. What it
    /// does not tell, no session expires by.
    pub fn finish(self, wall: Millis, now: Instant) -> Restored {
        let Restore {
            broker,
            drafts,
            clock,
            lost,
            ..
        } = self;
        if let Some((clock, wall_then)) = clock {
            let is_set = wall_then >= PLAUSIBLE;
            let off = if is_set {
                wall.saturating_sub(wall_then)
            } else {
                0
            };
            broker.started_at = clock + off.min(LATEST);
        }
        let now = broker.millis(now);
        broker.sys.restored(now);
        let mut restored = Restored {
            retained: broker.retained.len(),
            lost,
            ..Restored::default()
        };
        broker.subscriptions.set_restoring(true);
        for (queue, draft) in drafts {
            broker.journal.queues = broker.journal.queues.max(queue.into());
            match &draft.client_id {
                // 0 is no session's number.
                Some(client_id) if queue != 0 && broker.sessions.find(client_id).is_none() => {
                    let id = broker.restore_session(queue, draft, now, &mut restored);
                    match broker.sessions[id].expiry_interval {
                        0 => restored.ended.push(id),
                        _ => restored.sessions += 1,
                    }
                }
                Some(_) | None => {
                    restored.lost += 1;
                    broker.journal.no_queue(queue);
                }
            }
        }
        broker.subscriptions.set_restoring(false);
        broker.update_sys_timer(now);
        broker.say_what_is_beyond();
        restored
    }
}

impl Broker {
    fn restore_session(
        &mut self,
        queue: u32,
        draft: Draft,
        now: Millis,
        restored: &mut Restored,
    ) -> SessionId {
        self.stretch(&draft);
        let id = self.sessions.create(&draft.client_id.unwrap_or_default());
        self.restore_subscriptions(id, draft.subscriptions, restored);
        for topic in &draft.replays {
            self.restore_replay(id, topic);
        }
        let interval = u64::from(draft.expiry_interval);
        let session = &mut self.sessions[id];
        session.queue = queue;
        session.expiry_interval = draft.expiry_interval;
        session.who = draft.who.map(|identity| Box::new(Who::new(identity)));
        for packet_id in draft.received {
            session.received.restore(packet_id);
        }
        if !draft.shelf.is_empty() || !draft.sent.is_empty() {
            let is_member = session.is_member();
            let pending = session.pending_mut();
            if is_member {
                let first = draft.shelf.first().unwrap_or_default();
                restored.shared.push(Fetch { id, queue, first });
            }
            let mut sent = draft.sent;
            sent.sort_by_key(|sent| sent.order);
            let last_order = sent.last().map_or(0, |sent| sent.order);
            let inflight_max = self.options.limits.inflight_messages_max;
            pending.restore(draft.shelf, draft.last, last_order, inflight_max);
            for Sent {
                packet_id,
                sequence: first,
                ..
            } in sent
            {
                match first {
                    0 => pending.restore_sent(packet_id, InflightState::Released),
                    _ => restored.sent.push((Fetch { id, queue, first }, packet_id)),
                }
            }
        }
        if draft.expiry_interval != NEVER_EXPIRES && interval > 0 {
            // Where it was connected, its time begins now.
            let expires_at = match draft.expires_at {
                0 => now + interval * 1_000,
                at => at.max(now),
            };
            let deadline = &mut session.expiry_deadline;
            self.deadlines
                .arm(deadline, expires_at, Timer::SessionExpiry(id));
            self.journal
                .session(session, draft.expiry_interval, expires_at);
        }
        if let Some((will, due_at)) = draft.will {
            self.restore_will(id, will, due_at, now);
        }
        id
    }

    fn restore_will(&mut self, id: SessionId, will: Will, due_at: Millis, now: Millis) {
        let session = &mut self.sessions[id];
        let due_at = match due_at {
            0 => now + u64::from(will.delay_interval) * 1_000,
            at => at.max(now),
        };
        if will.delay_interval < session.expiry_interval {
            let deadline = &mut session.will_deadline;
            self.deadlines.arm(deadline, due_at, Timer::WillDelay(id));
            self.journal.will(session.queue, &will, due_at);
        }
        session.will = Some(Box::new(will));
    }

    /// It begins anew: how far it had come is not kept.
    fn restore_replay(&mut self, id: SessionId, topic: &str) -> Option<()> {
        let topic = SubscriptionTopic::parse(topic).ok()?;
        let key = self.subscriptions.key(topic, id)?;
        let subscriber = *self.subscriptions.subscriber(key, id)?;
        let SubscriptionKey::Plain(filter) = key else {
            return None;
        };
        let session = &mut self.sessions[id];
        session.replays.push(Replay {
            filter,
            cursor: Cursor::new(topic.filter, self.retained.stamp()),
            qos: subscriber.qos,
            subscription_id: subscriber.subscription_id,
            except: subscriber.no_local.then_some(session.identity()),
            is_kept: true,
        });
        Some(())
    }

    /// What was kept stays, where limits are lower than they were; and all that was in flight to
    /// a client waits for it now. Nothing is added beyond the limits.
    fn stretch(&mut self, draft: &Draft) {
        let stretched = &mut self.stretched;
        let bytes = draft.shelf.bytes();
        stretched.queued_bytes_max = bytes.max(stretched.queued_bytes_max);
        let raise = |limit: &mut usize, to: usize| *limit = to.max(*limit);
        raise(&mut stretched.subscriptions_max, draft.subscriptions.len());
        raise(&mut stretched.queued_messages_max, draft.shelf.len());
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        raise(&mut stretched.inflight_bytes_max, bytes);
        let inflight = draft.sent.len() as u16;
        stretched.inflight_messages_max = inflight.max(stretched.inflight_messages_max);
    }

    fn say_what_is_beyond(&mut self) {
        self.say_who_is_judged_by_nothing();
        let limits = &self.options.limits;
        let (sessions, retained) = (self.sessions.len(), self.retained.len());
        let bytes = self.retained.bytes();
        if sessions > limits.sessions_max {
            warn!("There are {sessions} sessions, more than global_max_clients allows.");
            self.stretched.sessions_max = sessions;
        }
        if retained > limits.retained_messages_max || bytes > limits.retained_bytes_max {
            warn!(
                "There are {retained} retained messages of {bytes} bytes, more than \
                 max_retained_messages or max_retained_bytes allow."
            );
            let stretched = &mut self.stretched;
            stretched.retained_messages_max = retained.max(stretched.retained_messages_max);
            stretched.retained_bytes_max = bytes.max(stretched.retained_bytes_max);
        }
    }

    fn restore_subscriptions(
        &mut self,
        id: SessionId,
        subscriptions: Vec<(Box<str>, Subscriber)>,
        restored: &mut Restored,
    ) {
        for (topic, subscriber) in subscriptions {
            let subscriber = Subscriber {
                session: id,
                ..subscriber
            };
            let topic = SubscriptionTopic::parse(&topic);
            let made = topic.and_then(|topic| {
                let outcome = self.subscriptions.subscribe(topic, subscriber)?;
                Ok((topic.byte_count(), outcome))
            });
            match made {
                Ok((bytes, Outcome::New(key))) => {
                    let session = &mut self.sessions[id];
                    session.subscriptions.push(key);
                    session.filter_bytes += bytes;
                }
                Ok((_, Outcome::Replaced(_))) => {}
                Err(refusal) => {
                    let client_id = Printable(&self.sessions[id].client_id);
                    let why = refusal.why;
                    warn!("A subscription of client {client_id} does not come back: {why}.");
                    restored.lost += 1;
                }
            }
        }
    }
}
