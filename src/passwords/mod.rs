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

/// Who checks passwords, and a sentence about each file.
pub type Opened = (Box<dyn Gate>, Vec<String>);

/// Those files, by listener the index of its own, if it has one; or what is wrong with them.
pub fn open(paths: &[&str], of_listeners: Vec<Option<usize>>) -> Result<Opened, Vec<String>> {
    let (mut files, mut sentences, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        match Users::read(path) {
            Ok(users) => {
                sentences.push(match users.len() {
                    1 => format!("{path} has 1 user"),
                    count => format!("{path} has {count} users"),
                });
                files.push(users);
            }
            Err(mut wrong) => faults.append(&mut wrong),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut secret = Secret::default();
    chance(&mut secret).map_err(|sentence| vec![sentence])?;
    let door = Door::new(files, of_listeners, &secret, Instant::now());
    Ok((Box::new(door), sentences))
}

/// Fills `bytes` with what nobody can foresee.
fn chance(bytes: &mut [u8]) -> Result<(), String> {
    let result: io::Result<()> =
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(bytes));
    result.map_err(|error| format!("/dev/urandom: {error}"))
}
