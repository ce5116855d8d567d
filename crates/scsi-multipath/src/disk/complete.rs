//! What becomes of a piece of a request when its command comes back.

use block::{Completion, Durability, Error, Operation, WriteCache};
use clock::{Duration, Instant};
use multipath::{Outcome, PathId, Ticket, Verdict};
use scsi::Ending;

use super::path::{Path, Standing};
use super::report::{Reason, Report};
use super::work::{Flight, Issuer, Said, Step, Work};
use super::{Action, Disk, Sharing, plan};
use crate::command::{Command, Kind};
use crate::disposition::{
    CommandClass, Disposition, Failure, Fate, FollowUp, PathEffect, Retry, Then, disposition,
};

/// How often the same failure of requests is reported: a broken medium must not fill the log.
const COMPLAINTS_EVERY: Duration = Duration::from_secs(10);

/// Attempts at a command that runs into its timeout and is aborted, even if there is one path only.
const ABORTS_MAX: usize = 3;

impl Disk {
    /// A command came back.
    pub(super) fn ended(&mut self, now: Instant, command: Command, ending: &Ending) {
        let Command { buffer, context, .. } = command;
        match context.0 {
            Kind::Disk { path, flight: Flight::Work { mut work, ticket } } => {
                work.buffer = buffer;
                if self.is_moot(&work) {
                    self.moot_ended(now, path, work, ticket, ending);
                } else {
                    self.work_ended(now, path, work, ticket, ending);
                }
            }
            Kind::Disk { path, flight: Flight::Probe(question) } => {
                self.probe_ended(now, path, question, &buffer, ending);
            }
            Kind::Disk { path, flight: Flight::Canary } => self.canary_ended(now, path, buffer, ending),
            Kind::Disk { path, flight: Flight::Check { attempt } } => {
                self.check_ended(now, path, attempt, ending);
            }
            Kind::Disk { path, flight: Flight::Activation { target, group } } => {
                self.activation_ended(now, path, (target, group), ending);
            }
            Kind::Survey { .. } | Kind::Direct { .. } => {
                debug_assert!(false, "a command of somebody else came back to a disk");
            }
        }
    }

    fn work_ended(&mut self, now: Instant, path: PathId, mut work: Work, ticket: Ticket, ending: &Ending) {
        let disposition = disposition(work.piece.class, ending);
        let concerns_path = disposition.path != PathEffect::None || !disposition.follow_up.is_empty();
        let verdict = match disposition.fate {
            // The unit has said that something changed behind its number, and that may have been before this command.
            // Whichever unit it was that has executed it, it is sent again once it is known which is which.
            Fate::Complete if self.may_be_another(path) => {
                work.said = Said::Failed(Failure::UnknownOutcome);
                Verdict::Again { after: Duration::ZERO }
            }
            Fate::Complete => {
                work.said = Said::Done;
                Verdict::Done
            }
            fate => self.verdict(now, path, &mut work, fate, disposition.path),
        };
        if concerns_path {
            // First, so that the head does not choose this path again.
            self.affect(now, path, &disposition, ending);
        }
        self.head.handle(now, multipath::Event::Ended { ticket, request: work, verdict });
    }

    /// A path that has left while its nexus lives has left because of what it showed.
    fn may_be_another(&self, id: PathId) -> bool {
        self.paths.iter().find(|path| path.id == id).is_none_or(Path::may_be_another)
    }

    /// What the head is to do with a piece that did not succeed.
    fn verdict(
        &mut self,
        now: Instant,
        path: PathId,
        work: &mut Work,
        fate: Fate,
        effect: PathEffect,
    ) -> Verdict {
        match fate {
            Fate::Complete => Verdict::Done,
            Fate::Fail(failure) => give_up(work, failure),
            Fate::Retry(retry) => self.retry(now, path, work, retry),
            Fate::Failover(failure) => self.elsewhere(work, failure, effect),
            Fate::Ambiguous(failure) => self.ambiguous(now, path, work, failure),
        }
    }

    /// The one place that decides about a write of unknown fate. Its extent is closed to other writes from now until
    /// its fence has ended, however the request itself ends. If nobody else writes to the logical unit it may be sent
    /// again at once: every copy carries the same bytes. If others do, it waits.
    fn ambiguous(&mut self, now: Instant, path: PathId, work: &mut Work, failure: Failure) -> Verdict {
        debug_assert_eq!(work.piece.class, CommandClass::Write, "other classes are not sent twice");
        work.said = Said::Failed(failure);
        work.tries = 0;
        // A flush that is executed late makes durable what was acknowledged, and nothing else.
        let extent = if work.step == Step::Synchronize { None } else { work.claim() };
        let is_fenced = extent.is_some_and(|extent| self.doubt(now, path, extent));
        if is_fenced && self.options.sharing == Sharing::Shared {
            work.said = Said::Held;
            return Verdict::Done;
        }
        Verdict::Failover
    }

    fn retry(&mut self, now: Instant, path: PathId, work: &mut Work, retry: Retry) -> Verdict {
        if work.tries < retry.times {
            work.tries = work.tries.saturating_add(1);
            work.said = Said::Failed(retry.failure);
            return Verdict::Again { after: retry.pause };
        }
        match retry.then {
            Then::Fail => give_up(work, retry.failure),
            Then::Failover => self.elsewhere(work, retry.failure, PathEffect::None),
            Then::Doubt => {
                self.with_path(now, path, |path| path.suspect(Reason::Doubtful, now));
                self.elsewhere(work, retry.failure, PathEffect::Doubtful)
            }
        }
    }

    /// Another path may do better. If the path is not to blame, that is tried as often as there are paths.
    fn elsewhere(&self, work: &mut Work, failure: Failure, effect: PathEffect) -> Verdict {
        work.tries = 0;
        work.said = Said::Failed(failure);
        if effect == PathEffect::None && failure != Failure::Transport {
            work.elsewhere = work.elsewhere.saturating_add(1);
            let enough = match failure {
                Failure::Aborted => self.paths.len().max(ABORTS_MAX),
                _ => self.paths.len(),
            };
            if usize::from(work.elsewhere) >= enough {
                return Verdict::Done;
            }
        }
        Verdict::Failover
    }

    /// What an ending says of its path and of the logical unit.
    pub(super) fn affect(&mut self, now: Instant, path: PathId, disposition: &Disposition, ending: &Ending) {
        let Disposition { path: effect, follow_up, .. } = *disposition;
        let follow_up = self.without_our_resets(now, path, follow_up, ending);
        if follow_up.contains(FollowUp::CACHE_LOST) && self.cache.lost(self.write_cache()) {
            self.report(Report::CacheLost { path });
        }
        let is_gone = effect == PathEffect::Gone && !self.is_known_to_be_gone(path);
        if follow_up.contains(FollowUp::DISCOVER) || is_gone {
            self.report(Report::Rediscover { path });
        } else if follow_up.contains(FollowUp::NOTICE) {
            self.complain(now, path, follow_up, ending);
        }
        // A change of the logical unit shows on every path, and each has to be asked: the smallest counts.
        let everywhere = follow_up.common(FollowUp::CAPACITY.and(FollowUp::MODES).and(FollowUp::LIMITS));
        for path in &mut self.paths {
            path.probe.want(everywhere, now);
        }
        let mut believed = None;
        self.with_path(now, path, |path| {
            believed = Some(path.unit.access);
            path.affect(now, effect, follow_up);
        });
        if follow_up.contains(FollowUp::ACCESS) {
            self.access_in_doubt(now, path, effect, believed);
            self.tend(now);
        }
        if follow_up.contains(FollowUp::SWEEP) {
            self.sweep_when_verified(now, path);
        }
    }

    fn is_known_to_be_gone(&self, path: PathId) -> bool {
        let known = self.paths.iter().find(|known| known.id == path);
        known.is_none_or(|path| !path.is_alive() || path.standing == Standing::Failed(Reason::Gone))
    }

    pub(super) fn write_cache(&self) -> WriteCache {
        self.features.map_or(WriteCache::Back, |features| features.write_cache)
    }

    /// Once for each code and while, whatever the device repeats.
    fn complain(&mut self, now: Instant, path: PathId, follow_up: FollowUp, ending: &Ending) {
        let Some(known) = self.paths.iter_mut().find(|known| known.id == path) else { return };
        let sense = match ending {
            Ending::Reply(reply) => reply.sense.as_ref().and_then(|sense| sense.parse()),
            _ => None,
        };
        let said = sense.map(|sense| (sense.key, sense.additional));
        let is_news = known.complained.is_none_or(|(last, at)| last != said || at + COMPLAINTS_EVERY <= now);
        if is_news {
            known.complained = Some((said, now));
            self.report(Report::Attention { path, said, follow_up });
        }
    }

    /// The head has done with a piece.
    pub(super) fn piece_ended(&mut self, now: Instant, work: Work, outcome: Outcome) {
        let Some(work) = self.decide(work, outcome) else { return };
        match (outcome, work.said) {
            (Outcome::Done, Said::Done) => self.piece_done(now, work),
            (Outcome::Done, Said::Held) => self.held.push(work),
            (Outcome::Done, Said::Failed(Failure::Unsupported)) => self.do_without(now, work),
            // A device that cannot count what it deallocates or repeats (tgt's thin units) may not have done it.
            (Outcome::Done, Said::Failed(Failure::Residual)) if work.step.is_shortcut() => {
                self.do_without(now, work);
            }
            (Outcome::Removed, _) => self.finish(work, Err(Error::Shutdown)),
            (Outcome::Done | Outcome::NoPath | Outcome::RetriesExhausted, Said::Failed(failure)) => {
                self.fail(now, work, failure);
            }
            (Outcome::Done | Outcome::NoPath | Outcome::RetriesExhausted, _) => {
                self.fail(now, work, Failure::Transport);
            }
        }
    }

    fn piece_done(&mut self, now: Instant, mut work: Work) {
        work.cursor += work.piece.length;
        if work.step == Step::Synchronize {
            self.cache.flushed(work.covers);
        }
        let next = self.features.and_then(|features| plan::following(&features, &work));
        match next {
            Some(step) => {
                if step == Step::Synchronize {
                    work.covers = self.cache.acknowledged;
                }
                work.step = step;
                self.submit(now, work);
            }
            None => self.succeed(work),
        }
    }

    fn succeed(&mut self, work: Work) {
        match work.operation {
            Operation::Flush if self.cache.take_loss() => return self.finish(work, Err(Error::Io)),
            Operation::Write { durability: Durability::Volatile, .. }
            | Operation::WriteZeroes { durability: Durability::Volatile, .. }
                if self.write_cache() == WriteCache::Back =>
            {
                self.cache.acknowledged += 1;
            }
            _ => {}
        }
        self.finish(work, Ok(()));
    }

    /// The device refused a piece. If there is another way, the rest of the request goes that way.
    fn do_without(&mut self, now: Instant, mut work: Work) {
        let features = self.features.as_ref();
        let Some(feature) = features.and_then(|features| plan::optional_feature(features, &work)) else {
            return self.fail(now, work, Failure::Unsupported);
        };
        if !self.missing.contains(feature) {
            self.missing.insert(feature);
            self.report(Report::FeatureMissing { feature });
            self.refresh_features();
        }
        let Some(features) = self.features else { return self.fail(now, work, Failure::Unsupported) };
        let operation = if work.step == Step::Synchronize { Operation::Flush } else { work.operation };
        match plan::step(&features, &operation) {
            Ok(Some(step)) => {
                work.step = step;
                self.submit(now, work);
            }
            Ok(None) => self.succeed(work),
            Err(error) => self.finish(work, Err(error)),
        }
    }

    fn fail(&mut self, now: Instant, work: Work, failure: Failure) {
        let is_news =
            self.complained.is_none_or(|(last, at)| last != failure || at + COMPLAINTS_EVERY <= now);
        if is_news {
            self.complained = Some((failure, now));
            self.report(Report::RequestFailed { failure });
        }
        let error = error(failure, &work.operation);
        self.finish(work, Err(error));
    }

    pub(super) fn finish(&mut self, work: Work, completion: Completion) {
        if let Some(extent) = work.claim() {
            self.claims.ended(extent);
        }
        self.finish_unclaimed(work, completion);
    }

    /// Ends a request that has no claim.
    pub(super) fn finish_unclaimed(&mut self, work: Work, completion: Completion) {
        self.requests -= 1;
        debug_assert!(work.issuer != Issuer::Shutdown || self.requests == 0, "the last flush comes last");
        if let Some((request, completion)) = work.into_request(completion) {
            self.actions.push_back(Action::Finish(request, completion));
        }
    }
}

fn give_up(work: &mut Work, failure: Failure) -> Verdict {
    work.said = Said::Failed(failure);
    Verdict::Done
}

/// A failure in the words that every export can express.
const fn error(failure: Failure, operation: &Operation) -> Error {
    match failure {
        Failure::SpaceExhausted => Error::NoSpace,
        Failure::ReservationConflict => Error::ReservationConflict,
        Failure::WriteProtected => Error::ReadOnly,
        Failure::OutOfRange => plan::beyond_the_end(operation),
        Failure::Invalid => Error::Invalid,
        Failure::Unsupported
        | Failure::NotReady
        | Failure::Medium
        | Failure::Hardware
        | Failure::Protection
        | Failure::Miscompare
        | Failure::Residual
        | Failure::Aborted
        | Failure::LogicalUnitGone
        | Failure::Busy
        | Failure::Unintelligible
        | Failure::Transport
        | Failure::UnknownOutcome
        | Failure::Attention => Error::Io,
    }
}
