use std::net::{Ipv6Addr, SocketAddrV6};

use proptest::prelude::*;

use super::*;

fn nexus(number: u8) -> NexusRecord {
    NexusRecord {
        initiator: String::from("iqn.2026-11.org.smpath:host"),
        isid: [0x80, 0xa1, 0xb2, 0xc3, 0xd4, number],
        target: String::from("iqn.2001-04.com.example:disk"),
        portal: SocketAddr::from(([192, 0, 2, number], 3260)),
        group: Some(u16::from(number)),
        units: vec![UnitRecord {
            lun: 0x0001_0000_0000_0000,
            identity: String::from("naa.6001405abcdef0123456789abcdef012"),
        }],
        abandoned: false,
    }
}

fn state() -> State {
    let second = NexusRecord {
        group: None,
        abandoned: true,
        portal: SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 860, 0, 3)),
        units: Vec::new(),
        ..nexus(2)
    };
    State { nexuses: vec![nexus(1), second], holds: Vec::new() }
}

fn hold(port: u8, unit: u8, hold: Hold) -> HoldRecord {
    HoldRecord {
        portal: SocketAddr::from(([192, 0, 2, port], 3260)),
        target: String::from("iqn.2001-04.com.example:disk"),
        identity: format!("naa.6001405{unit}"),
        hold,
    }
}

/// The same with paths that are kept out.
fn holding() -> State {
    let holds = vec![hold(1, 1, Hold::Failed), hold(1, 2, Hold::Drained), hold(2, 1, Hold::Drained)];
    State { holds, ..state() }
}

/// A body under a seal that is right.
fn sealed(body: &str) -> Vec<u8> {
    sealed_as(1, body)
}

fn sealed_as(format: u32, body: &str) -> Vec<u8> {
    let claim = format!("smpath-state {format} length {}", body.len());
    let crc = crc32c::crc32c_append(crc32c::crc32c(claim.as_bytes()), body.as_bytes());
    format!("{claim} crc32c {crc:08x}\n{body}").into_bytes()
}

fn body(state: &State) -> String {
    let bytes = state.encode();
    let text = String::from_utf8(bytes).unwrap();
    text.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn a_state_can_be_read_by_a_person() {
    let text = String::from_utf8(state().encode()).unwrap();
    assert_eq!(
        text,
        "smpath-state 1 length 361 crc32c dd2c265e
nexus 80a1b2c3d401
  initiator iqn.2026-11.org.smpath:host
  target iqn.2001-04.com.example:disk
  portal 192.0.2.1:3260
  group 1
  login answered
  unit 0001000000000000 naa.6001405abcdef0123456789abcdef012
nexus 80a1b2c3d402
  initiator iqn.2026-11.org.smpath:host
  target iqn.2001-04.com.example:disk
  portal [::1%3]:860
  group unknown
  login abandoned
"
    );
    assert_eq!(State::decode(text.as_bytes()), Ok(state()));
}

#[test]
fn what_operators_keep_out_follows_the_nexuses_by_portal_and_target() {
    let text = String::from_utf8(holding().encode()).unwrap();
    let (seal, _) = text.split_once('\n').unwrap();
    assert!(seal.starts_with("smpath-state 2 length "), "{seal}");
    let (_, holds) = text.split_once("login abandoned\n").unwrap();
    assert_eq!(
        holds,
        "kept-out 192.0.2.1:3260
  target iqn.2001-04.com.example:disk
  failed naa.60014051
  drained naa.60014052
kept-out 192.0.2.2:3260
  target iqn.2001-04.com.example:disk
  drained naa.60014051
"
    );
    assert_eq!(State::decode(text.as_bytes()), Ok(holding()));
}

#[test]
fn a_state_without_holds_has_the_format_of_the_version_before() {
    let text = String::from_utf8(state().encode()).unwrap();
    assert!(text.starts_with("smpath-state 1 "), "{text}");
    // There is one way to write it, and another format is not that.
    let newer = sealed_as(2, &body(&state()));
    assert!(matches!(State::decode(&newer), Err(StateError::Malformed { line: 1, .. })));
    let older = sealed_as(1, &body(&holding()));
    assert!(matches!(State::decode(&older), Err(StateError::Malformed { line: 1, .. })));
}

#[test]
fn a_state_without_nexuses_is_not_an_empty_file() {
    let empty = State::default();
    assert_eq!(State::decode(&empty.encode()), Ok(empty));
    assert_eq!(State::decode(&[]), Err(StateError::CutShort { expected: 12, found: 0 }));
}

#[test]
fn a_file_that_was_cut_short_anywhere_is_refused_as_that() {
    let bytes = state().encode();
    for length in 0..bytes.len() {
        let error = State::decode(&bytes[..length]).unwrap_err();
        assert!(matches!(error, StateError::CutShort { found, .. } if found == length), "{length}: {error}");
    }
}

#[test]
fn no_single_bit_can_change_unseen() {
    let bytes = state().encode();
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(State::decode(&wrong).is_err(), "bit {bit}");
    }
}

#[test]
fn a_line_that_was_edited_by_hand_is_not_believed() {
    let text = String::from_utf8(state().encode()).unwrap().replace("login abandoned", "login attempted");
    assert!(matches!(State::decode(text.as_bytes()), Err(StateError::Checksum { .. })));
}

#[test]
fn another_format_is_told_from_damage() {
    let newer = "smpath-state 3 nothing that we know\n";
    assert_eq!(State::decode(newer.as_bytes()), Err(StateError::Format { found: 3 }));
    assert_eq!(State::decode(b"{\"nexuses\":[]}"), Err(StateError::NotState));
    let mut longer = state().encode();
    longer.extend_from_slice(b"\n\n");
    assert_eq!(State::decode(&longer), Err(StateError::Extended { extra: 2 }));
}

#[test]
fn a_faulty_writer_is_named_with_the_line() {
    let whole = body(&state());
    let without = |line: &str| whole.replacen(&format!("{line}\n"), "", 1);
    for (text, line) in [
        (without("  portal 192.0.2.1:3260"), 5),
        (without("nexus 80a1b2c3d401"), 2),
        (whole.replacen("group 1", "group 65536", 1), 6),
        (whole.replacen("unit 0001", "unit xxxx", 1), 8),
        (whole.replacen("  login abandoned\n", "", 1), 14),
        (whole.replacen("naa.", "naa.%zz", 1), 8),
        // Readable, and not how it is written.
        (whole.replacen("group 1", "group +1", 1), 1),
        (whole.replacen("[::1%3]", "[0::1%3]", 1), 1),
        (whole.replacen("naa.", "na%61.", 1), 1),
    ] {
        match State::decode(&sealed(&text)) {
            Err(StateError::Malformed { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{other:?}:\n{text}"),
        }
    }
}

#[test]
fn a_faulty_writer_of_holds_is_named_with_the_line() {
    let whole = body(&holding());
    let without = |line: &str| whole.replacen(&format!("{line}\n"), "", 1);
    let target = "  target iqn.2001-04.com.example:disk\n";
    for (text, line) in [
        (whole.replacen("failed naa", "lost naa", 1), 17),
        (whole.replacen("kept-out 192.0.2.1:3260", "kept-out here", 1), 15),
        (
            without("  failed naa.60014051").replacen(
                &format!("3260\n{target}  drained"),
                "3260\n  drained",
                1,
            ),
            16,
        ),
        // Readable, and not how it is written: a portal twice, and one without paths.
        (whole.replacen("kept-out 192.0.2.2", "kept-out 192.0.2.1", 1), 1),
        (format!("{whole}kept-out 192.0.2.3:3260\n{target}"), 1),
        // A nexus may not come behind them.
        (format!("{whole}{}", body(&state())), 22),
    ] {
        match State::decode(&sealed_as(2, &text)) {
            Err(StateError::Malformed { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{other:?}:\n{text}"),
        }
    }
}

#[test]
fn every_limit_is_kept_by_writer_and_reader_alike() {
    let long = |length| "x".repeat(length);
    let units = |count| vec![UnitRecord { lun: 0, identity: String::new() }; count];
    let name = |length| NexusRecord { target: long(length), ..nexus(1) };
    let identity =
        |length| NexusRecord { units: vec![UnitRecord { lun: 0, identity: long(length) }], ..nexus(1) };
    for (allowed, refused) in [
        (vec![name(NAME_LENGTH_MAX)], vec![name(NAME_LENGTH_MAX + 1)]),
        (vec![identity(IDENTITY_LENGTH_MAX)], vec![identity(IDENTITY_LENGTH_MAX + 1)]),
        (vec![nexus(1); NEXUSES_MAX], vec![nexus(1); NEXUSES_MAX + 1]),
        (
            vec![NexusRecord { units: units(UNITS_MAX), ..nexus(1) }],
            vec![nexus(1), NexusRecord { units: units(UNITS_MAX), ..nexus(2) }],
        ),
    ] {
        let of = |nexuses| State { nexuses, holds: Vec::new() };
        let (allowed, refused) = (of(allowed), of(refused));
        assert_eq!(allowed.check(), Ok(()));
        assert_eq!(State::decode(&allowed.encode()), Ok(allowed));
        let error = refused.check().unwrap_err();
        assert_eq!(State::decode(&refused.encode()), Err(error));
    }
    let holds = |count| State { nexuses: Vec::new(), holds: vec![hold(1, 1, Hold::Failed); count] };
    assert_eq!(State::decode(&holds(HOLDS_MAX).encode()), Ok(holds(HOLDS_MAX)));
    let refused = holds(HOLDS_MAX + 1);
    assert_eq!(State::decode(&refused.encode()), Err(refused.check().unwrap_err()));
    let file = vec![b's'; FILE_LENGTH_MAX + 1];
    assert_eq!(State::decode(&file), Err(StateError::TooLong { found: FILE_LENGTH_MAX + 1 }));
}

/// A million inputs: noise, damaged files, and damaged bodies under a seal that is right, which lead deepest.
#[test]
fn no_bytes_make_it_panic_and_what_is_read_is_what_was_written() {
    let mut chance = Chance(0x5eed);
    let whole = holding().encode();
    let (whole_body, body_with_holds) = (body(&state()), body(&holding()));
    let mut read = 0;
    for round in 0..1_000_000_u32 {
        let bytes = match round % 4 {
            0 => {
                let mut bytes = b"smpath-state 1 length ".to_vec();
                bytes.truncate(chance.below(23));
                bytes.extend((0..chance.below(64)).map(|_| chance.byte()));
                bytes
            }
            1 => chance.damage(whole.clone()),
            2 => {
                let damaged = chance.damage(body_with_holds.clone().into_bytes());
                sealed_as(2, &String::from_utf8_lossy(&damaged))
            }
            _ => {
                let damaged = chance.damage(whole_body.clone().into_bytes());
                sealed(&String::from_utf8_lossy(&damaged))
            }
        };
        if let Ok(state) = State::decode(&bytes) {
            assert_eq!(state.encode(), bytes);
            read += 1;
        }
    }
    assert!(read > 1_000, "the damage must leave something to be read: {read}");
}

/// Splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Changes, cuts, removes or repeats a part, once or twice.
    fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..1 + self.below(2) {
            if bytes.is_empty() {
                return bytes;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.byte(),
                1 => bytes[at] = b"0123456789abcdef %.:\n"[self.below(21)],
                2 => bytes.truncate(at),
                _ => {
                    let end = at + self.below(bytes.len() - at);
                    let part = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, part);
                }
            }
        }
        bytes
    }
}

fn any_nexus() -> impl Strategy<Value = NexusRecord> {
    let name = || proptest::collection::vec(any::<char>(), 0..50).prop_map(|name| name.into_iter().collect());
    let unit = (any::<u64>(), name()).prop_map(|(lun, identity)| UnitRecord { lun, identity });
    let portal = (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    let units = proptest::collection::vec(unit, 0..4);
    (name(), any::<[u8; 6]>(), name(), portal, any::<Option<u16>>(), units, any::<bool>()).prop_map(
        |(initiator, isid, target, portal, group, units, abandoned)| NexusRecord {
            initiator,
            isid,
            target,
            portal,
            group,
            units,
            abandoned,
        },
    )
}

fn any_hold() -> impl Strategy<Value = HoldRecord> {
    // Few portals, so that some have more than one.
    let portal = (0..3_u8).prop_map(|host| SocketAddr::from(([192, 0, 2, host], 3260)));
    let hold = any::<bool>().prop_map(|failed| if failed { Hold::Failed } else { Hold::Drained });
    (portal, any::<String>(), any::<String>(), hold).prop_map(|(portal, target, identity, hold)| HoldRecord {
        portal,
        target,
        identity,
        hold,
    })
}

proptest! {
    #[test]
    fn whatever_is_remembered_comes_back(
        nexuses in proptest::collection::vec(any_nexus(), 0..5),
        holds in proptest::collection::vec(any_hold(), 0..5),
    ) {
        let state = State { nexuses, holds };
        prop_assert_eq!(state.check(), Ok(()));
        prop_assert_eq!(State::decode(&state.encode()), Ok(state));
    }
}
