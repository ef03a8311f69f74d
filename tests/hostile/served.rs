//! The well-behaved: pairs of clients that talk at a fixed rate, and newcomers.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use midge::packet::{Packet, QoS, ReasonCode, Version};

use crate::common::{ack, connect, publish, publish_qos};
use crate::socket::{Client, Midge};

/// Pairs of a publisher and a subscriber, half of them with QoS 0 and half with QoS 1.
pub const PAIRS: usize = 10;
/// Between two messages of a pair: 500 a second in all.
const EVERY: Duration = Duration::from_millis(20);
const NEWCOMER_EVERY: Duration = Duration::from_millis(50);

/// How long things took, sorted.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Times {
        times.sort();
        Times(times)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The least that `percent` of all did not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

/// What the well-behaved noticed.
pub struct Served {
    /// From the time when a message was due to its arrival.
    pub messages: Times,
    /// From the connection to its CONNACK.
    pub connects: Times,
}

/// Sets it when it goes, also by a panic: nobody waits for ever.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets them talk while `meanwhile` goes on. All that was sent has arrived, once and in order, when
/// this returns.
pub fn serve<T>(port: u16, meanwhile: impl FnOnce() -> T) -> (Served, T) {
    let done = AtomicBool::new(false);
    let ready = Barrier::new(PAIRS + 1);
    let epoch = Instant::now();
    thread::scope(|scope| {
        let over = SetOnDrop(&done);
        let pairs: Vec<_> = (0..PAIRS)
            .map(|index| {
                let (done, ready) = (&done, &ready);
                scope.spawn(move || pair(port, index, epoch, done, ready))
            })
            .collect();
        ready.wait();
        let newcomers = scope.spawn(|| newcomers(port, &done));
        let result = meanwhile();
        drop(over);
        let times = pairs
            .into_iter()
            .flat_map(|pair| pair.join().expect("a pair is served"))
            .collect();
        let served = Served {
            messages: Times::new(times),
            connects: Times::new(newcomers.join().expect("newcomers are served")),
        };
        (served, result)
    })
}

/// A client with a clean session, MQTT 5.
pub fn client(port: u16, id: &str) -> Client {
    let mut client = Client::open(port, Version::V5);
    client.send(&Packet::Connect(connect(Version::V5, id)));
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
    client
}

/// One publisher and one subscriber; returns how long each message took.
fn pair(
    port: u16,
    index: usize,
    epoch: Instant,
    done: &AtomicBool,
    ready: &Barrier,
) -> Vec<Duration> {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][index % 2];
    let topic = format!("served/{index}");
    let mut subscriber = client(port, &format!("subscriber-{index}"));
    subscriber.subscribe(&topic, qos);
    let mut publisher = client(port, &format!("publisher-{index}"));
    ready.wait();
    thread::scope(|scope| {
        let received = scope.spawn(|| receive(&mut subscriber, epoch));
        let first = Instant::now() + EVERY * index as u32 / PAIRS as u32;
        let mut number = 0;
        while !done.load(Ordering::Relaxed) {
            let due = first + EVERY * number;
            thread::sleep(due.saturating_duration_since(Instant::now())); // The rate.
            let payload = format!("{number} {}", (due - epoch).as_nanos());
            send(&mut publisher, qos, &topic, &payload);
            number += 1;
        }
        send(&mut publisher, qos, &topic, "end");
        let times = received.join().expect("the subscriber is served");
        assert_eq!(
            times.len(),
            number as usize,
            "{topic}: not all have arrived"
        );
        times
    })
}

fn send(publisher: &mut Client, qos: QoS, topic: &str, payload: &str) {
    match qos {
        QoS::AtMostOnce => publisher.send(&Packet::Publish(publish(topic, payload))),
        QoS::AtLeastOnce | QoS::ExactlyOnce => {
            publisher.send(&Packet::Publish(publish_qos(qos, 1, topic, payload)));
            publisher.expect(&Packet::PubAck(ack(1)));
        }
    }
}

/// Receives up to the end; each message once and in order.
fn receive(subscriber: &mut Client, epoch: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    loop {
        let received = subscriber.read();
        let arrived = epoch.elapsed();
        let publish = received.publish();
        if let Some(id) = publish.packet_id {
            subscriber.send(&Packet::PubAck(ack(id)));
        }
        let payload = std::str::from_utf8(publish.payload).expect("it was sent as text");
        let Some((number, due)) = payload.split_once(' ') else {
            assert_eq!(payload, "end");
            return times;
        };
        assert_eq!(number, times.len().to_string(), "once and in order");
        let due = due.parse().expect("it was sent as a number");
        times.push(arrived.saturating_sub(Duration::from_nanos(due)));
    }
}

/// Clients that come and go.
fn newcomers(port: u16, done: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        let client = client(port, "newcomer");
        times.push(start.elapsed());
        client.disconnect();
        thread::sleep(NEWCOMER_EVERY.saturating_sub(start.elapsed())); // The rate.
    }
    times
}

/// The figure at a topic under `$SYS/broker`.
pub fn sys(broker: &Midge, topic: &str) -> String {
    let mut client = broker.client("sys");
    let topic = format!("$SYS/broker/{topic}");
    assert_eq!(
        client.subscribe(&topic, QoS::AtMostOnce),
        ReasonCode::Success
    );
    let received = client.read();
    client.disconnect();
    String::from_utf8_lossy(received.publish().payload).into_owned()
}
