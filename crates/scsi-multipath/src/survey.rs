//! Which logical units a nexus reaches, and what they are.
//!
//! One survey for each nexus that was logged in to: REPORT LUNS, then for each logical unit its identity, its
//! capacity and whatever else a disk has to know. Nothing is written.
//!
//! Surveys of several nexuses with one target may share what a logical unit reports of its port groups: each asks whoever
//! drives it for a report ([`SurveyAction::WantReport`]) before it asks the unit.

mod draft;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use clock::{Duration, Instant};
use scsi::inquiry::DeviceType;
use scsi::luns::LunList;
use scsi::port_groups::PortGroups;
use scsi::{CommandId, Ending, Lun, ParseError, Reply, SenseKey, Status};

use crate::command::{Command, Kind};
use crate::disposition::{CommandClass, Failure, FollowUp, disposition};
use crate::identity::{Name, NoIdentity};
use crate::question::{Answer, Asking, Question};
use crate::unit::Unit;
use draft::{Draft, Next};

/// Finds the logical units behind one nexus.
#[derive(Debug)]
pub struct Survey {
    stage: Stage,
    /// Logical units still to be looked at.
    waiting: VecDeque<Lun>,
    /// Those that are being looked at; at most [`CONCURRENCY`].
    examinations: Vec<Examination>,
    summary: Summary,
    /// Every unit has greeted this nexus already, in an earlier survey.
    is_greeted: bool,
    /// Whoever drives it knows what other surveys were told of port groups.
    is_sharing: bool,
    /// When it began: after the login.
    since: Instant,
    /// The target has not refused the extended header of the port groups.
    knows_long_header: bool,
    next_id: u32,
    actions: VecDeque<SurveyAction>,
}

/// What happened.
#[expect(clippy::large_enum_variant, reason = "a command moves by value everywhere")]
#[derive(Debug)]
pub enum SurveyEvent {
    Start,
    /// A command of this survey came back.
    Ended(Command, Ending),
    /// What [`SurveyAction::WantReport`] asked for: a report, or that the survey has to ask by itself.
    Report {
        lun: Lun,
        report: Option<Arc<PortGroups>>,
    },
    /// The time that [`Survey::poll_timeout`] named has come.
    Timeout,
}

/// What the driver must do.
#[expect(clippy::large_enum_variant, reason = "a command moves by value everywhere")]
#[derive(Debug)]
pub enum SurveyAction {
    /// Send it to that logical unit and give it back with [`SurveyEvent::Ended`].
    Send {
        lun: Lun,
        command: Command,
    },
    /// Only with [`Survey::sharing`]: say [`SurveyEvent::Report`], with a report of this logical unit that was asked for
    /// at that time or later and lists that group, or with none. It is not waited for longer than a moment.
    WantReport {
        lun: Lun,
        identity: Name,
        group: u16,
        since: Instant,
    },
    /// What this survey was told, having asked then; none if it was not told. Comes after [`SurveyAction::WantReport`], if
    /// that brought nothing.
    Reported {
        lun: Lun,
        identity: Name,
        asked: Instant,
        report: Option<Arc<PortGroups>>,
    },
    Found {
        lun: Lun,
        unit: Box<Unit>,
    },
    /// This unit says that what its cache held may be lost. Nobody else will be told on this nexus.
    CacheLost {
        lun: Lun,
        reply: Reply,
    },
    Rejected {
        lun: Lun,
        reason: Rejection,
    },
    /// Comes once, last.
    Done(Result<Summary, SurveyError>),
}

/// How many logical units there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub found: usize,
    pub rejected: usize,
    /// Not looked at, because there are more than [`LUNS_MAX`].
    pub left_out: usize,
}

/// Why a survey came to no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurveyError {
    NexusLost,
    /// REPORT LUNS was answered with a failure.
    List(Failure),
    /// REPORT LUNS was answered with what is no list.
    MalformedList(ParseError),
}

/// Why a logical unit does not become a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    NotPresent,
    NotADisk(DeviceType),
    NoIdentity(NoIdentity),
    /// In bytes.
    BlockSize(u32),
    /// The device server fails a question that has to be answered.
    Failed {
        question: Question,
        failure: Failure,
    },
    /// The device server refuses a question that has to be answered.
    Refused {
        question: Question,
    },
    /// Its answer makes no sense.
    Malformed {
        question: Question,
        error: ParseError,
    },
}

/// Logical units looked at in one survey: as many as the largest arrays show one host.
pub const LUNS_MAX: usize = 4096;
/// Logical units looked at at the same time: enough to hide the round trips, few enough for any target's queue.
pub const CONCURRENCY: usize = 8;
/// How long a report that another survey is waiting for is waited for: far longer than a target that is well takes to answer
/// one question, and no path is held up for longer by another one that is not.
const REPORT_PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum Stage {
    /// Not started; with the logical units to look at, if not all.
    Idle {
        only: Option<Vec<Lun>>,
    },
    Listing(Asking, Turn),
    Examining,
    Done,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The question is out.
    Theirs,
    /// The question is asked again then.
    Ours(Instant),
    /// Another survey may know; the question is asked then if it does not.
    Others(Instant),
}

/// Who asks a logical unit for its port groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Undecided,
    Ourselves,
}

/// What is being found out about one logical unit.
#[derive(Debug)]
struct Examination {
    lun: Lun,
    draft: Draft,
    asking: Asking,
    turn: Turn,
    /// When the question was sent last.
    asked: Instant,
    asker: Asker,
    /// A report of port groups that was asked for before this says nothing of now.
    since: Instant,
    /// The attention that every new nexus may get has come.
    is_greeted: bool,
    /// Something changed while it was examined.
    is_in_doubt: bool,
    /// How often it was begun again.
    restarts: u8,
}

/// How often an examination begins again because the unit says that something changed. One that says so each time is
/// left for a later survey.
const RESTARTS_MAX: u8 = 3;

impl Default for Survey {
    fn default() -> Self {
        Self::new()
    }
}

impl Survey {
    /// A survey of everything that the target reports.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(None)
    }

    /// A survey of these logical units only, whether or not the target reports them; [`LUNS_MAX`] at most.
    #[must_use]
    pub const fn for_luns(luns: Vec<Lun>) -> Self {
        Self::with(Some(luns))
    }

    const fn with(only: Option<Vec<Lun>>) -> Self {
        Self {
            stage: Stage::Idle { only },
            waiting: VecDeque::new(),
            examinations: Vec::new(),
            summary: Summary { found: 0, rejected: 0, left_out: 0 },
            is_greeted: false,
            is_sharing: false,
            since: Instant::START,
            knows_long_header: true,
            next_id: 0,
            actions: VecDeque::new(),
        }
    }

    /// Not the first survey since the login: a unit attention that tells of a reset is none that every new nexus gets.
    #[must_use]
    pub fn repeated(self) -> Self {
        Self { is_greeted: true, ..self }
    }

    /// What other surveys of the same target were told of port groups is asked for first.
    #[must_use]
    pub fn sharing(self) -> Self {
        Self { is_sharing: true, ..self }
    }

    /// The target is known to refuse the extended header of the port groups.
    #[must_use]
    pub fn with_short_header(self) -> Self {
        Self { knows_long_header: false, ..self }
    }

    /// Says what happened. Drain [`Survey::poll_action`] afterwards.
    pub fn handle(&mut self, now: Instant, event: SurveyEvent) {
        match event {
            SurveyEvent::Start => self.start(now),
            SurveyEvent::Ended(command, ending) => self.ended(now, &command, &ending),
            SurveyEvent::Report { lun, report } => self.report_came(now, lun, report.as_deref()),
            SurveyEvent::Timeout => self.ask_again(now),
        }
        self.advance();
    }

    /// What to do next, in order; `None` when all is done.
    pub fn poll_action(&mut self) -> Option<SurveyAction> {
        self.actions.pop_front()
    }

    /// When to call [`Survey::handle`] with [`SurveyEvent::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let listing = match &self.stage {
            Stage::Listing(_, turn) => turn.ours(),
            _ => None,
        };
        self.examinations.iter().filter_map(|examination| examination.turn.ours()).chain(listing).min()
    }

    fn start(&mut self, now: Instant) {
        self.since = now;
        let Stage::Idle { only } = &mut self.stage else { return };
        if let Some(luns) = only.take() {
            self.examine(luns);
        } else {
            let asking = Asking::new(Question::LogicalUnits);
            self.actions.push_back(send(&mut self.next_id, LIST_LUN, &asking));
            self.stage = Stage::Listing(asking, Turn::Theirs);
        }
    }

    fn ended(&mut self, now: Instant, command: &Command, ending: &Ending) {
        let Kind::Survey { lun, question } = command.context.0 else {
            debug_assert!(false, "a command of a disk came back to a survey");
            return;
        };
        match question {
            Question::LogicalUnits => self.list_ended(now, command, ending),
            _ => self.examination_ended(now, lun, command, ending),
        }
    }

    fn list_ended(&mut self, now: Instant, command: &Command, ending: &Ending) {
        let Stage::Listing(asking, turn) = &mut self.stage else { return };
        match asking.answer(now, ending) {
            Answer::Again(at) => *turn = Turn::Ours(at),
            Answer::Lost => self.finish(Err(SurveyError::NexusLost)),
            // A target without REPORT LUNS, older than SPC-3, has logical unit 0 (SPC-2, 7.20).
            Answer::Refused => self.examine(Vec::from([LIST_LUN])),
            Answer::Failed(failure) => self.finish(Err(SurveyError::List(failure))),
            Answer::Data(length) => match LunList::parse(&command.data()[..length]) {
                Ok(list) => self.examine(list.luns),
                Err(ParseError::Truncated { needed, .. }) if asking.enlarge(needed) => {
                    *turn = Turn::Ours(now);
                    self.ask_again(now);
                }
                Err(error) => self.finish(Err(SurveyError::MalformedList(error))),
            },
        }
    }

    fn examine(&mut self, mut luns: Vec<Lun>) {
        luns.retain(|lun| !lun.is_well_known());
        luns.sort_unstable();
        luns.dedup();
        self.summary.left_out = luns.len().saturating_sub(LUNS_MAX);
        luns.truncate(LUNS_MAX);
        self.waiting = luns.into();
        self.stage = Stage::Examining;
    }

    fn examination_ended(&mut self, now: Instant, lun: Lun, command: &Command, ending: &Ending) {
        let Some(position) = self.examinations.iter().position(|examination| examination.lun == lun) else {
            return;
        };
        let examination = &mut self.examinations[position];
        self.actions.extend(examination.hear(now, ending));
        let question = examination.asking.question;
        let step = examination.answered(now, command, ending);
        if self.is_sharing && question.is_of_port_groups() {
            self.actions.extend(examination.reported(now, &step, command, ending));
        }
        self.knows_long_header &= !examination.draft.needs_short_header();
        self.take_step(now, position, step);
    }

    /// Another survey was told, or nobody was.
    fn report_came(&mut self, now: Instant, lun: Lun, report: Option<&PortGroups>) {
        let is_it = |it: &Examination| it.lun == lun && matches!(it.turn, Turn::Others(_));
        let Some(position) = self.examinations.iter().position(is_it) else { return };
        let examination = &mut self.examinations[position];
        let step = match report {
            Some(report) => {
                let next = examination.draft.learn_report(report);
                examination.follow(next)
            }
            None => {
                examination.asker = Asker::Ourselves;
                Step::Ask
            }
        };
        self.take_step(now, position, step);
    }

    fn take_step(&mut self, now: Instant, position: usize, step: Step) {
        let examination = &mut self.examinations[position];
        let lun = examination.lun;
        match step {
            Step::Ask => {
                examination.turn = Turn::Ours(now);
                self.ask_again(now);
            }
            Step::Wait(at) => examination.turn = Turn::Ours(at),
            Step::Lost => self.finish(Err(SurveyError::NexusLost)),
            Step::Reject(reason) => {
                self.examinations.swap_remove(position);
                self.summary.rejected += 1;
                self.actions.push_back(SurveyAction::Rejected { lun, reason });
            }
            Step::Found(_) if examination.is_in_doubt && examination.restarts < RESTARTS_MAX => {
                *examination = examination.again(now);
                self.ask_again(now);
            }
            Step::Found(_) if examination.is_in_doubt => {
                self.examinations.swap_remove(position);
                self.summary.rejected += 1;
                let reason = Rejection::Failed { question: Question::DeviceId, failure: Failure::Attention };
                self.actions.push_back(SurveyAction::Rejected { lun, reason });
            }
            Step::Found(unit) => {
                self.summary.found += 1;
                self.examinations.swap_remove(position);
                self.actions.push_back(SurveyAction::Found { lun, unit });
            }
        }
    }

    /// Sends every question whose pause is over.
    fn ask_again(&mut self, now: Instant) {
        if let Stage::Listing(asking, turn) = &mut self.stage
            && turn.is_due(now)
        {
            *turn = Turn::Theirs;
            self.actions.push_back(send(&mut self.next_id, LIST_LUN, asking));
        }
        for examination in self.examinations.iter_mut().filter(|it| it.turn.is_due(now)) {
            if !self.knows_long_header {
                examination.ask_for_short_header();
            }
            if self.is_sharing
                && let Some(action) = examination.ask_others(now)
            {
                self.actions.push_back(action);
                continue;
            }
            (examination.turn, examination.asked) = (Turn::Theirs, now);
            self.actions.push_back(send(&mut self.next_id, examination.lun, &examination.asking));
        }
    }

    /// Begins as many examinations as there is room for, and ends when none is left.
    fn advance(&mut self) {
        if !matches!(self.stage, Stage::Examining) {
            return;
        }
        while self.examinations.len() < CONCURRENCY
            && let Some(lun) = self.waiting.pop_front()
        {
            let examination =
                Examination { is_greeted: self.is_greeted, ..Examination::new(lun, self.since) };
            self.actions.push_back(send(&mut self.next_id, lun, &examination.asking));
            self.examinations.push(examination);
        }
        if self.examinations.is_empty() {
            self.finish(Ok(self.summary));
        }
    }

    fn finish(&mut self, result: Result<Summary, SurveyError>) {
        self.stage = Stage::Done;
        self.waiting.clear();
        self.examinations.clear();
        self.actions.push_back(SurveyAction::Done(result));
    }
}

/// Where REPORT LUNS goes: a target answers it for logical unit 0 even if there is none (SPC, REPORT LUNS).
const LIST_LUN: Lun = Lun([0; 8]);
/// Command ids of surveys: disks use those with a path id in the upper half, which never is this.
const SURVEY_IDS: u64 = 0xffff_ffff << 32;

fn send(next_id: &mut u32, lun: Lun, asking: &Asking) -> SurveyAction {
    *next_id = next_id.wrapping_add(1);
    let id = CommandId(SURVEY_IDS | u64::from(*next_id));
    SurveyAction::Send { lun, command: asking.command(id, Kind::Survey { lun, question: asking.question }) }
}

/// What an examination does next.
enum Step {
    Ask,
    Wait(Instant),
    Found(Box<Unit>),
    Reject(Rejection),
    Lost,
}

impl Examination {
    /// `since` says from when on reports of its port groups are of now.
    fn new(lun: Lun, since: Instant) -> Self {
        Self {
            lun,
            draft: Draft::default(),
            asking: Asking::new(Question::Standard),
            turn: Turn::Theirs,
            asked: since,
            asker: Asker::Undecided,
            since,
            is_greeted: false,
            is_in_doubt: false,
            restarts: 0,
        }
    }

    /// The same from its beginning: what was learned may be of another unit.
    fn again(&self, now: Instant) -> Self {
        let restarts = self.restarts + 1;
        Self { turn: Turn::Ours(now), is_greeted: true, restarts, ..Self::new(self.lun, now) }
    }

    /// A unit attention says that something has changed, perhaps since the identity was read. The first one of a reset
    /// is the greeting of a new nexus (SAM, I_T nexus loss; SPC, 29h) and says nothing.
    fn hear(&mut self, now: Instant, ending: &Ending) -> Option<SurveyAction> {
        let Ending::Reply(reply) = ending else { return None };
        let sense = reply.sense.as_ref()?.parse()?;
        if sense.key == SenseKey::UnitAttention {
            self.since = now;
        }
        match sense.additional.asc {
            // An error of an earlier command is news, whoever is told of it.
            _ if sense.deferred => {}
            _ if sense.key != SenseKey::UnitAttention => return None,
            0x29 if !self.is_greeted => {
                self.is_greeted = true;
                return None;
            }
            0x29 | 0x2a | 0x3f => self.is_in_doubt = true,
            _ => {}
        }
        let is_lost = disposition(CommandClass::Read, ending).follow_up.contains(FollowUp::CACHE_LOST);
        is_lost.then(|| SurveyAction::CacheLost { lun: self.lun, reply: reply.clone() })
    }

    fn answered(&mut self, now: Instant, command: &Command, ending: &Ending) -> Step {
        let question = self.asking.question;
        let next = match self.asking.answer(now, ending) {
            Answer::Again(at) => return Step::Wait(at),
            Answer::Lost => return Step::Lost,
            Answer::Refused => self.draft.refused(question),
            Answer::Failed(failure) => self.draft.failed(question, failure),
            Answer::Data(length) => match self.draft.learn(question, &command.data()[..length]) {
                Ok(next) => next,
                Err(ParseError::Truncated { needed, .. }) if self.asking.enlarge(needed) => {
                    return Step::Ask;
                }
                Err(error) => self.draft.malformed(question, error),
            },
        };
        self.follow(next)
    }

    fn follow(&mut self, next: Next) -> Step {
        match next {
            Next::Ask(question) => {
                self.asking = Asking::new(question);
                Step::Ask
            }
            Next::Reject(reason) => Step::Reject(reason),
            Next::Complete => match core::mem::take(&mut self.draft).into_unit() {
                Some(unit) => Step::Found(Box::new(unit)),
                None => Step::Reject(Rejection::NoIdentity(NoIdentity::NoPage)),
            },
        }
    }
}

impl Examination {
    fn ask_for_short_header(&mut self) {
        if self.asking.question == Question::PortGroupsExtended {
            self.asking = Asking::new(Question::PortGroups);
        }
    }

    /// Lets others tell how the port groups stand, if they may know.
    fn ask_others(&mut self, now: Instant) -> Option<SurveyAction> {
        if !self.asking.question.is_of_port_groups() {
            return None;
        }
        if core::mem::replace(&mut self.asker, Asker::Ourselves) == Asker::Ourselves {
            return None;
        }
        let (identity, group) = (self.draft.name()?.clone(), self.draft.group()?);
        self.turn = Turn::Others(now + REPORT_PATIENCE);
        Some(SurveyAction::WantReport { lun: self.lun, identity, group, since: self.since })
    }

    /// For others: what came of a question about port groups, if it is not asked again at once.
    fn reported(
        &self,
        now: Instant,
        step: &Step,
        command: &Command,
        ending: &Ending,
    ) -> Option<SurveyAction> {
        let is_asked_again = match step {
            Step::Wait(at) => *at <= now,
            Step::Ask => self.asking.question.is_of_port_groups(),
            _ => false,
        };
        if is_asked_again {
            return None;
        }
        let is_good = matches!(ending, Ending::Reply(reply) if reply.status == Status::Good);
        let report = PortGroups::parse(command.data()).ok().filter(|_| is_good).map(Arc::new);
        let identity = self.draft.name()?.clone();
        Some(SurveyAction::Reported { lun: self.lun, identity, asked: self.asked, report })
    }
}

impl Turn {
    const fn ours(self) -> Option<Instant> {
        match self {
            Self::Ours(at) | Self::Others(at) => Some(at),
            Self::Theirs => None,
        }
    }

    fn is_due(self, now: Instant) -> bool {
        self.ours().is_some_and(|at| at <= now)
    }
}

impl fmt::Display for SurveyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NexusLost => f.write_str("the connection to the target was lost"),
            Self::List(failure) => write!(f, "the target fails REPORT LUNS: {failure}"),
            Self::MalformedList(error) => write!(f, "the target answers REPORT LUNS with no list: {error}"),
        }
    }
}

impl core::error::Error for SurveyError {}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPresent => f.write_str("there is no such logical unit"),
            Self::NotADisk(kind) => write!(f, "it is no disk but {kind:?}"),
            Self::NoIdentity(reason) => write!(f, "it has no identity: {reason}"),
            Self::BlockSize(size) => write!(f, "blocks of {size} bytes cannot be served"),
            Self::Failed { question, failure } => write!(f, "it fails {question}: {failure}"),
            Self::Refused { question } => write!(f, "it does not know {question}"),
            Self::Malformed { question, error } => {
                write!(f, "its answer to {question} is malformed: {error}")
            }
        }
    }
}

impl core::error::Error for Rejection {}
