use super::*;
use crate::pdu::{TaskManagementFunction, TaskManagementRequest, TaskManagementResponseCode as Code};

fn to_device(length: u32) -> Transfer {
    Transfer::ToDevice { offset: 0, length }
}

/// The task management requests that the session sends by now.
fn requests(story: &mut Story) -> Vec<TaskManagementRequest> {
    let functions = story.sent().into_iter().filter_map(|(pdu, _)| match pdu {
        Pdu::TaskManagementRequest(request) => Some(request),
        _ => None,
    });
    functions.collect()
}

fn answer(story: &mut Story, request: &TaskManagementRequest, response: Code) {
    let response = TaskManagementResponse {
        response,
        initiator_task_tag: request.initiator_task_tag,
        serials: story.status_serials(),
    };
    story.give(Pdu::TaskManagementResponse(response), &[]);
}

fn async_message(story: &mut Story, event: AsyncEvent, parameters: [u16; 3], data: &[u8]) {
    let message = AsyncPdu { lun: LUN, serials: story.status_serials(), event, vendor_code: 0, parameters };
    story.give(Pdu::AsyncMessage(message), data);
}

/// Without pings, so that only the time under test runs.
fn quiet() -> Options {
    Options { nop_interval: None, ..options() }
}

#[test]
fn a_lost_connection_tells_what_was_never_sent_from_what_may_have_been() {
    let mut story = Story::logged_in(options(), "");
    story.read(1, 512);
    story.command(2, Transfer::None, vec![]);
    story.command(3, Transfer::None, vec![]);
    // One byte of the second command leaves.
    story.handle(Event::Sent(1));
    story.handle(Event::Closed);
    assert_eq!(story.endings(), [(1, Ending::Lost), (2, Ending::Lost), (3, Ending::NotSent)]);
    assert_eq!(story.over(), Some(&Reason::Closed));
    story.command(4, Transfer::None, vec![]);
    assert_eq!(story.endings(), [(4, Ending::NotSent)]);
    assert_eq!(story.session.transmit(&mut [IoSlice::new(&[]); 4]), 0);
    assert_eq!(story.session.poll_timeout(), None);
}

/// What the target answers to a session that offers no early data.
const NO_EARLY_DATA: &str = "InitialR2T=Yes,ImmediateData=No,MaxBurstLength=1024";

#[test]
fn a_write_that_was_never_asked_for_its_data_was_not_executed() {
    let mut story = Story::logged_in(options(), NO_EARLY_DATA);
    story.start(1, to_device(4096), vec![7; 4096]);
    // What needs no data to be executed is in doubt all the same.
    story.read(2, 512);
    story.start(3, Transfer::None, vec![]);
    story.start(4, to_device(0), vec![]);
    story.handle(Event::Closed);
    assert_eq!(
        story.endings(),
        [(1, Ending::NotSent), (2, Ending::Lost), (3, Ending::Lost), (4, Ending::Lost)]
    );
}

#[test]
fn a_write_is_in_doubt_from_the_first_byte_behind_its_r2t() {
    for (bytes, ending) in [(0, Ending::NotSent), (1, Ending::Lost)] {
        let mut story = Story::logged_in(options(), NO_EARLY_DATA);
        let tag = story.start(1, to_device(4096), vec![7; 4096]);
        // The answer to the R2T is queued, and as much of it leaves.
        story.r2t(tag, 0, 0, 1024);
        story.handle(Event::Sent(bytes));
        story.handle(Event::Closed);
        assert_eq!(story.endings(), [(1, ending)]);
    }
}

#[test]
fn a_write_between_two_bursts_is_in_doubt() {
    let mut story = Story::logged_in(options(), NO_EARLY_DATA);
    let tag = story.start(1, to_device(4096), vec![7; 4096]);
    story.r2t(tag, 0, 0, 1024);
    story.sent();
    story.handle(Event::Closed);
    assert_eq!(story.endings(), [(1, Ending::Lost)]);
}

#[test]
fn a_slot_does_not_remember_the_data_of_the_command_before() {
    let mut story = Story::logged_in(Options { commands_max: 1, ..options() }, NO_EARLY_DATA);
    let tag = story.start(1, to_device(512), vec![7; 512]);
    story.r2t(tag, 0, 0, 512);
    story.sent();
    story.good(tag);
    assert_eq!(story.endings(), [(1, good())]);
    story.start(2, to_device(512), vec![7; 512]);
    story.handle(Event::Closed);
    assert_eq!(story.endings(), [(2, Ending::NotSent)]);
}

#[test]
fn early_data_put_a_write_in_doubt_with_its_first_byte() {
    for answers in ["ImmediateData=Yes,InitialR2T=Yes", "ImmediateData=No,InitialR2T=No"] {
        let mut story = Story::logged_in(options(), answers);
        story.start(1, to_device(4096), vec![7; 4096]);
        story.handle(Event::Closed);
        assert_eq!(story.endings(), [(1, Ending::Lost)], "{answers}");
    }
}

#[test]
fn a_lost_status_ends_the_session() {
    let mut story = Story::logged_in(options(), "");
    let tag = story.read(1, 512);
    story.stat_sn += 1;
    story.good(tag);
    let gap = Misbehaviour::StatusGap { expected: SerialNumber(STAT_SN + 2), got: SerialNumber(STAT_SN + 3) };
    assert_eq!(story.over(), Some(&Reason::Misbehaved(gap)));
    assert_eq!(story.endings(), [(1, Ending::Lost)]);
}

#[test]
fn data_outside_of_a_command_are_refused_before_they_are_received() {
    for (data_sn, offset, length, misbehaviour) in [
        (0, 0, 513, Misbehaviour::BeyondExpected { offset: 0, length: 513, expected: 512 }),
        (0, u32::MAX, 4, Misbehaviour::BeyondExpected { offset: u32::MAX, length: 4, expected: 512 }),
        (0, 4, 4, Misbehaviour::OutOfOrder { expected: 0, got: 4 }),
        (1, 0, 4, Misbehaviour::DataGap { expected: 0, got: 1 }),
    ] {
        let mut story = Story::logged_in(options(), "");
        let tag = story.read(1, 512);
        story.data_in(tag, data_sn, offset, &vec![1; length], true);
        assert_eq!(story.ended(), [(1, Ending::Lost, vec![0; 512])]);
        assert_eq!(story.over(), Some(&Reason::Misbehaved(misbehaviour)));
    }
}

#[test]
fn answers_that_nobody_asked_for_end_the_session() {
    let mut story = Story::logged_in(options(), "");
    let tag = InitiatorTaskTag(0x1234);
    story.good(tag);
    let unknown = Misbehaviour::UnknownTask { opcode: Opcode::ScsiResponse, tag };
    assert_eq!(story.over(), Some(&Reason::Misbehaved(unknown)));

    let mut story = Story::logged_in(options(), "");
    let tag = story.start(1, to_device(512), vec![0; 512]);
    story.data_in(tag, 0, 0, &[1; 4], false);
    assert_eq!(story.over(), Some(&Reason::Misbehaved(Misbehaviour::UnwantedData)));
}

#[test]
fn a_target_that_asks_for_too_much_is_left() {
    for (r2t_sn, offset, length, misbehaviour) in [
        (1, 0, 512, Misbehaviour::DataGap { expected: 0, got: 1 }),
        (0, 0, 0, Misbehaviour::EmptyR2t),
        (0, 0, 1025, Misbehaviour::R2tTooLong { length: 1025, max: 1024 }),
        (0, 4000, 512, Misbehaviour::BeyondExpected { offset: 4000, length: 512, expected: 4096 }),
    ] {
        let mut story = Story::logged_in(options(), "ImmediateData=No,MaxBurstLength=1024");
        let tag = story.start(1, to_device(4096), vec![0; 4096]);
        story.r2t(tag, r2t_sn, offset, length);
        assert_eq!(story.over(), Some(&Reason::Misbehaved(misbehaviour)));
        // It got none of the data.
        assert_eq!(story.endings(), [(1, Ending::NotSent)]);
    }
}

#[test]
fn an_answer_to_a_command_that_has_not_left_is_refused() {
    let mut story = Story::logged_in(options(), "");
    story.command(1, Transfer::None, vec![]);
    let tag = InitiatorTaskTag(1 << 15);
    story.good(tag);
    assert_eq!(story.endings(), [(1, Ending::NotSent)]);
    let unsent = Misbehaviour::AnsweredUnsent(Opcode::ScsiResponse);
    assert_eq!(story.over(), Some(&Reason::Misbehaved(unsent)));
}

#[test]
fn silence_is_answered_with_a_ping_and_more_silence_with_the_end() {
    let mut story = Story::logged_in(options(), "");
    story.read(1, 512);
    assert_eq!(story.session.poll_timeout(), Some(at(2000)));
    story.wait(2000);
    assert!(matches!(story.sent()[..], [(Pdu::NopOut(_), _)]));
    assert_eq!(story.session.poll_timeout(), Some(at(4000)));
    story.wait(4000);
    assert_eq!(story.over(), Some(&Reason::NopTimeout));
    assert_eq!(story.endings(), [(1, Ending::Lost)]);
}

#[test]
fn traffic_stands_for_the_answer_to_a_ping() {
    let mut story = Story::logged_in(options(), "");
    let tag = story.read(1, 512);
    story.wait(2000);
    let sent = story.sent();
    let [(Pdu::NopOut(ping), _)] = sent[..] else { panic!("{sent:?}") };
    story.now = at(3500);
    story.data_in(tag, 0, 0, &[1; 4], false);
    assert_eq!(story.session.poll_timeout(), Some(at(5500)));
    let answer = NopIn {
        lun: Lun::default(),
        initiator_task_tag: ping.initiator_task_tag,
        target_transfer_tag: TargetTransferTag::NONE,
        serials: story.status_serials(),
    };
    story.give(Pdu::NopIn(answer), &[]);
    assert_eq!(
        story.session.poll_timeout(),
        Some(at(5500)),
        "the next ping after two more seconds of silence"
    );
    assert_eq!(story.over(), None);
}

#[test]
fn the_answer_to_a_ping_is_timed_from_when_the_ping_left() {
    let mut story = Story::logged_in(options(), "");
    story.wait(2000);
    story.now = at(2500);
    let sent = story.sent();
    let [(Pdu::NopOut(ping), _)] = sent[..] else { panic!("{sent:?}") };
    story.now = at(2530);
    let answer = NopIn {
        lun: Lun::default(),
        initiator_task_tag: ping.initiator_task_tag,
        target_transfer_tag: TargetTransferTag::NONE,
        serials: story.status_serials(),
    };
    story.give(Pdu::NopIn(answer), &[]);
    let [Action::Pinged { took }] = story.happened[..] else { panic!("{:?}", story.happened) };
    assert_eq!(took, Duration::from_millis(30));
}

#[test]
fn a_command_whose_time_is_over_is_aborted() {
    let mut story = Story::logged_in(quiet(), "");
    let tag = story.read(1, 512);
    assert_eq!(story.session.poll_timeout(), Some(at(30_000)));
    story.wait(30_000);
    let asked = requests(&mut story);
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].function, asked[0].lun), (TaskManagementFunction::AbortTask, LUN));
    assert_eq!((asked[0].referenced_task_tag, asked[0].ref_cmd_sn), (tag, SerialNumber(1)));
    assert_eq!(asked[0].delivery, Delivery::Immediate);
    assert_eq!(story.endings(), []);
    answer(&mut story, &asked[0], Code::Complete);
    assert_eq!(story.endings(), [(1, Ending::Aborted)]);
    // What still comes for it goes nowhere and harms nobody.
    story.read(2, 512);
    story.data_in(tag, 0, 0, &[7; 512], true);
    assert_eq!((story.endings(), story.over()), (vec![], None));
}

#[test]
fn an_abort_that_is_not_answered_ends_the_session() {
    let mut story = Story::logged_in(quiet(), "");
    story.read(1, 512);
    story.wait(30_000);
    assert_eq!(story.session.poll_timeout(), Some(at(35_000)));
    story.wait(35_000);
    assert_eq!(story.over(), Some(&Reason::AbortTimeout { command: CommandId(1) }));
    assert_eq!(story.endings(), [(1, Ending::Lost)]);
}

#[test]
fn a_task_that_the_target_does_not_know_must_still_be_answered() {
    let mut story = Story::logged_in(quiet(), "");
    let tag = story.read(1, 4);
    story.wait(30_000);
    let asked = requests(&mut story);
    answer(&mut story, &asked[0], Code::TaskDoesNotExist);
    assert_eq!(story.endings(), []);
    story.data_in(tag, 0, 0, &[1; 4], true);
    assert_eq!(story.endings(), [(1, good())]);
    assert_eq!(story.session.poll_timeout(), None);

    let mut story = Story::logged_in(quiet(), "");
    story.read(1, 4);
    story.wait(30_000);
    let asked = requests(&mut story);
    answer(&mut story, &asked[0], Code::TaskDoesNotExist);
    story.wait(35_000);
    assert_eq!(story.endings(), [(1, Ending::Lost)]);
    assert_eq!(story.over(), Some(&Reason::AbortTimeout { command: CommandId(1) }));
}

#[test]
fn no_more_aborts_than_a_target_takes_are_sent_at_once() {
    let mut story = Story::logged_in(quiet(), "");
    for id in 1..=20 {
        story.read(id, 4);
    }
    story.wait(30_000);
    let mut asked = requests(&mut story);
    assert_eq!(asked.len(), 8);
    assert_eq!(story.session.poll_timeout(), Some(at(35_000)));
    let mut aborted = 0;
    while let Some(request) = asked.pop() {
        answer(&mut story, &request, Code::Complete);
        aborted += 1;
        asked.extend(requests(&mut story));
    }
    assert_eq!(aborted, 20);
    assert_eq!(story.endings().len(), 20);
}

#[test]
fn a_command_that_finds_no_window_in_its_time_comes_back_unsent() {
    let mut story = Story::logged_in(quiet(), "");
    for id in 1..=33 {
        story.command(id, Transfer::None, vec![]);
    }
    let sent = story.sent();
    assert_eq!(sent.len(), 32);
    for (pdu, _) in &sent {
        let Pdu::ScsiCommand(command) = pdu else { panic!() };
        // The target answers, and does not open its window.
        story.cmd_sn = 1;
        story.good(command.initiator_task_tag);
    }
    story.endings();
    story.wait(30_000);
    assert_eq!(story.endings(), [(33, Ending::NotSent)]);
}

#[test]
fn a_logical_unit_reset_ends_what_was_sent_before_it() {
    let mut story = Story::logged_in(quiet(), "");
    story.read(1, 4);
    story.handle(Event::TaskManagement { id: 9, function: TaskManagement::LogicalUnitReset(LUN) });
    let asked = requests(&mut story);
    assert_eq!(asked[0].function, TaskManagementFunction::LogicalUnitReset);
    let after = story.read(2, 4);
    answer(&mut story, &asked[0], Code::Complete);
    assert_eq!(story.endings(), [(1, Ending::Cleared)]);
    let [Action::TaskManagementEnded { id: 9, response }] = story.happened[..] else { panic!() };
    assert_eq!(response, TaskManagementEnding::Answered(Code::Complete));
    story.data_in(after, 0, 0, &[1; 4], true);
    assert_eq!(story.endings(), [(2, good())]);
}

#[test]
fn nobody_waits_for_a_function_after_the_same_function_was_completed() {
    let mut story = Story::logged_in(quiet(), "");
    for id in [1, 2] {
        story.handle(Event::TaskManagement { id, function: TaskManagement::LogicalUnitReset(LUN) });
    }
    let asked = requests(&mut story);
    answer(&mut story, &asked[1], Code::Complete);
    assert_eq!(story.session.poll_timeout(), None);
    story.wait(90_000);
    assert_eq!(story.over(), None);
    // It may be answered all the same.
    answer(&mut story, &asked[0], Code::Complete);
    assert_eq!(story.over(), None);
    let ended = |action: &Action<()>| matches!(action, Action::TaskManagementEnded { id: 1, .. });
    assert!(story.happened.iter().any(ended));
}

#[test]
fn a_function_that_is_asked_for_later_is_waited_for_still() {
    let mut story = Story::logged_in(quiet(), "");
    for id in [1, 2] {
        story.handle(Event::TaskManagement { id, function: TaskManagement::LogicalUnitReset(LUN) });
    }
    let asked = requests(&mut story);
    answer(&mut story, &asked[0], Code::Complete);
    story.wait(60_000);
    assert_eq!(story.over(), Some(&Reason::TaskManagementTimeout));
}

#[test]
fn a_command_is_aborted_on_demand_or_taken_back_before_it_is_sent() {
    let mut story = Story::logged_in(quiet(), "");
    let tag = story.read(1, 4);
    story.handle(Event::TaskManagement { id: 8, function: TaskManagement::AbortTask(CommandId(1)) });
    story.handle(Event::TaskManagement { id: 9, function: TaskManagement::AbortTask(CommandId(2)) });
    let asked = requests(&mut story);
    assert_eq!(asked[0].referenced_task_tag, tag);
    answer(&mut story, &asked[0], Code::Complete);
    assert_eq!(story.endings(), [(1, Ending::Aborted)]);
    assert!(matches!(
        story.happened[..],
        [
            Action::TaskManagementEnded { id: 9, response: TaskManagementEnding::NothingToAbort },
            Action::TaskManagementEnded { id: 8, response: TaskManagementEnding::Answered(Code::Complete) },
        ]
    ));
}

#[test]
fn task_management_ends_with_the_session() {
    let mut story = Story::logged_in(quiet(), "");
    story.handle(Event::TaskManagement { id: 1, function: TaskManagement::TargetWarmReset });
    story.handle(Event::Closed);
    story.handle(Event::TaskManagement { id: 2, function: TaskManagement::TargetColdReset });
    assert!(matches!(
        story.happened[..],
        [
            Action::TaskManagementEnded { id: 1, response: TaskManagementEnding::Lost },
            Action::Disconnect(Reason::Closed),
            Action::TaskManagementEnded { id: 2, response: TaskManagementEnding::NotSent },
        ]
    ));
}

#[test]
fn a_logout_ends_the_session_when_the_target_agrees() {
    let mut story = Story::logged_in(quiet(), "");
    story.handle(Event::Logout(LogoutReason::CloseSession));
    let sent = story.sent();
    let [(Pdu::LogoutRequest(request), _)] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(story.session.poll_timeout(), Some(at(5000)));
    let response = LogoutResponse {
        response: LogoutResponseCode::Closed,
        initiator_task_tag: request.initiator_task_tag,
        serials: story.status_serials(),
        time2wait: 2,
        time2retain: 0,
    };
    story.give(Pdu::LogoutResponse(response), &[]);
    assert!(matches!(story.happened[..], [Action::LoggedOut, Action::Disconnect(Reason::LoggedOut)]));
}

#[test]
fn a_target_that_wants_to_be_left_or_to_negotiate_is_left_after_what_is_in_flight() {
    for event in [AsyncEvent::LogoutRequested, AsyncEvent::NegotiationRequested] {
        let mut story = Story::logged_in(quiet(), "");
        let tag = story.read(1, 4);
        async_message(&mut story, event, [0, 0, 10], &[]);
        story.command(2, Transfer::None, vec![]);
        assert_eq!(story.endings(), [(2, Ending::NotSent)]);
        assert_eq!(story.session.poll_timeout(), Some(at(5000)));
        assert!(story.sent().is_empty());
        story.data_in(tag, 0, 0, &[1; 4], true);
        assert_eq!(story.endings(), [(1, good())]);
        assert!(matches!(story.sent()[..], [(Pdu::LogoutRequest(_), _)]));
    }
}

#[test]
fn other_asynchronous_messages_are_passed_on() {
    let mut story = Story::logged_in(quiet(), "");
    async_message(&mut story, AsyncEvent::Scsi, [0; 3], &[0, 3, 0x70, 0, 6]);
    let Action::AsyncMessage(AsyncMessage::Scsi { lun: LUN, sense: Some(sense) }) = &story.happened[0] else {
        panic!("{:?}", story.happened)
    };
    assert_eq!(sense.as_slice(), [0x70, 0, 6]);
    for event in [AsyncEvent::ConnectionDropped, AsyncEvent::AllConnectionsDropped] {
        let mut story = Story::logged_in(quiet(), "");
        async_message(&mut story, event, [0, 3, 4], &[]);
        assert_eq!(story.over(), Some(&Reason::DroppedByTarget { time2wait: 3 }));
    }
}

#[test]
fn a_rejected_pdu_ends_the_session_with_the_targets_reason() {
    let mut story = Story::logged_in(quiet(), "");
    let reject = Reject {
        reason: crate::pdu::RejectReason::ProtocolError,
        serials: story.status_serials(),
        data_sn: 0,
    };
    story.give(Pdu::Reject(reject), &[0x01; 48]);
    let reason = Reason::Rejected {
        reason: crate::pdu::RejectReason::ProtocolError,
        opcode: Some(Opcode::ScsiCommand),
    };
    assert_eq!(story.over(), Some(&reason));
}

#[test]
fn damaged_data_never_look_like_an_answer() {
    let offers = Offers { data_digest: crate::negotiation::DigestPolicy::Prefer, ..Offers::default() };
    let mut story = Story::logged_in(Options { offers, ..quiet() }, "DataDigest=CRC32C");
    story
        .framer
        .set_digests(Digests { header: crate::stream::Digest::None, data: crate::stream::Digest::Crc32c });
    let tag = story.read(1, 4);
    let header = DataIn {
        last: true,
        acknowledge: false,
        status: Some(DataInStatus { status: 0, residual: ResidualCount::default() }),
        lun: LUN,
        initiator_task_tag: tag,
        target_transfer_tag: TargetTransferTag::NONE,
        serials: story.serials(),
        data_sn: 0,
        buffer_offset: 0,
    };
    story.give_bytes(&header.emit().with_data_length(4).0);
    story.give_bytes(&[1, 2, 3, 4, 0, 0, 0, 0]);
    assert_eq!(story.endings(), [(1, Ending::Lost)]);
    assert!(matches!(story.over(), Some(Reason::Frame(crate::stream::FrameError::DataDigest { .. }))));
}

#[test]
fn a_session_that_has_to_end_while_a_command_is_out_is_left_and_not_logged_out() {
    let mut story = Story::logged_in(quiet(), "");
    story.read(1, 4);
    story.handle(Event::Logout(LogoutReason::CloseSession));
    assert_eq!(story.endings(), [(1, Ending::Lost)]);
    assert!(matches!(story.happened[..], [Action::Disconnect(Reason::NotAtRest)]), "{:?}", story.happened);
}
