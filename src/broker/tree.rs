//! All subscriptions, into the log, a few at a time: there may be very many.

use log::info;

use super::printable::Printable;
use super::{Broker, NOTICE};

/// How far the walk through all sessions has come; what comes and goes meanwhile may be left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    session: u32,
    /// Of its next subscription.
    subscription: usize,
}

impl Broker {
    /// Logs some of the subscriptions; returns where to go on, if that was not the last one.
    pub fn log_subscriptions(&self, from: Place, count: usize) -> Option<Place> {
        let mut left = count;
        let sessions = self.sessions.iter();
        for (id, session) in sessions.filter(|(id, _)| id.0 >= from.session) {
            let first = match id.0 == from.session {
                true => from.subscription,
                false => 0,
            };
            let keys = session.subscriptions.iter().enumerate().skip(first);
            for (subscription, key) in keys {
                if left == 0 {
                    return Some(Place {
                        session: id.0,
                        subscription,
                    });
                }
                left -= 1;
                let topic = self.subscriptions.topic(*key);
                let subscriber = self.subscriptions.subscriber(*key, id);
                let qos = subscriber.map_or(0, |subscriber| subscriber.qos as u8);
                let client_id = Printable(&session.client_id);
                let state = match session.connection {
                    Some(connection) => format!("[{}]", self.connections[connection].peer),
                    None => "(away)".to_string(),
                };
                let topic = topic.to_string();
                let filter = Printable(&topic);
                info!(
                    target: NOTICE, client:% = client_id;
                    "Subscription of {client_id} {state}: {qos} {filter}"
                );
            }
        }
        None
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.plain_count() + self.subscriptions.shared_count()
    }
}
