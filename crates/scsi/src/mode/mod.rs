//! Mode parameters (SPC, 7.5; SBC, 6.5).

mod pages;
#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{
    ParseError, bit_at, entries, flag, length16, need, put_u16, put_u32, put_u64, u16_at, u32_at, u64_at,
};
use crate::cdb::ModeForm;

pub use pages::{CachingPage, ControlPage, ModePage, QueueError, TaskSetType};

/// The code of the caching page.
pub const CACHING: u8 = 0x08;
/// The code of the control page.
pub const CONTROL: u8 = 0x0a;
/// Asks for all pages, and with subpage FFh for all subpages too.
pub const ALL_PAGES: u8 = 0x3f;

/// The most pages taken from one list: all page codes with a few subpages each.
pub const PAGES_MAX: usize = 256;
/// The most block descriptors taken: a disk has one.
pub const BLOCK_DESCRIPTORS_MAX: usize = 16;

/// A mode parameter list, of MODE SENSE or MODE SELECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModeParameters {
    pub medium_type: u8,
    /// The medium may not be written (WP). Reserved in MODE SELECT.
    pub write_protected: bool,
    /// DPO and FUA are supported (DPOFUA). Reserved in MODE SELECT.
    pub dpo_fua: bool,
    pub block_descriptors: BlockDescriptors,
    pub pages: Vec<ModePage>,
}

/// Block descriptors, all of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockDescriptors {
    /// Eight bytes each; at most 32 bits of blocks (FFFFFFFFh if there are more) and 24 of block length.
    Short(Vec<BlockDescriptor>),
    /// Sixteen bytes each (LONGLBA), only in the 10-byte form.
    Long(Vec<BlockDescriptor>),
}

/// How many blocks there are, and their length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockDescriptor {
    pub blocks: u64,
    pub block_size: u32,
}

impl Default for BlockDescriptors {
    fn default() -> Self {
        Self::Short(Vec::new())
    }
}

impl ModeParameters {
    /// Understands what MODE SENSE returned.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(form: ModeForm, bytes: &[u8]) -> Result<Self, ParseError> {
        let header = header_length(form);
        need(bytes, header)?;
        let end = match form {
            ModeForm::Six => 1 + usize::from(bytes[0]),
            ModeForm::Ten => 2 + usize::from(u16_at(bytes, 0)),
        };
        if end < header {
            return Err(ParseError::Malformed { byte: 0 });
        }
        need(bytes, end)?;
        Self::parse_list(form, &bytes[..end])
    }

    /// Understands what MODE SELECT sent: all of the bytes, because the length field is reserved there, as is the
    /// device specific parameter.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse_select(form: ModeForm, bytes: &[u8]) -> Result<Self, ParseError> {
        Ok(Self { write_protected: false, dpo_fua: false, ..Self::parse_list(form, bytes)? })
    }

    fn parse_list(form: ModeForm, bytes: &[u8]) -> Result<Self, ParseError> {
        let header = header_length(form);
        need(bytes, header)?;
        let (medium_type, device_specific, long, length) = match form {
            ModeForm::Six => (bytes[1], bytes[2], false, usize::from(bytes[3])),
            ModeForm::Ten => (bytes[2], bytes[3], bit_at(bytes, 4, 0), usize::from(u16_at(bytes, 6))),
        };
        need(bytes, header + length)?;
        let (descriptors, pages) = bytes[header..].split_at(length);
        Ok(Self {
            medium_type,
            write_protected: device_specific >> 7 & 1 == 1,
            dpo_fua: device_specific >> 4 & 1 == 1,
            block_descriptors: BlockDescriptors::parse(long, descriptors)?,
            pages: entries(pages, header + length, PAGES_MAX, ModePage::parse)?,
        })
    }

    /// What MODE SENSE returns.
    ///
    /// # Panics
    /// If the list does not fit the length fields of the form (256 bytes in the 6-byte form), or the 6-byte form
    /// is to carry long block descriptors.
    #[must_use]
    pub fn emit(&self, form: ModeForm) -> Vec<u8> {
        let mut bytes = self.emit_select(form);
        bytes[device_specific_at(form)] = flag(self.write_protected, 7) | flag(self.dpo_fua, 4);
        match form {
            ModeForm::Six => bytes[0] = length8(bytes.len() - 1),
            ModeForm::Ten => {
                let length = length16(bytes.len() - 2);
                put_u16(&mut bytes, 0, length);
            }
        }
        bytes
    }

    /// What MODE SELECT sends: the length and the device specific parameter are reserved and zero.
    ///
    /// # Panics
    /// As [`Self::emit`].
    #[must_use]
    pub fn emit_select(&self, form: ModeForm) -> Vec<u8> {
        let descriptors = self.block_descriptors.emit();
        let mut bytes = vec![0; header_length(form)];
        match (form, &self.block_descriptors) {
            (ModeForm::Six, BlockDescriptors::Long(_)) => {
                panic!("only the 10-byte form can say that block descriptors are long")
            }
            (ModeForm::Six, BlockDescriptors::Short(_)) => {
                bytes[1] = self.medium_type;
                bytes[3] = length8(descriptors.len());
            }
            (ModeForm::Ten, kind) => {
                bytes[2] = self.medium_type;
                bytes[4] = flag(matches!(kind, BlockDescriptors::Long(_)), 0);
                put_u16(&mut bytes, 6, length16(descriptors.len()));
            }
        }
        bytes.extend(descriptors);
        bytes.extend(self.pages.iter().flat_map(ModePage::emit));
        bytes
    }

    /// The caching page, if it is there and long enough.
    #[must_use]
    pub fn caching(&self) -> Option<CachingPage> {
        self.pages.iter().find_map(ModePage::caching)
    }

    /// The control page, if it is there and long enough.
    #[must_use]
    pub fn control(&self) -> Option<ControlPage> {
        self.pages.iter().find_map(ModePage::control)
    }
}

impl BlockDescriptors {
    #[must_use]
    pub fn as_slice(&self) -> &[BlockDescriptor] {
        match self {
            Self::Short(descriptors) | Self::Long(descriptors) => descriptors,
        }
    }

    fn parse(long: bool, bytes: &[u8]) -> Result<Self, ParseError> {
        let length = if long { LONG } else { SHORT };
        if bytes.len() / length > BLOCK_DESCRIPTORS_MAX {
            return Err(ParseError::TooMany { limit: BLOCK_DESCRIPTORS_MAX });
        }
        if !bytes.len().is_multiple_of(length) {
            return Err(ParseError::Truncated {
                needed: bytes.len().next_multiple_of(length),
                got: bytes.len(),
            });
        }
        let descriptors = bytes.chunks_exact(length);
        Ok(if long {
            Self::Long(
                descriptors
                    .map(|long| BlockDescriptor { blocks: u64_at(long, 0), block_size: u32_at(long, 12) })
                    .collect(),
            )
        } else {
            let short = |short: &[u8]| BlockDescriptor {
                blocks: u32_at(short, 0).into(),
                block_size: u32_at(short, 4) & SHORT_BLOCK_SIZE_MAX,
            };
            Self::Short(descriptors.map(short).collect())
        })
    }

    fn emit(&self) -> Vec<u8> {
        match self {
            Self::Short(descriptors) => descriptors.iter().flat_map(BlockDescriptor::emit_short).collect(),
            Self::Long(descriptors) => descriptors.iter().flat_map(BlockDescriptor::emit_long).collect(),
        }
    }
}

impl BlockDescriptor {
    fn emit_short(&self) -> [u8; SHORT] {
        let mut bytes = [0; SHORT];
        put_u32(&mut bytes, 0, u32::try_from(self.blocks).unwrap_or(u32::MAX));
        put_u32(&mut bytes, 4, self.block_size & SHORT_BLOCK_SIZE_MAX);
        bytes
    }

    fn emit_long(&self) -> [u8; LONG] {
        let mut bytes = [0; LONG];
        put_u64(&mut bytes, 0, self.blocks);
        put_u32(&mut bytes, 12, self.block_size);
        bytes
    }
}

const fn header_length(form: ModeForm) -> usize {
    match form {
        ModeForm::Six => 4,
        ModeForm::Ten => 8,
    }
}

const fn device_specific_at(form: ModeForm) -> usize {
    match form {
        ModeForm::Six => 2,
        ModeForm::Ten => 3,
    }
}

fn length8(length: usize) -> u8 {
    u8::try_from(length).expect("a list in the 6-byte form has at most 256 bytes")
}

const SHORT: usize = 8;
const LONG: usize = 16;
const SHORT_BLOCK_SIZE_MAX: u32 = 0xff_ffff;
