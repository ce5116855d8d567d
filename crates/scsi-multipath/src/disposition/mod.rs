//! What an ending means: one pure function from how a command ended to what happens next.
//!
//! Rows cite SAM (status), SPC (sense keys and additional sense codes) and RFC 7143 (iSCSI endings). "The same
//! path" and "another path" are wishes: the head chooses; a path that must not be chosen is marked by the
//! [`PathEffect`].

mod class;
mod rows;

use core::fmt;

use clock::Duration;

pub use class::CommandClass;
pub use rows::disposition;

/// What follows from an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// What becomes of the command.
    pub fate: Fate,
    /// What becomes of the path that it ended on.
    pub path: PathEffect,
    /// What else has to be done, for the path or for the logical unit.
    pub follow_up: FollowUp,
}

/// What becomes of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It succeeded.
    Complete,
    /// It failed, on every path alike.
    Fail(Failure),
    /// It is sent again, on the same path if that is still the one to choose.
    Retry(Retry),
    /// It is sent on another path; if there is none, this is the failure.
    Failover(Failure),
    /// It may have been executed, or may be executed later. Only for [`CommandClass::Write`]: a read is simply
    /// read again, and what is not repeatable fails with [`Failure::UnknownOutcome`]; its class says what could be
    /// found out after a fence.
    Ambiguous(Failure),
}

/// A bounded number of attempts on a path that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub pause: Duration,
    /// Attempts for this reason before `then` holds.
    pub times: u8,
    pub then: Then,
    pub failure: Failure,
}

/// What follows when retrying did not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The failure is the logical unit's: it goes up.
    Fail,
    /// Another path may do better; this one is not to blame.
    Failover,
    /// Another path may do better; this one is [`PathEffect::Doubtful`].
    Doubt,
}

/// What becomes of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathEffect {
    None,
    /// Not used until a probe has been answered.
    Doubtful,
    /// Down until a probe has been answered or the transport says otherwise.
    Failed,
    /// Its port group changes its access state: not used until the new state is known.
    Transitioning,
    /// Its port group is in standby.
    Standby,
    /// Its port group is unavailable.
    Unavailable,
    /// The logical unit is not there any more on this path.
    Gone,
}

/// A small set of things to do.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FollowUp(u16);

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    NotReady,
    Medium,
    Hardware,
    /// The device server does not know the command or a field of it.
    Unsupported,
    /// The command asks for what cannot be.
    Invalid,
    OutOfRange,
    WriteProtected,
    SpaceExhausted,
    ReservationConflict,
    Protection,
    Miscompare,
    /// The status says that all is well and the byte count does not.
    Residual,
    /// The device server gave it up.
    Aborted,
    /// The logical unit is gone.
    LogicalUnitGone,
    Busy,
    /// A status or sense that says nothing.
    Unintelligible,
    /// The way to the device failed.
    Transport,
    /// It may or may not have been executed, and must not be sent twice.
    UnknownOutcome,
    /// A unit attention that does not end.
    Attention,
}

impl FollowUp {
    pub const NONE: Self = Self(0);
    /// Re-read the target port groups.
    pub const ACCESS: Self = Self(1);
    /// Nothing is sent on this path until its identity was read again and matched.
    pub const IDENTITY: Self = Self(1 << 1);
    /// Re-read capacity.
    pub const CAPACITY: Self = Self(1 << 2);
    /// Re-read the mode pages: write cache, write protection.
    pub const MODES: Self = Self(1 << 3);
    /// Acknowledged writes that were not flushed may be lost.
    pub const CACHE_LOST: Self = Self(1 << 4);
    /// Older commands of this nexus may have been ended without a word.
    pub const SWEEP: Self = Self(1 << 5);
    /// Registrations or reservations may have changed.
    pub const RESERVATIONS: Self = Self(1 << 6);
    /// Look for new or removed logical units or portals.
    pub const DISCOVER: Self = Self(1 << 7);
    /// Send less at a time on this nexus.
    pub const SLOW_DOWN: Self = Self(1 << 8);
    /// Worth a line in the log.
    pub const NOTICE: Self = Self(1 << 9);
    /// The command, or a field of it, is not to be used again.
    pub const FEATURE_MISSING: Self = Self(1 << 10);
    /// See whether the path answers, and has something to tell.
    pub const READY: Self = Self(1 << 11);
    /// Re-read the block limits and the ways to deallocate.
    pub const LIMITS: Self = Self(1 << 12);
    /// Nothing is sent on this path until its standard INQUIRY data was read again: is there a disk, which revision, and
    /// does it report port groups.
    pub const INQUIRY: Self = Self(1 << 13);

    const NAMES: [(Self, &str); 14] = [
        (Self::ACCESS, "access"),
        (Self::IDENTITY, "identity"),
        (Self::INQUIRY, "inquiry"),
        (Self::CAPACITY, "capacity"),
        (Self::MODES, "modes"),
        (Self::LIMITS, "limits"),
        (Self::CACHE_LOST, "cache-lost"),
        (Self::SWEEP, "sweep"),
        (Self::RESERVATIONS, "reservations"),
        (Self::DISCOVER, "discover"),
        (Self::SLOW_DOWN, "slow-down"),
        (Self::NOTICE, "notice"),
        (Self::FEATURE_MISSING, "feature-missing"),
        (Self::READY, "ready"),
    ];

    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for FollowUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FollowUp({self})")
    }
}

impl fmt::Display for FollowUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (flag, name) in Self::NAMES {
            if self.contains(flag) {
                write!(f, "{between}{name}")?;
                between = " ";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready",
            Self::Medium => "medium error",
            Self::Hardware => "hardware error",
            Self::Unsupported => "command not supported",
            Self::Invalid => "invalid request",
            Self::OutOfRange => "beyond the end",
            Self::WriteProtected => "write protected",
            Self::SpaceExhausted => "no space left in the pool",
            Self::ReservationConflict => "reservation conflict",
            Self::Protection => "protection information mismatch",
            Self::Miscompare => "miscompare",
            Self::Residual => "good status with a wrong byte count",
            Self::Aborted => "aborted by the device",
            Self::LogicalUnitGone => "logical unit gone",
            Self::Busy => "busy",
            Self::Unintelligible => "an answer that says nothing",
            Self::Transport => "transport failed",
            Self::UnknownOutcome => "outcome unknown",
            Self::Attention => "unit attentions without end",
        })
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fate {
            Fate::Complete => f.write_str("complete")?,
            Fate::Fail(failure) => write!(f, "fail: {failure}")?,
            Fate::Failover(failure) => write!(f, "other path, else: {failure}")?,
            Fate::Ambiguous(failure) => write!(f, "ambiguous: {failure}")?,
            Fate::Retry(retry) => write!(f, "{retry}")?,
        }
        if self.path != PathEffect::None {
            write!(f, "; path {:?}", self.path)?;
        }
        if !self.follow_up.is_empty() {
            write!(f, "; {}", self.follow_up)?;
        }
        Ok(())
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "again {}x", self.times)?;
        if !self.pause.is_zero() {
            write!(f, " every {:?}", self.pause)?;
        }
        let then = match self.then {
            Then::Fail => "fail",
            Then::Failover => "other path",
            Then::Doubt => "doubt the path, other path",
        };
        write!(f, ", then {then}: {}", self.failure)
    }
}
