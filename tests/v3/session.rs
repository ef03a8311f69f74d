//! Chapters 3.1.2.4, 3.1.3.1 and 4.1: sessions that are kept, and those that are not.

use midge::broker::limits::Options;
use midge::packet::*;

use crate::common::*;
use crate::{V311, client, keeping, subscriber};

/// Resumes a session, which must be there.
fn resume(world: &mut World, id: &str) -> Client {
    let client = world.try_connect(keeping(id));
    assert!(world.read(client).connack().session_present);
    client
}

/// One of everything that is Session state of a server: a session "a", away, with
/// - subscriptions to "t" and "q",
/// - a message of QoS 1 that was sent and not acknowledged ("sent"), one of QoS 2 that was released
///   and not completed,
/// - a message that waits ("waiting"),
/// - a message of QoS 2 received from it, with id 9, that it has not released.
///
/// Returns the ids of the message that was sent and of that which was released.
fn leave_everything(world: &mut World, connect: Connect) -> [PacketId; 2] {
    let publisher = client(world, "p");
    let client = world.connect(connect);
    world.subscribe(client, "t", QoS::AtLeastOnce);
    world.subscribe(client, "q", QoS::ExactlyOnce);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "sent");
    world.publish_as(publisher, QoS::ExactlyOnce, "q", "released");
    let ids = packet_ids(&world.publishes(client));
    world.send(client, &Packet::PubRec(ack(ids[1])));
    world.expect(client, &Packet::PubRel(ack(ids[1])));
    let message = publish_qos(QoS::ExactlyOnce, 9, "elsewhere", "received");
    world.send(client, &Packet::Publish(message));
    world.expect(client, &Packet::PubRec(ack(9)));
    world.lose(client);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "waiting");
    world.disconnect(publisher);
    [ids[0], ids[1]]
}

#[test]
fn a_session_is_kept_with_all_that_belongs_to_it() {
    let mut world = World::new();
    let elsewhere = subscriber(&mut world, "e", "elsewhere", QoS::AtMostOnce);
    let [sent, released] = leave_everything(&mut world, keeping("a"));
    assert_eq!(world.payloads(elsewhere), ["received"]);
    // However long it takes.
    world.advance(secs(10 * 365 * 24 * 3_600));

    let client = resume(&mut world, "a");
    // [v3 MQTT-4.1.0-1] what was sent and not acknowledged, released and not completed, ...
    world.expect(client, &Packet::PubRel(ack(released)));
    let again = Publish {
        dup: true,
        ..publish_qos(QoS::AtLeastOnce, sent, "t", "sent")
    };
    world.expect(client, &Packet::Publish(again));
    // ... what waits, ...
    assert_eq!(world.payloads(client), ["waiting"]);
    // ... what was received and not released, ...
    let again = publish_qos(QoS::ExactlyOnce, 9, "elsewhere", "received");
    world.send(client, &Packet::Publish(Publish { dup: true, ..again }));
    world.expect(client, &Packet::PubRec(ack(9)));
    world.expect_nothing(elsewhere);
    // ... and the subscriptions.
    let publisher = crate::client(&mut world, "p");
    world.publish(publisher, "t", "t");
    world.publish(publisher, "q", "q");
    assert_eq!(world.payloads(client), ["t", "q"]);
}

#[test]
fn a_clean_session_leaves_nothing_to_those_that_follow() {
    for next_is_clean in [false, true] {
        let mut world = World::new();
        let elsewhere = subscriber(&mut world, "e", "elsewhere", QoS::AtMostOnce);
        leave_everything(&mut world, connect(V311, "a"));
        let client = world.try_connect(Connect {
            clean_start: next_is_clean,
            ..keeping("a")
        });
        expect_new(&mut world, client, elsewhere); // [v3 MQTT-3.1.2-6]
    }
}

#[test]
fn a_clean_session_discards_the_one_before() {
    let mut world = World::new();
    let elsewhere = subscriber(&mut world, "e", "elsewhere", QoS::AtMostOnce);
    leave_everything(&mut world, keeping("a"));
    let client = world.try_connect(connect(V311, "a"));
    expect_new(&mut world, client, elsewhere); // [v3 MQTT-3.1.2-6]
    world.disconnect(client);
    // It was discarded, not set aside.
    let client = world.try_connect(keeping("a"));
    assert!(!world.read(client).connack().session_present);
    world.expect_nothing(client);
}

/// `client` has none of what [`leave_everything`] left; its CONNACK is still to be read.
fn expect_new(world: &mut World, client: Client, elsewhere: Client) {
    assert!(!world.read(client).connack().session_present);
    world.expect_nothing(client);
    let publisher = crate::client(world, "p");
    world.publish(publisher, "t", "x");
    world.publish(publisher, "q", "x");
    world.expect_nothing(client);
    // The id 9 means another message now.
    assert_eq!(world.payloads(elsewhere), ["received"]);
    let message = publish_qos(QoS::ExactlyOnce, 9, "elsewhere", "another");
    world.send(client, &Packet::Publish(message));
    world.expect(client, &Packet::PubRec(ack(9)));
    assert_eq!(world.payloads(elsewhere), ["another"]);
}

#[test]
fn communication_goes_on_where_it_was_after_a_goodbye_as_after_a_loss() {
    for goodbye in [false, true] {
        let mut world = World::new();
        let publisher = client(&mut world, "p");
        // No session of that id: a new one is made, and stored when its client leaves.
        let client = world.try_connect(keeping("a"));
        assert!(!world.read(client).connack().session_present);
        world.subscribe(client, "t", QoS::AtMostOnce);
        match goodbye {
            true => world.disconnect(client),
            false => world.lose(client),
        }
        world.publish(publisher, "t", "QoS 0 waits for nobody");
        let client = resume(&mut world, "a");
        world.publish(publisher, "t", "next");
        assert_eq!(world.payloads(client), ["next"]); // [v3 MQTT-3.1.2-4]
    }
}

#[test]
fn messages_of_qos_1_and_2_wait_for_a_client_that_is_away() {
    let mut world = World::new();
    let client = world.connect(keeping("a"));
    world.subscribe(client, "one/#", QoS::AtLeastOnce);
    world.subscribe(client, "two/+", QoS::ExactlyOnce);
    world.disconnect(client);
    let publisher = crate::client(&mut world, "p");
    for (qos, topic) in [
        (QoS::AtLeastOnce, "one"),
        (QoS::ExactlyOnce, "two/a"),
        (QoS::ExactlyOnce, "one/a"),
        (QoS::ExactlyOnce, "three"),
    ] {
        world.publish_as(publisher, qos, topic, topic);
    }
    let client = resume(&mut world, "a");
    // [v3 MQTT-3.1.2-5]
    assert_eq!(world.payloads(client), ["one", "two/a", "one/a"]);
}

#[test]
fn a_session_does_not_end_while_its_client_is_connected() {
    let options = Options {
        persistent_client_expiration: Some(secs(60)),
        ..Options::default()
    };
    for clean_start in [false, true] {
        let mut world = World::with(options.clone());
        let client = world.connect(Connect {
            clean_start,
            ..keeping("a")
        });
        world.subscribe(client, "t", QoS::AtLeastOnce);
        world.advance(secs(100_000));
        let publisher = crate::client(&mut world, "p");
        world.publish(publisher, "t", "still there");
        assert_eq!(world.payloads(client), ["still there"]); // [v3 MQTT-4.1.0-2]
    }
}

#[test]
fn a_session_is_known_by_its_client_id_and_by_nothing_else() {
    let mut world = World::new();
    let ids = ["a", "A", "a ", "aa"];
    for id in ids {
        let client = world.connect(keeping(id));
        world.subscribe(client, id, QoS::AtLeastOnce);
        world.disconnect(client);
    }
    // Each on a new connection, in another order, and by another name.
    let publisher = client(&mut world, "p");
    for id in ["aa", "a", "A", "a "] {
        let client = world.try_connect(Connect {
            user_name: Some("a"),
            ..keeping(id)
        });
        assert!(world.read(client).connack().session_present);
        for topic in ids {
            world.publish(publisher, topic, topic);
        }
        assert_eq!(world.payloads(client), [id]); // [v3 MQTT-3.1.3-2]
        world.disconnect(client);
    }
    let stranger = world.try_connect(keeping("b"));
    assert!(!world.read(stranger).connack().session_present);
}
