//! Files by Landlock: what is not named cannot be opened, made, changed or removed any more; nor
//! can a TCP port be bound or connected to, nor a signal be sent to others.
//!
//! A rule is for what stands there now and, if it is a directory, for all below it. A file that
//! another one takes the place of, as editors and logrotate do it, needs a rule for its directory;
//! never for the root of everything. Sockets of Unix may be connected to as ever, for the log of
//! the system and for its service manager.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, make_bitflags,
};

use super::Use;

/// Of Linux 6.12. What a newer kernel could forbid besides it does not: nobody has tried.
const VERSION: ABI = ABI::V6;

pub const FILES: i32 = ABI::V1 as i32;
pub const TCP: i32 = ABI::V4 as i32;
pub const SIGNALS: i32 = ABI::V6 as i32;

/// Needed by everybody: descriptors in reserve, secrets for passwords.
const ALWAYS: [&str; 2] = ["/dev/null", "/dev/urandom"];

/// As much of it as this kernel can; returns which version of Landlock that is.
pub fn confine(needs: &[(PathBuf, Use)]) -> Result<i32, String> {
    let status = restrict(needs).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Ok((effective_abi as i32).min(VERSION as i32)),
        (_, LandlockStatus::NotEnabled) => {
            Err("this kernel has Landlock, and was started without it (lsm=)".to_string())
        }
        (_, LandlockStatus::NotImplemented | LandlockStatus::Available { .. }) => {
            // The kernel has none; or midge runs in a container that keeps it from it.
            Err("there is no Landlock here".to_string())
        }
    }
}

fn restrict(needs: &[(PathBuf, Use)]) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::Signal)?
        .create()?;
    let always = ALWAYS.map(|path| (PathBuf::from(path), Use::ReadThis));
    for (place, what) in always.into_iter().chain(all_places(needs)) {
        // What is not there now is not needed; what is no place in a file system (a pipe that
        // /dev/stdout stands for) takes no rule and stays open.
        if let Ok(there) = PathFd::new(&place) {
            let rule = PathBeneath::new(there, access(&place, what));
            let _ = (&mut rules).add_rule(rule);
        }
    }
    rules.restrict_self()
}

/// Each once.
pub fn all_places(needs: &[(PathBuf, Use)]) -> Vec<(PathBuf, Use)> {
    let of = |(path, what): &(PathBuf, Use)| {
        let what = *what;
        places(path, what)
            .into_iter()
            .map(move |place| (place, what))
    };
    let mut all: Vec<_> = needs.iter().flat_map(of).collect();
    all.sort();
    all.dedup();
    all
}

/// Where a rule has to stand.
fn places(path: &Path, what: Use) -> Vec<PathBuf> {
    let Ok(target) = path.canonicalize() else {
        return Vec::new();
    };
    let is_one_file = match what {
        Use::ReadThis => true,
        Use::Read | Use::Keep => target.is_dir(),
        // A device or a pipe is not moved away.
        Use::Write => !target.is_file(),
        Use::Remove => false,
    };
    if is_one_file {
        return vec![target];
    }
    // A link may be replaced, and so may what it leads to.
    let mut places = Vec::new();
    for file in [path, &target] {
        let directory = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let directory = directory.canonicalize().unwrap_or_default();
        places.push(match directory.parent() {
            Some(_) => directory,
            None => target.clone(),
        });
    }
    places.dedup();
    places
}

fn access(place: &Path, what: Use) -> BitFlags<AccessFs> {
    let access = match what {
        Use::Read | Use::ReadThis => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
        Use::Write => make_bitflags!(AccessFs::{WriteFile | MakeReg}),
        Use::Remove => make_bitflags!(AccessFs::{RemoveFile}),
        Use::Keep => make_bitflags!(AccessFs::{
            ReadFile | ReadDir | WriteFile | Truncate | MakeReg | RemoveFile
        }),
    };
    match fs::metadata(place).is_ok_and(|metadata| metadata.is_dir()) {
        true => access,
        false => access & AccessFs::from_file(VERSION),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_may_be_replaced_is_its_directory_and_never_the_root() {
        let directory = std::env::temp_dir().join(format!("midge-places-{}", std::process::id()));
        let (real, links) = (directory.join("real"), directory.join("links"));
        for directory in [&real, &links] {
            fs::create_dir_all(directory).unwrap();
        }
        let (file, link) = (real.join("passwords"), links.join("passwords"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        for (path, what, expected) in [
            (&file, Use::Read, vec![real.clone()]),
            (&file, Use::ReadThis, vec![file.clone()]),
            (&file, Use::Write, vec![real.clone()]),
            (&file, Use::Remove, vec![real.clone()]),
            (&link, Use::Read, vec![links.clone(), real.clone()]),
            (&real, Use::Read, vec![real.clone()]),
            (&real, Use::Keep, vec![real.clone()]),
            (&real.join("none"), Use::Read, vec![]),
            (
                &PathBuf::from("/dev/null"),
                Use::Write,
                vec!["/dev/null".into()],
            ),
            (&PathBuf::from("/"), Use::Read, vec!["/".into()]),
        ] {
            assert_eq!(places(path, what), expected, "{path:?} {what:?}");
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
