//! The log: what is written, where, and how.
//!
//! `kinds.rs` has the types of lines, `sink.rs` and `syslog.rs` the places they go to, `time.rs`
//! and `json.rs` what they look like. The log belongs to the thread of the loop, and is out of its
//! place while a line is written: a line that is logged meanwhile is left out, so that no line can
//! bring about itself. What goes to topics waits until the loop publishes it, see [`publish`].

mod json;
mod kinds;
mod sink;
mod syslog;
mod time;

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use env_logger::{Builder, Target};
use log::kv::Source;
use log::{LevelFilter, Record, error, info, warn};

pub use kinds::LogType;
use kinds::Wanted;
pub use sink::Destination;
use sink::{Head, Line, Sink, Trouble};
use time::Stamp;
pub use time::TimeFormat;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Empty for the default.
    pub types: Vec<LogType>,
    /// Empty for the default.
    pub destinations: Vec<Destination>,
    /// The flag or the line that asked for each, for errors.
    pub origins: Vec<(Destination, String)>,
    /// Of syslog, the number of a LOCAL one.
    pub facility: Option<u8>,
    pub timestamp: bool,
    pub time_format: TimeFormat,
    pub format: Format,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            types: Vec::new(),
            destinations: Vec::new(),
            origins: Vec::new(),
            facility: None,
            timestamp: true,
            time_format: TimeFormat::default(),
            format: Format::Text,
        }
    }
}

impl LogOptions {
    /// In the background it speaks to the one who started midge, see `daemon`.
    pub fn leave_stdout(&mut self) {
        let all = &mut self.destinations;
        let had = all.len();
        all.retain(|destination| *destination != Destination::Stdout);
        if all.is_empty() && had > 0 {
            all.push(Destination::None);
        }
    }

    fn origin(&self, destination: &Destination) -> String {
        let asked = self.origins.iter().find(|(asked, _)| asked == destination);
        asked.map_or("--log-dest".to_string(), |(_, origin)| origin.clone())
    }

    /// Whether lines go to topics.
    pub fn publishes(&self) -> bool {
        let all = &self.destinations;
        all.contains(&Destination::Topic) && !all.contains(&Destination::None)
    }
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    /// An object.
    Json,
}

impl Format {
    pub fn parse(text: &str) -> Result<Format, String> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err("must be text or json".to_string()),
        }
    }
}

/// A log whose files are open: what could go wrong has not.
#[derive(Debug)]
pub struct Prepared {
    options: LogOptions,
    sinks: Vec<Sink>,
}

/// Opens what `options` ask for; fails where a file cannot be opened that is not open already.
pub fn prepare(options: &LogOptions) -> Result<Prepared, String> {
    let mut sinks = Vec::new();
    let default = [Destination::Stderr];
    let destinations = match &options.destinations[..] {
        [] => &default[..],
        all if all.contains(&Destination::None) => &[],
        all => all,
    };
    for destination in destinations {
        let is_open = |path: &str| {
            let is_there = |log: &mut Log| log.sinks.iter().any(|sink| sink.is_file(path));
            with(is_there).unwrap_or(false)
        };
        sinks.extend(Sink::open(destination, options, is_open)?);
    }
    Ok(Prepared {
        options: options.clone(),
        sinks,
    })
}

impl Prepared {
    /// From now on this is the log.
    pub fn apply(mut self) {
        let mut complaints = Vec::new();
        match LOG.take() {
            Some(mut old) => {
                for sink in &mut self.sinks {
                    complaints.extend(sink.go_on_with(&mut old.sinks));
                }
            }
            // Whoever has set another one wants that.
            None => drop(log::set_boxed_logger(Box::new(front()))),
        }
        let wanted = Wanted::of(&self.options.types);
        log::set_max_level(match self.sinks.is_empty() {
            true => LevelFilter::Off,
            false => wanted.level(),
        });
        LOG.set(Some(Box::new(Log {
            options: self.options,
            wanted,
            sinks: self.sinks,
            stamp: Stamp::default(),
            line: Vec::new(),
            head: Head {
                log_type: LogType::Notice,
                start: 0,
                seconds: 0,
            },
            is_publishing: false,
        })));
        for complaint in complaints {
            warn!("{complaint}.");
        }
    }
}

/// Opens its files anew, after they have been moved aside.
pub fn reopen() {
    let reopen = |log: &mut Log| -> Vec<_> { log.sinks.iter_mut().map(Sink::reopen).collect() };
    let reopened: Vec<_> = with(reopen).into_iter().flatten().flatten().collect();
    if reopened.is_empty() {
        info!(target: "notice", "There is no log file to open anew.");
    }
    for one in reopened {
        match one {
            Ok(sentence) => info!(target: "notice", "{sentence}."),
            Err(sentence) => error!("{sentence}."),
        }
    }
}

/// What [`reopen`] would stumble upon, in sentences.
pub fn what_cannot_be_opened() -> Vec<String> {
    let faults = |log: &mut Log| log.sinks.iter().filter_map(Sink::fault).collect();
    with(faults).unwrap_or_default()
}

/// Files that were made by this start will have to be opened again by that user.
pub fn give_to(uid: u32, gid: u32) {
    let give = |log: &mut Log| -> Vec<io::Error> {
        let given = log.sinks.iter().map(|sink| sink.give_to(uid, gid));
        given.filter_map(Result::err).collect()
    };
    for error in with(give).into_iter().flatten() {
        warn!("The log file cannot be given to the user that midge becomes: {error}.");
    }
}

/// Whether there is anything to [`publish`].
pub fn has_lines() -> bool {
    let has_lines = |log: &mut Log| {
        let mut waiting = log.sinks.iter_mut().filter_map(Sink::waiting);
        waiting.any(|lines| !lines.is_empty())
    };
    with(has_lines).unwrap_or(false)
}

/// Hands out the lines for topics: what stands behind `$SYS/broker/log/`, and the line. What is
/// logged meanwhile goes to no topic.
pub fn publish(mut line: impl FnMut(&str, &[u8])) {
    let take = |log: &mut Log| {
        log.is_publishing = true;
        let waiting = log.sinks.iter_mut().filter_map(Sink::waiting);
        waiting.flat_map(std::mem::take).collect::<Vec<_>>()
    };
    for (log_type, text) in with(take).into_iter().flatten() {
        if let Some(topic) = log_type.topic() {
            line(topic, &text);
        }
    }
    with(|log| log.is_publishing = false);
}

/// The text with control characters made visible.
pub fn in_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
    line
}

/// A line that is about no client.
const NOBODY: [(&str, &str); 0] = [];

thread_local! {
    static LOG: Cell<Option<Box<Log>>> = Cell::default();
}

/// What the `log` crate calls: env_logger has each line composed, and hands it out whole.
fn front() -> env_logger::Logger {
    Builder::new()
        // Which types are wanted can change, see `Wanted`.
        .filter_level(LevelFilter::Trace)
        .format(|line, record| {
            let compose =
                |log: &mut Log| log.compose_wanted(record).map(|text| line.write_all(text));
            // What is left out has an error for env_logger: it asks for no place then.
            with(compose)
                .flatten()
                .unwrap_or(Err(io::ErrorKind::Other.into()))
        })
        .target(Target::Pipe(Box::new(Places)))
        .build()
}

/// All of them, as one.
struct Places;

impl Write for Places {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        with(|log| log.hand_out(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `None` while it is in use, and in a thread that is not the loop's.
fn with<T>(change: impl FnOnce(&mut Log) -> T) -> Option<T> {
    let mut log = LOG.take()?;
    let result = change(&mut log);
    LOG.set(Some(log));
    Some(result)
}

#[derive(Debug)]
struct Log {
    options: LogOptions,
    wanted: Wanted,
    sinks: Vec<Sink>,
    stamp: Stamp,
    /// The one that was composed last, with its newline.
    line: Vec<u8>,
    head: Head,
    is_publishing: bool,
}

impl Log {
    fn compose_wanted(&mut self, record: &Record) -> Option<&[u8]> {
        let log_type = LogType::of(record.level(), record.target());
        if !self.wanted.has(log_type) {
            return None;
        }
        self.compose(log_type, *record.args(), &record.key_values());
        Some(&self.line)
    }

    /// The line that was composed last goes to its places.
    fn hand_out(&mut self, text: &[u8]) {
        let head = self.head;
        let line = Line { head, text };
        let mut troubles = Vec::new();
        for (index, sink) in self.sinks.iter_mut().enumerate() {
            if self.is_publishing && sink.waiting().is_some() {
                continue;
            }
            if let Some(trouble) = sink.write(line) {
                troubles.push((index, trouble));
            }
        }
        for (index, trouble) in troubles {
            self.complain(index, &trouble);
        }
    }

    /// Tells the others; standard error, if there is no other.
    fn complain(&mut self, index: usize, trouble: &Trouble) {
        let (log_type, sentence) = match trouble {
            Trouble::Begins(sentence) => (LogType::Error, sentence),
            Trouble::Ends(sentence) => (LogType::Warning, sentence),
        };
        self.compose(log_type, format_args!("{sentence}."), &NOBODY);
        let line = Line {
            head: self.head,
            text: &self.line,
        };
        // That it is over is for the one that lacks lines, too.
        let is_over = matches!(trouble, Trouble::Ends(_));
        let mut is_told = is_over;
        let others = self.sinks.iter_mut().enumerate();
        for (_, sink) in others.filter(|(other, _)| *other != index || is_over) {
            is_told |= sink.waiting().is_none();
            // Should that fail too, there is nobody left to tell.
            sink.write(line);
        }
        if !is_told {
            let _ = io::stderr().write_all(&self.line);
        }
    }

    fn compose(&mut self, log_type: LogType, message: fmt::Arguments, values: &dyn Source) {
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let options = &self.options;
        let time = match options.timestamp {
            true => Some(self.stamp.at(now, &options.time_format)),
            false => None,
        };
        self.line.clear();
        let mut start = 0;
        match options.format {
            Format::Json => json::write(&mut self.line, time, log_type.name(), message, values),
            Format::Text => {
                if let Some(time) = time {
                    self.line.extend_from_slice(time);
                    self.line.extend_from_slice(b": ");
                    start = self.line.len();
                }
                // Nothing fails that writes to memory.
                let _ = writeln!(self.line, "{message}");
            }
        }
        let seconds = since.as_secs();
        self.head = Head {
            log_type,
            start,
            seconds,
        };
    }
}
