//! Long random histories with more paths, more requests and more time than the exhaustive search can afford.

use proptest::prelude::*;

use super::*;
use crate::tests::world::World;
use crate::{Hedging, SlowPaths, Trial};

/// An event in the making: numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Submit(u16),
    End(usize, Verdict),
    Path(u32, Option<u16>, Option<PathState>),
    Policy(Policy),
    NoPath(NoPath),
    DelayedRemoval(Duration),
    Pass(Duration),
    Tried(usize, Tried),
    SlowPaths(SlowPaths),
    Hedging(Hedging),
    Timeout,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Done),
        2 => Just(Verdict::Failover),
        1 => Just(Verdict::Again { after: Duration::ZERO }),
        1 => (1_u64..5_000).prop_map(|after| Verdict::Again { after: Duration::from_millis(after) }),
    ]
}

fn state() -> impl Strategy<Value = Option<PathState>> {
    prop_oneof![
        4 => Just(Some(OPTIMIZED)),
        3 => Just(Some(NON_OPTIMIZED)),
        2 => Just(Some(PathState::Waiting)),
        2 => Just(Some(PathState::Down)),
        1 => Just(None),
    ]
}

fn no_path() -> impl Strategy<Value = NoPath> {
    prop_oneof![
        Just(NoPath::Fail),
        Just(NoPath::Queue),
        (1_u64..9).prop_map(|time| NoPath::QueueFor(seconds(time)))
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(&POLICIES)
}

fn tried() -> impl Strategy<Value = Tried> {
    prop_oneof![3 => Just(Tried::Worked), 2 => Just(Tried::Failed), 1 => Just(Tried::Unknown)]
}

fn slow_paths() -> impl Strategy<Value = SlowPaths> {
    prop_oneof![Just(SlowPaths::Ignore), Just(SlowPaths::Demote)]
}

fn hedging() -> impl Strategy<Value = Hedging> {
    prop_oneof![Just(Hedging::Off), (1_u8..60).prop_map(|percent| Hedging::On { percent })]
}

fn setting() -> impl Strategy<Value = Step> {
    prop_oneof![
        policy().prop_map(Step::Policy),
        no_path().prop_map(Step::NoPath),
        (1_u64..20).prop_map(|delay| Step::DelayedRemoval(seconds(delay))),
        slow_paths().prop_map(Step::SlowPaths),
        hedging().prop_map(Step::Hedging),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u16..3).prop_map(Step::Submit),
        8 => (any::<usize>(), verdict()).prop_map(|(which, verdict)| Step::End(which, verdict)),
        4 => (0_u32..5, proptest::option::of(0_u16..3), state())
            .prop_map(|(path, node, state)| Step::Path(path, node, state)),
        2 => setting(),
        2 => (1_u64..3_000).prop_map(|time| Step::Pass(Duration::from_millis(time))),
        4 => (any::<usize>(), tried()).prop_map(|(which, tried)| Step::Tried(which, tried)),
        4 => Just(Step::Timeout),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let watch = (slow_paths(), hedging(), prop_oneof![Just(Trial::Request), Just(Trial::Canary)]);
    (policy(), no_path(), 1_u64..20, 1_u32..4, 0_u32..6, watch).prop_map(
        |(policy, no_path, delay, failures, retries_max, (slow_paths, hedging, trial))| Options {
            slow_paths,
            hedging,
            trial,
            policy,
            no_path,
            delayed_removal: seconds(delay),
            retries_max,
            back_off: BackOff { failures, ..QUICK },
            ..Options::default()
        },
    )
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Submit(node) => world.submit(node),
        Step::End(which, verdict) if !world.in_flight.is_empty() => {
            world.end(which % world.in_flight.len(), verdict);
        }
        Step::End(..) => {}
        Step::Path(path, node, state) => world.path(PathId(path), node.map(Node), state),
        Step::Policy(policy) => world.tell(Event::SetPolicy(policy)),
        Step::NoPath(no_path) => world.set_no_path(no_path),
        Step::DelayedRemoval(delay) => world.tell(Event::SetDelayedRemoval(delay)),
        Step::Pass(time) => world.pass(time),
        Step::Tried(which, tried) if !world.canaries.is_empty() => {
            world.tried(which % world.canaries.len(), tried);
        }
        Step::Tried(..) => {}
        Step::SlowPaths(slow_paths) => world.tell(Event::SetSlowPaths(slow_paths)),
        Step::Hedging(hedging) => world.tell(Event::SetHedging(hedging)),
        Step::Timeout => {
            world.timeout();
        }
    }
}

/// No more faults: whatever is still held must come to its end by itself.
fn finish_all(world: &mut World) {
    world.path(PathId(100), None, Some(OPTIMIZED));
    for _ in 0..100_000 {
        if !world.in_flight.is_empty() {
            world.end(0, Verdict::Done);
        } else if !world.canaries.is_empty() {
            world.tried(0, Tried::Worked);
        } else if world.head.status().parked + world.head.status().pausing == 0 {
            return;
        } else {
            assert!(world.timeout(), "requests are held and nothing is going to happen");
        }
    }
    panic!("it never ends: {}", world.head.status());
}

proptest! {
    #[test]
    fn long_histories_lose_nothing_and_end_when_faults_do(
        options in options(),
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let mut world = World::new(options);
        for step in steps {
            take(&mut world, step);
        }
        finish_all(&mut world);
        for path in world.head.paths() {
            prop_assert_eq!(path.in_flight, 0, "idle");
        }
        world.remove();
        prop_assert!(world.is_gone());
        let counters = world.head.status().counters;
        prop_assert_eq!(counters.finished, u64::from(world.submitted));
        prop_assert_eq!(counters.submitted, counters.finished);
    }
}
