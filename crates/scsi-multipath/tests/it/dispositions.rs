//! The disposition table, as a person can read it.

use std::fmt::Write as _;
use std::path::Path;

use scsi::{AdditionalSense, Ending, Reply, Residual, Sense, SenseData, SenseKey, Status};
use scsi_multipath::{CommandClass, Disposition, Failure, Fate, PathEffect, disposition};

const CLASSES: [(char, CommandClass); 7] = [
    ('R', CommandClass::Read),
    ('W', CommandClass::Write),
    ('C', CommandClass::Conditional),
    ('X', CommandClass::Relative),
    ('P', CommandClass::Reservation),
    ('T', CommandClass::ThirdPartyCopy),
    ('M', CommandClass::Modal),
];

const STATUSES: [Status; 10] = [
    Status::Good,
    Status::ConditionMet,
    Status::CheckCondition,
    Status::Busy,
    Status::ReservationConflict,
    Status::TaskSetFull,
    Status::AcaActive,
    Status::TaskAborted,
    Status::Other(0x10),
    Status::Other(0x22),
];

/// Sense keys with the additional sense codes that stand in a row of the table, and one that does not.
const SENSES: [(SenseKey, &[(u8, u8)]); 16] = [
    (SenseKey::NoSense, &[(0x00, 0x00)]),
    (SenseKey::RecoveredError, &[(0x18, 0x00)]),
    (
        SenseKey::NotReady,
        &[
            (0x04, 0x00),
            (0x04, 0x01),
            (0x04, 0x02),
            (0x04, 0x03),
            (0x04, 0x04),
            (0x04, 0x05),
            (0x04, 0x06),
            (0x04, 0x07),
            (0x04, 0x08),
            (0x04, 0x09),
            (0x04, 0x0a),
            (0x04, 0x0b),
            (0x04, 0x0c),
            (0x04, 0x11),
            (0x04, 0x12),
            (0x04, 0x14),
            (0x04, 0x1a),
            (0x04, 0x1b),
            (0x04, 0x1d),
            (0x04, 0x20),
            (0x04, 0x22),
            (0x04, 0x24),
            (0x04, 0x25),
            (0x3a, 0x00),
            (0x3a, 0x01),
            (0x99, 0x00),
        ],
    ),
    (
        SenseKey::MediumError,
        &[(0x0c, 0x00), (0x10, 0x01), (0x11, 0x00), (0x13, 0x00), (0x14, 0x00), (0x31, 0x00)],
    ),
    (
        SenseKey::HardwareError,
        &[
            (0x08, 0x00),
            (0x08, 0x01),
            (0x08, 0x02),
            (0x10, 0x01),
            (0x3e, 0x01),
            (0x3e, 0x03),
            (0x44, 0x00),
            (0x44, 0x01),
            (0x47, 0x00),
            (0x4b, 0x00),
            (0x4c, 0x00),
            (0x99, 0x00),
        ],
    ),
    (
        SenseKey::IllegalRequest,
        &[
            (0x20, 0x00),
            (0x21, 0x00),
            (0x22, 0x00),
            (0x24, 0x00),
            (0x25, 0x00),
            (0x26, 0x00),
            (0x94, 0x01),
            (0x99, 0x00),
        ],
    ),
    (
        SenseKey::UnitAttention,
        &[
            (0x0b, 0x00),
            (0x0b, 0x06),
            (0x0b, 0x08),
            (0x28, 0x00),
            (0x29, 0x00),
            (0x29, 0x01),
            (0x29, 0x02),
            (0x29, 0x03),
            (0x29, 0x04),
            (0x29, 0x07),
            (0x2a, 0x00),
            (0x2a, 0x01),
            (0x2a, 0x02),
            (0x2a, 0x03),
            (0x2a, 0x04),
            (0x2a, 0x05),
            (0x2a, 0x06),
            (0x2a, 0x07),
            (0x2a, 0x09),
            (0x2f, 0x00),
            (0x2f, 0x01),
            (0x2f, 0x02),
            (0x38, 0x07),
            (0x3f, 0x00),
            (0x3f, 0x01),
            (0x3f, 0x02),
            (0x3f, 0x03),
            (0x3f, 0x05),
            (0x3f, 0x0a),
            (0x3f, 0x0d),
            (0x3f, 0x0e),
            (0x3f, 0x12),
            (0x3f, 0x14),
            (0x3f, 0x15),
            (0x3f, 0x16),
            (0x5d, 0x00),
            (0x99, 0x00),
        ],
    ),
    (SenseKey::DataProtect, &[(0x27, 0x00), (0x27, 0x07)]),
    (SenseKey::BlankCheck, &[(0x00, 0x00)]),
    (SenseKey::VendorSpecific, &[(0x80, 0x00)]),
    (SenseKey::CopyAborted, &[(0x0d, 0x00)]),
    (
        SenseKey::AbortedCommand,
        &[
            (0x00, 0x00),
            (0x0e, 0x01),
            (0x10, 0x01),
            (0x29, 0x00),
            (0x2a, 0x06),
            (0x2e, 0x01),
            (0x2f, 0x00),
            (0x3f, 0x03),
            (0x44, 0x00),
            (0x47, 0x05),
            (0x48, 0x00),
            (0x49, 0x00),
            (0x4b, 0x00),
            (0x4e, 0x00),
            (0xc1, 0x01),
        ],
    ),
    (SenseKey::Reserved, &[(0x00, 0x00)]),
    (SenseKey::VolumeOverflow, &[(0x00, 0x00)]),
    (SenseKey::Miscompare, &[(0x1d, 0x00)]),
    (SenseKey::Completed, &[(0x55, 0x0a)]),
];

fn endings() -> Vec<(String, Ending)> {
    let mut endings: Vec<_> = STATUSES
        .into_iter()
        .map(|status| (format!("{status:?}"), Ending::Reply(Reply { status, ..Reply::good() })))
        .collect();
    for residual in [Residual::Underflow(1), Residual::Overflow(1)] {
        endings.push((format!("Good, {residual:?}"), Ending::Reply(Reply { residual, ..Reply::good() })));
    }
    for (key, codes) in SENSES {
        for &(asc, ascq) in codes {
            let sense = Sense::new(key, AdditionalSense::new(asc, ascq));
            endings.push((format!("{key:?} {asc:02x}/{ascq:02x}"), check(sense.into())));
        }
    }
    for key in [SenseKey::RecoveredError, SenseKey::MediumError] {
        let sense = Sense::new(key, AdditionalSense::new(0x0c, 0x00)).as_deferred();
        endings.push((format!("deferred {key:?}"), check(sense.into())));
    }
    endings.push(("sense of no known format".to_string(), check(SenseData::new(&[0x00; 18]))));
    endings.extend(
        [Ending::NotSent, Ending::Lost, Ending::Aborted, Ending::Cleared, Ending::TargetFailure]
            .map(|ending| (format!("{ending:?}"), ending)),
    );
    endings
}

fn check(sense: SenseData) -> Ending {
    Ending::Reply(Reply::check_condition(sense))
}

/// One line for each group of classes that are treated alike.
fn table() -> String {
    let mut table = String::new();
    for (name, ending) in endings() {
        let mut groups: Vec<(String, Disposition)> = Vec::new();
        for (letter, class) in CLASSES {
            let disposition = disposition(class, &ending);
            match groups.iter_mut().find(|(_, known)| *known == disposition) {
                Some((letters, _)) => letters.push(letter),
                None => groups.push((letter.to_string(), disposition)),
            }
        }
        for (letters, disposition) in groups {
            writeln!(table, "{name:<26} {letters:<8} {disposition}").expect("a string takes it");
        }
    }
    table
}

/// `BLESS=1` writes the table anew; what changed in it is then for a person to judge.
#[test]
fn the_table_is_the_one_that_was_judged() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/dispositions.txt");
    let table = table();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    let judged = std::fs::read_to_string(&path).expect("the judged table is there");
    for (ours, judged) in table.lines().zip(judged.lines()) {
        assert_eq!(ours, judged);
    }
    assert_eq!(table.lines().count(), judged.lines().count());
}

#[test]
fn nothing_but_reads_and_absolute_writes_is_sent_again_after_an_unknown_outcome() {
    for ending in [Ending::Lost, Ending::TargetFailure, Ending::Aborted, Ending::Cleared] {
        for (_, class) in CLASSES {
            let fate = disposition(class, &ending).fate;
            let again = matches!(fate, Fate::Retry(_) | Fate::Failover(_) | Fate::Ambiguous(_));
            assert_eq!(again, class.repeatable(), "{class:?} after {ending:?}");
        }
    }
}

#[test]
fn a_unit_attention_lets_every_class_be_sent_again() {
    let (_, codes) =
        SENSES.into_iter().find(|(key, _)| *key == SenseKey::UnitAttention).expect("it is there");
    for &(asc, ascq) in codes {
        let ending = check(Sense::new(SenseKey::UnitAttention, AdditionalSense::new(asc, ascq)).into());
        for (_, class) in CLASSES {
            let fate = disposition(class, &ending).fate;
            assert!(matches!(fate, Fate::Retry(_) | Fate::Failover(_)), "{asc:02x}/{ascq:02x} {class:?}");
        }
    }
}

#[test]
fn a_medium_error_never_harms_the_path() {
    for asc in 0..=0xff {
        for (_, class) in CLASSES {
            let sense = Sense::new(SenseKey::MediumError, AdditionalSense::new(asc, 0));
            let disposition = disposition(class, &check(sense.into()));
            assert_eq!(disposition.path, PathEffect::None);
            assert!(!matches!(disposition.fate, Fate::Failover(_)));
        }
    }
}

#[test]
fn a_good_status_with_a_wrong_byte_count_is_no_success() {
    for residual in [Residual::Underflow(512), Residual::Overflow(512)] {
        let ending = Ending::Reply(Reply { residual, ..Reply::good() });
        assert_eq!(disposition(CommandClass::Read, &ending).fate, Fate::Fail(Failure::Residual));
    }
}
