//! Task management (RFC 7143, 11.5 and 11.6): what the driver asks for, and ABORT TASK for commands whose time
//! is over. All of it is sent for immediate delivery.

use clock::Instant;
use scsi::{CommandId, Ending, Lun};

use super::commands::{Lookup, Slot, Stage};
use super::error::{Misbehaviour, Reason};
use super::{Action, Owner, Session};
use crate::pdu::{
    Delivery, InitiatorTaskTag, Opcode, SerialNumber, TaskManagementFunction, TaskManagementRequest,
    TaskManagementResponse, TaskManagementResponseCode,
};

/// So many functions may be unanswered at once. A target need not take many immediate requests, and a fence
/// asks for one function a logical unit.
pub const TASK_MANAGEMENT_MAX: usize = 64;
/// So many of our own ABORT TASKs may be unanswered at once; more commands whose time is over wait for those.
const ABORTS_MAX: usize = 8;
/// So many superseded functions are remembered, in case that the target answers them yet. More are unheard of.
const SUPERSEDED_MAX: usize = 16;

/// What is asked of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskManagement {
    AbortTask(CommandId),
    AbortTaskSet(Lun),
    ClearTaskSet(Lun),
    LogicalUnitReset(Lun),
    TargetWarmReset,
    TargetColdReset,
}

/// What became of a task management function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskManagementEnding {
    /// The target answered. If that is `Complete`, every command that it was about has been given back.
    Answered(TaskManagementResponseCode),
    /// The command to be aborted is not with the target: it has ended, or was never sent and was given back.
    NothingToAbort,
    /// It was not sent: the session is not logged in, or too many are unanswered.
    NotSent,
    /// The session ended before an answer.
    Lost,
}

/// A function that has not been answered.
#[derive(Debug)]
pub(super) struct Pending {
    tag: InitiatorTaskTag,
    purpose: Purpose,
    /// Commands before it are affected.
    cmd_sn: SerialNumber,
    deadline: Instant,
}

impl Pending {
    /// When its time is over, if anybody waits for it.
    const fn deadline(&self) -> Option<Instant> {
        match self.purpose {
            Purpose::Superseded { .. } => None,
            _ => Some(self.deadline),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// The time of this command is over.
    Timeout(InitiatorTaskTag, CommandId),
    /// The target says that it does not know this command, and has not answered it. Not a request: only a
    /// time to wait for the answer, which may have been overtaken.
    Vanished(InitiatorTaskTag, CommandId),
    /// The driver wants a command aborted.
    Abort { id: u64, task: InitiatorTaskTag },
    /// The driver wants something else; `lun` if it is about one logical unit.
    Reset { id: u64, function: TaskManagementFunction, lun: Option<Lun> },
    /// The same, and the target has completed the same function since, which it was asked for later: nothing is left
    /// for this one to do. Its answer may yet come, or never (tgt, of functions that are about one command).
    Superseded { id: u64 },
}

impl<C> Session<C> {
    pub(super) fn start_task_management(&mut self, now: Instant, id: u64, function: TaskManagement) {
        let ended = |response| Action::TaskManagementEnded { id, response };
        if !self.is_logged_in() || self.pending.len() >= TASK_MANAGEMENT_MAX {
            self.actions.push_back(ended(TaskManagementEnding::NotSent));
            return;
        }
        let deadline = now + self.options.task_management_timeout;
        let (code, lun) = match function {
            TaskManagement::AbortTask(command) => {
                if !self.abort_command(id, command, deadline) {
                    self.actions.push_back(ended(TaskManagementEnding::NothingToAbort));
                }
                return;
            }
            TaskManagement::AbortTaskSet(lun) => (TaskManagementFunction::AbortTaskSet, Some(lun)),
            TaskManagement::ClearTaskSet(lun) => (TaskManagementFunction::ClearTaskSet, Some(lun)),
            TaskManagement::LogicalUnitReset(lun) => (TaskManagementFunction::LogicalUnitReset, Some(lun)),
            TaskManagement::TargetWarmReset => (TaskManagementFunction::TargetWarmReset, None),
            TaskManagement::TargetColdReset => (TaskManagementFunction::TargetColdReset, None),
        };
        self.send_task_management(
            code,
            lun.unwrap_or_default(),
            InitiatorTaskTag::NONE,
            SerialNumber(0),
            Purpose::Reset { id, function: code, lun },
            deadline,
        );
    }

    pub(super) fn handle_task_management_response(
        &mut self,
        now: Instant,
        response: TaskManagementResponse,
    ) -> Result<(), Reason> {
        let tag = response.initiator_task_tag;
        let asked = |pending: &Pending| pending.tag == tag && tag != InitiatorTaskTag::NONE;
        let Some(at) = self.pending.iter().position(asked) else {
            return Err(Misbehaviour::UnknownTask { opcode: Opcode::TaskManagementResponse, tag }.into());
        };
        let pending = self.pending.remove(at);
        let complete = response.response == TaskManagementResponseCode::Complete;
        let id = match pending.purpose {
            Purpose::Timeout(task, command) => {
                return self.handle_abort_response(now, task, command, response.response);
            }
            Purpose::Vanished(..) => return Ok(()),
            Purpose::Abort { id, task } => {
                if complete && let Some(slot) = self.find_live(task) {
                    self.end_command(slot, Ending::Aborted);
                }
                id
            }
            Purpose::Reset { id, function, lun } => {
                if complete {
                    self.end_affected(lun, pending.cmd_sn);
                    self.supersede(at, function, lun);
                }
                id
            }
            Purpose::Superseded { id } => id,
        };
        let response = TaskManagementEnding::Answered(response.response);
        self.actions.push_back(Action::TaskManagementEnded { id, response });
        Ok(())
    }

    /// When the next function or command runs out of time.
    pub(super) fn task_deadline(&self) -> Option<Instant> {
        if self.is_logging_out() {
            return None;
        }
        let pending = self.pending.iter().filter_map(Pending::deadline).min();
        let command = self.commands.oldest().filter(|_| self.aborts() < ABORTS_MAX).map(|(_, at)| at);
        pending.into_iter().chain(command).min()
    }

    /// Gives up the session for a function whose time is over, and starts aborts for such commands.
    pub(super) fn expire_tasks(&mut self, now: Instant) -> Result<(), Reason> {
        if self.is_logging_out() {
            return Ok(());
        }
        let commands = &self.commands;
        self.pending.retain(|pending| match pending.purpose {
            Purpose::Vanished(task, _) => matches!(commands.find(task), Lookup::Found(_)),
            _ => true,
        });
        let is_late = |pending: &&Pending| pending.deadline().is_some_and(|deadline| deadline <= now);
        if let Some(late) = self.pending.iter().find(is_late) {
            return Err(match late.purpose {
                Purpose::Timeout(_, command) | Purpose::Vanished(_, command) => {
                    Reason::AbortTimeout { command }
                }
                Purpose::Abort { .. } | Purpose::Reset { .. } | Purpose::Superseded { .. } => {
                    Reason::TaskManagementTimeout
                }
            });
        }
        while let Some((slot, deadline)) = self.commands.oldest()
            && deadline <= now
            && self.aborts() < ABORTS_MAX
        {
            self.expire_command(now, slot);
        }
        Ok(())
    }

    /// Ends every function without an answer.
    pub(super) fn lose_task_management(&mut self) {
        for pending in self.pending.drain(..) {
            if let Purpose::Abort { id, .. } | Purpose::Reset { id, .. } | Purpose::Superseded { id } =
                pending.purpose
            {
                let response = TaskManagementEnding::Lost;
                self.actions.push_back(Action::TaskManagementEnded { id, response });
            }
        }
    }

    /// A function is complete: the same function, if it is among the `earlier` ones as well, has nothing left to do.
    fn supersede(&mut self, earlier: usize, function: TaskManagementFunction, lun: Option<Lun>) {
        for pending in &mut self.pending[..earlier] {
            if let Purpose::Reset { id, function: same, lun: there } = pending.purpose
                && (same, there) == (function, lun)
            {
                pending.purpose = Purpose::Superseded { id };
            }
        }
        let is_superseded = |pending: &Pending| matches!(pending.purpose, Purpose::Superseded { .. });
        while self.pending.iter().filter(|pending| is_superseded(pending)).count() > SUPERSEDED_MAX
            && let Some(oldest) = self.pending.iter().position(is_superseded)
        {
            self.pending.remove(oldest);
        }
    }

    /// Somebody has waited long enough for a command.
    pub(super) fn expire_early(&mut self, now: Instant, command: CommandId) {
        let Some(slot) = self.commands.find_id(command).filter(|_| self.is_logged_in()) else { return };
        let is_aborting = self.commands.entry(slot).stage == Stage::Aborting;
        if !is_aborting && self.aborts() < ABORTS_MAX {
            self.expire_command(now, slot);
        }
    }

    fn expire_command(&mut self, now: Instant, slot: Slot) {
        let (entry, id) = (self.commands.entry(slot), self.commands.command(slot).id);
        let (lun, tag, cmd_sn) = (entry.lun, entry.tag, entry.cmd_sn);
        match entry.stage {
            Stage::Waiting => self.withdraw(slot),
            Stage::Issued | Stage::Aborting => {
                self.commands.stop_timer(slot);
                self.commands.entry_mut(slot).stage = Stage::Aborting;
                let deadline = now + self.options.abort_timeout;
                let purpose = Purpose::Timeout(tag, id);
                self.send_task_management(
                    TaskManagementFunction::AbortTask,
                    lun,
                    tag,
                    cmd_sn,
                    purpose,
                    deadline,
                );
            }
        }
    }

    /// The answer to an ABORT TASK of our own.
    fn handle_abort_response(
        &mut self,
        now: Instant,
        task: InitiatorTaskTag,
        command: CommandId,
        response: TaskManagementResponseCode,
    ) -> Result<(), Reason> {
        let Some(slot) = self.find_live(task) else {
            return Ok(());
        };
        match response {
            TaskManagementResponseCode::Complete => self.end_command(slot, Ending::Aborted),
            // Its answer may be on its way behind this one; without it nobody knows what became of it.
            TaskManagementResponseCode::TaskDoesNotExist => {
                self.pending.push(Pending {
                    tag: InitiatorTaskTag::NONE,
                    purpose: Purpose::Vanished(task, command),
                    cmd_sn: self.numbering.cmd_sn,
                    deadline: now + self.options.abort_timeout,
                });
            }
            _ => return Err(Reason::AbortRefused { command, response }),
        }
        Ok(())
    }

    /// Asks the target to abort a command. False if the target does not have it.
    fn abort_command(&mut self, id: u64, command: CommandId, deadline: Instant) -> bool {
        let Some(slot) = self.commands.find_id(command) else { return false };
        let entry = self.commands.entry(slot);
        let (lun, task, cmd_sn) = (entry.lun, entry.tag, entry.cmd_sn);
        if entry.stage == Stage::Waiting {
            self.withdraw(slot);
            return false;
        }
        let purpose = Purpose::Abort { id, task };
        self.send_task_management(TaskManagementFunction::AbortTask, lun, task, cmd_sn, purpose, deadline);
        true
    }

    /// Takes back a command that has no CmdSN yet.
    pub(super) fn withdraw(&mut self, slot: Slot) {
        self.waiting.retain(|&waiting| waiting != slot);
        self.end_command(slot, Ending::NotSent);
    }

    /// Ends the commands that a completed function was about: those of its logical unit, or of all, with a
    /// CmdSN before its own (RFC 7143, 4.2.3.2).
    fn end_affected(&mut self, lun: Option<Lun>, cmd_sn: SerialNumber) {
        let affected: Vec<Slot> = self
            .commands
            .iter()
            .filter(|&slot| {
                let entry = self.commands.entry(slot);
                let is_of_lun = lun.is_none_or(|lun| lun == entry.lun);
                entry.is_live() && entry.stage != Stage::Waiting && is_of_lun && entry.cmd_sn.precedes(cmd_sn)
            })
            .collect();
        for slot in affected {
            self.end_command(slot, Ending::Cleared);
        }
    }

    fn find_live(&self, task: InitiatorTaskTag) -> Option<Slot> {
        match self.commands.find(task) {
            Lookup::Found(slot) => Some(slot),
            Lookup::Aborted | Lookup::Unknown => None,
        }
    }

    fn aborts(&self) -> usize {
        self.pending.iter().filter(|pending| matches!(pending.purpose, Purpose::Timeout(..))).count()
    }

    fn send_task_management(
        &mut self,
        function: TaskManagementFunction,
        lun: Lun,
        referenced_task_tag: InitiatorTaskTag,
        ref_cmd_sn: SerialNumber,
        purpose: Purpose,
        deadline: Instant,
    ) {
        let tag = self.next_tag();
        let request = TaskManagementRequest {
            delivery: Delivery::Immediate,
            function,
            lun,
            initiator_task_tag: tag,
            referenced_task_tag,
            serials: self.numbering.serials(),
            ref_cmd_sn,
            exp_data_sn: 0,
        };
        self.outgoing.push(request.emit(), Some(Owner::Session));
        self.pending.push(Pending { tag, purpose, cmd_sn: self.numbering.cmd_sn, deadline });
    }
}
