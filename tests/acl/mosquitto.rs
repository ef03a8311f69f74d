//! The same files, clients and topics in Mosquitto and in midge: who gets what must be the same.
//!
//! Files are drawn at random, seeds in order; real connections. `ACL_SEEDS=1000 cargo test --test
//! acl mosquitto` tries more than the few of every run. Where there is no Mosquitto, or it was
//! built without what this takes, nothing is compared.
//!
//! Left out, as midge differs on purpose: client ids that begin with `$`, with which a pattern
//! `%c/#` would reach topics that begin so.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use midge::packet::{Connect, Packet, QoS, Version};

use crate::common::{Prng, connect, publish};
use crate::socket::{Client, Midge, free_port, temporary};

/// User name and client id; the root, who may do everything, stands at the end of each file.
const CLIENTS: &[(Option<&str>, &str)] = &[
    (None, "c1"),
    (None, "a"),
    (None, "b+"),
    (Some("alice"), "c2"),
    (Some("alice"), "x/y"),
    (Some("a b"), "c3"),
    (Some("b"), "#c"),
    (Some("+"), "c4"),
    (Some("a/b"), "%u"),
    (Some("%c"), "c5"),
    (Some("nobody"), "c6"),
];
const LEVELS: &[&str] = &[
    "a", "b", "c1", "c2", "alice", "%c", "%u", "x", "y", "", "a b",
];
const TOPICS: &[&str] = &[
    "a",
    "b",
    "x",
    "a/b",
    "a/x",
    "b/a",
    "x/y",
    "c1",
    "c1/a",
    "c2/a",
    "a/c1",
    "alice",
    "alice/c2",
    "a/alice",
    "%c",
    "%u/a",
    "a/%c",
    "/",
    "/a",
    "a/",
    "a//b",
    "x/y/a",
    "a/x/y",
    "a b",
    "a b/x",
    "a/b/x",
    "b/a/b",
    "alice/x/y",
    "$x/a",
    "$x",
    "$x/c1",
    "+x",
];
const WORDS: &[&str] = &["", "read ", "write ", "readwrite ", "deny "];

#[test]
fn mosquitto_gives_the_same_to_the_same() {
    if Command::new("mosquitto").arg("-h").output().is_err() {
        println!("There is no Mosquitto: nothing is compared.");
        return;
    }
    let seeds = std::env::var("ACL_SEEDS").ok();
    let seeds: u64 = seeds.map_or(6, |seeds| seeds.parse().expect("a number of seeds"));
    let mut passed = 0;
    for seed in 1..=seeds {
        let text = random_file(&mut Prng::new(seed));
        let path = temporary("acl");
        fs::write(&path, &text).expect("it can be written");
        let path_text = path.to_str().expect("it is text");
        let midge = Midge::start(&["--acl-file", path_text, "--allow-anonymous", "true"]);
        let seen = watch(midge.port);
        drop(midge);
        let expected = watch_mosquitto(path_text);
        passed += expected.len();
        let only_midge: Vec<_> = seen.difference(&expected).collect();
        let only_mosquitto: Vec<_> = expected.difference(&seen).collect();
        assert!(
            only_midge.is_empty() && only_mosquitto.is_empty(),
            "seed {seed}: midge lets {only_midge:?}, Mosquitto {only_mosquitto:?}\n{text}"
        );
        fs::remove_file(&path).expect("it is there");
    }
    assert!(
        passed as u64 > 10 * seeds,
        "nobody may do anything: {passed}"
    );
}

fn random_file(prng: &mut Prng) -> String {
    let mut text = String::new();
    let filter = |prng: &mut Prng| {
        let start = if prng.chance(8) { "$x/" } else { "" };
        let mut levels: Vec<&str> = (0..=prng.below(3))
            .map(|_| {
                if prng.chance(25) {
                    "+"
                } else {
                    *prng.pick(LEVELS)
                }
            })
            .collect();
        if prng.chance(30) {
            levels.push("#");
        }
        let filter = format!("{start}{}", levels.join("/"));
        if filter.is_empty() {
            "a".to_string()
        } else {
            filter
        }
    };
    for _ in 0..1 + prng.below(25) {
        match prng.below(10) {
            0..=4 => {
                let mut word = *prng.pick(WORDS);
                let filter = filter(prng);
                if filter.contains(' ') && word.is_empty() {
                    word = "read ";
                }
                text += &format!("topic {word}{filter}\n");
            }
            5..=6 => {
                let (word, filter) = (prng.pick(&WORDS[1..]), filter(prng));
                text += &format!("pattern {word}{filter}\n");
            }
            7 => text += "# a comment\n\n",
            _ => {
                let named: Vec<_> = CLIENTS.iter().filter_map(|(user, _)| *user).collect();
                text += &format!("user {}\n", prng.pick(&named));
            }
        }
    }
    text + "user root\ntopic readwrite #\ntopic readwrite $x/#\n"
}

/// Who got what from whom, as sentences.
fn watch(port: u16) -> BTreeSet<String> {
    let mut root = client(port, Some("root"), "root");
    subscribe_to_all(&mut root);
    let mut clients: Vec<Client> = CLIENTS
        .iter()
        .map(|(user, id)| client(port, *user, id))
        .collect();
    clients.iter_mut().for_each(subscribe_to_all);
    let topics: Vec<&str> = TOPICS
        .iter()
        .filter(|topic| !topic.contains('+'))
        .copied()
        .collect();
    let mut seen = BTreeSet::new();
    for topic in &topics {
        root.send(&Packet::Publish(publish(topic, topic)));
    }
    root.payloads();
    for (client, who) in clients.iter_mut().zip(CLIENTS) {
        for topic in client.payloads() {
            seen.insert(format!("{who:?} read {topic}"));
        }
    }
    for (client, who) in clients.iter_mut().zip(CLIENTS) {
        for topic in &topics {
            client.send(&Packet::Publish(publish(topic, topic)));
        }
        client.payloads();
        for topic in root.payloads() {
            seen.insert(format!("{who:?} write {topic}"));
        }
    }
    seen
}

fn client(port: u16, user_name: Option<&str>, id: &str) -> Client {
    let mut client = Client::open(port, Version::V311);
    client.send(&Packet::Connect(Connect {
        user_name,
        ..connect(Version::V311, id)
    }));
    client.read();
    client
}

fn subscribe_to_all(client: &mut Client) {
    for filter in ["#", "$x/#"] {
        client.subscribe(filter, QoS::AtMostOnce);
    }
}

fn watch_mosquitto(acl_file: &str) -> BTreeSet<String> {
    let port = free_port();
    let conf = temporary("conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {acl_file}\n");
    fs::write(&conf, text).expect("it can be written");
    let mut command = Command::new("mosquitto");
    let broker = Midge::command(command.arg("-c").arg(&conf)).on_port(port);
    let seen = watch(port);
    drop(broker);
    fs::remove_file(&conf).expect("it is there");
    seen
}
