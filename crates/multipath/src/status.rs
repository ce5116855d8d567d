//! Read-only views for status displays.

use clock::{Duration, Instant};
use core::fmt;

use crate::{Node, Pace, PathId, PathState, Policy};

/// How a path has done lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// So many failures since its last success.
    Good { failures: u32 },
    /// Left alone until then.
    BackedOff { until: Instant, length: Duration },
    /// The back-off is over; the next request tries the path.
    TrialDue { length: Duration },
    /// One request is out on the path to try it.
    OnTrial { length: Duration },
}

impl Health {
    pub(crate) const fn back_off_until(self) -> Option<Instant> {
        match self {
            Self::BackedOff { until, .. } => Some(until),
            Self::Good { .. } | Self::TrialDue { .. } | Self::OnTrial { .. } => None,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good { failures: 0 } => "good",
            Self::Good { .. } => "failing",
            Self::BackedOff { .. } => "backed off",
            Self::TrialDue { .. } => "trial due",
            Self::OnTrial { .. } => "on trial",
        })
    }
}

/// One path, as seen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    pub id: PathId,
    pub node: Option<Node>,
    pub state: PathState,
    pub health: Health,
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether it keeps up with its peers.
    pub pace: Pace,
    /// What small reads take on it, on average; none if none was timed.
    pub took: Option<Duration>,
    /// When `state` last changed.
    pub since: Instant,
    /// Requests started, ever.
    pub started: u64,
    /// Requests that the path failed, ever.
    pub failures: u64,
}

impl fmt::Display for PathStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}, {} in flight", self.id, self.state, self.health, self.in_flight)?;
        if let Pace::Slow { .. } = self.pace {
            write!(f, ", slow")?;
        }
        write!(f, ", {} started, {} failed", self.started, self.failures)
    }
}

/// What a head has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    pub submitted: u64,
    pub finished: u64,
    /// Times that a request began to wait, parked or pausing.
    pub parked: u64,
    /// Requests that a path failed.
    pub failed_over: u64,
    /// Re-sends, for whatever reason.
    pub retried: u64,
    /// Requests ended with [`crate::Outcome::NoPath`].
    pub no_path: u64,
    /// Requests ended with [`crate::Outcome::RetriesExhausted`].
    pub retries_exhausted: u64,
    /// Reads that were sent on a second path while the first had them.
    pub hedged: u64,
}

/// One head, as seen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub policy: Policy,
    /// Paths in the table.
    pub paths: usize,
    /// Requests in flight, on removed paths too.
    pub in_flight: u64,
    /// Requests that wait for a path.
    pub parked: usize,
    /// Requests that wait for a pause before their re-send to be over.
    pub pausing: usize,
    /// Since when no path has been available.
    pub no_path_since: Option<Instant>,
    /// When the head goes unless a path returns.
    pub removal_at: Option<Instant>,
    pub counters: Counters,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, paths, in_flight, parked, pausing, .. } = self;
        write!(f, "{policy}, {paths} paths, {in_flight} in flight, {parked} parked, {pausing} pausing")?;
        let Counters { failed_over, retried, no_path, .. } = self.counters;
        write!(f, ", {failed_over} failed over, {retried} retried, {no_path} without path")
    }
}
