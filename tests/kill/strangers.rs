//! The same with rumqttc, a client that nobody here wrote: it keeps what it has in flight across
//! connections and sends it again.

use std::thread;
use std::time::Duration;

use midge::packet::QoS;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet};

use crate::ledger::Ledger;

const HOST: &str = "127.0.0.1";
const GLANCE: Duration = Duration::from_millis(5);
/// Messages that are under way together. All are acknowledged before the next leave, so that the
/// test can tell which have been without knowing the packet ids.
const BATCH: u64 = 10;

fn start(port: u16, id: &str) -> (Client, Connection) {
    let mut options = MqttOptions::new(id, HOST, port);
    options.set_clean_session(false);
    Client::new(options, 2 * BATCH as usize)
}

/// What happens next, if anything does soon. A lost connection is made anew by the next call.
fn next(ledger: &Ledger, connection: &mut Connection) -> Option<Event> {
    if !ledger.is_open() {
        thread::sleep(GLANCE);
    }
    match connection.recv_timeout(GLANCE) {
        Ok(Ok(event)) => Some(event),
        Ok(Err(_)) => {
            thread::sleep(Duration::from_millis(1));
            None
        }
        Err(_) => None,
    }
}

pub fn publish(ledger: &Ledger, port: u16, id: &str, topic: &str, qos: rumqttc::QoS) {
    let (client, mut connection) = start(port, id);
    let level = QoS::parse(qos as u8).expect("both have the same three");
    while !ledger.is_over() {
        if !ledger.is_busy() {
            thread::sleep(GLANCE);
            continue;
        }
        let mut last = 0;
        for _ in 0..BATCH {
            last = ledger.begin(topic, level, false);
            let payload = last.to_string();
            client
                .publish(topic, qos, false, payload)
                .expect("there is room");
        }
        let mut left = BATCH;
        while left > 0 && !ledger.is_over() {
            let event = next(ledger, &mut connection);
            if let Some(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) = event {
                left -= 1;
            }
        }
        if left == 0 {
            ledger.promise(topic, level, false, last);
            (0..BATCH).for_each(|_| ledger.complete());
        }
    }
}

/// With QoS 1, as it does not tell a message of QoS 2 that is sent again from a new one.
pub fn subscribe(ledger: &Ledger, port: u16, id: &str) {
    let (client, mut connection) = start(port, id);
    let (mut session, mut is_subscribed) = (false, false);
    while !ledger.is_over() {
        match next(ledger, &mut connection) {
            Some(Event::Incoming(Packet::ConnAck(connack))) => {
                assert!(connack.session_present || !session, "no session");
                session = true;
                if !is_subscribed {
                    let subscribed = client.subscribe("load/#", rumqttc::QoS::AtLeastOnce);
                    subscribed.expect("there is room");
                }
            }
            Some(Event::Incoming(Packet::SubAck(_))) if !is_subscribed => {
                is_subscribed = true;
                ledger.note_subscribed();
            }
            Some(Event::Incoming(Packet::Publish(publish))) => {
                let payload = std::str::from_utf8(&publish.payload).expect("it is a number");
                let number = payload.parse().expect("it is a number");
                // The QoS that it was published with is known by the topic.
                let level = match publish.topic.as_str() {
                    "load/1" => QoS::AtLeastOnce,
                    _ => QoS::ExactlyOnce,
                };
                ledger.got(id, &publish.topic, level, number, false);
            }
            _ => {}
        }
    }
}
