//! CHAP with MD5, one-way and mutual (RFC 7143, 12.1.3; RFC 1994).
//!
//! Both sides use the same two types: [`Challenge`] is what a side asks, [`PeerChallenge`] what it is asked.

use core::fmt;

use md5::{Digest as _, Md5};

use crate::text::Text;

/// The CHAP algorithm number of MD5.
pub const ALGORITHM_MD5: &str = "5";
/// The length of our challenges, in bytes. Comes from outside: randomness is an argument.
pub const CHALLENGE_LENGTH: usize = 16;
/// The longest challenge that is accepted, in bytes (RFC 7143, 12.1.3).
pub const PEER_CHALLENGE_LENGTH_MAX: usize = 1024;
/// The longest secret, in bytes: more is a mistake such as a pasted file.
pub const SECRET_LENGTH_MAX: usize = 255;
/// A shorter secret, in bytes, can be guessed from a recorded exchange (RFC 7143, 9.2.1: 96 bits).
pub const SECRET_LENGTH_ADVISED_MIN: usize = 12;
/// A longer secret, in bytes, is refused by many initiators and targets.
pub const SECRET_LENGTH_ADVISED_MAX: usize = 16;

/// A shared secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

/// Something about a secret that its owner should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretWarning {
    /// Shorter than [`SECRET_LENGTH_ADVISED_MIN`].
    Short,
    /// Longer than [`SECRET_LENGTH_ADVISED_MAX`].
    Long,
}

/// Who somebody says to be, and how he proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub name: String,
    pub secret: Secret,
}

/// A challenge of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub identifier: u8,
    /// Unpredictable, and new for each login.
    pub bytes: [u8; CHALLENGE_LENGTH],
}

/// A challenge of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChallenge {
    identifier: u8,
    bytes: Vec<u8>,
}

/// Why authentication failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChapError {
    #[error("a CHAP secret has 1 to {SECRET_LENGTH_MAX} bytes, this one has {0}")]
    BadSecretLength(usize),
    #[error("the peer chose CHAP algorithm `{0}`, which was not offered")]
    AlgorithmNotOffered(String),
    #[error("the peer did not send {0}")]
    Missing(&'static str),
    #[error("the peer's {key} is not legal: `{value}`")]
    BadValue { key: &'static str, value: String },
    #[error("the peer sent our own challenge back: somebody without the secret pretends to be the peer")]
    Reflected,
    #[error("the peer says to be `{0}`, which is not the expected CHAP name")]
    WrongName(String),
    #[error("the peer does not know the secret of `{0}`")]
    WrongResponse(String),
}

impl Secret {
    /// # Errors
    /// If it is empty or longer than [`SECRET_LENGTH_MAX`].
    pub fn new(secret: &[u8]) -> Result<Self, ChapError> {
        if secret.is_empty() || secret.len() > SECRET_LENGTH_MAX {
            return Err(ChapError::BadSecretLength(secret.len()));
        }
        Ok(Self(secret.into()))
    }

    #[must_use]
    pub fn warning(&self) -> Option<SecretWarning> {
        match self.0.len() {
            ..SECRET_LENGTH_ADVISED_MIN => Some(SecretWarning::Short),
            SECRET_LENGTH_ADVISED_MIN..=SECRET_LENGTH_ADVISED_MAX => None,
            _ => Some(SecretWarning::Long),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Challenge {
    /// Adds `CHAP_I` and `CHAP_C`.
    pub fn push(&self, text: &mut Text) {
        text.push("CHAP_I", &self.identifier.to_string());
        text.push("CHAP_C", &encode_hex(&self.bytes));
    }

    /// Checks the `CHAP_N` and `CHAP_R` of the peer, taking equally long wherever a response differs.
    ///
    /// # Errors
    /// If one is missing, or they do not prove that the peer knows the secret.
    pub fn verify(&self, text: &Text, expected: &Credentials) -> Result<(), ChapError> {
        let name = text.value("CHAP_N").ok_or(ChapError::Missing("CHAP_N"))?;
        let value = text.value("CHAP_R").ok_or(ChapError::Missing("CHAP_R"))?;
        let response = decode_binary(value, RESPONSE_LENGTH)
            .filter(|response| response.len() == RESPONSE_LENGTH)
            .ok_or_else(|| bad_value("CHAP_R", value))?;
        if name != expected.name {
            return Err(ChapError::WrongName(for_people(name)));
        }
        if !equal(&response, &respond(self.identifier, &expected.secret, &self.bytes)) {
            return Err(ChapError::WrongResponse(expected.name.clone()));
        }
        Ok(())
    }
}

impl PeerChallenge {
    /// From `CHAP_I` and `CHAP_C`; `ours` is the challenge that this side uses in the same login, if any.
    ///
    /// # Errors
    /// If one is missing or malformed, or the challenge is ours (RFC 7143, 12.1.3: a reflection attack).
    pub fn parse(text: &Text, ours: Option<&Challenge>) -> Result<Self, ChapError> {
        let identifier = text.value("CHAP_I").ok_or(ChapError::Missing("CHAP_I"))?;
        let challenge = text.value("CHAP_C").ok_or(ChapError::Missing("CHAP_C"))?;
        let identifier = crate::negotiation::parse_number(identifier)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or_else(|| bad_value("CHAP_I", identifier))?;
        let bytes = decode_binary(challenge, PEER_CHALLENGE_LENGTH_MAX)
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| bad_value("CHAP_C", challenge))?;
        if ours.is_some_and(|ours| ours.bytes == bytes[..]) {
            return Err(ChapError::Reflected);
        }
        Ok(Self { identifier, bytes })
    }

    /// Adds `CHAP_N` and `CHAP_R`.
    pub fn answer(&self, credentials: &Credentials, text: &mut Text) {
        text.push("CHAP_N", &credentials.name);
        text.push("CHAP_R", &encode_hex(&respond(self.identifier, &credentials.secret, &self.bytes)));
    }
}

/// The length of an MD5 digest, in bytes.
const RESPONSE_LENGTH: usize = 16;

/// RFC 1994, 4.1: the digest over the identifier, the secret and the challenge.
fn respond(identifier: u8, secret: &Secret, challenge: &[u8]) -> [u8; RESPONSE_LENGTH] {
    Md5::new().chain_update([identifier]).chain_update(&secret.0).chain_update(challenge).finalize().into()
}

/// Compares without telling by its duration where the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && core::hint::black_box(a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
}

fn encode_hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes what is written to it");
        text
    })
}

/// A binary value (RFC 7143, 6.1): `0x` and hexadecimal digits, or `0b` and base64. None if it is neither, or
/// longer than `length_max` bytes.
fn decode_binary(value: &str, length_max: usize) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => decode_hex(digits)?,
        "0b" | "0B" => decode_base64(digits)?,
        _ => return None,
    };
    (bytes.len() <= length_max).then_some(bytes)
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (first, pairs) = digits.as_bytes().split_at(digits.len() % 2);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    if let [odd] = first {
        bytes.push(digit(*odd)?);
    }
    for pair in pairs.chunks_exact(2) {
        bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(bytes)
}

/// RFC 4648, section 4, with its padding present or left out.
fn decode_base64(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, a, b, c] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            4 => bytes.extend([a, b, c]),
            3 => bytes.extend([a, b]),
            2 => bytes.push(a),
            _ => return None,
        }
    }
    Some(bytes)
}

fn bad_value(key: &'static str, value: &str) -> ChapError {
    ChapError::BadValue { key, value: for_people(value) }
}

/// At most the first 64 characters of something from outside.
fn for_people(value: &str) -> String {
    value.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str, secret: &str) -> Credentials {
        Credentials { name: name.into(), secret: Secret::new(secret.as_bytes()).unwrap() }
    }

    const OURS: Challenge = Challenge { identifier: 7, bytes: *b"0123456789abcdef" };

    #[test]
    fn a_peer_that_knows_the_secret_is_believed() {
        let alice = credentials("alice", "correct horse");
        let mut question = Text::new();
        OURS.push(&mut question);
        assert_eq!(question.as_bytes(), b"CHAP_I=7\0CHAP_C=0x30313233343536373839616263646566\0");
        let mut answer = Text::new();
        PeerChallenge::parse(&question, None).unwrap().answer(&alice, &mut answer);
        assert_eq!(OURS.verify(&answer, &alice), Ok(()));
        assert_eq!(
            OURS.verify(&answer, &credentials("alice", "battery staple")),
            Err(ChapError::WrongResponse("alice".into()))
        );
        assert_eq!(
            OURS.verify(&answer, &credentials("bob", "correct horse")),
            Err(ChapError::WrongName("alice".into()))
        );
    }

    #[test]
    fn a_response_is_the_digest_of_identifier_secret_and_challenge() {
        // MD5 of the ten bytes 01 73 65 63 72 65 74 00 01 02 ("\x01secret\x00\x01\x02").
        let response = respond(1, &Secret::new(b"secret").unwrap(), &[0, 1, 2]);
        assert_eq!(response, <[u8; 16]>::from(Md5::digest(b"\x01secret\x00\x01\x02")));
    }

    #[test]
    fn our_own_challenge_sent_back_is_refused() {
        let mut question = Text::new();
        OURS.push(&mut question);
        assert_eq!(PeerChallenge::parse(&question, Some(&OURS)), Err(ChapError::Reflected));
    }

    #[test]
    fn binary_values_come_in_hexadecimal_and_in_base64() {
        for (value, bytes) in [
            ("0x0aFF", &[0x0a, 0xff][..]),
            ("0Xabc", &[0x0a, 0xbc]),
            ("0x", &[]),
            ("0bTWFu", b"Man"),
            ("0bTWE=", b"Ma"),
            ("0BTQ==", b"M"),
            ("0bTQ", b"M"),
        ] {
            assert_eq!(decode_binary(value, 3).as_deref(), Some(bytes), "{value}");
        }
        for value in ["", "0", "12", "0xg0", "0b*", "0bT", "0x01020304", "\u{e9}\u{e9}"] {
            assert_eq!(decode_binary(value, 3), None, "{value}");
        }
    }

    #[test]
    fn a_challenge_that_is_missing_empty_or_malformed_is_refused() {
        let parse = |text: &[u8]| PeerChallenge::parse(&Text::parse(text).unwrap(), None).unwrap_err();
        assert_eq!(parse(b"CHAP_C=0x00\0"), ChapError::Missing("CHAP_I"));
        assert_eq!(parse(b"CHAP_I=1\0"), ChapError::Missing("CHAP_C"));
        assert!(matches!(parse(b"CHAP_I=256\0CHAP_C=0x00\0"), ChapError::BadValue { key: "CHAP_I", .. }));
        assert!(matches!(parse(b"CHAP_I=1\0CHAP_C=0x\0"), ChapError::BadValue { key: "CHAP_C", .. }));
    }

    #[test]
    fn secrets_of_a_bad_length_are_warned_about_or_refused_and_never_shown() {
        assert_eq!(Secret::new(b"").unwrap_err(), ChapError::BadSecretLength(0));
        assert_eq!(Secret::new(b"elevenbytes").unwrap().warning(), Some(SecretWarning::Short));
        assert_eq!(Secret::new(b"twelve bytes").unwrap().warning(), None);
        assert_eq!(Secret::new(b"seventeen bytes..").unwrap().warning(), Some(SecretWarning::Long));
        assert_eq!(
            format!("{:?}", credentials("a", "hidden")),
            "Credentials { name: \"a\", secret: Secret(..) }"
        );
    }
}
