//! A workload that knows what it wrote: stamped blocks, written and read back, many in flight.
//!
//! Every 512 bytes carry the seed, their own address and the version that was written, so that data of another
//! block, another version or another run is told apart. Requests in flight never overlap unless both are reads:
//! what a read must return is then always known.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use engine::block::{Durability, Effort, Provisioning};
use engine::nbd::client::{Client, Command, Destination, Options, Receiver, Replies, Sender};

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

/// What the workload has done so far; others may look at it while it runs.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub requests: AtomicU64,
    pub bytes: AtomicU64,
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
    Zeroes,
    Flush,
}

/// One request in flight; its cookie is its place.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    kind: Kind,
    first: u64,
    blocks: u64,
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Zero: it reads as zeros, as on a new disk or after zeroing.
    version: u32,
    readers: u16,
    writing: bool,
}

struct Workload<'a> {
    sender: Sender<UnixStream>,
    receiver: Receiver<UnixStream>,
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
pub(crate) fn run(socket: &Path, seed: u64, progress: &Progress) -> Result<Option<String>> {
    let stream = UnixStream::connect(socket).context("cannot connect to the disk")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let other = stream.try_clone()?;
    let client = Client::connect(stream, &Options { export: String::new(), replies: Replies::Structured })?;
    let count = client.export().size / BLOCK;
    if count == 0 {
        bail!("the disk is too small for the check");
    }
    let (sender, receiver) = client.split(other);
    let mut workload = Workload {
        sender,
        receiver,
        destinations: vec![Destination::default(); DEPTH],
        slots: vec![None; DEPTH],
        blocks: vec![Block::default(); usize::try_from(count)?],
        versions: 0,
        random: Random(seed | 1),
        payload: Vec::new(),
        progress,
        last_completion: Instant::now(),
        first_failure: None,
    };
    workload.start_from_zeros()?;
    workload.mix()?;
    workload.read_back()?;
    workload.sender.disconnect()?;
    Ok(workload.first_failure)
}

impl Workload<'_> {
    /// The disk may hold anything at first; afterwards it reads as zeros.
    fn start_from_zeros(&mut self) -> Result<()> {
        let count = self.blocks.len() as u64;
        let mut first = 0;
        while first < count {
            let blocks = (count - first).min((64 << 20) / BLOCK);
            self.start(InFlight { kind: Kind::Zeroes, first, blocks })?;
            first += blocks;
        }
        self.drain()
    }

    fn mix(&mut self) -> Result<()> {
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
            self.start(InFlight { kind: Kind::Read, first, blocks })?;
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
            _ => return Some(InFlight { kind: Kind::Flush, first: 0, blocks: 0 }),
        };
        // A small part of the disk is used often, so that blocks are overwritten again and again.
        let count = self.blocks.len() as u64;
        let span = if self.random.below(2) == 0 { count.min(1024) } else { count };
        for _ in 0..8 {
            let blocks = SIZES[usize::try_from(self.random.below(SIZES.len() as u64)).unwrap_or(0)].min(span);
            let first = self.random.below(span - blocks + 1);
            let request = InFlight { kind, first, blocks };
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
        let offset = request.first * BLOCK;
        let length = u32::try_from(request.blocks * BLOCK)?;
        self.destinations[slot].data.clear();
        match request.kind {
            Kind::Read => {
                self.destinations[slot] = Destination { offset, data: vec![0; length as usize] };
                self.range(request).iter_mut().for_each(|block| block.readers += 1);
                self.sender.send(slot as u64, &Command::Read { offset, length })?;
            }
            Kind::Write => {
                self.versions += 1;
                let version = self.versions;
                for block in self.range(request) {
                    *block = Block { version, readers: 0, writing: true };
                }
                stamp(&mut self.payload, request, version);
                let durability = if version.is_multiple_of(16) {
                    Durability::ForceUnitAccess
                } else {
                    Durability::Volatile
                };
                self.sender.send(slot as u64, &Command::Write { offset, data: &self.payload, durability })?;
            }
            Kind::Zeroes => {
                for block in self.range(request) {
                    *block = Block { version: 0, readers: 0, writing: true };
                }
                let command = Command::WriteZeroes {
                    offset,
                    length,
                    durability: Durability::Volatile,
                    provisioning: Provisioning::MayDeallocate,
                    effort: Effort::Any,
                };
                self.sender.send(slot as u64, &command)?;
            }
            Kind::Flush => self.sender.send(slot as u64, &Command::Flush)?,
        }
        self.slots[slot] = Some(request);
        Ok(())
    }

    fn complete_one(&mut self) -> Result<()> {
        let reply = self.receiver.receive(&mut self.destinations).context("the disk stopped answering")?;
        let slot = usize::try_from(reply.cookie)?;
        let request = self.slots.get_mut(slot).and_then(Option::take).context("a reply to nothing")?;
        let now = Instant::now();
        let pause = now.duration_since(self.last_completion).as_micros();
        self.progress.longest_pause_us.fetch_max(u64::try_from(pause)?, Ordering::Relaxed);
        self.last_completion = now;
        self.progress.requests.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes.fetch_add(request.blocks * BLOCK, Ordering::Relaxed);
        if let Err(error) = reply.result {
            self.progress.errors.fetch_add(1, Ordering::Relaxed);
            self.remember(format!("{request:?} failed: {error}"));
        } else if request.kind == Kind::Read {
            self.verify(slot, request);
        }
        match request.kind {
            Kind::Read => self.range(request).iter_mut().for_each(|block| block.readers -= 1),
            Kind::Write | Kind::Zeroes => {
                self.range(request).iter_mut().for_each(|block| block.writing = false);
            }
            Kind::Flush => {}
        }
        Ok(())
    }

    fn verify(&mut self, slot: usize, request: InFlight) {
        let data = std::mem::take(&mut self.destinations[slot].data);
        let versions: Vec<u32> = self.range(request).iter().map(|block| block.version).collect();
        for (index, sector) in data.chunks_exact(SECTOR).enumerate() {
            let version = versions[index * SECTOR / usize::try_from(BLOCK).unwrap_or(1)];
            let address = request.first * BLOCK + (index * SECTOR) as u64;
            let right = if version == 0 {
                sector.iter().all(|byte| *byte == 0)
            } else {
                sector == sector_of(address, version)
            };
            if !right {
                self.progress.mismatches.fetch_add(1, Ordering::Relaxed);
                let found = sector.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                self.remember(format!("at byte {address}: version {version} expected, found {found:x?}…"));
            }
        }
    }

    fn remember(&mut self, failure: String) {
        self.first_failure.get_or_insert(failure);
    }
}

fn stamp(payload: &mut Vec<u8>, request: InFlight, version: u32) {
    payload.clear();
    for sector in 0..request.blocks * BLOCK / SECTOR as u64 {
        payload.extend_from_slice(&sector_of(request.first * BLOCK + sector * SECTOR as u64, version));
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
