//! The command line, see tests/fuzz/flags.rs.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/flags.rs"]
mod flags;

fuzz_target!(|bytes: &[u8]| flags::run(bytes));
