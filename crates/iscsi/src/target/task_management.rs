//! Task management (RFC 7143, 11.5 and 11.6): what the session can end by itself, and what it asks for.

use scsi::Lun;

use super::reply::Queued;
use super::session::Session;
use super::tasks::{State, Task};
use super::{
    Action, CommandTag, Disconnect, TASK_MANAGEMENT_MAX, TaskManagement, TaskManagementResponse,
    TaskManagementTag,
};
use crate::pdu::{
    InitiatorTaskTag, SerialNumber, TaskManagementFunction, TaskManagementRequest, TaskManagementResponseCode,
};

/// Functions that the device server has not answered; at most [`TASK_MANAGEMENT_MAX`].
#[derive(Debug, Default)]
pub(super) struct Managements {
    pending: Vec<Pending>,
    next_tag: u64,
}

#[derive(Debug)]
struct Pending {
    tag: TaskManagementTag,
    initiator_task_tag: InitiatorTaskTag,
    function: TaskManagement,
    lun: Lun,
    referenced: Option<CommandTag>,
    /// Commands from this sequence on came later and are not meant.
    before: u64,
}

impl Session {
    pub(super) fn task_management(&mut self, pdu: &TaskManagementRequest) {
        let function = match pdu.function {
            TaskManagementFunction::AbortTask => return self.abort_task(pdu),
            TaskManagementFunction::AbortTaskSet => TaskManagement::AbortTaskSet,
            TaskManagementFunction::ClearAca => TaskManagement::ClearAca,
            TaskManagementFunction::ClearTaskSet => TaskManagement::ClearTaskSet,
            TaskManagementFunction::LogicalUnitReset => TaskManagement::LogicalUnitReset,
            TaskManagementFunction::TargetWarmReset => TaskManagement::TargetWarmReset,
            TaskManagementFunction::TargetColdReset => TaskManagement::TargetColdReset,
            TaskManagementFunction::TaskReassign => {
                return self
                    .respond(pdu.initiator_task_tag, TaskManagementResponseCode::ReassignmentNotSupported);
            }
            // RFC 7144 needs iSCSIProtocolLevel 2, which is not negotiated.
            _ => return self.respond(pdu.initiator_task_tag, TaskManagementResponseCode::NotSupported),
        };
        self.ask(pdu, function, None);
    }

    fn abort_task(&mut self, pdu: &TaskManagementRequest) {
        let slot = self.tasks.find(pdu.referenced_task_tag);
        let slot = slot.filter(|&slot| self.tasks.get(slot).is_some_and(|task| task.lun == pdu.lun));
        let Some(slot) = slot else {
            let response = self.abort_absent(pdu);
            return self.respond(pdu.initiator_task_tag, response);
        };
        if matches!(self.tasks.get(slot), Some(Task { state: State::Delivered, .. })) {
            let referenced = self.tasks.tag(slot);
            return self.ask(pdu, TaskManagement::AbortTask, referenced);
        }
        self.forget(slot);
        self.deliver(None);
        self.respond(pdu.initiator_task_tag, TaskManagementResponseCode::Complete);
    }

    /// The referenced command is not here. If its CmdSN is still to come it counts as come, so that it is
    /// ignored should it arrive (RFC 7143, 11.6.1); else there is no such task.
    fn abort_absent(&mut self, pdu: &TaskManagementRequest) -> TaskManagementResponseCode {
        let reference = pdu.ref_cmd_sn;
        let numbers = &mut self.numbers;
        let to_come = |cmd_sn: SerialNumber| {
            !cmd_sn.precedes(numbers.exp_cmd_sn) && !numbers.max_cmd_sn.precedes(cmd_sn)
        };
        if !to_come(reference) || !reference.precedes(pdu.serials.cmd_sn) || numbers.is_ahead(reference) {
            return TaskManagementResponseCode::TaskDoesNotExist;
        }
        numbers.arrived(crate::pdu::Delivery::Ordered, reference);
        self.deliver(None);
        TaskManagementResponseCode::Complete
    }

    fn ask(&mut self, pdu: &TaskManagementRequest, function: TaskManagement, referenced: Option<CommandTag>) {
        if self.managements.pending.len() >= TASK_MANAGEMENT_MAX {
            return self.respond(pdu.initiator_task_tag, TaskManagementResponseCode::Rejected);
        }
        if matches!(self.kind, super::session::Kind::Discovery) {
            return self.respond(pdu.initiator_task_tag, TaskManagementResponseCode::NotSupported);
        }
        let before = self.tasks.now();
        self.end_covered(function, pdu.lun, before, Stage::Undelivered);
        let tag = TaskManagementTag(self.managements.next_tag);
        self.managements.next_tag += 1;
        let initiator_task_tag = pdu.initiator_task_tag;
        let lun = pdu.lun;
        self.managements.pending.push(Pending { tag, initiator_task_tag, function, lun, referenced, before });
        self.actions.push_back(Action::TaskManagement { tag, function, lun, referenced });
    }

    /// The device server is done. What it ended gets no answer any more.
    pub(super) fn task_management_done(&mut self, tag: TaskManagementTag, response: TaskManagementResponse) {
        let Some(index) = self.managements.pending.iter().position(|pending| pending.tag == tag) else {
            return;
        };
        let pending = self.managements.pending.remove(index);
        let complete = response == TaskManagementResponse::Complete;
        if complete {
            self.end_covered(pending.function, pending.lun, pending.before, Stage::Delivered);
        }
        // A command that the device server does not know was ended behind our back: nobody will answer it.
        if let Some(tag) = pending.referenced
            && matches!(response, TaskManagementResponse::Complete | TaskManagementResponse::TaskDoesNotExist)
        {
            self.aborted(tag);
        }
        self.respond(pending.initiator_task_tag, response.into());
        if complete && pending.function == TaskManagement::TargetColdReset {
            // RFC 7143, 11.5.1: a cold reset ends all sessions, as power on would.
            self.flush(Disconnect::Dropped);
        }
    }

    /// Forgets a command that the device server ended without an answer.
    pub(super) fn aborted(&mut self, tag: CommandTag) {
        if let Some(slot) = self.tasks.by_tag(tag) {
            self.forget(slot);
            self.deliver(None);
        }
    }

    /// Forgets the commands that a function covers, on our side or on the device server's.
    fn end_covered(&mut self, function: TaskManagement, lun: Lun, before: u64, stage: Stage) {
        let whole_target = match function {
            TaskManagement::AbortTask | TaskManagement::ClearAca => return,
            TaskManagement::AbortTaskSet
            | TaskManagement::ClearTaskSet
            | TaskManagement::LogicalUnitReset => false,
            TaskManagement::TargetWarmReset | TaskManagement::TargetColdReset => true,
        };
        for slot in self.tasks.slots_by_age() {
            let covered = self.tasks.get(slot).is_some_and(|task| {
                let delivered = matches!(task.state, State::Delivered);
                task.sequence < before
                    && (whole_target || task.lun == lun)
                    && delivered == matches!(stage, Stage::Delivered)
            });
            if covered {
                self.forget(slot);
            }
        }
        self.deliver(None);
    }

    fn respond(&mut self, initiator_task_tag: InitiatorTaskTag, response: TaskManagementResponseCode) {
        self.queue.push_back(Queued::TaskManagement { initiator_task_tag, response });
    }
}

/// Whose hands a command is in.
#[derive(Clone, Copy)]
enum Stage {
    Undelivered,
    Delivered,
}

impl From<TaskManagementResponse> for TaskManagementResponseCode {
    fn from(response: TaskManagementResponse) -> Self {
        match response {
            TaskManagementResponse::Complete => Self::Complete,
            TaskManagementResponse::TaskDoesNotExist => Self::TaskDoesNotExist,
            TaskManagementResponse::LunDoesNotExist => Self::LunDoesNotExist,
            TaskManagementResponse::NotSupported => Self::NotSupported,
            TaskManagementResponse::Rejected => Self::Rejected,
        }
    }
}
