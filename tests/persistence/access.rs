//! Who may read what waited for it, when the board is back and does not know yet who is who.

use midge::broker::acl_file;
use midge::packet::{Connect, Packet, QoS, Version};

use crate::board::{Board, SEEDS};
use crate::common::{durable, expiry, publish_qos};

fn load(board: &mut Board, text: &str) {
    let file = acl_file::parse("acl", text.as_bytes()).expect("it is a good file");
    board.broker.set_acl(Some(file));
}

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
