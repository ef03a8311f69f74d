//! Whether a session may do what it is about to do, by the ACL file in force.
//!
//! Asked wherever a message goes: when it is published, for each client that it is to be sent to,
//! again when it has waited, and for what is retained. So answers are remembered: each session has
//! a small table of topics, bounded, gone as soon as there are other rules. Without an ACL file
//! everything is allowed, and all of this is one comparison.
//!
//! As who a client connected stays with its session, so that what comes while it is away can be
//! judged. A session that was brought back at a start has not said yet who it is: what waits for
//! it is judged when it is sent.

use core::net::IpAddr;
use std::rc::Rc;

use log::warn;

use super::acl::{Access, Acl, Identity};
use super::acl_file::AclFile;
use super::hash::Seeded;
use super::limits::Limits;
use super::printable::Printable;
use super::retained::Entry;
use super::session::Session;
use super::{Broker, ConnectionId, SessionId, access};
use crate::packet::{Refusal, TopicFilter, TopicName};

/// The rules in force.
#[derive(Debug)]
pub(super) struct Authority {
    acl: Option<Box<Acl>>,
    /// Of the rules: answers by earlier ones are void.
    generation: u64,
    hash: Seeded,
}

/// As what a client connected, and what it may do.
#[derive(Debug)]
pub struct Who {
    pub identity: Rc<Identity>,
    generation: u64,
    /// None, or a power of 2 of them; a topic has its place by its hash.
    decisions: Vec<Decision>,
}

/// A topic that is asked for, often more than once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    topic: &'a [u8],
    hash: u64,
}

#[derive(Clone, Debug, Default)]
struct Decision {
    /// Empty where there is none; its memory is used again.
    topic: Vec<u8>,
    /// Bits of [`Access`].
    known: u8,
    allowed: u8,
}

impl Who {
    pub fn new(identity: Identity) -> Who {
        Who {
            identity: Rc::new(identity),
            generation: 0,
            decisions: Vec::new(),
        }
    }

    /// The answer, if it is known.
    fn recall(&self, access: Access, asked: Asked) -> Option<bool> {
        let mask = self.decisions.len().checked_sub(1)?;
        let decision = &self.decisions[asked.hash as usize & mask];
        let is_known = decision.known & access.bit() != 0 && *decision.topic == *asked.topic;
        is_known.then_some(decision.allowed & access.bit() != 0)
    }

    /// The place of a topic, if there are any.
    fn place(&mut self, hash: u64) -> Option<&mut Decision> {
        let mask = self.decisions.len().checked_sub(1)?;
        self.decisions.get_mut(hash as usize & mask)
    }

    /// Remembers an answer; in the place of another topic's only where there may be no more places.
    fn remember(&mut self, access: Access, asked: Asked, hash: Seeded, allowed: bool) {
        let Asked { topic, hash: at } = asked;
        loop {
            let count = self.decisions.len();
            let is_full = count == Limits::DECISIONS_PER_SESSION;
            match self.place(at) {
                Some(place) if place.topic.is_empty() || *place.topic == *topic || is_full => {
                    if *place.topic != *topic {
                        place.topic.clear();
                        place.topic.extend_from_slice(topic);
                        (place.known, place.allowed) = (0, 0);
                    }
                    place.known |= access.bit();
                    place.allowed |= if allowed { access.bit() } else { 0 };
                    return;
                }
                Some(_) | None => self.grow((2 * count).max(2), hash),
            }
        }
    }

    fn grow(&mut self, count: usize, hash: Seeded) {
        let old = std::mem::replace(&mut self.decisions, vec![Decision::default(); count]);
        for decision in old.into_iter().filter(|old| !old.topic.is_empty()) {
            let at = hash.bytes(&decision.topic);
            if let Some(place) = self.place(at) {
                *place = decision;
            }
        }
    }

    pub fn check_invariants(&self) {
        assert!(self.decisions.len() <= Limits::DECISIONS_PER_SESSION);
        let fits = |topic: &[u8]| topic.len() <= Limits::DECISION_TOPIC_BYTES;
        assert!(self.decisions.iter().all(|one| fits(&one.topic)));
    }
}

impl Authority {
    pub fn new(hash: Seeded) -> Authority {
        Authority {
            acl: None,
            generation: 0,
            hash,
        }
    }

    /// Whether there are rules.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.acl.is_some()
    }

    /// For those that are asked next.
    #[inline]
    pub fn asked<'a>(&self, topic: TopicName<'a>) -> Asked<'a> {
        let topic = topic.as_bytes();
        let hash = match self.is_on() {
            true => self.hash.bytes(topic),
            false => 0,
        };
        Asked { topic, hash }
    }

    /// Whether a session may do that with a topic.
    #[inline]
    pub fn allows(&self, session: &mut Session, access: Access, asked: Asked) -> bool {
        match &self.acl {
            None => true,
            Some(acl) => self.ask(acl, session, access, asked),
        }
    }

    #[inline(never)]
    fn ask(&self, acl: &Acl, session: &mut Session, access: Access, asked: Asked) -> bool {
        let Some(who) = &mut session.who else {
            return session.connection.is_none();
        };
        if who.generation != self.generation {
            who.generation = self.generation;
            who.decisions = Vec::new();
        }
        if let Some(allowed) = who.recall(access, asked) {
            return allowed;
        }
        let allowed = acl.decide(&who.identity, access, asked.topic).allowed;
        if asked.topic.len() <= Limits::DECISION_TOPIC_BYTES {
            who.remember(access, asked, self.hash, allowed);
        }
        allowed
    }

    /// The same, and nothing is remembered: where one topic after the other comes by once, and of
    /// members of a group who are asked in turn.
    #[inline]
    pub fn would_allow(&self, session: &Session, access: Access, asked: Asked) -> bool {
        match &self.acl {
            None => true,
            Some(acl) => self.look_up(acl, session, access, asked),
        }
    }

    #[inline(never)]
    fn look_up(&self, acl: &Acl, session: &Session, access: Access, asked: Asked) -> bool {
        match &session.who {
            None => session.connection.is_none(),
            Some(who) => {
                let known = match who.generation == self.generation {
                    true => who.recall(access, asked),
                    false => None,
                };
                known.unwrap_or_else(|| acl.decide(&who.identity, access, asked.topic).allowed)
            }
        }
    }

    /// Whether a session may be sent what is retained: it may read it, and whoever published it
    /// may still write it. Who that was is not known after a start.
    #[inline]
    pub fn allows_replay(&self, session: &Session, entry: &Entry) -> bool {
        match &self.acl {
            None => true,
            Some(acl) => self.look_up_replay(acl, session, entry),
        }
    }

    #[inline(never)]
    fn look_up_replay(&self, acl: &Acl, session: &Session, entry: &Entry) -> bool {
        let topic = entry.message.topic();
        let source = entry.source.as_ref();
        self.look_up(acl, session, Access::Read, self.asked(topic))
            && source
                .is_none_or(|source| acl.decide(source, Access::Write, topic.as_bytes()).allowed)
    }

    /// Who publishes, for what is retained.
    pub fn source(&self, session: &Session) -> Option<Rc<Identity>> {
        let who = self.acl.as_ref().and(session.who.as_ref())?;
        Some(who.identity.clone())
    }
}

impl Broker {
    /// The rules are those of this file from now on, for messages that wait too; without one,
    /// everything is allowed.
    pub fn set_acl(&mut self, file: Option<AclFile>) {
        self.authority.generation += 1;
        self.authority.acl = file.map(|file| Box::new(file.acl));
        let connected: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(id, connection)| Some((id, connection.session()?)))
            .collect();
        for (id, session) in connected {
            if self.sessions[session].who.is_none() {
                self.introduce(id, session, None);
            }
        }
    }

    /// Notes as who a client has connected, if anybody may ask.
    pub(super) fn introduce(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        user_name: Option<&str>,
    ) {
        let matters = self.authority.acl.is_some() || user_name.is_some();
        let address = self.connections[id].peer.ip();
        let session = &mut self.sessions[session];
        session.who = matters.then(|| {
            let identity = identity(&session.client_id, user_name, address);
            Box::new(Who::new(identity))
        });
    }

    /// Whether a session may publish to a topic.
    pub(super) fn may_publish(
        &mut self,
        session: SessionId,
        topic: TopicName,
    ) -> Result<(), Refusal> {
        access::may_publish(topic)?;
        let is_on = self.authority.is_on();
        match !is_on || self.may(session, Access::Write, self.authority.asked(topic)) {
            true => Ok(()),
            false => Err(access::no_line_to_write()),
        }
    }

    /// A client whose Will may not be published is let in, as it is by Mosquitto: devices that come
    /// from there must not be locked out. But it is said now, not when the Will is missed.
    pub(super) fn warn_of_will(
        &self,
        id: ConnectionId,
        client_id: &str,
        user_name: Option<&str>,
        topic: &str,
    ) {
        let Some(acl) = &self.authority.acl else {
            return;
        };
        let peer = &self.connections[id].peer;
        let who = identity(client_id, user_name, peer.ip());
        if !acl.decide(&who, Access::Write, topic.as_bytes()).allowed {
            let (client_id, topic) = (Printable(client_id), Printable(topic));
            let why = access::no_line_to_write().why;
            warn!(
                client:% = client_id, address:% = peer;
                "The will of {client_id} [{peer}] to {topic} would not be published: {why}."
            );
        }
    }

    /// Whether a session may do that with a topic.
    #[inline]
    pub(super) fn may(&mut self, session: SessionId, access: Access, asked: Asked) -> bool {
        !self.authority.is_on() || {
            let session = &mut self.sessions[session];
            self.authority.allows(session, access, asked)
        }
    }

    pub(super) fn may_subscribe(
        &self,
        session: SessionId,
        filter: TopicFilter,
    ) -> Result<(), Refusal> {
        let (Some(acl), Some(who)) = (&self.authority.acl, &self.sessions[session].who) else {
            return Ok(());
        };
        let filter = filter.as_str().as_bytes();
        match acl.decide(&who.identity, Access::Subscribe, filter).allowed {
            true => Ok(()),
            false => Err(access::no_line_to_subscribe()),
        }
    }
}

fn identity(client_id: &str, user_name: Option<&str>, address: Option<IpAddr>) -> Identity {
    Identity {
        client_id: client_id.into(),
        user_name: user_name.map(Into::into),
        address,
    }
}
