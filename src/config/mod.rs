//! Settings: one table of them, read from flags and a configuration file into plain data.
//!
//! `settings.rs` is the table, `setting.rs` what a row says, `value.rs` and `values.rs` what values
//! look like; `flags.rs` and `file.rs` are the two forms that settings come in, `read.rs` brings
//! them together, `listener.rs` has what each listener has of its own, `report.rs` tells of it all,
//! `obstacles.rs` what else would stop a start, `reload.rs` what of it can change while midge runs.

mod file;
mod flags;
mod listener;
mod obstacles;
mod read;
mod reload;
mod report;
mod setting;
mod settings;
mod table;
mod value;
mod values;

use crate::broker::explain::Question;
use crate::broker::journal::WHENEVER;
use crate::broker::limits::{Durability, Limits, Options};
use crate::logging::{Destination, LogOptions, LogType, in_one_line};
use crate::net::{ListenerAddress, Tuning};
use crate::reload::{Files, ListenerFiles};
pub use file::{Outside, System};
pub use flags::{help, names};
use listener::Draft;
pub use obstacles::Obstacles;
use read::{Given, Verdict};
use setting::Scope;
pub use table::{Row, rows};

/// What to run, read from the flags and the configuration file.
#[derive(Clone, Debug)]
pub struct Config {
    pub broker: Options,
    /// In the order of `broker.listeners`.
    pub listeners: Vec<ListenerAddress>,
    pub log: LogOptions,
    pub tcp_nodelay: bool,
    pub daemon: bool,
    pub password_file: Option<String>,
    pub pid_file: Option<String>,
    pub persistence: bool,
    pub persistence_location: String,
    pub acl_file: Option<String>,
    /// That midge can do no more than it has to once it serves.
    pub sandbox: bool,
    /// `-c`
    pub file: Option<String>,
    /// Sockets that whoever started midge has opened for it.
    pub passed: usize,
    pub user: Option<String>,
    /// The line that says so, for errors.
    pub user_origin: String,
    allow_anonymous: Option<bool>,
    /// See [`Durability`].
    durability: u64,
    durable: Vec<(Box<str>, u64)>,
    drafts: Vec<Draft>,
    /// Of them, the one that is being described, the one that needs no `listener`, and how many
    /// come from flags.
    current: Option<usize>,
    default_listener: Option<usize>,
    of_flags: usize,
    /// There is no listener but for this machine.
    is_local: bool,
    per_listener: bool,
    is_root: bool,
    /// The file, and those that it includes.
    paths: Vec<String>,
    /// All that was given, in the order in which it was read.
    given: Vec<Given>,
    /// Of the setting that is being read: where it stands, and what is to be said of it.
    here: String,
    aside: Option<String>,
}

/// What the flags ask for.
#[derive(Debug)]
pub enum Command {
    Run(Box<Config>),
    /// Say what would become of this configuration.
    Test {
        text: String,
        is_good: bool,
    },
    /// Print this.
    Print(String),
    /// Say what these files say to this.
    Explain(Question, Files),
    /// Print the store in this directory.
    Dump(String),
    /// Change a password file, as these say.
    Passwd(Vec<String>),
    Help,
    Version,
}

/// What is wrong with flags or file, in one line.
#[derive(Debug)]
pub struct Fault {
    pub sentence: String,
    /// What else is, a line each.
    pub more: Vec<String>,
    pub in_file: bool,
}

impl Fault {
    fn flags(sentence: String) -> Fault {
        let sentence = in_one_line(&sentence);
        Fault {
            sentence,
            more: Vec::new(),
            in_file: false,
        }
    }

    fn file(sentence: String) -> Fault {
        Fault {
            in_file: true,
            ..Fault::flags(sentence)
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            broker: Options {
                listeners: Vec::new(),
                ..Options::default()
            },
            listeners: Vec::new(),
            log: LogOptions::default(),
            tcp_nodelay: true,
            daemon: false,
            password_file: None,
            pid_file: None,
            persistence: false,
            persistence_location: ".".to_string(),
            acl_file: None,
            sandbox: Config::HAS_SANDBOX,
            file: None,
            passed: 0,
            user: None,
            user_origin: String::new(),
            allow_anonymous: None,
            durability: 0,
            durable: Vec::new(),
            drafts: Vec::new(),
            current: None,
            default_listener: None,
            of_flags: 0,
            is_local: true,
            per_listener: false,
            is_root: false,
            paths: Vec::new(),
            given: Vec::new(),
            here: String::new(),
            aside: None,
        }
    }
}

/// Settings that name files, or directories of them, which may be read again while midge serves.
const READ: [&str; 4] = ["config_file", "include_dir", "password_file", "acl_file"];

impl Config {
    /// There is one for Linux only.
    pub const HAS_SANDBOX: bool = cfg!(all(feature = "sandbox", target_os = "linux"));

    /// Reads flags, without the name of the program, and the file that they name.
    pub fn read(flags: &[String], outside: &dyn Outside) -> Result<Command, Fault> {
        read::read(flags, outside)
    }

    fn set_per_listener(&mut self, per_listener: bool) -> Result<(), String> {
        let security = |given: &&Given| {
            let setting = read::find(&given.name);
            setting.is_some_and(|setting| setting.scope == Scope::Security)
        };
        if let (true, Some(given)) = (per_listener, self.given.iter().find(security)) {
            return Err(format!("must come before {}", given.name));
        }
        self.per_listener = per_listener;
        Ok(())
    }

    fn set_user(&mut self, name: &str) -> Result<(), String> {
        if name.contains([' ', ':']) {
            return Err("must be the name of a user".to_string());
        }
        self.user = Some(name.to_string());
        self.user_origin.clone_from(&self.here);
        if !self.is_root {
            self.aside = Some("only root can become another user: midge stays who it is".into());
        }
        Ok(())
    }

    /// Where a setting stands that is in force and can be given once, for errors.
    pub fn origin(&self, name: &str) -> String {
        let is_it = |given: &&Given| {
            given.verdict == Verdict::Honoured && given.name.replace('_', "-") == name
        };
        let given = self.given.iter().find(is_it);
        given.map_or_else(|| format!("--{name}"), |given| given.origin.clone())
    }

    /// What says who may do what.
    pub fn files(&self) -> Files {
        let of_draft = |draft: &Draft| ListenerFiles {
            listener: draft.address.origin.clone(),
            passwords: draft.password_file.clone(),
            acl: draft.acl_file.clone(),
            is_gone: draft.options.is_gone,
        };
        Files(self.drafts.iter().map(of_draft).collect())
    }

    /// What SIGHUP may read again, whichever listener it is for.
    pub fn paths_read(&self) -> impl Iterator<Item = &str> {
        let is_read = |given: &&Given| READ.contains(&given.name.replace('-', "_").as_str());
        let named = self.given.iter().filter(is_read);
        let named = named.map(|given| given.text.as_str());
        // What is included may be a link to anywhere.
        named.chain(self.paths.iter().map(String::as_str))
    }

    /// Whom root is to become once the ports are open; without a word of it in the file the one
    /// that Mosquitto would, if there is one.
    pub fn user_to_become(&self) -> Option<&str> {
        let name = self.user.as_deref().unwrap_or("mosquitto");
        (self.is_root && self.file.is_some() && name != "root").then_some(name)
    }

    fn add_destination(&mut self, text: &str) -> Result<(), String> {
        let destination = match text {
            "dlt" | "android" => {
                self.aside = Some("it goes to standard error".to_string());
                Destination::Stderr
            }
            _ => Destination::parse(text)?,
        };
        if !self.log.destinations.contains(&destination) {
            let origin = self.here.clone();
            self.log.origins.push((destination.clone(), origin));
            self.log.destinations.push(destination);
        }
        Ok(())
    }

    fn add_log_type(&mut self, text: &str) -> Result<(), String> {
        let log_type = LogType::parse(text)?;
        if log_type == LogType::Foreign {
            self.aside = Some("there are no lines of that kind".to_string());
        }
        self.log.types.push(log_type);
        Ok(())
    }

    /// An option as those call it who gave it.
    fn name(&self, flag: &str) -> String {
        match self.file {
            None => format!("--{flag}"),
            Some(_) => flag.replace('-', "_"),
        }
    }

    /// Settles what depends on several settings.
    fn complete(&mut self) -> Result<(), String> {
        self.complete_listeners();
        let has_users = self.broker.listeners.iter().any(|one| one.passwords);
        if has_users && !cfg!(feature = "passwords") {
            let name = self.name("password-file");
            return Err(format!("{name}: this midge was built without passwords"));
        }
        let has_interface = |draft: &Draft| draft.address.interface.is_some();
        if self.drafts.iter().any(has_interface) && !cfg!(feature = "sockets") {
            let name = self.name("bind-interface");
            return Err(format!("{name}: this midge was built without sockets"));
        }
        if self.daemon && self.passed > 0 {
            return Err(
                "--daemon: sockets were passed to this process (LISTEN_FDS), not to one \
                 in the background; leave it out"
                    .to_string(),
            );
        }
        if self.sandbox && !Config::HAS_SANDBOX {
            let name = self.name("sandbox");
            return Err(format!("{name}: this midge was built without the sandbox"));
        }
        let has_memory_limit = self.broker.limits.memory_bytes_max != u64::MAX;
        if has_memory_limit && !cfg!(feature = "memory-limit") {
            let name = self.name("memory-limit");
            return Err(format!(
                "{name}: this midge was built without the counting of memory"
            ));
        }
        if self.broker.limits.memory_bytes_max < Limits::MEMORY_LIMIT_MIN {
            let name = self.name("memory-limit");
            let least = Limits::MEMORY_LIMIT_MIN;
            return Err(format!(
                "{name}: at least {least}, as midge itself takes nearly half of that; it is a \
                 number of bytes, such as 6000000"
            ));
        }
        self.complete_persistence()
    }

    /// What TCP connections have. Where memory is limited, the kernel is not to need much more of
    /// it for those who do not read, or are not read.
    pub fn tuning(&self) -> Tuning {
        let share = self.broker.limits.memory_bytes_max / Limits::SOCKET_BUFFER_PART;
        let is_small = share <= Limits::SOCKET_BUFFER_BYTES_MAX;
        let share = share.max(Limits::SOCKET_BUFFER_BYTES_MIN) as usize;
        Tuning {
            nodelay: self.tcp_nodelay,
            buffer_bytes: is_small.then_some(share),
        }
    }

    fn complete_persistence(&mut self) -> Result<(), String> {
        if self.persistence && !cfg!(feature = "store") {
            return Err("--persistence: this midge was built without the store".to_string());
        }
        let idle = match (self.durability, &self.durable[..]) {
            (0, []) => None,
            (0, [_, ..]) => Some("durable"),
            (_, _) => Some("durability"),
        };
        if let (Some(name), false) = (idle, self.persistence) {
            return Err(format!(
                "{}: nothing is kept without {} true",
                self.name(name),
                self.name("persistence")
            ));
        }
        self.broker.durability = self.persistence.then(|| Durability {
            within: self.durability,
            by_topic: self.durable.clone(),
        });
        Ok(())
    }

    /// What survives a stop, and when, in one sentence.
    pub fn what_is_kept(&self) -> String {
        let Some(durability) = &self.broker.durability else {
            return format!(
                "Sessions and retained messages end with midge (without {} true)",
                self.name("persistence")
            );
        };
        let when = match durability.within {
            0 => "before it is acknowledged".to_string(),
            WHENEVER => "when the system likes".to_string(),
            within => format!("{within} ms later at most"),
        };
        let but = match durability.by_topic.len() {
            0 => String::new(),
            count => format!(", but for {count} filters ({})", self.name("durable")),
        };
        let location = &self.persistence_location;
        format!("What must survive is kept in {location}, on the medium {when}{but}")
    }
}

#[cfg(test)]
mod tests {
    use super::setting::{Effect, Setting};
    use super::settings::SETTINGS;
    use super::*;

    #[test]
    fn the_defaults_that_help_shows_are_those_in_force() {
        // These are settled by other settings, shown in words, or added to what there is.
        let in_words = [
            "port",
            "allow-anonymous",
            "listener-allow-anonymous",
            "listener-auto-id-prefix",
            "persistent-client-expiration",
            "log-type",
            "log-dest",
            "user",
        ];
        let shown =
            |setting: &&Setting| !setting.default.is_empty() && !in_words.contains(&setting.name);
        let new = || {
            let mut config = Config::default();
            config.settle_listeners();
            config
        };
        let in_force = format!("{:?}", new());
        for setting in SETTINGS.iter().filter(shown) {
            let mut config = new();
            let result =
                setting
                    .kind
                    .parse(setting.default)
                    .and_then(|value| match setting.effect {
                        Effect::Global(set) | Effect::Either(set, _) => set(&mut config, value),
                        Effect::Listener(set) => set(&mut config.drafts[0], value),
                        Effect::Approximated(_) | Effect::Missing(_) | Effect::Ignored(_) => Ok(()),
                    });
            assert_eq!(result, Ok(()), "{}", setting.name);
            assert_eq!(format!("{config:?}"), in_force, "{}", setting.name);
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for flag in [
            "free\ntext",
            "--pid-file=a\nb",
            "--listener=1883 \u{1b}[31m",
            "--no\rsuch",
        ] {
            let sentence = Config::read(&[flag.to_string()], &System)
                .unwrap_err()
                .sentence;
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
        }
    }

    #[test]
    fn a_flag_for_true_or_false_takes_its_value_in_any_form() {
        let read = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            match Config::read(&flags, &System) {
                Ok(Command::Run(config)) => Ok(config.broker.retain_available),
                Ok(_) => Err("not a run".to_string()),
                Err(fault) => Err(fault.sentence),
            }
        };
        for (flags, expected) in [
            (&["--retain-available"][..], true),
            (&["--retain-available", "-q"], true),
            (&["--retain-available", "false"], false),
            (&["--retain-available=0"], false),
            (&["--retain-available", "1"], true),
        ] {
            assert_eq!(read(flags), Ok(expected), "{flags:?}");
        }
        assert!(read(&["--retain-available", "perhaps"]).is_err());
    }
}
