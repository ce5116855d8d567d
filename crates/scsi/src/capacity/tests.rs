use proptest::prelude::*;

use super::*;

const THIN: [u8; 32] = [
    0, 0, 0, 0, 0x00, 0x1f, 0xff, 0xff, // last LBA
    0, 0, 0x02, 0x00, // 512 bytes a block
    0x05, 0x13, // P_TYPE 2 and PROT_EN; P_I_EXPONENT 1, 8 logical blocks in a physical one
    0xc0, 0x07, // LBPME, LBPRZ; lowest aligned LBA 7
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // reserved
];

fn thin() -> Capacity {
    Capacity {
        protection: ProtectionType::Type3,
        protection_interval_exponent: 1,
        physical_block_exponent: 3,
        provisioning_management: true,
        unmapped_reads_zero: true,
        lowest_aligned: 7,
        ..Capacity::new(Lba(0x1f_ffff), 512)
    }
}

#[test]
fn the_long_form_is_understood_and_said() {
    assert_eq!(Capacity::parse(&THIN), Ok(thin()));
    assert_eq!(thin().emit(), THIN);
}

#[test]
fn the_twelve_bytes_of_an_old_device_are_enough() {
    assert_eq!(Capacity::parse(&THIN[..12]), Ok(Capacity::new(Lba(0x1f_ffff), 512)));
    assert_eq!(Capacity::parse(&THIN[..11]), Err(ParseError::Truncated { needed: 12, got: 11 }));
}

#[test]
fn a_protection_type_without_its_enable_bit_is_none() {
    let mut bytes = THIN;
    bytes[12] = 0x04;
    assert_eq!(Capacity::parse(&bytes).unwrap().protection, ProtectionType::None);
}

#[test]
fn the_short_form_is_understood_and_said() {
    // Last LBA; 4,096 bytes a block.
    let bytes = [0x00, 0x03, 0xff, 0xff, 0x00, 0x00, 0x10, 0x00];
    let capacity = Capacity10 { last: Some(Lba(0x3_ffff)), block_size: 4096 };
    assert_eq!(Capacity10::parse(&bytes), Ok(capacity));
    assert_eq!(capacity.emit(), bytes);
}

#[test]
fn a_unit_too_large_for_the_short_form_says_so() {
    let bytes = [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0];
    assert_eq!(Capacity10::parse(&bytes), Ok(Capacity10 { last: None, block_size: 512 }));
    assert_eq!(Capacity10 { last: Some(Lba(1 << 32)), block_size: 512 }.emit(), bytes);
}

proptest! {
    #[test]
    fn any_capacity_survives(bytes in proptest::array::uniform32(any::<u8>())) {
        let capacity = Capacity::parse(&bytes).unwrap();
        prop_assert_eq!(Capacity::parse(&capacity.emit()), Ok(capacity));
    }
}
