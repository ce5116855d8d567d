//! PERSISTENT RESERVE OUT parameter lists (SPC, 6.17.3 and 6.17.4).

use alloc::vec;
use alloc::vec::Vec;

use super::{ReservationKey, TransportId};
use crate::bytes::{
    ParseError, bit_at, entries, flag, length32, need, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at,
};

/// The most initiator ports named in one list. A host has a few; a list as long as the field allows could hold
/// millions.
pub const TRANSPORT_IDS_MAX: usize = 64;

/// The list of every service action but REGISTER AND MOVE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReserveOutParameters {
    /// The key that the sender's nexus is registered with.
    pub key: ReservationKey,
    /// The new key, or the key to preempt (SERVICE ACTION RESERVATION KEY).
    pub action_key: ReservationKey,
    /// Initiator ports to register besides the sender (SPEC_I_PT); some emits the list, even if it is empty.
    pub initiators: Option<Vec<TransportId>>,
    /// Register with all target ports (ALL_TG_PT).
    pub all_target_ports: bool,
    /// Registrations are to persist through power loss (APTPL).
    pub persist_through_power_loss: bool,
}

impl ReserveOutParameters {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, LENGTH)?;
        Ok(Self {
            key: ReservationKey(u64_at(bytes, 0)),
            action_key: ReservationKey(u64_at(bytes, 8)),
            initiators: if bit_at(bytes, 20, 3) { Some(initiators(bytes)?) } else { None },
            all_target_ports: bit_at(bytes, 20, 2),
            persist_through_power_loss: bit_at(bytes, 20, 0),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        put_u64(&mut bytes, 0, self.key.0);
        put_u64(&mut bytes, 8, self.action_key.0);
        bytes[20] = flag(self.initiators.is_some(), 3)
            | flag(self.all_target_ports, 2)
            | flag(self.persist_through_power_loss, 0);
        if let Some(initiators) = &self.initiators {
            let list: Vec<u8> = initiators.iter().flat_map(TransportId::emit).collect();
            bytes.extend(length32(list.len()).to_be_bytes());
            bytes.extend(list);
        }
        bytes
    }
}

fn initiators(bytes: &[u8]) -> Result<Vec<TransportId>, ParseError> {
    need(bytes, LIST)?;
    let end = LIST.saturating_add(u32_at(bytes, LENGTH) as usize);
    need(bytes, end)?;
    entries(&bytes[LIST..end], LIST, TRANSPORT_IDS_MAX, TransportId::parse)
}

/// The list of REGISTER AND MOVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveParameters {
    pub key: ReservationKey,
    /// The key that the new holder is registered with afterwards.
    pub action_key: ReservationKey,
    /// Unregister the sender (UNREG).
    pub unregister: bool,
    pub persist_through_power_loss: bool,
    /// The relative target port identifier of the new holder's nexus.
    pub port: u16,
    pub initiator: TransportId,
}

impl MoveParameters {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, LENGTH)?;
        let end = LENGTH.saturating_add(u32_at(bytes, 20) as usize);
        need(bytes, end)?;
        let (initiator, _) = TransportId::parse(&bytes[LENGTH..end])?;
        Ok(Self {
            key: ReservationKey(u64_at(bytes, 0)),
            action_key: ReservationKey(u64_at(bytes, 8)),
            unregister: bit_at(bytes, 17, 1),
            persist_through_power_loss: bit_at(bytes, 17, 0),
            port: u16_at(bytes, 18),
            initiator,
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let initiator = self.initiator.emit();
        let mut bytes = vec![0; LENGTH];
        put_u64(&mut bytes, 0, self.key.0);
        put_u64(&mut bytes, 8, self.action_key.0);
        bytes[17] = flag(self.unregister, 1) | flag(self.persist_through_power_loss, 0);
        put_u16(&mut bytes, 18, self.port);
        put_u32(&mut bytes, 20, length32(initiator.len()));
        bytes.extend(initiator);
        bytes
    }
}

const LENGTH: usize = 24;
/// Where the TransportIDs begin, behind their length.
const LIST: usize = LENGTH + 4;
