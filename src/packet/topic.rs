//! Topic Names and Topic Filters, section 4.7, and Shared Subscriptions, 4.8.2.
//!
//! Each is checked once, where it enters, and trusted from then on: a `TopicName` has no wildcard,
//! a `TopicFilter` has them only where they may stand. Nothing is normalized [MQTT-4.7.3-4].

use std::fmt;

use super::{ReasonCode, Refusal, scan};

/// Levels a Topic Name or Topic Filter may have; the specification names no limit, and real ones
/// have fewer than ten. One bit per level fits a `u128`.
pub const TOPIC_LEVELS_MAX: usize = 128;

/// The Topic Name of a PUBLISH or a Will. Its bytes: it is compared, hashed and copied, and to
/// prove again that those of a kept message are text would cost as much as all that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a [u8]);

impl<'a> TopicName<'a> {
    pub fn parse(text: &'a str) -> Result<TopicName<'a>, Refusal> {
        // [MQTT-3.3.2-2] [MQTT-4.7.0-1] wildcards belong into filters.
        if scan::contains_any(text.as_bytes(), *b"+#") {
            return Err(Refusal::malformed("a topic name must not contain + or #"));
        }
        // [MQTT-4.7.3-1]
        if text.is_empty() {
            let why = "a topic name must have at least one character";
            return Err(Refusal::malformed(why));
        }
        // Well-formed, and yet not accepted: that is what 0x90 and 0x8F are for.
        if has_too_many_levels(text) {
            let why = "a topic name must not have more than 128 levels";
            return Err(Refusal::new(ReasonCode::TopicNameInvalid, why));
        }
        Ok(TopicName(text.as_bytes()))
    }

    /// What was parsed before, and kept.
    pub fn trusted(bytes: &'a [u8]) -> TopicName<'a> {
        TopicName(bytes)
    }

    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The Topic Filter of a subscription, without the `$share/name/` of a shared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    pub fn parse(text: &'a str) -> Result<TopicFilter<'a>, Refusal> {
        // [MQTT-4.7.3-1]
        if text.is_empty() {
            return Err(Refusal::malformed(
                "a topic filter must have at least one character",
            ));
        }
        let filter = TopicFilter(text);
        if filter.has_wildcard() {
            check_wildcards(text)?;
        }
        if has_too_many_levels(text) {
            let why = "a topic filter must not have more than 128 levels";
            return Err(Refusal::new(ReasonCode::TopicFilterInvalid, why));
        }
        Ok(filter)
    }

    /// Text that was parsed before, and kept.
    pub fn trusted(text: &'a str) -> TopicFilter<'a> {
        TopicFilter(text)
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }

    pub fn has_wildcard(self) -> bool {
        scan::contains_any(self.0.as_bytes(), *b"+#")
    }

    /// The text that every matching topic starts with.
    pub fn literal_prefix(self) -> &'a str {
        match self.0.find(['+', '#']) {
            None => self.0,
            // "a/#" matches "a" as well, so the separator before the # does not count.
            Some(at) if self.0.as_bytes()[at] == b'#' => &self.0[..at.saturating_sub(1)],
            Some(at) => &self.0[..at],
        }
    }

    /// Whether `topic` matches, section 4.7.
    pub fn matches(self, topic: TopicName) -> bool {
        matches(self.0.as_bytes(), topic.0)
    }
}

fn check_wildcards(filter: &str) -> Result<(), Refusal> {
    let mut levels = filter.split('/');
    while let Some(level) = levels.next() {
        match level {
            "+" => {}
            // [MQTT-4.7.1-1] the last level.
            "#" if levels.clone().next().is_none() => {}
            "#" => return Err(Refusal::malformed("# must be the last level of a filter")),
            // [MQTT-4.7.1-1] [MQTT-4.7.1-2] a level of its own.
            _ if level.contains(['+', '#']) => {
                let why = "a wildcard must be a whole level of a filter";
                return Err(Refusal::malformed(why));
            }
            _ => {}
        }
    }
    Ok(())
}

fn has_too_many_levels(text: &str) -> bool {
    // Nearly always short, and then there is nothing to count.
    text.len() >= TOPIC_LEVELS_MAX && text.split('/').count() > TOPIC_LEVELS_MAX
}

/// [`TopicFilter::matches`] for the bytes of a Topic Filter and of a Topic Name.
pub fn matches(filter: &[u8], topic: &[u8]) -> bool {
    // [MQTT-4.7.2-1] a leading wildcard leaves $SYS and its like alone.
    if topic.starts_with(b"$") && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    levels_match(filter, topic)
}

/// Whether levels of a Topic Filter match those of a Topic Name, wherever both have them.
#[inline]
pub fn levels_match(filter: &[u8], topic: &[u8]) -> bool {
    let (mut filter, mut topic) = (filter, topic);
    loop {
        // No topic has a wildcard in it: they part at one, or because they differ.
        while let ([wanted, filter_rest @ ..], [byte, topic_rest @ ..]) = (filter, topic)
            && wanted == byte
        {
            (filter, topic) = (filter_rest, topic_rest);
        }
        match filter {
            [] => return topic.is_empty(),
            [b'+', rest @ ..] => {
                filter = rest;
                topic = &topic[level_len(topic)..];
            }
            [b'#', ..] => return true,
            // # includes the level above it: "a/#" matches "a".
            [b'/', b'#', ..] => return topic.is_empty(),
            _ => return false,
        }
    }
}

/// Bytes up to the next level.
fn level_len(topic: &[u8]) -> usize {
    let end = topic.iter().position(|byte| *byte == b'/');
    end.unwrap_or(topic.len())
}

/// What a SUBSCRIBE asks for: a filter, and the name of the group that shares it, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionTopic<'a> {
    pub share_name: Option<&'a str>,
    pub filter: TopicFilter<'a>,
}

impl<'a> SubscriptionTopic<'a> {
    /// Bytes of both names.
    pub fn byte_count(&self) -> usize {
        self.share_name.map_or(0, str::len) + self.filter.as_str().len()
    }

    pub fn parse(text: &'a str) -> Result<SubscriptionTopic<'a>, Refusal> {
        let Some(shared) = text.strip_prefix("$share/") else {
            let filter = TopicFilter::parse(text)?;
            return Ok(SubscriptionTopic {
                share_name: None,
                filter,
            });
        };
        // [MQTT-4.8.2-1] [MQTT-4.8.2-2] $share/{ShareName}/{filter}
        let Some((name, filter)) = shared.split_once('/') else {
            return Err(Refusal::malformed(
                "a shared subscription is $share/NAME/FILTER",
            ));
        };
        if name.is_empty() || name.contains(['+', '#']) {
            return Err(Refusal::malformed(
                "a share name is not empty and has no + or #",
            ));
        }
        Ok(SubscriptionTopic {
            share_name: Some(name),
            filter: TopicFilter::parse(filter)?,
        })
    }
}

/// As it stands in a SUBSCRIBE.
impl fmt::Display for SubscriptionTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filter = self.filter.as_str();
        match self.share_name {
            None => f.write_str(filter),
            Some(name) => write!(f, "$share/{name}/{filter}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::parse(filter)
            .unwrap()
            .matches(TopicName::parse(topic).unwrap())
    }

    #[test]
    fn the_examples_of_section_4_7() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/ranking",
                true,
            ),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/#", "sport", true),
            ("#", "sport", true),
            ("#", "/", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/broker", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/broker", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
            ("a/+/#", "a/", true),
            ("a/+/b", "a//b", true),
            ("a/+/b", "a/b", false),
            ("+/+/#", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/bc", "a/b", false),
            ("a/b/#", "a/bc", false),
            ("+/+", "a/$b", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} and {topic}");
        }
    }

    #[test]
    fn wildcards_stand_only_where_they_may() {
        for bad in [
            "",
            "sport/tennis#",
            "sport/#/ranking",
            "sport+",
            "+a",
            "a/b+/c",
            "##",
            "#/",
        ] {
            assert!(TopicFilter::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a/+", "#", "a#b"] {
            assert!(TopicName::parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "$share/",
            "$share/a",
            "$share//a",
            "$share/+/a",
            "$share/a#/b",
            "$share/a/",
        ] {
            assert!(SubscriptionTopic::parse(bad).is_err(), "{bad:?}");
        }
        let shared = SubscriptionTopic::parse("$share/consumer//a/+").unwrap();
        assert_eq!(
            (shared.share_name, shared.filter.as_str()),
            (Some("consumer"), "/a/+")
        );
    }

    #[test]
    fn the_number_of_levels_has_a_limit() {
        let fits = "/".repeat(TOPIC_LEVELS_MAX - 1);
        let deep = "/".repeat(TOPIC_LEVELS_MAX);
        assert!(TopicName::parse(&fits).is_ok() && TopicFilter::parse(&fits).is_ok());
        assert!(TopicName::parse(&deep).is_err() && TopicFilter::parse(&deep).is_err());
    }

    #[test]
    fn a_literal_prefix_starts_every_match() {
        for (filter, prefix) in [
            ("a/b", "a/b"),
            ("a/#", "a"),
            ("#", ""),
            ("a/+/b", "a/"),
            ("+", ""),
        ] {
            assert_eq!(
                TopicFilter::parse(filter).unwrap().literal_prefix(),
                prefix,
                "{filter}"
            );
        }
    }
}
