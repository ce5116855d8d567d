//! A driver for stories: paths that execute at once, with faults laid in their way.

use std::collections::{BTreeMap, VecDeque};

use block::{Buffer, Completion, Durability, Effort, Error, Operation, Provisioning, Request, Tag};
use clock::{Duration, Instant};
use multipath::{Node, PathId, PathState};
use scsi::{CommandId, Ending, Lun, Reply, Status};
use scsi_multipath::{
    AccessAnswer, AccessCause, Action, Command, Contradiction, Disk, Event, Failure, Function, Hold, Managed,
    Options, Proof, Rejection, Report, Summary, Survey, SurveyAction, SurveyError, SurveyEvent, TargetId,
    Unit,
};

use crate::device::Device;

/// What happens to the next command on a path instead of its execution.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Answered like this, not executed.
    Reply(Reply),
    /// Executed, then answered like this instead of with GOOD.
    Executed(Reply),
    /// The answer is lost after it was executed.
    LostAfter,
    /// It is lost before it was executed, and never will be.
    LostBefore,
    /// It is lost, and the target still has it: see [`Rig::haunt`].
    LostLate,
    NotSent,
    Aborted,
    /// The target says that it cannot tell.
    TargetFailure,
}

/// Who fences a path when the disk asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fencing {
    /// The rig, at once: what is late is dropped.
    AtOnce,
    /// The story, by [`Rig::prove`].
    ByHand,
}

/// Far more than there is to do at one moment.
const TURNS_MAX: u32 = 100_000;

pub(crate) struct Rig {
    pub(crate) now: Instant,
    pub(crate) disk: Disk,
    pub(crate) device: Device,
    pub(crate) ports: BTreeMap<PathId, u16>,
    pub(crate) faults: BTreeMap<PathId, VecDeque<Fault>>,
    /// Commands of these operation codes stay out until they are let go.
    pub(crate) holding: Vec<u8>,
    pub(crate) held: VecDeque<(PathId, Command)>,
    /// Nothing comes back from these, though they take everything.
    pub(crate) stalled: Vec<PathId>,
    /// Commands that are to be aborted, in order.
    pub(crate) aborts: Vec<(PathId, CommandId)>,
    pub(crate) finished: BTreeMap<Tag, (Completion, Buffer)>,
    pub(crate) reports: Vec<Report>,
    pub(crate) joined: Vec<PathId>,
    pub(crate) refused: Vec<(PathId, Contradiction)>,
    pub(crate) geometry: Option<block::Geometry>,
    pub(crate) gone: bool,
    pub(crate) fencing: Fencing,
    /// Fences that are asked for and neither proved nor taken back.
    pub(crate) owed: Vec<PathId>,
    /// Paths whose transport is to give back what has not left.
    pub(crate) withdrawn: Vec<PathId>,
    /// Task management functions that are not answered, in order.
    pub(crate) functions: VecDeque<(PathId, Function)>,
    /// Lost commands that can still be executed, with the path that they came by and its port.
    pub(crate) ghosts: Vec<(PathId, u16, scsi::Command<()>)>,
    /// The disk may ask for access states whenever it wants to.
    pub(crate) may_ask: bool,
    pub(crate) wanted: Vec<(PathId, AccessCause)>,
    pub(crate) answers: Vec<AccessAnswer>,
    pub(crate) activations_ended: usize,
    /// What an operator has said of the paths that are found.
    pub(crate) hold: Option<Hold>,
    pub(crate) checked: Vec<(PathId, Result<(), Failure>)>,
    next_tag: u64,
}

impl Rig {
    /// A disk over `device` with one path for each of its first ports.
    pub(crate) fn new(device: Device, paths: u16) -> Self {
        Self::with_options(device, paths, Options::default())
    }

    pub(crate) fn with_options(mut device: Device, paths: u16, options: Options) -> Self {
        let unit = unit_at(&mut device, 1);
        let mut rig = Self {
            now: Instant::START,
            disk: Disk::new(unit.identity.clone(), options),
            device,
            ports: BTreeMap::new(),
            faults: BTreeMap::new(),
            holding: Vec::new(),
            held: VecDeque::new(),
            stalled: Vec::new(),
            aborts: Vec::new(),
            finished: BTreeMap::new(),
            reports: Vec::new(),
            joined: Vec::new(),
            refused: Vec::new(),
            geometry: None,
            gone: false,
            fencing: Fencing::AtOnce,
            owed: Vec::new(),
            withdrawn: Vec::new(),
            functions: VecDeque::new(),
            ghosts: Vec::new(),
            may_ask: true,
            wanted: Vec::new(),
            answers: Vec::new(),
            activations_ended: 0,
            hold: None,
            checked: Vec::new(),
            next_tag: 0,
        };
        for port in 1..=paths {
            rig.find(PathId(port.into()), port);
        }
        rig.device.log.clear();
        rig
    }

    /// Surveys a port and tells the disk what was found.
    pub(crate) fn find(&mut self, path: PathId, port: u16) {
        let unit = unit_at(&mut self.device, port);
        self.found(path, port, unit);
    }

    pub(crate) fn found(&mut self, path: PathId, port: u16, unit: Unit) {
        self.ports.insert(path, port);
        let (target, hold) = (TargetId(0), self.hold);
        self.handle(Event::PathFound { path, node: None, target, unit: Box::new(unit), hold });
    }

    pub(crate) fn fault(&mut self, path: u32, fault: Fault) {
        self.faults.entry(PathId(path)).or_default().push_back(fault);
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.disk.handle(self.now, event);
        self.drain();
    }

    fn drain(&mut self) {
        let mut turns = 0;
        while let Some(action) = self.disk.poll_action() {
            turns += 1;
            assert!(turns < TURNS_MAX, "no end of it: {action:?}");
            match action {
                Action::Start { path, command } => {
                    let is_stalled = self.stalled.contains(&path);
                    if is_stalled || self.holding.contains(&command.cdb.operation_code()) {
                        self.held.push_back((path, command));
                    } else {
                        self.execute(path, command);
                    }
                }
                Action::Fence { path } if self.fencing == Fencing::AtOnce => {
                    self.owed.push(path);
                    self.prove(path, Proof::Reinstated);
                }
                Action::Fence { path } => self.owed.push(path),
                Action::Unfence { path } => self.owed.retain(|owed| *owed != path),
                Action::Withdraw { path } => self.withdrawn.push(path),
                Action::Abort { path, command } => self.aborts.push((path, command)),
                Action::WantAccess { path, cause, .. } => {
                    self.wanted.push((path, cause));
                    if self.may_ask {
                        self.disk.handle(self.now, Event::MayAskAccess { target: TargetId(0) });
                    }
                }
                Action::WantActivation { target } if self.may_ask => {
                    self.disk.handle(self.now, Event::MayActivate { target });
                }
                Action::WantActivation { .. } => {}
                Action::ActivationEnded { .. } => self.activations_ended += 1,
                Action::AccessAnswered { answer, .. } => self.answers.push(answer),
                Action::Manage { path, function } => {
                    self.functions.push_back((path, function));
                    if function == Function::LogicalUnitReset {
                        self.disk.handle(self.now, Event::ResetSent);
                    }
                    if self.fencing == Fencing::AtOnce {
                        self.answer(Managed::Complete);
                    }
                }
                Action::Finish(request, completion) => {
                    let before = self.finished.insert(request.tag, (completion, request.buffer));
                    assert!(before.is_none(), "a request finishes once");
                }
                Action::Geometry(geometry) => self.geometry = Some(geometry),
                Action::Checked { path, outcome } => self.checked.push((path, outcome)),
                Action::Joined { path } => self.joined.push(path),
                Action::Refused { path, reason } => self.refused.push((path, reason)),
                Action::Report(report) => self.reports.push(report),
                Action::Gone => {
                    assert!(!self.gone, "a disk goes once");
                    self.gone = true;
                }
            }
        }
    }

    /// The fence of a path is done: nothing that it lost is executed any more.
    pub(crate) fn prove(&mut self, path: PathId, proof: Proof) {
        self.handle(Event::ResetSent);
        self.prove_after_reset(path, proof);
    }

    /// The same, of a reset that is out.
    pub(crate) fn prove_after_reset(&mut self, path: PathId, proof: Proof) {
        self.owed.retain(|owed| *owed != path);
        self.ghosts.retain(|(lost_on, ..)| *lost_on != path);
        self.handle(Event::ResetEnded { outcome: Managed::Complete, times: 1 });
        self.handle(Event::Fenced { path, proof });
    }

    /// Ends the oldest task management function. If it is complete, what is out on its path comes back first.
    pub(crate) fn answer(&mut self, outcome: Managed) {
        let (path, function) = self.functions.pop_front().expect("a function is out");
        if outcome == Managed::Complete {
            let (cleared, rest) =
                core::mem::take(&mut self.held).into_iter().partition(|(held_on, _)| *held_on == path);
            self.held = rest;
            let cleared: VecDeque<(PathId, Command)> = cleared;
            for (_, command) in cleared {
                self.disk.handle(self.now, Event::Ended(command, Ending::Cleared));
            }
        }
        if function == Function::LogicalUnitReset {
            self.disk.handle(self.now, Event::ResetEnded { outcome, times: 1 });
        }
        self.handle(Event::Managed { path, function, outcome });
    }

    /// The target executes the oldest command that it still has of a lost nexus.
    pub(crate) fn haunt(&mut self) {
        if !self.ghosts.is_empty() {
            let (_, port, mut command) = self.ghosts.remove(0);
            self.device.execute(port, &mut command);
        }
    }

    fn execute(&mut self, path: PathId, mut command: Command) {
        let port = self.ports[&path];
        let fault = self.faults.get_mut(&path).and_then(VecDeque::pop_front);
        let ending = match fault {
            None => Ending::Reply(self.device.execute(port, &mut command)),
            Some(Fault::Reply(reply)) => Ending::Reply(reply),
            Some(Fault::Executed(reply)) => {
                let said = self.device.execute(port, &mut command);
                Ending::Reply(if said.status == Status::Good { reply } else { said })
            }
            Some(Fault::LostAfter) => {
                self.device.execute(port, &mut command);
                Ending::Lost
            }
            Some(Fault::LostBefore) => Ending::Lost,
            Some(Fault::LostLate) => {
                self.ghosts.push((path, port, copy(&command)));
                Ending::Lost
            }
            Some(Fault::NotSent) => Ending::NotSent,
            Some(Fault::Aborted) => Ending::Aborted,
            Some(Fault::TargetFailure) => Ending::TargetFailure,
        };
        self.disk.handle(self.now, Event::Ended(command, ending));
    }

    /// The target aborts a command that it holds.
    pub(crate) fn abort(&mut self, id: CommandId) {
        let place = self.held.iter().position(|(_, command)| command.id == id);
        let (_, command) = self.held.remove(place.expect("it is out")).expect("it is there");
        self.handle(Event::Ended(command, Ending::Aborted));
    }

    /// Executes the commands of a path that are held back, as if the path had only been slow.
    pub(crate) fn wake(&mut self, path: PathId) {
        self.stalled.retain(|stalled| *stalled != path);
        let (of_path, rest) = core::mem::take(&mut self.held).into_iter().partition(|(on, _)| *on == path);
        self.held = rest;
        let of_path: VecDeque<(PathId, Command)> = of_path;
        for (path, command) in of_path {
            self.execute(path, command);
            self.drain();
        }
    }

    /// Executes the oldest command that was held back.
    pub(crate) fn let_one_go(&mut self) {
        let (path, command) = self.held.pop_front().expect("something is held back");
        self.execute(path, command);
        self.drain();
    }

    /// Executes what was held back.
    pub(crate) fn let_go(&mut self) {
        self.holding.clear();
        while let Some((path, command)) = self.held.pop_front() {
            self.execute(path, command);
            self.drain();
        }
    }

    /// The transport of a path fails: what is out on it never comes to an answer.
    pub(crate) fn lose(&mut self, path: PathId, executed: bool) {
        self.handle(Event::PathLost { path });
        let mut rest = VecDeque::new();
        for (held_on, mut command) in core::mem::take(&mut self.held) {
            if held_on != path {
                rest.push_back((held_on, command));
                continue;
            }
            if executed {
                self.device.execute(self.ports[&path], &mut command);
            }
            self.disk.handle(self.now, Event::Ended(command, Ending::Lost));
        }
        self.held.append(&mut rest);
        self.drain();
    }

    /// Lets time pass, stopping wherever the disk wants to be woken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.disk.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Event::Timeout);
            wakes += 1;
            assert!(wakes < 100_000, "a timeout that was handled is not due again at once");
        }
        self.now = end;
    }

    /// The tag that the next request will have.
    pub(crate) fn next_tag(&self) -> Tag {
        Tag(self.next_tag + 1)
    }

    pub(crate) fn submit(&mut self, operation: Operation, buffer: Buffer) -> Tag {
        self.next_tag += 1;
        let tag = Tag(self.next_tag);
        self.handle(Event::Block(Request { tag, operation, buffer }, Node::default()));
        tag
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Tag {
        self.write_with(offset, bytes, Durability::Volatile)
    }

    pub(crate) fn write_with(&mut self, offset: u64, bytes: &[u8], durability: Durability) -> Tag {
        let length = u32::try_from(bytes.len()).expect("short");
        self.submit(Operation::Write { offset, length, durability }, Buffer::from(bytes.to_vec()))
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Tag {
        self.submit(Operation::Read { offset, length }, Buffer::zeroed(length as usize))
    }

    pub(crate) fn flush(&mut self) -> Tag {
        self.submit(Operation::Flush, Buffer::empty())
    }

    pub(crate) fn discard(&mut self, offset: u64, length: u32) -> Tag {
        self.submit(Operation::Discard { offset, length }, Buffer::empty())
    }

    pub(crate) fn zero(
        &mut self,
        offset: u64,
        length: u32,
        provisioning: Provisioning,
        effort: Effort,
    ) -> Tag {
        let durability = Durability::Volatile;
        let operation = Operation::WriteZeroes { offset, length, durability, provisioning, effort };
        self.submit(operation, Buffer::empty())
    }

    /// How a request ended, if it has.
    pub(crate) fn completion(&self, tag: Tag) -> Option<Completion> {
        self.finished.get(&tag).map(|(completion, _)| *completion)
    }

    pub(crate) fn data(&self, tag: Tag) -> &[u8] {
        let (completion, buffer) = &self.finished[&tag];
        assert_eq!(*completion, Ok(()), "the read succeeded");
        buffer
    }

    pub(crate) fn assert_ok(&self, tag: Tag) {
        assert_eq!(self.completion(tag), Some(Ok(())), "reports: {:#?}", self.reports);
    }

    pub(crate) fn assert_failed(&self, tag: Tag, error: Error) {
        assert_eq!(self.completion(tag), Some(Err(error)));
    }

    pub(crate) fn state(&self, path: u32) -> PathState {
        let paths: Vec<_> = self.disk.paths().collect();
        paths.iter().find(|view| view.status.id == PathId(path)).expect("the path is there").status.state
    }

    pub(crate) fn reported(&self, text: &str) -> bool {
        self.reports.iter().any(|report| report.to_string().contains(text))
    }
}

fn copy(command: &Command) -> scsi::Command<()> {
    scsi::Command {
        id: command.id,
        cdb: command.cdb,
        attribute: command.attribute,
        transfer: command.transfer,
        buffer: Buffer::from(command.buffer.to_vec()),
        context: (),
    }
}

/// What a survey brought.
#[derive(Debug, Default)]
pub(crate) struct Surveyed {
    pub(crate) found: Vec<(Lun, Unit)>,
    /// What units said of a cache that may be lost.
    pub(crate) losses: Vec<Reply>,
    pub(crate) rejected: Vec<(Lun, Rejection)>,
    pub(crate) done: Option<Result<Summary, SurveyError>>,
    pub(crate) out_max: usize,
    pub(crate) took: Duration,
}

/// Runs a survey to its end; `answer` answers each command.
pub(crate) fn survey(mut survey: Survey, mut answer: impl FnMut(Lun, &mut Command) -> Ending) -> Surveyed {
    let mut now = Instant::START;
    let mut out = VecDeque::new();
    let mut result = Surveyed::default();
    survey.handle(now, SurveyEvent::Start);
    loop {
        while let Some(action) = survey.poll_action() {
            assert!(result.done.is_none(), "nothing comes after the end");
            match action {
                SurveyAction::Send { lun, command } => out.push_back((lun, command)),
                SurveyAction::WantReport { .. } | SurveyAction::Reported { .. } => {
                    unreachable!("surveys of one nexus share nothing")
                }
                SurveyAction::Found { lun, unit } => result.found.push((lun, *unit)),
                SurveyAction::CacheLost { reply, .. } => result.losses.push(reply),
                SurveyAction::Rejected { lun, reason } => result.rejected.push((lun, reason)),
                SurveyAction::Done(done) => result.done = Some(done),
            }
        }
        result.out_max = result.out_max.max(out.len());
        if let Some((lun, mut command)) = out.pop_front() {
            let ending = answer(lun, &mut command);
            survey.handle(now, SurveyEvent::Ended(command, ending));
        } else if let Some(at) = survey.poll_timeout() {
            now = now.max(at);
            survey.handle(now, SurveyEvent::Timeout);
        } else {
            break;
        }
    }
    result.took = now.since(Instant::START);
    result
}

/// What a port of the device shows, found by a survey as in real life.
pub(crate) fn unit_at(device: &mut Device, port: u16) -> Unit {
    let lun = Lun::from(0);
    let surveyed =
        survey(Survey::for_luns(vec![lun]), |_, command| Ending::Reply(device.execute(port, command)));
    assert_eq!(surveyed.rejected, []);
    surveyed.found.into_iter().next().expect("one unit").1
}
