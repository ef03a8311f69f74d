//! Settings: one table of them, read from flags into plain data.

mod settings;
mod values;

use getopts::Fail;

use crate::broker::journal::WHENEVER;
use crate::broker::limits::{Durability, ListenerOptions, Options};
use crate::logging::{LogOptions, in_one_line};
use crate::net::{Host, ListenerAddress};
use settings::Kind::{Bool, Flag, Number, Numbers, Text, Texts};
use settings::{SETTINGS, Setting};
pub use settings::{help, names};

/// What to run, read from the flags.
#[derive(Clone, Debug)]
pub struct Config {
    pub broker: Options,
    /// In the order of `broker.listeners`.
    pub listeners: Vec<ListenerAddress>,
    pub log: LogOptions,
    pub tcp_nodelay: bool,
    pub daemon: bool,
    pub pid_file: Option<String>,
    pub persistence: bool,
    pub persistence_location: String,
    /// Only check.
    pub test_config: bool,
    allow_anonymous: Option<bool>,
    /// See [`Durability`].
    durability: u64,
    durable: Vec<(Box<str>, u64)>,
}

/// What the flags ask for.
#[derive(Debug)]
pub enum Command {
    Run(Box<Config>),
    /// Print the store in this directory.
    Dump(String),
    Help,
    Version,
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
            pid_file: None,
            persistence: false,
            persistence_location: ".".to_string(),
            test_config: false,
            allow_anonymous: None,
            durability: 0,
            durable: Vec::new(),
        }
    }
}

impl Config {
    /// Reads flags, without the name of the program. What is wrong with them is said in one line.
    pub fn from_flags(flags: &[String]) -> Result<Command, String> {
        Config::read(flags).map_err(|sentence| in_one_line(&sentence))
    }

    fn read(flags: &[String]) -> Result<Command, String> {
        let matches = parser().parse(join_values(flags)).map_err(sentence)?;
        if matches.opt_present("help") {
            return Ok(Command::Help);
        }
        if matches.opt_present("version") {
            return Ok(Command::Version);
        }
        match &matches.free[..] {
            [] => {}
            [dump, directory] if dump == "dump" => return Ok(Command::Dump(directory.clone())),
            [dump, ..] if dump == "dump" => {
                return Err("dump: needs a directory, and nothing else".to_string());
            }
            [free, ..] => return Err(format!("\"{free}\" belongs to no flag")),
        }
        let mut config = Config::default();
        for setting in SETTINGS {
            for text in values(setting, &matches) {
                let named = |why| format!("--{} {text}: {why}", setting.name);
                // They would garble the log, and every sentence that names the value.
                if text.contains(char::is_control) {
                    return Err(named("must not contain control characters".to_string()));
                }
                let value = setting.kind.parse(&text).map_err(named)?;
                (setting.set)(&mut config, value).map_err(named)?;
            }
        }
        config.complete()?;
        Ok(Command::Run(Box::new(config)))
    }

    fn add_listener(&mut self, port: u16, host: Host, origin: String) -> Result<(), String> {
        self.listeners.push(ListenerAddress { port, host, origin });
        Ok(())
    }

    /// Settles what depends on several settings.
    fn complete(&mut self) -> Result<(), String> {
        if self.listeners.is_empty() {
            self.add_listener(
                1883,
                Host::Loopback,
                "--port 1883 (the default)".to_string(),
            )?;
        }
        let allow_anonymous = self.allow_anonymous.unwrap_or(!self.has_listener());
        self.broker.listeners = vec![ListenerOptions { allow_anonymous }; self.listeners.len()];
        self.complete_persistence()
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
                "--{name}: nothing is kept without --persistence true"
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
            return "Sessions and retained messages end with midge (without --persistence true)"
                .to_string();
        };
        let when = match durability.within {
            0 => "before it is acknowledged".to_string(),
            WHENEVER => "when the system likes".to_string(),
            within => format!("{within} ms later at most"),
        };
        let but = match durability.by_topic.len() {
            0 => String::new(),
            count => format!(", but for {count} filters (--durable)"),
        };
        let location = &self.persistence_location;
        format!("What must survive is kept in {location}, on the medium {when}{but}")
    }

    fn has_listener(&self) -> bool {
        self.listeners
            .iter()
            .any(|listener| listener.host != Host::Loopback)
    }

    /// Who can connect to a listener, and why, in one sentence.
    pub fn who_can_connect(&self, index: usize) -> String {
        let who = match self.listeners[index].host {
            Host::Loopback => "every client of this machine",
            Host::Any | Host::Named(_) => "every client",
        };
        let allowed = self.broker.listeners[index].allow_anonymous;
        match (allowed, self.allow_anonymous, self.has_listener()) {
            (true, Some(_), _) => format!("{who} can connect (--allow-anonymous true)"),
            (true, None, _) => format!(
                "{who} can connect (without --listener; --listener 1883 opens it to the network)"
            ),
            (false, Some(_), _) => {
                "nobody can connect (--allow-anonymous false, and no users)".into()
            }
            (false, None, _) => "nobody can connect (with --listener, clients without a user name \
                are refused, and there are no users; --allow-anonymous true lets everybody in)"
                .into(),
        }
    }
}

/// What is wrong with the flags as such.
fn sentence(fail: Fail) -> String {
    let dashed = |flag: String| match flag.len() {
        1 => format!("-{flag}"),
        _ => format!("--{flag}"),
    };
    match fail {
        Fail::UnrecognizedOption(flag) => format!("{}: there is no such flag", dashed(flag)),
        Fail::ArgumentMissing(flag) => format!("{}: needs a value", dashed(flag)),
        Fail::UnexpectedArgument(flag) => format!("{}: takes no value", dashed(flag)),
        Fail::OptionDuplicated(flag) => format!("{}: can be given once only", dashed(flag)),
        Fail::OptionMissing(flag) => format!("{}: must be given", dashed(flag)),
    }
}

fn parser() -> getopts::Options {
    let mut parser = getopts::Options::new();
    for Setting {
        name, short, kind, ..
    } in SETTINGS
    {
        match kind {
            Flag => parser.optflag(short, name, ""),
            Bool => parser.optflagopt(short, name, "", ""),
            Number(..) | Text(_) => parser.optopt(short, name, "", ""),
            Numbers(..) | Texts(_) => parser.optmulti(short, name, "", ""),
        };
    }
    parser.optflag("", "version", "").optflag("h", "help", "");
    parser
}

/// `--flag true` is `--flag=true` for a setting that may stand alone, as it is for all others.
fn join_values(flags: &[String]) -> Vec<String> {
    let is_bool = |flag: &str| {
        let name = flag.strip_prefix("--");
        SETTINGS
            .iter()
            .any(|row| Some(row.name) == name && matches!(row.kind, Bool))
    };
    let mut joined: Vec<String> = Vec::new();
    for flag in flags {
        match joined.last_mut() {
            Some(last) if is_bool(last) && !flag.starts_with('-') => *last += &format!("={flag}"),
            _ => joined.push(flag.clone()),
        }
    }
    joined
}

/// The values given for a setting, in order.
fn values(setting: &Setting, matches: &getopts::Matches) -> Vec<String> {
    match setting.kind {
        Flag | Bool if matches.opt_present(setting.name) => {
            vec![matches.opt_str(setting.name).unwrap_or_default()]
        }
        Flag | Bool => Vec::new(),
        Number(..) | Text(_) | Numbers(..) | Texts(_) => matches.opt_strs(setting.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_that_help_shows_are_those_in_force() {
        // These are settled by other settings, or shown in words.
        let in_words = [
            "port",
            "allow-anonymous",
            "persistent-client-expiration",
            "log-type",
        ];
        let shown =
            |setting: &&Setting| !setting.default.is_empty() && !in_words.contains(&setting.name);
        let in_force = format!("{:?}", Config::default());
        for setting in SETTINGS.iter().filter(shown) {
            let mut config = Config::default();
            let value = setting.kind.parse(setting.default);
            let result = value.and_then(|value| (setting.set)(&mut config, value));
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
            let sentence = Config::from_flags(&[flag.to_string()]).unwrap_err();
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
        }
    }

    #[test]
    fn a_flag_for_true_or_false_takes_its_value_in_any_form() {
        let read = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            match Config::from_flags(&flags) {
                Ok(Command::Run(config)) => Ok(config.broker.retain_available),
                Ok(Command::Help | Command::Version | Command::Dump(_)) => {
                    Err("not a run".to_string())
                }
                Err(sentence) => Err(sentence),
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
