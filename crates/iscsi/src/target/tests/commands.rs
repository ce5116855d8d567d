//! Commands, their data, their replies, and what aborts them.

use super::*;
use crate::target::TaskManagementResponse as Done;
use scsi::{Residual, SenseData, Status};

const LUN: Lun = Lun([0, 1, 0, 0, 0, 0, 0, 0]);
const NO_UNSOLICITED: &str =
    "InitialR2T=Yes;ImmediateData=No;MaxRecvDataSegmentLength=4096;MaxBurstLength=8192;FirstBurstLength=2048";
const UNSOLICITED: &str = "InitialR2T=No;ImmediateData=Yes;MaxBurstLength=8192;FirstBurstLength=2048";

const READ: CommandFlags = CommandFlags { last: true, read: true, write: false };
const WRITE: CommandFlags = CommandFlags { last: true, read: false, write: true };

impl Wire {
    fn header(&mut self, task: u32, flags: CommandFlags, length: u32) -> ScsiCommand {
        ScsiCommand {
            delivery: Delivery::Ordered,
            flags,
            attribute: CommandAttribute::Scsi(TaskAttribute::Simple),
            lun: LUN,
            initiator_task_tag: InitiatorTaskTag(task),
            expected_data_transfer_length: length,
            serials: self.serials(),
            cdb: [0x28, 0, 0, 0, 0, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    fn submit(&mut self, task: u32, flags: CommandFlags, length: u32, data: &[u8]) {
        let header = self.header(task, flags, length);
        self.send(&header.emit(), data);
    }

    fn reply(&mut self, tag: CommandTag, reply: Reply, data: Vec<u8>) {
        self.handle(Event::Reply { tag, reply, data: data.into() });
    }

    fn data_out(
        &mut self,
        task: u32,
        tag: TargetTransferTag,
        data_sn: u32,
        offset: u32,
        last: bool,
        data: &[u8],
    ) {
        let pdu = DataOut {
            last,
            lun: LUN,
            initiator_task_tag: InitiatorTaskTag(task),
            target_transfer_tag: tag,
            exp_stat_sn: SerialNumber(0),
            data_sn,
            buffer_offset: offset,
        };
        self.send(&pdu.emit(), data);
    }

    fn manage(
        &mut self,
        task: u32,
        function: TaskManagementFunction,
        referenced: u32,
        ref_cmd_sn: SerialNumber,
    ) {
        let serials = CommandSerials { cmd_sn: self.cmd_sn, exp_stat_sn: SerialNumber(0) };
        let pdu = TaskManagementRequest {
            delivery: Delivery::Immediate,
            function,
            lun: LUN,
            initiator_task_tag: InitiatorTaskTag(task),
            referenced_task_tag: InitiatorTaskTag(referenced),
            serials,
            ref_cmd_sn,
            exp_data_sn: 0,
        };
        self.send(&pdu.emit(), b"");
    }

    fn response(&mut self) -> (ScsiResponse, Vec<u8>) {
        match self.take_one() {
            (Pdu::ScsiResponse(response), data) => (response, data),
            other => panic!("{other:?}"),
        }
    }

    fn managed(&mut self) -> TaskManagementResponseCode {
        match self.take_one() {
            (Pdu::TaskManagementResponse(response), _) => response.response,
            other => panic!("{other:?}"),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

/// Sense key, code and qualifier of a response's data segment.
fn sense(data: &[u8]) -> (u8, u8, u8) {
    assert_eq!(data[..3], [0, 18, 0x70], "length of the sense data and fixed format");
    (data[4], data[14], data[15])
}

#[test]
fn a_read_ends_with_its_status_in_the_last_data_in() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(5, READ, 10_000, b"");
    let command = wire.command();
    assert_eq!(
        (command.lun, command.direction, command.expected_length),
        (LUN, Direction::FromDevice, 10_000)
    );
    assert_eq!(command.cdb.operation_code(), 0x28);
    let data = pattern(10_000);
    wire.reply(command.tag, Reply::good(), data.clone());
    let sent = wire.take();
    let mut got = Vec::new();
    let mut shape = Vec::new();
    for (pdu, part) in &sent {
        let Pdu::DataIn(pdu) = pdu else { panic!("{pdu:?}") };
        assert_eq!((pdu.buffer_offset as usize, pdu.initiator_task_tag), (got.len(), InitiatorTaskTag(5)));
        shape.push((pdu.data_sn, part.len(), pdu.last, pdu.status.map(|status| status.status)));
        got.extend_from_slice(part);
    }
    // Segments of 4096 bytes in bursts of 8192 bytes.
    assert_eq!(shape, [(0, 4096, false, None), (1, 4096, true, None), (2, 1808, true, Some(0))]);
    assert_eq!(got, data);
    assert_eq!(wire.session.commands(), 0);
}

#[test]
fn a_buffer_that_was_sent_is_there_to_be_used_again() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, READ, 10_000, b"");
    let tag = wire.command().tag;
    let data = pattern(10_000);
    let memory = data.as_ptr();
    wire.reply(tag, Reply::good(), data);
    assert!(wire.session.reclaim().is_none(), "nothing is sent");
    wire.take();
    assert_eq!(
        wire.session.reclaim().map(|buffer| buffer.as_ptr()),
        Some(memory),
        "the same memory: no copy"
    );
    assert!(wire.session.reclaim().is_none());
}

#[test]
fn residuals_compare_what_was_expected_with_what_there_is() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    for (expected, available, residual) in
        [(512, 100, Residual::Underflow(412)), (100, 512, Residual::Overflow(412)), (64, 64, Residual::None)]
    {
        wire.submit(1, READ, expected, b"");
        let tag = wire.command().tag;
        wire.reply(tag, Reply::good(), pattern(available));
        let (Pdu::DataIn(pdu), data) = wire.take_one() else { panic!() };
        assert_eq!(pdu.status.unwrap().residual, residual.into());
        assert_eq!(data.len(), available.min(expected as usize));
    }
    wire.submit(1, READ, 36, b"");
    let tag = wire.command().tag;
    wire.reply(tag, Reply::good(), Vec::new());
    assert_eq!(wire.response().0.residual, Residual::Underflow(36).into());
}

#[test]
fn sense_data_comes_in_a_response_behind_its_length() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, READ, 512, b"");
    let tag = wire.command().tag;
    let unit_attention = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];
    wire.reply(tag, Reply::check_condition(SenseData::new(&unit_attention)), Vec::new());
    let (response, data) = wire.response();
    assert_eq!(response.status, u8::from(Status::CheckCondition));
    assert_eq!(data[..2], [0, 18]);
    assert_eq!(data[2..], unit_attention);
}

#[test]
fn a_write_is_asked_for_burst_by_burst() {
    let mut wire = Wire::logged_in(options(), &format!("{NO_UNSOLICITED};MaxOutstandingR2T=2"));
    let data = pattern(20_000);
    wire.submit(9, WRITE, 20_000, b"");
    let mut asked: Vec<_> = wire.take();
    assert_eq!(asked.len(), 2, "MaxOutstandingR2T");
    assert!(wire.session.poll_action().is_none());
    let mut bursts = Vec::new();
    while !asked.is_empty() {
        let (Pdu::ReadyToTransfer(pdu), _) = asked.remove(0) else { panic!() };
        let (offset, length) = (pdu.buffer_offset, pdu.desired_data_transfer_length);
        bursts.push((pdu.r2t_sn, offset, length));
        let (middle, end) = (offset + length / 2, offset + length);
        wire.data_out(9, pdu.target_transfer_tag, 0, offset, false, &data[offset as usize..middle as usize]);
        wire.data_out(9, pdu.target_transfer_tag, 1, middle, true, &data[middle as usize..end as usize]);
        asked.extend(wire.take());
    }
    assert_eq!(bursts, [(0, 0, 8192), (1, 8192, 8192), (2, 16_384, 3616)]);
    let command = wire.command();
    assert_eq!(command.data[..], data);
    wire.reply(command.tag, Reply::good(), Vec::new());
    let (response, _) = wire.response();
    assert_eq!((response.exp_data_sn, response.residual), (3, Residual::None.into()));
}

#[test]
fn immediate_and_unsolicited_data_need_no_r2t() {
    let mut wire = Wire::logged_in(options(), UNSOLICITED);
    let data = pattern(2048);
    wire.submit(9, CommandFlags { last: false, ..WRITE }, 2048, &data[..512]);
    wire.data_out(9, TargetTransferTag::NONE, 0, 512, false, &data[512..1001]);
    wire.data_out(9, TargetTransferTag::NONE, 1, 1001, true, &data[1001..]);
    assert!(wire.take().is_empty());
    assert_eq!(wire.command().data[..], data);
}

#[test]
fn data_that_breaks_the_agreement_ends_its_command_and_nothing_else() {
    let mut wire = Wire::logged_in(options(), UNSOLICITED);
    wire.submit(1, CommandFlags { last: false, ..WRITE }, 4096, &pattern(1024));
    wire.data_out(1, TargetTransferTag::NONE, 0, 1024, true, &pattern(1025));
    let (response, data) = wire.response();
    assert_eq!((response.status, response.initiator_task_tag), (2, InitiatorTaskTag(1)));
    assert_eq!(sense(&data), (0x0b, 0x0c, 0x0c), "unexpected unsolicited data");

    wire.submit(2, WRITE, 512, &pattern(513));
    assert_eq!(sense(&wire.response().1), (0x0b, 0x0c, 0x0d), "incorrect amount of data");

    wire.submit(3, WRITE, 8192, b"");
    let (Pdu::ReadyToTransfer(r2t), _) = wire.take_one() else { panic!() };
    wire.data_out(3, r2t.target_transfer_tag, 1, 0, false, &pattern(512));
    assert_eq!(sense(&wire.response().1), (0x0b, 0x4b, 0x00), "DataSN begins with zero");
    wire.data_out(3, r2t.target_transfer_tag, 2, 512, true, &pattern(512));
    assert!(wire.is_idle(), "data of a command that is over is ignored");

    wire.submit(4, WRITE, 512, &pattern(512));
    assert_eq!(wire.command().data.len(), 512);
}

#[test]
fn immediate_data_that_was_not_agreed_on_is_unexpected() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, WRITE, 512, &pattern(512));
    assert_eq!(sense(&wire.response().1), (0x0b, 0x0c, 0x0c));
    wire.submit(2, READ, 512, &pattern(512));
    assert_eq!(sense(&wire.response().1), (0x0b, 0x0c, 0x0c));
    assert!(wire.session.poll_action().is_none());
}

#[test]
fn what_cannot_be_carried_is_refused_before_any_data() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, CommandFlags { last: true, read: true, write: true }, 512, b"");
    assert_eq!(sense(&wire.response().1), (0x05, 0x20, 0x00), "both directions");
    wire.submit(2, WRITE, DATA_OUT_MAX + 1, b"");
    assert_eq!(sense(&wire.response().1), (0x05, 0x24, 0x00), "too long");
    let mut extended = wire.header(3, READ, 512).emit();
    extended.0[4] = 2;
    wire.send_bytes(&[&extended.0[..], &[0, 5, 1, 0, 0, 0, 0, 0]].concat());
    assert_eq!(sense(&wire.response().1), (0x05, 0x20, 0x00), "a long CDB");
}

#[test]
fn memory_for_data_is_bounded_and_shuts_the_window_first() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    for task in 0..4 {
        wire.submit(task, WRITE, DATA_OUT_MAX, b"");
    }
    let windows: Vec<_> = wire
        .take()
        .into_iter()
        .map(|(pdu, _)| match pdu {
            Pdu::ReadyToTransfer(r2t) => r2t.serials.max_cmd_sn.steps_since(SerialNumber(CMD_SN)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(windows, [127; 4], "the window stays shut from half of the memory on");
    wire.submit(4, WRITE, 512, b"");
    let (response, _) = wire.response();
    assert_eq!(Status::from(response.status), Status::TaskSetFull);
}

#[test]
fn the_window_closes_and_what_lies_outside_is_ignored() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    let mut tags = Vec::new();
    for task in 0..u32::try_from(QUEUE_DEPTH).unwrap() {
        wire.submit(task, READ, 512, b"");
        tags.push(wire.command().tag);
    }
    let beyond = wire.cmd_sn;
    wire.submit(1000, READ, 512, b"");
    assert!(wire.is_idle());
    wire.reply(tags[0], Reply::good(), pattern(512));
    let (Pdu::DataIn(pdu), _) = wire.take_one() else { panic!() };
    assert_eq!((pdu.serials.exp_cmd_sn, pdu.serials.max_cmd_sn), (beyond, beyond), "room for one");
    wire.cmd_sn = beyond;
    wire.submit(1000, READ, 512, b"");
    wire.command();
    wire.cmd_sn = beyond;
    wire.submit(1001, READ, 512, b"");
    assert!(wire.is_idle(), "a duplicate is ignored");
}

#[test]
fn commands_are_delivered_in_the_order_of_their_numbers() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    let first = wire.header(1, READ, 1);
    let second = wire.header(2, READ, 2);
    let mut immediate = wire.header(3, READ, 3);
    immediate.delivery = Delivery::Immediate;
    wire.send(&second.emit(), b"");
    assert!(wire.session.poll_action().is_none(), "the first is missing");
    wire.send(&immediate.emit(), b"");
    wire.send(&first.emit(), b"");
    let order: Vec<_> = (0..3).map(|_| wire.command().expected_length).collect();
    assert_eq!(order, [3, 1, 2]);
}

#[test]
fn a_tag_in_use_and_too_many_immediate_commands_are_rejected() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, READ, 512, b"");
    wire.submit(1, READ, 512, b"");
    let (Pdu::Reject(reject), data) = wire.take_one() else { panic!() };
    assert_eq!((reject.reason, data.len()), (RejectReason::TaskInProgress, HEADER_LENGTH));
    for task in 0..=u32::try_from(IMMEDIATE_COMMANDS_MAX).unwrap() {
        let mut header = wire.header(100 + task, READ, 512);
        header.delivery = Delivery::Immediate;
        header.serials.cmd_sn = SerialNumber(CMD_SN);
        wire.send(&header.emit(), b"");
    }
    let (Pdu::Reject(reject), _) = wire.take_one() else { panic!() };
    assert_eq!(reject.reason, RejectReason::ImmediateCommandRejected);
}

#[test]
fn an_abort_of_a_command_that_gathers_data_stays_in_the_session() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, WRITE, 4096, b"");
    let (Pdu::ReadyToTransfer(r2t), _) = wire.take_one() else { panic!() };
    wire.manage(2, TaskManagementFunction::AbortTask, 1, SerialNumber(CMD_SN));
    assert_eq!(wire.managed(), TaskManagementResponseCode::Complete);
    wire.data_out(1, r2t.target_transfer_tag, 0, 0, true, &pattern(4096));
    assert!(wire.is_idle(), "neither a command nor a response");
}

#[test]
fn an_aborted_command_is_never_answered() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, READ, 512, b"");
    let command = wire.command();
    wire.manage(2, TaskManagementFunction::AbortTask, 1, SerialNumber(CMD_SN));
    let Action::TaskManagement { tag, function: TaskManagement::AbortTask, referenced, .. } = wire.action()
    else {
        panic!()
    };
    assert_eq!(referenced, Some(command.tag));
    assert!(wire.take().is_empty(), "the device server has the word");
    wire.handle(Event::TaskManagementDone { tag, response: Done::Complete });
    assert_eq!(wire.managed(), TaskManagementResponseCode::Complete);
    wire.reply(command.tag, Reply::good(), pattern(512));
    assert!(wire.is_idle());
    assert_eq!(wire.session.commands(), 0);
}

#[test]
fn an_answer_that_wins_against_its_abort_goes_first() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, READ, 512, b"");
    let command = wire.command();
    wire.manage(2, TaskManagementFunction::AbortTask, 1, SerialNumber(CMD_SN));
    let Action::TaskManagement { tag, .. } = wire.action() else { panic!() };
    wire.reply(command.tag, Reply::good(), pattern(512));
    wire.handle(Event::TaskManagementDone { tag, response: Done::TaskDoesNotExist });
    let sent = wire.take();
    assert!(matches!(sent[0].0, Pdu::DataIn(_)) && matches!(sent[1].0, Pdu::TaskManagementResponse(_)));
}

#[test]
fn an_abort_of_a_command_that_never_came_keeps_it_from_coming() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    let lost = wire.header(1, WRITE, 512);
    wire.manage(2, TaskManagementFunction::AbortTask, 1, lost.serials.cmd_sn);
    assert_eq!(wire.managed(), TaskManagementResponseCode::Complete);
    wire.send(&lost.emit(), b"");
    assert!(wire.is_idle(), "its number counts as come");
    wire.manage(3, TaskManagementFunction::AbortTask, 1, lost.serials.cmd_sn);
    assert_eq!(wire.managed(), TaskManagementResponseCode::TaskDoesNotExist);
}

#[test]
fn a_reset_drops_what_gathers_at_once_and_what_is_delivered_when_done() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, WRITE, 4096, b"");
    wire.submit(2, READ, 512, b"");
    wire.take();
    let delivered = wire.command();
    wire.manage(3, TaskManagementFunction::LogicalUnitReset, u32::MAX, SerialNumber(0));
    assert_eq!(wire.session.commands(), 1, "the write is gone");
    let Action::TaskManagement { tag, function: TaskManagement::LogicalUnitReset, lun: LUN, .. } =
        wire.action()
    else {
        panic!()
    };
    wire.submit(4, READ, 512, b"");
    let later = wire.command();
    wire.handle(Event::TaskManagementDone { tag, response: Done::Complete });
    assert_eq!(wire.managed(), TaskManagementResponseCode::Complete);
    wire.reply(delivered.tag, Reply::good(), pattern(512));
    assert!(wire.is_idle());
    wire.reply(later.tag, Reply::good(), pattern(512));
    assert_eq!(wire.take().len(), 1, "a command behind the reset is not covered");
}

#[test]
fn a_command_that_another_nexus_cleared_is_forgotten() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, READ, 512, b"");
    let command = wire.command();
    wire.handle(Event::Aborted { tag: command.tag });
    assert_eq!(wire.session.commands(), 0);
    wire.reply(command.tag, Reply::good(), pattern(512));
    assert!(wire.is_idle());
    wire.manage(2, TaskManagementFunction::AbortTask, 1, SerialNumber(CMD_SN));
    assert_eq!(wire.managed(), TaskManagementResponseCode::TaskDoesNotExist);
}

#[test]
fn a_cold_reset_ends_the_session_behind_its_answer() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.manage(1, TaskManagementFunction::TargetColdReset, u32::MAX, SerialNumber(0));
    let Action::TaskManagement { tag, function: TaskManagement::TargetColdReset, .. } = wire.action() else {
        panic!()
    };
    wire.handle(Event::TaskManagementDone { tag, response: Done::Complete });
    assert_eq!(wire.managed(), TaskManagementResponseCode::Complete);
    assert_eq!(wire.disconnected(), Disconnect::Dropped);
}

#[test]
fn an_ordered_command_waits_for_the_data_of_an_older_one() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.submit(1, WRITE, 512, b"");
    let (Pdu::ReadyToTransfer(r2t), _) = wire.take_one() else { panic!() };
    let ordered =
        ScsiCommand { attribute: CommandAttribute::Scsi(TaskAttribute::Ordered), ..wire.header(2, READ, 2) };
    wire.send(&ordered.emit(), b"");
    wire.submit(3, READ, 3, b"");
    assert!(wire.session.poll_action().is_none());
    wire.data_out(1, r2t.target_transfer_tag, 0, 0, true, &pattern(512));
    let order: Vec<_> = (0..3).map(|_| wire.command().expected_length).collect();
    assert_eq!(order, [512, 2, 3]);
}

#[test]
fn functions_that_are_not_known_are_answered() {
    let mut wire = Wire::logged_in(options(), NO_UNSOLICITED);
    wire.manage(1, TaskManagementFunction::TaskReassign, 1, SerialNumber(0));
    assert_eq!(wire.managed(), TaskManagementResponseCode::ReassignmentNotSupported);
    wire.manage(2, TaskManagementFunction::QueryTask, 1, SerialNumber(0));
    assert_eq!(wire.managed(), TaskManagementResponseCode::NotSupported);
    for task in 0..=u32::try_from(TASK_MANAGEMENT_MAX).unwrap() {
        wire.manage(task, TaskManagementFunction::AbortTaskSet, u32::MAX, SerialNumber(0));
    }
    assert_eq!(wire.managed(), TaskManagementResponseCode::Rejected);
}

#[test]
fn a_long_read_waits_for_room_in_the_stream() {
    let mut wire = Wire::logged_in(options(), "MaxRecvDataSegmentLength=512");
    wire.submit(1, READ, 1 << 20, b"");
    let tag = wire.command().tag;
    wire.reply(tag, Reply::good(), pattern(1 << 20));
    let [a, b] = wire.session.receive_into();
    assert!(a.is_empty() && b.is_empty(), "no more requests while the initiator does not read");
    let got: Vec<u8> = wire.take().into_iter().flat_map(|(_, data)| data).collect();
    assert_eq!(got, pattern(1 << 20));
    assert!(!wire.session.receive_into()[1].is_empty());
}
