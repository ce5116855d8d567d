//! The event log: a hash that says whether two runs were the same, and one line per event for those who ask.

use std::fmt;
use std::io::Write;

use clock::Instant;

/// Which part of the simulated world an event belongs to. The second column of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Client,
    Server,
    Disk,
    Nexus,
    Link,
    Target,
    Medium,
    Fault,
    Check,
    Run,
}

/// What happened so far.
pub(crate) struct Log {
    hash: u64,
    events: u64,
    trace: Option<Box<dyn Write>>,
}

impl Log {
    pub(crate) fn new(trace: Option<Box<dyn Write>>) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, trace }
    }

    /// Counts an event in. `numbers` are what makes it differ from others of its part; `text` is made only if somebody
    /// reads it.
    pub(crate) fn event<T: fmt::Display>(
        &mut self,
        now: Instant,
        part: Part,
        numbers: [u64; 3],
        text: impl FnOnce() -> T,
    ) {
        self.events += 1;
        for value in [now.as_nanos(), part as u64].into_iter().chain(numbers) {
            self.hash = (self.hash ^ value).wrapping_mul(0x9fb2_1c65_1e98_df25);
            self.hash ^= self.hash >> 32;
        }
        if let Some(trace) = &mut self.trace {
            let millis = now.as_nanos() / 1_000_000;
            let nanos = now.as_nanos() % 1_000_000;
            // A trace that nobody takes any more is no failure of what is traced.
            let _ = writeln!(
                trace,
                "{millis:>8}.{nanos:06} {:<7} {}",
                format!("{part:?}").to_lowercase(),
                text()
            );
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn events(&self) -> u64 {
        self.events
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} events, {:016x})", self.events, self.hash)
    }
}
