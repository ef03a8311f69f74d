//! Where the messages of one queue lie, by sequence: 16 bytes for each.
//!
//! In order at all times but while the log is read. There, what was moved comes late, so what does
//! not fit behind the last is set apart as a stray, in the order of the log, with an entry for each
//! that is done; by and by they are put in order all at once. Putting each where it belongs would
//! take the square of their number.

use std::collections::VecDeque;

/// So many strays are waited for before entries are put in order.
const STRAYS_MIN: usize = 1024;
/// The segment of a stray that says: done.
const NOWHERE: u32 = u32::MAX;
/// About what a reference takes in the log besides its share of the body.
const REF_BYTES: u64 = 20;
const LENGTH_BITS: u32 = 28;

/// A body's length, and how often it is halved for the share of each that waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Size(u32);

impl Size {
    pub fn new(length: usize, refs: usize) -> Size {
        let length = length.min((1 << LENGTH_BITS) - 1) as u32;
        let halvings = refs.next_power_of_two().trailing_zeros().min(15);
        Size(length | halvings << LENGTH_BITS)
    }

    pub fn length(self) -> u32 {
        self.0 & ((1 << LENGTH_BITS) - 1)
    }

    /// What counts as live in the segment as long as this one waits.
    pub fn share(self) -> u64 {
        u64::from(self.length() >> (self.0 >> LENGTH_BITS)) + REF_BYTES
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub sequence: u32,
    pub size: Size,
    pub segment: u32,
    pub offset: u32,
}

#[derive(Debug, Default)]
pub struct Queue {
    /// By sequence, seen from the first.
    entries: VecDeque<Entry>,
    strays: Vec<Entry>,
    /// Of the bodies; wrong while there are strays.
    bytes: u64,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.strays.is_empty()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    /// The index of the first behind `after`.
    pub fn behind(&self, after: Option<u32>) -> usize {
        let (Some(after), Some(front)) = (after, self.entries.front()) else {
            return 0;
        };
        if is_before(after, front.sequence) {
            return 0;
        }
        let distance = after.wrapping_sub(front.sequence);
        self.entries
            .partition_point(|entry| entry.sequence.wrapping_sub(front.sequence) <= distance)
    }

    pub fn find(&self, sequence: u32) -> Option<&Entry> {
        self.position(sequence).map(|index| &self.entries[index])
    }

    /// The entry whose place it takes, if any.
    pub fn put(&mut self, entry: Entry) -> Option<Entry> {
        let last = self.entries.back();
        let is_stray = !self.strays.is_empty();
        if !is_stray && last.is_none_or(|last| is_before(last.sequence, entry.sequence)) {
            self.bytes += u64::from(entry.size.length());
            self.entries.push_back(entry);
            return None;
        }
        match self.position(entry.sequence).filter(|_| !is_stray) {
            Some(index) => Some(std::mem::replace(&mut self.entries[index], entry)),
            None => {
                self.stray(entry);
                None
            }
        }
    }

    pub fn done(&mut self, sequence: u32) -> Option<Entry> {
        if !self.strays.is_empty() {
            self.stray(Entry {
                sequence,
                size: Size(0),
                segment: NOWHERE,
                offset: 0,
            });
            return None;
        }
        let entry = self.entries.remove(self.position(sequence)?)?;
        self.bytes -= u64::from(entry.size.length());
        if self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(entry)
    }

    /// Puts strays where they belong. Of two with one sequence the later one counts.
    pub fn settle(&mut self) {
        if self.strays.is_empty() {
            return;
        }
        let mut all = Vec::from(std::mem::take(&mut self.entries));
        all.append(&mut self.strays);
        all.sort_by_key(|entry| entry.sequence);
        all.dedup_by(|later, earlier| {
            let is_same = later.sequence == earlier.sequence;
            if is_same {
                *earlier = *later;
            }
            is_same
        });
        all.retain(|entry| entry.segment != NOWHERE);
        let start = all.first().map_or(0, |any| any.sequence ^ 1 << 31);
        all.sort_by_key(|entry| entry.sequence.wrapping_sub(start));
        self.bytes = all.iter().map(|entry| u64::from(entry.size.length())).sum();
        self.entries = all.into();
        self.strays = Vec::new();
    }

    fn stray(&mut self, entry: Entry) {
        self.strays.push(entry);
        if self.strays.len() >= STRAYS_MIN + self.entries.len() / 2 {
            self.settle();
        }
    }

    fn position(&self, sequence: u32) -> Option<usize> {
        let front = self.entries.front()?.sequence;
        let distance = sequence.wrapping_sub(front);
        self.entries
            .binary_search_by_key(&distance, |entry| entry.sequence.wrapping_sub(front))
            .ok()
    }
}

fn is_before(sequence: u32, other: u32) -> bool {
    (other.wrapping_sub(sequence) as i32) > 0
}
