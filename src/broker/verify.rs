//! Passwords: the broker knows none and checks none. It asks the shell, and waits.
//!
//! A client whose CONNECT brings a user name waits in a phase of its own, with the bytes of that
//! CONNECT and of what came after it; nothing is told to it, and nothing of it counts. The shell
//! looks at its credentials when it likes ([`Broker::credentials`]) and says what it found
//! ([`Broker::verified`]). Whoever leaves meanwhile, or waits beyond the time for a CONNECT, is
//! forgotten: a check that is answered too late answers nobody, as its ticket is used once.

use std::collections::BTreeMap;
use std::time::Instant;

use super::access::{self, Entry};
use super::connection::Phase;
use super::deadlines::Millis;
use super::limits::Limits;
use super::{Broker, ConnectionId, Peer};
use crate::packet::{self, Connect, Packet, ReasonCode, Refusal, Version};

/// A client that waits for its password to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    ticket: u64,
    connection: ConnectionId,
}

/// What such a client says of itself.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub user_name: &'a str,
    pub password: &'a [u8],
    pub peer: &'a Peer,
    /// The index of the listener it came through.
    pub listener: usize,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    WrongPassword,
    UnknownUser,
    /// It was not checked: too many from the same address wait since wrong passwords came from it.
    TooMany,
}

/// Whether the shell has found the password of a CONNECT to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vouched {
    No,
    Yes,
}

/// Those that wait, counted.
#[derive(Debug, Default)]
pub struct Checks {
    /// Asked for in this turn.
    asked: Vec<Check>,
    tickets: u64,
    /// By ticket: in the order of asking.
    pub waiting: BTreeMap<u64, ConnectionId>,
    /// Bytes that they have sent.
    pub held_bytes: usize,
}

impl Checks {
    /// Nobody is asked for in this turn.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}

impl Broker {
    /// What a client that waits says of itself; `None` if it has left, or was told.
    pub fn credentials(&self, check: Check) -> Option<Credentials<'_>> {
        let connection = self.connections.get(check.connection)?;
        if connection.phase != Phase::AwaitVerdict(check.ticket) {
            return None;
        }
        let (connect, _) = first_connect(&connection.leftover, connection.version)?;
        Some(Credentials {
            user_name: connect.user_name?,
            password: connect.password?,
            peer: &connection.peer,
            listener: connection.listener,
        })
    }

    /// The shell has checked, and found this.
    pub fn verified(&mut self, check: Check, verdict: Verdict, now: Instant) {
        if self.credentials(check).is_none() {
            return;
        }
        let now = self.millis(now);
        match verdict {
            Verdict::Right => {
                self.connections.counters.auth_accepted += 1;
                self.begin_anew(check, Vouched::Yes, now);
            }
            Verdict::WrongPassword | Verdict::UnknownUser | Verdict::TooMany => {
                let id = check.connection;
                let bytes = self.end_asking(check, now);
                let (connect, _) = the_connect(&bytes, self.connections[id].version);
                self.log_wrong(id, &connect, verdict);
                self.connections.counters.auth_refused += 1;
                self.refuse(id, refusal(verdict, connect.version), now);
            }
        }
    }

    /// Whoever was asked is no longer there, and other options may hold: those that wait are let
    /// in or refused, or asked for again, in their order.
    pub fn ask_again(&mut self, now: Instant) {
        let now = self.millis(now);
        self.checks.asked.clear();
        let check = |(&ticket, &connection)| Check { ticket, connection };
        let waiting: Vec<Check> = self.checks.waiting.iter().map(check).collect();
        for check in waiting {
            // Those before it may have taken its place.
            if self.credentials(check).is_none() {
                continue;
            }
            match self.needs_password(check.connection) {
                true => self.checks.asked.push(check),
                false => self.begin_anew(check, Vouched::No, now),
            }
        }
    }

    /// Whether the options that hold now let a client that waits in by its password only.
    fn needs_password(&self, id: ConnectionId) -> bool {
        let connection = &self.connections[id];
        let (connect, _) = the_connect(&connection.leftover, connection.version);
        access::may_connect(self.listener(id), &connect) == Ok(Entry::ByPassword)
    }

    /// Its CONNECT counts now, and what came after it.
    fn begin_anew(&mut self, check: Check, vouched: Vouched, now: Millis) {
        let id = check.connection;
        let bytes = self.end_asking(check, now);
        let (connect, length) = the_connect(&bytes, self.connections[id].version);
        let result = self.on_connect(id, connect, vouched, now);
        if self.settle(id, result, now) {
            self.take_in(id, &bytes[length..], now);
        }
    }

    /// It waits no longer; returns what it has sent.
    fn end_asking(&mut self, check: Check, now: Millis) -> Vec<u8> {
        let connection = &mut self.connections[check.connection];
        let bytes = std::mem::take(&mut connection.leftover);
        connection.phase = Phase::AwaitConnect;
        // It could say nothing that counts.
        connection.last_packet = now;
        self.no_longer_waits(check.ticket, bytes.len());
        bytes
    }

    /// What this turn asks the shell.
    pub(super) fn take_checks(&mut self, verify: &mut Vec<Check>) {
        verify.clear();
        std::mem::swap(verify, &mut self.checks.asked);
    }

    /// The client waits from now on; the bytes of its CONNECT are held by whoever calls.
    pub(super) fn ask(&mut self, id: ConnectionId) -> Result<(), Refusal> {
        if self.checks.waiting.len() >= Limits::WAITING_MAX {
            return Err(busy());
        }
        self.checks.tickets += 1;
        let ticket = self.checks.tickets;
        self.checks.waiting.insert(ticket, id);
        self.connections[id].phase = Phase::AwaitVerdict(ticket);
        self.connections.no_longer_awaited(id);
        let connection = id;
        self.checks.asked.push(Check { ticket, connection });
        Ok(())
    }

    /// Keeps what a client says that waits.
    pub(super) fn hold(&mut self, id: ConnectionId, bytes: &[u8], now: Millis) {
        let leftover = &mut self.connections[id].leftover;
        leftover.extend_from_slice(bytes);
        self.checks.held_bytes += bytes.len();
        if leftover.len() > Limits::HELD_BYTES_MAX {
            self.end_wait(
                id,
                "the client sends too much while its password is being checked",
                now,
            );
        }
        while self.checks.held_bytes > Limits::HELD_BYTES_OF_ALL_MAX {
            // Not whoever came last: those who send much must not keep out those who send little.
            let Some(largest) = self.largest_held() else {
                unreachable!("nobody holds what is held");
            };
            let why = "clients whose passwords are being checked send too much, this one most";
            self.end_wait(largest, why, now);
        }
    }

    fn largest_held(&self) -> Option<ConnectionId> {
        let waiting = self.checks.waiting.values().copied();
        waiting.max_by_key(|id| self.connections[*id].leftover.len())
    }

    /// One less, which had sent `bytes`.
    pub(super) fn no_longer_waits(&mut self, ticket: u64, bytes: usize) {
        let was_there = self.checks.waiting.remove(&ticket);
        assert!(was_there.is_some(), "a client waited and was not counted");
        self.checks.held_bytes -= bytes;
    }

    /// Its password was not checked in time.
    pub(super) fn waited_in_vain(&mut self, id: ConnectionId, now: Millis) {
        self.end_wait(id, "the password could not be checked in time", now);
    }

    /// It may try again.
    fn end_wait(&mut self, id: ConnectionId, why: &'static str, now: Millis) {
        let connection = &self.connections[id];
        let connect = first_connect(&connection.leftover, connection.version);
        self.log_refused(
            id,
            connect.map_or("", |(connect, _)| connect.client_id),
            why,
        );
        self.refuse(id, Refusal::new(ReasonCode::ServerBusy, why), now);
    }
}

/// The CONNECT that what a waiting client has sent begins with.
fn first_connect(bytes: &[u8], version: Version) -> Option<(Connect<'_>, usize)> {
    match packet::decode(bytes, version, Limits::CONNECT_PACKET_BYTES_MAX) {
        Ok(Some((Packet::Connect(connect), length))) => Some((connect, length)),
        _ => None,
    }
}

/// The same of one whose credentials were just read.
fn the_connect(bytes: &[u8], version: Version) -> (Connect<'_>, usize) {
    match first_connect(bytes, version) {
        Some(found) => found,
        None => unreachable!("its credentials were just read"),
    }
}

/// Before 5.0 with the return code that Mosquitto has for it: not authorized.
pub(super) fn refusal(verdict: Verdict, version: Version) -> Refusal {
    match (verdict, version) {
        (Verdict::TooMany, _) => busy(),
        (_, Version::V5) => {
            let why = "the user name or the password is wrong";
            Refusal::new(ReasonCode::BadUserNameOrPassword, why)
        }
        (_, Version::V31 | Version::V311) => {
            let why = "the user name or the password is wrong";
            Refusal::new(ReasonCode::NotAuthorized, why)
        }
    }
}

fn busy() -> Refusal {
    let why = "too many clients wait for their passwords to be checked: try again later";
    Refusal::new(ReasonCode::ServerBusy, why)
}
