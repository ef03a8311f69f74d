//! Room is won back by copying what still counts out of the oldest segment, a little per commit.
//!
//! Always the oldest: so nothing older is left that a `delete` or `done` in it could be about, and
//! these need not be copied. The copies precede the records of the batch that is committed with
//! them, as these may be about what is copied.

use super::Store;
use super::disk::Disk;
use super::format::{FRAME, Frame, HEADER, number_at};
use super::index::{Index, Segment};
use crate::record::{Batch, Record};

/// Copied per commit, besides twice what is committed: faster than room is taken.
const COPY: usize = 4 << 10;
/// Looked at per commit, besides twice what is committed.
const LOOK: usize = 64 << 10;
/// Dead segments that are worth less than copying.
const SLACK: u64 = 4;

/// How far the oldest segment has been looked at.
#[derive(Debug)]
pub struct Compaction {
    segment: u32,
    /// The frame behind this one.
    next: u32,
    /// Of this frame.
    records: Vec<u8>,
    /// Where they begin.
    start: u32,
    at: usize,
}

/// Why nothing more is copied.
enum Stop {
    End,
    Rot,
}

impl<D: Disk> Store<D> {
    /// Begins the frame of a batch of `batch` bytes with copies, if that is worth it.
    pub(super) fn copy(&mut self, batch: usize) {
        let oldest = self.index.first(self.tail.segment);
        let Some(segment) = self.index.segments.get(&oldest) else {
            return;
        };
        let is_worth = oldest != self.tail.segment && self.is_wasteful(segment, batch);
        if !is_worth || self.figures.is_damaged {
            return;
        }
        let going_on = self.compaction.take();
        let going_on = going_on.filter(|compaction| compaction.segment == oldest);
        let mut compaction = going_on.unwrap_or(Compaction::new(oldest));
        let usual =
            (self.options.segment_bytes as usize).saturating_sub(2 * HEADER + FRAME + batch);
        let copy_max = FRAME + (COPY + 2 * batch).min(usual);
        let room = match self.spares.len() < super::SPARES {
            true => self.tail.room().saturating_sub(batch),
            false => usize::MAX,
        };
        let mut looked = 0;
        while looked < LOOK + 2 * batch {
            let Some((record, length)) = compaction.record() else {
                match compaction.load(&mut self.disk, segment) {
                    Ok(length) => looked += length,
                    Err(Stop::End) => break,
                    Err(Stop::Rot) => {
                        self.figures.is_damaged = true;
                        break;
                    }
                }
                continue;
            };
            let copied = self.frame.len();
            let is_first = copied == FRAME;
            let place = (oldest, compaction.start + compaction.at as u32);
            copy_living(&self.index, place, &record, &mut self.frame);
            let is_too_much = self.frame.len() > room || self.frame.len() > copy_max && !is_first;
            if is_too_much {
                self.frame.bytes_mut().truncate(copied);
                break;
            }
            compaction.at += length;
        }
        self.compaction = Some(compaction);
    }

    /// Whether copying brings more than it takes. Where there is no room to be had it brings more.
    fn is_wasteful(&self, oldest: &Segment, batch: usize) -> bool {
        let (live, used) = self.index.live_and_used();
        let dead = used.saturating_sub(live);
        let segment = u64::from(self.options.segment_bytes);
        if !self.is_full() {
            return dead > live + SLACK * segment;
        }
        let room = self.tail.room() as u64 + self.spares.len() as u64 * segment;
        dead > segment && room > oldest.live() + segment / 4 + batch as u64
    }
}

impl Compaction {
    fn new(segment: u32) -> Compaction {
        Compaction {
            segment,
            next: HEADER as u32,
            records: Vec::new(),
            start: 0,
            at: 0,
        }
    }

    fn record(&self) -> Option<(Record<'_>, usize)> {
        Record::parse(self.records.get(self.at..)?)
    }

    /// The next frame; its length.
    fn load(&mut self, disk: &mut impl Disk, segment: &Segment) -> Result<usize, Stop> {
        if self.at < self.records.len() {
            return Err(Stop::Rot);
        }
        let gap = segment.gaps.iter().find(|(from, _)| *from == self.next);
        let start = gap.map_or(self.next, |(_, to)| *to);
        (self.at, self.next) = (0, start);
        self.records.clear();
        if start >= segment.used {
            return Err(Stop::End);
        }
        let mut frame = vec![0; FRAME];
        let is_read = |read: std::io::Result<usize>| read.is_ok();
        if !is_read(disk.read(segment.file, u64::from(start), &mut frame)) {
            return Err(Stop::Rot);
        }
        let length = number_at(&frame, 4).unwrap_or_default() as usize;
        if length > (segment.used - start) as usize {
            return Err(Stop::Rot);
        }
        frame.resize(FRAME + length, 0);
        if !is_read(disk.read(segment.file, u64::from(start), &mut frame))
            || Frame::at(&frame, segment.mark, 0).is_none()
        {
            return Err(Stop::Rot);
        }
        self.start = start + FRAME as u32;
        self.next = self.start + length as u32;
        frame.drain(..FRAME);
        self.records = frame;
        Ok(FRAME + length)
    }
}

/// What still counts of the record that stands at a place.
fn copy_living(
    index: &Index,
    (segment, offset): (u32, u32),
    record: &Record<'_>,
    into: &mut Batch,
) {
    match record {
        Record::Put { key, value } => {
            if index.is_value(key, segment, offset) {
                into.put(key, value);
            }
        }
        Record::Message { refs, body } => {
            let waiting = refs.clone().filter(|reference| {
                index.is_waiting(reference.queue, reference.sequence, segment, offset)
            });
            into.message(waiting, body);
        }
        Record::Delete { .. } | Record::Done { .. } | Record::Drop { .. } => {}
    }
}
