//! Listening sockets as std and mio make them: no interfaces, no sockets that were passed, and a
//! short backlog; and the file of a Unix socket gets mode and owner by its path, which is good in
//! directories that only midge's user may write to. In place of `sockets.rs` where the feature of
//! that name is off.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use mio::net::{TcpListener, UnixListener};

use super::listener::{Acceptor, Tuning};

pub const CAN_BE_PASSED: bool = false;
/// The IPv6 socket for all addresses has IPv4's as well, and std cannot tell it not to.
pub const IPV6_TAKES_IPV4: bool = true;

/// There is no interface here: the setting is refused.
pub fn tcp(address: SocketAddr, _: Option<&str>) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// In Linux, connections have that from their listener: not each of them need be told. Their
/// buffers are the kernel's matter: who limits memory has the other module.
pub fn tune(listener: &TcpListener, tuning: Tuning) -> io::Result<()> {
    // Only a stream has the method; the option is any socket's.
    let stream = std::net::TcpStream::from(listener.as_fd().try_clone_to_owned()?);
    stream.set_nodelay(tuning.nodelay)
}

/// A Unix socket that has its file.
pub struct Bound(UnixListener);

impl Bound {
    pub fn new(path: &Path, mode: u32) -> io::Result<Bound> {
        let bound = UnixListener::bind(path).map(Bound)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(bound)
    }

    pub fn listen(self) -> io::Result<UnixListener> {
        Ok(self.0)
    }
}

/// Gives the file of a socket to others.
pub fn give(path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    lchown(path, owner, group)
}

/// None: who has passed some is told so.
pub fn passed() -> Result<Vec<Acceptor>, String> {
    Ok(Vec::new())
}
