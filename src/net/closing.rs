//! How connections end: one that is refused, one that is gone, all of them at a stop.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use log::info;

use super::Server;
use crate::broker::{ConnectionId, Turn};

/// How long a stopping server waits for clients to take what they are owed.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// How long a client that was refused may take to read why, and how many may at once.
const LINGER: Duration = Duration::from_secs(1);
const LINGERING_MAX: usize = 256;

impl Server {
    /// Closes a condemned connection: at once, if it was the peer that ended it; else the peer has
    /// a moment to take what it was told. Closing with bytes unread would make the kernel reset
    /// the connection, and the reason be lost.
    pub(super) fn close(&mut self, id: ConnectionId, now: Instant) {
        let socket = &mut self.sockets[id.index()];
        if !self.broker.was_refused(id) || socket.lost || self.lingering.len() >= LINGERING_MAX {
            return self.free(id);
        }
        socket.lingering = true;
        if socket.writable {
            socket.say_no_more();
        }
        self.lingering.push_back((now + LINGER, id));
    }

    /// Frees the connections that were told and have left, or have had their moment.
    pub(super) fn end_lingering(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.parted) {
            if self.lingering.iter().any(|(_, other)| *other == id) {
                self.lingering.retain(|(_, other)| *other != id);
                self.free(id);
            }
        }
        while let Some((_, id)) = self
            .lingering
            .front()
            .copied()
            .filter(|(until, _)| *until <= now)
        {
            self.lingering.pop_front();
            self.free(id);
        }
    }

    /// The only place where a slot is freed; at the end of a turn.
    fn free(&mut self, id: ConnectionId) {
        let socket = self.sockets.remove(id.index());
        self.broker.forget(id);
        self.gone.retain(|other| *other != id);
        if socket.unread {
            self.unread.retain(|other| *other != id);
        }
        if socket.paused {
            self.paused.retain(|other| *other != id);
        }
        drop(socket);
        self.descriptor_is_free();
    }

    /// For whoever was left waiting for one.
    pub(super) fn descriptor_is_free(&mut self) {
        for listener in &mut self.listeners {
            listener.has_more |= std::mem::take(&mut listener.starved);
        }
    }

    /// Takes leave of everybody: no more listeners, a last word, some time to take it.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        info!(target: "notice", "midge is stopping.");
        self.listeners.clear();
        let mut now = Instant::now();
        let end = now + STOP_GRACE;
        // That it stops is for those who read the log as topics, too.
        if let Some(steward) = &mut self.steward {
            steward.turn(&mut self.broker, now);
        }
        self.broker.stop(now);
        let mut turn = Turn::default();
        self.broker.end_turn(&mut turn, now);
        self.keep(&mut turn, now);
        if let Some(keeper) = &mut self.keeper {
            keeper.sync(&mut self.broker, now);
        }
        let mut owed = std::mem::take(&mut turn.close);
        while !owed.is_empty() {
            owed.iter().for_each(|&id| self.flush(id));
            let (blocked, done): (Vec<_>, Vec<_>) = owed.into_iter().partition(|id| {
                self.broker.outbound(*id, &mut [IoSlice::new(&[])]) > 0
                    && !self.sockets[id.index()].lost
            });
            for id in done {
                self.sockets[id.index()].part(&mut self.buffer);
                self.free(id);
            }
            owed = blocked;
            if owed.is_empty() || now >= end {
                break;
            }
            now = self.wait(Some(end - now))?;
            for event in &self.events {
                if let Some(socket) = self.sockets.get_mut(event.token().0) {
                    socket.writable |= event.is_writable();
                }
            }
        }
        Ok(())
    }
}
