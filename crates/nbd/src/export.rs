//! What is served, as the protocol describes it.

use block::{Access, Geometry, Rotation, Support};

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
        // One that does not say is not said to turn: clients then lay out and merge as for a disk.
        let rotational = match self.geometry.rotation {
            Rotation::PerMinute(_) => flags::ROTATIONAL,
            Rotation::Solid | Rotation::Unknown => 0,
        };
        always | multi_conn | rotational | self.write_flags()
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
        // A power of two, at least 512, and no longer than the longest payload.
        let preferred = self.geometry.preferred_size.min(payload_max).max(minimum).max(512);
        BlockSizes { minimum, preferred: 1 << preferred.ilog2(), payload_max }
    }
}

#[cfg(test)]
mod tests {
    use block::WriteCache;

    use super::*;

    fn block_sizes(block_size: u32, preferred_size: u32, transfer_max: u32) -> (u32, u32, u32) {
        let geometry = Geometry {
            size: 1 << 30,
            block_size,
            preferred_size,
            transfer_max,
            access: Access::ReadWrite,
            write_cache: WriteCache::Back,
            discard: Support::No,
            write_zeroes: Support::No,
            rotation: Rotation::Unknown,
        };
        let export = Export { name: String::new(), description: String::new(), geometry, multi_conn: false };
        let sizes = export.block_sizes();
        (sizes.minimum, sizes.preferred, sizes.payload_max)
    }

    #[test]
    fn block_sizes_stay_within_what_the_protocol_allows() {
        // (block, preferred, transfer) of a disk, and what a client is told.
        for (disk, told) in [
            ((512, 4096, 1 << 20), (512, 4096, 1 << 20)),
            ((4096, 512, 1 << 20), (4096, 4096, 1 << 20)),
            ((512, 4096, u32::MAX), (512, 4096, 32 << 20)),
            ((512, 1536 << 10, 32 << 20), (512, 1 << 20, 32 << 20)),
            ((512, 1 << 20, 384 << 10), (512, 256 << 10, 384 << 10)),
            ((4096, 4096, 10_000), (4096, 4096, 8192)),
            ((4096, 4096, 0), (4096, 4096, 4096)),
            ((1, 1, 1 << 20), (1, 512, 1 << 20)),
        ] {
            assert_eq!(block_sizes(disk.0, disk.1, disk.2), told, "{disk:?}");
        }
    }
}
