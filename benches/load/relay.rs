//! The null relay: what it takes to move bytes between sockets, with nothing done to them.
//!
//! It is this program once more, in a process of its own. A connection says its role and group in
//! five bytes and is told that this was heard; from then on, what the writer of a group sends goes
//! to all its readers. It knows no packets, so a broker cannot be cheaper by much.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::link::Link;

const READER: u8 = b'R';
const WRITER: u8 = b'W';
const HEARD: [u8; 1] = [b'.'];
const HELLO_BYTES: usize = 5;
const READ_BYTES: usize = 64 << 10;
const LISTENER: Token = Token(usize::MAX);

pub fn subscribe(address: SocketAddr, group: u32) -> io::Result<Link> {
    join(address, READER, group)
}

pub fn publish(address: SocketAddr, group: u32) -> io::Result<Link> {
    join(address, WRITER, group)
}

fn join(address: SocketAddr, role: u8, group: u32) -> io::Result<Link> {
    let mut link = Link::open(address)?;
    let [a, b, c, d] = group.to_be_bytes();
    link.ask(&[role, a, b, c, d], &HEARD)?;
    Ok(link)
}

/// Relays until it is killed.
pub fn serve(port: u16) -> io::Result<()> {
    let mut relay = Relay {
        listener: TcpListener::bind((Ipv4Addr::LOCALHOST, port).into())?,
        members: Vec::new(),
        readers: BTreeMap::new(),
        buffer: vec![0; READ_BYTES],
    };
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    poll.registry()
        .register(&mut relay.listener, LISTENER, Interest::READABLE)?;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => relay.accept(&poll)?,
                Token(number) => relay.serve(number, event.is_readable()),
            }
        }
    }
}

struct Relay {
    listener: TcpListener,
    /// Never taken out: the process does not live long.
    members: Vec<Member>,
    /// By group.
    readers: BTreeMap<u32, Vec<usize>>,
    buffer: Vec<u8>,
}

struct Member {
    stream: TcpStream,
    role: Option<(u8, u32)>,
    /// What its socket did not take.
    owed: Vec<u8>,
}

impl Relay {
    fn accept(&mut self, poll: &Poll) -> io::Result<()> {
        while let Ok((mut stream, _)) = self.listener.accept() {
            stream.set_nodelay(true)?;
            let token = Token(self.members.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, token, interest)?;
            self.members.push(Member {
                stream,
                role: None,
                owed: Vec::new(),
            });
        }
        Ok(())
    }

    fn serve(&mut self, number: usize, is_readable: bool) {
        self.members[number].flush();
        if !is_readable {
            return;
        }
        loop {
            let Relay {
                members,
                readers,
                buffer,
                ..
            } = self;
            let Ok(count @ 1..) = members[number].stream.read(buffer) else {
                return;
            };
            match members[number].role {
                Some((_, group)) => {
                    for reader in readers.get(&group).into_iter().flatten() {
                        members[*reader].send(&buffer[..count]);
                    }
                }
                None => self.hear(number, count),
            }
            if count < READ_BYTES {
                return;
            }
        }
    }

    fn hear(&mut self, number: usize, count: usize) {
        assert!(count == HELLO_BYTES, "a hello comes in one piece");
        let role = self.buffer[0];
        let group = u32::from_be_bytes(self.buffer[1..HELLO_BYTES].try_into().expect("4 bytes"));
        if role == READER {
            self.readers.entry(group).or_default().push(number);
        }
        let member = &mut self.members[number];
        member.role = Some((role, group));
        member.send(&HEARD);
    }
}

impl Member {
    fn send(&mut self, bytes: &[u8]) {
        let written = match self.owed.is_empty() {
            true => write(&mut self.stream, bytes),
            false => 0,
        };
        self.owed.extend_from_slice(&bytes[written..]);
    }

    fn flush(&mut self) {
        if !self.owed.is_empty() {
            let written = write(&mut self.stream, &self.owed);
            self.owed.drain(..written);
        }
    }
}

/// How much the socket took. Of one that is gone the rest does not matter.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(_) => return bytes.len(),
        }
    }
    written
}
