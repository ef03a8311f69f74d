//! A client is connected once: whoever brings an id that is in use takes its place.

use log::warn;

use super::deadlines::Millis;
use super::printable::Printable;
use super::{Broker, NOTICE};
use crate::packet::{ReasonCode, Refusal};

impl Broker {
    /// [MQTT-3.1.4-3] a client is connected once: the older connection ends.
    pub(super) fn take_over(&mut self, client_id: &str, now: Millis) {
        let Some(session) = self.sessions.find(client_id) else {
            return;
        };
        let Some(old) = self.sessions[session].connection else {
            return;
        };
        let client_id = Printable(client_id);
        warn!(target: NOTICE, "Client {client_id} already connected, closing old connection.");
        let why = "another connection uses this client id";
        self.refuse(old, Refusal::new(ReasonCode::SessionTakenOver, why), now);
    }
}
