//! PUBLISH and its acknowledgements, from the client.

use log::debug;

use super::aliases::Aliases;
use super::connection::Connection;
use super::deadlines::Millis;
use super::deliver::Publication;
use super::message::{Content, check_properties, put_forwarded};
use super::pending::Acked;
use super::printable::Printable;
use super::session::Session;
use super::{Broker, ConnectionId, SessionId, access, mount};
use crate::packet::{
    Ack, Packet, PacketId, PropertyBlock, PropertyId, Publish, QoS, ReasonCode, Refusal, TopicName,
    Version,
};

impl Broker {
    pub(super) fn on_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: Publish<'_>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.connections.counters.publish_bytes_received += publish.payload.len() as u64;
        self.connections[id].has_published = true;
        self.feel(now);
        self.check_publish(id, &publish)?;
        let resolved = self.resolve(id, &publish)?;
        let topic = match &resolved {
            Some(topic) => TopicName::trusted(topic.as_bytes()),
            None => TopicName::parse(publish.topic)?,
        };
        match publish.packet_id {
            Some(packet_id) if publish.qos == QoS::ExactlyOnce => {
                if self.sessions[session].received.contains(packet_id) {
                    // [MQTT-4.3.3-10] it came before: say so again, deliver it once.
                    self.acknowledge(id, publish.qos, packet_id, ReasonCode::Success);
                    return Ok(());
                }
                let received = self.sessions[session].received.here();
                if received >= usize::from(self.connections[id].granted.receive_maximum)
                    && self.connections[id].version == Version::V5
                {
                    let why = "more QoS 2 messages under way than receive_maximum allows";
                    return Err(Refusal::new(ReasonCode::ReceiveMaximumExceeded, why));
                }
            }
            _ => {}
        }
        let mut block = PropertyBlock::new();
        put_forwarded(&publish.properties, &mut block);
        let expiry = publish.properties.number(PropertyId::MessageExpiryInterval);
        let content = Content {
            topic,
            properties: block.as_properties(),
            payload: publish.payload,
            expires_at: expiry.map(|seconds| now + u64::from(seconds) * 1_000),
            message: None,
        };
        let Publish { qos, retain, .. } = publish;
        let publication = Publication {
            content,
            qos,
            retain,
            publisher: Some(session),
        };
        let outcome = self
            .may_publish(session, topic)
            .and_then(|()| self.check_size(publish.payload))
            .and_then(|()| self.publish(&publication, now));
        let name = resolved.as_deref().unwrap_or(publish.topic);
        self.answer_publish(id, session, &publish, name, outcome);
        Ok(())
    }

    /// What is too large is dropped, and its publisher goes on.
    fn check_size(&self, payload: &[u8]) -> Result<(), Refusal> {
        match payload.len() <= self.options.limits.payload_bytes_max {
            true => Ok(()),
            false => {
                let why = "the payload is larger than message_size_limit";
                Err(Refusal::new(ReasonCode::QuotaExceeded, why))
            }
        }
    }

    /// What ends the connection, beyond what decoding has found.
    fn check_publish(&self, id: ConnectionId, publish: &Publish) -> Result<(), Refusal> {
        if publish.qos > self.max_qos(id) {
            let why = "the QoS is above max_qos";
            return Err(Refusal::new(ReasonCode::QoSNotSupported, why));
        }
        if publish.retain && !self.connections[id].granted.retain_available {
            return Err(access::retain_not_supported());
        }
        if publish.properties.is_empty() {
            return Ok(());
        }
        // [MQTT-3.3.4-6]
        if publish
            .properties
            .number(PropertyId::SubscriptionIdentifier)
            .is_some()
        {
            return Err(Refusal::protocol(
                "a client must not send subscription identifiers",
            ));
        }
        check_properties(&publish.properties, publish.payload)
    }

    /// The full name of the topic, checked, where that is not what the packet says.
    #[inline]
    fn resolve(
        &mut self,
        id: ConnectionId,
        publish: &Publish,
    ) -> Result<Option<Box<str>>, Refusal> {
        let alias = publish.properties.number(PropertyId::TopicAlias);
        match alias {
            None if !publish.topic.is_empty() && !self.connections.has_mounts() => Ok(None),
            _ => self.resolve_other_name(id, publish, alias),
        }
    }

    #[inline(never)]
    fn resolve_other_name(
        &mut self,
        id: ConnectionId,
        publish: &Publish,
        alias: Option<u32>,
    ) -> Result<Option<Box<str>>, Refusal> {
        let full = self.full_topic(id, publish.topic);
        if let Some(full) = &full {
            mount::check_topic(full)?;
        }
        match alias {
            Some(alias) => {
                let name = full.as_deref().unwrap_or(publish.topic);
                let aliased = self.resolve_alias(id, alias, name)?;
                Ok(aliased.or(full))
            }
            None if publish.topic.is_empty() => {
                Err(Refusal::protocol("neither a topic name nor a topic alias"))
            }
            None => Ok(full),
        }
    }

    /// Sets or looks up a Topic Alias; returns the topic that an alias alone stands for
    /// (3.3.2.3.4).
    fn resolve_alias(
        &mut self,
        id: ConnectionId,
        alias: u32,
        topic: &str,
    ) -> Result<Option<Box<str>>, Refusal> {
        if alias == 0 || alias > u32::from(self.topic_alias_max(id)) {
            let why = "the topic alias is 0 or above max_topic_alias";
            return Err(Refusal::new(ReasonCode::TopicAliasInvalid, why));
        }
        let index = alias as usize - 1;
        let aliases = &mut self.connections[id].aliases;
        let aliases = aliases.get_or_insert_with(|| Box::new(Aliases::new(0, self.hash)));
        let inbound = &mut aliases.inbound;
        if topic.is_empty() {
            let known = inbound.get(index).cloned().flatten();
            return known
                .map(Some)
                .ok_or(Refusal::protocol("the topic alias was never set"));
        }
        // A topic that is no topic must not be remembered as one.
        TopicName::parse(topic)?;
        if inbound.len() <= index {
            inbound.resize(index + 1, None);
        }
        inbound[index] = Some(topic.into());
        Ok(None)
    }

    /// PUBACK or PUBREC, or nothing for QoS 0 [MQTT-3.3.4-1].
    fn answer_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish,
        topic: &str,
        outcome: Result<usize, Refusal>,
    ) {
        if let Err(refusal) = outcome {
            let Connection { peer, .. } = &self.connections[id];
            let client_id = Printable(&self.sessions[session].client_id);
            let topic = Printable(topic);
            debug!(
                client:% = client_id, address:% = peer;
                "Message from {client_id} [{peer}] to {topic} dropped: {}.",
                refusal.why
            );
            self.connections.counters.publish_refused(refusal);
        }
        let Some(packet_id) = publish.packet_id else {
            return;
        };
        let version = self.connections[id].version;
        match outcome {
            Err(refusal) if version == Version::V5 => {
                let Refusal { code, why } = refusal;
                self.connections.send_reason(id, why, |properties| {
                    let ack = Ack {
                        packet_id,
                        reason: code,
                        properties,
                    };
                    if publish.qos == QoS::ExactlyOnce {
                        Packet::PubRec(ack)
                    } else {
                        Packet::PubAck(ack)
                    }
                });
                return;
            }
            // There may be room on the disk later: the client keeps it, and sends it again.
            Err(refusal) if self.journal.check() == Err(refusal) => return,
            // [v3 MQTT-3.3.5-2] there is no way to say no: a positive acknowledgement.
            Ok(_) | Err(_) => {}
        }
        if publish.qos == QoS::ExactlyOnce {
            let session = &mut self.sessions[session];
            session.received.insert(packet_id);
            self.journal.received(session.queue, packet_id);
        }
        let reason = match outcome {
            Ok(0) => ReasonCode::NoMatchingSubscribers,
            Ok(_) | Err(_) => ReasonCode::Success,
        };
        self.acknowledge(id, publish.qos, packet_id, reason);
    }

    fn acknowledge(&mut self, id: ConnectionId, qos: QoS, packet_id: PacketId, reason: ReasonCode) {
        let ack = Ack::new(packet_id, reason);
        let packet = match qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => Packet::PubAck(ack),
            QoS::ExactlyOnce => Packet::PubRec(ack),
        };
        self.connections.send(id, &packet);
    }

    pub(super) fn on_pubrel(&mut self, id: ConnectionId, session: SessionId, ack: Ack) {
        let Session {
            received, queue, ..
        } = &mut self.sessions[session];
        let reason = match received.release(ack.packet_id) {
            true => {
                self.journal.not_received(*queue, ack.packet_id);
                ReasonCode::Success
            }
            false => ReasonCode::PacketIdentifierNotFound,
        };
        // [MQTT-4.3.3-11]
        self.connections
            .send(id, &Packet::PubComp(Ack::new(ack.packet_id, reason)));
    }

    pub(super) fn on_puback(
        &mut self,
        session: SessionId,
        ack: Ack,
        now: Millis,
    ) -> Result<(), Refusal> {
        // [MQTT-4.4.0-2] [MQTT-4.8.2-6] a refusal too is an acknowledgement.
        let acked = self.sessions[session]
            .pending_mut()
            .acknowledge(ack.packet_id, QoS::AtLeastOnce);
        self.after_ack(session, acked, "PUBACK", now)
    }

    pub(super) fn on_pubrec(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        ack: Ack,
        now: Millis,
    ) -> Result<(), Refusal> {
        if ack.reason.is_error() {
            let acked = self.sessions[session]
                .pending_mut()
                .acknowledge(ack.packet_id, QoS::ExactlyOnce);
            if let Acked::Done(_) = acked {
                let queue = self.sessions[session].queue;
                self.journal.not_sent(queue, ack.packet_id);
            }
            return self.after_ack(session, acked, "PUBREC", now);
        }
        let session = &mut self.sessions[session];
        let queue = session.queue;
        let reason = match session.pending_mut().release(ack.packet_id) {
            Acked::Done(sequence) => {
                // Not if the client repeats itself.
                if sequence != 0 {
                    self.journal.released(queue, ack.packet_id);
                    self.journal.done(queue, sequence);
                }
                ReasonCode::Success
            }
            Acked::Unknown => ReasonCode::PacketIdentifierNotFound,
            Acked::OutOfStep => return Err(out_of_step()),
        };
        // [MQTT-4.3.3-4]
        self.connections
            .send(id, &Packet::PubRel(Ack::new(ack.packet_id, reason)));
        Ok(())
    }

    pub(super) fn on_pubcomp(
        &mut self,
        session: SessionId,
        ack: Ack,
        now: Millis,
    ) -> Result<(), Refusal> {
        let acked = self.sessions[session].pending_mut().complete(ack.packet_id);
        if let Acked::Done(_) = acked {
            let queue = self.sessions[session].queue;
            self.journal.not_sent(queue, ack.packet_id);
        }
        self.after_ack(session, acked, "PUBCOMP", now)
    }

    /// A delivery is over: there is room for the next.
    fn after_ack(
        &mut self,
        session: SessionId,
        acked: Acked,
        packet: &str,
        now: Millis,
    ) -> Result<(), Refusal> {
        match acked {
            Acked::Done(sequence) => {
                if sequence != 0 {
                    self.journal.done(self.sessions[session].queue, sequence);
                }
                self.pump(session, now);
                Ok(())
            }
            Acked::Unknown => {
                let client_id = Printable(&self.sessions[session].client_id);
                debug!(
                    client:% = client_id;
                    "{packet} from {client_id} for a message that is not in flight."
                );
                Ok(())
            }
            Acked::OutOfStep => Err(out_of_step()),
        }
    }
}

fn out_of_step() -> Refusal {
    Refusal::protocol("an acknowledgement does not fit the QoS or the state of its message")
}
