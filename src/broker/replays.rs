//! Subscriptions that are still being sent retained messages: one after the other, in the order
//! they were made. Each is found by its filter as well, as a subscription may be replaced or given
//! up while its turn has not come.

use std::collections::BTreeMap;

use super::retained::Cursor;
use super::subscriptions::FilterId;
use crate::packet::QoS;

#[derive(Debug)]
pub struct Replay {
    pub filter: FilterId,
    pub cursor: Cursor,
    pub qos: QoS,
    pub subscription_id: u32,
    /// No Local: whose messages are left out, see [`super::retained::Entry::publisher`].
    pub except: Option<u64>,
}

/// The replays of one session.
#[derive(Debug, Default)]
pub struct Replays {
    by_place: BTreeMap<u64, Replay>,
    places: BTreeMap<FilterId, u64>,
    last: u64,
}

impl Replays {
    pub fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// Adds a replay behind all others, in place of the one for its filter if there is one.
    pub fn push(&mut self, replay: Replay) {
        self.remove(replay.filter);
        self.last += 1;
        self.put(self.last, replay);
    }

    pub fn get_mut(&mut self, filter: FilterId) -> Option<&mut Replay> {
        self.by_place.get_mut(self.places.get(&filter)?)
    }

    pub fn remove(&mut self, filter: FilterId) {
        if let Some(place) = self.places.remove(&filter) {
            self.by_place.remove(&place);
        }
    }

    /// Takes out the first, with its place.
    pub fn pop(&mut self) -> Option<(u64, Replay)> {
        let (place, replay) = self.by_place.pop_first()?;
        self.places.remove(&replay.filter);
        Some((place, replay))
    }

    /// Puts one back where it was.
    pub fn put(&mut self, place: u64, replay: Replay) {
        self.places.insert(replay.filter, place);
        self.by_place.insert(place, replay);
    }

    pub fn check_invariants(&self) {
        assert_eq!(self.by_place.len(), self.places.len());
        for (filter, place) in &self.places {
            assert_eq!(self.by_place[place].filter, *filter);
        }
    }
}
