//! Listening sockets as std and mio make them: no interfaces, no sockets that were passed, and a
//! short backlog. In place of `sockets.rs` where the feature of that name is off.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use mio::net::{TcpListener, UnixListener};

use super::listener::Acceptor;

pub const CAN_BE_PASSED: bool = false;

/// There is no interface here: the setting is refused.
pub fn tcp(address: SocketAddr, _: Option<&str>) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// In Linux, connections have TCP_NODELAY from their listener: not each of them need be told.
pub fn without_delay(listener: TcpListener) -> TcpListener {
    // Only a stream has the method; the option is any socket's.
    let socket = std::net::TcpListener::from(listener);
    let stream = std::net::TcpStream::from(OwnedFd::from(socket));
    // One that cannot be told so works all the same.
    let _ = stream.set_nodelay(true);
    let socket = std::net::TcpListener::from(OwnedFd::from(stream));
    TcpListener::from_std(socket)
}

/// A Unix socket that has its file.
pub struct Bound(UnixListener);

impl Bound {
    pub fn new(path: &Path) -> io::Result<Bound> {
        UnixListener::bind(path).map(Bound)
    }

    pub fn listen(self) -> io::Result<UnixListener> {
        Ok(self.0)
    }
}

/// None: who has passed some is told so.
pub fn passed() -> Result<Vec<Acceptor>, String> {
    Ok(Vec::new())
}
