//! Operation codes and service actions (SPC, SBC).

pub const TEST_UNIT_READY: u8 = 0x00;
pub const REQUEST_SENSE: u8 = 0x03;
pub const FORMAT_UNIT: u8 = 0x04;
pub const REASSIGN_BLOCKS: u8 = 0x07;
pub const READ_6: u8 = 0x08;
pub const WRITE_6: u8 = 0x0a;
pub const INQUIRY: u8 = 0x12;
pub const MODE_SELECT_6: u8 = 0x15;
pub const RESERVE_6: u8 = 0x16;
pub const RELEASE_6: u8 = 0x17;
pub const MODE_SENSE_6: u8 = 0x1a;
pub const START_STOP_UNIT: u8 = 0x1b;
pub const RECEIVE_DIAGNOSTIC_RESULTS: u8 = 0x1c;
pub const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
pub const READ_CAPACITY_10: u8 = 0x25;
pub const READ_10: u8 = 0x28;
pub const WRITE_10: u8 = 0x2a;
pub const WRITE_AND_VERIFY_10: u8 = 0x2e;
pub const VERIFY_10: u8 = 0x2f;
pub const PRE_FETCH_10: u8 = 0x34;
pub const SYNCHRONIZE_CACHE_10: u8 = 0x35;
pub const READ_DEFECT_DATA_10: u8 = 0x37;
pub const WRITE_BUFFER: u8 = 0x3b;
pub const READ_BUFFER_10: u8 = 0x3c;
pub const WRITE_SAME_10: u8 = 0x41;
pub const UNMAP: u8 = 0x42;
pub const SANITIZE: u8 = 0x48;
pub const LOG_SENSE: u8 = 0x4d;
pub const XDWRITE_10: u8 = 0x50;
pub const XPWRITE_10: u8 = 0x51;
pub const XDREAD_10: u8 = 0x52;
pub const XDWRITEREAD_10: u8 = 0x53;
pub const MODE_SELECT_10: u8 = 0x55;
pub const RESERVE_10: u8 = 0x56;
pub const RELEASE_10: u8 = 0x57;
pub const MODE_SENSE_10: u8 = 0x5a;
pub const PERSISTENT_RESERVE_IN: u8 = 0x5e;
pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
/// Its service action, in bytes 8 and 9, is the command.
pub const VARIABLE_LENGTH: u8 = 0x7f;
/// EXTENDED COPY, POPULATE TOKEN, WRITE USING TOKEN, by service action.
pub const THIRD_PARTY_COPY_OUT: u8 = 0x83;
/// RECEIVE COPY STATUS and what else is asked about copies, by service action.
pub const THIRD_PARTY_COPY_IN: u8 = 0x84;
pub const ATA_PASS_THROUGH_16: u8 = 0x85;
pub const READ_16: u8 = 0x88;
pub const COMPARE_AND_WRITE: u8 = 0x89;
pub const WRITE_16: u8 = 0x8a;
pub const OR_WRITE_16: u8 = 0x8b;
pub const WRITE_AND_VERIFY_16: u8 = 0x8e;
pub const VERIFY_16: u8 = 0x8f;
pub const PRE_FETCH_16: u8 = 0x90;
pub const SYNCHRONIZE_CACHE_16: u8 = 0x91;
pub const WRITE_SAME_16: u8 = 0x93;
/// CLOSE, FINISH, OPEN and RESET WRITE POINTER of zones, by service action (ZBC).
pub const ZBC_OUT: u8 = 0x94;
/// REPORT ZONES and others, by service action (ZBC).
pub const ZBC_IN: u8 = 0x95;
pub const WRITE_STREAM_16: u8 = 0x9a;
pub const READ_BUFFER_16: u8 = 0x9b;
pub const WRITE_ATOMIC_16: u8 = 0x9c;
pub const SERVICE_ACTION_IN_16: u8 = 0x9e;
pub const REPORT_LUNS: u8 = 0xa0;
pub const ATA_PASS_THROUGH_12: u8 = 0xa1;
pub const MAINTENANCE_IN: u8 = 0xa3;
pub const MAINTENANCE_OUT: u8 = 0xa4;
pub const READ_12: u8 = 0xa8;
pub const WRITE_12: u8 = 0xaa;
pub const WRITE_AND_VERIFY_12: u8 = 0xae;
pub const VERIFY_12: u8 = 0xaf;
pub const SECURITY_PROTOCOL_OUT: u8 = 0xb5;
pub const READ_DEFECT_DATA_12: u8 = 0xb7;

/// Under [`SERVICE_ACTION_IN_16`].
pub const READ_CAPACITY_16: u8 = 0x10;
/// Under [`SERVICE_ACTION_IN_16`].
pub const GET_LBA_STATUS: u8 = 0x12;
/// Under [`SERVICE_ACTION_IN_16`].
pub const REPORT_REFERRALS: u8 = 0x13;
/// Under [`SERVICE_ACTION_IN_16`].
pub const GET_STREAM_STATUS: u8 = 0x16;
/// Under [`MAINTENANCE_IN`].
pub const REPORT_TARGET_PORT_GROUPS: u8 = 0x0a;
/// Under [`MAINTENANCE_IN`].
pub const REPORT_SUPPORTED_OPERATION_CODES: u8 = 0x0c;
/// Under [`MAINTENANCE_IN`].
pub const REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS: u8 = 0x0d;
/// Under [`MAINTENANCE_OUT`].
pub const SET_TARGET_PORT_GROUPS: u8 = 0x0a;
/// Under [`THIRD_PARTY_COPY_OUT`].
pub const POPULATE_TOKEN: u8 = 0x10;
/// Under [`THIRD_PARTY_COPY_OUT`].
pub const WRITE_USING_TOKEN: u8 = 0x11;
/// Under [`ZBC_IN`].
pub const REPORT_ZONES: u8 = 0x00;

/// Under [`VARIABLE_LENGTH`].
pub const XDREAD_32: u16 = 0x0003;
/// Under [`VARIABLE_LENGTH`].
pub const XDWRITE_32: u16 = 0x0004;
/// Under [`VARIABLE_LENGTH`].
pub const XPWRITE_32: u16 = 0x0006;
/// Under [`VARIABLE_LENGTH`].
pub const XDWRITEREAD_32: u16 = 0x0007;
/// Under [`VARIABLE_LENGTH`].
pub const READ_32: u16 = 0x0009;
/// Under [`VARIABLE_LENGTH`].
pub const VERIFY_32: u16 = 0x000a;
/// Under [`VARIABLE_LENGTH`].
pub const WRITE_32: u16 = 0x000b;
/// Under [`VARIABLE_LENGTH`].
pub const WRITE_AND_VERIFY_32: u16 = 0x000c;
/// Under [`VARIABLE_LENGTH`].
pub const WRITE_SAME_32: u16 = 0x000d;
/// Under [`VARIABLE_LENGTH`].
pub const OR_WRITE_32: u16 = 0x000e;
/// Under [`VARIABLE_LENGTH`].
pub const WRITE_ATOMIC_32: u16 = 0x000f;
/// Under [`VARIABLE_LENGTH`].
pub const WRITE_STREAM_32: u16 = 0x0010;

/// The length of a CDB by the group in its operation code (SPC, 4.2.5.1); none for the variable-length, reserved
/// and vendor-specific groups.
#[must_use]
pub const fn cdb_length(operation_code: u8) -> Option<usize> {
    match operation_code >> 5 {
        0 => Some(6),
        1 | 2 => Some(10),
        4 => Some(16),
        5 => Some(12),
        _ => None,
    }
}
