//! Every SCSI parser: no bytes panic it, and what it parsed survives being written and parsed again.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use scsi::capacity::{Capacity, Capacity10};
use scsi::cdb::{Cdb, ModeForm};
use scsi::inquiry::InquiryData;
use scsi::luns::LunList;
use scsi::mode::ModeParameters;
use scsi::opcodes::{OneOperation, SupportedOperations, SupportedTaskManagement};
use scsi::port_groups::{PortGroups, SetPortGroups};
use scsi::reservations::{
    CurrentReservation, FullStatus, Keys, MoveParameters, ReservationCapabilities, ReserveOutParameters,
};
use scsi::unmap::{LbaStatus, UnmapList};
use scsi::vpd::{
    BlockCharacteristicsPage, BlockLimitsPage, DeviceIdPage, ExtendedInquiryPage, LogicalProvisioningPage,
    SerialPage, SupportedPages,
};
use scsi::{Sense, SenseData};

macro_rules! survive {
    ($bytes:ident: $($type:ty),* $(,)?) => {
        $(survives(|bytes| <$type>::parse(bytes).ok(), |value| value.emit().as_slice().to_vec(), $bytes);)*
    };
}

fuzz_target!(|bytes: &[u8]| {
    survive!(bytes: Cdb, InquiryData, SupportedPages, SerialPage, DeviceIdPage, ExtendedInquiryPage);
    survive!(bytes: BlockLimitsPage, BlockCharacteristicsPage, LogicalProvisioningPage, Capacity, Capacity10);
    survive!(bytes: LunList, PortGroups, SetPortGroups, Keys, CurrentReservation, ReservationCapabilities);
    survive!(bytes: FullStatus, ReserveOutParameters, MoveParameters, SupportedOperations, OneOperation);
    survive!(bytes: SupportedTaskManagement, UnmapList, LbaStatus);
    survives(Sense::parse, |sense| SenseData::descriptor(sense).as_slice().to_vec(), bytes);
    for form in [ModeForm::Six, ModeForm::Ten] {
        survives(|bytes| ModeParameters::parse(form, bytes).ok(), |mode| mode.emit(form), bytes);
        survives(
            |bytes| ModeParameters::parse_select(form, bytes).ok(),
            |mode| mode.emit_select(form),
            bytes,
        );
    }
});

fn survives<T: PartialEq + Debug>(
    parse: impl Fn(&[u8]) -> Option<T>,
    emit: impl Fn(&T) -> Vec<u8>,
    bytes: &[u8],
) {
    if let Some(value) = parse(bytes) {
        assert_eq!(parse(&emit(&value)).as_ref(), Some(&value));
    }
}
