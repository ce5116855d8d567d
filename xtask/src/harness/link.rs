//! A TCP link between an initiator and one portal that can be cut (reset) or stalled (black-holed) and restored.
//! Works with any target, because it stands outside of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;
use rustix::net::connect_unspec;

/// What the link does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Clear,
    /// Every connection is reset, and every new one too.
    Cut,
    /// Nothing passes and nobody is told. What was on its way arrives when the link is restored, late.
    Stalled,
}

#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Link {
    /// Listens on a loopback port of its own; every connection to it goes on to `portal`.
    pub(crate) fn to(portal: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || acceptor.accept(&listener, portal));
        Ok(Self { address, shared })
    }

    /// Where the initiator is to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cut(&self) {
        self.shared.turn(Weather::Cut);
    }

    /// Every connection is reset, and the next one is carried: no login is cut off in its middle.
    pub(crate) fn reset(&self) {
        self.shared.lock().open.drain(..).for_each(|stream| reset(&stream));
    }

    pub(crate) fn stall(&self) {
        self.shared.turn(Weather::Stalled);
    }

    pub(crate) fn restore(&self) {
        self.shared.turn(Weather::Clear);
    }

    /// Bytes that came through so far, both ways.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.lock().carried
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.turn(Weather::Cut);
        // Wakes the acceptor, which sees that the link is closed.
        let _ = TcpStream::connect(self.address);
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    closed: bool,
    /// Both sides of every connection that is open.
    open: Vec<TcpStream>,
    carried: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { weather: Weather::Clear, closed: false, open: Vec::new(), carried: 0 }
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
            for stream in state.open.drain(..) {
                reset(&stream);
            }
        }
        self.changed.notify_all();
    }

    fn accept(self: Arc<Self>, listener: &TcpListener, portal: SocketAddr) {
        while let Ok((near, _)) = listener.accept() {
            let weather = {
                let state = self.lock();
                if state.closed {
                    return;
                }
                state.weather
            };
            match (weather, TcpStream::connect(portal)) {
                (Weather::Clear | Weather::Stalled, Ok(far)) => Self::carry(&self, near, far),
                _ => reset(&near),
            }
        }
    }

    fn carry(shared: &Arc<Self>, near: TcpStream, far: TcpStream) {
        let both = || {
            Some([
                (near.try_clone().ok()?, far.try_clone().ok()?),
                (far.try_clone().ok()?, near.try_clone().ok()?),
            ])
        };
        let Some(ways) = both() else { return reset(&near) };
        let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
        let mut state = shared.lock();
        if state.weather == Weather::Cut {
            // Cut between the accept and now.
            return reset(&near);
        }
        state.open.extend([near, far]);
        drop(state);
        for (from, to) in ways {
            let shared = Arc::clone(shared);
            thread::spawn(move || shared.pump(&from, &to));
        }
    }

    /// One direction of one connection, until either end closes or the link is cut.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut bytes = vec![0; 1 << 18];
        loop {
            let length = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => length,
                Err(_) => return reset(to),
            };
            let stalled = |state: &mut State| state.weather == Weather::Stalled;
            let mut state =
                self.changed.wait_while(self.lock(), stalled).unwrap_or_else(PoisonError::into_inner);
            state.carried += length as u64;
            drop(state);
            if to.write_all(&bytes[..length]).is_err() {
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
    fn a_cut_resets_what_is_open_and_what_comes_until_it_is_restored() {
        let link = Link::to(echo()).unwrap();
        let before = TcpStream::connect(link.address()).unwrap();
        assert_eq!(said_back(&before, b"ping").unwrap(), *b"ping");

        link.cut();
        let error = said_back(&before, b"ping").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
        let during = TcpStream::connect(link.address()).unwrap();
        assert!(said_back(&during, b"ping").is_err());

        link.restore();
        let after = TcpStream::connect(link.address()).unwrap();
        assert_eq!(said_back(&after, b"ping").unwrap(), *b"ping");
        assert_eq!(link.carried(), 16);
    }

    #[test]
    fn a_reset_link_carries_the_next_connection() {
        let link = Link::to(echo()).unwrap();
        let before = TcpStream::connect(link.address()).unwrap();
        assert_eq!(said_back(&before, b"ping").unwrap(), *b"ping");

        link.reset();
        let after = TcpStream::connect(link.address()).unwrap();
        assert!(said_back(&before, b"ping").is_err());
        assert_eq!(said_back(&after, b"ping").unwrap(), *b"ping");
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
}
