//! The words that exports and disks share.
//!
//! An export decodes its protocol into a [`Request`], a disk answers it with a [`Completion`]. A request is a
//! value that moves with its [`Buffer`]: neither is `Clone`, so that a request cannot be completed twice and
//! memory cannot be reused while somebody still sends from it.
#![no_std]
extern crate alloc;

mod buffer;

use core::fmt;

pub use buffer::{Buffer, BufferPool};

/// Which request of which export this is. The export chose it; only the export looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// One request of an export, with the memory that its data moves through.
#[derive(Debug)]
pub struct Request {
    pub tag: Tag,
    pub operation: Operation,
    /// For a read, room for at least `length` bytes; for a write, exactly the bytes to be written; else empty.
    pub buffer: Buffer,
}

/// What is asked of the disk. Offsets and lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read {
        offset: u64,
        length: u32,
    },
    Write {
        offset: u64,
        length: u32,
        durability: Durability,
    },
    /// Make every write that completed before this request was submitted durable.
    Flush,
    /// The content of the range is not needed any more; what it reads as afterwards is undefined.
    Discard {
        offset: u64,
        length: u32,
    },
    /// The range reads as zeros afterwards.
    WriteZeroes {
        offset: u64,
        length: u32,
        durability: Durability,
        provisioning: Provisioning,
        effort: Effort,
    },
}

/// When a write may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As soon as the disk has it; a later flush makes it durable.
    Volatile,
    /// Only once it is durable (force unit access).
    ForceUnitAccess,
}

/// What may become of the storage behind zeroed blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// It may be deallocated, as long as the range reads as zeros.
    MayDeallocate,
    /// It stays allocated.
    KeepAllocated,
}

/// How hard to try to zero a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Write zeros if there is no shorter way.
    Any,
    /// Fail with [`Error::NotSupported`] rather than be no faster than a write of zeros.
    FastOnly,
}

/// How a request ended.
pub type Completion = Result<(), Error>;

/// Why a request failed, in the words that every export can express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The medium or the way to it failed.
    Io,
    /// The request itself is wrong: misaligned, or a range that cannot be.
    Invalid,
    /// A write, or zeroes, beyond the end of the disk, or the thin pool is full.
    NoSpace,
    /// This disk cannot do that.
    NotSupported,
    /// The disk may not be written.
    ReadOnly,
    /// Another host holds a reservation.
    ReservationConflict,
    /// The disk is going away.
    Shutdown,
}

/// What an export has to know of a disk. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub size: u64,
    /// The smallest unit of every offset and length; a power of two.
    pub block_size: u32,
    /// The length that performs best; a power of two, at least `block_size`.
    pub preferred_size: u32,
    /// The longest read or write.
    pub transfer_max: u32,
    pub access: Access,
    /// Writes may sit in a volatile cache until a flush.
    pub write_cache: WriteCache,
    pub discard: Support,
    pub write_zeroes: Support,
    pub rotation: Rotation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// An acknowledged write is durable.
    Through,
    /// An acknowledged write is durable after a flush.
    Back,
}

/// Whether the medium turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// The device does not say.
    #[default]
    Unknown,
    /// It does not.
    Solid,
    /// So many times a minute.
    PerMinute(u16),
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not reported"),
            Self::Solid => f.write_str("solid"),
            Self::PerMinute(times) => write!(f, "{times} rpm"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Yes,
    No,
}

impl Operation {
    /// The bytes the operation touches, as `(offset, length)`; none for a flush.
    #[must_use]
    pub const fn extent(&self) -> Option<(u64, u32)> {
        match *self {
            Self::Read { offset, length }
            | Self::Write { offset, length, .. }
            | Self::Discard { offset, length }
            | Self::WriteZeroes { offset, length, .. } => Some((offset, length)),
            Self::Flush => None,
        }
    }
}
