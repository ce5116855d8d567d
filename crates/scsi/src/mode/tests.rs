use proptest::prelude::*;

use super::*;

const SIX: [u8; 36] = [
    0x23, 0x00, 0x90, 0x08, // 35 bytes follow; medium type; WP, DPOFUA; 8 bytes of block descriptors
    0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, // 2,097,152 blocks of 512 bytes
    0x88, 0x12, // PS, caching; 18 bytes
    0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // WCE, RCD
    0x21, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // DRA, NV_DIS
    0x3e, 0x02, 0xab, 0xcd, // an unknown page of two bytes
];

fn parameters() -> ModeParameters {
    let caching = CachingPage {
        write_cache: true,
        read_cache_disabled: true,
        read_ahead_disabled: true,
        non_volatile_disabled: true,
    };
    ModeParameters {
        medium_type: 0,
        write_protected: true,
        dpo_fua: true,
        block_descriptors: BlockDescriptors::Short(vec![BlockDescriptor {
            blocks: 0x20_0000,
            block_size: 512,
        }]),
        pages: vec![
            ModePage { savable: true, ..caching.into() },
            ModePage { savable: false, code: 0x3e, subpage: None, bytes: vec![0xab, 0xcd] },
        ],
    }
}

#[test]
fn the_short_form_is_understood_and_said() {
    assert_eq!(ModeParameters::parse(ModeForm::Six, &SIX), Ok(parameters()));
    assert_eq!(parameters().emit(ModeForm::Six), SIX);
    assert!(parameters().caching().unwrap().write_cache);
    assert_eq!(parameters().control(), None);
}

#[test]
fn the_long_form_is_understood_and_said() {
    let bytes = [
        0x00, 0x22, 0x00, 0x10, // 34 bytes follow; medium type; DPOFUA
        0x01, 0x00, 0x00, 0x10, // LONGLBA; reserved; 16 bytes of block descriptors
        0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, // 2^32 blocks
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, // reserved; 4,096 bytes
        0x0a, 0x0a, // control; 10 bytes
        0x24, 0x16, 0x28, 0xc0, // TST 1, D_SENSE; unrestricted, QERR 3; interlock 2, SWP; ATO, TAS
        0x00, 0x00, 0xff, 0xff, 0x00, 0x1e, // obsolete; busy without limit; self-test 30 s
    ];
    let control = ControlPage {
        task_set: TaskSetType::PerNexus,
        descriptor_sense: true,
        queue_algorithm: 1,
        queue_error: QueueError::AbortNexus,
        attention_interlock: 2,
        software_write_protect: true,
        application_tag_owner: true,
        task_aborted_status: true,
        busy_timeout: 0xffff,
        self_test_secs: 30,
    };
    let parameters = ModeParameters {
        dpo_fua: true,
        block_descriptors: BlockDescriptors::Long(vec![BlockDescriptor {
            blocks: 1 << 32,
            block_size: 4096,
        }]),
        pages: vec![control.into()],
        ..ModeParameters::default()
    };
    assert_eq!(ModeParameters::parse(ModeForm::Ten, &bytes), Ok(parameters.clone()));
    assert_eq!(parameters.emit(ModeForm::Ten), bytes);
    assert_eq!(parameters.control(), Some(control));
}

#[test]
fn mode_select_ignores_what_is_reserved_there() {
    let sent = ModeParameters::parse_select(ModeForm::Six, &SIX).unwrap();
    assert_eq!(sent, ModeParameters { write_protected: false, dpo_fua: false, ..parameters() });
    // The length and the device specific parameter are zero.
    assert_eq!(sent.emit_select(ModeForm::Six)[..4], [0, 0, 0, 8]);
}

#[test]
fn a_page_with_a_subpage_has_a_long_length() {
    // Ten-byte header; control extension: SPF, subpage 01h, three bytes.
    let bytes = [0x00, 0x0d, 0, 0, 0, 0, 0, 0, 0x4a, 0x01, 0x00, 0x03, 1, 2, 3];
    let parameters = ModeParameters::parse(ModeForm::Ten, &bytes).unwrap();
    let page = ModePage { savable: false, code: CONTROL, subpage: Some(1), bytes: vec![1, 2, 3] };
    assert_eq!(parameters.pages, [page]);
    // It is not the control page, although it has its code.
    assert_eq!(parameters.control(), None);
    assert_eq!(parameters.emit(ModeForm::Ten), bytes);
}

#[test]
fn a_list_cut_off_says_how_much_to_ask_for() {
    for got in 4..SIX.len() {
        let error = Err(ParseError::Truncated { needed: 36, got });
        assert_eq!(ModeParameters::parse(ModeForm::Six, &SIX[..got]), error);
    }
}

#[test]
fn a_length_shorter_than_the_header_is_malformed() {
    let error = Err(ParseError::Malformed { byte: 0 });
    assert_eq!(ModeParameters::parse(ModeForm::Six, &[0; 4]), error);
    assert_eq!(ModeParameters::parse(ModeForm::Ten, &[0; 8]), error);
}

#[test]
fn a_page_that_overruns_the_list_is_malformed() {
    let mut bytes = SIX;
    bytes[33] = 3;
    let error = Err(ParseError::Malformed { byte: 32 });
    assert_eq!(ModeParameters::parse(ModeForm::Six, &bytes), error);
}

#[test]
fn more_blocks_than_a_short_descriptor_can_say_are_all_ones() {
    let descriptors = BlockDescriptors::Short(vec![BlockDescriptor { blocks: 1 << 40, block_size: 512 }]);
    assert_eq!(descriptors.emit(), [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]);
}

fn any_page() -> impl Strategy<Value = ModePage> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..64);
    (any::<bool>(), 0..64_u8, any::<Option<u8>>(), bytes)
        .prop_map(|(savable, code, subpage, bytes)| ModePage { savable, code, subpage, bytes })
}

proptest! {
    #[test]
    fn any_list_survives_the_long_form(
        medium_type: u8, write_protected: bool, dpo_fua: bool, long: bool,
        blocks in proptest::collection::vec((any::<u32>(), 0..1_u32 << 24), 0..4),
        pages in proptest::collection::vec(any_page(), 0..8),
    ) {
        let descriptors = blocks.into_iter()
            .map(|(blocks, block_size)| BlockDescriptor { blocks: blocks.into(), block_size })
            .collect();
        let block_descriptors =
            if long { BlockDescriptors::Long(descriptors) } else { BlockDescriptors::Short(descriptors) };
        let mut parameters =
            ModeParameters { medium_type, write_protected, dpo_fua, block_descriptors, pages };
        let parsed = ModeParameters::parse(ModeForm::Ten, &parameters.emit(ModeForm::Ten));
        prop_assert_eq!(parsed.as_ref(), Ok(&parameters));

        let sent = parameters.emit_select(ModeForm::Ten);
        (parameters.write_protected, parameters.dpo_fua) = (false, false);
        prop_assert_eq!(ModeParameters::parse_select(ModeForm::Ten, &sent), Ok(parameters));
    }

    #[test]
    fn the_views_survive_their_pages(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
        let page = |code| ModePage { savable: false, code, subpage: None, bytes: bytes.clone() };
        let caching = page(CACHING).caching().unwrap();
        prop_assert_eq!(ModePage::from(caching).caching(), Some(caching));
        let control = page(CONTROL).control().unwrap();
        prop_assert_eq!(ModePage::from(control).control(), Some(control));
    }
}
