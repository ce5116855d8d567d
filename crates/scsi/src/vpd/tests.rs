use proptest::prelude::*;

use super::*;
use crate::Ascii;

/// What an iSCSI disk answers.
const DEVICE_ID_PAGE: [u8; 92] = [
    0x00, 0x83, 0x00, 0x58, // disk; page; length
    0x01, 0x03, 0x00, 0x10, // binary; logical unit, NAA; 16 bytes
    0x60, 0x01, 0x40, 0x5a, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa,
    0xbb, // NAA 6h
    0x02, 0x01, 0x00, 0x0c, // ASCII; logical unit, T10 vendor; 12 bytes
    b'S', b'M', b'P', b'A', b'T', b'H', b' ', b' ', b'd', b'i', b's', b'k', // vendor, then its own name
    0x01, 0x0a, 0x00, 0x12, // binary; logical unit, UUID; 18 bytes
    0x10, 0x00, // type 1h, reserved
    0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b,
    0xf6, // the UUID
    0x51, 0x94, 0x00, 0x04, // iSCSI, binary; PIV, target port, relative port; 4 bytes
    0x00, 0x00, 0x00, 0x02, // port 2
    0x01, 0x15, 0x00, 0x04, // binary; target port, target port group; 4 bytes
    0x00, 0x00, 0x01, 0x01, // group 257
    0x53, 0xa8, 0x00, 0x0a, // iSCSI, UTF-8; PIV, target device, name string; 10 bytes
    b'i', b'q', b'n', b'.', b'a', b':', b'b', 0x00, 0x00, 0x00, // the name, padded
];

const NAA: [u8; 16] =
    [0x60, 0x01, 0x40, 0x5a, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb];
const UUID: [u8; 16] =
    [0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6];

fn device_id() -> DeviceIdPage {
    let iscsi = Some(ProtocolId::Iscsi);
    let of_unit = |kind, code_set, bytes: &[u8]| Designator::of_logical_unit(kind, code_set, bytes);
    let port = Designator { protocol: iscsi, ..Designator::relative_target_port(2) };
    let name = Designator {
        association: Association::TargetDevice,
        protocol: iscsi,
        ..of_unit(DesignatorType::NameString, CodeSet::Utf8, b"iqn.a:b\0\0\0")
    };
    DeviceIdPage {
        peripheral: Peripheral::DISK,
        designators: vec![
            of_unit(DesignatorType::Naa, CodeSet::Binary, &NAA),
            of_unit(DesignatorType::T10VendorId, CodeSet::Ascii, b"SMPATH  disk"),
            of_unit(DesignatorType::Uuid, CodeSet::Binary, &[&[0x10, 0], UUID.as_slice()].concat()),
            port,
            Designator::target_port_group(257),
            name,
        ],
    }
}

#[test]
fn a_device_identification_page_is_understood_and_said() {
    assert_eq!(DeviceIdPage::parse(&DEVICE_ID_PAGE), Ok(device_id()));
    assert_eq!(device_id().emit(), DEVICE_ID_PAGE);
}

#[test]
fn each_designator_means_what_its_type_says() {
    let page = device_id();
    let values: Vec<_> = page.designators.iter().map(Designator::value).collect();
    let expected = [
        DesignatorValue::Naa(&NAA),
        DesignatorValue::T10 { vendor: b"SMPATH  ", specific: b"disk" },
        DesignatorValue::Uuid(UUID),
        DesignatorValue::RelativeTargetPort(2),
        DesignatorValue::TargetPortGroup(257),
        DesignatorValue::NameString("iqn.a:b"),
    ];
    assert_eq!(values, expected);
    assert_eq!(page.of_logical_unit().count(), 3);
    assert_eq!((page.relative_target_port(), page.target_port_group()), (Some(2), Some(257)));
}

#[test]
fn a_designator_that_breaks_its_type_survives_as_bytes() {
    let value = |kind, bytes: &'static [u8]| {
        let designator = Designator::of_logical_unit(kind, CodeSet::Binary, bytes);
        matches!(designator.value(), DesignatorValue::Other(other) if other == bytes)
    };
    // NAA 6h with half its length, NAA of an unknown format, and none.
    assert!(value(DesignatorType::Naa, &[0x60, 1, 2, 3, 4, 5, 6, 7]));
    assert!(value(DesignatorType::Naa, &[0x90, 1, 2, 3, 4, 5, 6, 7]));
    assert!(value(DesignatorType::Naa, &[]));
    // EUI-64 of nine bytes, an MD5 of four, a vendor of seven letters, a name that is no UTF-8.
    assert!(value(DesignatorType::Eui64, &[0; 9]));
    assert!(value(DesignatorType::Md5, &[0; 4]));
    assert!(value(DesignatorType::T10VendorId, b"SMPATH "));
    assert!(value(DesignatorType::NameString, &[0xff, 0xfe]));
    assert!(value(DesignatorType::Reserved(0xf), &[1]));
}

#[test]
fn half_an_identity_is_none() {
    for got in 4..DEVICE_ID_PAGE.len() {
        let error = Err(ParseError::Truncated { needed: DEVICE_ID_PAGE.len(), got });
        assert_eq!(DeviceIdPage::parse(&DEVICE_ID_PAGE[..got]), error);
    }
    // The last designator claims a byte more than the page has.
    let mut longer = DEVICE_ID_PAGE;
    longer[81] = 0x0b;
    assert_eq!(DeviceIdPage::parse(&longer), Err(ParseError::Malformed { byte: 78 }));
}

#[test]
fn a_page_of_empty_designators_is_refused() {
    let mut page = vec![0x00, 0x83, 0x02, 0x04];
    page.resize(4 + 0x204, 0);
    assert_eq!(DeviceIdPage::parse(&page), Err(ParseError::TooMany { limit: DESIGNATORS_MAX }));
}

#[test]
fn another_page_than_asked_for_is_refused() {
    // Standard INQUIRY data, from a device that ignores EVPD.
    let standard = [0x00, 0x00, 0x05, 0x02, 0x1f];
    assert_eq!(DeviceIdPage::parse(&standard), Err(ParseError::WrongPage { expected: 0x83, got: 0x00 }));
}

#[test]
fn the_supported_pages_are_listed() {
    let bytes = [0x00, 0x00, 0x00, 0x04, 0x00, 0x80, 0x83, 0xb0]; // disk; page; length; four pages
    let pages = SupportedPages { peripheral: Peripheral::DISK, pages: vec![0x00, 0x80, 0x83, 0xb0] };
    assert_eq!(SupportedPages::parse(&bytes), Ok(pages.clone()));
    assert_eq!(pages.emit(), bytes);
    assert!(pages.contains(BLOCK_LIMITS) && !pages.contains(LOGICAL_PROVISIONING));
}

#[test]
fn a_serial_number_loses_its_padding_only_in_its_text() {
    let bytes = [0x00, 0x80, 0x00, 0x06, b' ', b' ', b'0', b'4', b'2', b' ']; // disk; page; length; serial
    let page = SerialPage::parse(&bytes).unwrap();
    assert_eq!((page.text(), page.serial.len()), (Some("042"), 6));
    assert_eq!(page.emit(), bytes);
    assert_eq!(SerialPage { serial: vec![b' '; 8], ..page.clone() }.text(), None);
    assert_eq!(SerialPage { serial: vec![7], ..page }.text(), None);
}

#[test]
fn extended_inquiry_data_is_understood_and_said() {
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(&[0x00, 0x86, 0x00, 0x3c]); // disk; page; length
    bytes[4] = 0x2f; // SPT 101b, GRD_CHK, APP_CHK, REF_CHK
    bytes[5] = 0x2f; // UASK_SUP, PRIOR_SUP, HEADSUP, ORDSUP, SIMPSUP
    bytes[6] = 0x0b; // WU_SUP, NV_SUP, V_SUP
    bytes[7] = 0x01; // LUICLR
    bytes[13] = 252; // maximum sense data length
    let page = ExtendedInquiryPage {
        peripheral: Peripheral::DISK,
        supported_protection: 5,
        guard_check: true,
        application_tag_check: true,
        reference_tag_check: true,
        unit_attention_specific: true,
        priority: true,
        head_of_queue: true,
        ordered: true,
        simple: true,
        write_uncorrectable: true,
        non_volatile_cache: true,
        volatile_cache: true,
        clears_nexus_attentions: true,
        sense_length_max: 252,
    };
    assert_eq!(ExtendedInquiryPage::parse(&bytes), Ok(page));
    assert_eq!(page.emit(), bytes);
}

#[test]
fn block_limits_are_understood_and_said() {
    let bytes = [
        0x00, 0xb0, 0x00, 0x3c, // disk; page; length
        0x01, 0x02, 0x00, 0x08, // WSNZ; compare and write 2; granularity 8
        0x00, 0x00, 0x40, 0x00, // maximum transfer 16384
        0x00, 0x00, 0x08, 0x00, // optimal transfer 2048
        0x00, 0x00, 0x00, 0x03, // maximum prefetch
        0x00, 0x40, 0x00, 0x00, // maximum unmap blocks
        0x00, 0x00, 0x00, 0x20, // maximum unmap descriptors
        0x00, 0x00, 0x00, 0x10, // unmap granularity
        0x80, 0x00, 0x00, 0x04, // UGAVALID, alignment 4
        0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, // maximum write same 2^32
        0x00, 0x00, 0x00, 0x05, // maximum atomic transfer
        0x00, 0x00, 0x00, 0x06, // atomic alignment
        0x00, 0x00, 0x00, 0x07, // atomic granularity
        0x00, 0x00, 0x00, 0x08, // maximum atomic transfer with boundary
        0x00, 0x00, 0x00, 0x09, // maximum atomic boundary
    ];
    let page = BlockLimitsPage {
        peripheral: Peripheral::DISK,
        write_same_non_zero: true,
        compare_and_write_max: 2,
        transfer_granularity: 8,
        transfer_max: 16_384,
        transfer_optimal: 2048,
        prefetch_max: 3,
        unmap_blocks_max: 0x40_0000,
        unmap_descriptors_max: 32,
        unmap_granularity: 16,
        unmap_alignment: Some(4),
        write_same_max: 1 << 32,
        atomic_transfer_max: 5,
        atomic_alignment: 6,
        atomic_granularity: 7,
        atomic_transfer_with_boundary_max: 8,
        atomic_boundary_max: 9,
    };
    assert_eq!(BlockLimitsPage::parse(&bytes), Ok(page));
    assert_eq!(page.emit(), bytes);
}

#[test]
fn the_short_block_limits_of_an_old_device_report_no_unmap() {
    // Page length 0Ch: up to the optimal transfer length.
    let bytes = [0x00, 0xb0, 0x00, 0x0c, 0, 0, 0, 8, 0, 0, 0x40, 0, 0, 0, 8, 0];
    let page = BlockLimitsPage::parse(&bytes).unwrap();
    assert_eq!((page.transfer_max, page.transfer_optimal), (16_384, 2048));
    assert_eq!((page.unmap_blocks_max, page.unmap_alignment), (0, None));
}

#[test]
fn block_characteristics_are_understood_and_said() {
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(&[0x00, 0xb1, 0x00, 0x3c]); // disk; page; length
    bytes[4..9].copy_from_slice(&[0x00, 0x01, 0x00, 0x03, 0x03]); // not rotating; type; 2.5 inch; FUAB, VBULS
    let page = BlockCharacteristicsPage {
        peripheral: Peripheral::DISK,
        rotation_rate: 1,
        product_type: 0,
        form_factor: 3,
        force_unit_access_behaviour: true,
        verify_unmapped_supported: true,
    };
    assert_eq!(BlockCharacteristicsPage::parse(&bytes), Ok(page));
    assert_eq!(page.emit(), bytes);
}

#[test]
fn logical_provisioning_is_understood_and_said() {
    let bytes = [
        0x00, 0xb2, 0x00, 0x10, // disk; page; length
        0x0b, 0xe7, // threshold exponent 11; LBPU, LBPWS, LBPWS10, LBPRZ 001b, ANC_SUP, DP
        0x52, 0x14, // minimum percentage 10, thin; threshold percentage 20
        0x01, 0x03, 0x00, 0x08, // binary; logical unit, NAA; 8 bytes
        0x50, 0x01, 0x40, 0x5a, 0x00, 0x11, 0x22, 0x33, // NAA 5h of the pool
    ];
    let pool = [0x50, 0x01, 0x40, 0x5a, 0x00, 0x11, 0x22, 0x33];
    let page = LogicalProvisioningPage {
        threshold_exponent: 11,
        unmap: true,
        write_same_16: true,
        write_same_10: true,
        reads: 1,
        anchor: true,
        percentage_min: 10,
        kind: ProvisioningType::Thin,
        threshold_percentage: 20,
        group: Some(Designator::of_logical_unit(DesignatorType::Naa, CodeSet::Binary, pool)),
        ..LogicalProvisioningPage::new(Peripheral::DISK)
    };
    assert!(page.unmapped_reads_zero());
    assert_eq!(LogicalProvisioningPage::parse(&bytes), Ok(page.clone()));
    assert_eq!(page.emit(), bytes);
}

#[test]
fn text_fields_are_padded_with_blanks() {
    assert_eq!(Ascii::<8>::new("SMPATH").0, *b"SMPATH  ");
}

fn any_designator() -> impl Strategy<Value = Designator> {
    let nibbles = (0..4_u8, 0..16_u8, 0..16_u8, proptest::option::of(0..16_u8));
    (nibbles, proptest::collection::vec(any::<u8>(), 0..256)).prop_map(
        |((association, kind, code_set, protocol), bytes)| Designator {
            association: association.into(),
            kind: kind.into(),
            code_set: code_set.into(),
            protocol: protocol.map(ProtocolId::from),
            bytes,
        },
    )
}

proptest! {
    #[test]
    fn any_identity_survives(
        peripheral: u8,
        designators in proptest::collection::vec(any_designator(), 0..12),
    ) {
        let page = DeviceIdPage { peripheral: peripheral.into(), designators };
        for designator in &page.designators {
            // Never panics, whatever the type and the bytes.
            let _ = designator.value();
        }
        prop_assert_eq!(DeviceIdPage::parse(&page.emit()), Ok(page));
    }
}
