//! How many questions about port groups it takes to find the paths of logical units.

use clock::Duration;
use multipath::{Access, PathState};

use super::rig::{Door, Rig, options};

/// Four portals, two of each controller, and so many logical units.
fn started(units: u16) -> Rig {
    let mut rig = Rig::with_controllers(options(4), 2, 2, units);
    rig.advance(Duration::from_millis(1));
    assert!((0..4).all(|port| rig.is_up(port)), "{:?}", rig.notices);
    rig
}

#[test]
fn one_answer_does_for_all_paths_of_a_unit_and_for_no_other_unit() {
    for units in [1, 2, 20] {
        let rig = started(units);
        let paths: usize =
            rig.host.disks().filter_map(|view| view.disk).map(|disk| disk.paths().count()).sum();
        assert_eq!(paths, usize::from(units) * 4);
        // The first question of a nexus to a unit meets the greeting.
        assert_eq!(rig.group_reports(), u64::from(units) * 2);
        assert!(rig.host.reports.is_empty(), "nothing of it is kept for another time");
    }
}

#[test]
fn a_path_takes_the_state_of_its_own_group_from_what_another_one_was_told() {
    let mut rig = Rig::with_controllers(options(4), 2, 2, 1);
    let group = array::GroupId(2);
    rig.tell_array(array::Event::SetAccess { group, state: array::AccessState::NonOptimized });
    rig.advance(Duration::from_millis(1));
    assert_eq!(rig.group_reports(), 2);
    let states: Vec<PathState> = (0..4).map(|nexus| rig.state(rig.path(nexus, 0))).collect();
    let (first, second) = (PathState::Usable(Access::Optimized), PathState::Usable(Access::NonOptimized));
    assert_eq!(states, [first, first, second, second]);
}

#[test]
fn a_path_that_is_found_later_asks_for_itself() {
    let mut rig = started(2);
    let before = rig.group_reports();
    rig.cut(3);
    rig.run_until(|rig| rig.is_up(3));
    assert_eq!(rig.group_reports(), before + 2 * 2);
}

#[test]
fn a_portal_that_falls_silent_in_its_survey_holds_no_other_one_up() {
    for answers in 0..40 {
        let mut rig = Rig::with_controllers(options(2), 1, 2, 1);
        // So many rounds of talk, then nothing more comes from the first portal.
        for _ in 0..answers {
            rig.round();
        }
        rig.doors[0] = Door::Dark;
        rig.advance(Duration::from_millis(150));
        assert!(rig.is_up(1), "after {answers} rounds: {:?}", rig.notices);
        let usable = rig.host.disks().filter_map(|view| view.disk).flat_map(scsi_multipath::Disk::paths);
        assert!(usable.count() >= 1, "after {answers} rounds");
    }
}
