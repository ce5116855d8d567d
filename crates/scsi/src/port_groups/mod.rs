//! Target port groups and asymmetric access states (SPC, 5.15, 6.37 and 6.45).

#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::bytes::{ParseError, bit_at, entries, flag, length32, need, put_u16, put_u32, u16_at, u32_at};
use crate::cdb::PortGroupsFormat;

/// The most groups taken from one report. Arrays have two; clusters one for each node, of which the largest have
/// some dozens.
pub const PORT_GROUPS_MAX: usize = 256;

/// The most ports of a group: the count on the wire is one byte.
pub const PORTS_MAX: usize = 255;

/// REPORT TARGET PORT GROUPS parameter data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortGroups {
    /// The implicit transition time in seconds, if the extended header was returned; zero in it means that the
    /// device server does not say. Some emits the extended header.
    pub transition_secs: Option<u8>,
    pub groups: Vec<PortGroup>,
}

/// One target port group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortGroup {
    pub id: u16,
    pub state: AccessState,
    /// The group that the device server prefers (PREF).
    pub preferred: bool,
    pub supported: SupportedStates,
    pub status: StateChange,
    /// Relative target port identifiers; at most [`PORTS_MAX`].
    pub ports: Vec<u16>,
}

/// Asymmetric access states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessState {
    Optimized,
    NonOptimized,
    Standby,
    Unavailable,
    LogicalBlockDependent,
    Offline,
    Transitioning,
    /// Four bits.
    Reserved(u8),
}

/// Which states a group can be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SupportedStates {
    pub optimized: bool,
    pub non_optimized: bool,
    pub standby: bool,
    pub unavailable: bool,
    pub logical_block_dependent: bool,
    pub offline: bool,
    pub transitioning: bool,
}

/// What changed the state last (STATUS CODE).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateChange {
    #[default]
    None,
    /// SET TARGET PORT GROUPS.
    Explicit,
    /// The device server by itself.
    Implicit,
    Reserved(u8),
}

impl PortGroups {
    /// Understands either header; it says itself which it is.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, LENGTH)?;
        let end = LENGTH.saturating_add(u32_at(bytes, 0) as usize);
        if end > REPORT_LENGTH_MAX {
            return Err(ParseError::TooMany { limit: PORT_GROUPS_MAX });
        }
        need(bytes, end)?;
        let bytes = &bytes[..end];
        let extended = end >= EXTENDED && bytes[4] >> 4 & 0b111 == FORMAT_EXTENDED;
        let start = if extended { EXTENDED } else { LENGTH };
        let groups = entries(&bytes[start..], start, PORT_GROUPS_MAX, PortGroup::parse)?;
        Ok(Self { transition_secs: extended.then(|| bytes[5]), groups })
    }

    /// # Panics
    /// If a group has more than [`PORTS_MAX`] ports.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        if let Some(seconds) = self.transition_secs {
            bytes.extend([FORMAT_EXTENDED << 4, seconds, 0, 0]);
        }
        for group in &self.groups {
            group.emit(&mut bytes);
        }
        let length = length32(bytes.len() - LENGTH);
        put_u32(&mut bytes, 0, length);
        bytes
    }

    /// What to ask for in the CDB to be answered with the header that this value has.
    #[must_use]
    pub const fn format(&self) -> PortGroupsFormat {
        match self.transition_secs {
            Some(_) => PortGroupsFormat::Extended,
            None => PortGroupsFormat::LengthOnly,
        }
    }

    #[must_use]
    pub fn group(&self, id: u16) -> Option<&PortGroup> {
        self.groups.iter().find(|group| group.id == id)
    }
}

impl PortGroup {
    fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        need(bytes, DESCRIPTOR)?;
        let end = DESCRIPTOR + PORT * usize::from(bytes[7]);
        need(bytes, end)?;
        let (ports, _) = bytes[DESCRIPTOR..end].as_chunks::<PORT>();
        let group = Self {
            id: u16_at(bytes, 2),
            state: AccessState::from(bytes[0] & 0x0f),
            preferred: bit_at(bytes, 0, 7),
            supported: SupportedStates::from(bytes[1]),
            status: StateChange::from(bytes[5]),
            ports: ports.iter().map(|port| u16_at(port, 2)).collect(),
        };
        Ok((group, end))
    }

    fn emit(&self, bytes: &mut Vec<u8>) {
        let count = u8::try_from(self.ports.len()).expect("a group has at most PORTS_MAX ports");
        let mut descriptor = [0; DESCRIPTOR];
        descriptor[0] = flag(self.preferred, 7) | u8::from(self.state) & 0x0f;
        descriptor[1] = self.supported.into();
        put_u16(&mut descriptor, 2, self.id);
        descriptor[5] = self.status.into();
        descriptor[7] = count;
        bytes.extend(descriptor);
        bytes.extend(self.ports.iter().flat_map(|port| {
            let [high, low] = port.to_be_bytes();
            [0, 0, high, low]
        }));
    }
}

/// SET TARGET PORT GROUPS parameter list: the state wanted for each group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetPortGroups {
    pub groups: Vec<(u16, AccessState)>,
}

impl SetPortGroups {
    /// # Errors
    /// See [`ParseError`]; a list that ends within a descriptor is `Truncated`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let Some(list) = bytes.get(LENGTH..).filter(|list| list.len().is_multiple_of(SET_DESCRIPTOR)) else {
            let needed = bytes.len().next_multiple_of(SET_DESCRIPTOR).max(LENGTH);
            return Err(ParseError::Truncated { needed, got: bytes.len() });
        };
        if list.len() / SET_DESCRIPTOR > PORT_GROUPS_MAX {
            return Err(ParseError::TooMany { limit: PORT_GROUPS_MAX });
        }
        let (descriptors, _) = list.as_chunks::<SET_DESCRIPTOR>();
        let wanted = |descriptor: &[u8; SET_DESCRIPTOR]| {
            (u16_at(descriptor, 2), AccessState::from(descriptor[0] & 0x0f))
        };
        Ok(Self { groups: descriptors.iter().map(wanted).collect() })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        for &(id, state) in &self.groups {
            let [high, low] = id.to_be_bytes();
            bytes.extend([u8::from(state) & 0x0f, 0, high, low]);
        }
        bytes
    }
}

impl From<u8> for AccessState {
    /// Takes the four bits of the field.
    fn from(bits: u8) -> Self {
        match bits {
            0x0 => Self::Optimized,
            0x1 => Self::NonOptimized,
            0x2 => Self::Standby,
            0x3 => Self::Unavailable,
            0x4 => Self::LogicalBlockDependent,
            0xe => Self::Offline,
            0xf => Self::Transitioning,
            other => Self::Reserved(other),
        }
    }
}

impl From<AccessState> for u8 {
    fn from(state: AccessState) -> Self {
        match state {
            AccessState::Optimized => 0x0,
            AccessState::NonOptimized => 0x1,
            AccessState::Standby => 0x2,
            AccessState::Unavailable => 0x3,
            AccessState::LogicalBlockDependent => 0x4,
            AccessState::Offline => 0xe,
            AccessState::Transitioning => 0xf,
            AccessState::Reserved(bits) => bits,
        }
    }
}

impl fmt::Display for AccessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Optimized => f.write_str("optimized"),
            Self::NonOptimized => f.write_str("non-optimized"),
            Self::Standby => f.write_str("standby"),
            Self::Unavailable => f.write_str("unavailable"),
            Self::LogicalBlockDependent => f.write_str("lba-dependent"),
            Self::Offline => f.write_str("offline"),
            Self::Transitioning => f.write_str("transitioning"),
            Self::Reserved(bits) => write!(f, "reserved {bits:x}h"),
        }
    }
}

impl From<u8> for SupportedStates {
    fn from(byte: u8) -> Self {
        let supported = |bit: u8| byte >> bit & 1 == 1;
        Self {
            transitioning: supported(7),
            offline: supported(6),
            logical_block_dependent: supported(4),
            unavailable: supported(3),
            standby: supported(2),
            non_optimized: supported(1),
            optimized: supported(0),
        }
    }
}

impl From<SupportedStates> for u8 {
    fn from(states: SupportedStates) -> Self {
        flag(states.transitioning, 7)
            | flag(states.offline, 6)
            | flag(states.logical_block_dependent, 4)
            | flag(states.unavailable, 3)
            | flag(states.standby, 2)
            | flag(states.non_optimized, 1)
            | flag(states.optimized, 0)
    }
}

impl From<u8> for StateChange {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::None,
            1 => Self::Explicit,
            2 => Self::Implicit,
            other => Self::Reserved(other),
        }
    }
}

impl From<StateChange> for u8 {
    fn from(change: StateChange) -> Self {
        match change {
            StateChange::None => 0,
            StateChange::Explicit => 1,
            StateChange::Implicit => 2,
            StateChange::Reserved(byte) => byte,
        }
    }
}

const LENGTH: usize = 4;
const EXTENDED: usize = 8;
const FORMAT_EXTENDED: u8 = 1;
const DESCRIPTOR: usize = 8;
const PORT: usize = 4;
const SET_DESCRIPTOR: usize = 4;
/// All groups with all ports.
const REPORT_LENGTH_MAX: usize = EXTENDED + PORT_GROUPS_MAX * (DESCRIPTOR + PORT * PORTS_MAX);
