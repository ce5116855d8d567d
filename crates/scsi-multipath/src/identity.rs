//! Which logical unit this is: the designators of VPD page 83h that belong to the logical unit.
//!
//! Two paths lead to one logical unit if their best designators are equal and nothing else that is globally
//! unique contradicts (SPC, Device Identification VPD page).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

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
