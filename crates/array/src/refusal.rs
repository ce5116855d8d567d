//! Why a command is not executed, as sense (SPC, 4.4; SBC).

use scsi::{AdditionalSense, FieldPointer, FieldSource, Sense, SenseKey};

use crate::store::StoreError;

/// 5/24/00 with a pointer to the field; `bit` is the most significant bit of a field that is smaller than a byte.
pub(crate) fn invalid_field(byte: u16, bit: Option<u8>) -> Sense {
    let field = FieldPointer { source: FieldSource::Cdb, byte, bit };
    Sense::new(SenseKey::IllegalRequest, AdditionalSense::INVALID_FIELD_IN_CDB).with_field(field)
}

/// 5/26/00 with a pointer to the field.
pub(crate) fn invalid_parameter(byte: u16, bit: Option<u8>) -> Sense {
    let field = FieldPointer { source: FieldSource::Parameters, byte, bit };
    Sense::new(SenseKey::IllegalRequest, AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST).with_field(field)
}

pub(crate) fn parameter_list_length() -> Sense {
    Sense::new(SenseKey::IllegalRequest, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR)
}

pub(crate) fn unknown_operation() -> Sense {
    let field = FieldPointer { source: FieldSource::Cdb, byte: 0, bit: None };
    Sense::new(SenseKey::IllegalRequest, AdditionalSense::INVALID_COMMAND_OPERATION_CODE).with_field(field)
}

pub(crate) fn out_of_range() -> Sense {
    Sense::new(SenseKey::IllegalRequest, AdditionalSense::LBA_OUT_OF_RANGE)
}

pub(crate) fn unit_not_supported() -> Sense {
    Sense::new(SenseKey::IllegalRequest, AdditionalSense::LUN_NOT_SUPPORTED)
}

pub(crate) fn write_protected() -> Sense {
    Sense::new(SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED)
}

/// The initiator sent less, or for some commands more, than the CDB asks for, and half of it would be nonsense:
/// nothing is executed.
pub(crate) fn data_out_mismatch() -> Sense {
    Sense::new(SenseKey::IllegalRequest, AdditionalSense::new(0x0e, 0x03))
}

/// `offset` is where the first byte differs, from the start of the data that was sent (SBC, 5.3).
pub(crate) fn miscompare(offset: u64) -> Sense {
    Sense::new(SenseKey::Miscompare, AdditionalSense::MISCOMPARE_DURING_VERIFY).with_information(offset)
}

pub(crate) fn store_failed(error: StoreError, write: bool) -> Sense {
    match error {
        StoreError::NoSpace => {
            Sense::new(SenseKey::DataProtect, AdditionalSense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT)
        }
        StoreError::OutOfRange => out_of_range(),
        StoreError::Medium if write => Sense::new(SenseKey::MediumError, AdditionalSense::WRITE_ERROR),
        StoreError::Medium => Sense::new(SenseKey::MediumError, AdditionalSense::UNRECOVERED_READ_ERROR),
    }
}
