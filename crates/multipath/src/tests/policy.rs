//! Path selection: vectors for each policy, live access states, and what a name may be.

use super::*;
use crate::{Distances, UnknownPolicy};

/// The paths that the next requests take, none of them ending meanwhile.
fn next(bench: &mut Bench, count: usize) -> Vec<u32> {
    (0..count).map(|_| bench.path_of_next()).collect()
}

fn add_on_node(bench: &mut Bench, path: u32, node: u16, state: PathState) {
    assert_eq!(bench.tell(Event::PathAdded { path: PathId(path), node: Some(Node(node)), state }), []);
}

#[test]
fn policy_names_match_exactly() {
    for policy in POLICIES {
        assert_eq!(alloc::format!("{policy}").parse(), Ok(policy));
    }
    for name in ["", "num", "numax", "NUMA", "round", "round-robin ", "queue_depth"] {
        assert_eq!(name.parse::<Policy>(), Err(UnknownPolicy), "{name:?}");
    }
}

#[test]
fn numa_stays_on_the_first_of_equally_near_paths() {
    let mut bench = Bench::with_paths(with_policy(Policy::Numa), &[OPTIMIZED; 3]);
    assert_eq!(next(&mut bench, 4), [0, 0, 0, 0]);
}

#[test]
fn numa_takes_the_path_nearest_to_the_issuer() {
    let mut bench = Bench::new(with_policy(Policy::Numa));
    add_on_node(&mut bench, 0, 0, OPTIMIZED);
    add_on_node(&mut bench, 1, 1, OPTIMIZED);
    assert_eq!(bench.submit_on(0, 1), [Start(1, 0)]);
    assert_eq!(bench.submit_on(1, 2), [Start(2, 1)]);
    assert_eq!(bench.submit_on(7, 3), [Start(3, 0)], "both are equally far: the first");
}

#[test]
fn numa_measures_with_the_machines_distances() {
    let distances = Distances::new(3, [10, 40, 15, 40, 10, 30, 15, 30, 10].into()).unwrap();
    let mut bench = Bench::new(Options { distances, ..with_policy(Policy::Numa) });
    add_on_node(&mut bench, 0, 1, OPTIMIZED);
    add_on_node(&mut bench, 1, 2, OPTIMIZED);
    assert_eq!(bench.submit_on(0, 1), [Start(1, 1)], "15 is nearer than 40");
    assert_eq!(Distances::new(2, [10; 3].into()), None, "not square");
}

#[test]
fn numa_prefers_a_far_optimized_path_to_a_near_other() {
    let mut bench = Bench::new(with_policy(Policy::Numa));
    add_on_node(&mut bench, 0, 0, NON_OPTIMIZED);
    add_on_node(&mut bench, 1, 1, OPTIMIZED);
    assert_eq!(next(&mut bench, 2), [1, 1]);
}

#[test]
fn numa_looks_again_on_every_request_while_it_has_only_non_optimized_paths() {
    let mut bench = Bench::with_paths(with_policy(Policy::Numa), &[NON_OPTIMIZED, PathState::Down]);
    assert_eq!(next(&mut bench, 1), [0]);
    bench.change(1, OPTIMIZED);
    assert_eq!(next(&mut bench, 1), [1]);
}

#[test]
fn numa_moves_to_a_nearer_path_that_joins_or_returns() {
    let mut bench = Bench::new(with_policy(Policy::Numa));
    add_on_node(&mut bench, 0, 1, OPTIMIZED);
    assert_eq!(next(&mut bench, 1), [0]);
    add_on_node(&mut bench, 1, 0, OPTIMIZED);
    assert_eq!(next(&mut bench, 1), [1]);
    bench.change(1, PathState::Waiting);
    assert_eq!(next(&mut bench, 1), [0]);
    bench.change(1, OPTIMIZED);
    assert_eq!(next(&mut bench, 1), [1]);
}

#[test]
fn numa_ignores_distance_for_a_path_without_node() {
    let mut bench = Bench::new(with_policy(Policy::Numa));
    add_on_node(&mut bench, 0, 5, OPTIMIZED);
    bench.add(1, OPTIMIZED);
    assert_eq!(bench.submit_on(0, 1), [Start(1, 1)], "no node counts as local");
}

#[test]
fn round_robin_goes_through_optimized_paths_in_order_of_arrival() {
    let states = [OPTIMIZED, NON_OPTIMIZED, OPTIMIZED, OPTIMIZED];
    let mut bench = Bench::with_paths(with_policy(Policy::RoundRobin), &states);
    assert_eq!(next(&mut bench, 7), [0, 2, 3, 0, 2, 3, 0]);
}

#[test]
fn round_robin_goes_forward_through_non_optimized_paths() {
    let mut bench = Bench::with_paths(with_policy(Policy::RoundRobin), &[NON_OPTIMIZED; 3]);
    assert_eq!(next(&mut bench, 5), [0, 1, 2, 0, 1]);
}

#[test]
fn round_robin_stays_on_the_only_optimized_path() {
    let states = [NON_OPTIMIZED, OPTIMIZED, NON_OPTIMIZED];
    let mut bench = Bench::with_paths(with_policy(Policy::RoundRobin), &states);
    assert_eq!(next(&mut bench, 3), [1, 1, 1]);
}

#[test]
fn round_robin_with_one_path_uses_it_whatever_its_access() {
    let mut bench = Bench::with_paths(with_policy(Policy::RoundRobin), &[NON_OPTIMIZED]);
    assert_eq!(next(&mut bench, 2), [0, 0]);
}

#[test]
fn round_robin_turns_on_each_node_by_itself() {
    let mut bench = Bench::with_paths(with_policy(Policy::RoundRobin), &[OPTIMIZED; 2]);
    assert_eq!(bench.submit_on(0, 1), [Start(1, 0)]);
    assert_eq!(bench.submit_on(1, 2), [Start(2, 0)]);
    assert_eq!(bench.submit_on(0, 3), [Start(3, 1)]);
    assert_eq!(bench.submit_on(u16::MAX, 4), [Start(4, 0)]);
}

#[test]
fn round_robin_keeps_its_place_when_an_earlier_path_leaves() {
    let mut bench = Bench::with_paths(with_policy(Policy::RoundRobin), &[OPTIMIZED; 4]);
    assert_eq!(next(&mut bench, 3), [0, 1, 2]);
    bench.remove(0);
    assert_eq!(next(&mut bench, 2), [3, 1]);
}

#[test]
fn queue_depth_takes_the_least_loaded_optimized_path_and_the_first_of_equals() {
    let mut bench =
        Bench::with_paths(with_policy(Policy::QueueDepth), &[NON_OPTIMIZED, OPTIMIZED, OPTIMIZED]);
    for (request, path) in [(1, 1), (2, 2), (3, 1)] {
        assert_eq!(bench.submit(request), [Start(request, path)]);
    }
    assert_eq!(bench.depths(), [0, 2, 1]);
    bench.done(1);
    bench.done(3);
    assert_eq!(bench.submit(4), [Start(4, 1)], "an idle path ends the search");
    bench.done(2);
    assert_eq!(bench.submit(5), [Start(5, 2)]);
}

#[test]
fn queue_depth_falls_back_to_the_least_loaded_non_optimized_path() {
    let mut bench = Bench::with_paths(with_policy(Policy::QueueDepth), &[NON_OPTIMIZED, NON_OPTIMIZED]);
    assert_eq!(next(&mut bench, 4), [0, 1, 0, 1]);
}

#[test]
fn no_policy_selects_a_path_that_is_waiting_or_down() {
    for policy in POLICIES {
        let states = [PathState::Waiting, PathState::Down, NON_OPTIMIZED];
        let mut bench = Bench::with_paths(with_policy(policy), &states);
        assert_eq!(next(&mut bench, 3), [2, 2, 2], "{policy}");
    }
}

#[test]
fn an_access_state_that_changes_is_obeyed_by_the_next_request() {
    for policy in POLICIES {
        let mut bench = Bench::with_paths(with_policy(policy), &[OPTIMIZED, NON_OPTIMIZED]);
        assert_eq!(next(&mut bench, 2), [0, 0], "{policy}");
        bench.change(0, NON_OPTIMIZED);
        bench.change(1, OPTIMIZED);
        assert_eq!(next(&mut bench, 2), [1, 1], "{policy}");
    }
}

#[test]
fn a_path_that_stops_being_usable_is_left_at_once() {
    for policy in POLICIES {
        for state in [PathState::Waiting, PathState::Down] {
            let mut bench = Bench::with_paths(with_policy(policy), &[OPTIMIZED; 2]);
            assert_eq!(next(&mut bench, 1), [0]);
            bench.change(0, state);
            assert_eq!(next(&mut bench, 2), [1, 1], "{policy}");
        }
    }
}

#[test]
fn a_new_policy_counts_what_was_started_under_the_old_one() {
    let mut bench = Bench::with_paths(with_policy(Policy::Numa), &[OPTIMIZED; 2]);
    for request in 1..=3 {
        assert_eq!(bench.submit(request), [Start(request, 0)]);
    }
    bench.tell(Event::SetPolicy(Policy::QueueDepth));
    assert_eq!(bench.submit(4), [Start(4, 1)]);
    bench.tell(Event::SetPolicy(Policy::RoundRobin));
    for request in 1..=4 {
        bench.done(request);
    }
    assert_eq!(bench.depths(), [0, 0], "idle");
}

#[test]
fn a_new_policy_starts_its_search_afresh() {
    let mut bench = Bench::with_paths(with_policy(Policy::RoundRobin), &[OPTIMIZED; 3]);
    assert_eq!(next(&mut bench, 2), [0, 1]);
    bench.tell(Event::SetPolicy(Policy::Numa));
    assert_eq!(next(&mut bench, 2), [0, 0]);
}
