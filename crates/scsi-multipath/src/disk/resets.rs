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

/// How long after a reset was sent its unit attention counts as its own. While it is not answered it is asked for
/// again, and paths that are idle are asked something when it is.
const ATTENTION_MAX: Duration = Duration::from_secs(10);

/// The resets that were sent lately. They are numbered from 1 as they were sent.
#[derive(Debug, Default)]
pub(super) struct Resets {
    /// None for one that was refused.
    sent: VecDeque<Option<Instant>>,
    /// The number of the last one that no attention is accounted to any more.
    forgotten: u64,
}

impl Resets {
    fn sent(&mut self, now: Instant) {
        self.forget(now);
        self.sent.push_back(Some(now));
    }

    fn forget(&mut self, now: Instant) {
        let is_over = |sent: &mut Option<Instant>| sent.is_none_or(|sent| sent + ATTENTION_MAX < now);
        while self.sent.pop_front_if(is_over).is_some() {
            self.forgotten += 1;
        }
    }

    /// The device has not done what it was asked for last. The number of that, if it was of late.
    fn refused(&mut self) -> Option<u64> {
        let place = self.sent.iter().rposition(Option::is_some)?;
        self.sent[place] = None;
        Some(self.forgotten + place as u64 + 1)
    }

    /// Accounts an attention to the first reset that has none on its path, whose last one was `last`. False if there
    /// is no such reset.
    fn account(&mut self, now: Instant, last: &mut u64) -> bool {
        self.forget(now);
        let numbered = (self.forgotten + 1..).zip(&self.sent);
        let next = numbered.filter(|(_, sent)| sent.is_some()).map(|(number, _)| number).find(|it| it > last);
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
    /// TAS is set nobody says so (SAM, command termination by another I_T nexus). And whoever is idle says what it has
    /// to say when it is asked the next time: that should be while it is known what it is about.
    pub(super) fn reset_ended(&mut self, now: Instant, outcome: Managed) {
        if outcome == Managed::Refused {
            self.reset_refused(now);
            return self.tend(now);
        }
        for position in 0..self.paths.len() {
            self.sweep_when_verified(now, self.paths[position].id);
            let path = &mut self.paths[position];
            // Not INQUIRY, which no unit attention is reported for.
            let what = if path.unit.reports_access { FollowUp::ACCESS } else { FollowUp::MODES };
            if path.standing == Standing::Verified {
                path.probe.want(what, now);
            }
        }
        self.tend(now);
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
    fn it_accounts_for_none_that_comes_late() {
        let mut resets = Resets::default();
        resets.sent(at(1));
        let mut path = 0;
        assert!(!resets.account(at(12), &mut path));
        resets.sent(at(13));
        assert!(resets.account(at(13), &mut path));
    }
}
