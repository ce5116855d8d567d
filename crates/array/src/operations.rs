//! The commands that are there, and which bits of their CDBs mean something (SPC, 6.35).

use alloc::vec::Vec;

use scsi::Sense;
use scsi::cdb::{ReportingOptions, operation as op};
use scsi::opcodes::{
    CommandTimeouts, OneOperation, Support, SupportedOperation, SupportedOperations, SupportedTaskManagement,
    TaskManagementTimeouts,
};

use crate::refusal;
use crate::topology::{AccessChanges, Provisioning};
use crate::unit::Unit;

/// One command.
#[derive(Clone, Copy, Debug)]
struct Operation {
    action: Option<u8>,
    /// CDB USAGE DATA: the operation code, then a mask of the bits that are looked at. Where the service action is
    /// a part of a byte, its value stands there instead.
    usage: &'static [u8],
}

impl Operation {
    const fn code(&self) -> u8 {
        self.usage[0]
    }
}

/// REPORT SUPPORTED OPERATION CODES parameter data.
pub(crate) fn report(
    unit: &Unit,
    access: AccessChanges,
    options: ReportingOptions,
    timeouts: bool,
) -> Result<Vec<u8>, Sense> {
    // How long a command takes is not told.
    let timeouts = timeouts.then(CommandTimeouts::default);
    let (code, action) = match options {
        ReportingOptions::All => {
            let describe = |operation: &Operation| SupportedOperation {
                code: operation.code(),
                service_action: operation.action.map(u16::from),
                cdb_length: u16::try_from(operation.usage.len()).expect("a CDB has at most 16 bytes"),
                timeouts,
            };
            let operations = supported(unit, access).map(describe).collect();
            return Ok(SupportedOperations { operations }.emit());
        }
        ReportingOptions::Operation { code } => (code, None),
        ReportingOptions::ServiceAction { code, action } => (code, Some(action)),
        ReportingOptions::Either { code, action } if has_actions(code) => (code, Some(action)),
        ReportingOptions::Either { code, action: 0 } => (code, None),
        ReportingOptions::Either { .. } => return Ok(unsupported()),
    };
    let known = OPERATIONS.iter().any(|operation| operation.code() == code);
    // The question must fit the operation code; byte 2 asks it (SPC, 6.35.1: REPORTING OPTIONS).
    if known && has_actions(code) != action.is_some() {
        return Err(refusal::invalid_field(2, Some(2)));
    }
    let found = supported(unit, access)
        .find(|operation| operation.code() == code && operation.action.map(u16::from) == action);
    Ok(match found {
        Some(operation) => {
            OneOperation { support: Support::Standard, usage: operation.usage.to_vec(), timeouts }.emit()
        }
        None => unsupported(),
    })
}

fn unsupported() -> Vec<u8> {
    OneOperation { support: Support::No, usage: Vec::new(), timeouts: None }.emit()
}

fn has_actions(code: u8) -> bool {
    OPERATIONS.iter().any(|operation| operation.code() == code && operation.action.is_some())
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS parameter data.
pub(crate) fn report_task_management(extended: bool) -> Vec<u8> {
    let supported = SupportedTaskManagement {
        abort_task: true,
        abort_task_set: true,
        clear_aca: false,
        clear_task_set: true,
        logical_unit_reset: true,
        query_task: true,
        target_reset: true,
        query_asynchronous_event: true,
        query_task_set: true,
        nexus_reset: true,
        timeouts: extended.then(TaskManagementTimeouts::default),
    };
    supported.emit()
}

/// The commands of a unit, in the order of their codes.
fn supported(unit: &Unit, access: AccessChanges) -> impl Iterator<Item = &'static Operation> {
    let thin = unit.provisioning == Provisioning::Thin;
    OPERATIONS.iter().filter(move |operation| match (operation.code(), operation.action) {
        (op::UNMAP, _) => thin,
        (op::MAINTENANCE_IN, Some(op::REPORT_TARGET_PORT_GROUPS)) => access != AccessChanges::None,
        (op::MAINTENANCE_OUT, _) => access == AccessChanges::ImplicitAndExplicit,
        _ => true,
    })
}

/// DPO and FUA are 18h, DPO and BYTCHK 12h or 16h, IMMED 02h, GROUP NUMBER 3Fh. Protection fields are not there.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    Operation { action: None, usage: &[op::TEST_UNIT_READY, 0, 0, 0, 0, 0] },
    Operation { action: None, usage: &[op::REQUEST_SENSE, 0x01, 0, 0, 0xff, 0] },
    Operation { action: None, usage: &[op::READ_6, 0x1f, 0xff, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::WRITE_6, 0x1f, 0xff, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::INQUIRY, 0x01, 0xff, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::MODE_SELECT_6, 0x11, 0, 0, 0xff, 0] },
    Operation { action: None, usage: &[op::MODE_SENSE_6, 0x08, 0xff, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::START_STOP_UNIT, 0x01, 0, 0x0f, 0xf7, 0] },
    Operation { action: None, usage: &[op::PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, 0x03, 0] },
    Operation { action: None, usage: &[op::READ_CAPACITY_10, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
    Operation { action: None, usage: &[op::READ_10, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::WRITE_10, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::WRITE_AND_VERIFY_10, 0x12, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::VERIFY_10, 0x16, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::PRE_FETCH_10, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::SYNCHRONIZE_CACHE_10, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::WRITE_SAME_10, 0x08, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::UNMAP, 0, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::MODE_SELECT_10, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::MODE_SENSE_10, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0] },
    Operation { action: None, usage: &[op::READ_16, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::COMPARE_AND_WRITE, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::WRITE_16, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::OR_WRITE_16, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::WRITE_AND_VERIFY_16, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::VERIFY_16, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::PRE_FETCH_16, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::SYNCHRONIZE_CACHE_16, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::WRITE_SAME_16, 0x09, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: Some(op::READ_CAPACITY_16), usage: &[op::SERVICE_ACTION_IN_16, op::READ_CAPACITY_16, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0] },
    Operation { action: Some(op::GET_LBA_STATUS), usage: &[op::SERVICE_ACTION_IN_16, op::GET_LBA_STATUS, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0] },
    Operation { action: None, usage: &[op::REPORT_LUNS, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0] },
    Operation { action: Some(op::REPORT_TARGET_PORT_GROUPS), usage: &[op::MAINTENANCE_IN, 0xe0 | op::REPORT_TARGET_PORT_GROUPS, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0] },
    Operation { action: Some(op::REPORT_SUPPORTED_OPERATION_CODES), usage: &[op::MAINTENANCE_IN, op::REPORT_SUPPORTED_OPERATION_CODES, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0] },
    Operation { action: Some(op::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS), usage: &[op::MAINTENANCE_IN, op::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0] },
    Operation { action: Some(op::SET_TARGET_PORT_GROUPS), usage: &[op::MAINTENANCE_OUT, op::SET_TARGET_PORT_GROUPS, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0] },
    Operation { action: None, usage: &[op::READ_12, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::WRITE_12, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::WRITE_AND_VERIFY_12, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
    Operation { action: None, usage: &[op::VERIFY_12, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0] },
];

#[cfg(test)]
mod tests {
    use super::*;
    use scsi::cdb::operation::cdb_length;

    #[test]
    fn usage_data_is_as_long_as_the_command_and_the_codes_ascend() {
        for operation in OPERATIONS {
            assert_eq!(cdb_length(operation.code()), Some(operation.usage.len()), "{operation:02x?}");
        }
        assert!(OPERATIONS.is_sorted_by_key(|operation| (operation.code(), operation.action)));
    }
}
