//! Data-Out, Data-In, Ready To Transfer and SNACK (RFC 7143, 11.7, 11.8 and 11.16).

use scsi::Lun;

use super::{
    Delivery, FINAL, Header, InitiatorTaskTag, Opcode, ResidualCount, SerialNumber, SnackType, StatusSerials,
    TargetTransferTag,
};

/// RFC 7143, 11.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataOut {
    /// The last PDU of its sequence.
    pub last: bool,
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    /// The R2T that asked for the data; none for unsolicited data.
    pub target_transfer_tag: TargetTransferTag,
    pub exp_stat_sn: SerialNumber,
    pub data_sn: u32,
    /// In bytes.
    pub buffer_offset: u32,
}

/// RFC 7143, 11.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataIn {
    /// The last PDU of its sequence.
    pub last: bool,
    /// Asks for a SNACK that acknowledges the data; only above ErrorRecoveryLevel 0.
    pub acknowledge: bool,
    /// The status, if this PDU carries it.
    pub status: Option<DataInStatus>,
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    pub target_transfer_tag: TargetTransferTag,
    /// `stat_sn` counts only when the PDU carries a status.
    pub serials: StatusSerials,
    pub data_sn: u32,
    /// In bytes.
    pub buffer_offset: u32,
}

/// The status that a last Data-In carries, in place of a SCSI Response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataInStatus {
    pub status: u8,
    pub residual: ResidualCount,
}

/// RFC 7143, 11.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyToTransfer {
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    pub target_transfer_tag: TargetTransferTag,
    /// `stat_sn` is the next one that will be used; an R2T does not use it up.
    pub serials: StatusSerials,
    pub r2t_sn: u32,
    /// In bytes.
    pub buffer_offset: u32,
    /// In bytes.
    pub desired_data_transfer_length: u32,
}

/// RFC 7143, 11.16. Parsed so that it can be refused: it has no use at ErrorRecoveryLevel 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snack {
    pub kind: SnackType,
    pub lun: Lun,
    pub initiator_task_tag: InitiatorTaskTag,
    pub target_transfer_tag: TargetTransferTag,
    pub exp_stat_sn: SerialNumber,
    pub begin_run: u32,
    pub run_length: u32,
}

impl DataOut {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            last: header.flag(FINAL),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            exp_stat_sn: SerialNumber(header.u32_at(28)),
            data_sn: header.u32_at(36),
            buffer_offset: header.u32_at(40),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let flags = if self.last { FINAL } else { 0 };
        let mut header = Header::new(Opcode::DataOut, Delivery::Ordered, flags);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_u32(28, self.exp_stat_sn.0);
        header.set_u32(36, self.data_sn);
        header.set_u32(40, self.buffer_offset);
        header
    }
}

impl DataIn {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        let status = header
            .flag(STATUS)
            .then(|| DataInStatus { status: header.0[3], residual: ResidualCount::parse(header) });
        Self {
            last: header.flag(FINAL),
            acknowledge: header.flag(ACKNOWLEDGE),
            status,
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            serials: header.status_serials(),
            data_sn: header.u32_at(36),
            buffer_offset: header.u32_at(40),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let flags = if self.last { FINAL } else { 0 } | if self.acknowledge { ACKNOWLEDGE } else { 0 };
        let mut header = Header::new(Opcode::DataIn, Delivery::Ordered, flags);
        if let Some(DataInStatus { status, residual }) = self.status {
            header.0[1] |= STATUS | residual.flags();
            header.0[3] = status;
            header.set_u32(44, residual.count);
        }
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_status_serials(self.serials);
        header.set_u32(36, self.data_sn);
        header.set_u32(40, self.buffer_offset);
        header
    }
}

impl ReadyToTransfer {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            serials: header.status_serials(),
            r2t_sn: header.u32_at(36),
            buffer_offset: header.u32_at(40),
            desired_data_transfer_length: header.u32_at(44),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::ReadyToTransfer, Delivery::Ordered, FINAL);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_status_serials(self.serials);
        header.set_u32(36, self.r2t_sn);
        header.set_u32(40, self.buffer_offset);
        header.set_u32(44, self.desired_data_transfer_length);
        header
    }
}

impl Snack {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            kind: SnackType::from(header.0[1] & 0x0f),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            exp_stat_sn: SerialNumber(header.u32_at(28)),
            begin_run: header.u32_at(40),
            run_length: header.u32_at(44),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let flags = FINAL | u8::from(self.kind) & 0x0f;
        let mut header = Header::new(Opcode::Snack, Delivery::Ordered, flags);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_u32(28, self.exp_stat_sn.0);
        header.set_u32(40, self.begin_run);
        header.set_u32(44, self.run_length);
        header
    }
}

const ACKNOWLEDGE: u8 = 0x40;
const STATUS: u8 = 0x01;
