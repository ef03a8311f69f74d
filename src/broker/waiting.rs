//! How a message waits for a client: in its queue, within limits, and on disk where it is to
//! survive.

use log::warn;

use super::connection::Sent;
use super::deliver::{Outgoing, Publication, Way};
use super::journal::Storage;
use super::limits::QueueOverflow;
use super::message::Message;
use super::pending::{Delivery, Origin};
use super::printable::Printable;
use super::session::Session;
use super::shelf::Sequence;
use super::subscriptions::{Matches, Subscriber, SubscriptionKey};
use super::{Broker, SessionId};
use crate::packet::{PacketId, QoS, Refusal};

impl Broker {
    /// Whether a message that says so is retained. Where nothing new can be kept, what would have
    /// to be is refused as a whole if it is to be acknowledged: what is acknowledged is safe.
    pub(super) fn may_keep(
        &self,
        publication: &Publication,
        matches: &Matches,
    ) -> Result<bool, Refusal> {
        let Err(refusal) = self.journal.check() else {
            return Ok(publication.retain);
        };
        let is_durable = |member: &Subscriber| {
            member.qos > QoS::AtMostOnce && self.sessions[member.session].queue != 0
        };
        let mut members = matches
            .groups
            .iter()
            .flat_map(|group| self.subscriptions.members(*group, 0));
        let waits = matches.subscribers.iter().any(is_durable) || members.any(is_durable);
        let retains = publication.retain && !self.takes_no_room(publication);
        match publication.publisher {
            None => Ok(publication.retain),
            Some(_) if publication.qos == QoS::AtMostOnce => Ok(publication.retain && !retains),
            Some(_) if waits || retains => Err(refusal),
            Some(_) => Ok(publication.retain),
        }
    }

    /// On a full disk what goes is still noted, and what is there needs nothing.
    fn takes_no_room(&self, publication: &Publication) -> bool {
        let Publication { content, qos, .. } = publication;
        let is_there = |id: SessionId| {
            let publisher = &self.sessions[id];
            let source = self.authority.source(publisher);
            let identity = publisher.identity();
            self.retained.has(content, *qos, identity, source.as_ref())
        };
        self.journal.storage == Storage::Full
            && (content.payload.is_empty() || publication.publisher.is_some_and(is_there))
    }

    /// Notes the message for all the queues that it waits in now.
    pub(super) fn keep(&mut self, publication: &Publication) {
        let is_acknowledged = publication.is_acknowledged();
        self.journal
            .message(&publication.content, publication.qos, is_acknowledged);
    }

    /// Whether another message may wait: for a durable session it must be kept.
    pub(super) fn may_wait(&self, session: &Session) -> bool {
        session.queue == 0 || self.journal.check().is_ok()
    }

    pub(super) fn queue(&mut self, id: SessionId, way: Way, outgoing: &mut Outgoing) {
        let stays = self.sessions[id].queue != 0;
        if !self.may_wait(&self.sessions[id]) || !self.make_room(id, outgoing.len()) {
            return self.note_dropped(id, 1);
        }
        let Publication { publisher, qos, .. } = outgoing.publication;
        // What is handed on has its place in memory: another queue's.
        if publisher.is_some() && !self.make_memory(stays, *qos) {
            return self.note_dropped_for_memory(id, 1);
        }
        let sequence = self.wait(id, way);
        let shelves = self.sessions[id].shelves(way.group.is_some());
        let pending = self.sessions[id].pending_mut();
        if shelves {
            pending.shelf.push(sequence, outgoing.len());
        } else {
            let mut delivery = delivery(outgoing.message(), way);
            delivery.sequence = sequence;
            pending.queue(delivery);
        }
    }

    /// Makes room for a message of `bytes` in a full queue, if that is the policy.
    fn make_room(&mut self, id: SessionId, bytes: usize) -> bool {
        let options = &self.options;
        let (limits, overflow) = (&options.limits, options.queue_overflow);
        // What fits no queue must not empty this one.
        if bytes as u64 > limits.queued_bytes_max || limits.queued_messages_max == 0 {
            return false;
        }
        let session = &mut self.sessions[id];
        let mut dropped = 0;
        while !session.pending().queue_has_room(bytes, limits) {
            if overflow == QueueOverflow::DropNewest {
                return false;
            }
            let Some(sequence) = session.pending_mut().drop_oldest() else {
                break;
            };
            self.journal.done(session.queue, sequence);
            dropped += 1;
        }
        if dropped > 0 {
            self.note_dropped(id, dropped);
        }
        true
    }

    /// The message on its way was sent to a durable session; until it is acknowledged, it has a
    /// place in its queue.
    pub(super) fn keep_sent(
        &mut self,
        id: SessionId,
        way: Way,
        packet_id: PacketId,
        delivery: &mut Delivery,
    ) {
        delivery.sequence = self.wait(id, way);
        let session = &self.sessions[id];
        let order = session.pending().order();
        self.journal.sent(session.queue, packet_id, delivery, order);
    }

    /// The message on its way gets a place in the queue of a durable session, see
    /// [`Broker::keep`].
    fn wait(&mut self, id: SessionId, way: Way) -> Sequence {
        let session = &mut self.sessions[id];
        if session.queue == 0 {
            return 0;
        }
        let sequence = session.pending_mut().next_sequence();
        let subscriptions = &self.subscriptions;
        let group = way.group.map(SubscriptionKey::Shared);
        let group = group.map(|group| subscriptions.topic(group));
        self.journal.wait(session.queue, sequence, way, group);
        sequence
    }

    /// A message that the client should have got is counted; one that it may not see is not.
    pub(super) fn note_unsent(&mut self, id: SessionId, sent: Sent) {
        match sent {
            Sent::Yes | Sent::Unseen => {}
            Sent::TooLarge => self.note_dropped(id, 1),
        }
    }

    /// Counts messages that a client will not get; logs the first of an episode.
    pub(super) fn note_dropped(&mut self, id: SessionId, count: usize) {
        self.connections.counters.dropped += count as u64;
        let session = &mut self.sessions[id];
        let pending = session.pending_mut();
        if !std::mem::replace(&mut pending.dropping, true) {
            let client_id = Printable(&session.client_id);
            warn!(
                client:% = client_id;
                "Outgoing messages are being dropped for client {client_id}."
            );
        }
    }
}

pub(super) fn delivery(message: Message, way: Way) -> Delivery {
    let Way {
        qos,
        retain,
        subscription_ids,
        group,
    } = way;
    let matters = !subscription_ids.is_empty() || group.is_some();
    let origin = Origin {
        subscription_ids: subscription_ids.to_vec(),
        group,
    };
    Delivery {
        message,
        qos,
        retain,
        sequence: 0,
        origin: matters.then(|| Box::new(origin)),
    }
}
