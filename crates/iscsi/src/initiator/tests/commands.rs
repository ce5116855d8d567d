use super::*;
use crate::pdu::ScsiCommand;
use scsi::{Residual, Status};

fn to_device(length: u32) -> Transfer {
    Transfer::ToDevice { offset: 0, length }
}

/// What no two neighbouring ranges have in common.
fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

fn ids(pdus: &[(Pdu, Vec<u8>)]) -> Vec<u32> {
    let cmd_sn = |pdu: &Pdu| match pdu {
        Pdu::ScsiCommand(ScsiCommand { serials, .. }) => Some(serials.cmd_sn.0),
        _ => None,
    };
    pdus.iter().filter_map(|(pdu, _)| cmd_sn(pdu)).collect()
}

#[test]
fn a_read_is_received_into_its_own_memory() {
    let mut story = Story::logged_in(options(), "");
    let tag = story.start(1, Transfer::FromDevice { offset: 2, length: 8 }, vec![0; 12]);
    story.data_in(tag, 0, 0, &[1, 2, 3, 4, 5], false);
    story.data_in(tag, 1, 5, &[6, 7, 8], true);
    assert_eq!(story.ended(), [(1, good(), vec![0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0])]);
}

#[test]
fn sense_data_and_residuals_reach_the_issuer() {
    let mut story = Story::logged_in(options(), "");
    let tag = story.read(1, 512);
    let residual = ResidualCount { overflow: false, underflow: true, count: 512 };
    story.response(tag, 0x02, residual, &[0, 4, 0x70, 0, 6, 0]);
    let reply = Reply {
        status: Status::CheckCondition,
        sense: Some(Box::new(SenseData::new(&[0x70, 0, 6, 0]))),
        residual: Residual::Underflow(512),
    };
    assert_eq!(story.endings(), [(1, Ending::Reply(reply))]);

    let tag = story.read(2, 512);
    story.response(tag, 0x02, ResidualCount { overflow: true, underflow: false, count: 9 }, &[0, 200, 0x70]);
    let Ending::Reply(reply) = &story.endings()[0].1 else { panic!() };
    assert_eq!(reply.residual, Residual::Overflow(9));
    assert_eq!(reply.sense.as_ref().unwrap().as_slice(), [0x70]);
}

#[test]
fn good_status_does_not_hide_that_data_are_missing() {
    let mut story = Story::logged_in(options(), "");
    let tag = story.read(1, 512);
    story.data_in(tag, 0, 0, &[1; 100], true);
    let reply = Reply { residual: Residual::Underflow(412), ..Reply::good() };
    assert_eq!(story.endings(), [(1, Ending::Reply(reply))]);
}

#[test]
fn a_target_failure_is_not_an_answer_of_the_device() {
    let mut story = Story::logged_in(options(), "");
    let tag = story.read(1, 512);
    let pdu = ScsiResponse {
        response: ResponseCode::TargetFailure,
        status: 0,
        initiator_task_tag: tag,
        serials: story.status_serials(),
        exp_data_sn: 0,
        residual: ResidualCount::default(),
        bidirectional_read_residual: ResidualCount::default(),
    };
    story.give(Pdu::ScsiResponse(pdu), &[]);
    assert_eq!(story.endings(), [(1, Ending::TargetFailure)]);
}

#[test]
fn commands_beyond_the_window_wait_in_order() {
    let mut story = Story::logged_in(options(), "");
    for id in 1..=40 {
        story.command(id, Transfer::None, vec![]);
    }
    let sent = story.sent();
    assert_eq!(ids(&sent), (1..=32).collect::<Vec<_>>());
    let Pdu::ScsiCommand(first) = sent[0].0 else { panic!() };
    story.cmd_sn = 5;
    story.good(first.initiator_task_tag);
    assert_eq!(ids(&story.sent()), [33, 34, 35, 36]);
    assert_eq!(story.endings(), [(1, good())]);
}

#[test]
fn a_command_beyond_capacity_comes_back_unsent() {
    let mut story = Story::logged_in(Options { commands_max: 2, ..options() }, "");
    story.window = 0;
    for id in 1..=3 {
        story.command(id, Transfer::None, vec![]);
    }
    assert_eq!(story.session.capacity(), 0);
    assert_eq!(story.endings(), [(3, Ending::NotSent)]);
}

#[test]
fn a_write_sends_what_may_go_unasked_and_the_rest_when_asked() {
    let answers = "InitialR2T=No,FirstBurstLength=1024,MaxRecvDataSegmentLength=512,MaxBurstLength=1024";
    let mut story = Story::logged_in(options(), answers);
    let data = pattern(2100);
    story.command(1, to_device(2100), data.clone());
    let sent = story.sent();
    let [(Pdu::ScsiCommand(command), immediate), (Pdu::DataOut(unsolicited), rest)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert!(!command.flags.last && command.flags.write && unsolicited.last);
    assert_eq!(unsolicited.target_transfer_tag, TargetTransferTag::NONE);
    assert_eq!((&immediate[..], &rest[..]), (&data[..512], &data[512..1024]));
    story.cmd_sn = 2;
    let tag = command.initiator_task_tag;
    story.r2t(tag, 0, 1024, 1024);
    let sent = story.sent();
    let outs: Vec<_> = sent
        .iter()
        .map(|(pdu, data)| match pdu {
            Pdu::DataOut(out) => {
                (out.data_sn, out.buffer_offset, data.len(), out.last, out.target_transfer_tag.0)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(outs, [(0, 1024, 512, false, 0x70), (1, 1536, 512, true, 0x70)]);
    story.r2t(tag, 1, 2048, 52);
    assert_eq!(story.sent()[0].1, data[2048..]);
    story.good(tag);
    assert_eq!(story.ended(), [(1, good(), data)]);
}

#[test]
fn every_agreement_on_bursts_delivers_each_byte_once() {
    for bits in 0..32 {
        let yes = |bit: u32| if bits >> bit & 1 == 1 { "Yes" } else { "No" };
        let first = if bits & 4 == 0 { 512 } else { 3000 };
        let burst = if bits & 8 == 0 { 1000 } else { 4096 };
        let segment = if bits & 16 == 0 { 516 } else { 4096 };
        let answers = format!(
            "InitialR2T={},ImmediateData={},FirstBurstLength={first},MaxBurstLength={burst},\
             MaxRecvDataSegmentLength={segment},MaxOutstandingR2T=1",
            yes(0),
            yes(1)
        );
        for length in [1, 511, 512, 513, 2999, 10_001] {
            let mut story = Story::logged_in(options(), &answers);
            story.piece = 700;
            deliver(&mut story, length, burst.min(10_000));
        }
    }
}

/// Takes a write as a target does: asks for what has not come until all is there.
fn deliver(story: &mut Story, length: u32, burst: u32) {
    let data = pattern(length);
    story.command(1, to_device(length), data.clone());
    let mut received = vec![None; length as usize];
    let (mut tag, mut r2t_sn, mut more_unasked) = (InitiatorTaskTag::NONE, 0, false);
    loop {
        for (pdu, data) in story.sent() {
            let offset = match pdu {
                Pdu::ScsiCommand(command) => {
                    (tag, more_unasked) = (command.initiator_task_tag, !command.flags.last);
                    story.cmd_sn = 2;
                    0
                }
                Pdu::DataOut(out) => {
                    more_unasked &= !out.last;
                    assert!(data.len() as u32 <= story.session.negotiated.max_send_data_segment_length);
                    out.buffer_offset as usize
                }
                other => panic!("{other:?}"),
            };
            for (place, byte) in received[offset..].iter_mut().zip(data) {
                assert_eq!(place.replace(byte), None, "a byte came twice");
            }
        }
        assert!(!more_unasked, "the end of unsolicited data is marked");
        let there = received.iter().take_while(|byte| byte.is_some()).count() as u32;
        if there == length {
            break;
        }
        story.r2t(tag, r2t_sn, there, burst.min(length - there));
        r2t_sn += 1;
    }
    assert_eq!(received.into_iter().map(Option::unwrap).collect::<Vec<_>>(), data);
    story.good(tag);
    assert_eq!(story.ended(), [(1, good(), data)]);
}

#[test]
fn a_command_that_has_ended_stays_until_its_data_have_left() {
    let mut story = Story::logged_in(options(), "MaxRecvDataSegmentLength=65536");
    let tag = story.start(1, to_device(1 << 20), pattern(1 << 20));
    story.r2t(tag, 0, 262_144, 262_144);
    story.response(tag, 0x02, ResidualCount::default(), &[]);
    assert_eq!(story.endings(), []);
    // The device has answered early; what was begun or queued goes on from memory that is still there.
    assert!(!story.sent().is_empty());
    assert_eq!(story.endings().len(), 1);
}

#[test]
fn a_ping_of_the_target_is_answered() {
    let mut story = Story::logged_in(options(), "");
    let ping = NopIn {
        lun: LUN,
        initiator_task_tag: InitiatorTaskTag::NONE,
        target_transfer_tag: TargetTransferTag(3),
        serials: story.serials(),
    };
    story.give(Pdu::NopIn(ping), &[]);
    let sent = story.sent();
    let [(Pdu::NopOut(answer), data)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(answer.initiator_task_tag, InitiatorTaskTag::NONE);
    assert_eq!((answer.target_transfer_tag, answer.lun), (TargetTransferTag(3), LUN));
    assert_eq!((answer.delivery, data.len()), (Delivery::Immediate, 0));
}

#[test]
fn a_flood_of_pings_stops_the_receiving_instead_of_filling_the_memory() {
    let mut story = Story::logged_in(options(), "");
    let ping = NopIn {
        lun: LUN,
        initiator_task_tag: InitiatorTaskTag::NONE,
        target_transfer_tag: TargetTransferTag(3),
        serials: story.serials(),
    };
    for _ in 0..1000 {
        story.give(Pdu::NopIn(ping), &[]);
    }
    assert!(story.session.receive_into().iter().all(|room| room.is_empty()));
    assert!(story.sent().len() < 2 * ANSWERS_MAX);
    assert!(!story.session.receive_into()[1].is_empty());
}

#[test]
fn the_answers_to_a_thousand_commands_go_to_the_right_ones() {
    let mut story = Story::logged_in(options(), "");
    for round in 0..100_u64 {
        let tags: Vec<_> = (0..10).map(|n| story.read(round * 10 + n, 4)).collect();
        for (n, tag) in tags.iter().enumerate().rev() {
            story.data_in(*tag, 0, 0, &[n as u8; 4], true);
        }
        let ended = story.ended();
        for (n, (id, ending, data)) in ended.into_iter().rev().enumerate() {
            assert_eq!((id, ending, data), (round * 10 + n as u64, good(), vec![n as u8; 4]));
        }
    }
    assert_eq!(story.session.commands_held(), 0);
}
