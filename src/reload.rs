//! What stands in files of its own and says who may do what: read at the start, and again on
//! SIGHUP, with all else.
//!
//! All of it is read and checked before any of it is used, so that a faulty file changes nothing.

use std::fs::{self, File};
use std::io::Read;

use log::{info, warn};

use crate::broker::acl_file::{self, AclFile};
use crate::broker::limits::Limits;
use crate::net::{Gate, Server};

/// The files, by name.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub passwords: Option<String>,
    pub acl: Option<String>,
}

/// What was read, and is good.
pub struct Fresh {
    users: Option<Users>,
    acl: Option<AclFile>,
}

struct Users {
    gate: Box<dyn Gate>,
    /// What was read.
    summary: String,
    /// What may not be what was meant.
    warning: Option<String>,
}

impl Files {
    /// Reads all of them; or says all that is wrong, as `file:line: sentence`.
    pub fn read(&self) -> Result<Fresh, Vec<String>> {
        let users = self.passwords.as_deref().map(users).transpose();
        let acl = self.acl.as_deref().map(acl).transpose();
        match (users, acl) {
            (Ok(users), Ok(acl)) => Ok(Fresh { users, acl }),
            (Err(mut faults), Err(fault)) => {
                faults.push(fault);
                Err(faults)
            }
            (Err(faults), Ok(_)) => Err(faults),
            (Ok(_), Err(fault)) => Err(vec![fault]),
        }
    }

    /// Those that this process may not read, and why.
    pub fn what_cannot_be_opened(&self) -> Vec<String> {
        let all = self.passwords.iter().chain(&self.acl);
        let fault = |path: &String| {
            let error = File::open(path).err()?;
            Some(format!("{path}: cannot be read: {error}"))
        };
        all.filter_map(fault).collect()
    }
}

impl Fresh {
    pub fn acl(&self) -> Option<&AclFile> {
        self.acl.as_ref()
    }

    /// What is in force, and what of it may not be what was meant.
    pub fn sentences(&self) -> Vec<String> {
        let sentences = self.warnings().map(str::to_string);
        sentences.chain(self.in_force()).collect()
    }

    fn warnings(&self) -> impl Iterator<Item = &str> {
        let users = self.users.iter().flat_map(|users| &users.warning);
        let acl = self.acl.iter().flat_map(|file| &file.warnings);
        users.chain(acl).map(String::as_str)
    }

    fn in_force(&self) -> impl Iterator<Item = String> {
        let users = self.users.as_ref().map(|users| users.summary.clone());
        users.into_iter().chain([self.rules()])
    }

    fn rules(&self) -> String {
        let Some(file) = &self.acl else {
            return "Every client may read and write every topic (without an ACL file)".to_string();
        };
        let lines = match file.acl.line_count() {
            1 => "1 line".to_string(),
            count => format!("{count} lines"),
        };
        let name = &file.name;
        format!("Who may read and write what stands in {name} ({lines})")
    }

    /// Puts it in force, for those who are connected too.
    pub fn apply(self, server: &mut Server) {
        for warning in self.warnings() {
            warn!("{warning}.");
        }
        for sentence in self.in_force() {
            info!(target: "notice", "{sentence}.");
        }
        server.broker().set_acl(self.acl);
        server.set_gate(self.users.map(|users| users.gate));
    }
}

#[cfg(feature = "passwords")]
fn users(path: &str) -> Result<Users, Vec<String>> {
    let (gate, summary) = crate::passwords::open(path)?;
    Ok(Users {
        gate,
        summary,
        warning: crate::passwords::users::warning(path),
    })
}

/// Nothing gets here: the setting is refused.
#[cfg(not(feature = "passwords"))]
fn users(_: &str) -> Result<Users, Vec<String>> {
    Err(vec!["this midge was built without passwords".to_string()])
}

fn acl(path: &str) -> Result<AclFile, String> {
    let bytes = read_file(path, Limits::ACL_FILE_BYTES_MAX)?;
    acl_file::parse(path, &bytes)
}

/// A file of at most so many bytes. Nothing but a file: anything else might keep everybody waiting.
fn read_file(path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
    let failed = |error| format!("{path}: cannot be read: {error}");
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{path}: is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    // One byte more tells that there is more.
    let mut file = file.take(bytes_max as u64 + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
