//! What is served, as the protocol describes it.

use block::{Access, Geometry, Support};

use crate::protocol::{BlockSizes, PAYLOAD_MAX, transmission_flags as flags};

/// One disk that a client may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// At most 4,096 bytes long; a longer one cannot be asked for.
    pub name: String,
    /// For people; cut after 4,096 bytes.
    pub description: String,
    pub geometry: Geometry,
    /// A flush on one connection covers the writes of every other connection to this export.
    pub multi_conn: bool,
}

impl Export {
    /// The flags of the transmission phase, without `SEND_DF`, which depends on what was negotiated.
    pub(crate) fn transmission_flags(&self) -> u16 {
        let always = flags::HAS_FLAGS | flags::SEND_FLUSH | flags::SEND_FUA | flags::SEND_CACHE;
        let multi_conn = if self.multi_conn { flags::CAN_MULTI_CONN } else { 0 };
        always | multi_conn | self.write_flags()
    }

    fn write_flags(&self) -> u16 {
        if self.geometry.access == Access::ReadOnly {
            return flags::READ_ONLY;
        }
        let trim = if self.geometry.discard == Support::Yes { flags::SEND_TRIM } else { 0 };
        let zeroes = match self.geometry.write_zeroes {
            Support::Yes => flags::SEND_WRITE_ZEROES | flags::SEND_FAST_ZERO,
            Support::No => 0,
        };
        trim | zeroes
    }

    /// The size constraints, within what the protocol allows (clause "Size constraints").
    pub(crate) fn block_sizes(&self) -> BlockSizes {
        let minimum = self.geometry.block_size.max(1);
        let payload_max = self.geometry.transfer_max.min(PAYLOAD_MAX);
        let payload_max = (payload_max - payload_max % minimum).max(minimum);
        // The preferred size may not be below 512, nor above the longest payload.
        let preferred = self.geometry.preferred_size.max(minimum).max(512).min(payload_max.max(512));
        BlockSizes { minimum, preferred, payload_max }
    }
}
