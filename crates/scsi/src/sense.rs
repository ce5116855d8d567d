//! Sense data, fixed and descriptor format (SPC, 4.4).

use core::fmt;

/// The longest sense data that is kept: SPC caps it at 252 bytes; what matters stands in the first 96.
pub const SENSE_LENGTH_MAX: usize = 96;

/// Sense data as it came, so that nothing a device server says is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SenseData {
    bytes: [u8; SENSE_LENGTH_MAX],
    length: u8,
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
    VolumeOverflow,
    Miscompare,
    Completed,
    /// 0Ch is reserved.
    Reserved,
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

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenseData({:02x?})", self.as_slice())
    }
}
