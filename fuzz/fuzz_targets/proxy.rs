//! PROXY headers, see tests/fuzz/proxy.rs.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/proxy.rs"]
mod proxy;

fuzz_target!(|bytes: &[u8]| proxy::run(bytes));
