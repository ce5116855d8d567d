//! What must never happen, each thing in a file of its own.

mod access;
mod bounds;
mod completions;
mod durability;
mod ledger;
mod liveness;
mod medium;
mod register;

use std::fmt;

use clock::Instant;

use crate::stamp::BlockAt;

pub(crate) use access::{AccessCheck, Epoch};
pub(crate) use bounds::BoundsCheck;
pub(crate) use completions::CompletionCheck;
pub(crate) use durability::DurabilityCheck;
pub(crate) use ledger::{Change, Ledger, Moment};
pub(crate) use liveness::LivenessCheck;
pub(crate) use medium::{Effect, LostBlock, MediumCheck};
pub(crate) use register::RegisterCheck;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    /// When it was seen.
    pub at: Instant,
    pub text: String,
}

/// Which promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Each block behaves as one register.
    Register,
    /// Nothing older reaches the medium after a newer write was acknowledged.
    Ghost,
    /// What was flushed stays; what a cache lost is told by a flush that fails.
    Durability,
    /// Each request is answered exactly once, in a way that its protocol allows.
    Completion,
    /// What waits is bounded.
    Bounds,
    /// No medium command goes to a port that has said that it takes none.
    Access,
    /// Without faults everything comes to its end.
    Liveness,
}

/// All checkers of a run.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) ledger: Ledger,
    pub(crate) register: RegisterCheck,
    pub(crate) medium: MediumCheck,
    pub(crate) durability: DurabilityCheck,
    pub(crate) completions: CompletionCheck,
    pub(crate) bounds: BoundsCheck,
    pub(crate) access: AccessCheck,
    pub(crate) liveness: LivenessCheck,
    violations: Vec<Violation>,
}

/// Violations that are kept: the first ones tell the story.
const VIOLATIONS_MAX: usize = 16;

impl Checks {
    pub(crate) fn new(bounds: BoundsCheck) -> Self {
        Self {
            ledger: Ledger::default(),
            register: RegisterCheck::default(),
            medium: MediumCheck::default(),
            durability: DurabilityCheck::default(),
            completions: CompletionCheck::default(),
            bounds,
            access: AccessCheck::default(),
            liveness: LivenessCheck::default(),
            violations: Vec::new(),
        }
    }

    /// Something happened to a medium.
    pub(crate) fn effect(&mut self, at: Instant, effect: &Effect) {
        let finding = self.medium.effect(&self.ledger, effect);
        self.found(at, Rule::Ghost, finding);
        let finding = self.durability.effect(&self.ledger, effect);
        self.found(at, Rule::Durability, finding);
        if let Effect::Lost { unit, blocks } = effect {
            let moment = self.ledger.moment();
            for lost in blocks {
                self.register.lost(BlockAt { unit: *unit, lba: lost.lba }, moment, lost.kept);
            }
        }
    }

    /// Takes the finding of a checker.
    pub(crate) fn found(&mut self, at: Instant, rule: Rule, finding: Result<(), String>) {
        if let Err(text) = finding
            && self.violations.len() < VIOLATIONS_MAX
        {
            self.violations.push(Violation { rule, at, text });
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    pub(crate) fn into_violations(self) -> Vec<Violation> {
        self.violations
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.at.as_nanos() / 1_000_000;
        write!(f, "{:?} at {millis} ms: {}", self.rule, self.text)
    }
}
