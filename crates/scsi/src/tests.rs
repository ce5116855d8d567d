//! What holds for every parser: no bytes make it panic, and what it understood it can say again.

use proptest::prelude::*;
use std::fmt::Debug;
use std::vec::Vec;

use crate::capacity::{Capacity, Capacity10};
use crate::cdb::{Cdb, ModeForm};
use crate::inquiry::InquiryData;
use crate::luns::LunList;
use crate::mode::ModeParameters;
use crate::opcodes::{OneOperation, SupportedOperations, SupportedTaskManagement};
use crate::port_groups::{PortGroups, SetPortGroups};
use crate::reservations::{
    CurrentReservation, FullStatus, Keys, MoveParameters, ReservationCapabilities, ReserveOutParameters,
    TransportId,
};
use crate::unmap::{LbaStatus, UnmapList};
use crate::vpd::{
    self, BlockCharacteristicsPage, BlockLimitsPage, DeviceIdPage, ExtendedInquiryPage,
    LogicalProvisioningPage, SerialPage, SupportedPages,
};
use crate::{Sense, SenseData, Status};

/// Parses; and if that succeeds, what is emitted must parse to the same value.
macro_rules! survives {
    ($parse:expr, $emit:expr) => {
        |bytes: &[u8]| survives(bytes, |bytes| $parse(bytes).ok(), |value| $emit(value).as_slice().to_vec())
    };
    ($type:ty) => {
        survives!(<$type>::parse, |value: &$type| value.emit())
    };
}

fn survives<T: PartialEq + Debug>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
    emit: impl Fn(&T) -> Vec<u8>,
) {
    if let Some(value) = parse(bytes) {
        assert_eq!(parse(&emit(&value)).as_ref(), Some(&value), "from {bytes:02x?}");
    }
}

type Parser = fn(&[u8]);

/// Every parser of this crate, and the first bytes that lead it beyond its header.
const PARSERS: &[(&[u8], Parser)] = &[
    (&[], survives!(Cdb)),
    (&[], sense_in_both_formats),
    (&[0x70], sense_in_both_formats),
    (&[0x72], sense_in_both_formats),
    (&[], survives!(InquiryData)),
    (&[0, vpd::SUPPORTED_PAGES, 0], survives!(SupportedPages)),
    (&[0, vpd::SERIAL_NUMBER, 0], survives!(SerialPage)),
    (&[0, vpd::DEVICE_ID, 0], survives!(DeviceIdPage)),
    (&[0, vpd::EXTENDED_INQUIRY, 0], survives!(ExtendedInquiryPage)),
    (&[0, vpd::BLOCK_LIMITS, 0], survives!(BlockLimitsPage)),
    (&[0, vpd::BLOCK_CHARACTERISTICS, 0], survives!(BlockCharacteristicsPage)),
    (&[0, vpd::LOGICAL_PROVISIONING, 0], survives!(LogicalProvisioningPage)),
    (&[], survives!(Capacity)),
    (&[], survives!(Capacity10)),
    (&[0, 0, 0], survives!(LunList)),
    (&[], survives!(mode_6, |mode: &ModeParameters| mode.emit(ModeForm::Six))),
    (&[0], survives!(mode_10, |mode: &ModeParameters| mode.emit(ModeForm::Ten))),
    (&[], survives!(select_6, |mode: &ModeParameters| mode.emit_select(ModeForm::Six))),
    (&[0], survives!(select_10, |mode: &ModeParameters| mode.emit_select(ModeForm::Ten))),
    (&[0, 0, 0], survives!(PortGroups)),
    (&[], survives!(SetPortGroups)),
    (&[0, 0, 0, 1, 0, 0, 0], survives!(Keys)),
    (&[0, 0, 0, 1, 0, 0, 0, 0x10], survives!(CurrentReservation)),
    (&[], survives!(ReservationCapabilities)),
    (&[0, 0, 0, 1, 0, 0, 0, 0x30], survives!(FullStatus)),
    (&[], survives!(ReserveOutParameters)),
    (&[], survives!(MoveParameters)),
    (&[0x45, 0, 0], survives!(transport_id, TransportId::emit)),
    (&[0, 0, 0], survives!(SupportedOperations)),
    (&[], survives!(OneOperation)),
    (&[], survives!(SupportedTaskManagement)),
    (&[0, 0, 0], survives!(UnmapList)),
    (&[0, 0, 0], survives!(LbaStatus)),
];

fn sense_in_both_formats(bytes: &[u8]) {
    survives(bytes, Sense::parse, |sense| SenseData::descriptor(sense).as_slice().to_vec());
    let Some(sense) = Sense::parse(bytes) else { return };
    let fixed = SenseData::fixed(&sense).parse().expect("fixed format always parses");
    assert_eq!((fixed.key, fixed.additional), (sense.key, sense.additional));
    assert_eq!((fixed.deferred, fixed.specific), (sense.deferred, sense.specific));
}

fn mode_6(bytes: &[u8]) -> Result<ModeParameters, crate::ParseError> {
    ModeParameters::parse(ModeForm::Six, bytes)
}

fn mode_10(bytes: &[u8]) -> Result<ModeParameters, crate::ParseError> {
    ModeParameters::parse(ModeForm::Ten, bytes)
}

fn select_6(bytes: &[u8]) -> Result<ModeParameters, crate::ParseError> {
    ModeParameters::parse_select(ModeForm::Six, bytes)
}

fn select_10(bytes: &[u8]) -> Result<ModeParameters, crate::ParseError> {
    ModeParameters::parse_select(ModeForm::Ten, bytes)
}

fn transport_id(bytes: &[u8]) -> Result<TransportId, crate::ParseError> {
    TransportId::parse(bytes).map(|(id, _)| id)
}

/// Marsaglia's generator of 64 bits.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

#[test]
fn a_million_random_byte_strings_never_panic_a_parser() {
    let mut random = Xorshift(0x5eed_5eed_5eed_5eed);
    let mut bytes = [0; 64];
    for round in 0..1_000_000 {
        for word in bytes.as_chunks_mut::<8>().0 {
            // Small bytes make lengths that fit, so that parsers get beyond them.
            let mask = [u64::MAX, 0x1f1f_1f1f_1f1f_1f1f, 0x0303_0303_0303_0303, 0][random.below(4)];
            *word = (random.next() & mask).to_be_bytes();
        }
        let (lead, parser) = PARSERS[round % PARSERS.len()];
        if random.below(4) != 0 {
            bytes[..lead.len()].copy_from_slice(lead);
        }
        let length = random.below(bytes.len() + 1);
        parser(&bytes[..length]);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_a_parser_and_what_parsed_survives(
        bytes in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        for (lead, parser) in PARSERS {
            parser(&bytes);
            let mut led = bytes.clone();
            for (byte, lead) in led.iter_mut().zip(*lead) {
                *byte = *lead;
            }
            parser(&led);
        }
    }
}

#[test]
fn every_status_byte_survives() {
    for byte in 0..=u8::MAX {
        assert_eq!(u8::from(Status::from(byte)), byte);
    }
}
