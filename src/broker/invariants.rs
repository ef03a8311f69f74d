//! What must hold between the parts of the broker, and within its limits, whatever has happened.

use super::Broker;
use super::connection::Phase;
use super::limits::Limits;

impl Broker {
    /// Panics where the parts of the broker disagree; for tests, after every verb.
    pub fn check_invariants(&self) {
        self.subscriptions.check_invariants();
        self.takeovers.check_invariants();
        let (mut connected, mut waiting, mut held_bytes) = (0, 0, 0);
        for (id, connection) in self.connections.iter() {
            if let Some(session) = connection.session() {
                assert_eq!(self.sessions[session].connection, Some(id));
                connected += 1;
            }
            match connection.phase {
                Phase::AwaitVerdict(_) => {
                    waiting += 1;
                    held_bytes += connection.leftover.len();
                    assert!(connection.leftover.len() <= Limits::HELD_BYTES_MAX);
                }
                _ => assert!(connection.leftover.len() <= self.packet_bytes_max(id)),
            }
            if connection.phase == Phase::Closing {
                assert!(
                    self.connections.close.contains(&id),
                    "ended and never closed"
                );
            }
        }
        assert_eq!(connected, self.connected);
        assert_eq!(connected, self.connected_through.iter().sum::<usize>());
        assert_eq!(waiting, self.checks.waiting.len());
        assert_eq!(held_bytes, self.checks.held_bytes);
        assert!(waiting <= Limits::WAITING_MAX && held_bytes <= Limits::HELD_BYTES_OF_ALL_MAX);
        let mut subscriptions = 0;
        for (id, session) in self.sessions.iter() {
            session.check_invariants(&self.stretched);
            assert_eq!(self.sessions.find(&session.client_id), Some(id));
            subscriptions += session.subscriptions.len();
            match session.connection {
                Some(connection) => {
                    let connection = &self.connections[connection];
                    assert_eq!(connection.session(), Some(id));
                    assert!(
                        session.pending().sent_count() <= usize::from(connection.receive_maximum)
                    );
                }
                None => assert!(session.expiry_interval > 0, "a session outlives its time"),
            }
            assert!(session.queue != 0 || session.pending().shelf.is_empty());
        }
        self.check_limits();
        let index = self.subscriptions.plain_count() + self.subscriptions.shared_count();
        assert_eq!(subscriptions, index);
        assert!(self.deadlines.len() <= self.connections.len() + 2 * self.sessions.len() + 3);
    }

    /// What is limited for all clients together; for the limits of each see its session.
    fn check_limits(&self) {
        let limits = &self.stretched;
        assert!(self.connected <= limits.connections_max);
        assert!(self.sessions.len() <= limits.sessions_max);
        assert!(self.retained.len() <= limits.retained_messages_max);
        assert!(self.retained.bytes() <= limits.retained_bytes_max);
        assert!(self.connections.awaiting_count() <= Limits::UNCONNECTED_MAX);
    }

    /// Panics where anything that waits for that client is in memory; for tests.
    pub fn check_all_waits_on_disk(&self, client_id: &str) {
        let id = self.sessions.find(client_id).expect("it has a session");
        let pending = self.sessions[id].pending();
        assert_eq!(pending.queue_bytes(), 0);
        assert!(!pending.shelf.is_empty());
    }
}
