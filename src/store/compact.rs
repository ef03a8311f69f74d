//! Room is won back by copying what still counts out of the oldest segment, a little per commit.
//!
//! Always the oldest: so nothing older is left that a `delete` or `done` in it could be about, and
//! these need not be copied. The copies precede the records of the batch that is committed with
//! them, as these may be about what is copied.

use std::io;

use super::Store;
use super::disk::Disk;
use super::format::{FRAME, Frame, HEADER, Place};
use super::index::{Index, Segment};
use super::window::Window;
use crate::record::{Batch, Record};

/// Copied per commit, besides twice what is committed: faster than room is taken.
const COPY: usize = 4 << 10;
/// Looked at per commit, besides twice what is committed.
const LOOK: usize = 64 << 10;
/// Dead segments that are worth less than copying.
const SLACK: i64 = 4;

/// How far the oldest segment has been looked at.
#[derive(Debug, Default)]
pub struct Compaction {
    at: Place,
    /// Of the frame that is being copied, which was found to be whole.
    end: u32,
    window: Window,
}

impl<D: Disk> Store<D> {
    /// Begins the frame of a batch of `batch` bytes with copies, if that is worth it.
    pub(super) fn copy(&mut self, batch: usize) {
        let oldest = self.index.first(self.tail.segment);
        let Some(segment) = self.index.segments.get(&oldest) else {
            return;
        };
        let is_bad = self.figures.is_damaged || oldest == self.tail.segment;
        if is_bad || !self.is_wasteful(segment, batch) {
            return;
        }
        if self.compaction.at.segment != oldest {
            self.compaction = Compaction::default();
            self.compaction.at.segment = oldest;
            self.compaction.at.offset = HEADER as u32;
        }
        if self.copy_from_oldest(batch).is_err() {
            self.figures.is_damaged = true;
        }
    }

    fn copy_from_oldest(&mut self, batch: usize) -> io::Result<()> {
        let room = match self.is_full() {
            true => self.tail.room().saturating_sub(batch),
            false => usize::MAX,
        };
        let usual = self.options.segment_bytes as usize - 2 * HEADER;
        let most = (FRAME + COPY + 2 * batch).min(usual.saturating_sub(batch));
        let Compaction { at, end, window } = &mut self.compaction;
        let mut looked = 0;
        while looked < LOOK + 2 * batch {
            if at.offset >= *end {
                let Some(length) = next_frame(at, window, &mut self.disk, &self.index)? else {
                    return Ok(());
                };
                looked += length;
                *end = at.offset + length as u32;
                at.offset += FRAME as u32;
                continue;
            }
            let (record, length) = window.record(&mut self.disk, &self.index, *at)?;
            let copied = self.frame.len();
            copy_living(&self.index, *at, &record, &mut self.frame);
            let is_too_much = self.frame.len() > most && copied > FRAME;
            if is_too_much || self.frame.len() > room {
                self.frame.bytes_mut().truncate(copied);
                return Ok(());
            }
            at.offset += length as u32;
        }
        Ok(())
    }

    /// Whether copying brings more than it takes. Where there is no room to be had it brings more.
    fn is_wasteful(&self, oldest: &Segment, batch: usize) -> bool {
        let (live, total) = self.index.live_and_used();
        let dead = total - live;
        let segment = i64::from(self.options.segment_bytes);
        if !self.is_full() {
            return dead > live + SLACK * segment;
        }
        let room = self.tail.room() as i64 + self.spares.len() as i64 * segment;
        dead > segment && room > oldest.live + segment / 4 + batch as i64
    }
}

/// Finds the frame that stands there, or behind what is bad there; its length.
fn next_frame(
    at: &mut Place,
    window: &mut Window,
    disk: &mut impl Disk,
    index: &Index,
) -> io::Result<Option<usize>> {
    let Some(segment) = index.segments.get(&at.segment) else {
        return Ok(None);
    };
    if let Some(gap) = segment.gaps.iter().find(|gap| gap.start == at.offset) {
        at.offset = gap.end;
    }
    if at.offset >= segment.used {
        return Ok(None);
    }
    let length = |bytes: &[u8]| Frame::at(bytes, segment.mark, 0).map(|frame| frame.end);
    let frame = window.bytes(disk, index, *at, length)?;
    Ok(Some(frame.len()))
}

/// What still counts of the record that stands there.
fn copy_living(index: &Index, place: Place, record: &Record<'_>, into: &mut Batch) {
    match record {
        Record::Put { key, value } => {
            if index.value(key) == Some(place) {
                into.put(key, value);
            }
        }
        Record::Message { refs, body } => {
            let waiting = refs
                .clone()
                .filter(|found| index.message(found.queue, found.sequence) == Some(place));
            into.message(waiting, body);
        }
        Record::Delete { .. } | Record::Done { .. } | Record::Drop { .. } => {}
    }
}
