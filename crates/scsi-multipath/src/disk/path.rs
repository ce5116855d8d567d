//! One path of a disk: what it shows, how it stands, and what is to be asked about it.

use alloc::boxed::Box;

use block::Rotation;
use clock::{Duration, Instant};
use multipath::{PathId, PathState};
use scsi::{AdditionalSense, SenseKey};

use super::access::Refusal;
use super::fence::Sweep;
use super::report::Reason;
use super::{Hold, TargetId};
use crate::disposition::{FollowUp, PathEffect};
use crate::question::{Asking, Question};
use crate::unit::{AccessState, Addressing, Unit, is_usable, path_state};

/// A path that joined.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) target: TargetId,
    /// What it showed last.
    pub(super) unit: Box<Unit>,
    pub(super) standing: Standing,
    /// An operator keeps it out, however it stands.
    pub(super) hold: Option<Hold>,
    /// What the head was told, and why.
    pub(super) told: PathState,
    pub(super) reason: Reason,
    /// Until when it counts as coming back by itself, while it is not usable.
    waiting_until: Option<Instant>,
    pub(super) probe: Probe,
    pub(super) sweep: Sweep,
    /// The number of the last reset of ours that it has told of, or will not tell of any more.
    pub(super) last_reset: u64,
    /// That number, if the question that is out is answered.
    pub(super) settles: u64,
    /// What was last reported of it, and when, so that a device that complains all the time fills no log.
    pub(super) complained: Option<(Option<(SenseKey, AdditionalSense)>, Instant)>,
    /// The last time that it refused a command for its access state.
    pub(super) refusal: Option<Refusal>,
    /// When its port groups were asked about last.
    pub(super) access_asked: Instant,
    /// Its access state was not asked for: another logical unit was told so.
    pub(super) is_assumed: bool,
    /// It has not refused the extended header of the port groups.
    pub(super) knows_long_header: bool,
    /// When a command was last sent on it, as far as idle paths are checked.
    pub(super) used_at: Instant,
}

/// Whether a path may be used, apart from its access state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It showed the identity of the disk, and nothing since has put that in doubt.
    Verified,
    /// It has to show its identity again; soon, it is hoped.
    Suspect(Reason),
    /// As suspect, but there is no hope until it answers.
    Failed(Reason),
    /// It shows another logical unit. For good.
    Quarantined,
    /// Its transport is gone. For good: a transport that returns is another path.
    Lost,
}

/// What is to be asked about a path.
#[derive(Debug, Default)]
pub(super) struct Probe {
    todo: FollowUp,
    pub(super) asking: Option<Asking>,
    /// A question that was not answered yet when another one came before it.
    aside: Option<Asking>,
    /// The question is out.
    pub(super) is_out: bool,
    /// What was asked for while a question was out: its answer may be older than the reason to ask.
    renewed: FollowUp,
    /// Not before then.
    at: Instant,
    /// Questions in a row that had no answer.
    failures: u32,
}

/// What there is a question for.
const ASKED: FollowUp = FollowUp::IDENTITY
    .and(FollowUp::INQUIRY)
    .and(FollowUp::CAPACITY)
    .and(FollowUp::MODES)
    .and(FollowUp::LIMITS)
    .and(FollowUp::READY);
/// How long a path that has to be verified counts as coming back: what a busy target takes to answer INQUIRY.
const SUSPECT_MAX: Duration = Duration::from_secs(10);
/// How long a transition may take if the device does not say (Linux and other initiators: 60 s).
const TRANSITION_MAX: Duration = Duration::from_secs(60);
/// Until a failed path, or one in transition, is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after the first question without an answer; doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

impl Path {
    pub(super) fn new(id: PathId, target: TargetId, unit: Box<Unit>, hold: Option<Hold>) -> Self {
        let knows_long_header = unit.knows_long_header;
        Self {
            id,
            target,
            unit,
            standing: Standing::Verified,
            hold,
            told: PathState::Down,
            reason: Reason::Verifying,
            waiting_until: None,
            probe: Probe::default(),
            sweep: Sweep::None,
            last_reset: 0,
            settles: 0,
            complained: None,
            refusal: None,
            access_asked: Instant::START,
            is_assumed: false,
            knows_long_header,
            used_at: Instant::START,
        }
    }

    /// Whether anything can be sent on it, now or later.
    pub(super) const fn is_alive(&self) -> bool {
        !matches!(self.standing, Standing::Quarantined | Standing::Lost)
    }

    /// Whether commands that end now may have been executed by another logical unit.
    pub(super) const fn may_be_another(&self) -> bool {
        matches!(
            self.standing,
            Standing::Suspect(Reason::Verifying) | Standing::Failed(Reason::Gone) | Standing::Quarantined
        )
    }

    /// What the path is good for, with why.
    pub(super) fn state(&mut self, now: Instant) -> (PathState, Reason) {
        let (wanted, limit, reason) = match self.standing {
            Standing::Quarantined => (PathState::Down, Duration::ZERO, Reason::Quarantined),
            Standing::Lost => (PathState::Down, Duration::ZERO, Reason::Lost),
            _ if self.hold.is_some() => (PathState::Down, Duration::ZERO, self.hold_reason()),
            Standing::Verified => {
                let limit = self.unit.transition_max.unwrap_or(TRANSITION_MAX);
                let reason = if self.is_assumed { Reason::Assumed } else { Reason::Access };
                (self.unit.path_state(), limit, reason)
            }
            Standing::Suspect(reason) => (PathState::Waiting, SUSPECT_MAX, reason),
            Standing::Failed(reason) => (PathState::Down, Duration::ZERO, reason),
        };
        if wanted != PathState::Waiting {
            self.waiting_until = None;
            return (wanted, reason);
        }
        let until = *self.waiting_until.get_or_insert(now + limit);
        if now < until { (PathState::Waiting, reason) } else { (PathState::Down, Reason::TimedOut) }
    }

    const fn hold_reason(&self) -> Reason {
        match self.hold {
            Some(Hold::Drained) => Reason::Drained,
            _ => Reason::FailedByOperator,
        }
    }

    /// Until when it counts as coming back by itself, while it does.
    pub(super) fn waiting_until(&self) -> Option<Instant> {
        self.waiting_until.filter(|_| self.told == PathState::Waiting)
    }

    /// What a reply on this path says of it.
    pub(super) fn affect(&mut self, now: Instant, effect: PathEffect, follow_up: FollowUp) {
        if !self.is_alive() {
            return;
        }
        match effect {
            PathEffect::None if follow_up.contains(FollowUp::IDENTITY) => {
                self.suspect(Reason::Verifying, now);
            }
            PathEffect::None => {}
            PathEffect::Doubtful => self.suspect(Reason::Doubtful, now),
            // It is asked who it is as well, at its own pace.
            PathEffect::Failed => return self.fail(Reason::Lost, now),
            PathEffect::Gone => return self.fail(Reason::Gone, now),
            PathEffect::Transitioning => self.refused_access(AccessState::Transitioning, now),
            PathEffect::Standby => self.refused_access(AccessState::Standby, now),
            PathEffect::Unavailable => self.refused_access(AccessState::Unavailable, now),
        }
        self.probe.want(follow_up, now);
    }

    /// Nothing is sent on it until it has shown its identity.
    pub(super) fn suspect(&mut self, reason: Reason, at: Instant) {
        match self.standing {
            Standing::Verified | Standing::Suspect(Reason::Doubtful) => {
                self.standing = Standing::Suspect(reason);
            }
            _ => {}
        }
        self.probe.want(FollowUp::IDENTITY, at);
    }

    pub(super) fn fail(&mut self, reason: Reason, now: Instant) {
        self.standing = Standing::Failed(reason);
        self.probe.want(FollowUp::IDENTITY, now + PAUSE);
    }

    fn refused_access(&mut self, access: AccessState, now: Instant) {
        if self.unit.reports_access {
            self.refusal = Some(match is_usable(self.unit.access) {
                true => Refusal::next(self.refusal, now),
                false => Refusal::late(self.refusal, now),
            });
            self.unit.access = access;
            self.is_assumed = false;
        } else {
            // Nothing would ever tell us that it is over: wait a little and try.
            self.suspect(Reason::Access, now + PAUSE);
        }
    }

    /// What its port group says.
    pub(super) fn set_access(&mut self, access: AccessState, now: Instant) {
        self.unit.access = access;
        if access == AccessState::Transitioning {
            // Whatever else is open: a port in transition answers little, and not sooner if it is asked more.
            self.probe.pause_until(now + PAUSE);
        }
        if matches!(path_state(access), PathState::Usable(_)) && self.unit.capacity.is_none() {
            self.probe.want(FollowUp::CAPACITY, now);
        }
        self.settle();
    }

    /// Takes the standing back to verified if nothing is open any more that writes would have to wait for.
    pub(super) fn settle(&mut self) {
        if !is_usable(self.unit.access) && self.probe.todo.contains(FollowUp::CAPACITY) {
            // It has changed, perhaps, and cannot be asked for now.
            self.unit.capacity = None;
        }
        let needs_capacity =
            self.unit.capacity.is_none() && matches!(self.unit.path_state(), PathState::Usable(_));
        match self.standing {
            Standing::Suspect(_) | Standing::Failed(_) if !self.probe.gates() && !needs_capacity => {
                self.standing = Standing::Verified;
                self.waiting_until = None;
            }
            Standing::Verified if needs_capacity => self.standing = Standing::Suspect(Reason::Verifying),
            _ => {}
        }
    }

    /// The next question to send, if it is time.
    pub(super) fn next_question(&mut self, now: Instant) -> Option<&Asking> {
        if !self.is_alive() || self.probe.is_out || now < self.probe.at {
            return None;
        }
        if self.probe.wants(FollowUp::IDENTITY) {
            self.probe.set_aside();
        }
        if self.probe.asking.is_none() {
            let first = self.first_todo()?;
            let again = self.probe.aside.take_if(|aside| aside.question == first);
            self.probe.asking = Some(again.unwrap_or_else(|| Asking::new(first)));
        }
        self.probe.is_out = true;
        self.probe.renewed = FollowUp::NONE;
        self.probe.asking.as_ref()
    }

    /// What else belongs to the subject of a question that was answered.
    pub(super) fn rest_of(&self, question: Question) -> Option<Question> {
        match question {
            Question::BlockLimits => Some(Question::Provisioning),
            // A device that did not list the page is not asked for it.
            Question::Provisioning if self.unit.rotation != Rotation::Unknown => {
                Some(Question::Characteristics)
            }
            _ => None,
        }
    }

    /// The device server has no answer to a question that can be read: the same in words that it knows, from now on.
    pub(super) fn ask_instead(&mut self, now: Instant, question: Question, simpler: Question) {
        self.knows_long_header &= question != Question::PortGroupsExtended;
        self.probe.answered(now);
        self.probe.asking = Some(Asking::new(simpler));
    }

    /// Identity first: nothing is sent before it, and an answer by somebody else is worth nothing.
    fn first_todo(&self) -> Option<Question> {
        let askable = self.askable();
        let capacity = match self.unit.addressing {
            Addressing::Sixteen => Question::Capacity16,
            Addressing::Ten => Question::Capacity10,
        };
        let port_groups =
            if self.knows_long_header { Question::PortGroupsExtended } else { Question::PortGroups };
        [
            (FollowUp::IDENTITY, Question::DeviceId),
            (FollowUp::INQUIRY, Question::Standard),
            (FollowUp::ACCESS, port_groups),
            (FollowUp::CAPACITY, capacity),
            (FollowUp::MODES, Question::Caching6),
            (FollowUp::READY, Question::Ready),
            (FollowUp::LIMITS, Question::BlockLimits),
        ]
        .into_iter()
        .find_map(|(flag, question)| askable.contains(flag).then_some(question))
    }

    /// What is to be asked and can be answered now: a port that is not active need not know more than who it is
    /// and how it stands (SPC, asymmetric access states).
    fn askable(&self) -> FollowUp {
        let mut askable = self.probe.todo;
        if !matches!(self.unit.path_state(), PathState::Usable(_)) {
            askable = askable.without(FollowUp::CAPACITY.and(FollowUp::MODES));
        }
        askable
    }

    /// It was in transition, or in doubt, for longer than that may take.
    pub(super) fn has_waited_too_long(&self, now: Instant) -> bool {
        self.waiting_until.is_some_and(|until| until <= now)
    }

    /// When something is due for this path.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let open = self.probe.asking.is_some() || !self.askable().is_empty();
        let probe = (self.is_alive() && open && !self.probe.is_out).then_some(self.probe.at);
        [probe, self.waiting_until()].into_iter().flatten().min()
    }
}

impl Probe {
    /// Asks for something, not before `at` unless something else is asked earlier.
    pub(super) fn want(&mut self, what: FollowUp, at: Instant) {
        // Not the access states: see [`super::access`].
        self.add(what.common(ASKED), at);
    }

    /// Asks for the access states, as the driver allowed.
    pub(super) fn ask_access(&mut self, now: Instant) {
        self.add(FollowUp::ACCESS, now);
    }

    fn add(&mut self, what: FollowUp, at: Instant) {
        if what.is_empty() {
            return;
        }
        if self.is_out {
            self.renewed = self.renewed.and(what);
        }
        // While a question is out or failing, its own pauses hold.
        if self.todo.is_empty() && !self.is_out {
            self.at = at;
        } else if self.failures == 0 && !self.is_out {
            self.at = self.at.min(at);
        }
        self.todo = self.todo.and(what);
    }

    /// Whether this is still to be asked about.
    pub(super) const fn wants(&self, what: FollowUp) -> bool {
        self.todo.contains(what)
    }

    /// Whether something is open that has to be known before anything is sent.
    const fn gates(&self) -> bool {
        self.wants(FollowUp::IDENTITY) || self.wants(FollowUp::INQUIRY)
    }

    /// Whatever is being asked comes after the identity: an answer by somebody else is worth nothing.
    fn set_aside(&mut self) {
        if let Some(asking) = self.asking.take_if(|asking| asking.question != Question::DeviceId) {
            self.aside = Some(asking);
        }
    }

    /// The question about this was answered; it is put again if there has been another reason to since it went out.
    pub(super) fn done(&mut self, what: FollowUp) {
        self.todo = self.todo.without(what.without(self.renewed));
    }

    /// It is not to be asked any more, whatever reason there has been.
    pub(super) fn withdraw(&mut self, what: FollowUp) {
        self.todo = self.todo.without(what);
        self.renewed = self.renewed.without(what);
    }

    /// The question is to be sent again, then.
    pub(super) const fn pause_until(&mut self, at: Instant) {
        self.at = at;
    }

    /// An answer came; the next question follows at once.
    pub(super) fn answered(&mut self, now: Instant) {
        self.asking = None;
        self.failures = 0;
        self.at = now;
    }

    /// No answer came: the question is put again from its beginning after a pause that grows.
    pub(super) fn failed(&mut self, now: Instant) {
        self.asking = None;
        let pause = PAUSE_FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        self.at = now + pause.min(PAUSE_LONGEST);
    }
}
