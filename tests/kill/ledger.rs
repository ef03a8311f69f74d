//! What clients were promised, and what came of it. Shared by the threads of a test.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use midge::packet::QoS;

/// Messages of one topic and one QoS, numbered from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub begun: u64,
    /// Acknowledged, and so are all before it.
    pub promised: u64,
}

pub type Name = (String, u8);

/// What a subscriber has got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Got {
    /// All up to this one, in order.
    pub last: u64,
    /// More than once.
    pub again: u64,
}

#[derive(Debug, Default)]
pub struct Ledger {
    /// Clients may connect.
    pub is_open: AtomicBool,
    /// Publishers begin new messages.
    pub is_busy: AtomicBool,
    pub is_over: AtomicBool,
    /// Subscribers who have their SUBACK.
    subscribed: AtomicUsize,
    /// Messages begun and not completed.
    in_flight: AtomicUsize,
    streams: Mutex<BTreeMap<Name, Stream>>,
    /// By topic; see [`clears`].
    retained: Mutex<BTreeMap<String, Stream>>,
    got: Mutex<BTreeMap<(String, Name), Got>>,
}

/// Whether the retained message of this number is an empty one.
pub fn clears(number: u64) -> bool {
    number % 4 == 3
}

impl Ledger {
    /// The number of the next message there.
    pub fn begin(&self, topic: &str, qos: QoS, retain: bool) -> u64 {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.change(topic, qos, retain, |stream| {
            stream.begun += 1;
            stream.begun
        })
    }

    /// PUBACK or PUBREC has come.
    pub fn promise(&self, topic: &str, qos: QoS, retain: bool, number: u64) {
        self.change(topic, qos, retain, |stream| stream.promised = number);
    }

    pub fn complete(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    fn change<T>(
        &self,
        topic: &str,
        qos: QoS,
        retain: bool,
        change: impl FnOnce(&mut Stream) -> T,
    ) -> T {
        match retain {
            true => {
                let mut retained = self.retained.lock().unwrap();
                change(retained.entry(topic.to_string()).or_default())
            }
            false => {
                let mut streams = self.streams.lock().unwrap();
                change(streams.entry((topic.to_string(), qos as u8)).or_default())
            }
        }
    }

    /// A message has come to `subscriber`: none may be missing before it.
    pub fn got(&self, subscriber: &str, topic: &str, qos: QoS, number: u64, is_once: bool) {
        let mut got = self.got.lock().unwrap();
        let name = (topic.to_string(), qos as u8);
        let got = got.entry((subscriber.to_string(), name)).or_default();
        let last = got.last;
        let what = format!("{subscriber} got {number} of {topic} at {qos:?} behind {last}");
        assert!(number <= last + 1, "lost: {what}");
        if number <= last {
            assert!(!is_once, "twice: {what}");
            got.again += 1;
        }
        got.last = last.max(number);
    }

    pub fn note_subscribed(&self) {
        self.subscribed.fetch_add(1, Ordering::SeqCst);
    }

    pub fn subscribed(&self) -> usize {
        self.subscribed.load(Ordering::SeqCst)
    }

    /// Whether nothing is on its way from a publisher.
    pub fn is_quiet(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0
    }

    /// What `subscriber` should have and has not.
    pub fn missing(&self, subscriber: &str) -> Option<String> {
        let got = self.got.lock().unwrap();
        let streams = self.streams.lock().unwrap();
        let mut short = streams.iter().filter_map(|(name, stream)| {
            let key = (subscriber.to_string(), name.clone());
            let last = got.get(&key).map_or(0, |got| got.last);
            (last < stream.promised)
                .then(|| format!("{subscriber} has {last} of {name:?}, promised {stream:?}"))
        });
        short.next()
    }

    pub fn retained(&self) -> BTreeMap<String, Stream> {
        self.retained.lock().unwrap().clone()
    }

    /// Messages promised, retained messages promised, messages that came again.
    pub fn figures(&self) -> (u64, u64, u64) {
        let sum = |streams: &BTreeMap<Name, Stream>| streams.values().map(|s| s.promised).sum();
        let retained = self.retained();
        let again = self.got.lock().unwrap().values().map(|got| got.again).sum();
        (
            sum(&self.streams.lock().unwrap()),
            retained.values().map(|stream| stream.promised).sum(),
            again,
        )
    }

    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::SeqCst)
    }

    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::SeqCst)
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

/// Ends the threads of a test, whether it ends well or not.
pub struct Ending<'l>(pub &'l Ledger);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}
