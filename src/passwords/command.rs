//! `midge passwd`: adds, changes and deletes users of a password file, as `mosquitto_passwd` does.

use std::path::Path;

use getopts::{Matches, Options};

use super::edit::{self, Before};
use super::hash::{Hash, Method, SALTS, parse_iterations};
use super::users::{Users, check_name, read_text};
use super::{chance, terminal};

pub const USAGE: &str = "\
Usage: midge passwd [-c] [-H METHOD] [-I N] FILE USER
           asks for the password, or reads it from a pipe
       midge passwd [-c] [-H METHOD] [-I N] -b FILE USER PASSWORD
       midge passwd -D FILE USER
           deletes the user
       midge passwd [-H METHOD] [-I N] -U FILE
           hashes passwords that are plain text
  -c  makes the file anew, with this user only; FILE - is standard output
  -H  sha512-pbkdf2, which is the default, or sha512
  -I  iterations of sha512-pbkdf2, 1000 by default: more make guessing slower,
      and connecting too
";

const ITERATIONS: u32 = 1_000;

/// Does what `flags` say; returns what to print.
pub fn run(flags: &[String]) -> Result<String, String> {
    let mut options = Options::new();
    for flag in ["b", "c", "D", "U", "h"] {
        options.optflag(flag, "", "");
    }
    options.optopt("H", "", "", "").optopt("I", "", "", "");
    let matches = options
        .parse(flags)
        .map_err(|fail| usage(&fail.to_string()))?;
    let given = |flag| matches.opt_present(flag);
    let free: Vec<&str> = matches.free.iter().map(String::as_str).collect();
    let method = method(&matches)?;
    match (given("b"), given("c"), given("D"), given("U"), &free[..]) {
        _ if given("h") => Ok(USAGE.to_string()),
        (false, create, false, false, [file, user]) => {
            check_user(user)?;
            let password = || terminal::password(user);
            set(file, user, method, create, password)
        }
        (true, create, false, false, [file, user, password]) => {
            check_user(user)?;
            let password = check_password(password).map(|()| password.as_bytes().to_vec());
            set(file, user, method, create, || password)
        }
        (false, false, true, false, [file, user]) => delete(file, user),
        (false, false, false, true, [file]) => upgrade(file, method),
        (_, true, true, _, _) | (_, true, _, true, _) | (_, _, true, true, _) => {
            Err(usage("-c, -D and -U exclude each other"))
        }
        (true, ..) => Err(usage("-b needs FILE, USER and PASSWORD")),
        (_, _, _, true, _) => Err(usage("-U needs FILE, and nothing else")),
        _ => Err(usage("FILE and USER are needed, and nothing else")),
    }
}

fn usage(why: &str) -> String {
    format!("{why} (midge passwd -h tells more)")
}

fn method(matches: &Matches) -> Result<Method, String> {
    let iterations = match matches.opt_str("I") {
        Some(text) => parse_iterations(&text).map_err(|why| format!("-I {text}: {why}"))?,
        None => ITERATIONS,
    };
    match matches.opt_str("H").as_deref() {
        None | Some("sha512-pbkdf2") => Ok(Method::Pbkdf2 { iterations }),
        Some("sha512") => Ok(Method::Sha512),
        Some(other) => Err(format!("-H {other}: must be sha512-pbkdf2 or sha512")),
    }
}

/// A name that the file can keep.
fn check_user(user: &str) -> Result<(), String> {
    check_name(user).map_err(|why| format!("USER: {why}"))?;
    if user.contains(':') {
        return Err("USER: a colon ends the name in the file: choose one without".to_string());
    }
    if user.starts_with('#') {
        return Err("USER: a line with # in front is a comment: choose another name".to_string());
    }
    if user.trim() != user {
        return Err("USER: blanks at its ends would be lost: choose one without".to_string());
    }
    if user.contains('\u{FFFD}') {
        return Err("USER: is not UTF-8, as all user names of MQTT are".to_string());
    }
    Ok(())
}

fn check_password(password: &str) -> Result<(), String> {
    if password.contains('\u{FFFD}') {
        let why = "PASSWORD: is not UTF-8: without -b it is read byte by byte from standard input";
        return Err(why.to_string());
    }
    match password.is_empty() {
        true => Err("PASSWORD: an empty password is none: nothing was changed".to_string()),
        false => Ok(()),
    }
}

fn set(
    file: &str,
    user: &str,
    method: Method,
    create: bool,
    password: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<String, String> {
    let old = match (create, file) {
        (true, _) => String::new(),
        (false, "-") => return Err("FILE - is for -c only".to_string()),
        (false, _) if !Path::new(file).exists() => {
            return Err(format!("{file}: is not there (-c makes it)"));
        }
        (false, _) => read_text(file)?,
    };
    let hash = hash(method, &password()?)?;
    let (text, before) = edit::set(&old, user, &hash);
    if file == "-" {
        return Ok(text);
    }
    edit::replace(file, &text)?;
    let done = match before {
        Before::There => "has a new password",
        Before::NotThere => "was added",
    };
    Ok(format!("{user} {done}.\n{}", remarks(file, &text)))
}

fn delete(file: &str, user: &str) -> Result<String, String> {
    let (text, before) = edit::delete(&read_text(file)?, user);
    if before == Before::NotThere {
        return Err(format!("{file}: there is no user {user}"));
    }
    edit::replace(file, &text)?;
    Ok(format!("{user} was deleted.\n{}", remarks(file, &text)))
}

fn upgrade(file: &str, method: Method) -> Result<String, String> {
    let hash = |plain: &str| hash(method, plain.as_bytes());
    let upgraded = edit::upgrade(&read_text(file)?, hash);
    let (text, count) = upgraded.map_err(|why| format!("{file}:{why}"))?;
    if count > 0 {
        edit::replace(file, &text)?;
    }
    Ok(format!(
        "{count} passwords were hashed.\n{}",
        remarks(file, &text)
    ))
}

fn hash(method: Method, password: &[u8]) -> Result<String, String> {
    let mut salt = vec![0; SALTS[0]];
    chance(&mut salt)?;
    Ok(Hash::new(method, salt, password).to_text())
}

/// What else is wrong with the file, as midge would not read it.
fn remarks(file: &str, text: &str) -> String {
    let faults = Users::parse(file, text).err().unwrap_or_default();
    let said: String = faults.iter().map(|fault| format!("{fault}.\n")).collect();
    match faults.is_empty() {
        true => said,
        false => said + "Until that is put right midge does not read the file.\n",
    }
}
