//! What a store should hold, said as simply as it can be.

use std::collections::BTreeMap;

use midge::record::{Batch, Ref};
use midge::store::{Disk, Durability, Options, Report, Store, StoreError};

use crate::common::Prng;

pub type Bytes = Vec<u8>;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Model {
    pub values: BTreeMap<Bytes, Bytes>,
    /// By number, then in the order of the queue: sequence, extra, body.
    pub queues: BTreeMap<u32, Vec<(u32, Bytes, Bytes)>>,
}

#[derive(Clone, Debug)]
pub enum Change {
    Put(Bytes, Bytes),
    Delete(Bytes),
    Message(Vec<(u32, u32, Bytes)>, Bytes),
    Done(u32, u32),
    Drop(u32),
}

impl Model {
    pub fn make(&mut self, changes: &[Change]) {
        for change in changes {
            match change.clone() {
                Change::Put(key, value) => {
                    self.values.insert(key, value);
                }
                Change::Delete(key) => {
                    self.values.remove(&key);
                }
                Change::Message(refs, body) => {
                    for (queue, sequence, extra) in refs {
                        let queue = self.queues.entry(queue).or_default();
                        queue.push((sequence, extra, body.clone()));
                    }
                }
                Change::Done(queue, sequence) => {
                    if let Some(waiting) = self.queues.get_mut(&queue) {
                        waiting.retain(|(waiting, _, _)| *waiting != sequence);
                    }
                }
                Change::Drop(queue) => {
                    self.queues.remove(&queue);
                }
            }
        }
        self.queues.retain(|_, queue| !queue.is_empty());
    }

    /// What a store says of itself.
    pub fn of<D: Disk>(
        store: &mut Store<D>,
        values: BTreeMap<Bytes, Bytes>,
    ) -> Result<Model, StoreError> {
        let mut model = Model {
            values,
            ..Model::default()
        };
        for queue in QUEUES {
            let (mut waiting, mut after) = (Vec::new(), None);
            loop {
                let before = waiting.len();
                store.fetch(queue, after, 600, |sequence, extra, body| {
                    waiting.push((sequence, extra.to_vec(), body.to_vec()));
                })?;
                if waiting.len() == before {
                    break;
                }
                after = waiting.last().map(|(sequence, _, _)| *sequence);
            }
            let lengths = waiting.iter().map(|(n, _, body)| (*n, body.len() as u32));
            assert!(lengths.eq(store.waiting(queue)), "what waits in {queue}");
            if !waiting.is_empty() {
                model.queues.insert(queue, waiting);
            }
        }
        assert!(model.queues.keys().copied().eq(store.queues()));
        Ok(model)
    }
}

pub const QUEUES: std::ops::Range<u32> = 0..5;
const KEYS: usize = 12;
const SECTOR: usize = 512;
/// What precedes the records of a commit, and key and value of a record.
const FRAME: usize = 24;
const PUT: usize = 9;

/// Draws what a broker might do; remembers which sequences come next.
#[derive(Clone)]
pub struct Source {
    sequences: [u32; 5],
    /// All commits are as long as a sector: so one takes the place of another that was lost, and
    /// what had been written behind that one follows it.
    is_uniform: bool,
}

impl Source {
    pub fn new(prng: &mut Prng) -> Source {
        let near_the_end = u32::MAX - prng.below(300) as u32;
        Source {
            sequences: [0, 7, near_the_end, u32::MAX / 2, 1],
            is_uniform: prng.below(5) == 0,
        }
    }

    pub fn changes(&mut self, model: &Model, prng: &mut Prng) -> Vec<Change> {
        if self.is_uniform {
            let key = format!("key {}", prng.below(10)).into_bytes();
            let value = vec![b'a' + prng.below(26) as u8; SECTOR - FRAME - PUT - key.len()];
            return vec![Change::Put(key, value)];
        }
        let mut model = model.clone();
        let count = 1 + prng.below(6);
        let mut changes = Vec::new();
        for _ in 0..count {
            let change = self.change(&model, prng);
            model.make(std::slice::from_ref(&change));
            changes.push(change);
        }
        changes
    }

    fn change(&mut self, model: &Model, prng: &mut Prng) -> Change {
        let key = format!("key {}", prng.below(KEYS)).into_bytes();
        match prng.below(32) {
            0..8 => Change::Put(key, bytes(prng, 90)),
            8..11 => Change::Delete(key),
            11..21 => {
                let mut refs = Vec::new();
                for queue in QUEUES {
                    if prng.below(3) == 0 {
                        let sequence = &mut self.sequences[queue as usize];
                        *sequence = sequence.wrapping_add(1 + prng.below(2) as u32);
                        refs.push((queue, *sequence, bytes(prng, 4)));
                    }
                }
                Change::Message(refs, bytes(prng, 120))
            }
            21 if prng.below(4) == 0 => Change::Put(key, bytes(prng, 9000)),
            21 => Change::Drop(prng.below(QUEUES.len()) as u32),
            _ => {
                let queue = prng.below(QUEUES.len()) as u32;
                let waiting = model.queues.get(&queue).map_or(&[][..], |queue| &queue[..]);
                let any = prng.below(waiting.len().max(1));
                let index = if prng.below(4) > 0 { 0 } else { any };
                let sequence = waiting.get(index).map_or(99, |(sequence, _, _)| *sequence);
                Change::Done(queue, sequence)
            }
        }
    }
}

fn bytes(prng: &mut Prng, below: usize) -> Bytes {
    let length = prng.below(below);
    (0..length).map(|_| b'a' + prng.below(26) as u8).collect()
}

pub fn batch(changes: &[Change]) -> Batch {
    let mut batch = Batch::new();
    for change in changes {
        match change {
            Change::Put(key, value) => batch.put(key, value),
            Change::Delete(key) => batch.delete(key),
            Change::Message(refs, body) => {
                let refs = refs.iter().map(|(queue, sequence, extra)| Ref {
                    queue: *queue,
                    sequence: *sequence,
                    extra,
                });
                batch.message(refs, body);
            }
            Change::Done(queue, sequence) => batch.done(*queue, *sequence),
            Change::Drop(queue) => batch.drop_queue(*queue),
        }
    }
    batch
}

pub fn options(segment_bytes: u32, nonce: u64) -> Options {
    Options {
        segment_bytes,
        nonce,
    }
}

/// The store, what it holds, and what it says of its recovery.
pub fn open<D: Disk>(disk: D, options: &Options) -> Result<(Store<D>, Model, Report), StoreError> {
    let mut values = BTreeMap::new();
    let (mut store, report) = Store::open(disk, options, |key, value| {
        let before = values.insert(key.to_vec(), value.to_vec());
        assert_eq!(before, None, "a key has one value");
    })?;
    let model = Model::of(&mut store, values)?;
    assert_eq!(report.values, model.values.len());
    let messages = model.queues.values().map(Vec::len).sum();
    assert_eq!(report.messages, messages);
    Ok((store, model, report))
}

pub fn commit<D: Disk>(
    store: &mut Store<D>,
    changes: &[Change],
    durability: Durability,
) -> Result<(), StoreError> {
    store.commit(&batch(changes), durability)
}
