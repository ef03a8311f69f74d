//! What a SIGHUP can exchange while the loop runs: who checks passwords, and what joins it.
//!
//! Everything is read and checked before any of it counts, by one function that whoever knows the
//! files brings ([`Reload`]); so a faulty file changes nothing. Connections stay.

use std::time::Instant;

use log::{error, info};

use super::Server;
use crate::broker::{Broker, Turn};

/// Checks the passwords that a turn asks for, without holding up the others: what takes long is
/// done a little in each turn.
pub trait Gate {
    /// Takes in what `turn` asks for, goes on with what is waiting, and tells the broker what it
    /// has found.
    fn check(&mut self, broker: &mut Broker, turn: &Turn, now: Instant);

    /// When it can go on.
    fn deadline(&self) -> Option<Instant>;
}

/// What counts after SIGHUP: all of it was read, and found good. What was not read again is `None`
/// and stays as it is.
#[derive(Default)]
pub struct Changes {
    pub gate: Option<Box<dyn Gate>>,
    /// What was read, for the log.
    pub summary: String,
}

/// Reads again what may change while the server runs. Nothing counts unless all of it is good; what
/// is wrong is said in a sentence each, as `file:line: sentence`.
pub type Reload = Box<dyn FnMut() -> Result<Changes, Vec<String>>>;

impl Server {
    /// Who checks passwords from now on; whoever waits is asked for again.
    pub fn set_gate(&mut self, gate: Box<dyn Gate>) {
        self.gate = Some(gate);
        self.broker.ask_again();
    }

    /// What SIGHUP does.
    pub fn on_hang_up(&mut self, reload: Reload) {
        self.reload = Some(reload);
    }

    /// All or nothing: a faulty file changes nothing.
    pub(super) fn read_again(&mut self) {
        let Some(reload) = &mut self.reload else {
            info!(target: "notice", "SIGHUP: there is nothing to read again.");
            return;
        };
        match reload() {
            Ok(Changes { gate, summary }) => {
                if let Some(gate) = gate {
                    self.set_gate(gate);
                }
                info!(target: "notice", "SIGHUP: {summary}.");
            }
            Err(faults) => {
                for fault in faults {
                    error!("{fault}.");
                }
                error!("SIGHUP: nothing was changed, as not all is right.");
            }
        }
    }
}
