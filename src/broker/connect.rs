//! How connections begin: CONNECT, its terms, takeover of an older connection, CONNACK.

use log::debug;

use super::access::Entry;
use super::aliases::Aliases;
use super::connection::{Connection, Phase};
use super::deadlines::{Millis, Timer};
use super::decisions::Who;
use super::ending::Will;
use super::limits::Limits;
use super::message::check_properties;
use super::printable::Printable;
use super::session::NEVER_EXPIRES;
use super::verify::Vouched;
use super::{Broker, ConnectionId, SessionId, access, mount};
use crate::packet::{
    ConnAck, Connect, Packet, PropertyBlock, PropertyId, Publish, QoS, ReasonCode, Refusal, Version,
};

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
        vouched: Vouched,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.learn(id, &connect);
        let mut connect = connect;
        let will_topic = connect
            .will
            .and_then(|will| self.full_topic(id, will.topic));
        if let (Some(will), Some(topic)) = (&mut connect.will, &will_topic) {
            will.topic = topic;
        }
        let admitted = self.admit(id, &connect, vouched, now);
        let asked = admitted.and_then(|terms| match terms {
            Some(terms) => Ok(Some(terms)),
            None => self.ask(id).map(|()| None),
        });
        let refused = |Refusal { code, why }: &Refusal| match code {
            // Of these the log has one line, which says more, see `takeover.rs`.
            ReasonCode::ConnectionRateExceeded => {
                debug!("Client {} refused: {why}.", Printable(connect.client_id));
            }
            _ => self.log_refused(id, connect.client_id, &format!("{}: {why}", code.name())),
        };
        let Some(terms) = asked.inspect_err(refused)? else {
            return Ok(());
        };
        let mut block = PropertyBlock::new();
        if connect.version == Version::V5 {
            self.connack_properties(id, &connect, &terms, &mut block);
        }
        let mut connack = ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties: block.as_properties(),
        };
        self.check_fits(id, &connack).inspect_err(refused)?;
        connack.session_present = self.begin_session(id, &connect, &terms, now);
        self.connections.send(id, &Packet::ConnAck(connack));
        self.log_connected(id, &connect, &terms.client_id, terms.keep_alive);
        let session = self
            .sessions
            .find(&terms.client_id)
            .expect("it was just begun");
        if connack.session_present {
            self.review_subscriptions(id, session, now);
        }
        self.pump(session, now);
        Ok(())
    }

    /// What the client says of itself: known first, as a refusal too must have its form.
    fn learn(&mut self, id: ConnectionId, connect: &Connect) {
        let aliases_max = self.topic_alias_max_broker(id);
        let granted = self.grant(id);
        let limits = &self.options.limits;
        let number = |id| connect.properties.number(id);
        let connection = &mut self.connections[id];
        connection.granted = granted;
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
        let aliases = aliases.min(aliases_max);
        if connect.version == Version::V5 && aliases > 0 {
            connection.aliases = Some(Box::new(Aliases::new(aliases, self.hash)));
        }
    }

    /// Everything that can be wrong with a CONNECT. `None` if it depends on a password: what else
    /// is wrong is told to those only who have the right one.
    fn admit(
        &mut self,
        id: ConnectionId,
        connect: &Connect,
        vouched: Vouched,
        now: Millis,
    ) -> Result<Option<Terms>, Refusal> {
        self.check_entrance(id, connect)?;
        // [MQTT-4.12.0-1]
        if connect
            .properties
            .text(PropertyId::AuthenticationMethod)
            .is_some()
        {
            let why = "no authentication method is configured on this server";
            return Err(Refusal::new(ReasonCode::BadAuthenticationMethod, why));
        }
        if vouched == Vouched::No {
            match access::may_connect(self.listener(id), connect) {
                Ok(Entry::Open) => {}
                Ok(Entry::ByPassword) => return Ok(None),
                Err(refusal) => {
                    self.connections.counters.auth_refused += 1;
                    return Err(refusal);
                }
            }
        }
        self.check_will(id, connect)?;
        let keep_alive = self.keep_alive(connect)?;
        let client_id = self.client_id(id, connect)?;
        self.check_client_id(id, &client_id)?;
        let client_id = self.known_as(id, connect, client_id)?;
        let known = self.sessions.find(&client_id);
        let replaces = known.and_then(|session| self.sessions[session].connection);
        self.check_room(id, replaces)?;
        if known.is_none() {
            self.check_memory()?;
        }
        if self.sessions.len() >= self.options.limits.sessions_max && known.is_none() {
            let why = "the server keeps as many sessions as global_max_clients allows";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        if let Some(will) = &connect.will {
            self.warn_of_will(id, &client_id, connect.user_name, will.topic);
        }
        let assigned = connect.client_id.is_empty();
        let expiry_interval = self.expiry_interval(connect);
        // One that is not durable ends with its connection.
        let goes_on = known.is_some_and(|session| self.sessions[session].queue != 0);
        let begins = !goes_on || connect.clean_start;
        if expiry_interval > 0 && begins || goes_on && !self.journal.serves_durable() {
            self.journal.check()?;
        }
        if let Some(old) = replaces {
            self.check_takeover(id, old, &client_id, now)?;
        }
        Ok(Some(Terms {
            client_id,
            assigned,
            keep_alive,
            expiry_interval,
        }))
    }

    fn check_will(&self, id: ConnectionId, connect: &Connect) -> Result<(), Refusal> {
        let Some(will) = &connect.will else {
            return Ok(());
        };
        let topic = mount::check_topic(will.topic)?;
        access::may_publish(topic)?;
        // [MQTT-3.2.2-12] [MQTT-3.2.2-13]
        if will.qos > self.max_qos(id) {
            let why = "the QoS of the will is above max_qos";
            return Err(Refusal::new(ReasonCode::QoSNotSupported, why));
        }
        if will.retain && !self.options.retain_available {
            return Err(access::retain_not_supported());
        }
        let message = Publish {
            dup: false,
            qos: will.qos,
            retain: will.retain,
            topic: will.topic,
            packet_id: None,
            properties: will.properties,
            payload: will.payload,
        };
        // A CONNECT may be longer than any PUBLISH, but what a client can be owed at once before it
        // is disconnected for that is reckoned in messages that came in one.
        if message.encoded_len(connect.version) > self.options.limits.packet_bytes_max {
            let why = "the will is larger than a message may be (max_packet_size)";
            return Err(Refusal::new(ReasonCode::PacketTooLarge, why));
        }
        if will.payload.len() > self.options.limits.payload_bytes_max {
            let why = "the payload of the will is larger than message_size_limit";
            return Err(Refusal::new(ReasonCode::PacketTooLarge, why));
        }
        check_properties(&will.properties, will.payload)
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
                "the keep alive is longer than the server's max_keepalive",
            )),
        }
    }

    /// The client's id, or one that no session has [MQTT-3.2.2-16].
    fn client_id(&mut self, id: ConnectionId, connect: &Connect) -> Result<String, Refusal> {
        let invalid = |why| Err(Refusal::new(ReasonCode::ClientIdentifierNotValid, why));
        if connect.client_id.len() > Limits::CLIENT_ID_BYTES_MAX {
            return invalid("a client id must not have more than 1,024 bytes");
        }
        if !connect.client_id.is_empty() {
            return Ok(connect.client_id.to_string());
        }
        if !self.options.allow_zero_length_client_id {
            return invalid("a client must bring its id (allow_zero_length_clientid is false)");
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
            let prefix = self.listener(id).auto_id_prefix.as_ref();
            let prefix = prefix.unwrap_or(&self.options.auto_id_prefix);
            let client_id = format!("{prefix}{unique:016x}");
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

    pub(super) fn longest_expiry(&self, wanted: u32) -> u32 {
        let longest = self
            .options
            .persistent_client_expiration
            .map_or(NEVER_EXPIRES, |longest| {
                u32::try_from(longest.as_secs()).unwrap_or(NEVER_EXPIRES)
            });
        wanted.min(longest)
    }

    /// Ends what the client had before, as far as it asks for that, and connects it to its
    /// session. Returns whether the session was there before.
    fn begin_session(
        &mut self,
        id: ConnectionId,
        connect: &Connect,
        terms: &Terms,
        now: Millis,
    ) -> bool {
        self.take_over(&terms.client_id, now);
        // [MQTT-3.1.2-4] clean start discards the old session.
        if let (true, Some(old)) = (connect.clean_start, self.sessions.find(&terms.client_id)) {
            self.end_session(old, now);
        }
        let found = self.sessions.find(&terms.client_id);
        let session_id = found.unwrap_or_else(|| self.sessions.create(&terms.client_id));
        let will = connect.will.map(|will| Box::new(Will::new(&will)));
        let who = self.introduce(id, &terms.client_id, connect.user_name);
        let was = std::mem::replace(&mut self.sessions[session_id].who, who);
        self.note_session(session_id, found.is_none(), was, will.as_deref(), terms);
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
        self.connected_through[connection.listener] += 1;
        let connection = &mut self.connections[id];
        // [MQTT-3.1.2-22] one and a half times the keep alive; 0 turns it off.
        let seconds = u32::from(terms.keep_alive);
        connection.silence_max = seconds * 1_500;
        self.deadlines
            .disarm(&mut connection.deadline, Timer::Connection(id));
        if let Some(at) = self.silence_deadline(id) {
            self.deadlines.arm(
                &mut self.connections[id].deadline,
                at,
                Timer::Connection(id),
            );
        }
        self.connections.no_longer_awaited(id);
        self.connected += 1;
        self.connections.counters.clients_maximum = self
            .connections
            .counters
            .clients_maximum
            .max(self.sessions.len() as u64);
        found.is_some()
    }

    /// Notes what is to be kept of a session that begins, or goes on under other terms.
    fn note_session(
        &mut self,
        id: SessionId,
        is_new: bool,
        was: Option<Box<Who>>,
        will: Option<&Will>,
        terms: &Terms,
    ) {
        if is_new && terms.expiry_interval > 0 && self.journal.is_on() {
            self.sessions[id].queue = self.next_queue();
        }
        let session = &mut self.sessions[id];
        let who = session.who.as_deref();
        let is_other = was.as_ref().map(|was| &was.identity) != who.map(|who| &who.identity);
        let queue = session.queue;
        let was_to_expire = session.expiry_deadline.is_armed();
        let has_other_terms = session.expiry_interval != terms.expiry_interval;
        if is_new || is_other || was_to_expire || has_other_terms {
            self.journal.session(session, terms.expiry_interval, 0);
        }
        match will {
            Some(will) => self.journal.will(queue, will, 0),
            None if session.will.is_some() => self.journal.no_will(queue),
            None => {}
        }
    }

    /// Before anything is changed: a client that cannot be answered cannot be served.
    fn check_fits(&self, id: ConnectionId, connack: &ConnAck) -> Result<(), Refusal> {
        let Connection {
            version,
            packet_bytes_max,
            ..
        } = self.connections[id];
        let mut bytes = Vec::new();
        Packet::ConnAck(*connack).encode(version, &mut bytes);
        match bytes.len() <= packet_bytes_max {
            true => Ok(()),
            false => Err(cannot_answer()),
        }
    }

    /// Only what differs from the default that the specification gives to its absence.
    fn connack_properties(
        &self,
        id: ConnectionId,
        connect: &Connect,
        terms: &Terms,
        block: &mut PropertyBlock,
    ) {
        let granted = self.connections[id].granted;
        let asked = connect
            .properties
            .number(PropertyId::SessionExpiryInterval)
            .unwrap_or(0);
        if terms.expiry_interval != asked {
            block.number(PropertyId::SessionExpiryInterval, terms.expiry_interval);
        }
        if granted.receive_maximum != u16::MAX {
            block.number(
                PropertyId::ReceiveMaximum,
                u32::from(granted.receive_maximum),
            );
        }
        // [MQTT-3.2.2-9]
        if granted.max_qos != QoS::ExactlyOnce {
            block.number(PropertyId::MaximumQoS, granted.max_qos as u32);
        }
        if !granted.retain_available {
            block.number(PropertyId::RetainAvailable, 0);
        }
        block.number(PropertyId::MaximumPacketSize, granted.packet_bytes_max);
        if terms.assigned {
            block.text(PropertyId::AssignedClientIdentifier, &terms.client_id);
        }
        let aliases = u32::from(granted.topic_alias_max);
        if aliases > 0 {
            block.number(PropertyId::TopicAliasMaximum, aliases);
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
}

/// What the first bytes look like when they are no CONNECT: people mix up ports.
pub(super) fn what_it_looks_like(bytes: &[u8]) -> &'static str {
    match bytes {
        _ if looks_like_tls(bytes) => "this looks like TLS, but the listener speaks plain MQTT",
        [b'G', b'E', b'T', ..] | [b'P', b'O', b'S', ..] => {
            "this looks like HTTP, but the listener speaks MQTT"
        }
        _ => "the first packet must be CONNECT",
    }
}

/// The client's Maximum Packet Size leaves no room for what has to be said.
pub(super) fn cannot_answer() -> Refusal {
    let why = "the client takes no packet as large as the answer";
    Refusal::new(ReasonCode::PacketTooLarge, why)
}

/// A TLS handshake begins with these; as a CONNECT they would be one of three bytes.
pub(super) fn looks_like_tls(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x16, 0x03])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_mixes_up_ports_is_told_what_came_instead() {
        for (bytes, protocol) in [
            (&b"\x16\x03\x01\x02\x00"[..], "TLS"),
            (b"GET / HTTP/1.1\r\n", "HTTP"),
            (b"POST / HTTP/1.1\r\n", "HTTP"),
        ] {
            let why = what_it_looks_like(bytes);
            assert!(why.contains(&format!("looks like {protocol},")), "{why}");
        }
        // A PINGREQ is MQTT; a GET that is cut short may be anything.
        for bytes in [&b"\xC0\x00"[..], b"GE"] {
            assert!(!what_it_looks_like(bytes).contains("looks like"));
        }
    }
}
