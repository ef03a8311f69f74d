//! The store loses nothing that it said was on the medium, whenever the power goes.
//!
//! Each seed is a life of many power cuts, on a disk that forgets as badly as it may
//! (`crash/disk.rs`), beside a model that cannot be wrong (`crash/model.rs`). After each cut the
//! store must open, hold what was synced, of what was not synced the first so many commits, and
//! work on. `CRASH_SEEDS=100000 cargo test --release --test crash` goes further.

#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/model.rs"]
mod model;

mod common;

use std::env;

use common::Prng;
use disk::{Faults, TestDisk};
use midge::store::{Durability, Figures, Report, Store, StoreError};
use model::{Change, Model, Source, commit, open, options};

const SEEDS: u64 = 640;
const CUTS_PER_SEED: usize = 16;

#[test]
fn power_cuts_at_any_verb_lose_nothing_that_was_synced() {
    let seeds = env::var("CRASH_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let first = env::var("CRASH_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut seen = Seen::default();
    for seed in first..first + seeds {
        Life::new(seed).live(&mut seen);
    }
    println!("{seen:?}");
    if seeds >= SEEDS {
        assert!(seen.cuts >= 10_000, "{seen:?}");
        assert!(seen.while_opening > 500, "{seen:?}");
        assert!(seen.torn > 50, "{seen:?}");
        assert!(seen.with_unsynced_lost > 500, "{seen:?}");
        assert!(seen.copied > 500_000, "{seen:?}");
    }
}

#[test]
fn every_verb_of_a_life_can_be_the_last() {
    let changes = |prng: &mut Prng| {
        let (mut source, mut model) = (Source::new(prng), Model::default());
        let mut all = Vec::new();
        for _ in 0..150 {
            let changes = source.changes(&model, prng);
            model.make(&changes);
            all.push((changes, model.clone(), prng.below(3) == 0));
        }
        all
    };
    let all = changes(&mut Prng::new(11));
    for tear in 0..3 {
        for cut in 0.. {
            let disk = TestDisk::new();
            disk.set_faults(Faults {
                cut: Some(cut),
                ..Faults::default()
            });
            let mut possible = vec![Model::default()];
            if let Ok((mut store, _, _)) = open(disk.clone(), &options(4096, 1)) {
                for (changes, model, is_synced) in &all {
                    possible.push(model.clone());
                    let durability = durability(*is_synced);
                    if commit(&mut store, changes, durability).is_err() {
                        break;
                    }
                    if *is_synced {
                        possible.drain(..possible.len() - 1);
                    }
                }
            }
            let is_over = !disk.is_off();
            disk.power_on(&mut Prng::new(tear * 7919 + cut as u64));
            let (_, found, report) = open(disk, &options(4096, 2)).expect("it opens");
            assert!(possible.contains(&found), "cut {cut}, tear {tear}");
            assert_eq!(report.damage, [], "cut {cut}, tear {tear}");
            if is_over {
                assert!(cut > 200, "{cut} verbs are too few to mean anything");
                break;
            }
        }
    }
}

fn durability(is_synced: bool) -> Durability {
    match is_synced {
        true => Durability::Synced,
        false => Durability::Written,
    }
}

#[derive(Debug, Default)]
struct Seen {
    cuts: usize,
    while_opening: usize,
    kills: usize,
    torn: usize,
    with_unsynced_lost: usize,
    commits: usize,
    copied: u64,
    segments_most: usize,
}

/// A disk, and what may be on it.
struct Life {
    seed: u64,
    prng: Prng,
    disk: TestDisk,
    source: Source,
    /// What the store may hold: what was synced last, then after each commit since.
    possible: Vec<Model>,
    segment_bytes: u32,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut prng = Prng::new(seed);
        Life {
            seed,
            disk: TestDisk::new(),
            source: Source::new(&mut prng),
            possible: vec![Model::default()],
            segment_bytes: if prng.below(4) == 0 { 16384 } else { 4096 },
            prng,
        }
    }

    fn live(&mut self, seen: &mut Seen) {
        let mut cuts = 0;
        let mut was_cut = true;
        while cuts < CUTS_PER_SEED {
            let often = [8, 60, 400][self.prng.below(3)];
            self.disk.set_faults(Faults {
                cut: Some(self.prng.below(often)),
                ..Faults::default()
            });
            self.open_and_work(was_cut, seen);
            was_cut = self.disk.is_off() || self.prng.below(2) == 0;
            if was_cut {
                cuts += 1;
                self.disk.power_on(&mut self.prng);
            } else {
                seen.kills += 1;
            }
        }
        seen.cuts += cuts;
    }

    fn open_and_work(&mut self, was_cut: bool, seen: &mut Seen) {
        let seed = self.seed;
        let nonce = self.prng.next();
        let opened = open(self.disk.clone(), &options(self.segment_bytes, nonce));
        let (mut store, found, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(self.disk.is_off(), "seed {seed}: it must open: {error}");
                seen.while_opening += 1;
                return;
            }
        };
        let last = self.possible.last().expect("something is possible");
        if was_cut {
            assert!(
                self.possible.contains(&found),
                "seed {seed}: lost or invented"
            );
            seen.with_unsynced_lost += usize::from(found != *last);
        } else {
            assert_eq!(found, *last, "seed {seed}: a kill loses nothing");
        }
        if !self.disk.is_off() {
            assert_eq!(report.damage, [], "seed {seed}: a cut is no rot");
        }
        seen.torn += usize::from(report.is_torn);
        self.possible = vec![found];
        self.work(&mut store, seen);
        let Figures {
            bytes_copied,
            segments,
            is_damaged,
            ..
        } = store.figures();
        assert!(
            !is_damaged || self.disk.is_off(),
            "seed {seed}: there is no rot"
        );
        seen.copied += bytes_copied;
        seen.segments_most = seen.segments_most.max(segments);
    }

    fn work(&mut self, store: &mut Store<TestDisk>, seen: &mut Seen) {
        let synced = self.prng.below(101);
        // Short ones leave behind them what others have left.
        let commits = [3, 600][self.prng.below(2)];
        for _ in 0..self.prng.below(commits) {
            let mut model = self.possible[self.possible.len() - 1].clone();
            let changes = self.source.changes(&model, &mut self.prng);
            model.make(&changes);
            self.possible.push(model);
            seen.commits += 1;
            let durability = durability(self.prng.chance(synced));
            let done = commit(store, &changes, durability);
            let is_synced = durability == Durability::Synced || self.prng.below(50) == 0;
            let done = done.and_then(|()| if is_synced { store.sync() } else { Ok(()) });
            if let Err(error) = done {
                assert!(self.disk.is_off(), "seed {}: {error}", self.seed);
                return;
            }
            if is_synced {
                self.possible.drain(..self.possible.len() - 1);
            }
            if self.prng.below(20) == 0 && !self.look(store) {
                return;
            }
        }
    }

    /// Whether all queues are as they should be; not if the power went.
    fn look(&self, store: &mut Store<TestDisk>) -> bool {
        let expected = &self.possible[self.possible.len() - 1];
        match Model::of(store, expected.values.clone()) {
            Ok(found) => assert_eq!(found, *expected, "seed {}", self.seed),
            Err(error) => assert!(self.disk.is_off(), "seed {}: {error}", self.seed),
        }
        !self.disk.is_off()
    }
}

// ---- a disk that refuses ------------------------------------------------------------------------

fn put(key: &str, value: &str) -> Vec<Change> {
    vec![Change::Put(key.into(), value.into())]
}

#[test]
fn nothing_is_said_to_be_synced_after_a_sync_that_failed() {
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let disk = TestDisk::new();
        let (mut store, mut model, _) = open(disk.clone(), &options(4096, 1)).expect("it opens");
        let mut possible = vec![model.clone()];
        let mut source = Source::new(&mut prng);
        let after = Some(prng.below(60));
        let arm = |after: Option<usize>| {
            disk.set_faults(Faults {
                bad_sync: after.filter(|_| seed % 2 == 0),
                bad_write: after.filter(|_| seed % 2 == 1),
                ..Faults::default()
            });
        };
        arm(after);
        let mut rounds = 0;
        let error = loop {
            rounds += 1;
            if rounds % 100 == 0 {
                // The fault was met where it does no harm.
                arm(Some(0));
            }
            let changes = source.changes(&model, &mut prng);
            model.make(&changes);
            possible.push(model.clone());
            let done = commit(&mut store, &changes, durability(prng.below(2) == 0));
            // Where a file could not be made, nothing was written, and nothing is broken.
            if matches!(&done, Err(StoreError::Failed { doing, .. }) if doing.contains("room")) {
                possible.pop();
                model = possible[possible.len() - 1].clone();
                continue;
            }
            match done {
                Ok(()) if store.sync().is_ok() => possible.drain(..possible.len() - 1),
                Ok(()) => break None,
                Err(error) => break Some(error),
            };
        };
        let is_failed = |error| matches!(error, StoreError::Failed { .. });
        assert!(error.is_none_or(is_failed), "seed {seed}");
        for durability in [Durability::Synced, Durability::Written] {
            let refused = commit(&mut store, &put("a", "b"), durability);
            assert!(
                matches!(refused, Err(StoreError::Broken { .. })),
                "seed {seed}"
            );
        }
        assert!(store.sync().is_err(), "seed {seed}");
        disk.power_on(&mut prng);
        let (_, found, _) = open(disk, &options(4096, 2)).expect("it opens");
        assert!(possible.contains(&found), "seed {seed}");
    }
}

#[test]
fn a_full_disk_takes_what_goes_and_works_on_when_there_is_room() {
    for seed in 0..40 {
        let mut prng = Prng::new(seed);
        let disk = TestDisk::new();
        let faults = |capacity| Faults {
            capacity,
            ..Faults::default()
        };
        disk.set_faults(faults(Some(4096 * (6 + seed % 30))));
        let (mut store, mut model, _) = open(disk.clone(), &options(4096, 1)).expect("it opens");
        let mut sequence = 0;
        while !store.is_full() {
            sequence += 1;
            let key = format!("key {}", prng.below(20)).into_bytes();
            let message = Change::Message(vec![(1, sequence, Vec::new())], vec![b'm'; 60]);
            let changes = [message, Change::Put(key, vec![b'v'; 40])];
            commit(&mut store, &changes, Durability::Synced).expect("there is room");
            model.make(&changes);
        }
        let waiting: Vec<_> = store.waiting(1).collect();
        for (sequence, _) in waiting {
            let changes = [Change::Done(1, sequence)];
            let done = commit(&mut store, &changes, Durability::Synced);
            done.unwrap_or_else(|error| panic!("seed {seed}, {sequence} is to go: {error}"));
            model.make(&changes);
        }
        for key in model.values.clone().into_keys() {
            let changes = [Change::Delete(key)];
            commit(&mut store, &changes, Durability::Synced).expect("room for what goes");
            model.make(&changes);
        }
        assert_eq!(model, Model::default());
        disk.set_faults(faults(None));
        for _ in 0..100 {
            commit(&mut store, &put("a", "b"), Durability::Synced).expect("there is room");
        }
        assert!(!store.is_full(), "seed {seed}");
        drop(store);
        model.make(&put("a", "b"));
        let (_, found, _) = open(disk, &options(4096, 2)).expect("it opens");
        assert_eq!(found, model, "seed {seed}");
    }
}

#[test]
fn a_commit_that_finds_no_room_changes_nothing() {
    let disk = TestDisk::new();
    disk.set_faults(Faults {
        capacity: Some(4096 * 8),
        ..Faults::default()
    });
    let (mut store, mut model, _) = open(disk.clone(), &options(4096, 1)).expect("it opens");
    let mut refused = 0;
    for number in 0..200 {
        let changes = put(&format!("key {number}"), &"v".repeat(300));
        match commit(&mut store, &changes, Durability::Synced) {
            Ok(()) => model.make(&changes),
            Err(StoreError::Full { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 50, "{refused} of 200 were refused");
    let large = put("large", &"v".repeat(100_000));
    let large = commit(&mut store, &large, Durability::Synced);
    assert!(matches!(large, Err(StoreError::Full { .. })));
    drop(store);
    let (_, found, _) = open(disk, &options(4096, 2)).expect("it opens");
    assert_eq!(found, model);
}

// ---- rot ----------------------------------------------------------------------------------------

/// A store of one segment after another, with a state for each commit.
struct Small {
    disk: TestDisk,
    /// What each commit changed.
    commits: Vec<Vec<Change>>,
}

impl Small {
    fn new(seed: u64, commits: usize, durability: Durability) -> Small {
        let mut prng = Prng::new(seed);
        let disk = TestDisk::new();
        let (mut store, mut model, _) = open(disk.clone(), &options(4096, seed)).expect("it opens");
        let mut source = Source::new(&mut prng);
        let mut all = Vec::new();
        while all.len() < commits {
            let changes = source.changes(&model, &mut prng);
            if model::batch(&changes).is_empty() || model::batch(&changes).len() > 2000 {
                continue;
            }
            model.make(&changes);
            commit(&mut store, &changes, durability).expect("the disk is good");
            all.push(changes);
        }
        store.sync().expect("the disk is good");
        assert_eq!(
            store.figures().bytes_copied,
            0,
            "each commit is where it was written"
        );
        Small { disk, commits: all }
    }

    /// What is left without the commits of a range.
    fn without(&self, lost: std::ops::Range<usize>) -> Model {
        let mut model = Model::default();
        for (index, changes) in self.commits.iter().enumerate() {
            if !lost.contains(&index) {
                model.make(changes);
            }
        }
        model
    }

    fn segments(&self) -> Vec<String> {
        let names = self.disk.names().into_iter();
        names
            .filter(|name| self.disk.bytes(name).starts_with(b"midgelog"))
            .collect()
    }
}

/// It opens; and now and then, as that takes its time, works, and opens again with what it had.
fn works_on(disk: &TestDisk, number: usize) -> (Model, Report) {
    let (mut store, mut model, report) = open(disk.clone(), &options(4096, 77)).expect("it opens");
    let found = model.clone();
    if !number.is_multiple_of(8) {
        return (found, report);
    }
    for key in ["a", "b"] {
        commit(&mut store, &put(key, "new"), Durability::Synced).expect("it works");
        model.make(&put(key, "new"));
    }
    drop(store);
    let (_, again, _) = open(disk.clone(), &options(4096, 78)).expect("it opens again");
    assert_eq!(again, model);
    (found, report)
}

#[test]
fn a_flipped_bit_anywhere_costs_one_commit_at_most() {
    let small = Small::new(3, 45, Durability::Synced);
    let whole = small.without(0..0);
    let last = small.commits.len() - 1;
    let without: Vec<Model> = (0..=last)
        .map(|lost| small.without(lost..lost + 1))
        .collect();
    let (mut lost, mut unharmed) = (vec![false; last + 1], 0);
    let segments = small.segments();
    assert!(segments.len() >= 2, "{segments:?}");
    for name in &segments {
        for at in 0..small.disk.bytes(name).len() {
            let disk = small.disk.copy();
            disk.tamper(name, |bytes| bytes[at] ^= 1 << (at % 8));
            let (found, report) = works_on(&disk, at);
            if found == whole {
                unharmed += 1;
                continue;
            }
            let which = without.iter().position(|without| *without == found);
            let which = which.unwrap_or_else(|| panic!("{name} at {at}: lost or invented"));
            lost[which] = true;
            match report.damage.first() {
                Some(damage) => {
                    let kept = damage.kept.as_ref().expect("there is room to keep it");
                    assert_eq!(disk.bytes(kept).len(), damage.bytes as usize);
                }
                None => assert!(report.is_torn && which == last, "{name} at {at}: unsaid"),
            }
        }
    }
    assert!(unharmed > 1000);
    // A few commits change nothing that shows, or nothing that later ones do not hide.
    let shown = lost.iter().filter(|lost| **lost).count();
    assert!(shown * 2 > lost.len(), "{shown} of {}", lost.len());
}

#[test]
fn a_file_cut_short_anywhere_keeps_what_is_left_of_it() {
    let small = Small::new(4, 45, Durability::Synced);
    let segments = small.segments();
    let newest = segments.last().expect("there are segments");
    let count = small.commits.len();
    let prefixes: Vec<Model> = (0..=count).map(|kept| small.without(kept..count)).collect();
    for name in &segments {
        let mut known = usize::MAX;
        for length in (0..small.disk.bytes(name).len()).rev() {
            let disk = small.disk.copy();
            disk.tamper(name, |bytes| bytes.truncate(length));
            let (found, report) = works_on(&disk, length);
            let kept = prefixes.iter().rposition(|prefix| *prefix == found);
            if name == newest {
                let kept = kept.unwrap_or_else(|| panic!("{name} of {length}: no prefix"));
                assert!(kept <= known, "{name} of {length}");
                known = kept;
            } else {
                assert!(
                    kept == Some(count) || !report.damage.is_empty(),
                    "{name} of {length}"
                );
            }
        }
    }
}

#[test]
fn what_was_not_synced_is_a_torn_tail_however_much_of_it_is_there() {
    let small = Small::new(5, 12, Durability::Written);
    let name = &small.segments()[0];
    let count = small.commits.len();
    let prefixes: Vec<Model> = (0..=count).map(|kept| small.without(kept..count)).collect();
    for at in 48..4096 - 48 {
        let disk = small.disk.copy();
        disk.tamper(name, |bytes| bytes[at] ^= 16);
        let (found, report) = works_on(&disk, at);
        assert!(
            prefixes.contains(&found),
            "byte {at}: not the first so many"
        );
        assert_eq!(report.damage, [], "byte {at}");
    }
}

#[test]
fn what_lies_behind_a_lost_commit_does_not_follow_the_one_that_takes_its_place() {
    let disk = TestDisk::new();
    let (mut store, mut model, _) = open(disk.clone(), &options(4096, 1)).expect("it opens");
    let kept = put("key a", "synced");
    commit(&mut store, &kept, Durability::Synced).expect("there is room");
    model.make(&kept);
    let lost_at = 48 + model::batch(&kept).len() + 24;
    for key in ["key b", "key c", "key d"] {
        commit(&mut store, &put(key, "not synced"), Durability::Written).expect("there is room");
    }
    drop(store);
    disk.tamper(&disk::name(0), |bytes| bytes[lost_at + 30] ^= 1);
    let (mut store, found, report) = open(disk.clone(), &options(4096, 2)).expect("it opens");
    assert_eq!((&found, report.is_torn), (&model, true));
    let successor = put("key e", "not synced");
    commit(&mut store, &successor, Durability::Synced).expect("there is room");
    model.make(&successor);
    drop(store);
    let (_, found, _) = open(disk, &options(4096, 3)).expect("it opens");
    assert_eq!(found, model);
}

/// Seed 2298: a commit that was lost was made again, byte for byte, and what had been written
/// behind the lost one, and was there yet, followed it.
#[test]
fn what_lies_behind_a_lost_commit_does_not_follow_the_same_one_made_again() {
    let disk = TestDisk::new();
    let (mut store, mut model, _) = open(disk.clone(), &options(4096, 1)).expect("it opens");
    let again = put("key", "made twice");
    for changes in [&again, &vec![Change::Delete("key".into())]] {
        commit(&mut store, changes, Durability::Written).expect("there is room");
    }
    drop(store);
    disk.tamper(&disk::name(0), |bytes| bytes[48 + 30] ^= 1);
    let (mut store, found, _) = open(disk.clone(), &options(4096, 2)).expect("it opens");
    assert_eq!(found, model);
    commit(&mut store, &again, Durability::Synced).expect("there is room");
    model.make(&again);
    drop(store);
    let (_, found, _) = open(disk, &options(4096, 3)).expect("it opens");
    assert_eq!(found, model, "what was synced is there");
}

/// Seed 103729 of the power cuts: the start of a frame that had been cut off as torn was there yet
/// when the next one, of the same length and with the same end, was lost but for that end.
#[test]
fn a_commit_that_was_lost_does_not_come_back_by_a_part_of_another() {
    let (disk, name) = (TestDisk::new(), disk::name(0));
    let value = "v".repeat(1000);
    let (mut store, empty, _) = open(disk.clone(), &options(4096, 1)).expect("it opens");
    commit(&mut store, &put("a", &value), Durability::Written).expect("there is room");
    drop(store);
    disk.tamper(&name, |bytes| bytes[512..1536].fill(0));
    let (mut store, found, _) = open(disk.clone(), &options(4096, 2)).expect("it opens");
    assert_eq!(found, empty);
    let on_the_medium = disk.bytes(&name);
    commit(&mut store, &put("b", &value), Durability::Written).expect("there is room");
    drop(store);
    disk.tamper(&name, |bytes| {
        bytes[..512].copy_from_slice(&on_the_medium[..512])
    });
    let (_, found, _) = open(disk, &options(4096, 3)).expect("it opens");
    assert_eq!(found, empty);
}

#[test]
fn files_of_any_content_do_not_keep_it_from_opening() {
    for seed in 0..300 {
        let mut prng = Prng::new(seed);
        let small = Small::new(6, 30, Durability::Synced);
        let names = small.disk.names();
        for _ in 0..1 + prng.below(6) {
            let name = prng.pick(&names);
            let (from, noise) = (prng.below(4096), prng.next() as u8);
            let to = (from + prng.below(1500)).min(4096);
            small.disk.tamper(name, |bytes| bytes[from..to].fill(noise));
        }
        let noise: Vec<u8> = (0..prng.below(9000)).map(|_| prng.next() as u8).collect();
        small.disk.add(&disk::name(99), noise);
        works_on(&small.disk, 0);
    }
}

#[test]
fn a_part_that_cannot_be_read_is_set_aside_like_rot() {
    let disk = TestDisk::new();
    let large = options(16384, 1);
    let (mut store, _, _) = open(disk.clone(), &large).expect("it opens");
    for number in 0..100 {
        let changes = put(&format!("key {number}"), &"v".repeat(100));
        commit(&mut store, &changes, Durability::Synced).expect("there is room");
    }
    drop(store);
    disk.set_faults(Faults {
        unreadable: Some((0, 9000)),
        ..Faults::default()
    });
    let (_, found, report) = open(disk.clone(), &large).expect("it opens");
    let missing = (0..100).filter(|n| !found.values.contains_key(format!("key {n}").as_bytes()));
    let missing: Vec<i32> = missing.collect();
    assert!(
        (20..40).contains(&missing.len()),
        "a piece of 4 KiB: {missing:?}"
    );
    assert_eq!(
        missing.len() as i32,
        1 + missing[missing.len() - 1] - missing[0]
    );
    assert_eq!(report.damage.len(), 1, "{report:?}");
    disk.set_faults(Faults {
        unreadable: Some((0, 20)),
        ..Faults::default()
    });
    let header = open(disk, &large);
    assert!(
        matches!(header, Err(StoreError::Failed { .. })),
        "nothing is thrown away"
    );
}

#[test]
fn rot_that_compaction_meets_stops_it_until_the_next_start() {
    let disk = TestDisk::new();
    let (mut store, mut model, _) = open(disk.clone(), &options(4096, 1)).expect("it opens");
    let churn = |store: &mut Store<TestDisk>, model: &mut Model| {
        for number in 0..900 {
            let mut changes = put(&format!("key {}", number % 7), &"v".repeat(90));
            if number % 300 == 0 {
                changes.extend(put("kept", &format!("since {number}")));
            }
            commit(store, &changes, Durability::Synced).expect("there is room");
            model.make(&changes);
        }
    };
    let first = put("first", "of all");
    commit(&mut store, &first, Durability::Synced).expect("there is room");
    disk.tamper(&disk::name(0), |bytes| bytes[80] ^= 1);
    churn(&mut store, &mut model);
    assert!(store.figures().is_damaged);
    assert!(store.figures().segments > 20, "nothing is thrown away");
    drop(store);
    let (mut store, found, report) = open(disk, &options(4096, 2)).expect("it opens");
    assert_eq!(found, model, "all but the first");
    assert_eq!(report.damage.len(), 1, "{report:?}");
    churn(&mut store, &mut model);
    assert!(!store.figures().is_damaged);
    assert!(store.figures().segments < 10, "{:?}", store.figures());
}

#[test]
fn another_version_is_refused_and_left_as_it_is() {
    let small = Small::new(7, 3, Durability::Synced);
    let name = &small.segments()[0];
    small.disk.tamper(name, |bytes| {
        bytes[8] = 2;
        let crc = crc32(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    });
    let before = small.disk.bytes(name);
    let opened = open(small.disk.clone(), &options(4096, 1));
    assert!(matches!(
        opened,
        Err(StoreError::Version { version: 2, .. })
    ));
    assert_eq!(small.disk.bytes(name), before);
}

/// The same as in the store, computed as the textbooks do.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
    !bytes.iter().fold(u32::MAX, add)
}
