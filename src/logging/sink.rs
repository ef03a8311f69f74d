//! Where lines go: each place is written to by itself, and one that fails keeps no other from the
//! line. It says so once, and again when it is over, to the others.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};

use super::LogOptions;
use super::kinds::LogType;
use super::syslog::{self, Syslog};
use crate::reach;

/// Of Linux, on all processors but MIPS, PA-RISC and SPARC; std has no name for it.
const O_NONBLOCK: i32 = 0o4000;

/// Lines that wait to be published; those beyond are left out.
const WAITING_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Stderr,
    Stdout,
    None,
    File(String),
    /// A datagram socket.
    Syslog(String),
    /// `$SYS/broker/log/…`
    Topic,
}

impl Destination {
    pub fn parse(text: &str) -> Result<Destination, String> {
        match text.split_once(' ') {
            Some(("file", path)) if !path.trim().is_empty() => {
                Ok(Destination::File(path.trim().to_string()))
            }
            Some(("syslog", path)) if !path.trim().is_empty() => {
                Ok(Destination::Syslog(path.trim().to_string()))
            }
            _ => match text {
                "stderr" => Ok(Destination::Stderr),
                "stdout" => Ok(Destination::Stdout),
                "syslog" => Ok(Destination::Syslog(syslog::SOCKET.to_string())),
                "topic" => Ok(Destination::Topic),
                "none" => Ok(Destination::None),
                _ => {
                    Err("must be stderr, stdout, none, \"file PATH\", syslog, or topic".to_string())
                }
            },
        }
    }
}

/// What is known of a line besides its text.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub log_type: LogType,
    /// Where what syslog says itself ends: the time.
    pub start: usize,
    pub seconds: u64,
}

/// A line, ready to be written.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub head: Head,
    /// With a newline.
    pub text: &'a [u8],
}

/// What there is to say of a place.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    Begins(String),
    Ends(String),
}

#[derive(Debug)]
pub struct Sink {
    to: To,
    /// Who asked for it.
    origin: String,
    /// Lines that it did not take, since it took none.
    lost: u64,
}

#[derive(Debug)]
enum To {
    Stderr,
    Stdout,
    File(LogFile),
    Syslog(Syslog),
    Topic(VecDeque<(LogType, Vec<u8>)>),
}

#[derive(Debug)]
struct LogFile {
    path: String,
    /// `None`: the one that is open already.
    file: Option<File>,
    /// It was made here.
    is_new: bool,
}

impl Sink {
    /// Opens it; `None` for one that is nowhere. A file that cannot be opened is no fault if it
    /// `is_open` already: then that one is written on.
    pub fn open(
        destination: &Destination,
        options: &LogOptions,
        is_open: impl Fn(&str) -> bool,
    ) -> Result<Option<Sink>, String> {
        let origin = options.origin(destination);
        let to = match destination {
            Destination::Stderr => To::Stderr,
            Destination::Stdout => To::Stdout,
            Destination::None => return Ok(None),
            Destination::Topic => To::Topic(VecDeque::new()),
            Destination::Syslog(path) => To::Syslog(Syslog::new(path, options.facility)),
            Destination::File(path) => match open_file(path) {
                Ok((file, is_new)) => To::File(LogFile {
                    path: path.clone(),
                    file: Some(file),
                    is_new,
                }),
                Err(_) if is_open(path) => To::File(LogFile {
                    path: path.clone(),
                    file: None,
                    is_new: false,
                }),
                Err(error) => return Err(format!("{origin}: {error}")),
            },
        };
        Ok(Some(Sink {
            to,
            origin,
            lost: 0,
        }))
    }

    /// Whether it writes to that file.
    pub fn is_file(&self, name: &str) -> bool {
        matches!(&self.to, To::File(file) if file.path == name)
    }

    /// Where a file could not be opened, goes on with what `others` have open; says so.
    pub fn go_on_with(&mut self, others: &mut [Sink]) -> Option<String> {
        let To::File(LogFile {
            path,
            file: none @ None,
            ..
        }) = &mut self.to
        else {
            return None;
        };
        let error = match open_file(path) {
            Ok((file, _)) => {
                *none = Some(file);
                return None;
            }
            Err(error) => error,
        };
        for other in others {
            match &mut other.to {
                To::File(known) if known.path == *path => *none = known.file.take(),
                _ => {}
            }
        }
        Some(format!(
            "The log file {path} cannot be opened anew: {error}; what was open is written on"
        ))
    }

    /// Opens its file anew: what was open may have been moved aside.
    pub fn reopen(&mut self) -> Option<Result<String, String>> {
        let To::File(log) = &mut self.to else {
            return None;
        };
        let path = &log.path;
        Some(match open_file(path) {
            Ok((file, is_new)) => {
                let sentence = format!("The log file {path} is open anew");
                log.file = Some(file);
                log.is_new = is_new;
                Ok(sentence)
            }
            Err(error) => Err(format!(
                "The log file {path} cannot be opened anew: {error}; what was open is written on"
            )),
        })
    }

    /// Why its file could not be opened anew, if it could not.
    pub fn fault(&self) -> Option<String> {
        let To::File(LogFile { path, .. }) = &self.to else {
            return None;
        };
        let error = open_file(path).err()?;
        Some(format!("{}: {error}", self.origin))
    }

    /// A file that was made here becomes the property of the user who will have to open it again.
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        match &self.to {
            To::File(LogFile {
                file: Some(file),
                is_new: true,
                ..
            }) => fchown(file, Some(uid), Some(gid)),
            To::File(_) | To::Stderr | To::Stdout | To::Syslog(..) | To::Topic(_) => Ok(()),
        }
    }

    /// Says whether something has begun or ended to go wrong.
    pub fn write(&mut self, line: Line) -> Option<Trouble> {
        let written = match &mut self.to {
            // If nobody listens there, there is nobody to tell.
            To::Stderr => io::stderr().write_all(line.text).or(Ok(())),
            To::Stdout => io::stdout().write_all(line.text).or(Ok(())),
            To::File(log) => log.write(line.text, self.lost > 0),
            To::Syslog(syslog) => {
                let message = line.text[line.head.start..].trim_ascii_end();
                syslog.write(line.head.log_type.severity(), message, line.head.seconds)
            }
            To::Topic(waiting) => keep_for_topics(waiting, line),
        };
        let Err(error) = written else {
            let lost = std::mem::take(&mut self.lost);
            return (lost > 0).then(|| {
                let name = &self.origin;
                Trouble::Ends(format!("{name}: lines are taken again; {lost} are missing"))
            });
        };
        self.lost += 1;
        (self.lost == 1).then(|| {
            let name = &self.origin;
            Trouble::Begins(format!("{name}: lines are lost: {error}"))
        })
    }

    /// Lines that wait to be published.
    pub fn waiting(&mut self) -> Option<&mut VecDeque<(LogType, Vec<u8>)>> {
        match &mut self.to {
            To::Topic(waiting) => Some(waiting),
            To::Stderr | To::Stdout | To::File(_) | To::Syslog(..) => None,
        }
    }
}

impl LogFile {
    fn write(&mut self, text: &[u8], is_torn: bool) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if is_torn {
            // The line that failed may have come to a part of it.
            file.write_all(b"\n")?;
        }
        file.write_all(text)
    }
}

fn keep_for_topics(waiting: &mut VecDeque<(LogType, Vec<u8>)>, line: Line) -> io::Result<()> {
    if line.head.log_type.topic().is_none() {
        return Ok(());
    }
    if waiting.len() == WAITING_MAX {
        return Err(io::Error::other("too many came at once"));
    }
    waiting.push_back((line.head.log_type, line.text.trim_ascii_end().to_vec()));
    Ok(())
}

/// Opens it at its end; says whether it had to be made.
///
/// Nothing is made through a symbolic link: its directory may belong to the user that root becomes,
/// who would be given a file anywhere. Nor is anything opened through a link of theirs that they
/// could not open themselves.
fn open_file(path: &str) -> io::Result<(File, bool)> {
    find_or_make(path).map_err(reach::explain)
}

fn find_or_make(path: &str) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    // Not for everybody: who is connected, from where, and what they are called.
    options.append(true).mode(0o600);
    // A pipe that nobody reads is an error, and one that is full costs lines: nothing waits.
    options.custom_flags(O_NONBLOCK);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return Ok((trusted(opened?, path)?, false)),
    }
    match options.create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::other("it is a symbolic link to nothing"))
        }
        opened => Ok((opened?, true)),
    }
}

/// The file that `path` names itself, or by a link of root or of whom the file belongs to.
fn trusted(file: File, path: &str) -> io::Result<File> {
    let (it, named) = (file.metadata()?, fs::symlink_metadata(path)?);
    let is_named = (it.dev(), it.ino()) == (named.dev(), named.ino());
    let is_led_to = named.is_symlink() && (named.uid() == 0 || named.uid() == it.uid());
    match is_named || is_led_to {
        true => Ok(file),
        false => Err(io::Error::other(
            "it is a symbolic link, neither of root nor of whom that file belongs to",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};
    use std::process;

    use super::*;

    #[test]
    fn a_file_is_made_where_its_name_says_and_nowhere_else() {
        let directory = std::env::temp_dir().join(format!("midge-sink-{}", process::id()));
        fs::create_dir(&directory).unwrap();
        let path = |name: &str| directory.join(name).to_str().unwrap().to_string();
        symlink(path("elsewhere"), path("link")).unwrap();
        let error = open_file(&path("link")).unwrap_err().to_string();
        assert_eq!(error, "it is a symbolic link to nothing");
        assert!(!directory.join("elsewhere").exists());
        let (_, is_new) = open_file(&path("elsewhere")).unwrap();
        assert!(is_new);
        // One to something is as good as that.
        for name in ["link", "elsewhere"] {
            let (mut file, is_new) = open_file(&path(name)).unwrap();
            assert!(!is_new);
            file.write_all(b"x").unwrap();
        }
        assert_eq!(fs::read(path("elsewhere")).unwrap(), b"xx");
        // Not if it is of somebody who does not own what it leads to.
        if lchown(path("link"), Some(1), None).is_ok() {
            let error = open_file(&path("link")).unwrap_err().to_string();
            assert!(error.contains("neither of root nor of whom"), "{error}");
            chown(path("elsewhere"), Some(1), None).unwrap();
            assert!(open_file(&path("link")).is_ok());
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
