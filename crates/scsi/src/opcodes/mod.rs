//! What a device server supports: REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT
//! FUNCTIONS parameter data (SPC, 6.35 and 6.36).

#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{
    ParseError, bit_at, entries, flag, length16, length32, need, put_u16, put_u32, u16_at, u32_at,
};

/// The most commands taken from one list: all operation codes, and as many service actions again three times.
pub const OPERATIONS_MAX: usize = 1024;
/// The longest CDB there can be: a variable-length one (SPC, 4.2.3).
pub const USAGE_LENGTH_MAX: usize = 260;

/// All commands (REPORTING OPTIONS 000b).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SupportedOperations {
    pub operations: Vec<SupportedOperation>,
}

/// One command of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedOperation {
    pub code: u8,
    /// If the operation code has service actions (SERVACTV).
    pub service_action: Option<u16>,
    /// In bytes.
    pub cdb_length: u16,
    pub timeouts: Option<CommandTimeouts>,
}

/// How long a command takes, in seconds; zero if the device server does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandTimeouts {
    pub command_specific: u8,
    pub nominal_secs: u32,
    pub recommended_secs: u32,
}

impl SupportedOperations {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, HEADER)?;
        let end = HEADER.saturating_add(u32_at(bytes, 0) as usize);
        if end > HEADER + OPERATIONS_MAX * (OPERATION + TIMEOUTS) {
            return Err(ParseError::TooMany { limit: OPERATIONS_MAX });
        }
        need(bytes, end)?;
        let operations = entries(&bytes[HEADER..end], HEADER, OPERATIONS_MAX, SupportedOperation::parse)?;
        Ok(Self { operations })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        for operation in &self.operations {
            operation.emit(&mut bytes);
        }
        let length = length32(bytes.len() - HEADER);
        put_u32(&mut bytes, 0, length);
        bytes
    }
}

impl SupportedOperation {
    fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        need(bytes, OPERATION)?;
        let timed = bit_at(bytes, 5, 1);
        let end = if timed { OPERATION + TIMEOUTS } else { OPERATION };
        let operation = Self {
            code: bytes[0],
            service_action: bit_at(bytes, 5, 0).then(|| u16_at(bytes, 2)),
            cdb_length: u16_at(bytes, 6),
            timeouts: if timed { Some(CommandTimeouts::parse(&bytes[OPERATION..])?) } else { None },
        };
        Ok((operation, end))
    }

    fn emit(&self, bytes: &mut Vec<u8>) {
        let mut descriptor = [0; OPERATION];
        descriptor[0] = self.code;
        put_u16(&mut descriptor, 2, self.service_action.unwrap_or(0));
        descriptor[5] = flag(self.timeouts.is_some(), 1) | flag(self.service_action.is_some(), 0);
        put_u16(&mut descriptor, 6, self.cdb_length);
        bytes.extend(descriptor);
        bytes.extend(self.timeouts.iter().flat_map(CommandTimeouts::emit));
    }
}

impl CommandTimeouts {
    fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, TIMEOUTS)?;
        if u16_at(bytes, 0) != TIMEOUTS_LENGTH_FIELD {
            return Err(ParseError::Malformed { byte: 0 });
        }
        Ok(Self {
            command_specific: bytes[3],
            nominal_secs: u32_at(bytes, 4),
            recommended_secs: u32_at(bytes, 8),
        })
    }

    fn emit(&self) -> [u8; TIMEOUTS] {
        let mut bytes = [0; TIMEOUTS];
        put_u16(&mut bytes, 0, TIMEOUTS_LENGTH_FIELD);
        bytes[3] = self.command_specific;
        put_u32(&mut bytes, 4, self.nominal_secs);
        put_u32(&mut bytes, 8, self.recommended_secs);
        bytes
    }
}

/// One command (REPORTING OPTIONS 001b to 011b).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOperation {
    pub support: Support,
    /// The CDB with the operation code, and one bits wherever the device server looks; empty if the command is not
    /// supported. At most [`USAGE_LENGTH_MAX`] bytes.
    pub usage: Vec<u8>,
    pub timeouts: Option<CommandTimeouts>,
}

/// Whether a command is supported (SUPPORT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The device server cannot say right now.
    NotAvailable,
    No,
    /// As the standard has it.
    Standard,
    /// In a vendor's own way.
    Vendor,
    /// Three bits.
    Reserved(u8),
}

impl OneOperation {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, HEADER)?;
        let length = usize::from(u16_at(bytes, 2));
        if length > USAGE_LENGTH_MAX {
            return Err(ParseError::TooMany { limit: USAGE_LENGTH_MAX });
        }
        need(bytes, HEADER + length)?;
        let (usage, rest) = bytes[HEADER..].split_at(length);
        Ok(Self {
            support: Support::from(bytes[1] & 0b111),
            usage: usage.to_vec(),
            timeouts: if bit_at(bytes, 1, 7) { Some(CommandTimeouts::parse(rest)?) } else { None },
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[1] = flag(self.timeouts.is_some(), 7) | u8::from(self.support) & 0b111;
        put_u16(&mut bytes, 2, length16(self.usage.len()));
        bytes.extend_from_slice(&self.usage);
        bytes.extend(self.timeouts.iter().flat_map(CommandTimeouts::emit));
        bytes
    }
}

impl From<u8> for Support {
    /// Takes the low three bits.
    fn from(bits: u8) -> Self {
        match bits & 0b111 {
            0 => Self::NotAvailable,
            1 => Self::No,
            3 => Self::Standard,
            5 => Self::Vendor,
            other => Self::Reserved(other),
        }
    }
}

impl From<Support> for u8 {
    fn from(support: Support) -> Self {
        match support {
            Support::NotAvailable => 0,
            Support::No => 1,
            Support::Standard => 3,
            Support::Vendor => 5,
            Support::Reserved(bits) => bits,
        }
    }
}

/// Which task management functions are supported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SupportedTaskManagement {
    pub abort_task: bool,
    pub abort_task_set: bool,
    pub clear_aca: bool,
    pub clear_task_set: bool,
    pub logical_unit_reset: bool,
    pub query_task: bool,
    /// TARGET RESET, obsolete since SAM-3.
    pub target_reset: bool,
    pub query_asynchronous_event: bool,
    pub query_task_set: bool,
    pub nexus_reset: bool,
    /// Some in the extended parameter data (REPD).
    pub timeouts: Option<TaskManagementTimeouts>,
}

/// How long task management functions may take, in units of 100 ms; zero if the device server does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskManagementTimeouts {
    /// The values are valid (TMFTMOV).
    pub valid: bool,
    pub long: u32,
    pub short: u32,
}

impl SupportedTaskManagement {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, HEADER)?;
        let additional = usize::from(bytes[3]);
        need(bytes, HEADER + additional)?;
        let timeouts = TaskManagementTimeouts {
            valid: bit_at(bytes, 4, 0),
            long: u32_at(bytes, 8),
            short: u32_at(bytes, 12),
        };
        Ok(Self {
            abort_task: bit_at(bytes, 0, 7),
            abort_task_set: bit_at(bytes, 0, 6),
            clear_aca: bit_at(bytes, 0, 5),
            clear_task_set: bit_at(bytes, 0, 4),
            logical_unit_reset: bit_at(bytes, 0, 3),
            query_task: bit_at(bytes, 0, 2),
            target_reset: bit_at(bytes, 0, 1),
            query_asynchronous_event: bit_at(bytes, 1, 2),
            query_task_set: bit_at(bytes, 1, 1),
            nexus_reset: bit_at(bytes, 1, 0),
            timeouts: (additional >= usize::from(EXTENDED_AFTER_4)).then_some(timeouts),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[0] = flag(self.abort_task, 7)
            | flag(self.abort_task_set, 6)
            | flag(self.clear_aca, 5)
            | flag(self.clear_task_set, 4)
            | flag(self.logical_unit_reset, 3)
            | flag(self.query_task, 2)
            | flag(self.target_reset, 1);
        bytes[1] =
            flag(self.query_asynchronous_event, 2) | flag(self.query_task_set, 1) | flag(self.nexus_reset, 0);
        if let Some(timeouts) = self.timeouts {
            bytes[3] = EXTENDED_AFTER_4;
            bytes.extend([flag(timeouts.valid, 0), 0, 0, 0]);
            bytes.extend(timeouts.long.to_be_bytes());
            bytes.extend(timeouts.short.to_be_bytes());
        }
        bytes
    }
}

const HEADER: usize = 4;
const OPERATION: usize = 8;
const TIMEOUTS: usize = 12;
const TIMEOUTS_LENGTH_FIELD: u16 = 10;
const EXTENDED_AFTER_4: u8 = 12;
