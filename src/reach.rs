//! Why a file cannot be opened: in the sandbox midge reaches no further than at its start.
//!
//! The walls are the business of `sandbox`. Here is that they stand, and nothing else: a fact of
//! the thread that they hold for, so that whoever opens a file can say what keeps it from that, and
//! need not know whether there is a sandbox at all.

use std::cell::Cell;
use std::io;

thread_local! {
    static IS_CONFINED: Cell<bool> = const { Cell::new(false) };
}

/// From now on files may be out of reach.
pub fn confine() {
    IS_CONFINED.set(true);
}

/// Why something could not be opened, with what may be behind it.
pub fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied if IS_CONFINED.get() => io::Error::new(
            error.kind(),
            format!(
                "{error}; the sandbox reaches only the directories of the start: restart midge"
            ),
        ),
        _ => error,
    }
}
