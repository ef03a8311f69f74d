//! QoS 2 goes exactly once, and QoS 1 at least once, wherever in the handshake the power is cut.

use std::collections::BTreeSet;

use midge::packet::{Packet, PacketId, Publish, QoS, ReasonCode, Version};

use crate::board::{Board, SEEDS};
use crate::common::{Client, Received, ack, publish_qos};
use crate::disk::Faults;

const MESSAGES: usize = 2;

/// A client that publishes one message after the other, always under the same id.
struct Sender {
    client: Client,
    qos: QoS,
    done: usize,
    is_released: bool,
}

impl Sender {
    const ID: PacketId = 7;

    /// Its next step, or the same again on a new connection.
    fn go_on(&self, board: &mut Board, dup: bool) {
        if self.done == MESSAGES || !board.is_open(self.client) {
            return;
        }
        let payload = self.done.to_string();
        let publish = Publish {
            dup,
            ..publish_qos(self.qos, Sender::ID, "t", &payload)
        };
        let packet = match self.is_released {
            true => Packet::PubRel(ack(Sender::ID)),
            false => Packet::Publish(publish),
        };
        board.send(self.client, &packet);
    }

    fn hear(&mut self, board: &mut Board) -> bool {
        let received = board.read_all(self.client);
        for received in &received {
            match received.packet() {
                Packet::PubRec(_) => self.is_released = true,
                Packet::PubComp(_) | Packet::PubAck(_) => {
                    self.is_released = false;
                    self.done += 1;
                }
                other => panic!("{other:?}"),
            }
            self.go_on(board, false);
        }
        !received.is_empty()
    }
}

/// A client that takes messages in.
struct Receiver {
    client: Client,
    payloads: Vec<String>,
    /// Ids of QoS 2 messages that are not released.
    ids: BTreeSet<PacketId>,
}

impl Receiver {
    fn hear(&mut self, board: &mut Board) -> bool {
        let received = board.read_all(self.client);
        for received in &received {
            let answer = self.take(received);
            if let (Some(answer), true) = (answer, board.is_open(self.client)) {
                board.send(self.client, &answer);
            }
        }
        !received.is_empty()
    }

    fn take(&mut self, received: &Received) -> Option<Packet<'static>> {
        match received.packet() {
            Packet::Publish(publish) => {
                let id = publish.packet_id.expect("an id");
                let is_new = publish.qos == QoS::AtLeastOnce || self.ids.insert(id);
                assert!(is_new || publish.dup, "id {id} is in use");
                if is_new {
                    let payload = String::from_utf8(publish.payload.to_vec());
                    self.payloads.push(payload.expect("UTF-8"));
                }
                Some(match publish.qos {
                    QoS::ExactlyOnce => Packet::PubRec(ack(id)),
                    _ => Packet::PubAck(ack(id)),
                })
            }
            Packet::PubRel(release) => {
                // The client released it, and its PUBCOMP was lost: it says so again.
                self.ids.remove(&release.packet_id);
                Some(Packet::PubComp(ack(release.packet_id)))
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Both talk to the broker until neither has anything to say.
fn talk(board: &mut Board, sender: &mut Sender, receiver: &mut Receiver) {
    while sender.hear(board) | receiver.hear(board) {}
}

/// Lives of two clients, each with a power cut one verb of the disk later; `false` where the last
/// one was too late.
fn live(seed: u64, cut: usize, qos: QoS, is_away: bool) -> bool {
    let mut board = Board::new(seed);
    let (client, payloads, ids) = (board.durable(Version::V5, "to"), vec![], BTreeSet::new());
    board.subscribe(client, "t", QoS::ExactlyOnce);
    let mut receiver = Receiver {
        client,
        payloads,
        ids,
    };
    let mut sender = Sender {
        client: board.durable(Version::V5, "from"),
        qos,
        done: 0,
        is_released: false,
    };
    if is_away {
        board.lose(receiver.client);
    }
    board.disk.set_faults(Faults {
        cut: Some(cut),
        ..Faults::default()
    });
    sender.go_on(&mut board, false);
    talk(&mut board, &mut sender, &mut receiver);
    if is_away && !board.disk.is_off() {
        let connect = crate::common::expiry(3_600);
        let connect = crate::common::durable(Version::V5, "to", &connect);
        let client = board.try_connect(connect);
        if !board.disk.is_off() {
            assert!(board.read(client).connack().session_present);
            receiver.client = client;
            talk(&mut board, &mut sender, &mut receiver);
        }
    }
    let was_cut = board.disk.is_off();
    board.cut_power();
    receiver.client = board.resume(Version::V5, "to");
    sender.client = board.resume(Version::V5, "from");
    sender.go_on(&mut board, true);
    talk(&mut board, &mut sender, &mut receiver);
    // Once more, so that what the second start has made of it is kept too.
    board.cut_power();
    receiver.client = board.resume(Version::V5, "to");
    talk(&mut board, &mut sender, &mut receiver);
    let about = format!("seed {seed}, cut {cut}, away {is_away}");
    assert_eq!(sender.done, MESSAGES, "{about}");
    match qos {
        QoS::ExactlyOnce => assert_eq!(receiver.payloads, ["0", "1"], "{about}"),
        _ => {
            receiver.payloads.dedup();
            let mut first = receiver.payloads.clone();
            first.retain({
                let mut seen = BTreeSet::new();
                move |payload| seen.insert(payload.clone())
            });
            assert_eq!(first, ["0", "1"], "{about}");
        }
    }
    board.advance(crate::common::secs(6));
    let (keys, queues) = board.kept();
    assert_eq!((keys.len(), queues), (3, vec![]), "{about}: {keys:?}");
    was_cut
}

/// Lives with a cut at every verb, and the disk forgetting otherwise each time.
fn live_all(qos: QoS, is_away: bool, seed: u64) -> usize {
    let mut cuts = 0..;
    let last = cuts.find(|cut| !live(seed + *cut as u64 * 31, *cut, qos, is_away));
    last.unwrap_or(0)
}

#[test]
fn qos_2_is_exactly_once_whichever_verb_of_the_disk_is_the_last() {
    for seed in 0..2 {
        let cuts = live_all(QoS::ExactlyOnce, false, seed);
        assert!(cuts > 10, "{cuts}");
    }
}

#[test]
fn qos_2_is_exactly_once_also_to_a_client_that_was_away() {
    for seed in 2..4 {
        let cuts = live_all(QoS::ExactlyOnce, true, seed);
        assert!(cuts > 10, "{cuts}");
    }
}

#[test]
fn qos_1_is_at_least_once_whichever_verb_of_the_disk_is_the_last() {
    for (seed, is_away) in [(4, false), (5, true)] {
        let cuts = live_all(QoS::AtLeastOnce, is_away, seed);
        assert!(cuts > 4, "{cuts}");
    }
}

#[test]
fn a_message_that_is_published_again_after_a_power_cut_is_not_delivered_again() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V311, "from");
        let reader = board.client(Version::V311, "reader");
        board.subscribe(reader, "t", QoS::AtMostOnce);
        let publish = publish_qos(QoS::ExactlyOnce, 3, "t", "x");
        board.send(client, &Packet::Publish(publish));
        board.expect(client, &Packet::PubRec(ack(3)));
        board.cut_power();
        let client = board.resume(Version::V311, "from");
        let reader = board.client(Version::V311, "reader");
        board.subscribe(reader, "t", QoS::AtMostOnce);
        let again = Publish {
            dup: true,
            ..publish
        };
        board.send(client, &Packet::Publish(again));
        board.expect(client, &Packet::PubRec(ack(3)));
        board.expect_nothing(reader);
        board.send(client, &Packet::PubRel(ack(3)));
        board.expect(client, &Packet::PubComp(ack(3)));
        // Its id stands for another message now, also after the next cut.
        board.cut_power();
        let client = board.resume(Version::V311, "from");
        let reader = board.client(Version::V311, "reader");
        board.subscribe(reader, "t", QoS::AtMostOnce);
        board.send(client, &Packet::Publish(publish));
        assert_eq!(board.payloads(reader), ["x"], "{seed}");
    }
}

#[test]
fn ids_in_flight_stay_taken_after_a_power_cut() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V5, "to");
        board.subscribe(client, "t", QoS::ExactlyOnce);
        let other = board.client(Version::V5, "from");
        for number in 0..6 {
            board.publish_as(other, QoS::ExactlyOnce, "t", &number.to_string());
        }
        let sent = board.messages(client);
        let id = |number: usize| sent[number].3.expect("an id");
        // Of three, PUBREC has come, one of them is done with.
        for number in 0..3 {
            board.send(client, &Packet::PubRec(ack(id(number))));
            board.expect(client, &Packet::PubRel(ack(id(number))));
        }
        board.send(client, &Packet::PubComp(ack(id(1))));
        board.advance(crate::common::secs(6));
        board.cut_power();
        let client = board.resume(Version::V5, "to");
        let mut released: Vec<_> = (0..2).map(|_| board.read(client).ack()).collect();
        released.sort_unstable_by_key(|(id, _)| *id);
        let (first, third) = ((id(0), ReasonCode::Success), (id(2), ReasonCode::Success));
        assert_eq!(released, [first, third], "{seed}");
        let again = board.messages(client);
        let expected: Vec<_> = (3..6)
            .map(|number| (number.to_string(), QoS::ExactlyOnce, true, Some(id(number))))
            .collect();
        assert_eq!(again, expected, "{seed}");
        // What comes now has other ids, however many.
        let other = board.client(Version::V5, "from");
        let taken: BTreeSet<_> = [0, 2, 3, 4, 5].map(id).into();
        for number in 0..40 {
            board.publish_as(other, QoS::AtLeastOnce, "t", &number.to_string());
            for (.., new) in board.messages(client) {
                let new = new.expect("an id");
                assert!(!taken.contains(&new), "{seed}: {new} is in use");
                board.send(client, &Packet::PubAck(ack(new)));
            }
        }
    }
}

#[test]
fn a_refused_message_of_qos_2_is_done_with_for_ever() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let client = board.durable(Version::V5, "to");
        board.subscribe(client, "t", QoS::ExactlyOnce);
        let other = board.client(Version::V5, "from");
        board.publish_as(other, QoS::ExactlyOnce, "t", "x");
        let id = board.messages(client)[0].3.expect("an id");
        let refusal = midge::packet::Ack::new(id, ReasonCode::QuotaExceeded);
        board.send(client, &Packet::PubRec(refusal));
        board.advance(crate::common::secs(6));
        board.cut_power();
        let client = board.resume(Version::V5, "to");
        board.expect_nothing(client);
        assert_eq!(board.kept().0.len(), 2, "{seed}");
    }
}

#[test]
fn a_retained_message_of_qos_2_is_sent_again_under_its_id() {
    for seed in SEEDS {
        let mut board = Board::new(seed);
        let other = board.client(Version::V5, "from");
        let retained = Publish {
            retain: true,
            ..publish_qos(QoS::ExactlyOnce, 1, "t", "x")
        };
        board.send(other, &Packet::Publish(retained));
        let client = board.durable(Version::V5, "to");
        board.subscribe(client, "t", QoS::ExactlyOnce);
        let sent = board.messages(client);
        board.cut_power();
        let client = board.resume(Version::V5, "to");
        let again = board.messages(client);
        assert_eq!(
            again,
            [("x".to_string(), QoS::ExactlyOnce, true, sent[0].3)]
        );
    }
}
