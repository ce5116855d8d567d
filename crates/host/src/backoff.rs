//! How long to wait before trying a portal again.

use clock::Duration;

/// The first pause: a portal that closed one connection usually takes the next.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause: a controller that comes back after its reboot is used within this time.
const LONGEST: Duration = Duration::from_secs(5);

/// Doubling pauses with jitter, so that the hosts of a rebooted controller do not all come at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    /// State of a small generator; quality does not matter here, difference between portals does.
    jitter: u64,
}

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { failures: 0, jitter: seed | 1 }
    }

    /// The pause before the next try: between one half and the whole of the doubled time.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).as_nanos().min(LONGEST.as_nanos());
        self.failures = self.failures.saturating_add(1);
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        Duration::from_nanos(whole / 2 + self.jitter % (whole / 2))
    }

    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
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
}
