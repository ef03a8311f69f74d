//! Every flag has an effect that can be seen from outside: a story per flag, with the real program.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use midge::packet::{
    Connect, Packet, Properties, PropertyBlock, PropertyId, Publish, QoS, ReasonCode, Version, Will,
};

use common::{ack, connect, durable, expiry, numbers, publish, publish_qos, retained};
use socket::{Client, Midge, datagram, encoded, free_port, run, signal, temporary, until};

/// The flags that a test below is about, in the order of `--help`.
const COVERED: &[&str] = &[
    "port",
    "listener",
    "allow-anonymous",
    "password-file",
    "acl-file",
    "max-connections",
    "global-max-connections",
    "message-size-limit",
    "accept-protocol-versions",
    "socket-domain",
    "bind-interface",
    "enable-proxy-protocol",
    "socket-owner",
    "socket-group",
    "socket-mode",
    "use-username-as-clientid",
    "mount-point",
    "clientid-prefixes",
    "config-file",
    "print-config",
    "global-max-clients",
    "max-subscriptions",
    "takeover-interval",
    "max-keepalive",
    "max-packet-size",
    "max-inflight-messages",
    "max-inflight-bytes",
    "max-queued-messages",
    "max-queued-bytes",
    "queue-overflow",
    "queue-qos0-messages",
    "memory-limit",
    "max-outbound-bytes",
    "receive-maximum",
    "max-qos",
    "retain-available",
    "check-retain-source",
    "max-retained-messages",
    "max-retained-bytes",
    "max-topic-alias",
    "max-topic-alias-broker",
    "persistent-client-expiration",
    "allow-zero-length-clientid",
    "auto-id-prefix",
    "upgrade-outgoing-qos",
    "set-tcp-nodelay",
    "sys-interval",
    "connection-messages",
    "log-dest",
    "log-facility",
    "log-format",
    "log-type",
    "log-timestamp",
    "log-timestamp-format",
    "quiet",
    "verbose",
    "daemon",
    "pid-file",
    "test-config",
    "explain",
    "persistence",
    "persistence-location",
    "durability",
    "durable",
    "sandbox",
];

#[test]
fn every_flag_has_a_test() {
    let covered: BTreeSet<_> = COVERED.iter().copied().collect();
    let flags: BTreeSet<_> = midge::config::names().collect();
    assert_eq!(flags, covered, "a new flag wants a test here");
    let help = run(&["--help"]).stdout;
    let source = include_str!("flags.rs");
    for name in COVERED {
        assert!(
            help.contains(&format!("--{name}")),
            "--{name} is not in --help"
        );
        // In a list of flags that a test gives to the program.
        let used = [format!("\"--{name}\""), format!("\"--{name}=")];
        assert!(
            used.iter().any(|used| source.contains(used)),
            "--{name} is never given"
        );
    }
}

// ---- who gets in --------------------------------------------------------------------------------

#[test]
fn every_port_is_open_on_both_loopback_addresses() {
    let (first, second) = (free_port(), free_port());
    let broker = Midge::spawn(&["--port", &first.to_string(), "-p", &second.to_string()]);
    let broker = broker.on_port(first).on_port(second);
    for port in [first, second] {
        let client = Client::open(port, Version::V5);
        assert_eq!(client.stream.peer_addr().unwrap().port(), port);
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("::1 is served too");
        }
    }
    broker.client("a").ping();
}

#[test]
fn a_listener_refuses_clients_without_a_user_name() {
    let port = free_port();
    let broker = Midge::spawn(&["--listener", &format!("{port} 127.0.0.1")]).on_port(port);
    broker.logs(&format!(
        "Listening on 127.0.0.1:{port}: nobody can connect"
    ));
    for version in [Version::V31, Version::V311, Version::V5] {
        let (mut client, connack) = broker.try_connect(connect(version, "a"));
        assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
        client.expect_closed();
    }
}

#[test]
fn a_listener_without_an_address_is_open_to_all() {
    let port = free_port();
    let broker = Midge::spawn(&["--allow-anonymous", "--listener", &port.to_string()]);
    let broker = broker.on_port(port);
    broker.logs(&format!(":{port}: every client can connect"));
    broker.client("a").ping();
}

#[test]
fn allow_anonymous_lets_everybody_in_however_it_is_written() {
    for flags in [
        &["--allow-anonymous"][..],
        &["--allow-anonymous=true"],
        &["--allow-anonymous", "true"],
    ] {
        let port = free_port();
        let listener = format!("{port} 127.0.0.1");
        let broker = Midge::spawn(&[flags, &["--listener", &listener]].concat()).on_port(port);
        broker.client("a").ping();
    }
    for flags in [
        &["--allow-anonymous=false"][..],
        &["--allow-anonymous", "false"],
    ] {
        let (_, connack) = Midge::start(flags).try_connect(connect(Version::V5, "a"));
        assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
    }
}

/// The rest of it is told in tests/password_file.rs.
#[cfg(feature = "passwords")]
#[test]
fn password_file_has_the_users() {
    let path = temporary("passwords");
    fs::write(&path, ALICE).unwrap();
    let file = path.to_str().unwrap();
    let broker = Midge::start(&["--password-file", file, "--allow-anonymous", "false"]);
    broker.logs(&format!("a user name and its password from {file}"));
    for (password, reason) in [
        (&b"secret"[..], ReasonCode::Success),
        (b"guess", ReasonCode::BadUserNameOrPassword),
    ] {
        let (_, connack) = broker.try_connect(Connect {
            user_name: Some("alice"),
            password: Some(password),
            ..connect(Version::V5, "a")
        });
        assert_eq!(connack.connack().reason, reason);
    }
    fs::remove_file(path).unwrap();
}

#[cfg(not(feature = "passwords"))]
#[test]
fn password_file_is_refused_where_it_could_not_be_read() {
    let exit = run(&["--password-file", "x"]);
    assert_eq!(exit.status, Some(2));
    assert!(exit.stderr.contains("without passwords"), "{}", exit.stderr);
}

/// By `mosquitto_passwd`, of "secret".
#[cfg(feature = "passwords")]
const ALICE: &str = "alice:$7$101$IPyS6AN5gVVv/7Pf$GH5asWmaoz8lLKsVnqkIgfjy+W53WlMynO/AmaWFNzUlBbP\
    OdHqxaoQnlPgVwZ24AHi57Q1XGi/5WRi9wsBa3g==\n";

/// A file with that text, for a flag.
fn file(name: &str, text: &str) -> String {
    let path = temporary(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

fn user<'a>(name: &'a str, id: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some(name),
        ..connect(Version::V5, id)
    }
}

#[test]
fn acl_file_says_who_may_read_and_write_what() {
    let path = file("acl", "topic read a\nuser alice\ntopic write a\n");
    let broker = Midge::start(&["--acl-file", &path]);
    broker.logs(&format!("what stands in {path} (2 lines)"));
    let (mut alice, mut reader) = (broker.connect(user("alice", "1")), broker.client("2"));
    assert_eq!(reader.subscribe("#", QoS::AtMostOnce), ReasonCode::Success);
    assert_eq!(alice.subscribe("#", QoS::AtMostOnce), ReasonCode::Success);
    let publish = |client: &mut Client, topic| {
        client.publish_packet(publish_qos(QoS::AtLeastOnce, 7, topic, topic))
    };
    assert_eq!(publish(&mut reader, "a"), ReasonCode::NotAuthorized);
    assert_eq!(publish(&mut alice, "a"), ReasonCode::Success);
    assert_eq!(publish(&mut alice, "b"), ReasonCode::NotAuthorized);
    assert_eq!(reader.payloads(), ["a"]);
    assert_eq!(alice.payloads(), [] as [&str; 0]);
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::NONE,
        topic: "b",
        payload: b"",
    };
    broker.connect(Connect {
        will: Some(will),
        ..user("alice", "3")
    });
    broker.logs("The will of 3 [127.0.0.1");
    fs::remove_file(&path).unwrap();
}

/// One client goes on publishing while the rules change under it: each message is answered, all
/// that was acknowledged arrives, and nobody is disconnected.
#[test]
fn sighup_reads_the_acl_file_again_under_traffic() {
    let (closed, open) = (
        "user r\ntopic read #\n",
        "topic write #\nuser r\ntopic read #\n",
    );
    let path = file("acl", open);
    let broker = Midge::start(&["--acl-file", &path]);
    let (mut writer, mut reader) = (broker.client("w"), broker.connect(user("r", "r")));
    reader.subscribe("#", QoS::AtLeastOnce);
    let (mut accepted, mut answers) = (Vec::new(), BTreeSet::new());
    let mut publish_some = |writer: &mut Client, count: usize| {
        let mut last = ReasonCode::Success;
        for _ in 0..count {
            let payload = (accepted.len()).to_string();
            last = writer.publish_packet(publish_qos(QoS::AtLeastOnce, 7, "t", &payload));
            answers.insert(last as u8);
            if last == ReasonCode::Success {
                accepted.push(payload);
            }
        }
        last
    };
    let mut received = Vec::new();
    for round in 0..6 {
        let (text, expected) = match round % 3 {
            0 => (closed, ReasonCode::NotAuthorized),
            1 => (open, ReasonCode::Success),
            // Nothing changes: what is wrong is said, with its line.
            _ => ("topic write #\nuser\n", ReasonCode::Success),
        };
        fs::write(&path, text).unwrap();
        broker.signal("HUP");
        until("the rules that are in force now", || {
            (publish_some(&mut writer, 5) == expected).then_some(())
        });
        match round % 3 {
            2 => broker.logs(&format!("SIGHUP: {path}:2: needs a name: user NAME")),
            _ => broker.logs("SIGHUP: what was read again is good"),
        };
        assert_eq!(publish_some(&mut writer, 3), expected);
        for packet in reader.so_far() {
            if let Packet::Publish(publish) = packet.packet() {
                received.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                reader.send(&Packet::PubAck(ack(publish.packet_id.unwrap())));
            }
        }
    }
    until("all that was acknowledged", || {
        for packet in reader.so_far() {
            if let Packet::Publish(publish) = packet.packet() {
                received.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                reader.send(&Packet::PubAck(ack(publish.packet_id.unwrap())));
            }
        }
        (received.len() >= accepted.len()).then_some(())
    });
    assert_eq!(received, accepted);
    assert_eq!(answers.len(), 2, "{answers:?}");
    fs::remove_file(&path).unwrap();
}

#[test]
fn explain_names_the_line_that_decides_in_its_status_too() {
    let text = "topic read a/#\nuser u\ntopic deny a/b\naddress 10.0.0.0/8\npattern write %u/%c\n";
    let path = file("acl", text);
    for (words, status, part) in [
        (&["-", "a/b", "read"][..], 0, ":1 says \"topic read a/#\"."),
        (&["u", "a/b", "read"], 1, ":3 says \"topic deny a/b\"."),
        (
            &["u", "u/u", "write"],
            1,
            "lets user u with client id u write u/u.",
        ),
        (
            &["u|c", "u/c", "write", "10.1.1.1"],
            0,
            ":5 says \"pattern write %u/%c\".",
        ),
        (&["-|c", "#", "subscribe"], 0, "has no subscribe lines"),
    ] {
        let exit = run(&[&["--acl-file", &path, "--explain"], words].concat());
        assert_eq!(
            (exit.status, exit.stderr.as_str()),
            (Some(status), ""),
            "{words:?}"
        );
        assert!(exit.stdout.contains(part), "{words:?}: {}", exit.stdout);
    }
    let exit = run(&["--explain", "u", "a", "write"]);
    assert_eq!(exit.status, Some(0));
    assert!(exit.stdout.contains("there is no ACL file"));
    let needs = "needs \"USER|CLIENT-ID\" TOPIC read|write|subscribe";
    for (words, part) in [
        (&["u"][..], needs),
        (&["u", "a"], needs),
        (&["u", "a", "reed"], needs),
        (&["u", "a", "read", "1.2.3.4", "x"], needs),
        (
            &["u", "a/+", "read"],
            "\"a/+\": a topic name must not contain + or #",
        ),
        (&["u", "a/#/b", "subscribe"], "# must be the last level"),
        (&["u", "a", "read", "here"], "\"here\" is no address"),
    ] {
        assert_refused(&[&["--explain"], words].concat(), 2, &["--explain: ", part]);
    }
    fs::remove_file(&path).unwrap();
}

#[test]
fn an_acl_file_that_cannot_be_used_stops_the_start_with_its_line() {
    let path = file("acl", "topic read a\ntopic reed a\n");
    let wrong = format!("{path}:2: \"reed\" is no access");
    assert_refused(&["-q", "--acl-file", &path], 1, &[&wrong]);
    let tested = run(&["--acl-file", &path, "--test-config"]);
    assert_eq!(tested.status, Some(1));
    assert_log(&tested.stdout, &[&wrong], &[]);
    assert_refused(
        &["--acl-file", &path, "--explain", "-", "a", "read"],
        2,
        &[&wrong],
    );
    let missing = format!("{path}.not");
    assert_refused(
        &["-q", "--acl-file", &missing],
        1,
        &[&missing, "cannot be read"],
    );
    assert_refused(
        &["-q", "--acl-file", "/"],
        1,
        &["/: cannot be read: it is not a file"],
    );
    assert_refused(&["--acl-file", ""], 2, &["must be a file"]);
    fs::write(&path, "pattern read a\n").unwrap();
    let exit = run(&["--acl-file", &path, "--test-config"]);
    assert_eq!(exit.status, Some(0));
    let warning = format!("{path}:1: the pattern \"a\" has neither %c nor %u");
    assert_log(&exit.stdout, &[&warning, "(1 line)"], &[]);
    fs::remove_file(&path).unwrap();
}

#[test]
fn max_connections_turns_the_next_client_away() {
    let broker = Midge::start(&["--max-connections", "1"]);
    let first = broker.client("first");
    let (mut second, connack) = broker.try_connect(connect(Version::V5, "second"));
    assert_eq!(connack.connack().reason, ReasonCode::QuotaExceeded);
    second.expect_closed();
    let (mut second, connack) = broker.try_connect(connect(Version::V311, "second"));
    assert_eq!(connack.connack().reason, ReasonCode::ServerUnavailable);
    second.expect_closed();
    first.disconnect();
    broker.client("second").ping();
}

#[test]
fn global_max_connections_counts_the_clients_of_all_listeners() {
    let (first, second) = (free_port(), free_port());
    let ports = ["-p", &first.to_string(), "-p", &second.to_string()];
    let each = Midge::spawn(&[&ports[..], &["--max-connections", "1"]].concat());
    let mut each = each.on_port(first);
    let _one = each.client("one");
    each.port = second;
    let _two = each.client("two");
    let (_, connack) = each.try_connect(connect(Version::V5, "three"));
    assert_eq!(connack.connack().reason, ReasonCode::QuotaExceeded);
    drop(each);
    let all = Midge::spawn(&[&ports[..], &["--global-max-connections", "1"]].concat());
    let mut all = all.on_port(first);
    let one = all.client("one");
    all.port = second;
    let (_, connack) = all.try_connect(connect(Version::V5, "two"));
    assert_eq!(connack.connack().reason, ReasonCode::QuotaExceeded);
    one.disconnect();
    all.client("two").ping();
}

#[test]
fn message_size_limit_drops_what_is_larger_and_goes_on() {
    let broker = Midge::start(&["--message-size-limit", "3"]);
    let mut subscriber = broker.client("subscriber");
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut client = broker.client("publisher");
    let too_large = publish_qos(QoS::AtLeastOnce, 1, "t", "four");
    assert_eq!(client.publish_packet(too_large), ReasonCode::QuotaExceeded);
    let fits = publish_qos(QoS::AtLeastOnce, 2, "t", "two");
    assert_eq!(client.publish_packet(fits), ReasonCode::Success);
    assert_eq!(subscriber.payloads(), ["two"]);
    // [v3 MQTT-3.3.5-2] there is no way to say no.
    let mut old = broker.connect(connect(Version::V311, "old"));
    assert_eq!(old.publish_packet(too_large), ReasonCode::Success);
    old.ping();
    assert_eq!(subscriber.payloads(), [] as [String; 0]);
}

#[test]
fn accept_protocol_versions_refuses_the_others() {
    let broker = Midge::start(&["--accept-protocol-versions", "4,5"]);
    broker.logs("every client of this machine with its version of MQTT can connect");
    broker.connect(connect(Version::V311, "a")).ping();
    broker.client("b").ping();
    let (_, connack) = broker.try_connect(connect(Version::V31, "c"));
    assert_eq!(
        connack.connack().reason,
        ReasonCode::UnsupportedProtocolVersion
    );
    broker.logs("accept_protocol_versions");
    let broker = Midge::start(&["--accept-protocol-versions", "3"]);
    let (_, connack) = broker.try_connect(connect(Version::V5, "c"));
    assert_eq!(
        connack.connack().reason,
        ReasonCode::UnsupportedProtocolVersion
    );
}

#[test]
fn socket_domain_leaves_the_other_family_out() {
    let port = free_port();
    let listener = port.to_string();
    let flags = ["--listener", &listener, "--socket-domain", "ipv4"];
    let broker = Midge::spawn(&flags).on_port(port);
    assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_err());
    drop(broker);
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let flags = [
        "--listener",
        &listener,
        "--socket-domain",
        "ipv6",
        "--allow-anonymous",
    ];
    let broker = Midge::spawn(&flags);
    broker.logs(&format!("Listening on [::]:{port}:"));
    let read = |mut stream: TcpStream| {
        use std::io::{Read, Write};
        let hello = encoded(&Packet::Connect(connect(Version::V5, "a")), Version::V5);
        stream.set_read_timeout(Some(socket::PATIENCE)).unwrap();
        let _ = stream.write_all(&hello);
        stream.read(&mut [0; 10]).unwrap_or(0)
    };
    let six = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("::1 is served");
    assert!(read(six) > 0);
    if let Ok(four) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        assert_eq!(read(four), 0, "the IPv6 socket takes no IPv4");
    }
}

#[test]
#[cfg(feature = "sockets")]
fn bind_interface_takes_what_comes_in_by_that_interface_only() {
    let port = free_port();
    let listener = format!("{port} 0.0.0.0");
    let flags = |name| ["--listener", &listener, "--bind-interface", name].map(str::to_string);
    let spawn = |name| Midge::command(Command::new(env!("CARGO_BIN_EXE_midge")).args(flags(name)));
    drop(spawn("lo").on_port(port));
    let exit = spawn("nosuch0").exit();
    assert_eq!(exit.status, Some(1));
    let expected = format!(
        "midge: --listener \"{port} 0.0.0.0\": cannot listen on 0.0.0.0:{port} through the \
         interface nosuch0: No such device (os error 19); this machine has no interface of that"
    );
    assert!(
        exit.stderr.lines().any(|line| line.starts_with(&expected)),
        "{}",
        exit.stderr
    );
    let all = fs::read_dir("/sys/class/net").unwrap();
    let mut names = all.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let Some(other) = names.find(|name| name != "lo") else {
        println!("not tested: there is no other interface");
        return;
    };
    let broker = spawn(&other);
    broker.logs(&format!("Listening on 0.0.0.0:{port}"));
    // That comes in by lo.
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

#[test]
fn enable_proxy_protocol_takes_clients_for_who_the_proxy_says_they_are() {
    let broker = Midge::start(&["--enable-proxy-protocol", "1"]);
    let mut client = broker.open(Version::V5);
    client.send_bytes(b"PROXY TCP4 203.0.113.7 198.51.100.1 5000 1883\r\n");
    client.send(&Packet::Connect(connect(Version::V5, "a")));
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
    broker.logs("New client connected from 203.0.113.7:5000 as a ");
    let mut client = broker.open(Version::V5);
    client.send(&Packet::Connect(connect(Version::V5, "b")));
    client.expect_closed();
    broker.logs("closed: it does not begin with a PROXY header.");
}

#[test]
fn socket_owner_group_and_mode_say_who_may_open_a_unix_socket() {
    use std::os::unix::fs::MetadataExt;
    let path = temporary("owned.sock");
    let listener = format!("0 {}", path.display());
    let me = fs::metadata("/proc/self").unwrap();
    // Only root may give files away.
    let (owner, group) = match me.uid() {
        0 => ("12345".to_string(), "54321".to_string()),
        own => (own.to_string(), me.gid().to_string()),
    };
    let listen = ["--listener", &listener, "--socket-owner", &owner];
    let flags = [&listen[..], &["--socket-group", &group]].concat();
    for (mode, expected) in [(&[][..], 0o770), (&["--socket-mode", "606"], 0o606)] {
        let broker = Midge::spawn(&[&flags, mode].concat());
        broker.logs("owned.sock: nobody can connect");
        let file = fs::metadata(&path).expect("it is there");
        assert_eq!(file.mode() & 0o7777, expected);
        let ids = (file.uid().to_string(), file.gid().to_string());
        assert_eq!(ids, (owner.clone(), group.clone()));
    }
    let exit = run(&["--listener", "1883", "--socket-mode", "600"]);
    assert_eq!(exit.status, Some(2));
    let expected = "--socket-mode 600: is for Unix sockets: listener 0 PATH";
    assert!(exit.stderr.contains(expected), "{}", exit.stderr);
    let nobody = run(&["--listener", &listener, "--socket-owner", "no-such-user"]);
    assert_eq!(nobody.status, Some(1));
    let expected = "owned.sock: there is no user no-such-user";
    assert!(nobody.stderr.contains(expected), "{}", nobody.stderr);
    assert!(!path.exists(), "what was made is gone");
}

#[test]
fn use_username_as_clientid_makes_the_name_the_id() {
    let broker = Midge::start(&["--use-username-as-clientid"]);
    let named = |id, name| Connect {
        user_name: Some(name),
        ..connect(Version::V5, id)
    };
    let mut first = broker.connect(named("one", "ann"));
    broker.logs("as ann (");
    broker.connect(named("two", "ann")).ping();
    first.expect_disconnect(ReasonCode::SessionTakenOver);
    for connect in [connect(Version::V5, "three"), named("four", "")] {
        let (_, connack) = broker.try_connect(connect);
        assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
    }
}

#[test]
fn mount_point_stands_before_the_topics_of_its_clients() {
    // The rules are about full names, which the clients do not see.
    let path = file("acl", "topic readwrite garden/gate\ntopic readwrite lamp\n");
    let broker = Midge::start(&["--mount-point", "garden/", "--acl-file", &path]);
    let mut client = broker.client("a");
    client.subscribe("+", QoS::AtMostOnce);
    for topic in ["lamp", "gate"] {
        client.send(&Packet::Publish(publish(topic, topic)));
    }
    assert_eq!(client.read().publish().topic, "gate");

    let (path, ports) = (temporary("conf"), [free_port(), free_port()]);
    let options = ["", "mount_point garden/\n"];
    let listeners = ports.iter().zip(options);
    let text = listeners.map(|(port, option)| format!("listener {port} 127.0.0.1\n{option}"));
    fs::write(&path, text.collect::<String>() + "allow_anonymous true\n").unwrap();
    let broker = Midge::spawn(&["-c", path.to_str().unwrap()]).on_port(ports[0]);
    let mut outside = broker.client("outside");
    outside.subscribe("#", QoS::AtMostOnce);
    let broker = broker.on_port(ports[1]);
    let mut inside = broker.client("inside");
    inside.send(&Packet::Publish(publish("gate", "open")));
    assert_eq!(outside.read().publish().topic, "garden/gate");
    fs::remove_file(path).unwrap();
}

#[test]
fn clientid_prefixes_refuses_other_ids() {
    let broker = Midge::start(&["--clientid-prefixes", "box-"]);
    broker.client("box-1").ping();
    for id in ["bo", "a-box-1", ""] {
        let (_, connack) = broker.try_connect(connect(Version::V5, id));
        assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized, "{id}");
    }
}

#[test]
fn config_file_is_read_and_flags_count_before_it() {
    let (path, port) = (temporary("conf"), free_port());
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_qos 0\n");
    fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    for (flags, max) in [
        (&["--config-file", file][..], Some(0)),
        (&["-c", file, "--max-qos", "1"], Some(1)),
    ] {
        let broker = Midge::spawn(flags).on_port(port);
        let (_, connack) = broker.try_connect(connect(Version::V5, "a"));
        assert_eq!(
            connack.connack().properties.number(PropertyId::MaximumQoS),
            max
        );
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn print_config_prints_all_settings_with_their_origin() {
    let exit = run(&["--print-config", "--max-qos", "1"]);
    assert_eq!((exit.status, exit.stderr.as_str()), (Some(0), ""));
    assert!(
        exit.stdout.contains("# --max-qos\nmax_qos 1\n"),
        "{}",
        exit.stdout
    );
    assert!(
        exit.stdout.contains("# default\nsys_interval 10\n"),
        "{}",
        exit.stdout
    );
}

#[test]
fn global_max_clients_counts_those_that_are_away() {
    let broker = Midge::start(&["--global-max-clients", "1"]);
    let hour = expiry(3_600);
    broker
        .connect(durable(Version::V5, "first", &hour))
        .disconnect();
    let (_, connack) = broker.try_connect(connect(Version::V5, "second"));
    assert_eq!(connack.connack().reason, ReasonCode::QuotaExceeded);
    let (_, connack) = broker.try_connect(durable(Version::V5, "first", &hour));
    assert!(
        connack.connack().session_present,
        "its own session is not one more"
    );
}

#[test]
fn takeover_interval_keeps_an_id_where_it_is_and_the_log_names_both_who_want_it() {
    let broker = Midge::start(&["--takeover-interval", "3600"]);
    let mut clients: Vec<_> = (0..6).map(|_| broker.client("lamp")).collect();
    let (_, connack) = broker.try_connect(connect(Version::V311, "lamp"));
    assert_eq!(connack.connack().reason, ReasonCode::ServerUnavailable);
    clients[5].ping();
    let line = broker.logs("Client lamp is at 127.0.0.1:");
    let ports = line.split("127.0.0.1:").skip(1);
    let ports: Vec<&str> = ports.filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(ports.len(), 2, "{line}");
    assert_ne!(ports[0], ports[1]);
    // Once, however often it asks.
    for _ in 0..3 {
        broker.try_connect(connect(Version::V5, "lamp"));
    }
    let log = broker.stop().stderr;
    assert!(
        !log.contains("lamp is at") && !log.contains("refused"),
        "{log}"
    );

    let broker = Midge::start(&["--takeover-interval", "0"]);
    let clients: Vec<_> = (0..20).map(|_| broker.client("lamp")).collect();
    assert_eq!(clients.len(), 20);
}

#[test]
fn max_keepalive_is_told_to_v5_clients_and_refuses_others() {
    let broker = Midge::start(&["--max-keepalive", "60"]);
    let with = |version, keep_alive| Connect {
        keep_alive,
        ..connect(version, "a")
    };
    for (keep_alive, told) in [(0, Some(60)), (61, Some(60)), (60, None), (1, None)] {
        let (_, connack) = broker.try_connect(with(Version::V5, keep_alive));
        let server_keep_alive = PropertyId::ServerKeepAlive;
        assert_eq!(connack.connack().properties.number(server_keep_alive), told);
    }
    let (_, connack) = broker.try_connect(with(Version::V311, 61));
    assert_eq!(
        connack.connack().reason,
        ReasonCode::ClientIdentifierNotValid
    );
    broker.connect(with(Version::V311, 60)).ping();
}

#[test]
fn allow_zero_length_clientid_false_refuses_clients_without_an_id() {
    let broker = Midge::start(&["--allow-zero-length-clientid", "false"]);
    for version in [Version::V311, Version::V5] {
        let (mut client, connack) = broker.try_connect(connect(version, ""));
        assert_eq!(
            connack.connack().reason,
            ReasonCode::ClientIdentifierNotValid
        );
        client.expect_closed();
    }
    Midge::start(&["--allow-zero-length-clientid"])
        .client("")
        .ping();
}

#[test]
fn auto_id_prefix_begins_the_ids_that_are_given() {
    for (flags, prefix) in [(&["--auto-id-prefix", "box-"][..], "box-"), (&[], "auto-")] {
        let (_, connack) = Midge::start(flags).try_connect(connect(Version::V5, ""));
        let id = connack
            .connack()
            .properties
            .text(PropertyId::AssignedClientIdentifier);
        assert!(id.expect("it is told").starts_with(prefix), "{id:?}");
    }
}

#[test]
fn persistent_client_expiration_ends_the_session_of_a_client_that_is_away() {
    let broker = Midge::start(&["--persistent-client-expiration", "1s"]);
    let hour = expiry(3_600);
    let (client, connack) = broker.try_connect(durable(Version::V5, "five", &hour));
    let told = connack
        .connack()
        .properties
        .number(PropertyId::SessionExpiryInterval);
    assert_eq!(told, Some(1));
    client.disconnect();
    broker.logs("Expiring client five");
    broker
        .connect(durable(Version::V311, "three", &hour))
        .disconnect();
    broker.logs("Expiring client three");
    let (_, connack) = broker.try_connect(durable(Version::V311, "three", &hour));
    assert!(!connack.connack().session_present);
}

// ---- what a client may do -----------------------------------------------------------------------

#[test]
fn max_subscriptions_refuses_one_more() {
    let broker = Midge::start(&["--max-subscriptions", "2"]);
    let mut client = broker.client("a");
    assert_eq!(
        client.subscribe("one", QoS::AtMostOnce),
        ReasonCode::Success
    );
    assert_eq!(
        client.subscribe("two", QoS::AtMostOnce),
        ReasonCode::Success
    );
    assert_eq!(
        client.subscribe("three", QoS::AtMostOnce),
        ReasonCode::QuotaExceeded
    );
    assert_eq!(
        client.subscribe("two", QoS::AtLeastOnce),
        ReasonCode::GrantedQoS1
    );
}

#[test]
fn max_packet_size_is_told_and_enforced() {
    let broker = Midge::start(&["--max-packet-size", "100"]);
    let (mut client, connack) = broker.try_connect(connect(Version::V5, "a"));
    let told = connack
        .connack()
        .properties
        .number(PropertyId::MaximumPacketSize);
    assert_eq!(told, Some(100));
    let payload = "x".repeat(100);
    let sized = |size| {
        let head = encoded(&Packet::Publish(publish("t", "")), Version::V5).len();
        Packet::Publish(publish("t", &payload[..size - head]))
    };
    client.send(&sized(100));
    client.ping();
    client.send(&sized(101));
    client.expect_disconnect(ReasonCode::PacketTooLarge);
}

#[test]
fn receive_maximum_is_told_and_enforced() {
    let broker = Midge::start(&["--receive-maximum", "1"]);
    let (mut client, connack) = broker.try_connect(connect(Version::V5, "a"));
    let told = connack
        .connack()
        .properties
        .number(PropertyId::ReceiveMaximum);
    assert_eq!(told, Some(1));
    client.publish_packet(publish_qos(QoS::ExactlyOnce, 1, "t", "complete"));
    client.send(&Packet::Publish(publish_qos(
        QoS::ExactlyOnce,
        2,
        "t",
        "begun",
    )));
    assert_eq!(client.read().ack().0, 2);
    client.send(&Packet::Publish(publish_qos(
        QoS::ExactlyOnce,
        3,
        "t",
        "too much",
    )));
    client.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn max_qos_is_told_granted_and_enforced() {
    let broker = Midge::start(&["--max-qos", "1"]);
    let (mut client, connack) = broker.try_connect(connect(Version::V5, "a"));
    assert_eq!(
        connack.connack().properties.number(PropertyId::MaximumQoS),
        Some(1)
    );
    assert_eq!(
        client.subscribe("t", QoS::ExactlyOnce),
        ReasonCode::GrantedQoS1
    );
    client.send(&Packet::Publish(publish_qos(QoS::ExactlyOnce, 1, "t", "")));
    client.expect_disconnect(ReasonCode::QoSNotSupported);
}

#[test]
fn retain_available_false_is_told_and_enforced() {
    let broker = Midge::start(&["--retain-available", "false"]);
    let (mut client, connack) = broker.try_connect(connect(Version::V5, "a"));
    assert_eq!(
        connack
            .connack()
            .properties
            .number(PropertyId::RetainAvailable),
        Some(0)
    );
    client.send(&Packet::Publish(retained("t", "x")));
    client.expect_disconnect(ReasonCode::RetainNotSupported);
}

/// Whoever published it may write no more.
#[test]
fn check_retain_source_says_whether_what_is_retained_outlives_a_right() {
    for (flags, expected) in [
        (&[][..], ""),
        (&["--check-retain-source", "true"], ""),
        (&["--check-retain-source", "false"], "x"),
    ] {
        let path = file("acl", "topic readwrite r/1\n");
        let broker = Midge::start(&[&["--acl-file", &path], flags].concat());
        let mut client = broker.client("publisher");
        client.send(&Packet::Publish(retained("r/1", "x")));
        client.ping();
        fs::write(&path, "topic read r/1\n").unwrap();
        broker.signal("HUP");
        broker.logs("SIGHUP: what was read again is good");
        assert_eq!(retained_payloads(&broker), expected, "{flags:?}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn max_retained_messages_refuses_one_more_topic() {
    let broker = Midge::start(&["--max-retained-messages", "1"]);
    assert_eq!(
        retain_two(&broker),
        [ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded]
    );
    assert_eq!(retained_payloads(&broker), "1");
}

#[test]
fn max_retained_bytes_refuses_what_does_not_fit() {
    let broker = Midge::start(&["--max-retained-bytes", "1500"]);
    assert_eq!(
        retain_two(&broker),
        [ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded]
    );
    assert_eq!(retained_payloads(&broker), "1");
    let broker = Midge::start(&["--max-retained-bytes", "0"]);
    assert_eq!(retain_two(&broker), [ReasonCode::NoMatchingSubscribers; 2]);
    assert_eq!(retained_payloads(&broker), "12");
}

/// Two retained messages to two topics, of a thousand bytes each.
fn retain_two(broker: &Midge) -> [ReasonCode; 2] {
    let mut client = broker.client("publisher");
    [("r/1", "1"), ("r/2", "2")].map(|(topic, digit)| {
        let payload = digit.repeat(1_000);
        let publish = publish_qos(QoS::AtLeastOnce, 1, topic, &payload);
        client.publish_packet(Publish {
            retain: true,
            ..publish
        })
    })
}

fn retained_payloads(broker: &Midge) -> String {
    let mut client = broker.client("subscriber");
    client.subscribe("r/#", QoS::AtMostOnce);
    first_letters(client.payloads())
}

#[test]
fn max_topic_alias_is_told_and_enforced() {
    for (flags, told) in [
        (&["--max-topic-alias", "3"][..], Some(3)),
        (&["--max-topic-alias", "0"], None),
    ] {
        let broker = Midge::start(flags);
        let (mut client, connack) = broker.try_connect(connect(Version::V5, "a"));
        let maximum = connack
            .connack()
            .properties
            .number(PropertyId::TopicAliasMaximum);
        assert_eq!(maximum, told);
        let too_high = numbers(&[(PropertyId::TopicAlias, told.unwrap_or(0) + 1)]);
        client.send(&Packet::Publish(Publish {
            properties: too_high.as_properties(),
            ..publish("t", "")
        }));
        client.expect_disconnect(ReasonCode::TopicAliasInvalid);
    }
}

#[test]
fn max_topic_alias_broker_limits_the_aliases_that_a_client_is_sent() {
    for (flags, expected) in [
        (
            &["--max-topic-alias-broker", "1"][..],
            ["one", "", "two", "two"],
        ),
        (
            &["--max-topic-alias-broker", "0"],
            ["one", "one", "two", "two"],
        ),
        (&[], ["one", "", "two", ""]),
    ] {
        let broker = Midge::start(flags);
        let ten = numbers(&[(PropertyId::TopicAliasMaximum, 10)]);
        let mut client = broker.connect(Connect {
            properties: ten.as_properties(),
            ..connect(Version::V5, "a")
        });
        client.subscribe("#", QoS::AtMostOnce);
        let mut publisher = broker.client("publisher");
        for topic in ["one", "one", "two", "two"] {
            publisher.publish(topic, "");
        }
        let received = [(); 4].map(|()| client.read());
        let topics = [0, 1, 2, 3].map(|index| received[index].publish().topic);
        assert_eq!(topics, expected, "{flags:?}");
    }
}

// ---- what a client gets -------------------------------------------------------------------------

/// Four messages of a thousand of these; what comes of them is told by the first letters.
const FOUR: [&str; 4] = ["1", "2", "3", "4"];

fn first_letters(payloads: Vec<String>) -> String {
    payloads.iter().map(|payload| &payload[..1]).collect()
}

/// Four messages, and the client acknowledges nothing.
fn in_flight(flags: &[&str]) -> String {
    let broker = Midge::start(flags);
    let mut client = broker.client("a");
    client.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = broker.client("publisher");
    for payload in FOUR.map(|digit| digit.repeat(1_000)) {
        publisher.publish_qos1("t", &payload);
    }
    first_letters(client.payloads())
}

#[test]
fn max_inflight_messages_are_sent_without_acknowledgement() {
    assert_eq!(in_flight(&["--max-inflight-messages", "2"]), "12");
    assert_eq!(in_flight(&["--max-inflight-messages", "0"]).len(), 4);
}

#[test]
fn max_inflight_bytes_are_sent_without_acknowledgement() {
    assert_eq!(in_flight(&["--max-inflight-bytes", "3500"]), "123");
    assert_eq!(in_flight(&["--max-inflight-bytes", "0"]).len(), 4);
}

/// Four messages for a client that is away: those it finds when it comes back.
fn queued(flags: &[&str], qos: QoS) -> String {
    let broker = Midge::start(flags);
    let hour = expiry(3_600);
    let mut client = broker.connect(durable(Version::V5, "a", &hour));
    client.subscribe("t", QoS::ExactlyOnce);
    client.disconnect();
    let mut publisher = broker.client("publisher");
    for payload in FOUR.map(|digit| digit.repeat(1_000)) {
        publisher.publish_packet(match qos {
            QoS::AtMostOnce => publish("t", &payload),
            _ => publish_qos(qos, 1, "t", &payload),
        });
    }
    first_letters(broker.connect(durable(Version::V5, "a", &hour)).payloads())
}

#[test]
fn max_queued_messages_wait_for_a_client() {
    let flags = ["--max-queued-messages", "2"];
    assert_eq!(queued(&flags, QoS::AtLeastOnce), "12");
    assert_eq!(
        queued(&["--max-queued-messages", "0"], QoS::AtLeastOnce).len(),
        4
    );
}

#[test]
fn max_queued_bytes_wait_for_a_client() {
    let flags = ["--max-queued-bytes", "3500"];
    assert_eq!(queued(&flags, QoS::AtLeastOnce), "123");
    assert_eq!(
        queued(&["--max-queued-bytes", "0"], QoS::AtLeastOnce).len(),
        4
    );
}

#[test]
fn queue_overflow_says_which_message_goes() {
    for (overflow, kept) in [("drop-newest", "12"), ("drop-oldest", "34")] {
        let flags = ["--max-queued-messages", "2", "--queue-overflow", overflow];
        assert_eq!(queued(&flags, QoS::AtLeastOnce), kept);
    }
}

#[test]
fn queue_qos0_messages_wait_too() {
    assert_eq!(queued(&["--queue-qos0-messages"], QoS::AtMostOnce).len(), 4);
    assert_eq!(
        queued(&["--queue-qos0-messages", "false"], QoS::AtMostOnce).len(),
        0
    );
}

#[test]
fn memory_limit_refuses_new_clients_where_the_heap_is_larger() {
    if !cfg!(feature = "memory-limit") {
        let exit = Midge::spawn(&["--memory-limit", "1"]).exit();
        assert!(exit.stderr.contains("built without"), "{}", exit.stderr);
        return;
    }
    let exit = Midge::spawn(&["--memory-limit", "6"]).exit();
    assert_eq!(exit.status, Some(2));
    assert!(exit.stderr.contains("at least 262144"), "{}", exit.stderr);
    for (limit, is_enough) in [("300000", false), ("1000000000", true), ("0", true)] {
        let broker = Midge::start(&["--memory-limit", limit]);
        let mut let_in = vec![];
        let answer = loop {
            let id = format!("client {}", let_in.len());
            let (client, connack) = broker.try_connect(connect(Version::V5, &id));
            let_in.push(client);
            match connack.connack().reason {
                ReasonCode::Success if let_in.len() < 1_000 => {}
                reason => break reason,
            }
        };
        let expected = match is_enough {
            true => ReasonCode::Success,
            false => ReasonCode::QuotaExceeded,
        };
        assert_eq!(answer, expected, "{limit}: {}", let_in.len());
    }
}

#[test]
fn max_outbound_bytes_drops_what_a_client_is_not_quick_enough_for() {
    for (flags, all) in [(&["--max-outbound-bytes", "1024"][..], false), (&[], true)] {
        let broker = Midge::start(flags);
        let mut client = broker.client("a");
        client.subscribe("t", QoS::AtMostOnce);
        let mut publisher = broker.client("publisher");
        // One write: it comes in a few turns, and within a turn nobody can take anything.
        let payload = "x".repeat(500);
        let one = encoded(&Packet::Publish(publish("t", &payload)), Version::V5);
        publisher.send_bytes(&one.repeat(80));
        publisher.ping();
        let received = client.payloads().len();
        publisher.subscribe("$SYS/broker/publish/messages/dropped", QoS::AtMostOnce);
        let dropped = publisher.payloads().concat();
        assert_eq!(dropped, (80 - received).to_string());
        assert_eq!(received == 80, all, "{received} of 80 were received");
    }
}

#[test]
fn upgrade_outgoing_qos_delivers_with_the_qos_of_the_subscription() {
    for (flags, qos) in [
        (&["--upgrade-outgoing-qos", "true"][..], QoS::AtLeastOnce),
        (&["--upgrade-outgoing-qos", "false"], QoS::AtMostOnce),
    ] {
        let broker = Midge::start(flags);
        let mut client = broker.client("a");
        client.subscribe("t", QoS::AtLeastOnce);
        broker.client("publisher").publish("t", "");
        assert_eq!(client.read().publish().qos, qos);
    }
}

/// Nothing outside shows the option itself, but it shows in time: a broker with Nagle's delay keeps
/// the second small packet back until the first is acknowledged, and a client that speaks itself
/// acknowledges late (40 ms on Linux).
#[test]
fn set_tcp_nodelay_false_waits_for_acknowledgements() {
    assert!(pace(&["--set-tcp-nodelay", "true"]) < Duration::from_millis(20));
    assert!(pace(&["--set-tcp-nodelay", "false"]) > Duration::from_millis(30));
}

/// How long a message takes to a client that has just been answered: the middle of several.
fn pace(flags: &[&str]) -> Duration {
    let broker = Midge::start(flags);
    let mut client = broker.client("a");
    client.subscribe("t", QoS::AtMostOnce);
    let mut publisher = broker.client("publisher");
    let mut times = [(); 15].map(|()| {
        client.ping();
        let start = Instant::now();
        publisher.send(&Packet::Publish(publish("t", "")));
        client.read();
        start.elapsed()
    });
    times.sort();
    times[times.len() / 2]
}

#[test]
fn sys_interval_brings_the_figures_up_to_date_or_never() {
    let broker = Midge::start(&["--sys-interval", "1"]);
    let mut client = broker.client("a");
    client.subscribe("$SYS/broker/uptime", QoS::AtMostOnce);
    let figures = [(); 3].map(|()| client.read());
    assert!(figures[0].publish().retain, "there is one at once");
    assert!(!figures[2].publish().retain, "and others as time goes by");
    let broker = Midge::start(&["--sys-interval", "0"]);
    let mut client = broker.client("a");
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    assert!(client.payloads().is_empty());
}

// ---- the log ------------------------------------------------------------------------------------

/// What a broker writes to standard error in a short life: a client comes, subscribes,
/// unsubscribes, acknowledges what it never got and leaves; another is refused.
fn log_of(flags: &[&str]) -> String {
    let broker = Midge::start(flags);
    live(&broker);
    let exit = broker.stop();
    assert_eq!((exit.status, exit.stdout.as_str()), (Some(0), ""));
    exit.stderr
}

fn live(broker: &Midge) {
    let mut client = broker.client("somebody");
    client.subscribe("a/filter", QoS::AtMostOnce);
    client.send(&common::unsubscribe(1, &["a/filter"]));
    client.read();
    client.send(&Packet::PubAck(ack(1)));
    client.disconnect();
    let (_, connack) = broker.try_connect(connect(Version::V31, ""));
    assert_eq!(
        connack.connack().reason,
        ReasonCode::ClientIdentifierNotValid
    );
}

const STARTING: &str = "midge version";
const CONNECTED: &str = "New client connected";
const REFUSED: &str = "refused";
const SUBSCRIBED: &str = "somebody 0 a/filter";
const UNSUBSCRIBED: &str = "somebody a/filter";
const PUZZLED: &str = "PUBACK from somebody";

fn assert_log(log: &str, there: &[&str], not_there: &[&str]) {
    for part in there {
        assert!(log.contains(part), "{part:?} is missing in\n{log}");
    }
    for part in not_there {
        assert!(!log.contains(part), "{part:?} is in\n{log}");
    }
}

#[test]
fn connection_messages_false_says_nothing_of_who_comes_and_goes() {
    let left = "somebody [127.0.0.1:";
    let log = log_of(&["--connection-messages", "false"]);
    assert_log(&log, &[STARTING, REFUSED], &[CONNECTED, left]);
    let log = log_of(&["--connection-messages"]);
    assert_log(&log, &[STARTING, REFUSED, CONNECTED, left], &[]);
}

#[test]
fn log_dest_is_where_the_log_goes() {
    assert_log(&log_of(&["--log-dest", "stderr"]), &[STARTING], &[]);
    assert_eq!(log_of(&["--log-dest", "none"]), "");
    let exit = Midge::start(&["--log-dest", "stdout"]).stop();
    assert_log(&exit.stdout, &[STARTING], &[]);
    assert_eq!(exit.stderr, "");
    let path = temporary("log");
    let flag = format!("file {}", path.display());
    for lives in 1..=2 {
        assert_eq!(log_of(&["--log-dest", &flag]), "");
        let log = fs::read_to_string(&path).expect("it was written");
        assert_eq!(log.matches(STARTING).count(), lives, "the old log is kept");
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn log_facility_is_what_syslog_sorts_lines_by() {
    for (flags, facility) in [(&[][..], 3), (&["--log-facility", "2"], 16 + 2)] {
        let path = temporary("syslog");
        let socket = UnixDatagram::bind(&path).unwrap();
        let destination = format!("syslog {}", path.display());
        let broker = Midge::start(&[flags, &["--log-dest", &destination]].concat());
        let line = datagram(&socket);
        let (notice, pid) = (5, broker.pid());
        let priority = facility * 8 + notice;
        let start = format!("<{priority}>midge[{pid}]: {STARTING}");
        assert!(line.starts_with(&start), "{line}");
        // Whoever listens may go: nobody waits for it.
        drop(socket);
        fs::remove_file(path).unwrap();
        live(&broker);
        let exit = broker.stop();
        assert_eq!(exit.status, Some(0));
        assert!(exit.stderr.contains("lines are lost"), "{}", exit.stderr);
    }
}

#[test]
fn log_format_json_makes_an_object_of_each_line() {
    let log = log_of(&["--log-format", "json"]);
    for line in log.lines() {
        assert!(line.starts_with(r#"{"time":"20"#), "{line}");
        assert!(line.ends_with(r#""}"#), "{line}");
    }
    for parts in [
        [
            r#""type":"notice","message":"New client connected from 127"#,
            r#","client":"somebody","address":"127.0.0.1:"#,
        ],
        [
            r#""type":"warning","message":"Client (without id) [127"#,
            r#","client":"","address":"127.0.0.1:"#,
        ],
    ] {
        let is_it = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(log.lines().any(is_it), "{parts:?} is not in {log}");
    }
    let log = log_of(&["--log-format=json", "--log-timestamp=false"]);
    assert!(log.starts_with(r#"{"type":"notice","#), "{log}");
    let log = log_of(&["--log-format", "text"]);
    assert!(!log.contains('{'), "{log}");
}

#[test]
fn log_type_is_what_is_logged() {
    let everything = [
        STARTING,
        CONNECTED,
        REFUSED,
        SUBSCRIBED,
        UNSUBSCRIBED,
        PUZZLED,
    ];
    for (flags, there) in [
        (&[][..], &[STARTING, CONNECTED, REFUSED][..]),
        (&["--log-type", "notice"], &[STARTING, CONNECTED]),
        (&["--log-type", "warning"], &[REFUSED]),
        (&["--log-type", "subscribe"], &[SUBSCRIBED]),
        (&["--log-type", "unsubscribe"], &[UNSUBSCRIBED]),
        (
            &["--log-type", "subscribe", "--log-type", "notice"],
            &[STARTING, CONNECTED, SUBSCRIBED],
        ),
        (&["--log-type", "debug"], &[PUZZLED]),
        (&["--log-type", "error"], &[]),
        (&["--log-type", "none"], &[]),
        (&["--log-type", "all"], &everything),
        (&["--quiet"], &[]),
        (&["-q"], &[]),
        (&["--verbose"], &everything),
        (&["-v"], &everything),
    ] {
        let not_there = everything.map(|part| if there.contains(&part) { "\0" } else { part });
        println!("{flags:?}");
        assert_log(&log_of(flags), there, &not_there);
    }
}

#[test]
fn log_type_information_tells_of_expired_sessions() {
    let broker = Midge::start(&[
        "--log-type",
        "information",
        "--persistent-client-expiration=1s",
    ]);
    broker
        .connect(durable(Version::V311, "a", &PropertyBlock::new()))
        .disconnect();
    broker.logs("Expiring client a");
    assert_log(&broker.stop().stderr, &[], &[STARTING, CONNECTED]);
}

#[test]
fn quiet_logs_nothing_at_all() {
    assert_eq!(log_of(&["--quiet"]), "");
}

#[test]
fn log_timestamp_false_leaves_the_time_out() {
    let log = log_of(&["--log-timestamp", "false"]);
    assert!(log.starts_with(STARTING), "{log}");
    let log = log_of(&["--log-timestamp", "true"]);
    let time = log.split(": ").next().unwrap();
    assert_eq!(
        (time.len(), &time[10..11], &time[19..]),
        (20, "T", "Z"),
        "{log}"
    );
}

#[test]
fn log_timestamp_format_is_how_the_time_is_written() {
    let before = seconds_now();
    let log = log_of(&["--log-timestamp-format", "at %s %%"]);
    for line in log.lines() {
        let (time, _) = line
            .strip_prefix("at ")
            .unwrap()
            .split_once(" %: ")
            .unwrap();
        let time = time.parse().unwrap();
        assert!((before..=seconds_now()).contains(&time), "{line}");
    }
}

fn seconds_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

// ---- the process --------------------------------------------------------------------------------

/// A process that is not our child.
struct Background(u32);

impl Background {
    fn is_gone(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0));
        // Whoever adopted it may be slow to collect it.
        status.map_or(true, |status| status.contains("State:\tZ"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.is_gone() {
            let _ = Command::new("kill")
                .args(["-KILL", &self.0.to_string()])
                .status();
        }
    }
}

fn pid_in(path: &Path) -> u32 {
    let text = fs::read_to_string(path).expect("there is a pid file");
    text.trim().parse().expect("there is a number in it")
}

#[test]
fn daemon_returns_when_the_port_is_open_and_goes_on_in_the_background() {
    for flag in ["--daemon", "-d"] {
        let (port, pid_file, log) = (free_port(), temporary("pid"), temporary("log"));
        let exit = run(&[
            flag,
            "-p",
            &port.to_string(),
            "--pid-file",
            pid_file.to_str().unwrap(),
            "--log-dest",
            &format!("file {}", log.display()),
        ]);
        let outcome = (exit.status, exit.stdout.as_str(), exit.stderr.as_str());
        assert_eq!(outcome, (Some(0), "", ""));
        let broker = Background(pid_in(&pid_file));
        let mut client = Client::open(port, Version::V5);
        client.send(&Packet::Connect(connect(Version::V5, "a")));
        assert_eq!(client.read().connack().reason, ReasonCode::Success);
        signal(broker.0, "TERM");
        client.expect_disconnect(ReasonCode::ServerShuttingDown);
        until("the end of the daemon", || broker.is_gone().then_some(()));
        assert!(!pid_file.exists(), "the pid file is removed");
        assert_log(
            &fs::read_to_string(&log).unwrap(),
            &[STARTING, CONNECTED],
            &[],
        );
        fs::remove_file(log).unwrap();
    }
}

#[test]
fn a_daemon_that_cannot_start_says_so_before_it_goes_to_the_background() {
    let broker = Midge::start(&[]);
    let port = broker.port.to_string();
    let exit = run(&["-d", "-p", &port]);
    assert_eq!((exit.status, exit.stdout.as_str()), (Some(1), ""));
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    assert_log(
        &exit.stderr,
        &["--port", &port, "another listener or program"],
        &["panic"],
    );
    let exit = run(&["-d", "--max-qos", "3"]);
    assert_eq!((exit.status, exit.stderr.lines().count()), (Some(2), 1));
}

#[test]
fn pid_file_holds_the_process_id_while_it_runs() {
    let path = temporary("pid");
    let broker = Midge::start(&["--pid-file", path.to_str().unwrap()]);
    broker.client("a").ping();
    assert_eq!(pid_in(&path), broker.pid());
    assert_eq!(broker.stop().status, Some(0));
    assert!(!path.exists(), "it is removed");
}

/// What it keeps whom from is told in tests/sandbox.rs.
#[cfg(all(feature = "sandbox", target_os = "linux"))]
#[test]
fn sandbox_false_leaves_midge_all_that_its_user_may_do() {
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    let of = |broker: &Midge| {
        broker.client("a").ping();
        broker.figure("NoNewPrivs:")
    };
    let broker = Midge::start(&["--sandbox", "false"]);
    broker.logs("Not sandboxed");
    assert!(ours.contains(&format!("NoNewPrivs:\t{}\n", of(&broker))));
    for flags in [&[][..], &["--sandbox"]] {
        assert_eq!(of(&Midge::start(flags)), 1);
    }
}

#[cfg(not(all(feature = "sandbox", target_os = "linux")))]
#[test]
fn a_sandbox_is_refused_where_there_is_none() {
    let exit = run(&["--sandbox", "true"]);
    assert_eq!(exit.status, Some(2));
    assert!(
        exit.stderr.contains("without the sandbox"),
        "{}",
        exit.stderr
    );
}

#[test]
fn test_config_says_who_could_connect_and_opens_nothing() {
    let broker = Midge::start(&[]);
    let port = broker.port.to_string();
    let exit = run(&["--test-config", "-p", &port]);
    assert_eq!((exit.status, exit.stderr.as_str()), (Some(0), ""));
    assert_log(
        &exit.stdout,
        &[&port, "every client of this machine can connect"],
        &[],
    );
    let exit = run(&["--test-config", "--listener", &port]);
    assert_log(&exit.stdout, &[&port, "nobody can connect"], &[]);
    assert_eq!(run(&["--test-config", "--max-qos", "3"]).status, Some(2));
}

#[test]
fn version_and_help_are_said_and_that_is_all() {
    let exit = run(&["--version"]);
    let expected = concat!("midge ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((exit.status, exit.stdout.as_str()), (Some(0), expected));
    let (short, long) = (run(&["-h"]), run(&["--help"]));
    assert_eq!((short.status, short.stderr.as_str()), (Some(0), ""));
    assert_eq!(short.stdout, long.stdout);
    assert_log(
        &short.stdout,
        &["Usage: midge", "-p, --port PORT", "-h, --help"],
        &[],
    );
}

// ---- what cannot be done ------------------------------------------------------------------------

/// One sentence on standard error, with all of that in it, and nothing else anywhere.
fn assert_refused(flags: &[&str], status: i32, parts: &[&str]) {
    let exit = run(flags);
    let stderr = &exit.stderr;
    assert_eq!(
        (exit.status, exit.stdout.as_str()),
        (Some(status), ""),
        "{flags:?}: {stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{flags:?}: {stderr}");
    assert!(stderr.starts_with("midge: "), "{flags:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{flags:?}: no {part:?} in {stderr}");
    }
}

#[test]
fn flags_that_cannot_be_read_are_refused_with_what_would_be() {
    let names = "error, warning, notice, information, subscribe, unsubscribe, debug, all, none";
    let long = "x".repeat(51);
    for (flags, parts) in [
        (&["--nonsense"][..], &["nonsense"][..]),
        (&["--nonsense=1"], &["nonsense"]),
        (&["-x"], &["-x", "no such flag"]),
        (&["free"], &["\"free\"", "no flag"]),
        (&["--max-qos"], &["max-qos"]),
        (&["--listener"], &["listener"]),
        (&["--max-qos", "1", "--max-qos", "2"], &["max-qos"]),
        (&["--quiet=yes"], &["quiet"]),
        (&["--max-qos", "3"], &["--max-qos 3", "from 0 to 2"]),
        (&["--max-qos=-1"], &["--max-qos -1", "from 0 to 2"]),
        (&["--max-qos", "high"], &["--max-qos high", "whole number"]),
        (&["--max-qos", "1.5"], &["--max-qos 1.5", "whole number"]),
        (&["--max-qos="], &["--max-qos", "whole number"]),
        (&["--port", "65536"], &["--port 65536", "from 1 to 65535"]),
        (&["-p", "0"], &["--port 0", "from 1 to 65535"]),
        (
            &["--max-packet-size", "268435461"],
            &["268435461", "to 268435460"],
        ),
        (
            &["--max-connections=99999999999999999999"],
            &["--max-connections 9", "from -1 to"],
        ),
        (
            &["--retain-available", "maybe"],
            &["--retain-available maybe", "true or false"],
        ),
        (
            &["--retain-available=2"],
            &["--retain-available 2", "true or false"],
        ),
        (
            &["--listener", "nowhere"],
            &["--listener nowhere", "a port from 1 to 65535"],
        ),
        (
            &["--listener", ""],
            &["--listener", "a port from 1 to 65535"],
        ),
        (
            &["--listener", "1883 here there"],
            &["--listener 1883 here there", "more than"],
        ),
        (
            &["--queue-overflow", "drop"],
            &["--queue-overflow drop", "drop-newest or drop-oldest"],
        ),
        (
            &["--persistent-client-expiration", "14"],
            &["expiration 14:", "s, h, d, w, m, y"],
        ),
        (
            &["--persistent-client-expiration", "d"],
            &["expiration d:", "such as 14d"],
        ),
        (
            &["--persistent-client-expiration", "0s"],
            &["expiration 0s:", "must not be 0"],
        ),
        (
            &["--persistent-client-expiration", "5€"],
            &["expiration 5€:", "such as 14d"],
        ),
        (
            &["--auto-id-prefix", &long],
            &["--auto-id-prefix x", "50 characters"],
        ),
        (
            &["--log-dest", "printer"],
            &["--log-dest printer", "stderr, stdout, none"],
        ),
        (
            &["--log-dest", "file "],
            &["--log-dest file", "\"file PATH\""],
        ),
        (&["--log-type", "fatal"], &["--log-type fatal", names]),
        (
            &["--log-timestamp-format", "%Q"],
            &["--log-timestamp-format %Q", "cannot write %Q"],
        ),
    ] {
        assert_refused(flags, 2, parts);
    }
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_asked_for_it() {
    let broker = Midge::start(&[]);
    let port = broker.port.to_string();
    let parts = ["--port", &port, "another listener or program has it"];
    assert_refused(&["--quiet", "-p", &port], 1, &parts);
    let listener = format!("{port} 127.0.0.1");
    let parts = [
        &format!("--listener \"{listener}\""),
        "another listener or program",
    ];
    assert_refused(&["--quiet", "--listener", &listener], 1, &parts);
    let log = run(&["-p", &port]).stderr;
    assert!(
        log.lines().last().unwrap().starts_with("midge: --port"),
        "{log}"
    );
}

#[test]
fn an_address_that_this_machine_does_not_have_is_named() {
    let listener = format!("{} 192.0.2.1", free_port());
    let parts = ["192.0.2.1", "this machine has no such address"];
    assert_refused(&["--quiet", "--listener", &listener], 1, &parts);
}

#[test]
fn a_port_that_is_only_for_root_is_named() {
    if TcpListener::bind((Ipv4Addr::LOCALHOST, 81)).is_ok() {
        println!("not tested: this user may open every port");
        return;
    }
    assert_refused(&["--quiet", "-p", "81"], 1, &["--port 81", "1024 to 65535"]);
}

#[test]
fn files_that_cannot_be_written_are_named() {
    let port = free_port().to_string();
    let path = "/no-such-directory/midge";
    let flags = ["--quiet", "-p", &port, "--pid-file", path];
    assert_refused(&flags, 1, &["--pid-file", path, "No such file"]);
    let log = format!("file {path}");
    let parts = ["--log-dest", path, "No such file"];
    assert_refused(&["-p", &port, "--log-dest", &log], 1, &parts);
}

// ---- signals ------------------------------------------------------------------------------------

#[test]
fn sigterm_and_sigint_tell_the_clients_and_end_well() {
    for signal in ["TERM", "INT"] {
        let broker = Midge::start(&[]);
        let mut old = broker.connect(connect(Version::V311, "old"));
        let mut new = broker.client("new");
        broker.signal(signal);
        new.expect_disconnect(ReasonCode::ServerShuttingDown);
        old.expect_closed();
        let exit = broker.exit();
        assert_eq!(exit.status, Some(0), "{signal}: {}", exit.stderr);
        assert_log(&exit.stderr, &["midge is stopping."], &["panic"]);
    }
}

#[test]
fn sighup_disturbs_nobody() {
    let broker = Midge::start(&[]);
    let mut client = broker.client("a");
    for _ in 0..2 {
        broker.signal("HUP");
        broker.logs("SIGHUP");
        client.ping();
    }
}

// ---- what survives ------------------------------------------------------------------------------

#[test]
fn what_is_retained_survives_in_the_directory_that_is_named() {
    let directory = temporary("kept");
    let location = directory.to_str().unwrap();
    let flags = ["--persistence", "--persistence-location", location];
    let first = Midge::start(&flags);
    first.client("a").publish_packet(Publish {
        qos: QoS::AtLeastOnce,
        packet_id: Some(1),
        ..retained("state", "on")
    });
    first.signal("KILL");
    first.exit();
    let second = Midge::start(&[&flags[..], &["--durability", "os"]].concat());
    let mut client = second.client("a");
    client.subscribe("state", QoS::AtMostOnce);
    assert_eq!(client.payloads(), ["on"]);
    let port = free_port().to_string();
    let refused = run(&[&flags[..], &["-p", &port]].concat());
    assert!(
        refused.stderr.contains("in use by another process"),
        "{}",
        refused.stderr
    );
    assert_eq!(second.stop().status, Some(0));
    let dumped = run(&["dump", location]);
    assert!(
        dumped.stdout.contains("put \"rstate\""),
        "{}",
        dumped.stdout
    );
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn durability_decides_how_often_the_disk_is_asked() {
    for (flags, synced) in [
        (&["--durability", "turn"][..], true),
        (&["--durability", "os"], false),
        (&["--durability", "os", "--durable", "state/#=turn"], true),
        (&["--durable", "state/#=os"], false),
    ] {
        let directory = temporary("durability");
        let location = directory.to_str().unwrap();
        let kept = ["--persistence", "--persistence-location", location];
        let broker = Midge::start(&[&kept[..], flags].concat());
        let syncs = || {
            let mut client = broker.client("figures");
            client.subscribe("$SYS/broker/store/syncs", QoS::AtMostOnce);
            client.payloads().remove(0).parse::<u64>().unwrap()
        };
        let before = syncs();
        for number in 0..10 {
            broker.client("a").publish_packet(Publish {
                qos: QoS::AtLeastOnce,
                packet_id: Some(1),
                ..retained("state/a", &number.to_string())
            });
        }
        // Figures that young are not gathered again.
        std::thread::sleep(Duration::from_millis(1_100));
        assert_eq!(syncs() >= before + 10, synced, "{flags:?}");
        drop(broker);
        fs::remove_dir_all(directory).unwrap();
    }
}
