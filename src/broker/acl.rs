//! Who may read, write and subscribe to what, as an ACL file says it; `acl_file.rs` reads one.
//!
//! A client has the lines of its user name and of its groups (or those for clients without a
//! name), then the patterns, which are for everybody. In each of the two, a line that denies beats
//! all that allow; where no line says anything, the answer is no. So the order of lines matters to
//! nobody; how those are found that could match is told in `acl_lines.rs`.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::acl_lines::{Filters, Question, Rule, Rules};

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
}

#[derive(Clone, Copy, Debug, Default)]
enum Own {
    #[default]
    None,
    Nameless,
    User(usize),
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

impl<'a> Verdict<'a> {
    fn new(allowed: bool, because: Because<'a>) -> Verdict<'a> {
        Verdict { allowed, because }
    }
}

impl Acl {
    /// Adds a `topic` line.
    pub fn add_topic(&mut self, section: &Section, rule: Rule) {
        self.note(&rule);
        match section {
            Section::Nameless => self.nameless.add(rule, Filters::Literal),
            Section::User(name) => self.user(name).rules.add(rule, Filters::Literal),
            Section::Group(index) => self.groups[*index].rules.add(rule, Filters::Literal),
        }
    }

    /// Adds a `pattern` line.
    pub fn add_pattern(&mut self, rule: Rule) {
        self.note(&rule);
        self.patterns.add(rule, Filters::Patterns);
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

    /// Whether it matters from where a client comes.
    pub fn asks_addresses(&self) -> bool {
        self.asks_addresses
    }

    /// Which lines are those of a client.
    pub fn standing(&self, who: &Identity) -> Standing {
        let own = match &who.user_name {
            None => Own::Nameless,
            Some(name) => self.names.get(name).map_or(Own::None, |at| Own::User(*at)),
        };
        Standing {
            own,
            is_dangerous: who.is_dangerous(),
        }
    }

    /// Whether `who` may do that with a topic, or subscribe to a Topic Filter.
    pub fn decide<'a>(&'a self, who: &Identity, access: Access, topic: &[u8]) -> Verdict<'a> {
        self.judge(&self.standing(who), Question { who, access, topic })
    }

    /// The same of somebody whose standing is known.
    #[inline]
    pub fn judge<'a>(&'a self, standing: &Standing, question: Question) -> Verdict<'a> {
        if question.access == Access::Subscribe && !self.checks_subscribe {
            return Verdict::new(true, Because::NoSubscribeLines);
        }
        let mut own = self.own_and_groups(standing.own);
        if let Some(rule) = own.find_map(|rules| rules.denying.find(question)) {
            return Verdict::new(false, Because::Topic(rule));
        }
        let mut own = self.own_and_groups(standing.own);
        if let Some(rule) = own.find_map(|rules| rules.allowing.find(question)) {
            return Verdict::new(true, Because::Topic(rule));
        }
        if standing.is_dangerous && !self.patterns.is_empty() {
            return Verdict::new(false, Because::DangerousName);
        }
        if let Some(rule) = self.patterns.denying.find(question) {
            return Verdict::new(false, Because::Pattern(rule));
        }
        match self.patterns.allowing.find(question) {
            Some(rule) => Verdict::new(true, Because::Pattern(rule)),
            None => Verdict::new(false, Because::Silence),
        }
    }

    /// The lines of a user, and those of its groups.
    #[inline]
    fn own_and_groups(&self, own: Own) -> impl Iterator<Item = &Rules> {
        let (rules, groups): (_, &[usize]) = match own {
            Own::None => (None, &[]),
            Own::Nameless => (Some(&self.nameless), &[]),
            Own::User(at) => {
                let User { rules, groups } = &self.users[at];
                (Some(rules), groups)
            }
        };
        let groups = groups.iter().map(|index| &self.groups[*index].rules);
        rules.into_iter().chain(groups)
    }
}
