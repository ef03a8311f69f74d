//! The wildcard index: which patterns of wildcards there are among all filters.
//!
//! See `subscriptions.rs` for what it is good for and what it costs. A shape takes a few dozen
//! bytes however many filters have it; there are as many of them as people think up, not as
//! devices.

use super::hash::Seeded;
use crate::packet::{TopicFilter, TopicName};

/// The wildcards of a filter, without its literal levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Levels before a `#`, or all of them.
    levels: u8,
    multi: bool,
    /// Bit n is set where level n is `+`.
    plus: u128,
}

impl Shape {
    pub fn of(filter: TopicFilter) -> Option<Shape> {
        if !filter.has_wildcard() {
            return None;
        }
        let mut shape = Shape {
            levels: 0,
            multi: false,
            plus: 0,
        };
        for level in filter.as_str().split('/') {
            match level {
                "#" => shape.multi = true,
                _ => {
                    if level == "+" {
                        shape.plus |= 1 << shape.levels;
                    }
                    shape.levels += 1;
                }
            }
        }
        Some(shape)
    }

    fn fits(self, levels: usize) -> bool {
        let own = usize::from(self.levels);
        if self.multi {
            levels >= own
        } else {
            levels == own
        }
    }

    /// The hash of the filter that has this shape and otherwise the levels of a topic; the shape
    /// must fit. Costs a few operations for each `+`, none for other levels.
    pub fn masked_hash(self, hash: &Seeded, topic: &[Level]) -> u64 {
        let own = usize::from(self.levels);
        let mut sum = topic[..own].last().map_or(0, |level| level.sum);
        let mut rest = self.plus;
        while rest != 0 {
            sum = sum.wrapping_add(topic[rest.trailing_zeros() as usize].plus);
            rest &= rest - 1;
        }
        if self.multi {
            sum = sum.wrapping_add(hash.multi(own));
        }
        sum
    }
}

/// A level of a topic that is routed.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// The hash of the topic up to here.
    pub sum: u64,
    /// What that hash changes by if `+` stands here.
    pub plus: u64,
}

impl Level {
    /// Fills `levels` with those of `topic` and returns the hash of all.
    pub fn read(hash: &Seeded, topic: TopicName, levels: &mut Vec<Level>) -> u64 {
        levels.clear();
        let mut sum = 0u64;
        for (index, level) in topic.as_str().split('/').enumerate() {
            let own = hash.level(level, index);
            sum = sum.wrapping_add(own);
            levels.push(Level {
                sum,
                plus: hash.plus(index).wrapping_sub(own),
            });
        }
        sum
    }
}

/// The shapes in use, in order, with the number of filters that have each.
#[derive(Debug, Default)]
pub struct Shapes {
    counts: Vec<(Shape, usize)>,
}

impl Shapes {
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    pub fn contains(&self, shape: Shape) -> bool {
        self.position(shape).is_ok()
    }

    /// One more filter has this shape.
    pub fn count(&mut self, shape: Shape) {
        match self.position(shape) {
            Ok(at) => self.counts[at].1 += 1,
            Err(at) => self.counts.insert(at, (shape, 1)),
        }
    }

    /// One filter less has this shape.
    pub fn uncount(&mut self, shape: Shape) {
        let at = self
            .position(shape)
            .expect("the shape of every filter is counted");
        self.counts[at].1 -= 1;
        if self.counts[at].1 == 0 {
            self.counts.remove(at);
        }
    }

    /// Those that a topic of so many levels can match.
    pub fn fitting(&self, levels: usize) -> impl Iterator<Item = Shape> + '_ {
        self.counts
            .iter()
            .map(|(shape, _)| *shape)
            .filter(move |shape| shape.fits(levels))
    }

    /// Filters counted.
    pub fn filters(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    fn position(&self, shape: Shape) -> Result<usize, usize> {
        self.counts
            .binary_search_by_key(&shape, |(shape, _)| *shape)
    }
}
