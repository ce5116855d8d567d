//! Paths that stall, reads that are sent twice, writes that are not, and canaries.

use block::Error;
use clock::Duration;
use multipath::{Hedging, Pace, PathId, Policy};
use scsi::cdb::operation as op;
use scsi::{Reply, SenseKey, Status};
use scsi_multipath::{Event, Options};

use crate::device::{BLOCK, BLOCK_LENGTH, Device, sense};
use crate::rig::{Fault, Rig};

const FIRST: PathId = PathId(1);

/// All goes to the first path, as long as it is not slow.
fn rig(paths: u16) -> Rig {
    Rig::new(Device::new(64, 1), paths)
}

/// The same, and it is known how long reads take: late ones are hedged.
fn hedging() -> Rig {
    let mut options = Options::default();
    options.head.policy = Policy::Numa;
    options.head.hedging = Hedging::On { percent: 2 };
    let mut rig = Rig::with_options(Device::new(64, 1), 2, options);
    for _ in 0..200 {
        let read = rig.read(0, BLOCK_LENGTH);
        rig.assert_ok(read);
    }
    rig
}

fn pass_until(rig: &mut Rig, limit: Duration, done: impl Fn(&Rig) -> bool) {
    let until = rig.now + limit;
    while !done(rig) {
        assert!(rig.now < until, "it never comes: {:#?}", rig.reports);
        rig.pass(Duration::from_millis(5));
    }
}

fn is_slow(rig: &Rig, path: u32) -> bool {
    rig.disk
        .paths()
        .any(|view| view.status.id == PathId(path) && matches!(view.status.pace, Pace::Slow { .. }))
}

#[test]
fn reads_on_a_path_that_stalls_are_answered_on_another_one_within_a_fifth_of_a_second() {
    let mut rig = rig(2);
    rig.write(0, &[7; BLOCK]);
    rig.stalled.push(FIRST);
    let reads = [rig.read(0, BLOCK_LENGTH), rig.read(0, BLOCK_LENGTH)];
    let sent = rig.now;
    pass_until(&mut rig, Duration::from_secs(1), |rig| rig.completion(reads[1]).is_some());
    assert!(rig.now.since(sent) < Duration::from_millis(200), "{:?}", rig.now.since(sent));
    for read in reads {
        assert_eq!(rig.data(read), [7; BLOCK]);
    }
    assert!(is_slow(&rig, 1));
    assert!(rig.reported("stalls"), "{:#?}", rig.reports);
    let next = rig.read(0, BLOCK_LENGTH);
    rig.assert_ok(next);
}

#[test]
fn the_copy_of_a_read_that_lost_is_aborted_and_neither_finishes_again_nor_counts_against_its_path() {
    let mut rig = rig(2);
    rig.stalled.push(FIRST);
    let reads: Vec<_> = (0..5).map(|_| rig.read(0, BLOCK_LENGTH)).collect();
    pass_until(&mut rig, Duration::from_secs(1), |rig| rig.completion(reads[4]).is_some());
    let aborts = rig.aborts.clone();
    assert_eq!(aborts.len(), 5);
    for (path, command) in aborts {
        assert_eq!(path, FIRST);
        rig.abort(command);
    }
    let status = rig.disk.paths().next().expect("it is there").status;
    assert_eq!((status.failures, status.in_flight), (0, 0));
    assert_eq!(rig.disk.status().in_flight, 0);
}

#[test]
fn a_copy_that_comes_back_late_with_data_is_not_the_answer() {
    let mut rig = rig(2);
    rig.write(0, &[1; BLOCK]);
    rig.stalled.push(FIRST);
    let read = rig.read(0, BLOCK_LENGTH);
    pass_until(&mut rig, Duration::from_secs(1), |rig| rig.completion(read).is_some());
    let write = rig.write(0, &[2; BLOCK]);
    rig.assert_ok(write);
    rig.wake(FIRST);
    assert_eq!(rig.data(read), [1; BLOCK]);
    assert_eq!(rig.disk.requests(), 0);
}

#[test]
fn a_write_is_never_sent_twice_at_once_but_taken_back_from_a_path_that_stalls() {
    let mut rig = rig(2);
    rig.stalled.push(FIRST);
    let write = rig.write(0, &[9; BLOCK]);
    pass_until(&mut rig, Duration::from_secs(3), |rig| !rig.aborts.is_empty());
    assert_eq!(rig.completion(write), None);
    assert_eq!(rig.device.executed(op::WRITE_16), 0);
    let (path, command) = rig.aborts[0];
    assert_eq!(path, FIRST);
    rig.abort(command);
    rig.assert_ok(write);
    assert_eq!(rig.device.executed(op::WRITE_16), 1);
}

#[test]
fn a_read_that_fails_on_both_paths_fails_once() {
    let mut rig = rig(2);
    rig.stalled.push(FIRST);
    let read = rig.read(0, BLOCK_LENGTH);
    let medium_error = || Fault::Reply(sense(SenseKey::MediumError, 0x11, 0x00));
    // The canary that tells that it is the path, then the second copy.
    rig.fault(2, Fault::Executed(Reply::good()));
    rig.fault(2, medium_error());
    pass_until(&mut rig, Duration::from_secs(1), |rig| is_slow(rig, 1));
    assert_eq!(rig.completion(read), None, "the other copy may do better");
    rig.fault(1, medium_error());
    rig.fault(1, medium_error());
    rig.wake(FIRST);
    rig.assert_failed(read, Error::Io);
}

#[test]
fn a_disk_goes_only_when_the_last_copy_of_a_read_has_come_back() {
    let mut rig = rig(2);
    rig.stalled.push(FIRST);
    let read = rig.read(0, BLOCK_LENGTH);
    pass_until(&mut rig, Duration::from_secs(1), |rig| rig.completion(read).is_some());
    rig.handle(Event::Shutdown);
    rig.pass(Duration::from_secs(60));
    assert!(!rig.gone);
    rig.wake(FIRST);
    assert!(rig.gone);
}

#[test]
fn a_hedged_read_is_answered_by_whichever_path_is_first() {
    let mut rig = hedging();
    rig.stalled.push(FIRST);
    let read = rig.read(0, BLOCK_LENGTH);
    let sent = rig.now;
    pass_until(&mut rig, Duration::from_millis(45), |rig| rig.completion(read).is_some());
    assert!(rig.now.since(sent) < Duration::from_millis(20));
    assert!(!is_slow(&rig, 1), "one late read does not make a slow path");
    assert_eq!(rig.disk.status().counters.hedged, 1);
    rig.wake(FIRST);
    assert_eq!(rig.disk.status().in_flight, 0);
}

#[test]
fn a_copy_that_waits_when_the_other_one_is_the_answer_is_not_sent_any_more() {
    let mut rig = hedging();
    rig.stalled.extend([FIRST, PathId(2)]);
    let read = rig.read(0, BLOCK_LENGTH);
    pass_until(&mut rig, Duration::from_millis(45), |rig| rig.disk.status().counters.hedged == 1);
    rig.fault(1, Fault::Reply(Reply { status: Status::Busy, ..Reply::good() }));
    rig.wake(FIRST);
    assert_eq!((rig.disk.status().pausing, rig.completion(read)), (1, None), "it is to be sent again later");
    rig.wake(PathId(2));
    rig.assert_ok(read);
    let sent = rig.device.executed(op::READ_16);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.device.executed(op::READ_16), sent);
    assert_eq!((rig.disk.moot(), rig.disk.status().pausing), (0, 0));
}

#[test]
fn a_path_that_fails_everything_is_tried_by_reads_that_nobody_waits_for() {
    let mut rig = rig(2);
    rig.handle(Event::SetPolicy(Policy::RoundRobin));
    for _ in 0..40 {
        rig.fault(1, Fault::Aborted);
    }
    for _ in 0..10 {
        let read = rig.read(0, BLOCK_LENGTH);
        rig.assert_ok(read);
    }
    let left = rig.faults[&FIRST].len();
    assert_eq!(left, 37, "three failures, then it is left alone");
    rig.pass(Duration::from_secs(20));
    let after = rig.faults[&FIRST].len();
    assert!((28..=32).contains(&after), "less and less often: {after}");
    let read = rig.read(0, BLOCK_LENGTH);
    rig.assert_ok(read);
    assert_eq!(rig.faults[&FIRST].len(), after);
    rig.faults.clear();
    rig.pass(Duration::from_secs(60));
    assert!(rig.reported("path P1 works again"), "{:#?}", rig.reports);
}

#[test]
fn a_canary_that_meets_a_medium_error_shows_that_its_path_works() {
    let mut rig = rig(2);
    rig.handle(Event::SetPolicy(Policy::RoundRobin));
    for _ in 0..6 {
        rig.fault(1, Fault::Aborted);
        let read = rig.read(0, BLOCK_LENGTH);
        rig.assert_ok(read);
    }
    assert_eq!(rig.faults.remove(&FIRST).map(|left| left.len()), Some(3), "three failures are enough");
    rig.fault(1, Fault::Reply(sense(SenseKey::MediumError, 0x11, 0x00)));
    rig.pass(Duration::from_secs(1));
    assert!(rig.reported("path P1 works again"), "{:#?}", rig.reports);
}
