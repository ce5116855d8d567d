//! How debts are paid, and how not.

use clock::Duration;
use scsi_multipath::{Function, Proof};

use super::rig::{Door, Rig, Seen};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What was seen of one nexus, without identities that a usual survey asks for behind the other LUN.
fn story(rig: &Rig, nexus: u32) -> Vec<Seen> {
    let is_of_it = |seen: &&Seen| match seen {
        Seen::Connect { nexus: of, .. }
        | Seen::Login { nexus: of, .. }
        | Seen::Reset { nexus: of, .. }
        | Seen::AbortTaskSet { nexus: of, .. }
        | Seen::LoggedOut { nexus: of, .. } => *of == nexus,
        Seen::Identity { nexus: of, lun } => *of == nexus && *lun == 0,
        Seen::Fenced { .. } => true,
    };
    rig.seen.iter().filter(is_of_it).cloned().collect()
}

#[test]
fn a_fence_is_proved_by_reset_on_the_reinstated_session() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 0);
    rig.cut(0);
    rig.fence(path);
    rig.advance(seconds(1));
    let expected = [
        Seen::Connect { nexus: 0, port: 0 },
        Seen::Login { nexus: 0, port: 0 },
        Seen::Reset { nexus: 0, lun: 0 },
        Seen::Identity { nexus: 0, lun: 0 },
        // The reset itself raised an attention after that: who is there is asked again.
        Seen::Identity { nexus: 0, lun: 0 },
        Seen::Fenced { path, proof: Proof::Reinstated },
    ];
    assert_eq!(story(&rig, 0), expected);
    assert!(rig.is_up(0));
    assert_ne!(rig.path(0, 0), path);
    assert!(rig.host.path(path).is_none(), "the id is free once the fence is proved");
}

#[test]
fn a_fence_of_a_session_that_stands_ends_it_first() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 1);
    rig.fence(path);
    rig.advance(seconds(1));
    let resets: Vec<_> = rig.seen.iter().filter(|seen| matches!(seen, Seen::Reset { .. })).collect();
    assert_eq!(resets, [&Seen::Reset { nexus: 0, lun: 1 }]);
    assert_eq!(rig.fenced(), [(path, Proof::Reinstated)]);
}

#[test]
fn all_paths_of_one_nexus_are_paid_with_one_login() {
    let mut rig = Rig::new(1);
    let (first, second) = (rig.path(0, 0), rig.path(0, 1));
    rig.cut(0);
    rig.fence(first);
    rig.fence(second);
    rig.advance(seconds(1));
    assert_eq!(rig.seen.iter().filter(|seen| matches!(seen, Seen::Login { .. })).count(), 1);
    assert_eq!(rig.fenced(), [(first, Proof::Reinstated), (second, Proof::Reinstated)]);
}

#[test]
fn a_fence_that_is_asked_for_late_is_paid_on_the_session_that_stands() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 0);
    rig.cut(0);
    rig.fence(path);
    rig.host.unfence(path);
    // The disk keeps the path until the next one took its place.
    rig.run_until(|rig| rig.host.nexus(crate::NexusIndex(0)).unwrap().logins == 2);
    let late = rig.path(0, 1);
    rig.cut(0);
    rig.doors[0] = Door::Refusing;
    rig.advance(seconds(1));
    rig.fence(late);
    rig.doors[0] = Door::Open;
    rig.run_until(|rig| rig.is_up(0));
    assert_eq!(rig.fenced(), [(late, Proof::Reinstated)]);
}

#[test]
fn a_fence_goes_through_a_sibling_portal_when_its_own_is_dark() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    rig.doors[0] = Door::Dark;
    rig.run_until(|rig| !rig.is_up(0));
    rig.fence(path);
    rig.advance(seconds(1));
    let expected = [
        Seen::Connect { nexus: 0, port: 1 },
        Seen::Login { nexus: 0, port: 1 },
        Seen::Reset { nexus: 0, lun: 0 },
        Seen::Identity { nexus: 0, lun: 0 },
        // The reset itself raised an attention after that: who is there is asked again.
        Seen::Identity { nexus: 0, lun: 0 },
        Seen::Fenced { path, proof: Proof::Reinstated },
        Seen::LoggedOut { nexus: 0, port: 1 },
    ];
    assert_eq!(story(&rig, 0)[..7], expected);
    assert!(rig.is_up(1), "the sibling's own session is another nexus");
    assert!(!rig.is_up(0), "no path leads through a portal that was only borrowed");
    rig.doors[0] = Door::Open;
    rig.run_until(|rig| rig.is_up(0));
}

#[test]
fn a_portal_that_refuses_after_a_reset_is_tried_first_and_its_sibling_at_once_after() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    rig.doors[0] = Door::Refusing;
    rig.cut(0);
    rig.fence(path);
    rig.advance(Duration::from_millis(10));
    let expected = [Seen::Connect { nexus: 0, port: 0 }, Seen::Connect { nexus: 0, port: 1 }];
    assert_eq!(story(&rig, 0)[..2], expected);
    assert_eq!(rig.fenced(), [(path, Proof::Reinstated)]);
}

#[test]
fn a_login_that_dies_before_its_answer_makes_the_proof_a_second_one() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 0);
    rig.doors[0] = Door::Mute;
    rig.cut(0);
    rig.fence(path);
    rig.advance(seconds(1));
    rig.doors[0] = Door::Open;
    rig.cut(0);
    rig.run_until(|rig| rig.is_up(0));
    assert_eq!(rig.fenced(), [(path, Proof::ReinstatedAgain)]);
    // What is lost later was not touched by that login.
    let path = rig.path(0, 0);
    rig.cut(0);
    rig.fence(path);
    rig.advance(seconds(1));
    assert_eq!(rig.fenced().last(), Some(&(path, Proof::Reinstated)));
}

#[test]
fn no_two_logins_of_one_nexus_at_a_time() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    rig.doors[0] = Door::Mute;
    rig.cut(0);
    rig.fence(path);
    // Its own portal has taken the login, and is given all the time that it may need to end the old session.
    rig.advance(seconds(119));
    assert_eq!(story(&rig, 0), [Seen::Connect { nexus: 0, port: 0 }]);
    rig.advance(seconds(2));
    assert_eq!(story(&rig, 0)[1], Seen::Connect { nexus: 0, port: 1 });
    assert_eq!(rig.fenced(), [(path, Proof::ReinstatedAgain)]);
}

#[test]
fn a_reset_that_is_refused_is_asked_for_again() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 0);
    rig.refused_resets = 2;
    rig.cut(0);
    rig.fence(path);
    rig.advance(seconds(1));
    assert!(rig.is_up(0) && rig.fenced().is_empty(), "a debt keeps no path from being used");
    rig.advance(seconds(11));
    assert_eq!(rig.seen.iter().filter(|seen| matches!(seen, Seen::Reset { .. })).count(), 3);
    assert_eq!(rig.fenced(), [(path, Proof::Reinstated)]);
}

#[test]
fn the_reset_of_another_logical_unit_proves_nothing() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 0);
    rig.is_remapped = true;
    rig.cut(0);
    rig.fence(path);
    rig.advance(seconds(20));
    assert_eq!(rig.fenced(), []);
    rig.is_remapped = false;
    rig.advance(seconds(20));
    assert_eq!(rig.fenced(), [(path, Proof::Reinstated)]);
}

#[test]
fn after_a_waiver_nobody_goes_on_detours() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    rig.doors = vec![Door::Dark; 2];
    rig.run_until(|rig| !rig.is_up(0) && !rig.is_up(1));
    rig.fence(path);
    rig.advance(seconds(10));
    rig.host.unfence(path);
    rig.advance(seconds(1));
    rig.seen.clear();
    rig.advance(seconds(60));
    let detour = Seen::Connect { nexus: 0, port: 1 };
    assert!(!rig.seen.is_empty() && !rig.seen.contains(&detour), "{:?}", rig.seen);
    assert!(rig.host.path(path).is_some(), "it is a path of its disk still");
}

#[test]
fn functions_go_out_on_the_session_of_their_path_and_on_no_other() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 1);
    rig.host.manage(0, path, Function::AbortTaskSet);
    rig.advance(seconds(1));
    assert_eq!(rig.seen.last(), Some(&Seen::AbortTaskSet { nexus: 0, lun: 1 }));
    rig.cut(0);
    rig.seen.clear();
    rig.host.manage(0, path, Function::LogicalUnitReset);
    rig.advance(seconds(1));
    assert!(!rig.seen.iter().any(|seen| matches!(seen, Seen::Reset { .. })), "{:?}", rig.seen);
}

#[test]
fn resets_of_one_logical_unit_for_two_nexuses_do_not_meet_at_the_target() {
    let mut rig = Rig::new(2);
    rig.function_time = Duration::from_millis(100);
    let (one, other) = (rig.path(0, 0), rig.path(1, 0));
    rig.cut(0);
    rig.cut(1);
    rig.fence(one);
    rig.fence(other);
    rig.advance(seconds(1));
    assert_eq!(rig.fenced(), [(one, Proof::Reinstated), (other, Proof::Reinstated)]);
}

#[test]
fn a_sweep_does_not_meet_the_reset_that_still_drains() {
    let mut rig = Rig::new(2);
    rig.function_time = Duration::from_millis(100);
    let (lost, surviving) = (rig.path(0, 0), rig.path(1, 0));
    rig.cut(0);
    rig.fence(lost);
    rig.advance(Duration::from_millis(50));
    assert_eq!(rig.seen.last(), Some(&Seen::Reset { nexus: 0, lun: 0 }));
    // The attention of the reset has reached the surviving path, and its disk wants that swept up.
    rig.host.manage(0, surviving, Function::AbortTaskSet);
    rig.advance(seconds(1));
    assert_eq!(rig.fenced(), [(lost, Proof::Reinstated)]);
    let sweep = Seen::AbortTaskSet { nexus: 1, lun: 0 };
    assert!(rig.seen.contains(&sweep), "it was sent when the reset was over: {:?}", rig.seen);
}

#[test]
fn resets_of_two_logical_units_are_out_at_the_same_time() {
    let mut rig = Rig::new(1);
    rig.function_time = Duration::from_millis(100);
    let paths = [rig.path(0, 0), rig.path(0, 1)];
    rig.cut(0);
    paths.into_iter().for_each(|path| rig.fence(path));
    rig.advance(Duration::from_millis(120));
    assert_eq!(rig.fenced(), paths.map(|path| (path, Proof::Reinstated)));
}

#[test]
fn a_function_that_met_somebody_elses_is_asked_for_again() {
    let mut rig = Rig::new(1);
    let path = rig.path(0, 0);
    rig.lost_functions = 1;
    rig.cut(0);
    rig.fence(path);
    rig.advance(seconds(4));
    assert_eq!(rig.fenced(), []);
    rig.advance(seconds(2));
    assert_eq!(rig.fenced(), [(path, Proof::Reinstated)]);
    let logins = rig.host.nexus(crate::NexusIndex(0)).unwrap().logins;
    rig.advance(seconds(90));
    let now = rig.host.nexus(crate::NexusIndex(0)).unwrap().logins;
    assert_eq!(logins, now, "nobody waits for the answer that never comes");
}

#[test]
fn a_logical_unit_that_never_answers_holds_up_no_other_one_for_long() {
    let mut rig = Rig::new(2);
    rig.lost_functions = 1;
    let (stuck, other) = (rig.path(0, 0), rig.path(1, 1));
    rig.cut(0);
    rig.fence(stuck);
    rig.advance(seconds(1));
    rig.lost_functions = 100;
    rig.host.manage(1, other, Function::AbortTaskSet);
    rig.advance(seconds(3));
    let sweep = Seen::AbortTaskSet { nexus: 1, lun: 1 };
    assert!(!rig.seen.contains(&sweep));
    rig.advance(seconds(2));
    assert!(rig.seen.contains(&sweep), "{:?}", rig.seen);
}
