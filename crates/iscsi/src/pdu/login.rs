//! Login, Text and Logout (RFC 7143, 11.10 to 11.15).

use scsi::Lun;

use super::{
    CONTINUE, CommandSerials, Delivery, FINAL, Header, InitiatorTaskTag, Isid, LoginStatus, LogoutReason,
    LogoutResponseCode, Opcode, Stage, StatusSerials, TargetTransferTag,
};

/// RFC 7143, 11.12. The data segment holds text. Always an immediate request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRequest {
    pub stages: LoginStages,
    pub version_max: u8,
    pub version_min: u8,
    pub isid: Isid,
    /// Zero asks for a new session.
    pub tsih: u16,
    pub initiator_task_tag: InitiatorTaskTag,
    pub connection_id: u16,
    pub serials: CommandSerials,
}

/// Byte 1 of a login request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginStages {
    /// The sender is ready to go to the next stage.
    pub transit: bool,
    /// The text goes on in the next PDU.
    pub more: bool,
    pub current: Stage,
    /// Means something only with `transit`.
    pub next: Stage,
}

/// RFC 7143, 11.13. The data segment holds text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginResponse {
    pub stages: LoginStages,
    pub version_max: u8,
    pub version_active: u8,
    pub isid: Isid,
    pub tsih: u16,
    pub initiator_task_tag: InitiatorTaskTag,
    pub serials: StatusSerials,
    pub status: LoginStatus,
}

/// RFC 7143, 11.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextRequest {
    pub delivery: Delivery,
    pub last: bool,
    /// The text goes on in the next PDU.
    pub more: bool,
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    pub target_transfer_tag: TargetTransferTag,
    pub serials: CommandSerials,
}

/// RFC 7143, 11.11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextResponse {
    pub last: bool,
    /// The text goes on in the next PDU.
    pub more: bool,
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    pub target_transfer_tag: TargetTransferTag,
    pub serials: StatusSerials,
}

/// RFC 7143, 11.14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogoutRequest {
    pub delivery: Delivery,
    pub reason: LogoutReason,
    pub initiator_task_tag: InitiatorTaskTag,
    pub connection_id: u16,
    pub serials: CommandSerials,
}

/// RFC 7143, 11.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogoutResponse {
    pub response: LogoutResponseCode,
    pub initiator_task_tag: InitiatorTaskTag,
    pub serials: StatusSerials,
    /// In seconds.
    pub time2wait: u16,
    /// In seconds.
    pub time2retain: u16,
}

impl LoginRequest {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            stages: LoginStages::from_byte(header.0[1]),
            version_max: header.0[2],
            version_min: header.0[3],
            isid: Isid(header.bytes_at(8)),
            tsih: header.u16_at(14),
            initiator_task_tag: header.initiator_task_tag(),
            connection_id: header.u16_at(20),
            serials: header.command_serials(),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::LoginRequest, Delivery::Immediate, self.stages.to_byte());
        header.0[2] = self.version_max;
        header.0[3] = self.version_min;
        header.set(8, &self.isid.0);
        header.set(14, &self.tsih.to_be_bytes());
        header.set_u32(16, self.initiator_task_tag.0);
        header.set(20, &self.connection_id.to_be_bytes());
        header.set_command_serials(self.serials);
        header
    }
}

impl LoginStages {
    fn from_byte(byte: u8) -> Self {
        Self {
            transit: byte & FINAL != 0,
            more: byte & CONTINUE != 0,
            current: Stage::from(byte >> 2 & 0x03),
            next: Stage::from(byte & 0x03),
        }
    }

    fn to_byte(self) -> u8 {
        (if self.transit { FINAL } else { 0 })
            | (if self.more { CONTINUE } else { 0 })
            | (u8::from(self.current) & 0x03) << 2
            | u8::from(self.next) & 0x03
    }
}

impl LoginResponse {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            stages: LoginStages::from_byte(header.0[1]),
            version_max: header.0[2],
            version_active: header.0[3],
            isid: Isid(header.bytes_at(8)),
            tsih: header.u16_at(14),
            initiator_task_tag: header.initiator_task_tag(),
            serials: header.status_serials(),
            status: LoginStatus::from_wire(header.0[36], header.0[37]),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::LoginResponse, Delivery::Ordered, self.stages.to_byte());
        header.0[2] = self.version_max;
        header.0[3] = self.version_active;
        header.set(8, &self.isid.0);
        header.set(14, &self.tsih.to_be_bytes());
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_status_serials(self.serials);
        let (class, detail) = self.status.to_wire();
        header.set(36, &[class, detail]);
        header
    }
}

impl TextRequest {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            delivery: header.delivery(),
            last: header.flag(FINAL),
            more: header.flag(CONTINUE),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            serials: header.command_serials(),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::TextRequest, self.delivery, text_flags(self.last, self.more));
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_command_serials(self.serials);
        header
    }
}

impl TextResponse {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            last: header.flag(FINAL),
            more: header.flag(CONTINUE),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            serials: header.status_serials(),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let flags = text_flags(self.last, self.more);
        let mut header = Header::new(Opcode::TextResponse, Delivery::Ordered, flags);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_status_serials(self.serials);
        header
    }
}

impl LogoutRequest {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            delivery: header.delivery(),
            reason: LogoutReason::from(header.0[1] & 0x7f),
            initiator_task_tag: header.initiator_task_tag(),
            connection_id: header.u16_at(20),
            serials: header.command_serials(),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let flags = FINAL | u8::from(self.reason) & 0x7f;
        let mut header = Header::new(Opcode::LogoutRequest, self.delivery, flags);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set(20, &self.connection_id.to_be_bytes());
        header.set_command_serials(self.serials);
        header
    }
}

impl LogoutResponse {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            response: LogoutResponseCode::from(header.0[2]),
            initiator_task_tag: header.initiator_task_tag(),
            serials: header.status_serials(),
            time2wait: header.u16_at(40),
            time2retain: header.u16_at(42),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::LogoutResponse, Delivery::Ordered, FINAL);
        header.0[2] = self.response.into();
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_status_serials(self.serials);
        header.set(40, &self.time2wait.to_be_bytes());
        header.set(42, &self.time2retain.to_be_bytes());
        header
    }
}

fn text_flags(last: bool, more: bool) -> u8 {
    (if last { FINAL } else { 0 }) | (if more { CONTINUE } else { 0 })
}
