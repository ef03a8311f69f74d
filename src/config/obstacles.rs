//! What a start would stumble upon besides the settings: users and directories that are not there.
//!
//! `--test-config` looks for them, and changes nothing: whether a port is free, and whether midge
//! may write where it wants to, is known only by trying.

use std::path::Path;

use super::Config;
use super::listener::Draft;
use super::read::{Given, Verdict, canonical};
use crate::net::Host;

/// As `file:line: setting: sentence`.
#[derive(Debug, Default)]
pub struct Obstacles {
    /// Nothing comes of it.
    pub faults: Vec<String>,
    /// A unit makes directories before it starts midge, as Debian's does: they may be there then.
    pub missing: Vec<String>,
}

/// One of them.
enum Obstacle {
    Fault(String),
    Missing(String),
}

pub fn obstacles(config: &Config) -> Obstacles {
    let counts = |given: &&Given| !matches!(given.verdict, Verdict::Ignored(_));
    let given = config.given.iter().filter(counts);
    let of_settings = given.filter_map(|given| {
        let obstacle = of_setting(config, given)?;
        let origin = match given.place.starts_with("--") {
            true => format!("{} {}", given.place, given.text),
            false => format!("{}: {} {}", given.place, given.name, given.text),
        };
        Some((origin, obstacle))
    });
    let of_listeners = config.drafts.iter().filter_map(of_listener);
    let mut obstacles = Obstacles::default();
    for (origin, obstacle) in of_settings.chain(of_listeners) {
        match obstacle {
            Obstacle::Fault(why) => obstacles.faults.push(format!("{origin}: {why}")),
            Obstacle::Missing(name) => obstacles.missing.push(format!(
                "{origin}: there is no directory {name}; it must be there when midge starts"
            )),
        }
    }
    obstacles
}

fn of_setting(config: &Config, given: &Given) -> Option<Obstacle> {
    let name = given.name.replace('-', "_");
    match canonical(&name) {
        "pid_file" => no_directory_for(&given.text),
        "log_dest" => no_directory_for(given.text.strip_prefix("file ")?.trim()),
        "persistence_location" if config.persistence => no_room_for(&given.text),
        "user" => no_user(config.user_to_become()?),
        _ => None,
    }
}

/// Of a Unix socket: where it is to be, and whose.
fn of_listener(draft: &Draft) -> Option<(String, Obstacle)> {
    let Host::Unix(path) = &draft.address.host else {
        return None;
    };
    let unknown = draft.address.file.ids().err().map(Obstacle::Fault);
    let obstacle = unknown.or_else(|| no_directory_for(path))?;
    Some((draft.address.origin.clone(), obstacle))
}

#[cfg(feature = "user")]
fn no_user(name: &str) -> Option<Obstacle> {
    let is_unknown = matches!(crate::user::find(name), Ok(None));
    is_unknown.then(|| Obstacle::Fault("there is no such user".to_string()))
}

#[cfg(not(feature = "user"))]
fn no_user(_: &str) -> Option<Obstacle> {
    let why = "this midge was built without that".to_string();
    Some(Obstacle::Fault(why))
}

/// A file there could not be made.
fn no_directory_for(path: &str) -> Option<Obstacle> {
    let directory = Path::new(path).parent()?;
    let is_there = directory.as_os_str().is_empty() || directory.is_dir();
    (!is_there).then(|| Obstacle::Missing(directory.display().to_string()))
}

/// A directory that could not be made, with those above it.
fn no_room_for(path: &str) -> Option<Obstacle> {
    let mut all = Path::new(path).ancestors();
    let there = all.find(|one| one.exists())?;
    let name = there.display();
    (!there.is_dir()).then(|| Obstacle::Fault(format!("{name} is no directory")))
}
