//! Who may read, write and subscribe to what, as an ACL file says it; `acl_file.rs` reads one.
//!
//! A client has the lines of its user name and of its groups (or those for clients without a
//! name), then the patterns, which are for everybody. In each of the two, a line that denies beats
//! all that allow; where no line says anything, the answer is no. So the order of lines matters to
//! nobody, and they stand under the literal levels that their filters begin with: a question looks
//! at those that could match, not at all of them.

use core::net::IpAddr;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

use super::hash::{Hashed, Seeded};
use crate::packet::topic;

/// What a client wants to do with a topic; to subscribe, with a Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Subscribe,
}

impl Access {
    pub fn bit(self) -> u8 {
        match self {
            Access::Read => 1,
            Access::Write => 2,
            Access::Subscribe => 4,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Subscribe => "subscribe",
        }
    }
}

/// What a line allows, as bits of [`Access`]; none: it denies all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// As they stand in a line.
    pub const ALL: [(&str, Rights); 5] = [
        ("read", Rights(1)),
        ("write", Rights(2)),
        ("readwrite", Rights(3)),
        ("deny", Rights(0)),
        ("subscribe", Rights(4)),
    ];

    pub fn parse(word: &str) -> Option<Rights> {
        let found = Rights::ALL.iter().find(|(name, _)| *name == word);
        found.map(|(_, rights)| *rights)
    }

    pub const READ_WRITE: Rights = Rights(3);
    const DENY: Rights = Rights(0);

    fn name(self) -> &'static str {
        let found = Rights::ALL.iter().find(|(_, rights)| *rights == self);
        found.map_or("", |(name, _)| name)
    }

    pub fn allows(self, access: Access) -> bool {
        self.0 & access.bit() != 0
    }
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    pub first: IpAddr,
    /// Bits that count.
    pub bits: u8,
}

impl AddressRange {
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub client_id: Box<str>,
    pub user_name: Option<Box<str>>,
    /// `None` is in no range.
    pub address: Option<IpAddr>,
}

impl Identity {
    /// Bytes it takes in memory, near enough to count with.
    pub fn byte_count(&self) -> usize {
        size_of::<Identity>() + self.client_id.len() + self.user_name.as_deref().map_or(0, str::len)
    }

    /// A pattern with such a name in it would match what belongs to others (CVE-2017-7650).
    pub fn is_dangerous(&self) -> bool {
        let wildcards = ['+', '#'];
        let user_name = self.user_name.as_deref().unwrap_or_default();
        self.client_id.contains(wildcards) || user_name.contains(wildcards)
    }
}

/// A `topic` or `pattern` line.
#[derive(Clone, Debug)]
pub struct Rule {
    pub line: u32,
    pub rights: Rights,
    pub filter: Box<str>,
    /// Where its clients must come from; empty for anywhere.
    pub ranges: Rc<[AddressRange]>,
}

/// Lines that stand together.
#[derive(Clone, Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    /// By the hash of the levels before the first that is no literal: those of others with the same
    /// hash do no harm, as all of them are compared.
    by_start: HashMap<u32, Vec<u32>, Hashed>,
    /// Levels of the longest such start.
    levels_max: usize,
}

/// Whose `topic` lines those are that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Section {
    /// Of clients without a user name.
    Nameless,
    User(Box<str>),
    /// Its index, see [`Acl::group`].
    Group(usize),
}

#[derive(Clone, Debug, Default)]
struct User {
    rules: Rules,
    groups: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Group {
    name: Box<str>,
    rules: Rules,
}

/// An ACL file.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    nameless: Rules,
    users: BTreeMap<Box<str>, User>,
    groups: Vec<Group>,
    patterns: Rules,
    /// There is a `subscribe` line: then SUBSCRIBE needs one.
    checks_subscribe: bool,
}

/// The answer, and what decides.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    pub allowed: bool,
    pub because: Because<'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum Because<'a> {
    Topic(&'a Rule),
    Pattern(&'a Rule),
    /// No line says anything.
    Silence,
    /// No line but the patterns could, and those are not for such names.
    DangerousName,
    /// The file has no `subscribe` lines.
    NoSubscribeLines,
}

#[derive(Clone, Copy)]
struct Question<'a> {
    who: &'a Identity,
    access: Access,
    topic: &'a [u8],
}

impl Acl {
    /// Adds a `topic` line.
    pub fn add_topic(&mut self, section: &Section, rule: Rule) {
        self.note(&rule);
        match section {
            Section::Nameless => self.nameless.add(rule),
            Section::User(name) => self.users.entry(name.clone()).or_default().rules.add(rule),
            Section::Group(index) => self.groups[*index].rules.add(rule),
        }
    }

    /// Adds a `pattern` line.
    pub fn add_pattern(&mut self, rule: Rule) {
        self.note(&rule);
        self.patterns.add(rule);
    }

    fn note(&mut self, rule: &Rule) {
        self.checks_subscribe |= rule.rights.allows(Access::Subscribe);
    }

    /// The index of a group, which there is from now on.
    pub fn group(&mut self, name: &str) -> usize {
        let found = self.groups.iter().position(|group| &*group.name == name);
        found.unwrap_or_else(|| {
            self.groups.push(Group {
                name: name.into(),
                rules: Rules::default(),
            });
            self.groups.len() - 1
        })
    }

    /// `topic` and `pattern` lines.
    pub fn line_count(&self) -> usize {
        let users = self.users.values().map(|user| &user.rules);
        let groups = self.groups.iter().map(|group| &group.rules);
        let all = users.chain(groups).chain([&self.nameless, &self.patterns]);
        all.map(|rules| rules.rules.len()).sum()
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Makes a user a member of a group; returns of how many it is one now.
    pub fn add_member(&mut self, group: usize, user_name: &str) -> usize {
        let user = self.users.entry(user_name.into()).or_default();
        if !user.groups.contains(&group) {
            user.groups.push(group);
        }
        user.groups.len()
    }

    /// Whether `who` may do that with a topic, or subscribe to a Topic Filter.
    pub fn decide<'a>(&'a self, who: &Identity, access: Access, topic: &[u8]) -> Verdict<'a> {
        let allowed = |because| Verdict {
            allowed: true,
            because,
        };
        let denied = |because| Verdict {
            allowed: false,
            because,
        };
        if access == Access::Subscribe && !self.checks_subscribe {
            return allowed(Because::NoSubscribeLines);
        }
        let question = Question { who, access, topic };
        let own = self.own(question);
        if let Some(rule) = own.denies {
            return denied(Because::Topic(rule));
        }
        if let Some(rule) = own.allows {
            return allowed(Because::Topic(rule));
        }
        if who.is_dangerous() && !self.patterns.rules.is_empty() {
            return denied(Because::DangerousName);
        }
        let mut patterns = Found::default();
        self.patterns
            .find(question, Filters::Patterns, &mut patterns);
        match patterns {
            Found {
                denies: Some(rule), ..
            } => denied(Because::Pattern(rule)),
            Found {
                allows: Some(rule), ..
            } => allowed(Because::Pattern(rule)),
            Found { .. } => denied(Because::Silence),
        }
    }

    /// What the lines of a user and of its groups say.
    fn own(&self, question: Question) -> Found<'_> {
        let mut found = Found::default();
        match &question.who.user_name {
            None => self.nameless.find(question, Filters::Literal, &mut found),
            Some(name) => {
                let Some(user) = self.users.get(name) else {
                    return found;
                };
                user.rules.find(question, Filters::Literal, &mut found);
                for index in &user.groups {
                    let rules = &self.groups[*index].rules;
                    rules.find(question, Filters::Literal, &mut found);
                }
            }
        }
        found
    }
}

/// The first line that denies, and the first that allows.
#[derive(Default)]
struct Found<'a> {
    denies: Option<&'a Rule>,
    allows: Option<&'a Rule>,
}

impl<'a> Found<'a> {
    /// The first line of that kind so far.
    fn first(&mut self, rights: Rights) -> &mut Option<&'a Rule> {
        match rights {
            Rights::DENY => &mut self.denies,
            _ => &mut self.allows,
        }
    }
}

/// Whether `%c` and `%u` stand for the names of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filters {
    Literal,
    Patterns,
}

impl Rules {
    fn add(&mut self, rule: Rule) {
        let (mut start, mut count) = (Start::new(), 0);
        for level in literal_levels(&rule.filter) {
            start.add(level.as_bytes());
            count += 1;
        }
        self.levels_max = self.levels_max.max(count);
        let same_start = self.by_start.entry(start.key()).or_default();
        same_start.push(self.rules.len() as u32);
        self.rules.push(rule);
    }

    fn find<'a>(&'a self, question: Question, filters: Filters, found: &mut Found<'a>) {
        if self.rules.is_empty() {
            return;
        }
        let mut start = Start::new();
        self.find_with(start, question, filters, found);
        let levels = question.topic.split(|byte| *byte == b'/');
        for level in levels.take(self.levels_max) {
            start.add(level);
            self.find_with(start, question, filters, found);
        }
    }

    /// Among those with the same start.
    fn find_with<'a>(
        &'a self,
        start: Start,
        question: Question,
        filters: Filters,
        found: &mut Found<'a>,
    ) {
        let indices = self.by_start.get(&start.key());
        for index in indices.into_iter().flatten() {
            let rule = &self.rules[*index as usize];
            let first = found.first(rule.rights);
            if first.is_none_or(|first| rule.line < first.line) && rule.applies(question, filters) {
                *first = Some(rule);
            }
        }
    }
}

impl Rule {
    fn applies(&self, question: Question, filters: Filters) -> bool {
        let Question { who, access, topic } = question;
        if self.rights != Rights::DENY && !self.rights.allows(access) {
            return false;
        }
        let is_from = |range: &AddressRange| who.address.is_some_and(|from| range.contains(from));
        if !self.ranges.is_empty() && !self.ranges.iter().any(is_from) {
            return false;
        }
        // As it is written: no client gets there by calling itself $SYS.
        if topic.starts_with(b"$") && !self.filter.starts_with('$') {
            return false;
        }
        let filter = match filters {
            Filters::Literal => Cow::Borrowed(&*self.filter),
            Filters::Patterns => match expand(&self.filter, who) {
                Some(filter) => filter,
                None => return false,
            },
        };
        match access {
            Access::Read | Access::Write => topic::matches(filter.as_bytes(), topic),
            Access::Subscribe => covers(filter.as_bytes(), topic),
        }
    }
}

/// As it may stand in the file.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rights.name(), self.filter)
    }
}

/// The levels before the first with a wildcard, or with what a pattern may replace.
fn literal_levels(filter: &str) -> impl Iterator<Item = &str> {
    let is_literal = |level: &&str| !level.contains(['+', '#', '%']);
    filter.split('/').take_while(is_literal)
}

/// The hash of some levels, one after the other. Nothing need be secret about it: whatever topic
/// somebody chooses, it is compared with lines that the operator wrote.
#[derive(Clone, Copy)]
struct Start {
    hash: Seeded,
    sum: u64,
    levels: usize,
}

impl Start {
    fn new() -> Start {
        Start {
            hash: Seeded::new(0),
            sum: 0,
            levels: 0,
        }
    }

    fn add(&mut self, level: &[u8]) {
        self.sum = self.sum.wrapping_add(self.hash.level(level, self.levels));
        self.levels += 1;
    }

    fn key(&self) -> u32 {
        (self.sum >> 32) as u32
    }
}

/// A pattern with the names of a client in it; `None` where it asks for one that there is not.
fn expand<'a>(pattern: &'a str, who: &Identity) -> Option<Cow<'a, str>> {
    if !pattern.contains('%') {
        return Some(Cow::Borrowed(pattern));
    }
    let mut expanded = String::with_capacity(pattern.len() + who.client_id.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        expanded += &rest[..at];
        rest = &rest[at..];
        let name = match rest.as_bytes() {
            [_, b'c', ..] => Some(&*who.client_id),
            [_, b'u', ..] => Some(who.user_name.as_deref()?),
            _ => None,
        };
        let taken = if name.is_some() { 2 } else { 1 };
        expanded += name.unwrap_or("%");
        rest = &rest[taken..];
    }
    expanded += rest;
    Some(Cow::Owned(expanded))
}

/// Whether a filter matches every topic that `narrow` matches.
fn covers(wide: &[u8], narrow: &[u8]) -> bool {
    let mut wanted = narrow.split(|byte| *byte == b'/');
    for level in wide.split(|byte| *byte == b'/') {
        match (level, wanted.next()) {
            (b"#", _) => return true,
            (_, Some(b"#")) => return false,
            (b"+", Some(_)) => {}
            (literal, Some(level)) if literal == level => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_another_where_it_matches_all_that_the_other_does() {
        for (wide, narrow, expected) in [
            ("#", "a/+/#", true),
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/#", "a/+/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/+", "+/b", false),
            ("a/b", "a/+", false),
            ("+/b", "a/b", true),
            ("+/b", "+/b/c", false),
            ("+/b/c", "+/b", false),
            ("a", "b", false),
        ] {
            let covered = covers(wide.as_bytes(), narrow.as_bytes());
            assert_eq!(covered, expected, "{wide} and {narrow}");
        }
    }

    #[test]
    fn a_pattern_takes_the_names_as_they_are() {
        let who = Identity {
            client_id: "%u/c".into(),
            user_name: Some("u".into()),
            address: None,
        };
        let nameless = Identity {
            user_name: None,
            ..who.clone()
        };
        for (pattern, expected) in [
            ("a", "a"),
            ("%c", "%u/c"),
            ("%u-%c/%u", "u-%u/c/u"),
            ("%%c%", "%%u/c%"),
            ("%d/%", "%d/%"),
        ] {
            assert_eq!(expand(pattern, &who).as_deref(), Some(expected));
        }
        assert_eq!(expand("a/%u", &nameless), None);
    }

    #[test]
    fn lines_stand_under_their_literal_levels() {
        for (filter, start) in [
            ("a/b", &["a", "b"][..]),
            ("a/b/#", &["a", "b"]),
            ("a/+/b", &["a"]),
            ("#", &[]),
            ("/+", &[""]),
            ("a/b%c/d", &["a"]),
            ("%u", &[]),
            ("/a/+", &["", "a"]),
        ] {
            assert!(literal_levels(filter).eq(start.iter().copied()), "{filter}");
        }
    }
}
