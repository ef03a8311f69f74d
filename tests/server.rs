//! What only sockets and a process can show: pieces, floods, slow readers, descriptors, idleness.
//! Everything about the protocol itself is told in the other files, without a socket.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use midge::packet::{
    Connect, Packet, Properties, QoS, ReasonCode, SubscriptionOptions, Version, Will,
};

use common::{ack, connect, publish, publish_qos, subscribe};
use socket::{Client, Midge, encoded, free_port, until};

const MEGABYTE: usize = 1 << 20;

// ---- bytes --------------------------------------------------------------------------------------

#[test]
fn bytes_may_come_one_at_a_time() {
    let broker = Midge::start(&[]);
    let mut client = broker.open(Version::V5);
    let filters = [("a/+", SubscriptionOptions::new(QoS::ExactlyOnce))];
    let hello = Packet::Publish(publish_qos(QoS::AtLeastOnce, 7, "a/b", "hello"));
    for packet in [
        Packet::Connect(connect(Version::V5, "a")),
        subscribe(1, &filters),
        hello,
    ] {
        for byte in encoded(&packet, Version::V5) {
            client.send_bytes(&[byte]);
        }
    }
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
    assert_eq!(client.read().reasons(), [ReasonCode::GrantedQoS2]);
    assert_eq!(client.read().publish().payload, b"hello");
    assert_eq!(client.read().ack(), (7, ReasonCode::Success));
}

#[test]
fn a_thousand_packets_in_one_write_are_answered_in_order() {
    let broker = Midge::start(&[]);
    for version in [Version::V311, Version::V5] {
        let mut client = broker.connect(connect(version, "a"));
        let mut bytes = Vec::new();
        for id in 1..=1_000 {
            Packet::Publish(publish_qos(QoS::AtLeastOnce, id, "t", "x"))
                .encode(version, &mut bytes);
        }
        client.send_bytes(&bytes);
        for id in 1..=1_000 {
            assert_eq!(client.read().ack().0, id); // [MQTT-4.2.0-1] [v3 MQTT-7.1.1-1]
        }
    }
}

#[test]
fn two_megabytes_arrive_whole() {
    let broker = Midge::start(&["--max-packet-size", "3000000"]);
    let payload: String = (0..2 * MEGABYTE)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect();
    for version in [Version::V311, Version::V5] {
        let mut subscriber = broker.connect(connect(version, "subscriber"));
        subscriber.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = broker.connect(connect(version, "publisher"));
        publisher.publish_qos1("t", &payload);
        let received = subscriber.read();
        // [v3 MQTT-7.1.1-1] TCP carries it, in order and whole.
        assert!(
            received.publish().payload == payload.as_bytes(),
            "it is not what was sent"
        );
    }
}

#[test]
fn a_reason_code_arrives_though_more_bytes_were_on_their_way() {
    let broker = Midge::start(&[]);
    for _ in 0..2 {
        let mut client = broker.client("a");
        let mut writer = client.stream.try_clone().unwrap();
        let flood = thread::spawn(move || {
            // SUBSCRIBE with wrong flags, and what a client may still send that does not know.
            let _ = writer.write_all(&[0x80, 0x00]);
            while writer.write_all(&[0xC0, 0x00].repeat(MEGABYTE)).is_ok() {}
        });
        client.expect_disconnect(ReasonCode::MalformedPacket);
        flood.join().unwrap();
    }
}

#[test]
fn what_is_not_mqtt_is_closed_and_logged() {
    let broker = Midge::start(&[]);
    let client_hello = [
        0x16, 0x03, 0x01, 0x00, 0xA5, 0x01, 0x00, 0x00, 0xA1, 0x03, 0x03,
    ];
    for (bytes, what) in [
        (&client_hello[..], "looks like TLS"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "looks like HTTP",
        ),
        (b"\0\0\0\0", "refused"),
    ] {
        let mut client = broker.open(Version::V5);
        let peer = client.stream.local_addr().unwrap().to_string();
        client.send_bytes(bytes);
        client
            .stream
            .read_to_end(&mut Vec::new())
            .expect("it is closed");
        let line = broker.logs(what);
        assert!(line.contains(&peer), "{line}");
    }
}

#[test]
fn a_client_that_only_stops_sending_gets_its_answers_and_leaves_its_will() {
    let broker = Midge::start(&[]);
    let mut heir = broker.client("heir");
    heir.subscribe("will", QoS::AtMostOnce);
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic: "will",
        payload: b"gone",
    };
    let mut client = broker.connect(Connect {
        will: Some(will),
        ..connect(Version::V5, "a")
    });
    client.send(&Packet::Publish(publish_qos(
        QoS::AtLeastOnce,
        7,
        "t",
        "last word",
    )));
    client.shutdown();
    assert_eq!(client.read().ack().0, 7);
    client.expect_closed();
    assert_eq!(heir.read().publish().payload, b"gone");
}

// ---- everybody has a turn -----------------------------------------------------------------------

#[test]
fn a_client_that_does_not_read_costs_neither_the_others_nor_much_memory() {
    let broker = Midge::start(&[
        "--max-outbound-bytes",
        "1000000",
        "--max-queued-bytes=1000000",
    ]);
    let mut asleep = broker.client("asleep");
    asleep.subscribe("t", QoS::AtMostOnce);
    let mut dozing = broker.client("dozing");
    dozing.subscribe("t", QoS::AtLeastOnce);
    let mut awake = broker.client("awake");
    awake.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher");
    let before = broker.figure("VmRSS");
    let payload = "x".repeat(MEGABYTE / 16);
    let start = Instant::now();
    for _ in 0..64 * 16 {
        publisher.publish_qos1("t", &payload);
        let received = awake.read();
        let id = received.publish().packet_id.expect("it is sent with QoS 1");
        awake.send(&Packet::PubAck(ack(id)));
    }
    // 64 MB; a stall for the two others would take far longer.
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    let grown = broker.figure("VmRSS") - before;
    assert!(grown < 16 << 10, "{grown} kB more");
    broker.logs("dropped for client");
    assert_eq!(asleep.read().publish().payload.len(), payload.len());
    assert_eq!(dozing.read().publish().payload.len(), payload.len());
}

#[test]
fn a_flooding_publisher_does_not_keep_others_waiting() {
    let broker = Midge::start(&["--quiet"]);
    let mut flooder = broker.client("flooder");
    let mut client = broker.client("a");
    let bytes = encoded(
        &Packet::Publish(publish("t", &"x".repeat(100))),
        Version::V5,
    )
    .repeat(5_000);
    let done = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                flooder.send_bytes(&bytes);
            }
        });
        let times = [(); 50].map(|()| {
            let start = Instant::now();
            client.ping();
            start.elapsed()
        });
        done.store(true, Ordering::Relaxed);
        times
    });
    times.sort();
    // All but the worst few: this machine has other things to do.
    assert!(times[44] < Duration::from_millis(250), "{times:?}");
}

// ---- descriptors, threads, wake-ups -------------------------------------------------------------

#[test]
fn without_descriptors_new_connections_are_closed_and_the_others_served() {
    let port = free_port();
    let script = format!(
        "ulimit -n 36; exec {} -p {port}",
        env!("CARGO_BIN_EXE_midge")
    );
    let broker = Midge::command(Command::new("sh").args(["-c", &script])).on_port(port);
    let mut inside: Vec<Client> = Vec::new();
    let mut outside = 0;
    for index in 0..60 {
        let mut client = broker.open(Version::V5);
        let hello = encoded(
            &Packet::Connect(connect(Version::V5, &format!("{index}"))),
            Version::V5,
        );
        // It may be closed already.
        let _ = client.stream.write_all(&hello);
        match client.try_read() {
            Some(connack) => {
                assert_eq!(connack.connack().reason, ReasonCode::Success);
                inside.push(client);
            }
            None => outside += 1,
        }
    }
    assert!(inside.len() >= 10, "only {} were served", inside.len());
    assert!(outside >= 30, "only {outside} were turned away");
    inside.iter_mut().for_each(Client::ping);
    broker.logs("New connections are closed at once");
    let before = broker.cpu_ticks();
    thread::sleep(Duration::from_millis(500)); // The time in which nothing must happen.
    let used = broker.cpu_ticks() - before;
    assert!(used <= 2, "{used} hundredths of a second to do nothing");
    inside.drain(..).for_each(Client::disconnect);
    // One in, one out: that is no new episode each time; sixteen in a row end this one.
    for index in 0..16 {
        broker.client(&format!("new {index}")).ping();
    }
    let log = broker.stop().stderr;
    assert_eq!(
        log.matches("New connections are closed").count(),
        0,
        "once per episode: {log}"
    );
    assert_eq!(log.matches("connections are accepted").count(), 1, "{log}");
}

#[test]
fn idle_means_idle() {
    let broker = Midge::start(&["--quiet"]);
    let mut clients: Vec<Client> = Vec::new();
    // As many as the usual limit of 1,024 descriptors lets a test have.
    for index in 0..900 {
        clients.push(broker.client(&format!("{index}")));
    }
    assert_eq!(broker.count("task"), 1, "one thread does it all");
    clients[899].ping();
    let (switches, ticks) = (broker.figure("voluntary_ctxt_switches"), broker.cpu_ticks());
    thread::sleep(Duration::from_secs(2)); // The time in which nothing must happen.
    // Going to sleep after the ping may count as one.
    assert!(broker.figure("voluntary_ctxt_switches") - switches <= 1);
    assert_eq!(broker.cpu_ticks() - ticks, 0);
    clients.iter_mut().for_each(Client::ping);
}

#[test]
fn descriptors_and_memory_are_given_back() {
    let broker = Midge::start(&["--quiet"]);
    let cycle = |index: usize| {
        let mut client = broker.client(&format!("{}", index % 7));
        client.subscribe("t", QoS::AtLeastOnce);
        match index % 3 {
            0 => client.disconnect(),
            1 => client.send_bytes(&[0x00]), // Malformed, and gone before it is told.
            _ => drop(client),
        }
    };
    (0..100).for_each(cycle);
    let descriptors = until("only its own descriptors", || {
        let count = broker.count("fd");
        (count < 24).then_some(count)
    });
    let before = broker.figure("VmRSS");
    (0..500).for_each(cycle);
    until("as many as before", || {
        (broker.count("fd") <= descriptors).then_some(())
    });
    let grown = broker.figure("VmRSS").saturating_sub(before);
    assert!(grown < 1 << 10, "{grown} kB more");
}

#[test]
fn after_a_stop_nobody_is_disconnected_who_has_spoken_meanwhile() {
    let broker = Midge::start(&["--quiet"]);
    let mut clients: Vec<Client> = Vec::new();
    for index in 0..50 {
        let id = index.to_string();
        let keep_alive = 1;
        clients.push(broker.connect(Connect {
            keep_alive,
            ..connect(Version::V5, &id)
        }));
    }
    broker.signal("STOP");
    for client in &mut clients {
        client.send(&Packet::PingReq);
    }
    // Longer than one and a half times the keep alive.
    thread::sleep(Duration::from_millis(2_000));
    broker.signal("CONT");
    for client in &mut clients {
        client.expect(&Packet::PingResp);
    }
}

#[test]
fn a_client_that_sends_far_too_much_can_read_why_it_is_cut_off() {
    let broker = Midge::start(&["--quiet", "--max-packet-size", "1000"]);
    let mut client = broker.client("a");
    let mut stream = client.stream.try_clone().unwrap();
    // Twenty megabytes in one packet: it is refused at its first bytes, and the rest keeps coming.
    let sender = thread::spawn(move || {
        let payload = "x".repeat(20 * MEGABYTE);
        let packet = encoded(&Packet::Publish(publish("t", &payload)), Version::V5);
        // A reset would fail here, and clients that write before they read would never read why.
        stream.write_all(&packet)
    });
    assert!(sender.join().unwrap().is_ok(), "cut off in the middle");
    client.expect_disconnect(ReasonCode::PacketTooLarge);
}
