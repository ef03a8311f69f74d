//! From what is on the disk to a store that works, whatever is on the disk.
//!
//! Headers are read first and tell which files are segments, in which order, and which of them are
//! needed. These are read once, one at a time, into the index; then the values that live are read
//! again and told. What is bad is kept aside, said, and stepped over. Only then the log is written,
//! behind what was read, so a second failure finds what the first one found.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use super::disk::{Disk, next_piece, read_some};
use super::error::{StoreError, rot};
use super::format::{HEADER, Header, VERSION, Walk};
use super::index::Segment;
use super::queue::Queue;
use super::{Durability, Options, Store};
use crate::record::{Batch, Record};

const DOING: &str = "read the store";

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
    /// Which segment or file, and where in it.
    pub part: String,
    /// None are known of a segment that is missing.
    pub bytes: u64,
    /// The name of the file where it was set aside, if there was room for it.
    pub kept: Option<String>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { part, bytes, kept } = self;
        match (bytes, kept) {
            (0, _) => write!(f, "the store lacks {part}, and maybe more behind it"),
            (_, None) => write!(f, "{bytes} bytes have gone bad in {part}"),
            (_, Some(name)) => write!(f, "{bytes} bytes have gone bad in {part}, kept as {name}"),
        }
    }
}

impl Report {
    fn damage(&mut self, part: String, bytes: u64, kept: Option<String>) {
        self.damage.push(Damage { part, bytes, kept });
    }
}

/// The files of a disk, by what their headers say.
#[derive(Debug, Default)]
pub struct Survey {
    /// By sequence.
    pub segments: BTreeMap<u32, Segment>,
    /// Those with no header yet, and their lengths.
    pub blank: Vec<(u32, u64)>,
    /// Those whose header cannot be told.
    pub unknown: Vec<(u32, u64)>,
    pub next_file: u32,
    other_version: Option<u32>,
}

impl Survey {
    pub fn of(disk: &mut impl Disk) -> Result<Survey, StoreError> {
        let (survey, place) = (Survey::read(disk), disk.place());
        let survey = survey.map_err(|error| StoreError::new(disk, DOING, error))?;
        match survey.other_version {
            Some(version) => Err(StoreError::Version { place, version }),
            None => Ok(survey),
        }
    }

    fn read(disk: &mut impl Disk) -> io::Result<Survey> {
        let mut survey = Survey::default();
        let mut files = disk.list()?;
        files.sort_unstable();
        for (file, length) in files {
            survey.next_file = survey.next_file.max(file.saturating_add(1));
            let mut copies = [[0; HEADER]; 2];
            disk.read(file, 0, &mut copies[0])?;
            disk.read(file, length.saturating_sub(HEADER as u64), &mut copies[1])?;
            let headers = copies.iter().filter_map(Header::decode);
            let is_blank = copies == [[0; HEADER]; 2];
            match headers.max_by_key(|header| (header.version, header.sequence)) {
                Some(header) if header.version != VERSION => {
                    survey.other_version = Some(header.version);
                }
                Some(header) if !survey.segments.contains_key(&header.sequence) => {
                    let segment = Segment::new(file, header);
                    survey.segments.insert(header.sequence, segment);
                }
                None if is_blank => survey.blank.push((file, length)),
                _ => survey.unknown.push((file, length)),
            }
        }
        Ok(survey)
    }

    /// The oldest segment that was needed when the last frame was written. What is older may be
    /// there or not.
    fn first(&self, disk: &mut impl Disk, bytes: &mut Vec<u8>) -> u32 {
        let Some((&newest, segment)) = self.segments.last_key_value() else {
            return 0;
        };
        let needed = self.walk(disk, newest, bytes).map(|frame| frame.first);
        needed.fold(segment.header.first, u32::max).min(newest)
    }

    /// Over the frames of a segment that is there. Of its bytes, what cannot be read is zeros.
    pub fn walk<'a>(
        &self,
        disk: &mut impl Disk,
        sequence: u32,
        bytes: &'a mut Vec<u8>,
    ) -> Walk<'a> {
        let segment = &self.segments[&sequence];
        bytes.clear();
        bytes.resize(segment.header.size as usize, 0);
        let mut at = 0;
        while at < bytes.len() {
            match read_some(disk, segment.file, at as u64, &mut bytes[at..]) {
                Ok(0) => break,
                Ok(read) => at += read,
                Err(_) => at += next_piece(at as u64) as usize,
            }
        }
        let successor = self.segments.get(&(sequence + 1));
        let end = successor.map(|successor| successor.header.previous_end);
        Walk::new(bytes, segment.mark, end)
    }
}

impl<D: Disk> Store<D> {
    /// Recovers, and tells each key and its value, in the order of the log. All that is there is on
    /// the medium when this returns.
    pub fn open(
        mut disk: D,
        options: &Options,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(Store<D>, Report), StoreError> {
        let survey = Survey::of(&mut disk)?;
        let mut report = Report::default();
        for (file, length) in &survey.unknown {
            let name = format!(".corrupt-file-{file:08x}");
            let kept = disk.rename(*file, &name).is_ok().then_some(name);
            report.damage(format!("file {file:08x}"), *length, kept);
        }
        let mut store = Store::new(disk, options, &survey);
        let mut recovered = store.replay(survey, &mut report);
        recovered = recovered.and_then(|()| store.tell(&mut report, &mut each));
        recovered.map_err(|error| StoreError::new(&store.disk, DOING, error))?;
        match store.index.segments.is_empty() {
            true => store.switch(0)?,
            false => store.part_from_before()?,
        }
        store.prepare();
        Ok((store, report))
    }

    fn replay(&mut self, mut survey: Survey, report: &mut Report) -> io::Result<()> {
        let mut bytes = Vec::new();
        let first = survey.first(&mut self.disk, &mut bytes);
        let needed: Vec<u32> = survey.segments.range(first..).map(|(n, _)| *n).collect();
        let mut expected = first;
        for sequence in needed {
            if sequence != expected {
                report.damage(format!("segment {expected}"), 0, None);
            }
            expected = sequence + 1;
            let mut walk = survey.walk(&mut self.disk, sequence, &mut bytes);
            for frame in &mut walk {
                self.index.apply_all(sequence, frame.at, frame.records);
            }
            report.is_torn |= walk.is_torn();
            let (used, chain, gaps) = (walk.at, walk.last_crc(), walk.gaps);
            for gap in &gaps {
                let name = format!(".corrupt-{sequence}-{}", gap.start);
                let kept = self.disk.keep(&name, &bytes[gap.clone()]);
                let part = format!("segment {sequence} at byte {}", gap.start);
                report.damage(part, gap.len() as u64, kept.is_ok().then_some(name));
            }
            if let Some(segment) = survey.segments.get_mut(&sequence) {
                (segment.used, segment.synced) = (used, used);
                (segment.chain, segment.gaps) = (chain, gaps);
            }
        }
        self.index.segments = survey.segments.split_off(&first);
        self.index.settle();
        self.first_written = first;
        // What was read may be in the kernel only. Nothing is told or built on it before it is not.
        if let Some(tail) = self.index.segments.values().next_back() {
            self.disk.sync(tail.file)?;
        }
        self.disk.sync_directory()?;
        for segment in survey.segments.into_values() {
            self.release(segment);
        }
        Ok(())
    }

    /// Writes what was never written before, over the head of a torn frame if there is one. So what
    /// lies behind the end, of commits that were lost, follows nothing that is written from now on,
    /// be it the same as what it followed; nor can a part of what is written make it whole.
    fn part_from_before(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(&self.options.nonce.to_le_bytes());
        match self.commit(&batch, Durability::Synced) {
            // Where this does not fit, there is no room for two commits, nor a boundary of sectors.
            Err(StoreError::Full { .. }) => Ok(()),
            done => done,
        }
    }

    fn tell(&mut self, report: &mut Report, each: &mut impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        for place in self.index.values() {
            report.values += 1;
            match self.window.record(&mut self.disk, &self.index, place)? {
                (Record::Put { key, value }, _) => each(key, value),
                _ => return Err(rot(place)),
            }
        }
        report.messages = self.index.queues.values().map(Queue::len).sum();
        Ok(())
    }
}
