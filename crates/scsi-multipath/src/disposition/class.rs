//! What may be done with a command whose outcome is unknown.

use scsi::CdbBytes;
use scsi::cdb::operation as op;

/// What may be done with a command whose outcome is unknown. Decided when the command is built.
///
/// Today [`Self::Read`] and [`Self::Write`] are sent again, and every other class fails with
/// [`crate::Failure::UnknownOutcome`], because a disk issues none of them. What would be right for each *after* the
/// fence of its path, when it is certain that no copy can still take effect, stands with the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandClass {
    /// Changes nothing: READ, INQUIRY, REPORT TARGET PORT GROUPS, PERSISTENT RESERVE IN, …
    ///
    /// Needs no fence; may be sent twice at the same time.
    Read,
    /// Leaves the same state however often it is executed with the same bytes, as long as nothing that overlaps it
    /// comes between: WRITE, WRITE SAME, UNMAP, ORWRITE(16), SYNCHRONIZE CACHE.
    ///
    /// If only we write to the logical unit, it is sent again before the fence, and what overlaps it waits.
    Write,
    /// Executes only if a condition holds, which its own first execution may have changed: COMPARE AND WRITE,
    /// ORWRITE(32) with its generation, WRITE STREAM, zone commands. A write to a sequential zone is one as well, and
    /// its CDB does not show that: zoned logical units are not served.
    ///
    /// After the fence: sent again, once. If that says MISCOMPARE (or UNALIGNED WRITE COMMAND), the range is read:
    /// if it holds what was to be written, and only we write to the logical unit, the first one had succeeded;
    /// otherwise ABORTED COMMAND, so that the user reads again. Our own success never becomes a MISCOMPARE.
    Conditional,
    /// Its effect depends on what was there: XDWRITE, XPWRITE, XDWRITEREAD.
    ///
    /// Never sent again: ABORTED COMMAND.
    Relative,
    /// PERSISTENT RESERVE OUT, and RESERVE and RELEASE of SPC-2.
    ///
    /// After the fence: decided by PERSISTENT RESERVE IN. The wanted key, holder and type are there, or the victim
    /// is gone: done. Otherwise sent again, a REGISTER as REGISTER AND IGNORE EXISTING KEY; a RESERVATION CONFLICT
    /// for a PREEMPT whose victim is gone is success. A reservation of SPC-2 does not outlive the reset of the
    /// fence: its owner is told.
    Reservation,
    /// EXTENDED COPY, POPULATE TOKEN, WRITE USING TOKEN.
    ///
    /// After the fence: decided by RECEIVE COPY STATUS with the list identifier; COPY ABORTED if that is not known.
    ThirdPartyCopy,
    /// Changes the device or destroys data at large: MODE SELECT, FORMAT UNIT, SANITIZE, REASSIGN BLOCKS, START STOP
    /// UNIT, WRITE BUFFER, SECURITY PROTOCOL OUT, ATA PASS-THROUGH, SET TARGET PORT GROUPS, vendor codes, and
    /// whatever is not known.
    ///
    /// Never sent again: ABORTED COMMAND.
    Modal,
}

impl CommandClass {
    /// By operation code and service action (SPC, SBC, ZBC). What is not known is [`Self::Modal`].
    #[must_use]
    pub fn of(cdb: &CdbBytes) -> Self {
        match cdb.operation_code() {
            op::TEST_UNIT_READY | op::REQUEST_SENSE | op::INQUIRY | op::MODE_SENSE_6 | op::MODE_SENSE_10 => {
                Self::Read
            }
            op::RECEIVE_DIAGNOSTIC_RESULTS | op::LOG_SENSE | op::REPORT_LUNS | op::MAINTENANCE_IN => {
                Self::Read
            }
            op::READ_6 | op::READ_10 | op::READ_12 | op::READ_16 | op::READ_CAPACITY_10 => Self::Read,
            op::PRE_FETCH_10 | op::PRE_FETCH_16 | op::XDREAD_10 => Self::Read,
            op::READ_DEFECT_DATA_10 | op::READ_DEFECT_DATA_12 | op::READ_BUFFER_10 | op::READ_BUFFER_16 => {
                Self::Read
            }
            op::PERSISTENT_RESERVE_IN | op::THIRD_PARTY_COPY_IN => Self::Read,
            op::VERIFY_10 | op::VERIFY_12 | op::VERIFY_16 => verify(cdb),

            op::WRITE_6 | op::WRITE_10 | op::WRITE_12 | op::WRITE_16 | op::WRITE_ATOMIC_16 => Self::Write,
            op::WRITE_AND_VERIFY_10 | op::WRITE_AND_VERIFY_12 | op::WRITE_AND_VERIFY_16 => Self::Write,
            op::WRITE_SAME_10 | op::WRITE_SAME_16 | op::UNMAP | op::OR_WRITE_16 => Self::Write,
            op::SYNCHRONIZE_CACHE_10 | op::SYNCHRONIZE_CACHE_16 | op::PREVENT_ALLOW_MEDIUM_REMOVAL => {
                Self::Write
            }

            op::COMPARE_AND_WRITE | op::WRITE_STREAM_16 | op::ZBC_OUT => Self::Conditional,
            op::XDWRITE_10 | op::XPWRITE_10 | op::XDWRITEREAD_10 => Self::Relative,
            op::PERSISTENT_RESERVE_OUT | op::RESERVE_6 | op::RELEASE_6 | op::RESERVE_10 | op::RELEASE_10 => {
                Self::Reservation
            }
            op::THIRD_PARTY_COPY_OUT => Self::ThirdPartyCopy,

            op::SERVICE_ACTION_IN_16 => service_action_in(cdb),
            op::ZBC_IN => zoned_in(cdb),
            op::VARIABLE_LENGTH => variable_length(cdb),
            _ => Self::Modal,
        }
    }

    /// Whether executing the command twice, with nothing in between, is the same as executing it once.
    #[must_use]
    pub const fn repeatable(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// With data to compare it changes nothing either, but it sends from a buffer that must stay as it is until no copy
/// of it is left.
const fn verify(cdb: &CdbBytes) -> CommandClass {
    if cdb.sends_data_to_compare() { CommandClass::Write } else { CommandClass::Read }
}

/// Some actions under this code open streams or take elements out of use, whatever its name says.
fn service_action_in(cdb: &CdbBytes) -> CommandClass {
    match u8::try_from(cdb.service_action()) {
        Ok(op::READ_CAPACITY_16 | op::GET_LBA_STATUS | op::REPORT_REFERRALS | op::GET_STREAM_STATUS) => {
            CommandClass::Read
        }
        _ => CommandClass::Modal,
    }
}

/// ZONE ACTIVATE stands among them.
fn zoned_in(cdb: &CdbBytes) -> CommandClass {
    match u8::try_from(cdb.service_action()) {
        Ok(op::REPORT_ZONES) => CommandClass::Read,
        _ => CommandClass::Conditional,
    }
}

const fn variable_length(cdb: &CdbBytes) -> CommandClass {
    match cdb.service_action() {
        op::READ_32 | op::XDREAD_32 => CommandClass::Read,
        op::VERIFY_32 => verify(cdb),
        op::WRITE_32 | op::WRITE_AND_VERIFY_32 | op::WRITE_SAME_32 | op::WRITE_ATOMIC_32 => {
            CommandClass::Write
        }
        op::OR_WRITE_32 | op::WRITE_STREAM_32 => CommandClass::Conditional,
        op::XDWRITE_32 | op::XPWRITE_32 | op::XDWRITEREAD_32 => CommandClass::Relative,
        _ => CommandClass::Modal,
    }
}
