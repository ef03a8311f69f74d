//! How many instructions a message costs the pure core: the gate that no change may make slower
//! unnoticed, as the figure does not depend on how fast or how busy the machine is.
//!
//! ```text
//! scripts/instructions.sh [--update]
//! ```
//!
//! Each scenario of `benches/scenarios` runs in a process of its own under callgrind, which counts
//! from [`counted`] on. The figures are compared with `instructions.txt`; it fails where one has
//! grown by more than 5 %. `--update` writes that file anew. Callgrind's own files stay in
//! `target/callgrind`, for `callgrind_annotate`.
//!
//! What is counted is this program's own object file: midge, its dependencies and Rust's standard
//! library, linked statically. The C library is left out: it picks its `memcpy` and the like by the
//! processor, and differs from system to system. How often it is called for memory is told apart:
//! "allocs" are `malloc`, `calloc` and `realloc`, which are part of the gate; "copies" are
//! `memcpy`, `memmove` and `memset` of a size that the compiler did not know. "C lib" is what its
//! instructions come to on this machine, for the sake of completeness.
//!
//! Nothing else differs from run to run: one thread, hashes with a fixed seed, a clock that stands
//! still, no log. What does matter is the compiler and the architecture: they are in the first line
//! of `instructions.txt`, and with others there is a comparison that is no gate.
//!
//! Then two scenarios are compared with each other: a publish among 20,000 filters must cost what
//! one among 10 does.

#[path = "scenarios/mod.rs"]
mod scenarios;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::{env, fs};

use scenarios::{Performance, SCENARIOS, Scenario};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// How this program asks itself to run a scenario.
const PLAY_FLAG: &str = "--play";
/// Growth, in percent, from which on it fails.
const GROWTH_MAX: f64 = 5.0;
/// Allocations per message that are none: a buffer that grows once in a while.
const ALLOCATIONS_SLACK: f64 = 0.01;

/// What one message costs.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Of the program's own object file.
    instructions: f64,
    allocations: f64,
    copies: f64,
    c_library: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [flag, name] if flag == PLAY_FLAG => play(name),
        _ if Command::new("valgrind").arg("--version").output().is_err() => {
            println!("There is no valgrind: nothing is counted.");
            Ok(true)
        }
        _ => measure(arguments.iter().any(|argument| argument == "--update")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::FAILURE
        }
    }
}

// ---- under callgrind ------------------------------------------------------------------------

fn play(name: &str) -> Result<bool, String> {
    let scenario = Scenario::named(name).ok_or("no such scenario")?;
    let mut performance = scenario.rehearse();
    counted(black_box(&mut performance));
    performance.check();
    // Without giving anything back, which would count as well.
    process::exit(0);
}

/// Callgrind begins again from zero when it sees this name; it could count in here alone, but then
/// it would take the calls of the set-up among the others.
#[inline(never)]
fn counted(performance: &mut Performance) {
    performance.play();
}

// ---- outside --------------------------------------------------------------------------------

/// `false` where something costs more than it may.
fn measure(update: bool) -> Result<bool, String> {
    let tools = tools()?;
    let committed = Committed::read();
    let growth_max = growth_max(&committed.tools, &tools);
    println!("per message, {tools}\n");
    println!(
        "{:<24} {:>13} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "instructions", "committed", "change", "allocs", "were", "copies", "C lib"
    );
    let mut costs = Vec::new();
    let mut grown = Vec::new();
    for scenario in SCENARIOS {
        let cost = cost_of(scenario)?;
        let before = committed.costs.get(scenario.name).copied();
        println!("{}", row(scenario.name, cost, before));
        if before.is_none_or(|before| has_grown(before, cost, growth_max)) {
            grown.push(scenario.name);
        }
        costs.push((scenario.name, cost));
    }
    let flat = is_flat(&costs)?;
    if update {
        let text = Committed::text(&tools, &costs);
        fs::write(COMMITTED, text).map_err(|error| format!("{COMMITTED}: {error}"))?;
        println!("benches/instructions.txt is up to date");
        return Ok(flat);
    }
    if committed.tools.is_empty() {
        return Err("there are no committed values: --update writes them".to_string());
    }
    if committed.tools != tools {
        println!("The committed values are of {}.", committed.tools);
    }
    for name in &grown {
        println!("GROWN by more than {growth_max} %, or not committed: {name}");
    }
    Ok(flat && grown.is_empty())
}

fn row(name: &str, cost: Cost, before: Option<Cost>) -> String {
    let Cost {
        instructions,
        allocations,
        copies,
        c_library,
    } = cost;
    let (committed, change, were) = match before {
        None => ("-".to_string(), "-".to_string(), "-".to_string()),
        Some(before) => (
            format!("{:.1}", before.instructions),
            format!("{:+.1} %", growth(before.instructions, instructions)),
            format!("{:.2}", before.allocations),
        ),
    };
    format!(
        "{name:<24} {instructions:>13.1} {committed:>10} {change:>8} {allocations:>8.2} {were:>8} \
         {copies:>8.2} {c_library:>8.1}"
    )
}

fn growth(before: f64, now: f64) -> f64 {
    (now / before - 1.0) * 100.0
}

/// Another compiler may write other instructions for the same source, another processor has others.
fn growth_max(committed: &str, tools: &str) -> f64 {
    let processor = |tools: &str| tools.rsplit(", ").next().map(str::to_string);
    match (committed == tools, processor(committed) == processor(tools)) {
        (true, _) => GROWTH_MAX,
        (false, true) => 5.0 * GROWTH_MAX,
        (false, false) => f64::INFINITY,
    }
}

fn has_grown(before: Cost, now: Cost, growth_max: f64) -> bool {
    growth(before.instructions, now.instructions) > growth_max
        || growth(before.allocations + ALLOCATIONS_SLACK, now.allocations) > GROWTH_MAX
}

/// Whether filters that do not match cost nothing.
fn is_flat(costs: &[(&str, Cost)]) -> Result<bool, String> {
    let of = |name: &str| {
        let found = costs.iter().find(|(other, _)| *other == name);
        found.map(|(_, cost)| cost.instructions)
    };
    let (few, many) = (of("10 filters"), of("20000 filters"));
    let (few, many) = few.zip(many).ok_or("there is no scenario with filters")?;
    let growth = growth(few, many);
    println!("\n20000 filters instead of 10: {growth:+.1} % instructions per publish");
    let flat = growth <= GROWTH_MAX;
    if !flat {
        println!("GROWN: the cost of a publish depends on filters that do not match it");
    }
    Ok(flat)
}

/// Compiler and architecture.
fn tools() -> Result<String, String> {
    let output = Command::new("rustc").arg("--version").output();
    let said = output.map_err(|error| format!("rustc: {error}"))?.stdout;
    let version = String::from_utf8_lossy(&said);
    Ok(format!("{}, {}", version.trim(), env::consts::ARCH))
}

fn cost_of(scenario: &Scenario) -> Result<Cost, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let profile = profile_path(&program, scenario.name)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--zero-before=*counted*"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .args([PLAY_FLAG, scenario.name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = fs::read_to_string(&profile).map_err(|error| error.to_string())?;
    let cost = read_profile(&text, &program.to_string_lossy());
    if cost.instructions == 0.0 {
        return Err(format!("{}: callgrind counted nothing", scenario.name));
    }
    let each = |sum: f64| sum / scenario.messages as f64;
    Ok(Cost {
        instructions: each(cost.instructions),
        allocations: each(cost.allocations),
        copies: each(cost.copies),
        c_library: each(cost.c_library),
    })
}

/// In `target/callgrind`, wherever `target` is.
fn profile_path(program: &Path, name: &str) -> Result<PathBuf, String> {
    let target = program
        .ancestors()
        .nth(3)
        .ok_or("this program has no home")?;
    let folder = target.join("callgrind");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let name = name.replace(", ", "-").replace(' ', "-");
    Ok(folder.join(format!("{name}.out")))
}

/// Sums up a file of callgrind's: `ob=` says which object file the lines after it are about, which
/// are `line cost`; where a function calls another, `cob=`, `cfn=` and `calls=` stand before a line
/// with the costs of the callee, which has lines of its own elsewhere.
fn read_profile(text: &str, program: &str) -> Cost {
    let mut cost = Cost::default();
    let mut own = false;
    let (mut to_other, mut callee) = (false, "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(object) = line.strip_prefix("ob=") {
            own = object == program;
        } else if let Some(object) = line.strip_prefix("cob=") {
            to_other = object != program;
        } else if let Some(function) = line.strip_prefix("cfn=") {
            callee = function;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let count = calls.split(' ').next().and_then(|count| count.parse().ok());
            if own && to_other {
                cost.add_calls(callee, count.unwrap_or(0.0));
            }
            to_other = false;
            lines.next();
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let count = line.split(' ').nth(1).and_then(|count| count.parse().ok());
            let sum = match own {
                true => &mut cost.instructions,
                false => &mut cost.c_library,
            };
            *sum += count.unwrap_or(0.0);
        }
    }
    cost
}

impl Cost {
    /// So many calls of a function of the C library.
    fn add_calls(&mut self, function: &str, count: f64) {
        match function {
            "malloc" | "calloc" | "realloc" | "posix_memalign" => self.allocations += count,
            _ if ["memcpy", "memmove", "memset"]
                .iter()
                .any(|copy| function.contains(copy)) =>
            {
                self.copies += count;
            }
            _ => {}
        }
    }
}

// ---- what is committed ----------------------------------------------------------------------

#[derive(Default)]
struct Committed {
    tools: String,
    costs: BTreeMap<String, Cost>,
}

impl Committed {
    /// Nothing, where there is no file yet.
    fn read() -> Committed {
        let text = fs::read_to_string(COMMITTED).unwrap_or_default();
        let tools = text.lines().next().unwrap_or_default();
        Committed {
            tools: tools.trim_start_matches("# ").to_string(),
            costs: text.lines().filter_map(committed_row).collect(),
        }
    }

    fn text(tools: &str, costs: &[(&str, Cost)]) -> String {
        let mut text = format!("# {tools}\n# written by scripts/instructions.sh --update\n");
        text += "# per message: instructions, allocations | scenario\n";
        for (name, cost) in costs {
            let (instructions, allocations) = (cost.instructions, cost.allocations);
            text += &format!("{instructions:>10.1} {allocations:>6.2} | {name}\n");
        }
        text
    }
}

fn committed_row(line: &str) -> Option<(String, Cost)> {
    let (figures, name) = line.split_once(" | ")?;
    let mut figures = figures.split_whitespace().map(str::parse);
    let cost = Cost {
        instructions: figures.next()?.ok()?,
        allocations: figures.next()?.ok()?,
        ..Cost::default()
    };
    Some((name.to_string(), cost))
}
