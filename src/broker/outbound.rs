//! Bytes owed to a socket.
//!
//! Small packets are copied one behind the other into a tail; a large payload is shared, not
//! copied, and stands as a chunk of its own between two tails. Invariant: `len` is what has been
//! appended and not yet taken. Empty, it owns no memory: the tail's buffer goes back to a common
//! pool.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::message::Message;

/// Dead bytes at the front of the tail that are worth moving the rest.
const COMPACT_BYTES: usize = 64 << 10;

/// Buffers kept for reuse, and the largest one that is kept.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES: usize = 64 << 10;

/// Empty buffers that nobody owns.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct Outbound {
    /// In front of the tail, where there are any.
    chunks: Option<Box<Chunks>>,
    tail: Vec<u8>,
    /// Bytes of the first chunk, or of the tail where there is none, that were taken already.
    taken: usize,
    /// Appended since all had been taken.
    packets: usize,
}

#[derive(Debug, Default)]
struct Chunks {
    queue: VecDeque<Chunk>,
    bytes: usize,
}

#[derive(Debug)]
enum Chunk {
    /// What was the tail.
    Packets(Vec<u8>),
    /// The payload of a message.
    Payload(Message),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Packets(bytes) => bytes,
            Chunk::Payload(message) => message.payload(),
        }
    }
}

impl Outbound {
    /// Bytes owed.
    pub fn len(&self) -> usize {
        let chunks = self.chunks.as_ref().map_or(0, |chunks| chunks.bytes);
        chunks + self.tail.len() - self.taken
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packets owed; those that were taken count until all are.
    pub fn packets(&self) -> usize {
        if self.is_empty() { 0 } else { self.packets }
    }

    /// Where the next packet is appended.
    pub fn next_packet(&mut self) -> &mut Vec<u8> {
        self.packets = if self.is_empty() { 1 } else { self.packets + 1 };
        &mut self.tail
    }

    /// Makes sure that the tail has a buffer, if there is one to spare.
    pub fn borrow_from(&mut self, spare: &mut SpareBuffers) {
        if self.tail.capacity() == 0 {
            self.tail = spare.buffers.pop().unwrap_or_default();
        }
    }

    /// Gives the buffer back, if all has been taken.
    pub fn give_back_to(&mut self, spare: &mut SpareBuffers) {
        if !self.is_empty() {
            return;
        }
        let buffer = std::mem::take(&mut self.tail);
        let fits = (1..=SPARE_BYTES).contains(&buffer.capacity());
        if fits && spare.buffers.len() < SPARE_BUFFERS {
            spare.buffers.push(buffer);
        }
    }

    /// Appends the payload of `message` without copying it.
    pub fn share(&mut self, message: Message) {
        let chunks = self.chunks.get_or_insert_default();
        if !self.tail.is_empty() {
            chunks.bytes += self.tail.len();
            // A few bytes as a rule: the tail keeps its buffer.
            chunks.queue.push_back(Chunk::Packets(self.tail.clone()));
            self.tail.clear();
        }
        chunks.bytes += message.payload().len();
        chunks.queue.push_back(Chunk::Payload(message));
    }

    /// The bytes owed, in order, as far as `slices` has room; returns how many of it are used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.chunks.iter().flat_map(|chunks| &chunks.queue);
        let parts = chunks.map(Chunk::bytes).chain(tail);
        let mut used = 0;
        for (slot, part) in slices.iter_mut().zip(parts) {
            let from = if used == 0 { self.taken } else { 0 };
            *slot = IoSlice::new(&part[from..]);
            used += 1;
        }
        used
    }

    /// `count` bytes have been taken.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "more was taken than is owed");
        self.taken += count;
        if let Some(chunks) = &mut self.chunks {
            while let Some(length) = chunks.queue.front().map(|chunk| chunk.bytes().len())
                && length <= self.taken
            {
                self.taken -= length;
                chunks.bytes -= length;
                chunks.queue.pop_front();
            }
        }
        self.chunks.take_if(|chunks| chunks.queue.is_empty());
        if self.chunks.is_none() {
            if self.taken == self.tail.len() {
                self.tail.clear();
                self.taken = 0;
            } else if self.taken >= COMPACT_BYTES && self.taken >= self.tail.len() / 2 {
                self.tail.drain(..self.taken);
                self.taken = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::Content;
    use crate::packet::{Properties, QoS, TopicName};

    fn message(payload: &[u8]) -> Message {
        let content = Content {
            topic: TopicName::trusted("a"),
            properties: Properties::NONE,
            payload,
            expires_at: None,
            message: None,
        };
        Message::new(&content, QoS::AtMostOnce, &mut Vec::new())
    }

    fn contents(outbound: &Outbound) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let used = outbound.slices(&mut slices);
        slices[..used]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn copied_and_shared_bytes_leave_in_order_however_few_are_taken_at_a_time() {
        for step in 1..12 {
            let mut outbound = Outbound::default();
            outbound.next_packet().extend(b"abc");
            outbound.share(message(b"defgh"));
            outbound.share(message(b"i"));
            outbound.next_packet().extend(b"jk");
            let mut all: Vec<u8> = Vec::new();
            while !outbound.is_empty() {
                let next = contents(&outbound);
                assert_eq!(next.len(), outbound.len());
                let count = step.min(next.len());
                all.extend(&next[..count]);
                outbound.advance(count);
            }
            assert_eq!(all, b"abcdefghijk", "{step} at a time");
            outbound.give_back_to(&mut SpareBuffers::default());
            assert_eq!(outbound.tail.capacity(), 0, "an idle client owns no buffer");
        }
    }

    #[test]
    fn a_tail_that_is_never_empty_does_not_grow_for_ever() {
        let mut outbound = Outbound::default();
        for _ in 0..1_000 {
            outbound.next_packet().extend([7; 1_000]);
            if outbound.len() > 100_000 {
                outbound.advance(1_000);
            }
        }
        assert!(
            outbound.tail.capacity() < 600_000,
            "{}",
            outbound.tail.capacity()
        );
    }
}
