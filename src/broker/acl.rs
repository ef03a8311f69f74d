//! Who may read, write and subscribe to what, as an ACL file says it; `acl_file.rs` reads one.
//!
//! A client has the lines of its user name and of its groups (or those for clients without a
//! name), then the patterns, which are for everybody. In each of the two, a line that denies beats
//! all that allow; where no line says anything, the answer is no. So the order of lines matters to
//! nobody; how those are found that could match is told in `acl_lines.rs`.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::acl_lines::{Filters, Found, Question, Rule, Rules};

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
    pub const DENY: Rights = Rights(0);

    /// Bits of [`Access`].
    pub fn bits(self) -> u8 {
        self.0
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
    /// `None` is in no range, and where no line asks for it.
    pub address: Option<IpAddr>,
    /// The index of the listener it came through; `None` where that is none of those there are.
    pub listener: Option<usize>,
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
    /// Of users that it does not name: there are none.
    nobody: Rules,
    /// Where they stand in `users`.
    names: BTreeMap<Box<str>, usize>,
    users: Vec<User>,
    groups: Vec<Group>,
    patterns: Rules,
    /// There is a `subscribe` line: then SUBSCRIBE needs one.
    checks_subscribe: bool,
    /// There is an `address` line that something follows.
    asks_addresses: bool,
}

/// Which lines are those of a client: looked up once, for all that it asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    own: Own,
    /// Its names must not stand in patterns.
    is_dangerous: bool,
    /// Bits of [`Access`]: what it may do with every topic that begins with no `$`.
    everything: u8,
    /// The same, but for topics that its own lines deny.
    not_denied: u8,
}

#[derive(Clone, Copy, Debug, Default)]
enum Own {
    #[default]
    None,
    Nameless,
    User(usize),
}

impl Standing {
    /// Where there are no rules.
    pub const FREE: Standing = Standing {
        own: Own::None,
        is_dangerous: false,
        everything: Rights::READ_WRITE.0,
        not_denied: Rights::READ_WRITE.0,
    };

    /// Whether no line need be looked at.
    #[inline]
    pub fn may_do_all(&self, access: Access, topic: &[u8]) -> bool {
        self.everything & access.bit() != 0 && !topic.starts_with(b"$")
    }
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

impl Acl {
    /// Adds a `topic` line.
    pub fn add_topic(&mut self, section: &Section, rule: Rule) {
        self.note(&rule);
        match section {
            Section::Nameless => self.nameless.add(rule),
            Section::User(name) => self.user(name).rules.add(rule),
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
        self.asks_addresses |= !rule.ranges.is_empty();
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

    fn user(&mut self, name: &str) -> &mut User {
        let at = match self.names.get(name) {
            Some(at) => *at,
            None => {
                self.names.insert(name.into(), self.users.len());
                self.users.push(User::default());
                self.users.len() - 1
            }
        };
        &mut self.users[at]
    }

    /// `topic` and `pattern` lines.
    pub fn line_count(&self) -> usize {
        let users = self.users.iter().map(|user| &user.rules);
        let groups = self.groups.iter().map(|group| &group.rules);
        let all = users.chain(groups).chain([&self.nameless, &self.patterns]);
        all.map(Rules::len).sum()
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Makes a user a member of a group; returns of how many it is one now.
    pub fn add_member(&mut self, group: usize, user_name: &str) -> usize {
        let user = self.user(user_name);
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
        let mut own = Found::default();
        for rules in self.own_and_groups(self.own_of(who)) {
            rules.find(question, Filters::Literal, &mut own);
        }
        if let Some(rule) = own.denies {
            return denied(Because::Topic(rule));
        }
        if let Some(rule) = own.allows {
            return allowed(Because::Topic(rule));
        }
        if who.is_dangerous() && !self.patterns.is_empty() {
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

    /// Whether it matters from where a client comes.
    pub fn asks_addresses(&self) -> bool {
        self.asks_addresses
    }

    /// Which lines are those of a client, for [`Acl::allows`].
    pub fn standing(&self, who: &Identity) -> Standing {
        let own = self.own_of(who);
        let mut not_denied = 0;
        let mut can_deny = false;
        for rules in self.own_and_groups(own) {
            not_denied |= rules.everything();
            can_deny |= rules.can_deny();
        }
        let is_dangerous = who.is_dangerous();
        // Patterns are asked where its own lines say nothing.
        if !is_dangerous && !self.patterns.can_deny() {
            not_denied |= self.patterns.everything();
        }
        Standing {
            own,
            is_dangerous,
            everything: if can_deny { 0 } else { not_denied },
            not_denied,
        }
    }

    /// What [`Acl::decide`] says, sooner: whether a client of that standing may do that with a
    /// topic.
    #[inline(always)]
    pub fn allows(&self, standing: &Standing, question: Question) -> bool {
        let (rules, groups) = self.own(standing.own);
        let denies = |rules: &Rules| rules.denies(question, Filters::Literal);
        if denies(rules) || !groups.is_empty() && self.groups(groups).any(denies) {
            return false;
        }
        standing.not_denied & question.access.bit() != 0 && !question.topic.starts_with(b"$")
            || self.a_line_allows(standing, question)
    }

    /// Where none of its own lines denies it.
    #[inline(never)]
    fn a_line_allows(&self, standing: &Standing, question: Question) -> bool {
        let (rules, groups) = self.own(standing.own);
        let allows = |rules: &Rules| rules.allows(question, Filters::Literal);
        if allows(rules) || self.groups(groups).any(allows) {
            return true;
        }
        let patterns = &self.patterns;
        !standing.is_dangerous
            && !patterns.denies(question, Filters::Patterns)
            && patterns.allows(question, Filters::Patterns)
    }

    fn own_of(&self, who: &Identity) -> Own {
        match &who.user_name {
            None => Own::Nameless,
            Some(name) => self.names.get(name).map_or(Own::None, |at| Own::User(*at)),
        }
    }

    /// The lines of a user, and the groups whose lines are its own too.
    #[inline]
    fn own(&self, own: Own) -> (&Rules, &[usize]) {
        match own {
            Own::None => (&self.nobody, &[]),
            Own::Nameless => (&self.nameless, &[]),
            Own::User(at) => {
                let User { rules, groups } = &self.users[at];
                (rules, groups)
            }
        }
    }

    fn groups(&self, indices: &[usize]) -> impl Iterator<Item = &Rules> {
        indices.iter().map(|index| &self.groups[*index].rules)
    }

    fn own_and_groups(&self, own: Own) -> impl Iterator<Item = &Rules> {
        let (rules, groups) = self.own(own);
        [rules].into_iter().chain(self.groups(groups))
    }
}
