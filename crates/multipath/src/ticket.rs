//! What travels with a request that is in flight, and what is said about it when it comes back.

use clock::{Duration, Instant};
use core::fmt;

use crate::{Kind, Node, PathId};

/// Proof that a head started a request. Moves out with [`crate::Action::Start`] and back with
/// [`crate::Event::Ended`], exactly once: it can be neither copied nor made by anybody else.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone, Hash))]
#[must_use = "a request in flight must come back to its head"]
pub struct Ticket {
    pub(crate) path: PathId,
    /// Where the path stood in the table when the request was started; it may have moved since.
    pub(crate) slot: usize,
    pub(crate) node: Node,
    /// Starts so far, this one included.
    pub(crate) attempts: u32,
    /// Place in the order of submission.
    pub(crate) sequence: u64,
    pub(crate) errand: Errand,
    pub(crate) kind: Kind,
    /// When it was started, if times are taken.
    pub(crate) started: Instant,
    /// Requests that were on the path then.
    pub(crate) depth: u32,
}

/// Why a request was started on its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Errand {
    Regular,
    /// The one request that finds out whether a path works again after its back-off.
    Trial,
    /// A second copy of a read: it is not sent again.
    Hedge,
}

impl Ticket {
    /// The path that the request was started on.
    #[must_use]
    pub const fn path(&self) -> PathId {
        self.path
    }

    /// The NUMA node that the request was submitted on.
    #[must_use]
    pub const fn node(&self) -> Node {
        self.node
    }

    /// Starts so far, this one included; at least 1.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Place in the order of submission to this head; never reused.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// What is to become of a request that came back from its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Finish it; the issuer knows what the reply says. The path did its work.
    Done,
    /// The path is fine; send again after a pause ([`crate::PAUSE_MAX`] at most; zero: at once), on any path.
    Again { after: Duration },
    /// The path failed this request: send it on another path if there is one. Counts as a failure of the path.
    Failover,
    /// Finish it: nobody waits for it, and how it ended says nothing of the path.
    Moot,
}

/// How a request ended, as far as multipath is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A path carried it to its end: see the reply.
    Done,
    /// There was no path and the no-path policy, or the limit on parked requests, did not let it wait (longer).
    NoPath,
    /// It was sent once and re-sent as often as allowed.
    RetriesExhausted,
    /// The head is being removed.
    Removed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Done => "done",
            Self::NoPath => "no path",
            Self::RetriesExhausted => "retries exhausted",
            Self::Removed => "removed",
        })
    }
}
