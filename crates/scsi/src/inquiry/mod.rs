//! Standard INQUIRY data (SPC, 6.7.2).

#[cfg(test)]
mod tests;

use crate::bytes::{Ascii, ParseError, bit_at, flag, need, u8_at};

/// The length of standard INQUIRY data that is emitted: up to the PRODUCT REVISION LEVEL.
pub const INQUIRY_LENGTH: usize = 36;

/// What a logical unit says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InquiryData {
    pub peripheral: Peripheral,
    /// The medium can be removed (RMB).
    pub removable: bool,
    /// The version of SPC claimed: 05h SPC-3, 06h SPC-4, 07h SPC-5.
    pub version: u8,
    /// Hierarchical addressing is used for LUNs (HISUP).
    pub hierarchical: bool,
    pub port_groups: PortGroupSupport,
    /// Third-party copy commands are supported (3PC).
    pub third_party_copy: bool,
    /// Protection information is supported (PROTECT).
    pub protection: bool,
    /// Commands may be queued (CMDQUE).
    pub command_queuing: bool,
    pub vendor: Ascii<8>,
    pub product: Ascii<16>,
    pub revision: Ascii<4>,
}

impl InquiryData {
    /// Understands standard INQUIRY data. Fields beyond the end, as old devices have it, are zero.
    ///
    /// # Errors
    /// If there are fewer than the five bytes every device returns.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        need(bytes, SHORTEST)?;
        let bytes = &bytes[..bytes.len().min(SHORTEST + usize::from(bytes[4]))];
        Ok(Self {
            peripheral: Peripheral::from(bytes[0]),
            removable: bit_at(bytes, 1, 7),
            version: bytes[2],
            hierarchical: bit_at(bytes, 3, 4),
            port_groups: PortGroupSupport::from(u8_at(bytes, 5) >> 4 & 0b11),
            third_party_copy: bit_at(bytes, 5, 3),
            protection: bit_at(bytes, 5, 0),
            command_queuing: bit_at(bytes, 7, 1),
            vendor: Ascii::at(bytes, 8),
            product: Ascii::at(bytes, 16),
            revision: Ascii::at(bytes, 32),
        })
    }

    #[must_use]
    pub fn emit(&self) -> [u8; INQUIRY_LENGTH] {
        let mut bytes = [0; INQUIRY_LENGTH];
        bytes[0] = self.peripheral.into();
        bytes[1] = flag(self.removable, 7);
        bytes[2] = self.version;
        bytes[3] = RESPONSE_DATA_FORMAT | flag(self.hierarchical, 4);
        bytes[4] = LENGTH_AFTER_5;
        bytes[5] =
            u8::from(self.port_groups) << 4 | flag(self.third_party_copy, 3) | flag(self.protection, 0);
        bytes[7] = flag(self.command_queuing, 1);
        bytes[8..16].copy_from_slice(&self.vendor.0);
        bytes[16..32].copy_from_slice(&self.product.0);
        bytes[32..36].copy_from_slice(&self.revision.0);
        bytes
    }
}

/// Byte 0 of INQUIRY data and of every vital product data page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peripheral {
    pub qualifier: PeripheralQualifier,
    pub device_type: DeviceType,
}

impl Peripheral {
    /// A disk that is there.
    pub const DISK: Self =
        Self { qualifier: PeripheralQualifier::Connected, device_type: DeviceType::DirectAccess };
    /// What a target says of a LUN it has nothing at.
    pub const NONE: Self =
        Self { qualifier: PeripheralQualifier::NotSupported, device_type: DeviceType::Unknown };
}

/// Whether there is a device behind the LUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeripheralQualifier {
    Connected,
    /// Possible here, but not connected.
    NotConnected,
    /// Nothing can be at this LUN.
    NotSupported,
    /// Three bits.
    Other(u8),
}

/// Peripheral device types (SPC, 6.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceType {
    /// A disk (SBC).
    DirectAccess,
    /// An enclosure (SES).
    EnclosureServices,
    /// A storage array controller (SCC).
    ArrayController,
    /// A host managed zoned disk (ZBC).
    HostManagedZoned,
    WellKnownLogicalUnit,
    /// 1Fh: unknown, or no device.
    Unknown,
    /// Five bits.
    Other(u8),
}

/// Who may change asymmetric access states (SPC, 6.7.2: TPGS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortGroupSupport {
    #[default]
    None,
    Implicit,
    Explicit,
    Both,
}

impl From<u8> for Peripheral {
    fn from(byte: u8) -> Self {
        Self {
            qualifier: match byte >> 5 {
                0 => PeripheralQualifier::Connected,
                1 => PeripheralQualifier::NotConnected,
                3 => PeripheralQualifier::NotSupported,
                other => PeripheralQualifier::Other(other),
            },
            device_type: match byte & 0x1f {
                0x00 => DeviceType::DirectAccess,
                0x0c => DeviceType::ArrayController,
                0x0d => DeviceType::EnclosureServices,
                0x14 => DeviceType::HostManagedZoned,
                0x1e => DeviceType::WellKnownLogicalUnit,
                0x1f => DeviceType::Unknown,
                other => DeviceType::Other(other),
            },
        }
    }
}

impl From<Peripheral> for u8 {
    fn from(peripheral: Peripheral) -> Self {
        let qualifier = match peripheral.qualifier {
            PeripheralQualifier::Connected => 0,
            PeripheralQualifier::NotConnected => 1,
            PeripheralQualifier::NotSupported => 3,
            PeripheralQualifier::Other(bits) => bits,
        };
        let device_type = match peripheral.device_type {
            DeviceType::DirectAccess => 0x00,
            DeviceType::ArrayController => 0x0c,
            DeviceType::EnclosureServices => 0x0d,
            DeviceType::HostManagedZoned => 0x14,
            DeviceType::WellKnownLogicalUnit => 0x1e,
            DeviceType::Unknown => 0x1f,
            DeviceType::Other(bits) => bits & 0x1f,
        };
        qualifier << 5 | device_type
    }
}

impl From<u8> for PortGroupSupport {
    /// Takes the low two bits.
    fn from(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::None,
            1 => Self::Implicit,
            2 => Self::Explicit,
            _ => Self::Both,
        }
    }
}

impl From<PortGroupSupport> for u8 {
    fn from(support: PortGroupSupport) -> Self {
        match support {
            PortGroupSupport::None => 0,
            PortGroupSupport::Implicit => 1,
            PortGroupSupport::Explicit => 2,
            PortGroupSupport::Both => 3,
        }
    }
}

const SHORTEST: usize = 5;
const LENGTH_AFTER_5: u8 = 31;
/// The only response data format since SPC.
const RESPONSE_DATA_FORMAT: u8 = 2;
