//! When a host looks at what is behind a nexus.

use clock::Duration;
use scsi::Lun;
use scsi_multipath::Disk;

use super::rig::{Door, Rig, options};
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
