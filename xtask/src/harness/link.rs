//! A TCP link between an initiator and one portal that can be cut (reset), stalled (black-holed) and restored, or that
//! keeps what it has taken and delivers it long after the initiator has given the connection up. It also tells how
//! each connection was logged in. Works with any target, because it stands outside of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;
use rustix::net::{connect_unspec, listen, shutdown};

use super::process::free_address;

/// What the link does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Clear,
    /// Every connection is reset, and new ones are refused.
    Cut,
    /// Nothing passes and nobody is told. What was on its way arrives when the link is restored, late.
    Stalled,
}

/// What becomes of connections that are made while the old ones are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newcomers {
    Carried,
    Refused,
}

/// A Login Request PDU's header, as far as a nexus is named by it (RFC 7143, 11.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: u16,
    /// CSG: 0 is security negotiation, 1 operational.
    pub(crate) stage: u8,
}

/// Connections that wait to be accepted: more than any initiator of ours opens at once.
const BACKLOG: i32 = 128;

/// A basic header segment, and what in it says Login Request (RFC 7143, 11.2.1.2 and 11.12).
const HEADER: usize = 48;
const OPCODE: u8 = 0x3f;
const LOGIN_REQUEST: u8 = 0x03;

#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Link {
    /// Listens on a loopback port of its own; every connection to it goes on to `portal`.
    pub(crate) fn to(portal: SocketAddr) -> Result<Self> {
        // A port that was asked for by its number stays ours while nobody listens on it.
        let listener = TcpListener::bind(free_address()?)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { listener, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || acceptor.accept(portal));
        Ok(Self { address, shared })
    }

    /// Where the initiator is to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cut(&self) {
        self.shared.turn(Weather::Cut);
    }

    pub(crate) fn stall(&self) {
        self.shared.turn(Weather::Stalled);
    }

    pub(crate) fn restore(&self) {
        self.shared.turn(Weather::Clear);
    }

    /// From now on what the initiator sends on open connections is taken and kept, whatever becomes of their near
    /// ends; the target hears nothing, not even that they ended. What the target sends is lost.
    pub(crate) fn hold(&self, newcomers: Newcomers) {
        let mut state = self.shared.lock();
        for connection in &mut state.open {
            connection.fate = Fate::Held { late: Vec::new() };
        }
        if newcomers == Newcomers::Refused {
            state.weather = Weather::Cut;
            self.shared.refuse();
        }
    }

    /// How many bytes are held.
    pub(crate) fn held(&self) -> usize {
        let state = self.shared.lock();
        let late = state.open.iter().map(|connection| match &connection.fate {
            Fate::Held { late } => late.len(),
            Fate::Carried | Fate::Abandoned => 0,
        });
        late.sum()
    }

    /// Gives the target what was held, in order, as a network does that had only been slow. The connections' far
    /// ends stay open, and nothing more comes over them.
    pub(crate) fn deliver(&self) {
        let mut state = self.shared.lock();
        for connection in &mut state.open {
            if let Fate::Held { late } = std::mem::replace(&mut connection.fate, Fate::Abandoned) {
                // A target that has given the connection up in the meantime refuses, and that is well.
                let _ = (&connection.far).write_all(&late);
            }
        }
    }

    /// The held connections go on as if nothing had been: what was held is delivered, and what follows is carried.
    pub(crate) fn resume(&self) {
        let mut state = self.shared.lock();
        for connection in &mut state.open {
            if let Fate::Held { late } = std::mem::replace(&mut connection.fate, Fate::Carried) {
                let _ = (&connection.far).write_all(&late);
            }
        }
        drop(state);
        self.restore();
    }

    /// Bytes that came through so far, both ways.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.lock().carried
    }

    /// How every connection so far began that began with a login, the oldest first.
    pub(crate) fn logins(&self) -> Vec<Login> {
        self.shared.lock().logins.clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.turn(Weather::Cut);
    }
}

#[derive(Debug)]
struct Shared {
    listener: TcpListener,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    closed: bool,
    open: Vec<Connection>,
    next_connection: u64,
    carried: u64,
    logins: Vec<Login>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    near: TcpStream,
    far: TcpStream,
    fate: Fate,
    /// Its first bytes from the initiator, up to a header.
    opening: Vec<u8>,
}

#[derive(Debug)]
enum Fate {
    Carried,
    /// What the initiator sent since; the target has not seen it.
    Held {
        late: Vec<u8>,
    },
    /// Nothing passes any more.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToTarget,
    ToInitiator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Forward,
    /// Somebody else has taken it, or nobody.
    Swallowed,
}

impl Default for State {
    fn default() -> Self {
        Self {
            weather: Weather::Clear,
            closed: false,
            open: Vec::new(),
            next_connection: 0,
            carried: 0,
            logins: Vec::new(),
        }
    }
}

impl State {
    fn connection(&mut self, id: u64) -> Option<&mut Connection> {
        self.open.iter_mut().find(|connection| connection.id == id)
    }

    /// Decides about bytes that came on a connection.
    fn pass(&mut self, id: u64, way: Way, bytes: &[u8]) -> Passage {
        let Some(connection) = self.connection(id) else { return Passage::Swallowed };
        if way == Way::ToTarget
            && let Some(login) = connection.listen(bytes)
        {
            self.logins.push(login);
        }
        let Some(connection) = self.connection(id) else { return Passage::Swallowed };
        match (&mut connection.fate, way) {
            (Fate::Carried, _) => {
                self.carried += bytes.len() as u64;
                Passage::Forward
            }
            (Fate::Held { late }, Way::ToTarget) => {
                late.extend_from_slice(bytes);
                Passage::Swallowed
            }
            (Fate::Held { .. }, Way::ToInitiator) | (Fate::Abandoned, _) => Passage::Swallowed,
        }
    }

    fn is_carried(&mut self, id: u64) -> bool {
        self.connection(id).is_some_and(|connection| matches!(connection.fate, Fate::Carried))
    }
}

impl Connection {
    /// Gathers the first header; the login that it is, once it is complete.
    fn listen(&mut self, bytes: &[u8]) -> Option<Login> {
        if self.opening.len() >= HEADER {
            return None;
        }
        self.opening.extend_from_slice(&bytes[..bytes.len().min(HEADER - self.opening.len())]);
        let header: &[u8; HEADER] = self.opening.first_chunk()?;
        let isid = *header[8..].first_chunk()?;
        let tsih = u16::from_be_bytes([header[14], header[15]]);
        (header[0] & OPCODE == LOGIN_REQUEST).then_some(Login { isid, tsih, stage: header[1] >> 2 & 0b11 })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, weather: Weather) {
        let mut state = self.lock();
        state.weather = weather;
        if weather == Weather::Cut {
            // First, so that nobody who sees the reset finds the door still open.
            self.refuse();
            for connection in state.open.drain(..) {
                reset(&connection.near);
                reset(&connection.far);
            }
        } else {
            // It listens already, or it can again: nobody else can have the port.
            let _ = listen(&self.listener, BACKLOG);
        }
        self.changed.notify_all();
    }

    /// Ends listening and wakes the acceptor; the port stays bound (Linux).
    fn refuse(&self) {
        let _ = shutdown(&self.listener, rustix::net::Shutdown::Read);
    }

    fn accept(self: Arc<Self>, portal: SocketAddr) {
        loop {
            let accepted = self.listener.accept();
            let refuses = |state: &mut State| state.weather == Weather::Cut && !state.closed;
            let state = self.lock();
            match accepted {
                Ok((near, _)) if state.weather == Weather::Cut => reset(&near),
                Ok((near, _)) => {
                    drop(state);
                    match TcpStream::connect(portal) {
                        Ok(far) => Self::carry(&self, near, far),
                        Err(_) => reset(&near),
                    }
                }
                Err(_) => {
                    let state = self.changed.wait_while(state, refuses);
                    if state.unwrap_or_else(PoisonError::into_inner).closed {
                        return;
                    }
                }
            }
        }
    }

    fn carry(shared: &Arc<Self>, near: TcpStream, far: TcpStream) {
        let both = || {
            Some([
                (near.try_clone().ok()?, far.try_clone().ok()?, Way::ToTarget),
                (far.try_clone().ok()?, near.try_clone().ok()?, Way::ToInitiator),
            ])
        };
        let Some(ways) = both() else { return reset(&near) };
        let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
        let mut state = shared.lock();
        if state.weather == Weather::Cut {
            // Cut between the accept and now.
            return reset(&near);
        }
        let id = state.next_connection;
        state.next_connection += 1;
        state.open.push(Connection { id, near, far, fate: Fate::Carried, opening: Vec::new() });
        drop(state);
        for (from, to, way) in ways {
            let shared = Arc::clone(shared);
            thread::spawn(move || shared.pump(id, way, &from, &to));
        }
    }

    /// One direction of one connection, until either end closes or the link is cut.
    fn pump(&self, id: u64, way: Way, mut from: &TcpStream, mut to: &TcpStream) {
        let mut bytes = vec![0; 1 << 18];
        loop {
            let read = from.read(&mut bytes);
            let stalled = |state: &mut State| state.weather == Weather::Stalled;
            let mut state =
                self.changed.wait_while(self.lock(), stalled).unwrap_or_else(PoisonError::into_inner);
            let length = match read {
                Ok(length) if length > 0 => length,
                // Neither end of a held connection hears of the other's end.
                _ if !state.is_carried(id) => return,
                Ok(_) => break,
                Err(_) => return reset(to),
            };
            let passage = state.pass(id, way, &bytes[..length]);
            drop(state);
            if passage == Passage::Forward && to.write_all(&bytes[..length]).is_err() {
                return reset(from);
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// Ends a connection the hard way: the kernel sends RST, however many handles of the socket are open.
fn reset(stream: &TcpStream) {
    let _ = connect_unspec(stream);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::Ipv4Addr;

    use super::*;

    /// A portal that sends every byte back.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        address
    }

    fn said_back(mut stream: &TcpStream, word: &[u8; 4]) -> std::io::Result<[u8; 4]> {
        stream.write_all(word)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn a_cut_resets_what_is_open_and_refuses_what_comes_until_it_is_restored() {
        let link = Link::to(echo()).unwrap();
        let before = TcpStream::connect(link.address()).unwrap();
        assert_eq!(said_back(&before, b"ping").unwrap(), *b"ping");

        link.cut();
        let error = said_back(&before, b"ping").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        let during = TcpStream::connect(link.address()).unwrap_err();
        assert_eq!(during.kind(), ErrorKind::ConnectionRefused);

        link.restore();
        let after = TcpStream::connect(link.address()).unwrap();
        assert_eq!(said_back(&after, b"ping").unwrap(), *b"ping");
        assert_eq!(link.carried(), 16);
    }

    #[test]
    fn what_a_stalled_link_holds_arrives_late() {
        let link = Link::to(echo()).unwrap();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        assert_eq!(said_back(&stream, b"ping").unwrap(), *b"ping");

        link.stall();
        stream.write_all(b"late").unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(30))).unwrap();
        let mut answer = [0; 4];
        assert_eq!(stream.read(&mut answer).unwrap_err().kind(), ErrorKind::WouldBlock);

        link.restore();
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"late");
    }

    /// A portal that tells what it has received so far whenever it is asked.
    fn ear() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let ears = Arc::clone(&heard);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut bytes = [0; 64];
                while let Ok(length) = stream.read(&mut bytes) {
                    if length == 0 {
                        break;
                    }
                    ears.lock().unwrap().extend_from_slice(&bytes[..length]);
                }
            }
        });
        (address, heard)
    }

    fn soon(mut is_so: impl FnMut() -> bool) {
        let limit = std::time::Duration::from_secs(20);
        crate::harness::process::wait_until(limit, "change", || is_so().then_some(())).unwrap();
    }

    #[test]
    fn what_a_link_holds_is_delivered_after_the_initiator_has_given_up() {
        let (portal, heard) = ear();
        let link = Link::to(portal).unwrap();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        stream.write_all(b"first").unwrap();
        soon(|| *heard.lock().unwrap() == b"first");

        link.hold(Newcomers::Refused);
        stream.write_all(b", late").unwrap();
        soon(|| link.held() == 6);
        reset(&stream);
        assert!(TcpStream::connect(link.address()).is_err(), "a newcomer is refused");
        assert_eq!(*heard.lock().unwrap(), b"first");

        link.deliver();
        soon(|| *heard.lock().unwrap() == b"first, late");
    }

    #[test]
    fn a_login_is_read_off_the_wire_however_it_is_cut() {
        let (portal, _) = ear();
        let link = Link::to(portal).unwrap();
        let mut stream = TcpStream::connect(link.address()).unwrap();
        let mut header = [0; HEADER];
        (header[0], header[1]) = (0x43, 0x87);
        header[8..14].copy_from_slice(&[0x80, 1, 2, 3, 4, 5]);
        for piece in header.chunks(20) {
            stream.write_all(piece).unwrap();
        }
        soon(|| !link.logins().is_empty());
        assert_eq!(link.logins(), [Login { isid: [0x80, 1, 2, 3, 4, 5], tsih: 0, stage: 1 }]);
    }
}
