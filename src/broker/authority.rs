//! Whether a session may do what it is about to do, by the ACL files in force.
//!
//! Asked wherever a message goes: when it is published, for each client that it is to be sent to,
//! again when it has waited, and for what is retained. Without an ACL file everything is allowed,
//! and all of this is one comparison; what it costs otherwise is kept low by `decisions.rs`.
//!
//! Each listener has its own rules, or none: those count through which a client came. As who it
//! connected stays with its session, and with what is retained, so that what comes while it is
//! away can be judged, after a restart too (`kept.rs`). Where records do not say it, as they were
//! written while nobody asked, what waits for a session is judged when its client is back.

use std::cell::Cell;
use std::rc::Rc;

use log::warn;

use super::acl::{Access, Acl, Identity, Standing};
use super::acl_file::AclFile;
use super::acl_lines::Question;
use super::decisions::{Asked, Who};
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
    acls: Vec<Acl>,
    /// Which of them holds, by listener.
    of_listeners: Vec<Rules>,
    /// For who came through a listener that is not known.
    of_others: Rules,
    /// Of the rules: answers by earlier ones are void.
    generation: u64,
    /// Whether whoever published what is retained must still have the right to.
    pub checks_sources: bool,
    hash: Seeded,
}

/// What holds for the clients of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// Everything is allowed.
    None,
    Acl(usize),
    /// Nothing is: nobody knows which rules they would be.
    Unknown,
}

/// What an ACL says, or all of them or none.
#[derive(Clone, Copy)]
enum Law<'a> {
    Free,
    Acl(&'a Acl),
    Closed,
}

/// Who published what is retained, and whether it may still: as it was found last.
#[derive(Debug)]
pub struct Source {
    pub identity: Rc<Identity>,
    /// Twice the generation of the rules it was found by, and 1 if they allow it: there are very
    /// many of these.
    judged: Cell<u64>,
}

impl Source {
    /// Whose right was not looked at.
    pub fn new(identity: Rc<Identity>) -> Source {
        Source {
            identity,
            judged: Cell::new(0),
        }
    }

    pub fn who(&self) -> &Identity {
        &self.identity
    }
}

impl Authority {
    pub fn new(hash: Seeded, checks_sources: bool) -> Authority {
        Authority {
            acls: Vec::new(),
            of_listeners: Vec::new(),
            of_others: Rules::None,
            generation: 0,
            checks_sources,
            hash,
        }
    }

    /// Whether there are rules.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.acls.is_empty()
    }

    /// Whether it matters from where a client comes: it is not noted otherwise, as devices that
    /// say the same again from another address would be other clients.
    fn asks_addresses(&self) -> bool {
        self.acls.iter().any(Acl::asks_addresses)
    }

    #[inline(always)]
    fn law(&self, who: &Identity) -> Law<'_> {
        let rules = match who.listener {
            Some(index) => self.of_listeners.get(index).unwrap_or(&self.of_others),
            None => &self.of_others,
        };
        match *rules {
            Rules::None => Law::Free,
            Rules::Acl(index) => Law::Acl(&self.acls[index]),
            Rules::Unknown => Law::Closed,
        }
    }

    /// Looks up whether somebody may do that, with nothing at hand.
    fn decide(&self, who: &Identity, access: Access, topic: &[u8]) -> bool {
        match self.law(who) {
            Law::Free => true,
            Law::Acl(acl) => acl.decide(who, access, topic).allowed,
            Law::Closed => false,
        }
    }

    /// For those that are asked next.
    #[inline]
    pub fn asked<'a>(&self, topic: TopicName<'a>) -> Asked<'a> {
        Asked::new(topic.as_bytes())
    }

    /// Whether a session may read or write a topic.
    #[inline]
    pub fn allows(&self, session: &mut Session, access: Access, asked: &Asked) -> bool {
        !self.is_on() || self.ask(session, access, asked)
    }

    #[inline]
    fn ask(&self, session: &mut Session, access: Access, asked: &Asked) -> bool {
        let known = match &session.who {
            Some(who) if who.generation == self.generation => self.recall(who, access, asked),
            Some(_) | None => None,
        };
        known.unwrap_or_else(|| self.find_out(session, access, asked))
    }

    /// What is known of somebody by the rules in force.
    #[inline]
    fn recall(&self, who: &Who, access: Access, asked: &Asked) -> Option<bool> {
        if let Law::Free = self.law(&who.identity) {
            return Some(true);
        }
        let hash = asked.hash(&self.hash);
        who.decisions.recall(access, asked.topic, hash)
    }

    #[inline(never)]
    fn find_out(&self, session: &mut Session, access: Access, asked: &Asked) -> bool {
        let topic = asked.topic;
        let Some(who) = &mut session.who else {
            return self.allows_unnoted(session, access, topic);
        };
        if session.connection.is_none() && self.waits_for_its_client(&who.identity, access) {
            return true;
        }
        self.refresh(who);
        let allowed = self.look_up(who, access, topic);
        if topic.len() <= Limits::DECISION_TOPIC_BYTES {
            let hash = asked.hash(&self.hash);
            who.decisions.remember(access, topic, hash, allowed);
        }
        allowed
    }

    /// Of who is away, and connected when nobody asked as who: what it may read is judged when it
    /// is back. What it may write, its Will, is judged now: it brought no user name.
    fn allows_unnoted(&self, session: &Session, access: Access, topic: &[u8]) -> bool {
        match access {
            Access::Read => session.connection.is_none(),
            Access::Write | Access::Subscribe => {
                let nameless = Identity {
                    client_id: session.client_id.clone(),
                    user_name: None,
                    address: None,
                    listener: None,
                };
                self.decide(&nameless, access, topic)
            }
        }
    }

    /// Of who is away, and came through a listener that is gone: it will be back through another,
    /// whose rules say then what it may read of what waited.
    fn waits_for_its_client(&self, who: &Identity, access: Access) -> bool {
        access == Access::Read && matches!(self.law(who), Law::Closed)
    }

    /// Answers by other rules are forgotten, and its lines are looked up.
    #[inline]
    fn refresh(&self, who: &mut Who) {
        if who.generation != self.generation {
            self.make_acquaintance(who);
        }
    }

    #[cold]
    fn make_acquaintance(&self, who: &mut Who) {
        who.generation = self.generation;
        who.decisions.clear();
        who.standing = match self.law(&who.identity) {
            Law::Acl(acl) => acl.standing(&who.identity),
            Law::Free | Law::Closed => Standing::default(),
        };
    }

    /// The standing is that by the rules in force.
    #[inline(always)]
    fn look_up(&self, who: &Who, access: Access, topic: &[u8]) -> bool {
        let question = Question {
            who: &who.identity,
            access,
            topic,
        };
        match self.law(&who.identity) {
            Law::Free => true,
            Law::Acl(acl) => acl.judge(&who.standing, question).allowed,
            Law::Closed => false,
        }
    }

    /// The same, and nothing is remembered: where one topic after the other comes by once, and of
    /// members of a group who are asked in turn.
    #[inline]
    pub fn would_allow(&self, session: &Session, access: Access, asked: &Asked) -> bool {
        !self.is_on() || self.ask_once(session, access, asked)
    }

    #[inline(never)]
    fn ask_once(&self, session: &Session, access: Access, asked: &Asked) -> bool {
        let topic = asked.topic;
        match &session.who {
            None => self.allows_unnoted(session, access, topic),
            Some(who)
                if session.connection.is_none()
                    && self.waits_for_its_client(&who.identity, access) =>
            {
                true
            }
            Some(who) if who.generation != self.generation => {
                self.decide(&who.identity, access, topic)
            }
            Some(who) => {
                let known = self.recall(who, access, asked);
                known.unwrap_or_else(|| self.look_up(who, access, topic))
            }
        }
    }

    /// Whether a session may be sent what is retained: it may read it, and whoever published it
    /// may still write it, unless the operator does not mind.
    #[inline]
    pub fn allows_replay(&self, session: &mut Session, entry: &Entry) -> bool {
        !self.is_on() || self.ask_replay(session, entry)
    }

    #[inline(never)]
    fn ask_replay(&self, session: &mut Session, entry: &Entry) -> bool {
        let Some(who) = &mut session.who else {
            return session.connection.is_none();
        };
        self.refresh(who);
        let topic = entry.message.topic().as_bytes();
        let source = entry.source.as_ref().filter(|_| self.checks_sources);
        self.look_up(who, Access::Read, topic)
            && source.is_none_or(|source| self.may_still_write(source, topic))
    }

    #[inline]
    fn may_still_write(&self, source: &Source, topic: &[u8]) -> bool {
        if source.judged.get() >> 1 != self.generation {
            let allowed = self.decide(&source.identity, Access::Write, topic);
            source.judged.set(self.generation << 1 | u64::from(allowed));
        }
        source.judged.get() & 1 != 0
    }

    /// Who publishes what is retained now, as it may.
    pub fn source(&self, session: &Session) -> Option<Source> {
        let who = session.who.as_ref().filter(|_| self.is_on())?;
        Some(Source {
            identity: who.identity.clone(),
            judged: Cell::new(self.generation << 1 | 1),
        })
    }
}

impl Broker {
    /// The rules are those of these files from now on, for messages that wait too: by listener the
    /// index of its file; where there is none, everything is allowed.
    pub fn set_acls(&mut self, files: Vec<AclFile>, of_listeners: &[Option<usize>]) {
        let rules = |index: &Option<usize>| index.map_or(Rules::None, Rules::Acl);
        let rules: Vec<Rules> = of_listeners.iter().map(rules).collect();
        let is_there = |rules: &Rules| match *rules {
            Rules::Acl(index) => index < files.len(),
            Rules::None | Rules::Unknown => true,
        };
        assert!(rules.iter().all(is_there), "rules that nobody has read");
        let is_same = rules.iter().all(|one| *one == rules[0]);
        let authority = &mut self.authority;
        authority.of_others = match (rules.first(), is_same) {
            (None, _) => Rules::None,
            (Some(all), true) => *all,
            (Some(_), false) => Rules::Unknown,
        };
        authority.of_listeners = rules;
        authority.generation += 1;
        authority.acls = files.into_iter().map(|file| file.acl).collect();
        self.note_who_is_connected();
    }

    /// As who, as far as these rules ask, and earlier ones did not.
    fn note_who_is_connected(&mut self) {
        if !self.authority.is_on() {
            return;
        }
        let asks_addresses = self.authority.asks_addresses();
        let connected: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(id, connection)| Some((id, connection.session()?)))
            .collect();
        for (id, session) in connected {
            let address = self.connections[id].peer.ip();
            let who = self.sessions[session].who.as_ref();
            if who.is_some_and(|who| !asks_addresses || who.identity.address == address) {
                continue;
            }
            let user_name = who.and_then(|who| who.identity.user_name.clone());
            let client_id = self.sessions[session].client_id.clone();
            let who = self.introduce(id, &client_id, user_name.as_deref());
            let session = &mut self.sessions[session];
            session.who = who;
            self.journal.session(session, session.expiry_interval, 0);
        }
    }

    /// Of those who came through listeners that are gone nobody knows the rules.
    pub(super) fn say_who_is_judged_by_nothing(&self) {
        let authority = &self.authority;
        if authority.of_others != Rules::Unknown {
            return;
        }
        let is_closed = |who: &Identity| matches!(authority.law(who), Law::Closed);
        let whose = self.sessions.iter().filter_map(|(_, one)| one.who.as_ref());
        let sessions = whose.filter(|who| is_closed(&who.identity)).count();
        let sources = self.retained.sources();
        let retained = sources.filter(|one| is_closed(one.who())).count();
        if sessions + retained > 0 {
            warn!(
                "Listeners are gone that {sessions} sessions and {retained} retained messages \
                 came through, and those that there are differ in their rules: wills of the \
                 sessions are not published, what waits for them is judged when their clients \
                 are back, and those retained messages are not sent."
            );
        }
    }

    /// As who a client connects, if anybody may ask.
    pub(super) fn introduce(
        &self,
        id: ConnectionId,
        client_id: &str,
        user_name: Option<&str>,
    ) -> Option<Box<Who>> {
        let matters = self.authority.is_on() || user_name.is_some();
        matters.then(|| Box::new(Who::new(self.identity(id, client_id, user_name))))
    }

    fn identity(&self, id: ConnectionId, client_id: &str, user_name: Option<&str>) -> Identity {
        let connection = &self.connections[id];
        let address = connection.peer.ip();
        Identity {
            client_id: client_id.into(),
            user_name: user_name.map(Into::into),
            address: address.filter(|_| self.authority.asks_addresses()),
            listener: Some(connection.listener),
        }
    }

    /// Whether a session may publish to a topic.
    pub(super) fn may_publish(
        &mut self,
        session: SessionId,
        topic: TopicName,
    ) -> Result<(), Refusal> {
        access::may_publish(topic)?;
        let is_on = self.authority.is_on();
        match !is_on || self.may(session, Access::Write, &self.authority.asked(topic)) {
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
        if !self.authority.is_on() {
            return;
        }
        let who = self.identity(id, client_id, user_name);
        if !self.authority.decide(&who, Access::Write, topic.as_bytes()) {
            let peer = &self.connections[id].peer;
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
    pub(super) fn may(&mut self, session: SessionId, access: Access, asked: &Asked) -> bool {
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
        let Some(who) = &self.sessions[session].who else {
            return Ok(());
        };
        let filter = filter.as_str().as_bytes();
        let is_on = self.authority.is_on();
        let who = &who.identity;
        match !is_on || self.authority.decide(who, Access::Subscribe, filter) {
            true => Ok(()),
            false => Err(access::no_line_to_subscribe()),
        }
    }
}
