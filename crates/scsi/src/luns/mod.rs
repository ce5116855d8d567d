//! Logical unit numbers (SAM, 4.7) and the REPORT LUNS list (SPC, 6.32).

#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::bytes::{ParseError, length32, need, put_u32, u16_at, u32_at};

/// The most LUNs that are taken from one report. The two-level forms in use address 16,384 units on a target;
/// a longer list is a target gone wrong, and would be 128 KiB and more of it.
pub const LUNS_MAX: usize = 16_384;

/// A logical unit number as it is on the wire: eight bytes, compared whole (SAM, 4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lun(pub [u8; 8]);

/// How the first level of a LUN addresses (SAM, 4.7.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LunFormat {
    /// Peripheral device addressing: bus and target or LUN, six and eight bits.
    Peripheral { bus: u8, unit: u8 },
    /// Flat space addressing: 14 bits.
    Flat(u16),
    /// Logical unit addressing of a device on a bus of the target.
    LogicalUnit { target: u8, bus: u8, unit: u8 },
    /// Extended flat space addressing: 24 bits.
    ExtendedFlat(u32),
    /// A well known logical unit: 01h REPORT LUNS, 02h ACCESS CONTROLS, 03h TARGET LOG PAGES.
    WellKnown(u8),
    /// Another extended form, or none that is specified; the first byte.
    Other(u8),
}

impl Lun {
    /// The REPORT LUNS well known logical unit.
    pub const REPORT_LUNS: Self = Self([0xc1, 0x01, 0, 0, 0, 0, 0, 0]);

    #[must_use]
    pub const fn format(self) -> LunFormat {
        let [first, second, third, fourth, ..] = self.0;
        match first >> 6 {
            0b00 => LunFormat::Peripheral { bus: first & 0x3f, unit: second },
            0b01 => LunFormat::Flat(u16::from_be_bytes([first & 0x3f, second])),
            0b10 => LunFormat::LogicalUnit { target: first & 0x3f, bus: second >> 5, unit: second & 0x1f },
            _ => match first {
                0xc1 => LunFormat::WellKnown(second),
                0xd2 => LunFormat::ExtendedFlat(u32::from_be_bytes([0, second, third, fourth])),
                _ => LunFormat::Other(first),
            },
        }
    }

    #[must_use]
    pub const fn is_well_known(self) -> bool {
        matches!(self.format(), LunFormat::WellKnown(_))
    }
}

impl From<u16> for Lun {
    /// The form that targets use for a single level: peripheral device addressing below 256, flat space below
    /// 16,384, extended flat space above.
    fn from(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        match number {
            0..=0xff => Self([0, low, 0, 0, 0, 0, 0, 0]),
            0x100..=0x3fff => Self([0x40 | high, low, 0, 0, 0, 0, 0, 0]),
            _ => Self([0xd2, 0, high, low, 0, 0, 0, 0]),
        }
    }
}

impl fmt::Display for Lun {
    /// The number that Linux prints: each two-byte level is a 16-bit digit, the first level the lowest; so unit 5
    /// is `5` and flat space unit 300 is `16684`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = (0..4).map(|level| u64::from(u16_at(&self.0, 2 * level)) << (16 * level));
        write!(f, "{}", levels.sum::<u64>())
    }
}

/// REPORT LUNS parameter data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LunList {
    pub luns: Vec<Lun>,
}

impl LunList {
    /// # Errors
    /// `Truncated` says how large an allocation length takes the whole list; `TooMany` beyond [`LUNS_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, HEADER)?;
        let length = u32_at(bytes, 0) as usize;
        if length / LUN_LENGTH > LUNS_MAX {
            return Err(ParseError::TooMany { limit: LUNS_MAX });
        }
        if !length.is_multiple_of(LUN_LENGTH) {
            return Err(ParseError::Malformed { byte: 0 });
        }
        need(bytes, HEADER + length)?;
        let (list, _) = bytes[HEADER..HEADER + length].as_chunks::<LUN_LENGTH>();
        Ok(Self { luns: list.iter().copied().map(Lun).collect() })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let length = self.luns.len() * LUN_LENGTH;
        let mut bytes = vec![0; HEADER];
        put_u32(&mut bytes, 0, length32(length));
        bytes.extend(self.luns.iter().flat_map(|lun| lun.0));
        bytes
    }
}

const HEADER: usize = 8;
const LUN_LENGTH: usize = 8;
