//! How long to wait before trying a portal again.

use clock::Duration;

/// The first pause: a portal that closed one connection usually takes the next.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: a controller that comes back after its reboot is used within this time.
const LONGEST: Duration = Duration::from_secs(5);
/// The longest pause while requests wait for it: a connection request a second is no burden to any network.
const AWAITED_LONGEST: Duration = Duration::from_secs(1);
/// A nexus that is to be tried by then anyway is not hastened. One that was only just lost is left alone so.
pub(crate) const SOON: Duration = FIRST;
/// Within this time a hastened nexus is tried: little to wait for, and enough that hosts do not all come at once.
const HASTENED: Duration = Duration::from_millis(20);
/// A nexus that carried commands for so long has not flapped when it is lost: far longer than a survey and the first
/// commands take.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause of one that flaps. Each time that it comes and goes costs its disks a failover, and perhaps a
/// fence; nobody notices that it is away half a minute longer, as long as another one serves.
const FLAPPING_LONGEST: Duration = Duration::from_secs(30);

/// Who would miss a nexus that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nobody: every disk behind it has another path.
    Spared,
    /// It was never surveyed: nobody knows what is behind it.
    Unknown,
    /// Requests wait, or will: a disk behind it has no path, or writes that it may still do are to be fenced.
    Awaited,
}

/// Doubling pauses with jitter, so that the hosts of a rebooted controller do not all come at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    /// Times in a row that it was lost soon after it had come up.
    flaps: u32,
    /// State of a small generator; quality does not matter here, difference between portals does.
    jitter: u64,
}

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { failures: 0, flaps: 0, jitter: seed | 1 }
    }

    /// The pause before the next try: between one half and the whole of the doubled time. One that nobody misses waits
    /// longer the more often it has flapped.
    pub(crate) fn pause(&mut self, need: Need) -> Duration {
        match need {
            Need::Spared if self.flaps > 0 => self.pause_of(self.flaps, FLAPPING_LONGEST),
            Need::Spared | Need::Unknown => self.pause_of(0, LONGEST),
            Need::Awaited => self.pause_of(0, AWAITED_LONGEST),
        }
    }

    /// The pause of one that somebody has begun to wait for. What has failed before does not count any more.
    pub(crate) fn hastened_pause(&mut self) -> Duration {
        self.failures = 0;
        Duration::from_nanos(self.draw() % HASTENED.as_nanos())
    }

    fn pause_of(&mut self, doublings: u32, longest: Duration) -> Duration {
        let doublings = self.failures.saturating_add(doublings).min(10);
        let whole = FIRST.saturating_mul(1 << doublings).min(longest).as_nanos();
        self.failures = self.failures.saturating_add(1);
        Duration::from_nanos(whole / 2 + self.draw() % (whole / 2))
    }

    const fn draw(&mut self) -> u64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        self.jitter
    }

    /// It carries commands.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// It was lost after it had carried commands for so long.
    pub(crate) fn lost_after(&mut self, time: Duration) {
        self.flaps = if time < STEADY { self.flaps.saturating_add(1) } else { 0 };
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_pause(backoff: &mut Backoff, need: Need, whole: Duration) {
        let pause = backoff.pause(need);
        assert!(pause <= whole && pause.saturating_mul(2) >= whole, "{pause:?} of {whole:?}");
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(7);
        for failures in 0..20 {
            assert_pause(
                &mut backoff,
                Need::Unknown,
                FIRST.saturating_mul(1 << failures.min(6)).min(LONGEST),
            );
        }
        backoff.reset();
        assert!(backoff.pause(Need::Unknown) <= FIRST);
    }

    #[test]
    fn a_nexus_that_flaps_waits_longer_each_time_and_one_that_was_steady_does_not() {
        let mut backoff = Backoff::new(7);
        for flaps in 1..20 {
            backoff.lost_after(Duration::from_secs(9));
            let whole = FIRST.saturating_mul(1 << flaps.min(10)).min(FLAPPING_LONGEST);
            assert_pause(&mut backoff, Need::Spared, whole);
            backoff.reset();
        }
        backoff.lost_after(STEADY);
        assert!(backoff.pause(Need::Spared) <= FIRST);
    }

    #[test]
    fn one_that_requests_wait_for_is_tried_each_second_however_often_it_flapped_and_failed() {
        let mut backoff = Backoff::new(7);
        for _ in 0..20 {
            backoff.lost_after(Duration::from_secs(9));
            backoff.pause(Need::Spared);
        }
        assert_pause(&mut backoff, Need::Awaited, AWAITED_LONGEST);
        assert!(backoff.hastened_pause() <= HASTENED);
        assert_pause(&mut backoff, Need::Awaited, FIRST);
    }
}
