//! One connection, from the greeting to its end.

use std::io::{IoSlice, IoSliceMut};

use block::{Completion, Geometry, Request};
use clock::Instant;

use crate::export::Export;
use crate::metrics::Metrics;
use crate::protocol::WrongMagic;

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

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    connection: u32,
    exports: Vec<Export>,
    metrics: Metrics,
}

impl Session {
    /// A session that serves `exports`, of which the first is the default. `connection` makes the tags of this
    /// session's requests differ from those of every other: a tag is `connection << 32 | slot`.
    #[must_use]
    pub fn new(connection: u32, exports: Vec<Export>) -> Self {
        Self { connection, exports, metrics: Metrics::default() }
    }
    /// Where the next bytes from the peer go, in this order. Both empty: read nothing now.
    pub fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])]
    }
    /// Gathers what is to be sent, oldest first; returns how many slices were set.
    pub fn transmit<'a>(&'a self, _slices: &mut [IoSlice<'a>]) -> usize {
        0
    }
    pub fn handle(&mut self, _now: Instant, _event: Event) {}
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// No request is at the disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        true
    }
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
