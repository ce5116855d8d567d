//! Sense data, fixed and descriptor format (SPC, 4.4).

mod codes;
#[cfg(test)]
mod tests;

use core::fmt;

use crate::Lba;
use crate::bytes::{bit_at, flag, put_u16, put_u32, put_u64, u8_at, u16_at, u32_at, u64_at};

/// The longest sense data that is kept: SPC caps it at 252 bytes; what matters stands in the first 96.
pub const SENSE_LENGTH_MAX: usize = 96;

/// Sense data as it came, so that nothing a device server says is lost. [`Sense`] is what it means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SenseData {
    bytes: [u8; SENSE_LENGTH_MAX],
    length: u8,
}

impl SenseData {
    /// Keeps the first [`SENSE_LENGTH_MAX`] bytes.
    #[must_use]
    pub fn new(sense: &[u8]) -> Self {
        let length = sense.len().min(SENSE_LENGTH_MAX);
        let mut bytes = [0; SENSE_LENGTH_MAX];
        bytes[..length].copy_from_slice(&sense[..length]);
        #[expect(clippy::cast_possible_truncation, reason = "at most SENSE_LENGTH_MAX")]
        Self { bytes, length: length as u8 }
    }

    /// Fixed format (70h, or 71h if deferred): 18 bytes. Information beyond 32 bits is left out, as SPC asks.
    #[must_use]
    pub fn fixed(sense: &Sense) -> Self {
        let mut bytes = [0; FIXED_LENGTH];
        bytes[0] = if sense.deferred { DEFERRED_FIXED } else { CURRENT_FIXED };
        bytes[2] = sense.key.into();
        bytes[7] = FIXED_LENGTH_AFTER_8;
        if let Some(information) = sense.information.and_then(|value| u32::try_from(value).ok()) {
            bytes[0] |= VALID;
            put_u32(&mut bytes, 3, information);
        }
        if let Some(specific) = sense.command_specific.and_then(|value| u32::try_from(value).ok()) {
            put_u32(&mut bytes, 8, specific);
        }
        [bytes[12], bytes[13]] = [sense.additional.asc, sense.additional.ascq];
        if let Some(specific) = sense.specific {
            bytes[15..18].copy_from_slice(&specific.emit());
        }
        Self::new(&bytes)
    }

    /// Descriptor format (72h, or 73h if deferred), with a descriptor for each thing that is there.
    #[must_use]
    pub fn descriptor(sense: &Sense) -> Self {
        let mut bytes = [0; DESCRIPTOR_LENGTH_MAX];
        bytes[0] = if sense.deferred { DEFERRED_DESCRIPTOR } else { CURRENT_DESCRIPTOR };
        bytes[1] = sense.key.into();
        [bytes[2], bytes[3]] = [sense.additional.asc, sense.additional.ascq];
        let mut end = DESCRIPTOR_HEADER;
        if let Some(information) = sense.information {
            [bytes[end], bytes[end + 1], bytes[end + 2]] = [INFORMATION, 0x0a, VALID];
            put_u64(&mut bytes, end + 4, information);
            end += 12;
        }
        if let Some(specific) = sense.command_specific {
            [bytes[end], bytes[end + 1]] = [COMMAND_SPECIFIC, 0x0a];
            put_u64(&mut bytes, end + 4, specific);
            end += 12;
        }
        if let Some(specific) = sense.specific {
            [bytes[end], bytes[end + 1]] = [SENSE_KEY_SPECIFIC, 0x06];
            bytes[end + 4..end + 7].copy_from_slice(&specific.emit());
            end += 8;
        }
        bytes[7] = u8::try_from(end - DESCRIPTOR_HEADER).expect("three descriptors are 32 bytes");
        Self::new(&bytes[..end])
    }

    #[must_use]
    pub fn emit(sense: &Sense, format: SenseFormat) -> Self {
        match format {
            SenseFormat::Fixed => Self::fixed(sense),
            SenseFormat::Descriptor => Self::descriptor(sense),
        }
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// What it means; none if it is no sense data of a known format.
    #[must_use]
    pub fn parse(&self) -> Option<Sense> {
        Sense::parse(self.as_slice())
    }
}

impl fmt::Debug for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenseData({:02x?})", self.as_slice())
    }
}

impl From<Sense> for SenseData {
    /// In fixed format, which every initiator understands.
    fn from(sense: Sense) -> Self {
        Self::fixed(&sense)
    }
}

/// How sense data is laid out; a device server chooses by D_SENSE of the control mode page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenseFormat {
    #[default]
    Fixed,
    Descriptor,
}

/// What sense data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// It is about an earlier command whose status was already given (71h, 73h).
    pub deferred: bool,
    pub key: SenseKey,
    pub additional: AdditionalSense,
    /// The INFORMATION field if it is valid: for block commands, the LBA of the block in question.
    pub information: Option<u64>,
    /// The COMMAND-SPECIFIC INFORMATION field if it is there (in fixed format: if it is not zero).
    pub command_specific: Option<u64>,
    /// The SENSE KEY SPECIFIC field if it is valid (SKSV).
    pub specific: Option<SenseKeySpecific>,
}

impl Sense {
    #[must_use]
    pub const fn new(key: SenseKey, additional: AdditionalSense) -> Self {
        Self { deferred: false, key, additional, information: None, command_specific: None, specific: None }
    }

    #[must_use]
    pub const fn with_information(self, information: u64) -> Self {
        Self { information: Some(information), ..self }
    }

    #[must_use]
    pub const fn with_command_specific(self, value: u64) -> Self {
        Self { command_specific: Some(value), ..self }
    }

    #[must_use]
    pub const fn with_field(self, field: FieldPointer) -> Self {
        Self { specific: Some(SenseKeySpecific::Field(field)), ..self }
    }

    #[must_use]
    pub const fn with_specific(self, specific: SenseKeySpecific) -> Self {
        Self { specific: Some(specific), ..self }
    }

    #[must_use]
    pub const fn as_deferred(self) -> Self {
        Self { deferred: true, ..self }
    }

    /// The block in question, if the device server named one.
    #[must_use]
    pub fn lba(&self) -> Option<Lba> {
        self.information.map(Lba)
    }

    /// Understands sense data, as much of it as there is: cut-off fields are absent. None without a sense key,
    /// and for response codes other than 70h to 73h.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match u8_at(bytes, 0) & !VALID {
            code @ (CURRENT_FIXED | DEFERRED_FIXED) => {
                Some(Self { deferred: code == DEFERRED_FIXED, ..parse_fixed(bytes)? })
            }
            code @ (CURRENT_DESCRIPTOR | DEFERRED_DESCRIPTOR) => {
                Some(Self { deferred: code == DEFERRED_DESCRIPTOR, ..parse_descriptor(bytes)? })
            }
            _ => None,
        }
    }
}

/// Additional sense code and its qualifier. The named ones are those that somebody here tells apart.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdditionalSense {
    pub asc: u8,
    pub ascq: u8,
}

impl AdditionalSense {
    #[must_use]
    pub const fn new(asc: u8, ascq: u8) -> Self {
        Self { asc, ascq }
    }
}

impl fmt::Debug for AdditionalSense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AdditionalSense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}/{:02x}", self.asc, self.ascq)
    }
}

/// Sense keys (SPC, table "Sense key descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenseKey {
    NoSense,
    RecoveredError,
    NotReady,
    MediumError,
    HardwareError,
    IllegalRequest,
    UnitAttention,
    DataProtect,
    BlankCheck,
    VendorSpecific,
    CopyAborted,
    AbortedCommand,
    /// 0Ch is reserved (EQUAL in SCSI-2).
    Reserved,
    VolumeOverflow,
    Miscompare,
    Completed,
}

impl From<u8> for SenseKey {
    /// Takes the low four bits, as sense data has them.
    fn from(byte: u8) -> Self {
        match byte & 0x0f {
            0x0 => Self::NoSense,
            0x1 => Self::RecoveredError,
            0x2 => Self::NotReady,
            0x3 => Self::MediumError,
            0x4 => Self::HardwareError,
            0x5 => Self::IllegalRequest,
            0x6 => Self::UnitAttention,
            0x7 => Self::DataProtect,
            0x8 => Self::BlankCheck,
            0x9 => Self::VendorSpecific,
            0xa => Self::CopyAborted,
            0xb => Self::AbortedCommand,
            0xc => Self::Reserved,
            0xd => Self::VolumeOverflow,
            0xe => Self::Miscompare,
            _ => Self::Completed,
        }
    }
}

impl From<SenseKey> for u8 {
    fn from(key: SenseKey) -> Self {
        match key {
            SenseKey::NoSense => 0x0,
            SenseKey::RecoveredError => 0x1,
            SenseKey::NotReady => 0x2,
            SenseKey::MediumError => 0x3,
            SenseKey::HardwareError => 0x4,
            SenseKey::IllegalRequest => 0x5,
            SenseKey::UnitAttention => 0x6,
            SenseKey::DataProtect => 0x7,
            SenseKey::BlankCheck => 0x8,
            SenseKey::VendorSpecific => 0x9,
            SenseKey::CopyAborted => 0xa,
            SenseKey::AbortedCommand => 0xb,
            SenseKey::Reserved => 0xc,
            SenseKey::VolumeOverflow => 0xd,
            SenseKey::Miscompare => 0xe,
            SenseKey::Completed => 0xf,
        }
    }
}

/// The sense key specific field; which variant it is depends on the sense key (SPC, 4.4.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenseKeySpecific {
    /// ILLEGAL REQUEST.
    Field(FieldPointer),
    /// HARDWARE ERROR, MEDIUM ERROR and RECOVERED ERROR: retries made.
    Retries(u16),
    /// NO SENSE and NOT READY: progress of what is going on, in 65,536ths.
    Progress(u16),
    /// COPY ABORTED, UNIT ATTENTION and the rest, without the SKSV bit.
    Other([u8; 3]),
}

/// Where the device server found what it does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    pub source: FieldSource,
    pub byte: u16,
    /// The most significant bit of the field, 0 to 7, if it is smaller than a byte.
    pub bit: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldSource {
    Cdb,
    Parameters,
}

impl SenseKeySpecific {
    /// None if SKSV says that the field is not valid.
    fn parse(key: SenseKey, field: [u8; 3]) -> Option<Self> {
        if field[0] & SKSV == 0 {
            return None;
        }
        let value = u16_at(&field, 1);
        Some(match key {
            SenseKey::IllegalRequest => Self::Field(FieldPointer {
                source: if bit_at(&field, 0, 6) { FieldSource::Cdb } else { FieldSource::Parameters },
                byte: value,
                bit: bit_at(&field, 0, 3).then_some(field[0] & 0b111),
            }),
            SenseKey::HardwareError | SenseKey::MediumError | SenseKey::RecoveredError => {
                Self::Retries(value)
            }
            SenseKey::NoSense | SenseKey::NotReady => Self::Progress(value),
            _ => Self::Other([field[0] & !SKSV, field[1], field[2]]),
        })
    }

    fn emit(self) -> [u8; 3] {
        let mut field = [0; 3];
        match self {
            Self::Field(pointer) => {
                field[0] = flag(pointer.source == FieldSource::Cdb, 6);
                if let Some(bit) = pointer.bit {
                    field[0] |= 1 << 3 | bit & 0b111;
                }
                put_u16(&mut field, 1, pointer.byte);
            }
            Self::Retries(value) | Self::Progress(value) => put_u16(&mut field, 1, value),
            Self::Other(bytes) => field = bytes,
        }
        field[0] |= SKSV;
        field
    }
}

fn parse_fixed(bytes: &[u8]) -> Option<Sense> {
    let key = SenseKey::from(*bytes.get(2)?);
    let bytes = within_additional_length(bytes);
    let information = (bytes[0] & VALID != 0 && bytes.len() >= 7).then(|| u32_at(bytes, 3).into());
    let command_specific = match u32_at(bytes, 8) {
        _ if bytes.len() < 12 => None,
        0 => None,
        value => Some(value.into()),
    };
    let specific =
        bytes.get(15..18).and_then(|field| SenseKeySpecific::parse(key, [field[0], field[1], field[2]]));
    let additional = AdditionalSense::new(u8_at(bytes, 12), u8_at(bytes, 13));
    Some(Sense { information, command_specific, specific, ..Sense::new(key, additional) })
}

fn parse_descriptor(bytes: &[u8]) -> Option<Sense> {
    let key = SenseKey::from(*bytes.get(1)?);
    let mut sense = Sense::new(key, AdditionalSense::new(u8_at(bytes, 2), u8_at(bytes, 3)));
    let mut rest = within_additional_length(bytes).get(DESCRIPTOR_HEADER..).unwrap_or_default();
    while let [kind, length, ..] = *rest {
        let length = 2 + usize::from(length);
        let Some(descriptor) = rest.get(..length) else { break };
        match kind {
            INFORMATION if length >= 12 && descriptor[2] & VALID != 0 => {
                sense.information = Some(u64_at(descriptor, 4));
            }
            COMMAND_SPECIFIC if length >= 12 => sense.command_specific = Some(u64_at(descriptor, 4)),
            SENSE_KEY_SPECIFIC if length >= 7 => {
                let field = [descriptor[4], descriptor[5], descriptor[6]];
                sense.specific = SenseKeySpecific::parse(key, field);
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Some(sense)
}

/// What ADDITIONAL SENSE LENGTH covers; all there is if it is itself cut off.
fn within_additional_length(bytes: &[u8]) -> &[u8] {
    match bytes.get(7) {
        Some(&additional) => &bytes[..bytes.len().min(8 + usize::from(additional))],
        None => bytes,
    }
}

const CURRENT_FIXED: u8 = 0x70;
const DEFERRED_FIXED: u8 = 0x71;
const CURRENT_DESCRIPTOR: u8 = 0x72;
const DEFERRED_DESCRIPTOR: u8 = 0x73;
const VALID: u8 = 0x80;
const SKSV: u8 = 0x80;

const FIXED_LENGTH: usize = 18;
const FIXED_LENGTH_AFTER_8: u8 = 10;
const DESCRIPTOR_HEADER: usize = 8;
/// A header, two descriptors of 12 bytes and one of 8.
const DESCRIPTOR_LENGTH_MAX: usize = DESCRIPTOR_HEADER + 12 + 12 + 8;

/// Sense data descriptor types (SPC, 4.4.2.1).
const INFORMATION: u8 = 0x00;
const COMMAND_SPECIFIC: u8 = 0x01;
const SENSE_KEY_SPECIFIC: u8 = 0x02;
