//! The same with rumqttc, a client that nobody here wrote: it keeps what it has in flight across
//! connections and sends it again.

use std::thread;
use std::time::Duration;

use midge::packet::QoS;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet};

use crate::ledger::Ledger;

const HOST: &str = "127.0.0.1";
const GLANCE: Duration = Duration::from_millis(5);
/// Requests that wait for a connection.
const REQUESTS_MAX: usize = 10;

fn start(port: u16, id: &str) -> (Client, Connection) {
    let mut options = MqttOptions::new(id, HOST, port);
    options.set_clean_session(false);
    Client::new(options, REQUESTS_MAX)
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

/// One message after the other: rumqttc sends them out of order again, where it loses a connection
/// before it has sent again all that it had in flight.
pub fn publish(ledger: &Ledger, port: u16, id: &str, qos: rumqttc::QoS) {
    let (client, mut connection) = start(port, id);
    let level = QoS::parse(qos as u8).expect("both have the same three");
    let topic = format!("load/{}/{id}", qos as u8);
    while !ledger.is_over() {
        if !ledger.is_busy() {
            thread::sleep(GLANCE);
            continue;
        }
        let number = ledger.begin(&topic, level, false);
        let published = client.publish(&topic, qos, false, number.to_string());
        published.expect("there is room");
        let mut is_complete = false;
        while !is_complete && !ledger.is_over() {
            let Some(Event::Incoming(packet)) = next(ledger, &mut connection) else {
                continue;
            };
            is_complete = matches!(packet, Packet::PubAck(_) | Packet::PubComp(_));
            if is_complete || matches!(packet, Packet::PubRec(_)) {
                ledger.promise(&topic, level, false, number);
            }
        }
        if is_complete {
            ledger.complete();
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
                let level = match publish.topic.starts_with("load/1/") {
                    true => QoS::AtLeastOnce,
                    false => QoS::ExactlyOnce,
                };
                ledger.got(id, &publish.topic, level, number, false);
            }
            _ => {}
        }
    }
}
