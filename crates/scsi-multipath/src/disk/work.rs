//! A request on its way through a disk: what of it is done, and the piece of it that is a command now.

use core::fmt;

use block::{Buffer, Completion, Operation, Request, Tag};
use multipath::{Mark, Node, Ticket};
use scsi::{CdbBytes, Transfer};

use super::TargetId;
use super::claims::Extent;
use crate::disposition::{CommandClass, Failure};
use crate::question::Question;

/// A request, taken apart, with how far it came. Moves from the disk to its head, to a path, and back.
#[derive(Debug)]
pub(crate) struct Work {
    pub(super) issuer: Issuer,
    pub(super) operation: Operation,
    /// The request's own memory; or, where the request has none, what a command sends instead.
    pub(super) buffer: Buffer,
    pub(super) node: Node,
    pub(super) step: Step,
    /// Bytes of the extent that are done.
    pub(super) cursor: u32,
    pub(super) piece: Piece,
    /// A piece of it was written to a cache although it is to be durable: a flush comes last.
    pub(super) is_volatile: bool,
    /// Attempts at this piece that were answered with "again".
    pub(super) tries: u8,
    /// Paths that gave up on this piece without being to blame.
    pub(super) elsewhere: u8,
    /// What the piece ended with, as far as it is known.
    pub(super) said: Said,
    /// Writes acknowledged when a flush was issued: what it makes durable if it succeeds.
    pub(super) covers: u64,
    /// How the head and the disk speak of this piece while it is in flight.
    pub(super) mark: Option<Mark>,
    /// It is the second copy of a read.
    pub(super) is_second: bool,
}

/// Who wants it done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    Export(Tag),
    /// The last flush before the disk goes.
    Shutdown,
}

/// What kind of command comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    /// With or without FUA.
    Write,
    /// UNMAP.
    Unmap,
    /// WRITE SAME(16) with UNMAP.
    WriteSameUnmap,
    WriteSame,
    /// WRITE of zeros, where there is no shorter way.
    WriteZeros,
    /// SYNCHRONIZE CACHE: a flush, or what makes a write durable that has no FUA.
    Synchronize,
}

impl Step {
    /// Whether there is a longer way to the same end, or no need for it.
    pub(super) const fn is_shortcut(self) -> bool {
        matches!(self, Self::Unmap | Self::WriteSameUnmap | Self::WriteSame)
    }
}

/// One command's worth of a request. It stays the same however often it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) cdb: CdbBytes,
    pub(super) transfer: Transfer,
    pub(super) class: CommandClass,
    /// Bytes of the extent that are done when it is.
    pub(super) length: u32,
}

/// What a piece ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Done,
    /// It may or may not have been done; it waits for its fence before it is sent again.
    Held,
    /// Final, or what is told if no path does better.
    Failed(Failure),
}

/// What a command of a disk carries.
pub(crate) enum Flight {
    /// A piece of a request, without its buffer: that is the command's now.
    Work { work: Work, ticket: Ticket },
    /// A question of the disk's own about this path.
    Probe(Question),
    /// A read of the disk's own that shows what this path is worth.
    Canary,
    /// A block that is read to see whether this path works, so many times so far.
    Check { attempt: u8 },
    /// SET TARGET PORT GROUPS for this group.
    Activation { target: TargetId, group: u16 },
}

impl Work {
    pub(super) fn new(request: Request, node: Node, step: Step) -> Self {
        let Request { tag, operation, buffer } = request;
        Self { issuer: Issuer::Export(tag), operation, buffer, ..Self::blank(node, step) }
    }

    /// The flush before the disk goes.
    pub(super) fn last_flush(covers: u64) -> Self {
        Self { covers, ..Self::blank(Node::default(), Step::Synchronize) }
    }

    fn blank(node: Node, step: Step) -> Self {
        Self {
            issuer: Issuer::Shutdown,
            operation: Operation::Flush,
            buffer: Buffer::empty(),
            node,
            step,
            cursor: 0,
            piece: Piece {
                cdb: CdbBytes::new(&[]),
                transfer: Transfer::None,
                class: CommandClass::Read,
                length: 0,
            },
            is_volatile: false,
            tries: 0,
            elsewhere: 0,
            said: Said::Nothing,
            covers: 0,
            mark: None,
            is_second: false,
        }
    }

    /// Where the piece begins, in bytes.
    pub(super) fn piece_offset(&self) -> u64 {
        self.operation.extent().map_or(0, |(offset, _)| offset + u64::from(self.cursor))
    }

    /// The request's name, if an export wants it.
    pub(crate) const fn tag(&self) -> Option<Tag> {
        match self.issuer {
            Issuer::Export(tag) => Some(tag),
            Issuer::Shutdown => None,
        }
    }

    /// What the request has to have for itself: the bytes that it changes.
    pub(super) fn claim(&self) -> Option<Extent> {
        match self.operation {
            Operation::Read { .. } | Operation::Flush => None,
            _ => self.operation.extent().map(|(offset, length)| Extent::new(offset, length)),
        }
    }

    /// Bytes of the extent that are still to be done.
    pub(super) fn rest(&self) -> u32 {
        self.operation.extent().map_or(0, |(_, length)| length - self.cursor)
    }

    /// The request again, as its export knows it, with how it ended.
    pub(super) fn into_request(self, completion: Completion) -> Option<(Request, Completion)> {
        let Issuer::Export(tag) = self.issuer else { return None };
        let buffer = match self.operation {
            Operation::Read { .. } | Operation::Write { .. } => self.buffer,
            // What is in there is not the export's.
            Operation::Flush | Operation::Discard { .. } | Operation::WriteZeroes { .. } => Buffer::empty(),
        };
        Some((Request { tag, operation: self.operation, buffer }, completion))
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work { work, .. } => write!(f, "{:?} of {:?} at {}", work.step, work.issuer, work.cursor),
            Self::Probe(question) => write!(f, "{question}"),
            Self::Canary => f.write_str("canary"),
            Self::Check { attempt } => write!(f, "check, attempt {attempt}"),
            Self::Activation { group, .. } => write!(f, "SET TARGET PORT GROUPS, group {group}"),
        }
    }
}
