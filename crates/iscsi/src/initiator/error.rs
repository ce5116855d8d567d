//! Why a login failed, and why a session ended.

use scsi::CommandId;

use crate::chap::ChapError;
use crate::negotiation::NegotiationError;
use crate::pdu::{
    InitiatorTaskTag, LoginStatus, LogoutResponseCode, Opcode, RejectReason, SerialNumber,
    TaskManagementResponseCode,
};
use crate::stream::FrameError;
use crate::text::TextError;

/// Why a login failed, and whose fault that is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("{}", explain(*.0))]
    Refused(LoginStatus),
    #[error("authentication failed: {0}")]
    Chap(#[from] ChapError),
    #[error("AuthMethod {offered} was offered, and the target answered `{answered}`: {}", advice(answered))]
    AuthMethod { offered: &'static str, answered: String },
    #[error(
        "the target does not negotiate by the rules, or the settings of both sides exclude each other: {0}"
    )]
    Negotiation(#[from] NegotiationError),
    #[error("the target's login text is not legal: {0}")]
    Text(#[from] TextError),
    #[error("the target says that the target has moved, but not to where")]
    MovedToNowhere,
    #[error("the target breaks the rules of the login: {0}")]
    Misbehaved(&'static str),
    #[error("the target rejected a login PDU: {0:?}")]
    Rejected(RejectReason),
    #[error("the login was not over after {rounds} answers of the target")]
    TooManyRounds { rounds: u32 },
    #[error("what answers there is not iSCSI: it began with \"{}\"", .beginning.escape_ascii())]
    NotIscsi { beginning: Vec<u8> },
    #[error("the peer closed the connection during the login")]
    Closed,
    #[error("the login was not over in time")]
    Timeout,
    #[error("the byte stream is damaged: {0}")]
    Frame(#[from] FrameError),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("logged out")]
    LoggedOut,
    #[error("the login failed")]
    LoginFailed,
    #[error("the target has moved")]
    TargetMoved,
    #[error("the connection was lost")]
    Closed,
    #[error("the session had to end while commands were in flight, so it was left and not logged out")]
    NotAtRest,
    #[error("the target was silent for too long")]
    NopTimeout,
    #[error("the target did not answer ABORT TASK for command {} in time", .command.0)]
    AbortTimeout { command: CommandId },
    #[error("the target refused ABORT TASK for command {}: {response:?}", .command.0)]
    AbortRefused { command: CommandId, response: TaskManagementResponseCode },
    #[error("the target did not answer a task management function in time")]
    TaskManagementTimeout,
    #[error("the target did not answer SendTargets in time")]
    DiscoveryTimeout,
    #[error("the target did not answer the logout in time")]
    LogoutTimeout,
    #[error("the target did not do the logout: {0:?}")]
    LogoutRefused(LogoutResponseCode),
    #[error("the target drops the connection (log in again after {time2wait} s)")]
    DroppedByTarget { time2wait: u16 },
    #[error("the target rejected a PDU ({opcode:?}): {reason:?}")]
    Rejected { reason: RejectReason, opcode: Option<Opcode> },
    #[error("the byte stream is damaged: {0}")]
    Frame(#[from] FrameError),
    #[error("the target's text is not legal: {0}")]
    Text(#[from] TextError),
    #[error("the target misbehaved: {0}")]
    Misbehaved(#[from] Misbehaviour),
}

/// What a target did that RFC 7143 forbids and that nobody can go on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    #[error("{0:?} does not belong into a session that is logged in")]
    UnexpectedPdu(Opcode),
    #[error("{opcode:?} for task {:#010x}, which does not exist", .tag.0)]
    UnknownTask { opcode: Opcode, tag: InitiatorTaskTag },
    #[error("{0:?} for a command that has not been sent")]
    AnsweredUnsent(Opcode),
    #[error("StatSN {} where {} was due: a status is lost", .got.0, .expected.0)]
    StatusGap { expected: SerialNumber, got: SerialNumber },
    #[error("DataSN or R2TSN {got} where {expected} was due: a PDU is lost")]
    DataGap { expected: u32, got: u32 },
    #[error("data for bytes {offset} to {offset} + {length} of {expected} expected ones")]
    BeyondExpected { offset: u32, length: u32, expected: u32 },
    #[error("data at offset {got} where offset {expected} was due")]
    OutOfOrder { expected: u32, got: u32 },
    #[error("data for a command that expects none")]
    UnwantedData,
    #[error("an R2T for a command that has no data")]
    UnwantedR2t,
    #[error("an R2T for {length} bytes where at most {max} were agreed on")]
    R2tTooLong { length: u32, max: u32 },
    #[error("an R2T for nothing")]
    EmptyR2t,
    #[error("more than {max} R2Ts at once for one command")]
    TooManyR2t { max: u16 },
    #[error("a text answer that goes on without end")]
    EndlessText,
    #[error("text that was not asked for, or that is marked in an illegal way")]
    UnexpectedText,
}

fn explain(status: LoginStatus) -> String {
    let text = match status {
        LoginStatus::Success => "the target refused the login with the status of success",
        LoginStatus::TargetMovedTemporarily | LoginStatus::TargetMovedPermanently => "the target has moved",
        LoginStatus::InitiatorError => {
            "the target refused the login and says that the fault is ours, not which"
        }
        LoginStatus::AuthenticationFailed => {
            "the target refused the login: it wants authentication, or does not accept this CHAP name and secret"
        }
        LoginStatus::AuthorizationFailed => {
            "the target does not allow this initiator name: its access list has to name it"
        }
        LoginStatus::TargetNotFound => "there is no target of that name at this portal",
        LoginStatus::TargetRemoved => "the target of that name has been removed from this portal",
        LoginStatus::UnsupportedVersion => "the target does not speak the version of iSCSI of RFC 7143",
        LoginStatus::TooManyConnections => "the target has too many connections on this session identifier",
        LoginStatus::MissingParameter => "the target misses a parameter in our login",
        LoginStatus::CannotIncludeInSession => "the target cannot have this connection in that session",
        LoginStatus::SessionTypeNotSupported => {
            "the target does not serve this type of session (discovery or normal)"
        }
        LoginStatus::SessionDoesNotExist => "the target does not know the session of our login",
        LoginStatus::InvalidDuringLogin => "the target says that our PDU is not legal during a login",
        LoginStatus::TargetError => "the target failed: an error of hardware or software on its side",
        LoginStatus::ServiceUnavailable => "the target is not ready to serve; later it may be",
        LoginStatus::OutOfResources => "the target is out of resources, such as sessions",
        LoginStatus::Other { class, detail } => {
            return format!(
                "the target refused the login with the unknown status {class:#04x}/{detail:#04x}"
            );
        }
    };
    text.to_owned()
}

fn advice(answered: &str) -> &'static str {
    if answered.contains("CHAP") {
        "it wants CHAP, so give a CHAP name and secret"
    } else {
        "there is no method that both sides accept"
    }
}
