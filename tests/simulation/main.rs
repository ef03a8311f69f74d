//! Seeded simulation: what a seed draws, and how it is judged.
//!
//! A seed draws the broker's options, the clients, what they do and what happens to their networks
//! and to the clock. [`model`] says what the broker must send for that, [`world`] shows it every
//! byte. Then the faults stop, everybody reconnects, reads and acknowledges, and what had to arrive
//! must have arrived. Each seed is run again with another seed for the broker's hashes, this time
//! without the model, and must produce the same bytes: no order of a `HashMap` may reach the wire.
//!
//! `SEEDS=20000 cargo test --release --test simulation` runs that many; `SEED=21 cargo test --test
//! simulation -- --nocapture` runs one and prints what happens, with `ROUNDS=33` only its first 33
//! rounds; `scripts/soak.sh` runs for hours.

#[path = "../common/mod.rs"]
mod common;
#[path = "../crash/disk.rs"]
#[expect(dead_code, reason = "tampering is for tests/crash.rs")]
mod disk;

mod client;
mod model;
mod world;

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use midge::broker::limits::{Durability, Options, QueueOverflow};
use midge::packet::{
    Connect, Disconnect, Packet, Properties, PropertyBlock, PropertyId, Publish, QoS, ReasonCode,
    RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe, Version, Will,
};

use client::{Client, Reply, Role, acknowledgement, first_packet};
use common::Prng;
use world::World;

/// Seeds that once failed, and what they found. What a seed draws changes with every change of
/// [`Simulation`]: then look for another that tells the same story, or drop it.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        13,
        "a live QoS 0 message overtook those queued for the client while it was away",
    ),
    (
        78,
        "a topic alias made a message too large that had fitted without one",
    ),
    (
        1_518,
        "a message of a shared subscription was handed on after it had expired",
    ),
    (
        64_254,
        "a QoS 0 message that no member of a group could take made all behind it be lost",
    ),
];

/// Seeds of an ordinary `cargo test`.
const SEEDS: u64 = 150;

/// More than a seed draws.
const ROUNDS_MAX: u64 = 1_000;

const TOPICS: &[&str] = &[
    "a", "a/b", "a/c", "a/b/c", "b", "b/b", "x/y/z", "/", "a/", "$d/x",
];
const FILTERS: &[&str] = &[
    "#", "+", "a/#", "a/+", "+/b", "a/b", "a/b/c", "+/+/+", "b", "b/#", "x/#", "/", "+/", "$d/#",
    "w/+", "w/#", "a/+/c", "+/+", "a/b/#", "#",
];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn a_broker_keeps_its_promises_whatever_happens() {
    if let Some(seed) = number("SEED") {
        run(seed, number("ROUNDS").unwrap_or(ROUNDS_MAX), true);
        return;
    }
    for (seed, story) in REGRESSIONS {
        let result = catch_unwind(|| run(*seed, ROUNDS_MAX, false));
        assert!(result.is_ok(), "SEED={seed} fails again: {story}");
    }
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| run_some(&next, &seeds)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.flatten().collect()
    });
    if let Some(first) = failed.iter().min() {
        let rounds = shrink(*first);
        let count = failed.len();
        panic!(
            "{count} seeds failed, {failed:?}; replay: SEED={first} ROUNDS={rounds}, --nocapture"
        );
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(parse(variable, &text))
}

fn parse(variable: &str, text: &str) -> u64 {
    let number = text.parse();
    number.unwrap_or_else(|_| panic!("{variable}: {text:?} is no number"))
}

/// `SEEDS=20000` are the first so many, `SEEDS=20000..30000` those behind them.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else {
        return 0..SEEDS;
    };
    let (start, end) = text.split_once("..").unwrap_or(("0", &text));
    parse("SEEDS", start)..parse("SEEDS", end)
}

/// Runs seeds while there are more and few have failed; returns those that have.
fn run_some(next: &AtomicU64, seeds: &Range<u64>) -> Vec<u64> {
    let mut failed = Vec::new();
    while failed.len() < 3 {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !seeds.contains(&seed) {
            break;
        }
        if catch_unwind(AssertUnwindSafe(|| run(seed, ROUNDS_MAX, false))).is_err() {
            println!("SEED={seed} failed");
            failed.push(seed);
        }
    }
    failed
}

/// The fewest rounds with which a failing seed fails: most of its trace is what came before.
fn shrink(seed: u64) -> u64 {
    std::panic::set_hook(Box::new(|_| {}));
    let fails = |rounds: &u64| catch_unwind(|| run(seed, *rounds, false)).is_err();
    let fewest = (0..ROUNDS_MAX).find(fails).unwrap_or(ROUNDS_MAX);
    drop(std::panic::take_hook());
    fewest
}

fn run(seed: u64, rounds: u64, trace: bool) {
    let (first, answers) = Simulation::new(seed, 1, None, trace).run(rounds);
    let (second, _) = Simulation::new(seed, 2, Some(answers), false).run(rounds);
    for (link, (first, second)) in first.iter().zip(&second).enumerate() {
        assert!(
            first == second,
            "SEED={seed}: link {link} is sent other bytes in another run"
        );
    }
    assert_eq!(first.len(), second.len(), "SEED={seed}");
}

struct Simulation {
    prng: Prng,
    world: World,
    clients: Vec<Client>,
    options: Options,
    subscriptions: u32,
    /// No more faults.
    healing: bool,
}

/// Options whose limits a seed draws from; in two of three seeds none of them makes the broker drop
/// a message of QoS 1 or 2.
fn options(prng: &mut Prng) -> Options {
    let is_tight = prng.chance(33);
    let mut options = Options {
        upgrade_outgoing_qos: prng.chance(15),
        queue_qos0_messages: prng.chance(30),
        sys_interval: prng.chance(20).then_some(Duration::from_secs(10)),
        persistent_client_expiration: prng.chance(20).then_some(Duration::from_secs(30)),
        max_keep_alive: if prng.chance(20) { 30 } else { 0 },
        ..Options::default()
    };
    if prng.chance(50) {
        options.queue_overflow = QueueOverflow::DropOldest;
    }
    let limits = &mut options.limits;
    // The model lets an id change hands as often as clients like.
    limits.takeover_interval = 0;
    limits.packet_bytes_max = *prng.pick(&[600, 20_000, 2_000_000]);
    limits.inflight_messages_max = *prng.pick(&[1, 2, 5, 20, 100]);
    limits.inflight_bytes_max = *prng.pick(&[usize::MAX, usize::MAX, 500]);
    limits.receive_maximum = *prng.pick(&[u16::MAX, 10, 3, 1]);
    limits.topic_alias_max = *prng.pick(&[10, 2, 0]);
    limits.topic_alias_max_broker = *prng.pick(&[10, 2, 0]);
    limits.outbound_bytes_max = *prng.pick(&[1 << 20, 2_000, 300]);
    limits.queued_messages_max = 1_000_000;
    if is_tight {
        limits.queued_messages_max = *prng.pick(&[1, 2, 5, 20, 1_000]);
        limits.queued_bytes_max = *prng.pick(&[u64::MAX, 2_000, 300]);
        limits.retained_messages_max = *prng.pick(&[1_000_000, 3]);
        limits.subscriptions_max = *prng.pick(&[20_000, 3]);
    }
    if is_tight {
        // The model does not follow the figures, which would take the places of others.
        options.sys_interval = None;
    }
    options
}

impl Simulation {
    fn new(seed: u64, hash_seed: u64, answers: Option<VecDeque<bool>>, trace: bool) -> Simulation {
        let mut prng = Prng::new(seed + 1);
        let options = Options {
            seed: hash_seed,
            ..options(&mut prng)
        };
        let mut clients = Vec::new();
        for index in 0..3 + prng.below(8) {
            let version = *prng.pick(&[Version::V311, Version::V5, Version::V5]);
            let role = match (prng.below(10), version) {
                (0..2, _) => Role::Worker,
                (2..4, Version::V5) => Role::Mixed,
                (4, _) => Role::Vandal,
                _ => Role::Plain,
            };
            clients.push(Client::new(format!("c{index}"), version, role));
        }
        let mut world = World::new(options.clone(), answers, trace);
        if seed % 3 == 2 {
            let durability = Some(Durability::default());
            let kept = Options {
                durability,
                ..options.clone()
            };
            world.keep(kept, seed);
        }
        world.trace(|| format!("SEED={seed} {options:#?}"));
        Simulation {
            prng,
            world,
            clients,
            options,
            subscriptions: 0,
            healing: false,
        }
    }

    /// All bytes that each connection was sent, and what the model was asked.
    fn run(mut self, rounds_max: u64) -> (Vec<Vec<u8>>, VecDeque<bool>) {
        let rounds = 150 + self.prng.below(250) as u64;
        for _ in 0..rounds.min(rounds_max) {
            for _ in 0..1 + self.prng.below(4) {
                self.step();
            }
            self.world.turn();
            if self.world.ask(|model| model.is_blind) {
                return self.world.outcome();
            }
            if self.world.is_kept() && self.prng.chance(3) {
                let within = self.prng.chance(70).then(|| self.prng.below(12));
                self.world.cut(within);
            }
            if self.prng.chance(50) {
                let duration = *self.prng.pick(&[1, 1, 1, 7, 250, 1_000, 1_000, 5_000]);
                self.world.pass(duration);
            }
            if self.prng.chance(1) {
                let duration = *self.prng.pick(&[20_000, 70_000, 4_000_000]);
                match self.prng.chance(50) {
                    true => self.world.pass(duration),
                    false => self.world.jump(duration),
                }
            }
        }
        self.heal();
        self.world.outcome()
    }

    fn step(&mut self) {
        match self.prng.below(100) {
            0..35 => self.deliver_some(),
            35..60 => self.read_some(),
            60..97 => {
                let client = self.prng.below(self.clients.len());
                self.act(client);
            }
            _ => self.lose_some(),
        }
    }

    // ---- networks ---------------------------------------------------------------------------

    fn deliver_some(&mut self) {
        let mut links = Vec::new();
        for (index, link) in self.world.links.iter().enumerate() {
            if !link.to_broker.is_empty() {
                links.push(index);
            }
        }
        if links.is_empty() {
            return;
        }
        let link = *self.prng.pick(&links);
        let most = self.world.links[link].to_broker.len();
        let count = match self.prng.chance(60) {
            true => most,
            false => 1 + self.prng.below(most),
        };
        self.world.deliver(link, count);
    }

    fn read_some(&mut self) {
        let client = self.prng.below(self.clients.len());
        if self.clients[client].stalls {
            return;
        }
        let Some(link) = self.clients[client].link else {
            return;
        };
        let most = self.world.ready(link);
        let count = match self.prng.chance(70) {
            true => most,
            false => self.prng.below(most + 1),
        };
        self.read(client, link, count);
    }

    /// The client takes bytes and answers the packets in them.
    fn read(&mut self, client: usize, link: usize, count: usize) {
        self.world.take(link, count);
        let mut inbox = std::mem::take(&mut self.world.links[link].inbox);
        let version = self.clients[client].version;
        let mut at = 0;
        while let Some((packet, length)) = first_packet(&inbox[at..], version) {
            let replies = self.clients[client].read(&packet);
            self.reply(link, replies);
            at += length;
        }
        inbox.drain(..at);
        self.world.links[link].inbox = inbox;
        if !self.world.links[link].open && self.world.ready(link) == 0 {
            self.clients[client].disconnected();
        }
    }

    fn reply(&mut self, link: usize, replies: Vec<Reply>) {
        for reply in replies {
            match reply {
                Reply::Ack(kind, id) => self.world.write(link, &acknowledgement(kind, id)),
                Reply::Publish(bytes) => self.world.links[link].to_broker.extend(bytes),
            }
        }
    }

    fn lose_some(&mut self) {
        let open: Vec<usize> = (0..self.world.links.len())
            .filter(|link| self.world.links[*link].open)
            .collect();
        if open.is_empty() {
            return;
        }
        let link = *self.prng.pick(&open);
        self.world.lose(link);
        // The client may have seen some more of it.
        let client = self.clients.iter().position(|one| one.link == Some(link));
        if let Some(client) = client {
            let count = self.prng.below(self.world.ready(link) + 1);
            self.read(client, link, count);
            self.clients[client].disconnected();
        }
    }

    // ---- clients ----------------------------------------------------------------------------

    fn act(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else {
            return self.connect(client);
        };
        if !self.clients[client].connected {
            return;
        }
        match self.prng.below(100) {
            0..55 => self.publish(client, link),
            55..75 => self.subscribe(client, link),
            75..80 => self.unsubscribe(client, link),
            80..83 => self.world.write(link, &Packet::PingReq),
            83..85 => self.disconnect(client, link),
            85..87 => self.clients[client].stalls ^= true,
            87..91 => {
                let replies = match self.clients[client].withholds {
                    true => self.clients[client].relent(),
                    false => Vec::new(),
                };
                self.clients[client].withholds = replies.is_empty();
                self.reply(link, replies);
            }
            // It goes away and comes back; the broker does not know of it.
            91..93 => {
                self.clients[client].disconnected();
                self.connect(client);
            }
            93..95 if self.clients[client].role == Role::Vandal => self.vandalize(client, link),
            95 => self.stranger(),
            _ => {}
        }
    }

    fn connect(&mut self, client: usize) {
        let version = self.clients[client].version;
        let link = self.world.open(version);
        let prng = &mut self.prng;
        let mut properties = PropertyBlock::new();
        let mut clean_start = prng.chance(25) && !self.healing;
        let mut keep_alive = *prng.pick(&[0, 0, 5, 20, 60]);
        if self.options.max_keep_alive > 0 {
            keep_alive = *prng.pick(&[5, 20, 30]);
        }
        if self.clients[client].role == Role::Vandal {
            // What it does cannot be told from what it never did.
            clean_start = true;
        } else if version == Version::V5 {
            let expiry = *prng.pick(&[0, 5, 60, 3_600, u32::MAX]);
            if expiry > 0 {
                properties.number(PropertyId::SessionExpiryInterval, expiry);
            }
        }
        if version == Version::V5 {
            if prng.chance(50) {
                let maximum = *prng.pick(&[1, 2, 5, 20]);
                properties.number(PropertyId::ReceiveMaximum, maximum);
            }
            if prng.chance(50) {
                properties.number(PropertyId::TopicAliasMaximum, *prng.pick(&[1, 3, 20]));
            }
            if prng.chance(25) && !self.healing {
                let maximum = *prng.pick(&[40, 150, 200, 6_000]) + prng.below(60);
                properties.number(PropertyId::MaximumPacketSize, maximum as u32);
            }
            if prng.chance(20) {
                properties.number(PropertyId::RequestProblemInformation, 0);
            }
        }
        let one = &mut self.clients[client];
        one.link = Some(link);
        one.resumes = !clean_start;
        if clean_start {
            one.forget();
        }
        one.count += 1;
        let will_topic = format!("w/{}", one.name);
        let will_payload = format!("{} will {}", one.name, one.count);
        let mut will_properties = PropertyBlock::new();
        if version == Version::V5 {
            let delay = *prng.pick(&[0, 0, 3, 20, 100]);
            if delay > 0 {
                will_properties.number(PropertyId::WillDelayInterval, delay);
            }
            if prng.chance(20) && self.options.limits.retained_messages_max > 1_000 {
                will_properties.number(PropertyId::MessageExpiryInterval, 10);
            }
        }
        let will = prng.chance(40).then_some(Will {
            qos: *prng.pick(&QOS),
            retain: prng.chance(30),
            properties: will_properties.as_properties(),
            topic: &will_topic,
            payload: will_payload.as_bytes(),
        });
        let connect = Connect {
            version,
            bridge: false,
            clean_start,
            keep_alive,
            properties: properties.as_properties(),
            client_id: &self.clients[client].name.clone(),
            will: will.filter(|_| !self.healing),
            user_name: None,
            password: None,
        };
        self.world.write(link, &Packet::Connect(connect));
        if clean_start && self.prng.chance(30) {
            // Right behind it, without waiting for the CONNACK.
            self.subscribe(client, link);
            self.publish(client, link);
        }
    }

    fn disconnect(&mut self, client: usize, link: usize) {
        let is_v5 = self.clients[client].version == Version::V5;
        let mut properties = PropertyBlock::new();
        if is_v5 && self.prng.chance(30) {
            // Not all of them are right: a session that was to end cannot be prolonged.
            let expiry = *self.prng.pick(&[0, 5, 60]);
            properties.number(PropertyId::SessionExpiryInterval, expiry);
        }
        let reason = match is_v5 && self.prng.chance(30) {
            true => ReasonCode::DisconnectWithWill,
            false => ReasonCode::Success,
        };
        let properties = properties.as_properties();
        let disconnect = Disconnect { reason, properties };
        self.world.write(link, &Packet::Disconnect(disconnect));
        self.clients[client].disconnected();
    }

    fn publish(&mut self, client: usize, link: usize) {
        let prng = &mut self.prng;
        let one = &mut self.clients[client];
        let mut qos = *prng.pick(&QOS);
        if !one.may_publish() {
            qos = QoS::AtMostOnce;
        }
        let topic = *prng.pick(TOPICS);
        let retain = prng.chance(25);
        one.count += 1;
        // The second number: a vandal's flipped bit does not turn it into another's payload.
        let check = (one.count as u32).wrapping_mul(0x9E37_79B1) >> 16;
        let mut payload = format!("{} {} {check:x} ", one.name, one.count).into_bytes();
        let may_clear = retain && one.role != Role::Vandal && prng.chance(50);
        let clears = may_clear
            && self.world.links[link].to_broker.is_empty()
            && !self.world.ask(|model| model.is_under_way(topic, b""));
        if clears {
            payload.clear();
        } else {
            let large = self.options.limits.packet_bytes_max > 10_000;
            let length = match prng.below(20) {
                0 if large => 5_000,
                0..4 => 150,
                _ => prng.below(20),
            };
            payload.resize(payload.len() + length, b'.');
        }
        let mut properties = PropertyBlock::new();
        if one.version == Version::V5 {
            let may_expire = !retain || self.options.limits.retained_messages_max > 1_000;
            if prng.chance(20) && may_expire {
                let seconds = *prng.pick(&[1, 5, 60, 100_000]);
                properties.number(PropertyId::MessageExpiryInterval, seconds);
            }
            if prng.chance(20) {
                properties.pair("name", "value").pair("name", "other");
            }
            if prng.chance(10) {
                properties.number(PropertyId::PayloadFormatIndicator, 1);
                properties.text(PropertyId::ResponseTopic, "answers");
            }
        }
        let kept = properties.clone();
        let mut name = topic;
        if one.alias_max > 0 && prng.chance(40) {
            let known = one.aliases.iter().position(|known| known == topic);
            if let Some(at) = known {
                properties.number(PropertyId::TopicAlias, at as u32 + 1);
                if prng.chance(90) {
                    name = "";
                }
            } else if one.aliases.len() < usize::from(one.alias_max) {
                one.aliases.push(topic.to_string());
                properties.number(PropertyId::TopicAlias, one.aliases.len() as u32);
            }
        }
        let packet_id = (qos > QoS::AtMostOnce).then(|| one.new_id());
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic: name,
            packet_id,
            properties: properties.as_properties(),
            payload: &payload,
        };
        if packet_id.is_some() {
            one.keep(&publish, topic, kept);
        }
        self.world.write(link, &Packet::Publish(publish));
        if clears {
            // At once, so that no two of a topic are under way: they would look the same.
            let count = self.world.links[link].to_broker.len();
            self.world.deliver(link, count);
        }
    }

    fn subscribe(&mut self, client: usize, link: usize) {
        let prng = &mut self.prng;
        let one = &mut self.clients[client];
        let is_v5 = one.version == Version::V5;
        let shares = match one.role {
            Role::Plain | Role::Vandal => false,
            Role::Worker => true,
            Role::Mixed => prng.chance(50),
        };
        let has_id = is_v5 && (shares || prng.chance(50));
        let mut filters = Vec::new();
        let count = if shares { 1 } else { 1 + prng.below(3) };
        for _ in 0..count {
            let filter = match prng.chance(3) && self.options.sys_interval.is_some() {
                true => "$SYS/broker/clients/#",
                false => *prng.pick(FILTERS),
            };
            let mut text = filter.to_string();
            if shares {
                let filter = if filter.starts_with('$') {
                    "a/#"
                } else {
                    filter
                };
                text = format!("$share/{}/{filter}", prng.pick(&["g", "h"]));
                if !is_v5 {
                    text = one.share.get_or_insert(text).clone();
                }
            }
            let mut options = SubscriptionOptions::new(*prng.pick(&QOS));
            if shares && prng.chance(80) {
                options.qos = options.qos.max(QoS::AtLeastOnce);
            }
            if filter.starts_with("$SYS") && self.options.limits.queued_messages_max < 10_000 {
                options.qos = QoS::AtMostOnce;
            }
            if is_v5 {
                options.no_local = prng.chance(20) && !shares;
                // Without an id, what is live could not be told from what is replayed.
                options.retain_as_published = has_id && prng.chance(60);
                let all = [
                    RetainHandling::Send,
                    RetainHandling::Send,
                    RetainHandling::SendIfNew,
                    RetainHandling::DoNotSend,
                ];
                options.retain_handling = *prng.pick(&all);
            }
            filters.push((text, options));
        }
        let mut properties = PropertyBlock::new();
        if has_id {
            self.subscriptions += 1;
            properties.number(PropertyId::SubscriptionIdentifier, self.subscriptions);
        }
        let filters = filters.iter().map(|(text, options)| (&text[..], *options));
        let subscribe = Subscribe {
            packet_id: one.new_id(),
            properties: properties.as_properties(),
            filters: filters.collect(),
        };
        self.world.write(link, &Packet::Subscribe(subscribe));
    }

    fn unsubscribe(&mut self, client: usize, link: usize) {
        let one = &mut self.clients[client];
        let mut filter = self.prng.pick(FILTERS).to_string();
        if matches!(one.role, Role::Worker | Role::Mixed) && self.prng.chance(50) {
            filter = match &one.share {
                Some(share) => share.clone(),
                None => format!("$share/{}/{filter}", self.prng.pick(&["g", "h"])),
            };
        }
        let unsubscribe = Unsubscribe {
            packet_id: one.new_id(),
            properties: Properties::NONE,
            filters: vec![&filter, "never/subscribed"],
        };
        self.world.write(link, &Packet::Unsubscribe(unsubscribe));
    }

    /// A packet with a byte changed, or one that is wrong in itself.
    fn vandalize(&mut self, client: usize, link: usize) {
        let mut bytes = Vec::new();
        if self.prng.chance(50) {
            let wrong: &[&[u8]] = &[
                &[0x00, 0x00],
                &[0xF0, 0x00],
                &[0x36, 0x03, 0, 1, b'a'],
                &[0x30, 0x03, 0, 1, b'#'],
                &[0x32, 0x05, 0, 1, b'a', 0, 0],
                &[0x40, 0x02, 0, 0],
                &[0x50, 0x02, 0, 77],
                &[0x62, 0x02, 0, 77],
                &[0x70, 0x02, 0, 77],
                &[0x40, 0x02, 0, 77],
                &[0x80, 0x02, 0, 1],
                &[0x82, 0x02, 0, 1],
                &[0x20, 0x02, 0, 0],
                &[0xC0, 0x01, 0],
                &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
                &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
                &[0x10, 0x00],
            ];
            let wrong = *self.prng.pick::<&[u8]>(wrong);
            bytes.extend_from_slice(wrong);
        } else {
            let before = self.world.links[link].to_broker.len();
            self.publish(client, link);
            let written = self.world.links[link].to_broker.make_contiguous();
            bytes.extend_from_slice(&written[before..]);
            self.world.links[link].to_broker.truncate(before);
            let at = self.prng.below(bytes.len());
            bytes[at] ^= 1 << self.prng.below(8);
        }
        self.world.trace(|| format!("    {link} writes {bytes:x?}"));
        self.world.links[link].to_broker.extend(&bytes);
    }

    /// Somebody who does not speak MQTT, or says nothing.
    fn stranger(&mut self) {
        let link = self.world.open(Version::V5);
        let words: &[&[u8]] = &[
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            b"\xC0\x00",
            b"\x00",
        ];
        let words = *self.prng.pick(words);
        self.world.links[link].to_broker.extend(words);
    }

    // ---- the end ----------------------------------------------------------------------------

    /// No more faults: everybody reconnects, reads and acknowledges everything.
    fn heal(&mut self) {
        self.healing = true;
        self.world.secure();
        self.world.trace(|| "healing".to_string());
        for one in &mut self.clients {
            if one.role == Role::Vandal {
                one.disconnected();
            }
        }
        for link in 0..self.world.links.len() {
            if !self.clients.iter().any(|one| one.link == Some(link)) {
                self.world.lose(link);
            }
        }
        self.world.turn();
        self.drain();
        self.world.check_drained();
        // What is retained, to the last message: the model expects all of it.
        let fresh = Client::new("fresh".to_string(), Version::V5, Role::Plain);
        self.clients.push(fresh);
        self.drain();
        let link = self.clients.last().and_then(|one| one.link);
        let options = SubscriptionOptions::new(QoS::ExactlyOnce);
        let subscribe = Subscribe {
            packet_id: 1,
            properties: Properties::NONE,
            filters: vec![("#", options), ("$d/#", options)],
        };
        let link = link.expect("it is connected");
        self.world.write(link, &Packet::Subscribe(subscribe));
        self.drain();
        self.world.check_drained();
    }

    fn drain(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 10_000, "what is under way never comes to an end");
            let mut is_quiet = true;
            for client in 0..self.clients.len() {
                let one = &mut self.clients[client];
                one.stalls = false;
                let Some(link) = one.link else {
                    self.connect(client);
                    is_quiet = false;
                    continue;
                };
                let replies = one.relent();
                self.reply(link, replies);
                let count = self.world.links[link].to_broker.len();
                self.world.deliver(link, count);
                self.world.turn();
                let ready = self.world.ready(link);
                is_quiet &= count == 0 && ready == 0 && self.world.links[link].open;
                self.read(client, link, ready);
                self.world.turn();
            }
            if is_quiet {
                break;
            }
        }
        for one in &self.clients {
            assert!(!one.has_unacknowledged(), "{} was not answered", one.name);
        }
    }
}
