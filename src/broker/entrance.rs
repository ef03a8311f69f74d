//! The terms of the listener that a client came through, and what a client must be to come in.
//!
//! The server's own terms hold everywhere; a listener can only be stricter.

use super::limits::ListenerOptions;
use super::{Broker, ConnectionId};
use crate::packet::{Connect, QoS, ReasonCode, Refusal};

impl Broker {
    pub(super) fn listener(&self, id: ConnectionId) -> &ListenerOptions {
        &self.options.listeners[self.connections[id].listener]
    }

    /// The best QoS this client may publish with, and is granted.
    pub(super) fn max_qos(&self, id: ConnectionId) -> QoS {
        self.options.max_qos.min(self.listener(id).max_qos)
    }

    /// Topic Aliases this client may set.
    pub(super) fn topic_alias_max(&self, id: ConnectionId) -> u16 {
        let most = self.options.limits.topic_alias_max;
        most.min(self.listener(id).topic_alias_max)
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
        if !listener.versions.is_empty() && !listener.versions.contains(&connect.version) {
            let why = "this listener takes other versions of MQTT (--accept-protocol-versions)";
            return Err(Refusal::new(ReasonCode::UnsupportedProtocolVersion, why));
        }
        if listener.use_username_as_client_id && connect.user_name.is_none_or(str::is_empty) {
            let why = "a client's user name is its id here, and it brings none \
                (--use-username-as-clientid)";
            return Err(Refusal::new(ReasonCode::NotAuthorized, why));
        }
        Ok(())
    }

    /// Whether there is room for one more client, unless it takes the place of another.
    pub(super) fn check_room(
        &self,
        id: ConnectionId,
        replaces: Option<ConnectionId>,
    ) -> Result<(), Refusal> {
        let full = |why| Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        if self.connected >= self.options.limits.connections_max && replaces.is_none() {
            return full("the server has as many clients as --global-max-connections allows");
        }
        let index = self.connections[id].listener;
        let replaces_here = replaces.is_some_and(|old| self.connections[old].listener == index);
        let connected = self.connected_through[index];
        if connected >= self.options.listeners[index].connections_max && !replaces_here {
            return full("this listener has as many clients as --max-connections allows");
        }
        Ok(())
    }

    pub(super) fn check_client_id(&self, id: ConnectionId, client_id: &str) -> Result<(), Refusal> {
        let why = if !client_id.starts_with(&self.options.client_id_prefix) {
            "the client id does not begin as --clientid-prefixes asks"
        } else if !client_id.starts_with(&self.listener(id).client_id_prefix) {
            "the client id does not begin as listener_clientid_prefixes asks"
        } else {
            return Ok(());
        };
        Err(Refusal::new(ReasonCode::NotAuthorized, why))
    }
}
