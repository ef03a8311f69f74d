//! Flags → configuration → server. The only place that exits.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::time::Instant;

use log::{info, warn};
use midge::broker::Broker;
use midge::broker::explain::Question;
use midge::config::{self, Command, Config, System};
use midge::net::{Keeper, Server};
#[cfg(feature = "store")]
use midge::persistence;
use midge::reload::Files;
#[cfg(feature = "user")]
use midge::user;
use midge::{daemon, logging, logging::Destination};

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
        serve(config).map(|()| 0)
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

fn serve(mut config: Config) -> Result<(), String> {
    let destinations = &mut config.log.destinations;
    if daemon::is_background() && destinations.contains(&Destination::Stdout) {
        // There it speaks to the one who started it, see `daemon`.
        destinations.retain(|destination| *destination != Destination::Stdout);
        if destinations.is_empty() {
            destinations.push(Destination::None);
        }
    }
    logging::start(&config.log)?;
    info!(target: "notice", "midge version {} starting.", env!("CARGO_PKG_VERSION"));
    for notice in config.notices() {
        warn!("{notice}.");
    }
    config.broker.seed = RandomState::new().hash_one(process::id());
    config.broker.memory_in_use = resident_bytes;
    let broker = Broker::new(config.broker.clone(), Instant::now());
    let server = Server::new(broker, config.tcp_nodelay);
    let mut server = server.map_err(|error| format!("cannot poll: {error}"))?;
    let files = config.files();
    let fresh = files.read().map_err(|faults| faults.join("\nmidge: "))?;
    fresh.apply(&mut server);
    server.on_hang_up(Box::new(move |server| files.read_again(server)));
    for (index, listener) in config.listeners.iter().enumerate() {
        let addresses = server
            .listen(index, listener)
            .map_err(|error| error.to_string())?;
        let addresses: Vec<String> = addresses.iter().map(|a| a.to_string()).collect();
        let who = config.who_can_connect(index);
        info!(target: "notice", "Listening on {}: {who}.", addresses.join(" and "));
    }
    #[cfg(feature = "signals")]
    midge::net::signals::watch(&mut server)
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    if let Some(path) = &config.pid_file {
        let written = fs::write(path, format!("{}\n", process::id()));
        written.map_err(|error| format!("--pid-file {path}: {error}"))?;
    }
    let result = keep_and_run(&config, &mut server);
    if let Some(path) = &config.pid_file {
        let _ = fs::remove_file(path);
    }
    result
}

/// Everything is open that only root could open.
fn keep_and_run(config: &Config, server: &mut Server) -> Result<(), String> {
    step_down(config)?;
    // Who keeps it now must be able to read it after the next start, too.
    let keeper = keeper(config, server.broker())?;
    server.keep_with(keeper);
    info!(target: "notice", "{}.", config.what_is_kept());
    let theirs = Path::new(&config.persistence_location).join("mosquitto.db");
    if config.persistence && theirs.exists() {
        let theirs = theirs.display();
        warn!("{theirs} is Mosquitto's: it is neither read nor changed (docs/from-mosquitto.md).");
    }
    daemon::report_ready();
    server
        .run()
        .map_err(|error| format!("the event loop failed: {error}"))
}

/// Root becomes the user of the configuration file, or `mosquitto`, as Mosquitto would.
#[cfg(feature = "user")]
fn step_down(config: &Config) -> Result<(), String> {
    let Some(name) = config.user_to_become() else {
        return Ok(());
    };
    let found = user::find(name).map_err(|error| format!("user {name}: {error}"))?;
    match (found, &config.user) {
        (Some(user), _) => {
            user::become_user(&user).map_err(|error| format!("user {name}: {error}"))?;
            info!(target: "notice", "Running as {name}.");
        }
        (None, Some(_)) => {
            return Err(format!("{}: there is no such user", config.user_origin));
        }
        (None, None) => {
            warn!("Running as root: there is no user {name} (user NAME names another).")
        }
    }
    Ok(())
}

#[cfg(not(feature = "user"))]
fn step_down(config: &Config) -> Result<(), String> {
    match (config.user_to_become(), &config.user) {
        (Some(name), Some(_)) => Err(format!(
            "{}: this midge was built without that; start it as {name}",
            config.user_origin
        )),
        _ => Ok(()),
    }
}

/// Opens the store, if anything is to survive, and brings back what is in it.
#[cfg(feature = "store")]
fn keeper(config: &Config, broker: &mut Broker) -> Result<Option<Box<dyn Keeper>>, String> {
    if !config.persistence {
        return Ok(None);
    }
    let nonce = RandomState::new().hash_one(process::id());
    let opened = persistence::start(&config.persistence_location, nonce, broker);
    opened
        .map(Some)
        .map_err(|error| format!("--persistence-location: {error}"))
}

#[cfg(feature = "store")]
fn dump(directory: &str) -> Result<(), String> {
    let dumped = persistence::dump(directory, &mut io::stdout());
    dumped.map_err(|error| error.to_string())
}

#[cfg(not(feature = "store"))]
fn keeper(_: &Config, _: &mut Broker) -> Result<Option<Box<dyn Keeper>>, String> {
    Ok(None)
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

/// Resident memory, as Linux counts it.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
