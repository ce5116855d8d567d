//! What blocks hold: every written block names the write that it belongs to, so that one look at it says whose it is.

/// Names one write of one client. Never used twice, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteId(pub(crate) u32);

/// A block of a unit, by the place of the unit and its logical block address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockAt {
    pub(crate) unit: u32,
    pub(crate) lba: u32,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Content {
    /// Zeros: never written, zeroed, or deallocated.
    Zero,
    Write(WriteId),
    /// Something that nobody wrote there.
    Garbage,
}

/// A block is filled with stamps of 16 bytes: what it is, the unit, the block, the write.
const STAMP: usize = 16;
const MAGIC: [u8; 4] = *b"blok";

pub(crate) fn fill(block: &mut [u8], at: BlockAt, write: WriteId) {
    let stamp = stamp(at, write);
    for place in block.chunks_exact_mut(STAMP) {
        place.copy_from_slice(&stamp);
    }
}

/// What a block holds; only what was meant for this very block counts.
pub(crate) fn read(block: &[u8], at: BlockAt) -> Content {
    let Some((first, rest)) = block.split_first_chunk::<STAMP>() else { return Content::Garbage };
    if rest.chunks_exact(STAMP).any(|place| place != first) {
        return Content::Garbage;
    }
    if *first == [0; STAMP] {
        return Content::Zero;
    }
    let write = WriteId(u32::from_le_bytes([first[12], first[13], first[14], first[15]]));
    if *first == stamp(at, write) { Content::Write(write) } else { Content::Garbage }
}

fn stamp(at: BlockAt, write: WriteId) -> [u8; STAMP] {
    let mut stamp = [0; STAMP];
    stamp[..4].copy_from_slice(&MAGIC);
    stamp[4..8].copy_from_slice(&at.unit.to_le_bytes());
    stamp[8..12].copy_from_slice(&at.lba.to_le_bytes());
    stamp[12..].copy_from_slice(&write.0.to_le_bytes());
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: BlockAt = BlockAt { unit: 1, lba: 9 };

    #[test]
    fn a_block_names_its_write_and_only_at_its_own_place() {
        let mut block = [0; 512];
        assert_eq!(read(&block, AT), Content::Zero);
        fill(&mut block, AT, WriteId(77));
        assert_eq!(read(&block, AT), Content::Write(WriteId(77)));
        assert_eq!(read(&block, BlockAt { lba: 8, ..AT }), Content::Garbage);
    }

    #[test]
    fn a_single_flipped_bit_is_seen() {
        for bit in 0..4096 {
            let mut block = [0; 512];
            fill(&mut block, AT, WriteId(77));
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&block, AT), Content::Garbage);
        }
    }
}
