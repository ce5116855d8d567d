//! Asymmetric access: what is reported, what is let through, who is told.

use array::{AccessChanges, AccessState, Event, GroupId, Options, UnitId, UnitOptions};
use scsi::port_groups::{PortGroups, SetPortGroups, StateChange};
use scsi::{Reply, SenseKey, Status};

use crate::bench::{A, B, Bench, TEST_UNIT_READY, UNIT, attention, options, read_10, sense};

/// REPORT TARGET PORT GROUPS with the length-only header, 255 bytes.
const REPORT: [u8; 12] = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0];

fn states(bench: &mut Bench) -> Vec<(u16, AccessState, bool)> {
    let groups = PortGroups::parse(&bench.get(&REPORT)).unwrap().groups;
    groups.iter().map(|group| (group.id, group.state, group.preferred)).collect()
}

#[test]
fn groups_are_the_controllers_with_their_ports() {
    let unit = UnitOptions { owner: Some(1), ..UnitOptions::memory(0, UNIT) };
    let mut bench = Bench::new(Options { units: vec![unit], ..options() });
    let report = PortGroups::parse(&bench.get(&REPORT)).unwrap();
    assert_eq!(report.transition_secs, None);
    let ports: Vec<_> = report.groups.iter().map(|group| group.ports.clone()).collect();
    assert_eq!(ports, [[1, 2], [3, 4]]);
    assert_eq!(
        states(&mut bench),
        [(1, AccessState::NonOptimized, false), (2, AccessState::Optimized, true)]
    );
    // The extended header, PARAMETER DATA FORMAT 001b.
    let mut extended = REPORT;
    extended[1] |= 1 << 5;
    assert_eq!(PortGroups::parse(&bench.get(&extended)).unwrap().transition_secs, Some(30));
}

#[test]
fn a_state_lets_through_what_the_standard_says() {
    let inquiry: &[u8] = &[0x12, 0, 0, 0, 36, 0];
    let mode_sense: &[u8] = &[0x1a, 0, 0x3f, 0, 0xff, 0];
    // State; what TEST UNIT READY and READ are refused with; whether MODE SENSE passes.
    for (state, refusal, modes) in [
        (AccessState::Optimized, None, true),
        (AccessState::NonOptimized, None, true),
        (AccessState::Standby, Some((0x04, 0x0b)), true),
        (AccessState::Unavailable, Some((0x04, 0x0c)), false),
        (AccessState::Offline, Some((0x04, 0x12)), false),
        (AccessState::Transitioning, Some((0x04, 0x0a)), false),
    ] {
        let mut bench = Bench::new(options());
        bench.handle(Event::SetAccess { group: GroupId(1), state });
        if state != AccessState::Optimized {
            assert_eq!(sense(&bench.ask(&TEST_UNIT_READY).0), attention(0x2a, 0x06));
        }
        for cdb in [&TEST_UNIT_READY[..], &read_10(0, 1)] {
            let (reply, _) = bench.ask(cdb);
            match refusal {
                None => assert_eq!(reply.status, Status::Good),
                Some((asc, ascq)) => assert_eq!(sense(&reply), (SenseKey::NotReady, asc, ascq)),
            }
        }
        assert_eq!(bench.ask(mode_sense).0.status == Status::Good, modes, "{state:?}");
        for cdb in [inquiry, &REPORT[..], &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]] {
            assert_eq!(bench.ask(cdb).0.status, Status::Good, "{state:?} {cdb:02x?}");
        }
        // The other controller is not concerned, once it was told.
        bench.ask_as(B, 0, &TEST_UNIT_READY);
        assert_eq!(bench.ask_as(B, 0, &read_10(0, 1)).0.status, Status::Good);
    }
}

#[test]
fn a_change_is_told_to_every_nexus_and_who_made_it() {
    let mut bench = Bench::new(options());
    bench.handle(Event::SetAccess { group: GroupId(2), state: AccessState::Standby });
    for nexus in [A, B] {
        assert_eq!(sense(&bench.ask_as(nexus, 0, &TEST_UNIT_READY).0), attention(0x2a, 0x06));
    }
    let report = PortGroups::parse(&bench.get(&REPORT)).unwrap();
    assert_eq!(report.group(2).unwrap().status, StateChange::Implicit);
    // The same state again is no change.
    bench.handle(Event::SetAccess { group: GroupId(2), state: AccessState::Standby });
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
}

#[test]
fn one_unit_can_change_alone() {
    let units = vec![UnitOptions::memory(0, UNIT), UnitOptions::memory(1, UNIT)];
    let mut bench = Bench::new(Options { units, ..options() });
    let (unit, group) = (UnitId(1), GroupId(1));
    bench.handle(Event::SetUnitAccess { unit, group, state: AccessState::Unavailable });
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
    assert_eq!(sense(&bench.ask_as(A, 1, &TEST_UNIT_READY).0), attention(0x2a, 0x06));
    assert_eq!(sense(&bench.ask_as(A, 1, &TEST_UNIT_READY).0), (SenseKey::NotReady, 0x04, 0x0c));
}

fn set(bench: &mut Bench, groups: &[(u16, AccessState)]) -> Reply {
    let list = SetPortGroups { groups: groups.to_vec() }.emit();
    let length = u8::try_from(list.len()).unwrap();
    bench.tell(&[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, length, 0, 0], &list)
}

#[test]
fn states_are_set_by_command_only_where_that_is_configured() {
    let mut bench = Bench::new(options());
    let reply = set(&mut bench, &[(1, AccessState::Standby)]);
    assert_eq!(sense(&reply), (SenseKey::IllegalRequest, 0x20, 0x00));

    let access_changes = AccessChanges::ImplicitAndExplicit;
    let mut bench = Bench::new(Options { access_changes, ..options() });
    let swap = [(1, AccessState::NonOptimized), (2, AccessState::Optimized)];
    assert_eq!(set(&mut bench, &swap), Reply::good());
    assert_eq!(states(&mut bench)[0], (1, AccessState::NonOptimized, false));
    // Only the other nexus is told.
    assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x2a, 0x06));
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
    // An unknown group, and a state that cannot be asked for.
    for wrong in [(9, AccessState::Optimized), (1, AccessState::Transitioning)] {
        assert_eq!(sense(&set(&mut bench, &[wrong])), (SenseKey::IllegalRequest, 0x26, 0x00));
    }
}

#[test]
fn an_array_without_port_groups_has_no_sign_of_them() {
    let mut bench = Bench::new(Options { access_changes: AccessChanges::None, ..options() });
    assert_eq!(bench.get(&[0x12, 0, 0, 0, 36, 0])[5] >> 4, 0, "TPGS");
    assert_eq!(sense(&bench.ask(&REPORT).0), (SenseKey::IllegalRequest, 0x20, 0x00));
}
