//! Persistent reservations (SPC, 5.13, 6.16 and 6.17).

mod parameters;
#[cfg(test)]
mod tests;
mod transport_id;

use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{
    ParseError, bit_at, entries, flag, length32, need, put, put_u16, put_u32, u16_at, u32_at, u64_at,
};

pub use parameters::{MoveParameters, ReserveOutParameters, TRANSPORT_IDS_MAX};
pub use transport_id::{ISCSI_NAME_LENGTH_MAX, TransportId};

/// The most registrations taken from one report. Arrays keep some hundreds for a unit; the two-byte allocation
/// length of PERSISTENT RESERVE IN could name 8,191.
pub const REGISTRATIONS_MAX: usize = 4096;

/// A reservation key. Zero means "not registered".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationKey(pub u64);

/// READ KEYS parameter data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Counts changes of registrations (PRGENERATION).
    pub generation: u32,
    /// One for each registered nexus, so that keys repeat.
    pub keys: Vec<ReservationKey>,
}

impl Keys {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (generation, list) = list(bytes)?;
        let (keys, rest) = list.as_chunks::<KEY>();
        if keys.len() > REGISTRATIONS_MAX {
            return Err(ParseError::TooMany { limit: REGISTRATIONS_MAX });
        }
        if !rest.is_empty() {
            return Err(ParseError::Malformed { byte: 4 });
        }
        Ok(Self {
            generation,
            keys: keys.iter().map(|key| ReservationKey(u64::from_be_bytes(*key))).collect(),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let keys: Vec<u8> = self.keys.iter().flat_map(|key| key.0.to_be_bytes()).collect();
        emit_list(self.generation, &keys)
    }
}

/// READ RESERVATION parameter data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CurrentReservation {
    pub generation: u32,
    pub reservation: Option<Reservation>,
}

/// Who holds the reservation, and what it forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Zero if all registrants hold it.
    pub key: ReservationKey,
    pub scope: Scope,
    pub kind: ReservationType,
}

impl CurrentReservation {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (generation, list) = list(bytes)?;
        if list.is_empty() {
            return Ok(Self { generation, reservation: None });
        }
        if list.len() < RESERVATION {
            return Err(ParseError::Malformed { byte: 4 });
        }
        let reservation = Reservation {
            key: ReservationKey(u64_at(list, 0)),
            scope: Scope::from(list[13] >> 4),
            kind: ReservationType::from(list[13] & 0x0f),
        };
        Ok(Self { generation, reservation: Some(reservation) })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let Some(Reservation { key, scope, kind }) = self.reservation else {
            return emit_list(self.generation, &[]);
        };
        let mut list = [0; RESERVATION];
        put(&mut list, 0, key.0.to_be_bytes());
        list[13] = scope_and_type(scope, kind);
        emit_list(self.generation, &list)
    }
}

/// REPORT CAPABILITIES parameter data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservationCapabilities {
    /// REPLACE LOST RESERVATION is supported (RLR_C).
    pub replace_lost: bool,
    /// RESERVE(6) and RELEASE(6) get along with reservations (CRH).
    pub compatible_handling: bool,
    /// Initiator ports may be named in PERSISTENT RESERVE OUT (SIP_C).
    pub specify_initiator_ports: bool,
    /// A registration may cover all target ports (ATP_C).
    pub all_target_ports: bool,
    /// Registrations can persist through power loss (PTPL_C).
    pub persist_through_power_loss: bool,
    /// They do now (PTPL_A).
    pub persistence_active: bool,
    /// Which commands others may send although they are excluded; three bits (ALLOW COMMANDS).
    pub allow_commands: u8,
    /// Which types are supported; none if the device server does not say (TMV).
    pub types: Option<SupportedTypes>,
}

/// Which reservation types a device server supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SupportedTypes {
    pub write_exclusive: bool,
    pub exclusive_access: bool,
    pub write_exclusive_registrants_only: bool,
    pub exclusive_access_registrants_only: bool,
    pub write_exclusive_all_registrants: bool,
    pub exclusive_access_all_registrants: bool,
}

impl SupportedTypes {
    /// What an ordinary device server supports.
    pub const ALL: Self = Self {
        write_exclusive: true,
        exclusive_access: true,
        write_exclusive_registrants_only: true,
        exclusive_access_registrants_only: true,
        write_exclusive_all_registrants: true,
        exclusive_access_all_registrants: true,
    };
}

impl ReservationCapabilities {
    /// # Errors
    /// If there are fewer than 8 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, CAPABILITIES)?;
        let types = SupportedTypes {
            write_exclusive_all_registrants: bit_at(bytes, 4, 7),
            exclusive_access_registrants_only: bit_at(bytes, 4, 6),
            write_exclusive_registrants_only: bit_at(bytes, 4, 5),
            exclusive_access: bit_at(bytes, 4, 3),
            write_exclusive: bit_at(bytes, 4, 1),
            exclusive_access_all_registrants: bit_at(bytes, 5, 0),
        };
        Ok(Self {
            replace_lost: bit_at(bytes, 2, 7),
            compatible_handling: bit_at(bytes, 2, 4),
            specify_initiator_ports: bit_at(bytes, 2, 3),
            all_target_ports: bit_at(bytes, 2, 2),
            persist_through_power_loss: bit_at(bytes, 2, 0),
            persistence_active: bit_at(bytes, 3, 0),
            allow_commands: bytes[3] >> 4 & 0b111,
            types: bit_at(bytes, 3, 7).then_some(types),
        })
    }

    #[must_use]
    pub fn emit(&self) -> [u8; CAPABILITIES] {
        let mut bytes = [0; CAPABILITIES];
        put_u16(&mut bytes, 0, CAPABILITIES_LENGTH_FIELD);
        bytes[2] = flag(self.replace_lost, 7)
            | flag(self.compatible_handling, 4)
            | flag(self.specify_initiator_ports, 3)
            | flag(self.all_target_ports, 2)
            | flag(self.persist_through_power_loss, 0);
        bytes[3] = flag(self.types.is_some(), 7)
            | (self.allow_commands & 0b111) << 4
            | flag(self.persistence_active, 0);
        if let Some(types) = self.types {
            bytes[4] = flag(types.write_exclusive_all_registrants, 7)
                | flag(types.exclusive_access_registrants_only, 6)
                | flag(types.write_exclusive_registrants_only, 5)
                | flag(types.exclusive_access, 3)
                | flag(types.write_exclusive, 1);
            bytes[5] = flag(types.exclusive_access_all_registrants, 0);
        }
        bytes
    }
}

/// READ FULL STATUS parameter data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullStatus {
    pub generation: u32,
    pub registrations: Vec<Registration>,
}

/// One registered nexus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub key: ReservationKey,
    /// It covers all target ports, so that `port` means nothing (ALL_TG_PT).
    pub all_target_ports: bool,
    /// It holds the reservation, of this scope and type (R_HOLDER).
    pub holds: Option<(Scope, ReservationType)>,
    /// The relative target port identifier.
    pub port: u16,
    pub initiator: TransportId,
}

impl FullStatus {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (generation, list) = list(bytes)?;
        let registrations = entries(list, HEADER, REGISTRATIONS_MAX, Registration::parse)?;
        Ok(Self { generation, registrations })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let list: Vec<u8> = self.registrations.iter().flat_map(Registration::emit).collect();
        emit_list(self.generation, &list)
    }
}

impl Registration {
    fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        need(bytes, REGISTRATION)?;
        let end = REGISTRATION.saturating_add(u32_at(bytes, 20) as usize);
        need(bytes, end)?;
        let (initiator, _) = TransportId::parse(&bytes[REGISTRATION..end])?;
        let kind = (Scope::from(bytes[13] >> 4), ReservationType::from(bytes[13] & 0x0f));
        let registration = Self {
            key: ReservationKey(u64_at(bytes, 0)),
            all_target_ports: bit_at(bytes, 12, 1),
            holds: bit_at(bytes, 12, 0).then_some(kind),
            port: u16_at(bytes, 18),
            initiator,
        };
        Ok((registration, end))
    }

    fn emit(&self) -> Vec<u8> {
        let initiator = self.initiator.emit();
        let mut bytes = vec![0; REGISTRATION];
        put(&mut bytes, 0, self.key.0.to_be_bytes());
        bytes[12] = flag(self.all_target_ports, 1) | flag(self.holds.is_some(), 0);
        bytes[13] = self.holds.map_or(0, |(scope, kind)| scope_and_type(scope, kind));
        put_u16(&mut bytes, 18, self.port);
        put_u32(&mut bytes, 20, length32(initiator.len()));
        bytes.extend(initiator);
        bytes
    }
}

/// PRGENERATION, and the list behind ADDITIONAL LENGTH.
fn list(bytes: &[u8]) -> Result<(u32, &[u8]), ParseError> {
    need(bytes, HEADER)?;
    let end = HEADER.saturating_add(u32_at(bytes, 4) as usize);
    need(bytes, end)?;
    Ok((u32_at(bytes, 0), &bytes[HEADER..end]))
}

fn emit_list(generation: u32, list: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    put_u32(&mut bytes, 0, generation);
    put_u32(&mut bytes, 4, length32(list.len()));
    bytes.extend_from_slice(list);
    bytes
}

fn scope_and_type(scope: Scope, kind: ReservationType) -> u8 {
    u8::from(scope) << 4 | u8::from(kind) & 0x0f
}

/// What a reservation covers (SPC, 6.16.3: SCOPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    LogicalUnit,
    /// Obsolete or reserved; four bits.
    Other(u8),
}

/// What a reservation forbids to others (SPC, 6.16.3.4: TYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationType {
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrantsOnly,
    ExclusiveAccessRegistrantsOnly,
    WriteExclusiveAllRegistrants,
    ExclusiveAccessAllRegistrants,
    /// Obsolete or reserved; four bits.
    Other(u8),
}

impl From<u8> for Scope {
    /// Takes the four bits of the field.
    fn from(bits: u8) -> Self {
        if bits == 0 { Self::LogicalUnit } else { Self::Other(bits) }
    }
}

impl From<Scope> for u8 {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::LogicalUnit => 0,
            Scope::Other(bits) => bits,
        }
    }
}

impl From<u8> for ReservationType {
    /// Takes the four bits of the field.
    fn from(bits: u8) -> Self {
        match bits {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            other => Self::Other(other),
        }
    }
}

impl From<ReservationType> for u8 {
    fn from(kind: ReservationType) -> Self {
        match kind {
            ReservationType::WriteExclusive => 1,
            ReservationType::ExclusiveAccess => 3,
            ReservationType::WriteExclusiveRegistrantsOnly => 5,
            ReservationType::ExclusiveAccessRegistrantsOnly => 6,
            ReservationType::WriteExclusiveAllRegistrants => 7,
            ReservationType::ExclusiveAccessAllRegistrants => 8,
            ReservationType::Other(bits) => bits,
        }
    }
}

const HEADER: usize = 8;
const KEY: usize = 8;
const RESERVATION: usize = 16;
const CAPABILITIES: usize = 8;
const CAPABILITIES_LENGTH_FIELD: u16 = 8;
/// A full status descriptor without its TransportID.
const REGISTRATION: usize = 24;
