//! Mosquitto's configuration file as lines: a name, a value, and where they stand.
//!
//! One option a line. `#` begins a comment in the first column only; spaces, and no tabs, separate
//! name and value. `include_dir` brings in all `*.conf` of a directory where it stands, in the
//! order of their bytes, and works in the main file alone: so there are no loops.

use std::env;
use std::fs;
use std::io::{self, Read};

use super::Config;
use super::obstacles::{self, Obstacles};
use crate::reach;
use crate::reload::{self, Files};

/// A configuration is text by people; beyond this, all files together, it is something else.
const BYTES_MAX: usize = 4 << 20;
/// Files that `include_dir` brings in.
const FILES_MAX: usize = 1_000;
/// Lines that cannot be read, until a file is given up.
const FAULTS_MAX: usize = 20;
const VALUE_BYTES_MAX: usize = 65_535;

/// The world that configuration is read from.
pub trait Outside {
    /// As much of the file as there is, and no more than that many bytes.
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>>;
    /// Names of what is in a directory.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    fn variable(&self, name: &str) -> Option<String>;
    /// Whether this process may do everything.
    fn is_root(&self) -> bool;
    /// Whether it is that user already.
    fn is_user(&self, name: &str) -> bool;
    /// What there is to say of the files that say who may do what; or all that is wrong with them.
    fn check(&self, files: &Files) -> Result<Vec<String>, Vec<String>>;
    /// What else a start would stumble upon.
    fn obstacles(&self, _config: &Config) -> Obstacles {
        Obstacles::default()
    }
}

/// The real one.
#[derive(Debug)]
pub struct System;

impl Outside for System {
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = reload::open_file(path)?;
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        fs::read_dir(directory)
            .map_err(reach::explain)?
            .take(100 * FILES_MAX)
            .map(|entry| entry.map(name))
            .collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        env::var_os(name).map(|text| text.to_string_lossy().into_owned())
    }

    fn is_root(&self) -> bool {
        is_root()
    }

    #[cfg(feature = "user")]
    fn is_user(&self, name: &str) -> bool {
        let found = crate::user::find(name).ok().flatten();
        let own = rustix::process::geteuid().as_raw();
        found.is_some_and(|user| user.uid == own)
    }

    #[cfg(not(feature = "user"))]
    fn is_user(&self, _: &str) -> bool {
        false
    }

    fn check(&self, files: &Files) -> Result<Vec<String>, Vec<String>> {
        files.read().map(|fresh| fresh.sentences())
    }

    fn obstacles(&self, config: &Config) -> Obstacles {
        obstacles::obstacles(config)
    }
}

#[cfg(feature = "user")]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where that cannot be known it is taken to be root, so that who asks for another user is told
/// that there is no way to become that.
#[cfg(not(feature = "user"))]
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved.
    line.and_then(|line| line.split_whitespace().nth(1))
        .is_none_or(|uid| uid == "0")
}

/// A line that is neither empty nor a comment.
#[derive(Debug)]
pub struct Line {
    /// `file:line`, or the file alone.
    pub place: String,
    /// Name and value, or what is wrong.
    pub option: Result<(String, String), String>,
}

impl Line {
    fn wrong(place: &str, sentence: impl Into<String>) -> Line {
        Line {
            place: place.to_string(),
            option: Err(sentence.into()),
        }
    }
}

/// What all files together have in common.
struct Reading<'a> {
    outside: &'a dyn Outside,
    paths: &'a mut Vec<String>,
    /// Bytes that they may still have.
    room: usize,
}

/// The lines of a file, and of those that it includes; `paths` gets the names of all of them.
pub fn read(path: &str, outside: &dyn Outside, paths: &mut Vec<String>) -> Vec<Line> {
    let mut reading = Reading {
        outside,
        paths,
        room: BYTES_MAX,
    };
    let mut lines = Vec::new();
    for mut line in read_one(path, &mut reading) {
        let included = match &line.option {
            Ok((name, directory)) if name == "include_dir" && !directory.is_empty() => {
                include(directory, &mut reading)
            }
            Ok(_) | Err(_) => Ok(Vec::new()),
        };
        match included {
            Ok(included) => {
                lines.push(line);
                lines.extend(included);
            }
            Err(sentence) => {
                line.option = Err(sentence);
                lines.push(line);
            }
        }
    }
    lines
}

fn include(directory: &str, reading: &mut Reading) -> Result<Vec<Line>, String> {
    let names = reading.outside.list(directory);
    let mut names =
        names.map_err(|error| format!("include_dir {directory}: cannot be listed: {error}"))?;
    names.retain(|name| name.ends_with(".conf"));
    names.sort_unstable();
    if names.len() > FILES_MAX {
        return Err(format!(
            "include_dir {directory}: has more than {FILES_MAX} files"
        ));
    }
    let mut lines = Vec::new();
    for name in names {
        let path = format!("{}/{name}", directory.trim_end_matches('/'));
        for line in read_one(&path, reading) {
            let nested = matches!(&line.option, Ok((name, _)) if name == "include_dir");
            lines.push(match nested {
                true => Line::wrong(&line.place, "include_dir: works in the main file only"),
                false => line,
            });
        }
    }
    Ok(lines)
}

/// Of all files together, no more than `room` is read.
fn read_one(path: &str, reading: &mut Reading) -> Vec<Line> {
    reading.paths.push(path.to_string());
    let bytes = match reading.outside.read(path, reading.room + 1) {
        Ok(bytes) => bytes,
        Err(error) => return vec![Line::wrong(path, format!("cannot be read: {error}"))],
    };
    let Some(left) = reading.room.checked_sub(bytes.len()) else {
        let sentence = format!("is more than {BYTES_MAX} bytes, with what came before");
        return vec![Line::wrong(path, sentence)];
    };
    reading.room = left;
    let (mut lines, mut faults) = (Vec::new(), 0);
    for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let option = match parse(bytes) {
            Ok(None) => continue,
            Ok(Some(option)) => Ok(option),
            Err(sentence) => Err(sentence),
        };
        faults += usize::from(option.is_err());
        let place = format!("{path}:{}", index + 1);
        lines.push(Line { place, option });
        if faults == FAULTS_MAX {
            lines.push(Line::wrong(path, "too much is wrong with it to go on"));
            break;
        }
    }
    lines
}

/// Name and value, if there is anything in the line.
fn parse(line: &[u8]) -> Result<Option<(String, String)>, String> {
    if line.starts_with(b"#") {
        return Ok(None);
    }
    let end = line.iter().rposition(|byte| *byte != b'\r');
    let line = &line[..end.map_or(0, |end| end + 1)];
    if line.starts_with(b"\xEF\xBB\xBF") {
        return Err("begins with a byte order mark: save the file without one".to_string());
    }
    let Ok(line) = std::str::from_utf8(line) else {
        return Err("is not UTF-8".to_string());
    };
    let line = line.trim_matches(' ');
    let (name, value) = line.split_once(' ').unwrap_or((line, ""));
    let value = value.trim_start_matches(' ');
    // The one place where tabs separate, too.
    let value = match name {
        "accept_protocol_versions" => &value.replace('\t', " "),
        _ => value,
    };
    if name.starts_with('#') {
        return Err("a comment must begin in the first column".to_string());
    }
    if name.contains('\t') {
        return Err("a tab separates nothing here: put spaces".to_string());
    }
    if name.contains(char::is_control) || value.contains(char::is_control) {
        return Err("must not contain control characters".to_string());
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
    }
    match name {
        "" => Ok(None),
        _ => Ok(Some((name.to_string(), value.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_and_the_rest() {
        let read = |line: &str| parse(line.as_bytes());
        let option = |name: &str, value: &str| Ok(Some((name.to_string(), value.to_string())));
        for nothing in ["", "   ", "\r", "# listener", "#\0", "#\u{fffd}"] {
            assert_eq!(read(nothing), Ok(None), "{nothing:?}");
        }
        assert_eq!(read("listener 1883\r"), option("listener", "1883"));
        assert_eq!(read("  listener   1883  "), option("listener", "1883"));
        assert_eq!(read("a b # c"), option("a", "b # c"));
        assert_eq!(read("persistence"), option("persistence", ""));
        for (line, why) in [
            (" # comment", "first column"),
            ("listener\t1883", "tab"),
            ("a\0b", "control"),
            ("a b\tc", "control"),
        ] {
            assert!(read(line).unwrap_err().contains(why), "{line:?}");
        }
        assert!(parse(b"user \xff").unwrap_err().contains("UTF-8"));
        assert!(
            parse(b"\xEF\xBB\xBFlistener 1")
                .unwrap_err()
                .contains("byte order")
        );
    }
}
