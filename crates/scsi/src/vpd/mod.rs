//! Vital product data pages (SPC, 7.7; SBC, 6.6).

mod designator;
mod limits;
#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

use crate::bytes::{ParseError, bit_at, flag, length16, need, put_u16, u8_at, u16_at};
use crate::inquiry::Peripheral;

pub use designator::{
    Association, CodeSet, DESIGNATORS_MAX, Designator, DesignatorType, DesignatorValue, DeviceIdPage,
    ProtocolId,
};
pub use limits::{BlockCharacteristicsPage, BlockLimitsPage, LogicalProvisioningPage, ProvisioningType};

pub const SUPPORTED_PAGES: u8 = 0x00;
pub const SERIAL_NUMBER: u8 = 0x80;
pub const DEVICE_ID: u8 = 0x83;
pub const EXTENDED_INQUIRY: u8 = 0x86;
pub const BLOCK_LIMITS: u8 = 0xb0;
pub const BLOCK_CHARACTERISTICS: u8 = 0xb1;
pub const LOGICAL_PROVISIONING: u8 = 0xb2;

/// The longest unit serial number that is kept: SPC sets no limit; the longest in use are below 64.
pub const SERIAL_LENGTH_MAX: usize = 252;

/// VPD page 00h: which pages there are (SPC, 7.7.16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportedPages {
    pub peripheral: Peripheral,
    /// Ascending. The page code is a byte, so there are at most 256.
    pub pages: Vec<u8>,
}

impl SupportedPages {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (peripheral, payload) = page(bytes, SUPPORTED_PAGES)?;
        if payload.len() > PAGES_MAX {
            return Err(ParseError::TooMany { limit: PAGES_MAX });
        }
        Ok(Self { peripheral, pages: payload.to_vec() })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        emit_page(self.peripheral, SUPPORTED_PAGES, &self.pages)
    }

    #[must_use]
    pub fn contains(&self, page: u8) -> bool {
        self.pages.contains(&page)
    }
}

/// VPD page 80h: the unit serial number (SPC, 7.7.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPage {
    pub peripheral: Peripheral,
    /// As it came, padding included; at most [`SERIAL_LENGTH_MAX`] bytes.
    pub serial: Vec<u8>,
}

impl SerialPage {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (peripheral, payload) = page(bytes, SERIAL_NUMBER)?;
        if payload.len() > SERIAL_LENGTH_MAX {
            return Err(ParseError::TooMany { limit: SERIAL_LENGTH_MAX });
        }
        Ok(Self { peripheral, serial: payload.to_vec() })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        emit_page(self.peripheral, SERIAL_NUMBER, &self.serial)
    }

    /// Without blanks and zeros around it; none if it is empty or not printable.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        let text = str::from_utf8(&self.serial).ok()?;
        let text = text.trim_matches(|letter| letter == ' ' || letter == '\0');
        (!text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))).then_some(text)
    }
}

/// VPD page 86h: extended INQUIRY data (SPC, 7.7.7), as much of it as somebody here asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedInquiryPage {
    pub peripheral: Peripheral,
    /// Which protection types can be formatted, by the device's own code (SPT, three bits).
    pub supported_protection: u8,
    pub guard_check: bool,
    pub application_tag_check: bool,
    pub reference_tag_check: bool,
    /// Unit attentions carry sense key specific data (UASK_SUP).
    pub unit_attention_specific: bool,
    /// Command priority is supported (PRIOR_SUP).
    pub priority: bool,
    pub head_of_queue: bool,
    pub ordered: bool,
    pub simple: bool,
    /// WRITE UNCORRECTABLE is supported (WU_SUP).
    pub write_uncorrectable: bool,
    /// There is a non-volatile cache (NV_SUP).
    pub non_volatile_cache: bool,
    /// There is a volatile cache (V_SUP).
    pub volatile_cache: bool,
    /// Unit attentions are cleared by nexus loss too (LUICLR).
    pub clears_nexus_attentions: bool,
    /// The longest sense data returned, in bytes; zero if not reported.
    pub sense_length_max: u8,
}

impl ExtendedInquiryPage {
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (peripheral, _) = page(bytes, EXTENDED_INQUIRY)?;
        Ok(Self {
            peripheral,
            supported_protection: u8_at(bytes, 4) >> 3 & 0b111,
            guard_check: bit_at(bytes, 4, 2),
            application_tag_check: bit_at(bytes, 4, 1),
            reference_tag_check: bit_at(bytes, 4, 0),
            unit_attention_specific: bit_at(bytes, 5, 5),
            priority: bit_at(bytes, 5, 3),
            head_of_queue: bit_at(bytes, 5, 2),
            ordered: bit_at(bytes, 5, 1),
            simple: bit_at(bytes, 5, 0),
            write_uncorrectable: bit_at(bytes, 6, 3),
            non_volatile_cache: bit_at(bytes, 6, 1),
            volatile_cache: bit_at(bytes, 6, 0),
            clears_nexus_attentions: bit_at(bytes, 7, 0),
            sense_length_max: u8_at(bytes, 13),
        })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut payload = [0; 60];
        payload[0] = (self.supported_protection & 0b111) << 3
            | flag(self.guard_check, 2)
            | flag(self.application_tag_check, 1)
            | flag(self.reference_tag_check, 0);
        payload[1] = flag(self.unit_attention_specific, 5)
            | flag(self.priority, 3)
            | flag(self.head_of_queue, 2)
            | flag(self.ordered, 1)
            | flag(self.simple, 0);
        payload[2] = flag(self.write_uncorrectable, 3)
            | flag(self.non_volatile_cache, 1)
            | flag(self.volatile_cache, 0);
        payload[3] = flag(self.clears_nexus_attentions, 0);
        payload[9] = self.sense_length_max;
        emit_page(self.peripheral, EXTENDED_INQUIRY, &payload)
    }
}

/// Checks the header of a page, and that all of it is there.
fn page(bytes: &[u8], expected: u8) -> Result<(Peripheral, &[u8]), ParseError> {
    need(bytes, HEADER)?;
    let got = bytes[1];
    if got != expected {
        return Err(ParseError::WrongPage { expected, got });
    }
    let end = HEADER + usize::from(u16_at(bytes, 2));
    need(bytes, end)?;
    Ok((Peripheral::from(bytes[0]), &bytes[HEADER..end]))
}

fn emit_page(peripheral: Peripheral, code: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[0] = peripheral.into();
    bytes[1] = code;
    put_u16(&mut bytes, 2, length16(payload.len()));
    bytes.extend_from_slice(payload);
    bytes
}

const HEADER: usize = 4;
/// One for each page code.
const PAGES_MAX: usize = 256;
