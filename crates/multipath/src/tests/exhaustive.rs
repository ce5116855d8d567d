//! Every history of up to seven events with two paths and two requests.

use alloc::collections::BTreeMap;
use core::hash::{Hash, Hasher};
use std::hash::DefaultHasher;
use std::println;

use super::*;
use crate::tests::world::World;

const EVENTS: usize = 7;
const STATES: [PathState; 4] = [OPTIMIZED, NON_OPTIMIZED, PathState::Waiting, PathState::Down];

#[test]
fn every_short_history_keeps_every_request_in_order_and_without_path_policy() {
    explore_all(NoPath::Fail, Duration::ZERO);
}

#[test]
fn every_short_history_keeps_every_request_while_queueing_and_removing_late() {
    explore_all(NoPath::QueueFor(seconds(3)), seconds(5));
}

fn explore_all(no_path: NoPath, delayed_removal: Duration) {
    let options = Options {
        no_path,
        delayed_removal,
        retries_max: 2,
        back_off: QUICK,
        policy: Policy::RoundRobin,
        ..Options::default()
    };
    let world = World::new(options);
    assert_eq!(explore(&world, 4).histories, count_one_by_one(&world, 4), "merging loses no history");

    let Explored { histories, states } = explore(&world, EVENTS);
    println!("{histories} histories through {states} different states");
    assert!(histories > 4_000_000, "the alphabet shrank: {histories}");
}

struct Explored {
    histories: u64,
    states: usize,
}

/// Histories that lead to equal worlds have equal futures, so each different world is looked at once and carries
/// the number of histories that lead to it.
fn explore(start: &World, events: usize) -> Explored {
    let mut explored = Explored { histories: 0, states: 0 };
    let mut frontier = BTreeMap::from([(fingerprint(start), (start.clone(), 1_u64))]);
    for _ in 0..events {
        let mut next = BTreeMap::new();
        for (world, histories) in frontier.values() {
            each_event(world, |after| {
                explored.histories += histories;
                let merged = next.entry(fingerprint(&after)).or_insert_with(|| (after, 0));
                merged.1 += histories;
            });
        }
        explored.states += next.len();
        frontier = next;
    }
    explored
}

fn count_one_by_one(world: &World, events: usize) -> u64 {
    let mut histories = 0;
    if events > 0 {
        each_event(world, |after| histories += 1 + count_one_by_one(&after, events - 1));
    }
    histories
}

fn fingerprint(world: &World) -> (u64, u64) {
    let mut hashers = (DefaultHasher::new(), DefaultHasher::new());
    world.hash(&mut hashers.0);
    1_u8.hash(&mut hashers.1);
    world.hash(&mut hashers.1);
    (hashers.0.finish(), hashers.1.finish())
}

/// Calls `visit` with the world after each event that may come next. All that holds is checked inside.
fn each_event(world: &World, mut visit: impl FnMut(World)) {
    let mut after = |event: &dyn Fn(&mut World)| {
        let mut world = world.clone();
        event(&mut world);
        world.head.forget_statistics();
        visit(world);
    };
    if world.submitted < 2 {
        after(&|world| world.submit(0));
    }
    for position in 0..world.in_flight.len() {
        for verdict in [Verdict::Done, Verdict::Again { after: seconds(1) }, Verdict::Failover] {
            after(&|world| world.end(position, verdict));
        }
    }
    for path in [PathId(0), PathId(1)] {
        let now = world.paths.iter().find(|(known, _)| *known == path).map(|(_, state)| *state);
        for state in STATES.map(Some).into_iter().chain([None]).filter(|state| *state != now) {
            after(&|world| world.path(path, None, state));
        }
    }
    let other = match world.head.status().policy {
        Policy::Numa => Policy::RoundRobin,
        Policy::RoundRobin => Policy::QueueDepth,
        Policy::QueueDepth => Policy::Latency,
        Policy::Latency => Policy::Numa,
    };
    after(&|world| world.tell(Event::SetPolicy(other)));
    if world.head.poll_timeout().is_some() {
        after(&|world| assert!(world.timeout()));
    }
    after(&World::remove);
}
