//! Clients: small and honest state machines of the MQTT client.
//!
//! They remember what they sent and was not acknowledged, send it again when their session is still
//! there, acknowledge what they get, and keep the ids of QoS 2 messages until they are released.

use std::collections::BTreeSet;

use midge::packet::{
    self, Ack, ConnAck, Packet, PacketId, PropertyBlock, PropertyId, Publish, QoS, ReasonCode,
    Version,
};

/// What a client subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ordinary subscriptions.
    Plain,
    /// Shared subscriptions only; before MQTT 5.0 a single one.
    Worker,
    /// Both.
    Mixed,
    /// Ordinary ones, and it sends malformed packets.
    Vandal,
}

pub struct Client {
    pub name: String,
    pub version: Version,
    pub role: Role,
    pub link: Option<usize>,
    /// The CONNACK was read.
    pub connected: bool,
    next_id: PacketId,
    /// Messages published so far.
    pub count: usize,
    unacknowledged: Vec<Outgoing>,
    received: BTreeSet<PacketId>,
    /// Whether acknowledgements are withheld.
    pub withholds: bool,
    withheld: Vec<(u8, PacketId)>,
    /// Does not read.
    pub stalls: bool,
    pub receive_maximum: usize,
    pub alias_max: u16,
    pub aliases: Vec<String>,
    /// Filter of its only shared subscription.
    pub share: Option<String>,
    /// It counts on its old session, and forgets it where the broker has none.
    pub resumes: bool,
}

/// A QoS 1 or 2 message on its way to the broker.
struct Outgoing {
    id: PacketId,
    qos: QoS,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    properties: PropertyBlock,
    /// PUBREL was sent.
    released: bool,
}

/// An answer to write.
pub enum Reply {
    Ack(u8, PacketId),
    Publish(Vec<u8>),
}

impl Client {
    pub fn new(name: String, version: Version, role: Role) -> Client {
        Client {
            name,
            version,
            role,
            link: None,
            connected: false,
            next_id: 0,
            count: 0,
            unacknowledged: Vec::new(),
            received: BTreeSet::new(),
            withholds: false,
            withheld: Vec::new(),
            stalls: false,
            receive_maximum: 20,
            alias_max: 0,
            aliases: Vec::new(),
            share: None,
            resumes: false,
        }
    }

    /// Its connection is over.
    pub fn disconnected(&mut self) {
        self.link = None;
        self.connected = false;
        self.withholds = false;
        self.stalls = false;
        self.withheld.clear();
        self.aliases.clear();
        self.alias_max = 0;
        self.receive_maximum = 20;
    }

    /// It begins a new session.
    pub fn forget(&mut self) {
        self.unacknowledged.clear();
        self.received.clear();
    }

    pub fn new_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id % 200 + 1;
            if !self.unacknowledged.iter().any(|one| one.id == self.next_id) {
                return self.next_id;
            }
        }
    }

    pub fn may_publish(&self) -> bool {
        self.unacknowledged.len() < self.receive_maximum.min(20)
    }

    /// Remembers a message that is about to be sent with QoS 1 or 2.
    pub fn keep(&mut self, publish: &Publish, topic: &str, properties: PropertyBlock) {
        self.unacknowledged.push(Outgoing {
            id: publish.packet_id.expect("QoS 1 and 2 have an id"),
            qos: publish.qos,
            topic: topic.to_string(),
            payload: publish.payload.to_vec(),
            retain: publish.retain,
            properties,
            released: false,
        });
    }

    pub fn has_unacknowledged(&self) -> bool {
        !self.unacknowledged.is_empty() || !self.withheld.is_empty()
    }

    /// Acknowledges what it has withheld.
    pub fn relent(&mut self) -> Vec<Reply> {
        self.withholds = false;
        let withheld = std::mem::take(&mut self.withheld);
        withheld
            .into_iter()
            .map(|(kind, id)| Reply::Ack(kind, id))
            .collect()
    }

    /// Reads one packet and says what to answer.
    pub fn read(&mut self, packet: &Packet) -> Vec<Reply> {
        match packet {
            Packet::ConnAck(connack) => self.read_connack(connack),
            Packet::Publish(publish) => {
                let Some(id) = publish.packet_id else {
                    return Vec::new();
                };
                if publish.qos == QoS::ExactlyOnce {
                    // Known or not, it is acknowledged; the application gets it once.
                    self.received.insert(id);
                }
                self.acknowledge(
                    if publish.qos == QoS::AtLeastOnce {
                        4
                    } else {
                        5
                    },
                    id,
                )
            }
            Packet::PubRel(ack) => {
                self.received.remove(&ack.packet_id);
                self.acknowledge(7, ack.packet_id)
            }
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                self.unacknowledged.retain(|one| one.id != ack.packet_id);
                Vec::new()
            }
            Packet::PubRec(ack) if ack.reason.is_error() => {
                self.unacknowledged.retain(|one| one.id != ack.packet_id);
                Vec::new()
            }
            Packet::PubRec(ack) => {
                for one in &mut self.unacknowledged {
                    one.released |= one.id == ack.packet_id;
                }
                vec![Reply::Ack(6, ack.packet_id)]
            }
            _ => Vec::new(),
        }
    }

    fn acknowledge(&mut self, kind: u8, id: PacketId) -> Vec<Reply> {
        if self.withholds {
            self.withheld.push((kind, id));
            return Vec::new();
        }
        vec![Reply::Ack(kind, id)]
    }

    fn read_connack(&mut self, connack: &ConnAck) -> Vec<Reply> {
        self.connected = connack.reason == ReasonCode::Success;
        let number = |id| connack.properties.number(id);
        if let Some(maximum) = number(PropertyId::ReceiveMaximum) {
            self.receive_maximum = maximum as usize;
        }
        self.alias_max = number(PropertyId::TopicAliasMaximum).unwrap_or(0) as u16;
        if !connack.session_present {
            if self.resumes {
                self.forget();
            }
            return Vec::new();
        }
        let mut replies = Vec::new();
        for one in &mut self.unacknowledged {
            if one.released {
                replies.push(Reply::Ack(6, one.id));
                continue;
            }
            // Another payload, which no broker may mind, lets the two be told apart.
            self.count += 1;
            one.payload = format!("{} {} again", self.name, self.count).into_bytes();
            let mut bytes = Vec::new();
            Publish {
                dup: true,
                qos: one.qos,
                retain: one.retain,
                topic: &one.topic,
                packet_id: Some(one.id),
                properties: one.properties.as_properties(),
                payload: &one.payload,
            }
            .encode(self.version, &mut bytes);
            replies.push(Reply::Publish(bytes));
        }
        replies
    }
}

/// The packet for an acknowledgement of that packet type.
pub fn acknowledgement(kind: u8, id: PacketId) -> Packet<'static> {
    let ack = Ack::new(id, ReasonCode::Success);
    match kind {
        4 => Packet::PubAck(ack),
        5 => Packet::PubRec(ack),
        6 => Packet::PubRel(ack),
        7 => Packet::PubComp(ack),
        _ => unreachable!("no acknowledgement"),
    }
}

/// The first packet in `bytes`, if it is whole.
pub fn first_packet(bytes: &[u8], version: Version) -> Option<(Packet<'_>, usize)> {
    packet::decode(bytes, version, usize::MAX).expect("the model has seen it before")
}
