//! What a person sees.

use alloc::string::ToString;

use super::*;
use crate::Health;

#[test]
fn a_path_shows_its_state_its_load_and_its_record() {
    let mut bench = Bench::with_paths(Options { back_off: QUICK, ..Options::default() }, &[OPTIMIZED; 2]);
    bench.submit(1);
    bench.end(1, Verdict::Failover);
    bench.pass(seconds(9));
    bench.change(1, NON_OPTIMIZED);
    let lines: Vec<_> = bench.head.paths().map(|path| path.to_string()).collect();
    assert_eq!(
        lines,
        [
            "P0 optimized, trial due, 0 in flight, 1 started, 1 failed",
            "P1 non-optimized, good, 1 in flight, 1 started, 0 failed",
        ]
    );
    let paths: Vec<_> = bench.head.paths().collect();
    assert_eq!(paths[0].health, Health::TrialDue { length: seconds(1) });
    assert_eq!(paths.iter().map(|path| path.since).collect::<Vec<_>>(), [Instant::START, bench.now]);
}

#[test]
fn a_head_shows_what_it_holds_and_what_it_went_through() {
    let mut bench = Bench::with_paths(with_policy(Policy::QueueDepth), &[OPTIMIZED; 2]);
    bench.submit(1);
    bench.submit(2);
    bench.submit(3);
    bench.end(1, Verdict::Failover);
    bench.end(3, Verdict::Again { after: seconds(1) });
    assert_eq!(
        bench.head.status().to_string(),
        "queue-depth, 2 paths, 2 in flight, 0 parked, 1 pausing, 1 failed over, 1 retried, 0 without path"
    );
}

#[test]
fn losing_and_regaining_all_paths_is_one_line_each() {
    let mut bench = Bench::with_paths(Options::default(), &[OPTIMIZED; 2]);
    bench.change(0, PathState::Down);
    bench.change(1, PathState::Down);
    bench.submit(1);
    bench.submit(2);
    bench.change(0, OPTIMIZED);
    let lines: Vec<_> = bench.changes.iter().map(Change::to_string).collect();
    assert_eq!(
        lines,
        [
            "path P0 optimized -> down",
            "path P1 optimized -> down",
            "no path is available",
            "path P0 down -> optimized",
            "a path is available",
        ]
    );
}
