//! What a disk does for its exports: requests become commands, and the device has its ways.

use block::{Access, Durability, Effort, Error, Provisioning, Support, WriteCache};
use scsi::cdb::operation as op;
use scsi::{Residual, SenseKey};

use crate::device::{BLOCK, BLOCK_LENGTH, Device, sense};
use crate::rig::{Fault, Rig};

const KIB: u32 = 1024;

#[test]
fn what_was_written_is_read_back() {
    let mut rig = Rig::new(Device::new(64, 1), 2);
    let write = rig.write(512, &[7; 3 * BLOCK]);
    rig.assert_ok(write);
    let read = rig.read(0, 5 * BLOCK_LENGTH);
    assert_eq!(rig.data(read), [vec![0; BLOCK], vec![7; 3 * BLOCK], vec![0; BLOCK]].concat());
}

#[test]
fn a_request_longer_than_a_transfer_goes_piece_by_piece() {
    let mut device = Device::new(64, 1);
    device.limits.transfer_max = 2;
    let mut rig = Rig::new(device, 1);
    let bytes = [1, 2, 3, 4, 5].map(|value| [value; BLOCK]).concat();
    let write = rig.write(512, &bytes);
    rig.assert_ok(write);
    assert_eq!(rig.device.executed(op::WRITE_16), 3, "two blocks, two blocks, one block");
    let read = rig.read(512, 5 * BLOCK_LENGTH);
    assert_eq!(rig.data(read), bytes);
    assert_eq!(rig.device.executed(op::READ_16), 3);
}

#[test]
fn a_piece_that_fails_ends_the_request() {
    let mut device = Device::new(64, 1);
    device.limits.transfer_max = 1;
    let mut rig = Rig::new(device, 1);
    rig.fault(1, Fault::Executed(scsi::Reply::good()));
    rig.fault(1, Fault::Reply(sense(SenseKey::MediumError, 0x11, 0x00)));
    let write = rig.write(0, &[1; 4 * BLOCK]);
    rig.assert_failed(write, Error::Io);
    assert_eq!(rig.device.executed(op::WRITE_16), 1, "nothing was sent after the failure");
}

#[test]
fn what_lies_beyond_the_end_or_between_blocks_never_reaches_the_device() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    let size = 8 * BLOCK as u64;
    let write = rig.write(size - 512, &[1; 2 * BLOCK]);
    rig.assert_failed(write, Error::NoSpace);
    let zeroes = rig.zero(size, 512, Provisioning::KeepAllocated, Effort::Any);
    rig.assert_failed(zeroes, Error::NoSpace);
    let read = rig.read(size, 512);
    rig.assert_failed(read, Error::Invalid);
    let far = rig.read(u64::MAX - 511, 512);
    rig.assert_failed(far, Error::Invalid);
    let between = rig.read(100, 512);
    rig.assert_failed(between, Error::Invalid);
    let short = rig.write(0, &[1; 100]);
    rig.assert_failed(short, Error::Invalid);
    assert_eq!(rig.device.log, []);
}

#[test]
fn a_request_for_nothing_succeeds_without_a_command() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    let read = rig.read(512, 0);
    rig.assert_ok(read);
    assert_eq!(rig.device.log, []);
}

#[test]
fn a_flush_flushes_what_was_written() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.write(0, &[1; BLOCK]);
    assert_eq!(rig.device.unflushed, 1);
    let flush = rig.flush();
    rig.assert_ok(flush);
    assert_eq!(rig.device.unflushed, 0);
    assert_eq!(rig.device.executed(op::SYNCHRONIZE_CACHE_16), 1);
}

#[test]
fn a_disk_without_a_cache_is_not_flushed() {
    let mut device = Device::new(8, 1);
    device.write_cache = false;
    let mut rig = Rig::new(device, 1);
    assert_eq!(rig.geometry.map(|geometry| geometry.write_cache), Some(WriteCache::Through));
    let flush = rig.flush();
    rig.assert_ok(flush);
    let write = rig.write_with(0, &[1; BLOCK], Durability::ForceUnitAccess);
    rig.assert_ok(write);
    assert_eq!(rig.device.executed(op::SYNCHRONIZE_CACHE_16), 0);
}

#[test]
fn a_durable_write_uses_fua_where_every_path_honours_it() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    let write = rig.write_with(0, &[1; BLOCK], Durability::ForceUnitAccess);
    rig.assert_ok(write);
    assert_eq!(rig.device.unflushed, 0);
    assert_eq!(rig.device.executed(op::SYNCHRONIZE_CACHE_16), 0, "no flush was needed");
}

#[test]
fn a_durable_write_is_flushed_where_fua_is_not_known() {
    let mut device = Device::new(8, 1);
    device.force_unit_access = false;
    let mut rig = Rig::new(device, 2);
    let write = rig.write_with(0, &[1; BLOCK], Durability::ForceUnitAccess);
    rig.assert_ok(write);
    assert_eq!(
        rig.device.log.iter().map(|(_, code)| *code).collect::<Vec<_>>(),
        [op::WRITE_16, op::SYNCHRONIZE_CACHE_16]
    );
}

#[test]
fn a_durable_write_is_flushed_where_fua_is_refused_after_all() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.fault(1, Fault::Reply(sense(SenseKey::IllegalRequest, 0x24, 0x00)));
    let write = rig.write_with(0, &[1; BLOCK], Durability::ForceUnitAccess);
    rig.assert_ok(write);
    assert!(rig.reported("the device refuses FUA"));
    assert_eq!(rig.device.executed(op::SYNCHRONIZE_CACHE_16), 1);
}

#[test]
fn a_lost_cache_fails_the_next_flush_once() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.write(0, &[1; BLOCK]);
    rig.fault(1, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, 0x01)));
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    assert!(rig.reported("the write cache was lost"));
    let (first, second) = (rig.flush(), rig.flush());
    rig.assert_failed(first, Error::Io);
    rig.assert_ok(second);
}

#[test]
fn a_flush_does_not_cover_what_is_acknowledged_while_it_is_on_its_way() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.write(0, &[1; BLOCK]);
    rig.holding.push(op::SYNCHRONIZE_CACHE_16);
    let first = rig.flush();
    let write = rig.write(512, &[2; BLOCK]);
    rig.assert_ok(write);
    rig.let_go();
    rig.assert_ok(first);
    rig.fault(1, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, 0x01)));
    rig.read(0, BLOCK_LENGTH);
    let second = rig.flush();
    rig.assert_failed(second, Error::Io);
}

#[test]
fn a_reset_with_nothing_unflushed_loses_nothing() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.write(0, &[1; BLOCK]);
    rig.flush();
    rig.fault(1, Fault::Reply(sense(SenseKey::UnitAttention, 0x29, 0x01)));
    rig.read(0, 512);
    let flush = rig.flush();
    rig.assert_ok(flush);
}

#[test]
fn a_deferred_error_fails_the_next_flush() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.write(0, &[1; BLOCK]);
    let deferred =
        scsi::Sense::new(SenseKey::MediumError, scsi::AdditionalSense::new(0x0c, 0x00)).as_deferred();
    rig.fault(1, Fault::Reply(scsi::Reply::check_condition(deferred.into())));
    let read = rig.read(0, 512);
    rig.assert_ok(read);
    let flush = rig.flush();
    rig.assert_failed(flush, Error::Io);
}

#[test]
fn a_device_that_flushes_in_no_way_is_asked_twice_and_never_again() {
    let mut device = Device::new(8, 1);
    device.unknown = vec![op::SYNCHRONIZE_CACHE_16, op::SYNCHRONIZE_CACHE_10];
    let mut rig = Rig::new(device, 1);
    let (first, second) = (rig.flush(), rig.flush());
    rig.assert_ok(first);
    rig.assert_ok(second);
    assert_eq!(rig.device.log.len(), 2, "once with 16 bytes, once with 10");
}

#[test]
fn a_device_that_knows_only_the_short_commands_gets_those() {
    let mut device = Device::new(8, 1);
    device.unknown = vec![op::READ_16, op::WRITE_16];
    let mut rig = Rig::new(device, 1);
    let write = rig.write(0, &[5; BLOCK]);
    rig.assert_ok(write);
    let read = rig.read(0, 512);
    assert_eq!(rig.data(read), [5; BLOCK]);
    assert_eq!(rig.device.executed(op::WRITE_10), 1);
}

#[test]
fn a_good_answer_with_missing_bytes_is_an_error() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    let short = scsi::Reply { residual: Residual::Underflow(512), ..scsi::Reply::good() };
    rig.fault(1, Fault::Executed(short));
    let read = rig.read(0, 1024);
    rig.assert_failed(read, Error::Io);
}

#[test]
fn a_discard_without_a_way_is_not_supported() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    assert_eq!(rig.geometry.map(|geometry| geometry.discard), Some(Support::No));
    let discard = rig.discard(0, 512);
    rig.assert_failed(discard, Error::NotSupported);
}

fn thin_device() -> Device {
    let mut device = Device::new(1024, 1);
    device.provisioning.unmap = true;
    device.provisioning.write_same_16 = true;
    device.limits.unmap_descriptors_max = 1;
    device.limits.unmap_blocks_max = 100;
    device.limits.unmap_granularity = 8;
    device.medium.fill(9);
    device
}

#[test]
fn a_discard_is_cut_where_granules_end() {
    let mut rig = Rig::new(thin_device(), 1);
    let discard = rig.discard(0, 200 * BLOCK_LENGTH);
    rig.assert_ok(discard);
    // 96 blocks, 96 blocks, 8 blocks.
    assert_eq!(rig.device.executed(op::UNMAP), 3);
    assert!(rig.device.medium[..200 * BLOCK].iter().all(|&byte| byte == 0));
    assert!(rig.device.medium[200 * BLOCK..].iter().all(|&byte| byte == 9));
}

#[test]
fn a_device_that_refuses_unmap_may_know_write_same() {
    let mut device = thin_device();
    device.unknown = vec![op::UNMAP];
    let mut rig = Rig::new(device, 1);
    let discard = rig.discard(0, 16 * KIB);
    rig.assert_ok(discard);
    assert_eq!(rig.device.executed(op::WRITE_SAME_16), 1);
    assert_eq!(rig.geometry.map(|geometry| geometry.discard), Some(Support::Yes));
}

#[test]
fn zeros_are_written_where_a_device_cannot_count_what_it_repeats() {
    let mut rig = Rig::new(thin_device(), 1);
    let miscounted = scsi::Reply { residual: Residual::Underflow(512), ..scsi::Reply::good() };
    rig.fault(1, Fault::Executed(miscounted.clone()));
    rig.fault(1, Fault::Executed(miscounted));
    let zeroes = rig.zero(0, 4 * KIB, Provisioning::MayDeallocate, Effort::Any);
    rig.assert_ok(zeroes);
    assert_eq!(rig.device.executed(op::WRITE_16), 1);
}

#[test]
fn a_device_that_refuses_all_ways_to_discard_has_none_from_then_on() {
    let mut device = thin_device();
    device.unknown = vec![op::UNMAP, op::WRITE_SAME_16];
    let mut rig = Rig::new(device, 1);
    let discard = rig.discard(0, 16 * KIB);
    rig.assert_failed(discard, Error::NotSupported);
    assert_eq!(rig.geometry.map(|geometry| geometry.discard), Some(Support::No));
}

#[test]
fn zeros_are_written_without_sending_them_where_the_device_can() {
    let mut rig = Rig::new(thin_device(), 1);
    let zeroes = rig.zero(512, 32 * KIB, Provisioning::MayDeallocate, Effort::FastOnly);
    rig.assert_ok(zeroes);
    assert_eq!(rig.device.log, [(1, op::WRITE_SAME_16)]);
    assert!(rig.device.medium[512..512 + 32 * 1024].iter().all(|&byte| byte == 0));
    assert_eq!(rig.device.medium[511], 9);
}

#[test]
fn zeros_are_sent_where_the_device_cannot_and_only_if_that_is_wanted() {
    let mut device = Device::new(2048, 1);
    device.medium.fill(9);
    device.unknown = vec![op::WRITE_SAME_16];
    let mut rig = Rig::new(device, 1);
    let fast = rig.zero(0, 512 * KIB, Provisioning::KeepAllocated, Effort::FastOnly);
    rig.assert_failed(fast, Error::NotSupported);
    let any = rig.zero(0, 512 * KIB, Provisioning::KeepAllocated, Effort::Any);
    rig.assert_ok(any);
    assert_eq!(rig.device.executed(op::WRITE_16), 2, "256 KiB at a time");
    assert!(rig.device.medium[..512 * 1024].iter().all(|&byte| byte == 0));
    assert!(rig.device.medium[512 * 1024..].iter().all(|&byte| byte == 9));
}

#[test]
fn a_write_protected_unit_is_a_read_only_disk() {
    let mut device = Device::new(8, 1);
    device.write_protected = true;
    let mut rig = Rig::new(device, 1);
    assert_eq!(rig.geometry.map(|geometry| geometry.access), Some(Access::ReadOnly));
    let write = rig.write(0, &[1; BLOCK]);
    rig.assert_failed(write, Error::ReadOnly);
    assert_eq!(rig.device.log, []);
}

#[test]
fn write_protection_that_comes_later_is_learned_from_the_first_refusal() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.device.write_protected = true;
    let write = rig.write(0, &[1; BLOCK]);
    rig.assert_failed(write, Error::ReadOnly);
    assert_eq!(rig.geometry.map(|geometry| geometry.access), Some(Access::ReadOnly));
}

#[test]
fn what_the_device_says_about_space_and_reservations_goes_up() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.fault(1, Fault::Reply(sense(SenseKey::DataProtect, 0x27, 0x07)));
    let full = rig.write(0, &[1; BLOCK]);
    rig.assert_failed(full, Error::NoSpace);
    let status = scsi::Status::ReservationConflict;
    rig.fault(1, Fault::Reply(scsi::Reply { status, ..scsi::Reply::good() }));
    let reserved = rig.write(0, &[1; BLOCK]);
    rig.assert_failed(reserved, Error::ReservationConflict);
    assert_eq!(rig.device.log, [], "the other path was not tried: it is the same unit");
}
