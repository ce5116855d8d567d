//! Asymmetric access states: what is asked, when, and what is believed.

use std::sync::Arc;

use block::Error;
use clock::Duration;
use multipath::{Access, NoPath, PathId, PathState, Policy};
use scsi::SenseKey;
use scsi::cdb::operation as op;
use scsi::inquiry::PortGroupSupport;
use scsi::port_groups::AccessState;
use scsi_multipath::{AccessAnswer, AccessCause, Alua, Event, GroupAccess, Hold, Options, TargetId};

use crate::device::{Device, LongHeader, sense};
use crate::rig::{Fault, Rig, unit_at};

const OPTIMIZED: PathState = PathState::Usable(Access::Optimized);
const NON_OPTIMIZED: PathState = PathState::Usable(Access::NonOptimized);

fn with(policy: Policy, no_path: NoPath) -> Options {
    let options = Options::default();
    Options { head: multipath::Options { policy, no_path, ..options.head }, ..options }
}

fn rig(paths: u16) -> Rig {
    Rig::with_options(Device::new(8, 1), paths, with(Policy::RoundRobin, NoPath::Queue))
}

fn attention(asc: u8, ascq: u8) -> Fault {
    Fault::Reply(sense(SenseKey::UnitAttention, asc, ascq))
}

fn ports(rig: &Rig, code: u8) -> Vec<u16> {
    rig.device.log.iter().filter(|(_, each)| *each == code).map(|(port, _)| *port).collect()
}

fn asked(rig: &Rig) -> usize {
    rig.device.executed(op::MAINTENANCE_IN)
}

fn groups(states: &[(u16, AccessState)]) -> Arc<[GroupAccess]> {
    states.iter().map(|&(id, state)| GroupAccess { id, state, preferred: false }).collect()
}

fn assume(rig: &mut Rig, states: &[(u16, AccessState)]) {
    rig.handle(Event::AccessAssumed { target: TargetId(0), groups: groups(states) });
}

fn view(rig: &Rig, path: u32) -> scsi_multipath::PathView {
    rig.disk.paths().find(|view| view.status.id == PathId(path)).expect("the path is there")
}

#[test]
fn the_preferred_bit_is_shown_and_no_part_of_the_state() {
    let mut device = Device::new(8, 1);
    device.preferred = Some(2);
    let mut rig = Rig::with_options(device, 2, with(Policy::RoundRobin, NoPath::Queue));
    assert_eq!([1, 2].map(|path| view(&rig, path).preferred), [false, true]);
    assert_eq!([1, 2].map(|path| rig.state(path)), [OPTIMIZED; 2]);
    for _ in 0..4 {
        rig.read(0, 512);
    }
    assert_eq!(ports(&rig, op::READ_16).iter().filter(|port| **port == 1).count(), 2, "none is preferred");
    rig.device.preferred = Some(1);
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.read(0, 512);
    assert_eq!([1, 2].map(|path| view(&rig, path).preferred), [true, false]);
}

#[test]
fn a_device_without_a_long_header_that_can_be_read_is_asked_for_the_short_one_from_then_on() {
    for long_header in [LongHeader::Refused, LongHeader::NotCounted] {
        let mut rig = rig(1);
        rig.device.long_header = long_header;
        rig.device.access.insert(1, AccessState::NonOptimized);
        rig.fault(1, attention(0x2a, 0x06));
        rig.read(0, 512);
        assert_eq!((asked(&rig), rig.state(1)), (2, NON_OPTIMIZED), "{long_header:?}");
        rig.device.access.insert(1, AccessState::Optimized);
        rig.fault(1, attention(0x2a, 0x06));
        rig.read(0, 512);
        assert_eq!((asked(&rig), rig.state(1)), (3, OPTIMIZED), "{long_header:?}");
    }
}

#[test]
fn a_survey_reads_access_states_whatever_header_the_device_has() {
    for long_header in [LongHeader::Known, LongHeader::Refused, LongHeader::NotCounted] {
        let mut device = Device::new(8, 1);
        device.long_header = long_header;
        device.access.insert(4, AccessState::Standby);
        assert_eq!(unit_at(&mut device, 4).access, AccessState::Standby, "{long_header:?}");
    }
}

#[test]
fn a_report_that_is_longer_than_the_room_for_it_is_asked_for_again_with_more() {
    let mut device = Device::new(8, 1);
    device.access.extend((5..=200).map(|group| (group, AccessState::Standby)));
    device.access.insert(150, AccessState::NonOptimized);
    let unit = unit_at(&mut device, 150);
    assert_eq!(unit.access, AccessState::NonOptimized, "the survey has read it to its end");
    let mut rig = Rig::new(device, 1);
    rig.found(PathId(2), 150, unit);
    rig.device.log.clear();
    rig.device.access.insert(150, AccessState::Optimized);
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    assert_eq!(rig.state(2), OPTIMIZED);
    assert_eq!(asked(&rig), 2);
}

#[test]
fn one_question_is_for_all_paths_that_had_the_news() {
    let mut rig = rig(4);
    rig.may_ask = false;
    for path in 1..=4 {
        rig.fault(path, attention(0x2a, 0x06));
    }
    for _ in 0..8 {
        rig.read(0, 512);
    }
    assert_eq!(rig.wanted.len(), 4, "each is said");
    rig.handle(Event::MayAskAccess { target: TargetId(0) });
    assert_eq!(asked(&rig), 1);
    assert_eq!(rig.answers.len(), 1);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.wanted.len(), 4, "nothing is open");
}

#[test]
fn a_state_that_a_port_says_by_its_sense_counts_at_once_and_the_report_is_asked_for() {
    let cases = [
        (AccessState::Transitioning, PathState::Waiting),
        (AccessState::Standby, PathState::Down),
        (AccessState::Unavailable, PathState::Down),
        (AccessState::Offline, PathState::Down),
    ];
    for (state, expected) in cases {
        let mut rig = rig(2);
        rig.may_ask = false;
        rig.device.access.insert(1, state);
        let reads = [0; 2].map(|_| rig.read(0, 512));
        reads.iter().for_each(|read| rig.assert_ok(*read));
        assert_eq!(rig.state(1), expected, "{state}");
        assert_eq!(rig.wanted, [(PathId(1), AccessCause::Refused)], "{state}");
        assert_eq!(asked(&rig), 0);
        rig.handle(Event::MayAskAccess { target: TargetId(0) });
        assert_eq!(asked(&rig), 1);
        assert_eq!(rig.state(1), expected, "{state}");
    }
}

#[test]
fn every_state_is_used_as_the_standard_lets_it() {
    let cases = [
        (AccessState::Optimized, OPTIMIZED),
        (AccessState::NonOptimized, NON_OPTIMIZED),
        (AccessState::LogicalBlockDependent, NON_OPTIMIZED),
        (AccessState::Standby, PathState::Down),
        (AccessState::Unavailable, PathState::Down),
        (AccessState::Offline, PathState::Down),
        (AccessState::Transitioning, PathState::Waiting),
        (AccessState::Reserved(0x9), PathState::Down),
    ];
    for (state, expected) in cases {
        let mut rig = rig(2);
        rig.device.access.insert(2, state);
        rig.fault(1, attention(0x2a, 0x06));
        for _ in 0..3 {
            let read = rig.read(0, 512);
            rig.assert_ok(read);
        }
        assert_eq!(rig.state(2), expected, "{state}");
    }
}

#[test]
fn optimized_and_non_optimized_may_swap() {
    let mut rig = rig(2);
    for (one, other, best) in [
        (AccessState::Optimized, AccessState::NonOptimized, 1),
        (AccessState::NonOptimized, AccessState::Optimized, 2),
        (AccessState::Optimized, AccessState::NonOptimized, 1),
    ] {
        rig.device.access.insert(1, one);
        rig.device.access.insert(2, other);
        rig.fault(1, attention(0x2a, 0x06));
        rig.fault(2, attention(0x2a, 0x06));
        for _ in 0..4 {
            rig.read(0, 512);
        }
        assert_eq!(ports(&rig, op::READ_16).last(), Some(&best));
    }
}

#[test]
fn a_transition_that_has_taken_too_long_is_asked_about_at_the_pace_of_polls() {
    let mut rig = rig(2);
    rig.device.access.insert(2, AccessState::Transitioning);
    rig.fault(1, attention(0x2a, 0x06));
    for _ in 0..3 {
        rig.read(0, 512);
    }
    rig.pass(Duration::from_secs(21));
    assert_eq!(rig.state(2), PathState::Down);
    let before = asked(&rig);
    assert!((20..=24).contains(&before), "once a second: {before}");
    rig.pass(Duration::from_secs(600));
    assert!(asked(&rig) - before <= 11, "once a minute, as another path works");
    rig.device.access.insert(2, AccessState::Optimized);
    rig.pass(Duration::from_secs(61));
    assert_eq!(rig.state(2), OPTIMIZED);
}

#[test]
fn with_all_ports_in_standby_the_no_path_policy_counts() {
    for (no_path, after, expected) in [
        (NoPath::Fail, 0, Some(Err(Error::Io))),
        (NoPath::QueueFor(Duration::from_secs(5)), 4, None),
        (NoPath::QueueFor(Duration::from_secs(5)), 6, Some(Err(Error::Io))),
        (NoPath::Queue, 600, None),
    ] {
        let mut rig = Rig::with_options(Device::new(8, 1), 2, with(Policy::RoundRobin, no_path));
        rig.device.access.extend([1, 2].map(|group| (group, AccessState::Standby)));
        let read = rig.read(0, 512);
        rig.pass(Duration::from_secs(after));
        assert_eq!(rig.completion(read), expected, "{no_path:?}");
        assert!(!rig.gone);
    }
}

#[test]
fn a_group_that_the_report_leaves_out_goes_by_what_its_port_refuses() {
    let mut device = Device::new(8, 1);
    device.reported_access.insert(2, None);
    let mut rig = Rig::with_options(device, 2, with(Policy::RoundRobin, NoPath::Queue));
    assert_eq!(rig.state(2), OPTIMIZED);
    rig.device.access.insert(2, AccessState::Standby);
    let reads: Vec<_> = (0..20).map(|_| rig.read(0, 512)).collect();
    reads.iter().for_each(|read| rig.assert_ok(*read));
    assert!(ports(&rig, op::READ_16).iter().filter(|port| **port == 2).count() <= 2);
    assert_eq!(rig.state(2), PathState::Down);
    rig.device.access.insert(2, AccessState::Optimized);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.state(2), OPTIMIZED);
}

/// One read every 100 ms for so many seconds; all of them succeed.
fn read_for(rig: &mut Rig, seconds: u64) {
    for _ in 0..seconds * 10 {
        let read = rig.read(0, 512);
        rig.assert_ok(read);
        rig.pass(Duration::from_millis(100));
    }
}

#[test]
fn a_group_that_lies_costs_one_command_every_ten_seconds_and_never_a_request() {
    let mut rig = rig(2);
    rig.device.access.insert(2, AccessState::Standby);
    rig.device.reported_access.insert(2, Some(AccessState::Optimized));
    read_for(&mut rig, 60);
    let tried = ports(&rig, op::READ_16).iter().filter(|port| **port == 2).count();
    assert!((4..=12).contains(&tried), "{tried}");
    rig.device.log.clear();
    read_for(&mut rig, 600);
    let tried = ports(&rig, op::READ_16).iter().filter(|port| **port == 2).count();
    assert!((50..=61).contains(&tried), "{tried}");
    assert!(asked(&rig) <= 125, "one for each refusal, one when it is tried again: {}", asked(&rig));
    rig.device.access.insert(2, AccessState::Optimized);
    read_for(&mut rig, 15);
    assert_eq!(rig.state(2), OPTIMIZED, "it does not lie any more");
}

#[test]
fn a_group_that_lies_and_is_the_only_one_is_tried_every_second() {
    let mut rig = rig(1);
    rig.device.access.insert(1, AccessState::Standby);
    rig.device.reported_access.insert(1, Some(AccessState::Optimized));
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.completion(read), None);
    assert!((40..=62).contains(&rig.device.executed(op::READ_16)), "{}", rig.device.executed(op::READ_16));
    rig.device.access.insert(1, AccessState::Optimized);
    rig.pass(Duration::from_millis(1_100));
    rig.assert_ok(read);
}

#[test]
fn a_group_that_goes_and_comes_back_again_and_again_is_believed_each_time() {
    let mut rig = rig(2);
    for _ in 0..20 {
        rig.device.access.insert(1, AccessState::Standby);
        rig.read(0, 512);
        rig.read(0, 512);
        assert_eq!(rig.state(1), PathState::Down);
        rig.device.access.insert(1, AccessState::Optimized);
        rig.fault(2, attention(0x2a, 0x06));
        rig.read(0, 512);
        rig.read(0, 512);
        assert_eq!(rig.state(1), OPTIMIZED, "its report had agreed with what it refused");
        rig.pass(Duration::from_millis(100));
    }
}

#[test]
fn a_device_that_fails_the_question_is_served_by_what_its_ports_refuse() {
    let mut rig = rig(2);
    rig.device.unknown.push(op::MAINTENANCE_IN);
    rig.device.access.insert(1, AccessState::Standby);
    read_for(&mut rig, 10);
    assert_eq!([1, 2].map(|path| rig.state(path)), [PathState::Down, OPTIMIZED]);
    assert!(rig.answers.contains(&AccessAnswer::Nothing), "{:?}", rig.answers);
    assert!(asked(&rig) <= 4, "{}", asked(&rig));
    assert!(!rig.gone);
}

#[test]
fn a_question_that_hangs_holds_nothing_up() {
    let mut rig = rig(2);
    rig.holding = vec![op::MAINTENANCE_IN];
    rig.device.access.insert(1, AccessState::Standby);
    read_for(&mut rig, 30);
    assert_eq!(rig.held.len(), 1);
    assert_eq!([1, 2].map(|path| rig.state(path)), [PathState::Down, OPTIMIZED]);
    rig.device.access.insert(1, AccessState::Optimized);
    rig.let_go();
    assert_eq!(rig.state(1), OPTIMIZED);
}

#[test]
fn a_question_that_is_lost_with_its_path_goes_to_another_one() {
    let mut rig = rig(3);
    rig.may_ask = false;
    rig.holding = vec![op::MAINTENANCE_IN];
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.handle(Event::MayAskAccess { target: TargetId(0) });
    let (path, _) = *rig.held.front().expect("it is out");
    rig.lose(path, false);
    assert_eq!(rig.answers, [AccessAnswer::Failed]);
    rig.holding.clear();
    rig.handle(Event::MayAskAccess { target: TargetId(0) });
    assert!(matches!(rig.answers.last(), Some(AccessAnswer::Groups(_))));
}

#[test]
fn a_question_that_fails_on_one_path_goes_to_another_one() {
    let mut rig = rig(2);
    rig.may_ask = false;
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.fault(1, Fault::Reply(sense(SenseKey::HardwareError, 0x44, 0x00)));
    rig.handle(Event::MayAskAccess { target: TargetId(0) });
    assert_eq!((&rig.answers[..], asked(&rig)), (&[AccessAnswer::Failed][..], 0));
    rig.fault(1, Fault::Reply(sense(SenseKey::HardwareError, 0x44, 0x00)));
    rig.handle(Event::MayAskAccess { target: TargetId(0) });
    assert_eq!(ports(&rig, op::MAINTENANCE_IN), [2]);
}

#[test]
fn with_no_path_to_ask_on_the_disk_wants_to_know_nothing() {
    let mut rig = rig(1);
    rig.may_ask = false;
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.lose(PathId(1), false);
    rig.handle(Event::MayAskAccess { target: TargetId(0) });
    assert_eq!(rig.answers, [AccessAnswer::Nothing]);
}

#[test]
fn news_are_said_again_while_what_was_said_before_is_put_off() {
    let mut rig = rig(1);
    rig.may_ask = false;
    for _ in 0..2 {
        rig.fault(1, attention(0x2a, 0x06));
        rig.read(0, 512);
    }
    assert_eq!(rig.wanted, [(PathId(1), AccessCause::Told); 2]);
}

#[test]
fn news_that_come_while_the_question_is_out_are_asked_about_again() {
    let mut rig = rig(2);
    rig.holding = vec![op::MAINTENANCE_IN];
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.fault(2, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.read(0, 512);
    assert_eq!(rig.wanted.len(), 1);
    rig.let_go();
    assert_eq!(rig.wanted.len(), 2);
    assert_eq!(asked(&rig), 2);
}

#[test]
fn what_is_assumed_is_used_at_once_and_shown_as_such_until_it_is_verified() {
    let mut rig = rig(2);
    rig.may_ask = false;
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    assume(&mut rig, &[(1, AccessState::Standby), (2, AccessState::Optimized)]);
    assert_eq!(rig.state(1), PathState::Down);
    assert!(view(&rig, 1).is_assumed && rig.reported("assumed from another logical unit"));
    rig.device.access.insert(1, AccessState::NonOptimized);
    rig.handle(Event::MayAskAccess { target: TargetId(0) });
    assert_eq!(rig.state(1), NON_OPTIMIZED, "its own answer counts");
    assert!(!view(&rig, 1).is_assumed);
}

#[test]
fn what_a_port_has_refused_is_not_made_usable_by_an_assumption() {
    let mut rig = rig(2);
    rig.may_ask = false;
    rig.device.access.insert(1, AccessState::Standby);
    rig.read(0, 512);
    rig.read(0, 512);
    assert_eq!(rig.state(1), PathState::Down);
    assume(&mut rig, &[(1, AccessState::Optimized), (2, AccessState::Optimized)]);
    assert_eq!(rig.state(1), PathState::Down);
}

#[test]
fn the_groups_of_one_target_say_nothing_about_another_ones() {
    let mut rig = rig(1);
    let unit = Box::new(unit_at(&mut rig.device, 2));
    let target = TargetId(7);
    rig.ports.insert(PathId(2), 2);
    rig.handle(Event::PathFound { path: PathId(2), node: None, target, unit, hold: None });
    rig.device.reported_access.insert(2, Some(AccessState::Standby));
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.read(0, 512);
    assert_eq!(asked(&rig), 2, "a survey, and one question");
    assert_eq!(rig.state(2), OPTIMIZED, "group 2 of the other target is another group");
}

#[test]
fn a_port_in_standby_that_cannot_show_its_new_size_does_not_hold_back_the_disk() {
    let mut device = Device::new(8, 1);
    device.access.insert(2, AccessState::NonOptimized);
    let mut rig = Rig::new(device, 2);
    rig.device.access.insert(2, AccessState::Standby);
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.device.medium.resize(16 * 512, 0);
    rig.device.reported_blocks = 16;
    rig.fault(1, attention(0x2a, 0x09));
    rig.read(0, 512);
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(16 * 512));
    rig.device.access.insert(2, AccessState::Optimized);
    rig.fault(1, attention(0x2a, 0x06));
    rig.read(0, 512);
    assert_eq!(rig.state(2), OPTIMIZED);
    let capacity = rig.disk.unit(PathId(2)).and_then(|unit| unit.capacity);
    assert_eq!(capacity.map(|capacity| capacity.blocks), Some(16));
}

fn explicit(tpgs: PortGroupSupport, alua: Alua) -> Rig {
    let mut device = Device::new(8, 1);
    device.tpgs = tpgs;
    Rig::with_options(device, 2, Options { alua, ..with(Policy::RoundRobin, NoPath::Queue) })
}

/// Both groups go to these states, and the disk is told.
fn all_go_to(rig: &mut Rig, states: [AccessState; 2]) {
    for (group, state) in [1, 2].into_iter().zip(states) {
        rig.device.access.insert(group, state);
        rig.fault(group.into(), attention(0x2a, 0x06));
    }
    for _ in 0..4 {
        rig.read(0, 512);
    }
}

fn changes(rig: &Rig) -> Vec<u16> {
    ports(rig, op::MAINTENANCE_OUT)
}

#[test]
fn without_the_word_explicit_no_group_is_ever_changed() {
    for tpgs in [PortGroupSupport::Implicit, PortGroupSupport::Explicit, PortGroupSupport::Both] {
        let mut rig = explicit(tpgs, Options::default().alua);
        for state in [AccessState::Standby, AccessState::NonOptimized, AccessState::Unavailable] {
            all_go_to(&mut rig, [state; 2]);
            rig.pass(Duration::from_secs(600));
        }
        assert_eq!(changes(&rig), [], "{tpgs:?}");
        assert!(asked(&rig) > 0);
    }
}

#[test]
fn a_device_that_lets_nobody_change_its_groups_is_not_asked_to() {
    let mut rig = explicit(PortGroupSupport::Implicit, Alua::Explicit);
    all_go_to(&mut rig, [AccessState::Standby; 2]);
    rig.pass(Duration::from_secs(600));
    assert_eq!(changes(&rig), []);
}

#[test]
fn with_no_usable_path_a_standby_group_is_activated_at_once() {
    let mut rig = explicit(PortGroupSupport::Both, Alua::Explicit);
    rig.device.preferred = Some(2);
    all_go_to(&mut rig, [AccessState::Unavailable, AccessState::Standby]);
    assert_eq!(changes(&rig), [2], "an unavailable one need not know the command");
    assert_eq!(rig.state(2), OPTIMIZED);
    assert!(rig.reported("port group 2 of path P2 was told to become optimized"));
    assert_eq!(rig.activations_ended, 1);
    let read = rig.read(0, 512);
    rig.assert_ok(read);
}

#[test]
fn a_path_that_serves_is_activated_when_no_optimized_one_comes_back_within_five_seconds() {
    let mut rig = explicit(PortGroupSupport::Explicit, Alua::Explicit);
    all_go_to(&mut rig, [AccessState::NonOptimized, AccessState::Standby]);
    rig.pass(Duration::from_millis(4_900));
    assert_eq!(changes(&rig), []);
    rig.pass(Duration::from_millis(200));
    assert_eq!(changes(&rig), [1]);
    assert_eq!(rig.state(1), OPTIMIZED);
}

#[test]
fn a_group_that_serves_takes_over_for_one_whose_ports_are_lost() {
    let mut rig = explicit(PortGroupSupport::Both, Alua::Explicit);
    all_go_to(&mut rig, [AccessState::Optimized, AccessState::NonOptimized]);
    rig.lose(PathId(1), false);
    rig.pass(Duration::from_secs(6));
    assert_eq!(changes(&rig), [2]);
    assert_eq!(rig.state(2), OPTIMIZED);
}

#[test]
fn a_group_that_serves_takes_over_for_one_whose_path_an_operator_keeps_out() {
    let mut rig = explicit(PortGroupSupport::Both, Alua::Explicit);
    all_go_to(&mut rig, [AccessState::Optimized, AccessState::NonOptimized]);
    rig.handle(Event::Hold { path: PathId(1), hold: Some(Hold::Failed) });
    rig.pass(Duration::from_secs(6));
    assert_eq!(changes(&rig), [2]);
    assert_eq!(rig.state(2), OPTIMIZED);
}

#[test]
fn no_group_is_activated_for_a_path_that_an_operator_keeps_out() {
    let mut rig = explicit(PortGroupSupport::Both, Alua::Explicit);
    rig.handle(Event::Hold { path: PathId(1), hold: Some(Hold::Drained) });
    all_go_to(&mut rig, [AccessState::NonOptimized, AccessState::Unavailable]);
    rig.pass(Duration::from_secs(600));
    assert_eq!(changes(&rig), []);
}

#[test]
fn a_path_that_only_shows_its_identity_again_is_no_reason_to_move_anything() {
    let mut rig = explicit(PortGroupSupport::Both, Alua::Explicit);
    all_go_to(&mut rig, [AccessState::Optimized, AccessState::NonOptimized]);
    rig.holding = vec![op::INQUIRY];
    rig.fault(1, attention(0x3f, 0x03));
    rig.read(0, 512);
    rig.pass(Duration::from_secs(9));
    assert_eq!(rig.state(1), PathState::Waiting);
    assert_eq!(changes(&rig), []);
}

#[test]
fn a_device_that_cannot_is_asked_ten_times_ever_more_rarely_and_then_no_more() {
    let mut rig = explicit(PortGroupSupport::Both, Alua::Explicit);
    rig.device.unknown.push(op::MAINTENANCE_OUT);
    all_go_to(&mut rig, [AccessState::Standby; 2]);
    rig.pass(Duration::from_secs(8));
    assert_eq!(changes(&rig).len(), 4, "after 0, 1, 3 and 7 s");
    rig.pass(Duration::from_secs(24 * 3600));
    assert_eq!(changes(&rig).len(), 10);
    assert!(rig.reported("does not become optimized: command not supported; 0 more attempts"));
    rig.device.unknown.clear();
    rig.device.access.insert(1, AccessState::Optimized);
    rig.pass(Duration::from_secs(120));
    assert_eq!(rig.state(1), OPTIMIZED, "its states are asked for all the same");
    all_go_to(&mut rig, [AccessState::Standby; 2]);
    assert_eq!(changes(&rig).len(), 11, "after a time of peace it may be asked again");
}

#[test]
fn whose_turn_it_is_says_the_driver() {
    let mut rig = explicit(PortGroupSupport::Both, Alua::Explicit);
    rig.may_ask = false;
    all_go_to(&mut rig, [AccessState::Standby; 2]);
    rig.pass(Duration::from_secs(10));
    assert_eq!(changes(&rig), []);
    rig.handle(Event::MayActivate { target: TargetId(0) });
    assert_eq!(changes(&rig).len(), 1);
    rig.handle(Event::MayActivate { target: TargetId(0) });
    assert_eq!((changes(&rig).len(), rig.activations_ended), (1, 2), "it wants no second one");
}

fn checked_every(seconds: u64) -> Rig {
    let path_check = (seconds > 0).then(|| Duration::from_secs(seconds));
    Rig::with_options(Device::new(8, 1), 2, Options { path_check, ..with(Policy::RoundRobin, NoPath::Queue) })
}

#[test]
fn idle_paths_are_asked_nothing_unless_that_was_asked_for() {
    for (seconds, expected) in [(0, 0), (60, 20)] {
        let mut rig = checked_every(seconds);
        rig.pass(Duration::from_secs(600));
        assert_eq!(rig.device.log.len(), expected, "{:?}", rig.device.log);
    }
}

#[test]
fn a_path_that_is_used_is_not_asked_whether_it_is_ready() {
    let mut rig = checked_every(60);
    rig.device.access.insert(2, AccessState::NonOptimized);
    rig.fault(1, attention(0x2a, 0x06));
    for _ in 0..30 {
        let read = rig.read(0, 512);
        rig.assert_ok(read);
        rig.pass(Duration::from_secs(10));
    }
    assert_eq!(ports(&rig, op::TEST_UNIT_READY), [2; 5], "the other one is");
}

#[test]
fn what_an_idle_path_has_to_tell_is_heard_at_its_next_check() {
    let mut rig = checked_every(60);
    rig.device.access.insert(1, AccessState::Unavailable);
    rig.pass(Duration::from_secs(61));
    assert_eq!(rig.state(1), PathState::Down);
    assert_eq!(asked(&rig), 1);
    rig.pass(Duration::from_secs(600));
    assert_eq!(rig.state(1), PathState::Down);
    rig.device.access.insert(1, AccessState::Optimized);
    rig.pass(Duration::from_secs(61));
    assert_eq!(rig.state(1), OPTIMIZED, "no lie is counted for being asked in vain");
}

#[test]
fn a_path_that_is_asked_in_vain_again_and_again_has_not_lied() {
    let mut rig = checked_every(5);
    rig.device.access.insert(1, AccessState::Unavailable);
    rig.pass(Duration::from_millis(60_200));
    rig.device.access.insert(1, AccessState::Optimized);
    rig.fault(2, attention(0x2a, 0x06));
    rig.read(0, 512);
    rig.read(0, 512);
    assert_eq!(rig.state(1), OPTIMIZED);
}

#[test]
fn a_check_of_a_path_in_transition_does_not_keep_the_end_of_it_unknown() {
    let mut rig = checked_every(1);
    rig.device.access.extend([1, 2].map(|group| (group, AccessState::Transitioning)));
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(3));
    rig.device.access.insert(1, AccessState::NonOptimized);
    rig.pass(Duration::from_secs(2));
    rig.assert_ok(read);
}

#[test]
fn a_check_that_hangs_holds_nothing_up() {
    let mut rig = checked_every(10);
    rig.holding = vec![op::TEST_UNIT_READY];
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.held.len(), 2, "one for each path");
    let reads = [0; 4].map(|_| rig.read(0, 512));
    reads.iter().for_each(|read| rig.assert_ok(*read));
}

/// A read is out on P1 when that path is told to be in standby, in the way of `tell`; then it is refused.
fn refused_late(tell: impl Fn(&mut Rig)) -> Rig {
    let mut rig = rig(2);
    rig.holding.push(op::READ_16);
    let reads = [rig.read(0, 512), rig.read(0, 512)];
    tell(&mut rig);
    assert_eq!(rig.state(1), PathState::Down);
    rig.fault(1, Fault::Reply(sense(SenseKey::NotReady, 0x04, 0x0b)));
    rig.may_ask = false;
    rig.let_go();
    for read in reads {
        rig.assert_ok(read);
    }
    rig
}

#[test]
fn what_a_path_refuses_while_its_state_is_only_assumed_is_not_undone_by_another_assumption() {
    let (usable, standby) = (AccessState::Optimized, AccessState::Standby);
    let mut rig = refused_late(|rig| {
        rig.may_ask = false;
        assume(rig, &[(1, standby), (2, usable)]);
    });
    assume(&mut rig, &[(1, usable), (2, usable)]);
    assert_eq!(rig.state(1), PathState::Down, "it has said itself that it is not");
}

#[test]
fn what_a_path_refuses_after_its_group_was_reported_is_not_undone_by_an_assumption() {
    let usable = AccessState::Optimized;
    let mut rig = refused_late(|rig| {
        rig.device.access.insert(1, AccessState::Standby);
        rig.fault(2, attention(0x2a, 0x06));
        rig.holding.clear();
        rig.read(0, 512);
        rig.read(0, 512);
        rig.holding.push(op::READ_16);
    });
    assume(&mut rig, &[(1, usable), (2, usable)]);
    assert_eq!(rig.state(1), PathState::Down, "it has said itself that it is not");
}
