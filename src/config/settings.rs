//! The table: a row says all about a setting. Its name (Mosquitto's option with `-` for `_`), its
//! short flag, what values it takes, its default, what it does, and where it goes. The parser and
//! `--help` follow from it.

use std::time::Duration;

use super::Config;
use super::values::{
    auto_id_prefix, durable, expiration, listener, persistence_location, queue_overflow, within,
};
use crate::logging::{Destination, LogType, TimeFormat};
use crate::net::Host;
use crate::packet::QoS;

/// What a setting is set to, already known to be within its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
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
pub enum Kind {
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

pub struct Setting {
    pub name: &'static str,
    pub short: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
    pub set: fn(&mut Config, Value) -> Result<(), String>,
}

const U32: i64 = u32::MAX as i64;
const PACKET_BYTES_MAX: i64 = 268_435_460;
const NONE: &str = "";

#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
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
    pub fn parse(self, text: &str) -> Result<Value<'_>, String> {
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

    pub fn hint(self) -> String {
        match self {
            Flag => String::new(),
            Bool => " true|false".to_string(),
            Number(_, _, hint) | Numbers(_, _, hint) | Text(hint) | Texts(hint) => {
                format!(" {hint}")
            }
        }
    }
}
