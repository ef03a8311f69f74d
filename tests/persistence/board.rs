//! A board with a broker, a disk and a clock on the wall, whose power can be cut.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

use midge::broker::limits::{Durability, Options};
use midge::broker::{Broker, Turn};
use midge::net::{Commit, Keeper};
use midge::packet::{Connect, Packet, PacketId, QoS, Version};
use midge::persistence::Persistence;
use midge::record::Batch;
use midge::store::{self, Figures, Store};

use crate::common::{Client, Prng, World, durable, expiry, publish_qos};
use crate::disk::{Faults, TestDisk};

/// Each a disk that forgets otherwise what was not synced.
pub const SEEDS: std::ops::Range<u64> = 0..8;
/// In 2026.
pub const WALL: u64 = 1_780_000_000;

thread_local! {
    /// In milliseconds, as a test is one thread.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

fn wall() -> u64 {
    CLOCK.get()
}

pub struct Board {
    world: World,
    pub disk: TestDisk,
    pub options: Options,
    persistence: Rc<RefCell<Persistence<TestDisk>>>,
    prng: Prng,
    starts: u64,
}

impl Board {
    pub fn new(seed: u64) -> Board {
        Board::with(seed, Options::default())
    }

    pub fn with(seed: u64, options: Options) -> Board {
        set_wall(WALL);
        let mut options = options;
        options.durability.get_or_insert_default();
        Board::on(TestDisk::new(), seed, options)
    }

    /// A board with that on its disk.
    pub fn on(disk: TestDisk, seed: u64, options: Options) -> Board {
        let mut world = World::with(options.clone());
        let (broker, persistence) = start(&disk, &options, 0, world.now);
        let persistence = Rc::new(RefCell::new(persistence));
        world.replace(broker, Some(Box::new(Shared(persistence.clone()))));
        world.turn();
        Board {
            world,
            disk,
            options,
            persistence,
            prng: Prng::new(seed),
            starts: 0,
        }
    }

    /// The power goes now, and comes back.
    pub fn cut_power(&mut self) {
        self.cut_power_for(Duration::ZERO);
    }

    /// The clock on the wall goes on meanwhile.
    pub fn cut_power_for(&mut self, off: Duration) {
        self.disk.power_on(&mut self.prng);
        CLOCK.set(CLOCK.get() + off.as_millis() as u64);
        self.start();
    }

    /// Another process on the same disk, which has lost nothing.
    pub fn start(&mut self) {
        self.disk.set_faults(Faults::default());
        self.starts += 1;
        let (broker, persistence) = start(&self.disk, &self.options, self.starts, self.world.now);
        self.persistence = Rc::new(RefCell::new(persistence));
        let keeper = Box::new(Shared(self.persistence.clone()));
        self.world.replace(broker, Some(keeper));
        self.world.broker.check_invariants();
        self.world.broker.handle_timeout(self.world.now);
        self.world.turn();
    }

    /// Time passes, on the wall too.
    pub fn advance(&mut self, duration: Duration) {
        let mut rest = duration;
        while rest > Duration::ZERO {
            let step = rest.min(Duration::from_secs(1));
            self.world.advance(step);
            CLOCK.set(CLOCK.get() + step.as_millis() as u64);
            rest -= step;
        }
    }

    pub fn figures(&self) -> Figures {
        self.persistence.borrow().store().figures()
    }

    /// The keys of what is kept, and the queues with their lengths; the time is left out.
    pub fn kept(&self) -> (Vec<String>, Vec<(u32, usize)>) {
        let (mut keys, mut queues) = (Vec::new(), Vec::new());
        let disk = self.disk.copy();
        disk.set_faults(Faults::default());
        let opened = Store::open(disk, &store::Options::new(77), |key, _| {
            if key != b"c" {
                keys.push(key.escape_ascii().to_string());
            }
        });
        let (store, _) = opened.expect("the store opens");
        for queue in store.queues() {
            queues.push((queue, store.waiting(queue).count()));
        }
        (keys, queues)
    }

    pub fn expect_nothing_kept(&self) {
        assert_eq!(self.kept(), (vec![], vec![]));
    }

    pub fn messages_kept(&self) -> usize {
        self.kept().1.iter().map(|(_, len)| len).sum()
    }

    /// Connects with a session that stays for an hour or, before MQTT 5, for ever.
    pub fn durable(&mut self, version: Version, id: &str) -> Client {
        self.connect(durable(version, id, &expiry(3_600)))
    }

    /// The same, where that session must be there already.
    pub fn resume(&mut self, version: Version, id: &str) -> Client {
        self.resume_with(durable(version, id, &expiry(3_600)))
    }

    pub fn resume_with(&mut self, connect: Connect) -> Client {
        let id = connect.client_id.to_string();
        let client = self.try_connect(connect);
        assert!(self.read(client).connack().session_present, "{id}");
        client
    }

    /// A client of that id with nothing kept for it subscribes, and is gone again.
    pub fn absent(&mut self, version: Version, id: &str, filter: &str, qos: QoS) {
        let client = self.durable(version, id);
        self.subscribe(client, filter, qos);
        self.lose(client);
    }

    /// What the PUBLISH packets that it was sent say: payload, QoS, DUP, Packet Identifier.
    pub fn messages(&mut self, client: Client) -> Vec<(String, QoS, bool, Option<PacketId>)> {
        let received = self.publishes(client);
        let message = received.iter().map(|received| {
            let publish = received.publish();
            let payload = String::from_utf8(publish.payload.to_vec());
            (
                payload.expect("UTF-8"),
                publish.qos,
                publish.dup,
                publish.packet_id,
            )
        });
        message.collect()
    }

    /// Reads on and acknowledges until nothing more comes; the payloads in order.
    pub fn drain(&mut self, client: Client) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            let messages = self.messages(client);
            if messages.is_empty() {
                return payloads;
            }
            for (payload, qos, _, id) in messages {
                payloads.push(payload);
                let acks = match qos {
                    QoS::AtMostOnce => continue,
                    QoS::AtLeastOnce => vec![Packet::PubAck as fn(_) -> _],
                    QoS::ExactlyOnce => vec![Packet::PubRec as fn(_) -> _, Packet::PubComp],
                };
                for ack in acks {
                    self.send(client, &ack(crate::common::ack(id.expect("an id"))));
                }
            }
        }
    }

    /// Publishes with QoS 1 or 2 and says whether that was answered at all, and positively.
    pub fn is_accepted(&mut self, client: Client, qos: QoS, id: PacketId, topic: &str) -> bool {
        self.send(client, &Packet::Publish(publish_qos(qos, id, topic, "?")));
        let received = self.read_all(client);
        received.iter().any(|received| match received.packet() {
            Packet::PubAck(ack) | Packet::PubRec(ack) => !ack.reason.is_error(),
            _ => false,
        })
    }

    /// The value of a topic under `$SYS/broker/store/`, as somebody new is told.
    pub fn sys(&mut self, topic: &str) -> String {
        let watcher = self.client(Version::V5, "watcher");
        self.subscribe(
            watcher,
            &format!("$SYS/broker/store/{topic}"),
            QoS::AtMostOnce,
        );
        let told = self.payloads(watcher);
        self.disconnect(watcher);
        told.last().cloned().unwrap_or_default()
    }
}

impl Deref for Board {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Board {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// What the clock on the wall shows, in seconds since 1970.
pub fn set_wall(seconds: u64) {
    CLOCK.set(seconds * 1_000);
}

/// A disk with these records on it.
pub fn disk_with(records: &Batch) -> TestDisk {
    let disk = TestDisk::new();
    let options = store::Options::new(5);
    let (mut store, _) = Store::open(disk.clone(), &options, |_, _| {}).expect("an empty disk");
    let committed = store.commit(records, store::Durability::Synced);
    committed.expect("there is room");
    disk
}

pub fn terms(within: u64, by_topic: &[(&str, u64)]) -> Options {
    let by_topic = by_topic
        .iter()
        .map(|(filter, within)| ((*filter).into(), *within));
    Options {
        durability: Some(Durability {
            within,
            by_topic: by_topic.collect(),
        }),
        ..Options::default()
    }
}

fn start(
    disk: &TestDisk,
    options: &Options,
    nonce: u64,
    now: Instant,
) -> (Broker, Persistence<TestDisk>) {
    let mut broker = Broker::new(options.clone(), now);
    let kept = store::Options::new(nonce);
    let persistence = Persistence::open(disk.clone(), &kept, &mut broker, wall, now);
    (broker, persistence.expect("it always starts"))
}

/// So that a test can look at what the world has.
struct Shared(Rc<RefCell<Persistence<TestDisk>>>);

impl Keeper for Shared {
    fn commit(&mut self, broker: &mut Broker, turn: &mut Turn, now: Instant) -> Commit {
        self.0.borrow_mut().commit(broker, turn, now)
    }

    fn sync(&mut self, broker: &mut Broker, now: Instant) -> Commit {
        self.0.borrow_mut().sync(broker, now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.borrow().deadline()
    }
}
