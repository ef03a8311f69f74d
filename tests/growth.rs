//! What many filters do to a publish: nothing; and hostile ones: no more than the limits say.
//!
//! A broker without sockets, as in the other stories, but without its invariants being checked at
//! every step, which would look at all filters each time. Nothing here measures time: the index
//! looks once for a topic as it stands and once for each pattern of wildcards that fits, so the
//! patterns that were let in are the bound. `src/broker/subscriptions.rs` counts the patterns that
//! fit in a test of its own, and `scripts/instructions.sh` all instructions.

#[path = "common/mod.rs"]
mod common;
#[path = "../benches/scenarios/topics.rs"]
mod topics;

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::time::Instant;

use common::{Prng, connect, publish, subscribe};
use midge::broker::limits::{Limits, Options};
use midge::broker::{Broker, ConnectionId, Turn};
use midge::packet::{self, Packet, QoS, ReasonCode, SubscriptionOptions, Version};
use topics::filter_and_topic;

/// A build without optimization would take half a minute for all of them.
const FILTERS: usize = if cfg!(debug_assertions) {
    20_000
} else {
    1_000_000
};
const FILTERS_PER_CLIENT: usize = 10_000;
const FILTERS_PER_SUBSCRIBE: usize = 1_000;
/// Levels of the topics that hostile patterns are made for.
const HOSTILE_LEVELS: usize = 12;

#[test]
fn a_publish_reaches_its_one_subscriber_among_a_million_filters_and_hostile_ones() {
    let mut crowd = Crowd::new();
    let publisher = crowd.connect("publisher");
    let owners: Vec<ConnectionId> = (0..FILTERS / FILTERS_PER_CLIENT)
        .map(|number| {
            let client = crowd.connect(&format!("client-{number}"));
            let first = number * FILTERS_PER_CLIENT;
            let filters =
                (first..first + FILTERS_PER_CLIENT).map(|index| filter_and_topic(index).0);
            crowd.expect_granted(client, &filters.collect::<Vec<_>>());
            client
        })
        .collect();
    crowd.bring_up_all_patterns();
    let mut prng = Prng::new(1);
    for _ in 0..1_000 {
        let index = prng.below(FILTERS);
        let topic = filter_and_topic(index).1;
        let reached = crowd.publish(publisher, &topic);
        assert_eq!(reached, [owners[index / FILTERS_PER_CLIENT]], "{topic}");
        assert_eq!(crowd.publish(publisher, &format!("beside/{topic}")), []);
    }
}

#[test]
fn the_patterns_of_all_clients_together_have_a_cap() {
    let mut crowd = Crowd::new();
    let hostile = crowd.bring_up_all_patterns();
    assert_eq!(crowd.patterns.len(), Limits::WILDCARD_SHAPES_MAX);
    assert_eq!(hostile.len(), 16);
    // Patterns that are there are everybody's, and filters without wildcards need none.
    let honest = crowd.connect("honest");
    let there = hostile_filter(1, "honest");
    crowd.expect_granted(honest, &[there, "a/b/c".to_string()]);
    let new = ["+/and/another/+/pattern".to_string()];
    assert_eq!(crowd.subscribe(honest, &new), [ReasonCode::QuotaExceeded]);
    // Once a hostile client has left, there is room again for what it had brought up.
    crowd.lose(hostile[0]);
    assert_eq!(crowd.subscribe(honest, &new), [ReasonCode::Success]);
}

#[test]
fn one_client_has_no_more_than_its_share_of_the_patterns() {
    let mut crowd = Crowd::new();
    let client = crowd.connect("hostile");
    let filters: Vec<String> = (0..1_000)
        .map(|number| hostile_filter(number, "x"))
        .collect();
    let reasons = crowd.subscribe(client, &filters);
    let (granted, refused) = reasons.split_at(Limits::WILDCARD_SHAPES_PER_SESSION);
    assert!(granted.iter().all(|reason| *reason == ReasonCode::Success));
    assert!(
        refused
            .iter()
            .all(|reason| *reason == ReasonCode::QuotaExceeded)
    );
    assert_eq!(crowd.patterns.len(), Limits::WILDCARD_SHAPES_PER_SESSION);
}

/// A topic of n levels fits 2^n patterns with `+` and no `#`, less the one without either, and 2^k
/// for every place k, from 0 to n, where a `#` can stand.
#[test]
fn short_topics_fit_few_patterns_however_many_there_are() {
    let mut crowd = Crowd::new();
    let publisher = crowd.connect("publisher");
    let mut subscribers = BTreeSet::new();
    for number in 0..40 {
        let client = crowd.connect(&format!("client-{number}"));
        let own = crowd.subscribe(client, &every_pattern(&["a", "b", "c"], number));
        if own.contains(&ReasonCode::Success) {
            subscribers.insert(client);
        }
    }
    assert_eq!(subscribers.len(), 22, "3 * 2^3 - 2 patterns fit a/b/c");
    assert_eq!(crowd.patterns.len(), 22);
    assert_eq!(crowd.publish(publisher, "a/b/c").len(), 22);
}

/// The pattern of that number for a topic, if there are as many: those with a `#` at each place,
/// then those without.
fn every_pattern(topic: &[&str], number: usize) -> Vec<String> {
    let with = |bits: usize, levels: usize| {
        let level = |(at, level): (usize, &&str)| match bits >> at & 1 {
            1 => "+".to_string(),
            _ => level.to_string(),
        };
        topic[..levels]
            .iter()
            .enumerate()
            .map(level)
            .collect::<Vec<_>>()
    };
    let multi = (0..=topic.len()).flat_map(|levels| {
        (0..1 << levels).map(move |bits| {
            let mut pattern = with(bits, levels);
            pattern.push("#".to_string());
            pattern
        })
    });
    let single = (1..1 << topic.len()).map(|bits| with(bits, topic.len()));
    let pattern = multi.chain(single).nth(number);
    pattern.into_iter().map(|levels| levels.join("/")).collect()
}

/// A pattern of wildcards of its own for every `number` up to 2,048; `name` keeps it from matching.
fn hostile_filter(number: usize, name: &str) -> String {
    let mut levels = vec![name];
    levels.extend(
        (1..HOSTILE_LEVELS).map(|level| match number >> (level - 1) & 1 {
            1 => "+",
            _ => "x",
        }),
    );
    levels.push("#");
    levels.join("/")
}

// ---- many clients ---------------------------------------------------------------------------

struct Crowd {
    broker: Broker,
    now: Instant,
    turn: Turn,
    /// The patterns of wildcards among the filters that were granted.
    patterns: BTreeSet<String>,
}

impl Crowd {
    fn new() -> Crowd {
        let now = Instant::now();
        let options = Options {
            sys_interval: None,
            seed: 7,
            ..Options::default()
        };
        Crowd {
            broker: Broker::new(options, now),
            now,
            turn: Turn::default(),
            patterns: BTreeSet::new(),
        }
    }

    fn connect(&mut self, client_id: &str) -> ConnectionId {
        let client = self.broker.open(0, ([192, 0, 2, 1], 1883), self.now);
        let sent = self.say(client, &Packet::Connect(connect(Version::V5, client_id)));
        assert_eq!(sent.len(), 1, "a CONNACK");
        client
    }

    fn lose(&mut self, client: ConnectionId) {
        self.broker.lost(client, self.now);
        self.end_turn();
    }

    fn subscribe(&mut self, client: ConnectionId, filters: &[String]) -> Vec<ReasonCode> {
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| (&filter[..], options))
            .collect();
        let mut all = Vec::new();
        for some in filters.chunks(FILTERS_PER_SUBSCRIBE) {
            let sent = self.say(client, &subscribe(1, some));
            let reasons = match packet::decode(&sent[0].1, Version::V5, usize::MAX) {
                Ok(Some((Packet::SubAck(suback), _))) => suback.reasons,
                other => panic!("expected SUBACK, got {other:?}"),
            };
            for ((filter, _), reason) in some.iter().zip(&reasons) {
                let pattern = pattern_of(filter);
                if *reason == ReasonCode::Success && pattern.contains(['+', '#']) {
                    self.patterns.insert(pattern);
                }
            }
            all.extend(reasons);
        }
        all
    }

    fn expect_granted(&mut self, client: ConnectionId, filters: &[String]) {
        let reasons = self.subscribe(client, filters);
        assert!(reasons.iter().all(|reason| *reason == ReasonCode::Success));
    }

    /// Hostile clients bring up twice as many patterns as are let in; returns those who got any.
    fn bring_up_all_patterns(&mut self) -> Vec<ConnectionId> {
        let mut clients = Vec::new();
        let share = Limits::WILDCARD_SHAPES_PER_SESSION;
        for number in 0..2 * Limits::WILDCARD_SHAPES_MAX / share {
            let name = format!("hostile-{number}");
            let client = self.connect(&name);
            let numbers = number * share..(number + 1) * share;
            let filters: Vec<String> = numbers
                .map(|number| hostile_filter(number, &name))
                .collect();
            let before = self.patterns.len();
            self.subscribe(client, &filters);
            assert!(self.patterns.len() <= Limits::WILDCARD_SHAPES_MAX);
            if self.patterns.len() > before {
                clients.push(client);
            }
        }
        clients
    }

    /// Who got it.
    fn publish(&mut self, client: ConnectionId, topic: &str) -> Vec<ConnectionId> {
        let sent = self.say(client, &Packet::Publish(publish(topic, "payload")));
        sent.into_iter().map(|(client, _)| client).collect()
    }

    /// What everybody is sent thereupon.
    fn say(&mut self, client: ConnectionId, packet: &Packet) -> Vec<(ConnectionId, Vec<u8>)> {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        self.broker.receive(client, &bytes, self.now);
        self.end_turn()
    }

    fn end_turn(&mut self) -> Vec<(ConnectionId, Vec<u8>)> {
        let Crowd {
            broker, turn, now, ..
        } = self;
        broker.end_turn(turn, *now);
        let mut all = Vec::new();
        for id in &turn.flush {
            let mut slices = [IoSlice::new(&[]); 16];
            let used = broker.outbound(*id, &mut slices);
            let bytes: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            broker.sent(*id, bytes.len());
            all.push((*id, bytes));
        }
        turn.close.iter().for_each(|id| broker.forget(*id));
        all
    }
}

/// The filter with every literal level made the same.
fn pattern_of(filter: &str) -> String {
    let levels = filter.split('/').map(|level| match level {
        "+" | "#" => level,
        _ => "x",
    });
    levels.collect::<Vec<_>>().join("/")
}
