//! The oracle: a naive MQTT server that keeps everything in lists and looks through all of them.
//!
//! It is told of every verb after the broker was, in the same order: the bytes a client sent
//! ([`Model::received`]), the end of a connection, the passing of time. So it knows what the broker
//! must send from now on: *answers*, in order and at once; *pending* messages, in the order of each
//! publisher and topic; *replays* of retained messages; and messages *shared* by a group. What the
//! broker then does send is checked off packet by packet ([`Model::sent`]), and whatever is neither
//! expected nor allowed is a panic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use midge::broker::limits::{Limits, Options, QueueOverflow};
use midge::packet::property::Value;
use midge::packet::{
    self, Ack, Connect, Packet, PacketId, Properties, PropertyBlock, PropertyId, Publish, QoS,
    ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, Version,
};

const NEVER: u32 = u32::MAX;

/// Milliseconds since the start.
pub type Millis = u64;

/// An Application Message, as it was published.
#[derive(Clone)]
pub struct Message {
    topic: String,
    payload: Vec<u8>,
    /// Those that are forwarded unaltered.
    properties: Vec<u8>,
    expires_at: Option<Millis>,
    qos: QoS,
    retain: bool,
    /// Client id.
    publisher: String,
}

/// A message that one session should be sent.
#[derive(Clone)]
struct Copy {
    message: Rc<Message>,
    qos: QoS,
    retain: bool,
    subscription_ids: Vec<u32>,
    /// It may be lost: some limit allows it.
    droppable: bool,
    /// It must be sent within the verb or never.
    at_once: bool,
    /// A replay that was overtaken by events of this verb.
    cancelled: bool,
    /// It was sent as a replay: its place among the others that wait is not known.
    replayed: bool,
}

/// A message that a session was sent with a Packet Identifier.
#[derive(Clone, Debug)]
struct Inflight {
    /// What was sent; `None` for the server's own topics, which are not followed.
    copy: Option<Copy>,
    qos: QoS,
    /// In the order of first sending.
    order: u64,
    released: bool,
    /// PUBLISH, or the PUBREL if released, was sent on the present connection.
    here: bool,
    /// A PUBLISH was sent on the present connection.
    counts: bool,
    shared: Option<usize>,
    /// Another member of the group may have it by now.
    floating: bool,
}

#[derive(Clone, Debug)]
struct Subscription {
    share_name: Option<String>,
    filter: String,
    options: SubscriptionOptions,
    id: u32,
}

#[derive(Clone, Debug)]
struct Will {
    message: Message,
    delay: u32,
    expiry: Option<u32>,
}

#[derive(Clone, Debug)]
struct Session {
    uid: usize,
    client_id: String,
    /// It was to outlive its connection when it began: it survives a crash.
    durable: bool,
    link: Option<usize>,
    expiry_interval: u32,
    expiry_at: Option<Millis>,
    will: Option<Will>,
    will_at: Option<Millis>,
    subscriptions: Vec<Subscription>,
    /// QoS 2 ids from the client that it has not released, and the link they came on.
    received: BTreeMap<PacketId, usize>,
    pending: Vec<Copy>,
    replays: Vec<Copy>,
    inflight: BTreeMap<PacketId, Inflight>,
    /// Every group it was ever a member of.
    groups: Vec<(String, String)>,
}

/// Who has a message of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// Sent to that session; `gone` if its connection ended before it acknowledged, and others
    /// may have it since.
    Sent {
        uid: usize,
        qos: QoS,
        gone: bool,
    },
    Done,
}

#[derive(Clone, Debug)]
struct Shared {
    group: (String, String),
    message: Rc<Message>,
    holder: Holder,
    /// The sessions it may wait with, or be in flight to: one of them has it.
    within: BTreeSet<usize>,
    /// Its group has ended: members of another of that name do not get it.
    orphan: bool,
    /// It may be lost.
    weak: bool,
}

/// What a session leaves that other members of a group may take.
#[derive(Clone, Copy)]
enum Leaving<'a> {
    Connection,
    Session,
    Group(&'a (String, String)),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    AwaitConnect,
    /// With the uid of its session.
    Connected(usize),
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    ConnAck { session_present: bool },
    PubAck(PacketId, ReasonCode),
    PubRec(PacketId, ReasonCode),
    PubRel(PacketId, ReasonCode),
    PubComp(PacketId, ReasonCode),
    SubAck(PacketId, Vec<ReasonCode>),
    UnsubAck(PacketId, Vec<ReasonCode>),
    PingResp,
}

#[derive(Clone, Debug)]
struct Connection {
    phase: Phase,
    /// Of its session, the one it has or had.
    uid: usize,
    version: Version,
    unread: Vec<u8>,
    last_packet: Millis,
    silence_max: Option<Millis>,
    receive_maximum: usize,
    packet_bytes_max: usize,
    alias_max: u16,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: BTreeMap<u16, String>,
    answers: VecDeque<Answer>,
    said_connack: bool,
    said_disconnect: bool,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Normal,
    WithWill,
}

#[derive(Clone)]
pub struct Model {
    options: Options,
    pub now: Millis,
    connections: Vec<Connection>,
    sessions: Vec<Session>,
    retained: Vec<Rc<Message>>,
    shared: Vec<Shared>,
    /// The group of each Subscription Identifier of a shared subscription; ids are unique.
    shared_ids: BTreeMap<u32, (String, String)>,
    sessions_ever: usize,
    order: u64,
    /// First deliveries that were checked off.
    pub deliveries: usize,
    /// Deliveries that a limit allowed to be lost, and that were not seen.
    pub losses: usize,
    /// Two messages that look the same are under way: nobody can tell any more which is which.
    pub is_blind: bool,
    /// Several things are due at once, in an order that is not defined.
    is_unordered: bool,
    /// The power was cut, and what was sent with QoS 1 may be sent again under other ids.
    crashed: bool,
}

impl Model {
    pub fn new(options: Options) -> Model {
        Model {
            options,
            now: 0,
            connections: Vec::new(),
            sessions: Vec::new(),
            retained: Vec::new(),
            shared: Vec::new(),
            shared_ids: BTreeMap::new(),
            sessions_ever: 0,
            order: 0,
            deliveries: 0,
            losses: 0,
            is_blind: false,
            is_unordered: false,
            crashed: false,
        }
    }

    // ---- what the broker was told -----------------------------------------------------------

    pub fn opened(&mut self, link: usize) {
        assert_eq!(link, self.connections.len());
        self.connections.push(Connection {
            phase: Phase::AwaitConnect,
            uid: 0,
            version: Version::V311,
            unread: Vec::new(),
            last_packet: self.now,
            silence_max: None,
            receive_maximum: usize::from(u16::MAX),
            packet_bytes_max: usize::MAX,
            alias_max: 0,
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            answers: VecDeque::new(),
            said_connack: false,
            said_disconnect: false,
        });
    }

    pub fn received(&mut self, link: usize, bytes: &[u8]) {
        if self.is_closed(link) {
            return;
        }
        let mut unread = std::mem::take(&mut self.connections[link].unread);
        unread.extend_from_slice(bytes);
        let mut rest = &unread[..];
        while !rest.is_empty() && !self.is_closed(link) {
            let connection = &self.connections[link];
            let awaits_connect = connection.phase == Phase::AwaitConnect;
            let most = match awaits_connect {
                true => Limits::CONNECT_PACKET_BYTES_MAX,
                false => self.options.limits.packet_bytes_max,
            };
            // What begins like TLS would be a CONNECT of three bytes.
            if awaits_connect && (rest[0] >> 4 != 1 || rest.starts_with(&[0x16, 3])) {
                return self.close(link, End::WithWill);
            }
            match packet::decode(rest, connection.version, most) {
                Ok(None) => break,
                Ok(Some((packet, length))) => {
                    self.connections[link].last_packet = self.now;
                    if self.on_packet(link, packet).is_err() {
                        return self.close(link, End::WithWill);
                    }
                    rest = &rest[length..];
                }
                Err(_) => return self.close(link, End::WithWill),
            }
        }
        self.connections[link].unread = rest.to_vec();
    }

    pub fn is_closed(&self, link: usize) -> bool {
        self.connections[link].phase == Phase::Closed
    }

    /// Everything that is due is done, except for the closing of connections: see
    /// [`Model::must_be_closed_by`].
    pub fn time_passed(&mut self) {
        while let Some((at, is_will, uid)) = self.next_timer().filter(|timer| timer.0 <= self.now) {
            let same = |due: Option<Millis>| usize::from(due == Some(at));
            let count = |session: &Session| same(session.expiry_at) + same(session.will_at);
            self.is_unordered |= self.sessions.iter().map(count).sum::<usize>() > 1;
            if is_will {
                self.session(uid).will_at = None;
                self.publish_will(uid);
            } else {
                self.end_session(uid);
            }
        }
        self.is_unordered = false;
    }

    fn next_timer(&self) -> Option<(Millis, bool, usize)> {
        let expiries = self.sessions.iter().map(|s| (s.expiry_at, false, s.uid));
        let wills = self.sessions.iter().map(|s| (s.will_at, true, s.uid));
        expiries
            .chain(wills)
            .filter_map(|(at, is_will, uid)| Some((at?, is_will, uid)))
            .min()
    }

    /// Whether the broker may close this connection now for silence.
    pub fn may_be_closed_for_silence(&self, link: usize) -> bool {
        self.silent_since(link)
            .is_some_and(|(silence, most)| silence >= most)
    }

    /// Whether a connection could be closed for silence by then.
    pub fn silence_could_end_by(&self, end: Millis) -> bool {
        (0..self.connections.len()).any(|link| {
            self.silent_since(link)
                .is_some_and(|(silence, most)| silence + (end - self.now) >= most)
        })
    }

    fn silent_since(&self, link: usize) -> Option<(Millis, Millis)> {
        let connection = &self.connections[link];
        let silence = self.now - connection.last_packet;
        match connection.phase {
            Phase::Closed => None,
            Phase::AwaitConnect => {
                let most = Limits::CONNECT_WITHIN;
                Some((silence, most))
            }
            Phase::Connected(_) => Some((silence, connection.silence_max?)),
        }
    }

    /// [MQTT-3.1.2-22] one and a half keep alives, and a sixteenth for coming due together.
    pub fn check_silence(&self) {
        for link in 0..self.connections.len() {
            if let Some((silence, most)) = self.silent_since(link) {
                assert!(
                    silence <= most + most / 16 + 1,
                    "link {link} is silent for {silence} ms and not closed"
                );
            }
        }
    }

    pub fn close(&mut self, link: usize, end: End) {
        let phase = std::mem::replace(&mut self.connections[link].phase, Phase::Closed);
        let Phase::Connected(uid) = phase else {
            return;
        };
        let now = self.now;
        let session = self.session(uid);
        session.link = None;
        for inflight in session.inflight.values_mut() {
            inflight.here = false;
            inflight.counts = false;
        }
        if end == End::Normal {
            session.will = None;
        }
        if session.expiry_interval == 0 {
            return self.end_session(uid);
        }
        if session.expiry_interval != NEVER {
            session.expiry_at = Some(now + u64::from(session.expiry_interval) * 1_000);
        }
        match session.will.as_ref().map(|will| will.delay) {
            Some(0) => self.publish_will(uid),
            Some(delay) if delay < session.expiry_interval => {
                session.will_at = Some(now + u64::from(delay) * 1_000);
            }
            _ => {}
        }
        self.hand_on(uid, Leaving::Connection);
        self.float(uid);
    }

    /// Others may have what this session leaves: those that are present, or after its end all that
    /// there are. What nobody takes stays with it.
    fn hand_on(&mut self, uid: usize, leaving: Leaving) {
        for at in 0..self.shared.len() {
            let shared = &self.shared[at];
            // [MQTT-3.10.4-3] what was sent is completed.
            let is_sent = matches!(shared.holder, Holder::Sent { uid: by, .. } if by == uid);
            let stays = match leaving {
                Leaving::Group(group) => shared.group != *group || is_sent,
                Leaving::Connection | Leaving::Session => false,
            };
            if !shared.within.contains(&uid) || stays {
                continue;
            }
            let ends = matches!(leaving, Leaving::Session);
            let others = self.sessions.iter().filter(|other| {
                let is_there = ends || other.link.is_some();
                other.uid != uid && is_there && other.is_member(&shared.group) && !shared.orphan
            });
            let others: Vec<usize> = others.map(|other| other.uid).collect();
            let shared = &mut self.shared[at];
            if ends {
                shared.within.remove(&uid);
                shared.weak |= others.is_empty();
            }
            shared.within.extend(others);
            let is_alone = shared.within.len() == 1;
            if let Holder::Sent { uid: by, gone, .. } = &mut shared.holder {
                *gone |= *by == uid && !is_alone;
            }
        }
    }

    /// Which of the messages in flight to a session that is gone may be with another member now.
    fn float(&mut self, uid: usize) {
        let now = self.now;
        let found = self.sessions.iter_mut().find(|session| session.uid == uid);
        let inflight = found.map(|session| session.inflight.values_mut());
        for inflight in inflight.into_iter().flatten() {
            let Some(shared) = inflight.shared.map(|at| &self.shared[at]) else {
                continue;
            };
            let has_gone = match shared.holder {
                Holder::Sent { uid: by, gone, .. } => gone || by != uid,
                Holder::Nobody | Holder::Done => true,
            };
            let has_expired = shared.message.expires_at.is_some_and(|at| at <= now);
            inflight.floating |= inflight.qos == QoS::AtLeastOnce && (has_gone || has_expired);
        }
    }

    fn end_session(&mut self, uid: usize) {
        self.publish_will(uid);
        self.sessions.retain(|session| session.uid != uid);
        self.hand_on(uid, Leaving::Session);
        for shared in &mut self.shared {
            match shared.holder {
                // [MQTT-4.8.2-5] not to anybody else.
                Holder::Sent { uid: by, qos, .. } if by == uid && qos == QoS::ExactlyOnce => {
                    shared.holder = Holder::Done;
                }
                Holder::Sent { uid: by, .. } if by == uid => shared.holder = Holder::Nobody,
                _ => {}
            }
        }
        self.end_empty_groups();
    }

    fn publish_will(&mut self, uid: usize) {
        let now = self.now;
        let session = self.session(uid);
        session.will_at = None;
        let Some(will) = session.will.take() else {
            return;
        };
        let expires_at = will.expiry.map(|seconds| now + u64::from(seconds) * 1_000);
        let message = Message {
            expires_at,
            ..will.message
        };
        if let Err(message) = self.publish(message) {
            let again = Message {
                retain: false,
                ..message
            };
            assert!(self.publish(again).is_ok());
        }
    }

    /// What is too large for a member may be lost to its group.
    fn weaken_too_large(&mut self) {
        for shared in &mut self.shared {
            let members = self.sessions.iter();
            let mut links = members
                .filter(|session| session.groups.contains(&shared.group))
                .filter_map(|session| session.link);
            // A few bytes more than what it takes at most.
            let length = shared.message.stored_len() + 20;
            shared.weak |= links.any(|link| length > self.connections[link].packet_bytes_max);
        }
    }

    /// A group without members ends; those that left it keep what they have.
    fn end_empty_groups(&mut self) {
        let sessions = &self.sessions;
        for shared in &mut self.shared {
            shared.orphan |= !sessions
                .iter()
                .any(|session| session.is_member(&shared.group));
        }
    }

    fn session(&mut self, uid: usize) -> &mut Session {
        let found = self.sessions.iter_mut().find(|session| session.uid == uid);
        found.expect("the session is alive")
    }

    // ---- losing power -----------------------------------------------------------------------

    /// What is counted goes on, and so do the connections: those of later turns have ended too.
    pub fn resume(&mut self, later: Option<Model>) {
        let Some(later) = later else {
            return;
        };
        self.deliveries = later.deliveries;
        self.losses = later.losses;
        self.sessions_ever = later.sessions_ever;
        self.order = later.order;
        self.connections = later.connections;
        self.shared_ids = later.shared_ids;
    }

    /// The power was cut, and this is what was on the medium: connections and what belongs to them
    /// are gone, durable sessions and what waits for them are there.
    pub fn crash(&mut self, now: Millis) {
        self.now = now;
        self.crashed = true;
        for connection in &mut self.connections {
            connection.phase = Phase::Closed;
            connection.answers.clear();
        }
        self.sessions.retain(|session| session.durable);
        for shared in &mut self.shared {
            // Those that had it, or could be handed it, may be gone.
            shared.weak = true;
            let sessions = &self.sessions;
            let is_there = |uid: usize| sessions.iter().any(|session| session.uid == uid);
            shared.within.retain(|uid| is_there(*uid));
            if let Holder::Sent { uid, qos, .. } = shared.holder
                && (!is_there(uid) || qos == QoS::AtLeastOnce)
            {
                shared.holder = Holder::Nobody;
            }
        }
        let retained = self.retained.clone();
        let upgrade = self.options.upgrade_outgoing_qos;
        for session in &mut self.sessions {
            session.crash(now);
            session.expect_replays_again(&retained, upgrade, now);
        }
        let ending = self.sessions.iter().filter(|one| one.expiry_interval == 0);
        for uid in ending.map(|one| one.uid).collect::<Vec<_>>() {
            self.end_session(uid);
        }
        self.end_empty_groups();
    }

    // ---- packets from clients ---------------------------------------------------------------

    fn on_packet(&mut self, link: usize, packet: Packet) -> Result<(), ()> {
        let uid = match (&self.connections[link].phase, packet.clone()) {
            (Phase::AwaitConnect, Packet::Connect(connect)) => {
                self.on_connect(link, connect);
                return Ok(());
            }
            (Phase::Connected(uid), _) => *uid,
            _ => return Err(()),
        };
        match packet {
            Packet::Publish(publish) => self.on_publish(link, uid, publish)?,
            Packet::PubAck(ack) => self.on_last_ack(uid, ack, QoS::AtLeastOnce)?,
            Packet::PubRec(ack) if ack.reason.is_error() => {
                self.on_last_ack(uid, ack, QoS::ExactlyOnce)?;
            }
            Packet::PubRec(ack) => self.on_pubrec(link, uid, ack)?,
            Packet::PubComp(ack) => {
                let inflight = &mut self.session(uid).inflight;
                match inflight.get(&ack.packet_id).map(|message| message.released) {
                    Some(false) => return Err(()),
                    Some(true) => drop(inflight.remove(&ack.packet_id)),
                    None => {}
                }
            }
            Packet::PubRel(ack) => {
                let reason = match self.session(uid).received.remove(&ack.packet_id) {
                    Some(_) => ReasonCode::Success,
                    None => ReasonCode::PacketIdentifierNotFound,
                };
                self.answer(link, Answer::PubComp(ack.packet_id, reason));
            }
            Packet::Subscribe(subscribe) => self.on_subscribe(link, uid, subscribe)?,
            Packet::Unsubscribe(unsubscribe) => {
                for filter in &unsubscribe.filters {
                    split_share(filter)?;
                }
                let mut reasons = Vec::new();
                for filter in &unsubscribe.filters {
                    reasons.push(self.unsubscribe(uid, filter));
                }
                if self.connections[link].version != Version::V5 {
                    reasons.clear();
                }
                self.answer(link, Answer::UnsubAck(unsubscribe.packet_id, reasons));
            }
            Packet::PingReq => self.answer(link, Answer::PingResp),
            Packet::Disconnect(disconnect) => {
                let expiry = disconnect
                    .properties
                    .number(PropertyId::SessionExpiryInterval);
                if let Some(seconds) = expiry {
                    let longest = self.longest_expiry(seconds);
                    let session = self.session(uid);
                    if session.expiry_interval == 0 && seconds != 0 {
                        return Err(());
                    }
                    session.expiry_interval = longest;
                }
                let end = match disconnect.reason {
                    ReasonCode::Success => End::Normal,
                    _ => End::WithWill,
                };
                self.close(link, end);
            }
            _ => return Err(()),
        }
        Ok(())
    }

    fn answer(&mut self, link: usize, answer: Answer) {
        self.connections[link].answers.push_back(answer);
    }

    fn on_connect(&mut self, link: usize, connect: Connect) {
        let number = |id| connect.properties.number(id);
        if let Some(old) = self
            .find(connect.client_id)
            .and_then(|session| session.link)
        {
            self.close(old, End::WithWill);
        }
        if let (true, Some(session)) = (connect.clean_start, self.find(connect.client_id)) {
            let uid = session.uid;
            self.end_session(uid);
        }
        let found = self.find(connect.client_id).map(|session| session.uid);
        let uid = found.unwrap_or_else(|| self.create(connect.client_id));
        let expiry = match connect.version {
            Version::V5 => number(PropertyId::SessionExpiryInterval).unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => NEVER,
        };
        let expiry_interval = self.longest_expiry(expiry);
        let will = connect.will.map(|will| Will {
            delay: will
                .properties
                .number(PropertyId::WillDelayInterval)
                .unwrap_or(0),
            expiry: will.properties.number(PropertyId::MessageExpiryInterval),
            message: Message {
                topic: will.topic.to_string(),
                payload: will.payload.to_vec(),
                properties: forwarded(&will.properties),
                expires_at: None,
                qos: will.qos,
                retain: will.retain,
                publisher: connect.client_id.to_string(),
            },
        });
        let packet_bytes_max =
            number(PropertyId::MaximumPacketSize).map_or(usize::MAX, |max| max as usize);
        let session = self.session(uid);
        session.link = Some(link);
        session.durable |= found.is_none() && expiry_interval > 0;
        session.expiry_interval = expiry_interval;
        session.expiry_at = None;
        session.will = will;
        session.will_at = None;
        session.allow_too_large(connect.version, packet_bytes_max);
        let keep_alive = match self.options.max_keep_alive {
            0 => connect.keep_alive,
            max if (1..=max).contains(&connect.keep_alive) => connect.keep_alive,
            max => max,
        };
        let connection = &mut self.connections[link];
        connection.phase = Phase::Connected(uid);
        connection.uid = uid;
        connection.version = connect.version;
        connection.silence_max = (keep_alive > 0).then(|| Millis::from(keep_alive) * 1_500);
        connection.packet_bytes_max = packet_bytes_max;
        connection.receive_maximum =
            number(PropertyId::ReceiveMaximum).map_or(usize::from(u16::MAX), |max| max as usize);
        connection.alias_max = number(PropertyId::TopicAliasMaximum).unwrap_or(0) as u16;
        self.weaken_too_large();
        let session_present = found.is_some();
        self.answer(link, Answer::ConnAck { session_present });
    }

    fn longest_expiry(&self, wanted: u32) -> u32 {
        let longest = self.options.persistent_client_expiration;
        longest.map_or(wanted, |longest| wanted.min(longest.as_secs() as u32))
    }

    fn find(&self, client_id: &str) -> Option<&Session> {
        self.sessions.iter().find(|s| s.client_id == client_id)
    }

    fn create(&mut self, client_id: &str) -> usize {
        self.sessions_ever += 1;
        let uid = self.sessions_ever;
        self.sessions.push(Session {
            uid,
            client_id: client_id.to_string(),
            durable: false,
            link: None,
            expiry_interval: 0,
            expiry_at: None,
            will: None,
            will_at: None,
            subscriptions: Vec::new(),
            received: BTreeMap::new(),
            pending: Vec::new(),
            replays: Vec::new(),
            inflight: BTreeMap::new(),
            groups: Vec::new(),
        });
        uid
    }

    fn on_publish(&mut self, link: usize, uid: usize, publish: Publish) -> Result<(), ()> {
        if publish
            .properties
            .number(PropertyId::SubscriptionIdentifier)
            .is_some()
        {
            return Err(());
        }
        check_message_properties(&publish)?;
        let topic = self.resolve_alias(link, &publish)?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err(());
        }
        let version = self.connections[link].version;
        let receive_maximum = usize::from(self.options.limits.receive_maximum);
        if publish.qos == QoS::ExactlyOnce {
            let id = publish.packet_id.expect("QoS 2 has an id");
            let received = &self.session(uid).received;
            if received.contains_key(&id) {
                self.answer(link, Answer::PubRec(id, ReasonCode::Success));
                return Ok(());
            }
            // 4.9: quotas begin anew with each connection.
            let here = received.values().filter(|began| **began == link).count();
            if here >= receive_maximum && version == Version::V5 {
                return Err(());
            }
        }
        let expiry = publish.properties.number(PropertyId::MessageExpiryInterval);
        let publisher = self.session(uid).client_id.clone();
        let outcome = self.publish(Message {
            topic,
            payload: publish.payload.to_vec(),
            properties: forwarded(&publish.properties),
            expires_at: expiry.map(|seconds| self.now + u64::from(seconds) * 1_000),
            qos: publish.qos,
            retain: publish.retain,
            publisher,
        });
        let Some(id) = publish.packet_id else {
            return Ok(());
        };
        let reason = match (&outcome, version) {
            (_, Version::V31 | Version::V311) => ReasonCode::Success,
            (Ok(0), _) => ReasonCode::NoMatchingSubscribers,
            (Ok(_), _) => ReasonCode::Success,
            (Err(_), _) => ReasonCode::QuotaExceeded,
        };
        if publish.qos == QoS::AtLeastOnce {
            self.answer(link, Answer::PubAck(id, reason));
        } else {
            if !reason.is_error() {
                self.session(uid).received.insert(id, link);
            }
            self.answer(link, Answer::PubRec(id, reason));
        }
        Ok(())
    }

    fn resolve_alias(&mut self, link: usize, publish: &Publish) -> Result<String, ()> {
        let Some(alias) = publish.properties.number(PropertyId::TopicAlias) else {
            return Ok(publish.topic.to_string());
        };
        let alias = alias as u16;
        if alias == 0 || alias > self.options.limits.topic_alias_max {
            return Err(());
        }
        let aliases = &mut self.connections[link].aliases_in;
        if !publish.topic.is_empty() {
            aliases.insert(alias, publish.topic.to_string());
        }
        aliases.get(&alias).cloned().ok_or(())
    }

    fn on_last_ack(&mut self, uid: usize, ack: Ack, qos: QoS) -> Result<(), ()> {
        let inflight = &mut self.session(uid).inflight;
        let Some(message) = inflight.get(&ack.packet_id) else {
            return Ok(());
        };
        if message.qos != qos || message.released {
            return Err(());
        }
        let shared = message.shared;
        inflight.remove(&ack.packet_id);
        if let Some(shared) = shared {
            self.shared[shared].holder = Holder::Done;
        }
        Ok(())
    }

    fn on_pubrec(&mut self, link: usize, uid: usize, ack: Ack) -> Result<(), ()> {
        let mut reason = ReasonCode::PacketIdentifierNotFound;
        let mut shared = None;
        if let Some(message) = self.session(uid).inflight.get_mut(&ack.packet_id) {
            if message.qos != QoS::ExactlyOnce {
                return Err(());
            }
            message.released = true;
            shared = message.shared;
            reason = ReasonCode::Success;
        }
        if let Some(shared) = shared {
            self.shared[shared].holder = Holder::Done;
        }
        self.answer(link, Answer::PubRel(ack.packet_id, reason));
        Ok(())
    }

    fn on_subscribe(&mut self, link: usize, uid: usize, subscribe: Subscribe) -> Result<(), ()> {
        let id = subscribe
            .properties
            .number(PropertyId::SubscriptionIdentifier);
        for (filter, options) in &subscribe.filters {
            let (share_name, _) = split_share(filter)?;
            if share_name.is_some() && options.no_local {
                return Err(());
            }
        }
        let mut reasons = Vec::new();
        for (filter, options) in &subscribe.filters {
            reasons.push(self.subscribe(uid, filter, *options, id.unwrap_or(0)));
        }
        self.answer(link, Answer::SubAck(subscribe.packet_id, reasons));
        Ok(())
    }

    fn subscribe(
        &mut self,
        uid: usize,
        text: &str,
        options: SubscriptionOptions,
        id: u32,
    ) -> ReasonCode {
        let (share_name, filter) = split_share(text).expect("it was checked before");
        let subscription = Subscription {
            share_name: share_name.clone(),
            filter: filter.clone(),
            options,
            id,
        };
        let most = self.options.limits.subscriptions_max;
        let session = self.session(uid);
        let count = session.subscriptions.len();
        let existing = session
            .subscriptions
            .iter_mut()
            .find(|other| (&other.share_name, &other.filter) == (&share_name, &filter));
        let is_new = existing.is_none();
        match existing {
            Some(existing) => *existing = subscription,
            None if count >= most => return ReasonCode::QuotaExceeded,
            None => session.subscriptions.push(subscription),
        }
        if let Some(share_name) = share_name {
            let group = (share_name, filter);
            session.groups.push(group.clone());
            if id != 0 {
                self.shared_ids.insert(id, group.clone());
            }
            if options.qos == QoS::AtMostOnce {
                let of_group = self.shared.iter_mut().filter(|s| s.group == group);
                of_group.for_each(|shared| shared.weak = true);
            }
            self.weaken_too_large();
        } else if options.retain_handling == RetainHandling::Send
            || options.retain_handling == RetainHandling::SendIfNew && is_new
        {
            self.begin_replay(uid, &filter, options, id);
        } else if !is_new {
            self.alter_replay(uid, &filter, options.qos, id);
        }
        match options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// The subscription was replaced while its replay may be under way: what is still to come does
    /// so as the new one has it. It is not known how far it came.
    fn alter_replay(&mut self, uid: usize, filter: &str, granted: QoS, id: u32) {
        let upgrade = self.options.upgrade_outgoing_qos;
        let session = self.session(uid);
        session.give_up_replays(filter);
        let of_filter = |copy: &&Copy| matches(filter, &copy.message.topic);
        let altered: Vec<_> = session.replays.iter().filter(of_filter).cloned().collect();
        for mut copy in altered {
            copy.qos = if upgrade {
                granted
            } else {
                granted.min(copy.message.qos)
            };
            copy.subscription_ids = Vec::from_iter((id != 0).then_some(id));
            session.replays.push(copy);
        }
    }

    fn begin_replay(&mut self, uid: usize, filter: &str, options: SubscriptionOptions, id: u32) {
        let (now, granted) = (self.now, options.qos);
        let own = self.session(uid).client_id.clone();
        let matching: Vec<_> = self
            .retained
            .iter()
            .filter(|message| matches(filter, &message.topic))
            .filter(|message| message.expires_at.is_none_or(|at| at > now))
            // [MQTT-3.8.3-3]
            .filter(|message| !(options.no_local && message.publisher == own))
            .cloned()
            .collect();
        let upgrade = self.options.upgrade_outgoing_qos;
        let (version, bytes_max) = self.bounds(uid);
        let session = self.session(uid);
        session.give_up_replays(filter);
        for message in matching {
            let qos = if upgrade {
                granted
            } else {
                granted.min(message.qos)
            };
            let mut copy = Copy {
                message,
                qos,
                retain: true,
                subscription_ids: Vec::from_iter((id != 0).then_some(id)),
                droppable: false,
                at_once: false,
                cancelled: false,
                replayed: false,
            };
            copy.droppable = copy.len(version) > bytes_max;
            session.replays.push(copy);
        }
    }

    fn unsubscribe(&mut self, uid: usize, text: &str) -> ReasonCode {
        let (share_name, filter) = split_share(text).expect("it was checked before");
        let session = self.session(uid);
        let before = session.subscriptions.len();
        session
            .subscriptions
            .retain(|other| (&other.share_name, &other.filter) != (&share_name, &filter));
        if session.subscriptions.len() == before {
            return ReasonCode::NoSubscriptionExisted;
        }
        match share_name {
            None => session.give_up_replays(&filter),
            Some(share_name) => self.hand_on(uid, Leaving::Group(&(share_name, filter))),
        }
        self.end_empty_groups();
        ReasonCode::Success
    }

    // ---- messages ---------------------------------------------------------------------------

    /// Retains and routes; how many sessions and groups it is for. Given back if it is refused.
    fn publish(&mut self, message: Message) -> Result<usize, Message> {
        self.is_blind |= self.is_under_way(&message.topic, &message.payload);
        if message.retain {
            let others = self.retained.iter();
            let others = others.filter(|old| old.topic != message.topic);
            let is_alive = |old: &&Rc<Message>| old.expires_at.is_none_or(|at| at > self.now);
            let (all, alive) = (others.clone().count(), others.filter(is_alive).count());
            let most = self.options.limits.retained_messages_max;
            if !message.payload.is_empty() && all >= most {
                // What has expired takes a place until it is swept out, some time; and which of
                // several wills finds the last place is not defined.
                self.is_blind |= alive < most || self.is_unordered;
                return Err(message);
            }
            self.retained.retain(|old| old.topic != message.topic);
            for session in &mut self.sessions {
                session.cancel_replays(|copy| copy.message.topic == message.topic);
            }
        }
        let message = Rc::new(message);
        if message.retain && !message.payload.is_empty() {
            self.retained.push(message.clone());
        }
        let mut reached = 0;
        for index in 0..self.sessions.len() {
            if let Some(copy) = self.copy_for(index, &message) {
                reached += 1;
                self.expect(index, copy);
            }
        }
        Ok(reached + self.share(&message))
    }

    /// Whether a message that looks like this may still be sent to somebody.
    pub fn is_under_way(&self, topic: &str, payload: &[u8]) -> bool {
        let is_same = |message: &Message| message.topic == topic && message.payload == payload;
        let shared = |one: &Shared| is_same(&one.message) && one.holder != Holder::Done;
        let of_session = |session: &Session| {
            let waiting = session.pending.iter().chain(&session.replays);
            let inflight = session.inflight.values().filter(|one| !one.released);
            let inflight = inflight.filter_map(|one| one.copy.as_ref());
            waiting.chain(inflight).any(|copy| is_same(&copy.message))
        };
        let retained = self.retained.iter().any(|message| is_same(message));
        retained || self.shared.iter().any(shared) || self.sessions.iter().any(of_session)
    }

    fn copy_for(&self, index: usize, message: &Rc<Message>) -> Option<Copy> {
        let session = &self.sessions[index];
        let own = session.client_id == message.publisher;
        let matching: Vec<&Subscription> = session
            .subscriptions
            .iter()
            .filter(|subscription| subscription.share_name.is_none())
            .filter(|subscription| matches(&subscription.filter, &message.topic))
            .filter(|subscription| !(subscription.options.no_local && own))
            .collect();
        let granted = matching.iter().map(|one| one.options.qos).max()?;
        let retain = matching.iter().any(|one| one.options.retain_as_published);
        let mut ids: Vec<u32> = matching.iter().map(|one| one.id).collect();
        ids.retain(|id| *id != 0);
        ids.sort_unstable();
        let qos = match self.options.upgrade_outgoing_qos {
            true => granted,
            false => granted.min(message.qos),
        };
        Some(Copy {
            message: message.clone(),
            qos,
            retain: retain && message.retain,
            subscription_ids: ids,
            droppable: false,
            at_once: qos == QoS::AtMostOnce && session.link.is_some(),
            cancelled: false,
            replayed: false,
        })
    }

    fn expect(&mut self, index: usize, mut copy: Copy) {
        let limits = &self.options.limits;
        let (version, bytes_max) = self.bounds(self.sessions[index].uid);
        copy.droppable = copy.len(version) > bytes_max;
        let shared = self.shared.iter().filter(|shared| {
            shared.holder != Holder::Done && self.sessions[index].groups.contains(&shared.group)
        });
        let (shared_count, shared_bytes) = shared.fold((0, 0), |(count, bytes), shared| {
            (count + 1, bytes + shared.message.stored_len())
        });
        let session = &mut self.sessions[index];
        if session.link.is_none()
            && copy.qos == QoS::AtMostOnce
            && !self.options.queue_qos0_messages
        {
            return;
        }
        let queued = session.pending.iter().filter(|pending| !pending.at_once);
        let bytes: usize = queued.clone().map(|one| one.message.stored_len()).sum();
        let count = queued.count() + shared_count;
        // A group's messages may be handed on to it at any time, and take the places of others.
        let is_full = is_tight(limits) && !session.groups.is_empty()
            || count >= limits.queued_messages_max
            || (bytes + shared_bytes + copy.message.stored_len()) as u64 > limits.queued_bytes_max;
        if copy.at_once && self.options.queue_qos0_messages {
            // Others may wait before it, and it must not overtake them.
            copy.at_once = false;
            copy.droppable = true;
        }
        // Which of several wills finds the last place is not defined.
        let may_be_full = self.is_unordered && is_tight(limits);
        if (is_full || may_be_full) && !copy.at_once {
            copy.droppable = true;
            if self.options.queue_overflow == QueueOverflow::DropOldest {
                session
                    .pending
                    .iter_mut()
                    .for_each(|one| one.droppable = true);
            }
        }
        session.pending.push(copy);
    }

    fn share(&mut self, message: &Rc<Message>) -> usize {
        let mut groups: Vec<(String, String)> = Vec::new();
        let mut weak = Vec::new();
        let limits = &self.options.limits;
        let tight = is_tight(limits);
        for session in &self.sessions {
            for subscription in &session.subscriptions {
                let Some(share_name) = &subscription.share_name else {
                    continue;
                };
                if matches(&subscription.filter, &message.topic) {
                    let group = (share_name.clone(), subscription.filter.clone());
                    let qos0 = subscription.options.qos == QoS::AtMostOnce;
                    if qos0 || tight || message.qos == QoS::AtMostOnce {
                        weak.push(group.clone());
                    }
                    groups.push(group);
                }
            }
        }
        groups.sort();
        groups.dedup();
        for group in &groups {
            let members = self.sessions.iter().filter(|one| one.is_member(group));
            let within = members.map(|member| member.uid).collect();
            self.shared.push(Shared {
                within,
                orphan: false,
                group: group.clone(),
                message: message.clone(),
                holder: Holder::Nobody,
                weak: weak.contains(group),
            });
        }
        self.weaken_too_large();
        groups.len()
    }

    /// What a session's present connection speaks and takes.
    fn bounds(&self, uid: usize) -> (Version, usize) {
        let session = self.sessions.iter().find(|session| session.uid == uid);
        match session.and_then(|session| session.link) {
            Some(link) => {
                let connection = &self.connections[link];
                (connection.version, connection.packet_bytes_max)
            }
            None => (Version::V5, usize::MAX),
        }
    }

    // ---- what the broker sent ---------------------------------------------------------------

    /// The broker sent `packet` of `length` bytes.
    pub fn sent(&mut self, link: usize, packet: &Packet, length: usize) {
        if self.is_blind {
            return;
        }
        let connection = &mut self.connections[link];
        assert!(!connection.said_disconnect, "something behind a DISCONNECT");
        assert!(
            length <= connection.packet_bytes_max,
            "{length} bytes are beyond the Maximum Packet Size of {}",
            connection.packet_bytes_max
        );
        if let Packet::ConnAck(connack) = packet {
            assert!(!connection.said_connack, "a second CONNACK");
            connection.said_connack = true;
            if connack.reason != ReasonCode::Success {
                assert_eq!(connection.phase, Phase::Closed, "refused: {packet:?}");
                return;
            }
        }
        assert!(connection.said_connack, "{packet:?} before the CONNACK");
        match packet {
            Packet::Publish(publish) => self.sent_publish(link, publish),
            Packet::Disconnect(_) => {
                // Whether it is the end of the connection is seen when the turn ends.
                connection.said_disconnect = true;
            }
            Packet::PubRel(ack) => {
                let expected = Answer::PubRel(ack.packet_id, ack.reason);
                let version = connection.version;
                let first = connection.answers.front();
                if first.is_some_and(|first| first.says(&expected, version)) {
                    connection.answers.pop_front();
                    return;
                }
                let Some(uid) = self.uid_of(link) else {
                    return;
                };
                let inflight = self.session(uid).inflight.get_mut(&ack.packet_id);
                let inflight = inflight.expect("PUBREL for an unknown id");
                assert!(inflight.released && !inflight.here, "an unexpected PUBREL");
                inflight.here = true;
            }
            _ => {
                let answer = match packet {
                    Packet::ConnAck(connack) => Answer::ConnAck {
                        session_present: connack.session_present,
                    },
                    Packet::PubAck(ack) => Answer::PubAck(ack.packet_id, ack.reason),
                    Packet::PubRec(ack) => Answer::PubRec(ack.packet_id, ack.reason),
                    Packet::PubComp(ack) => Answer::PubComp(ack.packet_id, ack.reason),
                    Packet::SubAck(ack) => Answer::SubAck(ack.packet_id, ack.reasons.clone()),
                    Packet::UnsubAck(ack) => Answer::UnsubAck(ack.packet_id, ack.reasons.clone()),
                    Packet::PingResp => Answer::PingResp,
                    _ => panic!("a server does not send {packet:?}"),
                };
                let expected = connection.answers.pop_front();
                assert!(
                    expected
                        .as_ref()
                        .is_some_and(|e| e.says(&answer, connection.version)),
                    "{answer:?} where {expected:?} was to come"
                );
            }
        }
    }

    fn uid_of(&self, link: usize) -> Option<usize> {
        match self.connections[link].phase {
            Phase::Connected(uid) => Some(uid),
            Phase::AwaitConnect | Phase::Closed => None,
        }
    }

    fn sent_publish(&mut self, link: usize, publish: &Publish) {
        let topic = self.sent_topic(link, publish);
        let mut ids = Vec::new();
        for property in publish.properties.iter() {
            if let (PropertyId::SubscriptionIdentifier, Value::Number(id)) =
                (property.id, property.value)
            {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        let properties: Vec<u8> = forwarded(&publish.properties);
        let now = self.now;
        let seconds_said = publish.properties.number(PropertyId::MessageExpiryInterval);
        let is_v5 = self.connections[link].version == Version::V5;
        let looks_like = |message: &Message| {
            message.topic == topic
                && message.payload == publish.payload
                && (message.properties == properties || !is_v5)
        };
        let is_new = |message: &Message| {
            let left = message.seconds_left(now);
            looks_like(message)
                && message.expires_at.is_none_or(|at| at >= now)
                && (left == seconds_said.map(u64::from) || !is_v5)
        };
        // It may have been sent in the verb that ended the connection, or even the session.
        let has_ended = self.is_closed(link);
        let uid = self.connections[link].uid;
        if !self.sessions.iter().any(|session| session.uid == uid) {
            let same = self.shared.iter_mut().filter(|it| looks_like(&it.message));
            same.for_each(|shared| shared.weak = true);
            return;
        }
        // After a crash nobody knows under which id it was sent before, nor that it was.
        let is_known = |id: &PacketId| {
            let session = self.sessions.iter().find(|session| session.uid == uid);
            let inflight = session.and_then(|session| session.inflight.get(id));
            inflight.is_some_and(|inflight| {
                let copy = inflight.copy.as_ref();
                !inflight.floating || copy.is_none_or(|copy| looks_like(&copy.message))
            })
        };
        let is_renewed = self.crashed
            && publish.qos == QoS::AtLeastOnce
            && !publish.packet_id.as_ref().is_some_and(is_known);
        if publish.dup && !is_renewed {
            let session = self.session(uid);
            let id = publish.packet_id.expect("DUP has an id");
            if has_ended {
                assert!(
                    session.inflight.contains_key(&id),
                    "DUP of an unknown id {id}"
                );
                return;
            }
            let earlier = session.inflight.get(&id).map_or(u64::MAX, |it| it.order);
            session.expect_nothing_to_resend_before(earlier);
            let inflight = session.inflight.get_mut(&id);
            let inflight = inflight.unwrap_or_else(|| panic!("DUP of an unknown id {id}"));
            assert!(!inflight.released, "PUBLISH again after PUBREC");
            assert!(!inflight.here, "PUBLISH twice on one connection");
            if let Some(copy) = &inflight.copy {
                assert!(looks_like(&copy.message), "{id} is another message now");
                assert_eq!((copy.qos, copy.retain), (publish.qos, publish.retain));
                let left = copy.message.seconds_left(now);
                assert!(
                    !is_v5 || left == seconds_said.map(u64::from),
                    "seconds left"
                );
            }
            inflight.here = true;
            inflight.counts = true;
            inflight.floating = false;
            if let Some(shared) = inflight.shared {
                let shared = &mut self.shared[shared];
                shared.within = BTreeSet::from([uid]);
                match &mut shared.holder {
                    Holder::Sent { uid: by, gone, .. } if *by == uid => *gone = false,
                    holder => panic!("sent again what another member has: {holder:?}"),
                }
            }
        } else {
            let (copy, shared) = if topic.starts_with("$SYS/") {
                (None, None)
            } else if let Some(group) = self.group_of(link, &ids) {
                let qos = publish.qos;
                let at = self.take_shared(link, &group, qos, &is_new);
                let Some(at) = at else {
                    // Unless the next member has it already.
                    let similar = self.shared.iter().filter(|it| looks_like(&it.message));
                    let similar: Vec<_> = similar.collect();
                    assert!(has_ended, "not for session {uid} of {group:?}: {similar:?}");
                    return;
                };
                let shared = &self.shared[at];
                assert!(shared.message.retain || !publish.retain);
                let copy = Copy {
                    message: shared.message.clone(),
                    qos: publish.qos,
                    retain: publish.retain,
                    subscription_ids: ids,
                    droppable: false,
                    at_once: false,
                    cancelled: false,
                    replayed: false,
                };
                (Some(copy), Some(at))
            } else {
                let copy = self.take_expected(uid, publish, &ids, &topic, &is_new);
                (Some(copy), None)
            };
            self.deliveries += 1;
            self.order += 1;
            let order = self.order;
            if let Some(id) = publish.packet_id {
                let session = self.session(uid);
                if !has_ended {
                    session.expect_nothing_to_resend_before(u64::MAX);
                }
                let inflight = Inflight {
                    copy,
                    qos: publish.qos,
                    order,
                    released: false,
                    here: !has_ended,
                    counts: !has_ended,
                    shared,
                    floating: false,
                };
                let old = session.inflight.insert(id, inflight);
                assert!(
                    old.is_none_or(|old| old.floating),
                    "Packet Identifier {id} is in use"
                );
                if has_ended {
                    self.float(uid);
                }
            }
        }
    }

    fn sent_topic(&mut self, link: usize, publish: &Publish) -> String {
        let connection = &mut self.connections[link];
        let Some(alias) = publish.properties.number(PropertyId::TopicAlias) else {
            assert!(!publish.topic.is_empty(), "neither topic nor alias");
            return publish.topic.to_string();
        };
        let alias = alias as u16;
        assert!(alias > 0, "topic alias 0");
        assert!(
            alias <= connection.alias_max,
            "topic alias {alias} is beyond the client's maximum"
        );
        if !publish.topic.is_empty() {
            let topic = publish.topic.to_string();
            connection.aliases_out.insert(alias, topic);
        }
        let known = connection.aliases_out.get(&alias);
        known.expect("a topic alias that was never set").clone()
    }

    /// The group that sends this, if one does: told by its Subscription Identifier, or by the
    /// session having nothing but one shared subscription.
    fn group_of(&self, link: usize, ids: &[u32]) -> Option<(String, String)> {
        if let [id] = ids
            && let Some(group) = self.shared_ids.get(id)
        {
            return Some(group.clone());
        }
        let Connection { version, uid, .. } = self.connections[link];
        let session = self.sessions.iter().find(|session| session.uid == uid)?;
        match version {
            Version::V5 => None,
            Version::V31 | Version::V311 => session.groups.first().cloned(),
        }
    }

    fn take_shared(
        &mut self,
        link: usize,
        group: &(String, String),
        qos: QoS,
        looks_like: &dyn Fn(&Message) -> bool,
    ) -> Option<usize> {
        let has_ended = self.is_closed(link);
        let uid = self.connections[link].uid;
        let session = self.session(uid);
        assert!(
            session.groups.contains(group),
            "never a member of {group:?}"
        );
        let candidates: Vec<usize> = (0..self.shared.len())
            .filter(|at| self.shared[*at].group == *group)
            .filter(|at| looks_like(&self.shared[*at].message))
            .filter(|at| self.shared[*at].within.contains(&uid))
            .collect();
        let holder = |at: &&usize| self.shared[**at].holder;
        let nobodys = candidates.iter().find(|at| holder(at) == Holder::Nobody);
        let free = nobodys.or(candidates.iter().find(|at| match holder(at) {
            // [MQTT-4.8.2-4] a QoS 2 message stays with whom it was sent to.
            Holder::Sent { gone, qos, .. } => gone && qos == QoS::AtLeastOnce,
            Holder::Nobody | Holder::Done => false,
        }));
        let at = *free?;
        let shared = &mut self.shared[at];
        if !has_ended {
            shared.within = BTreeSet::from([uid]);
        }
        shared.holder = match qos {
            QoS::AtMostOnce => Holder::Done,
            _ => Holder::Sent {
                uid,
                qos,
                gone: has_ended && shared.within.len() > 1,
            },
        };
        Some(at)
    }

    /// Checks off a message that this session was to be sent, and everything older of the same
    /// publisher and topic, which must be allowed to be lost.
    fn take_expected(
        &mut self,
        uid: usize,
        publish: &Publish,
        ids: &[u32],
        topic: &str,
        looks_like: &dyn Fn(&Message) -> bool,
    ) -> Copy {
        let (now, crashed) = (self.now, self.crashed);
        let session = self.session(uid);
        let is_it = |copy: &Copy| {
            looks_like(&copy.message)
                && (copy.qos, copy.retain) == (publish.qos, publish.retain)
                && copy.subscription_ids == ids
        };
        let mut replays = session.replays.iter();
        let replay = replays
            .position(|copy| is_it(copy) && !copy.cancelled && !copy.droppable)
            // One that begins anew may come, one that was sent before has to.
            .or(session.replays.iter().position(|copy| {
                is_it(copy) && !(crashed && publish.dup && session.pending.iter().any(is_it))
            }));
        if let Some(at) = replay
            && crashed
            && session.replays[at].droppable
        {
            // It may have been the other one, if so late that it was not said to be: then the
            // replay is still to come, behind whatever comes first.
            for copy in session.pending.iter_mut().filter(|copy| is_it(copy)) {
                (copy.droppable, copy.replayed) = (true, true);
            }
        }
        if let Some(at) = replay {
            let copy = session.replays.remove(at);
            return Copy {
                replayed: true,
                ..copy
            };
        }
        let Some(at) = session.pending.iter().position(is_it) else {
            let payload = String::from_utf8_lossy(publish.payload);
            let payload = payload.trim_end_matches('.');
            let similar = session.pending.iter().chain(&session.replays);
            let similar: Vec<_> = similar.filter(|one| one.message.topic == topic).collect();
            panic!(
                "{} must not be sent {payload:?} to {topic} \
                 with {ids:?} {:?} retain {}: {similar:#?}",
                session.client_id, publish.qos, publish.retain
            );
        };
        let found = session.pending[at].clone();
        let precedes = |copy: &Copy| {
            (&copy.message.publisher, &copy.message.topic)
                == (&found.message.publisher, &found.message.topic)
                && !copy.replayed
                && !found.replayed
                && (copy.qos == QoS::AtMostOnce) == (found.qos == QoS::AtMostOnce)
        };
        let may_be_lost =
            |copy: &Copy| copy.droppable || copy.message.expires_at.is_some_and(|at| at <= now);
        let mut older = session.pending[..at].iter();
        if let Some(lost) = older.find(|one| precedes(one) && !may_be_lost(one)) {
            panic!("{}: {found:?} overtook {lost:?}", session.client_id);
        }
        let mut index = 0;
        let before = session.pending.len();
        session.pending.retain(|copy| {
            index += 1;
            index > at + 1 || (index <= at && !precedes(copy))
        });
        self.losses += before - session.pending.len() - 1;
        found
    }

    /// A verb is over and all that it sent was checked off: what had to come has come. `owed` is
    /// how many bytes each link is owed.
    pub fn verb_is_over(&mut self, owed: &[usize]) {
        if self.is_blind {
            return;
        }
        let soft = self.options.limits.outbound_bytes_max;
        for (link, connection) in self.connections.iter_mut().enumerate() {
            if connection.phase == Phase::Closed {
                continue;
            }
            assert!(
                connection.answers.is_empty(),
                "link {link} was not sent {:?}",
                connection.answers
            );
        }
        for session in &mut self.sessions {
            session.replays.retain(|copy| !copy.cancelled);
            let Some(link) = session.link else {
                session.pending.retain(|copy| !copy.at_once);
                continue;
            };
            for copy in session.pending.iter().filter(|copy| copy.at_once) {
                assert!(
                    owed[link] >= soft || copy.droppable,
                    "{}: a QoS 0 message was not sent though there was room: {copy:?}",
                    session.client_id
                );
                self.losses += 1;
            }
            session.pending.retain(|copy| !copy.at_once);
            let sent = session.inflight.values().filter(|message| message.counts);
            let sent = sent.count();
            let maximum = self.connections[link].receive_maximum;
            assert!(
                sent <= maximum,
                "{sent} in flight, Receive Maximum is {maximum}"
            );
        }
    }

    /// Everybody has read and acknowledged everything: nothing may be left.
    pub fn check_drained(&mut self) {
        // It may have lost sight of what happens while all that was under way came to its end.
        if self.is_blind {
            return;
        }
        let now = self.now;
        for session in &self.sessions {
            let name = &session.client_id;
            assert!(
                session.link.is_some() || session.pending.is_empty(),
                "{name}"
            );
            if session.link.is_none() {
                continue;
            }
            for copy in session.pending.iter().chain(&session.replays) {
                let expired = copy.message.expires_at.is_some_and(|at| at <= now);
                assert!(copy.droppable || expired, "{name} was never sent {copy:?}");
            }
            for (id, inflight) in &session.inflight {
                assert!(
                    inflight.floating,
                    "{name}: {id} is still in flight: {inflight:?}"
                );
            }
        }
        for shared in &self.shared {
            let expired = shared.message.expires_at.is_some_and(|at| at <= now);
            assert!(
                shared.weak || expired || shared.holder == Holder::Done,
                "never delivered to a group: {shared:?}"
            );
        }
        self.losses += self.sessions.iter().map(|s| s.pending.len()).sum::<usize>();
        for session in &mut self.sessions {
            session.pending.clear();
            session.replays.clear();
        }
    }
}

impl Session {
    fn crash(&mut self, now: Millis) {
        if self.link.take().is_some() {
            let interval = Millis::from(self.expiry_interval) * 1_000;
            self.expiry_at = (self.expiry_interval != NEVER).then_some(now + interval);
            let will = self.will.as_ref().map(|will| will.delay);
            let will = will.filter(|delay| *delay < self.expiry_interval);
            self.will_at = will.map(|delay| now + Millis::from(delay) * 1_000);
        }
        for at in [&mut self.expiry_at, &mut self.will_at]
            .into_iter()
            .flatten()
        {
            *at = (*at).max(now);
        }
        let mut sent: Vec<_> = std::mem::take(&mut self.inflight).into_iter().collect();
        sent.sort_by_key(|(_, inflight)| inflight.order);
        let mut waiting = Vec::new();
        for (id, mut inflight) in sent {
            (inflight.here, inflight.counts) = (false, false);
            if inflight.qos == QoS::ExactlyOnce {
                self.inflight.insert(id, inflight);
            } else if inflight.shared.is_none() {
                waiting.extend(inflight.copy.map(|mut copy| {
                    copy.droppable |= inflight.floating;
                    copy
                }));
            }
        }
        waiting.append(&mut self.pending);
        self.pending = waiting;
    }

    /// Replays that had not come to their end begin anew; which these are is not known.
    fn expect_replays_again(&mut self, retained: &[Rc<Message>], upgrade: bool, now: Millis) {
        for subscription in self.subscriptions.clone() {
            let Subscription {
                share_name: None,
                filter,
                options,
                id,
            } = subscription
            else {
                continue;
            };
            let own = self.client_id.clone();
            let matching = retained
                .iter()
                .filter(|message| matches(&filter, &message.topic))
                .filter(|message| message.expires_at.is_none_or(|at| at > now))
                .filter(|message| !(options.no_local && message.publisher == own));
            for message in matching {
                let qos = match upgrade {
                    true => options.qos,
                    false => options.qos.min(message.qos),
                };
                self.replays.push(Copy {
                    message: message.clone(),
                    qos,
                    retain: true,
                    subscription_ids: Vec::from_iter((id != 0).then_some(id)),
                    droppable: true,
                    at_once: false,
                    cancelled: false,
                    replayed: false,
                });
            }
        }
    }

    fn is_member(&self, group: &(String, String)) -> bool {
        self.subscriptions
            .iter()
            .any(|one| one.share_name.as_deref() == Some(&group.0) && one.filter == group.1)
    }

    fn cancel_replays(&mut self, which: impl Fn(&Copy) -> bool) {
        for copy in self.replays.iter_mut().filter(|copy| which(copy)) {
            copy.cancelled = true;
            copy.droppable = true;
        }
    }

    /// The replay of one filter ends. Without Subscription Identifiers, copies of other replays
    /// look the same, so that nobody can tell which were sent already: none has to come any more.
    fn give_up_replays(&mut self, filter: &str) {
        for copy in &mut self.replays {
            copy.droppable |= matches(filter, &copy.message.topic);
        }
    }

    /// A new connection takes only so large packets: what is larger may be lost.
    fn allow_too_large(&mut self, version: Version, bytes_max: usize) {
        for copy in self.pending.iter_mut().chain(&mut self.replays) {
            copy.droppable |= copy.len(version) > bytes_max;
        }
        for inflight in self.inflight.values_mut().filter(|one| !one.released) {
            let length = inflight.copy.as_ref().map(|copy| copy.len(version));
            inflight.floating |= length.is_none_or(|length| length > bytes_max);
        }
    }

    /// [MQTT-4.6.0-1] what an earlier connection left comes first, in the same order.
    fn expect_nothing_to_resend_before(&self, order: u64) {
        let mut waiting = self.inflight.iter().filter(|(_, message)| {
            !message.here && !message.released && !message.floating && message.order < order
        });
        let first = waiting.next();
        assert!(first.is_none(), "{first:?} was to be sent again first");
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let payload = String::from_utf8_lossy(&self.payload);
        write!(f, "{:?} to {}", payload.trim_end_matches('.'), self.topic)?;
        write!(f, " retain {} until {:?}", self.retain, self.expires_at)
    }
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{:?}, {:?} retain {}",
            self.message, self.qos, self.retain
        )?;
        write!(
            f,
            " ids {:?} droppable {}",
            self.subscription_ids, self.droppable
        )?;
        Ok(())
    }
}

impl Message {
    /// Seconds until it expires, rounded up.
    fn seconds_left(&self, now: Millis) -> Option<u64> {
        let at = self.expires_at?;
        Some(at.saturating_sub(now).div_ceil(1_000))
    }

    /// What the broker counts for it in a queue.
    fn stored_len(&self) -> usize {
        15 + self.topic.len() + self.properties.len() + self.payload.len()
    }
}

impl Copy {
    /// Length of the PUBLISH without a topic alias.
    fn len(&self, version: Version) -> usize {
        let mut properties = 0;
        if version == Version::V5 {
            let mut block = PropertyBlock::new();
            for id in &self.subscription_ids {
                block.number(PropertyId::SubscriptionIdentifier, *id);
            }
            let expiry = self.message.expires_at.map_or(0, |_| 5);
            let length = block.as_properties().as_bytes().len();
            properties = expiry + length + self.message.properties.len();
            properties += if properties < 128 { 1 } else { 2 };
        }
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let body = 2 + self.message.topic.len() + id + properties + self.message.payload.len();
        let header = match body {
            0..128 => 2,
            128..16_384 => 3,
            _ => 4,
        };
        header + body
    }
}

impl Answer {
    /// Whether `said` is this answer, as `version` can say it.
    fn says(&self, said: &Answer, version: Version) -> bool {
        if version == Version::V5 {
            return self == said;
        }
        match (self, said) {
            (Answer::PubAck(a, _), Answer::PubAck(b, _))
            | (Answer::PubRec(a, _), Answer::PubRec(b, _))
            | (Answer::PubRel(a, _), Answer::PubRel(b, _))
            | (Answer::PubComp(a, _), Answer::PubComp(b, _)) => a == b,
            (Answer::SubAck(a, own), Answer::SubAck(b, reasons)) => {
                let same =
                    |(a, b): (&ReasonCode, &ReasonCode)| a == b || a.is_error() && b.is_error();
                a == b && own.len() == reasons.len() && own.iter().zip(reasons).all(same)
            }
            _ => self == said,
        }
    }
}

fn check_message_properties(publish: &Publish) -> Result<(), ()> {
    for property in publish.properties.iter() {
        match (property.id, property.value) {
            (PropertyId::ResponseTopic, Value::Text(topic))
                if topic.is_empty() || topic.contains(['+', '#']) =>
            {
                return Err(());
            }
            (PropertyId::PayloadFormatIndicator, Value::Number(1)) => {
                std::str::from_utf8(publish.payload).map_err(|_| ())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn forwarded(properties: &Properties) -> Vec<u8> {
    let not_forwarded = [
        PropertyId::MessageExpiryInterval,
        PropertyId::TopicAlias,
        PropertyId::WillDelayInterval,
        PropertyId::SubscriptionIdentifier,
    ];
    let kept = properties
        .iter()
        .filter(|property| !not_forwarded.contains(&property.id));
    kept.flat_map(|property| property.bytes.to_vec()).collect()
}

/// Whether queues can be full.
fn is_tight(limits: &Limits) -> bool {
    limits.queued_messages_max < 100_000 || limits.queued_bytes_max < 1 << 20
}

/// Share name and filter, if both are as they must be.
fn split_share(text: &str) -> Result<(Option<String>, String), ()> {
    let (share_name, filter) = match text.strip_prefix("$share/") {
        None => (None, text),
        Some(rest) => {
            let (name, filter) = rest.split_once('/').ok_or(())?;
            if name.is_empty() || name.contains(['+', '#']) {
                return Err(());
            }
            (Some(name.to_string()), filter)
        }
    };
    let levels: Vec<&str> = filter.split('/').collect();
    let last = levels.len() - 1;
    let good = |(at, level): (usize, &&str)| match *level {
        "#" => at == last,
        "+" => true,
        level => !level.contains(['+', '#']),
    };
    match !filter.is_empty() && levels.iter().enumerate().all(good) {
        true => Ok((share_name, filter.to_string())),
        false => Err(()),
    }
}

/// Section 4.7, level by level and by recursion.
fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            ([wanted, filter @ ..], [level, topic @ ..]) => {
                (*wanted == "+" || wanted == level) && levels(filter, topic)
            }
            _ => false,
        }
    }
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    levels(&filter, &topic)
}
