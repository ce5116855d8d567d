//! What happens between the loss of a write and the proof that nothing is left of it.

use block::Error;
use clock::Duration;
use multipath::{NoPath, PathId, Policy};
use scsi::cdb::operation as op;
use scsi::{Ending, SenseKey};
use scsi_multipath::{Event, FencePolicy, Function, Managed, Options, Proof, Sharing, TargetId};

use crate::device::{BLOCK, Device, sense};
use crate::rig::{Fault, Fencing, Rig};

const OLD: [u8; BLOCK] = [1; BLOCK];
const NEW: [u8; BLOCK] = [2; BLOCK];
const AFTER: [u8; BLOCK] = [3; BLOCK];

fn rig(paths: u16, options: Options) -> Rig {
    let mut rig = Rig::with_options(Device::new(8, 1), paths, options);
    rig.fencing = Fencing::ByHand;
    rig
}

fn bounded(seconds: u64) -> Options {
    Options { fence: FencePolicy::Bounded { wait: Duration::from_secs(seconds) }, ..Options::default() }
}

fn strict() -> Options {
    Options { fence: FencePolicy::Strict, ..Options::default() }
}

/// A write to block 0 whose first copy the target of path 1 still has; path 1 is lost.
fn haunted(rig: &mut Rig) {
    rig.fault(1, Fault::LostLate);
    let write = rig.write(0, &OLD);
    rig.lose(PathId(1), false);
    if rig.completion(write).is_some() {
        rig.assert_ok(write);
    }
}

#[test]
fn a_write_of_unknown_fate_is_acknowledged_at_once_and_only_what_overlaps_it_waits() {
    let mut rig = rig(2, strict());
    haunted(&mut rig);
    assert_eq!(rig.device.medium[..BLOCK], OLD, "the same bytes went by the other path");
    let (overlapping, beside, read) = (rig.write(0, &NEW), rig.write(BLOCK as u64, &AFTER), rig.read(0, 512));
    assert_eq!(rig.completion(overlapping), None);
    rig.assert_ok(beside);
    rig.assert_ok(read);
    rig.haunt();
    rig.prove(PathId(1), Proof::Reinstated);
    rig.assert_ok(overlapping);
    assert_eq!(rig.device.medium[..BLOCK], NEW);
    assert!(rig.reported("fence of path P1 proved"), "{:?}", rig.reports);
    assert_eq!(rig.disk.fences().count(), 0);
}

#[test]
fn without_a_fence_the_late_copy_undoes_the_newer_write() {
    let mut rig = rig(2, Options { fence: FencePolicy::Unsafe, ..Options::default() });
    haunted(&mut rig);
    let newer = rig.write(0, &NEW);
    rig.assert_ok(newer);
    rig.haunt();
    assert_eq!(rig.device.medium[..BLOCK], OLD, "this is what fences are for");
}

#[test]
fn a_write_that_failed_stays_in_quarantine_because_it_may_still_happen() {
    let mut rig =
        rig(1, Options { head: multipath::Options { no_path: NoPath::Fail, ..strict().head }, ..strict() });
    rig.fault(1, Fault::LostLate);
    let write = rig.write(0, &OLD);
    rig.lose(PathId(1), false);
    rig.assert_failed(write, Error::Io);
    rig.find(PathId(2), 2);
    let newer = rig.write(0, &NEW);
    assert_eq!(rig.completion(newer), None);
    rig.prove(PathId(1), Proof::Reinstated);
    rig.assert_ok(newer);
}

#[test]
fn a_write_lost_on_two_paths_waits_for_both_fences() {
    let mut rig = rig(3, strict());
    rig.fault(1, Fault::LostLate);
    rig.fault(2, Fault::LostLate);
    rig.holding = vec![op::INQUIRY];
    let write = rig.write(0, &OLD);
    rig.assert_ok(write);
    assert_eq!(rig.owed.len(), 2);
    let newer = rig.write(0, &NEW);
    let (first, second) = (rig.owed[0], rig.owed[1]);
    rig.prove(first, Proof::Reinstated);
    assert_eq!(rig.completion(newer), None);
    rig.prove(second, Proof::Reinstated);
    rig.assert_ok(newer);
}

#[test]
fn on_a_shared_unit_the_write_itself_waits_for_its_fence() {
    let mut rig = rig(2, Options { sharing: Sharing::Shared, ..strict() });
    rig.fault(1, Fault::LostLate);
    let write = rig.write(0, &OLD);
    rig.lose(PathId(1), false);
    assert_eq!((rig.completion(write), rig.device.executed(op::WRITE_16)), (None, 0));
    rig.prove(PathId(1), Proof::Reinstated);
    rig.assert_ok(write);
    assert_eq!(rig.device.medium[..BLOCK], OLD);
}

#[test]
fn a_read_or_a_flush_of_unknown_fate_needs_no_fence() {
    let mut device = Device::new(8, 1);
    device.write_cache = true;
    let head = multipath::Options { no_path: NoPath::Queue, ..strict().head };
    let mut rig = Rig::with_options(device, 2, Options { head, ..strict() });
    rig.fencing = Fencing::ByHand;
    for path in [1, 2] {
        rig.fault(path, Fault::LostBefore);
    }
    let read = rig.read(0, 512);
    rig.pass(Duration::from_secs(5));
    rig.assert_ok(read);
    for path in [1, 2] {
        rig.fault(path, Fault::LostBefore);
    }
    let flush = rig.flush();
    rig.pass(Duration::from_secs(5));
    rig.assert_ok(flush);
    assert_eq!(rig.owed, []);
}

#[test]
fn a_bounded_fence_resets_the_unit_through_another_port_and_is_waived_by_the_timer() {
    let mut rig = rig(2, bounded(30));
    haunted(&mut rig);
    let newer = rig.write(0, &NEW);
    rig.pass(Duration::from_millis(29_900));
    assert_eq!((rig.completion(newer), rig.functions.len()), (None, 0));
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.functions, [(PathId(2), Function::LogicalUnitReset)]);
    assert_eq!(rig.completion(newer), None, "not before the reset is answered");
    rig.haunt();
    rig.answer(Managed::Complete);
    rig.assert_ok(newer);
    assert!(rig.reported("waived by the timer"));
    assert_eq!(rig.owed, [], "nobody works on it any more");
}

#[test]
fn a_reset_that_is_lost_is_tried_again() {
    let mut rig = rig(2, bounded(30));
    haunted(&mut rig);
    let newer = rig.write(0, &NEW);
    rig.pass(Duration::from_secs(31));
    rig.answer(Managed::Lost);
    assert_eq!(rig.completion(newer), None);
    rig.pass(Duration::from_secs(2));
    rig.answer(Managed::Complete);
    rig.assert_ok(newer);
}

#[test]
fn another_target_device_is_not_asked_to_drain_what_it_does_not_know() {
    let mut rig = rig(1, bounded(30));
    let unit = crate::rig::unit_at(&mut rig.device, 2);
    rig.ports.insert(PathId(2), 2);
    let path = PathId(2);
    let target = TargetId(7);
    rig.handle(Event::PathFound { path, node: None, target, unit: Box::new(unit), hold: None });
    haunted(&mut rig);
    let newer = rig.write(0, &NEW);
    rig.pass(Duration::from_secs(31));
    assert_eq!(rig.functions.len(), 0);
    rig.assert_ok(newer);
    assert!(rig.reported("waived by the timer"));
}

#[test]
fn a_strict_fence_waits_for_ever_or_for_an_operator() {
    let mut rig = rig(2, strict());
    haunted(&mut rig);
    let newer = rig.write(0, &NEW);
    rig.pass(Duration::from_secs(100_000));
    assert_eq!((rig.completion(newer), rig.disk.held()), (None, 1));
    rig.handle(Event::Waive);
    rig.assert_ok(newer);
    assert!(rig.reported("waived by the operator"));
    assert_eq!(rig.owed, []);
}

#[test]
fn a_proof_after_a_login_that_died_is_told_apart() {
    let mut rig = rig(2, strict());
    haunted(&mut rig);
    let newer = rig.write(0, &NEW);
    rig.prove(PathId(1), Proof::ReinstatedAgain);
    rig.assert_ok(newer);
    assert!(rig.reported("after a login without an answer"));
}

#[test]
fn commands_that_a_reset_may_have_swallowed_are_swept_up_and_sent_again() {
    let mut rig = rig(2, strict());
    rig.fault(1, Fault::LostLate);
    rig.write(0, &OLD);
    rig.lose(PathId(1), false);
    rig.holding = vec![op::READ_16];
    let read = rig.read(BLOCK as u64 * 4, 512);
    rig.prove(PathId(1), Proof::Reinstated);
    assert_eq!(rig.functions, [(PathId(2), Function::AbortTaskSet)]);
    rig.answer(Managed::Complete);
    assert_eq!(rig.completion(read), None);
    rig.let_go();
    rig.assert_ok(read);
}

#[test]
fn being_swept_up_again_and_again_never_fails_a_request_or_a_path() {
    let mut rig = rig(1, strict());
    rig.holding = vec![op::READ_16];
    let read = rig.read(0, 512);
    for _ in 0..20 {
        let (path, command) = rig.held.pop_front().expect("it is out again");
        rig.handle(Event::Ended(command, Ending::Cleared));
        assert_eq!(path, PathId(1));
    }
    rig.let_go();
    rig.assert_ok(read);
    assert_eq!(rig.disk.paths().next().map(|path| path.status.failures), Some(0));
}

#[test]
fn a_reset_by_somebody_else_makes_us_look_for_our_commands() {
    let mut rig = rig(1, strict());
    rig.holding = vec![op::READ_16];
    let silent = rig.read(0, 512);
    rig.holding.clear();
    rig.fault(1, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, 0x03)));
    let told = rig.read(512, 512);
    assert_eq!(rig.functions, [(PathId(1), Function::AbortTaskSet)]);
    rig.answer(Managed::Complete);
    rig.assert_ok(silent);
    rig.assert_ok(told);
}

/// A write was acknowledged and not flushed by a disk with a volatile cache, and a fence is open whose reset is out.
fn unflushed_and_reset() -> Rig {
    let mut rig = rig(3, strict());
    rig.handle(Event::SetPolicy(Policy::RoundRobin));
    haunted(&mut rig);
    rig.write(BLOCK as u64, &AFTER);
    rig.handle(Event::ResetSent);
    rig
}

/// The next command on a path is told of a reset.
fn attention(rig: &mut Rig, path: u32, ascq: u8) {
    rig.fault(path, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, ascq)));
    for _ in 0..3 {
        let read = rig.read(512, 512);
        rig.assert_ok(read);
    }
    assert!(rig.faults[&PathId(path)].is_empty(), "it was told");
}

#[test]
fn the_attention_of_our_own_reset_means_no_lost_cache() {
    for ascq in [0x00, 0x02, 0x03] {
        let mut rig = unflushed_and_reset();
        attention(&mut rig, 2, ascq);
        // The other path is idle, and tells when it is asked.
        rig.fault(3, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, ascq)));
        rig.prove_after_reset(PathId(1), Proof::Reinstated);
        assert!(rig.faults[&PathId(3)].is_empty(), "it was told");
        let flush = rig.flush();
        rig.assert_ok(flush);
        assert!(!rig.reported("cache was lost"), "{:?}", rig.reports);
        assert!(rig.reported("identity to be verified"), "whatever it was, the identity is read again");
    }
}

#[test]
fn whoever_had_nothing_to_tell_when_our_reset_had_ended_tells_of_something_else() {
    let mut rig = unflushed_and_reset();
    rig.prove_after_reset(PathId(1), Proof::Reinstated);
    attention(&mut rig, 2, 0x00);
    let flush = rig.flush();
    rig.assert_failed(flush, Error::Io);
}

#[test]
fn a_path_that_joins_later_does_not_tell_of_our_reset() {
    let mut rig = unflushed_and_reset();
    rig.prove_after_reset(PathId(1), Proof::Reinstated);
    rig.find(PathId(4), 1);
    attention(&mut rig, 4, 0x00);
    let flush = rig.flush();
    rig.assert_failed(flush, Error::Io);
}

#[test]
fn one_attention_more_than_there_were_resets_means_a_lost_cache() {
    let mut rig = unflushed_and_reset();
    attention(&mut rig, 2, 0x00);
    attention(&mut rig, 2, 0x00);
    let flush = rig.flush();
    rig.assert_failed(flush, Error::Io);
}

#[test]
fn a_power_on_is_no_reset_of_ours() {
    for ascq in [0x01, 0x04] {
        let mut rig = unflushed_and_reset();
        attention(&mut rig, 2, ascq);
        let flush = rig.flush();
        rig.assert_failed(flush, Error::Io);
    }
}

#[test]
fn a_reset_that_was_refused_is_none() {
    let mut rig = unflushed_and_reset();
    rig.handle(Event::ResetEnded { outcome: Managed::Refused, times: 1 });
    attention(&mut rig, 2, 0x00);
    let flush = rig.flush();
    rig.assert_failed(flush, Error::Io);
}

#[test]
fn what_was_taken_for_the_attention_of_a_reset_counts_after_all_if_that_is_refused() {
    let mut rig = unflushed_and_reset();
    attention(&mut rig, 2, 0x00);
    rig.handle(Event::ResetEnded { outcome: Managed::Refused, times: 1 });
    let flush = rig.flush();
    rig.assert_failed(flush, Error::Io);
}

#[test]
fn an_attention_that_comes_long_after_our_reset_is_not_its_own() {
    let mut rig = unflushed_and_reset();
    rig.pass(Duration::from_secs(11));
    attention(&mut rig, 2, 0x00);
    let flush = rig.flush();
    rig.assert_failed(flush, Error::Io);
}

#[test]
fn whoever_is_idle_is_asked_something_after_a_reset_so_that_its_attention_is_not_late() {
    let mut rig = unflushed_and_reset();
    let asked = rig.device.executed(op::TEST_UNIT_READY);
    rig.prove_after_reset(PathId(1), Proof::Reinstated);
    assert_eq!(rig.device.executed(op::TEST_UNIT_READY), asked + 2);
}

#[test]
fn what_our_own_reset_has_ended_is_swept_up_once() {
    let mut rig = rig(2, strict());
    rig.fault(1, Fault::LostLate);
    rig.write(0, &OLD);
    rig.lose(PathId(1), false);
    rig.holding = vec![op::READ_16];
    let read = rig.read(BLOCK as u64 * 4, 512);
    rig.holding.clear();
    rig.handle(Event::ResetSent);
    rig.fault(2, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, 0x00)));
    let told = rig.read(512, 512);
    rig.assert_ok(told);
    assert_eq!(rig.functions, [], "the target is at it still");
    rig.prove_after_reset(PathId(1), Proof::Reinstated);
    assert_eq!(rig.functions, [(PathId(2), Function::AbortTaskSet)]);
    rig.answer(Managed::Complete);
    rig.assert_ok(read);
    assert_eq!(rig.functions, []);
}

#[test]
fn what_a_process_before_us_left_holds_every_write_and_no_read() {
    let mut rig = rig(1, strict());
    rig.handle(Event::Inherited { path: PathId(90), target: TargetId(0) });
    rig.handle(Event::Inherited { path: PathId(91), target: TargetId(0) });
    let (write, read) = (rig.write(BLOCK as u64 * 5, &NEW), rig.read(0, 512));
    rig.assert_ok(read);
    rig.prove(PathId(90), Proof::Reinstated);
    assert_eq!(rig.completion(write), None);
    rig.prove(PathId(91), Proof::Reinstated);
    rig.assert_ok(write);
}

#[test]
fn a_write_that_waits_for_a_fence_fails_with_the_no_path_policy() {
    let head = multipath::Options { no_path: NoPath::QueueFor(Duration::from_secs(5)), ..strict().head };
    let mut rig = rig(1, Options { head, ..strict() });
    rig.fault(1, Fault::LostLate);
    let (write, newer) = (rig.write(0, &OLD), rig.write(0, &NEW));
    rig.lose(PathId(1), false);
    rig.pass(Duration::from_millis(4_900));
    assert_eq!((rig.completion(write), rig.completion(newer)), (None, None));
    rig.pass(Duration::from_millis(200));
    rig.assert_failed(write, Error::Io);
    rig.assert_failed(newer, Error::Io);
}

#[test]
fn a_disk_that_lost_its_last_path_does_not_go_while_a_fence_is_open() {
    let mut rig = rig(1, strict());
    rig.fault(1, Fault::LostLate);
    let write = rig.write(0, &OLD);
    rig.lose(PathId(1), false);
    rig.assert_failed(write, Error::Io);
    rig.handle(Event::PathRemoved { path: PathId(1) });
    assert!(!rig.gone, "its successor would know nothing of the late write");
    rig.prove(PathId(1), Proof::Reinstated);
    assert!(rig.gone);
}

#[test]
fn a_shutdown_waits_for_fences_as_long_as_for_requests() {
    let mut rig = rig(2, strict());
    haunted(&mut rig);
    rig.handle(Event::Shutdown);
    rig.pass(Duration::from_secs(29));
    assert!(!rig.gone);
    rig.pass(Duration::from_secs(2));
    assert!(rig.gone, "whoever comes next has to know of what is open");
}

#[test]
fn a_target_that_cannot_tell_what_it_did_is_fenced_like_a_lost_one() {
    let mut rig = rig(2, strict());
    rig.fault(1, Fault::TargetFailure);
    let write = rig.write(0, &OLD);
    rig.assert_ok(write);
    assert_eq!(rig.owed, [PathId(1)]);
}

#[test]
fn doubt_about_a_nexus_closes_the_path_until_its_identity_was_read() {
    let mut rig = rig(1, strict());
    rig.holding = vec![op::INQUIRY];
    rig.handle(Event::Doubt { path: PathId(1) });
    let write = rig.write(0, &NEW);
    assert_eq!(rig.device.executed(op::WRITE_16), 0);
    rig.let_go();
    rig.assert_ok(write);
}

#[test]
fn before_commands_are_swept_up_the_identity_behind_the_path_is_read_again() {
    let mut rig = rig(1, strict());
    rig.holding = vec![op::WRITE_16];
    rig.write(0, &OLD);
    rig.fault(1, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, 0x00)));
    rig.device.designators = Device::new(8, 2).designators;
    rig.read(512, 512);
    assert!(rig.reported("quarantined"));
    assert_eq!(rig.functions, [], "the function would be answered by a unit that never had the write");
}

#[test]
fn a_cache_that_is_lost_after_a_restart_may_have_held_what_the_predecessor_acknowledged() {
    let mut rig = rig(1, strict());
    rig.handle(Event::Inherited { path: PathId(90), target: TargetId(0) });
    rig.fault(1, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, 0x01)));
    rig.read(0, 512);
    let (first, second) = (rig.flush(), rig.flush());
    rig.assert_failed(first, Error::Io);
    rig.assert_ok(second);
}
