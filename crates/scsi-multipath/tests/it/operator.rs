//! What an operator does to a path.

use clock::Duration;
use multipath::{Access, PathId, PathState};
use scsi::SenseKey;
use scsi::cdb::operation as op;
use scsi_multipath::{Event, Failure, Hold};

use crate::device::{BLOCK_LENGTH, Device, sense};
use crate::rig::{Fault, Rig};

const USABLE: PathState = PathState::Usable(Access::Optimized);

fn take_out(rig: &mut Rig, path: u32, hold: Hold) {
    rig.handle(Event::Hold { path: PathId(path), hold: Some(hold) });
}

fn give_back(rig: &mut Rig, path: u32) {
    rig.handle(Event::Hold { path: PathId(path), hold: None });
}

#[test]
fn a_path_that_an_operator_failed_takes_nothing_although_it_works() {
    let mut rig = Rig::new(Device::new(64, 2), 2);
    take_out(&mut rig, 1, Hold::Failed);
    assert_eq!(rig.state(1), PathState::Down);
    assert!(rig.reported("path P1 optimized -> down: failed by operator"), "{:?}", rig.reports);
    let read = rig.read(0, BLOCK_LENGTH);
    rig.assert_ok(read);
    rig.pass(Duration::from_secs(300));
    assert_eq!(rig.state(1), PathState::Down, "no probe brings it back");
}

#[test]
fn a_path_that_an_operator_failed_is_not_used_when_every_other_one_is_gone() {
    let mut rig = Rig::new(Device::new(64, 2), 2);
    take_out(&mut rig, 1, Hold::Failed);
    rig.lose(PathId(2), false);
    let read = rig.read(0, BLOCK_LENGTH);
    assert_eq!(rig.completion(read), Some(Err(block::Error::Io)), "the no-path policy decides");
}

#[test]
fn a_path_that_is_given_back_shows_its_identity_before_it_is_used() {
    let mut rig = Rig::new(Device::new(64, 1), 1);
    take_out(&mut rig, 1, Hold::Drained);
    rig.device.log.clear();
    rig.holding.push(op::INQUIRY);
    give_back(&mut rig, 1);
    assert_eq!((rig.state(1), rig.held.len()), (PathState::Waiting, 1));
    rig.let_go();
    assert_eq!(rig.state(1), USABLE);
}

#[test]
fn a_path_that_joins_while_an_operator_holds_it_takes_nothing() {
    let mut rig = Rig::new(Device::new(64, 2), 1);
    rig.hold = Some(Hold::Failed);
    rig.find(PathId(2), 2);
    assert_eq!(rig.state(2), PathState::Down);
    give_back(&mut rig, 2);
    assert_eq!(rig.state(2), USABLE);
}

#[test]
fn what_is_in_flight_on_a_drained_path_ends_there() {
    let mut rig = Rig::new(Device::new(64, 2), 2);
    rig.holding.push(op::READ_16);
    let reads = [rig.read(0, BLOCK_LENGTH), rig.read(0, BLOCK_LENGTH)];
    take_out(&mut rig, 1, Hold::Drained);
    rig.let_go();
    reads.iter().for_each(|read| rig.assert_ok(*read));
}

#[test]
fn a_check_reads_a_block_and_tells_what_came_of_it() {
    let mut rig = Rig::new(Device::new(64, 2), 2);
    rig.fault(1, Fault::Reply(sense(SenseKey::UnitAttention, 0x2a, 0x01)));
    rig.handle(Event::Check { path: PathId(1) });
    rig.fault(2, Fault::Reply(sense(SenseKey::MediumError, 0x11, 0x00)));
    rig.handle(Event::Check { path: PathId(2) });
    rig.handle(Event::Check { path: PathId(9) });
    let expected =
        [(PathId(1), Ok(())), (PathId(2), Err(Failure::Medium)), (PathId(9), Err(Failure::Transport))];
    assert_eq!(rig.checked, expected);
}
