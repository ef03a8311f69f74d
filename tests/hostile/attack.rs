//! All at once: thousands that say nothing, half CONNECTs, reconnecting senders of garbage, floods
//! for clients that never read, begun packets, and every row of the tables.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use midge::packet::{QoS, Version};

use crate::answer::{opened, try_row, try_slow};
use crate::bytes;
use crate::rows::{PACKET_BYTES_MAX, SECTIONS, Start};
use crate::served::{SetOnDrop, client};
use crate::slow::{SLOW, unfinished_connect, unfinished_publish};
use crate::socket::Midge;

pub const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
const SILENT: usize = 10_000;
/// What README.md says of peers that have not sent their CONNECT, and of its size.
const WAITING_MAX: usize = 1_000;
const CONNECT_BYTES_MAX: usize = 100_000;
/// Threads that open them, and how many each of them opens at a time.
const OPENERS: usize = 10;
const BURST: usize = 8;
const BURST_EVERY: Duration = Duration::from_millis(15);
/// Descriptors that the test needs for all else.
const OTHERS: usize = 500;
/// CONNECTs of which only the last byte is missing.
pub const HALVES: usize = 200;
/// PUBLISH packets of which only the last byte is missing.
pub const BEGUN: usize = 16;
/// Who sends garbage and comes again, and how often at most: the system has only so many ports.
const GARBLERS: usize = 2;
const GARBLED_MAX: usize = 15_000;
const GARBLED_EVERY: Duration = Duration::from_millis(1);
/// Subscribers that never read: one with QoS 0, one with QoS 1.
pub const SLEEPERS: usize = 2;
const FLOOD_PAYLOAD: usize = 10_000;
/// Longer than any limit of time.
const OVERDUE: Duration = Duration::from_secs(14);

/// How much of everything there was.
pub struct Attack {
    pub silent: usize,
    /// Of them, those that were closed at once for others.
    pub displaced: usize,
    pub garbled: usize,
    pub flooded: usize,
    pub rows: usize,
    /// Descriptors of the broker while the silent ones were there.
    pub descriptors: usize,
}

pub fn attack(broker: &Midge) -> Attack {
    let over = AtomicBool::new(false);
    let (garbled, flooded) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let port = broker.port;
    thread::scope(|scope| {
        let guard = SetOnDrop(&over);
        for _ in 0..GARBLERS {
            scope.spawn(|| garble(port, &over, &garbled));
        }
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let (over, flooded) = (&over, &flooded);
            scope.spawn(move || flood(port, qos, over, flooded));
        }
        let begun: Vec<_> = (0..BEGUN).map(|_| begin_publish(port)).collect();
        let mut silent = say_nothing(port);
        let opened = silent.len();
        // They are displaced as others come, not when their time is up.
        let descriptors = broker.count("fd");
        assert!(
            descriptors < WAITING_MAX + OTHERS,
            "{descriptors} for {WAITING_MAX} that wait"
        );
        wait_for("the silent ones to be displaced", || {
            silent.retain(is_open);
            silent.len() <= WAITING_MAX
        });
        let displaced = opened - silent.len();
        let rows = thread::scope(|scope| {
            let halves: Vec<_> = (0..HALVES).map(|_| half_connect(port)).collect();
            silent.extend(halves);
            for (slow, version) in SLOW.iter().flat_map(|slow| VERSIONS.map(|v| (slow, v))) {
                scope.spawn(move || try_slow(port, slow, version));
            }
            let rows = scope.spawn(|| try_all_rows(port));
            rows.join().expect("every row gets what it should")
        });
        wait_for("the end of those that sent no CONNECT", || {
            silent.retain(is_open);
            silent.is_empty()
        });
        drop(begun);
        drop(guard);
        Attack {
            silent: opened,
            displaced,
            garbled: garbled.load(Ordering::Relaxed).min(GARBLED_MAX),
            flooded: flooded.load(Ordering::Relaxed),
            rows,
            descriptors,
        }
    })
}

/// Every row of every table; returns how many connections it took.
fn try_all_rows(port: u16) -> usize {
    let rows = SECTIONS.iter().flat_map(|(_, rows)| rows.iter());
    rows.flat_map(|row| VERSIONS.map(|version| try_row(port, row, version)))
        .sum()
}

fn connected(port: u16) -> Option<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
}

/// As many connections as the descriptors of this process allow, at a rate: the system lets 128
/// wait for the broker, and others try again after a second, which hostile ones do not mind but
/// this test does.
fn say_nothing(port: u16) -> Vec<TcpStream> {
    let count = SILENT.min(descriptors_max().saturating_sub(OTHERS));
    let open = |index| {
        if index % BURST == 0 {
            thread::sleep(BURST_EVERY);
        }
        let stream = connected(port).expect("it listens");
        stream.set_nonblocking(true).expect("it is open");
        stream
    };
    thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|_| scope.spawn(|| (0..count / OPENERS).map(open).collect::<Vec<_>>()))
            .collect();
        let opened = openers.into_iter().map(|opener| opener.join());
        opened
            .flat_map(|opened| opened.expect("they are opened"))
            .collect()
    })
}

fn half_connect(port: u16) -> TcpStream {
    let mut stream = connected(port).expect("it listens");
    stream
        .write_all(&unfinished_connect(Version::V5))
        .expect("it is taken");
    stream.set_nonblocking(true).expect("it is open");
    stream
}

fn begin_publish(port: u16) -> TcpStream {
    let mut client = opened(port, Version::V5, Start::Connected);
    client.send_bytes(&unfinished_publish(Version::V5));
    client.stream
}

fn is_open(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Connects, sends something that ends the connection, and comes again.
fn garble(port: u16, over: &AtomicBool, count: &AtomicUsize) {
    let rows = SECTIONS.iter().flat_map(|(_, rows)| rows.iter());
    let refused = rows.filter(|row| row.v5.ends_with("closed"));
    let mut all: Vec<Vec<u8>> = Vec::new();
    for row in refused {
        let hello = match row.start {
            Start::Nothing => Vec::new(),
            Start::Connected => bytes::good(Version::V5),
        };
        let sent = (row.send)(Version::V5);
        all.extend(sent.iter().map(|bytes| [&hello[..], bytes].concat()));
    }
    for garbage in all.iter().cycle() {
        if over.load(Ordering::Relaxed) || count.fetch_add(1, Ordering::Relaxed) >= GARBLED_MAX {
            return;
        }
        let mut stream = connected(port).expect("it listens");
        // The end may come before all is sent or read.
        let _ = stream.write_all(garbage);
        let _ = stream.read_to_end(&mut Vec::new());
        thread::sleep(GARBLED_EVERY); // As long as everything else goes on.
    }
}

/// A client that never reads, and one that publishes to it as fast as it can.
fn flood(port: u16, qos: QoS, over: &AtomicBool, count: &AtomicUsize) {
    let topic = format!("flood/{}", qos as u8);
    let mut sleeper = client(port, &format!("sleeper-{}", qos as u8));
    sleeper.subscribe(&topic, qos);
    let publisher = client(port, &format!("flooder-{}", qos as u8));
    let (mut writer, mut reader) = (&publisher.stream, &publisher.stream);
    let mut packet = bytes::publish(Version::V5, 0x30 | (qos as u8) << 1, topic.as_bytes(), b"");
    let body = [&packet[2..], &[b'x'; FLOOD_PAYLOAD]].concat();
    packet = bytes::packet(packet[0], &body);
    thread::scope(|scope| {
        scope.spawn(move || while matches!(reader.read(&mut [0; 4096]), Ok(1..)) {});
        while !over.load(Ordering::Relaxed) {
            writer.write_all(&packet).expect("a flooder is served too");
            count.fetch_add(1, Ordering::Relaxed);
        }
        let _ = publisher.stream.shutdown(std::net::Shutdown::Both);
    });
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + OVERDUE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

// ---- limits -------------------------------------------------------------------------------------

/// How many files this process may open, after asking for as many as it may have; a broker that is
/// started afterwards may have as many.
pub fn descriptors_max() -> usize {
    let (soft, hard) = descriptor_limits();
    if soft < (SILENT + OTHERS).min(hard) {
        let limit = format!("--nofile={hard}:{hard}");
        let pid = std::process::id().to_string();
        // Where there is no prlimit(1), there will be fewer silent clients.
        let _ = std::process::Command::new("prlimit")
            .args(["--pid", &pid, &limit])
            .status();
    }
    descriptor_limits().0
}

fn descriptor_limits() -> (usize, usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("this is Linux");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = line
        .expect("there is such a limit")
        .split_whitespace()
        .skip(3);
    let mut next = || {
        numbers
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(usize::MAX)
    };
    (next(), next())
}

/// What the broker may need beyond what it needed before, by its limits: in bytes.
pub fn memory_bound(outbound_bytes_max: usize, queued_bytes_max: usize) -> usize {
    let outbound_hard = 2 * outbound_bytes_max + PACKET_BYTES_MAX;
    let inflight = 20 * (FLOOD_PAYLOAD + 1_000);
    let sleepers = SLEEPERS * (outbound_hard + queued_bytes_max + inflight);
    // The beginning of a packet is kept in a buffer that doubles.
    let begun = BEGUN * PACKET_BYTES_MAX.next_power_of_two();
    let halves = HALVES * CONNECT_BYTES_MAX.next_power_of_two();
    // Sockets, connections and deadlines of peers that have not sent a CONNECT.
    let peers = WAITING_MAX * 2_048;
    // Whatever is needed once: the read buffer, the slack of the allocator, a packet for each row.
    let once = 8 << 20;
    sleepers + begun + halves + peers + once
}
