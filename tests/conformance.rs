//! Which test proves which numbered statement of the specification: `docs/conformance.md`.
//!
//! `conformance/statements.tsv` has the statements, in the order of their sections: each either is
//! proved by tests or has a reason why no test can. A test names what it proves in a comment beside
//! the assertion, by its id in square brackets, with `v3` before the id for MQTT 3.1.1, as the
//! numbers of the versions differ. The tag belongs to the test function around it, and to the row
//! it stands at where the function is a table that rustfmt leaves alone. Elsewhere, in the oracle
//! of the simulation, a tag cites the rule and proves nothing. The page is the work of
//! `scripts/conformance.sh`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

const LIST: &str = "tests/conformance/statements.tsv";
const PAGE: &str = "docs/conformance.md";
const VERSIONS: [&str; 2] = ["5.0", "3.1.1"];
/// So many of a version's statements, in percent, must not go by reason.
const BY_REASON_MAX: usize = 10;

#[test]
fn every_statement_for_a_server_has_a_test_or_a_reason() {
    let found = problems(&statements(), &tags());
    assert!(
        found.is_empty(),
        "{} found:\n{}\n",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_page_is_up_to_date() {
    let path = root().join(PAGE);
    let page = page(&statements(), &tags());
    if std::env::var_os("CONFORMANCE_WRITE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "{PAGE} is stale, please run scripts/conformance.sh"
    );
}

// ---- the list -----------------------------------------------------------------------------------

struct Statement {
    version: String,
    id: String,
    /// Whom it binds: server, client or both.
    side: String,
    section: String,
    rule: String,
    /// Why no test can prove it; empty for most.
    reason: String,
}

impl Statement {
    fn binds_servers(&self) -> bool {
        self.side != "client"
    }

    fn name(&self) -> String {
        format!("{} of {}", self.id, self.version)
    }
}

fn statements() -> Vec<Statement> {
    let text = fs::read_to_string(root().join(LIST)).expect("the list is there");
    text.lines().skip(1).map(statement).collect()
}

fn statement(line: &str) -> Statement {
    let columns: Vec<&str> = line.split('\t').collect();
    let [version, id, side, section, rule, reason] = columns[..] else {
        panic!("{LIST}: not six columns: {line}");
    };
    assert!(VERSIONS.contains(&version), "{LIST}: {line}");
    assert!(
        ["server", "client", "both"].contains(&side),
        "{LIST}: {line}"
    );
    let [version, id, side] = [version, id, side].map(String::from);
    let [section, rule, reason] = [section, rule, reason].map(String::from);
    Statement {
        version,
        id,
        side,
        section,
        rule,
        reason,
    }
}

/// What is wrong with list and tags, a line for each.
fn problems(statements: &[Statement], tags: &[Tag]) -> Vec<String> {
    let mut found = Vec::new();
    let mut known = HashSet::new();
    for statement in statements {
        if !known.insert((&statement.version[..], &statement.id[..])) {
            found.push(format!("{LIST}: {} is there twice", statement.name()));
        }
        let proved = tags.iter().any(|tag| tag.proves(statement));
        match (proved, statement.reason.is_empty()) {
            (false, true) if statement.binds_servers() => {
                found.push(format!("{}: neither test nor reason", statement.name()));
            }
            (true, false) => found.push(format!("{}: both test and reason", statement.name())),
            _ => {}
        }
    }
    for tag in tags {
        let Tag { file, line, .. } = tag;
        if !known.contains(&(tag.version, &tag.id[..])) {
            let (id, version) = (&tag.id, tag.version);
            found.push(format!(
                "tests/{file}:{line}: there is no {id} in {version}"
            ));
        }
    }
    for version in VERSIONS {
        let [all, _, by_reason] = totals(statements, tags, &[version]);
        if by_reason * 100 >= all * BY_REASON_MAX {
            found.push(format!("{version}: {by_reason} of {all} by reason"));
        }
    }
    found
}

/// Statements that bind servers, how many of them have a test, and how many a reason.
fn totals(statements: &[Statement], tags: &[Tag], versions: &[&str]) -> [usize; 3] {
    let counted = |statement: &&Statement| {
        statement.binds_servers() && versions.contains(&&statement.version[..])
    };
    let all: Vec<_> = statements.iter().filter(counted).collect();
    let proved = |statement: &&&Statement| tags.iter().any(|tag| tag.proves(statement));
    let by_reason = |statement: &&&Statement| !statement.reason.is_empty();
    [
        all.len(),
        all.iter().filter(proved).count(),
        all.iter().filter(by_reason).count(),
    ]
}

// ---- tags ---------------------------------------------------------------------------------------

#[derive(Debug, PartialEq, Eq)]
struct Tag {
    version: &'static str,
    id: String,
    /// Below `tests/`.
    file: String,
    line: usize,
    /// The test function around it, and the row of its table.
    test: Option<String>,
}

impl Tag {
    fn proves(&self, statement: &Statement) -> bool {
        self.test.is_some() && self.version == statement.version && self.id == statement.id
    }
}

/// All tags in the tests, by file and line.
fn tags() -> Vec<Tag> {
    let mut paths = Vec::new();
    list(&root().join("tests"), &mut paths);
    paths.retain(|path| !path.ends_with(file!())); // Its samples are no tags.
    paths.sort();
    let tags_in = |path: &PathBuf| {
        let file = path.strip_prefix(root().join("tests"));
        let file = file.expect("it is in there").display().to_string();
        tags_of(
            &file,
            &fs::read_to_string(path).expect("it was just listed"),
        )
    };
    paths.iter().flat_map(tags_in).collect()
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("it is a folder") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            list(&path, paths);
        } else if path
            .extension()
            .is_some_and(|end| end == "rs" || end == "py")
        {
            paths.push(path);
        }
    }
}

fn tags_of(file: &str, text: &str) -> Vec<Tag> {
    let marker = if file.ends_with(".py") { "#" } else { "//" };
    let lines: Vec<&str> = text.lines().collect();
    let mut tags = Vec::new();
    let mut function = Function::default();
    for (index, line) in lines.iter().enumerate() {
        function.follow(line);
        let comment = line.split_once(marker).map_or("", |(_, comment)| comment);
        for (version, id) in ids(comment) {
            let row = function.is_table.then(|| row(&lines[index..])).flatten();
            let test = function.test.as_ref().map(|name| match row {
                Some(row) => format!("`{name}` “{row}”"),
                None => format!("`{name}`"),
            });
            tags.push(Tag {
                version,
                id: id.to_string(),
                file: file.to_string(),
                line: index + 1,
                test,
            });
        }
    }
    tags
}

/// Where in a file we are.
#[derive(Default)]
struct Function {
    /// Its name, if it is a test.
    test: Option<String>,
    is_table: bool,
    /// What the attributes above the next function say.
    test_follows: bool,
    table_follows: bool,
}

impl Function {
    fn follow(&mut self, line: &str) {
        self.test_follows |= line == "#[test]";
        self.table_follows |= line.starts_with("#[rustfmt::skip]");
        let name = |rest: &str| rest.split('(').next().map(String::from);
        if line == "}" {
            *self = Function::default();
        } else if let Some(rest) = line.strip_prefix("fn ") {
            *self = Function {
                test: name(rest).filter(|_| self.test_follows),
                is_table: self.table_follows,
                ..Function::default()
            };
        } else if let Some(rest) = line.strip_prefix("    def ") {
            self.test = name(rest).filter(|name| name.starts_with("test_"));
        }
    }
}

/// The ids in square brackets, each with its version.
fn ids(comment: &str) -> impl Iterator<Item = (&'static str, &str)> {
    let brackets = comment.split('[').skip(1);
    let inner = brackets.filter_map(|rest| Some(rest.split_once(']')?.0));
    inner.filter_map(|inner| match inner.strip_prefix("v3 ") {
        Some(id) => id.starts_with("MQTT-").then_some(("3.1.1", id)),
        None => inner.starts_with("MQTT-").then_some(("5.0", inner)),
    })
}

/// What the row is called that begins with these lines, comments above it left out.
fn row<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let mut code = lines.iter().map(|line| line.trim_start());
    let code = code.find(|line| !line.starts_with("//"))?;
    let name = code
        .strip_prefix("Row")
        .unwrap_or(code)
        .strip_prefix("(\"")?;
    Some(name.split_once('"')?.0)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// ---- the page -----------------------------------------------------------------------------------

fn page(statements: &[Statement], tags: &[Tag]) -> String {
    let mut page = String::from(
        "# Conformance\n\n\
         The numbered statements of MQTT 5.0 and 3.1.1 and the tests that prove them, in our own\n\
         words; the specifications are OASIS's. Written by `scripts/conformance.sh` from\n\
         `tests/conformance/statements.tsv` and the ids in the comments of the tests.\n\n\
         | Statements for servers | all | with a test | by reason |\n|---|---|---|---|\n",
    );
    for version in VERSIONS {
        page += &total(version, totals(statements, tags, &[version]));
    }
    page += &total("together", totals(statements, tags, &VERSIONS));
    for version in VERSIONS {
        let own = statements.iter().filter(|own| own.version == version);
        let (servers, clients): (Vec<_>, Vec<_>) = own.partition(|own| own.binds_servers());
        page += &format!("\n## MQTT {version}\n\n");
        page += "| Section | Id | Rule | Tests, or why there are none |\n|---|---|---|---|\n";
        page.extend(servers.into_iter().map(|own| row_of(own, tags)));
        page += &format!("\n### What {version} asks of clients\n\n");
        page.extend(clients.into_iter().map(|own| item_of(own, tags)));
    }
    page
}

fn total(what: &str, [all, proved, by_reason]: [usize; 3]) -> String {
    let percent = |part: usize| part as f64 * 100.0 / all as f64;
    let (tested, reasoned) = (percent(proved), percent(by_reason));
    format!("| {what} | {all} | {proved} ({tested:.1} %) | {by_reason} ({reasoned:.1} %) |\n")
}

fn row_of(statement: &Statement, tags: &[Tag]) -> String {
    let Statement {
        section,
        id,
        rule,
        reason,
        ..
    } = statement;
    let (id, tests) = (id.trim_start_matches("MQTT-"), tests(statement, tags));
    format!("| {section} | {id} | {rule} | {tests}{reason} |\n")
}

fn item_of(statement: &Statement, tags: &[Tag]) -> String {
    let Statement { id, rule, .. } = statement;
    let id = id.trim_start_matches("MQTT-");
    match &tests(statement, tags)[..] {
        "" => format!("- {id}: {rule}\n"),
        tests => format!("- {id}: {rule}: {tests}\n"),
    }
}

/// The tests that prove a statement, those of a file behind the link to it.
fn tests(statement: &Statement, tags: &[Tag]) -> String {
    let mut text = String::new();
    let (mut file, mut named) = ("", HashSet::new());
    for tag in tags.iter().filter(|tag| tag.proves(statement)) {
        let test = tag.test.as_deref().unwrap_or_default();
        if tag.file != file {
            let separator = if file.is_empty() { "" } else { "; " };
            file = &tag.file;
            named.clear();
            text += &format!("{separator}[{file}](../tests/{file}) {test}");
        } else if !named.contains(test) {
            text += &format!(", {test}");
        }
        named.insert(test);
    }
    text
}

#[test]
fn the_scan_sees_what_it_is_to_see() {
    let tags = |file, text| -> Vec<_> {
        let tags = tags_of(file, text).into_iter();
        tags.map(|tag| (tag.version, tag.id, tag.line, tag.test))
            .collect()
    };
    let expected = |version, id: &str, line, test: Option<&str>| {
        (version, id.to_string(), line, test.map(String::from))
    };
    let text = "#[test]\nfn a() {\n    b(\"//\"); // [MQTT-1] once, [v3 MQTT-2].\n}\n\
                fn c() {\n    // [MQTT-3] [1]\n    let [MQTT-4] = d;\n}\n\
                #[test]\n#[rustfmt::skip] // Rows.\nfn t() {\n    // [MQTT-5]\n    (\"r\", 1),\n\
                \x20   Row(\"s\", 2), // [MQTT-6]\n}\n";
    assert_eq!(
        tags("x.rs", text),
        [
            expected("5.0", "MQTT-1", 3, Some("`a`")),
            expected("3.1.1", "MQTT-2", 3, Some("`a`")),
            expected("5.0", "MQTT-3", 6, None),
            expected("5.0", "MQTT-5", 12, Some("`t` “r”")),
            expected("5.0", "MQTT-6", 14, Some("`t` “s”")),
        ]
    );
    let text = "class A:\n    def test_a(self):\n        b()  # [MQTT-1]\n\n    def c(self):\n\
                \x20       d()  # [MQTT-2]\n";
    assert_eq!(
        tags("clients/x.py", text),
        [
            expected("5.0", "MQTT-1", 3, Some("`test_a`")),
            expected("5.0", "MQTT-2", 6, None),
        ]
    );
}

#[test]
fn what_is_wrong_is_found() {
    let row = |id: &str, side: &str, reason: &str| {
        statement(&format!("5.0\t{id}\t{side}\t1\trule\t{reason}"))
    };
    let mut statements: Vec<_> = (0..20)
        .map(|id| row(&format!("MQTT-{id}"), "both", ""))
        .collect();
    let other = statement("3.1.1\tMQTT-0\tboth\t1\trule\t");
    let all: String = (0..20).map(|id| format!("[MQTT-{id}]")).collect();
    let tagged = |ids: &str| {
        let text = format!("#[test]\nfn a() {{\n// {ids} [v3 MQTT-0]\n}}\n");
        tags_of("a.rs", &text)
    };
    statements.push(other);
    statements.push(row("MQTT-50", "client", ""));
    statements.push(row("MQTT-51", "server", "Why."));
    assert_eq!(problems(&statements, &tagged(&all)), [] as [String; 0]);
    let found = problems(&statements, &tagged(&format!("{all}[MQTT-51][MQTT-99]")));
    assert_eq!(
        found,
        [
            "MQTT-51 of 5.0: both test and reason",
            "tests/a.rs:3: there is no MQTT-99 in 5.0",
        ]
    );
    let untagged = problems(&statements, &tagged(&all.replace("[MQTT-7]", "")));
    assert_eq!(untagged, ["MQTT-7 of 5.0: neither test nor reason"]);
    statements.push(row("MQTT-52", "server", "Why."));
    statements.push(row("MQTT-53", "both", "Why."));
    assert_eq!(
        problems(&statements, &tagged(&all)),
        ["5.0: 3 of 23 by reason"]
    );
}
