//! Fences: what is done until nothing is left of writes that a lost path may still hold.
//!
//! A fence is an object. It begins when a write on a path ends with an unknown fate, and ends proved or waived;
//! meanwhile the claims of its writes stay (quarantine). The proof is the driver's work
//! ([`Action::Fence`]); here is what it means, and what happens if it does not come.

use alloc::vec::Vec;

use clock::{Duration, Instant};
use multipath::{PathId, PathState};

use super::claims::Extent;
use super::event::{Function, Managed, Proof, TargetId};
use super::report::{Report, Waiver};
use super::{Action, Disk, FencePolicy, FenceView, Life};
use crate::disposition::FollowUp;

/// Fences that may be open at once; above it no path may join, so that none can be lost. A path leaves one at most,
/// and a path that joins after a login pays for those before it: so many are left only by a target that refuses
/// every proof.
pub(super) const FENCES_MAX: usize = 1024;
/// Until a reset that could not be sent is tried again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Fence {
    pub(super) path: PathId,
    /// None if the path had left the disk before its last command came back.
    target: Option<TargetId>,
    since: Instant,
    about: About,
    stage: Stage,
}

/// What a fence keeps in quarantine.
#[derive(Debug)]
enum About {
    /// Extents of writes; each is one doubt of its claim.
    Writes(Vec<Extent>),
    /// All of the disk: nobody knows what a process before this one wrote.
    Everything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for its proof, no longer than until then.
    Waiting { until: Option<Instant> },
    /// Its time is over. The logical unit is being reset through this path, which drains what had come through.
    Resetting { through: PathId },
}

/// How a fence ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Proved(Proof),
    Waived(Waiver),
}

impl Disk {
    /// The fences that are open, the oldest first.
    pub fn fences(&self) -> impl Iterator<Item = FenceView> {
        self.fences.iter().map(|fence| FenceView {
            path: fence.path,
            target: fence.target,
            since: fence.since,
            until: fence.deadline(),
            writes: match &fence.about {
                About::Writes(extents) => extents.len(),
                About::Everything => 0,
            },
        })
    }

    /// A write to `extent` ended on `path` with an unknown fate. False if nothing is done about such writes.
    pub(super) fn doubt(&mut self, now: Instant, path: PathId, extent: Extent) -> bool {
        if self.options.fence == FencePolicy::Unsafe {
            return false;
        }
        if !self.fences.iter().any(|fence| fence.path == path) {
            let target = self.paths.iter().find(|known| known.id == path).map(|known| known.target);
            self.open_fence(now, path, target, About::Writes(Vec::new()));
        }
        let fence = self.fences.iter_mut().find(|fence| fence.path == path);
        if let Some(Fence { about: About::Writes(extents), .. }) = fence {
            extents.push(extent);
            self.claims.doubt(extent);
        }
        true
    }

    /// A process before this one may have left writes behind `path`.
    pub(super) fn inherit(&mut self, now: Instant, path: PathId, target: TargetId) {
        // Nor does anybody know what it had acknowledged and not flushed: if the cache is lost now, that was lost.
        self.cache.acknowledged += 1;
        if self.options.fence != FencePolicy::Unsafe {
            self.claims.close();
            self.open_fence(now, path, Some(target), About::Everything);
            self.tend(now);
        }
    }

    fn open_fence(&mut self, now: Instant, path: PathId, target: Option<TargetId>, about: About) {
        let until = match self.options.fence {
            FencePolicy::Bounded { wait } => Some(now + wait),
            FencePolicy::Strict | FencePolicy::Unsafe => None,
        };
        self.fences.push(Fence { path, target, since: now, about, stage: Stage::Waiting { until } });
        self.report(Report::FenceOpened { path });
        self.actions.push_back(Action::Fence { path });
    }

    /// The driver did what it was asked for.
    pub(super) fn fenced(&mut self, now: Instant, path: PathId, proof: Proof) {
        let Some(position) = self.fences.iter().position(|fence| fence.path == path) else { return };
        self.end_fence(now, position, End::Proved(proof));
        self.tend(now);
    }

    /// An operator takes the word of somebody for what cannot be proved.
    pub(super) fn waive(&mut self, now: Instant) {
        while let Some(position) = self.fences.len().checked_sub(1) {
            self.end_fence(now, position, End::Waived(Waiver::Operator));
        }
        self.tend(now);
    }

    fn end_fence(&mut self, now: Instant, position: usize, end: End) {
        let Fence { path, since, about, .. } = self.fences.remove(position);
        match about {
            About::Writes(extents) => extents.into_iter().for_each(|extent| self.claims.settled(extent)),
            About::Everything => self.claims.reopen(),
        }
        let after = now.since(since);
        match end {
            End::Proved(proof) => self.report(Report::FenceProved { path, proof, after }),
            End::Waived(by) => {
                self.report(Report::FenceWaived { path, by, after });
                self.actions.push_back(Action::Unfence { path });
            }
        }
        self.release_held(now);
    }

    /// Writes of a shared logical unit whose fences have all ended are sent again.
    fn release_held(&mut self, now: Instant) {
        for work in core::mem::take(&mut self.held) {
            match work.claim() {
                Some(extent) if self.claims.is_in_doubt(extent) => self.held.push(work),
                _ => self.submit(now, work),
            }
        }
    }

    /// Goes on with fences whose time is over.
    pub(super) fn tend_fences(&mut self, now: Instant) {
        while let Some(position) = self.fences.iter().position(|fence| fence.is_due(now)) {
            self.overdue(now, position);
        }
    }

    /// No proof came in time. What the target had taken in is drained by a reset through another of its ports; that
    /// nothing more comes in is the word of the timer.
    fn overdue(&mut self, now: Instant, position: usize) {
        let target = self.fences[position].target;
        let is_usable = |told: PathState| matches!(told, PathState::Usable(_));
        let usable = || self.paths.iter().filter(|path| path.is_alive() && is_usable(path.told));
        let through = usable().find(|path| Some(path.target) == target).map(|path| path.id);
        let has_other = usable().next().is_some();
        match through {
            Some(through) => {
                self.fences[position].stage = Stage::Resetting { through };
                let function = Function::LogicalUnitReset;
                self.actions.push_back(Action::Manage { path: through, function });
            }
            // Another target device knows nothing of those tasks; or nobody is left who could write.
            None if has_other || self.is_ending() => {
                self.end_fence(now, position, End::Waived(Waiver::Timer));
            }
            None => self.fences[position].stage = Stage::Waiting { until: Some(now + PAUSE) },
        }
    }

    const fn is_ending(&self) -> bool {
        matches!(self.life, Life::Ending | Life::HeadGone)
    }

    /// A task management function ended.
    pub(super) fn managed(&mut self, now: Instant, path: PathId, function: Function, outcome: Managed) {
        match function {
            Function::AbortTaskSet => self.swept(now, path),
            Function::LogicalUnitReset => self.was_reset(now, path, outcome),
        }
        self.tend(now);
    }

    fn was_reset(&mut self, now: Instant, path: PathId, outcome: Managed) {
        let is_its = |fence: &Fence| fence.stage == Stage::Resetting { through: path };
        // Each fence has a reset of its own, sent after its time was over.
        if let Some(position) = self.fences.iter().position(is_its) {
            match outcome {
                Managed::Complete | Managed::Refused => {
                    self.end_fence(now, position, End::Waived(Waiver::Timer));
                }
                Managed::Lost => {
                    self.fences[position].stage = Stage::Waiting { until: Some(now + PAUSE) };
                }
            }
        }
    }

    /// A reply says that commands in flight on this path may be gone. Before they are swept up the identity behind the
    /// path is read again: on a logical unit number that stands for another unit now the function would be answered
    /// at once, and say nothing about commands that went to the former unit.
    pub(super) fn sweep_when_verified(&mut self, now: Instant, id: PathId) {
        let in_flight = self.in_flight(id);
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        if in_flight > 0 && path.is_alive() {
            path.sweep = match path.sweep {
                Sweep::None | Sweep::Due => Sweep::Due,
                Sweep::Out | Sweep::OutAndDue => Sweep::OutAndDue,
            };
            path.probe.want(FollowUp::IDENTITY, now);
        }
    }

    /// The identity behind a path was read again, and is that of the disk.
    pub(super) fn sweep_if_due(&mut self, id: PathId) {
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        if path.sweep == Sweep::Due {
            path.sweep = Sweep::None;
            self.sweep(id);
        }
    }

    fn in_flight(&self, id: PathId) -> u32 {
        self.head.paths().find(|path| path.id == id).map_or(0, |path| path.in_flight)
    }

    /// Commands in flight on this path may be gone without an answer: those that are left are aborted, and all of
    /// them are sent again. Their ends come before the end of the function.
    fn sweep(&mut self, id: PathId) {
        let in_flight = self.in_flight(id);
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        if in_flight == 0 || !path.is_alive() {
            return;
        }
        match path.sweep {
            Sweep::None | Sweep::Due => {
                path.sweep = Sweep::Out;
                self.actions.push_back(Action::Manage { path: id, function: Function::AbortTaskSet });
            }
            Sweep::Out | Sweep::OutAndDue => path.sweep = Sweep::OutAndDue,
        }
    }

    fn swept(&mut self, now: Instant, id: PathId) {
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        let is_due = core::mem::take(&mut path.sweep) == Sweep::OutAndDue;
        if is_due {
            self.sweep_when_verified(now, id);
        }
    }
}

/// Whether commands of a path are being swept up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sweep {
    #[default]
    None,
    /// They are to be, once the identity behind the path was read again.
    Due,
    /// ABORT TASK SET is out.
    Out,
    /// It is out, and something has happened since that it may not cover.
    OutAndDue,
}

impl Fence {
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting { until } => until,
            Stage::Resetting { .. } => None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|until| until <= now)
    }
}
