//! Where to listen, as asked for, and why that cannot be had.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::proxy::ProxyVersion;

/// Where to listen, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAddress {
    pub port: u16,
    pub host: Host,
    /// Addresses of one family only.
    pub domain: Option<Domain>,
    /// What comes in by this interface only.
    pub interface: Option<String>,
    /// Whose a Unix socket is, and if that is not said.
    pub file: FileOptions,
    pub user: Option<(u32, u32)>,
    /// Each connection begins with a header that says who is behind the proxy.
    pub proxy: Option<ProxyVersion>,
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
    /// A Unix socket of this path.
    Unix(String),
    /// Whatever sockets were passed by who started midge.
    Passed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    IPv4,
    IPv6,
}

/// Names or numbers of users and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    pub owner: Option<String>,
    pub group: Option<String>,
    pub mode: u32,
}

impl Default for FileOptions {
    /// For its user and its group, as Mosquitto has it.
    fn default() -> FileOptions {
        FileOptions {
            owner: None,
            group: None,
            mode: 0o770,
        }
    }
}

impl ListenerAddress {
    pub fn new(port: u16, host: Host, origin: String) -> ListenerAddress {
        ListenerAddress {
            port,
            host,
            domain: None,
            interface: None,
            file: FileOptions::default(),
            user: None,
            proxy: None,
            origin,
        }
    }

    /// Whether both ask for the same, wherever they stand.
    pub fn is_same_place(&self, other: &ListenerAddress) -> bool {
        let other = ListenerAddress {
            origin: self.origin.clone(),
            user: self.user,
            ..other.clone()
        };
        *self == other
    }

    /// Whether both ask for the same port of the same address, or the same path.
    pub fn is_same_address(&self, other: &ListenerAddress) -> bool {
        self.port == other.port && self.host == other.host
    }

    /// Whether both ask for the same port, or the same path.
    pub fn is_same_port(&self, other: &ListenerAddress) -> bool {
        match (&self.host, &other.host) {
            (Host::Unix(path), Host::Unix(other)) => path == other,
            (Host::Passed, Host::Passed) => true,
            (Host::Unix(_) | Host::Passed, _) | (_, Host::Unix(_) | Host::Passed) => false,
            (Host::Loopback | Host::Any | Host::Named(_), _) => self.port == other.port,
        }
    }

    /// The addresses that this comes to.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, BindError> {
        let port = self.port;
        let ips: [IpAddr; 2] = match &self.host {
            Host::Loopback => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Host::Any => [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
            Host::Unix(_) | Host::Passed => return Ok(Vec::new()),
            Host::Named(name) => {
                let found = (name.as_str(), port).to_socket_addrs();
                let found = found.map_err(|error| BindError::new(self, name, &error))?;
                let found: Vec<_> = found.filter(|address| self.wants(address)).collect();
                return match found[..] {
                    [] => Err(BindError::new(
                        self,
                        name,
                        &io::ErrorKind::AddrNotAvailable.into(),
                    )),
                    [..] => Ok(found),
                };
            }
        };
        let addresses = ips.map(|ip| SocketAddr::new(ip, port)).into_iter();
        Ok(addresses.filter(|address| self.wants(address)).collect())
    }

    /// Whether that address is of a family that is asked for.
    pub fn wants(&self, address: &SocketAddr) -> bool {
        match self.domain {
            None => true,
            Some(Domain::IPv4) => address.is_ipv4(),
            Some(Domain::IPv6) => address.is_ipv6(),
        }
    }
}

/// Why a listener cannot be opened: a sentence that names the flag and what to do.
#[derive(Debug)]
pub struct BindError(String);

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl BindError {
    pub fn new(asked: &ListenerAddress, address: &str, error: &io::Error) -> BindError {
        let remedy = match (error.kind(), &asked.interface) {
            (io::ErrorKind::AddrInUse, _) => {
                "another listener or program has it; take another port, or stop that"
            }
            (io::ErrorKind::PermissionDenied, Some(_)) => {
                "neither ports below 1024 nor, before Linux 5.7, interfaces are for all; \
                 start midge as root"
            }
            (io::ErrorKind::PermissionDenied, None) => {
                "ports below 1024 are for root; take one from 1024 to 65535"
            }
            (io::ErrorKind::AddrNotAvailable, _) => "this machine has no such address",
            (_, Some(_)) if error.raw_os_error() == Some(ENODEV) => {
                "this machine has no interface of that name; ip link lists them"
            }
            _ => "check the address",
        };
        let through = match &asked.interface {
            Some(name) => format!(" through the interface {name}"),
            None => String::new(),
        };
        BindError(format!(
            "{}: cannot listen on {address}{through}: {error}; {remedy}",
            asked.origin
        ))
    }

    /// The same, where it is known what is wrong.
    pub fn because(asked: &ListenerAddress, address: &str, why: &str) -> BindError {
        BindError(format!(
            "{}: cannot listen on {address}: {why}",
            asked.origin
        ))
    }
}

// Of Linux on every processor; std does not name it.
const ENODEV: i32 = 19;
