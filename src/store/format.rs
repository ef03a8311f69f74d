//! The bytes of the store: header and frame, which `docs/store.md` draws. The records in a frame
//! are [`crate::record`]s.
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

pub fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}
