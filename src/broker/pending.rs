//! Messages on their way to one client: those that wait, and those that are in flight.
//!
//! QoS 1 and 2 messages wait in `queue`, then stand in `inflight` until they are acknowledged.
//! Invariants: `inflight` is in the order of first sending, its first `sent` entries have been
//! sent on the present connection, and `sent` entries never exceed the Receive Maximum.

use std::collections::VecDeque;

use super::limits::{Limits, QueueOverflow};
use super::message::Message;
use super::queue::Queue;
use super::subscriptions::GroupId;
use crate::packet::{PacketId, QoS};

/// A message on its way to one client.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: Message,
    pub qos: QoS,
    pub retain: bool,
    pub origin: Option<Box<Origin>>,
}

/// How a message came to a session, where that matters later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub subscription_ids: Vec<u32>,
    /// The group that shared it.
    pub group: Option<GroupId>,
}

impl Delivery {
    pub fn subscription_ids(&self) -> &[u32] {
        self.origin
            .as_ref()
            .map_or(&[], |origin| &origin.subscription_ids)
    }

    pub fn group(&self) -> Option<GroupId> {
        self.origin.as_ref().and_then(|origin| origin.group)
    }
}

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

/// What became of a message that had to wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Queued {
    Yes,
    /// The queue was full: this many messages were dropped, whichever the policy says.
    Dropped(usize),
}

/// Whom an acknowledgement was for.
#[derive(Debug)]
pub enum Acked {
    /// It completes that step.
    Done,
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
                self.remove_inflight(at);
                Acked::Done
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
                self.inflight_bytes -= delivery.message.len();
                self.inflight[at].state = InflightState::Released;
                Acked::Done
            }
            InflightState::Published(_) => Acked::OutOfStep,
            // The client repeats itself; so do we.
            InflightState::Released => Acked::Done,
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
                Acked::Done
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

    pub fn inflight_count(&self) -> usize {
        self.inflight.len()
    }

    // ---- messages that wait -----------------------------------------------------------------

    pub fn queue(
        &mut self,
        delivery: Delivery,
        limits: &Limits,
        overflow: QueueOverflow,
    ) -> Queued {
        let bytes = delivery.message.len();
        // What fits no queue must not empty this one.
        if bytes > limits.queued_bytes_max || limits.queued_messages_max == 0 {
            return Queued::Dropped(1);
        }
        let mut dropped = 0;
        while !self.queue_has_room(bytes, limits) {
            if overflow == QueueOverflow::DropNewest {
                return Queued::Dropped(1);
            }
            self.next_queued();
            dropped += 1;
        }
        self.queue_bytes += bytes;
        self.queue.push(delivery);
        if dropped == 0 {
            Queued::Yes
        } else {
            Queued::Dropped(dropped)
        }
    }

    pub fn queue_has_room(&self, bytes: usize, limits: &Limits) -> bool {
        self.queue.len() < limits.queued_messages_max
            && self.queue_bytes.saturating_add(bytes) <= limits.queued_bytes_max
    }

    pub fn first_queued(&self) -> Option<&Delivery> {
        self.queue.first()
    }

    /// Takes the first message off the queue.
    pub fn next_queued(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop()?;
        self.queue_bytes -= delivery.message.len();
        if self.queue.is_empty() {
            self.dropping = false;
        }
        Some(delivery)
    }

    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of the messages that are queued or in flight.
    pub fn stored_bytes(&self) -> usize {
        self.queue_bytes + self.inflight_bytes
    }

    /// Whether anything waits to be sent.
    pub fn has_more(&self) -> bool {
        !self.queue.is_empty() || self.sent < self.inflight.len()
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

    /// The client is away, and may be for long: what is empty gives its memory back.
    pub fn rest(&mut self) {
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
        assert!(self.queue.len() <= limits.queued_messages_max);
        assert!(self.queue_bytes <= limits.queued_bytes_max);
        assert!(self.sent <= self.inflight.len());
        self.queue.check_invariants();
        let delivery = |inflight: &'_ Inflight| inflight.delivery().map_or(0, |d| d.message.len());
        assert_eq!(
            self.inflight.iter().map(delivery).sum::<usize>(),
            self.inflight_bytes
        );
        let queued: usize = self
            .queue
            .iter()
            .map(|delivery| delivery.message.len())
            .sum();
        assert_eq!(queued, self.queue_bytes);
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

/// A window that was wide and is empty now gives its memory back.
fn give_back(inflight: &mut VecDeque<Inflight>) {
    if inflight.is_empty() && inflight.capacity() > 64 {
        *inflight = VecDeque::new();
    }
}
