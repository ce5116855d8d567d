//! UNMAP, WRITE SAME, GET LBA STATUS, and a store that runs full.

use array::{MemoryStore, Options, Provisioning, UnitOptions};
use scsi::unmap::{Extent, LbaStatus, Provisioning as State, UnmapList};
use scsi::{Blocks, Lba, Reply, SenseKey};

use crate::bench::{Bench, INVALID_FIELD, OUT_OF_RANGE, UNIT, field, options, sense, write_10};

/// UNMAP with a parameter list of this length.
fn unmap(length: usize) -> [u8; 10] {
    let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
    [0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
}

fn extents(extents: &[(u64, u32)]) -> Vec<u8> {
    let extent = |&(lba, blocks): &(u64, u32)| Extent { lba: Lba(lba), blocks: Blocks(blocks) };
    UnmapList { extents: extents.iter().map(extent).collect() }.emit()
}

fn tell_unmap(bench: &mut Bench, list: &[(u64, u32)]) -> Reply {
    let list = extents(list);
    bench.tell(&unmap(list.len()), &list)
}

/// GET LBA STATUS from an LBA on, with room for this many descriptors.
fn status(bench: &mut Bench, lba: u8, room: u8) -> Vec<(u64, u32, State)> {
    let cdb = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, 8 + 16 * room, 0, 0];
    let extents = LbaStatus::parse(&bench.get(&cdb)).unwrap().extents;
    extents.into_iter().map(|(extent, state)| (extent.lba.0, extent.blocks.0, state)).collect()
}

#[test]
fn what_is_unmapped_reads_as_zeros_and_is_told_to_be_deallocated() {
    let mut bench = Bench::new(options());
    bench.write(0, &[1; 8 * 512]);
    assert_eq!(tell_unmap(&mut bench, &[(1, 2), (5, 1)]), Reply::good());
    let expected = [1, 0, 0, 1, 1, 0, 1, 1].map(|fill| [fill; 512]).concat();
    assert_eq!(bench.read(0, 8), expected);
    assert_eq!(
        status(&mut bench, 0, 9),
        [
            (0, 1, State::Mapped),
            (1, 2, State::Deallocated),
            (3, 2, State::Mapped),
            (5, 1, State::Deallocated),
            (6, 2, State::Mapped),
            (8, 2040, State::Deallocated),
        ]
    );
    assert_eq!(status(&mut bench, 4, 1), [(4, 1, State::Mapped)]);
}

#[test]
fn unmapping_nothing_is_no_error_even_at_the_end() {
    let mut bench = Bench::new(options());
    assert_eq!(tell_unmap(&mut bench, &[(0, 0), (2048, 0)]), Reply::good());
    assert_eq!(tell_unmap(&mut bench, &[]), Reply::good());
    assert_eq!(bench.tell(&unmap(0), &[]), Reply::good());
}

#[test]
fn one_wrong_extent_spoils_the_whole_unmap() {
    let mut bench = Bench::new(options());
    bench.write(0, &[1; 512]);
    assert_eq!(sense(&tell_unmap(&mut bench, &[(0, 1), (2047, 2)])), OUT_OF_RANGE);
    let too_many = vec![(0, 1); 257];
    assert_eq!(sense(&tell_unmap(&mut bench, &too_many)), (SenseKey::IllegalRequest, 0x26, 0x00));
    assert_eq!(sense(&bench.tell(&unmap(7), &[0; 7])), (SenseKey::IllegalRequest, 0x1a, 0x00));
    let list = extents(&[(0, 1)]);
    assert_eq!(sense(&bench.tell(&unmap(list.len() + 16), &list)), (SenseKey::IllegalRequest, 0x1a, 0x00));
    assert_eq!(bench.read(0, 1), [1; 512]);
}

#[test]
fn anchoring_is_refused() {
    let mut bench = Bench::new(options());
    let reply = bench.tell(&[0x42, 0x01, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (1, Some(0))));
    let reply = bench.tell(&[0x41, 0x18, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 512]);
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (1, Some(4))));
}

/// WRITE SAME(16) at LBA 2.
fn write_same(flags: u8, count: u16) -> [u8; 16] {
    let [high, low] = count.to_be_bytes();
    [0x93, flags, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, high, low, 0, 0]
}

#[test]
fn write_same_repeats_one_block() {
    let mut bench = Bench::new(options());
    let mut block = [7; 512];
    block[0] = 9;
    assert_eq!(bench.tell(&write_same(0, 200), &block), Reply::good());
    assert_eq!(bench.read(1, 202), [vec![0; 512], block.repeat(200), vec![0; 512]].concat());
}

#[test]
fn write_same_with_unmap_gives_back_only_zeros() {
    let mut bench = Bench::new(options());
    bench.write(0, &[1; 8 * 512]);
    assert_eq!(bench.tell(&write_same(0x08, 2), &[0; 512]), Reply::good());
    assert_eq!(bench.tell(&[0x41, 0x08, 0, 0, 0, 6, 0, 0, 1, 0], &[5; 512]), Reply::good());
    assert_eq!(bench.read(0, 8), [1, 1, 0, 0, 1, 1, 5, 1].map(|fill| [fill; 512]).concat());
    assert_eq!(status(&mut bench, 2, 2), [(2, 2, State::Deallocated), (4, 4, State::Mapped)]);
}

#[test]
fn write_same_without_data_writes_zeros_that_stay_mapped() {
    let mut bench = Bench::new(options());
    bench.write(0, &[1; 8 * 512]);
    assert_eq!(bench.tell(&write_same(0x01, 2), &[]), Reply::good());
    assert_eq!(bench.read(2, 2), [0; 1024]);
    assert_eq!(status(&mut bench, 0, 1), [(0, 8, State::Mapped)]);
}

#[test]
fn write_same_keeps_its_limits() {
    let mut bench = Bench::new(Options { units: vec![UnitOptions::memory(0, 1 << 30)], ..options() });
    for count in [0, 32_769] {
        let reply = bench.tell(&write_same(0, count), &[1; 512]);
        assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (10, None)));
    }
    for length in [256, 1024] {
        let reply = bench.tell(&write_same(0, 1), &vec![1; length]);
        assert_eq!(sense(&reply), (SenseKey::IllegalRequest, 0x0e, 0x03));
    }
}

#[test]
fn a_fully_provisioned_unit_unmaps_nothing() {
    let unit = UnitOptions { provisioning: Provisioning::Full, ..UnitOptions::memory(0, UNIT) };
    let mut bench = Bench::new(Options { units: vec![unit], ..options() });
    assert_eq!(sense(&tell_unmap(&mut bench, &[(0, 1)])), (SenseKey::IllegalRequest, 0x20, 0x00));
    let reply = bench.tell(&write_same(0x08, 1), &[0; 512]);
    assert_eq!((sense(&reply), field(&reply)), (INVALID_FIELD, (1, Some(3))));
    let capacity = bench.get(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
    assert_eq!(capacity[14] & 0xc0, 0, "no LBPME, no LBPRZ");
}

#[test]
fn a_full_pool_refuses_new_blocks_until_some_are_given_back() {
    let store = Box::new(MemoryStore::with_limit(UNIT, 64 << 10));
    let unit = UnitOptions { store, ..UnitOptions::memory(0, UNIT) };
    let mut bench = Bench::new(Options { units: vec![unit], ..options() });
    bench.write(0, &[1; 512]);
    assert_eq!(sense(&bench.tell(&write_10(200, 1), &[1; 512])), (SenseKey::DataProtect, 0x27, 0x07));
    assert_eq!(tell_unmap(&mut bench, &[(0, 1)]), Reply::good());
    bench.write(200, &[1; 512]);
}
