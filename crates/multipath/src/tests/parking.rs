//! Requests without a path: who waits, who fails, what ends the wait, and in which order.

use super::*;

const QUEUE_FOR_5: NoPath = NoPath::QueueFor(seconds(5));

fn no_path(request: u32) -> Did {
    Finish(request, Outcome::NoPath)
}

#[test]
fn a_request_parks_while_a_path_may_come_back_by_itself() {
    let mut bench = Bench::with_paths(Options::default(), &[PathState::Waiting, PathState::Down]);
    assert_eq!(bench.submit(1), []);
    let status = bench.head.status();
    assert_eq!((status.parked, status.counters.parked, status.counters.no_path), (1, 1, 0));
}

#[test]
fn a_request_fails_when_no_path_may_come_back_by_itself() {
    let mut bench = Bench::with_paths(Options::default(), &[PathState::Down; 2]);
    assert_eq!(bench.submit(1), [no_path(1)]);
    let mut bench = Bench::new(Options::default());
    assert_eq!(bench.submit(1), [no_path(1)], "nor when there is no path at all");
    let status = bench.head.status();
    assert_eq!((status.parked, status.counters.parked, status.counters.no_path), (0, 0, 1));
}

#[test]
fn parked_requests_fail_when_the_last_hope_goes() {
    let mut bench = Bench::with_paths(Options::default(), &[PathState::Waiting; 2]);
    bench.submit(1);
    bench.submit(2);
    assert_eq!(bench.change(0, PathState::Down), []);
    assert_eq!(bench.change(1, PathState::Down), [no_path(1), no_path(2)]);
}

#[test]
fn a_path_that_unblocks_starts_what_is_parked() {
    let mut bench = Bench::with_paths(Options::default(), &[PathState::Waiting]);
    bench.submit(1);
    bench.submit(2);
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0), Start(2, 0)]);
}

#[test]
fn a_state_that_improves_starts_what_is_parked() {
    let mut bench = Bench::with_paths(with_no_path(NoPath::Queue), &[PathState::Down, PathState::Waiting]);
    bench.submit(1);
    assert_eq!(bench.change(0, NON_OPTIMIZED), [Start(1, 0)]);
}

#[test]
fn a_path_that_is_added_starts_what_is_parked() {
    let mut bench = Bench::with_paths(Options::default(), &[PathState::Waiting]);
    bench.submit(1);
    assert_eq!(bench.add(7, OPTIMIZED), [Start(1, 7)]);
}

#[test]
fn a_policy_change_leaves_nothing_parked_beside_a_usable_path() {
    let mut bench = Bench::with_paths(Options::default(), &[PathState::Waiting]);
    bench.submit(1);
    assert_eq!(bench.tell(Event::SetPolicy(Policy::RoundRobin)), [], "still no path");
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0)]);
}

#[test]
fn removal_of_the_last_hope_strands_nothing() {
    let mut bench = Bench::with_paths(Options::default(), &[PathState::Waiting, PathState::Down]);
    bench.submit(1);
    assert_eq!(bench.remove(0), [no_path(1)]);
    assert_eq!(bench.submit(2), [no_path(2)]);
}

#[test]
fn a_parked_write_fails_after_no_path_timeout() {
    let mut bench = Bench::with_paths(with_no_path(QUEUE_FOR_5), &[OPTIMIZED]);
    bench.change(0, PathState::Down);
    bench.pass(seconds(2));
    assert_eq!(bench.submit(1), []);
    assert_eq!(
        bench.head.poll_timeout(),
        Some(Instant::START + seconds(5)),
        "from the loss, not the request"
    );
    assert_eq!(bench.timeout(), [no_path(1)]);
    assert_eq!(bench.submit(2), [no_path(2)], "the time is over for later ones too");
    bench.change(0, OPTIMIZED);
    bench.change(0, PathState::Down);
    assert_eq!(bench.submit(3), [], "an available path starts it anew");
}

#[test]
fn the_no_path_time_runs_when_paths_exist_but_all_are_down() {
    let mut bench = Bench::with_paths(with_no_path(QUEUE_FOR_5), &[PathState::Down; 3]);
    assert_eq!(bench.submit(1), []);
    assert_eq!(bench.timeout(), [no_path(1)]);
    assert_eq!(bench.now, Instant::START + seconds(5));
}

#[test]
fn the_no_path_time_is_exact_even_if_the_timer_is_late() {
    let mut bench = Bench::with_paths(with_no_path(QUEUE_FOR_5), &[PathState::Down]);
    assert_eq!(bench.submit(1), []);
    bench.pass(seconds(5));
    assert_eq!(bench.submit(2), [no_path(1), no_path(2)]);
}

#[test]
fn a_path_that_is_back_wins_against_a_late_timer() {
    let mut bench = Bench::with_paths(with_no_path(QUEUE_FOR_5), &[PathState::Down]);
    bench.submit(1);
    bench.pass(seconds(6));
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0)]);
}

#[test]
fn a_waiting_path_stops_the_no_path_time() {
    let mut bench = Bench::with_paths(with_no_path(QUEUE_FOR_5), &[PathState::Down]);
    bench.submit(1);
    bench.pass(seconds(4));
    assert_eq!(bench.change(0, PathState::Waiting), []);
    assert_eq!(bench.head.poll_timeout(), None);
}

#[test]
fn the_no_path_policy_can_be_changed_while_requests_wait() {
    let mut bench = Bench::with_paths(with_no_path(NoPath::Queue), &[PathState::Down]);
    bench.submit(1);
    bench.pass(seconds(4));
    assert_eq!(bench.tell(Event::SetNoPath(QUEUE_FOR_5)), []);
    assert_eq!(bench.head.poll_timeout(), Some(Instant::START + seconds(5)));
    assert_eq!(bench.tell(Event::SetNoPath(NoPath::Fail)), [no_path(1)]);
}

#[test]
fn an_endless_no_path_time_does_not_overflow() {
    let mut bench = Bench::with_paths(with_no_path(NoPath::QueueFor(Duration::MAX)), &[]);
    bench.pass(seconds(1));
    assert_eq!(bench.submit(1), []);
    assert_eq!(bench.tell(Event::Timeout), []);
}

#[test]
fn queueing_is_bounded_and_the_youngest_gives_way() {
    let mut bench = Bench::new(Options { parked_max: 2, ..with_no_path(NoPath::Queue) });
    assert_eq!([bench.submit(1), bench.submit(2)], [[], []]);
    assert_eq!(bench.submit(3), [no_path(3)]);
    assert_eq!(bench.head.status().parked, 2);
}

#[test]
fn a_request_that_comes_back_takes_the_place_of_a_younger_one() {
    let options = Options { parked_max: 2, ..with_no_path(NoPath::Queue) };
    let mut bench = Bench::with_paths(options, &[OPTIMIZED]);
    bench.submit(1);
    bench.change(0, PathState::Down);
    bench.submit(2);
    bench.submit(3);
    assert_eq!(bench.end(1, Verdict::Failover), [no_path(3)]);
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0), Start(2, 0)]);
}

#[test]
fn pausing_requests_count_as_waiting() {
    let mut bench = Bench::with_paths(Options { parked_max: 1, ..Options::default() }, &[OPTIMIZED]);
    bench.submit(1);
    bench.submit(2);
    assert_eq!(bench.end(1, Verdict::Again { after: seconds(1) }), []);
    assert_eq!(bench.end(2, Verdict::Again { after: seconds(2) }), [no_path(2)]);
    let status = bench.head.status();
    assert_eq!((status.parked, status.pausing, status.counters.parked), (0, 1, 2));
}

#[test]
fn a_resent_request_goes_before_younger_parked_ones() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    for request in 1..=3 {
        bench.submit(request);
    }
    bench.change(0, PathState::Waiting);
    bench.submit(4);
    assert_eq!(bench.end(3, Verdict::Failover), []);
    assert_eq!(bench.end(1, Verdict::Failover), []);
    assert_eq!(bench.end(2, Verdict::Failover), []);
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0), Start(2, 0), Start(3, 0), Start(4, 0)]);
}

#[test]
fn a_pause_that_ends_without_a_path_keeps_the_place_in_the_order() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED]);
    bench.submit(1);
    bench.end(1, Verdict::Again { after: seconds(1) });
    bench.change(0, PathState::Waiting);
    bench.submit(2);
    assert_eq!(bench.timeout(), []);
    assert_eq!(bench.change(0, OPTIMIZED), [Start(1, 0), Start(2, 0)]);
}

#[test]
fn ten_thousand_parked_requests_start_in_order_and_without_recursion() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED, PathState::Down]);
    for request in 0..10_000 {
        assert_eq!(bench.submit(request), [Start(request, 0)]);
    }
    bench.change(0, PathState::Waiting);
    // They come back youngest first: the order must come from the submissions.
    for request in (0..10_000).rev() {
        assert_eq!(bench.end(request, Verdict::Failover), []);
    }
    let expected: Vec<Did> = (0..10_000).map(|request| Start(request, 1)).collect();
    assert_eq!(bench.change(1, OPTIMIZED), expected);
}

#[test]
fn a_disk_may_be_served_by_heads_on_several_threads() {
    const fn is_send<T: Send>() {}
    is_send::<Head<u32>>();
    is_send::<Event<u32>>();
    is_send::<Action<u32>>();
}
