//! One logical unit: what it is, what it remembers, and where its blocks are.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use scsi::port_groups::{AccessState, StateChange};
use scsi::{Lba, Sense};

use crate::mode::Modes;
use crate::refusal;
use crate::store::Store;
use crate::task_set::TaskSet;
use crate::topology::{GroupId, Provisioning, Topology, UnitOptions, WriteProtection};

#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) identity: Identity,
    pub(crate) store: Box<dyn Store>,
    pub(crate) block_size: u32,
    pub(crate) physical_block_exponent: u8,
    pub(crate) provisioning: Provisioning,
    pub(crate) protection: WriteProtection,
    pub(crate) rotation_rate: u16,
    pub(crate) modes: Modes,
    /// One entry for each target port group.
    pub(crate) access: Vec<GroupAccess>,
    pub(crate) tasks: TaskSet,
    pub(crate) counters: Counters,
    /// What REPORT TARGET PORT GROUPS answers instead of the truth.
    pub(crate) reported: Option<Vec<GroupAccess>>,
    pub(crate) shown: ShownIdentity,
    /// UNIT SERIAL NUMBER, designators and the like have one source, the identity; the capacity has one, the store.
    blocks: u64,
}

/// What a unit is known by (SPC, 7.7.6; VPD 80h and 83h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// NAA IEEE Registered Extended: 16 bytes.
    pub naa: [u8; 16],
    pub serial: String,
}

/// What a unit says that it is (VPD page 83h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShownIdentity {
    #[default]
    Own,
    /// No designator of the logical unit at all.
    Nothing,
    /// This name instead of its own, which may be another unit's.
    Naa([u8; 16]),
}

/// How a target port group may be used for one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupAccess {
    pub(crate) state: AccessState,
    pub(crate) preferred: bool,
    /// Who changed it last (SPC, 6.37: STATUS CODE).
    pub(crate) changed_by: StateChange,
}

/// What went through a unit or a port, in commands and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub commands: u64,
    pub reads: u64,
    pub writes: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// REPORT TARGET PORT GROUPS, however it ended.
    pub group_reports: u64,
    /// SET TARGET PORT GROUPS, however it ended.
    pub group_changes: u64,
}

/// The IEEE company identifier of the identities: a locally administered one, so that it is nobody's (IEEE 802c).
const COMPANY: u32 = 0x02_5a_4d;
/// NAA 6h: IEEE Registered Extended (SPC, 7.7.6.6).
const NAA_REGISTERED_EXTENDED: u8 = 6;

impl Identity {
    fn new(array: u32, options: &UnitOptions) -> Self {
        let mut naa = [0; 16];
        naa[..4].copy_from_slice(&(u32::from(NAA_REGISTERED_EXTENDED) << 28 | COMPANY << 4).to_be_bytes());
        naa[4..8].copy_from_slice(&array.to_be_bytes());
        naa[8..].copy_from_slice(&options.number.to_be_bytes());
        let serial = if options.serial.is_empty() {
            format!("{array:08x}{:012x}", options.number)
        } else {
            options.serial.clone()
        };
        Self { naa, serial }
    }
}

impl Unit {
    /// # Panics
    /// If the options contradict what [`UnitOptions`] says about them.
    pub(crate) fn new(array: u32, topology: Topology, options: UnitOptions) -> Self {
        assert!(matches!(options.block_size, 512 | 1024 | 2048 | 4096), "a block has 512 to 4096 bytes");
        assert!(options.physical_block_exponent < 16, "the physical block exponent has four bits");
        let identity = Identity::new(array, &options);
        let access = topology.groups().map(|group| GroupAccess::new(group, options.owner)).collect();
        Self {
            identity,
            blocks: options.store.size() / u64::from(options.block_size),
            store: options.store,
            block_size: options.block_size,
            physical_block_exponent: options.physical_block_exponent,
            provisioning: options.provisioning,
            protection: options.protection,
            modes: Modes::new(options.write_cache),
            access,
            tasks: TaskSet::default(),
            counters: Counters::default(),
            reported: None,
            shown: options.shown,
            rotation_rate: options.rotation_rate,
        }
    }

    /// The capacity in blocks.
    pub(crate) const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Takes the capacity from the store again, after it was resized.
    pub(crate) fn measure(&mut self) {
        self.blocks = self.store.size() / u64::from(self.block_size);
    }

    pub(crate) fn access(&self, group: GroupId) -> GroupAccess {
        self.access[group.index()]
    }

    /// What the unit says of a group.
    pub(crate) fn reported(&self, group: GroupId) -> GroupAccess {
        self.reported.as_ref().unwrap_or(&self.access)[group.index()]
    }

    /// Returns whether that is a change.
    pub(crate) fn set_access(&mut self, group: GroupId, state: AccessState, changed_by: StateChange) -> bool {
        let access = &mut self.access[group.index()];
        if access.state == state {
            return false;
        }
        access.state = state;
        access.changed_by = changed_by;
        true
    }

    /// Where a range of blocks lies in the store, in bytes.
    pub(crate) fn extent(&self, lba: Lba, blocks: u64) -> Result<Bytes, Sense> {
        match lba.0.checked_add(blocks) {
            Some(end) if end <= self.blocks => {
                let block_size = u64::from(self.block_size);
                Ok(Bytes { offset: lba.0 * block_size, length: blocks * block_size })
            }
            _ => Err(refusal::out_of_range()),
        }
    }

    pub(crate) fn check_writable(&self) -> Result<(), Sense> {
        if self.protection == WriteProtection::ReadOnly || self.modes.software_write_protect() {
            return Err(refusal::write_protected());
        }
        Ok(())
    }
}

/// A range of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl GroupAccess {
    fn new(group: GroupId, owner: Option<u16>) -> Self {
        let owned = owner.is_some_and(|owner| usize::from(owner) == group.index());
        let state = if owner.is_none() || owned { AccessState::Optimized } else { AccessState::NonOptimized };
        Self { state, preferred: owned, changed_by: StateChange::None }
    }
}
