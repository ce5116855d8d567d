//! [`Cdb`] to bytes.

use super::operation as op;
use super::{
    ByteCheck, Cdb, Form, LongForm, MediumAccess, ModeForm, PageControl, PortGroupsFormat, ReportingOptions,
    ReserveIn, ReserveOut, SelectReport, WriteSame,
};
use crate::bytes::{flag, put_u16, put_u32, put_u64};
use crate::{Blocks, CDB_LENGTH_MAX, CdbBytes, Lba};

impl Cdb {
    /// The CDB on the wire.
    ///
    /// # Panics
    /// If a value does not fit the form that was chosen (an LBA beyond 32 bits in READ(10), no blocks in
    /// READ(6)): sending its low bits would touch other blocks.
    #[must_use]
    pub fn emit(&self) -> CdbBytes {
        let mut cdb = [0; CDB_LENGTH_MAX];
        match *self {
            Self::Read(access) => {
                medium(&mut cdb, [op::READ_6, op::READ_10, op::READ_12, op::READ_16], access);
            }
            Self::Write(access) => {
                medium(&mut cdb, [op::WRITE_6, op::WRITE_10, op::WRITE_12, op::WRITE_16], access);
            }
            Self::OrWrite(access) => {
                assert_eq!(access.form, Form::Sixteen, "ORWRITE exists with 16 bytes only here");
                medium(&mut cdb, [op::OR_WRITE_16; 4], access);
            }
            Self::WriteAndVerify { access, byte_check } => {
                let codes = [op::WRITE_AND_VERIFY_10, op::WRITE_AND_VERIFY_12, op::WRITE_AND_VERIFY_16];
                verifying(&mut cdb, codes, access, byte_check);
            }
            Self::Verify { access, byte_check } => {
                let codes = [op::VERIFY_10, op::VERIFY_12, op::VERIFY_16];
                verifying(&mut cdb, codes, access, byte_check);
            }
            Self::WriteSame(_)
            | Self::PreFetch { .. }
            | Self::SynchronizeCache { .. }
            | Self::CompareAndWrite { .. }
            | Self::Unmap { .. } => self.emit_ranged(&mut cdb),
            Self::PersistentReserveIn { .. }
            | Self::PersistentReserveOut { .. }
            | Self::ReadCapacity16 { .. }
            | Self::GetLbaStatus { .. }
            | Self::ReportTargetPortGroups { .. }
            | Self::SetTargetPortGroups { .. }
            | Self::ReportSupportedOperationCodes { .. }
            | Self::ReportSupportedTaskManagementFunctions { .. } => self.emit_service_action(&mut cdb),
            Self::TestUnitReady
            | Self::RequestSense { .. }
            | Self::Inquiry { .. }
            | Self::ModeSense { .. }
            | Self::ModeSelect { .. }
            | Self::ReportLuns { .. }
            | Self::ReadCapacity10
            | Self::StartStopUnit { .. }
            | Self::PreventAllowMediumRemoval { .. }
            | Self::Reserve6
            | Self::Release6 => self.emit_control(&mut cdb),
        }
        let length = op::cdb_length(cdb[0]).expect("every operation code above is of a group with a length");
        CdbBytes::new(&cdb[..length])
    }

    fn emit_ranged(&self, cdb: &mut [u8; CDB_LENGTH_MAX]) {
        match *self {
            Self::PreFetch { form, lba, blocks, immediate, group } => {
                cdb[1] = flag(immediate, 1);
                long(cdb, [op::PRE_FETCH_10, op::PRE_FETCH_16], form, lba, blocks, group);
            }
            Self::SynchronizeCache { form, lba, blocks, immediate, group } => {
                cdb[1] = flag(immediate, 1);
                long(cdb, [op::SYNCHRONIZE_CACHE_10, op::SYNCHRONIZE_CACHE_16], form, lba, blocks, group);
            }
            Self::WriteSame(same) => write_same(cdb, same),
            Self::CompareAndWrite { lba, blocks, protect, disable_page_out, force_unit_access, group } => {
                cdb[0] = op::COMPARE_AND_WRITE;
                cdb[1] = protect << 5 | flag(disable_page_out, 4) | flag(force_unit_access, 3);
                put_range(cdb, Form::Sixteen, lba, Blocks(blocks.into()), group);
            }
            Self::Unmap { anchor, group, parameter_list_length } => {
                cdb[0] = op::UNMAP;
                cdb[1] = flag(anchor, 0);
                cdb[6] = group & 0x3f;
                put_u16(cdb, 7, parameter_list_length);
            }
            _ => unreachable!("emit sends only the commands above here"),
        }
    }

    fn emit_service_action(&self, cdb: &mut [u8; CDB_LENGTH_MAX]) {
        let mut head = |code, action| [cdb[0], cdb[1]] = [code, action];
        match *self {
            Self::PersistentReserveIn { action, allocation_length } => {
                head(op::PERSISTENT_RESERVE_IN, reserve_in(action));
                put_u16(cdb, 7, allocation_length);
            }
            Self::PersistentReserveOut { action, scope, kind, parameter_list_length } => {
                head(op::PERSISTENT_RESERVE_OUT, reserve_out(action));
                cdb[2] = u8::from(scope) << 4 | u8::from(kind) & 0x0f;
                put_u32(cdb, 5, parameter_list_length);
            }
            Self::ReadCapacity16 { allocation_length } => {
                head(op::SERVICE_ACTION_IN_16, op::READ_CAPACITY_16);
                put_u32(cdb, 10, allocation_length);
            }
            Self::GetLbaStatus { lba, allocation_length, report_type } => {
                head(op::SERVICE_ACTION_IN_16, op::GET_LBA_STATUS);
                put_u64(cdb, 2, lba.0);
                put_u32(cdb, 10, allocation_length);
                cdb[14] = report_type;
            }
            Self::ReportTargetPortGroups { format, allocation_length } => {
                head(op::MAINTENANCE_IN, u8::from(format) << 5 | op::REPORT_TARGET_PORT_GROUPS);
                put_u32(cdb, 6, allocation_length);
            }
            Self::SetTargetPortGroups { parameter_list_length } => {
                head(op::MAINTENANCE_OUT, op::SET_TARGET_PORT_GROUPS);
                put_u32(cdb, 6, parameter_list_length);
            }
            Self::ReportSupportedOperationCodes { options, timeouts, allocation_length } => {
                head(op::MAINTENANCE_IN, op::REPORT_SUPPORTED_OPERATION_CODES);
                let (option, code, action) = reporting_options(options);
                cdb[2] = flag(timeouts, 7) | option;
                cdb[3] = code;
                put_u16(cdb, 4, action);
                put_u32(cdb, 6, allocation_length);
            }
            Self::ReportSupportedTaskManagementFunctions { extended, allocation_length } => {
                head(op::MAINTENANCE_IN, op::REPORT_SUPPORTED_TASK_MANAGEMENT_FUNCTIONS);
                cdb[2] = flag(extended, 7);
                put_u32(cdb, 6, allocation_length);
            }
            _ => unreachable!("emit sends only the commands above here"),
        }
    }

    fn emit_control(&self, cdb: &mut [u8; CDB_LENGTH_MAX]) {
        match *self {
            Self::TestUnitReady => cdb[0] = op::TEST_UNIT_READY,
            Self::ReadCapacity10 => cdb[0] = op::READ_CAPACITY_10,
            Self::Reserve6 => cdb[0] = op::RESERVE_6,
            Self::Release6 => cdb[0] = op::RELEASE_6,
            Self::RequestSense { descriptor, allocation_length } => {
                cdb[0] = op::REQUEST_SENSE;
                cdb[1] = flag(descriptor, 0);
                cdb[4] = allocation_length;
            }
            Self::Inquiry { page, allocation_length } => {
                cdb[0] = op::INQUIRY;
                cdb[1] = flag(page.is_some(), 0);
                cdb[2] = page.unwrap_or(0);
                put_u16(cdb, 3, allocation_length);
            }
            Self::ModeSense {
                form,
                long_lba_accepted,
                disable_block_descriptors,
                control,
                page,
                subpage,
                allocation_length,
            } => {
                mode(cdb, [op::MODE_SENSE_6, op::MODE_SENSE_10], form, allocation_length);
                cdb[1] = flag(long_lba_accepted, 4) | flag(disable_block_descriptors, 3);
                cdb[2] = page_control(control) << 6 | page & 0x3f;
                cdb[3] = subpage;
            }
            Self::ModeSelect { form, page_format, revert_to_defaults, save_pages, parameter_list_length } => {
                mode(cdb, [op::MODE_SELECT_6, op::MODE_SELECT_10], form, parameter_list_length);
                cdb[1] = flag(page_format, 4) | flag(revert_to_defaults, 1) | flag(save_pages, 0);
            }
            Self::ReportLuns { select, allocation_length } => {
                cdb[0] = op::REPORT_LUNS;
                cdb[2] = u8::from(select);
                put_u32(cdb, 6, allocation_length);
            }
            Self::StartStopUnit {
                immediate,
                power_condition,
                power_condition_modifier,
                no_flush,
                load_eject,
                start,
            } => {
                cdb[0] = op::START_STOP_UNIT;
                cdb[1] = flag(immediate, 0);
                cdb[3] = power_condition_modifier & 0x0f;
                cdb[4] = power_condition << 4 | flag(no_flush, 2) | flag(load_eject, 1) | flag(start, 0);
            }
            Self::PreventAllowMediumRemoval { prevent } => {
                cdb[0] = op::PREVENT_ALLOW_MEDIUM_REMOVAL;
                cdb[4] = prevent & 0b11;
            }
            _ => unreachable!("emit sends only the commands above here"),
        }
    }
}

/// `codes` are those of the 6-, 10-, 12- and 16-byte forms.
fn medium(cdb: &mut [u8; CDB_LENGTH_MAX], codes: [u8; 4], access: MediumAccess) {
    let [six, ten, twelve, sixteen] = codes;
    cdb[0] = match access.form {
        Form::Six => six,
        Form::Ten => ten,
        Form::Twelve => twelve,
        Form::Sixteen => sixteen,
    };
    if access.form != Form::Six {
        cdb[1] = access.protect << 5 | flag(access.disable_page_out, 4) | flag(access.force_unit_access, 3);
        return put_range(cdb, access.form, access.lba, access.blocks, access.group);
    }
    assert!(access.lba.0 < 1 << 21, "an LBA of READ(6) and WRITE(6) has 21 bits");
    assert!((1..=256).contains(&access.blocks.0), "READ(6) and WRITE(6) move 1 to 256 blocks");
    let [_, high, middle, low] = narrow_lba(access.lba).to_be_bytes();
    [cdb[1], cdb[2], cdb[3]] = [high, middle, low];
    // 256 becomes 0, which is how the wire says it.
    [_, _, _, cdb[4]] = access.blocks.0.to_be_bytes();
}

/// `codes` are those of the 10-, 12- and 16-byte forms.
fn verifying(cdb: &mut [u8; CDB_LENGTH_MAX], codes: [u8; 3], access: MediumAccess, byte_check: ByteCheck) {
    assert_ne!(access.form, Form::Six, "a command that verifies has no 6-byte form");
    let [ten, twelve, sixteen] = codes;
    medium(cdb, [ten, ten, twelve, sixteen], MediumAccess { force_unit_access: false, ..access });
    let bits = match byte_check {
        ByteCheck::Medium => 0b00,
        ByteCheck::Data => 0b01,
        ByteCheck::Reserved => 0b10,
        ByteCheck::OneBlock => 0b11,
    };
    cdb[1] |= bits << 1;
}

fn write_same(cdb: &mut [u8; CDB_LENGTH_MAX], same: WriteSame) {
    assert!(!same.no_data_out || same.form == LongForm::Sixteen, "only WRITE SAME(16) has NDOB");
    cdb[1] = same.protect << 5 | flag(same.anchor, 4) | flag(same.unmap, 3) | flag(same.no_data_out, 0);
    long(cdb, [op::WRITE_SAME_10, op::WRITE_SAME_16], same.form, same.lba, same.blocks, same.group);
}

/// `codes` are those of the 10- and 16-byte forms.
fn long(cdb: &mut [u8; CDB_LENGTH_MAX], codes: [u8; 2], form: LongForm, lba: Lba, blocks: Blocks, group: u8) {
    let [ten, sixteen] = codes;
    let (code, form) = match form {
        LongForm::Ten => (ten, Form::Ten),
        LongForm::Sixteen => (sixteen, Form::Sixteen),
    };
    cdb[0] = code;
    put_range(cdb, form, lba, blocks, group);
}

fn put_range(cdb: &mut [u8; CDB_LENGTH_MAX], form: Form, lba: Lba, blocks: Blocks, group: u8) {
    let group = group & 0x3f;
    match form {
        Form::Six => unreachable!("the 6-byte form has no such fields"),
        Form::Ten => {
            put_u32(cdb, 2, narrow_lba(lba));
            cdb[6] = group;
            put_u16(cdb, 7, u16::try_from(blocks.0).expect("a 10-byte CDB moves at most 65,535 blocks"));
        }
        Form::Twelve => {
            put_u32(cdb, 2, narrow_lba(lba));
            put_u32(cdb, 6, blocks.0);
            cdb[10] = group;
        }
        Form::Sixteen => {
            put_u64(cdb, 2, lba.0);
            put_u32(cdb, 10, blocks.0);
            cdb[14] = group;
        }
    }
}

fn narrow_lba(lba: Lba) -> u32 {
    u32::try_from(lba.0).expect("an LBA of a 10- or 12-byte CDB has 32 bits")
}

/// `codes` are those of the 6- and 10-byte forms.
fn mode(cdb: &mut [u8; CDB_LENGTH_MAX], codes: [u8; 2], form: ModeForm, length: u16) {
    match form {
        ModeForm::Six => {
            cdb[0] = codes[0];
            cdb[4] = u8::try_from(length).expect("a 6-byte mode command moves at most 255 bytes");
        }
        ModeForm::Ten => {
            cdb[0] = codes[1];
            put_u16(cdb, 7, length);
        }
    }
}

const fn page_control(control: PageControl) -> u8 {
    match control {
        PageControl::Current => 0,
        PageControl::Changeable => 1,
        PageControl::Default => 2,
        PageControl::Saved => 3,
    }
}

const fn reserve_in(action: ReserveIn) -> u8 {
    match action {
        ReserveIn::ReadKeys => 0,
        ReserveIn::ReadReservation => 1,
        ReserveIn::ReportCapabilities => 2,
        ReserveIn::ReadFullStatus => 3,
    }
}

const fn reserve_out(action: ReserveOut) -> u8 {
    match action {
        ReserveOut::Register => 0,
        ReserveOut::Reserve => 1,
        ReserveOut::Release => 2,
        ReserveOut::Clear => 3,
        ReserveOut::Preempt => 4,
        ReserveOut::PreemptAndAbort => 5,
        ReserveOut::RegisterAndIgnoreExistingKey => 6,
        ReserveOut::RegisterAndMove => 7,
        ReserveOut::ReplaceLostReservation => 8,
    }
}

/// The option, the operation code and the service action.
const fn reporting_options(options: ReportingOptions) -> (u8, u8, u16) {
    match options {
        ReportingOptions::All => (0, 0, 0),
        ReportingOptions::Operation { code } => (1, code, 0),
        ReportingOptions::ServiceAction { code, action } => (2, code, action),
        ReportingOptions::Either { code, action } => (3, code, action),
    }
}

impl From<SelectReport> for u8 {
    fn from(select: SelectReport) -> Self {
        match select {
            SelectReport::Addressable => 0,
            SelectReport::WellKnown => 1,
            SelectReport::All => 2,
            SelectReport::Other(byte) => byte,
        }
    }
}

impl From<PortGroupsFormat> for u8 {
    fn from(format: PortGroupsFormat) -> Self {
        match format {
            PortGroupsFormat::LengthOnly => 0,
            PortGroupsFormat::Extended => 1,
            PortGroupsFormat::Reserved(bits) => bits,
        }
    }
}
