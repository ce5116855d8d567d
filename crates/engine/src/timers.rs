//! When to wake which machine.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::Hash;

use clock::{Duration, Instant};

/// One deadline for each source, found in order.
///
/// A deadline that moves later is not moved here: the source is woken at the earlier time, has nothing to do,
/// and is armed anew. So a session that pushes its keepalive back with every byte costs nothing.
#[derive(Debug)]
pub(crate) struct Timers<S> {
    order: BTreeSet<(Instant, S)>,
    armed: HashMap<S, Instant>,
}

impl<S: Copy + Ord + Hash> Timers<S> {
    pub(crate) fn new() -> Self {
        Self { order: BTreeSet::new(), armed: HashMap::new() }
    }

    /// Wakes `source` at `deadline` or earlier.
    pub(crate) fn arm(&mut self, source: S, deadline: Option<Instant>) {
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
    pub(crate) fn pop(&mut self, now: Instant) -> Option<S> {
        let &(deadline, source) = self.order.first()?;
        if deadline > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&source);
        Some(source)
    }

    /// How long to sleep; none if nothing is armed.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.order.first().map(|(deadline, _)| deadline.since(now))
    }

    pub(crate) fn forget(&mut self, source: S) {
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
        assert_eq!(timers.wait(at(4)), Some(Duration::from_nanos(6)));
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
