//! Chapter 4.7: Topic Names and Topic Filters, and how they match.

use midge::packet::*;

use crate::common::*;
use crate::{V311, client, raw_connect, subscriber};

/// Whether a client stays connected that publishes to a topic.
fn is_topic(topic: &str) -> bool {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", QoS::AtMostOnce);
    let publisher = client(&mut world, "p");
    world.publish(publisher, topic, "x");
    // What is refused reaches nobody.
    let reached = !world.publishes(watcher).is_empty();
    assert_eq!(world.is_open(publisher), reached);
    reached
}

/// Whether a client is accepted whose Will is for a topic.
fn is_will_topic(topic: &str) -> bool {
    let mut world = World::new();
    let client = world.open(V311);
    world.send_bytes(client, &raw_connect(0x06, &[b"a", topic.as_bytes(), b"x"]));
    let answered = world.try_read(client).is_some();
    assert_eq!(world.is_open(client), answered);
    answered
}

/// Whether a client stays connected that subscribes to a filter, or that gives it up.
fn is_filter(filter: &str) -> [bool; 2] {
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    [
        subscribe(1, &[(filter, options)]),
        unsubscribe(1, &[filter]),
    ]
    .map(|packet| {
        let mut world = World::new();
        let client = client(&mut world, "s");
        world.send(client, &packet);
        world.is_open(client)
    })
}

#[test]
fn wildcards_are_for_filters() {
    for wildcard in ["#", "+", "a/#", "a/+", "a/+/b", "+/#"] {
        assert_eq!(is_filter(wildcard), [true, true], "{wildcard}");
        assert!(!is_topic(wildcard), "{wildcard}"); // [v3 MQTT-3.3.2-2]
        assert!(!is_will_topic(wildcard), "{wildcard}"); // [v3 MQTT-4.7.1-1]
    }
    for topic in ["a+b", "a#"] {
        assert!(!is_topic(topic) && !is_will_topic(topic), "{topic}");
    }
    assert!(is_topic("a") && is_will_topic("a"));
}

#[test]
fn a_topic_has_at_least_one_character_and_none_is_null() {
    for (text, good) in [("", false), ("/", true), (" ", true)] {
        assert_eq!(is_topic(text), good); // [v3 MQTT-4.7.3-1]
        assert_eq!(is_will_topic(text), good);
        assert_eq!(is_filter(text), [good, good]);
    }
    for (text, good) in [
        ("\0", false),
        ("a\0", false),
        ("a/\0/b", false),
        ("a0", true),
    ] {
        assert_eq!(is_topic(text), good); // [v3 MQTT-4.7.3-2]
        assert_eq!(is_will_topic(text), good);
        assert_eq!(is_filter(text), [good, good]);
    }
}

/// The topics of which a subscription brings messages: those that are published while it is there,
/// and those that are retained when it is made.
fn matched<'a>(filter: &str, topics: &[&'a str]) -> [Vec<&'a str>; 2] {
    let mut world = World::new();
    let early = subscriber(&mut world, "early", filter, QoS::AtMostOnce);
    let publisher = client(&mut world, "p");
    for topic in topics {
        world.send(publisher, &Packet::Publish(retained(topic, "x")));
    }
    let late = subscriber(&mut world, "late", filter, QoS::AtMostOnce);
    [early, late].map(|client| {
        let received = world.publishes(client);
        let came = |topic: &&str| received.iter().any(|one| one.publish().topic == *topic);
        let matched: Vec<_> = topics.iter().copied().filter(came).collect();
        assert_eq!(
            matched.len(),
            received.len(),
            "a topic that was not published"
        );
        matched
    })
}

#[test]
fn the_topic_of_a_message_matches_the_filter_that_brought_it() {
    let topics = ["a", "a/", "a/b", "a/b/c", "/a", "b", "b/b", "/", "A"];
    for (filter, matching) in [
        ("a", vec!["a"]),
        ("a/b", vec!["a/b"]),
        ("a/+", vec!["a/", "a/b"]),
        ("a/#", vec!["a", "a/", "a/b", "a/b/c"]),
        ("+", vec!["a", "b", "A"]),
        ("+/+", vec!["a/", "a/b", "/a", "b/b", "/"]),
        ("+/b", vec!["a/b", "b/b"]),
        ("/+", vec!["/a", "/"]),
        ("+/b/#", vec!["a/b", "a/b/c", "b/b"]),
        ("#", topics.to_vec()),
        ("c", vec![]),
    ] {
        // [v3 MQTT-3.3.2-3]
        assert_eq!(
            matched(filter, &topics),
            [matching.clone(), matching],
            "{filter}"
        );
    }
}

#[test]
fn a_wildcard_at_the_beginning_matches_no_topic_with_a_dollar() {
    let topics = ["$", "$own", "$own/a", "$own/a/b"];
    for filter in ["#", "+", "+/a", "+/#", "+/+", "+/+/b", "+/a/#"] {
        // [v3 MQTT-4.7.2-1]
        assert_eq!(matched(filter, &topics), [&[""; 0]; 2], "{filter}");
    }
    // Behind the dollar they are wildcards like any other.
    let below = vec!["$own", "$own/a", "$own/a/b"];
    assert_eq!(matched("$own/#", &topics), [below.clone(), below]);
    assert_eq!(matched("$own/+", &topics), [vec!["$own/a"], vec!["$own/a"]]);
}

#[test]
fn topics_are_compared_as_they_are_written() {
    let alike = [
        "é",
        "e\u{301}",
        "E",
        "e",
        "e ",
        " e",
        "e/",
        "/e",
        "//e",
        "e//",
        "./e",
        "ﬁ",
        "fi",
        "\u{1}",
        "\u{feff}e",
        "\u{fffd}",
        "\u{e000}",
        "%65",
        "K",
        "\u{212a}",
        "$share",
        "$share-e",
    ];
    for topic in alike {
        // [v3 MQTT-4.7.3-4] each matches itself, and arrives as it was sent.
        assert_eq!(matched(topic, &alike), [[topic], [topic]], "{topic:?}");
    }
    assert_eq!(matched("#", &alike)[0], alike[..20]);
    // And so are the levels beside a wildcard.
    let below: Vec<String> = alike.iter().map(|text| format!("x/{text}")).collect();
    let below: Vec<&str> = below.iter().map(String::as_str).collect();
    for (text, topic) in alike.iter().zip(&below) {
        assert_eq!(matched(&format!("+/{text}"), &below), [[*topic], [*topic]]);
    }
}
