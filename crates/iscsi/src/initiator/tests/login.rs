use super::*;
use crate::chap::{Challenge, ChapError, Credentials, PeerChallenge, Secret};
use crate::negotiation::NegotiationError;
use crate::stream::Digest;

fn text_of(pdus: &[(Pdu, Vec<u8>)]) -> String {
    let [(Pdu::LoginRequest(_), data)] = pdus else { panic!("expected one login request, found {pdus:?}") };
    String::from_utf8(data.clone()).unwrap().replace('\0', " ")
}

fn stages_of(pdus: &[(Pdu, Vec<u8>)]) -> LoginStages {
    let [(Pdu::LoginRequest(request), _)] = pdus else {
        panic!("expected one login request, found {pdus:?}")
    };
    request.stages
}

/// How the login failed.
fn failure(story: &Story) -> &LoginError {
    let [Action::LoginFailed(error), Action::Disconnect(Reason::LoginFailed)] = &story.happened[..] else {
        panic!("expected a failed login, found {:?}", story.happened)
    };
    error
}

fn connected(options: Options) -> Story {
    let mut story = Story::new(options);
    story.handle(Event::Connected);
    story
}

#[test]
fn a_login_begins_at_the_security_stage_as_a_new_session_with_our_isid() {
    let mut story = connected(options());
    let first = story.sent();
    let [(Pdu::LoginRequest(request), _)] = first[..] else { panic!("{first:?}") };
    let stages =
        LoginStages { transit: true, more: false, current: Stage::Security, next: Stage::Operational };
    assert_eq!((request.stages, request.tsih, request.isid), (stages, 0, ISID));
    assert_eq!(
        text_of(&first),
        "InitiatorName=iqn.2001-04.com.example:host SessionType=Normal \
         TargetName=iqn.2001-04.com.example:disk AuthMethod=None "
    );
}

#[test]
fn a_login_ends_with_what_both_sides_agreed_on() {
    let mut story = connected(options());
    story.sent();
    story.login_response(Stage::Security, Stage::Operational, true, "TargetPortalGroupTag=3,TargetAlias=a");
    let offers = text_of(&story.sent());
    assert!(
        offers.starts_with("HeaderDigest=None,CRC32C DataDigest=None,CRC32C MaxConnections=1 "),
        "{offers}"
    );
    let answers = "HeaderDigest=CRC32C,InitialR2T=Yes,FirstBurstLength=1024,MaxRecvDataSegmentLength=4096";
    story.login_response(Stage::Operational, Stage::FullFeature, true, answers);
    let [Action::LoggedIn(result)] = &story.happened[..] else { panic!("{:?}", story.happened) };
    assert_eq!((result.tsih, result.target_portal_group_tag), (7, Some(3)));
    assert_eq!(result.target_alias.as_deref(), Some("a"));
    assert_eq!(result.negotiated.header_digest, Digest::Crc32c);
    assert!(result.negotiated.initial_r2t);
    assert_eq!(result.negotiated.max_send_data_segment_length, 4096);
    // The first command is protected by the digest that was agreed on.
    story.framer.set_digests(Digests { header: Digest::Crc32c, data: Digest::None });
    let tag = story.read(1, 512);
    story.data_in(tag, 0, 0, &[9; 512], true);
    assert_eq!(story.ended(), [(1, good(), vec![9; 512])]);
}

#[test]
fn questions_of_the_target_are_answered_before_the_login_goes_on() {
    let mut story = connected(options());
    story.sent();
    story.login_response(Stage::Security, Stage::Operational, true, "");
    story.sent();
    story.login_response(Stage::Operational, Stage::Operational, false, "X-com.example=1,IFMarker=Yes");
    let answer = story.sent();
    assert_eq!(text_of(&answer), "X-com.example=NotUnderstood IFMarker=No ");
    assert!(stages_of(&answer).transit);
}

#[test]
fn text_of_the_target_may_come_in_several_pdus() {
    let mut story = connected(options());
    story.sent();
    let stages = LoginStages { transit: false, more: true, current: Stage::Security, next: Stage::Security };
    story.login_pdu(stages, LoginStatus::Success, b"TargetAlias=ab");
    let answer = story.sent();
    assert_eq!((text_of(&answer).as_str(), stages_of(&answer).transit), ("", false));
    story.login_response(Stage::Security, Stage::Security, false, "c=");
    assert!(stages_of(&story.sent()).transit);
    story.login_response(Stage::Security, Stage::Operational, true, "");
    story.sent();
    story.login_response(Stage::Operational, Stage::FullFeature, true, "");
    let [Action::LoggedIn(result)] = &story.happened[..] else { panic!("{:?}", story.happened) };
    assert_eq!(result.target_alias.as_deref(), Some("abc="));
}

#[test]
fn mutual_chap_believes_only_a_target_that_knows_its_secret() {
    let us = Credentials { name: "host".into(), secret: Secret::new(b"correct horse").unwrap() };
    let target = Credentials { name: "disk".into(), secret: Secret::new(b"battery staple").unwrap() };
    let ours = Challenge { identifier: 1, bytes: [1; 16] };
    let theirs = Challenge { identifier: 2, bytes: [2; 16] };
    for (secret, believed) in [(&b"battery staple"[..], true), (b"battery stapl3", false)] {
        let mutual = Some(Mutual { credentials: target.clone(), challenge: ours });
        let chap = Some(Chap { credentials: us.clone(), mutual });
        let mut story = connected(Options { chap, ..options() });
        assert!(text_of(&story.sent()).ends_with("AuthMethod=CHAP "));
        story.login_response(Stage::Security, Stage::Security, false, "AuthMethod=CHAP");
        assert_eq!(text_of(&story.sent()), "CHAP_A=5 ");
        let mut question = Text::new();
        question.push("CHAP_A", "5");
        theirs.push(&mut question);
        let stay =
            LoginStages { transit: false, more: false, current: Stage::Security, next: Stage::Security };
        story.login_pdu(stay, LoginStatus::Success, question.as_bytes());
        let [(_, answer)] = &story.sent()[..] else { panic!("one request") };
        let answer = Text::parse(answer).unwrap();
        assert_eq!(theirs.verify(&answer, &us), Ok(()));
        let mut proof = Text::new();
        let liar = Credentials { secret: Secret::new(secret).unwrap(), ..target.clone() };
        PeerChallenge::parse(&answer, Some(&theirs)).unwrap().answer(&liar, &mut proof);
        let go = LoginStages { transit: true, next: Stage::Operational, ..stay };
        story.login_pdu(go, LoginStatus::Success, proof.as_bytes());
        if believed {
            assert!(text_of(&story.sent()).starts_with("HeaderDigest="));
        } else {
            assert_eq!(failure(&story), &LoginError::Chap(ChapError::WrongResponse("disk".into())));
        }
    }
}

#[test]
fn a_target_that_must_prove_itself_is_not_let_off() {
    let credentials =
        |name: &str| Credentials { name: name.into(), secret: Secret::new(name.as_bytes()).unwrap() };
    let challenge = Challenge { identifier: 1, bytes: [1; 16] };
    let mutual = Some(Mutual { credentials: credentials("target"), challenge });
    let chap = Some(Chap { credentials: credentials("host"), mutual });
    let mut story = connected(Options { chap: chap.clone(), ..options() });
    story.sent();
    story.login_response(Stage::Security, Stage::Security, false, "AuthMethod=None");
    assert!(matches!(failure(&story), LoginError::AuthMethod { offered: "CHAP", .. }));

    let mut story = connected(Options { chap, ..options() });
    story.sent();
    story.login_response(Stage::Security, Stage::Security, false, "AuthMethod=CHAP");
    story.sent();
    story.login_response(
        Stage::Security,
        Stage::Security,
        false,
        "CHAP_A=5,CHAP_I=2,CHAP_C=0x01010101010101010101010101010101",
    );
    assert_eq!(failure(&story), &LoginError::Chap(ChapError::Reflected));
}

#[test]
fn a_target_that_wants_chap_says_so_in_the_error() {
    let mut story = connected(options());
    story.sent();
    story.login_response(Stage::Security, Stage::Security, false, "AuthMethod=CHAP");
    assert_eq!(
        failure(&story).to_string(),
        "AuthMethod None was offered, and the target answered `CHAP`: it wants CHAP, so give a CHAP name and secret"
    );
}

#[test]
fn every_refusal_of_a_login_says_whose_fault_it_is() {
    let stages = LoginStages { transit: false, more: false, current: Stage::Security, next: Stage::Security };
    for (class, detail, text) in [
        (
            2,
            1,
            "the target refused the login: it wants authentication, or does not accept this CHAP name and secret",
        ),
        (2, 3, "there is no target of that name at this portal"),
        (3, 1, "the target is not ready to serve; later it may be"),
        (9, 9, "the target refused the login with the unknown status 0x09/0x09"),
    ] {
        let mut story = connected(options());
        story.sent();
        story.login_pdu(stages, LoginStatus::from_wire(class, detail), &[]);
        assert_eq!(failure(&story).to_string(), text);
    }
}

#[test]
fn a_target_that_has_moved_says_where_to() {
    let mut story = connected(options());
    story.command(1, Transfer::None, vec![]);
    story.sent();
    let stages = LoginStages { transit: false, more: false, current: Stage::Security, next: Stage::Security };
    story.login_pdu(stages, LoginStatus::TargetMovedTemporarily, b"TargetAddress=10.0.0.9:3261,2\0");
    assert_eq!(story.endings(), [(1, Ending::NotSent)]);
    let [Action::TargetMoved { portal, permanence }, Action::Disconnect(Reason::TargetMoved)] =
        &story.happened[..]
    else {
        panic!("{:?}", story.happened)
    };
    assert_eq!((portal.host.as_str(), portal.port, portal.group), ("10.0.0.9", 3261, Some(2)));
    assert_eq!(*permanence, Permanence::Temporary);
}

#[test]
fn something_else_than_iscsi_is_called_so_at_its_first_byte() {
    let mut story = connected(options());
    story.sent();
    story.give_bytes(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    assert_eq!(
        failure(&story).to_string(),
        "what answers there is not iSCSI: it began with \"SSH-2.0-OpenSSH_\""
    );
}

#[test]
fn a_login_has_an_end_in_time_and_in_rounds() {
    let mut story = connected(options());
    assert_eq!(story.session.poll_timeout(), Some(at(15_000)));
    story.wait(14_999);
    assert!(story.happened.is_empty());
    story.wait(15_000);
    assert_eq!(failure(&story), &LoginError::Timeout);

    let mut story = connected(options());
    while story.happened.is_empty() {
        story.sent();
        story.login_response(Stage::Security, Stage::Security, false, "");
    }
    assert_eq!(failure(&story), &LoginError::TooManyRounds { rounds: 64 });
}

#[test]
fn answers_that_break_the_rules_of_a_login_end_it() {
    let mut story = connected(options());
    story.sent();
    story.login_response(Stage::Security, Stage::FullFeature, true, "");
    assert_eq!(failure(&story), &LoginError::Misbehaved("it went to a stage that was not asked for"));

    let mut story = connected(options());
    story.sent();
    story.login_response(Stage::Security, Stage::Operational, true, "");
    story.sent();
    story.login_response(Stage::Operational, Stage::FullFeature, true, "ErrorRecoveryLevel=2");
    assert!(matches!(
        failure(&story),
        LoginError::Negotiation(NegotiationError::IllegalAnswer { key: "ErrorRecoveryLevel", .. })
    ));

    let mut story = connected(options());
    story.sent();
    story.handle(Event::Closed);
    assert_eq!(failure(&story), &LoginError::Closed);
}

#[test]
fn a_discovery_session_learns_all_targets_and_portals() {
    let mut story = Story::logged_in(Options { kind: Kind::Discovery, ..options() }, "");
    story.handle(Event::SendTargets(Scope::All));
    let asked = story.sent();
    let [(Pdu::TextRequest(request), data)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(data, b"SendTargets=All\0");
    let mut answer = TextResponse {
        last: false,
        more: true,
        lun: Lun::default(),
        initiator_task_tag: request.initiator_task_tag,
        target_transfer_tag: TargetTransferTag(5),
        serials: story.status_serials(),
    };
    story.give(Pdu::TextResponse(answer), b"TargetName=iqn.2001-04.com.example:a\0TargetAddr");
    let asked = story.sent();
    let [(Pdu::TextRequest(request), data)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((request.target_transfer_tag, data.len()), (TargetTransferTag(5), 0));
    (answer.last, answer.more, answer.target_transfer_tag) = (true, false, TargetTransferTag::NONE);
    answer.serials = story.status_serials();
    story.give(Pdu::TextResponse(answer), b"ess=10.0.0.1,1\0TargetAddress=10.0.1.1,2\0TargetName=b\0");
    let [Action::Discovered(targets)] = &story.happened[..] else { panic!("{:?}", story.happened) };
    assert_eq!(targets.len(), 2);
    assert_eq!(targets[0].portals.iter().map(|portal| portal.group).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

#[test]
fn options_out_of_range_are_refused() {
    let fault = |options: Options| Session::<()>::new(options).unwrap_err();
    let offers = |max_recv_data_segment_length| Offers { max_recv_data_segment_length, ..Offers::default() };
    assert_eq!(
        fault(Options { offers: offers(0), ..options() }),
        OptionsError::BadOffer("MaxRecvDataSegmentLength")
    );
    assert_eq!(fault(Options { offers: offers(777), ..options() }), OptionsError::UnalignedSegments(777));
    assert_eq!(fault(Options { commands_max: 0, ..options() }), OptionsError::BadCommandsMax(0));
    assert_eq!(
        fault(Options { abort_timeout: Duration::ZERO, ..options() }),
        OptionsError::ZeroTimeout("abort_timeout")
    );
    let credentials = Credentials { name: "x".into(), secret: Secret::new(b"same").unwrap() };
    let challenge = Challenge { identifier: 0, bytes: [0; 16] };
    let mutual = Some(Mutual { credentials: credentials.clone(), challenge });
    assert_eq!(
        fault(Options { chap: Some(Chap { credentials, mutual }), ..options() }),
        OptionsError::EqualSecrets
    );
}
