//! What a disk does for its exports, with everything well.

use crate::device::{BLOCK, Device};
use crate::rig::Rig;

#[test]
fn what_was_written_is_read_back() {
    let mut rig = Rig::new(Device::new(64, 1), 2);
    let write = rig.write(512, &[7; 3 * BLOCK]);
    rig.assert_ok(write);
    let read = rig.read(0, 5 * BLOCK as u32);
    assert_eq!(rig.data(read), [vec![0; BLOCK], vec![7; 3 * BLOCK], vec![0; BLOCK]].concat());
}
