//! The kinds of events, each with the code that programs know it by and the values that it came from.

use std::fmt;

use block::{Access, Geometry, WriteCache};
use clock::Duration;
use multipath::{Change, Lag, PathState};
use scsi_multipath::{Contradiction, Reason, Report};

use crate::event::Loss;
use crate::failover::FailoverReport;

/// What happened. Closed: whoever adds a kind gives it a code, and a row in SPECIFICATION.md.
#[derive(Clone, Debug)]
pub enum What {
    /// A disk says so; nothing that another kind here stands for.
    Disk(Report),
    DiskReady {
        /// Bytes.
        size: u64,
    },
    /// What exports have to know of it.
    DiskChanged {
        from: Geometry,
        to: Geometry,
    },
    DiskRemoved,
    /// A logical unit was found and is none of our disks.
    DiskNotServed,
    PathJoined,
    PathRefused(Contradiction),
    /// Its disk has a path and is to have one only.
    PathUnused,
    SessionUp {
        /// Logins of this nexus so far.
        logins: u64,
    },
    /// A session that carried paths ended.
    SessionLost(Cause),
    /// A connection could not be made or a login failed.
    SessionFailed(Cause),
    NotLoggedOut(Cause),
    /// What a target says unasked (RFC 7143, 11.9.1).
    TargetSays {
        event: &'static str,
    },
    Discovered {
        targets: usize,
        portals: usize,
    },
    NothingDiscovered,
    /// A portal that is named to us cannot be used.
    PortalRefused,
    UnitRejected,
    NoUnits,
    /// The driver says so: of exports, of the state folder, of its own life.
    Program,
    /// Which they are is told nowhere.
    CredentialsChanged,
    /// An operator has changed a setting.
    Set {
        code: &'static str,
        from: String,
        to: String,
    },
    /// An operator did something to a path; this is the code.
    Operator(&'static str),
    Drained {
        after: Duration,
    },
    Rescan {
        sessions: usize,
        portals: usize,
    },
    Failover(Box<FailoverReport>),
}

/// By what it was noticed that a session is over, or cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody closed or reset the connection.
    ConnectionLost,
    /// TCP repeated itself for as long as it was told to.
    TcpTimeout,
    ConnectFailed,
    ConnectTimeout,
    NopTimeout,
    /// A command had no answer in time, and its ABORT TASK neither.
    CommandTimeout,
    /// Another request of ours had no answer in time.
    NoAnswer,
    LoginFailed,
    LoginTimeout,
    /// The target does not take our CHAP credentials, or cannot show its own.
    Authentication,
    TargetMoved,
    /// The target asked for a logout, or said that it drops the connection.
    TargetAsked,
    /// It was ended to fence what is in flight on it.
    Fencing,
    /// What came cannot be understood, or is forbidden.
    Protocol,
    /// The logical units behind it cannot be found out.
    Survey,
    /// The program ends.
    Ending,
}

/// A value that an event came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Text(String),
    Number(u64),
}

/// Every code that [`What::code`] gives; their meanings stand in SPECIFICATION.md.
pub const CODES: &[&str] = &[
    "disk-ready",
    "disk-resized",
    "disk-changed",
    "disk-redefined",
    "disk-ending",
    "disk-removed",
    "disk-not-served",
    "path-joined",
    "path-refused",
    "path-unused",
    "path-usable",
    "path-waiting",
    "path-down",
    "path-removed",
    "path-quarantined",
    "path-backed-off",
    "path-trial",
    "path-restored",
    "path-slow",
    "path-steady",
    "path-alone",
    "path-event-refused",
    "unit-attention",
    "units-changed",
    "cache-lost",
    "feature-missing",
    "request-failed",
    "weak-name",
    "group-activated",
    "group-not-activated",
    "no-path",
    "path-available",
    "removal-armed",
    "removal-cancelled",
    "fence-opened",
    "fence-proved",
    "fence-waived",
    "session-up",
    "session-lost",
    "session-failed",
    "session-not-logged-out",
    "target-says",
    "portal-asked",
    "portal-has-no-target",
    "portal-refused",
    "unit-rejected",
    "no-units",
    "program",
    "credentials-changed",
    "policy-set",
    "no-path-set",
    "removal-delay-set",
    "operator-failed",
    "operator-drain",
    "operator-reinstated",
    "drain-refused",
    "drain-unfinished",
    "drained",
    "rescan",
    "failover",
];

impl What {
    /// Stable over versions.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Disk(report) => code_of_report(report),
            Self::DiskReady { .. } => "disk-ready",
            Self::DiskChanged { .. } => "disk-changed",
            Self::DiskRemoved => "disk-removed",
            Self::DiskNotServed => "disk-not-served",
            Self::PathJoined => "path-joined",
            Self::PathRefused(_) => "path-refused",
            Self::PathUnused => "path-unused",
            Self::SessionUp { .. } => "session-up",
            Self::SessionLost(_) => "session-lost",
            Self::SessionFailed(_) => "session-failed",
            Self::NotLoggedOut(_) => "session-not-logged-out",
            Self::TargetSays { .. } => "target-says",
            Self::Discovered { .. } => "portal-asked",
            Self::NothingDiscovered => "portal-has-no-target",
            Self::PortalRefused => "portal-refused",
            Self::UnitRejected => "unit-rejected",
            Self::NoUnits => "no-units",
            Self::Program => "program",
            Self::CredentialsChanged => "credentials-changed",
            Self::Set { code, .. } | Self::Operator(code) => code,
            Self::Drained { .. } => "drained",
            Self::Rescan { .. } => "rescan",
            Self::Failover(_) => "failover",
        }
    }

    /// What it came from, by names that are stable as well.
    #[must_use]
    pub fn inputs(&self) -> Vec<(&'static str, Input)> {
        match self {
            Self::Disk(report) => inputs_of_report(report),
            Self::DiskReady { size } => vec![("size", Input::Number(*size))],
            Self::DiskChanged { from, to } => inputs_of_geometry(from, to),
            Self::PathRefused(reason) => vec![("contradiction", text(reason))],
            Self::SessionUp { logins } => vec![("logins", Input::Number(*logins))],
            Self::SessionLost(cause) | Self::SessionFailed(cause) | Self::NotLoggedOut(cause) => {
                vec![("cause", word(cause.code()))]
            }
            Self::TargetSays { event } => vec![("event", word(event))],
            Self::Discovered { targets, portals } => {
                vec![("targets", count(*targets)), ("portals", count(*portals))]
            }
            Self::Set { from, to, .. } => vec![("from", word(from)), ("to", word(to)), by_operator()],
            Self::Operator(_) => vec![by_operator()],
            Self::Drained { after } => vec![("after-ms", millis(*after)), by_operator()],
            Self::Rescan { sessions, portals } => {
                vec![("sessions", count(*sessions)), ("portals", count(*portals)), by_operator()]
            }
            Self::Failover(report) => inputs_of_failover(report),
            Self::DiskRemoved
            | Self::DiskNotServed
            | Self::PathJoined
            | Self::PathUnused
            | Self::NothingDiscovered
            | Self::PortalRefused
            | Self::UnitRejected
            | Self::CredentialsChanged
            | Self::Program
            | Self::NoUnits => Vec::new(),
        }
    }
}

impl Cause {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection-lost",
            Self::TcpTimeout => "tcp-timeout",
            Self::ConnectFailed => "connect-failed",
            Self::ConnectTimeout => "connect-timeout",
            Self::NopTimeout => "nop-timeout",
            Self::CommandTimeout => "command-timeout",
            Self::NoAnswer => "no-answer",
            Self::LoginFailed => "login-failed",
            Self::LoginTimeout => "login-timeout",
            Self::Authentication => "authentication",
            Self::TargetMoved => "target-moved",
            Self::TargetAsked => "target-asked",
            Self::Fencing => "fencing",
            Self::Protocol => "protocol",
            Self::Survey => "survey",
            Self::Ending => "ending",
        }
    }

    /// There was no session yet.
    pub(crate) const fn is_of_a_login(self) -> bool {
        matches!(
            self,
            Self::ConnectFailed
                | Self::ConnectTimeout
                | Self::LoginFailed
                | Self::LoginTimeout
                | Self::Authentication
                | Self::TargetMoved
        )
    }

    /// Whether the way there may be dark.
    pub(crate) const fn loss(self) -> Loss {
        match self {
            Self::TcpTimeout | Self::NopTimeout | Self::LoginTimeout => Loss::Silent,
            _ => Loss::Broken,
        }
    }

    /// Of a connection that the driver lost.
    pub(crate) const fn of(loss: Loss) -> Self {
        match loss {
            Loss::Broken => Self::ConnectionLost,
            Loss::Silent => Self::TcpTimeout,
        }
    }
}

const fn code_of_report(report: &Report) -> &'static str {
    match report {
        Report::PathJoined { .. } => "path-joined",
        Report::PathRefused { .. } => "path-refused",
        Report::PathState { to: PathState::Usable(_), .. } => "path-usable",
        Report::PathState { to: PathState::Waiting, .. } => "path-waiting",
        Report::PathState { to: PathState::Down, .. } => "path-down",
        Report::PathRemoved { .. } => "path-removed",
        Report::PathQuarantined { .. } => "path-quarantined",
        Report::Attention { .. } => "unit-attention",
        Report::Resized { .. } => "disk-resized",
        Report::Redefined { .. } => "disk-redefined",
        Report::CacheLost { .. } => "cache-lost",
        Report::Rediscover { .. } => "units-changed",
        Report::FeatureMissing { .. } => "feature-missing",
        Report::RequestFailed { .. } => "request-failed",
        Report::Head(change) => code_of_change(change),
        Report::FenceOpened { .. } => "fence-opened",
        Report::FenceProved { .. } => "fence-proved",
        Report::FenceWaived { .. } => "fence-waived",
        Report::WeakName { .. } => "weak-name",
        Report::GroupActivated { .. } => "group-activated",
        Report::GroupNotActivated { .. } => "group-not-activated",
    }
}

const fn code_of_change(change: &Change) -> &'static str {
    match change {
        Change::PathAdded { .. } => "path-joined",
        Change::Path { to: PathState::Usable(_), .. } => "path-usable",
        Change::Path { to: PathState::Waiting, .. } => "path-waiting",
        Change::Path { to: PathState::Down, .. } => "path-down",
        Change::PathRemoved { .. } => "path-removed",
        Change::BackedOff { .. } => "path-backed-off",
        Change::TrialDue { .. } => "path-trial",
        Change::Restored { .. } => "path-restored",
        Change::Slow { .. } => "path-slow",
        Change::Steady { .. } => "path-steady",
        Change::Alone { .. } => "path-alone",
        Change::NoPath => "no-path",
        Change::PathAvailable => "path-available",
        Change::RemovalArmed { .. } => "removal-armed",
        Change::RemovalCancelled => "removal-cancelled",
        Change::Ending => "disk-ending",
        Change::Refused { .. } => "path-event-refused",
    }
}

/// Why a path is in its state, for programs.
#[must_use]
pub const fn cause_of_path(reason: Reason) -> &'static str {
    match reason {
        Reason::Access => "access-state",
        Reason::Assumed => "access-state-assumed",
        Reason::Verifying => "identity-pending",
        Reason::Verified => "identity-verified",
        Reason::Doubtful => "doubtful-answers",
        Reason::TimedOut => "no-answer-in-time",
        Reason::Lost => "transport-failed",
        Reason::Gone => "unit-not-there",
        Reason::Quarantined => "another-unit",
        Reason::FailedByOperator => "operator-failed",
        Reason::Drained => "operator-drained",
    }
}

fn inputs_of_report(report: &Report) -> Vec<(&'static str, Input)> {
    match report {
        Report::PathJoined { state, .. } => vec![("state", text(state))],
        Report::PathRefused { reason, .. } | Report::PathQuarantined { reason, .. } => {
            vec![("contradiction", text(reason))]
        }
        Report::PathState { from, to, reason, .. } => {
            vec![("from", text(from)), ("to", text(to)), ("cause", word(cause_of_path(*reason)))]
        }
        Report::Attention { said, follow_up, .. } => {
            let sense = said.map(|(key, code)| {
                [
                    ("sense-key", Input::Number(u8::from(key).into())),
                    ("asc", Input::Number(code.asc.into())),
                    ("ascq", Input::Number(code.ascq.into())),
                ]
            });
            let mut inputs: Vec<_> = sense.into_iter().flatten().collect();
            inputs.push(("follow-up", text(follow_up)));
            inputs
        }
        Report::Redefined { from, to, .. } => vec![("from", word(from)), ("to", word(to))],
        Report::Resized { from, to } => vec![("from", Input::Number(*from)), ("to", Input::Number(*to))],
        Report::FeatureMissing { feature } => vec![("feature", text(feature))],
        Report::RequestFailed { failure } => vec![("failure", text(failure))],
        Report::Head(change) => inputs_of_change(change),
        Report::FenceProved { proof, after, .. } => {
            vec![("proof", text(proof)), ("after-ms", millis(*after))]
        }
        Report::FenceWaived { by, after, .. } => vec![("by", text(by)), ("after-ms", millis(*after))],
        Report::WeakName { name } => vec![("name", text(name))],
        Report::GroupActivated { group, .. } => vec![("group", Input::Number((*group).into()))],
        Report::GroupNotActivated { group, failure, .. } => {
            vec![("group", Input::Number((*group).into())), ("failure", text(failure))]
        }
        Report::PathRemoved { .. }
        | Report::CacheLost { .. }
        | Report::Rediscover { .. }
        | Report::FenceOpened { .. } => Vec::new(),
    }
}

fn inputs_of_change(change: &Change) -> Vec<(&'static str, Input)> {
    match change {
        Change::PathAdded { state, .. } => vec![("state", text(state))],
        Change::Path { from, to, .. } => vec![("from", text(from)), ("to", text(to))],
        Change::BackedOff { failures, .. } => vec![("failures", Input::Number((*failures).into()))],
        Change::Slow { why, took, peers, .. } => {
            let why = match why {
                Lag::Late => "late",
                Lag::Stalled => "stalled",
            };
            vec![("why", word(why)), ("took-ms", millis(*took)), ("peers-ms", millis(*peers))]
        }
        Change::Alone { took, .. } => vec![("took-ms", millis(*took))],
        Change::Refused { misuse, .. } => vec![("misuse", text(misuse))],
        _ => Vec::new(),
    }
}

/// Times in microseconds: a good failover takes less than one millisecond.
fn inputs_of_failover(report: &FailoverReport) -> Vec<(&'static str, Input)> {
    let micros = |time: Duration| Input::Number(time.as_micros());
    let mut inputs = vec![
        ("cause", word(report.by.code())),
        ("touched", count(report.touched)),
        ("resent", count(report.resent)),
        ("failed", count(report.failed)),
        ("unfinished", count(report.unfinished)),
        ("longest-wait-us", micros(report.longest_wait)),
    ];
    inputs.extend(report.first_resent.map(|after| ("first-resent-us", micros(after))));
    inputs.extend(report.first_completion.map(|after| ("first-completion-us", micros(after))));
    inputs.push(("fence", word(report.fence.code())));
    inputs.extend(report.fence.after().map(|after| ("fence-us", micros(after))));
    inputs
}

/// Only what differs.
fn inputs_of_geometry(from: &Geometry, to: &Geometry) -> Vec<(&'static str, Input)> {
    let access = |geometry: &Geometry| match geometry.access {
        Access::ReadWrite => "read-write",
        Access::ReadOnly => "read-only",
    };
    let cache = |geometry: &Geometry| match geometry.write_cache {
        WriteCache::Through => "write-through",
        WriteCache::Back => "write-back",
    };
    let mut inputs = Vec::new();
    if from.size != to.size {
        inputs.push(("size", Input::Number(to.size)));
    }
    if from.access != to.access {
        inputs.push(("access", word(access(to))));
    }
    if from.write_cache != to.write_cache {
        inputs.push(("write-cache", word(cache(to))));
    }
    if from.transfer_max != to.transfer_max {
        inputs.push(("transfer-max", Input::Number(to.transfer_max.into())));
    }
    if from.rotation != to.rotation {
        inputs.push(("rotation", text(&to.rotation)));
    }
    inputs
}

fn text(value: &impl ToString) -> Input {
    Input::Text(value.to_string())
}

fn word(value: &str) -> Input {
    Input::Text(value.to_owned())
}

fn by_operator() -> (&'static str, Input) {
    ("by", word("operator"))
}

fn millis(time: Duration) -> Input {
    Input::Number(time.as_millis())
}

fn count(value: usize) -> Input {
    Input::Number(value as u64)
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}
