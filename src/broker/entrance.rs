//! The terms of the listener that a client came through, and what a client must be to come in.
//!
//! The server's own terms hold everywhere; a listener can only be stricter.

use super::limits::ListenerOptions;
use super::{Broker, ConnectionId};
use crate::packet::{Connect, QoS, ReasonCode, Refusal};

/// What the client may do, as it was told: that holds for its connection, whatever is set later.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub packet_bytes_max: u32,
    pub receive_maximum: u16,
    pub topic_alias_max: u16,
    pub max_qos: QoS,
    pub retain_available: bool,
}

impl Granted {
    /// Until it has sent its CONNECT, which has limits of its own.
    pub const ANYTHING: Granted = Granted {
        packet_bytes_max: u32::MAX,
        receive_maximum: u16::MAX,
        topic_alias_max: u16::MAX,
        max_qos: QoS::ExactlyOnce,
        retain_available: true,
    };
}

impl Broker {
    pub(super) fn listener(&self, id: ConnectionId) -> &ListenerOptions {
        &self.options.listeners[self.connections[id].listener]
    }

    /// What a client that comes through this listener now is granted.
    pub(super) fn grant(&self, id: ConnectionId) -> Granted {
        let (options, listener) = (&self.options, self.listener(id));
        let limits = &options.limits;
        Granted {
            packet_bytes_max: u32::try_from(limits.packet_bytes_max).unwrap_or(u32::MAX),
            receive_maximum: limits.receive_maximum,
            topic_alias_max: limits.topic_alias_max.min(listener.topic_alias_max),
            max_qos: options.max_qos.min(listener.max_qos),
            retain_available: options.retain_available,
        }
    }

    /// The best QoS this client may publish with, and is granted.
    pub(super) fn max_qos(&self, id: ConnectionId) -> QoS {
        self.connections[id].granted.max_qos
    }

    /// Topic Aliases this client may set.
    pub(super) fn topic_alias_max(&self, id: ConnectionId) -> u16 {
        self.connections[id].granted.topic_alias_max
    }

    /// Topic Aliases the broker sets for this client, if it takes them.
    pub(super) fn topic_alias_max_broker(&self, id: ConnectionId) -> u16 {
        let most = self.options.limits.topic_alias_max_broker;
        most.min(self.listener(id).topic_alias_max_broker)
    }

    /// What the listener asks of a client before anything else is looked at.
    pub(super) fn check_entrance(
        &self,
        id: ConnectionId,
        connect: &Connect,
    ) -> Result<(), Refusal> {
        let listener = self.listener(id);
        if listener.is_gone {
            let why = "this listener is not in the configuration any more";
            return Err(Refusal::new(ReasonCode::ServerUnavailable, why));
        }
        if !listener.versions.is_empty() && !listener.versions.contains(&connect.version) {
            let why = "this listener takes other versions of MQTT (accept_protocol_versions)";
            return Err(Refusal::new(ReasonCode::UnsupportedProtocolVersion, why));
        }
        Ok(())
    }

    /// By which id a client is known that may come in, and brings or was given `client_id`.
    pub(super) fn known_as(
        &self,
        id: ConnectionId,
        connect: &Connect,
        client_id: String,
    ) -> Result<String, Refusal> {
        if !self.listener(id).use_username_as_client_id {
            return Ok(client_id);
        }
        match connect.user_name {
            Some(name) if !name.is_empty() => Ok(name.to_string()),
            Some(_) | None => {
                let why = "a client's user name is its id here, and it brings none \
                    (use_username_as_clientid)";
                Err(Refusal::new(ReasonCode::NotAuthorized, why))
            }
        }
    }

    /// Whether there is room for one more client, unless it takes the place of another.
    pub(super) fn check_room(
        &self,
        id: ConnectionId,
        replaces: Option<ConnectionId>,
    ) -> Result<(), Refusal> {
        let full = |why| Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        if self.connected >= self.options.limits.connections_max && replaces.is_none() {
            return full("the server has as many clients as global_max_connections allows");
        }
        let index = self.connections[id].listener;
        let replaces_here = replaces.is_some_and(|old| self.connections[old].listener == index);
        let connected = self.connected_through[index];
        if connected >= self.options.listeners[index].connections_max && !replaces_here {
            return full("this listener has as many clients as max_connections allows");
        }
        Ok(())
    }

    pub(super) fn check_client_id(&self, id: ConnectionId, client_id: &str) -> Result<(), Refusal> {
        let why = if !client_id.starts_with(&self.options.client_id_prefix) {
            "the client id does not begin as clientid_prefixes asks"
        } else if !client_id.starts_with(&self.listener(id).client_id_prefix) {
            "the client id does not begin as listener_clientid_prefixes asks"
        } else {
            return Ok(());
        };
        Err(Refusal::new(ReasonCode::NotAuthorized, why))
    }
}
