//! One medium behind several arrays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use array::{Extent, Store, StoreError};

/// A handle of a store that others hold too. See [`Store`].
#[derive(Debug, Clone)]
pub(super) struct SharedStore(Arc<Mutex<Box<dyn Store>>>);

impl SharedStore {
    pub(super) fn new(store: Box<dyn Store>) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Store>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SharedStore {
    fn size(&self) -> u64 {
        self.lock().size()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.lock().read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.lock().write_at(offset, bytes)
    }

    fn punch(&mut self, offset: u64, length: u64) -> Result<(), StoreError> {
        self.lock().punch(offset, length)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.lock().flush()
    }

    fn extent(&mut self, offset: u64) -> Extent {
        self.lock().extent(offset)
    }

    fn resize(&mut self, size: u64) -> Result<(), StoreError> {
        self.lock().resize(size)
    }
}
