//! What goes wrong. The numbers are those of the fault model that the project tests by.

use std::fmt;

use array::{Chance, Class, Effect, Fault, FaultId, GroupId, Place, PortId, Scope, Treatment, Until, When};
use clock::Duration;
use scsi::{AdditionalSense, Reply, Residual, Sense, SenseData, SenseKey, Status};

use crate::random::Random;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number in the fault model.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }
        }
    };
}

kinds! {
    /// Both ends are reset after some bytes, in the middle of a PDU.
    Reset = 1,
    /// One end is told that the stream is over.
    Finish = 2,
    /// Nothing comes through in one direction.
    HoleOneWay = 3,
    /// Nothing comes through at all.
    Hole = 4,
    /// Nothing comes through; later everything does, whoever still waits for it.
    HoleDelivered = 5,
    /// Everything takes much longer.
    DelaySpike = 6,
    /// The session answers, the device server does not.
    CommandsHeld = 10,
    /// One bit is damaged on the wire; digests are on.
    BitFlip = 11,
    /// Connections are accepted, logins are not answered.
    LoginHangs = 15,
    LoginRejected = 16,
    /// The target says that it drops the connection, or wants a logout.
    AsyncDrop = 17,
    /// Writes are stuck in the back end, and are executed in the end.
    StuckWrite = 19,
    StatusLostAfter = 21,
    StatusLostBefore = 22,
    FunctionUnanswered = 28,
    Busy = 29,
    AccessTransition = 30,
    AccessLost = 31,
    UnitAttention = 33,
    /// Another host resets the logical unit.
    ForeignReset = 34,
    ControllerCrash = 36,
    MediumError = 39,
    CapacityGrows = 41,
    SlowPort = 48,
    ClientReconnects = 58,
}

/// One fault of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedFault {
    pub(crate) kind: Kind,
    /// From the beginning of the run.
    pub(crate) at: Duration,
    pub(crate) duration: Duration,
    /// Decides about everything else: which port, which unit, how much.
    pub(crate) chance: u64,
}

impl Kind {
    /// Whether a command can take effect after its initiator gave its nexus up.
    pub(crate) const fn executes_late(self) -> bool {
        matches!(self, Self::HoleDelivered | Self::StuckWrite)
    }

    /// The rule of the array that makes it happen, if it is the array's to do.
    pub(crate) fn rule(
        self,
        random: &mut Random,
        port: PortId,
        unit: array::UnitId,
        blocks: u64,
    ) -> Option<Fault> {
        let at_port = Scope { port: Some(port), ..Scope::default() };
        let at_unit = Scope { unit: Some(unit), ..Scope::default() };
        let scope = if random.percent(50) { at_port } else { at_unit };
        let some = When { chance: Chance::Of65536(random.pick(&[3_000, 20_000, 65_535])), ..When::ALWAYS };
        let few = When::times(random.within(1..=4));
        let (scope, when, effect) = match self {
            Self::CommandsHeld => {
                let effect = Effect::Hold { place: Place::Queue, until: Until::Released };
                (Scope { class: Class::Medium, ..at_port }, When::ALWAYS, effect)
            }
            Self::StuckWrite => {
                let until = Until::After(Duration::from_millis(random.spread(10, 20_000)));
                (Scope { class: Class::Write, ..scope }, few, Effect::Hold { place: Place::BackEnd, until })
            }
            Self::StatusLostAfter => (Scope { class: Class::Medium, ..scope }, few, Effect::LoseStatus),
            Self::StatusLostBefore => (Scope { class: Class::Medium, ..scope }, few, Effect::LoseCommand),
            Self::FunctionUnanswered => (at_port, When::ALWAYS, Effect::Function(Treatment::NeverAnswer)),
            Self::Busy => {
                let status = random.pick(&[Status::Busy, Status::TaskSetFull]);
                (scope, some, Effect::Reply(Reply { status, sense: None, residual: Residual::None }))
            }
            Self::MediumError => {
                let first = random.below(blocks);
                let class = random.pick(&[Class::Read, Class::Medium]);
                let scope = Scope { class, blocks: Some((first, first + random.below(8))), ..at_unit };
                let code = AdditionalSense::UNRECOVERED_READ_ERROR;
                let sense = SenseData::fixed(&Sense::new(SenseKey::MediumError, code));
                (scope, When::ALWAYS, Effect::Reply(Reply::check_condition(sense)))
            }
            Self::SlowPort => {
                let until = Until::After(Duration::from_millis(random.spread(1, 500)));
                (scope, some, Effect::Hold { place: Place::Queue, until })
            }
            _ => return None,
        };
        Some(Fault { scope, when, effect })
    }
}

impl PlannedFault {
    pub(crate) fn id(number: usize) -> FaultId {
        FaultId(u32::try_from(number).expect("a plan has few faults"))
    }

    /// Where its own chances come from.
    pub(crate) const fn random(&self) -> Random {
        Random::new(self.chance)
    }
}

/// A port of the array, and the group that it belongs to.
pub(crate) fn port_id(port: usize) -> PortId {
    PortId(u16::try_from(port + 1).expect("there are few ports"))
}

pub(crate) fn group_of(port: usize, ports_per_controller: u16) -> GroupId {
    GroupId(u16::try_from(port).expect("there are few ports") / ports_per_controller + 1)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self:?}", self.number())
    }
}

/// How often each kind has begun, and how often it met something.
#[derive(Clone, Debug, Default)]
pub struct FaultCounters {
    counts: std::collections::BTreeMap<Kind, (u64, u64)>,
}

impl FaultCounters {
    pub(crate) fn begun(&mut self, kind: Kind) {
        self.counts.entry(kind).or_default().0 += 1;
    }

    pub(crate) fn struck(&mut self, kind: Kind, times: u64) {
        self.counts.entry(kind).or_default().1 += times;
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, (begun, struck)) in &other.counts {
            let count = self.counts.entry(*kind).or_default();
            count.0 += begun;
            count.1 += struck;
        }
    }

    /// Kind, times begun, times it met something.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, u64, u64)> {
        Kind::ALL.iter().map(|kind| {
            let (begun, struck) = self.counts.get(kind).copied().unwrap_or_default();
            (*kind, begun, struck)
        })
    }
}
