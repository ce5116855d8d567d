//! A head together with what its driver knows, and everything that must hold between the two after each event.

use alloc::vec::Vec;
use clock::{Duration, Instant};

use super::QUICK;
use crate::{
    Action, Change, Class, Event, Head, Health, Kind, Mark, NoPath, Node, Options, Outcome, PathId,
    PathState, Ticket, Tried, Verdict,
};

#[derive(Clone, Hash)]
pub(super) struct World {
    pub(super) head: Head<u32>,
    pub(super) now: Instant,
    no_path: NoPath,
    /// The driver's own list of paths.
    pub(super) paths: Vec<(PathId, PathState)>,
    pub(super) in_flight: Vec<(Ticket, u32)>,
    /// Requests that the head holds; with the end of the pause if it was asked for one.
    held: Vec<(u32, Option<Instant>)>,
    pub(super) submitted: u32,
    finished: u32,
    removed: bool,
    gone: bool,
    /// Canaries that are out.
    pub(super) canaries: Vec<PathId>,
}

impl World {
    pub(super) fn new(options: Options) -> Self {
        Self {
            no_path: options.no_path,
            head: Head::new(options),
            now: Instant::START,
            paths: Vec::new(),
            in_flight: Vec::new(),
            held: Vec::new(),
            submitted: 0,
            finished: 0,
            removed: false,
            gone: false,
            canaries: Vec::new(),
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn submit(&mut self, node: u16) {
        let request = self.submitted;
        self.submitted += 1;
        self.held.push((request, None));
        let class = if request.is_multiple_of(3) { Class::SmallWrite } else { Class::SmallRead };
        let kind = Kind { class, mark: Some(Mark(request)) };
        self.tell(Event::Submit { node: Node(node), kind, request });
    }

    pub(super) fn end(&mut self, position: usize, verdict: Verdict) {
        let (ticket, request) = self.in_flight.remove(position);
        let pause = match verdict {
            Verdict::Again { after } if !after.is_zero() => Some(self.now + after),
            _ => None,
        };
        self.held.push((request, pause));
        self.tell(Event::Ended { ticket, request, verdict });
    }

    /// Adds, changes, or with `None` removes a path.
    pub(super) fn path(&mut self, path: PathId, node: Option<Node>, state: Option<PathState>) {
        let position = self.paths.iter().position(|(known, _)| *known == path);
        match (position, state) {
            (Some(position), Some(state)) => {
                self.paths[position].1 = state;
                self.tell(Event::PathChanged { path, state });
            }
            (Some(position), None) => {
                self.paths.remove(position);
                // Nobody waits for its canary any more.
                self.canaries.retain(|canary| *canary != path);
                self.tell(Event::PathRemoved { path });
            }
            (None, Some(state)) => {
                let leaving = self.in_flight.iter().any(|(ticket, _)| ticket.path() == path);
                if !leaving && !self.removed {
                    self.paths.push((path, state));
                }
                self.tell(Event::PathAdded { path, node, state });
            }
            (None, None) => self.tell(Event::PathRemoved { path }),
        }
    }

    pub(super) fn set_no_path(&mut self, no_path: NoPath) {
        self.no_path = no_path;
        self.tell(Event::SetNoPath(no_path));
    }

    pub(super) fn tried(&mut self, which: usize, tried: Tried) {
        let path = self.canaries.remove(which);
        self.tell(Event::Tried { path, tried });
    }

    pub(super) fn remove(&mut self) {
        self.tell(Event::Remove);
    }

    /// Goes to the armed timer; false if there is none.
    pub(super) fn timeout(&mut self) -> bool {
        let Some(at) = self.head.poll_timeout() else { return false };
        self.now = at.max(self.now);
        self.tell(Event::Timeout);
        true
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.tell(Event::Timeout);
    }

    pub(super) fn tell(&mut self, event: Event<u32>) {
        self.head.handle(self.now, event);
        let (mut started, mut outcomes) = (Vec::new(), Vec::new());
        while let Some(action) = self.head.poll_action() {
            self.take(action, &mut started, &mut outcomes);
        }
        self.check_outcomes(&outcomes);
        self.check_order(&started);
        self.check_counts();
        self.check_parking();
        self.check_timers();
    }

    fn take(&mut self, action: Action<u32>, started: &mut Vec<u32>, outcomes: &mut Vec<Outcome>) {
        match action {
            Action::Start { path, ticket, request } => {
                assert!(!self.gone && !self.removed, "started by a head that is going");
                let state = self.paths.iter().find(|(known, _)| *known == path).map(|(_, state)| *state);
                assert!(matches!(state, Some(PathState::Usable(_))), "started on {path} which is {state:?}");
                self.let_go(request);
                self.in_flight.push((ticket, request));
                started.push(request);
            }
            Action::Finish { request, outcome } => {
                self.let_go(request);
                self.finished += 1;
                outcomes.push(outcome);
            }
            Action::Try { path } => {
                assert!(!self.canaries.contains(&path), "two canaries on {path}");
                self.canaries.push(path);
            }
            Action::Late { path, mark, .. } => {
                let is_there =
                    |(ticket, request): &(Ticket, u32)| *request == mark.0 && ticket.path() == path;
                assert!(self.in_flight.iter().any(is_there), "{mark:?} is not in flight on {path}");
            }
            Action::Gone => {
                assert!(!self.gone, "gone twice");
                assert!(self.in_flight.is_empty() && self.held.is_empty(), "gone with requests");
                self.gone = true;
                self.removed = true;
            }
            Action::Changed(change) => self.removed |= change == Change::Ending,
        }
    }

    /// No request fails for want of a path while one is there or may come back by itself, or the head waits for one.
    /// (No test here reaches the limit on parked requests.)
    fn check_outcomes(&self, outcomes: &[Outcome]) {
        assert!(!outcomes.contains(&Outcome::Removed) || self.is_ending(), "removed from a head that stays");
        if !outcomes.contains(&Outcome::NoPath) {
            return;
        }
        for path in self.head.paths() {
            let hopeless = match (path.state, path.health) {
                (PathState::Down, _) => true,
                (PathState::Waiting, _) | (_, Health::Good { .. } | Health::TrialDue { .. }) => false,
                (_, Health::BackedOff { length, .. } | Health::OnTrial { length }) => length >= QUICK.longest,
            };
            assert!(hopeless, "failed for want of a path although {path}");
        }
        assert!(self.no_path != NoPath::Queue, "failed although requests are to wait");
        assert!(self.head.status().removal_at.is_none(), "failed although the head waits for a path");
    }

    fn is_ending(&self) -> bool {
        self.removed || self.gone
    }

    /// The head gives up a request that it must have held: so none is started or finished twice.
    fn let_go(&mut self, request: u32) {
        let position = self.held.iter().position(|(held, _)| *held == request);
        let position = position.expect("a request leaves the head once for each time it comes");
        self.held.remove(position);
    }

    fn parked(&self) -> impl Iterator<Item = u32> {
        let waits = |pause: &Option<Instant>| pause.is_none_or(|until| until <= self.now);
        self.held.iter().filter(move |(_, pause)| waits(pause)).map(|(request, _)| *request)
    }

    fn check_order(&self, started: &[u32]) {
        assert!(started.is_sorted(), "started out of order: {started:?}");
        if let (Some(last), Some(oldest)) = (started.last(), self.parked().min()) {
            assert!(*last < oldest, "request {last} overtook {oldest}");
        }
    }

    fn check_counts(&self) {
        let status = self.head.status();
        let held = self.held.len();
        assert_eq!(self.finished as usize + self.in_flight.len() + held, self.submitted as usize);
        assert_eq!(status.parked + status.pausing, held, "held by the head");
        assert_eq!(status.in_flight, self.in_flight.len() as u64);
        for path in self.head.paths() {
            let tickets = self.in_flight.iter().filter(|(ticket, _)| ticket.path() == path.id).count();
            assert_eq!(path.in_flight as usize, tickets, "depth of {}", path.id);
        }
        let table: Vec<_> = self.head.paths().map(|path| (path.id, path.state)).collect();
        assert_eq!(table, self.paths, "the table is what the driver said");
    }

    /// Nothing is parked while a path may be selected, or with neither hope nor a policy that says wait.
    fn check_parking(&self) {
        if self.parked().next().is_none() {
            return;
        }
        let selectable = |health| matches!(health, Health::Good { .. } | Health::TrialDue { .. });
        let mut hope = false;
        for path in self.head.paths() {
            match path.state {
                PathState::Usable(_) => {
                    assert!(!selectable(path.health), "parked although {path}");
                    hope = true;
                }
                PathState::Waiting => hope = true,
                PathState::Down => {}
            }
        }
        let armed = self.head.status().removal_at.is_some();
        assert!(hope || armed || self.no_path != NoPath::Fail, "parked for ever");
        assert!(!self.is_ending(), "parked in a head that is going");
    }

    /// Whatever time must bring about has its timer.
    fn check_timers(&self) {
        let timer = self.head.poll_timeout();
        let status = self.head.status();
        let armed_by = |at: Instant| timer.is_some_and(|timer| timer <= at);
        if self.is_ending() {
            assert_eq!(status.parked + status.pausing, 0);
            return;
        }
        for path in self.head.paths() {
            if let Health::BackedOff { until, .. } = path.health {
                assert!(armed_by(until), "{path} has no timer");
            }
        }
        for until in self.held.iter().filter_map(|(_, pause)| *pause).filter(|until| *until > self.now) {
            assert!(armed_by(until), "a pause has no timer");
        }
        assert!(status.removal_at.is_none_or(armed_by), "delayed removal has no timer");
        if let (NoPath::QueueFor(time), Some(since), None) =
            (self.no_path, status.no_path_since, status.removal_at)
            && status.parked > 0
        {
            assert!(armed_by(since + time), "the no-path time has no timer");
            assert!(self.now < since + time, "parked beyond the no-path time");
        }
    }
}
