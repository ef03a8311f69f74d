//! Records: the changes that a store keeps, as bytes. Keyed values, and queues of messages.
//!
//! The broker says what must survive in them, the store keeps them, and neither knows the other.
//! Numbers take seven bits to a byte, the lowest first: most are small, and every byte wears the
//! medium. `docs/store.md` draws the bytes. What is read may be anything: nothing panics.

const PUT: u8 = 1;
const DELETE: u8 = 2;
const MESSAGE: u8 = 3;
const DONE: u8 = 4;
const DROP: u8 = 5;

/// Another byte of the number follows.
const MORE: u8 = 0x80;

/// One change. Records that are committed together survive together or not at all.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    Message { refs: Refs<'a>, body: &'a [u8] },
    Done { queue: u32, sequence: u32 },
    Drop { queue: u32 },
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, and its length.
    pub fn parse(bytes: &'a [u8]) -> Option<(Record<'a>, usize)> {
        let (&kind, mut rest) = bytes.split_first()?;
        let rest = &mut rest;
        let record = match kind {
            PUT => {
                let (key, value) = (number(rest)?, number(rest)?);
                let (key, value) = (take(rest, key)?, take(rest, value)?);
                Record::Put { key, value }
            }
            DELETE => {
                let key = number(rest)?;
                let key = take(rest, key)?;
                Record::Delete { key }
            }
            MESSAGE => {
                let (refs, body) = (number(rest)?, number(rest)?);
                let (refs, body) = (Refs(take(rest, refs)?), take(rest, body)?);
                Record::Message { refs, body }
            }
            DONE => {
                let (queue, sequence) = (number(rest)?, number(rest)?);
                Record::Done { queue, sequence }
            }
            DROP => {
                let queue = number(rest)?;
                Record::Drop { queue }
            }
            _ => return None,
        };
        Some((record, bytes.len() - rest.len()))
    }
}

/// A place in a queue that a message takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ref<'a> {
    pub queue: u32,
    /// Grows within its queue, and may wrap.
    pub sequence: u32,
    /// What only this queue needs to know.
    pub extra: &'a [u8],
}

#[derive(Clone, Debug)]
pub struct Refs<'a>(&'a [u8]);

impl<'a> Iterator for Refs<'a> {
    type Item = Ref<'a>;

    fn next(&mut self) -> Option<Ref<'a>> {
        let (queue, sequence) = (number(&mut self.0)?, number(&mut self.0)?);
        let extra = number(&mut self.0)?;
        let extra = take(&mut self.0, extra)?;
        Some(Ref {
            queue,
            sequence,
            extra,
        })
    }
}

/// Each record and where it begins, until the bytes end or make no sense.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = (usize, Record<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (record, length) = Record::parse(bytes.get(at..)?)?;
        at += length;
        Some((at - length, record))
    })
}

/// The largest memory that a cleared batch keeps.
const SPARE_BYTES: usize = 1 << 20;

/// Changes that belong together. Cleared, it is as good as new and has its memory already.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Scratch: the places of a message, whose length stands before them.
    refs: Vec<u8>,
}

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Keeps its memory, unless that is much.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_BYTES);
    }

    /// Adds the changes of another one behind these.
    pub fn append(&mut self, other: &Batch) {
        self.bytes.extend_from_slice(&other.bytes);
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        start(&mut self.bytes, PUT, &[length(key), length(value)]);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    pub fn delete(&mut self, key: &[u8]) {
        start(&mut self.bytes, DELETE, &[length(key)]);
        self.bytes.extend_from_slice(key);
    }

    /// A body once for all the queues where it waits; nothing where it waits in none.
    pub fn message<'a>(&mut self, refs: impl IntoIterator<Item = Ref<'a>>, body: &[u8]) {
        self.refs.clear();
        for reference in refs {
            let fields = [reference.queue, reference.sequence, length(reference.extra)];
            put_numbers(&mut self.refs, &fields);
            self.refs.extend_from_slice(reference.extra);
        }
        if !self.refs.is_empty() {
            let lengths = [length(&self.refs), length(body)];
            start(&mut self.bytes, MESSAGE, &lengths);
            self.bytes.extend_from_slice(&self.refs);
            self.bytes.extend_from_slice(body);
        }
    }

    /// The message has left its queue.
    pub fn done(&mut self, queue: u32, sequence: u32) {
        start(&mut self.bytes, DONE, &[queue, sequence]);
    }

    /// All that waits in the queue is gone.
    pub fn drop_queue(&mut self, queue: u32) {
        start(&mut self.bytes, DROP, &[queue]);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

fn start(bytes: &mut Vec<u8>, kind: u8, numbers: &[u32]) {
    bytes.push(kind);
    put_numbers(bytes, numbers);
}

fn put_numbers(bytes: &mut Vec<u8>, numbers: &[u32]) {
    for &number in numbers {
        let mut rest = number;
        while rest >= MORE.into() {
            bytes.push(rest as u8 | MORE);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("no packet is as large as 4 GiB")
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & !MORE) << shift;
        if byte & MORE == 0 {
            return number.try_into().ok();
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length as usize)?;
    *bytes = rest;
    Some(taken)
}
