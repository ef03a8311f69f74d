//! What can go wrong with a store, in a sentence that says where, and what helps.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

use super::disk::Disk;
use super::format::{Place, VERSION};

#[derive(Debug)]
pub enum StoreError {
    /// Another process has it.
    Locked { place: String },
    /// The format of a version that this one does not know.
    Version { place: String, version: u32 },
    /// No room, or no file can be opened now. Nothing of a batch was kept; smaller ones may fit.
    Full { place: String, error: io::Error },
    /// The disk refused. If it was a write or a sync, the store takes no more.
    Failed {
        place: String,
        doing: &'static str,
        error: io::Error,
    },
    /// A write or a sync failed before: what is on the medium is not known.
    Broken { place: String },
}

impl StoreError {
    /// Want of room is no fault.
    pub(super) fn new(disk: &impl Disk, doing: &'static str, error: io::Error) -> StoreError {
        let place = disk.place();
        match is_short(&error) {
            true => StoreError::Full { place, error },
            false => StoreError::Failed {
                place,
                doing,
                error,
            },
        }
    }
}

/// Whether it may go well later: the disk is full, or the system is short of something.
pub fn is_short(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    let kinds = [StorageFull, QuotaExceeded, FileTooLarge, OutOfMemory];
    let files = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    kinds.contains(&error.kind()) || files.contains(&error.raw_os_error())
}

/// What was written cannot be read any more.
pub fn rot(place: Place) -> io::Error {
    let Place { segment, offset } = place;
    let said = format!("segment {segment} is bad at {offset}, a new start sets that aside");
    io::Error::other(said)
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Locked { place } => write!(
                f,
                "{place} is in use by another process: stop that one, or choose another directory"
            ),
            StoreError::Version { place, version } => write!(
                f,
                "{place} was written in format {version}, this midge knows {VERSION}: use the \
                 midge that wrote it, or another directory"
            ),
            StoreError::Full { place, error } => write!(
                f,
                "no room in {place} ({error}): make space there, midge goes on by itself"
            ),
            StoreError::Failed {
                place,
                doing,
                error,
            } => write!(
                f,
                "cannot {doing} in {place}: {error}; check its permissions and the medium"
            ),
            StoreError::Broken { place } => write!(
                f,
                "{place} failed before and takes no more: check the medium, then start midge again"
            ),
        }
    }
}

impl Error for StoreError {}
