//! Groups that share a subscription (4.8.2): each message goes to one member, by turns.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use super::SessionId;
use super::subscriptions::{FilterId, Subscriber};

/// A group that shares one filter. Never used again for another group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(u64);

#[derive(Debug)]
pub struct Group {
    pub share_name: Box<str>,
    pub filter: FilterId,
    /// In the order they joined.
    pub members: Vec<Subscriber>,
    /// Whose turn it is.
    turn: usize,
}

#[derive(Debug, Default)]
pub struct Groups {
    by_id: BTreeMap<GroupId, Group>,
    by_name: BTreeMap<(FilterId, Box<str>), GroupId>,
    last: u64,
}

impl Groups {
    /// The group of that name that shares `filter`.
    pub fn find(&self, filter: FilterId, share_name: &str) -> Option<GroupId> {
        self.by_name.get(&(filter, share_name.into())).copied()
    }

    pub fn create(&mut self, filter: FilterId, share_name: &str) -> GroupId {
        self.last += 1;
        let id = GroupId(self.last);
        self.by_name.insert((filter, share_name.into()), id);
        let (share_name, members) = (share_name.into(), Vec::new());
        let group = Group {
            share_name,
            filter,
            members,
            turn: 0,
        };
        self.by_id.insert(id, group);
        id
    }

    /// Takes `session` out of a group; says whether that was its last member, and the end of it.
    pub fn leave(&mut self, id: GroupId, session: SessionId) -> bool {
        let group = &mut self[id];
        let at = group
            .members
            .iter()
            .position(|member| member.session == session);
        group
            .members
            .remove(at.expect("a session holds keys of its own subscriptions only"));
        match group.members.len() {
            0 => {
                if let Some(group) = self.by_id.remove(&id) {
                    self.by_name.remove(&(group.filter, group.share_name));
                }
                true
            }
            count => {
                group.turn %= count;
                false
            }
        }
    }

    pub fn next_turn(&mut self, id: GroupId) -> usize {
        let Some(group) = self.by_id.get_mut(&id) else {
            return 0;
        };
        group.turn = (group.turn + 1) % group.members.len();
        group.turn
    }

    pub fn members(&self, id: GroupId, first: usize) -> impl Iterator<Item = &Subscriber> {
        let members = self.by_id.get(&id).map_or(&[][..], |group| &group.members);
        members[first..].iter().chain(&members[..first])
    }

    pub fn members_of_all(&self) -> usize {
        self.by_id.values().map(|group| group.members.len()).sum()
    }
}

impl Index<GroupId> for Groups {
    type Output = Group;

    fn index(&self, id: GroupId) -> &Group {
        &self.by_id[&id]
    }
}

impl IndexMut<GroupId> for Groups {
    fn index_mut(&mut self, id: GroupId) -> &mut Group {
        self.by_id
            .get_mut(&id)
            .expect("a session holds keys of existing groups only")
    }
}
