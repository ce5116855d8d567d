//! Fences, the driver's half of them: a lost nexus is reinstated, the logical unit is reset on the new session, and
//! only then does the disk hear that nothing from before can take effect any more.
//!
//! Both halves are needed: the reinstatement closes the old session to what may still be on its way, the reset ends
//! what the target has taken in already. The login begins at the security stage, because targets are known that take
//! no other one as a reinstatement. No timer is a proof, so that none is used here.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use clock::Duration;
use iscsi::initiator::{TaskManagement, TaskManagementEnding};
use iscsi::pdu::TaskManagementResponseCode;
use multipath::{HeadIndex, PathId};
use scsi::{CommandId, Lun};
use scsi_multipath::{Disk, Event, Function, Identity, Managed};

use crate::agenda::Source;
use crate::debt::Debt;
use crate::disks::Claim;
use crate::event::{Parting, Trace};
use crate::host::{Host, Life};
use crate::log::Cause;
use crate::nexus::{Nexus, Phase, Reset, Scope, Sightings, Stage};
use crate::route::{Leg, Route, Sibling, Way};
use crate::tasks::TaskPurpose;

/// A login that is to reinstate a nexus may take so long, whatever is configured: a target may answer it only when
/// the last command of the old session has ended, and a login that is given up before its answer is no proof any
/// more, nor is the next one with some targets.
pub(crate) const FENCE_LOGIN_LIMIT: Duration = Duration::from_secs(120);
/// A TCP connection that is to pay a debt and does not stand by then is given up for another portal of the group: a
/// SYN that is answered at all is answered in a fraction of that.
pub(crate) const FENCE_CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// After a logical unit was not reset, or showed something else than what is owed: often a transition of seconds.
const FENCE_AGAIN: Duration = Duration::from_secs(5);

impl Host {
    /// A disk wants a proof that nothing that was sent on a path can take effect any more.
    pub(crate) fn fence(&mut self, path: PathId) {
        let Some(found) = self.paths.get_mut(&path) else {
            debug_assert!(false, "a path is known as long as its disk may want it fenced");
            return;
        };
        if !matches!(found.claim, Claim::None | Claim::Offered) {
            return;
        }
        found.claim = Claim::Owed;
        let (index, lun, session) = (found.nexus, found.lun, found.session);
        let group = found.group;
        let nexus = &mut self.nexuses[index as usize];
        let is_first = !nexus.owes();
        nexus.debts.push(Debt { path, lun, session, group });
        if nexus.is_logged_in() && !nexus.is_on_detour() && nexus.logins == session {
            // What is to be fenced may still be on its way on it.
            let reason = format!("the session is ended to fence path {path}");
            self.lose_nexus(index, Cause::Fencing, reason);
        } else if nexus.is_logged_in() {
            self.pay(index);
        } else if is_first {
            self.set_out(index);
        }
    }

    /// The disk does without the proof.
    pub(crate) fn unfence(&mut self, path: PathId) {
        self.forget_unit(path);
        self.release(path);
    }

    /// Nothing is done any more to fence a path.
    pub(crate) fn release(&mut self, path: PathId) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        found.claim = Claim::None;
        let index = found.nexus;
        self.forget_idle_path(path);
        self.nexuses[index as usize].debts.retain(|debt| debt.path != path);
        self.owes_less(index);
    }

    /// A disk wants a task management function sent on a path.
    pub(crate) fn manage(&mut self, disk: u32, path: PathId, function: Function) {
        let session = self.paths.get(&path).map(|found| (found.nexus, found.lun, found.session));
        if let Some((index, lun, session)) = session {
            let nexus = &self.nexuses[index as usize];
            if nexus.is_logged_in() && !nexus.is_on_detour() && nexus.logins == session {
                let wanted = match function {
                    Function::AbortTaskSet => TaskManagement::AbortTaskSet(lun),
                    Function::LogicalUnitReset => TaskManagement::LogicalUnitReset(lun),
                };
                return self.ask_for(index, TaskPurpose::Disk(path, function), wanted);
            }
        }
        self.tell_disk(disk, Event::Managed { path, function, outcome: Managed::Lost });
    }

    /// The disk wants back what has not left yet.
    pub(crate) fn withdraw(&mut self, path: PathId) {
        let now = self.now;
        let Some((index, lun)) = self.paths.get(&path).map(|found| (found.nexus, found.lun)) else { return };
        if let Some(session) = self.nexuses[index as usize].session_mut() {
            session.handle(now, iscsi::initiator::Event::Withdraw(lun));
            self.touched.add(Source::Nexus(index));
        }
    }

    /// A disk has waited long enough for a command.
    pub(crate) fn abort(&mut self, path: PathId, command: CommandId) {
        let now = self.now;
        let Some(index) = self.paths.get(&path).map(|found| found.nexus) else { return };
        if let Some(session) = self.nexuses[index as usize].session_mut() {
            session.handle(now, iscsi::initiator::Event::Expire(command));
            self.touched.add(Source::Nexus(index));
        }
    }

    pub(crate) fn managed(&mut self, path: PathId, function: Function, ending: TaskManagementEnding) {
        let Some(disk) = self.paths.get(&path).map(|found| found.disk) else { return };
        let outcome = match ending {
            TaskManagementEnding::Answered(TaskManagementResponseCode::Complete) => Managed::Complete,
            TaskManagementEnding::Answered(_) | TaskManagementEnding::NothingToAbort => Managed::Refused,
            TaskManagementEnding::NotSent | TaskManagementEnding::Lost => Managed::Lost,
        };
        self.tell_disk(disk, Event::Managed { path, function, outcome });
    }

    /// A session that can pay has been made: resets come before everything else.
    pub(crate) fn pay_or_survey(&mut self, index: u32) {
        if self.nexuses[index as usize].payable().next().is_some() {
            self.set_stage(index, Stage::Reset);
            self.pay(index);
        } else if self.nexuses[index as usize].is_on_detour() {
            // It is with another portal group than the one that is owed, or nothing is owed any more.
            self.log_out(index);
        } else {
            self.survey_everything(index);
        }
    }

    /// Resets the logical units that are owed and were not reset on this session.
    fn pay(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        nexus.fence_at = None;
        let owed: BTreeSet<Lun> = nexus.payable().map(|debt| debt.lun).collect();
        for lun in owed {
            let Some(link) = self.nexuses[index as usize].link_mut() else { return };
            if let Entry::Vacant(reset) = link.resets.entry(lun) {
                reset.insert(Reset::Asked);
                self.ask_for(index, TaskPurpose::Fence(lun), TaskManagement::LogicalUnitReset(lun));
            }
        }
    }

    pub(crate) fn reset_ended(&mut self, index: u32, lun: Lun, ending: TaskManagementEnding) {
        let now = self.now;
        let nexus = &mut self.nexuses[index as usize];
        let Some(link) = nexus.link_mut() else { return };
        match ending {
            // The session is over, and the next one begins anew.
            TaskManagementEnding::Lost => return,
            TaskManagementEnding::Answered(TaskManagementResponseCode::Complete) => {
                link.resets.insert(lun, Reset::Done);
                self.sweep_surveys(index, lun);
            }
            _ => {
                link.resets.remove(&lun);
                nexus.fence_at = Some(now + FENCE_AGAIN);
            }
        }
        self.resets_over(index);
    }

    /// A reset has ended the commands of every nexus, and unless TAS is set nobody says so (SAM, command termination
    /// by another I_T nexus). Disks see to theirs; a survey would wait for its questions until they time out.
    fn sweep_surveys(&mut self, index: u32, lun: Lun) {
        let target = self.nexuses[index as usize].target;
        let is_surveyed = |nexus: &Nexus| matches!(&nexus.phase, Phase::Open(link) if matches!(link.stage, Stage::Survey { .. }));
        let elsewhere =
            (0..).zip(&self.nexuses).filter(|(other, nexus)| *other != index && nexus.target == target);
        let surveyed: Vec<u32> =
            elsewhere.filter(|(_, nexus)| is_surveyed(nexus)).map(|(other, _)| other).collect();
        for other in surveyed {
            self.ask_for(other, TaskPurpose::Sweep, TaskManagement::AbortTaskSet(lun));
        }
    }

    /// Goes on when no reset is out: with a look at what was reset.
    fn resets_over(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        let Some(link) = nexus.link_mut() else { return };
        if link.resets.values().any(|reset| *reset == Reset::Asked) {
            return;
        }
        let is_at_reset = matches!(link.stage, Stage::Reset);
        let is_up = matches!(link.stage, Stage::Up);
        if is_at_reset && !nexus.is_on_detour() {
            self.survey_everything(index);
        } else if is_at_reset || is_up {
            self.look_at_resets(index);
        }
    }

    /// Looks at what is behind the logical unit numbers that were reset. On a detour there is nothing else to do.
    fn look_at_resets(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        let owed: BTreeSet<Lun> = nexus.payable().map(|debt| debt.lun).collect();
        let is_on_detour = nexus.is_on_detour();
        let Some(link) = nexus.link_mut() else { return };
        let done = link.resets.iter().filter(|(lun, reset)| **reset == Reset::Done && owed.contains(lun));
        let luns: Vec<Lun> = done.map(|(lun, _)| *lun).collect();
        if !luns.is_empty() {
            self.start_survey(index, Scope::Debts, luns);
        } else if is_on_detour {
            self.log_out(index);
        }
    }

    /// A logical unit that was reset on this session shows its identity.
    pub(crate) fn pay_debts(&mut self, index: u32, lun: Lun, identity: &Identity) {
        let nexus = &self.nexuses[index as usize];
        let abandoned = nexus.abandoned;
        let owed: Vec<Debt> = nexus.payable().filter(|debt| debt.lun == lun).copied().collect();
        for debt in owed {
            let Some(disk) = self.paths.get(&debt.path).map(|found| found.disk) else { continue };
            if !self.is_disk(disk, identity) {
                continue;
            }
            self.nexuses[index as usize].debts.retain(|other| other.path != debt.path);
            let (path, proof) = (debt.path, debt.proof(abandoned));
            self.forget_unit(path);
            if let Some(found) = self.paths.get_mut(&path) {
                found.claim = Claim::None;
            }
            self.forget_idle_path(path);
            self.trace(|| Trace::Fenced { path, proof });
            self.tell_disk(disk, Event::Fenced { path, proof });
        }
        if !self.nexuses[index as usize].owes() {
            self.nexuses[index as usize].route = None;
        }
    }

    fn is_disk(&self, disk: u32, identity: &Identity) -> bool {
        let entry = self.disks.registry.get(HeadIndex(disk));
        let ours = entry.and_then(|entry| entry.device.disk()).map(Disk::identity);
        ours.is_some_and(|ours| ours.name() == identity.name() && ours.contradicts(identity).is_none())
    }

    /// A survey is over: whatever it was to prove is proved, or has to be tried again.
    pub(crate) fn debts_looked_at(&mut self, index: u32, sightings: &Sightings) {
        let again = self.now + FENCE_AGAIN;
        let nexus = &mut self.nexuses[index as usize];
        let unpaid: BTreeSet<Lun> = nexus.payable().map(|debt| debt.lun).collect();
        let Some(link) = nexus.link_mut() else { return };
        link.resets.retain(|lun, _| !sightings.reset.contains(lun));
        let is_idle = link.resets.is_empty();
        if unpaid.iter().any(|lun| sightings.reset.contains(lun)) {
            nexus.fence_at = Some(again);
        }
        if !is_idle {
            // Some were reset while the survey went on.
            self.resets_over(index);
        } else if nexus.is_on_detour() {
            self.log_out(index);
        }
        self.touched.add(Source::Nexus(index));
    }

    /// Something was waived: nothing waits for it any more.
    fn owes_less(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        if !nexus.owes() {
            nexus.route = None;
            nexus.fence_at = None;
        }
        if nexus.payable().next().is_none() && nexus.is_logged_in() {
            match (nexus.is_on_detour(), nexus.stage_mut()) {
                (true, _) => self.log_out(index),
                (false, Some(Stage::Reset)) => self.survey_everything(index),
                _ => {}
            }
        } else if !nexus.owes() && nexus.is_on_detour() && matches!(nexus.phase, Phase::Connecting { .. }) {
            self.disconnect(index, Parting::Reset);
            self.turn_back(index);
        }
    }

    /// Tries to pay on the session that stands, again.
    pub(crate) fn pay_again(&mut self, index: u32) {
        if self.nexuses[index as usize].is_logged_in() {
            self.pay(index);
        } else {
            self.nexuses[index as usize].fence_at = None;
        }
    }

    /// The first debt of a nexus that has no session: on the way at once, whatever pause it was in.
    fn set_out(&mut self, index: u32) {
        let now = self.now;
        if matches!(self.nexuses[index as usize].phase, Phase::Waiting { .. } | Phase::Ended) {
            self.next_leg(index);
            self.nexuses[index as usize].phase = Phase::Waiting { until: now };
            self.timers.arm(Source::Nexus(index), Some(now));
        }
    }

    /// Decides through which portal the next connection goes.
    pub(crate) fn next_leg(&mut self, index: u32) -> Leg {
        let siblings = self.siblings(index);
        let nexus = &mut self.nexuses[index as usize];
        let loss = nexus.loss;
        let leg = nexus.route.get_or_insert_with(|| Route::new(loss)).next(&siblings);
        nexus.way = leg.way;
        leg
    }

    /// A detour is over: the nexus's own portal is next.
    pub(crate) fn turn_back(&mut self, index: u32) {
        let nexus = &mut self.nexuses[index as usize];
        nexus.way = Way::Own;
        let owes = nexus.owes();
        let until = if owes { self.now + self.pause(index) } else { self.now };
        let nexus = &mut self.nexuses[index as usize];
        nexus.phase = match self.life {
            Life::Open | Life::EndingDisks if !nexus.has_nothing_to_do() => Phase::Waiting { until },
            _ => Phase::Ended,
        };
        self.timers.forget(Source::Nexus(index));
        self.arm_nexus(index);
    }

    /// The other portals of the group that the oldest debt is about.
    fn siblings(&self, index: u32) -> Vec<Sibling> {
        let nexus = &self.nexuses[index as usize];
        let Some(group) = nexus.debts.first().and_then(|debt| debt.group) else { return Vec::new() };
        let is_sibling = |other: &&Nexus| {
            other.target == nexus.target && other.group == Some(group) && other.portal != nexus.portal
        };
        let mut siblings: Vec<Sibling> = Vec::new();
        for other in self.nexuses.iter().filter(is_sibling) {
            let is_up = other.is_up() && !other.is_on_detour();
            match siblings.iter_mut().find(|sibling| sibling.address == other.portal) {
                Some(sibling) => sibling.is_up |= is_up,
                None => siblings.push(Sibling { address: other.portal, is_up }),
            }
        }
        siblings
    }

    fn set_stage(&mut self, index: u32, stage: Stage) {
        if let Some(present) = self.nexuses[index as usize].stage_mut() {
            *present = stage;
        }
    }
}
