//! How targets behave when an initiator comes back while commands of its old session still run, as known targets do.

use std::fmt;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetProfile {
    /// Login and LOGICAL UNIT RESET are answered when nothing older can take effect any more (FreeBSD CTL).
    GatesAndDrains,
    /// A login is answered at once, and what the back end has goes on; LOGICAL UNIT RESET waits for it (tgt, SPDK).
    AnswersAtOnce,
    /// A login is answered at once, but only TEST UNIT READY is executed until the old session is gone (SCST).
    OnlyTurAnswered,
    /// As [`Self::AnswersAtOnce`], and LOGICAL UNIT RESET is answered at once too. Nothing is safe with it.
    LyingReset,
    /// A login waits for the commands of the session that it replaces; no reset does, through whichever session (LIO).
    ResetPassesBy,
    /// A login waits, but if it is given up the next one does not, and no reset waits for what it had waited for. No
    /// target is known to do this; LIO was suspected of it.
    HoleAfterAbandonedLogin,
    /// Each controller is a target of its own name over the same blocks, and knows nothing of the other.
    TwoGateways,
}

impl TargetProfile {
    pub const ALL: &[Self] = &[
        Self::GatesAndDrains,
        Self::AnswersAtOnce,
        Self::OnlyTurAnswered,
        Self::LyingReset,
        Self::ResetPassesBy,
        Self::HoleAfterAbandonedLogin,
        Self::TwoGateways,
    ];

    /// Those that the product claims to be safe with.
    pub(crate) const CLAIMED: &[Self] = &[
        Self::GatesAndDrains,
        Self::AnswersAtOnce,
        Self::OnlyTurAnswered,
        Self::ResetPassesBy,
        Self::TwoGateways,
    ];

    /// Those that execute nothing late without a fault that makes them.
    pub(crate) const TIMELY: &[Self] = &[Self::GatesAndDrains, Self::OnlyTurAnswered, Self::TwoGateways];

    /// Whether commands of a nexus that was lost run on.
    pub(super) const fn keeps_tasks(self) -> bool {
        matches!(self, Self::AnswersAtOnce | Self::LyingReset)
    }

    /// Whether a login is answered while commands of the session that it replaces still run.
    pub(super) const fn admits_at_once(self) -> bool {
        matches!(self, Self::AnswersAtOnce | Self::LyingReset | Self::OnlyTurAnswered)
    }
}

impl fmt::Display for TargetProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GatesAndDrains => "gates and drains",
            Self::AnswersAtOnce => "answers at once",
            Self::OnlyTurAnswered => "only TUR answered",
            Self::LyingReset => "lying reset",
            Self::ResetPassesBy => "reset passes by",
            Self::HoleAfterAbandonedLogin => "hole after abandoned login",
            Self::TwoGateways => "two gateways",
        })
    }
}
