//! Listening sockets, and what to do when there are no descriptors left.
//!
//! A descriptor is kept in reserve. When accepting fails for want of one, it is given up for long
//! enough to accept and close the connection that waits: its peer is told at once instead of
//! hanging, and the loop does not spin on a listener that is always ready.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};

use log::error;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

/// Where to listen, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    pub port: u16,
    pub host: Host,
    /// Addresses of one family only.
    pub domain: Option<Domain>,
    /// The flag and its value that asked for it, for errors.
    pub origin: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// 127.0.0.1 and ::1.
    Loopback,
    /// Every address, IPv4 and IPv6.
    Any,
    /// This name or address.
    Named(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    IPv4,
    IPv6,
}

/// Why a listener cannot be opened: a sentence that names the flag and what to do.
#[derive(Debug)]
pub struct BindError(String);

impl ListenerAddress {
    /// Whether both ask for the same, wherever they stand.
    pub fn is_same_place(&self, other: &ListenerAddress) -> bool {
        let origin = self.origin.clone();
        let other = other.clone();
        *self == ListenerAddress { origin, ..other }
    }
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl BindError {
    fn new(asked: &ListenerAddress, address: &str, error: &io::Error) -> BindError {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there; stop it or take another port"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 are for root; take one from 1024 to 65535"
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ => "check the address",
        };
        BindError(format!(
            "{}: cannot listen on {address}: {error}; {remedy}",
            asked.origin
        ))
    }
}

/// Connections accepted one after the other that end an episode without descriptors.
const RECOVERED: u32 = 16;

#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    /// Of its options in the broker.
    pub index: usize,
    /// Connections may be waiting.
    pub has_more: bool,
    /// Connections are waiting, for want of a descriptor.
    pub starved: bool,
    reserve: Option<File>,
    ipv6_only: bool,
    /// How many more must be accepted until an episode without descriptors, which was logged, is
    /// over; 0 outside of one.
    exhausted: u32,
}

pub enum Accepted {
    Stream(TcpStream, SocketAddr),
    /// There was no descriptor for it; it was closed.
    TurnedAway,
    NoMore,
}

impl Listener {
    /// Opens what `asked` comes to: a socket for each address.
    pub fn bind(
        index: usize,
        asked: &ListenerAddress,
        nodelay: bool,
    ) -> Result<Vec<Listener>, BindError> {
        let mut listeners: Vec<Listener> = Vec::new();
        let mut missing = None;
        for mut address in resolve(asked)? {
            // Port 0 means any free port, but the same for both.
            if let (0, Some(first)) = (address.port(), listeners.first()) {
                address.set_port(first.address.port());
            }
            match Listener::open(index, address, nodelay) {
                Ok(mut listener) => {
                    listener.ipv6_only = asked.domain == Some(Domain::IPv6);
                    listeners.push(listener);
                }
                // The IPv6 socket for all addresses has IPv4's as well.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && asked.host == Host::Any
                        && !listeners.is_empty() => {}
                Err(error) if is_decisive(&error) => {
                    return Err(BindError::new(asked, &address.to_string(), &error));
                }
                // The machine may lack one of the families.
                Err(error) => {
                    missing = Some(BindError::new(asked, &address.to_string(), &error));
                }
            }
        }
        match missing {
            Some(error) if listeners.is_empty() => Err(error),
            _ => Ok(listeners),
        }
    }

    fn open(index: usize, address: SocketAddr, nodelay: bool) -> io::Result<Listener> {
        let mut socket = TcpListener::bind(address)?;
        if nodelay {
            socket = without_delay(socket);
        }
        let address = socket.local_addr()?;
        Ok(Listener {
            socket,
            address,
            index,
            has_more: false,
            starved: false,
            reserve: reserve(),
            ipv6_only: false,
            exhausted: 0,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For those who connect from now on.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        // Only a stream has the method; the option is any socket's.
        let stream = std::net::TcpStream::from(self.socket.as_fd().try_clone_to_owned()?);
        stream.set_nodelay(nodelay)
    }

    pub fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        asked: &ListenerAddress,
    ) -> Result<(), BindError> {
        registry
            .register(&mut self.socket, token, Interest::READABLE)
            .map_err(|error| BindError::new(asked, &self.address.to_string(), &error))
    }

    /// Takes the next connection.
    pub fn accept(&mut self) -> Accepted {
        loop {
            let error = match self.socket.accept() {
                // Its IPv6 socket for all addresses would take IPv4 too.
                Ok((_, peer)) if self.ipv6_only && peer.ip().to_canonical().is_ipv4() => continue,
                Ok((stream, peer)) => {
                    self.recover();
                    return Accepted::Stream(stream, peer);
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(EMFILE | ENFILE | ENOMEM) => return self.turn_away(&error),
                _ if error.kind() == io::ErrorKind::WouldBlock => {
                    self.has_more = false;
                    return Accepted::NoMore;
                }
                // The peer gave up while it waited, or a signal came: on to the next.
                _ if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) => {}
                // The next connection is another event, and another attempt.
                _ => {
                    self.has_more = false;
                    return Accepted::NoMore;
                }
            }
        }
    }

    /// One in, one out would otherwise be an episode for each.
    fn recover(&mut self) {
        if self.exhausted == 1 {
            error!("There are file descriptors again: connections are accepted.");
        }
        self.exhausted = self.exhausted.saturating_sub(1);
    }

    fn turn_away(&mut self, error: &io::Error) -> Accepted {
        if self.exhausted == 0 {
            error!("New connections are closed at once: {error} (raise the limit: ulimit -n).");
        }
        self.exhausted = RECOVERED;
        if self.reserve.take().is_none() {
            // Not even one to close it with: wait until a connection ends.
            self.has_more = false;
            self.starved = true;
            self.reserve = reserve();
            return Accepted::NoMore;
        }
        // Want of a descriptor is found out before whether anybody waits: perhaps nobody does.
        let turned_away = self.socket.accept().map(drop);
        self.reserve = reserve();
        if let Err(error) = turned_away {
            self.has_more = false;
            self.starved = error.kind() != io::ErrorKind::WouldBlock;
            return Accepted::NoMore;
        }
        Accepted::TurnedAway
    }
}

/// Replies are gathered and written once a turn: holding them back further would only delay them.
/// In Linux, connections have TCP_NODELAY from their listener: not each of them need be told.
fn without_delay(listener: TcpListener) -> TcpListener {
    // Only a stream has the method; the option is any socket's.
    let socket = std::net::TcpListener::from(listener);
    let stream = std::net::TcpStream::from(OwnedFd::from(socket));
    // One that cannot be told so works all the same.
    let _ = stream.set_nodelay(true);
    let socket = std::net::TcpListener::from(OwnedFd::from(stream));
    TcpListener::from_std(socket)
}

/// A descriptor to give up when there is no other.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn resolve(asked: &ListenerAddress) -> Result<Vec<SocketAddr>, BindError> {
    let port = asked.port;
    let ips: [IpAddr; 2] = match &asked.host {
        Host::Loopback => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Host::Any => [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
        Host::Named(name) => {
            let found = (name.as_str(), port).to_socket_addrs();
            let found = found.map_err(|error| BindError::new(asked, name, &error))?;
            let found: Vec<_> = found.filter(|address| is_wanted(asked, address)).collect();
            return match found[..] {
                [] => Err(BindError::new(
                    asked,
                    name,
                    &io::ErrorKind::AddrNotAvailable.into(),
                )),
                [..] => Ok(found),
            };
        }
    };
    let addresses = ips.map(|ip| SocketAddr::new(ip, port)).into_iter();
    Ok(addresses
        .filter(|address| is_wanted(asked, address))
        .collect())
}

fn is_wanted(asked: &ListenerAddress, address: &SocketAddr) -> bool {
    match asked.domain {
        None => true,
        Some(Domain::IPv4) => address.is_ipv4(),
        Some(Domain::IPv6) => address.is_ipv6(),
    }
}

/// Whether an address that cannot be had is worth giving up for.
fn is_decisive(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

// Error numbers of Linux on every processor, which std does not name.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
