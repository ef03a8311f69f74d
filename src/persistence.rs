//! What ties the broker to the store: records become durable before what they allow is sent.
//!
//! It also decides when to sync what nobody waits for, brings the messages that a client can go on
//! with from disk, and tells the broker how the disk does. A commit that the disk has no room for
//! is held, and tried again with the next: nothing that waits for it is sent meanwhile.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{error, info, warn};

use crate::broker::journal::{self, Storage, WHENEVER};
use crate::broker::limits::Limits;
use crate::broker::restore::Restored;
use crate::broker::storage::{Fetched, StorageFigures};
use crate::broker::{Broker, Turn};
use crate::net::{Commit, Keeper};
use crate::record::Batch;
use crate::store::{self, Directory, Disk, Durability, Options, Report, Store, StoreError};

/// How often the time is noted, if there is anything else to note.
const CLOCK_EVERY: Duration = Duration::from_secs(60);
/// A clock on the wall that is by so many milliseconds elsewhere has been set.
const STEP: u64 = 10_000;
/// How soon a commit that found no room is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What is held of such commits at most; then it counts as a fault of the disk.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Opens the store in a directory, which is made if there is none, and brings back what is in it.
pub fn start(
    directory: &str,
    nonce: u64,
    broker: &mut Broker,
) -> Result<Box<dyn Keeper>, StoreError> {
    let disk = Directory::open(Path::new(directory))?;
    let (options, now) = (Options::new(nonce), Instant::now());
    let persistence = Persistence::open(disk, &options, broker, wall_clock, now)?;
    Ok(Box::new(persistence))
}

/// Prints the store in a directory, whoever uses it.
pub fn dump(directory: &str, out: &mut dyn Write) -> Result<(), StoreError> {
    let mut disk = Directory::look(Path::new(directory));
    store::dump(&mut disk, &mut BufWriter::new(out))
}

/// Keeps what a broker says must survive.
#[derive(Debug)]
pub struct Persistence<D> {
    store: Store<D>,
    /// Records that the disk had no room for.
    held: Batch,
    /// When what was written must be on the medium.
    sync_by: Option<Instant>,
    retry_at: Option<Instant>,
    /// When the time was noted last, and by how much the clock on the wall was ahead then.
    clock_noted: Option<(Instant, u64)>,
    figures: StorageFigures,
    /// That a part has gone bad since the start was said.
    is_damaged: bool,
    wall: fn() -> u64,
}

impl<D: Disk> Persistence<D> {
    /// Recovers what is on `disk` into `broker`, which is new. `wall` reads the clock on the wall,
    /// see [`wall_clock`].
    pub fn open(
        disk: D,
        options: &Options,
        broker: &mut Broker,
        wall: fn() -> u64,
        now: Instant,
    ) -> Result<Persistence<D>, StoreError> {
        let mut restore = broker.restore();
        let (mut store, report) =
            Store::open(disk, options, |key, value| restore.value(key, value))?;
        for queue in store.queues() {
            for (sequence, len) in store.waiting(queue) {
                restore.waiting(queue, sequence, len);
            }
        }
        let restored = restore.finish(wall(), now);
        bring(&mut store, broker, &restored)?;
        broker.end_restored(&restored.ended, now);
        say(&report, restored.sessions, restored.retained, restored.lost);
        let mut persistence = Persistence {
            store,
            held: Batch::new(),
            sync_by: None,
            retry_at: None,
            clock_noted: None,
            figures: StorageFigures {
                damaged_parts: report.damage.len() as u64,
                ..StorageFigures::default()
            },
            is_damaged: false,
            wall,
        };
        persistence.figures.syncs = persistence.store.figures().syncs;
        persistence.tell_figures(broker, now);
        Ok(persistence)
    }

    /// For tests: what is underneath.
    pub fn store(&self) -> &Store<D> {
        &self.store
    }

    /// Notes the time now and then, and where the clock on the wall has been set.
    fn note_clock(&mut self, broker: &Broker, now: Instant) {
        let (clock, wall) = (broker.clock(now), (self.wall)());
        let offset = wall.saturating_sub(clock);
        let is_due = |(noted, before): (Instant, u64)| {
            now.saturating_duration_since(noted) >= CLOCK_EVERY || offset.abs_diff(before) >= STEP
        };
        if self.clock_noted.is_none_or(is_due) {
            self.clock_noted = Some((now, offset));
            journal::clock(&mut self.held, clock, wall);
        }
    }

    /// Holds the records of a turn, until they are committed as is returned.
    fn take_in(&mut self, broker: &Broker, turn: &mut Turn, now: Instant) -> Durability {
        let was_held = !self.held.is_empty();
        match was_held {
            true => self.held.append(&turn.records),
            false => std::mem::swap(&mut self.held, &mut turn.records),
        }
        self.note_clock(broker, now);
        match turn.durable_within {
            Some(0) => self.sync_by = None,
            Some(WHENEVER) | None => {}
            Some(within) => {
                let by = now + Duration::from_millis(within);
                self.sync_by = Some(self.sync_by.map_or(by, |other| other.min(by)));
            }
        }
        match turn.durable_within == Some(0) || was_held {
            true => Durability::Synced,
            false => Durability::Written,
        }
    }

    /// Commits what is held; `true` if all of it is as durable as it has to be.
    fn try_commit(&mut self, broker: &mut Broker, durability: Durability, now: Instant) -> bool {
        let begun = Instant::now();
        let result = self.store.commit(&self.held, durability);
        self.tell_figures(broker, begun);
        match result {
            Ok(()) => {
                self.held.clear();
                // Whether there is room again has to be looked for.
                self.retry_at = self.store.is_full().then(|| now + RETRY);
                let storage = match self.store.is_full() {
                    true => Storage::Full,
                    false => Storage::Good,
                };
                self.tell(broker, storage, None, now);
                true
            }
            Err(error @ StoreError::Full { .. }) if self.held.len() < HELD_BYTES_MAX => {
                self.retry_at = Some(now + RETRY);
                self.tell(broker, Storage::Stuck, Some(&error), now);
                false
            }
            Err(error) => {
                self.give_up();
                self.tell(broker, Storage::Broken, Some(&error), now);
                false
            }
        }
    }

    fn give_up(&mut self) {
        self.held = Batch::new();
        (self.sync_by, self.retry_at) = (None, None);
    }

    /// Tells the broker how the disk does, and people when that changes.
    fn tell(
        &mut self,
        broker: &mut Broker,
        storage: Storage,
        why: Option<&StoreError>,
        now: Instant,
    ) {
        if storage == broker.storage() {
            return;
        }
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        match storage {
            Storage::Good => warn!("There is room on the disk again: messages are kept."),
            Storage::Full => error!(
                "The disk is full{why}. Messages that would have to be kept are refused until \
                 there is room."
            ),
            Storage::Stuck => error!(
                "There is no room on the disk for what has come in{why}. Clients whose sessions \
                 are kept are refused until there is."
            ),
            Storage::Broken => error!(
                "The disk has failed{why}. Clients whose sessions would have to be kept are \
                 refused until midge is started again; the others are served."
            ),
        }
        broker.set_storage(storage, now);
    }

    fn tell_figures(&mut self, broker: &mut Broker, begun: Instant) {
        let figures = self.store.figures();
        if figures.syncs != self.figures.syncs {
            self.figures.sync_micros = begun.elapsed().as_micros() as u64;
        }
        if figures.is_damaged && !std::mem::replace(&mut self.is_damaged, true) {
            self.figures.damaged_parts += 1;
            warn!(
                "The store is damaged: its oldest part has gone bad since it was read, so no room \
                 is won back there. Start midge again: it sets that aside."
            );
        }
        self.figures.bytes_written = figures.bytes_written;
        self.figures.syncs = figures.syncs;
        self.figures.live_bytes = figures.live_bytes;
        self.figures.total_bytes = figures.total_bytes;
        broker.set_storage_figures(self.figures);
    }

    /// Brings from disk what clients can go on with.
    fn fetch(&mut self, broker: &mut Broker, turn: &Turn) {
        for fetch in &turn.fetch {
            let mut outcome = Fetched::Lost;
            let after = Some(fetch.first.wrapping_sub(1));
            let read = self.store.fetch(
                fetch.queue,
                after,
                Limits::BACKLOG_BYTES,
                |sequence, extra, body| {
                    let is_one = broker.fetched(fetch, sequence, extra, body);
                    if sequence == fetch.first && is_one {
                        outcome = Fetched::All;
                    }
                },
            );
            if let Err(error) = read {
                warn!("Messages that waited cannot be read: {error}.");
                if matches!(error, StoreError::Full { .. }) && outcome == Fetched::Lost {
                    outcome = Fetched::NotNow;
                }
            }
            broker.end_fetch(fetch, outcome);
        }
    }
}

impl<D: Disk> Keeper for Persistence<D> {
    fn commit(&mut self, broker: &mut Broker, turn: &mut Turn, now: Instant) -> Commit {
        if broker.storage() == Storage::Broken {
            return Commit::Done;
        }
        let mut commit = Commit::Done;
        if !turn.records.is_empty() {
            let durability = self.take_in(broker, turn, now);
            if !self.try_commit(broker, durability, now) {
                commit = Commit::Failed;
            }
        } else if self.retry_at.is_some_and(|at| at <= now) {
            // With it goes what the store needs to say to win room.
            self.note_clock(broker, now);
            self.try_commit(broker, Durability::Synced, now);
        }
        if self.sync_by.is_some_and(|by| by <= now) {
            self.sync(broker, now);
        }
        match self.held.is_empty() && broker.storage() != Storage::Broken {
            true => self.fetch(broker, turn),
            // What is asked for may not be there yet.
            false => turn
                .fetch
                .iter()
                .for_each(|fetch| broker.end_fetch(fetch, Fetched::All)),
        }
        commit
    }

    fn sync(&mut self, broker: &mut Broker, now: Instant) -> Commit {
        self.sync_by = None;
        if broker.storage() == Storage::Broken {
            return Commit::Failed;
        }
        self.note_clock(broker, now);
        match self.try_commit(broker, Durability::Synced, now) {
            true => Commit::Done,
            false => Commit::Failed,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.sync_by.into_iter().chain(self.retry_at).min()
    }
}

/// Brings what must be in memory before the first turn.
fn bring<D: Disk>(
    store: &mut Store<D>,
    broker: &mut Broker,
    restored: &Restored,
) -> Result<(), StoreError> {
    // What cannot be read now must not be given up.
    let may_go_on = |read: Result<(), StoreError>| match read {
        Err(error @ StoreError::Full { .. }) => Err(error),
        Err(error) => {
            warn!("Messages that waited or were in flight are lost: {error}.");
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    for sent in &restored.sent {
        let (mut found, after) = (None, sent.0.first.wrapping_sub(1));
        let read = store.fetch(sent.0.queue, Some(after), 1, |sequence, extra, body| {
            found.get_or_insert((sequence, extra.to_vec(), body.to_vec()));
        });
        may_go_on(read)?;
        let found = found
            .as_ref()
            .map(|(sequence, extra, body)| (*sequence, &extra[..], &body[..]));
        broker.restored(*sent, found);
    }
    for fetch in &restored.shared {
        let read = store.fetch(fetch.queue, None, usize::MAX, |sequence, extra, body| {
            broker.restored_shared(fetch, sequence, extra, body);
        });
        may_go_on(read)?;
        broker.end_restored_shared(fetch);
    }
    Ok(())
}

/// The clock on the wall, in milliseconds since 1970.
pub fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn say(report: &Report, sessions: usize, retained: usize, lost: usize) {
    let Report {
        is_torn,
        damage,
        messages,
        ..
    } = report;
    info!(
        target: "notice",
        "Restored {sessions} sessions, {messages} messages that wait, {retained} retained messages."
    );
    if *is_torn {
        info!(target: "notice", "The last write before the stop was broken off, and is left out.");
    }
    for part in damage {
        warn!("The store is damaged: {part}. All that can be read is there.");
    }
    if lost > 0 {
        warn!("{lost} records of the store make no sense, and are left out.");
    }
}
