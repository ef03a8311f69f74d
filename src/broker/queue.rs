//! Messages that wait for one client, first in, first out.
//!
//! In blocks: a long queue grows without being copied, takes no more than it holds, and gives each
//! block back as soon as it has been read. One large buffer would do none of these.

use std::collections::VecDeque;

use super::pending::Delivery;

/// Deliveries in a block.
const BLOCK: usize = 128;
/// The largest block that an empty queue keeps.
const SPARE: usize = 16;

#[derive(Debug, Default)]
pub struct Queue {
    /// None is empty, but for the only one.
    blocks: VecDeque<VecDeque<Delivery>>,
    len: usize,
}

impl Queue {
    pub const fn new() -> Queue {
        Queue {
            blocks: VecDeque::new(),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, delivery: Delivery) {
        self.len += 1;
        match self.blocks.back_mut() {
            Some(block) if block.len() < BLOCK => block.push_back(delivery),
            behind_others => {
                let mut block = match behind_others {
                    Some(_) => VecDeque::with_capacity(BLOCK),
                    None => VecDeque::new(),
                };
                block.push_back(delivery);
                self.blocks.push_back(block);
            }
        }
    }

    pub fn first(&self) -> Option<&Delivery> {
        self.blocks.front()?.front()
    }

    pub fn pop(&mut self) -> Option<Delivery> {
        let is_only = self.blocks.len() == 1;
        let block = self.blocks.front_mut()?;
        let delivery = block.pop_front()?;
        self.len -= 1;
        if block.is_empty() && (!is_only || block.capacity() > SPARE) {
            self.blocks.pop_front();
        }
        if self.blocks.is_empty() {
            self.blocks = VecDeque::new();
        }
        Some(delivery)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.blocks.iter().flatten()
    }

    pub fn into_iter(self) -> impl DoubleEndedIterator<Item = Delivery> {
        self.blocks.into_iter().flatten()
    }

    /// Keeps those that `keep` says, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&Delivery) -> bool) {
        // Anew, so that no block is left with a few.
        let all = std::mem::take(self);
        let kept = all.blocks.into_iter().flatten().filter(|one| keep(one));
        kept.for_each(|delivery| self.push(delivery));
    }

    /// Panics where it takes more memory than it may.
    pub fn check_invariants(&self) {
        let len: usize = self.blocks.iter().map(VecDeque::len).sum();
        assert_eq!(len, self.len);
        assert!(self.blocks.len() <= self.len / BLOCK + 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::{Content, Message};
    use crate::packet::{Properties, QoS, TopicName};

    fn delivery(number: usize) -> Delivery {
        let content = Content {
            topic: TopicName::trusted(b"a"),
            properties: Properties::NONE,
            payload: &number.to_be_bytes(),
            expires_at: None,
            message: None,
        };
        Delivery {
            message: Message::new(&content, QoS::AtLeastOnce, &mut Vec::new()),
            qos: QoS::AtLeastOnce,
            retain: false,
            sequence: 0,
            origin: None,
        }
    }

    fn number(delivery: &Delivery) -> usize {
        let payload = delivery.message.payload();
        usize::from_be_bytes(payload.try_into().expect("a number"))
    }

    #[test]
    fn a_queue_keeps_its_order_and_no_more_blocks_than_it_fills() {
        let mut queue = Queue::new();
        (0..10 * BLOCK).for_each(|number| queue.push(delivery(number)));
        queue.check_invariants();
        queue.retain(|delivery| number(delivery) % 100 == 7);
        queue.check_invariants();
        assert_eq!(queue.blocks.len(), 1, "what is left fits one block");
        queue.push(delivery(5_000));
        let kept = (0..10 * BLOCK).filter(|number| number % 100 == 7);
        for expected in kept.chain([5_000]) {
            assert_eq!(queue.first().map(number), Some(expected));
            assert_eq!(queue.pop().as_ref().map(number), Some(expected));
            queue.check_invariants();
        }
        assert!(queue.is_empty() && queue.pop().is_none());
    }

    #[test]
    fn a_queue_that_was_long_gives_its_memory_back() {
        // Within one block, and beyond.
        for length in [2 * SPARE, 10 * BLOCK] {
            let mut queue = Queue::new();
            (0..length).for_each(|number| queue.push(delivery(number)));
            while queue.pop().is_some() {}
            let capacities = queue.blocks.iter().map(VecDeque::capacity);
            assert!(capacities.sum::<usize>() <= SPARE, "{length}");
        }
    }
}
