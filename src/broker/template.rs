//! A PUBLISH that goes to many: encoded once for all who get the same bytes.
//!
//! They differ by version, QoS and RETAIN; the Packet Identifier is filled in. Whoever gets
//! properties of his own, an alias or a time that runs out, or sees topics by other names, is not
//! served from here.

use super::connection::Sending;
use super::message::Content;
use crate::packet::{PacketId, PublishHead, QoS, Version};

/// The largest buffer that is kept for the next message.
const SPARE_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct Template {
    /// Of those, only so many are of the present message.
    encoded: Vec<Encoded>,
    count: usize,
}

/// What all get who are sent it in the same way.
#[derive(Debug)]
pub struct Encoded {
    way: (Version, QoS, bool),
    bytes: Vec<u8>,
    packet_id_at: usize,
}

impl Template {
    /// Another message begins.
    pub fn clear(&mut self) {
        self.count = 0;
        let is_spare = |one: &Encoded| one.bytes.capacity() <= SPARE_BYTES;
        self.encoded.retain(is_spare);
    }

    /// The packet for a client of that version, but for its Packet Identifier.
    pub fn fit(&mut self, version: Version, content: &Content, sending: Sending) -> &Encoded {
        let way = (version, sending.qos, sending.retain);
        let mut made = self.encoded[..self.count].iter();
        let at = match made.position(|one| one.way == way) {
            Some(at) => at,
            None => self.encode(way, content, sending),
        };
        &self.encoded[at]
    }

    fn encode(&mut self, way: (Version, QoS, bool), content: &Content, sending: Sending) -> usize {
        let head = PublishHead {
            dup: false,
            qos: sending.qos,
            retain: sending.retain,
            topic: content.topic.as_bytes(),
            packet_id: sending.packet_id,
            properties: content.properties,
            payload_len: content.payload.len(),
        };
        let at = self.count;
        if at == self.encoded.len() {
            let (bytes, packet_id_at) = (Vec::new(), 0);
            self.encoded.push(Encoded {
                way,
                bytes,
                packet_id_at,
            });
        }
        let encoded = &mut self.encoded[at];
        encoded.way = way;
        encoded.bytes.clear();
        head.encode(way.0, &mut encoded.bytes);
        encoded.bytes.extend_from_slice(content.payload);
        encoded.packet_id_at = head.packet_id_at(way.0);
        self.count += 1;
        at
    }
}

impl Encoded {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn append(&self, packet_id: Option<PacketId>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(id) = packet_id {
            let at = start + self.packet_id_at;
            out[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
    }
}
