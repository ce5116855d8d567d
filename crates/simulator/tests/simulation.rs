//! A few seeds on every test run; the program `simulate` runs many.

use simulator::{Outcome, Plan, Profile, Reduction, Rule, run};

fn simulate(seed: u64, profile: Profile) -> Outcome {
    run(&Plan::draw(seed, profile, &Reduction::default()), None)
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
fn with_faults_that_execute_nothing_late_no_block_is_ever_wrong() {
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
        for rule in [Rule::Completion, Rule::Access, Rule::Bounds] {
            assert_eq!(broken(rule), None, "seed {seed}");
        }
    }
}
