//! Other options while clients are there.
//!
//! Nobody is disturbed: a client that is connected goes on under the terms it was told (`Granted`),
//! a session or a queue that is beyond a lower limit stays, and does not grow.

use std::time::Instant;

use super::Broker;
use super::limits::Options;

impl Broker {
    /// From now on these hold. The listeners are the same, in the same order; whether anything is
    /// kept on disk, and what was drawn or handed over at the start, stays.
    pub fn set_options(&mut self, options: Options, now: Instant) {
        assert!(
            options.listeners.len() == self.options.listeners.len(),
            "listeners come and go with a start only"
        );
        let now = self.millis(now);
        self.stretched.stretch(&options.limits);
        self.journal.set_durability(options.durability.clone());
        self.authority.checks_sources = options.check_retain_source;
        self.options = Options {
            seed: self.options.seed,
            memory_in_use: self.options.memory_in_use,
            ..options
        };
        self.set_owed_max();
        self.restart_sys_timer(now);
    }
}
