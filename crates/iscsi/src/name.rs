//! iSCSI names (RFC 7143, 4.2.7).

use core::fmt;
use core::str::FromStr;

/// The longest name, in bytes.
pub const NAME_LENGTH_MAX: usize = 223;

/// The name of an iSCSI node: `iqn.`, `eui.` or `naa.` format. Kept as it was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Why something is not an iSCSI name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("an iSCSI name has at most {NAME_LENGTH_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("`{0}` does not begin with `iqn.`, `eui.` or `naa.`")]
    UnknownFormat(String),
    #[error("`{0}` is not of the form iqn.YYYY-MM.REVERSED-DOMAIN[:ANYTHING]")]
    BadQualifiedName(String),
    #[error("`{name}` does not have {expected} hexadecimal digits behind its first dot")]
    BadDigits { name: String, expected: &'static str },
    #[error("`{name}` holds `{character}`, which no iSCSI name may")]
    BadCharacter { name: String, character: char },
}

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if name.len() > NAME_LENGTH_MAX {
            return Err(NameError::TooLong(name.len()));
        }
        // RFC 3722 allows fewer characters; real targets use capitals and underscores too.
        let allowed = |c: char| {
            c.is_ascii_alphanumeric() || "-.:_".contains(c) || (!c.is_ascii() && c.is_alphanumeric())
        };
        if let Some(character) = name.chars().find(|&c| !allowed(c)) {
            return Err(NameError::BadCharacter { name: name.to_owned(), character });
        }
        match name.split_once('.') {
            Some(("iqn", rest)) if is_qualified(rest) => {}
            Some(("iqn", _)) => return Err(NameError::BadQualifiedName(name.to_owned())),
            Some(("eui", digits)) if is_hex(digits) && digits.len() == 16 => {}
            Some(("eui", _)) => return Err(NameError::BadDigits { name: name.to_owned(), expected: "16" }),
            Some(("naa", digits)) if is_hex(digits) && matches!(digits.len(), 16 | 32) => {}
            Some(("naa", _)) => {
                return Err(NameError::BadDigits { name: name.to_owned(), expected: "16 or 32" });
            }
            _ => return Err(NameError::UnknownFormat(name.to_owned())),
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `YYYY-MM.` and something that belongs to somebody.
fn is_qualified(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    bytes.len() > 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && matches!(&bytes[5..7], [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2'])
        && bytes[7] == b'.'
        && bytes[8] != b':'
}

fn is_hex(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_three_formats_are_taken_as_they_are() {
        for name in [
            "iqn.2001-04.com.example:storage.disk_2-SYS1",
            "iqn.2001-04.com.example",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
            "naa.62004567BA64678D0123456789ABCDEF",
        ] {
            assert_eq!(name.parse::<Name>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused_with_its_reason() {
        let refusal = |name: &str| name.parse::<Name>().unwrap_err();
        assert_eq!(refusal("disk1"), NameError::UnknownFormat("disk1".into()));
        for name in
            ["iqn.", "iqn.2001-13.com.example", "iqn.2001-04", "iqn.2001-04.:disk", "iqn.01-04.com.example"]
        {
            assert_eq!(refusal(name), NameError::BadQualifiedName(name.into()));
        }
        assert!(matches!(refusal("eui.0200"), NameError::BadDigits { .. }));
        assert!(matches!(
            refusal("iqn.2001-04.com.example:a b"),
            NameError::BadCharacter { character: ' ', .. }
        ));
        assert_eq!(refusal(&format!("iqn.2001-04.com.example:{}", "x".repeat(200))), NameError::TooLong(224));
    }
}
