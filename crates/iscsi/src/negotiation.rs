//! Negotiation of the operational keys (RFC 7143, section 13), for both sides.
//!
//! Either side may offer a key; the other answers. Whether a pair that comes in is an offer or an answer
//! follows from what this side has offered. Keys of the security stage and names are not handled here.

use crate::stream::Digest;
use crate::text::Text;

/// What one side wants. The defaults suit a disk over a data centre network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    pub header_digest: DigestPolicy,
    pub data_digest: DigestPolicy,
    /// Yes: no unsolicited Data-Out; the result is Yes if either side says so.
    pub initial_r2t: bool,
    /// Data in the same PDU as a command; the result is Yes only if both sides say so.
    pub immediate_data: bool,
    /// The longest data segment that this side takes, in bytes: 512 to 2^24 - 1.
    pub max_recv_data_segment_length: u32,
    /// The longest solicited sequence, in bytes: 512 to 2^24 - 1.
    pub max_burst_length: u32,
    /// The most unsolicited data of a command, in bytes: 512 to `max_burst_length`.
    pub first_burst_length: u32,
    /// 1 to 65535.
    pub max_outstanding_r2t: u16,
    /// In seconds, up to 3600.
    pub default_time2wait: u16,
    /// In seconds, up to 3600.
    pub default_time2retain: u16,
}

/// Which digests a side accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestPolicy {
    Never,
    /// None if the other side accepts that too.
    #[default]
    Accept,
    /// CRC32C if the other side accepts that too.
    Prefer,
    Require,
}

/// What holds for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub header_digest: Digest,
    pub data_digest: Digest,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// Ours, in bytes.
    pub max_recv_data_segment_length: u32,
    /// The peer's MaxRecvDataSegmentLength, in bytes.
    pub max_send_data_segment_length: u32,
    pub max_burst_length: u32,
    pub first_burst_length: u32,
    pub max_outstanding_r2t: u16,
    /// In seconds.
    pub default_time2wait: u16,
    /// In seconds.
    pub default_time2retain: u16,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    Normal,
    /// Only SendTargets: keys about SCSI data have no meaning.
    Discovery,
}

/// Why a negotiation failed. Each of them is a fault of the peer, or of the two configurations together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    #[error("{key}: {offered} was offered, and the peer answered `{answered}`, which is not legal")]
    IllegalAnswer { key: &'static str, offered: String, answered: String },
    #[error("{key}: {offered} was offered, and the peer refused with `{answered}`")]
    Refused { key: &'static str, offered: String, answered: String },
    #[error("{key}: {offered} was offered and must be agreed on, and the peer did not answer")]
    Unanswered { key: &'static str, offered: String },
    #[error("{key}: the peer offered `{value}`, which is not legal")]
    IllegalOffer { key: &'static str, value: String },
    #[error("{key}: the peer gave it twice")]
    Repeated { key: &'static str },
}

/// One negotiation, from the first operational key to the full feature phase.
#[derive(Clone, Debug)]
pub struct Negotiation {
    offers: Offers,
    session_type: SessionType,
    offered: [bool; KEYS.len()],
    settled: [Option<u32>; KEYS.len()],
    max_send_data_segment_length: Option<u32>,
    declared: bool,
}

impl Default for Offers {
    fn default() -> Self {
        Self {
            header_digest: DigestPolicy::Accept,
            data_digest: DigestPolicy::Accept,
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_length: 256 << 10,
            max_burst_length: 16_776_192,
            first_burst_length: 256 << 10,
            max_outstanding_r2t: 1,
            default_time2wait: 2,
            default_time2retain: 0,
        }
    }
}

impl Offers {
    /// The key that has an illegal value, if any.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if !DATA_LENGTHS.contains(&self.max_recv_data_segment_length) {
            return Some(MAX_RECV_DATA_SEGMENT_LENGTH);
        }
        if self.first_burst_length > self.max_burst_length {
            return Some(Key::FirstBurstLength.name());
        }
        KEYS.into_iter().find(|key| !key.rule().allows(key.ours(self))).map(Key::name)
    }
}

impl Negotiation {
    #[must_use]
    pub const fn new(offers: Offers, session_type: SessionType) -> Self {
        Self {
            offers,
            session_type,
            offered: [false; KEYS.len()],
            settled: [None; KEYS.len()],
            max_send_data_segment_length: None,
            declared: false,
        }
    }

    /// Offers every key that matters and that is not settled yet.
    pub fn offer(&mut self, text: &mut Text) {
        for key in KEYS {
            let relevant = self.session_type == SessionType::Normal || key.matters_in_discovery();
            if relevant && self.settled[key.index()].is_none() && !self.offered[key.index()] {
                self.offered[key.index()] = true;
                text.push(key.name(), &key.offered(&self.offers));
            }
        }
        self.declare(text);
    }

    /// Declares our MaxRecvDataSegmentLength, once.
    pub fn declare(&mut self, text: &mut Text) {
        if !self.declared {
            self.declared = true;
            text.push(MAX_RECV_DATA_SEGMENT_LENGTH, &self.offers.max_recv_data_segment_length.to_string());
        }
    }

    /// Takes an answer, or answers an offer into `reply`. A key that nobody knows is answered `NotUnderstood`.
    ///
    /// # Errors
    /// If the peer breaks a rule, or refuses what was offered.
    pub fn receive(&mut self, key: &str, value: &str, reply: &mut Text) -> Result<(), NegotiationError> {
        if key == MAX_RECV_DATA_SEGMENT_LENGTH {
            return self.receive_declaration(value);
        }
        let Some(known) = KEYS.into_iter().find(|known| known.name() == key) else {
            answer_other(key, value, reply);
            return Ok(());
        };
        if self.settled[known.index()].is_some() {
            return Err(NegotiationError::Repeated { key: known.name() });
        }
        let settled = if self.offered[known.index()] {
            self.check_answer(known, value)?
        } else {
            let result = self.result_of_offer(known, value)?;
            reply.push(known.name(), &known.print(result));
            result
        };
        self.settled[known.index()] = Some(settled);
        Ok(())
    }

    /// What holds now that the login is over. A key that nobody mentioned has its default, and one that the
    /// peer left unanswered the more careful of our offer and the default.
    ///
    /// # Errors
    /// If a digest that we insist on was not agreed on.
    pub fn finish(&self) -> Result<Negotiated, NegotiationError> {
        let mut values = [0; KEYS.len()];
        for key in KEYS {
            values[key.index()] = match self.settled[key.index()] {
                Some(value) => value,
                None if self.offered[key.index()] => self.without_answer(key)?,
                None => key.default(),
            };
        }
        let value = |key: Key| values[key.index()];
        let digest = |key| if value(key) == CRC32C { Digest::Crc32c } else { Digest::None };
        let short = |key| u16::try_from(value(key)).unwrap_or(u16::MAX);
        let max_burst_length = value(Key::MaxBurstLength);
        Ok(Negotiated {
            header_digest: digest(Key::HeaderDigest),
            data_digest: digest(Key::DataDigest),
            initial_r2t: value(Key::InitialR2T) == YES,
            immediate_data: value(Key::ImmediateData) == YES,
            max_recv_data_segment_length: if self.declared {
                self.offers.max_recv_data_segment_length
            } else {
                DATA_SEGMENT_LENGTH_DEFAULT
            },
            max_send_data_segment_length: self
                .max_send_data_segment_length
                .unwrap_or(DATA_SEGMENT_LENGTH_DEFAULT),
            max_burst_length,
            // RFC 7143, 13.14: never above MaxBurstLength, whichever of them was lowered.
            first_burst_length: value(Key::FirstBurstLength).min(max_burst_length),
            max_outstanding_r2t: short(Key::MaxOutstandingR2T),
            default_time2wait: short(Key::DefaultTime2Wait),
            default_time2retain: short(Key::DefaultTime2Retain),
        })
    }

    fn receive_declaration(&mut self, value: &str) -> Result<(), NegotiationError> {
        let key = MAX_RECV_DATA_SEGMENT_LENGTH;
        let length = parse_number(value)
            .filter(|length| DATA_LENGTHS.contains(length))
            .ok_or_else(|| NegotiationError::IllegalOffer { key, value: for_people(value) })?;
        if self.max_send_data_segment_length.replace(length).is_some() {
            return Err(NegotiationError::Repeated { key });
        }
        Ok(())
    }

    fn check_answer(&self, key: Key, answered: &str) -> Result<u32, NegotiationError> {
        let ours = key.ours(&self.offers);
        let offered = key.offered(&self.offers);
        if matches!(answered, "Reject" | "NotUnderstood") {
            return Err(NegotiationError::Refused {
                key: key.name(),
                offered,
                answered: answered.to_owned(),
            });
        }
        if answered == "Irrelevant" {
            return self.without_answer(key);
        }
        let legal = key.parse(answered).filter(|&value| match key.rule() {
            Rule::Digest => key.policy(&self.offers).accepts(value),
            Rule::And => value <= ours,
            Rule::Or => value >= ours,
            Rule::Lower { .. } => value <= ours,
            Rule::Higher { .. } => value >= ours,
        });
        let illegal =
            || NegotiationError::IllegalAnswer { key: key.name(), offered, answered: for_people(answered) };
        legal.ok_or_else(illegal)
    }

    fn result_of_offer(&self, key: Key, value: &str) -> Result<u32, NegotiationError> {
        let illegal = || NegotiationError::IllegalOffer { key: key.name(), value: for_people(value) };
        if key.rule() == Rule::Digest {
            // RFC 7143, 6.2.1: the first of the list that the acceptor supports.
            let policy = key.policy(&self.offers);
            let listed = value.split(',').filter_map(|name| key.parse(name));
            return listed.into_iter().find(|&digest| policy.accepts(digest)).ok_or_else(illegal);
        }
        Ok(key.combine(key.ours(&self.offers), key.parse(value).ok_or_else(illegal)?))
    }

    fn without_answer(&self, key: Key) -> Result<u32, NegotiationError> {
        if key.rule() != Rule::Digest {
            return Ok(key.combine(key.ours(&self.offers), key.default()));
        }
        if key.policy(&self.offers) == DigestPolicy::Require {
            return Err(NegotiationError::Unanswered { key: key.name(), offered: key.offered(&self.offers) });
        }
        Ok(NO_DIGEST)
    }
}

/// A number as RFC 7143, 6.1 writes it: decimal, or hexadecimal behind `0x`.
pub(crate) fn parse_number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // `from_str_radix` would take a sign.
    digits.chars().all(|digit| digit.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
}

/// MaxRecvDataSegmentLength while nothing else was declared, and during login, in bytes (RFC 7143, 13.12).
pub const DATA_SEGMENT_LENGTH_DEFAULT: u32 = 8192;

const MAX_RECV_DATA_SEGMENT_LENGTH: &str = "MaxRecvDataSegmentLength";
const DATA_LENGTHS: core::ops::RangeInclusive<u32> = 512..=(1 << 24) - 1;
const SECONDS_MAX: u32 = 3600;

const NO: u32 = 0;
const YES: u32 = 1;
const NO_DIGEST: u32 = 0;
const CRC32C: u32 = 1;

/// The keys whose value is a result of both sides' wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    HeaderDigest,
    DataDigest,
    MaxConnections,
    InitialR2T,
    ImmediateData,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2T,
    DataPduInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
}

const KEYS: [Key; 13] = [
    Key::HeaderDigest,
    Key::DataDigest,
    Key::MaxConnections,
    Key::InitialR2T,
    Key::ImmediateData,
    Key::MaxBurstLength,
    Key::FirstBurstLength,
    Key::DefaultTime2Wait,
    Key::DefaultTime2Retain,
    Key::MaxOutstandingR2T,
    Key::DataPduInOrder,
    Key::DataSequenceInOrder,
    Key::ErrorRecoveryLevel,
];

/// How a result follows from two wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The first of the offered list that the other side accepts.
    Digest,
    And,
    Or,
    /// The lower of two numbers.
    Lower {
        min: u32,
        max: u32,
    },
    /// The higher of two numbers.
    Higher {
        min: u32,
        max: u32,
    },
}

impl Rule {
    fn allows(self, value: u32) -> bool {
        match self {
            Self::Digest | Self::And | Self::Or => value <= 1,
            Self::Lower { min, max } | Self::Higher { min, max } => (min..=max).contains(&value),
        }
    }
}

impl Key {
    const fn index(self) -> usize {
        self as usize
    }

    const fn name(self) -> &'static str {
        match self {
            Self::HeaderDigest => "HeaderDigest",
            Self::DataDigest => "DataDigest",
            Self::MaxConnections => "MaxConnections",
            Self::InitialR2T => "InitialR2T",
            Self::ImmediateData => "ImmediateData",
            Self::MaxBurstLength => "MaxBurstLength",
            Self::FirstBurstLength => "FirstBurstLength",
            Self::DefaultTime2Wait => "DefaultTime2Wait",
            Self::DefaultTime2Retain => "DefaultTime2Retain",
            Self::MaxOutstandingR2T => "MaxOutstandingR2T",
            Self::DataPduInOrder => "DataPDUInOrder",
            Self::DataSequenceInOrder => "DataSequenceInOrder",
            Self::ErrorRecoveryLevel => "ErrorRecoveryLevel",
        }
    }

    const fn rule(self) -> Rule {
        match self {
            Self::HeaderDigest | Self::DataDigest => Rule::Digest,
            Self::InitialR2T | Self::DataPduInOrder | Self::DataSequenceInOrder => Rule::Or,
            Self::ImmediateData => Rule::And,
            Self::MaxConnections | Self::MaxOutstandingR2T => Rule::Lower { min: 1, max: 65535 },
            Self::MaxBurstLength | Self::FirstBurstLength => {
                Rule::Lower { min: *DATA_LENGTHS.start(), max: *DATA_LENGTHS.end() }
            }
            Self::DefaultTime2Wait => Rule::Higher { min: 0, max: SECONDS_MAX },
            Self::DefaultTime2Retain => Rule::Lower { min: 0, max: SECONDS_MAX },
            Self::ErrorRecoveryLevel => Rule::Lower { min: 0, max: 2 },
        }
    }

    /// What holds if nobody says anything (RFC 7143, section 13).
    const fn default(self) -> u32 {
        match self {
            Self::HeaderDigest | Self::DataDigest => NO_DIGEST,
            Self::InitialR2T | Self::ImmediateData | Self::DataPduInOrder | Self::DataSequenceInOrder => YES,
            Self::MaxConnections | Self::MaxOutstandingR2T => 1,
            Self::MaxBurstLength => 262_144,
            Self::FirstBurstLength => 65_536,
            Self::DefaultTime2Wait => 2,
            Self::DefaultTime2Retain => 20,
            Self::ErrorRecoveryLevel => 0,
        }
    }

    const fn matters_in_discovery(self) -> bool {
        matches!(
            self,
            Self::HeaderDigest
                | Self::DataDigest
                | Self::DefaultTime2Wait
                | Self::DefaultTime2Retain
                | Self::ErrorRecoveryLevel
        )
    }

    const fn ours(self, offers: &Offers) -> u32 {
        match self {
            Self::HeaderDigest | Self::DataDigest => NO_DIGEST,
            Self::InitialR2T => offers.initial_r2t as u32,
            Self::ImmediateData => offers.immediate_data as u32,
            Self::MaxBurstLength => offers.max_burst_length,
            Self::FirstBurstLength => offers.first_burst_length,
            Self::DefaultTime2Wait => offers.default_time2wait as u32,
            Self::DefaultTime2Retain => offers.default_time2retain as u32,
            Self::MaxOutstandingR2T => offers.max_outstanding_r2t as u32,
            // One connection, everything in order, no recovery within a session.
            Self::MaxConnections => 1,
            Self::DataPduInOrder | Self::DataSequenceInOrder => YES,
            Self::ErrorRecoveryLevel => 0,
        }
    }

    const fn policy(self, offers: &Offers) -> DigestPolicy {
        if matches!(self, Self::HeaderDigest) { offers.header_digest } else { offers.data_digest }
    }

    fn offered(self, offers: &Offers) -> String {
        match self.rule() {
            Rule::Digest => self.policy(offers).list().to_owned(),
            _ => self.print(self.ours(offers)),
        }
    }

    fn print(self, value: u32) -> String {
        match self.rule() {
            Rule::Digest => if value == CRC32C { "CRC32C" } else { "None" }.to_owned(),
            Rule::And | Rule::Or => if value == YES { "Yes" } else { "No" }.to_owned(),
            Rule::Lower { .. } | Rule::Higher { .. } => value.to_string(),
        }
    }

    fn parse(self, value: &str) -> Option<u32> {
        let value = match (self.rule(), value) {
            (Rule::Digest, "None") => NO_DIGEST,
            (Rule::Digest, "CRC32C") => CRC32C,
            (Rule::And | Rule::Or, "No") => NO,
            (Rule::And | Rule::Or, "Yes") => YES,
            (Rule::Lower { .. } | Rule::Higher { .. }, number) => parse_number(number)?,
            _ => return None,
        };
        self.rule().allows(value).then_some(value)
    }

    fn combine(self, a: u32, b: u32) -> u32 {
        match self.rule() {
            Rule::And | Rule::Lower { .. } | Rule::Digest => a.min(b),
            Rule::Or | Rule::Higher { .. } => a.max(b),
        }
    }
}

impl DigestPolicy {
    const fn list(self) -> &'static str {
        match self {
            Self::Never => "None",
            Self::Accept => "None,CRC32C",
            Self::Prefer => "CRC32C,None",
            Self::Require => "CRC32C",
        }
    }

    const fn accepts(self, digest: u32) -> bool {
        match self {
            Self::Never => digest == NO_DIGEST,
            Self::Accept | Self::Prefer => true,
            Self::Require => digest == CRC32C,
        }
    }
}

/// Answers a key that is not negotiated here, unless it is itself an answer of that sort.
fn answer_other(key: &str, value: &str, reply: &mut Text) {
    if matches!(value, "NotUnderstood" | "Irrelevant" | "Reject") {
        return;
    }
    let answer = match key {
        // Obsolete since RFC 7143 (13.25), and still offered by old initiators.
        "IFMarker" | "OFMarker" => "No",
        "IFMarkInt" | "OFMarkInt" => "Irrelevant",
        // RFC 7143, 13.24: the level of RFC 7143 itself is 1; a level that the other side did not offer is none.
        "iSCSIProtocolLevel" => match parse_number(value) {
            Some(0) => "0",
            Some(1..=31) => "1",
            _ => "Reject",
        },
        "TaskReporting" if value.split(',').any(|way| way == "RFC3720") => "RFC3720",
        "TaskReporting" => "Reject",
        _ => "NotUnderstood",
    };
    reply.push(key, answer);
}

fn for_people(value: &str) -> String {
    value.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(negotiation: &mut Negotiation, key: &str, value: &str) -> Result<String, NegotiationError> {
        let mut reply = Text::new();
        negotiation.receive(key, value, &mut reply)?;
        Ok(String::from_utf8(reply.as_bytes().to_vec()).unwrap())
    }

    fn offering(offers: Offers) -> Negotiation {
        let mut negotiation = Negotiation::new(offers, SessionType::Normal);
        negotiation.offer(&mut Text::new());
        negotiation
    }

    /// Both sides talk until neither has anything to say.
    fn agree(a: Offers, b: Offers) -> (Negotiated, Negotiated) {
        let mut sides = [Negotiation::new(a, SessionType::Normal), Negotiation::new(b, SessionType::Normal)];
        let mut text = Text::new();
        sides[0].offer(&mut text);
        for side in [1, 0, 1] {
            let mut reply = Text::new();
            for (key, value) in text.iter() {
                sides[side].receive(key, value, &mut reply).unwrap();
            }
            sides[side].declare(&mut reply);
            text = reply;
        }
        assert!(text.is_empty(), "an answer is not answered");
        (sides[0].finish().unwrap(), sides[1].finish().unwrap())
    }

    #[test]
    fn both_sides_come_to_the_same_result() {
        for bits in 0..256_u32 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let policy = |on| if on { DigestPolicy::Prefer } else { DigestPolicy::Never };
            let a = Offers {
                header_digest: policy(bit(0)),
                data_digest: DigestPolicy::Accept,
                initial_r2t: bit(1),
                immediate_data: bit(2),
                max_burst_length: if bit(3) { 1024 } else { 4096 },
                first_burst_length: 1024,
                ..Offers::default()
            };
            let b = Offers {
                header_digest: policy(bit(4)),
                data_digest: policy(bit(5)),
                initial_r2t: bit(6),
                immediate_data: bit(7),
                max_burst_length: 2048,
                first_burst_length: 2048,
                max_recv_data_segment_length: 512,
                default_time2wait: 5,
                ..Offers::default()
            };
            let (ours, theirs) = agree(a, b);
            let mirrored = Negotiated {
                max_recv_data_segment_length: theirs.max_send_data_segment_length,
                max_send_data_segment_length: theirs.max_recv_data_segment_length,
                ..theirs
            };
            assert_eq!(ours, mirrored);
            assert_eq!(ours.initial_r2t, bit(1) || bit(6));
            assert_eq!(ours.immediate_data, bit(2) && bit(7));
            assert_eq!(ours.header_digest == Digest::Crc32c, bit(0) && bit(4));
            assert_eq!(ours.data_digest, Digest::None, "the list of the offering side begins with None");
            assert_eq!(ours.max_burst_length, if bit(3) { 1024 } else { 2048 });
            assert_eq!(ours.first_burst_length, 1024);
            assert_eq!((ours.default_time2wait, ours.default_time2retain), (5, 0));
            assert_eq!(ours.max_send_data_segment_length, 512);
        }
    }

    #[test]
    fn an_answer_outside_of_what_was_offered_is_refused_with_both_values() {
        let offers = Offers {
            immediate_data: false,
            initial_r2t: true,
            header_digest: DigestPolicy::Require,
            ..Offers::default()
        };
        for (key, offered, answered) in [
            ("ImmediateData", "No", "Yes"),
            ("InitialR2T", "Yes", "No"),
            ("HeaderDigest", "CRC32C", "None"),
            ("HeaderDigest", "CRC32C", "SHA3"),
            ("DataDigest", "None,CRC32C", "CRC32C,None"),
            ("FirstBurstLength", "262144", "262145"),
            ("FirstBurstLength", "262144", "511"),
            ("MaxConnections", "1", "2"),
            ("ErrorRecoveryLevel", "0", "1"),
            ("DefaultTime2Wait", "2", "1"),
            ("MaxOutstandingR2T", "1", "+1"),
            ("DataPDUInOrder", "Yes", "yes"),
        ] {
            let error = answer(&mut offering(offers), key, answered).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{key}: {offered} was offered, and the peer answered `{answered}`, which is not legal"
                )
            );
        }
    }

    #[test]
    fn a_refusal_says_what_was_refused() {
        let error = answer(&mut offering(Offers::default()), "MaxBurstLength", "Reject").unwrap_err();
        assert_eq!(
            error.to_string(),
            "MaxBurstLength: 16776192 was offered, and the peer refused with `Reject`"
        );
    }

    #[test]
    fn a_key_is_negotiated_once() {
        let mut negotiation = offering(Offers::default());
        assert_eq!(answer(&mut negotiation, "InitialR2T", "Yes"), Ok(String::new()));
        assert_eq!(
            answer(&mut negotiation, "InitialR2T", "Yes"),
            Err(NegotiationError::Repeated { key: "InitialR2T" })
        );
        assert_eq!(answer(&mut negotiation, "MaxRecvDataSegmentLength", "0x200"), Ok(String::new()));
        assert!(answer(&mut negotiation, "MaxRecvDataSegmentLength", "512").is_err());
    }

    #[test]
    fn unknown_keys_are_not_understood_and_old_ones_declined() {
        let mut negotiation = Negotiation::new(Offers::default(), SessionType::Normal);
        for (key, value, expected) in [
            ("X-com.example.turbo", "Yes", "X-com.example.turbo=NotUnderstood\0"),
            ("X-com.example.turbo", "NotUnderstood", ""),
            ("IFMarker", "No", "IFMarker=No\0"),
            ("OFMarkInt", "2048", "OFMarkInt=Irrelevant\0"),
            ("iSCSIProtocolLevel", "2", "iSCSIProtocolLevel=1\0"),
            ("TaskReporting", "FastAbort,RFC3720", "TaskReporting=RFC3720\0"),
        ] {
            assert_eq!(answer(&mut negotiation, key, value).unwrap(), expected);
        }
    }

    #[test]
    fn the_more_careful_value_holds_for_what_the_peer_does_not_answer() {
        let offers = Offers {
            immediate_data: false,
            initial_r2t: false,
            first_burst_length: 1 << 20,
            ..Offers::default()
        };
        let mut negotiation = offering(offers);
        assert_eq!(answer(&mut negotiation, "FirstBurstLength", "Irrelevant"), Ok(String::new()));
        let result = negotiation.finish().unwrap();
        assert!(result.initial_r2t && !result.immediate_data);
        assert_eq!((result.first_burst_length, result.max_burst_length), (65_536, 262_144));
        assert_eq!(result.max_send_data_segment_length, 8192);

        let insisting = offering(Offers { data_digest: DigestPolicy::Require, ..offers });
        assert!(matches!(insisting.finish(), Err(NegotiationError::Unanswered { key: "DataDigest", .. })));
    }

    #[test]
    fn an_offer_outside_of_its_range_is_refused() {
        for (key, value) in [
            ("MaxBurstLength", "511"),
            ("MaxBurstLength", "16777216"),
            ("DefaultTime2Wait", "3601"),
            ("MaxOutstandingR2T", "0"),
            ("HeaderDigest", "SHA3"),
            ("MaxRecvDataSegmentLength", "511"),
            ("MaxRecvDataSegmentLength", ""),
        ] {
            let mut negotiation = Negotiation::new(Offers::default(), SessionType::Normal);
            assert!(
                matches!(answer(&mut negotiation, key, value), Err(NegotiationError::IllegalOffer { .. })),
                "{key}={value}"
            );
        }
    }

    #[test]
    fn a_discovery_session_offers_only_what_matters_to_it() {
        let mut text = Text::new();
        Negotiation::new(Offers::default(), SessionType::Discovery).offer(&mut text);
        assert_eq!(
            text.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            [
                "HeaderDigest",
                "DataDigest",
                "DefaultTime2Wait",
                "DefaultTime2Retain",
                "ErrorRecoveryLevel",
                "MaxRecvDataSegmentLength"
            ]
        );
    }

    #[test]
    fn offers_that_are_not_legal_name_their_key() {
        assert_eq!(Offers::default().fault(), None);
        assert_eq!(
            Offers { max_recv_data_segment_length: 511, ..Offers::default() }.fault(),
            Some("MaxRecvDataSegmentLength")
        );
        assert_eq!(Offers { max_burst_length: 1 << 24, ..Offers::default() }.fault(), Some("MaxBurstLength"));
        assert_eq!(Offers { max_burst_length: 512, ..Offers::default() }.fault(), Some("FirstBurstLength"));
        assert_eq!(
            Offers { default_time2retain: 3601, ..Offers::default() }.fault(),
            Some("DefaultTime2Retain")
        );
    }
}
