//! One connection as its client's end sees it: whatever it has said, what it is told must be
//! well-formed in the version that it speaks, come in an order that a server may choose, and stay
//! within the limits of both sides.

use std::collections::VecDeque;
use std::io::IoSlice;

use midge::broker::limits::Options;
use midge::broker::{Broker, ConnectionId};
use midge::packet::{
    self, Ack, ConnAck, Packet, PropertyId, Publish, QoS, ReasonCode, TopicName, Version,
};

/// Beyond what is owed at the end of a turn: answers to a byte said within the turn.
const ANSWER_BYTES_PER_BYTE: usize = 64;
/// Slices looked at first, and where those are not enough.
const SLICES: usize = 8;
const SLICES_MAX: usize = 16_384;

/// What the server promises to all.
pub struct Rules {
    max_qos: QoS,
    outbound_bytes_hard: usize,
    topic_alias_max: u16,
}

impl Rules {
    pub fn new(options: &Options) -> Rules {
        Rules {
            max_qos: options.max_qos,
            outbound_bytes_hard: options.limits.outbound_bytes_hard(),
            topic_alias_max: options.limits.topic_alias_max_broker,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was sent to it.
    Silent,
    /// CONNACK with success was.
    Greeted,
    /// The last packet was.
    Over,
}

pub struct Peer {
    pub id: ConnectionId,
    /// Bytes that are to be said before all others: the rest of a packet.
    pub pending: Vec<u8>,
    /// What a well-behaved client would say now.
    pub to_answer: VecDeque<Packet<'static>>,
    /// Bytes the broker has for it.
    pub owed: usize,
    pub grew_in_turn: bool,
    /// What it said until it was first answered.
    said: Vec<u8>,
    said_in_turn: usize,
    /// What it was owed when the turn began.
    owed_before: usize,
    phase: Phase,
    version: Option<Version>,
    packet_bytes_max: usize,
    topic_alias_max: u16,
    aliases: Vec<u32>,
    /// Packets as they come out of the broker.
    new: Vec<u8>,
}

impl Peer {
    pub fn new(id: ConnectionId) -> Peer {
        Peer {
            id,
            pending: Vec::new(),
            to_answer: VecDeque::new(),
            owed: 0,
            grew_in_turn: false,
            said: Vec::new(),
            said_in_turn: 0,
            owed_before: 0,
            phase: Phase::Silent,
            version: None,
            packet_bytes_max: usize::MAX,
            topic_alias_max: 0,
            aliases: Vec::new(),
            new: Vec::new(),
        }
    }

    /// What its CONNECT has named; before, what the broker assumes.
    pub fn version(&self) -> Version {
        self.version.unwrap_or(Version::V311)
    }

    pub fn said(&mut self, bytes: &[u8]) {
        self.said_in_turn += bytes.len();
        if self.phase == Phase::Silent {
            self.said.extend_from_slice(bytes);
            self.version = packet::answer_version(&self.said);
        }
    }

    /// Perhaps: then what it has said while it waited is answered in this turn.
    pub fn is_verified(&mut self) {
        if self.phase == Phase::Silent {
            self.said_in_turn = self.said_in_turn.max(self.said.len());
        }
    }

    /// Reads what was added to what it is owed; `false` where nothing was.
    pub fn look(&mut self, broker: &Broker, rules: &Rules) -> bool {
        let mut few = [IoSlice::new(&[]); SLICES];
        let used = broker.outbound(self.id, &mut few);
        if used < SLICES {
            self.copy_new(&few[..used]);
        } else {
            let mut many = vec![IoSlice::new(&[]); SLICES_MAX];
            let used = broker.outbound(self.id, &mut many);
            assert!(used < SLICES_MAX, "too many pieces to look at");
            self.copy_new(&many[..used]);
        }
        let new = std::mem::take(&mut self.new);
        let mut rest = &new[..];
        while !rest.is_empty() {
            let decoded = packet::decode(rest, self.version(), usize::MAX);
            let (packet, length) = decoded
                .expect("the broker sends well-formed packets")
                .expect("the broker sends whole packets");
            self.on_packet(&packet, rules);
            assert!(
                length <= self.packet_bytes_max,
                "more than the client takes"
            );
            rest = &rest[length..];
        }
        let grew = !new.is_empty();
        self.new = new;
        self.new.clear();
        grew
    }

    fn copy_new(&mut self, slices: &[IoSlice]) {
        let owed: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(owed >= self.owed, "bytes owed have vanished");
        let mut known = self.owed;
        for slice in slices {
            let from = known.min(slice.len());
            self.new.extend_from_slice(&slice[from..]);
            known -= from;
        }
        self.owed = owed;
    }

    fn on_packet(&mut self, packet: &Packet, rules: &Rules) {
        assert!(
            self.phase != Phase::Over,
            "{packet:?} behind the last packet"
        );
        if self.phase == Phase::Silent {
            let Packet::ConnAck(connack) = packet else {
                panic!("{packet:?} before CONNACK");
            };
            return self.on_connack(connack);
        }
        match packet {
            Packet::Publish(publish) => self.on_publish(publish, rules),
            Packet::PubRec(ack) if !ack.reason.is_error() => {
                self.to_answer.push_back(Packet::PubRel(answer(ack)));
            }
            Packet::PubRel(ack) => self.to_answer.push_back(Packet::PubComp(answer(ack))),
            Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_) => {}
            Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {}
            Packet::Disconnect(disconnect) => {
                // [MQTT-3.14.0-1] and what a server has no reason to say.
                assert_eq!(self.version(), Version::V5, "DISCONNECT before MQTT 5.0");
                assert!(disconnect.reason.is_error());
                // It does not read what it is sent: it must be owed that much.
                let slow = disconnect.reason == ReasonCode::QuotaExceeded;
                assert!(!slow || self.owed > rules.outbound_bytes_hard);
                self.phase = Phase::Over;
            }
            Packet::ConnAck(_) => panic!("a second CONNACK"),
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Auth(_) => panic!("{packet:?} from a server"),
        }
    }

    /// The version and the limits of the client are those of what it said first.
    fn on_connack(&mut self, connack: &ConnAck) {
        let said = std::mem::take(&mut self.said);
        let connect = packet::decode(&said, Version::V311, usize::MAX);
        if let Ok(Some((Packet::Connect(connect), _))) = &connect {
            let number = |id| connect.properties.number(id);
            if let Some(bytes) = number(PropertyId::MaximumPacketSize) {
                self.packet_bytes_max = bytes as usize;
            }
            let aliases = number(PropertyId::TopicAliasMaximum).unwrap_or(0);
            self.topic_alias_max = aliases as u16;
        }
        self.phase = match connack.reason {
            ReasonCode::Success => {
                assert!(
                    matches!(connect, Ok(Some((Packet::Connect(_), _)))),
                    "let in by mistake"
                );
                Phase::Greeted
            }
            // [MQTT-3.2.2-6]
            _ => {
                assert!(!connack.session_present, "refused with a session");
                Phase::Over
            }
        };
    }

    fn on_publish(&mut self, publish: &Publish, rules: &Rules) {
        assert!(publish.qos <= rules.max_qos, "a better QoS than there is");
        let alias = publish.properties.number(PropertyId::TopicAlias);
        if let Some(alias) = alias {
            let most = self.topic_alias_max.min(rules.topic_alias_max);
            assert!(
                (1..=u32::from(most)).contains(&alias),
                "alias {alias} of {most}"
            );
        }
        match alias {
            Some(alias) if publish.topic.is_empty() => {
                assert!(
                    self.aliases.contains(&alias),
                    "an alias that stands for nothing"
                );
            }
            _ => {
                TopicName::parse(publish.topic).expect("a message has a topic");
                self.aliases.extend(alias);
            }
        }
        let answer = publish
            .packet_id
            .map(|id| Ack::new(id, ReasonCode::Success));
        match (publish.qos, answer) {
            (QoS::AtLeastOnce, Some(ack)) => self.to_answer.push_back(Packet::PubAck(ack)),
            (QoS::ExactlyOnce, Some(ack)) => self.to_answer.push_back(Packet::PubRec(ack)),
            (QoS::AtMostOnce | QoS::AtLeastOnce | QoS::ExactlyOnce, _) => {}
        }
    }

    /// What a turn has done to it.
    pub fn end_turn(&mut self, grew: bool, flushed: bool, closed: bool, rules: &Rules) {
        let grew = std::mem::take(&mut self.grew_in_turn) | grew;
        assert!(
            flushed || !grew,
            "owed more than before and not in the flush list"
        );
        let hard = rules.outbound_bytes_hard;
        assert!(
            closed || self.owed <= hard,
            "owed {} of {hard} bytes",
            self.owed
        );
        let said = std::mem::take(&mut self.said_in_turn);
        let most = hard + 1_000 + said * ANSWER_BYTES_PER_BYTE;
        assert!(
            self.owed <= most,
            "owed {} bytes after it said {said}",
            self.owed
        );
        // Nobody else can have it disconnected for not reading.
        let before = std::mem::replace(&mut self.owed_before, self.owed);
        assert!(
            said + before > 0 || self.owed <= hard,
            "it had no time to read what others had sent to it"
        );
    }
}

fn answer(ack: &Ack) -> Ack<'static> {
    Ack::new(ack.packet_id, ReasonCode::Success)
}
