//! Slow paths and second copies: a path is put last only if another one is left, no write is on its way twice, and extra
//! reads keep to their budget.

use std::collections::BTreeMap;
use std::ops::Range;

use ::host::DiskIndex;
use multipath::{Change, Hedging, Lag, Pace, PathId, PathState, Status};
use scsi::cdb::Cdb;
use scsi::{CdbBytes, CommandId, Lun};
use scsi_multipath::{Disk, Report};

#[derive(Debug)]
pub(crate) struct PaceCheck {
    hedging: Hedging,
    /// Writes with the target, as far as their initiator knows.
    writes: BTreeMap<(PathId, CommandId), (Lun, Range<u64>)>,
    /// Disks with a path that has stalled: what is rescued from it costs no budget.
    stalled: Vec<DiskIndex>,
    hedged: BTreeMap<DiskIndex, u64>,
    /// Paths that became the last resort, and that came back.
    pub(crate) demotions: u64,
    pub(crate) recoveries: u64,
    /// Reads that were sent twice.
    pub(crate) hedges: u64,
}

impl PaceCheck {
    pub(crate) const fn new(hedging: Hedging) -> Self {
        Self {
            hedging,
            writes: BTreeMap::new(),
            stalled: Vec::new(),
            hedged: BTreeMap::new(),
            demotions: 0,
            recoveries: 0,
            hedges: 0,
        }
    }

    /// A command goes to the session of its path.
    pub(crate) fn started(
        &mut self,
        path: PathId,
        id: CommandId,
        lun: Lun,
        cdb: &CdbBytes,
    ) -> Result<(), String> {
        let Ok(Cdb::Write(access)) = Cdb::parse(cdb.as_slice()) else { return Ok(()) };
        let blocks = access.lba.0..access.lba.0 + u64::from(access.blocks.0);
        let twice = self.writes.iter().find(|(_, (other, there))| {
            *other == lun && there.start < blocks.end && blocks.start < there.end
        });
        let finding = match twice {
            Some(((other, _), there)) => Err(format!(
                "a write of {blocks:?} goes out on {path} while one of {:?} is out on {other}",
                there.1
            )),
            None => Ok(()),
        };
        self.writes.insert((path, id), (lun, blocks));
        finding
    }

    pub(crate) fn ended(&mut self, path: PathId, id: CommandId) {
        self.writes.remove(&(path, id));
    }

    /// A disk reports something about the pace of a path.
    pub(crate) fn reported(
        &mut self,
        index: DiskIndex,
        disk: Option<&Disk>,
        report: &Report,
    ) -> Result<(), String> {
        match report {
            Report::Head(Change::Slow { path, why, .. }) => {
                self.demotions += 1;
                if *why == Lag::Stalled {
                    self.stalled.push(index);
                }
                let carries = |view: &scsi_multipath::PathView| {
                    view.status.id != *path
                        && matches!(view.status.state, PathState::Usable(_))
                        && view.status.pace == Pace::Steady
                };
                if disk.is_none_or(|disk| disk.paths().any(|view| carries(&view))) {
                    return Ok(());
                }
                Err(format!("{path} is put last although no other path is left"))
            }
            Report::Head(Change::Steady { .. }) => {
                self.recoveries += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a disk has counted so far.
    pub(crate) fn counted(&mut self, index: DiskIndex, status: &Status) -> Result<(), String> {
        let hedged = status.counters.hedged;
        let before = self.hedged.insert(index, hedged).unwrap_or_default();
        self.hedges += hedged.saturating_sub(before);
        let allowed = match self.hedging {
            _ if self.stalled.contains(&index) => return Ok(()),
            Hedging::Off => 0,
            // Each start of a read earns its part of one.
            Hedging::On { percent } => {
                (status.counters.submitted + status.counters.retried) * u64::from(percent) / 100 + 1
            }
        };
        if hedged > allowed {
            return Err(format!("{hedged} reads were sent twice, where {allowed} may be"));
        }
        Ok(())
    }

    /// The disk is gone; its number may be another's soon.
    pub(crate) fn disk_gone(&mut self, index: DiskIndex) {
        self.stalled.retain(|stalled| *stalled != index);
        self.hedged.remove(&index);
    }

    /// The process was killed: what it had out is nobody's now.
    pub(crate) fn process_ended(&mut self) {
        self.writes.clear();
        self.stalled.clear();
        self.hedged.clear();
    }
}
