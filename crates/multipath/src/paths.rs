//! The table of paths: their states, what is in flight on them, and how they have done lately.
//!
//! The table is the owner of the in-flight counts. They are kept under every policy, so that a change of policy
//! finds them right and they are zero when nothing is in flight.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use clock::{Duration, Instant};

use crate::gauge::Gauge;
use crate::kind::{Class, Kind, Mark};
use crate::pace::Watch;
use crate::ticket::Errand;
use crate::{
    Access, BackOff, Change, Health, Misuse, Node, PROBATION, PathId, PathState, PathStatus, Ticket, Trial,
    Verdict,
};

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
    /// What is in flight, oldest first; only while somebody watches how long it takes.
    pub(crate) flights: VecDeque<Flight>,
    /// When something came back last, or the first of what is in flight was sent; only while somebody watches.
    heard: Instant,
    pub(crate) gauge: Gauge,
    pub(crate) watch: Watch,
    /// It came back from a back-off of that length a short while ago: until then one failure is enough.
    probation: Option<(Instant, Duration)>,
    since: Instant,
    started: u64,
    failures: u64,
}

/// A request in flight.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Flight {
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    pub(crate) started: Instant,
    /// Its issuer knows that it is late.
    pub(crate) is_told: bool,
}

/// How well a path serves a request, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Optimized,
    NonOptimized,
    /// It is slow: better than none.
    LastResort,
}

impl Path {
    /// How well it serves a request now, if it may take one.
    #[inline]
    pub(crate) const fn rank(&self) -> Option<Rank> {
        match (self.state, self.health) {
            (PathState::Usable(_), Health::Good { .. } | Health::TrialDue { .. }) if self.watch.is_slow() => {
                Some(Rank::LastResort)
            }
            (PathState::Usable(Access::Optimized), Health::Good { .. } | Health::TrialDue { .. }) => {
                Some(Rank::Optimized)
            }
            (PathState::Usable(Access::NonOptimized), Health::Good { .. } | Health::TrialDue { .. }) => {
                Some(Rank::NonOptimized)
            }
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
            pace: self.watch.pace,
            took: self.gauge.mean(Class::SmallRead),
            since: self.since,
            started: self.started,
            failures: self.failures,
        }
    }

    /// A request came back and the path had done its work. True if the path was out or on trial.
    fn succeeded(&mut self, now: Instant) -> bool {
        let length = match core::mem::replace(&mut self.health, Health::Good { failures: 0 }) {
            Health::Good { .. } => return false,
            Health::BackedOff { length, .. } | Health::TrialDue { length } | Health::OnTrial { length } => {
                length
            }
        };
        self.probation = Some((now + PROBATION, length));
        true
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
                match self.probation.filter(|(until, _)| now < *until) {
                    Some((_, length)) => {
                        let longer = length.saturating_mul(2).min(back_off.longest);
                        Some(self.back_off(now, longer, failures))
                    }
                    None => {
                        (failures >= back_off.failures).then(|| self.back_off(now, back_off.first, failures))
                    }
                }
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

    /// A request came back that says nothing of the path. If it was a trial, there is another one.
    fn ended_moot(&mut self, errand: Errand) -> Learned {
        match self.health {
            Health::OnTrial { length } if errand == Errand::Trial => {
                self.health = Health::TrialDue { length };
                Learned::Worse(None)
            }
            _ => Learned::Nothing,
        }
    }

    /// How long nothing has come back, while something is in flight.
    #[inline]
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        if self.flights.is_empty() { Duration::ZERO } else { now.since(self.heard) }
    }

    /// A request that was in flight has come back.
    #[inline]
    fn landed(&mut self, sequence: u64) {
        // Requests come back nearly in order, so that the search is short.
        if let Some(place) = self.flights.iter().position(|flight| flight.sequence == sequence) {
            self.flights.remove(place);
        }
    }

    /// The mark of a request that its issuer is told to be late, once.
    pub(crate) fn tell(&mut self, place: usize) -> Option<Mark> {
        let flight = self.flights.get_mut(place).filter(|flight| !flight.is_told)?;
        flight.is_told = true;
        flight.kind.mark
    }

    fn back_off(&mut self, now: Instant, length: Duration, failures: u32) -> Change {
        let until = now + length;
        self.probation = None;
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
    /// Whether times are taken.
    is_timed: bool,
    trial: Trial,
}

/// What is known of a request that was started.
pub(crate) struct Started {
    pub(crate) path: PathId,
    pub(crate) errand: Errand,
    /// When, if times are taken.
    pub(crate) at: Instant,
    /// Requests that were on the path.
    pub(crate) depth: u32,
}

/// How a canary ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tried {
    /// The path carried it.
    Worked,
    /// The path failed it.
    Failed,
    /// It was not sent, or says nothing of the path.
    Unknown,
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
    pub(crate) const fn new(is_timed: bool, trial: Trial) -> Self {
        Self { present: Vec::new(), leaving: Vec::new(), is_timed, trial }
    }

    pub(crate) fn present(&self) -> &[Path] {
        &self.present
    }

    pub(crate) fn present_mut(&mut self) -> &mut [Path] {
        &mut self.present
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
            flights: VecDeque::new(),
            heard: now,
            gauge: Gauge::default(),
            watch: Watch::default(),
            probation: None,
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
        if !matches!(before, PathState::Usable(_)) && matches!(state, PathState::Usable(_)) {
            // What it took before it was away says nothing of the way that it takes now.
            path.gauge.forget();
            path.watch.steady();
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
    #[inline]
    pub(crate) fn started(&mut self, now: Instant, position: usize, sequence: u64, kind: Kind) -> Started {
        let path = &mut self.present[position];
        debug_assert!(path.rank().is_some(), "a request starts on a selectable path only");
        let depth = path.in_flight;
        path.in_flight += 1;
        path.started += 1;
        let mut at = Instant::START;
        if self.is_timed {
            at = now;
            if depth == 0 {
                path.heard = now;
            }
            path.flights.push_back(Flight { sequence, kind, started: now, is_told: false });
        }
        let errand = match path.health {
            Health::TrialDue { length } => {
                path.health = Health::OnTrial { length };
                Errand::Trial
            }
            _ => Errand::Regular,
        };
        Started { path: path.id, errand, at, depth }
    }

    /// The request of `ticket` came back.
    #[inline]
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        ticket: &Ticket,
        verdict: Verdict,
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
        if self.is_timed {
            if verdict != Verdict::Moot {
                path.heard = now;
            }
            path.landed(ticket.sequence);
        }
        match verdict {
            Verdict::Failover => return Learned::Worse(path.failed(now, ticket.errand, back_off)),
            Verdict::Moot => return path.ended_moot(ticket.errand),
            Verdict::Done | Verdict::Again { .. } => {}
        }
        if self.is_timed {
            path.gauge.record(now, ticket.kind.class, now.since(ticket.started), ticket.depth);
        }
        if path.succeeded(now) { Learned::Restored(path.id) } else { Learned::Nothing }
    }

    /// A canary on the path at `position` has come back, or could not be sent.
    pub(crate) fn tried(
        &mut self,
        now: Instant,
        position: usize,
        tried: Tried,
        back_off: &BackOff,
    ) -> Learned {
        let path = &mut self.present[position];
        match (tried, path.health) {
            (Tried::Worked, _) if path.succeeded(now) => Learned::Restored(path.id),
            (Tried::Worked, _) => Learned::Nothing,
            (Tried::Failed, Health::OnTrial { .. }) => {
                Learned::Worse(path.failed(now, Errand::Trial, back_off))
            }
            (Tried::Failed, _) => Learned::Worse(path.failed(now, Errand::Regular, back_off)),
            // As long again, and not longer: nothing was learned.
            (Tried::Unknown, Health::OnTrial { length }) => {
                Learned::Worse(Some(path.back_off(now, length, 0)))
            }
            (Tried::Unknown, _) => Learned::Nothing,
        }
    }

    /// A path that is to be tried by a canary, and is on trial now.
    pub(crate) fn take_trial(&mut self) -> Option<usize> {
        if self.trial != Trial::Canary {
            return None;
        }
        let is_due = |path: &Path| {
            matches!((path.state, path.health), (PathState::Usable(_), Health::TrialDue { .. }))
        };
        let position = self.present.iter().position(is_due)?;
        let path = &mut self.present[position];
        if let Health::TrialDue { length } = path.health {
            path.health = Health::OnTrial { length };
        }
        Some(position)
    }

    /// Whether times are taken from now on.
    pub(crate) fn set_timed(&mut self, is_timed: bool) {
        self.is_timed = is_timed;
        if !is_timed {
            for path in &mut self.present {
                path.flights.clear();
                path.watch.steady();
            }
        }
    }

    pub(crate) const fn is_timed(&self) -> bool {
        self.is_timed
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
