//! When a host looks at what is behind a nexus.

use array::UnitId;
use block::Operation;
use clock::Duration;
use scsi::{AdditionalSense, Lun};
use scsi_multipath::Disk;

use super::rig::{Door, Rig, address, options};
use crate::Verb;
use crate::config::Multipath;

#[test]
fn a_survey_that_is_due_while_one_goes_on_is_put_off() {
    let mut options = options(1);
    options.initiator.nop_interval = Duration::from_secs(60);
    let mut rig = Rig::with(options, 1);
    rig.advance(Duration::from_millis(1));
    rig.doors[0] = Door::Dark;
    rig.host.survey_everything(0);
    rig.host.survey_later(0);
    // A timer that is due and stays due would let no time pass.
    rig.advance(Duration::from_secs(10));
    assert!(!rig.is_up(0), "its questions are not answered");
}

/// How many paths each disk has, and how many ways that are not used.
fn counts(rig: &Rig) -> Vec<(usize, usize)> {
    let count = |view: crate::DiskView<'_>| (view.disk.unwrap().paths().count(), view.unused.len());
    rig.host.disks().map(count).collect()
}

#[test]
fn without_multipath_a_disk_keeps_to_its_first_path_until_that_is_gone_for_good() {
    let mut options = options(2);
    options.disks.multipath = Multipath::Off;
    let mut rig = Rig::with(options, 2);
    rig.advance(Duration::from_millis(1));
    assert_eq!(counts(&rig), [(1, 1); 2]);
    let nexus = |rig: &Rig| {
        let views = rig.host.disks().filter_map(|view| view.disk).flat_map(Disk::paths);
        let nexuses = views.filter_map(|path| rig.host.path(path.status.id));
        nexuses.map(|path| path.nexus.0).collect::<Vec<_>>()
    };
    let first = nexus(&rig)[0];
    rig.cut(first);
    rig.advance(Duration::from_secs(5));
    assert_eq!((counts(&rig), nexus(&rig)), (vec![(1, 1); 2], vec![first; 2]), "the same way again");
    rig.doors[first as usize] = Door::Refusing;
    rig.cut(first);
    rig.advance(Duration::from_secs(300));
    assert_eq!(nexus(&rig), [first; 2], "it may come back");
    rig.host.remove_path(first, Lun::from(0));
    rig.advance(Duration::from_secs(70));
    assert_eq!(rig.host.disks().count(), 2);
    assert!(nexus(&rig).contains(&(1 - first)), "the disk is gone, and another is there over the other way");
}

#[test]
fn a_path_whose_number_stands_for_a_unit_that_needs_no_more_paths_is_removed() {
    let mut options = options(2);
    options.disks.multipath = Multipath::Off;
    let mut rig = Rig::with(options, 2);
    rig.advance(Duration::from_millis(1));
    let only = |rig: &Rig, disk: usize| {
        let view = rig.host.disks().nth(disk).and_then(|view| view.disk).unwrap();
        let path = view.paths().next().unwrap().status.id;
        let found = rig.host.path(path).unwrap();
        (path, found.nexus.0, found.lun)
    };
    let (path, used, lun) = only(&rig, 0);
    assert_eq!(lun, Lun::from(0));
    rig.doors[used as usize] = Door::Refusing;
    rig.cut(used);
    let port = u16::try_from(used + 1).map(array::PortId).ok();
    rig.tell_array(array::Event::Map { port, lun: Lun::from(0), unit: Some(UnitId(1)) });
    rig.doors[used as usize] = Door::Open;
    rig.advance(Duration::from_secs(10));
    assert!(rig.host.path(path).is_none(), "it leads to another unit, which has a path");
    rig.advance(Duration::from_secs(70));
    let ways: Vec<u32> = (0..2).map(|disk| only(&rig, disk).1).collect();
    assert!(
        ways.contains(&(1 - used)),
        "the disk is gone, and another is there over the other way: {ways:?}"
    );
}

#[test]
fn a_lost_cache_that_is_told_on_a_way_that_is_not_used_fails_the_next_flush() {
    let mut options = options(2);
    options.disks.multipath = Multipath::Off;
    let mut rig = Rig::with(options, 2);
    rig.advance(Duration::from_millis(1));
    let disk = rig.disk(0);
    let used = rig.host.path(rig.path(0, 0)).map(|path| path.nexus.0).unwrap();
    let write = rig.write(disk, 0);
    assert_eq!(rig.completed[&write], Ok(()));
    let attention = AdditionalSense::DEVICE_INTERNAL_RESET;
    rig.doors[used as usize] = Door::Refusing;
    rig.cut(used);
    rig.tell_array(array::Event::PowerCycle { unit: UnitId(0), attention });
    rig.said(Verb::Rescan { portal: Some(address(1 - used as usize).to_string()) }).unwrap();
    rig.doors[used as usize] = Door::Open;
    rig.run_until(|rig| rig.is_up(used as usize));
    let flush = rig.submit(disk, Operation::Flush);
    assert_eq!(rig.completed[&flush], Err(block::Error::Io));
}
