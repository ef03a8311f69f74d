//! One id, two devices: how often it changes hands, who is told what, and who is not held up.

mod common;

use common::*;
use midge::broker::Verdict;
use midge::broker::limits::{Limits, ListenerOptions, Options};
use midge::packet::*;

use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];
const AT_WILL: usize = Limits::TAKEOVERS_AT_WILL as usize;

/// Seconds between two changes of hands, once it was too often.
const INTERVAL: u64 = 15;

fn told(version: Version) -> R {
    match version {
        V5 => R::ConnectionRateExceeded,
        V31 | V311 => R::ServerUnavailable,
    }
}

/// A new connection takes the id as often as it may at will; the last one has it.
fn take_over_at_will(world: &mut World, version: Version, id: &str) -> Client {
    let mut client = world.client(version, id);
    for _ in 0..AT_WILL {
        let next = world.client(version, id);
        assert!(!world.is_open(client));
        client = next;
    }
    client
}

fn is_let_in(world: &mut World, client: Client) -> bool {
    world.read(client).connack().reason == R::Success
}

#[test]
fn two_devices_with_one_id_are_each_connected_for_a_while() {
    for version in ALL {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "t", QoS::AtMostOnce);
        // Each connects again a second after it was thrown out, or not let in.
        let mut devices = [None, None];
        let (mut changes, mut heard) = (0, 0);
        for second in 0..600 {
            for device in &mut devices {
                if device.is_some_and(|client| world.is_open(client)) {
                    continue;
                }
                let client = world.try_connect(connect(version, "lamp"));
                let is_in = is_let_in(&mut world, client);
                assert_eq!(world.is_open(client), is_in);
                changes += usize::from(is_in);
                *device = Some(client);
            }
            let open = |device: &&Client| world.is_open(**device);
            let connected: Vec<Client> = devices.iter().flatten().filter(open).copied().collect();
            assert_eq!(connected.len(), 1, "second {second}");
            world.publish(connected[0], "t", "here");
            heard += world.payloads(watcher).len();
            world.advance(secs(1));
        }
        let most = AT_WILL + 1 + 600 / INTERVAL as usize;
        assert!((most - 2..=most).contains(&changes), "{changes}");
        assert_eq!(heard, 600);
    }
}

#[test]
fn a_device_that_is_back_before_its_old_connection_is_known_to_be_dead_is_let_in() {
    let mut world = World::new();
    take_over_at_will(&mut world, V311, "rover");
    for _ in 0..100 {
        world.advance(secs(INTERVAL));
        world.client(V311, "rover");
    }
}

#[test]
fn who_leaves_before_it_comes_again_is_not_counted() {
    for version in ALL {
        let mut world = World::new();
        for _ in 0..100 {
            let client = world.client(version, "a");
            world.disconnect(client);
            let client = world.client(version, "a");
            world.lose(client);
        }
    }
}

#[test]
fn to_ask_again_and_again_neither_helps_nor_harms() {
    for version in ALL {
        let mut world = World::new();
        let first = take_over_at_will(&mut world, version, "lamp");
        let hasty = |world: &mut World| world.try_connect(connect(version, "lamp"));
        for _ in 0..100 * INTERVAL - 1 {
            world.advance(millis(10));
            let refused = hasty(&mut world);
            world.expect_refused(refused, told(version));
            world.expect_nothing(first);
        }
        world.advance(millis(10));
        let second = hasty(&mut world);
        assert!(is_let_in(&mut world, second));
        assert!(!world.is_open(first));
        // And then the other one has to wait as long.
        world.advance(secs(INTERVAL - 1));
        let refused = hasty(&mut world);
        world.expect_refused(refused, told(version));
        world.advance(secs(1));
        let first = hasty(&mut world);
        assert!(is_let_in(&mut world, first));
    }
}

#[test]
fn after_a_while_it_is_as_if_nothing_had_been() {
    let mut world = World::new();
    for _ in 0..3 {
        let last = take_over_at_will(&mut world, V5, "lamp");
        let refused = world.try_connect(connect(V5, "lamp"));
        world.expect_refused(refused, R::ConnectionRateExceeded);
        world.disconnect(last);
        world.advance(secs(INTERVAL * AT_WILL as u64));
    }
}

#[test]
fn other_ids_are_not_held_up() {
    let mut world = World::new();
    take_over_at_will(&mut world, V311, "lamp");
    take_over_at_will(&mut world, V311, "lamp 2");
    // Nor is whoever comes when nobody has the id.
    let last = take_over_at_will(&mut world, V311, "lamp 3");
    world.lose(last);
    world.client(V311, "lamp 3");
}

#[test]
fn who_is_not_let_in_changes_nothing() {
    for version in ALL {
        let mut world = World::new();
        let watcher = world.client(V5, "watcher");
        world.subscribe(watcher, "#", QoS::AtMostOnce);
        let hour = expiry(3_600);
        let mut client = world.connect(durable(version, "lamp", &hour));
        world.subscribe(client, "t", QoS::AtLeastOnce);
        for _ in 0..AT_WILL {
            client = world.try_connect(Connect {
                will: Some(Will {
                    qos: QoS::AtMostOnce,
                    retain: false,
                    properties: Properties::NONE,
                    topic: "will",
                    payload: b"of the first",
                }),
                ..durable(version, "lamp", &hour)
            });
            world.read(client);
        }
        world.read_all(watcher);
        // It would have discarded the session, and the will with it.
        let refused = world.try_connect(connect(version, "lamp"));
        world.expect_refused(refused, told(version));
        world.expect_nothing(watcher);
        world.publish(watcher, "t", "still there");
        assert_eq!(world.payloads(client), ["still there"]);
        world.lose(client);
        assert_eq!(world.payloads(watcher), ["still there", "of the first"]);
    }
}

#[test]
fn who_does_not_have_the_password_cannot_keep_others_out() {
    let mut world = World::with(Options {
        listeners: vec![ListenerOptions {
            passwords: true,
            ..ListenerOptions::default()
        }],
        ..Options::default()
    });
    let named = Connect {
        user_name: Some("user"),
        password: Some(b"secret"),
        ..connect(V311, "lamp")
    };
    let first = world.try_connect(named);
    world.answer(Verdict::Right);
    world.read(first);
    for _ in 0..100 {
        let guess = world.try_connect(named);
        world.answer(Verdict::WrongPassword);
        world.expect_refused(guess, R::NotAuthorized);
        let anonymous = world.try_connect(Connect {
            password: None,
            ..named
        });
        world.expect_refused(anonymous, R::NotAuthorized);
    }
    for _ in 0..AT_WILL {
        let client = world.try_connect(named);
        world.answer(Verdict::Right);
        assert!(is_let_in(&mut world, client));
    }
    // Nor does he learn that it has changed hands too often.
    let guess = world.try_connect(named);
    world.answer(Verdict::WrongPassword);
    world.expect_refused(guess, R::NotAuthorized);
    let client = world.try_connect(named);
    world.answer(Verdict::Right);
    world.expect_refused(client, R::ServerUnavailable);
}

#[test]
fn what_changes_hands_most_is_not_forgotten_for_what_seldom_does() {
    let mut world = World::new();
    take_over_at_will(&mut world, V311, "lamp");
    for number in 0..2 * Limits::TAKEOVER_ROWS * Limits::TAKEOVERS_PER_ROW {
        let id = format!("one of many {number}");
        world.client(V311, &id);
        let second = world.client(V311, &id);
        world.disconnect(second);
    }
    let refused = world.try_connect(connect(V311, "lamp"));
    world.expect_refused(refused, R::ServerUnavailable);
}

#[test]
fn without_a_limit_it_changes_hands_as_often_as_clients_like() {
    let mut options = Options::default();
    options.limits.takeover_interval = 0;
    let mut world = World::with(options);
    for _ in 0..100 {
        world.client(V311, "lamp");
    }
}

#[test]
fn a_shorter_interval_holds_at_once_for_ids_that_are_noted() {
    for (interval, refused_for) in [(0, 0), (1_000, 1)] {
        let mut world = World::new();
        take_over_at_will(&mut world, V311, "lamp");
        let mut options = Options::default();
        options.limits.takeover_interval = interval;
        world.broker.set_options(options, world.now);
        world.turn();
        for second in 0..=refused_for {
            let client = world.try_connect(connect(V311, "lamp"));
            let expected = second == refused_for;
            assert_eq!(
                is_let_in(&mut world, client),
                expected,
                "{interval} {second}"
            );
            world.advance(secs(1));
        }
    }
}

#[test]
fn sys_counts_how_often_ids_changed_hands_and_did_not() {
    let mut world = World::new();
    take_over_at_will(&mut world, V5, "lamp");
    for _ in 0..3 {
        world.try_connect(connect(V5, "lamp"));
    }
    let watcher = world.client(V5, "watcher");
    for (topic, value) in [
        ("takeovers", AT_WILL),
        ("takeovers/refused", 3),
        ("refused", 3),
    ] {
        let topic = format!("$SYS/broker/clients/{topic}");
        world.subscribe(watcher, &topic, QoS::AtMostOnce);
        assert_eq!(world.payloads(watcher), [value.to_string()], "{topic}");
    }
}
