//! What the pings of sessions (NOP-Out and NOP-In) say of paths that carry nothing else.
//!
//! A session is pinged after it was silent, so that a path is measured by pings or by commands. Disks hear of pings only
//! when one after the other took far longer than another one of theirs, or than commands may: nearly none does. And only
//! some of the disks at a time, since each of them reads then.

use std::collections::BTreeMap;
use std::ops::Bound;

use clock::{Duration, Instant};
use multipath::PathId;
use scsi::Lun;
use scsi_multipath::Event;

use crate::disks::Standing;
use crate::host::Host;
use crate::nexus::Nexus;

/// Pings of a silent session that may be missed before the last one says nothing any more.
const PINGS_MISSED: u64 = 2;
/// Late pings in a row before disks hear of them: whatever holds up a host or a target once is not the path.
const LATE_MIN: u32 = 2;
/// Disks that hear of one late ping: a thousand would make a load of their own, at a bad moment.
const DISKS_TOLD_MAX: usize = 16;

/// The pings of one session.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// When the last one was answered, and how long that took.
    pub(crate) last: Option<(Instant, Duration)>,
    /// Late ones in a row.
    late: u32,
    /// The last logical unit whose disk heard of one.
    told: Option<Lun>,
}

impl Host {
    /// The target has answered a ping on the session of a nexus.
    pub(crate) fn pinged(&mut self, index: u32, took: Duration) {
        let now = self.now;
        let Some(link) = self.nexuses[index as usize].link_mut() else { return };
        link.pings.last = Some((now, took));
        // Whatever the others took: most pings of most hosts end here.
        let is_late = multipath::is_behind(took, Duration::ZERO);
        link.pings.late = if is_late { link.pings.late.saturating_add(1) } else { 0 };
        if link.pings.late < LATE_MIN {
            return;
        }
        let after = link.pings.told;
        let fastest = self.fastest_pings(index);
        let late: Vec<(Lun, PathId, u32, Option<Duration>)> = self
            .paths_after(index, after)
            .filter_map(|(lun, path)| {
                let disk = self.disk_of_member(path)?;
                let peers = fastest.get(&disk).copied();
                let is_late = peers.is_none_or(|peers| multipath::is_behind(took, peers));
                is_late.then_some((lun, path, disk, peers))
            })
            .take(DISKS_TOLD_MAX)
            .collect();
        if let Some(link) = self.nexuses[index as usize].link_mut() {
            link.pings.told = late.last().map(|(lun, ..)| *lun).or(after);
        }
        for (_, path, disk, peers) in late {
            self.tell_disk(disk, Event::Pinged { path, took, peers });
        }
    }

    /// All of a nexus, those behind this number first.
    fn paths_after(&self, index: u32, after: Option<Lun>) -> impl Iterator<Item = (Lun, PathId)> + '_ {
        let paths = &self.nexuses[index as usize].paths;
        let rest = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = paths.range((rest, Bound::Unbounded));
        let before = after.map(|after| paths.range(..=after));
        behind.chain(before.into_iter().flatten()).map(|(lun, path)| (*lun, *path))
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
