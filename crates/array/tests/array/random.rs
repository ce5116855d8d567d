//! Whatever an initiator sends, the array answers once and stands.

use array::{AccessChanges, Event, Function, Options, UnitOptions};
use scsi::{CdbBytes, Lun, TaskAttribute};

use crate::bench::{A, B, Bench, options};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).unwrap()
    }
}

/// Every operation code there is, so that most random CDBs get further than their first byte.
const CODES: [u8; 40] = [
    0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41,
    0x42, 0x55, 0x5a, 0x5e, 0x5f, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x9e, 0xa0, 0xa3,
    0xa4, 0xa8, 0xaa, 0xae, 0xaf, 0x16,
];

/// Half of the bytes are zero, as in real CDBs: else hardly any address would be within the medium.
fn cdb(random: &mut Random) -> [u8; 16] {
    let (bits, mask) = (random.next(), random.next());
    let mut cdb = [0; 16];
    for (index, byte) in cdb.iter_mut().enumerate() {
        let keep = mask >> (2 * index) & 0b11 == 0;
        *byte = if keep { bits.rotate_left(u32::try_from(5 * index).unwrap()).to_le_bytes()[0] } else { 0 };
    }
    cdb[0] = match random.below(8) {
        0 => bits.to_be_bytes()[0],
        _ => CODES[random.below(40)],
    };
    cdb
}

#[test]
fn a_million_random_commands_are_each_answered_once() {
    const COMMANDS: u64 = 1_000_000;
    let unit = UnitOptions::memory(0, 64 * 512);
    let access_changes = AccessChanges::ImplicitAndExplicit;
    let mut bench = Bench::new(Options { units: vec![unit], access_changes, ..options() });
    let mut random = Random(1);
    let noise: Vec<u8> = (0..2048).map(|_| random.next().to_le_bytes()[0] & 0x13).collect();
    for tag in 0..COMMANDS {
        let cdb = cdb(&mut random);
        let length = random.below(17);
        let start = random.below(1024);
        let data = match random.below(4) {
            0 => &noise[start..start + random.below(1024)],
            1 => &noise[start..start + 512],
            _ => &[],
        };
        let attribute =
            [TaskAttribute::Simple, TaskAttribute::Ordered, TaskAttribute::HeadOfQueue][random.below(3)];
        bench.handle(Event::Command {
            nexus: if tag % 2 == 0 { A } else { B },
            tag,
            lun: Lun::from(u16::from(tag % 64 == 0)),
            cdb: CdbBytes::new(if length < 6 { &cdb } else { &cdb[..length] }),
            attribute,
            data: block::Buffer::from(data.to_vec()),
            expected: 512,
        });
        bench.reply_to(tag);
        if tag % 64 == 0 {
            let function =
                [Function::LogicalUnitReset, Function::AbortTask, Function::QueryTaskSet][random.below(3)];
            let function = bench.manage(A, function, Some(tag));
            bench.response_to(function);
        }
        bench.nothing_happens();
    }
}
