//! The bytes of the store: header and frame, which `docs/store.md` draws. The records in a frame
//! are [`crate::record`]s.
//!
//! Whatever is read here may be rotten, torn or somebody else's: nothing panics, and nothing counts
//! but what its checksum vouches for. A segment's mark (the checksum of its header, which holds a
//! secret number) begins each of its frames, so that nobody who chooses a payload can forge one.

use std::ops::Range;

use crc32fast::Hasher;

pub const VERSION: u32 = 1;
/// Of a header, which stands at the start of its segment and once more at the end.
pub const HEADER: usize = 48;
/// Of what precedes a frame's records.
pub const FRAME: usize = 24;
/// Far from where counting segments would overflow; 2,000 TiB written by the size of 1 MiB.
const SEQUENCE_MAX: u32 = u32::MAX / 2;

const MAGIC: &[u8; 8] = b"midgelog";
const HEADER_CRC: usize = HEADER - 4;
const FRAME_CRC: usize = FRAME - 4;

/// Of a record, or a frame: its segment by sequence, and where it begins in that.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct Place {
    pub segment: u32,
    pub offset: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub version: u32,
    /// Of the segment in bytes, headers included.
    pub size: u32,
    pub sequence: u32,
    /// The oldest segment that was needed when this one was begun.
    pub first: u32,
    /// Where the frames of the segment before this one end: it was whole on the medium.
    pub previous_end: u32,
    pub nonce: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER] {
        let Header { version, size, .. } = *self;
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        let order = [self.sequence, self.first, self.previous_end];
        put_numbers(&mut bytes[8..], &[version, size]);
        put_numbers(&mut bytes[16..], &order);
        bytes[32..40].copy_from_slice(&self.nonce.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_CRC]);
        put_numbers(&mut bytes[HEADER_CRC..], &[crc]);
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER]) -> Option<Header> {
        let field = |at| number_at(bytes, at).unwrap_or_default();
        let header = Header {
            version: field(8),
            size: field(12),
            sequence: field(16),
            first: field(20),
            previous_end: field(24),
            nonce: u64::from(field(32)) | u64::from(field(36)) << 32,
        };
        let is_whole = field(HEADER_CRC) == crc32fast::hash(&bytes[..HEADER_CRC]);
        let is_possible = header.sequence <= SEQUENCE_MAX && header.size as usize >= 2 * HEADER;
        let is_header = bytes.starts_with(MAGIC) && is_whole;
        (is_header && (is_possible || header.version != VERSION)).then_some(header)
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
        put_numbers(frame, &[mark, length, previous, synced, first]);
        let crc = frame_crc(frame);
        put_numbers(&mut frame[FRAME_CRC..], &[crc]);
        crc
    }
}

fn frame_crc(frame: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&frame[..FRAME_CRC]);
    hasher.update(&frame[FRAME..]);
    hasher.finalize()
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn put_numbers(bytes: &mut [u8], numbers: &[u32]) {
    for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// The frames of a segment, in order.
///
/// A frame counts where it continues the one before it. Where none does, the log has ended (a torn
/// tail) or a part has gone bad. It is rot if the segment was whole (its successor says where it
/// ends), or if a frame further on was written when the bad part had been on the medium already;
/// frames beyond a torn tail were not, and are no part of the log.
pub struct Walk<'a> {
    segment: &'a [u8],
    mark: u32,
    /// The segment was whole: it ends where its bytes do.
    is_whole: bool,
    /// Where the frames end, once there are no more.
    pub at: usize,
    /// The checksum that the next frame must name; none behind a gap.
    chain: Option<u32>,
    /// What was bad on the way.
    pub gaps: Vec<Range<usize>>,
}

impl<'a> Walk<'a> {
    /// Where the frames end is known of all segments but the newest.
    pub fn new(segment: &'a [u8], mark: u32, end: Option<u32>) -> Walk<'a> {
        let size = segment.len() - HEADER;
        Walk {
            segment: &segment[..end.map_or(size, |end| size.min(end as usize))],
            mark,
            is_whole: end.is_some(),
            at: HEADER,
            chain: Some(mark),
            gaps: Vec::new(),
        }
    }

    /// What the next frame is to continue. Behind a gap at the very end nobody knows.
    pub fn last_crc(&self) -> u32 {
        self.chain.unwrap_or(self.mark)
    }

    /// Whether the log broke off while a frame was written.
    pub fn is_torn(&self) -> bool {
        let field = |at| number_at(self.segment, at);
        let is_begun = field(self.at) == Some(self.mark);
        !self.is_whole && (is_begun || field(self.at + 8) == Some(self.last_crc()))
    }

    /// Where to go on behind what is bad.
    fn resume(&self) -> Option<usize> {
        let (mut first, mut at) = (None, self.at + 1);
        let mark = self.mark.to_le_bytes();
        while let Some(rest) = self.segment.get(at..)
            && let Some(next) = rest.windows(mark.len()).position(|bytes| bytes == mark)
        {
            at += next;
            let Some(frame) = Frame::at(self.segment, self.mark, at) else {
                at += 1;
                continue;
            };
            first = first.or(Some(at));
            if self.is_whole || frame.synced as usize > self.at {
                return first;
            }
            at = frame.end;
        }
        self.is_whole.then_some(self.segment.len())
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        while !self.is_whole || self.at < self.segment.len() {
            let frame = Frame::at(self.segment, self.mark, self.at);
            let follows = |frame: &Frame<'_>| self.chain.is_none_or(|crc| crc == frame.previous);
            if let Some(frame) = frame.filter(follows) {
                (self.at, self.chain) = (frame.end, Some(frame.crc));
                return Some(frame);
            }
            let to = self.resume()?;
            self.gaps.push(self.at..to);
            (self.at, self.chain) = (to, None);
        }
        None
    }
}
