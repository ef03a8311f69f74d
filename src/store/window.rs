//! Records read where they lie, with what lies behind them: the next one is often there.
//!
//! What has been committed never changes in its place, so what is here stays true.

use std::io;

use super::disk::Disk;
use super::error::StoreError;

use super::index::Index;
use super::{BUFFER_MAX, damaged};
use crate::record::Record;

const READ: usize = 16 << 10;
/// What is read at once where a larger read has failed.
const PIECE: u64 = 4096;

#[derive(Debug, Default)]
pub struct Window {
    segment: u32,
    start: u32,
    bytes: Vec<u8>,
}

impl Window {
    pub fn record(
        &mut self,
        disk: &mut impl Disk,
        index: &Index,
        segment: u32,
        offset: u32,
    ) -> Result<Record<'_>, StoreError> {
        let mut wanted = 0;
        while self.find(segment, offset).is_none() {
            let place = index.segments.get(&segment);
            let rest = place.map_or(0, |place| place.used.saturating_sub(offset)) as usize;
            let more = (wanted * 4).max(READ).min(rest);
            let Some(place) = place.filter(|_| more > wanted) else {
                return Err(damaged(disk, segment, offset));
            };
            wanted = more;
            if wanted <= READ && self.bytes.capacity() > BUFFER_MAX {
                self.bytes = Vec::new();
            }
            self.bytes.clear();
            self.bytes.resize(wanted, 0);
            (self.segment, self.start) = (segment, offset);
            let read = read_some(disk, place.file, u64::from(offset), &mut self.bytes);
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
            read.map_err(|error| StoreError::Failed {
                place: disk.place(),
                doing: "read the log",
                error,
            })?;
        }
        self.find(segment, offset)
            .ok_or_else(|| damaged(disk, segment, offset))
    }

    fn find(&self, segment: u32, offset: u32) -> Option<Record<'_>> {
        let at = offset.checked_sub(self.start)? as usize;
        let bytes = self.bytes.get(at..).filter(|_| self.segment == segment)?;
        Record::parse(bytes).map(|(record, _)| record)
    }
}

/// Up to a part that cannot be read.
fn read_some(disk: &mut impl Disk, file: u32, from: u64, into: &mut [u8]) -> io::Result<usize> {
    let Err(error) = disk.read(file, from, into) else {
        return Ok(into.len());
    };
    let (mut done, mut at) = (0, from);
    while done < into.len() {
        let piece = (PIECE - at % PIECE).min((into.len() - done) as u64) as usize;
        if disk.read(file, at, &mut into[done..done + piece]).is_err() {
            break;
        }
        done += piece;
        at += piece as u64;
    }
    if done == 0 { Err(error) } else { Ok(done) }
}
