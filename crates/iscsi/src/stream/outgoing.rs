//! What is to be sent, oldest first.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use super::{Digest, Digests};
use crate::pdu::{DIGEST_LENGTH, HEADER_LENGTH, Header, padding};

/// PDUs that wait to be sent. `K` names whose memory a payload lies in; the session resolves it.
///
/// The queue is as long as the session makes it: ask [`Self::bytes`] before adding bulk data.
#[derive(Debug)]
pub struct Outgoing<K> {
    frames: VecDeque<Frame<K>>,
    /// How many bytes of the oldest frame are gone.
    sent: usize,
    /// How many bytes are still to go.
    bytes: usize,
    digests: Digests,
}

/// What became of a PDU that has an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<K> {
    /// Its first byte is gone: the peer may see it.
    Begun(K),
    /// Its last byte is gone: its payload is not needed any more.
    Finished(K),
}

#[derive(Debug)]
struct Frame<K> {
    owner: Option<K>,
    /// The header and its digest.
    head: [u8; HEADER_LENGTH + DIGEST_LENGTH],
    head_length: usize,
    payload: Payload,
    /// Padding and the data digest.
    tail: [u8; 3 + DIGEST_LENGTH],
    tail_length: usize,
}

#[derive(Debug)]
enum Payload {
    None,
    Own(Vec<u8>),
    /// A part of the owner's memory.
    Lent(Range<usize>),
}

impl<K: Copy> Outgoing<K> {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            sent: 0,
            bytes: 0,
            digests: Digests { header: Digest::None, data: Digest::None },
        }
    }

    /// Holds for the PDUs that are added from now on.
    pub const fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Adds a PDU without a data segment.
    pub fn push(&mut self, header: Header, owner: Option<K>) {
        self.add(header.with_data_length(0), owner, &[], Payload::None);
    }

    /// Adds a PDU with a data segment of its own.
    pub fn push_own(&mut self, header: Header, owner: Option<K>, data: Vec<u8>) {
        let header = header.with_data_length(length_of(&data));
        let tail = self.tail(&data);
        self.add(header, owner, &tail.0[..tail.1], Payload::Own(data));
    }

    /// Adds a PDU whose data segment is `range` of the owner's memory, which must stay as it is until
    /// [`Progress::Finished`] or [`Self::clear`].
    ///
    /// # Panics
    /// If the range is outside of the memory.
    pub fn push_lent(&mut self, header: Header, owner: K, memory: &[u8], range: Range<usize>) {
        let data = &memory[range.clone()];
        let header = header.with_data_length(length_of(data));
        let tail = self.tail(data);
        self.add(header, Some(owner), &tail.0[..tail.1], Payload::Lent(range));
    }

    /// How many bytes are still to be sent.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many PDUs are not sent completely.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Gathers the bytes to be sent into `slices`; returns how many slices were set. `memory_of` gives the
    /// memory that [`Self::push_lent`] was called with.
    pub fn transmit<'a>(&'a self, slices: &mut [IoSlice<'a>], memory_of: impl Fn(K) -> &'a [u8]) -> usize {
        let mut used = 0;
        let mut skip = self.sent;
        for frame in &self.frames {
            for part in frame.parts(&memory_of) {
                if skip >= part.len() {
                    skip -= part.len();
                    continue;
                }
                let Some(slice) = slices.get_mut(used) else { return used };
                *slice = IoSlice::new(&part[skip..]);
                skip = 0;
                used += 1;
            }
        }
        used
    }

    /// Takes note that the next `count` bytes are gone.
    ///
    /// # Panics
    /// If that is more than there was to send.
    pub fn sent(&mut self, count: usize, mut progress: impl FnMut(Progress<K>)) {
        assert!(count <= self.bytes, "no more can be sent than there was to send");
        self.bytes -= count;
        let mut rest = count;
        while rest > 0 {
            let frame = self.frames.front().expect("bytes that were to be sent lie in a frame");
            if self.sent == 0
                && let Some(owner) = frame.owner
            {
                progress(Progress::Begun(owner));
            }
            let step = rest.min(frame.length() - self.sent);
            rest -= step;
            self.sent += step;
            if self.sent == frame.length() {
                self.sent = 0;
                let owner = frame.owner;
                self.frames.pop_front();
                owner.into_iter().for_each(|owner| progress(Progress::Finished(owner)));
            }
        }
    }

    /// Forgets everything: the connection is over.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.sent = 0;
        self.bytes = 0;
    }

    fn tail(&self, data: &[u8]) -> ([u8; 3 + DIGEST_LENGTH], usize) {
        let mut tail = [0; 3 + DIGEST_LENGTH];
        let mut length = padding(data.len());
        if self.digests.data == Digest::Crc32c && !data.is_empty() {
            let digest = crc32c::crc32c_append(crc32c::crc32c(data), &tail[..length]);
            tail[length..length + DIGEST_LENGTH].copy_from_slice(&digest.to_le_bytes());
            length += DIGEST_LENGTH;
        }
        (tail, length)
    }

    fn add(&mut self, header: Header, owner: Option<K>, tail: &[u8], payload: Payload) {
        let mut frame = Frame {
            owner,
            head: [0; HEADER_LENGTH + DIGEST_LENGTH],
            head_length: HEADER_LENGTH,
            payload,
            tail: [0; 3 + DIGEST_LENGTH],
            tail_length: tail.len(),
        };
        frame.head[..HEADER_LENGTH].copy_from_slice(&header.0);
        if self.digests.header == Digest::Crc32c {
            frame.head[HEADER_LENGTH..].copy_from_slice(&crc32c::crc32c(&header.0).to_le_bytes());
            frame.head_length += DIGEST_LENGTH;
        }
        frame.tail[..tail.len()].copy_from_slice(tail);
        self.bytes += frame.length();
        self.frames.push_back(frame);
    }
}

impl<K: Copy> Default for Outgoing<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy> Frame<K> {
    fn length(&self) -> usize {
        let payload = match &self.payload {
            Payload::None => 0,
            Payload::Own(data) => data.len(),
            Payload::Lent(range) => range.len(),
        };
        self.head_length + payload + self.tail_length
    }

    fn parts<'a>(&'a self, memory_of: impl Fn(K) -> &'a [u8]) -> [&'a [u8]; 3] {
        let payload = match (&self.payload, self.owner) {
            (Payload::Own(data), _) => data,
            (Payload::Lent(range), Some(owner)) => &memory_of(owner)[range.clone()],
            (Payload::None | Payload::Lent(_), _) => &[][..],
        };
        [&self.head[..self.head_length], payload, &self.tail[..self.tail_length]]
    }
}

fn length_of(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}
