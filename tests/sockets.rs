//! How clients get to midge: Unix sockets and their files, proxies, sockets that were passed, many
//! at once. With the real program, as none of it is there without a system.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use midge::packet::{Packet, QoS, ReasonCode, Version};

use common::connect;
use socket::{Client, Exit, Midge, PATIENCE, encoded, free_port, run, temporary, until};

// ---- Unix sockets -------------------------------------------------------------------------------

/// A broker that listens there and lets everybody in.
fn on_socket(path: &Path, flags: &[&str]) -> Midge {
    let listener = format!("0 {}", path.display());
    let listen = ["--listener", &listener, "--allow-anonymous"];
    let broker = Midge::spawn(&[&listen[..], flags].concat());
    broker.logs(&format!("Listening on {}", path.display()));
    // From here on signals are heeded.
    broker.logs("Sessions and retained messages end with midge");
    broker
}

fn through(path: &Path, id: &str) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut client = Client::over(stream, Version::V5);
    client.send(&Packet::Connect(connect(Version::V5, id)));
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
    client
}

#[test]
fn clients_of_a_unix_socket_and_of_a_port_meet() {
    let (path, port) = (temporary("meet.sock"), free_port());
    let mut broker = on_socket(&path, &["--listener", &format!("{port} 127.0.0.1")]);
    broker = broker.on_port(port);
    let mut near = through(&path, "near");
    let from = format!("New client connected from {} as near", path.display());
    broker.logs(&from);
    near.subscribe("t", QoS::AtLeastOnce);
    let mut far = broker.client("far");
    far.subscribe("u", QoS::AtLeastOnce);
    // More than a socket's buffers hold.
    let large = "x".repeat(1 << 20);
    far.publish_qos1("t", &large);
    assert_eq!(near.payloads(), [large.as_str()]);
    near.publish_qos1("u", &large);
    assert_eq!(far.payloads(), [large.as_str()]);
    near.disconnect();
    broker.logs(&format!("Client near [{}] disconnected", path.display()));
    broker.stop();
}

#[test]
fn the_file_of_a_unix_socket_goes_when_midge_stops() {
    if cfg!(not(feature = "signals")) {
        return println!("not tested: this midge knows no signals");
    }
    let path = temporary("stopped.sock");
    let broker = on_socket(&path, &[]);
    let mut client = through(&path, "a");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o770);
    assert_eq!(broker.stop().status, Some(0));
    client.expect_disconnect(ReasonCode::ServerShuttingDown);
    assert!(!path.exists());
}

#[test]
fn a_file_that_took_the_place_of_the_socket_stays_when_midge_stops() {
    if cfg!(not(feature = "signals")) {
        return println!("not tested: this midge knows no signals");
    }
    let path = temporary("taken.sock");
    let broker = on_socket(&path, &[]);
    fs::remove_file(&path).unwrap();
    let _another = UnixListener::bind(&path).unwrap();
    assert_eq!(broker.stop().status, Some(0));
    assert!(path.exists());
    fs::remove_file(path).unwrap();
}

#[test]
fn the_socket_of_a_midge_that_was_killed_is_replaced() {
    let path = temporary("killed.sock");
    let broker = on_socket(&path, &[]);
    broker.signal("KILL");
    broker.exit();
    assert!(path.exists(), "who is killed removes nothing");
    let broker = on_socket(&path, &[]);
    through(&path, "a").ping();
    broker.stop();
}

/// Somebody is at that path, and is still there afterwards.
fn refused_at(path: &Path) -> Exit {
    let exit = run(&["--listener", &format!("0 {}", path.display())]);
    assert_eq!(exit.status, Some(1));
    assert!(fs::symlink_metadata(path).is_ok(), "it is gone");
    exit
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let (file, folder, link) = (temporary("file"), temporary("folder"), temporary("link"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&folder).unwrap();
    symlink(&file, &link).unwrap();
    for path in [&file, &folder, &link] {
        let exit = refused_at(path);
        let expected = format!(
            "midge: --listener \"0 {0}\": cannot listen on {0}: what is there is no socket, and \
             is left alone; take another path\n",
            path.display()
        );
        assert!(exit.stderr.ends_with(&expected), "{}", exit.stderr);
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    fs::remove_file(link).unwrap();
    fs::remove_file(file).unwrap();
    fs::remove_dir(folder).unwrap();
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_to_them() {
    let path = temporary("busy.sock");
    let first = on_socket(&path, &[]);
    let exit = refused_at(&path);
    let expected = "another program listens there; stop it or take another path\n";
    assert!(exit.stderr.ends_with(expected), "{}", exit.stderr);
    through(&path, "a").ping();
    first.stop();
}

#[test]
fn a_socket_that_cannot_be_made_is_named_with_why() {
    let long = format!("0 /tmp/{}", "x".repeat(103));
    for (listener, status, why) in [
        ("0 /nowhere/at/all.sock", 1, "there is no such directory"),
        (&long, 2, "is a path of more than 107 bytes"),
        ("0", 2, "or 0 and the path of a Unix socket"),
    ] {
        let exit = run(&["--listener", listener]);
        assert_eq!(exit.status, Some(status), "{}", exit.stderr);
        assert!(exit.stderr.contains(why), "{}", exit.stderr);
    }
}

#[test]
#[cfg(feature = "user")]
fn whom_root_becomes_owns_the_socket_and_removes_it() {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("not tested: only root can become another user");
        return;
    }
    let nobody = midge::user::find("nobody").unwrap().expect("there is one");
    let (folder, file) = (temporary("theirs"), temporary("theirs.conf"));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.join("a b.sock");
    let text = format!("listener 0 {} # theirs\nuser nobody\n", path.display());
    fs::write(&file, text).unwrap();
    let broker = Midge::spawn(&["-c", file.to_str().unwrap()]);
    broker.logs("Running as nobody");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (nobody.uid, nobody.gid));
    assert_eq!(broker.stop().status, Some(0));
    assert!(!path.exists());
    // Not to be had: only root may write to the folder.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let broker = Midge::spawn(&["-c", file.to_str().unwrap()]);
    broker.logs("Running as nobody");
    let exit = broker.stop();
    assert!(exit.stderr.contains("stays where it is"), "{}", exit.stderr);
    fs::remove_dir_all(folder).unwrap();
    fs::remove_file(file).unwrap();
}

// ---- IPv4 and IPv6 ------------------------------------------------------------------------------

#[test]
#[cfg(feature = "sockets")]
fn ipv4_and_ipv6_may_have_listeners_of_their_own_on_one_port() {
    if TcpListener::bind(("::1", 0)).is_err() {
        println!("not tested: there is no IPv6 here");
        return;
    }
    let (four, six) = (["127.0.0.1"].as_slice(), ["::1"].as_slice());
    let port = free_port();
    let domain = |family: &str| format!("listener {port}\nsocket_domain {family}\n");
    for (text, places, served) in [
        (
            format!("listener {port} 0.0.0.0\nlistener {port} ::\n"),
            vec!["0.0.0.0", "[::]"],
            [four, six].concat(),
        ),
        (
            domain("ipv4") + &domain("ipv6"),
            vec!["0.0.0.0", "[::]"],
            [four, six].concat(),
        ),
        (
            format!("listener {port}\n"),
            vec!["[::]"],
            [four, six].concat(),
        ),
        (domain("ipv6"), vec!["[::]"], six.to_vec()),
        (format!("listener {port} ::\n"), vec!["[::]"], six.to_vec()),
        (domain("ipv4"), vec!["0.0.0.0"], four.to_vec()),
    ] {
        let file = temporary("families.conf");
        fs::write(&file, text.clone() + "user root\nallow_anonymous true\n").unwrap();
        let broker = Midge::spawn(&["-c", file.to_str().unwrap()]);
        for place in places {
            broker.logs(&format!("Listening on {place}:{port}"));
        }
        for host in [four, six].concat() {
            let stream = TcpStream::connect((host, port));
            assert_eq!(stream.is_ok(), served.contains(&host), "{host}: {text}");
            if let Ok(stream) = stream {
                hear(stream);
            }
        }
        fs::remove_file(file).unwrap();
    }
}

/// Somebody answers there.
#[cfg(feature = "sockets")]
fn hear(stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(stream, Version::V5);
    client.send(&Packet::Connect(connect(Version::V5, "a")));
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
}

#[test]
#[cfg(feature = "sockets")]
fn a_listener_on_all_addresses_has_a_socket_for_each_family() {
    let port = free_port();
    let broker = Midge::spawn(&["--listener", &port.to_string(), "--allow-anonymous"]);
    let both = match TcpListener::bind(("::1", 0)) {
        Ok(_) => format!("[::]:{port} and 0.0.0.0:{port}"),
        Err(_) => format!("0.0.0.0:{port}"),
    };
    broker.logs(&format!("Listening on {both}: every client can connect"));
    // Who has one of them is named.
    let exit = run(&["--listener", &format!("{port} 0.0.0.0")]);
    let expected = format!("cannot listen on 0.0.0.0:{port}: Address ");
    assert!(exit.stderr.contains(&expected), "{}", exit.stderr);
    // Not every C library says that it is so already.
    assert!(exit.stderr.contains(" in use"), "{}", exit.stderr);
}

// ---- the PROXY protocol -------------------------------------------------------------------------

/// A header of version 2 for a client at 203.0.113.7:5000.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xCB\0\x71\x07\x0A\0\0\x01\x13\x88\x07\x5B";
const TEXT: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 1883\r\n";

fn hello(id: &str) -> Vec<u8> {
    encoded(&Packet::Connect(connect(Version::V5, id)), Version::V5)
}

#[test]
fn behind_a_proxy_a_client_is_who_the_header_says_however_it_is_cut() {
    for (version, header) in [("1", TEXT), ("2", BINARY)] {
        let broker = Midge::start(&["--enable-proxy-protocol", version]);
        let bytes = [header, &hello("a")].concat();
        let cuts = [vec![bytes.len()], vec![1, 5, header.len() - 1], vec![]];
        for cut in cuts {
            let mut client = broker.open(Version::V5);
            let mut rest = &bytes[..];
            for at in cut {
                let (now, later) = rest.split_at(at.min(rest.len()));
                client.send_bytes(now);
                rest = later;
            }
            rest.chunks(1).for_each(|byte| client.send_bytes(byte));
            assert_eq!(client.read().connack().reason, ReasonCode::Success);
            broker.logs("New client connected from 203.0.113.7:5000 as a ");
            client.disconnect();
            broker.logs("Client a [203.0.113.7:5000] disconnected");
        }
    }
}

#[test]
fn an_acl_file_is_about_the_address_behind_the_proxy() {
    let rules = temporary("rules");
    fs::write(&rules, "address 203.0.113.0/24\ntopic t\n").unwrap();
    let flags = ["--acl-file", rules.to_str().unwrap()];
    let broker = Midge::start(&[&flags[..], &["--enable-proxy-protocol", "2"]].concat());
    let mut client = broker.open(Version::V5);
    client.send_bytes(BINARY);
    client.send(&Packet::Connect(connect(Version::V5, "near")));
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
    let write = |client: &mut Client| {
        client.publish_packet(common::publish_qos(QoS::AtLeastOnce, 7, "t", "x"))
    };
    assert_ne!(write(&mut client), ReasonCode::NotAuthorized);
    // The proxy itself is 127.0.0.1, which no line is for.
    let mut client = broker.open(Version::V5);
    client.send_bytes(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    client.send(&Packet::Connect(connect(Version::V5, "own")));
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
    assert_eq!(write(&mut client), ReasonCode::NotAuthorized);
    broker.logs("New client connected from 127.0.0.1:");
    fs::remove_file(rules).unwrap();
}

#[test]
fn who_sends_no_header_of_that_version_is_closed_and_logged() {
    let endless = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF".as_slice(),
        &[0; 9000],
    ]
    .concat();
    for (version, bytes, why) in [
        (
            "1",
            &hello("a")[..],
            "it does not begin with a PROXY header",
        ),
        ("1", BINARY, "its PROXY header is of version 2"),
        ("1", &[b'P'; 300], "it does not begin with a PROXY header"),
        (
            "1",
            b"PROXY TCP4 a b c d\r\n",
            "its PROXY header makes no sense",
        ),
        (
            "1",
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 9000]].concat(),
            "longer than 107",
        ),
        ("2", TEXT, "its PROXY header is of version 1"),
        ("2", &endless, "longer than 4096"),
        ("2", &BINARY[..20], "nothing more"),
    ] {
        let broker = Midge::start(&["-v", "--enable-proxy-protocol", version]);
        let mut client = broker.open(Version::V5);
        let _ = client.stream.write_all(bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        client.expect_closed();
        match why {
            "nothing more" => broker.logs("has left without a PROXY header"),
            why => broker
                .logs(&format!("closed: {why}").replace("longer", "its PROXY header is longer")),
        };
        // Others are served as before.
        let mut client = broker.open(Version::V5);
        client.send_bytes(if version == "1" { TEXT } else { BINARY });
        client.send(&Packet::Connect(connect(Version::V5, "b")));
        assert_eq!(client.read().connack().reason, ReasonCode::Success);
    }
}

#[test]
fn what_follows_a_header_in_the_same_breath_is_not_lost() {
    let broker = Midge::start(&["--enable-proxy-protocol", "2"]);
    let mut subscriber = broker.open(Version::V5);
    subscriber.send_bytes(BINARY);
    subscriber.send(&Packet::Connect(connect(Version::V5, "subscriber")));
    subscriber.read();
    subscriber.subscribe("t", QoS::AtMostOnce);
    // More than is read at once, and the end right behind it.
    let mut bytes = [BINARY, &hello("publisher")].concat();
    for index in 0..20_000 {
        let payload = index.to_string();
        let publish = Packet::Publish(common::publish("t", &payload));
        bytes.extend(encoded(&publish, Version::V5));
    }
    let mut publisher = broker.open(Version::V5);
    publisher.send_bytes(&bytes);
    publisher.shutdown();
    for index in 0..20_000 {
        let received = subscriber.read();
        assert_eq!(received.publish().payload, index.to_string().as_bytes());
    }
}

#[test]
fn a_unix_socket_may_be_a_proxys_too() {
    let path = temporary("proxy.sock");
    let broker = on_socket(&path, &["--enable-proxy-protocol", "1"]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(TEXT).unwrap();
    let mut client = Client::over(stream, Version::V5);
    client.send_bytes(&hello("a"));
    assert_eq!(client.read().connack().reason, ReasonCode::Success);
    broker.logs("New client connected from 203.0.113.7:5000 as a ");
    broker.stop();
}

/// Without that feature midge takes nothing that is passed, and few wait.
fn has_sockets() -> bool {
    let has = cfg!(feature = "sockets");
    if !has {
        println!("not tested: this midge was built without sockets");
    }
    has
}

// ---- sockets that were passed -------------------------------------------------------------------

/// Starts midge as systemd would, with that as its one socket.
fn passing(socket: impl Into<OwnedFd>, variables: &str, flags: &[&str]) -> Midge {
    let script = format!("exec 3<&0 0</dev/null; {variables} exec \"$@\"");
    let mut shell = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_midge");
    shell.args(["-c", &script, "sh", program]).args(flags);
    Midge::with_stdin(&mut shell, socket.into())
}

const ONE: &str = "LISTEN_FDS=1 LISTEN_PID=$$";

fn passed_socket() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_socket_that_was_passed_takes_the_place_of_its_listener() {
    if !has_sockets() {
        return;
    }
    let (listener, port) = passed_socket();
    // Somebody waits already.
    let mut early = Client::open(port, Version::V5);
    early.send(&Packet::Connect(connect(Version::V5, "early")));
    let mut broker = passing(listener, ONE, &["-p", &port.to_string()]);
    broker.port = port;
    assert_eq!(early.read().connack().reason, ReasonCode::Success);
    broker.logs(&format!(
        "Listening on 127.0.0.1:{port}: every client of this"
    ));
    broker.client("late").ping();
    // Nothing of it is left for a second one.
    assert!(TcpStream::connect(("::1", port)).is_err());
}

#[test]
fn without_a_listener_those_that_were_passed_are_the_listeners() {
    if !has_sockets() {
        return;
    }
    let path = temporary("passed.sock");
    let flags = ["--allow-anonymous", "--max-qos", "1"];
    let broker = passing(UnixListener::bind(&path).unwrap(), ONE, &flags);
    broker.logs(&format!(
        "Listening on {}: every client can connect",
        path.display()
    ));
    through(&path, "a").ping();
    broker.stop();
    assert!(path.exists(), "it is not ours");
    fs::remove_file(&path).unwrap();
    // It may be open to the network: nobody is let in unasked.
    let (listener, port) = passed_socket();
    let mut broker = passing(listener, ONE, &[]);
    broker.port = port;
    broker.logs("nobody can connect (with LISTEN_FDS, clients without a user name are refused");
    let (_, connack) = broker.try_connect(connect(Version::V5, "a"));
    assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
}

/// The variables that said of them are gone by then.
#[test]
fn after_sighup_those_that_were_passed_are_the_listeners_still() {
    if !has_sockets() {
        return;
    }
    let path = temporary("passed.conf");
    fs::write(&path, "max_qos 1\n").unwrap();
    let (listener, port) = passed_socket();
    let mut broker = passing(listener, ONE, &["-c", path.to_str().unwrap()]);
    broker.port = port;
    broker.logs("Listening on");
    for (text, reason) in [
        ("max_qos 0\n", ReasonCode::NotAuthorized),
        ("allow_anonymous true\n", ReasonCode::Success),
        ("", ReasonCode::NotAuthorized),
    ] {
        fs::write(&path, text).unwrap();
        broker.signal("HUP");
        broker.logs("SIGHUP: what was read again is good");
        let (_, connack) = broker.try_connect(connect(Version::V5, "a"));
        assert_eq!(connack.connack().reason, reason, "{text}");
    }
    fs::remove_file(&path).unwrap();
    let log = broker.stop().stderr;
    assert!(!log.contains("next start"), "{log}");
}

#[test]
#[cfg(feature = "sandbox")]
fn the_file_of_a_socket_that_was_passed_need_not_be_removed() {
    if !has_sockets() {
        return;
    }
    let path = temporary("passed.sock");
    let listener = format!("0 {}", path.display());
    let flags = ["--allow-anonymous", "--listener", &listener];
    let broker = passing(UnixListener::bind(&path).unwrap(), ONE, &flags);
    through(&path, "a").ping();
    let log = broker.stop().stderr;
    assert!(!log.contains("it can remove"), "{log}");
    fs::remove_file(&path).unwrap();
    // One of its own goes, and nothing keeps midge from that.
    let broker = Midge::spawn(&flags);
    broker.logs("Listening on");
    through(&path, "a").ping();
    let log = broker.stop().stderr;
    assert!(!log.contains("stays where it is"), "{log}");
    assert!(!path.exists());
}

#[test]
fn what_is_wrong_with_sockets_that_were_passed_is_said() {
    if !has_sockets() {
        return;
    }
    let connected = {
        let (listener, port) = passed_socket();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.accept().unwrap();
        OwnedFd::from(stream)
    };
    let nothing = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let other = || passed_socket().0.into();
    let no_listener = "socket 1 that was passed: it is no TCP or Unix socket that listens";
    for (socket, variables, flags, status, why) in [
        (udp.into(), ONE, &[][..], 1, no_listener),
        (connected, ONE, &[], 1, no_listener),
        (nothing(), ONE, &[], 1, no_listener),
        (
            other(),
            ONE,
            &["-p", "1"],
            1,
            "no listener of the configuration is at 127.0.0.1:",
        ),
        (
            other(),
            ONE,
            &["-d"],
            2,
            "--daemon: sockets were passed to this process",
        ),
        (
            other(),
            ONE,
            &["--bind-interface", "lo"],
            2,
            "--bind-interface lo: no listener has",
        ),
        (
            nothing(),
            "LISTEN_FDS=many LISTEN_PID=$$",
            &[],
            2,
            "LISTEN_FDS: must be a number up to 256",
        ),
        (
            nothing(),
            "LISTEN_FDS=257 LISTEN_PID=$$",
            &[],
            2,
            "LISTEN_FDS: must be a number up to 256",
        ),
    ] {
        let exit = passing(socket, variables, flags).exit();
        assert_eq!(exit.status, Some(status), "{why}: {}", exit.stderr);
        assert!(exit.stderr.contains(why), "{why}: {}", exit.stderr);
    }
}

#[test]
fn sockets_for_another_process_are_not_ours() {
    let (listener, _) = passed_socket();
    let port = free_port();
    let broker = passing(
        listener,
        "LISTEN_FDS=1 LISTEN_PID=1",
        &["-p", &port.to_string()],
    );
    broker.on_port(port).client("a").ping();
}

#[test]
fn systemd_passes_several_sockets() {
    if !has_sockets() {
        return;
    }
    let activate = PathBuf::from("/usr/bin/systemd-socket-activate");
    if !activate.exists() {
        println!("not tested: systemd-socket-activate is not installed");
        return;
    }
    let (path, port) = (temporary("systemd.sock"), free_port());
    let mut command = Command::new(activate);
    let (unix, tcp) = (path.to_str().unwrap(), format!("127.0.0.1:{port}"));
    command.args(["-l", &tcp, "-l", unix, env!("CARGO_BIN_EXE_midge")]);
    command.args(["--allow-anonymous", "--listener", &format!("0 {unix}")]);
    command.args(["--listener", &format!("{port} 127.0.0.1")]);
    // It starts midge when the first client is there.
    let broker = Midge::command(&mut command).on_port(port);
    broker.logs(&format!("Listening on {unix}"));
    broker.logs(&format!("Listening on {tcp}"));
    through(&path, "near").ping();
    broker.client("far").ping();
    broker.stop();
    fs::remove_file(path).unwrap();
}

// ---- many at once -------------------------------------------------------------------------------

/// More than std's backlog of 128 holds: who does not fit in has to come again a second later.
#[test]
fn a_crowd_that_comes_at_once_waits_to_be_accepted() {
    if !has_sockets() {
        return;
    }
    const CROWD: usize = 400;
    let most = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if most.trim().parse::<usize>().unwrap() < CROWD {
        println!("not tested: this system lets {} wait at most", most.trim());
        return;
    }
    let broker = Midge::start(&[]);
    // It is busy, for as long as it takes.
    broker.signal("STOP");
    until("a stop", || broker.is_stopped().then_some(()));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port));
    let crowd: Vec<TcpStream> = (0..CROWD)
        .map(|index| {
            let stream = TcpStream::connect_timeout(&address, Duration::from_millis(500));
            stream.unwrap_or_else(|error| panic!("{index}: {error}"))
        })
        .collect();
    broker.signal("CONT");
    for (index, stream) in crowd.into_iter().enumerate() {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client::over(stream, Version::V5);
        client.send_bytes(&hello(&format!("c{index}")));
        assert_eq!(client.read().connack().reason, ReasonCode::Success);
    }
    broker.stop();
}
