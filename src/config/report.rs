//! What is said of a configuration: what became of each setting, and what is in force.

use std::fmt;

use super::Config;
use super::listener::Draft;
use super::read::{Given, Verdict};
use super::setting::{Effect, Scope, Setting};
use super::settings::SETTINGS;
use super::value::Kind;
use crate::logging::in_one_line;
use crate::net::Host;

/// More of a value says no more.
const SHOWN_CHARS: usize = 100;

impl Given {
    pub fn is_wrong(&self) -> bool {
        matches!(self.verdict, Verdict::Wrong(_))
    }

    /// Name and value, but no secret.
    fn what(&self) -> String {
        let is_secret = self.name.contains("password") && self.name != "password_file"
            || self.name.ends_with("psk")
            || self.name.contains("_opt_");
        if self.name.is_empty() {
            return String::new();
        }
        let text: String = self.text.chars().take(SHOWN_CHARS).collect();
        let text = match (is_secret, text.len() < self.text.len()) {
            (true, _) => "(not shown)".to_string(),
            (false, true) => text + "…",
            (false, false) => text,
        };
        in_one_line(format!("{} {text}", self.name).trim_end())
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (place, what) = (&self.place, self.what());
        // A flag has said its name.
        let what = match place.strip_prefix("--") {
            Some(name) => what.strip_prefix(name).unwrap_or(&what).trim_start(),
            None => &what,
        };
        write!(f, "{place}")?;
        match (place.starts_with("--"), what.is_empty()) {
            (_, true) => {}
            (true, false) => write!(f, " {what}")?,
            (false, false) => write!(f, ": {what}")?,
        }
        match &self.verdict {
            Verdict::Honoured => write!(f, ": honoured"),
            Verdict::Approximated(how) => write!(f, ": approximated: {how}"),
            Verdict::Ignored(why) => write!(f, ": ignored: {why}"),
            Verdict::Wrong(sentence) => write!(f, ": {}", in_one_line(sentence)),
        }
    }
}

impl Config {
    /// What a start has to say of its settings: those that do not do what they say.
    pub fn notices(&self) -> Vec<String> {
        let is_odd = |given: &&Given| {
            matches!(
                given.verdict,
                Verdict::Approximated(_) | Verdict::Ignored(_)
            )
        };
        self.given
            .iter()
            .filter(is_odd)
            .map(Given::to_string)
            .collect()
    }
}

/// The text of `--test-config`: a line for each setting that was given, then what would be done.
pub fn test(config: &Config, known: &[String], incomplete: Option<String>) -> String {
    let mut text = String::new();
    for given in &config.given {
        if !matches!(given.name.as_str(), "test-config" | "config-file") {
            text += &format!("{given}\n");
        }
    }
    let wrong = config.given.iter().filter(|given| given.is_wrong()).count();
    match (incomplete, wrong) {
        (None, 0) => {}
        (Some(sentence), 0) => return text + &format!("{sentence}\nmidge would not start.\n"),
        (_, _) => return text + "midge would not start.\n",
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let who = config.who_can_connect(index);
        text += &format!("{}: {who}.\n", listener.origin);
    }
    text += &format!("{}.\n", config.what_is_kept());
    for sentence in known {
        text += &format!("{sentence}.\n");
    }
    text + "The configuration is good.\n"
}

/// The text of `--print-config`: a file that says the same again.
pub fn print(config: &Config) -> String {
    let mut text = String::from("# All settings in force, and where each comes from.\n");
    for setting in SETTINGS.iter().filter(|setting| setting.is_honoured()) {
        let is_here = match setting.scope {
            Scope::Global => setting.name != "listener",
            // Or said of each listener.
            Scope::Security => !config.per_listener,
            Scope::File => match setting.name {
                "per-listener-settings" => config.per_listener,
                name => name == "user",
            },
            Scope::Program | Scope::Listener | Scope::ListenerInFile => false,
            Scope::Bridge | Scope::Plugin => false,
        };
        if is_here {
            print_global(config, setting, &mut text);
        }
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        print_listener(config, index, &mut text);
        // Said of each, whatever the file that was read said of all.
        let allowed = config.broker.listeners[index].allow_anonymous;
        let own = config.drafts[index].allow_anonymous.is_some();
        let origin = match (own, config.allow_anonymous) {
            (true, _) => "its own",
            (false, Some(_)) => "as allow_anonymous",
            (false, None) => "default",
        };
        text += &format!("# {origin}\nlistener_allow_anonymous {allowed}\n");
        let is_given = config
            .given
            .iter()
            .any(|one| one.place == "--auto-id-prefix");
        let everybodys = (config.per_listener && is_given).then_some(&config.broker.auto_id_prefix);
        let own = config.broker.listeners[index].auto_id_prefix.as_ref();
        if let Some(prefix) = own.or(everybodys) {
            text += &format!("# {}\nlistener_auto_id_prefix {prefix}\n", listener.origin);
        }
        if config.per_listener {
            print_files(&config.drafts[index], &mut text);
        }
    }
    text
}

/// Who may connect to a listener, and who may do what there, where that is its own.
fn print_files(draft: &Draft, text: &mut String) {
    let files = [
        ("password_file", &draft.password_file),
        ("acl_file", &draft.acl_file),
    ];
    for (option, file) in files {
        *text += &match file {
            Some(file) if file.trim_matches(' ') != file => {
                format!("# no file can say \"{file}\"\n")
            }
            Some(file) => format!("# {}\n{option} {file}\n", draft.address.origin),
            None => format!("# default: no {option}\n"),
        };
    }
}

fn print_global(config: &Config, setting: &Setting, text: &mut String) {
    let option = setting.option();
    let mut given = false;
    // `-q` and `-v` are types of log lines too.
    let says_it = |one: &&Given| {
        let name = one.name.replace('-', "_");
        let name = super::read::canonical(&name);
        let in_listener = setting.scope == Scope::Security && config.per_listener;
        let is_flag = one.place.starts_with("--");
        name == option && (is_flag || !in_listener)
    };
    for one in config.given.iter().filter(says_it) {
        if !matches!(one.verdict, Verdict::Ignored(_)) {
            let is_writable = one.text.trim_matches(' ') == one.text && !one.text.is_empty();
            *text += &match is_writable {
                true => format!("# {}\n{option} {}\n", one.place, one.text),
                false => format!("# {}: no file can say \"{}\"\n", one.place, one.text),
            };
            given = true;
        }
    }
    for (flag, value) in [("quiet", "none"), ("verbose", "all")] {
        if option == "log_type" && config.given.iter().any(|one| one.name == flag) {
            *text += &format!("# --{flag}\nlog_type {value}\n");
            given = true;
        }
    }
    if !given {
        print_default(setting, text);
    }
}

fn print_default(setting: &Setting, text: &mut String) {
    let option = setting.option();
    let mut scratch = Config::default();
    let value = match setting.default {
        "" => Err("nothing".to_string()),
        default => setting.kind.parse_in_file(default),
    };
    let is_readable = value.and_then(|value| match setting.effect {
        Effect::Global(set) | Effect::Either(set, _) => set(&mut scratch, value),
        Effect::Listener(_) => Ok(()),
        Effect::Approximated(_) | Effect::Missing(_) | Effect::Ignored(_) => Ok(()),
    });
    *text += &match (is_readable, setting.default) {
        (Ok(()), default) => format!("# default\n{option} {default}\n"),
        (Err(_), "") => format!("# default: no {option}\n"),
        (Err(_), default) => format!("# default: {option} {default}\n"),
    };
}

fn print_listener(config: &Config, index: usize, text: &mut String) {
    let draft = &config.drafts[index];
    let (origin, address) = (&draft.address.origin, draft.address());
    // None, so that it is the same again.
    let listener = match draft.address.host {
        Host::Passed => String::new(),
        _ => format!("listener {address}\n"),
    };
    *text += &format!("# {origin}\n{listener}");
    for setting in SETTINGS.iter().filter(|setting| setting.is_honoured()) {
        let is_own = ["listener-allow-anonymous", "listener-auto-id-prefix"];
        let is_own = is_own.contains(&setting.name);
        let names_it = setting.name == "bind-address" || setting.name == "port";
        let is_here = matches!(setting.scope, Scope::Listener | Scope::ListenerInFile);
        let is_here = is_here && draft.heeds(setting.name);
        if !is_here || is_own || names_it || setting.kind == Kind::Flag {
            continue;
        }
        match draft.given.get(setting.name) {
            Some((value, place)) => {
                *text += &format!("# {place}\n{} {value}\n", setting.option());
            }
            None => print_default(setting, text),
        }
    }
}
