//! Changes to a password file: as text, and then on disk at once or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::users::{Line, check_name};

/// For owner only.
const NEW_FILE: u32 = 0o600;

/// Whether a user was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    There,
    NotThere,
}

/// The text with a line for that user: in place of the one it had, or at the end.
pub fn set(text: &str, name: &str, hash: &str) -> (String, Before) {
    let line = format!("{name}:{hash}");
    let mut before = Before::NotThere;
    let mut edited = map_lines(text, |user, _| {
        if user != name {
            return Keep::Line;
        }
        match std::mem::replace(&mut before, Before::There) {
            Before::NotThere => Keep::Instead(line.clone()),
            // The file would not be read with two.
            Before::There => Keep::Nothing,
        }
    });
    if before == Before::NotThere {
        edited += &line;
        edited.push('\n');
    }
    (edited, before)
}

/// The text without that user.
pub fn delete(text: &str, name: &str) -> (String, Before) {
    let mut before = Before::NotThere;
    let edited = map_lines(text, |user, _| match user == name {
        true => {
            before = Before::There;
            Keep::Nothing
        }
        false => Keep::Line,
    });
    (edited, before)
}

/// The text with every plain password hashed, and how many there were.
pub fn upgrade(
    text: &str,
    mut hash: impl FnMut(&str) -> Result<String, String>,
) -> Result<(String, usize), String> {
    let (mut count, mut number) = (0, 0);
    for (line, text) in (1..).zip(text.lines()) {
        if let Line::User(name, password) = Line::of(text) {
            check_name(name).map_err(|why| format!("{line}: {why}"))?;
            if password.is_empty() {
                return Err(format!(
                    "{line}: {name} has no password: give it one, or go"
                ));
            }
        }
    }
    let mut failed = None;
    let edited = map_lines(text, |name, password| {
        number += 1;
        if password.starts_with('$') {
            return Keep::Line;
        }
        count += 1;
        match hash(password) {
            Ok(hash) => Keep::Instead(format!("{name}:{hash}")),
            Err(why) => {
                failed = Some(why);
                Keep::Line
            }
        }
    });
    match failed {
        None => Ok((edited, count)),
        Some(why) => Err(why),
    }
}

enum Keep {
    Line,
    Instead(String),
    Nothing,
}

/// Each user's line as `edit` has it, all others as they are.
fn map_lines(text: &str, mut edit: impl FnMut(&str, &str) -> Keep) -> String {
    let mut edited = String::with_capacity(text.len() + 256);
    for line in text.lines() {
        let keep = match Line::of(line) {
            Line::User(name, hash) => edit(name, hash),
            Line::Other => Keep::Line,
        };
        match keep {
            Keep::Line => edited += line,
            Keep::Instead(line) => edited += &line,
            Keep::Nothing => continue,
        }
        edited.push('\n');
    }
    edited
}

/// Puts `text` in the place of a file: whoever reads it finds the old one or the new one. The new
/// one has the old one's owner and mode; a file that was not there is its owner's only.
pub fn replace(path: &str, text: &str) -> Result<(), String> {
    // What a link leads to is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}.new", std::process::id()));
    let written = write(&target, &temporary, text).and_then(|()| {
        fs::rename(&temporary, &target)?;
        File::open(&directory)?.sync_all()
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        format!("{path}: {error}; nothing was changed")
    })
}

fn write(target: &Path, temporary: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(NEW_FILE)
        .open(temporary)?;
    if let Ok(old) = fs::metadata(target) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# ours\nalice:$6$a\n\nbob:plain\n no colon\n# bob:x\n";

    #[test]
    fn a_user_is_set_in_its_place_or_at_the_end() {
        let (text, before) = set(TEXT, "alice", "$7$n");
        assert_eq!(text, TEXT.replace("$6$a", "$7$n"));
        assert_eq!(before, Before::There);
        let (text, before) = set(TEXT.trim_end(), "carol", "$7$n");
        assert_eq!(text, format!("{TEXT}carol:$7$n\n"));
        assert_eq!(before, Before::NotThere);
        assert_eq!(set("a:1\na:2\nb:3", "a", "4").0, "a:4\nb:3\n");
    }

    #[test]
    fn a_user_is_deleted_and_nothing_else() {
        let (text, before) = delete(TEXT, "bob");
        assert_eq!(text, TEXT.replace("bob:plain\n", ""));
        assert_eq!(before, Before::There);
        assert_eq!(delete(TEXT, "carol"), (TEXT.to_string(), Before::NotThere));
    }

    #[test]
    fn plain_passwords_are_hashed_and_others_left_alone() {
        let hash = |plain: &str| Ok(format!("$7${}", plain.len()));
        let expected = TEXT.replace("bob:plain", "bob:$7$5");
        assert_eq!(upgrade(TEXT, hash), Ok((expected, 1)));
        for (text, why) in [
            ("a:b\n:c", "2: a user must have a name"),
            ("#\na:", "2: a has no password"),
        ] {
            let said = upgrade(text, hash).unwrap_err();
            assert!(said.starts_with(why), "{said}");
        }
    }
}
