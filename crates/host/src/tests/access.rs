//! Access states of many logical units of one array.

use array::AccessState;
use block::{Buffer, Operation, Request, Tag};
use clock::Duration;
use scsi_multipath::Disk;

use super::rig::{Rig, options};
use crate::{DiskIndex, Event};

const UNITS: u16 = 50;

fn rig() -> Rig {
    let mut rig = Rig::with_units(options(2), 2, UNITS);
    rig.advance(Duration::from_secs(1));
    assert_eq!(shown(&rig, AccessState::Optimized), [usize::from(UNITS) * 2, 0]);
    rig
}

/// Paths that are in this state, and how many of those because it is assumed.
fn shown(rig: &Rig, state: AccessState) -> [usize; 2] {
    let paths = || rig.host.disks().filter_map(|view| view.disk).flat_map(Disk::paths);
    let are = || paths().filter(|path| path.access == state);
    [are().count(), are().filter(|path| path.is_assumed).count()]
}

/// One read of each disk.
fn read(rig: &mut Rig) {
    let disks: Vec<DiskIndex> = rig.host.disks().map(|view| view.index).collect();
    for disk in disks {
        let operation = Operation::Read { offset: 0, length: 512 };
        let request = Request { tag: Tag(1), operation, buffer: Buffer::zeroed(512) };
        rig.host.handle(rig.now, Event::Block { disk, request });
    }
    rig.advance(Duration::from_micros(1));
}

#[test]
fn a_change_that_all_units_hear_of_on_both_paths_is_known_at_once_from_two_of_them() {
    let mut rig = rig();
    let before = rig.group_reports();
    rig.set_access(AccessState::NonOptimized);
    read(&mut rig);
    // One when the first path of each says that something changed, and one when the second does: that may be another
    // change. Each is asked again when its path has an attention of its own to tell.
    assert!(rig.group_reports() - before <= 4, "{}", rig.group_reports() - before);
    let units = usize::from(UNITS);
    let [changed, assumed] = shown(&rig, AccessState::NonOptimized);
    assert_eq!(changed, units * 2);
    // The answer on a path that had an attention of its own meanwhile counts only once its identity was read again.
    assert!(((units - 2) * 2..units * 2).contains(&assumed), "{assumed}");
    rig.advance(Duration::from_secs(1));
    let asked = rig.group_reports() - before;
    assert!((20..=50).contains(&asked), "{asked}");
    rig.advance(Duration::from_secs(2));
    assert_eq!(shown(&rig, AccessState::NonOptimized), [units * 2, 0], "each was told itself");
    let asked = rig.group_reports() - before;
    rig.advance(Duration::from_secs(600));
    assert_eq!(rig.group_reports() - before, asked, "and nobody asks again");
}

#[test]
fn when_all_groups_are_in_standby_each_unit_finds_out_by_itself_when_one_is_back() {
    let mut rig = rig();
    rig.set_access(AccessState::Standby);
    read(&mut rig);
    read(&mut rig);
    assert_eq!(shown(&rig, AccessState::Standby)[0], usize::from(UNITS) * 2);
    let before = rig.group_reports();
    rig.advance(Duration::from_secs(60));
    let asked = rig.group_reports() - before;
    assert!(asked <= 60 * 20 + 28, "{asked}");
    rig.set_access(AccessState::Optimized);
    rig.advance(Duration::from_secs(3));
    assert_eq!(shown(&rig, AccessState::Optimized)[0], usize::from(UNITS) * 2);
}
