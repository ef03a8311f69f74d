//! Publishers and subscribers in a steady flow: processor time per delivered message.
//!
//! Every tick all that has come is read, windows are filled up again, and each link is written
//! once. A publisher's window holds messages that some subscriber does not have yet or, with QoS 1
//! and 2, that are not acknowledged. Nothing is allocated for a message.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::link::{Link, Patience, READ_BYTES, TICK};
use super::process::{Broker, Cost, Memory, Meter, Protocol};
use super::relay;
use super::tally::{Faults, Seen, Tally};
use super::topics::{Shape, Topology};
use super::wire::{self, Acks, Kind, Session, Template};

/// Who publishes how much to whom.
#[derive(Clone, Copy)]
pub struct Flow {
    pub publishers: usize,
    pub subscribers: usize,
    pub shape: Shape,
    pub qos: u8,
    /// Of the subscribers.
    pub session: Session,
    /// Messages that a publisher has under way.
    pub window: u64,
    pub payload_bytes: usize,
}

#[derive(Clone, Copy)]
pub struct Pace {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What was measured, and what went wrong from beginning to end.
pub struct Outcome {
    pub measured: Measured,
    pub faults: Faults,
}

pub struct Measured {
    pub delivered: u64,
    pub cost: Cost,
    pub memory: Memory,
}

/// Puts `broker` under load, measures after the warm-up, waits for what is under way.
pub fn run(flow: &Flow, broker: &Broker, pace: Pace) -> io::Result<Outcome> {
    let mut clients = Clients::connect(flow, broker)?;
    let measured = clients.measure(broker, pace)?;
    let faults = clients.drain()?;
    Ok(Outcome { measured, faults })
}

/// The same, and once more when there is also a subscriber that reads nothing: first what was
/// measured without it. What it lost does not count.
pub fn run_beside_a_sleeper(
    flow: &Flow,
    broker: &Broker,
    pace: Pace,
) -> io::Result<(Measured, Outcome)> {
    let mut clients = Clients::connect(flow, broker)?;
    let alone = clients.measure(broker, pace)?;
    let sleeper = sleeping(flow, broker.address)?;
    let measured = clients.measure(broker, pace)?;
    let faults = clients.drain()?;
    drop(sleeper);
    Ok((alone, Outcome { measured, faults }))
}

/// A subscriber of everything who never reads.
fn sleeping(flow: &Flow, address: SocketAddr) -> io::Result<Link> {
    let mut link = Link::connect(address, "sleeper")?;
    link.subscribe(&["load/#".to_string()], flow.qos)?;
    Ok(link)
}

// ---- all of them ----------------------------------------------------------------------------

struct Clients {
    buffer: Vec<u8>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    tally: Tally,
}

impl Clients {
    fn connect(flow: &Flow, broker: &Broker) -> io::Result<Clients> {
        let topology = Topology::new(flow.shape, flow.publishers, flow.subscribers);
        let mut subscribers = Vec::new();
        for number in 0..flow.subscribers {
            let link = match broker.protocol {
                Protocol::Raw => relay::subscribe(broker.address, topology.relay_group(number))?,
                Protocol::Mqtt => {
                    let id = format!("subscriber-{number}");
                    let mut link = Link::connect_to(broker.address, &id, flow.session)?;
                    link.subscribe(&topology.filters(number), flow.qos)?;
                    link
                }
            };
            let seen = Seen::new(topology.series());
            subscribers.push(Subscriber { link, seen });
        }
        let mut publishers = Vec::new();
        for number in 0..flow.publishers {
            let link = match broker.protocol {
                Protocol::Raw => relay::publish(broker.address, topology.relay_group(number))?,
                Protocol::Mqtt => Link::connect(broker.address, &format!("publisher-{number}"))?,
            };
            publishers.push(Publisher::new(link, number, flow, &topology));
        }
        Ok(Clients {
            buffer: vec![0; READ_BYTES],
            publishers,
            subscribers,
            tally: Tally::new(topology.publishers()),
        })
    }

    fn publish_for(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut patience = Patience::new();
        while Instant::now() < end && !patience.is_over(self.tally.delivered) {
            for (number, publisher) in self.publishers.iter_mut().enumerate() {
                publisher.fill(self.tally.progress[number]);
            }
            self.turn()?;
        }
        Ok(())
    }

    fn measure(&mut self, broker: &Broker, pace: Pace) -> io::Result<Measured> {
        self.publish_for(pace.warm_up)?;
        let (meter, before) = (Meter::start(broker), self.tally.delivered);
        self.publish_for(pace.measured)?;
        let cost = meter.read(broker);
        let delivered = self.tally.delivered - before;
        if delivered == 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, "nothing was delivered"));
        }
        Ok(Measured {
            delivered,
            cost,
            memory: broker.memory(),
        })
    }

    /// Waits for what is under way; returns what went wrong in all this time.
    fn drain(&mut self) -> io::Result<Faults> {
        let mut patience = Patience::new();
        while !self.is_done() && !patience.is_over(self.tally.delivered) {
            self.turn()?;
        }
        Ok(Faults {
            lost: self.lost(),
            ..self.tally.faults
        })
    }

    fn is_done(&self) -> bool {
        self.lost() == 0 && self.publishers.iter().all(|client| client.unacked() == 0)
    }

    /// Deliveries that are still to come, or never will.
    fn lost(&self) -> u64 {
        let owed = self
            .publishers
            .iter()
            .map(|client| client.sent * client.fan_out);
        let reached: u64 = self.tally.progress.iter().sum();
        let skipped = self
            .subscribers
            .iter()
            .map(|client| client.seen.missing.len() as u64);
        owed.sum::<u64>() - reached + skipped.sum::<u64>()
    }

    /// Writes what there is, sleeps, reads what has come.
    fn turn(&mut self) -> io::Result<()> {
        let Clients {
            buffer,
            publishers,
            subscribers,
            tally,
        } = self;
        for publisher in publishers.iter_mut() {
            publisher.link.flush()?;
        }
        for subscriber in subscribers.iter_mut() {
            subscriber.link.flush()?;
        }
        sleep(TICK);
        for Publisher {
            link, acks, qos, ..
        } in publishers
        {
            if *qos > 0 {
                link.read(buffer, |first, body, out| acks.receive(first, body, out))?;
            }
        }
        for Subscriber { link, seen } in subscribers {
            link.read(buffer, |first, body, out| {
                if let Some(message) = wire::receive(first, body, out)? {
                    tally.note(message.series, message.number, seen);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

struct Subscriber {
    link: Link,
    seen: Seen,
}

struct Publisher {
    link: Link,
    qos: u8,
    window: u64,
    /// How many subscribers each of its messages has.
    fan_out: u64,
    /// Sent one after the other, over and over.
    templates: Vec<Template>,
    next: usize,
    /// By series.
    numbers: Vec<u64>,
    sent: u64,
    acks: Acks,
}

impl Publisher {
    fn new(link: Link, number: usize, flow: &Flow, topology: &Topology) -> Publisher {
        let kind = Kind {
            qos: flow.qos,
            retain: false,
            payload_bytes: flow.payload_bytes,
        };
        let topics = topology.topics(number).into_iter();
        Publisher {
            link,
            qos: flow.qos,
            window: flow.window,
            fan_out: topology.fan_out(number),
            templates: topics
                .map(|(topic, series)| Template::new(&topic, series, kind))
                .collect(),
            next: 0,
            numbers: vec![0; topology.series()],
            sent: 0,
            acks: Acks::default(),
        }
    }

    /// Prepares as many messages as the window has room for, with `progress` deliveries made.
    fn fill(&mut self, progress: u64) {
        let under_way = (self.sent * self.fan_out - progress).div_ceil(self.fan_out);
        let room = self.window.saturating_sub(under_way.max(self.unacked()));
        for _ in 0..room {
            let template = &mut self.templates[self.next];
            let number = &mut self.numbers[template.series as usize];
            template.stamp(self.sent, *number, 0);
            self.link.out.extend_from_slice(&template.bytes);
            self.sent += 1;
            *number += 1;
            self.next = (self.next + 1) % self.templates.len();
        }
    }

    fn unacked(&self) -> u64 {
        match self.qos {
            0 => 0,
            _ => self.sent - self.acks.complete,
        }
    }
}
