//! The manual page, docs/midge.1: what it lists is what the program has.

use std::fs;
use std::path::Path;

use midge::config::{Row, rows};
use midge::passwords::command::USAGE;

const COLUMNS: usize = 79;

#[test]
fn the_manual_has_every_flag_and_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/midge.1");
    let page = fs::read_to_string(&path).expect("there is one");
    // Without a date, which nobody would remember to change.
    let title = format!(
        ".TH MIDGE 1 \"\" \"midge {}\" \"User Commands\"\n",
        env!("CARGO_PKG_VERSION")
    );
    let written = [
        ("title", title),
        ("flags", flags()),
        ("options", options()),
        ("passwd", as_it_is(USAGE)),
    ]
    .iter()
    .fold(page.clone(), |page, (name, text)| {
        put(&page, name, text).unwrap_or_else(|| panic!("{name} begins and ends"))
    });
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, written).unwrap();
        return;
    }
    assert!(page == written, "WRITE_DOCS=1 cargo test --test config");
}

/// The page with that text where the name begins and ends.
fn put(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!(".\\\" {name} begins\n"),
        format!(".\\\" {name} ends\n"),
    );
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some([before, &begin, text, &end, after].concat())
}

fn flags() -> String {
    let rows = rows();
    let rows = rows.iter().filter(|row| row.flag.is_some());
    rows.map(|row| {
        let long = format!("\\fB{}\\fR", escaped(&format!("--{}", row.flag.unwrap())));
        let short = match row.short {
            "" => String::new(),
            short => format!("\\fB\\-{short}\\fR, "),
        };
        let only = match row.option {
            None => " (flag only)",
            Some(_) => "",
        };
        entry(row, &format!("{short}{long}"), only)
    })
    .collect()
}

fn options() -> String {
    let rows = rows();
    let of_files = |row: &&Row| row.flag.is_none() && row.status == "honoured";
    let rows = rows.iter().filter(of_files);
    rows.map(|row| {
        let option = row.option.as_deref().expect("it is for files");
        entry(row, &format!("\\fB{}\\fR", escaped(option)), "")
    })
    .collect()
}

fn entry(row: &Row, names: &str, remark: &str) -> String {
    let hint = match row.hint.as_str() {
        "" => String::new(),
        hint => format!(" \\fI{}\\fR", escaped(hint)),
    };
    let default = match row.default {
        "" => String::new(),
        default => format!(" [{default}]"),
    };
    let text = wrapped(&escaped(&format!("{}{remark}{default}", row.what)));
    format!(".TP\n{}{}\n{text}", names, hint.trim_end())
}

/// As roff takes it for what it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        match char {
            '\\' => escaped += "\\e",
            '-' => escaped += "\\-",
            '…' => escaped += "...",
            '"' => escaped += "\\(dq",
            '\'' => escaped += "\\(aq",
            char if char.is_ascii() => escaped.push(char),
            char => escaped += &format!("\\[u{:04X}]", char as u32),
        }
    }
    escaped
}

/// In lines of the page; a sentence begins a new one.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        let is_full = line.len() + 1 + word.len() > COLUMNS;
        match line.as_str() {
            "" => *line = word.to_string(),
            said if is_full || said.ends_with('.') => lines.push(word.to_string()),
            _ => *line += &format!(" {word}"),
        }
    }
    lines.iter().map(|line| harmless(line) + "\n").collect()
}

/// Lines of a terminal, with their blanks.
fn as_it_is(text: &str) -> String {
    let lines = text.lines().map(|line| harmless(&escaped(line)) + "\n");
    let lines: String = lines.collect();
    format!(".nf\n.RS\n{lines}.RE\n.fi\n")
}

/// No request, whatever it begins with.
fn harmless(line: &str) -> String {
    match line.starts_with('.') {
        true => format!("\\&{line}"),
        false => line.to_string(),
    }
}
