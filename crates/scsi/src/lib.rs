//! SCSI wire types: CDBs, status, sense data, VPD pages, port groups, mode pages, LUNs. Parse and emit only.
//!
//! Every type is a small value with `parse` (bytes from outside, never panics, unknown values survive) and
//! `emit`. Nothing here holds state or decides policy.
//!
//! Parsers of what a device server returns are tolerant: a page that an older standard made shorter reads as if
//! the missing fields were zero, which in every page here means "not reported". Lists are strict: one that is
//! cut off is [`ParseError::Truncated`] with the length to ask for, never a shorter list.
#![no_std]
extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

mod bytes;
pub mod capacity;
pub mod cdb;
mod command;
pub mod inquiry;
pub mod luns;
pub mod mode;
pub mod opcodes;
pub mod port_groups;
pub mod reservations;
mod sense;
mod status;
#[cfg(test)]
mod tests;
pub mod unmap;
pub mod vpd;

pub use bytes::{Ascii, ParseError};
pub use command::{
    CDB_LENGTH_MAX, CdbBytes, Command, CommandId, Ending, Reply, Residual, TaskAttribute, Transfer,
};
pub use luns::Lun;
pub use sense::{
    AdditionalSense, FieldPointer, FieldSource, SENSE_LENGTH_MAX, Sense, SenseData, SenseFormat, SenseKey,
    SenseKeySpecific,
};
pub use status::Status;

/// A logical block address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// A number of logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks(pub u32);
