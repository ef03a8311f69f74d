//! A password from whoever starts the program: asked for twice without echo, or read from a pipe.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The password for a new line of a password file.
pub fn password(user: &str) -> Result<Vec<u8>, String> {
    let password = match io::stdin().is_terminal() {
        true => ask(user),
        false => read(&mut io::stdin().lock()),
    }?;
    match password.is_empty() {
        true => Err("an empty password is none: nothing was changed".to_string()),
        false => Ok(password),
    }
}

/// The first line; a second one, as scripts for `mosquitto_passwd` have it, must be the same.
pub fn read(input: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let first = line(input)?.ok_or("there is no password on standard input")?;
    match line(input)? {
        Some(second) if second != first => Err(differ()),
        Some(_) | None => Ok(first),
    }
}

fn ask(user: &str) -> Result<Vec<u8>, String> {
    let silence = Silence::begin()?;
    let mut answers = ["Password", "Again"].map(|prompt| {
        let _ = write!(io::stderr(), "{prompt} for {user}: ");
        let answer = line(&mut io::stdin().lock());
        let _ = writeln!(io::stderr());
        answer
    });
    drop(silence);
    let second = std::mem::replace(&mut answers[1], Ok(None))?;
    let first = std::mem::replace(&mut answers[0], Ok(None))?;
    match first == second {
        true => Ok(first.unwrap_or_default()),
        false => Err(differ()),
    }
}

fn differ() -> String {
    "the two passwords differ: nothing was changed".to_string()
}

/// A line without its end; `None` where there is none.
fn line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    const BYTES_MAX: u64 = u16::MAX as u64;
    let mut line = Vec::new();
    let read = io::Read::take(&mut *input, BYTES_MAX + 2).read_until(b'\n', &mut line);
    let count = read.map_err(|error| format!("standard input: {error}"))?;
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    if text.len() as u64 > BYTES_MAX {
        return Err("the password is longer than MQTT allows, which is 65535 bytes".to_string());
    }
    Ok((count > 0).then(|| text.to_vec()))
}

/// The terminal shows nothing of what is typed, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> Result<Silence, String> {
        let failed = |error| format!("cannot turn off the terminal's echo: {error}");
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_brings_the_password_once_or_twice() {
        for (bytes, password) in [
            (&b"secret"[..], Ok(&b"secret"[..])),
            (b"secret\n", Ok(b"secret")),
            (b"secret\r\nsecret\r\n", Ok(b"secret")),
            (b" a b \n", Ok(b" a b ")),
            (b"\xFF\xFE\n", Ok(b"\xFF\xFE")),
            (b"", Err("no password on standard input")),
            (b"one\ntwo\n", Err("differ")),
            (&[b'x'; 65_536], Err("longer than MQTT allows")),
        ] {
            match (read(&mut &bytes[..]), password) {
                (Ok(read), Ok(password)) => assert_eq!(read, password),
                (Err(said), Err(why)) => assert!(said.contains(why), "{said}"),
                (read, _) => panic!("{read:?}"),
            }
        }
    }
}
