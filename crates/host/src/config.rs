//! What a host is told to do. Everything here was checked by whoever made it.

use std::fmt;
use std::net::SocketAddr;

use clock::Duration;
use multipath::{Hedging, NoPath, Policy, SlowPaths};
use scsi::Lun;
use scsi_multipath::{Alua, FencePolicy, Sharing};

use crate::state::State;

/// One host: the portals that it reaches logical units through, and how the disks that come out behave.
#[derive(Debug, Clone)]
pub struct Options {
    pub initiator: Initiator,
    pub portals: Vec<PortalConfig>,
    pub disks: DiskConfig,
    pub filter: Filter,
    /// What tells this host from others of the same initiator name: part of every ISID. The same after a restart.
    pub salt: Vec<u8>,
    /// For the jitter of pauses.
    pub seed: u64,
    /// What a process before this one left to be fenced. With it the host says what is to be remembered of itself
    /// ([`crate::Action::Persist`]); without it nothing is remembered.
    pub inherited: Option<State>,
}

/// What every iSCSI session has in common.
#[derive(Debug, Clone)]
pub struct Initiator {
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

/// Whether a write may carry data that the target did not ask for (RFC 7143, 13.10 and 13.11).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EarlyData {
    /// As the target allows: no round trip before the data.
    #[default]
    On,
    /// InitialR2T=Yes, ImmediateData=No: a write that was never asked for its data cannot be executed late. Costs one
    /// round trip for each write.
    Off,
}

/// Which CRC32C digests are asked for (RFC 7143, 13.1); the target may refuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Digests {
    #[default]
    None,
    Header,
    HeaderAndData,
}

/// CHAP credentials (RFC 7143, 9.2.1). Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ChapConfig {
    pub name: String,
    pub secret: Vec<u8>,
    /// Name and secret by which the target has to prove itself.
    pub mutual: Option<(String, Vec<u8>)>,
}

impl fmt::Debug for ChapConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapConfig").field("name", &self.name).field("secret", &"…").finish_non_exhaustive()
    }
}

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortalConfig {
    /// Ask this portal for all targets and all their portals, and use them all.
    Discover(SocketAddr),
    /// Use this target through this portal, and nothing else of it.
    Target { portal: SocketAddr, target_name: String, lun: Option<Lun> },
}

impl PortalConfig {
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        match self {
            Self::Discover(portal) | Self::Target { portal, .. } => *portal,
        }
    }
}

/// How disks behave.
#[derive(Debug, Clone, Copy)]
pub struct DiskConfig {
    pub policy: Policy,
    pub no_path: NoPath,
    /// How long a disk without any path stays.
    pub delayed_removal: Duration,
    pub layer: Layer,
    pub slow_paths: SlowPaths,
    pub hedging: Hedging,
    pub multipath: Multipath,
    pub sharing: Sharing,
    pub fence: FencePolicy,
    pub alua: Alua,
    /// See [`scsi_multipath::Options::path_check`].
    pub path_check: Option<Duration>,
}

/// Which logical units are served over more than one path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Multipath {
    /// None: each over the path that was found first, and no other while that is known.
    Off,
    /// Those that report target port groups (TPGS is not zero); the others as with `Off`.
    On,
    /// All. One that reports no groups counts as active/optimized on every path.
    #[default]
    Always,
}

impl fmt::Display for Multipath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Always => "always",
        })
    }
}

impl std::str::FromStr for Multipath {
    type Err = String;

    /// Exact words only: a word that is nearly right may have been meant otherwise.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "always" => Ok(Self::Always),
            _ => Err(format!("'{text}' is not off, on or always")),
        }
    }
}

/// What stands between exports and paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layer {
    #[default]
    Multipath,
    /// Nothing: the first path is used as it is. For measuring what the multipath layer costs.
    Direct,
}

/// Which logical units become disks.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these LUNs; all if empty.
    pub luns: Vec<Lun>,
    /// Only these identities, as they are printed (`naa.…`); all if empty.
    pub identities: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modes_are_three_words_and_nothing_like_them() {
        for (text, expected) in
            [("off", Multipath::Off), ("on", Multipath::On), ("always", Multipath::Always)]
        {
            assert_eq!(text.parse(), Ok(expected));
        }
        let wrong = [
            "", "o", "of", "offf", "On", "ON", "on ", " on", "on\n", "al", "alway", "always!", "1", "0",
            "yes",
        ];
        for text in wrong {
            assert!(text.parse::<Multipath>().is_err(), "{text:?}");
        }
    }
}
