//! Whose turn it is to change a target port group: one logical unit of a target at a time, because a change may move
//! more than the one, and because arrays take seconds for each.

use std::collections::{BTreeMap, VecDeque};

use clock::{Duration, Instant};
use scsi_multipath::TargetId;

/// A change that is not answered by then does not keep the others waiting any longer: as long as a command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The queue of each target.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    targets: BTreeMap<TargetId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<u32>,
    /// The disk that changes a group now, and since when.
    busy: Option<(u32, Instant)>,
}

impl Activations {
    /// A disk wants to change a group of a target; it says so once, until it was its turn.
    pub(crate) fn want(&mut self, target: TargetId, disk: u32) {
        let queue = self.targets.entry(target).or_default();
        if !queue.waiting.contains(&disk) {
            queue.waiting.push_back(disk);
        }
    }

    pub(crate) fn ended(&mut self, target: TargetId, disk: u32) {
        if let Some(queue) = self.targets.get_mut(&target) {
            queue.busy.take_if(|(busy, _)| *busy == disk);
        }
    }

    /// The disk is gone.
    pub(crate) fn forget(&mut self, disk: u32) {
        for queue in self.targets.values_mut() {
            queue.waiting.retain(|waiting| *waiting != disk);
            queue.busy.take_if(|(busy, _)| *busy == disk);
        }
    }

    /// A disk whose turn it is.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(TargetId, u32)> {
        self.targets.iter_mut().find_map(|(target, queue)| {
            if queue.busy.is_some_and(|(_, since)| now < since + PATIENCE) {
                return None;
            }
            let disk = queue.waiting.pop_front()?;
            queue.busy = Some((disk, now));
            Some((*target, disk))
        })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let queues = self.targets.values().filter(|queue| !queue.waiting.is_empty());
        queues.filter_map(|queue| queue.busy).map(|(_, since)| since + PATIENCE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TargetId = TargetId(1);
    const OTHER: TargetId = TargetId(2);

    #[test]
    fn one_disk_of_a_target_has_its_turn_at_a_time_and_each_only_once() {
        let mut activations = Activations::default();
        let now = Instant::START;
        for (target, disk) in [(ONE, 5), (ONE, 6), (OTHER, 7), (ONE, 5)] {
            activations.want(target, disk);
        }
        assert_eq!((activations.next(now), activations.next(now)), (Some((ONE, 5)), Some((OTHER, 7))));
        assert_eq!(activations.next(now), None);
        activations.ended(ONE, 5);
        assert_eq!(activations.next(now), Some((ONE, 6)));
        activations.ended(ONE, 6);
        assert_eq!(activations.next(now), None);
    }

    #[test]
    fn a_turn_that_does_not_end_is_over_after_thirty_seconds_or_with_its_disk() {
        let mut activations = Activations::default();
        let now = Instant::START;
        for disk in 1..=3 {
            activations.want(ONE, disk);
        }
        assert_eq!(activations.next(now), Some((ONE, 1)));
        assert_eq!(activations.poll_timeout(), Some(now + PATIENCE));
        assert_eq!(activations.next(now + PATIENCE), Some((ONE, 2)));
        activations.ended(ONE, 1);
        assert_eq!(activations.next(now + PATIENCE), None, "the late end of another's turn is not its own");
        activations.forget(2);
        assert_eq!(activations.next(now + PATIENCE), Some((ONE, 3)));
    }
}
