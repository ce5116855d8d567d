//! Resets of the logical unit that are our own, and the unit attentions that follow them.
//!
//! A reset establishes a unit attention condition for every nexus (SAM, logical unit reset), and devices may report
//! it as 29/00 "power on, reset, or bus device reset occurred" (SPC), as tgt does. That code says as well that a
//! volatile write cache may have been lost, and then the next flush has to fail. So each reset of ours accounts for
//! one such attention on each path, for a short time. That is right because the reset is known to have been sent,
//! because a logical unit reset does not touch what was acknowledged (SBC has no cache lost by it), and because a
//! device that has lost power has more to say: 29/01 or 29/04, which are never accounted for, or one attention
//! more than there were resets. A device that loses power within that time of a reset, and has one 29/00 for both
//! on every path, cannot be told from one that was only reset.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use clock::{Duration, Instant};
use multipath::PathId;
use scsi::{Ending, SenseKey};

use super::Disk;
use super::event::Managed;
use super::path::Standing;
use super::report::Report;
use crate::disposition::FollowUp;

/// How long after a reset was sent its unit attention counts as its own, at the latest. While it is not answered it is
/// asked for again. When it is, each path is asked something, and whoever has nothing to tell then tells of no reset.
const ATTENTION_MAX: Duration = Duration::from_secs(10);

/// The resets that were sent lately. They are numbered from 1 as they were sent.
#[derive(Debug, Default)]
pub(super) struct Resets {
    sent: VecDeque<Reset>,
    /// The number of the last one that no attention is accounted to any more.
    forgotten: u64,
}

#[derive(Debug)]
struct Reset {
    at: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Out,
    Ended,
    /// The device has not done it.
    Refused,
}

impl Resets {
    fn sent(&mut self, now: Instant) {
        self.forget(now);
        self.sent.push_back(Reset { at: now, stage: Stage::Out });
    }

    /// The oldest ones that are out have ended, so many.
    fn ended(&mut self, times: usize) {
        let out = self.sent.iter_mut().filter(|reset| reset.stage == Stage::Out);
        out.take(times).for_each(|reset| reset.stage = Stage::Ended);
    }

    /// The oldest one that is out was refused; its number.
    fn refused(&mut self) -> Option<u64> {
        let place = self.sent.iter().position(|reset| reset.stage == Stage::Out)?;
        self.sent[place].stage = Stage::Refused;
        Some(self.forgotten + place as u64 + 1)
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.pop_front_if(|reset| reset.at + ATTENTION_MAX < now).is_some() {
            self.forgotten += 1;
        }
    }

    /// What a path that joins has told of: whatever nobody accounts for any more.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The number of the last reset before which none is out.
    pub(super) fn settled(&self) -> u64 {
        let settled = self.sent.iter().take_while(|reset| reset.stage != Stage::Out);
        self.forgotten + settled.count() as u64
    }

    /// Accounts an attention to the first reset that has none on its path, whose last one was `last`. False if there
    /// is no such reset.
    fn account(&mut self, now: Instant, last: &mut u64) -> bool {
        self.forget(now);
        let numbered = (self.forgotten + 1..).zip(&self.sent);
        let done = numbered.filter(|(_, reset)| reset.stage != Stage::Refused).map(|(number, _)| number);
        let next = done.into_iter().find(|number| number > last);
        *last = next.unwrap_or(*last);
        next.is_some()
    }
}

impl Disk {
    /// A reset of ours goes out.
    pub(super) fn reset_sent(&mut self, now: Instant) {
        self.resets.sent(now);
    }

    /// A reset of ours was answered, or never will be. It ends our own commands on every other nexus too, and unless
    /// TAS is set nobody says so (SAM, command termination by another I_T nexus).
    pub(super) fn reset_ended(&mut self, now: Instant, outcome: Managed, times: usize) {
        if outcome == Managed::Refused {
            self.reset_refused(now);
            return self.tend(now);
        }
        self.resets.ended(times);
        let paths: Vec<PathId> = self.paths.iter().map(|path| path.id).collect();
        for path in paths {
            self.sweep_when_verified(now, path);
            self.collect_attentions(now, path);
        }
        self.tend(now);
    }

    /// Whoever is idle says what it has to say when it is asked the next time: that should be while it is known what
    /// it is about.
    pub(super) fn collect_attentions(&mut self, now: Instant, id: PathId) {
        let settled = self.resets.settled();
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        if path.last_reset < settled && matches!(path.standing, Standing::Verified | Standing::Suspect(_)) {
            // Not INQUIRY, which no unit attention is reported for.
            path.probe.want(FollowUp::READY, now);
        }
    }

    /// A question was answered that a unit attention would have been reported for: there is none on this path of what
    /// had ended before.
    pub(super) fn has_told_of_resets(&mut self, now: Instant, id: PathId) {
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else { return };
        path.last_reset = path.last_reset.max(path.settles);
        self.collect_attentions(now, id);
    }

    /// A reset of ours was none. An attention that was accounted to it told of something else.
    fn reset_refused(&mut self, now: Instant) {
        let Some(number) = self.resets.refused() else { return };
        let deceived: Vec<PathId> =
            self.paths.iter().filter(|path| path.last_reset == number).map(|path| path.id).collect();
        for path in deceived {
            self.sweep_when_verified(now, path);
            if self.cache.lost(self.write_cache()) {
                self.report(Report::CacheLost { path });
            }
        }
    }

    /// What is left to be done about an ending if it is a unit attention that a reset of ours accounts for: no cache
    /// was lost, and what was in flight is seen to when the reset has ended.
    pub(super) fn without_our_resets(
        &mut self,
        now: Instant,
        path: PathId,
        follow_up: FollowUp,
        ending: &Ending,
    ) -> FollowUp {
        if tells_of_reset(ending)
            && let Some(path) = self.paths.iter_mut().find(|known| known.id == path)
            && self.resets.account(now, &mut path.last_reset)
        {
            return follow_up.without(FollowUp::CACHE_LOST.and(FollowUp::SWEEP));
        }
        follow_up
    }
}

/// 29/00 power on, reset, or bus device reset occurred; 29/02 SCSI bus reset occurred; 29/03 bus device reset function
/// occurred (SPC): what devices say of a logical unit reset.
fn tells_of_reset(ending: &Ending) -> bool {
    let Ending::Reply(reply) = ending else { return false };
    let Some(sense) = reply.sense.as_ref().and_then(|sense| sense.parse()) else { return false };
    sense.key == SenseKey::UnitAttention
        && !sense.deferred
        && sense.additional.asc == 0x29
        && matches!(sense.additional.ascq, 0x00 | 0x02 | 0x03)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    #[test]
    fn each_reset_accounts_for_one_attention_on_each_path() {
        let mut resets = Resets::default();
        resets.sent(at(1));
        resets.sent(at(2));
        let (mut one, mut other) = (0, 0);
        assert!(resets.account(at(3), &mut one) && resets.account(at(3), &mut one));
        assert!(!resets.account(at(3), &mut one), "there were two");
        assert!(resets.account(at(3), &mut other));
    }

    #[test]
    fn one_that_was_refused_accounts_for_none() {
        let mut resets = Resets::default();
        resets.sent(at(1));
        resets.ended(1);
        resets.sent(at(2));
        assert_eq!(resets.refused(), Some(2));
        let mut path = 0;
        assert!(resets.account(at(3), &mut path));
        assert!(!resets.account(at(3), &mut path));
        resets.sent(at(4));
        assert!(resets.account(at(4), &mut path));
        assert_eq!(path, 3);
    }

    #[test]
    fn it_is_settled_when_none_before_it_is_out() {
        let mut resets = Resets::default();
        resets.sent(at(1));
        resets.sent(at(2));
        resets.sent(at(3));
        assert_eq!(resets.settled(), 0);
        resets.ended(2);
        assert_eq!(resets.settled(), 2);
        resets.refused();
        assert_eq!(resets.settled(), 3);
    }

    #[test]
    fn it_accounts_for_none_that_comes_late() {
        let mut resets = Resets::default();
        resets.sent(at(1));
        let mut path = 0;
        assert!(!resets.account(at(12), &mut path));
        resets.sent(at(13));
        assert!(resets.account(at(13), &mut path));
    }
}
