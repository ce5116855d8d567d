//! One connection, from the greeting to its end.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};

use block::{Completion, Geometry, Request};
use clock::{Duration, Instant};

use crate::export::Export;
use crate::metrics::Metrics;
use crate::negotiation::{Negotiation, Step};
use crate::outbox::Outbox;
use crate::protocol::WrongMagic;
use crate::transmission::{Replies, Transmission};

/// What happens to a session.
#[derive(Debug)]
pub enum Event {
    /// This many bytes were read into what [`Session::receive_into`] offered.
    Received(usize),
    /// This many bytes of what [`Session::transmit`] offered were written.
    Sent(usize),
    /// The peer closed the connection, or the socket failed.
    Closed,
    /// A request of [`Action::Submit`] came back.
    Completed(Request, Completion),
    /// A disk changed. The protocol cannot tell a client; later requests are judged by the new limits, and a client
    /// sees the new size when it connects again.
    Resized { export: String, geometry: Geometry },
    /// Answer what is in flight, refuse what comes from now on, then end.
    Shutdown,
    /// The time of [`Session::poll_timeout`] has come.
    Timeout,
}

/// What a driver has to do for a session.
#[derive(Debug)]
pub enum Action {
    /// The client chose an export; every request that follows is for it. An index into the exports of
    /// [`Session::new`].
    Attach { export: usize },
    /// Give the request to the disk, and give it back with [`Event::Completed`], always.
    Submit(Request),
    /// The session is over: close the socket. Said once, and last. Requests still at the disk come back as before;
    /// drop the session when [`Session::is_idle`].
    Disconnect(Reason),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the client ended the session")]
    Finished,
    #[error("the connection was closed without a goodbye")]
    Closed,
    #[error("the server is shutting down")]
    Shutdown,
    #[error("the client took too long to negotiate")]
    NegotiationTimeout,
    #[error("the client does not take its last replies")]
    LingerTimeout,
    #[error("the client speaks no newstyle NBD: {0}")]
    NotNewstyle(WrongMagic),
    #[error("the client set unknown handshake flags {0:#x}")]
    UnknownHandshakeFlags(u32),
    #[error("the client sent option {0} without having agreed on the fixed newstyle protocol")]
    NotFixedNewstyle(u32),
    #[error("the client negotiated for too many rounds")]
    TooManyOptions,
    #[error("the client sent an option of {0} bytes")]
    OptionTooLong(u32),
    #[error("the client asked for an export that does not exist")]
    UnknownExport,
    #[error("the client is out of step: {0}")]
    OutOfStep(WrongMagic),
    #[error("the client sent a write of {0} bytes, which no server has to take")]
    WriteTooLong(u32),
}

/// How long a client may take from the connection to the choice of an export. A person may be typing.
pub const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take none of the last replies before the connection is closed anyway.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's side of one connection.
///
/// Memory is bounded: [`crate::IN_FLIGHT_MAX`] requests with [`crate::IN_FLIGHT_BYTES_MAX`] bytes of payload are in
/// flight at most, where a request is in flight until the last byte of its reply was sent; at the bound, nothing is
/// read. Payload is received into and sent from the request's own buffer. While no payload is expected and the last
/// requests had none, up to 4 KiB are read ahead; payload among these bytes is copied once.
#[derive(Debug)]
pub struct Session {
    connection: u32,
    stage: Stage,
    ending: Ending,
    /// When the handshake, or the sending of the last replies, has taken too long.
    deadline: Option<Instant>,
    output: Output,
}

/// What a session produces.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) outbox: Outbox,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) metrics: Metrics,
}

#[derive(Debug)]
enum Stage {
    Negotiating { negotiation: Negotiation, exports: Vec<Export> },
    Transmitting(Box<Transmission>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// As soon as nothing is at the disk and everything was sent.
    WhenAnswered(Reason),
    /// [`Action::Disconnect`] was said.
    Over,
}

impl Session {
    /// A session that serves `exports`, of which the first is the default. `connection` makes the tags of this
    /// session's requests differ from those of every other: a tag is `connection << 32 | slot`.
    #[must_use]
    pub fn new(connection: u32, exports: Vec<Export>) -> Self {
        let mut output = Output::default();
        output.outbox.push(Negotiation::greeting());
        let stage = Stage::Negotiating { negotiation: Negotiation::new(), exports };
        Self { connection, stage, ending: Ending::No, deadline: None, output }
    }

    /// Where the next bytes from the peer go, in this order: the rest of a payload, then headers. Both empty: do not
    /// read now (a read into nothing returns 0, which would look like the end of the stream).
    pub fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        let nothing = || IoSliceMut::new(&mut []);
        match &mut self.stage {
            _ if self.ending == Ending::Over => [nothing(), nothing()],
            // Only the last replies are left to be sent.
            Stage::Transmitting(_) if self.deadline.is_some() => [nothing(), nothing()],
            Stage::Transmitting(transmission) => transmission.receive_into(),
            // One option at a time: a client that does not take its replies gets no more of them.
            Stage::Negotiating { negotiation, .. }
                if self.ending == Ending::No && self.output.outbox.is_empty() =>
            {
                [nothing(), IoSliceMut::new(negotiation.receive_into())]
            }
            Stage::Negotiating { .. } => [nothing(), nothing()],
        }
    }

    /// Gathers what is to be sent, oldest first; returns how many slices were set.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.outbox.transmit(slices)
    }

    /// # Panics
    /// If the driver says that it received or sent more than it was offered.
    pub fn handle(&mut self, now: Instant, event: Event) {
        if self.deadline.is_none() && matches!(self.stage, Stage::Negotiating { .. }) {
            self.deadline = Some(now + NEGOTIATION_TIMEOUT);
        }
        match event {
            Event::Completed(request, completion) => self.completed(request, completion),
            _ if self.ending == Ending::Over => {}
            Event::Received(length) => self.received(length),
            Event::Sent(length) => self.sent(now, length),
            Event::Closed => self.disconnect(Reason::Closed),
            Event::Resized { export, geometry } => self.resized(&export, geometry),
            Event::Shutdown => self.shut_down(),
            Event::Timeout => self.timeout(now),
        }
        self.conclude(now);
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.output.actions.pop_front()
    }

    /// When to say [`Event::Timeout`]. Before the first event that is at once: only an event says what time it is.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (&self.stage, self.ending) {
            (_, Ending::Over) => None,
            (Stage::Negotiating { .. }, _) => Some(self.deadline.unwrap_or(Instant::START)),
            (Stage::Transmitting(_), _) => self.deadline,
        }
    }

    /// No request is at the disk, so that none can come back any more once the session is over.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match &self.stage {
            Stage::Negotiating { .. } => true,
            Stage::Transmitting(transmission) => transmission.at_disk() == 0,
        }
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.output.metrics
    }

    fn received(&mut self, length: usize) {
        let step = match &mut self.stage {
            Stage::Transmitting(transmission) => {
                transmission.received(length, &mut self.output).map(|()| Step::Continue)
            }
            Stage::Negotiating { negotiation, exports } => {
                negotiation.received(length, exports, &mut self.output)
            }
        };
        match step {
            Ok(Step::Continue) => {}
            Ok(Step::Attach(export, replies)) => self.attach(export, replies),
            Ok(Step::Abort) => self.ending = Ending::WhenAnswered(Reason::Finished),
            Err(reason) => self.disconnect(reason),
        }
    }

    fn attach(&mut self, index: usize, replies: Replies) {
        let Stage::Negotiating { exports, .. } = &mut self.stage else { return };
        let export = exports.swap_remove(index);
        self.stage = Stage::Transmitting(Box::new(Transmission::new(self.connection, export, replies)));
        self.deadline = None;
        self.output.actions.push_back(Action::Attach { export: index });
    }

    fn sent(&mut self, now: Instant, length: usize) {
        self.output.outbox.sent(length);
        while let Some(message) = self.output.outbox.take_sent() {
            if let Stage::Transmitting(transmission) = &mut self.stage {
                transmission.sent(message);
            }
        }
        if self.ending != Ending::No && self.deadline.is_some() {
            self.deadline = Some(now + LINGER_TIMEOUT);
        }
        // A header may have been waiting for the room that is now free.
        if let Stage::Transmitting(transmission) = &mut self.stage
            && let Err(reason) = transmission.advance(&mut self.output)
        {
            self.disconnect(reason);
        }
    }

    fn completed(&mut self, request: Request, completion: Completion) {
        match &mut self.stage {
            Stage::Transmitting(transmission) if self.ending == Ending::Over => {
                transmission.discard(&request);
            }
            Stage::Transmitting(transmission) => {
                transmission.completed(request, completion, &mut self.output);
            }
            Stage::Negotiating { .. } => debug_assert!(false, "nothing was submitted yet"),
        }
    }

    fn resized(&mut self, name: &str, geometry: Geometry) {
        match &mut self.stage {
            Stage::Transmitting(transmission) => transmission.resized(name, geometry),
            Stage::Negotiating { exports, .. } => {
                for export in exports.iter_mut().filter(|export| export.name == name) {
                    export.geometry = geometry;
                }
            }
        }
    }

    fn shut_down(&mut self) {
        match &mut self.stage {
            Stage::Negotiating { .. } => self.disconnect(Reason::Shutdown),
            Stage::Transmitting(transmission) => {
                transmission.shut_down();
                if self.ending == Ending::No {
                    self.ending = Ending::WhenAnswered(Reason::Shutdown);
                }
            }
        }
    }

    fn timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match (&self.stage, self.ending) {
            (Stage::Negotiating { .. }, Ending::No) => self.disconnect(Reason::NegotiationTimeout),
            _ => self.disconnect(Reason::LingerTimeout),
        }
    }

    /// Ends the session in good order once the last reply was sent; sees to it that this does not take for ever.
    fn conclude(&mut self, now: Instant) {
        if let Stage::Transmitting(transmission) = &self.stage
            && transmission.is_finished()
            && self.ending != Ending::Over
        {
            self.ending = Ending::WhenAnswered(Reason::Finished);
        }
        let Ending::WhenAnswered(reason) = self.ending else { return };
        if !self.is_idle() {
            return;
        }
        if self.output.outbox.is_empty() {
            self.disconnect(reason);
        } else if matches!(self.stage, Stage::Transmitting(_)) && self.deadline.is_none() {
            self.deadline = Some(now + LINGER_TIMEOUT);
        }
    }

    fn disconnect(&mut self, reason: Reason) {
        self.ending = Ending::Over;
        self.deadline = None;
        self.output.outbox.clear();
        self.output.actions.push_back(Action::Disconnect(reason));
    }
}
