//! Signals as notices: each arrives as a byte on a pair of sockets that the loop polls.
//!
//! SIGPIPE needs nothing: the Rust runtime ignores it.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::pipe;

use super::{Notice, Server};

/// SIGRTMIN of programs that use glibc, and of those that use musl, which keeps the other for
/// itself. Whoever sends it may count like either, so that both mean the same where both can be
/// had.
const SIGRTMIN: [i32; 2] = [34, 35];

/// SIGTERM and SIGINT stop the server, SIGUSR1 syncs what it keeps, SIGHUP has it read again what
/// can change, SIGRTMIN open its log anew, SIGUSR2 log all subscriptions.
pub fn watch(server: &mut Server) -> io::Result<()> {
    for (signals, notice) in [
        (&[SIGTERM, SIGINT][..], Notice::Stop),
        (&[SIGHUP], Notice::HangUp),
        (&[SIGUSR1], Notice::Save),
        (&[SIGUSR2], Notice::Tree),
    ] {
        for registered in watch_for(server, signals, notice)? {
            registered?;
        }
    }
    let registered = watch_for(server, &SIGRTMIN, Notice::Reopen)?;
    let either = registered.into_iter().reduce(|one, other| one.or(other));
    either.unwrap_or(Ok(()))
}

/// One pair for all signals that are the same notice; whether each could be had.
fn watch_for(
    server: &mut Server,
    signals: &[i32],
    notice: Notice,
) -> io::Result<Vec<io::Result<()>>> {
    let (ours, handlers) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    server.watch(mio::net::UnixStream::from_std(ours), notice)?;
    let register = |signal: &i32| pipe::register(*signal, handlers.try_clone()?).map(|_| ());
    Ok(signals.iter().map(register).collect())
}
