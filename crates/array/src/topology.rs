//! The shape of the array: controllers, ports, logical units, and the names that everything goes by.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use scsi::AdditionalSense;

use crate::store::{MemoryStore, Store};
use crate::unit::ShownIdentity;

/// One initiator port logged in at one target port. The caller chooses it and never uses it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(pub u32);

/// A target port, by its relative target port identifier: 1 for the first port of the first controller, counted
/// on through all controllers (SPC, 7.7.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// A target port group: 1 for the first controller. A controller is a group (SPC, 5.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// A logical unit, by its place in [`Options::units`], whatever LUN it is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub u32);

/// What an array is built from.
#[derive(Debug)]
pub struct Options {
    /// At least one.
    pub controllers: u16,
    /// At least one.
    pub ports_per_controller: u16,
    pub units: Vec<UnitOptions>,
    /// At most 8 printing ASCII characters.
    pub vendor: String,
    /// At most 16.
    pub product: String,
    /// At most 4.
    pub revision: String,
    /// What the identities of the units are derived from: two arrays with different numbers share none.
    pub number: u32,
    /// Decides by chance which commands a [`crate::Fault`] strikes.
    pub seed: u64,
    /// How many commands a unit holds; one more is answered with TASK SET FULL.
    pub tasks_max: usize,
    /// What every new nexus is told first about every unit (SAM, 5.14: a nexus begins with a unit attention).
    pub nexus_attention: Option<AdditionalSense>,
    pub access_changes: AccessChanges,
    pub nexus_loss: NexusLoss,
    pub coordination: Coordination,
    pub remapping: Remapping,
    /// How many bytes of free buffers are kept for reuse.
    pub buffers_max: usize,
}

/// Who may change the access state of a target port group (SPC, 6.7.2: TPGS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessChanges {
    /// The array only.
    Implicit,
    /// SET TARGET PORT GROUPS too.
    ImplicitAndExplicit,
    /// The array does not say that it has port groups at all.
    None,
}

/// What becomes of the commands of a nexus that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NexusLoss {
    /// They are aborted (SAM, 6.3.4).
    AbortTasks,
    /// They run on and nobody is told: what some targets do, and how ghost writes are made.
    KeepTasks,
}

/// How far a controller knows what the others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordination {
    /// The array is one: a logical unit has one task set.
    Whole,
    /// Each controller has task sets of its own over the same blocks, as gateways over a shared store have: a
    /// function that comes through one says and does nothing about commands that came through another.
    PerController,
}

/// How a nexus is told that a LUN stands for another unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remapping {
    /// By one unit attention (3F/0E), as any change is told.
    ToldOnce,
    /// By 3F/0E for every command, until the nexus has read the identity (VPD page 83h) of what is there now: what
    /// was on its way when the LUN was mapped anew is then never executed by the wrong unit.
    ToldUntilIdentified,
}

/// What a logical unit is built from.
#[derive(Debug)]
pub struct UnitOptions {
    /// Where every port maps it at first, at most 16,383; `None` maps it nowhere.
    pub lun: Option<u16>,
    pub store: Box<dyn Store>,
    /// 512, 1024, 2048 or 4096 bytes.
    pub block_size: u32,
    /// A physical block is two to this power logical blocks; at most 15.
    pub physical_block_exponent: u8,
    /// Makes the identity, together with the array's number.
    pub number: u64,
    /// At most 32 ASCII characters; made from the identity if empty.
    pub serial: String,
    pub provisioning: Provisioning,
    pub protection: WriteProtection,
    pub write_cache: WriteCache,
    /// As VPD page B1h says it: 0 not reported, 1 not rotating, else revolutions in a minute.
    pub rotation_rate: u16,
    /// What it says that it is, at first.
    pub shown: ShownIdentity,
    /// The controller whose group is active/optimized and preferred, counted from 0; the others are
    /// active/non-optimized. `None`: all are active/optimized.
    pub owner: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// UNMAP and WRITE SAME with UNMAP give room back; what was unmapped reads as zeros (LBPRZ).
    Thin,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteProtection {
    Writable,
    /// As by a switch: every write is refused (7/27/00).
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// WCE is 1 at first: an acknowledged write may need SYNCHRONIZE CACHE to be durable.
    Back,
    Through,
}

/// Enough for every initiator's queue of 128 on each of two controllers.
const TASKS_MAX: usize = 256;
const BUFFERS_MAX: usize = 16 << 20;
/// VPD page B1h: a medium that does not rotate.
const NON_ROTATING: u16 = 1;

impl Default for Options {
    /// Two controllers with two ports each, no units.
    fn default() -> Self {
        Self {
            controllers: 2,
            ports_per_controller: 2,
            units: Vec::new(),
            vendor: "SMPATH".to_string(),
            product: "SIMULATED ARRAY".to_string(),
            revision: "0001".to_string(),
            number: 1,
            seed: 1,
            tasks_max: TASKS_MAX,
            nexus_attention: Some(AdditionalSense::POWER_ON_OR_RESET),
            access_changes: AccessChanges::Implicit,
            nexus_loss: NexusLoss::AbortTasks,
            coordination: Coordination::Whole,
            remapping: Remapping::ToldOnce,
            buffers_max: BUFFERS_MAX,
        }
    }
}

impl UnitOptions {
    /// A thin unit in memory with blocks of 512 bytes, mapped at `lun` and named by it.
    #[must_use]
    pub fn memory(lun: u16, size: u64) -> Self {
        Self {
            lun: Some(lun),
            store: Box::new(MemoryStore::new(size)),
            block_size: 512,
            physical_block_exponent: 0,
            number: u64::from(lun) + 1,
            serial: String::new(),
            provisioning: Provisioning::Thin,
            protection: WriteProtection::Writable,
            write_cache: WriteCache::Back,
            rotation_rate: NON_ROTATING,
            shown: ShownIdentity::Own,
            owner: None,
        }
    }
}

/// The ports and how they are grouped; fixed for the array's life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    controllers: u16,
    ports_per_controller: u16,
}

/// More ports than any array has; keeps REPORT TARGET PORT GROUPS data far below 64 KiB.
pub(crate) const PORTS_MAX: u16 = 1024;

impl Topology {
    pub(crate) fn new(controllers: u16, ports_per_controller: u16) -> Self {
        assert!(controllers > 0 && ports_per_controller > 0, "an array has at least one port");
        assert!(
            controllers.saturating_mul(ports_per_controller) <= PORTS_MAX,
            "an array has at most {PORTS_MAX} ports"
        );
        Self { controllers, ports_per_controller }
    }

    pub(crate) fn ports(self) -> impl Iterator<Item = PortId> {
        (1..=self.controllers * self.ports_per_controller).map(PortId)
    }

    pub(crate) fn groups(self) -> impl Iterator<Item = GroupId> {
        (1..=self.controllers).map(GroupId)
    }

    pub(crate) fn has_port(self, port: PortId) -> bool {
        port.0 >= 1 && port.0 <= self.controllers * self.ports_per_controller
    }

    pub(crate) fn has_group(self, group: GroupId) -> bool {
        group.0 >= 1 && group.0 <= self.controllers
    }

    pub(crate) const fn group_of(self, port: PortId) -> GroupId {
        GroupId((port.0 - 1) / self.ports_per_controller + 1)
    }

    pub(crate) fn ports_of(self, group: GroupId) -> impl Iterator<Item = PortId> {
        let first = (group.0 - 1) * self.ports_per_controller + 1;
        (first..first + self.ports_per_controller).map(PortId)
    }
}

impl PortId {
    /// Where things kept per port stand in a list.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

impl GroupId {
    /// Where things kept per group stand in a list.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

impl UnitId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn at(index: usize) -> Self {
        Self(u32::try_from(index).expect("there are at most UNITS_MAX units"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_counted_through_the_controllers_and_grouped_by_them() {
        let topology = Topology::new(2, 2);
        assert_eq!(topology.ports().map(|port| topology.group_of(port).0).collect::<Vec<_>>(), [1, 1, 2, 2]);
        assert_eq!(topology.ports_of(GroupId(2)).collect::<Vec<_>>(), [PortId(3), PortId(4)]);
        assert!(!topology.has_port(PortId(0)) && !topology.has_port(PortId(5)));
    }
}
