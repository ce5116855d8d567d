//! READ CAPACITY parameter data (SBC, 5.15 and 5.16).

#[cfg(test)]
mod tests;

use crate::Lba;
use crate::bytes::{ParseError, bit_at, flag, need, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};

/// The length of READ CAPACITY(16) data.
pub const READ_CAPACITY_16_LENGTH: usize = 32;
/// The length of READ CAPACITY(10) data.
pub const READ_CAPACITY_10_LENGTH: usize = 8;

/// READ CAPACITY(16) parameter data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The last block; so the unit has one block more.
    pub last: Lba,
    /// In bytes.
    pub block_size: u32,
    pub protection: ProtectionType,
    /// Protection information intervals in a block, as a power of two; four bits (P_I_EXPONENT).
    pub protection_interval_exponent: u8,
    /// Logical blocks in a physical block, as a power of two; four bits.
    pub physical_block_exponent: u8,
    /// Unmapping is supported: the unit is provisioned thinly or can be (LBPME).
    pub provisioning_management: bool,
    /// Unmapped blocks read as zeros (LBPRZ).
    pub unmapped_reads_zero: bool,
    /// The first LBA at a physical block boundary; 14 bits.
    pub lowest_aligned: u16,
}

/// Whether and how blocks carry protection information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtectionType {
    #[default]
    None,
    Type1,
    Type2,
    Type3,
    /// A reserved P_TYPE; three bits.
    Reserved(u8),
}

impl Capacity {
    /// A unit without protection, provisioning or physical blocks of another size.
    #[must_use]
    pub const fn new(last: Lba, block_size: u32) -> Self {
        Self {
            last,
            block_size,
            protection: ProtectionType::None,
            protection_interval_exponent: 0,
            physical_block_exponent: 0,
            provisioning_management: false,
            unmapped_reads_zero: false,
            lowest_aligned: 0,
        }
    }

    /// # Errors
    /// If there are fewer than 12 bytes; fields beyond the end, as SBC-2 has it, are zero.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, SHORTEST)?;
        let [protection, exponents] = u16_at(bytes, 12).to_be_bytes();
        Ok(Self {
            last: Lba(u64_at(bytes, 0)),
            block_size: u32_at(bytes, 8),
            protection: match (protection & 1, protection >> 1 & 0b111) {
                (0, _) => ProtectionType::None,
                (_, 0) => ProtectionType::Type1,
                (_, 1) => ProtectionType::Type2,
                (_, 2) => ProtectionType::Type3,
                (_, other) => ProtectionType::Reserved(other),
            },
            protection_interval_exponent: exponents >> 4,
            physical_block_exponent: exponents & 0x0f,
            provisioning_management: bit_at(bytes, 14, 7),
            unmapped_reads_zero: bit_at(bytes, 14, 6),
            lowest_aligned: u16_at(bytes, 14) & 0x3fff,
        })
    }

    #[must_use]
    pub fn emit(&self) -> [u8; READ_CAPACITY_16_LENGTH] {
        let mut bytes = [0; READ_CAPACITY_16_LENGTH];
        put_u64(&mut bytes, 0, self.last.0);
        put_u32(&mut bytes, 8, self.block_size);
        bytes[12] = match self.protection {
            ProtectionType::None => 0,
            ProtectionType::Type1 => 1,
            ProtectionType::Type2 => 1 << 1 | 1,
            ProtectionType::Type3 => 2 << 1 | 1,
            ProtectionType::Reserved(bits) => (bits & 0b111) << 1 | 1,
        };
        bytes[13] = self.protection_interval_exponent << 4 | self.physical_block_exponent & 0x0f;
        put_u16(&mut bytes, 14, self.lowest_aligned & 0x3fff);
        bytes[14] |= flag(self.provisioning_management, 7) | flag(self.unmapped_reads_zero, 6);
        bytes
    }
}

/// READ CAPACITY(10) parameter data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity10 {
    /// The last block; none if the unit is too large to say, and READ CAPACITY(16) has to be asked.
    pub last: Option<Lba>,
    /// In bytes.
    pub block_size: u32,
}

impl Capacity10 {
    /// # Errors
    /// If there are fewer than 8 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, READ_CAPACITY_10_LENGTH)?;
        let last = match u32_at(bytes, 0) {
            u32::MAX => None,
            last => Some(Lba(last.into())),
        };
        Ok(Self { last, block_size: u32_at(bytes, 4) })
    }

    /// A last block that has no 32 bits is emitted as none.
    #[must_use]
    pub fn emit(&self) -> [u8; READ_CAPACITY_10_LENGTH] {
        let mut bytes = [0; READ_CAPACITY_10_LENGTH];
        let last = self.last.and_then(|last| u32::try_from(last.0).ok()).unwrap_or(u32::MAX);
        put_u32(&mut bytes, 0, last);
        put_u32(&mut bytes, 4, self.block_size);
        bytes
    }
}

/// SBC-2 had the LBA and the block length only.
const SHORTEST: usize = 12;
