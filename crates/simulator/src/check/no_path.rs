//! Without a path requests wait as long as they are to, and no longer (I24).

use std::collections::BTreeMap;

use clock::{Duration, Instant};
use multipath::{Change, NoPath};
use scsi_multipath::Report;

/// What is allowed on top of the tenth of the time that is: an event that was on its way.
const SLACK: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct NoPathCheck {
    policy: Option<NoPath>,
    /// What an operator has said of single disks.
    of_disks: BTreeMap<u32, NoPath>,
    /// Disks without a path, and since when.
    without: BTreeMap<u32, Instant>,
}

impl NoPathCheck {
    pub(crate) fn new(policy: NoPath) -> Self {
        Self { policy: Some(policy), ..Self::default() }
    }

    pub(crate) fn reported(&mut self, now: Instant, disk: u32, report: &Report) {
        match report {
            Report::Head(Change::NoPath) => {
                self.without.insert(disk, now);
            }
            Report::Head(Change::PathAvailable | Change::Ending) => {
                self.without.remove(&disk);
            }
            _ => {}
        }
    }

    /// An operator said so, of one disk or of all, later ones too.
    pub(crate) fn set(&mut self, disk: Option<u32>, no_path: NoPath) {
        match disk {
            Some(disk) => {
                self.of_disks.insert(disk, no_path);
            }
            None => {
                self.policy = Some(no_path);
                self.of_disks.clear();
            }
        }
    }

    /// A disk is gone; its number may be another's soon.
    pub(crate) fn disk_gone(&mut self, disk: u32) {
        self.of_disks.remove(&disk);
    }

    /// Disks are made anew, as they are configured.
    pub(crate) fn forget(&mut self, configured: NoPath) {
        *self = Self::new(configured);
    }

    /// So many requests of a disk wait for a path.
    pub(crate) fn waiting(&self, now: Instant, disk: u32, requests: usize) -> Result<(), String> {
        let limit = match self.of_disks.get(&disk).copied().or(self.policy) {
            Some(NoPath::Fail) => Duration::ZERO,
            Some(NoPath::QueueFor(limit)) => limit,
            Some(NoPath::Queue) | None => return Ok(()),
        };
        let allowed = limit + Duration::from_nanos(limit.as_nanos() / 10) + SLACK;
        match self.without.get(&disk) {
            Some(since) if requests > 0 && now > *since + allowed => Err(format!(
                "{requests} requests of disk {disk} wait for a path {:?} after the last was lost, not {limit:?}",
                now.since(*since)
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_waits_longer_than_it_is_to_is_seen() {
        let at = |millis| Instant::START + Duration::from_millis(millis);
        let mut check = NoPathCheck::new(NoPath::QueueFor(Duration::from_secs(1)));
        check.reported(at(0), 0, &Report::Head(Change::NoPath));
        assert_eq!(check.waiting(at(1_200), 0, 1), Ok(()));
        assert!(check.waiting(at(1_201), 0, 1).is_err());
        assert_eq!(check.waiting(at(1_201), 0, 0), Ok(()));
        assert_eq!(check.waiting(at(1_201), 1, 1), Ok(()), "the other disk has a path");
        check.reported(at(1_300), 0, &Report::Head(Change::PathAvailable));
        assert_eq!(check.waiting(at(9_000), 0, 1), Ok(()));
    }
}
