//! The byte stream of a connection, without a socket: PDUs that go out, and bytes that come in.
//!
//! Payload is never copied on its way out, and copied on its way in only where a read of headers caught the
//! beginning of it: at most [`STAGING_LENGTH`] bytes, and only after several PDUs in a row had no payload.

mod incoming;
mod outgoing;

pub use incoming::{Destination, FrameError, Incoming, STAGING_LENGTH, Step};
pub use outgoing::{Outgoing, Progress};

/// Which digests protect the PDUs of one direction (RFC 7143, 13.1). Never during login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    pub header: Digest,
    pub data: Digest,
}

/// How a segment is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    #[default]
    None,
    Crc32c,
}

impl Digest {
    /// How many bytes it adds to a segment.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32c => crate::pdu::DIGEST_LENGTH,
        }
    }
}

#[cfg(test)]
mod tests;
