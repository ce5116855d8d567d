//! SCSI wire types: CDBs, status, sense data, VPD pages, port groups, mode pages, LUNs. Parse and emit only.
//!
//! Every type is a small value with `parse` (bytes from outside, never panics, unknown values survive) and
//! `emit`. Nothing here holds state or decides policy.
#![no_std]
extern crate alloc;

mod command;
mod sense;
mod status;

pub use command::{
    CDB_LENGTH_MAX, CdbBytes, Command, CommandId, Ending, Reply, Residual, TaskAttribute, Transfer,
};
pub use sense::{SenseData, SenseKey};
pub use status::Status;

/// A logical block address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// A number of logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks(pub u32);

/// A logical unit number as it is on the wire: eight bytes, compared whole (SAM, 4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lun(pub [u8; 8]);
