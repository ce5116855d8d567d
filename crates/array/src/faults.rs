//! What may go wrong on purpose: rules that a command, or a task management function, is held against.
//!
//! A fault never changes what a command means; it changes when, whether, or how visibly the command is executed.

use alloc::collections::BTreeMap;
use clock::Duration;
use scsi::Reply;

use crate::{Function, NexusId, PortId, Response, UnitId};

/// Names a fault so that it can be cleared, and what it holds be released. The caller chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(pub u32);

/// One rule: which commands, how many of them, and what becomes of them.
#[derive(Clone, Debug)]
pub struct Fault {
    pub scope: Scope,
    pub when: When,
    pub effect: Effect,
}

/// What a fault applies to; `None` stands for any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    pub unit: Option<UnitId>,
    pub port: Option<PortId>,
    pub nexus: Option<NexusId>,
    pub class: Class,
    /// Only commands that touch a block of this range, as `(first, last)`.
    pub blocks: Option<(u64, u64)>,
    /// Only this task management function, for [`Effect::Function`].
    pub function: Option<Function>,
}

/// A class of commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    #[default]
    Any,
    /// Commands that return blocks of the medium.
    Read,
    /// Commands that change blocks of the medium.
    Write,
    /// Commands that read or change blocks of the medium.
    Medium,
    /// SYNCHRONIZE CACHE.
    Flush,
    /// All that touch no block: INQUIRY, TEST UNIT READY, mode pages, port groups, …
    Control,
    /// One operation code.
    Operation(u8),
}

/// Which of the commands in scope are hit.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// So many commands in scope pass before the first is hit.
    pub skip: u64,
    /// After so many hits the fault is spent; `None` is never.
    pub count: Option<u64>,
    pub chance: Chance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    Always,
    /// So many in 65,536, drawn from the seed in [`crate::Options`].
    Of65536(u16),
}

impl When {
    pub const ALWAYS: Self = Self { skip: 0, count: None, chance: Chance::Always };

    /// The next `count` commands in scope.
    #[must_use]
    pub const fn times(count: u64) -> Self {
        Self { count: Some(count), ..Self::ALWAYS }
    }
}

/// What becomes of a command that is hit.
#[derive(Clone, Debug)]
pub enum Effect {
    /// It waits, then is executed as if nothing had happened.
    Hold { place: Place, until: Until },
    /// It is answered with this, and not executed.
    Reply(Reply),
    /// It is executed; its answer is never sent.
    LoseStatus,
    /// It is not executed and never answered.
    LoseCommand,
    /// It is answered with GOOD and not executed: a lie that only a reader of the medium can find.
    LoseWrite,
    /// It waits in the back end; then its first `blocks` blocks are written and it ends with MEDIUM ERROR, write
    /// error (SPC: 3/0C/00). What is no WRITE changes nothing.
    Tear { until: Until, blocks: u32 },
    /// A WRITE changes the blocks that lie so many further on, round the end, and is answered as if all were well.
    Misdirect { blocks: u64 },
    /// For task management functions: how one in scope is treated instead. Commands pass.
    Function(Treatment),
}

/// How deep a held command already is in the device server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the task set: aborting it means that it is never executed.
    Queue,
    /// Handed to the back end, which cannot recall it: aborted or not, it will be executed. An honest device
    /// server does not answer the abort before that.
    BackEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    After(Duration),
    /// Until [`crate::Event::Release`] names the fault.
    Released,
}

/// How a task management function is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Done honestly, and never answered.
    NeverAnswer,
    /// Done, but answered without waiting for what is in the back end: the lie that lets a ghost write out.
    AnswerEarly,
    /// Not done, and answered with this.
    Answer(Response),
    /// Done, and answered as complete even if there was no such task.
    ClaimComplete,
}

/// A command as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) unit: UnitId,
    pub(crate) port: PortId,
    pub(crate) nexus: NexusId,
    pub(crate) operation: u8,
    pub(crate) kind: Kind,
    /// First and last block.
    pub(crate) blocks: Option<(u64, u64)>,
}

/// What a command does to the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Control,
}

/// All faults that are set, tried in the order of their names; the first that hits decides.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: BTreeMap<FaultId, Rule>,
    random: Random,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    seen: u64,
    hits: u64,
}

impl Faults {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { rules: BTreeMap::new(), random: Random(seed) }
    }

    /// A fault of the same name is replaced.
    pub(crate) fn set(&mut self, id: FaultId, fault: Fault) {
        self.rules.insert(id, Rule { fault, seen: 0, hits: 0 });
    }

    pub(crate) fn clear(&mut self, id: FaultId) {
        self.rules.remove(&id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(crate) fn hits(&self, id: FaultId) -> u64 {
        self.rules.get(&id).map_or(0, |rule| rule.hits)
    }

    /// What becomes of this command, and by which fault.
    pub(crate) fn strike(&mut self, subject: &Subject) -> Option<(FaultId, Effect)> {
        for (id, rule) in &mut self.rules {
            if matches!(rule.fault.effect, Effect::Function(_)) || !rule.fault.scope.covers(subject) {
                continue;
            }
            if rule.is_due(&mut self.random) {
                return Some((*id, rule.fault.effect.clone()));
            }
        }
        None
    }

    /// How this task management function is treated, if not honestly.
    pub(crate) fn strike_function(
        &mut self,
        nexus: NexusId,
        port: PortId,
        unit: Option<UnitId>,
        function: Function,
    ) -> Option<Treatment> {
        for rule in self.rules.values_mut() {
            let Effect::Function(treatment) = rule.fault.effect else { continue };
            let scope = &rule.fault.scope;
            let covers = scope.nexus.is_none_or(|it| it == nexus)
                && scope.port.is_none_or(|it| it == port)
                && scope.function.is_none_or(|it| it == function)
                && scope.unit.is_none_or(|it| Some(it) == unit);
            if covers && rule.is_due(&mut self.random) {
                return Some(treatment);
            }
        }
        None
    }
}

impl Rule {
    fn is_due(&mut self, random: &mut Random) -> bool {
        self.seen += 1;
        if self.seen <= self.fault.when.skip || self.fault.when.count.is_some_and(|count| self.hits >= count)
        {
            return false;
        }
        let due = match self.fault.when.chance {
            Chance::Always => true,
            Chance::Of65536(chance) => random.next() & 0xffff < u64::from(chance),
        };
        self.hits += u64::from(due);
        due
    }
}

impl Scope {
    fn covers(&self, subject: &Subject) -> bool {
        self.unit.is_none_or(|it| it == subject.unit)
            && self.port.is_none_or(|it| it == subject.port)
            && self.nexus.is_none_or(|it| it == subject.nexus)
            && self.class.covers(subject)
            && self.blocks.is_none_or(|(first, last)| {
                subject.blocks.is_some_and(|(from, to)| from <= last && to >= first)
            })
    }
}

impl Class {
    fn covers(self, subject: &Subject) -> bool {
        match self {
            Self::Any => true,
            Self::Read => subject.kind == Kind::Read,
            Self::Write => subject.kind == Kind::Write,
            Self::Medium => matches!(subject.kind, Kind::Read | Kind::Write),
            Self::Flush => subject.kind == Kind::Flush,
            Self::Control => subject.kind == Kind::Control,
            Self::Operation(operation) => operation == subject.operation,
        }
    }
}

/// SplitMix64: small, seedable, and good enough to decide whether a fault strikes.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Subject = Subject {
        unit: UnitId(0),
        port: PortId(1),
        nexus: NexusId(7),
        operation: 0x8a,
        kind: Kind::Write,
        blocks: Some((8, 15)),
    };

    fn lose(scope: Scope, when: When) -> Faults {
        let mut faults = Faults::new(1);
        faults.set(FaultId(1), Fault { scope, when, effect: Effect::LoseCommand });
        faults
    }

    #[test]
    fn a_fault_with_a_count_is_spent_after_it() {
        let mut faults = lose(Scope::default(), When { skip: 1, ..When::times(2) });
        let struck = [0; 5].map(|_| faults.strike(&WRITE).is_some());
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(faults.hits(FaultId(1)), 2);
    }

    #[test]
    fn a_fault_strikes_only_in_its_scope() {
        let strikes = |scope| lose(scope, When::ALWAYS).strike(&WRITE).is_some();
        assert!(strikes(Scope { class: Class::Medium, ..Scope::default() }));
        assert!(!strikes(Scope { class: Class::Read, ..Scope::default() }));
        assert!(!strikes(Scope { port: Some(PortId(2)), ..Scope::default() }));
        assert!(strikes(Scope { blocks: Some((15, 99)), ..Scope::default() }));
        assert!(!strikes(Scope { blocks: Some((16, 99)), ..Scope::default() }));
    }

    #[test]
    fn a_chance_is_kept_roughly_and_the_same_seed_strikes_the_same() {
        let when = When { chance: Chance::Of65536(0x4000), ..When::ALWAYS };
        let run = || {
            let mut faults = lose(Scope::default(), when);
            (0..1000)
                .map(|_| u32::from(faults.strike(&WRITE).is_some()))
                .fold((0, 0_u32), |(sum, hash), it| (sum + it, hash.rotate_left(1) ^ it))
        };
        assert_eq!(run(), run());
        assert!((200..300).contains(&run().0));
    }
}
