//! INQUIRY, REPORT LUNS, READ CAPACITY, and LUNs that nothing is mapped at.

use array::{Event, Options, UnitId, UnitOptions};
use scsi::inquiry::InquiryData;
use scsi::vpd::{BlockLimitsPage, DesignatorValue, DeviceIdPage, LogicalProvisioningPage, SupportedPages};
use scsi::{Lun, Residual, SenseKey, Status};

use crate::bench::{A, B, BLOCKS, Bench, INVALID_FIELD, TEST_UNIT_READY, field, options, sense};

/// EVPD in byte 1, the page in byte 2, 255 bytes.
fn vital(page: u8) -> [u8; 6] {
    [0x12, 0x01, page, 0x00, 0xff, 0x00]
}

#[test]
fn standard_inquiry_claims_a_disk_with_implicit_alua() {
    let mut bench = Bench::new(options());
    let bytes = bench.get(&[0x12, 0, 0, 0x00, 0xff, 0x00]);
    assert_eq!(bytes.len(), 96);
    assert_eq!(bytes[0], 0x00, "connected, direct access");
    assert_eq!(bytes[2], 0x06, "SPC-4");
    assert_eq!(bytes[3] & 0x0f, 0x02, "response data format");
    assert_eq!(bytes[4], 91, "additional length");
    assert_eq!(bytes[5] >> 4 & 0b11, 0b01, "TPGS: implicit");
    assert_eq!(&bytes[58..66], [0x00, 0xa0, 0x09, 0x60, 0x04, 0x60, 0x04, 0xc0], "SAM-5 iSCSI SPC-4 SBC-3");
    assert_eq!(InquiryData::parse(&bytes).unwrap().vendor.to_string(), "SMPATH");
}

#[test]
fn no_more_is_returned_than_the_allocation_length() {
    let mut bench = Bench::new(options());
    for room in 0..=96 {
        let tag = bench.send(A, 0, &[0x12, 0, 0, 0, room, 0], &[], u32::from(room) + 10);
        let (reply, data) = bench.reply_to(tag);
        assert_eq!(data.len(), usize::from(room));
        assert_eq!(reply.residual, Residual::Underflow(10));
    }
}

#[test]
fn every_page_that_is_listed_can_be_read_and_no_other() {
    let mut bench = Bench::new(options());
    let listed = SupportedPages::parse(&bench.get(&vital(0x00))).unwrap().pages;
    assert_eq!(listed, [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    for page in 0..=0xff {
        let (reply, data) = bench.ask(&vital(page));
        if listed.contains(&page) {
            assert_eq!((reply.status, data[1]), (Status::Good, page));
        } else {
            assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (2, None)));
        }
    }
}

#[test]
fn the_rotation_rate_is_the_one_that_was_chosen() {
    for (rotation_rate, expected) in [(1, [0x00, 0x01]), (7200, [0x1c, 0x20])] {
        let unit = UnitOptions { rotation_rate, ..UnitOptions::memory(0, 1 << 20) };
        let mut bench = Bench::new(Options { units: vec![unit], ..options() });
        assert_eq!(bench.get(&vital(0xb1))[4..6], expected);
    }
}

#[test]
fn a_unit_can_be_without_a_name_from_the_beginning() {
    let unit = UnitOptions { shown: array::ShownIdentity::Nothing, ..UnitOptions::memory(0, 1 << 20) };
    let mut bench = Bench::new(Options { units: vec![unit], ..options() });
    let page = DeviceIdPage::parse(&bench.get(&vital(0x83))).unwrap();
    let of_unit =
        |designator: &&scsi::vpd::Designator| designator.association == scsi::vpd::Association::LogicalUnit;
    assert_eq!(page.designators.iter().filter(of_unit).count(), 0);
}

#[test]
fn a_page_code_without_evpd_is_refused() {
    let mut bench = Bench::new(options());
    assert_eq!(sense(&bench.ask(&[0x12, 0, 0x80, 0, 0xff, 0]).0), INVALID_FIELD);
}

#[test]
fn all_ports_name_the_same_unit_and_each_its_own_port_and_group() {
    let mut bench = Bench::new(options());
    let page_83 = |bench: &mut Bench, nexus| {
        let (_, bytes) = bench.ask_as(nexus, 0, &vital(0x83));
        DeviceIdPage::parse(&bytes).unwrap()
    };
    let (a, b) = (page_83(&mut bench, A), page_83(&mut bench, B));
    assert!(a.of_logical_unit().eq(b.of_logical_unit()));
    assert_eq!((a.relative_target_port(), a.target_port_group()), (Some(1), Some(1)));
    assert_eq!((b.relative_target_port(), b.target_port_group()), (Some(3), Some(2)));
    let naa = a.of_logical_unit().find_map(|it| match it.value() {
        DesignatorValue::Naa(naa) => Some(naa.to_vec()),
        _ => None,
    });
    assert_eq!(naa.unwrap()[0] >> 4, 6, "NAA 6h");
}

#[test]
fn two_units_and_two_arrays_have_different_identities() {
    let units = || vec![UnitOptions::memory(0, 1 << 20), UnitOptions::memory(1, 1 << 20)];
    let first = Bench::new(Options { units: units(), ..options() });
    let second = Bench::new(Options { units: units(), number: 2, ..options() });
    let all = |bench: &Bench| bench.array.units().map(|unit| unit.identity().clone()).collect::<Vec<_>>();
    let mut identities = [all(&first), all(&second)].concat();
    identities.sort_by_key(|identity| identity.naa);
    identities.dedup();
    assert_eq!(identities.len(), 4);
}

#[test]
fn the_limits_page_says_what_is_enforced() {
    let mut bench = Bench::new(options());
    let limits = BlockLimitsPage::parse(&bench.get(&vital(0xb0))).unwrap();
    assert_eq!(limits.transfer_max, 16_384);
    assert!(limits.write_same_non_zero);
    assert_eq!((limits.unmap_blocks_max, limits.unmap_descriptors_max), (1 << 20, 256));
    let provisioning = LogicalProvisioningPage::parse(&bench.get(&vital(0xb2))).unwrap();
    assert!(provisioning.unmap && provisioning.write_same_16 && provisioning.unmapped_reads_zero());
}

#[test]
fn capacity_is_told_by_both_commands() {
    let mut bench = Bench::new(options());
    let last = u8::try_from((BLOCKS - 1) & 0xff).unwrap();
    assert_eq!(bench.get(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [0, 0, 0x07, last, 0, 0, 0x02, 0x00]);
    // SERVICE ACTION IN(16), READ CAPACITY(16), 32 bytes.
    let long = bench.get(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(long[..12], [0, 0, 0, 0, 0, 0, 0x07, last, 0, 0, 0x02, 0x00]);
    assert_eq!(long[14] & 0xc0, 0xc0, "LBPME and LBPRZ");
    for room in 0..=32 {
        let data = bench.get(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, room, 0, 0]);
        assert_eq!(data, long[..usize::from(room)]);
    }
}

#[test]
fn a_unit_too_large_for_read_capacity_10_says_so() {
    let mut bench = Bench::new(Options { units: vec![UnitOptions::memory(0, 3 << 40)], ..options() });
    assert_eq!(bench.get(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])[..4], [0xff; 4]);
}

#[test]
fn luns_are_reported_whole_and_also_at_a_lun_0_that_is_not_there() {
    let units = vec![UnitOptions::memory(1, 1 << 20), UnitOptions::memory(300, 1 << 20)];
    let mut bench = Bench::new(Options { units, ..options() });
    // REPORT LUNS, 64 bytes.
    let report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    let bytes = bench.get(&report);
    assert_eq!(bytes.len(), 8 + 2 * 8);
    assert_eq!(bytes[..8], [0, 0, 0, 16, 0, 0, 0, 0]);
    assert_eq!(bytes[8..10], [0x00, 1]);
    assert_eq!(bytes[16..18], [0x41, 0x2c], "flat space addressing of 300");
    assert_eq!(bench.ask_as(A, 1, &report).1, bytes);
}

#[test]
fn a_lun_that_nothing_is_mapped_at_answers_inquiry_and_little_else() {
    let mut bench = Bench::new(options());
    let (reply, bytes) = bench.ask_as(A, 5, &[0x12, 0, 0, 0, 36, 0]);
    assert_eq!((reply.status, bytes[0]), (Status::Good, 0x7f), "qualifier 3, type 1Fh");
    let not_supported = (SenseKey::IllegalRequest, 0x25, 0x00);
    assert_eq!(sense(&bench.ask_as(A, 5, &TEST_UNIT_READY).0), not_supported);
    // REQUEST SENSE has it as data.
    let (reply, bytes) = bench.ask_as(A, 5, &[0x03, 0, 0, 0, 18, 0]);
    assert_eq!((reply.status, bytes[2], bytes[12], bytes[13]), (Status::Good, 0x05, 0x25, 0x00));
}

#[test]
fn the_same_unit_answers_to_peripheral_and_flat_addressing() {
    let mut bench = Bench::new(options());
    bench.handle(Event::Map { port: None, lun: Lun([0x40, 7, 0, 0, 0, 0, 0, 0]), unit: Some(UnitId(0)) });
    // 3F/0E is pending; INQUIRY passes it.
    assert_eq!(bench.ask_as(A, 7, &[0x12, 0, 0, 0, 36, 0]).1[0], 0x00);
}

#[test]
fn an_unknown_operation_code_is_told_from_an_unknown_service_action() {
    let mut bench = Bench::new(options());
    // PERSISTENT RESERVE IN is known and not supported.
    for cdb in [[0x1du8, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0]] {
        assert_eq!(sense(&bench.ask(&cdb).0), (SenseKey::IllegalRequest, 0x20, 0x00));
    }
    let (reply, _) = bench.ask(&[0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (1, Some(4))));
}

#[test]
fn supported_commands_are_those_that_are_executed() {
    let mut bench = Bench::new(options());
    // REPORT SUPPORTED OPERATION CODES, all of them, no timeouts.
    let all = bench.get(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
    let all = scsi::opcodes::SupportedOperations::parse(&all).unwrap().operations;
    for operation in &all {
        let mut cdb = [0; 16];
        cdb[0] = operation.code;
        cdb[1] = operation.service_action.unwrap_or(0).to_be_bytes()[1];
        let tag = bench.send(A, 0, &cdb[..usize::from(operation.cdb_length)], &[], 0);
        let (reply, _) = bench.reply_to(tag);
        if reply.status == Status::CheckCondition {
            assert_ne!(sense(&reply).1, 0x20, "{operation:02x?}");
        }
    }
    assert!(!all.iter().any(|operation| matches!(operation.code, 0x5e | 0x5f | 0xa4)));
}

#[test]
fn one_command_is_reported_with_the_bits_that_count() {
    let mut bench = Bench::new(options());
    let one = |bench: &mut Bench, options, code, action| {
        bench.ask(&[0xa3, 0x0c, options, code, 0, action, 0, 0, 0, 0xff, 0, 0])
    };
    // READ(10): SUPPORT 3, ten bytes of CDB.
    let (_, read) = one(&mut bench, 1, 0x28, 0);
    assert_eq!(read, [0, 3, 0, 10, 0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]);
    // READ CAPACITY(16) has a service action, so option 1 is wrong and option 2 right.
    assert_eq!(sense(&one(&mut bench, 1, 0x9e, 0).0), INVALID_FIELD);
    assert_eq!(one(&mut bench, 2, 0x9e, 0x10).1[1], 3);
    assert_eq!(sense(&one(&mut bench, 2, 0x28, 0).0), INVALID_FIELD);
    // FORMAT UNIT is not there.
    assert_eq!(one(&mut bench, 1, 0x04, 0).1, [0, 1, 0, 0]);
}
