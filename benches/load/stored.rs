//! What a broker keeps: retained messages, and queues of sessions that are away.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::thread::sleep;

use super::link::{Link, Patience, READ_BYTES, TICK};
use super::process::{Broker, Cost, Memory, Meter};
use super::tally::{Faults, Seen, Tally};
use super::wire::{self, Acks, Kind, Session, Template};

const PAYLOAD_BYTES: usize = 100;
/// Prepared at once, where nothing but the socket holds the publisher back.
const BATCH: u64 = 1_000;
/// Messages that are not acknowledged.
const WINDOW: u64 = 200;
/// Retained messages of a replay that is measured, and how many such replays there are.
pub const REPLAYED: u64 = 1_000;
pub const REPLAYS: u64 = 50;
/// Digits of the numbers in topics.
const DIGITS: usize = 8;

/// Something is put in and taken out again.
pub struct Outcome {
    pub put: Cost,
    pub taken: Cost,
    pub before: Memory,
    pub full: Memory,
    pub after: Memory,
    pub faults: Faults,
}

// ---- retained -------------------------------------------------------------------------------

/// Stores some retained messages, which go to new subscribers of `#` one after the other; then as
/// many more as make `count`. At the end they must all be there.
///
/// A replay is small enough for the subscriber's socket to take it: in one that is full, writes are
/// cheap, and the figure would be that of sending more slowly than the reader reads.
pub fn retained(broker: &Broker, count: u64) -> io::Result<Outcome> {
    let mut buffer = vec![0; READ_BYTES];
    let mut publisher = Link::connect(broker.address, "publisher")?;
    store(&mut publisher, &mut buffer, 0..REPLAYED)?;
    let mut subscribers = Vec::new();
    for number in 0..REPLAYS {
        subscribers.push(Link::connect(
            broker.address,
            &format!("subscriber-{number}"),
        )?);
    }
    let mut faults = Faults::default();
    let meter = Meter::start(broker);
    for subscriber in &mut subscribers {
        faults += replay(subscriber, &mut buffer, REPLAYED)?;
    }
    let taken = meter.read(broker);
    drop(subscribers);

    let before = broker.settled();
    let meter = Meter::start(broker);
    store(&mut publisher, &mut buffer, REPLAYED..REPLAYED + count)?;
    let put = meter.read(broker);
    let full = broker.settled();
    let mut subscriber = Link::connect(broker.address, "last")?;
    faults += replay(&mut subscriber, &mut buffer, REPLAYED + count)?;
    Ok(Outcome {
        put,
        taken,
        before,
        full,
        after: broker.settled(),
        faults,
    })
}

pub fn store(publisher: &mut Link, buffer: &mut [u8], numbers: Range<u64>) -> io::Result<()> {
    let kind = Kind {
        qos: 0,
        retain: true,
        payload_bytes: PAYLOAD_BYTES,
    };
    let mut template = Template::new("retained/00000000", 0, kind);
    let mut sent = numbers.start;
    while sent < numbers.end {
        let end = numbers.end.min(sent + BATCH);
        for number in sent..end {
            template.number_topic(number, DIGITS);
            template.stamp(number, number, 0);
            publisher.out.extend_from_slice(&template.bytes);
        }
        sent = end;
        while !publisher.out.is_empty() {
            publisher.flush()?;
            sleep(TICK);
        }
    }
    // Once one that is acknowledged has been taken, all before it have.
    let kind = Kind {
        qos: 1,
        retain: false,
        ..kind
    };
    let mut last = Template::new("last", 0, kind);
    last.stamp(0, 0, 0);
    publisher.out.extend_from_slice(&last.bytes);
    let (mut acks, mut patience) = (Acks::default(), Patience::new());
    while acks.complete == 0 && !patience.is_over(0) {
        publisher.flush()?;
        sleep(TICK);
        publisher.read(buffer, |first, body, out| acks.receive(first, body, out))?;
    }
    Ok(())
}

/// They may come in any order, but each just once.
fn replay(subscriber: &mut Link, buffer: &mut [u8], count: u64) -> io::Result<Faults> {
    let mut seen = vec![false; count as usize];
    let (mut delivered, mut duplicates) = (0, 0);
    subscriber.subscribe(&["#".to_string()], 0)?;
    let mut patience = Patience::new();
    while delivered < count && !patience.is_over(delivered) {
        sleep(TICK);
        subscriber.read(buffer, |first, body, out| {
            let Some(message) = wire::receive(first, body, out)? else {
                return Ok(());
            };
            match seen.get_mut(message.number as usize) {
                Some(seen @ false) => {
                    *seen = true;
                    delivered += 1;
                }
                Some(true) => duplicates += 1,
                None => return Err(wire::unexpected("a message that nobody published")),
            }
            Ok(())
        })?;
    }
    Ok(Faults {
        lost: count - delivered,
        duplicates,
        disorder: 0,
    })
}

// ---- queued ---------------------------------------------------------------------------------

/// Queues `count` messages of QoS 1 for a session that is away, which then comes back for them.
///
/// What it held before is that of a broker that has worked: a small queue has come and gone, so
/// the code and the buffers that any queue needs are not taken for what the large one left behind.
pub fn queued(broker: &Broker, count: u64) -> io::Result<Outcome> {
    const CLIENT: &str = "subscriber";
    let mut buffer = vec![0; READ_BYTES];
    let hello = wire::connect(CLIENT, Session::Kept, 0);
    let mut subscriber = Link::open(broker.address)?;
    subscriber.ask(&hello, &wire::connack(false))?;
    subscriber.subscribe(&["queue/#".to_string()], 1)?;
    leave(subscriber)?;
    let mut publisher = Link::connect(broker.address, "publisher")?;
    fill_queue(&mut publisher, &mut buffer, BATCH)?;
    let mut subscriber = Link::open(broker.address)?;
    subscriber.ask(&hello, &wire::connack(true))?;
    let mut faults = drain(&mut subscriber, &mut buffer, BATCH)?;
    leave(subscriber)?;
    let before = broker.settled();

    let meter = Meter::start(broker);
    fill_queue(&mut publisher, &mut buffer, count)?;
    let put = meter.read(broker);
    let full = broker.settled();

    let meter = Meter::start(broker);
    let mut subscriber = Link::open(broker.address)?;
    subscriber.ask(&hello, &wire::connack(true))?;
    faults += drain(&mut subscriber, &mut buffer, count)?;
    let taken = meter.read(broker);
    Ok(Outcome {
        put,
        taken,
        before,
        full,
        after: broker.settled(),
        faults,
    })
}

pub fn leave(mut subscriber: Link) -> io::Result<()> {
    subscriber.out.extend(wire::DISCONNECT);
    subscriber.flush()
}

pub fn fill_queue(publisher: &mut Link, buffer: &mut [u8], count: u64) -> io::Result<()> {
    let kind = Kind {
        qos: 1,
        retain: false,
        payload_bytes: PAYLOAD_BYTES,
    };
    let mut template = Template::new("queue/temperature", 0, kind);
    let (mut sent, mut acks, mut patience) = (0, Acks::default(), Patience::new());
    while acks.complete < count {
        if patience.is_over(acks.complete) {
            return Err(ErrorKind::TimedOut.into());
        }
        let end = count.min(acks.complete + WINDOW);
        for number in sent..end {
            template.stamp(number, number, 0);
            publisher.out.extend_from_slice(&template.bytes);
        }
        sent = end;
        publisher.flush()?;
        sleep(TICK);
        publisher.read(buffer, |first, body, out| acks.receive(first, body, out))?;
    }
    Ok(())
}

fn drain(subscriber: &mut Link, buffer: &mut [u8], count: u64) -> io::Result<Faults> {
    let (mut tally, mut seen) = (Tally::new(vec![0]), Seen::new(1));
    let mut patience = Patience::new();
    while tally.progress[0] < count && !patience.is_over(tally.delivered) {
        sleep(TICK);
        subscriber.read(buffer, |first, body, out| {
            if let Some(message) = wire::receive(first, body, out)? {
                tally.note(message.series, message.number, &mut seen);
            }
            Ok(())
        })?;
        subscriber.flush()?;
    }
    // What is acknowledged last is to arrive too.
    while !subscriber.out.is_empty() {
        subscriber.flush()?;
        sleep(TICK);
    }
    sleep(10 * TICK);
    Ok(Faults {
        lost: count - tally.progress[0] + seen.missing.len() as u64,
        ..tally.faults
    })
}
