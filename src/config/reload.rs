//! A configuration that takes the place of another while midge runs.
//!
//! What was opened at the start stays as it is: listeners, the store, the pid file, the user. All
//! else is as the new one says.

use super::Config;
use super::read::Verdict;
use crate::net::ListenerAddress;

impl Config {
    /// What is in force once `new` has been read; and, in sentences, what of it counts from the
    /// next start only.
    pub fn changed_to(&self, new: Config) -> (Config, Vec<String>) {
        let mut waits = Vec::new();
        let mut running = Config {
            is_root: self.is_root,
            pid_file: self.pid_file.clone(),
            user: self.user.clone(),
            user_origin: self.user_origin.clone(),
            daemon: self.daemon,
            persistence: self.persistence,
            persistence_location: self.persistence_location.clone(),
            ..new.clone()
        };
        if new.persistence != self.persistence {
            running.broker.durability = self.broker.durability.clone();
            running.durability = self.durability;
            running.durable.clone_from(&self.durable);
        }
        for (name, is_new) in [
            ("persistence", new.persistence != self.persistence),
            (
                "persistence-location",
                new.persistence_location != self.persistence_location,
            ),
            ("pid-file", new.pid_file != self.pid_file),
            ("user", new.user != self.user),
        ] {
            if is_new {
                let name = self.name(name);
                waits.push(format!("{name} is another: it counts from the next start"));
            }
        }
        self.keep_listeners(&new, &mut running, &mut waits);
        (running, waits)
    }

    /// Each listener that is open has the options of the one that is the same in `new`, if there
    /// is one.
    fn keep_listeners(&self, new: &Config, running: &mut Config, waits: &mut Vec<String>) {
        running.listeners.clear();
        running.drafts.clear();
        running.broker.listeners.clear();
        let mut taken = vec![false; new.listeners.len()];
        for (index, old) in self.listeners.iter().enumerate() {
            let same = |(place, address): &(usize, &ListenerAddress)| {
                !taken[*place] && address.is_same_place(old)
            };
            let (from, place) = match new.listeners.iter().enumerate().find(same) {
                Some((place, _)) => {
                    taken[place] = true;
                    (new, place)
                }
                None => {
                    let origin = &old.origin;
                    waits.push(format!(
                        "{origin} is not there any more: it is closed at the next start"
                    ));
                    (self, index)
                }
            };
            running.listeners.push(from.listeners[place].clone());
            running.drafts.push(from.drafts[place].clone());
            let mut options = from.broker.listeners[place].clone();
            // Topics of sessions and retained messages begin with it.
            let mounted = self.broker.listeners[index].mount_point.clone();
            if options.mount_point != mounted {
                let origin = &old.origin;
                waits.push(format!(
                    "{origin}: mount_point is another: it counts from the next start"
                ));
                options.mount_point = mounted;
            }
            running.broker.listeners.push(options);
        }
        for (address, _) in new.listeners.iter().zip(taken).filter(|(_, taken)| !taken) {
            let origin = &address.origin;
            waits.push(format!("{origin} is new: it counts from the next start"));
        }
        // The server's are the most that any of them gives.
        let limits = &mut running.broker.limits;
        for options in &running.broker.listeners {
            limits.topic_alias_max = limits.topic_alias_max.max(options.topic_alias_max);
            limits.topic_alias_max_broker = limits
                .topic_alias_max_broker
                .max(options.topic_alias_max_broker);
        }
    }

    /// Who can connect to listeners where that is another than it was, in sentences.
    pub fn who_is_new(&self, old: &Config) -> Vec<String> {
        let origins = self.listeners.iter().map(|listener| &listener.origin);
        let changed = origins.enumerate().filter_map(|(index, origin)| {
            let who = self.who_can_connect(index);
            (who != old.who_can_connect(index)).then(|| format!("{origin}: {who}"))
        });
        changed.collect()
    }

    /// Whether it was root that started this.
    pub fn was_root(&self) -> bool {
        self.is_root
    }

    /// Whether nothing was to be said against that user, as whom it was started perhaps.
    pub fn was_user(&self, name: &str) -> bool {
        let mut given = self.given.iter();
        given.any(|one| one.name == "user" && one.text == name && one.verdict == Verdict::Honoured)
    }
}
