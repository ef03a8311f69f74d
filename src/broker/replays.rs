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
    /// That it is under way has been noted for the next start.
    pub is_kept: bool,
}

/// The replays of one session; memory of their own only while there are any.
#[derive(Debug, Default)]
pub struct Replays {
    running: Option<Box<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    by_place: BTreeMap<u64, Replay>,
    places: BTreeMap<FilterId, u64>,
    last: u64,
}

impl Replays {
    pub fn is_empty(&self) -> bool {
        self.running.is_none()
    }

    /// Adds a replay behind all others, in place of the one for its filter if there is one.
    pub fn push(&mut self, mut replay: Replay) {
        let old = self.remove(replay.filter);
        replay.is_kept |= old.is_some_and(|old| old.is_kept);
        let last = self.running.as_ref().map_or(0, |running| running.last);
        self.put(last + 1, replay);
    }

    pub fn get_mut(&mut self, filter: FilterId) -> Option<&mut Replay> {
        let running = self.running.as_mut()?;
        running.by_place.get_mut(running.places.get(&filter)?)
    }

    pub fn remove(&mut self, filter: FilterId) -> Option<Replay> {
        let running = self.running.as_mut()?;
        let place = running.places.remove(&filter);
        let removed = place.and_then(|place| running.by_place.remove(&place));
        self.let_go();
        removed
    }

    /// Takes out the first, with its place.
    pub fn pop(&mut self) -> Option<(u64, Replay)> {
        let running = self.running.as_mut()?;
        let (place, replay) = running.by_place.pop_first()?;
        running.places.remove(&replay.filter);
        self.let_go();
        Some((place, replay))
    }

    /// Puts one back where it was.
    pub fn put(&mut self, place: u64, replay: Replay) {
        let running = self.running.get_or_insert_default();
        running.last = running.last.max(place);
        running.places.insert(replay.filter, place);
        running.by_place.insert(place, replay);
    }

    /// Those that have not come to their end.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Replay> {
        let running = self.running.iter_mut();
        running.flat_map(|running| running.by_place.values_mut())
    }

    fn let_go(&mut self) {
        self.running.take_if(|running| running.by_place.is_empty());
    }

    pub fn check_invariants(&self) {
        let Some(running) = &self.running else {
            return;
        };
        assert!(!running.by_place.is_empty());
        assert_eq!(running.by_place.len(), running.places.len());
        for (filter, place) in &running.places {
            assert_eq!(running.by_place[place].filter, *filter);
        }
    }
}
