//! Target port groups: REPORT and SET TARGET PORT GROUPS (SPC, 5.15, 6.37 and 6.45).

use alloc::vec::Vec;

use scsi::cdb::PortGroupsFormat;
use scsi::port_groups::{AccessState, PortGroup, PortGroups, SetPortGroups, StateChange, SupportedStates};
use scsi::{AdditionalSense, Sense};

use crate::array::Array;
use crate::refusal;
use crate::task_set::Task;
use crate::topology::{AccessChanges, GroupId, Topology, UnitId};
use crate::unit::Unit;

/// IMPLICIT TRANSITION TIME, in seconds: how long a change of state may take before it has failed.
const TRANSITION_SECS: u8 = 30;

const SUPPORTED: SupportedStates = SupportedStates {
    optimized: true,
    non_optimized: true,
    standby: true,
    unavailable: true,
    logical_block_dependent: false,
    offline: true,
    transitioning: true,
};

/// REPORT TARGET PORT GROUPS parameter data.
pub(crate) fn report(unit: &Unit, topology: Topology, format: PortGroupsFormat) -> Result<Vec<u8>, Sense> {
    let transition_secs = match format {
        PortGroupsFormat::LengthOnly => None,
        PortGroupsFormat::Extended => Some(TRANSITION_SECS),
        PortGroupsFormat::Reserved(_) => return Err(refusal::invalid_field(1, Some(7))),
    };
    let group = |id: GroupId| {
        let access = unit.reported(id);
        PortGroup {
            id: id.0,
            state: access.state,
            preferred: access.preferred,
            supported: SUPPORTED,
            status: access.changed_by,
            ports: topology.ports_of(id).map(|port| port.0).collect(),
        }
    };
    Ok(PortGroups { transition_secs, groups: topology.groups().map(group).collect() }.emit())
}

impl Array {
    /// SET TARGET PORT GROUPS: all of the list, or nothing of it. Everybody is told but the one who asked.
    pub(crate) fn set_port_groups(&mut self, id: UnitId, task: &Task, list: &[u8]) -> Result<(), Sense> {
        if self.options.access_changes != AccessChanges::ImplicitAndExplicit {
            return Err(refusal::unknown_operation());
        }
        if list.is_empty() {
            return Ok(());
        }
        let list = SetPortGroups::parse(list).map_err(|_| refusal::parameter_list_length())?;
        for (index, (group, state)) in list.groups.iter().enumerate() {
            check_wanted(self.topology, index, GroupId(*group), *state)?;
        }
        let mut changed = false;
        let Some(unit) = self.unit_mut(id) else { return Err(refusal::unit_not_supported()) };
        for (group, state) in list.groups {
            changed |= unit.set_access(GroupId(group), state, StateChange::Explicit);
        }
        if changed {
            self.raise(id, AdditionalSense::ALUA_STATE_CHANGED, Some(task.nexus));
        }
        Ok(())
    }
}

/// What an initiator may ask for: not a transition, and not offline (SPC, 6.45).
fn check_wanted(topology: Topology, index: usize, group: GroupId, state: AccessState) -> Result<(), Sense> {
    const HEADER: usize = 4;
    const DESCRIPTOR: usize = 4;
    let byte = u16::try_from(HEADER + index * DESCRIPTOR).unwrap_or(u16::MAX);
    let allowed = matches!(
        state,
        AccessState::Optimized | AccessState::NonOptimized | AccessState::Standby | AccessState::Unavailable
    );
    if !allowed {
        return Err(refusal::invalid_parameter(byte, Some(3)));
    }
    if !topology.has_group(group) {
        return Err(refusal::invalid_parameter(byte.saturating_add(2), None));
    }
    Ok(())
}
