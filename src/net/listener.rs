//! Listening sockets, and what to do when there are no descriptors left.
//!
//! A descriptor is kept in reserve. When accepting fails for want of one, it is given up for long
//! enough to accept and close the connection that waits: its peer is told at once instead of
//! hanging, and the loop does not spin on a listener that is always ready.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use log::{error, warn};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};

use super::address::{BindError, Domain, Host, ListenerAddress};
use super::passed::Passed;
use super::proxy::ProxyVersion;
use super::socket::Stream;
use super::socket_file::{self, SocketFile};
use super::sockets;
use crate::broker::Peer;

/// Connections accepted one after the other that end an episode without descriptors.
const RECOVERED: u32 = 16;

#[derive(Debug)]
pub struct Listener {
    socket: Acceptor,
    /// Where it listens, in words.
    place: String,
    /// Of its options in the broker.
    pub index: usize,
    /// Its connections begin with a header of that version.
    pub proxy: Option<ProxyVersion>,
    /// Connections may be waiting.
    pub has_more: bool,
    /// Connections are waiting, for want of a descriptor.
    pub starved: bool,
    reserve: Option<File>,
    turns_ipv4_away: bool,
    /// How many more must be accepted until an episode without descriptors, which was logged, is
    /// over; 0 outside of one.
    exhausted: u32,
    /// Of a Unix socket that we have made.
    file: Option<SocketFile>,
}

/// What connections that are accepted have from their listener, where it is TCP's.
#[derive(Clone, Default, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    pub nodelay: bool,
    /// What the kernel may hold for one of them, each way; by default what it thinks right.
    pub buffer_bytes: Option<usize>,
}

/// What connections come from.
#[derive(Debug)]
pub enum Acceptor {
    Tcp(TcpListener),
    /// With its path.
    Unix(UnixListener, Rc<str>),
}

pub enum Accepted {
    Stream(Stream, Peer),
    /// There was no descriptor for it; it was closed.
    TurnedAway,
    NoMore,
}

impl Acceptor {
    fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Acceptor::Tcp(listener) => listener
                .accept()
                .map(|(stream, peer)| (Stream::Tcp(stream), canonical(peer).into())),
            Acceptor::Unix(listener, path) => listener
                .accept()
                .map(|(stream, _)| (Stream::Unix(stream), Peer::Through(path.clone()))),
        }
    }

    /// Where it listens, in words.
    pub fn place(&self) -> String {
        match self {
            Acceptor::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.to_string(),
                Err(_) => "an address that is not known".to_string(),
            },
            Acceptor::Unix(_, path) => path.to_string(),
        }
    }
}

/// IPv4 addresses as such, also where they come through an IPv6 socket.
pub fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

impl Listener {
    /// Opens what `asked` comes to: a socket for each address. Those that were passed take the
    /// place of all of them.
    pub fn bind(
        index: usize,
        asked: &ListenerAddress,
        tuning: Tuning,
        passed: &mut Passed,
    ) -> Result<Vec<Listener>, BindError> {
        let passed = passed.take(asked)?;
        let sockets = match (&asked.host, passed.is_empty()) {
            (_, false) => passed.into_iter().map(|socket| (socket, None)).collect(),
            (Host::Unix(path), true) => vec![bind_unix(asked, path)?],
            (Host::Passed | Host::Loopback | Host::Any | Host::Named(_), true) => bind_tcp(asked)?,
        };
        let listener = |(socket, file): Opened| {
            let listener = Listener {
                place: socket.place(),
                socket,
                index,
                proxy: asked.proxy,
                has_more: false,
                starved: false,
                reserve: reserve(),
                turns_ipv4_away: sockets::IPV6_TAKES_IPV4 && asked.domain == Some(Domain::IPv6),
                exhausted: 0,
                file,
            };
            listener.tune(tuning);
            listener
        };
        Ok(sockets.into_iter().map(listener).collect())
    }

    /// Where it listens, in words.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The file that goes with it.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::path)
    }

    /// For those who connect from now on. One that cannot be told so works all the same.
    pub fn tune(&self, tuning: Tuning) {
        let Acceptor::Tcp(socket) = &self.socket else {
            return;
        };
        if let Err(error) = sockets::tune(socket, tuning) {
            let place = self.place();
            warn!("What connections to {place} have cannot be set: {error}.");
        }
    }

    pub fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        asked: &ListenerAddress,
    ) -> Result<(), BindError> {
        let registered = match &mut self.socket {
            Acceptor::Tcp(socket) => registry.register(socket, token, Interest::READABLE),
            Acceptor::Unix(socket, _) => registry.register(socket, token, Interest::READABLE),
        };
        registered.map_err(|error| BindError::new(asked, &self.place, &error))
    }

    /// Takes the next connection.
    pub fn accept(&mut self) -> Accepted {
        loop {
            let error = match self.socket.accept() {
                Ok((_, peer))
                    if self.turns_ipv4_away && peer.ip().is_some_and(|ip| ip.is_ipv4()) =>
                {
                    continue;
                }
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

/// A descriptor to give up when there is no other.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

type Opened = (Acceptor, Option<SocketFile>);

fn bind_tcp(asked: &ListenerAddress) -> Result<Vec<Opened>, BindError> {
    let mut opened: Vec<Opened> = Vec::new();
    // Port 0 means any free port, but the same for both.
    let mut port = asked.port;
    let mut missing = None;
    for mut address in asked.resolve()? {
        address.set_port(port);
        let socket = sockets::tcp(address, asked.interface.as_deref());
        match socket.and_then(|socket| Ok((socket.local_addr()?.port(), socket))) {
            Ok((its_port, socket)) => {
                port = its_port;
                opened.push((Acceptor::Tcp(socket), None));
            }
            Err(error)
                if sockets::IPV6_TAKES_IPV4
                    && error.kind() == io::ErrorKind::AddrInUse
                    && asked.host == Host::Any
                    && !opened.is_empty() => {}
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
        Some(error) if opened.is_empty() => Err(error),
        _ => Ok(opened),
    }
}

/// The file is whose it is to be before anybody can connect.
fn bind_unix(asked: &ListenerAddress, path: &str) -> Result<Opened, BindError> {
    let open = |at: &Path| {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => "there is no such directory".to_string(),
            _ => error.to_string(),
        };
        socket_file::make_room(at)?;
        let bound = sockets::Bound::new(at, asked.file.mode).map_err(failed)?;
        let file = SocketFile::new(at).map_err(failed)?;
        file.hand_over(asked)?;
        let listener = bound.listen().map_err(failed)?;
        Ok((Acceptor::Unix(listener, path.into()), Some(file)))
    };
    open(Path::new(path)).map_err(|why: String| BindError::because(asked, path, &why))
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

#[cfg(test)]
#[cfg(feature = "sockets")]
mod tests {
    use super::*;
    use crate::net::FileOptions;

    #[test]
    fn connections_have_the_buffers_of_their_listener_from_then_on() {
        let tuning = |buffer_bytes| Tuning {
            nodelay: true,
            buffer_bytes,
        };
        let asked = ListenerAddress {
            host: Host::Loopback,
            port: 0,
            interface: None,
            domain: Some(Domain::IPv4),
            file: FileOptions::default(),
            user: None,
            proxy: None,
            origin: String::new(),
        };
        let listeners = Listener::bind(0, &asked, tuning(Some(8_192)), &mut Passed::default());
        let mut listener = listeners.unwrap().remove(0);
        let sizes = |listener: &mut Listener| {
            let _peer = std::net::TcpStream::connect(listener.place()).unwrap();
            let accepted = loop {
                if let Accepted::Stream(Stream::Tcp(stream), _) = listener.accept() {
                    break stream;
                }
            };
            let socket = socket2::SockRef::from(&accepted);
            let sizes = [socket.recv_buffer_size(), socket.send_buffer_size()];
            sizes.map(Result::unwrap)
        };
        // Linux adds as much for what it needs itself.
        assert_eq!(sizes(&mut listener), [16_384; 2]);
        listener.tune(tuning(Some(16_384)));
        assert_eq!(sizes(&mut listener), [32_768; 2]);
    }
}
