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
    State { nexuses: vec![nexus(1), second] }
}

/// A body under a seal that is right.
fn sealed(body: &str) -> Vec<u8> {
    let claim = format!("smpath-state 1 length {}", body.len());
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
    let newer = "smpath-state 2 nothing that we know\n";
    assert_eq!(State::decode(newer.as_bytes()), Err(StateError::Format { found: 2 }));
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
        let (allowed, refused) = (State { nexuses: allowed }, State { nexuses: refused });
        assert_eq!(allowed.check(), Ok(()));
        assert_eq!(State::decode(&allowed.encode()), Ok(allowed));
        let error = refused.check().unwrap_err();
        assert_eq!(State::decode(&refused.encode()), Err(error));
    }
    let file = vec![b's'; FILE_LENGTH_MAX + 1];
    assert_eq!(State::decode(&file), Err(StateError::TooLong { found: FILE_LENGTH_MAX + 1 }));
}

/// A million inputs: noise, damaged files, and damaged bodies under a seal that is right, which lead deepest.
#[test]
fn no_bytes_make_it_panic_and_what_is_read_is_what_was_written() {
    let mut chance = Chance(0x5eed);
    let whole = state().encode();
    let whole_body = body(&state());
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

proptest! {
    #[test]
    fn whatever_is_remembered_comes_back(nexuses in proptest::collection::vec(any_nexus(), 0..5)) {
        let state = State { nexuses };
        prop_assert_eq!(state.check(), Ok(()));
        prop_assert_eq!(State::decode(&state.encode()), Ok(state));
    }
}
