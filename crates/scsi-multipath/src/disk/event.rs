//! What a disk is told and what it answers.

use alloc::boxed::Box;
use alloc::sync::Arc;

use block::{Completion, Geometry, Request};
use clock::Duration;
use multipath::{Hedging, NoPath, Node, PathId, Policy, SlowPaths};
use scsi::{CommandId, Ending, Reply};

use super::access::{AccessAnswer, AccessCause};
use crate::{Command, Contradiction, Failure, GroupAccess, Report, Unit};

/// What happened.
#[expect(clippy::large_enum_variant, reason = "a command moves by value everywhere")]
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
        target: TargetId,
        unit: Box<Unit>,
        /// What an operator has said of it before.
        hold: Option<Hold>,
    },
    /// An operator takes a path out, or gives it back: then it shows its identity before it is used.
    Hold {
        path: PathId,
        hold: Option<Hold>,
    },
    /// Find out by reading a block whether a path works. Answered by [`Action::Checked`].
    Check {
        path: PathId,
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
    /// What [`Action::WantAccess`] wanted: a question about the port groups of this target, now. Answered by one
    /// [`Action::AccessAnswered`], in its time.
    MayAskAccess {
        target: TargetId,
    },
    /// It is the disk's turn to do what [`Action::WantActivation`] wanted. Answered by one
    /// [`Action::ActivationEnded`], in its time.
    MayActivate {
        target: TargetId,
    },
    /// Another logical unit of the target, whose groups stood as the disk's do, was told this. What the disk was told
    /// or refused itself counts more.
    AccessAssumed {
        target: TargetId,
        groups: Arc<[GroupAccess]>,
    },
    /// What [`Action::Fence`] asked for is done for this path.
    Fenced {
        path: PathId,
        proof: Proof,
    },
    /// The function that [`Action::Manage`] asked for has ended.
    Managed {
        path: PathId,
        function: Function,
        outcome: Managed,
    },
    /// A reset of the logical unit goes out, whatever it is for; the target cannot know of it yet. Each time that it
    /// is asked for.
    ResetSent,
    /// A reset that was sent was answered, or never will be. Unless it was refused, the commands in flight on every
    /// path may be gone.
    ResetEnded {
        outcome: Managed,
        /// How often it was sent.
        times: usize,
    },
    /// A process before this one may have left writes on the nexus of this path, which is not a path of this disk
    /// and never will be: nothing is written before that is fenced. Give it before the first path is found.
    Inherited {
        path: PathId,
        target: TargetId,
    },
    /// An operator says that nothing is left of the writes that open fences are about.
    Waive,
    /// Something on the path's nexus may have changed what is behind its logical unit number: nothing is sent on
    /// the path before its identity was read again.
    Doubt {
        path: PathId,
    },
    /// Somebody else on the path's nexus had this reply from its logical unit. What it says besides of the unit, a
    /// unit attention above all, is not said again (SPC, unit attention condition).
    Overheard {
        path: PathId,
        reply: Reply,
    },
    /// The transport of a path, which was silent, has answered a ping: see [`multipath::Event::Pinged`].
    Pinged {
        path: PathId,
        took: Duration,
        peers: Option<Duration>,
    },
    SetPolicy(Policy),
    SetSlowPaths(SlowPaths),
    SetHedging(Hedging),
    SetNoPath(NoPath),
    SetDelayedRemoval(Duration),
    /// Take no more requests, finish and flush what there is, then say [`Action::Gone`].
    Shutdown,
    /// The time that [`crate::Disk::poll_timeout`] named has come.
    Timeout,
}

/// Which SCSI target device a path leads to; equal for paths to the same one (in iSCSI: the same target name). What
/// one target device says of its tasks says nothing about the tasks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

/// A task management function (SAM) for one logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Ends our own commands on this nexus.
    AbortTaskSet,
    /// Ends all commands of the logical unit, whoever sent them.
    LogicalUnitReset,
}

/// How a task management function ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// The target says that it is done; commands that it ended have come back.
    Complete,
    /// The target does not do it.
    Refused,
    /// Nobody knows: the nexus was lost, or the function could not be sent.
    Lost,
}

/// Why an operator keeps a path out. It holds whatever becomes of the path, until the operator takes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Failed,
    /// What is in flight may end.
    Drained,
}

/// What a driver did to fence a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The nexus was reinstated by a login that began at the security stage and was never given up, and the logical
    /// unit was reset on the new session.
    Reinstated,
    /// The same, but an earlier login of this fence died before it was answered. Told apart because a target is
    /// thinkable that lets the next login in while commands of the old session still run, and a reset that passes
    /// them by. No target that was tried does that; LIO, which was suspected, does not.
    ReinstatedAgain,
}

/// What the driver must do.
#[derive(Debug)]
pub enum Action {
    /// Send it on `path`, and give it back with [`Event::Ended`] whatever happens.
    Start {
        path: PathId,
        command: Command,
    },
    /// Prove that nothing that was sent on `path` can take effect any more: end its session if that still stands,
    /// reinstate the nexus (RFC 7143, 6.3.5), reset the logical unit on the new session, see that the identity
    /// there is this disk's; then say [`Event::Fenced`]. Goes on until that, or until [`Action::Unfence`].
    /// The id of the path stays in use as long.
    Fence {
        path: PathId,
    },
    /// The fence of this path is over without a proof.
    Unfence {
        path: PathId,
    },
    /// Send a task management function for the logical unit on `path`, and say [`Event::Managed`] whatever happens.
    Manage {
        path: PathId,
        function: Function,
    },
    /// The disk wants to ask for the access states of a target: say [`Event::MayAskAccess`], now or later, and
    /// meanwhile [`Event::AccessAssumed`] if something is known. `path` is where the news came from. May be said
    /// again, for a more pressing cause.
    WantAccess {
        target: TargetId,
        path: PathId,
        cause: AccessCause,
        /// No path is usable: requests wait for the answer.
        is_urgent: bool,
    },
    /// What came of a question that [`Event::MayAskAccess`] allowed.
    AccessAnswered {
        target: TargetId,
        answer: AccessAnswer,
    },
    /// The disk wants to ask a group of this target to become active/optimized (SET TARGET PORT GROUPS): say
    /// [`Event::MayActivate`] when no other one does. Only with [`crate::Alua::Explicit`].
    WantActivation {
        target: TargetId,
    },
    /// It was done, failed, or is not wanted any more.
    ActivationEnded {
        target: TargetId,
    },
    /// Give back what was started on `path` and is not on its way yet, as [`Ending::Withdrawn`]: the path is closed until
    /// it is known what is behind it.
    Withdraw {
        path: PathId,
    },
    /// The answer of this command is not needed any more, or overdue: let the target abort it (ABORT TASK), and give it
    /// back as ever. Nothing if it has come back meanwhile.
    Abort {
        path: PathId,
        command: CommandId,
    },
    Finish(Request, Completion),
    /// What exports have to know; when first known and on every change.
    Geometry(Geometry),
    /// A block was read on this path, or could not be: with why.
    Checked {
        path: PathId,
        outcome: Result<(), Failure>,
    },
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
