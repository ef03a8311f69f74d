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
        self.finish(bytes, self.step)
    }

    /// What a level adds to the hash of its topic or filter by standing at `index`. The hash of
    /// the whole is the sum over its levels.
    pub fn level(&self, level: &[u8], index: usize) -> u64 {
        self.finish(level, self.place(index))
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
    fn finish(&self, bytes: &[u8], end: u64) -> u64 {
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
