//! What must never happen, each thing in a file of its own.

mod access;
mod bounds;
mod completions;
mod copies;
mod durability;
mod fences;
mod ledger;
mod liveness;
mod medium;
mod no_path;
mod operators;
mod pace;
mod questions;
mod register;
mod shown;
mod ways;
mod weather;
mod window;
mod wire;

use std::collections::BTreeSet;
use std::fmt;

use clock::Instant;
use multipath::PathState;
use scsi_multipath::{Reason, Report};

use crate::link::ConnectionId;
use crate::plan::Ways;
use crate::stamp::{BlockAt, Content};

pub(crate) use access::{AccessCheck, Epoch};
pub(crate) use bounds::BoundsCheck;
pub(crate) use completions::CompletionCheck;
pub(crate) use durability::DurabilityCheck;
pub(crate) use fences::FenceCheck;
pub(crate) use ledger::{Change, Ledger, Moment};
pub(crate) use liveness::LivenessCheck;
pub(crate) use medium::{Effect, LostBlock, MediumCheck};
pub(crate) use no_path::NoPathCheck;
pub(crate) use operators::{Consequence, Force, Meant, OperatorCheck, Seat, TakenOut};
pub(crate) use pace::PaceCheck;
pub(crate) use questions::QuestionsCheck;
pub(crate) use register::{Loss, RegisterCheck};
pub(crate) use shown::ShownCheck;
pub(crate) use ways::WaysCheck;
pub(crate) use weather::{DISCOVERY, Weather};
pub(crate) use window::WindowCheck;
pub(crate) use wire::{Notice, WireCheck};

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
    /// All copies of a write carry the same bytes.
    Copies,
    /// While a copy of an older write can still take effect, no overlapping one is sent.
    Quarantine,
    /// Every loss with writes of unknown fate opens a fence, and every fence ends.
    Fence,
    /// A login that is to fence is not given up early for another.
    Patience,
    /// No write goes to a path whose identity is in doubt.
    Identity,
    /// No command changes a unit that is not the disk's.
    WrongUnit,
    /// No error that a path without faults could have avoided.
    Permanence,
    /// What is the logical unit's own fault fails no path.
    Storm,
    /// A slow path is put last only if another one is left; no write is on its way twice; extra reads keep to their budget.
    Pace,
    /// What exports are shown changes only with a word, and is never more than what every path has.
    Shown,
    /// Port groups are asked about at a pace.
    Questions,
    /// Nothing is sent that must not be executed twice.
    Classes,
    /// What is beyond the end that a unit has told of is not asked for for ever.
    Capacity,
    /// Without a path requests wait as long as they are to.
    NoPath,
    /// No command goes beyond the window of the target.
    Window,
    /// What operators say is answered, and kept.
    Operator,
    /// A disk has the ways that its settings allow, and uses them as they say.
    Ways,
    /// An initiator port has one session with a portal group at a time.
    Nexus,
    /// Without faults everything comes to its end.
    Liveness,
}

/// Units from this number on are there to be confused with others.
pub(crate) const EXTRA_UNITS: u32 = 1_000;

/// All checkers of a run.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) ledger: Ledger,
    pub(crate) register: RegisterCheck,
    pub(crate) medium: MediumCheck,
    pub(crate) durability: DurabilityCheck,
    pub(crate) wire: WireCheck,
    pub(crate) fences: FenceCheck,
    pub(crate) weather: Weather,
    /// Payloads are damaged on a wire without digests: what nobody wrote is then nobody's fault.
    pub(crate) wire_is_silent: bool,
    /// Blocks that came damaged over such a wire.
    pub(crate) silent_damage: u64,
    /// When a number began to stand for another unit, if initiators were to be told.
    pub(crate) remapped: Option<Instant>,
    /// Nexuses that are up, as the initiator sees it.
    pub(crate) up: BTreeSet<u32>,
    /// The first blocks of commands that came to units that are no disk's, and that nobody could have stopped any more.
    misled: BTreeSet<u64>,
    /// What overlaps an older write is sent only when that has ended for its client.
    pub(crate) overlaps_are_avoided: bool,
    pub(crate) completions: CompletionCheck,
    pub(crate) bounds: BoundsCheck,
    pub(crate) access: AccessCheck,
    pub(crate) liveness: LivenessCheck,
    pub(crate) pace: PaceCheck,
    pub(crate) shown: ShownCheck,
    pub(crate) questions: QuestionsCheck,
    pub(crate) no_path: NoPathCheck,
    pub(crate) window: WindowCheck,
    pub(crate) operators: OperatorCheck,
    pub(crate) ways: WaysCheck,
    violations: Vec<Violation>,
}

/// Violations that are kept: the first ones tell the story.
const VIOLATIONS_MAX: usize = 16;

impl Checks {
    pub(crate) fn new(
        bounds: BoundsCheck,
        fences: FenceCheck,
        wire: WireCheck,
        pace: PaceCheck,
        no_path: NoPathCheck,
        ways: Ways,
        ports: usize,
    ) -> Self {
        Self {
            pace,
            shown: ShownCheck::default(),
            questions: QuestionsCheck::default(),
            wire,
            fences,
            no_path,
            window: WindowCheck::default(),
            operators: OperatorCheck::default(),
            ways: WaysCheck::new(ways),
            weather: Weather::with_ports(ports, ways.is_single()),
            wire_is_silent: false,
            silent_damage: 0,
            remapped: None,
            misled: BTreeSet::new(),
            up: BTreeSet::new(),
            overlaps_are_avoided: false,
            ledger: Ledger::default(),
            register: RegisterCheck::default(),
            medium: MediumCheck::default(),
            durability: DurabilityCheck::default(),
            completions: CompletionCheck::default(),
            bounds,
            access: AccessCheck::new(ways.access_changes != array::AccessChanges::None),
            liveness: LivenessCheck::default(),
            violations: Vec::new(),
        }
    }

    /// Something happened to a medium.
    pub(crate) fn effect(&mut self, at: Instant, effect: &Effect) {
        if let Effect::Written { unit, .. } | Effect::Deallocated { unit, .. } = effect
            && *unit >= EXTRA_UNITS
        {
            let first = match effect {
                Effect::Written { first, .. } | Effect::Deallocated { first, .. } => u64::from(*first),
                Effect::Lost { .. } => return,
            };
            if self.misled.contains(&first) {
                return;
            }
            let finding = Err(format!("a command changed unit {unit}, which no disk is made of"));
            return self.found(at, Rule::WrongUnit, finding);
        }
        if self.wire_is_silent
            && let Effect::Written { contents, .. } = effect
            && contents.contains(&Content::Garbage)
        {
            self.silent_damage += 1;
            return;
        }
        let finding = self.medium.effect(&self.ledger, effect);
        self.found(at, Rule::Ghost, finding);
        let finding = self.durability.effect(at, &self.ledger, effect);
        self.found(at, Rule::Durability, finding);
        if let Effect::Lost { .. } = effect
            && self.up.is_empty()
        {
            // Nobody is there to be told: to a new session it looks like the greeting that each of them gets.
            self.durability.forget(self.ledger.last_moment());
        }
        if let Effect::Lost { unit, blocks } = effect {
            let moment = self.ledger.moment();
            let can_return = !self.fences.are_all_proved();
            for lost in blocks {
                let at = BlockAt { unit: *unit, lba: lost.lba };
                self.register.lost(at, Loss { moment, kept: lost.kept, can_return });
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

    /// A disk reports something.
    pub(crate) fn report(&mut self, at: Instant, disk: u32, report: &Report) {
        self.no_path.reported(at, disk, report);
        let finding = self.fences.reported(at, disk, report);
        self.found(at, Rule::Fence, finding);
        if let Report::PathState { path, to: PathState::Down, reason, .. } = report
            && matches!(reason, Reason::Lost | Reason::TimedOut | Reason::Doubtful)
            && self.weather.is_fair_for_paths(at)
        {
            let finding = Err(format!("{path} is down ({reason}) although only its logical unit had faults"));
            self.found(at, Rule::Storm, finding);
        }
    }

    /// A verb was answered.
    pub(crate) fn follow(&mut self, at: Instant, answer: Result<Consequence, String>) {
        match answer {
            Ok(Consequence::Held(seats)) => {
                seats.iter().for_each(|seat| self.weather.hold(at, *seat));
            }
            Ok(Consequence::NoPath { disk, no_path }) => self.no_path.set(disk.map(|disk| disk.0), no_path),
            Ok(Consequence::None) => {}
            Err(text) => self.found(at, Rule::Operator, Err(text)),
        }
    }

    /// So many requests of a disk wait for a path. Timers that are late and hosts that stand still excuse it.
    pub(crate) fn wait_for_path(&mut self, at: Instant, disk: u32, requests: usize) {
        if self.weather.is_fair_for_host(at) {
            let finding = self.no_path.waiting(at, disk, requests);
            self.found(at, Rule::NoPath, finding);
        }
    }

    /// A disk is gone, and with it what it knew of its unit's cache. Its clients were told so: their connections ended.
    pub(crate) fn disk_gone(&mut self) {
        let now = self.ledger.last_moment();
        self.durability.forget(now);
    }

    /// A WRITE came in at the target's door. `running` are older ones of nexuses that are gone, with their blocks.
    pub(crate) fn write_arrived<'a>(
        &mut self,
        at: Instant,
        write: &Arriving<'_>,
        running: impl Iterator<Item = Arriving<'a>>,
    ) {
        if self.wire_is_silent || write.unit >= EXTRA_UNITS {
            return;
        }
        let whose = copies::check(write.unit, write.first, write.block_size, write.data);
        let Ok(whose) = whose else { return self.found(at, Rule::Copies, whose.map(|_| ())) };
        if !self.overlaps_are_avoided {
            return;
        }
        for older in running.filter(|older| older.overlaps(write)) {
            let other = copies::check(older.unit, older.first, older.block_size, older.data);
            if other != Ok(whose) && other.is_ok() {
                let finding = Err(format!(
                    "{whose:?} arrives at {}:{} while {other:?} of a nexus that is gone can still take effect there",
                    write.unit, write.first
                ));
                return self.found(at, Rule::Quarantine, finding);
            }
        }
    }

    /// A command that changes blocks came to a unit that is no disk's.
    pub(crate) fn came_astray(&mut self, connection: ConnectionId, cdb: &[u8], first: u64) {
        if let Some(changed) = self.remapped
            && self.wire.was_on_its_way(connection, cdb, changed)
        {
            self.misled.insert(first);
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

/// A WRITE at the target's door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arriving<'a> {
    pub(crate) unit: u32,
    pub(crate) first: u64,
    pub(crate) block_size: u32,
    pub(crate) data: &'a [u8],
}

impl Arriving<'_> {
    const fn end(&self) -> u64 {
        self.first + self.data.len() as u64 / self.block_size as u64
    }

    const fn overlaps(&self, other: &Self) -> bool {
        self.unit == other.unit && self.first < other.end() && other.first < self.end()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.at.as_nanos() / 1_000_000;
        write!(f, "{:?} at {millis} ms: {}", self.rule, self.text)
    }
}
