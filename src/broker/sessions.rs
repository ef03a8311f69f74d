//! All sessions: by slot for whoever has an id, by client for those who connect.

use std::ops::{Index, IndexMut};

use slab::Slab;

use super::SessionId;
use super::hash::Seeded;
use super::lookup::Lookup;
use super::session::Session;

/// All sessions, by id and by client.
#[derive(Debug)]
pub struct Sessions {
    slab: Slab<Session>,
    hash: Seeded,
    by_client: Lookup,
}

impl Sessions {
    pub fn new(hash: Seeded) -> Sessions {
        Sessions {
            slab: Slab::new(),
            hash,
            by_client: Lookup::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn find(&self, client_id: &str) -> Option<SessionId> {
        let mut candidates = self.by_client.candidates(self.hash_of(client_id));
        let slot = candidates.find(|slot| &*self.slab[*slot].client_id == client_id)?;
        Some(SessionId(slot as u32))
    }

    pub fn create(&mut self, client_id: &str) -> SessionId {
        assert!(self.find(client_id).is_none(), "a client with two sessions");
        let slot = self.slab.insert(Session::new(client_id.into()));
        self.by_client.insert(self.hash_of(client_id), slot);
        SessionId(slot as u32)
    }

    pub fn remove(&mut self, id: SessionId) -> Session {
        let session = self.slab.remove(id.index());
        let hash = self.hash_of(&session.client_id);
        self.by_client.remove(hash, id.index());
        session
    }

    fn hash_of(&self, client_id: &str) -> u64 {
        self.hash.bytes(client_id.as_bytes())
    }

    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slab.get_mut(id.index())
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.slab
            .iter()
            .map(|(key, session)| (SessionId(key as u32), session))
    }
}

impl Index<SessionId> for Sessions {
    type Output = Session;

    fn index(&self, id: SessionId) -> &Session {
        &self.slab[id.index()]
    }
}

impl IndexMut<SessionId> for Sessions {
    fn index_mut(&mut self, id: SessionId) -> &mut Session {
        &mut self.slab[id.index()]
    }
}
