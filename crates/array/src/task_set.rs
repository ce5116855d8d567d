//! The task set of a logical unit: the commands that were accepted and are not executed yet.
//!
//! A command that nothing holds is executed at once and never stands here, so an empty task set costs nothing.

use alloc::vec::Vec;
use block::Buffer;
use clock::Instant;
use scsi::cdb::Cdb;
use scsi::{Lun, TaskAttribute};

use crate::{FaultId, NexusId, PortId};

/// A command as it was received.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) nexus: NexusId,
    pub(crate) port: PortId,
    pub(crate) tag: u64,
    pub(crate) lun: Lun,
    pub(crate) command: Cdb,
    pub(crate) attribute: TaskAttribute,
    /// All Data-Out.
    pub(crate) data: Buffer,
    /// The expected data transfer length, in bytes.
    pub(crate) expected: u32,
}

/// Names a held task; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sequence(pub(crate) u64);

/// A command that waits.
#[derive(Debug)]
pub(crate) struct HeldTask {
    pub(crate) sequence: Sequence,
    pub(crate) task: Task,
    pub(crate) stage: Stage,
    pub(crate) answer: Answer,
    /// Task management does not see it any more.
    pub(crate) is_disowned: bool,
}

/// Why it waits, and with that what an abort can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// For older tasks to end (SAM: task attributes).
    Blocked,
    /// A fault holds it in the task set; an abort removes it.
    Queue(Hold),
    /// A fault holds it in the back end; an abort only takes away its answer.
    BackEnd(Hold),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) fault: FaultId,
    /// `None`: until the fault is released.
    pub(crate) until: Option<Instant>,
    pub(crate) extent: HeldExtent,
}

/// How much of a held command is executed in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldExtent {
    Whole,
    /// So many blocks; then it fails.
    Blocks(u32),
}

/// Whether anybody is told how the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Sent,
    /// It was aborted, or its nexus is gone.
    Withheld,
}

/// Held tasks in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct TaskSet {
    held: Vec<HeldTask>,
}

impl TaskSet {
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn push(&mut self, held: HeldTask) {
        self.held.push(held);
    }

    /// Whether a new task of this attribute has to wait for tasks that stand here: an ORDERED one for all, a SIMPLE
    /// one for the ORDERED ones (SAM, 8.6).
    pub(crate) fn blocks(&self, attribute: TaskAttribute) -> bool {
        blocked_by(&self.held, attribute)
    }

    pub(crate) fn contains(&self, nexus: NexusId, tag: u64) -> bool {
        self.held.iter().any(|held| held.is_answered_to(nexus) && held.task.tag == tag)
    }

    pub(crate) fn contains_any_of(&self, nexus: NexusId) -> bool {
        self.held.iter().any(|held| held.is_answered_to(nexus))
    }

    pub(crate) fn take_all(&mut self) -> Vec<HeldTask> {
        core::mem::take(&mut self.held)
    }

    pub(crate) fn take(&mut self, sequence: Sequence) -> Option<HeldTask> {
        let index = self.held.iter().position(|held| held.sequence == sequence)?;
        Some(self.held.remove(index))
    }

    /// The first task that waited for older ones and need not any more.
    pub(crate) fn take_unblocked(&mut self) -> Option<HeldTask> {
        let index = self.held.iter().enumerate().position(|(index, held)| {
            held.stage == Stage::Blocked && !blocked_by(&self.held[..index], held.task.attribute)
        })?;
        Some(self.held.remove(index))
    }

    /// The tasks that a fault holds without a time limit of their own, or with one.
    pub(crate) fn held_by(&self, fault: FaultId) -> Vec<Sequence> {
        self.held
            .iter()
            .filter(|it| it.hold().is_some_and(|hold| hold.fault == fault))
            .map(|it| it.sequence)
            .collect()
    }

    /// Aborts the tasks that `which` names. Those in the task set leave it and are returned; those in the back end
    /// lose their answer and stay, and their names are returned to be waited for.
    pub(crate) fn abort(&mut self, which: impl Fn(&Task) -> bool) -> Aborted {
        let mut aborted = Aborted::default();
        for mut held in core::mem::take(&mut self.held) {
            if held.is_disowned || !which(&held.task) {
                self.held.push(held);
            } else if matches!(held.stage, Stage::BackEnd(_)) {
                aborted.awaited.push(held.sequence);
                aborted.note(&held);
                held.answer = Answer::Withheld;
                self.held.push(held);
            } else {
                aborted.note(&held);
                aborted.removed.push(held);
            }
        }
        aborted
    }

    /// No function ends the tasks of a nexus any more, or waits for them.
    pub(crate) fn disown(&mut self, nexus: NexusId) {
        for held in self.held.iter_mut().filter(|held| held.task.nexus == nexus) {
            held.is_disowned = true;
            held.answer = Answer::Withheld;
        }
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = crate::HeldWrite<'_>> {
        self.held.iter().filter_map(|held| {
            let task = &held.task;
            let Cdb::Write(access) = &task.command else { return None };
            Some(crate::HeldWrite { nexus: task.nexus, tag: task.tag, first: access.lba.0, data: &task.data })
        })
    }

    /// The tasks of a nexus run on, but nobody is there to be told. Their names are returned.
    pub(crate) fn orphan(&mut self, nexus: NexusId) -> Vec<Sequence> {
        let of_nexus = self.held.iter_mut().filter(|held| held.task.nexus == nexus);
        of_nexus.map(|held| (held.answer = Answer::Withheld, held.sequence).1).collect()
    }
}

/// What an abort did.
#[derive(Debug, Default)]
pub(crate) struct Aborted {
    pub(crate) removed: Vec<HeldTask>,
    /// In the back end: the abort is complete when these have ended.
    pub(crate) awaited: Vec<Sequence>,
    /// Which tasks would have been answered.
    pub(crate) unanswered: Vec<Unanswered>,
}

/// A task that was aborted before its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered {
    pub(crate) nexus: NexusId,
    pub(crate) tag: u64,
    /// The back end still executes it.
    pub(crate) runs_on: Option<Sequence>,
}

impl Aborted {
    fn note(&mut self, held: &HeldTask) {
        if held.answer == Answer::Sent {
            let runs_on = matches!(held.stage, Stage::BackEnd(_)).then_some(held.sequence);
            self.unanswered.push(Unanswered { nexus: held.task.nexus, tag: held.task.tag, runs_on });
        }
    }
}

impl HeldTask {
    pub(crate) fn hold(&self) -> Option<Hold> {
        match self.stage {
            Stage::Blocked => None,
            Stage::Queue(hold) | Stage::BackEnd(hold) => Some(hold),
        }
    }

    fn is_answered_to(&self, nexus: NexusId) -> bool {
        self.task.nexus == nexus && self.answer == Answer::Sent
    }
}

fn blocked_by(older: &[HeldTask], attribute: TaskAttribute) -> bool {
    match attribute {
        TaskAttribute::Simple => older.iter().any(|held| held.task.attribute == TaskAttribute::Ordered),
        TaskAttribute::Ordered => !older.is_empty(),
        TaskAttribute::HeadOfQueue => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(sequence: u64, nexus: u32, attribute: TaskAttribute, stage: Stage) -> HeldTask {
        let task = Task {
            nexus: NexusId(nexus),
            port: PortId(1),
            tag: sequence,
            lun: Lun::default(),
            command: Cdb::TestUnitReady,
            attribute,
            data: Buffer::empty(),
            expected: 0,
        };
        HeldTask { sequence: Sequence(sequence), task, stage, answer: Answer::Sent, is_disowned: false }
    }

    const HELD: Hold = Hold { fault: FaultId(1), until: None, extent: HeldExtent::Whole };

    #[test]
    fn an_ordered_task_waits_for_all_older_ones_and_younger_simple_ones_wait_for_it() {
        let mut set = TaskSet::default();
        set.push(held(1, 1, TaskAttribute::Simple, Stage::Queue(HELD)));
        assert!(set.blocks(TaskAttribute::Ordered));
        assert!(!set.blocks(TaskAttribute::Simple));
        set.push(held(2, 1, TaskAttribute::Ordered, Stage::Blocked));
        assert!(set.blocks(TaskAttribute::Simple));
        assert!(!set.blocks(TaskAttribute::HeadOfQueue));
        assert!(set.take_unblocked().is_none());
        set.take(Sequence(1)).unwrap();
        assert_eq!(set.take_unblocked().unwrap().sequence, Sequence(2));
    }

    #[test]
    fn an_abort_takes_what_is_queued_and_only_silences_what_the_back_end_has() {
        let mut set = TaskSet::default();
        set.push(held(1, 1, TaskAttribute::Simple, Stage::Queue(HELD)));
        set.push(held(2, 1, TaskAttribute::Simple, Stage::BackEnd(HELD)));
        set.push(held(3, 2, TaskAttribute::Simple, Stage::Queue(HELD)));
        let aborted = set.abort(|task| task.nexus == NexusId(1));
        assert_eq!(aborted.removed.len(), 1);
        assert_eq!(aborted.awaited, [Sequence(2)]);
        assert!(!set.contains(NexusId(1), 2));
        assert!(set.contains(NexusId(2), 3));
        assert_eq!(set.len(), 2);
    }
}
