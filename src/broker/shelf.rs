//! What waits for a client on disk: the back of its queue, behind what is in memory.
//!
//! Of each message only its place in the queue and its length are here, eight bytes; with what the
//! store has of it in memory that is all a message costs while its client is away.

use std::collections::VecDeque;

/// The place of a message in the queue of its session; 0 for what is not kept.
pub type Sequence = u32;

#[derive(Debug, Default)]
pub struct Shelf {
    /// Sequence and length, in order.
    entries: VecDeque<(Sequence, u32)>,
    /// More than memory can have, perhaps.
    bytes: u64,
}

impl Shelf {
    pub const fn new() -> Shelf {
        Shelf {
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Of the messages, see [`super::message::Message::len`].
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn push(&mut self, sequence: Sequence, len: usize) {
        self.make_room();
        self.bytes += len as u64;
        self.entries.push_back((sequence, len as u32));
    }

    /// Puts back what was in memory.
    pub fn push_front(&mut self, sequence: Sequence, len: usize) {
        self.make_room();
        self.bytes += len as u64;
        self.entries.push_front((sequence, len as u32));
    }

    /// By an eighth: doubling would take memory by leaps, which a limit of it does not foresee.
    fn make_room(&mut self) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(self.entries.len() / 8 + 8);
        }
    }

    pub fn first(&self) -> Option<Sequence> {
        self.entries.front().map(|(sequence, _)| *sequence)
    }

    /// The last of the first `count`.
    pub fn first_few(&self, count: usize) -> Option<Sequence> {
        let (sequence, _) = self.entries.iter().take(count).next_back()?;
        Some(*sequence)
    }

    pub fn pop(&mut self) -> Option<Sequence> {
        let (sequence, len) = self.entries.pop_front()?;
        self.bytes -= u64::from(len);
        if self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(sequence)
    }

    /// Takes out the message of that place, wherever it is.
    pub fn remove(&mut self, sequence: Sequence) -> bool {
        let Some(at) = self
            .entries
            .iter()
            .position(|(other, _)| *other == sequence)
        else {
            return false;
        };
        let (_, len) = self.entries.remove(at).unwrap_or_default();
        self.bytes -= u64::from(len);
        true
    }

    pub fn contains(&self, sequence: Sequence) -> bool {
        let first = self.first().unwrap_or_default();
        let from_first = |(sequence, _): &(Sequence, u32)| sequence.wrapping_sub(first);
        let wanted = sequence.wrapping_sub(first);
        let found = self.entries.binary_search_by_key(&wanted, from_first);
        found.is_ok()
    }

    /// Takes out messages that are given in their order, all at once.
    pub fn remove_all(&mut self, sequences: impl Iterator<Item = Sequence>) {
        let mut sequences = sequences.peekable();
        self.entries
            .retain(|(sequence, _)| sequences.next_if_eq(sequence).is_none());
        self.bytes = self.count_bytes();
    }

    fn count_bytes(&self) -> u64 {
        self.entries.iter().map(|(_, len)| u64::from(*len)).sum()
    }

    /// Panics where the parts disagree.
    pub fn check_invariants(&self) {
        assert_eq!(self.count_bytes(), self.bytes);
        assert!(self.entries.iter().all(|(sequence, _)| *sequence != 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_may_wait_on_disk_than_32_bits_can_count() {
        let mut shelf = Shelf::new();
        (1..=100).for_each(|sequence| shelf.push(sequence, 100 << 20));
        assert_eq!(shelf.bytes(), 100 * (100 << 20));
        shelf.check_invariants();
        shelf.remove_all(1..=60);
        assert!(shelf.remove(61) && shelf.pop() == Some(62));
        assert_eq!(shelf.bytes(), 38 * (100 << 20));
        shelf.check_invariants();
    }
}
