//! What a shard is told to do. Everything here was checked by whoever made it; nothing is read from a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use host::config::{ChapConfig, Digests, DiskConfig, EarlyData, Filter, Layer, Multipath, PortalConfig};
pub use multipath::{Hedging, SlowPaths};
pub use scsi_multipath::{Alua, FencePolicy, Sharing};

/// One shard: the disks behind some portals, and where they are served.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    pub initiator: InitiatorConfig,
    pub portals: Vec<PortalConfig>,
    pub exports: Vec<ExportAddress>,
    pub disks: DiskConfig,
    pub filter: Filter,
    /// Where it is remembered which nexuses may have writes in flight, so that a process that comes after this one
    /// fences them first. Without it only what this process itself leaves is fenced.
    pub state: Option<PathBuf>,
}

/// What every iSCSI session of the shard has in common.
#[derive(Debug, Clone)]
pub struct InitiatorConfig {
    /// An iSCSI name (RFC 7143, 4.2.7).
    pub name: String,
    pub chap: Option<ChapConfig>,
    pub digests: Digests,
    /// How long a login may take, from the first byte of the connection to full feature phase.
    pub login_timeout: Duration,
    /// A silent connection is asked for a sign of life after this time …
    pub nop_interval: Duration,
    /// … and given up after this one.
    pub nop_timeout: Duration,
    /// A command without an answer is aborted after this time.
    pub command_timeout: Duration,
    pub early_data: EarlyData,
}

/// Whether this can be the name of an initiator.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    name.parse::<iscsi::name::Name>().map(drop).map_err(|error| error.to_string())
}

impl ShardConfig {
    /// What the host of the shard is told.
    pub(crate) fn host(&self) -> host::Options {
        let initiator = &self.initiator;
        host::Options {
            initiator: host::config::Initiator {
                name: initiator.name.clone(),
                chap: initiator.chap.clone(),
                digests: initiator.digests,
                login_timeout: initiator.login_timeout.into(),
                nop_interval: initiator.nop_interval.into(),
                nop_timeout: initiator.nop_timeout.into(),
                command_timeout: initiator.command_timeout.into(),
                early_data: initiator.early_data,
            },
            portals: self.portals.clone(),
            disks: self.disks,
            filter: self.filter.clone(),
            // Two programs on one machine differ by what they serve, and each keeps that over a restart.
            salt: self.exports.iter().flat_map(|export| export.to_string().into_bytes()).collect(),
            seed: 0,
            inherited: None,
        }
    }
}

/// Where disks are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportAddress {
    NbdUnix(PathBuf),
    NbdTcp(SocketAddr),
}

impl std::fmt::Display for ExportAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NbdUnix(path) => write!(f, "nbd+unix:///?socket={}", path.display()),
            Self::NbdTcp(address) => write!(f, "nbd://{address}"),
        }
    }
}
