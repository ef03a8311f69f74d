//! Configuration files, made of anything.
//!
//! The input is cut into files at NULs: the main one, and those that any `include_dir` has. What
//! must hold: reading never panics; what is wrong is said in one line; `--test-config` says the
//! same as a start would; what is accepted is within bounds, and a broker runs with it; what
//! `--print-config` prints means the same when it is read again.

use std::io;

use midge::config::{Command, Config, Outside};

use super::flags::{check, check_line, check_sentence};

struct Files<'a>(Vec<&'a [u8]>);

impl Outside for Files<'_> {
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        let name = path
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(".conf"));
        let index: Option<usize> = name.and_then(|name| name.parse().ok());
        let file = index.and_then(|index| self.0.get(index));
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        Ok(file[..file.len().min(bytes_max)].to_vec())
    }

    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Ok((0..self.0.len())
            .rev()
            .map(|index| format!("{index}.conf"))
            .collect())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn check(&self, files: &midge::reload::Files) -> Result<Vec<String>, Vec<String>> {
        Ok(vec![format!("{files:?}")])
    }

    fn is_root(&self) -> bool {
        self.0.len() == 2
    }

    fn is_user(&self, _: &str) -> bool {
        false
    }
}

pub fn run(bytes: &[u8]) {
    let files = Files(bytes.split(|byte| *byte == 0).take(4).collect());
    let read = |files: &Files, more: &[&str]| {
        let flags = [&["-c", "0.conf"], more].concat();
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        Config::read(&flags, files)
    };
    let Ok(Command::Test { text, is_good }) = read(&files, &["--test-config"]) else {
        panic!("--test-config did not test");
    };
    text.lines().for_each(check_line);
    let config = match read(&files, &[]) {
        Ok(Command::Run(config)) => config,
        Ok(_) => panic!("what else could it be"),
        Err(fault) => {
            assert!(!is_good, "{text}");
            return check_sentence(&fault.sentence);
        }
    };
    assert!(is_good, "{text}");
    check(&config);
    let Ok(Command::Print(printed)) = read(&files, &["--print-config"]) else {
        panic!("it was read a moment ago");
    };
    let again = Files(vec![printed.as_bytes()]);
    match read(&again, &[]) {
        Ok(Command::Run(again)) => {
            assert_eq!(
                format!("{:?}", again.broker),
                format!("{:?}", config.broker),
                "{printed}"
            );
            let files = |config: &Config| {
                let all = config.files().0.into_iter();
                all.map(|one| (one.passwords, one.acl)).collect::<Vec<_>>()
            };
            assert_eq!(files(&again), files(&config), "{printed}");
            // What is the default is said nevertheless.
            let log = |config: &Config| {
                let mut log = config.log.clone();
                log.origins.clear();
                format!("{log:?}").replace("[Stderr]", "[]")
            };
            assert_eq!(log(&again), log(&config), "{printed}");
        }
        Ok(_) => panic!("what else could it be"),
        Err(fault) => panic!("{}: {printed}", fault.sentence),
    }
}
