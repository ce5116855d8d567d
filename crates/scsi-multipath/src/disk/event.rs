//! What a disk is told and what it answers.

use alloc::boxed::Box;

use block::{Completion, Geometry, Request};
use clock::Duration;
use multipath::{NoPath, Node, PathId, Policy};
use scsi::Ending;

use crate::{AccessState, Command, Contradiction, Report, Unit};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// An export wants something done; issued on a NUMA node.
    Block(Request, Node),
    /// A command of this disk came back. Also from a path that was lost or removed meanwhile.
    Ended(Command, Ending),
    /// A survey found this logical unit on a path. Answered by exactly one [`Action::Joined`] or
    /// [`Action::Refused`]. A path that was refused is not the disk's: its id may be forgotten.
    PathFound {
        path: PathId,
        node: Option<Node>,
        unit: Box<Unit>,
    },
    /// The transport of a path failed; nothing more is sent on it. Give this before the endings of what was in
    /// flight on it: then their requests take another path at once.
    PathLost {
        path: PathId,
    },
    /// A path is gone for good. What is in flight on it still comes back by `Ended`.
    PathRemoved {
        path: PathId,
    },
    /// Somebody else knows the asymmetric access state of a path.
    Access {
        path: PathId,
        state: AccessState,
    },
    SetPolicy(Policy),
    SetNoPath(NoPath),
    SetDelayedRemoval(Duration),
    /// Take no more requests, finish and flush what there is, then say [`Action::Gone`].
    Shutdown,
    /// The time that [`crate::Disk::poll_timeout`] named has come.
    Timeout,
}

/// What the driver must do.
#[derive(Debug)]
pub enum Action {
    /// Send it on `path`, and give it back with [`Event::Ended`] whatever happens.
    Start {
        path: PathId,
        command: Command,
    },
    Finish(Request, Completion),
    /// What exports have to know; when first known and on every change.
    Geometry(Geometry),
    Joined {
        path: PathId,
    },
    Refused {
        path: PathId,
        reason: Contradiction,
    },
    /// Worth one log line.
    Report(Report),
    /// Comes once, last: nothing is in flight. The disk may be dropped and its identity used again.
    Gone,
}
