//! Listening sockets, made by hand: to say what must be said between making and opening them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use listenfd::ListenFd;
use mio::net::{TcpListener, UnixListener};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, chownat, fstat};
use rustix::process::{Gid, Uid, umask};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::listener::{Acceptor, Tuning};

/// Connections that may wait to be accepted, as far as the kernel lets them (net.core.somaxconn):
/// a thousand clients that come at once must not have to come again.
const BACKLOG: i32 = i32::MAX;

pub const CAN_BE_PASSED: bool = true;
/// Each family has sockets of its own, as with Mosquitto.
pub const IPV6_TAKES_IPV4: bool = false;

pub fn tcp(address: SocketAddr, interface: Option<&str>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Connections of an earlier run may still be ending.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(name) = interface {
        socket.bind_device(Some(name.as_bytes()))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// In Linux, connections have all that from their listener: not each of them need be told.
pub fn tune(listener: &TcpListener, tuning: Tuning) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(tuning.nodelay)?;
    if let Some(bytes) = tuning.buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    Ok(())
}

/// A Unix socket that has its file, and listens to nobody yet.
pub struct Bound(Socket);

impl Bound {
    /// The file has its mode from the start: chmod would go by the path, where something else may
    /// be by then.
    pub fn new(path: &Path, mode: u32) -> io::Result<Bound> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let address = SockAddr::unix(path)?;
        let before = umask(Mode::from_raw_mode(!mode & 0o777));
        let bound = socket.bind(&address);
        umask(before);
        bound.map(|()| Bound(socket))
    }

    pub fn listen(self) -> io::Result<UnixListener> {
        self.0.listen(BACKLOG)?;
        Ok(UnixListener::from_std(self.0.into()))
    }
}

/// Gives the file of a socket to others. What is opened stays what it is, whatever those who may
/// write to its directory put in its place.
pub fn give(path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::Error::other("something else is there now"));
    }
    let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
    Ok(chownat(&file, "", owner, group, AtFlags::EMPTY_PATH)?)
}

/// The sockets that were passed by who started midge, or what is wrong with them.
pub fn passed() -> Result<Vec<Acceptor>, String> {
    let mut given = ListenFd::from_env();
    (0..given.len())
        .map(|index| {
            let wrong = |error: io::Error| format!("socket {} that was passed: {error}", index + 1);
            match take(&mut given, index).map_err(wrong)? {
                Some(socket) => Ok(socket),
                None => Err(wrong(io::Error::other(
                    "it is no TCP or Unix socket that listens",
                ))),
            }
        })
        .collect()
}

fn take(given: &mut ListenFd, index: usize) -> io::Result<Option<Acceptor>> {
    // What is another kind of socket is left where it is.
    if let Ok(Some(listener)) = given.take_tcp_listener(index) {
        listener.set_nonblocking(true)?;
        let listens = SockRef::from(&listener).is_listener()?;
        return Ok(listens.then(|| Acceptor::Tcp(TcpListener::from_std(listener))));
    }
    let Ok(Some(listener)) = given.take_unix_listener(index) else {
        return Ok(None);
    };
    listener.set_nonblocking(true)?;
    if !SockRef::from(&listener).is_listener()? {
        return Ok(None);
    }
    let address = listener.local_addr()?;
    let path = address.as_pathname().map(Path::to_string_lossy);
    let path = path.unwrap_or("a Unix socket without a path".into());
    Ok(Some(Acceptor::Unix(
        UnixListener::from_std(listener),
        path.into(),
    )))
}
