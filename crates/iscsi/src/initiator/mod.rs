//! The initiator's side of a session with one connection (RFC 7143), without a socket.
//!
//! A command goes in with [`Event::Command`] and comes back exactly once with [`Action::Ended`], with its memory.
//! Data-In is received straight into that memory and Data-Out is sent from it. Whatever goes wrong ends the
//! session: nothing is sent twice, and a command whose fate is unknown is given back as `Lost`. One that cannot have
//! been executed, because it or its data never left, comes back as `NotSent`.

mod commands;
mod data;
mod discover;
mod error;
mod keepalive;
mod login;
mod numbering;
mod options;
mod task_management;

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};

use clock::{Duration, Instant};
use scsi::{Command, CommandId, Ending, Lun, SenseData};

pub use discover::{PORT_DEFAULT, Portal, Scope, TargetRecord};
pub use error::{LoginError, Misbehaviour, Reason};
pub use login::{LoggedIn, Permanence};
pub use options::{ALIAS_LENGTH_MAX, COMMANDS_MAX, Chap, Kind, Mutual, Options, OptionsError};
pub use task_management::{TASK_MANAGEMENT_MAX, TaskManagement, TaskManagementEnding};

use crate::negotiation::{DATA_SEGMENT_LENGTH_DEFAULT, Negotiated};
use crate::pdu::{
    AsyncEvent, AsyncMessage as AsyncPdu, Delivery, Header, InitiatorTaskTag, LoginRequest, LoginResponse,
    LoginStages, LogoutReason, LogoutRequest, LogoutResponse, LogoutResponseCode, NopIn, NopOut, Opcode,
    Reject, TargetTransferTag, TaskManagementResponse, TextRequest, TextResponse,
};
use crate::stream::{Destination, Digests, Incoming, Outgoing, Progress, Step};
use commands::{Commands, Slot};
use data::Burst;
use discover::Discovery;
use keepalive::{Due, Keepalive};
use login::Login;
use numbering::Numbering;
use task_management::Pending;

/// So many answers to pings of the target may wait to be sent; with more, nothing is received until some left.
const ANSWERS_MAX: usize = 64;
/// Of the time in which a target wants to be logged out, this part is left to the commands in flight.
const DRAIN_DIVISOR: u64 = 2;

/// A session, from the login to its end. `C` is what the issuer of commands wants to find again.
#[derive(Debug)]
pub struct Session<C> {
    options: Options,
    phase: Phase,
    numbering: Numbering,
    negotiated: Negotiated,
    incoming: Incoming<Slot>,
    outgoing: Outgoing<Owner>,
    commands: Commands<C>,
    /// Commands without a CmdSN, oldest first.
    waiting: VecDeque<Slot>,
    bursts: VecDeque<Burst>,
    pending: Vec<Pending>,
    discovery: Option<Discovery>,
    /// A question for after the login, or after the one that is not answered.
    wanted: Option<Scope>,
    keepalive: Keepalive,
    /// Answers to pings of the target in the outgoing queue.
    answers: usize,
    next_tag: u32,
    actions: VecDeque<Action<C>>,
}

/// What happens to a session.
#[derive(Debug)]
pub enum Event<C> {
    /// The connection stands.
    Connected,
    /// So many bytes have come into what [`Session::receive_into`] gave.
    Received(usize),
    /// So many bytes of what [`Session::transmit`] gave are gone.
    Sent(usize),
    /// The peer has closed the connection, or it failed.
    Closed,
    /// To be sent once the session is logged in and the target's window has room. If there is no
    /// [`Session::capacity`] it comes back at once as `NotSent`.
    Command {
        lun: Lun,
        command: Command<C>,
    },
    TaskManagement {
        id: u64,
        function: TaskManagement,
    },
    /// The time of this command is over: it is aborted (ABORT TASK) as if its timeout had come. Nothing if it has come
    /// back, or if so many are being aborted that it has to wait for its own timeout.
    Expire(CommandId),
    /// Commands for this logical unit of which no byte has left come back at once as `Withdrawn`.
    Withdraw(Lun),
    /// One question at a time: a later one replaces one that was not sent yet.
    SendTargets(Scope),
    /// Commands that are not sent come back; what is in flight is given up.
    Logout(LogoutReason),
    Timeout,
}

/// What a session wants, or tells.
#[derive(Debug)]
pub enum Action<C> {
    LoggedIn(Box<LoggedIn>),
    /// [`Action::Disconnect`] follows.
    LoginFailed(LoginError),
    /// Log in there instead. [`Action::Disconnect`] follows.
    TargetMoved {
        portal: Portal,
        permanence: Permanence,
    },
    Ended {
        command: Command<C>,
        ending: Ending,
    },
    TaskManagementEnded {
        id: u64,
        response: TaskManagementEnding,
    },
    Discovered(Vec<TargetRecord>),
    AsyncMessage(AsyncMessage),
    /// The target has answered a ping of ours (RFC 7143, 11.18), so long after that left. Pings are sent to a target that
    /// is silent only, so that nothing of ours held the answer up.
    Pinged {
        took: Duration,
    },
    /// [`Action::Disconnect`] follows.
    LoggedOut,
    /// The session is over, and every command has been given back. Close the socket; unless the reason is
    /// [`Reason::LoggedOut`], with linger 0, so that bytes that have not left never do.
    Disconnect(Reason),
}

/// What a target says unasked (RFC 7143, 11.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsyncMessage {
    Scsi {
        lun: Lun,
        sense: Option<Box<SenseData>>,
    },
    /// The session drains and logs out by itself.
    LogoutRequested {
        within: Duration,
    },
    /// The target drops the connection, or all; the session ends. Times are in seconds.
    ConnectionDropped {
        time2wait: u16,
        time2retain: u16,
    },
    /// The target wants to negotiate anew; the session drains and logs out, and the next login does that.
    NegotiationRequested {
        within: Duration,
    },
    /// The target ends all tasks of a logical unit.
    TasksTerminated {
        lun: Lun,
    },
    /// Vendor specific or reserved.
    Other {
        event: AsyncEvent,
        vendor_code: u8,
        parameters: [u16; 3],
    },
}

#[derive(Debug)]
enum Phase {
    Unconnected,
    Login {
        login: Box<Login>,
        tag: InitiatorTaskTag,
        deadline: Instant,
    },
    FullFeature,
    /// The target wants to be logged out: nothing new is sent, what is in flight may end.
    Draining {
        deadline: Instant,
    },
    LoggingOut {
        tag: InitiatorTaskTag,
        deadline: Instant,
    },
    Over,
}

/// What a PDU in the outgoing queue belongs to.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Command(Slot),
    Ping,
    /// An answer to a ping of the target.
    Answer,
    Session,
}

impl<C> Session<C> {
    /// # Errors
    /// If an option is out of its range.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        options.check()?;
        Ok(Self {
            phase: Phase::Unconnected,
            numbering: Numbering::new(),
            negotiated: nothing_negotiated(),
            incoming: Incoming::new(DATA_SEGMENT_LENGTH_DEFAULT),
            outgoing: Outgoing::new(),
            commands: Commands::new(options.commands_max),
            waiting: VecDeque::new(),
            bursts: VecDeque::new(),
            pending: Vec::new(),
            discovery: None,
            wanted: None,
            keepalive: Keepalive::new(keepalive_interval(&options), options.nop_timeout),
            answers: 0,
            next_tag: 0,
            actions: VecDeque::new(),
            options,
        })
    }

    pub fn handle(&mut self, now: Instant, event: Event<C>) {
        let result = self.take_event(now, event).and_then(|()| self.advance(now));
        if let Err(reason) = result {
            self.disconnect(reason);
        }
    }

    /// To be asked after each [`Self::handle`] until there is none.
    pub fn poll_action(&mut self) -> Option<Action<C>> {
        self.actions.pop_front()
    }

    /// When [`Event::Timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Over => return None,
            Phase::Unconnected => None,
            Phase::Login { deadline, .. } | Phase::LoggingOut { deadline, .. } => Some(*deadline),
            Phase::FullFeature => self.keepalive.deadline(),
            Phase::Draining { deadline } => {
                Some(self.keepalive.deadline().map_or(*deadline, |at| at.min(*deadline)))
            }
        };
        let discovery = self.discovery.as_ref().map(|discovery| discovery.deadline);
        phase.into_iter().chain(self.task_deadline()).chain(discovery).min()
    }

    /// Where the next bytes from the target go: the rest of a payload, and headers. Both empty: read nothing now.
    pub fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        if matches!(self.phase, Phase::Unconnected | Phase::Over) || self.answers >= ANSWERS_MAX {
            return [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        }
        self.incoming.receive_into(|slot| self.commands.data_mut(slot))
    }

    /// Gathers what is to be sent; returns how many slices were set.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.outgoing.transmit(slices, |owner| match owner {
            Owner::Command(slot) => self.commands.data(slot),
            Owner::Ping | Owner::Answer | Owner::Session => &[],
        })
    }

    /// How many more commands are taken now.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match self.phase {
            Phase::Unconnected | Phase::Login { .. } | Phase::FullFeature => self.commands.room(),
            Phase::Draining { .. } | Phase::LoggingOut { .. } | Phase::Over => 0,
        }
    }

    /// How many commands are held, waiting or in flight.
    #[must_use]
    pub fn commands_held(&self) -> usize {
        self.commands.len()
    }

    fn take_event(&mut self, now: Instant, event: Event<C>) -> Result<(), Reason> {
        match event {
            Event::Connected => self.start_login(now),
            Event::Received(count) => self.receive(now, count)?,
            Event::Sent(count) => self.note_sent(now, count),
            Event::Closed => return Err(Reason::Closed),
            Event::Command { lun, command } => self.take_command(now, lun, command),
            Event::TaskManagement { id, function } => self.start_task_management(now, id, function),
            Event::Expire(command) => self.expire_early(now, command),
            Event::Withdraw(lun) => self.withdraw_from(lun),
            Event::SendTargets(scope) => self.wanted = Some(scope),
            Event::Logout(reason) => self.log_out(now, reason)?,
            Event::Timeout => {}
        }
        Ok(())
    }

    /// Does what time, room and the end of other work allow.
    fn advance(&mut self, now: Instant) -> Result<(), Reason> {
        if matches!(self.phase, Phase::Over) {
            return Ok(());
        }
        self.expire(now)?;
        match self.phase {
            Phase::FullFeature => {
                self.start_discovery(now);
                self.issue_commands();
                self.queue_data_out();
            }
            Phase::Draining { .. } => {
                self.queue_data_out();
                if self.commands.len() == 0 {
                    self.log_out(now, LogoutReason::CloseSession)?;
                }
            }
            Phase::Unconnected | Phase::Login { .. } | Phase::LoggingOut { .. } | Phase::Over => {}
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant) -> Result<(), Reason> {
        self.expire_tasks(now)?;
        match self.phase {
            Phase::Login { deadline, .. } if deadline <= now => {
                return Err(self.fail_login(LoginError::Timeout));
            }
            Phase::LoggingOut { deadline, .. } if deadline <= now => return Err(Reason::LogoutTimeout),
            Phase::Draining { deadline } if deadline <= now => {
                self.log_out(now, LogoutReason::CloseSession)?;
            }
            _ => {}
        }
        if self.discovery.as_ref().is_some_and(|discovery| discovery.deadline <= now) {
            return Err(Reason::DiscoveryTimeout);
        }
        if !self.is_logged_in() {
            return Ok(());
        }
        match self.keepalive.due(now) {
            None => Ok(()),
            Some(Due::GiveUp) => Err(Reason::NopTimeout),
            Some(Due::Ping) => {
                self.send_ping(now);
                Ok(())
            }
        }
    }

    /// Whether requests may be sent.
    const fn is_logged_in(&self) -> bool {
        matches!(self.phase, Phase::FullFeature | Phase::Draining { .. })
    }

    /// Whether the last request of the session was sent.
    const fn is_logging_out(&self) -> bool {
        matches!(self.phase, Phase::LoggingOut { .. })
    }

    fn take_command(&mut self, now: Instant, lun: Lun, command: Command<C>) {
        let taken = if self.capacity() == 0 {
            Err(command)
        } else {
            self.commands.insert(lun, command, now + self.options.command_timeout)
        };
        match taken {
            Ok(slot) => self.waiting.push_back(slot),
            Err(command) => self.actions.push_back(Action::Ended { command, ending: Ending::NotSent }),
        }
    }

    fn note_sent(&mut self, now: Instant, count: usize) {
        let Self { outgoing, commands, actions, answers, keepalive, .. } = self;
        let mut ping_is_sent = false;
        outgoing.sent(count.min(outgoing.bytes()), |progress| match progress {
            Progress::Begun(Owner::Command(slot)) => {
                let entry = commands.entry_mut(slot);
                // What follows behind the command itself is its data.
                entry.data_begun |= entry.begun;
                entry.begun = true;
            }
            Progress::Finished(Owner::Command(slot)) => {
                commands.entry_mut(slot).queued -= 1;
                if let Some((command, ending)) = commands.take_ended(slot) {
                    actions.push_back(Action::Ended { command, ending });
                }
            }
            Progress::Finished(Owner::Answer) => *answers -= 1,
            Progress::Finished(Owner::Ping) => ping_is_sent = true,
            Progress::Begun(_) | Progress::Finished(Owner::Session) => {}
        });
        keepalive.note_sent(now, ping_is_sent);
    }

    /// The target wants to be logged out, or to negotiate: take nothing new, let what is in flight end.
    fn drain(&mut self, now: Instant, within: Duration) {
        if matches!(self.phase, Phase::FullFeature) {
            let time = Duration::from_nanos(within.as_nanos() / DRAIN_DIVISOR);
            self.phase = Phase::Draining { deadline: now + time };
            self.withdraw_waiting();
        }
    }

    fn log_out(&mut self, now: Instant, reason: LogoutReason) -> Result<(), Reason> {
        match self.phase {
            Phase::Unconnected | Phase::Login { .. } => return Err(Reason::LoggedOut),
            Phase::LoggingOut { .. } | Phase::Over => return Ok(()),
            Phase::FullFeature | Phase::Draining { .. } => {}
        }
        self.withdraw_waiting();
        // A target may end the session and go on with its commands, and then nothing can find them: LIO answers a
        // logout while a write is stuck behind it, and neither a later login nor a reset waits for that write. A
        // session that is left without a word stays there for a login to reinstate (RFC 7143, 6.3.5).
        if self.commands.iter().any(|slot| self.commands.entry(slot).is_live()) {
            return Err(Reason::NotAtRest);
        }
        let tag = self.next_tag();
        let request = LogoutRequest {
            delivery: Delivery::Immediate,
            reason,
            initiator_task_tag: tag,
            connection_id: 0,
            serials: self.numbering.serials(),
        };
        self.outgoing.push(request.emit(), Some(Owner::Session));
        self.phase = Phase::LoggingOut { tag, deadline: now + self.options.logout_timeout };
        Ok(())
    }

    fn withdraw_waiting(&mut self) {
        while let Some(&slot) = self.waiting.front() {
            self.withdraw(slot);
        }
    }

    fn withdraw_from(&mut self, lun: Lun) {
        let is_of_lun = |slot: &&Slot| self.commands.entry(**slot).lun == lun;
        let (withdrawn, rest): (VecDeque<Slot>, VecDeque<Slot>) = self.waiting.iter().partition(is_of_lun);
        self.waiting = rest;
        for slot in withdrawn {
            self.end_command(slot, Ending::Withdrawn);
        }
    }

    fn send_ping(&mut self, now: Instant) {
        let tag = self.next_tag();
        let ping = NopOut {
            delivery: Delivery::Immediate,
            lun: Lun::default(),
            initiator_task_tag: tag,
            target_transfer_tag: TargetTransferTag::NONE,
            serials: self.numbering.serials(),
        };
        self.outgoing.push(ping.emit(), Some(Owner::Ping));
        self.keepalive.ping(now, tag);
    }

    /// A tag for a task that is no command: the highest bit is set, and it is not [`InitiatorTaskTag::NONE`].
    const fn next_tag(&mut self) -> InitiatorTaskTag {
        self.next_tag = self.next_tag.wrapping_add(1) & 0x3fff_ffff;
        InitiatorTaskTag(0x8000_0000 | self.next_tag)
    }

    /// Gives everything back. The only way into [`Phase::Over`].
    fn disconnect(&mut self, mut reason: Reason) {
        match core::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => return,
            Phase::Login { .. } => {
                if let Some(error) = login_error_of(&reason) {
                    self.actions.push_back(Action::LoginFailed(error));
                    reason = Reason::LoginFailed;
                }
            }
            _ => {}
        }
        self.outgoing.clear();
        self.waiting.clear();
        self.bursts.clear();
        self.discovery = None;
        let held: Vec<Slot> = self.commands.iter().collect();
        for slot in held {
            if let Some((command, ending)) = self.commands.take(slot) {
                self.actions.push_back(Action::Ended { command, ending });
            }
        }
        self.lose_task_management();
        self.actions.push_back(Action::Disconnect(reason));
    }
}

/// What comes in.
impl<C> Session<C> {
    fn receive(&mut self, now: Instant, count: usize) -> Result<(), Reason> {
        if matches!(self.phase, Phase::Unconnected | Phase::Over) {
            return Ok(());
        }
        self.keepalive.hear(now);
        self.incoming.received(count, |slot| self.commands.data_mut(slot));
        if let Phase::Login { .. } = self.phase {
            self.check_beginning()?;
        }
        loop {
            match self.incoming.step(|slot| self.commands.data_mut(slot))? {
                Step::More => return Ok(()),
                Step::Header(header) => {
                    let is_data_in =
                        header.opcode() == Opcode::DataIn && !matches!(self.phase, Phase::Login { .. });
                    let place = if is_data_in { self.place_data_in(&header)? } else { Destination::Own };
                    self.incoming.place(place);
                }
                Step::Complete(header) => self.handle_pdu(now, &header)?,
            }
        }
    }

    fn handle_pdu(&mut self, now: Instant, header: &Header) -> Result<(), Reason> {
        if let Phase::Login { .. } = self.phase {
            return self.handle_login_pdu(now, header);
        }
        match header.opcode() {
            Opcode::DataIn => self.handle_data_in(header),
            Opcode::ScsiResponse => self.handle_scsi_response(header),
            Opcode::ReadyToTransfer => self.handle_ready_to_transfer(header),
            Opcode::NopIn => self.handle_nop_in(now, NopIn::parse(header)),
            Opcode::TaskManagementResponse => {
                let response = TaskManagementResponse::parse(header);
                self.numbering.update_window(response.serials);
                self.numbering.take_stat_sn(response.serials.stat_sn)?;
                self.handle_task_management_response(now, response)
            }
            Opcode::TextResponse => self.handle_text_response(now, TextResponse::parse(header)),
            Opcode::AsyncMessage => self.handle_async_message(now, AsyncPdu::parse(header)),
            Opcode::LogoutResponse => self.handle_logout_response(LogoutResponse::parse(header)),
            Opcode::Reject => {
                let rejected = self.incoming.data().first();
                let opcode = rejected.map(|byte| Opcode::from(byte & 0x3f));
                Err(Reason::Rejected { reason: Reject::parse(header).reason, opcode })
            }
            other => Err(Misbehaviour::UnexpectedPdu(other).into()),
        }
    }

    fn handle_nop_in(&mut self, now: Instant, nop: NopIn) -> Result<(), Reason> {
        self.numbering.update_window(nop.serials);
        if nop.initiator_task_tag != InitiatorTaskTag::NONE {
            self.numbering.take_stat_sn(nop.serials.stat_sn)?;
            let Some(took) = self.keepalive.answer(now, nop.initiator_task_tag) else {
                let (opcode, tag) = (Opcode::NopIn, nop.initiator_task_tag);
                return Err(Misbehaviour::UnknownTask { opcode, tag }.into());
            };
            self.actions.push_back(Action::Pinged { took });
        }
        if nop.target_transfer_tag != TargetTransferTag::NONE && self.is_logged_in() {
            let answer = NopOut {
                delivery: Delivery::Immediate,
                lun: nop.lun,
                initiator_task_tag: InitiatorTaskTag::NONE,
                target_transfer_tag: nop.target_transfer_tag,
                serials: self.numbering.serials(),
            };
            self.outgoing.push(answer.emit(), Some(Owner::Answer));
            self.answers += 1;
        }
        Ok(())
    }

    fn handle_async_message(&mut self, now: Instant, pdu: AsyncPdu) -> Result<(), Reason> {
        self.numbering.update_window(pdu.serials);
        self.numbering.take_stat_sn(pdu.serials.stat_sn)?;
        let [_, second, third] = pdu.parameters;
        let within = Duration::from_secs(third.into());
        let message = match pdu.event {
            AsyncEvent::Scsi => {
                AsyncMessage::Scsi { lun: pdu.lun, sense: data::sense_of(self.incoming.data()) }
            }
            AsyncEvent::LogoutRequested => AsyncMessage::LogoutRequested { within },
            AsyncEvent::ConnectionDropped | AsyncEvent::AllConnectionsDropped => {
                AsyncMessage::ConnectionDropped { time2wait: second, time2retain: third }
            }
            AsyncEvent::NegotiationRequested => AsyncMessage::NegotiationRequested { within },
            AsyncEvent::TasksTerminated => AsyncMessage::TasksTerminated { lun: pdu.lun },
            event @ (AsyncEvent::VendorSpecific | AsyncEvent::Other(_)) => {
                AsyncMessage::Other { event, vendor_code: pdu.vendor_code, parameters: pdu.parameters }
            }
        };
        self.actions.push_back(Action::AsyncMessage(message));
        match pdu.event {
            AsyncEvent::LogoutRequested | AsyncEvent::NegotiationRequested => self.drain(now, within),
            AsyncEvent::ConnectionDropped | AsyncEvent::AllConnectionsDropped => {
                return Err(Reason::DroppedByTarget { time2wait: second });
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_logout_response(&mut self, response: LogoutResponse) -> Result<(), Reason> {
        match self.phase {
            Phase::LoggingOut { tag, .. } if tag == response.initiator_task_tag => {}
            _ => {
                let (opcode, tag) = (Opcode::LogoutResponse, response.initiator_task_tag);
                return Err(Misbehaviour::UnknownTask { opcode, tag }.into());
            }
        }
        if response.response != LogoutResponseCode::Closed {
            return Err(Reason::LogoutRefused(response.response));
        }
        self.actions.push_back(Action::LoggedOut);
        Err(Reason::LoggedOut)
    }
}

/// SendTargets.
impl<C> Session<C> {
    fn start_discovery(&mut self, now: Instant) {
        if self.discovery.is_some() {
            return;
        }
        let Some(scope) = self.wanted.take() else { return };
        let tag = self.next_tag();
        self.discovery = Some(Discovery::new(tag, now + self.options.task_management_timeout));
        self.send_text(tag, TargetTransferTag::NONE, scope.request().as_bytes().to_vec());
    }

    fn handle_text_response(&mut self, now: Instant, response: TextResponse) -> Result<(), Reason> {
        self.numbering.update_window(response.serials);
        self.numbering.take_stat_sn(response.serials.stat_sn)?;
        let asked = self.discovery.as_mut().filter(|asked| asked.tag == response.initiator_task_tag);
        let Some(discovery) = asked else {
            return Err(Misbehaviour::UnexpectedText.into());
        };
        match discovery.receive(&response, self.incoming.data())? {
            discover::Progress::Done(targets) => {
                self.discovery = None;
                self.actions.push_back(Action::Discovered(targets));
            }
            discover::Progress::More(transfer_tag) => {
                discovery.deadline = now + self.options.task_management_timeout;
                let tag = discovery.tag;
                self.send_text(tag, transfer_tag, Vec::new());
            }
        }
        Ok(())
    }

    fn send_text(&mut self, tag: InitiatorTaskTag, transfer_tag: TargetTransferTag, text: Vec<u8>) {
        let request = TextRequest {
            delivery: Delivery::Immediate,
            last: true,
            more: false,
            lun: Lun::default(),
            initiator_task_tag: tag,
            target_transfer_tag: transfer_tag,
            serials: self.numbering.serials(),
        };
        self.outgoing.push_own(request.emit(), Some(Owner::Session), text);
    }
}

/// The login.
impl<C> Session<C> {
    fn start_login(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Unconnected) {
            return;
        }
        let mut login = Box::new(Login::new(&self.options));
        let tag = self.next_tag();
        if let login::Progress::Send(stages, text) = login.start(&self.options) {
            self.send_login(tag, stages, text);
        }
        self.phase = Phase::Login { login, tag, deadline: now + self.options.login_timeout };
    }

    /// Says early that something else than iSCSI answers: its bytes may never make a whole header.
    fn check_beginning(&mut self) -> Result<(), Reason> {
        let staged = self.incoming.staged();
        let known = [Opcode::LoginResponse, Opcode::Reject, Opcode::AsyncMessage].map(u8::from);
        if self.incoming.is_between_pdus()
            && let Some(first) = staged.first()
            && !known.contains(first)
        {
            let beginning = staged[..staged.len().min(16)].to_vec();
            return Err(self.fail_login(LoginError::NotIscsi { beginning }));
        }
        Ok(())
    }

    fn handle_login_pdu(&mut self, now: Instant, header: &Header) -> Result<(), Reason> {
        match header.opcode() {
            Opcode::LoginResponse => {}
            Opcode::Reject => return Err(self.fail_login(LoginError::Rejected(Reject::parse(header).reason))),
            // Nothing that concerns a session that does not exist yet.
            Opcode::AsyncMessage => return Ok(()),
            _ => {
                return Err(
                    self.fail_login(LoginError::Misbehaved("it sent something else than login responses"))
                );
            }
        }
        let response = LoginResponse::parse(header);
        let Phase::Login { login, tag, .. } = &mut self.phase else { return Ok(()) };
        let tag = *tag;
        if response.initiator_task_tag != tag {
            return Err(self.fail_login(LoginError::Misbehaved("it answered to another task tag")));
        }
        let progress = login.receive(&self.options, &response, self.incoming.data());
        self.numbering.log_in(response.serials);
        match progress {
            Ok(login::Progress::Send(stages, text)) => self.send_login(tag, stages, text),
            Ok(login::Progress::Done(logged_in)) => self.finish_login(now, logged_in),
            Ok(login::Progress::Moved { portal, permanence }) => {
                self.actions.push_back(Action::TargetMoved { portal, permanence });
                return Err(Reason::TargetMoved);
            }
            Err(error) => return Err(self.fail_login(error)),
        }
        Ok(())
    }

    fn send_login(&mut self, tag: InitiatorTaskTag, stages: LoginStages, text: Vec<u8>) {
        let request = LoginRequest {
            stages,
            version_max: 0,
            version_min: 0,
            isid: self.options.isid,
            tsih: 0,
            initiator_task_tag: tag,
            connection_id: 0,
            serials: self.numbering.serials(),
        };
        self.outgoing.push_own(request.emit(), Some(Owner::Session), text);
    }

    fn finish_login(&mut self, now: Instant, logged_in: Box<LoggedIn>) {
        self.negotiated = logged_in.negotiated;
        let digests = Digests { header: self.negotiated.header_digest, data: self.negotiated.data_digest };
        self.incoming.set_digests(digests);
        self.outgoing.set_digests(digests);
        self.incoming.set_data_length_max(self.negotiated.max_recv_data_segment_length);
        self.phase = Phase::FullFeature;
        self.keepalive.hear(now);
        self.actions.push_back(Action::LoggedIn(logged_in));
    }

    fn fail_login(&mut self, error: LoginError) -> Reason {
        self.actions.push_back(Action::LoginFailed(error));
        Reason::LoginFailed
    }
}

/// What to say of a login that was cut short by something else than the login itself.
fn login_error_of(reason: &Reason) -> Option<LoginError> {
    match reason {
        Reason::LoginFailed | Reason::TargetMoved | Reason::LoggedOut => None,
        Reason::Frame(error) => Some(LoginError::Frame(*error)),
        _ => Some(LoginError::Closed),
    }
}

/// RFC 7143, 4.3: in a discovery session there is only text and logout.
fn keepalive_interval(options: &Options) -> Option<Duration> {
    match options.kind {
        Kind::Discovery => None,
        Kind::Normal { .. } => options.nop_interval,
    }
}

/// Before a login nothing is sent that depends on it.
fn nothing_negotiated() -> Negotiated {
    crate::negotiation::Negotiation::new(
        crate::negotiation::Offers::default(),
        crate::negotiation::SessionType::Normal,
    )
    .finish()
    .expect("nothing was offered, so nothing is unanswered")
}

#[cfg(test)]
mod tests;
