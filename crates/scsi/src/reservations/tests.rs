use proptest::prelude::*;
use std::string::{String, ToString};

use super::*;

const KEY_A: ReservationKey = ReservationKey(0x0102_0304_0506_0708);

/// The port of an initiator, in one session.
fn port() -> TransportId {
    TransportId::Iscsi { name: "iqn.a:b".into(), isid: Some([0x80, 0, 0, 0x0a, 0, 1]) }
}

const PORT: [u8; 32] = [
    0x45, 0x00, 0x00, 0x1c, // format 01b, iSCSI; reserved; 28 bytes
    b'i', b'q', b'n', b'.', b'a', b':', b'b', // name
    b',', b'i', b',', b'0', b'x', // separator
    b'8', b'0', b'0', b'0', b'0', b'0', b'0', b'a', b'0', b'0', b'0', b'1', // ISID
    0, 0, 0, 0, // the end, padded to a multiple of four
];

#[test]
fn keys_are_understood_and_said() {
    let bytes = [
        0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x10, // generation 7; 16 bytes follow
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, // a key
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x2a, // another
    ];
    let keys = Keys { generation: 7, keys: vec![KEY_A, ReservationKey(42)] };
    assert_eq!(Keys::parse(&bytes), Ok(keys.clone()));
    assert_eq!(keys.emit(), bytes);
    assert_eq!(Keys::parse(&bytes[..23]), Err(ParseError::Truncated { needed: 24, got: 23 }));
}

#[test]
fn a_reservation_is_understood_and_said() {
    let bytes = [
        0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x10, // generation 7; 16 bytes follow
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, // key
        0x00, 0x00, 0x00, 0x00, 0x00, // obsolete, reserved
        0x05, 0x00, 0x00, // logical unit, write exclusive for registrants; obsolete
    ];
    let reservation = Reservation {
        key: KEY_A,
        scope: Scope::LogicalUnit,
        kind: ReservationType::WriteExclusiveRegistrantsOnly,
    };
    let held = CurrentReservation { generation: 7, reservation: Some(reservation) };
    assert_eq!(CurrentReservation::parse(&bytes), Ok(held));
    assert_eq!(held.emit(), bytes);
    let free = CurrentReservation { reservation: None, ..held };
    assert_eq!(free.emit(), [0, 0, 0, 7, 0, 0, 0, 0]);
    assert_eq!(CurrentReservation::parse(&free.emit()), Ok(free));
}

#[test]
fn capabilities_are_understood_and_said() {
    let bytes = [
        0x00, 0x08, // length
        0x9d, 0xb1, // RLR_C, CRH, SIP_C, ATP_C, PTPL_C; TMV, ALLOW COMMANDS 3, PTPL_A
        0xea, 0x01, // all six types
        0x00, 0x00, // reserved
    ];
    let capabilities = ReservationCapabilities {
        replace_lost: true,
        compatible_handling: true,
        specify_initiator_ports: true,
        all_target_ports: true,
        persist_through_power_loss: true,
        persistence_active: true,
        allow_commands: 3,
        types: Some(SupportedTypes::ALL),
    };
    assert_eq!(ReservationCapabilities::parse(&bytes), Ok(capabilities));
    assert_eq!(capabilities.emit(), bytes);
}

#[test]
fn the_full_status_is_understood_and_said() {
    let mut bytes = vec![
        0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x38, // generation 7; 56 bytes follow
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, // key
        0x00, 0x00, 0x00, 0x00, // reserved
        0x03, 0x07, // ALL_TG_PT, R_HOLDER; write exclusive for all registrants
        0x00, 0x00, 0x00, 0x00, // reserved
        0x00, 0x02, // port 2
        0x00, 0x00, 0x00, 0x20, // 32 bytes of TransportID
    ];
    bytes.extend(PORT);
    let registration = Registration {
        key: KEY_A,
        all_target_ports: true,
        holds: Some((Scope::LogicalUnit, ReservationType::WriteExclusiveAllRegistrants)),
        port: 2,
        initiator: port(),
    };
    let status = FullStatus { generation: 7, registrations: vec![registration] };
    assert_eq!(FullStatus::parse(&bytes), Ok(status.clone()));
    assert_eq!(status.emit(), bytes);
}

#[test]
fn an_iscsi_port_is_named_with_its_isid() {
    assert_eq!(TransportId::parse(&PORT), Ok((port(), 32)));
    assert_eq!(port().emit(), PORT);
    assert_eq!(port().to_string(), "iqn.a:b,i,0x8000000a0001");
}

#[test]
fn an_iscsi_initiator_is_named_without_one() {
    let mut bytes = [0; 24];
    bytes[..4].copy_from_slice(&[0x05, 0x00, 0x00, 0x14]); // format 00b, iSCSI; reserved; 20 bytes
    bytes[4..11].copy_from_slice(b"iqn.a:b");
    let id = TransportId::Iscsi { name: "iqn.a:b".into(), isid: None };
    assert_eq!(TransportId::parse(&bytes), Ok((id.clone(), 24)));
    assert_eq!(id.emit(), bytes);
}

#[test]
fn a_name_that_breaks_the_rules_survives_as_bytes() {
    // No separator before the ISID; a digit that is none; no end; something behind the end; no UTF-8; too long.
    let broken: [&[u8]; 5] =
        [b"iqn.a:b\0", b"iqn.a,i,0x80000000000g\0\0", b"iqn.", b"a,i,0x0\0\0b", b"\xff\0\0\0"];
    for name in broken {
        let mut bytes = vec![0x45, 0, 0, 0];
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes[3] = u8::try_from(bytes.len() - 4).unwrap();
        assert_eq!(TransportId::parse(&bytes), Ok((TransportId::Other(bytes.clone()), bytes.len())));
    }
    let long = TransportId::Iscsi { name: "x".repeat(ISCSI_NAME_LENGTH_MAX + 1), isid: None }.emit();
    assert_eq!(TransportId::parse(&long), Ok((TransportId::Other(long.clone()), long.len())));
}

#[test]
fn another_protocol_has_24_bytes() {
    // SAS.
    let mut bytes = [0; 32];
    bytes[0] = 0x06;
    assert_eq!(TransportId::parse(&bytes), Ok((TransportId::Other(bytes[..24].to_vec()), 24)));
    assert_eq!(TransportId::parse(&bytes[..23]), Err(ParseError::Truncated { needed: 24, got: 23 }));
}

#[test]
fn the_register_list_is_understood_and_said() {
    let mut bytes = vec![
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // not registered yet
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, // the key to register
        0x00, 0x00, 0x00, 0x00, // obsolete
        0x05, 0x00, 0x00, 0x00, // ALL_TG_PT, APTPL; reserved; obsolete
    ];
    let parameters = ReserveOutParameters {
        key: ReservationKey(0),
        action_key: KEY_A,
        initiators: None,
        all_target_ports: true,
        persist_through_power_loss: true,
    };
    assert_eq!(ReserveOutParameters::parse(&bytes), Ok(parameters.clone()));
    assert_eq!(parameters.emit(), bytes);

    bytes[20] = 0x0d; // and SPEC_I_PT
    bytes.extend([0x00, 0x00, 0x00, 0x20]); // 32 bytes of TransportIDs
    bytes.extend(PORT);
    let parameters = ReserveOutParameters { initiators: Some(vec![port()]), ..parameters };
    assert_eq!(ReserveOutParameters::parse(&bytes), Ok(parameters.clone()));
    assert_eq!(parameters.emit(), bytes);
}

#[test]
fn the_move_list_is_understood_and_said() {
    let mut bytes = vec![
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, // our key
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x2a, // theirs
        0x00, 0x03, 0x00, 0x02, // reserved; UNREG, APTPL; port 2
        0x00, 0x00, 0x00, 0x20, // 32 bytes of TransportID
    ];
    bytes.extend(PORT);
    let parameters = MoveParameters {
        key: KEY_A,
        action_key: ReservationKey(42),
        unregister: true,
        persist_through_power_loss: true,
        port: 2,
        initiator: port(),
    };
    assert_eq!(MoveParameters::parse(&bytes), Ok(parameters.clone()));
    assert_eq!(parameters.emit(), bytes);
}

#[test]
fn every_scope_and_type_survives() {
    for bits in 0..16 {
        assert_eq!(u8::from(Scope::from(bits)), bits);
        assert_eq!(u8::from(ReservationType::from(bits)), bits);
    }
}

fn any_initiator() -> impl Strategy<Value = TransportId> {
    ("iqn\\.[a-z0-9.:-]{1,60}", any::<Option<[u8; 6]>>())
        .prop_map(|(name, isid): (String, _)| TransportId::Iscsi { name, isid })
}

fn any_registration() -> impl Strategy<Value = Registration> {
    let holds = proptest::option::of((0..16_u8, 0..16_u8));
    (any::<(u64, bool, u16)>(), holds, any_initiator()).prop_map(
        |((key, all_target_ports, port), holds, initiator)| Registration {
            key: ReservationKey(key),
            all_target_ports,
            holds: holds.map(|(scope, kind)| (scope.into(), kind.into())),
            port,
            initiator,
        },
    )
}

proptest! {
    #[test]
    fn any_full_status_survives(
        generation: u32,
        registrations in proptest::collection::vec(any_registration(), 0..8),
    ) {
        let status = FullStatus { generation, registrations };
        prop_assert_eq!(FullStatus::parse(&status.emit()), Ok(status));
    }

    #[test]
    fn any_register_list_survives(
        key: u64, action_key: u64, all_target_ports: bool, persist_through_power_loss: bool,
        initiators in proptest::option::of(proptest::collection::vec(any_initiator(), 0..8)),
    ) {
        let parameters = ReserveOutParameters {
            key: ReservationKey(key),
            action_key: ReservationKey(action_key),
            initiators,
            all_target_ports,
            persist_through_power_loss,
        };
        prop_assert_eq!(ReserveOutParameters::parse(&parameters.emit()), Ok(parameters));
    }
}
