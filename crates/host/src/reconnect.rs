//! When a nexus that was lost is tried again: the sooner, the more depends on it.

use std::collections::BTreeSet;

use multipath::{HeadIndex, PathState};
use scsi_multipath::Disk;

use crate::agenda::Source;
use crate::backoff::{Need, SOON};
use crate::host::Host;
use crate::nexus::Phase;

impl Host {
    /// How long to wait before the next try.
    pub(crate) fn pause(&mut self, index: u32) -> clock::Duration {
        let need = self.need(index);
        self.nexuses[index as usize].backoff.pause(need)
    }

    fn need(&self, index: u32) -> Need {
        let nexus = &self.nexuses[index as usize];
        let mut disks = nexus.paths.values().filter_map(|path| self.paths.get(path)).map(|path| path.disk);
        if nexus.owes() || disks.any(|disk| self.is_stranded(disk)) {
            Need::Awaited
        } else if nexus.paths.is_empty() {
            Need::Unknown
        } else {
            Need::Spared
        }
    }

    /// A disk without any usable path: its requests wait.
    fn is_stranded(&self, disk: u32) -> bool {
        let disk = self.disks.registry.get(HeadIndex(disk)).and_then(|entry| entry.device.disk());
        let is_usable = |disk: &Disk| {
            let mut paths = disk.paths();
            paths.any(|path| matches!(path.status.state, PathState::Usable(_)))
        };
        disk.is_some_and(|disk| !is_usable(disk))
    }

    /// A disk has no path any more, or one only that seems to stall: whatever may lead to it is tried now, however long it
    /// was to wait. Says how many those are.
    pub(crate) fn hasten(&mut self, disk: u32) -> usize {
        let known = self.disks.registry.get(HeadIndex(disk)).and_then(|entry| entry.device.disk());
        let paths =
            known.into_iter().flat_map(Disk::paths).filter_map(|path| self.paths.get(&path.status.id));
        let leading: BTreeSet<u32> = paths.map(|path| path.nexus).collect();
        let mut hastened = 0;
        for index in 0..u32::try_from(self.nexuses.len()).expect("bounded by NEXUSES_MAX") {
            let nexus = &mut self.nexuses[index as usize];
            let Phase::Waiting { until } = nexus.phase else { continue };
            // What is behind a nexus that was never surveyed is not known.
            let may_lead_there = nexus.paths.is_empty() || leading.contains(&index);
            if !may_lead_there || until <= self.now + SOON {
                continue;
            }
            let pause = nexus.backoff.hastened_pause();
            let until = nexus.not_earlier(self.now + pause).min(until);
            nexus.phase = Phase::Waiting { until };
            self.timers.arm(Source::Nexus(index), Some(until));
            hastened += 1;
        }
        hastened
    }
}
