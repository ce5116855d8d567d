//! Many seeds, on as many cores as wanted. What is told does not depend on how many.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use simulator::Outcome;

/// Outcomes that wait for one of a smaller seed, for each job: enough that no job waits for a slow run of another,
/// few enough to cost no memory.
const AHEAD_MAX: usize = 64;

/// Which seeds, and how.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    pub(crate) seeds: Range<u64>,
    pub(crate) jobs: NonZeroUsize,
    /// No seed is begun after so long.
    pub(crate) limit: Option<Duration>,
}

impl Campaign {
    /// Runs every seed, and hands the outcomes over in the order of the seeds.
    #[expect(clippy::disallowed_methods, reason = "how fast the simulator is, is measured with a real clock")]
    pub(crate) fn run(
        &self,
        run: impl Fn(u64) -> Outcome + Sync,
        mut each: impl FnMut(u64, Outcome),
    ) -> Duration {
        let started = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let (sender, receiver) = sync_channel(AHEAD_MAX * self.jobs.get());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.get() {
                let (sender, next, run) = (sender.clone(), &next, &run);
                scope.spawn(move || self.work(started, next, &sender, run));
            }
            drop(sender);
            in_order(self.seeds.start, &receiver, &mut each);
        });
        started.elapsed()
    }

    fn work(
        &self,
        started: Instant,
        next: &AtomicU64,
        sender: &SyncSender<(u64, Outcome)>,
        run: &impl Fn(u64) -> Outcome,
    ) {
        while self.limit.is_none_or(|limit| started.elapsed() < limit) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end || sender.send((seed, run(seed))).is_err() {
                return;
            }
        }
    }
}

/// Every seed that was taken is finished, so that there are no gaps in the end.
fn in_order(first: u64, receiver: &Receiver<(u64, Outcome)>, each: &mut impl FnMut(u64, Outcome)) {
    let mut due = first;
    let mut early = BTreeMap::new();
    for (seed, outcome) in receiver {
        early.insert(seed, outcome);
        while let Some(outcome) = early.remove(&due) {
            each(due, outcome);
            due += 1;
        }
    }
}
