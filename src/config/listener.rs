//! Listeners as settings describe them, before it is known which there are and what holds for all.
//!
//! `listener`, `port` and `bind_address` make one. An option of listeners that stands before any of
//! them makes the default listener, as in Mosquitto: on port 1883, beside those that follow. Where
//! none follows it is the one for clients of this machine, or those of `--port`.

use std::collections::BTreeMap;

use super::Config;
use crate::broker::limits::{Limits, ListenerOptions};
use crate::net::{Domain, Host, ListenerAddress};

const PORT: u16 = 1883;
/// More than any machine has use for.
const LISTENERS_MAX: usize = 256;

/// A listener that is being described.
#[derive(Clone, Debug)]
pub struct Draft {
    pub address: ListenerAddress,
    pub options: ListenerOptions,
    /// As it says itself.
    pub allow_anonymous: Option<bool>,
    pub password_file: Option<String>,
    pub acl_file: Option<String>,
    made_by: Maker,
    /// What was set for it, and where.
    pub given: BTreeMap<&'static str, (String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// `-p`
    Port,
    Listener,
    /// An option before any listener.
    Option,
}

impl Draft {
    fn new(port: u16, host: Host, origin: String, made_by: Maker) -> Draft {
        let limits = Limits::default();
        Draft {
            address: ListenerAddress::new(port, host, origin),
            options: ListenerOptions {
                topic_alias_max: limits.topic_alias_max,
                topic_alias_max_broker: limits.topic_alias_max_broker,
                ..ListenerOptions::default()
            },
            allow_anonymous: None,
            password_file: None,
            acl_file: None,
            made_by,
            given: BTreeMap::new(),
        }
    }

    /// Whether that setting means something for it.
    pub fn heeds(&self, setting: &str) -> bool {
        match (setting, &self.address.host) {
            ("socket-domain" | "bind-interface", Host::Unix(_) | Host::Passed) => false,
            ("socket-owner" | "socket-group" | "socket-mode", _) => self.is_unix(),
            (_, _) => true,
        }
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.address.host, Host::Unix(_))
    }

    /// Who comes by it.
    fn whom(&self) -> String {
        let whence = match (&self.address.host, self.address.proxy) {
            (_, Some(_)) => " behind a proxy",
            (Host::Loopback, None) => " of this machine",
            (Host::Unix(_), None) => " of this machine that may open the socket",
            (Host::Any | Host::Named(_) | Host::Passed, None) => "",
        };
        let by = self
            .interface()
            .map_or(String::new(), |name| format!(" that comes in by {name}"));
        let how = match self.options.versions.is_empty() {
            true => "",
            false => " with its version of MQTT",
        };
        format!("every client{whence}{by}{how}")
    }

    /// The only one that clients can come in by.
    fn interface(&self) -> Option<&str> {
        let interface = self.address.interface.as_deref();
        interface.filter(|_| self.heeds("bind-interface"))
    }

    /// As it stands behind `listener`.
    pub fn address(&self) -> String {
        let port = self.address.port;
        match &self.address.host {
            Host::Loopback => format!("{port} localhost"),
            Host::Any => format!("{port}"),
            Host::Named(name) => format!("{port} {name}"),
            Host::Unix(path) => format!("0 {path}"),
            // Of no listener: they were opened by somebody else.
            Host::Passed => String::new(),
        }
    }

    /// What it is known by from start to start: all that tells it from others.
    fn name(&self) -> String {
        let mut name = self.address();
        let domain = self.address.domain;
        if let Some(domain) = domain.filter(|_| self.heeds("socket-domain")) {
            name += match domain {
                Domain::IPv4 => " ipv4",
                Domain::IPv6 => " ipv6",
            };
        }
        if let Some(interface) = self.interface() {
            name += &format!(" by {interface}");
        }
        if self.address.proxy.is_some() {
            name += " behind a proxy";
        }
        name
    }

    /// Takes over what was set for another.
    fn set_like(&mut self, other: &Draft) {
        self.address.domain = other.address.domain;
        self.address.interface.clone_from(&other.address.interface);
        self.address.proxy = other.address.proxy;
        self.options = other.options.clone();
        self.allow_anonymous = other.allow_anonymous;
        self.password_file.clone_from(&other.password_file);
        self.acl_file.clone_from(&other.acl_file);
        self.given = other.given.clone();
    }
}

impl Config {
    pub(super) fn add_listener(&mut self, port: u16, host: Host) -> Result<(), String> {
        let made_by = match host {
            Host::Loopback => Maker::Port,
            Host::Any | Host::Named(_) | Host::Unix(_) | Host::Passed => Maker::Listener,
        };
        self.push(Draft::new(port, host, self.here.clone(), made_by))
    }

    fn push(&mut self, draft: Draft) -> Result<(), String> {
        if self.drafts.len() == LISTENERS_MAX {
            return Err(format!("is one listener more than {LISTENERS_MAX}"));
        }
        self.current = Some(self.drafts.len());
        self.drafts.push(draft);
        Ok(())
    }

    /// The listener that an option of a file is about.
    pub(super) fn described(&mut self, option: &str) -> Result<&mut Draft, String> {
        let names_default = matches!(option, "port" | "bind_address");
        if names_default && self.default_listener.is_some() {
            self.current = self.default_listener;
        }
        let has_one = match names_default {
            true => self.default_listener.is_some(),
            false => self.current.is_some(),
        };
        if !has_one {
            let origin = format!("{} (before any listener: port {PORT})", self.here);
            self.push(Draft::new(PORT, Host::Any, origin, Maker::Option))?;
            self.default_listener = self.current;
        }
        let index = self.current.expect("there is one by now");
        let draft = &mut self.drafts[index];
        if names_default {
            draft.made_by = Maker::Listener;
            draft.address.origin = self.here.clone();
        }
        Ok(draft)
    }

    /// Flags have been read: what the file says is about listeners of its own.
    pub(super) fn begin_file(&mut self) {
        self.current = None;
        self.of_flags = self.drafts.len();
    }

    /// Whether listeners of a file make those of `--port` idle.
    pub(super) fn file_has_listeners(&self) -> bool {
        let of_file = &self.drafts[self.of_flags..];
        of_file.iter().any(|draft| draft.made_by == Maker::Listener)
    }

    /// Everything has been read: these are the listeners.
    pub(super) fn settle_listeners(&mut self) {
        let of_file = self.file_has_listeners();
        if of_file {
            self.drafts.retain(|draft| draft.made_by != Maker::Port);
        }
        let is_local = self
            .drafts
            .iter()
            .all(|draft| draft.made_by != Maker::Listener);
        let of_option = |draft: &Draft| draft.made_by == Maker::Option;
        let implied = self.drafts.iter().position(of_option);
        if let (Some(index), false) = (implied, of_file) {
            let implied = self.drafts.remove(index);
            if self.drafts.is_empty() {
                self.drafts.push(self.default_draft());
            }
            self.drafts
                .iter_mut()
                .for_each(|draft| draft.set_like(&implied));
        }
        if self.drafts.is_empty() {
            self.drafts.push(self.default_draft());
        }
        let is_passed = |draft: &Draft| draft.address.host == Host::Passed;
        self.is_local = is_local && !self.drafts.iter().any(is_passed);
    }

    /// What there is where no listener is asked for.
    fn default_draft(&self) -> Draft {
        match self.passed {
            0 => {
                let origin = format!("--port {PORT} (the default)");
                Draft::new(PORT, Host::Loopback, origin, Maker::Port)
            }
            count => {
                let origin = format!("LISTEN_FDS={count}");
                Draft::new(PORT, Host::Passed, origin, Maker::Port)
            }
        }
    }

    /// Hands the listeners to the server and to the broker.
    pub(super) fn complete_listeners(&mut self) {
        let everybody = self.allow_anonymous.unwrap_or(self.is_local);
        for draft in &mut self.drafts {
            draft.options.allow_anonymous = draft.allow_anonymous.unwrap_or(everybody);
            // Flags are for all listeners, and count before what the file says of one.
            if self.password_file.is_some() {
                draft.password_file.clone_from(&self.password_file);
            }
            if self.acl_file.is_some() {
                draft.acl_file.clone_from(&self.acl_file);
            }
            draft.options.passwords = draft.password_file.is_some();
            draft.options.name = draft.name().into();
        }
        let limits = &mut self.broker.limits;
        let options = || self.drafts.iter().map(|draft| &draft.options);
        // The server's are the most that any of them gives.
        limits.topic_alias_max = options().map(|one| one.topic_alias_max).max().unwrap_or(0);
        limits.topic_alias_max_broker = options()
            .map(|one| one.topic_alias_max_broker)
            .max()
            .unwrap_or(0);
        self.broker.listeners = options().cloned().collect();
        self.listeners = self
            .drafts
            .iter()
            .map(|draft| draft.address.clone())
            .collect();
    }

    /// Who can connect to a listener, and why, in one sentence.
    pub fn who_can_connect(&self, index: usize) -> String {
        let draft = &self.drafts[index];
        if draft.options.is_gone {
            return "nobody can connect (it is not there any more)".to_string();
        }
        let who = draft.whom();
        let set = draft.allow_anonymous.or(self.allow_anonymous).is_some();
        let anonymous = match draft.allow_anonymous {
            Some(_) if !self.per_listener => self.name("listener-allow-anonymous"),
            Some(_) | None => self.name("allow-anonymous"),
        };
        if let Some(file) = &draft.password_file {
            let allowed = draft.options.allow_anonymous;
            return self.who_is_known(&who, &anonymous, allowed, set, file);
        }
        match (draft.options.allow_anonymous, set) {
            (true, true) => format!("{who} can connect ({anonymous} true)"),
            (true, false) => format!(
                "{who} can connect (without {}; {} 1883 opens it to the network)",
                self.name("listener"),
                self.name("listener")
            ),
            (false, true) => format!("nobody can connect ({anonymous} false, and no users)"),
            (false, false) => format!(
                "nobody can connect (with {}, clients without a user name are refused, and \
                 there are no users; {anonymous} true lets everybody in)",
                match draft.address.host {
                    Host::Passed => "LISTEN_FDS".to_string(),
                    _ => self.name("listener"),
                }
            ),
        }
    }

    /// The same where there are users.
    fn who_is_known(
        &self,
        who: &str,
        anonymous: &str,
        allowed: bool,
        set: bool,
        file: &str,
    ) -> String {
        let with = format!(
            "a user name and its password from {file} ({})",
            self.name("password-file")
        );
        match (allowed, set) {
            (true, true) => {
                format!("{who} can connect without a user name ({anonymous} true), or with {with}")
            }
            (true, false) => format!(
                "{who} can connect without a user name (without {}; {anonymous} false ends that), \
                 or with {with}",
                self.name("listener")
            ),
            (false, true) => {
                format!("{who} can connect with {with}, nobody else ({anonymous} false)")
            }
            (false, false) => format!(
                "{who} can connect with {with}, nobody else ({anonymous} true lets everybody in \
                 who brings no user name)"
            ),
        }
    }
}
