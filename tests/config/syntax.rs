//! Mosquitto's syntax: comments, scopes, includes, listeners; and files that are none.

use midge::net::{Host, ProxyVersion};
use midge::packet::QoS;

use crate::Files;

#[test]
fn a_fault_is_named_with_file_and_line() {
    for (text, expected) in [
        (
            "\nnonsense 1",
            "m.conf:2: nonsense 1: there is no such option",
        ),
        (
            "max-qos 1",
            "m.conf:1: max-qos 1: there is no such option; names in a file have _ for -",
        ),
        (
            "quiet true",
            "m.conf:1: quiet true: is a flag only: --quiet",
        ),
        (
            " # a comment",
            "m.conf:1: a comment must begin in the first column",
        ),
        ("listener\t1883", "m.conf:1: a tab separates nothing here"),
        ("persistence", "m.conf:1: persistence: needs a value"),
        (
            "persistence TRUE",
            "m.conf:1: persistence TRUE: must be true or false",
        ),
        (
            "pid_file a\n\npid_file b",
            "m.conf:3: pid_file b: is given twice, first in m.conf:1",
        ),
        (
            "listener 1883 a b",
            "m.conf:1: listener 1883 a b: has more than",
        ),
        (
            "listener 0 127.0.0.1",
            "m.conf:1: listener 0 127.0.0.1: must be a port from 1 to 65535",
        ),
        (
            "listener 1883\nsocket_mode 660",
            "m.conf:2: socket_mode 660: is for Unix sockets: listener 0 PATH",
        ),
        (
            "auto_id_prefix a\nper_listener_settings true",
            "m.conf:2: per_listener_settings true: must come",
        ),
    ] {
        let sentence = Files::main(text).refused();
        assert!(sentence.starts_with(expected), "{sentence}");
    }
}

#[test]
fn a_comment_may_follow_a_listener_and_a_number_but_not_a_text() {
    let text = "listener 1884 # the door\nmax_qos 1 # enough\nclientid_prefixes a # b\n";
    let config = Files::main(text).read().unwrap();
    assert_eq!(config.listeners[0].port, 1884);
    assert_eq!(config.broker.listeners[0].max_qos, QoS::AtLeastOnce);
    assert_eq!(config.broker.client_id_prefix, "a # b");
}

/// By its name it is found again after a restart, and with it the rules of who came through it.
#[test]
fn limits_are_what_they_say_where_addresses_have_32_bits_too() {
    let most =
        ["max_queued_bytes", "max_retained_bytes"].map(|name| format!("{name} 4294967295\n"));
    let limits = Files::main(most.concat() + "memory_limit 5000000000\n");
    let limits = limits.read().unwrap().broker.limits;
    assert_eq!(limits.queued_bytes_max, 4_294_967_295);
    assert_eq!(limits.retained_bytes_max, 4_294_967_295);
    assert_eq!(limits.memory_bytes_max, 5_000_000_000);
    for option in ["max_queued_bytes", "max_inflight_bytes", "max_connections"] {
        let why = Files::main(format!("{option} 5000000000\n"))
            .read()
            .unwrap_err();
        assert!(why.contains("a whole number from"), "{why}");
        assert!(why.contains("to 4294967295"), "{why}");
    }
}

#[test]
fn listeners_on_one_port_have_names_of_their_own() {
    let text = "listener 1884\nlistener 1884\nbind_interface lo\nlistener 1884\n\
        socket_domain ipv6\nlistener 1884\nenable_proxy_protocol 2\n";
    let config = Files::main(text).read().unwrap();
    let names: Vec<&str> = config
        .broker
        .listeners
        .iter()
        .map(|one| &*one.name)
        .collect();
    let expected = ["1884", "1884 by lo", "1884 ipv6", "1884 behind a proxy"];
    assert_eq!(names, expected);
}

#[test]
fn a_listener_on_a_unix_socket_has_a_file_and_no_address() {
    let text = "listener 1884\nbind_interface eth0\n\
        listener 0 /run/a b.sock # theirs\nsocket_group mqtt\nsocket_mode 0660\n\
        socket_domain ipv4\nbind_interface eth0\nenable_proxy_protocol 1\n";
    let config = Files::main(text).read().unwrap();
    let [port, file] = &config.listeners[..] else {
        panic!("{:?}", config.listeners);
    };
    assert_eq!(port.interface.as_deref(), Some("eth0"));
    assert_eq!((port.proxy, port.file.mode), (None, 0o770));
    assert_eq!(file.host, Host::Unix("/run/a b.sock".to_string()));
    assert_eq!(file.file.group.as_deref(), Some("mqtt"));
    assert_eq!(file.file.mode, 0o660);
    assert_eq!(file.proxy, Some(ProxyVersion::V1));
    let (said, is_good) = Files::main(text).tested(&[]);
    assert!(is_good, "{said}");
    for line in ["6: socket_domain ipv4", "7: bind_interface eth0"] {
        let expected = format!("m.conf:{line}: ignored: a Unix socket has no addresses\n");
        assert!(said.contains(&expected), "{said}");
    }
    let said = Files::main(format!("allow_anonymous true\n{text}"))
        .tested(&[])
        .0;
    for line in [
        "2: listener 1884: every client that comes in by eth0 can connect",
        "4: listener 0 /run/a b.sock # theirs: every client behind a proxy can connect",
    ] {
        assert!(said.contains(&format!("m.conf:{line} (")), "{said}");
    }
    assert!(!config.broker.listeners[1].allow_anonymous);
}

#[test]
fn what_stands_behind_a_listener_is_its_own() {
    let text = "listener 1884\r\nmax_qos 0\r\nmax_topic_alias 30\r\n\
        listener 1885\r\nmax_connections 5\r\n";
    let config = Files::main(text).read().unwrap();
    let [first, second] = &config.broker.listeners[..] else {
        panic!("{:?}", config.listeners);
    };
    assert_eq!(
        (first.max_qos, first.topic_alias_max),
        (QoS::AtMostOnce, 30)
    );
    assert_eq!(first.connections_max, usize::MAX);
    assert_eq!(
        (second.max_qos, second.topic_alias_max),
        (QoS::ExactlyOnce, 10)
    );
    assert_eq!(second.connections_max, 5);
    assert_eq!(config.broker.limits.topic_alias_max, 30, "the most of all");
}

#[test]
fn an_option_before_any_listener_makes_the_default_one() {
    // Mosquitto 2 opens port 1883 in this case.
    let config = Files::main("max_qos 1\nlistener 1884\n").read().unwrap();
    let ports: Vec<u16> = config.listeners.iter().map(|one| one.port).collect();
    assert_eq!(ports, [1883, 1884]);
    let origin = &config.listeners[0].origin;
    assert_eq!(
        origin,
        "m.conf:1: max_qos 1 (before any listener: port 1883)"
    );
    assert_eq!(config.broker.listeners[0].max_qos, QoS::AtLeastOnce);
    assert_eq!(config.broker.listeners[1].max_qos, QoS::ExactlyOnce);
    // Alone it says how, not where.
    let config = Files::main("max_qos 1\n").read().unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].host, Host::Loopback);
    assert_eq!(config.broker.listeners[0].max_qos, QoS::AtLeastOnce);
    let config = Files::main("max_qos 1\n")
        .read_with(&["-p", "1886", "-p", "1887"])
        .unwrap();
    let ports: Vec<u16> = config.listeners.iter().map(|one| one.port).collect();
    assert_eq!(ports, [1886, 1887]);
    assert!(
        config
            .broker
            .listeners
            .iter()
            .all(|one| one.max_qos == QoS::AtLeastOnce)
    );
}

#[test]
fn port_and_bind_address_are_the_default_listener_wherever_they_stand() {
    let text = "port 1884\nlistener 1885\nbind_address 127.0.0.1\nmax_qos 1\n";
    let config = Files::main(text).read().unwrap();
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[0].port, 1884);
    assert_eq!(
        config.listeners[0].host,
        Host::Named("127.0.0.1".to_string())
    );
    assert_eq!(config.broker.listeners[0].max_qos, QoS::AtLeastOnce);
    assert_eq!(config.listeners[1].host, Host::Any);
}

#[test]
fn without_a_listener_midge_is_for_this_machine_and_lets_everybody_in() {
    for (text, local, allowed) in [
        ("persistence false\n", true, true),
        ("allow_anonymous false\n", true, false),
        ("max_connections 5\n", true, true),
        ("listener 1884\n", false, false),
        ("port 1884\n", false, false),
        ("bind_address 192.0.2.1\n", false, false),
        ("listener 1884\nallow_anonymous true\n", false, true),
    ] {
        let config = Files::main(text).read().unwrap();
        assert_eq!(config.listeners[0].host == Host::Loopback, local, "{text}");
        assert_eq!(
            config.broker.listeners[0].allow_anonymous, allowed,
            "{text}"
        );
    }
}

#[test]
fn allow_anonymous_is_for_all_or_for_each() {
    let allowed = |text: &str| -> Vec<bool> {
        let listeners = Files::main(text).read().unwrap().broker.listeners;
        listeners.iter().map(|one| one.allow_anonymous).collect()
    };
    let two = "listener 1884\nallow_anonymous true\nlistener 1885\n";
    assert_eq!(allowed(two), [true, true]);
    assert_eq!(
        allowed(&format!("per_listener_settings true\n{two}")),
        [true, false]
    );
    let own =
        "allow_anonymous true\nlistener 1884\nlistener_allow_anonymous false\nlistener 1885\n";
    assert_eq!(allowed(own), [false, true]);
    let prefix = "per_listener_settings true\nlistener 1884\nauto_id_prefix a\nlistener 1885\n";
    let config = Files::main(prefix).read().unwrap();
    assert_eq!(
        config.broker.listeners[0].auto_id_prefix.as_deref(),
        Some("a")
    );
    assert_eq!(config.broker.listeners[1].auto_id_prefix, None);
}

#[test]
fn users_and_rules_are_for_all_or_for_each() {
    let files = |text: &str, flags: &[&str]| -> Vec<(Option<String>, Option<String>)> {
        let config = Files::main(text).read_with(flags).unwrap();
        let asks: Vec<bool> = config
            .broker
            .listeners
            .iter()
            .map(|one| one.passwords)
            .collect();
        let files = config.files().0;
        let has_users: Vec<bool> = files.iter().map(|one| one.passwords.is_some()).collect();
        assert_eq!(asks, has_users);
        files
            .into_iter()
            .map(|one| (one.passwords, one.acl))
            .collect()
    };
    let of = |users: &str, rules: &str| {
        let name = |name: &str| (!name.is_empty()).then(|| name.to_string());
        (name(users), name(rules))
    };
    let two = "listener 1884\npassword_file u1\nacl_file r1\nlistener 1885\nacl_file r2\n";
    let own = format!("per_listener_settings true\n{two}");
    assert_eq!(files(&own, &[]), [of("u1", "r1"), of("", "r2")]);
    let flags = ["--password-file", "u3"];
    assert_eq!(files(&own, &flags), [of("u3", "r1"), of("u3", "r2")]);
    let all = "listener 1884\npassword_file u1\nlistener 1885\nacl_file r2\n";
    assert_eq!(files(all, &[]), [of("u1", "r2"), of("u1", "r2")]);
    // Before any listener: the default one.
    let before = "per_listener_settings true\npassword_file u0\nlistener 1885\n";
    assert_eq!(files(before, &[]), [of("u0", ""), of("", "")]);
    // Given twice.
    let twice = format!("{own}acl_file r3\n");
    let said = Files::main(twice).refused();
    let expected = "m.conf:7: acl_file r3: is given twice, first in m.conf:6";
    assert!(said.starts_with(expected), "{said}");
    // Who can connect is said of each.
    let (text, is_good) = Files::main(&own).tested(&[]);
    assert!(is_good, "{text}");
    for part in [
        "m.conf:2: listener 1884: every client can connect with a user name and its password from \
         u1",
        "m.conf:5: listener 1885: nobody can connect (",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn what_is_each_listeners_own_is_printed_so() {
    let text = "per_listener_settings true\nlistener 1884\npassword_file u1\nacl_file r1\n\
        allow_anonymous true\nlistener 1885\nacl_file r2\nauto_id_prefix b-\n\
        listener_clientid_prefixes c-\n";
    for flags in [&[][..], &["--acl-file", "r3", "--auto-id-prefix", "x-"]] {
        let (first, printed) = (Files::main(text), Files::main(text).printed(flags));
        assert!(
            printed.contains("# m.conf:1\nper_listener_settings true\n"),
            "{printed}"
        );
        let second = Files::main(&printed).read();
        let second = second.unwrap_or_else(|sentence| panic!("{sentence}\n{printed}"));
        let first = first.read_with(flags).unwrap();
        let files = |config: &midge::config::Config| {
            let files = config.files().0.into_iter();
            files
                .map(|one| (one.passwords, one.acl))
                .collect::<Vec<_>>()
        };
        assert_eq!(files(&first), files(&second), "{printed}");
        let listeners = |config: &midge::config::Config| {
            let all = config.broker.listeners.iter();
            let prefix = &config.broker.auto_id_prefix;
            let own = all.map(|one| {
                let prefix = one.auto_id_prefix.as_ref().unwrap_or(prefix);
                let asked = one.client_id_prefix.clone();
                (one.allow_anonymous, prefix.clone(), asked)
            });
            own.collect::<Vec<_>>()
        };
        assert_eq!(listeners(&first), listeners(&second), "{printed}");
    }
}

#[test]
fn flags_count_before_the_file_or_are_added_to_it() {
    let text = "max_qos 0\nmax_keepalive 10\nlog_type error\nlistener 1884\nmax_qos 1\n";
    let flags = [
        "--max-qos",
        "2",
        "--max-keepalive",
        "20",
        "--listener",
        "1885",
        "-p",
        "1886",
    ];
    let files = Files::main(text);
    let config = files.read_with(&flags).unwrap();
    let ports: Vec<u16> = config.listeners.iter().map(|one| one.port).collect();
    assert_eq!(ports, [1885, 1884], "-p is ignored, --listener is not");
    assert!(
        config
            .broker
            .listeners
            .iter()
            .all(|one| one.max_qos == QoS::ExactlyOnce)
    );
    assert_eq!(config.broker.max_keep_alive, 20);
    let (text, _) = files.tested(&flags);
    for line in [
        "--port 1886: ignored: the configuration file has listeners of its own",
        "m.conf:2: max_keepalive 10: ignored: --max-keepalive counts before it",
        "m.conf:5: max_qos 1: ignored: --max-qos counts before it",
        "m.conf:3: log_type error: honoured",
    ] {
        assert!(
            text.lines().any(|there| there == line),
            "no {line:?} in\n{text}"
        );
    }
    let config = Files::main("durable a=os\npersistence true\n");
    let config = config.read_with(&["--durable", "a=turn"]).unwrap();
    let durability = config.broker.durability.unwrap();
    assert_eq!(
        durability.by_topic[0],
        ("a".into(), 0),
        "the first one counts"
    );
}

#[test]
fn the_environment_counts_before_the_file_and_after_the_flag() {
    let mut files = Files::main("persistence true\npersistence_location /file\n");
    files.location = Some("/environment");
    assert_eq!(files.read().unwrap().persistence_location, "/environment");
    let (text, _) = files.tested(&[]);
    assert!(
        text.contains("ignored: MOSQUITTO_PERSISTENCE_LOCATION counts before it"),
        "{text}"
    );
    let config = files
        .read_with(&["--persistence-location", "/flag"])
        .unwrap();
    assert_eq!(config.persistence_location, "/flag");
    files.location = Some("");
    assert_eq!(files.read().unwrap().persistence_location, "/file");
}

#[test]
fn include_dir_reads_conf_files_by_the_order_of_their_bytes() {
    let files = Files::main("max_keepalive 1\ninclude_dir d\nlistener 1887\n")
        .with("d/b.conf", "max_keepalive 2\nlistener 1885\n")
        .with("d/Z.conf", "listener 1884\n")
        .with("d/a.conf.bak", "nonsense\n")
        .with("d/c.conf", "max_qos 1\n");
    let config = files.read().unwrap();
    let ports: Vec<u16> = config.listeners.iter().map(|one| one.port).collect();
    assert_eq!(ports, [1884, 1885, 1887]);
    assert_eq!(config.broker.max_keep_alive, 2, "the later line counts");
    assert_eq!(
        config.broker.listeners[1].max_qos,
        QoS::AtLeastOnce,
        "the listener goes on"
    );
    let wrong = files.with("d/d.conf", "\nnonsense\n").refused();
    assert!(
        wrong.starts_with("d/d.conf:2: nonsense: there is no such"),
        "{wrong}"
    );
}

#[test]
fn what_is_included_includes_nothing() {
    let files = Files::main("include_dir d\n").with("d/a.conf", "include_dir d\n");
    let wrong = files.refused();
    assert!(
        wrong.starts_with("d/a.conf:1: include_dir: works in the main file only"),
        "{wrong}"
    );
}

#[test]
fn root_becomes_the_user_of_the_file_and_nobody_else_does() {
    for (text, user) in [
        ("user nobody\n", Some("nobody")),
        ("user root\n", None),
        ("max_qos 1\n", Some("mosquitto")),
    ] {
        let config = Files::main(text).as_root().read().unwrap();
        assert_eq!(config.user_to_become(), user, "{text}");
        assert_eq!(config.notices(), [] as [String; 0]);
        let config = Files::main(text).read().unwrap();
        assert_eq!(config.user_to_become(), None, "{text}");
    }
    let notices = Files::main("user mosquitto\n").read().unwrap().notices();
    assert!(notices[0].contains("stays who it is"), "{notices:?}");
    let already = Files::main("user mosquitto\n").as_user("mosquitto");
    let config = already.read().unwrap();
    assert_eq!(config.user_to_become(), None);
    assert_eq!(config.notices(), [] as [String; 0]);
}

#[test]
fn files_that_are_no_configuration_are_refused_in_one_line() {
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let long = format!("persistence_location /{}\n", "x".repeat(70_000));
    let huge = vec![b'#'; (4 << 20) + 1];
    for (bytes, why) in [
        (&noise[..], "m.conf:"),
        (b"\x7fELF\x01\x01\0\0", "control characters"),
        (b"log_dest\0stdout\n", "control characters"),
        (b"pid_file a\0b\n", "control characters"),
        (b"pid_file \xff\n", "is not UTF-8"),
        (b"\xEF\xBB\xBFlistener 1883\n", "byte order mark"),
        (long.as_bytes(), "longer than 65535 bytes"),
        (&huge, "m.conf: is more than 4194304 bytes"),
    ] {
        let files = Files::main(bytes);
        let sentence = files.refused();
        assert!(
            sentence.contains(why) && sentence.len() < 1_000,
            "{sentence}"
        );
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
        let (text, is_good) = files.tested(&[]);
        assert!(!is_good && text.lines().count() < 30, "{text}");
    }
    // A line that is a comment may be as long as it likes.
    let comment = format!("#{}\nmax_qos 1\n", "x".repeat(1_000_000));
    assert!(Files::main(comment).read().is_ok());
    let listeners = "listener 1884\n".repeat(257);
    assert!(
        Files::main(listeners)
            .refused()
            .contains("m.conf:257: listener 1884: is one listener more")
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let sentence = Files::default().refused();
    assert!(
        sentence.starts_with("m.conf: cannot be read: "),
        "{sentence}"
    );
}

#[test]
fn what_is_included_counts_with_the_rest() {
    let half = format!("{}\n", "#".repeat(3 << 20));
    let files = Files::main("include_dir d\n")
        .with("d/a.conf", &half)
        .with("d/b.conf", &half);
    let wrong = files.refused();
    assert!(
        wrong.starts_with("d/b.conf: is more than 4194304 bytes, with what came"),
        "{wrong}"
    );
}
