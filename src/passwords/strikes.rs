//! Addresses that wrong passwords came from, and who waits for that.
//!
//! An address has a record from its first wrong password until it has been good for a while. One
//! check of it is under way at a time; after a wrong one the next has to wait.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::broker::{Broker, Check};

/// How long the next check waits after the first wrong password, and how long at most. Who has
/// connected has 10 seconds to be let in.
pub const DELAY: Duration = Duration::from_millis(250);
pub const DELAY_MAX: Duration = Duration::from_secs(4);
/// After so long without a wrong password all is forgotten.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// Addresses with a record; the one that was wrong the longest time ago makes room.
pub const ADDRESSES_MAX: usize = 1_024;
/// Checks of one address that wait.
pub const HELD_MAX: usize = 64;
/// Users of one address that are known to have been wrong.
const USERS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(pub u64);

#[derive(Default)]
pub struct Strikes {
    records: BTreeMap<Address, Record>,
    /// Checks that may go on, one of each record at most, until it is known what comes of them.
    under_way: BTreeMap<Check, Address>,
    /// Checks that wait, in all records.
    held: usize,
}

struct Record {
    wrong: u32,
    wrong_at: Instant,
    free_at: Instant,
    /// Who was wrong last, hashed.
    users: VecDeque<u64>,
    /// Who waits, with the hash of the user.
    held: VecDeque<(Check, u64)>,
    /// One of it is under way.
    busy: bool,
}

impl Strikes {
    /// Whether a check of that address is not to go on now.
    pub fn must_wait(&mut self, address: Address, check: Check, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(&address) else {
            return false;
        };
        if record.held.is_empty() && now.saturating_duration_since(record.wrong_at) > FORGIVEN_AFTER
        {
            self.records.remove(&address);
            return false;
        }
        !self.under_way.contains_key(&check)
    }

    /// Puts a check off; `false` if too many wait already.
    pub fn hold(&mut self, broker: &Broker, address: Address, check: Check, user: u64) -> bool {
        let Some(record) = self.records.get_mut(&address) else {
            return false;
        };
        if record.held.len() >= HELD_MAX {
            let before = record.held.len();
            record
                .held
                .retain(|(check, _)| broker.credentials(*check).is_some());
            self.held -= before - record.held.len();
        }
        let has_room = record.held.len() < HELD_MAX;
        if has_room {
            record.held.push_back((check, user));
            self.held += 1;
        }
        has_room
    }

    /// Appends to the line one check of each address whose time has come.
    pub fn release(&mut self, broker: &Broker, now: Instant, line: &mut VecDeque<Check>) {
        if self.held == 0 {
            return;
        }
        for (address, record) in &mut self.records {
            if !record.is_free() || record.free_at > now {
                continue;
            }
            let before = record.held.len();
            record
                .held
                .retain(|(check, _)| broker.credentials(*check).is_some());
            let users = &record.users;
            let first = record
                .held
                .iter()
                .position(|(_, user)| !users.contains(user));
            let next = record.held.remove(first.unwrap_or(0));
            self.held -= before - record.held.len();
            if let Some((check, _)) = next {
                record.busy = true;
                self.under_way.insert(check, *address);
                line.push_back(check);
            }
        }
    }

    /// A check has ended, with a right password or because its client has left: the next one of
    /// its address need not wait for it.
    pub fn ended(&mut self, check: Check) {
        if let Some(address) = self.under_way.remove(&check)
            && let Some(record) = self.records.get_mut(&address)
        {
            record.busy = false;
        }
    }

    /// A password was wrong.
    pub fn wrong(&mut self, address: Address, check: Check, user: u64, now: Instant) {
        self.ended(check);
        if !self.records.contains_key(&address) {
            self.make_room();
        }
        let record = self.records.entry(address).or_insert_with(|| Record {
            wrong: 0,
            wrong_at: now,
            free_at: now,
            users: VecDeque::new(),
            held: VecDeque::new(),
            busy: false,
        });
        let delay = DELAY
            .saturating_mul(1 << record.wrong.min(16))
            .min(DELAY_MAX);
        record.wrong += 1;
        record.wrong_at = now;
        record.free_at = now + delay;
        if !record.users.contains(&user) {
            record.users.push_back(user);
            if record.users.len() > USERS_MAX {
                record.users.pop_front();
            }
        }
    }

    /// The same, and nobody waits.
    pub fn without_checks(mut self) -> Strikes {
        for record in self.records.values_mut() {
            record.held.clear();
            record.busy = false;
        }
        Strikes {
            records: self.records,
            ..Strikes::default()
        }
    }

    /// When the next check can go on.
    pub fn next(&self) -> Option<Instant> {
        if self.held == 0 {
            return None;
        }
        let waiting = self.records.values().filter(|record| record.is_free());
        waiting.map(|record| record.free_at).min()
    }

    fn make_room(&mut self) {
        if self.records.len() < ADDRESSES_MAX {
            return;
        }
        let idle = self.records.iter().filter(|(_, one)| one.held.is_empty());
        let oldest = idle.min_by_key(|(_, record)| record.wrong_at);
        let oldest = oldest.or_else(|| self.records.first_key_value());
        if let Some((&address, _)) = oldest
            && let Some(record) = self.records.remove(&address)
        {
            self.held -= record.held.len();
        }
    }
}

impl Record {
    /// Somebody waits, and may go on as soon as it is time.
    fn is_free(&self) -> bool {
        !self.busy && !self.held.is_empty()
    }
}
