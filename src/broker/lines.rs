//! What the log says of clients that come, are refused, and go: who, from where, why, and what
//! would change it; what is said to the client itself is less.
//!
//! Each line has its client and address as values too, for logs that are no text.

use log::{info, warn};

use super::ending::End;
use super::printable::{Name, Printable};
use super::verify::Verdict;
use super::{Broker, ConnectionId, NOTICE, SessionId};
use crate::packet::{Connect, ReasonCode, Refusal, Version};

impl Broker {
    pub(super) fn log_connected(
        &self,
        id: ConnectionId,
        connect: &Connect,
        client_id: &str,
        keep_alive: u16,
    ) {
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
            .map_or(String::new(), |name| format!(", u'{}'", Printable(name)));
        let client_id = Printable(client_id);
        let address = &self.connections[id].peer;
        let clean = u8::from(connect.clean_start);
        info!(
            target: NOTICE, client:% = client_id, address:% = address;
            "New client connected from {address} as {client_id} \
             (p{version}, c{clean}, k{keep_alive}{user_name})."
        );
    }

    pub(super) fn log_refused(&self, id: ConnectionId, client_id: &str, why: &str) {
        let address = &self.connections[id].peer;
        let name = Name(client_id);
        warn!(
            client:% = Printable(client_id), address:% = address;
            "Client {name} [{address}] refused: {why}."
        );
    }

    /// Its password was checked.
    pub(super) fn log_wrong(&self, id: ConnectionId, connect: &Connect, verdict: Verdict) {
        let user_name = Printable(connect.user_name.unwrap_or_default());
        let why = match verdict {
            Verdict::Right => return,
            Verdict::WrongPassword => format!(
                "the password of user {user_name} is wrong \
                 (midge passwd FILE {user_name} and SIGHUP set another)"
            ),
            Verdict::UnknownUser => format!(
                "there is no user {user_name} (midge passwd FILE {user_name} and SIGHUP add one)"
            ),
            Verdict::TooMany => format!(
                "too many wrong passwords have come from that address; user {user_name} has to \
                 try again later"
            ),
        };
        self.log_refused(id, connect.client_id, &why);
    }

    pub(super) fn log_ended(&self, id: ConnectionId, session: SessionId, end: End) {
        let client_id = Printable(&self.sessions[session].client_id);
        let address = &self.connections[id].peer;
        match end {
            End::Refused(Refusal {
                code: ReasonCode::ServerShuttingDown,
                ..
            }) => {}
            End::Refused(Refusal { code, why }) => warn!(
                target: NOTICE, client:% = client_id, address:% = address;
                "Client {client_id} [{address}] disconnected by the server: {why} ({}).",
                code.name(),
            ),
            _ if !self.options.connection_messages => {}
            End::Disconnected | End::DisconnectedWithWill => info!(
                target: NOTICE, client:% = client_id, address:% = address;
                "Client {client_id} [{address}] disconnected."
            ),
            End::Lost => info!(
                target: NOTICE, client:% = client_id, address:% = address;
                "Client {client_id} [{address}] closed its connection."
            ),
        }
    }
}
