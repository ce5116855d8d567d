//! The disposition table, as a person can read it.

use std::fmt::Write as _;
use std::path::Path;

use scsi::{AdditionalSense, CdbBytes, Ending, Reply, Residual, Sense, SenseData, SenseKey, Status};
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
            (0x3e, 0x02),
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
            (0x0b, 0x05),
            (0x0b, 0x06),
            (0x0b, 0x08),
            (0x28, 0x00),
            (0x29, 0x00),
            (0x29, 0x01),
            (0x29, 0x02),
            (0x29, 0x03),
            (0x29, 0x04),
            (0x29, 0x05),
            (0x29, 0x06),
            (0x29, 0x07),
            (0x2a, 0x00),
            (0x2a, 0x01),
            (0x2a, 0x02),
            (0x2a, 0x03),
            (0x2a, 0x04),
            (0x2a, 0x05),
            (0x2a, 0x06),
            (0x2a, 0x07),
            (0x2a, 0x08),
            (0x2a, 0x09),
            (0x2a, 0x0a),
            (0x2a, 0x10),
            (0x2f, 0x00),
            (0x2f, 0x01),
            (0x2f, 0x02),
            (0x2f, 0x03),
            (0x38, 0x07),
            (0x3f, 0x00),
            (0x3f, 0x01),
            (0x3f, 0x02),
            (0x3f, 0x03),
            (0x3f, 0x05),
            (0x3f, 0x0a),
            (0x3f, 0x0b),
            (0x3f, 0x0c),
            (0x3f, 0x0d),
            (0x3f, 0x0e),
            (0x3f, 0x12),
            (0x3f, 0x13),
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
            (0x2e, 0x00),
            (0x2e, 0x01),
            (0x2e, 0x03),
            (0x2f, 0x00),
            (0x2f, 0x01),
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

/// One line for each condition and each group of classes that it treats alike: what becomes of the command, of the
/// path, and what else is done.
fn table() -> String {
    let mut table =
        String::from("# condition                classes  path           command, and what else is done\n");
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
            let path = match disposition.path {
                PathEffect::None => String::from("-"),
                effect => format!("{effect:?}"),
            };
            let rest = Disposition { path: PathEffect::None, ..disposition };
            writeln!(table, "{name:<26} {letters:<8} {path:<14} {rest}").expect("a string takes it");
        }
    }
    table
}

/// `BLESS=1` writes the table anew; what changed in it is then for a person to judge.
#[test]
fn the_table_is_the_one_that_was_judged() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/dispositions.golden.txt");
    let table = table();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    let judged = std::fs::read_to_string(&path).expect("the judged table is there");
    for (ours, judged) in table.lines().zip(judged.lines()) {
        assert_eq!(ours, judged, "BLESS=1 writes the table anew");
    }
    assert_eq!(table.lines().count(), judged.lines().count());
}

/// What is sent, by name: operation code, then what stands in byte 1, or in bytes 8 and 9 of a long command.
const COMMANDS: &[(&str, u8, u16, char)] = &[
    ("TEST UNIT READY", 0x00, 0, 'R'),
    ("REQUEST SENSE", 0x03, 0, 'R'),
    ("FORMAT UNIT", 0x04, 0x10, 'M'),
    ("REASSIGN BLOCKS", 0x07, 0, 'M'),
    ("READ(6)", 0x08, 0, 'R'),
    ("WRITE(6)", 0x0a, 0, 'W'),
    ("INQUIRY", 0x12, 1, 'R'),
    ("MODE SELECT(6)", 0x15, 0x10, 'M'),
    ("RESERVE(6)", 0x16, 0, 'P'),
    ("RELEASE(6)", 0x17, 0, 'P'),
    ("MODE SENSE(6)", 0x1a, 0, 'R'),
    ("START STOP UNIT", 0x1b, 0, 'M'),
    ("SEND DIAGNOSTIC", 0x1d, 4, 'M'),
    ("PREVENT ALLOW MEDIUM REMOVAL", 0x1e, 0, 'W'),
    ("READ CAPACITY(10)", 0x25, 0, 'R'),
    ("READ(10)", 0x28, 0, 'R'),
    ("WRITE(10)", 0x2a, 0, 'W'),
    ("WRITE AND VERIFY(10)", 0x2e, 0, 'W'),
    ("VERIFY(10)", 0x2f, 0, 'R'),
    ("VERIFY(10) with data", 0x2f, 2, 'W'),
    ("SYNCHRONIZE CACHE(10)", 0x35, 0, 'W'),
    ("WRITE BUFFER", 0x3b, 5, 'M'),
    ("WRITE LONG(10)", 0x3f, 0, 'M'),
    ("WRITE SAME(10)", 0x41, 0, 'W'),
    ("UNMAP", 0x42, 0, 'W'),
    ("SANITIZE", 0x48, 1, 'M'),
    ("LOG SELECT", 0x4c, 0, 'M'),
    ("XDWRITE(10)", 0x50, 0, 'X'),
    ("XPWRITE(10)", 0x51, 0, 'X'),
    ("XDWRITEREAD(10)", 0x53, 0, 'X'),
    ("MODE SELECT(10)", 0x55, 0x10, 'M'),
    ("RESERVE(10)", 0x56, 0, 'P'),
    ("RELEASE(10)", 0x57, 0, 'P'),
    ("PERSISTENT RESERVE IN", 0x5e, 3, 'R'),
    ("PERSISTENT RESERVE OUT", 0x5f, 5, 'P'),
    ("XDWRITE(32)", 0x7f, 0x0004, 'X'),
    ("XPWRITE(32)", 0x7f, 0x0006, 'X'),
    ("XDWRITEREAD(32)", 0x7f, 0x0007, 'X'),
    ("READ(32)", 0x7f, 0x0009, 'R'),
    ("VERIFY(32)", 0x7f, 0x000a, 'R'),
    ("WRITE(32)", 0x7f, 0x000b, 'W'),
    ("WRITE AND VERIFY(32)", 0x7f, 0x000c, 'W'),
    ("WRITE SAME(32)", 0x7f, 0x000d, 'W'),
    ("ORWRITE(32)", 0x7f, 0x000e, 'C'),
    ("WRITE ATOMIC(32)", 0x7f, 0x000f, 'W'),
    ("WRITE STREAM(32)", 0x7f, 0x0010, 'C'),
    ("a long command that is not known", 0x7f, 0x1234, 'M'),
    ("EXTENDED COPY", 0x83, 0x01, 'T'),
    ("POPULATE TOKEN", 0x83, 0x10, 'T'),
    ("WRITE USING TOKEN", 0x83, 0x11, 'T'),
    ("RECEIVE COPY STATUS", 0x84, 0x05, 'R'),
    ("ATA PASS-THROUGH(16)", 0x85, 0, 'M'),
    ("READ(16)", 0x88, 0, 'R'),
    ("COMPARE AND WRITE", 0x89, 0, 'C'),
    ("WRITE(16)", 0x8a, 0, 'W'),
    ("ORWRITE(16)", 0x8b, 0, 'W'),
    ("WRITE AND VERIFY(16)", 0x8e, 0, 'W'),
    ("VERIFY(16)", 0x8f, 0, 'R'),
    ("VERIFY(16) with one block", 0x8f, 6, 'W'),
    ("SYNCHRONIZE CACHE(16)", 0x91, 0, 'W'),
    ("WRITE SAME(16)", 0x93, 8, 'W'),
    ("RESET WRITE POINTER", 0x94, 4, 'C'),
    ("REPORT ZONES", 0x95, 0, 'R'),
    ("ZONE ACTIVATE", 0x95, 8, 'C'),
    ("WRITE STREAM(16)", 0x9a, 0, 'C'),
    ("WRITE ATOMIC(16)", 0x9c, 0, 'W'),
    ("READ CAPACITY(16)", 0x9e, 0x10, 'R'),
    ("GET LBA STATUS", 0x9e, 0x12, 'R'),
    ("STREAM CONTROL", 0x9e, 0x14, 'M'),
    ("WRITE LONG(16)", 0x9f, 0x11, 'M'),
    ("REPORT LUNS", 0xa0, 0, 'R'),
    ("ATA PASS-THROUGH(12)", 0xa1, 0, 'M'),
    ("REPORT TARGET PORT GROUPS", 0xa3, 0x0a, 'R'),
    ("SET TARGET PORT GROUPS", 0xa4, 0x0a, 'M'),
    ("READ(12)", 0xa8, 0, 'R'),
    ("WRITE(12)", 0xaa, 0, 'W'),
    ("WRITE AND VERIFY(12)", 0xae, 0, 'W'),
    ("VERIFY(12)", 0xaf, 0, 'R'),
    ("SECURITY PROTOCOL OUT", 0xb5, 0, 'M'),
    ("a vendor's command", 0xc0, 0, 'M'),
    ("another one", 0xff, 0, 'M'),
];

#[test]
fn every_command_has_the_class_that_its_repetition_asks_for() {
    for &(name, code, detail, letter) in COMMANDS {
        let [high, low] = detail.to_be_bytes();
        let mut cdb = [0; 16];
        cdb[0] = code;
        if code == 0x7f {
            cdb[8..10].copy_from_slice(&[high, low]);
        } else {
            cdb[1] = low;
        }
        let (_, class) = CLASSES.into_iter().find(|(known, _)| *known == letter).expect("a class");
        assert_eq!(CommandClass::of(&CdbBytes::new(&cdb)), class, "{name}");
    }
}

#[test]
fn no_more_than_the_listed_codes_are_ever_sent_twice() {
    for code in 0..=0xff {
        // With nothing behind the code, and with all that could be there.
        for cdb in [&[code][..], &[0xff; 16]] {
            let mut cdb = CdbBytes::new(cdb).padded().to_owned();
            cdb[0] = code;
            let class = CommandClass::of(&CdbBytes::new(&cdb));
            let listed = COMMANDS.iter().any(|(_, known, ..)| *known == code);
            let others = [0x1c, 0x34, 0x37, 0x3c, 0x4d, 0x52, 0x5a, 0x90, 0x9b, 0xb7];
            assert!(listed || others.contains(&code) || class == CommandClass::Modal, "{code:02x}");
        }
    }
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
