//! Text of logins and Text requests: `key=value` pairs, each ended by a zero byte (RFC 7143, section 6).

use crate::pdu::DATA_SEGMENT_LENGTH_MAX;

/// The longest name of a key (RFC 7143, 6.1), in bytes.
pub const KEY_LENGTH_MAX: usize = 63;
/// The longest value that is accepted, in bytes: RFC 7143 (6.1) asks for 255 unless a key says otherwise; a
/// CHAP value in hexadecimal takes up to 2 + 2 x 1024 (RFC 7143, 12.1.3).
pub const VALUE_LENGTH_MAX: usize = 2 + 2 * 1024;

/// Text that is being put together from the data segments of several PDUs.
///
/// Bounded, because it is kept before the peer has proved who it is.
#[derive(Debug)]
pub struct TextBuffer {
    bytes: Vec<u8>,
    bytes_max: usize,
}

/// The pairs of a text, in the order in which they were given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Text {
    bytes: Vec<u8>,
}

/// Why bytes are not text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("more than {max} bytes of text")]
    TooLong { max: usize },
    #[error("the text does not end with a zero byte")]
    NotTerminated,
    #[error("`{0}` has no `=`")]
    NoValue(String),
    #[error("`{0}` is not the name of a key")]
    BadKey(String),
    #[error("the value of `{0}` is longer than {VALUE_LENGTH_MAX} bytes")]
    ValueTooLong(String),
    #[error("the value of `{0}` is not UTF-8")]
    NotUtf8(String),
}

impl TextBuffer {
    /// Room for at most `bytes_max` bytes.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    /// Adds the data segment of one PDU.
    ///
    /// # Errors
    /// If the text grows beyond its bound.
    pub fn push(&mut self, segment: &[u8]) -> Result<(), TextError> {
        if segment.len() > self.bytes_max - self.bytes.len() {
            return Err(TextError::TooLong { max: self.bytes_max });
        }
        self.bytes.extend_from_slice(segment);
        Ok(())
    }

    /// The whole text, once the last PDU of it has come. The buffer is empty afterwards.
    ///
    /// # Errors
    /// If it is not a sequence of pairs.
    pub fn take(&mut self) -> Result<Text, TextError> {
        Text::parse(&core::mem::take(&mut self.bytes))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Text {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks every pair, so that [`Self::iter`] cannot meet a bad one. Zero bytes where a pair should begin
    /// are skipped: some targets count their padding as text.
    ///
    /// # Errors
    /// If the bytes are not pairs.
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let mut text = Self::new();
        let Some((0, pairs)) = bytes.split_last() else {
            return if bytes.is_empty() { Ok(text) } else { Err(TextError::NotTerminated) };
        };
        for pair in pairs.split(|&byte| byte == 0).filter(|pair| !pair.is_empty()) {
            let (key, value) = parse_pair(pair)?;
            text.push(key, value);
        }
        Ok(text)
    }

    /// Adds a pair.
    pub fn push(&mut self, key: &str, value: &str) {
        debug_assert!(is_key(key) && !value.contains('\0'), "a pair that can be read back");
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Key and value of each pair.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.bytes.split(|&byte| byte == 0).filter_map(|pair| str::from_utf8(pair).ok()?.split_once('='))
    }

    /// The value of a key; the first one, should it be there twice.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The data segments that carry the text, each of at most `segment_max` bytes; at least one, maybe empty.
    /// All but the last are sent with the C bit.
    pub fn segments(&self, segment_max: u32) -> impl ExactSizeIterator<Item = &[u8]> {
        let segment_max = segment_max.clamp(1, DATA_SEGMENT_LENGTH_MAX) as usize;
        let count = self.bytes.len().div_ceil(segment_max).max(1);
        (0..count).map(move |index| {
            let rest = &self.bytes[index * segment_max..];
            &rest[..rest.len().min(segment_max)]
        })
    }
}

fn parse_pair(pair: &[u8]) -> Result<(&str, &str), TextError> {
    let Some(equals) = pair.iter().position(|&byte| byte == b'=') else {
        return Err(TextError::NoValue(for_people(pair)));
    };
    let (key, value) = (&pair[..equals], &pair[equals + 1..]);
    let Some(key) = str::from_utf8(key).ok().filter(|key| is_key(key)) else {
        return Err(TextError::BadKey(for_people(key)));
    };
    if value.len() > VALUE_LENGTH_MAX {
        return Err(TextError::ValueTooLong(key.to_owned()));
    }
    match str::from_utf8(value) {
        Ok(value) => Ok((key, value)),
        Err(_) => Err(TextError::NotUtf8(key.to_owned())),
    }
}

/// Standard label (RFC 7143, 6.1), with the characters that extension keys use in practice.
fn is_key(key: &str) -> bool {
    (1..=KEY_LENGTH_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+@_/#:".contains(&byte))
}

/// At most the first 40 bytes of something from outside, fit to be printed.
fn for_people(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(40)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_in_order() {
        let mut text = Text::new();
        text.push("HeaderDigest", "CRC32C,None");
        text.push("X-com.example.key", "");
        assert_eq!(text.as_bytes(), b"HeaderDigest=CRC32C,None\0X-com.example.key=\0");
        let again = Text::parse(text.as_bytes()).unwrap();
        assert_eq!(
            again.iter().collect::<Vec<_>>(),
            [("HeaderDigest", "CRC32C,None"), ("X-com.example.key", "")]
        );
        assert_eq!(again.value("HeaderDigest"), Some("CRC32C,None"));
    }

    #[test]
    fn a_value_may_hold_an_equals_sign_and_padding_may_be_counted_as_text() {
        let text = Text::parse(b"A=b=c\0\0\0").unwrap();
        assert_eq!(text.iter().collect::<Vec<_>>(), [("A", "b=c")]);
    }

    #[test]
    fn what_is_not_text_is_refused_with_its_reason() {
        assert_eq!(Text::parse(b"A=b"), Err(TextError::NotTerminated));
        assert_eq!(Text::parse(b"Ab\0"), Err(TextError::NoValue("Ab".into())));
        assert_eq!(Text::parse(b"=b\0"), Err(TextError::BadKey(String::new())));
        assert_eq!(Text::parse(b"A=\xff\0"), Err(TextError::NotUtf8("A".into())));
        let long = [b"A=".as_slice(), &vec![b'x'; VALUE_LENGTH_MAX + 1], b"\0"].concat();
        assert_eq!(Text::parse(&long), Err(TextError::ValueTooLong("A".into())));
    }

    #[test]
    fn text_over_several_segments_is_put_together_again_within_its_bound() {
        let mut text = Text::new();
        text.push("TargetName", "iqn.2001-04.com.example:disk");
        let mut buffer = TextBuffer::new(text.as_bytes().len());
        let segments: Vec<_> = text.segments(7).collect();
        assert_eq!(segments.len(), text.as_bytes().len().div_ceil(7));
        for segment in segments {
            buffer.push(segment).unwrap();
        }
        assert_eq!(buffer.push(b"x"), Err(TextError::TooLong { max: text.as_bytes().len() }));
        assert_eq!(buffer.take(), Ok(text));
        assert!(buffer.is_empty());
    }

    #[test]
    fn no_text_at_all_is_one_empty_segment() {
        assert_eq!(Text::new().segments(512).collect::<Vec<_>>(), [b""]);
    }
}
