//! Signals as notices: each arrives as a byte on a pair of sockets that the loop polls.
//!
//! SIGPIPE needs nothing: the Rust runtime ignores it.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;

use super::{Notice, Server};

/// SIGTERM and SIGINT stop the server, SIGUSR1 syncs what it keeps, SIGHUP has it read again what
/// can change.
pub fn watch(server: &mut Server) -> io::Result<()> {
    for (signal, notice) in [
        (SIGTERM, Notice::Stop),
        (SIGINT, Notice::Stop),
        (SIGHUP, Notice::HangUp),
        (SIGUSR1, Notice::Save),
    ] {
        let (ours, handlers) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        pipe::register(signal, handlers)?;
        server.watch(mio::net::UnixStream::from_std(ours), notice)?;
    }
    Ok(())
}
