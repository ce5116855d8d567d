//! Paths that are slow, requests that are late, and canaries.

use super::*;
use crate::policy::STRETCH;
use crate::{Class, Health, Hedging, Pace, PathStatus, SlowPaths, Trial, Why};

const READ: Kind = Kind { class: Class::SmallRead, mark: Some(Mark(0)) };
const FAST: Duration = Duration::from_millis(1);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn watchful(policy: Policy) -> Options {
    Options { policy, slow_paths: SlowPaths::Demote, trial: Trial::Canary, ..Options::default() }
}

fn bench(options: Options, paths: usize) -> Bench {
    let states = [OPTIMIZED; 8];
    let mut bench = Bench::with_paths(options, &states[..paths]);
    bench.kind = READ;
    bench
}

/// Two paths, of which the first has carried some requests.
fn in_use() -> Bench {
    let mut bench = bench(watchful(Policy::Numa), 2);
    for _ in 0..20 {
        bench.run(&[FAST; 2]);
    }
    bench
}

impl Bench {
    /// Sends a request and lets it take as long as its path takes, P0 first. Canaries take as long.
    fn run(&mut self, took: &[Duration]) -> u32 {
        let did = self.submit(7);
        let path = did.iter().find_map(|did| if let Start(7, path) = did { Some(*path) } else { None });
        let path = path.expect("there is a path for it");
        let canaries = tries(&did);
        self.pass(took[path as usize]);
        let did = self.end(7, Verdict::Done);
        assert!(did.contains(&Finish(7, Outcome::Done)));
        let mut canaries: Vec<u32> = canaries.into_iter().chain(tries(&did)).collect();
        while let Some(path) = canaries.pop() {
            self.pass(took[path as usize]);
            canaries.extend(tries(&self.tried(path, Tried::Worked)));
        }
        path
    }

    /// Goes on in time until something is done.
    fn wait(&mut self) -> Vec<Did> {
        for _ in 0..1_000 {
            let did = self.timeout();
            if !did.is_empty() {
                return did;
            }
        }
        panic!("nothing happens");
    }

    fn status(&self, path: u32) -> PathStatus {
        self.head.paths().nth(path as usize).expect("it is there")
    }

    fn is_slow(&self, path: u32) -> bool {
        matches!(self.status(path).pace, Pace::Slow { .. })
    }
}

fn tries(did: &[Did]) -> Vec<u32> {
    did.iter().filter_map(|did| if let Try(path) = did { Some(*path) } else { None }).collect()
}

#[test]
fn latency_sends_most_to_the_path_that_is_faster() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    let taken: Vec<u32> = (0..100).map(|_| bench.run(&[FAST, millis(30)])).collect();
    let slow = taken.iter().filter(|path| **path == 1).count();
    assert!((1..=2).contains(&slow), "{slow} of 100 found out that it is slow");
}

#[test]
fn latency_shares_equal_paths_equally_over_time() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 4);
    let mut taken = [0; 4];
    for request in 0..4_000 {
        let did = bench.submit(request);
        let path = did.iter().find_map(|did| if let Start(_, path) = did { Some(*path) } else { None });
        taken[path.expect("there is a path for it") as usize] += 1;
        bench.pass(Duration::from_micros(250));
        if request >= 3 {
            bench.done(request - 3);
        }
    }
    assert!(taken.iter().all(|share| (800..=1_200).contains(share)), "{taken:?}");
}

#[test]
fn latency_sends_little_to_a_path_that_has_become_slower_by_less_than_its_slack() {
    let mut took = [Duration::from_micros(200); 2];
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    let (mut flying, mut taken) = (Vec::new(), [0; 2]);
    for request in 0..30_000 {
        if request == 10_000 {
            assert!(taken.iter().all(|share| *share > 4_000), "{taken:?}");
            (took[1], taken) = (Duration::from_micros(600), [0; 2]);
        }
        while flying.len() == 8 {
            bench.pass(Duration::from_micros(25));
            let (over, rest) = flying.into_iter().partition(|(end, _)| *end <= bench.now);
            flying = rest;
            let over: Vec<(Instant, u32)> = over;
            over.into_iter().for_each(|(_, request)| bench.done(request));
        }
        let did = bench.submit(request);
        let path = did.iter().find_map(|did| if let Start(_, path) = did { Some(*path) } else { None });
        let path = path.expect("there is a path for it") as usize;
        taken[path] += 1;
        flying.push((bench.now + took[path], request));
    }
    assert!(taken[1] < 1_500, "{taken:?}");
}

#[test]
fn writes_go_on_when_one_of_two_paths_falls_silent() {
    const DEPTH: usize = 32;
    let took = Duration::from_micros(60);
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    bench.kind.class = Class::SmallWrite;
    // A closed loop: as long as nothing comes back, nothing is sent.
    let (mut flying, mut request, mut silent, mut answered) = (Vec::new(), 0, None, 0);
    for step in 0..4_000 {
        if step == 2_000 {
            silent = Some(0);
            answered = 0;
        }
        while flying.len() < DEPTH {
            let did = bench.submit(request);
            let path = did.iter().find_map(|did| if let Start(_, path) = did { Some(*path) } else { None });
            flying.push((
                bench.now + took + Duration::from_micros(u64::from(request % 32) * 3),
                path,
                request,
            ));
            request += 1;
        }
        bench.pass(Duration::from_micros(5));
        let is_over = |end: &Instant, path: &Option<u32>| *end <= bench.now && *path != silent;
        let (over, rest): (Vec<_>, Vec<_>) =
            flying.into_iter().partition(|(end, path, _)| is_over(end, path));
        flying = rest;
        answered += over.len();
        over.into_iter().for_each(|(_, _, request)| bench.done(request));
    }
    assert!(answered > 600, "{answered} were answered, {} are out", flying.len());
}

#[test]
fn latency_leaves_a_path_from_which_nothing_comes_back() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    for _ in 0..100 {
        bench.run(&[Duration::from_micros(100); 2]);
    }
    bench.pass(millis(20));
    let first = bench.path_of_next();
    bench.pass(Duration::from_micros(200));
    assert_eq!(bench.path_of_next(), first, "within its stretch");
    bench.pass(millis(3));
    assert_ne!(bench.path_of_next(), first, "which would last for 20 ms");
}

#[test]
fn latency_leaves_no_path_far_emptier_than_another() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    for request in 0..400 {
        bench.pass(Duration::from_micros(1));
        bench.submit(request);
        let depths = bench.depths();
        assert!(depths[0].abs_diff(depths[1]) <= 64, "{depths:?}");
    }
}

#[test]
fn latency_goes_on_on_one_path_while_it_is_hardly_worse() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    for _ in 0..100 {
        bench.run(&[FAST; 2]);
    }
    bench.pass(STRETCH);
    let first = bench.path_of_next();
    bench.pass(Duration::from_micros(60));
    assert_eq!(bench.path_of_next(), first, "a request more to wait for is less than the slack");
    bench.pass(Duration::from_micros(60));
    assert_ne!(bench.path_of_next(), first, "its stretch is over");
}

#[test]
fn latency_sends_reads_alone_on_one_path_for_longer_than_with_writes() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    for _ in 0..100 {
        bench.run(&[FAST; 2]);
    }
    let mut turns = |wrote: bool| {
        let (mut last, mut turns) = (None, 0);
        for _ in 0..100 {
            if wrote {
                bench.kind.class = Class::SmallWrite;
                bench.run(&[Duration::from_micros(60); 2]);
                bench.kind = READ;
            }
            let path = bench.run(&[Duration::from_micros(60); 2]);
            turns += u32::from(last.replace(path).is_some_and(|last| last != path));
        }
        turns
    };
    assert!(turns(false) <= 2, "all that is late can be sent once more");
    assert!(turns(true) >= 20, "a write cannot");
}

#[test]
fn latency_keeps_requests_together_that_come_at_one_time() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 4);
    let taken: Vec<u32> = (0..96).map(|_| bench.path_of_next()).collect();
    assert_eq!(taken, [[0; 64].as_slice(), &[1; 32]].concat(), "and no more of them than a target takes");
    let mut bench = self::bench(Options { policy: Policy::Latency, ..Options::default() }, 4);
    bench.kind.class = Class::SmallWrite;
    let taken: Vec<u32> = (0..96).map(|_| bench.path_of_next()).collect();
    let turns: Vec<u32> = taken.chunk_by(|a, b| a == b).map(|turn| turn[0]).collect();
    assert!(turns.len() > 4, "of writes no more than three quarters: {turns:?}");
    bench.change(0, PathState::Down);
    let mut bench = self::bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    assert_eq!(bench.path_of_next(), 0);
    bench.change(0, PathState::Down);
    assert_eq!(bench.path_of_next(), 1, "not on a path that is gone");
}

#[test]
fn latency_tries_a_path_again_that_was_slow_a_while_ago() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    for _ in 0..20 {
        bench.run(&[FAST, millis(4)]);
    }
    let taken: Vec<u32> = (0..6_000).map(|_| bench.run(&[FAST, Duration::from_micros(500)])).collect();
    let recovered = taken.iter().rev().take(100).filter(|path| **path == 1).count();
    assert!(recovered > 90, "it is the faster one now: {recovered} of the last 100");
}

#[test]
fn latency_weighs_classes_apart() {
    let mut bench = bench(Options { policy: Policy::Latency, ..Options::default() }, 2);
    for (class, times) in [(Class::SmallRead, [FAST, millis(4)]), (Class::LargeWrite, [millis(9), millis(2)])]
    {
        bench.kind.class = class;
        for _ in 0..40 {
            bench.run(&times);
        }
    }
    assert_eq!(bench.run(&[FAST; 2]), 1, "large writes are faster there");
    bench.kind.class = Class::SmallRead;
    assert_eq!(bench.run(&[FAST; 2]), 0);
}

#[test]
fn a_path_far_slower_than_its_peers_becomes_the_last_resort() {
    // `latency` avoids it by itself; `numa` uses one path, see below.
    for policy in [Policy::RoundRobin, Policy::QueueDepth] {
        let mut bench = bench(watchful(policy), 2);
        let times = [FAST, millis(30)];
        let mut depth = 0;
        while !bench.is_slow(1) {
            // Both are busy, so that queue-depth uses both.
            bench.submit(100 + depth);
            bench.submit(200 + depth);
            bench.pass(times[0]);
            for request in [100 + depth, 200 + depth] {
                let path =
                    bench.in_flight.iter().find(|(_, held)| *held == request).map(|(it, _)| it.path().0);
                if path == Some(1) {
                    bench.pass(times[1]);
                }
                bench.end(request, Verdict::Done);
            }
            depth += 1;
            assert!(depth < 400, "{policy} does not see it");
        }
        assert!(!bench.is_slow(0));
        assert_eq!((0..4).map(|_| bench.run(&[FAST; 2])).collect::<Vec<_>>(), [0; 4], "{policy}");
        let why = bench.head.explain(bench.now, Node(0), Class::SmallRead)[1].why;
        assert_eq!(why, Why::Slow);
        bench.change(0, PathState::Down);
        assert_eq!(bench.path_of_next(), 1, "{policy}: better than none");
    }
}

#[test]
fn a_unit_that_is_slow_on_all_paths_demotes_none() {
    for policy in POLICIES {
        let mut bench = bench(watchful(policy), 3);
        for _ in 0..200 {
            bench.run(&[millis(80); 3]);
        }
        assert!((0..3).all(|path| !bench.is_slow(path)), "{policy}");
    }
}

#[test]
fn a_rest_of_all_while_one_path_has_the_requests_demotes_none() {
    let mut bench = bench(watchful(Policy::Latency), 2);
    for path in [0, 1] {
        for _ in 0..40 {
            bench.run(&[Duration::from_micros(300); 2]);
        }
        bench.pass(millis(20));
        assert_eq!(bench.status(path).took.map(|took| took.as_micros()), Some(300));
    }
    let busy = bench.path_of_next();
    for request in 1..32 {
        assert_eq!(bench.submit(request), [Start(request, busy)]);
    }
    bench.now = bench.now + millis(19);
    let mut canaries = Vec::new();
    for request in 1..32 {
        canaries.extend(tries(&bench.end(request, Verdict::Done)));
    }
    assert!(!bench.is_slow(busy), "the other path would have rested as well");
    assert_eq!(canaries.len(), 2, "which is asked now");
}

#[test]
fn a_unit_that_becomes_slow_demotes_none() {
    for policy in POLICIES {
        let mut bench = bench(watchful(policy), 3);
        for step in 0..600 {
            let took = if step < 200 { FAST } else { millis(60) };
            bench.run(&[took; 3]);
        }
        assert!((0..3).all(|path| !bench.is_slow(path)), "{policy}");
    }
}

#[test]
fn numa_leaves_a_path_that_two_comparisons_in_a_row_show_to_be_slow() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    let times = [millis(30), FAST];
    let mut requests = 0;
    while !bench.is_slow(0) {
        bench.run(&times);
        requests += 1;
        assert!(requests < 200, "it stays");
    }
    assert!(requests > 8, "one sample is none");
    assert_eq!(bench.run(&times), 1);
}

#[test]
fn a_slow_path_returns_after_three_canaries_that_are_as_fast_as_its_peers() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    while !bench.is_slow(0) {
        bench.run(&[millis(30), FAST]);
    }
    bench.changes.clear();
    let mut pauses = Vec::new();
    while bench.is_slow(0) {
        let before = bench.now;
        if bench.timeout() != [Try(0), Try(1)] {
            continue;
        }
        pauses.push(bench.now.since(before));
        bench.pass(FAST);
        bench.tried(1, Tried::Worked);
        if pauses.len() < 3 {
            bench.pass(millis(30));
        }
        bench.tried(0, Tried::Worked);
        assert!(pauses.len() < 9, "it stays out: {pauses:?}");
    }
    assert_eq!(pauses.len(), 5, "two slow ones, then three good ones");
    assert!(pauses[1] > pauses[0], "a longer pause after a slow one: {pauses:?}");
    assert_eq!(bench.changes, [Change::Steady { path: PathId(0) }]);
    assert_eq!(bench.run(&[FAST; 2]), 0, "numa goes back to it");
}

#[test]
fn a_slow_path_is_tried_again_when_the_path_that_it_was_compared_with_leaves_or_fails() {
    let mut bench = bench(watchful(Policy::Numa), 3);
    while !bench.is_slow(0) {
        bench.run(&[millis(30), FAST, FAST]);
    }
    assert_eq!(bench.wait(), [Try(0), Try(1)]);
    assert_eq!(bench.tried(0, Tried::Worked), []);
    assert_eq!(bench.tried(1, Tried::Unknown), []);
    assert_eq!(bench.wait(), [Try(0), Try(1)]);
    assert_eq!(bench.tried(0, Tried::Worked), []);
    assert_eq!(bench.remove(1), []);
    assert_eq!(bench.wait(), [Try(0), Try(2)]);
}

#[test]
fn a_path_that_is_a_little_slower_for_good_is_not_kept_out_for_good() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    while !bench.is_slow(0) {
        bench.run(&[millis(30), FAST]);
    }
    let since = bench.now;
    while bench.is_slow(0) {
        if bench.timeout() == [Try(0), Try(1)] {
            bench.pass(FAST);
            bench.tried(1, Tried::Worked);
            bench.pass(millis(6));
            bench.tried(0, Tried::Worked);
        }
        assert!(bench.now < since + seconds(100), "7 ms would not put it out");
    }
    assert!(bench.now > since + seconds(60), "and no sooner than it is sure");
}

#[test]
fn a_slow_path_returns_although_the_unit_is_slow_on_all_paths_now() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    while !bench.is_slow(0) {
        bench.run(&[millis(30), FAST]);
    }
    let until = bench.now + seconds(60);
    while bench.is_slow(0) {
        if bench.timeout() == [Try(0), Try(1)] {
            bench.pass(millis(200));
            bench.tried(0, Tried::Worked);
            bench.tried(1, Tried::Worked);
        }
        assert!(bench.now < until, "it is compared with what was, not with what is");
    }
}

#[test]
fn a_path_that_carries_nothing_back_stalls_if_a_canary_does_not_return_while_its_peers_does() {
    let mut bench = in_use();
    let stalled_at = bench.now;
    assert_eq!(bench.submit(1), [Start(1, 0)]);
    assert_eq!(bench.submit(2), [Start(2, 0)]);
    let did = bench.wait();
    assert_eq!(did, [Try(0), Try(1)]);
    bench.pass(FAST);
    assert_eq!(bench.tried(1, Tried::Worked), []);
    let did = bench.wait();
    assert_eq!(did, [Late(0, 1, Lag::Stalled), Late(0, 2, Lag::Stalled)]);
    assert!(bench.is_slow(0));
    let took = bench.now.since(stalled_at);
    assert!(took < millis(200), "{took:?}");
    assert_eq!(bench.submit(3), [Start(3, 1)]);
}

#[test]
fn a_path_that_falls_silent_with_several_requests_is_found_out_sooner() {
    let mut bench = in_use();
    let silent_at = bench.now;
    for request in 0..4 {
        assert_eq!(bench.submit(request), [Start(request, 0)]);
    }
    assert_eq!(bench.wait(), [Try(0), Try(1)]);
    bench.pass(FAST);
    assert_eq!(bench.tried(1, Tried::Worked), []);
    let did = bench.wait();
    assert_eq!(did, (0..4).map(|request| Late(0, request, Lag::Stalled)).collect::<Vec<_>>());
    let took = bench.now.since(silent_at);
    assert!(took < millis(40), "{took:?}");
}

/// How often it was said that P0 stalls alone.
fn said_alone(bench: &Bench) -> usize {
    let alone = |change: &&Change| matches!(change, Change::Alone { path: PathId(0), .. });
    bench.changes.iter().filter(alone).count()
}

/// Four requests are sent, and nothing comes back for three seconds.
fn fall_silent(bench: &mut Bench) {
    for request in 0..4 {
        bench.submit(request);
    }
    let end = bench.now + seconds(3);
    while bench.now < end {
        bench.timeout();
    }
}

#[test]
fn a_path_that_falls_silent_while_the_others_are_down_says_so_each_second() {
    let mut bench = in_use();
    bench.change(1, PathState::Down);
    let silent_at = bench.now;
    for request in 0..4 {
        assert_eq!(bench.submit(request), [Start(request, 0)]);
    }
    while said_alone(&bench) == 0 {
        assert_eq!(bench.timeout(), []);
        let took = bench.now.since(silent_at);
        assert!(took < millis(40), "{took:?}");
    }
    while bench.now < silent_at + millis(3_500) {
        bench.timeout();
    }
    assert_eq!(said_alone(&bench), 4);
    // As soon as there is another one, they are compared, and it takes the place of this one.
    assert_eq!(bench.change(1, OPTIMIZED), []);
    assert_eq!(bench.wait(), [Try(0), Try(1)]);
    assert!(bench.now < silent_at + millis(3_550));
}

#[test]
fn a_path_that_falls_silent_and_is_the_only_one_there_is_is_nobodys_to_help() {
    let mut bench = in_use();
    bench.remove(1);
    fall_silent(&mut bench);
    assert_eq!(said_alone(&bench), 0);
}

#[test]
fn a_path_that_falls_silent_beside_a_slow_one_is_not_alone() {
    let mut bench = bench(watchful(Policy::RoundRobin), 2);
    while !bench.is_slow(1) {
        bench.run(&[FAST, millis(30)]);
    }
    fall_silent(&mut bench);
    assert_eq!(said_alone(&bench), 0);
}

#[test]
fn a_path_that_falls_silent_while_another_is_compared_with_it_is_found_out_too() {
    let mut bench = bench(watchful(Policy::RoundRobin), 2);
    for _ in 0..40 {
        bench.run(&[FAST; 2]);
    }
    // The first request on P0 is old; then nothing comes back from P1 any more, its canary neither.
    assert_eq!(bench.submit(0), [Start(0, 0)]);
    assert_eq!(bench.wait(), [Try(0), Try(1)]);
    bench.done(0);
    bench.tried(0, Tried::Worked);
    for request in 1..10 {
        bench.submit(request);
    }
    let silent_at = bench.now;
    for request in (2..10).step_by(2) {
        bench.done(request);
    }
    let mut late = false;
    while !late {
        for did in bench.timeout() {
            match did {
                Try(0) => assert_eq!(bench.tried(0, Tried::Worked), []),
                Late(path, ..) => late |= path == 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(bench.now < silent_at + seconds(2), "it is never found out");
    }
    assert!(bench.is_slow(1) && !bench.is_slow(0));
}

#[test]
fn a_path_that_is_silent_from_its_first_request_on_is_found_out_as_soon() {
    let mut bench = bench(watchful(Policy::RoundRobin), 1);
    for _ in 0..40 {
        bench.run(&[FAST]);
    }
    bench.add(1, OPTIMIZED);
    let silent_at = bench.now;
    for request in 0..8 {
        bench.submit(request);
    }
    bench.pass(FAST);
    for request in 0..8 {
        if bench.in_flight.iter().any(|(ticket, it)| *it == request && ticket.path() == PathId(0)) {
            bench.done(request);
        }
    }
    assert_eq!(bench.wait(), [Try(1), Try(0)]);
    bench.pass(FAST);
    assert_eq!(bench.tried(0, Tried::Worked), []);
    let did = bench.wait();
    assert!(did.len() == 4 && did.iter().all(|did| matches!(did, Late(1, ..))), "{did:?}");
    let took = bench.now.since(silent_at);
    assert!(took < millis(40), "{took:?}");
}

#[test]
fn a_path_from_which_anything_comes_back_is_not_silent() {
    let mut bench = in_use();
    for request in 0..8 {
        bench.submit(request);
    }
    assert_eq!(bench.wait(), [Try(0), Try(1)]);
    let asked_at = bench.now;
    bench.tried(1, Tried::Worked);
    bench.pass(FAST);
    bench.done(0);
    assert!(matches!(bench.wait()[..], [Late(..), ..]));
    let took = bench.now.since(asked_at);
    assert!(took >= millis(50), "{took:?}");
}

#[test]
fn a_request_that_is_slow_on_a_path_that_works_is_the_units_own() {
    let mut bench = in_use();
    bench.submit(1);
    let mut canaries = 0;
    for _ in 0..200 {
        for path in bench.timeout() {
            let Try(path) = path else { panic!("{path:?}") };
            bench.tried(path, Tried::Worked);
            canaries += 1;
        }
        if bench.now > Instant::START + seconds(60) {
            break;
        }
    }
    assert!((0..2).all(|path| !bench.is_slow(path)));
    assert!((2..=24).contains(&canaries), "asked less and less often: {canaries} canaries in a minute");
}

#[test]
fn what_made_a_path_trusted_is_forgotten_after_a_minute() {
    let mut bench = in_use();
    let mut asked_after = || {
        let sent = bench.now;
        bench.submit(1);
        assert_eq!(bench.wait(), [Try(0), Try(1)]);
        let asked_after = bench.now.since(sent);
        bench.done(1);
        bench.tried(0, Tried::Worked);
        bench.tried(1, Tried::Worked);
        // What one request takes is known anew after a while.
        bench.pass(seconds(10));
        bench.run(&[FAST; 2]);
        asked_after
    };
    let times = [asked_after(), asked_after(), asked_after()];
    assert_eq!(times, [millis(50), millis(100), millis(200)], "twice as old as what was the unit's own");
    bench.pass(seconds(60));
    bench.run(&[FAST; 2]);
    let sent = bench.now;
    bench.submit(1);
    bench.wait();
    assert_eq!(bench.now.since(sent), millis(50));
}

#[test]
fn with_one_path_nothing_is_compared() {
    let mut bench = bench(watchful(Policy::Latency), 1);
    for _ in 0..100 {
        assert_eq!(bench.run(&[millis(300)]), 0);
    }
    assert!(!bench.is_slow(0));
}

#[test]
fn the_last_path_that_is_not_slow_is_never_demoted() {
    let mut bench = bench(watchful(Policy::RoundRobin), 2);
    for _ in 0..100 {
        bench.run(&[FAST, millis(30)]);
    }
    assert!(bench.is_slow(1));
    for _ in 0..100 {
        bench.run(&[millis(400), millis(30)]);
    }
    assert!(!bench.is_slow(0), "there is nobody to compare with");
}

#[test]
fn a_late_write_is_told_of_only_on_a_path_that_stalls_and_not_before_a_second() {
    let mut bench = bench(Options { hedging: Hedging::On { percent: 2 }, ..watchful(Policy::Numa) }, 2);
    for _ in 0..200 {
        bench.run(&[FAST; 2]);
    }
    bench.kind.class = Class::SmallWrite;
    bench.submit(1);
    let sent = bench.now;
    loop {
        for did in bench.timeout() {
            match did {
                Try(1) => assert_eq!(bench.tried(1, Tried::Worked), []),
                Try(_) => {}
                Late(0, 1, Lag::Stalled) => {
                    assert!(bench.now.since(sent) >= seconds(1));
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(bench.now < sent + seconds(5), "never told of");
    }
}

#[test]
fn a_read_that_takes_longer_than_nearly_all_is_hedged_on_another_path() {
    let mut bench = bench(Options { hedging: Hedging::On { percent: 2 }, ..with_policy(Policy::Numa) }, 2);
    for step in 0..400 {
        bench.run(&[if step % 100 == 0 { millis(3) } else { FAST }, FAST]);
    }
    assert_eq!(bench.submit(1), [Start(1, 0)]);
    let sent = bench.now;
    let did = bench.wait();
    assert_eq!(did, [Late(0, 1, Lag::Late)]);
    let delay = bench.now.since(sent);
    assert!((millis(1)..millis(3)).contains(&delay), "{delay:?}");
    let kind = bench.kind;
    let hedge = Event::Hedge { node: Node(0), kind, avoid: PathId(0), request: 2 };
    assert_eq!(bench.tell(hedge), [Start(2, 1)]);
    assert_eq!(bench.end(2, Verdict::Failover), [Finish(2, Outcome::NoPath)], "it is not sent again");
    assert_eq!(bench.end(1, Verdict::Done), [Finish(1, Outcome::Done)]);
    assert_eq!(bench.head.status().counters.hedged, 1);
}

#[test]
fn hedges_are_no_more_than_their_budget() {
    let mut bench = bench(Options { hedging: Hedging::On { percent: 2 }, ..with_policy(Policy::Numa) }, 2);
    for _ in 0..200 {
        bench.run(&[FAST; 2]);
    }
    for request in 0..30 {
        bench.submit(request);
    }
    let late: usize = (0..20).map(|_| bench.timeout().len()).sum();
    assert_eq!(late, 4, "two of a hundred, of 230");
}

#[test]
fn reads_that_are_all_slow_are_not_hedged() {
    let mut bench = bench(Options { hedging: Hedging::On { percent: 2 }, ..with_policy(Policy::Numa) }, 2);
    for _ in 0..400 {
        bench.run(&[millis(20); 2]);
    }
    bench.submit(1);
    let sent = bench.now;
    bench.wait();
    assert!(bench.now.since(sent) >= millis(20), "not before it is later than most");
}

#[test]
fn no_hedge_is_wanted_without_another_path() {
    let mut bench = bench(Options { hedging: Hedging::On { percent: 2 }, ..with_policy(Policy::Numa) }, 1);
    for _ in 0..200 {
        bench.run(&[FAST]);
    }
    bench.submit(1);
    for _ in 0..20 {
        assert_eq!(bench.timeout(), []);
    }
    let kind = bench.kind;
    let hedge = Event::Hedge { node: Node(0), kind, avoid: PathId(0), request: 2 };
    assert_eq!(bench.tell(hedge), [Finish(2, Outcome::NoPath)]);
}

#[test]
fn a_backed_off_path_is_tried_by_a_canary_and_not_by_a_user() {
    let options = Options { back_off: QUICK, trial: Trial::Canary, ..Options::default() };
    let mut bench = bench(options, 2);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 1)]);
    bench.changes.clear();
    assert_eq!(bench.timeout(), [Try(0)]);
    assert_eq!(bench.submit(2), [Start(2, 1)], "no user waits for it");
    assert_eq!(bench.tried(0, Tried::Failed), []);
    assert!(matches!(bench.status(0).health, Health::BackedOff { length, .. } if length == seconds(2)));
    assert_eq!(bench.timeout(), [Try(0)]);
    assert_eq!(bench.tried(0, Tried::Worked), []);
    assert!(bench.changes.contains(&Change::Restored { path: PathId(0) }));
    assert_eq!(bench.submit(3), [Start(3, 0)]);
}

#[test]
fn parked_requests_go_as_soon_as_the_canary_on_the_only_path_is_back() {
    let options = Options { back_off: QUICK, trial: Trial::Canary, ..Options::default() };
    let mut bench = bench(options, 1);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Failover), []);
    assert_eq!(bench.timeout(), [Try(0)]);
    assert_eq!(bench.tried(0, Tried::Worked), [Start(1, 0)]);
}

#[test]
fn a_canary_that_could_not_be_sent_is_sent_after_as_long_again() {
    let options = Options { back_off: QUICK, trial: Trial::Canary, ..Options::default() };
    let mut bench = bench(options, 2);
    bench.submit(1);
    bench.end(1, Verdict::Failover);
    assert_eq!(bench.timeout(), [Try(0)]);
    bench.tried(0, Tried::Unknown);
    assert!(matches!(bench.status(0).health, Health::BackedOff { length, .. } if length == seconds(1)));
}

#[test]
fn a_path_on_probation_is_out_again_after_one_failure_and_for_longer() {
    let back_off = BackOff { failures: 3, ..QUICK };
    let mut bench = bench(Options { back_off, trial: Trial::Canary, ..Options::default() }, 2);
    for _ in 0..3 {
        bench.submit(1);
        bench.end(1, Verdict::Failover);
        bench.done(1);
        bench.tell(Event::SetPolicy(Policy::Numa));
    }
    assert_eq!(bench.timeout(), [Try(0)]);
    bench.tried(0, Tried::Worked);
    bench.submit(1);
    assert_eq!(bench.end(1, Verdict::Failover), [Start(1, 1)]);
    assert!(matches!(bench.status(0).health, Health::BackedOff { length, .. } if length == seconds(2)));
}

#[test]
fn why_a_path_is_not_taken_is_said_for_each() {
    let states = [OPTIMIZED, NON_OPTIMIZED, PathState::Down, OPTIMIZED];
    let mut bench = Bench::with_paths(with_policy(Policy::QueueDepth), &states);
    bench.submit(1);
    let why = |bench: &Bench| {
        let explained = bench.head.explain(bench.now, Node(0), Class::SmallRead);
        explained.into_iter().map(|explained| explained.why).collect::<Vec<_>>()
    };
    let deeper = Why::Deeper { in_flight: 1, least: 0 };
    assert_eq!(why(&bench), [deeper, Why::NonOptimized, Why::NotUsable(PathState::Down), Why::Chosen]);
    assert_eq!(bench.submit(2), [Start(2, 3)], "it was true");
}

/// A ping of a path takes so long, and of the other one as long as `peers`; what follows takes as long as `took` says.
fn ping(bench: &mut Bench, path: u32, time: Duration, peers: Option<Duration>, took: &[Duration]) -> usize {
    let mut canaries = tries(&bench.tell(Event::Pinged { path: PathId(path), took: time, peers }));
    let asked = canaries.len();
    canaries.sort_by_key(|path| took[*path as usize]);
    let mut waited = Duration::ZERO;
    for path in canaries {
        bench.pass(took[path as usize] - waited);
        waited = took[path as usize];
        bench.tried(path, Tried::Worked);
    }
    asked
}

#[test]
fn an_idle_path_whose_pings_and_reads_take_far_longer_than_its_peers_becomes_slow() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    for round in 0..2 {
        assert!(!bench.is_slow(1), "one ping may have had bad luck");
        let asked = ping(&mut bench, 1, millis(30), Some(FAST), &[FAST, millis(30)]);
        assert_eq!(asked, 2, "the same is read on both, round {round}");
        bench.pass(millis(2_000));
    }
    assert!(bench.is_slow(1) && !bench.is_slow(0));
}

#[test]
fn a_path_whose_pings_are_late_and_whose_reads_are_not_stays_in_use() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    let mut asked = 0;
    for _ in 0..20 {
        asked += ping(&mut bench, 1, millis(30), Some(FAST), &[FAST, FAST]);
        bench.pass(millis(2_000));
    }
    assert!(!bench.is_slow(1));
    assert_eq!(asked, 2, "it is not asked for ever");
}

#[test]
fn pings_that_are_as_late_on_every_path_say_nothing_of_one() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    assert_eq!(ping(&mut bench, 1, millis(30), Some(millis(20)), &[millis(30); 2]), 0);
    assert_eq!(ping(&mut bench, 1, millis(30), None, &[millis(30); 2]), 0, "nothing to compare with");
}

#[test]
fn a_ping_is_compared_with_the_reads_of_a_peer_that_is_too_busy_to_be_pinged() {
    let mut bench = bench(watchful(Policy::Numa), 2);
    (0..20).for_each(|_| assert_eq!(bench.run(&[FAST, FAST]), 0));
    assert_eq!(ping(&mut bench, 1, millis(30), None, &[FAST, millis(30)]), 2);
}

#[test]
fn a_path_that_carries_requests_is_measured_by_those() {
    let mut bench = bench(watchful(Policy::RoundRobin), 2);
    (0..20).for_each(|_| assert!(bench.run(&[FAST, FAST]) < 2));
    assert_eq!(ping(&mut bench, 1, millis(30), Some(FAST), &[FAST; 2]), 0);
}

#[test]
fn no_ping_puts_the_last_path_last() {
    let mut bench = bench(watchful(Policy::Numa), 1);
    for _ in 0..4 {
        assert_eq!(ping(&mut bench, 0, millis(30), Some(FAST), &[millis(30)]), 0);
    }
    assert!(!bench.is_slow(0));
}

#[test]
fn pings_count_only_where_slow_paths_are_put_last() {
    let mut bench = bench(Options { policy: Policy::Numa, ..Options::default() }, 2);
    assert_eq!(ping(&mut bench, 1, millis(30), Some(FAST), &[FAST; 2]), 0);
}
