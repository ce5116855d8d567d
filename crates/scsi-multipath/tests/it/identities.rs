//! Which designators name a logical unit, and which do not.

use proptest::prelude::*;
use scsi::inquiry::Peripheral;
use scsi::vpd::{Association, CodeSet, Designator, DesignatorType, DeviceIdPage};
use scsi_multipath::{Identity, NameKind, NoIdentity};

fn binary(kind: DesignatorType, bytes: &[u8]) -> Designator {
    Designator::of_logical_unit(kind, CodeSet::Binary, bytes)
}

fn text(kind: DesignatorType, text: &str) -> Designator {
    Designator::of_logical_unit(kind, CodeSet::Utf8, text.as_bytes())
}

fn identity(designators: impl Into<Vec<Designator>>) -> Result<Identity, NoIdentity> {
    let page = DeviceIdPage { peripheral: Peripheral::DISK, designators: designators.into() };
    // As it would come over the wire.
    let page = DeviceIdPage::parse(&page.emit()).expect("what we emit parses");
    Identity::from_device_id_page(&page)
}

fn naa6(last: u8) -> Designator {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&[0x60, 0x01, 0x40, 0x5a]);
    bytes[15] = last;
    binary(DesignatorType::Naa, &bytes)
}

fn naa5(last: u8) -> Designator {
    binary(DesignatorType::Naa, &[0x50, 0x01, 0x40, 0x5a, 0, 0, 0, last])
}

/// One of each kind, worst first.
fn one_of_each() -> Vec<(Designator, NameKind, &'static str)> {
    let uuid: Vec<u8> = [0x10, 0x00].into_iter().chain(1..=16).collect();
    let eui = |length: u8| binary(DesignatorType::Eui64, &(1..=length).collect::<Vec<_>>());
    vec![
        (text(DesignatorType::T10VendorId, "ACME    disk 17"), NameKind::T10Vendor, "t10.ACME    disk 17"),
        (
            text(DesignatorType::NameString, "iqn.2001-04.com.example:disk\0\0\0"),
            NameKind::NameString,
            "iqn.2001-04.com.example:disk",
        ),
        (binary(DesignatorType::Uuid, &uuid), NameKind::Uuid, "uuid.01020304-0506-0708-090a-0b0c0d0e0f10"),
        (eui(8), NameKind::Eui64Length8, "eui.0102030405060708"),
        (eui(12), NameKind::Eui64Length12, "eui.0102030405060708090a0b0c"),
        (eui(16), NameKind::Eui64Length16, "eui.0102030405060708090a0b0c0d0e0f10"),
        (binary(DesignatorType::Naa, &[0x20, 1, 2, 3, 4, 5, 6, 7]), NameKind::Naa2, "naa.2001020304050607"),
        (naa5(9), NameKind::Naa5, "naa.5001405a00000009"),
        (naa6(9), NameKind::Naa6, "naa.6001405a000000000000000000000009"),
    ]
}

#[test]
fn the_best_designator_names_the_unit_whatever_stands_before_it() {
    let mut designators = Vec::new();
    for (designator, kind, name) in one_of_each() {
        designators.push(designator.clone());
        let last = identity(designators.clone()).expect("it has a name");
        let first: Vec<_> = designators.iter().rev().cloned().collect();
        let first = identity(first).expect("it has a name");
        assert_eq!((last.name().kind(), last.to_string().as_str()), (kind, name));
        assert_eq!(first, last, "the order in the page does not matter");
    }
}

#[test]
fn only_designators_of_the_logical_unit_count() {
    let mut port = naa6(1);
    port.association = Association::TargetPort;
    let mut device = naa6(2);
    device.association = Association::TargetDevice;
    assert_eq!(identity([port.clone(), device.clone()]), Err(NoIdentity::NoDesignator));
    let found = identity([port, naa5(3), device]).expect("one is the unit's");
    assert_eq!(found.to_string(), "naa.5001405a00000003");
}

#[test]
fn local_designators_are_no_identity() {
    let local = binary(DesignatorType::Naa, &[0x30, 1, 2, 3, 4, 5, 6, 7]);
    let vendor = text(DesignatorType::VendorSpecific, "anything");
    let md5 = binary(DesignatorType::Md5, &[1; 16]);
    for designator in [local, vendor, md5] {
        assert_eq!(identity([designator]), Err(NoIdentity::NotUnique));
    }
}

#[test]
fn designators_that_name_nothing_are_refused() {
    let naa = DesignatorType::Naa;
    let mut ones = [0xff; 16];
    ones[0] = 0x6f;
    let mut zeros = [0; 16];
    zeros[0] = 0x60;
    let nothing = [
        (binary(naa, &zeros), NameKind::Naa6),
        (binary(naa, &ones), NameKind::Naa6),
        (binary(naa, &[0x60, 1, 2, 3]), NameKind::Naa6),
        (binary(naa, &[0x50, 0, 0, 0, 0, 0, 0, 0]), NameKind::Naa5),
        (binary(DesignatorType::Eui64, &[0; 8]), NameKind::Eui64Length8),
        (binary(DesignatorType::Eui64, &[0xff; 16]), NameKind::Eui64Length16),
        (binary(DesignatorType::Eui64, &[1; 9]), NameKind::Eui64Length8),
        (binary(DesignatorType::Eui64, &[]), NameKind::Eui64Length8),
        (text(DesignatorType::NameString, "iqn."), NameKind::NameString),
        (text(DesignatorType::NameString, "disk-17"), NameKind::NameString),
        (text(DesignatorType::NameString, "iqn.\u{7}"), NameKind::NameString),
        (text(DesignatorType::T10VendorId, "ACME    "), NameKind::T10Vendor),
        (text(DesignatorType::T10VendorId, "ACME    00000000"), NameKind::T10Vendor),
        (text(DesignatorType::T10VendorId, "ACME    \u{1}"), NameKind::T10Vendor),
        (text(DesignatorType::T10VendorId, ""), NameKind::T10Vendor),
    ];
    for (designator, kind) in nothing {
        assert_eq!(identity([designator.clone()]), Err(NoIdentity::Unusable(kind)), "{designator:?}");
        let other = identity([designator, naa6(1)]).expect("the other one does");
        assert_eq!(other.name().kind(), NameKind::Naa6);
    }
}

#[test]
fn names_that_differ_in_one_late_byte_are_two_units() {
    for position in [41, 254] {
        let one = format!("iqn.{}", "x".repeat(251));
        let mut other = one.clone().into_bytes();
        other[position] = b'y';
        let other = String::from_utf8(other).expect("it is text");
        let one = identity([text(DesignatorType::NameString, &one)]).expect("a long name");
        let other = identity([text(DesignatorType::NameString, &other)]).expect("a long name");
        assert_eq!(one.to_string().len(), 255);
        assert_ne!(one.name(), other.name(), "byte {position}");
    }
}

#[test]
fn a_second_designator_that_differs_contradicts_an_equal_name() {
    let one = identity([naa6(1), naa5(1)]).expect("two names");
    let same = identity([naa5(1), naa6(1)]).expect("two names");
    let other = identity([naa6(1), naa5(2)]).expect("two names");
    let less = identity([naa6(1)]).expect("one name");
    assert!(one.contradicts(&same).is_none());
    assert!(one.contradicts(&less).is_none() && less.contradicts(&one).is_none());
    let (ours, theirs) = one.contradicts(&other).expect("they differ in NAA 5h");
    assert_eq!(
        (ours.to_string().as_str(), theirs.to_string().as_str()),
        ("naa.5001405a00000001", "naa.5001405a00000002")
    );
}

#[test]
fn several_designators_of_one_kind_agree_if_they_share_one() {
    let one = identity([naa6(1), naa6(2)]).expect("names");
    let two = identity([naa6(2), naa6(3)]).expect("names");
    let three = identity([naa6(3), naa6(4)]).expect("names");
    assert!(one.contradicts(&two).is_none());
    assert!(one.contradicts(&three).is_some());
}

#[test]
fn a_name_that_only_a_vendor_made_is_weak() {
    let weak = identity([text(DesignatorType::T10VendorId, "ACME    17")]).expect("a name");
    assert!(weak.name().is_weak());
    assert!(!identity([naa6(1)]).expect("a name").name().is_weak());
}

proptest! {
    #[test]
    fn no_page_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut page = vec![0, 0x83];
        page.extend(u16::try_from(bytes.len()).expect("short").to_be_bytes());
        page.extend(bytes);
        if let Ok(page) = DeviceIdPage::parse(&page)
            && let Ok(identity) = Identity::from_device_id_page(&page)
        {
            prop_assert!(!identity.to_string().is_empty());
            prop_assert!(identity.contradicts(&identity).is_none());
        }
    }
}
