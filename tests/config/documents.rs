//! What people have: files like those of tutorials, those that Debian installs; and the document
//! for those who change over, which repeats the table.

use std::fs;
use std::path::Path;
use std::process::Command;

use midge::config::{Row, rows};
use midge::net::Host;

use crate::Files;

/// File, and what stops it, if anything: the line and a part of the sentence.
const TUTORIALS: [(&str, &[&str]); 10] = [
    ("local", &[]),
    ("open", &[]),
    ("container", &[]),
    ("home", &[]),
    ("old", &[]),
    ("two", &[]),
    ("passwords", &[]),
    (
        "tls",
        &[
            "3: cafile",
            "4: certfile",
            "5: keyfile",
            "6: require_certificate",
            "8: tls_version",
        ],
    ),
    (
        "websockets",
        &["7: protocol websockets: WebSocket and HTTP are not there yet"],
    ),
    (
        "bridge",
        &[
            "5: connection elsewhere: bridges are not there yet",
            "7: topic",
            "13: cleansession",
        ],
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn what_tutorials_tell_is_read_or_said_to_be_missing() {
    for (name, missing) in TUTORIALS {
        let path = root().join(format!("tests/config/{name}.conf"));
        let text = fs::read(&path).expect("it is there");
        let lines = String::from_utf8_lossy(&text).into_owned();
        let (text, is_good) = Files::main(text).tested(&[]);
        assert_eq!(is_good, missing.is_empty(), "{name}: {text}");
        for part in missing {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("m.conf:{part}")));
            let line = line.unwrap_or_else(|| panic!("{name}: no {part:?} in {text}"));
            assert!(line.contains("not there yet"), "{line}");
        }
        // Every setting has its line, and nothing is said to be wrong with the others.
        let is_setting = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let settings = lines.lines().filter(is_setting).count();
        let told = text.lines().filter(|line| line.starts_with("m.conf:"));
        assert_eq!(
            told.clone()
                .filter(|line| !line.contains("can connect"))
                .count(),
            settings,
            "{text}"
        );
        let verdicts = [
            ": honoured",
            ": approximated: ",
            ": ignored: ",
            "not there yet",
            "can connect",
        ];
        for line in told {
            assert!(
                verdicts.iter().any(|verdict| line.contains(verdict)),
                "{line}"
            );
        }
    }
    let there = fs::read_dir(root().join("tests/config")).expect("it is there");
    let names = there.map(|entry| {
        entry
            .expect("it is there")
            .file_name()
            .into_string()
            .unwrap()
    });
    assert_eq!(
        names.filter(|name| name.ends_with(".conf")).count(),
        TUTORIALS.len()
    );
}

#[test]
fn what_debian_installs_is_read() {
    let mut found = false;
    for path in [
        "/etc/mosquitto/mosquitto.conf",
        "/usr/share/doc/mosquitto/examples/mosquitto.conf",
    ] {
        if !Path::new(path).exists() {
            continue;
        }
        found = true;
        let mut midge = Command::new(env!("CARGO_BIN_EXE_midge"));
        let output = midge.args(["--test-config", "-c", path]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{path}: {text}");
        assert!(
            text.contains("every client of this machine can connect"),
            "{path}: {text}"
        );
        let text = fs::read_to_string(path).unwrap();
        let settings = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for setting in settings {
            assert!(
                said.contains(setting.trim()),
                "{path}: {setting} is not told of"
            );
        }
    }
    if !found {
        println!("not tested: Debian's mosquitto is not installed");
    }
}

// ---- docs/from-mosquitto.md -----------------------------------------------------------------

const BEGIN: &str = "<!-- The table of settings, by WRITE_DOCS=1 cargo test --test config -->\n";
const END: &str = "<!-- The end of it -->\n";

/// What the document says of each row.
fn table() -> String {
    let mut text = String::new();
    for (title, scopes) in [
        ("For all", &["global", "security", "file"][..]),
        ("Listeners", &["listener"]),
        ("Bridges and plugins", &["bridge", "plugin"]),
    ] {
        text += &format!("\n### {title}\n\n| Option | Default | | |\n|---|---|---|---|\n");
        let rows = rows();
        let rows = rows.iter().filter(|row| scopes.contains(&row.scope));
        rows.for_each(|row| text += &line(row));
    }
    text + "\n"
}

fn line(row: &Row) -> String {
    let Some(option) = &row.option else {
        return String::new();
    };
    let names: Vec<String> = [option.as_str()]
        .iter()
        .chain(&row.aliases)
        .map(|name| format!("`{name}`"))
        .collect();
    let status = match (row.status, row.flag) {
        ("missing", _) => "stops the start".to_string(),
        (status, None) => status.to_string(),
        (status, Some(flag)) => format!("{status}, `--{flag}`"),
    };
    let what = row.what.replace('|', "\\|");
    format!(
        "| {} | {} | {status} | {what} |\n",
        names.join(", "),
        row.default
    )
}

#[test]
fn the_document_has_the_table() {
    let path = root().join("docs/from-mosquitto.md");
    let document = fs::read_to_string(&path).expect("there is one");
    let (before, rest) = document.split_once(BEGIN).expect("the table begins");
    let (there, after) = rest.split_once(END).expect("the table ends");
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, [before, BEGIN, &table(), END, after].concat()).unwrap();
        return;
    }
    assert_eq!(there, table(), "WRITE_DOCS=1 cargo test --test config");
}

// ---- packaging/ -----------------------------------------------------------------------------

const PACKAGED: &str = "packaging/debian/midge.conf";

#[test]
fn what_our_package_installs_is_for_this_machine_and_kept() {
    let text = fs::read(root().join(PACKAGED)).expect("it is there");
    let (said, is_good) = Files::main(&text).as_user("midge").tested(&[]);
    assert!(is_good, "{said}");
    assert!(
        said.contains("every client of this machine can connect"),
        "{said}"
    );
    assert!(said.contains("is kept in /var/lib/midge"), "{said}");
    let config = Files::main(&text).as_user("midge").read().unwrap();
    assert_eq!(config.notices(), [] as [String; 0]);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].host, Host::Loopback);
}

#[test]
fn what_our_package_offers_opens_it_to_users_of_the_network() {
    let text = fs::read_to_string(root().join(PACKAGED)).expect("it is there");
    let is_option = |line: &str| line.starts_with(|char: char| char.is_ascii_lowercase());
    let line = |line: &str| match line.strip_prefix('#') {
        Some(option) if is_option(option) => format!("{option}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(line).collect();
    let (said, is_good) = Files::main(&text).as_user("midge").tested(&[]);
    assert!(is_good, "{said}");
    let honoured = said.matches(": honoured\n").count();
    assert_eq!(
        honoured,
        text.lines().filter(|line| is_option(line)).count(),
        "{said}"
    );
    assert!(
        said.contains("every client can connect with a user name and its password"),
        "{said}"
    );
}
