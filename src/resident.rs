//! Memory in use, where allocations are not counted: what of the process is resident.

use std::fs::File;
use std::io::{Read, Seek};

thread_local! {
    /// Held open: in the sandbox it cannot be opened any more.
    static STATUS: Option<File> = File::open("/proc/self/status").ok();
}

/// As Linux counts it.
pub fn in_use() -> u64 {
    let mut status = String::new();
    let read = |mut file: &File| {
        file.rewind()?;
        file.read_to_string(&mut status)
    };
    let _ = STATUS.with(|file| file.as_ref().map(read));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
