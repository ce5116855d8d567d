//! One connection of an initiator: the three verbs, and which request goes where.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};

use block::{Buffer, BufferPool};
use clock::{Duration, Instant};

use super::command::{Arrival, Numbers};
use super::data::Limits;
use super::link::Pinging;
use super::login::Login;
use super::reply::{Buffers, Lent, Queued};
use super::task_management::Managements;
use super::tasks::{Slot, Tasks};
use super::text::TextExchange;
use super::{Action, Disconnect, Event, Misbehaved, Notification, Options, POOL_MAX};
use crate::negotiation::DATA_SEGMENT_LENGTH_DEFAULT;
use crate::pdu::{
    CommandSerials, Delivery, Header, InitiatorTaskTag, LogoutRequest, NopOut, Opcode, RejectReason,
    SerialNumber, TaskManagementRequest, TextRequest,
};
use crate::stream::{Destination, Incoming, Outgoing, Step};

/// The target's side of a session. See [`super`] for what drives it.
///
/// Data-Out is received straight into the command's buffer and Data-In is sent from the reply's; the exception
/// is described at [`crate::stream`].
#[derive(Debug)]
pub struct Session {
    pub(super) options: Options,
    pub(super) phase: Phase,
    pub(super) kind: Kind,
    pub(super) incoming: Incoming<Slot>,
    pub(super) outgoing: Outgoing<Lent>,
    pub(super) buffers: Buffers,
    pub(super) pool: BufferPool,
    pub(super) tasks: Tasks,
    pub(super) numbers: Numbers,
    /// What waits to become PDUs.
    pub(super) queue: VecDeque<Queued>,
    pub(super) actions: VecDeque<Action>,
    pub(super) managements: Managements,
    pub(super) text: TextExchange,
    pub(super) pinging: Pinging,
    pub(super) limits: Limits,
    /// The initiator's MaxRecvDataSegmentLength, in bytes.
    pub(super) peer_segment_max: u32,
    pub(super) connection_id: u16,
    /// Where the data segment of the PDU in progress goes.
    sink: Sink,
    /// The login must be over by then, or what is queued must be sent.
    deadline: Option<Instant>,
    now: Instant,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Discovery,
    Normal { target_name: String },
}

#[derive(Debug)]
pub(super) enum Phase {
    Login(Box<Login>),
    FullFeature,
    /// No more requests; the answer waits for the commands that the device server has.
    LoggingOut {
        initiator_task_tag: InitiatorTaskTag,
    },
    /// Nothing is read any more; the connection ends once everything is sent.
    Flushing(Disconnect),
    Over,
}

/// Where a data segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// Into memory of the stream, to be looked at.
    Own,
    /// Into the buffer of a command, from this offset on.
    Task(Slot, u32),
    /// Nowhere: data of a command that is over or was never accepted.
    Discard,
}

/// From so many waiting PDUs on, no more are made of replies, and nothing is read that may need an answer. One
/// `writev` takes far fewer slices.
const FRAMES_MAX: usize = 64;
/// The same in bytes: several times what a socket buffer takes.
const OUTGOING_MAX: usize = 4 << 20;
/// How long the last PDUs of a session may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

impl Session {
    /// A connection has come in at `now`.
    #[must_use]
    pub fn new(now: Instant, options: Options) -> Self {
        let limits = Limits {
            initial_r2t: true,
            immediate_data: false,
            first_burst: options.offers.first_burst_length,
            max_burst: options.offers.max_burst_length,
            outstanding_r2t: 1,
        };
        Self {
            phase: Phase::Login(Box::new(Login::new(options.offers))),
            kind: Kind::Discovery,
            incoming: Incoming::new(DATA_SEGMENT_LENGTH_DEFAULT),
            outgoing: Outgoing::new(),
            buffers: Buffers::default(),
            pool: BufferPool::new(POOL_MAX),
            tasks: Tasks::default(),
            numbers: Numbers::new(SerialNumber(0)),
            queue: VecDeque::new(),
            actions: VecDeque::new(),
            managements: Managements::default(),
            text: TextExchange::default(),
            pinging: Pinging::new(now),
            limits,
            peer_segment_max: DATA_SEGMENT_LENGTH_DEFAULT,
            connection_id: 0,
            sink: Sink::Discard,
            deadline: Some(now + options.login_timeout),
            now,
            options,
        }
    }

    /// Where the next bytes from the initiator go: the rest of the payload in progress, then staging. Both empty
    /// means: stop reading now.
    pub fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        if !self.is_reading() {
            return [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        }
        let tasks = &mut self.tasks;
        self.incoming.receive_into(|slot| gathering_buffer(tasks, slot))
    }

    /// Gathers what is to be sent, oldest first; returns how many slices were set.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outgoing.transmit(slices, |lent| self.buffers.get(lent.buffer))
    }

    /// # Panics
    /// If more bytes are reported than [`Self::receive_into`] or [`Self::transmit`] gave.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.now = now;
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match event {
            Event::Received(count) => self.received(count),
            Event::Sent(count) => self.sent(count),
            Event::Closed => self.disconnect(Disconnect::Closed),
            Event::Admitted { tsih } => self.admitted(tsih),
            Event::Refused(status) => self.refuse_login(status),
            Event::Reply { data, .. } if matches!(self.phase, Phase::Flushing(_)) => self.pool.put(data),
            Event::Reply { tag, reply, data } => self.answer(tag, reply, data),
            Event::Aborted { tag } => self.aborted(tag),
            Event::TaskManagementDone { tag, response } => self.task_management_done(tag, response),
            Event::Notify(notification) => self.notify(notification),
            Event::Timeout => self.timeout(),
        }
        self.settle();
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle`] with [`Event::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Login(_) | Phase::Flushing(_) => self.deadline,
            Phase::FullFeature => self.pinging.timeout(self.options.keepalive),
            Phase::LoggingOut { .. } | Phase::Over => None,
        }
    }

    /// How many commands the device server has to answer yet.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.tasks.ordered() + self.tasks.immediate()
    }

    /// A Data-In buffer whose last byte is sent, for the device server to use again. To be asked for until there is
    /// none after [`Event::Sent`], so that neither side has to allocate.
    pub fn reclaim(&mut self) -> Option<Buffer> {
        self.buffers.reclaim()
    }

    /// Whether there is too much to be sent to do anything that adds to it.
    pub(super) fn is_crowded(&self) -> bool {
        self.outgoing.frames() >= FRAMES_MAX || self.outgoing.bytes() >= OUTGOING_MAX
    }

    fn is_reading(&self) -> bool {
        let wants = match &self.phase {
            Phase::Login(login) => !login.is_waiting(),
            Phase::FullFeature | Phase::LoggingOut { .. } => true,
            Phase::Flushing(_) | Phase::Over => false,
        };
        wants && !self.is_crowded()
    }

    fn received(&mut self, count: usize) {
        self.pinging.heard(self.now);
        let tasks = &mut self.tasks;
        self.incoming.received(count, |slot| gathering_buffer(tasks, slot));
        self.check_first_bytes();
    }

    fn sent(&mut self, count: usize) {
        let (buffers, pool) = (&mut self.buffers, &mut self.pool);
        self.outgoing.sent(count, |progress| {
            if let crate::stream::Progress::Finished(Lent { buffer, release: true }) = progress {
                buffers.release(buffer, pool);
            }
        });
    }

    /// After each event: takes what was received, makes PDUs, and ends what is at its end.
    fn settle(&mut self) {
        loop {
            self.pump();
            if !self.is_reading() {
                break;
            }
            match self.take_pdu() {
                Ok(Progressed::Yes) => {}
                Ok(Progressed::No) => break,
                Err(misbehaved) => self.disconnect(misbehaved.into()),
            }
        }
        self.log_out_when_idle();
        self.pump();
        if matches!(self.phase, Phase::Flushing(_)) && self.outgoing.is_empty() && self.queue.is_empty() {
            self.end_flush();
        }
    }

    fn take_pdu(&mut self) -> Result<Progressed, Misbehaved> {
        let tasks = &mut self.tasks;
        match self.incoming.step(|slot| gathering_buffer(tasks, slot))? {
            Step::More => return Ok(Progressed::No),
            Step::Header(header) => {
                self.sink = self.begin(&header)?;
                self.incoming.place(match self.sink {
                    Sink::Own | Sink::Discard => Destination::Own,
                    Sink::Task(slot, offset) => Destination::Lent { owner: slot, offset: offset as usize },
                });
            }
            Step::Complete(header) => {
                if header.data_length() == 0 {
                    self.sink = self.begin(&header)?;
                }
                self.finish(&header)?;
            }
        }
        Ok(Progressed::Yes)
    }

    /// A header is here: says where its data goes.
    fn begin(&mut self, header: &Header) -> Result<Sink, Misbehaved> {
        match &mut self.phase {
            Phase::FullFeature => Ok(match header.opcode() {
                Opcode::ScsiCommand => self.begin_command(header),
                Opcode::DataOut => self.begin_data_out(header),
                _ => Sink::Own,
            }),
            Phase::Login(login) => {
                login.greeted = true;
                Ok(Sink::Own)
            }
            Phase::LoggingOut { .. } | Phase::Flushing(_) | Phase::Over => Ok(Sink::Discard),
        }
    }

    /// A PDU is here with its data.
    fn finish(&mut self, header: &Header) -> Result<(), Misbehaved> {
        match self.phase {
            Phase::Login(_) => self.login_pdu(header),
            Phase::FullFeature => self.request(header),
            Phase::LoggingOut { .. } | Phase::Flushing(_) | Phase::Over => Ok(()),
        }
    }

    fn request(&mut self, header: &Header) -> Result<(), Misbehaved> {
        match header.opcode() {
            Opcode::ScsiCommand | Opcode::DataOut => {
                if let Sink::Task(slot, _) = self.sink {
                    self.data_arrived(slot);
                }
            }
            Opcode::NopOut => {
                let pdu = NopOut::parse(header);
                // An answer to a NOP-In of ours carries the CmdSN that comes next, as an immediate request.
                if self.takes(pdu.delivery, pdu.serials)? {
                    self.nop_out(&pdu);
                }
            }
            Opcode::TaskManagementRequest => {
                let pdu = TaskManagementRequest::parse(header);
                if self.takes(pdu.delivery, pdu.serials)? {
                    self.task_management(&pdu);
                }
            }
            Opcode::TextRequest => {
                let pdu = TextRequest::parse(header);
                if self.takes(pdu.delivery, pdu.serials)? {
                    self.text_request(header, &pdu);
                }
            }
            Opcode::LogoutRequest => {
                let pdu = LogoutRequest::parse(header);
                if self.takes(pdu.delivery, pdu.serials)? {
                    self.log_out(&pdu);
                }
            }
            Opcode::Snack => self.reject(header, RejectReason::SnackReject),
            Opcode::LoginRequest => self.reject(header, RejectReason::ProtocolError),
            _ => self.reject(header, RejectReason::CommandNotSupported),
        }
        Ok(())
    }

    /// Whether a request other than a command is to be handled, by its CmdSN.
    ///
    /// Requests after a gap are an error: an initiator sends on one connection in the order of CmdSN (RFC 7143,
    /// 4.2.2.1), so nothing can fill the gap any more. Only commands are held back, because they are held anyway.
    fn takes(&mut self, delivery: Delivery, serials: CommandSerials) -> Result<bool, Misbehaved> {
        match self.numbers.arrival(delivery, serials.cmd_sn) {
            Arrival::Now => {
                self.numbers.arrived(delivery, serials.cmd_sn);
                self.deliver(None);
                Ok(true)
            }
            Arrival::Ignored => Ok(false),
            Arrival::Ahead => Err(Misbehaved::CommandSequenceGap {
                expected: self.numbers.exp_cmd_sn.0,
                got: serials.cmd_sn.0,
            }),
        }
    }

    fn notify(&mut self, notification: Notification) {
        if !matches!(self.phase, Phase::FullFeature) {
            return;
        }
        self.queue.push_back(Queued::Notification(notification));
        match notification {
            Notification::LogoutRequest { .. } => {}
            Notification::DropConnection { .. } | Notification::DropAll { .. } => {
                self.flush(Disconnect::Dropped);
            }
        }
    }

    fn timeout(&mut self) {
        let expired = self.deadline.is_some_and(|deadline| deadline <= self.now);
        match &self.phase {
            Phase::Login(_) if expired => self.disconnect(Disconnect::LoginTimeout),
            Phase::Flushing(_) if expired => self.disconnect(Misbehaved::ReadsNothing(FLUSH_TIMEOUT).into()),
            Phase::FullFeature => self.ping(self.now),
            _ => {}
        }
    }

    /// Ends the session once everything that is queued is sent.
    pub(super) fn flush(&mut self, reason: Disconnect) {
        self.deadline = Some(self.now + FLUSH_TIMEOUT);
        self.phase = Phase::Flushing(reason);
    }

    fn end_flush(&mut self) {
        if let Phase::Flushing(reason) = std::mem::replace(&mut self.phase, Phase::Over) {
            if reason == Disconnect::LoggedOut {
                self.actions.push_back(Action::LoggedOut);
            }
            self.disconnect(reason);
        }
    }

    /// Ends the session at once.
    pub(super) fn disconnect(&mut self, reason: Disconnect) {
        self.phase = Phase::Over;
        self.outgoing.clear();
        self.queue.clear();
        self.actions.push_back(Action::Disconnect(reason));
    }
}

enum Progressed {
    Yes,
    No,
}

/// Memory for the payload in progress.
fn gathering_buffer(tasks: &mut Tasks, slot: Slot) -> &mut [u8] {
    let task = tasks.get_mut(slot).expect("nothing ends a command in the middle of a PDU of its own");
    &mut task.buffer
}
