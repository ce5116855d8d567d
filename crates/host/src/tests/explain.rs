//! Why a disk does what it does.

use array::{Class, Effect, Fault, FaultId, GroupId, Place, Scope, Until, When};
use clock::Duration;
use multipath::{PathId, Policy};
use scsi::port_groups::AccessState;

use super::rig::{Door, Rig};
use crate::Verb;
use crate::explain::{DiskExplanation, PathExplanation};

fn explained(rig: &Rig) -> DiskExplanation {
    rig.host.explain(rig.host.disks().next().unwrap().index).unwrap()
}

fn of(rig: &Rig, path: PathId) -> PathExplanation {
    explained(rig).paths.into_iter().find(|known| known.path == path).unwrap()
}

fn codes(rig: &Rig) -> Vec<&'static str> {
    explained(rig).paths.iter().map(|path| path.code).collect()
}

#[test]
fn the_path_that_is_named_takes_the_next_read_under_every_policy() {
    let mut rig = Rig::new(3);
    let disk = rig.disk(0);
    for policy in [Policy::RoundRobin, Policy::QueueDepth, Policy::Numa] {
        rig.said(Verb::Policy { disk: String::from("all"), policy }).unwrap();
        for _ in 0..4 {
            let next = explained(&rig).next.unwrap();
            let before = rig.host.path(next).unwrap().completed;
            rig.read(disk, 0);
            assert_eq!(rig.host.path(next).unwrap().completed, before + 1, "{policy}");
        }
    }
}

#[test]
fn each_path_that_is_not_taken_has_its_reason() {
    let mut rig = Rig::new(3);
    assert_eq!(codes(&rig), ["next", "in-turn", "in-turn"]);
    rig.said(Verb::Policy { disk: String::from("all"), policy: Policy::QueueDepth }).unwrap();
    assert_eq!(codes(&rig), ["next", "in-turn", "in-turn"]);
    let (first, second) = (rig.path(0, 0), rig.path(1, 0));
    rig.said(Verb::Fail { path: first.to_string(), force: false }).unwrap();
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.advance(Duration::from_millis(1));
    assert_eq!(codes(&rig), ["operator-failed", "transport-failed", "next"]);
    assert_eq!(of(&rig, first).remedy, format!("`smpath reinstate {first}`"));
    assert!(of(&rig, second).why.contains("no session with 192.0.2.2:3260: "), "{:?}", of(&rig, second));
}

#[test]
fn a_path_that_is_lost_and_kept_out_has_both_reasons() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    rig.said(Verb::Fail { path: path.to_string(), force: false }).unwrap();
    rig.doors[0] = Door::Refusing;
    rig.cut(0);
    rig.advance(Duration::from_millis(1));
    let explanation = of(&rig, path);
    assert_eq!(explanation.code, "transport-failed");
    assert!(explanation.why.ends_with("; and an operator has failed it"), "{}", explanation.why);
}

#[test]
fn an_access_state_is_the_reason_why_no_path_is_taken() {
    let mut rig = Rig::new(1);
    let group = GroupId(1);
    rig.tell_array(array::Event::SetAccess { group, state: AccessState::Standby });
    let disk = rig.disk(0);
    rig.read(disk, 0);
    let explanation = explained(&rig);
    assert_eq!(explanation.next, None);
    assert_eq!(explanation.paths[0].code, "access-state");
    assert!(explanation.paths[0].why.contains("standby"), "{}", explanation.paths[0].why);
    assert_eq!(explanation.waits[0].code, "parked");
    assert!(explanation.waits[0].why.contains("no-path policy is queue"), "{:?}", explanation.waits);
}

#[test]
fn a_write_that_waits_for_another_one_is_told_of() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    let scope = Scope { class: Class::Write, ..Scope::default() };
    let effect = Effect::Hold { place: Place::Queue, until: Until::Released };
    rig.tell_array(array::Event::SetFault(FaultId(1), Fault { scope, when: When::ALWAYS, effect }));
    let _ = (rig.write(disk, 0), rig.write(disk, 0));
    let waits = explained(&rig).waits;
    assert_eq!((waits.len(), waits[0].code, waits[0].count), (1, "held-writes", 1));
}
