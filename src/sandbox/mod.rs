//! Once midge serves it gives up what it does not need: who takes it over gets no further.
//!
//! Three walls, and no way back over any of them: no new privileges (no set-user-ID program helps),
//! Landlock for files, TCP and signals (`files.rs`), a filter of system calls by seccomp
//! (`calls.rs`). What a kernel or a processor does not have is left out, and said: a broker that
//! serves without a wall is worth more than one that does not start. They hold for the calling
//! thread, and midge has one.
//!
//! Whoever adds something that happens after the start adds its file to [`Needs::of`], and its
//! system call to the list in `calls.rs`.

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
mod calls;
mod files;

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::logging::Destination;
use crate::reach;

/// The files that are still needed, and what for.
#[derive(Clone, Debug, Default)]
pub struct Needs(Vec<(PathBuf, Use)>);

/// What may be done with a file that is named, or with one that takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Read it; or list a directory, and read what is in it.
    Read,
    /// Write to it, and make it anew: a log that was moved away.
    Write,
    /// Remove it.
    Remove,
    /// A directory: all that is done with files.
    Keep,
    /// Read this file, and no other.
    ReadThis,
}

/// Which walls stand; or why one does not.
#[derive(Debug)]
pub struct Walls {
    pub privileges: Result<(), String>,
    /// The version of Landlock.
    pub files: Result<i32, String>,
    pub calls: Result<(), String>,
}

/// What Landlock keeps, from which of its versions on, and in which Linux that came.
const KEPT: [(i32, &str, &str); 3] = [
    (files::FILES, "files", "5.13"),
    (files::TCP, "TCP", "6.7"),
    (files::SIGNALS, "signals", "6.12"),
];

impl Needs {
    /// What is done with files after the start: SIGHUP reads some again and opens the log anew, the
    /// store is kept, and in the end the pid file goes. Unix sockets go as well: whoever has opened
    /// them adds them.
    pub fn of(config: &Config) -> Needs {
        let mut needs = Needs::default();
        config.paths_read().for_each(|path| needs.read(path));
        for destination in &config.log.destinations {
            if let Destination::File(path) = destination {
                needs.write(path);
            }
        }
        if let Some(path) = &config.pid_file {
            needs.remove(path);
        }
        if config.persistence {
            needs.keep(&config.persistence_location);
        }
        needs
    }

    pub fn read(&mut self, path: impl AsRef<Path>) {
        self.add(path, Use::Read);
    }

    pub fn write(&mut self, path: impl AsRef<Path>) {
        self.add(path, Use::Write);
    }

    pub fn remove(&mut self, path: impl AsRef<Path>) {
        self.add(path, Use::Remove);
    }

    pub fn keep(&mut self, directory: impl AsRef<Path>) {
        self.add(directory, Use::Keep);
    }

    fn add(&mut self, path: impl AsRef<Path>, what: Use) {
        self.0.push((path.as_ref().to_owned(), what));
    }

    /// Which places those are, for whoever wonders why a file cannot be read any more.
    pub fn sentence(&self) -> String {
        let places = files::all_places(&self.0);
        let names = [
            (Use::Read, "read"),
            (Use::Write, "write"),
            (Use::Remove, "remove"),
            (Use::Keep, "keep"),
        ];
        let of = |(what, name): (Use, &str)| {
            let mut those = places.iter().filter(|(_, is)| *is == what).peekable();
            those.peek()?;
            let those: Vec<String> = those
                .map(|(place, _)| place.display().to_string())
                .collect();
            Some(format!("{name} what is in {}", those.join(" and ")))
        };
        match names.into_iter().filter_map(of).collect::<Vec<_>>() {
            these if these.is_empty() => "It needs no files from now on".to_string(),
            these => format!("From now on it can {}", these.join(", ")),
        }
    }
}

/// Gives up everything but `needs`, for this thread and for good.
pub fn enter(needs: &Needs) -> Walls {
    let walls = Walls {
        privileges: rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string()),
        files: files::confine(&needs.0),
        // Last, as it takes system calls to build the others.
        calls: confine_calls(),
    };
    if walls.files.is_ok() {
        reach::confine();
    }
    walls
}

impl Walls {
    /// What there is to say of them: first what stands.
    pub fn sentences(&self) -> Vec<String> {
        let Walls {
            privileges,
            files,
            calls,
        } = self;
        let mut standing = Vec::new();
        let mut missing = Vec::new();
        match privileges {
            Ok(()) => standing.push("no new privileges".to_string()),
            Err(why) => missing.push(format!("New privileges are not kept from it: {why}")),
        }
        match files {
            Ok(version) => {
                let (kept, not_kept): (Vec<_>, Vec<_>) =
                    KEPT.iter().partition(|(since, _, _)| since <= version);
                let kept: Vec<&str> = kept.iter().map(|(_, what, _)| *what).collect();
                standing.push(format!("{} (Landlock)", kept.join(", ")));
                missing.extend(not_kept.iter().map(|(_, what, linux)| {
                    format!("What it does with {what} is not confined: that takes Linux {linux}")
                }));
            }
            Err(why) => missing.push(format!("Files are not confined: {why}")),
        }
        match calls {
            Ok(()) => standing.push("system calls (seccomp)".to_string()),
            Err(why) => missing.push(format!("System calls are not confined: {why}")),
        }
        let first = match standing.is_empty() {
            true => "Not sandboxed, as nothing of it is there".to_string(),
            false => format!("Sandboxed from now on: {} (--sandbox)", standing.join(", ")),
        };
        std::iter::once(first).chain(missing).collect()
    }
}

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
))]
use calls::confine as confine_calls;

#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
fn confine_calls() -> Result<(), String> {
    Err("there is no filter for this processor".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_stand_is_said() {
        fn no<T>(why: &str) -> Result<T, String> {
            Err(why.to_string())
        }
        let walls = |privileges, files, calls| {
            let walls = Walls {
                privileges,
                files,
                calls,
            };
            walls.sentences()
        };
        assert_eq!(
            walls(Ok(()), Ok(6), Ok(())),
            [
                "Sandboxed from now on: no new privileges, files, TCP, signals (Landlock), \
              system calls (seccomp) (--sandbox)"
            ]
        );
        assert_eq!(
            walls(Ok(()), Ok(3), no("there is no filter for this processor")),
            [
                "Sandboxed from now on: no new privileges, files (Landlock) (--sandbox)",
                "What it does with TCP is not confined: that takes Linux 6.7",
                "What it does with signals is not confined: that takes Linux 6.12",
                "System calls are not confined: there is no filter for this processor",
            ]
        );
        assert_eq!(
            walls(no("a"), no("b"), no("c")),
            [
                "Not sandboxed, as nothing of it is there",
                "New privileges are not kept from it: a",
                "Files are not confined: b",
                "System calls are not confined: c",
            ]
        );
    }

    #[test]
    fn the_places_are_named_each_once() {
        let mut needs = Needs::default();
        assert_eq!(needs.sentence(), "It needs no files from now on");
        needs.read("/proc/version");
        needs.read("/proc/uptime");
        needs.keep("/tmp");
        assert_eq!(
            needs.sentence(),
            "From now on it can read what is in /proc, keep what is in /tmp"
        );
    }
}
