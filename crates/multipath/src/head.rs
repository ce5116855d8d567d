//! The head: takes requests, gives them to paths, and has three answers to "which path?": this one; none now, so
//! wait; none, so fail.

use alloc::collections::VecDeque;
use clock::{Duration, Instant};

use crate::parking::{Parking, Waiting};
use crate::paths::{Learned, Path, Paths};
use crate::policy::Selection;
use crate::removal::Life;
use crate::{
    Access, Action, BackOff, Change, Counters, Event, Misuse, NoPath, Node, Options, Outcome, PAUSE_MAX,
    PathId, PathState, PathStatus, Policy, Status, Ticket, Verdict,
};

/// One logical unit: its paths, and the requests that wait for one.
///
/// What holds after each [`Head::handle`]:
/// - every submitted request is in flight, waits here, or has been finished, exactly one of these;
/// - nothing is parked while a path may be selected;
/// - requests that wait start in the order of their submission, a re-sent one before younger ones.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub struct Head<R> {
    no_path: NoPath,
    delayed_removal: Duration,
    parked_max: usize,
    retries_max: u32,
    back_off: BackOff,
    paths: Paths,
    selection: Selection,
    parking: Parking<R>,
    life: Life,
    /// Since when no path has been available.
    no_path_since: Option<Instant>,
    /// The earliest of all that [`Head::settle`] waits for.
    deadline: Option<Instant>,
    next_sequence: u64,
    counters: Counters,
    actions: VecDeque<Action<R>>,
}

/// The answer to "which path?" for a request that is not being sent.
enum Patience {
    Wait,
    Fail,
}

impl<R> Head<R> {
    /// A head without paths: the no-path policy applies until one is added.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options { policy, no_path, delayed_removal, parked_max, retries_max, back_off, distances } =
            options;
        Self {
            no_path,
            delayed_removal,
            parked_max,
            retries_max,
            back_off,
            paths: Paths::default(),
            selection: Selection::new(policy, distances),
            parking: Parking::new(),
            life: Life::Live,
            no_path_since: None,
            deadline: None,
            next_sequence: 0,
            counters: Counters::default(),
            actions: VecDeque::new(),
        }
    }

    /// Says what happened. Drain [`Head::poll_action`] afterwards. `now` must not go backwards.
    #[inline]
    pub fn handle(&mut self, now: Instant, event: Event<R>) {
        match event {
            Event::Submit { node, request } => self.submit(now, node, request),
            Event::Ended { ticket, request, verdict } => self.ended(now, ticket, request, verdict),
            Event::PathAdded { path, node, state } => self.path_added(now, path, node, state),
            Event::PathChanged { path, state } => self.path_changed(now, path, state),
            Event::PathRemoved { path } => self.path_removed(now, path),
            Event::SetPolicy(policy) => self.set_policy(now, policy),
            Event::SetNoPath(no_path) => {
                self.no_path = no_path;
                self.settle(now);
            }
            Event::SetDelayedRemoval(delay) => {
                self.delayed_removal = delay;
                self.settle(now);
            }
            Event::Remove => {
                self.end_life();
                self.settle(now);
            }
            Event::Timeout => self.settle(now),
        }
    }

    /// What to do next, in order; `None` when all is done.
    #[inline]
    pub fn poll_action(&mut self) -> Option<Action<R>> {
        self.actions.pop_front()
    }

    /// When to call [`Head::handle`] with [`Event::Timeout`].
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether a request that finds no path fails now instead of waiting for one: for what its owner holds back.
    #[must_use]
    pub fn refuses(&self, now: Instant) -> bool {
        self.life.is_over() || matches!(self.patience(now), Patience::Fail)
    }

    /// The paths in order of arrival.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = PathStatus> {
        self.paths.present().iter().map(Path::status)
    }

    /// The path that a request of this node would take if it came now.
    #[must_use]
    pub fn next_path(&self, node: Node) -> Option<PathId> {
        let position = self.selection.clone().choose(self.paths.present(), node, None)?;
        Some(self.paths.present()[position].id)
    }

    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            policy: self.selection.policy(),
            paths: self.paths.present().len(),
            in_flight: self.paths.in_flight(),
            parked: self.parking.parked(),
            pausing: self.parking.pausing(),
            no_path_since: self.no_path_since,
            removal_at: self.life.removal_at(self.delayed_removal),
            counters: self.counters,
        }
    }

    /// Zeroes what is only counted for display, so that equal heads compare equal.
    #[cfg(test)]
    pub(crate) fn forget_statistics(&mut self) {
        self.counters = Counters::default();
        self.paths.forget_statistics();
    }

    #[inline]
    fn submit(&mut self, now: Instant, node: Node, request: R) {
        self.counters.submitted += 1;
        if self.life == Life::Live
            && self.parking.none_parked()
            && !self.is_due(now)
            && let Some(position) = self.selection.choose(self.paths.present(), node, None)
        {
            let sequence = self.take_sequence();
            return self.start(position, node, 0, sequence, request);
        }
        self.submit_unusual(now, node, request);
    }

    #[cold]
    #[inline(never)]
    fn submit_unusual(&mut self, now: Instant, node: Node, request: R) {
        self.settle(now);
        if self.life.is_over() {
            return self.finish(request, Outcome::Removed);
        }
        let sequence = self.take_sequence();
        // Whatever is parked now is older, and parked because nothing can be selected.
        if self.parking.none_parked()
            && let Some(position) = self.selection.choose(self.paths.present(), node, None)
        {
            return self.start(position, node, 0, sequence, request);
        }
        if let Patience::Fail = self.patience(now) {
            return self.finish(request, Outcome::NoPath);
        }
        self.counters.parked += 1;
        self.parking.park(sequence, Waiting { node, attempts: 0, avoid: None, request });
        self.trim();
        self.set_deadline();
    }

    #[inline]
    fn ended(&mut self, now: Instant, ticket: Ticket, request: R, verdict: Verdict) {
        let failed = verdict == Verdict::Failover;
        let learned = self.paths.ended(now, &ticket, failed, &self.back_off);
        if verdict == Verdict::Done {
            self.finish(request, Outcome::Done);
            if learned == Learned::Nothing && self.life == Life::Live && !self.is_due(now) {
                return;
            }
        } else {
            self.resend(now, &ticket, request, verdict);
        }
        self.ended_unusual(now, &ticket, learned);
    }

    #[cold]
    #[inline(never)]
    fn ended_unusual(&mut self, now: Instant, ticket: &Ticket, learned: Learned) {
        self.learn(ticket, learned);
        self.settle(now);
        self.counters.parked += u64::from(self.parking.holds_parked(ticket.sequence));
    }

    const fn take_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// Takes back a request that is to be sent once more, if it may.
    #[cold]
    #[inline(never)]
    fn resend(&mut self, now: Instant, ticket: &Ticket, request: R, verdict: Verdict) {
        let failed = verdict == Verdict::Failover;
        self.counters.failed_over += u64::from(failed);
        if self.life.is_over() {
            return self.finish(request, Outcome::Removed);
        }
        if ticket.attempts > self.retries_max {
            return self.finish(request, Outcome::RetriesExhausted);
        }
        let avoid = failed.then_some(ticket.path);
        let waiting = Waiting { node: ticket.node, attempts: ticket.attempts, avoid, request };
        match verdict {
            Verdict::Again { after } if !after.is_zero() => {
                self.counters.parked += 1;
                self.parking.pause(now + after.min(PAUSE_MAX), ticket.sequence, waiting);
            }
            _ => self.parking.park(ticket.sequence, waiting),
        }
    }

    fn learn(&mut self, ticket: &Ticket, learned: Learned) {
        match learned {
            Learned::Nothing => {}
            Learned::Worse(change) => self.actions.extend(change.map(Action::Changed)),
            Learned::Restored(path) => {
                self.selection.forget_all();
                self.changed(Change::Restored { path });
            }
            Learned::Foreign => self.refuse(ticket.path, Misuse::ForeignTicket),
        }
    }

    fn path_added(&mut self, now: Instant, path: PathId, node: Option<Node>, state: PathState) {
        if self.life.is_over() {
            return self.refuse(path, Misuse::Ending);
        }
        if let Err(misuse) = self.paths.add(now, path, node, state) {
            return self.refuse(path, misuse);
        }
        self.changed(Change::PathAdded { path, state });
        if let Life::Emptied { .. } = self.life {
            self.life = Life::Live;
            self.changed(Change::RemovalCancelled);
        }
        if state == PathState::Usable(Access::Optimized) {
            self.selection.forget_all();
        }
        self.settle(now);
    }

    fn path_changed(&mut self, now: Instant, path: PathId, state: PathState) {
        let Some(position) = self.paths.position(path) else {
            return self.refuse(path, Misuse::UnknownPath);
        };
        let from = self.paths.change(now, position, state);
        if from == state {
            return;
        }
        self.changed(Change::Path { path, from, to: state });
        if state == PathState::Usable(Access::Optimized) {
            self.selection.forget_all();
        }
        self.settle(now);
    }

    fn path_removed(&mut self, now: Instant, path: PathId) {
        let Some(position) = self.paths.position(path) else {
            return self.refuse(path, Misuse::UnknownPath);
        };
        self.paths.remove(position);
        self.selection.removed(position);
        self.changed(Change::PathRemoved { path });
        if self.paths.is_empty() && self.life == Life::Live {
            self.life = Life::Emptied { since: now };
            if !self.delayed_removal.is_zero() {
                self.changed(Change::RemovalArmed { at: now + self.delayed_removal });
            }
        }
        self.settle(now);
    }

    fn set_policy(&mut self, now: Instant, policy: Policy) {
        self.selection.set_policy(policy);
        self.settle(now);
    }

    /// Does everything that the state of paths, clocks and settings calls for. Iterative: each request is looked
    /// at once.
    fn settle(&mut self, now: Instant) {
        if self.life == Life::Gone {
            return;
        }
        self.parking.end_pauses(now);
        while let Some(path) = self.paths.end_back_off(now) {
            self.selection.forget_all();
            self.changed(Change::TrialDue { path });
        }
        self.notice_availability(now);
        self.start_parked();
        if let Patience::Fail = self.patience(now) {
            self.finish_parked(Outcome::NoPath);
        }
        self.trim();
        if self.life.removal_at(self.delayed_removal).is_some_and(|at| at <= now) {
            debug_assert!(self.paths.is_empty(), "a head with a path is live");
            self.end_life();
        }
        if self.life == Life::Ending && self.paths.in_flight() == 0 {
            self.life = Life::Gone;
            self.actions.push_back(Action::Gone);
        }
        self.set_deadline();
    }

    /// Keeps the time since when no path has been available.
    fn notice_availability(&mut self, now: Instant) {
        match (self.paths.any_available(&self.back_off), self.no_path_since) {
            (true, Some(_)) => {
                self.no_path_since = None;
                self.changed(Change::PathAvailable);
            }
            (false, None) => {
                self.no_path_since = Some(now);
                self.changed(Change::NoPath);
            }
            (true, None) | (false, Some(_)) => {}
        }
    }

    fn start_parked(&mut self) {
        while let Some((node, avoid)) = self.parking.oldest() {
            let avoid = avoid.and_then(|path| self.paths.position(path));
            let Some(position) = self.selection.choose(self.paths.present(), node, avoid) else { return };
            let Some((sequence, waiting)) = self.parking.take_oldest() else { return };
            let Waiting { node, attempts, request, .. } = waiting;
            self.start(position, node, attempts, sequence, request);
        }
    }

    /// What a request does that finds no path to go on.
    fn patience(&self, now: Instant) -> Patience {
        let Some(since) = self.no_path_since else { return Patience::Wait };
        let waits = match self.no_path {
            // While the delayed removal runs everything waits: that is what it is for.
            _ if matches!(self.life, Life::Emptied { .. }) => true,
            NoPath::Fail => false,
            NoPath::QueueFor(time) => now < since + time,
            NoPath::Queue => true,
        };
        if waits { Patience::Wait } else { Patience::Fail }
    }

    #[inline]
    fn start(&mut self, position: usize, node: Node, attempts: u32, sequence: u64, request: R) {
        self.counters.retried += u64::from(attempts > 0);
        let (path, errand) = self.paths.started(position);
        let ticket =
            Ticket { path, slot: position, node, attempts: attempts.saturating_add(1), sequence, errand };
        self.actions.push_back(Action::Start { path, ticket, request });
    }

    #[inline]
    fn finish(&mut self, request: R, outcome: Outcome) {
        self.counters.finished += 1;
        match outcome {
            Outcome::NoPath => self.counters.no_path += 1,
            Outcome::RetriesExhausted => self.counters.retries_exhausted += 1,
            Outcome::Done | Outcome::Removed => {}
        }
        self.actions.push_back(Action::Finish { request, outcome });
    }

    fn finish_parked(&mut self, outcome: Outcome) {
        while let Some((_, waiting)) = self.parking.take_oldest() {
            self.finish(waiting.request, outcome);
        }
    }

    /// Holds the limit on requests that wait: the youngest goes, since the older have waited longer.
    fn trim(&mut self) {
        while self.parking.len() > self.parked_max {
            let Some(youngest) = self.parking.take_youngest() else { return };
            self.finish(youngest.request, Outcome::NoPath);
        }
    }

    fn end_life(&mut self) {
        if self.life.is_over() {
            return;
        }
        self.life = Life::Ending;
        self.changed(Change::Ending);
        self.parking.end_all_pauses();
        self.finish_parked(Outcome::Removed);
    }

    #[inline]
    fn is_due(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn set_deadline(&mut self) {
        let no_path_end = match (self.no_path, self.no_path_since) {
            (NoPath::QueueFor(time), Some(since))
                if self.life == Life::Live && !self.parking.none_parked() =>
            {
                Some(since + time)
            }
            _ => None,
        };
        let removal = self.life.removal_at(self.delayed_removal);
        let back_off = if self.life.is_over() { None } else { self.paths.next_back_off() };
        self.deadline =
            [self.parking.next_pause(), back_off, no_path_end, removal].into_iter().flatten().min();
    }

    fn changed(&mut self, change: Change) {
        self.actions.push_back(Action::Changed(change));
    }

    fn refuse(&mut self, path: PathId, misuse: Misuse) {
        self.changed(Change::Refused { path, misuse });
    }
}
