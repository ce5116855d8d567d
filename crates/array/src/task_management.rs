//! Task management functions (SAM, clause 7) and the loss of a nexus.
//!
//! A function is answered when its effect is complete: what the back end still executes is waited for. That is
//! what lets an initiator rely on the answer; [`crate::Treatment`] makes an array that lies.

use alloc::vec::Vec;

use block::Buffer;
use clock::Instant;
use scsi::{AdditionalSense, Lun, Reply, Residual, Status};

use crate::array::{Action, Array};
use crate::faults::Treatment;
use crate::task_set::{Aborted, Sequence, Task, Unanswered};
use crate::topology::{Coordination, NexusId, NexusLoss, UnitId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    AbortTask,
    AbortTaskSet,
    ClearAca,
    ClearTaskSet,
    LogicalUnitReset,
    /// All units; the sessions stay.
    TargetWarmReset,
    /// All units; it is for the transport to drop the sessions (RFC 7143, 11.5.1).
    TargetColdReset,
    NexusReset,
    QueryTask,
    QueryTaskSet,
    QueryAsynchronousEvent,
}

/// Service responses (SAM, clause 7; RFC 7143, 11.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    Complete,
    /// QUERY TASK and the like: yes.
    Succeeded,
    TaskDoesNotExist,
    LunDoesNotExist,
    NotSupported,
    Rejected,
}

/// An answer that waits for held tasks to end.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) awaited: Vec<Sequence>,
    pub(crate) then: Action,
}

/// Functions that wait for the back end at once; enough for every initiator to fence every unit.
const DRAINS_MAX: usize = 1 << 16;

impl Array {
    pub(crate) fn task_management(
        &mut self,
        now: Instant,
        nexus: NexusId,
        tag: u64,
        function: Function,
        lun: Lun,
        referenced: Option<u64>,
    ) {
        let Some(port) = self.nexuses.get(&nexus).map(|nexus| nexus.port) else { return };
        let unit = self.unit_at(port, lun);
        let treatment = self.faults.strike_function(nexus, port, unit, function);
        if let Some(Treatment::Answer(response)) = treatment {
            self.actions.push_back(Action::TaskManagementReply { nexus, tag, response });
            return;
        }
        if self.drains.len() >= DRAINS_MAX {
            let response = Response::Rejected;
            self.actions.push_back(Action::TaskManagementReply { nexus, tag, response });
            return;
        }
        let (response, awaited) = self.perform(now, nexus, unit, function, referenced);
        let response = match (treatment, response) {
            (Some(Treatment::ClaimComplete), Response::TaskDoesNotExist) => Response::Complete,
            (_, response) => response,
        };
        let then = Action::TaskManagementReply { nexus, tag, response };
        match treatment {
            Some(Treatment::NeverAnswer) => {}
            Some(Treatment::AnswerEarly) => self.actions.push_back(then),
            _ => self.after(awaited, then),
        }
    }

    /// Does it, and names the tasks that must end before it is complete.
    fn perform(
        &mut self,
        now: Instant,
        nexus: NexusId,
        unit: Option<UnitId>,
        function: Function,
        referenced: Option<u64>,
    ) -> (Response, Vec<Sequence>) {
        let complete = |awaited| (Response::Complete, awaited);
        match function {
            Function::ClearAca => return (Response::NotSupported, Vec::new()),
            Function::TargetWarmReset | Function::TargetColdReset => {
                return complete(self.reset_all(now, nexus));
            }
            Function::NexusReset => return complete(self.reset_nexus(now, nexus)),
            _ => {}
        }
        let Some(unit) = unit else { return (Response::LunDoesNotExist, Vec::new()) };
        let tag = referenced.unwrap_or(u64::MAX);
        match function {
            Function::AbortTask => self.abort_task(now, nexus, unit, tag),
            Function::AbortTaskSet => {
                let aborted = self.abort(now, unit, |task| task.nexus == nexus);
                self.tell_aborted(unit, aborted.unanswered, Teller::TheNexusItself);
                complete(aborted.awaited)
            }
            Function::ClearTaskSet => complete(self.clear_task_set(now, nexus, unit)),
            Function::LogicalUnitReset => complete(self.reset_unit(now, nexus, unit)),
            Function::QueryTask => (self.query(unit, |tasks| tasks.contains(nexus, tag)), Vec::new()),
            Function::QueryTaskSet => (self.query(unit, |tasks| tasks.contains_any_of(nexus)), Vec::new()),
            Function::QueryAsynchronousEvent => {
                let pending =
                    self.nexuses.get(&nexus).is_some_and(|nexus| !nexus.attentions[unit.index()].is_empty());
                (if pending { Response::Succeeded } else { Response::Complete }, Vec::new())
            }
            _ => (Response::NotSupported, Vec::new()),
        }
    }

    fn query(&self, unit: UnitId, question: impl Fn(&crate::task_set::TaskSet) -> bool) -> Response {
        let yes = self.unit(unit).is_some_and(|unit| question(&unit.tasks));
        if yes { Response::Succeeded } else { Response::Complete }
    }

    fn abort_task(
        &mut self,
        now: Instant,
        nexus: NexusId,
        unit: UnitId,
        tag: u64,
    ) -> (Response, Vec<Sequence>) {
        // A task stays where it was accepted, whatever its LUN stands for now.
        let elsewhere = (0..self.units.len()).map(UnitId::at).filter(|other| *other != unit);
        for unit in core::iter::once(unit).chain(elsewhere) {
            let aborted = self.abort(now, unit, |task| task.nexus == nexus && task.tag == tag);
            if aborted.found {
                self.tell_aborted(unit, aborted.unanswered, Teller::TheNexusItself);
                return (Response::Complete, aborted.awaited);
            }
        }
        (Response::TaskDoesNotExist, Vec::new())
    }

    /// The tasks of all nexuses end; those of others are told, by status if TAS says so (SAM, 5.6).
    fn clear_task_set(&mut self, now: Instant, nexus: NexusId, unit: UnitId) -> Vec<Sequence> {
        let seen_from = self.scope_of(nexus);
        let topology = self.topology;
        let aborted =
            self.abort(now, unit, |task| seen_from.is_none_or(|group| topology.group_of(task.port) == group));
        let (own, others) = aborted.unanswered.into_iter().partition(|task| task.nexus == nexus);
        self.tell_aborted(unit, own, Teller::TheNexusItself);
        self.tell_aborted(unit, others, Teller::Another);
        aborted.awaited
    }

    /// SAM, 6.3.3. Every nexus is told, the one that asked for it too.
    fn reset_unit(&mut self, now: Instant, nexus: NexusId, unit: UnitId) -> Vec<Sequence> {
        let awaited = self.clear_task_set(now, nexus, unit);
        if let Some(unit) = self.unit_mut(unit) {
            unit.modes.reset();
        }
        let seen_from = self.scope_of(nexus);
        self.raise_in(unit, AdditionalSense::BUS_DEVICE_RESET_FUNCTION, None, seen_from);
        awaited
    }

    /// The only port group whose commands a nexus can end, if controllers do not know of each other's.
    fn scope_of(&self, nexus: NexusId) -> Option<crate::GroupId> {
        match self.options.coordination {
            Coordination::Whole => None,
            Coordination::PerController => {
                self.nexuses.get(&nexus).map(|nexus| self.topology.group_of(nexus.port))
            }
        }
    }

    fn reset_all(&mut self, now: Instant, nexus: NexusId) -> Vec<Sequence> {
        (0..self.units.len()).flat_map(|index| self.reset_unit(now, nexus, UnitId::at(index))).collect()
    }

    fn reset_nexus(&mut self, now: Instant, id: NexusId) -> Vec<Sequence> {
        let awaited = self.abort_of_nexus(now, id);
        if let Some(nexus) = self.nexuses.get_mut(&id) {
            nexus.attentions.iter_mut().for_each(|it| it.raise(AdditionalSense::I_T_NEXUS_LOSS));
        }
        awaited
    }

    fn abort_of_nexus(&mut self, now: Instant, id: NexusId) -> Vec<Sequence> {
        let mut awaited = Vec::new();
        for index in 0..self.units.len() {
            let unit = UnitId::at(index);
            let aborted = self.abort(now, unit, |task| task.nexus == id);
            // Nobody is there to be told when the nexus is gone.
            if self.nexuses.contains_key(&id) {
                self.tell_aborted(unit, aborted.unanswered, Teller::TheNexusItself);
            }
            awaited.extend(aborted.awaited);
        }
        awaited
    }

    /// Says which tasks will have no answer; those that another nexus ended get TASK ABORTED if TAS is 1, else a
    /// unit attention (SAM, 5.6).
    fn tell_aborted(&mut self, unit: UnitId, tasks: Vec<Unanswered>, teller: Teller) {
        let with_status =
            teller == Teller::Another && self.unit(unit).is_some_and(|unit| unit.modes.task_aborted_status());
        for Unanswered { nexus, tag, runs_on } in tasks {
            if with_status {
                let reply = Reply { status: Status::TaskAborted, sense: None, residual: Residual::None };
                let told = Action::Reply { nexus, tag, reply, data: Buffer::empty() };
                // The status says that the task has ended, so it is not sent before.
                self.after(runs_on.into_iter().collect(), told);
                continue;
            }
            self.actions.push_back(Action::Aborted { nexus, tag });
            if teller == Teller::Another
                && let Some(nexus) = self.nexuses.get_mut(&nexus)
            {
                let attention = AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR;
                nexus.attentions[unit.index()].raise(attention);
            }
        }
    }

    pub(crate) fn close_nexus(&mut self, now: Instant, id: NexusId) {
        if self.nexuses.remove(&id).is_none() {
            return;
        }
        self.drains.retain(|drain| !drain.then.is_for(id));
        let awaited = match self.options.nexus_loss {
            NexusLoss::AbortTasks => self.abort_of_nexus(now, id),
            NexusLoss::KeepTasks => {
                self.units.iter_mut().flatten().flat_map(|unit| unit.tasks.orphan(id)).collect()
            }
        };
        self.after(awaited, Action::NexusDrained { nexus: id });
    }

    /// The tasks of a closed nexus run on, out of reach of every function.
    pub(crate) fn disown(&mut self, nexus: NexusId) {
        for unit in self.units.iter_mut().flatten() {
            unit.tasks.disown(nexus);
        }
    }

    /// A unit loses power: what it was about to do is never done, and everybody is told so afterwards. What its
    /// store holds is the store's business.
    pub(crate) fn power_cycle(&mut self, now: Instant, id: UnitId, attention: AdditionalSense) {
        let Some(unit) = self.unit_mut(id) else { return };
        unit.modes.reset();
        let unanswered = self.drop_tasks(now, id);
        for Unanswered { nexus, tag, .. } in unanswered {
            self.actions.push_back(Action::Aborted { nexus, tag });
        }
        self.raise(id, attention, None);
    }

    /// The unit goes away, and what it holds with it: nobody is told.
    pub(crate) fn drop_tasks(&mut self, now: Instant, unit: UnitId) -> Vec<Unanswered> {
        let aborted = self.abort(now, unit, |_| true);
        let rest = self.unit_mut(unit).map(|unit| unit.tasks.take_all()).unwrap_or_default();
        for held in rest {
            self.pool.put(held.task.data);
            self.ended(held.sequence);
        }
        self.deadlines.retain(|(_, _, of)| *of != unit);
        aborted.unanswered
    }

    /// Aborts tasks of a unit, and lets those run that waited for them.
    fn abort(&mut self, now: Instant, id: UnitId, which: impl Fn(&Task) -> bool) -> Ended {
        let Some(unit) = self.unit_mut(id) else { return Ended::default() };
        let Aborted { removed, awaited, unanswered } = unit.tasks.abort(which);
        let found = !removed.is_empty() || !awaited.is_empty();
        let freed = !removed.is_empty();
        for held in removed {
            if let Some(until) = held.hold().and_then(|hold| hold.until) {
                self.deadlines.remove(&(until, held.sequence, id));
            }
            self.pool.put(held.task.data);
            self.ended(held.sequence);
        }
        if freed {
            self.run_unblocked(now, id);
        }
        Ended { found, awaited, unanswered }
    }

    /// Acts at once, or when the tasks that are awaited have ended.
    fn after(&mut self, awaited: Vec<Sequence>, then: Action) {
        if awaited.is_empty() {
            self.actions.push_back(then);
        } else {
            self.drains.push(Drain { awaited, then });
        }
    }

    /// A held task will not be executed any more, or was.
    pub(crate) fn ended(&mut self, sequence: Sequence) {
        if self.drains.is_empty() {
            return;
        }
        for drain in &mut self.drains {
            drain.awaited.retain(|awaited| *awaited != sequence);
        }
        for drain in self.drains.extract_if(.., |drain| drain.awaited.is_empty()) {
            self.actions.push_back(drain.then);
        }
    }
}

/// Whose function ended a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Teller {
    TheNexusItself,
    Another,
}

/// What an abort left behind.
#[derive(Debug, Default)]
struct Ended {
    found: bool,
    awaited: Vec<Sequence>,
    unanswered: Vec<Unanswered>,
}

impl Action {
    /// Whether it answers this nexus.
    fn is_for(&self, id: NexusId) -> bool {
        match self {
            Self::Reply { nexus, .. }
            | Self::Aborted { nexus, .. }
            | Self::TaskManagementReply { nexus, .. } => *nexus == id,
            Self::NexusDrained { .. } => false,
        }
    }
}
