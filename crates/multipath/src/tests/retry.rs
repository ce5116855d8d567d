//! Requests that come back unfinished, and paths that keep failing them.

use super::*;
use crate::{BACK_OFF_FAILURES, BACK_OFF_FIRST, BACK_OFF_LONGEST, Health, PAUSE_MAX};

const AT_ONCE: Verdict = Verdict::Again { after: Duration::ZERO };

fn quick() -> Options {
    Options { back_off: QUICK, ..Options::default() }
}

#[test]
fn a_failed_request_goes_to_another_path() {
    for policy in POLICIES {
        let mut bench = Bench::with_paths(with_policy(policy), &[OPTIMIZED, NON_OPTIMIZED]);
        assert_eq!(bench.submit(1), [Start(1, 0)]);
        assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 1)], "{policy}: although not optimized");
        assert_eq!(bench.end(1, Verdict::Done), [Finish(1, Outcome::Done)]);
        let counters = bench.head.status().counters;
        assert_eq!((counters.failed_over, counters.retried, counters.parked), (1, 1, 0));
    }
}

#[test]
fn a_failed_request_goes_to_the_same_path_if_it_is_the_only_one() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 0)]);
}

#[test]
fn a_request_is_sent_again_after_its_pause_and_no_earlier() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Again { after: seconds(2) }), []);
    bench.pass(seconds(1));
    assert_eq!(bench.tell(Event::Timeout), []);
    assert_eq!(bench.submit(2), [Start(2, 0)], "others need not wait");
    assert_eq!(bench.timeout(), [Start(1, 0)]);
    assert_eq!(bench.now, Instant::START + seconds(2));
    assert_eq!(bench.end(1, AT_ONCE), [Start(1, 0)]);
}

#[test]
fn a_pause_is_bounded() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.submit(1);
    bench.end(1, Verdict::Again { after: Duration::MAX });
    assert_eq!(bench.timeout(), [Start(1, 0)]);
    assert_eq!(bench.now, Instant::START + PAUSE_MAX);
}

#[test]
fn retries_are_capped_whatever_their_reason() {
    let mut bench = Bench::with_paths(Options { retries_max: 2, ..Options::default() }, &[OPTIMIZED; 2]);
    bench.submit(1);
    assert_eq!(bench.end(1, AT_ONCE), [Start(1, 0)]);
    assert_eq!(bench.in_flight[0].0.attempts(), 2);
    assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 1)]);
    assert_eq!(bench.end(1, AT_ONCE), [Finish(1, Outcome::RetriesExhausted)]);
    assert_eq!(bench.head.status().counters.retries_exhausted, 1);
}

#[test]
fn a_success_after_the_last_retry_still_counts() {
    let mut bench = Bench::with_paths(Options { retries_max: 0, ..Options::default() }, &[OPTIMIZED]);
    bench.submit(1);
    bench.done(1);
}

#[test]
fn a_path_that_accepts_and_then_fails_everything_is_left_alone() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED, OPTIMIZED]);
    for request in 0..BACK_OFF_FAILURES {
        assert_eq!(bench.submit(request), [Start(request, 0)], "numa stays on the first");
        assert_eq!(bench.end(request, Verdict::Failover), [Start(request, 1)]);
        bench.done(request);
        bench.tell(Event::SetPolicy(Policy::Numa));
    }
    let until = bench.now + BACK_OFF_FIRST;
    let backed_off = Change::BackedOff { path: PathId(0), failures: BACK_OFF_FAILURES, until };
    assert_eq!(bench.changes, [backed_off]);
    assert_eq!(bench.submit(9), [Start(9, 1)]);
}

#[test]
fn one_success_between_failures_keeps_a_path_in() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    for _ in 0..4 {
        bench.submit(1);
        for _ in 1..BACK_OFF_FAILURES {
            assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 0)]);
        }
        bench.done(1);
    }
    assert_eq!(bench.changes, []);
}

#[test]
fn requests_park_while_the_only_path_is_backed_off_and_its_timer_is_armed() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED, PathState::Down]);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Failover), []);
    assert_eq!(bench.submit(2), []);
    assert_eq!(bench.head.poll_timeout(), Some(Instant::START + seconds(1)));
}

#[test]
fn a_backed_off_path_returns_on_trial_with_one_request() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    bench.end(1, Verdict::Failover);
    bench.submit(2);
    bench.submit(3);
    assert_eq!(bench.timeout(), [Start(1, 0)], "one only");
    assert_eq!(bench.submit(4), []);
    assert_eq!(
        bench.end(1, Verdict::Done),
        [Finish(1, Outcome::Done), Start(2, 0), Start(3, 0), Start(4, 0)],
        "a success brings it back"
    );
    assert!(bench.changes.contains(&Change::Restored { path: PathId(0) }));
}

#[test]
fn a_failed_trial_doubles_the_back_off_up_to_its_bound() {
    let mut bench = Bench::with_paths(Options { no_path: NoPath::Queue, ..quick() }, &[OPTIMIZED]);
    bench.submit(1);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let failed_at = bench.now;
        assert_eq!(bench.end(1, Verdict::Failover), []);
        assert_eq!(bench.timeout(), [Start(1, 0)]);
        pauses.push(bench.now.since(failed_at));
    }
    assert_eq!(pauses, [1, 2, 4, 4, 4].map(seconds));
}

#[test]
fn a_path_that_never_passes_its_trial_holds_requests_only_until_its_back_off_is_longest() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    bench.submit(2);
    bench.end(1, Verdict::Failover);
    assert_eq!(bench.end(2, Verdict::Failover), []);
    assert_eq!(bench.timeout(), [Start(1, 0)]);
    assert_eq!(bench.end(1, Verdict::Failover), [], "2 s");
    assert_eq!(bench.timeout(), [Start(1, 0)]);
    let end = [Finish(1, Outcome::NoPath), Finish(2, Outcome::NoPath)];
    assert_eq!(bench.end(1, Verdict::Failover), end, "4 s: no longer counts as available");
    assert_eq!(bench.submit(3), [Finish(3, Outcome::NoPath)]);
    assert_eq!(bench.timeout(), []);
    assert_eq!(bench.submit(4), [Start(4, 0)], "but it is still tried");
    bench.done(4);
    assert_eq!(bench.submit(5), [Start(5, 0)]);
}

#[test]
fn the_default_back_off_reaches_its_bound_within_two_minutes() {
    let (mut length, mut total) = (BACK_OFF_FIRST, Duration::ZERO);
    while length < BACK_OFF_LONGEST {
        total = total + length;
        length = length.saturating_mul(2);
    }
    assert!(total < seconds(120), "{total:?}");
}

#[test]
fn a_trial_is_one_request_even_beside_good_paths() {
    let options = Options { policy: Policy::QueueDepth, ..quick() };
    let mut bench = Bench::with_paths(options, &[OPTIMIZED; 2]);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 1)]);
    assert_eq!(bench.timeout(), []);
    assert_eq!(bench.submit(2), [Start(2, 0)], "the trial");
    assert_eq!(bench.submit(3), [Start(3, 1)]);
    assert_eq!(bench.submit(4), [Start(4, 1)]);
}

#[test]
fn failures_of_requests_from_before_the_back_off_do_not_lengthen_it() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    for request in 1..=5 {
        bench.submit(request);
    }
    for request in 1..=5 {
        assert_eq!(bench.end(request, Verdict::Failover), []);
    }
    assert_eq!(bench.head.poll_timeout(), Some(Instant::START + seconds(1)));
}

#[test]
fn a_success_from_before_the_back_off_ends_it() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    bench.submit(2);
    assert_eq!(bench.end(1, Verdict::Failover), []);
    assert_eq!(bench.end(2, Verdict::Done), [Finish(2, Outcome::Done), Start(1, 0)]);
    assert_eq!(bench.head.poll_timeout(), None);
}

#[test]
fn what_a_lost_path_drops_is_not_held_against_it() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    bench.change(0, PathState::Waiting);
    assert_eq!(bench.end(1, Verdict::Failover), []);
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0)]);
    assert_eq!(bench.head.paths().next().unwrap().health, Health::Good { failures: 0 });
}

#[test]
fn a_path_that_reconnects_need_not_sit_out_its_back_off_but_is_tried_first() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    bench.submit(2);
    bench.end(1, Verdict::Failover);
    bench.end(2, Verdict::Failover);
    bench.change(0, PathState::Waiting);
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0)]);
    assert_eq!(bench.end(1, Verdict::Failover), []);
    assert_eq!(bench.head.poll_timeout(), Some(Instant::START + seconds(2)), "its record was kept");
}

#[test]
fn a_trial_that_its_path_did_not_survive_taught_nothing() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    bench.end(1, Verdict::Failover);
    assert_eq!(bench.timeout(), [Start(1, 0)]);
    bench.change(0, PathState::Waiting);
    assert_eq!(bench.end(1, Verdict::Failover), []);
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0)], "a new trial at once");
}

#[test]
fn a_busy_answer_is_not_a_failure_of_the_path() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    assert_eq!(bench.end(1, AT_ONCE), [Start(1, 0)]);
    assert_eq!(bench.head.paths().next().unwrap().failures, 0);
}

#[test]
fn a_failure_from_before_the_back_off_does_not_decide_the_trial() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED]);
    bench.submit(1);
    bench.submit(2);
    bench.end(1, Verdict::Failover);
    assert_eq!(bench.timeout(), [Start(1, 0)], "the trial");
    assert_eq!(bench.end(2, Verdict::Failover), []);
    assert_eq!(bench.head.poll_timeout(), None, "the trial is still out");
    assert_eq!(bench.end(1, Verdict::Done), [Finish(1, Outcome::Done), Start(2, 0)]);
}

#[test]
fn numa_goes_back_to_its_path_when_the_trial_succeeds() {
    let mut bench = Bench::with_paths(quick(), &[OPTIMIZED; 2]);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 1)]);
    assert_eq!(bench.submit(2), [Start(2, 1)]);
    bench.timeout();
    assert_eq!(bench.submit(3), [Start(3, 0)], "the trial");
    assert_eq!(bench.submit(4), [Start(4, 1)]);
    bench.done(3);
    assert_eq!(bench.submit(5), [Start(5, 0)]);
}
