//! VPD pages B0h, B1h and B2h of block devices (SBC, 6.6).

use alloc::vec::Vec;

use super::{BLOCK_CHARACTERISTICS, BLOCK_LIMITS, Designator, LOGICAL_PROVISIONING, emit_page, page};
use crate::bytes::{ParseError, bit_at, flag, put_u16, put_u32, put_u64, u8_at, u16_at, u32_at, u64_at};
use crate::inquiry::Peripheral;

/// VPD page B0h. Lengths are in logical blocks; zero means that the device server reports no limit, except that
/// zero in `compare_and_write_max` and `unmap_blocks_max` means that the command is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimitsPage {
    pub peripheral: Peripheral,
    /// WRITE SAME of zero blocks is refused (WSNZ).
    pub write_same_non_zero: bool,
    /// Also the limit of a VERIFY with BYTCHK.
    pub compare_and_write_max: u8,
    pub transfer_granularity: u16,
    pub transfer_max: u32,
    pub transfer_optimal: u32,
    pub prefetch_max: u32,
    pub unmap_blocks_max: u32,
    pub unmap_descriptors_max: u32,
    pub unmap_granularity: u32,
    /// The first LBA that the granularity counts from, if valid (UGAVALID); 31 bits.
    pub unmap_alignment: Option<u32>,
    pub write_same_max: u64,
    pub atomic_transfer_max: u32,
    pub atomic_alignment: u32,
    pub atomic_granularity: u32,
    pub atomic_transfer_with_boundary_max: u32,
    pub atomic_boundary_max: u32,
}

impl BlockLimitsPage {
    /// A page that reports no limit and no optional command.
    #[must_use]
    pub const fn new(peripheral: Peripheral) -> Self {
        Self {
            peripheral,
            write_same_non_zero: false,
            compare_and_write_max: 0,
            transfer_granularity: 0,
            transfer_max: 0,
            transfer_optimal: 0,
            prefetch_max: 0,
            unmap_blocks_max: 0,
            unmap_descriptors_max: 0,
            unmap_granularity: 0,
            unmap_alignment: None,
            write_same_max: 0,
            atomic_transfer_max: 0,
            atomic_alignment: 0,
            atomic_granularity: 0,
            atomic_transfer_with_boundary_max: 0,
            atomic_boundary_max: 0,
        }
    }

    /// # Errors
    /// See [`ParseError`]. The short page of SBC-2 is whole; what it lacks reads as zero.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (peripheral, limits) = page(bytes, BLOCK_LIMITS)?;
        Ok(Self {
            peripheral,
            write_same_non_zero: bit_at(limits, 0, 0),
            compare_and_write_max: u8_at(limits, 1),
            transfer_granularity: u16_at(limits, 2),
            transfer_max: u32_at(limits, 4),
            transfer_optimal: u32_at(limits, 8),
            prefetch_max: u32_at(limits, 12),
            unmap_blocks_max: u32_at(limits, 16),
            unmap_descriptors_max: u32_at(limits, 20),
            unmap_granularity: u32_at(limits, 24),
            unmap_alignment: bit_at(limits, 28, 7).then(|| u32_at(limits, 28) & !UGAVALID),
            write_same_max: u64_at(limits, 32),
            atomic_transfer_max: u32_at(limits, 40),
            atomic_alignment: u32_at(limits, 44),
            atomic_granularity: u32_at(limits, 48),
            atomic_transfer_with_boundary_max: u32_at(limits, 52),
            atomic_boundary_max: u32_at(limits, 56),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut limits = [0; PAYLOAD];
        limits[0] = flag(self.write_same_non_zero, 0);
        limits[1] = self.compare_and_write_max;
        put_u16(&mut limits, 2, self.transfer_granularity);
        put_u32(&mut limits, 4, self.transfer_max);
        put_u32(&mut limits, 8, self.transfer_optimal);
        put_u32(&mut limits, 12, self.prefetch_max);
        put_u32(&mut limits, 16, self.unmap_blocks_max);
        put_u32(&mut limits, 20, self.unmap_descriptors_max);
        put_u32(&mut limits, 24, self.unmap_granularity);
        put_u32(&mut limits, 28, self.unmap_alignment.map_or(0, |alignment| UGAVALID | alignment));
        put_u64(&mut limits, 32, self.write_same_max);
        put_u32(&mut limits, 40, self.atomic_transfer_max);
        put_u32(&mut limits, 44, self.atomic_alignment);
        put_u32(&mut limits, 48, self.atomic_granularity);
        put_u32(&mut limits, 52, self.atomic_transfer_with_boundary_max);
        put_u32(&mut limits, 56, self.atomic_boundary_max);
        emit_page(self.peripheral, BLOCK_LIMITS, &limits)
    }
}

/// VPD page B1h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCharacteristicsPage {
    pub peripheral: Peripheral,
    /// Revolutions in a minute; 0 not reported, 1 not rotating.
    pub rotation_rate: u16,
    pub product_type: u8,
    /// Four bits: 1h 5.25 inch, 2h 3.5, 3h 2.5, 4h 1.8, 5h less.
    pub form_factor: u8,
    /// FUA may be satisfied by non-volatile cache (FUAB).
    pub force_unit_access_behaviour: bool,
    /// VERIFY with BYTCHK works on unmapped blocks (VBULS).
    pub verify_unmapped_supported: bool,
}

impl BlockCharacteristicsPage {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (peripheral, payload) = page(bytes, BLOCK_CHARACTERISTICS)?;
        Ok(Self {
            peripheral,
            rotation_rate: u16_at(payload, 0),
            product_type: u8_at(payload, 2),
            form_factor: u8_at(payload, 3) & 0x0f,
            force_unit_access_behaviour: bit_at(payload, 4, 1),
            verify_unmapped_supported: bit_at(payload, 4, 0),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut payload = [0; PAYLOAD];
        put_u16(&mut payload, 0, self.rotation_rate);
        payload[2] = self.product_type;
        payload[3] = self.form_factor & 0x0f;
        payload[4] = flag(self.force_unit_access_behaviour, 1) | flag(self.verify_unmapped_supported, 0);
        emit_page(self.peripheral, BLOCK_CHARACTERISTICS, &payload)
    }
}

/// VPD page B2h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalProvisioningPage {
    pub peripheral: Peripheral,
    /// Blocks of a threshold set, as a power of two; zero without thresholds.
    pub threshold_exponent: u8,
    /// UNMAP is supported (LBPU).
    pub unmap: bool,
    /// WRITE SAME(16) with UNMAP is supported (LBPWS).
    pub write_same_16: bool,
    /// WRITE SAME(10) with UNMAP is supported (LBPWS10).
    pub write_same_10: bool,
    /// Unmapped blocks read as zeros (LBPRZ, three bits: 000b unspecified, xx1b zeros, 010b the provisioning
    /// initialization pattern).
    pub reads: u8,
    /// Anchored blocks are supported (ANC_SUP).
    pub anchor: bool,
    /// Five bits.
    pub percentage_min: u8,
    pub kind: ProvisioningType,
    /// Five bits.
    pub threshold_percentage: u8,
    /// The pool that the unit takes its blocks from, if told (DP).
    pub group: Option<Designator>,
}

/// How a unit is provisioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProvisioningType {
    /// Fully, or not reported.
    #[default]
    Full,
    Resource,
    Thin,
    /// Three bits.
    Reserved(u8),
}

impl LogicalProvisioningPage {
    /// A page that says no more than that nothing is supported.
    #[must_use]
    pub const fn new(peripheral: Peripheral) -> Self {
        Self {
            peripheral,
            threshold_exponent: 0,
            unmap: false,
            write_same_16: false,
            write_same_10: false,
            reads: 0,
            anchor: false,
            percentage_min: 0,
            kind: ProvisioningType::Full,
            threshold_percentage: 0,
            group: None,
        }
    }

    #[must_use]
    pub const fn unmapped_reads_zero(&self) -> bool {
        self.reads & 1 == 1
    }

    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (peripheral, payload) = page(bytes, LOGICAL_PROVISIONING)?;
        let group = match payload.get(4..) {
            Some(group) if bit_at(payload, 1, 0) => Some(Designator::parse(group)?.0),
            _ => None,
        };
        Ok(Self {
            peripheral,
            threshold_exponent: u8_at(payload, 0),
            unmap: bit_at(payload, 1, 7),
            write_same_16: bit_at(payload, 1, 6),
            write_same_10: bit_at(payload, 1, 5),
            reads: u8_at(payload, 1) >> 2 & 0b111,
            anchor: bit_at(payload, 1, 1),
            percentage_min: u8_at(payload, 2) >> 3,
            kind: ProvisioningType::from(u8_at(payload, 2) & 0b111),
            threshold_percentage: u8_at(payload, 3) & 0x1f,
            group,
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut payload = Vec::from([
            self.threshold_exponent,
            flag(self.unmap, 7)
                | flag(self.write_same_16, 6)
                | flag(self.write_same_10, 5)
                | (self.reads & 0b111) << 2
                | flag(self.anchor, 1)
                | flag(self.group.is_some(), 0),
            self.percentage_min << 3 | u8::from(self.kind) & 0b111,
            self.threshold_percentage & 0x1f,
        ]);
        payload.extend(self.group.iter().flat_map(Designator::emit));
        emit_page(self.peripheral, LOGICAL_PROVISIONING, &payload)
    }
}

impl From<u8> for ProvisioningType {
    /// Takes the low three bits.
    fn from(bits: u8) -> Self {
        match bits & 0b111 {
            0 => Self::Full,
            1 => Self::Resource,
            2 => Self::Thin,
            other => Self::Reserved(other),
        }
    }
}

impl From<ProvisioningType> for u8 {
    fn from(kind: ProvisioningType) -> Self {
        match kind {
            ProvisioningType::Full => 0,
            ProvisioningType::Resource => 1,
            ProvisioningType::Thin => 2,
            ProvisioningType::Reserved(bits) => bits,
        }
    }
}

const UGAVALID: u32 = 1 << 31;
/// Pages B0h and B1h are 64 bytes since SBC-3.
const PAYLOAD: usize = 60;
