//! `--memory-limit`: what goes when the heap has become too large, in which order, and that it is
//! enough. Either a test says what is in use, or the allocations of its thread are counted.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use common::*;
use midge::broker::limits::{Limits, Options};
use midge::packet::*;

use Version::{V5, V311};

const LIMIT: u64 = 4 << 20;
/// Enough is free again.
const ENOUGH: u64 = 3 << 20;
/// What the heap may have beyond its limit with one subscriber that has stopped: what comes of one
/// read.
const SLACK: usize = 1 << 20;

thread_local! {
    /// What a test says is in use.
    static SAID: Cell<u64> = const { Cell::new(0) };
    /// What its thread has allocated and not freed.
    static COUNTED: Cell<i64> = const { Cell::new(0) };
    /// The most of it.
    static PEAK: Cell<i64> = const { Cell::new(0) };
    /// What clients have been sent is the test's, and not to be counted.
    static IS_READING: Cell<bool> = const { Cell::new(false) };
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: i64) {
    // A thread that is ending has nothing to count any more.
    let _ = COUNTED.try_with(|counted| {
        counted.set(counted.get() + bytes);
        PEAK.set(PEAK.get().max(counted.get()));
    });
}

// SAFETY: every call goes to the system's allocator as it came; the counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(block, layout) }
    }
}

fn say(bytes: u64) {
    SAID.set(bytes);
}

fn counted() -> u64 {
    match IS_READING.get() {
        true => 0,
        false => COUNTED.get().max(0) as u64,
    }
}

fn limited(memory_in_use: fn() -> u64) -> Options {
    Options {
        limits: Limits {
            memory_bytes_max: LIMIT,
            ..Limits::default()
        },
        memory_in_use,
        ..Options::default()
    }
}

/// What was logged by this thread.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

fn log_here() {
    // Another test may have been first.
    let _ = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Info);
}

/// Where memory is what the test says.
fn said_world() -> World {
    World::with(limited(|| SAID.get()))
}

fn fill(world: &mut World) {
    say(LIMIT);
    world.turn();
}

/// What `$SYS/broker/memory/` says to somebody who comes now.
fn figures(world: &mut World) -> BTreeMap<String, u64> {
    say(0);
    world.turn();
    world.advance(secs(2));
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "$SYS/broker/memory/#", QoS::AtMostOnce);
    let figure = |received: &Received| {
        let publish = received.publish();
        let topic = publish.topic.strip_prefix("$SYS/broker/memory/").unwrap();
        let value = std::str::from_utf8(publish.payload).unwrap();
        (topic.to_string(), value.parse().unwrap())
    };
    let received = world.publishes(watcher);
    received.iter().map(figure).collect()
}

#[test]
fn new_clients_are_refused_and_those_that_have_a_session_are_not() {
    let mut world = said_world();
    let at_home = world.client(V5, "at home");
    let away = world.connect(durable(V5, "away", &expiry(3_600)));
    world.lose(away);
    fill(&mut world);
    for version in [V5, V311] {
        let refused = world.try_connect(connect(version, "new"));
        let code = match version {
            V5 => ReasonCode::QuotaExceeded,
            _ => ReasonCode::ServerUnavailable,
        };
        world.expect_refused(refused, code);
    }
    // They may empty their queues.
    world.connect(durable(V5, "away", &expiry(3_600)));
    world.client(V5, "at home");
    world.expect_disconnect(at_home, ReasonCode::SessionTakenOver);
    // A little below the limit it is not over.
    say(LIMIT - 1);
    let refused = world.try_connect(connect(V5, "new"));
    world.expect_refused(refused, ReasonCode::QuotaExceeded);
    // Where a sixteenth is free, there is room.
    say(ENOUGH);
    world.client(V5, "new");
    assert_eq!(figures(&mut world)["refused"], 3);
}

#[test]
fn qos_0_is_dropped_for_who_has_not_taken_what_it_is_owed_and_reaches_all_others() {
    let mut world = said_world();
    let (stopped, reads) = (world.client(V5, "stopped"), world.client(V5, "reads"));
    for subscriber in [stopped, reads] {
        world.subscribe(subscriber, "t", QoS::AtLeastOnce);
    }
    world.read_only(stopped, 0);
    let publisher = world.client(V5, "publisher");
    let payload = "x".repeat(2 * Limits::OWED_BYTES_WHEN_SHORT);
    world.publish(publisher, "t", &payload);
    let owed = world.owed(stopped);
    say(LIMIT);
    world.turn();
    say(LIMIT - 1);
    world.publish(publisher, "t", "dropped");
    assert_eq!(world.owed(stopped), owed);
    assert_eq!(world.payloads(reads), [&payload, "dropped"]);
    say(0);
    world.read_only(stopped, usize::MAX);
    assert_eq!(world.payloads(stopped), [payload]);
    assert_eq!(figures(&mut world)["dropped"], 1);
}

#[test]
fn retained_messages_may_replace_others_and_not_take_more_room() {
    let mut world = said_world();
    let publisher = world.client(V5, "publisher");
    world.send(publisher, &Packet::Publish(retained("t", "long")));
    fill(&mut world);
    say(LIMIT - 1);
    for (id, topic, payload, reason) in [
        (1, "t", "tiny", ReasonCode::NoMatchingSubscribers),
        (2, "t", "larger", ReasonCode::QuotaExceeded),
        (3, "other", "x", ReasonCode::QuotaExceeded),
        (4, "t", "", ReasonCode::NoMatchingSubscribers),
        (5, "t", "x", ReasonCode::QuotaExceeded),
    ] {
        let message = publish_qos(QoS::AtLeastOnce, id, topic, payload);
        world.send(
            publisher,
            &Packet::Publish(Publish {
                retain: true,
                ..message
            }),
        );
        assert_eq!(
            world.read(publisher).ack(),
            (id, reason),
            "{topic}: {payload}"
        );
    }
}

/// A session whose client is away, with so many messages of 10,000 bytes in its queue.
fn queue(world: &mut World, publisher: Client, client_id: &str, messages: usize) {
    let away = world.connect(durable(V5, client_id, &expiry(3_600)));
    world.subscribe(away, client_id, QoS::AtLeastOnce);
    world.lose(away);
    for number in 0..messages {
        let payload = format!("{number:010000}");
        world.publish_as(publisher, QoS::AtLeastOnce, client_id, &payload);
    }
}

fn come_back(world: &mut World, client_id: &str) -> Vec<usize> {
    IS_READING.set(true);
    let back = world.connect(durable(V5, client_id, &expiry(3_600)));
    let mut numbers = vec![];
    while let Some(received) = world.try_read(back) {
        if let Packet::Publish(publish) = received.packet() {
            let text = std::str::from_utf8(publish.payload).unwrap();
            numbers.push(text.parse().unwrap());
            if let Some(id) = publish.packet_id {
                world.send(back, &puback(id));
            }
        }
    }
    numbers
}

#[test]
fn the_oldest_messages_of_the_longest_queue_go_and_no_more_than_it_takes() {
    let mut world = World::with(limited(counted));
    let publisher = world.client(V5, "publisher");
    queue(&mut world, publisher, "short", 50);
    queue(&mut world, publisher, "long", 400);
    let left = come_back(&mut world, "long");
    let first = 400 - left.len();
    assert_eq!(left, (first..400).collect::<Vec<_>>());
    assert!((320..370).contains(&left.len()), "{}", left.len());
    assert_eq!(come_back(&mut world, "short").len(), 50);
    assert_eq!(figures(&mut world)["dropped"], first as u64);
}

#[test]
fn what_waits_with_qos_0_goes_before_what_was_acknowledged() {
    let mut world = World::with(Options {
        queue_qos0_messages: true,
        ..limited(counted)
    });
    let publisher = world.client(V5, "publisher");
    queue(&mut world, publisher, "qos 1", 200);
    let away = world.connect(durable(V5, "qos 0", &expiry(3_600)));
    world.subscribe(away, "qos 0", QoS::AtMostOnce);
    world.lose(away);
    let payload = "0".repeat(10_000);
    // Until they reach the limit: they go, and nothing else does.
    for _ in 0..400 {
        world.publish(publisher, "qos 0", &payload);
    }
    assert_eq!(come_back(&mut world, "qos 1").len(), 200);
    assert!(come_back(&mut world, "qos 0").len() < 200);
}

#[test]
fn a_publisher_that_is_not_read_is_not_silent_and_goes_on_when_there_is_room() {
    let mut world = said_world();
    let subscriber = world.client(V5, "subscriber");
    world.subscribe(subscriber, "t", QoS::AtMostOnce);
    let keep_alive = |id| Connect {
        keep_alive: 10,
        ..connect(V311, id)
    };
    let publisher = world.connect(keep_alive("publisher"));
    world.publish(publisher, "t", "1");
    assert_eq!(world.payloads(subscriber), ["1"]);
    fill(&mut world);
    world.publish(publisher, "t", "2");
    // Who has published nothing is read as ever.
    world.subscribe(subscriber, "u", QoS::AtMostOnce);
    world.advance(millis(4_000));
    say(ENOUGH);
    world.turn();
    assert_eq!(world.payloads(subscriber), ["2"]);
    // Again, and longer than its keep alive allows; there is nobody to end for it.
    fill(&mut world);
    world.publish(publisher, "t", "3");
    world.advance(secs(4));
    assert_eq!(world.payloads(subscriber), [""; 0]);
    // Then nothing is left to wait for.
    world.advance(secs(2));
    assert_eq!(world.payloads(subscriber), ["3"]);
    assert!(world.is_open(publisher));
    say(0);
    world.turn();
    assert_eq!(figures(&mut world)["slowed"], 2);
}

#[test]
fn the_keep_alive_of_a_publisher_that_is_not_read_does_not_end_it() {
    let mut world = said_world();
    let publisher = world.connect(Connect {
        keep_alive: 2,
        ..connect(V311, "publisher")
    });
    world.publish(publisher, "t", "1");
    fill(&mut world);
    world.publish(publisher, "t", "2");
    // One and a half times its keep alive, and still before anybody gives up.
    world.advance(millis(4_500));
    assert!(world.is_open(publisher));
    say(0);
    world.turn();
    assert!(world.is_open(publisher));
    // From then on it counts again.
    world.advance(secs(4));
    assert!(!world.is_open(publisher));
}

#[test]
fn who_takes_nothing_of_what_fills_the_memory_is_disconnected_in_the_end() {
    let mut world = World::with(limited(counted));
    let stopped = world.client(V5, "stopped");
    world.subscribe(stopped, "t", QoS::AtMostOnce);
    world.read_only(stopped, 0);
    let healthy = world.client(V5, "healthy");
    world.subscribe(healthy, "t", QoS::AtMostOnce);
    let publisher = world.client(V5, "publisher");
    let payload = "x".repeat(3_000);
    while counted() < LIMIT {
        world.publish(publisher, "t", &payload);
        world.payloads(healthy);
    }
    world.advance(millis(4_900));
    assert!(world.is_open(stopped));
    world.advance(millis(200));
    assert!(!world.is_open(stopped));
    assert!(world.is_open(healthy));
    world.turn();
    assert_eq!(figures(&mut world)["disconnected"], 1);
    world.publish(publisher, "t", "goes on");
    assert_eq!(world.payloads(healthy).last().unwrap(), "goes on");
}

#[test]
fn a_flood_to_a_stopped_subscriber_never_takes_more_than_the_limit_and_its_slack() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut world = World::with(limited(counted));
        let stopped = world.connect(durable(V311, "stopped", &PropertyBlock::new()));
        world.subscribe(stopped, "t", qos);
        world.read_only(stopped, 0);
        let publishers: Vec<Client> = (0..50)
            .map(|number| world.client(V311, &format!("p{number}")))
            .collect();
        let payload = "x".repeat(100);
        let id = (qos > QoS::AtMostOnce).then_some(1);
        let mut read = vec![];
        let packet = Packet::Publish(Publish {
            qos,
            packet_id: id,
            ..publish("t", &payload)
        });
        // As much as one read can bring.
        while read.len() < 60_000 {
            packet.encode(V311, &mut read);
        }
        PEAK.set(0);
        for _ in 0..14 {
            for publisher in &publishers {
                if world.broker_reads(*publisher) {
                    world.send_bytes(*publisher, &read);
                    world.read_all(*publisher);
                }
            }
            world.advance(millis(500));
        }
        let (most, limit) = (PEAK.get() as usize, LIMIT as usize);
        assert!(most >= limit, "the flood was no flood");
        assert!(most <= limit + SLACK, "{qos:?}: {most}");
        // It is over: all is as it was.
        world.advance(secs(20));
        let newcomer = world.client(V5, "newcomer");
        world.subscribe(newcomer, "u", QoS::AtMostOnce);
        world.publish(publishers[7], "u", "recovered");
        assert_eq!(world.payloads(newcomer), ["recovered"]);
        let figures = figures(&mut world);
        match qos {
            QoS::AtMostOnce => assert!(figures["slowed"] > 0 && figures["disconnected"] == 1),
            _ => assert!(figures["dropped"] > 1_000 && figures["disconnected"] == 0),
        }
    }
}

#[test]
fn what_is_retained_leaves_room_for_new_clients() {
    let mut world = World::with(limited(counted));
    let publisher = world.client(V5, "publisher");
    let payload = "x".repeat(1_000);
    let refused = (0..10_000).find(|number| {
        let topic = format!("retained/{number}");
        let message = publish_qos(QoS::AtLeastOnce, 1, &topic, &payload);
        let retain = true;
        world.send(publisher, &Packet::Publish(Publish { retain, ..message }));
        world.read(publisher).ack().1 == ReasonCode::QuotaExceeded
    });
    assert!(refused.is_some_and(|number| number > 1_000), "{refused:?}");
    for number in 0..20 {
        world.client(V5, &format!("new {number}"));
    }
}

/// A client that has not taken 60,000 bytes.
fn slow(world: &mut World) -> Client {
    let slow = world.client(V5, "slow");
    world.subscribe(slow, "t", QoS::AtMostOnce);
    world.read_only(slow, 0);
    let publisher = world.client(V5, "publisher");
    world.publish(publisher, "t", &"x".repeat(60_000));
    slow
}

#[test]
fn just_below_the_limit_it_is_over_and_nobody_is_disconnected() {
    let mut world = said_world();
    let slow = slow(&mut world);
    fill(&mut world);
    // There is nothing to drop that would bring it further down.
    say(LIMIT - 1);
    world.turn();
    world.advance(millis(1_100));
    world.client(V5, "new");
    world.advance(secs(20));
    assert!(world.is_open(slow));
}

#[test]
fn moments_just_below_the_limit_do_not_put_off_the_end_of_who_takes_most() {
    let mut world = said_world();
    let slow = slow(&mut world);
    for step in 0..60 {
        assert_eq!(world.is_open(slow), step <= 50, "{step}");
        for bytes in [LIMIT, LIMIT - 1] {
            say(bytes);
            world.turn();
            world.advance(millis(50));
        }
    }
}

#[test]
fn the_log_says_why_nothing_more_is_retained() {
    log_here();
    let mut world = said_world();
    let publisher = world.client(V5, "publisher");
    say(LIMIT - 1);
    for topic in ["a", "b", "c"] {
        world.send(publisher, &Packet::Publish(retained(topic, "x")));
        world.advance(secs(1));
    }
    // It is not over as long as there is no room.
    world.advance(secs(20));
    let lines: Vec<_> = LOGGED.take();
    let mut lines = lines.iter().filter(|line| line.starts_with("Memory"));
    let line = lines.next().expect("a line");
    assert!(line.contains("Nothing more is retained"), "{line}");
    assert_eq!(lines.next(), None);
    say(ENOUGH);
    world.advance(secs(6));
    let lines: Vec<_> = LOGGED.take();
    let over = lines.iter().find(|line| line.starts_with("Memory"));
    assert!(
        over.is_some_and(|line| line.contains("3 clients and retained")),
        "{over:?}"
    );
}

#[test]
fn who_has_begun_a_large_packet_does_not_go_on_with_it_where_nothing_can_be_done() {
    let mut world = said_world();
    let (client, small) = (world.client(V5, "large"), world.client(V5, "small"));
    let mut packet = vec![];
    let payload = "x".repeat(1_000_000);
    Packet::Publish(publish("t", &payload)).encode(V5, &mut packet);
    for client in [client, small] {
        world.send_bytes(client, &packet[..8_000]);
    }
    fill(&mut world);
    // Nobody takes much, and nothing can be dropped: they are read again.
    world.advance(secs(6));
    world.send_bytes(small, &packet[8_000..9_000]);
    world.send_bytes(client, &packet[8_000..30_000]);
    assert!(world.is_open(client) && world.is_open(small));
    world.send_bytes(client, &packet[30_000..90_000]);
    world.expect_disconnect(client, ReasonCode::QuotaExceeded);
    assert!(world.is_open(small));
}

#[test]
fn a_flood_that_goes_on_is_one_episode_in_the_log() {
    log_here();
    let mut world = said_world();
    let about_memory = || {
        let lines = LOGGED.take().into_iter();
        lines
            .filter(|line| line.starts_with("Memory"))
            .collect::<Vec<_>>()
    };
    let mut refused = 0;
    for n in 0..10 {
        fill(&mut world);
        let newcomer = world.try_connect(connect(V5, "new"));
        world.expect_refused(newcomer, ReasonCode::QuotaExceeded);
        refused += 1;
        // Sufficing for a moment lets new clients in, and is no end.
        say(ENOUGH);
        world.turn();
        world.advance(millis(1_100));
        world.client(V5, &format!("in between {n}"));
    }
    let lines = about_memory();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("Memory is short: 4194304 bytes"),
        "{lines:?}"
    );
    world.advance(secs(6));
    let lines = about_memory();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = format!("Meanwhile {refused} clients");
    assert!(lines[0].contains(&told), "{lines:?}");
    // The next is another, with figures of its own.
    fill(&mut world);
    let newcomer = world.try_connect(connect(V5, "new"));
    world.expect_refused(newcomer, ReasonCode::QuotaExceeded);
    say(ENOUGH);
    world.turn();
    world.advance(secs(7));
    let lines = about_memory();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("Meanwhile 1 clients"), "{lines:?}");
}

#[test]
fn without_a_limit_nobody_is_asked_what_is_in_use() {
    let mut world = World::with(Options {
        memory_in_use: || panic!("who asked?"),
        sys_interval: None,
        ..Options::default()
    });
    let subscriber = world.client(V5, "subscriber");
    world.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = world.client(V5, "publisher");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "x");
    assert_eq!(world.payloads(subscriber), ["x"]);
    world.advance(secs(60));
}
