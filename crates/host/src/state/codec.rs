//! How a state is written: as text, with a first line that says what follows and seals it.
//!
//! ```text
//! smpath-state 2 length 328 crc32c 9d03817e
//! nexus 80a1b2c3d4e5
//!   initiator iqn.2026-11.org.smpath:host
//!   target iqn.2001-04.com.example:disk
//!   portal 192.0.2.1:3260
//!   group 1
//!   login answered
//!   unit 0001000000000000 naa.6001405abcdef0123456789abcdef012
//! kept-out 192.0.2.1:3260
//!   target iqn.2001-04.com.example:disk
//!   failed naa.6001405abcdef0123456789abcdef012
//! ```
//!
//! Text, because it is read when something went badly: whoever has to decide that nothing is left of a dead process
//! wants to see which sessions it had, with nothing but `cat`. The seal keeps an edited line from being believed.
//! There is one way to write a state, and nothing else is read.
//!
//! Format 1 had no word for what operators keep out. A state without it is written in that format still, so that the
//! version before can read it.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use scsi_multipath::Hold;

use super::{HoldRecord, NexusRecord, State, UnitRecord};

/// The newest format that is written; those before it are read as well.
pub const FORMAT: u32 = 2;
/// The format of a state without holds.
const FORMAT_WITHOUT_HOLDS: u32 = 1;
/// Nexuses of one state: a thousand targets of one logical unit each over eight paths, twice.
pub const NEXUSES_MAX: usize = 16 << 10;
/// Logical units of all nexuses together: as many as nexuses, four times over.
pub const UNITS_MAX: usize = 64 << 10;
/// Paths that operators keep out: as many as there can be, since each is of a logical unit behind a nexus.
pub const HOLDS_MAX: usize = UNITS_MAX;
/// Bytes of an iSCSI name (RFC 7143, 4.2.7.1).
pub const NAME_LENGTH_MAX: usize = 223;
/// Bytes of an identity as it is printed: a designator has at most 255 bytes (SPC, designation descriptor), and each
/// may print as two digits.
pub const IDENTITY_LENGTH_MAX: usize = 512;
/// Bytes of a whole file: twice what the most nexuses, units and holds with names of a common length take. What is
/// longer is not a state, and is not taken into memory.
pub const FILE_LENGTH_MAX: usize = 24 << 20;

/// The first word of every state, whatever its format.
const MAGIC: &str = "smpath-state";
/// Bytes of the first line, with room for numbers that are too large.
const SEAL_LENGTH_MAX: usize = 96;

/// Why bytes are not a state, or why a state must not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("it does not begin with `{MAGIC}`: another program wrote it, or its beginning was overwritten")]
    NotState,
    #[error(
        "it has format {found}, and this smpath reads no format after {FORMAT}: a newer version wrote it; use that one"
    )]
    Format { found: u32 },
    #[error(
        "it has {found} bytes of {expected}: it was cut short, by a full or damaged file system or by another program"
    )]
    CutShort { expected: usize, found: usize },
    #[error("{extra} bytes follow behind its end: another program added to it")]
    Extended { extra: usize },
    #[error(
        "its checksum is {found:08x}, not {expected:08x}: it was edited by hand, or the file system lost or damaged \
         a part of it"
    )]
    Checksum { expected: u32, found: u32 },
    /// The checksum is right: whoever wrote it did it wrong.
    #[error("line {line} is not {expected}: the smpath that wrote it has a fault; please report it")]
    Malformed { line: usize, expected: &'static str },
    #[error("it has {found} bytes, more than a state can have ({FILE_LENGTH_MAX})")]
    TooLong { found: usize },
    #[error(
        "{found} {what} are more than one state can hold ({max}): serve the targets by several smpath processes"
    )]
    TooMany { what: &'static str, found: usize, max: usize },
    #[error("a name of {found} bytes is longer than {what} can be ({max})")]
    NameTooLong { what: &'static str, found: usize, max: usize },
}

impl State {
    /// The bytes that [`Self::decode`] reads. The flow label of an IPv6 portal is not kept: it is no part of the
    /// address.
    ///
    /// What is beyond a limit can be encoded and not be decoded: ask [`Self::check`] before.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = String::new();
        for nexus in &self.nexuses {
            // A `String` takes whatever there is memory for.
            let _ = write_nexus(&mut body, nexus);
        }
        for holds in self.holds.chunk_by(|one, next| (one.portal, &one.target) == (next.portal, &next.target))
        {
            let _ = write_holds(&mut body, holds);
        }
        let format = if self.holds.is_empty() { FORMAT_WITHOUT_HOLDS } else { FORMAT };
        let claim = claim(format, body.len());
        format!("{claim} crc32c {:08x}\n{body}", checksum(&claim, body.as_bytes())).into_bytes()
    }

    /// # Errors
    /// If the bytes are not what [`Self::encode`] makes of a state within the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.len() > FILE_LENGTH_MAX {
            return Err(StateError::TooLong { found: bytes.len() });
        }
        let body = unseal(bytes)?;
        let state = Lines::new(body)?.state()?;
        state.check_counts()?;
        // Other ways to write the same state are nobody's: a portal with leading zeros, a number with a sign.
        if state.encode() != bytes {
            return Err(StateError::Malformed { line: 1, expected: "followed by what this smpath writes" });
        }
        Ok(state)
    }

    /// Whether it can be encoded and decoded again.
    ///
    /// # Errors
    /// If it is beyond a limit.
    pub fn check(&self) -> Result<(), StateError> {
        self.check_counts()?;
        match self.encode().len() {
            found if found > FILE_LENGTH_MAX => Err(StateError::TooLong { found }),
            _ => Ok(()),
        }
    }

    fn check_counts(&self) -> Result<(), StateError> {
        at_most("nexuses", self.nexuses.len(), NEXUSES_MAX)?;
        at_most("logical units", self.nexuses.iter().map(|nexus| nexus.units.len()).sum(), UNITS_MAX)?;
        for nexus in &self.nexuses {
            no_longer("an iSCSI name", &nexus.initiator, NAME_LENGTH_MAX)?;
            no_longer("an iSCSI name", &nexus.target, NAME_LENGTH_MAX)?;
            for unit in &nexus.units {
                no_longer("an identity", &unit.identity, IDENTITY_LENGTH_MAX)?;
            }
        }
        at_most("paths that are kept out", self.holds.len(), HOLDS_MAX)?;
        for hold in &self.holds {
            no_longer("an iSCSI name", &hold.target, NAME_LENGTH_MAX)?;
            no_longer("an identity", &hold.identity, IDENTITY_LENGTH_MAX)?;
        }
        Ok(())
    }
}

fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), StateError> {
    if found > max { Err(StateError::TooMany { what, found, max }) } else { Ok(()) }
}

fn no_longer(what: &'static str, name: &str, max: usize) -> Result<(), StateError> {
    if name.len() > max { Err(StateError::NameTooLong { what, found: name.len(), max }) } else { Ok(()) }
}

fn write_nexus(body: &mut String, nexus: &NexusRecord) -> fmt::Result {
    let [a, b, c, d, e, f] = nexus.isid;
    writeln!(body, "nexus {a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")?;
    writeln!(body, "  initiator {}", Escaped(&nexus.initiator))?;
    writeln!(body, "  target {}", Escaped(&nexus.target))?;
    writeln!(body, "  portal {}", nexus.portal)?;
    match nexus.group {
        Some(group) => writeln!(body, "  group {group}")?,
        None => writeln!(body, "  group unknown")?,
    }
    writeln!(body, "  login {}", if nexus.abandoned { "abandoned" } else { "answered" })?;
    for unit in &nexus.units {
        writeln!(body, "  unit {:016x} {}", unit.lun, Escaped(&unit.identity))?;
    }
    Ok(())
}

/// Those of one target through one portal.
fn write_holds(body: &mut String, holds: &[HoldRecord]) -> fmt::Result {
    let Some(first) = holds.first() else { return Ok(()) };
    writeln!(body, "kept-out {}", first.portal)?;
    writeln!(body, "  target {}", Escaped(&first.target))?;
    for hold in holds {
        let word = match hold.hold {
            Hold::Failed => "failed",
            Hold::Drained => "drained",
        };
        writeln!(body, "  {word} {}", Escaped(&hold.identity))?;
    }
    Ok(())
}

/// What the first line says of the rest, and what the checksum covers besides.
fn claim(format: u32, length: usize) -> String {
    format!("{MAGIC} {format} length {length}")
}

fn checksum(claim: &str, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(claim.as_bytes()), body)
}

/// The lines behind the first one, if they are whole.
fn unseal(bytes: &[u8]) -> Result<&[u8], StateError> {
    let malformed = StateError::Malformed { line: 1, expected: "a length and a checksum" };
    if !bytes.starts_with(MAGIC.as_bytes()) {
        // Also what is cut short within its first word; an empty file above all.
        let cut_short = MAGIC.as_bytes().starts_with(bytes);
        let expected = MAGIC.len();
        return Err(if cut_short {
            StateError::CutShort { expected, found: bytes.len() }
        } else {
            StateError::NotState
        });
    }
    let first = &bytes[..bytes.len().min(SEAL_LENGTH_MAX)];
    let Some(end) = first.iter().position(|byte| *byte == b'\n') else {
        let whole = first.len() == SEAL_LENGTH_MAX;
        let cut_short = StateError::CutShort { expected: SEAL_LENGTH_MAX, found: bytes.len() };
        return Err(if whole { malformed } else { cut_short });
    };
    let body = &bytes[end + 1..];
    let seal = std::str::from_utf8(&first[..end]).map_err(|_| malformed.clone())?;
    let mut words = seal.split(' ').skip(1);
    let format = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| malformed.clone())?;
    if !(FORMAT_WITHOUT_HOLDS..=FORMAT).contains(&format) {
        return Err(StateError::Format { found: format });
    }
    let ["length", length, "crc32c", expected] = words.collect::<Vec<_>>()[..] else {
        return Err(malformed);
    };
    let length: usize = length.parse().map_err(|_| malformed.clone())?;
    let expected = u32::from_str_radix(expected, 16).map_err(|_| malformed)?;
    if let Some(extra) = body.len().checked_sub(length)
        && extra > 0
    {
        return Err(StateError::Extended { extra });
    }
    if body.len() < length {
        let whole = length.saturating_add(end + 1);
        return Err(StateError::CutShort { expected: whole, found: bytes.len() });
    }
    let found = checksum(&claim(format, length), body);
    if found == expected { Ok(body) } else { Err(StateError::Checksum { expected, found }) }
}

/// What begins the paths of one portal that are kept out.
const KEPT_OUT: &str = "kept-out ";

/// The lines behind the first one, one after the other.
struct Lines<'a> {
    lines: std::iter::Peekable<std::str::Lines<'a>>,
    /// The number of the line that comes next.
    number: usize,
}

impl<'a> Lines<'a> {
    fn new(body: &'a [u8]) -> Result<Self, StateError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let before = &body[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 2;
            StateError::Malformed { line, expected: "text" }
        })?;
        Ok(Self { lines: text.lines().peekable(), number: 2 })
    }

    fn state(&mut self) -> Result<State, StateError> {
        let mut nexuses = Vec::new();
        while self.lines.peek().is_some_and(|line| !line.starts_with(KEPT_OUT)) {
            nexuses.push(self.nexus()?);
        }
        let mut holds = Vec::new();
        while self.lines.peek().is_some() {
            self.holds(&mut holds)?;
        }
        Ok(State { nexuses, holds })
    }

    fn nexus(&mut self) -> Result<NexusRecord, StateError> {
        Ok(NexusRecord {
            isid: self.value("nexus ", "the beginning of a nexus", isid)?,
            initiator: self.value("  initiator ", "the name of an initiator", unescape)?,
            target: self.value("  target ", "the name of a target", unescape)?,
            portal: self
                .value("  portal ", "the address of a portal", |text| text.parse::<SocketAddr>().ok())?,
            group: self.value("  group ", "a target portal group", |text| match text {
                "unknown" => Some(None),
                number => number.parse().ok().map(Some),
            })?,
            abandoned: self.value("  login ", "how the last login went", |text| match text {
                "answered" => Some(false),
                "abandoned" => Some(true),
                _ => None,
            })?,
            units: self.units()?,
        })
    }

    fn units(&mut self) -> Result<Vec<UnitRecord>, StateError> {
        const UNIT: &str = "  unit ";
        let mut units = Vec::new();
        while self.lines.peek().is_some_and(|line| line.starts_with(UNIT)) {
            units.push(self.value(UNIT, "a logical unit", unit)?);
        }
        Ok(units)
    }

    /// Those of one target through one portal.
    fn holds(&mut self, holds: &mut Vec<HoldRecord>) -> Result<(), StateError> {
        let portal = self.value(KEPT_OUT, "a portal where paths are kept out", |text| text.parse().ok())?;
        let target: String = self.value("  target ", "the name of a target", unescape)?;
        while self.lines.peek().is_some_and(|line| line.starts_with("  ")) {
            let (hold, identity) = self.value("  ", "a path that is kept out", hold)?;
            holds.push(HoldRecord { portal, target: target.clone(), identity, hold });
        }
        Ok(())
    }

    /// What the next line says behind `key`.
    fn value<T>(
        &mut self,
        key: &str,
        expected: &'static str,
        parse: impl Fn(&'a str) -> Option<T>,
    ) -> Result<T, StateError> {
        let line = self.number;
        self.number += 1;
        let value = self.lines.next().and_then(|line| line.strip_prefix(key)).and_then(parse);
        value.ok_or(StateError::Malformed { line, expected })
    }
}

fn isid(text: &str) -> Option<[u8; 6]> {
    if text.len() != 12 {
        return None;
    }
    let [_, _, isid @ ..] = u64::from_str_radix(text, 16).ok()?.to_be_bytes();
    Some(isid)
}

fn unit(text: &str) -> Option<UnitRecord> {
    let (lun, identity) = text.split_once(' ')?;
    Some(UnitRecord { lun: u64::from_str_radix(lun, 16).ok()?, identity: unescape(identity)? })
}

fn hold(text: &str) -> Option<(Hold, String)> {
    let (word, identity) = text.split_once(' ')?;
    let hold = match word {
        "failed" => Hold::Failed,
        "drained" => Hold::Drained,
        _ => return None,
    };
    Some((hold, unescape(identity)?))
}

/// A name that stays on its line: control characters, and the sign that marks them, as `%` and two digits each.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if letter.is_ascii_control() || letter == '%' {
                write!(f, "%{:02x}", u32::from(letter))?;
            } else {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut name = String::from(parts.next()?);
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
        name.push(char::from(byte));
        name.push_str(rest);
    }
    Some(name)
}
