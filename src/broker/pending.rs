//! Messages on their way to one client: those that wait, and those that are in flight.
//!
//! QoS 1 and 2 messages wait in `queue`, then stand in `inflight` until they are acknowledged.
//! Invariants: `inflight` is in the order of first sending, its first `sent` entries have been
//! sent on the present connection, and `sent` entries never exceed the Receive Maximum.

use std::collections::VecDeque;

pub use super::delivery::{Delivery, Origin};
use super::limits::Limits;
use super::queue::Queue;
use super::shelf::{Sequence, Shelf};
use crate::packet::{PacketId, QoS};

/// A message that was sent and is not done with.
#[derive(Debug)]
pub struct Inflight {
    pub packet_id: PacketId,
    sequence: u64,
    pub state: InflightState,
}

#[derive(Debug)]
pub enum InflightState {
    /// PUBLISH sent: PUBACK or PUBREC is to come.
    Published(Delivery),
    /// PUBREL sent: PUBCOMP is to come.
    Released,
}

/// What an acknowledgement was for.
#[derive(Debug)]
pub enum Acked {
    /// It completes that step. The message, if it was kept, is done with.
    Done(Sequence),
    /// No such message is in flight.
    Unknown,
    /// The message is at another step of its delivery.
    OutOfStep,
}

/// Memory of its own, which a client that only gets QoS 0 does not need.
#[derive(Debug, Default)]
pub struct Pending {
    inflight: VecDeque<Inflight>,
    inflight_bytes: usize,
    sent: usize,
    /// Counts what was ever sent with a Packet Identifier.
    sequence: u64,
    queue: Queue,
    queue_bytes: usize,
    /// Behind the queue; empty but for a durable session.
    pub shelf: Shelf,
    /// Of the last message that was kept.
    last_kept: Sequence,
    /// Up to this place, what waits with QoS 1 may have been sent before the broker was started.
    doubtful: Sequence,
    /// Messages are being dropped; logged once per episode.
    pub dropping: bool,
}

impl Pending {
    /// Nothing.
    pub const NONE: &Pending = &Pending {
        inflight: VecDeque::new(),
        inflight_bytes: 0,
        sent: 0,
        sequence: 0,
        queue: Queue::new(),
        queue_bytes: 0,
        shelf: Shelf::new(),
        last_kept: 0,
        doubtful: 0,
        dropping: false,
    };

    // ---- in flight ----------------------------------------------------------------------------

    /// Whether a new QoS 1 or 2 message of `bytes` may be sent now.
    pub fn window_is_open(&self, bytes: usize, receive_maximum: u16, limits: &Limits) -> bool {
        // What an earlier connection left unacknowledged comes first.
        self.sent == self.inflight.len()
            // [MQTT-3.3.4-9]
            && self.sent < usize::from(receive_maximum)
            && (self.inflight.is_empty()
                || self.inflight_bytes.saturating_add(bytes) <= limits.inflight_bytes_max)
    }

    /// Takes a Packet Identifier that is not in use [MQTT-2.2.1-4]; the window must be open.
    pub fn next_packet_id(&mut self) -> PacketId {
        loop {
            self.sequence += 1;
            let id = (self.sequence % u64::from(PacketId::MAX)) as PacketId + 1;
            if !self.is_in_use(id) {
                return id;
            }
        }
    }

    /// Of the message whose Packet Identifier was taken last, among all that were sent.
    pub fn order(&self) -> u64 {
        self.sequence
    }

    fn is_in_use(&self, id: PacketId) -> bool {
        // Ids are given in turn, so none can come again within 65,535 of the oldest in flight.
        let oldest = self
            .inflight
            .front()
            .map_or(self.sequence, |oldest| oldest.sequence);
        self.sequence - oldest >= u64::from(PacketId::MAX)
            && self
                .inflight
                .iter()
                .any(|inflight| inflight.packet_id == id)
    }

    /// `delivery` was sent with `packet_id`.
    pub fn sent(&mut self, packet_id: PacketId, delivery: Delivery) {
        assert!(
            self.sent == self.inflight.len(),
            "sent before what had to be sent again"
        );
        self.inflight_bytes += delivery.message.len();
        let state = InflightState::Published(delivery);
        self.inflight.push_back(Inflight {
            packet_id,
            sequence: self.sequence,
            state,
        });
        self.sent += 1;
    }

    /// PUBACK; or PUBREC that refuses the message.
    pub fn acknowledge(&mut self, packet_id: PacketId, qos: QoS) -> Acked {
        let Some(at) = self.position(packet_id) else {
            return Acked::Unknown;
        };
        match &self.inflight[at].state {
            InflightState::Published(delivery) if delivery.qos == qos => {
                let sequence = delivery.sequence;
                self.remove_inflight(at);
                Acked::Done(sequence)
            }
            InflightState::Published(_) | InflightState::Released => Acked::OutOfStep,
        }
    }

    /// PUBREC: the message is the client's now, its id is still in use.
    pub fn release(&mut self, packet_id: PacketId) -> Acked {
        let Some(at) = self.position(packet_id) else {
            return Acked::Unknown;
        };
        match &self.inflight[at].state {
            InflightState::Published(delivery) if delivery.qos == QoS::ExactlyOnce => {
                let sequence = delivery.sequence;
                self.inflight_bytes -= delivery.message.len();
                self.inflight[at].state = InflightState::Released;
                Acked::Done(sequence)
            }
            InflightState::Published(_) => Acked::OutOfStep,
            // The client repeats itself; so do we.
            InflightState::Released => Acked::Done(0),
        }
    }

    /// PUBCOMP.
    pub fn complete(&mut self, packet_id: PacketId) -> Acked {
        let Some(at) = self.position(packet_id) else {
            return Acked::Unknown;
        };
        match &self.inflight[at].state {
            InflightState::Released => {
                self.remove_inflight(at);
                Acked::Done(0)
            }
            InflightState::Published(_) => Acked::OutOfStep,
        }
    }

    /// Nearly always the first: clients acknowledge in order.
    fn position(&self, packet_id: PacketId) -> Option<usize> {
        self.inflight
            .iter()
            .position(|inflight| inflight.packet_id == packet_id)
    }

    fn remove_inflight(&mut self, at: usize) {
        if at < self.sent {
            self.sent -= 1;
        }
        let removed = match at {
            0 => self.inflight.pop_front(),
            _ => self.inflight.remove(at),
        };
        if let Some(Inflight {
            state: InflightState::Published(delivery),
            ..
        }) = removed
        {
            self.inflight_bytes -= delivery.message.len();
        }
        give_back(&mut self.inflight);
    }

    /// The next message that an earlier connection left unacknowledged [MQTT-4.4.0-1].
    pub fn next_to_resend(&self) -> Option<&Inflight> {
        self.inflight.get(self.sent)
    }

    /// [`Pending::next_to_resend`] was sent again.
    pub fn resent(&mut self) {
        assert!(
            self.sent < self.inflight.len(),
            "nothing was to be sent again"
        );
        self.sent += 1;
    }

    /// [`Pending::next_to_resend`] cannot be sent to this client any more.
    pub fn give_up_resending(&mut self) {
        self.remove_inflight(self.sent);
    }

    /// Whether a message from this place may have been sent before.
    pub fn is_doubtful(&self, sequence: Sequence) -> bool {
        self.doubtful != 0 && sequence != 0 && !is_before(self.doubtful, sequence)
    }

    /// Messages in flight that were sent on this connection.
    pub fn sent_count(&self) -> usize {
        self.inflight
            .iter()
            .take(self.sent)
            .filter(|sent| sent.delivery().is_some())
            .count()
    }

    /// Whether a message that is to be sent again may be sent now.
    pub fn may_resend(&self, receive_maximum: u16) -> bool {
        self.sent < usize::from(receive_maximum)
    }

    /// Packet Identifiers of what is in flight with QoS 2.
    pub fn exactly_once_ids(&self) -> impl Iterator<Item = PacketId> {
        let is_exactly_once = |inflight: &&Inflight| {
            let delivery = inflight.delivery();
            delivery.is_none_or(|delivery| delivery.qos == QoS::ExactlyOnce)
        };
        let found = self.inflight.iter().filter(is_exactly_once);
        found.map(|inflight| inflight.packet_id)
    }

    pub fn inflight_count(&self) -> usize {
        self.inflight.len()
    }

    // ---- messages that wait -----------------------------------------------------------------

    /// What waited on disk when the broker was started, the last place in it, and the last order
    /// of what was in flight.
    pub fn restore(&mut self, shelf: Shelf, last: Sequence, order: u64, inflight_max: u16) {
        self.doubtful = shelf
            .first_few(usize::from(inflight_max))
            .unwrap_or_default();
        (self.shelf, self.last_kept) = (shelf, last);
        // What is in flight may have any id: new ones are compared with them all.
        self.sequence = order.max(u64::from(PacketId::MAX));
    }

    /// What was in flight then, in the order of sending.
    pub fn restore_sent(&mut self, packet_id: PacketId, state: InflightState) {
        if let InflightState::Published(delivery) = &state {
            self.inflight_bytes += delivery.message.len();
        }
        self.inflight.push_back(Inflight {
            packet_id,
            sequence: 0,
            state,
        });
    }

    /// The place of the next message that is kept.
    pub fn next_sequence(&mut self) -> Sequence {
        self.last_kept = self.last_kept.checked_add(1).unwrap_or(1);
        self.last_kept
    }

    /// Puts a message behind all others; there must be room, and nothing on the shelf, unless it
    /// came to a group.
    pub fn queue(&mut self, delivery: Delivery) {
        let may_overtake = delivery.group().is_some();
        assert!(
            self.shelf.is_empty() || may_overtake,
            "queued before what is on the shelf"
        );
        self.queue_bytes += delivery.message.len();
        self.queue.push(delivery);
    }

    /// The first message on the shelf has been brought.
    pub fn unshelve(&mut self, delivery: Delivery) {
        self.shelf.pop();
        self.queue_bytes += delivery.message.len();
        self.queue.push(delivery);
    }

    /// Drops the message that has waited longest, and returns its place.
    pub fn drop_oldest(&mut self) -> Option<Sequence> {
        let (queued, shelved) = (self.queue.first(), self.shelf.first());
        let is_older = match (queued, shelved) {
            (Some(queued), Some(shelved)) => is_before(shelved, queued.sequence),
            (None, _) => true,
            (Some(_), None) => false,
        };
        match is_older {
            true => self.shelf.pop(),
            false => self.next_queued().map(|delivery| delivery.sequence),
        }
    }

    /// Whether a message of that QoS waits in memory.
    pub fn has_queued(&self, qos: QoS) -> bool {
        self.queue.iter().any(|delivery| delivery.qos == qos)
    }

    /// What is in memory, in its order, is not on the shelf.
    pub fn unshelve_shared(&mut self) {
        let queued = self.queue.iter().map(|delivery| delivery.sequence);
        self.shelf.remove_all(queued);
    }

    pub fn queue_has_room(&self, bytes: usize, limits: &Limits) -> bool {
        let bytes = self.waiting_bytes() + bytes as u64;
        self.waiting_count() < limits.queued_messages_max && bytes <= limits.queued_bytes_max
    }

    /// Whether a message waits: then others of its kind must not pass it by.
    pub fn is_waited(&self) -> bool {
        self.waiting_count() > 0
    }

    pub fn first_queued(&self) -> Option<&Delivery> {
        self.queue.first()
    }

    /// Takes the first message off the queue.
    pub fn next_queued(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop()?;
        self.queue_bytes -= delivery.message.len();
        if !self.is_waited() {
            self.dropping = false;
        }
        Some(delivery)
    }

    /// Messages that wait, in memory or on the shelf.
    pub fn waiting_count(&self) -> usize {
        self.queue.len() + self.shelf.len()
    }

    /// Bytes of the messages that wait in memory.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Bytes of the messages that wait or are in flight.
    pub fn stored_bytes(&self) -> u64 {
        self.waiting_bytes() + self.inflight_bytes as u64
    }

    fn waiting_bytes(&self) -> u64 {
        self.queue_bytes as u64 + self.shelf.bytes()
    }

    /// Whether anything waits to be sent.
    pub fn has_more(&self) -> bool {
        self.is_waited() || self.sent < self.inflight.len()
    }

    // ---- connections ------------------------------------------------------------------------

    /// The client is connected (again): what is in flight is to be sent again, each PUBREL first,
    /// as no window holds it back [MQTT-3.3.4-10].
    pub fn connected(&mut self) {
        self.sent = 0;
        let oldest = self
            .inflight
            .front()
            .map_or(0, |inflight| inflight.sequence);
        let released = |inflight: &Inflight| matches!(inflight.state, InflightState::Released);
        self.inflight
            .make_contiguous()
            .sort_by_key(|inflight| !released(inflight));
        for inflight in &mut self.inflight {
            inflight.sequence = oldest;
        }
    }

    /// Whether a message of a shared subscription waits or is in flight.
    pub fn has_shared(&self) -> bool {
        let inflight = self.inflight.iter().filter_map(Inflight::delivery);
        let mut deliveries = inflight.chain(self.queue.iter());
        deliveries.any(|delivery| delivery.group().is_some())
    }

    /// Takes out what is in flight and what waits; to be put back, less what others got of it.
    pub fn take_pending(&mut self) -> (VecDeque<Inflight>, Queue) {
        (self.inflight_bytes, self.queue_bytes) = (0, 0);
        (
            std::mem::take(&mut self.inflight),
            std::mem::take(&mut self.queue),
        )
    }

    pub fn put_pending(&mut self, inflight: VecDeque<Inflight>, queue: Queue) {
        let sent = inflight.iter().filter_map(Inflight::delivery);
        self.inflight_bytes = sent.map(|delivery| delivery.message.len()).sum();
        self.queue_bytes = queue.iter().map(|delivery| delivery.message.len()).sum();
        self.sent = self.sent.min(inflight.len());
        (self.inflight, self.queue) = (inflight, queue);
        give_back(&mut self.inflight);
    }

    /// The client is away, and may be for long: what is empty gives its memory back, and so does
    /// what is on disk if `may_shelve`, but for what others of a group may have to have.
    pub fn rest(&mut self, may_shelve: bool) {
        if may_shelve {
            let mut shared = Vec::new();
            for delivery in std::mem::take(&mut self.queue).into_iter().rev() {
                assert!(delivery.sequence != 0, "what is not kept cannot be fetched");
                let len = delivery.message.len();
                if delivery.group().is_some() {
                    shared.push(delivery);
                } else {
                    self.shelf.push_front(delivery.sequence, len);
                    self.queue_bytes -= len;
                }
            }
            let in_order = shared.into_iter().rev();
            in_order.for_each(|delivery| self.queue.push(delivery));
        }
        if self.inflight.is_empty() {
            self.inflight = VecDeque::new();
        }
        if self.queue.is_empty() {
            self.queue = Queue::new();
        }
    }

    /// Panics where the parts of the state disagree, or are larger than they may be.
    pub fn check_invariants(&self, limits: &Limits) {
        assert!(self.inflight.len() <= usize::from(limits.inflight_messages_max));
        assert!(self.inflight_bytes <= limits.inflight_bytes_max || self.inflight.len() == 1);
        assert!(self.waiting_count() <= limits.queued_messages_max);
        assert!(self.waiting_bytes() <= limits.queued_bytes_max);
        self.shelf.check_invariants();
        assert!(self.sent <= self.inflight.len());
        self.queue.check_invariants();
        let delivery = |inflight: &'_ Inflight| inflight.delivery().map_or(0, |d| d.message.len());
        assert_eq!(
            self.inflight.iter().map(delivery).sum::<usize>(),
            self.inflight_bytes
        );
        let queued = self.queue.iter().map(|delivery| delivery.message.len());
        assert_eq!(queued.sum::<usize>(), self.queue_bytes);
        let mut ids: Vec<PacketId> = self.inflight.iter().map(|i| i.packet_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(
            ids.len(),
            self.inflight.len(),
            "a Packet Identifier is used twice"
        );
    }
}

impl Inflight {
    pub fn delivery(&self) -> Option<&Delivery> {
        match &self.state {
            InflightState::Published(delivery) => Some(delivery),
            InflightState::Released => None,
        }
    }
}

/// In the order of a queue, whose places may wrap.
fn is_before(one: Sequence, other: Sequence) -> bool {
    one.wrapping_sub(other) > Sequence::MAX / 2
}

/// A window that was wide and is empty now gives its memory back.
fn give_back(inflight: &mut VecDeque<Inflight>) {
    if inflight.is_empty() && inflight.capacity() > 64 {
        *inflight = VecDeque::new();
    }
}
