//! The target's half of a session, for the embedded array: one connection, error recovery level 0.
//!
//! [`Session`] speaks iSCSI and nothing else: it gathers a command's Data-Out into one buffer, hands the command
//! to the driver, and sends the reply's buffer as Data-In. It neither looks into CDBs nor keeps a task set.
//! [`Sessions`] is the one table that all sessions of a process share, in the driver's hands.
//!
//! Memory goes round: Data-Out is gathered in a buffer of the session's pool, which comes back with
//! [`Event::Reply`]; Data-In is sent from the device server's buffer, which it gets back with
//! [`Session::reclaim`]. In a steady state nobody allocates.
//!
//! What an initiator may rely on to be safe: the answers to a task management function, to a logout and to a login
//! that reinstates a session are sent only after the device server has let go of the commands concerned.

mod command;
mod data;
mod link;
mod login;
mod portals;
mod reply;
mod session;
mod sessions;
mod task_management;
mod tasks;
mod text;

use std::sync::Arc;

use block::Buffer;
use clock::Duration;
use scsi::{CdbBytes, Lun, Reply, TaskAttribute};

pub use self::portals::{Chap, Portal, Portals, Target};
pub use self::session::Session;
pub use self::sessions::{Admission, SESSIONS_MAX, SessionKey, Sessions};
use crate::chap::Challenge;
use crate::negotiation::Offers;
use crate::pdu::{Isid, LoginStatus, Opcode};
use crate::stream::FrameError;

/// How many commands an initiator may have outstanding: MaxCmdSN runs this far ahead. Linux sends 128 per session
/// by default, and an array port that takes fewer would be the bottleneck of every benchmark.
pub const QUEUE_DEPTH: usize = 128;
/// Immediate commands ignore the window (RFC 7143, 4.2.2.1), so they have a bound of their own.
pub const IMMEDIATE_COMMANDS_MAX: usize = 8;
/// Task management functions that wait for the device server at a time: a fence may ask for one a logical unit.
pub const TASK_MANAGEMENT_MAX: usize = 64;
/// The longest Data-Out of one command, in bytes. A longer one is refused before any data is taken.
pub const DATA_OUT_MAX: u32 = 16 << 20;
/// Data-Out that a session may hold, in bytes. From half of it on the command window stays shut; a command
/// that does not fit is answered with TASK SET FULL.
pub const SESSION_DATA_OUT_MAX: usize = 64 << 20;
/// Free buffers that a session keeps for its next commands, in bytes.
pub const POOL_MAX: usize = 8 << 20;

/// R2Ts of one command at a time. More than a few gain nothing: the next one is sent as soon as one is filled.
pub const OUTSTANDING_R2T_MAX: u16 = 8;

/// What a target session is told when it begins.
#[derive(Clone, Debug)]
pub struct Options {
    pub portals: Arc<Portals>,
    /// The portal group of the portal that the connection came in through.
    pub portal_group: u16,
    /// Randomness is an argument. Never to be used for two sessions (RFC 7143, 9.2.1).
    pub challenge: Challenge,
    /// What the target wants where the initiator leaves a choice. Of the R2Ts per command at most
    /// [`OUTSTANDING_R2T_MAX`] are used.
    pub offers: Offers,
    /// From the connection to the full feature phase.
    pub login_timeout: Duration,
    pub keepalive: Option<Keepalive>,
}

/// When to ask a silent initiator whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub interval: Duration,
    /// How long the answer may take before the connection counts as dead.
    pub timeout: Duration,
}

impl Options {
    /// The usual values, for a connection that came in through a portal of `portal_group`.
    #[must_use]
    pub fn new(portals: Arc<Portals>, portal_group: u16, challenge: Challenge) -> Self {
        Self {
            portals,
            portal_group,
            challenge,
            offers: Offers { max_burst_length: 1 << 20, max_outstanding_r2t: 4, ..Offers::default() },
            login_timeout: Duration::from_secs(15),
            keepalive: None,
        }
    }
}

/// Names a command between the session and the device server. Never used twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandTag(pub u64);

/// Names a task management function between the session and the device server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskManagementTag(pub u64);

/// A command with all its Data-Out.
#[derive(Debug)]
pub struct Command {
    pub tag: CommandTag,
    pub lun: Lun,
    pub cdb: CdbBytes,
    pub attribute: TaskAttribute,
    pub direction: Direction,
    /// The expected data transfer length, in bytes. For a read it is the initiator's word alone: the device
    /// server must not allocate by it.
    pub expected_length: u32,
    /// For [`Direction::ToDevice`] exactly `expected_length` bytes, else empty.
    pub data: Buffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    None,
    /// Data-In.
    FromDevice,
    /// Data-Out.
    ToDevice,
}

/// The task management functions that concern a device server (RFC 7143, 11.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskManagement {
    AbortTask,
    AbortTaskSet,
    ClearAca,
    ClearTaskSet,
    LogicalUnitReset,
    TargetWarmReset,
    TargetColdReset,
}

/// How a task management function ended (RFC 7143, 11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskManagementResponse {
    Complete,
    TaskDoesNotExist,
    LunDoesNotExist,
    NotSupported,
    Rejected,
}

#[derive(Debug)]
pub enum Event {
    /// So many bytes came into the slices of [`Session::receive_into`].
    Received(usize),
    /// So many bytes of [`Session::transmit`] were taken.
    Sent(usize),
    /// The initiator closed the connection, or the socket failed.
    Closed,
    /// The answer to [`Action::Admit`]: the old session, if there was one, is gone with all its commands.
    Admitted {
        tsih: u16,
    },
    Refused(LoginStatus),
    /// The device server's answer to a command. `data` is Data-In; for a write it is the command's buffer coming
    /// back for reuse, or an empty one. An unknown tag is a command that was aborted meanwhile: no harm.
    Reply {
        tag: CommandTag,
        reply: Reply,
        data: Buffer,
    },
    /// The device server ended a command without an answer, because another nexus cleared it.
    Aborted {
        tag: CommandTag,
    },
    TaskManagementDone {
        tag: TaskManagementTag,
        response: TaskManagementResponse,
    },
    /// The target has something to tell the initiator (RFC 7143, 11.9).
    Notify(Notification),
    Timeout,
}

/// Asynchronous messages (RFC 7143, 11.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Please log out within so many seconds.
    LogoutRequest { seconds: u16 },
    /// This connection is dropped once the message is sent. Times in seconds.
    DropConnection { time_to_wait: u16, time_to_retain: u16 },
    /// All connections of the session are dropped once the message is sent. Times in seconds.
    DropAll { time_to_wait: u16, time_to_retain: u16 },
}

#[derive(Debug)]
pub enum Action {
    /// A login is about to succeed. The driver asks [`Sessions::admit`] and answers with [`Event::Admitted`] or
    /// [`Event::Refused`].
    Admit {
        key: SessionKey,
        tsih: u16,
    },
    LoggedIn(Admitted),
    Command(Command),
    TaskManagement {
        tag: TaskManagementTag,
        function: TaskManagement,
        lun: Lun,
        /// The command to be aborted, for [`TaskManagement::AbortTask`].
        referenced: Option<CommandTag>,
    },
    /// The initiator logged out, and its answer is sent; [`Action::Disconnect`] follows.
    LoggedOut,
    /// The session is over: close the connection. Commands without a reply stay the device server's to end;
    /// what it answers is of no interest any more.
    Disconnect(Disconnect),
}

/// Who logged in to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub tsih: u16,
    pub initiator_name: String,
    pub isid: Isid,
    /// None for a discovery session.
    pub target_name: Option<String>,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    #[error("the initiator logged out")]
    LoggedOut,
    #[error("the initiator closed the connection")]
    Closed,
    #[error("the login was refused: {0:?}")]
    LoginRefused(LoginStatus),
    #[error("no login within the time allowed")]
    LoginTimeout,
    #[error("the initiator did not answer a NOP-In in time")]
    Silent,
    #[error("the target dropped the connection")]
    Dropped,
    #[error("not iSCSI: the first bytes are {first:02x?}")]
    NotIscsi { first: [u8; 8] },
    #[error("the initiator broke the protocol: {0}")]
    Misbehaved(#[from] Misbehaved),
}

/// What an initiator did that error recovery level 0 cannot mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaved {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a PDU {0:?} that does not belong to the login phase")]
    NotLogin(Opcode),
    #[error("a login request that does not continue the one before it")]
    LoginOutOfOrder,
    #[error("CmdSN {got:#x} while {expected:#x} can no longer come on this connection")]
    CommandSequenceGap { expected: u32, got: u32 },
    #[error("nothing was taken from the stream for {0:?}")]
    ReadsNothing(Duration),
}

#[cfg(test)]
mod tests;
