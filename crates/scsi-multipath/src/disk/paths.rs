//! How paths join, change and leave.

use clock::Instant;
use multipath::{Node, PATHS_MAX, PathId, PathState};

use super::features::Features;
use super::fence::{FENCES_MAX, Fence};
use super::path::{Path, Standing};
use super::report::{Reason, Report};
use super::{Action, Disk, Hold, Life};
use crate::disposition::FollowUp;
use crate::unit::{Contradiction, Unit, same_identity};

impl Disk {
    pub(super) fn path_found(&mut self, now: Instant, mut path: Path, node: Option<Node>) {
        let id = path.id;
        if let Err(reason) = self.may_join(id, &path.unit) {
            if let Contradiction::Blocks { .. } = reason {
                // One of them is out of date: ask, so that the path can join when it is found again.
                self.ask_everywhere(now, FollowUp::CAPACITY);
                self.tend(now);
            }
            self.report(Report::PathRefused { path: id, reason: reason.clone() });
            return self.actions.push_back(Action::Refused { path: id, reason });
        }
        let access = path.unit.access;
        path.set_access(access, now);
        let (state, reason) = path.state(now);
        (path.told, path.reason) = (state, reason);
        path.used_at = now;
        path.last_reset = self.resets.forgotten();
        self.paths.push(path);
        self.collect_attentions(now, id);
        self.follow_transitions(now);
        self.actions.push_back(Action::Joined { path: id });
        self.report(Report::PathJoined { path: id, state });
        self.refresh_features();
        self.head.handle(now, multipath::Event::PathAdded { path: id, node, state });
        self.tend(now);
    }

    fn may_join(&self, id: PathId, unit: &Unit) -> Result<(), Contradiction> {
        if !matches!(self.life, Life::Open | Life::Draining { .. } | Life::Flushing { .. }) {
            return Err(Contradiction::Ending);
        }
        if self.paths.len() >= PATHS_MAX
            || self.fences.len() >= FENCES_MAX
            || self.paths.iter().any(|path| path.id == id)
        {
            return Err(Contradiction::NoRoom);
        }
        same_identity(&self.identity, &unit.identity)?;
        // Exports live with the block size that they were told.
        if let (Some(features), Some(capacity)) = (&self.features, &unit.capacity)
            && features.block_size != capacity.block_size
        {
            return Err(Contradiction::BlockSize { ours: features.block_size, theirs: capacity.block_size });
        }
        self.paths.iter().filter(|path| path.is_alive()).try_for_each(|path| unit.join(&path.unit))
    }

    /// An operator takes a path out, or gives it back.
    pub(super) fn hold(&mut self, now: Instant, id: PathId, hold: Option<Hold>) {
        self.with_path(now, id, |path| {
            let was_held = core::mem::replace(&mut path.hold, hold).is_some();
            if was_held && hold.is_none() && path.is_alive() {
                path.suspect(Reason::Verifying, now);
            }
        });
    }

    pub(super) fn path_lost(&mut self, now: Instant, id: PathId) {
        self.with_path(now, id, |path| {
            if path.standing != Standing::Quarantined {
                path.standing = Standing::Lost;
            }
        });
        self.refresh_features();
        self.tend(now);
    }

    pub(super) fn path_removed(&mut self, now: Instant, id: PathId) {
        let Some(position) = self.paths.iter().position(|path| path.id == id) else { return };
        self.paths.remove(position);
        self.report(Report::PathRemoved { path: id });
        self.refresh_features();
        self.head.handle(now, multipath::Event::PathRemoved { path: id });
        self.tend(now);
    }

    /// The path shows what it must not show.
    pub(super) fn quarantine(&mut self, now: Instant, id: PathId, reason: Contradiction) {
        self.report(Report::PathQuarantined { path: id, reason });
        // What is behind its number now may be a disk of its own.
        self.report(Report::Rediscover { path: id });
        self.with_path(now, id, |path| path.standing = Standing::Quarantined);
        self.refresh_features();
    }

    /// Changes something about a path, if it is still there, and lets the head know what it is good for now.
    pub(super) fn with_path(&mut self, now: Instant, id: PathId, change: impl FnOnce(&mut Path)) {
        let Some(position) = self.paths.iter().position(|path| path.id == id) else { return };
        change(&mut self.paths[position]);
        self.tell_head(now, position);
        self.tend(now);
    }

    fn tell_head(&mut self, now: Instant, position: usize) {
        let path = &mut self.paths[position];
        path.settle();
        let (id, from, was_suspect) = (path.id, path.told, path.told == PathState::Waiting);
        let (to, mut reason) = path.state(now);
        if from == to {
            path.reason = reason;
            return;
        }
        (path.told, path.reason) = (to, reason);
        if was_suspect && reason == Reason::Access && matches!(to, PathState::Usable(_)) {
            reason = Reason::Verified;
        }
        self.report(Report::PathState { path: id, from, to, reason });
        // What the transport still holds back was sent before the path came into doubt. A transport that is gone gives
        // it back by itself.
        if matches!(from, PathState::Usable(_)) && self.paths[position].standing != Standing::Lost {
            self.actions.push_back(Action::Withdraw { path: id });
        }
        self.head.handle(now, multipath::Event::PathChanged { path: id, state: to });
    }

    pub(super) fn ask_everywhere(&mut self, now: Instant, what: FollowUp) {
        for path in &mut self.paths {
            path.probe.want(what, now);
        }
    }

    /// Does what is due: lets waits end, sends questions, and says when to come back.
    pub(super) fn tend(&mut self, now: Instant) {
        self.tend_fences(now);
        let fences = self.fences.iter().filter_map(Fence::deadline).min();
        if matches!(self.life, Life::Ending | Life::HeadGone | Life::Gone) {
            self.deadline = fences;
            return;
        }
        self.refuse_waiting(now);
        for position in 0..self.paths.len() {
            self.tell_head(now, position);
        }
        self.poll_access(now);
        self.tend_access(now);
        let check = self.check_idle_paths(now);
        self.send_probes(now);
        let closing = match self.life {
            Life::Draining { until } | Life::Flushing { until } => Some(until),
            _ => None,
        };
        let activation = self.tend_activation(now);
        let paths = self.paths.iter().filter_map(Path::deadline);
        let access = [self.access_poll, self.access_deadline(), activation, check].into_iter().flatten();
        self.deadline = paths.chain(access).chain(closing).chain(fences).min();
    }

    /// What the paths can do together may have changed.
    pub(super) fn refresh_features(&mut self) {
        let alive = self.paths.iter().filter(|path| path.is_alive()).map(|path| &*path.unit);
        let Some(features) = Features::of(alive, self.missing) else { return };
        self.features = Some(features);
        let geometry = features.geometry();
        if self.geometry == Some(geometry) {
            return;
        }
        if let Some(before) = self.geometry
            && before.size != geometry.size
        {
            self.report(Report::Resized { from: before.size, to: geometry.size });
        }
        self.geometry = Some(geometry);
        self.actions.push_back(Action::Geometry(geometry));
    }
}
