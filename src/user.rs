//! From root to a user who may do less, once the ports and the log are open.
//!
//! The system calls change a thread, not a process: they are right because midge has one thread,
//! which is looked at first. Users and groups are those of `/etc/passwd` and `/etc/group`.

use std::fs;
use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// More groups than Linux allows.
const GROUPS_MAX: usize = 65_536;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// With the one above.
    groups: Vec<u32>,
}

/// Looks a user up; `None` where there is none of that name.
pub fn find(name: &str) -> io::Result<Option<User>> {
    let users = fs::read_to_string("/etc/passwd")?;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    Ok(parse(name, &users, &groups))
}

fn parse(name: &str, users: &str, groups: &str) -> Option<User> {
    let fields = |line: &str| -> Option<(u32, u32)> {
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let is_named = |line: &&str| line.split(':').next() == Some(name);
    let (uid, gid) = fields(users.lines().find(is_named)?)?;
    let group_with = |line: &str| -> Option<u32> {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        let mut members = fields.next()?.split(',');
        members.any(|member| member == name).then_some(gid)
    };
    let mut all = vec![gid];
    all.extend(
        groups
            .lines()
            .filter_map(group_with)
            .filter(|other| *other != gid),
    );
    all.truncate(GROUPS_MAX);
    Some(User {
        uid,
        gid,
        groups: all,
    })
}

/// Becomes that user for good: groups first, as only root may change them.
pub fn become_user(user: &User) -> io::Result<()> {
    let tasks = "/proc/self/task";
    let threads = fs::read_dir(tasks)
        .map_err(|error| io::Error::other(format!("{tasks} cannot be read: {error}")))?;
    if threads.count() != 1 {
        return Err(io::Error::other("there is more than one thread"));
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_group_of_its_line_and_those_that_name_it() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbad\nann:x:1000:100::/:/bin/sh\nno:x:a:b\n";
        let groups = "users:x:100:\naudio:x:29:bob,ann\ndial:x:20:anna\nagain:x:100:ann\nx\n";
        let ann = User {
            uid: 1000,
            gid: 100,
            groups: vec![100, 29],
        };
        assert_eq!(parse("ann", users, groups), Some(ann));
        for nobody in ["an", "bad", "no", ""] {
            assert_eq!(parse(nobody, users, groups), None, "{nobody}");
        }
    }
}
