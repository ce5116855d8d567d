//! How the array treats those who rely on it, for tests of initiators: with honour, or as some targets do.

use std::collections::HashSet;
use std::time::Duration;

use array::{
    AccessChanges, Array, Class, Effect, Event, Fault, FaultId, NexusId, Place, PortId, Scope, Treatment,
    Until, When,
};
use clock::Instant;
use iscsi::target::Command;
use scsi::cdb::Cdb;
use scsi::{AdditionalSense, Lba, Lun, Reply, Sense, SenseData, SenseKey};

/// What a write begins with that [`Stuck::Marked`] holds.
pub const STUCK_MARKER: &[u8] = b"GHOST-OF-A-WRITE";

/// SPC, additional sense codes: what a controller says whose inside does not work.
const INTERNAL_TARGET_FAILURE: AdditionalSense = AdditionalSense::new(0x44, 0x00);

/// Marked writes that are remembered: more than any test makes. Those beyond it are not held.
const MARKED_MAX: usize = 4096;

/// The names of our own faults: far from those that a test would choose. A command is struck by the first one that
/// applies to it, so that those of ports, which go on for ever, come last; there are 16 bits of ports.
const LIE: FaultId = FaultId(u32::MAX - (1 << 16) - 1);
const STICK: FaultId = FaultId(u32::MAX - (1 << 16));
const SLOW: u32 = u32::MAX - (1 << 16) + 1;
const FAILING: u32 = SLOW - (1 << 17);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    pub profile: Profile,
    pub sticking: Option<Sticking>,
    pub slow: Vec<Slow>,
    /// Ports through which every read fails, although everything else works. Counted from 0, in the order of the portals.
    pub failing_reads: Vec<u16>,
    pub access_changes: AccessChanges,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            sticking: None,
            slow: Vec::new(),
            failing_reads: Vec::new(),
            access_changes: AccessChanges::Implicit,
        }
    }
}

/// A port through which every command that reads or changes blocks takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// Counted from 0, in the order of the portals.
    pub port: u16,
    pub by: Duration,
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

impl Slow {
    /// Aborting such a command still means that it is never executed.
    pub(super) fn set_up(self, array: &mut Array) {
        let scope = Scope { port: Some(PortId(self.port + 1)), class: Class::Medium, ..Scope::default() };
        let effect = Effect::Hold { place: Place::Queue, until: Until::After(self.by.into()) };
        let fault = Fault { scope, when: When::ALWAYS, effect };
        array.handle(Instant::START, Event::SetFault(FaultId(SLOW + u32::from(self.port)), fault));
    }
}

impl Behaviour {
    pub(super) fn set_up_ports(&self, array: &mut Array) {
        for slow in &self.slow {
            slow.set_up(array);
        }
        for port in &self.failing_reads {
            let scope = Scope { port: Some(PortId(port + 1)), class: Class::Read, ..Scope::default() };
            let sense = Sense::new(SenseKey::HardwareError, INTERNAL_TARGET_FAILURE);
            let effect = Effect::Reply(Reply::check_condition(SenseData::fixed(&sense)));
            let fault = Fault { scope, when: When::ALWAYS, effect };
            array.handle(Instant::START, Event::SetFault(FaultId(FAILING + u32::from(*port)), fault));
        }
    }

    /// The first port that is spoken of and is not there, of so many.
    pub(super) fn unknown_port(&self, ports: usize) -> Option<u16> {
        let slow = self.slow.iter().map(|slow| slow.port);
        slow.chain(self.failing_reads.iter().copied()).find(|port| usize::from(*port) >= ports)
    }
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

#[cfg(test)]
mod tests {
    use array::{Action, UnitOptions};
    use block::Buffer;
    use scsi::cdb::{Form, MediumAccess};
    use scsi::{Blocks, TaskAttribute};

    use super::*;

    const BY: Duration = Duration::from_millis(5);

    /// Two ports, of which the second one is slow, and a nexus at each.
    fn array() -> Array {
        let mut array = Array::new(array::Options {
            controllers: 1,
            units: vec![UnitOptions::memory(0, 1 << 20)],
            nexus_attention: None,
            ..array::Options::default()
        });
        Slow { port: 1, by: BY }.set_up(&mut array);
        for port in 1..=2 {
            let nexus = NexusId(port.into());
            let event = Event::NexusOpened { nexus, port: PortId(port), initiator: String::from("host") };
            array.handle(Instant::START, event);
        }
        array
    }

    fn send(array: &mut Array, nexus: u32, cdb: &Cdb, expected: u32) {
        let command = Event::Command {
            nexus: NexusId(nexus),
            tag: 1,
            lun: Lun::from(0),
            cdb: cdb.emit(),
            attribute: TaskAttribute::Simple,
            data: Buffer::empty(),
            expected,
        };
        array.handle(Instant::START, command);
    }

    fn answered(array: &mut Array) -> Option<u32> {
        match array.poll_action()? {
            Action::Reply { nexus, .. } => Some(nexus.0),
            _ => None,
        }
    }

    #[test]
    fn a_slow_port_delays_blocks_and_nothing_else() {
        let mut array = array();
        let read = Cdb::Read(MediumAccess::new(Form::Sixteen, Lba(0), Blocks(1)));
        send(&mut array, 2, &read, 512);
        send(&mut array, 1, &read, 512);
        assert_eq!(answered(&mut array), Some(1), "the other port is as fast as ever");
        assert_eq!(answered(&mut array), None);
        assert_eq!(array.poll_timeout(), Some(Instant::START + BY.into()));
        array.handle(Instant::START + BY.into(), Event::Timeout);
        assert_eq!(answered(&mut array), Some(2));
        send(&mut array, 2, &Cdb::Inquiry { page: None, allocation_length: 36 }, 36);
        assert_eq!(answered(&mut array), Some(2));
    }
}
