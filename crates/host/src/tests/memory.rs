//! What is remembered, and what comes of it after a restart.

use clock::Duration;
use scsi_multipath::Proof;

use super::rig::{Door, Rig, Seen, options};
use crate::Event;
use crate::config::Options;
use crate::state::State;

fn remembering(ports: usize) -> Options {
    Options { inherited: Some(State::default()), ..options(ports) }
}

fn started(ports: usize) -> Rig {
    let mut rig = Rig::with(remembering(ports), ports);
    rig.advance(Duration::from_millis(1));
    rig
}

/// By nexus: how many logical units are remembered.
fn units(state: &State) -> Vec<usize> {
    state.nexuses.iter().map(|record| record.units.len()).collect()
}

fn usable(rig: &Rig) -> usize {
    let disks = rig.host.disks().filter_map(|view| view.disk);
    disks.map(|disk| disk.paths().count()).sum()
}

#[test]
fn no_path_joins_before_it_is_stored_that_there_is_one() {
    let mut rig = Rig::with(remembering(1), 1);
    rig.is_storing_slowly = true;
    rig.advance(Duration::from_secs(3));
    assert_eq!(units(&rig.stored[0]), [2]);
    assert_eq!((rig.stored.len(), usable(&rig), rig.host.is_settled()), (1, 0, false));
    rig.host.handle(rig.now, Event::Persisted);
    rig.advance(Duration::from_millis(1));
    assert_eq!((rig.stored.len(), usable(&rig), rig.host.is_settled()), (1, 2, true));
}

#[test]
fn what_is_stored_already_is_not_stored_again() {
    let mut rig = started(2);
    let states = rig.stored.len();
    rig.cut(1);
    rig.run_until(|rig| rig.is_up(1) && usable(rig) == 4);
    assert_eq!((rig.stored.len(), units(rig.stored.last().unwrap())), (states, vec![2, 2]));
}

#[test]
fn after_a_clean_end_nothing_is_remembered() {
    let mut rig = started(2);
    rig.host.handle(rig.now, Event::Shutdown);
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.ended, Some(true));
    assert_eq!(rig.stored.last(), Some(&State::default()));
}

#[test]
fn a_successor_fences_every_nexus_of_its_predecessor_with_the_isid_that_it_had() {
    let mut rig = started(2);
    let state = rig.stored.last().unwrap().clone();
    let before: Vec<[u8; 6]> = state.nexuses.iter().map(|record| record.isid).collect();
    rig.restart(Options { salt: vec![1, 2, 3], ..options(2) }, state);
    rig.advance(Duration::from_secs(2));
    let resets = |nexus| {
        let is_its = |seen: &&Seen| matches!(seen, Seen::Reset { nexus: of, .. } if *of == nexus);
        rig.seen.iter().filter(is_its).count()
    };
    assert_eq!((resets(0), resets(1)), (2, 2), "{:#?}", rig.seen);
    assert_eq!(rig.fenced().len(), 4);
    assert!(rig.fenced().iter().all(|(_, proof)| *proof == Proof::Reinstated));
    let fences: usize = rig.host.disks().filter_map(|view| view.disk).map(|disk| disk.fences().count()).sum();
    assert_eq!((fences, usable(&rig)), (0, 4));
    let after: Vec<[u8; 6]> = rig.host.nexuses.iter().map(|nexus| nexus.isid).collect();
    assert_eq!(before, after);
}

#[test]
fn a_nexus_that_nobody_asks_for_any_more_is_fenced_and_ends() {
    let mut rig = started(2);
    let state = rig.stored.last().unwrap().clone();
    // Only the first portal is configured now; the other one is known from what is remembered.
    rig.restart(options(1), state);
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.fenced().len(), 4);
    assert!(rig.seen.contains(&Seen::LoggedOut { nexus: 1, port: 1 }), "{:#?}", rig.seen);
    assert_eq!(usable(&rig), 2);
    assert_eq!(units(rig.stored.last().unwrap()), [2], "{:#?}", rig.stored.last());
}

#[test]
fn what_cannot_be_fenced_stays_remembered() {
    let mut rig = started(2);
    let state = rig.stored.last().unwrap().clone();
    rig.doors[1] = Door::Refusing;
    let mut options = options(1);
    options.disks.fence = scsi_multipath::FencePolicy::Strict;
    // Each portal is a group of its own here, so that no sibling helps.
    let mut state = state;
    state.nexuses[1].group = Some(9);
    rig.restart(options, state);
    rig.advance(Duration::from_secs(60));
    assert_eq!(rig.fenced().len(), 2);
    assert_eq!(units(rig.stored.last().unwrap()), [2, 2]);
    rig.host.handle(rig.now, Event::Waive { disk: None });
    rig.advance(Duration::from_secs(1));
    assert_eq!(units(rig.stored.last().unwrap()), [2], "an operator's word is enough");
}

#[test]
fn a_fence_login_that_died_is_remembered() {
    let mut rig = started(1);
    let state = rig.stored.last().unwrap().clone();
    assert!(!state.nexuses[0].abandoned);
    rig.doors[0] = Door::Mute;
    rig.restart(options(1), state);
    rig.advance(Duration::from_secs(1));
    rig.cut(0);
    rig.advance(Duration::from_millis(1));
    let state = rig.stored.last().unwrap().clone();
    assert!(state.nexuses[0].abandoned, "{state:#?}");
    rig.doors[0] = Door::Open;
    rig.restart(options(1), state);
    rig.advance(Duration::from_secs(2));
    let proofs: Vec<Proof> = rig.fenced().into_iter().map(|(_, proof)| proof).collect();
    assert_eq!(proofs, [Proof::ReinstatedAgain; 2]);
}
