//! Fixed scripts of packets for the pure core, shared by those who count what a message costs: the
//! instructions (`benches/instructions.rs`) and the allocations (`tests/allocations.rs`).
//!
//! A scenario is rehearsed once, by clients that decode what they are sent and answer it; what they
//! said is written down, turn by turn. The performance is by another broker, which is told the same
//! and therefore says the same: so nothing of the clients' work is counted, and the seed and the
//! clock being fixed, every performance is the same to the instruction. What stands before the
//! curtain (connections, subscriptions, enough messages for every buffer to have its size) is not
//! counted either.

mod topics;

use std::io::IoSlice;
use std::time::Instant;

use midge::broker::acl_file::{self, AclFile};
use midge::broker::limits::{Limits, Options};
use midge::broker::{Broker, ConnectionId, Turn};
use midge::packet::{
    self, Ack, Connect, Disconnect, Packet, PacketId, Properties, PropertyBlock, PropertyId,
    Publish, QoS, ReasonCode, Subscribe, SubscriptionOptions, Version,
};

use Version::{V5, V311};
use topics::filter_and_topic;

const PAYLOAD: &[u8] = &[b'x'; 100];
const TOPIC: &str = "site/12/device/03456/temperature";
/// As many as come with one read while the broker is busy.
const PUBLISHES_PER_TURN: usize = 16;
const FILTERS_PER_SUBSCRIBE: usize = 1_000;
/// Clients that share the filters of a scenario.
const FILTERING_CLIENTS: usize = 10;
/// Levels of the topic that the hostile patterns of wildcards are for.
const HOSTILE_LEVELS: usize = 120;
const ACL_LINES: usize = 1_000;
const ACL_USERS: usize = 100;
/// Topics that one client publishes to by turns: more than a session remembers answers for.
const TURN_TOPICS: usize = 300;

pub struct Scenario {
    pub name: &'static str,
    /// What the costs are divided by: publishes, or deliveries where one goes to many.
    pub messages: usize,
    rehearse: fn(&mut Rehearsal, usize),
}

const fn scenario(
    name: &'static str,
    messages: usize,
    rehearse: fn(&mut Rehearsal, usize),
) -> Scenario {
    Scenario {
        name,
        messages,
        rehearse,
    }
}

#[rustfmt::skip] // one row each
pub const SCENARIOS: &[Scenario] = &[
    scenario("1 to 1, QoS 0", 2_048, |r, n| r.fan_out(V311, QOS[0], 1, n)),
    scenario("1 to 1, QoS 1", 2_048, |r, n| r.fan_out(V311, QOS[1], 1, n)),
    scenario("1 to 1, QoS 2", 2_048, |r, n| r.fan_out(V311, QOS[2], 1, n)),
    scenario("1 to 1, QoS 0, v5", 2_048, |r, n| r.fan_out(V5, QOS[0], 1, n)),
    scenario("1 to 50, QoS 0", 12_800, |r, n| r.fan_out(V311, QOS[0], 50, n)),
    scenario("1 to 50, QoS 1", 12_800, |r, n| r.fan_out(V311, QOS[1], 50, n)),
    scenario("queue, QoS 1", 2_048, |r, n| r.queue(n)),
    scenario("drain, QoS 1", 2_048, |r, n| r.drain(n)),
    scenario("retained, store", 2_048, |r, n| r.store_retained(n)),
    scenario("retained, replay", 2_048, |r, n| r.replay_retained(n)),
    scenario("connect cycle", 256, |r, n| r.connect_cycles(n)),
    scenario("10 filters", 2_048, |r, n| r.filters(10, n)),
    scenario("20000 filters", 2_048, |r, n| r.filters(20_000, n)),
    scenario("1024 hostile patterns", 128, |r, n| r.hostile(n)),
    scenario("ACL, 1 to 1, QoS 0", 2_048, |r, n| r.acl().fan_out(V311, QOS[0], 1, n)),
    scenario("ACL, 1 to 1, QoS 1", 2_048, |r, n| r.acl().fan_out(V311, QOS[1], 1, n)),
    scenario("ACL, 1 to 50, QoS 0", 12_800, |r, n| r.acl().fan_out(V311, QOS[0], 50, n)),
    scenario("ACL, 10 filters", 2_048, |r, n| r.acl().filters(10, n)),
    scenario("ACL, 20000 filters", 2_048, |r, n| r.acl().filters(20_000, n)),
    scenario("ACL, retained, replay", 2_048, |r, n| r.acl().replay_retained(n)),
    scenario("300 topics", 2_048, |r, n| r.many_topics(n)),
    scenario("ACL of users, 300 topics", 2_048, |r, n| r.acl_of_users().many_topics(n)),
];

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

impl Scenario {
    pub fn named(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// The script, with the curtain about to rise.
    pub fn rehearse(&self) -> Performance {
        let mut rehearsal = Rehearsal::new();
        (self.rehearse)(&mut rehearsal, self.messages);
        let deliveries = rehearsal.deliveries - rehearsal.deliveries_before;
        assert!(
            deliveries == self.messages || rehearsal.keeps,
            "{}: {deliveries} messages arrived instead of {}",
            self.name,
            self.messages
        );
        let Rehearsal {
            stage,
            mut script,
            curtain,
            ..
        } = rehearsal;
        let counted = script.split_off(curtain);
        let mut performance = Performance {
            stage: Stage::new(stage.now),
            counted,
            bytes: stage.bytes,
        };
        script.iter().for_each(|step| performance.stage.take(step));
        performance
    }
}

/// A broker that is ready for the part that counts.
pub struct Performance {
    stage: Stage,
    counted: Vec<Step>,
    /// What the clients had been sent at the end of the rehearsal.
    bytes: usize,
}

impl Performance {
    /// Has the broker do what is counted; the driver's own share is some 300 instructions a turn.
    pub fn play(&mut self) {
        let Performance { stage, counted, .. } = self;
        counted.iter().for_each(|step| stage.take(step));
    }

    /// Panics if it went otherwise than in the rehearsal.
    pub fn check(&self) {
        assert_eq!(self.stage.bytes, self.bytes, "not what was rehearsed");
    }
}

// ---- the stage ------------------------------------------------------------------------------

/// What happens to the broker.
#[derive(Debug)]
enum Step {
    Rules(Box<AclFile>),
    Open,
    Said(ConnectionId, Vec<u8>),
    EndTurn,
}

/// A broker whose clients take at once all that they are owed, and time that stands still.
struct Stage {
    broker: Broker,
    now: Instant,
    turn: Turn,
    /// Sent to all clients.
    bytes: usize,
}

impl Stage {
    fn new(now: Instant) -> Stage {
        let limits = Limits {
            inflight_messages_max: 200,
            ..Limits::default()
        };
        let options = Options {
            limits,
            sys_interval: None,
            seed: 7,
            ..Options::default()
        };
        Stage {
            broker: Broker::new(options, now),
            now,
            turn: Turn::default(),
            bytes: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Rules(file) => self.broker.set_acls(vec![(**file).clone()], &[Some(0)]),
            Step::Open => {
                self.broker.open(0, ([192, 0, 2, 1], 1883), self.now);
            }
            Step::Said(id, bytes) => self.broker.receive(*id, bytes, self.now),
            Step::EndTurn => self.end_turn(|_, _| {}),
        }
    }

    /// The verbs of a turn as the event loop says them; `show` sees what each client is sent.
    fn end_turn(&mut self, mut show: impl FnMut(ConnectionId, &[u8])) {
        let Stage {
            broker,
            now,
            turn,
            bytes,
        } = self;
        broker.handle_timeout(*now);
        broker.end_turn(turn, *now);
        for id in &turn.flush {
            loop {
                let mut slices = [IoSlice::new(&[]); 16];
                let used = broker.outbound(*id, &mut slices);
                if used == 0 {
                    break;
                }
                let count = slices[..used].iter().map(|slice| slice.len()).sum();
                slices[..used].iter().for_each(|slice| show(*id, slice));
                *bytes += count;
                broker.sent(*id, count);
            }
        }
        turn.close.iter().for_each(|id| broker.forget(*id));
    }

    fn is_idle(&self) -> bool {
        self.broker.poll_timeout().is_none_or(|at| at > self.now)
    }
}

// ---- the rehearsal --------------------------------------------------------------------------

struct Rehearsal {
    stage: Stage,
    script: Vec<Step>,
    /// Where in the script the part begins that counts.
    curtain: usize,
    clients: Vec<Client>,
    /// PUBLISH packets that clients were sent, and those of them before the curtain.
    deliveries: usize,
    deliveries_before: usize,
    /// The scenario ends with its messages kept by the broker.
    keeps: bool,
    packet_id: PacketId,
    /// Of clients that connect.
    user_name: Option<&'static str>,
}

struct Client {
    id: ConnectionId,
    version: Version,
    inbox: Vec<u8>,
}

impl Rehearsal {
    fn new() -> Rehearsal {
        Rehearsal {
            stage: Stage::new(Instant::now()),
            script: Vec::new(),
            curtain: 0,
            clients: Vec::new(),
            deliveries: 0,
            deliveries_before: 0,
            keeps: false,
            packet_id: 0,
            user_name: None,
        }
    }

    /// What comes next counts.
    fn raise_curtain(&mut self) {
        self.curtain = self.script.len();
        self.deliveries_before = self.deliveries;
    }

    // ---- what happens ---------------------------------------------------------------------

    /// An ACL file of so many lines is in force.
    fn acl(&mut self) -> &mut Rehearsal {
        let mut text = "topic readwrite #\ntopic deny +/+/secret/#\n".to_string();
        for site in 0..(ACL_LINES - 2) / 2 {
            text += &format!("topic readwrite site/{site}/device/+/temperature\n");
            text += &format!("topic write site/{site}/set\n");
        }
        let file = acl_file::parse("acl", text.as_bytes()).expect("it is a good file");
        assert_eq!(file.acl.line_count(), ACL_LINES);
        self.perform(Step::Rules(Box::new(file)));
        self
    }

    /// The same with lines of users of their own, patterns for all of them, and no line that is
    /// for everything; who connects is one of them.
    fn acl_of_users(&mut self) -> &mut Rehearsal {
        let mut text = String::new();
        for user in 0..ACL_USERS {
            text += &format!("user user-{user}\ntopic deny home/{user}/+/key\n");
            for room in 0..5 {
                text += &format!("topic readwrite home/{user}/room-{room}/+/temperature\n");
            }
            text += &format!("topic read home/{user}/+/door\ntopic write home/{user}/set/+\n");
            text += &format!("pattern readwrite app/+/{user}/%u/state\n");
            text += &format!("pattern read inbox-{user}/%c/%u/+\n");
        }
        let file = acl_file::parse("acl", text.as_bytes()).expect("it is a good file");
        assert_eq!(file.acl.line_count(), ACL_LINES);
        self.perform(Step::Rules(Box::new(file)));
        self.user_name = Some("user-50");
        self
    }

    /// One client publishes to many topics by turns, another wants all of them; half of them are
    /// for lines of a user of [`Rehearsal::acl_of_users`], half for patterns.
    fn many_topics(&mut self, messages: usize) {
        let publisher = self.client(V311, "publisher");
        let subscriber = self.client(V311, "subscriber");
        self.subscribe(subscriber, &["#".to_string()], QoS::AtMostOnce);
        let topic = |index: usize| match index % 2 {
            0 => format!("home/50/room-{}/sensor-{index:03}/temperature", index % 5),
            _ => format!("app/device-{index:03}/{}/user-50/state", index % ACL_USERS),
        };
        let topics: Vec<String> = (0..TURN_TOPICS).map(topic).collect();
        self.publish(publisher, &topics, QoS::AtMostOnce, Retain::No, TURN_TOPICS);
        self.raise_curtain();
        self.publish(publisher, &topics, QoS::AtMostOnce, Retain::No, messages);
    }

    /// Everything is published by one and wanted by `subscribers`.
    fn fan_out(&mut self, version: Version, qos: QoS, subscribers: usize, messages: usize) {
        let publisher = self.client(version, "publisher");
        for number in 0..subscribers {
            let subscriber = self.client(version, &format!("subscriber-{number}"));
            self.subscribe(subscriber, &[TOPIC.to_string()], qos);
        }
        let topic = [TOPIC.to_string()];
        self.publish(publisher, &topic, qos, Retain::No, 4 * PUBLISHES_PER_TURN);
        self.raise_curtain();
        self.publish(publisher, &topic, qos, Retain::No, messages / subscribers);
    }

    fn queue(&mut self, messages: usize) {
        self.keeps = true;
        let (publisher, _) = self.leave_a_session();
        let topic = [TOPIC.to_string()];
        let warm_up = 4 * PUBLISHES_PER_TURN;
        self.publish(publisher, &topic, QoS::AtLeastOnce, Retain::No, warm_up);
        self.raise_curtain();
        self.publish(publisher, &topic, QoS::AtLeastOnce, Retain::No, messages);
    }

    /// Costs of one connection are among those of all messages.
    fn drain(&mut self, messages: usize) {
        let (publisher, comes_back) = self.leave_a_session();
        let topic = [TOPIC.to_string()];
        self.publish(publisher, &topic, QoS::AtLeastOnce, Retain::No, messages);
        self.raise_curtain();
        self.connect(V311, comes_back, Stays::Yes);
    }

    /// A publisher, and the id of a client that has subscribed and left.
    fn leave_a_session(&mut self) -> (ConnectionId, &'static str) {
        let publisher = self.client(V311, "publisher");
        let leaves = self.connect(V311, "leaves", Stays::Yes);
        self.subscribe(leaves, &[TOPIC.to_string()], QoS::AtLeastOnce);
        self.disconnect(leaves);
        (publisher, "leaves")
    }

    /// As many messages are there already, each to a topic of its own.
    fn store_retained(&mut self, messages: usize) {
        self.keeps = true;
        let publisher = self.client(V311, "publisher");
        let topics: Vec<String> = shuffled(2 * messages)
            .map(|index| filter_and_topic(index).1)
            .collect();
        let (there, new) = topics.split_at(messages);
        self.publish(publisher, there, QoS::AtMostOnce, Retain::Yes, messages);
        self.raise_curtain();
        self.publish(publisher, new, QoS::AtMostOnce, Retain::Yes, messages);
    }

    fn replay_retained(&mut self, messages: usize) {
        let publisher = self.client(V311, "publisher");
        let topics: Vec<String> = shuffled(messages)
            .map(|index| filter_and_topic(index).1)
            .collect();
        self.publish(publisher, &topics, QoS::AtMostOnce, Retain::Yes, messages);
        let subscriber = self.client(V311, "subscriber");
        self.raise_curtain();
        self.subscribe(subscriber, &["#".to_string()], QoS::AtMostOnce);
    }

    /// Connect, subscribe, publish one, receive it, disconnect.
    fn connect_cycles(&mut self, cycles: usize) {
        for cycle in 0..8 + cycles {
            if cycle == 8 {
                self.raise_curtain();
            }
            let client = self.client(V311, "comes-and-goes");
            let topic = [TOPIC.to_string()];
            self.subscribe(client, &topic, QoS::AtMostOnce);
            self.publish(client, &topic, QoS::AtMostOnce, Retain::No, 1);
            self.disconnect(client);
        }
    }

    /// Each publish matches one of many filters: 70 % are exact, 20 % have a `+`, 10 % a `#`.
    fn filters(&mut self, count: usize, messages: usize) {
        let publisher = self.client(V311, "publisher");
        let own = count / FILTERING_CLIENTS;
        for number in 0..FILTERING_CLIENTS {
            let subscriber = self.client(V311, &format!("subscriber-{number}"));
            let filters: Vec<String> = (number * own..(number + 1) * own)
                .map(|index| filter_and_topic(index).0)
                .collect();
            self.subscribe(subscriber, &filters, QoS::AtMostOnce);
        }
        let topics: Vec<String> = shuffled(messages)
            .map(|index| filter_and_topic(index * 7 % count).1)
            .collect();
        self.publish(publisher, &topics, QoS::AtMostOnce, Retain::No, messages);
        self.raise_curtain();
        self.publish(publisher, &topics, QoS::AtMostOnce, Retain::No, messages);
    }

    /// One honest subscriber, and as many patterns of wildcards as the limit allows, each with as
    /// many `+` as they may have together, and fitting the topic's levels, none matching it.
    fn hostile(&mut self, messages: usize) {
        let publisher = self.client(V311, "publisher");
        let subscriber = self.client(V311, "honest");
        let topic = [vec!["x"; HOSTILE_LEVELS].join("/")];
        self.subscribe(subscriber, &topic, QoS::AtMostOnce);
        let mut patterns = (0..Limits::WILDCARD_SHAPES_MAX).map(hostile_filter);
        for number in 0..Limits::WILDCARD_SHAPES_MAX / Limits::WILDCARD_SHAPES_PER_SESSION {
            let client = self.client(V311, &format!("hostile-{number}"));
            let own = patterns.by_ref();
            let own: Vec<String> = own.take(Limits::WILDCARD_SHAPES_PER_SESSION).collect();
            self.subscribe(client, &own, QoS::AtMostOnce);
        }
        let warm_up = PUBLISHES_PER_TURN;
        self.publish(publisher, &topic, QoS::AtMostOnce, Retain::No, warm_up);
        self.raise_curtain();
        self.publish(publisher, &topic, QoS::AtMostOnce, Retain::No, messages);
    }

    // ---- what clients do ------------------------------------------------------------------

    fn client(&mut self, version: Version, client_id: &str) -> ConnectionId {
        self.connect(version, client_id, Stays::No)
    }

    fn connect(&mut self, version: Version, client_id: &str, stays: Stays) -> ConnectionId {
        let id = self
            .stage
            .broker
            .open(0, ([192, 0, 2, 1], 1883), self.stage.now);
        self.script.push(Step::Open);
        self.clients.push(Client {
            id,
            version,
            inbox: Vec::new(),
        });
        let mut aliases = PropertyBlock::new();
        aliases.number(PropertyId::TopicAliasMaximum, 10);
        let connect = Packet::Connect(Connect {
            version,
            bridge: false,
            clean_start: stays == Stays::No,
            keep_alive: 60,
            properties: match version {
                Version::V5 => aliases.as_properties(),
                Version::V31 | Version::V311 => Properties::NONE,
            },
            client_id,
            will: None,
            user_name: self.user_name,
            password: None,
        });
        self.send(id, &connect);
        id
    }

    fn disconnect(&mut self, id: ConnectionId) {
        let disconnect = Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: Properties::NONE,
        });
        self.clients.retain(|client| client.id != id);
        self.say(id, encoded(V311, &disconnect));
        self.run();
    }

    fn subscribe(&mut self, id: ConnectionId, filters: &[String], qos: QoS) {
        let options = SubscriptionOptions::new(qos);
        for some in filters.chunks(FILTERS_PER_SUBSCRIBE) {
            let subscribe = Packet::Subscribe(Subscribe {
                packet_id: 1,
                properties: Properties::NONE,
                filters: some.iter().map(|filter| (&filter[..], options)).collect(),
            });
            self.send(id, &subscribe);
        }
    }

    /// Publishes so many messages to `topics` by turns, some of them with each read.
    fn publish(
        &mut self,
        id: ConnectionId,
        topics: &[String],
        qos: QoS,
        retain: Retain,
        messages: usize,
    ) {
        let version = self.client_of(id).version;
        let mut topics = topics.iter().cycle().take(messages).peekable();
        while topics.peek().is_some() {
            let mut bytes = Vec::new();
            for topic in topics.by_ref().take(PUBLISHES_PER_TURN) {
                self.packet_id = self.packet_id % PacketId::MAX + 1;
                let publish = Publish {
                    dup: false,
                    qos,
                    retain: retain == Retain::Yes,
                    topic,
                    packet_id: (qos > QoS::AtMostOnce).then_some(self.packet_id),
                    properties: Properties::NONE,
                    payload: PAYLOAD,
                };
                Packet::Publish(publish).encode(version, &mut bytes);
            }
            self.say(id, bytes);
            self.run();
        }
    }

    fn send(&mut self, id: ConnectionId, packet: &Packet) {
        self.say(id, encoded(self.client_of(id).version, packet));
        self.run();
    }

    fn say(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        self.perform(Step::Said(id, bytes));
    }

    /// Turns, until nobody has anything to say or to do.
    fn run(&mut self) {
        loop {
            self.perform(Step::EndTurn);
            let mut answers = Vec::new();
            for client in &mut self.clients {
                let (answer, deliveries) = client.answer();
                self.deliveries += deliveries;
                if !answer.is_empty() {
                    answers.push((client.id, answer));
                }
            }
            if answers.is_empty() && self.stage.is_idle() {
                break;
            }
            for (id, answer) in answers {
                self.say(id, answer);
            }
        }
    }

    fn perform(&mut self, step: Step) {
        let Rehearsal { stage, clients, .. } = self;
        match &step {
            Step::EndTurn => stage.end_turn(|id, bytes| {
                let client = clients.iter_mut().find(|client| client.id == id);
                client.expect("it is connected").inbox.extend(bytes);
            }),
            Step::Rules(_) | Step::Open | Step::Said(..) => stage.take(&step),
        }
        self.script.push(step);
    }

    fn client_of(&self, id: ConnectionId) -> &Client {
        let found = self.clients.iter().find(|client| client.id == id);
        found.expect("it is connected")
    }
}

impl Client {
    /// What it says to what it was sent, and how many PUBLISH packets were among that.
    fn answer(&mut self) -> (Vec<u8>, usize) {
        let (mut answer, mut deliveries) = (Vec::new(), 0);
        let mut rest = &self.inbox[..];
        while let Ok(Some((packet, length))) = packet::decode(rest, self.version, usize::MAX) {
            let ack = |id| Ack::new(id, ReasonCode::Success);
            let reply = match packet {
                Packet::Publish(publish) => {
                    deliveries += 1;
                    publish.packet_id.map(|id| match publish.qos {
                        QoS::AtMostOnce | QoS::AtLeastOnce => Packet::PubAck(ack(id)),
                        QoS::ExactlyOnce => Packet::PubRec(ack(id)),
                    })
                }
                Packet::PubRec(received) => Some(Packet::PubRel(ack(received.packet_id))),
                Packet::PubRel(release) => Some(Packet::PubComp(ack(release.packet_id))),
                _ => None,
            };
            if let Some(reply) = reply {
                reply.encode(self.version, &mut answer);
            }
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "a broken packet");
        self.inbox.clear();
        (answer, deliveries)
    }
}

/// Whether a session outlives its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stays {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Retain {
    Yes,
    No,
}

fn encoded(version: Version, packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

// ---- topics ---------------------------------------------------------------------------------

/// A pattern of wildcards of its own for every `number`.
fn hostile_filter(number: usize) -> String {
    let mut levels = vec!["x"; HOSTILE_LEVELS];
    levels[0] = "y";
    // The number's ten bits and, spread over the rest, three more than any number has in common.
    for (place, level) in levels[1..].iter_mut().enumerate() {
        let is_set = place < 10 && number >> place & 1 == 1;
        if is_set || [40, 70, 100].contains(&place) {
            *level = "+";
        }
    }
    levels.join("/")
}

/// The numbers below `end`, each once, in no order to be foreseen, yet the same in every run.
fn shuffled(end: usize) -> impl Iterator<Item = usize> {
    const PRIME: usize = 1_000_003;
    (0..end).map(move |index| index * PRIME % end)
}
