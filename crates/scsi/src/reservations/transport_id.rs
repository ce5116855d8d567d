//! TransportIDs: names of initiator ports (SPC, 7.6.4).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::bytes::{ParseError, length16, need, put_u16, u16_at};

/// The longest iSCSI name (RFC 7143, 4.2.7.2), in bytes.
pub const ISCSI_NAME_LENGTH_MAX: usize = 223;

/// The name of an initiator port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransportId {
    Iscsi {
        name: String,
        /// The initiator part of the session identifier; without it, every port of the initiator is meant.
        isid: Option<[u8; 6]>,
    },
    /// Another protocol, or an iSCSI one that breaks the rules, exactly as it came; a multiple of four bytes.
    Other(Vec<u8>),
}

impl TransportId {
    /// The first TransportID, and how many bytes it takes.
    ///
    /// # Errors
    /// If it is cut off, or its length is not a multiple of four.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), ParseError> {
        need(bytes, HEADER)?;
        if bytes[0] & 0x0f != ISCSI {
            need(bytes, LENGTH)?;
            return Ok((Self::Other(bytes[..LENGTH].to_vec()), LENGTH));
        }
        let end = HEADER + usize::from(u16_at(bytes, 2));
        if !end.is_multiple_of(4) {
            return Err(ParseError::Malformed { byte: 2 });
        }
        need(bytes, end)?;
        let bytes = &bytes[..end];
        let id = iscsi(bytes).unwrap_or_else(|| Self::Other(bytes.to_vec()));
        Ok((id, end))
    }

    /// # Panics
    /// If an iSCSI name is longer than 64 KiB, which [`ISCSI_NAME_LENGTH_MAX`] forbids.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let (name, isid) = match self {
            Self::Iscsi { name, isid } => (name, isid),
            Self::Other(bytes) => return bytes.clone(),
        };
        let mut bytes = vec![ISCSI, 0, 0, 0];
        bytes.extend_from_slice(name.as_bytes());
        if let Some(isid) = isid {
            bytes[0] |= WITH_ISID;
            bytes.extend_from_slice(SEPARATOR.as_bytes());
            bytes.extend(isid.iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 0x0f)]));
        }
        // At least one zero ends the name.
        let length = (bytes.len() + 1).next_multiple_of(4).max(LENGTH);
        bytes.resize(length, 0);
        put_u16(&mut bytes, 2, length16(length - HEADER));
        bytes
    }
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iscsi { name, isid: None } => f.write_str(name),
            Self::Iscsi { name, isid: Some(isid) } => {
                write!(f, "{name}{SEPARATOR}")?;
                isid.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Other(bytes) => write!(f, "{bytes:02x?}"),
        }
    }
}

/// None if it is not as RFC 7143 and SPC want it.
fn iscsi(bytes: &[u8]) -> Option<TransportId> {
    let text = str::from_utf8(&bytes[HEADER..]).ok()?;
    let (text, padding) = text.split_once('\0')?;
    if padding.bytes().any(|byte| byte != 0) {
        return None;
    }
    let (name, isid) = match bytes[0] {
        ISCSI => (text, None),
        IDENTIFIED => {
            let (name, digits) = text.split_once(SEPARATOR)?;
            (name, Some(parse_isid(digits)?))
        }
        _ => return None,
    };
    let legal = !name.is_empty() && name.len() <= ISCSI_NAME_LENGTH_MAX;
    legal.then(|| TransportId::Iscsi { name: name.into(), isid })
}

/// Twelve hexadecimal digits.
fn parse_isid(digits: &str) -> Option<[u8; 6]> {
    if digits.len() != 12 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let [_, _, isid @ ..] = u64::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some(isid)
}

const fn hex(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}

const HEADER: usize = 4;
/// The length of every TransportID but long iSCSI ones.
const LENGTH: usize = 24;
const ISCSI: u8 = 0x05;
/// Format code 01b.
const WITH_ISID: u8 = 0x40;
const IDENTIFIED: u8 = ISCSI | WITH_ISID;
const SEPARATOR: &str = ",i,0x";
