//! `-d`: to the background, once it is certain that midge runs.
//!
//! The program starts itself again, detached, and waits: whatever keeps the second one from
//! serving is said by the first, in its exit status too. The second one reports on its standard
//! output, which is a pipe: lines are errors for people, [`READY`] says that the ports are open.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Set in the environment of the second one.
const MARK: &str = "MIDGE_IN_BACKGROUND";
const READY: &str = "ready";

/// Whether this is the second one.
pub fn is_background() -> bool {
    env::var_os(MARK).is_some()
}

/// Starts the second one; returns the exit status for the first.
pub fn start(flags: &[String]) -> io::Result<u8> {
    let mut child = Command::new(env::current_exe()?)
        .args(flags)
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // No signal of this terminal's jobs reaches it.
        .process_group(0)
        .spawn()?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            match line?.as_str() {
                READY => return Ok(0),
                line => complain(line),
            }
        }
    }
    Ok(child
        .wait()?
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

/// The second one says that it serves.
pub fn report_ready() {
    if is_background() {
        let _ = writeln!(io::stdout(), "{READY}");
    }
}

/// Says what is wrong, where somebody reads it.
pub fn complain(sentence: &str) {
    // If nobody listens, there is nobody to tell.
    let _ = match is_background() {
        true => writeln!(io::stdout(), "{sentence}"),
        false => writeln!(io::stderr(), "{sentence}"),
    };
}
