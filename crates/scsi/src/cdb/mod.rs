//! Command descriptor blocks (SPC, 4.2; SBC, 5).
//!
//! The form of a command (6, 10, 12 or 16 bytes) is part of the value, so that `parse` then `emit` gives the same
//! CDB back. Reserved and obsolete bits are ignored by `parse` and zero from `emit`; NACA is refused, because
//! no device server here keeps an auto contingent allegiance (SAM, 5.9.2).

mod emit;
pub mod operation;
mod parse;
#[cfg(test)]
mod tests;

use crate::reservations::{ReservationType, Scope};
use crate::{AdditionalSense, Blocks, FieldPointer, FieldSource, Lba, Sense, SenseKey};

/// A command, typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cdb {
    TestUnitReady,
    RequestSense {
        /// Descriptor format sense data is wanted (DESC).
        descriptor: bool,
        allocation_length: u8,
    },
    Inquiry {
        /// The vital product data page wanted (EVPD); none asks for standard INQUIRY data.
        page: Option<u8>,
        allocation_length: u16,
    },
    ModeSense {
        form: ModeForm,
        /// Long LBA block descriptors may be returned (LLBAA); only in the 10-byte form.
        long_lba_accepted: bool,
        /// No block descriptors are to be returned (DBD).
        disable_block_descriptors: bool,
        control: PageControl,
        page: u8,
        subpage: u8,
        /// At most 255 in the 6-byte form.
        allocation_length: u16,
    },
    ModeSelect {
        form: ModeForm,
        page_format: bool,
        revert_to_defaults: bool,
        save_pages: bool,
        /// At most 255 in the 6-byte form.
        parameter_list_length: u16,
    },
    ReportLuns {
        select: SelectReport,
        allocation_length: u32,
    },
    ReadCapacity10,
    ReadCapacity16 {
        allocation_length: u32,
    },
    Read(MediumAccess),
    Write(MediumAccess),
    /// Has no 6-byte form. FUA is not a field of it.
    WriteAndVerify {
        access: MediumAccess,
        byte_check: ByteCheck,
    },
    /// Has no 6-byte form. FUA is not a field of it.
    Verify {
        access: MediumAccess,
        byte_check: ByteCheck,
    },
    /// Exists in the 16-byte form only.
    OrWrite(MediumAccess),
    PreFetch {
        form: LongForm,
        lba: Lba,
        /// Zero means up to the end of the medium.
        blocks: Blocks,
        immediate: bool,
        group: u8,
    },
    SynchronizeCache {
        form: LongForm,
        lba: Lba,
        /// Zero means up to the end of the medium.
        blocks: Blocks,
        immediate: bool,
        group: u8,
    },
    WriteSame(WriteSame),
    Unmap {
        anchor: bool,
        group: u8,
        parameter_list_length: u16,
    },
    CompareAndWrite {
        lba: Lba,
        /// The blocks compared and then written; twice as many are sent.
        blocks: u8,
        protect: u8,
        disable_page_out: bool,
        force_unit_access: bool,
        group: u8,
    },
    GetLbaStatus {
        lba: Lba,
        allocation_length: u32,
        report_type: u8,
    },
    StartStopUnit {
        immediate: bool,
        power_condition: u8,
        power_condition_modifier: u8,
        no_flush: bool,
        load_eject: bool,
        start: bool,
    },
    PreventAllowMediumRemoval {
        prevent: u8,
    },
    /// RESERVE(6) of SPC-2.
    Reserve6,
    /// RELEASE(6) of SPC-2.
    Release6,
    ReportTargetPortGroups {
        format: PortGroupsFormat,
        allocation_length: u32,
    },
    SetTargetPortGroups {
        parameter_list_length: u32,
    },
    PersistentReserveIn {
        action: ReserveIn,
        allocation_length: u16,
    },
    PersistentReserveOut {
        action: ReserveOut,
        scope: Scope,
        kind: ReservationType,
        parameter_list_length: u32,
    },
    ReportSupportedOperationCodes {
        options: ReportingOptions,
        /// Return the command timeouts descriptors (RCTD).
        timeouts: bool,
        allocation_length: u32,
    },
    ReportSupportedTaskManagementFunctions {
        /// Return the extended parameter data (REPD).
        extended: bool,
        allocation_length: u32,
    },
}

/// The fields that commands reading and writing logical blocks share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediumAccess {
    pub form: Form,
    /// At most 21 bits in the 6-byte form, 32 in the 10- and 12-byte forms.
    pub lba: Lba,
    /// 1 to 256 in the 6-byte form (where 0 on the wire means 256), at most 65,535 in the 10-byte form.
    pub blocks: Blocks,
    /// RDPROTECT, WRPROTECT, VRPROTECT or ORPROTECT: 3 bits. Zero in the 6-byte form, as the rest below.
    pub protect: u8,
    pub disable_page_out: bool,
    pub force_unit_access: bool,
    /// 6 bits.
    pub group: u8,
}

impl MediumAccess {
    /// A plain access without protection, hints or force unit access.
    #[must_use]
    pub const fn new(form: Form, lba: Lba, blocks: Blocks) -> Self {
        Self { form, lba, blocks, protect: 0, disable_page_out: false, force_unit_access: false, group: 0 }
    }
}

/// WRITE SAME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSame {
    pub form: LongForm,
    pub lba: Lba,
    /// Zero means up to the end of the medium, unless the device server forbids that (VPD B0h: WSNZ).
    pub blocks: Blocks,
    pub protect: u8,
    pub anchor: bool,
    pub unmap: bool,
    /// No data-out buffer is sent; the blocks are zeros (NDOB). Only in the 16-byte form.
    pub no_data_out: bool,
    pub group: u8,
}

/// The length of a CDB that has a 6-byte form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Six,
    Ten,
    Twelve,
    Sixteen,
}

/// The length of a CDB that exists in two long forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongForm {
    Ten,
    Sixteen,
}

/// The length of a MODE SENSE or MODE SELECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeForm {
    Six,
    Ten,
}

/// Which values of a mode page are wanted (SPC, 6.14: PC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageControl {
    Current,
    /// A mask: one bits are changeable.
    Changeable,
    Default,
    Saved,
}

/// Which logical units are wanted (SPC, 6.32: SELECT REPORT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectReport {
    /// Those not well known.
    Addressable,
    WellKnown,
    All,
    Other(u8),
}

/// What VERIFY compares (SBC: BYTCHK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteCheck {
    /// Nothing is sent; the medium alone is verified.
    Medium,
    /// Every block is compared with the data sent.
    Data,
    /// 10b is reserved.
    Reserved,
    /// Every block is compared with the one block sent.
    OneBlock,
}

/// The header of the RTPG parameter data (SPC, 6.37: PARAMETER DATA FORMAT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortGroupsFormat {
    LengthOnly,
    /// With the implicit transition time.
    Extended,
    Reserved(u8),
}

/// Service actions of PERSISTENT RESERVE IN (SPC, 6.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveIn {
    ReadKeys,
    ReadReservation,
    ReportCapabilities,
    ReadFullStatus,
}

/// Service actions of PERSISTENT RESERVE OUT (SPC, 6.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveOut {
    Register,
    Reserve,
    Release,
    Clear,
    Preempt,
    PreemptAndAbort,
    RegisterAndIgnoreExistingKey,
    RegisterAndMove,
    ReplaceLostReservation,
}

/// What REPORT SUPPORTED OPERATION CODES is asked (SPC, 6.35: REPORTING OPTIONS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportingOptions {
    All,
    /// One command that has no service actions.
    Operation {
        code: u8,
    },
    /// One command that has service actions.
    ServiceAction {
        code: u8,
        action: u16,
    },
    /// One command, with or without service actions.
    Either {
        code: u8,
        action: u16,
    },
}

/// Why a CDB is not a command that is known here. The sender's fault, except that it may know more than we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CdbError {
    UnknownOperationCode,
    UnknownServiceAction,
    /// The transport delivered fewer bytes than the operation code asks for.
    WrongLength {
        expected: usize,
        got: usize,
    },
    /// `bit` is the most significant bit of the field.
    InvalidField {
        byte: u16,
        bit: Option<u8>,
    },
}

impl CdbError {
    /// What a device server answers (SPC, 4.2.5.2 and 4.4.2.4.2).
    #[must_use]
    pub const fn sense(self) -> Sense {
        let (additional, byte, bit) = match self {
            Self::UnknownOperationCode => (AdditionalSense::INVALID_COMMAND_OPERATION_CODE, 0, None),
            Self::UnknownServiceAction => (AdditionalSense::INVALID_FIELD_IN_CDB, 1, Some(4)),
            Self::WrongLength { .. } => (AdditionalSense::INVALID_FIELD_IN_CDB, 0, None),
            Self::InvalidField { byte, bit } => (AdditionalSense::INVALID_FIELD_IN_CDB, byte, bit),
        };
        let field = FieldPointer { source: FieldSource::Cdb, byte, bit };
        Sense::new(SenseKey::IllegalRequest, additional).with_field(field)
    }
}

/// What data a command moves, as far as its CDB says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPhase {
    None,
    /// At most so many bytes to the initiator.
    In(u32),
    /// So many bytes of parameters from the initiator.
    Out(u32),
    /// So many blocks to the initiator.
    InBlocks(u64),
    /// So many blocks from the initiator.
    OutBlocks(u64),
}

impl Cdb {
    /// READ(16) without hints.
    #[must_use]
    pub const fn read_16(lba: Lba, blocks: Blocks) -> Self {
        Self::Read(MediumAccess::new(Form::Sixteen, lba, blocks))
    }

    /// WRITE(16) without hints.
    #[must_use]
    pub const fn write_16(lba: Lba, blocks: Blocks) -> Self {
        Self::Write(MediumAccess::new(Form::Sixteen, lba, blocks))
    }

    /// How many bytes the initiator made room for; none for commands without an allocation length.
    #[must_use]
    pub fn allocation_length(&self) -> Option<u32> {
        match *self {
            Self::RequestSense { allocation_length, .. } => Some(allocation_length.into()),
            Self::Inquiry { allocation_length, .. }
            | Self::ModeSense { allocation_length, .. }
            | Self::PersistentReserveIn { allocation_length, .. } => Some(allocation_length.into()),
            Self::ReportLuns { allocation_length, .. }
            | Self::ReadCapacity16 { allocation_length }
            | Self::GetLbaStatus { allocation_length, .. }
            | Self::ReportTargetPortGroups { allocation_length, .. }
            | Self::ReportSupportedOperationCodes { allocation_length, .. }
            | Self::ReportSupportedTaskManagementFunctions { allocation_length, .. } => {
                Some(allocation_length)
            }
            _ => None,
        }
    }

    /// How many bytes of parameters follow; none for commands without a parameter list.
    #[must_use]
    pub fn parameter_list_length(&self) -> Option<u32> {
        match *self {
            Self::ModeSelect { parameter_list_length, .. } | Self::Unmap { parameter_list_length, .. } => {
                Some(parameter_list_length.into())
            }
            Self::SetTargetPortGroups { parameter_list_length }
            | Self::PersistentReserveOut { parameter_list_length, .. } => Some(parameter_list_length),
            _ => None,
        }
    }

    /// Which way data moves, and how much.
    #[must_use]
    pub fn data_phase(&self) -> DataPhase {
        if let Some(length) = self.allocation_length() {
            return DataPhase::In(length);
        }
        if let Some(length) = self.parameter_list_length() {
            return DataPhase::Out(length);
        }
        match *self {
            Self::ReadCapacity10 => DataPhase::In(8),
            Self::Read(access) => DataPhase::InBlocks(access.blocks.0.into()),
            Self::Write(access) | Self::OrWrite(access) | Self::WriteAndVerify { access, .. } => {
                DataPhase::OutBlocks(access.blocks.0.into())
            }
            Self::Verify { access, byte_check: ByteCheck::Data } => {
                DataPhase::OutBlocks(access.blocks.0.into())
            }
            Self::Verify { byte_check: ByteCheck::OneBlock, .. } => DataPhase::OutBlocks(1),
            Self::WriteSame(same) if !same.no_data_out => DataPhase::OutBlocks(1),
            Self::CompareAndWrite { blocks, .. } => DataPhase::OutBlocks(2 * u64::from(blocks)),
            _ => DataPhase::None,
        }
    }
}
