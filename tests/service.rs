//! Life of a service, with the real program: what signals do, what is read again and when, what the
//! service manager is told, and what no log says.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::fs::{self, Permissions};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use midge::packet::{
    Connect, Packet, Properties, PropertyBlock, PropertyId, Publish, QoS, ReasonCode,
    SubscriptionOptions, Version, Will,
};

use common::{ack, connect, durable, expiry, numbers, publish_qos, subscribe};
use socket::{Client, Midge, datagram, free_port, run, temporary, until};

/// A configuration file with a listener of its own, removed at the end.
struct Conf {
    port: u16,
    path: String,
}

impl Conf {
    fn new(text: &str) -> Conf {
        let path = temporary("service.conf").to_str().unwrap().to_string();
        let conf = Conf {
            port: free_port(),
            path,
        };
        conf.write(text);
        conf
    }

    /// Its first two lines are those of the listener.
    fn write(&self, text: &str) {
        let listener = format!("listener {} 127.0.0.1\nallow_anonymous true\n", self.port);
        fs::write(&self.path, listener + text).unwrap();
    }

    fn start(&self) -> Midge {
        Midge::command(&mut self.command()).on_port(self.port)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
        command.args(["-c", &self.path]);
        command
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A file that is not there yet, removed at the end.
struct Place(String);

impl Place {
    fn new(name: &str) -> Place {
        Place(temporary(name).to_str().unwrap().to_string())
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Waits until that has been written to it.
    fn has(&self, part: &str) -> String {
        until(part, || {
            Some(self.text()).filter(|text| text.contains(part))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

// ---- SIGHUP -------------------------------------------------------------------------------------

fn packet_bytes_max(broker: &Midge) -> Option<u32> {
    let (_, connack) = broker.try_connect(connect(Version::V5, ""));
    let properties = connack.connack().properties;
    properties.number(PropertyId::MaximumPacketSize)
}

#[test]
fn sighup_reads_the_configuration_again_and_keeps_those_who_are_connected() {
    let conf = Conf::new("max_packet_size 2000\n");
    let broker = conf.start();
    let mut old = broker.client("old");
    assert_eq!(packet_bytes_max(&broker), Some(2_000));
    conf.write("max_packet_size 200\nlog_type all\nconnection_messages false\n");
    broker.signal("HUP");
    broker.logs("SIGHUP: what was read again is good");
    assert_eq!(packet_bytes_max(&broker), Some(200));
    old.publish_qos1("t", &"x".repeat(1_000));
    // What it may have from now on, it has.
    old.subscribe("t", QoS::AtMostOnce);
    broker.logs("old 0 t");
    old.ping();
    let log = broker.stop().stderr;
    assert!(!log.contains("Client old"), "{log}");
}

#[test]
fn a_faulty_file_changes_nothing_and_is_logged_with_its_line() {
    let acl = Place::new("acl");
    fs::write(&acl.0, "topic readwrite #\n").unwrap();
    let good = format!("max_packet_size 2000\nacl_file {}\n", acl.0);
    let conf = Conf::new(&good);
    let broker = conf.start();
    let mut client = broker.client("client");
    for (text, rules, sentence) in [
        (
            "max_packet_size 300\nmax_qos 3\n",
            "topic readwrite #\n",
            format!("SIGHUP: {}:4: max_qos 3: ", conf.path),
        ),
        (
            "max_packet_size 300\nno_such_option 1\n",
            "topic readwrite #\n",
            format!(
                "SIGHUP: {}:4: no_such_option 1: there is no such",
                conf.path
            ),
        ),
        // All is right but the file that it names, or the log that cannot be opened.
        (
            &format!("max_packet_size 300\nacl_file {}\n", acl.0),
            "user\n",
            format!("SIGHUP: {}:1: needs a name", acl.0),
        ),
        (
            "max_packet_size 300\nlog_dest file /no-such-directory/log\n",
            "topic readwrite #\n",
            format!(
                "SIGHUP: {}:4: log_dest file /no-such-directory/log: No such file",
                conf.path
            ),
        ),
    ] {
        conf.write(text);
        fs::write(&acl.0, rules).unwrap();
        broker.signal("HUP");
        broker.logs(&sentence);
        broker.logs("SIGHUP: nothing was changed");
        assert_eq!(packet_bytes_max(&broker), Some(2_000));
        client.publish_qos1("t", "");
    }
    fs::remove_file(&conf.path).unwrap();
    broker.signal("HUP");
    broker.logs(&format!("SIGHUP: {}: cannot be read", conf.path));
    conf.write(&good);
    fs::write(&acl.0, "topic read #\n").unwrap();
    broker.signal("HUP");
    broker.logs("SIGHUP: what was read again is good");
    let denied = publish_qos(QoS::AtLeastOnce, 7, "t", "");
    assert_eq!(client.publish_packet(denied), ReasonCode::NotAuthorized);
}

/// Started as the user of the file, as by systemd: nothing is to be said of it, then or later,
/// though the sandbox keeps the list of users from it.
#[cfg(feature = "user")]
#[test]
fn who_was_the_user_of_the_file_is_still_when_it_is_read_again() {
    let conf = Conf::new("user nobody\nlog_type all\n");
    let mut command = conf.command();
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        let nobody = midge::user::find("nobody")
            .unwrap()
            .expect("there is nobody");
        command.uid(nobody.uid).gid(nobody.gid);
    } else {
        println!("not tested: only root can start midge as nobody");
        return;
    }
    fs::set_permissions(&conf.path, Permissions::from_mode(0o644)).unwrap();
    let broker = Midge::command(&mut command).on_port(conf.port);
    broker.signal("HUP");
    broker.logs("SIGHUP: what was read again is good");
    broker.client("a").ping();
    let exit = broker.stop();
    assert!(!exit.stderr.contains("user"), "{}", exit.stderr);
}

#[test]
fn sighup_names_all_that_is_wrong_with_the_file() {
    let conf = Conf::new("");
    let broker = conf.start();
    conf.write("max_qos 3\nmax_packet_size 300\nno_such_option 1\nallow_zero_length_clientid ?\n");
    broker.signal("HUP");
    for part in [
        ":3: max_qos 3: must be",
        ":5: no_such_option 1: there is no such option",
        ":6: allow_zero_length_clientid ?: must be",
    ] {
        let line = broker.logs("SIGHUP: ");
        assert!(
            line.contains(&format!("SIGHUP: {}{part}", conf.path)),
            "{line}"
        );
    }
    let line = broker.logs("SIGHUP: ");
    assert!(line.contains("nothing was changed"), "{line}");
}

#[test]
fn what_counts_from_the_next_start_only_is_named() {
    let (conf, pid) = (Conf::new(""), Place::new("pid"));
    let broker = conf.start();
    let other = free_port();
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous false\nlistener {other} 127.0.0.1\n\
         persistence true\npersistence_location /no-such-directory\npid_file {}\nuser nobody\n",
        conf.port, pid.0
    );
    fs::write(&conf.path, text).unwrap();
    broker.signal("HUP");
    broker.logs("SIGHUP: what was read again is good");
    for sentence in [
        ":4: persistence is another: it counts from the next start",
        ":5: persistence_location is another",
        ":6: pid_file is another",
        ":7: user is another",
        &format!(":3: listener {other} 127.0.0.1 is new: it counts from the next start"),
        &format!("listener {} 127.0.0.1: nobody can connect", conf.port),
    ] {
        broker.logs(sentence);
    }
    let (_, connack) = broker.try_connect(connect(Version::V5, "a"));
    assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
    fs::write(&conf.path, format!("listener {other} 127.0.0.1\n")).unwrap();
    broker.signal("HUP");
    broker.logs("is not there any more: it is closed at the next start");
}

/// It has the password of a user of the other listener, and waits where users are taken away.
#[cfg(feature = "passwords")]
#[test]
fn who_waits_where_there_are_no_users_any_more_is_nobody_elses_user() {
    let (home, away) = (Place::new("home"), Place::new("away"));
    fs::write(&home.0, ALICE).unwrap();
    // Its password is checked for long.
    fs::write(&away.0, ALICE.replace("$101$", "$1000000$")).unwrap();
    let (conf, port) = (Conf::new(""), free_port());
    let write = |users: &str| {
        let text = format!(
            "per_listener_settings true\nlistener {} 127.0.0.1\npassword_file {}\n\
             listener {port} 127.0.0.1\n{users}\n",
            conf.port, home.0
        );
        fs::write(&conf.path, text).unwrap();
    };
    write(&format!("password_file {}", away.0));
    let broker = conf.start();
    broker.logs(&format!("Listening on 127.0.0.1:{port}"));
    let mut client = Client::open(port, Version::V5);
    client.send(&Packet::Connect(Connect {
        user_name: Some("alice"),
        password: Some(b"secret"),
        ..connect(Version::V5, "a")
    }));
    // It has been heard by then.
    let (_, refused) = broker.try_connect(connect(Version::V5, "b"));
    assert_eq!(refused.connack().reason, ReasonCode::NotAuthorized);
    write("");
    broker.signal("HUP");
    assert_eq!(client.read().connack().reason, ReasonCode::NotAuthorized);
}

/// The disk is asked as often as the file says now.
#[cfg(feature = "store")]
#[test]
fn durability_is_read_again() {
    let kept = temporary("kept");
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, Permissions::from_mode(0o777)).unwrap();
    let location = kept.to_str().unwrap();
    let text = |durability: &str| {
        format!(
            "persistence true\npersistence_location {location}\ndurability {durability}\n\
             sys_interval 1\n"
        )
    };
    let conf = Conf::new(&text("os"));
    let broker = conf.start();
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/broker/store/syncs", QoS::AtMostOnce);
    let mut syncs = || {
        let last = |reader: &mut Client| reader.payloads().pop();
        until("the figure", || last(&mut reader))
            .parse::<u64>()
            .unwrap()
    };
    let before = syncs();
    conf.write(&text("turn"));
    broker.signal("HUP");
    broker.logs("SIGHUP: what was read again is good");
    let mut writer = broker.client("writer");
    for number in 0..10 {
        writer.publish_packet(Publish {
            retain: true,
            ..publish_qos(QoS::AtLeastOnce, 1, "state/a", &number.to_string())
        });
    }
    until("the disk is asked for each", || {
        (syncs() >= before + 10).then_some(())
    });
    drop(broker);
    fs::remove_dir_all(kept).unwrap();
}

/// Everything that can change does, again and again, while messages of every QoS go through.
#[test]
fn a_reload_under_load_loses_no_message_and_no_client() {
    const MESSAGES: usize = 3_000;
    let conf = Conf::new("");
    let broker = conf.start();
    let block = expiry(1_000);
    let mut reader = broker.connect(durable(Version::V5, "reader", &block));
    reader.subscribe("t/#", QoS::ExactlyOnce);
    let mut writers = [
        broker.client("first"),
        broker.connect(connect(Version::V311, "second")),
    ];
    let (mut received, mut reloads) = (Vec::new(), 0);
    for count in 0..MESSAGES {
        if count % 20 == 0 {
            reloads += 1;
            conf.write(&format!(
                "max_packet_size {}\nmax_inflight_messages {}\nmax_queued_messages {}\nmax_qos {}\n\
                 receive_maximum {}\nsys_interval {}\nlog_type {}\nset_tcp_nodelay {}\n\
                 max_topic_alias {}\n{}\n",
                100 + count,
                1 + reloads % 7,
                5_000 + reloads,
                reloads % 3,
                1 + reloads % 5,
                reloads % 4,
                ["all", "error"][reloads % 2],
                reloads % 2,
                reloads % 3,
                if reloads % 5 == 0 { "faulty" } else { "" },
            ));
            broker.signal("HUP");
        }
        let payload = count.to_string();
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][count % 2];
        let writer = &mut writers[count % 3 % 2];
        let reason = writer.publish_packet(publish_qos(qos, 7, "t/x", &payload));
        assert_eq!(reason, ReasonCode::Success);
        take(&mut reader, &mut received);
    }
    until("all messages", || {
        take(&mut reader, &mut received);
        (received.len() >= MESSAGES).then_some(())
    });
    let sent: Vec<String> = (0..MESSAGES).map(|count| count.to_string()).collect();
    assert_eq!(received, sent);
    writers.iter_mut().for_each(Client::ping);
    assert!(reloads > 100);
}

/// Reads, acknowledges and releases what came.
fn take(reader: &mut Client, payloads: &mut Vec<String>) {
    for packet in reader.so_far() {
        match packet.packet() {
            Packet::Publish(publish) => {
                payloads.push(String::from_utf8(publish.payload.to_vec()).unwrap());
                let ack = ack(publish.packet_id.unwrap());
                match publish.qos {
                    QoS::ExactlyOnce => reader.send(&Packet::PubRec(ack)),
                    QoS::AtLeastOnce | QoS::AtMostOnce => reader.send(&Packet::PubAck(ack)),
                }
            }
            Packet::PubRel(release) => reader.send(&Packet::PubComp(ack(release.packet_id))),
            other => panic!("what is {other:?} for?"),
        }
    }
}

// ---- the other signals --------------------------------------------------------------------------

#[test]
fn sigrtmin_opens_the_log_anew_and_reads_nothing() {
    let (log, aside) = (Place::new("log"), Place::new("log.1"));
    let text = format!("log_dest file {}\n", log.0);
    let conf = Conf::new(&text);
    let broker = conf.start();
    broker.client("before").disconnect();
    log.has("Client before");
    fs::rename(&log.0, &aside.0).unwrap();
    conf.write(&(text + "no_such_option\n"));
    broker.signal("RTMIN");
    log.has("is open anew");
    broker.client("after").disconnect();
    assert!(!log.has("Client after").contains("SIGHUP"));
    assert!(!aside.text().contains("after"));
    // SIGHUP opens it anew too, whatever is wrong elsewhere.
    fs::rename(&log.0, &aside.0).unwrap();
    broker.signal("HUP");
    log.has("SIGHUP: nothing was changed");
    fs::remove_file(&log.0).unwrap();
    conf.write(&format!("log_dest file {}\nlog_dest stderr\n", log.0));
    broker.signal("HUP");
    log.has("SIGHUP: what was read again is good");
    broker.logs("SIGHUP: what was read again is good");
}

#[test]
fn sigusr1_and_sigusr2_save_and_log_the_subscriptions() {
    let broker = Midge::start(&[]);
    broker.signal("USR1");
    broker.logs("SIGUSR1: nothing is kept on disk.");
    let block = PropertyBlock::new();
    let mut client = broker.connect(durable(Version::V311, "away", &block));
    client.subscribe("a/+/#", QoS::AtLeastOnce);
    client.disconnect();
    let mut client = broker.client("here");
    for count in 0..300 {
        client.subscribe(&format!("f/{count}"), QoS::ExactlyOnce);
    }
    client.subscribe("$share/group/x", QoS::AtMostOnce);
    broker.signal("USR2");
    broker.logs("SIGUSR2: subscriptions: 302.");
    broker.logs("Subscription of away (away): 1 a/+/#");
    broker.logs("Subscription of here [127.0.0.1:");
    for count in 1..300 {
        let line = broker.logs("Subscription of here");
        assert!(line.ends_with(&format!("]: 2 f/{count}")), "{line}");
    }
    broker.logs("]: 0 $share/group/x");
    client.ping();
}

#[cfg(feature = "store")]
#[test]
fn sigusr1_saves_what_is_kept() {
    let kept = temporary("kept");
    let flags = ["--persistence", "--durability", "os"];
    let location = ["--persistence-location", kept.to_str().unwrap()];
    let broker = Midge::start(&[&flags[..], &location].concat());
    broker.signal("USR1");
    broker.logs("SIGUSR1: all that is kept is on the disk.");
    assert_eq!(broker.stop().status, Some(0));
    fs::remove_dir_all(kept).unwrap();
}

// ---- files that midge makes ---------------------------------------------------------------------

#[cfg(feature = "store")]
#[test]
fn the_log_and_what_is_kept_are_for_nobody_else_to_read() {
    let (kept, log) = (temporary("private"), Place::new("private.log"));
    let (location, log_dest) = (kept.join("store"), format!("file {}", log.0));
    let broker = Midge::start(&[
        "--persistence",
        "--persistence-location",
        location.to_str().unwrap(),
        "--log-dest",
        &log_dest,
    ]);
    broker.client("a").ping();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(Path::new(&log.0)), 0o600);
    assert_eq!(mode(&location), 0o700);
    let files = fs::read_dir(&location).unwrap();
    let mut names: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 1, "{names:?}");
    for file in &names {
        assert_eq!(mode(file), 0o600, "{file:?}");
    }
    assert_eq!(broker.stop().status, Some(0));
    fs::remove_dir_all(kept).unwrap();
}

#[test]
fn the_process_id_is_written_over_no_file_that_a_link_leads_to() {
    let (theirs, pid) = (Place::new("theirs"), Place::new("pid"));
    fs::write(&theirs.0, "not a process").unwrap();
    symlink(&theirs.0, &pid.0).unwrap();
    let broker = Midge::start(&["--pid-file", &pid.0]);
    pid.has(&format!("{}\n", broker.pid()));
    assert_eq!(theirs.text(), "not a process");
    assert_eq!(broker.stop().status, Some(0));
    // What a run left that was killed is replaced; what is no file is left alone.
    fs::write(&pid.0, "1234567").unwrap();
    let broker = Midge::start(&["--pid-file", &pid.0]);
    pid.has(&format!("{}\n", broker.pid()));
    assert_eq!(broker.stop().status, Some(0));
    let _socket = UnixDatagram::bind(&pid.0).unwrap();
    let exit = run(&["-p", &free_port().to_string(), "--pid-file", &pid.0]);
    assert!(exit.stderr.contains("it is not a file"), "{}", exit.stderr);
}

#[test]
fn a_pipe_in_place_of_a_file_keeps_nobody_waiting() {
    let make = |path: &Path| {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    let directory = temporary("included");
    fs::create_dir(&directory).unwrap();
    let conf = Conf::new(&format!("include_dir {}\n", directory.display()));
    let broker = conf.start();
    let mut client = broker.client("a");
    let included = directory.join("a.conf");
    make(&included);
    broker.signal("HUP");
    broker.logs("a.conf: cannot be read: it is not a file");
    client.ping();
    fs::remove_file(&included).unwrap();
    let pipe = Place::new("pipe");
    make(Path::new(&pipe.0));
    conf.write(&format!("log_dest stderr\nlog_dest file {}\n", pipe.0));
    broker.signal("HUP");
    broker.logs("SIGHUP: nothing was changed");
    client.ping();
    fs::remove_dir_all(directory).unwrap();
}

// ---- the service manager ------------------------------------------------------------------------

/// What systemd hears.
struct Manager(UnixDatagram);

impl Manager {
    fn at(address: &SocketAddr) -> Manager {
        Manager(UnixDatagram::bind_addr(address).unwrap())
    }

    fn hears(&self) -> String {
        datagram(&self.0)
    }
}

#[test]
fn systemd_is_told_when_it_is_ready_when_it_reloads_and_when_it_stops() {
    let place = Place::new("notify");
    let name = format!("midge-notify-{}", std::process::id());
    for (address, variable) in [
        (
            SocketAddr::from_pathname(&place.0).unwrap(),
            place.0.clone(),
        ),
        (
            SocketAddr::from_abstract_name(&name).unwrap(),
            format!("@{name}"),
        ),
    ] {
        let manager = Manager::at(&address);
        let conf = Conf::new("");
        let broker = Midge::command(conf.command().env("NOTIFY_SOCKET", &variable));
        assert_eq!(manager.hears(), "READY=1");
        // Its port is open by now.
        Client::open(conf.port, Version::V5);
        for text in ["max_qos 1\n", "max_qos 9\n"] {
            conf.write(text);
            broker.signal("HUP");
            let reloads = manager.hears();
            let micros = reloads.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
            assert_eq!(micros.is_some(), cfg!(feature = "systemd"), "{reloads}");
            assert!(micros.is_none_or(|micros| micros.parse::<u64>().unwrap() > 0));
            assert_eq!(manager.hears(), "READY=1");
        }
        broker.signal("TERM");
        assert_eq!(manager.hears(), "STOPPING=1");
        assert_eq!(broker.exit().status, Some(0));
    }
}

/// It would be started again otherwise.
#[test]
fn the_watchdog_hears_that_it_is_alive_though_nobody_is_there() {
    let place = Place::new("watchdog");
    let manager = Manager::at(&SocketAddr::from_pathname(&place.0).unwrap());
    let conf = Conf::new("sys_interval 0\n");
    let mut command = conf.command();
    command.env("NOTIFY_SOCKET", &place.0);
    command.env("WATCHDOG_USEC", "100000");
    let _broker = Midge::command(&mut command);
    assert_eq!(manager.hears(), "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    // For another process.
    let conf = Conf::new("");
    let mut command = conf.command();
    command.env("NOTIFY_SOCKET", &place.0);
    command
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1");
    drop(_broker);
    let other = Midge::command(&mut command).on_port(conf.port);
    until("what is told of the other one", || {
        (manager.hears() == "READY=1").then_some(())
    });
    other.client("a").ping();
    other.signal("TERM");
    assert_eq!(manager.hears(), "STOPPING=1");
}

#[test]
fn a_service_manager_that_is_not_there_is_named_and_missed_by_nobody() {
    for name in ["/no-such-directory/notify", "nonsense"] {
        let conf = Conf::new("");
        let broker = Midge::command(conf.command().env("NOTIFY_SOCKET", name));
        let broker = broker.on_port(conf.port);
        broker.logs(&format!("NOTIFY_SOCKET={name}: "));
        broker.client("a").ping();
    }
}

// ---- the log ------------------------------------------------------------------------------------

#[test]
fn lines_of_the_log_are_published_as_they_are_written() {
    let flags = [
        "--log-dest",
        "topic",
        "--log-dest",
        "stderr",
        "--log-type",
        "all",
    ];
    let broker = Midge::start(&flags);
    let mut reader = broker.client("reader");
    let options = SubscriptionOptions::new(QoS::ExactlyOnce);
    reader.send(&subscribe(1, &[("$SYS/broker/log/#", options)]));
    broker.client("guest").disconnect();
    let (_, connack) = broker.try_connect(connect(Version::V31, ""));
    assert_ne!(connack.connack().reason, ReasonCode::Success);
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    reader.send(&subscribe(2, &[("other", options)]));
    let mut lines = Vec::new();
    until("all lines", || {
        for packet in reader.so_far() {
            if let Packet::Publish(publish) = packet.packet() {
                assert!(!publish.retain);
                let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                lines.push(format!("{} {text}", publish.topic));
            }
        }
        lines
            .iter()
            .any(|line| line.contains("other"))
            .then_some(())
    });
    for (topic, part) in [
        ("N", "New client connected from 127.0.0.1:"),
        ("N", "Client guest [127.0.0.1:"),
        ("W", "Client (without id) [127.0.0.1:"),
        ("M/subscribe", "reader 1 other"),
    ] {
        let topic = format!("$SYS/broker/log/{topic} 20");
        let is_it = |line: &&String| line.starts_with(&topic) && line.contains(part);
        assert!(lines.iter().any(|line| is_it(&line)), "{part}: {lines:#?}");
    }
}

/// Somebody who reads the log is told who it was, from where, why, and what would change it.
#[test]
fn the_line_of_a_refused_client_is_enough_to_let_it_in() {
    let port = free_port();
    let listener = format!("{port} 127.0.0.1");
    let flags = ["--listener", &listener, "--clientid-prefixes", "box-"];
    let broker = Midge::spawn(&flags).on_port(port);
    for (connect, who, what) in [
        (
            connect(Version::V5, "box-1"),
            "box-1",
            "allow_anonymous true would",
        ),
        (
            connect(Version::V311, ""),
            "(without id)",
            "allow_anonymous true would",
        ),
    ] {
        let (client, _) = broker.try_connect(connect);
        let line = broker.logs("] refused");
        let from = client.stream.local_addr().unwrap();
        assert!(
            line.contains(&format!("Client {who} [{from}] refused: ")),
            "{line}"
        );
        assert!(line.contains(what), "{line}");
    }
    let broker = Midge::start(&["--clientid-prefixes", "box-"]);
    broker.try_connect(connect(Version::V5, "a"));
    let line = broker.logs("Client a [127.0.0.1:");
    assert!(line.contains("clientid_prefixes"), "{line}");
    // The CONNACK of one that is accepted would be larger than it takes.
    let small = numbers(&[(PropertyId::MaximumPacketSize, 5)]);
    let mut client = broker.open(Version::V5);
    client.send(&Packet::Connect(Connect {
        properties: small.as_properties(),
        ..connect(Version::V5, "box-1")
    }));
    let reason = client.read().connack().reason;
    assert_eq!(reason, ReasonCode::PacketTooLarge);
    let line = broker.logs("Client box-1 [127.0.0.1:");
    assert!(line.contains("] refused: packet too large: "), "{line}");
}

/// Of a password by `mosquitto_passwd`, "secret".
const ALICE: &str = "alice:$7$101$IPyS6AN5gVVv/7Pf$GH5asWmaoz8lLKsVnqkIgfjy+W53WlMynO/AmaWFNzUlBbP\
    OdHqxaoQnlPgVwZ24AHi57Q1XGi/5WRi9wsBa3g==\n";

/// Whatever happens: who comes with a right password or a wrong one, what is published, refused,
/// dropped, retained or left as a will, and what stands in files.
#[test]
fn no_log_has_a_password_or_a_payload() {
    let (users, acl) = (Place::new("users"), Place::new("acl"));
    fs::write(&users.0, ALICE).unwrap();
    let rules = "user alice\ntopic readwrite open/#\ntopic read #\n";
    fs::write(&acl.0, rules).unwrap();
    for format in ["text", "json"] {
        let written = Place::new("log");
        let conf = Conf::new(&format!(
            "allow_anonymous false\npassword_file {}\nacl_file {}\nlog_type all\n\
             log_format {format}\nmessage_size_limit 30\nmax_queued_messages 1\n\
             log_dest file {}\n",
            users.0, acl.0, written.0
        ));
        let broker = conf.start();
        let login = |id, password: &'static str| Connect {
            user_name: Some("alice"),
            password: Some(password.as_bytes()),
            ..connect(Version::V5, id)
        };
        let (_, refused) = broker.try_connect(login("wrong", "PASS-wrong"));
        assert_ne!(refused.connack().reason, ReasonCode::Success);
        let will = Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: Properties::NONE,
            topic: "closed/will",
            payload: b"LOAD-will",
        };
        let mut lost = broker.connect(Connect {
            will: Some(will),
            ..login("right", "secret")
        });
        let mut client = broker.connect(login("client", "secret"));
        client.subscribe("#", QoS::AtLeastOnce);
        for topic in ["open/t", "closed/t"] {
            for payload in ["LOAD-small", "LOAD-beyond-the-limit-of-messages"] {
                client.send(&Packet::Publish(publish_qos(
                    QoS::AtLeastOnce,
                    7,
                    topic,
                    payload,
                )));
                client.so_far();
            }
        }
        // Neither an acknowledgement of anything nor a packet: it is disconnected for that.
        client.send(&Packet::PubAck(ack(99)));
        client.ping();
        lost.send_bytes(b"\x00LOAD-of-no-packet");
        written.has("disconnected by the server");
        conf.write(&format!("password_file {} LOAD\n", users.0));
        broker.signal("HUP");
        written.has("nothing was changed");
        fs::write(&users.0, "bob:PASS-plain\n").unwrap();
        conf.write(&format!("password_file {}\n", users.0));
        broker.signal("HUP");
        written.has("is not hashed");
        fs::write(&users.0, ALICE).unwrap();
        broker.signal("USR2");
        written.has("Subscription of client");
        let exit = broker.stop();
        assert_eq!((exit.status, exit.stderr.as_str()), (Some(0), ""));
        let log = written.text();
        for part in ["is wrong", "refused", "dropped", "would not be published"] {
            assert!(log.contains(part), "{part} is missing in {log}");
        }
        for secret in ["PASS", "LOAD-", "secret", "IPyS6", "GH5as"] {
            assert!(!log.contains(secret), "{secret} is in {log}");
        }
    }
}
