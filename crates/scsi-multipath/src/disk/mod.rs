//! One disk out of the paths to one logical unit.
//!
//! Requests of exports become commands; the head chooses their paths; [`crate::disposition`] says what their
//! endings mean. The disk itself asks questions (probes) about a path when an ending puts it in doubt.

mod access;
mod activate;
mod check;
mod claims;
mod complete;
mod event;
mod features;
mod fence;
mod late;
mod path;
mod paths;
mod plan;
mod probe;
mod report;
mod resets;
mod work;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use block::{Error, Geometry, Operation, Request, WriteCache};
use clock::{Duration, Instant};
use multipath::{
    Change, Class, Explained, Head, NoPath, Node, PathId, PathState, PathStatus, Status, Ticket,
};
use scsi::{CommandId, Ending, TaskAttribute};

use crate::command::{Command, Context, Kind};
use crate::identity::Identity;
use crate::unit::Unit;
use access::Inquiry;
use activate::Activation;
use claims::Claims;
use features::{Features, Missing};
use fence::Fence;
use late::Pieces;
use path::Path;
use resets::Resets;
use work::{Said, Step, Work};

pub use access::{AccessAnswer, AccessCause};
pub use activate::Alua;
pub use event::{Action, Event, Function, Hold, Managed, Proof, TargetId};
pub use report::{Feature, Reason, Report, Waiver};
pub(crate) use work::Flight;

/// Settings of a disk.
#[derive(Clone, Debug)]
pub struct Options {
    pub head: multipath::Options,
    pub sharing: Sharing,
    pub fence: FencePolicy,
    pub alua: Alua,
    /// A path that was idle for so long is asked whether it is ready (TEST UNIT READY), if at all.
    pub path_check: Option<Duration>,
}

/// Who writes to the logical unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else. A write of unknown fate is sent again at once, and only overlapping writes wait for its fence.
    #[default]
    Exclusive,
    /// Other hosts too. A write of unknown fate waits for its fence before it is sent again.
    Shared,
}

/// What is done about writes of unknown fate on a lost nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FencePolicy {
    /// Overlapping writes wait for a proof. If there is none after `wait`, the logical unit is reset through another
    /// path of the same target, and the fence is waived.
    Bounded { wait: Duration },
    /// Overlapping writes wait for a proof, or for an operator's word.
    Strict,
    /// Nothing: a late write can undo a newer one. For tests that show that it does.
    Unsafe,
}

impl Default for FencePolicy {
    fn default() -> Self {
        Self::Bounded { wait: FENCE_WAIT }
    }
}

/// How long a target may keep a silent connection: longer than any default of a target that we know.
pub const FENCE_WAIT: Duration = Duration::from_secs(30);

impl Default for Options {
    fn default() -> Self {
        Self {
            head: multipath::Options {
                retries_max: RETRIES_MAX,
                trial: multipath::Trial::Canary,
                slow_paths: multipath::SlowPaths::Demote,
                ..multipath::Options::default()
            },
            sharing: Sharing::default(),
            fence: FencePolicy::default(),
            alua: Alua::default(),
            path_check: None,
        }
    }
}

/// Re-sends of one command: enough to sit out a minute of long work at [`crate::Retry`]'s pace, and then some.
pub const RETRIES_MAX: u32 = 64;

/// One logical unit as a disk: its paths, and the requests that are on their way.
#[derive(Debug)]
pub struct Disk {
    identity: Identity,
    options: Options,
    head: Head<Work>,
    paths: Vec<Path>,
    /// What all paths can do; what they could when there were any, while there are none.
    features: Option<Features>,
    missing: Missing,
    geometry: Option<Geometry>,
    cache: Cache,
    claims: Claims<Work>,
    fences: Vec<Fence>,
    /// Our own, of the logical unit.
    resets: Resets,
    /// Writes of a shared logical unit that wait for their fences before they are sent again.
    held: Vec<Work>,
    /// Whether the end of the disk waits for its fences: not if a shutdown has waited for them in vain.
    is_patient: bool,
    life: Life,
    /// Requests that were taken and not finished.
    requests: usize,
    /// Questions and canaries of the disk's own that are out.
    probes_out: usize,
    /// Pieces that are in flight, if the head may tell of them.
    pieces: Pieces,
    marks_pieces: bool,
    /// Where a small read began lately, in bytes: canaries read there.
    last_read: u64,
    next_id: u32,
    /// When paths that are down for their access state are asked about it again.
    access_poll: Option<Instant>,
    /// What is asked about port groups, for each target.
    inquiries: Vec<Inquiry>,
    activation: Activation,
    /// The earliest of all that the disk itself waits for.
    deadline: Option<Instant>,
    /// What was last reported of failed requests, and when.
    complained: Option<(crate::Failure, Instant)>,
    actions: VecDeque<Action>,
}

/// Which acknowledged writes may sit in a volatile cache.
#[derive(Clone, Copy, Debug, Default)]
struct Cache {
    /// Writes acknowledged, ever.
    acknowledged: u64,
    /// How many of them the last good flush covered.
    flushed: u64,
    /// The device lost its cache since; the next flush says so.
    is_lost: bool,
}

/// Where the disk is in its life. It goes one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// Takes nothing new; waits for what is there, until then.
    Draining {
        until: Instant,
    },
    /// The last flush is on its way, until then.
    Flushing {
        until: Instant,
    },
    /// The head is going away, whoever told it so.
    Ending,
    /// The head is gone; questions are still out.
    HeadGone,
    Gone,
}

/// How long a shutdown waits for requests to finish before those that wait for a path are failed.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);

/// One path, as seen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    pub status: PathStatus,
    pub access: crate::AccessState,
    /// The access state was told to another logical unit of the target, and was not asked for by this one yet.
    pub is_assumed: bool,
    /// The device prefers the port's group (PREF). Paths are not chosen by it.
    pub preferred: bool,
    pub port: crate::Port,
    /// Why it is in its state.
    pub reason: Reason,
    /// Until when it counts as coming back by itself, if it is not usable and does.
    pub waiting_until: Option<Instant>,
    pub hold: Option<Hold>,
}

/// A fence that is open, as seen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceView {
    /// The path that was lost. It need not be a path of the disk any more.
    pub path: PathId,
    /// None if the path had left the disk before its last command came back.
    pub target: Option<TargetId>,
    pub since: Instant,
    /// When it is waived without a proof, if it is.
    pub until: Option<Instant>,
    /// Writes of unknown fate that it is about; none if it is about whatever a process before this one left.
    pub writes: usize,
}

impl Disk {
    /// A disk without paths. `identity` is what the first unit found shows; every path has to show the same.
    #[must_use]
    pub fn new(identity: Identity, options: Options) -> Self {
        let mut actions = VecDeque::new();
        if identity.name().is_weak() {
            actions.push_back(Action::Report(Report::WeakName { name: identity.name().clone() }));
        }
        let mut disk = Self {
            identity,
            head: Head::new(options.head.clone()),
            options,
            paths: Vec::new(),
            features: None,
            missing: Missing::default(),
            geometry: None,
            cache: Cache::default(),
            claims: Claims::new(),
            fences: Vec::new(),
            resets: Resets::default(),
            held: Vec::new(),
            is_patient: true,
            life: Life::Open,
            requests: 0,
            probes_out: 0,
            pieces: Pieces::new(),
            marks_pieces: false,
            last_read: 0,
            next_id: 0,
            access_poll: None,
            inquiries: Vec::new(),
            activation: Activation::default(),
            deadline: None,
            complained: None,
            actions,
        };
        disk.set_marks();
        disk
    }

    /// Says what happened. Drain [`Disk::poll_action`] afterwards. `now` must not go backwards.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Block(request, node) => self.admit(now, request, node),
            Event::Ended(command, ending) => self.ended(now, command, &ending),
            Event::PathFound { path, node, target, unit, hold } => {
                self.path_found(now, Path::new(path, target, unit, hold), node);
            }
            Event::Hold { path, hold } => self.hold(now, path, hold),
            Event::Check { path } => self.check(path),
            Event::Fenced { path, proof } => self.fenced(now, path, proof),
            Event::Managed { path, function, outcome } => self.managed(now, path, function, outcome),
            Event::ResetSent => self.reset_sent(now),
            Event::ResetEnded { outcome, times } => self.reset_ended(now, outcome, times),
            Event::Inherited { path, target } => self.inherit(now, path, target),
            Event::Waive => self.waive(now),
            Event::Overheard { path, reply } => self.overhear(now, path, &Ending::Reply(reply)),
            Event::Doubt { path } => {
                self.with_path(now, path, |path| {
                    if path.is_alive() {
                        path.suspect(Reason::Verifying, now);
                    }
                });
            }
            Event::PathLost { path } => self.path_lost(now, path),
            Event::PathRemoved { path } => self.path_removed(now, path),
            Event::MayAskAccess { target } => {
                self.may_ask_access(now, target);
                self.tend(now);
            }
            Event::MayActivate { target } => {
                self.may_activate(now, target);
                self.tend(now);
            }
            Event::AccessAssumed { target, groups } => self.access_assumed(now, target, &groups),
            Event::Pinged { path, took, peers } => {
                self.head.handle(now, multipath::Event::Pinged { path, took, peers });
            }
            Event::SetPolicy(policy) => self.head.handle(now, multipath::Event::SetPolicy(policy)),
            Event::SetSlowPaths(slow_paths) => {
                self.options.head.slow_paths = slow_paths;
                self.set_marks();
                self.head.handle(now, multipath::Event::SetSlowPaths(slow_paths));
            }
            Event::SetHedging(hedging) => {
                self.options.head.hedging = hedging;
                self.set_marks();
                self.head.handle(now, multipath::Event::SetHedging(hedging));
            }
            Event::SetNoPath(no_path) => self.head.handle(now, multipath::Event::SetNoPath(no_path)),
            Event::SetDelayedRemoval(delay) => {
                self.head.handle(now, multipath::Event::SetDelayedRemoval(delay));
            }
            Event::Shutdown => self.shut_down(now),
            Event::Timeout => {
                if self.head.poll_timeout().is_some_and(|at| at <= now) {
                    self.head.handle(now, multipath::Event::Timeout);
                }
                self.tend(now);
            }
        }
        self.follow_head(now);
    }

    /// What to do next, in order; `None` when all is done.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Disk::handle`] with [`Event::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.head.poll_timeout(), self.deadline].into_iter().flatten().min()
    }

    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// None before the first path has joined.
    #[must_use]
    pub const fn geometry(&self) -> Option<Geometry> {
        self.geometry
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.head.status()
    }

    /// Why each path would or would not take the next small read; in order of arrival.
    #[must_use]
    pub fn explain(&self, now: Instant) -> Vec<Explained> {
        self.head.explain(now, Node::default(), Class::SmallRead)
    }

    /// The paths in order of arrival.
    pub fn paths(&self) -> impl Iterator<Item = PathView> {
        self.head.paths().filter_map(|status| {
            let path = self.paths.iter().find(|path| path.id == status.id)?;
            Some(PathView {
                status,
                access: path.unit.access,
                is_assumed: path.is_assumed,
                preferred: path.unit.preferred,
                port: path.unit.port,
                reason: path.reason,
                waiting_until: path.waiting_until(),
                hold: path.hold,
            })
        })
    }

    /// What a path showed last.
    #[must_use]
    pub fn unit(&self, path: PathId) -> Option<&Unit> {
        self.paths.iter().find(|known| known.id == path).map(|known| &*known.unit)
    }

    /// Writes that wait, for a write that they overlap or for its fence.
    #[must_use]
    pub fn held(&self) -> usize {
        self.claims.waiting() + self.held.len()
    }

    /// Requests that were taken and not finished.
    #[must_use]
    pub const fn requests(&self) -> usize {
        self.requests
    }

    fn admit(&mut self, now: Instant, request: Request, node: Node) {
        if self.life != Life::Open {
            return self.actions.push_back(Action::Finish(request, Err(Error::Shutdown)));
        }
        // Exports learn the geometry before they can ask for anything.
        let Some(features) = &self.features else {
            return self.actions.push_back(Action::Finish(request, Err(Error::Io)));
        };
        match plan::admit(features, &request) {
            Err(error) => self.actions.push_back(Action::Finish(request, Err(error))),
            Ok(None) => self.actions.push_back(Action::Finish(request, Ok(()))),
            Ok(Some(step)) => {
                let mut work = Work::new(request, node, step);
                work.covers = self.cache.acknowledged;
                self.requests += 1;
                let free = match work.claim() {
                    Some(extent) => self.claims.take(extent, work),
                    None => Some(work),
                };
                match free {
                    Some(work) => self.submit(now, work),
                    None => self.refuse_waiting(now),
                }
            }
        }
    }

    /// Writes that wait for another one wait no longer than the no-path policy lets them.
    fn refuse_waiting(&mut self, now: Instant) {
        if self.head.refuses(now) {
            self.dismiss(Error::Io);
        }
    }

    /// Ends every write that is not with the head.
    fn dismiss(&mut self, error: Error) {
        for work in self.claims.dismiss() {
            self.finish_unclaimed(work, Err(error));
        }
        for work in core::mem::take(&mut self.held) {
            self.finish(work, Err(error));
        }
    }

    /// Cuts the next piece of a request and gives it to the head.
    fn submit(&mut self, now: Instant, mut work: Work) {
        let Some(features) = &self.features else {
            debug_assert!(false, "a request was admitted by its features");
            return;
        };
        plan::cut(features, &mut work);
        work.said = Said::Nothing;
        let kind = self.kind_of(&mut work);
        self.head.handle(now, multipath::Event::Submit { node: work.node, kind, request: work });
    }

    /// Does what the head wants done, until it wants nothing more.
    fn follow_head(&mut self, now: Instant) {
        loop {
            while let Some(action) = self.head.poll_action() {
                match action {
                    multipath::Action::Start { path, ticket, request } => {
                        self.start_or_drop(now, path, ticket, request);
                    }
                    multipath::Action::Finish { request, outcome } => self.piece_ended(now, request, outcome),
                    multipath::Action::Try { path } => self.send_canary(now, path),
                    multipath::Action::Late { path, mark, why } => self.late(now, path, mark, why),
                    multipath::Action::Gone => self.life = Life::HeadGone,
                    multipath::Action::Changed(change) => self.head_changed(change),
                }
            }
            let admitted = self.claims.admit();
            if admitted.is_empty() {
                break;
            }
            admitted.into_iter().for_each(|work| self.submit(now, work));
        }
        self.wind_down(now);
    }

    /// A copy that has waited until another one was the answer need not go out any more.
    fn start_or_drop(&mut self, now: Instant, path: PathId, ticket: Ticket, work: Work) {
        if self.is_moot(&work) {
            let verdict = multipath::Verdict::Moot;
            return self.head.handle(now, multipath::Event::Ended { ticket, request: work, verdict });
        }
        self.note_use(now, path);
        self.start(path, ticket, work);
    }

    fn start(&mut self, path: PathId, ticket: Ticket, mut work: Work) {
        let id = self.take_id(path);
        self.piece_sent(&work, path, id);
        let command = Command {
            id,
            cdb: work.piece.cdb,
            attribute: TaskAttribute::Simple,
            transfer: work.piece.transfer,
            buffer: core::mem::take(&mut work.buffer),
            context: Context(Kind::Disk { path, flight: Flight::Work { work, ticket } }),
        };
        self.actions.push_back(Action::Start { path, command });
    }

    /// Unique on the path's transport: other disks on it have other paths.
    const fn take_id(&mut self, path: PathId) -> CommandId {
        self.next_id = self.next_id.wrapping_add(1);
        CommandId((path.0 as u64) << 32 | self.next_id as u64)
    }

    fn head_changed(&mut self, change: Change) {
        match change {
            // Reported by the disk itself, with the reason.
            Change::PathAdded { .. } | Change::Path { .. } | Change::PathRemoved { .. } => {}
            Change::Ending => {
                self.life = Life::Ending;
                self.dismiss(Error::Shutdown);
                self.report(Report::Head(change));
            }
            _ => self.report(Report::Head(change)),
        }
    }

    fn shut_down(&mut self, now: Instant) {
        if self.life != Life::Open {
            return;
        }
        self.life = Life::Draining { until: now + SHUTDOWN_MAX };
        // Nobody waits for a path to return any more.
        self.head.handle(now, multipath::Event::SetNoPath(NoPath::Fail));
        self.tend(now);
    }

    /// Goes on with a shutdown as far as it can.
    fn wind_down(&mut self, now: Instant) {
        // A fence that is open is work that is left: nobody says that the disk is at rest before it is proved.
        let idle = self.requests == 0 && self.fences.is_empty();
        match self.life {
            Life::Draining { until } if idle && self.wants_last_flush() => {
                self.life = Life::Flushing { until };
                self.requests += 1;
                self.submit(now, Work::last_flush(self.cache.acknowledged));
            }
            Life::Draining { until } | Life::Flushing { until } if idle || until <= now => {
                self.is_patient = self.fences.is_empty();
                self.life = Life::Ending;
                self.head.handle(now, multipath::Event::Remove);
            }
            Life::HeadGone if self.probes_out == 0 && (self.fences.is_empty() || !self.is_patient) => {
                self.life = Life::Gone;
                self.deadline = None;
                return self.actions.push_back(Action::Gone);
            }
            _ => return,
        }
        self.follow_head(now);
    }

    fn wants_last_flush(&self) -> bool {
        let way = self.features.and_then(|features| plan::step(&features, &Operation::Flush).ok().flatten());
        let usable = self.paths.iter().any(|path| path.told != PathState::Down);
        way == Some(Step::Synchronize) && self.cache.holds_writes() && usable
    }

    fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }
}

impl Cache {
    const fn holds_writes(&self) -> bool {
        self.acknowledged > self.flushed
    }

    fn flushed(&mut self, covers: u64) {
        self.flushed = self.flushed.max(covers);
    }

    /// A device lost what it held. True if there was something to lose.
    fn lost(&mut self, write_cache: WriteCache) -> bool {
        let news = write_cache == WriteCache::Back && self.holds_writes() && !self.is_lost;
        self.is_lost |= news;
        news
    }

    /// Tells it once: what is gone is gone, and what comes later is not affected.
    fn take_loss(&mut self) -> bool {
        let was_lost = core::mem::take(&mut self.is_lost);
        if was_lost {
            self.flushed = self.acknowledged;
        }
        was_lost
    }
}
