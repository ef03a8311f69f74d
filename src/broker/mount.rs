//! Mount points: topics have one name for the clients of a listener and another for the server.
//!
//! A listener may have a prefix. What its clients name gets it on the way in, and loses it on the
//! way out; what has another beginning is not theirs to see. Everything in between, ACLs and what
//! is kept included, is about full names. Where there is no prefix, that is all that is asked.

use super::{Broker, ConnectionId};
use crate::packet::{ReasonCode, Refusal, SubscriptionTopic, TopicFilter, TopicName};

/// What the length of a topic has room for on the wire.
const TOPIC_BYTES_MAX: usize = u16::MAX as usize;

/// The prefixes of all listeners, by their indices.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Option<Box<str>>>);

impl Mounts {
    pub fn new(prefixes: impl Iterator<Item = Option<Box<str>>>) -> Mounts {
        let prefixes: Vec<_> = prefixes.collect();
        match prefixes.iter().any(Option::is_some) {
            true => Mounts(prefixes),
            false => Mounts::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, listener: usize) -> Option<&str> {
        self.0.get(listener)?.as_deref()
    }

    /// What the clients of a listener see of a topic; `None` where it is not theirs to see.
    pub fn below<'t>(&self, listener: usize, topic: &'t [u8]) -> Option<&'t [u8]> {
        let prefix = self.of(listener).unwrap_or_default();
        let below = topic.strip_prefix(prefix.as_bytes())?;
        // A topic has at least one character.
        (!below.is_empty()).then_some(below)
    }
}

impl Broker {
    /// The full name of a topic that a client names, not yet checked; `None` where it is the same.
    #[inline]
    pub(super) fn full_topic(&self, id: ConnectionId, topic: &str) -> Option<Box<str>> {
        match self.connections.has_mounts() {
            true => self.prefixed(id, topic),
            false => None,
        }
    }

    #[inline(never)]
    fn prefixed(&self, id: ConnectionId, topic: &str) -> Option<Box<str>> {
        let prefix = self.connections.mount(id)?;
        // What is no topic without the prefix is none with it.
        let full = (!topic.is_empty()).then(|| [prefix, topic].concat());
        full.map(Into::into)
    }

    /// The full names of the filters that a client names; none where they are the same.
    pub(super) fn full_filters<'t>(
        &self,
        id: ConnectionId,
        topics: impl Iterator<Item = &'t Result<SubscriptionTopic<'t>, Refusal>>,
    ) -> Vec<String> {
        let Some(prefix) = self.connections.mount(id) else {
            return Vec::new();
        };
        let full = |topic: &SubscriptionTopic| [prefix, topic.filter.as_str()].concat();
        topics
            .map(|topic| topic.as_ref().map_or(String::new(), full))
            .collect()
    }
}

/// Whether a full name is one.
pub fn check_topic(full: &str) -> Result<TopicName<'_>, Refusal> {
    if full.len() > TOPIC_BYTES_MAX {
        let why = "with the mount point of its listener the topic name is too long";
        return Err(Refusal::new(ReasonCode::TopicNameInvalid, why));
    }
    TopicName::parse(full)
}

/// Whether a filter matches any topic that begins with the prefix.
pub fn reaches_below(prefix: &str, filter: TopicFilter) -> bool {
    let filter = filter.as_str();
    if prefix.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut own = filter.split('/');
    let mut levels = prefix.split('/').peekable();
    while let Some(level) = levels.next() {
        // It may end within a level.
        let is_last = levels.peek().is_none();
        match own.next() {
            Some("#") => return true,
            Some("+") => {}
            Some(name) if is_last && name.starts_with(level) || name == level => {}
            Some(_) | None => return false,
        }
    }
    true
}

/// Gives the filter its full name.
pub fn rename<'t>(topic: &mut Result<SubscriptionTopic<'t>, Refusal>, full: &'t str) {
    let Ok(named) = topic else {
        return;
    };
    match TopicFilter::parse(full) {
        Ok(filter) if full.len() <= TOPIC_BYTES_MAX => named.filter = filter,
        Ok(_) | Err(_) => {
            let why = "with the mount point of its listener this is no topic filter";
            *topic = Err(Refusal::new(ReasonCode::TopicFilterInvalid, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_reaches_below_a_prefix_or_does_not() {
        for (prefix, filter, expected) in [
            ("", "a", true),
            ("g/", "#", true),
            ("g/", "g/#", true),
            ("g/", "g/s/+", true),
            ("g/", "+/s", true),
            ("g/", "g", false),
            ("g/", "+", false),
            ("g/", "s/#", false),
            ("g/", "gg/a", false),
            ("g/h/", "g/#", true),
            ("g/h/", "g/+/a", true),
            ("g/h/", "g/i/a", false),
            ("g/h/", "g/h", false),
            ("g", "gate", true),
            ("g", "gate/+", true),
            ("g", "roof", false),
            ("$g/", "#", false),
            ("$g/", "+/a", false),
            ("$g/", "$g/a", true),
        ] {
            let reaches = reaches_below(prefix, TopicFilter::trusted(filter));
            assert_eq!(reaches, expected, "{prefix} {filter}");
        }
    }
}
