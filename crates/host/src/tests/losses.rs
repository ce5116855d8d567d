//! Nexuses that are lost: how much goes with them, and when they are tried again.

use clock::{Duration, Instant};
use iscsi::target::Notification;
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

/// How often a connection of a nexus was asked for.
fn tries(rig: &Rig, nexus: u32) -> usize {
    rig.seen.iter().filter(|seen| matches!(seen, Seen::Connect { nexus: it, .. } if *it == nexus)).count()
}

/// A nexus is away for a minute, so that its next try is seconds away; then its portal is there again.
fn away_for_a_minute(rig: &mut Rig, nexus: u32) {
    rig.doors[nexus as usize] = Door::Refusing;
    rig.cut(nexus);
    rig.advance(seconds(60));
    // From one try to the next: nothing is hastened by chance.
    let before = tries(rig, nexus);
    while tries(rig, nexus) == before {
        rig.advance(Duration::from_millis(10));
    }
    rig.doors[nexus as usize] = Door::Open;
}

#[test]
fn a_nexus_that_is_damped_is_tried_at_once_when_the_last_other_one_is_lost() {
    let mut rig = Rig::new(2);
    flap(&mut rig, 0, seconds(120));
    rig.run_until(|rig| rig.is_up(0));
    rig.cut(0);
    rig.advance(seconds(1));
    assert!(!rig.is_up(0));
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.advance(Duration::from_millis(50));
    assert!(rig.is_up(0));
}

#[test]
fn a_nexus_whose_portal_was_away_is_tried_at_once_when_the_last_other_one_is_lost() {
    let mut rig = Rig::new(2);
    away_for_a_minute(&mut rig, 0);
    rig.advance(seconds(1));
    assert!(!rig.is_up(0), "it is only spared");
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.advance(Duration::from_millis(50));
    assert!(rig.is_up(0));
}

#[test]
fn a_nexus_is_not_hastened_while_others_serve() {
    let mut rig = Rig::new(3);
    away_for_a_minute(&mut rig, 0);
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.advance(seconds(1));
    assert!(!rig.is_up(0));
}

#[test]
fn a_nexus_is_tried_at_once_when_the_last_other_one_seems_to_stall() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    for offset in 0..20 {
        rig.read(disk, offset << 12);
        rig.advance(Duration::from_millis(1));
    }
    away_for_a_minute(&mut rig, 0);
    rig.doors[1] = Door::Dark;
    for offset in 0..8 {
        rig.read(disk, offset << 12);
    }
    rig.advance(Duration::from_millis(100));
    assert!(rig.is_up(0), "long before it is known that the other one is lost");
    assert!(rig.is_up(1));
    assert!(rig.codes(0).contains(&"path-alone"), "{:?}", rig.codes(0));
}

#[test]
fn every_portal_is_tried_once_a_second_while_a_disk_has_no_path() {
    let mut rig = Rig::new(2);
    rig.doors.fill(Door::Refusing);
    rig.cut(0);
    rig.cut(1);
    rig.advance(seconds(60));
    rig.seen.clear();
    rig.advance(seconds(60));
    for nexus in 0..2 {
        let tries = tries(&rig, nexus);
        assert!((60..=120).contains(&tries), "{tries}");
    }
    rig.doors.fill(Door::Open);
    rig.advance(seconds(1));
    assert!(rig.is_up(0) && rig.is_up(1));
}

#[test]
fn a_nexus_that_its_target_keeps_away_is_not_hastened() {
    let mut rig = Rig::new(2);
    rig.notify(0, Notification::DropAll { time_to_wait: 10, time_to_retain: 0 });
    rig.doors[1] = Door::Refusing;
    rig.cut(1);
    rig.seen.clear();
    rig.advance(Duration::from_millis(9_990));
    assert_eq!(tries(&rig, 0), 0, "Time2Wait");
    rig.advance(Duration::from_millis(50));
    assert!(rig.is_up(0));
}
