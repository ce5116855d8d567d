//! What can be set for a head, with the limits and why they are what they are.

use clock::Duration;

use crate::{Distances, Policy};

/// Requests that may wait in a head. More than all exports of a disk admit at once; at 200 bytes a request 3 MiB.
pub const PARKED_MAX: usize = 16_384;

/// Re-sends of one request. Enough to meet every path of a four-path head four times; then the error is not
/// one that another try would avoid.
pub const RETRIES_MAX: u32 = 16;

/// The longest pause before a re-send, so that every paused request comes to an end.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Failures in a row, with no success between them, that take a path out. One or two can be bad luck.
pub const BACK_OFF_FAILURES: u32 = 3;

/// The first back-off: short, because it delays everything when the path is the only one.
pub const BACK_OFF_FIRST: Duration = Duration::from_millis(100);

/// After a back-off one failure takes the path out again within this time, for twice as long: a path that works now and
/// then does more harm than one that does not.
pub const PROBATION: Duration = Duration::from_secs(10);

/// Hedged reads for each hundred reads, if not said otherwise: what is added to the load of an array that is busy.
pub const HEDGE_PERCENT: u8 = 2;

/// The longest back-off: a repaired path is noticed within this time, a broken one costs one request in it.
pub const BACK_OFF_LONGEST: Duration = Duration::from_secs(30);

/// Settings of a head.
#[derive(Clone, Debug)]
pub struct Options {
    pub policy: Policy,
    pub no_path: NoPath,
    /// How long the head outlives its last path; zero: not at all. While this time runs requests park.
    pub delayed_removal: Duration,
    /// Requests that may wait, parked or pausing. Beyond it the youngest ends with [`crate::Outcome::NoPath`].
    pub parked_max: usize,
    /// Re-sends of one request, beyond the first sending.
    pub retries_max: u32,
    pub back_off: BackOff,
    pub trial: Trial,
    pub slow_paths: SlowPaths,
    pub hedging: Hedging,
    pub distances: Distances,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::Numa,
            no_path: NoPath::Fail,
            delayed_removal: Duration::ZERO,
            parked_max: PARKED_MAX,
            retries_max: RETRIES_MAX,
            back_off: BackOff::default(),
            trial: Trial::default(),
            slow_paths: SlowPaths::default(),
            hedging: Hedging::default(),
            distances: Distances::default(),
        }
    }
}

/// How a path that was backed off is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trial {
    /// By the next request: for drivers that have nothing else to send.
    #[default]
    Request,
    /// By a request of the driver's own ([`crate::Action::Try`]), so that no user waits for what may fail.
    Canary,
}

/// What is done about paths that are far slower than their peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SlowPaths {
    #[default]
    Ignore,
    /// They are used only if there is no other, until canaries ([`crate::Action::Try`]) are fast again.
    Demote,
}

/// Whether reads that take long are sent on another path as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hedging {
    #[default]
    Off,
    /// So many of a hundred reads, [`HEDGE_PERCENT`] by default; those that take longer than all but as many do.
    On { percent: u8 },
}

/// What to do with requests when no path is usable and none may become so by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NoPath {
    /// End them at once.
    #[default]
    Fail,
    /// Park them for so long, counted from when the last available path was lost; then end them, and later ones
    /// at once, until a path is available again.
    QueueFor(Duration),
    /// Park them until a path comes.
    Queue,
}

/// When a path that takes requests and fails them is left alone for a while, and for how long.
///
/// After `failures` in a row the path is out for `first`. Then the next request tries it alone: a success brings
/// the path back, a failure takes it out for twice as long, `longest` at most. A path that is out keeps requests
/// parked, until its back-off has grown to `longest`: then it no longer counts as available and the no-path
/// policy decides, so that a path that fails everything holds nothing for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackOff {
    /// At least 1; zero is taken as 1.
    pub failures: u32,
    pub first: Duration,
    pub longest: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { failures: BACK_OFF_FAILURES, first: BACK_OFF_FIRST, longest: BACK_OFF_LONGEST }
    }
}
