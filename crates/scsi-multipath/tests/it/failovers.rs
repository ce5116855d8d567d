//! What a disk does when a path, or what is behind it, is not what it was.

use block::Error;
use clock::Duration;
use multipath::{Access, NoPath, PathId, PathState};
use scsi::cdb::operation as op;
use scsi::inquiry::PortGroupSupport;
use scsi::port_groups::AccessState;
use scsi::{Ending, Reply, SenseKey, Status};
use scsi_multipath::{Contradiction, Event, Options};

use crate::device::{BLOCK, Device, sense};
use crate::rig::{Fault, Rig, unit_at};

const OPTIMIZED: PathState = PathState::Usable(Access::Optimized);

fn ports(rig: &Rig, code: u8) -> Vec<u16> {
    rig.device.log.iter().filter(|(_, each)| *each == code).map(|(port, _)| *port).collect()
}

fn attention(asc: u8, ascq: u8) -> Fault {
    Fault::Reply(sense(SenseKey::UnitAttention, asc, ascq))
}

fn not_ready(ascq: u8) -> Fault {
    Fault::Reply(sense(SenseKey::NotReady, 0x04, ascq))
}

#[test]
fn a_write_whose_answer_is_lost_is_sent_again_on_the_other_path() {
    for fault in [Fault::LostBefore, Fault::LostAfter, Fault::NotSent] {
        let mut rig = Rig::new(Device::new(8, 1), 2);
        rig.fault(1, fault);
        let write = rig.write(0, &[3; BLOCK]);
        rig.assert_ok(write);
        assert_eq!(ports(&rig, op::WRITE_16).last(), Some(&2));
        assert_eq!(rig.device.medium[..BLOCK], [3; BLOCK]);
        assert_eq!(rig.state(1), PathState::Down);
    }
}

#[test]
fn a_path_that_failed_once_comes_back_when_it_answers() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.fault(1, Fault::LostBefore);
    rig.write(0, &[3; BLOCK]);
    assert_eq!(rig.state(1), PathState::Down);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.state(1), OPTIMIZED);
    assert_eq!(ports(&rig, op::INQUIRY), [1], "its identity was read first");
}

#[test]
fn a_lost_path_is_asked_nothing_and_stays_down() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.handle(Event::PathLost { path: PathId(1) });
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.state(1), PathState::Down);
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    assert_eq!(rig.device.log, [(2, op::READ_16)]);
}

#[test]
fn without_any_path_requests_fail_or_wait_as_they_were_told() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.handle(Event::PathLost { path: PathId(1) });
    let fails = rig.write(0, &[1; BLOCK]);
    rig.assert_failed(fails, Error::Io);
    rig.handle(Event::SetNoPath(NoPath::QueueFor(Duration::from_secs(20))));
    rig.find(PathId(2), 2);
    rig.handle(Event::PathLost { path: PathId(2) });
    let waits = rig.write(0, &[1; BLOCK]);
    rig.pass(Duration::from_secs(19));
    assert_eq!(rig.completion(waits), None);
    rig.find(PathId(3), 3);
    rig.assert_ok(waits);
}

#[test]
fn after_a_unit_attention_the_identity_is_read_before_anything_is_written() {
    for (asc, ascq) in [(0x29, 0x00), (0x29, 0x03), (0x2a, 0x09), (0x3f, 0x03), (0x3f, 0x0e)] {
        let mut rig = Rig::new(Device::new(8, 1), 1);
        rig.fault(1, attention(asc, ascq));
        let write = rig.write(0, &[3; BLOCK]);
        rig.assert_ok(write);
        let order: Vec<u8> = rig.device.log.iter().map(|(_, code)| *code).collect();
        let inquiry = order.iter().position(|&code| code == op::INQUIRY).expect("it was asked");
        let write = order.iter().position(|&code| code == op::WRITE_16).expect("it was written");
        assert!(inquiry < write, "{asc:02x}/{ascq:02x}: {order:02x?}");
    }
}

#[test]
fn what_a_device_says_again_and_again_is_reported_once() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    for _ in 0..5 {
        rig.fault(1, Fault::Executed(sense(SenseKey::RecoveredError, 0x18, 0x00)));
        let read = rig.read(0, 512);
        rig.assert_ok(read);
    }
    let lines: Vec<_> =
        rig.reports.iter().map(ToString::to_string).filter(|line| line.contains("18/00")).collect();
    assert_eq!(lines, ["path P1 says RecoveredError 18/00: notice"]);
}

#[test]
fn while_one_path_shows_its_identity_the_other_carries_on() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.holding = vec![op::INQUIRY];
    rig.fault(1, attention(0x29, 0x00));
    let write = rig.write(0, &[3; BLOCK]);
    rig.assert_ok(write);
    assert_eq!(ports(&rig, op::WRITE_16), [2]);
    assert_eq!(rig.state(1), PathState::Waiting);
    rig.let_go();
    assert_eq!(rig.state(1), OPTIMIZED);
}

#[test]
fn a_path_that_does_not_show_its_identity_in_time_is_down() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.holding = vec![op::INQUIRY];
    rig.fault(1, attention(0x29, 0x00));
    rig.write(0, &[3; BLOCK]);
    rig.pass(Duration::from_secs(11));
    assert_eq!(rig.state(1), PathState::Down);
    assert!(rig.reported("no answer in time"));
}

#[test]
fn a_path_that_shows_another_unit_is_never_written_to() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.device.designators = Device::new(8, 2).designators;
    rig.fault(1, attention(0x3f, 0x0e));
    let write = rig.write(0, &[3; BLOCK]);
    rig.assert_failed(write, Error::Io);
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.device.executed(op::WRITE_16), 0);
    assert_eq!(rig.state(1), PathState::Down);
    assert!(rig.reported("quarantined: it is naa.60111111111111111111111111111102, not"));
    assert!(rig.reported("its logical units changed"));
}

#[test]
fn unit_attentions_without_end_come_to_an_end() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    for _ in 0..200 {
        rig.fault(1, attention(0x5d, 0x00));
    }
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(100));
    rig.assert_failed(read, Error::Io);
}

#[test]
fn requests_wait_for_the_end_of_a_transition() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.device.access.insert(1, AccessState::Transitioning);
    let write = rig.write(0, &[3; BLOCK]);
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.completion(write), None);
    assert_eq!(rig.state(1), PathState::Waiting);
    assert_eq!(rig.device.executed(op::MAINTENANCE_IN), 6, "asked at once and then every second");
    rig.device.access.insert(1, AccessState::NonOptimized);
    rig.pass(Duration::from_secs(1));
    rig.assert_ok(write);
    assert_eq!(rig.state(1), PathState::Usable(Access::NonOptimized));
}

#[test]
fn a_transition_that_takes_longer_than_the_device_says_is_over() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.device.access.insert(1, AccessState::Transitioning);
    let write = rig.write(0, &[3; BLOCK]);
    // The device says 20 seconds in its extended header.
    rig.pass(Duration::from_secs(19));
    assert_eq!(rig.completion(write), None);
    rig.pass(Duration::from_secs(2));
    rig.assert_failed(write, Error::Io);
}

#[test]
fn one_answer_about_port_groups_is_for_all_paths() {
    let mut rig = Rig::new(Device::new(8, 1), 3);
    rig.device.access.insert(1, AccessState::Standby);
    rig.device.access.insert(2, AccessState::NonOptimized);
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    assert_eq!(rig.state(1), PathState::Down);
    assert_eq!(rig.state(2), PathState::Usable(Access::NonOptimized));
    assert_eq!(rig.state(3), OPTIMIZED);
    assert_eq!(rig.device.executed(op::MAINTENANCE_IN), 1);
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    assert_eq!(ports(&rig, op::READ_16).last(), Some(&3));
}

#[test]
fn a_change_of_access_states_is_noticed_by_its_unit_attention() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.device.access.insert(1, AccessState::NonOptimized);
    rig.fault(1, attention(0x2a, 0x06));
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    assert_eq!(rig.state(1), PathState::Usable(Access::NonOptimized));
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    assert_eq!(ports(&rig, op::READ_16).last(), Some(&2));
}

#[test]
fn when_all_paths_are_in_standby_the_device_is_asked_until_one_is_not() {
    let options = Options::default();
    let head = multipath::Options { no_path: NoPath::Queue, ..options.head };
    let mut rig = Rig::with_options(Device::new(8, 1), 2, Options { head, ..options });
    rig.device.access.insert(1, AccessState::Standby);
    rig.device.access.insert(2, AccessState::Unavailable);
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(30));
    assert_eq!(rig.completion(read), None);
    rig.device.access.insert(2, AccessState::Optimized);
    rig.pass(Duration::from_secs(3));
    rig.assert_ok(read);
}

#[test]
fn a_path_in_standby_is_asked_rarely_while_another_works() {
    let mut device = Device::new(8, 1);
    device.access.insert(2, AccessState::Standby);
    let mut rig = Rig::new(device, 2);
    rig.pass(Duration::from_secs(600));
    assert_eq!(ports(&rig, op::MAINTENANCE_IN), [1; 10], "once a minute, on the path that works");
}

#[test]
fn a_path_found_in_standby_joins_and_shows_its_capacity_before_it_is_used() {
    let mut device = Device::new(8, 1);
    device.access.insert(2, AccessState::Standby);
    let mut rig = Rig::new(device, 2);
    assert_eq!(rig.joined, [PathId(1), PathId(2)]);
    assert_eq!(rig.disk.unit(PathId(2)).and_then(|unit| unit.capacity), None);
    rig.device.access.insert(2, AccessState::Optimized);
    rig.pass(Duration::from_secs(61));
    assert_eq!(rig.state(2), OPTIMIZED);
    let capacity = rig.disk.unit(PathId(2)).and_then(|unit| unit.capacity);
    assert_eq!(capacity.map(|capacity| capacity.blocks), Some(8));
}

#[test]
fn a_standby_port_of_a_device_without_groups_is_tried_again() {
    let mut device = Device::new(8, 1);
    device.tpgs = PortGroupSupport::None;
    let mut rig = Rig::new(device, 1);
    rig.fault(1, not_ready(0x0b));
    let read = rig.read(0, 512);
    assert_eq!(rig.completion(read), None);
    rig.pass(Duration::from_secs(2));
    rig.assert_ok(read);
    assert_eq!(rig.device.executed(op::MAINTENANCE_IN), 0);
}

#[test]
fn a_busy_device_is_asked_again_before_another_path_is_tried() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    let busy = || Fault::Reply(Reply { status: Status::Busy, ..Reply::good() });
    (0..3).for_each(|_| rig.fault(1, busy()));
    let read = rig.read(0, 512);
    assert_eq!(rig.completion(read), None);
    rig.pass(Duration::from_secs(1));
    rig.assert_ok(read);
    assert_eq!(ports(&rig, op::READ_16), [1]);
    (0..30).for_each(|_| rig.fault(1, busy()));
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(2));
    rig.assert_ok(read);
    assert_eq!(ports(&rig, op::READ_16), [1, 2]);
}

#[test]
fn a_unit_that_formats_itself_is_waited_for_and_then_given_up() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    (0..10).for_each(|_| rig.fault(1, not_ready(0x04)));
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(19));
    assert_eq!(rig.completion(read), None);
    rig.pass(Duration::from_secs(2));
    rig.assert_ok(read);
    (0..100).for_each(|_| rig.fault(1, not_ready(0x04)));
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(100));
    rig.assert_failed(read, Error::Io);
    assert_eq!(rig.state(1), OPTIMIZED, "it was not the path's fault");
}

#[test]
fn an_error_of_the_medium_fails_the_request_and_no_path() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    for _ in 0..20 {
        rig.fault(1, Fault::Reply(sense(SenseKey::MediumError, 0x11, 0x00)));
        let read = rig.read(0, 512);
        rig.assert_failed(read, Error::Io);
    }
    assert_eq!((rig.state(1), rig.state(2)), (OPTIMIZED, OPTIMIZED));
    assert_eq!(rig.device.log, []);
}

#[test]
fn an_internal_failure_is_tried_as_often_as_there_are_paths() {
    let mut rig = Rig::new(Device::new(8, 1), 3);
    let failure = || Fault::Reply(sense(SenseKey::HardwareError, 0x44, 0x00));
    (1..=3).for_each(|path| (0..3).for_each(|_| rig.fault(path, failure())));
    let read = rig.read(0, 512);
    rig.assert_failed(read, Error::Io);
    assert_eq!(rig.faults.values().map(|left| 3 - left.len()).sum::<usize>(), 3);
    assert_eq!([1, 2, 3].map(|path| rig.state(path)), [OPTIMIZED; 3], "no path is to blame");
}

#[test]
fn a_command_that_was_aborted_is_sent_again_even_on_an_only_path() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.fault(1, Fault::Aborted);
    let write = rig.write(0, &[4; BLOCK]);
    rig.pass(Duration::from_secs(10));
    rig.assert_ok(write);
}

#[test]
fn a_unit_that_is_gone_on_one_path_is_served_by_the_other() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.fault(1, Fault::Reply(sense(SenseKey::IllegalRequest, 0x25, 0x00)));
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    assert_eq!(rig.state(1), PathState::Down);
    assert!(rig.reported("logical unit not there"));
}

#[test]
fn a_disk_grows_when_all_its_paths_have_grown() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.device.medium.resize(16 * BLOCK, 0);
    rig.device.reported_blocks = 16;
    rig.fault(1, attention(0x2a, 0x09));
    rig.read(0, 512);
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(16 * 512));
    assert!(rig.reported("size 4096 -> 8192 bytes"));
    let write = rig.write(15 * 512, &[1; BLOCK]);
    rig.assert_ok(write);
}

#[test]
fn a_success_on_a_path_whose_identity_is_in_doubt_is_none() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.holding = vec![op::WRITE_16, op::INQUIRY];
    let write = rig.write(0, &[1; BLOCK]);
    let (path, command) = rig.held.pop_front().expect("it is out");
    rig.handle(Event::Doubt { path });
    // Perhaps it was another unit that says so.
    rig.handle(Event::Ended(command, Ending::Reply(Reply::good())));
    assert_eq!(rig.completion(write), None);
    assert!(rig.held.iter().any(|(other, held)| *other != path && held.cdb.operation_code() == op::WRITE_16));
    rig.let_go();
    rig.assert_ok(write);
    let read = rig.read(0, 512);
    assert_eq!(rig.data(read), [1; BLOCK]);
}

#[test]
fn an_answer_that_comes_while_the_identity_is_in_doubt_is_asked_for_again_after_it() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.device.reported_blocks = 4;
    rig.holding = vec![op::SERVICE_ACTION_IN_16];
    rig.fault(1, attention(0x2a, 0x09));
    rig.read(0, 512);
    let (path, mut command) = rig.held.pop_front().expect("it asks how large the unit is");
    let reply = rig.device.execute(1, &mut command);
    rig.device.reported_blocks = 8;
    rig.holding.push(op::INQUIRY);
    rig.handle(Event::Doubt { path });
    rig.handle(Event::Ended(command, Ending::Reply(reply)));
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(8 * 512), "who knows whose size that was");
    let codes: Vec<u8> = rig.held.iter().map(|(_, held)| held.cdb.operation_code()).collect();
    assert_eq!(codes, [op::INQUIRY], "identity first");
    rig.let_go();
    assert_eq!(rig.device.log.last(), Some(&(1, op::SERVICE_ACTION_IN_16)));
}

#[test]
fn a_path_that_could_not_send_gives_back_what_waits_behind() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.fault(1, Fault::NotSent);
    let write = rig.write(0, &[1; BLOCK]);
    rig.assert_ok(write);
    assert_eq!(rig.withdrawn, [PathId(1)], "its session lives, and would send it without another look");
    rig.lose(PathId(2), false);
    assert_eq!(rig.withdrawn, [PathId(1)], "a session that is over gives back everything by itself");
}

#[test]
fn a_capacity_that_was_told_before_the_last_change_is_asked_for_again() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.device.reported_blocks = 4;
    rig.holding = vec![op::SERVICE_ACTION_IN_16];
    rig.fault(1, attention(0x2a, 0x09));
    rig.read(0, 512);
    assert_eq!(rig.held.len(), 2, "both paths are asked");
    // The second path has answered when the unit grows back, and its answer is on its way.
    let place = rig.held.iter().position(|(path, _)| *path == PathId(2)).expect("it is asked");
    let (_, mut command) = rig.held.remove(place).expect("it is there");
    let reply = rig.device.execute(2, &mut command);
    rig.device.reported_blocks = 8;
    rig.fault(1, attention(0x2a, 0x09));
    rig.read(0, 512);
    rig.handle(Event::Ended(command, Ending::Reply(reply)));
    rig.let_go();
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(8 * 512));
}

#[test]
fn a_disk_that_shrank_refuses_what_is_beyond_its_end() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.device.medium.truncate(4 * BLOCK);
    rig.device.reported_blocks = 4;
    let write = rig.write(7 * 512, &[1; BLOCK]);
    rig.assert_failed(write, Error::NoSpace);
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(4 * 512));
    let executed = rig.device.log.len();
    let write = rig.write(7 * 512, &[1; BLOCK]);
    rig.assert_failed(write, Error::NoSpace);
    assert_eq!(rig.device.log.len(), executed);
}

#[test]
fn a_path_joins_only_if_it_shows_the_same_unit() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    let same = unit_at(&mut rig.device, 2);
    let mut refusal = |change: &dyn Fn(&mut scsi_multipath::Unit)| {
        let mut unit = same.clone();
        change(&mut unit);
        rig.found(PathId(9), 2, unit);
        let (path, reason) = rig.refused.pop().expect("it was refused");
        assert_eq!(path, PathId(9));
        reason
    };
    let other = unit_at(&mut Device::new(8, 2), 1).identity;
    assert!(matches!(refusal(&|unit| unit.identity = other.clone()), Contradiction::Name { .. }));
    let capacity = same.capacity.expect("it is known");
    let blocks = scsi_multipath::Capacity { blocks: 9, ..capacity };
    assert_eq!(refusal(&|unit| unit.capacity = Some(blocks)), Contradiction::Blocks { ours: 8, theirs: 9 });
    let block_size = scsi_multipath::Capacity { block_size: 4096, ..capacity };
    assert_eq!(
        refusal(&|unit| unit.capacity = Some(block_size)),
        Contradiction::BlockSize { ours: 512, theirs: 4096 }
    );
    let protection = scsi::capacity::ProtectionType::Type1;
    let protected = scsi_multipath::Capacity { protection, ..capacity };
    assert!(matches!(refusal(&|unit| unit.capacity = Some(protected)), Contradiction::Protection { .. }));
    let device_type = scsi::inquiry::DeviceType::HostManagedZoned;
    assert!(matches!(refusal(&|unit| unit.device_type = device_type), Contradiction::DeviceType { .. }));
    rig.found(PathId(9), 2, same);
    assert_eq!(rig.joined, [PathId(1), PathId(9)]);
}

#[test]
fn a_path_that_is_larger_makes_the_others_look_again() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.device.medium.resize(16 * BLOCK, 0);
    rig.device.reported_blocks = 16;
    rig.find(PathId(2), 2);
    assert_eq!(rig.refused.len(), 1);
    rig.pass(Duration::from_secs(1));
    rig.find(PathId(2), 2);
    assert_eq!(rig.joined, [PathId(1), PathId(2)]);
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(16 * 512));
}

#[test]
fn the_last_path_may_be_away_for_the_delayed_removal() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.handle(Event::SetDelayedRemoval(Duration::from_secs(10)));
    rig.handle(Event::PathLost { path: PathId(1) });
    rig.handle(Event::PathRemoved { path: PathId(1) });
    let waits = rig.write(0, &[1; BLOCK]);
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.completion(waits), None);
    rig.find(PathId(2), 2);
    rig.assert_ok(waits);
    rig.handle(Event::PathRemoved { path: PathId(2) });
    let waits = rig.write(0, &[1; BLOCK]);
    rig.pass(Duration::from_secs(10));
    rig.assert_failed(waits, Error::Shutdown);
    assert!(rig.gone);
}

#[test]
fn a_shutdown_waits_for_what_is_in_flight_then_flushes_and_goes() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.holding = vec![op::WRITE_16];
    let write = rig.write(0, &[1; BLOCK]);
    rig.handle(Event::Shutdown);
    let late = rig.read(0, 512);
    rig.assert_failed(late, Error::Shutdown);
    assert!(!rig.gone);
    rig.let_go();
    rig.assert_ok(write);
    assert_eq!(rig.device.executed(op::SYNCHRONIZE_CACHE_16), 1);
    assert!(rig.gone);
}

#[test]
fn a_shutdown_with_nothing_written_sends_nothing() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.handle(Event::Shutdown);
    assert!(rig.gone);
    assert_eq!(rig.device.log, []);
}

#[test]
fn a_shutdown_ends_even_if_a_path_never_comes_back() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.device.access.insert(1, AccessState::Transitioning);
    let waits = rig.write(0, &[1; BLOCK]);
    rig.handle(Event::Shutdown);
    assert_eq!(rig.completion(waits), None);
    rig.pass(Duration::from_secs(31));
    assert!(rig.completion(waits).is_some_and(|completion| completion.is_err()));
    assert!(rig.gone);
}

#[test]
fn a_disk_does_not_go_while_a_question_is_out() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.holding = vec![op::INQUIRY];
    rig.fault(1, Fault::LostBefore);
    rig.write(0, &[1; BLOCK]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.held.len(), 1);
    rig.handle(Event::PathRemoved { path: PathId(1) });
    assert!(!rig.gone);
    rig.let_go();
    assert!(rig.gone);
}
