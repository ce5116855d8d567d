//! The table of paths: their states, what is in flight on them, and how they have done lately.
//!
//! The table is the owner of the in-flight counts. They are kept under every policy, so that a change of policy
//! finds them right and they are zero when nothing is in flight.

use alloc::vec::Vec;
use clock::{Duration, Instant};

use crate::ticket::Errand;
use crate::{Access, BackOff, Change, Health, Misuse, Node, PathId, PathState, PathStatus, Ticket};

/// Paths of one head, those included that are leaving. Eight times what other multipath systems allow; it bounds
/// the time that `queue-depth` takes to look at them all.
pub const PATHS_MAX: usize = 256;

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Path {
    pub(crate) id: PathId,
    pub(crate) node: Option<Node>,
    pub(crate) state: PathState,
    pub(crate) health: Health,
    pub(crate) in_flight: u32,
    since: Instant,
    started: u64,
    failures: u64,
}

impl Path {
    /// How well it serves a request now, if it may take one.
    pub(crate) const fn selectable(&self) -> Option<Access> {
        match (self.state, self.health) {
            (PathState::Usable(access), Health::Good { .. } | Health::TrialDue { .. }) => Some(access),
            _ => None,
        }
    }

    /// It is worth waiting for: it is usable or may become so by itself.
    fn available(&self, back_off: &BackOff) -> bool {
        match (self.state, self.health) {
            (PathState::Waiting, _) | (PathState::Usable(_), Health::Good { .. }) => true,
            (PathState::Down, _) => false,
            (
                PathState::Usable(_),
                Health::BackedOff { length, .. } | Health::TrialDue { length } | Health::OnTrial { length },
            ) => length < back_off.longest,
        }
    }

    pub(crate) fn status(&self) -> PathStatus {
        PathStatus {
            id: self.id,
            node: self.node,
            state: self.state,
            health: self.health,
            in_flight: self.in_flight,
            since: self.since,
            started: self.started,
            failures: self.failures,
        }
    }

    /// A request came back and the path had done its work. True if the path was out or on trial.
    fn succeeded(&mut self) -> bool {
        let was = core::mem::replace(&mut self.health, Health::Good { failures: 0 });
        !matches!(was, Health::Good { .. })
    }

    /// A request came back failed. Counts towards a back-off only while the path claims to be usable: one that
    /// is known to be away is not used anyhow, and what it drops then says nothing new.
    fn failed(&mut self, now: Instant, errand: Errand, back_off: &BackOff) -> Option<Change> {
        self.failures += 1;
        let usable = matches!(self.state, PathState::Usable(_));
        match self.health {
            Health::Good { failures } if usable => {
                let failures = failures.saturating_add(1);
                self.health = Health::Good { failures };
                (failures >= back_off.failures).then(|| self.back_off(now, back_off.first, failures))
            }
            Health::OnTrial { length } if errand == Errand::Trial && usable => {
                let longer = length.saturating_mul(2).min(back_off.longest);
                Some(self.back_off(now, longer, 1))
            }
            // The path went away under the trial: nothing was learned.
            Health::OnTrial { length } if errand == Errand::Trial => {
                self.health = Health::TrialDue { length };
                None
            }
            _ => None,
        }
    }

    fn back_off(&mut self, now: Instant, length: Duration, failures: u32) -> Change {
        let until = now + length;
        self.health = Health::BackedOff { until, length };
        Change::BackedOff { path: self.id, failures, until }
    }
}

/// A removed path that the driver still has requests of.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
struct Leaving {
    id: PathId,
    in_flight: u32,
}

#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Paths {
    /// In order of arrival.
    present: Vec<Path>,
    leaving: Vec<Leaving>,
}

/// What the end of a request told about its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    Nothing,
    /// The path is out now, or its trial was inconclusive.
    Worse(Option<Change>),
    /// The path takes requests again.
    Restored(PathId),
    Foreign,
}

impl Paths {
    pub(crate) fn present(&self) -> &[Path] {
        &self.present
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    pub(crate) fn position(&self, id: PathId) -> Option<usize> {
        self.present.iter().position(|path| path.id == id)
    }

    /// Requests in flight on paths, removed ones included.
    pub(crate) fn in_flight(&self) -> u64 {
        let present: u64 = self.present.iter().map(|path| u64::from(path.in_flight)).sum();
        let leaving: u64 = self.leaving.iter().map(|path| u64::from(path.in_flight)).sum();
        present + leaving
    }

    pub(crate) fn any_available(&self, back_off: &BackOff) -> bool {
        self.present.iter().any(|path| path.available(back_off))
    }

    pub(crate) fn add(
        &mut self,
        now: Instant,
        id: PathId,
        node: Option<Node>,
        state: PathState,
    ) -> Result<(), Misuse> {
        if self.position(id).is_some() || self.leaving.iter().any(|path| path.id == id) {
            return Err(Misuse::DuplicatePath);
        }
        if self.present.len() + self.leaving.len() >= PATHS_MAX {
            return Err(Misuse::TooManyPaths);
        }
        self.present.push(Path {
            id,
            node,
            state,
            health: Health::Good { failures: 0 },
            in_flight: 0,
            since: now,
            started: 0,
            failures: 0,
        });
        Ok(())
    }

    /// Sets the state; returns the former one. A path that becomes usable need not sit out its back-off: somebody
    /// has just found out that it is back. It keeps its record, though, and is tried with one request.
    pub(crate) fn change(&mut self, now: Instant, position: usize, state: PathState) -> PathState {
        let path = &mut self.present[position];
        let before = core::mem::replace(&mut path.state, state);
        if before != state {
            path.since = now;
        }
        if let (false, PathState::Usable(_), Health::BackedOff { length, .. }) =
            (matches!(before, PathState::Usable(_)), state, path.health)
        {
            path.health = Health::TrialDue { length };
        }
        before
    }

    /// Takes the path out; returns its last status. Its id stays known while requests are in flight on it.
    pub(crate) fn remove(&mut self, position: usize) -> PathStatus {
        let path = self.present.remove(position);
        if path.in_flight > 0 {
            self.leaving.push(Leaving { id: path.id, in_flight: path.in_flight });
        }
        path.status()
    }

    /// One more request is in flight on the path at `position`.
    pub(crate) fn started(&mut self, position: usize) -> (PathId, Errand) {
        let path = &mut self.present[position];
        debug_assert!(path.selectable().is_some(), "a request starts on a selectable path only");
        path.in_flight += 1;
        path.started += 1;
        let Health::TrialDue { length } = path.health else { return (path.id, Errand::Regular) };
        path.health = Health::OnTrial { length };
        (path.id, Errand::Trial)
    }

    /// The request of `ticket` came back; `failed` says whether its path failed it.
    #[inline]
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        ticket: &Ticket,
        failed: bool,
        back_off: &BackOff,
    ) -> Learned {
        let slot = match self.present.get(ticket.slot) {
            Some(path) if path.id == ticket.path => ticket.slot,
            _ => match self.position(ticket.path) {
                Some(position) => position,
                None => return self.ended_leaving(ticket.path),
            },
        };
        let path = &mut self.present[slot];
        let Some(left) = path.in_flight.checked_sub(1) else { return Learned::Foreign };
        path.in_flight = left;
        if failed {
            return Learned::Worse(path.failed(now, ticket.errand, back_off));
        }
        if path.succeeded() { Learned::Restored(path.id) } else { Learned::Nothing }
    }

    fn ended_leaving(&mut self, id: PathId) -> Learned {
        let Some(position) = self.leaving.iter().position(|path| path.id == id) else {
            return Learned::Foreign;
        };
        self.leaving[position].in_flight -= 1;
        if self.leaving[position].in_flight == 0 {
            self.leaving.swap_remove(position);
        }
        Learned::Nothing
    }

    #[cfg(test)]
    pub(crate) fn forget_statistics(&mut self) {
        for path in &mut self.present {
            (path.since, path.started, path.failures) = (Instant::START, 0, 0);
        }
    }

    /// The end of the back-off that ends first.
    pub(crate) fn next_back_off(&self) -> Option<Instant> {
        self.present.iter().filter_map(|path| path.health.back_off_until()).min()
    }

    /// A path whose back-off is over by `now`, now due for its trial.
    pub(crate) fn end_back_off(&mut self, now: Instant) -> Option<PathId> {
        for path in &mut self.present {
            if let Health::BackedOff { until, length } = path.health
                && until <= now
            {
                path.health = Health::TrialDue { length };
                return Some(path.id);
            }
        }
        None
    }
}
