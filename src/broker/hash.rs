//! Hashing of topics, level by level.
//!
//! A filter is found by the hash of its text, and that hash is folded from those of its levels. So
//! the levels of a topic are hashed once, and the hash of `a/+/c` follows from that of `a/b/c`
//! without building the text. The seed is drawn at start: a client that could choose topics with
//! equal hashes could make every lookup slow. Multiply-and-fold is as good as that asks for, and
//! cheap on boards whose processors have no other tricks.

use std::hash::{BuildHasher, Hasher};

const PLUS: u64 = 0x9E37_79B9_7F4A_7C15;
const MULTI: u64 = 0xC2B2_AE3D_27D4_EB4F;
const STEP: u64 = 0xD6E8_FEB8_6659_FD93;

/// Hashes with a seed of its own; also for the keys of a `HashMap`.
#[derive(Clone, Copy, Debug)]
pub struct Seeded {
    seed: u64,
}

impl Seeded {
    pub fn new(seed: u64) -> Seeded {
        Seeded { seed: seed | 1 }
    }

    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hash = self.seed;
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            hash = fold(hash ^ word, STEP);
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        fold(hash ^ u64::from_le_bytes(last), STEP ^ bytes.len() as u64)
    }

    /// The hash of a text of no levels, to be extended.
    pub fn start(&self) -> u64 {
        self.seed
    }

    /// `hash` extended by a level whose own hash is `level`.
    pub fn extend(&self, hash: u64, level: u64) -> u64 {
        fold(hash ^ level, STEP)
    }

    /// The level `+`.
    pub fn plus(&self) -> u64 {
        self.seed ^ PLUS
    }

    /// The level `#`.
    pub fn multi(&self) -> u64 {
        self.seed ^ MULTI
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
        unreachable!("only for u64 keys");
    }

    fn write_u64(&mut self, hash: u64) {
        self.hash = hash;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}
