//! Connections through a proxy that has not said yet for whom: the broker is told of them once it
//! has, and of nothing before. Bounded in number and in time, as are peers without a CONNECT.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use log::{debug, warn};
use mio::Token;
use mio::event::Event;
use slab::Slab;

use super::proxy::{self, ProxyVersion, Source};
use super::socket::{Socket, Taken};
use super::{FIRST_PROXIED, Server};
use crate::broker::Peer;
use crate::broker::limits::Limits;

/// Those that have not said it.
#[derive(Default)]
pub struct Proxied {
    slots: Slab<Waiting>,
    /// Until when they may, in the order of opening.
    deadlines: VecDeque<(Instant, usize)>,
    /// Too many have waited, which was logged.
    crowded: bool,
}

struct Waiting {
    socket: Socket,
    /// Index of the server's listener.
    listener: usize,
    version: ProxyVersion,
    proxy: Peer,
    /// The beginning of a header whose end has not come yet.
    bytes: Vec<u8>,
}

impl Proxied {
    /// When the first of them has waited long enough.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(until, _)| *until)
    }

    fn remove(&mut self, key: usize) -> Waiting {
        self.deadlines.retain(|(_, other)| *other != key);
        self.slots.remove(key)
    }
}

impl Server {
    /// A proxy has connected.
    pub(super) fn open_proxied(
        &mut self,
        listener: usize,
        version: ProxyVersion,
        mut socket: Socket,
        proxy: Peer,
        now: Instant,
    ) {
        let slot = self.proxied.slots.vacant_entry();
        let key = slot.key();
        if socket
            .register(self.poll.registry(), Token(FIRST_PROXIED + key))
            .is_err()
        {
            return;
        }
        slot.insert(Waiting {
            socket,
            listener,
            version,
            proxy,
            bytes: Vec::new(),
        });
        let until = now + Duration::from_millis(Limits::CONNECT_WITHIN);
        self.proxied.deadlines.push_back((until, key));
        // Those who are slow must not keep the others out.
        if self.proxied.slots.len() <= Limits::UNCONNECTED_MAX {
            self.proxied.crowded = false;
        } else if let Some((_, oldest)) = self.proxied.deadlines.front().copied() {
            if !std::mem::replace(&mut self.proxied.crowded, true) {
                warn!("Too many proxies have sent no PROXY header: the oldest are closed.");
            }
            self.close_proxied(oldest);
        }
    }

    pub(super) fn on_proxied(&mut self, key: usize, event: &Event, now: Instant) {
        // It may be closed already, for one that came in the same turn.
        let Some(waiting) = self.proxied.slots.get_mut(key) else {
            return;
        };
        waiting.socket.read_closed |= event.is_read_closed() || event.is_error();
        loop {
            let (count, is_all) = match waiting.socket.take(&mut self.buffer) {
                Taken::Nothing => return,
                Taken::All(count) => (count, true),
                Taken::Some(count) => (count, false),
                Taken::End => {
                    debug!("{} has left without a PROXY header.", waiting.proxy);
                    return self.close_proxied(key);
                }
            };
            let new = &self.buffer[..count];
            let had = waiting.bytes.len();
            let header = match had {
                0 => proxy::parse(waiting.version, new),
                _ => {
                    // No more than can be of a header.
                    let room = proxy::HEADER_BYTES_MAX - had;
                    waiting.bytes.extend_from_slice(&new[..count.min(room)]);
                    proxy::parse(waiting.version, &waiting.bytes)
                }
            };
            match header {
                Ok(Some((source, length))) => {
                    return self.introduce(key, source, (length - had)..count, is_all, now);
                }
                Ok(None) if had == 0 => waiting.bytes.extend_from_slice(new),
                Ok(None) => {}
                Err(why) => {
                    warn!("Connection from {} closed: {why}.", waiting.proxy);
                    return self.close_proxied(key);
                }
            }
            if is_all {
                return;
            }
        }
    }

    /// It is known who it is; what has come behind the header, a part of the buffer, is theirs.
    fn introduce(
        &mut self,
        key: usize,
        source: Source,
        rest: std::ops::Range<usize>,
        is_all: bool,
        now: Instant,
    ) {
        let Waiting {
            socket,
            listener,
            proxy,
            ..
        } = self.proxied.remove(key);
        let peer = match source {
            Source::Address(address) => super::canonical(address).into(),
            Source::Unix => Peer::Through(format!("a Unix socket behind {proxy}").into()),
            Source::Proxy => proxy,
        };
        let Some(id) = self.admit(listener, socket, peer, now) else {
            return;
        };
        if !is_all {
            self.sockets[id.index()].unread = true;
            self.unread.push(id);
        }
        if !rest.is_empty() {
            self.broker.receive(id, &self.buffer[rest], now);
        }
    }

    /// Closes those that have had their time.
    pub(super) fn end_proxied(&mut self, now: Instant) {
        while let Some((until, key)) = self.proxied.deadlines.front().copied() {
            if until > now {
                return;
            }
            let proxy = &self.proxied.slots[key].proxy;
            warn!("Connection from {proxy} closed: no PROXY header in time.");
            self.close_proxied(key);
        }
    }

    fn close_proxied(&mut self, key: usize) {
        drop(self.proxied.remove(key));
        self.descriptor_is_free();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::broker::Broker;
    use crate::broker::limits::Options;
    use crate::net::Tuning;
    use crate::net::socket::Stream;

    const SECOND: Duration = Duration::from_secs(1);

    fn server(now: Instant) -> Server {
        let broker = Broker::new(Options::default(), now);
        Server::new(broker, Tuning::default()).expect("there are descriptors")
    }

    /// A proxy connects; its end of the connection.
    fn open(server: &mut Server, now: Instant) -> UnixStream {
        let (theirs, ours) = UnixStream::pair().expect("there are descriptors");
        for end in [&theirs, &ours] {
            end.set_nonblocking(true).expect("it can be set");
        }
        let ours = Socket::new(Stream::Unix(mio::net::UnixStream::from_std(ours)));
        let proxy = Peer::Through("a proxy".into());
        server.open_proxied(0, ProxyVersion::V1, ours, proxy, now);
        theirs
    }

    fn is_closed(mut stream: &UnixStream) -> bool {
        match stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    #[test]
    fn a_proxy_that_says_nothing_is_closed_in_time() {
        let start = Instant::now();
        let mut server = server(start);
        assert_eq!(server.proxied.deadline(), None);
        let first = open(&mut server, start);
        let second = open(&mut server, start + SECOND);
        assert_eq!(server.proxied.deadline(), Some(start + 10 * SECOND));
        server.end_proxied(start + 10 * SECOND - Duration::from_millis(1));
        assert!(!is_closed(&first));
        server.end_proxied(start + 10 * SECOND);
        assert!(is_closed(&first));
        assert!(!is_closed(&second));
        assert_eq!(server.proxied.deadline(), Some(start + 11 * SECOND));
        server.end_proxied(start + 60 * SECOND);
        assert!(is_closed(&second));
        assert_eq!(server.proxied.deadline(), None);
    }

    #[test]
    fn so_many_may_say_nothing_and_then_the_oldest_go() {
        let now = Instant::now();
        let mut server = server(now);
        let (first, second) = (open(&mut server, now), open(&mut server, now));
        // Their ends are dropped, for want of descriptors: nobody looks.
        (2..Limits::UNCONNECTED_MAX).for_each(|_| drop(open(&mut server, now)));
        assert!(!is_closed(&first));
        let last = open(&mut server, now);
        assert!(is_closed(&first));
        assert!(!is_closed(&second) && !is_closed(&last));
        assert_eq!(server.proxied.slots.len(), Limits::UNCONNECTED_MAX);
    }
}
