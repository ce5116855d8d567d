//! SCSI commands: from the PDU to the device server, and the window that bounds them (RFC 7143, 4.2.2.1).

use block::Buffer;
use scsi::{CdbBytes, Reply, SenseData, Status, TaskAttribute};

use super::data::{DataError, Gather, transfer_tag};
use super::reply::{Answer, Queued};
use super::session::{Kind, Session, Sink};
use super::tasks::{Slot, State, Task};
use super::{
    Action, Command, DATA_OUT_MAX, Direction, IMMEDIATE_COMMANDS_MAX, QUEUE_DEPTH, SESSION_DATA_OUT_MAX,
};
use crate::pdu::{
    CommandAttribute, DataOut, Delivery, Header, ReadyToTransfer, RejectReason, ScsiCommand, SerialNumber,
    StatusSerials,
};

/// The three counters that every PDU of a target carries.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) stat_sn: SerialNumber,
    pub(super) exp_cmd_sn: SerialNumber,
    pub(super) max_cmd_sn: SerialNumber,
    /// Numbers beyond `exp_cmd_sn` that have come, or that ABORT TASK made count as come.
    ahead: Vec<SerialNumber>,
}

/// What the CmdSN of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one, or immediate.
    Now,
    /// Within the window, after a gap.
    Ahead,
    /// A duplicate, or outside of the window: to be ignored silently.
    Ignored,
}

/// Why the session answers a command itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Both directions at once, or a CDB of more than 16 bytes.
    NotSupported,
    /// More Data-Out than [`DATA_OUT_MAX`].
    TooLong,
    /// More Data-Out than the session may hold.
    Full,
    Data(DataError),
}

impl Numbers {
    /// `cmd_sn` is that of the first login request: the first command has the same.
    pub(super) fn new(cmd_sn: SerialNumber) -> Self {
        let max_cmd_sn = SerialNumber(cmd_sn.0.wrapping_sub(1));
        Self { stat_sn: SerialNumber(1), exp_cmd_sn: cmd_sn, max_cmd_sn, ahead: Vec::new() }
    }

    pub(super) const fn current(&self) -> StatusSerials {
        StatusSerials { stat_sn: self.stat_sn, exp_cmd_sn: self.exp_cmd_sn, max_cmd_sn: self.max_cmd_sn }
    }

    /// For a PDU that uses up its StatSN.
    pub(super) const fn for_status(&mut self) -> StatusSerials {
        let serials = self.current();
        self.stat_sn = self.stat_sn.next();
        serials
    }

    /// Lets the initiator send `free` more commands; what was once allowed stays allowed.
    fn open(&mut self, free: usize) {
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        let candidate = SerialNumber(self.exp_cmd_sn.0.wrapping_add(free).wrapping_sub(1));
        if self.max_cmd_sn.precedes(candidate) {
            self.max_cmd_sn = candidate;
        }
    }

    pub(super) fn is_ahead(&self, cmd_sn: SerialNumber) -> bool {
        self.ahead.contains(&cmd_sn)
    }

    pub(super) fn arrival(&self, delivery: Delivery, cmd_sn: SerialNumber) -> Arrival {
        if delivery == Delivery::Immediate {
            return Arrival::Now;
        }
        if self.max_cmd_sn.precedes(cmd_sn) || cmd_sn.precedes(self.exp_cmd_sn) || self.is_ahead(cmd_sn) {
            return Arrival::Ignored;
        }
        if cmd_sn == self.exp_cmd_sn { Arrival::Now } else { Arrival::Ahead }
    }

    /// Takes note of a request that was not ignored, or that is not to be waited for any more.
    pub(super) fn arrived(&mut self, delivery: Delivery, cmd_sn: SerialNumber) {
        if delivery == Delivery::Immediate {
            return;
        }
        if cmd_sn != self.exp_cmd_sn {
            self.ahead.push(cmd_sn);
            return;
        }
        self.exp_cmd_sn = cmd_sn.next();
        while let Some(index) = self.ahead.iter().position(|&cmd_sn| cmd_sn == self.exp_cmd_sn) {
            self.ahead.swap_remove(index);
            self.exp_cmd_sn = self.exp_cmd_sn.next();
        }
    }
}

impl Refusal {
    fn reply(self) -> Reply {
        match self {
            // SPC: ILLEGAL REQUEST, INVALID COMMAND OPERATION CODE.
            Self::NotSupported => check_condition(0x05, (0x20, 0x00)),
            // SPC: ILLEGAL REQUEST, INVALID FIELD IN CDB.
            Self::TooLong => check_condition(0x05, (0x24, 0x00)),
            Self::Full => Reply { status: Status::TaskSetFull, ..Reply::good() },
            // ABORTED COMMAND, as RFC 7143, 11.4.7.2 says.
            Self::Data(error) => check_condition(0x0b, error.additional_sense()),
        }
    }
}

impl Session {
    /// Opens the window as far as there is room, and tells what the next PDU has to carry.
    pub(super) fn serials(&mut self) -> StatusSerials {
        self.open_window();
        self.numbers.current()
    }

    /// The same, for a PDU that uses up its StatSN.
    pub(super) fn status_serials(&mut self) -> StatusSerials {
        self.open_window();
        self.numbers.for_status()
    }

    fn open_window(&mut self) {
        // Half of the memory stays free for what the initiator may send already.
        if self.tasks.data_out() <= SESSION_DATA_OUT_MAX / 2 {
            self.numbers.open(QUEUE_DEPTH.saturating_sub(self.tasks.ordered() + self.queue.len()));
        }
    }

    /// A command's header is here, its immediate data comes next.
    pub(super) fn begin_command(&mut self, header: &Header) -> Sink {
        let pdu = ScsiCommand::parse(header);
        if self.numbers.arrival(pdu.delivery, pdu.serials.cmd_sn) == Arrival::Ignored {
            return Sink::Discard;
        }
        self.numbers.arrived(pdu.delivery, pdu.serials.cmd_sn);
        let reject = if matches!(self.kind, Kind::Discovery) {
            Some(RejectReason::CommandNotSupported)
        } else if self.tasks.find(pdu.initiator_task_tag).is_some() {
            Some(RejectReason::TaskInProgress)
        } else if pdu.delivery == Delivery::Immediate && self.tasks.immediate() >= IMMEDIATE_COMMANDS_MAX {
            Some(RejectReason::ImmediateCommandRejected)
        } else {
            None
        };
        if let Some(reason) = reject {
            self.reject(header, reason);
            return Sink::Discard;
        }
        match self.admit(&pdu, header.data_length(), header.ahs_length() > 0) {
            Ok(state) => Sink::Task(self.insert(&pdu, state), 0),
            Err(refusal) => {
                self.queue.push_back(Queued::Answer(Answer::refused(&pdu, refusal.reply())));
                Sink::Discard
            }
        }
    }

    fn admit(&self, pdu: &ScsiCommand, immediate: u32, has_ahs: bool) -> Result<State, Refusal> {
        // The only additional header segments of a command are a longer CDB and the read length of a
        // bidirectional command (RFC 7143, 11.2.2).
        if has_ahs || pdu.flags.read && pdu.flags.write {
            return Err(Refusal::NotSupported);
        }
        if !pdu.flags.write {
            let unexpected = Refusal::Data(DataError::UnexpectedUnsolicited);
            return if immediate == 0 { Ok(State::Ready) } else { Err(unexpected) };
        }
        let expected = pdu.expected_data_transfer_length;
        if expected > DATA_OUT_MAX {
            return Err(Refusal::TooLong);
        }
        if self.tasks.data_out() + expected as usize > SESSION_DATA_OUT_MAX {
            return Err(Refusal::Full);
        }
        let gather = Gather::begin(expected, immediate, !pdu.flags.last, &self.limits);
        gather.map(State::Gathering).map_err(Refusal::Data)
    }

    fn insert(&mut self, pdu: &ScsiCommand, state: State) -> Slot {
        let direction = direction(pdu);
        let expected_length = pdu.expected_data_transfer_length;
        let buffer = match direction {
            Direction::ToDevice => self.pool.take(expected_length as usize),
            Direction::None | Direction::FromDevice => Buffer::empty(),
        };
        self.tasks.insert(Task {
            initiator_task_tag: pdu.initiator_task_tag,
            lun: pdu.lun,
            cdb: CdbBytes::new(&pdu.cdb),
            attribute: attribute(pdu.attribute),
            direction,
            expected_length,
            delivery: pdu.delivery,
            cmd_sn: pdu.serials.cmd_sn,
            state,
            buffer,
            r2ts: 0,
            sequence: 0,
        })
    }

    /// A Data-Out header is here: says where its data goes.
    pub(super) fn begin_data_out(&mut self, header: &Header) -> Sink {
        let pdu = DataOut::parse(header);
        let Some(slot) = self.tasks.find(pdu.initiator_task_tag) else {
            // The command is over, by an abort or an error of ours, and the initiator did not know that yet.
            return Sink::Discard;
        };
        let limits = self.limits;
        let accepted = match self.tasks.get_mut(slot).map(|task| &mut task.state) {
            Some(State::Gathering(gather)) => gather.accept(&pdu, header.data_length(), slot, &limits),
            _ => Err(DataError::IncorrectAmount),
        };
        match accepted {
            Ok(offset) => Sink::Task(slot, offset),
            Err(error) => {
                self.refuse_data(slot, error);
                Sink::Discard
            }
        }
    }

    /// Ends a command whose data is wrong. One that the device server has already is left to it.
    fn refuse_data(&mut self, slot: Slot, error: DataError) {
        if matches!(self.tasks.get(slot), None | Some(Task { state: State::Delivered, .. })) {
            return;
        }
        let Some(mut task) = self.tasks.remove(slot) else { return };
        self.pool.put(std::mem::take(&mut task.buffer));
        let reply = Refusal::Data(error).reply();
        self.queue.push_back(Queued::Answer(Answer::without_data(&task, reply)));
    }

    /// The data of a command PDU or of a Data-Out PDU is here.
    pub(super) fn data_arrived(&mut self, slot: Slot) {
        let limits = self.limits;
        while let Some(State::Gathering(gather)) = self.tasks.get_mut(slot).map(|task| &mut task.state) {
            if gather.is_complete() {
                self.tasks.make_ready(slot);
                break;
            }
            let Some(request) = gather.next_request(&limits) else { break };
            self.request_data(slot, request.r2t_sn, request.offset, request.length);
        }
        self.deliver(Some(slot));
    }

    fn request_data(&mut self, slot: Slot, r2t_sn: u32, buffer_offset: u32, length: u32) {
        let serials = self.serials();
        let Some(task) = self.tasks.get_mut(slot) else { return };
        task.r2ts += 1;
        let header = ReadyToTransfer {
            lun: task.lun,
            initiator_task_tag: task.initiator_task_tag,
            target_transfer_tag: transfer_tag(slot, r2t_sn),
            serials,
            r2t_sn,
            buffer_offset,
            desired_data_transfer_length: length,
        }
        .emit();
        self.outgoing.push(header, None);
    }

    /// Hands over every command that is complete and that nothing older holds back, after `latest` may have
    /// become complete.
    pub(super) fn deliver(&mut self, latest: Option<Slot>) {
        while let Some(slot) = self.tasks.next_ready(self.numbers.exp_cmd_sn, latest) {
            let tag = self.tasks.tag(slot).expect("a ready slot holds a command");
            let data = self.tasks.deliver(slot).expect("a ready slot holds a command");
            let task = self.tasks.get(slot).expect("a delivered command stays until its reply");
            self.actions.push_back(Action::Command(Command {
                tag,
                lun: task.lun,
                cdb: task.cdb,
                attribute: task.attribute,
                direction: task.direction,
                expected_length: task.expected_length,
                data,
            }));
        }
    }

    /// Forgets a command, with the data that is here of it.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Some(task) = self.tasks.remove(slot) {
            self.pool.put(task.buffer);
        }
    }
}

const fn direction(pdu: &ScsiCommand) -> Direction {
    match (pdu.flags.read, pdu.flags.write) {
        (_, true) => Direction::ToDevice,
        (true, false) => Direction::FromDevice,
        (false, false) => Direction::None,
    }
}

/// An untagged command is a simple one to a device server of today (SAM has no untagged tasks); ACA is not
/// supported, and neither are the reserved values.
const fn attribute(attribute: CommandAttribute) -> TaskAttribute {
    match attribute {
        CommandAttribute::Scsi(attribute) => attribute,
        CommandAttribute::Untagged | CommandAttribute::Aca | CommandAttribute::Other(_) => {
            TaskAttribute::Simple
        }
    }
}

/// Sense data in fixed format (SPC, 4.4.3): current error, no information.
fn check_condition(sense_key: u8, (code, qualifier): (u8, u8)) -> Reply {
    let sense = [0x70, 0, sense_key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0];
    Reply::check_condition(SenseData::new(&sense))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_with_room_and_never_closes_behind_what_was_allowed() {
        let mut numbers = Numbers::new(SerialNumber(u32::MAX));
        numbers.open(4);
        assert_eq!(numbers.max_cmd_sn, SerialNumber(2));
        numbers.open(1);
        assert_eq!(numbers.max_cmd_sn, SerialNumber(2));
    }

    #[test]
    fn requests_count_in_order_and_duplicates_do_not() {
        let mut numbers = Numbers::new(SerialNumber(10));
        numbers.open(8);
        let arrival = |numbers: &Numbers, cmd_sn| numbers.arrival(Delivery::Ordered, SerialNumber(cmd_sn));
        assert_eq!(arrival(&numbers, 12), Arrival::Ahead);
        numbers.arrived(Delivery::Ordered, SerialNumber(12));
        assert_eq!(arrival(&numbers, 12), Arrival::Ignored);
        assert_eq!(arrival(&numbers, 9), Arrival::Ignored);
        assert_eq!(arrival(&numbers, 18), Arrival::Ignored);
        assert_eq!(arrival(&numbers, 10), Arrival::Now);
        numbers.arrived(Delivery::Ordered, SerialNumber(10));
        numbers.arrived(Delivery::Ordered, SerialNumber(11));
        assert_eq!(numbers.exp_cmd_sn, SerialNumber(13));
    }
}
