//! What stands in files of its own and says who may do what: read at the start, and again on
//! SIGHUP, with all else.
//!
//! All of it is read and checked before any of it is used, so that a faulty file changes nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Instant;

use log::{info, warn};

use crate::broker::acl_file::{self, AclFile};
use crate::broker::explain::{Answer, Question};
use crate::broker::limits::Limits;
use crate::net::{Gate, Server};
use crate::reach;

/// The files of each listener.
#[derive(Clone, Debug, Default)]
pub struct Files(pub Vec<ListenerFiles>);

/// By name.
#[derive(Clone, Debug, Default)]
pub struct ListenerFiles {
    /// What it is called where files are not the same for all.
    pub listener: String,
    pub passwords: Option<String>,
    pub acl: Option<String>,
    /// It is for those who have come through it: nobody else comes.
    pub is_gone: bool,
}

/// What was read, and is good.
pub struct Fresh {
    users: Option<Users>,
    acls: Vec<AclFile>,
    /// What each listener is called, and which of those files is its own.
    listeners: Vec<(String, Option<usize>)>,
}

struct Users {
    gate: Box<dyn Gate>,
    /// What was read.
    summaries: Vec<String>,
    /// What may not be what was meant.
    warnings: Vec<String>,
}

impl Files {
    /// Reads all of them; or says all that is wrong, as `file:line: sentence`.
    pub fn read(&self) -> Result<Fresh, Vec<String>> {
        let (paths, of_listeners) = each_once(self.0.iter().map(|one| one.passwords.as_deref()));
        let mut faults = Vec::new();
        let users = match paths.is_empty() {
            true => None,
            false => users(&paths, &of_listeners)
                .map_err(|mut wrong| faults.append(&mut wrong))
                .ok(),
        };
        let (paths, of_listeners) = each_once(self.0.iter().map(|one| one.acl.as_deref()));
        let mut acls = Vec::new();
        for path in paths {
            match acl(path).or_else(|fault| self.without_rules(path, fault)) {
                Ok(file) => acls.push(file),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let names = self.0.iter().map(|one| one.listener.clone());
        Ok(Fresh {
            users,
            acls,
            listeners: names.zip(of_listeners).collect(),
        })
    }

    /// Where only listeners need a file that are gone, nothing is wrong without it: nothing is
    /// allowed to those who are left.
    fn without_rules(&self, path: &str, fault: String) -> Result<AclFile, String> {
        let mut those = self.0.iter().filter(|one| one.acl.as_deref() == Some(path));
        if !those.all(|one| one.is_gone) {
            return Err(fault);
        }
        let mut file = acl_file::parse(path, b"")?;
        file.warnings.push(fault);
        Ok(file)
    }

    /// Those that this process may not read, and why.
    pub fn what_cannot_be_opened(&self) -> Vec<String> {
        let all = self
            .0
            .iter()
            .flat_map(|one| one.passwords.iter().chain(&one.acl));
        let fault = |path: &String| {
            let error = open_file(path).err()?;
            Some(format!("{path}: cannot be read: {error}"))
        };
        all.filter_map(fault).collect()
    }
}

impl Fresh {
    /// Answers a question that was checked: whether it is allowed, in one sentence; through every
    /// listener, where they have rules of their own.
    pub fn answers(&self, question: &Question) -> (bool, Vec<String>) {
        let answer = |rules: Option<usize>| question.answer(rules.map(|index| &self.acls[index]));
        if self.is_one_for_all() {
            let answer = answer(self.listeners.first().and_then(|(_, rules)| *rules));
            return (answer.allowed, vec![answer.sentence]);
        }
        let all = self.listeners.iter();
        let all: Vec<_> = all.map(|(name, rules)| (name, answer(*rules))).collect();
        let sentence = |(name, answer): &(&String, Answer)| format!("{name}: {}", answer.sentence);
        let allowed = all.iter().all(|(_, answer)| answer.allowed);
        (allowed, all.iter().map(sentence).collect())
    }

    /// What is in force, and what of it may not be what was meant.
    pub fn sentences(&self) -> Vec<String> {
        let sentences = self.warnings().map(str::to_string);
        sentences.chain(self.in_force()).collect()
    }

    fn warnings(&self) -> impl Iterator<Item = &str> {
        let users = self.users.iter().flat_map(|users| &users.warnings);
        let acls = self.acls.iter().flat_map(|file| &file.warnings);
        users.chain(acls).map(String::as_str)
    }

    fn in_force(&self) -> Vec<String> {
        let users = self.users.iter().flat_map(|users| &users.summaries);
        let mut sentences: Vec<String> = users.cloned().collect();
        match self.listeners.first() {
            Some((_, rules)) if self.is_one_for_all() => sentences.push(self.rules(*rules)),
            _ => sentences.extend(
                self.listeners
                    .iter()
                    .map(|(name, rules)| format!("{name}: {}", self.rules(*rules))),
            ),
        }
        sentences
    }

    fn is_one_for_all(&self) -> bool {
        self.listeners
            .iter()
            .all(|(_, rules)| *rules == self.listeners[0].1)
    }

    fn rules(&self, rules: Option<usize>) -> String {
        let Some(index) = rules else {
            return "Every client may read and write every topic (without an ACL file)".to_string();
        };
        let file = &self.acls[index];
        let lines = match file.acl.line_count() {
            1 => "1 line".to_string(),
            count => format!("{count} lines"),
        };
        let name = &file.name;
        format!("Who may read and write what stands in {name} ({lines})")
    }

    /// Puts it in force, for those who are connected too.
    pub fn apply(self, server: &mut Server, now: Instant) {
        for warning in self.warnings() {
            warn!("{warning}.");
        }
        for sentence in self.in_force() {
            info!(target: "notice", "{sentence}.");
        }
        let of_listeners: Vec<_> = self.listeners.iter().map(|(_, rules)| *rules).collect();
        server.broker().set_acls(self.acls, &of_listeners);
        server.set_gate(self.users.map(|users| users.gate), now);
    }
}

/// Each name once, and where it stands for each listener.
fn each_once<'a>(
    names: impl Iterator<Item = Option<&'a str>>,
) -> (Vec<&'a str>, Vec<Option<usize>>) {
    let mut distinct = Vec::new();
    let place = |name: Option<&'a str>| {
        let name = name?;
        let found = distinct.iter().position(|other| *other == name);
        Some(found.unwrap_or_else(|| {
            distinct.push(name);
            distinct.len() - 1
        }))
    };
    let places = names.map(place).collect();
    (distinct, places)
}

#[cfg(feature = "passwords")]
fn users(paths: &[&str], of_listeners: &[Option<usize>]) -> Result<Users, Vec<String>> {
    let (gate, summaries) = crate::passwords::open(paths, of_listeners.to_vec())?;
    let warnings = paths
        .iter()
        .filter_map(|path| crate::passwords::users::warning(path));
    Ok(Users {
        gate,
        summaries,
        warnings: warnings.collect(),
    })
}

/// Nothing gets here: the setting is refused.
#[cfg(not(feature = "passwords"))]
fn users(_: &[&str], _: &[Option<usize>]) -> Result<Users, Vec<String>> {
    Err(vec!["this midge was built without passwords".to_string()])
}

fn acl(path: &str) -> Result<AclFile, String> {
    let bytes = read_file(path, Limits::ACL_FILE_BYTES_MAX)?;
    acl_file::parse(path, &bytes)
}

/// Opens it to be read. Nothing but a file: anything else might keep everybody waiting.
pub(crate) fn open_file(path: &str) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path).map_err(reach::explain),
        false => Err(io::Error::other("it is not a file")),
    }
}

/// A file of at most so many bytes.
fn read_file(path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let failed = |error| format!("{path}: cannot be read: {error}");
    let mut bytes = Vec::new();
    let file = open_file(path).map_err(failed)?;
    // One byte more tells that there is more.
    let mut file = file.take(bytes_max as u64 + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
