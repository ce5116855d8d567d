//! Follows the PDUs of one direction of an iSCSI connection, past the sessions at its ends: for checkers that must
//! not believe what is tested.

use iscsi::pdu::{DIGEST_LENGTH, HEADER_LENGTH, Header, Opcode, padding};

/// A PDU that went by.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) header: Header,
    /// The beginning of its data segment.
    pub(crate) data: Vec<u8>,
}

/// Data that is kept of a PDU: a login's answer, sense data, the identity of a unit, the stamp of a block.
const DATA_KEPT: usize = 512;

/// Which digests a connection has, as its login said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    header: bool,
    data: bool,
}

#[derive(Debug)]
pub(crate) struct PduStream {
    header: [u8; HEADER_LENGTH],
    filled: usize,
    /// Between the header and the data: additional segments, header digest.
    before: usize,
    left: usize,
    /// Behind the data: padding, data digest.
    after: usize,
    data: Vec<u8>,
}

impl Default for PduStream {
    fn default() -> Self {
        Self { header: [0; HEADER_LENGTH], filled: 0, before: 0, left: 0, after: 0, data: Vec::new() }
    }
}

impl Digests {
    /// Reads the answer of a target's login.
    pub(crate) fn learn(&mut self, seen: &Seen) {
        let says = |key: &[u8]| seen.data.split(|byte| *byte == 0).any(|pair| pair == key);
        self.header |= says(b"HeaderDigest=CRC32C");
        self.data |= says(b"DataDigest=CRC32C");
    }

    /// Logins have none (RFC 7143, 11.2.3).
    fn of(self, opcode: Opcode) -> Self {
        match opcode {
            Opcode::LoginRequest | Opcode::LoginResponse => Self::default(),
            _ => self,
        }
    }
}

impl PduStream {
    /// Takes what went by; gives each PDU that is now complete.
    pub(crate) fn feed(&mut self, digests: &mut Digests, mut bytes: &[u8], mut give: impl FnMut(Seen)) {
        while !bytes.is_empty() {
            if self.filled < HEADER_LENGTH {
                let length = bytes.len().min(HEADER_LENGTH - self.filled);
                self.header[self.filled..self.filled + length].copy_from_slice(&bytes[..length]);
                self.filled += length;
                bytes = &bytes[length..];
                if self.filled == HEADER_LENGTH {
                    self.begin(*digests);
                }
            } else {
                bytes = self.body(bytes);
            }
            if self.filled == HEADER_LENGTH && self.before + self.left + self.after == 0 {
                self.filled = 0;
                let seen = Seen { header: Header(self.header), data: std::mem::take(&mut self.data) };
                if seen.header.opcode() == Opcode::LoginResponse {
                    digests.learn(&seen);
                }
                give(seen);
            }
        }
    }

    fn begin(&mut self, digests: Digests) {
        let header = Header(self.header);
        let digests = digests.of(header.opcode());
        let length = header.data_length() as usize;
        self.before = header.ahs_length() + if digests.header { DIGEST_LENGTH } else { 0 };
        self.left = length;
        self.after = padding(length) + if digests.data && length > 0 { DIGEST_LENGTH } else { 0 };
    }

    fn body<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (segment, keeps) = match (self.before, self.left) {
            (0, 0) => (&mut self.after, false),
            (0, _) => (&mut self.left, true),
            _ => (&mut self.before, false),
        };
        let length = bytes.len().min(*segment);
        *segment -= length;
        if keeps {
            let kept = length.min(DATA_KEPT.saturating_sub(self.data.len()));
            self.data.extend_from_slice(&bytes[..kept]);
        }
        &bytes[length..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pdus_are_told_apart_however_the_bytes_come() {
        let mut bytes = Vec::new();
        for length in [5_u8, 0] {
            let mut header = [0; HEADER_LENGTH];
            (header[0], header[7]) = (0x21, length);
            bytes.extend_from_slice(&header);
            bytes.resize(bytes.len() + usize::from(length).next_multiple_of(4), length);
        }
        for step in [1, 7, 48, 200] {
            let (mut stream, mut lengths) = (PduStream::default(), Vec::new());
            for piece in bytes.chunks(step) {
                stream.feed(&mut Digests::default(), piece, |seen| lengths.push(seen.data.len()));
            }
            assert_eq!(lengths, [5, 0], "in steps of {step}");
        }
    }
}
