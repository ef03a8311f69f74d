//! Who subscribes to what, and which series of messages goes to whom.
//!
//! A series is published by one client, and all who get one of its messages get all of them: so
//! what each of them sees are the numbers 0, 1, 2 and so on.

/// Filters in [`Shape::Filters`], and in the memory of subscriptions.
pub const FILTERS: usize = 20_000;
/// Subscribers to `dev/+/temp` in [`Shape::Wildcards`]; the others have a device each.
const ALL_DEVICES: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Everyone has what everyone publishes.
    All,
    /// Publisher n has subscriber n.
    Pairs,
    /// Publisher n is device n. Some subscribers have all of them, the others one each.
    Wildcards,
    /// [`FILTERS`] filters, divided among the subscribers. One publisher matches each in turn.
    Filters,
}

pub struct Topology {
    shape: Shape,
    publishers: usize,
    subscribers: usize,
}

impl Topology {
    pub fn new(shape: Shape, publishers: usize, subscribers: usize) -> Topology {
        Topology {
            shape,
            publishers,
            subscribers,
        }
    }

    pub fn series(&self) -> usize {
        match self.shape {
            Shape::All | Shape::Pairs | Shape::Wildcards => self.publishers,
            Shape::Filters => self.subscribers,
        }
    }

    /// By series: who publishes it.
    pub fn publishers(&self) -> Vec<usize> {
        match self.shape {
            Shape::All | Shape::Pairs | Shape::Wildcards => (0..self.publishers).collect(),
            Shape::Filters => vec![0; self.subscribers],
        }
    }

    pub fn filters(&self, subscriber: usize) -> Vec<String> {
        match self.shape {
            Shape::All if self.publishers == 1 => vec!["load/0".to_string()],
            Shape::All => vec!["load/+".to_string()],
            Shape::Pairs => vec![format!("load/{subscriber}")],
            Shape::Wildcards if subscriber < ALL_DEVICES => vec!["dev/+/temp".to_string()],
            Shape::Wildcards => vec![format!("dev/{subscriber}/#")],
            Shape::Filters => {
                let own = (subscriber..FILTERS).step_by(self.subscribers);
                own.map(filter).collect()
            }
        }
    }

    /// The topics of a publisher, each with its series.
    pub fn topics(&self, publisher: usize) -> Vec<(String, u32)> {
        match self.shape {
            Shape::All | Shape::Pairs => vec![(format!("load/{publisher}"), publisher as u32)],
            Shape::Wildcards => vec![(format!("dev/{publisher}/temp"), publisher as u32)],
            Shape::Filters => {
                let series = |number: usize| (number % self.subscribers) as u32;
                let numbers = shuffled(FILTERS);
                numbers
                    .map(|number| (topic(number), series(number)))
                    .collect()
            }
        }
    }

    /// How many subscribers a message of this publisher has.
    pub fn fan_out(&self, publisher: usize) -> u64 {
        match self.shape {
            Shape::All => self.subscribers as u64,
            Shape::Pairs | Shape::Filters => 1,
            Shape::Wildcards => {
                let has_its_own = (ALL_DEVICES..self.subscribers).contains(&publisher);
                ALL_DEVICES as u64 + u64::from(has_its_own)
            }
        }
    }

    /// The null relay knows no topics, but groups of which one member writes and others read.
    pub fn relay_group(&self, number: usize) -> u32 {
        match self.shape {
            Shape::Pairs => number as u32,
            Shape::All | Shape::Wildcards | Shape::Filters => 0,
        }
    }
}

/// Of ten filters, seven are exact, two have a `+` and one a `#`.
pub fn filter(number: usize) -> String {
    match number / 7 % 10 {
        0 => format!("load/{number}/#"),
        1 | 2 => format!("load/{number}/+"),
        _ => topic(number),
    }
}

/// The one topic that matches [`filter`] of this number, and no other.
fn topic(number: usize) -> String {
    format!("load/{number}/temperature")
}

/// All numbers below `count`, in an order that no cache guesses.
fn shuffled(count: usize) -> impl Iterator<Item = usize> {
    const STEP: usize = 7_919; // a prime
    assert!(!count.is_multiple_of(STEP), "every number is to be met");
    (0..count).map(move |index| index * STEP % count)
}
