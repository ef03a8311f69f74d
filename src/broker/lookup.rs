//! Things found by the hash of their name, without a second copy of the name.
//!
//! The table holds half of a hash and the slot of the thing; whoever looks something up compares
//! the name itself. That half tells a million names apart but for some hundred: these stand behind
//! one another, in a list that is empty in any ordinary broker.

use std::collections::{BTreeMap, HashMap};

use super::hash::Hashed;

#[derive(Debug, Default)]
pub struct Lookup {
    first: HashMap<u32, u32, Hashed>,
    /// By slot: the next one with the same key.
    behind: BTreeMap<u32, u32>,
}

impl Lookup {
    /// The slots of all whose hash may be this one.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = usize> {
        let first = self.first.get(&key(hash)).copied();
        std::iter::successors(first, |slot| self.behind.get(slot).copied())
            .map(|slot| slot as usize)
    }

    /// Adds a slot, which must not be there.
    pub fn insert(&mut self, hash: u64, slot: usize) {
        let slot = slot as u32;
        if let Some(next) = self.first.insert(key(hash), slot) {
            self.behind.insert(slot, next);
        }
    }

    /// Removes a slot, which must be there.
    pub fn remove(&mut self, hash: u64, slot: usize) {
        let (key, slot) = (key(hash), slot as u32);
        let next = self.behind.remove(&slot);
        let first = self.first[&key];
        if first == slot {
            match next {
                Some(next) => self.first.insert(key, next),
                None => self.first.remove(&key),
            };
            return;
        }
        let mut before = first;
        while self.behind[&before] != slot {
            before = self.behind[&before];
        }
        match next {
            Some(next) => self.behind.insert(before, next),
            None => self.behind.remove(&before),
        };
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

fn key(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_with_the_same_key_are_all_found_whichever_is_removed() {
        let hashes = [7 << 32, 7 << 32 | 1, 7 << 32 | 2, 8 << 32];
        for removed in 0..hashes.len() {
            let mut lookup = Lookup::default();
            for (slot, hash) in hashes.iter().enumerate() {
                lookup.insert(*hash, slot);
            }
            lookup.remove(hashes[removed], removed);
            for (slot, hash) in hashes.iter().enumerate() {
                let found = lookup.candidates(*hash).any(|other| other == slot);
                assert_eq!(found, slot != removed, "{slot} without {removed}");
            }
            for slot in (0..hashes.len()).filter(|slot| *slot != removed) {
                lookup.remove(hashes[slot], slot);
            }
            assert!(lookup.is_empty() && lookup.behind.is_empty());
        }
    }
}
