//! What the loss of a path came to: when and by what it was noticed, which requests it touched, how long they waited,
//! and what became of its fence. Nothing is done for a request that succeeds while no failover goes on.
//!
//! A loss that a reply tells of is noticed after the command that was answered so has come back. So what came back
//! without success is kept in mind until every machine has said what it makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use block::{Completion, Request, Tag};
use clock::{Duration, Instant};
use multipath::{PathId, PathState};
use scsi::{CommandId, Ending, Status};
use scsi_multipath::{Command, Proof, Reason, Report, Waiver};

use crate::event::{NoticeKind, Severity};
use crate::host::Host;
use crate::log::{Cause, Subject, What, cause_of_path};

/// Failovers that are followed at the same time; of those beyond it nothing is told. A switch that fails takes a path
/// of each of so many disks.
const FAILOVERS_MAX: usize = 256;
/// After that it is told how far it came: a strict fence, or a disk without a path, may take for ever.
const FAILOVER_LIMIT: Duration = Duration::from_secs(600);
/// Reports that are kept for each disk, for whoever looks at it.
pub(crate) const REPORTS_KEPT: usize = 8;

/// The whole of one failover. Times count from when the loss was noticed, where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverReport {
    pub path: PathId,
    pub at: Instant,
    pub by: Detection,
    /// Requests with a command on the path when that was noticed, and those that it was noticed by.
    pub touched: usize,
    /// Those that were sent again.
    pub resent: usize,
    pub first_resent: Option<Duration>,
    /// The first of them to succeed on another path.
    pub first_completion: Option<Duration>,
    /// From when a touched request was sent on the lost path to its end.
    pub longest_wait: Duration,
    /// Touched requests that ended with an error.
    pub failed: usize,
    /// Touched requests that had not ended when the report was made.
    pub unfinished: usize,
    pub fence: FenceOutcome,
}

/// By what the loss of a path was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// Its session ended.
    Session(Cause),
    /// What a device answered, or did not answer, on it.
    Path(Reason),
}

/// What became of writes of unknown fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceOutcome {
    /// There were none.
    None,
    /// It was open when the report was made.
    Open,
    Proved {
        proof: Proof,
        after: Duration,
    },
    Waived {
        by: Waiver,
        after: Duration,
    },
}

/// One failover that goes on.
#[derive(Debug)]
pub(crate) struct Failover {
    disk: u32,
    report: FailoverReport,
    /// Requests that were touched and have not ended, and since when they waited.
    open: BTreeMap<Tag, Instant>,
    /// Commands that the path had, and that have not come back.
    out: BTreeSet<CommandId>,
    /// The path only has to show its identity again, so far: if it does, that was no loss.
    is_doubt: bool,
}

/// A command that came back without success, of a request that has not ended.
#[derive(Debug)]
pub(crate) struct Bounced {
    disk: u32,
    path: PathId,
    tag: Tag,
    started: Instant,
}

impl Detection {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Session(cause) => cause.code(),
            Self::Path(reason) => cause_of_path(reason),
        }
    }
}

impl FenceOutcome {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Open => "open",
            Self::Proved { .. } => "proved",
            Self::Waived { .. } => "waived",
        }
    }

    #[must_use]
    pub const fn after(self) -> Option<Duration> {
        match self {
            Self::None | Self::Open => None,
            Self::Proved { after, .. } | Self::Waived { after, .. } => Some(after),
        }
    }
}

impl Host {
    /// The session of a path is lost; its disk has not heard of it.
    pub(crate) fn failover_begins(&mut self, disk: u32, path: PathId, cause: Cause) {
        let is_used = self.paths.get(&path).is_some_and(|path| !path.in_flight.is_empty());
        let is_followed = self.failovers.iter().any(|failover| failover.report.path == path);
        if is_used || is_followed {
            self.follow_failover(disk, path, Detection::Session(cause), false);
        }
    }

    /// From now on, or already since the path came into doubt.
    fn follow_failover(&mut self, disk: u32, path: PathId, by: Detection, is_doubt: bool) {
        if let Some(failover) = self.failovers.iter_mut().find(|failover| failover.report.path == path) {
            if failover.is_doubt && !is_doubt {
                (failover.is_doubt, failover.report.by) = (false, by);
            }
            return;
        }
        if self.failovers.len() >= FAILOVERS_MAX
            && let Some(place) = self.failovers.iter().position(|failover| failover.is_doubt)
        {
            self.failovers.swap_remove(place);
        }
        if self.failovers.len() >= FAILOVERS_MAX || self.head_of(disk).is_none() {
            return;
        }
        let in_flight = self.paths.get(&path).map(|path| path.in_flight.iter().map(|(id, _)| *id));
        let out = in_flight.into_iter().flatten().collect();
        let report = FailoverReport {
            path,
            at: self.now,
            by,
            touched: 0,
            resent: 0,
            first_resent: None,
            first_completion: None,
            longest_wait: Duration::ZERO,
            failed: 0,
            unfinished: 0,
            fence: FenceOutcome::None,
        };
        let mut failover = Failover { disk, report, open: BTreeMap::new(), out, is_doubt };
        for bounced in self.bounced.iter().filter(|bounced| bounced.path == path) {
            failover.touch(bounced.tag, bounced.started);
        }
        self.failovers.push(failover);
        self.arm_own();
    }

    /// A command has come back from a path, and its disk has not heard of it.
    pub(crate) fn command_bounced(
        &mut self,
        disk: u32,
        path: PathId,
        command: &Command,
        ending: &Ending,
        started: Option<Instant>,
    ) {
        let is_good = matches!(ending, Ending::Reply(reply) if reply.status == Status::Good);
        if let (false, Some((tag, _)), Some(started)) = (is_good, command.context.request(), started) {
            self.bounced.push(Bounced { disk, path, tag, started });
        }
    }

    /// A command came back from a path.
    pub(crate) fn failover_returned(&mut self, path: PathId, command: &Command, started: Option<Instant>) {
        let now = self.now;
        let Some(failover) = self.failovers.iter_mut().find(|failover| failover.report.path == path) else {
            return;
        };
        if !failover.out.remove(&command.id) {
            return;
        }
        if let Some((tag, _)) = command.context.request() {
            failover.touch(tag, started.unwrap_or(now));
        }
    }

    /// A command is sent.
    pub(crate) fn failover_started(&mut self, disk: u32, command: &Command) {
        let Some((tag, _)) = command.context.request() else { return };
        let now = self.now;
        for failover in self.failovers.iter_mut().filter(|failover| failover.disk == disk) {
            if failover.open.contains_key(&tag) {
                let after = now.since(failover.report.at);
                failover.report.resent += 1;
                failover.report.first_resent.get_or_insert(after);
            }
        }
    }

    /// A request has ended.
    pub(crate) fn failover_finished(&mut self, disk: u32, request: &Request, completion: &Completion) {
        let now = self.now;
        self.bounced.retain(|bounced| (bounced.disk, bounced.tag) != (disk, request.tag));
        for failover in self.failovers.iter_mut().filter(|failover| failover.disk == disk) {
            let Some(since) = failover.open.remove(&request.tag) else { continue };
            let report = &mut failover.report;
            report.longest_wait = report.longest_wait.max(now.since(since));
            match completion {
                Ok(()) => {
                    report.first_completion.get_or_insert_with(|| now.since(report.at));
                }
                Err(_) => report.failed += 1,
            }
        }
    }

    /// What a disk reports may begin a failover, or end its fence.
    pub(crate) fn failover_heard(&mut self, disk: u32, report: &Report) {
        match *report {
            Report::PathState { path, from: PathState::Usable(_), to: PathState::Down, reason }
                if !matches!(reason, Reason::FailedByOperator | Reason::Drained) =>
            {
                self.follow_failover(disk, path, Detection::Path(reason), false);
            }
            Report::PathState { path, from: PathState::Usable(_), to: PathState::Waiting, reason } => {
                let is_doubt = reason == Reason::Verifying;
                self.follow_failover(disk, path, Detection::Path(reason), is_doubt);
            }
            Report::PathState { path, from: PathState::Waiting, to, reason } => {
                self.doubt_ends(path, to, reason);
            }
            Report::FenceOpened { path } => self.failover_fence(path, FenceOutcome::Open),
            Report::FenceProved { path, proof, after } => {
                self.failover_fence(path, FenceOutcome::Proved { proof, after });
            }
            Report::FenceWaived { path, by, after } => {
                self.failover_fence(path, FenceOutcome::Waived { by, after });
            }
            _ => {}
        }
    }

    /// A path that was to show its identity has, or is lost.
    fn doubt_ends(&mut self, path: PathId, to: PathState, reason: Reason) {
        let is_its = |failover: &Failover| failover.is_doubt && failover.report.path == path;
        let Some(place) = self.failovers.iter().position(is_its) else { return };
        match to {
            PathState::Usable(_) => {
                self.failovers.swap_remove(place);
            }
            PathState::Waiting => {}
            PathState::Down => {
                let failover = &mut self.failovers[place];
                (failover.is_doubt, failover.report.by) = (false, Detection::Path(reason));
            }
        }
    }

    fn failover_fence(&mut self, path: PathId, fence: FenceOutcome) {
        if let Some(failover) = self.failovers.iter_mut().find(|failover| failover.report.path == path) {
            failover.report.fence = fence;
        }
    }

    /// Every machine has said what it had to say: what is over is told. True if something was.
    pub(crate) fn has_failed_over(&mut self) -> bool {
        self.bounced.clear();
        if self.failovers.is_empty() {
            return false;
        }
        let paths = &self.paths;
        for failover in &mut self.failovers {
            if !paths.contains_key(&failover.report.path) {
                failover.out.clear();
                failover.is_doubt = false;
            }
        }
        let is_over = |failover: &mut Failover| failover.is_over();
        let over: Vec<Failover> = self.failovers.extract_if(.., is_over).collect();
        let any = !over.is_empty();
        over.into_iter().for_each(|failover| self.tell_failover(failover));
        any
    }

    /// Those that take too long are told as they stand.
    pub(crate) fn expire_failovers(&mut self) {
        let now = self.now;
        let is_late = |failover: &mut Failover| failover.deadline() <= now;
        for failover in self.failovers.extract_if(.., is_late).collect::<Vec<_>>() {
            self.tell_failover(failover);
        }
    }

    /// The disk is gone: nothing more is heard of its requests.
    pub(crate) fn end_failovers_of(&mut self, disk: u32) {
        let is_its = |failover: &mut Failover| failover.disk == disk;
        for failover in self.failovers.extract_if(.., is_its).collect::<Vec<_>>() {
            self.tell_failover(failover);
        }
    }

    fn tell_failover(&mut self, failover: Failover) {
        let Failover { disk, mut report, open, is_doubt, .. } = failover;
        report.unfinished = open.len();
        for since in open.values() {
            report.longest_wait = report.longest_wait.max(self.now.since(*since));
        }
        if report.touched == 0 || is_doubt {
            return;
        }
        let text = format!("{}: {report}", self.disk_name(disk));
        let subject = Subject::Path(disk, report.path);
        if let Some(entry) = self.disks.entry_mut(disk) {
            if entry.failovers.len() >= REPORTS_KEPT {
                entry.failovers.pop_front();
            }
            entry.failovers.push_back(report.clone());
        }
        let what = What::Failover(Box::new(report));
        self.tell(Severity::Info, NoticeKind::Other, subject, what, text);
    }
}

impl Failover {
    fn touch(&mut self, tag: Tag, since: Instant) {
        if self.open.insert(tag, since).is_none() {
            self.report.touched += 1;
        }
    }

    fn is_over(&self) -> bool {
        !self.is_doubt
            && self.out.is_empty()
            && self.open.is_empty()
            && self.report.fence != FenceOutcome::Open
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.report.at + FAILOVER_LIMIT
    }
}

impl fmt::Display for FailoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, by, touched, resent, longest_wait, .. } = self;
        write!(f, "failover of path {path}, noticed by {}: {touched} requests touched", by.code())?;
        write!(f, ", {resent} sent again")?;
        if let Some(after) = self.first_resent {
            write!(f, " from {after:?} on")?;
        }
        if let Some(after) = self.first_completion {
            write!(f, ", first completion elsewhere after {after:?}")?;
        }
        write!(f, ", longest wait {longest_wait:?}")?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if self.unfinished > 0 {
            write!(f, ", {} not ended yet", self.unfinished)?;
        }
        match self.fence {
            FenceOutcome::None => f.write_str(", no fence"),
            FenceOutcome::Open => f.write_str(", fence still open"),
            FenceOutcome::Proved { proof, after } => write!(f, ", fence proved after {after:?} ({proof})"),
            FenceOutcome::Waived { by, after } => write!(f, ", fence waived by {by} after {after:?}"),
        }
    }
}
