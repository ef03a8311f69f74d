//! Topic Aliases (3.3.2.3.4), which end with the connection [MQTT-3.3.2-7].

use std::collections::HashMap;

use super::hash::Seeded;

#[derive(Debug)]
pub struct Aliases {
    /// Set by the client: index is alias - 1.
    pub inbound: Vec<Option<Box<str>>>,
    /// Set by us, up to `outbound_max`.
    outbound: HashMap<Box<[u8]>, u16, Seeded>,
    outbound_max: u16,
}

/// A Topic Alias for a message that we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    None,
    /// To be sent with the topic, once.
    New(u16),
    /// Stands for the topic.
    Known(u16),
}

impl Aliases {
    pub fn new(outbound_max: u16, hash: Seeded) -> Aliases {
        Aliases {
            inbound: Vec::new(),
            outbound: HashMap::with_hasher(hash),
            outbound_max,
        }
    }

    /// Whether we set any.
    pub fn gives(&self) -> bool {
        self.outbound_max > 0
    }

    /// What can stand for `topic`. The first topics get an alias and keep it: devices send the
    /// same few again and again.
    pub fn alias(&self, topic: &[u8]) -> Alias {
        let used = self.outbound.len() as u16;
        match self.outbound.get(topic) {
            Some(alias) => Alias::Known(*alias),
            None if used < self.outbound_max => Alias::New(used + 1),
            None => Alias::None,
        }
    }

    pub fn set(&mut self, topic: &[u8], alias: u16) {
        self.outbound.insert(topic.into(), alias);
    }
}
