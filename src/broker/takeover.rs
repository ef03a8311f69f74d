//! A client is connected once: whoever brings an id that is in use takes its place.
//!
//! Two devices that were given the same id take it from each other as fast as they can connect,
//! for ever. So an id changes hands a few times at will, and then seldom: whoever has it keeps it
//! meanwhile, the other is told to come later, and the log names both. That leaves room for a
//! device that is back before its old connection is known to be dead. Only who has been let in
//! counts, so that nobody can keep a device out whose password he does not have.
//!
//! Of an id two numbers are remembered, in a table of fixed size. Where very many change hands,
//! those that do so least are forgotten.

use log::warn;

use super::deadlines::Millis;
use super::limits::Limits;
use super::printable::Printable;
use super::{Broker, ConnectionId, NOTICE};
use crate::packet::{ReasonCode, Refusal};

/// Ids that have changed hands of late.
#[derive(Debug, Default)]
pub struct Takeovers {
    /// None before the first. The hash of an id names its row.
    rows: Vec<[Recent; Limits::TAKEOVERS_PER_ROW]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    hash: u64,
    /// When it will be as if the id had never changed hands: each time puts that off.
    calm_at: Millis,
    /// Who has it and who wants it was logged since.
    is_named: bool,
}

impl Takeovers {
    fn row(&mut self, hash: u64) -> Option<&mut [Recent; Limits::TAKEOVERS_PER_ROW]> {
        let count = self.rows.len().max(1) as u64;
        self.rows.get_mut((hash % count) as usize)
    }

    /// The id with that hash, if it has changed hands and is not calm again.
    fn find(&mut self, hash: u64, now: Millis) -> Option<&mut Recent> {
        let recent = |one: &&mut Recent| one.hash == hash && one.calm_at > now;
        self.row(hash)?.iter_mut().find(recent)
    }

    /// It changes hands now.
    fn note(&mut self, hash: u64, interval: Millis, now: Millis) {
        if self.rows.is_empty() {
            self.rows = vec![Default::default(); Limits::TAKEOVER_ROWS];
        }
        let before = self.find(hash, now).map_or(now, |recent| recent.calm_at);
        let Some(row) = self.row(hash) else {
            return;
        };
        let own = |one: &Recent| (one.hash != hash, one.calm_at);
        if let Some(place) = row.iter_mut().min_by_key(|one| own(one)) {
            *place = Recent {
                hash,
                calm_at: before + interval,
                is_named: false,
            };
        }
    }

    pub fn check_invariants(&self) {
        assert!(self.rows.len() <= Limits::TAKEOVER_ROWS);
    }
}

impl Broker {
    /// Whether a client may take the place of `old`, which has the same id.
    pub(super) fn check_takeover(
        &mut self,
        id: ConnectionId,
        old: ConnectionId,
        client_id: &str,
        now: Millis,
    ) -> Result<(), Refusal> {
        let interval = self.options.limits.takeover_interval;
        let at_will = (Limits::TAKEOVERS_AT_WILL - 1) * interval;
        let hash = self.hash.bytes(client_id.as_bytes());
        let Some(recent) = self.takeovers.find(hash, now) else {
            return Ok(());
        };
        // The interval may have been longer when it was noted.
        recent.calm_at = recent.calm_at.min(now + at_will + interval);
        if recent.calm_at <= now + at_will {
            return Ok(());
        }
        if !std::mem::replace(&mut recent.is_named, true) {
            let (client_id, here) = (Printable(client_id), &self.connections[old].peer);
            let address = &self.connections[id].peer;
            warn!(
                client:% = client_id, address:% = address;
                "Client {client_id} is at {here} and wants to be at {address} too, and has gone \
                 from one connection to the other too often: each device needs an id of its own \
                 (takeover_interval says how often is too often)."
            );
        }
        self.connections.counters.takeovers_refused += 1;
        let why = "another client has this id, and it has changed hands too often";
        Err(Refusal::new(ReasonCode::ConnectionRateExceeded, why))
    }

    /// [MQTT-3.1.4-3] a client is connected once: the older connection ends.
    pub(super) fn take_over(&mut self, client_id: &str, now: Millis) {
        let Some(session) = self.sessions.find(client_id) else {
            return;
        };
        let Some(old) = self.sessions[session].connection else {
            return;
        };
        let interval = self.options.limits.takeover_interval;
        if interval > 0 {
            let hash = self.hash.bytes(client_id.as_bytes());
            self.takeovers.note(hash, interval, now);
        }
        self.connections.counters.takeovers += 1;
        let client_id = Printable(client_id);
        let address = &self.connections[old].peer;
        warn!(
            target: NOTICE, client:% = client_id, address:% = address;
            "Client {client_id} already connected, closing old connection."
        );
        let why = "another connection uses this client id";
        self.refuse(old, Refusal::new(ReasonCode::SessionTakenOver, why), now);
    }
}
