//! What the pings of sessions (NOP-Out and NOP-In) say of paths that carry nothing else.
//!
//! A session is pinged after it was silent, so that a path is measured by pings or by commands. Disks hear of a ping only
//! when it took far longer than another one of theirs, or than commands may: nearly none does.

use std::collections::BTreeMap;

use clock::{Duration, Instant};
use scsi_multipath::Event;

use crate::disks::Standing;
use crate::host::Host;
use crate::nexus::Nexus;

/// Pings of a silent session that may be missed before the last one says nothing any more.
const PINGS_MISSED: u64 = 2;

impl Host {
    /// The target has answered a ping on the session of a nexus.
    pub(crate) fn pinged(&mut self, index: u32, took: Duration) {
        let now = self.now;
        let Some(link) = self.nexuses[index as usize].link_mut() else { return };
        link.ping = Some((now, took));
        // Whatever the others took: most pings of most hosts end here.
        if !multipath::is_behind(took, Duration::ZERO) {
            return;
        }
        let fastest = self.fastest_pings(index);
        let paths: Vec<_> = self.nexuses[index as usize].paths.values().copied().collect();
        for path in paths {
            let Some(disk) = self.disk_of_member(path) else { continue };
            let peers = fastest.get(&disk).copied();
            if peers.is_none_or(|peers| multipath::is_behind(took, peers)) {
                self.tell_disk(disk, Event::Pinged { path, took, peers });
            }
        }
    }

    /// For each disk, what the fastest ping of late took of those that lead to it besides this one.
    fn fastest_pings(&self, index: u32) -> BTreeMap<u32, Duration> {
        let period = self.options.initiator.nop_interval + self.options.initiator.nop_timeout;
        let is_of_late = |at: Instant| at + period.saturating_mul(PINGS_MISSED) >= self.now;
        let mut fastest = BTreeMap::new();
        for (_, nexus) in (0..).zip(&self.nexuses).filter(|(other, _)| *other != index) {
            let Some((_, took)) = nexus.ping().filter(|(at, _)| is_of_late(*at)) else { continue };
            for disk in self.disks_behind(nexus) {
                let least: &mut Duration = fastest.entry(disk).or_insert(took);
                *least = took.min(*least);
            }
        }
        fastest
    }

    fn disks_behind<'a>(&'a self, nexus: &'a Nexus) -> impl Iterator<Item = u32> + 'a {
        let paths = nexus.paths.values().filter_map(|path| self.paths.get(path));
        paths.filter(|path| path.standing == Standing::Member).map(|path| path.disk)
    }
}
