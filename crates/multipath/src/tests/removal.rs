//! Paths that leave under load, and the head after its last path.

use super::*;
use crate::Misuse;

fn delayed(delay: Duration) -> Options {
    Options { delayed_removal: delay, ..Options::default() }
}

fn removed(request: u32) -> Did {
    Finish(request, Outcome::Removed)
}

#[test]
fn a_head_goes_with_its_last_path_by_default() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED; 2]);
    assert_eq!(bench.remove(1), []);
    assert_eq!(bench.remove(0), [Gone]);
}

#[test]
fn a_head_outlives_its_last_path_by_the_delay_and_parks_meanwhile() {
    let mut bench = Bench::with_paths(delayed(seconds(10)), &[OPTIMIZED]);
    assert_eq!(bench.remove(0), []);
    bench.pass(seconds(3));
    assert_eq!(bench.submit(1), [], "whatever the no-path policy");
    assert_eq!(bench.timeout(), [removed(1), Gone]);
    assert_eq!(bench.now, Instant::START + seconds(10));
}

#[test]
fn a_path_that_returns_cancels_the_removal() {
    let mut bench = Bench::with_paths(delayed(seconds(10)), &[OPTIMIZED]);
    bench.remove(0);
    bench.submit(1);
    assert_eq!(bench.add(4, OPTIMIZED), [Start(1, 4)]);
    assert_eq!(bench.head.poll_timeout(), None);
    bench.pass(seconds(100));
    assert_eq!(bench.tell(Event::Timeout), []);
    assert!(bench.changes.contains(&Change::RemovalCancelled));
}

#[test]
fn a_timer_that_fires_after_a_path_returned_finds_the_head_not_empty() {
    let mut bench = Bench::with_paths(delayed(seconds(10)), &[OPTIMIZED]);
    bench.remove(0);
    bench.pass(seconds(10));
    assert_eq!(bench.add(4, PathState::Down), [], "the timer was due but had not fired");
    assert_eq!(bench.tell(Event::Timeout), []);
}

#[test]
fn a_second_emptying_starts_the_delay_anew() {
    let mut bench = Bench::with_paths(delayed(seconds(10)), &[OPTIMIZED]);
    bench.remove(0);
    bench.pass(seconds(9));
    bench.add(0, OPTIMIZED);
    bench.remove(0);
    assert_eq!(bench.head.poll_timeout(), Some(Instant::START + seconds(19)));
}

#[test]
fn setting_the_delay_to_zero_while_it_runs_fires_at_once() {
    let mut bench = Bench::with_paths(delayed(seconds(10)), &[OPTIMIZED]);
    bench.remove(0);
    bench.submit(1);
    assert_eq!(bench.tell(Event::SetDelayedRemoval(Duration::ZERO)), [removed(1), Gone]);
}

#[test]
fn a_new_delay_counts_from_the_loss_of_the_last_path() {
    let mut bench = Bench::with_paths(delayed(seconds(10)), &[OPTIMIZED]);
    bench.remove(0);
    bench.pass(seconds(5));
    bench.tell(Event::SetDelayedRemoval(seconds(30)));
    assert_eq!(bench.head.poll_timeout(), Some(Instant::START + seconds(30)));
    assert_eq!(bench.tell(Event::SetDelayedRemoval(seconds(4))), [Gone]);
}

#[test]
fn the_longest_delay_does_not_overflow() {
    let mut bench = Bench::with_paths(delayed(Duration::MAX), &[OPTIMIZED]);
    bench.pass(seconds(1));
    assert_eq!(bench.remove(0), []);
    assert_eq!(bench.tell(Event::Timeout), []);
    assert_eq!(bench.submit(1), []);
}

#[test]
fn a_delay_says_nothing_while_there_is_a_path_or_has_not_been_one() {
    let mut bench = Bench::new(delayed(seconds(10)));
    assert_eq!(bench.tell(Event::Timeout), []);
    assert_eq!(bench.head.poll_timeout(), None);
    bench.add(0, PathState::Down);
    assert_eq!(bench.tell(Event::SetDelayedRemoval(Duration::ZERO)), []);
}

#[test]
fn requests_in_flight_on_a_removed_path_still_come_back() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED, OPTIMIZED]);
    bench.submit(1);
    bench.submit(2);
    assert_eq!(bench.remove(0), []);
    assert_eq!(bench.head.status().in_flight, 2);
    assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 1)]);
    bench.done(2);
    bench.done(1);
    assert_eq!(bench.head.status().in_flight, 0);
}

#[test]
fn removal_does_not_wait_for_requests_but_the_end_does() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.submit(1);
    bench.submit(2);
    assert_eq!(bench.remove(0), [], "returns at once; the head is not gone yet");
    assert_eq!(bench.submit(3), [removed(3)]);
    assert_eq!(bench.end(1, Verdict::Failover), [removed(1)]);
    assert_eq!(bench.end(2, Verdict::Done), [Finish(2, Outcome::Done), Gone]);
}

#[test]
fn teardown_ends_what_waits_and_awaits_what_is_in_flight() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED, PathState::Waiting]);
    bench.submit(1);
    bench.submit(2);
    bench.end(2, Verdict::Again { after: seconds(5) });
    bench.change(0, PathState::Waiting);
    bench.submit(3);
    assert_eq!(bench.tell(Event::Remove), [removed(2), removed(3)]);
    assert_eq!(bench.tell(Event::Remove), [], "twice is once");
    assert_eq!(bench.change(0, OPTIMIZED), []);
    assert_eq!(bench.end(1, Verdict::Again { after: seconds(5) }), [removed(1), Gone]);
    assert_eq!(bench.head.poll_timeout(), None);
}

#[test]
fn gone_is_said_once_and_nothing_brings_the_head_back() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    assert_eq!(bench.tell(Event::Remove), [Gone]);
    for event in [
        Event::Remove,
        Event::Timeout,
        Event::PathRemoved { path: PathId(0) },
        Event::PathAdded { path: PathId(1), node: None, state: OPTIMIZED },
        Event::SetDelayedRemoval(Duration::ZERO),
        Event::SetPolicy(Policy::RoundRobin),
    ] {
        assert_eq!(bench.tell(event), []);
    }
    assert_eq!(bench.submit(1), [removed(1)]);
}

#[test]
fn a_path_id_is_free_again_when_nothing_is_in_flight_on_it() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED, OPTIMIZED]);
    bench.submit(1);
    bench.remove(0);
    bench.add(0, OPTIMIZED);
    let refused = Change::Refused { path: PathId(0), misuse: Misuse::DuplicatePath };
    assert_eq!(bench.changes.pop(), Some(refused), "its ticket must not be mistaken for one of the new path");
    bench.done(1);
    bench.add(0, OPTIMIZED);
    assert_eq!(bench.depths(), [0, 0]);
}

#[test]
fn events_that_do_not_fit_are_refused_and_change_nothing() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.add(0, PathState::Down);
    bench.change(5, OPTIMIZED);
    bench.remove(5);
    let refused = |path, misuse| Change::Refused { path: PathId(path), misuse };
    let unknown = refused(5, Misuse::UnknownPath);
    assert_eq!(bench.changes, [refused(0, Misuse::DuplicatePath), unknown, unknown]);
    assert_eq!(bench.submit(1), [Start(1, 0)]);
}

#[test]
fn a_ticket_of_another_head_loses_no_request() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    let mut other = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    other.submit(1);
    let (ticket, request) = other.in_flight.remove(0);
    let did = bench.tell(Event::Ended { ticket, request, verdict: Verdict::Done });
    assert_eq!(did, [Finish(1, Outcome::Done)]);
    let foreign = Change::Refused { path: PathId(0), misuse: Misuse::ForeignTicket };
    assert_eq!((bench.changes, bench.head.status().in_flight), (Vec::from([foreign]), 0));
}

#[test]
fn the_table_of_paths_is_bounded() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED; crate::PATHS_MAX]);
    bench.add(9_999, OPTIMIZED);
    let refused = Change::Refused { path: PathId(9_999), misuse: Misuse::TooManyPaths };
    assert_eq!(bench.changes, [refused]);
}
