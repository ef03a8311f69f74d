//! ACL files: how they are read (`file.rs`), what they answer (`table.rs`), and where the broker
//! asks (`stories.rs`), on a virtual clock; the same against Mosquitto itself (`mosquitto.rs`).

#[path = "../common/mod.rs"]
mod common;
mod file;
mod mosquitto;
#[path = "../common/socket.rs"]
mod socket;
mod stories;
mod table;
