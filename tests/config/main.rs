//! The configuration file: every option, Mosquitto's syntax, listeners, and files that are none.
//!
//! Files here are in memory, but for those under `tests/config`, which read like what tutorials
//! tell people to write, and those that Debian's package of Mosquitto installs.

#[path = "../common/mod.rs"]
mod common;
mod documents;
mod manual;
mod options;
mod reload;
#[path = "../common/socket.rs"]
mod socket;
mod started;
mod syntax;

use std::collections::BTreeMap;
use std::io;

use midge::config::{Command, Config, Outside};

/// A world with these files only.
#[derive(Default)]
pub struct Files {
    files: BTreeMap<String, Vec<u8>>,
    location: Option<&'static str>,
    is_root: bool,
    user: Option<&'static str>,
}

impl Files {
    /// One file, `m.conf`.
    pub fn main(text: impl AsRef<[u8]>) -> Files {
        Files::default().with("m.conf", text)
    }

    pub fn with(mut self, path: &str, text: impl AsRef<[u8]>) -> Files {
        self.files.insert(path.to_string(), text.as_ref().to_vec());
        self
    }

    pub fn as_root(mut self) -> Files {
        self.is_root = true;
        self
    }

    pub fn as_user(mut self, name: &'static str) -> Files {
        self.user = Some(name);
        self
    }

    pub fn command(&self, flags: &[&str]) -> Result<Command, String> {
        let flags = [&["-c", "m.conf"], flags].concat();
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        Config::read(&flags, self).map_err(|fault| fault.sentence)
    }

    /// What would run.
    pub fn read_with(&self, flags: &[&str]) -> Result<Config, String> {
        match self.command(flags)? {
            Command::Run(config) => Ok(*config),
            other => panic!("{other:?} is no run"),
        }
    }

    pub fn read(&self) -> Result<Config, String> {
        self.read_with(&[])
    }

    pub fn refused(&self) -> String {
        self.read().expect_err("this is not to start")
    }

    /// What `--test-config` says, and whether it is good.
    pub fn tested(&self, flags: &[&str]) -> (String, bool) {
        match self.command(&[flags, &["--test-config"]].concat()) {
            Ok(Command::Test { text, is_good }) => (text, is_good),
            other => panic!("{other:?} is no test"),
        }
    }

    /// What `--print-config` says.
    pub fn printed(&self, flags: &[&str]) -> String {
        match self.command(&[flags, &["--print-config"]].concat()) {
            Ok(Command::Print(text)) => text,
            other => panic!("{other:?} is not printed"),
        }
    }
}

impl Outside for Files {
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        let bytes = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(bytes[..bytes.len().min(bytes_max)].to_vec())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let start = format!("{directory}/");
        let names = self
            .files
            .keys()
            .filter_map(|path| path.strip_prefix(&start));
        let names: Vec<String> = names.map(ToString::to_string).collect();
        match names.is_empty() {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(names),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        let location = self
            .location
            .filter(|_| name == "MOSQUITTO_PERSISTENCE_LOCATION");
        location.map(ToString::to_string)
    }

    fn check(&self, files: &midge::reload::Files) -> Result<Vec<String>, Vec<String>> {
        Ok(vec![format!("{files:?}")])
    }

    fn is_root(&self) -> bool {
        self.is_root
    }

    fn is_user(&self, name: &str) -> bool {
        self.user == Some(name)
    }
}
