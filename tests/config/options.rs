//! Every row of the table: a value that works, one that does not, and where it says it comes from.

use std::collections::BTreeSet;

use midge::config::rows;
use midge::packet::QoS;

use crate::Files;

/// Option, a value that works, one that does not and why. Options of true or false need no line.
const VALUES: &[(&str, &str, &str, &str)] = &[
    ("listener", "1884 127.0.0.1", "0", "a port from 1 to 65535"),
    ("port", "1884", "70000", "from 1 to 65535"),
    ("bind_address", "127.0.0.1", "a b", "one address"),
    ("max_connections", "10", "-2", "from -1"),
    ("global_max_connections", "10", "ten", "whole number"),
    ("global_max_clients", "10", "-2", "from -1"),
    ("max_subscriptions", "10", "0", "from 1"),
    ("takeover_interval", "60", "3601", "to 3600"),
    ("max_keepalive", "60", "65536", "to 65535"),
    ("max_packet_size", "0x100", "19", "from 20"),
    ("message_size_limit", "100", "-1", "from 0"),
    ("max_inflight_messages", "010", "08", "whole number"),
    ("max_inflight_bytes", "100", "x", "whole number"),
    ("max_queued_messages", "1000", "1 000", "\"000\" behind"),
    ("max_queued_bytes", "1000", "1k", "whole number"),
    ("queue_overflow", "drop-oldest", "drop", "drop-newest or"),
    ("max_outbound_bytes", "2048", "1", "from 1024"),
    ("receive_maximum", "10", "0", "from 1"),
    ("max_qos", "1", "3", "from 0 to 2"),
    ("max_retained_messages", "10", "-1", "from 0"),
    ("max_retained_bytes", "10", "-1", "from 0"),
    ("max_topic_alias", "5", "65536", "to 65535"),
    ("max_topic_alias_broker", "5", "-1", "from 0"),
    (
        "accept_protocol_versions",
        "4, 5",
        "4,6",
        "some of 3, 4 and 5",
    ),
    ("socket_domain", "ipv4", "ipv5", "ipv4 or ipv6"),
    ("bind_interface", "eth0", "eth0/1", "such as eth0"),
    ("enable_proxy_protocol", "2", "3", "from 0 to 2"),
    ("socket_owner", "mosquitto", "a:b", "one name"),
    ("socket_group", "1000", "a b", "one name"),
    ("socket_mode", "0660", "rw", "octal digits"),
    (
        "mount_point",
        "garden/",
        "garden/#",
        "the beginning of topics",
    ),
    ("protocol", "mqtt", "websockets", "not there yet"),
    ("clientid_prefixes", "box-", "", "needs a value"),
    ("persistent_client_expiration", "14d", "14", "such as 14d"),
    ("auto_id_prefix", "box-", LONG, "50 characters"),
    ("listener_auto_id_prefix", "box-", LONG, "50 characters"),
    ("listener_clientid_prefixes", "box-", "", "needs a value"),
    ("persistence_location", "/var/lib/x/", "", "needs a value"),
    ("durability", "100", "soon", "turn, os, or"),
    ("durable", "a/#=os", "a/#", "FILTER=turn"),
    ("sys_interval", "60", "-1", "from 0"),
    (
        "log_dest",
        "file /var/log/x",
        "printer",
        "stderr, stdout, none",
    ),
    ("log_type", "debug", "fatal", "one of error"),
    ("log_timestamp_format", "%F %T", "%Q", "cannot write %Q"),
    ("pid_file", "/run/x.pid", "", "needs a value"),
    ("password_file", "/etc/x/users", "", "needs a value"),
    ("acl_file", "/etc/x/rules", "", "needs a value"),
    ("include_dir", "d", "nowhere", "cannot be listed"),
    ("user", "mosquitto", "two names", "the name of a user"),
    ("autosave_interval", "1800", "-1", "from 0"),
    ("persistence_file", "mosquitto.db", "", "needs a value"),
    ("memory_limit", "1000000", "1M", "whole number"),
    ("retain_expiry_interval", "5", "x", "whole number"),
    ("log_facility", "3", "8", "from 0 to 7"),
    ("log_format", "json", "xml", "must be text or json"),
    ("websockets_log_level", "255", "", "needs a value"),
    ("websockets_headers_size", "4096", "", "needs a value"),
    ("retry_interval", "20", "", "needs a value"),
    ("dhparamfile", "/etc/dh.pem", "", "needs a value"),
    ("store_clean_interval", "10", "", "needs a value"),
];
const LONG: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// What must be there for a setting to do anything.
fn before(option: &str) -> &'static str {
    match option {
        "durability" | "durable" => "persistence true\n",
        "socket_owner" | "socket_group" | "socket_mode" => "listener 0 /run/m.sock\n",
        _ => "\n",
    }
}

fn file(option: &str, value: &str) -> Files {
    let text = format!("{}{option} {value}\n", before(option));
    Files::main(text).with("d/a.conf", "max_qos 1\n")
}

fn values(option: &str, hint: &str) -> (&'static str, &'static str, &'static str) {
    if hint == "true|false" {
        return ("true", "yes", "true or false");
    }
    let row = VALUES.iter().find(|row| row.0 == option);
    let (_, good, bad, why) = row.unwrap_or_else(|| panic!("{option} needs a line here"));
    (good, bad, why)
}

#[test]
fn every_option_takes_what_is_right_and_says_what_is_wrong() {
    for row in rows().iter().filter(|row| row.status != "missing") {
        let Some(option) = &row.option else {
            continue;
        };
        let (good, bad, why) = values(option, &row.hint);
        let (text, is_good) = file(option, good).tested(&[]);
        assert!(is_good, "{text}");
        let line = text.lines().find(|line| line.starts_with("m.conf:2: "));
        let line = line.unwrap_or_else(|| panic!("{option} is not told of: {text}"));
        assert!(
            line.starts_with(&format!("m.conf:2: {option} {good}: ")),
            "{line}"
        );
        // `user` is honoured by root only.
        if option != "user" {
            assert!(line.contains(row.status), "{line}");
        }
        let file = file(option, bad);
        let sentence = file.refused();
        assert!(
            sentence.starts_with(&format!("m.conf:2: {option}")),
            "{sentence}"
        );
        assert!(sentence.contains(why), "{sentence}");
        let (text, is_good) = file.tested(&[]);
        assert!(!is_good && text.contains(&sentence), "{text}");
        assert!(text.ends_with("midge would not start.\n"), "{text}");
    }
}

#[test]
fn what_is_not_there_yet_stops_the_start_unless_it_is_off() {
    for row in rows().iter().filter(|row| row.status == "missing") {
        let option = row.option.clone().expect("it is no flag");
        let option = option.replace('*', "x");
        let wanted = match row.hint.as_str() {
            "true|false" => "true",
            _ => "1",
        };
        let sentence = file(&option, wanted).refused();
        assert!(
            sentence.starts_with(&format!("m.conf:2: {option}")),
            "{sentence}"
        );
        assert!(sentence.contains(row.what), "{sentence}");
        if !row.default.is_empty() {
            let (text, is_good) = file(&option, row.default).tested(&[]);
            assert!(is_good, "{text}");
        }
    }
}

#[test]
fn every_setting_that_was_given_is_printed_with_its_origin() {
    for row in rows().iter().filter(|row| row.status == "honoured") {
        let Some(option) = &row.option else {
            continue;
        };
        let (good, ..) = values(option, &row.hint);
        let printed = file(option, good).printed(&[]);
        // These are said in other words.
        let expected = match option.as_str() {
            "include_dir" => "# d/a.conf:1\nmax_qos 1\n".to_string(),
            "per_listener_settings" => continue,
            "listener" => format!("# m.conf:2: listener {good}\nlistener {good}\n"),
            "port" => "# m.conf:2: port 1884\nlistener 1884\n".to_string(),
            "bind_address" => "listener 1883 127.0.0.1\n".to_string(),
            "listener_allow_anonymous" => "# its own\nlistener_allow_anonymous true\n".to_string(),
            "listener_auto_id_prefix" => "listener_auto_id_prefix box-\n".to_string(),
            // As it was read.
            "max_packet_size" => "# m.conf:2\nmax_packet_size 0x100\n".to_string(),
            _ => format!("# m.conf:2\n{option} {good}\n"),
        };
        assert!(
            printed.contains(&expected),
            "{option}: no {expected:?} in\n{printed}"
        );
    }
}

#[test]
fn what_is_printed_reads_the_same_again() {
    let text = "allow_anonymous true\nmax_keepalive 010\nlistener 1884\nmax_qos 1\n\
        listener 1885 127.0.0.1\nlistener_allow_anonymous false\nlog_type error\n\
        listener 0 /run/m.sock\nsocket_mode 600\nbind_interface lo\n";
    let flags = [
        "--max-connections",
        "007",
        "--durable",
        "a=os",
        "--persistence",
        "-v",
    ];
    let (first, printed) = (Files::main(text), Files::main(text).printed(&flags));
    let second = Files::main(&printed);
    let settings = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(ToString::to_string).collect()
    };
    assert_eq!(settings(&second.printed(&[])), settings(&printed));
    let (first, second) = (first.read_with(&flags).unwrap(), second.read().unwrap());
    assert_eq!(
        format!("{:?}", second.broker),
        format!("{:?}", first.broker)
    );
    assert_eq!(second.broker.max_keep_alive, 8);
    assert!(
        second
            .broker
            .listeners
            .iter()
            .all(|one| one.connections_max == 7)
    );
    assert!(
        printed.contains("# --max-connections\nmax_connections 7\n"),
        "{printed}"
    );
}

#[test]
fn old_names_are_other_names_for_the_same() {
    let config = Files::main("retained_persistence true\nmaximum_qos 1\n")
        .read()
        .unwrap();
    assert!(config.persistence);
    assert_eq!(config.broker.listeners[0].max_qos, QoS::AtLeastOnce);
    for (name, why) in [("username", "bridges"), ("addresses", "bridges")] {
        let sentence = Files::main(format!("{name} x\n")).refused();
        assert!(
            sentence.contains(name) && sentence.contains(why),
            "{sentence}"
        );
    }
    let twice = "retained_persistence true\npersistence_location a\npersistence_location b\n";
    assert!(
        Files::main(twice)
            .refused()
            .contains("given twice, first in m.conf:2")
    );
}

/// What Mosquitto 2.1 knows, by every name; `*` for anything.
const MOSQUITTO: &str = "\
    accept_protocol_versions acl_file address addresses allow_anonymous \
    allow_duplicate_messages allow_zero_length_clientid auth_opt_* auth_plugin \
    auth_plugin_deny_special_chars auto_id_prefix autosave_interval autosave_on_changes \
    bind_address bind_interface bridge_alpn bridge_attempt_unsubscribe bridge_bind_address \
    bridge_cafile bridge_capath bridge_certfile bridge_ciphers bridge_ciphers_tls1.3 \
    bridge_identity bridge_insecure bridge_keyfile bridge_max_packet_size \
    bridge_max_topic_alias bridge_outgoing_retain bridge_protocol_version bridge_psk \
    bridge_receive_maximum bridge_reload_type bridge_require_ocsp \
    bridge_session_expiry_interval bridge_tcp_keepalive bridge_tcp_user_timeout \
    bridge_tls_use_os_certs bridge_tls_version cafile capath certfile check_retain_source \
    ciphers ciphers_tls1.3 cleansession clientid clientid_prefixes connection \
    connection_messages crlfile dhparamfile disable_client_cert_date_checks enable_control_api \
    enable_proxy_protocol global_max_clients global_max_connections global_plugin http_dir \
    idle_timeout include_dir keepalive_interval keyfile listener listener_allow_anonymous \
    listener_auto_id_prefix local_cleansession local_clientid local_password local_username \
    log_dest log_facility log_timestamp log_timestamp_format log_type max_connections \
    max_inflight_bytes max_inflight_messages max_keepalive max_packet_size max_qos \
    max_queued_bytes max_queued_messages max_topic_alias max_topic_alias_broker maximum_qos \
    memory_limit message_size_limit mount_point notification_topic notifications \
    notifications_local_only packet_buffer_size password password_file per_listener_settings \
    persistence persistence_file persistence_location persistent_client_expiration pid_file \
    plugin plugin_load plugin_opt_* plugin_use port protocol proxy_protocol_v2_require_tls \
    psk_file psk_hint queue_qos0_messages remote_clientid remote_password remote_username \
    require_certificate restart_timeout retain_available retain_expiry_interval \
    retained_persistence retry_interval round_robin set_tcp_nodelay socket_domain start_type \
    store_clean_interval sys_interval threshold tls_engine tls_engine_kpass_sha1 tls_keyform \
    tls_version topic try_private upgrade_outgoing_qos use_identity_as_username \
    use_subject_as_username use_username_as_clientid user username websockets_headers_size \
    websockets_log_level websockets_origin";

#[test]
fn every_option_of_mosquitto_has_a_row() {
    let rows = rows();
    let aliases = rows.iter().flat_map(|row| row.aliases.clone());
    let known: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.option.as_deref())
        .chain(aliases)
        .collect();
    for option in MOSQUITTO.split_whitespace() {
        assert!(known.contains(option), "{option}");
    }
}

#[test]
fn no_line_of_the_test_is_for_an_option_that_is_not_there() {
    let options: BTreeSet<String> = rows().into_iter().filter_map(|row| row.option).collect();
    for (option, ..) in VALUES {
        assert!(options.contains(*option), "{option}");
    }
}

#[test]
fn secrets_are_not_repeated() {
    for option in [
        "remote_password",
        "bridge_psk",
        "auth_opt_password",
        "password",
    ] {
        let files = Files::main(format!("connection a\n{option} hunter2\n"));
        let (text, is_good) = files.tested(&[]);
        assert!(!is_good && text.contains(option), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            !Files::main(format!("{option} hunter2\n"))
                .refused()
                .contains("hunter2")
        );
    }
}
