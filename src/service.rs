//! From a configuration to a server that runs, and to its end.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process;
use std::time::Instant;

use log::{info, warn};
use midge::broker::Broker;
use midge::config::Config;
use midge::net::{Keeper, Passed, Server};
use midge::notify::Manager;
#[cfg(feature = "store")]
use midge::persistence;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
use midge::sandbox;
#[cfg(feature = "user")]
use midge::user;
use midge::{daemon, logging};

use crate::memory;
use crate::steward::{self, Steward};

/// Opens all that `config` asks for, and serves; `flags` are what it was read from.
pub fn run(mut config: Config, flags: &[String]) -> Result<(), String> {
    if daemon::is_background() {
        config.log.leave_stdout();
    }
    // First of all: nothing else may have those descriptors.
    let mut passed = match config.passed {
        0 => Passed::default(),
        _ => Passed::from_environment()?,
    };
    passed.check(&config.listeners)?;
    logging::prepare(&config.log)?.apply();
    info!(target: "notice", "midge version {} starting.", env!("CARGO_PKG_VERSION"));
    for notice in config.notices() {
        warn!("{notice}.");
    }
    config.broker.seed = RandomState::new().hash_one(process::id());
    config.broker.memory_in_use = memory::in_use;
    let broker = Broker::new(config.broker.clone(), Instant::now());
    let server = Server::new(broker, config.tcp_nodelay);
    let mut server = server.map_err(|error| format!("cannot poll: {error}"))?;
    let fresh = config.files().read();
    let fresh = fresh.map_err(|faults| faults.join("\nmidge: "))?;
    fresh.apply(&mut server);
    give_sockets(&mut config);
    for (index, listener) in config.listeners.iter().enumerate() {
        let places = server
            .listen(index, listener, &mut passed)
            .map_err(|error| error.to_string())?;
        let who = config.who_can_connect(index);
        info!(target: "notice", "Listening on {}: {who}.", places.join(" and "));
    }
    #[cfg(feature = "signals")]
    midge::net::signals::watch(&mut server)
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let pid_file = config.pid_file.clone();
    if let Some(path) = &pid_file {
        let written = fs::write(path, format!("{}\n", process::id()));
        written.map_err(|error| format!("--pid-file {path}: {error}"))?;
    }
    // Whoever midge becomes may not be let there.
    let manager = Manager::find(Instant::now());
    let result = keep_and_run(config, flags, manager, &mut server);
    if let Some(path) = &pid_file
        && let Err(error) = fs::remove_file(path)
    {
        warn!("{path} cannot be removed: {error}.");
    }
    result
}

/// Everything is open that only root could open.
fn keep_and_run(
    config: Config,
    flags: &[String],
    manager: Manager,
    server: &mut Server,
) -> Result<(), String> {
    if step_down(&config)? {
        for fault in steward::what_cannot_be_read_again(flags, &config) {
            warn!("SIGHUP will change nothing, as things are: {fault}.");
        }
        for fault in logging::what_cannot_be_opened() {
            warn!("It will not be possible to open the log anew, as things are: {fault}.");
        }
    }
    // Who keeps it now must be able to read it after the next start, too.
    let keeper = keeper(&config, server.broker())?;
    server.keep_with(keeper);
    info!(target: "notice", "{}.", config.what_is_kept());
    let theirs = Path::new(&config.persistence_location).join("mosquitto.db");
    if config.persistence && theirs.exists() {
        let theirs = theirs.display();
        warn!("{theirs} is Mosquitto's: it is neither read nor changed (docs/from-mosquitto.md).");
    }
    confine(&config);
    daemon::report_ready();
    manager.ready();
    server.look_after(Box::new(Steward::new(config, flags, manager)));
    server
        .run()
        .map_err(|error| format!("the event loop failed: {error}"))
}

/// All is open that a broker needs: it gives up the rest.
#[cfg(all(feature = "sandbox", target_os = "linux"))]
fn confine(config: &Config) {
    if !config.sandbox {
        info!(target: "notice", "Not sandboxed (--sandbox false).");
        return;
    }
    // It may have to open a file that cannot be opened from now on.
    memory::in_use();
    let needs = sandbox::Needs::of(config);
    let reached = needs.sentence();
    let walls = sandbox::enter(&needs);
    for sentence in walls.sentences() {
        info!(target: "notice", "{sentence}.");
    }
    if walls.files.is_ok() {
        info!("{reached}.");
    }
}

/// The setting is false then.
#[cfg(not(all(feature = "sandbox", target_os = "linux")))]
fn confine(_: &Config) {}

/// Unix sockets belong to whom root becomes.
#[cfg(feature = "user")]
fn give_sockets(config: &mut Config) {
    let user = config.user_to_become().map(user::find);
    let Some(Ok(Some(user))) = user else {
        return;
    };
    for listener in &mut config.listeners {
        listener.user = Some((user.uid, user.gid));
    }
}

#[cfg(not(feature = "user"))]
fn give_sockets(_: &mut Config) {}

/// Root becomes the user of the configuration file, or `mosquitto`, as Mosquitto would; says
/// whether it did.
#[cfg(feature = "user")]
fn step_down(config: &Config) -> Result<bool, String> {
    let Some(name) = config.user_to_become() else {
        return Ok(false);
    };
    let found = user::find(name).map_err(|error| format!("user {name}: {error}"))?;
    match (found, &config.user) {
        (Some(user), _) => {
            logging::give_to(user.uid, user.gid);
            user::become_user(&user).map_err(|error| format!("user {name}: {error}"))?;
            info!(target: "notice", "Running as {name}.");
            Ok(true)
        }
        (None, Some(_)) => Err(format!("{}: there is no such user", config.user_origin)),
        (None, None) => {
            warn!("Running as root: there is no user {name} (user NAME names another).");
            Ok(false)
        }
    }
}

#[cfg(not(feature = "user"))]
fn step_down(config: &Config) -> Result<bool, String> {
    match (config.user_to_become(), &config.user) {
        (Some(name), Some(_)) => Err(format!(
            "{}: this midge was built without that; start it as {name}",
            config.user_origin
        )),
        _ => Ok(false),
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

#[cfg(not(feature = "store"))]
fn keeper(_: &Config, _: &mut Broker) -> Result<Option<Box<dyn Keeper>>, String> {
    Ok(None)
}
