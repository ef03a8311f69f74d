//! Settings: one table of them, read from flags into plain data.
//!
//! A row says all about a setting: its name (Mosquitto's option with `-` for `_`), its short flag,
//! what values it takes, its default, what it does, and where it goes. The parser and `--help`
//! follow from it.

use std::time::Duration;

use getopts::Fail;

use crate::broker::journal::WHENEVER;
use crate::broker::limits::{Durability, ListenerOptions, Options, QueueOverflow};
use crate::logging::{Destination, LogOptions, LogType, TimeFormat, in_one_line};
use crate::net::{Host, ListenerAddress};
use crate::packet::{QoS, TopicFilter};

/// What to run, read from the flags.
#[derive(Clone, Debug)]
pub struct Config {
    pub broker: Options,
    /// In the order of `broker.listeners`.
    pub listeners: Vec<ListenerAddress>,
    pub log: LogOptions,
    pub tcp_nodelay: bool,
    pub daemon: bool,
    pub pid_file: Option<String>,
    pub persistence: bool,
    pub persistence_location: String,
    /// Only check.
    pub test_config: bool,
    allow_anonymous: Option<bool>,
    /// See [`Durability`].
    durability: u64,
    durable: Vec<(Box<str>, u64)>,
}

/// What the flags ask for.
#[derive(Debug)]
pub enum Command {
    Run(Box<Config>),
    /// Print the store in this directory.
    Dump(String),
    Help,
    Version,
}

/// What a setting is set to, already known to be within its bounds.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Flag,
    Bool(bool),
    Number(i64),
    Text(&'a str),
}

impl Value<'_> {
    fn bool(self) -> bool {
        matches!(self, Value::Bool(true))
    }

    fn number(self) -> i64 {
        match self {
            Value::Number(number) => number,
            Value::Flag | Value::Bool(_) | Value::Text(_) => 0,
        }
    }

    /// Where 0 or -1 stands for any number.
    fn limit(self) -> usize {
        match usize::try_from(self.number()) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(number) => number,
        }
    }

    fn text(self) -> String {
        match self {
            Value::Text(text) => text.to_string(),
            Value::Flag | Value::Bool(_) | Value::Number(_) => String::new(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Takes no value.
    Flag,
    /// `true` or `false`; the flag alone is `true`.
    Bool,
    /// Least, most, unit.
    Number(i64, i64, &'static str),
    /// What it looks like.
    Text(&'static str),
    /// The same, any number of times.
    Texts(&'static str),
    /// A number, any number of times.
    Numbers(i64, i64, &'static str),
}

use Kind::{Bool, Flag, Number, Numbers, Text, Texts};

struct Setting {
    name: &'static str,
    short: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Config, Value) -> Result<(), String>,
}

const U32: i64 = u32::MAX as i64;
const PACKET_BYTES_MAX: i64 = 268_435_460;
const NONE: &str = "";

#[rustfmt::skip]
const SETTINGS: &[Setting] = &[
    Setting { name: "port", short: "p", kind: Numbers(1, 65_535, "PORT"), default: "1883",
        help: "listen on this port for clients of this machine (repeatable)",
        set: |c, v| c.add_listener(v.number() as u16, Host::Loopback, format!("--port {}", v.number())) },
    Setting { name: "listener", short: NONE, kind: Texts("\"PORT [ADDRESS]\""), default: NONE,
        help: "listen on this port of this address, or of all (repeatable)",
        set: |c, v| { let (port, host) = listener(&v.text())?;
            c.add_listener(port, host, format!("--listener \"{}\"", v.text())) } },
    Setting { name: "allow-anonymous", short: NONE, kind: Bool, default: "false with --listener, else true",
        help: "let clients in that bring no user name",
        set: |c, v| { c.allow_anonymous = Some(v.bool()); Ok(()) } },
    Setting { name: "max-connections", short: NONE, kind: Number(-1, U32, "N"), default: "-1",
        help: "clients connected at once; -1 for any number",
        set: |c, v| { c.broker.limits.connections_max = match v.number() { -1 => usize::MAX, n => n as usize }; Ok(()) } },
    Setting { name: "global-max-clients", short: NONE, kind: Number(1, U32, "N"), default: "100000",
        help: "sessions kept, of clients connected or not",
        set: |c, v| { c.broker.limits.sessions_max = v.limit(); Ok(()) } },
    Setting { name: "max-subscriptions", short: NONE, kind: Number(1, U32, "N"), default: "20000",
        help: "subscriptions of one client",
        set: |c, v| { c.broker.limits.subscriptions_max = v.limit(); Ok(()) } },
    Setting { name: "max-keepalive", short: NONE, kind: Number(0, 65_535, "SECONDS"), default: "0",
        help: "longest keep alive; 0 for any. MQTT 5 clients are told, others refused",
        set: |c, v| { c.broker.max_keep_alive = v.number() as u16; Ok(()) } },
    Setting { name: "max-packet-size", short: NONE, kind: Number(20, PACKET_BYTES_MAX, "BYTES"), default: "2000000",
        help: "largest packet a client may send, and largest will",
        set: |c, v| { c.broker.limits.packet_bytes_max = v.limit(); Ok(()) } },
    Setting { name: "max-inflight-messages", short: NONE, kind: Number(0, 65_535, "N"), default: "20",
        help: "QoS 1 and 2 messages sent to a client and not acknowledged; 0 for 65535",
        set: |c, v| { c.broker.limits.inflight_messages_max = v.limit().min(65_535) as u16; Ok(()) } },
    Setting { name: "max-inflight-bytes", short: NONE, kind: Number(0, U32, "BYTES"), default: "0",
        help: "their size together; 0 for any",
        set: |c, v| { c.broker.limits.inflight_bytes_max = v.limit(); Ok(()) } },
    Setting { name: "max-queued-messages", short: NONE, kind: Number(0, U32, "N"), default: "100000",
        help: "messages waiting for one client; 0 for any number",
        set: |c, v| { c.broker.limits.queued_messages_max = v.limit(); Ok(()) } },
    Setting { name: "max-queued-bytes", short: NONE, kind: Number(0, U32, "BYTES"), default: "16777216",
        help: "their size together; 0 for any",
        set: |c, v| { c.broker.limits.queued_bytes_max = v.limit(); Ok(()) } },
    Setting { name: "queue-overflow", short: NONE, kind: Text("drop-newest|drop-oldest"), default: "drop-newest",
        help: "which message goes when a queue is full",
        set: |c, v| { c.broker.queue_overflow = queue_overflow(&v.text())?; Ok(()) } },
    Setting { name: "queue-qos0-messages", short: NONE, kind: Bool, default: "false",
        help: "keep QoS 0 messages too for clients that are away",
        set: |c, v| { c.broker.queue_qos0_messages = v.bool(); Ok(()) } },
    Setting { name: "max-outbound-bytes", short: NONE, kind: Number(1_024, U32, "BYTES"), default: "8388608",
        help: "what a client that reads slowly is owed before QoS 0 messages to it are dropped",
        set: |c, v| { c.broker.limits.outbound_bytes_max = v.limit(); Ok(()) } },
    Setting { name: "receive-maximum", short: NONE, kind: Number(1, 65_535, "N"), default: "65535",
        help: "QoS 2 messages an MQTT 5 client may have begun and not released",
        set: |c, v| { c.broker.limits.receive_maximum = v.number() as u16; Ok(()) } },
    Setting { name: "max-qos", short: NONE, kind: Number(0, 2, "QOS"), default: "2",
        help: "best QoS for publishing and subscribing",
        set: |c, v| { c.broker.max_qos = match v.number() { 0 => QoS::AtMostOnce, 1 => QoS::AtLeastOnce, _ => QoS::ExactlyOnce }; Ok(()) } },
    Setting { name: "retain-available", short: NONE, kind: Bool, default: "true",
        help: "keep retained messages",
        set: |c, v| { c.broker.retain_available = v.bool(); Ok(()) } },
    Setting { name: "max-retained-messages", short: NONE, kind: Number(0, U32, "N"), default: "1000000",
        help: "retained messages; 0 for any number",
        set: |c, v| { c.broker.limits.retained_messages_max = v.limit(); Ok(()) } },
    Setting { name: "max-retained-bytes", short: NONE, kind: Number(0, U32, "BYTES"), default: "268435456",
        help: "their size together; 0 for any",
        set: |c, v| { c.broker.limits.retained_bytes_max = v.limit(); Ok(()) } },
    Setting { name: "max-topic-alias", short: NONE, kind: Number(0, 65_535, "N"), default: "10",
        help: "topic aliases an MQTT 5 client may set",
        set: |c, v| { c.broker.limits.topic_alias_max = v.number() as u16; Ok(()) } },
    Setting { name: "max-topic-alias-broker", short: NONE, kind: Number(0, 65_535, "N"), default: "10",
        help: "topic aliases set for an MQTT 5 client that takes them",
        set: |c, v| { c.broker.limits.topic_alias_max_broker = v.number() as u16; Ok(()) } },
    Setting { name: "persistent-client-expiration", short: NONE, kind: Text("<N>s|h|d|w|m|y"), default: "never",
        help: "when the session of a client that is away ends at the latest (m is 30 days)",
        set: |c, v| { c.broker.persistent_client_expiration = Some(expiration(&v.text())?); Ok(()) } },
    Setting { name: "allow-zero-length-clientid", short: NONE, kind: Bool, default: "true",
        help: "give an id to clients that bring none",
        set: |c, v| { c.broker.allow_zero_length_client_id = v.bool(); Ok(()) } },
    Setting { name: "auto-id-prefix", short: NONE, kind: Text("TEXT"), default: "auto-",
        help: "what such ids begin with, 50 characters at most",
        set: |c, v| { c.broker.auto_id_prefix = auto_id_prefix(&v.text())?; Ok(()) } },
    Setting { name: "upgrade-outgoing-qos", short: NONE, kind: Bool, default: "false",
        help: "deliver with the subscription's QoS even if the publisher's is lower",
        set: |c, v| { c.broker.upgrade_outgoing_qos = v.bool(); Ok(()) } },
    Setting { name: "persistence", short: NONE, kind: Bool, default: "false",
        help: "keep on disk what must survive: sessions, what waits for them, retained messages",
        set: |c, v| { c.persistence = v.bool(); Ok(()) } },
    Setting { name: "persistence-location", short: NONE, kind: Text("DIR"), default: ".",
        help: "the directory for it",
        set: |c, v| { c.persistence_location = persistence_location(&v.text())?; Ok(()) } },
    Setting { name: "durability", short: NONE, kind: Text("turn|MS|os"), default: "turn",
        help: "when it is on the medium: before it is acknowledged, MS milliseconds later at most, or when the system likes",
        set: |c, v| { c.durability = within(&v.text())?; Ok(()) } },
    Setting { name: "durable", short: NONE, kind: Texts("FILTER=turn|MS|os"), default: NONE,
        help: "the same for messages to topics that a filter matches; the first one counts (repeatable)",
        set: |c, v| { c.durable.push(durable(&v.text())?); Ok(()) } },
    Setting { name: "set-tcp-nodelay", short: NONE, kind: Bool, default: "true",
        help: "send at once, without Nagle's delay",
        set: |c, v| { c.tcp_nodelay = v.bool(); Ok(()) } },
    Setting { name: "sys-interval", short: NONE, kind: Number(0, U32, "SECONDS"), default: "10",
        help: "how often $SYS/broker topics are brought up to date; 0 for never",
        set: |c, v| { c.broker.sys_interval = Some(Duration::from_secs(v.number() as u64)).filter(|i| !i.is_zero()); Ok(()) } },
    Setting { name: "connection-messages", short: NONE, kind: Bool, default: "true",
        help: "log who connects and who leaves",
        set: |c, v| { c.broker.connection_messages = v.bool(); Ok(()) } },
    Setting { name: "log-dest", short: NONE, kind: Text("stderr|stdout|none|\"file PATH\""), default: "stderr",
        help: "where the log goes",
        set: |c, v| { c.log.destination = Destination::parse(&v.text())?; Ok(()) } },
    Setting { name: "log-type", short: NONE, kind: Texts("TYPE"), default: "error, warning, notice, information",
        help: "what is logged (repeatable); also subscribe, unsubscribe, debug, all, none",
        set: |c, v| { c.log.types.push(LogType::parse(&v.text())?); Ok(()) } },
    Setting { name: "log-timestamp", short: NONE, kind: Bool, default: "true",
        help: "begin each line with the time",
        set: |c, v| { c.log.timestamp = v.bool(); Ok(()) } },
    Setting { name: "log-timestamp-format", short: NONE, kind: Text("FORMAT"), default: "%Y-%m-%dT%H:%M:%SZ",
        help: "the time, in UTC, as strftime writes it",
        set: |c, v| { c.log.time_format = TimeFormat::parse(&v.text())?; Ok(()) } },
    Setting { name: "quiet", short: "q", kind: Flag, default: NONE,
        help: "log nothing",
        set: |c, _| { c.log.types.push(LogType::None); Ok(()) } },
    Setting { name: "verbose", short: "v", kind: Flag, default: NONE,
        help: "log everything",
        set: |c, _| { c.log.types.push(LogType::All); Ok(()) } },
    Setting { name: "daemon", short: "d", kind: Flag, default: NONE,
        help: "go to the background once the ports are open; its log needs a file",
        set: |c, _| { c.daemon = true; Ok(()) } },
    Setting { name: "pid-file", short: NONE, kind: Text("PATH"), default: NONE,
        help: "write the process id there while running",
        set: |c, v| { c.pid_file = Some(v.text()); Ok(()) } },
    Setting { name: "test-config", short: NONE, kind: Flag, default: NONE,
        help: "say what would be done, and exit",
        set: |c, _| { c.test_config = true; Ok(()) } },
];

impl Default for Config {
    fn default() -> Config {
        Config {
            broker: Options {
                listeners: Vec::new(),
                ..Options::default()
            },
            listeners: Vec::new(),
            log: LogOptions::default(),
            tcp_nodelay: true,
            daemon: false,
            pid_file: None,
            persistence: false,
            persistence_location: ".".to_string(),
            test_config: false,
            allow_anonymous: None,
            durability: 0,
            durable: Vec::new(),
        }
    }
}

impl Config {
    /// Reads flags, without the name of the program. What is wrong with them is said in one line.
    pub fn from_flags(flags: &[String]) -> Result<Command, String> {
        Config::read(flags).map_err(|sentence| in_one_line(&sentence))
    }

    fn read(flags: &[String]) -> Result<Command, String> {
        let matches = parser().parse(join_values(flags)).map_err(sentence)?;
        if matches.opt_present("help") {
            return Ok(Command::Help);
        }
        if matches.opt_present("version") {
            return Ok(Command::Version);
        }
        match &matches.free[..] {
            [] => {}
            [dump, directory] if dump == "dump" => return Ok(Command::Dump(directory.clone())),
            [dump, ..] if dump == "dump" => {
                return Err("dump: needs a directory, and nothing else".to_string());
            }
            [free, ..] => return Err(format!("\"{free}\" belongs to no flag")),
        }
        let mut config = Config::default();
        for setting in SETTINGS {
            for text in values(setting, &matches) {
                let named = |why| format!("--{} {text}: {why}", setting.name);
                // They would garble the log, and every sentence that names the value.
                if text.contains(char::is_control) {
                    return Err(named("must not contain control characters".to_string()));
                }
                let value = setting.kind.parse(&text).map_err(named)?;
                (setting.set)(&mut config, value).map_err(named)?;
            }
        }
        config.complete()?;
        Ok(Command::Run(Box::new(config)))
    }

    fn add_listener(&mut self, port: u16, host: Host, origin: String) -> Result<(), String> {
        self.listeners.push(ListenerAddress { port, host, origin });
        Ok(())
    }

    /// Settles what depends on several settings.
    fn complete(&mut self) -> Result<(), String> {
        if self.listeners.is_empty() {
            self.add_listener(
                1883,
                Host::Loopback,
                "--port 1883 (the default)".to_string(),
            )?;
        }
        let allow_anonymous = self.allow_anonymous.unwrap_or(!self.has_listener());
        self.broker.listeners = vec![ListenerOptions { allow_anonymous }; self.listeners.len()];
        self.complete_persistence()
    }

    fn complete_persistence(&mut self) -> Result<(), String> {
        if self.persistence && !cfg!(feature = "store") {
            return Err("--persistence: this midge was built without the store".to_string());
        }
        let idle = match (self.durability, &self.durable[..]) {
            (0, []) => None,
            (0, [_, ..]) => Some("durable"),
            (_, _) => Some("durability"),
        };
        if let (Some(name), false) = (idle, self.persistence) {
            return Err(format!(
                "--{name}: nothing is kept without --persistence true"
            ));
        }
        self.broker.durability = self.persistence.then(|| Durability {
            within: self.durability,
            by_topic: self.durable.clone(),
        });
        Ok(())
    }

    /// What survives a stop, and when, in one sentence.
    pub fn what_is_kept(&self) -> String {
        let Some(durability) = &self.broker.durability else {
            return "Sessions and retained messages end with midge (without --persistence true)"
                .to_string();
        };
        let when = match durability.within {
            0 => "before it is acknowledged".to_string(),
            WHENEVER => "when the system likes".to_string(),
            within => format!("{within} ms later at most"),
        };
        let but = match durability.by_topic.len() {
            0 => String::new(),
            count => format!(", but for {count} filters (--durable)"),
        };
        let location = &self.persistence_location;
        format!("What must survive is kept in {location}, on the medium {when}{but}")
    }

    fn has_listener(&self) -> bool {
        self.listeners
            .iter()
            .any(|listener| listener.host != Host::Loopback)
    }

    /// Who can connect to a listener, and why, in one sentence.
    pub fn who_can_connect(&self, index: usize) -> String {
        let who = match self.listeners[index].host {
            Host::Loopback => "every client of this machine",
            Host::Any | Host::Named(_) => "every client",
        };
        let allowed = self.broker.listeners[index].allow_anonymous;
        match (allowed, self.allow_anonymous, self.has_listener()) {
            (true, Some(_), _) => format!("{who} can connect (--allow-anonymous true)"),
            (true, None, _) => format!(
                "{who} can connect (without --listener; --listener 1883 opens it to the network)"
            ),
            (false, Some(_), _) => {
                "nobody can connect (--allow-anonymous false, and no users)".into()
            }
            (false, None, _) => "nobody can connect (with --listener, clients without a user name \
                are refused, and there are no users; --allow-anonymous true lets everybody in)"
                .into(),
        }
    }
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "midge: an MQTT 3.1, 3.1.1 and 5.0 broker for small boards\n\n\
         Usage: midge [FLAGS]\n       \
         midge dump DIR    print what is kept there, whoever uses it\n\n\
         Without --listener or --port it listens on port 1883 for clients of this machine.\n\
         A flag with true|false may stand alone for true.\n\n",
    );
    for setting in SETTINGS {
        let short = match setting.short {
            "" => "    ".to_string(),
            short => format!("-{short}, "),
        };
        let hint = setting.kind.hint();
        text += &format!(
            "  {short}--{}{hint}\n        {}",
            setting.name, setting.help
        );
        if !setting.default.is_empty() {
            text += &format!(" [{}]", setting.default);
        }
        text.push('\n');
    }
    text += "      --version\n        say which version this is\n";
    text += "  -h, --help\n        show this\n";
    text
}

/// Names of all settings, for tests.
pub fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name)
}

impl Kind {
    fn parse(self, text: &str) -> Result<Value<'_>, String> {
        match self {
            Flag => Ok(Value::Flag),
            Bool => match text {
                "true" | "1" | "" => Ok(Value::Bool(true)),
                "false" | "0" => Ok(Value::Bool(false)),
                _ => Err("must be true or false".to_string()),
            },
            Number(least, most, _) | Numbers(least, most, _) => text
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .map(Value::Number)
                .ok_or(format!("must be a whole number from {least} to {most}")),
            Text(_) | Texts(_) => Ok(Value::Text(text)),
        }
    }

    fn hint(self) -> String {
        match self {
            Flag => String::new(),
            Bool => " true|false".to_string(),
            Number(_, _, hint) | Numbers(_, _, hint) | Text(hint) | Texts(hint) => {
                format!(" {hint}")
            }
        }
    }
}

/// What is wrong with the flags as such.
fn sentence(fail: Fail) -> String {
    let dashed = |flag: String| match flag.len() {
        1 => format!("-{flag}"),
        _ => format!("--{flag}"),
    };
    match fail {
        Fail::UnrecognizedOption(flag) => format!("{}: there is no such flag", dashed(flag)),
        Fail::ArgumentMissing(flag) => format!("{}: needs a value", dashed(flag)),
        Fail::UnexpectedArgument(flag) => format!("{}: takes no value", dashed(flag)),
        Fail::OptionDuplicated(flag) => format!("{}: can be given once only", dashed(flag)),
        Fail::OptionMissing(flag) => format!("{}: must be given", dashed(flag)),
    }
}

fn parser() -> getopts::Options {
    let mut parser = getopts::Options::new();
    for Setting {
        name, short, kind, ..
    } in SETTINGS
    {
        match kind {
            Flag => parser.optflag(short, name, ""),
            Bool => parser.optflagopt(short, name, "", ""),
            Number(..) | Text(_) => parser.optopt(short, name, "", ""),
            Numbers(..) | Texts(_) => parser.optmulti(short, name, "", ""),
        };
    }
    parser.optflag("", "version", "").optflag("h", "help", "");
    parser
}

/// `--flag true` is `--flag=true` for a setting that may stand alone, as it is for all others.
fn join_values(flags: &[String]) -> Vec<String> {
    let is_bool = |flag: &str| {
        let name = flag.strip_prefix("--");
        SETTINGS
            .iter()
            .any(|row| Some(row.name) == name && matches!(row.kind, Bool))
    };
    let mut joined: Vec<String> = Vec::new();
    for flag in flags {
        match joined.last_mut() {
            Some(last) if is_bool(last) && !flag.starts_with('-') => *last += &format!("={flag}"),
            _ => joined.push(flag.clone()),
        }
    }
    joined
}

/// The values given for a setting, in order.
fn values(setting: &Setting, matches: &getopts::Matches) -> Vec<String> {
    match setting.kind {
        Flag | Bool if matches.opt_present(setting.name) => {
            vec![matches.opt_str(setting.name).unwrap_or_default()]
        }
        Flag | Bool => Vec::new(),
        Number(..) | Text(_) | Numbers(..) | Texts(_) => matches.opt_strs(setting.name),
    }
}

/// `PORT [ADDRESS]`
fn listener(text: &str) -> Result<(u16, Host), String> {
    let mut words = text.split_whitespace();
    let port = words
        .next()
        .and_then(|word| word.parse::<u16>().ok())
        .filter(|port| *port > 0);
    let port = port.ok_or("must be a port from 1 to 65535 and, if wanted, an address")?;
    match (words.next(), words.next()) {
        (None, _) => Ok((port, Host::Any)),
        (Some(address), None) => Ok((port, Host::Named(address.to_string()))),
        (Some(_), Some(_)) => Err("has more than a port and an address".to_string()),
    }
}

fn persistence_location(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must be a directory".to_string()),
        _ => Ok(text.to_string()),
    }
}

/// Milliseconds, see [`Durability`].
fn within(text: &str) -> Result<u64, String> {
    const LONGEST: u64 = 3_600_000;
    match text {
        "turn" => Ok(0),
        "os" => Ok(WHENEVER),
        _ => text
            .parse()
            .ok()
            .filter(|within| (1..=LONGEST).contains(within))
            .ok_or(format!(
                "must be turn, os, or milliseconds from 1 to {LONGEST}"
            )),
    }
}

fn durable(text: &str) -> Result<(Box<str>, u64), String> {
    let Some((filter, when)) = text.rsplit_once('=') else {
        return Err("must be FILTER=turn, FILTER=os, or FILTER=MILLISECONDS".to_string());
    };
    TopicFilter::parse(filter).map_err(|refusal| refusal.why.to_string())?;
    Ok((filter.into(), within(when)?))
}

fn queue_overflow(text: &str) -> Result<QueueOverflow, String> {
    match text {
        "drop-newest" => Ok(QueueOverflow::DropNewest),
        "drop-oldest" => Ok(QueueOverflow::DropOldest),
        _ => Err("must be drop-newest or drop-oldest".to_string()),
    }
}

fn auto_id_prefix(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=50 => Ok(text.to_string()),
        _ => Err("must not have more than 50 characters".to_string()),
    }
}

/// `<number><unit>`; `m` is a month of 30 days, as in Mosquitto.
fn expiration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and one of s, h, d, w, m, y, such as 14d".to_string();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'm' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    match number {
        0 => Err("must not be 0".to_string()),
        _ => Ok(Duration::from_secs(u64::from(number) * seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_that_help_shows_are_those_in_force() {
        // These are settled by other settings, or shown in words.
        let in_words = [
            "port",
            "allow-anonymous",
            "persistent-client-expiration",
            "log-type",
        ];
        let shown =
            |setting: &&Setting| !setting.default.is_empty() && !in_words.contains(&setting.name);
        let in_force = format!("{:?}", Config::default());
        for setting in SETTINGS.iter().filter(shown) {
            let mut config = Config::default();
            let value = setting.kind.parse(setting.default);
            let result = value.and_then(|value| (setting.set)(&mut config, value));
            assert_eq!(result, Ok(()), "{}", setting.name);
            assert_eq!(format!("{config:?}"), in_force, "{}", setting.name);
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for flag in [
            "free\ntext",
            "--pid-file=a\nb",
            "--listener=1883 \u{1b}[31m",
            "--no\rsuch",
        ] {
            let sentence = Config::from_flags(&[flag.to_string()]).unwrap_err();
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
        }
    }

    #[test]
    fn a_flag_for_true_or_false_takes_its_value_in_any_form() {
        let read = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            match Config::from_flags(&flags) {
                Ok(Command::Run(config)) => Ok(config.broker.retain_available),
                Ok(Command::Help | Command::Version | Command::Dump(_)) => {
                    Err("not a run".to_string())
                }
                Err(sentence) => Err(sentence),
            }
        };
        for (flags, expected) in [
            (&["--retain-available"][..], true),
            (&["--retain-available", "-q"], true),
            (&["--retain-available", "false"], false),
            (&["--retain-available=0"], false),
            (&["--retain-available", "1"], true),
        ] {
            assert_eq!(read(flags), Ok(expected), "{flags:?}");
        }
        assert!(read(&["--retain-available", "perhaps"]).is_err());
    }
}
