//! Which commands are let in: unit attentions and asymmetric access states (SAM, 5.14; SPC, 5.15.2).

use scsi::cdb::Cdb;
use scsi::port_groups::AccessState;
use scsi::{AdditionalSense, Sense, SenseKey};

use crate::array::Array;
use crate::faults::Kind;
use crate::task_set::Task;
use crate::topology::{NexusId, UnitId};

impl Array {
    /// # Errors
    /// What the command is refused with.
    pub(crate) fn may_enter(&mut self, id: UnitId, task: &Task) -> Result<(), Sense> {
        // These three are executed whatever is pending; REQUEST SENSE takes it as its data (SAM, 5.14.5).
        let spared =
            matches!(task.command, Cdb::Inquiry { .. } | Cdb::ReportLuns { .. } | Cdb::RequestSense { .. });
        if !spared && let Some(sense) = self.pending_attention(task.nexus, id) {
            return Err(sense);
        }
        let group = self.topology.group_of(task.port);
        let Some(unit) = self.unit(id) else { return Ok(()) };
        check_access(unit.access(group).state, &task.command)
    }

    /// The next unit attention, told and cleared by this.
    pub(crate) fn pending_attention(&mut self, nexus: NexusId, id: UnitId) -> Option<Sense> {
        let attentions = &mut self.nexuses.get_mut(&nexus)?.attentions[id.index()];
        attentions.tell().map(|attention| Sense::new(SenseKey::UnitAttention, attention))
    }
}

/// What a port group in this state executes (SPC, 5.15.2.4 to 5.15.2.8).
fn check_access(state: AccessState, command: &Cdb) -> Result<(), Sense> {
    let (admitted, reason) = match state {
        AccessState::Standby => (in_standby(command), AdditionalSense::LUN_NOT_READY_ALUA_STANDBY),
        AccessState::Unavailable => {
            (in_unavailable(command), AdditionalSense::LUN_NOT_READY_ALUA_UNAVAILABLE)
        }
        AccessState::Offline => (in_transition(command), LUN_NOT_READY_OFFLINE),
        AccessState::Transitioning => {
            (in_transition(command), AdditionalSense::LUN_NOT_READY_ALUA_TRANSITION)
        }
        _ => return Ok(()),
    };
    if admitted { Ok(()) } else { Err(Sense::new(SenseKey::NotReady, reason)) }
}

/// 04/12: logical unit not ready, offline.
const LUN_NOT_READY_OFFLINE: AdditionalSense = AdditionalSense::new(0x04, 0x12);

fn in_standby(command: &Cdb) -> bool {
    in_unavailable(command)
        || matches!(
            command,
            Cdb::ModeSense { .. }
                | Cdb::ModeSelect { .. }
                | Cdb::PersistentReserveIn { .. }
                | Cdb::PersistentReserveOut { .. }
        )
}

fn in_unavailable(command: &Cdb) -> bool {
    in_transition(command) || matches!(command, Cdb::SetTargetPortGroups { .. })
}

fn in_transition(command: &Cdb) -> bool {
    matches!(
        command,
        Cdb::Inquiry { .. }
            | Cdb::ReportLuns { .. }
            | Cdb::RequestSense { .. }
            | Cdb::ReportTargetPortGroups { .. }
    )
}

/// What a command does to the medium.
pub(crate) const fn kind(command: &Cdb) -> Kind {
    match command {
        Cdb::Read(_) => Kind::Read,
        Cdb::Write(_)
        | Cdb::WriteAndVerify { .. }
        | Cdb::OrWrite(_)
        | Cdb::WriteSame(_)
        | Cdb::Unmap { .. }
        | Cdb::CompareAndWrite { .. } => Kind::Write,
        Cdb::SynchronizeCache { .. } => Kind::Flush,
        _ => Kind::Control,
    }
}

/// The first and the last block that a command names; UNMAP names them in its data.
pub(crate) fn blocks(command: &Cdb) -> Option<(u64, u64)> {
    let (lba, count) = match command {
        Cdb::Read(access) | Cdb::Write(access) | Cdb::OrWrite(access) => (access.lba, access.blocks.0),
        Cdb::WriteAndVerify { access, .. } | Cdb::Verify { access, .. } => (access.lba, access.blocks.0),
        Cdb::WriteSame(same) => (same.lba, same.blocks.0),
        Cdb::CompareAndWrite { lba, blocks, .. } => (*lba, u32::from(*blocks)),
        _ => return None,
    };
    let last = u64::from(count.checked_sub(1)?);
    Some((lba.0, lba.0.saturating_add(last)))
}
