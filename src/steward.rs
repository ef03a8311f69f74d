//! What midge does beside serving: it publishes its log, does what signals ask for, and tells
//! systemd how it is.
//!
//! SIGHUP reads flags, configuration, and the files that these name; all of it is read, checked and
//! open before any of it counts, so that a fault anywhere changes nothing.

use std::io;
use std::process;
use std::time::Instant;

use log::{error, info, warn};
use midge::broker::Broker;
use midge::broker::tree::Place;
use midge::config::{Command, Config, Outside, System};
use midge::net::{self, Notice, Server};
use midge::notify::Manager;
use midge::reload::{Files, Fresh};
use midge::{daemon, logging};

/// Subscriptions that are logged before others have their turn.
const SUBSCRIPTIONS_A_TURN: usize = 100;

pub struct Steward {
    flags: Vec<String>,
    /// What is in force.
    config: Config,
    manager: Manager,
    /// Where the log of all subscriptions goes on.
    tree: Option<Place>,
    /// Lines of the log are published.
    publishes: bool,
    /// When it had its last turn.
    turned: Instant,
}

/// A configuration that is good, with all that it names.
struct Next {
    config: Config,
    log: logging::Prepared,
    fresh: Fresh,
    /// What of it counts from the next start only.
    waits: Vec<String>,
}

impl Steward {
    /// `config` is in force, and was read from `flags`.
    pub fn new(config: Config, flags: &[String], manager: Manager) -> Steward {
        Steward {
            flags: flags.to_vec(),
            publishes: config.log.publishes(),
            config,
            manager,
            tree: None,
            turned: Instant::now(),
        }
    }

    /// SIGHUP.
    fn read_again(&mut self, server: &mut Server, now: Instant) {
        self.manager.reloading();
        match read(&self.flags, &self.config) {
            Ok(next) => self.put_in_force(next, server, now),
            Err(faults) => {
                // Whoever has moved the log files aside must not have to be right in all else.
                logging::reopen();
                for fault in faults {
                    error!("SIGHUP: {fault}.");
                }
                error!("SIGHUP: nothing was changed, as not all is right.");
            }
        }
        self.manager.ready();
    }

    fn put_in_force(&mut self, next: Next, server: &mut Server, now: Instant) {
        let old = std::mem::replace(&mut self.config, next.config);
        next.log.apply();
        self.publishes = self.config.log.publishes();
        info!(target: "notice", "SIGHUP: what was read again is good.");
        let known = old.notices();
        let notices = self.config.notices();
        for notice in notices.iter().filter(|notice| !known.contains(notice)) {
            warn!("{notice}.");
        }
        for sentence in next.waits {
            warn!("{sentence}.");
        }
        for sentence in self.config.who_is_new(&old) {
            info!(target: "notice", "{sentence}.");
        }
        let broker = self.config.broker.clone();
        server.broker().set_options(broker, now);
        server.tune(self.config.tuning());
        next.fresh.apply(server, now);
    }
}

impl net::Steward for Steward {
    fn turn(&mut self, broker: &mut Broker, now: Instant) {
        self.turned = now;
        self.manager.alive(now);
        if let Some(place) = self.tree.take() {
            self.tree = broker.log_subscriptions(place, SUBSCRIPTIONS_A_TURN);
        }
        if self.publishes {
            logging::publish(|topic, line| broker.publish_log_line(topic, line, now));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.tree.is_some() || self.publishes && logging::has_lines() {
            true => Some(self.turned),
            false => self.manager.deadline(),
        }
    }

    fn notice(&mut self, notice: Notice, server: &mut Server, now: Instant) {
        match notice {
            Notice::Stop => self.manager.stopping(),
            Notice::HangUp => self.read_again(server, now),
            // The loop has seen to it.
            Notice::Save => {}
            Notice::Reopen => logging::reopen(),
            Notice::Tree => {
                let count = server.broker().subscription_count();
                info!(target: "notice", "SIGUSR2: subscriptions: {count}.");
                self.tree = Some(Place::default());
            }
        }
    }
}

/// Reads all that was read at the start, and opens the log that it asks for; or says all that is
/// wrong, as `file:line: sentence`.
fn read(flags: &[String], old: &Config) -> Result<Next, Vec<String>> {
    let new = read_config(flags, old)?;
    let (mut config, waits) = old.changed_to(new);
    if daemon::is_background() {
        config.log.leave_stdout();
    }
    match (config.files().read(), logging::prepare(&config.log)) {
        (Ok(fresh), Ok(log)) => Ok(Next {
            config,
            log,
            fresh,
            waits,
        }),
        (Err(mut faults), log) => {
            faults.extend(log.err());
            Err(faults)
        }
        (Ok(_), Err(fault)) => Err(vec![fault]),
    }
}

/// As whoever it was that started midge.
fn read_config(flags: &[String], old: &Config) -> Result<Config, Vec<String>> {
    let outside = Again { old };
    match Config::read(flags, &outside) {
        Ok(Command::Run(config)) => Ok(*config),
        // The same flags asked for a server before.
        Ok(_) => Err(vec!["the flags ask for no server".to_string()]),
        Err(mut fault) => {
            fault.more.insert(0, fault.sentence);
            Err(fault.more)
        }
    }
}

/// The world as it is, but for who midge was before it became somebody else, for the sockets that
/// were passed to it, which nothing tells of once they were taken, and for the list of users, which
/// the sandbox keeps from it.
struct Again<'a> {
    old: &'a Config,
}

impl Outside for Again<'_> {
    fn read(&self, path: &str, bytes_max: usize) -> io::Result<Vec<u8>> {
        System.read(path, bytes_max)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        System.list(directory)
    }

    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "LISTEN_FDS" => Some(self.old.passed.to_string()),
            "LISTEN_PID" => Some(process::id().to_string()),
            _ => System.variable(name),
        }
    }

    fn is_root(&self) -> bool {
        self.old.was_root()
    }

    fn is_user(&self, name: &str) -> bool {
        self.old.was_user(name)
    }

    fn check(&self, files: &Files) -> Result<Vec<String>, Vec<String>> {
        System.check(files)
    }
}

/// All that a SIGHUP would stumble upon, now that midge is somebody else than who has read it.
pub fn what_cannot_be_read_again(flags: &[String], config: &Config) -> Vec<String> {
    let mut faults = read_config(flags, config).err().unwrap_or_default();
    faults.extend(config.files().what_cannot_be_opened());
    faults
}
