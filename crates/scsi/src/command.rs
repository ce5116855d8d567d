//! A command and its ending, as they move between a disk and a transport.

use alloc::boxed::Box;
use block::Buffer;

use crate::cdb::operation;
use crate::{SenseData, Status};

/// The longest CDB that is carried: what fits the header of an iSCSI SCSI Command PDU (RFC 7143, 11.3) and of
/// every other transport. Longer ones (32-byte commands of SBC) are not used.
pub const CDB_LENGTH_MAX: usize = 16;

/// A command descriptor block as bytes (SAM: the CDB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CdbBytes {
    bytes: [u8; CDB_LENGTH_MAX],
    length: u8,
}

impl CdbBytes {
    /// Takes the first [`CDB_LENGTH_MAX`] bytes at most.
    #[must_use]
    pub fn new(cdb: &[u8]) -> Self {
        let length = cdb.len().min(CDB_LENGTH_MAX);
        let mut bytes = [0; CDB_LENGTH_MAX];
        bytes[..length].copy_from_slice(&cdb[..length]);
        #[expect(clippy::cast_possible_truncation, reason = "at most CDB_LENGTH_MAX")]
        Self { bytes, length: length as u8 }
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The CDB padded with zeros, as a transport with a fixed field carries it.
    #[must_use]
    pub const fn padded(&self) -> &[u8; CDB_LENGTH_MAX] {
        &self.bytes
    }

    #[must_use]
    pub const fn operation_code(&self) -> u8 {
        self.bytes[0]
    }

    /// What stands where the commands that have service actions have them (SPC, 4.2.2 and 4.2.4).
    #[must_use]
    pub const fn service_action(&self) -> u16 {
        if self.bytes[0] == operation::VARIABLE_LENGTH {
            u16::from_be_bytes([self.bytes[8], self.bytes[9]])
        } else {
            (self.bytes[1] & 0x1f) as u16
        }
    }

    /// Whether a VERIFY sends data to compare with (SBC, VERIFY: BYTCHK is not zero).
    #[must_use]
    pub const fn sends_data_to_compare(&self) -> bool {
        let at = if self.bytes[0] == operation::VARIABLE_LENGTH { 10 } else { 1 };
        self.bytes[at] & 0x06 != 0
    }
}

/// Which way data moves, and which part of the command's buffer it moves through. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    None,
    /// Data-In.
    FromDevice {
        offset: u32,
        length: u32,
    },
    /// Data-Out.
    ToDevice {
        offset: u32,
        length: u32,
    },
}

impl Transfer {
    /// The expected data transfer length.
    #[must_use]
    pub const fn length(self) -> u32 {
        match self {
            Self::None => 0,
            Self::FromDevice { length, .. } | Self::ToDevice { length, .. } => length,
        }
    }
}

/// SAM task attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskAttribute {
    #[default]
    Simple,
    Ordered,
    HeadOfQueue,
}

/// Names a command among those in flight on one transport; the issuer chose it (for task management).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// A command on its way to a device server, with the memory that its data moves through and what its issuer
/// wants to find again when it comes back. It moves: whoever holds it may touch the buffer, nobody else can.
#[derive(Debug)]
pub struct Command<C> {
    pub id: CommandId,
    pub cdb: CdbBytes,
    pub attribute: TaskAttribute,
    pub transfer: Transfer,
    /// Holds at least the bytes that `transfer` names.
    pub buffer: Buffer,
    pub context: C,
}

impl<C> Command<C> {
    /// The part of the buffer that moves, either way.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self.transfer {
            Transfer::None => &[],
            Transfer::FromDevice { offset, length } | Transfer::ToDevice { offset, length } => {
                &self.buffer[offset as usize..][..length as usize]
            }
        }
    }

    /// The part of the buffer that moves, either way.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        match self.transfer {
            Transfer::None => &mut [],
            Transfer::FromDevice { offset, length } | Transfer::ToDevice { offset, length } => {
                &mut self.buffer[offset as usize..][..length as usize]
            }
        }
    }
}

/// What the device server said. A CHECK CONDITION is a reply like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: Status,
    /// Sense data, if any came with the status.
    pub sense: Option<Box<SenseData>>,
    pub residual: Residual,
}

/// How the bytes moved compare with the bytes expected (RFC 7143, 11.4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    #[default]
    None,
    /// So many fewer bytes than expected were moved.
    Underflow(u32),
    /// So many bytes more than expected would have been moved.
    Overflow(u32),
}

impl Reply {
    #[must_use]
    pub const fn good() -> Self {
        Self { status: Status::Good, sense: None, residual: Residual::None }
    }

    #[must_use]
    pub fn check_condition(sense: SenseData) -> Self {
        Self { status: Status::CheckCondition, sense: Some(Box::new(sense)), residual: Residual::None }
    }
}

/// How a command ended, as its transport saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The device server answered.
    Reply(Reply),
    /// Not a byte of it left this side, or not a byte of the data that it needs: it was certainly not executed, and
    /// will not be.
    NotSent,
    /// It was sent and the nexus was lost before an answer: it may or may not have been, or be yet, executed.
    Lost,
    /// Its time was over, ABORT TASK ended it, and the device server confirmed that.
    Aborted,
    /// A task management function of ours that was about more than this command ended it, and the device server
    /// confirmed that. Neither the command nor its path is to blame.
    Cleared,
    /// The target answered that it could not execute it (RFC 7143, 11.4.3: target failure); fate unknown.
    TargetFailure,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(transfer: Transfer) -> Command<()> {
        Command {
            id: CommandId(1),
            cdb: CdbBytes::new(&[0; 6]),
            attribute: TaskAttribute::Simple,
            transfer,
            buffer: Buffer::from(vec![1, 2, 3, 4]),
            context: (),
        }
    }

    #[test]
    fn data_moves_through_the_named_part_of_the_buffer_only() {
        let mut read = command(Transfer::FromDevice { offset: 1, length: 2 });
        read.data_mut().fill(9);
        assert_eq!((&*read.buffer, read.data()), ([1, 9, 9, 4].as_slice(), [9, 9].as_slice()));
        assert_eq!(command(Transfer::None).data(), []);
        assert_eq!(command(Transfer::ToDevice { offset: 0, length: 4 }).data(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_cdb_is_padded_with_zeros() {
        let cdb = CdbBytes::new(&[0x12, 0, 0, 0, 36, 0]);
        assert_eq!((cdb.as_slice().len(), cdb.operation_code()), (6, 0x12));
        assert_eq!(cdb.padded()[6..], [0; 10]);
        assert_eq!(CdbBytes::new(&[0xff; 32]).as_slice(), [0xff; CDB_LENGTH_MAX]);
    }
}
