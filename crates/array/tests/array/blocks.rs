//! READ, WRITE, VERIFY, ORWRITE, COMPARE AND WRITE, SYNCHRONIZE CACHE, PRE-FETCH.

use array::{Event, Options, UnitId, UnitOptions, WriteProtection};
use scsi::{Reply, Residual, SenseKey, Status};

use crate::bench::{
    A, B, BLOCKS, Bench, INVALID_FIELD, OUT_OF_RANGE, WRITE_PROTECTED, field, options, read_10, sense,
    write_10,
};

#[test]
fn what_is_written_through_one_port_is_read_through_all_with_every_form_of_read() {
    let mut bench = Bench::new(options());
    let data = [[0x11; 512], [0x22; 512]].concat();
    bench.write(3, &data);
    let reads: [&[u8]; 4] = [
        &[0x08, 0, 0, 3, 2, 0],
        &[0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0],
        &[0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0],
        &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0],
    ];
    for read in reads {
        for nexus in [A, B] {
            assert_eq!(bench.ask_as(nexus, 0, read), (bench_good(1 << 20, 1024), data.clone()));
        }
    }
}

fn bench_good(expected: u32, moved: u32) -> Reply {
    Reply { residual: Residual::Underflow(expected - moved), ..Reply::good() }
}

#[test]
fn every_form_of_write_writes() {
    let writes: [&[u8]; 8] = [
        &[0x0a, 0, 0, 3, 1, 0],
        &[0x2a, 0, 0, 0, 0, 3, 0, 0, 1, 0],
        &[0xaa, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0],
        &[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0],
        &[0x8a, 0x18, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0], // DPO and FUA
        &[0x2e, 0x02, 0, 0, 0, 3, 0, 0, 1, 0],                   // WRITE AND VERIFY, BYTCHK
        &[0xae, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0],
        &[0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0],
    ];
    for (fill, write) in (1..).zip(writes) {
        let mut bench = Bench::new(options());
        assert_eq!(bench.tell(write, &[fill; 512]), Reply::good(), "{write:02x?}");
        assert_eq!(bench.read(3, 1), [fill; 512]);
        assert_eq!(bench.read(2, 1), [0; 512]);
    }
}

#[test]
fn read_6_of_zero_blocks_reads_256() {
    let mut bench = Bench::new(options());
    assert_eq!(bench.get(&[0x08, 0, 0, 0, 0, 0]).len(), 256 * 512);
}

#[test]
fn zero_blocks_move_nothing_and_are_no_error() {
    let mut bench = Bench::new(options());
    assert_eq!(bench.get(&read_10(5, 0)), []);
    assert_eq!(bench.tell(&write_10(5, 0), &[]), Reply::good());
}

#[test]
fn nothing_is_done_beyond_the_end() {
    let mut bench = Bench::new(options());
    let [high, low] = u16::try_from(BLOCKS - 1).unwrap().to_be_bytes();
    bench.get(&[0x28, 0, 0, 0, high, low, 0, 0, 1, 0]);
    for cdb in [
        [0x28, 0, 0, 0, high, low, 0, 0, 2, 0],
        [0x28, 0, 0, 0, 0x08, 0x01, 0, 0, 0, 0],
        [0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0],
        [0x34, 0, 0, 0, high, low, 0, 0, 2, 0],
        [0x35, 0, 0, 0, high, low, 0, 0, 2, 0],
        [0x2f, 0, 0, 0, high, low, 0, 0, 2, 0],
    ] {
        assert_eq!(sense(&bench.ask(&cdb).0), OUT_OF_RANGE, "{cdb:02x?}");
    }
    let write = bench.tell(&[0x2a, 0, 0, 0, high, low, 0, 0, 2, 0], &[1; 1024]);
    assert_eq!(sense(&write), OUT_OF_RANGE);
    let huge = [0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];
    assert_eq!(sense(&bench.ask(&huge).0), OUT_OF_RANGE);
}

#[test]
fn more_than_the_maximum_transfer_length_is_refused_at_its_field() {
    let mut bench = Bench::new(Options { units: vec![UnitOptions::memory(0, 1 << 30)], ..options() });
    // READ(16) of 16,385 blocks.
    let (reply, _) = bench.ask(&[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0, 0]);
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (10, None)));
}

#[test]
fn protection_information_is_refused() {
    let mut bench = Bench::new(options());
    for protect in 1..8 {
        let (reply, _) = bench.ask(&[0x28, protect << 5, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (1, Some(7))));
        let reply = bench.tell(&[0x2a, protect << 5, 0, 0, 0, 0, 0, 0, 1, 0], &[1; 512]);
        assert_eq!(sense(&reply), INVALID_FIELD);
    }
}

#[test]
fn residuals_say_how_the_expected_length_was_wrong() {
    let mut bench = Bench::new(options());
    for (expected, residual) in [
        (0, Residual::Overflow(512)),
        (200, Residual::Overflow(312)),
        (512, Residual::None),
        (10_000, Residual::Underflow(9488)),
    ] {
        let tag = bench.send(A, 0, &read_10(0, 1), &[], expected);
        assert_eq!(bench.reply_to(tag).0, Reply { residual, ..Reply::good() });
    }
    // More data than the CDB asks for: what it asks for is written.
    let reply = bench.tell(&write_10(0, 1), &[[7; 512], [8; 512]].concat());
    assert_eq!(reply, Reply { residual: Residual::Underflow(512), ..Reply::good() });
    assert_eq!(bench.read(0, 2), [[7; 512], [0; 512]].concat());
}

#[test]
fn a_write_with_too_few_blocks_writes_those_and_says_what_was_missing() {
    let mut bench = Bench::new(options());
    // WRITE(10), WRITE AND VERIFY(10) with and without BYTCHK.
    for (number, operation, check) in [(1, 0x2a, 0), (2, 0x2e, 0b10), (3, 0x2e, 0)] {
        let cdb = [operation, check, 0, 0, 0, 0, 0, 0, 2, 0];
        let reply = bench.tell(&cdb, &[number; 512]);
        assert_eq!(reply, Reply { residual: Residual::Overflow(512), ..Reply::good() });
        let reply = bench.tell(&cdb, &[]);
        assert_eq!(reply, Reply { residual: Residual::Overflow(1024), ..Reply::good() });
        assert_eq!(bench.read(0, 2), [[number; 512], [0; 512]].concat());
    }
    let unit = bench.array.units().next().unwrap().counters();
    assert_eq!((unit.writes, unit.written_bytes), (6, 3 * 512));
}

#[test]
fn a_write_with_a_part_of_a_block_writes_nothing() {
    let mut bench = Bench::new(options());
    for (length, missing) in [(200, 824), (700, 324)] {
        let reply = bench.tell(&write_10(0, 2), &vec![9; length]);
        assert_eq!(sense(&reply), (SenseKey::IllegalRequest, 0x0e, 0x03));
        assert_eq!(reply.residual, Residual::Overflow(missing));
    }
    assert_eq!(bench.read(0, 2), [0; 1024]);
}

#[test]
fn verify_compares_only_what_it_is_told_to() {
    let mut bench = Bench::new(options());
    bench.write(0, &[5; 1024]);
    let verify = |check: u8| [0x2f, check << 1, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(bench.tell(&verify(0b00), &[]), Reply::good());
    assert_eq!(bench.tell(&verify(0b01), &[5; 1024]), Reply::good());
    assert_eq!(bench.tell(&verify(0b11), &[5; 512]), Reply::good());
    let mut other = [5; 1024];
    other[700] = 6;
    let reply = bench.tell(&verify(0b01), &other);
    assert_eq!(sense(&reply), (SenseKey::Miscompare, 0x1d, 0x00));
    assert_eq!(reply.sense.unwrap().parse().unwrap().information, Some(700));
    let reply = bench.tell(&verify(0b10), &[]);
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (1, Some(2))));
}

/// COMPARE AND WRITE of blocks at LBA 0.
fn compare_and_write(count: u8) -> [u8; 16] {
    [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, count, 0, 0]
}

#[test]
fn compare_and_write_writes_only_if_equal() {
    let mut bench = Bench::new(options());
    bench.write(0, &[1; 512]);
    let (old, new) = ([1; 512], [2; 512]);
    assert_eq!(bench.tell(&compare_and_write(1), &[old, new].concat()), Reply::good());
    assert_eq!(bench.read(0, 1), new);
    let mut wrong = new;
    wrong[100] = 0;
    let reply = bench.tell(&compare_and_write(1), &[wrong, old].concat());
    assert_eq!(sense(&reply), (SenseKey::Miscompare, 0x1d, 0x00));
    assert_eq!(reply.sense.unwrap().parse().unwrap().information, Some(100));
    assert_eq!(bench.read(0, 1), new);
}

#[test]
fn compare_and_write_keeps_its_limit_and_its_data_length() {
    let mut bench = Bench::new(options());
    let reply = bench.tell(&compare_and_write(129), &[0; 2 * 129 * 512]);
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (13, None)));
    let short = bench.tell(&compare_and_write(1), &[0; 512]);
    assert_eq!(sense(&short), (SenseKey::IllegalRequest, 0x0e, 0x03));
    let long = bench.tell(&compare_and_write(1), &[0; 2048]);
    assert_eq!((sense(&long), field(&long)), (INVALID_FIELD, (13, None)));
    assert_eq!(bench.tell(&compare_and_write(0), &[]), Reply::good());
}

#[test]
fn orwrite_sets_bits_and_clears_none() {
    let mut bench = Bench::new(options());
    bench.write(0, &[0b0011; 512]);
    let cdb = [0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(bench.tell(&cdb, &[0b0101; 512]), Reply::good());
    assert_eq!(bench.read(0, 1), [0b0111; 512]);
}

#[test]
fn a_read_only_unit_refuses_every_write_and_reads() {
    let mut bench = Bench::new(options());
    bench.write(0, &[1; 512]);
    bench.handle(Event::SetProtection { unit: UnitId(0), protection: WriteProtection::ReadOnly });
    assert_eq!(sense(&bench.tell(&write_10(0, 1), &[2; 512])), crate::bench::attention(0x2a, 0x01));
    let writes: [(&[u8], usize); 5] = [
        (&write_10(0, 1), 512),
        (&compare_and_write(1), 1024),
        (&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 512),
        (&[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512),
        (&[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
    ];
    for (cdb, length) in writes {
        assert_eq!(sense(&bench.tell(cdb, &vec![2; length])), WRITE_PROTECTED, "{cdb:02x?}");
    }
    assert_eq!(bench.read(0, 1), [1; 512]);
    // WP in the mode parameter header.
    assert_eq!(bench.get(&[0x1a, 0x08, 0x3f, 0, 0xff, 0])[2], 0x90);
}

#[test]
fn caches_are_flushed_and_filled_without_complaint() {
    let mut bench = Bench::new(options());
    for cdb in [
        [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0x35, 2, 0, 0, 0, 1, 0, 0, 1, 0],
        [0x34, 0, 0, 0, 0, 0, 0, 0, 9, 0],
    ] {
        assert_eq!(bench.ask(&cdb).0.status, Status::Good);
    }
}

#[test]
fn a_unit_with_blocks_of_4096_bytes_counts_in_them() {
    let unit = UnitOptions { block_size: 4096, ..UnitOptions::memory(0, 1 << 20) };
    let mut bench = Bench::new(Options { units: vec![unit], ..options() });
    assert_eq!(bench.tell(&write_10(255, 1), &[3; 4096]), Reply::good());
    assert_eq!(bench.read(255, 1), [3; 4096]);
    assert_eq!(sense(&bench.ask(&read_10(255, 2)).0), OUT_OF_RANGE);
}

#[test]
fn what_goes_through_is_counted_for_the_unit_and_the_port() {
    let mut bench = Bench::new(options());
    bench.write(0, &[1; 1024]);
    bench.read(0, 1);
    let unit = bench.array.units().next().unwrap().counters();
    assert_eq!((unit.writes, unit.written_bytes, unit.reads, unit.read_bytes), (1, 1024, 1, 512));
    let ports: Vec<_> = bench.array.ports().map(|(_, _, counters)| counters.read_bytes).collect();
    assert_eq!(ports, [512, 0, 0, 0]);
}
