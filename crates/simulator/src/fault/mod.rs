//! What goes wrong. The numbers are those of the fault model that the project tests by; from 63 on stands what it does not
//! have: answers to a change of access states, and what operators say.

mod counters;
mod rules;

use std::fmt;

use array::{FaultId, GroupId, PortId};
use clock::Duration;

use crate::random::Random;

pub use counters::FaultCounters;
pub(crate) use rules::Victim;

/// How a fault bears on what an initiator can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Danger {
    /// No command takes effect after its initiator gave its nexus up.
    Timely,
    /// Commands may; a fence is for that.
    Late,
    /// No initiator can do anything about it: only to see that the checkers see.
    Untold,
}

/// What a fault is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// One or more ports of the array, or what goes through them.
    Ports,
    /// A logical unit, through whatever port.
    Unit,
    /// Whatever is between the product and its blocks, or the host that it runs on.
    Everything,
    /// A client, and nobody else; or nobody, as far as the product keeps what it promises.
    Nobody,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $danger:ident, $reach:ident;)*) => {
        /// A kind of fault. Some have a number of the fault model in common: they are its variants.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number in the fault model.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* }
            }

            #[must_use]
            pub const fn danger(self) -> Danger {
                match self { $(Self::$name => Danger::$danger,)* }
            }

            pub(crate) const fn reach(self) -> Reach {
                match self { $(Self::$name => Reach::$reach,)* }
            }
        }
    };
}

kinds! {
    /// Both ends are reset after some bytes, in the middle of a PDU.
    Reset = 1, Timely, Ports;
    /// One end is told that the stream is over.
    Finish = 2, Timely, Ports;
    /// Nothing comes through in one direction.
    HoleOneWay = 3, Timely, Ports;
    /// Nothing comes through at all.
    Hole = 4, Timely, Ports;
    /// Nothing comes through; later everything does, whoever still waits for it.
    HoleDelivered = 5, Late, Ports;
    /// Everything takes much longer.
    DelaySpike = 6, Timely, Ports;
    /// The initiator is told that its connection is lost, and the target is not: what was sent arrives later.
    OldConnectionLives = 7, Late, Ports;
    /// A port carries a few kilobytes a second.
    BandwidthCollapse = 8, Timely, Ports;
    /// All ports of a controller are cut off, the others are not.
    PartitionOfController = 9, Timely, Ports;
    /// The session answers, the device server does not.
    CommandsHeld = 10, Timely, Ports;
    /// One bit is damaged on the wire; digests are on.
    BitFlip = 11, Timely, Ports;
    /// A PDU of the target with a wrong number, an unknown task, or an impossible length.
    PduMalformed = 12, Timely, Ports;
    /// Data-In that is shorter than the command asked for, under GOOD status.
    PduTruncated = 12, Timely, Everything;
    /// The target takes no more commands.
    WindowClosed = 13, Timely, Ports;
    R2tLost = 14, Timely, Ports;
    R2tTwice = 14, Timely, Ports;
    /// Connections are accepted, logins are not answered.
    LoginHangs = 15, Timely, Ports;
    LoginRejected = 16, Timely, Ports;
    /// Logins are sent to another portal.
    LoginRedirected = 16, Timely, Ports;
    /// The target says that it drops the connection, or wants a logout.
    AsyncDrop = 17, Timely, Ports;
    /// Writes are stuck in the back end, and are executed in the end.
    StuckWrite = 19, Late, Everything;
    /// Writes are stuck in the back end, and only a part of each is executed in the end.
    TornWrite = 20, Late, Everything;
    StatusLostAfter = 21, Timely, Everything;
    StatusLostBefore = 22, Timely, Everything;
    /// The connection of a login breaks before the answer is out.
    LoginSevered = 24, Late, Ports;
    /// A second session of the same name is let in beside the first.
    DuplicateIsid = 25, Untold, Ports;
    /// LOGICAL UNIT RESET is answered before it is done.
    ResetLies = 26, Untold, Everything;
    /// LOGICAL UNIT RESET is answered long after it is done.
    ResetSlow = 26, Timely, Everything;
    ResetRejected = 26, Timely, Everything;
    /// ABORT TASK of an unknown task is answered as complete.
    AbortClaimed = 27, Timely, Ports;
    FunctionUnanswered = 28, Timely, Ports;
    Busy = 29, Timely, Everything;
    AccessTransition = 30, Timely, Unit;
    /// The access state changes back and forth.
    AccessFlaps = 30, Timely, Unit;
    AccessLost = 31, Timely, Unit;
    /// Access states change, and REPORT TARGET PORT GROUPS tells the old ones.
    StaleReport = 32, Timely, Unit;
    UnitAttention = 33, Timely, Unit;
    AttentionsStacked = 33, Timely, Unit;
    /// Another host resets the logical unit.
    ForeignReset = 34, Timely, Everything;
    /// Another host clears the task set, with TAS 0 or 1.
    ForeignClear = 34, Timely, Everything;
    /// Another host holds a reservation.
    Reserved = 35, Timely, Unit;
    ControllerCrash = 36, Timely, Ports;
    /// A controller crashes, and with it what its cache held.
    ControllerCrashCacheLost = 36, Timely, Everything;
    /// A logical unit loses power, and with it some of what its cache held.
    PowerCycle = 37, Timely, Unit;
    /// Some of what the cache held cannot be written, which a later command is told.
    DeferredError = 38, Timely, Unit;
    MediumError = 39, Timely, Unit;
    CapacityGrows = 41, Timely, Unit;
    CapacityShrinks = 41, Timely, Unit;
    /// A LUN stands for another unit, and everybody is told.
    LunRemapped = 42, Timely, Everything;
    LunRemappedSilently = 42, Untold, Everything;
    IdentityChanges = 43, Timely, Everything;
    IdentityEmpty = 43, Timely, Everything;
    /// Another unit shows the same name.
    IdentityTwice = 43, Timely, Unit;
    WriteProtected = 45, Timely, Unit;
    SlowPort = 48, Timely, Everything;
    /// The way to a port takes ten or a hundred times as long.
    SlowWay = 48, Timely, Ports;
    /// One bit of a payload is damaged on the wire, and there are no digests.
    SilentFlip = 49, Timely, Ports;
    MisdirectedWrite = 50, Untold, Unit;
    DroppedWrite = 50, Untold, Unit;
    /// The process is killed, and starts again with what it had stored.
    ProcessKilled = 51, Late, Everything;
    /// Timers of the host fire late.
    TimersLate = 54, Timely, Everything;
    /// The host stands still for a while.
    HostPaused = 54, Timely, Everything;
    ClientReconnects = 58, Timely, Nobody;
    /// SET TARGET PORT GROUPS is refused.
    ChangeRefused = 63, Timely, Nobody;
    /// It is answered late, or only after the initiator has given it up.
    ChangeLate = 63, Timely, Nobody;
    /// It is answered as done, and nothing is.
    ChangeLies = 63, Timely, Nobody;
    /// An operator fails a path, or all of a portal, and reinstates it in the end.
    OperatorFails = 64, Timely, Nobody;
    /// An operator drains a path, or all of a portal, and reinstates it in the end.
    OperatorDrains = 64, Timely, Nobody;
    OperatorRescans = 64, Timely, Nobody;
    OperatorSetsPolicy = 64, Timely, Nobody;
    OperatorSetsNoPath = 64, Timely, Nobody;
    OperatorSetsRemoval = 64, Timely, Nobody;
    /// An operator sees that nothing is left of old writes, and says so while a fence is open.
    OperatorWaives = 64, Timely, Nobody;
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
    /// Whether it happens only with digests, or only without.
    pub(crate) const fn digests(self) -> Option<bool> {
        match self {
            Self::BitFlip => Some(true),
            Self::PduMalformed
            | Self::PduTruncated
            | Self::WindowClosed
            | Self::R2tLost
            | Self::R2tTwice
            | Self::SilentFlip => Some(false),
            _ => None,
        }
    }
}

impl Kind {
    /// Whether it is no part of the swarm, but has its place in runs of its own.
    pub(crate) const fn is_drawn_apart(self) -> bool {
        self.number() >= 63
    }

    /// Whether it is what an operator says.
    pub(crate) const fn is_said(self) -> bool {
        self.number() == 64
    }

    /// Whether a unit cannot be seen under its name meanwhile.
    pub(crate) const fn hides_identity(self) -> bool {
        matches!(
            self,
            Self::IdentityChanges | Self::IdentityEmpty | Self::LunRemapped | Self::LunRemappedSilently
        )
    }

    /// What waits for its occasion has to wait for some time to meet one.
    pub(crate) const fn shortest_millis(self) -> u64 {
        match self {
            Self::PduMalformed
            | Self::PduTruncated
            | Self::WindowClosed
            | Self::R2tLost
            | Self::R2tTwice
            | Self::SilentFlip
            | Self::ResetSlow
            | Self::ResetRejected
            | Self::ResetLies
            | Self::AbortClaimed
            | Self::FunctionUnanswered
            | Self::LoginSevered
            | Self::LoginRedirected
            | Self::DuplicateIsid => 1_500,
            _ => 5,
        }
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
