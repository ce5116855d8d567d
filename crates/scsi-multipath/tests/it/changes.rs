//! What a disk does when the logical unit changes under it.

use block::{Access, Error, Rotation, Support, WriteCache};
use multipath::{Access as PathAccess, PathId, PathState};
use scsi::SenseKey;
use scsi::cdb::operation as op;
use scsi::inquiry::{DeviceType, Peripheral, PeripheralQualifier, PortGroupSupport};
use scsi::port_groups::AccessState;
use scsi_multipath::Event;

use crate::device::{BLOCK, Device, sense};
use crate::rig::{Fault, Rig};

fn attention(asc: u8, ascq: u8) -> Fault {
    Fault::Reply(sense(SenseKey::UnitAttention, asc, ascq))
}

/// A read on the first path that meets a unit attention, and everything that follows.
fn meet(rig: &mut Rig, asc: u8, ascq: u8) {
    rig.fault(1, attention(asc, ascq));
    let read = rig.read(0, 512);
    rig.assert_ok(read);
}

#[test]
fn a_disk_that_has_grown_on_some_paths_is_as_large_as_the_smallest() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.device.medium.resize(16 * BLOCK, 0);
    rig.device.blocks_at.insert(1, 16);
    meet(&mut rig, 0x2a, 0x09);
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(8 * 512));
    let write = rig.write(8 * 512, &[1; BLOCK]);
    rig.assert_failed(write, Error::NoSpace);
    rig.device.blocks_at.insert(2, 16);
    meet(&mut rig, 0x2a, 0x09);
    assert_eq!(rig.geometry.map(|geometry| geometry.size), Some(16 * 512));
    let write = rig.write(8 * 512, &[1; BLOCK]);
    rig.assert_ok(write);
}

#[test]
fn a_disk_that_shrank_goes_on_within_its_end() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    rig.device.medium.truncate(4 * BLOCK);
    rig.device.reported_blocks = 4;
    meet(&mut rig, 0x2a, 0x09);
    let within = rig.write(3 * 512, &[1; BLOCK]);
    rig.assert_ok(within);
    let read = rig.read(4 * 512, 512);
    rig.assert_failed(read, Error::Invalid);
    let across = rig.write(3 * 512, &[1; 2 * BLOCK]);
    rig.assert_failed(across, Error::NoSpace);
    assert!(rig.reported("size 4096 -> 2048 bytes"));
}

#[test]
fn a_new_revision_is_taken_over_from_every_path_and_told_once() {
    for (asc, ascq) in [(0x3f, 0x03), (0x3f, 0x01)] {
        let mut rig = Rig::new(Device::new(8, 1), 2);
        rig.device.revision = "2";
        meet(&mut rig, asc, ascq);
        let reply = sense(SenseKey::UnitAttention, asc, ascq);
        rig.handle(Event::Overheard { path: PathId(2), reply });
        let revisions: Vec<_> =
            [1, 2].map(|path| rig.disk.unit(PathId(path)).unwrap().revision.clone()).into();
        assert_eq!(revisions, ["2", "2"], "{asc:x}/{ascq:x}");
        let told = "defined anew: ACME Story disk 1, port groups -> ACME Story disk 2, port groups";
        let told = rig.reports.iter().filter(|report| report.to_string().contains(told)).count();
        assert_eq!(told, 1, "{:#?}", rig.reports);
    }
}

#[test]
fn inquiry_data_that_did_not_change_is_not_told() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    meet(&mut rig, 0x3f, 0x03);
    assert!(!rig.reported("defined anew"), "{:#?}", rig.reports);
}

#[test]
fn nothing_is_sent_on_a_path_before_its_inquiry_data_was_read_again() {
    let mut rig = Rig::new(Device::new(8, 1), 1);
    rig.holding.push(op::INQUIRY);
    rig.fault(1, attention(0x3f, 0x03));
    let read = rig.read(0, 512);
    // The identity is shown; the standard data are not.
    rig.let_one_go();
    assert_eq!((rig.state(1), rig.completion(read)), (PathState::Waiting, None));
    rig.let_go();
    rig.assert_ok(read);
}

#[test]
fn what_is_no_disk_any_more_is_no_path_any_more() {
    let other = Peripheral { device_type: DeviceType::EnclosureServices, ..Peripheral::DISK };
    let nothing = Peripheral { qualifier: PeripheralQualifier::NotConnected, ..Peripheral::DISK };
    for (peripheral, said) in [(other, "device type EnclosureServices"), (nothing, "no device is connected")]
    {
        let mut rig = Rig::new(Device::new(8, 1), 2);
        rig.device.peripheral = peripheral;
        meet(&mut rig, 0x3f, 0x03);
        assert!(rig.reported("path P1 quarantined") && rig.reported(said), "{:#?}", rig.reports);
        assert!(rig.reported("path P1 says that its logical units changed"), "it is surveyed again");
        assert_eq!(rig.state(1), PathState::Down);
    }
}

#[test]
fn a_unit_that_begins_to_report_port_groups_is_asked_for_them() {
    let mut device = Device::new(8, 1);
    device.tpgs = PortGroupSupport::None;
    device.access.insert(1, AccessState::NonOptimized);
    let mut rig = Rig::new(device, 1);
    assert_eq!(rig.state(1), PathState::Usable(PathAccess::Optimized));
    rig.device.tpgs = PortGroupSupport::Implicit;
    meet(&mut rig, 0x3f, 0x03);
    assert_eq!(rig.state(1), PathState::Usable(PathAccess::NonOptimized));
    assert!(rig.reported("disk 1, no port groups -> ACME Story disk 1, port groups"), "{:#?}", rig.reports);
}

#[test]
fn a_unit_that_reports_no_port_groups_any_more_is_optimized_everywhere() {
    let mut device = Device::new(8, 1);
    device.access.insert(1, AccessState::NonOptimized);
    let mut rig = Rig::new(device, 1);
    rig.device.tpgs = PortGroupSupport::None;
    meet(&mut rig, 0x3f, 0x03);
    assert_eq!(rig.state(1), PathState::Usable(PathAccess::Optimized));
}

#[test]
fn block_limits_are_read_again_when_the_definition_of_the_unit_changed() {
    for (asc, ascq) in [(0x3f, 0x03), (0x3f, 0x01), (0x3f, 0x16)] {
        let mut rig = Rig::new(Device::new(64, 1), 2);
        rig.device.limits.transfer_max = 2;
        meet(&mut rig, asc, ascq);
        rig.device.log.clear();
        let write = rig.write(0, &[1; 6 * BLOCK]);
        rig.assert_ok(write);
        assert_eq!(rig.device.executed(op::WRITE_16), 3, "{asc:x}/{ascq:x}");
    }
}

#[test]
fn exports_are_told_when_a_medium_turns_that_did_not() {
    let device = Device { rotation_rate: Some(1), ..Device::new(8, 1) };
    let mut rig = Rig::new(device, 2);
    assert_eq!(rig.geometry.map(|geometry| geometry.rotation), Some(Rotation::Solid));
    rig.device.rotation_rate = Some(7200);
    meet(&mut rig, 0x3f, 0x03);
    assert_eq!(rig.geometry.map(|geometry| geometry.rotation), Some(Rotation::PerMinute(7200)));
}

#[test]
fn paths_that_do_not_agree_whether_the_medium_turns_leave_it_unknown() {
    let device = Device { rotation_rate: Some(1), ..Device::new(8, 1) };
    let mut rig = Rig::new(device, 1);
    rig.device.rotation_rate = None;
    rig.find(PathId(2), 2);
    assert_eq!(rig.geometry.map(|geometry| geometry.rotation), Some(Rotation::Solid), "one does not say");
    rig.device.rotation_rate = Some(7200);
    rig.find(PathId(3), 3);
    assert_eq!(rig.geometry.map(|geometry| geometry.rotation), Some(Rotation::Unknown));
}

#[test]
fn a_unit_that_becomes_thin_can_be_discarded_from_then_on() {
    let mut rig = Rig::new(Device::new(64, 1), 2);
    let discard = rig.discard(0, 512);
    rig.assert_failed(discard, Error::NotSupported);
    rig.device.provisioning.unmap = true;
    rig.device.limits.unmap_blocks_max = 64;
    rig.device.limits.unmap_descriptors_max = 1;
    meet(&mut rig, 0x3f, 0x03);
    assert_eq!(rig.geometry.map(|geometry| geometry.discard), Some(Support::Yes));
    let discard = rig.discard(0, 512);
    rig.assert_ok(discard);
}

#[test]
fn a_write_cache_that_is_turned_off_and_on_is_flushed_only_while_it_is_on() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    for (write_cache, expected) in [(false, WriteCache::Through), (true, WriteCache::Back)] {
        rig.device.write_cache = write_cache;
        meet(&mut rig, 0x2a, 0x01);
        assert_eq!(rig.geometry.map(|geometry| geometry.write_cache), Some(expected));
        rig.device.log.clear();
        rig.write(0, &[1; BLOCK]);
        let flush = rig.flush();
        rig.assert_ok(flush);
        assert_eq!(rig.device.executed(op::SYNCHRONIZE_CACHE_16), usize::from(write_cache));
    }
}

#[test]
fn write_protection_comes_and_goes_with_the_mode_parameters() {
    let mut rig = Rig::new(Device::new(8, 1), 2);
    for (write_protected, expected) in [(true, Access::ReadOnly), (false, Access::ReadWrite)] {
        rig.device.write_protected = write_protected;
        meet(&mut rig, 0x2a, 0x01);
        assert_eq!(rig.geometry.map(|geometry| geometry.access), Some(expected));
        let write = rig.write(0, &[1; BLOCK]);
        let outcome = if write_protected { Err(Error::ReadOnly) } else { Ok(()) };
        assert_eq!(rig.completion(write), Some(outcome));
    }
}
