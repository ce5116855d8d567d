//! Pings, text, logout, messages, rejects, and streams that are no good.

use super::*;

impl Wire {
    fn ping(&mut self, task: InitiatorTaskTag, data: &[u8]) {
        let serials = CommandSerials { cmd_sn: self.cmd_sn, exp_stat_sn: SerialNumber(0) };
        let pdu = NopOut {
            delivery: Delivery::Immediate,
            lun: Lun::default(),
            initiator_task_tag: task,
            target_transfer_tag: TargetTransferTag::NONE,
            serials,
        };
        self.send(&pdu.emit(), data);
    }

    fn text(&mut self, tag: TargetTransferTag, data: &[u8]) -> (TextResponse, Vec<u8>) {
        let serials = self.serials();
        let pdu = TextRequest {
            delivery: Delivery::Ordered,
            last: true,
            more: false,
            lun: Lun::default(),
            initiator_task_tag: InitiatorTaskTag(4),
            target_transfer_tag: tag,
            serials,
        };
        self.send(&pdu.emit(), data);
        match self.take_one() {
            (Pdu::TextResponse(response), data) => (response, data),
            other => panic!("{other:?}"),
        }
    }

    fn log_out(&mut self, reason: LogoutReason, connection_id: u16) {
        let serials = self.serials();
        let pdu = LogoutRequest {
            delivery: Delivery::Immediate,
            reason,
            initiator_task_tag: InitiatorTaskTag(6),
            connection_id,
            serials,
        };
        self.send(&pdu.emit(), b"");
    }

    fn logged_out(&mut self) -> LogoutResponseCode {
        match self.take_one() {
            (Pdu::LogoutResponse(response), _) => response.response,
            other => panic!("{other:?}"),
        }
    }

    fn discovering(keys: &str) -> Self {
        let mut wire = Self::new(options());
        let text = format!("InitiatorName={INITIATOR};SessionType=Discovery;{keys}");
        wire.send(&login(Stage::Operational, Stage::FullFeature), &text_of(&text));
        let Action::Admit { key, .. } = wire.action() else { panic!() };
        assert_eq!(key.target_name, None);
        wire.handle(Event::Admitted { tsih: 1 });
        wire.action();
        wire.take();
        wire
    }
}

#[test]
fn a_ping_comes_back_as_far_as_the_initiator_can_take_it() {
    let mut wire = Wire::logged_in(options(), "MaxRecvDataSegmentLength=512");
    wire.ping(InitiatorTaskTag(8), &[7; 600]);
    let (Pdu::NopIn(pong), data) = wire.take_one() else { panic!() };
    assert_eq!(
        (pong.initiator_task_tag, pong.target_transfer_tag),
        (InitiatorTaskTag(8), TargetTransferTag::NONE)
    );
    assert_eq!(data, [7; 512]);
    wire.ping(InitiatorTaskTag::NONE, b"");
    assert!(wire.is_idle(), "no answer is asked for");
}

#[test]
fn pings_that_nobody_reads_the_answers_of_stop_the_reading() {
    let mut wire = Wire::logged_in(options(), "");
    let ping = NopOut {
        delivery: Delivery::Immediate,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(1),
        target_transfer_tag: TargetTransferTag::NONE,
        serials: CommandSerials { cmd_sn: wire.cmd_sn, exp_stat_sn: SerialNumber(0) },
    };
    let flood = ping.emit().0.repeat(10_000);
    let sent = wire.send_bytes(&flood);
    assert!(sent < 300 * HEADER_LENGTH, "{sent} bytes of pings were taken");
    assert!(wire.take().len() >= 64);
    assert!(wire.send_bytes(&flood) > 0, "it goes on once the answers are read");
}

#[test]
fn send_targets_in_a_normal_session_tells_of_its_own_target_only() {
    let mut wire = Wire::logged_in(options(), "");
    let expected =
        format!("TargetName={TARGET};TargetAddress=192.0.2.1:3260,1;TargetAddress=192.0.2.2:3260,2;");
    let (response, data) = wire.text(TargetTransferTag::NONE, &text_of("SendTargets="));
    assert!(response.last && !response.more);
    assert_eq!(printed(&data), expected);
    let (_, data) = wire.text(TargetTransferTag::NONE, &text_of(&format!("SendTargets={TARGET}")));
    assert_eq!(printed(&data), expected);
    let (_, data) = wire.text(TargetTransferTag::NONE, &text_of("SendTargets=All;X-key=1"));
    assert_eq!(printed(&data), "SendTargets=Reject;X-key=NotUnderstood;");
}

#[test]
fn a_discovery_session_lists_all_targets_in_as_many_pdus_as_it_takes() {
    let mut whole = Wire::discovering("");
    let (_, all) = whole.text(TargetTransferTag::NONE, &text_of("SendTargets=All"));
    assert_eq!(printed(&all).matches("TargetName=").count(), 2);

    let mut wire = Wire::discovering("");
    wire.session.peer_segment_max = 100;
    let (mut response, mut text) = wire.text(TargetTransferTag::NONE, &text_of("SendTargets=All"));
    while !response.last {
        assert!(response.more && response.target_transfer_tag != TargetTransferTag::NONE);
        let (next, part) = wire.text(response.target_transfer_tag, b"");
        assert!(part.len() <= 100);
        text.extend_from_slice(&part);
        response = next;
    }
    assert_eq!(text, all);
    let serials = wire.serials();
    let stale = TextRequest {
        delivery: Delivery::Ordered,
        last: true,
        more: false,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(4),
        target_transfer_tag: TargetTransferTag(77),
        serials,
    };
    wire.send(&stale.emit(), b"");
    let (Pdu::Reject(reject), _) = wire.take_one() else { panic!() };
    assert_eq!(reject.reason, RejectReason::InvalidPduField);
}

#[test]
fn a_discovery_session_has_no_commands() {
    let mut wire = Wire::discovering("");
    let command = ScsiCommand {
        delivery: Delivery::Ordered,
        flags: CommandFlags::default(),
        attribute: CommandAttribute::Untagged,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(1),
        expected_data_transfer_length: 0,
        serials: wire.serials(),
        cdb: [0; 16],
    };
    wire.send(&command.emit(), b"");
    let (Pdu::Reject(reject), data) = wire.take_one() else { panic!() };
    assert_eq!(reject.reason, RejectReason::CommandNotSupported);
    assert_eq!(data, command.emit().0);
}

#[test]
fn a_logout_is_answered_once_the_device_server_is_done() {
    let mut wire = Wire::logged_in(options(), "");
    let command = ScsiCommand {
        delivery: Delivery::Ordered,
        flags: CommandFlags { last: true, read: false, write: false },
        attribute: CommandAttribute::Untagged,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(1),
        expected_data_transfer_length: 0,
        serials: wire.serials(),
        cdb: [0; 16],
    };
    wire.send(&command.emit(), b"");
    let tag = wire.command().tag;
    wire.log_out(LogoutReason::CloseSession, 0);
    assert!(wire.is_idle(), "a command is still with the device server");
    wire.handle(Event::Reply { tag, reply: Reply::good(), data: Buffer::empty() });
    let sent = wire.take();
    assert!(matches!(sent[0].0, Pdu::ScsiResponse(_)) && matches!(sent[1].0, Pdu::LogoutResponse(_)));
    assert!(matches!(wire.action(), Action::LoggedOut));
    assert_eq!(wire.disconnected(), Disconnect::LoggedOut);
}

#[test]
fn a_logout_of_another_connection_is_refused_and_the_session_lives_on() {
    let mut wire = Wire::logged_in(options(), "");
    wire.log_out(LogoutReason::CloseConnection, 4);
    assert_eq!(wire.logged_out(), LogoutResponseCode::ConnectionNotFound);
    wire.log_out(LogoutReason::RemoveForRecovery, 3);
    assert_eq!(wire.logged_out(), LogoutResponseCode::RecoveryNotSupported);
    wire.log_out(LogoutReason::CloseConnection, 3);
    assert_eq!(wire.logged_out(), LogoutResponseCode::Closed);
    assert!(matches!(wire.action(), Action::LoggedOut));
}

#[test]
fn messages_tell_and_then_do() {
    let mut wire = Wire::logged_in(options(), "");
    wire.handle(Event::Notify(Notification::LogoutRequest { seconds: 10 }));
    let (Pdu::AsyncMessage(message), _) = wire.take_one() else { panic!() };
    assert_eq!((message.event, message.parameters), (AsyncEvent::LogoutRequested, [0, 0, 10]));
    assert!(wire.session.poll_action().is_none());
    wire.handle(Event::Notify(Notification::DropConnection { time_to_wait: 1, time_to_retain: 0 }));
    let (Pdu::AsyncMessage(message), _) = wire.take_one() else { panic!() };
    assert_eq!((message.event, message.parameters), (AsyncEvent::ConnectionDropped, [3, 1, 0]));
    assert_eq!(wire.disconnected(), Disconnect::Dropped);
}

#[test]
fn an_initiator_that_takes_nothing_cannot_keep_the_session() {
    let mut wire = Wire::logged_in(options(), "");
    wire.handle(Event::Notify(Notification::DropAll { time_to_wait: 1, time_to_retain: 0 }));
    wire.pass(Duration::from_secs(5));
    assert!(matches!(wire.disconnected(), Disconnect::Misbehaved(Misbehaved::ReadsNothing(_))));
}

#[test]
fn a_silent_initiator_is_asked_and_then_given_up() {
    let keepalive = Keepalive { interval: Duration::from_secs(2), timeout: Duration::from_secs(3) };
    let mut wire = Wire::logged_in(Options { keepalive: Some(keepalive), ..options() }, "");
    wire.pass(Duration::from_secs(1));
    assert!(wire.is_idle());
    wire.pass(Duration::from_secs(1));
    let (Pdu::NopIn(ping), _) = wire.take_one() else { panic!() };
    assert_eq!(ping.initiator_task_tag, InitiatorTaskTag::NONE);
    assert_ne!(ping.target_transfer_tag, TargetTransferTag::NONE);
    let serials = CommandSerials { cmd_sn: wire.cmd_sn, exp_stat_sn: SerialNumber(0) };
    let answer = NopOut {
        delivery: Delivery::Immediate,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag::NONE,
        target_transfer_tag: ping.target_transfer_tag,
        serials,
    };
    wire.send(&answer.emit(), b"");
    wire.pass(Duration::from_secs(2));
    assert_eq!(wire.take().len(), 1, "the answer began a new interval");
    wire.pass(Duration::from_secs(3));
    assert_eq!(wire.disconnected(), Disconnect::Silent);
}

#[test]
fn what_is_not_supported_is_rejected_with_its_header() {
    let mut wire = Wire::logged_in(options(), "");
    let snack = Snack {
        kind: SnackType::Status,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(1),
        target_transfer_tag: TargetTransferTag::NONE,
        exp_stat_sn: SerialNumber(0),
        begin_run: 0,
        run_length: 0,
    };
    let mut unknown = Header([0; HEADER_LENGTH]);
    unknown.0[0] = 0x1e;
    for (header, reason) in [
        (snack.emit(), RejectReason::SnackReject),
        (login_stay(Stage::Operational), RejectReason::ProtocolError),
        (unknown, RejectReason::CommandNotSupported),
    ] {
        wire.send(&header, b"");
        let (Pdu::Reject(reject), data) = wire.take_one() else { panic!() };
        assert_eq!((reject.reason, &data[..]), (reason, &header.0[..]));
    }
}

#[test]
fn a_gap_that_nothing_can_fill_ends_the_connection() {
    let mut wire = Wire::logged_in(options(), "");
    wire.serials();
    let serials = wire.serials();
    let pdu = NopOut {
        delivery: Delivery::Ordered,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(1),
        target_transfer_tag: TargetTransferTag::NONE,
        serials,
    };
    wire.send_bytes(&pdu.emit().0);
    let gap = Misbehaved::CommandSequenceGap { expected: CMD_SN, got: CMD_SN + 1 };
    assert_eq!(wire.disconnected(), gap.into());
}

#[test]
fn a_segment_beyond_what_was_declared_ends_the_connection() {
    let mut wire = Wire::logged_in(options(), "");
    let mut header = Header([0; HEADER_LENGTH]);
    header.0[0] = 0x40;
    wire.send_bytes(&header.with_data_length((256 << 10) + 1).0);
    assert!(matches!(
        wire.disconnected(),
        Disconnect::Misbehaved(Misbehaved::Frame(FrameError::SegmentTooLong { .. }))
    ));
}

#[test]
fn after_the_end_nothing_happens_any_more() {
    let mut wire = Wire::logged_in(options(), "");
    wire.handle(Event::Closed);
    assert_eq!(wire.disconnected(), Disconnect::Closed);
    wire.handle(Event::Timeout);
    wire.handle(Event::Reply { tag: CommandTag(0), reply: Reply::good(), data: Buffer::empty() });
    wire.handle(Event::Closed);
    assert!(wire.is_idle());
    assert_eq!(wire.session.poll_timeout(), None);
}
