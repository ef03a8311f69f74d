//! `$SYS`: the server's own figures, and how rarely it wakes up when there is nothing to do.

mod common;

use std::collections::BTreeMap;

use common::*;
use midge::broker::acl_file;
use midge::broker::limits::Options;
use midge::packet::*;

use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

/// The figures a client was sent, by topic below `$SYS/broker/`.
fn figures(world: &mut World, client: Client) -> BTreeMap<String, String> {
    let received = world.publishes(client);
    let figure = |received: &Received| {
        let publish = received.publish();
        let topic = publish.topic.strip_prefix("$SYS/broker/").unwrap();
        let value = String::from_utf8(publish.payload.to_vec()).unwrap();
        (topic.to_string(), value)
    };
    received.iter().map(figure).collect()
}

fn number(figures: &BTreeMap<String, String>, topic: &str) -> u64 {
    figures[topic].parse().unwrap()
}

#[test]
fn a_subscriber_finds_figures_that_make_sense() {
    let mut world = World::with(Options {
        memory_in_use: || 123_456,
        ..Options::default()
    });
    let away = world.connect(durable(V5, "away", &expiry(3_600)));
    world.subscribe(away, "t", QoS::AtLeastOnce);
    world.lose(away);
    let publisher = world.client(V311, "p");
    world.subscribe(publisher, "t", QoS::AtMostOnce);
    world.subscribe(publisher, "$share/g/t", QoS::AtMostOnce);
    world.send(publisher, &Packet::Publish(retained("kept", "12345")));
    let message = publish_qos(QoS::AtLeastOnce, 1, "t", "abc");
    world.send(publisher, &Packet::Publish(message));
    let refused = world.try_connect(connect(V31, ""));
    world.expect_refused(refused, ReasonCode::ClientIdentifierNotValid);
    world.advance(secs(90));

    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "$SYS/#", QoS::AtMostOnce);
    let figures = figures(&mut world, watcher);
    assert!(figures["version"].starts_with("midge version "));
    assert_eq!(figures["uptime"], "90 seconds");
    for (topic, value) in [
        ("clients/connected", 2),
        ("clients/active", 2),
        ("clients/disconnected", 1),
        ("clients/inactive", 1),
        ("clients/total", 3),
        ("clients/maximum", 3),
        ("clients/expired", 0),
        ("clients/refused", 1),
        ("retained messages/count", 1),
        ("subscriptions/count", 2),
        ("shared_subscriptions/count", 1),
        ("heap/current", 123_456),
        ("heap/maximum", 123_456),
        ("publish/messages/received", 2),
        ("publish/bytes/received", 8),
        ("publish/messages/sent", 2),
        ("publish/bytes/sent", 6),
        ("mqtt/connect/received", 4),
        ("mqtt/suback/sent", 3),
        ("mqtt/puback/sent", 1),
    ] {
        assert_eq!(number(&figures, topic), value, "{topic}");
    }
    // One retained, one waiting for the client that is away; the figures themselves come on top.
    assert!(number(&figures, "messages/stored") >= 2);
    assert!(number(&figures, "bytes/received") > 100);
    assert!(number(&figures, "bytes/sent") > 50);
    assert!(figures.contains_key("load/messages/received/1min"));
    assert!(figures.contains_key("load/connections/15min"));
}

#[test]
fn figures_are_retained_and_come_to_clients_of_every_version() {
    for version in ALL {
        let mut world = World::new();
        let watcher = world.client(version, "watcher");
        world.subscribe(watcher, "$SYS/broker/uptime", QoS::AtMostOnce);
        let received = world.read(watcher);
        let publish = received.publish();
        assert!(publish.retain);
        assert_eq!(publish.payload, b"0 seconds");
        world.expect_nothing(watcher);
    }
}

#[test]
fn only_what_has_changed_is_sent_again() {
    let mut world = World::new();
    let watcher = world.client(V311, "watcher");
    for topic in ["clients/#", "version", "uptime"] {
        let filter = format!("$SYS/broker/{topic}");
        world.subscribe(watcher, &filter, QoS::AtMostOnce);
        world.read_all(watcher);
    }
    world.advance(millis(9_999));
    world.expect_nothing(watcher);
    world.advance(millis(1));
    let changed = figures(&mut world, watcher);
    assert_eq!(changed.into_keys().collect::<Vec<_>>(), ["uptime"]);
    world.client(V311, "another");
    world.advance(secs(10));
    let changed = figures(&mut world, watcher);
    let expected = [
        "clients/active",
        "clients/connected",
        "clients/maximum",
        "clients/total",
        "uptime",
    ];
    assert_eq!(changed.into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn the_heap_is_asked_for_each_time_and_its_maximum_kept() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static IN_USE: AtomicU64 = AtomicU64::new(500);
    let mut world = World::with(Options {
        memory_in_use: || IN_USE.load(Ordering::Relaxed),
        ..Options::default()
    });
    let watcher = world.client(V311, "watcher");
    world.subscribe(watcher, "$SYS/broker/heap/#", QoS::AtMostOnce);
    let mut known = figures(&mut world, watcher);
    for (in_use, maximum) in [(500, 500), (900, 900), (300, 900)] {
        IN_USE.store(in_use, Ordering::Relaxed);
        world.advance(secs(10));
        known.extend(figures(&mut world, watcher));
        assert_eq!(number(&known, "heap/current"), in_use);
        assert_eq!(number(&known, "heap/maximum"), maximum);
    }
}

#[test]
fn the_load_is_an_average_per_minute() {
    let mut world = World::new();
    let watcher = world.client(V311, "watcher");
    let filter = "$SYS/broker/load/publish/received/+";
    world.subscribe(watcher, filter, QoS::AtMostOnce);
    let publisher = world.client(V311, "p");
    // A message each second for half an hour.
    let mut known = BTreeMap::new();
    for _ in 0..1_800 {
        world.publish(publisher, "t", "x");
        world.advance(secs(1));
        known.extend(figures(&mut world, watcher));
    }
    let expect = |known: &BTreeMap<String, String>, averages: [(&str, f64, f64); 3]| {
        for (span, least, most) in averages {
            let average: f64 = known[&format!("load/publish/received/{span}")]
                .parse()
                .unwrap();
            assert!((least..most).contains(&average), "{span}: {average}");
        }
    };
    let steady = [
        ("1min", 59.0, 61.0),
        ("5min", 59.0, 61.0),
        ("15min", 50.0, 61.0),
    ];
    expect(&known, steady);
    // A minute of silence: the longer the span, the longer what was is remembered.
    world.advance(secs(60));
    known.extend(figures(&mut world, watcher));
    let silent = [
        ("1min", 20.0, 25.0),
        ("5min", 47.0, 51.0),
        ("15min", 46.0, 57.0),
    ];
    expect(&known, silent);
}

#[test]
fn clients_that_are_away_are_counted_as_long_as_their_sessions_last() {
    for topic in ["clients/disconnected", "clients/inactive"] {
        let mut world = World::new();
        for id in ["a", "b", "c"] {
            let client = world.connect(durable(V5, id, &expiry(60)));
            world.lose(client);
        }
        let watcher = world.client(V5, "watcher");
        let filter = format!("$SYS/broker/{topic}");
        world.subscribe(watcher, &filter, QoS::AtMostOnce);
        assert_eq!(number(&figures(&mut world, watcher), topic), 3);
        world.advance(secs(100));
        assert_eq!(number(&figures(&mut world, watcher), topic), 0);
    }
}

#[test]
fn wildcards_for_everything_do_not_bring_the_servers_figures() {
    let mut world = World::new();
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "$SYS/#", QoS::AtMostOnce);
    let client = world.client(V5, "a");
    for filter in ["#", "+/broker/#", "+/#"] {
        world.subscribe(client, filter, QoS::AtMostOnce);
    }
    world.advance(secs(100));
    world.expect_nothing(client); // [MQTT-4.7.2-1]
}

#[test]
fn figures_can_be_turned_off() {
    let mut world = World::with(Options {
        sys_interval: None,
        ..Options::default()
    });
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "$SYS/#", QoS::AtMostOnce);
    assert_eq!(world.wake_ups(secs(1_000)), 0);
    world.expect_nothing(watcher);
}

#[test]
fn nothing_runs_while_nobody_listens() {
    let mut world = World::new();
    let a = world.client(V311, "a");
    world.subscribe(a, "#", QoS::AtLeastOnce);
    assert_eq!(world.wake_ups(secs(86_400)), 0);
    // Somebody listens: once an interval.
    let watcher = world.client(V311, "watcher");
    world.subscribe(watcher, "$SYS/broker/uptime", QoS::AtMostOnce);
    assert_eq!(world.wake_ups(secs(100)), 10);
    assert_eq!(world.payloads(watcher).len(), 11);
    // And nobody again, by whichever way.
    world.send(watcher, &unsubscribe(1, &["$SYS/broker/uptime"]));
    world.read(watcher);
    assert_eq!(world.wake_ups(secs(86_400)), 0);
    world.subscribe(watcher, "$SYS/#", QoS::AtMostOnce);
    world.read_only(watcher, 0);
    world.lose(watcher);
    assert_eq!(world.wake_ups(secs(86_400)), 0);
}

#[test]
fn a_thousand_idle_clients_cost_few_wake_ups() {
    let mut world = World::new();
    let mut clients = vec![];
    for number in 0..1_000 {
        let client = world.connect(Connect {
            keep_alive: 60,
            ..connect(ALL[number % 3], &format!("client {number}"))
        });
        clients.push(client);
        // They come over a minute, each at a time of its own.
        world.advance(millis(60));
    }
    // Each pings once a minute: the server wakes up for what it is sent anyhow, and here we count
    // what its own timers add in an hour.
    let mut wake_ups = 0;
    for _ in 0..60 {
        for tenth in clients.chunks(100) {
            world.send_from_all(tenth, &[0xC0, 0]);
            wake_ups += world.wake_ups(secs(6));
        }
    }
    assert!(clients.iter().all(|client| world.is_open(*client)));
    // 90 s of silence, looked at on a grid of 90 / 16 s: 640 in an hour at the very most.
    assert!(wake_ups <= 700, "{wake_ups} wake-ups in an hour");
}

#[test]
fn a_thousand_clients_without_keep_alive_cost_none() {
    let mut world = World::new();
    for number in 0..1_000 {
        world.client(ALL[number % 3], &format!("client {number}"));
    }
    assert_eq!(world.wake_ups(secs(86_400)), 0);
}

/// One figure, as a new subscriber finds it.
fn figure(world: &mut World, topic: &str) -> u64 {
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, &format!("$SYS/broker/{topic}"), QoS::AtMostOnce);
    number(&figures(world, watcher), topic)
}

/// A world that keeps three messages, with so many bytes of payload each: a retained one, one
/// that waits for a client that is away, and one that is in flight.
fn keeping([retained_len, queued_len, inflight_len]: [usize; 3]) -> World {
    let mut world = World::new();
    let publisher = world.client(V311, "p");
    let away = world.connect(durable(V5, "away", &expiry(3_600)));
    world.subscribe(away, "queued", QoS::AtLeastOnce);
    world.lose(away);
    let silent = world.client(V311, "silent");
    world.subscribe(silent, "inflight", QoS::AtLeastOnce);
    let payload = |length| "x".repeat(length);
    let kept = payload(retained_len);
    world.send(publisher, &Packet::Publish(retained("kept", &kept)));
    for (topic, length) in [("queued", queued_len), ("inflight", inflight_len)] {
        world.publish_as(publisher, QoS::AtLeastOnce, topic, &payload(length));
    }
    world
}

#[test]
fn what_is_kept_is_counted_wherever_it_stands() {
    let stored = |lengths| {
        let mut world = keeping(lengths);
        assert_eq!(figure(&mut world, "messages/stored"), 3);
        let mut world = keeping(lengths);
        assert_eq!(figure(&mut world, "store/messages/count"), 3);
        let mut world = keeping(lengths);
        figure(&mut world, "store/messages/bytes")
    };
    let base = stored([1, 1, 1]);
    for lengths in [[1_001, 1, 1], [1, 1_001, 1], [1, 1, 1_001]] {
        assert_eq!(stored(lengths), base + 1_000, "{lengths:?}");
    }
}

#[test]
fn what_clients_have_not_read_is_counted() {
    let mut world = World::new();
    let publisher = world.client(V311, "p");
    let slow = ["a", "b"].map(|topic| {
        let client = world.client(V311, topic);
        world.subscribe(client, topic, QoS::AtMostOnce);
        world.read_only(client, 0);
        client
    });
    for topic in ["a", "a", "b"] {
        world.publish(publisher, topic, "x");
    }
    let watcher = world.client(V311, "watcher");
    world.subscribe(watcher, "$SYS/broker/packet/out/#", QoS::AtMostOnce);
    let figures = figures(&mut world, watcher);
    assert_eq!(number(&figures, "packet/out/count"), 3);
    let owed: usize = slow.iter().map(|client| world.owed(*client)).sum();
    assert_eq!(number(&figures, "packet/out/bytes"), owed as u64);
}

/// What makes a message be lost, for whom it was meant subscribed to "t".
#[derive(Clone, Copy, Debug)]
enum Loss {
    QueueIsFull,
    TooLargeForTheClient,
    ClientDoesNotRead,
    ExpiredInTheQueue,
    NobodyInTheGroupCanTakeIt,
    MayNotBePublished,
}

/// Loses two messages that way.
fn lose_two(loss: Loss) -> World {
    let mut options = Options::default();
    options.limits.queued_messages_max = 2;
    options.limits.outbound_bytes_max = 1_000;
    let mut world = World::with(options);
    let publisher = world.client(V5, "p");
    let small = numbers(&[
        (PropertyId::SessionExpiryInterval, 3_600),
        (PropertyId::MaximumPacketSize, 500),
    ]);
    let client = world.connect(durable(V5, "c", &small));
    let (qos, large) = (QoS::AtLeastOnce, "x".repeat(1_000));
    match loss {
        Loss::QueueIsFull => {
            world.subscribe(client, "t", qos);
            world.lose(client);
            for payload in ["1", "2", "3", "4"] {
                world.publish_as(publisher, qos, "t", payload);
            }
        }
        Loss::TooLargeForTheClient => {
            world.subscribe(client, "t", qos);
            for qos in [QoS::AtMostOnce, qos] {
                world.publish_as(publisher, qos, "t", &large);
            }
        }
        Loss::ClientDoesNotRead => {
            world.subscribe(client, "t", qos);
            world.read_only(client, 0);
            for length in [450, 450, 450, 1, 1] {
                world.publish(publisher, "t", &large[..length]);
            }
        }
        Loss::ExpiredInTheQueue => {
            world.subscribe(client, "t", qos);
            world.lose(client);
            let minute = numbers(&[(PropertyId::MessageExpiryInterval, 60)]);
            for id in [1, 2] {
                let message = Publish {
                    properties: minute.as_properties(),
                    ..publish_qos(qos, id, "t", "x")
                };
                world.send(publisher, &Packet::Publish(message));
            }
            world.advance(secs(60));
            let client = world.connect(durable(V5, "c", &small));
            world.expect_nothing(client);
        }
        Loss::NobodyInTheGroupCanTakeIt => {
            world.subscribe(client, "$share/g/t", qos);
            world.lose(client);
            for payload in ["1", "2"] {
                world.publish(publisher, "t", payload);
            }
        }
        Loss::MayNotBePublished => {
            for qos in [QoS::AtMostOnce, qos] {
                world.publish_as(publisher, qos, "$SYS/t", "x");
            }
        }
    }
    world
}

#[test]
fn every_message_that_is_lost_is_counted() {
    for loss in [
        Loss::QueueIsFull,
        Loss::TooLargeForTheClient,
        Loss::ClientDoesNotRead,
        Loss::ExpiredInTheQueue,
        Loss::NobodyInTheGroupCanTakeIt,
        Loss::MayNotBePublished,
    ] {
        let mut world = lose_two(loss);
        let dropped = figure(&mut world, "publish/messages/dropped");
        assert_eq!(dropped, 2, "{loss:?}");
    }
}

#[test]
fn figures_tell_how_often_clients_had_no_right_to_what_they_tried() {
    for version in ALL {
        let mut world = World::new();
        let rules =
            "topic read $SYS/#\ntopic readwrite ok\ntopic subscribe ok\ntopic subscribe $SYS/#\n";
        let file = acl_file::parse("rules", rules.as_bytes()).unwrap();
        world.broker.set_acls(vec![file], &[Some(0)]);
        let client = world.connect(Connect {
            will: Some(Will {
                qos: QoS::AtMostOnce,
                retain: false,
                properties: Properties::NONE,
                topic: "not/ok",
                payload: b"gone",
            }),
            ..connect(version, "a")
        });
        world.publish(client, "ok", "x");
        world.publish(client, "not/ok", "x");
        world.send(
            client,
            &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, "no", "x")),
        );
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters = [("no", options), ("ok", options), ("not/#", options)];
        world.send(client, &subscribe(1, &filters));
        world.lose(client);
        let watcher = world.client(version, "watcher");
        for (topic, value) in [("publish", "3"), ("subscribe", "2")] {
            let topic = format!("$SYS/broker/auth/{topic}/refused");
            world.subscribe(watcher, &topic, QoS::AtMostOnce);
            assert_eq!(world.payloads(watcher), [value], "{topic}");
        }
    }
}
