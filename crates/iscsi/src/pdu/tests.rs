use proptest::prelude::*;
use scsi::TaskAttribute;

use super::*;

#[test]
fn a_write_command_is_emitted_byte_for_byte() {
    let command = ScsiCommand {
        delivery: Delivery::Ordered,
        flags: CommandFlags { last: true, read: false, write: true },
        attribute: CommandAttribute::Scsi(TaskAttribute::Simple),
        lun: Lun([0, 1, 0, 0, 0, 0, 0, 0]),
        initiator_task_tag: InitiatorTaskTag(0x1234_5678),
        expected_data_transfer_length: 512,
        serials: CommandSerials { cmd_sn: SerialNumber(9), exp_stat_sn: SerialNumber(7) },
        cdb: [0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    };
    let bytes = [
        0x01, 0xa1, 0, 0, // opcode; F, W, ATTR = simple; reserved
        0, 0x00, 0x02, 0x00, // no additional segments; 512 bytes of immediate data
        0, 1, 0, 0, 0, 0, 0, 0, // LUN
        0x12, 0x34, 0x56, 0x78, // initiator task tag
        0, 0, 2, 0, // expected data transfer length
        0, 0, 0, 9, // CmdSN
        0, 0, 0, 7, // ExpStatSN
        0x2a, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // WRITE(10) of one block at LBA 1
    ];
    let header = command.emit().with_data_length(512);
    assert_eq!(header.0, bytes);
    assert_eq!((ScsiCommand::parse(&header), header.data_length()), (command, 512));
}

#[test]
fn a_data_in_with_status_is_parsed_byte_for_byte() {
    let header = Header([
        0x25, 0x83, 0, 0x00, // opcode; F, U, S; reserved; status GOOD
        0, 0, 0, 4, // 4 bytes of data
        0, 0, 0, 0, 0, 0, 0, 0, // LUN
        0, 0, 0, 5, // initiator task tag
        0xff, 0xff, 0xff, 0xff, // target transfer tag
        0, 0, 0, 1, // StatSN
        0, 0, 0, 2, // ExpCmdSN
        0, 0, 0, 3, // MaxCmdSN
        0, 0, 0, 6, // DataSN
        0, 0, 2, 0, // buffer offset
        0, 0, 0, 8, // residual count
    ]);
    let data_in = DataIn::parse(&header);
    assert_eq!(data_in.emit().with_data_length(4), header);
    let residual = ResidualCount { overflow: false, underflow: true, count: 8 };
    assert_eq!(data_in.status, Some(DataInStatus { status: 0, residual }));
    assert_eq!((data_in.data_sn, data_in.buffer_offset, data_in.last), (6, 512, true));
}

#[test]
fn a_login_request_is_emitted_byte_for_byte() {
    let request = LoginRequest {
        stages: LoginStages {
            transit: true,
            more: false,
            current: Stage::Security,
            next: Stage::Operational,
        },
        version_max: 0,
        version_min: 0,
        isid: Isid([0x80, 1, 2, 3, 4, 5]),
        tsih: 0,
        initiator_task_tag: InitiatorTaskTag(1),
        connection_id: 6,
        serials: CommandSerials { cmd_sn: SerialNumber(1), exp_stat_sn: SerialNumber(0) },
    };
    let bytes = [
        0x43, 0x81, 0, 0, // immediate, opcode; T, CSG = 0, NSG = 1; versions
        0, 0, 0, 0, // lengths
        0x80, 1, 2, 3, 4, 5, 0, 0, // ISID, TSIH
        0, 0, 0, 1, // initiator task tag
        0, 6, 0, 0, // connection
        0, 0, 0, 1, // CmdSN
        0, 0, 0, 0, // ExpStatSN
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // reserved
    ];
    assert_eq!(request.emit().0, bytes);
    assert_eq!(LoginRequest::parse(&Header(bytes)), request);
}

#[test]
fn a_login_response_carries_its_status_class_and_detail() {
    let mut header = Header([0; HEADER_LENGTH]);
    header.0[0] = 0x23; // login response
    header.0[36] = 2; // initiator error:
    header.0[37] = 3; // target not found
    assert_eq!(LoginResponse::parse(&header).status, LoginStatus::TargetNotFound);
}

#[test]
fn an_r2t_is_parsed_byte_for_byte() {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..2].copy_from_slice(&[0x31, 0x80]); // opcode; F
    bytes[16..24].copy_from_slice(&[0, 0, 0, 4, 0, 0, 0, 5]); // both tags
    bytes[36..48].copy_from_slice(&[0, 0, 0, 1, 0, 1, 0, 0, 0, 2, 0, 0]); // R2TSN, offset, length
    let r2t = ReadyToTransfer::parse(&Header(bytes));
    assert_eq!((r2t.initiator_task_tag.0, r2t.target_transfer_tag.0, r2t.r2t_sn), (4, 5, 1));
    assert_eq!((r2t.buffer_offset, r2t.desired_data_transfer_length), (0x1_0000, 0x2_0000));
    assert_eq!(r2t.emit().0, bytes);
}

#[test]
fn serial_numbers_are_compared_across_the_wrap() {
    let (last, first) = (SerialNumber(u32::MAX), SerialNumber(0));
    assert!(last.precedes(first) && !first.precedes(last) && !first.precedes(first));
    assert_eq!((last.next(), first.steps_since(last), last.steps_since(first)), (first, 1, 0));
    let far = SerialNumber(1 << 31);
    assert!(!first.precedes(far) && !far.precedes(first));
}

#[test]
fn segments_are_padded_to_words() {
    assert_eq!([0, 1, 2, 3, 4, 5].map(padding), [0, 3, 2, 1, 0, 3]);
}

proptest! {
    #[test]
    fn any_header_is_parsed_and_means_the_same_when_it_is_emitted_again(
        opcode in 0_u8..0x40,
        rest in proptest::array::uniform32(any::<u8>()),
        more in proptest::array::uniform16(any::<u8>()),
    ) {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..32].copy_from_slice(&rest);
        bytes[32..].copy_from_slice(&more);
        bytes[0] = bytes[0] & 0x40 | opcode;
        let pdu = Pdu::parse(&Header(bytes));
        prop_assert_eq!(Pdu::parse(&pdu.emit()), pdu);
    }

    #[test]
    fn every_code_survives(code in any::<u8>(), detail in any::<u8>()) {
        prop_assert_eq!(u8::from(Opcode::from(code)), code);
        prop_assert_eq!(u8::from(TaskManagementFunction::from(code)), code);
        prop_assert_eq!(u8::from(TaskManagementResponseCode::from(code)), code);
        prop_assert_eq!(u8::from(RejectReason::from(code)), code);
        prop_assert_eq!(u8::from(AsyncEvent::from(code)), code);
        prop_assert_eq!(LoginStatus::from_wire(code, detail).to_wire(), (code, detail));
    }
}
