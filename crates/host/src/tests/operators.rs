//! What operators say, and what comes of it.

use array::{Class, Effect, Fault, FaultId, Place, PortId, Scope, Until, When};
use clock::Duration;
use multipath::{Access, NoPath, PathState, Policy};

use scsi_multipath::Disk;

use super::rig::{Door, Rig, address};
use crate::Verb;

const USABLE: PathState = PathState::Usable(Access::Optimized);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fail(path: &str) -> Verb {
    Verb::Fail { path: path.to_owned(), force: false }
}

fn drain(path: &str) -> Verb {
    Verb::Drain { path: path.to_owned(), force: false, timeout: seconds(30) }
}

fn reinstate(path: &str) -> Verb {
    Verb::Reinstate { path: path.to_owned() }
}

/// Reads wait in the array until they are released.
fn hold_reads(rig: &mut Rig) {
    hold_reads_at(rig, None);
}

/// The same, of one port only.
fn hold_reads_at(rig: &mut Rig, port: Option<PortId>) {
    let scope = Scope { class: Class::Read, port, ..Scope::default() };
    let effect = Effect::Hold { place: Place::Queue, until: Until::Released };
    rig.tell_array(array::Event::SetFault(FaultId(1), Fault { scope, when: When::ALWAYS, effect }));
}

fn release(rig: &mut Rig) {
    rig.tell_array(array::Event::ClearFault(FaultId(1)));
}

#[test]
fn what_an_operator_failed_stays_out_over_a_new_login_until_it_is_reinstated() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    rig.said(fail(&path.to_string())).unwrap();
    assert_eq!(rig.state(path), PathState::Down);
    rig.cut(0);
    rig.run_until(|rig| rig.is_up(0));
    let again = rig.path(0, 0);
    assert_ne!(again, path, "a new session has new paths");
    assert_eq!(rig.state(again), PathState::Down);
    assert_eq!(rig.state(rig.path(0, 1)), USABLE, "the other logical unit was not failed");
    rig.seen.clear();
    rig.said(reinstate(&again.to_string())).unwrap();
    assert_eq!(rig.state(again), USABLE);
    assert!(!rig.seen.is_empty(), "its identity was read first");
}

#[test]
fn the_last_usable_path_of_a_disk_is_failed_only_by_force() {
    let mut rig = Rig::new(2);
    let (first, second) = (rig.path(0, 0), rig.path(1, 0));
    rig.said(fail(&first.to_string())).unwrap();
    let refusal = rig.said(fail(&second.to_string())).unwrap_err();
    assert!(refusal.contains("without a usable path") && refusal.contains("--force"), "{refusal}");
    assert_eq!(rig.state(second), USABLE);
    rig.said(Verb::Fail { path: second.to_string(), force: true }).unwrap();
    assert_eq!(rig.state(second), PathState::Down);
}

#[test]
fn verbs_can_be_said_twice() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0).to_string();
    rig.said(fail(&path)).unwrap();
    let newest = rig.host.events(0).newest;
    assert!(rig.said(fail(&path)).unwrap().contains("already"));
    rig.said(reinstate(&path)).unwrap();
    assert!(rig.said(reinstate(&path)).unwrap().contains("nothing to do"));
    let policy = || Verb::Policy { disk: String::from("all"), policy: Policy::RoundRobin };
    assert!(rig.said(policy()).unwrap().contains("already"));
    let codes = rig.codes(newest);
    assert_eq!(codes, ["operator-reinstated", "path-waiting", "path-usable"]);
}

#[test]
fn a_name_that_stands_for_nothing_is_answered_with_those_that_do() {
    let mut rig = Rig::new(1);
    let refusal = rig.said(fail("P99")).unwrap_err();
    assert!(refusal.contains("no path P99") && refusal.contains("P0 (192.0.2.1:3260"), "{refusal}");
    let refusal = rig.said(drain("192.0.2.9")).unwrap_err();
    assert!(refusal.contains("no portal 192.0.2.9") && refusal.contains("192.0.2.1:3260"), "{refusal}");
    let refusal = rig.said(Verb::Waive { disk: String::from("eui") }).unwrap_err();
    assert!(refusal.contains("no disk eui") && refusal.contains("naa."), "{refusal}");
    let disk = rig.host.disk(rig.disk(0)).unwrap().identity.to_string();
    let path = rig.path(0, 0);
    assert_eq!(rig.host.paths_named(&format!("{disk}:{path}")), Ok(vec![path]));
}

#[test]
fn a_drain_waits_for_what_is_in_flight_and_says_when_that_is_over() {
    let mut rig = Rig::new(2);
    let (disk, path) = (rig.disk(0), rig.path(0, 0));
    hold_reads(&mut rig);
    let reads = [rig.read(disk, 0), rig.read(disk, 512)];
    let ticket = rig.say(Verb::Drain { path: path.to_string(), force: true, timeout: seconds(30) });
    assert_eq!(rig.answers.get(&ticket), None);
    rig.advance(seconds(1));
    assert_eq!(rig.answers.get(&ticket), None, "a read is in flight on it");
    release(&mut rig);
    assert!(rig.answers[&ticket].as_ref().unwrap().contains("may be unplugged"));
    assert!(reads.iter().all(|read| rig.completed[read] == Ok(())));
    assert!(rig.codes(0).ends_with(&["drained"]));
    assert_eq!(rig.state(path), PathState::Down);
}

#[test]
fn a_drain_that_takes_too_long_says_how_much_is_in_flight_and_keeps_the_path_out() {
    let mut rig = Rig::new(2);
    let (disk, path) = (rig.disk(0), rig.path(0, 0));
    hold_reads(&mut rig);
    let _ = (rig.read(disk, 0), rig.read(disk, 512));
    let ticket = rig.say(Verb::Drain { path: path.to_string(), force: true, timeout: seconds(3) });
    rig.advance(seconds(3));
    let refusal = rig.answers[&ticket].as_ref().unwrap_err().to_string();
    assert!(refusal.contains("1 requests are still in flight"), "{refusal}");
    assert_eq!(rig.state(path), PathState::Down);
}

#[test]
fn a_drain_is_refused_if_what_is_left_cannot_read() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    hold_reads(&mut rig);
    let ticket = rig.say(drain(&path.to_string()));
    assert_eq!(rig.answers.get(&ticket), None);
    rig.advance(seconds(6));
    let refusal = rig.answers[&ticket].as_ref().unwrap_err().to_string();
    assert!(refusal.contains("no other path can read") && refusal.contains("no answer in time"), "{refusal}");
    assert_eq!(rig.state(path), USABLE);
    assert!(rig.codes(0).contains(&"drain-refused"));
}

#[test]
fn a_drain_is_refused_if_the_path_that_could_read_is_lost_before_it_begins() {
    let mut rig = Rig::new(3);
    let path = rig.path(0, 0);
    hold_reads_at(&mut rig, Some(PortId(3)));
    let ticket = rig.say(drain(&path.to_string()));
    rig.advance(seconds(1));
    assert_eq!(rig.answers.get(&ticket), None, "the third path has not read yet");
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.advance(seconds(5));
    let refusal = rig.answers[&ticket].as_ref().unwrap_err().to_string();
    assert!(refusal.contains("no other path can read") && refusal.contains("no answer in time"), "{refusal}");
    assert_eq!(rig.state(path), USABLE);
}

#[test]
fn a_drain_is_refused_if_no_other_path_is_left_when_it_begins() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    hold_reads(&mut rig);
    let ticket = rig.say(drain(&path.to_string()));
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.advance(seconds(6));
    let refusal = rig.answers[&ticket].as_ref().unwrap_err().to_string();
    assert!(refusal.contains("without a usable path"), "{refusal}");
    assert_eq!(rig.state(path), USABLE);
}

#[test]
fn a_portal_is_drained_with_all_its_paths_and_the_rest_is_read_from_first() {
    let mut rig = Rig::new(2);
    let ticket = rig.say(drain(&address(0).to_string()));
    assert!(rig.answers[&ticket].as_ref().unwrap().contains("may be unplugged"));
    assert_eq!((rig.state(rig.path(0, 0)), rig.state(rig.path(0, 1))), (PathState::Down, PathState::Down));
    let refusal = rig.said(drain(&address(1).to_string())).unwrap_err();
    assert!(refusal.contains("without a usable path"), "{refusal}");
    rig.said(reinstate(&address(0).to_string())).unwrap();
    assert_eq!((rig.state(rig.path(0, 0)), rig.state(rig.path(0, 1))), (USABLE, USABLE));
}

#[test]
fn a_lost_path_has_nothing_in_flight_and_is_drained() {
    let mut rig = Rig::new(2);
    let (disk, path) = (rig.disk(0), rig.path(0, 0));
    hold_reads(&mut rig);
    let _ = (rig.read(disk, 0), rig.read(disk, 512));
    let ticket = rig.say(Verb::Drain { path: path.to_string(), force: true, timeout: seconds(30) });
    rig.cut(0);
    rig.advance(Duration::ZERO);
    assert!(rig.answers[&ticket].is_ok());
}

#[test]
fn the_policy_changes_under_load_and_nothing_is_lost() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    hold_reads(&mut rig);
    let mut before: Vec<_> = (0..4).map(|block| rig.read(disk, block * 512)).collect();
    before.push(rig.write(disk, 0));
    rig.said(Verb::Policy { disk: String::from("all"), policy: Policy::Numa }).unwrap();
    let after: Vec<_> = (0..4).map(|block| rig.read(disk, block * 512)).collect();
    release(&mut rig);
    assert!(before.iter().chain(&after).all(|read| rig.completed[read] == Ok(())));
    assert_eq!(rig.host.disk(disk).unwrap().disk.unwrap().status().policy, Policy::Numa);
    let event = rig.host.events(0).find(|entry| entry.what.code() == "policy-set").unwrap();
    assert!(event.text.ends_with("iopolicy round-robin -> numa, by operator"), "{}", event.text);
}

#[test]
fn a_no_path_policy_that_is_set_while_requests_wait_decides_about_them() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    rig.doors[0] = Door::Refusing;
    rig.cut(0);
    let read = rig.read(disk, 0);
    assert_eq!(rig.completed.get(&read), None, "it waits");
    rig.said(Verb::NoPath { disk: String::from("all"), no_path: NoPath::Fail }).unwrap();
    assert_eq!(rig.completed.get(&read), Some(&Err(block::Error::Io)));
    assert!(rig.codes(0).contains(&"no-path-set"));
}

#[test]
fn a_path_that_is_reinstated_while_the_others_are_checked_is_not_taken_out() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0).to_string();
    hold_reads(&mut rig);
    let ticket = rig.say(drain(&path));
    rig.said(reinstate(&path)).unwrap();
    assert!(rig.answers[&ticket].as_ref().unwrap_err().to_string().contains("reinstated"));
    release(&mut rig);
    rig.advance(seconds(10));
    assert_eq!(rig.state(rig.path(0, 0)), USABLE);
}

#[test]
fn a_path_that_takes_the_place_of_one_that_is_being_drained_is_drained() {
    let mut rig = Rig::new(2);
    let path = rig.path(0, 0);
    hold_reads(&mut rig);
    let ticket = rig.say(drain(&path.to_string()));
    rig.cut(0);
    rig.run_until(|rig| rig.is_up(0));
    let again = rig.path(0, 0);
    assert_ne!(again, path);
    release(&mut rig);
    assert!(rig.answers[&ticket].is_ok(), "{:?}", rig.answers[&ticket]);
    assert_eq!(rig.state(again), PathState::Down, "nothing is sent where it is said that nothing is");
}

/// A number below `limit`; the same ones for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Something that an operator may say of one of the paths there are, or of a portal.
fn any_verb(rig: &Rig, chance: &mut Chance) -> Verb {
    let paths: Vec<String> = rig
        .host
        .disks()
        .filter_map(|view| view.disk)
        .flat_map(Disk::paths)
        .map(|path| path.status.id.to_string())
        .collect();
    let path = match chance.below(4) {
        0 => address(usize::try_from(chance.below(3)).unwrap()).to_string(),
        _ if paths.is_empty() => String::from("P0"),
        _ => paths[usize::try_from(chance.below(paths.len() as u64)).unwrap()].clone(),
    };
    let disk = String::from("all");
    let force = chance.below(3) == 0;
    match chance.below(8) {
        0 => Verb::Policy { disk, policy: Policy::Numa },
        1 => Verb::Policy { disk, policy: Policy::QueueDepth },
        2 => Verb::Rescan { portal: None },
        3 => Verb::Fail { path, force },
        4 | 5 => Verb::Reinstate { path },
        _ => Verb::Drain { path, force, timeout: seconds(chance.below(4)) },
    }
}

/// What else happens meanwhile.
fn any_mishap(rig: &mut Rig, chance: &mut Chance) {
    let nexus = u32::try_from(chance.below(3)).unwrap();
    let door = &mut rig.doors[nexus as usize];
    match chance.below(6) {
        0 => *door = Door::Refusing,
        1 => *door = Door::Dark,
        2 | 3 => *door = Door::Open,
        4 => hold_reads(rig),
        _ => release(rig),
    }
    if chance.below(3) == 0 && rig.doors[nexus as usize] != Door::Dark {
        rig.cut(nexus);
    }
}

#[test]
fn whatever_operators_say_every_verb_is_answered_and_every_request_ends_well() {
    for seed in 0..60 {
        let (mut rig, mut chance) = (Rig::new(3), Chance(seed));
        let disk = rig.disk(0);
        let (mut tags, mut tickets) = (Vec::new(), Vec::new());
        for step in 0..50 {
            match chance.below(3) {
                0 => tickets.push(rig.say(any_verb(&rig, &mut chance))),
                1 => any_mishap(&mut rig, &mut chance),
                _ => tags.push(rig.read(disk, step * 512)),
            }
            tags.push(rig.write(disk, chance.below(8) * 512));
            rig.advance(Duration::from_millis(chance.below(700)));
        }
        release(&mut rig);
        rig.doors.fill(Door::Open);
        (0..3).for_each(|port| tickets.push(rig.say(reinstate(&address(port).to_string()))));
        rig.advance(seconds(120));
        assert!(tickets.iter().all(|ticket| rig.answers.contains_key(ticket)), "seed {seed}");
        for tag in tags {
            assert_eq!(rig.completed.get(&tag), Some(&Ok(())), "seed {seed}: {:#?}", rig.notices);
        }
        assert!((0..3).all(|nexus| rig.state(rig.path(nexus, 0)) == USABLE), "seed {seed}");
    }
}
