//! What systemd is told: that midge serves, reloads, stops, and is alive (`sd_notify`).
//!
//! A datagram to the socket that `NOTIFY_SOCKET` names, which is opened once, at the start. Where
//! nobody asked for it, nothing is told.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

use log::warn;

/// How long systemd may take for a datagram, should its socket be full.
const PATIENCE: Duration = Duration::from_millis(100);

/// Any longer is never: of what systemd asks for, in microseconds.
const MICROS_MAX: u64 = 365 * 86_400_000_000;

/// Who started midge, if it wants to be told.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Watchdog {
    every: Duration,
    due: Instant,
}

impl Manager {
    /// As the environment has it.
    pub fn find(now: Instant) -> Manager {
        let Some(name) = variable("NOTIFY_SOCKET") else {
            return Manager::default();
        };
        match connect(&name) {
            Ok(socket) => Manager {
                socket: Some(socket),
                watchdog: watchdog(now),
            },
            Err(error) => {
                warn!("NOTIFY_SOCKET={name}: {error}: systemd will not know that midge serves.");
                Manager::default()
            }
        }
    }

    /// All is open and restored.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// It will be ready again.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1{}", time()));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// To be called by the loop in each of its turns, as one that hangs must not say that it is
    /// alive.
    pub fn alive(&mut self, now: Instant) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if watchdog.due <= now {
            watchdog.due = now + watchdog.every;
            self.tell("WATCHDOG=1");
        }
    }

    /// When to say it next.
    pub fn deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(what.as_bytes())
        {
            let first = what.lines().next().unwrap_or_default();
            warn!("systemd cannot be told {first}: {error}.");
        }
    }
}

/// By the clock that systemd compares it with: std has no name for it.
#[cfg(feature = "systemd")]
fn time() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    format!("\nMONOTONIC_USEC={micros}")
}

/// It is not needed by `Type=notify`.
#[cfg(not(feature = "systemd"))]
fn time() -> String {
    String::new()
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A path, or behind `@` a name that is in no directory.
fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
        None => return Err(io::Error::other("is neither a path nor @NAME")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Twice as often as is asked for, if it is this process that is asked.
fn watchdog(now: Instant) -> Option<Watchdog> {
    let micros = variable("WATCHDOG_USEC")?
        .parse::<u64>()
        .ok()?
        .min(MICROS_MAX);
    let is_other = |pid: String| pid.parse() != Ok(process::id());
    if micros == 0 || variable("WATCHDOG_PID").is_some_and(is_other) {
        return None;
    }
    let every = Duration::from_micros(micros) / 2;
    Some(Watchdog { every, due: now })
}
