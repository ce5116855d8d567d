//! Memory that moves with a request.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// Bytes with one owner. Its memory may be larger than what is in use, so that it can be pooled.
#[derive(Default)]
pub struct Buffer {
    memory: Box<[u8]>,
    length: usize,
}

impl Buffer {
    /// A buffer that holds nothing and allocates nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        Self { memory: vec![0; length].into_boxed_slice(), length }
    }

    /// How many bytes the buffer could hold without a new allocation.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Makes `length` bytes of the memory the content; what they are is whatever was there before.
    ///
    /// # Panics
    /// If `length` is larger than [`Self::capacity`].
    pub fn set_len(&mut self, length: usize) {
        assert!(length <= self.memory.len(), "a buffer cannot hold more than its memory");
        self.length = length;
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        let memory = bytes.into_boxed_slice();
        Self { length: memory.len(), memory }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.length, self.memory.len())
    }
}

/// Buffers kept for reuse, so that a steady load allocates and zeroes nothing.
///
/// Sizes are rounded up to a power of two between [`SMALLEST`] and [`LARGEST`]; a larger buffer is not kept.
#[derive(Debug)]
pub struct BufferPool {
    /// One stack of free buffers for each power of two.
    classes: [Vec<Buffer>; CLASSES],
    kept: usize,
    kept_max: usize,
}

/// The smallest buffer that is handed out: the most common block size of a page cache.
const SMALLEST: usize = 4 << 10;
/// The largest buffer that is kept: larger requests are rare and cost far more than their allocation.
const LARGEST: usize = SMALLEST << (CLASSES - 1);
const CLASSES: usize = 10;

impl BufferPool {
    /// A pool that keeps at most `kept_max` bytes of free buffers.
    #[must_use]
    pub fn new(kept_max: usize) -> Self {
        Self { classes: core::array::from_fn(|_| Vec::new()), kept: 0, kept_max }
    }

    /// A buffer of `length` bytes; its content is undefined (but never another allocation's memory).
    pub fn take(&mut self, length: usize) -> Buffer {
        if length == 0 {
            return Buffer::empty();
        }
        if length > LARGEST {
            return Buffer::zeroed(length);
        }
        let class = class_of(length);
        let mut buffer = match self.classes[class].pop() {
            Some(buffer) => {
                self.kept -= buffer.capacity();
                buffer
            }
            None => Buffer::zeroed(SMALLEST << class),
        };
        buffer.set_len(length);
        buffer
    }

    /// Gives a buffer back. One that the pool has no room for is freed.
    pub fn put(&mut self, buffer: Buffer) {
        let capacity = buffer.capacity();
        if !(SMALLEST..=LARGEST).contains(&capacity)
            || !capacity.is_power_of_two()
            || self.kept + capacity > self.kept_max
        {
            return;
        }
        self.kept += capacity;
        self.classes[class_of(capacity)].push(buffer);
    }
}

fn class_of(length: usize) -> usize {
    (length.next_power_of_two().max(SMALLEST) / SMALLEST).trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_handed_out_again() {
        let mut pool = BufferPool::new(1 << 20);
        let buffer = pool.take(5000);
        assert_eq!((buffer.len(), buffer.capacity()), (5000, 8192));
        let memory = buffer.as_ptr();
        pool.put(buffer);
        let again = pool.take(8192);
        assert_eq!(again.as_ptr(), memory);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_bound() {
        let mut pool = BufferPool::new(SMALLEST);
        let (a, b) = (pool.take(1), pool.take(1));
        pool.put(a);
        pool.put(b);
        assert_eq!(pool.kept, SMALLEST);
        pool.put(Buffer::zeroed(LARGEST * 2));
        assert_eq!(pool.kept, SMALLEST);
    }

    #[test]
    fn a_request_for_nothing_allocates_nothing() {
        assert_eq!(BufferPool::new(0).take(0).capacity(), 0);
    }
}
