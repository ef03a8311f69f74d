//! `docs/hostile.md`: the tables as they are tested, and the figures of the day it was written.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use midge::packet::{PacketType, ReasonCode};

use crate::answer::Slow;
use crate::attack::{Attack, BEGUN, HALVES};
use crate::rows::{PACKET_BYTES_MAX, RECEIVE_MAXIMUM, Row, SECTIONS};
use crate::served::{PAIRS, Served, Times};
use crate::slow::SLOW;

/// The day, where the page is to be written.
const DATE: &str = "MIDGE_HOSTILE_PAGE";

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->\n";

/// What was measured.
pub struct Figures {
    pub descriptors_max: usize,
    pub peace: Served,
    pub war: Served,
    pub attack: Attack,
    pub before: usize,
    pub peak: usize,
    pub bound: usize,
}

impl Figures {
    pub fn text(&self) -> String {
        let Attack {
            silent,
            displaced,
            garbled,
            flooded,
            rows,
            descriptors,
        } = self.attack;
        let (peace, war) = (&self.peace, &self.war);
        let megabytes = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
        format!(
            "| | alone | with the hostile ones |\n\
         |---|---|---|\n\
         | messages, each of which arrived once and in order | {} | {} |\n\
         | median, 99th percentile, longest time | {} | {} |\n\
         | clients that connected meanwhile | {} | {} |\n\
         | median, 99th percentile, longest time to the CONNACK | {} | {} |\n\
         | resident memory | {} | {} at most |\n\
         | what its limits allow here | | {} |\n\n\
         The hostile ones: {silent} silent connections (this machine allows a process {} \
         files), {displaced} of which were displaced by those that came after them, while \
         the broker had {descriptors} descriptors; {garbled} connections with garbage, one \
         after the other; {flooded} messages of 10,000 bytes for clients that do not read; \
         {rows} connections for the tables.\n",
            peace.messages.count(),
            war.messages.count(),
            spread(&peace.messages),
            spread(&war.messages),
            peace.connects.count(),
            war.connects.count(),
            spread(&peace.connects),
            spread(&war.connects),
            megabytes(self.before),
            megabytes(self.peak),
            megabytes(self.bound),
            self.descriptors_max,
        )
    }
}

fn spread(times: &Times) -> String {
    let [median, p99, longest] = [50, 99, 100].map(|percent| shown(times.percentile(percent)));
    format!("{median}, {p99}, {longest}")
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Writes the page, if that was asked for.
pub fn write(figures: &Figures) {
    let Ok(date) = env::var(DATE) else {
        return;
    };
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!(
        "Measured on {date}, {build} build, clients and broker on the same {cores} cores:\n\n{}",
        figures.text()
    );
    fs::create_dir_all(path().parent().expect("it is in a folder")).expect("it can be made");
    fs::write(path(), page(&text)).expect("it can be written");
}

/// The page is what the tables say now.
pub fn check() {
    if env::var(DATE).is_ok() {
        return; // It is being written.
    }
    let text = fs::read_to_string(path()).expect("there is a page: scripts/hostile.sh writes it");
    let (_, rest) = text.split_once(BEGIN).expect("the figures begin");
    let (figures, _) = rest.split_once(END).expect("the figures end");
    assert!(
        text == page(figures),
        "docs/hostile.md is stale: scripts/hostile.sh writes it anew"
    );
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hostile.md")
}

fn page(figures: &str) -> String {
    let mut page = format!(
        "# Hostile clients\n\n\
         What broken and hostile clients send to midge, what each of them gets, and what the \
         others notice. `tests/hostile.rs` does all of it over real sockets to the real \
         program, and checks every line; `scripts/hostile.sh` writes this page from the same \
         tables.\n\n\
         ## What the others notice\n\n\
         {PAIRS} pairs of clients exchange 500 messages a second, half of them with QoS 0 \
         and half with QoS 1; a message's time runs from when it was due to be sent until \
         its arrival. Twenty times a second a client connects and leaves. Meanwhile, all at \
         once: thousands of connections that say nothing, {HALVES} CONNECTs and {BEGUN} \
         PUBLISH packets of 100,000 bytes but for the last one, two floods of messages for \
         clients that never read, two clients that send garbage and come again, and every \
         line of the tables below. The test fails if the 99th percentile of a message's time \
         exceeds what it is without all that by 100 ms, if a newcomer's exceeds 2 s, if \
         memory exceeds what the limits allow, or if a descriptor or session is left over in \
         the end.\n\n\
         {BEGIN}{figures}{END}\n\
         ## What each gets\n\n\
         The broker has `--max-packet-size {PACKET_BYTES_MAX} --receive-maximum \
         {RECEIVE_MAXIMUM}`, a megabyte for `--max-outbound-bytes` and `--max-queued-bytes`, \
         and defaults otherwise. Each line is what one client sends, or several clients one \
         of several things each, all with the same outcome. Answers show packet id and \
         reason code (return code before 5.0); then the connection is closed, or stays and \
         serves. A dash stands where the version has no such thing.\n\n\
         {}\n",
        legend()
    );
    for (section, rows) in SECTIONS {
        write!(
            page,
            "\n### {section}\n\n| What | MQTT 3.1.1 | MQTT 5.0 |\n|---|---|---|\n"
        )
        .expect("a String takes all");
        rows.iter().for_each(|row| page += &line(row));
    }
    page += "\n### Slowly\n\n| What | MQTT 3.1.1 | MQTT 5.0 | When |\n|---|---|---|---|\n";
    SLOW.iter().for_each(|slow| page += &slow_line(slow));
    wrapped(&page)
}

/// Prose in lines of a hundred columns at most; tables as they are.
fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.split_inclusive('\n') {
        let mut columns = 0;
        for word in line.split_inclusive(' ') {
            let length = word.trim_end().chars().count();
            if columns + length > 100 && columns > 0 && !line.starts_with('|') {
                wrapped.truncate(wrapped.trim_end().len());
                wrapped.push('\n');
                columns = 0;
            }
            wrapped += word;
            columns += word.chars().count();
        }
    }
    wrapped
}

/// The names of all reason codes that occur.
fn legend() -> String {
    let rows = SECTIONS.iter().flat_map(|(_, rows)| rows.iter());
    let answers = rows
        .map(|row| row.v5)
        .chain(SLOW.iter().map(|slow| slow.v5));
    let words = answers.flat_map(|answer| answer.split([' ', ',']));
    let codes: BTreeSet<u8> = words
        .filter_map(|word| u8::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    let named = codes
        .iter()
        .map(|code| format!("{code:02X} {}", name(*code)));
    format!(
        "Reason codes: {}. Return codes of 3.1.1: 01 unacceptable protocol version, 02 \
         identifier rejected, 05 not authorized; 80 in a SUBACK is failure.",
        named.collect::<Vec<_>>().join(", ")
    )
}

fn name(code: u8) -> &'static str {
    let of = |packet| ReasonCode::parse(code, packet).ok();
    let reason = PacketType::ALL.iter().find_map(|packet| of(*packet));
    reason.expect("the table has codes that exist").name()
}

fn line(row: &Row) -> String {
    let dash = |text: &'static str| if text.is_empty() { "–" } else { text };
    format!("| {} | {} | {} |\n", row.name, dash(row.v311), dash(row.v5))
}

fn slow_line(slow: &Slow) -> String {
    let (earliest, _) = slow.ends;
    let when = match earliest.as_millis() {
        0 => String::new(),
        9_000.. => "after 10 s".to_string(),
        _ => "after 1.5 s of silence".to_string(),
    };
    let Slow { name, v311, v5, .. } = slow;
    format!("| {name} | {v311} | {v5} | {when} |\n")
}
