//! Whether requests that come one after the other go one way or are shared out: decided by trying both.
//!
//! What goes one way costs fewer system calls and interrupts, here and at the target. What is shared out has more
//! queues, links and target threads to itself. Which of the two is the faster depends on the target, so it is measured:
//! now and then requests go the other way for some milliseconds, and the way on which they took less time is kept.

use clock::{Duration, Instant};

use crate::Class;
use crate::kind::TIMED_CLASSES;

/// How requests of one class go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// On one path for a stretch of time.
    #[default]
    Together,
    /// Each on the path that is best for it.
    Apart,
}

/// The two ways and what came of them, for one class of requests.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Gathering {
    better: Way,
    /// The way that is not the better is being tried.
    is_trial: bool,
    /// Of the measurement that runs.
    since: Instant,
    count: u32,
    /// Nanoseconds.
    total: u64,
    /// What requests took on the better way when it was measured last, in nanoseconds.
    mean: u64,
    /// Trials in a row that the other way won.
    wins: u8,
    /// Measurements until the next trial.
    rest: u32,
    /// What that was last.
    pause: u32,
}

/// A measurement is that long at least, so that what was sent before it has ended in its better part.
const SPAN_MIN: Duration = Duration::from_millis(10);
/// What takes longer has seen too little to say anything.
const SPAN_MAX: Duration = Duration::from_secs(1);
const SAMPLES_MIN: u32 = 256;
/// Of measurements: a trial that was lost is not soon repeated, and costs less than one request in sixty its time.
const PAUSE_FIRST: u32 = 2;
const PAUSE_MAX: u32 = 64;
/// One trial is soon won by chance.
const WINS: u8 = 2;

impl Gathering {
    /// The way that requests go now.
    #[inline]
    pub(crate) const fn way(&self) -> Way {
        match (self.better, self.is_trial) {
            (Way::Together, false) | (Way::Apart, true) => Way::Together,
            (Way::Apart, false) | (Way::Together, true) => Way::Apart,
        }
    }

    /// A request has come back.
    #[inline]
    pub(crate) fn record(&mut self, now: Instant, started: Instant) {
        let age = now.since(self.since);
        if started >= self.since && age < SPAN_MAX {
            self.count += 1;
            self.total = self.total.saturating_add(now.since(started).as_nanos());
        }
        if age >= SPAN_MIN && (self.count >= SAMPLES_MIN || age >= SPAN_MAX) {
            self.conclude(now);
        }
    }

    /// The measurement has ended: what follows from it.
    #[cold]
    fn conclude(&mut self, now: Instant) {
        let mean = (self.count >= SAMPLES_MIN).then(|| self.total / u64::from(self.count));
        (self.since, self.count, self.total) = (now, 0, 0);
        match mean {
            Some(mean) if self.is_trial => self.judge(mean),
            Some(mean) => {
                self.mean = mean;
                self.is_trial = self.rest == 0;
                self.rest = self.rest.saturating_sub(1);
            }
            // Too few for a trial.
            None => self.is_trial = false,
        }
    }

    fn judge(&mut self, mean: u64) {
        self.is_trial = false;
        if !self.is_won(mean) {
            self.wins = 0;
            self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
            self.rest = self.pause;
            return;
        }
        self.wins += 1;
        if self.wins == WINS {
            (self.wins, self.pause, self.rest) = (0, 0, PAUSE_FIRST);
            self.better = match self.better {
                Way::Together => Way::Apart,
                Way::Apart => Way::Together,
            };
        }
    }

    /// What goes together costs less, so it may even take a little longer.
    const fn is_won(&self, mean: u64) -> bool {
        match self.better {
            Way::Together => mean < self.mean - self.mean / 20,
            Way::Apart => mean < self.mean + self.mean / 50,
        }
    }
}

/// One for each class that is timed.
#[derive(Clone, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Gatherings([Gathering; TIMED_CLASSES]);

impl Gatherings {
    /// Requests of no class that is timed go together.
    #[inline]
    pub(crate) fn way(&self, class: Class) -> Way {
        class.place().map_or(Way::Together, |place| self.0[place].way())
    }

    /// See [`Gathering::record`].
    #[inline]
    pub(crate) fn record(&mut self, now: Instant, class: Class, started: Instant) {
        if let Some(place) = class.place() {
            self.0[place].record(now, started);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that come in steady succession and take as long as their way says, in microseconds.
    struct Steady {
        now: Instant,
        gathering: Gathering,
        apart: u64,
    }

    impl Steady {
        fn run(&mut self, requests: u64, every: Duration, took: impl Fn(Way) -> u64) {
            for _ in 0..requests {
                let way = self.gathering.way();
                self.apart += u64::from(way == Way::Apart);
                let started = self.now;
                self.now = self.now + every;
                // It began at its time and ended when it had taken what it takes.
                let ended = started + Duration::from_micros(took(way));
                self.gathering.record(ended, started);
            }
        }
    }

    fn steady() -> Steady {
        Steady { now: Instant::START + Duration::from_secs(9), gathering: Gathering::default(), apart: 0 }
    }

    const OFTEN: Duration = Duration::from_micros(10);

    #[test]
    fn requests_go_apart_where_that_is_faster() {
        let mut steady = steady();
        steady.run(100_000, OFTEN, |way| if way == Way::Apart { 400 } else { 600 });
        assert!(steady.apart > 90_000, "{} of 100,000", steady.apart);
    }

    #[test]
    fn requests_go_together_where_that_takes_as_long() {
        let mut steady = steady();
        steady.run(1_000_000, OFTEN, |_| 500);
        assert!(
            (10_000..25_000).contains(&steady.apart),
            "no more than trials: {} of a million",
            steady.apart
        );
    }

    #[test]
    fn requests_go_together_again_when_that_has_become_as_fast() {
        let mut steady = steady();
        steady.run(100_000, OFTEN, |way| if way == Way::Apart { 400 } else { 600 });
        steady.apart = 0;
        steady.run(1_000_000, OFTEN, |_| 500);
        assert!(steady.apart < 200_000, "{} of a million", steady.apart);
    }

    #[test]
    fn one_trial_that_is_won_decides_nothing() {
        let mut steady = steady();
        while steady.gathering.way() == Way::Together {
            steady.run(1, OFTEN, |_| 500);
        }
        while steady.gathering.way() == Way::Apart {
            steady.run(1, OFTEN, |_| 100);
        }
        steady.apart = 0;
        steady.run(6_000, OFTEN, |_| 500);
        assert!(steady.apart < 2_500, "{} of 6,000", steady.apart);
    }

    #[test]
    fn nothing_is_tried_where_too_few_requests_come_to_tell() {
        let mut steady = steady();
        steady.run(1_000, Duration::from_millis(10), |_| 500);
        assert_eq!(steady.apart, 0);
    }
}
