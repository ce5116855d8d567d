//! The heads, one for each identity.
//!
//! Finding and creating is one step, and so is removing: each takes the registry by `&mut`, so nothing can come
//! between. An entry stays, and keeps its key and index taken, until it is removed; a head that is going away is
//! found like any other and refuses new paths itself. So there are never two heads for one identity, of which the
//! elder could still have writes in flight.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

/// Heads in one registry. Sixteen times what the largest known hosts address.
pub const HEADS_MAX: u32 = 65_536;

/// The place of a value in its registry: the same for the value's whole life, free for reuse after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadIndex(pub u32);

impl fmt::Display for HeadIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What [`Registry::find_or_create`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Found(HeadIndex),
    Created(HeadIndex),
}

impl Entry {
    #[must_use]
    pub const fn index(self) -> HeadIndex {
        match self {
            Self::Found(index) | Self::Created(index) => index,
        }
    }
}

/// [`HEADS_MAX`] entries are there already. Nothing was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryFull;

impl fmt::Display for RegistryFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {HEADS_MAX} disks")
    }
}

impl core::error::Error for RegistryFull {}

/// Values by identity and by index. Keys are compared whole.
#[derive(Debug)]
pub struct Registry<K, V> {
    indices: BTreeMap<K, HeadIndex>,
    slots: Vec<Option<(K, V)>>,
    free: BTreeSet<HeadIndex>,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self { indices: BTreeMap::new(), slots: Vec::new(), free: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V> Registry<K, V> {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry of `key`; made with the lowest free index if there is none.
    pub fn find_or_create(
        &mut self,
        key: &K,
        create: impl FnOnce(HeadIndex) -> V,
    ) -> Result<Entry, RegistryFull> {
        if let Some(index) = self.find(key) {
            return Ok(Entry::Found(index));
        }
        let index = self.take_index()?;
        self.slots[index.0 as usize] = Some((key.clone(), create(index)));
        self.indices.insert(key.clone(), index);
        Ok(Entry::Created(index))
    }

    #[must_use]
    pub fn find(&self, key: &K) -> Option<HeadIndex> {
        self.indices.get(key).copied()
    }

    #[must_use]
    pub fn get(&self, index: HeadIndex) -> Option<&V> {
        self.slots.get(index.0 as usize)?.as_ref().map(|(_, value)| value)
    }

    #[must_use]
    pub fn get_mut(&mut self, index: HeadIndex) -> Option<&mut V> {
        self.slots.get_mut(index.0 as usize)?.as_mut().map(|(_, value)| value)
    }

    #[must_use]
    pub fn key(&self, index: HeadIndex) -> Option<&K> {
        self.slots.get(index.0 as usize)?.as_ref().map(|(key, _)| key)
    }

    /// Takes the entry out; from now on its key is unknown and its index free. For a head: when it said
    /// [`crate::Action::Gone`].
    pub fn remove(&mut self, index: HeadIndex) -> Option<(K, V)> {
        let (key, value) = self.slots.get_mut(index.0 as usize)?.take()?;
        self.indices.remove(&key);
        self.free.insert(index);
        Some((key, value))
    }

    /// By index, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (HeadIndex, &K, &V)> {
        let indices = (0..).map(HeadIndex);
        indices
            .zip(&self.slots)
            .filter_map(|(index, slot)| slot.as_ref().map(|(key, value)| (index, key, value)))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    fn take_index(&mut self) -> Result<HeadIndex, RegistryFull> {
        if let Some(index) = self.free.pop_first() {
            return Ok(index);
        }
        let index = u32::try_from(self.slots.len()).map_err(|_| RegistryFull)?;
        if index >= HEADS_MAX {
            return Err(RegistryFull);
        }
        self.slots.push(None);
        Ok(HeadIndex(index))
    }
}
