//! Bytes owed to a socket.
//!
//! Packets are copied one behind the other into a tail; a tail that is full becomes a chunk in
//! front of the next one, so that little of what is owed is copied again. A large payload that
//! others want as well is shared, not copied, and is a chunk of its own. Invariant: `len` is what
//! has been appended and not yet taken. Empty, it owns no memory: its buffers go back to a common
//! pool.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::message::Message;

/// A buffer that has got beyond the first size gets the second at once: that of all full tails.
const SMALL_BUFFER_BYTES: usize = 16 << 10;
const BUFFER_BYTES: usize = 64 << 10;
/// A tail of so many bytes is full: a packet as most are would have to move it.
const TAIL_BYTES: usize = 60 << 10;

/// Buffers kept for reuse.
const SPARE_BUFFERS: usize = 64;
/// All of them together.
const SPARE_BYTES: usize = 1 << 20;

/// Empty buffers that nobody owns.
#[derive(Debug, Default)]
pub struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl SpareBuffers {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let fits = (1..=BUFFER_BYTES).contains(&bytes) && self.bytes + bytes <= SPARE_BYTES;
        if fits && self.buffers.len() < SPARE_BUFFERS {
            buffer.clear();
            self.buffers.push(buffer);
            self.bytes += bytes;
        }
    }
}

#[derive(Debug, Default)]
pub struct Outbound {
    /// In front of the tail, where there are any.
    chunks: Option<Box<Chunks>>,
    tail: Vec<u8>,
    /// Bytes of the first chunk, or of the tail where there is none, that were taken already.
    taken: usize,
    /// Appended since all had been taken.
    packets: u64,
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
    pub fn packets(&self) -> u64 {
        if self.is_empty() { 0 } else { self.packets }
    }

    /// Where the next packet is appended.
    pub fn next_packet(&mut self, spare: &mut SpareBuffers) -> &mut Vec<u8> {
        self.packets = if self.is_empty() { 1 } else { self.packets + 1 };
        if self.tail.len() >= SMALL_BUFFER_BYTES {
            self.grow();
        }
        if self.tail.capacity() == 0 {
            self.tail = spare.take();
        }
        &mut self.tail
    }

    /// A tail that is long gets a large buffer; one that is full becomes a chunk.
    fn grow(&mut self) {
        if self.tail.len() >= TAIL_BYTES {
            let full = std::mem::take(&mut self.tail);
            self.push(Chunk::Packets(full));
        } else if self.tail.capacity() < BUFFER_BYTES {
            self.tail.reserve_exact(BUFFER_BYTES - self.tail.len());
        }
    }

    /// Appends the payload of `message` without copying it.
    pub fn share(&mut self, message: Message) {
        if !self.tail.is_empty() {
            // Between large payloads stand a few bytes as a rule: then the tail keeps its buffer.
            let packets = match self.tail.len() < SMALL_BUFFER_BYTES {
                true => self.tail.clone(),
                false => std::mem::take(&mut self.tail),
            };
            self.push(Chunk::Packets(packets));
            self.tail.clear();
        }
        self.push(Chunk::Payload(message));
    }

    fn push(&mut self, chunk: Chunk) {
        let chunks = self.chunks.get_or_insert_default();
        chunks.bytes += chunk.bytes().len();
        chunks.queue.push_back(chunk);
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

    /// `count` bytes have been taken; buffers that are done with go to `spare`.
    pub fn advance(&mut self, count: usize, spare: &mut SpareBuffers) {
        assert!(count <= self.len(), "more was taken than is owed");
        self.taken += count;
        if let Some(chunks) = &mut self.chunks {
            while let Some(length) = chunks.queue.front().map(|chunk| chunk.bytes().len())
                && length <= self.taken
            {
                self.taken -= length;
                chunks.bytes -= length;
                // Not the few bytes between large payloads: the pool is for what can be filled.
                if let Some(Chunk::Packets(buffer)) = chunks.queue.pop_front()
                    && buffer.capacity() >= SMALL_BUFFER_BYTES
                {
                    spare.put(buffer);
                }
            }
        }
        self.chunks.take_if(|chunks| chunks.queue.is_empty());
        if self.is_empty() {
            self.taken = 0;
            spare.put(std::mem::take(&mut self.tail));
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
            topic: TopicName::trusted(b"a"),
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
    fn a_client_that_never_has_all_may_be_owed_any_number_of_packets() {
        let mut outbound = Outbound {
            packets: u32::MAX.into(),
            tail: b"a".to_vec(),
            ..Outbound::default()
        };
        let spare = &mut SpareBuffers::default();
        outbound.next_packet(spare).push(b'b');
        assert_eq!(outbound.packets(), 1 << 32);
    }

    #[test]
    fn copied_and_shared_bytes_leave_in_order_however_few_are_taken_at_a_time() {
        for step in 1..12 {
            let (mut outbound, mut spare) = (Outbound::default(), SpareBuffers::default());
            outbound.next_packet(&mut spare).extend(b"abc");
            outbound.share(message(b"defgh"));
            outbound.share(message(b"i"));
            outbound.next_packet(&mut spare).extend(b"jk");
            let mut all: Vec<u8> = Vec::new();
            while !outbound.is_empty() {
                let next = contents(&outbound);
                assert_eq!(next.len(), outbound.len());
                let count = step.min(next.len());
                all.extend(&next[..count]);
                outbound.advance(count, &mut spare);
            }
            assert_eq!(all, b"abcdefghijk", "{step} at a time");
            assert_eq!(outbound.tail.capacity(), 0, "an idle client owns no buffer");
        }
    }

    #[test]
    fn what_is_never_empty_takes_little_more_memory_than_it_owes() {
        for packet_bytes in [110, 333, 1_000, 4_000] {
            let (mut outbound, mut spare) = (Outbound::default(), SpareBuffers::default());
            let mut expected = VecDeque::new();
            for number in 0..2_000_000 / packet_bytes {
                let packet = vec![number as u8; packet_bytes];
                outbound.next_packet(&mut spare).extend(&packet);
                expected.extend(packet);
                while outbound.len() > 200_000 {
                    let mut slices = [IoSlice::new(&[]); 1];
                    assert_eq!(outbound.slices(&mut slices), 1);
                    let count = slices[0].len().min(7_001);
                    assert!(slices[0][..count].iter().eq(expected.iter().take(count)));
                    expected.drain(..count);
                    outbound.advance(count, &mut spare);
                }
            }
            let queue = &outbound.chunks.as_ref().expect("more than one tail").queue;
            let taken = queue.iter().map(|chunk| match chunk {
                Chunk::Packets(buffer) => buffer.capacity(),
                Chunk::Payload(_) => 0,
            });
            let taken = taken.sum::<usize>() + outbound.tail.capacity();
            assert!(
                taken <= 200_000 + 2 * BUFFER_BYTES,
                "{taken} of {packet_bytes}"
            );
            assert!(spare.buffers.len() <= 2, "those it had are used again");
            assert!(!spare.buffers.is_empty(), "and fit the pool");
        }
    }

    #[test]
    fn the_pool_keeps_some_buffers_and_not_all() {
        let mut spare = SpareBuffers::default();
        spare.put(Vec::with_capacity(BUFFER_BYTES + 1));
        spare.put(Vec::new());
        assert!(spare.buffers.is_empty(), "too large, or nothing");
        for _ in 0..2 * SPARE_BUFFERS {
            spare.put(Vec::with_capacity(100));
        }
        assert_eq!(spare.buffers.len(), SPARE_BUFFERS);
        let mut spare = SpareBuffers::default();
        for _ in 0..SPARE_BUFFERS {
            spare.put(vec![7; BUFFER_BYTES]);
        }
        assert_eq!(spare.bytes, SPARE_BYTES);
        assert_eq!(spare.buffers.len(), SPARE_BYTES / BUFFER_BYTES);
        let buffer = spare.take();
        assert!(buffer.is_empty() && buffer.capacity() == BUFFER_BYTES);
        assert_eq!(spare.bytes, SPARE_BYTES - BUFFER_BYTES);
    }
}
