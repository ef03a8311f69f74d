//! `$SYS/broker/…`: the server's own figures, published like any message.
//!
//! The topics are Mosquitto's, so that dashboards and exporters go on working, and the counters
//! per packet type, which Mosquitto's manual names and its code never publishes. Nothing runs
//! while nobody is subscribed: the first subscriber finds them brought up to date, and a timer
//! keeps them so as long as there is one.

use std::time::Instant;

use super::Broker;
use super::deadlines::{Deadline, Millis, Timer};
use super::deliver::Publication;
use super::journal::Storage;
use super::message::Content;
use super::storage::StorageFigures;
use crate::packet::{PacketType, Properties, QoS, ReasonCode, Refusal, TopicName};

/// What is counted as it happens.
#[derive(Debug, Default)]
pub struct Counters {
    received: [u64; 16],
    sent: [u64; 16],
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub publish_bytes_received: u64,
    pub publish_bytes_sent: u64,
    /// Messages a client should have got and did not.
    pub dropped: u64,
    /// Sockets opened.
    pub sockets: u64,
    /// Most sessions at once.
    pub clients_maximum: u64,
    /// Sessions that expired.
    pub expired: u64,
    /// CONNECTs that were not accepted.
    pub refused: u64,
    /// Those among them that were to prove who they are, and did not.
    pub auth_refused: u64,
    /// Connections that ended as another came with the same id, and those that were not let in, as
    /// that was too often.
    pub takeovers: u64,
    pub takeovers_refused: u64,
    /// Messages that their publishers had no right to publish, wills included, and subscriptions
    /// that clients had no right to.
    publishes_denied: u64,
    pub subscriptions_denied: u64,
    /// Clients whose passwords were right.
    pub auth_accepted: u64,
}

impl Counters {
    pub fn packet_in(&mut self, packet: PacketType) {
        self.received[packet as usize] += 1;
    }

    pub fn packet_out(&mut self, packet: PacketType) {
        self.sent[packet as usize] += 1;
    }

    /// A message is not published.
    pub fn publish_refused(&mut self, refusal: Refusal) {
        self.dropped += 1;
        if refusal.code == ReasonCode::NotAuthorized {
            self.publishes_denied += 1;
        }
    }

    fn load(&self) -> [u64; LOADS.len()] {
        let publish = PacketType::Publish as usize;
        [
            self.received.iter().sum(),
            self.sent.iter().sum(),
            self.dropped,
            self.received[publish],
            self.sent[publish],
            self.bytes_received,
            self.bytes_sent,
            self.sockets,
            self.received[PacketType::Connect as usize],
        ]
    }
}

/// Topics under `$SYS/broker/load/`, in the order of [`Counters::load`].
const LOADS: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/dropped",
    "publish/received",
    "publish/sent",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];
const MINUTES: [(f64, &str); 3] = [(1.0, "1min"), (5.0, "5min"), (15.0, "15min")];

/// What is wrong with the disk.
const ALARM: &str = "store/alarm";
/// In milliseconds.
const DAY: u128 = 86_400_000;

/// After that long nobody is sent a line of the log any more.
const LOG_LINE_EXPIRES: Millis = 20_000;

/// Figures that young are not gathered again.
const FRESH: Millis = 1_000;

#[derive(Debug)]
pub struct Sys {
    deadline: Deadline,
    /// What was published last, in the order of the list.
    published: Vec<String>,
    /// The counters when the averages were last brought up to date.
    counted: [u64; LOADS.len()],
    averages: [[f64; MINUTES.len()]; LOADS.len()],
    averaged: Millis,
    memory_maximum: u64,
    pub storage: StorageFigures,
    /// What is wrong with the disk has changed, and was not published.
    pub is_alarm_due: bool,
}

impl Sys {
    pub fn new() -> Sys {
        Sys {
            deadline: Deadline::default(),
            published: Vec::new(),
            counted: [0; LOADS.len()],
            averages: [[0.0; MINUTES.len()]; LOADS.len()],
            averaged: 0,
            memory_maximum: 0,
            storage: StorageFigures::default(),
            is_alarm_due: false,
        }
    }

    /// The clock goes on from an earlier run, whose traffic is not counted.
    pub fn restored(&mut self, now: Millis) {
        self.averaged = now;
    }

    /// What is in use now.
    pub fn note_memory(&mut self, bytes: u64) {
        self.memory_maximum = self.memory_maximum.max(bytes);
    }

    /// Exponential averages per minute over 1, 5 and 15 minutes.
    fn average(&mut self, counters: &Counters, now: Millis) {
        let minutes = now.saturating_sub(self.averaged) as f64 / 60_000.0;
        if minutes <= 0.0 {
            return;
        }
        let load = counters.load();
        for (row, (new, old)) in self.averages.iter_mut().zip(load.iter().zip(&self.counted)) {
            let rate = (new - old) as f64 / minutes;
            for (average, (span, _)) in row.iter_mut().zip(MINUTES) {
                *average = rate + (*average - rate) * (-minutes / span).exp();
            }
        }
        self.counted = load;
        self.averaged = now;
    }
}

impl Broker {
    pub(super) fn on_sys_interval(&mut self, now: Millis) {
        self.sys.deadline = Deadline::default();
        self.refresh_sys(now);
        self.update_sys_timer(now);
    }

    /// Runs the timer while somebody listens.
    pub(super) fn update_sys_timer(&mut self, now: Millis) {
        let wanted = self
            .options
            .sys_interval
            .filter(|_| self.subscriptions.sys_count() > 0);
        let deadline = &mut self.sys.deadline;
        match wanted {
            Some(interval) if !deadline.is_armed() => {
                let at = now + interval.as_millis() as Millis;
                self.deadlines.arm(deadline, at, Timer::Sys);
            }
            Some(_) => {}
            None => self.deadlines.disarm(deadline, Timer::Sys),
        }
    }

    /// The interval is another.
    pub(super) fn restart_sys_timer(&mut self, now: Millis) {
        self.deadlines.disarm(&mut self.sys.deadline, Timer::Sys);
        self.update_sys_timer(now);
    }

    /// Publishes what has changed.
    pub(super) fn refresh_sys(&mut self, now: Millis) {
        // Subscribing again and again must not make us count again and again.
        let fresh = !self.sys.published.is_empty() && now.saturating_sub(self.sys.averaged) < FRESH;
        if self.options.sys_interval.is_none() || fresh {
            return;
        }
        self.sys.average(&self.connections.counters, now);
        let values = self.sys_values(now);
        self.sys.published.resize(values.len(), String::new());
        for (index, (topic, value)) in values.into_iter().enumerate() {
            if self.sys.published[index] != value {
                self.publish_sys(&topic, &value, now);
                self.sys.published[index] = value;
            }
        }
    }

    fn publish_sys(&mut self, topic: &str, value: &str, now: Millis) {
        let topic = format!("$SYS/broker/{topic}");
        let content = Content {
            topic: TopicName::trusted(topic.as_bytes()),
            properties: Properties::NONE,
            payload: value.as_bytes(),
            expires_at: None,
            message: None,
        };
        let publication = Publication {
            content,
            qos: QoS::ExactlyOnce,
            retain: true,
            publisher: None,
        };
        // A full store for retained messages costs the figures, nothing else.
        let _ = self.publish(&publication, now);
    }

    /// Publishes a line of the log, as Mosquitto does: not retained, and not for long.
    pub fn publish_log_line(&mut self, topic: &str, line: &[u8], now: Instant) {
        if self.subscriptions.sys_count() == 0 {
            return;
        }
        let now = self.millis(now);
        let topic = format!("$SYS/broker/log/{topic}");
        let content = Content {
            topic: TopicName::trusted(topic.as_bytes()),
            properties: Properties::NONE,
            payload: line,
            expires_at: Some(now + LOG_LINE_EXPIRES),
            message: None,
        };
        let publication = Publication {
            content,
            qos: QoS::ExactlyOnce,
            retain: false,
            publisher: None,
        };
        // Who cannot be sent it goes without.
        let _ = self.publish(&publication, now);
    }

    fn sys_values(&mut self, now: Millis) -> Vec<(String, String)> {
        let mut values = Vec::with_capacity(90);
        self.client_values(now, &mut values);
        self.message_values(&mut values);
        self.traffic_values(&mut values);
        if self.journal.is_on() {
            self.storage_values(now, &mut values);
        }
        if self.has_memory_limit() {
            self.memory_values(&mut values);
        }
        values
    }

    fn storage_values(&self, now: Millis, values: &mut Vec<(String, String)>) {
        let StorageFigures {
            bytes_written,
            syncs,
            sync_micros,
            live_bytes,
            total_bytes,
            damaged_parts,
        } = self.sys.storage;
        let running = (now - self.started_at).max(1);
        let per_day = u128::from(bytes_written) * DAY / u128::from(running);
        for (topic, value) in [
            ("bytes/written", bytes_written),
            ("bytes/written/per day", per_day as u64),
            ("syncs", syncs),
            ("sync/microseconds", sync_micros),
            ("bytes/live", live_bytes),
            ("bytes/total", total_bytes),
            ("damaged", damaged_parts),
        ] {
            values.push((format!("store/{topic}"), value.to_string()));
        }
        values.push((ALARM.to_string(), self.alarm().to_string()));
    }

    fn memory_values(&self, values: &mut Vec<(String, String)>) {
        let figures = &self.memory.figures;
        for (topic, value) in [
            ("limit", self.options.limits.memory_bytes_max),
            ("refused", figures.refused),
            ("dropped", figures.dropped),
            ("slowed", figures.slowed),
            ("disconnected", figures.disconnected),
        ] {
            values.push((format!("memory/{topic}"), value.to_string()));
        }
    }

    fn alarm(&self) -> &'static str {
        match self.journal.storage {
            Storage::Good => "none",
            Storage::Full | Storage::Stuck => "full",
            Storage::Broken => "broken",
        }
    }

    /// At once, for those who look after the server.
    pub(super) fn publish_alarm(&mut self, now: Millis) {
        if std::mem::take(&mut self.sys.is_alarm_due) {
            self.publish_sys(ALARM, self.alarm(), now);
        }
    }

    fn client_values(&mut self, now: Millis, values: &mut Vec<(String, String)>) {
        let version = concat!("midge version ", env!("CARGO_PKG_VERSION"));
        values.push(("version".to_string(), version.to_string()));
        let uptime = (now - self.started_at) / 1_000;
        values.push(("uptime".to_string(), format!("{uptime} seconds")));
        let total = self.sessions.len() as u64;
        let connected = self.connected as u64;
        let memory = (self.options.memory_in_use)();
        self.sys.note_memory(memory);
        let counters = &self.connections.counters;
        for (topic, value) in [
            ("clients/total", total),
            ("clients/maximum", counters.clients_maximum),
            ("clients/disconnected", total - connected),
            ("clients/inactive", total - connected),
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/expired", counters.expired),
            ("clients/refused", counters.refused),
            ("clients/takeovers", counters.takeovers),
            ("clients/takeovers/refused", counters.takeovers_refused),
            ("auth/refused", counters.auth_refused),
            ("auth/accepted", counters.auth_accepted),
            ("auth/waiting", self.checks.waiting.len() as u64),
            ("auth/publish/refused", counters.publishes_denied),
            ("auth/subscribe/refused", counters.subscriptions_denied),
            ("connections/socket/count", self.connections.len() as u64),
            ("heap/current", memory),
            ("heap/maximum", self.sys.memory_maximum),
        ] {
            values.push((topic.to_string(), value.to_string()));
        }
    }

    fn message_values(&self, values: &mut Vec<(String, String)>) {
        // What many wait for counts for each, and what is on disk counts: more than memory has.
        let mut stored = self.retained.len() as u64;
        let mut stored_bytes = self.retained.bytes();
        for (_, session) in self.sessions.iter() {
            let pending = session.pending();
            stored += (pending.waiting_count() + pending.inflight_count()) as u64;
            stored_bytes += pending.stored_bytes();
        }
        let (mut packets, mut bytes) = (0, 0_u64);
        for (_, connection) in self.connections.iter() {
            packets += connection.outbound.packets();
            bytes += connection.outbound.len() as u64;
        }
        for (topic, value) in [
            ("messages/stored", stored),
            ("store/messages/count", stored),
            ("store/messages/bytes", stored_bytes),
            (
                "subscriptions/count",
                self.subscriptions.plain_count() as u64,
            ),
            (
                "shared_subscriptions/count",
                self.subscriptions.shared_count() as u64,
            ),
            ("retained messages/count", self.retained.len() as u64),
            ("packet/out/count", packets),
            ("packet/out/bytes", bytes),
        ] {
            values.push((topic.to_string(), value.to_string()));
        }
    }

    fn traffic_values(&self, values: &mut Vec<(String, String)>) {
        let counters = &self.connections.counters;
        let publish = PacketType::Publish as usize;
        for (topic, value) in [
            ("messages/received", counters.received.iter().sum()),
            ("messages/sent", counters.sent.iter().sum()),
            ("bytes/received", counters.bytes_received),
            ("bytes/sent", counters.bytes_sent),
            ("publish/bytes/received", counters.publish_bytes_received),
            ("publish/bytes/sent", counters.publish_bytes_sent),
            ("publish/messages/received", counters.received[publish]),
            ("publish/messages/sent", counters.sent[publish]),
            ("publish/messages/dropped", counters.dropped),
        ] {
            values.push((topic.to_string(), value.to_string()));
        }
        for packet in PacketType::ALL {
            let name = format!("{packet:?}").to_lowercase();
            let (received, sent) = (
                counters.received[packet as usize],
                counters.sent[packet as usize],
            );
            values.push((format!("mqtt/{name}/received"), received.to_string()));
            values.push((format!("mqtt/{name}/sent"), sent.to_string()));
        }
        for (topic, averages) in LOADS.iter().zip(&self.sys.averages) {
            for (average, (_, span)) in averages.iter().zip(MINUTES) {
                values.push((format!("load/{topic}/{span}"), format!("{average:.2}")));
            }
        }
    }
}
