//! Lines of an ACL file that stand together, and which of them speak of a topic.
//!
//! A line stands under the literal levels that its filter begins with, so that a question looks at
//! those that could match, not at all of them; lines that deny stand apart from those that allow,
//! as there are none of them more often than not.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use super::acl::{Access, AddressRange, Identity, Rights};
use super::hash::{Hashed, Seeded};
use crate::packet::{scan, topic};

/// A `topic` or `pattern` line.
#[derive(Clone, Debug)]
pub struct Rule {
    pub line: u32,
    pub rights: Rights,
    pub filter: Box<str>,
    /// Where its clients must come from; empty for anywhere.
    pub ranges: Rc<[AddressRange]>,
    /// How many levels `+` it begins with, before others than the last or `#`.
    plus_levels: usize,
}

/// Lines that stand together.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    denying: Index,
    allowing: Index,
}

/// Where lines of one kind are found.
#[derive(Clone, Debug, Default)]
struct Index {
    /// Those that begin with no literal level.
    anywhere: Vec<u32>,
    /// By the hash of the levels before the first that is no literal: those of others with the same
    /// hash do no harm, as all of them are compared.
    by_start: HashMap<u32, Vec<u32>, Hashed>,
    /// Levels of the longest such start.
    levels_max: usize,
    /// How many levels such starts have: a bit for each number, the last one for all beyond.
    lengths: u64,
    /// Bits of [`Access`] that a line `#` gives to everybody.
    everything: u8,
}

#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub who: &'a Identity,
    pub access: Access,
    pub topic: &'a [u8],
}

/// The first line that denies, and the first that allows.
#[derive(Default)]
pub struct Found<'a> {
    pub denies: Option<&'a Rule>,
    pub allows: Option<&'a Rule>,
}

/// Whether `%c` and `%u` stand for the names of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    Literal,
    Patterns,
}

impl Rules {
    pub fn add(&mut self, rule: Rule) {
        let at = self.rules.len() as u32;
        match rule.rights {
            Rights::DENY => self.denying.add(at, &rule),
            _ => self.allowing.add(at, &rule),
        }
        self.rules.push(rule);
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether any line denies something.
    pub fn can_deny(&self) -> bool {
        !self.denying.is_empty()
    }

    /// Bits of [`Access`]: what a line allows to everybody for all topics that begin with no `$`.
    pub fn everything(&self) -> u8 {
        self.allowing.everything
    }

    /// Brings to `found` the first line that denies and the first that allows.
    pub fn find<'a>(&'a self, question: Question, filters: Filters, found: &mut Found<'a>) {
        let all = [
            (&self.denying, &mut found.denies),
            (&self.allowing, &mut found.allows),
        ];
        for (index, first) in all {
            index.candidates(question.topic, |at| {
                let rule = &self.rules[at as usize];
                let is_first = first.is_none_or(|first| rule.line < first.line);
                if is_first && rule.applies(question, filters) {
                    *first = Some(rule);
                }
                false
            });
        }
    }

    #[inline(always)]
    pub fn denies(&self, question: Question, filters: Filters) -> bool {
        self.any(&self.denying, question, filters)
    }

    #[inline]
    pub fn allows(&self, question: Question, filters: Filters) -> bool {
        self.any(&self.allowing, question, filters)
    }

    #[inline(always)]
    fn any(&self, index: &Index, question: Question, filters: Filters) -> bool {
        for at in &index.anywhere {
            if self.rules[*at as usize].applies(question, filters) {
                return true;
            }
        }
        index.lengths != 0 && self.any_by_start(index, question, filters)
    }

    #[inline(never)]
    fn any_by_start(&self, index: &Index, question: Question, filters: Filters) -> bool {
        let applies = |at| self.rules[at as usize].applies(question, filters);
        index.candidates_by_start(question.topic, applies)
    }
}

impl Index {
    fn add(&mut self, at: u32, rule: &Rule) {
        if &*rule.filter == "#" && rule.ranges.is_empty() {
            self.everything |= rule.rights.bits() & TOPIC_BITS;
        }
        let (mut start, mut count) = (Start::new(), 0);
        for level in literal_levels(&rule.filter) {
            start.add(level.as_bytes());
            count += 1;
        }
        if count == 0 {
            return self.anywhere.push(at);
        }
        self.levels_max = self.levels_max.max(count);
        self.lengths |= length_bit(count);
        self.by_start.entry(start.key()).or_default().push(at);
    }

    fn is_empty(&self) -> bool {
        self.anywhere.is_empty() && self.lengths == 0
    }

    /// Shows `is_it` the lines that could match, until it is.
    fn candidates(&self, topic: &[u8], mut is_it: impl FnMut(u32) -> bool) -> bool {
        if self.anywhere.iter().any(|at| is_it(*at)) {
            return true;
        }
        if self.lengths == 0 {
            return false;
        }
        self.candidates_by_start(topic, is_it)
    }

    #[inline]
    fn candidates_by_start(&self, topic: &[u8], mut is_it: impl FnMut(u32) -> bool) -> bool {
        let mut start = Start::new();
        for level in topic.split(|byte| *byte == b'/').take(self.levels_max) {
            start.add(level);
            if self.lengths & length_bit(start.levels) == 0 {
                continue;
            }
            let under = self.by_start.get(&start.key());
            if under.into_iter().flatten().any(|at| is_it(*at)) {
                return true;
            }
        }
        false
    }
}

/// What `#` is for: to subscribe is another matter, as it is asked of filters.
const TOPIC_BITS: u8 = 3;

fn length_bit(levels: usize) -> u64 {
    1 << levels.min(63)
}

impl Rule {
    pub fn new(line: u32, rights: Rights, filter: &str, ranges: Rc<[AddressRange]>) -> Rule {
        let mut rest = filter;
        let mut plus_levels = 0;
        while let Some(more) = rest.strip_prefix("+/")
            && more != "#"
        {
            (rest, plus_levels) = (more, plus_levels + 1);
        }
        Rule {
            line,
            rights,
            filter: filter.into(),
            ranges,
            plus_levels,
        }
    }

    #[inline(always)]
    fn applies(&self, question: Question, filters: Filters) -> bool {
        let Question { who, access, topic } = question;
        if self.rights != Rights::DENY && !self.rights.allows(access) {
            return false;
        }
        if !self.ranges.is_empty() && !self.is_from_there(who) {
            return false;
        }
        // As it is written: no client gets there by calling itself $SYS.
        if topic.starts_with(b"$") && !self.filter.starts_with('$') {
            return false;
        }
        match (access, filters) {
            (Access::Subscribe, _) => self.covers(question, filters),
            (Access::Read | Access::Write, Filters::Literal) => self.matches(topic),
            (Access::Read | Access::Write, Filters::Patterns) => {
                let filter = expand(&self.filter, who);
                filter.is_some_and(|filter| topic::matches(filter.as_bytes(), topic))
            }
        }
    }

    fn is_from_there(&self, who: &Identity) -> bool {
        let is_from = |range: &AddressRange| who.address.is_some_and(|from| range.contains(from));
        self.ranges.iter().any(is_from)
    }

    /// Whether its filter, as it is written, matches a topic that it may.
    #[inline(always)]
    fn matches(&self, topic: &[u8]) -> bool {
        let filter = self.filter.as_bytes();
        if self.plus_levels == 0 {
            return topic::levels_match(filter, topic);
        }
        let rest = &filter[2 * self.plus_levels..];
        scan::after(topic, b'/', self.plus_levels)
            .is_some_and(|at| topic::levels_match(rest, &topic[at..]))
    }

    #[inline(never)]
    fn covers(&self, question: Question, filters: Filters) -> bool {
        let filter = match filters {
            Filters::Literal => Some(Cow::Borrowed(&*self.filter)),
            Filters::Patterns => expand(&self.filter, question.who),
        };
        filter.is_some_and(|filter| covers(filter.as_bytes(), question.topic))
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
            listener: None,
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
