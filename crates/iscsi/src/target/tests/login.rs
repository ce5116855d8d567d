//! The login phase.

use super::*;

fn begin(text: &str) -> Vec<u8> {
    text_of(&format!("InitiatorName={INITIATOR};{text}"))
}

/// The status of the response to a first request, which must end the session.
fn refused(header: &Header, text: &[u8]) -> LoginStatus {
    let mut wire = Wire::new(options());
    wire.send(header, text);
    let (Pdu::LoginResponse(response), _) = wire.take_one() else { panic!() };
    assert_eq!(wire.disconnected(), Disconnect::LoginRefused(response.status));
    response.status
}

#[test]
fn a_login_in_literal_bytes() {
    let mut wire = Wire::new(options());
    let text = begin(&format!("TargetName={TARGET};SessionType=Normal"));
    let mut request = vec![
        0x43,
        0x87,
        0x00,
        0x00, // Login request, immediate; T, CSG 1, NSG 3; versions
        0x00,
        0x00,
        0x00,
        u8::try_from(text.len()).unwrap(), // No AHS; length of the data segment
        0x80,
        0x00,
        0x00,
        0x00,
        0x00,
        0x01, // ISID
        0x00,
        0x00, // TSIH
        0x00,
        0x00,
        0x00,
        0x2a, // Initiator task tag
        0x00,
        0x03,
        0x00,
        0x00, // CID
        0x00,
        0x00,
        0x00,
        0x11, // CmdSN
        0x00,
        0x00,
        0x00,
        0x00, // ExpStatSN
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    request.extend_from_slice(&text);
    request.resize(request.len().next_multiple_of(4), 0);
    wire.send_bytes(&request);
    let Action::Admit { key, tsih: 0 } = wire.action() else { panic!() };
    assert_eq!(key.initiator_name, INITIATOR);
    assert_eq!(key.target_name.as_deref(), Some(TARGET));
    assert_eq!((key.isid, key.portal_group), (Isid([0x80, 0, 0, 0, 0, 1]), 1));
    assert!(wire.take().is_empty(), "the answer waits for the driver");

    wire.handle(Event::Admitted { tsih: 0x0102 });
    let mut slices = [IoSlice::new(&[]); 1];
    assert_eq!(wire.session.transmit(&mut slices), 1);
    let expected = [
        0x23, 0x87, 0x00, 0x00, // Login response; T, CSG 1, NSG 3; versions
        0x00, 0x00, 0x00, 0x49, // Length of the data segment
        0x80, 0x00, 0x00, 0x00, 0x00, 0x01, // ISID
        0x01, 0x02, // TSIH
        0x00, 0x00, 0x00, 0x2a, // Initiator task tag
        0x00, 0x00, 0x00, 0x00, // Reserved
        0x00, 0x00, 0x00, 0x01, // StatSN
        0x00, 0x00, 0x00, 0x11, // ExpCmdSN: the first command has the CmdSN of the login
        0x00, 0x00, 0x00, 0x90, // MaxCmdSN: 128 commands
        0x00, 0x00, 0x00, 0x00, // Status
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(&slices[0][..], expected);
    let (_, text) = wire.take_one();
    assert_eq!(printed(&text), "TargetPortalGroupTag=1;TargetAlias=array;MaxRecvDataSegmentLength=262144;");
    let Action::LoggedIn(admitted) = wire.action() else { panic!() };
    assert_eq!((admitted.tsih, admitted.initiator_name.as_str()), (0x0102, INITIATOR));
}

#[test]
fn the_security_stage_without_chap_leads_to_the_operational_stage() {
    let mut wire = Wire::new(options());
    let text = begin(&format!("TargetName={TARGET};AuthMethod=CHAP,None"));
    wire.send(&login(Stage::Security, Stage::Operational), &text);
    let (Pdu::LoginResponse(response), text) = wire.take_one() else { panic!() };
    assert_eq!(printed(&text), "TargetPortalGroupTag=1;TargetAlias=array;AuthMethod=None;");
    assert!(response.stages.transit && response.stages.next == Stage::Operational);
    let offers = "HeaderDigest=None,CRC32C;MaxRecvDataSegmentLength=4096;InitialR2T=No;ErrorRecoveryLevel=2";
    wire.send(&login(Stage::Operational, Stage::FullFeature), &text_of(offers));
    wire.handle(Event::Admitted { tsih: 1 });
    let (Pdu::LoginResponse(response), text) = wire.take_one() else { panic!() };
    assert_eq!(
        printed(&text),
        "HeaderDigest=None;InitialR2T=No;ErrorRecoveryLevel=0;MaxRecvDataSegmentLength=262144;"
    );
    assert_eq!((response.status, response.tsih), (LoginStatus::Success, 1));
    assert_eq!(wire.session.peer_segment_max, 4096);
}

#[test]
fn text_over_several_requests_is_one_text() {
    let mut wire = Wire::new(options());
    let text = begin(&format!("TargetName={TARGET}"));
    let (first, second) = text.split_at(20);
    let mut request = login_request(Stage::Operational, None);
    request.stages.more = true;
    wire.send(&request.emit(), first);
    let (Pdu::LoginResponse(response), text) = wire.take_one() else { panic!() };
    assert!(text.is_empty() && !response.stages.transit && response.status == LoginStatus::Success);
    wire.send(&login(Stage::Operational, Stage::FullFeature), second);
    assert!(matches!(wire.action(), Action::Admit { .. }));
}

#[test]
fn every_reason_to_refuse_has_its_status() {
    let to_full_feature = login(Stage::Operational, Stage::FullFeature);
    let good = begin(&format!("TargetName={TARGET}"));
    let status = |text: &str| refused(&to_full_feature, &begin(text));
    assert_eq!(status("TargetName=iqn.2026-01.example:elsewhere"), LoginStatus::TargetNotFound);
    assert_eq!(status("SessionType=Normal"), LoginStatus::MissingParameter);
    assert_eq!(
        status(&format!("SessionType=Strange;TargetName={TARGET}")),
        LoginStatus::SessionTypeNotSupported
    );
    assert_eq!(status(&format!("TargetName={TARGET};MaxBurstLength=1")), LoginStatus::InitiatorError);
    assert_eq!(refused(&to_full_feature, &text_of("TargetName=x")), LoginStatus::MissingParameter);
    assert_eq!(refused(&to_full_feature, b"no text"), LoginStatus::InitiatorError);
    let mut version = login_request(Stage::Operational, Some(Stage::FullFeature));
    version.version_min = 1;
    assert_eq!(refused(&version.emit(), &good), LoginStatus::UnsupportedVersion);
    let backwards = login(Stage::Operational, Stage::Security);
    assert_eq!(refused(&backwards, &good), LoginStatus::InitiatorError);
    let reserved = login_stay(Stage::Other(2));
    assert_eq!(refused(&reserved, &good), LoginStatus::InitiatorError);
    let nobody = begin(&format!("TargetName={GUARDED}"));
    assert_eq!(refused(&to_full_feature, &nobody), LoginStatus::AuthenticationFailed, "no security stage");
    let none = begin(&format!("TargetName={GUARDED};AuthMethod=None"));
    assert_eq!(
        refused(&login(Stage::Security, Stage::Operational), &none),
        LoginStatus::AuthenticationFailed
    );
    let silent = login(Stage::Security, Stage::FullFeature);
    assert_eq!(refused(&silent, &nobody), LoginStatus::AuthenticationFailed);
}

#[test]
fn the_driver_can_refuse() {
    let mut wire = Wire::new(options());
    wire.send(&login(Stage::Operational, Stage::FullFeature), &begin(&format!("TargetName={TARGET}")));
    assert!(matches!(wire.action(), Action::Admit { .. }));
    wire.handle(Event::Refused(LoginStatus::SessionDoesNotExist));
    let (Pdu::LoginResponse(response), _) = wire.take_one() else { panic!() };
    assert_eq!((response.status, response.stages.transit), (LoginStatus::SessionDoesNotExist, false));
    assert_eq!(wire.disconnected(), Disconnect::LoginRefused(LoginStatus::SessionDoesNotExist));
}

#[test]
fn a_target_without_a_portal_in_the_group_is_not_found() {
    let mut wire = Wire::new(Options { portal_group: 9, ..options() });
    wire.send(&login(Stage::Operational, Stage::FullFeature), &begin(&format!("TargetName={TARGET}")));
    let (Pdu::LoginResponse(response), _) = wire.take_one() else { panic!() };
    assert_eq!(response.status, LoginStatus::TargetNotFound);
}

/// Goes as far as the target's challenge.
fn challenged() -> Wire {
    let mut wire = Wire::new(options());
    let text = begin(&format!("TargetName={GUARDED};AuthMethod=None,CHAP"));
    wire.send(&login(Stage::Security, Stage::Operational), &text);
    let (Pdu::LoginResponse(response), text) = wire.take_one() else { panic!() };
    assert_eq!(printed(&text), "TargetPortalGroupTag=1;AuthMethod=CHAP;");
    assert!(!response.stages.transit, "not before it is proved who asks");
    wire.send(&login_stay(Stage::Security), &text_of("CHAP_A=7,5"));
    let (_, text) = wire.take_one();
    assert_eq!(printed(&text), format!("CHAP_A=5;CHAP_I=7;CHAP_C=0x{};", "a5".repeat(16)));
    wire
}

fn response_to_challenge(secret: &[u8]) -> Text {
    let challenge = Challenge { identifier: 7, bytes: [0xa5; chap::CHALLENGE_LENGTH] };
    let mut asked = Text::new();
    challenge.push(&mut asked);
    let mut text = Text::new();
    let asked = chap::PeerChallenge::parse(&asked, None).unwrap();
    asked.answer(&credentials("host", secret), &mut text);
    text
}

#[test]
fn chap_lets_in_who_knows_the_secret_and_proves_the_target_in_turn() {
    let mut wire = challenged();
    let mut text = response_to_challenge(b"initiator secret");
    let ours = Challenge { identifier: 9, bytes: [1; chap::CHALLENGE_LENGTH] };
    ours.push(&mut text);
    wire.send(&login(Stage::Security, Stage::Operational), text.as_bytes());
    let (Pdu::LoginResponse(response), text) = wire.take_one() else { panic!() };
    assert!(response.stages.transit);
    let text = Text::parse(&text).unwrap();
    assert_eq!(ours.verify(&text, &credentials("array", b"the target secret")), Ok(()));
    wire.send(&login(Stage::Operational, Stage::FullFeature), b"");
    assert!(matches!(wire.action(), Action::Admit { .. }));
}

#[test]
fn a_wrong_secret_or_a_reflected_challenge_fails_the_login() {
    let mut reflected = response_to_challenge(b"initiator secret");
    Challenge { identifier: 9, bytes: [0xa5; chap::CHALLENGE_LENGTH] }.push(&mut reflected);
    for text in [response_to_challenge(b"something else"), reflected] {
        let mut wire = challenged();
        wire.send(&login(Stage::Security, Stage::Operational), text.as_bytes());
        let (Pdu::LoginResponse(response), _) = wire.take_one() else { panic!() };
        assert_eq!(response.status, LoginStatus::AuthenticationFailed);
        assert_eq!(wire.disconnected(), Disconnect::LoginRefused(LoginStatus::AuthenticationFailed));
    }
}

#[test]
fn a_response_without_a_challenge_fails_the_login() {
    let mut wire = Wire::new(options());
    let text = begin(&format!("TargetName={GUARDED};CHAP_N=host;CHAP_R=0x00"));
    wire.send(&login(Stage::Security, Stage::Operational), &text);
    let (Pdu::LoginResponse(response), _) = wire.take_one() else { panic!() };
    assert_eq!(response.status, LoginStatus::AuthenticationFailed);
}

#[test]
fn a_login_ends_after_its_time_and_after_too_many_requests() {
    let mut wire = Wire::new(options());
    wire.send_bytes(&[0x43; 1]);
    let timeout = wire.session.poll_timeout().unwrap();
    assert_eq!(timeout, Instant::START + Duration::from_secs(15));
    wire.pass(Duration::from_secs(15));
    assert_eq!(wire.disconnected(), Disconnect::LoginTimeout);

    let mut wire = Wire::new(options());
    let mut status = LoginStatus::Success;
    let mut requests = 0;
    while status == LoginStatus::Success {
        let text = if requests == 0 { begin(&format!("TargetName={TARGET}")) } else { Vec::new() };
        wire.send(&login_stay(Stage::Operational), &text);
        let (Pdu::LoginResponse(response), _) = wire.take_one() else { panic!() };
        status = response.status;
        requests += 1;
    }
    assert_eq!((requests, status), (33, LoginStatus::InitiatorError));
}

#[test]
fn what_is_not_iscsi_is_told_apart_by_its_first_bytes() {
    let mut wire = Wire::new(options());
    wire.send_bytes(b"GET / HTTP/1.1\r\n");
    let Disconnect::NotIscsi { first } = wire.disconnected() else { panic!() };
    assert_eq!(&first, b"GET / HT");
    let [a, b] = wire.session.receive_into();
    assert!(a.is_empty() && b.is_empty(), "nothing more is read");
}

#[test]
fn another_pdu_in_the_login_phase_ends_the_connection() {
    let mut wire = Wire::new(options());
    wire.send(&login_stay(Stage::Operational), &begin(&format!("TargetName={TARGET}")));
    wire.take();
    let serials = wire.serials();
    let ping = NopOut {
        delivery: Delivery::Immediate,
        lun: Lun::default(),
        initiator_task_tag: InitiatorTaskTag(1),
        target_transfer_tag: TargetTransferTag::NONE,
        serials,
    };
    wire.send_bytes(&ping.emit().0);
    assert_eq!(wire.disconnected(), Misbehaved::NotLogin(Opcode::NopOut).into());
}
