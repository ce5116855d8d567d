//! What a host is told and what it answers.

use std::fmt;
use std::net::SocketAddr;

use block::{Completion, Geometry, Request};
use iscsi::chap::Challenge;
use multipath::{PathId, Policy};
use scsi::{CdbBytes, CommandId, Ending};
use scsi_multipath::{Proof, Report};

use crate::config::ChapConfig;
use crate::state::State;
use crate::verbs::{Outcome, Ticket, Verb};

/// Names a nexus: its place in the order of their making. Never another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusIndex(pub u32);

/// Names a disk, until [`Action::Gone`]; then it may soon be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskIndex(pub u32);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Make the first connections.
    Start,
    /// The connection that [`Action::Connect`] asked for stands.
    Connected {
        nexus: NexusIndex,
        /// For mutual CHAP: unpredictable, and new for each connection.
        challenge: Option<Challenge>,
    },
    /// The connection that [`Action::Connect`] asked for cannot be made.
    ConnectFailed { nexus: NexusIndex, why: String },
    /// The peer has closed the connection, or it failed. What was received before was given to the session.
    Closed { nexus: NexusIndex, loss: Loss, why: String },
    /// The session of this nexus was told something: bytes were received.
    Touched { nexus: NexusIndex },
    /// What [`Action::Flush`] asked for is done, as far as the connection takes bytes now.
    Flushed { nexus: NexusIndex },
    /// An export wants something done.
    Block { disk: DiskIndex, request: Request },
    /// CHAP credentials for the logins from now on.
    Credentials(Option<ChapConfig>),
    /// Sets the iopolicy of every disk.
    SetPolicy(Policy),
    /// An operator wants something; answered by exactly one [`Action::Answer`].
    Verb { ticket: Ticket, verb: Verb },
    /// An operator says that nothing is left of what open fences are about, of one disk or of all.
    Waive { disk: Option<DiskIndex> },
    /// What the last [`Action::Persist`] gave is stored.
    Persisted,
    /// It could not be stored yet; the driver goes on to try.
    NotPersisted,
    /// Let the disks flush and go, then log out, then say [`Action::Ended`].
    Shutdown,
    /// The time that [`crate::Host::poll_timeout`] named has come.
    Timeout,
}

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Somebody ended it: the peer lives, or has come back.
    Broken,
    /// Nothing came any more: the way to that portal may be dark.
    Silent,
}

/// What the driver must do.
#[derive(Debug)]
pub enum Action {
    /// Open a TCP connection; there is none of this nexus.
    Connect {
        nexus: NexusIndex,
        address: SocketAddr,
    },
    /// Give up the connection of this nexus, whether it stands or is being made.
    Disconnect {
        nexus: NexusIndex,
        how: Parting,
    },
    /// Send what the session has, then say [`Event::Flushed`]. Not at once: when all else is done, so that each
    /// connection is flushed once.
    Flush {
        nexus: NexusIndex,
    },
    Complete(Request, Completion),
    /// A disk can be used.
    Ready {
        disk: DiskIndex,
        geometry: Geometry,
    },
    /// What exports have to know of a disk has changed.
    Resized {
        disk: DiskIndex,
        geometry: Geometry,
    },
    /// Whoever knew the disk by its index must not use that any more.
    Gone {
        disk: DiskIndex,
    },
    Notice(Notice),
    /// A target does not take our CHAP credentials, or cannot show its own: if there are newer ones, they are wanted
    /// ([`Event::Credentials`]).
    CredentialsRefused,
    /// What became of a verb.
    Answer {
        ticket: Ticket,
        outcome: Outcome,
    },
    /// Store this in the place of what is stored, so that it outlives this process, then say [`Event::Persisted`].
    /// There is no other one until then.
    Persist(State),
    /// Only after [`crate::Host::set_trace`].
    Trace(Trace),
    /// Comes once, last; in order, or with sessions that were not logged out.
    Ended {
        clean: bool,
    },
}

/// How a connection is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Bytes that have not left never do (linger 0).
    Reset,
    /// The session is logged out.
    Orderly,
}

/// One thing that happened, as one line for people. Whose fault and what to do stand in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub severity: Severity,
    pub kind: NoticeKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// What a program may want to act on, apart from the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeKind {
    /// A disk can be used; its identity.
    DiskReady(String),
    /// A path can be used.
    PathUp,
    /// A path was lost.
    PathLost,
    /// A path was found and cannot be used.
    PathFailed,
    /// A portal, target or login failed.
    PortalFailed,
    Other,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a checker wants to see of what goes on inside.
#[derive(Debug)]
pub enum Trace {
    /// A command of a disk went to the session of its path.
    Started {
        path: PathId,
        id: CommandId,
        cdb: CdbBytes,
    },
    /// It came back.
    Ended {
        path: PathId,
        id: CommandId,
        cdb: CdbBytes,
        ending: Ending,
    },
    Report {
        disk: DiskIndex,
        report: Report,
    },
    /// A disk has said what it had to say; nothing else has happened since.
    Settled {
        disk: DiskIndex,
    },
    /// The survey of a nexus is over, and it carries commands.
    Up {
        nexus: NexusIndex,
    },
    /// A nexus that was connected is not any more.
    Lost {
        nexus: NexusIndex,
        was_up: bool,
    },
    /// A disk was told that nothing that was sent on a path can take effect any more.
    Fenced {
        path: PathId,
        proof: Proof,
    },
}
