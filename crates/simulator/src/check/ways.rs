//! The ways to a disk are those that its settings allow: one only where it is to have one, port groups changed only where
//! that was asked for and nothing optimized is usable, idle paths asked as often as they are to be.

use std::collections::{BTreeMap, VecDeque};

use ::host::DiskIndex;
use clock::{Duration, Instant};
use multipath::{Access, PathId, PathState};
use scsi::CdbBytes;
use scsi::cdb::operation;
use scsi_multipath::Disk;

use super::operators::Seat;
use crate::plan::Ways;

/// Changes of port groups that one disk asks for in half a minute at most: pauses double from one second on, the first
/// may be asked for twice, and the row may begin anew.
const CHANGES_MAX: usize = 9;
const WINDOW: Duration = Duration::from_secs(30);
/// How much later than it should an idle path may be asked: the longest pause after questions that were not answered.
const SLACK: Duration = Duration::from_secs(11);

#[derive(Debug)]
pub(crate) struct WaysCheck {
    ways: Ways,
    changes: BTreeMap<DiskIndex, VecDeque<Instant>>,
    /// When something was last sent on a path, or it was first seen to be usable.
    used: BTreeMap<PathId, Instant>,
    /// SET TARGET PORT GROUPS that were sent.
    pub(crate) asked_for: u64,
    /// TEST UNIT READY that were sent where idle paths are checked.
    pub(crate) idle_checks: u64,
}

impl WaysCheck {
    pub(crate) const fn new(ways: Ways) -> Self {
        Self { ways, changes: BTreeMap::new(), used: BTreeMap::new(), asked_for: 0, idle_checks: 0 }
    }

    pub(crate) fn started<'a>(
        &mut self,
        now: Instant,
        path: PathId,
        cdb: &CdbBytes,
        disk: impl FnOnce() -> Option<(DiskIndex, &'a Disk)>,
    ) -> Result<(), String> {
        if let Some(used) = self.used.get_mut(&path) {
            *used = now;
        }
        let is_check = cdb.operation_code() == operation::TEST_UNIT_READY && self.ways.path_check.is_some();
        self.idle_checks += u64::from(is_check);
        if cdb.operation_code() != operation::MAINTENANCE_OUT {
            return Ok(());
        }
        let Some((index, disk)) = disk() else { return Ok(()) };
        self.asked_for += 1;
        let is_optimized =
            |view: scsi_multipath::PathView| view.status.state == PathState::Usable(Access::Optimized);
        if !self.ways.are_changed() {
            return Err(format!("{path} is told to change its port group, which nobody asked for"));
        }
        if disk.paths().any(is_optimized) {
            return Err(format!("{path} is told to change its port group, and an optimized path is usable"));
        }
        let times = self.changes.entry(index).or_default();
        times.push_back(now);
        times.retain(|at| now.since(*at) < WINDOW);
        if times.len() > CHANGES_MAX {
            return Err(format!("port groups are changed more than {CHANGES_MAX} times in {WINDOW:?}"));
        }
        Ok(())
    }

    /// A disk has said what it had to say. `seats`: where its paths lead.
    pub(crate) fn settled(&self, mut seats: impl Iterator<Item = Seat>) -> Result<(), String> {
        let Some(first) = seats.next().filter(|_| self.ways.is_single()) else { return Ok(()) };
        match seats.find(|other| *other != first) {
            Some(other) => Err(format!("a disk that is to have one path has {first:?} and {other:?}")),
            None => Ok(()),
        }
    }

    /// The same, while nothing is wrong with the host: how long its usable paths have had nothing to do.
    pub(crate) fn rested(&mut self, now: Instant, paths: impl Iterator<Item = PathId>) -> Result<(), String> {
        let Some(period) = self.ways.path_check else { return Ok(()) };
        for path in paths {
            let used = *self.used.entry(path).or_insert(now);
            if now > used + period + SLACK {
                let idle = now.since(used);
                return Err(format!("{path} has been idle for {idle:?} and was not asked after {period:?}"));
            }
        }
        Ok(())
    }

    /// A path is not usable, or has something in flight: from then on it may rest again.
    pub(crate) fn is_busy(&mut self, path: PathId) {
        self.used.remove(&path);
    }

    pub(crate) fn disk_gone(&mut self, disk: DiskIndex) {
        self.changes.remove(&disk);
    }

    /// The process was killed: paths are numbered anew.
    pub(crate) fn process_ended(&mut self) {
        self.changes.clear();
        self.used.clear();
    }
}
