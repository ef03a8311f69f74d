//! With the real program: what a file of its own makes of it.

use std::fs;

use midge::packet::{Connect, PropertyId, ReasonCode, Version};

use crate::common::connect;
use crate::socket::{Midge, free_port, run, temporary};

#[test]
fn each_listener_has_its_own_terms() {
    let (open, closed, path) = (free_port(), free_port(), temporary("listeners.conf"));
    let text = format!(
        "listener {open} 127.0.0.1\nallow_anonymous true\nmax_qos 1\nauto_id_prefix all-\n\
         max_topic_alias 3\nmax_connections 1\n\
         listener {closed} 127.0.0.1 # nobody\nlistener_allow_anonymous false\n"
    );
    fs::write(&path, text).unwrap();
    let mut broker = Midge::spawn(&["-c", path.to_str().unwrap()]).on_port(open);
    broker.logs("nobody can connect (listener_allow_anonymous false, and no users)");
    let (_client, connack) = broker.try_connect(connect(Version::V5, ""));
    let properties = connack.connack().properties;
    assert_eq!(properties.number(PropertyId::MaximumQoS), Some(1));
    assert_eq!(properties.number(PropertyId::TopicAliasMaximum), Some(3));
    let id = properties.text(PropertyId::AssignedClientIdentifier);
    assert!(id.is_some_and(|id| id.starts_with("all-")), "{id:?}");
    let (_, connack) = broker.try_connect(connect(Version::V5, "second"));
    assert_eq!(connack.connack().reason, ReasonCode::QuotaExceeded);
    broker.port = closed;
    let (_, connack) = broker.try_connect(connect(Version::V5, "a"));
    assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
    let named = Connect {
        user_name: Some("ann"),
        ..connect(Version::V311, "a")
    };
    let (_, connack) = broker.try_connect(named);
    assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
    fs::remove_file(path).unwrap();
}

/// With Mosquitto's clients: who is known at one listener and may write there is nobody at the
/// other; SIGHUP reads all four files again, or none of them.
#[test]
#[cfg(feature = "passwords")]
fn each_listener_has_its_own_users_and_rules() {
    use std::process::Command;
    let (home, away) = (free_port(), free_port());
    let files = ["users1", "rules1", "users2", "rules2"].map(temporary);
    let [users1, rules1, users2, rules2] = files.each_ref().map(|path| path.to_str().unwrap());
    let path = temporary("own.conf");
    let text = format!(
        "per_listener_settings true\nuser root\n\
         listener {home} 127.0.0.1\npassword_file {users1}\nacl_file {rules1}\n\
         listener {away} 127.0.0.1\npassword_file {users2}\nacl_file {rules2}\n"
    );
    fs::write(&path, text).unwrap();
    for (file, user) in [(users1, "ann"), (users2, "bob")] {
        let exit = run(&["passwd", "-c", "-b", file, user, "secret"]);
        assert_eq!(exit.status, Some(0), "{exit:?}");
    }
    fs::write(rules1, "user ann\ntopic write a\n").unwrap();
    fs::write(rules2, "user bob\ntopic write b\n").unwrap();
    let config = path.to_str().unwrap();
    let broker = Midge::spawn(&["-c", config]).on_port(home);
    broker.logs(&format!("{users1} has 1 user"));
    broker.logs(&format!(
        "listener {away} 127.0.0.1: Who may read and write what stands in {rules2} (1 line)"
    ));
    // Each from an address of its own: wrong passwords make nobody else wait.
    let mut addresses = (2..).map(|host: u8| format!("127.0.0.{host}"));
    let mut publish = |port: u16, user: &str, topic: &str| {
        let (port, address) = (port.to_string(), addresses.next().unwrap());
        let flags = ["-V", "mqttv5", "-q", "1", "-m", "x", "-P", "secret"];
        let own = ["-p", &port, "-u", user, "-t", topic, "-A", &address];
        let output = Command::new("mosquitto_pub").args(flags).args(own).output();
        let output = output.expect("mosquitto_pub (Debian: apt install mosquitto-clients)");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match (output.status.success(), said.is_empty()) {
            (false, _) => "refused",
            (true, true) => "published",
            (true, false) => "denied",
        }
    };
    let mut all = || {
        [
            (home, "ann", "a"),
            (home, "ann", "b"),
            (away, "ann", "b"),
            (home, "bob", "a"),
            (away, "bob", "a"),
            (away, "bob", "b"),
        ]
        .map(|(port, user, topic)| publish(port, user, topic))
    };
    let own = [
        "published",
        "denied",
        "refused",
        "refused",
        "denied",
        "published",
    ];
    assert_eq!(all(), own);
    // One of the files is wrong: nothing changes.
    fs::write(rules1, "user ann\ntopic write b\n").unwrap();
    fs::write(rules2, "user\n").unwrap();
    broker.signal("HUP");
    broker.logs(&format!("SIGHUP: {rules2}:1: needs a name"));
    assert_eq!(all(), own);
    fs::write(rules2, "user bob\ntopic write a\n").unwrap();
    fs::copy(users2, users1).unwrap();
    broker.signal("HUP");
    broker.logs("SIGHUP: what was read again is good");
    assert_eq!(
        all(),
        [
            "refused",
            "refused",
            "refused",
            "denied",
            "published",
            "denied"
        ]
    );
    let exit = run(&["-c", config, "--explain", "bob", "a", "write"]);
    assert_eq!(exit.status, Some(1));
    for part in [
        format!("listener {home} 127.0.0.1: denied: no line of {rules1} lets user bob"),
        format!("listener {away} 127.0.0.1: allowed: {rules2}:2 says \"topic write a\""),
    ] {
        assert!(exit.stdout.contains(&part), "no {part} in {}", exit.stdout);
    }
    for file in files.iter().chain([&path]) {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn what_does_not_do_what_it_says_is_in_the_log() {
    let (port, path) = (free_port(), temporary("odd.conf"));
    fs::write(
        &path,
        format!("listener {port} 127.0.0.1\nretry_interval 20\n"),
    )
    .unwrap();
    let broker = Midge::spawn(&["-c", path.to_str().unwrap()]).on_port(port);
    broker.logs("odd.conf:2: retry_interval 20: ignored: messages are sent again");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_is_wrong_ends_with_status_1_and_one_sentence() {
    let path = temporary("wrong.conf");
    fs::write(&path, "listener 1883\ncafile /etc/ca.pem\nnonsense\n").unwrap();
    let file = path.to_str().unwrap();
    let exit = run(&["-c", file]);
    assert_eq!((exit.status, exit.stderr.lines().count()), (Some(1), 1));
    let expected = format!("midge: {file}:2: cafile /etc/ca.pem: TLS is not there yet");
    assert!(exit.stderr.starts_with(&expected), "{}", exit.stderr);
    let exit = run(&["-c", file, "--test-config"]);
    assert_eq!(exit.status, Some(1));
    assert!(
        exit.stdout.contains(":3: nonsense: there is no such"),
        "{}",
        exit.stdout
    );
    fs::remove_file(path).unwrap();
}

#[test]
#[cfg(feature = "user")]
fn root_becomes_another_user_before_it_opens_what_it_keeps() {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("not tested: only root can become another user");
        return;
    }
    let (port, path, kept) = (free_port(), temporary("user.conf"), temporary("kept"));
    let nobody = midge::user::find("nobody")
        .unwrap()
        .expect("there is nobody");
    fs::create_dir(&kept).unwrap();
    chown(&kept, Some(nobody.uid), Some(nobody.gid)).unwrap();
    let location = kept.to_str().unwrap();
    let text = |user: &str| {
        format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser {user}\n\
             persistence true\npersistence_location {location}\n"
        )
    };
    fs::write(&path, text("nobody")).unwrap();
    let broker = Midge::spawn(&["-c", path.to_str().unwrap()]).on_port(port);
    broker.client("a").ping();
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let ids = line.unwrap().split_whitespace();
        ids.map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(line("Uid:"), [nobody.uid; 4]);
    assert_eq!(line("Gid:"), [nobody.gid; 4]);
    assert_eq!(line("Groups:"), [nobody.gid]);
    for entry in fs::read_dir(&kept).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), nobody.uid);
    }
    broker.signal("HUP");
    broker.logs("SIGHUP: what was read again is good");
    let exit = broker.stop();
    assert_eq!(exit.status, Some(0));
    assert!(!exit.stderr.contains("only root can"), "{}", exit.stderr);
    // Whom it becomes may not read what root has read, nor append to the log.
    let (acl, log) = (temporary("acl"), temporary("log"));
    for file in [&acl, &log] {
        fs::write(file, "").unwrap();
        fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let (acl_file, log_file) = (acl.to_str().unwrap(), log.to_str().unwrap());
    let more = format!("acl_file {acl_file}\nlog_dest stderr\nlog_dest file {log_file}\n");
    fs::write(&path, text("nobody") + &more).unwrap();
    let broker = Midge::spawn(&["-c", path.to_str().unwrap()]).on_port(port);
    for file in [path.to_str().unwrap(), acl_file] {
        let line = broker.logs(&format!(
            "SIGHUP will change nothing, as things are: {file}"
        ));
        assert!(line.contains("Permission denied"), "{line}");
    }
    let line = broker.logs("It will not be possible to open the log anew");
    assert!(line.contains(log_file), "{line}");
    broker.signal("HUP");
    broker.logs("SIGHUP: nothing was changed");
    broker.client("a").ping();
    assert_eq!(broker.stop().status, Some(0));
    fs::remove_file(acl).unwrap();
    fs::remove_file(log).unwrap();
    fs::write(&path, text("no-such-user")).unwrap();
    let exit = run(&["-c", path.to_str().unwrap()]);
    assert_eq!(exit.status, Some(1));
    assert!(
        exit.stderr
            .contains("user.conf:3: user no-such-user: there is no such user"),
        "{}",
        exit.stderr
    );
    fs::remove_file(path).unwrap();
    fs::remove_dir_all(kept).unwrap();
}

/// The line of the file that asked for it, not the flag that nobody gave.
#[test]
fn what_cannot_be_opened_is_named_with_its_line() {
    let path = temporary("origins.conf");
    let name = path.to_str().unwrap();
    for (line, error) in [
        ("log_dest file /nowhere/log", "No such file"),
        ("pid_file /nowhere/pid", "No such file"),
        (
            "persistence_location /proc/nowhere",
            "cannot open the store in",
        ),
    ] {
        let port = free_port();
        let text = format!("listener {port} 127.0.0.1\nuser root\npersistence true\n{line}\n");
        fs::write(&path, text).unwrap();
        let exit = run(&["-c", name]);
        let expected = format!("midge: {name}:4: {line}: {error}");
        assert!(exit.stderr.contains(&expected), "{}", exit.stderr);
        assert_eq!(exit.status, Some(1));
    }
    fs::remove_file(path).unwrap();
}

#[test]
#[cfg(feature = "user")]
fn a_directory_that_is_not_of_whom_root_becomes_is_named_with_what_helps() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("not tested: only root can become another user");
        return;
    }
    let (path, kept) = (temporary("denied.conf"), temporary("denied"));
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)).unwrap();
    let location = kept.display();
    let text = format!(
        "listener {} 127.0.0.1\nuser nobody\npersistence true\npersistence_location {location}\n",
        free_port()
    );
    fs::write(&path, text).unwrap();
    let exit = run(&["-c", path.to_str().unwrap()]);
    let expected = format!("midge runs as nobody (chown -R nobody {location})");
    assert!(exit.stderr.contains(&expected), "{}", exit.stderr);
    assert_eq!(exit.status, Some(1));
    fs::remove_dir(kept).unwrap();
    fs::remove_file(path).unwrap();
}

/// Root that cannot step down does not serve: without /proc it cannot know whether it would.
#[test]
#[cfg(feature = "user")]
fn root_without_proc_does_not_stay_root() {
    use std::process::Command;
    let script = "umount -l /proc && exec \"$@\"";
    let without_proc = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).args(program);
        command
    };
    if !without_proc(&["true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("not tested: only root can take /proc away");
        return;
    }
    let path = temporary("proc.conf");
    let text = format!("listener {} 127.0.0.1\nuser nobody\n", free_port());
    fs::write(&path, text).unwrap();
    let program = [env!("CARGO_BIN_EXE_midge"), "-c", path.to_str().unwrap()];
    let exit = Midge::command(&mut without_proc(&program)).exit();
    let expected = "midge: user nobody: /proc/self/task cannot be read: No such file";
    assert!(exit.stderr.contains(expected), "{}", exit.stderr);
    assert_eq!(exit.status, Some(1));
    fs::remove_file(path).unwrap();
}

/// Users that are not there, and directories; the disk is not touched.
#[test]
fn a_file_that_would_not_start_here_is_not_called_good() {
    let path = temporary("obstacles.conf");
    let (made, file) = (temporary("made"), path.to_str().unwrap());
    let tested = |text: &str| {
        fs::write(&path, text).unwrap();
        run(&["-c", file, "--test-config"])
    };
    for (text, what) in [
        (
            "persistence_location /etc/passwd/db\npersistence true",
            "/etc/passwd is no directory",
        ),
        (
            "listener 0 /tmp/s\nsocket_owner no-such",
            "there is no user no-such",
        ),
        (
            "listener 0 /tmp/s\nsocket_group no-such",
            "there is no group no-such",
        ),
    ] {
        let exit = tested(text);
        let first = text.lines().next().unwrap();
        let line = format!("\n{file}:1: {first}: {what}\nmidge would not start.\n");
        assert!(exit.stdout.ends_with(&line), "{line}: {}", exit.stdout);
        assert_eq!(exit.status, Some(1));
        // Nor does it.
        let exit = run(&["-c", file]);
        assert_eq!(exit.status, Some(1), "{text}: {}", exit.stderr);
    }
    // What its unit may make, or midge itself.
    for text in ["pid_file /no-such/pid", "log_dest file /no-such/log"] {
        let exit = tested(text);
        let line = format!("{file}:1: {text}: there is no directory /no-such; it must be there");
        assert!(exit.stdout.contains(&line), "{line}: {}", exit.stdout);
        assert_eq!(exit.status, Some(0));
    }
    let location = made.display();
    let text = format!("persistence true\npersistence_location {location}/a/b\npid_file pid\n");
    let exit = tested(&text);
    assert_eq!(exit.status, Some(0), "{}", exit.stdout);
    assert!(
        !exit.stdout.contains("there is no directory"),
        "{}",
        exit.stdout
    );
    assert!(!made.exists(), "it was only looked at");
    // Who is not root becomes nobody else.
    let exit = tested("user no-such");
    let part = match exit.status {
        Some(0) => "only root can",
        _ => ":1: user no-such: there is no such user\n",
    };
    assert!(exit.stdout.contains(part), "{}", exit.stdout);
    fs::remove_file(path).unwrap();
}
