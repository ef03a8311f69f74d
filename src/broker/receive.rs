//! From bytes to packets, and from packets to what they do; what cannot be accepted ends the
//! connection here.

use std::time::Instant;

use log::warn;

use super::connection::Phase;
use super::deadlines::Millis;
use super::ending::End;
use super::limits::Limits;
use super::verify::Vouched;
use super::{Broker, ConnectionId, connect};
use crate::packet::{self, Packet, PacketType, Refusal, Version};

impl Broker {
    /// The peer said this. What is not a whole packet yet is kept.
    pub fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Instant) {
        let phase = self.connections[id].phase;
        if phase == Phase::Closing {
            return;
        }
        let now = self.millis(now);
        self.connections.counters.bytes_received += bytes.len() as u64;
        match phase {
            Phase::AwaitVerdict(_) => self.hold(id, bytes, now),
            Phase::AwaitConnect | Phase::Connected(_) | Phase::Closing => {
                self.take_in(id, bytes, now);
            }
        }
    }

    /// Whether what the peer says counts now.
    fn counts(&self, id: ConnectionId) -> bool {
        match self.connections[id].phase {
            Phase::AwaitConnect | Phase::Connected(_) => true,
            Phase::AwaitVerdict(_) | Phase::Closing => false,
        }
    }

    pub(super) fn waits(&self, id: ConnectionId) -> bool {
        matches!(self.connections[id].phase, Phase::AwaitVerdict(_))
    }

    pub(super) fn take_in(&mut self, id: ConnectionId, bytes: &[u8], now: Millis) {
        let mut leftover = std::mem::take(&mut self.connections[id].leftover);
        let mut rest = bytes;
        if !leftover.is_empty() {
            rest = self.complete(id, &mut leftover, rest);
            if self.receive_packet(id, &leftover, now) == 0 {
                // Still not whole, or not acceptable.
                if !self.is_closing(id) {
                    self.connections[id].leftover = leftover;
                }
                return;
            }
        }
        while !rest.is_empty() && self.counts(id) {
            match self.receive_packet(id, rest, now) {
                0 => break,
                length => rest = &rest[length..],
            }
        }
        if !rest.is_empty() && self.waits(id) {
            self.hold(id, rest, now);
        } else if !rest.is_empty() && !self.is_closing(id) {
            self.connections[id].leftover = rest.to_vec();
        }
    }

    /// Adds of `bytes` to `leftover` what its packet is short of; returns what remains.
    fn complete<'b>(&self, id: ConnectionId, leftover: &mut Vec<u8>, bytes: &'b [u8]) -> &'b [u8] {
        let mut rest = bytes;
        loop {
            let version = self.connections[id].version;
            let wanted = match packet::FixedHeader::parse(leftover, version) {
                Ok(Some(header)) if header.packet_len > self.packet_bytes_max(id) => 0,
                Ok(Some(header)) => header.packet_len - leftover.len(),
                Ok(None) => 1,
                Err(_) => 0,
            };
            if wanted == 0 || rest.is_empty() {
                return rest;
            }
            let (taken, left) = rest.split_at(wanted.min(rest.len()));
            leftover.extend_from_slice(taken);
            rest = left;
        }
    }

    /// Handles the packet that `bytes` start with and returns its length; 0 where it is not whole
    /// or not acceptable.
    fn receive_packet(&mut self, id: ConnectionId, bytes: &[u8], now: Millis) -> usize {
        let connection = &self.connections[id];
        let awaits_connect = connection.phase == Phase::AwaitConnect;
        let is_connect = bytes[0] >> 4 == PacketType::Connect as u8;
        if awaits_connect && (!is_connect || connect::looks_like_tls(bytes)) {
            // [MQTT-3.1.0-1]
            let refusal = Refusal::protocol(connect::what_it_looks_like(bytes));
            let (address, why) = (&connection.peer, refusal.why);
            warn!(address:% = address; "Peer {address} refused: {why}.");
            self.refuse(id, refusal, now);
            return 0;
        }
        let refusal = match packet::decode(bytes, connection.version, self.packet_bytes_max(id)) {
            Ok(None) => return 0,
            Ok(Some((packet, length))) => {
                let result = self.on_packet(id, packet, now);
                if result.is_err() || self.connections[id].speechless {
                    self.settle(id, result, now);
                    return 0;
                }
                if awaits_connect && self.waits(id) {
                    self.hold(id, &bytes[..length], now);
                }
                return length;
            }
            Err(refusal) if awaits_connect => {
                let (address, why) = (&connection.peer, refusal.why);
                warn!(address:% = address; "Peer {address} refused: {why}.");
                if let Some(version) = packet::answer_version(bytes) {
                    self.connections[id].version = version;
                }
                refusal
            }
            // Whatever is wrong with it: its own reason codes are not for DISCONNECT.
            Err(_) if is_connect => second_connect(),
            Err(refusal) => refusal,
        };
        self.refuse(id, refusal, now);
        0
    }

    /// What came of a packet: `false` if it ends the connection.
    pub(super) fn settle(
        &mut self,
        id: ConnectionId,
        result: Result<(), Refusal>,
        now: Millis,
    ) -> bool {
        let refusal = match result {
            Ok(()) if self.connections[id].speechless => connect::cannot_answer(),
            Ok(()) => return true,
            Err(refusal) => refusal,
        };
        self.refuse(id, refusal, now);
        false
    }

    pub(super) fn packet_bytes_max(&self, id: ConnectionId) -> usize {
        match self.connections[id].phase {
            Phase::AwaitConnect | Phase::AwaitVerdict(_) => Limits::CONNECT_PACKET_BYTES_MAX,
            Phase::Connected(_) | Phase::Closing => {
                self.connections[id].granted.packet_bytes_max as usize
            }
        }
    }

    fn on_packet(
        &mut self,
        id: ConnectionId,
        packet: Packet<'_>,
        now: Millis,
    ) -> Result<(), Refusal> {
        self.connections.counters.packet_in(packet.packet_type());
        let connection = &mut self.connections[id];
        connection.last_packet = now;
        let session = match connection.phase {
            Phase::Connected(session) => session,
            Phase::AwaitConnect => match packet {
                Packet::Connect(connect) => return self.on_connect(id, connect, Vouched::No, now),
                _ => return Err(Refusal::protocol("the first packet must be CONNECT")),
            },
            Phase::AwaitVerdict(_) | Phase::Closing => return Ok(()),
        };
        match packet {
            Packet::Publish(publish) => self.on_publish(id, session, publish, now),
            Packet::PubAck(ack) => self.on_puback(session, ack, now),
            Packet::PubRec(ack) => self.on_pubrec(id, session, ack, now),
            Packet::PubRel(ack) => {
                self.on_pubrel(id, session, ack);
                Ok(())
            }
            Packet::PubComp(ack) => self.on_pubcomp(session, ack, now),
            Packet::Subscribe(subscribe) => self.on_subscribe(id, session, subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, session, unsubscribe, now),
            Packet::PingReq => {
                // [MQTT-3.12.4-1]
                self.connections.send(id, &Packet::PingResp);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(id, session, disconnect, now),
            Packet::Connect(_) => Err(second_connect()),
            // No method is configured, so none was agreed on [MQTT-4.12.0-7].
            Packet::Auth(_) => Err(Refusal::protocol("AUTH without an authentication method")),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(Refusal::protocol("a packet that only a server sends"))
            }
        }
    }

    /// Says why, in the form the client understands, and ends the connection.
    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: Refusal, now: Millis) {
        let connection = &self.connections[id];
        if connection.phase == Phase::Closing {
            return;
        }
        let Refusal { code, why } = refusal;
        match (connection.phase, connection.version) {
            // [MQTT-3.14.0-1] no DISCONNECT before the CONNACK.
            (Phase::AwaitConnect | Phase::AwaitVerdict(_), version) => {
                self.connections.counters.refused += 1;
                if version == Version::V5 || code.connect_return_code().is_some() {
                    self.send_connack_refusal(id, refusal);
                }
            }
            (Phase::Connected(_), Version::V5) => {
                self.connections.send_reason(id, why, |properties| {
                    Packet::Disconnect(packet::Disconnect {
                        reason: code,
                        properties,
                    })
                });
            }
            (Phase::Connected(_) | Phase::Closing, _) => {}
        }
        self.end_connection(id, End::Refused(refusal), now);
    }
}

/// [MQTT-3.1.0-2]
fn second_connect() -> Refusal {
    Refusal::protocol("a second CONNECT")
}
