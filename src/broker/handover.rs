//! What a member of a shared subscription leaves behind: others of its group may have it.
//!
//! A message stays with its session unless another member takes it then and there: nothing is lost
//! on the way. A QoS 2 message that was sent stays in any case [MQTT-4.8.2-4] [MQTT-4.8.2-5].

use std::collections::BTreeMap;

use super::deadlines::Millis;
use super::deliver::{Outgoing, Publication, Readiness};
use super::pending::Delivery;
use super::subscriptions::GroupId;
use super::{Broker, SessionId};
use crate::packet::QoS;

/// How a member leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It is disconnected, its session goes on: members that are present may have what it has not
    /// acknowledged.
    Connection,
    /// For ever: members that are away may have it too.
    Session,
    /// It has unsubscribed: members that are present may have what it was not sent yet.
    Group(GroupId),
}

/// The bytes of the smallest message of a QoS that nobody in a group takes: as all that the members
/// do meanwhile is take more, they need not be asked for others like it.
type Exhausted = BTreeMap<(GroupId, QoS), usize>;

impl Broker {
    pub(super) fn hand_on_shared(&mut self, id: SessionId, leaving: Leaving, now: Millis) {
        if self.subscriptions.shared_count() == 0 || !self.sessions[id].pending().has_shared() {
            return;
        }
        let (mut inflight, mut queue) = self.sessions[id].pending_mut().take_pending();
        let mut exhausted = Exhausted::new();
        // [MQTT-3.10.4-3] after an UNSUBSCRIBE the delivery of what was sent is completed.
        if !matches!(leaving, Leaving::Group(_)) {
            inflight.retain(|inflight| match inflight.delivery() {
                Some(delivery) if delivery.qos == QoS::AtLeastOnce => {
                    !self.hand_on(id, leaving, delivery, &mut exhausted, now)
                }
                Some(_) | None => true,
            });
        }
        queue.retain(|delivery| !self.hand_on(id, leaving, delivery, &mut exhausted, now));
        self.sessions[id].pending_mut().put_pending(inflight, queue);
    }

    /// Whether the message is another member's now, or nobody's as it has expired.
    fn hand_on(
        &mut self,
        id: SessionId,
        leaving: Leaving,
        delivery: &Delivery,
        exhausted: &mut Exhausted,
        now: Millis,
    ) -> bool {
        let Some(group) = delivery.group() else {
            return false;
        };
        if matches!(leaving, Leaving::Group(left) if left != group) {
            return false;
        }
        // [MQTT-3.3.2-5]
        let queue = self.sessions[id].queue;
        if delivery.message.is_expired(now) {
            self.connections.counters.dropped += 1;
            self.journal.done(queue, delivery.sequence);
            return true;
        }
        let publication = Publication {
            content: delivery.message.content(),
            qos: delivery.message.qos(),
            retain: delivery.retain,
            publisher: None,
        };
        let mut outgoing = Outgoing {
            publication: &publication,
            asked: self.authority.asked(publication.content.topic),
            kept: Some(delivery.message.clone()),
            scratch: Vec::new(),
            template: None,
        };
        let kind = (group, delivery.message.qos());
        let refused = exhausted.get(&kind).copied().unwrap_or(usize::MAX);
        let taker = match delivery.message.len() < refused {
            true => self.ready_member(group, Some(id), &outgoing),
            false => None,
        };
        match taker {
            Some((ready, member)) if ready < Readiness::Absent || leaving == Leaving::Session => {
                self.deliver_to_member(group, member, &mut outgoing, now);
                self.keep(&publication);
                self.journal.done(queue, delivery.sequence);
                // Where something waits, a QoS 0 message may wait behind it.
                exhausted.remove(&(group, QoS::AtMostOnce));
                true
            }
            Some(_) | None => {
                exhausted.insert(kind, delivery.message.len().min(refused));
                false
            }
        }
    }
}
