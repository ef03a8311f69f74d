//! The wildcard index: which patterns of wildcards there are among all filters.
//!
//! See `subscriptions.rs` for what it is good for and what it costs. A shape takes a few dozen
//! bytes however many filters have it; there are as many of them as people think up, not as
//! devices.

use std::collections::BTreeMap;

use slab::Slab;

use super::SessionId;
use super::hash::Seeded;
use super::limits::Limits;
use crate::packet::{ReasonCode, Refusal, TopicFilter, TopicName, scan};

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

    fn plus_count(self) -> usize {
        self.plus.count_ones() as usize
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
        scan::split(topic.as_bytes(), b'/', |index, level| {
            let own = hash.level(level, index);
            sum = sum.wrapping_add(own);
            levels.push(Level {
                sum,
                plus: hash.plus(index).wrapping_sub(own),
            });
        });
        sum
    }
}

/// A shape that some filter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeId(u16);

/// The shapes in use, and who brought each of them up.
#[derive(Debug, Default)]
pub struct Shapes {
    rows: Slab<Row>,
    all: Weight,
    /// What of it each session has brought up; those with nothing are left out.
    introduced: BTreeMap<SessionId, Weight>,
    /// What comes back from an earlier run was within limits, whoever brought it up then.
    pub is_restoring: bool,
}

/// What shapes cost whoever looks all of them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    shapes: usize,
    /// The `+` of all of them.
    pluses: usize,
}

impl Weight {
    fn with(self, shape: Shape) -> Weight {
        Weight {
            shapes: self.shapes + 1,
            pluses: self.pluses + shape.plus_count(),
        }
    }

    fn without(self, shape: Shape) -> Weight {
        Weight {
            shapes: self.shapes - 1,
            pluses: self.pluses - shape.plus_count(),
        }
    }
}

#[derive(Debug)]
struct Row {
    shape: Shape,
    /// Filters that have it.
    filters: usize,
    /// `None` once that session has ended.
    introduced_by: Option<SessionId>,
}

impl Shapes {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// One more filter has this shape, for the sake of `session`.
    pub fn count(&mut self, shape: Shape, session: SessionId) -> Result<ShapeId, Refusal> {
        if let Some((key, row)) = self.rows.iter_mut().find(|(_, row)| row.shape == shape) {
            row.filters += 1;
            return Ok(ShapeId(key as u16));
        }
        let all = self.all.with(shape);
        let own = self.introduced.get(&session).copied();
        let own = own.unwrap_or_default().with(shape);
        let is_beyond = all.shapes > Limits::WILDCARD_SHAPES_MAX
            || all.pluses > Limits::WILDCARD_PLUSES_MAX
            || own.shapes > Limits::WILDCARD_SHAPES_PER_SESSION
            || own.pluses > Limits::WILDCARD_PLUSES_PER_SESSION;
        if is_beyond && !self.is_restoring {
            let why = "too many different patterns of wildcards";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        self.all = all;
        self.introduced.insert(session, own);
        let key = self.rows.insert(Row {
            shape,
            filters: 1,
            introduced_by: Some(session),
        });
        Ok(ShapeId(key as u16))
    }

    /// One filter less has this shape.
    pub fn uncount(&mut self, id: ShapeId) {
        let key = usize::from(id.0);
        self.rows[key].filters -= 1;
        if self.rows[key].filters > 0 {
            return;
        }
        let row = self.rows.remove(key);
        self.all = self.all.without(row.shape);
        if let Some(session) = row.introduced_by {
            let own = self.introduced.get_mut(&session);
            let own = own.expect("a shape's session is counted until it ends");
            *own = own.without(row.shape);
            if *own == Weight::default() {
                self.introduced.remove(&session);
            }
        }
    }

    /// A session has ended: what it brought up and others use is nobody's now.
    pub fn disown(&mut self, session: SessionId) {
        if self.introduced.remove(&session).is_none() {
            return;
        }
        for (_, row) in &mut self.rows {
            row.introduced_by = row.introduced_by.filter(|other| *other != session);
        }
    }

    /// Those that a topic of so many levels can match.
    pub fn fitting(&self, levels: usize) -> impl Iterator<Item = (ShapeId, Shape)> + '_ {
        let fit = self
            .rows
            .iter()
            .filter(move |(_, row)| row.shape.fits(levels));
        fit.map(|(key, row)| (ShapeId(key as u16), row.shape))
    }

    /// Filters counted.
    pub fn filters(&self) -> usize {
        self.rows.iter().map(|(_, row)| row.filters).sum()
    }
}
