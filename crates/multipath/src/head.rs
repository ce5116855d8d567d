//! The head: takes requests, gives them to paths, and has three answers to "which path?": this one; none now, so
//! wait; none, so fail.

use alloc::collections::VecDeque;
use clock::{Duration, Instant};

use crate::pace::{Comparison, SILENCE_DEPTH, SILENCE_MIN};
use crate::parking::{Parking, Waiting};
use crate::paths::{Learned, Path, Paths};
use crate::policy::{Selection, Wanted};
use crate::removal::Life;
use crate::ticket::Errand;
use crate::{
    Access, Action, BackOff, Change, Counters, Event, Hedging, Kind, Misuse, NoPath, Node, Options, Outcome,
    PAUSE_MAX, PathId, PathState, PathStatus, Policy, SlowPaths, Status, Ticket, Verdict,
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
    pub(crate) back_off: BackOff,
    pub(crate) slow_paths: SlowPaths,
    pub(crate) hedging: Hedging,
    pub(crate) paths: Paths,
    pub(crate) selection: Selection,
    parking: Parking<R>,
    life: Life,
    /// Since when no path has been available.
    no_path_since: Option<Instant>,
    /// The earliest of all that [`Head::settle`] waits for.
    deadline: Option<Instant>,
    /// When it is looked again at how long requests have been in flight.
    pub(crate) watch_at: Option<Instant>,
    /// Reads that may still be hedged, in 1/100.
    pub(crate) hedges: u32,
    /// When paths were last compared by canaries.
    pub(crate) compared: Option<Instant>,
    pub(crate) comparison: Option<Comparison>,
    /// When it was last said that a path seems to stall and is alone.
    pub(crate) alone: Option<Instant>,
    next_sequence: u64,
    pub(crate) counters: Counters,
    actions: VecDeque<Action<R>>,
}

/// What is known of a request that is started.
struct Start {
    node: Node,
    kind: Kind,
    attempts: u32,
    sequence: u64,
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
        let Options { policy, no_path, delayed_removal, parked_max, retries_max, .. } = options;
        let Options { back_off, trial, slow_paths, hedging, distances, .. } = options;
        Self {
            no_path,
            delayed_removal,
            parked_max,
            retries_max,
            back_off,
            slow_paths,
            hedging,
            paths: Paths::new(is_timed(policy, slow_paths, hedging), trial),
            selection: Selection::new(policy, distances),
            parking: Parking::new(),
            life: Life::Live,
            no_path_since: None,
            deadline: None,
            watch_at: None,
            hedges: 0,
            compared: None,
            alone: None,
            comparison: None,
            next_sequence: 0,
            counters: Counters::default(),
            actions: VecDeque::new(),
        }
    }

    /// Says what happened. Drain [`Head::poll_action`] afterwards. `now` must not go backwards.
    #[inline]
    pub fn handle(&mut self, now: Instant, event: Event<R>) {
        match event {
            Event::Submit { node, kind, request } => self.submit(now, node, kind, request),
            Event::Hedge { node, kind, avoid, request } => self.hedge(now, node, kind, avoid, request),
            Event::Tried { path, tried } => self.tried(now, path, tried),
            Event::Pinged { path, took, peers } => self.pinged(now, path, took, peers),
            Event::SetSlowPaths(slow_paths) => {
                self.slow_paths = slow_paths;
                self.retime(now);
            }
            Event::SetHedging(hedging) => {
                self.hedging = hedging;
                self.retime(now);
            }
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
    fn submit(&mut self, now: Instant, node: Node, kind: Kind, request: R) {
        self.counters.submitted += 1;
        let wanted = Wanted { now, node, class: kind.class };
        if self.life == Life::Live
            && self.parking.none_parked()
            && !self.is_due(now)
            && let Some(position) = self.selection.choose(self.paths.present(), wanted, None)
        {
            let sequence = self.take_sequence();
            return self.start(now, position, Start { node, kind, attempts: 0, sequence }, request);
        }
        self.submit_unusual(now, node, kind, request);
    }

    #[cold]
    #[inline(never)]
    fn submit_unusual(&mut self, now: Instant, node: Node, kind: Kind, request: R) {
        self.settle(now);
        if self.life.is_over() {
            return self.finish(request, Outcome::Removed);
        }
        let sequence = self.take_sequence();
        let wanted = Wanted { now, node, class: kind.class };
        // Whatever is parked now is older, and parked because nothing can be selected.
        if self.parking.none_parked()
            && let Some(position) = self.selection.choose(self.paths.present(), wanted, None)
        {
            return self.start(now, position, Start { node, kind, attempts: 0, sequence }, request);
        }
        if let Patience::Fail = self.patience(now) {
            return self.finish(request, Outcome::NoPath);
        }
        self.counters.parked += 1;
        self.parking.park(sequence, Waiting { node, kind, attempts: 0, avoid: None, request });
        self.trim();
        self.set_deadline();
    }

    /// A second copy of a read that is late: on another path now, or not at all.
    fn hedge(&mut self, now: Instant, node: Node, kind: Kind, avoid: PathId, request: R) {
        self.counters.submitted += 1;
        let wanted = Wanted { now, node, class: kind.class };
        let avoid = self.paths.position(avoid);
        let choice = match self.life {
            Life::Live => self.selection.choose_except(self.paths.present(), wanted, avoid),
            _ => None,
        };
        let Some(position) = choice else { return self.finish(request, Outcome::NoPath) };
        self.counters.hedged += 1;
        let sequence = self.take_sequence();
        let start = Start { node, kind: Kind { mark: None, ..kind }, attempts: 0, sequence };
        self.start_for(now, position, start, Errand::Hedge, request);
    }

    #[inline]
    fn ended(&mut self, now: Instant, ticket: Ticket, request: R, verdict: Verdict) {
        let learned = self.paths.ended(now, &ticket, verdict, &self.back_off);
        if matches!(verdict, Verdict::Done | Verdict::Moot) {
            if verdict == Verdict::Done && ticket.errand == Errand::Regular {
                self.selection.learn(now, ticket.kind.class);
            }
            self.finish(request, Outcome::Done);
            if learned == Learned::Nothing && self.life == Life::Live && !self.is_due(now) {
                if self.is_remarkable(now, &ticket) {
                    self.compare(now, &ticket);
                }
                return;
            }
        } else if ticket.errand == Errand::Hedge {
            self.finish(request, Outcome::NoPath);
        } else {
            self.resend(now, &ticket, request, verdict);
        }
        self.ended_unusual(now, &ticket, learned);
    }

    #[cold]
    #[inline(never)]
    fn ended_unusual(&mut self, now: Instant, ticket: &Ticket, learned: Learned) {
        self.learn(ticket.path, learned);
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
        let Ticket { node, kind, attempts, .. } = *ticket;
        let waiting = Waiting { node, kind, attempts, avoid, request };
        match verdict {
            Verdict::Again { after } if !after.is_zero() => {
                self.counters.parked += 1;
                self.parking.pause(now + after.min(PAUSE_MAX), ticket.sequence, waiting);
            }
            _ => self.parking.park(ticket.sequence, waiting),
        }
    }

    pub(crate) fn learn(&mut self, path: PathId, learned: Learned) {
        match learned {
            Learned::Nothing => {}
            Learned::Worse(change) => self.actions.extend(change.map(Action::Changed)),
            Learned::Restored(path) => {
                self.selection.forget_all();
                self.changed(Change::Restored { path });
            }
            Learned::Foreign => self.refuse(path, Misuse::ForeignTicket),
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
        self.set_watch(now);
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
        if self.comparison.take_if(|comparison| comparison.concerns(path)).is_some() {
            self.set_watch(now);
        }
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
        self.retime(now);
    }

    /// Takes times from now on, or not any more, as the settings ask for.
    fn retime(&mut self, now: Instant) {
        let is_on = is_timed(self.selection.policy(), self.slow_paths, self.hedging);
        if is_on != self.paths.is_timed() {
            self.paths.set_timed(is_on);
        }
        self.set_watch(now);
        self.settle(now);
    }

    /// Does everything that the state of paths, clocks and settings calls for. Iterative: each request is looked
    /// at once.
    pub(crate) fn settle(&mut self, now: Instant) {
        if self.life == Life::Gone {
            return;
        }
        self.parking.end_pauses(now);
        while let Some(path) = self.paths.end_back_off(now) {
            self.selection.forget_all();
            self.changed(Change::TrialDue { path });
        }
        self.send_canaries(now);
        self.notice_availability(now);
        self.start_parked(now);
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

    fn start_parked(&mut self, now: Instant) {
        while let Some((node, kind, avoid)) = self.parking.oldest() {
            let avoid = avoid.and_then(|path| self.paths.position(path));
            let wanted = Wanted { now, node, class: kind.class };
            let Some(position) = self.selection.choose(self.paths.present(), wanted, avoid) else { return };
            let Some((sequence, waiting)) = self.parking.take_oldest() else { return };
            let Waiting { node, kind, attempts, request, .. } = waiting;
            self.start(now, position, Start { node, kind, attempts, sequence }, request);
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
    fn start(&mut self, now: Instant, position: usize, start: Start, request: R) {
        self.start_for(now, position, start, Errand::Regular, request);
    }

    #[inline]
    fn start_for(&mut self, now: Instant, position: usize, start: Start, wanted: Errand, request: R) {
        let Start { node, kind, attempts, sequence } = start;
        self.counters.retried += u64::from(attempts > 0);
        let started = self.paths.started(now, position, sequence, kind);
        let errand = if started.errand == Errand::Regular { wanted } else { started.errand };
        let ticket = Ticket {
            path: started.path,
            slot: position,
            node,
            attempts: attempts.saturating_add(1),
            sequence,
            errand,
            kind,
            started: started.at,
            depth: started.depth,
        };
        if self.paths.is_timed() {
            if self.watch_at.is_none() {
                self.begin_watch(now, position);
            }
            if started.depth + 1 == SILENCE_DEPTH {
                self.watch_by(now + SILENCE_MIN);
            }
        }
        if let Hedging::On { percent } = self.hedging
            && kind.class.is_read()
        {
            self.earn_hedges(percent);
        }
        self.actions.push_back(Action::Start { path: ticket.path, ticket, request });
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
        self.watch_at = self.watch_at.filter(|_| !self.life.is_over());
        self.deadline = [self.parking.next_pause(), back_off, no_path_end, removal, self.watch_at]
            .into_iter()
            .flatten()
            .min();
    }

    /// Looks at what is in flight no later than then.
    pub(crate) fn watch_by(&mut self, at: Instant) {
        if self.watch_at.is_none_or(|watch| at < watch) {
            self.watch_at = Some(at);
            self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
        }
    }

    pub(crate) fn act(&mut self, action: Action<R>) {
        self.actions.push_back(action);
    }

    pub(crate) fn changed(&mut self, change: Change) {
        self.actions.push_back(Action::Changed(change));
    }

    pub(crate) fn refuse(&mut self, path: PathId, misuse: Misuse) {
        self.changed(Change::Refused { path, misuse });
    }
}

/// Whether anybody wants to know how long requests take.
fn is_timed(policy: Policy, slow_paths: SlowPaths, hedging: Hedging) -> bool {
    policy == Policy::Latency || slow_paths == SlowPaths::Demote || hedging != Hedging::Off
}
