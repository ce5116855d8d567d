//! NBD listeners and their clients.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path as FilePath, PathBuf};

use block::{Completion, Request};
use clock::Instant;
use host::{DiskIndex, Event};
use mio::net::{TcpListener, UnixListener};
use mio::{Registry, Token};

use super::control::{StartError, listen_error};
use super::muting::Muting;
use super::{Life, Shard, Source};
use crate::config::ExportAddress;
use crate::status::{NoticeKind, Severity};
use crate::stream::{Intake, Stream, Turn, Wire};

/// NBD connections at the same time; more wait in the listen backlog. Each may hold tens of MiB of payload.
const CLIENTS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Listener {
    socket: Listening,
    address: ExportAddress,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// One NBD connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    session: nbd::Session,
    /// Which disk each of the session's exports is.
    exports: Vec<u32>,
    attached: Option<u32>,
    pub(super) muting: Muting,
    /// The socket is gone; the client stays until its last request came back.
    closed: bool,
}

impl Wire for nbd::Session {
    fn receive_into(&mut self) -> [IoSliceMut<'_>; 2] {
        Self::receive_into(self)
    }

    fn received(&mut self, now: Instant, count: usize) {
        self.handle(now, nbd::Event::Received(count));
    }

    fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        Self::transmit(self, slices)
    }

    fn sent(&mut self, now: Instant, count: usize) {
        self.handle(now, nbd::Event::Sent(count));
    }

    fn closed(&mut self, now: Instant) {
        self.handle(now, nbd::Event::Closed);
    }
}

impl Listener {
    pub(super) fn bind(
        address: &ExportAddress,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, StartError> {
        let listen_failed =
            |error: io::Error| StartError::Listen { address: address.to_string(), reason: error.to_string() };
        match address {
            ExportAddress::NbdUnix(path) => {
                make_way(path)?;
                let mut socket = UnixListener::bind(path).map_err(listen_failed)?;
                registry.register(&mut socket, token, mio::Interest::READABLE)?;
                Ok(Self { socket: Listening::Unix(socket), address: address.clone() })
            }
            ExportAddress::NbdTcp(socket_address) => {
                let mut socket = TcpListener::bind(*socket_address)
                    .map_err(|error| listen_error(socket_address, &error))?;
                registry.register(&mut socket, token, mio::Interest::READABLE)?;
                let bound = socket.local_addr()?;
                Ok(Self { socket: Listening::Tcp(socket), address: ExportAddress::NbdTcp(bound) })
            }
        }
    }

    pub(super) fn address(&self) -> ExportAddress {
        self.address.clone()
    }

    fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Listening::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::tcp(stream)),
            Listening::Unix(listener) => listener.accept().map(|(stream, _)| Stream::unix(stream)),
        }
    }
}

impl Drop for Listener {
    /// A socket file of ours must not outlive us.
    fn drop(&mut self) {
        if let ExportAddress::NbdUnix(path) = &self.address {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes a socket file that a server left behind; refuses to take one that a server listens on.
fn make_way(path: &FilePath) -> Result<(), StartError> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(StartError::NotASocket { path: PathBuf::from(path) });
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(StartError::SocketPathInUse { path: PathBuf::from(path) });
    }
    std::fs::remove_file(path).map_err(|error| StartError::Listen {
        address: path.display().to_string(),
        reason: error.to_string(),
    })
}

impl Shard {
    /// Takes what waits in the backlog; only once disks are known, so that nobody is told "no such export" early.
    pub(super) fn accept(&mut self, listener: u32) {
        if self.life != Life::Serving {
            return;
        }
        while self.clients.iter().flatten().count() < CLIENTS_MAX {
            let outcome = self.listeners[listener as usize].accept();
            match outcome {
                Ok(stream) => self.welcome(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let text = format!("cannot accept an NBD client: {error}");
                    self.notice(Severity::Warning, NoticeKind::Other, text);
                    return;
                }
            }
        }
    }

    pub(super) fn accept_all(&mut self) {
        for listener in 0..self.listeners.len() {
            self.accept(u32::try_from(listener).expect("a configuration holds few exports"));
        }
    }

    fn welcome(&mut self, mut stream: Stream) {
        let free = self.clients.iter().position(Option::is_none).unwrap_or(self.clients.len());
        let index = u32::try_from(free).expect("bounded by CLIENTS_MAX");
        let registered = stream
            .configure(None)
            .and_then(|()| stream.register(self.poll.registry(), Source::Client(index).token()));
        if let Err(error) = registered {
            self.notice(Severity::Warning, NoticeKind::Other, format!("an NBD client was lost: {error}"));
            return;
        }
        let (disks, exports): (Vec<u32>, Vec<nbd::Export>) = self.exports().unzip();
        let mut session = nbd::Session::new(index, exports);
        // It learns what time it is, and so how long the negotiation may take.
        session.handle(self.now, nbd::Event::Timeout);
        let client = Client {
            stream,
            session,
            exports: disks,
            attached: None,
            muting: Muting::new(self.now),
            closed: false,
        };
        if free == self.clients.len() {
            self.clients.push(Some(client));
        } else {
            self.clients[free] = Some(client);
        }
        self.touched.add(Source::Client(index));
    }

    fn client_mut(&mut self, index: u32) -> Option<&mut Client> {
        self.clients.get_mut(index as usize).and_then(Option::as_mut)
    }

    pub(super) fn read_client(&mut self, index: u32) {
        let now = self.now;
        let Some(client) = self.client_mut(index) else { return };
        if client.closed {
            return;
        }
        let mut turn = Turn::default();
        let outcome = loop {
            match client.stream.receive(&mut client.session, now, &mut turn) {
                Intake::Received => {}
                outcome => break outcome,
            }
        };
        client.muting.note_read(now, turn.received());
        if let Intake::Closed(_) = outcome {
            self.close_client(index);
        }
        self.touched.add(Source::Client(index));
    }

    pub(super) fn close_client(&mut self, index: u32) {
        let now = self.now;
        let Some(client) = self.client_mut(index) else { return };
        if !client.closed {
            client.closed = true;
            client.session.closed(now);
        }
        self.touched.add(Source::Client(index));
    }

    pub(super) fn expire_client(&mut self, index: u32) {
        let now = self.now;
        if let Some(client) = self.client_mut(index) {
            client.session.handle(now, nbd::Event::Timeout);
            self.touched.add(Source::Client(index));
        }
    }

    pub(super) fn drain_client(&mut self, index: u32) {
        while let Some(action) = self.client_mut(index).and_then(|client| client.session.poll_action()) {
            match action {
                nbd::Action::Attach { export } => {
                    if let Some(client) = self.client_mut(index) {
                        client.attached = client.exports.get(export).copied();
                    }
                }
                nbd::Action::Submit(request) => self.submit(index, request),
                nbd::Action::Disconnect(reason) => {
                    tracing::debug!("NBD client {index}: {reason}");
                    self.disconnect_client(index);
                }
            }
        }
        self.forget_idle_client(index);
    }

    fn submit(&mut self, index: u32, request: Request) {
        let Some(client) = self.client_mut(index) else { return };
        client.muting.note_request();
        match client.attached {
            Some(disk) => self.host.handle(self.now, Event::Block { disk: DiskIndex(disk), request }),
            None => self.complete(request, Err(block::Error::Shutdown)),
        }
    }

    /// Hands a request back to the client that sent it.
    pub(super) fn complete(&mut self, request: Request, completion: Completion) {
        // The high half of a tag is the connection; see nbd::Session::new.
        let index = u32::try_from(request.tag.0 >> 32).expect("32 bits are left");
        let now = self.now;
        let Some(client) = self.client_mut(index) else { return };
        client.muting.note_answer(now);
        client.session.handle(now, nbd::Event::Completed(request, completion));
        self.touched.add(Source::Client(index));
    }

    /// The session has said its last word: send it and close.
    fn disconnect_client(&mut self, index: u32) {
        let now = self.now;
        if let Some(client) = self.client_mut(index)
            && !client.closed
        {
            // What cannot be sent at once is lost with the connection.
            let _ = client.stream.flush(&mut client.session, now);
        }
        self.close_client(index);
    }

    fn forget_idle_client(&mut self, index: u32) {
        let idle = self.client_mut(index).is_some_and(|client| client.closed && client.session.is_idle());
        if idle {
            self.clients[index as usize] = None;
            self.mute.retain(|mute| *mute != index);
            self.timers.forget(index);
            self.accept_all();
        }
    }

    pub(super) fn flush_client(&mut self, index: u32) {
        let now = self.now;
        let Some(client) = self.client_mut(index) else { return };
        let deadline = client.session.poll_timeout();
        let is_open = !client.closed;
        let flushed = if is_open { client.stream.flush(&mut client.session, now) } else { Ok(()) };
        let failed = is_open && (flushed.is_err() || self.attend(index).is_err());
        let Some(client) = self.client_mut(index) else { return };
        // It may have stopped reading because it held too many requests, or because its turn was over.
        let wants = is_open && client.stream.wants(&mut client.session);
        self.timers.arm(index, deadline);
        if failed {
            self.close_client(index);
        } else if wants {
            self.ready.add(Source::Client(index));
        }
    }

    pub(super) fn shut_down_clients(&mut self) {
        let now = self.now;
        for index in 0..self.clients.len() {
            let Some(client) = &mut self.clients[index] else { continue };
            client.session.handle(now, nbd::Event::Shutdown);
            self.touched.add(Source::Client(u32::try_from(index).expect("bounded by CLIENTS_MAX")));
        }
    }

    pub(super) fn clients_idle(&self) -> bool {
        self.clients.iter().flatten().next().is_none()
    }

    /// The disk is gone, and its number may soon be another disk's: nobody who knew it by that number may go on.
    pub(super) fn detach_clients(&mut self, disk: u32) {
        let now = self.now;
        for (index, client) in self.clients.iter_mut().enumerate() {
            let Some(client) = client else { continue };
            let chooses = client.attached.is_none() && client.exports.contains(&disk);
            if chooses || client.attached == Some(disk) {
                client.attached = None;
                client.exports.clear();
                client.session.handle(now, nbd::Event::Shutdown);
                self.touched.add(Source::Client(u32::try_from(index).expect("bounded by CLIENTS_MAX")));
            }
        }
    }

    /// Tells clients of a disk that it has changed; they ask for the new size when they can.
    pub(super) fn resize_clients(&mut self, disk: DiskIndex, geometry: block::Geometry) {
        let now = self.now;
        let Some(name) = self.host.disk(disk).map(|view| view.identity.to_string()) else { return };
        for (index, client) in self.clients.iter_mut().enumerate() {
            let Some(client) = client else { continue };
            if client.exports.contains(&disk.0) {
                client.session.handle(now, nbd::Event::Resized { export: name.clone(), geometry });
                self.touched.add(Source::Client(u32::try_from(index).expect("bounded by CLIENTS_MAX")));
            }
        }
    }
}
