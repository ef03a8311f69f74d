//! What arrived, and what went wrong on the way: every message is accounted for.
//!
//! Messages are numbered in series. A subscriber gets the numbers of a series one after the other:
//! a higher one leaves a gap, one from a gap is late, any other lower one is a duplicate.

use std::ops::AddAssign;

/// Messages that did not arrive as they should.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub duplicates: u64,
    pub disorder: u64,
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disorder += other.disorder;
    }
}

/// What all subscribers have got, together.
pub struct Tally {
    pub delivered: u64,
    pub faults: Faults,
    /// By publisher: how far its subscribers have come, added up.
    pub progress: Vec<u64>,
    /// By series: who publishes it.
    publishers: Vec<usize>,
}

impl Tally {
    pub fn new(publishers: Vec<usize>) -> Tally {
        let count = publishers.iter().max().map_or(0, |last| last + 1);
        Tally {
            delivered: 0,
            faults: Faults::default(),
            progress: vec![0; count],
            publishers,
        }
    }

    pub fn note(&mut self, series: usize, number: u64, seen: &mut Seen) {
        let next = seen.expected[series];
        self.delivered += 1;
        if number >= next {
            seen.missing
                .extend((next..number).map(|skipped| (series, skipped)));
            seen.expected[series] = number + 1;
            self.progress[self.publishers[series]] += number + 1 - next;
        } else if let Some(at) = seen.missing.iter().position(|one| *one == (series, number)) {
            seen.missing.swap_remove(at);
            self.faults.disorder += 1;
        } else {
            self.faults.duplicates += 1;
        }
    }
}

/// What one subscriber has seen.
pub struct Seen {
    /// By series: the number to come.
    expected: Vec<u64>,
    /// Series and number of messages that others have overtaken.
    pub missing: Vec<(usize, u64)>,
}

impl Seen {
    pub fn new(series: usize) -> Seen {
        Seen {
            expected: vec![0; series],
            missing: Vec::new(),
        }
    }
}
