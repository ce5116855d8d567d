//! What is known of a logical unit as one path shows it, and whether two paths show the same one.

use alloc::string::String;
use core::fmt;

use block::WriteCache;
use clock::Duration;
use multipath::{Access, PathState};

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
    pub write_cache: WriteCache,
    /// FUA and DPO are honoured (DPOFUA in the mode parameter header).
    pub force_unit_access: bool,
    pub write_protected: bool,
    /// The target port that this path ends at, if the device says.
    pub port: Port,
    /// What the port's group says; a device without groups is always active/optimized.
    pub access: AccessState,
    /// Whether the device reports target port groups (TPGS is not zero).
    pub reports_access: bool,
    /// How long an implicit transition may take, if the device says (RTPG extended header).
    pub transition_max: Option<Duration>,
}

/// How large the logical unit is, and in what (READ CAPACITY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub blocks: u64,
    /// In bytes; a power of two.
    pub block_size: u32,
    /// Of the medium, in bytes; at least `block_size`.
    pub physical_block_size: u32,
    /// Protection information: type 1, 2 or 3, or none.
    pub protection: Option<u8>,
    /// Thin provisioning is managed (LBPME).
    pub thin: bool,
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

/// What two paths say differently that must agree. `ours` is the disk's, `theirs` the path's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contradiction {
    Name {
        ours: Name,
        theirs: Name,
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
        ours: Option<u8>,
        theirs: Option<u8>,
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
        Ok(())
    }

    /// What the access state means for choosing the path.
    #[must_use]
    pub const fn path_state(&self) -> PathState {
        path_state(self.access)
    }
}

impl Capacity {
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
        AccessState::ActiveOptimized => PathState::Usable(Access::Optimized),
        // LBA dependent: every block can be read and written on it, some of them less well.
        AccessState::ActiveNonOptimized | AccessState::LbaDependent => {
            PathState::Usable(Access::NonOptimized)
        }
        AccessState::Transitioning => PathState::Waiting,
        AccessState::Standby | AccessState::Unavailable | AccessState::Offline | AccessState::Reserved(_) => {
            PathState::Down
        }
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protection = |kind: &Option<u8>| kind.unwrap_or(0);
        match self {
            Self::Name { ours, theirs } => write!(f, "it is {theirs}, not {ours}"),
            Self::Designator { ours, theirs } => {
                write!(f, "same name, but its {} is {theirs}, not {ours}", ours.kind())
            }
            Self::DeviceType { ours, theirs } => write!(f, "device type {theirs:?}, not {ours:?}"),
            Self::BlockSize { ours, theirs } => write!(f, "blocks of {theirs} bytes, not {ours}"),
            Self::Blocks { ours, theirs } => write!(f, "{theirs} blocks, not {ours}"),
            Self::Protection { ours, theirs } => {
                write!(f, "protection type {}, not {}", protection(theirs), protection(ours))
            }
            Self::NoRoom => f.write_str("the disk takes no more paths"),
            Self::Ending => f.write_str("the disk is going away"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessState {
    ActiveOptimized,
    ActiveNonOptimized,
    LbaDependent,
    Standby,
    Unavailable,
    Offline,
    Transitioning,
    Reserved(u8),
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceType {
    DirectAccess,
}
