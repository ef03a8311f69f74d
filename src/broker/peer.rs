//! Who is at the other end of a connection: an address, or a Unix socket, which has none.

use core::net::{IpAddr, SocketAddr};
use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

/// Where a client is, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Address(SocketAddr),
    /// It has no address: what it came through instead, such as the path of a Unix socket.
    Through(Rc<str>),
}

impl Peer {
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Address(address) => Some(address.ip()),
            Peer::Through(_) => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Address(address)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Peer {
    fn from(address: (I, u16)) -> Peer {
        Peer::Address(address.into())
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Peer::Address(address) => address.fmt(f),
            Peer::Through(path) => f.write_str(path),
        }
    }
}
