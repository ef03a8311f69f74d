//! Figures as documents: Markdown with a chart for each group, and JSON with all there is.

use std::env;
use std::fmt::Write;
use std::fs;
use std::io;
use std::process::Command;

use super::chart;
use super::report::{Figure, Spread, short, thousands};
use super::scenarios::{Goal, Group, Plan};

const COLUMNS: usize = 105;

/// With title and explanation.
const GROUPS: &[(Group, &str, &str)] = &[
    (
        Group::Messages,
        "Processor time per delivered message",
        "Microseconds of the broker, all threads, for each message that a subscriber got; 100 \
         bytes if not said otherwise. 1,000 messages are under way, 200 where one publisher sends \
         QoS 1 or 2, 100 where each goes to 50. Of the wildcard subscribers, two have `dev/+/temp` \
         and the others a device each, `dev/7/#`. Of the 20,000 filters, which 20 subscribers \
         share, 70 % are exact, 20 % have a `+` and 10 % a `#`.",
    ),
    (
        Group::State,
        "Processor time for what is kept, and for coming and going",
        "Microseconds of the broker for each message, or each cycle.",
    ),
    (
        Group::Memory,
        "Memory",
        "Proportional set size, per piece; payloads of 100 bytes.",
    ),
    (
        Group::Latency,
        "Latency",
        "Microseconds from the publisher's write until the subscriber has read, at 2,000 messages \
         per second of 10 pairs.",
    ),
    (
        Group::Growth,
        "Crowds, bursts and slow readers",
        "What must not grow. A subscriber that stops reading has the same topic as 20 that read \
         on; their rate is compared with that just before it came. midge may hold \
         `--max-outbound-bytes` (8 MiB) for it and, with QoS 1, `--max-queued-messages` \
         (100,000); the limits here leave room for what the allocator adds.",
    ),
];

/// What a run was.
pub struct About<'a> {
    pub plan: &'a Plan,
    pub is_static: bool,
    pub is_pinned: bool,
    pub other: String,
    pub command: String,
}

/// Writes `performance.md`, and JSON and charts into the folder `performance`.
pub fn write(folder: &str, figures: &[Figure], about: &About) -> io::Result<()> {
    fs::create_dir_all(format!("{folder}/performance"))?;
    fs::write(format!("{folder}/performance.md"), markdown(figures, about))?;
    fs::write(
        format!("{folder}/performance/results.json"),
        json(figures, about),
    )?;
    for (group, title, _) in GROUPS {
        let own: Vec<&Figure> = figures.iter().filter(|f| f.row.group == *group).collect();
        let chart = chart::svg(title, &own, &about.other);
        let file = group.name();
        fs::write(format!("{folder}/performance/{file}.svg"), chart)?;
    }
    Ok(())
}

fn markdown(figures: &[Figure], about: &About) -> String {
    let mut text = String::from("# Performance\n\n");
    text += &introduction(about);
    for (group, title, what) in GROUPS {
        let file = group.name();
        let _ = write!(
            text,
            "\n## {title}\n\n{}\n\n![{title}](performance/{file}.svg)\n\n",
            wrapped(what)
        );
        let other = &about.other;
        let _ = writeln!(
            text,
            "| | unit | midge | from – to | {other} | null relay | ratio | must reach | then \
             | reached |"
        );
        text += "|---|---|---:|---:|---:|---:|---:|---:|---:|---|\n";
        for figure in figures.iter().filter(|figure| figure.row.group == *group) {
            text += &line(figure);
        }
    }
    text
}

fn introduction(about: &About) -> String {
    let plan = about.plan;
    let build = match about.is_static {
        true => "a static build (musl)",
        false => "the ordinary build",
    };
    let cores = match about.is_pinned {
        true => "The broker has one core of its own, the load generator the other",
        false => "Broker and load generator were not pinned to cores",
    };
    let rounds = match plan.rounds {
        1 => "comes from one round".to_string(),
        rounds => format!("is the median of {rounds} rounds"),
    };
    let how = format!(
        "{cores}; both are on one machine, over loopback, with MQTT 3.1.1. Each figure {rounds}, \
         in which midge, {} and a null relay take turns, each started afresh, for {:.1} s; the \
         range beside it is midge's. The null relay passes bytes from socket to socket and knows \
         no MQTT. Every message is checked: what is lost, duplicated or out of order fails the \
         run. The generator works on a timer of 1 ms and not on its sockets, except for \
         latencies. {} retained and {} queued messages, {} idle connections. midge is built as \
         `cargo bench` does, but its resident memory at start is that of {build}; so is \
         what is said of musl.",
        about.other,
        plan.pace.measured.as_secs_f64(),
        thousands(plan.retained as f64),
        thousands(plan.queued as f64),
        thousands(plan.idle as f64),
    );
    let columns = "**ratio** is the other's figure over midge's. **must reach** and **then** are \
                   the ratios that midge is to reach, from the figures of the machine on which \
                   they were set: absolute figures move with the machine, ratios much less.";
    let (date, command) = (said("date", &["-u", "+%Y-%m-%d"]), &about.command);
    let paragraphs = [
        &format!("Written by `{command}` on {date}. Do not edit."),
        &machine(),
        &how,
        columns,
    ];
    paragraphs.map(wrapped).join("\n\n") + "\n"
}

/// With lines of a length that people read.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 {
            let fits = column + 1 + length <= COLUMNS;
            lines.push(if fits { ' ' } else { '\n' });
            column = if fits { column + 1 } else { 0 };
        }
        lines += word;
        column += length;
    }
    lines
}

fn line(figure: &Figure) -> String {
    let of = |spread: &Option<Spread>| spread.as_ref().map_or(String::new(), |s| short(s.median));
    let then = match figure.row.goal {
        Goal::Ratio(theirs, _, then) => format!("{:.1}", theirs / then),
        _ => String::new(),
    };
    format!(
        "| {} | {} | {} | {} – {} | {} | {} | {} | {} | {then} | {} |\n",
        figure.row.name,
        figure.row.unit,
        short(figure.midge.median),
        short(figure.midge.least()),
        short(figure.midge.most()),
        of(&figure.other),
        of(&figure.relay),
        figure
            .ratio()
            .map_or(String::new(), |ratio| format!("{ratio:.1}")),
        figure.goal(),
        figure.verdict(),
    )
}

/// Everything, also what the table leaves out.
fn json(figures: &[Figure], about: &About) -> String {
    let mut text = format!(
        "{{\n  \"date\": {:?},\n  \"commit\": {:?},\n  \"machine\": {:?},\n  \"command\": {:?},\n  \
         \"rounds\": {},\n  \"pinned\": {},\n  \"rows\": [\n",
        said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        machine(),
        about.command,
        about.plan.rounds,
        about.is_pinned,
    );
    for (index, figure) in figures.iter().enumerate() {
        let comma = if index + 1 < figures.len() { "," } else { "" };
        let goal = match figure.row.goal {
            Goal::Ratio(theirs, must, then) => format!("{{\"ratio\": [{theirs}, {must}, {then}]}}"),
            Goal::AtMost(most) => format!("{{\"at_most\": {most}}}"),
            Goal::AtLeast(least) => format!("{{\"at_least\": {least}}}"),
            Goal::None => "null".to_string(),
        };
        let reached = figure
            .is_reached()
            .map_or("null".to_string(), |reached| reached.to_string());
        let _ = write!(
            text,
            "    {{\"name\": {:?}, \"unit\": {:?}, \"goal\": {goal}, \"reached\": {reached},\n     \
             \"midge\": {}",
            figure.row.name,
            figure.row.unit,
            json_spread(&figure.midge)
        );
        for (name, spread) in [
            (about.other.as_str(), &figure.other),
            ("null relay", &figure.relay),
        ] {
            if let Some(spread) = spread {
                let _ = write!(text, ",\n     {name:?}: {}", json_spread(spread));
            }
        }
        let _ = writeln!(text, "}}{comma}");
    }
    text + "  ]\n}\n"
}

fn json_spread(spread: &Spread) -> String {
    let values: Vec<String> = spread
        .values
        .iter()
        .map(|value| json_number(*value))
        .collect();
    format!(
        "{{\"median\": {}, \"values\": [{}], \"busy_percent\": {:.0}, \
         \"generator_busy_percent\": {:.0}, \"lost\": {}, \"duplicates\": {}, \"disorder\": {}}}",
        json_number(spread.median),
        values.join(", "),
        spread.busy,
        spread.generator_busy,
        spread.faults.lost,
        spread.faults.duplicates,
        spread.faults.disorder,
    )
}

fn json_number(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value:.4}"),
        false => "null".to_string(),
    }
}

/// Processor, cores, memory, kernel.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<f64>().ok());
    let gibibytes = kilobytes.unwrap_or(0.0) / f64::from(1 << 20);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (kernel, system) = (kernel.trim(), env::consts::ARCH);
    format!("{model}, {cores} cores, {gibibytes:.0} GiB, Linux {kernel}, {system}.")
}

/// What a program says in its first line.
pub fn said(program: &str, flags: &[&str]) -> String {
    let output = Command::new(program).args(flags).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_string()
}
