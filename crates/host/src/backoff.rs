//! How long to wait before trying a portal again.

use clock::Duration;

/// The first pause: a portal that closed one connection usually takes the next.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: a controller that comes back after its reboot is used within this time.
pub(crate) const LONGEST: Duration = Duration::from_secs(5);
/// A nexus that carried commands for so long has not flapped when it is lost: far longer than a survey and the first
/// commands take.
const STEADY: Duration = Duration::from_secs(10);
/// The longest pause of one that flaps. Each time that it comes and goes costs its disks a failover, and perhaps a
/// fence; nobody notices that it is away half a minute longer, as long as another one serves.
const FLAPPING_LONGEST: Duration = Duration::from_secs(30);

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

    /// The pause before the next try: between one half and the whole of the doubled time.
    pub(crate) fn pause(&mut self) -> Duration {
        self.pause_of(0, LONGEST)
    }

    /// The same, longer the more often it has flapped.
    pub(crate) fn damped_pause(&mut self) -> Duration {
        let longest = if self.flaps == 0 { LONGEST } else { FLAPPING_LONGEST };
        self.pause_of(self.flaps, longest)
    }

    fn pause_of(&mut self, doublings: u32, longest: Duration) -> Duration {
        let doublings = self.failures.saturating_add(doublings).min(10);
        let whole = FIRST.saturating_mul(1 << doublings).min(longest).as_nanos();
        self.failures = self.failures.saturating_add(1);
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        Duration::from_nanos(whole / 2 + self.jitter % (whole / 2))
    }

    /// It carries commands.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// It was lost after it had carried commands for so long.
    pub(crate) fn lost_after(&mut self, time: Duration) {
        self.flaps = if time < STEADY { self.flaps.saturating_add(1) } else { 0 };
    }

    pub(crate) const fn flaps(&self) -> u32 {
        self.flaps
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(7);
        for failures in 0..20 {
            let whole = FIRST.saturating_mul(1 << failures.min(6)).as_nanos().min(LONGEST.as_nanos());
            let pause = backoff.pause().as_nanos();
            assert!((whole / 2..=whole).contains(&pause), "{failures}: {pause}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }

    #[test]
    fn a_nexus_that_flaps_waits_longer_each_time_and_one_that_was_steady_does_not() {
        let mut backoff = Backoff::new(7);
        for flaps in 1..20 {
            backoff.lost_after(Duration::from_secs(9));
            let whole = FIRST.saturating_mul(1 << flaps.min(10)).min(FLAPPING_LONGEST).as_nanos();
            let pause = backoff.damped_pause().as_nanos();
            assert!((whole / 2..=whole).contains(&pause), "{flaps}: {pause}");
            backoff.reset();
        }
        backoff.lost_after(STEADY);
        assert!(backoff.damped_pause() <= FIRST);
    }
}
