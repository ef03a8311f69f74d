//! A PUBLISH that goes to many: encoded once for all who get the same bytes.
//!
//! They differ by version, QoS and RETAIN; the Packet Identifier is filled in. Whoever gets
//! properties of his own, an alias or a time that runs out, is not served from here.

use super::connection::Sending;
use super::message::Content;
use crate::packet::{PacketId, Publish, QoS, Version};

#[derive(Debug, Default)]
pub struct Template {
    made_for: Option<(Version, QoS, bool)>,
    bytes: Vec<u8>,
    packet_id_at: usize,
}

impl Template {
    /// Another message begins.
    pub fn clear(&mut self) {
        self.made_for = None;
    }

    /// Makes it fit, and says how long the packet is.
    pub fn fit(&mut self, version: Version, content: &Content, sending: Sending) -> usize {
        let wanted = Some((version, sending.qos, sending.retain));
        if self.made_for != wanted {
            self.made_for = wanted;
            let publish = Publish {
                dup: false,
                qos: sending.qos,
                retain: sending.retain,
                topic: content.topic.as_str(),
                packet_id: sending.packet_id,
                properties: content.properties,
                payload: content.payload,
            };
            self.bytes.clear();
            publish.encode(version, &mut self.bytes);
            self.packet_id_at = publish.packet_id_at(version);
        }
        self.bytes.len()
    }

    /// Appends the packet that it was made to fit.
    pub fn append(&self, packet_id: Option<PacketId>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(id) = packet_id {
            let at = start + self.packet_id_at;
            out[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
    }
}
