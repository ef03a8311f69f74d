//! Load from end to end: a broker in a process of its own, and clients on loopback.
//!
//! ```text
//! cargo bench --bench load [-- --quick] [--only TEXT] [--against "COMMAND LINE"]
//! cargo bench --bench load -- --against "mosquitto -c benches/mosquitto.conf"
//! ```
//!
//! Each scenario has a fresh broker, MQTT 3.1.1, messages of 100 bytes with sequence numbers, and
//! as many of them under way at once as the window says: until all subscribers have them, and the
//! publisher its acknowledgement. It prints delivered messages per second; processor time of the
//! broker per delivered message, which holds on a machine that is busy otherwise too; how busy the
//! broker was, as with less than 100 % the clients were what limited it; its memory; and what was
//! lost, duplicated or out of order, which should be nothing: if it is not, the bench fails.
//!
//! `--against` runs another broker alternately with midge and prints ratios. In its command line,
//! and in files that it names, `{port}` stands for the port. `MIDGE` names another midge to run;
//! `--only` picks the scenarios whose name contains the text.

#[path = "load/client.rs"]
mod client;
#[path = "load/process.rs"]
mod process;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use client::{Load, Outcome, Shape};
use process::{Broker, Command};

const MIDGE_FLAGS: &str = "--port {port} --max-inflight-messages 0 --max-queued-messages 0 \
                           --max-queued-bytes 0 --log-dest none";

/// What is published and to whom.
struct Scenario {
    name: &'static str,
    load: Load,
}

const fn scenario(
    name: &'static str,
    publishers: usize,
    subscribers: usize,
    shape: Shape,
    qos: u8,
    window: u64,
) -> Scenario {
    let load = Load {
        publishers,
        subscribers,
        shape,
        qos,
        window,
    };
    Scenario { name, load }
}

/// The window is that of one publisher.
const SCENARIOS: &[Scenario] = &[
    scenario("1 to 1, QoS 0", 1, 1, Shape::AllToAll, 0, 1_000),
    scenario("1 to 1, QoS 1", 1, 1, Shape::AllToAll, 1, 200),
    scenario("1 to 1, QoS 2", 1, 1, Shape::AllToAll, 2, 200),
    scenario("1 to 50, QoS 0", 1, 50, Shape::AllToAll, 0, 100),
    scenario("50 to 1, QoS 1", 50, 1, Shape::AllToAll, 1, 20),
    scenario("50 pairs, QoS 0", 50, 50, Shape::Pairs, 0, 20),
    scenario("one by one, QoS 0", 1, 1, Shape::AllToAll, 0, 1),
];

struct Plan {
    against: Option<Command>,
    only: String,
    rounds: usize,
    warm_up: Duration,
    measured: Duration,
}

fn main() -> ExitCode {
    let done = plan().and_then(|plan| run(&plan));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("load: messages were lost, duplicated or out of order");
            ExitCode::FAILURE
        }
        Err(sentence) => {
            eprintln!("load: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn plan() -> Result<Plan, String> {
    let mut plan = Plan {
        against: None,
        only: String::new(),
        rounds: 3,
        warm_up: Duration::from_millis(300),
        measured: Duration::from_millis(1_500),
    };
    let mut flags = env::args().skip(1);
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().ok_or(format!("{flag} wants a value"));
        match flag.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--quick" => {
                plan.rounds = 1;
                plan.warm_up = Duration::from_millis(100);
                plan.measured = Duration::from_millis(400);
            }
            "--only" => plan.only = value()?,
            "--against" => plan.against = Some(Command::parse(&value()?)?),
            _ => return Err(format!("{flag} is not a flag of this bench")),
        }
    }
    Ok(plan)
}

/// Whether nothing was lost, duplicated or out of order in midge.
fn run(plan: &Plan) -> Result<bool, String> {
    let path = env::var("MIDGE").unwrap_or(env!("CARGO_BIN_EXE_midge").to_string());
    let midge = Command::new(&path, MIDGE_FLAGS);
    let mut good = true;
    print_header();
    for scenario in SCENARIOS {
        if !scenario.name.contains(&plan.only) {
            continue;
        }
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..plan.rounds {
            ours.push(measure(&midge, scenario, plan)?);
            if let Some(command) = &plan.against {
                theirs.push(measure(command, scenario, plan)?);
            }
        }
        let ours = print_row(scenario.name, &midge.name, &ours);
        good &= ours.is_good();
        if let Some(command) = &plan.against {
            let theirs = print_row("", &command.name, &theirs);
            let (rate, micros) = (ours.rate / theirs.rate, ours.micros / theirs.micros);
            println!("{:<20} {:<12} {rate:>11.2}x {micros:>7.2}x", "", "ratio");
        }
    }
    Ok(good)
}

fn measure(command: &Command, scenario: &Scenario, plan: &Plan) -> Result<Row, String> {
    let broker = Broker::start(command)?;
    let outcome = client::run(&scenario.load, &broker, plan.warm_up, plan.measured)
        .map_err(|error| format!("{}, {}: {error}", command.name, scenario.name))?;
    Ok(Row::new(&outcome))
}

/// Numbers of one run, or the medians of several.
struct Row {
    rate: f64,
    micros: f64,
    busy: f64,
    resident_mib: f64,
    lost: f64,
    duplicates: f64,
    disorder: f64,
}

impl Row {
    fn new(outcome: &Outcome) -> Row {
        let delivered = outcome.delivered as f64;
        Row {
            rate: delivered / outcome.wall.as_secs_f64(),
            micros: outcome.cpu.as_secs_f64() * 1e6 / delivered,
            busy: 100.0 * outcome.cpu.as_secs_f64() / outcome.wall.as_secs_f64(),
            resident_mib: outcome.resident_bytes as f64 / f64::from(1 << 20),
            lost: outcome.lost as f64,
            duplicates: outcome.duplicates as f64,
            disorder: outcome.disorder as f64,
        }
    }

    /// Medians, and what went wrong in all of them together.
    fn summary(rows: &[Row]) -> Row {
        let median = |field: fn(&Row) -> f64| {
            let mut values: Vec<f64> = rows.iter().map(field).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let sum = |field: fn(&Row) -> f64| rows.iter().map(field).sum();
        Row {
            rate: median(|row| row.rate),
            micros: median(|row| row.micros),
            busy: median(|row| row.busy),
            resident_mib: median(|row| row.resident_mib),
            lost: sum(|row| row.lost),
            duplicates: sum(|row| row.duplicates),
            disorder: sum(|row| row.disorder),
        }
    }

    fn is_good(&self) -> bool {
        self.lost + self.duplicates + self.disorder == 0.0
    }
}

fn print_header() {
    println!(
        "{:<20} {:<12} {:>12} {:>8} {:>6} {:>8} {:>6} {:>6} {:>8}",
        "scenario",
        "broker",
        "messages/s",
        "CPU us",
        "busy",
        "RSS MiB",
        "lost",
        "twice",
        "disorder"
    );
}

fn print_row(scenario: &str, broker: &str, rows: &[Row]) -> Row {
    let row = Row::summary(rows);
    println!(
        "{scenario:<20} {broker:<12} {:>12.0} {:>8.2} {:>5.0}% {:>8.1} {:>6} {:>6} {:>8}",
        row.rate, row.micros, row.busy, row.resident_mib, row.lost, row.duplicates, row.disorder
    );
    row
}
