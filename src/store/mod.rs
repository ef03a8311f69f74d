//! A log of keyed values and of queues that survives a power cut. It knows no MQTT.
//!
//! | Where | What |
//! |---|---|
//! | `format.rs` | bytes ⇄ header, frame; the records in it are [`crate::record`]s |
//! | `disk.rs` | [`Disk`]: the few verbs it needs; [`Directory`] has them |
//! | `index.rs`, `queue.rs` | what is where; in memory |
//! | `window.rs` | records read where they lie |
//! | `mod.rs` | append, sync, the next segment, fetch |
//! | `compact.rs` | copying out of the oldest segment what still counts |
//! | `recover.rs` | from files of any content to a store that works |
//! | `dump.rs` | printing it |
//!
//! A batch is one frame: it survives as a whole or not at all, and only behind all before it.
//! A segment is used again once a frame or header that says it is not needed is on the medium.
//! `docs/store.md` has the bytes, the rules, and what is done about each kind of damage.

mod compact;
mod disk;
mod dump;
mod error;
mod format;
mod index;
mod queue;
mod recover;
mod window;

use std::io;

pub use disk::{Directory, Disk};
pub use dump::dump;
pub use error::StoreError;
pub use recover::{Damage, Report};

use crate::record::{Batch, Record};
use compact::Compaction;
use error::rot;
use format::{FRAME, Frame, HEADER, Header, VERSION};
use index::{Index, Segment};
use recover::Survey;
use window::Window;

/// Segments that are made ahead. Fewer than these, and the store is full: what is left is for
/// taking note of what goes.
const SPARES: usize = 2;
/// More are given back to the file system.
const SPARES_MAX: usize = 4;
/// Commits between two attempts to make a segment.
const PATIENCE: u32 = 64;
/// What the size of a segment is a multiple of: so neither copy of its header can be torn.
const BLOCK: usize = 4096;
/// Larger buffers are not kept.
const BUFFER_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct Options {
    /// Of a segment, unless a batch needs a larger one; a multiple of 4096.
    pub segment_bytes: u32,
    /// Drawn anew by the caller at each start, and nobody else's to know.
    pub nonce: u64,
}

impl Options {
    pub fn new(nonce: u64) -> Options {
        Options {
            segment_bytes: 1 << 20,
            nonce,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// On the medium when the call returns.
    Synced,
    /// With the kernel: a later sync, or luck, brings it to the medium.
    Written,
}

/// All numbers since the store was opened, but for the sizes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    pub bytes_written: u64,
    /// Of these, what compaction copied.
    pub bytes_copied: u64,
    pub syncs: u64,
    /// What still counts, about.
    pub live_bytes: u64,
    /// What the files take.
    pub total_bytes: u64,
    pub segments: usize,
    /// The oldest segment has gone bad since it was read, so no room is won back before a restart.
    pub is_damaged: bool,
}

#[derive(Debug)]
pub struct Store<D> {
    disk: D,
    options: Options,
    index: Index,
    /// The oldest segment that is needed, as the latest frame or header says.
    first_written: u32,
    /// Files that may be written over. The first one is taken first.
    spares: Vec<u32>,
    next_file: u32,
    /// Commits until another attempt to make a spare.
    patience: u32,
    compaction: Compaction,
    /// What is about to be appended.
    frame: Batch,
    window: Window,
    figures: Figures,
    is_broken: bool,
}

impl<D: Disk> Store<D> {
    fn new(disk: D, options: &Options, survey: &Survey) -> Store<D> {
        let usual = u64::from(options.segment_bytes);
        let spares = survey.blank.iter().filter(|(_, length)| *length == usual);
        Store {
            disk,
            options: options.clone(),
            index: Index::new(options.nonce),
            first_written: 0,
            spares: spares.map(|(file, _)| *file).collect(),
            next_file: survey.next_file,
            patience: 0,
            compaction: Compaction::default(),
            frame: Batch::new(),
            window: Window::default(),
            figures: Figures::default(),
            is_broken: false,
        }
    }

    /// All of the batch or nothing of it. On an error it counts for nothing, but it may turn up
    /// after a restart.
    pub fn commit(&mut self, batch: &Batch, durability: Durability) -> Result<(), StoreError> {
        self.check()?;
        if !batch.is_empty() {
            self.frame.clear();
            self.frame.bytes_mut().resize(FRAME, 0);
            self.copy(batch.len());
            let copied = self.frame.len() - FRAME;
            self.frame.bytes_mut().extend_from_slice(batch.bytes());
            if let Err(error) = self.append() {
                self.compaction = Compaction::default();
                return Err(error);
            }
            self.figures.bytes_copied += copied as u64;
        }
        if durability == Durability::Synced {
            self.sync()?;
        }
        self.prepare();
        Ok(())
    }

    /// Brings to the medium all that was committed.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let (_, tail) = self.index.tail();
        if tail.synced == tail.used {
            return Ok(());
        }
        match self.disk.sync(tail.file) {
            Ok(()) => tail.synced = tail.used,
            Err(error) => return Err(self.broken("sync the log", error)),
        }
        self.figures.syncs += 1;
        self.free();
        Ok(())
    }

    /// The messages that wait behind `after`, or from the front: as many as have `bytes_max` in
    /// their bodies, but one at least. `each` is given sequence, extra and body.
    pub fn fetch(
        &mut self,
        queue: u32,
        after: Option<u32>,
        bytes_max: usize,
        mut each: impl FnMut(u32, &[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let Some(waiting) = self.index.queues.get(&queue) else {
            return Ok(());
        };
        let mut bytes = 0;
        for entry in waiting.behind(after) {
            let length = entry.length() as usize;
            if bytes > 0 && bytes + length > bytes_max {
                break;
            }
            bytes += length.max(1);
            let read = self.window.record(&mut self.disk, &self.index, entry.place);
            let message = read.and_then(|(record, _)| match record {
                Record::Message { mut refs, body } => refs
                    .find(|found| (found.queue, found.sequence) == (queue, entry.sequence))
                    .map(|found| (found.extra, body))
                    .ok_or_else(|| rot(entry.place)),
                _ => Err(rot(entry.place)),
            });
            let failed = |error| StoreError::new(&self.disk, "read the log", error);
            let (extra, body) = message.map_err(failed)?;
            each(entry.sequence, extra, body);
        }
        Ok(())
    }

    /// The numbers of the queues in which something waits, in their order.
    pub fn queues(&self) -> Vec<u32> {
        self.index.queues.keys().copied().collect()
    }

    /// Sequence and length of the body of each message that waits there, in order.
    pub fn waiting(&self, queue: u32) -> impl Iterator<Item = (u32, u32)> {
        let queue = self.index.queues.get(&queue).into_iter();
        let entries = queue.flat_map(|queue| queue.behind(None));
        entries.map(|entry| (entry.sequence, entry.length()))
    }

    /// No more room can be had, and what is left should be used for what goes only.
    pub fn is_full(&self) -> bool {
        self.spares.len() < SPARES
    }

    pub fn figures(&self) -> Figures {
        let (live_bytes, _) = self.index.live_and_used();
        let segments = self.index.segments.values();
        let sizes = segments.map(|segment| u64::from(segment.header.size));
        let spares = self.spares.len() as u64 * u64::from(self.options.segment_bytes);
        Figures {
            live_bytes: live_bytes as u64,
            total_bytes: sizes.sum::<u64>() + spares,
            segments: self.index.segments.len(),
            ..self.figures
        }
    }

    fn append(&mut self) -> Result<(), StoreError> {
        let need = self.frame.len();
        if need > self.index.tail().1.room() {
            self.sync()?;
            self.switch(need)?;
        }
        let first = self.index.first();
        let (newest, tail) = self.index.tail();
        let first = first.unwrap_or(newest);
        let frame = self.frame.bytes_mut();
        let crc = Frame::seal(frame, tail.mark, tail.chain, tail.synced as u32, first);
        if let Err(error) = self.disk.write(tail.file, tail.used as u64, frame) {
            let error = StoreError::new(&self.disk, "write the log", error);
            self.is_broken = !matches!(error, StoreError::Full { .. });
            return Err(error);
        }
        self.first_written = first;
        self.figures.bytes_written += need as u64;
        let start = tail.used;
        tail.used += need;
        tail.chain = crc;
        self.index.apply_all(newest, start, &frame[FRAME..]);
        frame.clear();
        frame.shrink_to(BUFFER_MAX);
        Ok(())
    }

    /// Goes on in another segment, which has room for a frame of `need` bytes. What is in the one
    /// before it is on the medium: this one's header says that it was whole.
    fn switch(&mut self, need: usize) -> Result<(), StoreError> {
        let (file, size) = self
            .file_for(need)
            .map_err(|error| StoreError::new(&self.disk, "make room for the log", error))?;
        let previous = self.index.segments.last_key_value();
        let (previous, previous_end) = previous.map_or((0, 0), |(of, tail)| (*of, tail.used));
        let (sequence, first) = (previous + 1, self.index.first());
        let header = Header {
            version: VERSION,
            size,
            sequence,
            first: first.unwrap_or(sequence),
            previous_end: previous_end as u32,
            nonce: self.options.nonce,
        };
        let mut copies = [0, size as usize - HEADER].into_iter();
        let written = copies
            .try_for_each(|at| self.disk.write(file, at as u64, &header.encode()))
            .and_then(|()| self.disk.sync(file));
        written.map_err(|error| self.broken("begin a segment of the log", error))?;
        self.figures.syncs += 1;
        self.figures.bytes_written += 2 * HEADER as u64;
        self.spares.retain(|spare| *spare != file);
        self.first_written = header.first;
        let segments = &mut self.index.segments;
        segments.insert(sequence, Segment::new(file, header));
        self.free();
        Ok(())
    }

    /// A file that takes a frame of `need` bytes, and its size.
    fn file_for(&mut self, need: usize) -> io::Result<(u32, u32)> {
        let usual = self.options.segment_bytes;
        let least = (need + 2 * HEADER).next_multiple_of(BLOCK);
        let size = usual.max(u32::try_from(least).map_err(|_| io::ErrorKind::FileTooLarge)?);
        match self.spares.first() {
            Some(spare) if size == usual => Ok((*spare, size)),
            _ => Ok((self.create(size)?, size)),
        }
    }

    /// Makes room ahead, and gives back what is too much: one file at a time.
    fn prepare(&mut self) {
        if self.spares.len() > SPARES_MAX
            && let Some(file) = self.spares.pop()
        {
            // One that stays is found as a spare by the next start.
            self.disk.remove(file).unwrap_or_default();
        }
        self.patience = self.patience.saturating_sub(1);
        while self.is_full() && self.patience == 0 {
            match self.create(self.options.segment_bytes) {
                Ok(file) => self.spares.push(file),
                Err(_) => self.patience = PATIENCE,
            }
        }
    }

    fn create(&mut self, size: u32) -> io::Result<u32> {
        let file = self.next_file;
        self.next_file = file.saturating_add(1);
        self.disk.create(file, u64::from(size))?;
        let synced = self.disk.sync(file);
        let synced = synced.and_then(|()| self.disk.sync_directory());
        if synced.is_err() {
            self.disk.remove(file).unwrap_or_default();
        }
        synced.map(|()| file)
    }

    /// What is on the medium says which segments are not needed: these may be written over.
    fn free(&mut self) {
        while let Some(oldest) = self.index.segments.first_entry()
            && *oldest.key() < self.first_written
        {
            let segment = oldest.remove();
            self.release(segment);
        }
    }

    fn release(&mut self, segment: Segment) {
        match segment.header.size == self.options.segment_bytes {
            true => self.spares.push(segment.file),
            false => self.disk.remove(segment.file).unwrap_or_default(),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_broken {
            let place = self.disk.place();
            return Err(StoreError::Broken { place });
        }
        Ok(())
    }

    /// What is on the medium is not known any more, and trying again would not tell.
    fn broken(&mut self, doing: &'static str, error: io::Error) -> StoreError {
        self.is_broken = true;
        // A sync that found no room has failed like any other.
        StoreError::new(&self.disk, doing, io::Error::other(error))
    }
}
