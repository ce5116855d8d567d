//! Which commands a request becomes: range and alignment, the way that the device knows, and one piece at a time.

use alloc::vec::Vec;

use block::{Access, Buffer, Durability, Effort, Error, Operation, Provisioning, Request, WriteCache};
use scsi::cdb::Cdb;
use scsi::cdb::{Form, LongForm, MediumAccess, WriteSame};
use scsi::unmap::{Extent, UnmapList};
use scsi::{Blocks, Lba, Transfer};

use super::features::{Discard, Features, Synchronize};
use super::report::Feature;
use super::work::{Piece, Step, Work};
use crate::disposition::CommandClass;
use crate::unit::Addressing;

/// Zeros sent at a time where they have to be: enough to keep a path busy, little enough to allocate.
const ZEROS_MAX: u32 = 256 << 10;

/// Checks a request against the disk and chooses its first step; none if there is nothing to do.
///
/// # Errors
/// What is wrong with the request, or that this disk cannot do it.
pub(super) fn admit(features: &Features, request: &Request) -> Result<Option<Step>, Error> {
    if let Some((offset, length)) = request.operation.extent() {
        check_range(features, &request.operation, offset, length)?;
        if length == 0 {
            return Ok(None);
        }
    }
    let room = match request.operation {
        Operation::Read { length, .. } | Operation::Write { length, .. } => length as usize,
        _ => 0,
    };
    if request.buffer.len() < room {
        return Err(Error::Invalid);
    }
    step(features, &request.operation)
}

fn check_range(features: &Features, operation: &Operation, offset: u64, length: u32) -> Result<(), Error> {
    let writes = !matches!(operation, Operation::Read { .. });
    if writes && features.access == Access::ReadOnly {
        return Err(Error::ReadOnly);
    }
    let mask = u64::from(features.block_size - 1);
    if (offset | u64::from(length)) & mask != 0 {
        return Err(Error::Invalid);
    }
    match offset.checked_add(length.into()) {
        Some(end) if end <= features.size() => Ok(()),
        _ => Err(beyond_the_end(operation)),
    }
}

/// What a request beyond the end of the disk ends with.
pub(super) const fn beyond_the_end(operation: &Operation) -> Error {
    match operation {
        Operation::Write { .. } | Operation::WriteZeroes { .. } => Error::NoSpace,
        Operation::Read { .. } | Operation::Discard { .. } | Operation::Flush => Error::Invalid,
    }
}

/// The way in which this disk does an operation, or what is left of it.
///
/// # Errors
/// [`Error::NotSupported`] if there is none.
pub(super) fn step(features: &Features, operation: &Operation) -> Result<Option<Step>, Error> {
    Ok(Some(match *operation {
        Operation::Read { .. } => Step::Read,
        Operation::Write { .. } => Step::Write,
        Operation::Flush => return Ok(flush(features)),
        Operation::Discard { .. } => match features.discard {
            Some(Discard::Unmap { .. }) => Step::Unmap,
            Some(Discard::WriteSame { .. }) => Step::WriteSameUnmap,
            None => return Err(Error::NotSupported),
        },
        Operation::WriteZeroes { provisioning: Provisioning::MayDeallocate, .. }
            if features.write_same_unmap =>
        {
            Step::WriteSameUnmap
        }
        Operation::WriteZeroes { .. } if features.write_same_blocks.is_some() => Step::WriteSame,
        Operation::WriteZeroes { effort: Effort::FastOnly, .. } => return Err(Error::NotSupported),
        Operation::WriteZeroes { .. } => Step::WriteZeros,
    }))
}

/// The step that makes acknowledged writes durable; none if they are already, or if there is no way.
fn flush(features: &Features) -> Option<Step> {
    let cached = features.write_cache == WriteCache::Back && features.synchronize != Synchronize::Never;
    cached.then_some(Step::Synchronize)
}

/// The step after a piece was done; none if that was all.
pub(super) fn following(features: &Features, work: &Work) -> Option<Step> {
    if work.rest() > 0 {
        return Some(work.step);
    }
    if work.step == Step::Synchronize || !work.is_volatile { None } else { flush(features) }
}

/// Cuts the next piece for the step that the work is at.
pub(super) fn cut(features: &Features, work: &mut Work) {
    let (offset, _) = work.operation.extent().unwrap_or((0, 0));
    let block_size = features.block_size;
    let lba = Lba((offset + u64::from(work.cursor)) / u64::from(block_size));
    let rest = work.rest() / block_size;
    let blocks = match work.step {
        Step::Read | Step::Write => rest.min(features.transfer_blocks),
        Step::Unmap => match features.discard {
            Some(Discard::Unmap { blocks_max, granularity, alignment }) => {
                whole_granules(lba, rest, blocks_max, granularity, alignment)
            }
            _ => rest,
        },
        Step::WriteSameUnmap => match (features.discard, features.write_same_blocks) {
            (Some(Discard::WriteSame { blocks_max }), _) | (_, Some(blocks_max)) => rest.min(blocks_max),
            _ => rest,
        },
        Step::WriteSame => rest.min(features.write_same_blocks.unwrap_or(rest)),
        Step::WriteZeros => rest.min(features.transfer_blocks).min((ZEROS_MAX / block_size).max(1)),
        Step::Synchronize => 0,
    };
    let forced = is_forced(features, work);
    work.is_volatile |= needs_flush(features, work, forced);
    let (cdb, transfer) = command(features, work, lba, Blocks(blocks), forced);
    let cdb = cdb.emit();
    work.piece = Piece { cdb, transfer, class: CommandClass::of(&cdb), length: blocks * block_size };
    work.tries = 0;
    work.elsewhere = 0;
}

/// As many blocks as one UNMAP takes; if that is not all, it ends where a granule ends, so that the device can
/// give back every granule that is asked for.
fn whole_granules(lba: Lba, rest: u32, blocks_max: u32, granularity: u32, alignment: u32) -> u32 {
    if rest <= blocks_max {
        return rest;
    }
    let blocks = blocks_max.max(1);
    let granularity = u64::from(granularity.max(1));
    let end = lba.0 + u64::from(blocks);
    let over = end.saturating_sub(u64::from(alignment)) % granularity;
    match u32::try_from(over) {
        Ok(over) if over < blocks => blocks - over,
        _ => blocks,
    }
}

/// Whether the write is to be durable when it is acknowledged, whoever does that.
const fn is_durable(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Write { durability: Durability::ForceUnitAccess, .. }
            | Operation::WriteZeroes { durability: Durability::ForceUnitAccess, .. }
    )
}

/// Whether the device makes it durable by itself (FUA). WRITE SAME and UNMAP have no such bit.
fn is_forced(features: &Features, work: &Work) -> bool {
    matches!(work.step, Step::Write | Step::WriteZeros)
        && is_durable(&work.operation)
        && features.force_unit_access
        && features.write_cache == WriteCache::Back
}

fn needs_flush(features: &Features, work: &Work, forced: bool) -> bool {
    is_durable(&work.operation) && !forced && features.write_cache == WriteCache::Back
}

/// The command for the step of a piece of work, with its data where it is not the request's own.
fn command(features: &Features, work: &mut Work, lba: Lba, blocks: Blocks, forced: bool) -> (Cdb, Transfer) {
    let length = blocks.0 * features.block_size;
    let access = MediumAccess { force_unit_access: forced, ..MediumAccess::new(form(features), lba, blocks) };
    match work.step {
        Step::Read => (Cdb::Read(access), Transfer::FromDevice { offset: work.cursor, length }),
        Step::Write => (Cdb::Write(access), Transfer::ToDevice { offset: work.cursor, length }),
        Step::WriteZeros => (Cdb::Write(access), send_zeros(work, length)),
        Step::Unmap => {
            let list = UnmapList { extents: Vec::from([Extent { lba, blocks }]) }.emit();
            let parameter_list_length = u16::try_from(list.len()).unwrap_or(u16::MAX);
            work.buffer = Buffer::from(list);
            let cdb = Cdb::Unmap { anchor: false, group: 0, parameter_list_length };
            (cdb, Transfer::ToDevice { offset: 0, length: parameter_list_length.into() })
        }
        Step::WriteSame | Step::WriteSameUnmap => {
            let unmap = work.step == Step::WriteSameUnmap;
            let same = WriteSame {
                form: LongForm::Sixteen,
                lba,
                blocks,
                protect: 0,
                anchor: false,
                unmap,
                // One block of zeros is understood by every device; NDOB only by some.
                no_data_out: false,
                group: 0,
            };
            (Cdb::WriteSame(same), send_zeros(work, features.block_size))
        }
        Step::Synchronize => (synchronize(features), Transfer::None),
    }
}

pub(super) const fn form(features: &Features) -> Form {
    match features.addressing {
        Addressing::Sixteen => Form::Sixteen,
        Addressing::Ten => Form::Ten,
    }
}

/// The whole logical unit: no blocks means up to the end (SBC, SYNCHRONIZE CACHE).
fn synchronize(features: &Features) -> Cdb {
    let form = match features.synchronize {
        Synchronize::Sixteen => LongForm::Sixteen,
        Synchronize::Ten | Synchronize::Never => LongForm::Ten,
    };
    Cdb::SynchronizeCache { form, lba: Lba(0), blocks: Blocks(0), immediate: false, group: 0 }
}

fn send_zeros(work: &mut Work, length: u32) -> Transfer {
    if work.buffer.len() < length as usize {
        work.buffer = Buffer::zeroed(length as usize);
    }
    Transfer::ToDevice { offset: 0, length }
}

/// What a device that does not support a piece of work need not support; none if there is no way without.
pub(super) fn optional_feature(features: &Features, work: &Work) -> Option<Feature> {
    let forced = is_forced(features, work);
    match work.step {
        Step::Unmap => Some(Feature::Unmap),
        Step::WriteSameUnmap => Some(Feature::WriteSameUnmap),
        Step::WriteSame => Some(Feature::WriteSame),
        Step::Synchronize => match work.piece.cdb.operation_code() {
            scsi::cdb::operation::SYNCHRONIZE_CACHE_16 => Some(Feature::SynchronizeCache16),
            _ => Some(Feature::SynchronizeCache),
        },
        Step::Write | Step::WriteZeros if forced => Some(Feature::ForceUnitAccess),
        Step::Read | Step::Write | Step::WriteZeros => {
            let reachable = features.blocks <= u64::from(u32::MAX) + 1;
            let is_16 = matches!(
                work.piece.cdb.operation_code(),
                scsi::cdb::operation::READ_16 | scsi::cdb::operation::WRITE_16
            );
            (is_16 && reachable).then_some(Feature::ReadWrite16)
        }
    }
}
