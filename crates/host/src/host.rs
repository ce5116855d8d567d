//! The machine as a whole: who is told what, who has something to say, and how it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::Instant;
use iscsi::initiator::{self, Session};
use multipath::PathId;
use scsi_multipath::{Context, TargetId};

use crate::access::AccessPace;
use crate::activation::Activations;
use crate::agenda::{Agenda, Source};
use crate::config::Options;
use crate::disks::{Disks, Path};
use crate::event::{Action, DiskIndex, Event, NexusIndex, Trace};
use crate::failover::{Bounced, Failover};
use crate::log::Log;
use crate::memory::Memory;
use crate::nexus::Nexus;
use crate::reports::Reports;
use crate::timers::Timers;
use crate::verbs::{self, Drain, Drains, Holds};

/// See the crate's documentation.
#[derive(Debug)]
pub struct Host {
    pub(crate) options: Options,
    pub(crate) now: Instant,
    pub(crate) life: Life,
    pub(crate) nexuses: Vec<Nexus>,
    pub(crate) disks: Disks,
    pub(crate) paths: BTreeMap<PathId, Path>,
    /// Paths that may be forgotten once their disks have said what they have to say: one may want a fence yet.
    pub(crate) leaving: Vec<PathId>,
    pub(crate) path_ids: u32,
    pub(crate) memory: Memory,
    pub(crate) access: AccessPace,
    pub(crate) reports: Reports,
    /// Targets that refuse the extended header of the port groups.
    pub(crate) short_headers: BTreeSet<TargetId>,
    pub(crate) activations: Activations,
    pub(crate) timers: Timers<Source>,
    /// Machines that were told something and whose actions were not yet taken.
    pub(crate) touched: Agenda,
    /// Machines to arm a timer for, and sessions to flush, when all else is done.
    dirty: Agenda,
    /// The disk whose actions are being taken.
    draining: Option<u32>,
    /// Kept for its memory: what one session says at once.
    pub(crate) session_actions: Vec<initiator::Action<Context>>,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) log: Log,
    /// What operators keep out.
    pub(crate) holds: Holds,
    pub(crate) drains: Drains,
    pub(crate) failovers: Vec<Failover>,
    pub(crate) bounced: Vec<Bounced>,
    /// Commands of disks that came back, ever.
    pub(crate) answered: u64,
    /// A disk went while something was still owed to it.
    pub(crate) left_open: bool,
    pub(crate) is_traced: bool,
}

/// Where the host is in its life. It goes one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Open,
    /// Disks flush and go; sessions still serve them.
    EndingDisks,
    /// Sessions log out.
    EndingSessions,
    Ended,
}

impl Host {
    #[must_use]
    pub fn new(mut options: Options) -> Self {
        let mut inherited = options.inherited.take();
        let holds = inherited.as_mut().map(|state| std::mem::take(&mut state.holds)).unwrap_or_default();
        Self {
            memory: Memory::new(inherited),
            disks: Disks::new(options.disks),
            options,
            now: Instant::START,
            life: Life::Open,
            nexuses: Vec::new(),
            paths: BTreeMap::new(),
            leaving: Vec::new(),
            path_ids: 0,
            access: AccessPace::default(),
            reports: Reports::new(),
            short_headers: BTreeSet::new(),
            activations: Activations::default(),
            timers: Timers::new(),
            touched: Agenda::default(),
            dirty: Agenda::default(),
            draining: None,
            session_actions: Vec::new(),
            actions: VecDeque::new(),
            log: Log::default(),
            holds: verbs::recalled(holds),
            drains: Drains::new(),
            failovers: Vec::new(),
            bounced: Vec::new(),
            answered: 0,
            left_open: false,
            is_traced: false,
        }
    }

    /// Says what happened. Several events may be given before the actions are taken: what they lead to is worked out
    /// in [`Host::poll_action`], once for all of them. `now` must not go backwards.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.now = now;
        match event {
            Event::Start => self.open_portals(),
            Event::Touched { nexus } => self.touched.add(Source::Nexus(nexus.0)),
            Event::Flushed { nexus } => self.flushed(nexus.0),
            Event::Block { disk, request } => self.submit(disk.0, request),
            Event::Connected { nexus, challenge } => self.log_in(nexus.0, challenge),
            Event::ConnectFailed { nexus, why } => self.connect_failed(nexus.0, why),
            Event::Closed { nexus, loss, why } => self.closed(nexus.0, loss, why),
            Event::Credentials(chap) => self.set_credentials(chap),
            Event::SetPolicy(policy) => self.set_policy(policy),
            Event::Verb { ticket, verb } => self.verb(ticket, verb),
            Event::Waive { disk } => self.waive(disk.map(|disk| disk.0)),
            Event::Persisted => self.persisted(),
            Event::NotPersisted => self.not_persisted(),
            Event::Shutdown => self.shut_down(),
            Event::Timeout => {
                while let Some(source) = self.timers.pop(now) {
                    match source {
                        Source::Nexus(index) => self.expire_nexus(index),
                        Source::Disk(disk) => self.tell_disk(disk, scsi_multipath::Event::Timeout),
                        Source::Access => self.touched.add(Source::Access),
                        Source::Own => {
                            self.expire_drains();
                            self.expire_failovers();
                            self.arm_own();
                        }
                    }
                }
            }
        }
    }

    /// What to do next, in order; `None` when no machine has anything more to say.
    pub fn poll_action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if let Some(disk) = self.draining {
                if let Some(action) = self.drain_disk(disk) {
                    return Some(action);
                }
                self.draining = None;
                self.trace(|| Trace::Settled { disk: DiskIndex(disk) });
            } else if let Some(source) = self.touched.next() {
                match source {
                    Source::Nexus(index) => self.drain_nexus(index),
                    Source::Disk(disk) => self.draining = Some(disk),
                    Source::Access => self.drain_access(),
                    Source::Own => {}
                }
                self.dirty.add(source);
            } else if self.has_drained() || self.has_failed_over() {
                // Somebody is told.
            } else if let Some(source) = self.dirty.next() {
                match source {
                    Source::Nexus(index) if self.nexuses[index as usize].is_open() => {
                        return Some(Action::Flush { nexus: NexusIndex(index) });
                    }
                    Source::Nexus(_) | Source::Own => {}
                    Source::Disk(disk) => self.arm_disk(disk),
                    Source::Access => {
                        self.timers.arm(Source::Access, self.access.poll_timeout());
                        self.timers.arm(Source::Access, self.activations.poll_timeout());
                    }
                }
            } else if let Some(action) = self.poll_memory() {
                return Some(action);
            } else if !self.advance_life() {
                return None;
            }
        }
    }

    /// When to call [`Host::handle`] with [`Event::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The session of a nexus that is connected: to receive into, and to send from.
    pub fn session_mut(&mut self, nexus: NexusIndex) -> Option<&mut Session<Context>> {
        self.nexuses.get_mut(nexus.0 as usize).and_then(Nexus::session_mut)
    }

    /// Whether every command of a disk, and what disks report, shows as [`Action::Trace`]. It costs a little for each
    /// command.
    pub const fn set_trace(&mut self, is_traced: bool) {
        self.is_traced = is_traced;
    }

    pub(crate) fn arm_own(&mut self) {
        let drains = self.drains.iter().map(Drain::deadline);
        let deadline = drains.chain(self.failovers.iter().map(Failover::deadline)).min();
        self.timers.arm(Source::Own, deadline);
    }

    fn shut_down(&mut self) {
        if self.life == Life::Open {
            self.life = Life::EndingDisks;
            self.give_up_drains();
            self.shut_down_disks();
        }
    }

    /// Goes on with an end as far as it can. True if there may be more to do.
    fn advance_life(&mut self) -> bool {
        match self.life {
            Life::EndingDisks if self.disks.are_gone() => {
                self.life = Life::EndingSessions;
                self.shut_down_nexuses();
            }
            Life::EndingSessions if self.nexuses.iter().all(Nexus::has_ended) => {
                if !self.is_remembered() {
                    return self.memory.is_to_store();
                }
                self.life = Life::Ended;
                self.actions.push_back(Action::Ended { clean: !self.left_open });
            }
            Life::Open | Life::EndingDisks | Life::EndingSessions | Life::Ended => return false,
        }
        true
    }

    pub(crate) fn trace(&mut self, trace: impl FnOnce() -> Trace) {
        if self.is_traced {
            self.actions.push_back(Action::Trace(trace()));
        }
    }
}
