//! Unit attentions: when they are raised, what passes them, what clears them.

use array::{AttentionPolicy, Event, Options, UnitId, UnitOptions};
use scsi::{AdditionalSense, Lun, Status};

use crate::bench::{A, B, Bench, TEST_UNIT_READY, UNIT, attention, options, read_10, sense};

const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 36, 0];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 18, 0];
const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];

#[test]
fn a_new_nexus_is_told_of_a_reset_before_anything_is_executed() {
    let mut bench =
        Bench::new(Options { nexus_attention: Some(AdditionalSense::POWER_ON_OR_RESET), ..options() });
    let (reply, data) = bench.ask(&read_10(0, 1));
    assert_eq!((sense(&reply), data.len()), (attention(0x29, 0x00), 0));
    assert_eq!(bench.ask(&read_10(0, 1)).0.status, Status::Good);
    // The other nexus has its own.
    assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x29, 0x00));
}

#[test]
fn inquiry_and_report_luns_pass_and_leave_it() {
    let mut bench = Bench::new(options());
    bench.handle(Event::Resize { unit: UnitId(0), size: 2 * UNIT });
    assert_eq!(bench.ask(&INQUIRY).0.status, Status::Good);
    assert_eq!(bench.ask(&REPORT_LUNS).0.status, Status::Good);
    assert_eq!(sense(&bench.ask(&TEST_UNIT_READY).0), attention(0x2a, 0x09));
}

#[test]
fn request_sense_tells_it_as_data_and_clears_it() {
    let mut bench = Bench::new(options());
    bench.handle(Event::Resize { unit: UnitId(0), size: 2 * UNIT });
    let data = bench.get(&REQUEST_SENSE);
    assert_eq!((data[2], data[12], data[13]), (0x06, 0x2a, 0x09));
    assert_eq!(bench.get(&REQUEST_SENSE)[2], 0x00);
    // DESC asks for the descriptor format.
    assert_eq!(bench.get(&[0x03, 0x01, 0, 0, 18, 0])[0], 0x72);
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
}

#[test]
fn a_resize_is_told_and_bounds_what_can_be_read() {
    let mut bench = Bench::new(options());
    bench.handle(Event::Resize { unit: UnitId(0), size: UNIT / 2 });
    assert_eq!(sense(&bench.ask(&TEST_UNIT_READY).0), attention(0x2a, 0x09));
    assert_eq!(bench.get(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])[..4], [0, 0, 0x03, 0xff]);
    assert_eq!(bench.array.units().next().unwrap().capacity(), 1024);
}

#[test]
fn a_changed_map_is_told_on_every_unit_until_the_luns_are_reported() {
    let units = vec![UnitOptions::memory(0, UNIT), UnitOptions::memory(1, UNIT)];
    let mut bench = Bench::new(Options { units, ..options() });
    bench.handle(Event::AddUnit(UnitOptions::memory(2, UNIT)));
    assert_eq!(sense(&bench.ask_as(A, 1, &TEST_UNIT_READY).0), attention(0x3f, 0x0e));
    assert_eq!(bench.get(&REPORT_LUNS)[3], 3 * 8);
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
    assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x3f, 0x0e));
}

#[test]
fn a_lun_can_be_given_to_another_unit_at_one_port_only() {
    let unit = UnitOptions { lun: None, ..UnitOptions::memory(9, UNIT) };
    let mut bench = Bench::new(Options { units: vec![UnitOptions::memory(0, UNIT), unit], ..options() });
    bench.write(0, &[1; 512]);
    let port = bench.array.ports().next().map(|(port, _, _)| port);
    bench.handle(Event::Map { port, lun: Lun::from(0), unit: Some(UnitId(1)) });
    assert_eq!(sense(&bench.ask(&read_10(0, 1)).0), attention(0x3f, 0x0e));
    assert_eq!(bench.read(0, 1), [0; 512], "the other unit");
    assert_eq!(bench.ask_as(B, 0, &read_10(0, 1)).1, [1; 512], "not told, and still the first");
}

#[test]
fn a_removed_unit_is_gone_and_the_others_say_so() {
    let units = vec![UnitOptions::memory(0, UNIT), UnitOptions::memory(1, UNIT)];
    let mut bench = Bench::new(Options { units, ..options() });
    bench.handle(Event::RemoveUnit(UnitId(1)));
    assert_eq!(bench.ask_as(A, 1, &INQUIRY).1[0], 0x7f);
    assert_eq!(sense(&bench.ask(&TEST_UNIT_READY).0), attention(0x3f, 0x0e));
}

#[test]
fn a_silent_array_tells_nothing() {
    let mut bench = Bench::new(options());
    bench.handle(Event::SetAttentions(AttentionPolicy::Swallowed));
    bench.handle(Event::Resize { unit: UnitId(0), size: 2 * UNIT });
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
}

#[test]
fn any_condition_can_be_raised_on_purpose() {
    let mut bench = Bench::new(options());
    let attention_3f_01 = AdditionalSense::MICROCODE_CHANGED;
    bench.handle(Event::Attention { nexus: Some(B), unit: None, attention: attention_3f_01 });
    assert_eq!(bench.ask(&TEST_UNIT_READY).0.status, Status::Good);
    assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x3f, 0x01));
}

#[test]
fn a_pending_attention_comes_before_what_is_wrong_with_the_command() {
    let mut bench = Bench::new(options());
    bench.handle(Event::Resize { unit: UnitId(0), size: 2 * UNIT });
    assert_eq!(sense(&bench.ask(&[0xff, 0, 0, 0, 0, 0]).0), attention(0x2a, 0x09));
}
