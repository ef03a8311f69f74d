//! The seeds: what a fuzzer begins with. Well-formed packets of every type in every version, short
//! stories of clients, one command line for each flag, ACL files with questions, and PROXY headers.

use midge::config;
use midge::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Properties, PropertyBlock, PropertyId,
    Publish, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Unsubscribe,
    Version, Will,
};

use crate::broker::grammar as g;
use crate::broker::{ADVANCE, ANSWER, BURST, END_TURN, LINE, PACKET, RAW, READ, step};

const VERSIONS: [(Version, &str); 3] = [
    (Version::V31, "3.1"),
    (Version::V311, "3.1.1"),
    (Version::V5, "5.0"),
];

/// Name, and file and questions, see `acl.rs`.
const ACL_FILES: &[(&str, &str)] = &[
    (
        "mosquitto",
        "# comment\ntopic read a/#\nuser alice\ntopic readwrite +/b\ntopic deny a/b\n\
         topic read $SYS/#\npattern write %c/%u\n\0\
         r\n\nc\na/x\0w\nalice\nc\nx/b\0r\nalice\nc\na/b\0\
         w\nalice\nc\nc/alice\0r\nalice\n+\nx\0r\nalice\nc\n$SYS/x",
    ),
    (
        "beyond",
        "group g\nmember u\nmember 10.1.1.1\ntopic subscribe a/+\naddress 10.0.0.0/8 fd00::/8\n\
         topic read a\naddress any\npattern subscribe %u/#\0s\nu\nc\na/b\0s\nu\nc\n#\0\
         s\nu\nc\nu/#\0r\n10.1.1.1\nc\na\0s\nu\nc\n$share/g/a/+",
    ),
    ("wrong", "topic a\n  # indented"),
    ("tabs", "topic\tread\ta\r\n"),
    ("range", "address 10.0.0.1/8"),
];

/// Name, and the version that is expected with what comes, see `proxy.rs`.
const PROXY_HEADERS: &[(&str, &[u8])] = &[
    (
        "tcp4",
        b"\0PROXY TCP4 203.0.113.7 10.0.0.1 5000 1883\r\n\x10\x0e\0\x04MQTT",
    ),
    ("tcp6", b"\0PROXY TCP6 2001:db8::7 ::1 65535 1883\r\n"),
    (
        "unknown",
        b"\0PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
    ),
    ("other", b"\0\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
    (
        "v2-tcp4",
        b"\x01\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x13\x88\x07\x5b",
    ),
    ("v2-local", b"\x01\r\n\r\n\0\r\nQUIT\n\x20\0\0\x03\x04\0\0"),
    ("v2-long", b"\x01\r\n\r\n\0\r\nQUIT\n\x21\x31\xff\xff"),
];

/// Target, name, contents.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (index, (version, name)) in VERSIONS.into_iter().enumerate() {
        // One file for each direction: the decoder reads a stream.
        for (direction, packets) in [("to-server", requests as Make), ("to-client", answers)] {
            let mut bytes = vec![index as u8 | 0x0C];
            with_properties(version, |properties| {
                for packet in packets(version, properties) {
                    packet.encode(version, &mut bytes);
                }
            });
            seeds.push(("decode", format!("{direction}-{name}"), bytes));
        }
    }
    seeds.extend(stories().map(|(name, steps)| {
        let mut bytes = vec![0; 6];
        bytes.extend(steps.concat());
        ("broker", name.to_string(), bytes)
    }));
    seeds.push(("broker", "users".to_string(), users()));
    seeds.extend(
        ACL_FILES
            .iter()
            .map(|(name, text)| ("acl", name.to_string(), text.as_bytes().to_vec())),
    );
    let headers = PROXY_HEADERS.iter();
    seeds.extend(headers.map(|(name, bytes)| ("proxy", name.to_string(), bytes.to_vec())));
    seeds.extend(command_lines().map(|(name, line)| ("flags", name, line.into_bytes())));
    seeds.extend(files().map(|(name, text)| ("config", name.to_string(), text.into_bytes())));
    let passwords = |(name, text): (&str, String)| ("passwords", name.to_string(), text.into());
    seeds.extend(password_files().map(passwords));
    seeds
}

/// Clients whose user names need their passwords; what is said behind a CONNECT waits with it.
fn users() -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 0, 0x80];
    let say = |client, packet: &[u8]| [&[step(client, PACKET, 0)], packet].concat();
    for round in 0..2 {
        for client in 0..4 {
            // User name and password are in the bits 8 and 16.
            bytes.extend(say(client, &[g::CONNECT | 0x40, 0x18 | client]));
            bytes.extend(say(client, &[g::SUBSCRIBE, 1, 6, 1]));
        }
        bytes.push(step(0, END_TURN, 0));
        bytes.extend(say(1, &[g::PINGREQ]));
        // One leaves while it waits; then all are answered.
        bytes.push(step(2, LINE, 0));
        bytes.push(step(0, ADVANCE, round));
        (0..4).for_each(|client| bytes.push(step(client, READ, 7)));
    }
    bytes
}

/// As `mosquitto_passwd` writes them, and what is wrong with others.
fn password_files() -> impl Iterator<Item = (&'static str, String)> {
    let salt = "CQkJCQkJCQkJCQkJ";
    // 64 bytes of 0, as a salt too.
    let hash = format!("{}==", "A".repeat(86));
    let end = format!("${salt}${hash}\n");
    [
        (
            "good",
            format!("# users\na:$6{end}\n\nb:$7$101{end}c:$7$1000${hash}${hash}\n"),
        ),
        ("plain", "a:secret!and~plain\nb:another@one\n".to_string()),
        (
            "argon2id",
            "a:$argon2id$v=19$m=47104,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g\n".to_string(),
        ),
        (
            "faults",
            format!(
                ":$6{end}d:$6{end}d:$6{end}e:$7$0{end}f:$7$9999999{end}g:$6$AAAA${hash}\n\
                 h:$6${salt}$AAAA\ni:$8$x\nj:$7$1$${hash}\n"
            ),
        ),
    ]
    .into_iter()
}

type Make = for<'a> fn(Version, [Properties<'a>; 4]) -> Vec<Packet<'a>>;

/// Blocks for CONNECT, a Will or a message, a subscription, and an answer; empty before 5.0.
fn with_properties(version: Version, say: impl FnOnce([Properties; 4])) {
    if version != Version::V5 {
        return say([Properties::NONE; 4]);
    }
    let mut blocks = [(); 4].map(|()| PropertyBlock::new());
    let [connect, message, subscription, answer] = &mut blocks;
    connect
        .number(PropertyId::SessionExpiryInterval, 10)
        .number(PropertyId::ReceiveMaximum, 20)
        .number(PropertyId::MaximumPacketSize, 65_536)
        .number(PropertyId::TopicAliasMaximum, 10)
        .pair("k", "v");
    message
        .number(PropertyId::PayloadFormatIndicator, 1)
        .number(PropertyId::MessageExpiryInterval, 60)
        .text(PropertyId::ContentType, "t")
        .text(PropertyId::ResponseTopic, "r")
        .binary(PropertyId::CorrelationData, b"c");
    subscription.number(PropertyId::SubscriptionIdentifier, 300);
    answer.text(PropertyId::ReasonString, "why").pair("k", "v");
    let [connect, message, subscription, answer] = &blocks;
    say([connect, message, subscription, answer].map(PropertyBlock::as_properties));
}

fn requests<'a>(version: Version, properties: [Properties<'a>; 4]) -> Vec<Packet<'a>> {
    let [connect, message, subscription, answer] = properties;
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: message,
        topic: "w",
        payload: b"bye",
    };
    let connect = Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive: 60,
        properties: connect,
        client_id: "id",
        will: Some(will),
        user_name: Some("user"),
        password: Some(b"secret"),
    };
    let mut options = SubscriptionOptions::new(QoS::ExactlyOnce);
    if version == Version::V5 {
        options.no_local = true;
        options.retain_handling = RetainHandling::SendIfNew;
    }
    let plain = SubscriptionOptions::new(QoS::AtMostOnce);
    let subscribe = Subscribe {
        packet_id: 1,
        properties: subscription,
        filters: vec![("a/+/#", options), ("$share/g/b", plain)],
    };
    let unsubscribe = Unsubscribe {
        packet_id: 2,
        properties: Properties::NONE,
        filters: vec!["a/+/#", "b"],
    };
    let mut packets = vec![
        Packet::Connect(connect),
        Packet::Subscribe(subscribe),
        Packet::Unsubscribe(unsubscribe),
        Packet::PingReq,
    ];
    packets.extend(messages(message));
    packets.extend(acknowledgements(version, answer));
    if version == Version::V5 {
        let mut method = PropertyBlock::new();
        method.text(PropertyId::AuthenticationMethod, "m");
        let properties = Properties::trusted(method.as_properties().as_bytes().to_vec().leak());
        let reason = ReasonCode::ReAuthenticate;
        packets.push(Packet::Auth(Auth { reason, properties }));
    }
    let (reason, properties) = (ReasonCode::Success, Properties::NONE);
    packets.push(Packet::Disconnect(Disconnect { reason, properties }));
    packets
}

fn answers<'a>(version: Version, properties: [Properties<'a>; 4]) -> Vec<Packet<'a>> {
    let [_, message, _, answer] = properties;
    let connack = ConnAck {
        session_present: version != Version::V31,
        reason: ReasonCode::Success,
        properties: answer,
    };
    let suback = SubAck {
        packet_id: 1,
        properties: answer,
        reasons: vec![
            ReasonCode::Success,
            ReasonCode::GrantedQoS2,
            ReasonCode::UnspecifiedError,
        ],
    };
    let unsuback = SubAck {
        packet_id: 2,
        properties: answer,
        reasons: match version {
            Version::V5 => vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted],
            Version::V31 | Version::V311 => vec![],
        },
    };
    let mut packets = vec![
        Packet::ConnAck(connack),
        Packet::SubAck(suback),
        Packet::UnsubAck(unsuback),
        Packet::PingResp,
    ];
    packets.extend(messages(message));
    packets.extend(acknowledgements(version, answer));
    if version == Version::V5 {
        let (reason, properties) = (ReasonCode::SessionTakenOver, answer);
        packets.push(Packet::Disconnect(Disconnect { reason, properties }));
    }
    packets
}

fn messages<'a>(properties: Properties<'a>) -> impl Iterator<Item = Packet<'a>> {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .map(move |qos| {
            Packet::Publish(Publish {
                dup: qos > QoS::AtMostOnce,
                qos,
                retain: true,
                topic: "a/b",
                packet_id: (qos > QoS::AtMostOnce).then_some(7),
                properties,
                payload: b"hi",
            })
        })
}

fn acknowledgements<'a>(
    version: Version,
    properties: Properties<'a>,
) -> impl Iterator<Item = Packet<'a>> {
    let make: [fn(Ack<'a>) -> Packet<'a>; 4] = [
        Packet::PubAck,
        Packet::PubRec,
        Packet::PubRel,
        Packet::PubComp,
    ];
    make.into_iter().flat_map(move |make| {
        let plain = Ack::new(7, ReasonCode::Success);
        let explained = (version == Version::V5).then(|| {
            make(Ack {
                properties,
                ..plain
            })
        });
        [make(plain)].into_iter().chain(explained)
    })
}

/// Programs for the broker target.
fn stories() -> impl Iterator<Item = (&'static str, Vec<Vec<u8>>)> {
    let line = |client, kind| vec![step(client, LINE, kind)];
    let verb = |client, verb, argument| vec![step(client, verb, argument)];
    let say = |client, packet: &[u8]| [&[step(client, PACKET, 0)], packet].concat();
    let burst = |client, packet: &[u8]| [&[step(client, BURST, 7)], packet].concat();
    let subscribe = |filter, qos| vec![g::SUBSCRIBE, 1, filter, qos];
    // The topic a/b and ten bytes or so; QoS and RETAIN are in the variant.
    let publish = |variant: u8| match variant & 3 {
        0 => vec![g::PUBLISH | variant << 4, 0x21],
        _ => vec![g::PUBLISH | variant << 4, 0x21, 1],
    };
    let publish_5 = |variant: u8, properties| [publish(variant), vec![properties]].concat();
    let all_read = || {
        (0..4)
            .flat_map(|client| [step(client, READ, 7)])
            .collect::<Vec<u8>>()
    };
    let answers = || {
        (0..4)
            .flat_map(|client| [step(client, ANSWER, 7)])
            .collect::<Vec<u8>>()
    };
    [
        (
            "every-qos",
            vec![
                [line(0, 2), line(1, 4), line(2, 5), line(3, 7)].concat(),
                [
                    say(1, &subscribe(6, 2)),
                    say(2, &subscribe(6, 2)),
                    say(3, &subscribe(4, 1)),
                ]
                .concat(),
                [
                    burst(0, &publish(0)),
                    burst(0, &publish(1)),
                    burst(0, &publish(2)),
                ]
                .concat(),
                [
                    answers(),
                    verb(0, END_TURN, 0),
                    all_read(),
                    answers(),
                    answers(),
                ]
                .concat(),
            ],
        ),
        (
            "session-kept",
            vec![
                [line(0, 2), say(0, &subscribe(4, 2)), line(0, 0), line(1, 5)].concat(),
                [
                    burst(1, &publish_5(1, 0)),
                    burst(1, &publish_5(2, 0x24)),
                    answers(),
                ]
                .concat(),
                [
                    line(0, 2),
                    answers(),
                    line(0, 0),
                    line(0, 2),
                    answers(),
                    answers(),
                ]
                .concat(),
            ],
        ),
        (
            "resumed-with-less",
            vec![
                [line(0, 4), say(0, &subscribe(6, 2)), line(1, 2)].concat(),
                [burst(1, &publish(2)), verb(0, END_TURN, 0), line(0, 5)].concat(),
                [verb(0, READ, 7), answers(), answers(), answers()].concat(),
            ],
        ),
        (
            "shared",
            vec![
                [line(0, 4), line(1, 4), line(2, 5), line(3, 2)].concat(),
                [
                    say(0, &subscribe(17, 1)),
                    say(1, &subscribe(17, 2)),
                    say(2, &subscribe(17, 1)),
                ]
                .concat(),
                [burst(3, &publish(1)), burst(3, &publish(2)), line(2, 0)].concat(),
                [
                    answers(),
                    all_read(),
                    say(0, &[g::UNSUBSCRIBE, 9, 17]),
                    line(1, 4),
                ]
                .concat(),
            ],
        ),
        (
            "retained-and-will",
            vec![
                [
                    line(0, 2),
                    line(2, 6),
                    say(0, &publish(5)),
                    say(0, &publish(4)),
                ]
                .concat(),
                [
                    line(1, 4),
                    say(1, &subscribe(4, 1)),
                    line(2, 0),
                    verb(2, ADVANCE, 4),
                ]
                .concat(),
                [all_read(), answers(), say(1, &[g::DISCONNECT | 0x10])].concat(),
            ],
        ),
        (
            "sys-and-silence",
            vec![
                [
                    line(0, 2),
                    say(0, &subscribe(22, 1)),
                    verb(0, ADVANCE, 4),
                    answers(),
                ]
                .concat(),
                say(1, &[g::CONNECT | 0x10, 0x81, 0]),
                [
                    say(1, &[g::PINGREQ]),
                    say(1, &[g::AUTH]),
                    verb(0, ADVANCE, 5),
                ]
                .concat(),
                [
                    say(2, &[g::CONNECT, 2]),
                    say(2, &[g::FROM_SERVER]),
                    verb(0, END_TURN, 7),
                ]
                .concat(),
            ],
        ),
        (
            "too-large",
            vec![
                // These take no more than 13 and 60 bytes.
                say(0, &[g::CONNECT | 0x50, 0, 0x10]),
                [&[step(0, PACKET, 0), g::SUBSCRIBE | 0x30, 1], &[0; 28][..]].concat(),
                say(1, &[g::CONNECT | 0x50, 1, 0x20]),
                [say(1, &subscribe(4, 0)), line(2, 3)].concat(),
                (50..56)
                    .flat_map(|length| say(2, &[g::PUBLISH, 0x61, length]))
                    .collect(),
            ],
        ),
        (
            "raw",
            vec![
                vec![step(0, RAW, 0), 15],
                b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a".to_vec(),
                vec![
                    step(0, RAW, 0),
                    9,
                    0x30,
                    0x03,
                    0,
                    1,
                    b'a',
                    0xC0,
                    0,
                    0x30,
                    0x83,
                ],
                vec![step(0, RAW, 0), 5, 0x00, 0, 1, b'b', b'x'],
                say(0, &[g::PUBACK, 2]),
                say(0, &[g::PUBREC, 2]),
                say(0, &[g::PUBREL, 2]),
                say(0, &[g::PUBCOMP, 2]),
            ],
        ),
    ]
    .into_iter()
}

/// Each flag with a value that it takes, and some with one that it does not.
fn command_lines() -> impl Iterator<Item = (String, String)> {
    let all: Vec<String> = config::names()
        .map(|name| format!("--{name}\n10"))
        .collect();
    [
        ("numbers", all.join("\0")),
        (
            "alone",
            "-p\n1884\n-v\n--retain-available\n-q\n-d\n--allow-anonymous".to_string(),
        ),
        ("values", VALUES.join("\n")),
        ("help", "--help".to_string()),
        ("version", "--version".to_string()),
        ("unknown", "--no-such-flag\n-x\nfree".to_string()),
    ]
    .into_iter()
    .map(|(name, line)| (name.to_string(), line))
}

/// Configuration files, NULs between them.
fn files() -> impl Iterator<Item = (&'static str, String)> {
    let options = config::rows()
        .into_iter()
        .filter_map(|row| Some((row.option?, row.default)));
    let every: Vec<String> = options
        .map(|(option, default)| match default {
            "" => format!("{option} 1"),
            default => format!("{option} {default}"),
        })
        .collect();
    [
        ("every", every.join("\n")),
        ("listeners", LISTENERS.to_string()),
        (
            "before",
            "max_connections 3\nmax_qos 0x1\nallow_anonymous true\n".to_string(),
        ),
        ("include", INCLUDE.to_string()),
    ]
    .into_iter()
}

const LISTENERS: &str = "per_listener_settings true\nlistener 1884 # a\nallow_anonymous true\n\
    max_topic_alias 20\nlistener 1885 127.0.0.1\nmaximum_qos 01\nsocket_domain ipv4\n\
    accept_protocol_versions 4,\t5\npassword_file a\nacl_file b\nport 1886\n\
    listener_auto_id_prefix x\n";
const INCLUDE: &str = "# main\r\ninclude_dir /x\r\nlog_type error\n\
    \0user root\nlog_dest syslog\n\0include_dir /y\n # a\nlistener\t1\n\0pid_file a\npid_file b\n";

const VALUES: [&str; 18] = [
    "--listener=1883 ::1",
    "--listener",
    "1884",
    "--max-packet-size=1000",
    "--max-outbound-bytes=1024",
    "--max-qos=1",
    "--queue-overflow",
    "drop-oldest",
    "--persistent-client-expiration",
    "14d",
    "--auto-id-prefix=x",
    "--log-dest",
    "file /tmp/log",
    "--log-type=subscribe",
    "--log-type=error",
    "--log-timestamp-format=%F %T %j%%",
    "--set-tcp-nodelay",
    "false",
];
