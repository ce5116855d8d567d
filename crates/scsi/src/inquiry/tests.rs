use std::string::ToString;

use super::*;

const DISK: [u8; 36] = [
    0x00, 0x80, 0x06, 0x12, // connected disk; RMB; SPC-4; HISUP, response data format 2
    0x1f, 0x39, 0x00, 0x02, // length; TPGS 11b, 3PC, PROTECT; reserved; CMDQUE
    b'S', b'M', b'P', b'A', b'T', b'H', b' ', b' ', // vendor
    b'D', b'i', b's', b'k', b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ', b' ',
    b' ', // product
    b'0', b'0', b'0', b'1', // revision
];

fn disk() -> InquiryData {
    InquiryData {
        peripheral: Peripheral::DISK,
        removable: true,
        version: 6,
        hierarchical: true,
        port_groups: PortGroupSupport::Both,
        third_party_copy: true,
        protection: true,
        command_queuing: true,
        vendor: Ascii::new("SMPATH"),
        product: Ascii::new("Disk"),
        revision: Ascii::new("0001"),
    }
}

#[test]
fn standard_data_is_understood_and_said() {
    assert_eq!(InquiryData::parse(&DISK), Ok(disk()));
    assert_eq!(disk().emit(), DISK);
    assert_eq!(disk().vendor.to_string(), "SMPATH");
}

#[test]
fn short_data_of_an_old_device_has_no_names() {
    // Five bytes, of which the last says that none follow; what stands behind is not data.
    let mut old = DISK;
    old[4] = 0;
    let data = InquiryData::parse(&old).unwrap();
    assert_eq!((data.version, data.port_groups), (6, PortGroupSupport::None));
    assert_eq!(data.vendor.to_string(), "");
    assert_eq!(InquiryData::parse(&DISK[..4]), Err(ParseError::Truncated { needed: 5, got: 4 }));
}

#[test]
fn a_lun_without_a_unit_answers_7fh() {
    assert_eq!(u8::from(Peripheral::NONE), 0x7f);
    assert_eq!(Peripheral::from(0x7f), Peripheral::NONE);
}

#[test]
fn every_peripheral_byte_survives() {
    for byte in 0..=u8::MAX {
        assert_eq!(u8::from(Peripheral::from(byte)), byte);
    }
}

#[test]
fn names_that_do_not_print_are_shown_but_kept() {
    let name = Ascii::<8>(*b"A\x01B \0  \0");
    assert_eq!(name.to_string(), "A?B");
    assert_eq!(Ascii::<4>::new("toolong").to_string(), "tool");
}
