//! Task management functions on their way: which may be with a target at the same time, and what becomes of those
//! that are not answered.
//!
//! Two functions that are about one command must not meet. A target may note with a command which function waits for
//! its end, and note one only: tgt does, and of two that meet the earlier one is never answered. Seen: the reset of a
//! fence still drained writes of a surviving nexus when that one's ABORT TASK SET came, and the fence was never proved.

use std::collections::{BTreeSet, VecDeque};

use clock::{Duration, Instant};
use iscsi::initiator::{self, TASK_MANAGEMENT_MAX, TaskManagement, TaskManagementEnding};
use iscsi::pdu::TaskManagementResponseCode;
use multipath::PathId;
use scsi::Lun;
use scsi_multipath::{Event, Function, Managed, TargetId};

use crate::agenda::Source;
use crate::host::Host;
use crate::nexus::Link;

/// Functions of ours that are out at once on one session. The rest of what it takes is left to its own ABORT TASKs.
const TASKS_MAX: usize = TASK_MANAGEMENT_MAX / 2;
/// A function without an answer is asked for again after that: another initiator's may have met it, or an ABORT TASK
/// of a session of ours. Longer than nearly every drain, since each reset ends commands of every nexus; a small part
/// of the time that a fence waits for its proof by default.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The task management functions of a session.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    out: Vec<Task>,
    /// Those that wait until there is room for them, and none is out that they must not meet.
    waiting: VecDeque<(TaskPurpose, TaskManagement)>,
    next_id: u64,
}

/// A function that is out, and whom its answer is for.
#[derive(Debug)]
struct Task {
    /// One for each time that it was sent: whichever is answered, it is done.
    ids: Vec<u64>,
    purpose: TaskPurpose,
    function: TaskManagement,
    again_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskPurpose {
    /// To pay a debt.
    Fence(Lun),
    /// So that nobody waits for commands that a reset has ended.
    Sweep,
    /// A disk wants it.
    Disk(PathId, Function),
}

impl Host {
    /// Sends a task management function, now or as soon as it may be sent.
    pub(crate) fn ask_for(&mut self, index: u32, purpose: TaskPurpose, function: TaskManagement) {
        let nexus = &mut self.nexuses[index as usize];
        let target = nexus.target;
        let Some(link) = nexus.link_mut() else { return };
        link.tasks.waiting.push_back((purpose, function));
        self.send_tasks(target);
    }

    /// Sends what waits for a target and meets nothing that is out there. What has been out for too long is not
    /// waited for: whoever holds it up must not hold up the fences of other logical units as well.
    fn send_tasks(&mut self, target: TargetId) {
        let now = self.now;
        let mut out: Vec<(u32, TaskManagement)> = Vec::new();
        let mut is_any_waiting = false;
        for (index, nexus) in (0..).zip(&mut self.nexuses).filter(|(_, nexus)| nexus.target == target) {
            let Some(link) = nexus.link_mut() else { continue };
            is_any_waiting |= !link.tasks.waiting.is_empty();
            let young = link.tasks.out.iter().filter(|task| task.ids.len() == 1);
            out.extend(young.map(|task| (index, task.function)));
        }
        if !is_any_waiting {
            return;
        }
        let mut reset: BTreeSet<Lun> = BTreeSet::new();
        for (index, nexus) in (0..).zip(&mut self.nexuses).filter(|(_, nexus)| nexus.target == target) {
            let Some(link) = nexus.link_mut() else { continue };
            for (purpose, function) in std::mem::take(&mut link.tasks.waiting) {
                let is_free = out.iter().all(|other| !meet((index, function), *other));
                if !is_free || link.tasks.out.len() >= TASKS_MAX {
                    link.tasks.waiting.push_back((purpose, function));
                    continue;
                }
                let task = Task { ids: Vec::new(), purpose, function, again_at: now };
                link.send_task(now, task);
                out.push((index, function));
                reset.extend(reset_unit(function));
                self.touched.add(Source::Nexus(index));
            }
        }
        self.tell_of_resets(target, &reset, || Event::ResetSent);
    }

    /// Functions were not answered in time: once more.
    pub(crate) fn ask_again(&mut self, index: u32) {
        let now = self.now;
        let nexus = &mut self.nexuses[index as usize];
        let target = nexus.target;
        let Some(link) = nexus.link_mut() else { return };
        let late: Vec<Task> = link.tasks.out.extract_if(.., |task| task.again_at <= now).collect();
        let reset: BTreeSet<Lun> = late.iter().filter_map(|task| reset_unit(task.function)).collect();
        for task in late {
            link.send_task(now, task);
        }
        self.touched.add(Source::Nexus(index));
        self.tell_of_resets(target, &reset, || Event::ResetSent);
        self.send_tasks(target);
    }

    /// A task management function has ended.
    pub(crate) fn task_ended(&mut self, index: u32, id: u64, ending: TaskManagementEnding) {
        let nexus = &mut self.nexuses[index as usize];
        let target = nexus.target;
        let Some(link) = nexus.link_mut() else { return };
        let Some(place) = link.tasks.out.iter().position(|task| task.ids.contains(&id)) else { return };
        let task = link.tasks.out.swap_remove(place);
        if let Some(lun) = reset_unit(task.function) {
            let outcome = match reset_outcome(ending) {
                // The others of its kind may have been done.
                Managed::Refused if task.ids.len() > 1 => Managed::Lost,
                outcome => outcome,
            };
            let times = task.ids.len();
            self.tell_of_resets(target, &BTreeSet::from([lun]), || Event::ResetEnded { outcome, times });
        }
        match task.purpose {
            TaskPurpose::Disk(path, function) => self.managed(path, function, ending),
            TaskPurpose::Fence(lun) => self.reset_ended(index, lun, ending),
            TaskPurpose::Sweep => {}
        }
        self.send_tasks(target);
    }

    /// Nobody answers them any more: the session is over.
    pub(crate) fn tasks_lost(&mut self, index: u32, tasks: Tasks) {
        let target = self.nexuses[index as usize].target;
        for task in &tasks.out {
            if let Some(lun) = reset_unit(task.function) {
                let ended = || Event::ResetEnded { outcome: Managed::Lost, times: task.ids.len() };
                self.tell_of_resets(target, &BTreeSet::from([lun]), ended);
            }
        }
        let out = tasks.out.into_iter().map(|task| task.purpose);
        for purpose in out.chain(tasks.waiting.into_iter().map(|(purpose, _)| purpose)) {
            if let TaskPurpose::Disk(path, function) = purpose {
                self.managed(path, function, TaskManagementEnding::Lost);
            }
        }
        self.send_tasks(target);
    }

    /// Every disk that such a logical unit may be behind: which one it is, is known only after a look at it.
    fn tell_of_resets(&mut self, target: TargetId, units: &BTreeSet<Lun>, event: impl Fn() -> Event) {
        if units.is_empty() {
            return;
        }
        let nexuses = &self.nexuses;
        let paths = self.paths.values();
        let behind =
            paths.filter(|path| units.contains(&path.lun) && nexuses[path.nexus as usize].target == target);
        let disks: BTreeSet<u32> = behind.map(|path| path.disk).collect();
        for disk in disks {
            self.tell_disk(disk, event());
        }
    }
}

/// Whether two functions, each on a nexus with one target, may be about one command. ABORT TASK SET counts as about
/// every logical unit of its nexus, since tgt takes it so.
fn meet((nexus, one): (u32, TaskManagement), (other_nexus, other): (u32, TaskManagement)) -> bool {
    match (one, other) {
        (TaskManagement::LogicalUnitReset(one), TaskManagement::LogicalUnitReset(other)) => one == other,
        (TaskManagement::AbortTaskSet(_), TaskManagement::AbortTaskSet(_)) => nexus == other_nexus,
        _ => true,
    }
}

/// What became of a reset: one that was not sent was not done either.
const fn reset_outcome(ending: TaskManagementEnding) -> Managed {
    match ending {
        TaskManagementEnding::Answered(TaskManagementResponseCode::Complete) => Managed::Complete,
        TaskManagementEnding::Answered(_)
        | TaskManagementEnding::NothingToAbort
        | TaskManagementEnding::NotSent => Managed::Refused,
        TaskManagementEnding::Lost => Managed::Lost,
    }
}

/// The logical unit that a function resets.
const fn reset_unit(function: TaskManagement) -> Option<Lun> {
    match function {
        TaskManagement::LogicalUnitReset(lun) => Some(lun),
        _ => None,
    }
}

impl Link {
    fn send_task(&mut self, now: Instant, mut task: Task) {
        self.tasks.next_id += 1;
        let id = self.tasks.next_id;
        task.ids.push(id);
        task.again_at = now + ASK_AGAIN;
        self.session.handle(now, initiator::Event::TaskManagement { id, function: task.function });
        self.tasks.out.push(task);
    }
}

impl Tasks {
    /// When a function is to be asked for again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.out.iter().map(|task| task.again_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_meet_if_a_command_can_be_ended_by_both() {
        let reset = |lun: u16| TaskManagement::LogicalUnitReset(Lun::from(lun));
        let abort = |lun: u16| TaskManagement::AbortTaskSet(Lun::from(lun));
        assert!(meet((0, reset(1)), (1, reset(1))), "a reset ends the commands of every nexus");
        assert!(!meet((0, reset(1)), (0, reset(2))));
        assert!(meet((0, abort(1)), (0, abort(2))), "tgt takes it for all that is on the nexus");
        assert!(!meet((0, abort(1)), (1, abort(1))));
        assert!(meet((0, reset(1)), (1, abort(1))));
    }
}
