//! From what is on the disk to a store that works, whatever is on the disk.
//!
//! Headers are read first and tell which files are segments, in which order, and which of them are
//! needed. These are read once, one at a time, into the index; then the values that live are read
//! again and told. What is bad is kept aside, said, and stepped over. Of the log, only the head of
//! a torn frame is written here, so a second failure finds what the first one found.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use super::disk::Disk;
use super::error::StoreError;
use super::format::{self, FRAME, HEADER, Header};
use super::index::Segment;
use super::walk::{Step, Walk};
use super::{Options, Store, Tail, damaged};
use crate::record::Record;

/// What is read at once where a larger read has failed.
const PIECE: usize = 4096;

/// Something that was in the store.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    Value {
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Messages wait here: how many, and the length of their bodies together.
    Queue {
        queue: u32,
        len: usize,
        bytes: u64,
    },
}

/// What recovery came upon.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The last commit was broken off, which is what losing power does.
    pub is_torn: bool,
    pub damage: Vec<Damage>,
    pub values: usize,
    pub messages: usize,
}

/// A part of the log that has gone bad.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// By its sequence; its file where that is not known.
    pub segment: u32,
    pub offset: u32,
    /// None are known of a segment that is missing.
    pub bytes: u32,
    /// Where it was set aside.
    pub kept: Option<String>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage {
            segment,
            offset,
            bytes,
            kept,
        } = self;
        match (bytes, kept) {
            (0, _) => write!(
                f,
                "the store lacks segment {segment}, and maybe more behind it"
            ),
            (_, None) => write!(
                f,
                "{bytes} bytes of segment {segment} have gone bad at {offset}"
            ),
            (_, Some(name)) => write!(
                f,
                "{bytes} bytes of segment {segment} have gone bad at {offset}, kept as {name}"
            ),
        }
    }
}

/// The files of a disk, by what their headers say.
#[derive(Debug, Default)]
pub struct Survey {
    pub segments: BTreeMap<u32, (u32, Header)>,
    /// Those with no header yet, and their lengths.
    pub blank: Vec<(u32, u64)>,
    /// Those whose header cannot be told.
    pub unknown: Vec<(u32, u64)>,
    /// Of which one copy has gone bad.
    pub half: Vec<u32>,
    pub next_file: u32,
}

impl Survey {
    pub fn of(disk: &mut impl Disk) -> Result<Survey, StoreError> {
        let mut files = disk.list().map_err(|error| failed(disk, error))?;
        files.sort_unstable();
        let mut survey = Survey::default();
        for (file, length) in files {
            survey.next_file = survey.next_file.max(file.saturating_add(1));
            let (mut header, mut is_zero, mut is_rotten) = (None, true, false);
            for at in [0, length.saturating_sub(HEADER as u64)] {
                let mut bytes = [0; HEADER];
                disk.read(file, at, &mut bytes)
                    .map_err(|error| failed(disk, error))?;
                match Header::decode(&bytes) {
                    format::Found::Header(found) => {
                        let newer = |known: &Header| known.sequence < found.sequence;
                        if header.as_ref().is_none_or(newer) {
                            header = Some(found);
                        }
                    }
                    format::Found::OtherVersion(version) => {
                        let place = disk.place();
                        return Err(StoreError::Version { place, version });
                    }
                    format::Found::Zeros => continue,
                    format::Found::Rot => is_rotten = true,
                }
                is_zero = false;
            }
            match header {
                Some(header) if !survey.segments.contains_key(&header.sequence) => {
                    survey.half.extend(is_rotten.then_some(header.sequence));
                    survey.segments.insert(header.sequence, (file, header));
                }
                None if is_zero => survey.blank.push((file, length)),
                _ => survey.unknown.push((file, length)),
            }
        }
        Ok(survey)
    }

    /// Where the frames of a segment end, if its successor is there to tell.
    pub fn end(&self, sequence: u32) -> Option<u32> {
        let (_, successor) = self.segments.get(&(sequence + 1))?;
        Some(successor.previous_end)
    }

    /// The bytes of a segment; zeros where there are none, or none that can be read.
    pub fn load(&self, disk: &mut impl Disk, sequence: u32, bytes: &mut Vec<u8>) {
        bytes.clear();
        let Some((file, header)) = self.segments.get(&sequence) else {
            return;
        };
        bytes.resize(header.size as usize, 0);
        if disk.read(*file, 0, bytes).is_err() {
            bytes.fill(0);
            for (index, piece) in bytes.chunks_mut(PIECE).enumerate() {
                if disk.read(*file, (index * PIECE) as u64, piece).is_err() {
                    piece.fill(0);
                }
            }
        }
    }
}

impl<D: Disk> Store<D> {
    /// Recovers, and tells all that is there: values in the order of the log, then queues by their
    /// numbers. All of it is on the medium when this returns.
    pub fn open(
        disk: D,
        options: &Options,
        mut each: impl FnMut(Found<'_>),
    ) -> Result<(Store<D>, Report), StoreError> {
        let mut disk = disk;
        let survey = Survey::of(&mut disk)?;
        let mut report = Report::default();
        set_aside(&mut disk, &survey, &mut report);
        let mut store = Store::new(disk, options, survey.next_file);
        let spare = |(_, length): &&(u32, u64)| *length == u64::from(options.segment_bytes);
        store
            .spares
            .extend(survey.blank.iter().filter(spare).map(|(file, _)| file));
        store.replay(&survey, &mut report)?;
        store.tell(&mut report, &mut each)?;
        store.prepare();
        Ok((store, report))
    }

    fn replay(&mut self, survey: &Survey, report: &mut Report) -> Result<(), StoreError> {
        let Some((&newest, (file, header))) = survey.segments.last_key_value() else {
            self.disk
                .sync_directory()
                .map_err(|error| failed(&self.disk, error))?;
            self.index.settle();
            return self.switch(0);
        };
        let mut bytes = Vec::new();
        survey.load(&mut self.disk, newest, &mut bytes);
        // What was needed when its last frame was written: what is older may be there or not.
        let mut first = header.first;
        for step in Walk::new(&bytes, header, None) {
            if let Step::Frame(frame) = step {
                first = first.max(frame.first);
            }
        }
        first = first.min(newest);
        let mut expected = first;
        for (&sequence, (file, header)) in survey.segments.range(first..) {
            if sequence != expected {
                report.missing(expected);
            }
            expected = sequence + 1;
            survey.load(&mut self.disk, sequence, &mut bytes);
            let mut walk = Walk::new(&bytes, header, survey.end(sequence));
            let mut segment = Segment::new(*file, header);
            for step in &mut walk {
                match step {
                    Step::Frame(frame) => self.index.apply_all(sequence, frame.at, frame.records),
                    Step::Gap { from, to } => {
                        segment.gaps.push((from as u32, to as u32));
                        report.damage(&mut self.disk, sequence, from, &bytes[from..to]);
                    }
                }
            }
            segment.used = walk.at() as u32;
            report.is_torn |= walk.is_torn();
            self.tail = Tail::new(sequence, &segment, walk.last_crc());
            self.index.segments.insert(sequence, segment);
        }
        self.index.settle();
        (self.first, self.first_written) = (first, first);
        let tail = bytes.get(self.tail.end..).unwrap_or_default();
        let wiped = match tail.first_chunk::<FRAME>() {
            // The next commit may be lost but for the part that this one lacks: neither may count.
            Some(head) if head != &[0; FRAME] && self.tail.room() >= FRAME => {
                self.disk.write(*file, self.tail.end as u64, &[0; FRAME])
            }
            _ => Ok(()),
        };
        // What was read may be in the kernel only. Nothing is told or built on it before it is not.
        let synced = wiped
            .and_then(|()| self.disk.sync(*file))
            .and_then(|()| self.disk.sync_directory());
        synced.map_err(|error| failed(&self.disk, error))?;
        for (_, (file, header)) in survey.segments.range(..first) {
            self.release(*file, header.size);
        }
        Ok(())
    }

    fn tell(
        &mut self,
        report: &mut Report,
        each: &mut impl FnMut(Found<'_>),
    ) -> Result<(), StoreError> {
        for (segment, offset) in self.index.places() {
            report.values += 1;
            match self
                .window
                .record(&mut self.disk, &self.index, segment, offset)?
            {
                Record::Put { key, value } => each(Found::Value { key, value }),
                _ => return Err(damaged(&self.disk, segment, offset)),
            }
        }
        for queue in self.index.queues() {
            let (len, bytes) = (self.queue_len(queue), self.queue_bytes(queue));
            report.messages += len;
            each(Found::Queue { queue, len, bytes });
        }
        Ok(())
    }
}

impl Report {
    fn missing(&mut self, segment: u32) {
        self.damage.push(Damage {
            segment,
            offset: 0,
            bytes: 0,
            kept: None,
        });
    }

    /// That there is no room to keep it does not keep the store from starting.
    fn damage(&mut self, disk: &mut impl Disk, segment: u32, offset: usize, bytes: &[u8]) {
        let name = format!(".corrupt-{segment}-{offset}");
        let kept = disk.keep(&name, bytes).is_ok();
        self.damage.push(Damage {
            segment,
            offset: offset as u32,
            bytes: bytes.len() as u32,
            kept: kept.then_some(name),
        });
    }
}

fn set_aside(disk: &mut impl Disk, survey: &Survey, report: &mut Report) {
    for (file, length) in &survey.unknown {
        let name = format!(".corrupt-file-{file:08x}");
        let kept = disk.rename(*file, &name).is_ok();
        report.damage.push(Damage {
            segment: *file,
            offset: 0,
            bytes: (*length).try_into().unwrap_or(u32::MAX),
            kept: kept.then_some(name),
        });
    }
    for segment in &survey.half {
        report.damage.push(Damage {
            segment: *segment,
            offset: 0,
            bytes: HEADER as u32,
            kept: None,
        });
    }
}

fn failed(disk: &impl Disk, error: io::Error) -> StoreError {
    StoreError::Failed {
        place: disk.place(),
        doing: "read the store",
        error,
    }
}
