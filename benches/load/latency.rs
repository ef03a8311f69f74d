//! How long a message takes at a steady, low rate: from before it is written until it was read.
//!
//! Here the generator does sleep on its sockets, as clients do: one thread writes on a timer, the
//! other waits for what arrives, so the figures hold two wake-ups, the broker's and the reader's.

use std::io;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::link::{Link, PATIENCE, READ_BYTES};
use super::process::{Broker, Cost, Meter, Protocol};
use super::relay;
use super::tally::{Faults, Seen, Tally};
use super::wire::{self, Acks, Kind, Template};

const PAIRS: usize = 10;
/// Between two messages, of all pairs together.
const INTERVAL: Duration = Duration::from_micros(500);
const PAYLOAD_BYTES: usize = 100;

pub struct Outcome {
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
    pub cost: Cost,
    pub faults: Faults,
}

pub fn run(broker: &Broker, qos: u8, warm_up: Duration, measured: Duration) -> io::Result<Outcome> {
    let per_interval = |time: Duration| (time.as_micros() / INTERVAL.as_micros()) as usize;
    let (first, count) = (per_interval(warm_up), per_interval(warm_up + measured));
    let mut subscribers = Vec::new();
    let mut publishers = Vec::new();
    for number in 0..PAIRS {
        subscribers.push(subscriber(broker, number, qos)?);
        publishers.push(publisher(broker, number, qos)?);
    }
    let meter = Meter::start(broker);
    let epoch = Instant::now();
    let (written, heard) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&mut publishers, epoch, count));
        let heard = listen(&mut subscribers, epoch, count);
        (writer.join().expect("it does not panic"), heard)
    });
    written?;
    let heard = heard?;
    let cost = meter.read(broker);
    let mut nanos = heard.nanos[first.min(heard.nanos.len())..].to_vec();
    nanos.sort_unstable();
    let part = |percent: usize| {
        nanos
            .get(nanos.len() * percent / 100)
            .map_or(f64::NAN, |n| *n as f64)
    };
    Ok(Outcome {
        p50: part(50) / 1e3,
        p99: part(99) / 1e3,
        cost,
        faults: heard.faults,
    })
}

// ---- writing --------------------------------------------------------------------------------

struct Publisher {
    link: Link,
    template: Template,
    sent: u64,
    acks: Acks,
}

fn publisher(broker: &Broker, number: usize, qos: u8) -> io::Result<Publisher> {
    let kind = Kind {
        qos,
        retain: false,
        payload_bytes: PAYLOAD_BYTES,
    };
    Ok(Publisher {
        link: match broker.protocol {
            Protocol::Raw => relay::publish(broker.address, number as u32)?,
            Protocol::Mqtt => Link::connect(broker.address, &format!("publisher-{number}"))?,
        },
        template: Template::new(&topic(number), number as u32, kind),
        sent: 0,
        acks: Acks::default(),
    })
}

fn write(publishers: &mut [Publisher], epoch: Instant, count: usize) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    for number in 0..count {
        let due = epoch + INTERVAL * number as u32;
        sleep(due.saturating_duration_since(Instant::now()));
        let Publisher {
            link,
            template,
            sent,
            acks,
        } = &mut publishers[number % PAIRS];
        link.read(&mut buffer, |first, body, out| {
            acks.receive(first, body, out)
        })?;
        template.stamp(*sent, *sent, epoch.elapsed().as_nanos() as u64);
        *sent += 1;
        link.out.extend_from_slice(&template.bytes);
        link.flush()?;
    }
    Ok(())
}

// ---- listening ------------------------------------------------------------------------------

struct Subscriber {
    link: Link,
    seen: Seen,
}

struct Heard {
    /// In the order of arrival.
    nanos: Vec<u64>,
    faults: Faults,
}

fn subscriber(broker: &Broker, number: usize, qos: u8) -> io::Result<Subscriber> {
    let link = match broker.protocol {
        Protocol::Raw => relay::subscribe(broker.address, number as u32)?,
        Protocol::Mqtt => {
            let mut link = Link::connect(broker.address, &format!("subscriber-{number}"))?;
            link.subscribe(&[topic(number)], qos)?;
            link
        }
    };
    Ok(Subscriber {
        link,
        seen: Seen::new(PAIRS),
    })
}

fn listen(subscribers: &mut [Subscriber], epoch: Instant, count: usize) -> io::Result<Heard> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        let stream = &mut subscriber.link.stream;
        poll.registry()
            .register(stream, Token(number), Interest::READABLE)?;
    }
    let mut buffer = vec![0; READ_BYTES];
    let mut nanos = Vec::with_capacity(count);
    let mut tally = Tally::new((0..PAIRS).collect());
    while nanos.len() < count {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            break;
        }
        for event in &events {
            let Subscriber { link, seen } = &mut subscribers[event.token().0];
            link.read(&mut buffer, |first, body, out| {
                if let Some(message) = wire::receive(first, body, out)? {
                    let now = epoch.elapsed().as_nanos() as u64;
                    nanos.push(now.saturating_sub(message.time));
                    tally.note(message.series, message.number, seen);
                }
                Ok(())
            })?;
            link.flush()?;
        }
    }
    let reached: u64 = tally.progress.iter().sum();
    let skipped = subscribers
        .iter()
        .map(|client| client.seen.missing.len() as u64);
    Ok(Heard {
        nanos,
        faults: Faults {
            lost: count as u64 - reached + skipped.sum::<u64>(),
            ..tally.faults
        },
    })
}

fn topic(number: usize) -> String {
    format!("load/{number}")
}
