//! The UNMAP parameter list (SBC, 5.35) and GET LBA STATUS parameter data (SBC, 5.6).

#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{ParseError, length16, length32, need, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};
use crate::{Blocks, Lba};

/// The most extents of one UNMAP: what its two-byte length can say. A unit reports less (VPD B0h).
pub const UNMAP_EXTENTS_MAX: usize = (u16::MAX as usize - (HEADER - 2)) / DESCRIPTOR;

/// The most extents taken from one GET LBA STATUS: 128 KiB of them. The rest is asked for from where they end.
pub const LBA_STATUS_MAX: usize = 8192;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub lba: Lba,
    pub blocks: Blocks,
}

/// UNMAP parameter list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnmapList {
    /// At most [`UNMAP_EXTENTS_MAX`].
    pub extents: Vec<Extent>,
}

impl UnmapList {
    /// A descriptor that is cut off by its own list's length is ignored, as SBC asks.
    ///
    /// # Errors
    /// If fewer bytes were sent than the list says it has.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, HEADER)?;
        let end = HEADER + usize::from(u16_at(bytes, 2));
        need(bytes, end)?;
        let (descriptors, _) = bytes[HEADER..end].as_chunks::<DESCRIPTOR>();
        Ok(Self { extents: descriptors.iter().map(Extent::parse).collect() })
    }

    /// # Panics
    /// If there are more than [`UNMAP_EXTENTS_MAX`] extents.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        assert!(self.extents.len() <= UNMAP_EXTENTS_MAX, "a list holds at most UNMAP_EXTENTS_MAX extents");
        let length = self.extents.len() * DESCRIPTOR;
        let mut bytes = vec![0; HEADER];
        put_u16(&mut bytes, 0, length16(HEADER - 2 + length));
        put_u16(&mut bytes, 2, length16(length));
        bytes.extend(self.extents.iter().flat_map(Extent::emit));
        bytes
    }
}

impl Extent {
    fn parse(descriptor: &[u8; DESCRIPTOR]) -> Self {
        Self { lba: Lba(u64_at(descriptor, 0)), blocks: Blocks(u32_at(descriptor, 8)) }
    }

    fn emit(&self) -> [u8; DESCRIPTOR] {
        let mut descriptor = [0; DESCRIPTOR];
        put_u64(&mut descriptor, 0, self.lba.0);
        put_u32(&mut descriptor, 8, self.blocks.0);
        descriptor
    }
}

/// GET LBA STATUS parameter data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LbaStatus {
    /// Adjacent, ascending, from the LBA that was asked for.
    pub extents: Vec<(Extent, Provisioning)>,
}

/// What a run of blocks is backed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// Mapped, or it cannot be told.
    Mapped,
    Deallocated,
    Anchored,
    /// Four bits.
    Reserved(u8),
}

impl LbaStatus {
    /// Takes the whole descriptors that are there: unlike other lists, this one is meant to be read in parts.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, HEADER)?;
        let end = LENGTH.saturating_add(u32_at(bytes, 0) as usize).min(bytes.len());
        let (descriptors, _) = bytes.get(HEADER..end).unwrap_or_default().as_chunks::<DESCRIPTOR>();
        if descriptors.len() > LBA_STATUS_MAX {
            return Err(ParseError::TooMany { limit: LBA_STATUS_MAX });
        }
        let status = |descriptor: &[u8; DESCRIPTOR]| {
            (Extent::parse(descriptor), Provisioning::from(descriptor[12] & 0x0f))
        };
        Ok(Self { extents: descriptors.iter().map(status).collect() })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        put_u32(&mut bytes, 0, length32(HEADER - LENGTH + self.extents.len() * DESCRIPTOR));
        for (extent, provisioning) in &self.extents {
            let mut descriptor = extent.emit();
            descriptor[12] = u8::from(*provisioning) & 0x0f;
            bytes.extend(descriptor);
        }
        bytes
    }
}

impl From<u8> for Provisioning {
    /// Takes the four bits of the field.
    fn from(bits: u8) -> Self {
        match bits {
            0 => Self::Mapped,
            1 => Self::Deallocated,
            2 => Self::Anchored,
            other => Self::Reserved(other),
        }
    }
}

impl From<Provisioning> for u8 {
    fn from(provisioning: Provisioning) -> Self {
        match provisioning {
            Provisioning::Mapped => 0,
            Provisioning::Deallocated => 1,
            Provisioning::Anchored => 2,
            Provisioning::Reserved(bits) => bits,
        }
    }
}

/// Both lists have a header of eight bytes.
const HEADER: usize = 8;
/// The length field of GET LBA STATUS.
const LENGTH: usize = 4;
const DESCRIPTOR: usize = 16;
