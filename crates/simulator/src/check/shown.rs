//! What exports are shown of a disk changes only with a word, and is never more than what every path has.

use std::collections::BTreeMap;

use ::host::DiskIndex;
use block::Geometry;
use multipath::PathState;
use scsi::CdbBytes;
use scsi::cdb::operation;
use scsi_multipath::{CommandClass, Disk};

#[derive(Debug, Default)]
pub(crate) struct ShownCheck {
    told: BTreeMap<DiskIndex, Geometry>,
}

impl ShownCheck {
    /// Exports were told.
    pub(crate) fn told(&mut self, disk: DiskIndex, geometry: Geometry) {
        self.told.insert(disk, geometry);
    }

    pub(crate) fn disk_gone(&mut self, disk: DiskIndex) {
        self.told.remove(&disk);
    }

    pub(crate) fn process_ended(&mut self) {
        self.told.clear();
    }

    /// A disk has said what it had to say.
    pub(crate) fn settled(&self, index: DiskIndex, disk: &Disk) -> Result<(), String> {
        let Some(geometry) = disk.geometry() else { return Ok(()) };
        let told = self.told.get(&index);
        if told != Some(&geometry) {
            return Err(format!("a disk has {geometry:?}, and exports were told {told:?}"));
        }
        let usable = disk.paths().filter(|view| matches!(view.status.state, PathState::Usable(_)));
        for view in usable {
            let capacity = disk.unit(view.status.id).and_then(|unit| unit.capacity);
            if let Some(capacity) = capacity
                && capacity.bytes() < geometry.size
            {
                let (bytes, size) = (capacity.bytes(), geometry.size);
                return Err(format!("{} has {bytes} bytes, exports are shown {size}", view.status.id));
            }
        }
        Ok(())
    }

    /// A disk of ours sends nothing that must not be executed twice: so there is nothing that it could send twice by
    /// mistake. Whether SET TARGET PORT GROUPS may be sent is looked at elsewhere; each is a new attempt.
    pub(crate) fn started(cdb: &CdbBytes) -> Result<(), String> {
        match CommandClass::of(cdb) {
            class if class.repeatable() => Ok(()),
            _ if cdb.operation_code() == operation::MAINTENANCE_OUT => Ok(()),
            class => Err(format!("{:02x?} is sent, which is {class:?}", cdb.as_slice())),
        }
    }
}
