//! How the array treats those who rely on it, for tests of initiators: with honour, or as some targets do.

use std::collections::HashSet;
use std::time::Duration;

use array::{Array, Class, Effect, Event, Fault, FaultId, NexusId, Place, Scope, Treatment, Until, When};
use clock::Instant;
use iscsi::target::Command;
use scsi::cdb::Cdb;
use scsi::{Lba, Lun};

/// What a write begins with that [`Stuck::Marked`] holds.
pub const STUCK_MARKER: &[u8] = b"GHOST-OF-A-WRITE";

/// Marked writes that are remembered: more than any test makes. Those beyond it are not held.
const MARKED_MAX: usize = 4096;

/// The names of our own faults: far from those that a test would choose.
const LIE: FaultId = FaultId(u32::MAX - 1);
const STICK: FaultId = FaultId(u32::MAX);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behaviour {
    pub profile: Profile,
    pub sticking: Option<Sticking>,
}

/// What a login that reinstates a session, and a LOGICAL UNIT RESET, are worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// Both are answered when no command that they end can change the medium any more (RFC 7143, 6.3.5; SAM, 6.3.3).
    #[default]
    Honest,
    /// The login is answered at once; the reset is honest. As tgt and SPDK do.
    AnswersAtOnce,
    /// Both are answered at once.
    LyingReset,
    /// Each controller is honest, and knows nothing of the other's commands; they share the medium.
    Gateways,
}

/// Which writes the back end keeps to itself for a while, before it executes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sticking {
    pub writes: Stuck,
    pub time: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// Those that begin with [`STUCK_MARKER`], the first time that their block is written so.
    Marked,
    /// One in so many, of all.
    OneIn(u64),
}

/// Finds the writes that are to be held.
#[derive(Debug)]
pub(super) struct Holder {
    sticking: Sticking,
    marked: HashSet<(Lun, Lba)>,
    writes: u64,
}

impl Profile {
    pub(super) fn set_up(self, array: &mut Array) {
        if self == Self::LyingReset {
            let effect = Effect::Function(Treatment::AnswerEarly);
            let fault = Fault { scope: Scope::default(), when: When::ALWAYS, effect };
            array.handle(Instant::START, Event::SetFault(LIE, fault));
        }
    }

    /// Whether a login waits until the session that it replaces is drained.
    pub(super) const fn login_waits(self) -> bool {
        matches!(self, Self::Honest | Self::Gateways)
    }
}

impl Holder {
    pub(super) fn new(sticking: Sticking) -> Self {
        Self { sticking, marked: HashSet::new(), writes: 0 }
    }

    /// Arms a fault that strikes this command, if it is to be held; tell it to the array just before the command.
    pub(super) fn strike(&mut self, nexus: NexusId, command: &Command) -> Option<Event> {
        let Ok(Cdb::Write(access)) = Cdb::parse(command.cdb.as_slice()) else { return None };
        let strikes = match self.sticking.writes {
            Stuck::Marked => {
                command.data.starts_with(STUCK_MARKER)
                    && self.marked.len() < MARKED_MAX
                    && self.marked.insert((command.lun, access.lba))
            }
            Stuck::OneIn(count) => {
                self.writes += 1;
                self.writes.is_multiple_of(count.max(1))
            }
        };
        if !strikes {
            return None;
        }
        let until = Until::After(self.sticking.time.into());
        let fault = Fault {
            scope: Scope { nexus: Some(nexus), class: Class::Write, ..Scope::default() },
            when: When::times(1),
            effect: Effect::Hold { place: Place::BackEnd, until },
        };
        Some(Event::SetFault(STICK, fault))
    }
}
