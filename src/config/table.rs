//! The table as others see it: for the tests that go through every row, and for the document that
//! repeats it.

use super::setting::{Effect, Scope, Setting};
use super::settings::{ALIASES, SETTINGS};

/// A setting, in words.
#[derive(Clone, Debug)]
pub struct Row {
    /// In a file; a setting that is a flag only is not there.
    pub option: Option<String>,
    /// Without the hyphens.
    pub flag: Option<&'static str>,
    /// Its letter, or nothing.
    pub short: &'static str,
    /// Other names in a file.
    pub aliases: Vec<&'static str>,
    pub scope: &'static str,
    /// What its values look like.
    pub hint: String,
    pub default: &'static str,
    /// `honoured`, `approximated`, `missing` or `ignored`.
    pub status: &'static str,
    /// What it does, how midge does it, or why not.
    pub what: &'static str,
}

pub fn rows() -> Vec<Row> {
    SETTINGS.iter().map(row).collect()
}

fn row(setting: &Setting) -> Row {
    let (status, what) = match setting.effect {
        Effect::Global(_) | Effect::Listener(_) | Effect::Either(..) => ("honoured", setting.help),
        Effect::Approximated(how) => ("approximated", how),
        Effect::Missing(why) => ("missing", why),
        Effect::Ignored(why) => ("ignored", why),
    };
    let option = setting.is_for_files().then(|| setting.option());
    let is_ours = |ours: &str| Some(ours) == option.as_deref();
    let aliases = ALIASES.iter().filter(|(_, ours)| is_ours(ours));
    Row {
        aliases: aliases.map(|(theirs, _)| *theirs).collect(),
        flag: setting.is_flag().then_some(setting.name),
        short: setting.short,
        scope: match setting.scope {
            Scope::Program => "program",
            Scope::File => "file",
            Scope::Global => "global",
            Scope::Listener | Scope::ListenerInFile => "listener",
            Scope::Security => "security",
            Scope::Bridge => "bridge",
            Scope::Plugin => "plugin",
        },
        hint: setting.kind.hint().trim_start().to_string(),
        default: setting.default,
        option,
        status,
        what,
    }
}
