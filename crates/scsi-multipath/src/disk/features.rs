//! What all paths of a disk can do together, and what exports are told of it.

use block::{Access, Geometry, Rotation, Support, WriteCache};

use super::report::Feature;
use crate::unit::{Addressing, Capacity, Unit};

/// What may be used on whichever path comes: the smallest and the least of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) blocks: u64,
    /// In bytes; a power of two.
    pub(super) block_size: u32,
    pub(super) addressing: Addressing,
    /// The longest READ or WRITE, in blocks.
    pub(super) transfer_blocks: u32,
    /// The length that performs best, in bytes.
    preferred_size: u32,
    pub(super) write_cache: WriteCache,
    /// Whether FUA in a WRITE makes it durable.
    pub(super) force_unit_access: bool,
    pub(super) access: Access,
    /// How blocks are given back, if there is a way.
    pub(super) discard: Option<Discard>,
    /// The longest WRITE SAME(16), in blocks; none if it is not known to the device.
    pub(super) write_same_blocks: Option<u32>,
    /// Whether WRITE SAME(16) with UNMAP leaves zeros.
    pub(super) write_same_unmap: bool,
    pub(super) synchronize: Synchronize,
    rotation: Rotation,
}

/// How blocks are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discard {
    Unmap {
        blocks_max: u32,
        granularity: u32,
        alignment: u32,
    },
    /// WRITE SAME(16) with UNMAP.
    WriteSame {
        blocks_max: u32,
    },
}

/// How the cache is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronize {
    Sixteen,
    Ten,
    /// The device does not know how: what it acknowledged is as durable as it gets.
    Never,
}

/// What the device refused, so that it is not tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing(u8);

/// The longest request that is taken, in bytes; what NBD allows by default. Longer ones no export sends.
pub(super) const REQUEST_MAX: u32 = 32 << 20;
/// READ(10) and WRITE(10) count blocks in 16 bits.
const BLOCKS_MAX_10: u32 = 0xffff;
/// One WRITE SAME of a device that does not say how long one may be, in bytes: at a slow 100 MB/s a third of a
/// second, so that no command comes near its timeout.
const WRITE_SAME_MAX: u32 = 32 << 20;
/// One UNMAP, in blocks, whatever the device allows: the same thought.
const UNMAP_BLOCKS_MAX: u32 = 1 << 22;
/// What is preferred if the device says nothing: the page of nearly every host.
const PREFERRED_SIZE: u32 = 4096;

impl Missing {
    pub(super) const fn contains(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u8) != 0
    }

    pub(super) const fn insert(&mut self, feature: Feature) {
        self.0 |= 1 << feature as u8;
    }
}

impl Features {
    /// Of all units whose capacity is known; none if there are none.
    pub(super) fn of<'a>(units: impl Iterator<Item = &'a Unit>, missing: Missing) -> Option<Self> {
        units.filter_map(|unit| Self::of_unit(unit, missing)).reduce(Self::least)
    }

    fn of_unit(unit: &Unit, missing: Missing) -> Option<Self> {
        let capacity = unit.capacity?;
        let block_size = capacity.block_size;
        let addressing = addressing(unit, &capacity, missing);
        let request_blocks = REQUEST_MAX / block_size;
        let form_max = match addressing {
            Addressing::Sixteen => u32::MAX,
            Addressing::Ten => BLOCKS_MAX_10,
        };
        let transfer_blocks =
            unit.limits.transfer_max.unwrap_or(u32::MAX).min(request_blocks).min(form_max).max(1);
        let knows_16 = addressing == Addressing::Sixteen;
        let write_same_blocks = (knows_16 && !missing.contains(Feature::WriteSame)).then(|| {
            let limit = unit.limits.write_same_max.unwrap_or(u64::MAX);
            u32::try_from(limit).unwrap_or(u32::MAX).min(WRITE_SAME_MAX / block_size)
        });
        let write_same_unmap = unit.provisioning.write_same_unmap
            && write_same_blocks.is_some()
            && !missing.contains(Feature::WriteSameUnmap);
        Some(Self {
            blocks: capacity.blocks,
            block_size,
            addressing,
            transfer_blocks,
            preferred_size: preferred_size(unit, &capacity),
            write_cache: unit.write_cache,
            force_unit_access: unit.force_unit_access && !missing.contains(Feature::ForceUnitAccess),
            access: if unit.write_protected { Access::ReadOnly } else { Access::ReadWrite },
            discard: discard(unit, write_same_blocks.filter(|_| write_same_unmap), missing),
            write_same_blocks,
            write_same_unmap: write_same_unmap && capacity.unmapped_reads_zero,
            synchronize: synchronize(addressing, missing),
            rotation: unit.rotation,
        })
    }

    fn least(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.min(other.blocks),
            // Paths of different block sizes never join.
            block_size: self.block_size,
            addressing: match (self.addressing, other.addressing) {
                (Addressing::Sixteen, Addressing::Sixteen) => Addressing::Sixteen,
                _ => Addressing::Ten,
            },
            transfer_blocks: self.transfer_blocks.min(other.transfer_blocks),
            preferred_size: self.preferred_size.max(other.preferred_size),
            // A cache behind any of them is a cache.
            write_cache: match (self.write_cache, other.write_cache) {
                (WriteCache::Through, WriteCache::Through) => WriteCache::Through,
                _ => WriteCache::Back,
            },
            force_unit_access: self.force_unit_access && other.force_unit_access,
            access: match (self.access, other.access) {
                (Access::ReadWrite, Access::ReadWrite) => Access::ReadWrite,
                // A write that only some paths take would fail now and then.
                _ => Access::ReadOnly,
            },
            discard: least_discard(self.discard, other.discard),
            write_same_blocks: self.write_same_blocks.zip(other.write_same_blocks).map(|(a, b)| a.min(b)),
            write_same_unmap: self.write_same_unmap && other.write_same_unmap,
            synchronize: if self.synchronize == other.synchronize {
                self.synchronize
            } else {
                Synchronize::Ten
            },
            rotation: same_rotation(self.rotation, other.rotation),
        }
    }

    /// In bytes.
    pub(super) const fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size as u64)
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            size: self.size(),
            block_size: self.block_size,
            preferred_size: self.preferred_size,
            transfer_max: REQUEST_MAX,
            access: self.access,
            write_cache: self.write_cache,
            discard: if self.discard.is_some() { Support::Yes } else { Support::No },
            // Zeros are written out if there is no shorter way.
            write_zeroes: Support::Yes,
            rotation: self.rotation,
        }
    }
}

/// READ(16) unless the device showed that it does not know it and can be reached without.
fn addressing(unit: &Unit, capacity: &Capacity, missing: Missing) -> Addressing {
    let fits = capacity.blocks <= u64::from(u32::MAX) + 1;
    if fits && missing.contains(Feature::ReadWrite16) { Addressing::Ten } else { unit.addressing }
}

/// What a path does not say, another one may; what they say differently is not known.
fn same_rotation(a: Rotation, b: Rotation) -> Rotation {
    match (a, b) {
        (Rotation::Unknown, known) | (known, Rotation::Unknown) => known,
        (a, b) if a == b => a,
        _ => Rotation::Unknown,
    }
}

const fn synchronize(addressing: Addressing, missing: Missing) -> Synchronize {
    if missing.contains(Feature::SynchronizeCache) {
        return Synchronize::Never;
    }
    match addressing {
        Addressing::Sixteen if !missing.contains(Feature::SynchronizeCache16) => Synchronize::Sixteen,
        _ => Synchronize::Ten,
    }
}

fn preferred_size(unit: &Unit, capacity: &Capacity) -> u32 {
    let granularity = unit.limits.transfer_granularity.unwrap_or(1).saturating_mul(capacity.block_size);
    let floor = capacity.physical_block_size.max(capacity.block_size).max(PREFERRED_SIZE);
    granularity.max(floor).checked_next_power_of_two().unwrap_or(floor).min(REQUEST_MAX)
}

fn discard(unit: &Unit, write_same: Option<u32>, missing: Missing) -> Option<Discard> {
    match unit.limits.unmap_max {
        Some(blocks_max) if unit.provisioning.unmap && !missing.contains(Feature::Unmap) => {
            Some(Discard::Unmap {
                blocks_max: blocks_max.min(UNMAP_BLOCKS_MAX),
                granularity: unit.limits.unmap_granularity.unwrap_or(1),
                alignment: unit.limits.unmap_alignment,
            })
        }
        _ => write_same.map(|blocks_max| Discard::WriteSame { blocks_max }),
    }
}

fn least_discard(a: Option<Discard>, b: Option<Discard>) -> Option<Discard> {
    match (a?, b?) {
        (Discard::Unmap { blocks_max: a, granularity, alignment }, Discard::Unmap { blocks_max: b, .. }) => {
            Some(Discard::Unmap { blocks_max: a.min(b), granularity, alignment })
        }
        (Discard::WriteSame { blocks_max: a }, Discard::WriteSame { blocks_max: b }) => {
            Some(Discard::WriteSame { blocks_max: a.min(b) })
        }
        // Paths that cannot agree on a way have none.
        _ => None,
    }
}
