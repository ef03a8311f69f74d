//! What durability costs: bytes and syncs of a commit, processor time of a message, memory of what
//! waits on disk, time to start.
//!
//! ```text
//! scripts/durability.sh [--quick]
//! cargo bench --bench durability -- --directory DIR [--device loop0] [--disk DIR] [--quick]
//!                                   [--sizes BYTES,BYTES] [--write FILE]
//! ```
//!
//! In directories of its own below `--directory`; bytes are those of the block device `--device`
//! that it lies on. `--disk` is a directory on a medium whose time of a commit is measured, too.
//! `--sizes` are those of the program with and without the store. The broker is measured with the
//! clients of `load/`; its subscribers have sessions that stay.

#[path = "durability/brokers.rs"]
mod brokers;
#[path = "durability/commits.rs"]
mod commits;
#[path = "durability/device.rs"]
mod device;

#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/flow.rs"]
mod flow;
#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/link.rs"]
mod link;
#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/process.rs"]
mod process;
#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/relay.rs"]
mod relay;
#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/stored.rs"]
mod stored;
#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/tally.rs"]
mod tally;
#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/topics.rs"]
mod topics;
#[allow(dead_code)] // The load bench uses all of it.
#[path = "load/wire.rs"]
mod wire;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use brokers::Contender;
use device::Device;

/// How much of everything.
pub struct Plan {
    pub rounds: usize,
    pub commits: u32,
    pub queued: u64,
    pub backlog: u64,
    pub recovered: u64,
    pub measured_millis: u64,
}

const THOROUGH: Plan = Plan {
    rounds: 3,
    commits: 2_000,
    queued: 200_000,
    backlog: 1_000_000,
    recovered: 100_000,
    measured_millis: 2_000,
};

const QUICK: Plan = Plan {
    rounds: 1,
    commits: 500,
    queued: 40_000,
    backlog: 200_000,
    recovered: 20_000,
    measured_millis: 500,
};

struct Options {
    plan: Plan,
    directory: PathBuf,
    device: Device,
    disk: Option<PathBuf>,
    sizes: Option<(f64, f64)>,
    write: Option<String>,
}

fn main() {
    let options = options();
    process::leave_the_brokers_core();
    let mut page = introduction(&options);
    page += &commits_table(&options);
    page += &brokers_table(&options);
    page += &state_table(&options);
    println!("{page}");
    if let Some(file) = &options.write {
        fs::write(file, page).expect("it can be written");
    }
}

fn options() -> Options {
    let mut options = Options {
        plan: THOROUGH,
        directory: env::temp_dir(),
        device: Device::named(None),
        disk: None,
        sizes: None,
        write: None,
    };
    let mut flags = env::args().skip(1);
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().expect("the flag wants a value");
        match flag.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--quick" => options.plan = QUICK,
            "--directory" => options.directory = PathBuf::from(value()),
            "--device" => options.device = Device::named(Some(value())),
            "--disk" => options.disk = Some(PathBuf::from(value())),
            "--write" => options.write = Some(value()),
            "--sizes" => {
                let sizes = value();
                let (with, without) = sizes.split_once(',').expect("two numbers");
                let number = |text: &str| text.parse().expect("a number");
                options.sizes = Some((number(with), number(without)));
            }
            _ => panic!("{flag} is not a flag of this bench"),
        }
    }
    options
}

fn introduction(options: &Options) -> String {
    let bytes = match options.device.is_block_device() {
        true => {
            "that reached the block device\nunder an ext4 file system, its journal included: a \
             loop device whose file is in memory"
        }
        false => "that the kernel counted\nfor the process",
    };
    format!(
        "# What durability costs\n\nWritten by `scripts/durability.sh` on {}, of commit {}. Do \
         not edit.\n\n{}\n\nEach figure is the median of {} rounds, on a machine that others \
         use at the same time: compare columns, not\nabsolute figures. Device bytes are those \
         {bytes}.\n",
        said("date", &["-u", "+%Y-%m-%d"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        machine(),
        options.plan.rounds,
    )
}

fn said(program: &str, flags: &[&str]) -> String {
    let output = Command::new(program).args(flags).output();
    let text = output.map_or(Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&text).trim().to_string()
}

fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut names = text.lines().filter(|line| line.starts_with("model name"));
    let name = names.next().and_then(|line| line.split(": ").nth(1));
    let name = name.unwrap_or("unknown processor");
    let cores = 1 + names.count();
    format!("{name}, {cores} cores, {}.", said("uname", &["-srm"]))
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn reached(is_reached: bool) -> &'static str {
    if is_reached { "yes" } else { "**no**" }
}

// ---- commits --------------------------------------------------------------------------------

fn commits_table(options: &Options) -> String {
    let mut text = "\n## A commit\n\nThe store alone, each commit synced; topics of 40 bytes, \
                    payloads of 100. Bytes that reach the device and that are\nhanded to the \
                    kernel, syncs asked for, flushes that the device gets, processor time, and \
                    time on the wall: of\nthis device, and of this machine's disk. A flush more \
                    than the sync is the file system's journal: a block of a\nfile is written for \
                    the first time. Files that are written over again need none.\n\n\
                    | per commit | device kB | must be | reached | written kB | syncs | flushes \
                    | CPU µs | p50 µs | p99 µs | disk p50 µs | disk p99 µs |\n\
                    |---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_string();
    for row in &commits::ROWS {
        let Plan {
            rounds, commits, ..
        } = options.plan;
        let measure = |directory: &Path, rounds: usize, commits: u32| {
            let directory = directory.join(format!("commits-{}", std::process::id()));
            let measure = |_| commits::measure(row, &directory, &options.device, commits);
            (0..rounds).map(measure).collect::<Vec<_>>()
        };
        let found = measure(&options.directory, rounds, commits);
        let of = |value: fn(&commits::Figures) -> f64| median(found.iter().map(value));
        let disk = options.disk.as_ref();
        let disk = disk.map(|directory| measure(directory, 1, commits / 4));
        let of_disk = |value: fn(&commits::Figures) -> f64| {
            let found = disk.as_ref().map(|found| median(found.iter().map(value)));
            found.map_or(String::new(), |value| format!("{value:.0}"))
        };
        let device = of(|f| f.device_bytes);
        text += &format!(
            "| {} | {:.1} | {} | {} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {} | {} |\n",
            row.name,
            device / 1e3,
            row.must
                .map_or(String::new(), |must| format!("≤ {:.0}", must / 1e3)),
            row.must.map_or("", |must| reached(device <= must)),
            of(|f| f.store_bytes) / 1e3,
            of(|f| f.syncs),
            of(|f| f.flushes),
            of(|f| f.cpu_micros),
            of(|f| f.p50),
            of(|f| f.p99),
            of_disk(|f| f.p50),
            of_disk(|f| f.p99),
        );
        eprintln!("{}", text.lines().last().unwrap_or_default());
    }
    text
}

// ---- brokers --------------------------------------------------------------------------------

fn brokers_table(options: &Options) -> String {
    let contenders = Contender::all(&options.directory);
    let mut text = "\n## A message\n\nMicroseconds of the broker's processor time, the kernel's \
                    on its behalf included, for each message of 100 bytes\nwith QoS 1 to a \
                    session that stays. Mosquitto (Debian's) has `persistence true`: it writes its \
                    state every\n30 minutes, and nothing before it acknowledges. Its queues and \
                    windows are unlimited, as midge's are here, and\nit sends without Nagle's \
                    delay; else it has its defaults. Bursts wait for a session that is away; a \
                    burst is\nsent when the one before has been acknowledged.\n\n|"
        .to_string();
    for contender in &contenders {
        text += &format!(" | {}", contender.name);
    }
    text += " | must be | reached |\n|---|";
    text += &"---:|".repeat(contenders.len() + 1);
    text += "---|\n";
    for rows in &brokers::ROWS {
        let mut found: Vec<Vec<Vec<f64>>> = vec![Vec::new(); contenders.len()];
        for _ in 0..options.plan.rounds {
            for (contender, found) in contenders.iter().zip(&mut found) {
                match (rows.measure)(contender, &options.plan, &options.device) {
                    Ok(values) => found.push(values),
                    Err(why) => eprintln!("{}, {}: {why}", contender.name, rows.names[0].0),
                }
            }
        }
        for (index, (name, must)) in rows.names.iter().enumerate() {
            let of = |found: &Vec<Vec<f64>>| median(found.iter().map(|values| values[index]));
            text += &broker_line(name, *must, &found.iter().map(of).collect::<Vec<f64>>());
            eprintln!("{}", text.lines().last().unwrap_or_default());
        }
    }
    text
}

fn broker_line(name: &str, must: Option<f64>, medians: &[f64]) -> String {
    let cell = |value: &f64| match value {
        value if value.is_nan() => " |".to_string(),
        value if *value >= 100.0 => format!(" {value:.0} |"),
        value => format!(" {value:.2} |"),
    };
    let cells: String = medians.iter().map(cell).collect();
    // Of the most durable one to the one that keeps nothing.
    let ratio = medians[1] / medians[0];
    let verdict = must.map_or(" | |".to_string(), |must| {
        format!(" {ratio:.1} ≤ {must} | {} |", reached(ratio <= must))
    });
    format!("| {name} |{cells}{verdict}\n")
}

// ---- state ----------------------------------------------------------------------------------

fn state_table(options: &Options) -> String {
    let mut text =
        "\n## What waits, and the start\n\n| | | must be | reached |\n|---|---:|---:|---|\n"
            .to_string();
    let mut line = |name: &str, unit: &str, value: f64, must: Option<f64>| {
        let (bound, is_reached) = match must {
            Some(must) => (format!("≤ {must}"), reached(value <= must)),
            None => (String::new(), ""),
        };
        text += &format!("| {name} | {value:.1} {unit} | {bound} | {is_reached} |\n");
        eprintln!("{}", text.lines().last().unwrap_or_default());
    };
    let plan = &options.plan;
    match brokers::backlog(&options.directory, plan.backlog) {
        Ok(megabytes) => line(
            &format!(
                "resident memory with {} messages of 100 bytes queued",
                plan.backlog
            ),
            "MB",
            megabytes,
            Some(40.0),
        ),
        Err(why) => eprintln!("backlog: {why}"),
    }
    let mut found = Vec::new();
    for _ in 0..plan.rounds {
        match brokers::recovery(&options.directory, plan.recovered) {
            Ok(recovery) => found.push(recovery),
            Err(why) => eprintln!("recovery: {why}"),
        }
    }
    let of = |value: fn(&brokers::Recovery) -> f64| median(found.iter().map(value));
    let what = format!(
        "after `kill -9` with {} queued and {} retained messages",
        plan.recovered,
        plan.recovered / 10
    );
    line(
        &format!("start to listening, {what}"),
        "ms",
        of(|r| r.millis),
        Some(300.0),
    );
    line(
        "the same with an empty directory",
        "ms",
        of(|r| r.empty_millis),
        None,
    );
    line("resident memory then", "MB", of(|r| r.resident / 1e6), None);
    line(
        "the most it had while starting, over that",
        "x",
        of(|r| r.peak / r.resident),
        Some(2.0),
    );
    if let Some((with, without)) = options.sizes {
        let grown = (with - without) / 1e3;
        line(
            "the program with the store, over without",
            "kB",
            grown,
            Some(130.0),
        );
        line("the program", "kB", with / 1e3, None);
    }
    text
}
