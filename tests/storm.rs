//! A thousand clients with passwords reconnect at once: what the others notice of it.
//!
//! `cargo test --release --test storm -- --nocapture` prints the figures of docs/passwords.md.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use midge::packet::{Connect, Packet, QoS, ReasonCode, Version};
use midge::passwords::hash::{Hash, Method};

use common::{connect, publish};
use socket::{Client, Midge, temporary};

const CLIENTS: usize = 1_000;
/// As `midge passwd` has them; fewer where nothing is optimized.
const ITERATIONS: u32 = if cfg!(debug_assertions) { 50 } else { 1_000 };
/// What 99 of 100 messages of the others may take meanwhile.
const P99_MAX: Duration = Duration::from_millis(50);

#[test]
fn a_thousand_reconnecting_clients_hold_up_nobody() {
    let path = temporary("passwords");
    fs::write(&path, passwords()).unwrap();
    let broker = Midge::start(&["--password-file", path.to_str().unwrap()]);
    let calm = latencies(&broker, || thread::sleep(Duration::from_secs(2))); // To measure.
    report("calm", &calm, Duration::from_secs(2));
    for what in ["all passwords to be checked", "all passwords known"] {
        let begun = Instant::now();
        let noticed = latencies(&broker, || storm(broker.port));
        report(what, &noticed, begun.elapsed());
        assert!(p99(&noticed) < P99_MAX, "{what}: {:?}", p99(&noticed));
    }
    fs::remove_file(path).unwrap();
}

/// Everybody has a password and a salt of their own.
fn passwords() -> String {
    let line = |n: usize| {
        let salt = (n as u64).to_le_bytes().repeat(2)[..12].to_vec();
        let method = Method::Pbkdf2 {
            iterations: ITERATIONS,
        };
        let hash = Hash::new(method, salt, format!("secret {n}").as_bytes());
        format!("user{n}:{}\n", hash.to_text())
    };
    (0..CLIENTS).map(line).collect()
}

/// All connect at once, and are let in.
fn storm(port: u16) {
    let begun = Instant::now();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| Client::open(port, Version::V311))
        .collect();
    let opened = begun.elapsed();
    for (n, client) in clients.iter_mut().enumerate() {
        let (id, password) = (format!("user{n}"), format!("secret {n}"));
        client.send(&Packet::Connect(Connect {
            user_name: Some(&id),
            password: Some(password.as_bytes()),
            ..connect(Version::V311, &id)
        }));
    }
    let said = begun.elapsed();
    for client in &mut clients {
        assert_eq!(client.read().connack().reason, ReasonCode::Success);
    }
    println!(
        "connections after {opened:.2?}, CONNECTs sent after {said:.2?}, all let in after {:.2?}",
        begun.elapsed()
    );
}

/// How long messages take from a client to itself, one after the other, while `what` goes on.
fn latencies(broker: &Midge, what: impl FnOnce() + Send) -> Vec<Duration> {
    let mut client = broker.client("others");
    client.subscribe("t", QoS::AtMostOnce);
    let mut took = Vec::new();
    thread::scope(|scope| {
        let storm = scope.spawn(what);
        while !storm.is_finished() {
            let begun = Instant::now();
            client.send(&Packet::Publish(publish("t", "x")));
            client.read();
            took.push(begun.elapsed());
            thread::sleep(Duration::from_millis(1)); // A device that sends a thousand in a second.
        }
    });
    took.sort_unstable();
    took
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

fn report(what: &str, sorted: &[Duration], took: Duration) {
    let (median, most) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    let p99 = p99(sorted);
    println!(
        "{what}: {took:.1?}, {} messages, median {median:.2?}, p99 {p99:.2?}, longest {most:.2?}",
        sorted.len()
    );
}
