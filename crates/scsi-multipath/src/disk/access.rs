//! Asymmetric access states: when the target port groups are to be asked about, and what the answers change.
//!
//! The disk does not ask by itself: a thousand disks would, at the same event. It says that it wants to, and whoever
//! drives it says when, or what another logical unit of the target was told. What it saw itself counts more than that.

use alloc::boxed::Box;
use alloc::vec::Vec;

use clock::{Duration, Instant};
use multipath::{PathId, PathState};
use scsi::port_groups::PortGroups;

use super::path::{Path, Standing};
use super::{Action, Disk, TargetId};
use crate::disposition::{FollowUp, PathEffect};
use crate::unit::{AccessState, GroupAccess, group_states, is_usable, state_of, transition_max};

/// Why a disk wants to know the access states. The later ones are the more pressing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessCause {
    /// News may have been lost; another path carries commands meanwhile.
    Poll,
    /// The same, and no path is usable: nothing else would tell.
    NoPath,
    /// What was in transition may have settled.
    Again,
    /// The device said that something has changed.
    Told,
    /// It refused a command for a state that was not known (04/0A to 04/0C, 04/12).
    Refused,
}

/// What became of the question that a disk was allowed to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessAnswer {
    /// The states of all groups, in the order of their numbers.
    Groups(Box<[GroupAccess]>),
    /// No answer that makes sense. The disk still wants to know.
    Failed,
    /// There is no path to ask on, or the device does not know the question: the disk does not want to know any more.
    Nothing,
}

/// What is asked of one target.
#[derive(Debug)]
pub(super) struct Inquiry {
    target: TargetId,
    want: Option<Want>,
    /// The driver was told of the want.
    told: Option<AccessCause>,
    /// This path may ask, or does.
    granted: Option<Grant>,
    /// The last question failed on it: another one is tried first.
    avoid: Option<PathId>,
}

#[derive(Clone, Copy, Debug)]
struct Want {
    cause: AccessCause,
    path: PathId,
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    path: PathId,
    /// What is wanted again if there is no answer.
    want: Want,
    is_sent: bool,
}

/// How a path refused what its group would allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    at: Instant,
    /// Its group has not agreed since.
    is_open: bool,
    /// How often in a row the group said that the path is usable and it was not.
    lies: u32,
}

/// How often a device is asked whether paths that it does not serve now may be used again. While another path
/// carries commands the device says so by itself (SPC, unit attention 2A/06); this is for what gets lost.
const ACCESS_POLL: Duration = Duration::from_secs(60);
/// The same while no path is usable, so that nothing else would tell.
const ACCESS_POLL_URGENT: Duration = Duration::from_secs(2);
/// Until a path in transition is asked about again.
const TRANSITION_PAUSE: Duration = Duration::from_secs(1);
/// How long a path is not tried again after its group said for the second time that it is usable and it refused;
/// doubles up to the longest, at which one command a while is all that a lie costs.
const LIE_PAUSE: Duration = Duration::from_secs(1);
const LIE_PAUSE_LONGEST: Duration = Duration::from_secs(10);
/// The same while no other path is usable, so that requests wait.
const LIE_PAUSE_URGENT: Duration = Duration::from_secs(1);
/// A refusal so long after the last pause is not of the same row.
const LIE_FORGOTTEN: Duration = Duration::from_secs(10);

impl Refusal {
    /// Another refusal of a path.
    pub(super) fn next(before: Option<Self>, now: Instant) -> Self {
        let lies = match before {
            Some(it) if it.is_open => it.lies,
            Some(it) if now < it.until(LIE_PAUSE_LONGEST) + LIE_FORGOTTEN => it.lies + 1,
            _ => 0,
        };
        Self { at: now, is_open: true, lies }
    }

    /// A refusal of what was sent before the path was known not to be usable: no lie, but younger than what others were
    /// told before it.
    pub(super) fn late(before: Option<Self>, now: Instant) -> Self {
        Self { at: now, is_open: true, lies: before.map_or(0, |it| it.lies) }
    }

    /// Until when its group is not believed.
    fn until(&self, longest: Duration) -> Instant {
        match self.lies.checked_sub(1) {
            None => self.at,
            Some(doublings) => self.at + LIE_PAUSE.saturating_mul(1 << doublings.min(10)).min(longest),
        }
    }

    /// Whether a report that was asked for then may say now that the path is usable.
    fn yields(&self, now: Instant, asked: Instant, longest: Duration) -> bool {
        !self.is_open || (self.at <= asked && self.until(longest) <= now)
    }
}

impl Path {
    /// What a report says of its group; if it was not assumed, when it was asked for, and how long a lie counts at most.
    /// False if it is not believed.
    fn take_report(&mut self, now: Instant, asked: Option<(Instant, Duration)>, state: AccessState) -> bool {
        match &mut self.refusal {
            // It agrees: that was no lie. When it is over, only its own group can say.
            Some(refusal) if !is_usable(state) => refusal.lies = 0,
            Some(refusal) => {
                let is_believed = match asked {
                    Some((asked, longest)) => refusal.yields(now, asked, longest),
                    None => !refusal.is_open,
                };
                if !is_believed {
                    return false;
                }
                refusal.is_open = false;
            }
            None => {}
        }
        self.set_access(state, now);
        true
    }

    fn can_be_asked(&self, target: TargetId) -> bool {
        self.target == target && self.is_alive() && self.unit.reports_access
    }
}

impl Disk {
    /// The access states of a path's target are to be asked for, then or earlier.
    pub(super) fn want_access(&mut self, path: PathId, cause: AccessCause, at: Instant) {
        let Some(target) = self.paths.iter().find(|known| known.id == path).map(|path| path.target) else {
            return;
        };
        let inquiry = self.inquiry_mut(target);
        let new = Want { cause, path, at };
        inquiry.want = Some(match inquiry.want {
            Some(old) if old.cause > cause => Want { at: old.at.min(at), ..old },
            Some(old) => Want { at: old.at.min(at), ..new },
            None => new,
        });
        if cause >= AccessCause::Told {
            // The driver may have put off what it was told before: this is news.
            inquiry.told = None;
        }
    }

    fn inquiry_mut(&mut self, target: TargetId) -> &mut Inquiry {
        let place = match self.inquiries.iter().position(|inquiry| inquiry.target == target) {
            Some(place) => place,
            None => {
                let new = Inquiry { target, want: None, told: None, granted: None, avoid: None };
                self.inquiries.push(new);
                self.inquiries.len() - 1
            }
        };
        &mut self.inquiries[place]
    }

    /// What a reply on a path says about access states. `before` is what was believed of it.
    pub(super) fn access_in_doubt(
        &mut self,
        now: Instant,
        id: PathId,
        effect: PathEffect,
        before: Option<AccessState>,
    ) {
        let Some(path) = self.paths.iter().find(|path| path.id == id) else { return };
        if !path.is_alive() || !path.unit.reports_access {
            return;
        }
        let is_refusal =
            matches!(effect, PathEffect::Transitioning | PathEffect::Standby | PathEffect::Unavailable);
        if !is_refusal {
            self.want_access(id, AccessCause::Told, now);
        } else if before != Some(path.unit.access) {
            self.want_access(id, AccessCause::Refused, now);
        }
    }

    /// Tells the driver what is wanted, and takes back what cannot be asked any more.
    pub(super) fn tend_access(&mut self, now: Instant) {
        let is_urgent = !self.paths.iter().any(|path| matches!(path.told, PathState::Usable(_)));
        for place in 0..self.inquiries.len() {
            let Inquiry { target, want, told, granted, .. } = self.inquiries[place];
            match (granted, want) {
                (Some(grant), _) if !self.can_ask(grant.path) => self.access_failed(target, grant.path),
                (None, Some(want)) if want.at <= now && told < Some(want.cause) => {
                    self.inquiries[place].told = Some(want.cause);
                    let Want { cause, path, .. } = want;
                    self.actions.push_back(Action::WantAccess { target, path, cause, is_urgent });
                }
                _ => {}
            }
        }
    }

    /// When the driver is to be told of the next want.
    pub(super) fn access_deadline(&self) -> Option<Instant> {
        let untold = self.inquiries.iter().filter_map(|it| {
            let want = it.want.filter(|want| it.granted.is_none() && it.told < Some(want.cause))?;
            Some(want.at)
        });
        untold.min()
    }

    fn can_ask(&self, id: PathId) -> bool {
        self.paths.iter().any(|path| path.id == id && path.is_alive())
    }

    /// The driver lets the disk ask a target.
    pub(super) fn may_ask_access(&mut self, now: Instant, target: TargetId) {
        let inquiry = self.inquiry_mut(target);
        if inquiry.granted.is_some() {
            return;
        }
        let (wanted, avoid) = (inquiry.want.map(|want| want.path), inquiry.avoid);
        let able = self.paths.iter().filter(|path| path.can_be_asked(target));
        // The surest to answer first: one that works, and the one that had the news.
        let best = able.min_by_key(|path| {
            let (is_verified, is_wanted) = (path.standing == Standing::Verified, wanted == Some(path.id));
            let is_usable = matches!(path.told, PathState::Usable(_));
            (avoid == Some(path.id), !is_verified, !is_usable, !is_wanted)
        });
        let Some(path) = best.map(|path| path.id) else {
            let inquiry = self.inquiry_mut(target);
            (inquiry.want, inquiry.told) = (None, None);
            return self.actions.push_back(Action::AccessAnswered { target, answer: AccessAnswer::Nothing });
        };
        let inquiry = self.inquiry_mut(target);
        let fallback = Want { cause: AccessCause::Poll, path, at: now };
        let want = inquiry.want.unwrap_or(fallback);
        inquiry.granted = Some(Grant { path, want, is_sent: false });
        self.with_path(now, path, |path| path.probe.ask_access(now));
    }

    /// The question goes out: it answers whatever was wanted until now, be it the one that the driver allowed or one that
    /// was left over.
    pub(super) fn access_asked(&mut self, now: Instant, id: PathId) {
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        path.access_asked = now;
        let target = path.target;
        let inquiry = self.inquiry_mut(target);
        inquiry.want = None;
        if let Some(grant) = inquiry.granted.as_mut().filter(|grant| grant.path == id) {
            grant.is_sent = true;
        }
    }

    /// There was no answer, on a path that may have been the one to ask.
    pub(super) fn access_not_answered(&mut self, id: PathId) {
        let granted = self.inquiries.iter().find(|it| it.granted.is_some_and(|grant| grant.path == id));
        if let Some(target) = granted.map(|inquiry| inquiry.target) {
            self.access_failed(target, id);
        }
    }

    fn access_failed(&mut self, target: TargetId, id: PathId) {
        if let Some(path) = self.paths.iter_mut().find(|path| path.id == id) {
            path.probe.withdraw(FollowUp::ACCESS);
        }
        let inquiry = self.inquiry_mut(target);
        let Some(grant) = inquiry.granted.take() else { return };
        inquiry.avoid = Some(id);
        inquiry.want = Some(inquiry.want.filter(|new| new.cause > grant.want.cause).unwrap_or(grant.want));
        inquiry.told = inquiry.want.map(|want| want.cause);
        self.actions.push_back(Action::AccessAnswered { target, answer: AccessAnswer::Failed });
    }

    /// The device does not know the question any more.
    pub(super) fn access_unanswerable(&mut self, id: PathId) {
        let granted = self.inquiries.iter_mut().find(|it| it.granted.is_some_and(|grant| grant.path == id));
        let Some(inquiry) = granted else { return };
        (inquiry.granted, inquiry.told) = (None, None);
        let target = inquiry.target;
        self.actions.push_back(Action::AccessAnswered { target, answer: AccessAnswer::Nothing });
    }

    /// One path's answer tells about the groups of all that lead to the same target.
    pub(super) fn access_shown(&mut self, now: Instant, id: PathId, groups: &PortGroups) {
        let Some(path) = self.paths.iter().find(|path| path.id == id) else { return };
        let (target, asked) = (path.target, path.access_asked);
        let inquiry = self.inquiry_mut(target);
        // One that is still to be asked is not answered by what was out before it was allowed.
        inquiry.granted.take_if(|grant| grant.path == id && grant.is_sent);
        (inquiry.told, inquiry.avoid) = (None, None);
        let any_usable = self.paths.iter().any(|path| matches!(path.told, PathState::Usable(_)));
        let longest = if any_usable { LIE_PAUSE_LONGEST } else { LIE_PAUSE_URGENT };
        let mut again: Option<(PathId, Instant)> = None;
        for path in self.paths.iter_mut().filter(|path| path.can_be_asked(target)) {
            path.unit.transition_max = transition_max(groups).or(path.unit.transition_max);
            path.is_assumed = false;
            let group = path.unit.port.find(groups);
            path.unit.preferred = group.is_some_and(|group| group.preferred);
            // Of a group that is left out nothing is known but what the port itself refuses.
            let state = group.map_or(AccessState::Optimized, |group| group.state);
            if !path.take_report(now, Some((asked, longest)), state) {
                let at = path.refusal.map_or(now, |refusal| refusal.until(longest));
                again = again.filter(|(_, sooner)| *sooner <= at).or(Some((path.id, at)));
            }
        }
        if let Some((path, at)) = again {
            self.want_access(path, AccessCause::Again, at.max(now + TRANSITION_PAUSE));
        }
        self.follow_transitions(now);
        let answer = AccessAnswer::Groups(group_states(groups));
        self.actions.push_back(Action::AccessAnswered { target, answer });
    }

    /// Another logical unit of the target that stood as this one does was told this.
    pub(super) fn access_assumed(&mut self, now: Instant, target: TargetId, groups: &[GroupAccess]) {
        for path in self.paths.iter_mut().filter(|path| path.can_be_asked(target)) {
            let Some(group) = path.unit.port.group.and_then(|id| state_of(groups, id)) else { continue };
            if path.take_report(now, None, group.state) {
                path.unit.preferred = group.preferred;
                path.is_assumed = true;
            }
        }
        self.follow_transitions(now);
        self.tend(now);
    }

    /// A transition tells nobody that it has ended. One that takes longer than it may is left to the polls.
    pub(super) fn follow_transitions(&mut self, now: Instant) {
        let in_transition = |path: &&Path| {
            path.is_alive()
                && path.unit.reports_access
                && path.unit.access == AccessState::Transitioning
                && !path.has_waited_too_long(now)
        };
        let paths: Vec<PathId> = self.paths.iter().filter(in_transition).map(|path| path.id).collect();
        for path in paths {
            self.want_access(path, AccessCause::Again, now + TRANSITION_PAUSE);
        }
    }

    /// Asks now and then for the access state of paths that are not served.
    pub(super) fn poll_access(&mut self, now: Instant) {
        let alive = |path: &&Path| path.is_alive() && path.unit.reports_access;
        if self.paths.iter().filter(alive).all(|path| is_usable(path.unit.access)) {
            self.access_poll = None;
            return;
        }
        let any_usable = self.paths.iter().any(|path| matches!(path.told, PathState::Usable(_)));
        let (every, cause) = match any_usable {
            true => (ACCESS_POLL, AccessCause::Poll),
            false => (ACCESS_POLL_URGENT, AccessCause::NoPath),
        };
        let due = self.access_poll.get_or_insert(now + every);
        // Not later than the pace of now asks for.
        *due = (*due).min(now + every);
        if *due > now {
            return;
        }
        *due = now + every;
        let is_idle = |path: &&Path| alive(path) && !is_usable(path.unit.access);
        let idle: Vec<PathId> = self.paths.iter().filter(is_idle).map(|path| path.id).collect();
        for path in idle {
            self.want_access(path, cause, now);
        }
        // Said again, lest one want be lost for good.
        for inquiry in self.inquiries.iter_mut().filter(|inquiry| inquiry.granted.is_none()) {
            inquiry.told = None;
        }
    }
}
