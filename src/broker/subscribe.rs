//! SUBSCRIBE and UNSUBSCRIBE.

use std::time::Instant;

use log::info;

use super::retained::Cursor;
use super::session::Replay;
use super::subscriptions::{Outcome, Subscriber};
use super::{Broker, ConnectionId, SessionId};
use crate::packet::{
    Packet, Properties, PropertyId, QoS, ReasonCode, Refusal, RetainHandling, SubAck, Subscribe,
    SubscriptionOptions, SubscriptionTopic, Unsubscribe, Version,
};

impl Broker {
    pub(super) fn on_subscribe(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        subscribe: Subscribe<'_>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let identifier = subscribe
            .properties
            .number(PropertyId::SubscriptionIdentifier);
        // All are read before any is made: a malformed packet changes nothing.
        let mut topics = Vec::with_capacity(subscribe.filters.len());
        for (filter, options) in &subscribe.filters {
            topics.push((self.subscription_topic(filter, options)?, *options));
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
        now: Instant,
    ) -> Result<ReasonCode, Refusal> {
        let bridge = self.connections[id].bridge;
        let session = &mut self.sessions[session_id];
        let existed = self.subscriptions.key(topic, session_id).is_some();
        if !existed && session.subscriptions.len() >= self.options.limits.subscriptions_max {
            let why = "the client has as many subscriptions as --max-subscriptions allows";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        let qos = options.qos.min(self.options.max_qos);
        let subscriber = Subscriber {
            session: session_id,
            subscription_id,
            qos,
            no_local: options.no_local || bridge,
            retain_as_published: options.retain_as_published || bridge,
        };
        // $SYS is brought up to date before its first subscriber is sent what is retained.
        if self.subscriptions.sys_count() == 0 && topic.filter.as_str().starts_with("$SYS") {
            self.refresh_sys(now);
        }
        let held = &self.sessions[session_id].subscriptions;
        let outcome = self.subscriptions.subscribe(topic, subscriber, held)?;
        if let Outcome::New(key) = outcome {
            self.sessions[session_id].subscriptions.push(key);
        }
        self.update_sys_timer(now);
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]; 3.8.4: none for a shared subscription.
        let wants_retained = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => outcome != Outcome::Replaced,
            RetainHandling::DoNotSend => false,
        };
        if wants_retained && topic.share_name.is_none() {
            self.begin_replay(session_id, topic, qos, subscription_id);
        }
        let client_id = &self.sessions[session_id].client_id;
        info!(target: "subscribe", "{client_id} {} {}", qos as u8, topic.filter.as_str());
        Ok(match qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        })
    }

    fn begin_replay(
        &mut self,
        session: SessionId,
        topic: SubscriptionTopic,
        qos: QoS,
        subscription_id: u32,
    ) {
        let cursor = Cursor::new(topic.filter, self.retained.stamp());
        let replays = &mut self.sessions[session].replays;
        replays.retain(|replay| replay.cursor.filter() != topic.filter.as_str());
        replays.push_back(Replay {
            cursor,
            qos,
            subscription_id,
        });
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        unsubscribe: Unsubscribe<'_>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let mut topics = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            topics.push(match SubscriptionTopic::parse(filter) {
                Err(refusal) if refusal.code == ReasonCode::MalformedPacket => return Err(refusal),
                result => result,
            });
        }
        let reasons = topics
            .into_iter()
            .map(|topic| match topic {
                Ok(topic) => self.unsubscribe(session, topic),
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
    fn unsubscribe(&mut self, session_id: SessionId, topic: SubscriptionTopic) -> ReasonCode {
        let Some(key) = self.subscriptions.key(topic, session_id) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        self.subscriptions.remove(key, session_id);
        let session = &mut self.sessions[session_id];
        session.subscriptions.retain(|other| *other != key);
        if topic.share_name.is_none() {
            session
                .replays
                .retain(|replay| replay.cursor.filter() != topic.filter.as_str());
        }
        info!(target: "unsubscribe", "{} {}", session.client_id, topic.filter.as_str());
        ReasonCode::Success
    }
}
