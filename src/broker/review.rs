//! What a session brings along when its client is back: its subscriptions, made under other rules
//! perhaps, or by another user of the same client id. Those that the client could not make now go.
//!
//! Nor could it make one outside of the mount point of its listener, or be rid of it: messages
//! would wait that it cannot see, in the place of others.
//!
//! What waits is not looked through: each message is judged when it is sent, as all are. Nor are
//! subscriptions of those who stay connected while the rules change: what comes by them is judged.

use log::warn;

use super::deadlines::Millis;
use super::printable::Printable;
use super::{Broker, ConnectionId, SessionId, mount};
use crate::packet::{SubscriptionTopic, TopicFilter};

impl Broker {
    /// Call once the client is connected to its session, before it is sent anything that waited.
    pub(super) fn review_subscriptions(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        now: Millis,
    ) {
        if !self.authority.is_on() && self.connections.mount(id).is_none() {
            return;
        }
        let mut dropped = 0;
        let mut example = None;
        for key in self.sessions[session].subscriptions.clone() {
            let topic = self.subscriptions.topic(key);
            let prefix = self.connections.mount(id).unwrap_or_default();
            let why = match self.may_subscribe(session, topic.filter) {
                Ok(()) if mount::reaches_below(prefix, topic.filter) => continue,
                Ok(()) => "nothing that it matches is below the mount point of the listener",
                Err(refusal) => refusal.why,
            };
            let share_name = topic.share_name.map(str::to_owned);
            let filter = topic.filter.as_str().to_owned();
            let topic = SubscriptionTopic {
                share_name: share_name.as_deref(),
                filter: TopicFilter::trusted(&filter),
            };
            self.unsubscribe(session, topic, now);
            dropped += 1;
            example.get_or_insert((filter, why));
        }
        let Some((filter, why)) = example else {
            return;
        };
        self.update_sys_timer(now);
        let client_id = Printable(&self.sessions[session].client_id);
        let (address, filter) = (&self.connections[id].peer, Printable(&filter));
        warn!(
            client:% = client_id, address:% = address;
            "Client {client_id} [{address}] goes on without {dropped} of its subscriptions, such \
             as {filter}: {why}."
        );
    }
}
