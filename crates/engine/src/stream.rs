//! Sockets as the shards see them: non-blocking, edge-triggered, one vectored call at a time.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::time::Duration;

use clock::Instant;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::net::sockopt::socket_incoming_cpu;
use socket2::SockRef;

/// How many slices one `writev` takes: well under `IOV_MAX` (1024), enough for a batch of 20 replies.
const SLICES_MAX: usize = 64;

/// How many bytes one socket may deliver in one loop turn before the others get theirs.
const RECEIVED_PER_TURN_MAX: usize = 4 << 20;

/// Bytes of replies that a Unix socket holds for its client, as far as `net.core.wmem_max` allows: a batch of them, and
/// Linux tells of room only once three quarters of it are free.
const UNIX_SEND_BUFFER: usize = 1 << 20;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// A machine that turns bytes into meaning and meaning into bytes: the sessions of the wire crates.
pub(crate) trait Wire {
    /// Memory for the next bytes from the peer, in order. Both empty: do not read now.
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2];
    fn received(&mut self, now: Instant, count: usize);
    /// Gathers what is to be sent, oldest first; says how many slices it set.
    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize;
    fn sent(&mut self, now: Instant, count: usize);
    /// The peer closed, or the socket failed.
    fn closed(&mut self, now: Instant);
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected (or connecting) stream socket and what is known of its readiness.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    /// An edge said so and no call has blocked since.
    readable: bool,
    writable: bool,
    /// The peer has closed, or the socket has failed: whoever reads on learns it.
    hung_up: bool,
    /// Room makes an edge.
    is_told_of_room: bool,
}

/// How a turn of reading ended.
#[derive(Debug)]
pub(crate) enum Intake {
    /// Bytes were placed; there may be more.
    Received,
    /// Nothing more now: the socket is empty, or the machine wants no more.
    Idle,
    Closed(Closed),
}

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    ByPeer,
    Failed(ErrorKind, String),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ByPeer => f.write_str("the peer closed the connection"),
            Self::Failed(_, text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        // "Connection reset by peer", without the "(os error 104)" that helps nobody.
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
        Self::Failed(error.kind(), text)
    }
}

/// How many bytes one socket has taken of its turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    received: usize,
}

impl Turn {
    pub(crate) const fn received(&self) -> usize {
        self.received
    }
}

impl Stream {
    pub(crate) const fn tcp(stream: TcpStream) -> Self {
        let socket = Socket::Tcp(stream);
        Self { socket, readable: false, writable: false, hung_up: false, is_told_of_room: true }
    }

    /// A socket that is connected.
    pub(crate) const fn unix(stream: UnixStream) -> Self {
        let socket = Socket::Unix(stream);
        Self { socket, readable: false, writable: true, hung_up: false, is_told_of_room: false }
    }

    /// What there is already makes an edge.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => registry.register(stream, token, BOTH),
            Socket::Unix(stream) => {
                self.is_told_of_room = !self.writable;
                registry.register(stream, token, if self.writable { Interest::READABLE } else { BOTH })
            }
        }
    }

    /// Until it is registered again, nothing makes an edge.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => registry.deregister(stream),
            Socket::Unix(stream) => registry.deregister(stream),
        }
    }

    /// Bytes may have come without an edge.
    pub(crate) const fn expect_bytes(&mut self) {
        self.readable = true;
    }

    /// To be called after each flush. Linux tells of room in a Unix socket whenever the peer has read something, be it
    /// missed or not, so it is only asked to while something waits for it. Of a TCP socket it tells after a write that
    /// found none.
    pub(crate) fn watch_room(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Socket::Unix(stream) = &mut self.socket else { return Ok(()) };
        if self.is_told_of_room == self.writable {
            registry.reregister(stream, token, if self.writable { Interest::READABLE } else { BOTH })?;
            self.is_told_of_room = !self.writable;
        }
        Ok(())
    }

    /// Sends small segments at once, and lets the kernel give up on a silent peer after `user_timeout`.
    pub(crate) fn configure(&self, user_timeout: Option<Duration>) -> io::Result<()> {
        let stream = match &self.socket {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => return SockRef::from(stream).set_send_buffer_size(UNIX_SEND_BUFFER),
        };
        stream.set_nodelay(true)?;
        if user_timeout.is_some() {
            SockRef::from(stream).set_tcp_user_timeout(user_timeout)?;
        }
        Ok(())
    }

    /// On close, drop unsent bytes and reset the connection: nothing of ours may arrive later.
    pub(crate) fn reset_on_close(&self) {
        if let Socket::Tcp(stream) = &self.socket {
            // A socket that is already dead refuses; there is nothing left to discard then.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// The CPU on which what was received last has arrived.
    pub(crate) fn arrival_cpu(&self) -> Option<usize> {
        let Socket::Tcp(stream) = &self.socket else { return None };
        socket_incoming_cpu(stream).ok().and_then(|cpu| usize::try_from(cpu).ok())
    }

    pub(crate) fn note(&mut self, event: &mio::event::Event) {
        self.hung_up |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.hung_up;
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// For a connecting socket that became writable: whether the connection stands.
    pub(crate) fn connected(&self) -> Result<bool, Closed> {
        let Socket::Tcp(stream) = &self.socket else { return Ok(true) };
        if let Some(error) = stream.take_error()? {
            return Err(error.into());
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) const fn is_writable(&self) -> bool {
        self.writable
    }

    /// More can be read at once, without waiting for an edge, and the machine would take it.
    pub(crate) fn wants(&self, machine: &mut impl Wire) -> bool {
        self.readable && machine.receive_into().iter().any(|slice| !slice.is_empty())
    }

    /// One `readv` into the machine's memory.
    pub(crate) fn receive(&mut self, machine: &mut impl Wire, now: Instant, turn: &mut Turn) -> Intake {
        if !self.readable || turn.received >= RECEIVED_PER_TURN_MAX {
            return Intake::Idle;
        }
        let mut slices = machine.receive_into();
        if slices.iter().all(|slice| slice.is_empty()) {
            return Intake::Idle;
        }
        let room: usize = slices.iter().map(|slice| slice.len()).sum();
        // An empty first slice would cost the kernel a walk and us nothing, but a plain read is cheaper.
        let outcome = if slices[0].is_empty() {
            self.read(&mut slices[1])
        } else if slices[1].is_empty() {
            self.read(&mut slices[0])
        } else {
            self.read_vectored(&mut slices)
        };
        match outcome {
            Ok(0) => Intake::Closed(Closed::ByPeer),
            Ok(count) => {
                turn.received += count;
                // The socket is empty, and whatever comes from now on makes an edge of its own (epoll(7)). An end
                // that was announced already makes none.
                self.readable = count == room || self.hung_up;
                machine.received(now, count);
                Intake::Received
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Intake::Idle
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Intake::Received,
            Err(error) => Intake::Closed(error.into()),
        }
    }

    /// Sends all that the machine has, until the socket is full.
    pub(crate) fn flush(&mut self, machine: &mut impl Wire, now: Instant) -> Result<(), Closed> {
        while self.writable {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = machine.transmit(&mut slices);
            if count == 0 {
                return Ok(());
            }
            match self.write_vectored(&slices[..count]) {
                Ok(sent) => machine.sent(now, sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.read(memory),
            Socket::Unix(stream) => stream.read(memory),
        }
    }

    fn read_vectored(&mut self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.read_vectored(slices),
            Socket::Unix(stream) => stream.read_vectored(slices),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_vectored(slices),
            Socket::Unix(stream) => stream.write_vectored(slices),
        }
    }
}
