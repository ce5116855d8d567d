//! A port that refused a command for its access state gets no more of them until that state changes.
//!
//! The device says what it does not serve; after that, only a probe may ask whether this has changed.

use std::collections::BTreeMap;

use clock::Instant;
use multipath::PathId;

/// Counts the changes of the access state of a unit at a port group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

#[derive(Debug)]
pub(crate) struct AccessCheck {
    /// Whether units report port groups: where they do not, nothing but another try tells that a port serves again.
    are_reported: bool,
    /// In which epoch a path refused a command, and when. What is sent at the same instant was decided on before.
    refused: BTreeMap<PathId, (Epoch, Instant)>,
    pub(crate) refusals: u64,
    /// How often access states of the array have changed.
    epoch: u64,
    /// Units whose report of port groups is not true now: nobody can go by what they say.
    pub(crate) stale_reports: u32,
}

impl AccessCheck {
    pub(crate) const fn new(are_reported: bool) -> Self {
        Self { are_reported, refused: BTreeMap::new(), refusals: 0, epoch: 0, stale_reports: 0 }
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// The array changed an access state.
    pub(crate) const fn changed(&mut self) {
        self.epoch += 1;
    }

    /// The disk was told that this path serves nothing now.
    pub(crate) fn refused(&mut self, now: Instant, path: PathId, epoch: Epoch) {
        self.refusals += 1;
        if self.stale_reports > 0 || !self.are_reported {
            return;
        }
        self.refused.insert(path, (epoch, now));
    }

    /// Paths are numbered anew.
    pub(crate) fn forget(&mut self) {
        self.refused.clear();
    }

    /// The disk sends a medium command.
    pub(crate) fn started(&mut self, now: Instant, path: PathId, epoch: Epoch) -> Result<(), String> {
        match self.refused.get(&path) {
            Some((refused, at)) if *refused == epoch && *at < now => Err(format!(
                "a medium command was sent on {path}, which had refused one in the same access state"
            )),
            _ => Ok(()),
        }
    }
}
