//! Commands about many blocks at once and about the room they take: UNMAP, WRITE SAME, GET LBA STATUS (SBC, 4.7).

use alloc::vec::Vec;

use block::BufferPool;
use scsi::cdb::WriteSame;
use scsi::unmap::{self, Extent, LbaStatus, UnmapList};
use scsi::{Blocks, Lba, Sense};

use crate::limits;
use crate::medium::{invalid_protect, long_length_field};
use crate::refusal;
use crate::store::Mapping;
use crate::topology::Provisioning;
use crate::unit::{Bytes, Unit};

/// A block is repeated in memory up to this many bytes before it is written.
const PATTERN_MAX: usize = 64 << 10;
/// How many runs of the store one GET LBA STATUS looks at: a bound on the work of one command.
const LOOKS_MAX: usize = 4096;

impl Unit {
    /// WRITE SAME. With UNMAP, zeros give the room back; any other block is written.
    pub(crate) fn write_same(
        &mut self,
        same: &WriteSame,
        data: &[u8],
        pool: &mut BufferPool,
    ) -> Result<(), Sense> {
        if same.protect != 0 {
            return Err(invalid_protect());
        }
        // ANC_SUP is 0 in VPD page B2h, and ANCHOR without UNMAP means nothing.
        if same.anchor {
            return Err(refusal::invalid_field(1, Some(4)));
        }
        if same.unmap && self.provisioning == Provisioning::Full {
            return Err(refusal::invalid_field(1, Some(3)));
        }
        let bytes = self.extent(same.lba, same.blocks.0.into())?;
        // WSNZ: no blocks at all would mean all blocks to the end.
        if same.blocks.0 == 0 || same.blocks.0 > limits::WRITE_SAME_BLOCKS_MAX {
            return Err(refusal::invalid_field(long_length_field(same.form), None));
        }
        self.check_writable()?;
        let block = if same.no_data_out { None } else { Some(self.one_block(data)?) };
        match block.filter(|block| block.iter().any(|byte| *byte != 0)) {
            None if same.unmap => self.punch(bytes)?,
            block => self.repeat(bytes, block, pool)?,
        }
        self.settle(bytes, false)
    }

    fn one_block<'a>(&self, data: &'a [u8]) -> Result<&'a [u8], Sense> {
        if data.len() == self.block_size as usize { Ok(data) } else { Err(refusal::data_out_mismatch()) }
    }

    /// Writes one block, or zeros, all over a range.
    fn repeat(&mut self, bytes: Bytes, block: Option<&[u8]>, pool: &mut BufferPool) -> Result<(), Sense> {
        let length = bytes.length.min(PATTERN_MAX as u64);
        let mut pattern = pool.take(usize::try_from(length).expect("at most PATTERN_MAX"));
        match block {
            None => pattern.fill(0),
            Some(block) => pattern.chunks_mut(block.len()).for_each(|place| place.copy_from_slice(block)),
        }
        let mut result = Ok(());
        let mut done = 0;
        while done < bytes.length && result.is_ok() {
            let now = (bytes.length - done).min(length);
            let piece = &pattern[..usize::try_from(now).expect("at most PATTERN_MAX")];
            result = self.put(Bytes { offset: bytes.offset + done, length: now }, piece);
            done += now;
        }
        pool.put(pattern);
        result
    }

    /// UNMAP. All descriptors are checked before the first is done.
    pub(crate) fn unmap(&mut self, anchor: bool, list: &[u8]) -> Result<(), Sense> {
        if self.provisioning == Provisioning::Full {
            return Err(refusal::unknown_operation());
        }
        if anchor {
            return Err(refusal::invalid_field(1, Some(0)));
        }
        self.check_writable()?;
        if list.is_empty() {
            return Ok(());
        }
        for bytes in self.unmap_ranges(list)? {
            self.punch(bytes)?;
            self.settle(bytes, false)?;
        }
        Ok(())
    }

    fn unmap_ranges(&self, list: &[u8]) -> Result<Vec<Bytes>, Sense> {
        let list = UnmapList::parse(list).map_err(|_| refusal::parameter_list_length())?;
        let blocks: u64 = list.extents.iter().map(|extent| u64::from(extent.blocks.0)).sum();
        let too_many = list.extents.len() > limits::UNMAP_DESCRIPTORS_MAX as usize;
        if too_many || blocks > limits::UNMAP_BLOCKS_MAX.into() {
            return Err(refusal::invalid_parameter(2, None));
        }
        list.extents.iter().map(|extent| self.extent(extent.lba, extent.blocks.0.into())).collect()
    }

    fn punch(&mut self, bytes: Bytes) -> Result<(), Sense> {
        self.store.punch(bytes.offset, bytes.length).map_err(|error| refusal::store_failed(error, true))
    }

    /// GET LBA STATUS parameter data: the state of the blocks from `lba` on, in as many runs as there is room for.
    pub(crate) fn lba_status(&mut self, lba: Lba, room: usize) -> Result<Vec<u8>, Sense> {
        if lba.0 >= self.blocks() {
            return Err(refusal::out_of_range());
        }
        const HEADER: usize = 8;
        const DESCRIPTOR: usize = 16;
        let wanted = (room.saturating_sub(HEADER) / DESCRIPTOR).clamp(1, limits::LBA_STATUS_DESCRIPTORS_MAX);
        let mut runs: Vec<Run> = Vec::new();
        let mut at = lba.0;
        for _ in 0..LOOKS_MAX {
            if at >= self.blocks() {
                break;
            }
            let run = self.run_at(at);
            at += run.blocks;
            match runs.pop() {
                Some(last) if last.mapping == run.mapping => {
                    runs.push(Run { blocks: last.blocks + run.blocks, ..last });
                }
                last => {
                    runs.extend(last);
                    if runs.len() == wanted {
                        break;
                    }
                    runs.push(run);
                }
            }
        }
        Ok(LbaStatus { extents: runs.into_iter().map(Run::describe).collect() }.emit())
    }

    /// What the store says about a block and those after it. A block that is mapped in part is mapped.
    fn run_at(&mut self, lba: u64) -> Run {
        let block_size = u64::from(self.block_size);
        let extent = self.store.extent(lba * block_size);
        let (mapping, blocks) = match extent.mapping {
            Mapping::Deallocated if extent.length >= block_size => {
                (Mapping::Deallocated, extent.length / block_size)
            }
            Mapping::Deallocated => (Mapping::Mapped, 1),
            Mapping::Mapped => (Mapping::Mapped, extent.length.div_ceil(block_size).max(1)),
        };
        Run { lba, blocks: blocks.min(self.blocks() - lba), mapping }
    }
}

/// Blocks in one provisioning state.
#[derive(Clone, Copy, Debug)]
struct Run {
    lba: u64,
    blocks: u64,
    mapping: Mapping,
}

impl Run {
    fn describe(self) -> (Extent, unmap::Provisioning) {
        let blocks = Blocks(u32::try_from(self.blocks).unwrap_or(u32::MAX));
        let provisioning = match self.mapping {
            Mapping::Mapped => unmap::Provisioning::Mapped,
            Mapping::Deallocated => unmap::Provisioning::Deallocated,
        };
        (Extent { lba: Lba(self.lba), blocks }, provisioning)
    }
}
