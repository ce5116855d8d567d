//! What is worth a line in the log.

use alloc::string::String;
use core::fmt;

use clock::Duration;
use multipath::{Change, PathId, PathState};
use scsi::{AdditionalSense, SenseKey};

use crate::{Contradiction, Failure, FollowUp, Name, Proof};

/// Something happened that somebody may want to know of. Prints as one line without the name of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    PathJoined {
        path: PathId,
        state: PathState,
    },
    PathRefused {
        path: PathId,
        reason: Contradiction,
    },
    PathState {
        path: PathId,
        from: PathState,
        to: PathState,
        reason: Reason,
    },
    PathRemoved {
        path: PathId,
    },
    /// A path that had joined shows something else now: nothing is sent on it any more.
    PathQuarantined {
        path: PathId,
        reason: Contradiction,
    },
    /// Something that a device says by the way: a unit attention, a recovered or deferred error.
    Attention {
        path: PathId,
        said: Option<(SenseKey, AdditionalSense)>,
        follow_up: FollowUp,
    },
    /// Its standard INQUIRY data changed.
    Redefined {
        path: PathId,
        from: String,
        to: String,
    },
    /// The size of the disk in bytes changed.
    Resized {
        from: u64,
        to: u64,
    },
    /// The device lost its cache while it held acknowledged writes: the next flush fails.
    CacheLost {
        path: PathId,
    },
    /// The logical units or portals behind this path changed: worth another survey.
    Rediscover {
        path: PathId,
    },
    /// The device refused a command that it need not know; it is not used any more.
    FeatureMissing {
        feature: Feature,
    },
    /// A request failed, for a reason that lies with the logical unit or all its paths.
    RequestFailed {
        failure: Failure,
    },
    /// What the head says: back-off, no path left, removal.
    Head(Change),
    /// Writes of unknown fate were left on this path: whatever overlaps them waits.
    FenceOpened {
        path: PathId,
    },
    /// Nothing is left of them.
    FenceProved {
        path: PathId,
        proof: Proof,
        after: Duration,
    },
    /// What overlaps them goes on without a proof.
    FenceWaived {
        path: PathId,
        by: Waiver,
        after: Duration,
    },
    /// The path's port group was told to become active/optimized, and the device has taken it.
    GroupActivated {
        path: PathId,
        group: u16,
    },
    /// The same, and it has not.
    GroupNotActivated {
        path: PathId,
        group: u16,
        failure: Failure,
        attempts_left: u32,
    },
    /// Two names of one logical unit would have been one disk if only the names were compared.
    WeakName {
        name: Name,
    },
}

/// Why the state of a path changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its target port group says so.
    Access,
    /// The same, as another logical unit of the target was told.
    Assumed,
    /// It has to show its identity again before it is used.
    Verifying,
    /// It showed its identity.
    Verified,
    /// It did not answer as it should.
    Doubtful,
    /// It waited too long for an answer.
    TimedOut,
    /// The transport failed.
    Lost,
    /// The logical unit is not there.
    Gone,
    /// It shows another logical unit.
    Quarantined,
    /// An operator has failed it.
    FailedByOperator,
    /// An operator has drained it.
    Drained,
}

/// On whose word a fence ended without a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiver {
    /// The time of [`crate::FencePolicy::Bounded`] is over.
    Timer,
    Operator,
}

/// A command, or a part of one, that a device need not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    Unmap,
    WriteSame,
    WriteSameUnmap,
    SynchronizeCache16,
    SynchronizeCache,
    ForceUnitAccess,
    ReadWrite16,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathJoined { path, state } => write!(f, "path {path} joined, {state}"),
            Self::PathRefused { path, reason } => write!(f, "path {path} refused: {reason}"),
            Self::PathState { path, from, to, reason } => write!(f, "path {path} {from} -> {to}: {reason}"),
            Self::PathRemoved { path } => write!(f, "path {path} removed"),
            Self::PathQuarantined { path, reason } => write!(f, "path {path} quarantined: {reason}"),
            Self::Attention { path, said: Some((key, code)), follow_up } => {
                write!(f, "path {path} says {key:?} {code}: {follow_up}")
            }
            Self::Attention { path, said: None, follow_up } => {
                write!(f, "path {path} answers oddly: {follow_up}")
            }
            Self::Redefined { path, from, to } => write!(f, "path {path} is defined anew: {from} -> {to}"),
            Self::Resized { from, to } => write!(f, "size {from} -> {to} bytes"),
            Self::CacheLost { path } => {
                write!(f, "path {path} says that the write cache was lost; the next flush fails")
            }
            Self::Rediscover { path } => write!(f, "path {path} says that its logical units changed"),
            Self::FeatureMissing { feature } => write!(f, "the device refuses {feature}; not used again"),
            Self::RequestFailed { failure } => write!(f, "a request failed: {failure}"),
            Self::Head(change) => change.fmt(f),
            Self::FenceOpened { path } => {
                write!(f, "path {path} left writes of unknown fate: a fence is open, overlapping writes wait")
            }
            Self::FenceProved { path, proof, after } => {
                write!(f, "fence of path {path} proved after {after:?}: {proof}")
            }
            Self::FenceWaived { path, by, after } => {
                write!(f, "fence of path {path} waived by {by} after {after:?}")
            }
            Self::GroupActivated { path, group } => {
                write!(f, "port group {group} of path {path} was told to become optimized")
            }
            Self::GroupNotActivated { path, group, failure, attempts_left } => write!(
                f,
                "port group {group} of path {path} does not become optimized: {failure}; {attempts_left} more \
                 attempts"
            ),
            Self::WeakName { name } => {
                write!(f, "{name} is a weak name: nothing but the vendor's habit makes it unique")
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Access => "access state of its port group",
            Self::Assumed => "access state of its port group, assumed from another logical unit",
            Self::Verifying => "identity to be verified",
            Self::Verified => "identity verified",
            Self::Doubtful => "doubtful answers",
            Self::TimedOut => "no answer in time",
            Self::Lost => "transport failed",
            Self::Gone => "logical unit not there",
            Self::Quarantined => "another logical unit",
            Self::FailedByOperator => "failed by operator",
            Self::Drained => "drained by operator",
        })
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reinstated => "session reinstated, logical unit reset",
            Self::ReinstatedAgain => "session reinstated after a login without an answer, logical unit reset",
        })
    }
}

impl fmt::Display for Waiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timer => "the timer",
            Self::Operator => "the operator",
        })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmap => "UNMAP",
            Self::WriteSame => "WRITE SAME(16)",
            Self::WriteSameUnmap => "WRITE SAME(16) with UNMAP",
            Self::SynchronizeCache16 => "SYNCHRONIZE CACHE(16)",
            Self::SynchronizeCache => "SYNCHRONIZE CACHE",
            Self::ForceUnitAccess => "FUA",
            Self::ReadWrite16 => "READ(16) and WRITE(16)",
        })
    }
}
