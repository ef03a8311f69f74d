//! Who brings a user name: waits until its password is checked, and is let in, told, or forgotten.

mod common;

use common::*;
use midge::broker::Verdict;
use midge::broker::limits::{Limits, ListenerOptions, Options};
use midge::packet::*;

use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

fn users(allow_anonymous: bool) -> Options {
    Options {
        listeners: vec![ListenerOptions {
            allow_anonymous,
            passwords: true,
            ..ListenerOptions::default()
        }],
        ..Options::default()
    }
}

fn world() -> World {
    World::with(users(false))
}

fn named<'a>(version: Version, id: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some("user"),
        password: Some(b"secret"),
        ..connect(version, id)
    }
}

/// What Mosquitto says before 5.0, and the specification's own word for it in 5.0.
fn wrong(version: Version) -> R {
    match version {
        V5 => R::BadUserNameOrPassword,
        V31 | V311 => R::NotAuthorized,
    }
}

#[test]
fn a_client_is_told_nothing_until_its_password_is_found_right() {
    for version in ALL {
        let mut world = world();
        let client = world.try_connect(named(version, "a"));
        world.expect_nothing(client);
        assert_eq!(world.broker.connected(), 0);
        let asked = world.broker.credentials(world.asked[0]).unwrap();
        assert_eq!((asked.user_name, asked.password), ("user", &b"secret"[..]));
        world.advance(secs(9));
        world.expect_nothing(client);
        world.answer(Verdict::Right);
        assert_eq!(world.read(client).connack().reason, R::Success);
        world.subscribe(client, "t", QoS::AtMostOnce);
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_the_same() {
    for version in ALL {
        let mut told = vec![];
        for verdict in [Verdict::WrongPassword, Verdict::UnknownUser] {
            let mut world = world();
            let client = world.try_connect(named(version, "a"));
            world.answer(verdict);
            let received = world.read(client);
            assert_eq!(received.connack().reason, wrong(version));
            told.push(received.bytes.clone());
            world.expect_closed(client);
        }
        assert_eq!(told[0], told[1]);
    }
}

#[test]
fn without_a_user_name_the_listener_decides() {
    for version in ALL {
        let mut world = World::with(users(true));
        world.client(version, "anonymous");
        // A name is no way around the password, though none would be needed.
        let client = world.try_connect(named(version, "named"));
        world.answer(Verdict::WrongPassword);
        world.expect_refused(client, wrong(version));

        let mut world = World::with(users(false));
        let client = world.try_connect(connect(version, "anonymous"));
        world.expect_refused(client, R::NotAuthorized);
        assert_eq!(world.asked, []);
    }
    // Only 5.0 has passwords without names: they are nobody's.
    let mut world = World::with(users(true));
    let client = world.try_connect(Connect {
        password: Some(b"secret"),
        ..connect(V5, "a")
    });
    assert_eq!(world.read(client).connack().reason, R::Success);
}

#[test]
fn a_user_name_without_a_password_is_refused_unasked() {
    for version in ALL {
        for allow_anonymous in [false, true] {
            let mut world = World::with(users(allow_anonymous));
            let client = world.try_connect(Connect {
                password: None,
                ..named(version, "a")
            });
            world.expect_refused(client, wrong(version));
            assert_eq!(world.asked, []);
        }
    }
}

#[test]
fn what_is_sent_behind_the_connect_counts_once_the_client_is_let_in() {
    for version in ALL {
        let mut world = world();
        let watcher = world.try_connect(named(version, "watcher"));
        world.answer(Verdict::Right);
        world.read(watcher);
        world.subscribe(watcher, "#", QoS::AtMostOnce);

        let client = world.open(version);
        let mut bytes = vec![];
        Packet::Connect(named(version, "hasty")).encode(version, &mut bytes);
        for payload in ["one", "two", "three"] {
            Packet::Publish(publish("t", payload)).encode(version, &mut bytes);
        }
        // In pieces, which end anywhere.
        for piece in bytes.chunks(7) {
            world.send_bytes(client, piece);
        }
        world.expect_nothing(watcher);
        assert_eq!(world.asked.len(), 1, "it is asked once");
        world.answer(Verdict::Right);
        assert_eq!(world.read(client).connack().reason, R::Success);
        assert_eq!(world.payloads(watcher), ["one", "two", "three"]);
    }
}

#[test]
fn nothing_that_was_sent_behind_a_wrong_password_counts() {
    let mut world = World::with(users(true));
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "#", QoS::AtMostOnce);
    let client = world.open(V5);
    let mut bytes = vec![];
    Packet::Connect(Connect {
        will: Some(Will {
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Properties::NONE,
            topic: "will",
            payload: b"x",
        }),
        ..named(V5, "a")
    })
    .encode(V5, &mut bytes);
    Packet::Publish(publish("t", "x")).encode(V5, &mut bytes);
    world.send_bytes(client, &bytes);
    world.answer(Verdict::WrongPassword);
    world.expect_refused(client, R::BadUserNameOrPassword);
    world.expect_nothing(watcher);
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let mut world = world();
    let gone = world.try_connect(named(V5, "a"));
    let check = world.asked[0];
    world.lose(gone);
    assert!(world.broker.credentials(check).is_none());
    // Its place is another's now, who has not been asked for.
    let next = world.open(V5);
    world.answer(Verdict::Right);
    world.expect_nothing(next);
    world.send(next, &Packet::Connect(named(V5, "b")));
    world.answer(Verdict::WrongPassword);
    world.expect_refused(next, R::BadUserNameOrPassword);
    assert_eq!(world.broker.connected(), 0);
}

#[test]
fn an_answer_counts_once() {
    let mut world = world();
    let client = world.try_connect(named(V5, "a"));
    let check = world.asked[0];
    world.answer(Verdict::Right);
    world.read(client);
    world.asked.push(check);
    world.answer(Verdict::WrongPassword);
    world.expect_nothing(client);
}

#[test]
fn whoever_waits_too_long_may_try_again() {
    for (version, reason) in [(V5, R::ServerBusy), (V311, R::ServerUnavailable)] {
        let mut world = world();
        let client = world.open(version);
        // The time for the CONNECT goes on from the opening of the connection.
        world.advance(secs(6));
        world.send(client, &Packet::Connect(named(version, "a")));
        world.advance(millis(3_999));
        world.expect_nothing(client);
        world.advance(millis(1));
        let received = world.read(client);
        let connack = received.connack();
        assert_eq!(connack.reason, reason);
        if version == V5 {
            assert!(reason_string(connack.properties).contains("in time"));
        }
        world.expect_closed(client);
        world.answer(Verdict::Right);
        assert_eq!(world.broker.connected(), 0);
    }
}

#[test]
fn the_keep_alive_begins_when_the_client_is_let_in() {
    let mut world = world();
    let client = world.try_connect(Connect {
        keep_alive: 2,
        ..named(V5, "a")
    });
    world.advance(secs(8));
    world.answer(Verdict::Right);
    world.read(client);
    world.advance(millis(2_900));
    world.expect_nothing(client);
    world.advance(millis(300));
    world.expect_disconnect(client, R::KeepAliveTimeout);
}

#[test]
fn what_else_is_wrong_is_told_to_those_who_have_the_password() {
    let mut world = world();
    let too_long = "x".repeat(Limits::CLIENT_ID_BYTES_MAX + 1);
    let client = world.try_connect(named(V5, &too_long));
    world.expect_nothing(client);
    world.answer(Verdict::Right);
    world.expect_refused(client, R::ClientIdentifierNotValid);
}

#[test]
fn a_connected_client_stays_until_another_has_proved_to_be_the_same() {
    let mut world = world();
    let first = world.try_connect(named(V5, "a"));
    world.answer(Verdict::Right);
    world.read(first);
    let guess = world.try_connect(named(V5, "a"));
    world.expect_nothing(first);
    world.answer(Verdict::WrongPassword);
    world.expect_refused(guess, R::BadUserNameOrPassword);
    world.expect_nothing(first);
    let second = world.try_connect(named(V5, "a"));
    world.answer(Verdict::Right);
    assert_eq!(world.read(second).connack().reason, R::Success);
    world.expect_disconnect(first, R::SessionTakenOver);
}

#[test]
fn what_those_who_wait_may_send_is_limited() {
    let mut world = world();
    let client = world.try_connect(named(V5, "a"));
    let half = vec![0; Limits::HELD_BYTES_MAX / 2];
    world.send_bytes(client, &half);
    world.expect_nothing(client);
    world.send_bytes(client, &half);
    world.expect_refused(client, R::ServerBusy);
    // Of all together: those who send much make room.
    let greedy: Vec<Client> = (0..Limits::HELD_BYTES_OF_ALL_MAX / half.len() - 1)
        .map(|_| {
            let client = world.try_connect(named(V5, "a"));
            world.send_bytes(client, &half);
            client
        })
        .collect();
    for client in &greedy {
        world.expect_nothing(*client);
    }
    let modest = world.try_connect(named(V5, "b"));
    world.send_bytes(modest, &vec![0; half.len() - 1_000]);
    let open = greedy.iter().filter(|client| world.is_open(**client));
    assert_eq!(open.count(), greedy.len() - 1);
    world.expect_nothing(modest);
}

#[test]
fn only_so_many_may_wait() {
    let mut world = world();
    for _ in 0..Limits::WAITING_MAX {
        let client = world.accept(V311);
        let mut bytes = vec![];
        Packet::Connect(named(V311, "a")).encode(V311, &mut bytes);
        world.broker_receive(client, &bytes);
    }
    let client = world.try_connect(named(V311, "one too many"));
    world.expect_refused(client, R::ServerUnavailable);
    world.answer(Verdict::WrongPassword);
    let client = world.try_connect(named(V311, "a"));
    world.expect_nothing(client);
}

#[test]
fn those_who_wait_are_asked_for_again_when_the_files_have_been_read_again() {
    let mut world = world();
    let first = world.try_connect(named(V5, "first"));
    let second = world.try_connect(named(V5, "second"));
    let asked = std::mem::take(&mut world.asked);
    world.broker.ask_again(world.now);
    world.turn();
    assert_eq!(world.asked, asked, "in their order");
    world.answer(Verdict::Right);
    world.answer(Verdict::WrongPassword);
    assert_eq!(world.read(first).connack().reason, R::Success);
    world.expect_refused(second, R::BadUserNameOrPassword);
}

/// While it waits, the users of its listener are taken out of the configuration: nobody is there to
/// ask, and what holds without users holds for it, with all that it has sent.
#[test]
fn those_who_wait_where_there_are_no_users_any_more_are_let_in_or_refused() {
    for version in ALL {
        for allow_anonymous in [true, false] {
            let mut world = world();
            let mut waiting = |id: &str| {
                let client = world.open(version);
                let ping = [Packet::PingReq];
                world.send_bytes(client, &pipelined(named(version, id), &ping));
                client
            };
            let clients = [waiting("first"), waiting("second")];
            world.expect_nothing(clients[0]);
            let mut options = users(allow_anonymous);
            options.listeners[0].passwords = false;
            world.broker.set_options(options, world.now);
            let asked = std::mem::take(&mut world.asked);
            world.broker.ask_again(world.now);
            world.broker.check_invariants();
            world.turn();
            assert_eq!(world.asked, []);
            // An answer that comes too late is nobody's.
            world
                .broker
                .verified(asked[0], Verdict::WrongPassword, world.now);
            world.broker.verified(asked[1], Verdict::Right, world.now);
            world.turn();
            for client in clients {
                if allow_anonymous {
                    assert_eq!(world.read(client).connack().reason, R::Success);
                    world.expect(client, &Packet::PingResp);
                } else {
                    world.expect_refused(client, R::NotAuthorized);
                }
            }
        }
    }
}

#[test]
fn a_server_that_stops_says_so_to_those_who_wait() {
    for (version, reason) in [(V5, R::ServerUnavailable), (V311, R::ServerUnavailable)] {
        let mut world = world();
        let client = world.try_connect(named(version, "a"));
        world.stop();
        world.expect_refused(client, reason);
    }
}

#[test]
fn sys_counts_who_was_let_in_and_who_was_not() {
    let mut world = World::with(users(false));
    for verdict in [Verdict::Right, Verdict::WrongPassword, Verdict::UnknownUser] {
        world.try_connect(named(V311, "a"));
        world.answer(verdict);
    }
    world.try_connect(connect(V311, "anonymous"));
    let watcher = world.try_connect(named(V311, "watcher"));
    world.answer(Verdict::Right);
    world.read(watcher);
    world.try_connect(named(V311, "waits"));
    for (topic, value) in [("accepted", "2"), ("refused", "3"), ("waiting", "1")] {
        let topic = format!("$SYS/broker/auth/{topic}");
        world.subscribe(watcher, &topic, QoS::AtMostOnce);
        assert_eq!(world.payloads(watcher), [value], "{topic}");
    }
}

fn names_are_ids() -> World {
    let mut options = users(false);
    options.listeners[0].use_username_as_client_id = true;
    World::with(options)
}

fn called<'a>(version: Version, id: &'a str, name: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some(name),
        ..named(version, id)
    }
}

#[test]
fn a_name_is_an_id_only_once_its_password_was_right() {
    for version in ALL {
        let mut world = names_are_ids();
        let ann = world.try_connect(called(version, "sensor", "ann"));
        world.answer(Verdict::Right);
        world.read(ann);
        let again = |world: &mut World, verdict| {
            let client = world.try_connect(called(version, "other", "ann"));
            world.expect_nothing(ann);
            world.answer(verdict);
            client
        };
        let guess = again(&mut world, Verdict::WrongPassword);
        world.expect_refused(guess, wrong(version));
        world.expect_nothing(ann);
        // Nor does the id that somebody brings stand for anybody, before or after.
        let bob = world.try_connect(called(version, "ann", "bob"));
        world.expect_nothing(ann);
        world.answer(Verdict::Right);
        assert_eq!(world.read(bob).connack().reason, R::Success);
        world.expect_nothing(ann);
        let second = again(&mut world, Verdict::Right);
        assert_eq!(world.read(second).connack().reason, R::Success);
        assert!(!world.is_open(ann));
        world.expect_nothing(bob);
    }
}

#[test]
fn whoever_brings_no_name_where_names_are_ids_is_told_so_after_the_rest() {
    let mut options = users(true);
    options.listeners[0].use_username_as_client_id = true;
    let mut world = World::with(options);
    let client = world.try_connect(connect(V5, "anonymous"));
    world.expect_refused(client, R::NotAuthorized);
    let client = world.try_connect(called(V5, "a", ""));
    world.answer(Verdict::Right);
    world.expect_refused(client, R::NotAuthorized);
}

#[test]
fn a_client_that_brought_no_id_is_told_that_its_name_is_it() {
    let mut world = names_are_ids();
    let ann = world.try_connect(called(V5, "", "ann"));
    world.answer(Verdict::Right);
    // [MQTT-3.2.2-16]
    let connack = world.read(ann);
    let assigned = PropertyId::AssignedClientIdentifier;
    assert_eq!(connack.connack().properties.text(assigned), Some("ann"));
    let bob = world.try_connect(called(V5, "brought", "bob"));
    world.answer(Verdict::Right);
    let connack = world.read(bob);
    assert_eq!(connack.connack().properties.text(assigned), None);
    // [v3 MQTT-3.1.3-8] holds for what it brings.
    for version in [V31, V311] {
        let client = world.try_connect(Connect {
            clean_start: false,
            ..called(version, "", "eve")
        });
        world.answer(Verdict::Right);
        world.expect_refused(client, R::ClientIdentifierNotValid);
    }
}

/// As Mosquitto has it.
#[test]
fn prefixes_are_asked_of_the_id_that_a_client_brings() {
    let mut options = users(false);
    options.listeners[0].use_username_as_client_id = true;
    options.client_id_prefix = "box-".to_string();
    let mut world = World::with(options);
    let client = world.try_connect(called(V311, "box-1", "ann"));
    world.answer(Verdict::Right);
    assert_eq!(world.read(client).connack().reason, R::Success);
    for (id, name) in [("one", "box-1"), ("", "box-1")] {
        let client = world.try_connect(called(V5, id, name));
        world.answer(Verdict::Right);
        world.expect_refused(client, R::NotAuthorized);
    }
}

/// A CONNECT and what comes with it, in one piece.
fn pipelined(connect: Connect, packets: &[Packet]) -> Vec<u8> {
    let mut bytes = vec![];
    Packet::Connect(connect).encode(connect.version, &mut bytes);
    for packet in packets {
        packet.encode(connect.version, &mut bytes);
    }
    bytes
}

fn with_will(connect: Connect<'_>) -> Connect<'_> {
    Connect {
        will: Some(Will {
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Properties::NONE,
            topic: "will",
            payload: b"gone",
        }),
        ..connect
    }
}

/// Somebody who brings no name, where that is allowed, and is sent everything.
fn watched() -> (World, Client) {
    let mut world = World::with(users(true));
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "#", QoS::AtMostOnce);
    (world, watcher)
}

#[test]
fn whoever_leaves_while_it_waits_leaves_no_will() {
    for version in ALL {
        let (mut world, watcher) = watched();
        let lost = world.try_connect(with_will(named(version, "lost")));
        world.lose(lost);
        let late = world.try_connect(with_will(named(version, "late")));
        world.advance(secs(10));
        assert!(!world.is_open(late));
        world.try_connect(with_will(named(version, "stopped")));
        world.stop();
        assert_eq!(world.payloads(watcher), [""; 0]);
    }
}

#[test]
fn a_disconnect_that_was_sent_before_the_verdict_counts_after_it() {
    for version in ALL {
        let (mut world, watcher) = watched();
        let client = world.open(version);
        let message = Packet::Publish(publish("t", "said"));
        let connect = with_will(named(version, "hasty"));
        let bytes = pipelined(connect, &[message.clone(), disconnect(), message]);
        world.send_bytes(client, &bytes);
        world.expect_nothing(client);
        world.answer(Verdict::Right);
        assert_eq!(world.read(client).connack().reason, R::Success);
        world.expect_closed(client);
        // No will, and nothing of what comes behind.
        assert_eq!(world.payloads(watcher), ["said"]);
        assert_eq!(world.broker.connected(), 1);
    }
}

#[test]
fn what_was_wrong_before_the_verdict_is_told_after_it() {
    for version in ALL {
        let second = pipelined(named(version, "other"), &[]);
        let malformed = vec![0xFF; 20];
        for wrong in [second, malformed] {
            let (mut world, watcher) = watched();
            let client = world.open(version);
            let mut bytes = pipelined(with_will(named(version, "a")), &[]);
            bytes.extend(wrong);
            world.send_bytes(client, &bytes);
            world.expect_nothing(client);
            assert_eq!(world.asked.len(), 1);
            world.answer(Verdict::Right);
            assert_eq!(world.read(client).connack().reason, R::Success);
            assert!(!world.is_open(client));
            assert_eq!(world.payloads(watcher), ["gone"]);
        }
    }
}

#[test]
fn of_those_who_wait_with_one_id_whoever_is_let_in_last_has_it() {
    for version in ALL {
        let mut world = world();
        let waiting: Vec<Client> = (0..3)
            .map(|_| world.try_connect(named(version, "a")))
            .collect();
        // In one turn.
        for check in std::mem::take(&mut world.asked) {
            world.broker.verified(check, Verdict::Right, world.now);
            world.broker.check_invariants();
        }
        world.turn();
        for client in &waiting {
            assert_eq!(world.read(*client).connack().reason, R::Success);
        }
        let open = waiting.iter().map(|client| world.is_open(*client));
        assert_eq!(open.collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(world.broker.connected(), 1);
    }
}

#[test]
fn there_is_room_for_so_many_whoever_of_them_waits() {
    let mut options = users(false);
    options.listeners[0].connections_max = 1;
    let mut world = World::with(options);
    let first = world.try_connect(named(V5, "first"));
    let second = world.try_connect(named(V5, "second"));
    world.answer(Verdict::Right);
    world.answer(Verdict::Right);
    assert_eq!(world.read(first).connack().reason, R::Success);
    world.expect_refused(second, R::QuotaExceeded);
    // The place of one that is connected is free for the same one only.
    let again = world.try_connect(named(V5, "first"));
    world.answer(Verdict::Right);
    assert_eq!(world.read(again).connack().reason, R::Success);
}

#[test]
fn a_session_lives_as_long_as_it_is_to_whoever_waits_for_it() {
    let mut world = world();
    let block = expiry(5);
    let connect = || Connect {
        clean_start: false,
        properties: block.as_properties(),
        ..named(V5, "a")
    };
    let first = world.try_connect(connect());
    world.answer(Verdict::Right);
    world.read(first);
    world.lose(first);
    for (seconds, is_there) in [(4, true), (6, false)] {
        let client = world.try_connect(connect());
        world.advance(secs(seconds));
        world.answer(Verdict::Right);
        assert_eq!(world.read(client).connack().session_present, is_there);
        world.lose(client);
    }
}

#[test]
fn whoever_waits_wakes_nobody_up() {
    let mut world = world();
    let mut bytes = pipelined(named(V5, "a"), &[Packet::PingReq]);
    bytes.extend([0x30]);
    let client = world.open(V5);
    world.send_bytes(client, &bytes);
    assert_eq!(world.wake_ups(secs(9)), 0);
    world.answer(Verdict::Right);
    assert_eq!(world.read(client).connack().reason, R::Success);
    world.expect(client, &Packet::PingResp);
}
