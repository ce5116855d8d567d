//! What is told of a failover.

use array::{Class, Effect, Fault, FaultId, Place, Scope, Until, When};
use clock::Duration;
use scsi::{AdditionalSense, Reply, Sense, SenseKey};
use scsi_multipath::{Proof, Reason};

use super::rig::{Door, Rig};
use crate::Verb;
use crate::failover::{Detection, FailoverReport, FenceOutcome};
use crate::log::{Cause, What};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Commands of a class wait in the array until they are released.
fn hold(rig: &mut Rig, class: Class) {
    let scope = Scope { class, ..Scope::default() };
    let effect = Effect::Hold { place: Place::Queue, until: Until::Released };
    rig.tell_array(array::Event::SetFault(FaultId(1), Fault { scope, when: When::ALWAYS, effect }));
}

fn release(rig: &mut Rig) {
    rig.tell_array(array::Event::ClearFault(FaultId(1)));
}

fn told(rig: &Rig) -> Vec<FailoverReport> {
    let report = |what: &What| match what {
        What::Failover(report) => Some((**report).clone()),
        _ => None,
    };
    rig.host.events(0).filter_map(|entry| report(&entry.what)).collect()
}

#[test]
fn a_lost_session_with_a_read_in_flight_is_told_with_its_times() {
    let mut rig = Rig::new(2);
    let (disk, path) = (rig.disk(0), rig.path(0, 0));
    hold(&mut rig, Class::Read);
    let _ = (rig.read(disk, 0), rig.read(disk, 512));
    rig.advance(millis(30));
    let at = rig.now;
    rig.cut(0);
    rig.advance(millis(200));
    assert_eq!(told(&rig), [], "it is not over");
    release(&mut rig);
    let expected = FailoverReport {
        path,
        at,
        by: Detection::Session(Cause::ConnectionLost),
        touched: 1,
        resent: 1,
        first_resent: Some(Duration::ZERO),
        first_completion: Some(millis(200)),
        longest_wait: millis(230),
        failed: 0,
        unfinished: 0,
        fence: FenceOutcome::None,
    };
    assert_eq!(told(&rig), std::slice::from_ref(&expected));
    assert_eq!(rig.host.disk(disk).unwrap().failovers, [expected]);
}

#[test]
fn a_path_that_is_lost_with_nothing_in_flight_is_no_failover() {
    let mut rig = Rig::new(2);
    rig.cut(0);
    rig.advance(millis(1000));
    assert_eq!(told(&rig), []);
}

#[test]
fn a_silent_path_with_a_write_in_flight_is_told_with_its_fence() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    hold(&mut rig, Class::Write);
    let writes = [rig.write(disk, 0), rig.write(disk, 4096)];
    rig.doors[0] = Door::Dark;
    // The survivor's write is executed, the other one's copy waits in the target as its first one does.
    rig.run_until(|rig| !rig.is_up(0));
    release(&mut rig);
    rig.run_until(|rig| writes.iter().all(|write| rig.completed.contains_key(write)));
    rig.doors[0] = Door::Open;
    rig.run_until(|rig| !told(rig).is_empty());
    let report = told(&rig).remove(0);
    assert_eq!(report.by, Detection::Session(Cause::NopTimeout));
    assert_eq!((report.touched, report.failed, report.unfinished), (1, 0, 0));
    assert!(report.longest_wait >= Duration::from_secs(1), "{report}");
    assert!(matches!(report.fence, FenceOutcome::Proved { proof: Proof::Reinstated, .. }), "{report}");
}

#[test]
fn requests_that_end_without_a_path_are_told_as_failed() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    hold(&mut rig, Class::Read);
    rig.read(disk, 0);
    rig.doors[0] = Door::Refusing;
    rig.cut(0);
    rig.advance(Duration::from_secs(5));
    assert_eq!(told(&rig), []);
    rig.said(Verb::NoPath { disk: String::from("all"), no_path: multipath::NoPath::Fail }).unwrap();
    let report = told(&rig).remove(0);
    assert_eq!((report.touched, report.resent, report.failed), (1, 0, 1));
    assert_eq!(report.longest_wait, Duration::from_secs(5));
}

#[test]
fn what_cannot_end_is_told_after_its_time() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    hold(&mut rig, Class::Read);
    rig.read(disk, 0);
    rig.doors[0] = Door::Refusing;
    rig.cut(0);
    rig.advance(Duration::from_secs(601));
    assert_eq!(told(&rig).remove(0).unfinished, 1);
}

/// The next read is answered with this sense.
fn refuse_a_read(rig: &mut Rig, key: SenseKey, asc: u8, ascq: u8) {
    let scope = Scope { class: Class::Read, ..Scope::default() };
    let sense = Sense::new(key, AdditionalSense::new(asc, ascq));
    let effect = Effect::Reply(Reply::check_condition(sense.into()));
    rig.tell_array(array::Event::SetFault(FaultId(1), Fault { scope, when: When::times(1), effect }));
}

#[test]
fn a_unit_that_is_gone_on_one_path_touches_the_read_that_finds_out() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    // SPC: logical unit not supported.
    refuse_a_read(&mut rig, SenseKey::IllegalRequest, 0x25, 0x00);
    let read = rig.read(disk, 0);
    assert_eq!(rig.completed[&read], Ok(()));
    let report = told(&rig).remove(0);
    assert_eq!(report.by, Detection::Path(Reason::Gone));
    assert_eq!((report.touched, report.resent, report.first_completion), (1, 1, Some(Duration::ZERO)));
}

#[test]
fn a_read_that_parks_because_its_only_path_is_not_ready_is_told() {
    // SPC: becoming ready; manual intervention required; asymmetric access: transition, standby.
    for (ascq, by) in
        [(0x01, Reason::Doubtful), (0x03, Reason::Lost), (0x0a, Reason::Access), (0x0b, Reason::Access)]
    {
        let mut rig = Rig::new(1);
        let disk = rig.disk(0);
        refuse_a_read(&mut rig, SenseKey::NotReady, 0x04, ascq);
        let read = rig.read(disk, 0);
        rig.run_until(|rig| rig.completed.contains_key(&read));
        assert_eq!(rig.completed[&read], Ok(()));
        let reports = told(&rig);
        assert_eq!(reports.len(), 1, "04/{ascq:02x}: {reports:#?}");
        let report = &reports[0];
        assert_eq!((report.by, report.touched, report.resent), (Detection::Path(by), 1, 1), "04/{ascq:02x}");
        assert_eq!(report.failed, 0);
    }
}

#[test]
fn a_read_that_parks_because_every_port_has_become_unavailable_is_told_with_its_wait() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    rig.set_access(array::AccessState::Unavailable);
    let read = rig.read(disk, 0);
    rig.advance(Duration::from_secs(10));
    assert_eq!((rig.completed.get(&read), told(&rig)), (None, vec![]), "it waits");
    rig.set_access(array::AccessState::Optimized);
    rig.run_until(|rig| rig.completed.contains_key(&read));
    let reports = told(&rig);
    assert!(!reports.is_empty() && reports.iter().all(|report| report.touched == 1), "{reports:#?}");
    assert!(reports[0].longest_wait >= Duration::from_secs(10), "{reports:#?}");
}

#[test]
fn a_path_that_only_had_to_show_its_identity_again_was_not_lost() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    // SPC: reported LUNs data has changed.
    refuse_a_read(&mut rig, SenseKey::UnitAttention, 0x3f, 0x0e);
    let read = rig.read(disk, 0);
    rig.advance(Duration::from_secs(5));
    assert_eq!((rig.completed[&read], told(&rig)), (Ok(()), vec![]));
    assert!(rig.host.failovers.is_empty());
}

#[test]
fn a_read_that_fails_for_good_is_not_waited_for_by_a_loss_after_it() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    // SPC: unrecovered read error. Then the path is lost with nothing in flight.
    refuse_a_read(&mut rig, SenseKey::MediumError, 0x11, 0x00);
    let read = rig.read(disk, 0);
    assert_eq!(rig.completed[&read], Err(block::Error::Io));
    rig.cut(0);
    rig.advance(Duration::from_secs(1));
    assert!(rig.host.failovers.is_empty() && rig.host.bounced.is_empty());
}
