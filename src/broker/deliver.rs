//! How a new message reaches those who want it: retained, routed, sent at once or queued.
//!
//! A message is kept once, by the first that has to, and shared by all others. What a
//! client can take is decided here: QoS 0 while it owes us less than the soft limit of reading,
//! QoS 1 and 2 within its window; the rest waits in its queue, or is dropped and counted.

use super::acl::Access;
use super::connection::{Sending, Sent};
use super::deadlines::Millis;
use super::decisions::Asked;
use super::limits::Limits;
use super::message::{Content, Message};
use super::retained::source_len;
use super::subscriptions::{GroupId, Matches, Subscriber};
use super::template::Template;
use super::waiting::delivery;
use super::{Broker, ConnectionId, SessionId};
use crate::packet::{PacketId, QoS, Refusal};

/// An Application Message that somebody publishes.
pub(super) struct Publication<'a> {
    pub content: Content<'a>,
    pub qos: QoS,
    pub retain: bool,
    /// Whose No Local subscriptions do not get it; `None` for the server itself.
    pub publisher: Option<SessionId>,
}

impl Publication<'_> {
    /// Whether its publisher waits to be told that it is safe.
    pub fn is_acknowledged(&self) -> bool {
        self.qos > QoS::AtMostOnce && self.publisher.is_some()
    }
}

/// A publication and the one copy of it, as soon as somebody keeps it.
pub(super) struct Outgoing<'a> {
    pub publication: &'a Publication<'a>,
    /// For asking who may read it.
    pub asked: Asked<'a>,
    pub kept: Option<Message>,
    /// For making that copy.
    pub scratch: Vec<u8>,
    /// What it looks like on the wire, where it goes to many.
    pub template: Option<Template>,
}

impl Outgoing<'_> {
    pub fn message(&mut self) -> Message {
        let Publication { content, qos, .. } = self.publication;
        let scratch = &mut self.scratch;
        self.kept
            .get_or_insert_with(|| Message::new(content, *qos, scratch))
            .clone()
    }

    /// Its payload is shared by those who wait for it, not copied.
    fn is_large(&self) -> bool {
        self.publication.content.payload.len() >= Limits::SHARED_PAYLOAD_BYTES
    }

    /// Bytes it counts for in a queue or a window.
    pub fn len(&self) -> usize {
        Message::len_of(&self.publication.content)
    }
}

/// Memory that is used again from publish to publish.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    matches: Matches,
    /// The Subscription Identifiers of one session.
    subscription_ids: Vec<u32>,
    pub message: Vec<u8>,
    template: Template,
    /// Empty: of the turn that is over.
    pub refill: Vec<SessionId>,
}

/// How one session gets a message.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub subscription_ids: &'a [u32],
    pub group: Option<GroupId>,
}

/// What to do with a message for one session.
enum Step {
    Send(ConnectionId),
    Queue,
    /// The client should have got it.
    Drop,
    /// It is not meant for clients that are away.
    Ignore,
}

/// How soon a member of a group could take a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readiness {
    Now,
    Queued,
    Absent,
    /// Only if there is room in memory after all.
    Scarce,
}

impl Broker {
    /// Retains and routes; returns how many sessions and groups it matched. A message that cannot
    /// be retained is refused as a whole.
    pub(super) fn publish(
        &mut self,
        publication: &Publication,
        now: Millis,
    ) -> Result<usize, Refusal> {
        let mut outgoing = Outgoing {
            publication,
            asked: self.authority.asked(publication.content.topic),
            kept: None,
            scratch: std::mem::take(&mut self.scratch.message),
            template: None,
        };
        let mut matches = std::mem::take(&mut self.scratch.matches);
        matches.clear();
        let topic = publication.content.topic;
        self.subscriptions.route(topic, &mut matches);
        // One delivery to a session, however many of its filters match: they are brought together.
        if matches.filters > 1 {
            let subscribers = &mut matches.subscribers;
            subscribers.sort_unstable_by_key(|subscriber| subscriber.session);
        }
        let retained = self
            .may_keep(publication, &matches)
            .and_then(|retains| match retains {
                true => self.retain(&mut outgoing),
                false => Ok(()),
            });
        let reached = retained.map(|()| self.route(&matches, &mut outgoing, now));
        self.keep(publication);
        self.scratch.matches = matches;
        self.scratch.message = outgoing.scratch;
        reached
    }

    fn retain(&mut self, outgoing: &mut Outgoing) -> Result<(), Refusal> {
        let content = &outgoing.publication.content;
        let topic = content.topic;
        // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
        if content.payload.is_empty() {
            let was_there = self.retained.remove(topic);
            // One that was cleared before, by a message that nobody waited for, may be on the
            // medium still.
            let is_acknowledged = outgoing.publication.is_acknowledged();
            if self.journal.is_on() && (was_there || is_acknowledged) {
                self.journal.not_retained(topic, is_acknowledged);
            }
            return Ok(());
        }
        let publisher = outgoing.publication.publisher;
        let source = publisher.filter(|_| self.authority.is_on());
        let source = source.and_then(|id| self.authority.source(&self.sessions[id]));
        let len = outgoing.len() + source_len(&source);
        self.retained.admit(topic, len, &self.options.limits)?;
        // The server's own are few.
        let is_scarce = publisher.is_some() && (self.memory.is_short || self.has_enough());
        if is_scarce && !self.retained.replaces(topic, len) {
            return Err(self.refuse_for_memory());
        }
        if let Some(at) = content.expires_at {
            self.sweep_by(at);
        }
        let publisher_hash = publisher.map_or(0, |id| self.sessions[id].identity());
        // The server's own figures are new after each start.
        if self.journal.is_on() && publisher.is_some() {
            let Publication { content, qos, .. } = outgoing.publication;
            // Devices say the same again and again: that needs no new record.
            let source = source.as_ref();
            if !self.retained.has(content, *qos, publisher_hash, source) {
                let is_acknowledged = outgoing.publication.is_acknowledged();
                self.journal
                    .retained(content, *qos, publisher_hash, source, is_acknowledged);
            }
        }
        self.retained
            .store(outgoing.message(), publisher_hash, source);
        Ok(())
    }

    fn route(&mut self, matches: &Matches, outgoing: &mut Outgoing, now: Millis) -> usize {
        if matches.subscribers.len() > 1 {
            if outgoing.is_large() {
                outgoing.message();
            }
            let mut template = std::mem::take(&mut self.scratch.template);
            template.clear();
            outgoing.template = Some(template);
        }
        let mut reached = matches.groups.len();
        for own in matches.subscribers.chunk_by(|a, b| a.session == b.session) {
            reached += usize::from(self.deliver_matched(own, outgoing, now));
        }
        for group in &matches.groups {
            self.deliver_shared(*group, outgoing, now);
        }
        if let Some(template) = outgoing.template.take() {
            self.scratch.template = template;
        }
        reached
    }

    /// Delivers to the session whose subscriptions `own` are; `false` if No Local leaves none, or
    /// the client may not read it.
    fn deliver_matched(
        &mut self,
        own: &[Subscriber],
        outgoing: &mut Outgoing,
        now: Millis,
    ) -> bool {
        let Publication {
            qos,
            retain,
            publisher,
            ..
        } = *outgoing.publication;
        let mut subscription_ids = std::mem::take(&mut self.scratch.subscription_ids);
        subscription_ids.clear();
        let mut granted = None;
        let mut retain_as_published = false;
        for subscriber in own {
            // [MQTT-3.8.3-3]
            if subscriber.no_local && publisher == Some(subscriber.session) {
                continue;
            }
            // [MQTT-3.3.4-2] the best QoS of all that match.
            granted = granted.max(Some(subscriber.qos));
            // [MQTT-3.3.4-3]
            if subscriber.subscription_id != 0 {
                subscription_ids.push(subscriber.subscription_id);
            }
            retain_as_published |= subscriber.retain_as_published;
        }
        let session = own[0].session;
        if !self.may(session, Access::Read, &outgoing.asked) {
            granted = None;
        }
        if let Some(granted) = granted {
            let way = Way {
                qos: self.outgoing_qos(qos, granted),
                // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
                retain: retain && retain_as_published,
                subscription_ids: &subscription_ids,
                group: None,
            };
            self.deliver(session, way, outgoing, now);
        }
        self.scratch.subscription_ids = subscription_ids;
        granted.is_some()
    }

    /// [MQTT-3.8.4-8] the lower of both, unless the operator wants the granted one.
    fn outgoing_qos(&self, published: QoS, granted: QoS) -> QoS {
        if self.options.upgrade_outgoing_qos {
            granted
        } else {
            published.min(granted)
        }
    }

    /// Delivers to one member of a group: the next that is ready.
    fn deliver_shared(&mut self, group: GroupId, outgoing: &mut Outgoing, now: Millis) {
        match self.ready_member(group, None, outgoing) {
            Some((_, member)) => self.deliver_to_member(group, member, outgoing, now),
            None => self.connections.counters.dropped += 1,
        }
    }

    pub(super) fn deliver_to_member(
        &mut self,
        group: GroupId,
        member: Subscriber,
        outgoing: &mut Outgoing,
        now: Millis,
    ) {
        let Publication { qos, retain, .. } = *outgoing.publication;
        // It is known that it may: now it is known for the next time as well.
        let _ = self.may(member.session, Access::Read, &outgoing.asked);
        let way = Way {
            // [MQTT-4.8.2-3]
            qos: self.outgoing_qos(qos, member.qos),
            retain: retain && member.retain_as_published,
            subscription_ids: subscription_ids(&member.subscription_id),
            group: Some(group),
        };
        self.deliver(member.session, way, outgoing, now);
    }

    /// The member of a group, other than `except`, that can take a message soonest; the first of
    /// them from the one on whose turn it is.
    pub(super) fn ready_member(
        &mut self,
        group: GroupId,
        except: Option<SessionId>,
        outgoing: &Outgoing,
    ) -> Option<(Readiness, Subscriber)> {
        let (qos, bytes) = (outgoing.publication.qos, outgoing.len());
        let first = self.subscriptions.next_turn(group);
        let mut best: Option<(Readiness, Subscriber)> = None;
        for member in self.subscriptions.members(group, first) {
            if Some(member.session) == except || !self.is_reader(member, outgoing) {
                continue;
            }
            let qos = self.outgoing_qos(qos, member.qos);
            match self.readiness(member.session, qos, bytes) {
                Some(Readiness::Now) => return Some((Readiness::Now, *member)),
                Some(ready) if best.is_none_or(|(best, _)| ready < best) => {
                    best = Some((ready, *member));
                }
                Some(_) | None => {}
            }
        }
        best
    }

    fn is_reader(&self, member: &Subscriber, outgoing: &Outgoing) -> bool {
        if !self.authority.is_on() && !self.connections.has_mounts() {
            return true;
        }
        let session = &self.sessions[member.session];
        let topic = outgoing.publication.content.topic.as_bytes();
        let sees = |id| self.connections.sees(id, topic);
        session.connection.is_none_or(sees)
            && self
                .authority
                .would_allow(session, Access::Read, &outgoing.asked)
    }

    /// `None` where the message would be dropped.
    fn readiness(&self, id: SessionId, qos: QoS, bytes: usize) -> Option<Readiness> {
        let session = &self.sessions[id];
        match self.step(id, qos, bytes) {
            Step::Send(_) => Some(Readiness::Now),
            Step::Queue if !self.may_wait(session) => None,
            Step::Queue
                if !session
                    .pending()
                    .queue_has_room(bytes, &self.options.limits) =>
            {
                None
            }
            Step::Queue if session.queue != 0 && self.has_enough() => Some(Readiness::Scarce),
            Step::Queue if session.connection.is_some() => Some(Readiness::Queued),
            Step::Queue => Some(Readiness::Absent),
            Step::Drop | Step::Ignore => None,
        }
    }

    /// What to do with a message of `bytes` for a session.
    fn step(&self, id: SessionId, qos: QoS, bytes: usize) -> Step {
        let session = &self.sessions[id];
        let queues_qos0 = self.options.queue_qos0_messages && !self.memory.is_short;
        match (session.connection, qos) {
            (None, QoS::AtMostOnce) if !queues_qos0 => Step::Ignore,
            (None, _) => Step::Queue,
            // [MQTT-4.6.0-6] not before those of its kind that waited while the client was away.
            (Some(_), QoS::AtMostOnce) if queues_qos0 && session.pending().is_waited() => {
                Step::Queue
            }
            (Some(connection), QoS::AtMostOnce) => match self.has_room(connection) {
                true => Step::Send(connection),
                false => Step::Drop,
            },
            (Some(connection), QoS::AtLeastOnce | QoS::ExactlyOnce) => {
                match self.has_room(connection) && self.can_send(id, connection, bytes) {
                    true => Step::Send(connection),
                    false => Step::Queue,
                }
            }
        }
    }

    /// Whether the client has taken enough of what it is owed to be sent another message.
    fn has_room(&self, connection: ConnectionId) -> bool {
        self.connections[connection].has_room(self.memory.owed_max)
    }

    /// Whether a new QoS 1 or 2 message can go out at once without overtaking another.
    fn can_send(&self, id: SessionId, connection: ConnectionId, bytes: usize) -> bool {
        let session = &self.sessions[id];
        let receive_maximum = self.connections[connection].receive_maximum;
        !session.pending().is_waited()
            && session
                .pending()
                .window_is_open(bytes, receive_maximum, &self.options.limits)
    }

    /// Sends to a session now, or queues for it, or drops.
    fn deliver(&mut self, id: SessionId, way: Way, outgoing: &mut Outgoing, now: Millis) {
        match self.step(id, way.qos, outgoing.len()) {
            Step::Send(connection) if way.qos == QoS::AtMostOnce => {
                let sent = self.send(connection, way, None, outgoing, now);
                if sent != Sent::Yes {
                    self.note_unsent(id, sent);
                }
            }
            Step::Send(connection) => {
                let packet_id = self.sessions[id].pending_mut().next_packet_id();
                let mut delivery = delivery(outgoing.message(), way);
                let sent = self.send(connection, way, Some(packet_id), outgoing, now);
                if sent == Sent::Yes {
                    if self.sessions[id].queue != 0 {
                        self.keep_sent(id, way, packet_id, &mut delivery);
                    }
                    self.sessions[id].pending_mut().sent(packet_id, delivery);
                } else {
                    self.note_unsent(id, sent);
                }
            }
            Step::Queue => self.queue(id, way, outgoing),
            Step::Drop if self.memory.is_short => self.note_dropped_for_memory(id, 1),
            Step::Drop => self.note_dropped(id, 1),
            Step::Ignore => {}
        }
    }

    /// [MQTT-3.1.2-25] where the client cannot take a packet that large, or may not see it, the
    /// message is done with for it.
    fn send(
        &mut self,
        connection: ConnectionId,
        way: Way,
        packet_id: Option<PacketId>,
        outgoing: &mut Outgoing,
        now: Millis,
    ) -> Sent {
        let Way {
            qos,
            retain,
            subscription_ids,
            ..
        } = way;
        let sending = Sending {
            qos,
            retain,
            dup: false,
            packet_id,
            subscription_ids,
            has_waited: false,
        };
        let content = match &outgoing.kept {
            // A large payload is shared with the copy.
            Some(kept) if outgoing.is_large() => kept.content(),
            _ => outgoing.publication.content,
        };
        let connections = &mut self.connections;
        match &mut outgoing.template {
            None => connections.publish(connection, &content, sending, now),
            Some(template) => {
                connections.publish_to_many(connection, &content, sending, template, now)
            }
        }
    }
}

/// Subscription Identifiers of one subscription; 0 stands for none.
pub(super) fn subscription_ids(id: &u32) -> &[u32] {
    match id {
        0 => &[],
        id => std::slice::from_ref(id),
    }
}
