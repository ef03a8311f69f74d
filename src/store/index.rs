//! What is where: keys by their hash, queues by their number, segments with what lives in them.
//!
//! No value and no body is here. [`Index::apply`] is the meaning of a record, for one that is
//! committed as for one that is read again: so what the log tells later is what was true.
//! A segment whose `items` are none holds nothing that counts.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;

use super::format::{FRAME, HEADER, Header};
use super::queue::{Entry, Queue, Size};
use crate::record::{self, Record};

/// Of what precedes key and value.
const PUT_BYTES: usize = 9;

/// Where a key's latest value is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub segment: u32,
    pub offset: u32,
    /// Of its record.
    length: u32,
}

#[derive(Debug, Default)]
pub struct Segment {
    pub file: u32,
    pub size: u32,
    pub mark: u32,
    /// Where its frames end.
    pub used: u32,
    /// From, to: what could not be read.
    pub gaps: Vec<(u32, u32)>,
    items: u64,
    live: u64,
}

#[derive(Debug)]
pub struct Index {
    /// By sequence.
    pub segments: BTreeMap<u32, Segment>,
    keys: HashMap<u128, Place>,
    queues: HashMap<u32, Queue>,
    nonce: u64,
    /// While the log is read, queues need not be in order.
    is_reading: bool,
}

impl Index {
    pub fn new(nonce: u64) -> Index {
        Index {
            segments: BTreeMap::new(),
            keys: HashMap::new(),
            queues: HashMap::new(),
            nonce,
            is_reading: true,
        }
    }

    /// The records of the frame that begins there take effect.
    pub fn apply_all(&mut self, segment: u32, frame: usize, records: &[u8]) {
        for (offset, record) in record::records(records) {
            self.apply(segment, (frame + FRAME + offset) as u32, &record);
        }
    }

    /// The record takes effect. It stands at this place of the log.
    pub fn apply(&mut self, segment: u32, offset: u32, record: &Record<'_>) {
        match record {
            Record::Put { key, value } => {
                let length = (PUT_BYTES + key.len() + value.len()) as u32;
                let place = Place {
                    segment,
                    offset,
                    length,
                };
                let old = self.keys.insert(self.hash(key), place);
                self.lose(old.map(|old| (old.segment, u64::from(old.length))));
                self.gain(segment, u64::from(length));
            }
            Record::Delete { key } => {
                let old = self.keys.remove(&self.hash(key));
                self.lose(old.map(|old| (old.segment, u64::from(old.length))));
            }
            Record::Message { refs, body } => {
                let size = Size::new(body.len(), refs.clone().count());
                for reference in refs.clone() {
                    let queue = self.queues.entry(reference.queue).or_default();
                    let old = queue.put(Entry {
                        sequence: reference.sequence,
                        size,
                        segment,
                        offset,
                    });
                    if !self.is_reading {
                        queue.settle();
                    }
                    self.lose(old.map(|old| (old.segment, old.size.share())));
                    self.gain(segment, size.share());
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
                self.lose(old.map(|old| (old.segment, old.size.share())));
            }
            Record::Drop { queue } => {
                let gone = self.queues.remove(queue).unwrap_or_default();
                for old in gone.entries() {
                    self.lose(Some((old.segment, old.size.share())));
                }
            }
        }
    }

    /// What has to be done when the whole log has been read.
    pub fn settle(&mut self) {
        for segment in self.segments.values_mut() {
            (segment.items, segment.live) = (0, 0);
        }
        let segments = &mut self.segments;
        let mut gain = |segment, bytes| {
            if let Some(segment) = segments.get_mut(&segment) {
                segment.gain(bytes);
            }
        };
        for place in self.keys.values() {
            gain(place.segment, u64::from(place.length));
        }
        self.queues.retain(|_, queue| {
            queue.settle();
            for entry in queue.entries() {
                gain(entry.segment, entry.size.share());
            }
            !queue.is_empty()
        });
        self.is_reading = false;
    }

    /// Whether what stands there of this key is its latest value.
    pub fn is_value(&self, key: &[u8], segment: u32, offset: u32) -> bool {
        let place = self.keys.get(&self.hash(key));
        place.is_some_and(|place| (place.segment, place.offset) == (segment, offset))
    }

    /// Whether what stands there still waits in this queue.
    pub fn is_waiting(&self, queue: u32, sequence: u32, segment: u32, offset: u32) -> bool {
        let queue = self.queues.get(&queue);
        let entry = queue.and_then(|queue| queue.find(sequence));
        entry.is_some_and(|entry| (entry.segment, entry.offset) == (segment, offset))
    }

    pub fn queue(&self, queue: u32) -> Option<&Queue> {
        self.queues.get(&queue)
    }

    /// In the order of their numbers.
    pub fn queues(&self) -> Vec<u32> {
        let mut queues: Vec<u32> = self.queues.keys().copied().collect();
        queues.sort_unstable();
        queues
    }

    /// Where the values are, in the order of the log.
    pub fn places(&self) -> Vec<(u32, u32)> {
        let places = self.keys.values();
        let mut places: Vec<(u32, u32)> =
            places.map(|place| (place.segment, place.offset)).collect();
        places.sort_unstable();
        places
    }

    /// The oldest segment in which something counts, or `tail`.
    pub fn first(&self, tail: u32) -> u32 {
        let mut living = self
            .segments
            .iter()
            .filter(|(_, segment)| segment.items > 0);
        living.next().map_or(tail, |(sequence, _)| *sequence)
    }

    /// Bytes that count and bytes that were written, of all segments.
    pub fn live_and_used(&self) -> (u64, u64) {
        let segments = self.segments.values();
        segments.fold((0, 0), |(live, used), segment| {
            (live + segment.live, used + u64::from(segment.used))
        })
    }

    fn gain(&mut self, segment: u32, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.gain(bytes);
        }
    }

    fn lose(&mut self, old: Option<(u32, u64)>) {
        let Some((segment, bytes)) = old else { return };
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.items = segment.items.saturating_sub(1);
            segment.live = segment.live.saturating_sub(bytes);
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

impl Segment {
    pub fn new(file: u32, header: &Header) -> Segment {
        Segment {
            file,
            size: header.size,
            mark: header.mark(),
            used: HEADER as u32,
            ..Segment::default()
        }
    }

    pub fn live(&self) -> u64 {
        self.live
    }

    fn gain(&mut self, bytes: u64) {
        self.items += 1;
        self.live += bytes;
    }
}
