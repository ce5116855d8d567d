//! What a host has to remember beyond its own life: which nexuses may have writes in flight, and what operators keep
//! out.
//!
//! A process that comes after this one has to fence those nexuses before it writes. So a record is stored before its
//! nexus is used, and dropped only after a clean end. What operators keep out is dropped only by their word.

mod codec;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use scsi_multipath::Hold;

pub use codec::{
    FILE_LENGTH_MAX, FORMAT, HOLDS_MAX, IDENTITY_LENGTH_MAX, NAME_LENGTH_MAX, NEXUSES_MAX, StateError,
    UNITS_MAX,
};

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub nexuses: Vec<NexusRecord>,
    pub holds: Vec<HoldRecord>,
}

/// One nexus, by what a later login has to say to be the same one (RFC 7143, 3.4.3 and 6.3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NexusRecord {
    pub initiator: String,
    pub isid: [u8; 6],
    pub target: String,
    pub portal: SocketAddr,
    /// The target portal group that the portal belongs to; none if the target does not say.
    pub group: Option<u16>,
    /// Logical units that were written to through it.
    pub units: Vec<UnitRecord>,
    /// A login that was to reinstate it died before it was answered.
    pub abandoned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRecord {
    pub lun: u64,
    /// As it is printed: `naa.…`.
    pub identity: String,
}

/// Paths that an operator keeps out, by what stays the same over restarts: LUNs and numbers of paths do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    pub portal: SocketAddr,
    pub target: String,
    /// Of the logical unit, as it is printed: `naa.…`.
    pub identity: String,
    pub hold: Hold,
}
