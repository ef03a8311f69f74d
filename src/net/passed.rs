//! Sockets that were opened by who started midge, such as systemd: each takes the place of the
//! listener that would have opened it.

use std::net::SocketAddr;
use std::process;

use super::address::{BindError, Host, ListenerAddress};
use super::listener::Acceptor;
use super::sockets;

/// More than anybody has use for.
const PASSED_MAX: usize = 256;

#[derive(Default)]
pub struct Passed(Vec<Acceptor>);

/// How many there are for this process, as the environment has it.
pub fn passed_count(variable: &dyn Fn(&str) -> Option<String>) -> Result<usize, String> {
    let Some(count) = variable("LISTEN_FDS").filter(|count| count != "0") else {
        return Ok(0);
    };
    // They may be for who started us, and not for us.
    if variable("LISTEN_PID") != Some(process::id().to_string()) {
        return Ok(0);
    }
    if !sockets::CAN_BE_PASSED {
        return Err("LISTEN_FDS: this midge was built without sockets".to_string());
    }
    let count = count.parse().ok().filter(|count| *count <= PASSED_MAX);
    count.ok_or(format!("LISTEN_FDS: must be a number up to {PASSED_MAX}"))
}

impl Passed {
    /// Takes what there is: once, at the start, where `passed_count` said there is something.
    pub fn from_environment() -> Result<Passed, String> {
        let sockets = sockets::passed();
        sockets
            .map(Passed)
            .map_err(|why| format!("LISTEN_FDS: {why}"))
    }

    /// Each must belong to a listener; before any of them is opened.
    pub fn check(&self, listeners: &[ListenerAddress]) -> Result<(), String> {
        for socket in &self.0 {
            let mut belongs = false;
            for asked in listeners {
                belongs |= is_for(asked, socket).map_err(|error| error.to_string())?;
            }
            if !belongs {
                let place = socket.place();
                return Err(format!(
                    "LISTEN_FDS: no listener of the configuration is at {place}, which was passed; \
                     add one, or take that out of the unit (ListenStream=)"
                ));
            }
        }
        Ok(())
    }

    /// Those that are for that listener.
    pub(super) fn take(&mut self, asked: &ListenerAddress) -> Result<Vec<Acceptor>, BindError> {
        let mut taken = Vec::new();
        let mut left = Vec::new();
        for socket in self.0.drain(..) {
            match is_for(asked, &socket)? {
                true => taken.push(socket),
                false => left.push(socket),
            }
        }
        self.0 = left;
        let has_more_to_say = asked.interface.is_some() || asked.file != Default::default();
        match taken.first() {
            Some(socket) if has_more_to_say => Err(BindError::because(
                asked,
                &socket.place(),
                "it was passed: interface, owner, group and mode are for the unit that passed it \
                 (BindToDevice=, SocketUser=, SocketGroup=, SocketMode=)",
            )),
            _ => Ok(taken),
        }
    }
}

fn is_for(asked: &ListenerAddress, socket: &Acceptor) -> Result<bool, BindError> {
    let address = |listener: &mio::net::TcpListener| listener.local_addr().ok();
    let is_wanted = |address: &SocketAddr| asked.wants(address) && address.port() == asked.port;
    match (&asked.host, socket) {
        (Host::Passed, _) => Ok(true),
        (Host::Unix(path), Acceptor::Unix(_, theirs)) => Ok(**theirs == **path),
        (Host::Any, Acceptor::Tcp(listener)) => {
            Ok(address(listener).is_some_and(|a| is_wanted(&a)))
        }
        (Host::Loopback | Host::Named(_), Acceptor::Tcp(listener)) => {
            let known = asked.resolve()?;
            Ok(address(listener).is_some_and(|address| known.contains(&address)))
        }
        (Host::Unix(_), Acceptor::Tcp(_)) => Ok(false),
        (Host::Loopback | Host::Any | Host::Named(_), Acceptor::Unix(..)) => Ok(false),
    }
}
