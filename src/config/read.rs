//! Flags, the environment and the file, in this order: what comes first counts, but for settings
//! that can be given several times, which are added up.
//!
//! Everything in the file is looked at, whatever is wrong with it: `--test-config` tells all of it.

use std::collections::HashMap;

use super::file::{self, Line, Outside};
use super::flags;
use super::report;
use super::setting::{Effect, Scope, Setting};
use super::settings::{ALIASES, SETTINGS};
use super::value::{Kind, Value};
use super::values;
use super::{Command, Config, Fault};
use crate::logging::in_one_line;
use crate::net::passed_count;

/// The environment's word for `persistence_location`, as Mosquitto has it.
const LOCATION: &str = "MOSQUITTO_PERSISTENCE_LOCATION";

/// A setting as somebody gave it, and what became of it.
#[derive(Clone, Debug)]
pub struct Given {
    /// `--max-qos`, or `file:line`.
    pub place: String,
    /// The flag or the line as a whole, for errors.
    pub origin: String,
    /// As it is called there; empty for a line that is none.
    pub name: String,
    pub text: String,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Honoured,
    Approximated(String),
    Ignored(String),
    Wrong(String),
}

/// Where settings were given that count before the file, and in the file those that can be there
/// once only: by listener and name.
type Seen = HashMap<(Option<usize>, &'static str), String>;

pub fn read(arguments: &[String], outside: &dyn Outside) -> Result<Command, Fault> {
    // It has flags of its own.
    if let Some((first, rest)) = arguments.split_first()
        && first == "passwd"
    {
        return Ok(Command::Passwd(rest.to_vec()));
    }
    let matches = flags::parse(arguments).map_err(Fault::flags)?;
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
            return Err(Fault::flags(
                "dump: needs a directory, and nothing else".into(),
            ));
        }
        [_, ..] if matches.opt_present("explain") => {}
        [free, ..] => return Err(Fault::flags(format!("\"{free}\" belongs to no flag"))),
    }
    let question = matches.opt_str("explain");
    let question = question.map(|who| values::question(&who, &matches.free));
    let question = question.transpose().map_err(Fault::flags)?;
    let mut config = Config {
        is_root: outside.is_root(),
        ..Config::default()
    };
    let mut first = config.read_flags(&matches).map_err(Fault::flags)?;
    config
        .read_environment(outside, &mut first)
        .map_err(Fault::flags)?;
    let passed = passed_count(&|name| outside.variable(name));
    config.passed = passed.map_err(Fault::flags)?;
    config.begin_file();
    if let Some(path) = config.file.clone() {
        config.read_file(&path, outside, &first);
    }
    config.settle_listeners();
    config.apply_to_listeners(&matches).map_err(Fault::flags)?;
    let completed = config.complete();
    let is_faulty = config.given.iter().any(|given| given.is_wrong());
    if matches.opt_present("test-config") {
        return Ok(config.test(outside, is_faulty, completed.err()));
    }
    let mut wrong = config.given.iter().filter(|given| given.is_wrong());
    if let Some(first) = wrong.next() {
        return Err(Fault {
            more: wrong.map(Given::to_string).collect(),
            ..Fault::file(first.to_string())
        });
    }
    completed.map_err(|sentence| match config.file {
        None => Fault::flags(sentence),
        Some(_) => Fault::file(sentence),
    })?;
    if matches.opt_present("print-config") {
        return Ok(Command::Print(report::print(&config)));
    }
    match question {
        Some(question) => Ok(Command::Explain(question, config.files())),
        None => Ok(Command::Run(Box::new(config))),
    }
}

impl Config {
    /// `--test-config`
    fn test(&self, outside: &dyn Outside, is_faulty: bool, incomplete: Option<String>) -> Command {
        let mut incomplete = incomplete;
        let mut known = Vec::new();
        if incomplete.is_none() {
            let obstacles = outside.obstacles(self);
            let mut faults = obstacles.faults;
            match outside.check(&self.files()) {
                Ok(sentences) => known = sentences,
                Err(mut wrong) => faults.append(&mut wrong),
            }
            known.extend(obstacles.missing);
            incomplete = (!faults.is_empty()).then(|| faults.join("\n"));
        }
        let is_good = !is_faulty && incomplete.is_none();
        let text = report::test(self, &known, incomplete);
        Command::Test { text, is_good }
    }

    /// Settings of all, and what those of listeners are worth.
    fn read_flags(&mut self, matches: &getopts::Matches) -> Result<Seen, String> {
        let mut seen = Seen::new();
        for setting in flags::flags() {
            for text in flags::values(setting, matches) {
                let named = |why| format!("--{} {text}: {why}", setting.name);
                // They would garble the log, and every sentence that names the value.
                if text.contains(char::is_control) {
                    return Err(named("must not contain control characters".to_string()));
                }
                let value = setting.kind.parse(&text).map_err(named)?;
                self.here = match setting.kind {
                    Kind::Texts(_) => format!("--{} \"{text}\"", setting.name),
                    _ => format!("--{} {text}", setting.name).trim_end().to_string(),
                };
                if let Effect::Global(set) | Effect::Either(set, _) = setting.effect {
                    set(self, value).map_err(named)?;
                }
                let place = format!("--{}", setting.name);
                let verdict = self.verdict();
                self.note(&place, setting.name, &written(value), verdict);
                if setting.is_for_files() && !setting.kind.is_repeatable() {
                    seen.insert((None, setting.name), place);
                }
            }
        }
        Ok(seen)
    }

    fn read_environment(&mut self, outside: &dyn Outside, seen: &mut Seen) -> Result<(), String> {
        let name = "persistence-location";
        let Some(text) = outside.variable(LOCATION).filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        if seen.contains_key(&(None, name)) {
            return Ok(());
        }
        if text.contains(char::is_control) {
            return Err(format!("{LOCATION}: must not contain control characters"));
        }
        self.persistence_location.clone_from(&text);
        self.here = format!("{LOCATION}={text}");
        self.note(LOCATION, name, &text, Verdict::Honoured);
        seen.insert((None, name), LOCATION.to_string());
        Ok(())
    }

    fn read_file(&mut self, path: &str, outside: &dyn Outside, first: &Seen) {
        let mut seen = Seen::new();
        let mut paths = Vec::new();
        let lines = file::read(path, outside, &mut paths);
        self.paths = paths;
        for Line { place, option } in lines {
            match option {
                Err(sentence) => self.note(&place, "", "", Verdict::Wrong(sentence)),
                Ok((name, text)) => {
                    self.here = format!("{place}: {name} {text}").trim_end().to_string();
                    let verdict = self.read_option(&place, &name, &text, first, &mut seen);
                    let verdict = match verdict {
                        // Started as the user that it is to become, as by systemd.
                        Ok(Verdict::Approximated(_))
                            if name == "user" && outside.is_user(&text) =>
                        {
                            Verdict::Honoured
                        }
                        Ok(verdict) => verdict,
                        Err(sentence) => Verdict::Wrong(sentence),
                    };
                    self.note(&place, &name, &text, verdict);
                }
            }
        }
        if !self.file_has_listeners() {
            return;
        }
        for given in self
            .given
            .iter_mut()
            .filter(|given| given.place == "--port")
        {
            let why = "the configuration file has listeners of its own";
            given.verdict = Verdict::Ignored(why.to_string());
        }
    }

    /// One line of the file.
    fn read_option(
        &mut self,
        place: &str,
        name: &str,
        text: &str,
        first: &Seen,
        seen: &mut Seen,
    ) -> Result<Verdict, String> {
        let setting = find(name).ok_or_else(|| unknown(name))?;
        let text = match setting.name {
            "listener" => text
                .split_once(" #")
                .map_or(text, |(text, _)| text)
                .trim_end(),
            _ => text,
        };
        let value = setting.kind.parse_in_file(text)?;
        let by_listener = match setting.scope {
            Scope::Listener | Scope::ListenerInFile => setting.is_honoured(),
            Scope::Security => self.per_listener && setting.is_honoured(),
            Scope::Program | Scope::File | Scope::Global | Scope::Bridge | Scope::Plugin => false,
        };
        if let Some(flag) = first.get(&(None, setting.name)) {
            return Ok(Verdict::Ignored(format!("{flag} counts before it")));
        }
        if by_listener {
            self.described(&setting.option())?;
        }
        let scope = self.current.filter(|_| by_listener);
        let earlier = match setting.kind {
            Kind::Text(_) => seen.insert((scope, setting.name), place.to_string()),
            Kind::Flag | Kind::Bool | Kind::Number(..) | Kind::Numbers(..) | Kind::Texts(_) => None,
        };
        if let Some(earlier) = earlier {
            return Err(format!("is given twice, first in {earlier}"));
        }
        match (&setting.effect, scope) {
            (Effect::Listener(set) | Effect::Either(_, set), Some(index)) => {
                let draft = &mut self.drafts[index];
                set(draft, value)?;
                if !draft.heeds(setting.name) {
                    return match draft.is_unix() {
                        true => Ok(Verdict::Ignored("a Unix socket has no addresses".into())),
                        false => Err(out_of_place(setting.name)),
                    };
                }
                let given = (written(value), place.to_string());
                draft.given.insert(setting.name, given);
            }
            (Effect::Global(set) | Effect::Either(set, _), _) => set(self, value)?,
            (Effect::Listener(_), None) => {}
            (Effect::Approximated(how), _) => return Ok(Verdict::Approximated(how.to_string())),
            (Effect::Ignored(why), _) => return Ok(Verdict::Ignored(why.to_string())),
            (Effect::Missing(why), _) => {
                return match is_default(setting, value) {
                    true => Ok(Verdict::Honoured),
                    false => Err(why.to_string()),
                };
            }
        }
        Ok(self.verdict())
    }

    /// Flags of listeners hold for every one.
    fn apply_to_listeners(&mut self, matches: &getopts::Matches) -> Result<(), String> {
        for setting in flags::flags() {
            let Effect::Listener(set) = setting.effect else {
                continue;
            };
            for text in flags::values(setting, matches) {
                let named = |why| format!("--{} {text}: {why}", setting.name);
                let value = setting.kind.parse(&text).map_err(named)?;
                if !self.drafts.iter().any(|draft| draft.heeds(setting.name)) {
                    return Err(named(out_of_place(setting.name)));
                }
                for draft in &mut self.drafts {
                    set(draft, value).map_err(named)?;
                    let given = (written(value), format!("--{}", setting.name));
                    draft.given.insert(setting.name, given);
                }
            }
        }
        Ok(())
    }

    /// What became of the setting that was just set.
    fn verdict(&mut self) -> Verdict {
        match self.aside.take() {
            None => Verdict::Honoured,
            Some(how) => Verdict::Approximated(how),
        }
    }

    fn note(&mut self, place: &str, name: &str, text: &str, verdict: Verdict) {
        self.given.push(Given {
            place: in_one_line(place),
            origin: self.here.clone(),
            name: name.to_string(),
            text: text.to_string(),
            verdict,
        });
    }
}

/// Why no listener heeds a setting that none of a kind can.
fn out_of_place(name: &str) -> String {
    match name {
        "socket-domain" | "bind-interface" => "no listener has addresses to choose from".into(),
        _ => "is for Unix sockets: listener 0 PATH".into(),
    }
}

/// The name of an option that a file may call by an older one.
pub fn canonical(name: &str) -> &str {
    let alias = ALIASES.iter().find(|(theirs, _)| *theirs == name);
    alias.map_or(name, |(_, ours)| ours)
}

/// The row of an option as a file calls it.
pub fn find(name: &str) -> Option<&'static Setting> {
    let name = canonical(name);
    let is_it = |setting: &&Setting| {
        let option = setting.option();
        match option.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => option == name,
        }
    };
    let mut rows = SETTINGS.iter().filter(|setting| setting.is_for_files());
    rows.find(is_it)
}

fn unknown(name: &str) -> String {
    let flag = SETTINGS.iter().find(|setting| setting.option() == name);
    match (flag, name.contains('-')) {
        (Some(setting), _) => format!("is a flag only: --{}", setting.name),
        (None, true) => "there is no such option; names in a file have _ for -".to_string(),
        (None, false) => "there is no such option".to_string(),
    }
}

/// Whether what is asked for is what there is without asking.
fn is_default(setting: &Setting, value: Value) -> bool {
    let default = setting.kind.parse(setting.default);
    match (default, value) {
        _ if setting.default.is_empty() => false,
        (Ok(Value::Bool(default)), Value::Bool(value)) => default == value,
        (Ok(Value::Number(default)), Value::Number(value)) => default == value,
        (Ok(Value::Text(default)), Value::Text(value)) => default == value,
        _ => false,
    }
}

/// A value as a file has it.
fn written(value: Value) -> String {
    match value {
        Value::Flag => String::new(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.to_string(),
    }
}
