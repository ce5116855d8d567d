use proptest::prelude::*;

use super::*;

const LIST: [u8; 40] = [
    0x00, 0x26, 0x00, 0x20, 0, 0, 0, 0, // 38 bytes follow; 32 of descriptors; reserved
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, // LBA 8
    0x00, 0x00, 0x00, 0x04, 0, 0, 0, 0, // 4 blocks; reserved
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, // LBA 2^32
    0x00, 0x01, 0x00, 0x00, 0, 0, 0, 0, // 65,536 blocks; reserved
];

const fn extent(lba: u64, blocks: u32) -> Extent {
    Extent { lba: Lba(lba), blocks: Blocks(blocks) }
}

#[test]
fn an_unmap_list_is_understood_and_said() {
    let list = UnmapList { extents: vec![extent(8, 4), extent(1 << 32, 65_536)] };
    assert_eq!(UnmapList::parse(&LIST), Ok(list.clone()));
    assert_eq!(list.emit(), LIST);
}

#[test]
fn an_unmap_list_cut_off_is_refused_whole() {
    for got in HEADER..LIST.len() {
        assert_eq!(UnmapList::parse(&LIST[..got]), Err(ParseError::Truncated { needed: 40, got }));
    }
}

#[test]
fn half_a_descriptor_at_the_end_is_ignored() {
    let mut bytes = LIST;
    bytes[3] = 0x1f;
    assert_eq!(UnmapList::parse(&bytes).unwrap().extents, [extent(8, 4)]);
}

#[test]
fn lba_status_is_understood_and_said() {
    let bytes = [
        0x00, 0x00, 0x00, 0x24, 0, 0, 0, 0, // 36 bytes follow; reserved
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, // LBA 8
        0x00, 0x00, 0x00, 0x04, 0x00, 0, 0, 0, // 4 blocks, mapped; reserved
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0c, // LBA 12
        0x00, 0x00, 0x00, 0x10, 0x01, 0, 0, 0, // 16 blocks, deallocated; reserved
    ];
    let status = LbaStatus {
        extents: vec![(extent(8, 4), Provisioning::Mapped), (extent(12, 16), Provisioning::Deallocated)],
    };
    assert_eq!(LbaStatus::parse(&bytes), Ok(status.clone()));
    assert_eq!(status.emit(), bytes);
    // A part is a part: the whole extents in it count.
    assert_eq!(LbaStatus::parse(&bytes[..39]).unwrap().extents, status.extents[..1]);
}

#[test]
#[should_panic(expected = "UNMAP_EXTENTS_MAX")]
fn more_extents_than_a_list_holds_are_never_sent() {
    let _ = UnmapList { extents: vec![extent(0, 1); UNMAP_EXTENTS_MAX + 1] }.emit();
}

proptest! {
    #[test]
    fn any_unmap_list_survives(extents in proptest::collection::vec(any::<(u64, u32)>(), 0..64)) {
        let list = UnmapList { extents: extents.into_iter().map(|(lba, blocks)| extent(lba, blocks)).collect() };
        prop_assert_eq!(UnmapList::parse(&list.emit()), Ok(list));
    }

    #[test]
    fn any_lba_status_survives(extents in proptest::collection::vec((any::<(u64, u32)>(), 0..16_u8), 0..64)) {
        let extents = extents.into_iter().map(|((lba, blocks), bits)| (extent(lba, blocks), bits.into()));
        let status = LbaStatus { extents: extents.collect() };
        prop_assert_eq!(LbaStatus::parse(&status.emit()), Ok(status));
    }
}
