//! What the loss of a path came to: when and by what it was noticed, which requests it touched, how long they waited,
//! and what became of its fence. Nothing is done for a request while no failover goes on.

use std::collections::BTreeMap;
use std::fmt;

use block::{Completion, Request, Tag};
use clock::{Duration, Instant};
use multipath::{PathId, PathState};
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
    /// Requests with a command on the path when that was noticed; and those that it was noticed by, if they are sent
    /// again at once.
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
    /// Commands of the path that have not come back.
    out: usize,
    /// What is sent again now was touched, although it came back before the loss was told.
    is_fresh: bool,
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
        let out = self.paths.get(&path).map_or(0, |path| path.in_flight.len());
        if out > 0 {
            self.follow_failover(disk, path, Detection::Session(cause), out);
        }
    }

    fn follow_failover(&mut self, disk: u32, path: PathId, by: Detection, out: usize) {
        let is_followed = self.failovers.iter().any(|failover| failover.report.path == path);
        if is_followed || self.failovers.len() >= FAILOVERS_MAX || self.head_of(disk).is_none() {
            return;
        }
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
        let is_fresh = matches!(by, Detection::Path(_));
        self.failovers.push(Failover { disk, report, open: BTreeMap::new(), out, is_fresh });
        self.arm_own();
    }

    /// A command came back from a path.
    pub(crate) fn failover_returned(&mut self, path: PathId, command: &Command, started: Option<Instant>) {
        let now = self.now;
        let Some(failover) = self.failovers.iter_mut().find(|failover| failover.report.path == path) else {
            return;
        };
        failover.out = failover.out.saturating_sub(1);
        if let Some((tag, _)) = command.context.request() {
            failover.touch(tag, started.unwrap_or(now));
        }
    }

    /// A command is sent.
    pub(crate) fn failover_started(&mut self, disk: u32, command: &Command) {
        let Some((tag, attempts)) = command.context.request() else { return };
        let now = self.now;
        for failover in self.failovers.iter_mut().filter(|failover| failover.disk == disk) {
            if failover.is_fresh && attempts > 1 {
                failover.touch(tag, failover.report.at);
            }
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
                if !matches!(reason, Reason::FailedByOperator | Reason::Drained | Reason::Lost) =>
            {
                let out = self.paths.get(&path).map_or(0, |path| path.in_flight.len());
                self.follow_failover(disk, path, Detection::Path(reason), out);
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

    fn failover_fence(&mut self, path: PathId, fence: FenceOutcome) {
        if let Some(failover) = self.failovers.iter_mut().find(|failover| failover.report.path == path) {
            failover.report.fence = fence;
        }
    }

    /// Every machine has said what it had to say: what is over is told. True if something was.
    pub(crate) fn has_failed_over(&mut self) -> bool {
        if self.failovers.is_empty() {
            return false;
        }
        let paths = &self.paths;
        for failover in &mut self.failovers {
            failover.is_fresh = false;
            if !paths.contains_key(&failover.report.path) {
                failover.out = 0;
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
        let Failover { disk, mut report, open, .. } = failover;
        report.unfinished = open.len();
        for since in open.values() {
            report.longest_wait = report.longest_wait.max(self.now.since(*since));
        }
        if report.touched == 0 {
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
        self.out == 0 && self.open.is_empty() && self.report.fence != FenceOutcome::Open
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
