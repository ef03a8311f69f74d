//! How connections begin and end: CONNECT, DISCONNECT, takeover, Wills, the end of sessions.

use std::time::{Duration, Instant};

use log::{info, warn};

use super::connection::{Aliases, Phase};
use super::deadlines::Timer;
use super::deliver::{Leaving, Publication};
use super::message::{Content, Message};
use super::session::{NEVER_EXPIRES, Will};
use super::{Broker, ConnectionId, NOTICE, SessionId, access};
use crate::packet::property::Value;
use crate::packet::{
    self, ConnAck, Connect, Disconnect, Packet, PropertyBlock, PropertyId, QoS, ReasonCode,
    Refusal, TopicName, Version,
};

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

/// What the server decides about a CONNECT that it accepts.
struct Terms {
    client_id: String,
    assigned: bool,
    keep_alive: u16,
    expiry_interval: u32,
}

impl Broker {
    pub(super) fn on_connect(
        &mut self,
        id: ConnectionId,
        connect: Connect<'_>,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.learn(id, &connect);
        let terms = self.admit(id, &connect)?;
        let session_present = self.begin_session(id, &connect, &terms, now);
        self.send_connack(id, &connect, &terms, session_present);
        self.log_connected(id, &connect, &terms);
        let session = self
            .sessions
            .find(&terms.client_id)
            .expect("it was just begun");
        self.pump(session, now);
        Ok(())
    }

    /// What the client says of itself: known first, as a refusal too must have its form.
    fn learn(&mut self, id: ConnectionId, connect: &Connect) {
        let limits = &self.options.limits;
        let number = |id| connect.properties.number(id);
        let connection = &mut self.connections[id];
        connection.version = connect.version;
        connection.bridge = connect.bridge;
        if let Some(bytes) = number(PropertyId::MaximumPacketSize) {
            connection.packet_bytes_max = bytes as usize;
        }
        connection.wants_problem_information =
            number(PropertyId::RequestProblemInformation) != Some(0);
        let receive_maximum = number(PropertyId::ReceiveMaximum).map_or(u16::MAX, |n| n as u16);
        connection.receive_maximum = receive_maximum.min(limits.inflight_messages_max);
        // [MQTT-3.1.2-26] [MQTT-3.1.2-27] not beyond the client's maximum, which is 0 if absent.
        let aliases = number(PropertyId::TopicAliasMaximum).map_or(0, |n| n as u16);
        let aliases = aliases.min(limits.topic_alias_max_broker);
        if connect.version == Version::V5 && (aliases > 0 || limits.topic_alias_max > 0) {
            connection.aliases = Some(Box::new(Aliases::new(aliases, self.hash)));
        }
    }

    /// Everything that can be wrong with a CONNECT.
    fn admit(&mut self, id: ConnectionId, connect: &Connect) -> Result<Terms, Refusal> {
        let listener = &self.options.listeners[self.connections[id].listener];
        // [MQTT-4.12.0-1]
        if connect
            .properties
            .text(PropertyId::AuthenticationMethod)
            .is_some()
        {
            let why = "no authentication method is configured on this server";
            return Err(Refusal::new(ReasonCode::BadAuthenticationMethod, why));
        }
        access::may_connect(listener, connect.user_name)?;
        self.check_will(connect)?;
        let keep_alive = self.keep_alive(connect)?;
        let is_known = self.sessions.find(connect.client_id).is_some();
        if self.connected >= self.options.limits.connections_max && !is_known {
            let why = "the server has as many clients as --max-connections allows";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        if self.sessions.len() >= self.options.limits.sessions_max && !is_known {
            let why = "the server keeps as many sessions as --global-max-clients allows";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        let client_id = self.client_id(connect)?;
        let assigned = connect.client_id.is_empty();
        let expiry_interval = self.expiry_interval(connect);
        Ok(Terms {
            client_id,
            assigned,
            keep_alive,
            expiry_interval,
        })
    }

    fn check_will(&self, connect: &Connect) -> Result<(), Refusal> {
        let Some(will) = &connect.will else {
            return Ok(());
        };
        let topic = TopicName::parse(will.topic)?;
        access::may_publish(topic)?;
        // [MQTT-3.2.2-12] [MQTT-3.2.2-13]
        if will.qos > self.options.max_qos {
            let why = "the QoS of the will is above the server's --max-qos";
            return Err(Refusal::new(ReasonCode::QoSNotSupported, why));
        }
        if will.retain && !self.options.retain_available {
            return Err(retain_not_supported());
        }
        packet_properties(&will.properties, will.payload)
    }

    fn keep_alive(&self, connect: &Connect) -> Result<u16, Refusal> {
        let max = self.options.max_keep_alive;
        if max == 0 || (1..=max).contains(&connect.keep_alive) {
            return Ok(connect.keep_alive);
        }
        match connect.version {
            // Server Keep Alive tells the client.
            Version::V5 => Ok(max),
            Version::V31 | Version::V311 => Err(Refusal::new(
                ReasonCode::ClientIdentifierNotValid,
                "the keep alive is longer than the server's --max-keepalive",
            )),
        }
    }

    /// The client's id, or one that no session has [MQTT-3.2.2-16].
    fn client_id(&mut self, connect: &Connect) -> Result<String, Refusal> {
        if !connect.client_id.is_empty() {
            return Ok(connect.client_id.to_string());
        }
        let invalid = |why| Err(Refusal::new(ReasonCode::ClientIdentifierNotValid, why));
        if !self.options.allow_zero_length_client_id {
            return invalid("a client must bring its id (--allow-zero-length-clientid is false)");
        }
        match connect.version {
            Version::V31 => return invalid("in MQTT 3.1 a client must bring its id"),
            // [v3 MQTT-3.1.3-8]
            Version::V311 if !connect.clean_start => {
                return invalid("a client without an id must ask for a clean session");
            }
            Version::V311 | Version::V5 => {}
        }
        loop {
            self.assigned += 1;
            let unique = self.hash.extend(self.options.seed, self.assigned);
            let client_id = format!("{}{unique:016x}", self.options.auto_id_prefix);
            if self.sessions.find(&client_id).is_none() {
                return Ok(client_id);
            }
        }
    }

    /// How long the session outlives its connection, in seconds.
    fn expiry_interval(&self, connect: &Connect) -> u32 {
        let wanted = match connect.version {
            Version::V5 => connect
                .properties
                .number(PropertyId::SessionExpiryInterval)
                .unwrap_or(0),
            Version::V31 | Version::V311 if connect.clean_start => 0,
            Version::V31 | Version::V311 => NEVER_EXPIRES,
        };
        self.longest_expiry(wanted)
    }

    fn longest_expiry(&self, wanted: u32) -> u32 {
        let longest = self
            .options
            .persistent_client_expiration
            .map_or(NEVER_EXPIRES, |longest| {
                u32::try_from(longest.as_secs()).unwrap_or(NEVER_EXPIRES)
            });
        wanted.min(longest)
    }

    /// Ends what the client had before, as far as it asks for that, and connects it to its session.
    /// Returns whether the session was there before.
    fn begin_session(
        &mut self,
        id: ConnectionId,
        connect: &Connect,
        terms: &Terms,
        now: Instant,
    ) -> bool {
        self.take_over(&terms.client_id, now);
        // [MQTT-3.1.2-4] clean start discards the old session.
        if let (true, Some(old)) = (connect.clean_start, self.sessions.find(&terms.client_id)) {
            self.end_session(old, now);
        }
        let found = self.sessions.find(&terms.client_id);
        let session_id = found.unwrap_or_else(|| self.sessions.create(&terms.client_id));
        let will = connect.will.map(|will| Box::new(self.will(&will)));
        let session = &mut self.sessions[session_id];
        self.deadlines.disarm(
            &mut session.expiry_deadline,
            Timer::SessionExpiry(session_id),
        );
        // [MQTT-3.1.3-9] back in time: the delayed Will is not sent.
        self.deadlines
            .disarm(&mut session.will_deadline, Timer::WillDelay(session_id));
        session.expiry_interval = terms.expiry_interval;
        session.will = will;
        session.connected(id);
        let connection = &mut self.connections[id];
        connection.phase = Phase::Connected(session_id);
        // [MQTT-3.1.2-22] one and a half times the keep alive; 0 turns it off.
        let seconds = u64::from(terms.keep_alive);
        connection.silence_max = (seconds > 0).then(|| Duration::from_millis(seconds * 1_500));
        self.deadlines
            .disarm(&mut connection.deadline, Timer::Connection(id));
        if let Some(at) = self.silence_deadline(id) {
            self.deadlines.arm(
                &mut self.connections[id].deadline,
                at,
                Timer::Connection(id),
            );
        }
        self.connections.unconnected -= 1;
        self.connected += 1;
        self.connections.counters.clients_maximum = self
            .connections
            .counters
            .clients_maximum
            .max(self.sessions.len() as u64);
        found.is_some()
    }

    /// [MQTT-3.1.4-3] a client is connected once: the older connection ends.
    fn take_over(&mut self, client_id: &str, now: Instant) {
        let Some(session) = self.sessions.find(client_id) else {
            return;
        };
        let Some(old) = self.sessions[session].connection else {
            return;
        };
        warn!(target: NOTICE, "Client {client_id} already connected, closing old connection.");
        let why = "another connection uses this client id";
        self.refuse(old, Refusal::new(ReasonCode::SessionTakenOver, why), now);
    }

    fn will(&self, will: &packet::Will) -> Will {
        let mut block = PropertyBlock::new();
        forwarded(&will.properties, &mut block);
        let content = Content {
            topic: TopicName::trusted(will.topic),
            properties: block.as_properties(),
            payload: will.payload,
            expires_at: None,
            message: None,
        };
        Will {
            message: Message::new(&content, will.qos),
            retain: will.retain,
            expiry_interval: will.properties.number(PropertyId::MessageExpiryInterval),
            delay_interval: will
                .properties
                .number(PropertyId::WillDelayInterval)
                .unwrap_or(0),
        }
    }

    fn send_connack(
        &mut self,
        id: ConnectionId,
        connect: &Connect,
        terms: &Terms,
        session_present: bool,
    ) {
        let mut block = PropertyBlock::new();
        if connect.version == Version::V5 {
            self.connack_properties(connect, terms, &mut block);
        }
        let connack = ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties: block.as_properties(),
        };
        self.connections.send(id, &Packet::ConnAck(connack));
    }

    /// Only what differs from the default that the specification gives to its absence.
    fn connack_properties(&self, connect: &Connect, terms: &Terms, block: &mut PropertyBlock) {
        let limits = &self.options.limits;
        let asked = connect
            .properties
            .number(PropertyId::SessionExpiryInterval)
            .unwrap_or(0);
        if terms.expiry_interval != asked {
            block.number(PropertyId::SessionExpiryInterval, terms.expiry_interval);
        }
        if limits.receive_maximum != u16::MAX {
            block.number(
                PropertyId::ReceiveMaximum,
                u32::from(limits.receive_maximum),
            );
        }
        // [MQTT-3.2.2-9]
        if self.options.max_qos != QoS::ExactlyOnce {
            block.number(PropertyId::MaximumQoS, self.options.max_qos as u32);
        }
        if !self.options.retain_available {
            block.number(PropertyId::RetainAvailable, 0);
        }
        block.number(
            PropertyId::MaximumPacketSize,
            limits.packet_bytes_max as u32,
        );
        if terms.assigned {
            block.text(PropertyId::AssignedClientIdentifier, &terms.client_id);
        }
        if limits.topic_alias_max > 0 {
            block.number(
                PropertyId::TopicAliasMaximum,
                u32::from(limits.topic_alias_max),
            );
        }
        // [MQTT-3.2.2-22]
        if terms.keep_alive != connect.keep_alive {
            block.number(PropertyId::ServerKeepAlive, u32::from(terms.keep_alive));
        }
    }

    pub(super) fn send_connack_refusal(&mut self, id: ConnectionId, refusal: Refusal) {
        self.connections.send_reason(id, refusal.why, |properties| {
            // [MQTT-3.2.2-6] without a session.
            Packet::ConnAck(ConnAck {
                session_present: false,
                reason: refusal.code,
                properties,
            })
        });
    }

    fn log_connected(&self, id: ConnectionId, connect: &Connect, terms: &Terms) {
        if !self.options.connection_messages {
            return;
        }
        let version = match connect.version {
            Version::V31 => 1,
            Version::V311 => 2,
            Version::V5 => 5,
        };
        let user_name = connect
            .user_name
            .map_or(String::new(), |name| format!(", u'{name}'"));
        info!(
            target: NOTICE,
            "New client connected from {} as {} (p{version}, c{}, k{}{user_name}).",
            self.connections[id].peer,
            terms.client_id,
            u8::from(connect.clean_start),
            terms.keep_alive,
        );
    }

    pub(super) fn on_disconnect(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        disconnect: Disconnect<'_>,
        now: Instant,
    ) -> Result<(), Refusal> {
        if let Some(seconds) = disconnect
            .properties
            .number(PropertyId::SessionExpiryInterval)
        {
            let session = &self.sessions[session];
            // 3.14.2.2.2: a session that was to end with its connection cannot be prolonged.
            if session.expiry_interval == 0 && seconds != 0 {
                let why = "the session expiry interval was 0 and cannot be changed now";
                return Err(Refusal::protocol(why));
            }
        }
        if let Some(seconds) = disconnect
            .properties
            .number(PropertyId::SessionExpiryInterval)
        {
            self.sessions[session].expiry_interval = self.longest_expiry(seconds);
        }
        // [MQTT-3.14.4-3]
        let end = match disconnect.reason {
            ReasonCode::Success => End::Disconnected,
            _ => End::DisconnectedWithWill,
        };
        self.end_connection(id, end, now);
        Ok(())
    }

    /// Condemns a connection and looks after its Will and its session. The only way a connection
    /// ends; its slot is freed by the shell's [`Broker::forget`].
    pub(super) fn end_connection(&mut self, id: ConnectionId, end: End, now: Instant) {
        let connection = &mut self.connections[id];
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        if phase == Phase::Closing {
            return;
        }
        self.deadlines
            .disarm(&mut connection.deadline, Timer::Connection(id));
        connection.leftover = Vec::new();
        connection.aliases = None;
        self.connections.close.push(id);
        match phase {
            Phase::Connected(session) => {
                self.connected -= 1;
                self.log_ended(id, session, end);
                self.disconnect_session(session, end, now);
            }
            Phase::AwaitConnect => self.connections.unconnected -= 1,
            Phase::Closing => {}
        }
    }

    fn disconnect_session(&mut self, id: SessionId, end: End, now: Instant) {
        let session = &mut self.sessions[id];
        session.connection = None;
        // [MQTT-3.1.2-10] gone without being sent.
        if end == End::Disconnected {
            session.will = None;
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
            let at = now + Duration::from_secs(u64::from(expiry_interval));
            let deadline = &mut session.expiry_deadline;
            self.deadlines.arm(deadline, at, Timer::SessionExpiry(id));
        }
        // [MQTT-3.1.2-8] after the delay, or with the session, whichever is sooner.
        if delay == 0 {
            self.publish_will(id, now);
        } else if delay < expiry_interval {
            let at = now + Duration::from_secs(u64::from(delay));
            let deadline = &mut self.sessions[id].will_deadline;
            self.deadlines.arm(deadline, at, Timer::WillDelay(id));
        }
        self.hand_on_shared(id, Leaving::ItsSession, now);
    }

    /// Discards a session, whose connection has ended: its Will is due now at the latest.
    pub(super) fn end_session(&mut self, id: SessionId, now: Instant) {
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
        for key in std::mem::take(&mut session.subscriptions) {
            self.subscriptions.remove(key, id);
        }
        self.hand_on_shared(id, Leaving::ForEver, now);
        self.sessions.remove(id);
        self.update_sys_timer(now);
    }

    /// Publishes the Will of a session, if it still has one.
    pub(super) fn publish_will(&mut self, id: SessionId, now: Instant) {
        let session = &mut self.sessions[id];
        self.deadlines
            .disarm(&mut session.will_deadline, Timer::WillDelay(id));
        let Some(will) = session.will.take() else {
            return;
        };
        let content = will.content(self.millis(now));
        let publisher = Some(id);
        let mut publication = Publication {
            content,
            qos: will.message.qos(),
            retain: will.retain,
            publisher,
        };
        // The store for retained messages may be full: then the Will is published without.
        if let Err(refusal) = self.publish(&mut publication, now) {
            warn!("The will of a client is not retained: {}.", refusal.why);
            publication.retain = false;
            let _ = self.publish(&mut publication, now);
        }
    }

    fn log_ended(&self, id: ConnectionId, session: SessionId, end: End) {
        let client_id = &self.sessions[session].client_id;
        let peer = &self.connections[id].peer;
        match end {
            End::Refused(Refusal {
                code: ReasonCode::ServerShuttingDown,
                ..
            }) => {}
            End::Refused(refusal) => warn!(
                target: NOTICE,
                "Client {client_id} [{peer}] disconnected by the server: {} ({}).",
                refusal.why, refusal.code.name(),
            ),
            _ if !self.options.connection_messages => {}
            End::Disconnected | End::DisconnectedWithWill => {
                info!(target: NOTICE, "Client {client_id} [{peer}] disconnected.");
            }
            End::Lost => {
                info!(target: NOTICE, "Client {client_id} [{peer}] closed its connection.")
            }
        }
    }
}

/// The properties of a message that are forwarded unaltered and in order; what is left out is said
/// anew for each receiver.
pub(super) fn forwarded(properties: &packet::Properties, block: &mut PropertyBlock) {
    for property in properties.iter() {
        match property.id {
            PropertyId::MessageExpiryInterval
            | PropertyId::TopicAlias
            | PropertyId::WillDelayInterval => {}
            _ => {
                block.raw(property.bytes);
            }
        }
    }
}

/// What can be wrong with the properties of a message, its payload at hand.
pub(super) fn packet_properties(
    properties: &packet::Properties,
    payload: &[u8],
) -> Result<(), Refusal> {
    for property in properties.iter() {
        match (property.id, property.value) {
            // [MQTT-3.3.2-14] the Response Topic is a Topic Name.
            (PropertyId::ResponseTopic, Value::Text(topic)) => {
                TopicName::parse(topic)?;
            }
            (PropertyId::PayloadFormatIndicator, Value::Number(1)) => {
                if std::str::from_utf8(payload).is_err() {
                    let why = "the payload is said to be UTF-8 and is not";
                    return Err(Refusal::new(ReasonCode::PayloadFormatInvalid, why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn retain_not_supported() -> Refusal {
    Refusal::new(
        ReasonCode::RetainNotSupported,
        "the server keeps no retained messages",
    )
}
