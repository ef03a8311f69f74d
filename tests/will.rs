//! Wills: published when a connection ends badly, later if they say so, never after a goodbye.

mod common;

use common::*;
use midge::broker::limits::Options;
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

fn will<'a>(payload: &'a str) -> Will<'a> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic: "w",
        payload: payload.as_bytes(),
    }
}

fn delay(seconds: u32) -> PropertyBlock {
    numbers(&[(P::WillDelayInterval, seconds)])
}

/// A world with somebody who hears every will.
fn heard() -> (World, Client) {
    heard_with(Options::default())
}

fn heard_with(options: Options) -> (World, Client) {
    let mut world = World::with(options);
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, "w", QoS::ExactlyOnce);
    (world, watcher)
}

/// A client "a" with a will and a keep alive of 10 s.
fn mortal(world: &mut World, version: Version) -> Client {
    world.connect(Connect {
        will: Some(will("bye")),
        keep_alive: 10,
        ..connect(version, "a")
    })
}

/// The same with a session of an hour, and a will with these properties.
fn durable_mortal(world: &mut World, properties: &PropertyBlock) -> Client {
    world.connect(Connect {
        will: Some(Will {
            properties: properties.as_properties(),
            ..will("bye")
        }),
        ..durable(V5, "a", &expiry(3_600))
    })
}

fn disconnect_with_will() -> Packet<'static> {
    Packet::Disconnect(Disconnect {
        reason: R::DisconnectWithWill,
        properties: Properties::NONE,
    })
}

#[test]
fn a_will_is_published_when_the_network_is_lost() {
    for version in ALL {
        let (mut world, watcher) = heard();
        let client = mortal(&mut world, version);
        world.expect_nothing(watcher);
        world.lose(client);
        // [MQTT-3.1.2-7] [MQTT-3.1.2-8]
        assert_eq!(world.payloads(watcher), ["bye"]);
        // Once.
        world.advance(secs(100_000));
        world.expect_nothing(watcher);
    }
}

#[test]
fn a_will_is_published_when_the_client_falls_silent() {
    for version in ALL {
        let (mut world, watcher) = heard();
        mortal(&mut world, version);
        world.advance(secs(14));
        world.expect_nothing(watcher);
        world.advance(secs(2));
        assert_eq!(world.payloads(watcher), ["bye"]); // [MQTT-3.1.2-8]
    }
}

#[test]
fn a_will_is_published_when_the_client_breaks_the_protocol() {
    for version in ALL {
        let (mut world, watcher) = heard();
        let client = mortal(&mut world, version);
        world.send_bytes(client, b"\x00\x00");
        assert_eq!(world.payloads(watcher), ["bye"]); // [MQTT-3.1.2-8]
    }
}

#[test]
fn a_will_is_published_when_the_client_asks_for_it_on_leaving() {
    let (mut world, watcher) = heard();
    let client = mortal(&mut world, V5);
    world.send(client, &disconnect_with_will());
    world.expect_closed(client);
    assert_eq!(world.payloads(watcher), ["bye"]); // [MQTT-3.1.2-8]
}

#[test]
fn a_will_is_published_when_another_connection_takes_over() {
    for version in ALL {
        let (mut world, watcher) = heard();
        mortal(&mut world, version);
        // The session ends, or has no delay to wait for.
        let newer = world.connect(durable(version, "a", &expiry(3_600)));
        assert_eq!(world.payloads(watcher), ["bye"]); // [MQTT-3.1.2-8]
        world.lose(newer);
        world.expect_nothing(watcher);
    }
}

#[test]
fn a_will_is_published_when_the_server_stops() {
    for version in ALL {
        let (mut world, watcher) = heard();
        mortal(&mut world, version);
        world.stop();
        assert_eq!(world.payloads(watcher), ["bye"]); // [MQTT-3.1.2-8]
    }
    // A delay would never pass.
    let (mut world, watcher) = heard();
    durable_mortal(&mut world, &delay(60));
    world.stop();
    assert_eq!(world.payloads(watcher), ["bye"]);
}

#[test]
fn a_will_is_void_after_a_goodbye() {
    for version in ALL {
        let (mut world, watcher) = heard();
        let client = mortal(&mut world, version);
        world.disconnect(client);
        world.advance(secs(100));
        // [MQTT-3.1.2-10] [MQTT-3.14.4-3]
        world.expect_nothing(watcher);
    }
}

#[test]
fn without_a_will_nothing_is_published() {
    for version in ALL {
        let (mut world, watcher) = heard();
        let client = world.client(version, "a");
        world.lose(client);
        world.expect_nothing(watcher); // [v3 MQTT-3.1.2-12]
    }
}

#[test]
fn the_will_of_a_refused_connect_is_void() {
    let (mut world, watcher) = heard();
    let client = world.try_connect(Connect {
        will: Some(will("bye")),
        clean_start: false,
        ..connect(V311, "")
    });
    world.expect_refused(client, R::ClientIdentifierNotValid);
    world.expect_nothing(watcher);
}

#[test]
fn each_connection_has_its_own_will() {
    let (mut world, watcher) = heard();
    let client = world.connect(Connect {
        will: Some(will("first")),
        ..durable(V311, "a", &expiry(0))
    });
    world.disconnect(client);
    let client = world.connect(Connect {
        will: Some(will("second")),
        ..durable(V311, "a", &expiry(0))
    });
    world.lose(client);
    assert_eq!(world.payloads(watcher), ["second"]);
    let client = world.connect(durable(V311, "a", &expiry(0)));
    world.lose(client);
    world.expect_nothing(watcher);
}

#[test]
fn a_will_waits_for_its_delay() {
    let (mut world, watcher) = heard();
    let client = durable_mortal(&mut world, &delay(60));
    world.lose(client);
    world.advance(millis(59_999));
    world.expect_nothing(watcher);
    world.advance(millis(1));
    assert_eq!(world.payloads(watcher), ["bye"]); // [MQTT-3.1.2-8]
    // [MQTT-3.1.2-10] the session has none to leave when it ends.
    world.advance(secs(10_000));
    world.expect_nothing(watcher);
}

#[test]
fn a_will_is_not_published_if_the_client_is_back_in_time() {
    let (mut world, watcher) = heard();
    let client = durable_mortal(&mut world, &delay(60));
    world.lose(client);
    world.advance(secs(59));
    let client = world.connect(durable(V5, "a", &expiry(3_600)));
    world.advance(secs(100));
    world.expect_nothing(watcher); // [MQTT-3.1.3-9]
    world.disconnect(client);
    world.advance(secs(10_000));
    world.expect_nothing(watcher);
}

#[test]
fn a_delayed_will_is_not_published_when_the_session_is_taken_over() {
    let (mut world, watcher) = heard();
    durable_mortal(&mut world, &delay(60));
    world.connect(durable(V5, "a", &expiry(3_600)));
    world.advance(secs(1_000));
    world.expect_nothing(watcher); // [MQTT-3.1.3-9]
}

#[test]
fn a_delayed_will_is_published_when_a_clean_start_ends_the_session() {
    let (mut world, watcher) = heard();
    let client = durable_mortal(&mut world, &delay(60));
    world.lose(client);
    world.client(V5, "a");
    // [MQTT-3.1.2-8] the session has ended.
    assert_eq!(world.payloads(watcher), ["bye"]);
    world.advance(secs(100));
    world.expect_nothing(watcher);
}

#[test]
fn a_will_is_published_with_the_end_of_its_session_if_that_is_sooner() {
    for (expiry_interval, delay_interval) in [(10, 60), (10, 10), (10, u32::MAX), (0, 60)] {
        let (mut world, watcher) = heard();
        let delay = delay(delay_interval);
        let client = world.connect(Connect {
            will: Some(Will {
                properties: delay.as_properties(),
                ..will("bye")
            }),
            ..durable(V5, "a", &expiry(expiry_interval))
        });
        world.lose(client);
        if expiry_interval > 0 {
            world.advance(millis(9_999));
            world.expect_nothing(watcher);
            world.advance(millis(1));
        }
        assert_eq!(world.payloads(watcher), ["bye"]); // [MQTT-3.1.2-8]
        world.advance(secs(100));
        world.expect_nothing(watcher);
    }
}

#[test]
fn a_goodbye_that_shortens_the_session_brings_the_will_forward() {
    let (mut world, watcher) = heard();
    let client = durable_mortal(&mut world, &delay(60));
    let soon = expiry(5);
    let goodbye = Disconnect {
        reason: R::DisconnectWithWill,
        properties: soon.as_properties(),
    };
    world.send(client, &Packet::Disconnect(goodbye));
    world.expect_nothing(watcher);
    world.advance(secs(5));
    assert_eq!(world.payloads(watcher), ["bye"]);
}

#[test]
fn a_will_is_retained_if_it_says_so() {
    for version in ALL {
        for retain in [false, true] {
            let (mut world, watcher) = heard();
            let client = world.connect(Connect {
                will: Some(Will {
                    retain,
                    ..will("bye")
                }),
                ..connect(version, "a")
            });
            world.lose(client);
            assert_eq!(world.payloads(watcher), ["bye"]);
            let late = world.client(version, "late");
            world.subscribe(late, "w", QoS::AtMostOnce);
            // [MQTT-3.1.2-14] [MQTT-3.1.2-15]
            match retain {
                true => assert_eq!(world.payloads(late), ["bye"]),
                false => world.expect_nothing(late),
            }
        }
    }
}

#[test]
fn an_empty_retained_will_clears_the_topic() {
    let (mut world, watcher) = heard();
    let client = world.connect(Connect {
        will: Some(Will {
            retain: true,
            ..will("")
        }),
        ..connect(V311, "a")
    });
    world.send(client, &Packet::Publish(retained("w", "here")));
    world.lose(client);
    assert_eq!(world.payloads(watcher), ["here", ""]);
    let late = world.client(V311, "late");
    world.subscribe(late, "w", QoS::AtMostOnce);
    world.expect_nothing(late);
}

#[test]
fn a_will_has_its_qos() {
    for version in ALL {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let (mut world, watcher) = heard();
            let client = world.connect(Connect {
                will: Some(Will { qos, ..will("bye") }),
                ..connect(version, "a")
            });
            world.lose(client);
            assert_eq!(world.read(watcher).publish().qos, qos);
        }
    }
}

#[test]
fn a_will_is_forwarded_with_its_properties() {
    let mut block = delay(10);
    block
        .pair("z", "1")
        .text(P::ContentType, "text/plain")
        .number(P::MessageExpiryInterval, 30)
        .pair("a", "2")
        .text(P::ResponseTopic, "answers");
    let (mut world, watcher) = heard();
    let client = durable_mortal(&mut world, &block);
    world.advance(secs(1_000));
    world.lose(client);
    world.advance(secs(10));
    let received = world.read(watcher);
    let mut expected = PropertyBlock::new();
    // Its life begins when it is published.
    expected
        .number(P::MessageExpiryInterval, 30)
        .pair("z", "1")
        .text(P::ContentType, "text/plain")
        .pair("a", "2")
        .text(P::ResponseTopic, "answers");
    // [MQTT-3.1.3-10]
    assert_eq!(received.publish().properties, expected.as_properties());
}

#[test]
fn a_will_expires_like_any_message() {
    let (mut world, _) = heard();
    let away = world.connect(durable(V5, "away", &expiry(3_600)));
    world.subscribe(away, "w", QoS::AtLeastOnce);
    world.lose(away);
    for (wait, expected) in [(29, vec!["bye"]), (30, vec![])] {
        let block = numbers(&[(P::MessageExpiryInterval, 30)]);
        let client = world.connect(Connect {
            will: Some(Will {
                qos: QoS::AtLeastOnce,
                properties: block.as_properties(),
                ..will("bye")
            }),
            ..connect(V5, "a")
        });
        world.advance(secs(100));
        world.lose(client);
        world.advance(secs(wait));
        let away = world.connect(durable(V5, "away", &expiry(3_600)));
        let received = world.publishes(away);
        assert_eq!(received.len(), expected.len()); // [MQTT-3.3.2-5]
        for received in received {
            let left = received.publish().properties;
            assert_eq!(left.number(P::MessageExpiryInterval), Some(1));
            world.send(away, &puback(received.publish().packet_id.unwrap()));
        }
        world.lose(away);
    }
}

#[test]
fn a_will_that_cannot_be_retained_is_published_all_the_same() {
    let mut options = Options::default();
    options.limits.retained_messages_max = 0;
    let (mut world, watcher) = heard_with(options);
    let client = world.connect(Connect {
        will: Some(Will {
            retain: true,
            ..will("bye")
        }),
        ..connect(V311, "a")
    });
    world.lose(client);
    assert_eq!(world.payloads(watcher), ["bye"]);
}

#[test]
fn a_will_is_not_sent_to_whom_it_is_about() {
    // Its session goes on, so that it could wait there: but No Local is about the client's own.
    let (mut world, _) = heard();
    let own = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtLeastOnce)
    };
    let client = world.connect(Connect {
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            ..will("bye")
        }),
        ..durable(V5, "a", &expiry(3_600))
    });
    world.subscribe_with(client, "w", own);
    world.lose(client);
    let client = world.connect(durable(V5, "a", &expiry(3_600)));
    world.expect_nothing(client); // [MQTT-3.8.3-3]
}

#[test]
fn a_will_is_no_way_around_the_maximum_packet_size() {
    // Once, a large will made the server disconnect whoever was to get it: for not reading it
    // before it was sent.
    for version in ALL {
        let mut options = Options::default();
        options.limits.packet_bytes_max = 100;
        options.limits.outbound_bytes_max = 1_024;
        let (mut world, watcher) = heard_with(options);
        let fits = 100 - if version == V5 { 6 } else { 5 };
        for (bytes, accepted) in [(fits, true), (fits + 1, false), (4_000, false)] {
            let text = "x".repeat(bytes);
            let client = world.open(version);
            let connect = Connect {
                will: Some(will(&text)),
                ..connect(version, "a")
            };
            world.send(client, &Packet::Connect(connect));
            match (accepted, version) {
                (true, _) => {
                    assert_eq!(world.read(client).connack().reason, R::Success);
                    world.lose(client);
                    assert_eq!(world.payloads(watcher), [text]);
                }
                (false, V5) => world.expect_refused(client, R::PacketTooLarge),
                (false, V31 | V311) => world.expect_closed(client),
            }
        }
        world.expect_nothing(watcher);
    }
}
