//! A message on its way to one client, and how it came to it.

use super::message::Message;
use super::shelf::Sequence;
use super::subscriptions::GroupId;
use crate::packet::QoS;

/// A message on its way to one client.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: Message,
    pub qos: QoS,
    pub retain: bool,
    /// 0 where it is not kept.
    pub sequence: Sequence,
    pub origin: Option<Box<Origin>>,
}

/// How a message came to a session, where that matters later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub subscription_ids: Vec<u32>,
    /// The group that shared it.
    pub group: Option<GroupId>,
}

impl Delivery {
    pub fn subscription_ids(&self) -> &[u32] {
        self.origin
            .as_ref()
            .map_or(&[], |origin| &origin.subscription_ids)
    }

    pub fn group(&self) -> Option<GroupId> {
        self.origin.as_ref().and_then(|origin| origin.group)
    }
}
