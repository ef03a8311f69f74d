//! What a session was found to be allowed, so that it need not be looked up for each message.
//!
//! A small table of topics, bounded, gone as soon as there are other rules. A topic gets a place
//! when it comes by for the second time in a row of those that share that place: where one topic
//! after the other comes once, nothing is copied, and what is asked for again and again stays.

use std::cell::Cell;
use std::rc::Rc;

use super::acl::{Access, Identity, Standing};
use super::hash::Seeded;
use super::limits::Limits;

/// As what a client connected, and what it may do.
#[derive(Debug)]
pub struct Who {
    pub identity: Rc<Identity>,
    /// Of the rules that the rest is by.
    pub generation: u64,
    pub standing: Standing,
    pub decisions: Decisions,
}

impl Who {
    pub fn new(identity: Identity) -> Who {
        Who {
            identity: Rc::new(identity),
            generation: 0,
            standing: Standing::default(),
            decisions: Decisions::default(),
        }
    }

    pub fn check_invariants(&self) {
        self.decisions.check_invariants();
    }
}

/// A topic that is asked for, often more than once.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub topic: &'a [u8],
    /// 0 as long as nobody wanted to know it.
    hash: Cell<u64>,
}

impl Asked<'_> {
    #[inline]
    pub fn new(topic: &[u8]) -> Asked<'_> {
        let hash = Cell::new(0);
        Asked { topic, hash }
    }

    #[inline]
    pub fn hash(&self, hash: &Seeded) -> u64 {
        if self.hash.get() == 0 {
            self.hash.set(hash.bytes(self.topic) | 1 << 63);
        }
        self.hash.get()
    }
}

/// None, or a power of 2 of places; a topic has its place by its hash.
#[derive(Debug, Default)]
pub struct Decisions {
    places: Vec<Place>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// Of the last topic that came here in vain.
    candidate: u64,
    /// Of the topic that is remembered; 0 where there is none.
    hash: u64,
    topic: Vec<u8>,
    /// Bits of [`Access`].
    known: u8,
    allowed: u8,
}

impl Decisions {
    pub fn clear(&mut self) {
        self.places = Vec::new();
    }

    /// The answer, if it is known.
    #[inline]
    pub fn recall(&self, access: Access, topic: &[u8], hash: u64) -> Option<bool> {
        let mask = self.places.len().checked_sub(1)?;
        let place = &self.places[hash as usize & mask];
        let is_known =
            place.hash == hash && place.known & access.bit() != 0 && *place.topic == *topic;
        is_known.then_some(place.allowed & access.bit() != 0)
    }

    /// Remembers an answer of a topic that is not new here; in the place of another topic's only
    /// where there may be no more places.
    pub fn remember(&mut self, access: Access, topic: &[u8], hash: u64, allowed: bool) {
        loop {
            let count = self.places.len();
            let mask = count.wrapping_sub(1);
            let Some(place) = self.places.get_mut(hash as usize & mask) else {
                self.grow(2);
                continue;
            };
            let is_it = place.hash == hash && *place.topic == *topic;
            if !is_it && place.candidate != hash {
                place.candidate = hash;
                return;
            }
            if !is_it && place.hash != 0 && count < Limits::DECISIONS_PER_SESSION {
                self.grow(2 * count);
                continue;
            }
            if !is_it {
                place.hash = hash;
                place.topic.clear();
                place.topic.extend_from_slice(topic);
                (place.known, place.allowed) = (0, 0);
            }
            place.known |= access.bit();
            place.allowed |= if allowed { access.bit() } else { 0 };
            return;
        }
    }

    fn grow(&mut self, count: usize) {
        let old = std::mem::replace(&mut self.places, vec![Place::default(); count]);
        for place in old {
            for hash in [place.candidate, place.hash] {
                self.places[hash as usize & (count - 1)].candidate = hash;
            }
            if place.hash != 0 {
                let at = place.hash as usize & (count - 1);
                self.places[at] = place;
            }
        }
    }

    pub fn check_invariants(&self) {
        assert!(self.places.len() <= Limits::DECISIONS_PER_SESSION);
        let fits = |topic: &[u8]| topic.len() <= Limits::DECISION_TOPIC_BYTES;
        assert!(self.places.iter().all(|one| fits(&one.topic)));
    }
}
