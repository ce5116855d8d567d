//! Which logical unit this is: the designators of VPD page 83h that belong to the logical unit.
//!
//! Two paths lead to one logical unit if their best designators are equal and nothing else that is globally
//! unique contradicts (SPC, Device Identification VPD page).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use scsi::vpd::{DesignatorType, DeviceIdPage};

/// What a logical unit is called, and everything else that would tell it from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: Name,
    /// Sorted, without repetitions: every globally unique designator.
    unique: Vec<Name>,
}

/// One designator of a logical unit, compared whole. Sorted by how much it is to be trusted, best first.
///
/// Printed as Linux prints it: `naa.…`, `eui.…`, `t10.…`, or a SCSI name string as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    kind: NameKind,
    value: Box<[u8]>,
}

/// The kinds of designators that can name a logical unit, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// NAA IEEE Registered Extended, 16 bytes.
    Naa6,
    /// NAA IEEE Registered, 8 bytes.
    Naa5,
    /// NAA IEEE Extended, 8 bytes.
    Naa2,
    Eui64Length16,
    Eui64Length12,
    Eui64Length8,
    /// RFC 4122 UUID.
    Uuid,
    /// A SCSI name string that starts with `naa.`, `eui.` or `iqn.`.
    NameString,
    /// T10 vendor identification based: weak, because nothing forces a vendor to make it unique.
    T10Vendor,
}

/// Why a logical unit has no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoIdentity {
    /// The device has no Device Identification VPD page.
    NoPage,
    /// The page cannot be parsed.
    Malformed,
    /// The page has no designator that belongs to the logical unit.
    NoDesignator,
    /// What it has is local to the array or the host (NAA 3h, vendor specific, relative ids, …).
    NotUnique,
    /// What it has names nothing: empty, all zero, all ones, of the wrong length, or not printable.
    Unusable(NameKind),
}

impl Identity {
    /// Takes the designators of the logical unit (association 00b) from the page and ranks them.
    ///
    /// # Errors
    /// When none of them can name the logical unit.
    pub fn from_device_id_page(page: &DeviceIdPage) -> Result<Self, NoIdentity> {
        let mut names = Vec::new();
        let mut why_not = NoIdentity::NoDesignator;
        for designator in page.of_logical_unit() {
            match Name::new(designator.kind, &designator.bytes) {
                Ok(name) => names.push(name),
                Err(reason) => why_not = reason,
            }
        }
        Self::from_names(names).ok_or(why_not)
    }

    fn from_names(mut names: Vec<Name>) -> Option<Self> {
        names.sort();
        names.dedup();
        let name = names.first()?.clone();
        names.retain(|name| name.kind.is_globally_unique());
        Some(Self { name, unique: names })
    }

    /// The best designator: what disks are found, sorted and shown by.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// A pair of globally unique designators of the same kind, ours and theirs, that cannot both name one
    /// logical unit.
    #[must_use]
    pub fn contradicts<'a>(&'a self, other: &'a Self) -> Option<(&'a Name, &'a Name)> {
        self.unique.iter().find_map(|ours| {
            let mut theirs = other.unique.iter().filter(|name| name.kind == ours.kind).peekable();
            let first = *theirs.peek()?;
            let mut shared = theirs.any(|name| name == ours);
            // A kind that is listed more than once agrees as soon as one of its designators is shared.
            shared |= self.unique.iter().any(|name| name.kind == ours.kind && other.unique.contains(name));
            (!shared).then_some((ours, first))
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl NameKind {
    const fn is_globally_unique(self) -> bool {
        !matches!(self, Self::T10Vendor)
    }
}

impl Name {
    fn new(kind: DesignatorType, value: &[u8]) -> Result<Self, NoIdentity> {
        match kind {
            DesignatorType::Naa => Self::naa(value),
            DesignatorType::Eui64 => Self::eui64(value),
            DesignatorType::Uuid => Self::uuid(value),
            DesignatorType::NameString => Self::name_string(value),
            DesignatorType::T10VendorId => Self::t10(value),
            _ => Err(NoIdentity::NotUnique),
        }
    }

    /// SPC, NAA designator format: the high nibble of the first byte says which.
    fn naa(value: &[u8]) -> Result<Self, NoIdentity> {
        let Some(first) = value.first() else { return Err(NoIdentity::NotUnique) };
        let (kind, length) = match first >> 4 {
            0x6 => (NameKind::Naa6, 16),
            0x5 => (NameKind::Naa5, 8),
            0x2 => (NameKind::Naa2, 8),
            // 3h is locally assigned; the rest is reserved.
            _ => return Err(NoIdentity::NotUnique),
        };
        // The nibble is the same in all of them: it must not make an empty value look like one.
        let low = first & 0x0f;
        let rest = &value[1..];
        let blank = (low == 0 && rest.iter().all(|&byte| byte == 0x00))
            || (low == 0x0f && rest.iter().all(|&byte| byte == 0xff));
        Self::accept(kind, value, value.len() == length && !blank)
    }

    /// SPC, EUI-64 based designator format: 8, 12 or 16 bytes.
    fn eui64(value: &[u8]) -> Result<Self, NoIdentity> {
        let kind = match value.len() {
            16 => NameKind::Eui64Length16,
            12 => NameKind::Eui64Length12,
            _ => NameKind::Eui64Length8,
        };
        let fits = matches!(value.len(), 8 | 12 | 16);
        Self::accept(kind, value, fits && !is_blank(value))
    }

    /// SPC, UUID identifier: 10h, a reserved byte, the UUID.
    fn uuid(value: &[u8]) -> Result<Self, NoIdentity> {
        match value {
            [0x10, _, uuid @ ..] => {
                Self::accept(NameKind::Uuid, uuid, uuid.len() == UUID_LENGTH && !is_blank(uuid))
            }
            _ => Err(NoIdentity::Unusable(NameKind::Uuid)),
        }
    }

    /// SPC, SCSI name string: UTF-8, padded with NULs.
    fn name_string(value: &[u8]) -> Result<Self, NoIdentity> {
        let value = without_padding(value);
        let known = NAME_STRING_PREFIXES
            .iter()
            .any(|prefix| value.len() > prefix.len() && value[..prefix.len()].eq_ignore_ascii_case(prefix));
        Self::accept(NameKind::NameString, value, known && is_printable(value))
    }

    /// SPC, T10 vendor ID based: eight bytes of vendor, then what the vendor likes.
    fn t10(value: &[u8]) -> Result<Self, NoIdentity> {
        let value = without_padding(value);
        let usable = value.len() > T10_VENDOR_LENGTH
            && is_printable(value)
            && !value[..T10_VENDOR_LENGTH].iter().all(|&byte| byte == b' ')
            && !value[T10_VENDOR_LENGTH..].iter().all(|&byte| matches!(byte, b' ' | b'0'));
        Self::accept(NameKind::T10Vendor, value, usable)
    }

    fn accept(kind: NameKind, value: &[u8], usable: bool) -> Result<Self, NoIdentity> {
        if usable { Ok(Self { kind, value: value.into() }) } else { Err(NoIdentity::Unusable(kind)) }
    }

    #[must_use]
    pub const fn kind(&self) -> NameKind {
        self.kind
    }

    /// Whether nothing but a vendor's habit makes this name unique.
    #[must_use]
    pub const fn is_weak(&self) -> bool {
        !self.kind.is_globally_unique()
    }
}

const UUID_LENGTH: usize = 16;
const T10_VENDOR_LENGTH: usize = 8;
/// SPC, SCSI name string designator format: what makes one unique in the world.
const NAME_STRING_PREFIXES: [&[u8]; 3] = [b"naa.", b"eui.", b"iqn."];

fn is_blank(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == 0x00) || value.iter().all(|&byte| byte == 0xff)
}

fn is_printable(value: &[u8]) -> bool {
    core::str::from_utf8(value).is_ok_and(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

fn without_padding(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &value[..end]
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            NameKind::Naa6 | NameKind::Naa5 | NameKind::Naa2 => write_hex(f, "naa.", &self.value),
            NameKind::Eui64Length16 | NameKind::Eui64Length12 | NameKind::Eui64Length8 => {
                write_hex(f, "eui.", &self.value)
            }
            NameKind::Uuid => write_uuid(f, &self.value),
            NameKind::T10Vendor => write!(f, "t10.{}", self.text()),
            NameKind::NameString => f.write_str(self.text()),
        }
    }
}

impl Name {
    fn text(&self) -> &str {
        core::str::from_utf8(&self.value).unwrap_or_default()
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, prefix: &str, bytes: &[u8]) -> fmt::Result {
    f.write_str(prefix)?;
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn write_uuid(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("uuid.")?;
    bytes.iter().enumerate().try_for_each(|(index, byte)| {
        let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        write!(f, "{dash}{byte:02x}")
    })
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Naa6 => "NAA 6h",
            Self::Naa5 => "NAA 5h",
            Self::Naa2 => "NAA 2h",
            Self::Eui64Length16 => "EUI-64 (16 bytes)",
            Self::Eui64Length12 => "EUI-64 (12 bytes)",
            Self::Eui64Length8 => "EUI-64",
            Self::Uuid => "UUID",
            Self::NameString => "SCSI name string",
            Self::T10Vendor => "T10 vendor id",
        })
    }
}

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPage => f.write_str("it has no device identification page (VPD 83h)"),
            Self::Malformed => f.write_str("its device identification page (VPD 83h) is malformed"),
            Self::NoDesignator => f.write_str("its device identification page names no logical unit"),
            Self::NotUnique => f.write_str("all its designators are local, none is unique in the world"),
            Self::Unusable(kind) => write!(f, "its {kind} designator is blank, cut or not printable"),
        }
    }
}
