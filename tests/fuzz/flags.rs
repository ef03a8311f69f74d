//! The command line, made of anything.
//!
//! The input is cut into command lines at NULs, and those into arguments at newlines. What must
//! hold: reading them never panics and touches nothing outside; what is wrong is said in one line
//! that somebody can read; what is accepted is within the bounds that `--help` tells, and a broker
//! runs with it.

use std::io;
use std::time::{Duration, Instant};

use midge::broker::limits::Limits;
use midge::broker::{Broker, Turn};
use midge::config::{self, Command, Config, Outside};
use midge::packet::PACKET_BYTES_MAX;

/// MQTT 3.1.1: CONNECT with a session that stays, without a client id but with clean session, then
/// SUBSCRIBE to everything and PUBLISH with RETAIN and QoS 2.
const CONVERSATION: &[&[u8]] = &[
    b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x0a\x00\x02id",
    b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00",
    b"\x82\x06\x00\x01\x00\x01#\x02",
    b"\x35\x07\x00\x01a\x00\x01hi",
];

pub fn run(bytes: &[u8]) {
    bytes.split(|byte| *byte == 0).for_each(read);
}

fn read(line: &[u8]) {
    let flags: Vec<String> = line
        .split(|byte| *byte == b'\n')
        .map(|flag| String::from_utf8_lossy(flag).into_owned())
        .collect();
    match Config::read(&flags, &Nowhere) {
        Ok(Command::Help) => assert!(!config::help().is_empty()),
        Ok(Command::Dump(directory)) => assert!(flags.contains(&directory)),
        Ok(Command::Passwd(rest)) => assert_eq!(rest, flags[1..]),
        Ok(Command::Version | Command::Explain(..)) => {}
        Ok(Command::Test { text, .. } | Command::Print(text)) => text.lines().for_each(check_line),
        Ok(Command::Run(config)) => check(&config),
        Err(fault) => check_sentence(&fault.sentence),
    }
}

/// A world without files.
struct Nowhere;

impl Outside for Nowhere {
    fn read(&self, _: &str, _: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn check(&self, files: &midge::reload::Files) -> Result<Vec<String>, Vec<String>> {
        Ok(vec![format!("{files:?}")])
    }

    fn is_root(&self) -> bool {
        false
    }

    fn is_user(&self, _: &str) -> bool {
        false
    }
}

pub fn check_line(line: &str) {
    let control = line.chars().find(|char| char.is_control());
    assert_eq!(control, None, "{line:?} is not plain text");
}

pub fn check_sentence(sentence: &str) {
    assert!(
        !sentence.trim().is_empty(),
        "nothing is said about what is wrong"
    );
    let control = sentence.chars().find(|char| char.is_control());
    assert_eq!(control, None, "{sentence:?} is not one line of plain text");
    assert!(sentence.contains(' '), "{sentence:?} is not a sentence");
}

pub fn check(config: &Config) {
    assert!(!config.listeners.is_empty(), "there is nowhere to listen");
    assert_eq!(config.listeners.len(), config.broker.listeners.len());
    for (index, listener) in config.listeners.iter().enumerate() {
        assert_ne!(listener.port, 0);
        check_sentence(&config.who_can_connect(index));
        check_sentence(&format!("{} is what asks for it", listener.origin));
    }
    check_limits(&config.broker.limits);
    assert_ne!(config.broker.sys_interval, Some(Duration::ZERO));
    assert_ne!(
        config.broker.persistent_client_expiration,
        Some(Duration::ZERO)
    );
    converse(config);
}

fn check_limits(limits: &Limits) {
    assert!((20..=PACKET_BYTES_MAX).contains(&limits.packet_bytes_max));
    assert!(limits.outbound_bytes_max >= 1_024);
    assert!(limits.outbound_bytes_hard() >= limits.outbound_bytes_max);
    for at_least_one in [
        limits.sessions_max,
        limits.subscriptions_max,
        usize::from(limits.inflight_messages_max),
        limits.inflight_bytes_max,
        limits.queued_messages_max,
        usize::from(limits.receive_maximum),
        limits.retained_messages_max,
    ] {
        assert_ne!(at_least_one, 0);
    }
    assert_ne!(limits.queued_bytes_max, 0);
    assert_ne!(limits.retained_bytes_max, 0);
}

/// Two clients come, speak, and go; time passes.
fn converse(config: &Config) {
    let mut now = Instant::now();
    let mut broker = Broker::new(config.broker.clone(), now);
    let mut turn = Turn::default();
    for connect in &CONVERSATION[..2] {
        let id = broker.open(0, ([192, 0, 2, 1], 1883), now);
        broker.receive(id, connect, now);
        for packet in &CONVERSATION[2..] {
            broker.receive(id, packet, now);
        }
        broker.lost(id, now);
        broker.check_invariants();
        broker.end_turn(&mut turn, now);
        turn.close.iter().for_each(|id| broker.forget(*id));
    }
    for seconds in [1, 60, 1_000_000] {
        now += Duration::from_secs(seconds);
        broker.handle_timeout(now);
        broker.end_turn(&mut turn, now);
        broker.check_invariants();
    }
}
