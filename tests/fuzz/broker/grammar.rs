//! Packets from a few bytes: what hostile clients say is mostly well-formed, or they would not get
//! far. One byte picks the packet (low half) and its variant (high half), those that follow fill it
//! in from small tables, so that ids, topics and filters of different clients meet.

use midge::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PropertyBlock, PropertyId, Publish, QoS,
    ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Unsubscribe, Version, Will,
};

/// What is left of the input; zeros behind its end.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// One of four, by the two bits of `byte` from `shift` on.
pub fn pick<T: Copy>(byte: u8, shift: u8, from: [T; 4]) -> T {
    from[usize::from(byte >> shift & 3)]
}

/// The low half of a packet's first byte; anything else is a PUBLISH.
pub const CONNECT: u8 = 0;
pub const PUBLISH: u8 = 1;
pub const SUBSCRIBE: u8 = 4;
pub const UNSUBSCRIBE: u8 = 6;
pub const PUBACK: u8 = 7;
pub const PUBREC: u8 = 8;
pub const PUBREL: u8 = 9;
pub const PUBCOMP: u8 = 10;
pub const PINGREQ: u8 = 11;
pub const DISCONNECT: u8 = 12;
pub const AUTH: u8 = 13;
pub const FROM_SERVER: u8 = 14;

const CLIENT_IDS: [&str; 8] = [
    "a",
    "b",
    "c",
    "d",
    "",
    "e\u{1b}[1m",
    text(&[b'x'; 1_025]),
    "\u{feff}g",
];
/// One level more than there may be.
const DEEP: &str = text(&[b'/'; 128]);
const KEEP_ALIVES: [u16; 8] = [0, 0, 0, 1, 10, 60, 600, u16::MAX];
const TOPICS: [&str; 16] = [
    "a",
    "a/b",
    "a/b/c",
    "b",
    "/",
    "a/",
    "$SYS/broker/uptime",
    "$SYS/broker/connection/x/state",
    "$share/g/a",
    "a/+",
    "",
    "a\nb",
    "é",
    "$x/y",
    "b/c",
    DEEP,
];
const FILTERS: [&str; 32] = [
    "a",
    "a/b",
    "a/b/c",
    "b",
    "#",
    "+",
    "a/#",
    "a/+",
    "+/b",
    "+/+",
    "+/#",
    "/+",
    "b/#",
    "+/+/c",
    "a/+/c",
    "a/b/#",
    "$share/g/a",
    "$share/g/#",
    "$share/h/#",
    "$share/g/a/+",
    "$share/h/+/b",
    DEEP,
    "$SYS/#",
    "$SYS/broker/clients/#",
    "$SYS/broker/uptime",
    "$SYS/+/connection/+/state",
    "$share/g/$SYS/#",
    "$x/#",
    "",
    "a/#/b",
    "$share/g",
    "+a",
];
const PAYLOAD_BYTES: [usize; 6] = [0, 1, 3, 40, 1_100, 4_200];
/// Filters of one SUBSCRIBE or UNSUBSCRIBE: so many that its answer is too large for some.
const FILTER_COUNTS: [u8; 4] = [1, 2, 3, 14];
const FILLER: [u8; 4_200] = [b'x'; 4_200];

const fn text(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("not a text"),
    }
}

/// Reads one packet off the input and writes it as `version` has it; a CONNECT has its own. `again`
/// is how often the same was said before: Packet Identifiers are counted up by it.
pub fn packet(input: &mut Input, version: Version, again: u16, out: &mut Vec<u8>) {
    let first = input.u8();
    let variant = first >> 4;
    match first & 0x0F {
        CONNECT => connect(input, variant, out),
        SUBSCRIBE | 5 => subscribe(input, variant, version, again, out),
        UNSUBSCRIBE => unsubscribe(input, variant, version, again, out),
        PUBACK => acknowledge(input, variant, version, again, Packet::PubAck, out),
        PUBREC => acknowledge(input, variant, version, again, Packet::PubRec, out),
        PUBREL => acknowledge(input, variant, version, again, Packet::PubRel, out),
        PUBCOMP => acknowledge(input, variant, version, again, Packet::PubComp, out),
        PINGREQ => Packet::PingReq.encode(version, out),
        DISCONNECT => disconnect(input, variant, version, out),
        AUTH => auth(variant, version, out),
        FROM_SERVER => from_server(variant, version, out),
        _ => publish(input, variant, version, again, out),
    }
}

fn connect(input: &mut Input, variant: u8, out: &mut Vec<u8>) {
    let versions = [Version::V311, Version::V5, Version::V31, Version::V5];
    let version = versions[usize::from(variant & 3)];
    let who = input.u8();
    let mut block = PropertyBlock::new();
    if version == Version::V5 {
        connect_properties(input, &mut block);
        if variant & 3 == 3 && who >> 5 == 7 {
            block.text(PropertyId::AuthenticationMethod, "m");
        }
    }
    let mut will_block = PropertyBlock::new();
    let will = (variant & 8 != 0).then(|| will(input, version, &mut will_block));
    let user_name = (who & 8 != 0).then_some("user\r\n");
    let may_have_password = version == Version::V5 || user_name.is_some();
    let connect = Connect {
        version,
        bridge: version != Version::V5 && who >> 5 == 7,
        clean_start: variant & 4 != 0,
        keep_alive: KEEP_ALIVES[usize::from(who >> 5)],
        properties: block.as_properties(),
        client_id: CLIENT_IDS[usize::from(who & 7)],
        will,
        user_name,
        password: (who & 16 != 0 && may_have_password).then_some(b"secret"),
    };
    Packet::Connect(connect).encode(version, out);
}

fn connect_properties(input: &mut Input, block: &mut PropertyBlock) {
    let what = input.u8();
    let mut number = |id, number: Option<u32>| {
        if let Some(number) = number {
            block.number(id, number);
        }
    };
    let expiry = pick(what, 0, [None, Some(5), Some(100), Some(u32::MAX)]);
    number(PropertyId::SessionExpiryInterval, expiry);
    let receive_maximum = pick(what, 2, [None, Some(1), Some(2), Some(20)]);
    number(PropertyId::ReceiveMaximum, receive_maximum);
    let packet_bytes_max = pick(what, 4, [None, Some(13), Some(60), Some(1_000)]);
    number(PropertyId::MaximumPacketSize, packet_bytes_max);
    number(
        PropertyId::TopicAliasMaximum,
        (what & 0x40 != 0).then_some(2),
    );
    number(
        PropertyId::RequestProblemInformation,
        (what & 0x80 != 0).then_some(0),
    );
}

fn will<'a>(input: &mut Input, version: Version, block: &'a mut PropertyBlock) -> Will<'a> {
    let what = input.u8();
    if version == Version::V5 {
        let more = input.u8();
        if more & 1 != 0 {
            block.number(PropertyId::WillDelayInterval, u32::from(more >> 4));
        }
        if more & 2 != 0 {
            block.number(PropertyId::MessageExpiryInterval, u32::from(more >> 4));
        }
        if more & 4 != 0 {
            block.pair("k", "v");
        }
    }
    let length = pick(what, 6, [0, 2, 50, 4_200]);
    Will {
        qos: pick(
            what,
            4,
            [
                QoS::AtMostOnce,
                QoS::AtLeastOnce,
                QoS::ExactlyOnce,
                QoS::AtMostOnce,
            ],
        ),
        retain: what & 8 != 0,
        properties: block.as_properties(),
        topic: TOPICS[usize::from(what & 7)],
        payload: &FILLER[..length],
    }
}

fn publish(input: &mut Input, variant: u8, version: Version, again: u16, out: &mut Vec<u8>) {
    let what = input.u8();
    let qos = [
        QoS::AtMostOnce,
        QoS::AtLeastOnce,
        QoS::ExactlyOnce,
        QoS::AtMostOnce,
    ];
    let qos = qos[usize::from(variant & 3)];
    let packet_id = (qos > QoS::AtMostOnce).then(|| u16::from(input.u8()).wrapping_add(again));
    let mut topic = TOPICS[usize::from(what & 15)];
    let mut block = PropertyBlock::new();
    if version == Version::V5 {
        let more = input.u8();
        publish_properties(more, &mut block);
        // An alias alone.
        if more & 0x44 == 0x44 {
            topic = "";
        }
    }
    let size = what >> 4 & 7;
    let payload = match PAYLOAD_BYTES.get(usize::from(size)) {
        Some(length) => &FILLER[..*length],
        None => {
            let length = usize::from(input.u8());
            match size {
                6 => &FILLER[..length],
                _ => input.take(length),
            }
        }
    };
    let publish = Publish {
        dup: variant & 8 != 0 && qos > QoS::AtMostOnce,
        qos,
        retain: variant & 4 != 0,
        topic,
        packet_id,
        properties: block.as_properties(),
        payload,
    };
    Packet::Publish(publish).encode(version, out);
}

fn publish_properties(what: u8, block: &mut PropertyBlock) {
    if what & 1 != 0 {
        block.number(PropertyId::MessageExpiryInterval, 2);
    }
    if what & 2 != 0 {
        block.number(PropertyId::PayloadFormatIndicator, 1);
    }
    match what & 0x44 {
        0 => {}
        // Which only a server may send.
        0x40 => _ = block.number(PropertyId::SubscriptionIdentifier, 1),
        _ => _ = block.number(PropertyId::TopicAlias, u32::from(what >> 3 & 3)),
    }
    if what & 0x20 != 0 {
        block
            .text(PropertyId::ResponseTopic, "a/b")
            .binary(PropertyId::CorrelationData, b"\0");
    }
    if what & 0x80 != 0 {
        block.pair("k", "v").text(PropertyId::ContentType, "t");
    }
}

fn subscribe(input: &mut Input, variant: u8, version: Version, again: u16, out: &mut Vec<u8>) {
    let packet_id = u16::from(input.u8()).wrapping_add(again);
    let mut block = PropertyBlock::new();
    if variant & 4 != 0 {
        block.number(PropertyId::SubscriptionIdentifier, u32::from(variant) * 40);
    }
    if variant & 8 != 0 {
        block.pair("k", "v");
    }
    let filters = (0..pick(variant, 0, FILTER_COUNTS)).map(|_| {
        let filter = FILTERS[usize::from(input.u8() & 31)];
        (filter, options(input.u8(), version))
    });
    let filters = filters.collect();
    let properties = block.as_properties();
    let subscribe = Subscribe {
        packet_id,
        properties,
        filters,
    };
    Packet::Subscribe(subscribe).encode(version, out);
}

fn options(byte: u8, version: Version) -> SubscriptionOptions {
    let qos = [
        QoS::AtMostOnce,
        QoS::AtLeastOnce,
        QoS::ExactlyOnce,
        QoS::ExactlyOnce,
    ];
    let plain = SubscriptionOptions::new(qos[usize::from(byte & 3)]);
    if version != Version::V5 {
        return plain;
    }
    let handling = [
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ];
    SubscriptionOptions {
        no_local: byte & 4 != 0,
        retain_as_published: byte & 8 != 0,
        retain_handling: handling[usize::from(byte >> 4 & 3) % 3],
        ..plain
    }
}

fn unsubscribe(input: &mut Input, variant: u8, version: Version, again: u16, out: &mut Vec<u8>) {
    let packet_id = u16::from(input.u8()).wrapping_add(again);
    let filters =
        (0..pick(variant, 0, FILTER_COUNTS)).map(|_| FILTERS[usize::from(input.u8() & 31)]);
    let unsubscribe = Unsubscribe {
        packet_id,
        properties: Default::default(),
        filters: filters.collect(),
    };
    Packet::Unsubscribe(unsubscribe).encode(version, out);
}

fn acknowledge(
    input: &mut Input,
    variant: u8,
    version: Version,
    again: u16,
    make: fn(Ack<'static>) -> Packet<'static>,
    out: &mut Vec<u8>,
) {
    let packet_id = u16::from(input.u8()).wrapping_add(again);
    // What table 2-6 does not allow in this packet is part of the game.
    let reasons = [
        ReasonCode::Success,
        ReasonCode::QuotaExceeded,
        ReasonCode::PacketIdentifierNotFound,
    ];
    let reason = reasons.get(usize::from(variant)).copied();
    make(Ack::new(packet_id, reason.unwrap_or(ReasonCode::Success))).encode(version, out);
}

fn disconnect(input: &mut Input, variant: u8, version: Version, out: &mut Vec<u8>) {
    let reasons = [
        ReasonCode::Success,
        ReasonCode::DisconnectWithWill,
        ReasonCode::ProtocolError,
    ];
    let reason = reasons.get(usize::from(variant & 3)).copied();
    let mut block = PropertyBlock::new();
    if variant & 4 != 0 {
        block.number(PropertyId::SessionExpiryInterval, u32::from(input.u8()));
    }
    let disconnect = Disconnect {
        reason: reason.unwrap_or(ReasonCode::Success),
        properties: block.as_properties(),
    };
    Packet::Disconnect(disconnect).encode(version, out);
}

fn auth(variant: u8, version: Version, out: &mut Vec<u8>) {
    let mut block = PropertyBlock::new();
    if variant & 1 != 0 {
        block.text(PropertyId::AuthenticationMethod, "m");
    }
    let (reason, properties) = (ReasonCode::ReAuthenticate, block.as_properties());
    Packet::Auth(Auth { reason, properties }).encode(version, out);
}

fn from_server(variant: u8, version: Version, out: &mut Vec<u8>) {
    let suback = SubAck {
        packet_id: 1,
        properties: Default::default(),
        reasons: vec![ReasonCode::Success],
    };
    let connack = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: Default::default(),
    };
    let packet = match variant & 3 {
        0 => Packet::ConnAck(connack),
        1 => Packet::SubAck(suback),
        2 => Packet::UnsubAck(suback),
        _ => Packet::PingResp,
    };
    packet.encode(version, out);
}
