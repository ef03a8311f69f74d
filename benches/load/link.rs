//! A client's connection: what it is to write, and the packets it reads.
//!
//! The socket does not block and, but for latencies, nobody waits for it: a throughput run sleeps
//! on a timer and then reads and writes every link once. A reader who is woken for each message
//! would make the broker pay for each wake-up and so hide what is measured.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::wire::{self, Session};

/// Enough for what comes within a tick.
pub const READ_BYTES: usize = 256 << 10;
/// Between two rounds over all links.
pub const TICK: Duration = Duration::from_millis(1);
/// Nothing has come for so long: what is missing will not come any more.
pub const PATIENCE: Duration = Duration::from_secs(3);

pub struct Link {
    pub stream: TcpStream,
    pub out: Vec<u8>,
    written: usize,
    /// The beginning of a packet whose end has not come.
    leftover: Vec<u8>,
}

impl Link {
    /// Connects the socket only. On loopback that does not take a turn of the broker.
    pub fn open(address: SocketAddr) -> io::Result<Link> {
        let stream = net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Link {
            stream: TcpStream::from_std(stream),
            out: Vec::new(),
            written: 0,
            leftover: Vec::new(),
        })
    }

    /// With a clean session and without keep alive.
    pub fn connect(address: SocketAddr, client_id: &str) -> io::Result<Link> {
        Link::connect_to(address, client_id, Session::Clean)
    }

    /// With a session that was not there before.
    pub fn connect_to(address: SocketAddr, client_id: &str, session: Session) -> io::Result<Link> {
        let mut link = Link::open(address)?;
        link.ask(&wire::connect(client_id, session, 0), &wire::connack(false))?;
        Ok(link)
    }

    pub fn subscribe(&mut self, filters: &[String], qos: u8) -> io::Result<()> {
        for some in filters.chunks(100) {
            self.ask(&wire::subscribe(some, qos), &wire::suback(some.len(), qos))?;
        }
        Ok(())
    }

    /// Sends `request` and waits for just this answer. What comes behind it is left.
    pub fn ask(&mut self, request: &[u8], answer: &[u8]) -> io::Result<()> {
        self.out.extend(request);
        self.flush()?;
        let mut got = vec![0; answer.len()];
        let mut count = 0;
        let start = Instant::now();
        while count < got.len() {
            match self.stream.read(&mut got[count..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if start.elapsed() > PATIENCE {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    sleep(Duration::from_micros(50));
                }
                Err(error) => return Err(error),
            }
        }
        match got == answer {
            true => Ok(()),
            false => Err(wire::unexpected("a CONNECT or SUBSCRIBE was refused")),
        }
    }

    /// Reads until there is no more, and shows each packet: its first byte, its body, and where to
    /// put an answer.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        mut on_packet: impl FnMut(u8, &[u8], &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let kept = self.leftover.len();
            buffer[..kept].copy_from_slice(&self.leftover);
            let end = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => kept + count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut rest = &buffer[..end];
            while let Some((first, body, behind)) = wire::cut(rest) {
                on_packet(first, body, &mut self.out)?;
                rest = behind;
            }
            self.leftover.clear();
            self.leftover.extend_from_slice(rest);
            if end < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Writes what the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

/// Tells when nothing moves any more.
pub struct Patience {
    since: Instant,
    count: u64,
}

impl Patience {
    pub fn new() -> Patience {
        Patience {
            since: Instant::now(),
            count: 0,
        }
    }

    /// `count` is of something that grows as long as all is well.
    pub fn is_over(&mut self, count: u64) -> bool {
        if count != self.count {
            *self = Patience {
                since: Instant::now(),
                count,
            };
        }
        self.since.elapsed() > PATIENCE
    }
}
