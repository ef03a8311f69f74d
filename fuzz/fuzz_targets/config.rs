//! Configuration files, see tests/fuzz/config.rs.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/config.rs"]
mod config;
#[path = "../../tests/fuzz/flags.rs"]
mod flags;

fuzz_target!(|bytes: &[u8]| config::run(bytes));
