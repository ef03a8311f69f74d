//! Who may read what waited for it, when the board is back and does not know yet who is who.

use midge::broker::acl_file;
use midge::broker::limits::{ListenerOptions, Options};
use midge::packet::{self, Connect, Packet, PropertyId, QoS, ReasonCode, Version};

use crate::board::{Board, SEEDS};
use crate::common::{Client, connect, durable, expiry, numbers, publish_qos, retained, secs};

fn load(board: &mut Board, text: &str) {
    let file = acl_file::parse("acl", text.as_bytes()).expect("it is a good file");
    board.broker.set_acls(vec![file], &[Some(0)]);
}

const ROOT: &str = "user root\ntopic readwrite #\n";
const RULES: &str = "user alice\ntopic read t/a\nuser root\ntopic readwrite #\n";

#[test]
fn what_waited_through_a_power_cut_is_judged_when_its_client_is_back() {
    let block = expiry(3_600);
    let session = |name| Connect {
        user_name: Some(name),
        ..durable(Version::V5, "reader", &block)
    };
    for seed in SEEDS {
        for (name, expected) in [("alice", &["t/a", "t/a"][..]), ("eve", &[])] {
            let mut board = Board::new(seed);
            load(&mut board, RULES);
            let alice = board.connect(session("alice"));
            board.subscribe(alice, "t/+", QoS::AtLeastOnce);
            board.disconnect(alice);
            let publish_both = |board: &mut Board| {
                let root = board.connect(Connect {
                    user_name: Some("root"),
                    ..durable(Version::V5, "root", &block)
                });
                for topic in ["t/a", "t/b"] {
                    let publish = publish_qos(QoS::AtLeastOnce, 1, topic, topic);
                    board.send(root, &Packet::Publish(publish));
                }
            };
            publish_both(&mut board);
            board.cut_power();
            load(&mut board, RULES);
            // Nobody knows yet whose session that is.
            publish_both(&mut board);
            let reader = board.connect(session(name));
            assert_eq!(board.drain(reader), expected, "{name}");
        }
    }
}

/// A client of that user, which may do all that the rules let it.
fn user(board: &mut Board, name: &str) -> Client {
    board.connect(Connect {
        user_name: Some(name),
        ..connect(Version::V5, name)
    })
}

fn all_retained(board: &mut Board) -> Vec<String> {
    let reader = user(board, "root");
    board.subscribe(reader, "#", QoS::AtMostOnce);
    let payloads = board.payloads(reader);
    board.disconnect(reader);
    payloads
}

/// Eve may publish no more when the power is back.
#[test]
fn a_will_that_was_delayed_through_a_power_cut_is_judged() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let rules = |eve| format!("{eve}user bob\ntopic write t\nuser root\ntopic readwrite #\n");
        load(&mut board, &rules("user eve\ntopic write t\n"));
        let (delay, expiry) = (
            numbers(&[(PropertyId::WillDelayInterval, 30)]),
            expiry(3_600),
        );
        for name in ["eve", "bob"] {
            board.connect(Connect {
                user_name: Some(name),
                will: Some(packet::Will {
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    properties: delay.as_properties(),
                    topic: "t",
                    payload: name.as_bytes(),
                }),
                ..durable(Version::V5, name, &expiry)
            });
        }
        board.cut_power();
        load(&mut board, &rules(""));
        let reader = user(&mut board, "root");
        board.subscribe(reader, "#", QoS::AtMostOnce);
        board.advance(secs(31));
        assert_eq!(board.payloads(reader), ["bob"], "{seed}");
    }
}

/// There were no rules when it connected, so nobody noted as who.
#[test]
fn a_will_from_before_the_first_rules_is_judged_by_them_after_a_power_cut() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let (delay, expiry) = (
            numbers(&[(PropertyId::WillDelayInterval, 30)]),
            expiry(3_600),
        );
        board.connect(Connect {
            will: Some(packet::Will {
                qos: QoS::AtLeastOnce,
                retain: true,
                properties: delay.as_properties(),
                topic: "t",
                payload: b"w",
            }),
            ..durable(Version::V5, "nameless", &expiry)
        });
        board.cut_power();
        load(&mut board, ROOT);
        board.advance(secs(31));
        assert_eq!(all_retained(&mut board), [""; 0], "{seed}");
    }
}

#[test]
fn who_published_what_is_retained_is_known_after_a_power_cut() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let both = format!("user eve\ntopic write #\nuser bob\ntopic write #\n{ROOT}");
        load(&mut board, &both);
        for name in ["eve", "bob"] {
            let client = user(&mut board, name);
            let message = packet::Publish {
                qos: QoS::AtLeastOnce,
                packet_id: Some(1),
                ..retained(name, name)
            };
            board.send(client, &Packet::Publish(message));
        }
        board.cut_power();
        load(&mut board, &both);
        assert_eq!(all_retained(&mut board), ["bob", "eve"], "{seed}");
        load(&mut board, &format!("user bob\ntopic write #\n{ROOT}"));
        assert_eq!(all_retained(&mut board), ["bob"], "{seed}");
        // It is known for good.
        board.cut_power();
        load(&mut board, &format!("user eve\ntopic write #\n{ROOT}"));
        assert_eq!(all_retained(&mut board), ["eve"], "{seed}");
    }
}

/// The same client says the same again as somebody else: that is another record.
#[test]
fn what_another_user_published_again_is_that_users_after_a_power_cut() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let rules = "user eve\ntopic write #\nuser bob\ntopic write #\n";
        load(&mut board, rules);
        for name in ["eve", "bob"] {
            let client = board.connect(Connect {
                user_name: Some(name),
                ..connect(Version::V5, "same")
            });
            let message = packet::Publish {
                qos: QoS::AtLeastOnce,
                packet_id: Some(1),
                ..retained("t", "x")
            };
            board.send(client, &Packet::Publish(message));
        }
        board.cut_power();
        load(
            &mut board,
            "user bob\ntopic write #\nuser root\ntopic readwrite #\n",
        );
        assert_eq!(all_retained(&mut board), ["x"], "{seed}");
    }
}

/// A device that the network gives another address each time.
#[test]
fn what_stays_the_same_from_another_address_is_not_written_again() {
    for (rules, is_same) in [
        ("topic readwrite #\n", true),
        (
            "topic readwrite #\naddress 10.0.0.0/8\ntopic read x\n",
            false,
        ),
    ] {
        let mut board = Board::new(SEEDS.start);
        load(&mut board, rules);
        let mut written = Vec::new();
        for last in 1..=3 {
            let client = board.accept_from([10, 0, 0, last], Version::V5);
            let never = expiry(u32::MAX);
            let device = durable(Version::V5, "device", &never);
            board.send(client, &Packet::Connect(device));
            assert_eq!(board.read(client).connack().reason, ReasonCode::Success);
            let message = packet::Publish {
                qos: QoS::AtLeastOnce,
                packet_id: Some(1),
                ..retained("t", "same")
            };
            board.send(client, &Packet::Publish(message));
            board.read(client);
            written.push(board.figures().bytes_written);
            board.disconnect(client);
        }
        assert_eq!(written[1] == written[0], is_same, "{rules}");
        assert_eq!(written[2] == written[1], is_same, "{rules}");
    }
}

/// A session that begins without a user name and goes on with one is that user's.
#[test]
fn what_comes_for_a_session_after_a_power_cut_is_judged_by_who_it_was_last() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let rules = "topic read a\nuser alice\ntopic read b\nuser root\ntopic readwrite #\n";
        load(&mut board, rules);
        let never = expiry(u32::MAX);
        for user_name in [None, Some("alice")] {
            let client = board.connect(Connect {
                user_name,
                ..durable(Version::V5, "reader", &never)
            });
            board.subscribe(client, "#", QoS::AtLeastOnce);
        }
        board.cut_power();
        load(&mut board, rules);
        let root = user(&mut board, "root");
        for topic in ["a", "b"] {
            board.send(
                root,
                &Packet::Publish(publish_qos(QoS::AtLeastOnce, 1, topic, topic)),
            );
        }
        // Nothing waits that it may not read.
        let waiting: usize = board.kept().1.iter().map(|(_, length)| length).sum();
        assert_eq!(waiting, 1, "{seed}");
    }
}

fn listeners(names: &[&str]) -> Options {
    let listener = |name: &&str| ListenerOptions {
        name: (*name).into(),
        ..ListenerOptions::default()
    };
    Options {
        listeners: names.iter().map(listener).collect(),
        ..Options::default()
    }
}

fn open(text: &str) -> acl_file::AclFile {
    acl_file::parse("acl", text.as_bytes()).expect("it is a good file")
}

/// Its listener has another address since: what comes for it waits, and is judged when it is back.
#[test]
fn a_session_through_a_listener_that_is_gone_loses_nothing_that_it_may_read() {
    for seed in SEEDS {
        let mut board = Board::with(seed, listeners(&["1884", "1885"]));
        let files = || vec![open("topic readwrite a\n"), open("topic readwrite #\n")];
        board.broker.set_acls(files(), &[Some(0), Some(1)]);
        board.absent(Version::V5, "reader", "+", QoS::AtLeastOnce);
        board.options.listeners = listeners(&["1884 localhost", "1885"]).listeners;
        board.cut_power();
        board.broker.set_acls(files(), &[Some(0), Some(1)]);
        board.listener = 1;
        let publisher = board.client(Version::V5, "publisher");
        for topic in ["a", "b"] {
            let message = publish_qos(QoS::AtLeastOnce, 1, topic, topic);
            board.send(publisher, &Packet::Publish(message));
        }
        board.listener = 0;
        let reader = board.resume(Version::V5, "reader");
        assert_eq!(board.drain(reader), ["a"], "{seed}");
    }
}

/// Nobody knows which of the two it was: what its client may write is nothing.
#[test]
fn a_name_of_two_listeners_lends_nobody_the_rights_of_the_first() {
    for seed in SEEDS {
        let mut board = Board::with(seed, listeners(&["1884", "1884"]));
        let first = format!("topic readwrite #\n{ROOT}");
        let files = || vec![open(&first), open("topic read #\n")];
        board.broker.set_acls(files(), &[Some(0), Some(1)]);
        board.listener = 1;
        let (delay, expiry) = (
            numbers(&[(PropertyId::WillDelayInterval, 30)]),
            expiry(3_600),
        );
        board.connect(Connect {
            will: Some(packet::Will {
                qos: QoS::AtLeastOnce,
                retain: true,
                properties: delay.as_properties(),
                topic: "alarm",
                payload: b"w",
            }),
            ..durable(Version::V5, "nameless", &expiry)
        });
        board.cut_power();
        board.broker.set_acls(files(), &[Some(0), Some(1)]);
        board.advance(secs(31));
        board.listener = 0;
        assert_eq!(all_retained(&mut board), [""; 0], "{seed}");
    }
}

/// A listener is added before it: it is found by its name.
#[test]
fn rules_of_a_listener_hold_after_a_restart_with_others() {
    for seed in SEEDS {
        let mut board = Board::with(seed, listeners(&["1884", "1885"]));
        let files = || vec![open("topic readwrite a\n"), open("topic readwrite b\n")];
        board.broker.set_acls(files(), &[Some(0), Some(1)]);
        board.listener = 1;
        let publisher = board.client(Version::V5, "publisher");
        let message = packet::Publish {
            qos: QoS::AtLeastOnce,
            packet_id: Some(1),
            ..retained("b", "x")
        };
        board.send(publisher, &Packet::Publish(message));
        let heard = |board: &mut Board, listener| {
            board.listener = listener;
            let reader = board.client(Version::V5, "reader");
            board.subscribe(reader, "#", QoS::AtMostOnce);
            board.payloads(reader)
        };
        board.options.listeners = listeners(&["1883", "1884", "1885"]).listeners;
        board.cut_power();
        board.broker.set_acls(files(), &[None, Some(0), Some(1)]);
        assert_eq!(heard(&mut board, 0), ["x"], "{seed}");
        board.options.listeners = listeners(&["1883", "1884"]).listeners;
        board.cut_power();
        board.broker.set_acls(files(), &[None, Some(0)]);
        assert_eq!(
            heard(&mut board, 0),
            [""; 0],
            "{seed}: that listener is gone"
        );
    }
}
