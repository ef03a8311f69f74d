//! Who checks passwords while the loop runs: in order of arrival, a little in each turn.
//!
//! A hash takes many iterations on purpose; so many of them are done in a turn that others hardly
//! notice, and one hash is on its way at a time. Whoever was found right is known from then on by a
//! keyed hash of name and password, so that clients that reconnect cost nothing; passwords are not
//! kept. A user who does not exist is checked like one who does.
//!
//! Wrong passwords from an address put off the next check for that address, twice as long each
//! time. It is the check that waits, not the refusal, so that nobody gains by asking again on
//! another connection instead of waiting for the answer. A right password costs no delay, and
//! whoever has not been wrong goes first: others behind the same address wait for one delay at
//! most.

use std::any::Any;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::hash::{Derivation, Hash, Method};
use super::strikes::{Address, Strikes};
use super::users::Users;
use crate::broker::limits::Limits;
use crate::broker::{Broker, Check, Credentials, Peer, Turn, Verdict};
use crate::net::Gate;

/// Iterations in a turn: about 0.2 ms on a PC, 5 ms on the slowest boards.
pub const ITERATIONS_PER_TURN: u32 = 250;
/// Bytes hashed in a turn to see who is known, with what each costs besides: a thousand clients
/// take a few turns, and passwords of 64 KiB do not hold up others either.
const LOOKED_AT_PER_TURN: usize = 64 << 10;
const LOOK: usize = 256;
/// Credentials that were right and are known; the oldest makes room for a new one.
pub const KNOWN_MAX: usize = 10_000;

/// A secret drawn at start.
pub type Secret = [u8; 32];

/// Name and password, in a form that nobody can make without the secret.
type Mark = [u8; 32];

pub struct Door {
    /// What stands in each file.
    users: Vec<Users>,
    /// By listener the index of its file, if it has one.
    of_listeners: Vec<Option<usize>>,
    /// Where there are no users, what everybody is checked against.
    nobody: Hash,
    key: Hmac<Sha256>,
    known: HashSet<Mark>,
    /// The same, by age.
    known_by_age: VecDeque<Mark>,
    /// Who has come and was not looked at.
    arrived: VecDeque<Check>,
    /// Who is not known, in order of arrival.
    line: VecDeque<Check>,
    /// What is left of [`LOOKED_AT_PER_TURN`].
    looks: usize,
    current: Option<Work>,
    strikes: Strikes,
    /// For user names.
    hasher: RandomState,
    now: Instant,
}

/// The check that is on its way.
struct Work {
    check: Check,
    derivation: Derivation,
    /// What it is compared with; somebody else's where there is no such user.
    hash: Hash,
    exists: bool,
    address: Address,
    user: u64,
    mark: Mark,
}

impl Door {
    /// By listener the index of its users; where there is none, nobody is right.
    pub fn new(
        users: Vec<Users>,
        of_listeners: Vec<Option<usize>>,
        secret: &Secret,
        now: Instant,
    ) -> Door {
        assert!(!users.is_empty(), "a door for nobody");
        let is_there = |index: &usize| *index < users.len();
        assert!(
            of_listeners.iter().flatten().all(is_there),
            "users of no file"
        );
        Door {
            users,
            of_listeners,
            nobody: Hash::new(Method::Pbkdf2 { iterations: 1 }, vec![0; 12], b""),
            key: <Hmac<Sha256>>::new_from_slice(secret).expect("HMAC takes keys of any length"),
            known: HashSet::new(),
            known_by_age: VecDeque::new(),
            arrived: VecDeque::new(),
            line: VecDeque::new(),
            looks: 0,
            current: None,
            strikes: Strikes::default(),
            hasher: RandomState::new(),
            now,
        }
    }

    fn mark(&mut self, credentials: &Credentials) -> Mark {
        let bytes = credentials.user_name.len() + credentials.password.len();
        self.looks = self.looks.saturating_sub(LOOK + bytes);
        let mut mac = self.key.clone();
        // Users of one file are not those of another.
        let file = self
            .file_of(credentials)
            .map_or(u64::MAX, |index| index as u64);
        mac.update(&file.to_le_bytes());
        mac.update(&(credentials.user_name.len() as u64).to_le_bytes());
        mac.update(credentials.user_name.as_bytes());
        mac.update(credentials.password);
        mac.finalize().into_bytes().into()
    }

    fn file_of(&self, credentials: &Credentials) -> Option<usize> {
        *self.of_listeners.get(credentials.listener)?
    }

    fn remember(&mut self, mark: Mark) {
        if !self.known.insert(mark) {
            return;
        }
        self.known_by_age.push_back(mark);
        if self.known_by_age.len() > KNOWN_MAX
            && let Some(oldest) = self.known_by_age.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Somebody asks: those who are known are let in at once.
    fn take_in(&mut self, broker: &mut Broker, check: Check) {
        let Some(credentials) = broker.credentials(check) else {
            return;
        };
        let mark = self.mark(&credentials);
        match self.known.contains(&mark) {
            true => broker.verified(check, Verdict::Right, self.now),
            false => self.line.push_back(check),
        }
    }

    /// Those who have left are still in the queues; there must not be more and more of them.
    fn forget_the_left(&mut self, broker: &Broker) {
        if self.arrived.len() + self.line.len() <= 2 * Limits::WAITING_MAX {
            return;
        }
        let strikes = &mut self.strikes;
        for queue in [&mut self.arrived, &mut self.line] {
            queue.retain(|check| {
                let waits = broker.credentials(*check).is_some();
                if !waits {
                    strikes.ended(*check);
                }
                waits
            });
        }
    }

    /// The next whose turn it is.
    fn next(&mut self, broker: &mut Broker) -> Option<Work> {
        self.strikes.release(broker, self.now, &mut self.line);
        while self.looks > 0
            && let Some(check) = self.line.pop_front()
        {
            let Some(credentials) = broker.credentials(check) else {
                self.strikes.ended(check);
                continue;
            };
            let address = address(credentials.peer);
            let user = self.hasher.hash_one(credentials.user_name);
            let mark = self.mark(&credentials);
            // Found right since it came.
            if self.known.contains(&mark) {
                self.strikes.ended(check);
                broker.verified(check, Verdict::Right, self.now);
                continue;
            }
            if self.strikes.must_wait(address, check, self.now) {
                if !self.strikes.hold(broker, address, check, user) {
                    broker.verified(check, Verdict::TooMany, self.now);
                }
                continue;
            }
            let users = self.file_of(&credentials).map(|index| &self.users[index]);
            let own = users.and_then(|users| users.hash(credentials.user_name));
            let other = || users.and_then(|users| users.somebody(user));
            let hash = own.or_else(other).unwrap_or(&self.nobody).clone();
            return Some(Work {
                check,
                derivation: hash.begin(credentials.password),
                hash,
                exists: own.is_some(),
                address,
                user,
                mark,
            });
        }
        None
    }
}

impl Work {
    fn verdict(&self) -> Verdict {
        // Compared in either case, as it takes time.
        match (self.hash.is(&self.derivation), self.exists) {
            (true, true) => Verdict::Right,
            (false, true) => Verdict::WrongPassword,
            (_, false) => Verdict::UnknownUser,
        }
    }
}

impl Gate for Door {
    fn check(&mut self, broker: &mut Broker, turn: &Turn, now: Instant) {
        self.now = now;
        self.looks = LOOKED_AT_PER_TURN;
        self.arrived.extend(&turn.verify);
        self.forget_the_left(broker);
        while self.looks > 0
            && let Some(check) = self.arrived.pop_front()
        {
            self.take_in(broker, check);
        }
        let Some(mut work) = self.current.take().or_else(|| self.next(broker)) else {
            return;
        };
        if !work.derivation.step(ITERATIONS_PER_TURN) {
            self.current = Some(work);
            return;
        }
        let verdict = work.verdict();
        match verdict {
            Verdict::Right => {
                self.strikes.ended(work.check);
                self.remember(work.mark);
            }
            // Also of one that has left meanwhile: a guess is a guess.
            Verdict::WrongPassword | Verdict::UnknownUser | Verdict::TooMany => {
                let Work {
                    address,
                    check,
                    user,
                    ..
                } = work;
                self.strikes.wrong(address, check, user, now);
            }
        }
        broker.verified(work.check, verdict, now);
    }

    fn deadline(&self) -> Option<Instant> {
        let idle = self.current.is_none() && self.line.is_empty() && self.arrived.is_empty();
        match idle {
            true => self.strikes.next(),
            false => Some(self.now),
        }
    }

    /// Passwords may be others, so nobody is known; guesses were guesses.
    fn follow(&mut self, before: Box<dyn Gate>) {
        let before: Box<dyn Any> = before;
        if let Ok(before) = before.downcast::<Door>() {
            self.strikes = before.strikes.without_checks();
            self.hasher = before.hasher;
        }
    }
}

/// Where somebody comes from: an IPv4 address, or the network of an IPv6 address, as one customer
/// has a whole network of those. Unix sockets are all one: this machine.
fn address(peer: &Peer) -> Address {
    match peer.ip() {
        Some(IpAddr::V4(ip)) => Address(u64::from(ip.to_bits())),
        Some(IpAddr::V6(ip)) => Address((ip.to_bits() >> 64) as u64 | 1 << 63),
        None => Address(1 << 62),
    }
}
