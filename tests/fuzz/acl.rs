//! ACL files, made of anything, and questions about them.
//!
//! The input is cut at NULs: first the file, then questions, each a byte for the access, and user
//! name, client id and topic at newlines. What must hold: reading never panics; what is wrong is
//! said in one line, with the number of a line that there is; each answer is what the line that it
//! names says; and a line that denies a topic denies it.

use midge::broker::acl::{Access, Because, Identity, Rights, Section};
use midge::broker::acl_file::{self, AclFile};
use midge::broker::acl_lines::Rule;
use midge::broker::explain::Question;
use midge::packet::{TopicFilter, TopicName};

pub fn run(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let text = parts.next().unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').count();
    match acl_file::parse("acl", text) {
        Ok(mut file) => {
            file.warnings.iter().for_each(|said| check(said, lines));
            parts.for_each(|question| ask(&mut file, question));
        }
        Err(sentence) => check(&sentence, lines),
    }
}

fn check(said: &str, lines: usize) {
    let control = said.chars().find(|char| char.is_control());
    assert_eq!(control, None, "{said:?} is not one line of plain text");
    let mut parts = said.splitn(3, ':');
    assert_eq!(parts.next(), Some("acl"), "{said}");
    let line: usize = parts.next().and_then(|line| line.parse().ok()).expect(said);
    assert!((1..=lines).contains(&line), "{said}");
    assert!(parts.next().is_some_and(|why| why.len() > 3), "{said}");
}

fn ask(file: &mut AclFile, question: &[u8]) {
    let text = String::from_utf8_lossy(question);
    let mut words = text.split('\n');
    let mut next = || words.next().unwrap_or_default();
    let (kind, user_name, client_id, topic) = (next(), next(), next(), next());
    let access = match kind {
        "r" => Access::Read,
        "w" => Access::Write,
        _ => Access::Subscribe,
    };
    let question = Question {
        who: Identity {
            client_id: client_id.into(),
            user_name: (!user_name.is_empty()).then(|| user_name.into()),
            address: user_name.parse().ok(),
            listener: None,
        },
        access,
        topic: topic.to_string(),
    };
    if question.check().is_err() {
        return;
    }
    let answer = question.answer(Some(file));
    let word = if answer.allowed {
        "allowed: "
    } else {
        "denied: "
    };
    assert!(answer.sentence.starts_with(word) && !answer.sentence.contains(char::is_control));
    let verdict = file.acl.decide(&question.who, access, topic.as_bytes());
    match verdict.because {
        Because::Topic(rule) => {
            check_rule(rule, access, topic, verdict.allowed);
            if access != Access::Subscribe {
                let filter = TopicFilter::parse(&rule.filter).expect("it was read");
                let name = TopicName::parse(topic).expect("it was checked");
                assert!(filter.matches(name), "{rule:?} does not match {topic}");
            }
        }
        Because::Pattern(rule) => {
            check_rule(rule, access, topic, verdict.allowed);
            assert!(
                !question.who.is_dangerous(),
                "{rule:?} for {:?}",
                question.who
            );
        }
        Because::Silence | Because::DangerousName => assert!(!verdict.allowed),
        Because::NoSubscribeLines => assert!(verdict.allowed && access == Access::Subscribe),
    }
    if access != Access::Subscribe {
        deny(file, &question);
    }
}

fn check_rule(rule: &Rule, access: Access, topic: &str, allowed: bool) {
    assert_eq!(rule.rights.allows(access), allowed, "{rule:?}");
    assert!(
        rule.filter.starts_with('$') || !topic.starts_with('$'),
        "{rule:?} for {topic}"
    );
}

/// With one more line, the answer is no.
fn deny(file: &mut AclFile, question: &Question) {
    let section = match &question.who.user_name {
        None => Section::Nameless,
        Some(name) => Section::User(name.clone()),
    };
    let deny = Rights::parse("deny").expect("it is one");
    let rule = Rule::new(u32::MAX, deny, question.topic.as_str(), [].into());
    file.acl.add_topic(&section, rule);
    let topic = question.topic.as_bytes();
    assert!(
        !file
            .acl
            .decide(&question.who, question.access, topic)
            .allowed
    );
}
