//! A configuration that takes the place of another: what of it holds for the listeners that are
//! open, and what counts from the next start.

use std::fs;

use midge::broker::limits::ListenerOptions;
use midge::config::Config;
use midge::packet::{QoS, ReasonCode, Version};

use crate::Files;
use crate::common::connect;
use crate::socket::{Midge, free_port, temporary};

/// What holds when the second file is read in place of the first, and what waits.
fn changed(old: &str, new: &str) -> (Config, Vec<String>) {
    let read = |text: &str| Files::main(text).read().expect("it is good");
    read(old).changed_to(read(new))
}

fn options(config: &Config, index: usize) -> &ListenerOptions {
    &config.broker.listeners[index]
}

/// What was opened as the first file says stays; who may come in there is as the second one says.
#[test]
fn a_listener_that_is_opened_otherwise_has_the_new_users_and_rules_at_once() {
    for (old, new, place, what) in [
        ("socket_mode 660", "socket_mode 600", 4, "socket_mode"),
        ("", "socket_mode 600", 4, "socket_mode"),
        ("socket_owner root", "", 3, "socket_owner"),
        ("", "socket_group root", 4, "socket_group"),
        ("", "enable_proxy_protocol 2", 4, "enable_proxy_protocol"),
    ] {
        let text = |option: &str, rest: &str| {
            format!("per_listener_settings true\n\nlistener 0 /run/s\n{option}\n{rest}")
        };
        let (config, waits) = changed(
            &text(old, "allow_anonymous true\n"),
            &text(
                new,
                "allow_anonymous false\npassword_file users\nacl_file rules\nmax_qos 1\n",
            ),
        );
        assert_eq!(waits.len(), 1, "{waits:?}");
        let is_named = format!(": {what} is another: it counts from the next start");
        assert!(
            waits[0].starts_with(&format!("m.conf:{place}")),
            "{waits:?}"
        );
        assert!(waits[0].ends_with(&is_named), "{waits:?}");
        assert!(!options(&config, 0).allow_anonymous);
        assert!(options(&config, 0).passwords);
        assert_eq!(options(&config, 0).max_qos, QoS::AtLeastOnce);
        let files = &config.files().0[0];
        assert_eq!(files.passwords.as_deref(), Some("users"));
        assert_eq!(files.acl.as_deref(), Some("rules"));
        // It is still open as it was.
        let old = Files::main(text(old, "")).read().unwrap();
        assert!(config.listeners[0].is_same_place(&old.listeners[0]));
    }
}

#[test]
fn a_listener_of_the_same_port_is_the_same_though_its_address_is_another() {
    for (old, new, what) in [
        ("", "socket_domain ipv4", "socket_domain"),
        ("bind_interface lo", "", "bind_interface"),
        ("", "bind_address 127.0.0.1", "the address"),
    ] {
        let (config, waits) = changed(
            &format!("port 1883\n{old}\nmax_connections 1\n"),
            &format!("port 1883\n{new}\nmax_connections 2\n"),
        );
        assert_eq!(waits.len(), 1, "{waits:?}");
        assert!(waits[0].contains(what), "{waits:?}");
        assert_eq!(options(&config, 0).connections_max, 2);
    }
}

/// They may stand in any order; the one at the same place has it, whatever else would fit.
#[test]
fn of_two_listeners_with_one_port_each_keeps_its_own() {
    let (config, waits) = changed(
        "listener 1883 127.0.0.1\nmax_connections 1\nlistener 1883 127.0.0.2\nmax_connections 2\n",
        "listener 1883 127.0.0.3\nmax_connections 30\n\
         listener 1883 127.0.0.1\nmax_connections 10\n",
    );
    assert_eq!(options(&config, 0).connections_max, 10);
    assert_eq!(options(&config, 1).connections_max, 30);
    let address = "m.conf:1: listener 1883 127.0.0.3: the address is another";
    assert!(
        waits.len() == 1 && waits[0].starts_with(address),
        "{waits:?}"
    );
}

/// Whoever takes a listener back to this machine, and opens it there, does not mean the network.
#[test]
fn what_is_open_to_many_is_not_opened_by_what_is_said_of_another_place() {
    for old in [
        "listener 1883\nallow_anonymous false\n",
        "listener 1883\nallow_anonymous true\npassword_file users\n",
    ] {
        let (config, waits) = changed(old, "listener 1883 127.0.0.1\nallow_anonymous true\n");
        assert!(!options(&config, 0).allow_anonymous);
        assert!(!options(&config, 0).passwords);
        assert!(waits[1].contains("allow_anonymous is true"), "{waits:?}");
    }
    let open = "listener 1883\nallow_anonymous true\n";
    let (config, _) = changed(open, "listener 1883 127.0.0.1\nallow_anonymous true\n");
    assert!(options(&config, 0).allow_anonymous);
}

#[test]
fn nobody_comes_in_by_a_listener_that_is_gone_and_its_files_are_not_needed() {
    let two = "per_listener_settings true\nlistener 1883\nallow_anonymous true\n\
        listener 1884\npassword_file no-such-users\nacl_file no-such-rules\n";
    let one = "per_listener_settings true\nlistener 1883\nallow_anonymous true\n";
    let (config, waits) = changed(two, one);
    assert!(waits[0].starts_with("m.conf:4: listener 1884 is not there any more"));
    assert_eq!(waits.len(), 1);
    let is_gone = config.broker.listeners.iter().map(|one| one.is_gone);
    assert_eq!(is_gone.collect::<Vec<_>>(), [false, true]);
    let fresh = config
        .files()
        .read()
        .unwrap_or_else(|faults| panic!("{faults:?}"));
    // Those who are left may do nothing without them.
    let said = fresh.sentences().join("\n");
    assert!(said.contains("no-such-rules: cannot be read"), "{said}");
    assert!(said.contains("no-such-rules (0 lines)"), "{said}");
    // It comes back as it is written then.
    let (config, waits) = config.changed_to(Files::main(two).read().unwrap());
    assert!(waits.is_empty(), "{waits:?}");
    assert!(!config.broker.listeners[1].is_gone);
    assert!(config.files().read().is_err());
}

#[test]
fn rules_of_all_are_those_of_who_came_by_a_listener_that_is_gone() {
    let (config, _) = changed(
        "listener 1883\nlistener 1884\nacl_file before\n",
        "listener 1883\nacl_file after\n",
    );
    let acls = config.files().0.into_iter().map(|one| one.acl.unwrap());
    assert_eq!(acls.collect::<Vec<_>>(), ["after", "after"]);
}

#[test]
#[cfg(all(feature = "sandbox", target_os = "linux"))]
fn the_sandbox_is_what_it_was_at_the_start() {
    let (config, waits) = changed("sandbox false\n", "listener 1883\nsandbox true\n");
    assert!(!config.sandbox);
    let sandbox = "sandbox is another: it counts from the next start";
    assert!(waits.iter().any(|one| one.contains(sandbox)), "{waits:?}");
}

#[test]
fn what_counts_from_the_next_start_is_named_with_its_line() {
    let new = "# none of it\npid_file /run/midge.pid\nuser nobody\n\npersistence true\n\
        persistence_location /var/lib/midge\nlistener 1883\nmount_point m/\n";
    let waits = changed("listener 1883\n", new).1;
    let rest = "is another: it counts from the next start";
    for (index, line) in [
        "m.conf:5: persistence",
        "m.conf:6: persistence_location",
        "m.conf:2: pid_file",
        "m.conf:3: user",
        "m.conf:8: mount_point",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(waits[index], format!("{line} {rest}"));
    }
    let read = |text: &str| Files::main(text).read().unwrap();
    let back = read(new).changed_to(read("listener 1883\n")).1;
    assert_eq!(back.len(), 5, "{back:?}");
    assert_eq!(
        back[2],
        "pid_file is not given any more: that counts from the next start"
    );
}

/// With the real program.
#[test]
fn who_came_by_a_listener_that_is_gone_stays_and_the_next_is_refused() {
    let (port, other, path) = (free_port(), free_port(), temporary("gone.conf"));
    let text = |port: u16| format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
    fs::write(&path, text(port)).unwrap();
    let broker = Midge::spawn(&["-c", path.to_str().unwrap()]).on_port(port);
    let mut client = broker.client("old");
    fs::write(&path, text(other)).unwrap();
    broker.signal("HUP");
    broker.logs("is not there any more: it is closed at the next start");
    client.ping();
    for (version, reason) in [
        (Version::V311, ReasonCode::ServerUnavailable),
        (Version::V5, ReasonCode::ServerUnavailable),
    ] {
        let (_, connack) = broker.try_connect(connect(version, "new"));
        assert_eq!(connack.connack().reason, reason);
        broker.logs("this listener is not in the configuration any more");
    }
    fs::write(&path, text(port)).unwrap();
    broker.signal("HUP");
    broker.logs("every client can connect (allow_anonymous true)");
    broker.client("new").ping();
    fs::remove_file(path).unwrap();
}

/// Linux does not take back what it was told of a listener's buffers.
#[test]
#[cfg(feature = "memory-limit")]
fn small_buffers_of_sockets_stay_until_the_next_start() {
    let limited = "memory_limit 6000000\n";
    let small = |waits: Vec<String>| waits.iter().any(|one| one.contains("buffers of sockets"));
    for (old, new, stay) in [
        (limited, "", true),
        ("", limited, false),
        (limited, limited, false),
    ] {
        let (config, waits) = changed(old, new);
        assert_eq!(small(waits), stay, "{old}{new}");
        assert_eq!(config.tuning().buffer_bytes.is_some(), new == limited);
    }
}
