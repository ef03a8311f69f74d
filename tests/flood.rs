//! `--memory-limit` with the real program and a real flood: its memory stays bounded, and it
//! recovers.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use midge::packet::{Packet, Publish, QoS, ReasonCode, Version};

use common::{connect, durable, expiry, publish};
use socket::{Midge, encoded, temporary, until};

const LIMIT: u64 = 6 << 20;
const FLOOD: Duration = Duration::from_secs(3);
/// What the allocator may hold beyond what is allocated, and the program's own pages.
const BESIDES: u64 = 6 << 20;

/// One that publishes as fast as it is read.
struct Publisher {
    stream: TcpStream,
    /// Bytes of the next packets that were written, and of all.
    written: usize,
    total: usize,
}

impl Publisher {
    fn new(port: u16, number: usize) -> Publisher {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut publisher = Publisher {
            stream,
            written: 0,
            total: 0,
        };
        let id = format!("publisher-{number}");
        let connect = encoded(&Packet::Connect(connect(Version::V311, &id)), Version::V311);
        publisher.stream.write_all(&connect).unwrap();
        publisher.stream.read_exact(&mut [0; 4]).unwrap();
        publisher.stream.set_nonblocking(true).unwrap();
        publisher
    }

    /// Takes in what was answered, and writes once; whether that was possible.
    fn go_on(&mut self, packets: &[u8]) -> bool {
        let mut answers = [0; 64 << 10];
        match self.stream.read(&mut answers) {
            Ok(0) => panic!("a publisher was cut off"),
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        match self.stream.write(&packets[self.written..]) {
            Ok(count) => {
                self.written = (self.written + count) % packets.len();
                self.total += count;
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }
}

#[test]
fn a_flood_from_fifty_publishers_to_a_stopped_subscriber_is_survived() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let broker = Midge::start(&["--memory-limit", &LIMIT.to_string()]);
        let before = broker.figure("VmRSS") * 1024;
        let block = expiry(3_600);
        let mut stopped = broker.connect(durable(Version::V5, "stopped", &block));
        stopped.subscribe("t", qos);
        let mut publishers: Vec<Publisher> = (0..50)
            .map(|number| Publisher::new(broker.port, number))
            .collect();
        let payload = "x".repeat(200);
        let packet = Packet::Publish(Publish {
            qos,
            packet_id: (qos > QoS::AtMostOnce).then_some(1),
            ..publish("t", &payload)
        });
        let packets = encoded(&packet, Version::V311).repeat(100);
        let end = Instant::now() + FLOOD;
        let (mut peak, mut written) = (0, 0_u64);
        while Instant::now() < end {
            for publisher in &mut publishers {
                written += u64::from(publisher.go_on(&packets));
            }
            peak = broker.figure("VmRSS").max(peak);
        }
        let peak = peak * 1024;
        println!("{qos:?}: {before} bytes before, {peak} at most, {written} writes");
        assert!(broker.logs("Memory is short").contains("--memory-limit"));
        assert!(peak <= before + LIMIT + BESIDES, "{qos:?}: {peak} bytes");
        // The flood is over, and so is it with who did not read.
        drop(publishers);
        drop(stopped);
        let mut newcomer = until("a newcomer that is let in", || {
            let (client, connack) = broker.try_connect(connect(Version::V5, "newcomer"));
            match connack.connack().reason {
                ReasonCode::Success => Some(client),
                ReasonCode::QuotaExceeded => None,
                other => panic!("{other:?}"),
            }
        });
        newcomer.subscribe("u", QoS::AtMostOnce);
        newcomer.send(&Packet::Publish(publish("u", "recovered")));
        assert_eq!(newcomer.read().publish().payload, b"recovered");
        // One episode, not one for each time that something was dropped.
        let next = broker.logs("Memory ");
        assert!(next.contains("Memory suffices again"), "{next}");
    }
}

#[test]
fn what_waits_on_disk_takes_no_more_memory_than_the_limit_and_new_clients_get_in() {
    let place = temporary("flood-on-disk");
    let broker = Midge::start(&[
        "--memory-limit",
        &LIMIT.to_string(),
        "--persistence",
        "--persistence-location",
        place.to_str().unwrap(),
        "--durability",
        "os",
        "--sys-interval",
        "1",
    ]);
    let block = expiry(3_600);
    for number in 0..10 {
        let id = format!("away {number}");
        let mut away = broker.connect(durable(Version::V5, &id, &block));
        away.subscribe("t", QoS::AtLeastOnce);
        away.disconnect();
    }
    let mut publisher = Publisher::new(broker.port, 0);
    let packet = Packet::Publish(Publish {
        qos: QoS::AtLeastOnce,
        packet_id: Some(1),
        ..publish("t", "x")
    });
    let packets = encoded(&packet, Version::V311).repeat(1_000);
    // Their places alone would take 9 MB.
    let wanted = 40 * packets.len();
    until("all messages are taken", || {
        while publisher.total < wanted && publisher.go_on(&packets) {}
        (publisher.total >= wanted).then_some(())
    });
    let mut newcomer = broker.client("newcomer");
    newcomer.subscribe("$SYS/broker/heap/current", QoS::AtMostOnce);
    let mut heap = 0;
    while heap < LIMIT * 3 / 4 {
        let received = newcomer.read();
        let figure = std::str::from_utf8(received.publish().payload).unwrap();
        heap = figure.parse().unwrap();
        assert!(heap < LIMIT, "{heap}");
    }
    broker.client("another newcomer");
    let why = broker.logs("Memory is short");
    assert!(why.contains("nor kept for clients that are away"), "{why}");
    broker.stop();
    std::fs::remove_dir_all(place).unwrap();
}
