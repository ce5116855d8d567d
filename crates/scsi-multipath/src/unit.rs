//! What is known of a logical unit as one path shows it, and whether two paths show the same one.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use block::{Rotation, WriteCache};
use clock::Duration;
use multipath::{Access, PathState};
use scsi::capacity::ProtectionType;
use scsi::inquiry::{DeviceType, InquiryData, PortGroupSupport};
use scsi::vpd::{BlockCharacteristicsPage, BlockLimitsPage, LogicalProvisioningPage};

pub use scsi::port_groups::AccessState;
use scsi::port_groups::{PortGroup, PortGroups};

use crate::identity::{Identity, Name};

/// Everything that a survey found out about a logical unit on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub identity: Identity,
    /// Unit serial number (VPD page 80h).
    pub serial: Option<String>,
    pub vendor: String,
    pub product: String,
    pub revision: String,
    pub device_type: DeviceType,
    /// None while the path's access state does not let it be read; the path is not used before it is known.
    pub capacity: Option<Capacity>,
    /// Which forms of the block commands the device server knows.
    pub addressing: Addressing,
    pub limits: Limits,
    pub provisioning: Provisioning,
    pub rotation: Rotation,
    pub write_cache: WriteCache,
    /// FUA and DPO are honoured (DPOFUA in the mode parameter header).
    pub force_unit_access: bool,
    pub write_protected: bool,
    /// The target port that this path ends at, if the device says.
    pub port: Port,
    /// What the port's group says; a device without groups is always active/optimized.
    pub access: AccessState,
    /// The device prefers that group (PREF).
    pub preferred: bool,
    /// What the device said of all its groups; taken by whoever compares it with what other logical units say.
    pub groups: Option<Box<[GroupAccess]>>,
    /// Whether the device reports target port groups (TPGS is not zero).
    pub reports_access: bool,
    /// Whether SET TARGET PORT GROUPS may change them (TPGS).
    pub sets_access: bool,
    /// How long an implicit transition may take, if the device says (RTPG extended header).
    pub transition_max: Option<Duration>,
    /// It has not refused the extended header of the port groups (RTPG).
    pub knows_long_header: bool,
}

/// How large the logical unit is, and in what (READ CAPACITY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub blocks: u64,
    /// In bytes; a power of two.
    pub block_size: u32,
    /// Of the medium, in bytes; at least `block_size`.
    pub physical_block_size: u32,
    pub protection: ProtectionType,
    /// Unmapped blocks read as zeros (LBPRZ).
    pub unmapped_reads_zero: bool,
}

/// Which forms of READ, WRITE and SYNCHRONIZE CACHE are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    Sixteen,
    /// The device server refused READ CAPACITY(16) and has at most 2³² blocks.
    Ten,
}

/// Block limits (VPD page B0h), in blocks. None means not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub transfer_max: Option<u32>,
    pub transfer_optimal: Option<u32>,
    pub transfer_granularity: Option<u32>,
    /// Blocks that one UNMAP may name; without it UNMAP is not used.
    pub unmap_max: Option<u32>,
    pub unmap_granularity: Option<u32>,
    /// The first block that starts a unit of `unmap_granularity`.
    pub unmap_alignment: u32,
    /// Blocks that one WRITE SAME may name.
    pub write_same_max: Option<u64>,
}

/// Ways to deallocate (VPD page B2h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioning {
    /// UNMAP (LBPU).
    pub unmap: bool,
    /// WRITE SAME(16) with UNMAP (LBPWS).
    pub write_same_unmap: bool,
}

/// The target port that a path ends at (VPD page 83h, association 01b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    pub group: Option<u16>,
    pub relative: Option<u16>,
}

/// How a target port group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupAccess {
    pub id: u16,
    pub state: AccessState,
    pub preferred: bool,
}

/// What two paths say differently that must agree. `ours` is the disk's, `theirs` the path's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contradiction {
    Name {
        ours: Name,
        theirs: Name,
    },
    /// It has no name any more.
    Nameless {
        ours: Name,
    },
    /// The names agree and another globally unique designator differs.
    Designator {
        ours: Name,
        theirs: Name,
    },
    DeviceType {
        ours: DeviceType,
        theirs: DeviceType,
    },
    /// The peripheral qualifier says that no device is there.
    NotConnected,
    /// In bytes.
    BlockSize {
        ours: u32,
        theirs: u32,
    },
    /// In blocks.
    Blocks {
        ours: u64,
        theirs: u64,
    },
    Protection {
        ours: ProtectionType,
        theirs: ProtectionType,
    },
    /// Not about the unit: the disk takes no more paths ([`multipath::PATHS_MAX`]), or knows the id already.
    NoRoom,
    /// The disk is going away.
    Ending,
}

impl Unit {
    /// Whether a path that shows `self` may join paths that show `other`.
    ///
    /// # Errors
    /// The first thing that differs; `other` is ours.
    pub fn join(&self, other: &Self) -> Result<(), Contradiction> {
        same_identity(&other.identity, &self.identity)?;
        if other.device_type != self.device_type {
            return Err(Contradiction::DeviceType { ours: other.device_type, theirs: self.device_type });
        }
        match (&other.capacity, &self.capacity) {
            (Some(ours), Some(theirs)) => ours.join(theirs),
            _ => Ok(()),
        }
    }

    /// Takes over what standard INQUIRY data says and may change under a live disk.
    pub(crate) fn redefine(&mut self, inquiry: &InquiryData) {
        self.vendor = inquiry.vendor.to_string();
        self.product = inquiry.product.to_string();
        self.revision = inquiry.revision.to_string();
        self.sets_access = sets_access(inquiry);
        self.reports_access = reports_access(inquiry);
        if !self.reports_access {
            // As if it had been found like this.
            (self.access, self.preferred) = (AccessState::Optimized, false);
        }
    }

    /// Whether both say the same in what [`Self::redefine`] takes over.
    pub(crate) fn is_defined_as(&self, other: &Self) -> bool {
        let defined = |unit: &Self| (unit.reports_access, unit.sets_access);
        (&self.vendor, &self.product, &self.revision) == (&other.vendor, &other.product, &other.revision)
            && defined(self) == defined(other)
    }

    /// That as words.
    pub(crate) fn definition(&self) -> String {
        let port_groups = match (self.reports_access, self.sets_access) {
            (false, _) => "no port groups",
            (true, false) => "port groups",
            (true, true) => "port groups that can be set",
        };
        format!("{} {} {}, {port_groups}", self.vendor, self.product, self.revision)
    }

    /// What the access state means for choosing the path.
    #[must_use]
    pub const fn path_state(&self) -> PathState {
        path_state(self.access)
    }
}

/// TPGS (SPC, standard INQUIRY data).
pub(crate) fn reports_access(inquiry: &InquiryData) -> bool {
    inquiry.port_groups != PortGroupSupport::None
}

/// Whether SET TARGET PORT GROUPS is known.
pub(crate) const fn sets_access(inquiry: &InquiryData) -> bool {
    matches!(inquiry.port_groups, PortGroupSupport::Explicit | PortGroupSupport::Both)
}

impl Limits {
    /// SBC, Block Limits VPD page: zero means not reported, all ones means no limit.
    pub(crate) fn new(page: &BlockLimitsPage) -> Self {
        let reported = |value: u32| (value != 0).then_some(value);
        Self {
            transfer_max: reported(page.transfer_max),
            transfer_optimal: reported(page.transfer_optimal),
            transfer_granularity: reported(page.transfer_granularity.into()),
            unmap_max: reported(page.unmap_blocks_max).filter(|_| page.unmap_descriptors_max != 0),
            unmap_granularity: reported(page.unmap_granularity),
            unmap_alignment: page.unmap_alignment.unwrap_or(0),
            write_same_max: (page.write_same_max != 0).then_some(page.write_same_max),
        }
    }
}

impl Provisioning {
    pub(crate) const fn new(page: &LogicalProvisioningPage) -> Self {
        Self { unmap: page.unmap, write_same_unmap: page.write_same_16 }
    }
}

/// SBC, Block Device Characteristics VPD page: 0401h to FFFEh are revolutions in a minute, what is not said here is
/// reserved.
pub(crate) const fn rotation(page: &BlockCharacteristicsPage) -> Rotation {
    match page.rotation_rate {
        1 => Rotation::Solid,
        rate @ 0x0401..=0xfffe => Rotation::PerMinute(rate),
        _ => Rotation::Unknown,
    }
}

impl Port {
    /// What the port groups of the device say of this port: by its group, or by the group that lists the port.
    #[must_use]
    pub fn find<'a>(&self, groups: &'a PortGroups) -> Option<&'a PortGroup> {
        let by_group = self.group.and_then(|id| groups.group(id));
        let lists = |port: u16| groups.groups.iter().find(|group| group.ports.contains(&port));
        by_group.or_else(|| self.relative.and_then(lists))
    }
}

/// The states of all groups in the order of their numbers, so that two logical units can be compared.
pub(crate) fn group_states(groups: &PortGroups) -> Box<[GroupAccess]> {
    let state =
        |group: &PortGroup| GroupAccess { id: group.id, state: group.state, preferred: group.preferred };
    let mut states: Box<[GroupAccess]> = groups.groups.iter().map(state).collect();
    states.sort_unstable();
    states
}

pub(crate) fn state_of(groups: &[GroupAccess], id: u16) -> Option<GroupAccess> {
    groups.iter().find(|group| group.id == id).copied()
}

/// How long an implicit transition may take, if the device says (RTPG, extended header); zero means that it
/// does not.
pub(crate) fn transition_max(groups: &PortGroups) -> Option<Duration> {
    groups.transition_secs.filter(|&secs| secs != 0).map(|secs| Duration::from_secs(secs.into()))
}

impl Capacity {
    /// What a device server says, if a disk can be made of it.
    ///
    /// # Errors
    /// The block size in bytes that cannot be served.
    pub(crate) fn new(said: &scsi::capacity::Capacity) -> Result<Self, u32> {
        let block_size = said.block_size;
        if !block_size.is_power_of_two() || !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block_size) {
            return Err(block_size);
        }
        Ok(Self {
            blocks: said.last.0.saturating_add(1),
            block_size,
            physical_block_size: block_size.saturating_mul(1 << said.physical_block_exponent),
            protection: said.protection,
            unmapped_reads_zero: said.unmapped_reads_zero,
        })
    }

    fn join(&self, theirs: &Self) -> Result<(), Contradiction> {
        self.same_format(theirs)?;
        if self.blocks != theirs.blocks {
            return Err(Contradiction::Blocks { ours: self.blocks, theirs: theirs.blocks });
        }
        Ok(())
    }

    /// What may never differ between paths, nor change under a live disk.
    pub(crate) fn same_format(&self, theirs: &Self) -> Result<(), Contradiction> {
        if self.block_size != theirs.block_size {
            return Err(Contradiction::BlockSize { ours: self.block_size, theirs: theirs.block_size });
        }
        if self.protection != theirs.protection {
            return Err(Contradiction::Protection { ours: self.protection, theirs: theirs.protection });
        }
        Ok(())
    }

    /// In bytes; what does not fit 64 bits is cut, no device has it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size as u64)
    }
}

/// Smaller blocks than these, exports cannot express; larger ones no page cache takes.
const BLOCK_SIZE_MIN: u32 = 512;
const BLOCK_SIZE_MAX: u32 = 64 << 10;

/// Whether two identities name one logical unit.
pub(crate) fn same_identity(ours: &Identity, theirs: &Identity) -> Result<(), Contradiction> {
    if ours.name() != theirs.name() {
        return Err(Contradiction::Name { ours: ours.name().clone(), theirs: theirs.name().clone() });
    }
    match ours.contradicts(theirs) {
        Some((ours, theirs)) => Err(Contradiction::Designator { ours: ours.clone(), theirs: theirs.clone() }),
        None => Ok(()),
    }
}

/// SPC, asymmetric access states: which of them let a path be chosen.
#[must_use]
pub const fn path_state(access: AccessState) -> PathState {
    match access {
        AccessState::Optimized => PathState::Usable(Access::Optimized),
        // LBA dependent: every block can be read and written on it, some of them less well.
        AccessState::NonOptimized | AccessState::LogicalBlockDependent => {
            PathState::Usable(Access::NonOptimized)
        }
        AccessState::Transitioning => PathState::Waiting,
        AccessState::Standby | AccessState::Unavailable | AccessState::Offline | AccessState::Reserved(_) => {
            PathState::Down
        }
    }
}

/// Whether commands for blocks may be sent in this state.
#[must_use]
pub const fn is_usable(access: AccessState) -> bool {
    matches!(path_state(access), PathState::Usable(_))
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { ours, theirs } => write!(f, "it is {theirs}, not {ours}"),
            Self::Nameless { ours } => write!(f, "it shows no identity any more, and was {ours}"),
            Self::Designator { ours, theirs } => {
                write!(f, "same name, but its {} is {theirs}, not {ours}", ours.kind())
            }
            Self::DeviceType { ours, theirs } => write!(f, "device type {theirs:?}, not {ours:?}"),
            Self::NotConnected => f.write_str("no device is connected there any more (peripheral qualifier)"),
            Self::BlockSize { ours, theirs } => write!(f, "blocks of {theirs} bytes, not {ours}"),
            Self::Blocks { ours, theirs } => write!(f, "{theirs} blocks, not {ours}"),
            Self::Protection { ours, theirs } => write!(f, "protection {theirs:?}, not {ours:?}"),
            Self::NoRoom => f.write_str("the disk takes no more paths"),
            Self::Ending => f.write_str("the disk is going away"),
        }
    }
}
