//! PDU headers (RFC 7143, section 11): every PDU as a small struct with `parse` and `emit`.
//!
//! Parsing a header cannot fail: an unknown opcode or code survives as it came, and what a value means in a
//! given state is for the sessions to judge. Lengths of the segments stay in the [`Header`], because only the
//! sender knows them and only the framer needs them.

mod codes;
mod command;
mod data;
mod link;
mod login;

pub use codes::*;
pub use command::{
    CommandAttribute, CommandFlags, ResidualCount, ScsiCommand, ScsiResponse, TaskManagementRequest,
    TaskManagementResponse,
};
pub use data::{DataIn, DataInStatus, DataOut, ReadyToTransfer, Snack};
pub use link::{AsyncMessage, NopIn, NopOut, Reject};
pub use login::{
    LoginRequest, LoginResponse, LoginStages, LogoutRequest, LogoutResponse, TextRequest, TextResponse,
};

use scsi::Lun;

/// The basic header segment (RFC 7143, 11.2.1), in bytes.
pub const HEADER_LENGTH: usize = 48;
/// A header or data digest (RFC 7143, 11.2.3), in bytes.
pub const DIGEST_LENGTH: usize = 4;
/// Additional header segments: their total is one byte that counts four-byte words.
pub const AHS_LENGTH_MAX: usize = 255 * 4;
/// DataSegmentLength is a field of 24 bits.
pub const DATA_SEGMENT_LENGTH_MAX: u32 = (1 << 24) - 1;

/// A basic header segment as bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; HEADER_LENGTH]);

/// Initiator task tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InitiatorTaskTag(pub u32);

/// Target transfer tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetTransferTag(pub u32);

/// The initiator part of the session identifier (RFC 7143, 11.12.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isid(pub [u8; 6]);

/// A serial number (CmdSN, StatSN): compared modulo 2^32 (RFC 1982, as RFC 7143, 4.2.2.1 asks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SerialNumber(pub u32);

/// What every PDU of an initiator says about numbering, except Data-Out and SNACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandSerials {
    pub cmd_sn: SerialNumber,
    pub exp_stat_sn: SerialNumber,
}

/// What every PDU of a target says about numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusSerials {
    pub stat_sn: SerialNumber,
    pub exp_cmd_sn: SerialNumber,
    pub max_cmd_sn: SerialNumber,
}

/// Whether a request is delivered outside of the order of CmdSN (RFC 7143, 4.2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Ordered,
    Immediate,
}

/// Any PDU's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdu {
    NopOut(NopOut),
    ScsiCommand(ScsiCommand),
    TaskManagementRequest(TaskManagementRequest),
    LoginRequest(LoginRequest),
    TextRequest(TextRequest),
    DataOut(DataOut),
    LogoutRequest(LogoutRequest),
    Snack(Snack),
    NopIn(NopIn),
    ScsiResponse(ScsiResponse),
    TaskManagementResponse(TaskManagementResponse),
    LoginResponse(LoginResponse),
    TextResponse(TextResponse),
    DataIn(DataIn),
    LogoutResponse(LogoutResponse),
    ReadyToTransfer(ReadyToTransfer),
    AsyncMessage(AsyncMessage),
    Reject(Reject),
    /// Vendor specific or reserved.
    Unknown(Header),
}

impl Pdu {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        match header.opcode() {
            Opcode::NopOut => Self::NopOut(NopOut::parse(header)),
            Opcode::ScsiCommand => Self::ScsiCommand(ScsiCommand::parse(header)),
            Opcode::TaskManagementRequest => {
                Self::TaskManagementRequest(TaskManagementRequest::parse(header))
            }
            Opcode::LoginRequest => Self::LoginRequest(LoginRequest::parse(header)),
            Opcode::TextRequest => Self::TextRequest(TextRequest::parse(header)),
            Opcode::DataOut => Self::DataOut(DataOut::parse(header)),
            Opcode::LogoutRequest => Self::LogoutRequest(LogoutRequest::parse(header)),
            Opcode::Snack => Self::Snack(Snack::parse(header)),
            Opcode::NopIn => Self::NopIn(NopIn::parse(header)),
            Opcode::ScsiResponse => Self::ScsiResponse(ScsiResponse::parse(header)),
            Opcode::TaskManagementResponse => {
                Self::TaskManagementResponse(TaskManagementResponse::parse(header))
            }
            Opcode::LoginResponse => Self::LoginResponse(LoginResponse::parse(header)),
            Opcode::TextResponse => Self::TextResponse(TextResponse::parse(header)),
            Opcode::DataIn => Self::DataIn(DataIn::parse(header)),
            Opcode::LogoutResponse => Self::LogoutResponse(LogoutResponse::parse(header)),
            Opcode::ReadyToTransfer => Self::ReadyToTransfer(ReadyToTransfer::parse(header)),
            Opcode::AsyncMessage => Self::AsyncMessage(AsyncMessage::parse(header)),
            Opcode::Reject => Self::Reject(Reject::parse(header)),
            Opcode::Other(_) => Self::Unknown(*header),
        }
    }

    /// The header, with both segment lengths zero.
    #[must_use]
    pub fn emit(&self) -> Header {
        match self {
            Self::NopOut(pdu) => pdu.emit(),
            Self::ScsiCommand(pdu) => pdu.emit(),
            Self::TaskManagementRequest(pdu) => pdu.emit(),
            Self::LoginRequest(pdu) => pdu.emit(),
            Self::TextRequest(pdu) => pdu.emit(),
            Self::DataOut(pdu) => pdu.emit(),
            Self::LogoutRequest(pdu) => pdu.emit(),
            Self::Snack(pdu) => pdu.emit(),
            Self::NopIn(pdu) => pdu.emit(),
            Self::ScsiResponse(pdu) => pdu.emit(),
            Self::TaskManagementResponse(pdu) => pdu.emit(),
            Self::LoginResponse(pdu) => pdu.emit(),
            Self::TextResponse(pdu) => pdu.emit(),
            Self::DataIn(pdu) => pdu.emit(),
            Self::LogoutResponse(pdu) => pdu.emit(),
            Self::ReadyToTransfer(pdu) => pdu.emit(),
            Self::AsyncMessage(pdu) => pdu.emit(),
            Self::Reject(pdu) => pdu.emit(),
            Self::Unknown(header) => *header,
        }
    }
}

impl Header {
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        Opcode::from(self.0[0] & 0x3f)
    }

    #[must_use]
    pub fn delivery(&self) -> Delivery {
        if self.0[0] & IMMEDIATE == 0 { Delivery::Ordered } else { Delivery::Immediate }
    }

    /// The length of the additional header segments, in bytes.
    #[must_use]
    pub fn ahs_length(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// The length of the data segment without its padding, in bytes.
    #[must_use]
    pub fn data_length(&self) -> u32 {
        self.u32_at(4) & DATA_SEGMENT_LENGTH_MAX
    }

    /// The same header, announcing a data segment of `length` bytes.
    ///
    /// # Panics
    /// If the length does not fit 24 bits: negotiated limits are below that.
    #[must_use]
    pub fn with_data_length(mut self, length: u32) -> Self {
        assert!(length <= DATA_SEGMENT_LENGTH_MAX, "a data segment is shorter than 16 MiB");
        self.0[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
        self
    }

    #[must_use]
    pub fn initiator_task_tag(&self) -> InitiatorTaskTag {
        InitiatorTaskTag(self.u32_at(16))
    }

    fn new(opcode: Opcode, delivery: Delivery, flags: u8) -> Self {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0] = u8::from(opcode) | if delivery == Delivery::Immediate { IMMEDIATE } else { 0 };
        bytes[1] = flags;
        Self(bytes)
    }

    fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|i| self.0[at + i])
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_be_bytes());
    }

    fn lun(&self) -> Lun {
        Lun(self.bytes_at(8))
    }

    fn set_lun(&mut self, lun: Lun) {
        self.set(8, &lun.0);
    }

    fn flag(&self, mask: u8) -> bool {
        self.0[1] & mask != 0
    }

    fn target_transfer_tag(&self) -> TargetTransferTag {
        TargetTransferTag(self.u32_at(20))
    }

    fn command_serials(&self) -> CommandSerials {
        CommandSerials { cmd_sn: SerialNumber(self.u32_at(24)), exp_stat_sn: SerialNumber(self.u32_at(28)) }
    }

    fn set_command_serials(&mut self, serials: CommandSerials) {
        self.set_u32(24, serials.cmd_sn.0);
        self.set_u32(28, serials.exp_stat_sn.0);
    }

    fn status_serials(&self) -> StatusSerials {
        StatusSerials {
            stat_sn: SerialNumber(self.u32_at(24)),
            exp_cmd_sn: SerialNumber(self.u32_at(28)),
            max_cmd_sn: SerialNumber(self.u32_at(32)),
        }
    }

    fn set_status_serials(&mut self, serials: StatusSerials) {
        self.set_u32(24, serials.stat_sn.0);
        self.set_u32(28, serials.exp_cmd_sn.0);
        self.set_u32(32, serials.max_cmd_sn.0);
    }
}

impl core::fmt::Debug for Header {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Header({:?}", self.opcode())?;
        for word in self.0.chunks_exact(4) {
            write!(f, " {:02x}{:02x}{:02x}{:02x}", word[0], word[1], word[2], word[3])?;
        }
        write!(f, ")")
    }
}

impl InitiatorTaskTag {
    /// Names no task.
    pub const NONE: Self = Self(0xffff_ffff);
}

impl TargetTransferTag {
    /// Names no transfer.
    pub const NONE: Self = Self(0xffff_ffff);
}

impl SerialNumber {
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    #[must_use]
    pub const fn advanced_by(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Whether `self` comes before `other`. Numbers exactly 2^31 apart do not precede each other.
    #[must_use]
    pub const fn precedes(self, other: Self) -> bool {
        let distance = other.0.wrapping_sub(self.0);
        distance != 0 && distance < 1 << 31
    }

    /// How many steps lead from `earlier` to `self`; zero if it does not precede `self`.
    #[must_use]
    pub const fn steps_since(self, earlier: Self) -> u32 {
        if earlier.precedes(self) { self.0.wrapping_sub(earlier.0) } else { 0 }
    }
}

/// How many bytes pad a segment of `length` bytes to a multiple of four (RFC 7143, 11.2.1).
#[must_use]
pub const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// The I bit of byte 0.
const IMMEDIATE: u8 = 0x40;
/// The F bit of byte 1 (the T bit of a login).
const FINAL: u8 = 0x80;
/// The C bit of a text or login PDU.
const CONTINUE: u8 = 0x40;

#[cfg(test)]
mod tests;
