//! The table of what is measured, and what midge is to reach.
//!
//! Goals are ratios to Mosquitto 2.0.11 in the same run: absolute figures move with the machine.
//! They are written as the figures of the machine that they were found on, Mosquitto's over
//! midge's: first what midge must reach, then where the limit seems to lie.

use std::io;
use std::time::Duration;

use super::flow::{self, Flow, Measured, Pace};
use super::latency;
use super::process::{Broker, Command, Cost};
use super::tally::Faults;
use super::topics::Shape::{self, All, Filters, Pairs, Wildcards};
use super::wire::Session;
use super::{crowd, stored};

/// Clients in the memory of subscriptions.
const SUBSCRIBERS: usize = 100;

pub struct Scenario {
    pub work: Work,
    pub rows: &'static [Row],
}

pub enum Work {
    Flow(Flow),
    Retained,
    Queued,
    /// Memory after that, of a static build.
    Drained,
    Cycles,
    Idle,
    Subscriptions,
    Latency {
        qos: u8,
    },
    Start,
    /// The rate of a flow beside a subscriber that does not read.
    Fairness(Flow),
}

/// One figure of a scenario.
pub struct Row {
    pub group: Group,
    pub name: &'static str,
    pub unit: &'static str,
    pub goal: Goal,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Messages,
    State,
    Memory,
    Latency,
    Growth,
}

#[derive(Clone, Copy)]
pub enum Goal {
    /// Mosquitto's figure over midge's: its own, then what midge must reach and may reach.
    Ratio(f64, f64, f64),
    AtMost(f64),
    AtLeast(f64),
    /// Only to be known.
    None,
}

use Goal::{AtLeast, AtMost, Ratio};
use Group::{Growth, Latency, Memory, Messages, State};

#[rustfmt::skip]
pub const SCENARIOS: &[Scenario] = &[
    flow(1,  1,  All,       0, 1_000, 100,   &[cpu("1 publisher, 1 subscriber, QoS 0",         Ratio(4.11, 0.30, 0.20))]),
    flow(1,  1,  All,       1, 200,   100,   &[cpu("1 publisher, 1 subscriber, QoS 1",         Ratio(7.38, 0.60, 0.45))]),
    flow(1,  1,  All,       2, 200,   100,   &[cpu("1 publisher, 1 subscriber, QoS 2",         Ratio(15.3, 1.1, 0.8))]),
    flow(1,  1,  All,       0, 1_000, 1_024, &[cpu("1 publisher, 1 subscriber, QoS 0, 1 KiB",  Ratio(5.01, 0.70, 0.5))]),
    flow(50, 1,  All,       1, 20,    100,   &[cpu("50 publishers, 1 subscriber, QoS 1",       Ratio(7.04, 0.70, 0.5))]),
    flow(1,  50, All,       0, 100,   100,   &[cpu("1 publisher, 50 subscribers, QoS 0",       Ratio(2.99, 0.12, 0.08))]),
    flow(50, 50, Pairs,     0, 20,    100,   &[cpu("50 pairs, QoS 0",                          Ratio(4.22, 0.45, 0.35))]),
    flow(50, 50, Pairs,     1, 20,    100,   &[cpu("50 pairs, QoS 1",                          Ratio(7.58, 0.90, 0.7))]),
    flow(50, 20, Wildcards, 0, 20,    100,   &[cpu("50 publishers, 20 wildcard subscribers",   Ratio(4.39, 0.35, 0.25))]),
    flow(1,  20, Filters,  0, 1_000, 100,   &[cpu("20,000 filters, one of which matches",     Ratio(8.65, 0.70, 0.5))]),
    Scenario { work: Work::Retained, rows: &[
        row(State,  "store a retained message",         "µs",    Ratio(4.27, 0.7, 0.5)),
        row(State,  "replay one to a new # subscriber", "µs",    Ratio(3.62, 0.3, 0.2)),
        row(Memory, "per retained message",             "bytes", Ratio(455.0, 260.0, 200.0)),
    ] },
    Scenario { work: Work::Queued, rows: &[
        row(State,  "queue for a session that is away, QoS 1",      "µs",    Ratio(4.17, 0.7, 0.5)),
        row(State,  "drain that queue",                             "µs",    Ratio(3.44, 0.6, 0.4)),
        row(Memory, "per queued message",                           "bytes", Ratio(431.0, 220.0, 170.0)),
        row(Growth, "memory after a queue has drained, over before", "x",    AtMost(1.5)),
    ] },
    Scenario { work: Work::Drained, rows: &[
        row(Growth, "the same with musl's allocator, static build", "x", AtMost(1.5)),
    ] },
    Scenario { work: Work::Cycles, rows: &[
        row(State,  "connect, subscribe, publish, receive, disconnect", "µs", Ratio(45.9, 33.0, 28.0)),
    ] },
    Scenario { work: Work::Idle, rows: &[
        row(Memory, "per idle connection with one subscription", "bytes", Ratio(1_745.0, 800.0, 600.0)),
        row(Growth, "CPU to take an idle client in",             "µs",    Goal::None),
        row(Growth, "idle clients taken in, per second",         "/s",    Goal::None),
        row(Growth, "wake-ups per second with all of them idle", "/s",    AtMost(0.2)),
    ] },
    Scenario { work: Work::Subscriptions, rows: &[
        row(Memory, "per subscription", "bytes", Ratio(1_028.0, 200.0, 120.0)),
    ] },
    Scenario { work: Work::Start, rows: &[
        row(Memory, "resident at start", "MB", Ratio(7.9, 1.5, 1.0)),
    ] },
    Scenario { work: Work::Latency { qos: 0 }, rows: &[
        row(Latency, "latency p50, QoS 0", "µs", Ratio(40.8, 33.0, 31.0)),
        row(Latency, "latency p99, QoS 0", "µs", Goal::None),
    ] },
    Scenario { work: Work::Latency { qos: 1 }, rows: &[
        row(Latency, "latency p50, QoS 1", "µs", Ratio(39.3, 34.0, 31.0)),
        row(Latency, "latency p99, QoS 1", "µs", Goal::None),
    ] },
    Scenario { work: Work::Fairness(fair(0)), rows: &[
        row(Growth, "rate beside one that stops reading, QoS 0", "x",   AtLeast(0.95)),
        row(Growth, "memory held for it, QoS 0",                 "MiB", AtMost(10.0)),
    ] },
    Scenario { work: Work::Fairness(fair(1)), rows: &[
        row(Growth, "rate beside one that stops reading, QoS 1", "x",   AtLeast(0.95)),
        row(Growth, "memory held for it, QoS 1",                 "MiB", AtMost(24.0)),
    ] },
];

const fn flow(
    publishers: usize,
    subscribers: usize,
    shape: Shape,
    qos: u8,
    window: u64,
    payload_bytes: usize,
    rows: &'static [Row],
) -> Scenario {
    let flow = Flow {
        publishers,
        subscribers,
        shape,
        qos,
        session: Session::Clean,
        window,
        payload_bytes,
    };
    let work = Work::Flow(flow);
    Scenario { work, rows }
}

/// Enough under way that the broker is what limits the rate.
const fn fair(qos: u8) -> Flow {
    Flow {
        publishers: 1,
        subscribers: 20,
        shape: All,
        qos,
        session: Session::Clean,
        window: 1_000,
        payload_bytes: 100,
    }
}

const fn cpu(name: &'static str, goal: Goal) -> Row {
    row(Messages, name, "µs", goal)
}

const fn row(group: Group, name: &'static str, unit: &'static str, goal: Goal) -> Row {
    Row {
        group,
        name,
        unit,
        goal,
    }
}

impl Row {
    /// Whether `text` is in its name, or is that of its group.
    pub fn is_named(&self, text: &str) -> bool {
        self.name.contains(text) || self.group.name() == text
    }
}

impl Group {
    /// In files, and for those who pick.
    pub fn name(self) -> &'static str {
        match self {
            Messages => "messages",
            State => "state",
            Memory => "memory",
            Latency => "latency",
            Growth => "growth",
        }
    }
}

// ---- measuring ------------------------------------------------------------------------------

/// How much of everything.
pub struct Plan {
    pub rounds: usize,
    pub pace: Pace,
    pub retained: u64,
    pub queued: u64,
    pub cycles: usize,
    pub idle: usize,
    pub idle_for: Duration,
}

pub struct Contender {
    pub name: String,
    pub command: Command,
    /// With limits in force.
    pub limited: Command,
    /// A static build, if there is one.
    pub at_start: Command,
}

/// One value for each row, and what it cost.
pub struct Sample {
    pub values: Vec<f64>,
    pub cost: Cost,
    pub faults: Faults,
}

impl Scenario {
    /// Bytes pass through the null relay as they do through a broker.
    pub fn suits_the_relay(&self) -> bool {
        match &self.work {
            Work::Flow(flow) => flow.qos == 0 && matches!(flow.shape, All | Pairs),
            Work::Latency { qos } => *qos == 0,
            _ => false,
        }
    }

    pub fn measure(&self, contender: &Contender, plan: &Plan) -> Result<Sample, String> {
        let command = match self.work {
            Work::Fairness(_) => &contender.limited,
            Work::Start | Work::Drained => &contender.at_start,
            _ => &contender.command,
        };
        let name = self.rows[0].name;
        let named = |error: io::Error| format!("{}, {name}: {error}", contender.name);
        let broker = Broker::start(command)?;
        match &self.work {
            Work::Flow(flow) => flowing(flow, &broker, plan),
            Work::Retained => retained(&broker, plan),
            Work::Queued => queued(&broker, plan),
            Work::Drained => drained(&broker, plan),
            Work::Cycles => cycles(&broker, plan),
            Work::Idle => idle(&broker, plan),
            Work::Subscriptions => {
                let bytes = crowd::subscriptions(&broker, SUBSCRIBERS);
                bytes.map(|bytes| Sample::of(vec![bytes]))
            }
            Work::Latency { qos } => delayed(*qos, &broker, plan),
            Work::Start => Ok(Sample::of(vec![broker.settled().resident / 1e6])),
            Work::Fairness(flow) => fairness(flow, &broker, plan),
        }
        .map_err(named)
    }
}

impl Sample {
    fn of(values: Vec<f64>) -> Sample {
        Sample {
            values,
            cost: Cost::default(),
            faults: Faults::default(),
        }
    }
}

fn flowing(flow: &Flow, broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    let outcome = flow::run(flow, broker, plan.pace)?;
    let Measured {
        cost, delivered, ..
    } = outcome.measured;
    Ok(Sample {
        values: vec![cost.micros_each(delivered)],
        cost,
        faults: outcome.faults,
    })
}

fn retained(broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    let outcome = stored::retained(broker, plan.retained)?;
    let bytes = outcome.full.proportional - outcome.before.proportional;
    Ok(Sample {
        values: vec![
            outcome.put.micros_each(plan.retained),
            outcome
                .taken
                .micros_each(stored::REPLAYS * stored::REPLAYED),
            bytes / plan.retained as f64,
        ],
        cost: outcome.put,
        faults: outcome.faults,
    })
}

fn queued(broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    let outcome = stored::queued(broker, plan.queued)?;
    let bytes = outcome.full.proportional - outcome.before.proportional;
    Ok(Sample {
        values: vec![
            outcome.put.micros_each(plan.queued),
            outcome.taken.micros_each(plan.queued),
            bytes / plan.queued as f64,
            outcome.after.resident / outcome.before.resident,
        ],
        cost: outcome.put,
        faults: outcome.faults,
    })
}

fn drained(broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    let stored::Outcome { before, after, .. } = stored::queued(broker, plan.queued)?;
    Ok(Sample::of(vec![after.resident / before.resident]))
}

fn cycles(broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    let (cost, faults) = crowd::cycles(broker, plan.cycles)?;
    Ok(Sample {
        values: vec![cost.micros_each(plan.cycles as u64)],
        cost,
        faults,
    })
}

fn idle(broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    let idle = crowd::idle(broker, plan.idle, plan.idle_for)?;
    Ok(Sample {
        values: vec![
            idle.bytes_each,
            idle.connecting.micros_each(plan.idle as u64),
            plan.idle as f64 / idle.connecting.wall,
            idle.switches_per_second,
        ],
        cost: idle.connecting,
        faults: Faults::default(),
    })
}

fn delayed(qos: u8, broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    let outcome = latency::run(broker, qos, plan.pace.warm_up, plan.pace.measured)?;
    Ok(Sample {
        values: vec![outcome.p50, outcome.p99],
        cost: outcome.cost,
        faults: outcome.faults,
    })
}

fn fairness(flow: &Flow, broker: &Broker, plan: &Plan) -> io::Result<Sample> {
    const MIB: f64 = (1 << 20) as f64;
    // Until all that the sleeper may be owed has piled up.
    let pace = Pace {
        warm_up: plan.pace.warm_up.max(Duration::from_secs(1)),
        ..plan.pace
    };
    let (alone, outcome) = flow::run_beside_a_sleeper(flow, broker, pace)?;
    let beside = outcome.measured;
    let rate = |measured: &Measured| measured.delivered as f64 / measured.cost.wall;
    Ok(Sample {
        values: vec![
            rate(&beside) / rate(&alone),
            (beside.memory.proportional - alone.memory.proportional) / MIB,
        ],
        cost: beside.cost,
        faults: outcome.faults,
    })
}
