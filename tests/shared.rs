//! Shared subscriptions: one member of the group gets each message, whoever can take it.

mod common;

use common::*;
use midge::broker::limits::{Limits, Options};
use midge::packet::*;

use PropertyId as P;
use ReasonCode as R;
use Version::{V5, V31, V311};

const ALL: [Version; 3] = [V31, V311, V5];

/// A client with a session of an hour that shares "t".
fn member(world: &mut World, version: Version, id: &str, qos: QoS) -> Client {
    let member = world.connect(durable(version, id, &expiry(3_600)));
    world.subscribe(member, "$share/g/t", qos);
    member
}

fn again(world: &mut World, version: Version, id: &str) -> Client {
    world.connect(durable(version, id, &expiry(3_600)))
}

fn sent(payloads: &[&str]) -> Vec<String> {
    payloads.iter().map(ToString::to_string).collect()
}

#[test]
fn the_members_of_a_group_take_turns() {
    for version in ALL {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut world = World::new();
            let members = ["a", "b", "c"].map(|id| member(&mut world, version, id, qos));
            let publisher = world.client(V311, "p");
            for number in 0..9 {
                world.publish_as(publisher, qos, "t", &number.to_string());
            }
            let mut all = vec![];
            for member in members {
                let payloads = world.payloads(member);
                assert_eq!(payloads.len(), 3);
                all.extend(payloads);
            }
            all.sort();
            assert_eq!(all.concat(), "012345678");
        }
    }
}

#[test]
fn every_group_and_every_plain_subscriber_gets_its_own_copy() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    for filter in ["$share/g/t", "$share/h/t", "$share/g/+", "t"] {
        world.subscribe(client, filter, QoS::AtMostOnce);
    }
    let publisher = world.client(V311, "p");
    world.publish(publisher, "t", "x");
    assert_eq!(world.payloads(client), ["x"; 4]);
    // Each is a subscription of its own.
    world.send(client, &unsubscribe(1, &["t", "$share/g/t", "$share/i/t"]));
    let reasons = world.read(client).reasons();
    let expected = [R::Success, R::Success, R::NoSubscriptionExisted];
    assert_eq!(reasons, expected);
    world.publish(publisher, "t", "x");
    assert_eq!(world.payloads(client), ["x"; 2]);
}

#[test]
fn members_that_are_away_are_left_out() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut world = World::new();
        let a = member(&mut world, V5, "a", qos);
        let b = member(&mut world, V311, "b", qos);
        world.lose(a);
        let publisher = world.client(V311, "p");
        for payload in ["1", "2", "3", "4"] {
            world.publish_as(publisher, qos, "t", payload);
        }
        assert_eq!(world.payloads(b), ["1", "2", "3", "4"]);
        let a = again(&mut world, V5, "a");
        world.expect_nothing(a);
    }
}

#[test]
fn a_message_waits_for_one_member_if_all_are_away() {
    let mut world = World::new();
    for id in ["a", "b"] {
        let member = member(&mut world, V5, id, QoS::AtLeastOnce);
        world.lose(member);
    }
    let publisher = world.client(V311, "p");
    for payload in ["1", "2", "3", "4"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    world.publish_as(publisher, QoS::AtMostOnce, "t", "0");
    let mut all = vec![];
    for id in ["a", "b"] {
        let member = again(&mut world, V5, id);
        all.extend(world.payloads(member));
    }
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4"]);
}

#[test]
fn members_take_the_same_turns_when_all_of_them_are_away() {
    let shares = [false, true].map(|away| {
        let mut world = World::new();
        let mut members = ["a", "b", "c"].map(|id| member(&mut world, V5, id, QoS::AtLeastOnce));
        if away {
            for member in members {
                world.lose(member);
            }
        }
        let publisher = world.client(V311, "p");
        for payload in ["1", "2", "3", "4", "5", "6"] {
            world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
        }
        if away {
            members = ["a", "b", "c"].map(|id| again(&mut world, V5, id));
        }
        members.map(|member| world.payloads(member))
    });
    assert!(shares[0].iter().all(|share| share.len() == 2));
    assert_eq!(shares[0], shares[1]);
}

#[test]
fn a_member_that_is_busy_is_preferred_to_one_that_is_away() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    let mut world = World::with(options);
    let away = member(&mut world, V5, "away", QoS::AtLeastOnce);
    let busy = member(&mut world, V5, "busy", QoS::AtLeastOnce);
    world.lose(away);
    let publisher = world.client(V311, "p");
    for payload in ["1", "2", "3", "4"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    let away = again(&mut world, V5, "away");
    world.expect_nothing(away);
    for payload in ["1", "2", "3", "4"] {
        let received = world.read(busy);
        assert_eq!(received.publish().payload, payload.as_bytes());
        world.send(busy, &puback(received.publish().packet_id.unwrap()));
    }
}

#[test]
fn a_member_with_a_full_queue_is_left_out() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    options.limits.queued_messages_max = 2;
    let mut world = World::with(options);
    // It never acknowledges: one in flight, two in the queue.
    let stuck = member(&mut world, V5, "stuck", QoS::AtLeastOnce);
    let publisher = world.client(V311, "p");
    for payload in ["1", "2", "3"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    let busy = member(&mut world, V5, "busy", QoS::AtLeastOnce);
    let mut taken = vec![];
    for number in 4..20 {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", &number.to_string());
        let received = world.read(busy);
        taken.push(received.publish().payload.to_vec());
        world.send(busy, &puback(received.publish().packet_id.unwrap()));
    }
    assert_eq!(taken.len(), 16);
    assert_eq!(world.payloads(stuck), ["1"]);
}

#[test]
fn a_member_that_does_not_read_is_left_out() {
    let mut options = Options::default();
    options.limits.outbound_bytes_max = 1_000;
    let mut world = World::with(options);
    let slow = member(&mut world, V311, "slow", QoS::AtMostOnce);
    let quick = member(&mut world, V311, "quick", QoS::AtMostOnce);
    world.read_only(slow, 0);
    let publisher = world.client(V311, "p");
    let payload = "x".repeat(400);
    for _ in 0..100 {
        world.publish_as(publisher, QoS::AtMostOnce, "t", &payload);
    }
    let taken = world.payloads(quick).len();
    world.read_only(slow, usize::MAX);
    assert_eq!(taken + world.payloads(slow).len(), 100);
    assert!(taken >= 97);
}

#[test]
fn what_a_lost_member_did_not_acknowledge_goes_to_another() {
    for version in ALL {
        let mut world = World::new();
        let a = member(&mut world, version, "a", QoS::AtLeastOnce);
        let publisher = world.client(V311, "p");
        for payload in ["1", "2", "3"] {
            world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
        }
        let id = world.read(a).publish().packet_id.unwrap();
        world.send(a, &puback(id));
        let b = member(&mut world, version, "b", QoS::AtLeastOnce);
        world.lose(a);
        let received = world.publishes(b);
        let payloads: Vec<_> = received.iter().map(|r| r.publish().payload).collect();
        assert_eq!(payloads, [b"2", b"3"]);
        // To that member they are new.
        assert!(received.iter().all(|received| !received.publish().dup));
        let a = again(&mut world, version, "a");
        world.expect_nothing(a);
    }
}

#[test]
fn what_a_member_leaves_behind_for_ever_goes_to_another() {
    for away in [false, true] {
        let mut world = World::new();
        let a = world.client(V5, "a");
        world.subscribe(a, "$share/g/t", QoS::AtLeastOnce);
        let publisher = world.client(V311, "p");
        world.publish_as(publisher, QoS::AtLeastOnce, "t", "1");
        assert_eq!(world.payloads(a), ["1"]);
        let b = member(&mut world, V5, "b", QoS::AtLeastOnce);
        if away {
            world.lose(b);
        }
        world.disconnect(a);
        let b = if away { again(&mut world, V5, "b") } else { b };
        assert_eq!(world.payloads(b), ["1"]);
    }
}

/// Seed 64254: what nobody could take made all behind it be lost with the session.
#[test]
fn what_no_member_can_take_does_not_hold_up_what_one_can() {
    let large = "x".repeat(200);
    for (first, qos, fillings) in [("q", QoS::AtMostOnce, 1), (&large, QoS::AtLeastOnce, 2)] {
        let mut options = Options {
            queue_qos0_messages: true,
            ..Options::default()
        };
        options.limits.outbound_bytes_max = 100;
        options.limits.queued_bytes_max = 300;
        let mut world = World::with(options);
        let publisher = world.client(V311, "p");
        let a = member(&mut world, V5, "a", QoS::AtLeastOnce);
        world.lose(a);
        world.publish_as(publisher, qos, "t", first);
        world.publish_as(publisher, QoS::AtLeastOnce, "t", "small");
        world.publish_as(publisher, QoS::AtMostOnce, "t", "late");
        // b reads nothing: no room for QoS 0, or not for so many bytes in its queue.
        let b = member(&mut world, V5, "b", QoS::AtLeastOnce);
        world.subscribe(b, "b", QoS::AtLeastOnce);
        world.read_only(b, 0);
        let filling = "f".repeat(130);
        for _ in 0..fillings {
            world.publish_as(publisher, QoS::AtLeastOnce, "b", &filling);
        }
        // Its session ends with a clean start.
        world.client(V5, "a");
        while world.owed(b) > 0 {
            world.read_only(b, 1_000);
        }
        let mut expected = vec![filling; fillings];
        // Behind what waits for b, a QoS 0 message may wait too.
        expected.extend(["small".to_string(), "late".to_string()]);
        assert_eq!(world.payloads(b), expected, "{qos:?}");
    }
}

#[test]
fn the_only_member_keeps_its_messages() {
    let mut world = World::new();
    let a = member(&mut world, V5, "a", QoS::AtLeastOnce);
    let publisher = world.client(V311, "p");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "1");
    world.lose(a);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "2");
    let a = again(&mut world, V5, "a");
    let received = world.publishes(a);
    let seen = |r: &Received| (r.publish().dup, r.publish().payload.to_vec());
    let seen: Vec<_> = received.iter().map(seen).collect();
    assert_eq!(seen, [(true, b"1".to_vec()), (false, b"2".to_vec())]);
}

#[test]
fn a_qos_2_message_stays_with_the_member_it_was_sent_to() {
    let mut world = World::new();
    let a = member(&mut world, V5, "a", QoS::ExactlyOnce);
    let publisher = world.client(V311, "p");
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "1");
    let b = member(&mut world, V5, "b", QoS::ExactlyOnce);
    let id = world.read(a).publish().packet_id.unwrap();
    world.lose(a);
    world.expect_nothing(b);
    // [MQTT-4.8.2-4] its delivery is completed.
    let a = again(&mut world, V5, "a");
    let received = world.read(a);
    assert!(received.publish().dup);
    assert_eq!(received.publish().packet_id, Some(id));
    world.lose(a);
    // [MQTT-4.8.2-5] it is nobody else's, even when the session is over.
    world.advance(secs(3_600));
    world.expect_nothing(b);
}

#[test]
fn a_qos_2_message_that_was_not_sent_yet_goes_to_another() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    let mut world = World::with(options);
    let a = member(&mut world, V5, "a", QoS::ExactlyOnce);
    let publisher = world.client(V311, "p");
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "sent");
    world.publish_as(publisher, QoS::ExactlyOnce, "t", "waits");
    let b = member(&mut world, V5, "b", QoS::ExactlyOnce);
    world.lose(a);
    assert_eq!(world.payloads(b), ["waits"]);
    let a = again(&mut world, V5, "a");
    assert_eq!(world.payloads(a), ["sent"]);
}

#[test]
fn a_message_that_a_member_refuses_is_done_with() {
    let refusals: [(QoS, MakeAck); 2] = [
        (QoS::AtLeastOnce, Packet::PubAck),
        (QoS::ExactlyOnce, Packet::PubRec),
    ];
    for (qos, refusal) in refusals {
        let mut world = World::new();
        let a = member(&mut world, V5, "a", qos);
        let publisher = world.client(V311, "p");
        world.publish_as(publisher, qos, "t", "x");
        let b = member(&mut world, V5, "b", qos);
        let id = world.read(a).publish().packet_id.unwrap();
        world.send(a, &refusal(Ack::new(id, R::ImplementationSpecificError)));
        world.lose(a);
        world.expect_nothing(b); // [MQTT-4.8.2-6]
    }
}

#[test]
fn what_was_begun_is_completed_after_leaving_the_group() {
    let mut world = World::new();
    let a = member(&mut world, V5, "a", QoS::AtLeastOnce);
    let publisher = world.client(V311, "p");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "x");
    let b = member(&mut world, V5, "b", QoS::AtLeastOnce);
    let id = world.read(a).publish().packet_id.unwrap();
    world.send(a, &unsubscribe(1, &["$share/g/t"]));
    world.read(a);
    world.send(a, &puback(id));
    world.expect_nothing(b);
    for payload in ["1", "2"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    world.expect_nothing(a);
    assert_eq!(world.payloads(b), ["1", "2"]);
}

#[test]
fn each_member_has_its_own_qos_and_identifier() {
    let mut world = World::new();
    let mut members = vec![];
    for (id, qos, identifier) in [("a", QoS::AtMostOnce, 1), ("b", QoS::ExactlyOnce, 2)] {
        let client = world.client(V5, id);
        let block = numbers(&[(P::SubscriptionIdentifier, identifier)]);
        let packet = Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: block.as_properties(),
            filters: vec![("$share/g/t", SubscriptionOptions::new(qos))],
        });
        world.send(client, &packet);
        world.read(client);
        members.push((client, qos.min(QoS::AtLeastOnce), block));
    }
    let publisher = world.client(V311, "p");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "1");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "2");
    for (client, qos, block) in members {
        let received = world.read(client);
        assert_eq!(received.publish().qos, qos); // [MQTT-4.8.2-3]
        assert_eq!(received.publish().properties, block.as_properties());
    }
}

#[test]
fn a_group_is_not_sent_what_is_retained() {
    for version in ALL {
        let mut world = World::new();
        let publisher = world.client(V311, "p");
        world.send(publisher, &Packet::Publish(retained("t", "old")));
        let client = world.client(version, "a");
        world.subscribe(client, "$share/g/t", QoS::AtLeastOnce);
        world.expect_nothing(client);
        world.send(publisher, &Packet::Publish(retained("t", "new")));
        let received = world.read(client);
        assert_eq!(received.publish(), publish("t", "new"));
    }
}

#[test]
fn no_local_and_sharing_exclude_each_other() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    world.send(client, &subscribe(1, &[("$share/g/t", options)]));
    world.expect_disconnect(client, R::ProtocolError); // [MQTT-3.8.3-4]
}

#[test]
fn a_member_may_get_its_own_messages() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    world.subscribe(client, "$share/g/t", QoS::AtMostOnce);
    world.publish(client, "t", "x");
    assert_eq!(world.payloads(client), ["x"]);
}

#[test]
fn wildcards_can_be_shared() {
    let mut world = World::new();
    let client = world.client(V311, "a");
    world.subscribe(client, "$share/g//a/+/#", QoS::AtMostOnce);
    let publisher = world.client(V311, "p");
    for topic in ["/a/b", "/a/b/c/d", "a/b", "/a"] {
        world.publish(publisher, topic, topic);
    }
    assert_eq!(world.payloads(client), sent(&["/a/b", "/a/b/c/d"]));
}

#[test]
fn what_nobody_can_take_stays_with_the_member_that_was_lost() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    options.limits.queued_messages_max = 1;
    let mut world = World::with(options);
    let a = member(&mut world, V5, "a", QoS::AtLeastOnce);
    let publisher = world.client(V311, "p");
    // Two for each of them: one in flight, one in the queue.
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "1");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "2");
    let b = member(&mut world, V5, "b", QoS::AtLeastOnce);
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "3");
    world.publish_as(publisher, QoS::AtLeastOnce, "t", "4");
    assert_eq!(world.payloads(a), ["1"]);
    world.lose(a);
    let a = again(&mut world, V5, "a");
    let resent = world.read(a);
    assert!(resent.publish().dup);
    assert_eq!(resent.publish().payload, b"1");
    world.send(a, &puback(resent.publish().packet_id.unwrap()));
    assert_eq!(world.payloads(a), ["2"]);
    assert_eq!(world.payloads(b), ["3"]);
}

#[test]
fn what_waits_for_a_member_that_unsubscribes_goes_to_another() {
    let mut options = Options::default();
    options.limits.inflight_messages_max = 1;
    let mut world = World::with(options);
    let a = member(&mut world, V5, "a", QoS::AtLeastOnce);
    let publisher = world.client(V311, "p");
    for payload in ["1", "2"] {
        world.publish_as(publisher, QoS::AtLeastOnce, "t", payload);
    }
    let b = member(&mut world, V5, "b", QoS::AtLeastOnce);
    world.send(a, &unsubscribe(1, &["$share/g/t"]));
    // What was sent is completed where it was begun.
    assert_eq!(world.payloads(a), ["1"]);
    assert_eq!(world.payloads(b), ["2"]);
}

#[test]
fn the_groups_of_one_filter_are_limited() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    let names: Vec<String> = (0..=Limits::GROUPS_PER_FILTER)
        .map(|number| format!("$share/{number}/t"))
        .collect();
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), options)).collect();
    world.send(client, &subscribe(1, &filters));
    let received = world.read(client);
    let reasons = received.reasons();
    let (last, others) = reasons.split_last().unwrap();
    assert!(others.iter().all(|reason| *reason == R::Success));
    assert_eq!(*last, R::QuotaExceeded);
}

#[test]
fn long_names_of_groups_count_like_long_filters() {
    let mut world = World::new();
    let client = world.client(V5, "a");
    let fits = Limits::FILTER_BYTES_PER_SESSION / 50_000;
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    for number in 0..=fits {
        let filter = format!("$share/{}/{number}", "x".repeat(50_000));
        world.send(client, &subscribe(1, &[(&filter, options)]));
        let expected = if number < fits {
            R::Success
        } else {
            R::QuotaExceeded
        };
        assert_eq!(world.read(client).reasons(), [expected], "{number}");
    }
    // What is given up makes room again.
    let first = format!("$share/{}/0", "x".repeat(50_000));
    world.send(client, &unsubscribe(2, &[&first]));
    world.read(client);
    world.send(client, &subscribe(3, &[(&first, options)]));
    assert_eq!(world.read(client).reasons(), [R::Success]);
}

#[test]
fn the_members_of_a_group_are_limited() {
    let mut world = World::new();
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    let mut all = Vec::new();
    for number in 0..=Limits::MEMBERS_PER_GROUP {
        let id = number.to_string();
        let mut bytes = Vec::new();
        Packet::Connect(connect(V5, &id)).encode(V5, &mut bytes);
        subscribe(1, &[("$share/g/t", options)]).encode(V5, &mut bytes);
        let client = world.accept(V5);
        world.deliver_bytes(client, &bytes);
        all.push(client);
    }
    world.turn();
    let last = all.pop().unwrap();
    for client in all {
        world.read(client);
        assert_eq!(world.read(client).reasons(), [R::Success]);
    }
    world.read(last);
    assert_eq!(world.read(last).reasons(), [R::QuotaExceeded]);
}
