use proptest::prelude::*;
use std::vec::Vec;

use super::operation as op;
use super::*;

/// Each command as it is on the wire, and as a value.
fn literals() -> Vec<(&'static [u8], Cdb)> {
    let mut all = medium_literals();
    all.extend(ranged_literals());
    all.extend(control_literals());
    all.extend(mode_literals());
    all.extend(service_action_literals());
    all
}

fn access(form: Form, lba: u64, blocks: u32) -> MediumAccess {
    MediumAccess::new(form, Lba(lba), Blocks(blocks))
}

fn medium_literals() -> Vec<(&'static [u8], Cdb)> {
    let hinted = MediumAccess {
        protect: 3,
        disable_page_out: true,
        force_unit_access: true,
        group: 0x21,
        ..access(Form::Sixteen, 0x0102_0304_0506_0708, 0x1112_1314)
    };
    let unforced = MediumAccess { force_unit_access: false, ..hinted };
    vec![
        // READ(6): 21 bits of LBA, one byte of length; length 0 is 256 blocks.
        (&[0x08, 0x1f, 0x02, 0x03, 0x04, 0], Cdb::Read(access(Form::Six, 0x1f_0203, 4))),
        (&[0x08, 0, 0, 0, 0, 0], Cdb::Read(access(Form::Six, 0, 256))),
        (&[0x0a, 0, 0, 7, 0xff, 0], Cdb::Write(access(Form::Six, 7, 255))),
        // READ(10): code, flags, LBA x4, group, length x2, control.
        (&[0x28, 0, 1, 2, 3, 4, 0, 5, 6, 0], Cdb::Read(access(Form::Ten, 0x0102_0304, 0x0506))),
        (&[0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0], Cdb::Write(access(Form::Ten, 9, 1))),
        // READ(12): code, flags, LBA x4, length x4, group, control.
        (&[0xa8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0], Cdb::Read(access(Form::Twelve, 0x0102_0304, 0x0506_0708))),
        (&[0xaa, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0], Cdb::Write(access(Form::Twelve, 9, 1))),
        // READ(16): code, RDPROTECT 3 with DPO and FUA, LBA x8, length x4, group, control.
        (&[0x88, 0x78, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0], Cdb::Read(hinted)),
        (&[0x8a, 0x78, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0], Cdb::Write(hinted)),
        (&[0x8b, 0x78, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0], Cdb::OrWrite(hinted)),
        // WRITE AND VERIFY: BYTCHK is in bits 2 and 1 of the flags.
        (
            &[0x8e, 0x72, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0],
            Cdb::WriteAndVerify { access: unforced, byte_check: ByteCheck::Data },
        ),
        (
            &[0x2e, 0, 0, 0, 0, 9, 0, 0, 1, 0],
            Cdb::WriteAndVerify { access: access(Form::Ten, 9, 1), byte_check: ByteCheck::Medium },
        ),
        (
            &[0xae, 0x04, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            Cdb::WriteAndVerify { access: access(Form::Twelve, 9, 1), byte_check: ByteCheck::Reserved },
        ),
        (
            &[0x2f, 0x06, 0, 0, 0, 9, 0, 0, 1, 0],
            Cdb::Verify { access: access(Form::Ten, 9, 1), byte_check: ByteCheck::OneBlock },
        ),
        (
            &[0xaf, 0x02, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            Cdb::Verify { access: access(Form::Twelve, 9, 1), byte_check: ByteCheck::Data },
        ),
        (
            &[0x8f, 0x70, 1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0],
            Cdb::Verify { access: unforced, byte_check: ByteCheck::Medium },
        ),
    ]
}

fn ranged_literals() -> Vec<(&'static [u8], Cdb)> {
    let (lba, blocks) = (Lba(9), Blocks(8));
    let same = WriteSame {
        form: LongForm::Ten,
        lba,
        blocks,
        protect: 0,
        anchor: false,
        unmap: true,
        no_data_out: false,
        group: 0,
    };
    vec![
        (
            &[0x34, 2, 0, 0, 0, 9, 5, 0, 8, 0],
            Cdb::PreFetch { form: LongForm::Ten, lba, blocks, immediate: true, group: 5 },
        ),
        (
            &[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8, 5, 0],
            Cdb::PreFetch { form: LongForm::Sixteen, lba, blocks, immediate: false, group: 5 },
        ),
        (
            &[0x35, 2, 0, 0, 0, 9, 0, 0, 8, 0],
            Cdb::SynchronizeCache { form: LongForm::Ten, lba, blocks, immediate: true, group: 0 },
        ),
        (
            &[0x91, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0],
            Cdb::SynchronizeCache { form: LongForm::Sixteen, lba, blocks, immediate: false, group: 0 },
        ),
        // WRITE SAME: ANCHOR bit 4, UNMAP bit 3, NDOB bit 0 (16-byte form only).
        (&[0x41, 0x08, 0, 0, 0, 9, 0, 0, 8, 0], Cdb::WriteSame(same)),
        (
            &[0x93, 0x39, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0],
            Cdb::WriteSame(WriteSame {
                form: LongForm::Sixteen,
                protect: 1,
                anchor: true,
                no_data_out: true,
                ..same
            }),
        ),
        // UNMAP: ANCHOR, four reserved bytes, group, list length x2.
        (
            &[0x42, 1, 0, 0, 0, 0, 3, 0x01, 0x18, 0],
            Cdb::Unmap { anchor: true, group: 3, parameter_list_length: 0x118 },
        ),
        // COMPARE AND WRITE: LBA x8, three reserved bytes, one byte of length.
        (
            &[0x89, 0x08, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            Cdb::CompareAndWrite {
                lba,
                blocks: 1,
                protect: 0,
                disable_page_out: false,
                force_unit_access: true,
                group: 0,
            },
        ),
    ]
}

fn control_literals() -> Vec<(&'static [u8], Cdb)> {
    vec![
        (&[0; 6], Cdb::TestUnitReady),
        (&[0x03, 1, 0, 0, 252, 0], Cdb::RequestSense { descriptor: true, allocation_length: 252 }),
        (&[0x12, 0, 0, 0, 36, 0], Cdb::Inquiry { page: None, allocation_length: 36 }),
        (&[0x12, 1, 0x83, 2, 0, 0], Cdb::Inquiry { page: Some(0x83), allocation_length: 512 }),
        (&[0x12, 1, 0, 0, 255, 0], Cdb::Inquiry { page: Some(0), allocation_length: 255 }),
        (
            &[0xa0, 0, 2, 0, 0, 0, 0, 0, 0x20, 0, 0, 0],
            Cdb::ReportLuns { select: SelectReport::All, allocation_length: 0x2000 },
        ),
        (&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], Cdb::ReadCapacity10),
        (
            // START STOP UNIT: IMMED; modifier; power condition, NO_FLUSH, LOEJ, START.
            &[0x1b, 1, 0, 2, 0x35, 0],
            Cdb::StartStopUnit {
                immediate: true,
                power_condition: 3,
                power_condition_modifier: 2,
                no_flush: true,
                load_eject: false,
                start: true,
            },
        ),
        (&[0x1e, 0, 0, 0, 1, 0], Cdb::PreventAllowMediumRemoval { prevent: 1 }),
        (&[0x16, 0, 0, 0, 0, 0], Cdb::Reserve6),
        (&[0x17, 0, 0, 0, 0, 0], Cdb::Release6),
    ]
}

fn mode_literals() -> Vec<(&'static [u8], Cdb)> {
    vec![
        // MODE SENSE: DBD; PC in the high bits of the page code; subpage; length.
        (
            &[0x1a, 0x08, 0x48, 0xff, 192, 0],
            Cdb::ModeSense {
                form: ModeForm::Six,
                long_lba_accepted: false,
                disable_block_descriptors: true,
                control: PageControl::Changeable,
                page: 8,
                subpage: 0xff,
                allocation_length: 192,
            },
        ),
        (
            &[0x5a, 0x10, 0xca, 0, 0, 0, 0, 1, 0, 0],
            Cdb::ModeSense {
                form: ModeForm::Ten,
                long_lba_accepted: true,
                disable_block_descriptors: false,
                control: PageControl::Saved,
                page: 0x0a,
                subpage: 0,
                allocation_length: 256,
            },
        ),
        (
            &[0x15, 0x11, 0, 0, 24, 0],
            Cdb::ModeSelect {
                form: ModeForm::Six,
                page_format: true,
                revert_to_defaults: false,
                save_pages: true,
                parameter_list_length: 24,
            },
        ),
        (
            &[0x55, 0x12, 0, 0, 0, 0, 0, 0, 28, 0],
            Cdb::ModeSelect {
                form: ModeForm::Ten,
                page_format: true,
                revert_to_defaults: true,
                save_pages: false,
                parameter_list_length: 28,
            },
        ),
    ]
}

fn service_action_literals() -> Vec<(&'static [u8], Cdb)> {
    vec![
        (
            &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0],
            Cdb::ReadCapacity16 { allocation_length: 32 },
        ),
        (
            &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0],
            Cdb::GetLbaStatus { lba: Lba(9), allocation_length: 256, report_type: 0 },
        ),
        // REPORT TARGET PORT GROUPS: the format in the high bits of the service action byte.
        (
            &[0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0],
            Cdb::ReportTargetPortGroups { format: PortGroupsFormat::Extended, allocation_length: 1024 },
        ),
        (
            &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0],
            Cdb::ReportTargetPortGroups { format: PortGroupsFormat::LengthOnly, allocation_length: 1024 },
        ),
        (&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], Cdb::SetTargetPortGroups { parameter_list_length: 8 }),
        // REPORT SUPPORTED OPERATION CODES: RCTD and options; code; service action x2; length x4.
        (
            &[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 16, 0, 0, 0],
            Cdb::ReportSupportedOperationCodes {
                options: ReportingOptions::All,
                timeouts: true,
                allocation_length: 4096,
            },
        ),
        (
            &[0xa3, 0x0c, 0x02, 0x9e, 0, 0x10, 0, 0, 1, 0, 0, 0],
            Cdb::ReportSupportedOperationCodes {
                options: ReportingOptions::ServiceAction { code: 0x9e, action: 0x10 },
                timeouts: false,
                allocation_length: 256,
            },
        ),
        (
            &[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 16, 0, 0],
            Cdb::ReportSupportedTaskManagementFunctions { extended: true, allocation_length: 16 },
        ),
        (
            &[0x5e, 3, 0, 0, 0, 0, 0, 0x10, 0, 0],
            Cdb::PersistentReserveIn { action: ReserveIn::ReadFullStatus, allocation_length: 4096 },
        ),
        // PERSISTENT RESERVE OUT: service action; scope and type; two reserved bytes; length x4.
        (
            &[0x5f, 5, 0x07, 0, 0, 0, 0, 0, 24, 0],
            Cdb::PersistentReserveOut {
                action: ReserveOut::PreemptAndAbort,
                scope: Scope::LogicalUnit,
                kind: ReservationType::WriteExclusiveAllRegistrants,
                parameter_list_length: 24,
            },
        ),
        (
            &[0x5f, 1, 0x2f, 0, 0, 0, 0, 0, 24, 0],
            Cdb::PersistentReserveOut {
                action: ReserveOut::Reserve,
                scope: Scope::Other(2),
                kind: ReservationType::Other(15),
                parameter_list_length: 24,
            },
        ),
    ]
}

#[test]
fn every_command_is_understood() {
    for (bytes, cdb) in literals() {
        assert_eq!(Cdb::parse(bytes), Ok(cdb), "{bytes:02x?}");
    }
}

#[test]
fn every_command_is_said_byte_for_byte() {
    for (bytes, cdb) in literals() {
        assert_eq!(cdb.emit().as_slice(), bytes, "{cdb:?}");
    }
}

#[test]
fn padding_of_a_transport_is_ignored() {
    for (bytes, cdb) in literals() {
        let mut padded = [0xa5; 32];
        padded[..bytes.len()].copy_from_slice(bytes);
        assert_eq!(Cdb::parse(&padded), Ok(cdb));
    }
}

#[test]
fn a_cdb_that_is_too_short_is_refused_whatever_it_is() {
    for (bytes, _) in literals() {
        let got = bytes.len() - 1;
        assert_eq!(Cdb::parse(&bytes[..got]), Err(CdbError::WrongLength { expected: bytes.len(), got }));
    }
    assert_eq!(Cdb::parse(&[]), Err(CdbError::WrongLength { expected: 6, got: 0 }));
}

#[test]
fn an_unknown_command_is_told_apart_from_an_unknown_service_action() {
    // C0h is vendor specific, 7Fh is the variable-length group, 83h is EXTENDED COPY.
    for code in [0xc0, 0x7f, 0x83, 0x01] {
        let mut cdb = [0; 16];
        cdb[0] = code;
        assert_eq!(Cdb::parse(&cdb), Err(CdbError::UnknownOperationCode), "{code:02x}h");
    }
    for code in [op::MAINTENANCE_IN, op::MAINTENANCE_OUT, op::SERVICE_ACTION_IN_16, 0x5e, 0x5f] {
        let mut cdb = [0; 16];
        [cdb[0], cdb[1]] = [code, 0x1f];
        assert_eq!(Cdb::parse(&cdb), Err(CdbError::UnknownServiceAction), "{code:02x}h");
    }
}

#[test]
fn the_sense_for_a_refused_cdb_points_at_the_field() {
    // A page code without EVPD.
    let error = Cdb::parse(&[0x12, 0, 0x83, 0, 255, 0]).unwrap_err();
    assert_eq!(error, CdbError::InvalidField { byte: 2, bit: None });
    let sense = error.sense();
    assert_eq!(sense.key, SenseKey::IllegalRequest);
    assert_eq!(sense.additional, AdditionalSense::INVALID_FIELD_IN_CDB);
    let field = FieldPointer { source: FieldSource::Cdb, byte: 2, bit: None };
    assert_eq!(sense.specific, Some(crate::SenseKeySpecific::Field(field)));
    // NACA.
    assert_eq!(Cdb::parse(&[0, 0, 0, 0, 0, 4]), Err(CdbError::InvalidField { byte: 5, bit: Some(2) }));
    // A reserved reporting option.
    let mut cdb = [0xa3, 0x0c, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Cdb::parse(&cdb), Err(CdbError::InvalidField { byte: 2, bit: Some(2) }));
    cdb[2] = 3;
    assert!(Cdb::parse(&cdb).is_ok());
    assert_eq!(
        CdbError::UnknownOperationCode.sense().additional,
        AdditionalSense::INVALID_COMMAND_OPERATION_CODE
    );
}

#[test]
fn the_data_phase_follows_from_the_cdb() {
    let (lba, blocks) = (Lba(0), Blocks(8));
    let verify = |byte_check| Cdb::Verify { access: MediumAccess::new(Form::Ten, lba, blocks), byte_check };
    assert_eq!(Cdb::read_16(lba, blocks).data_phase(), DataPhase::InBlocks(8));
    assert_eq!(Cdb::write_16(lba, blocks).data_phase(), DataPhase::OutBlocks(8));
    assert_eq!(verify(ByteCheck::Medium).data_phase(), DataPhase::None);
    assert_eq!(verify(ByteCheck::Data).data_phase(), DataPhase::OutBlocks(8));
    assert_eq!(verify(ByteCheck::OneBlock).data_phase(), DataPhase::OutBlocks(1));
    assert_eq!(Cdb::ReadCapacity10.data_phase(), DataPhase::In(8));
    assert_eq!(Cdb::SetTargetPortGroups { parameter_list_length: 8 }.data_phase(), DataPhase::Out(8));
    assert_eq!(Cdb::TestUnitReady.data_phase(), DataPhase::None);
}

#[test]
#[should_panic(expected = "32 bits")]
fn an_lba_that_does_not_fit_its_form_is_never_sent() {
    let _ = Cdb::Write(MediumAccess::new(Form::Ten, Lba(1 << 32), Blocks(1))).emit();
}

#[test]
#[should_panic(expected = "1 to 256 blocks")]
fn a_write_6_of_no_blocks_is_never_sent_as_256() {
    let _ = Cdb::Write(MediumAccess::new(Form::Six, Lba(0), Blocks(0))).emit();
}

proptest! {
    #[test]
    fn a_medium_access_survives_the_wire(
        (form, lba, blocks) in prop_oneof![
            (Just(Form::Six), 0..1_u64 << 21, 1..=256_u32),
            (Just(Form::Ten), 0..1_u64 << 32, 0..=0xffff_u32),
            (Just(Form::Twelve), 0..1_u64 << 32, any::<u32>()),
            (Just(Form::Sixteen), any::<u64>(), any::<u32>()),
        ],
        protect in 0..8_u8, disable_page_out: bool, force_unit_access: bool, group in 0..64_u8,
    ) {
        let plain = MediumAccess::new(form, Lba(lba), Blocks(blocks));
        let access = match form {
            Form::Six => plain,
            _ => MediumAccess { protect, disable_page_out, force_unit_access, group, ..plain },
        };
        for cdb in [Cdb::Read(access), Cdb::Write(access)] {
            prop_assert_eq!(Cdb::parse(cdb.emit().as_slice()), Ok(cdb));
        }
    }

    #[test]
    fn what_was_understood_is_said_again_in_the_same_form(
        at in 0..literals().len(),
        noise in proptest::array::uniform16(any::<u8>()),
    ) {
        let (bytes, _) = literals()[at];
        let mut cdb = noise;
        // The operation code and the service action stay, everything else is noise.
        cdb[0] = bytes[0];
        if matches!(bytes[0], 0x5e | 0x5f | 0x9e | 0xa3 | 0xa4) {
            cdb[1] = noise[1] & 0xe0 | bytes[1] & 0x1f;
        }
        cdb[bytes.len() - 1] = 0;
        if let Ok(parsed) = Cdb::parse(&cdb) {
            let emitted = parsed.emit();
            prop_assert_eq!(emitted.as_slice().len(), bytes.len());
            prop_assert_eq!(Cdb::parse(emitted.as_slice()), Ok(parsed));
            // Nothing is made up: emitted bits were all there.
            for (out, was) in emitted.as_slice().iter().zip(cdb) {
                prop_assert_eq!(out & !was, 0);
            }
        }
    }
}
