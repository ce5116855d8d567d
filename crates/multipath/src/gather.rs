//! Whether requests that come one after the other go one way or are shared out: decided by trying both.
//!
//! What goes one way costs fewer system calls and interrupts, here and at the target. What is shared out has more
//! queues, links and target threads to itself. Which of the two is the faster depends on the target, so it is measured:
//! now and then requests go the other way for some milliseconds, and the way on which more of them come back is kept. (How
//! long they take does not tell: what is served more slowly here waits with its issuer, where nobody times it.)

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
    /// Of the measurement that runs: requests that have come back since.
    since: Instant,
    count: u32,
    /// Requests a second on the better way when it was measured last.
    rate: u64,
    /// Trials in a row that the other way won.
    wins: u8,
    /// Measurements until the next trial.
    rest: u32,
    /// What that was last.
    pause: u32,
}

/// A measurement is that long at least, so that what was sent before it is the smaller part of it.
const SPAN_MIN: Duration = Duration::from_millis(20);
/// What takes longer has seen too little to say anything.
const SPAN_MAX: Duration = Duration::from_secs(1);
const SAMPLES_MIN: u32 = 256;
/// Of measurements: a trial that was lost is not soon repeated, and costs less than one request in sixty its time.
const PAUSE_FIRST: u32 = 2;
const PAUSE_MAX: u32 = 64;
/// One trial is soon won by chance.
const WINS: u8 = 3;

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
    pub(crate) fn record(&mut self, now: Instant) {
        self.count += 1;
        let age = now.since(self.since);
        if age >= SPAN_MIN && (self.count >= SAMPLES_MIN || age >= SPAN_MAX) {
            self.conclude(now, age);
        }
    }

    /// The measurement has ended: what follows from it.
    #[cold]
    fn conclude(&mut self, now: Instant, age: Duration) {
        let is_told = self.count >= SAMPLES_MIN && age < SPAN_MAX;
        let rate = u64::from(self.count) * 1_000_000_000 / age.as_nanos();
        (self.since, self.count) = (now, 0);
        if !is_told {
            // Too few for a trial.
            self.is_trial = false;
        } else if self.is_trial {
            self.judge(rate);
        } else {
            self.rate = rate;
            self.is_trial = self.rest == 0;
            self.rest = self.rest.saturating_sub(1);
        }
    }

    fn judge(&mut self, rate: u64) {
        self.is_trial = false;
        if !self.is_won(rate) {
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

    /// What goes together costs less, so it may even be a little slower.
    const fn is_won(&self, rate: u64) -> bool {
        match self.better {
            Way::Together => rate > self.rate + self.rate / 20,
            Way::Apart => rate > self.rate - self.rate / 50,
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
    pub(crate) fn record(&mut self, now: Instant, class: Class) {
        if let Some(place) = class.place() {
            self.0[place].record(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that come back one after the other, at a pace that depends on their way, in microseconds.
    struct Steady {
        now: Instant,
        gathering: Gathering,
        apart: u64,
    }

    impl Steady {
        fn run(&mut self, requests: u64, pace: impl Fn(Way) -> u64) {
            for _ in 0..requests {
                let way = self.gathering.way();
                self.apart += u64::from(way == Way::Apart);
                self.now = self.now + Duration::from_micros(pace(way));
                self.gathering.record(self.now);
            }
        }
    }

    fn steady() -> Steady {
        Steady { now: Instant::START + Duration::from_secs(9), gathering: Gathering::default(), apart: 0 }
    }

    #[test]
    fn requests_go_apart_where_that_is_faster() {
        let mut steady = steady();
        steady.run(100_000, |way| if way == Way::Apart { 10 } else { 12 });
        assert!(steady.apart > 85_000, "{} of 100,000", steady.apart);
    }

    #[test]
    fn requests_go_together_where_that_is_as_fast() {
        let mut steady = steady();
        steady.run(1_000_000, |_| 10);
        assert!(
            (10_000..50_000).contains(&steady.apart),
            "no more than trials: {} of a million",
            steady.apart
        );
    }

    #[test]
    fn requests_go_together_again_when_that_has_become_as_fast() {
        let mut steady = steady();
        steady.run(100_000, |way| if way == Way::Apart { 10 } else { 12 });
        steady.apart = 0;
        steady.run(1_000_000, |_| 10);
        assert!(steady.apart < 300_000, "{} of a million", steady.apart);
    }

    #[test]
    fn one_trial_that_is_won_decides_nothing() {
        let mut steady = steady();
        while steady.gathering.way() == Way::Together {
            steady.run(1, |_| 10);
        }
        while steady.gathering.way() == Way::Apart {
            steady.run(1, |_| 5);
        }
        steady.apart = 0;
        steady.run(12_000, |_| 10);
        assert!(steady.apart < 5_000, "{} of 12,000", steady.apart);
    }

    #[test]
    fn nothing_is_tried_where_too_few_requests_come_to_tell() {
        let mut steady = steady();
        steady.run(1_000, |_| 10_000);
        assert_eq!(steady.apart, 0);
    }
}
