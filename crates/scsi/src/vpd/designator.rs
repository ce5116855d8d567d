//! VPD page 83h: device identification (SPC, 7.7.3 and 7.7.6).

use alloc::vec;
use alloc::vec::Vec;

use super::{DEVICE_ID, emit_page, page};
use crate::bytes::{ParseError, entries, need};
use crate::inquiry::Peripheral;

/// The most designators taken from one page. A unit has a handful; a page of empty ones could hold 16,383.
pub const DESIGNATORS_MAX: usize = 128;

/// VPD page 83h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdPage {
    pub peripheral: Peripheral,
    pub designators: Vec<Designator>,
}

impl DeviceIdPage {
    /// # Errors
    /// See [`ParseError`]: nothing of a page that is not whole is used, because half an identity is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (peripheral, list) = page(bytes, DEVICE_ID)?;
        let designators = entries(list, HEADER, DESIGNATORS_MAX, Designator::parse)?;
        Ok(Self { peripheral, designators })
    }

    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let payload: Vec<u8> = self.designators.iter().flat_map(Designator::emit).collect();
        emit_page(self.peripheral, DEVICE_ID, &payload)
    }

    /// The designators of the logical unit itself.
    pub fn of_logical_unit(&self) -> impl Iterator<Item = &Designator> {
        self.designators.iter().filter(|designator| designator.association == Association::LogicalUnit)
    }

    /// The relative target port identifier of the port that answered.
    #[must_use]
    pub fn relative_target_port(&self) -> Option<u16> {
        self.of_target_port().find_map(|value| match value {
            DesignatorValue::RelativeTargetPort(port) => Some(port),
            _ => None,
        })
    }

    /// The target port group of the port that answered.
    #[must_use]
    pub fn target_port_group(&self) -> Option<u16> {
        self.of_target_port().find_map(|value| match value {
            DesignatorValue::TargetPortGroup(group) => Some(group),
            _ => None,
        })
    }

    fn of_target_port(&self) -> impl Iterator<Item = DesignatorValue<'_>> {
        let of_port = |designator: &&Designator| designator.association == Association::TargetPort;
        self.designators.iter().filter(of_port).map(Designator::value)
    }
}

/// One name of a logical unit, a target port or a target device, exactly as it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Designator {
    pub association: Association,
    pub kind: DesignatorType,
    pub code_set: CodeSet,
    /// Which protocol it belongs to, if it says (PIV).
    pub protocol: Option<ProtocolId>,
    /// At most 255; more is cut off when emitted.
    pub bytes: Vec<u8>,
}

impl Designator {
    /// A designator of the logical unit.
    #[must_use]
    pub fn of_logical_unit(kind: DesignatorType, code_set: CodeSet, bytes: impl Into<Vec<u8>>) -> Self {
        Self { association: Association::LogicalUnit, kind, code_set, protocol: None, bytes: bytes.into() }
    }

    /// A designator of the target port; `protocol` is how it is reached.
    #[must_use]
    pub fn of_target_port(
        kind: DesignatorType,
        code_set: CodeSet,
        protocol: Option<ProtocolId>,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        Self { association: Association::TargetPort, kind, code_set, protocol, bytes: bytes.into() }
    }

    /// The relative target port identifier of a target port.
    #[must_use]
    pub fn relative_target_port(port: u16) -> Self {
        let kind = DesignatorType::RelativeTargetPort;
        Self::of_target_port(kind, CodeSet::Binary, None, port_field(port))
    }

    /// The target port group of a target port.
    #[must_use]
    pub fn target_port_group(group: u16) -> Self {
        let kind = DesignatorType::TargetPortGroup;
        Self::of_target_port(kind, CodeSet::Binary, None, port_field(group))
    }

    /// What it means. A designator that its type does not allow is `Other`.
    #[must_use]
    pub fn value(&self) -> DesignatorValue<'_> {
        let bytes = self.bytes.as_slice();
        match (self.kind, bytes) {
            (DesignatorType::T10VendorId, [_, _, _, _, _, _, _, _, ..]) => {
                let (vendor, specific) = bytes.split_at(8);
                DesignatorValue::T10 { vendor, specific }
            }
            (DesignatorType::Eui64, _) if matches!(bytes.len(), 8 | 12 | 16) => DesignatorValue::Eui64(bytes),
            (DesignatorType::Naa, [first, ..]) if bytes.len() == naa_length(first >> 4) => {
                DesignatorValue::Naa(bytes)
            }
            (DesignatorType::RelativeTargetPort, &[_, _, high, low]) => {
                DesignatorValue::RelativeTargetPort(u16::from_be_bytes([high, low]))
            }
            (DesignatorType::TargetPortGroup, &[_, _, high, low]) => {
                DesignatorValue::TargetPortGroup(u16::from_be_bytes([high, low]))
            }
            (DesignatorType::LogicalUnitGroup, &[_, _, high, low]) => {
                DesignatorValue::LogicalUnitGroup(u16::from_be_bytes([high, low]))
            }
            (DesignatorType::Md5, _) => {
                bytes.try_into().map_or(DesignatorValue::Other(bytes), DesignatorValue::Md5)
            }
            (DesignatorType::NameString, _) => name_string(bytes),
            (DesignatorType::Uuid, [0x10, 0, uuid @ ..]) => {
                uuid.try_into().map_or(DesignatorValue::Other(bytes), DesignatorValue::Uuid)
            }
            _ => DesignatorValue::Other(bytes),
        }
    }

    /// The first designator, and how many bytes it takes.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        need(bytes, HEADER)?;
        let [first, second, _, length] = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let end = HEADER + usize::from(length);
        need(bytes, end)?;
        let association = Association::from(second >> 4 & 0b11);
        let designator = Self {
            association,
            kind: DesignatorType::from(second & 0x0f),
            code_set: CodeSet::from(first & 0x0f),
            protocol: (second & PIV != 0).then(|| ProtocolId::from(first >> 4)),
            bytes: bytes[HEADER..end].to_vec(),
        };
        Ok((designator, end))
    }

    pub(super) fn emit(&self) -> Vec<u8> {
        let length = u8::try_from(self.bytes.len()).unwrap_or(u8::MAX);
        let mut bytes = vec![0; HEADER];
        bytes[0] = self.protocol.map_or(0, u8::from) << 4 | u8::from(self.code_set) & 0x0f;
        bytes[1] = u8::from(self.association) << 4 | u8::from(self.kind) & 0x0f;
        if self.protocol.is_some() {
            bytes[1] |= PIV;
        }
        bytes[3] = length;
        bytes.extend(self.bytes.iter().take(length.into()));
        bytes
    }
}

/// A designator understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DesignatorValue<'a> {
    /// Eight letters of vendor, then whatever the vendor says.
    T10 {
        vendor: &'a [u8],
        specific: &'a [u8],
    },
    /// 8, 12 or 16 bytes.
    Eui64(&'a [u8]),
    /// 8 bytes, or 16 for NAA 6h. The high nibble of the first byte is the format.
    Naa(&'a [u8]),
    RelativeTargetPort(u16),
    TargetPortGroup(u16),
    LogicalUnitGroup(u16),
    Md5([u8; 16]),
    /// Without the padding. Begins with `eui.`, `naa.`, `iqn.` or `uuid.`.
    NameString(&'a str),
    Uuid([u8; 16]),
    /// Vendor or protocol specific, of an unknown type, or not as its type demands.
    Other(&'a [u8]),
}

/// What a designator names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Association {
    LogicalUnit,
    TargetPort,
    TargetDevice,
    /// 11b.
    Reserved,
}

/// Designator types (SPC, 7.7.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DesignatorType {
    VendorSpecific,
    T10VendorId,
    Eui64,
    Naa,
    RelativeTargetPort,
    TargetPortGroup,
    LogicalUnitGroup,
    Md5,
    NameString,
    ProtocolSpecific,
    Uuid,
    /// Four bits.
    Reserved(u8),
}

/// How the bytes of a designator are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CodeSet {
    Binary,
    Ascii,
    Utf8,
    /// Four bits.
    Reserved(u8),
}

/// Protocol identifiers (SPC, 7.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolId {
    FibreChannel,
    ParallelScsi,
    Srp,
    Iscsi,
    Sas,
    PciExpress,
    /// Four bits.
    Other(u8),
}

impl From<u8> for Association {
    /// Takes the low two bits.
    fn from(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::LogicalUnit,
            1 => Self::TargetPort,
            2 => Self::TargetDevice,
            _ => Self::Reserved,
        }
    }
}

impl From<Association> for u8 {
    fn from(association: Association) -> Self {
        match association {
            Association::LogicalUnit => 0,
            Association::TargetPort => 1,
            Association::TargetDevice => 2,
            Association::Reserved => 3,
        }
    }
}

impl From<u8> for DesignatorType {
    fn from(bits: u8) -> Self {
        match bits {
            0x0 => Self::VendorSpecific,
            0x1 => Self::T10VendorId,
            0x2 => Self::Eui64,
            0x3 => Self::Naa,
            0x4 => Self::RelativeTargetPort,
            0x5 => Self::TargetPortGroup,
            0x6 => Self::LogicalUnitGroup,
            0x7 => Self::Md5,
            0x8 => Self::NameString,
            0x9 => Self::ProtocolSpecific,
            0xa => Self::Uuid,
            other => Self::Reserved(other),
        }
    }
}

impl From<DesignatorType> for u8 {
    fn from(kind: DesignatorType) -> Self {
        match kind {
            DesignatorType::VendorSpecific => 0x0,
            DesignatorType::T10VendorId => 0x1,
            DesignatorType::Eui64 => 0x2,
            DesignatorType::Naa => 0x3,
            DesignatorType::RelativeTargetPort => 0x4,
            DesignatorType::TargetPortGroup => 0x5,
            DesignatorType::LogicalUnitGroup => 0x6,
            DesignatorType::Md5 => 0x7,
            DesignatorType::NameString => 0x8,
            DesignatorType::ProtocolSpecific => 0x9,
            DesignatorType::Uuid => 0xa,
            DesignatorType::Reserved(bits) => bits,
        }
    }
}

impl From<u8> for CodeSet {
    fn from(bits: u8) -> Self {
        match bits {
            1 => Self::Binary,
            2 => Self::Ascii,
            3 => Self::Utf8,
            other => Self::Reserved(other),
        }
    }
}

impl From<CodeSet> for u8 {
    fn from(code_set: CodeSet) -> Self {
        match code_set {
            CodeSet::Binary => 1,
            CodeSet::Ascii => 2,
            CodeSet::Utf8 => 3,
            CodeSet::Reserved(bits) => bits,
        }
    }
}

impl From<u8> for ProtocolId {
    fn from(bits: u8) -> Self {
        match bits {
            0x0 => Self::FibreChannel,
            0x1 => Self::ParallelScsi,
            0x4 => Self::Srp,
            0x5 => Self::Iscsi,
            0x6 => Self::Sas,
            0xa => Self::PciExpress,
            other => Self::Other(other),
        }
    }
}

impl From<ProtocolId> for u8 {
    fn from(protocol: ProtocolId) -> Self {
        match protocol {
            ProtocolId::FibreChannel => 0x0,
            ProtocolId::ParallelScsi => 0x1,
            ProtocolId::Srp => 0x4,
            ProtocolId::Iscsi => 0x5,
            ProtocolId::Sas => 0x6,
            ProtocolId::PciExpress => 0xa,
            ProtocolId::Other(bits) => bits,
        }
    }
}

/// The length that an NAA format has; zero (which no designator with a first byte has) for a format that is not
/// specified.
const fn naa_length(format: u8) -> usize {
    match format {
        2 | 3 | 5 => 8,
        6 => 16,
        _ => 0,
    }
}

fn name_string(bytes: &[u8]) -> DesignatorValue<'_> {
    match str::from_utf8(bytes) {
        Ok(text) => DesignatorValue::NameString(text.trim_end_matches('\0')),
        Err(_) => DesignatorValue::Other(bytes),
    }
}

/// A two-byte identifier behind two reserved bytes.
fn port_field(value: u16) -> [u8; 4] {
    let [high, low] = value.to_be_bytes();
    [0, 0, high, low]
}

const HEADER: usize = 4;
const PIV: u8 = 0x80;
