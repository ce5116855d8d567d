//! What the initiator sends and takes, as it goes by at its end of each connection: identity before write (I19), and
//! patience with a login that is to be a fence (I15).
//!
//! Sees PDUs only. What the product thinks of them it does not know.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Duration, Instant};
use iscsi::pdu::{Header, Opcode};

use super::Rule;
use crate::link::{ConnectionId, End, Seen};

/// A logical unit number as it stands in a header.
type LunBytes = [u8; 8];
/// An initiator port, by its ISID, and the port group that it is logged in to: a nexus.
type Nexus = ([u8; 6], u16);

#[derive(Debug, Default)]
pub(crate) struct WireCheck {
    links: BTreeMap<ConnectionId, Link>,
    /// Nexuses that were lost with writes on them, and not logged in to since.
    ambiguous: BTreeSet<Nexus>,
    /// Logins of such nexuses that were given up before they were answered.
    given_up: BTreeSet<Nexus>,
    /// Whether the product fences at all.
    expects_fences: bool,
    /// When the initiator sent LOGICAL UNIT RESET last.
    reset_at: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    nexus: Option<Nexus>,
    since: Instant,
    stage: Stage,
    commands: BTreeMap<u32, Command>,
    /// Task management functions that are out, with the commands that each is about.
    functions: BTreeMap<u32, Vec<u32>>,
    /// Units whose identity was read since the last doubt about it.
    verified: BTreeSet<LunBytes>,
    /// When the doubt came up. What is sent at the same instant was decided on before.
    doubted: BTreeMap<LunBytes, Instant>,
    /// When the initiator was told last that something may have changed behind a number, and behind any.
    told: BTreeMap<LunBytes, Instant>,
    told_of_all: Option<Instant>,
    /// Where units have told that they end.
    ends: BTreeMap<LunBytes, Told>,
    /// Units that have said their first 29h: every nexus begins with one, which is no news of the unit.
    greeted: BTreeSet<LunBytes>,
}

/// Where a unit has told that it ends.
#[derive(Clone, Copy, Debug)]
struct Told {
    last: u64,
    at: Instant,
    /// Commands that went on beyond it.
    beyond: usize,
}

/// After so long nothing is sent beyond an end that was told, but for some requests that were let in before.
const TAKEN_IN: Duration = Duration::from_secs(2);
const BEYOND_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connected,
    LoggingIn { since: Instant },
    LoggedIn,
}

#[derive(Clone, Copy, Debug)]
struct Command {
    lun: LunBytes,
    kind: Kind,
    cdb: [u8; 16],
    sent: Instant,
    /// Some of its data was sent: without any a write cannot be executed.
    has_data: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    /// INQUIRY for VPD page 83h.
    Identity,
    Other,
}

/// Something that checkers elsewhere want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The initiator was told that a unit may have lost what was in its cache, over a connection that is as old. Not for
    /// sure, if every new nexus is told so, or after a reset.
    CacheDoubtful { unit: u32, connected: Instant, for_sure: bool },
}

/// How long a login that is to fence is waited for at least.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after LOGICAL UNIT RESET was sent a unit may still say that it was reset. The code for that says as well that
/// power came back: whoever is told so at that time cannot know which.
const RESET_SHOWS_MAX: Duration = Duration::from_secs(10);

/// What a device server said of a command.
struct Status {
    code: u8,
    /// Response code, key, additional sense code and qualifier.
    sense: Option<(u8, u8, u8, u8)>,
}

impl WireCheck {
    pub(crate) fn new(expects_fences: bool) -> Self {
        Self { expects_fences, ..Self::default() }
    }

    /// A PDU went by at the initiator's end.
    pub(crate) fn seen(
        &mut self,
        now: Instant,
        id: ConnectionId,
        group: u16,
        toward: End,
        seen: &Seen,
    ) -> Result<Option<Notice>, (Rule, String)> {
        let link = self.links.entry(id).or_insert_with(|| Link::new(now));
        match (toward, seen.header.opcode()) {
            (End::Far, Opcode::LoginRequest) if link.nexus.is_none() => {
                let nexus = (isid(&seen.header), group);
                link.nexus = Some(nexus);
                link.stage = Stage::LoggingIn { since: now };
                self.login(id, nexus).map(|()| None)
            }
            (End::Near, Opcode::LoginResponse) => {
                link.login_answered(&seen.header);
                if link.stage == Stage::LoggedIn
                    && let Some(nexus) = link.nexus
                {
                    self.ambiguous.remove(&nexus);
                    self.given_up.remove(&nexus);
                }
                Ok(None)
            }
            (End::Far, Opcode::ScsiCommand) => link.sent(now, id, &seen.header).map(|()| None),
            (End::Far, Opcode::DataOut) => {
                if let Some(command) = link.commands.get_mut(&seen.header.initiator_task_tag().0) {
                    command.has_data = true;
                }
                Ok(None)
            }
            (End::Near, Opcode::ScsiResponse | Opcode::DataIn) => {
                let was_reset = self.reset_at.is_some_and(|at| now <= at + RESET_SHOWS_MAX);
                Ok(link.answered(now, seen, was_reset))
            }
            (End::Far, Opcode::TaskManagementRequest) => {
                if link.asked_for(&seen.header) == LOGICAL_UNIT_RESET {
                    self.reset_at = Some(now);
                }
                Ok(None)
            }
            (End::Near, Opcode::TaskManagementResponse) => {
                link.managed(&seen.header);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn login(&self, id: ConnectionId, nexus: Nexus) -> Result<(), (Rule, String)> {
        let is_other = |(other, link): (&ConnectionId, &Link)| *other != id && link.nexus == Some(nexus);
        if self.links.iter().any(is_other) {
            let (isid, group) = nexus;
            return Err((
                Rule::Nexus,
                format!("a login of {isid:02x?} to group {group}, which has a session of that name"),
            ));
        }
        if self.expects_fences && self.given_up.contains(&nexus) {
            let (isid, group) = nexus;
            return Err((
                Rule::Patience,
                format!(
                    "a second login of {isid:02x?} to group {group}, after one that was to fence writes was given up early"
                ),
            ));
        }
        Ok(())
    }

    /// The initiator closes a connection; `was_told` if it had been told that it is over.
    pub(crate) fn closed(&mut self, now: Instant, id: ConnectionId, was_told: bool) {
        let Some(Link { nexus: Some(nexus), stage, commands, .. }) = self.links.remove(&id) else { return };
        if commands.values().any(|command| command.kind == Kind::Write && command.has_data) {
            self.ambiguous.insert(nexus);
        }
        if let Stage::LoggingIn { since } = stage
            && !was_told
            && now < since + PATIENCE
            && self.ambiguous.contains(&nexus)
        {
            self.given_up.insert(nexus);
        }
    }

    /// Whether a command was on the wire when the initiator was told that something behind its number had changed, which
    /// it did then: only a target with unit attention interlock would have stopped it.
    pub(crate) fn was_on_its_way(&self, id: ConnectionId, cdb: &[u8], changed: Instant) -> bool {
        let Some(link) = self.links.get(&id) else { return false };
        let told = |command: &Command| link.told.get(&command.lun).copied().max(link.told_of_all);
        let is_early = |command: &Command| {
            told(command).filter(|told| *told >= changed).is_none_or(|told| command.sent <= told)
        };
        let is_it = |command: &&Command| command.cdb.starts_with(cdb) && command.kind == Kind::Write;
        link.commands.values().filter(is_it).any(is_early)
    }

    /// The initiator is another one now: it owes nothing of what the one before it began.
    pub(crate) fn forget(&mut self) {
        self.links.clear();
        self.ambiguous.clear();
        self.given_up.clear();
    }
}

impl Link {
    fn new(now: Instant) -> Self {
        Self {
            nexus: None,
            since: now,
            stage: Stage::Connected,
            commands: BTreeMap::new(),
            functions: BTreeMap::new(),
            verified: BTreeSet::new(),
            doubted: BTreeMap::new(),
            told: BTreeMap::new(),
            told_of_all: None,
            ends: BTreeMap::new(),
            greeted: BTreeSet::new(),
        }
    }

    /// Status class and detail are bytes 36 and 37; T and NSG are in byte 1 (RFC 7143, 11.13).
    fn login_answered(&mut self, header: &Header) {
        let is_success = header.0[36] == 0;
        let is_last = header.0[1] & 0x83 == 0x83;
        if !is_success {
            self.stage = Stage::Connected;
        } else if is_last {
            self.stage = Stage::LoggedIn;
        }
    }

    fn sent(&mut self, now: Instant, id: ConnectionId, header: &Header) -> Result<(), (Rule, String)> {
        let lun = lun(header);
        let cdb: [u8; 16] = core::array::from_fn(|place| header.0[32 + place]);
        let kind = Kind::of(&cdb);
        let has_data = header.data_length() > 0;
        self.commands.insert(header.initiator_task_tag().0, Command { lun, kind, cdb, sent: now, has_data });
        if let Some(told) = self.ends.get_mut(&lun) {
            told.asked(now, id, &cdb).map_err(|text| (Rule::Capacity, text))?;
        }
        let is_crossing = self.doubted.get(&lun).is_some_and(|at| *at == now);
        if kind == Kind::Write && !self.verified.contains(&lun) && !is_crossing {
            return Err((
                Rule::Identity,
                format!(
                    "a write ({:02x}) to LUN {:02x?} was sent on connection {} before its identity was read again",
                    header.0[32],
                    &lun[..2],
                    id.0
                ),
            ));
        }
        Ok(())
    }

    fn answered(&mut self, now: Instant, seen: &Seen, was_reset: bool) -> Option<Notice> {
        let status = Status::of(seen)?;
        let command = self.commands.remove(&seen.header.initiator_task_tag().0)?;
        if command.kind == Kind::Identity && status.code == 0 {
            self.verified.insert(command.lun);
        }
        if let [0x9e, 0x10, ..] = command.cdb
            && let Some(last) = seen.data.first_chunk().filter(|_| status.code == 0)
        {
            self.ends.insert(command.lun, Told { last: u64::from_be_bytes(*last), at: now, beyond: 0 });
        }
        let (code, key, asc, ascq) = status.sense?;
        let is_deferred = matches!(code & 0x7f, 0x71 | 0x73);
        let is_attention = key == UNIT_ATTENTION && !is_deferred;
        let is_greeting = is_attention && asc == 0x29 && self.greeted.insert(command.lun);
        if is_attention && matches!(asc, 0x29 | 0x2a | 0x3f) && !is_greeting {
            self.doubt(now, command.lun);
            self.told.insert(command.lun, now);
        }
        if is_attention && (asc, ascq) == REPORTED_LUNS_CHANGED {
            self.told_of_all = Some(now);
        }
        let may_be_lost = matches!((asc, ascq), (0x29, 0x00 | 0x01 | 0x04) | (0x2f, 0x01));
        let is_ambiguous = is_greeting || was_reset && (asc, ascq) == (0x29, 0x00);
        (is_deferred || is_attention && may_be_lost).then(|| Notice::CacheDoubtful {
            unit: command.lun[1].into(),
            connected: self.since,
            for_sure: is_deferred || !is_ambiguous,
        })
    }

    /// A task management function goes out (RFC 7143, 11.5): ABORT TASK is about the task that it names, the others are
    /// about all that was sent to the unit before. Tells which one it is.
    fn asked_for(&mut self, header: &Header) -> u8 {
        let (lun, function) = (lun(header), header.0[1] & 0x7f);
        let about = if function == ABORT_TASK {
            vec![u32::from_be_bytes([header.0[20], header.0[21], header.0[22], header.0[23]])]
        } else {
            self.commands.iter().filter(|(_, command)| command.lun == lun).map(|(tag, _)| *tag).collect()
        };
        self.functions.insert(header.initiator_task_tag().0, about);
        function
    }

    /// The target says that a function is complete, or that it has no such task (RFC 7143, 11.6.1): nothing is unknown
    /// about those commands any more.
    fn managed(&mut self, header: &Header) {
        let about = self.functions.remove(&header.initiator_task_tag().0).unwrap_or_default();
        if matches!(header.0[2], 0 | 1) {
            for tag in about {
                self.commands.remove(&tag);
            }
        }
    }

    fn doubt(&mut self, now: Instant, lun: LunBytes) {
        if self.verified.remove(&lun) {
            self.doubted.insert(lun, now);
        }
    }
}

impl Told {
    /// READ(16) or WRITE(16) goes out.
    fn asked(&mut self, now: Instant, id: ConnectionId, cdb: &[u8; 16]) -> Result<(), String> {
        let [0x88 | 0x8a, _, range @ ..] = cdb else { return Ok(()) };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let end = number(&range[..8]).saturating_add(number(&range[8..12]));
        self.beyond += usize::from(end > self.last + 1 && self.at + TAKEN_IN <= now);
        if self.beyond > BEYOND_MAX {
            let Self { last, .. } = self;
            return Err(format!(
                "blocks up to {end} are asked for on connection {}, which ends with {last}",
                id.0
            ));
        }
        Ok(())
    }
}

const UNIT_ATTENTION: u8 = 6;
/// Task management functions (RFC 7143, 11.5.1).
const ABORT_TASK: u8 = 1;
const LOGICAL_UNIT_RESET: u8 = 5;
/// 3F/0E reported LUNs data has changed (SPC): told of one number, it is about all.
const REPORTED_LUNS_CHANGED: (u8, u8) = (0x3f, 0x0e);

impl Kind {
    fn of(cdb: &[u8]) -> Self {
        match cdb {
            [0x2a | 0x8a | 0x41 | 0x93 | 0x42 | 0xaa | 0x2e | 0x8e | 0x89, ..] => Self::Write,
            [0x12, 1, 0x83, ..] => Self::Identity,
            _ => Self::Other,
        }
    }
}

impl Status {
    /// None if the PDU carries none (RFC 7143, 11.4 and 11.7).
    fn of(seen: &Seen) -> Option<Self> {
        let bytes = &seen.header.0;
        if seen.header.opcode() == Opcode::DataIn {
            return (bytes[1] & 1 != 0).then_some(Self { code: bytes[3], sense: None });
        }
        // Sense data stands behind its length, in two bytes.
        let sense = match seen.data.get(2..) {
            Some([code @ (0x70 | 0x71 | 0xf0 | 0xf1), _, key, ..]) if seen.data.len() >= 16 => {
                Some((*code, key & 0x0f, seen.data[14], seen.data[15]))
            }
            Some([code @ (0x72 | 0x73), key, asc, ascq, ..]) => Some((*code, key & 0x0f, *asc, *ascq)),
            _ => None,
        };
        Some(Self { code: bytes[3], sense })
    }
}

fn isid(header: &Header) -> [u8; 6] {
    core::array::from_fn(|place| header.0[8 + place])
}

fn lun(header: &Header) -> LunBytes {
    core::array::from_fn(|place| header.0[8 + place])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: ConnectionId = ConnectionId(1);

    fn at(secs: u64) -> Instant {
        Instant::START + Duration::from_secs(secs)
    }

    fn command(tag: u8, cdb: &[u8]) -> Seen {
        let mut bytes = [0; 48];
        (bytes[0], bytes[19]) = (0x01, tag);
        bytes[7] = 1;
        bytes[32..32 + cdb.len()].copy_from_slice(cdb);
        Seen { header: Header(bytes), data: Vec::new() }
    }

    fn response(tag: u8, sense: Option<(u8, u8)>) -> Seen {
        let mut bytes = [0; 48];
        (bytes[0], bytes[19]) = (0x21, tag);
        let mut data = Vec::new();
        if let Some((asc, ascq)) = sense {
            bytes[3] = 2;
            data = vec![0; 20];
            (data[1], data[2], data[4], data[14], data[15]) = (18, 0x70, 6, asc, ascq);
        }
        Seen { header: Header(bytes), data }
    }

    fn login(isid: u8) -> Seen {
        let mut bytes = [0; 48];
        (bytes[0], bytes[13]) = (0x43, isid);
        Seen { header: Header(bytes), data: Vec::new() }
    }

    /// ABORT TASK of a command.
    fn function(tag: u8, referenced: u8) -> Seen {
        let mut bytes = [0; 48];
        (bytes[0], bytes[1], bytes[19], bytes[23]) = (0x02, 0x81, tag, referenced);
        Seen { header: Header(bytes), data: Vec::new() }
    }

    fn function_response(tag: u8, response: u8) -> Seen {
        let mut bytes = [0; 48];
        (bytes[0], bytes[2], bytes[19]) = (0x22, response, tag);
        Seen { header: Header(bytes), data: Vec::new() }
    }

    const WRITE: &[u8] = &[0x8a];
    const IDENTITY: &[u8] = &[0x12, 1, 0x83];

    #[test]
    fn a_write_waits_for_the_identity_after_a_login_and_after_an_attention() {
        let mut check = WireCheck::new(false);
        let mut time = 0;
        let mut see = |toward, seen: Seen| {
            time += 1;
            check.seen(at(time), LINK, 1, toward, &seen).map(|_| ())
        };
        assert!(see(End::Far, command(1, WRITE)).is_err());
        see(End::Far, command(2, IDENTITY)).unwrap();
        see(End::Near, response(2, None)).unwrap();
        see(End::Far, command(3, WRITE)).unwrap();
        see(End::Near, response(3, Some((0x3f, 0x0e)))).unwrap();
        assert!(see(End::Far, command(5, WRITE)).is_err());
        see(End::Far, command(6, IDENTITY)).unwrap();
        see(End::Near, response(6, None)).unwrap();
        see(End::Far, command(7, WRITE)).unwrap();
    }

    #[test]
    fn what_was_sent_before_an_attention_was_told_was_on_its_way() {
        let mut check = WireCheck::new(false);
        let mut see = |secs, toward, seen: Seen| {
            check.seen(at(secs), LINK, 1, toward, &seen).unwrap();
        };
        see(0, End::Far, command(1, IDENTITY));
        see(1, End::Near, response(1, None));
        see(2, End::Far, command(2, &[0x8a, 2]));
        see(2, End::Far, command(3, WRITE));
        see(3, End::Near, response(3, Some((0x3f, 0x0e))));
        see(4, End::Far, command(4, IDENTITY));
        see(5, End::Near, response(4, None));
        see(6, End::Far, command(5, &[0x8a, 5]));
        let was_on_its_way = |second, changed| check.was_on_its_way(LINK, &[0x8a, second], at(changed));
        assert_eq!([2, 5].map(|second| was_on_its_way(second, 1)), [true, false]);
        assert!(was_on_its_way(5, 4), "nobody has been told yet");
    }

    #[test]
    fn going_on_beyond_the_end_that_was_told_is_seen() {
        let mut check = WireCheck::new(false);
        let mut answer = response(2, None);
        (answer.header.0[0], answer.header.0[1]) = (0x25, 0x81);
        answer.data = vec![0, 0, 0, 0, 0, 0, 0, 7];
        let mut see = |secs, toward, seen: Seen| check.seen(at(secs), LINK, 1, toward, &seen).map(|_| ());
        see(1, End::Far, command(2, &[0x9e, 0x10])).unwrap();
        see(1, End::Near, answer).unwrap();
        let read = |first, blocks| [0x88, 0, 0, 0, 0, 0, 0, 0, 0, first, 0, 0, 0, blocks];
        for _ in 0..2 * BEYOND_MAX {
            see(9, End::Far, command(3, &read(6, 2))).unwrap();
            see(2, End::Far, command(3, &read(7, 2))).unwrap();
        }
        for _ in 0..BEYOND_MAX {
            see(9, End::Far, command(3, &read(7, 2))).unwrap();
        }
        assert!(see(9, End::Far, command(3, &read(7, 2))).is_err());
    }

    #[test]
    fn a_login_that_is_to_fence_must_not_be_given_up_for_another() {
        let mut check = WireCheck::new(true);
        check.seen(at(0), ConnectionId(1), 1, End::Far, &login(7)).unwrap();
        let _ = check.seen(at(0), ConnectionId(1), 1, End::Far, &command(1, WRITE));
        check.closed(at(1), ConnectionId(1), true);
        check.seen(at(2), ConnectionId(2), 1, End::Far, &login(7)).unwrap();
        check.closed(at(12), ConnectionId(2), false);
        assert!(check.seen(at(13), ConnectionId(3), 1, End::Far, &login(7)).is_err());
        check.seen(at(13), ConnectionId(4), 2, End::Far, &login(7)).unwrap();
    }

    #[test]
    fn a_write_whose_abort_was_answered_leaves_nothing_to_be_patient_for() {
        let mut check = WireCheck::new(true);
        let mut see = |secs, link, toward, seen: Seen| {
            let _ = check.seen(at(secs), ConnectionId(link), 1, toward, &seen);
        };
        see(0, 1, End::Far, login(7));
        see(0, 1, End::Far, command(1, WRITE));
        see(0, 1, End::Far, function(2, 1));
        see(1, 1, End::Near, function_response(2, 0));
        check.closed(at(1), ConnectionId(1), true);
        check.seen(at(2), ConnectionId(2), 1, End::Far, &login(7)).unwrap();
        check.closed(at(12), ConnectionId(2), false);
        check.seen(at(13), ConnectionId(3), 1, End::Far, &login(7)).unwrap();
    }
}
