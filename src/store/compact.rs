//! Room is won back by copying what still counts out of the oldest segment, a little per commit.
//!
//! Always the oldest: so nothing older is left that a `delete` or `done` in it could be about, and
//! these need not be copied. The copies precede the records of the batch that is committed with
//! them, as these may be about what is copied.

use std::io;

use super::Store;
use super::disk::Disk;
use super::error::is_short;
use super::format::{FRAME, Frame, HEADER, Place};
use super::index::Index;
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
        let oldest = self.index.first();
        let (newest, tail) = self.index.tail();
        let room = tail.room().saturating_sub(batch);
        let oldest = oldest.unwrap_or(newest);
        if oldest == newest || self.figures.is_damaged || !self.is_wasteful(oldest, room) {
            return;
        }
        if self.compaction.at.segment != oldest {
            self.compaction = Compaction::default();
            self.compaction.at.segment = oldest;
            self.compaction.at.offset = HEADER as u32;
        }
        let copied = self.copy_some(batch, room);
        self.figures.is_damaged = copied.is_err_and(|error| !is_short(&error));
    }

    /// Whether copying brings more than it takes. Where there is no room to be had it brings more.
    fn is_wasteful(&self, oldest: u32, room: usize) -> bool {
        let (live, used) = self.index.live_and_used();
        let dead = used - live;
        let segment = i64::from(self.options.segment_bytes);
        if !self.is_full() {
            return dead > live + SLACK * segment;
        }
        let room = room as i64 + self.spares.len() as i64 * segment;
        dead > segment && room > self.index.segments[&oldest].live + segment / 4
    }

    /// As much as a commit may take, of what is in `room` bytes but for a record that is larger.
    fn copy_some(&mut self, batch: usize, room: usize) -> io::Result<()> {
        let larger = if self.is_full() { room } else { usize::MAX };
        let usual = room.min(FRAME + COPY + 2 * batch);
        let Compaction { at, end, window } = &mut self.compaction;
        let mut looked = 0;
        while looked < LOOK + 2 * batch {
            if at.offset >= *end {
                let segment = &self.index.segments[&at.segment];
                let mut gaps = segment.gaps.iter();
                if let Some(gap) = gaps.find(|gap| gap.start == at.offset as usize) {
                    at.offset = gap.end as u32;
                }
                if at.offset as usize >= segment.used {
                    break;
                }
                let length = |bytes: &[u8]| Frame::at(bytes, segment.mark, 0).map(|it| it.end);
                let frame = window.bytes(&mut self.disk, &self.index, *at, length)?;
                looked += frame.len();
                *end = at.offset + frame.len() as u32;
                at.offset += FRAME as u32;
                continue;
            }
            let (record, length) = window.record(&mut self.disk, &self.index, *at)?;
            let copied = self.frame.len();
            copy_living(&self.index, *at, &record, &mut self.frame);
            let most = if copied == FRAME { larger } else { usual };
            if self.frame.len() > most {
                self.frame.bytes_mut().truncate(copied);
                break;
            }
            at.offset += length as u32;
        }
        Ok(())
    }
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
