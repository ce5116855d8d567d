//! What the initiator sends and takes, as it goes by at its end of each connection: identity before write (I19), and
//! patience with a login that is to be a fence (I15).
//!
//! Sees PDUs only. What the product thinks of them it does not know.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Duration, Instant};
use iscsi::pdu::{Header, Opcode};

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
    /// Whether every attention counts, or only those that answer commands that move blocks.
    is_strict: bool,
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
    /// Units that have said their first 29h: every nexus begins with one, which is no news of the unit.
    greeted: BTreeSet<LunBytes>,
}

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
    /// Some of its data was sent: without any a write cannot be executed.
    has_data: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    /// READ or SYNCHRONIZE CACHE.
    Read,
    /// INQUIRY for VPD page 83h.
    Identity,
    Other,
}

/// Something that checkers elsewhere want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The initiator was told that a unit may have lost what was in its cache, over a connection that is as old.
    CacheDoubtful { unit: u32, connected: Instant },
}

/// How long a login that is to fence is waited for at least.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a device server said of a command.
struct Status {
    code: u8,
    /// Response code, key, additional sense code and qualifier.
    sense: Option<(u8, u8, u8, u8)>,
}

impl WireCheck {
    pub(crate) fn new(expects_fences: bool, is_strict: bool) -> Self {
        Self { expects_fences, is_strict, ..Self::default() }
    }

    /// A PDU went by at the initiator's end.
    pub(crate) fn seen(
        &mut self,
        now: Instant,
        id: ConnectionId,
        group: u16,
        toward: End,
        seen: &Seen,
    ) -> Result<Option<Notice>, String> {
        let link = self.links.entry(id).or_insert_with(|| Link::new(now));
        match (toward, seen.header.opcode()) {
            (End::Far, Opcode::LoginRequest) if link.nexus.is_none() => {
                let nexus = (isid(&seen.header), group);
                link.nexus = Some(nexus);
                link.stage = Stage::LoggingIn { since: now };
                self.login(nexus).map(|()| None)
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
                Ok(link.answered(now, seen, self.is_strict))
            }
            (End::Far, Opcode::TaskManagementRequest) => {
                link.asked_for(&seen.header);
                Ok(None)
            }
            (End::Near, Opcode::TaskManagementResponse) => {
                link.managed(&seen.header);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn login(&self, nexus: Nexus) -> Result<(), String> {
        if self.expects_fences && self.given_up.contains(&nexus) {
            let (isid, group) = nexus;
            return Err(format!(
                "a second login of {isid:02x?} to group {group}, after one that was to fence writes was given up early"
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

    fn sent(&mut self, now: Instant, id: ConnectionId, header: &Header) -> Result<(), String> {
        let lun = lun(header);
        let kind = Kind::of(&header.0[32..48]);
        let has_data = header.data_length() > 0;
        self.commands.insert(header.initiator_task_tag().0, Command { lun, kind, has_data });
        let is_crossing = self.doubted.get(&lun).is_some_and(|at| *at == now);
        if kind == Kind::Write && !self.verified.contains(&lun) && !is_crossing {
            return Err(format!(
                "a write ({:02x}) to LUN {:02x?} was sent on connection {} before its identity was read again",
                header.0[32],
                &lun[..2],
                id.0
            ));
        }
        Ok(())
    }

    fn answered(&mut self, now: Instant, seen: &Seen, is_strict: bool) -> Option<Notice> {
        let status = Status::of(seen)?;
        let command = self.commands.remove(&seen.header.initiator_task_tag().0)?;
        if command.kind == Kind::Identity && status.code == 0 {
            self.verified.insert(command.lun);
        }
        let (code, key, asc, ascq) = status.sense?;
        if !is_strict && !matches!(command.kind, Kind::Write | Kind::Read) {
            return None;
        }
        let is_deferred = matches!(code & 0x7f, 0x71 | 0x73);
        let is_attention = key == UNIT_ATTENTION && !is_deferred;
        let is_greeting = is_attention && asc == 0x29 && self.greeted.insert(command.lun);
        if is_attention && matches!(asc, 0x29 | 0x2a | 0x3f) && !is_greeting {
            self.doubt(now, command.lun);
        }
        let may_be_lost = matches!((asc, ascq), (0x29, 0x00 | 0x01 | 0x04) | (0x2f, 0x01));
        (is_deferred || is_attention && may_be_lost)
            .then(|| Notice::CacheDoubtful { unit: command.lun[1].into(), connected: self.since })
    }

    /// A task management function goes out (RFC 7143, 11.5): ABORT TASK is about the task that it names, the others are
    /// about all that was sent to the unit before.
    fn asked_for(&mut self, header: &Header) {
        const ABORT_TASK: u8 = 1;
        let lun = lun(header);
        let about = if header.0[1] & 0x7f == ABORT_TASK {
            vec![u32::from_be_bytes([header.0[20], header.0[21], header.0[22], header.0[23]])]
        } else {
            self.commands.iter().filter(|(_, command)| command.lun == lun).map(|(tag, _)| *tag).collect()
        };
        self.functions.insert(header.initiator_task_tag().0, about);
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

const UNIT_ATTENTION: u8 = 6;

impl Kind {
    fn of(cdb: &[u8]) -> Self {
        match cdb {
            [0x2a | 0x8a | 0x41 | 0x93 | 0x42 | 0xaa | 0x2e | 0x8e | 0x89, ..] => Self::Write,
            [0x28 | 0x88 | 0xa8 | 0x35 | 0x91, ..] => Self::Read,
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
        let mut check = WireCheck::new(false, true);
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
    fn a_login_that_is_to_fence_must_not_be_given_up_for_another() {
        let mut check = WireCheck::new(true, true);
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
        let mut check = WireCheck::new(true, true);
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
