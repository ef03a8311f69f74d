//! Load from end to end: brokers in processes of their own, and clients on loopback.
//!
//! ```text
//! scripts/bench.sh [--quick] [--only TEXT]
//! cargo bench --bench load [-- --quick] [--only TEXT] [--against "COMMAND LINE"] [--write FOLDER]
//! ```
//!
//! The scenarios are a table, `load/scenarios.rs`. Each is run by midge, Mosquitto and, where it
//! suits, a null relay, in turn and each freshly started, on a core of its own. What counts is the
//! broker's processor time and memory: they hold on a machine that is busy otherwise too. Every
//! message is checked; if midge loses one, sends it twice or out of order, the bench fails.
//!
//! | `load/` | |
//! |---|---|
//! | `scenarios` | what is measured, and what is to be reached |
//! | `flow`, `stored`, `crowd`, `latency` | the kinds of scenarios |
//! | `topics`, `wire`, `link`, `tally` | who gets what; packets; a connection; what arrived |
//! | `process`, `relay` | a broker from outside; the null relay |
//! | `report`, `document`, `chart` | medians and the terminal; Markdown and JSON; SVG |
//!
//! `--against` names another broker than Mosquitto, or `none`. In its command line, and in a
//! `.conf` file that it names, `{port}` stands for the port. `MIDGE` names another midge to run,
//! `MIDGE_STATIC` one that is linked statically, whose memory is taken at start. `--only` picks the
//! scenarios with a row whose name contains the text, or whose group has that name (messages,
//! state, memory, latency, growth); `--rounds` says how many there are after `--quick` has its say;
//! `--write` leaves `performance.md`, JSON and charts in a folder.

#[path = "load/chart.rs"]
mod chart;
#[path = "load/crowd.rs"]
mod crowd;
#[path = "load/document.rs"]
mod document;
#[path = "load/flow.rs"]
mod flow;
#[path = "load/latency.rs"]
mod latency;
#[path = "load/link.rs"]
mod link;
#[path = "load/process.rs"]
mod process;
#[path = "load/relay.rs"]
mod relay;
#[path = "load/report.rs"]
mod report;
#[path = "load/scenarios.rs"]
mod scenarios;
#[path = "load/stored.rs"]
mod stored;
#[path = "load/tally.rs"]
mod tally;
#[path = "load/topics.rs"]
mod topics;
#[path = "load/wire.rs"]
mod wire;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use document::About;
use flow::Pace;
use process::{Command, Protocol};
use report::{Figure, Spread};
use scenarios::{Contender, Plan, SCENARIOS, Scenario};
use tally::Faults;

/// Queues without limits, for all that a scenario puts there.
const MIDGE_FLAGS: &str = "--port {port} --log-dest none --max-inflight-messages 0 \
                           --max-queued-messages 0 --max-queued-bytes 0";
/// The limits that are in force by default, but for a window that takes in the generator's.
const MIDGE_LIMITED: &str = "--port {port} --log-dest none --max-inflight-messages 2000";
const MOSQUITTO: &str = "mosquitto -c benches/mosquitto.conf";
const MOSQUITTO_LIMITED: &str = "mosquitto -c benches/mosquitto-limited.conf";
/// What a broker has open besides its connections, with room to spare.
const OTHER_FILES: usize = 500;
/// How this program asks itself for a null relay.
const RELAY_FLAG: &str = "--relay";

struct Options {
    plan: Plan,
    against: Option<Contender>,
    only: String,
    write: Option<String>,
    /// For the documents.
    command: String,
}

fn main() -> ExitCode {
    let flags: Vec<String> = env::args().skip(1).collect();
    if let [flag, port] = &flags[..]
        && flag == RELAY_FLAG
    {
        let error = relay::serve(port.parse().expect("it is this program that asks"));
        eprintln!("relay: {error:?}");
        return ExitCode::FAILURE;
    }
    match options(flags).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            eprintln!("load: {sentence}");
            ExitCode::from(2)
        }
    }
}

fn options(flags: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        plan: THOROUGH,
        against: Some(mosquitto()?),
        only: String::new(),
        write: None,
        command: "scripts/bench.sh".to_string(),
    };
    let mut flags = flags.into_iter();
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().ok_or(format!("{flag} wants a value"));
        match flag.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--quick" => {
                options.plan = QUICK;
                options.command += " --quick";
            }
            "--rounds" => {
                let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                options.plan.rounds = rounds.ok_or("--rounds wants a number")?;
                options.command += &format!(" --rounds {}", options.plan.rounds);
            }
            "--only" => options.only = value()?,
            "--write" => options.write = Some(value()?),
            "--against" => {
                options.against = match value()?.as_str() {
                    "none" => None,
                    line => Some(contender(name_of(line), Command::parse(line)?)),
                }
            }
            _ => return Err(format!("{flag} is not a flag of this bench")),
        }
    }
    let connections = process::open_files().saturating_sub(OTHER_FILES);
    options.plan.idle = options.plan.idle.min(connections);
    Ok(options)
}

const THOROUGH: Plan = Plan {
    rounds: 5,
    pace: Pace {
        warm_up: Duration::from_millis(500),
        measured: Duration::from_secs(2),
    },
    retained: 100_000,
    queued: 200_000,
    cycles: 10_000,
    idle: 15_000,
    idle_for: Duration::from_secs(5),
};

const QUICK: Plan = Plan {
    rounds: 1,
    pace: Pace {
        warm_up: Duration::from_millis(200),
        measured: Duration::from_millis(500),
    },
    retained: 20_000,
    queued: 40_000,
    cycles: 2_000,
    idle: 3_000,
    idle_for: Duration::from_secs(2),
};

// ---- who takes part -------------------------------------------------------------------------

fn midge() -> Contender {
    let ordinary = env::var("MIDGE").unwrap_or(env!("CARGO_BIN_EXE_midge").to_string());
    let at_start = static_midge().unwrap_or(PathBuf::from(&ordinary));
    let ordinary = PathBuf::from(ordinary);
    Contender {
        name: "midge".to_string(),
        command: Command::new(&ordinary, MIDGE_FLAGS),
        limited: Command::new(&ordinary, MIDGE_LIMITED),
        at_start: Command::new(&at_start, MIDGE_FLAGS),
    }
}

fn static_midge() -> Option<PathBuf> {
    env::var("MIDGE_STATIC")
        .ok()
        .map(PathBuf::from)
        .filter(|path| path.exists())
}

fn mosquitto() -> Result<Contender, String> {
    Ok(Contender {
        limited: Command::parse(MOSQUITTO_LIMITED)?,
        ..contender(name_of(MOSQUITTO), Command::parse(MOSQUITTO)?)
    })
}

fn null_relay() -> Result<Contender, String> {
    let own = env::current_exe().map_err(|error| format!("cannot find itself: {error}"))?;
    let command = Command::new(&own, &format!("{RELAY_FLAG} {{port}}"));
    Ok(contender(
        "null relay".to_string(),
        command.speaking(Protocol::Raw),
    ))
}

fn contender(name: String, command: Command) -> Contender {
    Contender {
        name,
        limited: command.clone(),
        at_start: command.clone(),
        command,
    }
}

/// The program and, of Mosquitto, its version.
fn name_of(line: &str) -> String {
    let program = line.split_whitespace().next().unwrap_or_default();
    let name = Path::new(program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    match name.as_ref() {
        "mosquitto" => document::said(program, &["-h"]).replace(" version", ""),
        name => name.to_string(),
    }
}

// ---- running --------------------------------------------------------------------------------

/// Whether midge did all that it was to do, without a fault.
fn run(options: &Options) -> Result<bool, String> {
    let (midge, relay) = (midge(), null_relay()?);
    let other = options.against.as_ref();
    let about = About {
        plan: &options.plan,
        is_static: static_midge().is_some(),
        is_pinned: process::leave_the_brokers_core(),
        other: other.map_or("no other".to_string(), |other| other.name.clone()),
        command: options.command.clone(),
    };
    report::print_header(&about.other);
    let mut figures = Vec::new();
    let mut is_good = true;
    for scenario in SCENARIOS {
        if !scenario.rows.iter().any(|row| row.is_named(&options.only)) {
            continue;
        }
        let relay = scenario.suits_the_relay().then_some(&relay);
        let found = take_turns(scenario, [Some(&midge), other, relay], &options.plan);
        is_good &= found.iter().all(|(_, is_good)| *is_good) && found.len() == scenario.rows.len();
        figures.extend(found.into_iter().map(|(figure, _)| figure));
    }
    if let Some(folder) = &options.write {
        let written = document::write(folder, &figures, &about);
        written.map_err(|error| format!("cannot write to {folder}: {error}"))?;
    }
    let short = figures
        .iter()
        .filter(|figure| figure.is_reached() == Some(false))
        .count();
    println!(
        "\n{} figures, {short} of them short of what they must reach",
        figures.len()
    );
    Ok(is_good)
}

/// Runs a scenario in rounds. Each figure comes with whether midge was without fault.
fn take_turns(
    scenario: &'static Scenario,
    contenders: [Option<&Contender>; 3],
    plan: &Plan,
) -> Vec<(Figure, bool)> {
    let mut samples = [const { Vec::new() }; 3];
    for _ in 0..plan.rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            let Some(contender) = contender else { continue };
            match scenario.measure(contender, plan) {
                Ok(sample) => samples.push(sample),
                Err(sentence) => eprintln!("load: {sentence}"),
            }
        }
    }
    let [ours, theirs, relays] = &samples;
    let is_good =
        ours.len() == plan.rounds && ours.iter().all(|sample| sample.faults == Faults::default());
    let mut found = Vec::new();
    for (index, row) in scenario.rows.iter().enumerate() {
        let Some(midge) = Spread::of(ours, index) else {
            continue;
        };
        let figure = Figure {
            row,
            midge,
            other: Spread::of(theirs, index),
            relay: Spread::of(relays, index),
        };
        report::print(&figure);
        found.push((figure, is_good));
    }
    found
}
