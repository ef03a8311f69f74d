//! ACL files: how they are read (`file.rs`), what they answer (`table.rs`), and where the broker
//! asks (`stories.rs`), on a virtual clock.

#[path = "../common/mod.rs"]
mod common;
mod file;
mod stories;
mod table;
