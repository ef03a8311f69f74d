//! midge: an MQTT 3.1, 3.1.1 and 5.0 broker in one thread and one event loop.
//!
//! # The house
//!
//! | Where | What | Knows |
//! |---|---|---|
//! | `main.rs` | flags → configuration; exits | everything below |
//! | `service.rs`, `steward.rs` | configuration → server; what signals ask for | everything below |
//! | [`config`] | one table of settings, read into plain data | the options others declare |
//! | [`reload`] | the files that say who may do what | `broker`, `passwords`, the seam of `net` |
//! | [`logging`], [`daemon`], `user` | the log; to the background; not as root | nothing of MQTT |
//! | `sandbox` | what midge gives up once it serves | `config`: which files it still needs |
//! | [`reach`] | that it gave that up, for errors | nothing |
//! | [`notify`] | what systemd is told | nothing of MQTT |
//! | [`net`] | sockets: one poll loop that moves bytes | `broker` by its verbs, no packets |
//! | [`broker`] | the state machine: sessions, routing, delivery | `packet`; no socket, no clock |
//! | `passwords` | password files: who checks them, `midge passwd` | `broker`, the seam of `net` |
//! | `persistence` | durable before acknowledged | `broker`, `store`, the seam of `net` |
//! | [`record`] | what must survive, as changes | nothing |
//! | [`store`] | a log of such changes on disk | `record`; nothing of MQTT |
//! | [`packet`] | bytes ⇄ packets, stateless | the specification |
//!
//! `broker` and `packet` are pure: bytes and `now` go in, bytes and the next deadline come out. So
//! a broker and any number of clients run inside a unit test, with a clock that moves when told.
//!
//! # The way of one PUBLISH
//!
//! 1. `net/mod.rs`, `turn`: an event names a socket; its token is a `ConnectionId`.
//! 2. `net/socket.rs` reads into the one buffer that all sockets share.
//! 3. `broker/receive.rs` cuts packets off the bytes where they stand (`packet/mod.rs`,
//!    `packet/publish.rs`); the beginning of a packet that is not whole yet is kept.
//! 4. `broker/publish.rs`, `on_publish`: mount point (`broker/mount.rs`), alias, QoS 2 bookkeeping,
//!    access (`broker/authority.rs`), and at the end PUBACK or PUBREC into the publisher's
//!    `broker/outbound.rs`.
//! 5. `broker/deliver.rs`: retained if it says so (`broker/retained.rs`), then routed
//!    (`broker/subscriptions.rs`) to sessions, overlapping subscriptions brought together.
//! 6. `broker/session.rs` of each subscriber: sent now, within its window, or queued until
//!    `broker/pump.rs` finds room; `broker/connection.rs` encodes it into what that client is owed.
//! 7. Where that session, or what is retained, is to survive, `broker/journal.rs` writes a record;
//!    a queue that is long, or whose client is away, is on disk only (`broker/shelf.rs`).
//! 8. At the end of the turn `net/mod.rs` has the records committed (`persistence.rs`, `store/`),
//!    and then writes each socket once.

#![forbid(unsafe_code)]

pub mod broker;
pub mod config;
pub mod daemon;
pub mod logging;
pub mod net;
pub mod notify;
pub mod packet;
#[cfg(feature = "passwords")]
pub mod passwords;
#[cfg(feature = "store")]
pub mod persistence;
pub mod reach;
pub mod record;
pub mod reload;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
pub mod sandbox;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "user")]
pub mod user;
