//! Queues of clients that are away, or slow: on disk, in order, and within their limits.

use std::cell::Cell;

use midge::broker::limits::{Limits, Options, QueueOverflow};
use midge::packet::{Packet, PropertyId, Publish, QoS, SubscriptionOptions, Version};

use crate::board::{Board, SEEDS};
use crate::common::{
    Client, connect, durable, expiry, numbers, publish, publish_qos, secs, subscribe, unsubscribe,
};
use crate::disk::Faults;

fn options(limits: Limits, queue_overflow: QueueOverflow) -> Options {
    Options {
        limits,
        queue_overflow,
        ..Options::default()
    }
}

fn texts(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| number.to_string())
        .collect()
}

/// Publishes numbers with QoS 1.
fn fill(board: &mut Board, numbers: std::ops::Range<usize>) {
    let client = board.client(Version::V5, "publisher");
    for number in numbers {
        board.publish_as(client, QoS::AtLeastOnce, "t", &number.to_string());
    }
    board.disconnect(client);
}

#[test]
fn a_long_queue_comes_in_order_and_leaves_nothing() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
    fill(&mut board, 0..1_500);
    let before = board.figures();
    let client = board.resume(Version::V5, "client");
    assert_eq!(board.drain(client), texts(0..1_500));
    assert_eq!(board.messages_kept(), 0);
    // What was read again was not written again.
    let written = board.figures().bytes_written - before.bytes_written;
    assert!(written < 1_500 * 60, "{written}");
}

#[test]
fn what_waits_is_on_disk_and_not_in_memory() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
    let publisher = board.client(Version::V5, "publisher");
    let payload = "x".repeat(10_000);
    for _ in 0..50 {
        board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload);
    }
    board.broker.check_all_waits_on_disk("client");
    // A client that takes its time is brought what it can go on with, and not more.
    let client = board.resume(Version::V5, "client");
    for _ in 0..20 {
        let (.., id) = board.messages(client).pop().expect("a message");
        board.send(
            client,
            &Packet::PubAck(crate::common::ack(id.expect("an id"))),
        );
    }
    board.lose(client);
    board.broker.check_all_waits_on_disk("client");
}

#[test]
fn what_is_on_disk_is_not_dropped_where_memory_is_short() {
    thread_local!(static IN_USE: Cell<u64> = const { Cell::new(0) });
    let limits = Limits {
        memory_bytes_max: 1_000,
        ..Limits::default()
    };
    let options = Options {
        memory_in_use: || IN_USE.get(),
        ..options(limits, QueueOverflow::DropNewest)
    };
    let mut board = Board::with(1, options);
    // It takes nothing: what waits for it is in memory, too.
    let stopped = board.durable(Version::V5, "client");
    board.subscribe(stopped, "#", QoS::AtLeastOnce);
    board.read_only(stopped, 0);
    let publisher = board.client(Version::V5, "publisher");
    for number in 0..100 {
        board.publish_as(publisher, QoS::AtLeastOnce, "t", &number.to_string());
    }
    IN_USE.set(1_000);
    board.turn();
    board.advance(secs(4));
    board.lose(stopped);
    let client = board.resume(Version::V5, "client");
    assert_eq!(board.drain(client), texts(0..100));
}

#[test]
fn limits_hold_with_what_is_on_disk_also_after_a_restart() {
    for is_cut in [false, true] {
        let limits = Limits {
            queued_messages_max: 10,
            ..Limits::default()
        };
        for (overflow, expected) in [
            (QueueOverflow::DropNewest, texts(0..10)),
            (QueueOverflow::DropOldest, texts(5..15)),
        ] {
            let mut board = Board::with(1, options(limits.clone(), overflow));
            board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
            fill(&mut board, 0..8);
            if is_cut {
                board.cut_power();
            }
            fill(&mut board, 8..15);
            assert_eq!(board.messages_kept(), 10);
            if is_cut {
                board.cut_power();
            }
            let client = board.resume(Version::V5, "client");
            assert_eq!(board.drain(client), expected);
        }
    }
}

#[test]
fn limits_of_bytes_hold_with_what_is_on_disk_also_after_a_restart() {
    for is_cut in [false, true] {
        let limits = Limits {
            queued_bytes_max: 5_000,
            ..Limits::default()
        };
        for (overflow, expected) in [
            (QueueOverflow::DropNewest, ["a", "b", "c", "d", "g"]),
            (QueueOverflow::DropOldest, ["c", "d", "e", "f", "g"]),
        ] {
            let mut board = Board::with(1, options(limits.clone(), overflow));
            board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
            let publisher = board.client(Version::V5, "publisher");
            for letter in ["a", "b", "c", "d", "e", "f"] {
                let payload = letter.repeat(1_100);
                board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload);
            }
            let publisher = if is_cut {
                board.cut_power();
                board.client(Version::V5, "publisher")
            } else {
                publisher
            };
            board.publish_as(publisher, QoS::AtLeastOnce, "t", "g");
            let client = board.resume(Version::V5, "client");
            let payloads = board.drain(client);
            let letters: Vec<_> = payloads.iter().map(|payload| &payload[..1]).collect();
            assert_eq!(letters, expected, "{overflow:?}");
        }
    }
}

#[test]
fn a_slow_client_gets_its_messages_in_order_from_memory_and_disk() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V5, "client");
        board.subscribe(client, "#", QoS::AtLeastOnce);
        let publisher = board.client(Version::V5, "publisher");
        let padding = "x".repeat(3_000);
        let mut payloads = Vec::new();
        let mut expected = Vec::new();
        for number in 0..120 {
            let payload = format!("{number} {padding}");
            board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload);
            expected.push(number.to_string());
            // Now and then it goes on.
            if number % 7 == 0 {
                for (payload, .., id) in board.messages(client) {
                    payloads.push(payload);
                    board.send(
                        client,
                        &Packet::PubAck(crate::common::ack(id.expect("an id"))),
                    );
                }
            }
        }
        payloads.extend(board.drain(client));
        let numbers: Vec<_> = payloads
            .iter()
            .map(|payload| payload.split(' ').next())
            .collect();
        let expected: Vec<_> = expected.iter().map(|number| Some(&number[..])).collect();
        assert_eq!(numbers, expected, "{seed}");
        assert_eq!(board.messages_kept(), 0);
    }
}

#[test]
fn messages_that_wait_on_disk_expire() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
    let publisher = board.client(Version::V5, "publisher");
    for seconds in [10, 100, 20, 100, 30] {
        let block = numbers(&[(PropertyId::MessageExpiryInterval, seconds)]);
        let payload = seconds.to_string();
        let message = Publish {
            properties: block.as_properties(),
            ..publish_qos(QoS::AtLeastOnce, 1, "t", &payload)
        };
        board.send(publisher, &Packet::Publish(message));
    }
    board.advance(secs(40));
    let client = board.resume(Version::V5, "client");
    let received = board.read(client);
    let left = received.publish().properties;
    assert_eq!(left.number(PropertyId::MessageExpiryInterval), Some(60));
    assert_eq!(board.read(client).publish().payload, b"100");
    board.expect_nothing(client);
    assert_eq!(board.messages_kept(), 2);
}

#[test]
fn a_message_that_cannot_be_read_is_left_out_and_counted_and_the_others_come() {
    for bad in [0, 4, 8] {
        let mut board = Board::new(1);
        board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
        let publisher = board.client(Version::V5, "publisher");
        for number in 0..9 {
            let payload = format!("={number}={}", "x".repeat(20_000));
            board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload);
        }
        let (file, at) = place_of(&board, format!("={bad}=").as_bytes());
        let file = u32::from_str_radix(&file[..8], 16).expect("a number");
        board.disk.set_faults(Faults {
            unreadable: Some((file, at as u64 + 8_000)),
            ..Faults::default()
        });
        let client = board.resume(Version::V5, "client");
        let payloads = board.drain(client);
        let numbers: Vec<_> = payloads.iter().map(|payload| &payload[1..2]).collect();
        let expected = texts((0..9).filter(|number| *number != bad));
        assert_eq!(numbers, expected);
        assert_eq!(dropped(&mut board), "1");
        assert_eq!(board.messages_kept(), 0);
    }
}

fn place_of(board: &Board, bytes: &[u8]) -> (String, usize) {
    for name in board.disk.names() {
        let file = board.disk.bytes(&name);
        if let Some(at) = file.windows(bytes.len()).position(|window| window == bytes) {
            return (name, at);
        }
    }
    panic!("it is not on the disk")
}

fn dropped(board: &mut Board) -> String {
    let watcher = board.client(Version::V5, "watcher");
    let topic = "$SYS/broker/publish/messages/dropped";
    board.subscribe(watcher, topic, QoS::AtMostOnce);
    let told = board.payloads(watcher);
    board.disconnect(watcher);
    told.last().cloned().expect("it was told")
}

#[test]
fn a_session_that_is_taken_over_goes_on_with_its_queue() {
    let mut options = Options::default();
    options.limits.takeover_interval = 0;
    let mut board = Board::with(1, options);
    board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
    fill(&mut board, 0..100);
    let mut got = Vec::new();
    for _ in 0..30 {
        // Each has it in hand, and acknowledges two.
        let client = board.resume(Version::V5, "client");
        for (payload, .., id) in board.messages(client).into_iter().take(2) {
            got.push(payload);
            board.send(
                client,
                &Packet::PubAck(crate::common::ack(id.expect("an id"))),
            );
        }
    }
    let client = board.resume(Version::V5, "client");
    got.extend(board.drain(client));
    assert_eq!(got, texts(0..100));
}

#[test]
fn a_take_over_within_the_turn_that_asks_for_the_queue_loses_nothing() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
    fill(&mut board, 0..50);
    let mut bytes = Vec::new();
    let block = expiry(3_600);
    Packet::Connect(durable(Version::V5, "client", &block)).encode(Version::V5, &mut bytes);
    let clients: Vec<Client> = (0..3).map(|_| board.open(Version::V5)).collect();
    board.send_from_all(&clients, &bytes);
    board.read(clients[2]);
    assert_eq!(board.drain(clients[2]), texts(0..50));
    // A new session in its place gets nothing of it.
    board.lose(clients[2]);
    fill(&mut board, 0..50);
    let (old, new) = (board.open(Version::V5), board.open(Version::V5));
    board.deliver_bytes(old, &bytes);
    let mut bytes = Vec::new();
    Packet::Connect(connect(Version::V5, "client")).encode(Version::V5, &mut bytes);
    board.send_bytes(new, &bytes);
    board.read(new);
    board.expect_nothing(new);
    assert_eq!(board.messages_kept(), 0);
}

#[test]
fn what_waits_stays_when_its_subscription_goes_and_what_comes_is_behind_it() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
    fill(&mut board, 0..60);
    let client = board.resume(Version::V5, "client");
    board.send(client, &unsubscribe(1, &["#"]));
    fill(&mut board, 60..70);
    let options = SubscriptionOptions::new(QoS::ExactlyOnce);
    board.send(client, &subscribe(1, &[("t", options)]));
    fill(&mut board, 70..80);
    let mut expected = texts(0..60);
    expected.extend(texts(70..80));
    assert_eq!(board.drain(client), expected);
}

#[test]
fn messages_of_qos_0_wait_too_where_that_is_wanted() {
    for seed in SEEDS {
        let options = Options {
            queue_qos0_messages: true,
            ..Options::default()
        };
        let mut board = Board::with(seed, options);
        board.absent(Version::V5, "client", "#", QoS::ExactlyOnce);
        let publisher = board.client(Version::V5, "publisher");
        for number in 0..30 {
            let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
            board.publish_as(publisher, qos, "t", &number.to_string());
        }
        board.advance(secs(6));
        board.cut_power();
        let client = board.resume(Version::V5, "client");
        assert_eq!(board.drain(client), texts(0..30), "{seed}");
        board.advance(secs(6));
        assert_eq!(board.messages_kept(), 0);
        board.cut_power();
        let client = board.resume(Version::V5, "client");
        board.expect_nothing(client);
    }
}

#[test]
fn messages_of_qos_0_do_not_wait_else() {
    let mut board = Board::new(1);
    board.absent(Version::V5, "client", "#", QoS::ExactlyOnce);
    let publisher = board.client(Version::V5, "publisher");
    let before = board.figures();
    board.send(publisher, &Packet::Publish(publish("t", "x")));
    assert_eq!(board.figures(), before);
}

#[test]
fn a_message_for_many_is_written_once() {
    let mut board = Board::new(1);
    for number in 0..50 {
        board.absent(Version::V5, &number.to_string(), "#", QoS::AtLeastOnce);
    }
    let publisher = board.client(Version::V5, "publisher");
    let before = board.figures();
    let payload = "x".repeat(10_000);
    board.publish_as(publisher, QoS::AtLeastOnce, "t", &payload);
    let written = board.figures().bytes_written - before.bytes_written;
    assert!((10_000..12_000).contains(&written), "{written}");
    board.cut_power();
    for number in 0..50 {
        let client = board.resume(Version::V5, &number.to_string());
        assert_eq!(board.drain(client), [&payload[..]]);
    }
}

#[test]
fn a_message_that_has_become_none_is_left_out_and_counted_and_the_others_come() {
    for bad in [0, 4, 8] {
        let mut board = Board::new(1);
        board.absent(Version::V5, "client", "#", QoS::AtLeastOnce);
        fill(&mut board, 0..9);
        let (file, at) = place_of(&board, format!("t{bad}").as_bytes());
        board.disk.tamper(&file, |bytes| bytes[at] = 0xFF);
        let client = board.resume(Version::V5, "client");
        assert_eq!(
            board.drain(client),
            texts((0..9).filter(|number| *number != bad))
        );
        assert_eq!(dropped(&mut board), "1");
        assert_eq!(board.messages_kept(), 0);
    }
}

#[test]
fn a_client_with_all_that_it_may_have_in_flight_and_waiting_can_be_restored() {
    let limits = Limits {
        queued_messages_max: 10,
        ..Limits::default()
    };
    let mut board = Board::with(1, options(limits, QueueOverflow::DropNewest));
    let client = board.durable(Version::V5, "client");
    board.subscribe(client, "#", QoS::AtLeastOnce);
    fill(&mut board, 0..40);
    assert_eq!(board.messages(client).len(), 20);
    board.cut_power();
    let client = board.resume(Version::V5, "client");
    assert_eq!(board.drain(client), texts(0..30));
    fill(&mut board, 0..5);
    assert_eq!(board.drain(client), texts(0..5));
}
