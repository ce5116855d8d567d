//! What one request header asks for: the only place that judges requests.

use block::{Access, Durability, Effort, Error, Geometry, Operation, Provisioning, WriteCache};

use crate::export::Export;
use crate::protocol::{BlockSizes, CommandType, Errno, RequestHeader, command_flags, transmission_flags};

/// What is to be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Submit(Operation),
    /// Durability was asked for, and [`block::Operation`] cannot say that of this operation.
    SubmitThenFlush(Operation),
    /// It succeeds without the disk.
    Nothing,
    Refuse(Errno),
}

/// What requests on a connection may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    geometry: Geometry,
    sizes: BlockSizes,
    /// Transmission flags as the client was told, or would be now.
    flags: u16,
}

impl Limits {
    pub(crate) fn new(export: &Export, structured: bool) -> Self {
        let df = if structured { transmission_flags::SEND_DF } else { 0 };
        Self {
            geometry: export.geometry,
            sizes: export.block_sizes(),
            flags: export.transmission_flags() | df,
        }
    }

    fn advertised(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Refuses flags other than `allowed`. FUA is allowed on everything (clause "Command flags").
    fn check_flags(header: &RequestHeader, allowed: u16) -> Result<(), Errno> {
        if header.flags & !(allowed | command_flags::FUA) == 0 { Ok(()) } else { Err(Errno::Inval) }
    }

    /// Refuses a range that is misaligned, or beyond the end, which is the error of `beyond`.
    fn check_range(&self, header: &RequestHeader, beyond: Errno) -> Result<(), Errno> {
        let unit = u64::from(self.sizes.minimum);
        if !header.offset.is_multiple_of(unit) || !u64::from(header.length).is_multiple_of(unit) {
            return Err(Errno::Inval);
        }
        match header.offset.checked_add(header.length.into()) {
            Some(end) if end <= self.geometry.size => Ok(()),
            _ => Err(beyond),
        }
    }

    fn check_writable(&self) -> Result<(), Errno> {
        match self.geometry.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Errno::Perm),
        }
    }

    fn check_advertised(&self, flag: u16) -> Result<(), Errno> {
        if self.advertised(flag) { Ok(()) } else { Err(Errno::Inval) }
    }
}

/// Judges a request (clauses "Request types" and "Error values").
pub(crate) fn decode(header: &RequestHeader, limits: &Limits) -> Decoded {
    let decoded = match header.command {
        CommandType::Read => read(header, limits),
        CommandType::Write => write(header, limits),
        CommandType::Flush => flush(header),
        CommandType::Trim => trim(header, limits),
        CommandType::Cache => cache(header, limits),
        CommandType::WriteZeroes => write_zeroes(header, limits),
        // A goodbye is not a request: it gets no reply, and is not judged here.
        CommandType::Disconnect | CommandType::BlockStatus | CommandType::Other(_) => Err(Errno::Inval),
    };
    decoded.unwrap_or_else(Decoded::Refuse)
}

fn read(header: &RequestHeader, limits: &Limits) -> Result<Decoded, Errno> {
    let structured = limits.advertised(transmission_flags::SEND_DF);
    Limits::check_flags(header, if structured { command_flags::DF } else { 0 })?;
    if header.length > limits.sizes.payload_max {
        // Only a structured reply could have been split, so only there the length alone is to blame.
        return Err(if structured { Errno::Overflow } else { Errno::Inval });
    }
    limits.check_range(header, Errno::Inval)?;
    Ok(unless_empty(header, Operation::Read { offset: header.offset, length: header.length }))
}

fn write(header: &RequestHeader, limits: &Limits) -> Result<Decoded, Errno> {
    limits.check_writable()?;
    Limits::check_flags(header, 0)?;
    if header.length > limits.sizes.payload_max {
        return Err(Errno::Inval);
    }
    limits.check_range(header, Errno::NoSpc)?;
    let RequestHeader { offset, length, .. } = *header;
    Ok(unless_empty(header, Operation::Write { offset, length, durability: durability(header) }))
}

fn flush(header: &RequestHeader) -> Result<Decoded, Errno> {
    Limits::check_flags(header, 0)?;
    Ok(Decoded::Submit(Operation::Flush))
}

fn trim(header: &RequestHeader, limits: &Limits) -> Result<Decoded, Errno> {
    limits.check_writable()?;
    limits.check_advertised(transmission_flags::SEND_TRIM)?;
    Limits::check_flags(header, 0)?;
    limits.check_range(header, Errno::Inval)?;
    let discard = Operation::Discard { offset: header.offset, length: header.length };
    let durable = durability(header) == Durability::ForceUnitAccess;
    if durable && limits.geometry.write_cache == WriteCache::Back && header.length > 0 {
        return Ok(Decoded::SubmitThenFlush(discard));
    }
    Ok(unless_empty(header, discard))
}

fn cache(header: &RequestHeader, limits: &Limits) -> Result<Decoded, Errno> {
    Limits::check_flags(header, 0)?;
    limits.check_range(header, Errno::Inval)?;
    Ok(Decoded::Nothing)
}

fn write_zeroes(header: &RequestHeader, limits: &Limits) -> Result<Decoded, Errno> {
    limits.check_writable()?;
    limits.check_advertised(transmission_flags::SEND_WRITE_ZEROES)?;
    Limits::check_flags(header, command_flags::NO_HOLE | command_flags::FAST_ZERO)?;
    limits.check_range(header, Errno::NoSpc)?;
    let provisioning = match header.flags & command_flags::NO_HOLE {
        0 => Provisioning::MayDeallocate,
        _ => Provisioning::KeepAllocated,
    };
    let effort = match header.flags & command_flags::FAST_ZERO {
        0 => Effort::Any,
        _ => Effort::FastOnly,
    };
    let RequestHeader { offset, length, .. } = *header;
    let durability = durability(header);
    Ok(unless_empty(header, Operation::WriteZeroes { offset, length, durability, provisioning, effort }))
}

fn durability(header: &RequestHeader) -> Durability {
    match header.flags & command_flags::FUA {
        0 => Durability::Volatile,
        _ => Durability::ForceUnitAccess,
    }
}

/// A request for zero bytes succeeds; no disk has to know of such a thing.
fn unless_empty(header: &RequestHeader, operation: Operation) -> Decoded {
    if header.length == 0 { Decoded::Nothing } else { Decoded::Submit(operation) }
}

/// The error number for a failed operation.
pub(crate) fn errno(operation: &Operation, error: Error) -> Errno {
    match error {
        Error::Io => Errno::Io,
        Error::Invalid => Errno::Inval,
        Error::NoSpace => Errno::NoSpc,
        // ENOTSUP is reserved for the one request that asks for it (clause "Error values").
        Error::NotSupported => match operation {
            Operation::WriteZeroes { effort: Effort::FastOnly, .. } => Errno::NotSup,
            _ => Errno::Inval,
        },
        Error::ReadOnly | Error::ReservationConflict => Errno::Perm,
        Error::Shutdown => Errno::Shutdown,
    }
}
