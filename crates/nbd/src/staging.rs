//! Memory for request headers on their way in.

use crate::protocol::RequestHeader;

/// The most that is read ahead while headers follow each other without payload: 146 of them in one system call.
/// It bounds the payload that is ever copied, too: what was read ahead when a write comes along.
const READ_AHEAD_MAX: usize = 4096;
/// So many requests without payload in a row make a read-ahead worth its risk of a copy.
const STREAK: u8 = 4;

/// Bytes that arrived and are not decoded yet.
#[derive(Debug)]
pub(crate) struct Staging {
    memory: Box<[u8; READ_AHEAD_MAX]>,
    start: usize,
    end: usize,
    /// Requests without payload since the last one with payload, up to [`STREAK`].
    streak: u8,
}

impl Staging {
    pub(crate) fn new() -> Self {
        Self { memory: Box::new([0; READ_AHEAD_MAX]), start: 0, end: 0, streak: 0 }
    }

    /// The next whole header.
    pub(crate) fn header(&self) -> Option<&[u8; RequestHeader::LENGTH]> {
        self.memory[self.start..self.end].first_chunk()
    }

    /// Takes the next header away.
    pub(crate) fn consume_header(&mut self) {
        self.start += RequestHeader::LENGTH;
        debug_assert!(self.start <= self.end, "a header is consumed after it was seen");
    }

    /// Remembers whether requests carry payload now.
    pub(crate) fn learn(&mut self, payload: u32) {
        self.streak = if payload == 0 { (self.streak + 1).min(STREAK) } else { 0 };
    }

    /// Moves payload that was read ahead to where it belongs; returns how much.
    pub(crate) fn drain_to(&mut self, payload: &mut [u8]) -> usize {
        let length = payload.len().min(self.end - self.start);
        payload[..length].copy_from_slice(&self.memory[self.start..self.start + length]);
        self.start += length;
        length
    }

    /// Throws away up to `length` bytes that were read ahead; returns how much.
    pub(crate) fn skip(&mut self, length: usize) -> usize {
        let length = length.min(self.end - self.start);
        self.start += length;
        length
    }

    /// Moves what is left to the front, so that there is room behind it: less than one header, unless the session
    /// is at its bound and reads nothing anyway.
    pub(crate) fn compact(&mut self) {
        self.memory.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    /// Room for the rest of one header.
    pub(crate) fn room_for_header(&mut self) -> &mut [u8] {
        let until = RequestHeader::LENGTH.max(self.end);
        &mut self.memory[self.end..until]
    }

    /// Room for headers while no payload is expected: one, or many if that is how this client works.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.streak < STREAK {
            return self.room_for_header();
        }
        &mut self.memory[self.end..]
    }

    /// This much arrived in the room.
    pub(crate) fn received(&mut self, length: usize) {
        self.end += length;
        assert!(self.end <= READ_AHEAD_MAX, "the driver receives no more than there was room for");
    }
}
