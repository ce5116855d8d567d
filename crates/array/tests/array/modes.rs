//! MODE SENSE and MODE SELECT.

use array::Function;
use scsi::{Reply, SenseKey};

use crate::bench::{
    A, B, Bench, INVALID_FIELD, TEST_UNIT_READY, WRITE_PROTECTED, attention, field, options, sense, write_10,
};

/// MODE SENSE(6), DBD, 255 bytes; the page control stands in the two high bits.
fn mode_sense(control: u8, page: u8) -> [u8; 6] {
    [0x1a, 0x08, control << 6 | page, 0, 0xff, 0]
}

/// MODE SELECT(6) with PF, and SP if wanted.
fn mode_select(save: bool, length: usize) -> [u8; 6] {
    [0x15, 0x10 | u8::from(save), 0, 0, u8::try_from(length).unwrap(), 0]
}

/// A parameter list with the control page: byte 2 D_SENSE, byte 4 SWP, byte 5 TAS.
fn control(descriptor_sense: u8, write_protect: u8, task_aborted: u8) -> Vec<u8> {
    let header = [0, 0, 0, 0];
    let page = [
        0x0a,
        10,
        descriptor_sense << 2,
        0x10,
        write_protect << 3,
        task_aborted << 6,
        0,
        0,
        0xff,
        0xff,
        0,
        0,
    ];
    [&header[..], &page].concat()
}

fn select(bench: &mut Bench, save: bool, list: &[u8]) -> Reply {
    bench.tell(&mode_select(save, list.len()), list)
}

#[test]
fn the_caching_and_control_pages_are_sensed_in_every_way() {
    let mut bench = Bench::new(options());
    // Header: length, medium type, DPOFUA, no block descriptor. Then the caching page with WCE.
    let all = bench.get(&mode_sense(0, 0x3f));
    assert_eq!(all[..4], [4 + 20 + 12 - 1, 0, 0x10, 0]);
    assert_eq!(all[4..7], [0x88, 18, 0x04]);
    assert_eq!(all[24..26], [0x8a, 10]);
    // What can be changed: WCE; D_SENSE, SWP, TAS.
    let changeable = bench.get(&mode_sense(1, 0x3f));
    assert_eq!(changeable[6], 0x04);
    assert_eq!(changeable[26..30], [0x04, 0x00, 0x08, 0x40]);
    // MODE SENSE(10) with the block descriptor.
    let long = bench.get(&[0x5a, 0, 0x0a, 0, 0, 0, 0, 0, 0xff, 0]);
    assert_eq!(long[..8], [0, 8 + 8 + 12 - 2, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(long[8..16], [0, 0, 0x08, 0x00, 0, 0, 0x02, 0x00], "2,048 blocks of 512 bytes");
}

#[test]
fn a_page_that_is_not_there_is_refused() {
    let mut bench = Bench::new(options());
    let (reply, _) = bench.ask(&mode_sense(0, 0x1c));
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (2, Some(5))));
}

#[test]
fn sense_data_takes_the_format_that_d_sense_says() {
    let mut bench = Bench::new(options());
    let first_byte = |bench: &mut Bench| bench.ask(&mode_sense(0, 0x1c)).0.sense.unwrap().as_slice()[0];
    assert_eq!(first_byte(&mut bench), 0x70);
    assert_eq!(select(&mut bench, false, &control(1, 0, 0)), Reply::good());
    assert_eq!(first_byte(&mut bench), 0x72);
    assert_eq!(bench.get(&mode_sense(0, 0x0a))[6], 0x04);
}

#[test]
fn a_unit_can_be_write_protected_by_software() {
    let mut bench = Bench::new(options());
    assert_eq!(select(&mut bench, false, &control(0, 1, 0)), Reply::good());
    assert_eq!(sense(&bench.tell(&write_10(0, 1), &[1; 512])), WRITE_PROTECTED);
    assert_eq!(bench.read(0, 1), [0; 512]);
    assert_eq!(bench.get(&mode_sense(0, 0x0a))[2], 0x90, "WP and DPOFUA");
    assert_eq!(select(&mut bench, false, &control(0, 0, 0)), Reply::good());
    bench.write(0, &[1; 512]);
}

#[test]
fn everybody_else_is_told_once_when_something_changed() {
    let mut bench = Bench::new(options());
    assert_eq!(select(&mut bench, false, &control(0, 0, 0)), Reply::good());
    assert_eq!(bench.ask_as(B, 0, &TEST_UNIT_READY).0.sense, None);
    assert_eq!(select(&mut bench, false, &control(1, 0, 0)), Reply::good());
    assert_eq!(sense(&bench.ask_as(B, 0, &TEST_UNIT_READY).0), attention(0x2a, 0x01));
    assert_eq!(bench.ask_as(B, 0, &TEST_UNIT_READY).0.sense, None);
    assert_eq!(bench.ask_as(A, 0, &TEST_UNIT_READY).0.sense, None);
}

#[test]
fn saved_values_survive_a_reset_and_others_do_not() {
    let mut bench = Bench::new(options());
    assert_eq!(select(&mut bench, true, &control(1, 0, 0)), Reply::good());
    assert_eq!(select(&mut bench, false, &control(1, 1, 0)), Reply::good());
    assert_eq!(bench.get(&mode_sense(3, 0x0a))[6..9], [0x04, 0x10, 0x00], "saved");
    assert_eq!(bench.get(&mode_sense(2, 0x0a))[6..9], [0x00, 0x10, 0x00], "default");
    let tag = bench.manage(A, Function::LogicalUnitReset, None);
    bench.response_to(tag);
    bench.ask(&TEST_UNIT_READY);
    assert_eq!(bench.get(&mode_sense(0, 0x0a))[6..9], [0x04, 0x10, 0x00]);
}

#[test]
fn what_cannot_be_changed_is_refused_at_its_byte_and_nothing_changes() {
    let mut bench = Bench::new(options());
    let mut list = control(1, 0, 0);
    list[7] = 0x00; // QUEUE ALGORITHM MODIFIER
    let reply = select(&mut bench, false, &list);
    assert_eq!((sense(&reply), field(&reply)), ((SenseKey::IllegalRequest, 0x26, 0x00), (7, None)));
    assert_eq!(bench.get(&mode_sense(0, 0x0a))[6], 0x00);
    let cut_off = &control(1, 0, 0)[..10];
    assert_eq!(sense(&select(&mut bench, false, cut_off)), (SenseKey::IllegalRequest, 0x1a, 0x00));
    assert_eq!(select(&mut bench, false, &[]), Reply::good());
}

#[test]
fn a_unit_without_write_cache_says_so() {
    let mut bench = Bench::new(options());
    let mut list = [[0; 4].as_slice(), &[0x08, 18], &[0; 18]].concat();
    assert_eq!(select(&mut bench, false, &list), Reply::good());
    assert_eq!(bench.get(&mode_sense(0, 0x08))[6], 0x00);
    list[6] = 0x04;
    assert_eq!(select(&mut bench, false, &list), Reply::good());
    assert_eq!(bench.get(&mode_sense(0, 0x08))[6], 0x04);
}
