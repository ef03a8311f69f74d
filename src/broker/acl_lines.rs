//! Lines of an ACL file that stand together, and which of them speak of a topic.
//!
//! Those that deny are a tree by levels, and so are those that allow. A question walks down from
//! the root: at each level there is at most one child with just its text, one for `+`, and those
//! whose text has names in it, `%c` or `%u`, which are compared in place. What a question costs
//! depends on the levels of its topic, not on how many lines there are. At worst, where very many
//! `+` and names stand side by side, it is all lines once: only one way leads to a node, and what a
//! level takes of the topic is certain, so that no node is come to twice.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::acl::{Access, AddressRange, Identity, Rights};
use super::hash::{Hashed, Seeded};
use crate::packet::scan;

/// A `topic` or `pattern` line.
#[derive(Clone, Debug)]
pub struct Rule {
    pub line: u32,
    pub rights: Rights,
    pub filter: Box<str>,
    /// Where its clients must come from; empty for anywhere.
    pub ranges: Rc<[AddressRange]>,
    /// Another with the same filter.
    next: Option<u32>,
}

/// Lines that stand together.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub denying: Tree,
    pub allowing: Tree,
}

#[derive(Clone, Debug, Default)]
pub struct Tree {
    rules: Vec<Rule>,
    /// None, or the root and what is below it.
    nodes: Vec<Node>,
    /// Nodes by the hash of their parent and their level, or by the next number that was free.
    literals: HashMap<u32, u32, Hashed>,
}

/// Where filters that begin with the same levels part.
#[derive(Clone, Debug, Default)]
struct Node {
    parent: u32,
    level: Box<str>,
    /// Its children: for `+`; the first of those with names; whether there are others.
    plus: Option<u32>,
    names: Option<u32>,
    has_literals: bool,
    /// The next of its parent's children with names.
    next: Option<u32>,
    /// The first of the lines that end here, and of those that go on with `#`.
    here: Option<u32>,
    below: Option<u32>,
}

const ROOT: u32 = 0;

#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub who: &'a Identity,
    pub access: Access,
    /// To subscribe, a Topic Filter: a line must cover all that it matches.
    pub topic: &'a [u8],
}

/// Whether `%c` and `%u` stand for the names of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    Literal,
    Patterns,
}

impl Rule {
    pub fn new(line: u32, rights: Rights, filter: &str, ranges: Rc<[AddressRange]>) -> Rule {
        Rule {
            line,
            rights,
            filter: filter.into(),
            ranges,
            next: None,
        }
    }

    fn is_for(&self, who: &Identity) -> bool {
        let is_from = |range: &AddressRange| who.address.is_some_and(|from| range.contains(from));
        self.ranges.is_empty() || self.ranges.iter().any(is_from)
    }
}

impl Rules {
    pub fn add(&mut self, rule: Rule, filters: Filters) {
        let tree = match rule.rights {
            Rights::DENY => &mut self.denying,
            _ => &mut self.allowing,
        };
        tree.add(rule, filters);
    }

    pub fn len(&self) -> usize {
        self.denying.rules.len() + self.allowing.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tree {
    fn add(&mut self, mut rule: Rule, filters: Filters) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let (mut at, mut is_below) = (ROOT, false);
        for level in rule.filter.split('/') {
            match level {
                "#" => is_below = true,
                "+" => at = self.plus(at),
                _ if filters == Filters::Patterns && has_names(level) => at = self.names(at, level),
                _ => at = self.literal(at, level),
            }
        }
        let node = &mut self.nodes[at as usize];
        let first = if is_below {
            &mut node.below
        } else {
            &mut node.here
        };
        rule.next = first.replace(self.rules.len() as u32);
        self.rules.push(rule);
    }

    fn plus(&mut self, parent: u32) -> u32 {
        let found = self.nodes[parent as usize].plus;
        found.unwrap_or_else(|| {
            let new = self.grow(parent, "+");
            *self.nodes[parent as usize].plus.insert(new)
        })
    }

    fn names(&mut self, parent: u32, level: &str) -> u32 {
        let first = self.nodes[parent as usize].names;
        let mut next = first;
        while let Some(at) = next {
            let node = &self.nodes[at as usize];
            if *node.level == *level {
                return at;
            }
            next = node.next;
        }
        let new = self.grow(parent, level);
        self.nodes[new as usize].next = first;
        *self.nodes[parent as usize].names.insert(new)
    }

    fn literal(&mut self, parent: u32, level: &str) -> u32 {
        match self.find_literal(parent, level.as_bytes()) {
            Ok(found) => found,
            Err(key) => {
                let new = self.grow(parent, level);
                self.literals.insert(key, new);
                self.nodes[parent as usize].has_literals = true;
                new
            }
        }
    }

    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        self.nodes.push(Node {
            parent,
            level: level.into(),
            ..Node::default()
        });
        self.nodes.len() as u32 - 1
    }

    /// The child with that text, or the key that it would have. Nothing need be secret about the
    /// hash: whatever topic somebody chooses, the keys are of lines that the operator wrote.
    fn find_literal(&self, parent: u32, level: &[u8]) -> Result<u32, u32> {
        let hash = Seeded::new(0).level(level, parent as usize);
        let mut key = (hash >> 32) as u32;
        while let Some(at) = self.literals.get(&key) {
            let node = &self.nodes[*at as usize];
            if node.parent == parent && node.level.as_bytes() == level {
                return Ok(*at);
            }
            key = key.wrapping_add(1);
        }
        Err(key)
    }

    /// A line that speaks of it.
    #[inline]
    pub fn find(&self, question: Question) -> Option<&Rule> {
        match self.rules.is_empty() {
            true => None,
            false => self
                .walk(ROOT, Some(question.topic), question)
                .break_value(),
        }
    }

    /// From a node on; `rest` is what of the topic has not been matched, if there is more of it.
    /// So deep as filters have levels.
    fn walk(&self, mut at: u32, mut rest: Option<&[u8]>, question: Question) -> ControlFlow<&Rule> {
        loop {
            let node = &self.nodes[at as usize];
            // As it is written: no client gets there by calling itself $SYS.
            let is_open = at != ROOT || !question.topic.starts_with(b"$");
            if is_open {
                self.look_at(node.below, question)?;
            }
            let Some(topic) = rest else {
                return self.look_at(node.here, question);
            };
            let (level, more) = first_level(topic);
            // A `#` is there where a filter is asked about.
            if let Some(plus) = node.plus
                && is_open
                && level != b"#"
            {
                self.walk(plus, more, question)?;
            }
            let mut names = node.names;
            while let Some(child) = names {
                let node = &self.nodes[child as usize];
                if (is_open || node.level.starts_with('$'))
                    && let Some(more) = after_names(&node.level, topic, question.who)
                {
                    self.walk(child, more, question)?;
                }
                names = node.next;
            }
            match node.has_literals.then(|| self.find_literal(at, level)) {
                Some(Ok(child)) => (at, rest) = (child, more),
                Some(Err(_)) | None => return ControlFlow::Continue(()),
            }
        }
    }

    /// Lines whose filter matches.
    #[inline]
    fn look_at(&self, first: Option<u32>, question: Question) -> ControlFlow<&Rule> {
        let mut next = first;
        while let Some(at) = next {
            let rule = &self.rules[at as usize];
            let counts = rule.rights == Rights::DENY || rule.rights.allows(question.access);
            if counts && rule.is_for(question.who) {
                return ControlFlow::Break(rule);
            }
            next = rule.next;
        }
        ControlFlow::Continue(())
    }
}

/// A level, and what comes after it, if there is more.
fn first_level(topic: &[u8]) -> (&[u8], Option<&[u8]>) {
    match scan::after(topic, b'/', 1) {
        Some(at) => (&topic[..at - 1], Some(&topic[at..])),
        None => (topic, None),
    }
}

fn has_names(level: &str) -> bool {
    level.contains("%c") || level.contains("%u")
}

/// What of a topic comes after a level with the names of a client in it, as [`first_level`] says
/// it; `None` where they differ, or the client has no such name. A name may have levels itself.
fn after_names<'a>(level: &str, topic: &'a [u8], who: &Identity) -> Option<Option<&'a [u8]>> {
    let (mut level, mut rest) = (level.as_bytes(), topic);
    while !level.is_empty() {
        let (taken, text) = match level {
            [b'%', b'c', ..] => (2, who.client_id.as_bytes()),
            [b'%', b'u', ..] => (2, who.user_name.as_deref()?.as_bytes()),
            _ => (1, &level[..1]),
        };
        rest = rest.strip_prefix(text)?;
        level = &level[taken..];
    }
    match rest {
        [] => Some(None),
        [b'/', more @ ..] => Some(Some(more)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(client_id: &str, user_name: Option<&str>) -> Identity {
        Identity {
            client_id: client_id.into(),
            user_name: user_name.map(Into::into),
            address: None,
            listener: None,
        }
    }

    #[test]
    fn a_filter_covers_another_where_it_matches_all_that_the_other_does() {
        let subscribe = Rights::parse("subscribe").unwrap();
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
            let mut rules = Rules::default();
            rules.add(Rule::new(1, subscribe, wide, [].into()), Filters::Literal);
            let question = Question {
                who: &identity("c", None),
                access: Access::Subscribe,
                topic: narrow.as_bytes(),
            };
            let covered = rules.allowing.find(question).is_some();
            assert_eq!(covered, expected, "{wide} and {narrow}");
        }
    }

    #[test]
    fn a_level_of_a_pattern_takes_the_names_as_they_are() {
        let who = identity("%u/c", Some("u"));
        for (level, topic, rest) in [
            ("%c", "%u/c", Some(None)),
            ("%c", "%u/c/d/e", Some(Some("d/e"))),
            ("%c", "%u/cd", None),
            ("%c", "%u", None),
            ("%u-%c", "u-%u/c/u", Some(Some("u"))),
            ("%%c%", "%%u/c%", Some(None)),
            ("%d%u", "%du/", Some(Some(""))),
        ] {
            let after = after_names(level, topic.as_bytes(), &who);
            assert_eq!(after, rest.map(|rest| rest.map(str::as_bytes)), "{level}");
        }
        assert_eq!(after_names("%u", b"u", &identity("c", None)), None);
    }
}
