//! Stores of earlier versions of midge, and such as no version has written.

use std::path::Path;

use midge::packet::{
    Packet, PropertyBlock, PropertyId, Publish, QoS, RetainHandling, SubscriptionOptions, Version,
    Will,
};
use midge::record::{Batch, Record, Ref, records};
use midge::store::{Directory, Durability, Options, Store};

use crate::board::{Board, WALL, disk_with, set_wall};
use crate::common::{
    Prng, ack, durable, expiry, numbers, publish_qos, publish_with, secs, subscribe,
};
use crate::disk::TestDisk;

/// What midge has written since there is a store; `WRITE_FILES=1` writes it anew, where the format
/// has never been released.
const FILES: &str = "tests/store/broker-v1";

/// Something of all that a broker keeps.
fn filled() -> Board {
    let mut board = Board::new(1);
    board.absent(Version::V311, "old", "a/#", QoS::ExactlyOnce);
    let mut block = expiry(600);
    block.number(PropertyId::ReceiveMaximum, 2);
    let mut delay = PropertyBlock::new();
    delay.number(PropertyId::WillDelayInterval, 300);
    let mut connect = durable(Version::V5, "new", &block);
    connect.will = Some(Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: delay.as_properties(),
        topic: "will",
        payload: b"gone",
    });
    let new = board.connect(connect);
    let mut options = SubscriptionOptions::new(QoS::ExactlyOnce);
    options.retain_as_published = true;
    options.retain_handling = RetainHandling::DoNotSend;
    let numbered = numbers(&[(PropertyId::SubscriptionIdentifier, 7)]);
    let mut packet = subscribe(1, &[("a/+", options), ("$share/g/shared", options)]);
    if let Packet::Subscribe(subscribe) = &mut packet {
        subscribe.properties = numbered.as_properties();
    }
    board.send(new, &packet);
    board.read(new);
    let publisher = board.durable(Version::V5, "publisher");
    let mut properties = numbers(&[(PropertyId::MessageExpiryInterval, 1_000)]);
    properties.pair("name", "value");
    let mut state = publish_with("a/state", "on", &properties);
    if let Packet::Publish(publish) = &mut state {
        publish.retain = true;
    }
    board.send(publisher, &state);
    for number in 1..=4 {
        board.publish_as(publisher, QoS::ExactlyOnce, "a/b", &number.to_string());
    }
    board.publish_as(publisher, QoS::AtLeastOnce, "shared", "5");
    // One is released, one is in flight, the others wait.
    let first = board.messages(new)[1].3.expect("an id");
    board.send(new, &Packet::PubRec(ack(first)));
    // One has come and is not released.
    let begun = publish_qos(QoS::ExactlyOnce, 99, "a/b", "6");
    board.send(publisher, &Packet::Publish(begun));
    board.read_all(publisher);
    board.lose(new);
    board
}

/// All records that still count.
fn records_of(disk: &TestDisk) -> Batch {
    let mut batch = Batch::new();
    let opened = Store::open(disk.copy(), &Options::new(3), |key, value| {
        batch.put(key, value)
    });
    let (mut store, _) = opened.expect("it opens");
    for queue in store.queues() {
        let waiting: Vec<_> = store.waiting(queue).collect();
        for (sequence, _) in waiting {
            let after = Some(sequence.wrapping_sub(1));
            let read = store.fetch(queue, after, 0, |sequence, extra, body| {
                let place = Ref {
                    queue,
                    sequence,
                    extra,
                };
                batch.message([place], body);
            });
            read.expect("it can be read");
        }
    }
    batch
}

fn write_files(records: &Batch) {
    let place = Path::new(FILES);
    std::fs::create_dir_all(place).expect("it can be made");
    let directory = Directory::open(place).expect("it can be opened");
    let options = Options {
        segment_bytes: 4096,
        nonce: 9,
    };
    let (mut store, _) = Store::open(directory, &options, |_, _| {}).expect("it is empty");
    let committed = store.commit(records, Durability::Synced);
    committed.expect("there is room");
    std::fs::remove_file(place.join("lock")).expect("it is there");
}

#[test]
fn a_store_of_the_first_version_comes_back() {
    if std::env::var("WRITE_FILES").is_ok() {
        write_files(&records_of(&filled().disk));
    }
    let disk = TestDisk::new();
    for entry in std::fs::read_dir(FILES).expect("they are there") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().expect("it has one").to_string_lossy();
        disk.add(&name, std::fs::read(&path).expect("it can be read"));
    }
    let options = filled().options.clone();
    set_wall(WALL + 60);
    let mut board = Board::on(disk, 1, options);
    let new = board.resume(Version::V5, "new");
    let texts = |received: &[(String, QoS, bool, Option<u16>)]| -> Vec<String> {
        received.iter().map(|(text, ..)| text.clone()).collect()
    };
    // What was released is not sent again; the other one is, under its id.
    let received = board.messages(new);
    assert!(received[0].2, "{received:?}");
    assert_eq!(texts(&received)[0], "2");
    let mut all = texts(&received);
    for (_, qos, _, id) in received {
        board.complete(new, qos, id.expect("an id"));
    }
    all.extend(board.drain(new));
    // What came to a group is in no order with the rest.
    all.sort();
    assert_eq!(all, ["2", "3", "4", "5", "6"]);
    let old = board.resume(Version::V311, "old");
    assert_eq!(board.drain(old), ["1", "2", "3", "4", "6"]);
    let publisher = board.resume(Version::V5, "publisher");
    // It has come before.
    board.send(
        publisher,
        &Packet::Publish(Publish {
            dup: true,
            ..publish_qos(QoS::ExactlyOnce, 99, "a/b", "6")
        }),
    );
    board.read(publisher).ack();
    assert!(board.drain(new).is_empty());
    let reader = board.client(Version::V5, "reader");
    board.subscribe(reader, "a/state", QoS::AtMostOnce);
    let state = board.read(reader);
    let left = state
        .publish()
        .properties
        .number(PropertyId::MessageExpiryInterval);
    assert_eq!(left, Some(940), "one minute has passed");
    board.subscribe(reader, "will", QoS::AtMostOnce);
    board.lose(new);
    board.advance(secs(301));
    assert!(
        board.payloads(reader).is_empty(),
        "its client has come back without one"
    );
}

#[test]
fn whatever_a_store_holds_the_broker_starts_and_serves() {
    let records_kept = records_of(&filled().disk);
    for seed in 0..60 {
        let mut prng = Prng::new(seed + 1);
        let mut batch = Batch::new();
        for (_, record) in records(records_kept.bytes()) {
            let is_spoilt = prng.chance(30);
            match record {
                Record::Put { key, value } => {
                    let (mut key, mut value) = (key.to_vec(), value.to_vec());
                    if is_spoilt {
                        match prng.chance(30) {
                            true => spoil(&mut key, &mut prng),
                            false => spoil(&mut value, &mut prng),
                        }
                    }
                    batch.put(&key, &value);
                }
                Record::Message { mut refs, body } => {
                    let place = refs.next().expect("one place each");
                    let (mut extra, mut body) = (place.extra.to_vec(), body.to_vec());
                    if is_spoilt {
                        match prng.chance(30) {
                            true => spoil(&mut extra, &mut prng),
                            false => spoil(&mut body, &mut prng),
                        }
                    }
                    let extra = &extra[..];
                    batch.message([Ref { extra, ..place }], &body);
                }
                other => panic!("{other:?}"),
            }
        }
        let options = filled().options.clone();
        set_wall(WALL);
        let mut board = Board::on(disk_with(&batch), seed, options);
        for (version, id) in [
            (Version::V5, "new"),
            (Version::V311, "old"),
            (Version::V5, "publisher"),
        ] {
            let client = board.try_connect(durable(version, id, &expiry(3_600)));
            board.read(client).connack();
            if board.is_open(client) {
                board.advance(secs(1));
                board.read_all(client);
                board.publish_as(client, QoS::AtLeastOnce, "a/new", "still served");
            }
        }
        board.advance(secs(2_000));
        board.cut_power();
    }
}

fn spoil(bytes: &mut Vec<u8>, prng: &mut Prng) {
    match prng.below(4) {
        0 => bytes.truncate(prng.below(bytes.len() + 1)),
        1 => bytes.push(prng.below(256) as u8),
        _ if bytes.is_empty() => {}
        _ => {
            let at = prng.below(bytes.len());
            bytes[at] = prng.below(256) as u8;
        }
    }
}
