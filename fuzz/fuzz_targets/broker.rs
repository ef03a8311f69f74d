//! A broker and four hostile connections, see tests/fuzz/broker/mod.rs.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/broker/mod.rs"]
mod broker;

fuzz_target!(|bytes: &[u8]| broker::run(bytes));
