//! The store in a real directory: its lock, its files, its print; and files of earlier formats.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use midge::record::{Batch, Ref};
use midge::store::{Directory, Durability, Options, Report, Store, StoreError, dump};

const SMALL: u32 = 4096;

type Values = BTreeMap<String, String>;
type Opened = (Store<Directory>, Values, Report);

/// A directory that goes when the test ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = env::temp_dir().join(format!("midge-store-{name}-{}", process::id()));
        fs::remove_dir_all(&place).unwrap_or_default();
        Place(place)
    }

    fn open(&self) -> Result<Opened, StoreError> {
        let options = Options {
            segment_bytes: SMALL,
            nonce: 7,
        };
        let mut values = Values::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (store, report) = Store::open(Directory::open(&self.0)?, &options, |key, value| {
            values.insert(text(key), text(value));
        })?;
        Ok((store, values, report))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn printed(path: &Path) -> String {
    let mut out = Vec::new();
    dump(&mut Directory::look(path), &mut out).expect("it can be read");
    String::from_utf8(out).expect("it is escaped")
}

fn waiting(store: &mut Store<Directory>, queue: u32) -> Vec<(u32, String, String)> {
    let mut waiting = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fetched = store.fetch(queue, None, usize::MAX, |sequence, extra, body| {
        waiting.push((sequence, text(extra), text(body)));
    });
    fetched.expect("what waits can be read");
    waiting
}

/// All kinds of records over some segments: what `tests/store/v1` was made of.
fn fill(store: &mut Store<Directory>) {
    let mut batch = Batch::new();
    batch.put(b"session/a", b"until \x00\xff");
    batch.put(b"gone", b"soon");
    batch.delete(b"gone");
    store
        .commit(&batch, Durability::Synced)
        .expect("there is room");
    for sequence in 1..=60 {
        batch.clear();
        let queues = [1, 2].map(|queue| Ref {
            queue,
            sequence,
            extra: if queue == 1 { b"" } else { b"id" },
        });
        batch.message(queues, format!("message {sequence}{:90}", "").as_bytes());
        batch.put(b"retained/t", format!("value {sequence}").as_bytes());
        store
            .commit(&batch, Durability::Written)
            .expect("there is room");
    }
    batch.clear();
    (1..=50).for_each(|sequence| batch.done(1, sequence));
    batch.done(2, 30);
    batch.message(
        [Ref {
            queue: 3,
            sequence: 1,
            extra: b"x",
        }],
        b"",
    );
    batch.drop_queue(3);
    store
        .commit(&batch, Durability::Synced)
        .expect("there is room");
}

fn assert_filled(store: &mut Store<Directory>, values: &Values) {
    let expected = [
        ("retained/t", "value 60"),
        ("session/a", "until \0\u{fffd}"),
    ];
    let expected = expected.map(|(key, value)| (key.to_string(), value.to_string()));
    assert_eq!(*values, Values::from(expected));
    let message = |sequence: u32, extra: &str| {
        let body = format!("message {sequence}{:90}", "");
        (sequence, extra.to_string(), body)
    };
    let first: Vec<_> = (51..=60).map(|sequence| message(sequence, "")).collect();
    assert_eq!(waiting(store, 1), first);
    let others = (1..=60).filter(|sequence| *sequence != 30);
    let second: Vec<_> = others.map(|sequence| message(sequence, "id")).collect();
    assert_eq!(waiting(store, 2), second);
    assert_eq!(store.waiting(3).count(), 0);
}

#[test]
fn a_directory_keeps_what_was_committed() {
    let place = Place::new("keeps");
    let (mut store, _, _) = place.open().expect("it opens");
    fill(&mut store);
    drop(store);
    let (mut store, values, report) = place.open().expect("it opens again");
    assert_filled(&mut store, &values);
    assert!(!report.is_torn && report.damage.is_empty(), "{report:?}");
}

#[test]
fn two_cannot_have_one_directory() {
    let place = Place::new("lock");
    let first = place.open().expect("it opens");
    let Err(error) = place.open() else {
        panic!("it is open already");
    };
    let said = error.to_string();
    assert!(said.contains("in use by another process"), "{said}");
    assert!(said.contains(&place.0.display().to_string()), "{said}");
    drop(first);
    place.open().expect("it is free again");
}

#[test]
fn a_batch_beyond_a_segment_gets_one_of_its_own() {
    let place = Place::new("large");
    let (mut store, _, _) = place.open().expect("it opens");
    let mut batch = Batch::new();
    let large = "v".repeat(100_000);
    batch.put(b"large", large.as_bytes());
    store
        .commit(&batch, Durability::Synced)
        .expect("there is room");
    batch.clear();
    batch.put(b"small", b"s");
    store
        .commit(&batch, Durability::Synced)
        .expect("there is room");
    drop(store);
    let (mut store, values, _) = place.open().expect("it opens again");
    assert_eq!((&values["large"], &values["small"][..]), (&large, "s"));
    batch.clear();
    batch.delete(b"large");
    store
        .commit(&batch, Durability::Synced)
        .expect("there is room");
    for _ in 0..200 {
        let done = store.commit(&batch, Durability::Synced);
        done.expect("there is room");
    }
    assert!(
        store.figures().total_bytes < 10 * u64::from(SMALL),
        "its room is given back"
    );
}

#[test]
fn a_queue_is_fetched_by_bytes_and_one_at_least() {
    let place = Place::new("fetch");
    let (mut store, _, _) = place.open().expect("it opens");
    fill(&mut store);
    let mut fetched = |after, bytes_max| {
        let mut sequences = Vec::new();
        let done = store.fetch(2, after, bytes_max, |sequence, _, _| {
            sequences.push(sequence)
        });
        done.expect("what waits can be read");
        sequences
    };
    assert_eq!(fetched(None, 0), [1]);
    assert_eq!(fetched(None, 250), [1, 2]);
    assert_eq!(fetched(Some(28), 320), [29, 31, 32]);
    assert_eq!(fetched(Some(60), 320), []);
}

#[test]
fn compaction_keeps_the_log_in_proportion_to_what_lives() {
    let place = Place::new("compaction");
    let (mut store, _, _) = place.open().expect("it opens");
    let mut batch = Batch::new();
    let mut most = 0;
    for number in 0..5000_u32 {
        batch.clear();
        batch.put(format!("key {}", number % 50).as_bytes(), &[b'v'; 100]);
        store
            .commit(&batch, Durability::Written)
            .expect("there is room");
        most = most.max(store.figures().total_bytes);
    }
    let figures = store.figures();
    assert!(
        most < 2 * figures.live_bytes + 12 * u64::from(SMALL),
        "{most} of {figures:?}"
    );
    assert!(
        figures.bytes_copied < figures.bytes_written / 2,
        "{figures:?}"
    );
    drop(store);
    let (_, values, _) = place.open().expect("it opens again");
    assert_eq!(values.len(), 50);
}

#[test]
fn a_long_queue_that_was_moved_is_read_in_order_again() {
    let place = Place::new("moved");
    let (mut store, _, _) = place.open().expect("it opens");
    let mut batch = Batch::new();
    let start = u32::MAX - 2000;
    let nth = |number: u32| start.wrapping_add(number);
    for number in 0..4000 {
        let sequence = nth(number);
        let reference = Ref {
            queue: 1,
            sequence,
            extra: b"",
        };
        batch.clear();
        batch.message([reference], format!("message {number}").as_bytes());
        store
            .commit(&batch, Durability::Written)
            .expect("there is room");
    }
    for number in 0..4000_u32 {
        batch.clear();
        batch.put(b"key", &[b'v'; 200]);
        if number % 2 == 0 {
            batch.done(1, nth(number));
        }
        store
            .commit(&batch, Durability::Written)
            .expect("there is room");
    }
    let copied = store.figures().bytes_copied;
    assert!(
        copied > 40_000,
        "all of them were moved, but {copied} bytes"
    );
    drop(store);
    let (mut store, _, _) = place.open().expect("it opens again");
    let expected: Vec<_> = (0..4000)
        .filter(|number| number % 2 == 1)
        .map(|number| (nth(number), String::new(), format!("message {number}")))
        .collect();
    assert_eq!(waiting(&mut store, 1), expected);
}

#[test]
fn a_print_has_every_record_and_changes_nothing() {
    let place = Place::new("print");
    let (mut store, _, _) = place.open().expect("it opens");
    fill(&mut store);
    let text = printed(&place.0);
    for line in [
        "segment 1 in file 00000000, needed from segment 1",
        "72 put \"session/a\" = \"until \\x00\\xff\"",
        "delete \"gone\"",
        " in 1/60 \"\" 2/60 \"id\"",
        "done 2/30",
        "drop 3",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(text, printed(&place.0));
    drop(store);
    let (mut store, values, _) = place.open().expect("it opens");
    assert_filled(&mut store, &values);
}

/// Files that midge 0.1 wrote. Every later version must read them; so they must not be made anew
/// once that is out. Until then `WRITE_FILES=1` does it.
#[test]
fn files_of_format_1_are_read() {
    let place = Place::new("v1");
    fs::create_dir_all(&place.0).expect("there is room");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/v1");
    if std::env::var("WRITE_FILES").is_ok() {
        let written = Place::new("v1-written");
        let (mut store, _, _) = written.open().expect("it opens");
        fill(&mut store);
        drop(store);
        fs::remove_dir_all(&kept).expect("it was there");
        fs::create_dir_all(&kept).expect("there is room");
        for entry in fs::read_dir(&written.0).expect("it was written") {
            let name = entry.expect("it was written").file_name();
            if name != "lock" {
                fs::copy(written.0.join(&name), kept.join(&name)).expect("there is room");
            }
        }
    }
    for entry in fs::read_dir(kept).expect("they are kept") {
        let entry = entry.expect("they are kept");
        fs::copy(entry.path(), place.0.join(entry.file_name())).expect("there is room");
    }
    let (mut store, values, report) = place.open().expect("it opens");
    assert_filled(&mut store, &values);
    assert!(!report.is_torn && report.damage.is_empty(), "{report:?}");
}
