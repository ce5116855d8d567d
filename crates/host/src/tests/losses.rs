//! Nexuses that are lost: how much goes with them, and when they are tried again.

use clock::{Duration, Instant};
use multipath::PathState;
use scsi_multipath::Disk;

use super::rig::{Door, Rig, Seen, options};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Paths that are down, and all.
fn down(rig: &Rig) -> (usize, usize) {
    let paths = || rig.host.disks().filter_map(|view| view.disk).flat_map(Disk::paths);
    (paths().filter(|path| path.status.state == PathState::Down).count(), paths().count())
}

#[test]
fn a_portal_that_falls_silent_takes_the_paths_of_all_units_at_once_and_none_is_asked() {
    let mut rig = Rig::with_units(options(2), 2, 100);
    rig.advance(Duration::from_millis(500));
    assert_eq!(down(&rig), (0, 200));
    let (dark, other) = (rig.commands(0), rig.commands(1));
    rig.doors[0] = Door::Dark;
    rig.seen.clear();
    // The nexus asks for a sign of life after a second of silence and gives up after another.
    let began = rig.now;
    let mut counts: Vec<usize> = Vec::new();
    while rig.now < began + seconds(4) {
        rig.advance(Duration::from_millis(10));
        counts.push(down(&rig).0);
    }
    counts.dedup();
    assert_eq!(counts, [0, 100], "all in one moment");
    assert_eq!((rig.commands(0), rig.commands(1)), (dark, other), "no logical unit is asked anything");
    assert!(!rig.seen.iter().any(|seen| matches!(seen, Seen::Identity { .. })));
}

/// Lets a nexus go each time that it has come up, and counts how often that was.
fn flap(rig: &mut Rig, nexus: u32, time: Duration) -> usize {
    let end: Instant = rig.now + time;
    let mut times = 0;
    while rig.now < end {
        if rig.is_up(nexus as usize) {
            times += 1;
            rig.cut(nexus);
        }
        rig.advance(Duration::from_millis(10));
    }
    times
}

#[test]
fn a_nexus_that_flaps_is_tried_more_and_more_rarely_until_it_has_been_steady() {
    let mut rig = Rig::new(2);
    let first = flap(&mut rig, 0, seconds(60));
    assert!((8..=11).contains(&first), "it doubles: {first}");
    let later = flap(&mut rig, 0, seconds(600));
    assert!((20..=40).contains(&later), "every half a minute at the most: {later}");
    rig.run_until(|rig| rig.is_up(0));
    rig.advance(seconds(11));
    rig.cut(0);
    rig.advance(Duration::from_millis(200));
    assert!(rig.is_up(0), "it starts anew");
}

#[test]
fn a_nexus_that_is_the_only_way_is_not_damped() {
    let mut rig = Rig::new(1);
    let times = flap(&mut rig, 0, seconds(60));
    assert!(times > 300, "{times}");
}

#[test]
fn a_nexus_that_is_damped_comes_back_sooner_when_the_others_are_lost() {
    let mut rig = Rig::new(2);
    flap(&mut rig, 0, seconds(120));
    rig.run_until(|rig| rig.is_up(0));
    rig.cut(0);
    rig.advance(seconds(1));
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.advance(seconds(5));
    assert!(rig.is_up(0));
}
