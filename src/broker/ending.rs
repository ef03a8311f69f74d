//! How connections end, and what they leave: DISCONNECT, Wills, sessions that stay or expire.

use log::{debug, warn};

use super::connection::Phase;
use super::deadlines::{Deadline, Millis, Timer};
use super::deliver::Publication;
use super::handover::Leaving;
use super::message::{Content, Message, put_forwarded};
use super::printable::Printable;
use super::session::NEVER_EXPIRES;
use super::subscriptions::SubscriptionKey;
use super::{Broker, ConnectionId, SessionId};
use crate::packet::{self, Disconnect, PropertyBlock, PropertyId, ReasonCode, Refusal, TopicName};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// DISCONNECT with Normal disconnection: the Will is void.
    Disconnected,
    /// DISCONNECT that asks for the Will.
    DisconnectedWithWill,
    /// The network is gone, or was never used.
    Lost,
    /// We end it.
    Refused(Refusal),
}

/// A message to publish when the connection ends badly (3.1.2.5).
#[derive(Debug)]
pub struct Will {
    pub message: Message,
    pub retain: bool,
    /// Message Expiry Interval in seconds: it begins when the will is published.
    pub expiry_interval: Option<u32>,
    /// Seconds.
    pub delay_interval: u32,
}

impl Will {
    /// That of a CONNECT.
    pub fn new(will: &packet::Will) -> Will {
        let mut block = PropertyBlock::new();
        put_forwarded(&will.properties, &mut block);
        let content = Content {
            topic: TopicName::trusted(will.topic.as_bytes()),
            properties: block.as_properties(),
            payload: will.payload,
            expires_at: None,
            message: None,
        };
        let number = |property| will.properties.number(property);
        Will {
            message: Message::new(&content, will.qos, &mut Vec::new()),
            retain: will.retain,
            expiry_interval: number(PropertyId::MessageExpiryInterval),
            delay_interval: number(PropertyId::WillDelayInterval).unwrap_or(0),
        }
    }

    /// The message as it is published at `now`: its expiry counts from there.
    pub fn content(&self, now: Millis) -> Content<'_> {
        let expires_at = self
            .expiry_interval
            .map(|seconds| now + u64::from(seconds) * 1_000);
        Content {
            expires_at,
            message: None,
            ..self.message.content()
        }
    }
}

impl Broker {
    pub(super) fn on_disconnect(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        disconnect: Disconnect<'_>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let expiry = disconnect
            .properties
            .number(PropertyId::SessionExpiryInterval);
        if let Some(seconds) = expiry {
            // 3.14.2.2.2: a session that was to end with its connection cannot be prolonged.
            if self.sessions[session].expiry_interval == 0 && seconds != 0 {
                let why = "the session expiry interval was 0 and cannot be changed now";
                return Err(Refusal::protocol(why));
            }
            let interval = self.longest_expiry(seconds);
            let session = &mut self.sessions[session];
            let old = std::mem::replace(&mut session.expiry_interval, interval);
            // Another one is noted with the time that it ends at.
            if interval == NEVER_EXPIRES && old != NEVER_EXPIRES {
                self.journal.session(session, interval, 0);
            }
        }
        // [MQTT-3.14.4-3]
        let end = match disconnect.reason {
            ReasonCode::Success => End::Disconnected,
            _ => End::DisconnectedWithWill,
        };
        self.end_connection(id, end, now);
        Ok(())
    }

    /// The CONNECT is overdue, or the client has been silent: or it has spoken since this was set.
    pub(super) fn on_connection_deadline(&mut self, id: ConnectionId, now: Millis) {
        let connection = &mut self.connections[id];
        connection.deadline = Deadline::default();
        if connection.is_held_back {
            // What it says is not read.
            connection.last_packet = now;
        }
        match connection.phase {
            Phase::AwaitConnect => {
                debug!("No CONNECT from {} in time.", connection.peer);
                self.end_connection(id, End::Lost, now);
            }
            Phase::AwaitVerdict(_) => self.waited_in_vain(id, now),
            Phase::Connected(_) => match self.silence_deadline(id) {
                // [MQTT-3.1.2-22] silent for one and a half keep alives.
                Some(at) if at <= now => {
                    let why = "nothing was heard for one and a half times the keep alive";
                    self.refuse(id, Refusal::new(ReasonCode::KeepAliveTimeout, why), now);
                }
                Some(at) => {
                    let deadline = &mut self.connections[id].deadline;
                    self.deadlines.arm(deadline, at, Timer::Connection(id));
                }
                None => {}
            },
            Phase::Closing => {}
        }
    }

    /// When the client will have been silent for too long, rounded up so that clients with the
    /// same keep alive come due together: one wake-up for all of them.
    pub(super) fn silence_deadline(&self, id: ConnectionId) -> Option<Millis> {
        let connection = &self.connections[id];
        let silence_max = Millis::from(connection.silence_max);
        let grid = (silence_max / 16).max(1);
        let due = (connection.last_packet + silence_max).next_multiple_of(grid);
        (silence_max > 0).then_some(due)
    }

    /// Condemns a connection and looks after its Will and its session. The only way a connection
    /// ends; its slot is freed by the shell's [`Broker::forget`].
    pub(super) fn end_connection(&mut self, id: ConnectionId, end: End, now: Millis) {
        let connection = &mut self.connections[id];
        let listener = connection.listener;
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        if phase == Phase::Closing {
            return;
        }
        self.deadlines
            .disarm(&mut connection.deadline, Timer::Connection(id));
        let held = std::mem::take(&mut connection.leftover).len();
        connection.aliases = None;
        connection.refused = matches!(end, End::Refused(_));
        self.connections.close.push(id);
        match phase {
            Phase::Connected(session) => {
                self.connected -= 1;
                self.connected_through[listener] -= 1;
                self.log_ended(id, session, end);
                self.disconnect_session(session, end, now);
            }
            Phase::AwaitConnect => self.connections.no_longer_awaited(id),
            Phase::AwaitVerdict(ticket) => self.no_longer_waits(ticket, held),
            Phase::Closing => {}
        }
    }

    fn disconnect_session(&mut self, id: SessionId, end: End, now: Millis) {
        let session = &mut self.sessions[id];
        session.disconnected();
        // [MQTT-3.1.2-10] gone without being sent.
        if end == End::Disconnected && session.will.take().is_some() {
            self.journal.no_will(session.queue);
        }
        let (expiry_interval, delay) = (
            session.expiry_interval,
            session.will.as_ref().map_or(0, |will| will.delay_interval),
        );
        // [MQTT-4.1.0-2]
        if expiry_interval == 0 {
            return self.end_session(id, now);
        }
        if expiry_interval != NEVER_EXPIRES {
            let at = now + u64::from(expiry_interval) * 1_000;
            let deadline = &mut session.expiry_deadline;
            self.deadlines.arm(deadline, at, Timer::SessionExpiry(id));
            self.journal.session(session, expiry_interval, at);
        }
        // [MQTT-3.1.2-8] after the delay, or with the session, whichever is sooner.
        if delay == 0 {
            self.publish_will(id, now);
        } else if delay < expiry_interval {
            let at = now + u64::from(delay) * 1_000;
            let session = &mut self.sessions[id];
            let deadline = &mut session.will_deadline;
            self.deadlines.arm(deadline, at, Timer::WillDelay(id));
            if let Some(will) = &session.will {
                self.journal.will(session.queue, will, at);
            }
        }
        self.hand_on_shared(id, Leaving::Connection, now);
        self.sessions[id].rest();
    }

    /// Discards a session, whose connection has ended: its Will is due now at the latest.
    pub(super) fn end_session(&mut self, id: SessionId, now: Millis) {
        assert!(
            self.sessions[id].connection.is_none(),
            "a session ends after its connection"
        );
        self.publish_will(id, now);
        let session = &mut self.sessions[id];
        self.deadlines
            .disarm(&mut session.expiry_deadline, Timer::SessionExpiry(id));
        self.deadlines
            .disarm(&mut session.will_deadline, Timer::WillDelay(id));
        let queue = session.queue;
        for key in std::mem::take(&mut session.subscriptions) {
            let topic = self.subscriptions.topic(key);
            self.journal.no_subscription(queue, topic);
            if let SubscriptionKey::Plain(filter) = key {
                let replay = session.replays.remove(filter);
                self.journal.no_replay(queue, topic, replay);
            }
            self.subscriptions.remove(key, id);
        }
        self.hand_on_shared(id, Leaving::Session, now);
        self.subscriptions.session_ended(id);
        self.refill.retain(|other| *other != id);
        let session = self.sessions.remove(id);
        self.journal.no_session(&session);
        self.update_sys_timer(now);
    }

    /// Publishes the Will of a session, if it still has one.
    pub(super) fn publish_will(&mut self, id: SessionId, now: Millis) {
        let session = &mut self.sessions[id];
        self.deadlines
            .disarm(&mut session.will_deadline, Timer::WillDelay(id));
        let Some(will) = session.will.take() else {
            return;
        };
        self.journal.no_will(session.queue);
        // Other rules may be in force than when the client connected.
        if let Err(refusal) = self.may_publish(id, will.message.topic()) {
            let client_id = Printable(&self.sessions[id].client_id);
            let why = refusal.why;
            warn!(client:% = client_id; "The will of {client_id} is not published: {why}.");
            self.connections.counters.publish_refused(refusal);
            return;
        }
        let content = will.content(now);
        let publisher = Some(id);
        let mut publication = Publication {
            content,
            qos: will.message.qos(),
            retain: will.retain,
            publisher,
        };
        // The store for retained messages may be full: then the Will is published without.
        if let Err(refusal) = self.publish(&publication, now) {
            let client_id = Printable(&self.sessions[id].client_id);
            let why = refusal.why;
            warn!(client:% = client_id; "The will of {client_id} is not retained: {why}.");
            publication.retain = false;
            // Nor may it be kept for those who are away: then it is for those who are here.
            if self.journal.check().is_err() {
                publication.publisher = None;
            }
            let _ = self.publish(&publication, now);
        }
    }
}
