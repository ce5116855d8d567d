//! When to wake which machine.

use std::collections::{BTreeMap, BTreeSet};

use clock::Instant;

/// One deadline for each source, found in order.
///
/// A deadline that moves later is not moved here: the source is woken at the earlier time, has nothing to do,
/// and is armed anew. So a session that pushes its keepalive back with every byte costs nothing.
#[derive(Debug)]
pub struct Timers<S> {
    order: BTreeSet<(Instant, S)>,
    armed: BTreeMap<S, Instant>,
}

impl<S: Copy + Ord> Default for Timers<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Copy + Ord> Timers<S> {
    #[must_use]
    pub const fn new() -> Self {
        Self { order: BTreeSet::new(), armed: BTreeMap::new() }
    }

    /// Wakes `source` at `deadline` or earlier.
    pub fn arm(&mut self, source: S, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        match self.armed.get(&source) {
            Some(armed) if *armed <= deadline => return,
            Some(armed) => {
                self.order.remove(&(*armed, source));
            }
            None => {}
        }
        self.armed.insert(source, deadline);
        self.order.insert((deadline, source));
    }

    /// The next source whose time has come.
    pub fn pop(&mut self, now: Instant) -> Option<S> {
        let &(deadline, source) = self.order.first()?;
        if deadline > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&source);
        Some(source)
    }

    /// When the first source is due; none if nothing is armed.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// Does not wake `source` any more.
    pub fn forget(&mut self, source: S) {
        if let Some(deadline) = self.armed.remove(&source) {
            self.order.remove(&(deadline, source));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_and_not_the_other_way_round() {
        let mut timers = Timers::new();
        timers.arm('a', Some(at(20)));
        timers.arm('a', Some(at(10)));
        timers.arm('a', Some(at(30)));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!((timers.pop(at(9)), timers.pop(at(10)), timers.pop(at(50))), (None, Some('a'), None));
    }

    #[test]
    fn a_forgotten_source_is_not_woken() {
        let mut timers = Timers::new();
        timers.arm('a', Some(at(1)));
        timers.arm('b', Some(at(2)));
        timers.forget('a');
        assert_eq!((timers.pop(at(9)), timers.pop(at(9))), (Some('b'), None));
    }
}
