//! Replies on their way out: Data-In from the reply's own buffer, then the status (RFC 7143, 11.4 and 11.7).

use block::{Buffer, BufferPool};
use scsi::{Lun, Reply, Residual, Status};

use super::session::{Phase, Session};
use super::tasks::{State, Task};
use super::{CommandTag, Direction, Notification};
use crate::pdu::{
    AsyncEvent, AsyncMessage, DataIn, DataInStatus, InitiatorTaskTag, LogoutResponse, LogoutResponseCode,
    ResponseCode, ScsiCommand, ScsiResponse, TargetTransferTag, TaskManagementResponse,
    TaskManagementResponseCode,
};

/// What waits to become PDUs, in the order in which the initiator must see it.
#[derive(Debug)]
pub(super) enum Queued {
    Answer(Answer),
    TaskManagement { initiator_task_tag: InitiatorTaskTag, response: TaskManagementResponseCode },
    Logout { initiator_task_tag: InitiatorTaskTag, response: LogoutResponseCode },
    Notification(Notification),
}

/// The answer to one command. Lengths in bytes.
#[derive(Debug)]
pub(super) struct Answer {
    initiator_task_tag: InitiatorTaskTag,
    reply: Reply,
    data: Option<BufferId>,
    /// How much of the data is sent: no more than the initiator expects.
    length: u32,
    sent: u32,
    data_sn: u32,
    r2ts: u32,
}

/// Data-In buffers until the last byte of them is sent.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    held: Vec<Option<Buffer>>,
    free: Vec<BufferId>,
    /// Sent, and not taken back by the driver.
    spent: Vec<Buffer>,
    /// Capacity of `spent`, in bytes.
    spent_bytes: usize,
}

/// Sent buffers that wait for the driver to take them back, in bytes; what is more goes to the session's pool.
const SPENT_MAX: usize = 4 << 20;

/// Index of a buffer in [`Buffers`].
pub(super) type BufferId = u16;

/// What a Data-In PDU knows about its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lent {
    pub(super) buffer: BufferId,
    /// It is the last PDU that needs the buffer.
    pub(super) release: bool,
}

impl Buffers {
    fn hold(&mut self, buffer: Buffer) -> BufferId {
        if let Some(id) = self.free.pop() {
            self.held[usize::from(id)] = Some(buffer);
            return id;
        }
        let id = BufferId::try_from(self.held.len()).expect("there are no more buffers than commands");
        self.held.push(Some(buffer));
        id
    }

    pub(super) fn get(&self, id: BufferId) -> &[u8] {
        self.held[usize::from(id)].as_deref().expect("a buffer is held until its last part is sent")
    }

    pub(super) fn release(&mut self, id: BufferId, pool: &mut BufferPool) {
        let Some(buffer) = self.held[usize::from(id)].take() else { return };
        self.free.push(id);
        if self.spent_bytes + buffer.capacity() > SPENT_MAX {
            pool.put(buffer);
            return;
        }
        self.spent_bytes += buffer.capacity();
        self.spent.push(buffer);
    }

    pub(super) fn reclaim(&mut self) -> Option<Buffer> {
        let buffer = self.spent.pop()?;
        self.spent_bytes -= buffer.capacity();
        Some(buffer)
    }
}

impl Answer {
    /// For a command that the session refuses before it is one.
    pub(super) fn refused(pdu: &ScsiCommand, reply: Reply) -> Self {
        let expected = if pdu.flags.read || pdu.flags.write { pdu.expected_data_transfer_length } else { 0 };
        Self::new(pdu.initiator_task_tag, expected, 0, reply)
    }

    /// For a command that the session ends by itself.
    pub(super) fn without_data(task: &Task, reply: Reply) -> Self {
        Self::new(task.initiator_task_tag, task.expected_length, task.r2ts, reply)
    }

    fn new(initiator_task_tag: InitiatorTaskTag, expected: u32, r2ts: u32, mut reply: Reply) -> Self {
        reply.residual = residual(expected, 0);
        Self { initiator_task_tag, reply, data: None, length: 0, sent: 0, data_sn: 0, r2ts }
    }
}

impl Session {
    /// The device server answered. An answer to a command that is gone is no news to anybody.
    pub(super) fn answer(&mut self, tag: CommandTag, mut reply: Reply, data: Buffer) {
        let delivered =
            |slot: &u16| matches!(self.tasks.get(*slot), Some(Task { state: State::Delivered, .. }));
        let task = self.tasks.by_tag(tag).filter(delivered).and_then(|slot| self.tasks.remove(slot));
        let Some(task) = task else {
            self.pool.put(data);
            return;
        };
        let available = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let length = match task.direction {
            Direction::FromDevice => {
                reply.residual = residual(task.expected_length, available);
                available.min(task.expected_length)
            }
            // Only the device server knows how much of the Data-Out it used, or would have used.
            Direction::ToDevice => 0,
            Direction::None => {
                reply.residual = residual(0, available);
                0
            }
        };
        let data = if length > 0 {
            Some(self.buffers.hold(data))
        } else {
            self.pool.put(data);
            None
        };
        let initiator_task_tag = task.initiator_task_tag;
        let answer = Answer { initiator_task_tag, reply, data, length, sent: 0, data_sn: 0, r2ts: task.r2ts };
        self.queue.push_back(Queued::Answer(answer));
    }

    /// Turns what is queued into PDUs, as far as the stream has room.
    pub(super) fn pump(&mut self) {
        while !self.is_crowded() {
            let Some(queued) = self.queue.pop_front() else { break };
            match queued {
                Queued::Answer(answer) if answer.sent < answer.length => self.push_data_in(answer),
                Queued::Answer(answer) => self.push_response(&answer),
                Queued::TaskManagement { initiator_task_tag, response } => {
                    let serials = self.status_serials();
                    let pdu = TaskManagementResponse { response, initiator_task_tag, serials };
                    self.outgoing.push(pdu.emit(), None);
                }
                Queued::Logout { initiator_task_tag, response } => {
                    let serials = self.status_serials();
                    // Nothing of the session is retained: it may be logged in again at once.
                    let pdu = LogoutResponse {
                        response,
                        initiator_task_tag,
                        serials,
                        time2wait: 0,
                        time2retain: 0,
                    };
                    self.outgoing.push(pdu.emit(), None);
                }
                Queued::Notification(notification) => self.push_notification(notification),
            }
        }
    }

    /// One Data-In; the answer goes back to the head of the queue unless this was the end of it.
    fn push_data_in(&mut self, mut answer: Answer) {
        let Some(buffer) = answer.data else { return };
        let max_burst = self.limits.max_burst;
        let left_of_burst = max_burst - answer.sent % max_burst;
        let left = answer.length - answer.sent;
        let length = left.min(left_of_burst).min(self.peer_segment_max);
        let ends = length == left;
        // A status that says nothing but GOOD needs no PDU of its own (RFC 7143, 11.7.3).
        let collapses = ends && answer.reply.status == Status::Good && answer.reply.sense.is_none();
        let status = DataInStatus { status: Status::Good.into(), residual: answer.reply.residual.into() };
        let serials = if collapses { self.status_serials() } else { self.serials() };
        let header = DataIn {
            last: ends || length == left_of_burst,
            acknowledge: false,
            status: collapses.then_some(status),
            lun: Lun::default(),
            initiator_task_tag: answer.initiator_task_tag,
            target_transfer_tag: TargetTransferTag::NONE,
            serials,
            data_sn: answer.data_sn,
            buffer_offset: answer.sent,
        }
        .emit();
        let range = answer.sent as usize..(answer.sent + length) as usize;
        self.outgoing.push_lent(header, Lent { buffer, release: ends }, self.buffers.get(buffer), range);
        answer.sent += length;
        answer.data_sn += 1;
        if !collapses {
            self.queue.push_front(Queued::Answer(answer));
        }
    }

    fn push_response(&mut self, answer: &Answer) {
        let serials = self.status_serials();
        let header = ScsiResponse {
            response: ResponseCode::CompletedAtTarget,
            status: answer.reply.status.into(),
            initiator_task_tag: answer.initiator_task_tag,
            serials,
            exp_data_sn: answer.data_sn + answer.r2ts,
            residual: answer.reply.residual.into(),
            bidirectional_read_residual: Residual::None.into(),
        }
        .emit();
        let mut data = Vec::new();
        if let Some(sense) = &answer.reply.sense {
            let sense = sense.as_slice();
            let length = u16::try_from(sense.len()).expect("sense data is at most 252 bytes");
            data.extend_from_slice(&length.to_be_bytes());
            data.extend_from_slice(sense);
        }
        self.outgoing.push_own(header, None, data);
    }

    fn push_notification(&mut self, notification: Notification) {
        let (event, parameters) = match notification {
            Notification::LogoutRequest { seconds } => (AsyncEvent::LogoutRequested, [0, 0, seconds]),
            Notification::DropConnection { time_to_wait, time_to_retain } => {
                let connection_id = self.connection_id;
                (AsyncEvent::ConnectionDropped, [connection_id, time_to_wait, time_to_retain])
            }
            Notification::DropAll { time_to_wait, time_to_retain } => {
                (AsyncEvent::AllConnectionsDropped, [0, time_to_wait, time_to_retain])
            }
        };
        let serials = self.status_serials();
        let pdu = AsyncMessage { lun: Lun::default(), serials, event, vendor_code: 0, parameters };
        self.outgoing.push(pdu.emit(), None);
    }

    /// Says good-bye once every command that the device server has is answered: the logout response is the
    /// proof that nothing of the session can take effect any more.
    pub(super) fn log_out_when_idle(&mut self) {
        let Phase::LoggingOut { initiator_task_tag } = self.phase else { return };
        if self.tasks.is_empty() {
            let response = LogoutResponseCode::Closed;
            self.queue.push_back(Queued::Logout { initiator_task_tag, response });
            self.flush(super::Disconnect::LoggedOut);
        }
    }
}

/// How `available` bytes compare with `expected` ones (RFC 7143, 11.4.5).
const fn residual(expected: u32, available: u32) -> Residual {
    if available > expected {
        Residual::Overflow(available - expected)
    } else if available < expected {
        Residual::Underflow(expected - available)
    } else {
        Residual::None
    }
}
