//! What one commit writes to the device and how long it takes: the store alone, with records as
//! the broker makes them of topics of 40 bytes and payloads of 100, each commit synced.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use midge::record::{Batch, Ref};
use midge::store::{Directory, Durability, Options, Store};

use super::device::Device;
use super::process::cpu;

/// 15 bytes of head, topic, payload.
const BODY: &[u8] = &[b'b'; 155];
/// 21 bytes of head, payload.
const RETAINED: &[u8] = &[b'r'; 121];
const RETAINED_TOPICS: u32 = 1_000;
const SESSIONS: u32 = 100;
/// Commits: some megabytes.
const WARM_UP: u32 = 5_000;
/// What a queue knows besides.
const EXTRA: &[u8] = &[1];

pub struct Row {
    pub name: &'static str,
    /// Device bytes that it may write.
    pub must: Option<f64>,
    before: Before,
    fill: fn(&mut Batch, u32),
}

/// What has been done before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// So many messages were queued for each commit.
    Queued(u32),
    /// The same, until the files have been written over more than once.
    Same,
}

pub const ROWS: [Row; 8] = [
    Row {
        name: "enqueue, 1 message",
        must: None,
        before: Before::Nothing,
        fill: |batch, at| enqueue(batch, at, 1),
    },
    Row {
        name: "enqueue, 10",
        must: Some(11e3),
        before: Before::Nothing,
        fill: |batch, at| enqueue(batch, at, 10),
    },
    Row {
        name: "enqueue, 100",
        must: Some(35e3),
        before: Before::Nothing,
        fill: |batch, at| enqueue(batch, at, 100),
    },
    Row {
        name: "acknowledge, 10",
        must: None,
        before: Before::Queued(10),
        fill: acknowledge,
    },
    Row {
        name: "10 come, 10 go, for a while",
        must: None,
        before: Before::Same,
        fill: |batch, at| {
            if at > 0 {
                acknowledge(batch, at - 1);
            }
            enqueue(batch, at, 10);
        },
    },
    Row {
        name: "retained overwrite, 10",
        must: None,
        before: Before::Nothing,
        fill: retain,
    },
    Row {
        name: "retained overwrite, 10, for a while",
        must: None,
        before: Before::Same,
        fill: retain,
    },
    Row {
        name: "1 message to 100 sessions",
        must: None,
        before: Before::Nothing,
        fill: |batch, at| {
            let refs = (1..=SESSIONS).map(|queue| Ref {
                queue,
                sequence: at + 1,
                extra: EXTRA,
            });
            batch.message(refs, BODY);
        },
    },
];

/// Of one commit.
pub struct Figures {
    pub device_bytes: f64,
    pub store_bytes: f64,
    pub syncs: f64,
    pub flushes: f64,
    pub cpu_micros: f64,
    pub p50: f64,
    pub p99: f64,
}

fn enqueue(batch: &mut Batch, at: u32, count: u32) {
    for sequence in at * count..at * count + count {
        let reference = Ref {
            queue: 1,
            sequence: sequence + 1,
            extra: EXTRA,
        };
        batch.message([reference], BODY);
    }
}

fn acknowledge(batch: &mut Batch, at: u32) {
    for sequence in at * 10..at * 10 + 10 {
        batch.done(1, sequence + 1);
    }
}

fn retain(batch: &mut Batch, at: u32) {
    for number in at * 10..at * 10 + 10 {
        let number = number % RETAINED_TOPICS;
        batch.put(format!("r{number:040}").as_bytes(), RETAINED);
    }
}

/// Commits so many times in an empty store in `directory`, which goes again.
pub fn measure(row: &Row, directory: &Path, device: &Device, commits: u32) -> Figures {
    let disk = Directory::open(directory).expect("the directory is there for this");
    let (mut store, _) = Store::open(disk, &Options::new(1), |_, _| {}).expect("it opens");
    let mut batch = Batch::new();
    let mut prepare = |store: &mut Store<Directory>, at, fill: fn(&mut Batch, u32)| {
        batch.clear();
        fill(&mut batch, at);
        let durability = match at % 100 {
            0 => Durability::Synced,
            _ => Durability::Written,
        };
        store.commit(&batch, durability).expect("there is room");
    };
    let (commits_before, fill): (u32, fn(&mut Batch, u32)) = match row.before {
        Before::Nothing => (0, row.fill),
        Before::Queued(each) => (commits * each / 10, |batch, at| enqueue(batch, at, 10)),
        Before::Same => (WARM_UP, row.fill),
    };
    (0..commits_before).for_each(|at| prepare(&mut store, at, fill));
    let begin = match row.before {
        Before::Same => commits_before,
        Before::Nothing | Before::Queued(_) => 0,
    };
    store.sync().expect("the disk is good");
    device.settle(directory);
    let (before, cpu_before, figures) = (device.written(), cpu("self"), store.figures());
    let mut times = Vec::new();
    for at in begin..begin + commits {
        batch.clear();
        (row.fill)(&mut batch, at);
        let started = Instant::now();
        store
            .commit(&batch, Durability::Synced)
            .expect("there is room");
        times.push(started.elapsed());
    }
    let cpu = cpu("self") - cpu_before;
    device.settle(directory);
    let (after, then) = (device.written(), store.figures());
    drop(store);
    fs::remove_dir_all(directory).expect("it was made here");
    let each = |total: u64| total as f64 / f64::from(commits);
    Figures {
        device_bytes: each(after.bytes - before.bytes),
        store_bytes: each(then.bytes_written - figures.bytes_written),
        syncs: each(then.syncs - figures.syncs),
        flushes: each(after.flushes - before.flushes),
        cpu_micros: cpu.as_secs_f64() * 1e6 / f64::from(commits),
        p50: percentile(&mut times, 50),
        p99: percentile(&mut times, 99),
    }
}

/// In microseconds.
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len() - 1);
    times[at].as_secs_f64() * 1e6
}
