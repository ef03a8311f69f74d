//! What waits for a client, and goes on when it can take more: messages to be sent again, its
//! queue, and the retained messages for its new subscriptions.
//!
//! It is set going by whatever makes room: an acknowledgement, a socket that took bytes, a new
//! connection or subscription.

use std::ops::ControlFlow;

use super::acl::Access;
use super::connection::{Connections, Sending, Sent};
use super::deadlines::{Deadline, Millis, Timer};
use super::deliver::{Way, subscription_ids};
use super::journal::Journal;
use super::limits::Limits;
use super::pending::{Delivery, InflightState};
use super::replays::Replay;
use super::retained::Progress;
use super::session::Session;
use super::subscriptions::SubscriptionKey;
use super::waiting::delivery;
use super::{Broker, ConnectionId, SessionId};
use crate::packet::{Ack, Packet, PacketId, QoS, ReasonCode};

/// What is done for one client before the others have their turn: its own room bounds what it is
/// sent, but not what is looked at and is not for it.
struct Effort {
    /// Retained topics that may still be looked at, and messages of the queue dropped.
    left: usize,
    /// Of those there were so many that the client was not sent.
    in_vain: usize,
}

impl Effort {
    fn spend_in_vain(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.in_vain += 1;
    }
}

impl Broker {
    /// Sends a client what it can take: what is to be sent again, then what waits in its queue and
    /// what is retained for its new subscriptions, by turns.
    pub(super) fn pump(&mut self, id: SessionId, now: Millis) {
        let Some(connection) = self.sessions[id].connection else {
            return;
        };
        while self.has_room_for_backlog(connection) && self.resend(id, connection, now) {}
        // The end of the turn sees to that, and nothing sooner, however often the client asks.
        if self.sessions[id].in_refill {
            return;
        }
        let mut effort = Effort {
            left: Limits::EFFORT_PER_PUMP,
            in_vain: 0,
        };
        while effort.left > 0 {
            let queued = self.send_queued(id, connection, &mut effort, now);
            let replayed = self.replay(id, connection, &mut effort, now);
            if !queued && !replayed {
                break;
            }
        }
        if effort.left == 0 || effort.in_vain > 0 {
            self.refill(id);
        }
    }

    fn has_room_for_backlog(&self, connection: ConnectionId) -> bool {
        self.connections[connection].has_room_for_backlog(self.memory.owed_max)
    }

    /// Sends again what an earlier connection left unacknowledged [MQTT-4.4.0-1], one at a time.
    fn resend(&mut self, id: SessionId, connection: ConnectionId, now: Millis) -> bool {
        let session = &mut self.sessions[id];
        let Some(inflight) = session.pending().next_to_resend() else {
            return false;
        };
        let packet_id = inflight.packet_id;
        let sequence = inflight.delivery().map_or(0, |delivery| delivery.sequence);
        // Rules may have changed, and so may the user name of the client.
        let topic = inflight.delivery().map(|delivery| delivery.message.topic());
        let authority = &self.authority;
        let is_reader =
            |topic| authority.would_allow(session, Access::Read, &authority.asked(topic));
        if !topic.is_none_or(is_reader) {
            session.pending_mut().give_up_resending();
            self.journal.done(session.queue, sequence);
            self.journal.not_sent(session.queue, packet_id);
            return true;
        }
        let sent = match &inflight.state {
            InflightState::Released => {
                let release = Packet::PubRel(Ack::new(packet_id, ReasonCode::Success));
                self.connections.send(connection, &release);
                Sent::Yes
            }
            InflightState::Published(_)
                if !session
                    .pending()
                    .may_resend(self.connections[connection].receive_maximum) =>
            {
                return false;
            }
            InflightState::Published(delivery) => {
                // [MQTT-3.3.1-1]; [MQTT-4.3.3-7] without regard to its expiry.
                let sending = sending(delivery, true, Some(packet_id));
                let content = delivery.message.content();
                self.connections.publish(connection, &content, sending, now)
            }
        };
        match sent {
            Sent::Yes => session.pending_mut().resent(),
            Sent::TooLarge | Sent::Unseen => {
                session.pending_mut().give_up_resending();
                self.journal.done(session.queue, sequence);
                self.journal.not_sent(session.queue, packet_id);
                self.note_unsent(id, sent);
            }
        }
        true
    }

    /// Sends the first message of the queue, if its client can take it.
    fn send_queued(
        &mut self,
        id: SessionId,
        connection: ConnectionId,
        effort: &mut Effort,
        now: Millis,
    ) -> bool {
        let room = self.has_room_for_backlog(connection);
        let receive_maximum = self.connections[connection].receive_maximum;
        let session = &mut self.sessions[id];
        let Some(first) = session.pending().first_queued() else {
            if !session.pending().shelf.is_empty() {
                self.fetch(id);
            }
            return false;
        };
        let (qos, bytes) = (first.qos, first.message.len());
        let open = qos == QoS::AtMostOnce
            || session
                .pending()
                .window_is_open(bytes, receive_maximum, &self.options.limits);
        if !room || !open {
            return false;
        }
        let Some(delivery) = session.pending_mut().next_queued() else {
            return false;
        };
        let (queue, sequence) = (session.queue, delivery.sequence);
        // [MQTT-3.3.2-5]
        if delivery.message.is_expired(now) {
            self.connections.counters.dropped += 1;
            self.journal.done(queue, sequence);
            effort.spend_in_vain();
            return true;
        }
        // The rules may be others than when it was queued.
        let asked = self.authority.asked(delivery.message.topic());
        if !self.authority.allows(session, Access::Read, &asked) {
            self.journal.done(queue, sequence);
            effort.spend_in_vain();
            return true;
        }
        let (connections, journal) = (&mut self.connections, &mut self.journal);
        let sent = send_first(connections, journal, connection, session, delivery, now);
        // A message of QoS 0 is done with when it has been sent.
        if sent != Sent::Yes || qos == QoS::AtMostOnce {
            self.journal.done(queue, sequence);
        }
        if sent != Sent::Yes {
            effort.spend_in_vain();
        }
        self.note_unsent(id, sent);
        true
    }

    /// The session can go on in the next turn.
    pub(super) fn refill(&mut self, id: SessionId) {
        let session = &mut self.sessions[id];
        if !std::mem::replace(&mut session.in_refill, true) {
            self.refill.push(id);
        }
    }

    /// Goes on with the first replay of a session; when it was enough effort, the next turn goes
    /// on with the second.
    fn replay(
        &mut self,
        id: SessionId,
        connection: ConnectionId,
        effort: &mut Effort,
        now: Millis,
    ) -> bool {
        let session = &mut self.sessions[id];
        let Some((place, mut replay)) = session.replays.pop() else {
            return false;
        };
        let before = effort.left;
        let left = &mut effort.left;
        let (progress, sent) = self.send_retained(&mut replay, id, connection, left, now);
        // What it stopped at has yet to be sent.
        let stopped = usize::from(progress == Progress::Blocked);
        effort.in_vain += (before - effort.left).saturating_sub(sent + stopped);
        let session = &mut self.sessions[id];
        match progress {
            Progress::Done => {
                let topic = SubscriptionKey::Plain(replay.filter);
                let topic = self.subscriptions.topic(topic);
                self.journal.no_replay(session.queue, topic, Some(replay));
            }
            Progress::Blocked => session.replays.put(place, replay),
            Progress::Paused => session.replays.push(replay),
        }
        progress == Progress::Done || sent > 0
    }

    /// Sends messages that are retained for a new subscription, while the client can take them;
    /// returns why it stopped, and how many were sent.
    fn send_retained(
        &mut self,
        replay: &mut Replay,
        id: SessionId,
        connection: ConnectionId,
        topics: &mut usize,
        now: Millis,
    ) -> (Progress, usize) {
        let owed_max = self.memory.owed_max;
        let (session, connections) = (&mut self.sessions[id], &mut self.connections);
        let (journal, authority) = (&mut self.journal, &self.authority);
        let (limits, upgrade) = (&self.options.limits, self.options.upgrade_outgoing_qos);
        let receive_maximum = connections[connection].receive_maximum;
        // While others wait in the queue, they and the retained ones go by turns.
        let most = if session.pending().is_waited() {
            1
        } else {
            usize::MAX
        };
        let mut sent = 0;
        let progress = self.retained.replay(&mut replay.cursor, topics, |entry| {
            let message = &entry.message;
            if sent == most || !connections[connection].has_room_for_backlog(owed_max) {
                return ControlFlow::Break(());
            }
            // [MQTT-3.8.3-3]
            let own = replay.except == Some(entry.publisher);
            if own || message.is_expired(now) || !authority.allows_replay(session, entry) {
                return ControlFlow::Continue(());
            }
            let qos = if upgrade {
                replay.qos
            } else {
                message.qos().min(replay.qos)
            };
            let open = session
                .pending()
                .window_is_open(message.len(), receive_maximum, limits);
            if qos > QoS::AtMostOnce && !open {
                return ControlFlow::Break(());
            }
            // [v3 MQTT-3.3.1-8] RETAIN says that it comes of a new subscription.
            let (retain, subscription_ids) = (true, subscription_ids(&replay.subscription_id));
            let way = Way {
                qos,
                retain,
                subscription_ids,
                group: None,
            };
            let mut delivery = delivery(message.clone(), way);
            if qos > QoS::AtMostOnce && session.queue != 0 {
                delivery.sequence = session.pending_mut().next_sequence();
                journal.wait(session.queue, delivery.sequence, way, None);
                journal.message(&message.content(), message.qos(), true);
            }
            let sequence = delivery.sequence;
            if send_first(connections, journal, connection, session, delivery, now) != Sent::Yes {
                journal.done(session.queue, sequence);
            }
            sent += 1;
            ControlFlow::Continue(())
        });
        (progress, sent)
    }

    /// Expired messages are not sent; once a minute at most, those that nobody asked for are
    /// removed.
    pub(super) fn sweep_by(&mut self, at: Millis) {
        let minutes = at.div_ceil(60_000).max(1);
        let due = minutes.saturating_mul(60_000);
        if !self.sweep_deadline.is_by(due) {
            self.deadlines
                .arm(&mut self.sweep_deadline, due, Timer::RetainedSweep);
        }
    }

    pub(super) fn sweep_retained(&mut self, now: Millis) {
        self.sweep_deadline = Deadline::default();
        let Broker {
            retained, journal, ..
        } = self;
        let next = retained.sweep(now, |topic| {
            if journal.is_on() {
                journal.not_retained(topic, false);
            }
        });
        if let Some(next) = next {
            self.sweep_by(next.max(now + 1));
        }
    }
}

/// Sends a message for the first time; with QoS 1 and 2 it takes a place in the window.
fn send_first(
    connections: &mut Connections,
    journal: &mut Journal,
    connection: ConnectionId,
    session: &mut Session,
    delivery: Delivery,
    now: Millis,
) -> Sent {
    let packet_id =
        (delivery.qos > QoS::AtMostOnce).then(|| session.pending_mut().next_packet_id());
    let dup = delivery.sequence != 0
        && delivery.qos == QoS::AtLeastOnce
        && session.pending().is_doubtful(delivery.sequence);
    let sending = sending(&delivery, dup, packet_id);
    let content = delivery.message.content();
    let sent = connections.publish(connection, &content, sending, now);
    if let (Sent::Yes, Some(packet_id)) = (sent, packet_id) {
        let order = session.pending().order();
        journal.sent(session.queue, packet_id, &delivery, order);
        session.pending_mut().sent(packet_id, delivery);
    }
    sent
}

fn sending(delivery: &Delivery, dup: bool, packet_id: Option<PacketId>) -> Sending<'_> {
    let Delivery { qos, retain, .. } = *delivery;
    Sending {
        qos,
        retain,
        dup,
        packet_id,
        subscription_ids: delivery.subscription_ids(),
        has_waited: true,
    }
}
