//! A midge under load is killed with SIGKILL, again and again, and started on the same directory:
//! what it acknowledged is there. Power cuts are in `crash.rs`; here is the whole program, on the
//! disk of this machine, with real connections.
//!
//! Each life of the broker but some short ones begins with a look at the books; then there is load
//! for a random time. `SEED` draws the times and what clients do, `KILLS` is how many there are.

mod common;
#[path = "common/socket.rs"]
mod socket;

#[path = "kill/clients.rs"]
mod clients;
#[path = "kill/ledger.rs"]
mod ledger;
#[path = "kill/strangers.rs"]
mod strangers;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use midge::packet::{Packet, QoS, SubscriptionOptions, Version};

use clients::{FICKLE_TOPICS, Fickle, Habit, Publisher, Subscriber, Wishes};
use common::{Prng, publish_qos, subscribe};
use ledger::{Ending, Ledger, clears};
use socket::{Midge, free_port, temporary, until};

/// A killed process loses nothing that it has written, whatever the medium has.
const DURABILITIES: [&str; 3] = ["turn", "100", "os"];

fn number(name: &str, or: u64) -> u64 {
    let text = env::var(name).ok();
    text.map_or(or, |text| text.parse().expect("it is a number"))
}

/// A broker that is killed, on one directory and one port.
struct Mortal<'l> {
    ledger: &'l Ledger,
    port: u16,
    directory: PathBuf,
    random: Prng,
    lives: u64,
}

impl Mortal<'_> {
    fn new(ledger: &Ledger, seed: u64) -> Mortal<'_> {
        Mortal {
            ledger,
            port: free_port(),
            directory: temporary("kill"),
            random: Prng::new(seed),
            lives: 0,
        }
    }

    fn start(&mut self) -> Midge {
        self.lives += 1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_midge"));
        command
            .args(["-p", &self.port.to_string()])
            .args(["--log-dest", "none", "--persistence", "true"])
            .arg("--persistence-location")
            .arg(&self.directory)
            .args(["--durability", DURABILITIES[self.random.below(3)]]);
        Midge::command(&mut command)
    }

    fn kill(&self, midge: Midge) {
        self.ledger.is_open.store(false, Ordering::SeqCst);
        midge.signal("KILL");
        let exit = midge.exit();
        assert_eq!(exit.status, None, "it ended by itself: {}", exit.stderr);
    }

    fn sleep_up_to(&mut self, millis: usize) {
        thread::sleep(Duration::from_millis(self.random.below(millis) as u64));
    }

    /// Lives and dies so many times; `look` is called before clients may connect, `check` when
    /// what they had begun is completed.
    fn live(&mut self, kills: u64, look: impl Fn(&Midge), check: impl Fn(&Midge)) {
        for life in 0..=kills {
            let midge = self.start();
            if self.random.chance(25) && life > 0 && life < kills {
                // Dies while it starts, or while everybody comes back.
                self.ledger.is_open.store(true, Ordering::SeqCst);
                self.sleep_up_to(60);
                self.kill(midge);
                continue;
            }
            let midge = midge.on_port(self.port);
            look(&midge);
            self.ledger.is_busy.store(false, Ordering::SeqCst);
            self.ledger.is_open.store(true, Ordering::SeqCst);
            until("publishers to complete", || {
                self.ledger.is_quiet().then_some(())
            });
            check(&midge);
            if life == kills {
                self.ledger.is_over.store(true, Ordering::SeqCst);
                return;
            }
            self.ledger.is_busy.store(true, Ordering::SeqCst);
            self.sleep_up_to(150);
            self.kill(midge);
        }
    }
}

impl Drop for Mortal<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Retained messages are what was acknowledged last, or came later.
fn check_retained(ledger: &Ledger, midge: &Midge) {
    let promised = ledger.retained();
    let mut found = BTreeMap::new();
    let mut client = midge.client("looks at what is retained");
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    client.send(&subscribe(1, &[("retained/#", options)]));
    for received in client.so_far() {
        if let Packet::Publish(publish) = received.packet() {
            let payload = std::str::from_utf8(publish.payload).expect("a number");
            let value: u64 = payload.parse().expect("a number");
            found.insert(publish.topic.to_string(), value);
        }
    }
    let begun = ledger.retained();
    for (topic, stream) in promised {
        let mut possible = stream.promised..=begun[&topic].begun;
        let is_good = match found.get(&topic) {
            Some(value) => possible.contains(value) && !clears(*value),
            None => stream.promised == 0 || possible.any(clears),
        };
        assert!(is_good, "{topic}: {:?}, {stream:?}", found.get(&topic));
    }
}

/// Filters that it was told it is subscribed to bring messages, the others do not.
fn check_wishes(wishes: &Mutex<Wishes>, heard: &Mutex<Vec<String>>, midge: &Midge) {
    heard.lock().unwrap().clear();
    until("the first SUBACK", || {
        wishes.lock().unwrap().get("fickle/end").copied()
    });
    let wishes = wishes.lock().unwrap().clone();
    let mut client = midge.client("publishes to the fickle one");
    for topic in 0..FICKLE_TOPICS {
        let topic = format!("fickle/{topic}");
        client.publish_packet(publish_qos(QoS::AtLeastOnce, 7, &topic, "x"));
    }
    client.publish_packet(publish_qos(QoS::AtLeastOnce, 7, "fickle/end", "x"));
    let heard = until("the end", || {
        let heard = heard.lock().unwrap();
        let is_all = heard.iter().any(|topic| topic == "fickle/end");
        is_all.then(|| heard.clone())
    });
    for (topic, wish) in wishes {
        if let Some(wish) = wish {
            assert_eq!(heard.contains(&topic), wish, "{topic}");
        }
    }
}

fn check_got(ledger: &Ledger, subscribers: &[&str]) {
    until("everybody to be subscribed", || {
        (ledger.subscribed() >= subscribers.len()).then_some(())
    });
    for subscriber in subscribers {
        let end = Instant::now() + socket::PATIENCE;
        while let Some(missing) = ledger.missing(subscriber) {
            assert!(Instant::now() < end, "lost: {missing}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn tell(what: &str, kills: u64, ledger: &Ledger, started: Instant) {
    let (messages, retained, again) = ledger.figures();
    println!(
        "{what}: {kills} kills in {:.1} s; {messages} messages and {retained} retained ones \
         acknowledged, {again} delivered more than once",
        started.elapsed().as_secs_f64()
    );
    assert!(messages > 10 * kills, "that was no load");
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let (started, kills, seed) = (Instant::now(), number("KILLS", 30), number("SEED", 1));
    let ledger = Ledger::default();
    let (wishes, heard) = (Mutex::default(), Mutex::default());
    let mut mortal = Mortal::new(&ledger, seed);
    let port = mortal.port;
    let publisher = |id, version, topics, retain| Publisher {
        ledger: &ledger,
        port,
        version,
        id,
        topics,
        retain,
        random: Prng::new(seed + id.len() as u64),
    };
    let subscriber = |id, version, habit| Subscriber {
        ledger: &ledger,
        port,
        version,
        id,
        habit,
        random: Prng::new(seed + id.len() as u64),
    };
    thread::scope(|scope| {
        let _ending = Ending(&ledger);
        for subscriber in [
            subscriber("steady", Version::V5, Habit::Steady),
            subscriber("flighty", Version::V311, Habit::Flighty),
            subscriber("absent", Version::V5, Habit::Absent),
        ] {
            scope.spawn(|| subscriber.run());
        }
        for publisher in [
            publisher("one", Version::V5, &["load/1", "load/2"], false),
            publisher("older", Version::V311, &["load/3"], false),
            publisher(
                "keeper",
                Version::V5,
                &["retained/1", "retained/2", "retained/3"],
                true,
            ),
        ] {
            scope.spawn(|| publisher.run());
        }
        let fickle = Fickle {
            ledger: &ledger,
            port,
            wishes: &wishes,
            heard: &heard,
            random: Prng::new(seed),
        };
        scope.spawn(|| fickle.run());
        mortal.live(
            kills,
            |midge| check_retained(&ledger, midge),
            |midge| {
                check_got(&ledger, &["steady", "flighty", "absent"]);
                check_wishes(&wishes, &heard, midge);
            },
        );
    });
    tell("our own clients", kills, &ledger, started);
}

#[test]
fn what_rumqttc_was_told_is_kept_survives_kill_9() {
    let (started, kills, seed) = (Instant::now(), number("KILLS", 30), number("SEED", 1));
    let ledger = Ledger::default();
    let mut mortal = Mortal::new(&ledger, seed + 1);
    let port = mortal.port;
    thread::scope(|scope| {
        let _ending = Ending(&ledger);
        // Ours receives QoS 2 once and looks closely; theirs has QoS 1 for all.
        let exact = Subscriber {
            ledger: &ledger,
            port,
            version: Version::V5,
            id: "exact",
            habit: Habit::Flighty,
            random: Prng::new(seed),
        };
        scope.spawn(|| exact.run());
        scope.spawn(|| strangers::subscribe(&ledger, port, "stranger"));
        for id in ["one", "two", "three"] {
            for qos in [rumqttc::QoS::AtLeastOnce, rumqttc::QoS::ExactlyOnce] {
                let ledger = &ledger;
                let id = format!("{id} {}", qos as u8);
                scope.spawn(move || strangers::publish(ledger, port, &id, qos));
            }
        }
        mortal.live(
            kills,
            |_| {},
            |_| check_got(&ledger, &["exact", "stranger"]),
        );
    });
    tell("rumqttc", kills, &ledger, started);
}
