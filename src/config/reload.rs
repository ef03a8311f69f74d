//! A configuration that takes the place of another while midge runs.
//!
//! What was opened at the start stays as it is: listeners, the store, the pid file, the user, the
//! sandbox. All else is as the new one says.

use super::Config;
use super::listener::Draft;
use super::read::{Given, Verdict, canonical};
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
            sandbox: self.sandbox,
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
            ("sandbox", new.sandbox != self.sandbox),
        ] {
            if is_new {
                waits.push(new.is_another(name));
            }
        }
        let buffers = [self, &running].map(|one| one.tuning().buffer_bytes);
        if let [Some(_), None] = buffers {
            let name = self.name("memory-limit");
            waits.push(format!(
                "{name} is another: buffers of sockets stay small until the next start"
            ));
        }
        self.keep_listeners(&new, &mut running, &mut waits);
        (running, waits)
    }

    /// Of a setting that is another here than it was: where it stands, if anywhere.
    fn is_another(&self, name: &str) -> String {
        let option = name.replace('-', "_");
        let says_it = |given: &&Given| {
            let name = given.name.replace('-', "_");
            canonical(&name) == option && !matches!(given.verdict, Verdict::Ignored(_))
        };
        let name = self.name(name);
        match self.given.iter().find(says_it) {
            Some(Given { place, .. }) => {
                format!("{place}: {name} is another: it counts from the next start")
            }
            None => format!("{name} is not given any more: that counts from the next start"),
        }
    }

    /// Each listener that is open has the options of the one that is at the same place in `new`, or
    /// of one that has its port or its path; without one, nobody comes in by it any more.
    fn keep_listeners(&self, new: &Config, running: &mut Config, waits: &mut Vec<String>) {
        running.listeners.clear();
        running.drafts.clear();
        running.broker.listeners.clear();
        let matches = self.matches(new);
        for (index, found) in matches.iter().enumerate() {
            let draft = match found {
                Some(place) => self.keep_place(index, &new.drafts[*place], waits),
                None => {
                    let origin = &self.listeners[index].origin;
                    waits.push(format!(
                        "{origin} is not there any more: it is closed at the next start, and \
                         refuses those who come until then"
                    ));
                    self.without_place(index, new)
                }
            };
            running.listeners.push(draft.address.clone());
            running.broker.listeners.push(draft.options.clone());
            running.drafts.push(draft);
        }
        let is_new = |place: &usize| !matches.contains(&Some(*place));
        for place in (0..new.listeners.len()).filter(is_new) {
            let origin = &new.listeners[place].origin;
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

    /// For each listener the one of `new` that is meant: whatever else fits, the same place first.
    fn matches(&self, new: &Config) -> Vec<Option<usize>> {
        let mut found = vec![None; self.listeners.len()];
        let fits = [
            ListenerAddress::is_same_place,
            ListenerAddress::is_same_address,
            ListenerAddress::is_same_port,
        ];
        for fits in fits {
            for (index, old) in self.listeners.iter().enumerate() {
                if found[index].is_some() {
                    continue;
                }
                let places = 0..new.listeners.len();
                let mut free = places.filter(|place| !found.contains(&Some(*place)));
                found[index] = free.find(|place| fits(&new.listeners[*place], old));
            }
        }
        found
    }

    /// The options of `new` where `index` is open.
    fn keep_place(&self, index: usize, new: &Draft, waits: &mut Vec<String>) -> Draft {
        let old = &self.drafts[index];
        let origin = new.address.origin.clone();
        let mut draft = new.clone();
        draft.address = ListenerAddress {
            origin: origin.clone(),
            ..self.listeners[index].clone()
        };
        draft.options.name = old.options.name.clone();
        // Topics of sessions and retained messages begin with it.
        draft.options.mount_point = old.options.mount_point.clone();
        let (was, is) = (&old.address, &new.address);
        for (name, is_other) in [
            ("enable-proxy-protocol", was.proxy != is.proxy),
            ("socket-domain", was.domain != is.domain),
            ("bind-interface", was.interface != is.interface),
            ("socket-owner", was.file.owner != is.file.owner),
            ("socket-group", was.file.group != is.file.group),
            ("socket-mode", was.file.mode != is.file.mode),
            (
                "mount-point",
                old.options.mount_point != new.options.mount_point,
            ),
        ] {
            if is_other {
                let place = new.given.get(name).map_or(&origin, |(_, place)| place);
                let name = self.name(name);
                waits.push(format!(
                    "{place}: {name} is another: it counts from the next start"
                ));
            }
        }
        if was.host != is.host {
            waits.push(format!(
                "{origin}: the address is another: it counts from the next start"
            ));
        }
        // Who may come in there may not be who may come in here.
        let opens = !old.options.allow_anonymous || old.options.passwords && !new.options.passwords;
        if !is.is_same_place(was) && new.options.allow_anonymous && opens {
            draft.options.allow_anonymous = false;
            waits.push(format!(
                "{origin}: it is for another place that {} is true: there it counts from the \
                 next start",
                self.name("allow-anonymous")
            ));
        }
        draft
    }

    /// The listener at `index`, which is open and should not be. Who is connected stays, under the
    /// rules of all, or its own as long as they can be read.
    fn without_place(&self, index: usize, new: &Config) -> Draft {
        let mut draft = self.drafts[index].clone();
        draft.password_file = None;
        draft.options.passwords = false;
        draft.options.allow_anonymous = false;
        draft.options.is_gone = true;
        if new.acl_file.is_some() || !new.per_listener {
            draft.acl_file.clone_from(&new.acl_file);
        }
        draft
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
