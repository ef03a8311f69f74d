//! What the store costs: time and memory of a recovery, bytes of a commit, time to drain a queue.
//!
//! ```text
//! cargo bench --bench store [-- DIR]
//! ```
//!
//! In a directory of its own under `DIR`, or under the system's for temporary files. Nothing is
//! synced, so that the times are the store's and not the medium's; bytes are those handed to the
//! kernel, of which a medium makes more. Memory is the most that a process of its own had.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use midge::record::{Batch, Ref};
use midge::store::{Directory, Durability, Options, Store};

const BODY: &[u8] = &[b'b'; 140];
const SESSIONS: u32 = 10;
/// How this program asks itself for the memory of a recovery.
const RECOVER_FLAG: &str = "--recover";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, directory, ..] = &arguments[..]
        && flag == RECOVER_FLAG
    {
        return recover(Path::new(directory));
    }
    let above = arguments.iter().find(|argument| !argument.starts_with('-'));
    let above = above.map_or_else(env::temp_dir, PathBuf::from);
    let directory = above.join(format!("midge-store-bench-{}", process::id()));
    print_commits(&directory);
    for messages in [0, 100_000, 1_000_000] {
        print_recovery(&directory, messages);
    }
}

fn open(directory: &Path) -> Store<Directory> {
    let directory = Directory::open(directory).expect("the directory is there for this");
    let (store, _) = Store::open(directory, &Options::new(1), |_, _| {}).expect("it opens");
    store
}

fn message<'a>(queue: u32, sequence: u32) -> [Ref<'a>; 1] {
    [Ref {
        queue,
        sequence,
        extra: b"",
    }]
}

fn print_commits(directory: &Path) {
    println!(
        "commits of messages of {} bytes that come and go",
        BODY.len()
    );
    println!(
        "{:<24} {:>16} {:>16} {:>12}",
        "messages per commit", "bytes/commit", "bytes/message", "µs/commit"
    );
    for per_commit in [1_u32, 10, 100] {
        let mut store = open(directory);
        let mut batch = Batch::new();
        let (commits, mut sequence) = (100_000 / per_commit, 0);
        let started = Instant::now();
        for _ in 0..commits {
            batch.clear();
            for _ in 0..per_commit {
                sequence += 1;
                batch.message(message(sequence % SESSIONS, sequence), BODY);
            }
            commit(&mut store, &batch);
        }
        let (took, written) = (started.elapsed(), store.figures().bytes_written);
        println!(
            "{per_commit:<24} {:>16} {:>16} {:>12.2}",
            written / u64::from(commits),
            written / u64::from(commits * per_commit),
            micros(took) / f64::from(commits),
        );
        drop(store);
        fs::remove_dir_all(directory).expect("it was made here");
    }
}

fn print_recovery(directory: &Path, messages: u32) {
    let values = if messages == 0 { 0 } else { 10_000 };
    let mut store = open(directory);
    let mut batch = Batch::new();
    for value in 0..values {
        let key = format!("a/topic/of/forty/bytes/or/so/{value:08}");
        batch.put(key.as_bytes(), &BODY[..100]);
    }
    commit(&mut store, &batch);
    for hundred in 0..messages / 100 {
        batch.clear();
        for sequence in hundred * 100..hundred * 100 + 100 {
            batch.message(message(sequence % SESSIONS, sequence), BODY);
        }
        commit(&mut store, &batch);
    }
    store.sync().expect("the disk is good");
    drop(store);
    println!("\n{messages} messages and {values} values");
    let mut itself = Command::new(env::current_exe().expect("it runs"));
    let asked = itself.arg(RECOVER_FLAG).arg(directory).status();
    assert!(asked.is_ok_and(|status| status.success()));
    fs::remove_dir_all(directory).expect("it was made here");
}

/// In a process of its own.
fn recover(directory: &Path) {
    let (mut values, mut bytes) = (0, 0);
    let directory = Directory::open(directory).expect("it was just made");
    let before = status("VmHWM");
    let started = Instant::now();
    let opened = Store::open(directory, &Options::new(2), |key, value| {
        values += 1;
        bytes += key.len() + value.len();
    });
    let took = started.elapsed();
    let (mut store, report) = opened.expect("it opens");
    assert_eq!(report.values, values);
    println!(
        "recovery {:.1} ms; at most {} kB of memory, {} kB then ({} kB before)",
        micros(took) / 1000.0,
        status("VmHWM"),
        status("VmRSS"),
        before,
    );
    let started = Instant::now();
    let mut drained = 0;
    let mut batch = Batch::new();
    for queue in 0..SESSIONS {
        while store.waiting(queue).next().is_some() {
            batch.clear();
            let fetched = store.fetch(queue, None, 20 * BODY.len(), |sequence, _, _| {
                batch.done(queue, sequence);
                drained += 1;
            });
            fetched.expect("what waits can be read");
            commit(&mut store, &batch);
        }
    }
    if drained > 0 {
        let each = micros(started.elapsed()) / f64::from(drained);
        println!("drained by 20 at {each:.2} µs a message; {values} values of {bytes} bytes");
    }
}

fn commit(store: &mut Store<Directory>, batch: &Batch) {
    let done = store.commit(batch, Durability::Written);
    done.unwrap_or_else(|error| panic!("{error}"));
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// A number of kB from what the kernel tells of this process.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
