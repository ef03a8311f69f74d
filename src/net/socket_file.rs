//! The file of a Unix socket: room for it is made, it is given to those it is for, and it is gone
//! when its listener is.
//!
//! Nothing is ever removed but a socket: one that nobody listens to any more, before a start, and
//! our own in the end, if it is still ours.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use log::warn;
use mio::net::UnixStream;

use super::address::{FileOptions, ListenerAddress};
use super::sockets;

/// Removes itself.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Removes what a broker that was killed has left.
pub fn make_room(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err("what is there is no socket, and is left alone; take another path".into());
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).map_err(|error| (error.kind(), error)) {
        Err((io::ErrorKind::ConnectionRefused, _)) => fs::remove_file(path)
            .map_err(|error| format!("an old socket is there that cannot be removed: {error}")),
        Err((io::ErrorKind::NotFound, _)) => Ok(()),
        // It listens, and has no time.
        Ok(_) | Err((io::ErrorKind::WouldBlock, _)) => {
            Err("another program listens there; stop it or take another path".into())
        }
        Err((_, error)) => Err(format!(
            "whether another program listens there cannot be found out: {error}"
        )),
    }
}

impl SocketFile {
    /// Of a socket that was just bound to that path.
    pub fn new(path: &Path) -> io::Result<SocketFile> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.to_path_buf(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it to those it is for.
    pub fn hand_over(&self, asked: &ListenerAddress) -> Result<(), String> {
        let (owner, group) = asked.file.ids()?;
        let owner = owner.or(asked.user.map(|(uid, _)| uid));
        let group = group.or(asked.user.map(|(_, gid)| gid));
        if owner.is_none() && group.is_none() {
            return Ok(());
        }
        sockets::give(&self.path, owner, group).map_err(|error| {
            format!("its owner cannot be set: {error}; only root may give files away")
        })
    }
}

impl FileOptions {
    /// The numbers of owner and group, where there are any of those names.
    pub(crate) fn ids(&self) -> Result<(Option<u32>, Option<u32>), String> {
        let id = |name: &Option<String>, file, what| {
            let name = name.as_deref();
            name.map(|name| find_id(name, file, what)).transpose()
        };
        let owner = id(&self.owner, "/etc/passwd", "user")?;
        Ok((owner, id(&self.group, "/etc/group", "group")?))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            |metadata: &Metadata| metadata.dev() == self.device && metadata.ino() == self.inode;
        if !fs::symlink_metadata(&self.path).is_ok_and(|metadata| is_ours(&metadata)) {
            return;
        }
        // Who has stepped down from root may not be allowed to.
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            warn!("The socket {path} stays where it is: {error} (the next start replaces it).");
        }
    }
}

/// A number, or a name that has one in that file.
fn find_id(name: &str, file: &str, what: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    id_in(name, &text).ok_or(format!("there is no {what} {name}"))
}

/// Lines of users and of groups begin alike: `name:password:id`.
fn id_in(name: &str, text: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| match fields.next() {
        Some(first) if first == name => fields.nth(1)?.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_users_and_groups_have_numbers() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbad\nmqtt:x:117:\nodd:x:-1:\n";
        assert_eq!(id_in("root", text), Some(0));
        assert_eq!(id_in("mqtt", text), Some(117));
        for nobody in ["bad", "odd", "mqt", ""] {
            assert_eq!(id_in(nobody, text), None, "{nobody}");
        }
        assert_eq!(find_id("1000", "/nowhere", "user"), Ok(1000));
    }
}
