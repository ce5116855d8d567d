//! Mode pages: the bytes as they are, and views of the two that matter here.

use alloc::vec;
use alloc::vec::Vec;

use super::{CACHING, CONTROL};
use crate::bytes::{ParseError, bit_at, flag, length16, need, put_u16, u8_at, u16_at};

/// One mode page, exactly as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModePage {
    /// It can be saved (PS). Reserved in MODE SELECT.
    pub savable: bool,
    /// Six bits.
    pub code: u8,
    /// Present in the subpage format (SPF).
    pub subpage: Option<u8>,
    /// What follows the page length. At most 255 bytes without a subpage, 65,535 with one.
    pub bytes: Vec<u8>,
}

impl ModePage {
    /// As the caching page; none if it is another page, or too short to tell.
    #[must_use]
    pub fn caching(&self) -> Option<CachingPage> {
        let bytes = self.content(CACHING)?;
        Some(CachingPage {
            write_cache: bit_at(bytes, 0, 2),
            read_cache_disabled: bit_at(bytes, 0, 0),
            read_ahead_disabled: bit_at(bytes, 10, 5),
            non_volatile_disabled: bit_at(bytes, 10, 0),
        })
    }

    /// As the control page; none if it is another page, or too short to tell.
    #[must_use]
    pub fn control(&self) -> Option<ControlPage> {
        let bytes = self.content(CONTROL)?;
        Some(ControlPage {
            task_set: TaskSetType::from(bytes[0] >> 5),
            descriptor_sense: bit_at(bytes, 0, 2),
            queue_algorithm: u8_at(bytes, 1) >> 4,
            queue_error: QueueError::from(u8_at(bytes, 1) >> 1 & 0b11),
            attention_interlock: u8_at(bytes, 2) >> 4 & 0b11,
            software_write_protect: bit_at(bytes, 2, 3),
            application_tag_owner: bit_at(bytes, 3, 7),
            task_aborted_status: bit_at(bytes, 3, 6),
            busy_timeout: u16_at(bytes, 6),
            self_test_secs: u16_at(bytes, 8),
        })
    }

    /// The bytes of a page without subpage that has at least the flags of its first byte.
    fn content(&self, code: u8) -> Option<&[u8]> {
        let matches = self.code == code && self.subpage.is_none() && !self.bytes.is_empty();
        matches.then_some(self.bytes.as_slice())
    }

    /// The first page, and how many bytes it takes.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        let subpaged = bit_at(bytes, 0, 6);
        let header = if subpaged { 4 } else { 2 };
        need(bytes, header)?;
        let length = if subpaged { usize::from(u16_at(bytes, 2)) } else { usize::from(bytes[1]) };
        let end = header + length;
        need(bytes, end)?;
        let page = Self {
            savable: bit_at(bytes, 0, 7),
            code: bytes[0] & 0x3f,
            subpage: subpaged.then(|| bytes[1]),
            bytes: bytes[header..end].to_vec(),
        };
        Ok((page, end))
    }

    pub(super) fn emit(&self) -> Vec<u8> {
        let first = flag(self.savable, 7) | flag(self.subpage.is_some(), 6) | self.code & 0x3f;
        let mut bytes = match self.subpage {
            Some(subpage) => {
                let [high, low] = length16(self.bytes.len()).to_be_bytes();
                vec![first, subpage, high, low]
            }
            None => {
                let length =
                    u8::try_from(self.bytes.len()).expect("a page without a subpage is at most 255 bytes");
                vec![first, length]
            }
        };
        bytes.extend_from_slice(&self.bytes);
        bytes
    }
}

/// The caching page (SBC, 6.5.6), as much of it as somebody here asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachingPage {
    /// Writes may be acknowledged from a volatile cache (WCE).
    pub write_cache: bool,
    /// Reads are not served from the cache (RCD).
    pub read_cache_disabled: bool,
    /// DRA.
    pub read_ahead_disabled: bool,
    /// The non-volatile cache is switched off (NV_DIS).
    pub non_volatile_disabled: bool,
}

impl From<CachingPage> for ModePage {
    /// A whole page; what the view does not have is zero.
    fn from(page: CachingPage) -> Self {
        let mut bytes = vec![0; CACHING_LENGTH];
        bytes[0] = flag(page.write_cache, 2) | flag(page.read_cache_disabled, 0);
        bytes[10] = flag(page.read_ahead_disabled, 5) | flag(page.non_volatile_disabled, 0);
        Self { savable: false, code: CACHING, subpage: None, bytes }
    }
}

/// The control page (SPC, 7.5.9), as much of it as somebody here asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlPage {
    pub task_set: TaskSetType,
    /// Sense data comes in descriptor format (D_SENSE).
    pub descriptor_sense: bool,
    /// Four bits; 0h restricted reordering, 1h unrestricted (QUEUE ALGORITHM MODIFIER).
    pub queue_algorithm: u8,
    pub queue_error: QueueError,
    /// Two bits (UA_INTLCK_CTRL).
    pub attention_interlock: u8,
    /// Writes are refused (SWP).
    pub software_write_protect: bool,
    /// The initiator owns the application tags (ATO).
    pub application_tag_owner: bool,
    /// Commands that another nexus aborted end with TASK ABORTED instead of silently (TAS).
    pub task_aborted_status: bool,
    /// How long the unit may answer BUSY, in units of 100 ms; FFFFh without limit.
    pub busy_timeout: u16,
    /// In seconds.
    pub self_test_secs: u16,
}

impl From<ControlPage> for ModePage {
    /// A whole page; what the view does not have is zero.
    fn from(page: ControlPage) -> Self {
        let mut bytes = vec![0; CONTROL_LENGTH];
        bytes[0] = u8::from(page.task_set) << 5 | flag(page.descriptor_sense, 2);
        bytes[1] = page.queue_algorithm << 4 | u8::from(page.queue_error) << 1;
        bytes[2] = (page.attention_interlock & 0b11) << 4 | flag(page.software_write_protect, 3);
        bytes[3] = flag(page.application_tag_owner, 7) | flag(page.task_aborted_status, 6);
        put_u16(&mut bytes, 6, page.busy_timeout);
        put_u16(&mut bytes, 8, page.self_test_secs);
        Self { savable: false, code: CONTROL, subpage: None, bytes }
    }
}

/// Whether nexuses share a task set (TST).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskSetType {
    #[default]
    Shared,
    PerNexus,
    /// Three bits.
    Reserved(u8),
}

/// What becomes of other commands when one ends with CHECK CONDITION (QERR).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueError {
    #[default]
    Continue,
    AbortAll,
    Reserved,
    /// Those of the same nexus are aborted.
    AbortNexus,
}

impl From<u8> for TaskSetType {
    /// Takes the three bits of the field.
    fn from(bits: u8) -> Self {
        match bits {
            0 => Self::Shared,
            1 => Self::PerNexus,
            other => Self::Reserved(other),
        }
    }
}

impl From<TaskSetType> for u8 {
    fn from(kind: TaskSetType) -> Self {
        match kind {
            TaskSetType::Shared => 0,
            TaskSetType::PerNexus => 1,
            TaskSetType::Reserved(bits) => bits,
        }
    }
}

impl From<u8> for QueueError {
    /// Takes the low two bits.
    fn from(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::Continue,
            1 => Self::AbortAll,
            2 => Self::Reserved,
            _ => Self::AbortNexus,
        }
    }
}

impl From<QueueError> for u8 {
    fn from(queue_error: QueueError) -> Self {
        match queue_error {
            QueueError::Continue => 0,
            QueueError::AbortAll => 1,
            QueueError::Reserved => 2,
            QueueError::AbortNexus => 3,
        }
    }
}

const CACHING_LENGTH: usize = 18;
const CONTROL_LENGTH: usize = 10;
