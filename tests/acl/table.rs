//! Files, clients, topics and what they may do: written by hand from what Mosquitto documents.

use midge::broker::acl::{Access, Identity, Rights};
use midge::broker::acl_file::{self, AclFile};
use midge::broker::explain;

use crate::common::Prng;

/// `user|client id|address`; `-` for no user name.
fn identity(text: &str) -> Identity {
    let mut parts = text.split('|');
    let user_name = parts.next().unwrap();
    Identity {
        user_name: (user_name != "-").then(|| user_name.into()),
        client_id: parts.next().unwrap_or("c").into(),
        address: parts.next().map(|address| address.parse().unwrap()),
        listener: None,
    }
}

fn file(text: &str) -> AclFile {
    acl_file::parse("acl", text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn allows(file: &AclFile, who: &str, access: Access, topic: &str) -> bool {
    let decided = file.acl.decide(&identity(who), access, topic.as_bytes());
    decided.allowed
}

/// The file, then rows: who, topic, and the letters of what is allowed.
type Table = (
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
);

#[rustfmt::skip]
const MOSQUITTO: &[Table] = &[
    // Nothing stands there: nothing is allowed.
    ("", &[("-", "a", ""), ("alice", "a", "")]),
    // Lines before the first user are for clients without a name, and for no others.
    ("topic read a\nuser alice\ntopic write b\n", &[
        ("-", "a", "r"), ("-", "b", ""), ("alice", "a", ""), ("alice", "b", "w"), ("bob", "a", ""),
        ("bob", "b", ""),
    ]),
    // Without an access, both; the access words.
    ("user u\ntopic a\ntopic read r\ntopic write w\ntopic readwrite rw\n", &[
        ("u", "a", "rw"), ("u", "r", "r"), ("u", "w", "w"), ("u", "rw", "rw"), ("u", "x", ""),
    ]),
    // A single word is a filter, whatever it says.
    ("topic read\n", &[("-", "read", "rw"), ("-", "a", "")]),
    // Rights of several lines add up.
    ("topic read a/#\ntopic write a/b\n", &[("-", "a/b", "rw"), ("-", "a/c", "r"), ("-", "a", "r")]),
    // A denial beats what allows, wherever it stands.
    ("topic readwrite a/#\ntopic deny a/secret/#\n", &[
        ("-", "a/x", "rw"), ("-", "a/secret", ""), ("-", "a/secret/x", ""),
    ]),
    ("topic deny a/secret\ntopic readwrite #\n", &[("-", "a/secret", ""), ("-", "b", "rw")]),
    // Levels + before others.
    ("topic read #\ntopic deny +/+/s/#\n", &[
        ("-", "a/b/s", ""), ("-", "a/b/s/c", ""), ("-", "a//s", ""), ("-", "a/s", "r"),
        ("-", "a/b/c/s", "r"), ("-", "a/long-name/s", ""), ("-", "a/long-name/st", "r"),
    ]),
    ("topic read +/#\n", &[("-", "a", "r"), ("-", "a/b", "r"), ("-", "$a/b", "")]),
    ("topic read +/+\n", &[("-", "a/$b", "r"), ("-", "a", ""), ("-", "a/b/c", ""), ("-", "/", "r")]),
    // The same user twice: all its lines count. Names may have spaces, and case counts.
    ("user a b\ntopic read x\nuser c\ntopic read z\nuser a b\ntopic read y\n", &[
        ("a b", "x", "r"), ("a b", "y", "r"), ("a b", "z", ""), ("A b", "x", ""), ("a", "x", ""),
    ]),
    // Patterns are for everybody, whatever user stands above.
    ("user alice\npattern read p/%c\ntopic write x\n", &[
        ("alice|c1", "p/c1", "r"), ("bob|c1", "p/c1", "r"), ("-|c1", "p/c1", "r"),
        ("-|c2", "p/c1", ""), ("bob|c1", "x", ""),
    ]),
    // %u is for those who have a user name.
    ("pattern readwrite u/%u/#\n", &[
        ("alice|c1", "u/alice/x", "rw"), ("alice|c1", "u/bob/x", ""), ("-|c1", "u/%u/x", ""),
        ("-|c1", "u//x", ""),
    ]),
    ("pattern read %u/%c/%u\n", &[("u|c", "u/c/u", "r"), ("u|c", "u/c/c", "")]),
    ("pattern read a-%c-b/+\n", &[("-|c", "a-c-b/x", "r"), ("-|c", "a-c-b", "")]),
    // In a topic line they stand for themselves.
    ("topic read %c\n", &[("-|c", "%c", "r"), ("-|c", "c", "")]),
    // A name with slashes makes levels.
    ("pattern read %c/x\n", &[("-|a/b", "a/b/x", "r"), ("-|a", "a/b/x", "")]),
    // A denying pattern beats allowing patterns, but not what a user's own line allows.
    ("user u\ntopic read d/u/a\npattern deny d/%u/#\npattern read d/#\n", &[
        ("u", "d/u/a", "r"), ("u", "d/u/b", ""), ("v", "d/u/b", "r"), ("v", "d/v/b", ""),
    ]),
    // A user's own denial beats patterns.
    ("user u\ntopic deny d/x\npattern read d/#\n", &[("u", "d/x", ""), ("u", "d/y", "r"), ("v", "d/x", "r")]),
    // CVE-2017-7650: no pattern is for a name with wildcards in it; its own lines are.
    ("user #\ntopic read own\npattern readwrite %u/x\npattern read all\n", &[
        ("#", "own", "r"), ("#", "a/x", ""), ("#", "#/x", ""), ("#", "all", ""), ("u|+", "all", ""),
        ("u|a+b", "u/x", ""), ("u|ab", "u/x", "rw"),
    ]),
    // $ topics need a line that begins with $.
    ("topic readwrite #\ntopic readwrite +/a\n", &[("-", "a", "rw"), ("-", "$SYS/a", ""), ("-", "$x/a", "")]),
    ("topic read $SYS/#\ntopic readwrite $x/+\n", &[
        ("-", "$SYS/broker/uptime", "r"), ("-", "$SYS", "r"), ("-", "$x/a", "rw"), ("-", "a", ""),
    ]),
    // Nobody gets there by what it calls itself.
    ("pattern readwrite %c/#\n", &[("-|$SYS", "$SYS/broker", ""), ("-|a", "a/b", "rw")]),
    // A denial of # leaves $ topics alone.
    ("topic deny #\ntopic read $SYS/#\n", &[("-", "$SYS/x", "r"), ("-", "a", "")]),
    // Wildcards of the file match levels, empty ones too.
    ("topic read +/b\ntopic write /a\ntopic read c//d\n", &[
        ("-", "a/b", "r"), ("-", "/b", "r"), ("-", "x/a/b", ""), ("-", "/a", "w"), ("-", "a", ""),
        ("-", "c//d", "r"), ("-", "c/x/d", ""),
    ]),
    // An empty user name is a name.
    ("topic read a\npattern read %u/p\n", &[("", "a", ""), ("", "/p", "r")]),
];

#[rustfmt::skip]
const BEYOND: &[Table] = &[
    // Without a subscribe line, everybody may subscribe to everything.
    ("topic read a\n", &[("-", "a", "rs"), ("-", "#", "s"), ("bob", "$SYS/#", "s")]),
    // With one, only to what lines cover; to subscribe is not to read.
    ("topic read a/#\ntopic subscribe a/#\nuser u\ntopic read #\n", &[
        ("-", "a/b", "rs"), ("-", "a/+/c", "s"), ("-", "a/#", "s"), ("-", "#", ""), ("-", "+/b", ""),
        ("u", "a/b", "r"),
    ]),
    ("pattern subscribe in/%c/+\ntopic deny in/c/secret\n", &[
        ("-|c", "in/c/x", "s"), ("-|c", "in/c/+", "s"), ("-|c", "in/c/#", ""), ("-|c", "in/d/x", ""),
        ("-|c", "in/c/secret", ""),
    ]),
    ("topic subscribe #\n", &[("-", "#", "s"), ("-", "$SYS/#", ""), ("-", "a", "s")]),
    // A group's lines are for its members; denials of either beat what either allows.
    ("group crew\nmember alice\nmember bob\ntopic readwrite ship/#\ntopic deny ship/bridge\n\
      user alice\ntopic read ship/bridge\ntopic read home\nuser bob\ntopic deny ship/deck\n", &[
        ("alice", "ship/deck", "rw"), ("alice", "ship/bridge", ""), ("alice", "home", "r"),
        ("bob", "ship/deck", ""), ("bob", "ship/hold", "rw"), ("bob", "home", ""),
        ("carol", "ship/deck", ""), ("-", "ship/deck", ""), ("crew", "ship/deck", ""),
    ]),
    // In two sections, and in two groups.
    ("group a\nmember u\ntopic read a\ngroup b\nmember u\ntopic read b\ngroup a\ntopic write a\n", &[
        ("u", "a", "rw"), ("u", "b", "r"),
    ]),
    // Addresses: the lines after them, in their section.
    ("topic read x\naddress 192.168.0.0/16 fd00::/8\ntopic read a\naddress any\ntopic read b\n\
      user u\ntopic read a\naddress 10.1.2.3\ntopic write a\n", &[
        ("-|c|192.168.7.7", "a", "r"), ("-|c|192.169.0.0", "a", ""), ("-|c|fd12::1", "a", "r"),
        ("-|c|fe80::1", "a", ""), ("-|c", "a", ""), ("-|c|192.169.0.0", "x", "r"),
        ("-|c|1.2.3.4", "b", "r"), ("u|c|1.2.3.4", "a", "r"), ("u|c|10.1.2.3", "a", "rw"),
        ("u|c|10.1.2.4", "a", "r"),
    ]),
    ("address 10.0.0.0/8\npattern read %c\npattern deny d\naddress any\npattern read d\n", &[
        ("-|c|10.9.9.9", "c", "r"), ("-|c|11.0.0.0", "c", ""), ("-|c|10.0.0.1", "d", ""),
        ("-|c|11.0.0.0", "d", "r"),
    ]),
    ("address 0.0.0.0/0\ntopic read a\naddress ::/0\ntopic write a\n", &[
        ("-|c|9.9.9.9", "a", "r"), ("-|c|::1", "a", "w"), ("-|c", "a", ""),
    ]),
];

#[test]
fn who_may_do_what_as_in_mosquitto() {
    for (text, rows) in MOSQUITTO {
        let file = file(text);
        for (who, topic, expected) in *rows {
            for (access, letter) in [(Access::Read, 'r'), (Access::Write, 'w')] {
                let allowed = allows(&file, who, access, topic);
                let name = access.name();
                assert_eq!(
                    allowed,
                    expected.contains(letter),
                    "{text:?}: {who} {name} {topic}"
                );
            }
            assert!(allows(&file, who, Access::Subscribe, topic));
        }
    }
}

#[test]
fn who_may_do_what_beyond_mosquitto() {
    let all = [
        (Access::Read, 'r'),
        (Access::Write, 'w'),
        (Access::Subscribe, 's'),
    ];
    for (text, rows) in BEYOND {
        let file = file(text);
        let asks = text.contains("subscribe");
        for (who, topic, expected) in *rows {
            for (access, letter) in all {
                // Filters with wildcards are for subscribing only.
                let is_topic = !topic.contains(['+', '#']);
                let is_asked = match access {
                    Access::Subscribe => asks || expected.contains('s'),
                    Access::Read | Access::Write => is_topic,
                };
                if is_asked {
                    let allowed = allows(&file, who, access, topic);
                    let name = access.name();
                    let expected = expected.contains(letter);
                    assert_eq!(allowed, expected, "{text:?}: {who} {name} {topic}");
                }
            }
        }
    }
}

#[test]
fn the_order_of_lines_does_not_matter_within_a_section() {
    let lines = [
        "topic read a/#",
        "topic deny a/b",
        "topic write a/c",
        "topic readwrite +/d",
    ];
    let topics = ["a", "a/b", "a/c", "a/d", "b/d"];
    let answers = |order: &[&str]| -> Vec<bool> {
        let file = file(&order.join("\n"));
        let asked = topics
            .iter()
            .flat_map(|topic| [(Access::Read, topic), (Access::Write, topic)]);
        asked
            .map(|(access, topic)| allows(&file, "-", access, topic))
            .collect()
    };
    let expected = answers(&lines);
    assert_eq!(expected.iter().filter(|allowed| **allowed).count(), 7);
    let mut order = lines;
    for turn in 0..4 {
        order.rotate_left(1);
        order.swap(0, turn % 3);
        assert_eq!(answers(&order), expected, "{order:?}");
    }
}

// ---- drawn at random ----------------------------------------------------------------------------

const WORDS: [&str; 9] = ["", "a", "b", "%c", "%u", "x%c", "%u-%c", "%%c", "$a"];
const NAMES: [&str; 6] = ["a", "b", "a/b", "x", "$a", "%u"];
const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Subscribe];

/// Up to four levels, of those words and sometimes wildcards.
fn draw(prng: &mut Prng, words: &[&str], wildcards: usize) -> String {
    let levels = 1 + prng.below(4);
    let mut level = || match prng.chance(wildcards) {
        true => "+",
        false => *prng.pick(words),
    };
    let mut levels: Vec<&str> = (0..levels).map(|_| level()).collect();
    if prng.chance(wildcards) {
        levels.push("#");
    }
    let text = levels.join("/");
    if text.is_empty() { "a".into() } else { text }
}

/// One line of a file, and what it says of everything.
struct Line {
    text: String,
    is_pattern: bool,
    rights: Rights,
    filter: String,
}

impl Line {
    fn draw(prng: &mut Prng) -> Line {
        let (is_pattern, (word, rights)) = (prng.chance(50), *prng.pick(&Rights::ALL));
        let filter = draw(prng, &WORDS, 30);
        let keyword = if is_pattern { "pattern" } else { "topic" };
        Line {
            text: format!("{keyword} {word} {filter}\n"),
            is_pattern,
            rights,
            filter,
        }
    }

    fn speaks_of(&self, who: &Identity, access: Access, topic: &str) -> bool {
        let mut filter = self.filter.clone();
        if self.is_pattern {
            // Neither name may be taken for a place of the other.
            filter = filter.replace("%c", "\0").replace("%u", "\u{1}");
            let user_name = who.user_name.as_deref();
            if user_name.is_none() && filter.contains('\u{1}') {
                return false;
            }
            filter = filter.replace('\0', &who.client_id);
            filter = filter.replace('\u{1}', user_name.unwrap_or_default());
        }
        (self.rights == Rights::DENY || self.rights.allows(access))
            && self.filter.starts_with('$') == topic.starts_with('$')
            && covers(&filter, topic)
    }
}

/// Whether a filter matches a topic, or all that another filter matches.
fn covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow): (Vec<_>, Vec<_>) = (wide.split('/').collect(), narrow.split('/').collect());
    let covers = |(index, level): (usize, &&str)| match narrow.get(index) {
        Some(&"#") | None => false,
        Some(other) => *level == "+" || level == other,
    };
    match wide.split_last() {
        Some((&"#", start)) => start.iter().enumerate().all(covers),
        _ => wide.len() == narrow.len() && wide.iter().enumerate().all(covers),
    }
}

/// All lines are looked at, one after the other.
fn naive(lines: &[Line], who: &Identity, access: Access, topic: &str) -> bool {
    let asks = |line: &Line| line.rights.allows(Access::Subscribe);
    if access == Access::Subscribe && !lines.iter().any(asks) {
        return true;
    }
    for is_pattern in [false, true] {
        let own =
            |line: &&Line| line.is_pattern == is_pattern && line.speaks_of(who, access, topic);
        let found: Vec<&Line> = lines.iter().filter(own).collect();
        if !found.is_empty() {
            return found.iter().all(|line| line.rights != Rights::DENY);
        }
    }
    false
}

#[test]
fn what_is_found_in_the_tree_is_what_all_lines_say() {
    let prng = &mut Prng::new(3);
    let mut allowed = 0;
    for _ in 0..500 {
        let count = 1 + prng.below(30);
        let lines: Vec<Line> = (0..count).map(|_| Line::draw(prng)).collect();
        let mut text: String = lines.iter().map(|line| &line.text[..]).collect();
        let mut who = identity("-");
        who.client_id = (*prng.pick(&NAMES)).into();
        if prng.chance(50) {
            let name = *prng.pick(&NAMES);
            who.user_name = Some(name.into());
            text.insert_str(0, &format!("user {name}\n"));
        }
        let file = file(&text);
        for access in ACCESSES {
            for _ in 0..40 {
                let wildcards = if access == Access::Subscribe { 30 } else { 0 };
                let topic = draw(
                    prng,
                    &["", "a", "b", "x", "xa", "%u", "%a", "$a"],
                    wildcards,
                );
                let decided = file.acl.decide(&who, access, topic.as_bytes()).allowed;
                let expected = naive(&lines, &who, access, &topic);
                assert_eq!(
                    decided,
                    expected,
                    "{text}{who:?}: {} {topic}",
                    access.name()
                );
                allowed += usize::from(decided);
            }
        }
    }
    assert!((10_000..50_000).contains(&allowed), "{allowed}");
}

#[test]
fn explain_names_the_line_that_decides() {
    let text = "topic read a/#\n# comment\ntopic deny a/b\nuser u\ntopic write x\n\
                pattern read p/%c\npattern deny p/d\nuser v\n topic  home/# \n";
    let file = file(text);
    for (who, access, topic, expected) in [
        (
            "-",
            Access::Read,
            "a/c",
            "allowed: acl:1 says \"topic read a/#\".",
        ),
        (
            "-",
            Access::Read,
            "a/b",
            "denied: acl:3 says \"topic deny a/b\".",
        ),
        // As it is written, but for blanks around it.
        (
            "v",
            Access::Write,
            "home",
            "allowed: acl:9 says \"topic  home/#\".",
        ),
        (
            "u|d",
            Access::Read,
            "p/d",
            "denied: acl:7 says \"pattern deny p/d\".",
        ),
        (
            "u|e",
            Access::Read,
            "p/e",
            "allowed: acl:6 says \"pattern read p/%c\".",
        ),
        (
            "u|e|10.0.0.1",
            Access::Write,
            "y",
            "denied: no line of acl lets user u with client id e from 10.0.0.1 write y.",
        ),
        (
            "-|e",
            Access::Write,
            "y",
            "denied: no line of acl lets client e without a user name write y.",
        ),
        (
            "u|#",
            Access::Read,
            "p/#",
            "denied: \"p/#\": a topic name must not contain + or #",
        ),
        (
            "u|#",
            Access::Read,
            "p/e",
            "denied: no topic line of acl says anything, and its patterns \
            are not for user u with client id #, as a name with + or # in it would stand for those \
            of others.",
        ),
        (
            "-",
            Access::Write,
            "$SYS/a",
            "denied: $SYS is written by the server only.",
        ),
        (
            "-",
            Access::Subscribe,
            "$share/g/x/#",
            "allowed: acl has no subscribe lines, so every \
            client may subscribe to everything; what it is sent, its read lines decide.",
        ),
    ] {
        let question = explain::Question {
            who: identity(who),
            access,
            topic: topic.to_string(),
        };
        match question.check() {
            Err(sentence) => assert_eq!(format!("denied: {sentence}"), expected),
            Ok(()) => {
                let answer = question.answer(Some(&file));
                assert_eq!(answer.sentence, expected);
                assert_eq!(answer.allowed, expected.starts_with("allowed"));
            }
        }
    }
    let question = explain::Question {
        who: identity("-"),
        access: Access::Read,
        topic: "a".into(),
    };
    let answer = question.answer(None);
    assert!(answer.allowed && answer.sentence.contains("there is no ACL file"));
}
