//! One client's socket: reads until there is no more, writes until there is no room.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

/// Reads when there is no time to linger.
const DRAINS: usize = 4;

/// What bytes go through.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// The poll loop knows it.
    registered: bool,
    /// As far as is known; a write that would block says no, an event says yes.
    pub writable: bool,
    /// The peer has closed its side, or the connection is broken: read on to the end.
    pub read_closed: bool,
    /// There may be more to read, and the server knows.
    pub unread: bool,
    /// It is not read now, and the server knows.
    pub paused: bool,
    /// Nothing can be read or written any more.
    pub lost: bool,
    /// Refused: what it sends is read and not listened to, until it has seen why.
    pub lingering: bool,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Nothing,
    /// That many bytes, and there are no more.
    All(usize),
    /// That many bytes, and there may be more.
    Some(usize),
    /// The peer is gone.
    End,
}

/// What a write did.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    Bytes(usize),
    Blocked,
    Lost,
}

impl Socket {
    pub fn new(stream: Stream) -> Socket {
        Socket {
            stream,
            registered: false,
            writable: true,
            read_closed: false,
            unread: false,
            paused: false,
            lost: false,
            lingering: false,
        }
    }

    /// From now on, events of it have that token.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let source = self.stream.source();
        let interest = Interest::READABLE | Interest::WRITABLE;
        match std::mem::replace(&mut self.registered, true) {
            false => registry.register(source, token, interest),
            true => registry.reregister(source, token, interest),
        }
    }

    /// One read, that is, one share of a turn.
    pub fn take(&mut self, buffer: &mut [u8]) -> Taken {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => break,
                // A short read has emptied the socket: the next bytes come with a new event.
                Ok(count) if count < buffer.len() && !self.read_closed => {
                    return Taken::All(count);
                }
                Ok(count) => return Taken::Some(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Taken::Nothing,
                    io::ErrorKind::Interrupted => {}
                    _ => break,
                },
            }
        }
        self.lost = true;
        Taken::End
    }

    pub fn write(&mut self, slices: &[IoSlice]) -> Written {
        loop {
            match self.stream.write(slices) {
                Ok(0) => break,
                Ok(count) => return Written::Bytes(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.writable = false;
                        return Written::Blocked;
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => break,
                },
            }
        }
        self.lost = true;
        self.writable = false;
        Written::Lost
    }

    /// The end without a moment to spare: what has come so far is read, so that closing resets
    /// nothing.
    pub fn part(&mut self, buffer: &mut [u8]) {
        self.say_no_more();
        for _ in 0..DRAINS {
            if matches!(self.take(buffer), Taken::Nothing | Taken::End) {
                break;
            }
        }
    }

    /// Everything has been said: the peer sees the end.
    pub fn say_no_more(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, slices: &[IoSlice]) -> io::Result<usize> {
        match (self, slices) {
            (Stream::Tcp(stream), [one]) => stream.write(one),
            (Stream::Tcp(stream), _) => stream.write_vectored(slices),
            (Stream::Unix(stream), [one]) => stream.write(one),
            (Stream::Unix(stream), _) => stream.write_vectored(slices),
        }
    }
}
