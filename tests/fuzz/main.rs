//! The bodies of the fuzz targets, and a replay of their corpus.
//!
//! `fuzz/` has cargo-fuzz run `decode`, `broker`, `flags`, `config`, `passwords`, `acl` and
//! `proxy`, see `scripts/fuzz.sh` and docs/testing.md. Here, with plain `cargo test`, each meets
//! every file of its corpus once: seeds that `seeds.rs` writes, inputs that a fuzzer found worth
//! keeping, and what once went wrong. `WRITE_SEEDS=1 cargo test --test fuzz` writes the seeds anew.

mod acl;
mod broker;
mod config;
mod decode;
mod flags;
#[cfg(feature = "passwords")]
mod passwords;
mod proxy;
mod seeds;

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

/// Of the whole corpus, so that a clone stays small.
const FILES_MAX: usize = 240;
const BYTES_MAX: u64 = 300_000;

const TARGETS: [&str; 7] = [
    "decode",
    "broker",
    "flags",
    "config",
    "passwords",
    "acl",
    "proxy",
];

#[test]
fn decode_meets_its_corpus() {
    replay("decode", decode::run);
}

#[test]
fn broker_meets_its_corpus() {
    replay("broker", broker::run);
}

#[test]
fn flags_meet_their_corpus() {
    replay("flags", flags::run);
}

#[cfg(feature = "passwords")]
#[test]
fn passwords_meet_their_corpus() {
    replay("passwords", passwords::run);
}

#[test]
fn configuration_files_meet_their_corpus() {
    replay("config", config::run);
}

#[test]
fn acl_files_meet_their_corpus() {
    replay("acl", acl::run);
}

#[test]
fn proxy_headers_meet_their_corpus() {
    replay("proxy", proxy::run);
}

#[test]
fn the_seeds_in_the_corpus_are_those_that_are_written_here() {
    let write = std::env::var_os("WRITE_SEEDS").is_some();
    for (target, name, bytes) in seeds::all() {
        let path = folder(target).join(format!("seed-{name}"));
        if write {
            fs::write(&path, &bytes).expect("the seed can be written");
        }
        let there = fs::read(&path).unwrap_or_default();
        assert_eq!(
            there,
            bytes,
            "{}: WRITE_SEEDS=1 cargo test --test fuzz",
            path.display()
        );
    }
}

#[test]
fn the_corpus_is_small() {
    let files: Vec<PathBuf> = TARGETS.into_iter().flat_map(corpus).collect();
    let size = |path: &PathBuf| fs::metadata(path).expect("it was just listed").len();
    assert!(files.len() < FILES_MAX, "{} files", files.len());
    let bytes: u64 = files.iter().map(size).sum();
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
}

fn replay(target: &str, run: fn(&[u8])) {
    let files = corpus(target);
    assert!(!files.is_empty(), "{target} has no corpus");
    let failed: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| {
            let bytes = fs::read(path).expect("it was just listed");
            panic::catch_unwind(|| run(&bytes)).is_err()
        })
        .collect();
    assert_eq!(
        failed,
        [] as [PathBuf; 0],
        "these make {target} panic, see above"
    );
}

fn corpus(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(target)).expect("there is a corpus");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    paths.sort();
    paths
}

fn folder(target: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("fuzz/corpus").join(target)
}
