//! A workload that knows what it wrote: stamped blocks, written and read back, many in flight.
//!
//! Every 512 bytes carry their own address and the version that was written, so that data of another block or another
//! version is told apart. Requests in flight never overlap unless both are reads:
//! what a read must return is then always known.
//!
//! If the server may go away and come back, what was in flight then is sent again, or looked at and written anew: of
//! a write that was never acknowledged either the old or the new data are right, until the next one is acknowledged.

mod command;
mod connection;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use engine::block::{Durability, Effort, Provisioning};
use engine::config::ExportAddress;
use engine::nbd::client::{Command, Destination, Error, Receiver, Sender};

pub(crate) use command::run as command;
use connection::Stream;

/// Requests in flight.
const DEPTH: usize = 32;
/// What is written at once and verified at once, in bytes: the block size that most file systems use.
const BLOCK: u64 = 4 << 10;
/// Every so many bytes carry a stamp: the smallest logical block.
const SECTOR: usize = 512;
/// How many blocks a request may have: 4 KiB to 256 KiB.
const SIZES: [u64; 7] = [1, 1, 2, 4, 8, 16, 64];
/// A disk that does not answer for so long has lost a request: longer than a command and an abort may take.
const PATIENCE: Duration = Duration::from_secs(75);
/// Between two attempts to reach a server that went away.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// Which disk is checked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub server: ExportAddress,
    /// Empty means the server's default export.
    pub export: String,
    pub seed: u64,
    pub lost_server: LostServer,
}

/// What a lost connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostServer {
    /// The check has failed.
    Fails,
    /// The server is awaited, for as long as an answer would be.
    ComesBack,
}

/// What the workload has done so far; others may look at it while it runs.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub requests: AtomicU64,
    pub bytes: AtomicU64,
    pub acknowledged_writes: AtomicU64,
    pub reconnections: AtomicU64,
    pub errors: AtomicU64,
    pub mismatches: AtomicU64,
    /// The longest time without any completion, in microseconds.
    pub longest_pause_us: AtomicU64,
    pub stop: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    /// Looks at what an unacknowledged write left, before the blocks are written anew.
    Inspect,
    Zeroes,
    Flush,
}

/// One request in flight; its cookie is its place.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    kind: Kind,
    first: u64,
    blocks: u64,
    /// Of the data, for a write.
    version: u32,
}

/// What is known of a block.
#[derive(Debug, Clone, Default)]
struct Block {
    /// Of the last write that was sent. Zero: it reads as zeros, as on a new disk or after zeroing.
    version: u32,
    /// What it may hold as well while that write is not acknowledged.
    or_else: Vec<u32>,
    readers: u16,
    writing: bool,
}

struct Workload<'a> {
    options: &'a Options,
    sender: Sender<Stream>,
    receiver: Receiver<Stream>,
    /// The connection is gone; nothing in flight will be answered on it.
    lost: Option<String>,
    destinations: Vec<Destination>,
    slots: Vec<Option<InFlight>>,
    blocks: Vec<Block>,
    versions: u32,
    random: Random,
    payload: Vec<u8>,
    progress: &'a Progress,
    last_completion: Instant,
    first_failure: Option<String>,
}

/// Runs until told to stop, then reads everything back. Errors and mismatches are counted, not returned.
pub(crate) fn run(options: &Options, progress: &Progress) -> Result<Option<String>> {
    let connection = connection::open(&options.server, &options.export)?;
    let count = connection.size / BLOCK;
    if count == 0 {
        bail!("the disk is too small for the check");
    }
    let mut workload = Workload {
        options,
        sender: connection.sender,
        receiver: connection.receiver,
        lost: None,
        destinations: vec![Destination::default(); DEPTH],
        slots: vec![None; DEPTH],
        blocks: vec![Block::default(); usize::try_from(count)?],
        versions: 0,
        random: Random(options.seed | 1),
        payload: Vec::new(),
        progress,
        last_completion: Instant::now(),
        first_failure: None,
    };
    workload.start_from_zeros()?;
    workload.mix()?;
    workload.read_back()?;
    // Everything is answered: whether the server hears the goodbye does not matter.
    let _ = workload.sender.disconnect();
    Ok(workload.first_failure)
}

impl Workload<'_> {
    /// The disk may hold anything at first; afterwards it reads as zeros.
    fn start_from_zeros(&mut self) -> Result<()> {
        let count = self.blocks.len() as u64;
        let mut first = 0;
        while first < count {
            let blocks = (count - first).min((64 << 20) / BLOCK);
            self.start(InFlight::new(Kind::Zeroes, first, blocks))?;
            first += blocks;
        }
        self.drain()
    }

    fn mix(&mut self) -> Result<()> {
        self.progress.longest_pause_us.store(0, Ordering::Relaxed);
        self.last_completion = Instant::now();
        while !self.progress.stop.load(Ordering::Relaxed) {
            while self.slots.iter().any(Option::is_none) {
                let Some(request) = self.draw() else { break };
                self.start(request)?;
            }
            self.complete_one()?;
        }
        self.drain()
    }

    fn read_back(&mut self) -> Result<()> {
        let count = self.blocks.len() as u64;
        let mut first = 0;
        while first < count {
            if self.slots.iter().all(Option::is_some) {
                self.complete_one()?;
            }
            let blocks = (count - first).min(64);
            self.start(InFlight::new(Kind::Read, first, blocks))?;
            first += blocks;
        }
        self.drain()
    }

    fn drain(&mut self) -> Result<()> {
        while self.slots.iter().any(Option::is_some) {
            self.complete_one()?;
        }
        Ok(())
    }

    /// A random request that does not overlap what is in flight; none if there is no room for one just now.
    fn draw(&mut self) -> Option<InFlight> {
        let kind = match self.random.below(100) {
            0..48 => Kind::Write,
            48..94 => Kind::Read,
            94..98 => Kind::Zeroes,
            _ => return Some(InFlight::new(Kind::Flush, 0, 0)),
        };
        // A small part of the disk is used often, so that blocks are overwritten again and again.
        let count = self.blocks.len() as u64;
        let span = if self.random.below(2) == 0 { count.min(1024) } else { count };
        for _ in 0..8 {
            let blocks = SIZES[usize::try_from(self.random.below(SIZES.len() as u64)).unwrap_or(0)].min(span);
            let first = self.random.below(span - blocks + 1);
            let request = InFlight::new(kind, first, blocks);
            if self
                .range(request)
                .iter()
                .all(|block| !block.writing && (kind == Kind::Read || block.readers == 0))
            {
                return Some(request);
            }
        }
        None
    }

    fn range(&mut self, request: InFlight) -> &mut [Block] {
        let first = usize::try_from(request.first).unwrap_or(usize::MAX);
        let blocks = usize::try_from(request.blocks).unwrap_or(0);
        &mut self.blocks[first..first + blocks]
    }

    fn start(&mut self, request: InFlight) -> Result<()> {
        while self.slots.iter().all(Option::is_some) {
            self.complete_one()?;
        }
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(0);
        self.start_in(slot, request);
        Ok(())
    }

    /// Claims its blocks, and sends it.
    fn start_in(&mut self, slot: usize, mut request: InFlight) {
        match request.kind {
            Kind::Read => self.range(request).iter_mut().for_each(|block| block.readers += 1),
            Kind::Write => {
                self.versions += 1;
                request.version = self.versions;
                self.claim(request);
            }
            Kind::Zeroes => self.claim(request),
            Kind::Inspect | Kind::Flush => {}
        }
        self.slots[slot] = Some(request);
        self.send(slot, request);
    }

    fn claim(&mut self, request: InFlight) {
        for block in self.range(request) {
            let before = std::mem::replace(&mut block.version, request.version);
            if !block.or_else.contains(&before) {
                block.or_else.push(before);
            }
            block.writing = true;
        }
    }

    /// Sends what is in a slot, for the first time or again.
    fn send(&mut self, slot: usize, request: InFlight) {
        let offset = request.first * BLOCK;
        let length = u32::try_from(request.blocks * BLOCK).expect("no request has more than 64 MiB");
        self.destinations[slot].data.clear();
        let command = match request.kind {
            Kind::Read | Kind::Inspect => {
                self.destinations[slot] = Destination { offset, data: vec![0; length as usize] };
                Command::Read { offset, length }
            }
            Kind::Write => {
                stamp(&mut self.payload, request);
                let durability = if request.version.is_multiple_of(16) {
                    Durability::ForceUnitAccess
                } else {
                    Durability::Volatile
                };
                Command::Write { offset, data: &self.payload, durability }
            }
            Kind::Zeroes => Command::WriteZeroes {
                offset,
                length,
                durability: Durability::Volatile,
                provisioning: Provisioning::MayDeallocate,
                effort: Effort::Any,
            },
            Kind::Flush => Command::Flush,
        };
        if let Err(error) = self.sender.send(slot as u64, &command) {
            self.lost = Some(error.to_string());
        }
    }

    fn complete_one(&mut self) -> Result<()> {
        if let Some(reason) = self.lost.take() {
            return self.reconnect(reason);
        }
        let reply = match self.receiver.receive(&mut self.destinations) {
            Ok(reply) => reply,
            Err(Error::Connection(error)) if !connection::is_timeout(&error) => {
                self.lost = Some(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error).context("the disk stopped answering"),
        };
        let slot = usize::try_from(reply.cookie)?;
        let request = self.slots.get_mut(slot).and_then(Option::take).context("a reply to nothing")?;
        self.count(request)?;
        if let Err(error) = reply.result {
            self.progress.errors.fetch_add(1, Ordering::Relaxed);
            self.remember(format!("{request:?} failed: {error}"));
        }
        self.finish(slot, request, reply.result.is_ok());
        Ok(())
    }

    fn count(&mut self, request: InFlight) -> Result<()> {
        let now = Instant::now();
        let pause = now.duration_since(self.last_completion).as_micros();
        self.progress.longest_pause_us.fetch_max(u64::try_from(pause)?, Ordering::Relaxed);
        self.last_completion = now;
        self.progress.requests.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes.fetch_add(request.blocks * BLOCK, Ordering::Relaxed);
        Ok(())
    }

    fn finish(&mut self, slot: usize, request: InFlight, is_good: bool) {
        if matches!(request.kind, Kind::Read | Kind::Inspect) && is_good {
            self.verify(slot, request);
        }
        match request.kind {
            Kind::Read => self.range(request).iter_mut().for_each(|block| block.readers -= 1),
            Kind::Write | Kind::Zeroes => {
                for block in self.range(request) {
                    block.writing = false;
                    if is_good {
                        block.or_else.clear();
                    }
                }
                let acknowledged = &self.progress.acknowledged_writes;
                acknowledged.fetch_add(u64::from(is_good), Ordering::Relaxed);
            }
            Kind::Inspect => self.start_in(slot, InFlight { kind: Kind::Write, ..request }),
            Kind::Flush => {}
        }
    }

    /// Waits for the server's return, and takes up what was in flight: a write is sent again, or others take its
    /// place, with a look at what it left or without.
    fn reconnect(&mut self, reason: String) -> Result<()> {
        if self.options.lost_server == LostServer::Fails {
            bail!("the disk stopped answering: {reason}");
        }
        let end = Instant::now() + PATIENCE;
        let connection = loop {
            match connection::open(&self.options.server, &self.options.export) {
                Ok(connection) => break connection,
                Err(error) if Instant::now() > end => {
                    return Err(error).context("the server does not come back");
                }
                Err(_) => std::thread::sleep(RECONNECT_PAUSE),
            }
        };
        (self.sender, self.receiver) = (connection.sender, connection.receiver);
        self.progress.reconnections.fetch_add(1, Ordering::Relaxed);
        for slot in 0..self.slots.len() {
            let Some(request) = self.slots[slot] else { continue };
            match (request.kind, self.random.below(3)) {
                (Kind::Write, 0) => self.start_in(slot, request),
                (Kind::Write, 1) => self.start_in(slot, InFlight { kind: Kind::Inspect, ..request }),
                _ => self.send(slot, request),
            }
        }
        Ok(())
    }

    fn verify(&mut self, slot: usize, request: InFlight) {
        let data = std::mem::take(&mut self.destinations[slot].data);
        let blocks = self.range(request).to_vec();
        for (index, sector) in data.chunks_exact(SECTOR).enumerate() {
            let block = &blocks[index * SECTOR / usize::try_from(BLOCK).unwrap_or(1)];
            let address = request.first * BLOCK + (index * SECTOR) as u64;
            let is_right = |version: &u32| {
                if *version == 0 {
                    sector.iter().all(|byte| *byte == 0)
                } else {
                    sector == sector_of(address, *version)
                }
            };
            // While nobody writes, `or_else` is empty unless a write failed.
            if !is_right(&block.version) && !block.or_else.iter().any(is_right) {
                self.progress.mismatches.fetch_add(1, Ordering::Relaxed);
                let version = block.version;
                self.remember(format!(
                    "at byte {address}: version {version} expected, found {}",
                    told(sector)
                ));
            }
        }
    }

    fn remember(&mut self, failure: String) {
        self.first_failure.get_or_insert(failure);
    }
}

impl InFlight {
    const fn new(kind: Kind, first: u64, blocks: u64) -> Self {
        Self { kind, first, blocks, version: 0 }
    }
}

/// What a sector says of itself, for people.
fn told(sector: &[u8]) -> String {
    match (sector.first_chunk(), sector.get(8..12).and_then(|bytes| bytes.first_chunk())) {
        (Some(address), Some(version)) => {
            format!("byte {} version {}", u64::from_be_bytes(*address), u32::from_be_bytes(*version))
        }
        _ => String::from("too little"),
    }
}

fn stamp(payload: &mut Vec<u8>, request: InFlight) {
    payload.clear();
    for sector in 0..request.blocks * BLOCK / SECTOR as u64 {
        payload
            .extend_from_slice(&sector_of(request.first * BLOCK + sector * SECTOR as u64, request.version));
    }
}

/// The content of one sector: its address and version, over and over.
fn sector_of(address: u64, version: u32) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    for (index, stamp) in (0x5a5a_5a5a_u32..).zip(sector.chunks_exact_mut(16)) {
        stamp[..8].copy_from_slice(&address.to_be_bytes());
        stamp[8..12].copy_from_slice(&version.to_be_bytes());
        stamp[12..].copy_from_slice(&index.to_be_bytes());
    }
    sector
}

/// xorshift64: the workload must be varied, not unpredictable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
