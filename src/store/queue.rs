//! Where the messages of one queue lie, by sequence: 16 bytes for each.
//!
//! In order at all times but while the log is read. There, what was moved comes late, so what does
//! not fit behind the last is a stray, and so is all behind it, with an entry for each that is
//! done; by and by they are put in order all at once. Putting each where it belongs would take the
//! square of their number.

use std::collections::VecDeque;

use super::format::Place;

/// So many strays are waited for before entries are put in order.
const STRAYS_MIN: usize = 1024;
/// The segment of a stray that says: done.
const NOWHERE: u32 = u32::MAX;
/// About what a reference takes in the log besides its share of the body.
const REF_BYTES: u32 = 7;
const LENGTH_BITS: u32 = 28;
const LENGTH_MAX: u32 = (1 << LENGTH_BITS) - 1;

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub sequence: u32,
    pub place: Place,
    /// The body's length, and above that how often it is halved for the share of each that waits.
    size: u32,
}

impl Entry {
    pub fn new(sequence: u32, place: Place, length: usize, refs: usize) -> Entry {
        let halvings = refs.next_power_of_two().trailing_zeros().min(15);
        let size = length.min(LENGTH_MAX as usize) as u32 | halvings << LENGTH_BITS;
        Entry {
            sequence,
            place,
            size,
        }
    }

    /// Of the body.
    pub fn length(&self) -> u32 {
        self.size & LENGTH_MAX
    }

    /// Its place, and what counts as live there as long as it waits.
    pub fn share(&self) -> (Place, u32) {
        let share = self.length() >> (self.size >> LENGTH_BITS);
        (self.place, share + REF_BYTES)
    }
}

#[derive(Debug, Default)]
pub struct Queue {
    /// By sequence, seen from the first; then strays, in the order of the log.
    entries: VecDeque<Entry>,
    strays: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those behind `after`, or all.
    pub fn behind(&self, after: Option<u32>) -> impl DoubleEndedIterator<Item = &Entry> {
        let start = after.map_or(0, |after| {
            self.entries
                .partition_point(|entry| !is_before(after, entry.sequence))
        });
        self.entries.range(start..)
    }

    pub fn find(&self, sequence: u32) -> Option<&Entry> {
        self.position(sequence).map(|index| &self.entries[index])
    }

    /// The entry whose place it takes, if any.
    pub fn put(&mut self, entry: Entry) -> Option<Entry> {
        let last = self.entries.back();
        let is_next = last.is_none_or(|last| is_before(last.sequence, entry.sequence));
        if self.strays == 0 && is_next {
            // By an eighth: doubling would take memory by leaps, which a limit of it does not
            // foresee.
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact(self.entries.len() / 8 + 8);
            }
            self.entries.push_back(entry);
            return None;
        }
        match self.position(entry.sequence) {
            Some(index) => Some(std::mem::replace(&mut self.entries[index], entry)),
            None => self.stray(entry),
        }
    }

    /// The entry that is gone, if there was one.
    pub fn done(&mut self, sequence: u32) -> Option<Entry> {
        if self.strays > 0 {
            let (segment, offset) = (NOWHERE, 0);
            return self.stray(Entry::new(sequence, Place { segment, offset }, 0, 0));
        }
        let entry = self.entries.remove(self.position(sequence)?)?;
        if self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(entry)
    }

    /// Puts strays where they belong. Of two with one sequence the later one counts.
    pub fn settle(&mut self) {
        if self.strays == 0 {
            return;
        }
        let is_done = |entry: &Entry| entry.place.segment == NOWHERE;
        let mut all = Vec::from(std::mem::take(&mut self.entries));
        let any = all.iter().find(|entry| !is_done(entry));
        let start = any.map_or(0, |any| any.sequence ^ 1 << 31);
        all.reverse();
        all.sort_by_key(|entry| entry.sequence.wrapping_sub(start));
        all.dedup_by_key(|entry| entry.sequence);
        all.retain(|entry| !is_done(entry));
        self.entries = all.into();
        self.strays = 0;
    }

    fn stray(&mut self, entry: Entry) -> Option<Entry> {
        self.entries.push_back(entry);
        self.strays += 1;
        if self.strays >= STRAYS_MIN + self.entries.len() / 3 {
            self.settle();
        }
        None
    }

    fn position(&self, sequence: u32) -> Option<usize> {
        if self.strays > 0 {
            return None;
        }
        let is_before = |entry: &Entry| is_before(entry.sequence, sequence);
        let index = self.entries.partition_point(is_before);
        (self.entries.get(index)?.sequence == sequence).then_some(index)
    }
}

fn is_before(sequence: u32, other: u32) -> bool {
    (other.wrapping_sub(sequence) as i32) > 0
}
