//! Clients that read slowly or not at all, and payloads that are shared instead of copied.

mod common;

use common::*;
use midge::broker::limits::{Limits, Options};
use midge::packet::*;

use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

/// A soft limit of 10,000 bytes for what a client has not read.
fn narrow() -> Options {
    let mut options = Options::default();
    options.limits.outbound_bytes_max = 10_000;
    options.limits.packet_bytes_max = 20_000;
    options
}

/// A payload that tells where a byte is missing.
fn pattern(length: usize, seed: usize) -> String {
    let letter = |index| char::from(b'a' + ((index * 7 + seed) % 23) as u8);
    (0..length).map(letter).collect()
}

/// Payloads of 1,000 bytes and a number.
fn numbered(count: usize) -> Vec<String> {
    let filler = "x".repeat(1_000);
    (0..count)
        .map(|number| format!("{number} {filler}"))
        .collect()
}

#[test]
fn large_payloads_arrive_whole_however_little_is_read_at_a_time() {
    for version in ALL {
        for step in [301, 4_096, 70_000] {
            let mut world = World::new();
            let subscribers = ["s1", "s2", "s3"].map(|id| {
                let subscriber = world.client(version, id);
                world.subscribe(subscriber, "t", QoS::AtLeastOnce);
                world.read_only(subscriber, 0);
                subscriber
            });
            let publisher = world.client(V311, "p");
            // Around the size from which payloads are shared.
            let lengths = [4_095, 4_096, 10, 4_097, 9_000, 3, 5_000];
            let expected: Vec<_> = lengths.map(|length| pattern(length, length)).into();
            for (index, payload) in expected.iter().enumerate() {
                let message = publish_qos(QoS::AtLeastOnce, 1, "t", payload);
                match index % 2 {
                    0 => world.publish(publisher, "t", payload),
                    _ => world.send(publisher, &Packet::Publish(message)),
                }
            }
            for subscriber in subscribers {
                while world.owed(subscriber) > 0 {
                    world.read_only(subscriber, step);
                }
                assert_eq!(world.payloads(subscriber), expected, "{step} at a time");
            }
        }
    }
}

#[test]
fn a_large_retained_payload_arrives_whole() {
    let mut world = World::new();
    let publisher = world.client(V311, "p");
    let payload = pattern(1_000_000, 5);
    world.send(publisher, &Packet::Publish(retained("t", &payload)));
    let subscriber = world.client(V5, "s");
    world.read_only(subscriber, 0);
    world.send(
        subscriber,
        &subscribe(1, &[("t", SubscriptionOptions::new(QoS::AtMostOnce))]),
    );
    while world.owed(subscriber) > 0 {
        world.read_only(subscriber, 33_333);
    }
    assert_eq!(world.payloads(subscriber), [payload]);
}

#[test]
fn qos_0_is_dropped_for_a_slow_reader_and_for_nobody_else() {
    for version in ALL {
        let mut world = World::with(narrow());
        let slow = world.client(version, "slow");
        let quick = world.client(version, "quick");
        for client in [slow, quick] {
            world.subscribe(client, "t", QoS::AtMostOnce);
        }
        world.read_only(slow, 0);
        let publisher = world.client(V311, "p");
        let filler = "x".repeat(1_000);
        for number in 0..1_000 {
            world.publish(publisher, "t", &format!("{number} {filler}"));
            // Never more than one message beyond the soft limit.
            assert!(world.owed(slow) < 10_000 + 1_100);
        }
        assert_eq!(world.payloads(quick).len(), 1_000);
        assert!(world.is_open(slow));
        world.read_only(slow, usize::MAX);
        let received = world.payloads(slow);
        assert_eq!(received.len(), 10);
        assert!(received[9].starts_with("9 "));
        // It has caught up.
        world.publish(publisher, "t", "next");
        assert_eq!(world.payloads(slow), ["next"]);
    }
}

#[test]
fn a_client_that_owes_us_as_much_reading_as_it_may_is_sent_no_more() {
    let mut world = World::with(narrow());
    let slow = world.client(V311, "slow");
    world.subscribe(slow, "t", QoS::AtMostOnce);
    world.read_only(slow, 0);
    let publisher = world.client(V311, "p");
    // Of 100 bytes each: ten thousand are owed, to the byte, when the limit is reached.
    let payload = "x".repeat(95);
    for _ in 0..101 {
        world.publish(publisher, "t", &payload);
    }
    assert_eq!(world.owed(slow), 10_000);
    world.read_only(slow, 1);
    world.publish(publisher, "t", &payload);
    assert_eq!(world.owed(slow), 10_099);
}

#[test]
fn what_waits_is_brought_out_until_the_client_owes_us_as_much_reading_as_it_may() {
    for is_retained in [false, true] {
        let mut options = narrow();
        options.limits.inflight_messages_max = 1_000;
        // A CONNACK or a SUBACK, and a hundred messages of 100 bytes.
        options.limits.outbound_bytes_max = if is_retained { 5 } else { 4 } + 10_000;
        let mut world = World::with(options.clone());
        let publisher = world.client(V311, "p");
        let terms = Connect {
            clean_start: false,
            ..connect(V311, "slow")
        };
        let mut slow = world.connect(terms);
        let payload = "x".repeat(89);
        if is_retained {
            for number in 0..150 {
                let topic = format!("t/{number:05}");
                world.send(publisher, &Packet::Publish(retained(&topic, &payload)));
            }
            world.read_only(slow, 0);
            let filters = [("t/+", SubscriptionOptions::new(QoS::AtMostOnce))];
            world.send(slow, &subscribe(1, &filters));
        } else {
            world.subscribe(slow, "t/one", QoS::AtLeastOnce);
            world.lose(slow);
            for _ in 0..150 {
                world.publish_as(publisher, QoS::AtLeastOnce, "t/one", &payload);
            }
            slow = world.open(V311);
            world.read_only(slow, 0);
            world.send(slow, &Packet::Connect(terms));
        }
        assert_eq!(world.owed(slow), options.limits.outbound_bytes_max);
    }
}

/// A queue, and what an earlier connection left unacknowledged: at most 64 KiB of it at a time, and
/// always as much beside QoS 0 that comes faster than it is read.
#[test]
fn what_waited_comes_out_by_and_by_whatever_passes_by() {
    for is_sent_again in [false, true] {
        let mut options = Options::default();
        options.limits.inflight_messages_max = 1_000;
        let mut world = World::with(options);
        let publisher = world.client(V311, "p");
        let terms = Connect {
            clean_start: false,
            ..connect(V311, "slow")
        };
        let slow = world.connect(terms);
        world.subscribe(slow, "kept", QoS::AtLeastOnce);
        world.subscribe(slow, "live", QoS::AtMostOnce);
        if !is_sent_again {
            world.lose(slow);
        }
        let expected = numbered(300);
        for payload in &expected {
            world.publish_as(publisher, QoS::AtLeastOnce, "kept", payload);
        }
        if is_sent_again {
            assert_eq!(world.payloads(slow), expected);
            world.lose(slow);
        }
        let slow = world.open(V311);
        world.read_only(slow, 0);
        world.send(slow, &Packet::Connect(terms));
        let owed = world.owed(slow);
        assert!(
            (Limits::BACKLOG_BYTES..Limits::BACKLOG_BYTES + 1_100).contains(&owed),
            "{owed}"
        );

        let mut received = vec![];
        let live = "y".repeat(4_000);
        for _ in 0..25 {
            for _ in 0..25 {
                world.publish(publisher, "live", &live);
            }
            world.read_only(slow, 50_000);
            let payloads = world.payloads(slow);
            received.extend(payloads.into_iter().filter(|payload| *payload != live));
        }
        assert_eq!(received, expected);
    }
}

#[test]
fn what_is_sent_again_waits_for_a_slow_reader() {
    let mut options = narrow();
    options.limits.inflight_messages_max = 1_000;
    let mut world = World::with(options);
    let publisher = world.client(V311, "p");
    let terms = Connect {
        clean_start: false,
        ..connect(V311, "slow")
    };
    let slow = world.connect(terms);
    world.subscribe(slow, "t", QoS::AtLeastOnce);
    let expected = numbered(100);
    for payload in &expected {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    assert_eq!(world.payloads(slow), expected);
    world.lose(slow);
    // It acknowledges nothing: that it has read is what makes room.
    let slow = world.connect(terms);
    world.read_only(slow, 0);
    let mut again = world.payloads(slow);
    for _ in 0..1_000 {
        assert!(world.owed(slow) < 10_000 + 1_100);
        world.read_only(slow, 500);
        again.extend(world.payloads(slow));
    }
    assert_eq!(again, expected);
}

#[test]
fn qos_1_waits_for_a_slow_reader() {
    let mut options = narrow();
    options.limits.inflight_messages_max = 1_000;
    let mut world = World::with(options);
    let slow = world.client(V5, "slow");
    world.subscribe(slow, "t", QoS::AtLeastOnce);
    world.read_only(slow, 0);
    let publisher = world.client(V5, "p");
    let expected = numbered(100);
    for payload in &expected {
        let message = publish_qos(QoS::AtLeastOnce, 1, "t", payload);
        world.send(publisher, &Packet::Publish(message));
        assert!(world.owed(slow) < 10_000 + 1_100);
    }
    let mut received = vec![];
    for _ in 0..1_000 {
        world.read_only(slow, 500);
        assert!(world.owed(slow) < 10_000 + 1_100);
        received.extend(world.payloads(slow));
    }
    assert_eq!(received, expected);
}

#[test]
fn a_client_that_asks_and_never_reads_is_disconnected() {
    for version in ALL {
        let mut world = World::with(narrow());
        let client = world.client(version, "a");
        world.read_only(client, 0);
        // Hard limit: twice 10,000 and a packet of 20,000. Each answer has two bytes.
        let pings = [0xC0, 0].repeat(1_000);
        for _ in 0..20 {
            world.send_bytes(client, &pings);
            assert!(world.is_open(client));
        }
        world.send_bytes(client, &pings);
        world.expect_closed(client);
        assert_eq!(world.broker.connected(), 0);
    }
}

#[test]
fn a_client_of_5_0_can_read_why_it_was_disconnected() {
    let mut world = World::with(narrow());
    let client = world.client(V5, "a");
    // All in one turn.
    world.send_bytes(client, &[0xC0, 0].repeat(20_100));
    for _ in 0..20_100 {
        world.expect(client, &Packet::PingResp);
    }
    world.expect_disconnect(client, R::QuotaExceeded);
}

#[test]
fn a_client_may_ask_much_if_it_reads() {
    let mut world = World::with(narrow());
    let client = world.client(V311, "a");
    for _ in 0..100 {
        world.send_bytes(client, &[0xC0, 0].repeat(1_000));
        assert_eq!(world.read_all(client).len(), 1_000);
    }
    assert!(world.is_open(client));
}

#[test]
fn a_slow_reader_is_answered_as_soon_as_it_reads() {
    let mut world = World::with(narrow());
    let slow = world.client(V311, "slow");
    world.subscribe(slow, "t", QoS::AtMostOnce);
    world.read_only(slow, 0);
    let publisher = world.client(V311, "p");
    for _ in 0..100 {
        world.publish(publisher, "t", &"x".repeat(1_000));
    }
    // Beyond the soft limit only messages are held back.
    world.send(slow, &Packet::PingReq);
    world.read_only(slow, usize::MAX);
    let received = world.read_all(slow);
    assert_eq!(received.last().unwrap().packet(), Packet::PingResp);
}

#[test]
fn one_message_to_a_thousand_subscribers_is_one_message_to_each() {
    let mut world = World::new();
    let mut subscribers = vec![];
    for number in 0..1_000 {
        let subscriber = world.client(V311, &format!("s{number}"));
        let filter = if number % 2 == 0 { "a/+" } else { "a/b" };
        world.subscribe(subscriber, filter, QoS::AtLeastOnce);
        subscribers.push(subscriber);
    }
    let publisher = world.client(V311, "p");
    let payload = pattern(5_000, 1);
    let message = publish_qos(QoS::AtLeastOnce, 1, "a/b", &payload);
    world.send(publisher, &Packet::Publish(message));
    for subscriber in subscribers {
        assert_eq!(world.payloads(subscriber), std::slice::from_ref(&payload));
    }
}
