//! What one command may ask for, as VPD page B0h says it and the commands enforce it.

/// The longest READ, WRITE or VERIFY, in bytes: bounds the memory that one command can make the array take.
const TRANSFER_MAX: u32 = 8 << 20;
/// The length that is served best, in bytes: one chunk of the memory store.
const TRANSFER_OPTIMAL: u32 = 64 << 10;
/// MAXIMUM COMPARE AND WRITE LENGTH, in blocks.
pub(crate) const COMPARE_AND_WRITE_BLOCKS_MAX: u8 = 128;
/// MAXIMUM UNMAP LBA COUNT: a bound on the work of one command.
pub(crate) const UNMAP_BLOCKS_MAX: u32 = 1 << 20;
/// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT: what the initiators that are known send fits many times.
pub(crate) const UNMAP_DESCRIPTORS_MAX: u32 = 256;
/// MAXIMUM WRITE SAME LENGTH, in blocks: a bound on the work of one command.
pub(crate) const WRITE_SAME_BLOCKS_MAX: u32 = 32 << 10;
/// Descriptors in one GET LBA STATUS answer, whatever the allocation length is.
pub(crate) const LBA_STATUS_DESCRIPTORS_MAX: usize = 256;

/// MAXIMUM TRANSFER LENGTH in blocks.
pub(crate) const fn transfer_blocks_max(block_size: u32) -> u32 {
    TRANSFER_MAX / block_size
}

/// OPTIMAL TRANSFER LENGTH in blocks.
pub(crate) const fn transfer_blocks_optimal(block_size: u32) -> u32 {
    TRANSFER_OPTIMAL / block_size
}
