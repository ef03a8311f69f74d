//! What reaches the device: sectors and flushes of a block device if one is named, with all that
//! the file system adds; else what the kernel counts for a process.

use std::fs;
use std::path::Path;
use std::process::Command;

const SECTOR: u64 = 512;

pub struct Device {
    /// As in `/sys/block`.
    name: Option<String>,
}

#[derive(Clone, Copy)]
pub struct Written {
    pub bytes: u64,
    pub flushes: u64,
}

impl Device {
    pub fn named(name: Option<String>) -> Device {
        Device { name }
    }

    pub fn is_block_device(&self) -> bool {
        self.name.is_some()
    }

    /// Writes out what the file system still has, so that it is not counted later.
    pub fn settle(&self, directory: &Path) {
        let synced = Command::new("sync").arg("-f").arg(directory).status();
        assert!(synced.is_ok_and(|status| status.success()));
    }

    pub fn written(&self) -> Written {
        self.written_by("self")
    }

    /// Without a device, by the process with that id.
    pub fn written_by(&self, process: &str) -> Written {
        let Some(name) = &self.name else {
            let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
            let line = io
                .lines()
                .find_map(|line| line.strip_prefix("write_bytes:"));
            let bytes = line.and_then(|line| line.trim().parse().ok());
            return Written {
                bytes: bytes.unwrap_or(0),
                flushes: 0,
            };
        };
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap_or_default();
        let field = |index| {
            let field = stat.split_whitespace().nth(index);
            field.and_then(|field| field.parse::<u64>().ok())
        };
        Written {
            bytes: field(6).unwrap_or(0) * SECTOR,
            flushes: field(15).unwrap_or(0),
        }
    }
}
