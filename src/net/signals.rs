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
    for (signal, notice) in [
        (SIGTERM, Notice::Stop),
        (SIGINT, Notice::Stop),
        (SIGHUP, Notice::HangUp),
        (SIGUSR1, Notice::Save),
        (SIGUSR2, Notice::Tree),
    ] {
        watch_one(server, signal, notice)?;
    }
    let [first, second] = SIGRTMIN.map(|signal| watch_one(server, signal, Notice::Reopen));
    first.or(second)
}

fn watch_one(server: &mut Server, signal: i32, notice: Notice) -> io::Result<()> {
    let (ours, handlers) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    pipe::register(signal, handlers)?;
    server.watch(mio::net::UnixStream::from_std(ours), notice)
}
