//! Chance that a seed decides.

use std::ops::RangeInclusive;

/// SplitMix64: small, fast, and every seed gives another sequence.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for one part of the simulation, so that one part does not disturb another.
    pub(crate) fn fork(&mut self, label: u64) -> Self {
        Self(self.next() ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The remainder's bias is far below what any rate here means.
        self.next() % bound
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// The same for counts that become indices.
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("it is below a usize")
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Between `low` and `high`, with every order of magnitude equally likely.
    pub(crate) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low.max(1)).max(1).ilog2();
        let scale = low << self.below(u64::from(doublings) + 1);
        (scale + self.below(scale.max(1))).min(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_stays_within_its_bounds_and_meets_every_magnitude() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| random.spread(10, 10_000)).collect();
        assert!(drawn.iter().all(|value| (10..=10_000).contains(value)));
        assert!(drawn.iter().any(|value| *value < 40) && drawn.iter().any(|value| *value > 3000));
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let (mut one, mut other) = (Random::new(7), Random::new(7));
        let mut fork = one.fork(1);
        other.next();
        assert_eq!(one.next(), other.next());
        assert_ne!(fork.next(), other.next());
    }
}
