//! What pings of silent sessions come to.

use clock::Duration;
use multipath::Policy;

use super::rig::{Rig, options};
use crate::NexusIndex;

fn idle(ports: usize) -> Rig {
    let mut options = options(ports);
    options.disks.policy = Policy::Numa;
    let mut rig = Rig::with(options, ports);
    rig.advance(Duration::from_millis(1));
    rig
}

/// The target of a session has answered a ping after so many milliseconds.
fn ping(rig: &mut Rig, nexus: u32, took: u64) {
    rig.host.pinged(nexus, Duration::from_millis(took));
    rig.advance(Duration::from_millis(1));
}

/// Reads that each port has executed.
fn reads(rig: &Rig) -> Vec<u64> {
    (0..2).map(|port| rig.reads(port)).collect()
}

#[test]
fn the_last_ping_of_a_silent_session_is_known_and_one_that_is_lost_is_not() {
    let mut rig = idle(2);
    let ping = |rig: &Rig, nexus| rig.host.nexus(NexusIndex(nexus)).unwrap().ping;
    assert_eq!(ping(&rig, 0), None, "it has not been silent");
    rig.advance(Duration::from_secs(3));
    assert_eq!((ping(&rig, 0), ping(&rig, 1)), (Some(Duration::ZERO), Some(Duration::ZERO)));
    rig.cut(0);
    assert_eq!(ping(&rig, 0), None);
}

#[test]
fn pings_far_above_those_of_the_other_session_has_both_read() {
    let mut rig = idle(2);
    rig.advance(Duration::from_secs(3));
    assert_eq!(reads(&rig), [0, 0]);
    ping(&mut rig, 1, 30);
    assert_eq!(reads(&rig), [0, 0], "one may have had bad luck");
    ping(&mut rig, 1, 30);
    assert_eq!(reads(&rig), [2, 2], "of each of the two disks");
}

#[test]
fn a_ping_that_is_no_later_than_the_others_has_nothing_read() {
    let mut rig = idle(2);
    rig.advance(Duration::from_secs(3));
    ping(&mut rig, 0, 20);
    (0..4).for_each(|_| ping(&mut rig, 1, 30));
    assert_eq!(reads(&rig), [0, 0]);
}

#[test]
fn the_ping_of_a_peer_is_of_now_or_says_nothing() {
    let mut rig = idle(2);
    rig.host.pinged(0, Duration::ZERO);
    let now = rig.host.now;
    rig.host.now = now + Duration::from_secs(5);
    rig.host.pinged(1, Duration::from_millis(30));
    rig.host.pinged(1, Duration::from_millis(30));
    rig.advance(Duration::from_millis(1));
    assert_eq!(reads(&rig), [0, 0]);
}

#[test]
fn a_late_ping_has_few_disks_read_at_a_time_and_the_others_the_next_time() {
    let mut options = options(2);
    options.disks.policy = Policy::Numa;
    let mut rig = Rig::with_units(options, 2, 40);
    rig.advance(Duration::from_secs(3));
    ping(&mut rig, 1, 30);
    let read: Vec<u64> = (0..4)
        .map(|_| {
            ping(&mut rig, 1, 30);
            rig.reads(1)
        })
        .collect();
    // What was read once was as fast there, and is not asked again.
    assert_eq!(read, [16, 32, 40, 40]);
}
