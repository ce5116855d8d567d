//! Commands and their data: SCSI Command, Data-Out, Data-In, R2T and SCSI Response.

use scsi::{Ending, Reply, Residual, SenseData, Status, Transfer};

use super::commands::{Lookup, Slot, Stage};
use super::error::{Misbehaviour, Reason};
use super::{Owner, Session};
use crate::pdu::{
    CommandAttribute, CommandFlags, DataIn, DataOut, Delivery, Header, Opcode, ReadyToTransfer,
    ResidualCount, ResponseCode, ScsiCommand, ScsiResponse, SerialNumber, TargetTransferTag,
};
use crate::stream::Destination;

/// While so many bytes are queued, no more Data-Out is added: enough to keep a socket busy, and little enough
/// that a command behind it does not wait long.
const QUEUED_BYTES_ENOUGH: usize = 512 << 10;

/// Data-Out that was asked for, or that goes unasked, and is not queued yet.
#[derive(Debug)]
pub(super) struct Burst {
    slot: Slot,
    target_transfer_tag: TargetTransferTag,
    data_sn: u32,
    /// In bytes from the start of the command's data.
    offset: u32,
    end: u32,
}

/// What part of a command's data goes without an R2T, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unasked {
    /// With the command.
    immediate: u32,
    /// Behind it.
    unsolicited: u32,
}

impl<C> Session<C> {
    /// Sends the commands that the window has room for.
    pub(super) fn issue_commands(&mut self) {
        while let Some(&slot) = self.waiting.front()
            && let Some(cmd_sn) = self.numbering.take_cmd_sn()
        {
            self.waiting.pop_front();
            self.issue_command(slot, cmd_sn);
        }
    }

    /// Queues Data-Out for as long as the queue is short.
    pub(super) fn queue_data_out(&mut self) {
        while self.outgoing.bytes() < QUEUED_BYTES_ENOUGH
            && let Some(burst) = self.bursts.front_mut()
        {
            let entry = self.commands.entry_mut(burst.slot);
            let length = (burst.end - burst.offset).min(self.negotiated.max_send_data_segment_length);
            let range = burst.offset as usize..(burst.offset + length) as usize;
            let last = burst.offset + length == burst.end;
            let pdu = DataOut {
                last,
                lun: entry.lun,
                initiator_task_tag: entry.tag,
                target_transfer_tag: burst.target_transfer_tag,
                exp_stat_sn: self.numbering.serials().exp_stat_sn,
                data_sn: burst.data_sn,
                buffer_offset: burst.offset,
            };
            entry.queued += 1;
            if last {
                entry.bursts -= 1;
                if burst.target_transfer_tag != TargetTransferTag::NONE {
                    entry.r2t_outstanding -= 1;
                }
            }
            burst.offset += length;
            burst.data_sn = burst.data_sn.wrapping_add(1);
            let slot = burst.slot;
            self.outgoing.push_lent(pdu.emit(), Owner::Command(slot), self.commands.data(slot), range);
            if last {
                self.bursts.pop_front();
            }
        }
    }

    /// Where the data of a Data-In go.
    pub(super) fn place_data_in(&self, header: &Header) -> Result<Destination<Slot>, Reason> {
        let pdu = DataIn::parse(header);
        match self.commands.find(pdu.initiator_task_tag) {
            Lookup::Found(slot) => {
                self.check_data_in(slot, &pdu, header.data_length())?;
                Ok(Destination::Lent { owner: slot, offset: pdu.buffer_offset as usize })
            }
            Lookup::Aborted => Ok(Destination::Own),
            Lookup::Unknown => Err(unknown(header)),
        }
    }

    pub(super) fn handle_data_in(&mut self, header: &Header) -> Result<(), Reason> {
        let pdu = DataIn::parse(header);
        self.numbering.update_window(pdu.serials);
        if pdu.status.is_some() {
            self.numbering.take_stat_sn(pdu.serials.stat_sn)?;
        }
        let slot = match self.commands.find(pdu.initiator_task_tag) {
            Lookup::Found(slot) => slot,
            Lookup::Aborted => return Ok(()),
            Lookup::Unknown => return Err(unknown(header)),
        };
        self.check_data_in(slot, &pdu, header.data_length())?;
        let entry = self.commands.entry_mut(slot);
        entry.data_sn = entry.data_sn.wrapping_add(1);
        entry.moved += header.data_length();
        if let Some(status) = pdu.status {
            let reply = self.reply(slot, status.status, status.residual, None);
            self.end_command(slot, Ending::Reply(reply));
        }
        Ok(())
    }

    pub(super) fn handle_ready_to_transfer(&mut self, header: &Header) -> Result<(), Reason> {
        let pdu = ReadyToTransfer::parse(header);
        self.numbering.update_window(pdu.serials);
        let slot = match self.commands.find(pdu.initiator_task_tag) {
            Lookup::Found(slot) => slot,
            Lookup::Aborted => return Ok(()),
            Lookup::Unknown => return Err(unknown(header)),
        };
        self.check_ready_to_transfer(slot, &pdu)?;
        let end = pdu.buffer_offset + pdu.desired_data_transfer_length;
        let entry = self.commands.entry_mut(slot);
        entry.data_sn = entry.data_sn.wrapping_add(1);
        entry.r2t_outstanding += 1;
        entry.bursts += 1;
        entry.moved = entry.moved.max(end);
        self.bursts.push_back(Burst {
            slot,
            target_transfer_tag: pdu.target_transfer_tag,
            data_sn: 0,
            offset: pdu.buffer_offset,
            end,
        });
        Ok(())
    }

    pub(super) fn handle_scsi_response(&mut self, header: &Header) -> Result<(), Reason> {
        let pdu = ScsiResponse::parse(header);
        self.numbering.update_window(pdu.serials);
        self.numbering.take_stat_sn(pdu.serials.stat_sn)?;
        let slot = match self.commands.find(pdu.initiator_task_tag) {
            Lookup::Found(slot) => slot,
            Lookup::Aborted => return Ok(()),
            Lookup::Unknown => return Err(unknown(header)),
        };
        if !self.commands.entry(slot).begun {
            return Err(Misbehaviour::AnsweredUnsent(Opcode::ScsiResponse).into());
        }
        let ending = match pdu.response {
            ResponseCode::CompletedAtTarget => {
                let sense = sense_of(self.incoming.data());
                Ending::Reply(self.reply(slot, pdu.status, pdu.residual, sense))
            }
            ResponseCode::TargetFailure | ResponseCode::Other(_) => Ending::TargetFailure,
        };
        self.end_command(slot, ending);
        Ok(())
    }

    /// Ends a command, once its bytes have left. Data-Out that is not queued yet stays here: a target that has
    /// answered does not want it (RFC 7143, 11.4.2: it answers after the last sequence that it asked for).
    pub(super) fn end_command(&mut self, slot: Slot, ending: Ending) {
        if self.commands.entry(slot).bursts > 0 {
            self.bursts.retain(|burst| burst.slot != slot);
        }
        self.commands.end(slot, ending);
        if let Some((command, ending)) = self.commands.take_ended(slot) {
            self.actions.push_back(super::Action::Ended { command, ending });
        }
    }

    fn issue_command(&mut self, slot: Slot, cmd_sn: SerialNumber) {
        let transfer = self.commands.command(slot).transfer;
        let unasked = self.unasked(transfer);
        let (cdb, attribute) = {
            let command = self.commands.command(slot);
            (*command.cdb.padded(), CommandAttribute::Scsi(command.attribute))
        };
        let entry = self.commands.entry_mut(slot);
        entry.stage = Stage::Issued;
        entry.cmd_sn = cmd_sn;
        entry.queued = 1;
        let (immediate, end) = (unasked.immediate, unasked.immediate + unasked.unsolicited);
        let mut serials = self.numbering.serials();
        serials.cmd_sn = cmd_sn;
        let header = ScsiCommand {
            delivery: Delivery::Ordered,
            flags: CommandFlags {
                last: unasked.unsolicited == 0,
                read: matches!(transfer, Transfer::FromDevice { length: 1.., .. }),
                write: matches!(transfer, Transfer::ToDevice { length: 1.., .. }),
            },
            attribute,
            lun: entry.lun,
            initiator_task_tag: entry.tag,
            expected_data_transfer_length: transfer.length(),
            serials,
            cdb,
        }
        .emit();
        if unasked.unsolicited > 0 {
            entry.bursts = 1;
            let target_transfer_tag = TargetTransferTag::NONE;
            self.bursts.push_back(Burst { slot, target_transfer_tag, data_sn: 0, offset: immediate, end });
        }
        if let Transfer::ToDevice { .. } = transfer {
            entry.moved = end;
        }
        entry.data_begun = immediate > 0;
        let owner = Owner::Command(slot);
        if immediate == 0 {
            self.outgoing.push(header, Some(owner));
        } else {
            self.outgoing.push_lent(header, owner, self.commands.data(slot), 0..immediate as usize);
        }
    }

    /// RFC 7143, 13.10, 13.11 and 13.14.
    fn unasked(&self, transfer: Transfer) -> Unasked {
        let Transfer::ToDevice { length, .. } = transfer else {
            return Unasked { immediate: 0, unsolicited: 0 };
        };
        let agreed = &self.negotiated;
        let first_burst = length.min(agreed.first_burst_length);
        let immediate =
            if agreed.immediate_data { first_burst.min(agreed.max_send_data_segment_length) } else { 0 };
        let unsolicited = if agreed.initial_r2t { 0 } else { first_burst - immediate };
        Unasked { immediate, unsolicited }
    }

    fn check_data_in(&self, slot: Slot, pdu: &DataIn, length: u32) -> Result<(), Misbehaviour> {
        let (entry, transfer) = (self.commands.entry(slot), self.commands.command(slot).transfer);
        if !entry.begun {
            return Err(Misbehaviour::AnsweredUnsent(Opcode::DataIn));
        }
        let Transfer::FromDevice { length: expected, .. } = transfer else {
            return Err(Misbehaviour::UnwantedData);
        };
        if pdu.data_sn != entry.data_sn {
            return Err(Misbehaviour::DataGap { expected: entry.data_sn, got: pdu.data_sn });
        }
        check_range(pdu.buffer_offset, length, expected)?;
        // DataPDUInOrder and DataSequenceInOrder are always Yes.
        if pdu.buffer_offset != entry.moved {
            return Err(Misbehaviour::OutOfOrder { expected: entry.moved, got: pdu.buffer_offset });
        }
        Ok(())
    }

    fn check_ready_to_transfer(&self, slot: Slot, pdu: &ReadyToTransfer) -> Result<(), Misbehaviour> {
        let (entry, transfer) = (self.commands.entry(slot), self.commands.command(slot).transfer);
        let (length, agreed) = (pdu.desired_data_transfer_length, &self.negotiated);
        if !entry.begun {
            return Err(Misbehaviour::AnsweredUnsent(Opcode::ReadyToTransfer));
        }
        let Transfer::ToDevice { length: expected, .. } = transfer else {
            return Err(Misbehaviour::UnwantedR2t);
        };
        if pdu.r2t_sn != entry.data_sn {
            return Err(Misbehaviour::DataGap { expected: entry.data_sn, got: pdu.r2t_sn });
        }
        if length == 0 {
            return Err(Misbehaviour::EmptyR2t);
        }
        if length > agreed.max_burst_length {
            return Err(Misbehaviour::R2tTooLong { length, max: agreed.max_burst_length });
        }
        if entry.r2t_outstanding >= agreed.max_outstanding_r2t {
            return Err(Misbehaviour::TooManyR2t { max: agreed.max_outstanding_r2t });
        }
        check_range(pdu.buffer_offset, length, expected)
    }

    fn reply(&self, slot: Slot, status: u8, residual: ResidualCount, sense: Option<Box<SenseData>>) -> Reply {
        let status = Status::from(status);
        let expected = self.commands.command(slot).transfer.length();
        let missing = expected - self.commands.entry(slot).moved.min(expected);
        let said = match residual {
            ResidualCount { overflow: true, count, .. } => Residual::Overflow(count),
            ResidualCount { underflow: true, count, .. } if count > 0 => Residual::Underflow(count),
            _ => Residual::None,
        };
        // Nobody may take memory for read data that no data came into, whatever the target says.
        let residual = match said {
            Residual::None if status == Status::Good && missing > 0 => Residual::Underflow(missing),
            Residual::Underflow(count) if status == Status::Good && count < missing => {
                Residual::Underflow(missing)
            }
            said => said,
        };
        Reply { status, sense, residual }
    }
}

/// Sense data behind its length in two bytes (RFC 7143, 11.4.7), as much of it as there is.
pub(super) fn sense_of(data: &[u8]) -> Option<Box<SenseData>> {
    let (length, sense) = data.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let sense = &sense[..length.min(sense.len())];
    (!sense.is_empty()).then(|| Box::new(SenseData::new(sense)))
}

fn check_range(offset: u32, length: u32, expected: u32) -> Result<(), Misbehaviour> {
    match offset.checked_add(length) {
        Some(end) if end <= expected => Ok(()),
        _ => Err(Misbehaviour::BeyondExpected { offset, length, expected }),
    }
}

fn unknown(header: &Header) -> Reason {
    Misbehaviour::UnknownTask { opcode: header.opcode(), tag: header.initiator_task_tag() }.into()
}
