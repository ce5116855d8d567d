use proptest::prelude::*;

use super::*;

/// A read of block 12345678h failed, in fixed format.
const MEDIUM_ERROR_FIXED: [u8; 18] = [
    0xf0, 0x00, 0x03, // VALID and current; obsolete; MEDIUM ERROR
    0x12, 0x34, 0x56, 0x78, // information: the LBA
    0x0a, // additional sense length
    0x00, 0x00, 0x00, 0x00, // command-specific information
    0x11, 0x00, // unrecovered read error
    0x00, // field replaceable unit
    0x80, 0x00, 0x07, // SKSV, seven retries
];

/// The same in descriptor format.
const MEDIUM_ERROR_DESCRIPTOR: [u8; 28] = [
    0x72, 0x03, 0x11, 0x00, // current; MEDIUM ERROR; unrecovered read error
    0x00, 0x00, 0x00, 0x14, // additional sense length
    0x00, 0x0a, 0x80, 0x00, // information descriptor; VALID
    0x00, 0x00, 0x00, 0x00, 0x12, 0x34, 0x56, 0x78, // the LBA
    0x02, 0x06, 0x00, 0x00, // sense key specific descriptor
    0x80, 0x00, 0x07, 0x00, // SKSV, seven retries
];

fn medium_error() -> Sense {
    Sense::new(SenseKey::MediumError, AdditionalSense::UNRECOVERED_READ_ERROR)
        .with_information(0x1234_5678)
        .with_specific(SenseKeySpecific::Retries(7))
}

#[test]
fn both_formats_say_the_same() {
    assert_eq!(Sense::parse(&MEDIUM_ERROR_FIXED), Some(medium_error()));
    assert_eq!(Sense::parse(&MEDIUM_ERROR_DESCRIPTOR), Some(medium_error()));
    assert_eq!(medium_error().lba(), Some(Lba(0x1234_5678)));
}

#[test]
fn both_formats_are_emitted_byte_for_byte() {
    assert_eq!(SenseData::fixed(&medium_error()).as_slice(), MEDIUM_ERROR_FIXED);
    assert_eq!(SenseData::descriptor(&medium_error()).as_slice(), MEDIUM_ERROR_DESCRIPTOR);
}

#[test]
fn a_field_pointer_names_the_byte_and_the_bit() {
    let field = FieldPointer { source: FieldSource::Cdb, byte: 2, bit: Some(7) };
    let sense = Sense::new(SenseKey::IllegalRequest, AdditionalSense::INVALID_FIELD_IN_CDB).with_field(field);
    let data = SenseData::fixed(&sense);
    // SKSV, C/D and BPV with bit 7; byte 2.
    assert_eq!(data.as_slice()[15..], [0xcf, 0x00, 0x02]);
    assert_eq!(data.parse(), Some(sense));
}

#[test]
fn a_deferred_error_is_told_from_a_current_one() {
    let sense = Sense::new(SenseKey::MediumError, AdditionalSense::WRITE_ERROR).as_deferred();
    for (data, code) in [(SenseData::fixed(&sense), 0x71), (SenseData::descriptor(&sense), 0x73)] {
        assert_eq!(data.as_slice()[0], code);
        assert_eq!(data.parse(), Some(sense));
    }
}

#[test]
fn cut_off_sense_still_gives_its_key() {
    let sense = Sense::parse(&MEDIUM_ERROR_FIXED[..3]).unwrap();
    assert_eq!((sense.key, sense.additional), (SenseKey::MediumError, AdditionalSense::NONE));
    assert_eq!(sense.information, None);
    // In descriptor format the code is there before any length is.
    let sense = Sense::parse(&MEDIUM_ERROR_DESCRIPTOR[..4]).unwrap();
    assert_eq!(sense.additional, AdditionalSense::UNRECOVERED_READ_ERROR);
    // The information descriptor is whole, the next one is not.
    let sense = Sense::parse(&MEDIUM_ERROR_DESCRIPTOR[..22]).unwrap();
    assert_eq!((sense.information, sense.specific), (Some(0x1234_5678), None));
}

#[test]
fn bytes_beyond_the_additional_length_mean_nothing() {
    let mut fixed = MEDIUM_ERROR_FIXED;
    fixed[7] = 6;
    let sense = Sense::parse(&fixed).unwrap();
    assert_eq!((sense.additional, sense.specific), (AdditionalSense::UNRECOVERED_READ_ERROR, None));
}

#[test]
fn other_response_codes_are_no_sense_data() {
    for code in [0x00, 0x6f, 0x74, 0x7f] {
        assert_eq!(Sense::parse(&[code, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0]), None, "{code:02x}h");
    }
    assert_eq!(Sense::parse(&[]), None);
    assert_eq!(Sense::parse(&[0x70, 0]), None);
}

#[test]
fn an_lba_beyond_32_bits_is_left_out_of_fixed_format() {
    let sense = medium_error().with_information(1 << 32);
    assert_eq!(SenseData::fixed(&sense).as_slice()[0], 0x70);
    assert_eq!(SenseData::fixed(&sense).parse().unwrap().information, None);
    assert_eq!(SenseData::descriptor(&sense).parse(), Some(sense));
}

#[test]
fn more_sense_than_is_kept_is_cut_off() {
    assert_eq!(SenseData::new(&[0x70; 252]).as_slice().len(), SENSE_LENGTH_MAX);
}

#[test]
fn every_sense_key_survives() {
    for key in 0..16 {
        assert_eq!(u8::from(SenseKey::from(key)), key);
    }
}

fn any_sense() -> impl Strategy<Value = Sense> {
    let specific = (any::<[u8; 3]>(), any::<bool>());
    (0..16_u8, any::<(u8, u8)>(), any::<(Option<u32>, Option<u32>, bool)>(), specific).prop_map(
        |(key, (asc, ascq), (information, command_specific, deferred), (field, has_field))| {
            let key = SenseKey::from(key);
            let [first, rest @ ..] = field;
            let valid = if has_field { first | SKSV } else { first & !SKSV };
            Sense {
                deferred,
                information: information.map(u64::from),
                // Fixed format cannot tell zero from none.
                command_specific: command_specific.filter(|value| *value != 0).map(u64::from),
                specific: SenseKeySpecific::parse(key, [valid, rest[0], rest[1]]),
                ..Sense::new(key, AdditionalSense::new(asc, ascq))
            }
        },
    )
}

proptest! {
    #[test]
    fn sense_survives_both_formats(sense in any_sense()) {
        prop_assert_eq!(SenseData::fixed(&sense).parse(), Some(sense));
        prop_assert_eq!(SenseData::descriptor(&sense).parse(), Some(sense));
    }

    #[test]
    fn sense_cut_off_anywhere_never_panics_or_changes_its_key(sense in any_sense(), length in 0..40_usize) {
        for data in [SenseData::fixed(&sense), SenseData::descriptor(&sense)] {
            let cut = &data.as_slice()[..length.min(data.as_slice().len())];
            if let Some(parsed) = Sense::parse(cut) {
                prop_assert_eq!((parsed.key, parsed.deferred), (sense.key, sense.deferred));
            }
        }
    }
}
