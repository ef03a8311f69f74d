//! Lines for syslog: datagrams to its socket. A syslog that is away, or does not keep up, costs
//! lines and never time: nothing here waits.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::process;

/// Where syslog listens.
pub const SOCKET: &str = "/dev/log";

/// LOG_DAEMON, which libraries take if nothing is said; LOG_LOCAL0 to LOG_LOCAL7 follow from 16 on.
const DAEMON: u8 = 3;
const LOCAL0: u8 = 16;

#[derive(Debug)]
pub struct Syslog {
    path: String,
    facility: u8,
    /// `None` while there is nobody.
    socket: Option<UnixDatagram>,
    /// When it was looked for in vain, in seconds: once in each of them is enough.
    looked: Option<u64>,
    packet: Vec<u8>,
}

impl Syslog {
    /// `facility` is the number of a LOCAL one.
    pub fn new(path: &str, facility: Option<u8>) -> Syslog {
        Syslog {
            path: path.to_string(),
            facility: facility.map_or(DAEMON, |number| LOCAL0 + number),
            socket: None,
            looked: None,
            packet: Vec::new(),
        }
    }

    /// Without a time: every syslog puts its own, and does not know whose zone ours would be in.
    pub fn write(&mut self, severity: u8, message: &[u8], seconds: u64) -> io::Result<()> {
        let priority = self.facility << 3 | severity;
        self.packet.clear();
        write!(self.packet, "<{priority}>midge[{}]: ", process::id())?;
        self.packet.extend_from_slice(message);
        if let Some(socket) = &self.socket {
            match socket.send(&self.packet) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                // It has started anew: its socket is another one.
                Err(_) => self.socket = None,
            }
        }
        if self.looked == Some(seconds) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.looked = Some(seconds);
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        socket.send(&self.packet)?;
        self.socket = Some(socket);
        self.looked = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_reach_a_syslog_that_starts_anew_and_one_that_is_away_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("midge-syslog-{}", process::id()));
        let name = path.to_str().unwrap();
        let mut syslog = Syslog::new(name, Some(2));
        assert!(syslog.write(3, b"nobody is there", 1).is_err());
        let mut bytes = [0; 200];
        let mut read = |socket: &UnixDatagram| {
            let length = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let expected = |number: u8, text: &str| {
            let priority = (16 + 2) * 8 + number;
            format!("<{priority}>midge[{}]: {text}", process::id())
        };
        let first = UnixDatagram::bind(&path).unwrap();
        assert!(syslog.write(3, b"not so soon", 1).is_err());
        syslog.write(4, b"here it is", 2).unwrap();
        assert_eq!(read(&first), expected(4, "here it is"));
        drop(first);
        fs::remove_file(&path).unwrap();
        assert!(syslog.write(4, b"it is gone", 2).is_err());
        let second = UnixDatagram::bind(&path).unwrap();
        syslog.write(6, b"it is another", 3).unwrap();
        assert_eq!(read(&second), expected(6, "it is another"));
        let mut lines = 0;
        while syslog.write(6, b"it does not read", 3).is_ok() {
            lines += 1;
            assert!(lines < 1_000_000, "it has endless room");
        }
        for _ in 0..lines {
            assert_eq!(read(&second), expected(6, "it does not read"));
        }
        syslog.write(6, b"it reads again", 3).unwrap();
        assert_eq!(read(&second), expected(6, "it reads again"));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn without_a_facility_it_is_a_daemon() {
        assert_eq!(Syslog::new(SOCKET, None).facility << 3, 24);
        assert_eq!(Syslog::new(SOCKET, Some(7)).facility << 3, 23 << 3);
    }
}
