//! The rules of the house that a machine can check: who may import whom, and how long things get.
//!
//! Rules about code look at it without its comments and the contents of its strings. Every test
//! lists all that it finds, as `file:line: what`.

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
/// Without its tests, which stand at the end.
const FILE_LINES_MAX: usize = 500;

/// Folder or file, words that must not occur in it, why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    // `core::net` has addresses, and no sockets.
    (
        "src/broker",
        &["mio", "std::net", "std::fs", "std::{", "::now()", "thread"],
        "the broker is pure: no socket, no file, no clock",
    ),
    (
        "src/broker",
        &[
            "crate::net",
            "crate::config",
            "crate::logging",
            "crate::daemon",
        ],
        "the broker knows only packets",
    ),
    (
        "src/packet",
        &[
            "mio", "std::net", "std::fs", "std::{", "::now()", "thread", "log::",
        ],
        "packets are pure, and log nothing",
    ),
    (
        "src/packet",
        &[
            "crate::broker",
            "crate::net",
            "crate::config",
            "crate::logging",
            "crate::daemon",
        ],
        "packets know nothing but themselves",
    ),
    ("src/net", &["packet::", "packet"], "sockets know no MQTT"),
    (
        "src/store",
        &[
            "crate::packet",
            "crate::broker",
            "crate::net",
            "crate::config",
            "crate::logging",
            "mio",
            "log::",
            "::now()",
            "thread",
        ],
        "the store knows no MQTT, no socket, no clock",
    ),
    (
        "src/net",
        &["crate::config", "crate::daemon"],
        "settings know sockets, not the reverse",
    ),
    (
        "src",
        &[
            "unsafe",
            "Mutex",
            "RwLock",
            "Arc",
            "RefCell",
            "thread::spawn",
            "mpsc",
        ],
        "one thread, one owner",
    ),
    (
        "src",
        &["dbg!", "todo!", "unimplemented!"],
        "nothing is left half done",
    ),
    (
        "tests",
        &["dbg!", "todo!", "unimplemented!", "ignore"],
        "no test is left out",
    ),
];

#[test]
fn nobody_imports_what_its_folder_must_not_know() {
    let mut found = Vec::new();
    for (folder, words, why) in FORBIDDEN {
        for file in rust_files(folder) {
            for (number, line) in file.production.lines().enumerate() {
                let there = words.iter().filter(|word| contains_word(line, word));
                found.extend(there.map(|word| file.at(number, &format!("`{word}`: {why}"))));
            }
        }
    }
    assert_none(found);
}

#[test]
fn nothing_in_src_panics_by_unwrapping() {
    let mut found = Vec::new();
    for file in rust_files("src") {
        for (number, line) in file.production.lines().enumerate() {
            if line.contains(".unwrap()") {
                found.push(file.at(number, "say with expect() why it cannot fail, or handle it"));
            }
        }
    }
    assert_none(found);
}

#[test]
fn lines_fit_their_columns() {
    let mut found = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let exempt = skipped_by_rustfmt(&file.code);
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !exempt[number] {
                found.push(file.at(number, &format!("{columns} columns")));
            }
        }
    }
    assert_none(found);
}

#[test]
fn functions_fit_a_screen_and_files_a_chapter() {
    let mut found = Vec::new();
    for file in rust_files("src") {
        for (start, lines) in functions(&file.production) {
            if lines > FUNCTION_LINES_MAX {
                found.push(file.at(start, &format!("a function of {lines} lines")));
            }
        }
        let lines = file.production.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(file.at(0, &format!("{lines} lines without the tests")));
        }
    }
    assert_none(found);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let files = ["src", "tests", "benches"].into_iter().flat_map(rust_files);
    let without = files.filter(|file| !file.text.starts_with("//! "));
    assert_none(
        without
            .map(|file| file.at(0, "no `//!` at the top"))
            .collect(),
    );
}

#[test]
fn comments_are_for_people() {
    let mut found = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        for (number, line) in file.text.lines().enumerate() {
            let line = line.trim();
            let comment = line
                .strip_prefix("//")
                .filter(|rest| !rest.starts_with(['/', '!']));
            if comment.is_some_and(|comment| is_code(comment.trim())) {
                found.push(file.at(number, "this looks like code that was commented out"));
            }
            if line.starts_with("#[allow") || line.starts_with("#![allow") {
                let (_, reason) = line.split_once(']').unwrap_or_default();
                if !reason.contains("//") {
                    found.push(file.at(number, "an exception needs its reason beside it"));
                }
            }
        }
    }
    assert_none(found);
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = read("Cargo.toml");
    let (mut section, mut above, mut found) = ("", "", Vec::new());
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line;
        }
        let is_in = section.contains("dependencies") && line != section;
        let is_dependency = is_in && line.contains('=');
        if is_dependency && !line.contains(" # ") && !above.starts_with("# ") {
            found.push(format!("Cargo.toml:{}: what is it for? {line}", number + 1));
        }
        above = line;
    }
    assert_none(found);
}

#[test]
fn the_readme_mentions_every_flag() {
    let readme = fs::read_to_string(root().join("README.md"));
    let readme = readme.expect("there is a README.md");
    let missing =
        midge::config::names().filter(|name| !contains_word(&readme, &format!("--{name}")));
    assert_none(
        missing
            .map(|name| format!("README.md: --{name} is not in it"))
            .collect(),
    );
}

/// What an editor leaves begins with a dot.
#[test]
fn nothing_stands_at_the_top_that_does_not_belong_there() {
    let known = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "benches",
        "docs",
        "fuzz",
        "packaging",
        "scripts",
        "src",
        "tests",
    ];
    let entries = fs::read_dir(root()).expect("the package has a folder");
    let names = entries.flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let strange = names.filter(|name| {
        let is_built = name == "target" || name == "dist" || name.starts_with('.');
        !is_built && !known.contains(&&**name)
    });
    assert_none(strange.collect());
}

// ---- files --------------------------------------------------------------------------------------

struct File {
    /// From the root of the package.
    path: PathBuf,
    text: String,
    /// The text with blanks for comments and for what is in strings; as many lines.
    code: String,
    /// The code up to its tests.
    production: String,
}

impl File {
    fn read(path: PathBuf) -> File {
        let text = fs::read_to_string(root().join(&path)).expect("it was just listed");
        let code = code_of(&text);
        let end = code.find("#[cfg(test)]").unwrap_or(code.len());
        let production = code[..end].to_string();
        File {
            path,
            text,
            code,
            production,
        }
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path.display(), line + 1)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All Rust files in a folder and those below it, by name.
fn rust_files(folder: &str) -> Vec<File> {
    let mut paths = Vec::new();
    list(Path::new(folder), &mut paths);
    assert!(!paths.is_empty(), "there are no Rust files in {folder}");
    paths.sort();
    paths.into_iter().map(File::read).collect()
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).expect("it is a folder") {
        let name = entry.expect("it can be listed").file_name();
        let path = folder.join(name);
        if root().join(&path).is_dir() {
            list(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn assert_none(found: Vec<String>) {
    assert!(
        found.is_empty(),
        "{} found:\n{}\n",
        found.len(),
        found.join("\n")
    );
}

// ---- a little Rust ------------------------------------------------------------------------------

/// The text with blanks for comments and for the contents of strings and characters.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => string_len(rest),
            'r' if !code.ends_with(is_word) => raw_string_len(rest),
            '\'' => character_len(rest),
            _ => 0,
        };
        if hidden == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let blank = |hidden: char| if hidden == '\n' { '\n' } else { ' ' };
        code.extend(rest[..hidden].chars().map(blank));
        rest = &rest[hidden..];
    }
    code
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            '"' if !escaped => return at + 1,
            _ => escaped = next == '\\' && !escaped,
        }
    }
    text.len()
}

/// 0 where this is no raw string.
fn raw_string_len(text: &str) -> usize {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let start = hashes + 2;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = text[start..].find(&end).map(|at| start + at + end.len());
    length.unwrap_or(text.len())
}

/// 0 for a lifetime.
fn character_len(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => text[3..].find('\'').map_or(0, |at| at + 4),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether `word` is in the line, not only as a part of a longer word.
fn contains_word(line: &str, word: &str) -> bool {
    let ends = |text: &str, last: bool| match last {
        true => text.ends_with(is_word),
        false => text.starts_with(is_word),
    };
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let joined_before = ends(word, false) && ends(before, true);
        // A flag is longer than another by a hyphen.
        let joined_after = ends(word, true) && (ends(after, false) || after.starts_with("-"));
        !joined_before && !joined_after
    })
}

/// First line, counted from 0, and number of lines of every function.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let named = code[at + 3..].starts_with(is_word) && !code[..at].ends_with(is_word);
        let Some(length) = named.then(|| item_len(&code[at..])).flatten() else {
            continue;
        };
        let line = code[..at].matches('\n').count();
        found.push((line, code[at..at + length].matches('\n').count() + 1));
    }
    found
}

/// Up to the bracket or semicolon that ends an item.
fn item_len(code: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, next) in code.char_indices() {
        match next {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(next, '}' | ';') {
            return Some(at + 1);
        }
    }
    None
}

/// For each line, whether it is in an item that rustfmt leaves alone.
fn skipped_by_rustfmt(code: &str) -> Vec<bool> {
    const SKIP: &str = "#[rustfmt::skip]";
    let mut skipped = vec![false; code.lines().count()];
    for (at, _) in code.match_indices(SKIP) {
        let item = &code[at + SKIP.len()..];
        let length = item_len(item).unwrap_or(item.len());
        let first = code[..at].matches('\n').count();
        let lines = item[..length].matches('\n').count() + 1;
        skipped[first..first + lines].fill(true);
    }
    skipped
}

/// Whether a comment reads like a statement, not like a sentence.
fn is_code(comment: &str) -> bool {
    let begins = [
        "let ", "use ", "pub ", "fn ", "impl ", "#[", "return ", "self.", "assert",
    ];
    let begins = begins.iter().any(|start| comment.starts_with(start));
    let ends = comment.ends_with([';', '{', '}']) || comment.ends_with("},");
    comment.ends_with(';') || (begins && ends) || comment == "}"
}

#[test]
fn the_checks_see_what_they_are_to_see() {
    let text = "let a = \"// fn \\\" {\"; // unsafe\nlet b = ('{', '\\'', r#\"}\"#, f::<'a>);\n";
    let code = code_of(text);
    assert_eq!(code.lines().count(), 2);
    assert_eq!(code.matches(['{', '}']).count(), 0, "{code}");
    assert!(
        code.contains("f::<'a>") && !code.contains("unsafe"),
        "{code}"
    );
    assert!(contains_word("use std::sync::Arc;", "Arc") && !contains_word("Arc<T>", "Ar"));
    assert!(!contains_word("#![forbid(unsafe_code)]", "unsafe"));
    assert!(contains_word("use log::info;", "log::") && !contains_word("catalog::x", "log::"));
    assert!(!contains_word(
        "`--max-topic-alias-broker N`",
        "--max-topic-alias"
    ));
    assert_eq!(
        functions("x\nfn a(b: [u8; 2]) {\n  {}\n}\nfn c();"),
        [(1, 3), (4, 1)]
    );
    assert_eq!(
        skipped_by_rustfmt("a\n#[rustfmt::skip]\nconst B: &[u8] = &[\n];\nc"),
        [false, true, true, true, false]
    );
    assert!(is_code("let a = 1;") && is_code("}") && !is_code("let us see: it is a sentence"));
}
