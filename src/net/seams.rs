//! What the loop leaves to others: to keep what a turn changed, to check passwords, to look after
//! what goes on beside serving.

use std::any::Any;
use std::time::Instant;

use super::Server;
use crate::broker::{Broker, Turn};

/// What somebody outside the loop may ask for, see [`Server::watch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Stop,
    HangUp,
    /// What is kept is to be on the medium now.
    Save,
    /// The log files have been moved aside.
    Reopen,
    /// All subscriptions are to be logged.
    Tree,
}

/// Makes what a turn changed durable, before anything of it is sent.
pub trait Keeper {
    /// Commits the records of a turn, and brings the messages that it asks for.
    fn commit(&mut self, broker: &mut Broker, turn: &mut Turn, now: Instant) -> Commit;

    /// Brings to the medium all that was committed.
    fn sync(&mut self, broker: &mut Broker, now: Instant) -> Commit;

    /// When it wants to commit next, whether a turn changes anything or not.
    fn deadline(&self) -> Option<Instant>;
}

/// Checks the passwords that a turn asks for, without holding up the others: what takes long is
/// done a little in each turn.
pub trait Gate: Any {
    /// Takes in what `turn` asks for, goes on with what is waiting, and tells the broker what it
    /// has found.
    fn check(&mut self, broker: &mut Broker, turn: &Turn, now: Instant);

    /// When it can go on.
    fn deadline(&self) -> Option<Instant>;

    /// It takes the place of that one, and knows what that one knew, as far as it still counts.
    fn follow(&mut self, before: Box<dyn Gate>);
}

/// What goes on beside serving: the log, the service manager, what signals ask for.
pub trait Steward {
    /// In each turn, before it ends.
    fn turn(&mut self, broker: &mut Broker, now: Instant);

    /// When it wants a turn, whether anything comes in or not.
    fn deadline(&self) -> Option<Instant>;

    /// Somebody asks for that.
    fn notice(&mut self, notice: Notice, server: &mut Server, now: Instant);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    Done,
    /// Nothing of the turn may be sent.
    Failed,
}
