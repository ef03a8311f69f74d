//! Sockets: one poll loop owns them all. It moves bytes and knows no MQTT.
//!
//! A turn has seven steps, in this order, and no other order is right: wait, take in, let time
//! pass, end the turn, make durable, send out, close. Nothing is written while bytes are taken in,
//! so that everything a turn produces for a socket leaves in one write, behind what it depends on;
//! while it is sent nothing is produced. No slot is freed before the end, so that an id means one
//! connection throughout a turn. Sockets are registered once, edge-triggered: what
//! has not been read within the budget is remembered, and the next wait is none.

mod address;
mod closing;
mod listener;
mod passed;
mod proxied;
pub mod proxy;
mod seams;
#[cfg(feature = "signals")]
pub mod signals;
mod socket;
mod socket_file;
#[cfg_attr(not(feature = "sockets"), path = "plain_sockets.rs")]
mod sockets;

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use log::{info, warn};
use mio::event::Event;
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::broker::{Broker, ConnectionId, Peer, Turn};

pub use address::{BindError, Domain, FileOptions, Host, ListenerAddress};
pub use listener::Tuning;
use listener::{Accepted, Listener, canonical};
pub use passed::{Passed, passed_count};
use proxied::Proxied;
pub use proxy::ProxyVersion;
pub use seams::{Commit, Gate, Keeper, Notice, Steward};
use socket::{Socket, Taken, Written};

/// Bytes read from one socket before the others have their turn; the size of the read buffer too.
const READ_BYTES: usize = 64 << 10;
/// Sockets that one wait tells of.
const EVENTS: usize = 1024;
/// Turns in a row that may be spent on taking in alone.
const HURRIES_MAX: u32 = 64;
/// Connections accepted before those that exist have their turn.
const ACCEPTS: usize = 256;

/// Sockets have the tokens from 0 on, then come those that wait for a proxy, listeners, notices.
const FIRST_PROXIED: usize = usize::MAX / 4;
const FIRST_LISTENER: usize = usize::MAX / 2;
const FIRST_NOTICE: usize = usize::MAX - 64;

/// The event loop.
pub struct Server {
    poll: Poll,
    events: Events,
    broker: Broker,
    /// Where anything is to survive.
    keeper: Option<Box<dyn Keeper>>,
    /// Where there are users.
    gate: Option<Box<dyn Gate>>,
    steward: Option<Box<dyn Steward>>,
    listeners: Vec<Listener>,
    /// Under the ids of the broker's connections.
    sockets: Slab<Socket>,
    /// Connections that the broker does not know yet.
    proxied: Proxied,
    notices: Vec<(UnixStream, Notice)>,
    /// Read into by all sockets.
    buffer: Box<[u8]>,
    /// Sockets that may have more to read.
    unread: Vec<ConnectionId>,
    /// Sockets that the broker wants no more from for now.
    paused: Vec<ConnectionId>,
    /// Sockets that can be written to again.
    writable: Vec<ConnectionId>,
    /// Sockets that were found to be lost when they were written to.
    gone: Vec<ConnectionId>,
    /// Refused, told, and not closed yet; by time.
    lingering: VecDeque<(Instant, ConnectionId)>,
    /// Those of them whose peers have closed their side.
    parted: Vec<ConnectionId>,
    turn: Turn,
    /// Turns in a row that left events for the next.
    hurries: u32,
    tuning: Tuning,
    stopping: bool,
}

impl Server {
    pub fn new(broker: Broker, tuning: Tuning) -> io::Result<Server> {
        Ok(Server {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            broker,
            keeper: None,
            gate: None,
            steward: None,
            listeners: Vec::new(),
            sockets: Slab::new(),
            proxied: Proxied::default(),
            notices: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            unread: Vec::new(),
            paused: Vec::new(),
            writable: Vec::new(),
            gone: Vec::new(),
            lingering: VecDeque::new(),
            parted: Vec::new(),
            turn: Turn::default(),
            hurries: 0,
            tuning,
            stopping: false,
        })
    }

    /// What there is to set before the first turn, and on SIGHUP.
    pub fn broker(&mut self) -> &mut Broker {
        &mut self.broker
    }

    /// Keeps what must survive; before the first turn.
    pub fn keep_with(&mut self, keeper: Option<Box<dyn Keeper>>) {
        self.keeper = keeper;
    }

    /// Opens a listener, or takes what was passed for it; `index` is that of its options in the
    /// broker. Returns where it listens.
    pub fn listen(
        &mut self,
        index: usize,
        address: &ListenerAddress,
        passed: &mut Passed,
    ) -> Result<Vec<String>, BindError> {
        let mut places = Vec::new();
        for mut listener in Listener::bind(index, address, self.tuning, passed)? {
            let token = Token(FIRST_LISTENER + self.listeners.len());
            listener.register(self.poll.registry(), token, address)?;
            places.push(listener.place().to_string());
            self.listeners.push(listener);
        }
        Ok(places)
    }

    /// Files that are removed in the end: of Unix sockets that were opened, not passed.
    pub fn socket_files(&self) -> impl Iterator<Item = &Path> {
        self.listeners.iter().filter_map(Listener::file)
    }

    /// Every byte that comes from `stream` is that notice: how signals get into the loop.
    pub fn watch(&mut self, mut stream: UnixStream, notice: Notice) -> io::Result<()> {
        let token = Token(FIRST_NOTICE + self.notices.len());
        self.poll
            .registry()
            .register(&mut stream, token, Interest::READABLE)?;
        self.notices.push((stream, notice));
        Ok(())
    }

    /// Who checks passwords from now on; whoever waits is asked for again, if need be.
    pub fn set_gate(&mut self, mut gate: Option<Box<dyn Gate>>, now: Instant) {
        if let (Some(gate), Some(before)) = (&mut gate, self.gate.take()) {
            gate.follow(before);
        }
        self.gate = gate;
        self.broker.ask_again(now);
    }

    /// Who looks after what is no socket's.
    pub fn look_after(&mut self, steward: Box<dyn Steward>) {
        self.steward = Some(steward);
    }

    /// For those who connect from now on.
    pub fn tune(&mut self, tuning: Tuning) {
        if self.tuning != tuning {
            self.tuning = tuning;
            self.listeners.iter().for_each(|one| one.tune(tuning));
        }
    }

    /// Serves until a notice asks to stop.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.stopping {
            self.turn()?;
        }
        self.stop()
    }

    /// One turn: wait, take in, let time pass, make durable, send out, close.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.wait(self.time_to_wait())?;
        self.take_in(now);
        // Who has been heard must be known before who has been silent too long is disconnected.
        let more_events = self.events.iter().count() == EVENTS;
        self.hurries = if more_events && self.hurries < HURRIES_MAX {
            self.hurries + 1
        } else {
            0
        };
        if self.hurries == 0 {
            self.broker.handle_timeout(now);
        }
        if let Some(steward) = &mut self.steward {
            steward.turn(&mut self.broker, now);
        }
        let mut turn = std::mem::take(&mut self.turn);
        self.broker.end_turn(&mut turn, now);
        // Durable before acknowledged.
        self.keep(&mut turn, now);
        turn.flush.append(&mut self.writable);
        turn.flush.iter().for_each(|&id| self.flush(id));
        turn.close.iter().for_each(|&id| self.close(id, now));
        // What comes of it leaves with the next turn, which does not wait then.
        if let Some(gate) = &mut self.gate {
            gate.check(&mut self.broker, &turn, now);
        }
        self.turn = turn;
        self.end_lingering(now);
        self.end_proxied(now);
        Ok(())
    }

    /// What cannot be kept must not be told: those who would be told are cut off.
    fn keep(&mut self, turn: &mut Turn, now: Instant) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        if keeper.commit(&mut self.broker, turn, now) == Commit::Failed {
            for id in turn.flush.drain(..).chain(self.writable.drain(..)) {
                self.broker.cut(id, now);
            }
        }
    }

    fn time_to_wait(&self) -> Option<Duration> {
        let accepting = self.listeners.iter().any(|listener| listener.has_more);
        let resumes = !self.paused.is_empty() && self.broker.may_read_on();
        let is_waited = !self.unread.is_empty() || !self.gone.is_empty() || resumes;
        if is_waited || accepting || self.hurries > 0 {
            return Some(Duration::ZERO);
        }
        let lingering = self.lingering.front().map(|(until, _)| *until);
        let keeper = self.keeper.as_ref().and_then(|keeper| keeper.deadline());
        let gate = self.gate.as_ref().and_then(|gate| gate.deadline());
        let steward = self.steward.as_ref();
        let steward = steward.and_then(|steward| steward.deadline());
        let deadline = self
            .broker
            .poll_timeout()
            .into_iter()
            .chain(lingering)
            .chain(self.proxied.deadline())
            .chain(keeper)
            .chain(gate)
            .chain(steward)
            .min()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits for something to happen; returns what this turn calls now.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Instant> {
        let mut timeout = timeout;
        loop {
            match self.poll.poll(&mut self.events, timeout) {
                // A signal came, perhaps after a long stop: look what has arrived meanwhile before
                // anybody is judged by the clock.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    timeout = Some(Duration::ZERO);
                }
                result => return result.map(|()| Instant::now()),
            }
        }
    }

    /// Reads, accepts, and notes what can be written to. Writes nothing.
    fn take_in(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.gone) {
            self.broker.lost(id, now);
        }
        let again = std::mem::take(&mut self.unread);
        for id in &again {
            self.sockets[id.index()].unread = false;
        }
        again.iter().for_each(|&id| self.read(id, now));
        if self.broker.may_read_on() {
            for id in std::mem::take(&mut self.paused) {
                self.sockets[id.index()].paused = false;
                self.read(id, now);
            }
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token().0 {
                token if token >= FIRST_NOTICE => self.on_notice(token - FIRST_NOTICE, now),
                token if token >= FIRST_LISTENER => {
                    self.listeners[token - FIRST_LISTENER].has_more = true;
                }
                token if token >= FIRST_PROXIED => {
                    self.on_proxied(token - FIRST_PROXIED, event, now);
                }
                token => self.on_socket_event(ConnectionId(token as u32), event, now),
            }
        }
        self.events = events;
        for index in 0..self.listeners.len() {
            if self.listeners[index].has_more {
                self.accept(index, now);
            }
        }
    }

    fn on_socket_event(&mut self, id: ConnectionId, event: &Event, now: Instant) {
        let Some(socket) = self.sockets.get_mut(id.index()) else {
            return;
        };
        if event.is_writable() && !socket.writable {
            socket.writable = true;
            self.writable.push(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            socket.read_closed |= event.is_read_closed() || event.is_error();
            self.read(id, now);
        }
    }

    fn read(&mut self, id: ConnectionId, now: Instant) {
        let socket = &mut self.sockets[id.index()];
        // It had its share in this turn.
        if socket.unread || socket.paused || socket.lost {
            return;
        }
        if self.broker.holds_back(id, now) {
            socket.paused = true;
            self.paused.push(id);
            return;
        }
        match socket.take(&mut self.buffer) {
            Taken::Nothing => {}
            Taken::All(count) => self.broker.receive(id, &self.buffer[..count], now),
            Taken::Some(count) => {
                socket.unread = true;
                self.unread.push(id);
                self.broker.receive(id, &self.buffer[..count], now);
            }
            Taken::End if socket.lingering => self.parted.push(id),
            Taken::End => self.broker.lost(id, now),
        }
    }

    fn accept(&mut self, index: usize, now: Instant) {
        for _ in 0..ACCEPTS {
            match self.listeners[index].accept() {
                Accepted::Stream(stream, peer) => {
                    let socket = Socket::new(stream);
                    match self.listeners[index].proxy {
                        None => _ = self.admit(index, socket, peer, now),
                        Some(version) => self.open_proxied(index, version, socket, peer, now),
                    }
                }
                Accepted::TurnedAway => {}
                Accepted::NoMore => return,
            }
        }
    }

    /// Tells the broker of a connection; `None` if it cannot be had.
    fn admit(
        &mut self,
        listener: usize,
        mut socket: Socket,
        peer: Peer,
        now: Instant,
    ) -> Option<ConnectionId> {
        let slot = self.sockets.vacant_entry();
        let token = Token(slot.key());
        socket.register(self.poll.registry(), token).ok()?;
        let options = self.listeners[listener].index;
        let id = self.broker.open(options, peer, now);
        assert!(
            id.index() == slot.key(),
            "sockets and connections have come apart"
        );
        slot.insert(socket);
        Some(id)
    }

    /// Writes what `id` is owed, as far as its socket takes it.
    fn flush(&mut self, id: ConnectionId) {
        let socket = &mut self.sockets[id.index()];
        while socket.writable {
            let mut slices = [IoSlice::new(&[]); 16];
            let used = self.broker.outbound(id, &mut slices);
            if used == 0 {
                break;
            }
            match socket.write(&slices[..used]) {
                Written::Bytes(count) => self.broker.sent(id, count),
                Written::Blocked => {}
                Written::Lost if socket.lingering => self.parted.push(id),
                // What it leaves may be for others who are still to be written to in this turn,
                // and is not kept yet.
                Written::Lost => self.gone.push(id),
            }
        }
        if socket.lingering && socket.writable {
            socket.say_no_more();
        }
    }

    fn on_notice(&mut self, index: usize, now: Instant) {
        let (stream, notice) = &mut self.notices[index];
        let mut bytes = [0; 16];
        while matches!(stream.read(&mut bytes), Ok(1..)) {}
        let notice = *notice;
        match notice {
            Notice::Stop => self.stopping = true,
            Notice::Save => self.save(now),
            Notice::HangUp | Notice::Reopen | Notice::Tree => {}
        }
        if let Some(mut steward) = self.steward.take() {
            steward.notice(notice, self, now);
            self.steward = Some(steward);
        }
    }

    fn save(&mut self, now: Instant) {
        let keeper = self.keeper.as_mut();
        match keeper.map(|keeper| keeper.sync(&mut self.broker, now)) {
            Some(Commit::Done) => {
                info!(target: "notice", "SIGUSR1: all that is kept is on the disk.")
            }
            Some(Commit::Failed) => warn!("SIGUSR1: what is kept cannot be brought to the disk."),
            None => info!(target: "notice", "SIGUSR1: nothing is kept on disk."),
        }
    }
}
