//! A stream of small I/O at a fixed depth that remembers how long nothing was completed.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::REST_MAX;
use crate::harness::nbd::Client;

const BLOCK: usize = 4096;
/// Blocks at the start of the disk that only the overlapping stream writes.
const SHARED_BLOCKS: u64 = 4;
/// One in so many requests of the other stream is a write: it goes round the disk in some ten seconds so.
const ONE_WRITE_IN: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No request touches the blocks of another one in flight.
    Apart,
    /// Writes to the same few blocks, over and over.
    Overlapping,
    /// Nothing but reads: what may all go on one path, since it can be sent twice.
    Reads,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apart => "4 KiB, depth 32, apart",
            Self::Overlapping => "4 KiB, depth 8, 4 blocks",
            Self::Reads => "4 KiB, depth 32, reads alone",
        })
    }
}

impl Kind {
    const fn depth(self) -> u64 {
        match self {
            Self::Apart | Self::Reads => 32,
            Self::Overlapping => 8,
        }
    }
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    pace: Arc<Pace>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Pace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_completion: Instant,
    longest_rest: Duration,
    failure: Option<String>,
}

impl Stream {
    pub(super) fn start(kind: Kind, socket: &Path, bytes: u64) -> Result<Self> {
        let client = Client::connect(socket, REST_MAX)?;
        let state = State { last_completion: Instant::now(), longest_rest: Duration::ZERO, failure: None };
        let (pace, stop) = (Arc::new(Pace { state: Mutex::new(state) }), Arc::new(AtomicBool::new(false)));
        let (their_pace, their_stop) = (Arc::clone(&pace), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            if let Err(error) = work(kind, client, bytes / BLOCK as u64, &their_pace, &their_stop) {
                their_pace.lock().failure = Some(format!("{error:#}"));
            }
        });
        Ok(Self { kind, pace, stop, thread: Some(thread) })
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The longest time without a completion since this was asked last, the current one included.
    pub(super) fn take_longest_rest(&self) -> Duration {
        let mut state = self.pace.lock();
        let current = state.last_completion.elapsed();
        std::mem::take(&mut state.longest_rest).max(current)
    }

    /// How long nothing has been completed now.
    pub(super) fn rests_for(&self) -> Duration {
        self.pace.lock().last_completion.elapsed()
    }

    pub(super) fn ensure_good(&self) -> Result<()> {
        match &self.pace.lock().failure {
            Some(failure) => bail!("{}: {failure}", self.kind),
            None => Ok(()),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn completed(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let rest = now - state.last_completion;
        state.longest_rest = state.longest_rest.max(rest);
        state.last_completion = now;
    }
}

/// What one request is, by its block.
#[derive(Clone, Copy)]
enum Request {
    Read(u64),
    Write(u64),
}

/// A cookie is the request's number and, lowest, whether data will follow its reply.
const READ_COOKIE: u64 = 1;

impl Kind {
    /// The request of this number.
    fn request(self, number: u64, blocks: u64) -> Request {
        match self {
            Self::Overlapping => Request::Write(number % SHARED_BLOCKS),
            Self::Reads => Request::Read(number % blocks),
            Self::Apart => {
                let (turn, place) = (number / ONE_WRITE_IN, number % ONE_WRITE_IN);
                let own = (blocks - SHARED_BLOCKS) / 2;
                // Reads and writes have a half of the disk each.
                if place == 0 {
                    Request::Write(SHARED_BLOCKS + turn % own)
                } else {
                    Request::Read(SHARED_BLOCKS + own + number % own)
                }
            }
        }
    }
}

fn work(kind: Kind, mut client: Client, blocks: u64, pace: &Pace, stop: &AtomicBool) -> Result<()> {
    let mut data = vec![0x5a; BLOCK];
    let send = |client: &mut Client, number: u64| match kind.request(number, blocks) {
        Request::Write(block) => client.send_write(number << 1, block * BLOCK as u64, &[0x5a; BLOCK]),
        Request::Read(block) => client.send_read(number << 1 | READ_COOKIE, block * BLOCK as u64, BLOCK),
    };
    let mut next = 0;
    while next < kind.depth() {
        send(&mut client, next)?;
        next += 1;
    }
    while !stop.load(Ordering::Relaxed) {
        let reply = client.receive()?;
        ensure!(reply.error == 0, "a request failed with error {}", reply.error);
        if reply.cookie & READ_COOKIE != 0 {
            client.receive_data(&mut data)?;
        }
        pace.completed();
        send(&mut client, next)?;
        next += 1;
    }
    Ok(())
}
