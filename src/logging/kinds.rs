//! Types of lines, as Mosquitto has them: levels of the `log` crate for errors, warnings and
//! debugging, targets for notices, subscriptions and unsubscriptions.

use log::{Level, LevelFilter};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogType {
    Error,
    Warning,
    Notice,
    Information,
    Subscribe,
    Unsubscribe,
    Debug,
    All,
    None,
    /// Types of lines that there are in Mosquitto only.
    Foreign,
}

const NAMES: [(&str, LogType); 9] = [
    ("error", LogType::Error),
    ("warning", LogType::Warning),
    ("notice", LogType::Notice),
    ("information", LogType::Information),
    ("subscribe", LogType::Subscribe),
    ("unsubscribe", LogType::Unsubscribe),
    ("debug", LogType::Debug),
    ("all", LogType::All),
    ("none", LogType::None),
];

const DEFAULT: [LogType; 4] = [
    LogType::Error,
    LogType::Warning,
    LogType::Notice,
    LogType::Information,
];

impl LogType {
    pub fn of(level: Level, target: &str) -> LogType {
        match (target, level) {
            ("notice", _) => LogType::Notice,
            ("subscribe", _) => LogType::Subscribe,
            ("unsubscribe", _) => LogType::Unsubscribe,
            (_, Level::Error) => LogType::Error,
            (_, Level::Warn) => LogType::Warning,
            (_, Level::Info) => LogType::Information,
            (_, Level::Debug | Level::Trace) => LogType::Debug,
        }
    }

    pub fn parse(text: &str) -> Result<LogType, String> {
        if matches!(text, "websockets" | "internal") {
            return Ok(LogType::Foreign);
        }
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, log_type)| *log_type).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            format!("must be one of {names}")
        })
    }

    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, log_type)| *log_type == self);
        found.map_or("foreign", |(name, _)| name)
    }

    /// What stands behind `$SYS/broker/log/` for it. As in Mosquitto, nobody can subscribe to
    /// debugging.
    pub fn topic(self) -> Option<&'static str> {
        match self {
            LogType::Error => Some("E"),
            LogType::Warning => Some("W"),
            LogType::Notice => Some("N"),
            LogType::Information => Some("I"),
            LogType::Subscribe => Some("M/subscribe"),
            LogType::Unsubscribe => Some("M/unsubscribe"),
            LogType::Debug | LogType::All | LogType::None | LogType::Foreign => None,
        }
    }

    /// As syslog counts it.
    pub fn severity(self) -> u8 {
        match self {
            LogType::Error => 3,
            LogType::Warning => 4,
            LogType::Notice | LogType::Subscribe | LogType::Unsubscribe => 5,
            LogType::Information => 6,
            LogType::Debug | LogType::All | LogType::None | LogType::Foreign => 7,
        }
    }
}

/// The types that are logged: each is asked for by itself, as in Mosquitto.
#[derive(Debug)]
pub struct Wanted(Vec<LogType>);

impl Wanted {
    pub fn of(types: &[LogType]) -> Wanted {
        let every = || NAMES.map(|(_, log_type)| log_type).to_vec();
        Wanted(match types {
            [] => DEFAULT.to_vec(),
            // -v is the last word, then -q.
            _ if types.contains(&LogType::All) => every(),
            _ if types.contains(&LogType::None) => Vec::new(),
            _ => types.to_vec(),
        })
    }

    pub fn has(&self, log_type: LogType) -> bool {
        self.0.contains(&log_type)
    }

    /// What is below it need not even be put into words.
    pub fn level(&self) -> LevelFilter {
        let level = |log_type: &LogType| match log_type {
            LogType::Error => LevelFilter::Error,
            LogType::Warning => LevelFilter::Warn,
            LogType::Notice | LogType::Information | LogType::Subscribe | LogType::Unsubscribe => {
                LevelFilter::Info
            }
            LogType::Debug | LogType::All => LevelFilter::Debug,
            LogType::None | LogType::Foreign => LevelFilter::Off,
        };
        self.0.iter().map(level).max().unwrap_or(LevelFilter::Off)
    }
}
