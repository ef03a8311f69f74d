//! Who wants which topics: a flat hash of filters, and an index of the wildcards among them.
//!
//! Every filter, with wildcards or without, stands in one hash table under the hash of its text.
//! The wildcard index does not hold filters but *shapes*: which levels are `+`, how many there
//! are, and whether a `#` follows. `dev/+/temp` and `car/+/speed` have the same one. To route a
//! topic, it is looked up as it stands, and once for each shape, with the shape's levels in place
//! of its own; the hash of that follows from the hashes of the topic's levels, so nothing is built
//! or copied.
//!
//! So a publish costs `1 + S` lookups, where S is the number of shapes that fit its number of
//! levels: a handful in practice, whatever the number of filters. The bound: for n levels S is at
//! most `3 * 2^n - 2` (22 for `a/b/c`), and never more than `Limits::WILDCARD_SHAPES_MAX`, of
//! which one session can bring up `WILDCARD_SHAPES_PER_SESSION`. A lookup in vain costs a few
//! operations for each `+` of its shape, `WILDCARD_PLUSES_MAX` for all together; filters that do
//! not match add nothing, as only those with the same hash are looked at, and those cannot be
//! chosen by who does not know the seed. `tests/growth.rs` and `benches/instructions.rs` hold the
//! index to it. A trie would share work between filters with a common start, but takes a node per
//! level and chases them through memory.

use slab::Slab;

use super::SessionId;
pub use super::groups::GroupId;
use super::groups::Groups;
use super::hash::Seeded;
use super::limits::Limits;
use super::lookup::Lookup;
use super::shapes::{Level, Shape, ShapeId, Shapes};
use super::subscribers::Subscribers;
use super::text::Text;
use crate::packet::{
    QoS, ReasonCode, Refusal, SubscriptionTopic, TopicFilter, TopicName, scan, topic,
};

/// Which filter a session has subscribed to, alone or as a member of a group that shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionKey {
    Plain(FilterId),
    Shared(GroupId),
}

/// A filter somebody has subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterId(u32);

/// One session's subscription, as far as routing needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub session: SessionId,
    /// 0 where it has none.
    pub subscription_id: u32,
    /// The QoS granted.
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
}

/// Whether the session had this subscription before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    New(SubscriptionKey),
    Replaced(SubscriptionKey),
}

/// In one line of the cache, where those are of 64 bytes: of many filters, the one that matches
/// has to be fetched from memory, and half of it would cost as much.
#[derive(Debug)]
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
struct Filter {
    text: Text,
    subscribers: Subscribers,
    #[expect(
        clippy::box_collection,
        reason = "few filters are shared: 8 bytes, not 24"
    )]
    groups: Option<Box<Vec<GroupId>>>,
    shape: Option<ShapeId>,
}

/// What a topic matches; reused from publish to publish.
#[derive(Debug, Default)]
pub struct Matches {
    /// In the order of the filters found; a session that several match occurs several times.
    pub subscribers: Vec<Subscriber>,
    pub groups: Vec<GroupId>,
    /// Filters that contributed to `subscribers`.
    pub filters: usize,
}

impl Matches {
    pub fn clear(&mut self) {
        self.subscribers.clear();
        self.groups.clear();
        self.filters = 0;
    }
}

#[derive(Debug)]
pub struct Subscriptions {
    hash: Seeded,
    filters: Slab<Filter>,
    by_text: Lookup,
    shapes: Shapes,
    groups: Groups,
    plain_count: usize,
    shared_count: usize,
    /// Subscriptions that see `$SYS`.
    sys_count: usize,
    /// Scratch: the topic that is routed.
    levels: Vec<Level>,
}

impl Subscriptions {
    pub fn new(hash: Seeded) -> Subscriptions {
        Subscriptions {
            hash,
            filters: Slab::new(),
            by_text: Lookup::default(),
            shapes: Shapes::default(),
            groups: Groups::default(),
            plain_count: 0,
            shared_count: 0,
            sys_count: 0,
            levels: Vec::new(),
        }
    }

    /// Subscriptions that are not shared.
    pub fn plain_count(&self) -> usize {
        self.plain_count
    }

    pub fn shared_count(&self) -> usize {
        self.shared_count
    }

    pub fn sys_count(&self) -> usize {
        self.sys_count
    }

    /// Whether what is subscribed to was subscribed to in an earlier run.
    pub fn set_restoring(&mut self, is_restoring: bool) {
        self.shapes.is_restoring = is_restoring;
    }

    /// Makes or replaces a subscription of `subscriber.session`.
    pub fn subscribe(
        &mut self,
        topic: SubscriptionTopic,
        subscriber: Subscriber,
    ) -> Result<Outcome, Refusal> {
        let hash = self.hash_of(topic.filter);
        let filter = match self.find(hash, topic.filter) {
            Some(id) => id,
            None => self.insert(hash, topic.filter, subscriber.session)?,
        };
        let key = match topic.share_name {
            None => SubscriptionKey::Plain(filter),
            Some(share_name) => SubscriptionKey::Shared(self.group_of(filter, share_name)?),
        };
        let place = self.place(key, subscriber.session);
        match (key, place) {
            (SubscriptionKey::Plain(_), Ok(at)) => {
                let subscribers = &mut self.filters[index(filter)].subscribers;
                subscribers.replace(at, subscriber);
                return Ok(Outcome::Replaced(key));
            }
            (SubscriptionKey::Shared(id), Ok(at)) => {
                self.groups[id].members[at] = subscriber;
                return Ok(Outcome::Replaced(key));
            }
            (SubscriptionKey::Plain(_), Err(at)) => {
                let subscribers = &mut self.filters[index(filter)].subscribers;
                subscribers.insert(at, subscriber);
                self.plain_count += 1;
            }
            (SubscriptionKey::Shared(_), Err(at)) if at >= Limits::MEMBERS_PER_GROUP => {
                let why = "too many clients share this subscription";
                return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
            }
            (SubscriptionKey::Shared(id), Err(at)) => {
                self.groups[id].members.insert(at, subscriber);
                self.shared_count += 1;
            }
        }
        self.sys_count += usize::from(sees_sys(topic.filter.as_str()));
        Ok(Outcome::New(key))
    }

    /// The subscription of `session` to `topic`, if it has one.
    pub fn key(&self, topic: SubscriptionTopic, session: SessionId) -> Option<SubscriptionKey> {
        let filter = self.find(self.hash_of(topic.filter), topic.filter)?;
        let key = match topic.share_name {
            None => SubscriptionKey::Plain(filter),
            Some(name) => SubscriptionKey::Shared(self.groups.find(filter, name)?),
        };
        self.place(key, session).ok().map(|_| key)
    }

    /// What the sessions that have it subscribed to, as they named it.
    pub fn topic(&self, key: SubscriptionKey) -> SubscriptionTopic<'_> {
        let (share_name, filter) = match key {
            SubscriptionKey::Plain(id) => (None, id),
            SubscriptionKey::Shared(id) => {
                let group = &self.groups[id];
                (Some(&*group.share_name), group.filter)
            }
        };
        let filter = TopicFilter::trusted(self.filters[index(filter)].text.as_str());
        SubscriptionTopic { share_name, filter }
    }

    /// The group of that name that shares that filter.
    pub fn group(&self, topic: SubscriptionTopic) -> Option<GroupId> {
        let filter = self.find(self.hash_of(topic.filter), topic.filter)?;
        self.groups.find(filter, topic.share_name?)
    }

    /// The terms of a subscription that `session` has.
    pub fn subscriber(&self, key: SubscriptionKey, session: SessionId) -> Option<&Subscriber> {
        let at = self.place(key, session).ok()?;
        match key {
            SubscriptionKey::Plain(id) => self.filters[index(id)].subscribers.get(at),
            SubscriptionKey::Shared(id) => self.groups[id].members.get(at),
        }
    }

    /// Where `session` stands among those who have that subscription, or would stand: plain
    /// subscribers in order, as there may be very many, members of a group as they joined.
    fn place(&self, key: SubscriptionKey, session: SessionId) -> Result<usize, usize> {
        match key {
            SubscriptionKey::Plain(filter) => {
                self.filters[index(filter)].subscribers.place(session)
            }
            SubscriptionKey::Shared(id) => {
                let members = &self.groups[id].members;
                let found = members.iter().position(|other| other.session == session);
                found.ok_or(members.len())
            }
        }
    }

    /// A session has ended, and all its subscriptions are removed.
    pub fn session_ended(&mut self, session: SessionId) {
        self.shapes.disown(session);
    }

    /// Ends one subscription of `session`, which must have it.
    pub fn remove(&mut self, key: SubscriptionKey, session: SessionId) {
        let filter = match key {
            SubscriptionKey::Plain(filter) => {
                let subscribers = &mut self.filters[index(filter)].subscribers;
                let at = subscribers.place(session);
                subscribers.remove(at.expect("a session holds keys of its own subscriptions only"));
                self.plain_count -= 1;
                filter
            }
            SubscriptionKey::Shared(id) => {
                self.shared_count -= 1;
                self.leave(id, session)
            }
        };
        let row = &self.filters[index(filter)];
        self.sys_count -= usize::from(sees_sys(row.text.as_str()));
        if row.subscribers.is_empty() && row.groups.is_none() {
            self.delete(filter);
        }
    }

    /// Adds to `matches` everybody who wants `topic`.
    pub fn route(&mut self, topic: TopicName, matches: &mut Matches) {
        let Subscriptions {
            hash,
            levels,
            shapes,
            filters,
            by_text,
            ..
        } = self;
        let exact = Level::read(hash, topic, levels);
        let mut collect = |hash: u64, shape: Option<ShapeId>| {
            for filter in by_text.candidates(hash).map(|slot| &filters[slot]) {
                let is_it = match shape {
                    None => filter.text.as_bytes() == topic.as_bytes(),
                    Some(_) => {
                        filter.shape == shape
                            && topic::matches(filter.text.as_bytes(), topic.as_bytes())
                    }
                };
                if is_it {
                    matches.filters += usize::from(!filter.subscribers.is_empty());
                    matches.subscribers.extend_from_slice(&filter.subscribers);
                    let groups = filter.groups.iter().flat_map(|groups| &groups[..]);
                    matches.groups.extend(groups);
                }
            }
        };
        collect(exact, None);
        for (id, shape) in shapes.fitting(levels.len()) {
            collect(shape.masked_hash(hash, levels), Some(id));
        }
    }

    /// Moves the turn of a group on, and returns it: the place of a member.
    pub fn next_turn(&mut self, id: GroupId) -> usize {
        self.groups.next_turn(id)
    }

    /// The members of a group, beginning with the one at `first`; none where the group is gone.
    pub fn members(&self, id: GroupId, first: usize) -> impl Iterator<Item = &Subscriber> {
        self.groups.members(id, first)
    }

    /// How many shapes the wildcard index holds.
    pub fn shape_count(&self) -> usize {
        self.shapes.len()
    }

    fn find(&self, hash: u64, filter: TopicFilter) -> Option<FilterId> {
        let mut candidates = self.by_text.candidates(hash);
        let slot = candidates
            .find(|slot| self.filters[*slot].text.as_bytes() == filter.as_str().as_bytes())?;
        Some(FilterId(slot as u32))
    }

    fn insert(
        &mut self,
        hash: u64,
        filter: TopicFilter,
        session: SessionId,
    ) -> Result<FilterId, Refusal> {
        let shape = match Shape::of(filter) {
            Some(shape) => Some(self.shapes.count(shape, session)?),
            None => None,
        };
        let slot = self.filters.insert(Filter {
            text: filter.as_str().into(),
            subscribers: Subscribers::default(),
            groups: None,
            shape,
        });
        self.by_text.insert(hash, slot);
        Ok(FilterId(slot as u32))
    }

    /// Frees a filter nobody wants any more.
    fn delete(&mut self, id: FilterId) {
        let filter = self.filters.remove(index(id));
        let hash = self.hash_of(TopicFilter::trusted(filter.text.as_str()));
        self.by_text.remove(hash, index(id));
        if let Some(shape) = filter.shape {
            self.shapes.uncount(shape);
        }
    }

    fn group_of(&mut self, filter: FilterId, share_name: &str) -> Result<GroupId, Refusal> {
        if let Some(id) = self.groups.find(filter, share_name) {
            return Ok(id);
        }
        let groups = self.filters[index(filter)].groups.get_or_insert_default();
        if groups.len() >= Limits::GROUPS_PER_FILTER {
            let why = "too many groups share this filter";
            return Err(Refusal::new(ReasonCode::QuotaExceeded, why));
        }
        let id = self.groups.create(filter, share_name);
        groups.push(id);
        Ok(id)
    }

    /// Takes `session` out of a group, and the group away with its last member.
    fn leave(&mut self, id: GroupId, session: SessionId) -> FilterId {
        let filter = self.groups[id].filter;
        if self.groups.leave(id, session) {
            let groups = &mut self.filters[index(filter)].groups;
            groups
                .iter_mut()
                .for_each(|all| all.retain(|other| *other != id));
            groups.take_if(|all| all.is_empty());
        }
        filter
    }

    fn hash_of(&self, filter: TopicFilter) -> u64 {
        let mut sum = 0_u64;
        scan::split(filter.as_str().as_bytes(), b'/', |index, level| {
            sum = sum.wrapping_add(match level {
                b"+" => self.hash.plus(index),
                b"#" => self.hash.multi(index),
                literal => self.hash.level(literal, index),
            });
        });
        sum
    }

    /// Panics where the parts of the index disagree.
    pub fn check_invariants(&self) {
        let mut plain = 0;
        for (key, filter) in &self.filters {
            let id = FilterId(key as u32);
            assert!(
                !filter.subscribers.is_empty() || filter.groups.is_some(),
                "an empty filter"
            );
            let text = TopicFilter::trusted(filter.text.as_str());
            let found = self.find(self.hash_of(text), text);
            assert!(found == Some(id), "not to be found");
            assert!(
                filter.subscribers.is_sorted_by_key(|s| s.session),
                "not in order"
            );
            plain += filter.subscribers.len();
        }
        assert_eq!(plain, self.plain_count);
        assert_eq!(self.groups.members_of_all(), self.shared_count);
        let shaped = self
            .filters
            .iter()
            .filter(|(_, filter)| filter.shape.is_some())
            .count();
        assert_eq!(shaped, self.shapes.filters());
    }
}

/// Whether a filter can match the server's own topics.
pub fn sees_sys(filter: &str) -> bool {
    filter == "$SYS" || filter.starts_with("$SYS/")
}

fn index(id: FilterId) -> usize {
    id.0 as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_one_line_of_the_cache() {
        #[expect(dead_code, reason = "what a slab holds")]
        enum Entry {
            Vacant(usize),
            Occupied(Filter),
        }
        assert!(size_of::<Entry>() <= 64);
    }

    fn subscriber(session: u32) -> Subscriber {
        Subscriber {
            session: SessionId(session),
            subscription_id: 0,
            qos: QoS::AtMostOnce,
            no_local: false,
            retain_as_published: false,
        }
    }

    fn topic(text: &str) -> SubscriptionTopic<'_> {
        SubscriptionTopic::parse(text).unwrap()
    }

    fn routed(subscriptions: &mut Subscriptions, topic: &str) -> Vec<u32> {
        let mut matches = Matches::default();
        subscriptions.route(TopicName::parse(topic).unwrap(), &mut matches);
        let mut sessions: Vec<u32> = matches.subscribers.iter().map(|s| s.session.0).collect();
        sessions.sort_unstable();
        sessions
    }

    /// All filters of up to three levels over a small alphabet, against all topics of it.
    #[test]
    fn routing_agrees_with_matching_every_filter_one_by_one() {
        let mut texts = vec![];
        let levels = ["a", "b", "", "+", "$c"];
        for first in levels {
            texts.push(first.to_string());
            for second in levels {
                texts.push(format!("{first}/{second}"));
                texts.push(format!("{first}/{second}/#"));
                for third in levels {
                    texts.push(format!("{first}/{second}/{third}"));
                }
            }
            texts.push(format!("{first}/#"));
        }
        texts.push("#".to_string());
        texts.retain(|text| !text.is_empty());
        let mut index = Subscriptions::new(Seeded::new(7));
        for (session, text) in texts.iter().enumerate() {
            index
                .subscribe(topic(text), subscriber(session as u32))
                .unwrap();
        }
        index.check_invariants();
        for text in texts.iter().filter(|text| !text.contains(['+', '#'])) {
            let name = TopicName::parse(text).unwrap();
            let matching = |(n, filter): (usize, &String)| {
                TopicFilter::parse(filter)
                    .unwrap()
                    .matches(name)
                    .then_some(n as u32)
            };
            let expected: Vec<u32> = texts.iter().enumerate().filter_map(matching).collect();
            assert_eq!(routed(&mut index, text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_unsubscribed_leaves_nothing_behind() {
        let mut index = Subscriptions::new(Seeded::new(7));
        let mut keys = vec![];
        for text in ["a", "a/+", "a/#", "$share/g/a", "$share/h/a", "$SYS/#"] {
            match index.subscribe(topic(text), subscriber(1)).unwrap() {
                Outcome::New(key) => keys.push(key),
                Outcome::Replaced(_) => panic!("{text} is new"),
            }
            let again = index.subscribe(topic(text), subscriber(1)).unwrap();
            assert!(matches!(again, Outcome::Replaced(_)));
        }
        assert_eq!(
            (index.plain_count(), index.shared_count(), index.sys_count()),
            (4, 2, 1)
        );
        for key in keys {
            index.remove(key, SessionId(1));
            index.check_invariants();
        }
        assert!(
            index.filters.is_empty()
                && index.by_text.is_empty()
                && index.groups.members_of_all() == 0
        );
        assert_eq!((index.shape_count(), index.sys_count()), (0, 0));
    }

    #[test]
    fn what_a_publish_looks_at_does_not_grow_with_the_filters() {
        let mut index = Subscriptions::new(Seeded::new(7));
        let mut looked_at = vec![];
        for number in 0..20_000u32 {
            for text in [
                format!("site/{number}/temperature"),
                format!("room/+/{number}"),
                format!("plant/{number}/#"),
            ] {
                index.subscribe(topic(&text), subscriber(number)).unwrap();
            }
            if [9, 19_999].contains(&number) {
                looked_at.push(1 + index.shapes.fitting(3).count());
            }
        }
        assert_eq!(
            looked_at,
            [3, 3],
            "as it stands, and once for each of two shapes"
        );
    }

    #[test]
    fn one_session_cannot_make_routing_slow_for_all() {
        let mut index = Subscriptions::new(Seeded::new(7));
        let mut held = vec![];
        let mut refused = 0;
        for bits in 0..200u32 {
            // Eight levels, "+" where a bit of the number is set.
            let levels = (0..8).map(|n| if bits >> n & 1 == 1 { "+" } else { "x" });
            let text = levels.collect::<Vec<_>>().join("/") + "/+";
            match index.subscribe(topic(&text), subscriber(1)) {
                Ok(Outcome::New(key)) => held.push(key),
                Ok(Outcome::Replaced(_)) => panic!("{text} is new"),
                Err(refusal) => {
                    assert_eq!(refusal.code, ReasonCode::QuotaExceeded);
                    refused += 1;
                }
            }
        }
        assert_eq!(held.len(), Limits::WILDCARD_SHAPES_PER_SESSION);
        assert_eq!(refused, 200 - held.len());
        // Another session still gets a shape of its own, and the shapes there are cost nothing.
        assert!(index.subscribe(topic("a/+"), subscriber(2)).is_ok());
        assert!(index.subscribe(topic("y/+"), subscriber(1)).is_ok());
    }

    #[test]
    fn a_group_serves_its_members_in_turn() {
        let mut index = Subscriptions::new(Seeded::new(7));
        for session in 1..=3 {
            index
                .subscribe(topic("$share/g/a"), subscriber(session))
                .unwrap();
        }
        let mut matches = Matches::default();
        index.route(TopicName::parse("a").unwrap(), &mut matches);
        let [group] = matches.groups[..] else {
            panic!("one group matches")
        };
        let mut firsts = vec![];
        for _ in 0..6 {
            let turn = index.next_turn(group);
            firsts.push(index.members(group, turn).next().unwrap().session.0);
        }
        assert_eq!(firsts, [2, 3, 1, 2, 3, 1]);
    }
}
