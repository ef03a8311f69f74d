//! What a row of the table says: the name of a setting, where it may stand, what values it takes,
//! what it does, and what becomes of it.

use super::value::{Kind, Value};
use super::{Config, listener::Draft};

pub struct Setting {
    /// As a flag; in a file with `_` for `-`.
    pub name: &'static str,
    pub short: &'static str,
    pub scope: Scope,
    pub kind: Kind,
    /// Empty where it is set by nothing.
    pub default: &'static str,
    pub help: &'static str,
    pub effect: Effect,
}

/// What a setting is about, and so where it may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This run of the program: a flag only.
    Program,
    /// The configuration file itself: in a file only.
    File,
    Global,
    /// The listener above, in a file; a flag is for all listeners.
    Listener,
    /// The same, in a file only.
    ListenerInFile,
    /// All listeners, or after `per_listener_settings true` the one above.
    Security,
    Bridge,
    Plugin,
}

/// Sets something; what is wrong with the value, if anything.
pub type Set = fn(&mut Config, Value) -> Result<(), String>;
pub type SetDraft = fn(&mut Draft, Value) -> Result<(), String>;

/// What becomes of a setting.
pub enum Effect {
    Global(Set),
    Listener(SetDraft),
    /// For all listeners, for one.
    Either(Set, SetDraft),
    /// Midge does it in its own way, which is said.
    Approximated(&'static str),
    /// Without it somebody would be let in or something be lost: any value but the default stops
    /// the start, with why.
    Missing(&'static str),
    /// Nothing depends on it: accepted, and said why it does nothing.
    Ignored(&'static str),
}

impl Setting {
    pub fn is_flag(&self) -> bool {
        match self.scope {
            Scope::Program | Scope::Global | Scope::Listener | Scope::Security => {
                self.is_honoured()
            }
            Scope::File | Scope::ListenerInFile | Scope::Bridge | Scope::Plugin => false,
        }
    }

    pub fn is_honoured(&self) -> bool {
        match self.effect {
            Effect::Global(_) | Effect::Listener(_) | Effect::Either(..) => true,
            Effect::Approximated(_) | Effect::Missing(_) | Effect::Ignored(_) => false,
        }
    }

    pub fn is_for_files(&self) -> bool {
        self.scope != Scope::Program
    }

    /// As it is called in a file.
    pub fn option(&self) -> String {
        self.name.replace('-', "_")
    }

    /// A row of something that midge does not have.
    pub const fn missing(
        scope: Scope,
        name: &'static str,
        kind: Kind,
        default: &'static str,
        why: &'static str,
    ) -> Setting {
        Setting::only_named(scope, name, kind, default, Effect::Missing(why))
    }

    /// A row of something that midge does in its own way.
    pub const fn approximated(
        scope: Scope,
        name: &'static str,
        kind: Kind,
        how: &'static str,
    ) -> Setting {
        Setting::only_named(scope, name, kind, "", Effect::Approximated(how))
    }

    /// A row of something that nothing depends on.
    pub const fn ignored(
        scope: Scope,
        name: &'static str,
        kind: Kind,
        why: &'static str,
    ) -> Setting {
        Setting::only_named(scope, name, kind, "", Effect::Ignored(why))
    }

    const fn only_named(
        scope: Scope,
        name: &'static str,
        kind: Kind,
        default: &'static str,
        effect: Effect,
    ) -> Setting {
        Setting {
            name,
            short: "",
            scope,
            kind,
            default,
            help: "",
            effect,
        }
    }
}
