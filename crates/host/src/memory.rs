//! What is remembered beyond the life of this process: through which nexuses something may have been written, and what
//! operators keep out.
//!
//! A path is not offered to its disk before it is stored that there is one. So whoever comes after this process
//! knows every nexus that it has to fence before it writes. And an operator is not told that a path is kept out before
//! that is stored.

use multipath::HeadIndex;
use multipath::PathId;
use scsi::Lun;
use scsi_multipath::{Event, Unit};

use crate::config::Layer;
use crate::disks::{Claim, Path};
use crate::event::Action;
use crate::host::{Host, Life};
use crate::nexus::{Nexus, Purpose};
use crate::state::{NexusRecord, State, UnitRecord};
use crate::verbs::{Ticket, VerbError};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    is_on: bool,
    /// Records of a process before this one that no nexus of this one has taken up.
    strays: Vec<NexusRecord>,
    /// Logical units that were left to be fenced, of nexuses: while there are none, nobody looks for them.
    left: usize,
    /// What is to be stored has changed.
    is_stale: bool,
    /// The driver is storing it.
    is_storing: bool,
    /// The last state of this life was given to the driver.
    is_last: bool,
    /// Paths that wait until it is stored that there is one.
    held: Vec<Held>,
    /// How far what operators keep out is stored.
    holds: Recorded,
    /// Operators that are told when it is, and what.
    answers: Vec<(Ticket, String)>,
}

#[derive(Debug)]
struct Held {
    nexus: u32,
    session: u64,
    lun: Lun,
    unit: Box<Unit>,
}

/// What is known of a logical unit that was, or may have been, written to through a nexus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// To be stored.
    New,
    /// Being stored.
    Storing,
    #[default]
    Stored,
    /// Stored; something that was sent in this session or before may still take effect, and no disk knows of it.
    /// Session 0 is that of a process before this one.
    Left { session: u64 },
    /// The same, and its disk knows.
    Claimed,
}

impl Memory {
    pub(crate) fn new(inherited: Option<State>) -> Self {
        let is_on = inherited.is_some();
        Self { is_on, strays: inherited.unwrap_or_default().nexuses, ..Self::default() }
    }

    /// There is something to store, and nothing is being stored.
    pub(crate) const fn is_to_store(&self) -> bool {
        self.is_stale && !self.is_storing
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    pub(crate) const fn holds_paths(&self) -> bool {
        !self.held.is_empty()
    }

    /// What is stored of a nexus has changed, if anything is.
    pub(crate) const fn touch(&mut self) {
        self.is_stale = self.is_on;
    }

    /// What operators keep out has changed.
    pub(crate) fn touch_holds(&mut self) {
        if self.is_on {
            (self.is_stale, self.holds) = (true, Recorded::New);
        }
    }

    pub(crate) fn has_unstored_holds(&self) -> bool {
        self.holds != Recorded::Stored
    }

    /// There are no more of them than verbs that wait, which the driver bounds.
    pub(crate) fn answer_later(&mut self, ticket: Ticket, done: String) {
        self.answers.push((ticket, done));
    }

    /// The nexus is lost: what its survey found says nothing any more.
    pub(crate) fn drop_held(&mut self, nexus: u32) {
        self.held.retain(|held| held.nexus != nexus);
    }

    /// An ISID that a process before this one has used for something else.
    pub(crate) fn knows_isid(&self, isid: [u8; 6]) -> bool {
        self.strays.iter().any(|record| record.isid == isid)
    }

    /// What a process before this one left of the nexus of `initiator` with `target` through `portal`. Of several,
    /// the one whose ISID would be chosen anyway.
    pub(crate) fn take_record(&mut self, nexus: &Nexus, initiator: &str) -> Option<NexusRecord> {
        let is_it = |record: &NexusRecord| {
            record.initiator == initiator
                && record.target == nexus.purpose.target_name()
                && record.portal == nexus.portal
        };
        let exact = self.strays.iter().position(|record| is_it(record) && record.isid == nexus.isid);
        let place = exact.or_else(|| self.strays.iter().position(is_it))?;
        Some(self.strays.remove(place))
    }
}

impl Host {
    /// Puts what a process before this one left of a nexus into its place.
    pub(crate) fn take_up(&mut self, index: u32, record: NexusRecord) {
        let nexus = &mut self.nexuses[index as usize];
        nexus.isid = record.isid;
        nexus.group = nexus.group.or(record.group);
        nexus.abandoned = record.abandoned.then_some(0);
        self.memory.left += record.units.len();
        let left = Recorded::Left { session: 0 };
        let units = record.units.into_iter().map(|unit| ((Lun(unit.lun.to_be_bytes()), unit.identity), left));
        nexus.units.extend(units);
    }

    /// A survey found a logical unit that is wanted. None if it has to wait until that is stored.
    pub(crate) fn may_join(&mut self, nexus: u32, lun: Lun, unit: Box<Unit>) -> Option<Box<Unit>> {
        if !self.memory.is_on || self.options.disks.layer == Layer::Direct {
            return Some(unit);
        }
        let place = nexus;
        let nexus = &mut self.nexuses[place as usize];
        let recorded = nexus.units.entry((lun, unit.identity.to_string())).or_insert(Recorded::New);
        if !matches!(recorded, Recorded::New | Recorded::Storing) {
            return Some(unit);
        }
        self.memory.is_stale |= *recorded == Recorded::New;
        self.memory.held.push(Held { nexus: place, session: nexus.logins, lun, unit });
        None
    }

    /// If there is something to store, and nothing is being stored: everything that is to be remembered now.
    pub(crate) fn poll_memory(&mut self) -> Option<Action> {
        if !self.memory.is_to_store() {
            return None;
        }
        (self.memory.is_stale, self.memory.is_storing) = (false, true);
        for recorded in self.nexuses.iter_mut().flat_map(|nexus| nexus.units.values_mut()) {
            if *recorded == Recorded::New {
                *recorded = Recorded::Storing;
            }
        }
        if self.memory.has_unstored_holds() {
            self.memory.holds = Recorded::Storing;
        }
        Some(Action::Persist(self.remembered()))
    }

    /// The driver has stored what it was given last.
    pub(crate) fn persisted(&mut self) {
        if !std::mem::take(&mut self.memory.is_storing) {
            return;
        }
        for recorded in self.nexuses.iter_mut().flat_map(|nexus| nexus.units.values_mut()) {
            if *recorded == Recorded::Storing {
                *recorded = Recorded::Stored;
            }
        }
        if self.memory.holds == Recorded::Storing {
            self.memory.holds = Recorded::Stored;
            for (ticket, done) in std::mem::take(&mut self.memory.answers) {
                self.answer(ticket, Ok(done));
            }
        }
        for held in std::mem::take(&mut self.memory.held) {
            let nexus = &self.nexuses[held.nexus as usize];
            if nexus.is_logged_in() && nexus.logins == held.session {
                self.path_found(held.nexus, held.lun, held.unit);
            }
        }
    }

    /// The driver could not store it yet: operators need not wait for that, and are told.
    pub(crate) fn not_persisted(&mut self) {
        for (ticket, done) in std::mem::take(&mut self.memory.answers) {
            self.answer(ticket, Err(VerbError::NotRemembered { done }));
        }
    }

    /// Whether the last state of this life is stored, or need not be. Until then its end waits.
    pub(crate) fn is_remembered(&mut self) -> bool {
        if self.memory.is_on && !self.memory.is_last {
            self.memory.is_last = true;
            self.memory.is_stale = true;
        }
        !self.memory.is_stale && !self.memory.is_storing
    }

    /// Everything that a process after this one has to fence, and to keep out.
    fn remembered(&self) -> State {
        let records = self.nexuses.iter().filter_map(|nexus| self.record_of(nexus));
        State {
            nexuses: records.chain(self.memory.strays.iter().cloned()).collect(),
            holds: self.hold_records(),
        }
    }

    fn record_of(&self, nexus: &Nexus) -> Option<NexusRecord> {
        let has_ended = matches!(self.life, Life::EndingSessions | Life::Ended);
        // Every command has come back by then, so that only what was open before is open.
        let is_over = has_ended && nexus.has_ended() && !nexus.was_not_logged_out;
        let counts =
            |recorded: &Recorded| !is_over || matches!(recorded, Recorded::Left { .. } | Recorded::Claimed);
        let units = nexus.units.iter().filter(|(_, recorded)| counts(recorded));
        let units = units.map(|((lun, identity), _)| UnitRecord {
            lun: u64::from_be_bytes(lun.0),
            identity: identity.clone(),
        });
        let units: Vec<UnitRecord> = units.collect();
        (!units.is_empty()).then(|| NexusRecord {
            initiator: nexus.initiator.as_ref().unwrap_or(&self.options.initiator.name).clone(),
            isid: nexus.isid,
            target: nexus.purpose.target_name().to_owned(),
            portal: nexus.portal,
            group: nexus.group,
            units,
            abandoned: nexus.is_abandoned(),
        })
    }

    /// A disk was made: it hears what may still take effect of what was written to its logical unit before.
    pub(crate) fn bequeath(&mut self, disk: u32) {
        let Some(identity) = self.disks.registry.key(HeadIndex(disk)).map(ToString::to_string) else {
            return;
        };
        self.adopt_strays(&identity);
        if self.memory.left == 0 {
            return;
        }
        let mut heirs: Vec<(PathId, Path)> = Vec::new();
        for (index, nexus) in (0..).zip(&mut self.nexuses) {
            let group = nexus.group;
            for ((lun, name), recorded) in &mut nexus.units {
                if let Recorded::Left { session } = *recorded
                    && *name == identity
                {
                    *recorded = Recorded::Claimed;
                    let path = PathId(self.path_ids);
                    self.path_ids += 1;
                    let heir = Path {
                        session,
                        group,
                        claim: Claim::Offered,
                        is_heir: true,
                        ..Path::new(index, *lun, disk)
                    };
                    heirs.push((path, heir));
                }
            }
        }
        for (path, heir) in heirs {
            self.memory.left -= 1;
            let target = self.nexuses[heir.nexus as usize].target;
            self.paths.insert(path, heir);
            self.tell_disk(disk, Event::Inherited { path, target });
        }
    }

    /// Makes a nexus of every stray record of that logical unit: only to be fenced, and to end then.
    fn adopt_strays(&mut self, identity: &str) {
        let is_of_it = |record: &NexusRecord| record.units.iter().any(|unit| unit.identity == identity);
        while let Some(place) = self.memory.strays.iter().position(is_of_it) {
            let record = self.memory.strays.remove(place);
            let purpose = Purpose::Target { name: record.target.clone(), lun: None };
            let index = self.push_nexus(record.portal, record.group, purpose);
            let nexus = &mut self.nexuses[index as usize];
            nexus.is_stray = true;
            nexus.settled = true;
            nexus.initiator = Some(record.initiator.clone());
            self.take_up(index, record);
        }
    }

    /// The disk has done with what was left to be fenced of a path.
    pub(crate) fn forget_unit(&mut self, path: PathId) {
        let Some(heir) = self.paths.get(&path).filter(|found| found.is_heir) else { return };
        let (index, lun, disk) = (heir.nexus, heir.lun, heir.disk);
        let Some(identity) = self.disks.registry.key(HeadIndex(disk)).map(ToString::to_string) else {
            return;
        };
        let nexus = &mut self.nexuses[index as usize];
        let key = (lun, identity);
        if nexus.units.get(&key) == Some(&Recorded::Claimed) {
            if nexus.is_stray {
                nexus.units.remove(&key);
            } else {
                nexus.units.insert(key, Recorded::Stored);
            }
            self.memory.touch();
        }
    }

    /// The disk goes, and what may take effect of this path is still open.
    pub(crate) fn leave_unit(&mut self, path: PathId, identity: &str) {
        let Some(found) = self.paths.get(&path) else { return };
        let (session, key) = (found.session, (found.lun, identity.to_owned()));
        let nexus = &mut self.nexuses[found.nexus as usize];
        let left = Recorded::Left { session };
        let before = nexus.units.insert(key, left);
        self.memory.left += usize::from(!matches!(before, Some(Recorded::Left { .. })));
        self.memory.touch();
    }
}
