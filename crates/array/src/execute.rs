//! From a command that arrives to its reply: admission, faults, waiting, execution.

use block::Buffer;
use clock::Instant;
use scsi::cdb::{Cdb, DataPhase};
use scsi::{
    AdditionalSense, CdbBytes, Lba, Lun, Reply, Residual, Sense, SenseData, SenseFormat, SenseKey, Status,
    TaskAttribute,
};

use crate::admission;
use crate::array::{Action, Array};
use crate::faults::{Effect, FaultId, Kind, Place, Subject, Until};
use crate::task_set::{Answer, HeldExtent, HeldTask, Hold, Sequence, Stage, Task};
use crate::topology::{NexusId, UnitId};

/// A command as the transport delivers it.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) nexus: NexusId,
    pub(crate) tag: u64,
    pub(crate) lun: Lun,
    pub(crate) attribute: TaskAttribute,
    pub(crate) data: Buffer,
    pub(crate) expected: u32,
}

/// A command that nothing older stands before, with the name it had if it waited.
struct Starting {
    task: Task,
    answer: Answer,
    sequence: Option<Sequence>,
}

impl Starting {
    const fn new(task: Task) -> Self {
        Self { task, answer: Answer::Sent, sequence: None }
    }
}

impl Array {
    /// A command of a nexus that is not open is dropped: whoever sent it is gone.
    pub(crate) fn command(&mut self, now: Instant, arrival: Arrival, cdb: &CdbBytes) {
        let Arrival { nexus, tag, lun, attribute, data, expected } = arrival;
        let Some(port) = self.nexuses.get(&nexus).map(|nexus| nexus.port) else {
            self.pool.put(data);
            return;
        };
        let parsed = Cdb::parse(cdb.as_slice());
        let unit = self.unit_at(port, lun);
        let refused = match parsed {
            Ok(command) => {
                let task = Task { nexus, port, tag, lun, command, attribute, data, expected };
                match unit {
                    Some(unit) => self.admit(now, unit, task),
                    None => self.run_without_unit(task),
                }
                return;
            }
            Err(error) => error.sense(),
        };
        // A pending unit attention comes before what is wrong with the command (SAM, 5.14).
        let sense = match unit {
            Some(unit) => self.pending_attention(nexus, unit).unwrap_or(refused),
            None => crate::refusal::unit_not_supported(),
        };
        let format = self.sense_format(unit);
        let residual = residual(0, expected);
        let data = self.one_of(Buffer::empty(), data);
        self.reply(nexus, tag, check_condition(&sense, format, residual), data);
    }

    /// The rules that stand before a command enters the task set.
    fn admit(&mut self, now: Instant, id: UnitId, task: Task) {
        if let Err(sense) = self.may_enter(id, &task) {
            self.finish(id, task, Err(sense), Answer::Sent);
            return;
        }
        let tasks_max = self.options.tasks_max;
        let Some(unit) = self.unit(id) else { return };
        if unit.tasks.is_empty() {
            self.start(now, id, Starting::new(task));
            return;
        }
        let full = unit.tasks.len() >= tasks_max;
        if full {
            let reply = Reply { status: Status::TaskSetFull, sense: None, residual: Residual::None };
            self.answer(task, reply);
        } else if unit.tasks.blocks(task.attribute) {
            self.hold(id, Starting::new(task), Stage::Blocked);
        } else {
            self.start(now, id, Starting::new(task));
        }
    }

    /// Nothing older stands before the command; a fault may. What is answered, lost or executed has ended.
    fn start(&mut self, now: Instant, id: UnitId, starting: Starting) {
        let effect =
            if self.faults.is_empty() { None } else { self.faults.strike(&subject(id, &starting.task)) };
        let Starting { task, answer, sequence } = starting;
        match effect {
            None | Some((_, Effect::Function(_))) => self.run(id, task, answer),
            Some((fault, Effect::Hold { place, until })) => {
                let hold = Hold { fault, until: until.at(now), extent: HeldExtent::Whole };
                return self.hold_by_fault(id, Starting { task, answer, sequence }, place, hold);
            }
            Some((fault, Effect::Tear { until, blocks })) => {
                let hold = Hold { fault, until: until.at(now), extent: HeldExtent::Blocks(blocks) };
                return self.hold_by_fault(id, Starting { task, answer, sequence }, Place::BackEnd, hold);
            }
            Some((_, Effect::Misdirect { blocks })) => self.run_elsewhere(id, task, answer, blocks),
            Some((_, Effect::Reply(reply))) => self.answer(task, reply),
            Some((_, Effect::LoseStatus)) => self.run(id, task, Answer::Withheld),
            Some((_, Effect::LoseCommand)) => self.pool.put(task.data),
            Some((_, Effect::LoseWrite)) => self.answer(task, Reply::good()),
        }
        if let Some(sequence) = sequence {
            self.ended(sequence);
        }
    }

    fn hold_by_fault(&mut self, id: UnitId, starting: Starting, place: Place, hold: Hold) {
        let stage = match place {
            Place::Queue => Stage::Queue(hold),
            Place::BackEnd => Stage::BackEnd(hold),
        };
        let sequence = self.hold(id, starting, stage);
        if let Some(until) = hold.until {
            self.deadlines.insert((until, sequence, id));
        }
    }

    fn hold(&mut self, id: UnitId, starting: Starting, stage: Stage) -> Sequence {
        let Starting { task, answer, sequence } = starting;
        let sequence = sequence.unwrap_or_else(|| self.next_sequence());
        if let Some(unit) = self.unit_mut(id) {
            unit.tasks.push(HeldTask { sequence, task, stage, answer, is_disowned: false });
        }
        sequence
    }

    /// Executes what is due.
    pub(crate) fn run_due(&mut self, now: Instant) {
        while let Some(&(at, sequence, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            self.run_held(now, id, sequence);
        }
    }

    /// Executes what a fault holds, oldest first.
    pub(crate) fn release(&mut self, now: Instant, fault: FaultId) {
        let mut held: alloc::vec::Vec<(Sequence, UnitId)> = alloc::vec::Vec::new();
        for (index, unit) in self.units.iter().enumerate() {
            let Some(unit) = unit else { continue };
            held.extend(unit.tasks.held_by(fault).into_iter().map(|sequence| (sequence, UnitId::at(index))));
        }
        held.sort_unstable();
        for (sequence, id) in held {
            self.deadlines.retain(|(_, other, _)| *other != sequence);
            self.run_held(now, id, sequence);
        }
    }

    fn run_held(&mut self, now: Instant, id: UnitId, sequence: Sequence) {
        let Some(held) = self.unit_mut(id).and_then(|unit| unit.tasks.take(sequence)) else { return };
        match held.hold().map(|hold| hold.extent) {
            Some(HeldExtent::Blocks(blocks)) => self.run_torn(id, held.task, held.answer, blocks),
            _ => self.run(id, held.task, held.answer),
        }
        self.ended(sequence);
        self.run_unblocked(now, id);
    }

    /// Lets the tasks go on that waited for older ones.
    pub(crate) fn run_unblocked(&mut self, now: Instant, id: UnitId) {
        while let Some(held) = self.unit_mut(id).and_then(|unit| unit.tasks.take_unblocked()) {
            let HeldTask { sequence, task, answer, .. } = held;
            self.start(now, id, Starting { task, answer, sequence: Some(sequence) });
        }
    }

    /// Writes the first blocks of a command, and fails it.
    fn run_torn(&mut self, id: UnitId, mut task: Task, answer: Answer, blocks: u32) {
        let block_size = self.unit(id).map_or(0, |unit| unit.block_size);
        if matches!(task.command, Cdb::Write(_)) {
            let length = (blocks as usize).saturating_mul(block_size as usize).min(task.data.len());
            task.data.set_len(length);
            // Whatever came of it, it is told as failed.
            let _ = self.execute(id, &mut task);
        }
        let sense = Sense::new(SenseKey::MediumError, AdditionalSense::WRITE_ERROR);
        self.finish(id, task, Err(sense), answer);
    }

    /// Executes a WRITE at another place.
    fn run_elsewhere(&mut self, id: UnitId, mut task: Task, answer: Answer, blocks: u64) {
        let capacity = self.unit(id).map_or(0, crate::unit::Unit::blocks);
        if let Cdb::Write(access) = &mut task.command {
            let places = capacity.saturating_sub(access.blocks.0.into());
            if places > 0 {
                access.lba = Lba((access.lba.0 + blocks) % places);
            }
        }
        self.run(id, task, answer);
    }

    fn run(&mut self, id: UnitId, mut task: Task, answer: Answer) {
        let result = self.execute(id, &mut task);
        self.finish(id, task, result, answer);
    }

    fn finish(&mut self, id: UnitId, task: Task, result: Result<Buffer, Sense>, answer: Answer) {
        let Task { nexus, port, tag, command, data: sent, expected, .. } = task;
        let block_size = self.unit(id).map_or(0, |unit| unit.block_size);
        let demand = data_out(&command, block_size);
        self.count_group_commands(id, port, &command);
        let (reply, data) = match result {
            Ok(data) => {
                self.count(id, port, &command, &data, demand.min(expected.into()));
                let moved = if demand > 0 { demand } else { data.len() as u64 };
                (Reply { residual: residual(moved, expected), ..Reply::good() }, data)
            }
            Err(sense) => {
                let reply = check_condition(&sense, self.sense_format(Some(id)), residual(demand, expected));
                (reply, Buffer::empty())
            }
        };
        let data = self.one_of(data, sent);
        match answer {
            Answer::Sent => self.reply(nexus, tag, reply, data),
            Answer::Withheld => self.pool.put(data),
        }
    }

    fn count_group_commands(&mut self, id: UnitId, port: crate::PortId, command: &Cdb) {
        let of_unit = self.units[id.index()].as_mut().map(|unit| &mut unit.counters);
        for counters in of_unit.into_iter().chain([&mut self.port_counters[port.index()]]) {
            counters.group_reports += u64::from(matches!(command, Cdb::ReportTargetPortGroups { .. }));
            counters.group_changes += u64::from(matches!(command, Cdb::SetTargetPortGroups { .. }));
        }
    }

    fn count(&mut self, id: UnitId, port: crate::PortId, command: &Cdb, data: &Buffer, written: u64) {
        let kind = admission::kind(command);
        let of_unit = self.units[id.index()].as_mut().map(|unit| &mut unit.counters);
        let of_port = &mut self.port_counters[port.index()];
        for counters in of_unit.into_iter().chain([of_port]) {
            counters.commands += 1;
            match kind {
                Kind::Read => {
                    counters.reads += 1;
                    counters.read_bytes += data.len() as u64;
                }
                Kind::Write => {
                    counters.writes += 1;
                    counters.written_bytes += written;
                }
                Kind::Flush | Kind::Control => {}
            }
        }
    }

    /// Data-In if there is some, else the memory that came with the command, emptied.
    fn one_of(&mut self, data: Buffer, mut sent: Buffer) -> Buffer {
        if data.capacity() == 0 {
            sent.set_len(0);
            return sent;
        }
        self.pool.put(sent);
        data
    }

    /// Answers a task that was not executed.
    fn answer(&mut self, task: Task, reply: Reply) {
        let data = self.one_of(Buffer::empty(), task.data);
        self.reply(task.nexus, task.tag, reply, data);
    }

    /// What a target answers for a LUN that nothing is mapped at (SPC, 4.2.8 and 6.7.1; SAM, 5.11).
    fn run_without_unit(&mut self, task: Task) {
        let Task { nexus, tag, lun, command, data: sent, expected, port, .. } = task;
        let (reply, data) = match self.execute_without_unit(port, lun, &command) {
            Ok(data) => {
                let residual = residual(data.len() as u64, expected);
                (Reply { residual, ..Reply::good() }, data)
            }
            Err(sense) => {
                let reply = check_condition(&sense, SenseFormat::Fixed, residual(0, expected));
                (reply, Buffer::empty())
            }
        };
        let data = self.one_of(data, sent);
        self.reply(nexus, tag, reply, data);
    }

    fn reply(&mut self, nexus: NexusId, tag: u64, reply: Reply, data: Buffer) {
        self.actions.push_back(Action::Reply { nexus, tag, reply, data });
    }

    pub(crate) fn sense_format(&self, unit: Option<UnitId>) -> SenseFormat {
        unit.and_then(|unit| self.unit(unit)).map_or(SenseFormat::Fixed, |unit| unit.modes.sense_format())
    }
}

impl Until {
    /// `None`: when somebody says so.
    fn at(self, now: Instant) -> Option<Instant> {
        match self {
            Self::After(duration) => Some(now + duration),
            Self::Released => None,
        }
    }
}

fn check_condition(sense: &Sense, format: SenseFormat, residual: Residual) -> Reply {
    Reply { residual, ..Reply::check_condition(SenseData::emit(sense, format)) }
}

/// How many bytes of Data-Out the CDB asks for.
fn data_out(command: &Cdb, block_size: u32) -> u64 {
    match command.data_phase() {
        DataPhase::Out(length) => length.into(),
        DataPhase::OutBlocks(blocks) => blocks.saturating_mul(block_size.into()),
        DataPhase::None | DataPhase::In(_) | DataPhase::InBlocks(_) => 0,
    }
}

/// How what the command moves compares with what the initiator expects (RFC 7143, 11.4.5.1).
fn residual(moved: u64, expected: u32) -> Residual {
    let moved = u32::try_from(moved).unwrap_or(u32::MAX);
    if moved > expected {
        Residual::Overflow(moved - expected)
    } else if moved < expected {
        Residual::Underflow(expected - moved)
    } else {
        Residual::None
    }
}

fn subject(unit: UnitId, task: &Task) -> Subject {
    Subject {
        unit,
        port: task.port,
        nexus: task.nexus,
        operation: task.command.emit().operation_code(),
        kind: admission::kind(&task.command),
        blocks: admission::blocks(&task.command),
    }
}
