//! Retained messages (3.3.1.3): the last one of each topic, kept for subscribers to come.
//!
//! An ordered set, so that a replay to a new subscriber is a cursor: it remembers the topic it
//! came to and goes on behind it whenever the subscriber has room, whatever was stored or removed
//! in between. A filter's literal start bounds the part of the set that is looked at.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

use super::authority::Source;
use super::deadlines::Millis;
use super::limits::Limits;
use super::message::{Content, Message};
use crate::packet::topic;
use crate::packet::{QoS, ReasonCode, Refusal, TopicFilter, TopicName};

/// A retained message and its place in the order of storing.
#[derive(Debug)]
pub struct Entry {
    pub message: Message,
    /// Grows with every message stored: a replay leaves out what came after it began.
    pub stamp: u64,
    /// Hash of the client id of whoever published it, for its own No Local subscriptions; 0 for
    /// the server itself.
    pub publisher: u64,
    /// As who it was published, where an ACL file was in force.
    pub source: Option<Source>,
}

/// Bytes that a source counts for: its client may be gone, and nobody else keep it.
pub fn source_len(source: &Option<Source>) -> usize {
    source
        .as_ref()
        .map_or(0, |source| source.identity.byte_count())
}

impl Entry {
    fn len(&self) -> u64 {
        (self.message.len() + source_len(&self.source)) as u64
    }

    fn topic(&self) -> &[u8] {
        self.message.topic().as_bytes()
    }
}

impl Borrow<[u8]> for Entry {
    fn borrow(&self) -> &[u8] {
        self.topic()
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.topic().cmp(other.topic())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.topic() == other.topic()
    }
}

impl Eq for Entry {}

#[derive(Debug, Default)]
pub struct Retained {
    by_topic: BTreeSet<Entry>,
    bytes: u64,
    stamp: u64,
}

impl Retained {
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// As who what there is was published, where that is known.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.by_topic
            .iter()
            .filter_map(|entry| entry.source.as_ref())
    }

    /// Bytes of all messages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The stamp of the newest message.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Whether just this message is there, from that publisher, who is who it was.
    pub fn has(
        &self,
        content: &Content,
        qos: QoS,
        publisher: u64,
        source: Option<&Source>,
    ) -> bool {
        let Some(entry) = self.by_topic.get(content.topic.as_bytes()) else {
            return false;
        };
        let kept = entry.message.content();
        (entry.publisher, entry.message.qos()) == (publisher, qos)
            && entry.source.as_ref().map(Source::who) == source.map(Source::who)
            && kept.expires_at == content.expires_at
            && kept.properties == content.properties
            && kept.payload == content.payload
    }

    /// Whether a message of `len` bytes to `topic` fits.
    pub fn admit(&self, topic: TopicName, len: usize, limits: &Limits) -> Result<(), Refusal> {
        let len = len as u64;
        // Nearly always there is room without looking whose place it takes.
        if self.len() < limits.retained_messages_max
            && self.bytes + len <= limits.retained_bytes_max
        {
            return Ok(());
        }
        let (count, bytes) = match self.by_topic.get(topic.as_bytes()) {
            // No more than there was, even where limits are lower than they were.
            Some(old) if len <= old.len() => return Ok(()),
            Some(old) => (self.len() - 1, self.bytes - old.len()),
            None => (self.len(), self.bytes),
        };
        if count >= limits.retained_messages_max || bytes + len > limits.retained_bytes_max {
            let why = "the store for retained messages is full (max_retained_messages, _bytes)";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        Ok(())
    }

    /// Whether a message of `len` bytes to `topic` takes no more room than the one it replaces.
    pub fn replaces(&self, topic: TopicName, len: usize) -> bool {
        let old = self.by_topic.get(topic.as_bytes());
        old.is_some_and(|old| len as u64 <= old.len())
    }

    /// [MQTT-3.3.1-5] replaces the topic's message.
    pub fn store(&mut self, message: Message, publisher: u64, source: Option<Source>) {
        self.stamp += 1;
        let stamp = self.stamp;
        let entry = Entry {
            message,
            stamp,
            publisher,
            source,
        };
        self.bytes += entry.len();
        if let Some(old) = self.by_topic.replace(entry) {
            self.bytes -= old.len();
        }
    }

    /// [MQTT-3.3.1-6] an empty payload removes it; whether there was one.
    pub fn remove(&mut self, topic: TopicName) -> bool {
        let old = self.by_topic.take(topic.as_bytes());
        self.bytes -= old.as_ref().map_or(0, |old| old.len());
        old.is_some()
    }

    /// Removes what has expired, and tells of each; returns when the next one does.
    pub fn sweep(&mut self, now: Millis, mut gone: impl FnMut(TopicName)) -> Option<Millis> {
        self.by_topic.retain(|entry| {
            let expired = entry.message.is_expired(now);
            if expired {
                self.bytes -= entry.len();
                gone(entry.message.topic());
            }
            !expired
        });
        self.by_topic
            .iter()
            .filter_map(|entry| entry.message.expires_at())
            .min()
    }

    /// Shows `visit` the messages that the cursor has not come to, until it breaks or `topics` of
    /// them, which is counted down, have been looked at. What `visit` breaks at will be shown
    /// again.
    pub fn replay(
        &self,
        cursor: &mut Cursor,
        topics: &mut usize,
        mut visit: impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> Progress {
        let filter = TopicFilter::trusted(&cursor.filter);
        let prefix = filter.literal_prefix().as_bytes();
        let only_one = !filter.has_wildcard();
        let start: Bound<&[u8]> = match &cursor.after {
            None => Bound::Included(prefix),
            Some(after) => Bound::Excluded(after),
        };
        let mut passed: Option<&Entry> = None;
        let mut progress = Progress::Done;
        let entries = self.by_topic.range::<[u8], _>((start, Bound::Unbounded));
        for entry in entries {
            if !entry.topic().starts_with(prefix) || (only_one && entry.topic() != prefix) {
                break;
            }
            if *topics == 0 {
                progress = Progress::Paused;
                break;
            }
            *topics -= 1;
            let wanted = entry.stamp <= cursor.stamp_max
                && topic::matches(filter.as_str().as_bytes(), entry.topic());
            if wanted && visit(entry).is_break() {
                progress = Progress::Blocked;
                break;
            }
            passed = Some(entry);
        }
        if let Some(entry) = passed {
            let after = cursor.after.get_or_insert_default();
            after.clear();
            after.extend_from_slice(entry.topic());
        }
        progress
    }
}

/// How far a replay has come.
#[derive(Debug)]
pub struct Cursor {
    filter: Box<str>,
    after: Option<Vec<u8>>,
    stamp_max: u64,
}

impl Cursor {
    /// Begins at the first match, and leaves out what is stored after `stamp_max`.
    pub fn new(filter: TopicFilter, stamp_max: u64) -> Cursor {
        Cursor {
            filter: filter.as_str().into(),
            after: None,
            stamp_max,
        }
    }
}

/// Why a replay stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// There is no room for the next one.
    Blocked,
    /// Enough for now.
    Paused,
}
