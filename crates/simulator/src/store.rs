//! The medium of a simulated logical unit: blocks in memory behind a volatile write cache, and it tells what is done
//! to it.
//!
//! Reads see the cache. What was not made durable can be lost, block by block: a block then holds what it held at
//! some time since it was last durable.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use array::{Extent, MemoryStore, Store, StoreError};

use crate::check::{Effect, LostBlock};
use crate::random::Random;
use crate::stamp::{self, BlockAt, Content};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct WatchedStore {
    inner: MemoryStore,
    unit: u32,
    block_size: u32,
    effects: Sender<Effect>,
    /// What blocks held before their last write, oldest first, the durable content at the front: of blocks that
    /// were written since they were last made durable.
    older: BTreeMap<u32, Vec<Content>>,
}

/// Contents that are remembered for one block besides the durable one.
const VERSIONS_MAX: usize = 8;

impl WatchedStore {
    pub(crate) fn new(size: u64, unit: u32, block_size: u32, effects: Sender<Effect>) -> Self {
        Self { inner: MemoryStore::new(size), unit, block_size, effects, older: BTreeMap::new() }
    }

    fn block(&self, offset: u64) -> u32 {
        u32::try_from(offset / u64::from(self.block_size)).expect("units are small here")
    }

    fn tell(&self, effect: Effect) {
        // At the end of a run nobody listens any more.
        let _ = self.effects.send(effect);
    }

    fn content(&mut self, lba: u32) -> Content {
        let mut bytes = vec![0; self.block_size as usize];
        let offset = u64::from(lba) * u64::from(self.block_size);
        match self.inner.read_at(offset, &mut bytes) {
            Ok(()) => stamp::read(&bytes, BlockAt { unit: self.unit, lba }),
            Err(_) => Content::Garbage,
        }
    }

    /// Remembers what these blocks hold, before something else is written.
    fn remember(&mut self, first: u32, blocks: u32) {
        for lba in first..first + blocks {
            let content = self.content(lba);
            let older = self.older.entry(lba).or_default();
            if older.len() > VERSIONS_MAX {
                older.remove(1);
            }
            older.push(content);
        }
    }

    /// True if there is such a block: the unit may have become smaller.
    fn put_back(&mut self, lba: u32, content: Content) -> bool {
        let mut bytes = vec![0; self.block_size as usize];
        match content {
            Content::Zero => {}
            Content::Write(id) => stamp::fill(&mut bytes, BlockAt { unit: self.unit, lba }, id),
            Content::Garbage => bytes.fill(0xff),
        }
        self.inner.write_at(u64::from(lba) * u64::from(self.block_size), &bytes).is_ok()
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
        let (first, blocks) = (self.block(offset), self.block(bytes.len() as u64));
        self.remember(first, blocks);
        self.inner.write_at(offset, bytes)?;
        let unit = self.unit;
        let contents = bytes
            .chunks(self.block_size as usize)
            .zip(first..)
            .map(|(block, lba)| stamp::read(block, BlockAt { unit, lba }))
            .collect();
        self.tell(Effect::Written { unit, first, contents });
        Ok(())
    }

    fn punch(&mut self, offset: u64, length: u64) -> Result<(), StoreError> {
        let (first, blocks) = (self.block(offset), self.block(length));
        self.remember(first, blocks);
        self.inner.punch(offset, length)?;
        let unit = self.unit;
        self.tell(Effect::Deallocated { unit, first, blocks });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.older.clear();
        Ok(())
    }

    fn persist(&mut self, offset: u64, length: u64) -> Result<(), StoreError> {
        let (first, blocks) = (self.block(offset), self.block(length));
        for lba in first..first + blocks {
            self.older.remove(&lba);
        }
        Ok(())
    }

    fn lose_cache(&mut self, percent: u64, chance: u64) {
        let mut random = Random::new(chance);
        let mut lost = Vec::new();
        for (lba, versions) in std::mem::take(&mut self.older) {
            if !random.percent(percent) {
                continue;
            }
            let kept = random.index(versions.len());
            let newest = self.content(lba);
            let mut dropped = versions[kept + 1..].to_vec();
            dropped.push(newest);
            if versions[kept] != newest && self.put_back(lba, versions[kept]) {
                lost.push(LostBlock { lba, kept: versions[kept], dropped });
            }
        }
        self.tell(Effect::Lost { unit: self.unit, blocks: lost });
    }

    fn extent(&mut self, offset: u64) -> Extent {
        self.inner.extent(offset)
    }

    fn resize(&mut self, size: u64) -> Result<(), StoreError> {
        let before = self.block(self.inner.size());
        let after = self.block(size);
        let mut gone = Vec::new();
        for lba in after..before {
            let dropped = self.content(lba);
            self.older.remove(&lba);
            if dropped != Content::Zero {
                gone.push(LostBlock { lba, kept: Content::Zero, dropped: Vec::new() });
            }
        }
        self.inner.resize(size)?;
        if !gone.is_empty() {
            self.tell(Effect::Lost { unit: self.unit, blocks: gone });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::stamp::WriteId;

    #[test]
    fn what_was_not_made_durable_can_be_lost_and_what_was_cannot() {
        let (sender, effects) = channel();
        let mut store = WatchedStore::new(4096, 0, 512, sender);
        let mut write = |lba: u32, id: u32| {
            let mut bytes = [0; 512];
            stamp::fill(&mut bytes, BlockAt { unit: 0, lba }, WriteId(id));
            store.write_at(u64::from(lba) * 512, &bytes).unwrap();
        };
        write(1, 7);
        write(2, 8);
        store.persist(512, 512).unwrap();
        store.lose_cache(100, 1);
        let contents = [1, 2].map(|lba| store.content(lba));
        assert_eq!(contents, [Content::Write(WriteId(7)), Content::Zero]);
        let lost = LostBlock { lba: 2, kept: Content::Zero, dropped: vec![Content::Write(WriteId(8))] };
        assert_eq!(effects.iter().nth(2), Some(Effect::Lost { unit: 0, blocks: vec![lost] }));
    }
}
