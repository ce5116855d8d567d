//! What a host has to remember beyond its own life: which nexuses may have writes in flight.
//!
//! A process that comes after this one has to fence them before it writes. So a record is stored before its nexus is
//! used, and dropped only after a clean end.

mod codec;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use codec::{
    FILE_LENGTH_MAX, FORMAT, IDENTITY_LENGTH_MAX, NAME_LENGTH_MAX, NEXUSES_MAX, StateError, UNITS_MAX,
};

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub nexuses: Vec<NexusRecord>,
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
