//! Big-endian fields, and what every parser here shares.

use alloc::vec::Vec;
use core::fmt;

/// Why bytes from outside could not be understood. It is always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer bytes than the data says it has, or than its shortest form has. `needed` is what to ask for.
    Truncated { needed: usize, got: usize },
    /// A page other than the one asked for.
    WrongPage { expected: u8, got: u8 },
    /// A list longer than the named limit of its type.
    TooMany { limit: usize },
    /// A length or a value at this byte that contradicts the rest.
    Malformed { byte: usize },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { needed, got } => write!(f, "{got} bytes where {needed} are needed"),
            Self::WrongPage { expected, got } => {
                write!(f, "page {got:02x}h where {expected:02x}h was asked for")
            }
            Self::TooMany { limit } => write!(f, "a list of more than {limit} entries"),
            Self::Malformed { byte } => write!(f, "byte {byte} contradicts the rest"),
        }
    }
}

impl core::error::Error for ParseError {}

/// A left-aligned text field padded with blanks (SPC, 4.3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ascii<const N: usize>(pub [u8; N]);

impl<const N: usize> Ascii<N> {
    /// The field for a text; what does not fit is cut off.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut field = [b' '; N];
        for (byte, letter) in field.iter_mut().zip(text.bytes()) {
            *byte = letter;
        }
        Self(field)
    }

    pub(crate) fn at(bytes: &[u8], at: usize) -> Self {
        Self(array_at(bytes, at))
    }
}

impl<const N: usize> fmt::Display for Ascii<N> {
    /// Without the padding; bytes that do not print show as `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for &byte in trimmed(&self.0) {
            f.write_char(if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' })?;
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Ascii<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Without the blanks and zeros at its end.
fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
    &text[..end]
}

/// A list whose length has been checked, entry by entry; `base` is where it begins in the data. An entry that
/// runs beyond the list's end is malformed: asking for more bytes would not help.
pub(crate) fn entries<T>(
    list: &[u8],
    base: usize,
    limit: usize,
    parse: impl Fn(&[u8]) -> Result<(T, usize), ParseError>,
) -> Result<Vec<T>, ParseError> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < list.len() {
        if entries.len() == limit {
            return Err(ParseError::TooMany { limit });
        }
        let (entry, length) = parse(&list[at..]).map_err(|error| match error {
            ParseError::Truncated { .. } => ParseError::Malformed { byte: base + at },
            ParseError::Malformed { byte } => ParseError::Malformed { byte: base + at + byte },
            other => other,
        })?;
        entries.push(entry);
        at += length;
    }
    Ok(entries)
}

/// Says how many bytes are needed, if they are not there.
pub(crate) const fn need(bytes: &[u8], needed: usize) -> Result<(), ParseError> {
    if bytes.len() < needed {
        return Err(ParseError::Truncated { needed, got: bytes.len() });
    }
    Ok(())
}

/// The `N` bytes at an offset. Bytes beyond the end read as zero: a parser that must have them calls [`need`].
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    let there = bytes.get(at..).unwrap_or_default();
    let length = there.len().min(N);
    field[..length].copy_from_slice(&there[..length]);
    field
}

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

pub(crate) fn bit_at(bytes: &[u8], at: usize, bit: u8) -> bool {
    u8_at(bytes, at) >> bit & 1 == 1
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array_at(bytes, at))
}

pub(crate) fn put<const N: usize>(out: &mut [u8], at: usize, field: [u8; N]) {
    out[at..at + N].copy_from_slice(&field);
}

pub(crate) fn put_u16(out: &mut [u8], at: usize, value: u16) {
    put(out, at, value.to_be_bytes());
}

pub(crate) fn put_u32(out: &mut [u8], at: usize, value: u32) {
    put(out, at, value.to_be_bytes());
}

pub(crate) fn put_u64(out: &mut [u8], at: usize, value: u64) {
    put(out, at, value.to_be_bytes());
}

/// A flag as the bit that carries it.
pub(crate) const fn flag(set: bool, bit: u8) -> u8 {
    (set as u8) << bit
}

/// A length for a two-byte field. Every list that is emitted is far below that by its own limit.
pub(crate) fn length16(length: usize) -> u16 {
    u16::try_from(length).expect("a list is bounded below 64 KiB")
}

/// A length for a four-byte field.
pub(crate) fn length32(length: usize) -> u32 {
    u32::try_from(length).expect("a list is bounded below 4 GiB")
}
