//! What it costs to find those who want a message: nanoseconds per PUBLISH, bytes per subscription.
//!
//! ```text
//! cargo bench --bench routing [-- --quick]
//! ```
//!
//! A whole broker without sockets: clients subscribe, one publishes, everything as bytes. So a
//! time holds reading the PUBLISH, finding its subscriber and writing it for him; the column
//! "nobody" is the same for topics that nobody wants, that is, nearly all reading and finding. 64
//! publishes make a turn. `--quick` leaves out the million of filters.

#[path = "scenarios/topics.rs"]
mod topics;

use std::env;
use std::fs;
use std::io::IoSlice;
use std::process::Command;
use std::time::{Duration, Instant};

use midge::broker::limits::Options;
use midge::broker::{Broker, ConnectionId, Turn};
use midge::packet::{
    Connect, Packet, Properties, Publish, QoS, Subscribe, SubscriptionOptions, Version,
};
use topics::filter_and_topic;

const ROUNDS: usize = 9;
/// Publishes of a round, and of one where each takes long.
const PUBLISHES: usize = 20_000;
const SLOW_PUBLISHES: usize = 640;
const PUBLISHES_PER_TURN: usize = 64;
const FILTERS_PER_SUBSCRIBE: usize = 100;
const CLIENTS: usize = 100;
const SHAPES_PER_CLIENT: usize = 64;
const RETAINED: usize = 50_000;
/// How this program asks itself for memory, see [`bytes_of`]: with a number of filters, or this.
const MEMORY_FLAG: &str = "--memory-of";
const RETAINED_MEMORY: &str = "retained";
const PAYLOAD: &[u8] = &[b'x'; 32];

fn main() {
    let flags: Vec<String> = env::args().skip(1).collect();
    if let [flag, what, ..] = &flags[..]
        && flag == MEMORY_FLAG
    {
        return println!("{}", bytes_taken(what));
    }
    print_filters(flags.iter().any(|flag| flag == "--quick"));
    print_hostile();
    print_fan_out();
    print_retained();
}

// ---- many filters ---------------------------------------------------------------------------

fn print_filters(quick: bool) {
    println!("filters: 70 % exact, 20 % with +, 10 % with #; each publish matches one");
    println!(
        "{:<34} {:>12} {:>12} {:>14} {:>14}",
        "", "ns/publish", "nobody", "subscribe ns", "bytes/filter"
    );
    let counts: &[usize] = if quick {
        &[10, 10_000]
    } else {
        &[10, 10_000, 1_000_000]
    };
    for &count in counts {
        // A few pages say nothing about ten of them.
        let bytes = match count {
            10 => "-".to_string(),
            _ => format!("{}", bytes_of(&count.to_string()) / count as u64),
        };
        let mut world = World::new();
        let clients = CLIENTS.min(count);
        let subscribing = world.subscribe_all(clients, count, |index| filter_and_topic(index).0);
        let subscribing = subscribing.as_nanos() as f64 / count as f64;
        let (matched, unmatched) =
            world.time_routes(PUBLISHES, count, |index| filter_and_topic(index).1);
        println!(
            "{:<34} {matched:>12.0} {unmatched:>12.0} {subscribing:>14.0} {bytes:>14}",
            format!("{count} filters"),
        );
    }
}

// ---- hostile filters ------------------------------------------------------------------------

fn print_hostile() {
    println!("\nhostile filters: every one has another pattern of wildcards, and a # at its end");
    println!("{:<34} {:>12} {:>12}", "", "ns/publish", "nobody");
    for (patterns, levels) in [(64, 11), (1_024, 11), (1_024, 127)] {
        let mut world = World::new();
        let clients = patterns / SHAPES_PER_CLIENT;
        world.subscribe_all(clients, patterns, |index| pattern(index, levels, index));
        let topic = |index| {
            let filter = pattern(index, levels, index);
            filter.replace('+', "x").replace('#', "end")
        };
        let (matched, unmatched) = world.time_routes(SLOW_PUBLISHES, patterns, topic);
        let name = format!("{patterns} of {levels} levels");
        println!("{name:<34} {matched:>12.0} {unmatched:>12.0}");
    }
    let mut world = World::new();
    world.subscribe_all(16, 1_024, |index| pattern(index, 11, 0));
    let (matched, unmatched) =
        world.time_routes(SLOW_PUBLISHES, 1, |_| pattern(0, 11, 0).replace('#', "end"));
    let name = "1024 of 11 levels, all match";
    println!("{name:<34} {matched:>12.0} {unmatched:>12.0}");
}

/// A name, and `levels` in all of which the first ten are `+` where `bits` has a one; and `#`.
fn pattern(bits: usize, levels: usize, name: usize) -> String {
    let wildcards = (1..levels).map(|level| match level <= 10 && bits >> (level - 1) & 1 == 1 {
        true => "+",
        false => "x",
    });
    let levels: Vec<&str> = wildcards.collect();
    format!("h{name}/{}/#", levels.join("/"))
}

// ---- one to many ----------------------------------------------------------------------------

fn print_fan_out() {
    println!("\nfan-out: one topic, every client subscribes to it");
    println!("{:<34} {:>12}", "", "ns/delivery");
    for clients in [1, 100, 1_000] {
        let mut world = World::new();
        for index in 0..clients {
            let client = world.connect(&format!("subscriber-{index}"));
            world.subscribe(client, vec!["fan/out".to_string()]);
        }
        let (matched, _) = world.time_routes(SLOW_PUBLISHES, 1, |_| "fan/out".to_string());
        let name = format!("{clients} clients");
        println!("{name:<34} {:>12.0}", matched / clients as f64);
    }
}

// ---- retained messages ----------------------------------------------------------------------

fn print_retained() {
    println!("\nretained messages: {RETAINED} topics");
    println!("{:<34} {:>12}", "", "ns/message");
    let mut world = World::new();
    let shuffled = retained_topics();
    let stores = turns_of(&shuffled, true);
    let row = |name: &str, time: Duration| {
        let each = time.as_nanos() as f64 / RETAINED as f64;
        println!("{name:<34} {each:>12.0}");
    };
    row("store, new", world.time_turns(&stores));
    row("store, replaced", median(|| world.time_turns(&stores)));
    let client = world.connect("reader");
    let start = Instant::now();
    for some in shuffled.chunks(FILTERS_PER_SUBSCRIBE).take(200) {
        world.subscribe(client, some.to_vec());
    }
    let looked_up = 200 * FILTERS_PER_SUBSCRIBE;
    let each = start.elapsed().as_nanos() as f64 / looked_up as f64;
    println!("{:<34} {each:>12.0}", "subscribe to one and be sent it");
    let client = world.connect("reader-of-none");
    let in_vain = || {
        let delivered = world.delivered_bytes;
        let start = Instant::now();
        world.subscribe(client, vec!["+/+/no/such/topic".to_string()]);
        world.run_until_idle();
        let sent = world.delivered_bytes - delivered;
        assert!(sent < PAYLOAD.len() as u64, "something was sent");
        start.elapsed()
    };
    row("looked at in vain for a wildcard", median(in_vain));
    let client = world.connect("reader-of-all");
    let replay = || {
        let delivered = world.delivered_bytes;
        let start = Instant::now();
        world.subscribe(client, vec!["#".to_string()]);
        world.run_until_idle();
        let sent = world.delivered_bytes - delivered;
        assert!(sent > (RETAINED * PAYLOAD.len()) as u64, "not all was sent");
        start.elapsed()
    };
    row("# is sent all of them", median(replay));
    let bytes = bytes_of(RETAINED_MEMORY) / RETAINED as u64;
    println!("{:<34} {bytes:>12}", "bytes in memory");
}

fn retained_topics() -> Vec<String> {
    let mut topics: Vec<String> = (0..RETAINED)
        .map(|index| filter_and_topic(index).1)
        .collect();
    Random(1).shuffle(&mut topics);
    topics
}

// ---- memory ---------------------------------------------------------------------------------

/// What [`bytes_taken`] says in a fresh process, whose heap has no holes to fill.
fn bytes_of(what: &str) -> u64 {
    let program = env::current_exe().expect("this program has a path");
    let output = Command::new(program).args([MEMORY_FLAG, what]).output();
    let said = output.expect("this program can run itself").stdout;
    let said = String::from_utf8_lossy(&said);
    said.trim().parse().expect("it prints a number")
}

/// Resident bytes that so many filters take, or the retained messages.
fn bytes_taken(what: &str) -> u64 {
    let stores = match what {
        RETAINED_MEMORY => turns_of(&retained_topics(), true),
        _ => Vec::new(),
    };
    let before = resident_bytes();
    let mut world = World::new();
    world.time_turns(&stores);
    if let Ok(count) = what.parse() {
        world.subscribe_all(CLIENTS, count, |index| filter_and_topic(index).0);
    }
    resident_bytes().saturating_sub(before)
}

// ---- a world without sockets ----------------------------------------------------------------

/// A broker, a client that publishes, and time that stands still.
struct World {
    broker: Broker,
    now: Instant,
    turn: Turn,
    publisher: ConnectionId,
    delivered_bytes: u64,
}

impl World {
    fn new() -> World {
        let now = Instant::now();
        let options = Options {
            sys_interval: None,
            seed: 7,
            ..Options::default()
        };
        let mut world = World {
            broker: Broker::new(options, now),
            now,
            turn: Turn::default(),
            publisher: ConnectionId(0),
            delivered_bytes: 0,
        };
        world.publisher = world.connect("publisher");
        world
    }

    fn connect(&mut self, client_id: &str) -> ConnectionId {
        let client = self.broker.open(0, ([192, 0, 2, 1], 1883), self.now);
        let connect = Packet::Connect(Connect {
            version: Version::V311,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            properties: Properties::NONE,
            client_id,
            will: None,
            user_name: None,
            password: None,
        });
        self.say(client, &encoded(&connect));
        client
    }

    fn subscribe(&mut self, client: ConnectionId, filters: Vec<String>) {
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters = filters
            .iter()
            .map(|filter| (&filter[..], options))
            .collect();
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::NONE,
            filters,
        });
        self.say(client, &encoded(&subscribe));
    }

    /// Connects `clients` that share `count` filters; returns how long the subscribing took.
    fn subscribe_all(
        &mut self,
        clients: usize,
        count: usize,
        filter: impl Fn(usize) -> String,
    ) -> Duration {
        let mut subscribing = Duration::ZERO;
        let of_one = count / clients;
        for number in 0..clients {
            let client = self.connect(&format!("client-{number}"));
            let own: Vec<usize> = (number * of_one..(number + 1) * of_one).collect();
            for some in own.chunks(FILTERS_PER_SUBSCRIBE) {
                let filters = some.iter().map(|index| filter(*index)).collect();
                let start = Instant::now();
                self.subscribe(client, filters);
                subscribing += start.elapsed();
            }
        }
        subscribing
    }

    /// Nanoseconds per publish to random ones of `count` topics, and to topics beside them.
    fn time_routes(
        &mut self,
        publishes: usize,
        count: usize,
        topic: impl Fn(usize) -> String,
    ) -> (f64, f64) {
        let mut random = Random(1);
        let topics: Vec<String> = (0..publishes).map(|_| topic(random.below(count))).collect();
        let beside: Vec<String> = topics.iter().map(|topic| format!("_{topic}")).collect();
        let (matched, unmatched) = (turns_of(&topics, false), turns_of(&beside, false));
        let before = self.delivered_bytes;
        self.time_turns(&matched);
        assert!(
            self.delivered_bytes - before >= (publishes * PAYLOAD.len()) as u64,
            "a publish did not reach its subscriber"
        );
        let before = self.delivered_bytes;
        let unmatched = median(|| self.time_turns(&unmatched));
        assert!(self.delivered_bytes == before, "somebody wanted it");
        let matched = median(|| self.time_turns(&matched));
        let each = |time: Duration| time.as_nanos() as f64 / publishes as f64;
        (each(matched), each(unmatched))
    }

    fn time_turns(&mut self, turns: &[Vec<u8>]) -> Duration {
        let start = Instant::now();
        for bytes in turns {
            self.say(self.publisher, bytes);
        }
        start.elapsed()
    }

    /// One turn in which `client` says `bytes`.
    fn say(&mut self, client: ConnectionId, bytes: &[u8]) {
        self.broker.receive(client, bytes, self.now);
        self.end_turn();
    }

    fn run_until_idle(&mut self) {
        while self.broker.poll_timeout().is_some() {
            self.end_turn();
        }
    }

    /// Every client takes all that it is owed.
    fn end_turn(&mut self) {
        let World {
            broker, turn, now, ..
        } = self;
        broker.end_turn(turn, *now);
        assert!(turn.close.is_empty(), "a client was disconnected");
        for id in &turn.flush {
            loop {
                let mut slices = [IoSlice::new(&[]); 16];
                let used = broker.outbound(*id, &mut slices);
                let count = slices[..used].iter().map(|slice| slice.len()).sum();
                if count == 0 {
                    break;
                }
                broker.sent(*id, count);
                if *id != self.publisher {
                    self.delivered_bytes += count as u64;
                }
            }
        }
    }
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V311, &mut bytes);
    bytes
}

/// A publish to each topic, as the bytes of some turns.
fn turns_of(topics: &[String], retain: bool) -> Vec<Vec<u8>> {
    let publish = |topic: &String| {
        encoded(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            topic,
            packet_id: None,
            properties: Properties::NONE,
            payload: PAYLOAD,
        }))
    };
    let turn = |topics: &[String]| topics.iter().flat_map(publish).collect();
    topics.chunks(PUBLISHES_PER_TURN).map(turn).collect()
}

fn median(mut round: impl FnMut() -> Duration) -> Duration {
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}
