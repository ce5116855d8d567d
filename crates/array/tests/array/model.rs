//! The medium against the simplest thing that could be right: a vector of bytes.

use array::{Options, UnitOptions};
use proptest::prelude::*;
use scsi::cdb::{ByteCheck, Cdb, Form, LongForm, MediumAccess, WriteSame};
use scsi::unmap::{Extent, UnmapList};
use scsi::{Blocks, Lba, Status};

use crate::bench::{Bench, options};

const BLOCKS: u64 = 1024;

#[derive(Clone, Debug)]
enum Step {
    Read { lba: u64, blocks: u32 },
    Write { lba: u64, blocks: u32, fill: u8 },
    WriteSame { lba: u64, blocks: u32, fill: u8, unmap: bool },
    Unmap { extents: Vec<(u64, u32)> },
    OrWrite { lba: u64, blocks: u32, fill: u8 },
    CompareAndWrite { lba: u64, compare: u8, fill: u8 },
    Verify { lba: u64, fill: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let lba = 0..BLOCKS + 8;
    // Few values, so that comparisons succeed now and then.
    let fill = prop::sample::select(vec![0, 1, 3, 0x80]);
    let blocks = 0..200u32;
    prop_oneof![
        (lba.clone(), blocks.clone()).prop_map(|(lba, blocks)| Step::Read { lba, blocks }),
        (lba.clone(), blocks.clone(), fill.clone()).prop_map(|(lba, blocks, fill)| Step::Write {
            lba,
            blocks,
            fill
        }),
        (lba.clone(), 1..300u32, fill.clone(), any::<bool>())
            .prop_map(|(lba, blocks, fill, unmap)| Step::WriteSame { lba, blocks, fill, unmap }),
        prop::collection::vec((lba.clone(), blocks.clone()), 0..4)
            .prop_map(|extents| Step::Unmap { extents }),
        (lba.clone(), 0..20u32, fill.clone()).prop_map(|(lba, blocks, fill)| Step::OrWrite {
            lba,
            blocks,
            fill
        }),
        (lba.clone(), fill.clone(), fill.clone()).prop_map(|(lba, compare, fill)| Step::CompareAndWrite {
            lba,
            compare,
            fill
        }),
        (lba, fill).prop_map(|(lba, fill)| Step::Verify { lba, fill }),
    ]
}

struct Model {
    bytes: Vec<u8>,
    block: usize,
}

impl Model {
    /// The bytes of a range; none if it is not within the medium.
    fn range(&mut self, lba: u64, blocks: u32) -> Option<&mut [u8]> {
        let start = usize::try_from(lba).unwrap() * self.block;
        self.bytes.get_mut(start..start + blocks as usize * self.block)
    }
}

/// What a step does to the model: the status that is due, and the data that comes back.
fn expect(model: &mut Model, step: &Step) -> (bool, Vec<u8>) {
    match *step {
        Step::Read { lba, blocks } => match model.range(lba, blocks) {
            Some(range) => (true, range.to_vec()),
            None => (false, Vec::new()),
        },
        Step::Write { lba, blocks, fill } | Step::WriteSame { lba, blocks, fill, .. } => {
            (model.range(lba, blocks).map(|range| range.fill(fill)).is_some(), Vec::new())
        }
        Step::OrWrite { lba, blocks, fill } => {
            let range = model.range(lba, blocks);
            (range.map(|range| range.iter_mut().for_each(|byte| *byte |= fill)).is_some(), Vec::new())
        }
        Step::Unmap { ref extents } => {
            let all_within = extents.iter().all(|(lba, blocks)| model.range(*lba, *blocks).is_some());
            if all_within {
                for (lba, blocks) in extents {
                    model.range(*lba, *blocks).unwrap().fill(0);
                }
            }
            (all_within, Vec::new())
        }
        Step::CompareAndWrite { lba, compare, fill } => {
            let equal = model.range(lba, 1).filter(|range| range.iter().all(|byte| *byte == compare));
            (equal.map(|range| range.fill(fill)).is_some(), Vec::new())
        }
        Step::Verify { lba, fill } => {
            let equal = model.range(lba, 1).is_some_and(|range| range.iter().all(|byte| *byte == fill));
            (equal, Vec::new())
        }
    }
}

/// The command for a step, and its data.
fn command(step: &Step, block: usize) -> (Cdb, Vec<u8>) {
    let access = |lba, blocks| MediumAccess::new(Form::Sixteen, Lba(lba), Blocks(blocks));
    let data = |blocks: u32, fill: u8| vec![fill; blocks as usize * block];
    match *step {
        Step::Read { lba, blocks } => (Cdb::Read(access(lba, blocks)), Vec::new()),
        Step::Write { lba, blocks, fill } => (Cdb::Write(access(lba, blocks)), data(blocks, fill)),
        Step::OrWrite { lba, blocks, fill } => (Cdb::OrWrite(access(lba, blocks)), data(blocks, fill)),
        Step::WriteSame { lba, blocks, fill, unmap } => {
            let same = WriteSame {
                form: LongForm::Sixteen,
                lba: Lba(lba),
                blocks: Blocks(blocks),
                protect: 0,
                anchor: false,
                unmap,
                no_data_out: fill == 0 && blocks % 2 == 0,
                group: 0,
            };
            (Cdb::WriteSame(same), if same.no_data_out { Vec::new() } else { data(1, fill) })
        }
        Step::Unmap { ref extents } => {
            let extent = |&(lba, blocks): &(u64, u32)| Extent { lba: Lba(lba), blocks: Blocks(blocks) };
            let list = UnmapList { extents: extents.iter().map(extent).collect() }.emit();
            let parameter_list_length = u16::try_from(list.len()).unwrap();
            (Cdb::Unmap { anchor: false, group: 0, parameter_list_length }, list)
        }
        Step::CompareAndWrite { lba, compare, fill } => {
            let swap = Cdb::CompareAndWrite {
                lba: Lba(lba),
                blocks: 1,
                protect: 0,
                disable_page_out: false,
                force_unit_access: false,
                group: 0,
            };
            (swap, [data(1, compare), data(1, fill)].concat())
        }
        Step::Verify { lba, fill } => {
            (Cdb::Verify { access: access(lba, 1), byte_check: ByteCheck::Data }, data(1, fill))
        }
    }
}

fn run(block_size: u32, steps: &[Step]) {
    let unit = UnitOptions { block_size, ..UnitOptions::memory(0, BLOCKS * u64::from(block_size)) };
    let mut bench = Bench::new(Options { units: vec![unit], ..options() });
    let block = block_size as usize;
    let mut model = Model { bytes: vec![0; usize::try_from(BLOCKS).unwrap() * block], block };
    for step in steps {
        let (cdb, data) = command(step, block);
        let (good, back) = expect(&mut model, step);
        let tag = bench.send(crate::bench::A, 0, cdb.emit().as_slice(), &data, 0);
        let (reply, bytes) = bench.reply_to(tag);
        assert_eq!(reply.status == Status::Good, good, "{step:?}: {:?}", reply.sense);
        assert!(bytes == back, "{step:?} returned other bytes");
    }
    let whole = Cdb::read_16(Lba(0), Blocks(u32::try_from(BLOCKS).unwrap()));
    assert!(bench.get(whole.emit().as_slice()) == model.bytes, "the medium differs at the end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_medium_is_what_the_commands_made_it(steps in prop::collection::vec(step(), 1..60)) {
        run(512, &steps);
        run(4096, &steps[..steps.len().min(10)]);
    }
}
