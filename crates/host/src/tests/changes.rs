//! What a host does when targets and their logical units change under it.

use array::{UnitId, UnitOptions};
use clock::Duration;
use iscsi::chap::{Credentials, Secret};
use iscsi::target::{Chap, Notification};
use multipath::PathState;
use scsi::Lun;

use super::rig::{Door, Rig, Seen, address, options};
use crate::config::{ChapConfig, PortalConfig};
use crate::{Event, NexusIndex, Verb};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn connects(rig: &Rig, nexus: u32) -> usize {
    rig.seen.iter().filter(|seen| matches!(seen, Seen::Connect { nexus: of, .. } if *of == nexus)).count()
}

fn cause_of(rig: &Rig, code: &str) -> String {
    let event = rig.host.events(0).filter(|entry| entry.what.code() == code).last().expect("it was told");
    event.what.inputs().iter().find(|(name, _)| *name == "cause").unwrap().1.to_string()
}

#[test]
fn a_unit_that_is_added_becomes_a_disk_once_the_target_says_so() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    rig.tell_array(array::Event::AddUnit(UnitOptions::memory(2, 1 << 20)));
    let read = rig.read(disk, 0);
    assert_eq!(rig.completed[&read], Ok(()));
    rig.advance(seconds(3));
    assert_eq!(rig.host.disks_ready(), 3);
    let (first, second) = (rig.path(0, 2), rig.path(1, 2));
    assert!(first != second && rig.codes(0).contains(&"units-changed"));
}

#[test]
fn a_unit_that_is_added_silently_is_found_by_a_rescan() {
    let mut rig = Rig::new(1);
    rig.tell_array(array::Event::SetAttentions(array::AttentionPolicy::Swallowed));
    rig.tell_array(array::Event::AddUnit(UnitOptions::memory(2, 1 << 20)));
    rig.advance(seconds(60));
    assert_eq!(rig.host.disks_ready(), 2);
    rig.said(Verb::Rescan { portal: None }).unwrap();
    assert_eq!(rig.host.disks_ready(), 3);
}

#[test]
fn a_disk_whose_unit_is_removed_goes_when_the_delay_is_over_and_ends_what_waits() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    let newest = rig.host.events(0).newest;
    rig.tell_array(array::Event::RemoveUnit(UnitId(0)));
    let read = rig.read(disk, 0);
    rig.advance(seconds(10));
    assert_eq!(rig.completed.get(&read), None, "the disk may come back");
    rig.advance(seconds(60));
    assert_eq!(rig.completed.get(&read), Some(&Err(block::Error::Shutdown)));
    assert_eq!((rig.gone, rig.host.disks_ready()), (1, 1));
    let codes = rig.codes(newest);
    for code in ["path-removed", "removal-armed", "disk-ending", "disk-removed"] {
        assert!(codes.contains(&code), "{code}: {codes:?}");
    }
    let after = rig.read(disk, 0);
    assert_eq!(rig.completed[&after], Err(block::Error::Shutdown));
}

#[test]
fn a_delay_that_is_shortened_while_it_runs_counts_from_the_loss_of_the_last_path() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    rig.tell_array(array::Event::RemoveUnit(UnitId(0)));
    rig.read(disk, 0);
    rig.advance(seconds(10));
    assert_eq!(rig.gone, 0);
    rig.said(Verb::RemovalDelay { disk: String::from("all"), delay: seconds(12) }).unwrap();
    assert_eq!(rig.gone, 0);
    rig.advance(seconds(5));
    assert_eq!(rig.gone, 1);
}

#[test]
fn a_number_that_stands_for_another_unit_is_quarantined_and_never_read_from() {
    let mut rig = Rig::new(2);
    let (disk, path) = (rig.disk(0), rig.path(0, 0));
    let event = array::Event::Map { port: None, lun: Lun::from(0), unit: Some(UnitId(1)) };
    rig.tell_array(event);
    let read = rig.read(disk, 0);
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.completed.get(&read), None, "no path shows the disk any more");
    assert!(rig.codes(0).contains(&"path-quarantined"), "{:?}", rig.codes(0));
    assert!(rig.host.path(path).is_none() || rig.state(path) == PathState::Down);
}

#[test]
fn a_disk_that_has_grown_tells_its_exports() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    rig.tell_array(array::Event::Resize { unit: UnitId(0), size: 2 << 20 });
    let read = rig.read(disk, 0);
    assert_eq!(rig.completed[&read], Ok(()));
    rig.advance(Duration::from_millis(10));
    assert_eq!(rig.geometries.last().map(|geometry| geometry.size), Some(2 << 20));
    assert!(rig.codes(0).contains(&"disk-resized"));
    let beyond = rig.read(disk, (2 << 20) - 512);
    assert_eq!(rig.completed[&beyond], Ok(()));
}

#[test]
fn a_unit_that_becomes_read_only_is_told_of_with_what_changed() {
    let mut rig = Rig::new(1);
    let disk = rig.disk(0);
    let protection = array::WriteProtection::ReadOnly;
    rig.tell_array(array::Event::SetProtection { unit: UnitId(0), protection });
    rig.read(disk, 0);
    let event = rig.host.events(0).find(|entry| entry.what.code() == "disk-changed").expect("it is told");
    assert!(event.text.ends_with("changed: access read-only"), "{}", event.text);
}

#[test]
fn a_target_that_asks_for_a_logout_gets_one_and_then_a_new_login() {
    let mut rig = Rig::new(2);
    let disk = rig.disk(0);
    rig.notify(0, Notification::LogoutRequest { seconds: 5 });
    rig.run_until(|rig| rig.is_up(0) && rig.host.nexus(NexusIndex(0)).unwrap().logins == 2);
    let read = rig.read(disk, 0);
    assert_eq!(rig.completed[&read], Ok(()));
    assert!(rig.codes(0).contains(&"target-says"));
    assert_eq!(cause_of(&rig, "session-lost"), "target-asked");
}

#[test]
fn a_target_that_drops_connections_is_left_alone_for_as_long_as_it_says() {
    for notification in [
        Notification::DropConnection { time_to_wait: 5, time_to_retain: 0 },
        Notification::DropAll { time_to_wait: 5, time_to_retain: 0 },
    ] {
        let mut rig = Rig::new(2);
        rig.notify(0, notification);
        rig.advance(Duration::from_millis(4900));
        assert_eq!(connects(&rig, 0), 0);
        rig.advance(Duration::from_millis(200));
        assert_eq!(connects(&rig, 0), 1);
        assert!(rig.is_up(0));
    }
}

#[test]
fn a_portal_that_sends_us_elsewhere_is_followed_at_once() {
    let mut rig = Rig::new(2);
    rig.doors[0] = Door::Sends(1);
    rig.cut(0);
    rig.run_until(|rig| rig.is_up(0));
    let ports: Vec<usize> = rig
        .seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Connect { nexus: 0, port } => Some(*port),
            _ => None,
        })
        .collect();
    assert_eq!(ports, [0, 1]);
}

#[test]
fn a_portal_that_sends_us_to_itself_is_not_asked_without_a_pause() {
    let mut rig = Rig::new(2);
    rig.doors[0] = Door::Sends(0);
    rig.cut(0);
    rig.advance(seconds(10));
    let times = connects(&rig, 0);
    assert!((5..20).contains(&times), "{times} connections in 10 s");
    assert_eq!(cause_of(&rig, "session-failed"), "target-moved");
    rig.doors[0] = Door::Open;
    rig.run_until(|rig| rig.is_up(0));
}

fn chap(secret: &str) -> Chap {
    let secret = Secret::new(secret.as_bytes()).unwrap();
    Chap { initiator: Credentials { name: String::from("us"), secret }, target: None }
}

fn credentials(secret: &str) -> Option<ChapConfig> {
    Some(ChapConfig { name: String::from("us"), secret: secret.as_bytes().to_vec(), mutual: None })
}

#[test]
fn after_a_login_is_refused_newer_credentials_are_used_at_once_and_never_told() {
    let mut options = options(1);
    options.initiator.chap = credentials("first secret 1");
    let mut rig = Rig::with(options, 1);
    rig.set_portals(1, Some(chap("first secret 1")));
    rig.advance(Duration::from_millis(1));
    assert!(rig.is_up(0), "{:?}", rig.notices);
    rig.set_portals(1, Some(chap("second secret 2")));
    rig.cut(0);
    rig.advance(seconds(30));
    assert!(!rig.is_up(0));
    assert!(rig.credentials_refused > 0);
    assert_eq!(cause_of(&rig, "session-failed"), "authentication");
    rig.host.handle(rig.now, Event::Credentials(credentials("second secret 2")));
    rig.advance(Duration::from_millis(1));
    assert!(rig.is_up(0));
    assert!(rig.codes(0).contains(&"credentials-changed"));
    let told: String = rig.host.events(0).map(|entry| format!("{entry:?}")).collect();
    assert!(!told.contains("secret 2") && !told.contains("secret 1"));
}

#[test]
fn a_portal_that_a_target_has_added_is_found_when_it_says_so() {
    let mut options = options(0);
    options.portals = vec![PortalConfig::Discover(address(0))];
    let mut rig = Rig::with(options, 2);
    rig.set_portals(1, None);
    rig.advance(Duration::from_millis(1));
    rig.set_portals(2, None);
    // SPC: iSCSI IP address added.
    let attention = scsi::AdditionalSense::new(0x3f, 0x12);
    let disk = rig.host.disks().next().unwrap().index;
    for _ in 0..3 {
        rig.tell_array(array::Event::Attention { nexus: None, unit: None, attention });
        rig.read(disk, 0);
        rig.advance(seconds(1));
    }
    assert_eq!(rig.host.nexuses().count(), 2, "the portal was asked a moment ago");
    rig.advance(seconds(10));
    assert_eq!(rig.host.nexuses().count(), 3);
    assert!(rig.is_up(2));
    assert_eq!(rig.codes(0).iter().filter(|code| **code == "portal-asked").count(), 2);
}

#[test]
fn a_portal_that_a_target_has_added_is_found_by_a_rescan() {
    let mut options = options(0);
    options.portals = vec![PortalConfig::Discover(address(0))];
    let mut rig = Rig::with(options, 2);
    rig.set_portals(1, None);
    rig.advance(Duration::from_millis(1));
    assert_eq!(rig.host.nexuses().count(), 2, "discovery, and one session");
    rig.set_portals(2, None);
    rig.said(Verb::Rescan { portal: None }).unwrap();
    assert_eq!(rig.host.nexuses().count(), 3);
    assert!(rig.is_up(2));
}
