//! Explicit access changes: a port group that could serve is told to, when none that is optimized does.
//!
//! Only where an operator asked for it. An array that is shared would be pulled to and fro by hosts that each see
//! another half of its ports, so that attempts are few, far apart, and end until there was peace for a while.

use block::Buffer;
use clock::{Duration, Instant};
use multipath::{Access, PathId, PathState};
use scsi::cdb::Cdb;
use scsi::port_groups::SetPortGroups;
use scsi::{Ending, TaskAttribute, Transfer};

use super::access::AccessCause;
use super::path::{Path, Standing};
use super::report::Report;
use super::work::Flight;
use super::{Action, Disk, TargetId};
use crate::command::{Command, Context, Kind};
use crate::disposition::{CommandClass, Failure, Fate, disposition};
use crate::unit::AccessState;

/// Who changes access states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alua {
    /// The array alone. SET TARGET PORT GROUPS is never sent.
    #[default]
    Implicit,
    /// This disk too, if no optimized path is usable.
    Explicit,
}

#[derive(Debug, Default)]
pub(super) struct Activation {
    stage: Stage,
    /// No optimized path has been usable since then, and one could be.
    missed_since: Option<Instant>,
    /// An optimized path has been usable since then.
    optimized_since: Option<Instant>,
    attempts: u32,
    not_before: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// The driver was told.
    Wanted(TargetId),
    Out,
}

/// How long requests go over paths that are not optimized before that is changed: a session that comes back does so in
/// less, and moving a logical unit costs its array far more than that.
const ACTIVATE_AFTER: Duration = Duration::from_secs(5);
/// The pause after the first attempt, which doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(300);
/// Attempts, until an optimized path has been usable for so long as [`PEACE`]: an array that cannot is not asked for
/// ever, and two hosts do not pull at one for ever.
const ATTEMPTS_MAX: u32 = 10;
const PEACE: Duration = Duration::from_secs(60);

impl Activation {
    /// Takes note of whether there is an optimized path.
    fn note(&mut self, now: Instant, is_optimized: bool, is_missed: bool) {
        self.missed_since = is_missed.then(|| self.missed_since.unwrap_or(now));
        self.optimized_since = is_optimized.then(|| self.optimized_since.unwrap_or(now));
        if self.optimized_since.is_some_and(|since| since + PEACE <= now) {
            self.attempts = 0;
        }
    }

    /// When the driver is to be told, if it is.
    fn due(&self, is_served: bool) -> Option<Instant> {
        let since =
            self.missed_since.filter(|_| self.stage == Stage::Idle && self.attempts < ATTEMPTS_MAX)?;
        let delay = if is_served { ACTIVATE_AFTER } else { Duration::ZERO };
        Some((since + delay).max(self.not_before))
    }
}

impl Disk {
    /// Says that a group is to be activated, if it is time. When to look again.
    pub(super) fn tend_activation(&mut self, now: Instant) -> Option<Instant> {
        if self.options.alua == Alua::Implicit {
            return None;
        }
        let is_optimized = |path: &Path| path.told == PathState::Usable(Access::Optimized);
        let any_optimized = self.paths.iter().any(is_optimized);
        let candidate = self.to_activate();
        self.activation.note(now, any_optimized, candidate.is_some());
        let is_served = self.paths.iter().any(|path| matches!(path.told, PathState::Usable(_)));
        let due = self.activation.due(is_served)?;
        if due > now {
            return Some(due);
        }
        if let Some((_, target, _)) = candidate {
            self.activation.stage = Stage::Wanted(target);
            self.actions.push_back(Action::WantActivation { target });
        }
        None
    }

    /// The path whose group should be optimized, with its target and group; none if all is well or may soon be.
    fn to_activate(&self) -> Option<(PathId, TargetId, u16)> {
        let may_soon_be = |path: &Path| {
            let is_hopeful =
                path.hold.is_none() && matches!(path.standing, Standing::Verified | Standing::Suspect(_));
            let state = path.unit.access;
            is_hopeful
                && (state == AccessState::Optimized
                    || state == AccessState::Transitioning && path.told == PathState::Waiting)
        };
        if self.paths.iter().any(may_soon_be) {
            return None;
        }
        let rank = |path: &Path| match path.unit.access {
            AccessState::NonOptimized | AccessState::LogicalBlockDependent => Some(0),
            AccessState::Standby => Some(1),
            // SPC lets a port in one of the other states refuse the command.
            _ => None,
        };
        // A group that only paths lead to which an operator keeps out serves nobody.
        let able = self.paths.iter().filter(|path| path.hold.is_none()).filter_map(|path| {
            let rank = rank(path).filter(|_| path.standing == Standing::Verified && path.unit.sets_access)?;
            Some(((rank, !path.unit.preferred), (path.id, path.target, path.unit.port.group?)))
        });
        able.min_by_key(|(key, _)| *key).map(|(_, candidate)| candidate)
    }

    /// It is this disk's turn to change a group of a target.
    pub(super) fn may_activate(&mut self, now: Instant, target: TargetId) {
        let candidate = self.to_activate().filter(|(_, of, _)| *of == target);
        let Some((path, _, group)) = candidate.filter(|_| self.activation.stage == Stage::Wanted(target))
        else {
            if self.activation.stage == Stage::Wanted(target) {
                self.activation.stage = Stage::Idle;
            }
            return self.actions.push_back(Action::ActivationEnded { target });
        };
        let list = SetPortGroups { groups: [(group, AccessState::Optimized)].into() }.emit();
        let length = u32::try_from(list.len()).expect("one group is eight bytes");
        let command = Command {
            id: self.take_id(path),
            cdb: Cdb::SetTargetPortGroups { parameter_list_length: length }.emit(),
            attribute: TaskAttribute::Simple,
            transfer: Transfer::ToDevice { offset: 0, length },
            buffer: Buffer::from(list),
            context: Context(Kind::Disk { path, flight: Flight::Activation { target, group } }),
        };
        self.activation.stage = Stage::Out;
        self.activation.attempts += 1;
        let doublings = (self.activation.attempts - 1).min(10);
        self.activation.not_before = now + PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_LONGEST);
        self.probes_out += 1;
        self.actions.push_back(Action::Start { path, command });
    }

    pub(super) fn activation_ended(
        &mut self,
        now: Instant,
        path: PathId,
        (target, group): (TargetId, u16),
        ending: &Ending,
    ) {
        self.probes_out -= 1;
        self.activation.stage = Stage::Idle;
        let attempts_left = ATTEMPTS_MAX - self.activation.attempts.min(ATTEMPTS_MAX);
        let failure = match disposition(CommandClass::Modal, ending).fate {
            Fate::Complete => None,
            Fate::Fail(failure) | Fate::Failover(failure) | Fate::Ambiguous(failure) => Some(failure),
            Fate::Retry(retry) => Some(retry.failure),
        };
        self.report(match failure {
            None => Report::GroupActivated { path, group },
            Some(failure) => Report::GroupNotActivated { path, group, failure, attempts_left },
        });
        if failure == Some(Failure::Attention) && self.activation.attempts == 1 {
            // It had only something to say first.
            self.activation.not_before = now;
        }
        self.overhear(now, path, ending);
        // What came of it, only the device can say.
        self.want_access(path, AccessCause::Again, now);
        self.actions.push_back(Action::ActivationEnded { target });
        self.tend(now);
    }
}
