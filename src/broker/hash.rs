//! Hashing of topics, level by level.
//!
//! A filter is found by the hash of its text, and that hash is a sum: each level adds a number
//! that follows from its text and its place. So the levels of a topic are hashed once, and the
//! hash of `a/+/c` is that of `a/b/c` with one summand exchanged, whatever the length of either.
//! The seed is drawn at start: a client that could choose topics with equal hashes could make
//! every lookup slow. Multiply-and-fold is as good as that asks for, and cheap on boards whose
//! processors have no other tricks.

use std::hash::{BuildHasher, Hasher};

use crate::packet::scan;

const PLUS: u64 = 0x9E37_79B9_7F4A_7C15;
const MULTI: u64 = 0xC2B2_AE3D_27D4_EB4F;
const STEP: u64 = 0xD6E8_FEB8_6659_FD93;

/// Hashes with a seed of its own; also for the keys of a `HashMap`.
#[derive(Clone, Copy, Debug)]
pub struct Seeded {
    seed: u64,
    /// What is multiplied with: a secret too, which follows from the seed.
    step: u64,
}

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        let step = fold(seed ^ MULTI, STEP);
        Seeded { seed, step }
    }

    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        self.fold_all(bytes, self.step)
    }

    /// What a level adds to the hash of its topic or filter by standing at `index`. The hash of
    /// the whole is the sum over its levels.
    pub fn level(&self, level: &[u8], index: usize) -> u64 {
        self.fold_all(level, self.place(index))
    }

    /// The same for the level `+`.
    pub fn plus(&self, index: usize) -> u64 {
        fold(self.seed ^ PLUS, self.place(index))
    }

    /// The same for the level `#`.
    pub fn multi(&self, index: usize) -> u64 {
        fold(self.seed ^ MULTI, self.place(index))
    }

    /// `hash` extended by `other`.
    pub fn extend(&self, hash: u64, other: u64) -> u64 {
        fold(hash ^ other, self.step)
    }

    /// The last step differs by the length, and by `end`.
    fn fold_all(&self, bytes: &[u8], end: u64) -> u64 {
        let (mut hash, mut rest) = (self.seed, bytes);
        while let Some((word, more)) = rest.split_first_chunk() {
            hash = fold(hash ^ u64::from_le_bytes(*word), self.step);
            rest = more;
        }
        fold(hash ^ scan::short(rest), end ^ bytes.len() as u64)
    }

    /// A number of its own for each place of a level.
    fn place(&self, index: usize) -> u64 {
        self.step.wrapping_add((index as u64).wrapping_mul(PLUS))
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher {
            seeded: *self,
            hash: self.seed,
        }
    }
}

pub struct SeededHasher {
    seeded: Seeded,
    hash: u64,
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.hash = self.seeded.extend(self.hash, self.seeded.bytes(bytes));
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// For keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hashed {
    hash: u64,
}

impl BuildHasher for Hashed {
    type Hasher = Hashed;

    fn build_hasher(&self) -> Hashed {
        Hashed::default()
    }
}

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only for u32 keys");
    }

    /// A table takes some bits from either end.
    fn write_u32(&mut self, hash: u32) {
        self.hash = u64::from(hash) << 32 | u64::from(hash);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SEEDS: [u64; 3] = [1, 7, 0x0123_4567_89AB_CDEF];

    /// No two are equal, and each bit is set in about half of them: tables are filled evenly.
    fn assert_spread(hashes: &[u64], what: &str) {
        let distinct: HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len(), "{what}: two are equal");
        for bit in 0..64 {
            let set = hashes.iter().filter(|hash| *hash >> bit & 1 == 1).count();
            let share = set as f64 / hashes.len() as f64;
            assert!((0.4..0.6).contains(&share), "{what}: bit {bit} is {share}");
        }
    }

    #[test]
    fn names_that_differ_little_have_hashes_that_differ_much() {
        for seeded in SEEDS.map(Seeded::new) {
            for length in 1..20 {
                // Each differs from the next in one byte, wherever that stands.
                let name = |number: usize| {
                    let mut name = vec![b'a'; length];
                    name[number % length] = (number / length) as u8;
                    name
                };
                let names: HashSet<_> = (0..256 * length).map(name).collect();
                let hashes: Vec<_> = names.iter().map(|name| seeded.bytes(name)).collect();
                let distinct: HashSet<_> = hashes.iter().collect();
                assert_eq!(distinct.len(), names.len(), "names of {length}");
            }
            let name = |number| format!("sensor/{number}");
            let hashes: Vec<_> = (0..10_000)
                .map(|number| seeded.bytes(name(number).as_bytes()))
                .collect();
            assert_spread(&hashes, "names");
            let keys: Vec<_> = (0..10_000).map(|n| seeded.hash_one(name(n))).collect();
            assert_spread(&keys, "keys of a table");
            let numbers: Vec<_> = (0..10_000).map(|n| seeded.extend(7, n)).collect();
            assert_spread(&numbers, "a hash with a number");
        }
    }

    #[test]
    fn names_of_zeros_differ_by_their_length() {
        for seeded in SEEDS.map(Seeded::new) {
            let names: Vec<_> = (0..40).map(|length| vec![0; length]).collect();
            let hashes: HashSet<_> = names.iter().map(|name| seeded.bytes(name)).collect();
            assert_eq!(hashes.len(), names.len());
        }
    }

    #[test]
    fn what_a_level_adds_depends_on_its_place() {
        for seeded in SEEDS.map(Seeded::new) {
            let mut added = Vec::new();
            for index in 0..1_000 {
                added.extend([seeded.plus(index), seeded.multi(index)]);
                added.extend([b"+", b"#", b"a", b"b"].map(|level| seeded.level(level, index)));
            }
            assert_spread(&added, "levels");
        }
    }

    #[test]
    fn another_seed_makes_other_hashes() {
        let of = |f: &dyn Fn(Seeded) -> u64| -> Vec<u64> {
            (0..1_000).map(|seed| f(Seeded::new(seed))).collect()
        };
        assert_spread(&of(&|seeded| seeded.bytes(b"a")), "name");
        assert_spread(&of(&|seeded| seeded.level(b"a", 1)), "level");
        assert_spread(&of(&|seeded| seeded.plus(1)), "plus");
        assert_spread(&of(&|seeded| seeded.multi(1)), "multi");
        assert_spread(&of(&|seeded| seeded.hash_one("a")), "key");
    }

    /// A table of the standard library chooses a place by the low bits, and tells apart what
    /// stands there by the high ones.
    #[test]
    fn a_hash_that_is_a_key_has_its_bits_at_either_end() {
        for key in [1, 0xFFFF, 0x8000_0000] {
            let hash = Hashed::default().hash_one(key);
            assert_eq!((hash as u32, (hash >> 32) as u32), (key, key));
        }
    }
}
