//! What midge keeps through power cuts, full disks and broken ones, and that nobody is told more
//! than is kept: the broker and its store on a clock and a disk that do what they are told.

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)] // The crash tests use the rest of it.
#[path = "../crash/disk.rs"]
mod disk;

mod access;
mod acknowledged;
mod board;
mod exactly_once;
mod files;
mod full;
mod memory;
mod odd;
mod queues;
mod recovery;
mod shared;
mod terms;
mod time;
mod wills;
