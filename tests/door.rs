//! Who checks passwords, on the virtual clock: a little in each turn, known ones at once, and after
//! wrong ones the next later.

mod common;

use std::time::Instant;

use common::*;
use midge::broker::limits::{ListenerOptions, Options};
use midge::net::Gate;
use midge::packet::*;
use midge::passwords::hash::{Hash, Method};
use midge::passwords::users::Users;
use midge::passwords::{ADDRESSES_MAX, DELAY, DELAY_MAX, Door, FORGIVEN_AFTER, HELD_MAX};

use ReasonCode as R;
use Version::V5;

const HOME: [u8; 4] = [192, 0, 2, 1];
const AWAY: [u8; 4] = [198, 51, 100, 7];

/// Users u0, u1, … whose passwords are p0, p1, …
fn file(users: usize, iterations: u32) -> Users {
    let line = |n: usize| {
        let method = Method::Pbkdf2 { iterations };
        let hash = Hash::new(method, vec![n as u8; 12], format!("p{n}").as_bytes());
        format!("u{n}:{}\n", hash.to_text())
    };
    let text: String = (0..users).map(line).collect();
    Users::parse("passwords", &text).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn world(users: usize) -> World {
    let mut world = World::with(Options {
        listeners: vec![ListenerOptions {
            allow_anonymous: true,
            passwords: true,
            ..ListenerOptions::default()
        }],
        ..Options::default()
    });
    world.gate = Some(Box::new(door(file(users, 3), world.now)));
    world
}

/// All listeners have these users.
fn door(users: Users, now: Instant) -> Door {
    Door::new(vec![users], vec![Some(0)], &[1; 32], now)
}

fn login<'a>(id: &'a str, user: &'a str, password: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some(user),
        password: Some(password.as_bytes()),
        ..connect(V5, id)
    }
}

/// A client from there that has sent its CONNECT.
fn from(world: &mut World, address: [u8; 4], user: &str, password: &str) -> Client {
    let client = world.accept_from(address, V5);
    world.send(client, &Packet::Connect(login(user, user, password)));
    client
}

fn is_in(world: &mut World, client: Client) -> bool {
    let connack = world.try_read(client);
    connack.is_some_and(|connack| connack.connack().reason == R::Success)
}

/// Wrong passwords one after the other, each as soon as the one before was answered.
fn be_wrong(world: &mut World, address: [u8; 4], times: usize) {
    for _ in 0..times {
        let client = from(world, address, "u0", "wrong");
        world.advance(DELAY_MAX);
        world.expect_refused(client, R::BadUserNameOrPassword);
    }
}

#[test]
fn the_right_password_of_the_right_user_lets_in_and_nothing_else() {
    for (user, password, right) in [
        ("u0", "p0", true),
        ("u1", "p1", true),
        ("u0", "p1", false),
        ("u0", "", false),
        ("u0", "p0 ", false),
        ("U0", "p0", false),
        ("", "", false),
        // Whoever does not exist is checked against somebody: it must not count.
        ("nobody", "p0", false),
        ("nobody", "p1", false),
    ] {
        let mut world = world(2);
        let client = from(&mut world, HOME, user, password);
        assert_eq!(is_in(&mut world, client), right, "{user} {password}");
    }
    let mut world = world(0);
    let client = from(&mut world, HOME, "nobody", "");
    world.expect_refused(client, R::BadUserNameOrPassword);
}

/// Three listeners: two have users of their own, of the same name, and one has none.
#[test]
fn each_listener_has_its_own_users() {
    let of_listener = |passwords| ListenerOptions {
        passwords,
        ..ListenerOptions::default()
    };
    let mut world = World::with(Options {
        listeners: [true, true, false].map(of_listener).to_vec(),
        ..Options::default()
    });
    let hash = |password: &str| {
        let method = Method::Pbkdf2 { iterations: 3 };
        Hash::new(method, vec![7; 12], password.as_bytes()).to_text()
    };
    let users = |password| Users::parse("passwords", &format!("ann:{}\n", hash(password)));
    let files = [users("in"), users("out")].map(Result::unwrap_or_default);
    let door = Door::new(
        files.to_vec(),
        vec![Some(0), Some(1), None],
        &[1; 32],
        world.now,
    );
    world.gate = Some(Box::new(door));
    // Each twice: whoever is known at one listener is not known at the other.
    for (listener, password, right) in [
        (0, "in", true),
        (1, "in", false),
        (1, "out", true),
        (0, "out", false),
        (0, "in", true),
        (1, "in", false),
        (2, "whatever", true),
    ] {
        world.listener = listener;
        let client = from(&mut world, HOME, "ann", password);
        world.advance(DELAY_MAX);
        assert_eq!(is_in(&mut world, client), right, "{listener} {password}");
    }
    // Whoever is asked for where there are no users is not taken for somebody else's.
    for of_listeners in [vec![None, Some(1)], vec![]] {
        let door = Door::new(files.to_vec(), of_listeners, &[1; 32], world.now);
        world.gate = Some(Box::new(door));
        world.listener = 0;
        let client = from(&mut world, HOME, "ann", "in");
        world.advance(DELAY_MAX);
        assert!(!is_in(&mut world, client));
    }
}

#[test]
fn a_turn_does_so_much_and_others_are_served_between() {
    let mut world = world(0);
    let file = file(1, 100 * midge::passwords::ITERATIONS_PER_TURN);
    world.gate = None;
    let other = world.client(V5, "other");
    let waiting = world.try_connect(login("a", "u0", "p0"));
    let mut door: Box<dyn midge::net::Gate> = Box::new(door(file, world.now));
    let mut turn = midge::broker::Turn::default();
    turn.verify.append(&mut world.asked);
    for _ in 0..99 {
        door.check(&mut world.broker, &turn, world.now);
        turn.verify.clear();
        assert_eq!(door.deadline(), Some(world.now), "it wants to go on");
        world.send(other, &Packet::PingReq);
        world.expect(other, &Packet::PingResp);
        world.expect_nothing(waiting);
    }
    door.check(&mut world.broker, &turn, world.now);
    world.turn();
    assert!(is_in(&mut world, waiting));
    assert_eq!(door.deadline(), None, "there is nothing to wake up for");
}

#[test]
fn very_many_and_very_long_passwords_take_turns_and_all_are_checked() {
    let mut world = world(1);
    let long = "x".repeat(60_000);
    let greedy: Vec<Client> = (1..10u8)
        .map(|n| from(&mut world, [203, 0, 113, n], "u0", &long))
        .collect();
    let clients: Vec<Client> = (0..500).map(|_| world.accept_from(HOME, V5)).collect();
    for client in &clients {
        let mut bytes = vec![];
        Packet::Connect(login("", "u0", "p0")).encode(V5, &mut bytes);
        world.deliver_bytes(*client, &bytes);
    }
    world.turn();
    for client in clients {
        assert!(is_in(&mut world, client));
    }
    for client in greedy {
        world.expect_refused(client, R::BadUserNameOrPassword);
    }
}

#[test]
fn the_first_wrong_password_is_told_at_once_and_the_next_ones_later_and_later() {
    let mut world = world(1);
    let mut delay = DELAY;
    let client = from(&mut world, HOME, "u0", "wrong");
    world.expect_refused(client, R::BadUserNameOrPassword);
    for _ in 0..8 {
        let client = from(&mut world, HOME, "u0", "wrong");
        world.advance(delay - millis(1));
        world.expect_nothing(client);
        world.advance(millis(1));
        world.expect_refused(client, R::BadUserNameOrPassword);
        delay = (delay * 2).min(DELAY_MAX);
    }
}

#[test]
fn asking_on_many_connections_at_once_is_no_faster() {
    let mut world = world(1);
    be_wrong(&mut world, HOME, 6);
    from(&mut world, HOME, "u0", "wrong");
    let clients: Vec<Client> = (0..10)
        .map(|_| from(&mut world, HOME, "u0", "wrong"))
        .collect();
    world.advance(DELAY_MAX + DELAY_MAX / 2);
    let told: Vec<Option<R>> = clients
        .iter()
        .map(|client| Some(world.try_read(*client)?.connack().reason))
        .collect();
    let wrong = Some(R::BadUserNameOrPassword);
    assert_eq!(told.iter().filter(|told| **told == wrong).count(), 1);
    // Not even by leaving instead of waiting.
    for client in clients {
        if world.is_open(client) {
            world.lose(client);
        }
    }
    let client = from(&mut world, HOME, "u0", "wrong");
    world.expect_nothing(client);
}

#[test]
fn other_addresses_are_not_slowed_down() {
    let mut world = world(2);
    be_wrong(&mut world, AWAY, 8);
    from(&mut world, AWAY, "u0", "wrong");
    let client = from(&mut world, HOME, "u1", "p1");
    assert!(is_in(&mut world, client));
}

#[test]
fn whoever_is_known_gets_in_at_once_from_an_address_with_wrong_passwords_too() {
    let mut world = world(1);
    let client = from(&mut world, HOME, "u0", "p0");
    assert!(is_in(&mut world, client));
    be_wrong(&mut world, HOME, 8);
    from(&mut world, HOME, "u0", "wrong");
    for _ in 0..3 {
        let client = from(&mut world, HOME, "u0", "p0");
        assert!(is_in(&mut world, client));
    }
}

#[test]
fn behind_one_address_the_right_wait_for_one_delay_at_most() {
    let mut world = world(5);
    be_wrong(&mut world, HOME, 8);
    // Some that never give up, with a user that does not exist either.
    for user in ["u0", "u0", "nobody", "u0"] {
        from(&mut world, HOME, user, "wrong");
    }
    let right: Vec<Client> = [("u1", "p1"), ("u2", "p2")]
        .map(|(user, password)| from(&mut world, HOME, user, password))
        .to_vec();
    world.advance(DELAY_MAX + DELAY_MAX);
    for client in right {
        assert!(is_in(&mut world, client));
    }
}

#[test]
fn a_right_password_does_not_make_the_next_one_wait() {
    let mut world = world(20);
    be_wrong(&mut world, HOME, 8);
    let clients: Vec<Client> = (1..20)
        .map(|n| from(&mut world, HOME, &format!("u{n}"), &format!("p{n}")))
        .collect();
    world.advance(DELAY_MAX);
    for client in clients {
        assert!(is_in(&mut world, client));
    }
}

#[test]
fn so_many_wait_for_an_address_and_the_next_is_told_to_come_later() {
    let mut world = world(1);
    be_wrong(&mut world, HOME, 8);
    from(&mut world, HOME, "u0", "wrong");
    let waiting: Vec<Client> = (0..HELD_MAX)
        .map(|_| from(&mut world, HOME, "u0", "wrong"))
        .collect();
    let client = from(&mut world, HOME, "u0", "p0");
    world.expect_refused(client, R::ServerBusy);
    // Those who leave make room.
    world.lose(waiting[HELD_MAX / 2]);
    let client = from(&mut world, HOME, "u0", "wrong");
    world.expect_nothing(client);
}

#[test]
fn a_client_that_leaves_before_its_turn_holds_up_nobody() {
    let mut world = world(2);
    be_wrong(&mut world, HOME, 8);
    from(&mut world, HOME, "u0", "wrong");
    let first = from(&mut world, HOME, "u0", "wrong");
    world.lose(first);
    let second = from(&mut world, HOME, "u1", "p1");
    world.advance(DELAY_MAX);
    assert!(is_in(&mut world, second));
}

#[test]
fn wrong_passwords_are_forgiven() {
    let mut world = world(1);
    be_wrong(&mut world, HOME, 8);
    world.advance(FORGIVEN_AFTER + secs(1));
    let client = from(&mut world, HOME, "u0", "wrong");
    world.expect_refused(client, R::BadUserNameOrPassword);
    let client = from(&mut world, HOME, "u0", "wrong");
    world.advance(DELAY);
    world.expect_refused(client, R::BadUserNameOrPassword);
}

/// Whoever guesses is no faster for a SIGHUP, whether it waits by then or comes later.
#[test]
fn wrong_passwords_count_still_when_the_file_has_been_read_again() {
    let mut world = world(2);
    let client = from(&mut world, HOME, "u0", "wrong");
    world.expect_refused(client, R::BadUserNameOrPassword);
    let mut delay = DELAY;
    for waits_before in [true, false, true] {
        let before = waits_before.then(|| from(&mut world, HOME, "u0", "wrong"));
        let mut fresh = door(file(2, 3), world.now);
        fresh.follow(world.gate.take().unwrap());
        world.gate = Some(Box::new(fresh));
        world.broker.ask_again(world.now);
        world.turn();
        let client = before.unwrap_or_else(|| from(&mut world, HOME, "u0", "wrong"));
        world.advance(delay - millis(1));
        world.expect_nothing(client);
        world.advance(millis(1));
        world.expect_refused(client, R::BadUserNameOrPassword);
        delay *= 2;
    }
    let client = from(&mut world, AWAY, "u1", "p1");
    assert!(is_in(&mut world, client));
}

#[test]
fn only_so_many_addresses_are_remembered() {
    let mut world = world(1);
    be_wrong(&mut world, HOME, 3);
    for n in 0..ADDRESSES_MAX {
        let address = [10, 0, (n >> 8) as u8, n as u8];
        let client = from(&mut world, address, "u0", "wrong");
        world.expect_refused(client, R::BadUserNameOrPassword);
        world.advance(millis(1));
    }
    // The oldest made room.
    let client = from(&mut world, HOME, "u0", "wrong");
    world.expect_refused(client, R::BadUserNameOrPassword);
}
