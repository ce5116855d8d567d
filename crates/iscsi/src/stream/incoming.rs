//! What comes in: headers into a staging area, payload straight to where it belongs.

use std::io::IoSliceMut;

use super::{Digest, Digests};
use crate::pdu::{AHS_LENGTH_MAX, DIGEST_LENGTH, HEADER_LENGTH, Header, padding};

/// The staging area for headers, in bytes: room for some eighty headers, or one with all its additional
/// segments. Also the most payload that a read of headers can catch and that is then copied.
pub const STAGING_LENGTH: usize = 4096;

/// So many PDUs in a row must have come without payload before more than one header is read at once.
const HEADERS_IN_A_ROW_MIN: u32 = 4;

/// Cuts a byte stream into PDUs. `K` names whose memory a payload goes to; the session resolves it.
///
/// After each read, call [`Self::received`] once and then [`Self::step`] until it says [`Step::More`].
#[derive(Debug)]
pub struct Incoming<K> {
    staging: Box<[u8; STAGING_LENGTH]>,
    /// What is staged and not used yet is `staging[start..end]`.
    start: usize,
    end: usize,
    phase: Phase<K>,
    /// The data segment of a PDU whose payload belongs to nobody else.
    own: Vec<u8>,
    digests: Digests,
    data_length_max: u32,
    headers_in_a_row: u32,
}

/// Where a data segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<K> {
    /// Into memory of the framer, for [`Incoming::data`]: text, sense data, pings, and what nobody wants.
    Own,
    /// To this offset of the owner's memory, which must be long enough.
    Lent { owner: K, offset: usize },
}

/// What there is after some bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing; read more.
    More,
    /// A header whose data segment needs a place: call [`Incoming::place`].
    Header(Header),
    /// A PDU has come completely, and its digests are right.
    Complete(Header),
}

/// Why the stream cannot be cut any further. Nothing behind such an error can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a header digest is {got:#010x} where the header gives {computed:#010x}")]
    HeaderDigest { computed: u32, got: u32 },
    #[error("a data digest is {got:#010x} where the data give {computed:#010x}")]
    DataDigest { computed: u32, got: u32 },
    #[error("a data segment of {length} bytes where at most {max} were declared")]
    SegmentTooLong { length: u32, max: u32 },
}

#[derive(Debug)]
enum Phase<K> {
    Header,
    /// The header was shown; where its data go is not known yet.
    Placing(Header),
    Payload {
        header: Header,
        destination: Destination<K>,
        filled: usize,
        digest: u32,
    },
    /// Padding and digest.
    Trailer {
        header: Header,
        digest: u32,
    },
}

impl<K: Copy> Incoming<K> {
    /// `data_length_max` is our declared MaxRecvDataSegmentLength, in bytes.
    #[must_use]
    pub fn new(data_length_max: u32) -> Self {
        Self {
            staging: Box::new([0; STAGING_LENGTH]),
            start: 0,
            end: 0,
            phase: Phase::Header,
            own: Vec::new(),
            digests: Digests::default(),
            data_length_max,
            headers_in_a_row: 0,
        }
    }

    /// Holds from the next header on.
    pub const fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Holds from the next header on.
    pub const fn set_data_length_max(&mut self, data_length_max: u32) {
        self.data_length_max = data_length_max;
    }

    /// Where the next bytes go: the rest of the payload in progress, and staging behind it.
    pub fn receive_into<'a>(&'a mut self, memory_of: impl FnOnce(K) -> &'a mut [u8]) -> [IoSliceMut<'a>; 2] {
        let wanted = self.staging_wanted();
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end + wanted > STAGING_LENGTH {
            self.staging.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let staging_end = (self.end + wanted).min(STAGING_LENGTH);
        let staging = IoSliceMut::new(&mut self.staging[self.end..staging_end]);
        let Phase::Payload { header, destination, filled, .. } = &self.phase else {
            return [IoSliceMut::new(&mut []), staging];
        };
        let range = *filled..header.data_length() as usize;
        let payload = match *destination {
            Destination::Own => &mut self.own[range],
            Destination::Lent { owner, offset } => &mut memory_of(owner)[offset..][range],
        };
        [IoSliceMut::new(payload), staging]
    }

    /// Takes note that `count` bytes have come into what [`Self::receive_into`] gave.
    ///
    /// # Panics
    /// If that is more than there was room for.
    pub fn received<'m>(&mut self, count: usize, memory_of: impl FnOnce(K) -> &'m mut [u8]) {
        let data_digest = self.digests.data;
        let mut rest = count;
        if let Phase::Payload { header, destination, filled, digest } = &mut self.phase {
            let step = rest.min(header.data_length() as usize - *filled);
            if data_digest == Digest::Crc32c {
                let memory = match *destination {
                    Destination::Own => &self.own[*filled..],
                    Destination::Lent { owner, offset } => &memory_of(owner)[offset + *filled..],
                };
                *digest = crc32c::crc32c_append(*digest, &memory[..step]);
            }
            *filled += step;
            rest -= step;
        }
        assert!(rest <= STAGING_LENGTH - self.end, "no more can come than there was room for");
        self.end += rest;
    }

    /// Goes as far as the bytes at hand allow.
    ///
    /// # Errors
    /// If the stream is damaged or the peer breaks our limit; the connection must be given up.
    pub fn step<'m>(&mut self, memory_of: impl FnOnce(K) -> &'m mut [u8]) -> Result<Step, FrameError> {
        match self.phase {
            Phase::Header => self.step_header(),
            Phase::Placing(header) => Ok(Step::Header(header)),
            Phase::Payload { .. } => {
                self.fill_from_staging(memory_of);
                self.step_trailer()
            }
            Phase::Trailer { .. } => self.step_trailer(),
        }
    }

    /// Says where the data segment of the header shown last goes.
    pub fn place(&mut self, destination: Destination<K>) {
        let Phase::Placing(header) = self.phase else { return };
        if matches!(destination, Destination::Own) {
            self.own.resize(header.data_length() as usize, 0);
        }
        self.phase = Phase::Payload { header, destination, filled: 0, digest: 0 };
    }

    /// The data segment of the PDU that was completed last, if it was placed in [`Destination::Own`].
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.own
    }

    /// What has come and could not be used yet.
    #[must_use]
    pub fn staged(&self) -> &[u8] {
        &self.staging[self.start..self.end]
    }

    /// Whether what is [`Self::staged`] begins with a header.
    #[must_use]
    pub const fn is_between_pdus(&self) -> bool {
        matches!(self.phase, Phase::Header)
    }

    /// Whose memory the payload in progress goes to.
    #[must_use]
    pub const fn filling(&self) -> Option<K> {
        match self.phase {
            Phase::Payload { destination: Destination::Lent { owner, .. }, .. } => Some(owner),
            _ => None,
        }
    }

    fn step_header(&mut self) -> Result<Step, FrameError> {
        let Some(header) = self.staged().first_chunk::<HEADER_LENGTH>().copied().map(Header) else {
            return Ok(Step::More);
        };
        let covered = HEADER_LENGTH + header.ahs_length();
        let length = covered + self.digests.header.length();
        if self.staged().len() < length {
            return Ok(Step::More);
        }
        if self.digests.header == Digest::Crc32c {
            let computed = crc32c::crc32c(&self.staged()[..covered]);
            let got = digest_at(self.staged(), covered);
            if computed != got {
                return Err(FrameError::HeaderDigest { computed, got });
            }
        }
        if header.data_length() > self.data_length_max {
            return Err(FrameError::SegmentTooLong {
                length: header.data_length(),
                max: self.data_length_max,
            });
        }
        self.start += length;
        self.own.clear();
        if header.data_length() == 0 {
            self.headers_in_a_row = self.headers_in_a_row.saturating_add(1);
            return Ok(Step::Complete(header));
        }
        self.headers_in_a_row = 0;
        self.phase = Phase::Placing(header);
        Ok(Step::Header(header))
    }

    /// Moves payload that a read of headers has caught.
    fn fill_from_staging<'m>(&mut self, memory_of: impl FnOnce(K) -> &'m mut [u8]) {
        let Phase::Payload { header, destination, filled, digest } = &mut self.phase else { return };
        let length = header.data_length() as usize;
        let caught = &self.staging[self.start..self.end];
        let caught = &caught[..caught.len().min(length - *filled)];
        if !caught.is_empty() {
            let memory = match *destination {
                Destination::Own => &mut self.own[*filled..],
                Destination::Lent { owner, offset } => &mut memory_of(owner)[offset + *filled..],
            };
            memory[..caught.len()].copy_from_slice(caught);
            if self.digests.data == Digest::Crc32c {
                *digest = crc32c::crc32c_append(*digest, caught);
            }
            *filled += caught.len();
            self.start += caught.len();
        }
        if *filled == length {
            self.phase = Phase::Trailer { header: *header, digest: *digest };
        }
    }

    fn step_trailer(&mut self) -> Result<Step, FrameError> {
        let Phase::Trailer { header, digest } = self.phase else { return Ok(Step::More) };
        let padding = padding(header.data_length() as usize);
        let length = padding + self.digests.data.length();
        if self.staged().len() < length {
            return Ok(Step::More);
        }
        if self.digests.data == Digest::Crc32c {
            let computed = crc32c::crc32c_append(digest, &self.staged()[..padding]);
            let got = digest_at(self.staged(), padding);
            if computed != got {
                return Err(FrameError::DataDigest { computed, got });
            }
        }
        self.start += length;
        self.phase = Phase::Header;
        Ok(Step::Complete(header))
    }

    /// How many bytes more than are staged should be read into staging.
    fn staging_wanted(&self) -> usize {
        let staged = self.end - self.start;
        let header = HEADER_LENGTH + self.digests.header.length();
        let needed = match &self.phase {
            Phase::Header if self.headers_in_a_row >= HEADERS_IN_A_ROW_MIN => STAGING_LENGTH,
            Phase::Header if staged < HEADER_LENGTH => header,
            // The additional segments are known: all of them, and no more.
            Phase::Header => header + usize::from(self.staging[self.start + 4]) * 4,
            Phase::Placing(_) => 0,
            Phase::Payload { header: pdu, .. } | Phase::Trailer { header: pdu, .. } => {
                padding(pdu.data_length() as usize) + self.digests.data.length() + header
            }
        };
        needed.saturating_sub(staged)
    }
}

const _: () = assert!(HEADER_LENGTH + AHS_LENGTH_MAX + DIGEST_LENGTH <= STAGING_LENGTH);

/// A digest goes over the wire with the byte first that holds its lowest bits (RFC 7143, 13.1 and appendix A.1).
fn digest_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
