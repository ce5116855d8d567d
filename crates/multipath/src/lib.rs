//! One disk out of many paths: which path a request takes, what happens when there is none, and when the whole
//! thing goes away. Generic over the request `R`, which moves in and out and is never looked at. Knows no SCSI, no
//! bytes, no clock.
//!
//! A [`Head`] stands for one logical unit and owns the table of its paths. It is driven with three verbs:
//! [`Head::handle`], [`Head::poll_action`] (drain it after each `handle`) and [`Head::poll_timeout`]. A
//! [`Registry`] keeps the heads: one for each identity.
//!
//! There is no global state. One disk can be served by several heads, one per thread, if its path events are
//! given to each.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod event;
mod explain;
mod gather;
mod gauge;
mod head;
mod kind;
mod options;
mod pace;
mod parking;
mod paths;
mod policy;
mod registry;
mod removal;
mod status;
#[cfg(test)]
mod tests;
mod ticket;
mod watch;

pub use event::{Action, Change, Event, Misuse};
pub use explain::{Explained, Why};
pub use head::Head;
pub use kind::{Class, Kind, Mark};
pub use options::{
    BACK_OFF_FAILURES, BACK_OFF_FIRST, BACK_OFF_LONGEST, BackOff, HEDGE_PERCENT, Hedging, NoPath, Options,
    PARKED_MAX, PAUSE_MAX, PROBATION, RETRIES_MAX, SlowPaths, Trial,
};
pub use pace::{Lag, Pace, is_behind};
pub use paths::{PATHS_MAX, Tried};
pub use policy::{Distances, LOCAL_DISTANCE, NODES_MAX, Policy, REMOTE_DISTANCE, UnknownPolicy};
pub use registry::{Entry, HEADS_MAX, HeadIndex, Registry, RegistryFull};
pub use status::{Counters, Health, PathStatus, Status};
pub use ticket::{Outcome, Ticket, Verdict};

use core::fmt;

/// Names a path for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u32);

/// A NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u16);

/// How well a usable path reaches the logical unit; what ALUA calls active/optimized and active/non-optimized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    Optimized,
    NonOptimized,
}

/// What a path is good for now. Whoever knows (transport, ALUA) says so in [`Event::PathChanged`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathState {
    /// Requests may be sent on it.
    Usable(Access),
    /// Not now, but it may come back by itself: requests park for it without a time limit. Whoever reports this
    /// bounds it by reporting `Down` in the end.
    Waiting,
    /// Present, and nothing says that it will come back: the no-path policy decides.
    Down,
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.0)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
        })
    }
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable(access) => access.fmt(f),
            Self::Waiting => f.pad("waiting"),
            Self::Down => f.pad("down"),
        }
    }
}
