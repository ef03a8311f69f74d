//! Password files: reading them, checking passwords against them while the loop runs, and `midge
//! passwd`, which writes them.
//!
//! | File | What |
//! |---|---|
//! | `hash.rs` | one hash: its text, and how a guess becomes one |
//! | `users.rs` | a file of them |
//! | `door.rs` | checks a little in each turn; the [`Gate`] of `net` |
//! | `strikes.rs` | who waits because of wrong passwords |
//! | `edit.rs`, `command.rs`, `terminal.rs` | `midge passwd` |

pub mod command;
mod door;
mod edit;
pub mod hash;
mod strikes;
mod terminal;
pub mod users;

use std::fs::File;
use std::io::{self, Read};
use std::time::Instant;

pub use door::{Door, ITERATIONS_PER_TURN, KNOWN_MAX, Secret};
pub use strikes::{ADDRESSES_MAX, DELAY, DELAY_MAX, FORGIVEN_AFTER, HELD_MAX};

use crate::net::Gate;
use users::Users;

/// Who checks passwords against that file, and a sentence about it; or what is wrong with it.
pub fn open(path: &str) -> Result<(Box<dyn Gate>, String), Vec<String>> {
    let users = Users::read(path)?;
    let summary = match users.len() {
        1 => format!("{path} has 1 user"),
        count => format!("{path} has {count} users"),
    };
    let mut secret = Secret::default();
    chance(&mut secret).map_err(|sentence| vec![sentence])?;
    let door = Door::new(users, &secret, Instant::now());
    Ok((Box::new(door), summary))
}

/// Fills `bytes` with what nobody can foresee.
fn chance(bytes: &mut [u8]) -> Result<(), String> {
    let result: io::Result<()> =
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes));
    result.map_err(|error| format!("/dev/urandom: {error}"))
}
