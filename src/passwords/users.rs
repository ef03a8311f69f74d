//! A password file, as `mosquitto_passwd` writes it: a line `USER:HASH` for each user.
//!
//! Lines that begin with `#` and lines without `:` say nothing. Everything else must be right, or
//! nothing of the file counts: a user that is left out would be one who cannot get in, and
//! nobody would know. What is wrong is said with its line, and never shows a password or a hash.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use super::hash::Hash;
use crate::reach;

/// Some hundred thousand users.
pub const FILE_BYTES_MAX: u64 = 32 << 20;
/// Of what is wrong, so much is told.
const FAULTS_MAX: usize = 20;
/// Permissions of those who are neither owner nor group.
const OTHERS: u32 = 0o007;

/// The users of one file.
#[derive(Clone, Default)]
pub struct Users {
    hashes: HashMap<Box<str>, Hash>,
    /// Their names, in the order of the file.
    names: Vec<Box<str>>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A comment, or nothing.
    Other,
    /// A name and its hash, or what stands there.
    User(&'a str, &'a str),
}

impl Users {
    /// Reads a file; what is wrong is told line by line.
    pub fn read(path: &str) -> Result<Users, Vec<String>> {
        let text = read_text(path).map_err(|sentence| vec![sentence])?;
        Users::parse(path, &text)
    }

    /// `path` is for what is wrong.
    pub fn parse(path: &str, text: &str) -> Result<Users, Vec<String>> {
        let mut users = Users::default();
        let mut lines: HashMap<&str, usize> = HashMap::new();
        let mut faults = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let Line::User(name, hash) = Line::of(line) else {
                continue;
            };
            let user = check_name(name).and_then(|()| match lines.insert(name, number) {
                None => Hash::parse(hash).map_err(|why| format!("the password of {name} {why}")),
                Some(first) => Err(format!(
                    "{name} stands in line {first} too: one of them has to go"
                )),
            });
            match user {
                Ok(hash) => {
                    users.names.push(name.into());
                    users.hashes.insert(name.into(), hash);
                }
                Err(_) if faults.len() == FAULTS_MAX => {
                    faults.push(format!("{path}: there is more that is wrong"));
                    break;
                }
                Err(why) => faults.push(format!("{path}:{number}: {why}")),
            }
        }
        match faults.is_empty() {
            true => Ok(users),
            false => Err(faults),
        }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn hash(&self, name: &str) -> Option<&Hash> {
        self.hashes.get(name)
    }

    /// The hash of somebody, always the same one for the same number: what a user who does not
    /// exist is checked against, so that it takes as long as for one who does.
    pub fn somebody(&self, number: u64) -> Option<&Hash> {
        let index = number.checked_rem(self.names.len() as u64)?;
        self.hashes.get(&self.names[index as usize])
    }
}

impl Line<'_> {
    pub fn of(line: &str) -> Line<'_> {
        match line.split_once(':') {
            Some((name, hash)) if !line.starts_with('#') => Line::User(name.trim(), hash.trim()),
            _ => Line::Other,
        }
    }
}

/// What a file can keep and a log can show.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a user must have a name, in front of the colon".to_string());
    }
    if name.contains(char::is_control) {
        return Err("the user name has control characters: choose one without".to_string());
    }
    if name.len() > usize::from(u16::MAX) {
        return Err("the user name is longer than MQTT allows, which is 65535 bytes".to_string());
    }
    Ok(())
}

/// A file of limited length, as text.
pub fn read_text(path: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = fs::metadata(path).and_then(|metadata| {
        // A pipe could keep everybody waiting.
        if !metadata.is_file() {
            return Err(io::Error::other("is not a regular file"));
        }
        let file = File::open(path)?;
        let mut limited = file.take(FILE_BYTES_MAX + 1);
        limited.read_to_end(&mut bytes)
    });
    read.map_err(|error| format!("{path}: {}", reach::explain(error)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "{path}: is longer than {FILE_BYTES_MAX} bytes, which no password file should be"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        format!("{path}:{line}: is not UTF-8, as all user names of MQTT are")
    })
}

/// Hashes are for few eyes: whoever reads them can try passwords at leisure.
pub fn warning(path: &str) -> Option<String> {
    let mode = fs::metadata(path).ok()?.mode() & 0o777;
    (mode & OTHERS != 0).then(|| {
        format!(
            "{path}: every user of this machine can get at the hashes (mode {mode:o}); \
             chmod o= {path} stops that"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passwords::hash::Method;

    fn hash(password: &str) -> String {
        Hash::new(Method::Sha512, vec![1; 12], password.as_bytes()).to_text()
    }

    #[test]
    fn comments_lines_without_a_colon_and_blanks_do_no_harm() {
        let text = format!(
            "# users:\n\nno colon here\nalice:{0}\r\n  bob \t: {0} \n#carol:{0}\nd e f:{0}",
            hash("x")
        );
        let users = Users::parse("f", &text).unwrap();
        let names: Vec<&str> = users.names.iter().map(|name| &**name).collect();
        assert_eq!(names, ["alice", "bob", "d e f"]);
        assert!(users.hash("alice").is_some() && users.hash("carol").is_none());
        assert!(Users::parse("f", "").unwrap().is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_line() {
        let good = hash("x");
        let text = format!("a:{good}\n:{good}\na:{good}\nb:Secret\n#\nc\u{1b}:{good}\nd:$9$Secret");
        let faults = Users::parse("/etc/p", &text).err().unwrap();
        for (fault, expected) in faults.iter().zip([
            "/etc/p:2: a user must have a name",
            "/etc/p:3: a stands in line 1 too",
            "/etc/p:4: the password of b is not hashed (`midge passwd -U FILE`",
            "/etc/p:6: the user name has control characters",
            "/etc/p:7: the password of d is of a kind",
        ]) {
            assert!(fault.starts_with(expected), "{fault}");
            assert!(
                !fault.contains("Secret") && !fault.contains(&good),
                "{fault}"
            );
        }
        assert_eq!(faults.len(), 5);
        let many = "a:b\n".repeat(1_000);
        assert_eq!(
            Users::parse("f", &many).err().unwrap().len(),
            FAULTS_MAX + 1
        );
    }

    #[test]
    fn nobody_is_somebody_and_always_the_same() {
        let text: String = (0..5).map(|n| format!("u{n}:{}\n", hash("x"))).collect();
        let users = Users::parse("f", &text).unwrap();
        for number in [0, 4, 5, u64::MAX] {
            assert!(users.somebody(number) == users.somebody(number));
            assert!(users.somebody(number).is_some());
        }
        assert!(Users::default().somebody(3).is_none());
    }
}
