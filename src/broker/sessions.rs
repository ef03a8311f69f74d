//! All sessions: by slot for whoever has an id, by client for those who connect.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::SessionId;
use super::hash::Seeded;
use super::session::Session;

/// All sessions, by id and by client.
#[derive(Debug)]
pub struct Sessions {
    slab: Slab<Session>,
    by_client: HashMap<Box<str>, SessionId, Seeded>,
}

impl Sessions {
    pub fn new(hash: Seeded) -> Sessions {
        Sessions {
            slab: Slab::new(),
            by_client: HashMap::with_hasher(hash),
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn find(&self, client_id: &str) -> Option<SessionId> {
        self.by_client.get(client_id).copied()
    }

    pub fn create(&mut self, client_id: &str) -> SessionId {
        let id = SessionId(self.slab.insert(Session::new(client_id.into())) as u32);
        let old = self.by_client.insert(client_id.into(), id);
        assert!(old.is_none(), "a client with two sessions");
        id
    }

    pub fn remove(&mut self, id: SessionId) -> Session {
        let session = self.slab.remove(id.index());
        self.by_client.remove(&session.client_id);
        session
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
