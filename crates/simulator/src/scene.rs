//! What every part of the simulated world shares: the time, the timers, the links, the log and the checkers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::{Duration, Instant};

use crate::check::{Checks, Notice, Rule};
use crate::link::{ConnectionId, End, Network, Sighting};
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
    /// The host starts again.
    Boot,
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
    pub(crate) ports_per_controller: usize,
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

    /// Shows the checkers what went by at the initiator's ends of connections.
    pub(crate) fn take_sightings(&mut self) {
        while let Some(sighting) = self.network.poll_sighting() {
            match sighting {
                Sighting::Pdu { connection, port, toward, seen } => {
                    let group = port / self.ports_per_controller;
                    let group = u16::try_from(group).expect("there are few groups");
                    match self.checks.wire.seen(self.now, connection, group, toward, &seen) {
                        Ok(Some(Notice::CacheDoubtful { unit, connected, for_sure })) => {
                            self.checks.durability.told(unit, connected, for_sure);
                        }
                        Ok(None) => {}
                        Err((rule, text)) => self.checks.found(self.now, rule, Err(text)),
                    }
                    let finding = self.checks.window.seen(connection, toward, &seen);
                    self.checks.found(self.now, Rule::Window, finding);
                }
                Sighting::Closed { connection, was_told } => {
                    self.checks.wire.closed(self.now, connection, was_told);
                    self.checks.window.closed(connection);
                }
            }
        }
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
    /// By how much timers of the host fire late at most, and what decides.
    late: Option<(Duration, Random)>,
}

impl Source {
    /// Whether it is a part of the host that the product runs on.
    pub(crate) const fn is_of_host(self) -> bool {
        matches!(self, Self::Host | Self::Nexus(_) | Self::Server(_))
    }
}

impl Timers {
    /// Wakes `source` at `deadline` or earlier.
    pub(crate) fn arm(&mut self, source: Source, deadline: Option<Instant>) {
        let Some(mut deadline) = deadline else { return };
        if let Some((most, random)) = &mut self.late
            && source.is_of_host()
        {
            deadline = deadline + Duration::from_nanos(random.below(most.as_nanos().max(1)));
        }
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

    /// From now on timers of the host fire late, or in time again.
    pub(crate) fn be_late(&mut self, most: Duration, random: Random) {
        self.late = (most > Duration::ZERO).then_some((most, random));
    }

    /// Nothing of the host is to be woken any more.
    pub(crate) fn forget_host(&mut self) {
        self.order.retain(|(_, source)| !source.is_of_host());
        self.armed.retain(|source, _| !source.is_of_host());
    }

    pub(crate) fn forget(&mut self, source: Source) {
        if let Some(deadline) = self.armed.remove(&source) {
            self.order.remove(&(deadline, source));
        }
    }
}
