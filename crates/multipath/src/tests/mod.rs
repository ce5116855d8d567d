mod exhaustive;
mod histories;
mod parking;
mod policy;
mod removal;
mod retry;
mod seed_defects;
mod slow;
mod status;
mod world;

use alloc::vec::Vec;
use clock::{Duration, Instant};

use crate::{
    Access, Action, BackOff, Change, Event, Head, Kind, Lag, Mark, NoPath, Node, Options, Outcome, PathId,
    PathState, Policy, Ticket, Tried, Verdict,
};

const OPTIMIZED: PathState = PathState::Usable(Access::Optimized);
const NON_OPTIMIZED: PathState = PathState::Usable(Access::NonOptimized);

/// What a test says and sees: a head, a clock, and what is in flight.
struct Bench {
    head: Head<u32>,
    now: Instant,
    in_flight: Vec<(Ticket, u32)>,
    changes: Vec<Change>,
    /// What new requests are.
    kind: Kind,
}

/// What a head did with requests, changes left out.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    /// Request, path.
    Start(u32, u32),
    Finish(u32, Outcome),
    /// A canary on this path.
    Try(u32),
    /// Path, mark.
    Late(u32, u32, Lag),
    Gone,
}

use Did::{Finish, Gone, Late, Start, Try};

impl Bench {
    fn new(options: Options) -> Self {
        Self {
            head: Head::new(options),
            now: Instant::START,
            in_flight: Vec::new(),
            changes: Vec::new(),
            kind: Kind::default(),
        }
    }

    /// Paths P0, P1, … in these states.
    fn with_paths(options: Options, states: &[PathState]) -> Self {
        let mut bench = Self::new(options);
        for (path, state) in (0..).zip(states) {
            assert_eq!(bench.add(path, *state), []);
        }
        bench.changes.clear();
        bench
    }

    fn tell(&mut self, event: Event<u32>) -> Vec<Did> {
        self.head.handle(self.now, event);
        let mut did = Vec::new();
        while let Some(action) = self.head.poll_action() {
            match action {
                Action::Start { path, ticket, request } => {
                    assert_eq!(ticket.path(), path);
                    did.push(Start(request, path.0));
                    self.in_flight.push((ticket, request));
                }
                Action::Finish { request, outcome } => did.push(Finish(request, outcome)),
                Action::Try { path } => did.push(Try(path.0)),
                Action::Late { path, mark, why } => did.push(Late(path.0, mark.0, why)),
                Action::Gone => did.push(Gone),
                Action::Changed(change) => self.changes.push(change),
            }
        }
        did
    }

    fn submit(&mut self, request: u32) -> Vec<Did> {
        self.submit_on(0, request)
    }

    fn submit_on(&mut self, node: u16, request: u32) -> Vec<Did> {
        let kind = Kind { mark: self.kind.mark.map(|_| Mark(request)), ..self.kind };
        self.tell(Event::Submit { node: Node(node), kind, request })
    }

    /// The path that a new request takes; it stays in flight.
    fn path_of_next(&mut self) -> u32 {
        match self.submit(0).as_slice() {
            [Start(_, path)] => *path,
            other => panic!("no path for it: {other:?}"),
        }
    }

    fn end(&mut self, request: u32, verdict: Verdict) -> Vec<Did> {
        let position = self.in_flight.iter().position(|(_, held)| *held == request);
        let (ticket, request) = self.in_flight.remove(position.expect("the request is in flight"));
        self.tell(Event::Ended { ticket, request, verdict })
    }

    fn done(&mut self, request: u32) {
        assert_eq!(self.end(request, Verdict::Done), [Finish(request, Outcome::Done)]);
    }

    fn add(&mut self, path: u32, state: PathState) -> Vec<Did> {
        self.tell(Event::PathAdded { path: PathId(path), node: None, state })
    }

    fn change(&mut self, path: u32, state: PathState) -> Vec<Did> {
        self.tell(Event::PathChanged { path: PathId(path), state })
    }

    fn remove(&mut self, path: u32) -> Vec<Did> {
        self.tell(Event::PathRemoved { path: PathId(path) })
    }

    /// Lets so much time pass without telling the head.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Goes to the time that the head asked for.
    fn timeout(&mut self) -> Vec<Did> {
        self.now = self.head.poll_timeout().expect("a timer is armed").max(self.now);
        self.tell(Event::Timeout)
    }

    fn tried(&mut self, path: u32, tried: Tried) -> Vec<Did> {
        self.tell(Event::Tried { path: PathId(path), tried })
    }

    fn depths(&self) -> Vec<u32> {
        self.head.paths().map(|path| path.in_flight).collect()
    }
}

const POLICIES: [Policy; 4] = [Policy::Numa, Policy::RoundRobin, Policy::QueueDepth, Policy::Latency];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn with_policy(policy: Policy) -> Options {
    Options { policy, ..Options::default() }
}

fn with_no_path(no_path: NoPath) -> Options {
    Options { no_path, ..Options::default() }
}

/// One failure takes a path out, for 1, 2, 4, 4, … seconds.
const QUICK: BackOff = BackOff { failures: 1, first: seconds(1), longest: seconds(4) };
