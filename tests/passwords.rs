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
        world.expect_refused(client, reason);
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
    world.broker.ask_again();
    world.turn();
    assert_eq!(world.asked, asked, "in their order");
    world.answer(Verdict::Right);
    world.answer(Verdict::WrongPassword);
    assert_eq!(world.read(first).connack().reason, R::Success);
    world.expect_refused(second, R::BadUserNameOrPassword);
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
