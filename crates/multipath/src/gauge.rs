//! How long requests take on a path.

use alloc::boxed::Box;

use clock::{Duration, Instant};

use crate::Class;
use crate::kind::TIMED_CLASSES;

/// Times of one path, for each class of requests that can be compared.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Gauge {
    meters: [Meter; TIMED_CLASSES],
    /// Only while reads are hedged.
    tails: Option<Box<[Tail; READ_CLASSES]>>,
}

/// What was seen of one class.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
struct Meter {
    /// Moving average of times, in nanoseconds.
    mean: u64,
    /// Moving average of how many requests were on the path when one was started, in units of [`ONE`].
    depth: u64,
    /// The share of the time that one request on the path accounts for, in nanoseconds.
    turn: u64,
    samples: u32,
    /// Of the last one.
    at: Instant,
}

/// Times of the last thousand reads or so, in buckets that grow by a quarter of an octave.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
struct Tail {
    counts: [u16; BUCKETS],
    total: u32,
}

const READ_CLASSES: usize = 2;
/// From 1 µs (2^10 ns) to 137 s (2^37 ns), four for each octave.
const BUCKETS: usize = 108;
const FIRST_OCTAVE: u32 = 10;
/// Then all counts are halved, so that the past is forgotten.
const TAIL_SAMPLES_MAX: u32 = 2_048;
/// Fewer times than this say nothing of one in a hundred.
const TAIL_SAMPLES_MIN: u32 = 64;
/// The first samples count for more: an average has to come from somewhere.
const WARM_UP: u32 = 8;
const WARM_UP_SHIFT: u32 = 2;
const SHIFT: u32 = 5;
/// One request, as depths are averaged: much more than one when shifted, or averages would stand still.
const ONE: u64 = 1_024;
/// A time that was not measured again for so long is half forgotten: what it kept away may try again. A measure that
/// is older is not compared with.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

impl Gauge {
    /// A request that was started when `depth` others were on the path has come back.
    #[inline]
    pub(crate) fn record(&mut self, now: Instant, class: Class, took: Duration, depth: u32) {
        let Some(place) = class.place() else { return };
        self.meters[place].record(now, took, depth);
        if class.is_read()
            && let Some(tails) = &mut self.tails
        {
            tails[place].record(took);
        }
    }

    /// Nanoseconds that a request has to count with for each one on the path, itself included; none if nothing is known.
    #[inline]
    pub(crate) fn turn(&self, now: Instant, class: Class) -> Option<u64> {
        let meter = &self.meters[class.place().unwrap_or_default()];
        if meter.samples == 0 {
            return None;
        }
        let age = now.since(meter.at);
        if age < FRESH {
            return Some(meter.turn.max(1));
        }
        let halvings = (age.as_nanos() / FRESH.as_nanos()).min(u64::from(u64::BITS - 1));
        Some((meter.turn >> halvings).max(1))
    }

    /// The average of what requests took.
    pub(crate) fn mean(&self, class: Class) -> Option<Duration> {
        let meter = &self.meters[class.place()?];
        (meter.samples > 0).then_some(Duration::from_nanos(meter.mean))
    }

    /// The average, if it is of now and of enough samples.
    pub(crate) fn fresh_mean(&self, now: Instant, class: Class, samples_min: u32) -> Option<Duration> {
        let meter = &self.meters[class.place()?];
        let is_fresh = now.since(meter.at) < FRESH && meter.samples >= samples_min;
        is_fresh.then_some(Duration::from_nanos(meter.mean))
    }

    /// The same, if it is of a time after `since`.
    pub(crate) fn mean_since(
        &self,
        since: Instant,
        now: Instant,
        class: Class,
        samples_min: u32,
    ) -> Option<Duration> {
        let meter = &self.meters[class.place()?];
        self.fresh_mean(now, class, samples_min).filter(|_| meter.at >= since)
    }

    /// Whether anything was measured lately.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.meters.iter().any(|meter| meter.samples > 0 && now.since(meter.at) < FRESH)
    }

    /// Requests on the path, on average, when one was started; in 1/16.
    pub(crate) fn depth(&self, class: Class) -> u64 {
        class.place().map_or(0, |place| self.meters[place].depth * 16 / ONE)
    }

    /// What was measured is of a time that is over.
    pub(crate) fn forget(&mut self) {
        self.meters = [Meter::default(); TIMED_CLASSES];
        if let Some(tails) = &mut self.tails {
            **tails = [Tail::NONE; READ_CLASSES];
        }
    }

    /// From now on, or not any more, it is kept how reads are spread.
    pub(crate) fn keep_tails(&mut self, keep: bool) {
        match (&self.tails, keep) {
            (None, true) => self.tails = Some(Box::new([Tail::NONE; READ_CLASSES])),
            (Some(_), false) => self.tails = None,
            (Some(_), true) | (None, false) => {}
        }
    }

    /// The time within which so many of a thousand reads end; none if too little is known.
    pub(crate) fn quantile(&self, class: Class, per_mille: u32) -> Option<Duration> {
        let place = class.place().filter(|_| class.is_read())?;
        self.tails.as_ref()?[place].quantile(per_mille)
    }
}

impl Meter {
    #[inline]
    fn record(&mut self, now: Instant, took: Duration, depth: u32) {
        let (took, depth) = (took.as_nanos(), u64::from(depth) * ONE);
        if self.samples == 0 || now.since(self.at) >= FRESH {
            (self.mean, self.depth) = (took, depth);
        } else {
            let shift = if self.samples < WARM_UP { WARM_UP_SHIFT } else { SHIFT };
            self.mean = self.mean - (self.mean >> shift) + (took >> shift);
            self.depth = self.depth - (self.depth >> shift) + (depth >> shift);
        }
        self.turn = self.mean.saturating_mul(ONE) / (self.depth + ONE);
        self.samples = self.samples.saturating_add(1);
        self.at = now;
    }
}

impl Tail {
    const NONE: Self = Self { counts: [0; BUCKETS], total: 0 };

    fn record(&mut self, took: Duration) {
        if self.total >= TAIL_SAMPLES_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
        // At most TAIL_SAMPLES_MAX of them, so that a count never overflows.
        self.counts[bucket(took)] += 1;
        self.total += 1;
    }

    fn quantile(&self, per_mille: u32) -> Option<Duration> {
        if self.total < TAIL_SAMPLES_MIN {
            return None;
        }
        let rank = (u64::from(self.total) * u64::from(per_mille)).div_ceil(1_000);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(end_of(bucket))
    }
}

fn bucket(took: Duration) -> usize {
    let nanos = took.as_nanos().max(1 << FIRST_OCTAVE);
    let octave = nanos.ilog2();
    let quarter = (nanos >> (octave - 2)) & 3;
    let bucket = u64::from(octave - FIRST_OCTAVE) * 4 + quarter;
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The time that no time in the bucket exceeds.
fn end_of(bucket: usize) -> Duration {
    let octave = FIRST_OCTAVE as usize + bucket / 4;
    let quarter = bucket as u64 % 4;
    Duration::from_nanos((5 + quarter) << (octave - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::START + Duration::from_millis(millis)
    }

    #[test]
    fn a_path_counts_the_longer_the_more_it_is_measured_to_take() {
        let mut gauge = Gauge::default();
        for step in 0..100 {
            gauge.record(at(step), Class::SmallRead, Duration::from_millis(8), 3);
        }
        let mean = gauge.mean(Class::SmallRead).expect("there are samples").as_micros();
        assert!((7_900..=8_000).contains(&mean), "{mean} us");
        let turn = gauge.turn(at(100), Class::SmallRead).expect("there are samples") / 1_000;
        assert!((1_900..=2_100).contains(&turn), "a quarter, with four on the path: {turn} us");
        assert_eq!(gauge.turn(at(100), Class::LargeRead), None, "other classes are other times");
    }

    #[test]
    fn the_depth_follows_what_it_is_by_now() {
        let mut gauge = Gauge::default();
        for depth in [0, 3] {
            for step in 0..200 {
                gauge.record(at(step), Class::SmallRead, Duration::from_millis(1), depth);
            }
        }
        assert!((45..=48).contains(&gauge.depth(Class::SmallRead)), "in 1/16");
    }

    #[test]
    fn a_measure_that_is_not_repeated_is_forgotten_by_halves_and_replaced_whole() {
        let mut gauge = Gauge::default();
        gauge.record(at(0), Class::SmallRead, Duration::from_millis(8), 0);
        assert_eq!(gauge.turn(at(999), Class::SmallRead), Some(8_000_000));
        assert_eq!(gauge.turn(at(2_000), Class::SmallRead), Some(2_000_000));
        assert_eq!(gauge.turn(at(900_000), Class::SmallRead), Some(1));
        gauge.record(at(2_000), Class::SmallRead, Duration::from_millis(3), 0);
        assert_eq!(gauge.turn(at(2_000), Class::SmallRead), Some(3_000_000));
    }

    #[test]
    fn quantiles_are_those_of_the_last_reads() {
        let mut gauge = Gauge::default();
        gauge.keep_tails(true);
        for step in 0..1_000 {
            let took = if step % 100 == 0 { 40_000 } else { 1_000 };
            gauge.record(at(step), Class::SmallRead, Duration::from_micros(took), 0);
        }
        let quantile = |gauge: &Gauge, of| gauge.quantile(Class::SmallRead, of).map(Duration::as_micros);
        assert!((1_000..1_300).contains(&quantile(&gauge, 980).expect("enough samples")));
        assert!((40_000..52_000).contains(&quantile(&gauge, 999).expect("enough samples")));
        for step in 0..20_000 {
            gauge.record(at(step), Class::SmallRead, Duration::from_micros(100), 0);
        }
        assert!(
            (100..130).contains(&quantile(&gauge, 999).expect("enough samples")),
            "the past is forgotten"
        );
        assert_eq!(gauge.quantile(Class::LargeRead, 980), None, "nothing is known of these");
    }

    #[test]
    fn every_time_lies_in_its_bucket() {
        for nanos in [0, 1, 1_023, 1_024, 1_279, 1_280, 5_000_000, u64::MAX / 2, u64::MAX] {
            let bucket = bucket(Duration::from_nanos(nanos));
            assert!(bucket < BUCKETS);
            if bucket + 1 < BUCKETS {
                assert!(Duration::from_nanos(nanos) < end_of(bucket), "{nanos}");
            }
        }
    }
}
