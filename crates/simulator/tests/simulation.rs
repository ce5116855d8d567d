//! A few seeds on every test run; the program `simulate` runs many.

use std::ops::RangeInclusive;

use simulator::{
    Choice, Danger, FencePolicy, Kind, Outcome, Plan, Profile, Reduction, Rule, TargetProfile, run,
};

fn simulate(seed: u64, choice: impl Into<Choice>) -> Outcome {
    run(&Plan::draw(seed, choice, &Reduction::default()), None)
}

/// The first seed of some that breaks one of these rules.
fn first_broken(mut seeds: RangeInclusive<u64>, choice: Choice, rules: &[Rule]) -> Option<u64> {
    seeds.find(|seed| {
        simulate(*seed, choice).violations.iter().any(|violation| rules.contains(&violation.rule))
    })
}

#[test]
fn without_faults_every_request_succeeds_and_every_promise_is_kept() {
    for seed in 1..=6 {
        let outcome = simulate(seed, Profile::Calm);
        assert_eq!((outcome.violations, outcome.failed_requests), (vec![], 0), "seed {seed}");
        assert!(outcome.requests > 50);
    }
}

#[test]
fn with_faults_that_execute_nothing_late_every_promise_is_kept() {
    for seed in 1..=24 {
        let outcome = simulate(seed, Profile::NoLateExecution);
        assert_eq!(outcome.violations, vec![], "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_event_by_event() {
    for seed in [3, 7] {
        let (one, other) = (simulate(seed, Profile::All), simulate(seed, Profile::All));
        assert_eq!((one.hash, one.events), (other.hash, other.events));
        assert_ne!(one.hash, simulate(seed + 1, Profile::All).hash);
    }
}

#[test]
fn no_fault_makes_an_answer_come_twice_or_a_port_be_used_against_its_word() {
    for seed in 1..=12 {
        let outcome = simulate(seed, Profile::All);
        let broken = |rule| outcome.violations.iter().find(|violation| violation.rule == rule);
        for rule in [Rule::Completion, Rule::Access, Rule::Bounds, Rule::Copies] {
            assert_eq!(broken(rule), None, "seed {seed}");
        }
    }
}

#[test]
fn without_a_fence_late_writes_undo_newer_ones_and_the_checkers_see_it() {
    let choice = Choice { fence: Some(FencePolicy::Unsafe), ..Choice::from(Profile::Disjoint) };
    assert!(first_broken(75..=300, choice, &[Rule::Ghost, Rule::Register]).is_some());
}

#[test]
fn without_a_quarantine_a_write_is_sent_over_an_older_one_that_can_still_land() {
    let choice = Choice { fence: Some(FencePolicy::Unsafe), ..Choice::from(Profile::Disjoint) };
    assert!(first_broken(35..=300, choice, &[Rule::Quarantine]).is_some());
}

#[test]
fn what_no_initiator_can_help_is_seen_by_the_checkers() {
    let choice = Choice::from(Profile::Control);
    assert!(first_broken(1..=60, choice, &[Rule::Ghost, Rule::Register, Rule::WrongUnit]).is_some());
}

#[test]
fn every_behaviour_of_a_target_lets_a_run_without_faults_pass() {
    for target in TargetProfile::ALL {
        let choice = Choice { target: Some(*target), ..Choice::from(Profile::Calm) };
        for seed in 1..=2 {
            assert_eq!(simulate(seed, choice).violations, vec![], "{target}, seed {seed}");
        }
    }
}

#[test]
fn every_kind_of_fault_has_a_number_and_a_danger() {
    let untold: Vec<u32> =
        Kind::ALL.iter().filter(|kind| kind.danger() == Danger::Untold).map(|kind| kind.number()).collect();
    assert_eq!(untold, [25, 26, 42, 50, 50]);
    assert!(Kind::ALL.is_sorted_by_key(|kind| kind.number()));
}
