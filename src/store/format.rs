//! The bytes of the store: header, frame, record. `docs/store.md` draws them.
//!
//! Whatever is read here may be rotten, torn or somebody else's: nothing panics, and nothing counts
//! but what its checksum vouches for. A segment's mark (the checksum of its header, which holds a
//! secret number) begins each of its frames, so that nobody who chooses a payload can forge one.

use crc32fast::Hasher;

pub const VERSION: u32 = 1;
/// Of a header, which stands at the start of its segment and once more at the end.
pub const HEADER: usize = 48;
/// Of what precedes a frame's records.
pub const FRAME: usize = 24;
/// Far from where counting segments would overflow; 2,000 TiB written by the size of 1 MiB.
pub const SEQUENCE_MAX: u32 = u32::MAX / 2;

const MAGIC: &[u8; 8] = b"midgelog";
const HEADER_CRC: usize = HEADER - 4;
const FRAME_CRC: usize = FRAME - 4;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const MESSAGE: u8 = 3;
const DONE: u8 = 4;
const DROP: u8 = 5;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Of the segment in bytes, headers included.
    pub size: u32,
    pub sequence: u32,
    /// The oldest segment that was needed when this one was begun.
    pub first: u32,
    /// Where the frames of the segment before this one end: it was whole on the medium.
    pub previous_end: u32,
    pub nonce: u64,
}

/// What stands where a header should.
pub enum Found {
    Header(Header),
    OtherVersion(u32),
    Zeros,
    Rot,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        let fields = [
            VERSION,
            self.size,
            self.sequence,
            self.first,
            self.previous_end,
        ];
        for (at, field) in (8..).step_by(4).zip(fields) {
            bytes[at..at + 4].copy_from_slice(&field.to_le_bytes());
        }
        bytes[32..40].copy_from_slice(&self.nonce.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_CRC]);
        bytes[HEADER_CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER]) -> Found {
        let field = |at| number_at(bytes, at).unwrap_or_default();
        if bytes == &[0; HEADER] {
            return Found::Zeros;
        }
        if !bytes.starts_with(MAGIC) || field(HEADER_CRC) != crc32fast::hash(&bytes[..HEADER_CRC]) {
            return Found::Rot;
        }
        if field(8) != VERSION {
            return Found::OtherVersion(field(8));
        }
        let header = Header {
            size: field(12),
            sequence: field(16),
            first: field(20),
            previous_end: field(24),
            nonce: u64::from(field(32)) | u64::from(field(36)) << 32,
        };
        match header.sequence <= SEQUENCE_MAX && header.size as usize >= 2 * HEADER {
            true => Found::Header(header),
            false => Found::Rot,
        }
    }

    /// What each frame of the segment begins with.
    pub fn mark(&self) -> u32 {
        number_at(&self.encode(), HEADER_CRC).unwrap_or_default()
    }
}

/// A frame that is whole in itself.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub at: usize,
    pub end: usize,
    /// The checksum of the frame it was written behind.
    pub previous: u32,
    /// Up to where the segment was on the medium when it was written.
    pub synced: u32,
    /// The oldest segment that was needed when it was written.
    pub first: u32,
    pub crc: u32,
    pub records: &'a [u8],
}

impl<'a> Frame<'a> {
    pub fn at(segment: &'a [u8], mark: u32, at: usize) -> Option<Frame<'a>> {
        let field = |index: usize| number_at(segment, at + 4 * index);
        if field(0)? != mark {
            return None;
        }
        let end = at.checked_add(FRAME)?.checked_add(field(1)? as usize)?;
        let bytes = segment.get(at..end)?;
        let crc = field(5)?;
        (crc == frame_crc(bytes)).then_some(Frame {
            at,
            end,
            previous: field(2)?,
            synced: field(3)?,
            first: field(4)?,
            crc,
            records: &bytes[FRAME..],
        })
    }

    /// Fills in what precedes the records; returns the checksum.
    pub fn seal(frame: &mut [u8], mark: u32, previous: u32, synced: u32, first: u32) -> u32 {
        let length = (frame.len() - FRAME) as u32;
        for (index, field) in [mark, length, previous, synced, first]
            .into_iter()
            .enumerate()
        {
            frame[4 * index..4 * index + 4].copy_from_slice(&field.to_le_bytes());
        }
        let crc = frame_crc(frame);
        frame[FRAME_CRC..FRAME].copy_from_slice(&crc.to_le_bytes());
        crc
    }
}

fn frame_crc(frame: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&frame[..FRAME_CRC]);
    hasher.update(&frame[FRAME..]);
    hasher.finalize()
}

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

/// Changes that belong together. Cleared, it is as good as new and has its memory already.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
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

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.start(PUT, &[length(key), length(value)]);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.start(DELETE, &[length(key)]);
        self.bytes.extend_from_slice(key);
    }

    /// A body once for all the queues where it waits; nothing where it waits in none.
    pub fn message<'a>(&mut self, refs: impl IntoIterator<Item = Ref<'a>>, body: &[u8]) {
        let start = self.bytes.len();
        self.start(MESSAGE, &[0, length(body)]);
        let refs_start = self.bytes.len();
        for reference in refs {
            self.numbers(&[reference.queue, reference.sequence, length(reference.extra)]);
            self.bytes.extend_from_slice(reference.extra);
        }
        let refs = length(&self.bytes[refs_start..]);
        if refs == 0 {
            return self.bytes.truncate(start);
        }
        self.bytes[start + 1..start + 5].copy_from_slice(&refs.to_le_bytes());
        self.bytes.extend_from_slice(body);
    }

    /// The message has left its queue.
    pub fn done(&mut self, queue: u32, sequence: u32) {
        self.start(DONE, &[queue, sequence]);
    }

    /// All that waits in the queue is gone.
    pub fn drop_queue(&mut self, queue: u32) {
        self.start(DROP, &[queue]);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn start(&mut self, kind: u8, numbers: &[u32]) {
        self.bytes.push(kind);
        self.numbers(numbers);
    }

    fn numbers(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("no packet is as large as 4 GiB")
}

pub fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

fn take<'a>(bytes: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length as usize)?;
    *bytes = rest;
    Some(taken)
}
