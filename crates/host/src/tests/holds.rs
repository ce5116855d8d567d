//! What operators keep out, over a restart.

use clock::Duration;
use multipath::{Access, PathState};

use super::rig::{Door, Rig, TARGET_NAME, address, options};
use crate::config::{Options, PortalConfig};
use crate::state::State;
use crate::{Event, Verb};

const USABLE: PathState = PathState::Usable(Access::Optimized);

fn fail(path: &str) -> Verb {
    Verb::Fail { path: path.to_owned(), force: false }
}

fn drain(path: &str) -> Verb {
    Verb::Drain { path: path.to_owned(), force: false, timeout: Duration::from_secs(30) }
}

fn reinstate(path: &str) -> Verb {
    Verb::Reinstate { path: path.to_owned() }
}

fn started(ports: usize) -> Rig {
    let mut rig = Rig::with(Options { inherited: Some(State::default()), ..options(ports) }, ports);
    rig.advance(Duration::from_millis(1));
    rig
}

/// The process is killed, and the next one finds what was stored last.
fn restart(rig: &mut Rig, options: Options) {
    let state = rig.stored.last().unwrap().clone();
    rig.restart(options, state);
    rig.advance(Duration::from_secs(2));
}

#[test]
fn what_an_operator_failed_or_drained_stays_out_over_a_restart() {
    let mut rig = started(3);
    let failed = rig.path(0, 0).to_string();
    rig.said(fail(&failed)).unwrap();
    rig.said(drain(&address(1).to_string())).unwrap();
    restart(&mut rig, options(3));
    let states: Vec<PathState> =
        (0..3).flat_map(|nexus| [rig.state(rig.path(nexus, 0)), rig.state(rig.path(nexus, 1))]).collect();
    let down = PathState::Down;
    assert_eq!(states, [down, USABLE, down, down, USABLE, USABLE]);
    assert!(rig.host.holds_without_path().is_empty());
}

#[test]
fn a_path_that_was_kept_out_before_a_restart_is_told_of_as_the_operators() {
    let mut rig = started(2);
    rig.said(fail(&rig.path(0, 0).to_string())).unwrap();
    restart(&mut rig, options(2));
    let events: Vec<&str> = rig
        .host
        .events(0)
        .filter(|entry| entry.what.code() == "operator-failed")
        .map(|entry| entry.text.as_str())
        .collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].contains("192.0.2.1:3260") && events[0].ends_with("stays out: failed by operator"));
}

#[test]
fn what_was_reinstated_is_used_after_a_restart() {
    let mut rig = started(2);
    let path = rig.path(0, 0).to_string();
    rig.said(fail(&path)).unwrap();
    rig.said(reinstate(&path)).unwrap();
    restart(&mut rig, options(2));
    assert_eq!(rig.state(rig.path(0, 0)), USABLE);
}

#[test]
fn what_is_kept_out_outlives_a_clean_end() {
    let mut rig = started(2);
    rig.said(fail(&rig.path(0, 0).to_string())).unwrap();
    rig.host.handle(rig.now, Event::Shutdown);
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.ended, Some(true));
    assert_eq!((rig.stored.last().unwrap().nexuses.len(), rig.stored.last().unwrap().holds.len()), (0, 1));
    restart(&mut rig, options(2));
    assert_eq!(rig.state(rig.path(0, 0)), PathState::Down);
}

#[test]
fn an_operator_is_answered_when_it_is_stored() {
    let mut rig = started(2);
    rig.is_storing_slowly = true;
    let path = rig.path(0, 0);
    let tickets = [rig.say(fail(&path.to_string())), rig.say(fail(&path.to_string()))];
    assert_eq!(rig.state(path), PathState::Down, "it holds at once");
    assert!(tickets.iter().all(|ticket| !rig.answers.contains_key(ticket)));
    rig.host.handle(rig.now, Event::Persisted);
    rig.advance(Duration::ZERO);
    assert!(tickets.iter().all(|ticket| rig.answers[ticket].is_ok()));
}

#[test]
fn an_operator_whose_word_came_while_something_was_being_stored_waits_for_the_next_time() {
    let mut rig = started(3);
    rig.is_storing_slowly = true;
    let first = rig.say(fail(&rig.path(0, 0).to_string()));
    let second = rig.say(fail(&rig.path(1, 0).to_string()));
    rig.host.handle(rig.now, Event::Persisted);
    rig.advance(Duration::ZERO);
    assert!(!rig.answers.contains_key(&second));
    rig.host.handle(rig.now, Event::Persisted);
    rig.advance(Duration::ZERO);
    assert!(rig.answers[&first].is_ok() && rig.answers[&second].is_ok());
    assert_eq!(rig.stored.last().unwrap().holds.len(), 2);
}

#[test]
fn an_operator_is_told_what_cannot_be_remembered() {
    let mut rig = started(2);
    rig.is_storing_slowly = true;
    let ticket = rig.say(fail(&rig.path(0, 0).to_string()));
    rig.host.handle(rig.now, Event::NotPersisted);
    rig.advance(Duration::ZERO);
    let error = rig.answers[&ticket].as_ref().unwrap_err().to_string();
    assert!(error.contains("not used until") && error.contains("not remembered"), "{error}");
}

#[test]
fn without_a_memory_an_operator_is_answered_at_once() {
    let mut rig = Rig::new(2);
    rig.said(fail(&rig.path(0, 0).to_string())).unwrap();
    assert!(rig.stored.is_empty());
}

#[test]
fn what_is_kept_out_is_known_by_its_identity_and_not_by_its_lun() {
    let mut rig = started(2);
    let (path, identity) = (rig.path(0, 0), rig.host.disk(rig.disk(0)).unwrap().identity.to_string());
    rig.said(fail(&path.to_string())).unwrap();
    let mut state = rig.stored.last().unwrap().clone();
    assert_eq!(state.holds[0].identity, identity);
    // The storage maps the unit of LUN 1 where that of LUN 0 was, and the other way round.
    state.holds[0].identity = rig.host.disk(rig.disk(1)).unwrap().identity.to_string();
    rig.restart(options(2), state);
    rig.advance(Duration::from_secs(2));
    assert_eq!((rig.state(rig.path(0, 0)), rig.state(rig.path(0, 1))), (USABLE, PathState::Down));
}

#[test]
fn what_is_kept_out_at_a_portal_that_nobody_asks_for_is_shown_and_can_be_given_back() {
    let mut rig = started(2);
    rig.said(drain(&address(1).to_string())).unwrap();
    rig.doors[1] = Door::Refusing;
    restart(&mut rig, options(1));
    assert_eq!(rig.host.holds_without_path().len(), 2);
    let portal = address(1).to_string();
    assert!(rig.said(reinstate(&portal)).unwrap().contains("2 path(s) may be used when they are found"));
    assert!(rig.host.holds_without_path().is_empty());
    assert!(rig.stored.last().unwrap().holds.is_empty());
}

#[test]
fn a_second_session_to_the_same_port_does_not_lead_round_an_operator() {
    let mut both = options(2);
    let lun = Some(scsi::Lun::from(0_u16));
    let target_name = TARGET_NAME.to_owned();
    both.portals.push(PortalConfig::Target { portal: address(0), target_name, lun });
    let mut rig = Rig::with(both, 2);
    rig.advance(Duration::from_millis(1));
    rig.said(fail(&rig.path(0, 0).to_string())).unwrap();
    assert_eq!((rig.state(rig.path(2, 0)), rig.state(rig.path(1, 0))), (PathState::Down, USABLE));
}
