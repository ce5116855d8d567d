//! What every part of the simulated world shares: the time, the timers, the links, the log and the checkers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::Instant;

use crate::check::Checks;
use crate::link::{ConnectionId, End, Network};
use crate::log::{Log, Part};
use crate::random::Random;

/// Whatever can be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Something arrives at an end of a connection.
    Arrival(ConnectionId, End),
    /// The initiator's side.
    Host,
    /// One of its sessions, by the number of its nexus: only to be flushed.
    Nexus(u32),
    /// The server's side of an NBD connection.
    Server(ConnectionId),
    /// The target's side of an iSCSI connection.
    Target(ConnectionId),
    Array,
    Client(u32),
    /// The next fault begins or ends.
    Fault,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) now: Instant,
    pub(crate) timers: Timers,
    pub(crate) network: Network,
    pub(crate) random: Random,
    pub(crate) log: Log,
    pub(crate) checks: Checks,
    /// Machines that were told something, and whose actions were not yet taken.
    pub(crate) touched: Agenda,
    /// Machines with bytes to send, and a timer to set, at the end of the turn.
    pub(crate) dirty: Agenda,
}

impl Scene {
    /// Writes an event to the log.
    pub(crate) fn note<T: std::fmt::Display>(
        &mut self,
        part: Part,
        numbers: [u64; 3],
        text: impl FnOnce() -> T,
    ) {
        self.log.event(self.now, part, numbers, text);
    }

    /// Sets the timers of everything that the network wants to deliver.
    pub(crate) fn arm_arrivals(&mut self) {
        while let Some((connection, end, at)) = self.network.poll_arrival() {
            self.timers.arm(Source::Arrival(connection, end), Some(at));
        }
    }
}

/// A queue in which every source stands at most once.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    queue: VecDeque<Source>,
    listed: BTreeSet<Source>,
}

impl Agenda {
    pub(crate) fn add(&mut self, source: Source) {
        if self.listed.insert(source) {
            self.queue.push_back(source);
        }
    }

    pub(crate) fn next(&mut self) -> Option<Source> {
        let source = self.queue.pop_front()?;
        self.listed.remove(&source);
        Some(source)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// One deadline for each source. A deadline that moves later is not moved here: the source is woken early, has nothing
/// to do, and is armed anew, as the engine does it.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, Source)>,
    armed: BTreeMap<Source, Instant>,
}

impl Timers {
    /// Wakes `source` at `deadline` or earlier.
    pub(crate) fn arm(&mut self, source: Source, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        match self.armed.get(&source) {
            Some(armed) if *armed <= deadline => return,
            Some(armed) => {
                self.order.remove(&(*armed, source));
            }
            None => {}
        }
        self.armed.insert(source, deadline);
        self.order.insert((deadline, source));
    }

    /// The next source and its time.
    pub(crate) fn pop(&mut self) -> Option<(Instant, Source)> {
        let (deadline, source) = self.order.pop_first()?;
        self.armed.remove(&source);
        Some((deadline, source))
    }

    pub(crate) fn forget(&mut self, source: Source) {
        if let Some(deadline) = self.armed.remove(&source) {
            self.order.remove(&(deadline, source));
        }
    }
}
