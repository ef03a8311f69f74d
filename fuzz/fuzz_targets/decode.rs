//! The packet decoder, see tests/fuzz/decode.rs.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/decode.rs"]
mod decode;

fuzz_target!(|bytes: &[u8]| decode::run(bytes));
