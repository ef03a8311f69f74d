//! What can go wrong with a store, in a sentence that says where, and what helps.

use std::error::Error;
use std::fmt;
use std::io;

#[derive(Debug)]
pub enum StoreError {
    /// Another process has it.
    Locked { place: String },
    /// The format of a version that this one does not know.
    Version { place: String, version: u32 },
    /// No room. Nothing of the batch was kept; smaller ones may still fit.
    Full { place: String, error: io::Error },
    /// A batch beyond what a segment can address.
    TooLarge { bytes: usize },
    /// The disk refused. If it was a write or a sync, the store takes no more.
    Failed {
        place: String,
        doing: &'static str,
        error: io::Error,
    },
    /// A write or a sync failed before: what is on the medium is not known.
    Broken { place: String },
    /// What was written cannot be read any more.
    Damaged {
        place: String,
        segment: u32,
        offset: u32,
    },
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
                "{place} was written in format {version}, this midge knows {}: use the midge \
                 that wrote it, or another directory",
                super::format::VERSION
            ),
            StoreError::Full { place, error } => write!(
                f,
                "no room in {place} ({error}): make space there, midge goes on by itself"
            ),
            StoreError::TooLarge { bytes } => {
                write!(f, "{bytes} bytes are too many to be kept at once")
            }
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
            StoreError::Damaged {
                place,
                segment,
                offset,
            } => write!(
                f,
                "segment {segment} of {place} has gone bad at byte {offset}: start midge again, it \
                 sets the bad part aside"
            ),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StoreError::Full { error, .. } | StoreError::Failed { error, .. } => Some(error),
            StoreError::Locked { .. }
            | StoreError::Version { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Broken { .. }
            | StoreError::Damaged { .. } => None,
        }
    }
}
