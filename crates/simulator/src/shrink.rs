//! Finds a smaller run that breaks the same promise.

use crate::check::Rule;
use crate::plan::{Choice, Plan, Reduction};
use crate::world::run;

/// Runs that are tried at most.
const TRIES_MAX: usize = 200;

/// Leaves out faults and requests as long as the same rule is still broken.
#[must_use]
pub fn shrink(seed: u64, choice: Choice, rule: Rule) -> Reduction {
    let faults = Plan::draw(seed, choice, &Reduction::default()).faults.len();
    let mut best = Reduction { only_faults: Some((0..faults).collect()), requests: None };
    let mut tries = 0;
    let mut still_fails = |reduction: &Reduction| {
        tries += 1;
        let outcome = run(&Plan::draw(seed, choice, reduction), None);
        tries <= TRIES_MAX && outcome.violations.iter().any(|violation| violation.rule == rule)
    };
    let mut piece = faults.div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while let Some(faults) = best.only_faults.clone().filter(|faults| at < faults.len()) {
            let end = (at + piece).min(faults.len());
            let rest = [&faults[..at], &faults[end..]].concat();
            let candidate = Reduction { only_faults: Some(rest), ..best.clone() };
            if still_fails(&candidate) {
                best = candidate;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    let mut requests = 600;
    while requests > 1 {
        requests /= 2;
        let candidate = Reduction { requests: Some(requests), ..best.clone() };
        if !still_fails(&candidate) {
            break;
        }
        best = candidate;
    }
    best
}
