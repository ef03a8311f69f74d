//! QoS 2 messages that a client has sent and not released: by their ids, so that none is delivered
//! twice [MQTT-4.3.3-10].

use crate::packet::PacketId;

/// Ids that there is room for where there are none.
const SPARE: usize = 32;

#[derive(Debug, Default)]
pub struct Received {
    /// In order of the ids; `true` where it came on the present connection.
    ids: Vec<(PacketId, bool)>,
    here: usize,
}

impl Received {
    /// A message came, which must not have come before.
    pub fn insert(&mut self, packet_id: PacketId) {
        let at = self
            .find(packet_id)
            .expect_err("a message is received once");
        self.ids.insert(at, (packet_id, true));
        self.here += 1;
    }

    pub fn ids(&self) -> impl Iterator<Item = PacketId> {
        self.ids.iter().map(|(id, _)| *id)
    }

    /// One that came before the broker was started.
    pub fn restore(&mut self, packet_id: PacketId) {
        if let Err(at) = self.find(packet_id) {
            self.ids.insert(at, (packet_id, false));
        }
    }

    /// Whether it came and has not been released.
    pub fn contains(&self, packet_id: PacketId) -> bool {
        self.find(packet_id).is_ok()
    }

    /// PUBREL; `false` where no such message is known.
    pub fn release(&mut self, packet_id: PacketId) -> bool {
        let Ok(at) = self.find(packet_id) else {
            return false;
        };
        let (_, here) = self.ids.remove(at);
        if self.ids.is_empty() {
            self.ids.shrink_to(SPARE);
        }
        self.here -= usize::from(here);
        true
    }

    /// How many came on the present connection: the others count for no Receive Maximum, whose
    /// quota begins anew with each (4.9).
    pub fn here(&self) -> usize {
        self.here
    }

    pub fn begin_connection(&mut self) {
        self.here = 0;
        self.ids.iter_mut().for_each(|(_, here)| *here = false);
    }

    pub fn check_invariants(&self) {
        assert!(self.ids.is_sorted_by_key(|(id, _)| *id));
        let here = self.ids.iter().filter(|(_, here)| *here);
        assert_eq!(here.count(), self.here);
    }

    fn find(&self, packet_id: PacketId) -> Result<usize, usize> {
        self.ids.binary_search_by_key(&packet_id, |(id, _)| *id)
    }
}
