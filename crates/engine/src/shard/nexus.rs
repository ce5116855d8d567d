//! The connections of the host's nexuses.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;

use clock::Instant;
use host::{CHALLENGE_LENGTH, Challenge, Event, Loss, NexusIndex, Parting};
use iscsi::initiator::{self, Session};
use mio::net::TcpStream;
use scsi_multipath::Context;

use super::{Shard, Source};
use crate::stream::{Closed, Intake, Stream, Turn, Wire};

/// The connection of one nexus.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// It stands; until then it is being made.
    is_open: bool,
}

impl Wire for Session<Context> {
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        Self::receive_into(self)
    }

    fn received(&mut self, now: Instant, count: usize) {
        self.handle(now, initiator::Event::Received(count));
    }

    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        Self::transmit(self, slices)
    }

    fn sent(&mut self, now: Instant, count: usize) {
        self.handle(now, initiator::Event::Sent(count));
    }

    fn closed(&mut self, now: Instant) {
        self.handle(now, initiator::Event::Closed);
    }
}

impl Shard {
    pub(super) fn connect(&mut self, nexus: NexusIndex, address: SocketAddr) {
        let connecting = TcpStream::connect(address).and_then(|socket| {
            let mut stream = Stream::tcp(socket);
            stream.register(self.poll.registry(), Source::Nexus(nexus.0).token())?;
            Ok(stream)
        });
        match connecting {
            Ok(stream) => {
                let place = nexus.0 as usize;
                if place >= self.connections.len() {
                    self.connections.resize_with(place + 1, || None);
                }
                self.connections[place] = Some(Connection { stream, is_open: false });
            }
            Err(error) => self.connect_failed(nexus, &error.into()),
        }
    }

    pub(super) fn disconnect(&mut self, nexus: NexusIndex, how: Parting) {
        if let Some(connection) = self.connection_mut(nexus.0).take()
            && how == Parting::Reset
        {
            connection.stream.reset_on_close();
        }
    }

    pub(super) fn note_nexus_edge(&mut self, index: u32, event: &mio::event::Event) {
        let Some(connection) = self.connection_mut(index) else { return };
        connection.stream.note(event);
        if !connection.is_open && connection.stream.is_writable() {
            self.connected(NexusIndex(index));
        }
    }

    /// The connection stands, or failed.
    fn connected(&mut self, nexus: NexusIndex) {
        let user_timeout = self.config.initiator.nop_interval + self.config.initiator.nop_timeout;
        let Some(connection) = self.connection_mut(nexus.0) else { return };
        let outcome = connection.stream.connected().and_then(|is_up| {
            connection.stream.configure(Some(user_timeout))?;
            Ok(is_up)
        });
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                connection.is_open = true;
                self.log_in(nexus);
            }
            Err(closed) => self.connect_failed(nexus, &closed),
        }
    }

    fn log_in(&mut self, nexus: NexusIndex) {
        let is_mutual = self.config.initiator.chap.as_ref().is_some_and(|chap| chap.mutual.is_some());
        match is_mutual.then(fresh_challenge).transpose() {
            Ok(challenge) => self.host.handle(self.now, Event::Connected { nexus, challenge }),
            Err(error) => self.connect_failed(nexus, &error),
        }
    }

    fn connect_failed(&mut self, nexus: NexusIndex, closed: &Closed) {
        let hint = match closed {
            Closed::Failed(io::ErrorKind::ConnectionRefused, _) => {
                ": nothing listens there; check address, port, and that the target is running"
            }
            Closed::Failed(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable, _) => {
                ": check the address and the network"
            }
            _ => "",
        };
        *self.connection_mut(nexus.0) = None;
        self.host.handle(self.now, Event::ConnectFailed { nexus, why: format!("{closed}{hint}") });
    }

    pub(super) fn read_nexus(&mut self, index: u32) {
        let (now, nexus) = (self.now, NexusIndex(index));
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let Some(session) = self.host.session_mut(nexus) else { return };
        let mut turn = Turn::default();
        let outcome = loop {
            match connection.stream.receive(session, now, &mut turn) {
                Intake::Received => {}
                outcome => break outcome,
            }
        };
        self.host.handle(now, Event::Touched { nexus });
        if let Intake::Closed(closed) = outcome {
            self.closed(nexus, &closed);
        }
    }

    /// The CPU on which the answers of a nexus arrive.
    pub(super) fn arrival_cpu(&self, index: u32) -> Option<usize> {
        self.connections.get(index as usize)?.as_ref()?.stream.arrival_cpu()
    }

    pub(super) fn flush_nexus(&mut self, index: u32) {
        let (now, nexus) = (self.now, NexusIndex(index));
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else { return };
        let Some(session) = self.host.session_mut(nexus) else { return };
        let outcome = connection.stream.flush(session, now);
        if connection.stream.wants(session) {
            self.ready.add(Source::Nexus(index));
        }
        self.host.handle(now, Event::Flushed { nexus });
        if let Err(closed) = outcome {
            self.closed(nexus, &closed);
        }
    }

    fn closed(&mut self, nexus: NexusIndex, closed: &Closed) {
        // TCP has repeated itself for as long as it was told to.
        let is_silent = matches!(closed, Closed::Failed(io::ErrorKind::TimedOut, _));
        let loss = if is_silent { Loss::Silent } else { Loss::Broken };
        self.host.handle(self.now, Event::Closed { nexus, loss, why: closed.to_string() });
    }

    fn connection_mut(&mut self, index: u32) -> &mut Option<Connection> {
        let place = index as usize;
        if place >= self.connections.len() {
            self.connections.resize_with(place + 1, || None);
        }
        &mut self.connections[place]
    }
}

fn fresh_challenge() -> Result<Challenge, Closed> {
    let mut bytes = [0; CHALLENGE_LENGTH + 1];
    getrandom::fill(&mut bytes).map_err(|error| {
        Closed::Failed(io::ErrorKind::Other, format!("the system gives no random numbers: {error}"))
    })?;
    let [identifier, bytes @ ..] = bytes;
    Ok(Challenge { identifier, bytes })
}
