//! Flags → configuration → server. The only place that exits.

#![forbid(unsafe_code)]

#[cfg_attr(not(feature = "memory-limit"), path = "resident.rs")]
mod memory;
mod service;
mod steward;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use midge::broker::explain::Question;
use midge::config::{self, Command, Config, System};
use midge::daemon;
#[cfg(feature = "store")]
use midge::persistence;
use midge::reload::Files;

/// What the heap takes is counted.
#[cfg(feature = "memory-limit")]
#[global_allocator]
static HEAP: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// Exit status for flags that cannot be read, and for what goes wrong later.
const USAGE: u8 = 2;
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let flags: Vec<String> = env::args_os()
        .skip(1)
        .map(|flag| flag.to_string_lossy().into_owned())
        .collect();
    match Config::read(&flags, &System) {
        Ok(Command::Help) => say(&config::help()),
        Ok(Command::Version) => say(concat!("midge ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Run(config)) => return run(*config, &flags),
        Ok(Command::Print(text)) => say(&text),
        Ok(Command::Test { text, is_good }) => {
            say(&text);
            return ExitCode::from(if is_good { 0 } else { FAILURE });
        }
        Ok(Command::Passwd(flags)) => {
            return exit(passwd(&flags).map(|text| {
                say(&text);
                0
            }));
        }
        Ok(Command::Explain(question, files)) => return ExitCode::from(explain(&question, &files)),
        Ok(Command::Dump(directory)) => return exit(dump(&directory).map(|()| 0)),
        Err(fault) => {
            let (status, help) = match fault.in_file {
                true => (FAILURE, "midge --test-config tells all that is wrong"),
                false => (USAGE, "midge --help lists all flags"),
            };
            daemon::complain(&format!("midge: {} ({help})", fault.sentence));
            return ExitCode::from(status);
        }
    }
    ExitCode::SUCCESS
}

fn run(config: Config, flags: &[String]) -> ExitCode {
    let result = if config.daemon && !daemon::is_background() {
        daemon::start(flags).map_err(|error| format!("cannot start in the background: {error}"))
    } else {
        service::run(config, flags).map(|()| 0)
    };
    exit(result)
}

fn exit(result: Result<u8, String>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(sentence) => {
            daemon::complain(&format!("midge: {sentence}"));
            ExitCode::from(FAILURE)
        }
    }
}

/// Prints what was asked for; whoever has closed the pipe has read enough.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// `--explain`: returns the exit status.
fn explain(question: &Question, files: &Files) -> u8 {
    match files.read() {
        Ok(fresh) => {
            let (allowed, sentences) = fresh.answers(question);
            say(&format!("{}\n", sentences.join("\n")));
            u8::from(!allowed)
        }
        Err(faults) => {
            daemon::complain(&format!("midge: {}", faults.join("\nmidge: ")));
            USAGE
        }
    }
}

#[cfg(feature = "store")]
fn dump(directory: &str) -> Result<(), String> {
    let dumped = persistence::dump(directory, &mut io::stdout());
    dumped.map_err(|error| error.to_string())
}

#[cfg(not(feature = "store"))]
fn dump(_: &str) -> Result<(), String> {
    Err("dump: this midge was built without the store".to_string())
}

#[cfg(feature = "passwords")]
fn passwd(flags: &[String]) -> Result<String, String> {
    midge::passwords::command::run(flags).map_err(|sentence| format!("passwd: {sentence}"))
}

#[cfg(not(feature = "passwords"))]
fn passwd(_: &[String]) -> Result<String, String> {
    Err("passwd: this midge was built without passwords".to_string())
}
