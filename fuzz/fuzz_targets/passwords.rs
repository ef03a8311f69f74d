//! Password files, see tests/fuzz/passwords.rs.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/passwords.rs"]
mod passwords;

fuzz_target!(|bytes: &[u8]| passwords::run(bytes));
