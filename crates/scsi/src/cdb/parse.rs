//! Bytes to [`Cdb`].

use super::operation as op;
use super::{
    ByteCheck, Cdb, CdbError, Form, LongForm, MediumAccess, ModeForm, PageControl, PortGroupsFormat,
    ReportingOptions, ReserveIn, ReserveOut, SelectReport, WriteSame,
};
use crate::bytes::{bit_at, u8_at, u16_at, u32_at, u64_at};
use crate::reservations::{ReservationType, Scope};
use crate::{Blocks, Lba};

impl Cdb {
    /// Understands a CDB. Bytes beyond the length that the operation code implies are ignored: transports with a
    /// fixed field pad it.
    ///
    /// # Errors
    /// The sender's fault; [`CdbError::sense`] is the answer to give.
    pub fn parse(cdb: &[u8]) -> Result<Self, CdbError> {
        let code = *cdb.first().ok_or(CdbError::WrongLength { expected: 6, got: 0 })?;
        let expected = op::cdb_length(code).ok_or(CdbError::UnknownOperationCode)?;
        let got = cdb.len();
        let cdb = cdb.get(..expected).ok_or(CdbError::WrongLength { expected, got })?;
        let parsed = match code {
            op::MAINTENANCE_IN | op::MAINTENANCE_OUT | op::SERVICE_ACTION_IN_16 => service_action(cdb),
            op::PERSISTENT_RESERVE_IN => persistent_reserve_in(cdb),
            op::PERSISTENT_RESERVE_OUT => persistent_reserve_out(cdb),
            _ => medium(cdb).or_else(|| ranged(cdb)).map_or_else(|| control(cdb), Ok),
        }?;
        refuse_naca(cdb)?;
        Ok(parsed)
    }
}

/// NACA stands in the control byte, the last one of every CDB here.
const NACA: u8 = 2;

fn refuse_naca(cdb: &[u8]) -> Result<(), CdbError> {
    let last = cdb.len() - 1;
    if bit_at(cdb, last, NACA) {
        let byte = u16::try_from(last).unwrap_or(u16::MAX);
        return Err(CdbError::InvalidField { byte, bit: Some(NACA) });
    }
    Ok(())
}

/// Commands that read, write or verify blocks.
fn medium(cdb: &[u8]) -> Option<Cdb> {
    let (byte_check, access) = (byte_check(cdb), medium_access(cdb));
    // FUA is not a field of WRITE AND VERIFY and VERIFY.
    let unforced = MediumAccess { force_unit_access: false, ..access };
    Some(match cdb[0] {
        op::READ_6 | op::READ_10 | op::READ_12 | op::READ_16 => Cdb::Read(access),
        op::WRITE_6 | op::WRITE_10 | op::WRITE_12 | op::WRITE_16 => Cdb::Write(access),
        op::WRITE_AND_VERIFY_10 | op::WRITE_AND_VERIFY_12 | op::WRITE_AND_VERIFY_16 => {
            Cdb::WriteAndVerify { access: unforced, byte_check }
        }
        op::VERIFY_10 | op::VERIFY_12 | op::VERIFY_16 => Cdb::Verify { access: unforced, byte_check },
        op::OR_WRITE_16 => Cdb::OrWrite(access),
        _ => return None,
    })
}

fn medium_access(cdb: &[u8]) -> MediumAccess {
    if cdb.len() == 6 {
        let lba = u32_at(cdb, 0) & 0x1f_ffff;
        let blocks = match cdb[4] {
            0 => 256,
            blocks => blocks.into(),
        };
        return MediumAccess::new(Form::Six, Lba(lba.into()), Blocks(blocks));
    }
    let form = match cdb.len() {
        10 => Form::Ten,
        12 => Form::Twelve,
        _ => Form::Sixteen,
    };
    let Range { lba, blocks, group } = range(cdb);
    MediumAccess {
        form,
        lba,
        blocks,
        protect: cdb[1] >> 5,
        disable_page_out: bit_at(cdb, 1, 4),
        force_unit_access: bit_at(cdb, 1, 3),
        group,
    }
}

struct Range {
    lba: Lba,
    blocks: Blocks,
    group: u8,
}

/// The LBA, length and group number fields of a CDB of 10 bytes or more.
fn range(cdb: &[u8]) -> Range {
    let lba = Lba(u32_at(cdb, 2).into());
    let group = |at| u8_at(cdb, at) & 0x3f;
    match cdb.len() {
        10 => Range { lba, blocks: Blocks(u16_at(cdb, 7).into()), group: group(6) },
        12 => Range { lba, blocks: Blocks(u32_at(cdb, 6)), group: group(10) },
        _ => Range { lba: Lba(u64_at(cdb, 2)), blocks: Blocks(u32_at(cdb, 10)), group: group(14) },
    }
}

fn byte_check(cdb: &[u8]) -> ByteCheck {
    match cdb[1] >> 1 & 0b11 {
        0b00 => ByteCheck::Medium,
        0b01 => ByteCheck::Data,
        0b10 => ByteCheck::Reserved,
        _ => ByteCheck::OneBlock,
    }
}

/// Commands on a range of blocks whose data, if any, is not those blocks.
fn ranged(cdb: &[u8]) -> Option<Cdb> {
    let form = if cdb.len() == 16 { LongForm::Sixteen } else { LongForm::Ten };
    let Range { lba, blocks, group } = range(cdb);
    let immediate = bit_at(cdb, 1, 1);
    Some(match cdb[0] {
        op::PRE_FETCH_10 | op::PRE_FETCH_16 => Cdb::PreFetch { form, lba, blocks, immediate, group },
        op::SYNCHRONIZE_CACHE_10 | op::SYNCHRONIZE_CACHE_16 => {
            Cdb::SynchronizeCache { form, lba, blocks, immediate, group }
        }
        op::WRITE_SAME_10 | op::WRITE_SAME_16 => Cdb::WriteSame(WriteSame {
            form,
            lba,
            blocks,
            protect: cdb[1] >> 5,
            anchor: bit_at(cdb, 1, 4),
            unmap: bit_at(cdb, 1, 3),
            no_data_out: form == LongForm::Sixteen && bit_at(cdb, 1, 0),
            group,
        }),
        op::COMPARE_AND_WRITE => Cdb::CompareAndWrite {
            lba,
            blocks: cdb[13],
            protect: cdb[1] >> 5,
            disable_page_out: bit_at(cdb, 1, 4),
            force_unit_access: bit_at(cdb, 1, 3),
            group,
        },
        op::UNMAP => Cdb::Unmap { anchor: bit_at(cdb, 1, 0), group, parameter_list_length: u16_at(cdb, 7) },
        _ => return None,
    })
}

/// Commands about the device rather than its blocks.
fn control(cdb: &[u8]) -> Result<Cdb, CdbError> {
    Ok(match cdb[0] {
        op::TEST_UNIT_READY => Cdb::TestUnitReady,
        op::REQUEST_SENSE => Cdb::RequestSense { descriptor: bit_at(cdb, 1, 0), allocation_length: cdb[4] },
        op::INQUIRY => return inquiry(cdb),
        op::MODE_SENSE_6 | op::MODE_SENSE_10 => mode_sense(cdb),
        op::MODE_SELECT_6 | op::MODE_SELECT_10 => mode_select(cdb),
        op::REPORT_LUNS => {
            Cdb::ReportLuns { select: SelectReport::from(cdb[2]), allocation_length: u32_at(cdb, 6) }
        }
        op::READ_CAPACITY_10 => Cdb::ReadCapacity10,
        op::START_STOP_UNIT => Cdb::StartStopUnit {
            immediate: bit_at(cdb, 1, 0),
            power_condition: cdb[4] >> 4,
            power_condition_modifier: cdb[3] & 0x0f,
            no_flush: bit_at(cdb, 4, 2),
            load_eject: bit_at(cdb, 4, 1),
            start: bit_at(cdb, 4, 0),
        },
        op::PREVENT_ALLOW_MEDIUM_REMOVAL => Cdb::PreventAllowMediumRemoval { prevent: cdb[4] & 0b11 },
        op::RESERVE_6 => Cdb::Reserve6,
        op::RELEASE_6 => Cdb::Release6,
        _ => return Err(CdbError::UnknownOperationCode),
    })
}

/// A page code without EVPD, and CMDDT (obsolete since SPC-3), are refused (SPC, 6.7.1).
fn inquiry(cdb: &[u8]) -> Result<Cdb, CdbError> {
    if bit_at(cdb, 1, 1) {
        return Err(CdbError::InvalidField { byte: 1, bit: Some(1) });
    }
    let vital = bit_at(cdb, 1, 0);
    if !vital && cdb[2] != 0 {
        return Err(CdbError::InvalidField { byte: 2, bit: None });
    }
    Ok(Cdb::Inquiry { page: vital.then_some(cdb[2]), allocation_length: u16_at(cdb, 3) })
}

fn mode_sense(cdb: &[u8]) -> Cdb {
    let (form, allocation_length) = mode_length(cdb);
    Cdb::ModeSense {
        form,
        long_lba_accepted: form == ModeForm::Ten && bit_at(cdb, 1, 4),
        disable_block_descriptors: bit_at(cdb, 1, 3),
        control: match cdb[2] >> 6 {
            0 => PageControl::Current,
            1 => PageControl::Changeable,
            2 => PageControl::Default,
            _ => PageControl::Saved,
        },
        page: cdb[2] & 0x3f,
        subpage: cdb[3],
        allocation_length,
    }
}

fn mode_select(cdb: &[u8]) -> Cdb {
    let (form, parameter_list_length) = mode_length(cdb);
    Cdb::ModeSelect {
        form,
        page_format: bit_at(cdb, 1, 4),
        revert_to_defaults: bit_at(cdb, 1, 1),
        save_pages: bit_at(cdb, 1, 0),
        parameter_list_length,
    }
}

fn mode_length(cdb: &[u8]) -> (ModeForm, u16) {
    if cdb.len() == 6 { (ModeForm::Six, cdb[4].into()) } else { (ModeForm::Ten, u16_at(cdb, 7)) }
}

/// Commands told apart by the service action in byte 1.
fn service_action(cdb: &[u8]) -> Result<Cdb, CdbError> {
    let length = u32_at(cdb, 6);
    Ok(match (cdb[0], cdb[1] & 0x1f) {
        (op::SERVICE_ACTION_IN_16, op::READ_CAPACITY_16) => {
            Cdb::ReadCapacity16 { allocation_length: u32_at(cdb, 10) }
        }
        (op::SERVICE_ACTION_IN_16, op::GET_LBA_STATUS) => Cdb::GetLbaStatus {
            lba: Lba(u64_at(cdb, 2)),
            allocation_length: u32_at(cdb, 10),
            report_type: cdb[14],
        },
        (op::MAINTENANCE_IN, op::REPORT_TARGET_PORT_GROUPS) => Cdb::ReportTargetPortGroups {
            format: PortGroupsFormat::from(cdb[1] >> 5),
            allocation_length: length,
        },
        (op::MAINTENANCE_IN, op::REPORT_SUPPORTED_OPERATION_CODES) => Cdb::ReportSupportedOperationCodes {
            options: reporting_options(cdb)?,
            timeouts: bit_at(cdb, 2, 7),
            allocation_length: length,
        },
        (op::MAINTENANCE_IN, op::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS) => {
            Cdb::ReportSupportedTaskManagementFunctions {
                extended: bit_at(cdb, 2, 7),
                allocation_length: length,
            }
        }
        (op::MAINTENANCE_OUT, op::SET_TARGET_PORT_GROUPS) => {
            Cdb::SetTargetPortGroups { parameter_list_length: length }
        }
        _ => return Err(CdbError::UnknownServiceAction),
    })
}

fn reporting_options(cdb: &[u8]) -> Result<ReportingOptions, CdbError> {
    let (code, action) = (cdb[3], u16_at(cdb, 4));
    match cdb[2] & 0b111 {
        0 => Ok(ReportingOptions::All),
        1 => Ok(ReportingOptions::Operation { code }),
        2 => Ok(ReportingOptions::ServiceAction { code, action }),
        3 => Ok(ReportingOptions::Either { code, action }),
        _ => Err(CdbError::InvalidField { byte: 2, bit: Some(2) }),
    }
}

fn persistent_reserve_in(cdb: &[u8]) -> Result<Cdb, CdbError> {
    let action = match cdb[1] & 0x1f {
        0 => ReserveIn::ReadKeys,
        1 => ReserveIn::ReadReservation,
        2 => ReserveIn::ReportCapabilities,
        3 => ReserveIn::ReadFullStatus,
        _ => return Err(CdbError::UnknownServiceAction),
    };
    Ok(Cdb::PersistentReserveIn { action, allocation_length: u16_at(cdb, 7) })
}

fn persistent_reserve_out(cdb: &[u8]) -> Result<Cdb, CdbError> {
    let action = match cdb[1] & 0x1f {
        0 => ReserveOut::Register,
        1 => ReserveOut::Reserve,
        2 => ReserveOut::Release,
        3 => ReserveOut::Clear,
        4 => ReserveOut::Preempt,
        5 => ReserveOut::PreemptAndAbort,
        6 => ReserveOut::RegisterAndIgnoreExistingKey,
        7 => ReserveOut::RegisterAndMove,
        8 => ReserveOut::ReplaceLostReservation,
        _ => return Err(CdbError::UnknownServiceAction),
    };
    Ok(Cdb::PersistentReserveOut {
        action,
        scope: Scope::from(cdb[2] >> 4),
        kind: ReservationType::from(cdb[2] & 0x0f),
        parameter_list_length: u32_at(cdb, 5),
    })
}

impl From<u8> for SelectReport {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Addressable,
            1 => Self::WellKnown,
            2 => Self::All,
            other => Self::Other(other),
        }
    }
}

impl From<u8> for PortGroupsFormat {
    /// Takes the three bits of the field.
    fn from(bits: u8) -> Self {
        match bits {
            0 => Self::LengthOnly,
            1 => Self::Extended,
            other => Self::Reserved(other),
        }
    }
}
