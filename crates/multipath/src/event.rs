//! What a head is told and what it answers.

use clock::{Duration, Instant};
use core::fmt;

use crate::{
    Hedging, Kind, Lag, Mark, NoPath, Node, Outcome, PathId, PathState, Policy, SlowPaths, Ticket, Tried,
    Verdict,
};

/// What happened.
#[derive(Debug)]
pub enum Event<R> {
    /// A new request, issued on a NUMA node.
    Submit {
        node: Node,
        kind: Kind,
        request: R,
    },
    /// A second copy of a read that [`Action::Late`] told of. It is started on another path than `avoid` at once, or
    /// finished with [`Outcome::NoPath`]; it is never sent again.
    Hedge {
        node: Node,
        kind: Kind,
        avoid: PathId,
        request: R,
    },
    /// A started request came back. Also from a path that was removed meanwhile.
    Ended {
        ticket: Ticket,
        request: R,
        verdict: Verdict,
    },
    /// A path joins. Refused with a [`Misuse`] if its id is known, the table is full or the head is ending.
    PathAdded {
        path: PathId,
        node: Option<Node>,
        state: PathState,
    },
    PathChanged {
        path: PathId,
        state: PathState,
    },
    /// A path leaves for good. What is in flight on it still comes back by `Ended`; then its id is forgotten.
    PathRemoved {
        path: PathId,
    },
    /// What [`Action::Try`] asked for has come back.
    Tried {
        path: PathId,
        tried: Tried,
    },
    /// The transport of a path, which was silent, has answered a ping after so long; that of another path, the fastest of
    /// those that are known, took as long as `peers`.
    Pinged {
        path: PathId,
        took: Duration,
        peers: Option<Duration>,
    },
    SetPolicy(Policy),
    SetSlowPaths(SlowPaths),
    SetHedging(Hedging),
    SetNoPath(NoPath),
    /// Takes effect at once, also while the time runs: it counts from the loss of the last path. Zero fires.
    SetDelayedRemoval(Duration),
    /// Teardown: all that is parked ends with [`Outcome::Removed`], then what is in flight is awaited.
    Remove,
    /// The time that [`crate::Head::poll_timeout`] named has come.
    Timeout,
}

/// What the driver must do.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub enum Action<R> {
    /// Send it on `path`, and give it back with [`Event::Ended`] whatever happens.
    Start {
        path: PathId,
        ticket: Ticket,
        request: R,
    },
    Finish {
        request: R,
        outcome: Outcome,
    },
    /// Send a small read of the driver's own on `path`, and say [`Event::Tried`] whatever happens, unless the path was
    /// removed meanwhile. There is one at a time on each path.
    Try {
        path: PathId,
    },
    /// The request with this mark has been in flight on `path` for longer than most, or than the path's peers explain. A
    /// read may be sent a second time ([`Event::Hedge`]). Comes once for each start of a request.
    Late {
        path: PathId,
        mark: Mark,
        why: Lag,
    },
    /// Comes once, last: no path is left and the delayed removal is over, or the head was told to go; nothing
    /// is in flight or parked. It may be dropped and its identity used again.
    Gone,
    /// Worth one log line.
    Changed(Change),
}

/// A change of state that somebody may want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    PathAdded {
        path: PathId,
        state: PathState,
    },
    Path {
        path: PathId,
        from: PathState,
        to: PathState,
    },
    PathRemoved {
        path: PathId,
    },
    /// The path failed so many requests in a row that it is left alone until `until`.
    BackedOff {
        path: PathId,
        failures: u32,
        until: Instant,
    },
    /// The back-off is over: the next request tries the path.
    TrialDue {
        path: PathId,
    },
    /// A request succeeded on a path that was out or on trial.
    Restored {
        path: PathId,
    },
    /// The path is far slower than its peers: it is used only if there is no other.
    Slow {
        path: PathId,
        why: Lag,
        /// What its requests took, or have been taking.
        took: Duration,
        /// What those of a peer took.
        peers: Duration,
    },
    /// The path is as fast as its peers again.
    Steady {
        path: PathId,
    },
    /// The path seems to stall, and no other is usable that it could be compared with or that could take its place: it
    /// is time to bring one back.
    Alone {
        path: PathId,
        /// How long its oldest request has been out, or what its requests took.
        took: Duration,
    },
    /// No path is usable and none may become so by itself: the no-path policy applies from now on.
    NoPath,
    /// The opposite of `NoPath`.
    PathAvailable,
    /// The last path is gone; the head goes at `at` unless one returns.
    RemovalArmed {
        at: Instant,
    },
    RemovalCancelled,
    /// The head takes no more requests or paths and ends when nothing is in flight.
    Ending,
    /// An event that did not fit; it had no effect.
    Refused {
        path: PathId,
        misuse: Misuse,
    },
}

/// What was wrong with an event. Races between driver and transports can cause each, so none is a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misuse {
    /// The id belongs to a path of this head, or to a removed one with requests in flight.
    DuplicatePath,
    UnknownPath,
    /// [`crate::PATHS_MAX`] paths are there already.
    TooManyPaths,
    /// The head is going away and cannot be brought back: wait for [`Action::Gone`] and make a new one.
    Ending,
    /// The ticket names a path with nothing in flight. The request is treated as its verdict says.
    ForeignTicket,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathAdded { path, state } => write!(f, "path {path} added, {state}"),
            Self::Path { path, from, to } => write!(f, "path {path} {from} -> {to}"),
            Self::PathRemoved { path } => write!(f, "path {path} removed"),
            Self::BackedOff { path, failures, .. } => {
                write!(f, "path {path} backs off after {failures} failures")
            }
            Self::TrialDue { path } => write!(f, "path {path} is due for a trial"),
            Self::Restored { path } => write!(f, "path {path} works again"),
            Self::Slow { path, why: Lag::Late, took, peers } => {
                write!(f, "path {path} is slow: {took:?}, others {peers:?}; it is the last resort now")
            }
            Self::Slow { path, why: Lag::Stalled, took, peers } => {
                write!(
                    f,
                    "path {path} stalls: nothing for {took:?}, others take {peers:?}; it is the last resort now"
                )
            }
            Self::Steady { path } => write!(f, "path {path} is as fast as the others again"),
            Self::Alone { path, took } => {
                write!(f, "path {path} seems to stall (a request took {took:?}), and no other is usable")
            }
            Self::NoPath => f.write_str("no path is available"),
            Self::PathAvailable => f.write_str("a path is available"),
            Self::RemovalArmed { .. } => f.write_str("last path gone, removal armed"),
            Self::RemovalCancelled => f.write_str("removal cancelled"),
            Self::Ending => f.write_str("ending"),
            Self::Refused { path, misuse } => write!(f, "event for path {path} refused: {misuse}"),
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DuplicatePath => "the path is there already",
            Self::UnknownPath => "there is no such path",
            Self::TooManyPaths => "too many paths",
            Self::Ending => "the head is going away",
            Self::ForeignTicket => "nothing is in flight on the path",
        })
    }
}
