//! NOP-Out, NOP-In, Asynchronous Message and Reject (RFC 7143, 11.9, 11.17 to 11.19).

use scsi::Lun;

use super::{
    AsyncEvent, CommandSerials, Delivery, FINAL, Header, InitiatorTaskTag, Opcode, RejectReason,
    StatusSerials, TargetTransferTag,
};

/// RFC 7143, 11.18. The data segment of a ping comes back in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopOut {
    pub delivery: Delivery,
    pub lun: Lun,
    /// None: no answer is asked for.
    pub initiator_task_tag: InitiatorTaskTag,
    /// That of the NOP-In that this answers, else none.
    pub target_transfer_tag: TargetTransferTag,
    pub serials: CommandSerials,
}

/// RFC 7143, 11.19.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopIn {
    pub lun: Lun,
    /// That of the NOP-Out that this answers, else none.
    pub initiator_task_tag: InitiatorTaskTag,
    /// None: no answer is asked for.
    pub target_transfer_tag: TargetTransferTag,
    /// `stat_sn` is used up only by an answer to a NOP-Out.
    pub serials: StatusSerials,
}

/// RFC 7143, 11.9. The data segment of a SCSI event holds sense data behind its length in two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncMessage {
    pub lun: Lun,
    pub serials: StatusSerials,
    pub event: AsyncEvent,
    pub vendor_code: u8,
    pub parameters: [u16; 3],
}

/// RFC 7143, 11.17. The data segment holds the header of the rejected PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    pub reason: RejectReason,
    pub serials: StatusSerials,
    /// DataSN or R2TSN, for a rejected data SNACK.
    pub data_sn: u32,
}

impl NopOut {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            delivery: header.delivery(),
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            serials: header.command_serials(),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::NopOut, self.delivery, FINAL);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_command_serials(self.serials);
        header
    }
}

impl NopIn {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            lun: header.lun(),
            initiator_task_tag: header.initiator_task_tag(),
            target_transfer_tag: header.target_transfer_tag(),
            serials: header.status_serials(),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::NopIn, Delivery::Ordered, FINAL);
        header.set_lun(self.lun);
        header.set_u32(16, self.initiator_task_tag.0);
        header.set_u32(20, self.target_transfer_tag.0);
        header.set_status_serials(self.serials);
        header
    }
}

impl AsyncMessage {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            lun: header.lun(),
            serials: header.status_serials(),
            event: AsyncEvent::from(header.0[36]),
            vendor_code: header.0[37],
            parameters: [header.u16_at(38), header.u16_at(40), header.u16_at(42)],
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::AsyncMessage, Delivery::Ordered, FINAL);
        header.set_lun(self.lun);
        header.set_u32(16, InitiatorTaskTag::NONE.0);
        header.set_status_serials(self.serials);
        header.0[36] = self.event.into();
        header.0[37] = self.vendor_code;
        for (at, parameter) in [38, 40, 42].into_iter().zip(self.parameters) {
            header.set(at, &parameter.to_be_bytes());
        }
        header
    }
}

impl Reject {
    #[must_use]
    pub fn parse(header: &Header) -> Self {
        Self {
            reason: RejectReason::from(header.0[2]),
            serials: header.status_serials(),
            data_sn: header.u32_at(36),
        }
    }

    #[must_use]
    pub fn emit(&self) -> Header {
        let mut header = Header::new(Opcode::Reject, Delivery::Ordered, FINAL);
        header.0[2] = self.reason.into();
        header.set_u32(16, InitiatorTaskTag::NONE.0);
        header.set_status_serials(self.serials);
        header.set_u32(36, self.data_sn);
        header
    }
}
