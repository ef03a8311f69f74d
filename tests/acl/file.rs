//! What is a good ACL file, and what is said about a bad one.

use std::time::Instant;

use midge::broker::acl_file::{self, AclFile};
use midge::broker::limits::Limits;

fn read(text: &str) -> Result<AclFile, String> {
    acl_file::parse("acl", text.as_bytes())
}

fn lines(text: &str) -> usize {
    read(text).expect("it is good").acl.line_count()
}

#[test]
fn good_files_are_read_as_mosquitto_reads_them() {
    for (text, count) in [
        ("", 0),
        ("\n\n   \n\t\n", 0),
        ("# a comment\n#topic read a", 0),
        ("topic a", 1),
        (
            "topic read a\ntopic write a\ntopic readwrite a\ntopic deny a",
            4,
        ),
        ("topic read a\r\ntopic write b\r\n", 2),
        ("   topic    read    a  \t ", 1),
        ("topic read \ta\t", 1),
        ("topic read a b c", 1),
        ("topic read a # no comment", 0),
        (
            "user alice\ntopic read a\nuser bob the second\ntopic a\nuser alice\ntopic b",
            3,
        ),
        ("pattern read a/%c/%u/#\npattern deny %%", 2),
        ("topic read $SYS/#\ntopic read +/+/#\ntopic read /", 3),
        ("user alice", 0),
        ("\u{fc}", 0),
    ] {
        match text {
            "topic read a # no comment" | "\u{fc}" => assert!(read(text).is_err(), "{text:?}"),
            _ => assert_eq!(lines(text), count, "{text:?}"),
        }
    }
    let comment = b"# \xFF\x00 anything\ntopic a\n";
    let file = acl_file::parse("acl", comment).expect("comments are not looked at");
    assert_eq!(file.acl.line_count(), 1);
}

#[test]
fn what_goes_beyond_mosquitto_stands_in_lines_of_its_own() {
    let text = "group crew\nmember alice\nmember bob the second\ntopic read a\n\
                address 10.0.0.0/8 fd00::/8 192.168.1.7\ntopic write a\naddress any\n\
                topic subscribe #\npattern subscribe %c/#\ngroup empty\n";
    assert_eq!(lines(text), 4);
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_with_what_would_be_right() {
    for (line, part) in [
        ("bogus", "\"bogus\" begins no line"),
        ("  # indented", "a comment begins in the first column"),
        ("TOPIC read a", "begins no line"),
        ("topic\tread a", "begins no line"),
        ("topic", "needs a filter: topic readwrite FILTER"),
        ("pattern  ", "needs a filter: pattern readwrite FILTER"),
        ("topic reed a", "\"reed\" is no access"),
        ("topic a b", "topic readwrite a b"),
        (
            "topic read a+b",
            "\"a+b\": a wildcard must be a whole level",
        ),
        ("pattern read %c+", "a wildcard must be a whole level"),
        ("topic read #/a", "# must be the last level"),
        ("topic read a\tb", "control character"),
        ("topic read a\0b", "control character"),
        ("user", "needs a name: user NAME"),
        ("user   ", "needs a name"),
        ("group", "needs a name: group NAME"),
        ("member alice", "a line \"group NAME\" above"),
        ("user bob\nmember alice", "a line \"group NAME\" above"),
        ("address", "such as 192.168.0.0/16"),
        ("address here", "\"here\" is no range"),
        ("address 10.0.0.0/33", "is no range"),
        ("address 10.0.0.0/-1", "is no range"),
        ("address any 10.0.0.0/8", "\"any\" is no range"),
        (
            "address 192.168.1.1/16",
            "192.168.0.0/16 is the range it is in",
        ),
        ("address fd00::1/8", "fd00::/8 is the range it is in"),
    ] {
        let text = format!("# first\ntopic read x\n{line}\n");
        let sentence = read(&text).expect_err(line);
        let number = 3 + line.matches('\n').count();
        assert!(
            sentence.starts_with(&format!("acl:{number}: ")),
            "{sentence}"
        );
        assert!(sentence.contains(part), "{line:?}: {sentence}");
    }
    let sentence = acl_file::parse("acl", b"topic read \xFF").unwrap_err();
    assert_eq!(sentence, "acl:1: is not UTF-8 text");
}

#[test]
fn what_may_not_be_meant_is_warned_of() {
    let text = "pattern read everything\ntopic deny\npattern read %c\ntopic read";
    let warnings = read(text).unwrap().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].starts_with("acl:1: ") && warnings[0].contains("neither %c nor %u"));
    assert!(warnings[1].starts_with("acl:2: ") && warnings[1].contains("the topic \"deny\""));
    assert!(warnings[2].starts_with("acl:4: "));
}

#[test]
fn hostile_files_are_refused_and_not_for_long() {
    let started = Instant::now();
    let many = |line: &str, count: usize| line.repeat(count);
    let full = many("topic read a/b/+\n", Limits::ACL_LINES_MAX);
    assert_eq!(lines(&full), Limits::ACL_LINES_MAX);
    let groups = |count| {
        (0..count)
            .map(|n| format!("group {n}\nmember a\n"))
            .collect::<String>()
    };
    let names = |count| format!("user {}\n", "a".repeat(count));
    let ranges = |count| format!("address {}\n", many("10.0.0.0/8 ", count));
    let deep = |count| format!("topic read {}\n", many("/", count));
    for (text, part) in [
        (full + "topic read b\n", "100,000 lines"),
        (many("#", Limits::ACL_FILE_BYTES_MAX + 1), "16 MiB"),
        (groups(65), "more than 64 groups"),
        (
            many("group a\n", 2)
                + &(0..1_000)
                    .map(|n| format!("group {n}\n"))
                    .collect::<String>(),
            "1,000 groups",
        ),
        (names(Limits::USER_NAME_BYTES_MAX + 1), "1,024 bytes"),
        (ranges(17), "16 ranges"),
        (deep(128), "128 levels"),
    ] {
        let sentence = read(&text).unwrap_err();
        assert!(sentence.contains(part), "{part}: {sentence}");
        assert!(sentence.len() < 1_000);
    }
    for good in [
        groups(64),
        names(Limits::USER_NAME_BYTES_MAX),
        ranges(16),
        deep(127),
    ] {
        assert!(read(&good).is_ok());
    }
    let warned = read(&many("pattern a\n", 10_000)).unwrap().warnings;
    assert_eq!(warned.len(), Limits::ACL_WARNINGS_MAX);
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
