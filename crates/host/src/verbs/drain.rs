//! Taking paths out so that they may be unplugged: first it is seen that the others work, then the paths take nothing
//! new, and when nothing is in flight on them the operator is told.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Duration, Instant};
use multipath::PathId;
use scsi_multipath::{Event, Failure, Hold};

use super::hold::Place;
use super::{Outcome, Seat, Ticket, VerbError};
use crate::disks::Path;
use crate::event::{NoticeKind, Severity};
use crate::host::Host;
use crate::log::{Subject, What};

/// A path that has not read a block by then does not work: no device takes so long for one that is healthy.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// The drains that go on.
pub(crate) type Drains = Vec<Drain>;

/// One drain.
#[derive(Debug)]
pub(crate) struct Drain {
    ticket: Ticket,
    /// As the operator said it.
    name: String,
    /// What leads where: a path may come and go meanwhile.
    seats: Vec<Seat>,
    /// The same, as it is kept out.
    places: BTreeSet<Place>,
    since: Instant,
    timeout: Duration,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Blocks are read on the paths that are left, until then.
    Checking { until: Instant, checks: BTreeMap<PathId, Option<Result<(), Failure>>> },
    /// What is in flight comes back.
    Waiting,
}

impl Drain {
    pub(crate) fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Checking { until, .. } => until,
            Stage::Waiting => self.since + self.timeout,
        }
    }
}

impl Host {
    pub(super) fn drain(&mut self, ticket: Ticket, name: &str, force: bool, timeout: Duration) {
        let paths = match self.paths_named(name) {
            Ok(paths) => self.with_twins(&paths),
            Err(error) => return self.answer(ticket, Err(error.into())),
        };
        if paths.is_empty() {
            let text = format!("{name}: no path leads through it: it may be unplugged");
            return self.answer(ticket, Ok(text));
        }
        if let Err(error) = self.all_have_heads(&self.disks_of(&paths)) {
            return self.answer(ticket, Err(error));
        }
        let is_out = paths.iter().all(|path| self.hold_of(*path).is_some());
        let seats = self.seats_of(&paths);
        let mut drain = Drain {
            ticket,
            name: name.to_owned(),
            seats,
            places: self.places_of(&paths),
            since: self.now,
            timeout,
            stage: Stage::Waiting,
        };
        if force || is_out {
            return self.stop_and_wait(drain);
        }
        if let Err(error) = self.leaves_a_path(&paths) {
            return self.drain_refused(&drain, error);
        }
        let others: Vec<(u32, PathId)> = self
            .disks_of(&paths)
            .into_iter()
            .flat_map(|disk| self.usable_paths(disk).into_iter().map(move |path| (disk, path)))
            .filter(|(_, path)| !paths.contains(path))
            .collect();
        let checks: BTreeMap<_, _> = others.iter().map(|(_, path)| (*path, None)).collect();
        if checks.is_empty() {
            return self.stop_and_wait(drain);
        }
        drain.stage = Stage::Checking { until: self.now + CHECK_LIMIT.min(timeout), checks };
        self.drains.push(drain);
        for (disk, path) in others {
            self.tell_disk(disk, Event::Check { path });
        }
        self.arm_own();
    }

    /// A path that is left was read from.
    pub(crate) fn checked(&mut self, path: PathId, outcome: Result<(), Failure>) {
        for drain in &mut self.drains {
            if let Stage::Checking { checks, .. } = &mut drain.stage
                && let Some(check) = checks.get_mut(&path)
            {
                *check = Some(outcome);
            }
        }
        let is_done = |drain: &mut Drain| match &drain.stage {
            Stage::Checking { checks, .. } => checks.values().all(Option::is_some),
            Stage::Waiting => false,
        };
        for drain in self.drains.extract_if(.., is_done).collect::<Vec<_>>() {
            self.judge(drain);
        }
    }

    /// Goes on if every disk keeps another path that works: that has read a block, and is usable still.
    fn judge(&mut self, drain: Drain) {
        let Stage::Checking { checks, .. } = &drain.stage else { return };
        let paths = self.paths_at(&drain.seats);
        if let Err(error) = self.leaves_a_path(&paths) {
            return self.drain_refused(&drain, error);
        }
        for disk in self.disks_of(&paths) {
            let (taken, others): (Vec<PathId>, Vec<PathId>) =
                self.usable_paths(disk).into_iter().partition(|path| paths.contains(path));
            let outcome = |path: &PathId| checks.get(path).and_then(Option::as_ref);
            if taken.is_empty() || others.iter().any(|path| outcome(path) == Some(&Ok(()))) {
                continue;
            }
            let failure = |path: &PathId| match outcome(path) {
                Some(Err(failure)) => failure.to_string(),
                _ => String::from("no answer in time"),
            };
            let failures: Vec<String> =
                others.iter().map(|path| format!("{path}: {}", failure(path))).collect();
            let error =
                VerbError::NothingElseWorks { disk: self.disk_name(disk), failures: failures.join(", ") };
            return self.drain_refused(&drain, error);
        }
        self.stop_and_wait(drain);
    }

    fn drain_refused(&mut self, drain: &Drain, error: VerbError) {
        for path in self.paths_at(&drain.seats) {
            let Some(disk) = self.paths.get(&path).map(|path| path.disk) else { continue };
            let text = format!(
                "{}: path {} not drained, by operator: {error}",
                self.disk_name(disk),
                self.path_name(path)
            );
            let (subject, what) = (Subject::Path(disk, path), What::Operator("drain-refused"));
            self.tell(Severity::Warning, NoticeKind::Other, subject, what, text);
        }
        self.answer(drain.ticket, Err(error));
    }

    fn stop_and_wait(&mut self, mut drain: Drain) {
        if let Err(error) = self.hold_all(self.free_of(&drain.places), Hold::Drained) {
            return self.drain_refused(&drain, error);
        }
        drain.stage = Stage::Waiting;
        self.drains.push(drain);
        self.arm_own();
    }

    /// Every machine has said what it had to say: whoever waited for the last command of its paths is told. True if
    /// somebody was.
    pub(crate) fn has_drained(&mut self) -> bool {
        if self.drains.is_empty() {
            return false;
        }
        let before = self.drains.len();
        self.end_drains();
        self.drains.len() < before
    }

    fn end_drains(&mut self) {
        let paths = &self.paths;
        let is_done =
            |drain: &mut Drain| matches!(drain.stage, Stage::Waiting) && in_flight(paths, &drain.seats) == 0;
        for drain in self.drains.extract_if(.., is_done).collect::<Vec<_>>() {
            let after = self.now.since(drain.since);
            let paths = self.paths_at(&drain.seats);
            for path in &paths {
                let Some(disk) = self.paths.get(path).map(|path| path.disk) else { continue };
                let text = format!(
                    "{}: path {} drained {}: it may be unplugged",
                    self.disk_name(disk),
                    self.path_name(*path),
                    shown(after)
                );
                let (subject, what) = (Subject::Path(disk, *path), What::Drained { after });
                self.tell(Severity::Info, NoticeKind::Other, subject, what, text);
            }
            let text = format!("{}: drained {}, may be unplugged", drain.name, shown(after));
            self.answer_once_stored(drain.ticket, Ok(text));
        }
    }

    /// The time of a drain is over.
    pub(crate) fn expire_drains(&mut self) {
        let now = self.now;
        for drain in self.drains.extract_if(.., |drain| drain.deadline() <= now).collect::<Vec<_>>() {
            match drain.stage {
                Stage::Checking { .. } => self.judge(drain),
                Stage::Waiting => {
                    let in_flight = in_flight(&self.paths, &drain.seats);
                    let error = VerbError::StillInFlight { in_flight, after: drain.timeout };
                    self.drain_failed(&drain, error);
                }
            }
        }
        self.arm_own();
    }

    /// The program ends: nobody can be told any more.
    pub(crate) fn give_up_drains(&mut self) {
        for drain in std::mem::take(&mut self.drains) {
            self.answer(drain.ticket, Err(VerbError::Ending));
        }
    }

    fn drain_failed(&mut self, drain: &Drain, error: VerbError) {
        let text = format!("{}: not drained: {error}", drain.name);
        let what = What::Operator("drain-unfinished");
        self.tell(Severity::Warning, NoticeKind::Other, Subject::Nobody, what, text);
        self.answer(drain.ticket, Err(error));
    }

    /// Paths were given back: nobody waits for them any more.
    pub(super) fn end_drains_of(&mut self, seats: &[Seat]) {
        let is_about = |drain: &mut Drain| drain.seats.iter().any(|seat| seats.contains(seat));
        for drain in self.drains.extract_if(.., is_about).collect::<Vec<_>>() {
            let outcome: Outcome = Err(VerbError::Reinstated);
            self.answer(drain.ticket, outcome);
        }
    }
}

/// Commands that have not come back from there.
fn in_flight(paths: &BTreeMap<PathId, Path>, seats: &[Seat]) -> usize {
    let there = paths.values().filter(|path| seats.contains(&(path.nexus, path.lun)));
    there.map(|path| path.in_flight.len()).sum()
}

/// `at once`, `after 1.2s`.
fn shown(after: Duration) -> String {
    if after.is_zero() { String::from("at once") } else { format!("after {after:?}") }
}
