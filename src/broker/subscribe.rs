//! SUBSCRIBE and UNSUBSCRIBE.

use log::info;

use super::deadlines::Millis;
use super::handover::Leaving;
use super::limits::Limits;
use super::printable::Printable;
use super::replays::Replay;
use super::retained::Cursor;
use super::subscriptions::{Outcome, Subscriber, SubscriptionKey, sees_sys};
use super::{Broker, ConnectionId, SessionId, mount};
use crate::packet::{
    Packet, Properties, PropertyId, QoS, ReasonCode, Refusal, RetainHandling, SubAck, Subscribe,
    SubscriptionOptions, SubscriptionTopic, TopicFilter, Unsubscribe, Version,
};

impl Broker {
    pub(super) fn on_subscribe(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        subscribe: Subscribe<'_>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let identifier = subscribe
            .properties
            .number(PropertyId::SubscriptionIdentifier);
        // All are read before any is made: a malformed packet changes nothing.
        let mut topics = Vec::with_capacity(subscribe.filters.len());
        for (filter, options) in &subscribe.filters {
            topics.push((self.subscription_topic(filter, options)?, *options));
        }
        let full = self.full_filters(id, topics.iter().map(|(topic, _)| topic));
        for ((topic, _), full) in topics.iter_mut().zip(&full) {
            mount::rename(topic, full);
        }
        // [MQTT-3.8.4-5] one after the other, answered together. [MQTT-3.9.3-1] in their order.
        let mut reasons = Vec::with_capacity(topics.len());
        let mut why = None;
        for (topic, options) in topics {
            let reason = topic.and_then(|topic| {
                self.subscribe(id, session, topic, options, identifier.unwrap_or(0), now)
            });
            reasons.push(reason.unwrap_or_else(|refusal| {
                why = Some(refusal.why);
                if refusal.code == ReasonCode::NotAuthorized {
                    self.connections.counters.subscriptions_denied += 1;
                }
                refusal.code
            }));
        }
        let packet_id = subscribe.packet_id;
        match why {
            Some(why) => self.connections.send_reason(id, why, |properties| {
                Packet::SubAck(SubAck {
                    packet_id,
                    properties,
                    reasons: reasons.clone(),
                })
            }),
            None => {
                let properties = Properties::NONE;
                self.connections.send(
                    id,
                    &Packet::SubAck(SubAck {
                        packet_id,
                        properties,
                        reasons,
                    }),
                );
            }
        }
        self.pump(session, now);
        let session = &mut self.sessions[session];
        for replay in session.replays.iter_mut() {
            let topic = SubscriptionKey::Plain(replay.filter);
            let topic = self.subscriptions.topic(topic);
            self.journal.replay(session.queue, topic, replay);
        }
        Ok(())
    }

    /// The outer error ends the connection, the inner one refuses this filter only.
    fn subscription_topic<'a>(
        &self,
        filter: &'a str,
        options: &SubscriptionOptions,
    ) -> Result<Result<SubscriptionTopic<'a>, Refusal>, Refusal> {
        match SubscriptionTopic::parse(filter) {
            // [MQTT-3.8.3-4]
            Ok(topic) if topic.share_name.is_some() && options.no_local => {
                Err(Refusal::protocol("no local on a shared subscription"))
            }
            Err(refusal) if refusal.code == ReasonCode::MalformedPacket => Err(refusal),
            result => Ok(result),
        }
    }

    /// Returns the QoS granted, as the reason code that says so.
    fn subscribe(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        topic: SubscriptionTopic<'_>,
        options: SubscriptionOptions,
        subscription_id: u32,
        now: Millis,
    ) -> Result<ReasonCode, Refusal> {
        self.may_subscribe(session_id, topic.filter)?;
        let bridge = self.connections[id].bridge;
        let max_qos = self.max_qos(id);
        let session = &mut self.sessions[session_id];
        let key = self.subscriptions.key(topic, session_id);
        let old = key.and_then(|key| self.subscriptions.subscriber(key, session_id).copied());
        let existed = old.is_some();
        if session.queue != 0 && !existed {
            self.journal.check()?;
        }
        if !existed && session.subscriptions.len() >= self.options.limits.subscriptions_max {
            let why = "the client has as many subscriptions as max_subscriptions allows";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        let filter_bytes = session.filter_bytes + topic.byte_count();
        if !existed && filter_bytes > Limits::FILTER_BYTES_PER_SESSION {
            let why = "the filters of the client's subscriptions are too long together";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        let qos = options.qos.min(max_qos);
        let subscriber = Subscriber {
            session: session_id,
            subscription_id,
            qos,
            no_local: options.no_local || bridge,
            retain_as_published: options.retain_as_published || bridge,
        };
        // $SYS is brought up to date before its first subscriber is sent what is retained.
        if self.subscriptions.sys_count() == 0 && sees_sys(topic.filter.as_str()) {
            self.refresh_sys(now);
        }
        let outcome = self.subscriptions.subscribe(topic, subscriber)?;
        if let Outcome::New(key) = outcome {
            let session = &mut self.sessions[session_id];
            session.subscriptions.push(key);
            session.filter_bytes += topic.byte_count();
        }
        // Clients subscribe anew with each connection: what is there needs no new record.
        if old != Some(subscriber) {
            let queue = self.sessions[session_id].queue;
            self.journal.subscription(queue, topic, &subscriber);
        }
        self.update_sys_timer(now);
        self.update_replay(subscriber, topic.filter, options.retain_handling, outcome);
        let client_id = Printable(&self.sessions[session_id].client_id);
        let filter = Printable(topic.filter.as_str());
        info!(
            target: "subscribe", client:% = client_id;
            "{client_id} {} {filter}", qos as u8
        );
        Ok(match qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        })
    }

    /// Begins to send what is retained, if that is wanted; a replay that is under way for the same
    /// filter begins anew, or goes on as the new subscription has it.
    fn update_replay(
        &mut self,
        subscriber: Subscriber,
        filter: TopicFilter,
        retain_handling: RetainHandling,
        outcome: Outcome,
    ) {
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
        let (key, replaced) = match outcome {
            Outcome::New(key) => (key, false),
            Outcome::Replaced(key) => (key, true),
        };
        let wanted = match retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !replaced,
            RetainHandling::DoNotSend => false,
        };
        // 3.8.4: nothing retained for a shared subscription.
        let SubscriptionKey::Plain(id) = key else {
            return;
        };
        let session = &mut self.sessions[subscriber.session];
        let except = subscriber.no_local.then_some(session.identity());
        if wanted {
            session.replays.push(Replay {
                filter: id,
                cursor: Cursor::new(filter, self.retained.stamp()),
                qos: subscriber.qos,
                subscription_id: subscriber.subscription_id,
                except,
                is_kept: false,
            });
        } else if let Some(running) = session.replays.get_mut(id) {
            running.qos = subscriber.qos;
            running.subscription_id = subscriber.subscription_id;
            running.except = except.or(running.except);
        }
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        unsubscribe: Unsubscribe<'_>,
        now: Millis,
    ) -> Result<(), Refusal> {
        let mut topics = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            topics.push(match SubscriptionTopic::parse(filter) {
                Err(refusal) if refusal.code == ReasonCode::MalformedPacket => return Err(refusal),
                result => result,
            });
        }
        let full = self.full_filters(id, topics.iter());
        for (topic, full) in topics.iter_mut().zip(&full) {
            mount::rename(topic, full);
        }
        let reasons = topics
            .into_iter()
            .map(|topic| match topic {
                Ok(topic) => self.unsubscribe(session, topic, now),
                Err(refusal) => refusal.code,
            })
            .collect();
        self.update_sys_timer(now);
        let packet_id = unsubscribe.packet_id;
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.11.3-1]
        let properties = Properties::NONE;
        let reasons = match self.connections[id].version {
            Version::V5 => reasons,
            Version::V31 | Version::V311 => Vec::new(),
        };
        self.connections.send(
            id,
            &Packet::UnsubAck(SubAck {
                packet_id,
                properties,
                reasons,
            }),
        );
        Ok(())
    }

    /// [MQTT-3.10.4-2] nothing new; [MQTT-3.10.4-3] what is under way goes on.
    pub(super) fn unsubscribe(
        &mut self,
        session_id: SessionId,
        topic: SubscriptionTopic,
        now: Millis,
    ) -> ReasonCode {
        let Some(key) = self.subscriptions.key(topic, session_id) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        self.subscriptions.remove(key, session_id);
        let session = &mut self.sessions[session_id];
        self.journal.no_subscription(session.queue, topic);
        session.filter_bytes -= topic.byte_count();
        let at = session.subscriptions.iter().position(|other| *other == key);
        session
            .subscriptions
            .swap_remove(at.expect("a session holds the keys of its own"));
        if let SubscriptionKey::Plain(filter) = key {
            let replay = session.replays.remove(filter);
            self.journal.no_replay(session.queue, topic, replay);
        }
        let filter = Printable(topic.filter.as_str());
        let client_id = Printable(&session.client_id);
        info!(target: "unsubscribe", client:% = client_id; "{client_id} {filter}");
        if let SubscriptionKey::Shared(group) = key {
            self.hand_on_shared(session_id, Leaving::Group(group), now);
        }
        ReasonCode::Success
    }
}
