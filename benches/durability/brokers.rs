//! Brokers as processes: midge with each durability, without persistence, and Mosquitto.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Plan;
use super::commits::percentile;
use super::device::Device;
use super::flow::{self, Flow, Pace};
use super::link::{Link, READ_BYTES, TICK};
use super::process::{Broker, Command, number};
use super::stored;
use super::tally::Faults;
use super::topics::Shape;
use super::wire::{self, Acks, Kind, Session, Template};

/// No limits to queues, for all that is put there.
const MIDGE: &str = "--port {port} --log-dest none --max-inflight-messages 0 \
                     --max-queued-messages 0 --max-queued-bytes 0";
const MOSQUITTO: &str = "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n\
                         max_inflight_messages 0\nmax_queued_messages 0\nlog_dest none\n\
                         set_tcp_nodelay true\npersistence true\n";

pub struct Contender {
    pub name: &'static str,
    /// Where it keeps its state, new for each run.
    directory: PathBuf,
    kind: Kept,
}

#[derive(Clone, Copy)]
enum Kept {
    Nothing,
    With(&'static str),
    Mosquitto,
}

impl Contender {
    /// First the one that keeps nothing, then the one that keeps most.
    pub fn all(directory: &Path) -> [Contender; 5] {
        let contender = |name, kind| Contender {
            name,
            directory: directory.join(format!("state-{}", std::process::id())),
            kind,
        };
        [
            contender("no persistence", Kept::Nothing),
            contender("turn", Kept::With("turn")),
            contender("100 ms", Kept::With("100")),
            contender("os", Kept::With("os")),
            contender("mosquitto", Kept::Mosquitto),
        ]
    }

    /// With nothing kept from before.
    fn start(&self) -> io::Result<Broker> {
        let _ = fs::remove_dir_all(&self.directory);
        fs::create_dir_all(&self.directory)?;
        self.start_again()
    }

    fn start_again(&self) -> io::Result<Broker> {
        let place = self.directory.display();
        let midge = env::var("MIDGE").unwrap_or(env!("CARGO_BIN_EXE_midge").to_string());
        let command = match self.kind {
            Kept::Nothing => Ok(Command::new(Path::new(&midge), MIDGE)),
            Kept::With(durability) => {
                let flags = format!(
                    "{MIDGE} --persistence true --persistence-location {place} --durability \
                     {durability}"
                );
                Ok(Command::new(Path::new(&midge), &flags))
            }
            Kept::Mosquitto => {
                let file = self.directory.join("mosquitto.conf");
                let text = format!("{MOSQUITTO}persistence_location {place}/\n");
                fs::write(&file, text)?;
                Command::parse(&format!("mosquitto -c {}", file.display()))
            }
        };
        let broker = command.and_then(|command| Broker::start(&command));
        broker.map_err(io::Error::other)
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

// ---- rows -----------------------------------------------------------------------------------

/// Several figures of one run: what each is, and what a durable broker may need at most, over one
/// that keeps nothing.
pub struct Rows {
    pub names: &'static [(&'static str, Option<f64>)],
    pub measure: fn(&Contender, &Plan, &Device) -> io::Result<Vec<f64>>,
}

pub const ROWS: [Rows; 5] = [
    Rows {
        names: &[("1 publisher, 1 subscriber", None)],
        measure: |contender, plan, _| flowing(contender, plan, 1, 200),
    },
    Rows {
        names: &[("50 publishers, 1 subscriber", Some(3.0))],
        measure: |contender, plan, _| flowing(contender, plan, 50, 20),
    },
    Rows {
        names: &[
            ("queue for a session that is away", None),
            ("drain that queue", None),
            ("drain that queue, µs on the wall", Some(2.0)),
        ],
        measure: queued,
    },
    Rows {
        names: &[
            (
                "10 messages in one write until all have PUBACK: µs, p50",
                None,
            ),
            ("the same, p99", None),
            ("the same, device kB", None),
        ],
        measure: |contender, plan, device| bursts(contender, plan, device, 10),
    },
    Rows {
        names: &[
            ("100 messages in one write: µs, p50", None),
            ("the same, p99", None),
            ("the same, device kB", None),
        ],
        measure: |contender, plan, device| bursts(contender, plan, device, 100),
    },
];

fn flowing(
    contender: &Contender,
    plan: &Plan,
    publishers: usize,
    window: u64,
) -> io::Result<Vec<f64>> {
    let flow = Flow {
        publishers,
        subscribers: 1,
        shape: Shape::All,
        qos: 1,
        session: Session::Kept,
        window,
        payload_bytes: 100,
    };
    let pace = Pace {
        warm_up: Duration::from_millis(300),
        measured: Duration::from_millis(plan.measured_millis),
    };
    let broker = contender.start()?;
    let outcome = flow::run(&flow, &broker, pace)?;
    whole(outcome.faults)?;
    let measured = outcome.measured;
    Ok(vec![measured.cost.micros_each(measured.delivered)])
}

fn queued(contender: &Contender, plan: &Plan, _: &Device) -> io::Result<Vec<f64>> {
    let broker = contender.start()?;
    let outcome = stored::queued(&broker, plan.queued)?;
    whole(outcome.faults)?;
    Ok(vec![
        outcome.put.micros_each(plan.queued),
        outcome.taken.micros_each(plan.queued),
        outcome.taken.wall * 1e6 / plan.queued as f64,
    ])
}

fn whole(faults: Faults) -> io::Result<()> {
    match faults == Faults::default() {
        true => Ok(()),
        false => Err(io::Error::other(
            "messages were lost, doubled or out of order",
        )),
    }
}

/// One publisher sends some messages at once and waits until all are acknowledged; they wait for
/// a session that is away. That is a commit each, if the broker reads them at once.
fn bursts(contender: &Contender, plan: &Plan, device: &Device, size: u64) -> io::Result<Vec<f64>> {
    let broker = contender.start()?;
    let (mut publisher, mut buffer) = (away(&broker)?, vec![0; READ_BYTES]);
    let kind = Kind {
        qos: 1,
        retain: false,
        payload_bytes: 100,
    };
    let mut template = Template::new("queue/a/topic/that/has/forty/bytes/in/it", 0, kind);
    let (mut sent, mut acks, mut times) = (0, Acks::default(), Vec::new());
    device.settle(&contender.directory);
    let before = device.written_by(&broker.pid());
    for _ in 0..plan.commits {
        for _ in 0..size {
            template.stamp(sent, sent, 0);
            publisher.out.extend_from_slice(&template.bytes);
            sent += 1;
        }
        let started = Instant::now();
        while acks.complete < sent {
            publisher.flush()?;
            publisher.read(&mut buffer, |first, body, out| {
                acks.receive(first, body, out)
            })?;
            if started.elapsed() > Duration::from_secs(5) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        times.push(started.elapsed());
    }
    device.settle(&contender.directory);
    let bytes = device.written_by(&broker.pid()).bytes - before.bytes;
    Ok(vec![
        percentile(&mut times, 50),
        percentile(&mut times, 99),
        bytes as f64 / f64::from(plan.commits) / 1e3,
    ])
}

/// A publisher, and a session that is away and subscribed to `queue/#`.
fn away(broker: &Broker) -> io::Result<Link> {
    let mut subscriber = Link::connect_to(broker.address, "subscriber", Session::Kept)?;
    subscriber.subscribe(&["queue/#".to_string()], 1)?;
    stored::leave(subscriber)?;
    sleep(20 * TICK);
    Link::connect(broker.address, "publisher")
}

// ---- what waits, and the start --------------------------------------------------------------

/// Resident memory, in MB, with so many messages queued.
pub fn backlog(directory: &Path, count: u64) -> io::Result<f64> {
    let [_, _, _, os, _] = Contender::all(directory);
    let broker = os.start()?;
    let mut publisher = away(&broker)?;
    stored::fill_queue(&mut publisher, &mut vec![0; READ_BYTES], count)?;
    Ok(broker.settled().resident / 1e6)
}

pub struct Recovery {
    pub millis: f64,
    pub empty_millis: f64,
    pub resident: f64,
    pub peak: f64,
}

/// Kills a broker with so many queued messages, and a tenth as many retained, and starts it again.
pub fn recovery(directory: &Path, count: u64) -> io::Result<Recovery> {
    let [_, _, _, os, _] = Contender::all(directory);
    let started = Instant::now();
    let broker = os.start()?;
    let empty = started.elapsed();
    let (mut publisher, mut buffer) = (away(&broker)?, vec![0; READ_BYTES]);
    stored::fill_queue(&mut publisher, &mut buffer, count)?;
    let mut publisher = Link::connect(broker.address, "another")?;
    stored::store(&mut publisher, &mut buffer, 0..count / 10)?;
    drop(broker);
    let started = Instant::now();
    let broker = os.start_again()?;
    let took = started.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid()))?;
    let peak = number(&status, "VmHWM:").unwrap_or(0) as f64 * 1024.0;
    let memory = broker.settled();
    let mut subscriber = Link::open(broker.address)?;
    let hello = wire::connect("subscriber", Session::Kept, 0);
    subscriber.ask(&hello, &wire::connack(true))?;
    Ok(Recovery {
        millis: took.as_secs_f64() * 1e3,
        empty_millis: empty.as_secs_f64() * 1e3,
        resident: memory.resident,
        peak,
    })
}
