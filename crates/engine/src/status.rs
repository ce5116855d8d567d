//! What a shard says of itself: snapshots for `list`, `show`, `paths`, and notices for the log.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

pub use host::Severity;
use serde::{Deserialize, Serialize};

/// Everything a shard knows, at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Snapshot {
    /// Seconds since the shard started.
    pub uptime: f64,
    pub disks: Vec<DiskStatus>,
    pub portals: Vec<PortalStatus>,
    /// What operators keep out and nothing leads to now.
    #[serde(default)]
    pub kept_out: Vec<KeptOutStatus>,
    /// NBD clients of all exports together.
    pub clients: usize,
}

/// A part of the event log.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct EventsStatus {
    /// When the log began, in milliseconds since 1970: another one is another process's.
    pub started_ms: u64,
    /// So many of those that were asked for are not kept any more.
    pub missed: u64,
    /// What to ask for next: the events after this one.
    pub next: u64,
    /// The sequence number of the newest event that there is.
    pub newest: u64,
    pub events: Vec<EventStatus>,
}

/// Why a disk, or a path, does what it does.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct ExplainStatus {
    /// The disk's identity.
    pub disk: String,
    pub policy: String,
    /// The path that the next small read takes: none if it would wait or fail.
    pub next: Option<u32>,
    /// All paths of the disk, or those that were asked about.
    pub paths: Vec<PathReason>,
    /// What waits, and why; not if paths were asked about.
    pub waits: Vec<WaitReason>,
    /// What happened lately to the paths that were asked about.
    pub events: Vec<EventStatus>,
}

/// Why a path takes the next small read, or does not.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct PathReason {
    pub path: u32,
    pub portal: String,
    pub lun: String,
    pub state: String,
    pub code: String,
    /// For how long it has been in its state.
    pub since_ms: u64,
    /// What the last ping of its session took, in microseconds.
    #[serde(default)]
    pub nop_us: Option<u64>,
    /// How long that still holds at the most.
    pub for_ms: Option<u64>,
    pub why: String,
    /// What would change it.
    pub remedy: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct WaitReason {
    pub code: String,
    pub count: usize,
    pub since_ms: Option<u64>,
    pub for_ms: Option<u64>,
    pub why: String,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct EventStatus {
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// `info`, `warning`, `error`.
    pub severity: String,
    /// One of those in SPECIFICATION.md.
    pub code: String,
    /// The identity of the disk that it is about.
    pub disk: Option<String>,
    pub path: Option<u32>,
    pub portal: Option<SocketAddr>,
    pub lun: Option<String>,
    /// What it came from.
    pub inputs: BTreeMap<String, InputStatus>,
    /// One line for people.
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum InputStatus {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DiskStatus {
    /// Stable for the disk's life.
    pub number: u32,
    /// As Linux prints it: `naa.…`, `eui.…`, `t10.…` or a name string.
    pub identity: String,
    /// The name of the NBD export.
    pub export: String,
    pub serial: String,
    pub vendor: String,
    pub product: String,
    #[serde(default)]
    pub revision: String,
    /// Bytes.
    pub size: u64,
    pub block_size: u32,
    /// `solid`, `7200 rpm`, or `not reported`.
    #[serde(default)]
    pub medium: String,
    pub policy: String,
    /// `fail`, `queue`, or for how long requests wait while there is no path.
    #[serde(default)]
    pub no_path: String,
    /// How long the disk outlives its last path, in milliseconds.
    #[serde(default)]
    pub removal_delay_ms: u64,
    /// Requests that wait for a path.
    pub parked: usize,
    /// Requests that were re-sent on another path, ever.
    pub failed_over: u64,
    /// Fences that are open, the oldest first.
    #[serde(default)]
    pub fences: Vec<FenceStatus>,
    /// Writes that wait for them.
    #[serde(default)]
    pub held_writes: usize,
    /// Fences that ended with a proof that nothing can come late, ever.
    #[serde(default)]
    pub fences_proved: u64,
    /// Fences that ended without one, by the timer or by an operator, ever.
    #[serde(default)]
    pub fences_waived: u64,
    /// What the last failovers came to, the oldest first.
    #[serde(default)]
    pub failovers: Vec<FailoverStatus>,
    pub paths: Vec<PathStatus>,
    /// Ways to it that were found and are not used, because of the mode of multipath.
    #[serde(default)]
    pub unused: Vec<UnusedStatus>,
}

/// What the loss of a path came to. Times count from when it was noticed.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct FailoverStatus {
    /// When it was noticed, in milliseconds since 1970.
    pub unix_ms: u64,
    /// It need not be a path of the disk any more.
    pub path: u32,
    /// By what it was noticed: one of the causes in SPECIFICATION.md.
    pub cause: String,
    pub touched: usize,
    pub resent: usize,
    pub failed: usize,
    pub unfinished: usize,
    pub first_completion_us: Option<u64>,
    /// From when a touched request was sent on the lost path to its end.
    pub longest_wait_us: u64,
    /// `none`, `open`, `proved`, `waived`.
    pub fence: String,
}

/// A lost path whose writes may still be executed.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct FenceStatus {
    /// It need not be a path of the disk any more.
    pub path: u32,
    /// Where it led: `ADDRESS:PORT`.
    pub portal: String,
    /// For how long it has been open, in milliseconds.
    pub since_ms: u64,
    /// Writes of unknown fate; none if it is about whatever a process before this one left.
    pub writes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct UnusedStatus {
    pub portal: String,
    pub lun: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PathStatus {
    pub id: u32,
    pub portal: SocketAddr,
    pub target: String,
    pub lun: String,
    /// `optimized`, `non-optimized`, `waiting`, `down`.
    pub state: String,
    /// Why: one of the causes in SPECIFICATION.md.
    #[serde(default)]
    pub cause: String,
    /// For how long it has been in that state, in milliseconds.
    #[serde(default)]
    pub since_ms: u64,
    /// `failed` or `drained`: an operator keeps it out.
    #[serde(default)]
    pub held: Option<String>,
    pub port_group: Option<u16>,
    /// The asymmetric access state: `optimized`, `non-optimized`, `lba-dependent`, `standby`, `unavailable`, `offline`,
    /// `transitioning`.
    #[serde(default)]
    pub access: String,
    /// Another logical unit of the target was told the access state; this one has not asked yet.
    #[serde(default)]
    pub access_assumed: bool,
    /// The device prefers the port group (PREF); paths are not chosen by it.
    #[serde(default)]
    pub preferred: bool,
    /// What the last ping of its session took (NOP-Out to NOP-In), in microseconds; sessions are pinged only while they are
    /// silent.
    #[serde(default)]
    pub nop_us: Option<u64>,
    pub in_flight: usize,
    pub completed: u64,
    pub failed: u64,
    /// Microseconds, from the moment the command went to the session to its ending.
    pub latency: LatencyStatus,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct LatencyStatus {
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// A path that an operator keeps out, should it be found.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct KeptOutStatus {
    /// The disk's identity.
    pub disk: String,
    pub portal: SocketAddr,
    pub target: String,
    /// `failed` or `drained`.
    pub held: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PortalStatus {
    pub portal: SocketAddr,
    /// None while the portal is only asked for its targets.
    pub target: Option<String>,
    /// `connecting`, `login`, `survey`, `up`, `waiting`.
    pub state: String,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
    pub logins: u64,
}

/// One thing that happened, as one line for people. Whose fault and what to do stand in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub severity: Severity,
    pub text: String,
    pub kind: NoticeKind,
}

/// What a program may want to act on, apart from the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeKind {
    /// A disk can be used; its identity.
    DiskReady(String),
    /// Every portal has had its first answer, or failed for the first time; so many disks were found.
    Settled {
        disks: usize,
    },
    /// A path can be used.
    PathUp,
    /// A path was lost.
    PathLost,
    /// A path was found and cannot be used.
    PathFailed,
    /// A portal, target or login failed.
    PortalFailed,
    /// The shard has ended; in order, or with work undone.
    Ended {
        clean: bool,
    },
    Other,
}

impl From<host::Notice> for Notice {
    fn from(notice: host::Notice) -> Self {
        let kind = match notice.kind {
            host::NoticeKind::DiskReady(identity) => NoticeKind::DiskReady(identity),
            host::NoticeKind::PathUp => NoticeKind::PathUp,
            host::NoticeKind::PathLost => NoticeKind::PathLost,
            host::NoticeKind::PathFailed => NoticeKind::PathFailed,
            host::NoticeKind::PortalFailed => NoticeKind::PortalFailed,
            host::NoticeKind::Other => NoticeKind::Other,
        };
        Self { severity: notice.severity, text: notice.text, kind }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
