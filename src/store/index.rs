//! What is where: keys by their hash, queues by their number, segments with what lives in them.
//!
//! No value and no body is here. [`Index::apply`] is the meaning of a record, for one that is
//! committed as for one that is read again: so what the log tells later is what was true.
//! A segment whose `items` are none holds nothing that counts.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::ops::Range;

use super::format::{FRAME, HEADER, Header, Place};
use super::queue::{Entry, Queue};
use crate::record::{self, Record};

/// About what precedes key and value.
const PUT_BYTES: usize = 3;

#[derive(Debug)]
pub struct Segment {
    pub file: u32,
    pub header: Header,
    pub mark: u32,
    /// Where its frames end.
    pub used: usize,
    /// Up to here it is on the medium.
    pub synced: usize,
    /// The checksum that the next frame continues.
    pub chain: u32,
    /// What could not be read.
    pub gaps: Vec<Range<usize>>,
    items: i64,
    /// Bytes that count.
    pub live: i64,
}

impl Segment {
    pub fn new(file: u32, header: Header) -> Segment {
        let mark = header.mark();
        Segment {
            file,
            header,
            mark,
            used: HEADER,
            synced: HEADER,
            chain: mark,
            gaps: Vec::new(),
            items: 0,
            live: 0,
        }
    }

    pub fn room(&self) -> usize {
        (self.header.size as usize - HEADER).saturating_sub(self.used)
    }
}

#[derive(Debug, Default)]
pub struct Index {
    /// By sequence.
    pub segments: BTreeMap<u32, Segment>,
    /// Where a key's latest value is, and the length of its record.
    keys: HashMap<u128, (Place, u32)>,
    pub queues: BTreeMap<u32, Queue>,
    nonce: u64,
    /// While the log is read, queues need not be in order, nor what is counted right.
    is_settled: bool,
}

impl Index {
    pub fn new(nonce: u64) -> Index {
        Index {
            nonce,
            ..Index::default()
        }
    }

    /// The records of the frame that begins there take effect.
    pub fn apply_all(&mut self, segment: u32, frame: usize, records: &[u8]) {
        for (offset, record) in record::records(records) {
            let offset = (frame + FRAME + offset) as u32;
            self.apply(Place { segment, offset }, &record);
        }
    }

    /// The record, which stands at this place of the log, takes effect.
    fn apply(&mut self, place: Place, record: &Record<'_>) {
        match record {
            Record::Put { key, value } => {
                let length = (PUT_BYTES + key.len() + value.len()) as u32;
                let old = self.keys.insert(self.hash(key), (place, length));
                self.lose(old);
                self.gain((place, length));
            }
            Record::Delete { key } => {
                let old = self.keys.remove(&self.hash(key));
                self.lose(old);
            }
            Record::Message { refs, body } => {
                let count = refs.clone().count();
                for found in refs.clone() {
                    let entry = Entry::new(found.sequence, place, body.len(), count);
                    let queue = self.queues.entry(found.queue).or_default();
                    let old = queue.put(entry);
                    if self.is_settled {
                        queue.settle();
                    }
                    self.lose(old.map(|old| old.share()));
                    self.gain(entry.share());
                }
            }
            Record::Done { queue, sequence } => {
                let Some(waiting) = self.queues.get_mut(queue) else {
                    return;
                };
                let old = waiting.done(*sequence);
                if waiting.is_empty() {
                    self.queues.remove(queue);
                }
                self.lose(old.map(|old| old.share()));
            }
            Record::Drop { queue } => {
                for old in self.queues.remove(queue).unwrap_or_default().behind(None) {
                    self.lose(Some(old.share()));
                }
            }
        }
    }

    /// What has to be done when the whole log has been read.
    pub fn settle(&mut self) {
        for segment in self.segments.values_mut() {
            (segment.items, segment.live) = (0, 0);
        }
        for value in self.keys.values() {
            count(&mut self.segments, 1, *value);
        }
        self.queues.retain(|_, queue| {
            queue.settle();
            for entry in queue.behind(None) {
                count(&mut self.segments, 1, entry.share());
            }
            !queue.is_empty()
        });
        self.is_settled = true;
    }

    /// Where the latest value of this key stands.
    pub fn value(&self, key: &[u8]) -> Option<Place> {
        let value = self.keys.get(&self.hash(key));
        value.map(|(place, _)| *place)
    }

    /// Where what waits there stands.
    pub fn message(&self, queue: u32, sequence: u32) -> Option<Place> {
        let entry = self.queues.get(&queue)?.find(sequence)?;
        Some(entry.place)
    }

    /// Where the values are, in the order of the log.
    pub fn values(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.keys.values().map(|(place, _)| *place).collect();
        places.sort_unstable();
        places
    }

    /// The segment that is written, and its sequence.
    pub fn tail(&mut self) -> (u32, &mut Segment) {
        let newest = self.segments.iter_mut().next_back();
        let (sequence, segment) = newest.expect("a store that is open has a segment");
        (*sequence, segment)
    }

    /// The oldest segment in which something counts.
    pub fn first(&self) -> Option<u32> {
        let mut segments = self.segments.iter();
        let (sequence, _) = segments.find(|(_, segment)| segment.items > 0)?;
        Some(*sequence)
    }

    /// Bytes that count and bytes that were written, of all segments.
    pub fn live_and_used(&self) -> (i64, i64) {
        let segments = self.segments.values();
        segments.fold((0, 0), |(live, used), segment| {
            (live + segment.live, used + segment.used as i64)
        })
    }

    fn gain(&mut self, new: (Place, u32)) {
        count(&mut self.segments, 1, new);
    }

    fn lose(&mut self, old: Option<(Place, u32)>) {
        if let Some(old) = old {
            count(&mut self.segments, -1, old);
        }
    }

    /// Long enough that two keys do not share one, and not to be foreseen by who chooses keys.
    fn hash(&self, key: &[u8]) -> u128 {
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(self.nonce ^ salt);
            hasher.write(key);
            u128::from(hasher.finish())
        };
        half(0) << 64 | half(1)
    }
}

/// So many items more that count, and stand there, of so many bytes.
fn count(segments: &mut BTreeMap<u32, Segment>, items: i64, (place, bytes): (Place, u32)) {
    if let Some(segment) = segments.get_mut(&place.segment) {
        segment.items += items;
        segment.live += items * i64::from(bytes);
    }
}
