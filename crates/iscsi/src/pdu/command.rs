//! SCSI Command and Response, task management (RFC 7143, 11.3 to 11.6).

use scsi::{CDB_LENGTH_MAX, Lun, Residual, TaskAttribute};

use super::{
    CommandSerials, Delivery, FINAL, Header, InitiatorTaskTag, Opcode, ResponseCode, SerialNumber,
    StatusSerials, TaskManagementFunction, TaskManagementResponseCode,
};

/// RFC 7143, 11.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScsiCommand {
    pub delivery: Delivery,
    pub flags: CommandFlags,
    pub attribute: CommandAttribute,
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    /// In bytes. For a bidirectional command, of the Data-Out part.
    pub expected_data_transfer_length: u32,
    pub serials: CommandSerials,
    /// Padded with zeros.
    pub cdb: [u8; CDB_LENGTH_MAX],
}

/// Byte 1 of a SCSI Command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandFlags {
    /// No unsolicited Data-Out follows.
    pub last: bool,
    /// Data-In is expected.
    pub read: bool,
    /// Data-Out is expected.
    pub write: bool,
}

/// The task attribute (RFC 7143, 11.3.1.1): a field of three bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandAttribute {
    Untagged,
    Scsi(TaskAttribute),
    Aca,
    Other(u8),
}

/// RFC 7143, 11.4. The data segment holds the sense data behind its length in two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScsiResponse {
    pub response: ResponseCode,
    pub status: u8,
    pub initiator_task_tag: InitiatorTaskTag,
    pub serials: StatusSerials,
    /// How many Data-In and R2T PDUs were sent for the command.
    pub exp_data_sn: u32,
    pub residual: ResidualCount,
    /// Of the Data-In part of a bidirectional command.
    pub bidirectional_read_residual: ResidualCount,
}

/// A residual count with its overflow and underflow bits, which exclude each other (RFC 7143, 11.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidualCount {
    pub overflow: bool,
    pub underflow: bool,
    /// In bytes.
    pub count: u32,
}

/// RFC 7143, 11.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagementRequest {
    pub delivery: Delivery,
    pub function: TaskManagementFunction,
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    pub referenced_task_tag: InitiatorTaskTag,
    pub serials: CommandSerials,
    pub ref_cmd_sn: SerialNumber,
    pub exp_data_sn: u32,
}

/// RFC 7143, 11.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagementResponse {
    pub response: TaskManagementResponseCode,
    pub initiator_task_tag: InitiatorTaskTag,
    pub serials: StatusSerials,
}

impl ScsiCommand {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            delivery: header.delivery(),
            flags: CommandFlags {
                last: header.flag(FINAL),
                read: header.flag(READ),
                write: header.flag(WRITE),
            },
            attribute: CommandAttribute::from_bits(header.0[1]),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            expected_data_transfer_length: header.u32_at(20),
            serials: header.command_serials(),
            cdb: header.bytes_at(32),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let flags = if self.flags.last { FINAL } else { 0 }
            | if self.flags.read { READ } else { 0 }
            | if self.flags.write { WRITE } else { 0 }
            | self.attribute.to_bits();
        let mut header = Header::new(Opcode::ScsiCommand, self.delivery, flags);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.expected_data_transfer_length);
        header.set_command_serials(self.serials);
        header.set(32, &self.cdb);
        header
    }
}

impl CommandAttribute {
    fn from_bits(bits: u8) -> Self {
        match bits & 0x07 {
            0 => Self::Untagged,
            1 => Self::Scsi(TaskAttribute::Simple),
            2 => Self::Scsi(TaskAttribute::Ordered),
            3 => Self::Scsi(TaskAttribute::HeadOfQueue),
            4 => Self::Aca,
            other => Self::Other(other),
        }
    }

    fn to_bits(self) -> u8 {
        match self {
            Self::Untagged => 0,
            Self::Scsi(TaskAttribute::Simple) => 1,
            Self::Scsi(TaskAttribute::Ordered) => 2,
            Self::Scsi(TaskAttribute::HeadOfQueue) => 3,
            Self::Aca => 4,
            Self::Other(bits) => bits & 0x07,
        }
    }
}

impl ScsiResponse {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            response: ResponseCode::from(header.0[2]),
            status: header.0[3],
            initiator_task_tag: header.initiator_task_tag(),
            serials: header.status_serials(),
            exp_data_sn: header.u32_at(36),
            bidirectional_read_residual: ResidualCount {
                overflow: header.flag(0x10),
                underflow: header.flag(0x08),
                count: header.u32_at(40),
            },
            residual: ResidualCount::parse(header),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let read = self.bidirectional_read_residual;
        let flags = FINAL
            | if read.overflow { 0x10 } else { 0 }
            | if read.underflow { 0x08 } else { 0 }
            | self.residual.flags();
        let mut header = Header::new(Opcode::ScsiResponse, Delivery::Ordered, flags);
        header.0[2] = self.response.into();
        header.0[3] = self.status;
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_status_serials(self.serials);
        header.set_u32(36, self.exp_data_sn);
        header.set_u32(40, read.count);
        header.set_u32(44, self.residual.count);
        header
    }
}

impl ResidualCount {
    /// From the bits and the count that SCSI Response and Data-In keep in the same places.
    pub(super) fn parse(header: &Header) -> Self {
        Self { overflow: header.flag(OVERFLOW), underflow: header.flag(UNDERFLOW), count: header.u32_at(44) }
    }

    pub(super) const fn flags(self) -> u8 {
        (if self.overflow { OVERFLOW } else { 0 }) | (if self.underflow { UNDERFLOW } else { 0 })
    }
}

impl From<Residual> for ResidualCount {
    fn from(residual: Residual) -> Self {
        match residual {
            Residual::None => Self::default(),
            Residual::Underflow(count) => Self { overflow: false, underflow: true, count },
            Residual::Overflow(count) => Self { overflow: true, underflow: false, count },
        }
    }
}

impl TaskManagementRequest {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            delivery: header.delivery(),
            function: TaskManagementFunction::from(header.0[1] & 0x7f),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            referenced_task_tag: InitiatorTaskTag(header.u32_at(20)),
            serials: header.command_serials(),
            ref_cmd_sn: SerialNumber(header.u32_at(32)),
            exp_data_sn: header.u32_at(36),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let flags = FINAL | u8::from(self.function);
        let mut header = Header::new(Opcode::TaskManagementRequest, self.delivery, flags);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.referenced_task_tag.0);
        header.set_command_serials(self.serials);
        header.set_u32(32, self.ref_cmd_sn.0);
        header.set_u32(36, self.exp_data_sn);
        header
    }
}

impl TaskManagementResponse {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            response: TaskManagementResponseCode::from(header.0[2]),
            initiator_task_tag: header.initiator_task_tag(),
            serials: header.status_serials(),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::TaskManagementResponse, Delivery::Ordered, FINAL);
        header.0[2] = self.response.into();
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_status_serials(self.serials);
        header
    }
}

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;
