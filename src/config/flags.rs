//! The command line, as the table has it.

use getopts::Fail;

use super::setting::Setting;
use super::settings::SETTINGS;
use super::value::Kind::{Bool, Flag, Number, Numbers, Text, Texts};

pub fn flags() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.is_flag())
}

pub fn parse(flags: &[String]) -> Result<getopts::Matches, String> {
    parser().parse(join_values(flags)).map_err(sentence)
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
    } in flags()
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
fn join_values(given: &[String]) -> Vec<String> {
    let is_bool = |flag: &str| {
        let name = flag.strip_prefix("--");
        flags().any(|row| Some(row.name) == name && matches!(row.kind, Bool))
    };
    let mut joined: Vec<String> = Vec::new();
    for flag in given {
        match joined.last_mut() {
            Some(last) if is_bool(last) && !flag.starts_with('-') => *last += &format!("={flag}"),
            _ => joined.push(flag.clone()),
        }
    }
    joined
}

/// The values given for a setting, in order.
pub fn values(setting: &Setting, matches: &getopts::Matches) -> Vec<String> {
    match setting.kind {
        Flag | Bool if matches.opt_present(setting.name) => {
            vec![matches.opt_str(setting.name).unwrap_or_default()]
        }
        Flag | Bool => Vec::new(),
        Number(..) | Text(_) | Numbers(..) | Texts(_) => matches.opt_strs(setting.name),
    }
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "midge: an MQTT 3.1, 3.1.1 and 5.0 broker for small boards\n\n\
         Usage: midge [-c FILE] [FLAGS]\n       \
         midge dump DIR    print what is kept there, whoever uses it\n       \
         midge passwd ...  change a password file; midge passwd -h tells how\n\n\
         Without --listener or --port it listens on port 1883 for clients of this machine.\n\
         A flag with true|false may stand alone for true.\n\
         FILE is a mosquitto.conf; in it, options have _ for -. A flag counts before the same\n\
         option of the file; one that is repeatable is added to it. An option of listeners, such\n\
         as --max-qos, holds for all of them as a flag.\n\n",
    );
    for setting in flags() {
        let short = match setting.short {
            "" => "    ".to_string(),
            short => format!("-{short}, "),
        };
        let hint = setting.kind.hint();
        text += &format!(
            "  {short}--{}{hint}\n        {}",
            setting.name, setting.help
        );
        if !setting.default.is_empty() {
            text += &format!(" [{}]", setting.default);
        }
        text.push('\n');
    }
    text += "      --version\n        say which version this is\n";
    text += "  -h, --help\n        show this\n";
    text
}

/// Names of all flags, for tests.
pub fn names() -> impl Iterator<Item = &'static str> {
    flags().map(|setting| setting.name)
}
