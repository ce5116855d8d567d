use proptest::prelude::*;

use super::*;

const EXTENDED_REPORT: [u8; 36] = [
    0x00, 0x00, 0x00, 0x20, // 32 bytes follow
    0x10, 0x3c, 0x00, 0x00, // format 001b; implicit transition time 60 s; reserved
    0x80, 0xcf, 0x00, 0x01, // PREF, optimized; T, O, U, S, AN, AO supported; group 1
    0x00, 0x02, 0x00, 0x02, // reserved; changed implicitly; vendor; two ports
    0x00, 0x00, 0x00, 0x01, // port 1
    0x00, 0x00, 0x00, 0x02, // port 2
    0x0f, 0x13, 0x01, 0x00, // transitioning; LBD, AN, AO supported; group 256
    0x00, 0x01, 0x00, 0x01, // reserved; changed explicitly; vendor; one port
    0x00, 0x00, 0x01, 0x02, // port 258
];

fn report() -> PortGroups {
    PortGroups {
        transition_secs: Some(60),
        groups: vec![
            PortGroup {
                id: 1,
                state: AccessState::Optimized,
                preferred: true,
                supported: SupportedStates {
                    logical_block_dependent: false,
                    optimized: true,
                    non_optimized: true,
                    standby: true,
                    unavailable: true,
                    offline: true,
                    transitioning: true,
                },
                status: StateChange::Implicit,
                ports: vec![1, 2],
            },
            PortGroup {
                id: 256,
                state: AccessState::Transitioning,
                preferred: false,
                supported: SupportedStates {
                    optimized: true,
                    non_optimized: true,
                    logical_block_dependent: true,
                    ..SupportedStates::default()
                },
                status: StateChange::Explicit,
                ports: vec![258],
            },
        ],
    }
}

#[test]
fn a_report_with_the_extended_header_is_understood_and_said() {
    assert_eq!(PortGroups::parse(&EXTENDED_REPORT), Ok(report()));
    assert_eq!(report().emit(), EXTENDED_REPORT);
    assert_eq!(report().format(), PortGroupsFormat::Extended);
    assert_eq!(report().group(256).unwrap().ports, [258]);
}

#[test]
fn the_same_report_with_the_short_header_is_told_apart() {
    let mut short = EXTENDED_REPORT.to_vec();
    short.drain(4..8);
    short[3] = 0x1c;
    let expected = PortGroups { transition_secs: None, ..report() };
    assert_eq!(PortGroups::parse(&short), Ok(expected.clone()));
    assert_eq!(expected.emit(), short);
}

#[test]
fn a_report_cut_off_says_how_much_to_ask_for() {
    for got in 4..EXTENDED_REPORT.len() {
        let error = Err(ParseError::Truncated { needed: 36, got });
        assert_eq!(PortGroups::parse(&EXTENDED_REPORT[..got]), error);
    }
}

#[test]
fn a_group_that_claims_more_ports_than_there_are_is_malformed() {
    let mut bytes = EXTENDED_REPORT;
    bytes[31] = 2;
    assert_eq!(PortGroups::parse(&bytes), Err(ParseError::Malformed { byte: 24 }));
}

#[test]
fn a_report_beyond_the_limit_is_refused_before_it_is_read() {
    let error = Err(ParseError::TooMany { limit: PORT_GROUPS_MAX });
    assert_eq!(PortGroups::parse(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), error);
}

#[test]
fn the_states_wanted_are_understood_and_said() {
    let bytes = [
        0x00, 0x00, 0x00, 0x00, // reserved
        0x00, 0x00, 0x00, 0x01, // optimized; reserved; group 1
        0x02, 0x00, 0x01, 0x00, // standby; reserved; group 256
    ];
    let wanted = SetPortGroups { groups: vec![(1, AccessState::Optimized), (256, AccessState::Standby)] };
    assert_eq!(SetPortGroups::parse(&bytes), Ok(wanted.clone()));
    assert_eq!(wanted.emit(), bytes);
    assert_eq!(SetPortGroups::parse(&bytes[..11]), Err(ParseError::Truncated { needed: 12, got: 11 }));
    assert_eq!(SetPortGroups::parse(&[]), Err(ParseError::Truncated { needed: 4, got: 0 }));
}

#[test]
fn every_access_state_survives() {
    for bits in 0..16 {
        assert_eq!(u8::from(AccessState::from(bits)), bits);
    }
    assert_eq!(AccessState::from(9), AccessState::Reserved(9));
}

fn any_group() -> impl Strategy<Value = PortGroup> {
    let states = (0..16_u8, any::<bool>(), any::<u8>(), any::<u8>());
    (any::<u16>(), states, proptest::collection::vec(any::<u16>(), 0..=255)).prop_map(
        |(id, (state, preferred, supported, status), ports)| PortGroup {
            id,
            state: state.into(),
            preferred,
            supported: supported.into(),
            status: status.into(),
            ports,
        },
    )
}

proptest! {
    #[test]
    fn any_report_survives(
        transition_secs: Option<u8>,
        groups in proptest::collection::vec(any_group(), 0..16),
    ) {
        let report = PortGroups { transition_secs, groups };
        prop_assert_eq!(PortGroups::parse(&report.emit()), Ok(report));
    }
}
