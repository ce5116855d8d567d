//! The medium of the simulated array: a store in memory that tells what is done to it.

use std::sync::mpsc::Sender;

use array::{Extent, MemoryStore, Store, StoreError};

use crate::check::Effect;
use crate::stamp::{self, BlockAt};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct WatchedStore {
    inner: MemoryStore,
    unit: u32,
    block_size: u32,
    effects: Sender<Effect>,
}

impl WatchedStore {
    pub(crate) const fn new(size: u64, unit: u32, block_size: u32, effects: Sender<Effect>) -> Self {
        Self { inner: MemoryStore::new(size), unit, block_size, effects }
    }

    fn block(&self, offset: u64) -> u32 {
        u32::try_from(offset / u64::from(self.block_size)).expect("units are small here")
    }

    fn tell(&self, effect: Effect) {
        // At the end of a run nobody listens any more.
        let _ = self.effects.send(effect);
    }
}

impl Store for WatchedStore {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.write_at(offset, bytes)?;
        let first = self.block(offset);
        let contents = bytes
            .chunks(self.block_size as usize)
            .zip(first..)
            .map(|(block, lba)| stamp::read(block, BlockAt { unit: self.unit, lba }))
            .collect();
        self.tell(Effect::Written { unit: self.unit, first, contents });
        Ok(())
    }

    fn punch(&mut self, offset: u64, length: u64) -> Result<(), StoreError> {
        self.inner.punch(offset, length)?;
        let (first, blocks) = (self.block(offset), self.block(length));
        self.tell(Effect::Deallocated { unit: self.unit, first, blocks });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn extent(&mut self, offset: u64) -> Extent {
        self.inner.extent(offset)
    }

    fn resize(&mut self, size: u64) -> Result<(), StoreError> {
        self.inner.resize(size)
    }
}
