//! Where the blocks of a logical unit live.
//!
//! Offsets and lengths are in bytes. A store knows nothing of blocks, commands or nexuses; a range that was never
//! written, or was punched, reads as zeros.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use core::fmt::Debug;

/// The medium of one logical unit.
pub trait Store: Debug + Send {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Fills `into` from `offset` on.
    ///
    /// # Errors
    /// [`StoreError`]; what is in `into` then is undefined.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), StoreError>;

    /// # Errors
    /// [`StoreError`]; a part of `bytes` may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError>;

    /// Gives the range back: it reads as zeros afterwards and takes no room.
    ///
    /// # Errors
    /// [`StoreError`]; a part of the range may be punched.
    fn punch(&mut self, offset: u64, length: u64) -> Result<(), StoreError>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing is known to be durable.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// Makes a range durable; a store that cannot do less does [`Self::flush`].
    ///
    /// # Errors
    /// As [`Self::flush`].
    fn persist(&mut self, _offset: u64, _length: u64) -> Result<(), StoreError> {
        self.flush()
    }

    /// A volatile cache loses power: about so many in a hundred of the pieces that were not made durable go back to
    /// what they held before. `chance` decides which. A store without such a cache loses nothing.
    fn lose_cache(&mut self, _percent: u64, _chance: u64) {}

    /// The longest run known to be all mapped, or all not, that starts at `offset` and ends at the end of the store.
    fn extent(&mut self, offset: u64) -> Extent;

    /// Grows with zeros, or cuts off the end.
    ///
    /// # Errors
    /// [`StoreError`]; then the size did not change.
    fn resize(&mut self, size: u64) -> Result<(), StoreError>;
}

/// A run of bytes in one provisioning state (SBC: GET LBA STATUS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub mapping: Mapping,
    /// In bytes; zero only at or beyond the end of the store.
    pub length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    Mapped,
    Deallocated,
}

/// Why a store could not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The medium failed.
    Medium,
    /// There is no room left for what was not yet mapped (a thin pool is full).
    NoSpace,
    /// The range does not lie within the store: the caller's mistake.
    OutOfRange,
}

/// A store in memory that takes room only for what was written.
#[derive(Debug)]
pub struct MemoryStore {
    size: u64,
    chunks: BTreeMap<u64, Chunk>,
    chunks_max: usize,
}

/// Memory is taken and given back in pieces of this many bytes: small enough that scattered writes stay cheap,
/// large enough that a chunk's granules fit one machine word.
const CHUNK: usize = 64 << 10;
/// What is mapped is remembered for pieces of this many bytes: the smallest block of any logical unit.
const GRANULE: usize = 512;

/// Granules that are not mapped hold zeros, so that a read never looks at `mapped`.
#[derive(Debug)]
struct Chunk {
    mapped: u128,
    bytes: Box<[u8]>,
}

const _: () = assert!(CHUNK / GRANULE == u128::BITS as usize);

impl MemoryStore {
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { size, chunks: BTreeMap::new(), chunks_max: usize::MAX }
    }

    /// A thin pool of its own: at most `allocated_max` bytes (rounded up to 64 KiB) are ever taken.
    #[must_use]
    pub const fn with_limit(size: u64, allocated_max: usize) -> Self {
        Self { size, chunks: BTreeMap::new(), chunks_max: allocated_max.div_ceil(CHUNK) }
    }

    /// How many bytes of memory are taken.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.chunks.len() as u64 * CHUNK as u64
    }

    fn check(&self, offset: u64, length: u64) -> Result<(), StoreError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(StoreError::OutOfRange),
        }
    }

    fn chunk_for_write(&mut self, index: u64) -> Result<&mut Chunk, StoreError> {
        if self.chunks.len() >= self.chunks_max && !self.chunks.contains_key(&index) {
            return Err(StoreError::NoSpace);
        }
        Ok(self
            .chunks
            .entry(index)
            .or_insert_with(|| Chunk { mapped: 0, bytes: vec![0; CHUNK].into_boxed_slice() }))
    }

    /// Whole chunks that lie within the range are freed without being looked at one by one.
    fn free_chunks(&mut self, first: u64, end: u64) {
        if self.chunks.range(first..end).next().is_some() {
            let mut kept = self.chunks.split_off(&first);
            let mut after = kept.split_off(&end);
            self.chunks.append(&mut after);
        }
    }

    fn punch_within(&mut self, piece: Piece) {
        let Some(chunk) = self.chunks.get_mut(&piece.chunk) else { return };
        chunk.bytes[piece.start..piece.start + piece.length].fill(0);
        chunk.mapped &= !granules_within(piece.start, piece.length);
        if chunk.mapped == 0 {
            self.chunks.remove(&piece.chunk);
        }
    }
}

impl Store for MemoryStore {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.check(offset, into.len() as u64)?;
        let mut rest = into;
        for piece in pieces(offset, rest.len() as u64) {
            let (now, later) = rest.split_at_mut(piece.length);
            match self.chunks.get(&piece.chunk) {
                Some(chunk) => now.copy_from_slice(&chunk.bytes[piece.start..][..piece.length]),
                None => now.fill(0),
            }
            rest = later;
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.check(offset, bytes.len() as u64)?;
        let mut rest = bytes;
        for piece in pieces(offset, rest.len() as u64) {
            let (now, later) = rest.split_at(piece.length);
            let chunk = self.chunk_for_write(piece.chunk)?;
            chunk.bytes[piece.start..][..piece.length].copy_from_slice(now);
            chunk.mapped |= granules_touched(piece.start, piece.length);
            rest = later;
        }
        Ok(())
    }

    fn punch(&mut self, offset: u64, length: u64) -> Result<(), StoreError> {
        self.check(offset, length)?;
        let first_whole = offset.div_ceil(CHUNK as u64);
        let end_whole = (offset + length) / CHUNK as u64;
        if first_whole >= end_whole {
            // The range begins and ends in the same chunk, or in two neighbours.
            for piece in pieces(offset, length) {
                self.punch_within(piece);
            }
            return Ok(());
        }
        let (whole_start, whole_end) = (first_whole * CHUNK as u64, end_whole * CHUNK as u64);
        for piece in pieces(offset, whole_start - offset) {
            self.punch_within(piece);
        }
        self.free_chunks(first_whole, end_whole);
        for piece in pieces(whole_end, offset + length - whole_end) {
            self.punch_within(piece);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn extent(&mut self, offset: u64) -> Extent {
        if offset >= self.size {
            return Extent { mapping: Mapping::Deallocated, length: 0 };
        }
        let index = offset / CHUNK as u64;
        let Some(chunk) = self.chunks.get(&index) else {
            let next = self.chunks.range(index..).next().map_or(u64::MAX, |(next, _)| *next);
            let end = next.saturating_mul(CHUNK as u64).min(self.size);
            return Extent { mapping: Mapping::Deallocated, length: end - offset };
        };
        let granule = (offset % CHUNK as u64) / GRANULE as u64;
        let from_here = chunk.mapped >> granule;
        let (mapping, run) = if from_here & 1 == 1 {
            (Mapping::Mapped, from_here.trailing_ones())
        } else {
            (Mapping::Deallocated, from_here.trailing_zeros())
        };
        let end_granule = (granule + u64::from(run)).min(u64::from(u128::BITS));
        let end = index * CHUNK as u64 + end_granule * GRANULE as u64;
        Extent { mapping, length: end.min(self.size) - offset }
    }

    fn resize(&mut self, size: u64) -> Result<(), StoreError> {
        if size < self.size {
            self.punch(size, self.size - size)?;
        }
        self.size = size;
        Ok(())
    }
}

/// The part of a range that lies in one chunk.
#[derive(Clone, Copy)]
struct Piece {
    chunk: u64,
    /// In bytes from the start of the chunk.
    start: usize,
    length: usize,
}

fn pieces(offset: u64, length: u64) -> impl Iterator<Item = Piece> {
    let end = offset + length;
    let mut at = offset;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let start = usize::try_from(at % CHUNK as u64).expect("smaller than a chunk");
        let length = usize::try_from((end - at).min((CHUNK - start) as u64)).expect("at most a chunk");
        let piece = Piece { chunk: at / CHUNK as u64, start, length };
        at += length as u64;
        Some(piece)
    })
}

/// One bit for each granule that has a byte in the range.
fn granules_touched(start: usize, length: usize) -> u128 {
    bits(start / GRANULE, (start + length).div_ceil(GRANULE))
}

/// One bit for each granule that lies wholly in the range.
fn granules_within(start: usize, length: usize) -> u128 {
    bits(start.div_ceil(GRANULE), (start + length) / GRANULE)
}

fn bits(from: usize, to: usize) -> u128 {
    if from >= to {
        return 0;
    }
    let count = to - from;
    let ones = if count >= u128::BITS as usize { u128::MAX } else { (1 << count) - 1 };
    ones << from
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn read(store: &mut MemoryStore, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; length];
        store.read_at(offset, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_never_written_reads_as_zeros_and_takes_no_room() {
        let mut store = MemoryStore::new(1 << 40);
        assert_eq!(read(&mut store, (1 << 40) - 1000, 1000), vec![0; 1000]);
        assert_eq!(store.allocated(), 0);
        assert_eq!(store.extent(0), Extent { mapping: Mapping::Deallocated, length: 1 << 40 });
    }

    #[test]
    fn a_write_across_chunks_reads_back() {
        let mut store = MemoryStore::new(1 << 20);
        let bytes: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        store.write_at(65_000, &bytes).unwrap();
        assert_eq!(read(&mut store, 65_000, bytes.len()), bytes);
        assert_eq!(read(&mut store, 64_990, 10), vec![0; 10]);
        assert_eq!(store.allocated(), 5 * CHUNK as u64);
    }

    #[test]
    fn punching_the_last_mapped_granule_frees_the_chunk() {
        let mut store = MemoryStore::new(1 << 20);
        store.write_at(512, &[1; 1024]).unwrap();
        assert_eq!(store.extent(512), Extent { mapping: Mapping::Mapped, length: 1024 });
        store.punch(512, 512).unwrap();
        assert_eq!(store.extent(512), Extent { mapping: Mapping::Deallocated, length: 512 });
        assert_eq!(read(&mut store, 512, 1024), [vec![0; 512], vec![1; 512]].concat());
        store.punch(0, 1 << 20).unwrap();
        assert_eq!(store.allocated(), 0);
    }

    #[test]
    fn a_store_with_a_limit_refuses_new_chunks_and_still_takes_overwrites() {
        let mut store = MemoryStore::with_limit(1 << 20, 1);
        store.write_at(0, &[1; 512]).unwrap();
        assert_eq!(store.write_at(1 << 18, &[1; 512]), Err(StoreError::NoSpace));
        store.write_at(512, &[2; 512]).unwrap();
        store.punch(0, 1024).unwrap();
        store.write_at(1 << 18, &[1; 512]).unwrap();
    }

    #[test]
    fn what_a_shrink_cut_off_is_zeros_when_the_store_grows_again() {
        let mut store = MemoryStore::new(1 << 20);
        store.write_at(0, &[7; 1 << 20]).unwrap();
        store.resize(1000).unwrap();
        assert_eq!(store.read_at(999, &mut [0; 2]), Err(StoreError::OutOfRange));
        store.resize(1 << 20).unwrap();
        assert_eq!(read(&mut store, 998, 4), vec![7, 7, 0, 0]);
        assert_eq!(read(&mut store, 900_000, 4), vec![0; 4]);
    }

    #[test]
    fn a_range_beyond_the_end_or_that_wraps_is_refused() {
        let mut store = MemoryStore::new(1024);
        assert_eq!(store.write_at(1023, &[0; 2]), Err(StoreError::OutOfRange));
        assert_eq!(store.punch(u64::MAX, 2), Err(StoreError::OutOfRange));
    }
}
