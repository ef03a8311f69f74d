//! From a configuration to a server that runs, and to its end.

use std::fs::{self, File, FileType};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
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
#[cfg(feature = "store")]
use midge::store::StoreError;
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
    let server = Server::new(broker, config.tuning());
    let mut server = server.map_err(|error| format!("cannot poll: {error}"))?;
    // Whoever sends one as soon as a port is open must not end it.
    #[cfg(feature = "signals")]
    midge::net::signals::watch(&mut server)
        .map_err(|error| format!("cannot listen for signals: {error}"))?;
    let fresh = config.files().read();
    let fresh = fresh.map_err(|faults| faults.join("\nmidge: "))?;
    fresh.apply(&mut server, Instant::now());
    give_sockets(&mut config);
    for (index, listener) in config.listeners.iter().enumerate() {
        let places = server
            .listen(index, listener, &mut passed)
            .map_err(|error| error.to_string())?;
        let who = config.who_can_connect(index);
        info!(target: "notice", "Listening on {}: {who}.", places.join(" and "));
    }
    let pid_file = config.pid_file.clone();
    if let Some(path) = &pid_file {
        let written = write_pid(Path::new(path));
        written.map_err(|error| format!("{}: {error}", config.origin("pid-file")))?;
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

/// Nothing is written through a link, which may be of the user that root becomes, to a file that is
/// not: what is there is replaced.
fn write_pid(path: &Path) -> io::Result<()> {
    let text = format!("{}\n", process::id());
    let there = fs::symlink_metadata(path).map(|there| there.file_type());
    let is_link = there.as_ref().is_ok_and(FileType::is_symlink);
    if there.is_ok_and(|there| !there.is_file()) && !is_link {
        return Err(io::Error::other("it is not a file"));
    }
    match fs::remove_file(path) {
        // A file was laid there for midge, in a directory that is not its own.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_link => {
            return fs::write(path, text);
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    File::create_new(path)?.write_all(text.as_bytes())
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
    confine(&config, server);
    daemon::report_ready();
    manager.ready();
    server.look_after(Box::new(Steward::new(config, flags, manager)));
    server
        .run()
        .map_err(|error| format!("the event loop failed: {error}"))
}

/// All is open that a broker needs: it gives up the rest.
#[cfg(all(feature = "sandbox", target_os = "linux"))]
fn confine(config: &Config, server: &Server) {
    if !config.sandbox {
        info!(target: "notice", "Not sandboxed (--sandbox false).");
        return;
    }
    // It may have to open a file that cannot be opened from now on.
    memory::in_use();
    let mut needs = sandbox::Needs::of(config);
    server.socket_files().for_each(|path| needs.remove(path));
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
fn confine(_: &Config, _: &Server) {}

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
    opened.map(Some).map_err(|error| {
        let origin = config.origin("persistence-location");
        let remedy = whose_it_must_be(config, &error).unwrap_or_default();
        format!("{origin}: {error}{remedy}")
    })
}

/// What was root may not be let into its directory any more.
#[cfg(feature = "store")]
fn whose_it_must_be(config: &Config, error: &StoreError) -> Option<String> {
    let user = config.user_to_become()?;
    match error {
        StoreError::Failed { place, error, .. } => {
            let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
            is_denied.then(|| format!("; midge runs as {user} (chown -R {user} {place})"))
        }
        StoreError::Locked { .. }
        | StoreError::Version { .. }
        | StoreError::Full { .. }
        | StoreError::Broken { .. } => None,
    }
}

#[cfg(not(feature = "store"))]
fn keeper(_: &Config, _: &mut Broker) -> Result<Option<Box<dyn Keeper>>, String> {
    Ok(None)
}
