//! ACL files, see tests/fuzz/acl.rs.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/acl.rs"]
mod acl;

fuzz_target!(|bytes: &[u8]| acl::run(bytes));
