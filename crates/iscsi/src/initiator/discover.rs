//! SendTargets (RFC 7143, appendix C): which targets there are, and through which portals.

use clock::Instant;

use crate::name::Name;
use crate::negotiation::parse_number;
use crate::pdu::{InitiatorTaskTag, TargetTransferTag, TextResponse};
use crate::text::{Text, TextBuffer};

use super::error::{Misbehaviour, Reason};

/// The TCP port of iSCSI.
pub const PORT_DEFAULT: u16 = 3260;
/// The most text of one answer, in bytes: some 2,000 targets with four portals each.
const TEXT_LENGTH_MAX: usize = 1 << 20;
/// The most PDUs of one answer: enough for [`TEXT_LENGTH_MAX`] from a target that fills 512 bytes of each.
const ROUNDS_MAX: u32 = 2048;

/// Which targets to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All; only in a discovery session.
    All,
    /// The one that the session is with.
    This,
    Target(Name),
}

/// A target, as it was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRecord {
    /// As it came: some targets have names that are not legal.
    pub name: String,
    /// In the order of the announcement. None: only the portal that was asked.
    pub portals: Vec<Portal>,
    /// Addresses that could not be read.
    pub unreadable: Vec<String>,
}

/// Where a target can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Portal {
    /// A domain name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// The portal group tag, if it was given.
    pub group: Option<u16>,
}

/// A question that waits for the rest of its answer.
#[derive(Debug)]
pub(super) struct Discovery {
    pub(super) tag: InitiatorTaskTag,
    /// For the next PDU of the answer.
    pub(super) deadline: Instant,
    text: TextBuffer,
    rounds: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Ask for more, with this tag.
    More(TargetTransferTag),
    Done(Vec<TargetRecord>),
}

impl Scope {
    pub(super) fn request(&self) -> Text {
        let mut text = Text::new();
        text.push(
            "SendTargets",
            match self {
                Self::All => "All",
                Self::This => "",
                Self::Target(name) => name.as_str(),
            },
        );
        text
    }
}

impl Discovery {
    pub(super) const fn new(tag: InitiatorTaskTag, deadline: Instant) -> Self {
        Self { tag, deadline, text: TextBuffer::new(TEXT_LENGTH_MAX), rounds: 0 }
    }

    pub(super) fn receive(&mut self, response: &TextResponse, data: &[u8]) -> Result<Progress, Reason> {
        self.text.push(data)?;
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(Misbehaviour::EndlessText.into());
        }
        match (response.last, response.more, response.target_transfer_tag) {
            // A C bit with an F bit is not legal (RFC 7143, 11.11.2), nor is an end that wants to go on.
            (true, false, _) => Ok(Progress::Done(targets(&self.text.take()?))),
            (false, _, TargetTransferTag::NONE) | (true, true, _) => Err(Misbehaviour::UnexpectedText.into()),
            (false, _, tag) => Ok(Progress::More(tag)),
        }
    }
}

fn targets(text: &Text) -> Vec<TargetRecord> {
    let mut targets: Vec<TargetRecord> = Vec::new();
    for (key, value) in text.iter() {
        match (key, targets.last_mut()) {
            ("TargetName", _) => targets.push(TargetRecord {
                name: value.to_owned(),
                portals: Vec::new(),
                unreadable: Vec::new(),
            }),
            ("TargetAddress", Some(target)) => match Portal::parse(value) {
                Some(portal) => target.portals.push(portal),
                None => target.unreadable.push(value.to_owned()),
            },
            _ => {}
        }
    }
    targets
}

impl Portal {
    /// `HOST[:PORT][,GROUP]`, with an IPv6 address in brackets (RFC 7143, 13.8).
    #[must_use]
    pub fn parse(address: &str) -> Option<Self> {
        let (place, group) = match address.rsplit_once(',') {
            Some((place, group)) => (place, Some(parse_short(group)?)),
            None => (address, None),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
                (host, port)
            }
            None => match place.rsplit_once(':') {
                // An IPv6 address without brackets is not legal, and some targets send it.
                Some((host, _)) if host.contains(':') => (place, None),
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map_or(Some(PORT_DEFAULT), parse_short)?;
        let legal = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
        let host_is_legal = (1..=255).contains(&host.len()) && host.chars().all(legal);
        host_is_legal.then(|| Self { host: host.to_owned(), port, group })
    }
}

fn parse_short(number: &str) -> Option<u16> {
    u16::try_from(parse_number(number)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal(host: &str, port: u16, group: Option<u16>) -> Option<Portal> {
        Some(Portal { host: host.into(), port, group })
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        assert_eq!(Portal::parse("10.0.0.1:3261,2"), portal("10.0.0.1", 3261, Some(2)));
        assert_eq!(Portal::parse("san.example.com,1"), portal("san.example.com", 3260, Some(1)));
        assert_eq!(Portal::parse("[2001:db8::1]:3260,65535"), portal("2001:db8::1", 3260, Some(65535)));
        assert_eq!(Portal::parse("[fe80::1%eth0]"), portal("fe80::1%eth0", 3260, None));
        assert_eq!(Portal::parse("2001:db8::1,1"), portal("2001:db8::1", 3260, Some(1)));
        for address in ["", ",1", "10.0.0.1:70000,1", "10.0.0.1:3260,x", "[2001:db8::1", "a b:1,1", "[::1]x"]
        {
            assert_eq!(Portal::parse(address), None, "{address}");
        }
    }

    #[test]
    fn every_target_keeps_all_its_portals() {
        let text = Text::parse(
            b"TargetName=iqn.2001-04.com.example:a\0TargetAddress=10.0.0.1:3260,1\0TargetAddress=10.0.1.1:3260,2\0\
              TargetName=odd name\0TargetAddress=:,\0",
        );
        let targets = targets(&text.unwrap());
        assert_eq!(targets[0].portals.len(), 2);
        assert_eq!(targets[1].name, "odd name");
        assert_eq!(targets[1].unreadable, [":,"]);
    }
}
