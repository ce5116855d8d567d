use proptest::prelude::*;
use std::string::ToString;

use super::*;

const LIST: [u8; 40] = [
    0x00, 0x00, 0x00, 0x20, 0, 0, 0, 0, // length of the list; reserved
    0x00, 0x05, 0, 0, 0, 0, 0, 0, // peripheral device addressing: unit 5
    0x41, 0x2c, 0, 0, 0, 0, 0, 0, // flat space: unit 300
    0xd2, 0x00, 0x40, 0x00, 0, 0, 0, 0, // extended flat space: unit 16384
    0xc1, 0x01, 0, 0, 0, 0, 0, 0, // the REPORT LUNS well known unit
];

fn list() -> LunList {
    LunList { luns: vec![Lun::from(5), Lun::from(300), Lun::from(16_384), Lun::REPORT_LUNS] }
}

#[test]
fn a_report_is_understood_and_said() {
    assert_eq!(LunList::parse(&LIST), Ok(list()));
    assert_eq!(list().emit(), LIST);
}

#[test]
fn each_form_is_told_apart() {
    let formats: Vec<_> = list().luns.into_iter().map(Lun::format).collect();
    let expected = [
        LunFormat::Peripheral { bus: 0, unit: 5 },
        LunFormat::Flat(300),
        LunFormat::ExtendedFlat(16_384),
        LunFormat::WellKnown(1),
    ];
    assert_eq!(formats, expected);
    // Logical unit addressing: target 3, bus 5, unit 17.
    let lun = Lun([0x83, 0xb1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(lun.format(), LunFormat::LogicalUnit { target: 3, bus: 5, unit: 17 });
    assert_eq!(Lun([0xff; 8]).format(), LunFormat::Other(0xff));
}

#[test]
fn luns_print_as_linux_prints_them() {
    assert_eq!(Lun::from(5).to_string(), "5");
    // 412Ch.
    assert_eq!(Lun::from(300).to_string(), "16684");
    // C101h.
    assert_eq!(Lun::REPORT_LUNS.to_string(), "49409");
    // A second level counts 65,536ths of the first.
    assert_eq!(Lun([0, 1, 0, 2, 0, 0, 0, 0]).to_string(), (2 * 65_536 + 1).to_string());
}

#[test]
fn a_list_cut_off_says_how_much_to_ask_for() {
    for got in HEADER..LIST.len() {
        assert_eq!(LunList::parse(&LIST[..got]), Err(ParseError::Truncated { needed: 40, got }));
    }
}

#[test]
fn a_list_beyond_the_limit_is_refused_before_it_is_read() {
    let header = [0xff, 0xff, 0xff, 0xf8, 0, 0, 0, 0];
    assert_eq!(LunList::parse(&header), Err(ParseError::TooMany { limit: LUNS_MAX }));
}

proptest! {
    #[test]
    fn any_list_survives(luns in proptest::collection::vec(any::<[u8; 8]>().prop_map(Lun), 0..64)) {
        let list = LunList { luns };
        prop_assert_eq!(LunList::parse(&list.emit()), Ok(list));
    }

    #[test]
    fn every_number_is_found_again_in_its_lun(number: u16) {
        let found = match Lun::from(number).format() {
            LunFormat::Peripheral { bus: 0, unit } => u32::from(unit),
            LunFormat::Flat(unit) => u32::from(unit),
            LunFormat::ExtendedFlat(unit) => unit,
            other => panic!("{other:?} is not a single level"),
        };
        prop_assert_eq!(found, u32::from(number));
    }
}
