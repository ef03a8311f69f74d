//! Records read where they lie, with what lies behind them: the next one is often there.
//!
//! What has been committed never changes in its place, so what is here stays true.

use std::io;

use super::BUFFER_MAX;
use super::disk::{Disk, read_some};
use super::error::rot;
use super::format::Place;
use super::index::Index;
use crate::record::Record;

const READ: usize = 16 << 10;

#[derive(Debug, Default)]
pub struct Window {
    start: Place,
    bytes: Vec<u8>,
}

impl Window {
    /// The record, and its length.
    pub fn record(
        &mut self,
        disk: &mut impl Disk,
        index: &Index,
        place: Place,
    ) -> io::Result<(Record<'_>, usize)> {
        let length = |bytes: &[u8]| Record::parse(bytes).map(|(_, length)| length);
        let bytes = self.bytes(disk, index, place, length)?;
        Record::parse(bytes).ok_or_else(|| rot(place))
    }

    /// What stands there, as far as it goes by the `length` that is found when there is enough.
    pub fn bytes(
        &mut self,
        disk: &mut impl Disk,
        index: &Index,
        place: Place,
        length: impl Fn(&[u8]) -> Option<usize>,
    ) -> io::Result<&[u8]> {
        if let Some(length) = self.behind(place).and_then(&length) {
            return Ok(&self.behind(place).unwrap_or_default()[..length]);
        }
        let segment = index.segments.get(&place.segment);
        let (file, used) = segment.map_or((0, 0), |segment| (segment.file, segment.used));
        let rest = used.saturating_sub(place.offset as usize);
        self.start = place;
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_MAX);
        loop {
            let known = self.bytes.len();
            let from = u64::from(place.offset) + known as u64;
            self.bytes.resize((known * 2).max(READ).min(rest), 0);
            let read = read_some(disk, file, from, &mut self.bytes[known..]);
            self.bytes.truncate(known + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Err(rot(place));
            }
            if let Some(length) = length(&self.bytes) {
                return Ok(&self.bytes[..length]);
            }
        }
    }

    fn behind(&self, place: Place) -> Option<&[u8]> {
        let at = place.offset.checked_sub(self.start.offset)? as usize;
        let bytes = self.bytes.get(at..)?;
        (self.start.segment == place.segment).then_some(bytes)
    }
}
