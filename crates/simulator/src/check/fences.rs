//! Every loss of a nexus with writes of unknown fate opens a fence, and every fence comes to an end (I12, I13).
//!
//! Knows fences by what disks report of them, and losses by the commands that came back.

use std::collections::BTreeMap;

use clock::{Duration, Instant};
use multipath::PathId;
use scsi::cdb::operation;
use scsi::{CdbBytes, Lun};
use scsi_multipath::{FencePolicy, Report, Waiver};

#[derive(Debug, Default)]
pub(crate) struct FenceCheck {
    /// Paths of disks that lost writes, since when, and no fence was opened yet.
    unfenced: BTreeMap<PathId, Instant>,
    /// Whose they are, and since when.
    open: BTreeMap<PathId, (u32, Instant)>,
    /// A process was killed, and the next one has not ended its fences yet.
    has_predecessor: bool,
    policy: Option<FencePolicy>,
    /// Others may write to the units as well: a write of unknown fate is not sent again before its fence has ended (I6).
    is_shared: bool,
    /// Writes of unknown fate since a fence ended last.
    in_doubt: Vec<(Lun, CdbBytes)>,
    /// Of which disk an operator has said that nothing is left, and when; of all if none.
    waived_at: Option<(Option<u32>, Instant)>,
    pub(crate) proved: u64,
    pub(crate) waived: u64,
    /// The longest time that a fence took.
    pub(crate) longest: Duration,
}

impl FenceCheck {
    /// None if no fences are to be seen.
    pub(crate) fn new(policy: Option<FencePolicy>, is_shared: bool) -> Self {
        Self { policy, is_shared, ..Self::default() }
    }

    fn are_expected(&self) -> bool {
        self.policy.is_some_and(|policy| policy != FencePolicy::Unsafe)
    }

    /// A command is sent. Which blocks an UNMAP is about stands in its parameter list, so that two cannot be told apart here.
    pub(crate) fn started(&self, lun: Lun, cdb: CdbBytes) -> Result<(), String> {
        if cdb.operation_code() != operation::UNMAP && self.in_doubt.contains(&(lun, cdb)) {
            return Err(format!(
                "a write to LUN {lun} is sent again before its fence has ended, and others write there"
            ));
        }
        Ok(())
    }

    /// A write that was sent came back without an answer.
    pub(crate) fn lost(&mut self, now: Instant, path: PathId, lun: Option<Lun>, cdb: CdbBytes) {
        if self.is_shared && self.are_expected() {
            self.in_doubt.extend(lun.map(|lun| (lun, cdb)));
        }
        if !self.open.contains_key(&path) {
            self.unfenced.entry(path).or_insert(now);
        }
    }

    pub(crate) fn reported(&mut self, now: Instant, disk: u32, report: &Report) -> Result<(), String> {
        match report {
            Report::FenceOpened { path } => {
                self.unfenced.remove(path);
                self.open.insert(*path, (disk, now));
                Ok(())
            }
            Report::FenceProved { path, .. } => {
                self.proved += 1;
                self.closed(now, *path, "proved")
            }
            Report::FenceWaived { path, by, .. } => {
                self.waived += 1;
                let is_word = *by == Waiver::Operator
                    && self.waived_at.is_some_and(|(of, at)| at == now && of.is_none_or(|of| of == disk));
                let is_time = *by == Waiver::Timer && !matches!(self.policy, Some(FencePolicy::Strict));
                if !is_word && !is_time {
                    return Err(format!(
                        "the fence of {path} was waived by {by}, which had said nothing of it"
                    ));
                }
                self.closed(now, *path, "waived")
            }
            _ => Ok(()),
        }
    }

    fn closed(&mut self, now: Instant, path: PathId, how: &str) -> Result<(), String> {
        // It may have been the one that some of them waited for.
        self.in_doubt.clear();
        match self.open.remove(&path) {
            Some((_, since)) => {
                self.longest = self.longest.max(now.since(since));
                self.has_predecessor &= !self.open.is_empty();
                Ok(())
            }
            None => Err(format!("a fence of {path} was {how} that was never opened")),
        }
    }

    pub(crate) fn are_closed(&self) -> bool {
        self.open.is_empty()
    }

    /// Nothing is left of any copy of a write that its client knows the end of.
    pub(crate) fn are_all_proved(&self) -> bool {
        self.open.is_empty() && self.unfenced.is_empty() && !self.has_predecessor
    }

    /// An operator says that nothing is left of old writes of a disk, or of all.
    pub(crate) fn waived_by_operator(&mut self, now: Instant, disk: Option<u32>) {
        self.waived_at = Some((disk, now));
    }

    pub(crate) fn are_open_for(&self, disk: u32) -> bool {
        self.open.values().any(|(of, _)| *of == disk)
    }

    /// A disk has said what it had to say: what an operator has waived is over.
    pub(crate) fn settled(&self, now: Instant, disk: u32) -> Result<(), String> {
        let Some((of, at)) = self.waived_at.filter(|(_, at)| *at < now) else { return Ok(()) };
        let left = self.open.iter().find(|(_, (whose, since))| *whose == disk && *since < at);
        match left {
            Some((path, _)) if of.is_none_or(|of| of == disk) => {
                Err(format!("the fence of {path} is open, which an operator has waived"))
            }
            _ => Ok(()),
        }
    }

    /// Disks are made anew.
    pub(crate) fn forget(&mut self) {
        self.unfenced.clear();
        self.open.clear();
        self.in_doubt.clear();
        self.waived_at = None;
        self.has_predecessor = true;
    }

    /// When everything is over.
    pub(crate) fn judge(&self) -> Result<(), String> {
        if !self.are_expected() {
            return Ok(());
        }
        if let Some((path, since)) = self.unfenced.first_key_value() {
            let millis = since.as_nanos() / 1_000_000;
            return Err(format!("{path} lost writes at {millis} ms, and no fence was opened"));
        }
        match self.open.first_key_value() {
            Some((path, _)) => Err(format!("the fence of {path} is still open")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: PathId = PathId(3);

    fn check() -> FenceCheck {
        FenceCheck::new(Some(FencePolicy::Strict), true)
    }

    #[test]
    fn a_loss_without_a_fence_and_a_fence_without_an_end_are_both_found() {
        let (mut check, now) = (check(), Instant::START);
        check.lost(now, PATH, None, CdbBytes::new(&[0x8a]));
        assert!(check.judge().unwrap_err().contains("no fence was opened"));
        check.reported(now, 0, &Report::FenceOpened { path: PATH }).unwrap();
        assert!(check.judge().unwrap_err().contains("still open"));
        let proof = scsi_multipath::Proof::Reinstated;
        let proved = Report::FenceProved { path: PATH, proof, after: Duration::ZERO };
        check.reported(now, 0, &proved).unwrap();
        assert_eq!(check.judge(), Ok(()));
        assert!(check.reported(now, 0, &proved).is_err());
    }

    #[test]
    fn an_operator_waives_what_he_names_and_nothing_else() {
        let (mut check, now) = (check(), Instant::START);
        let other = PathId(4);
        check.reported(now, 0, &Report::FenceOpened { path: PATH }).unwrap();
        check.reported(now, 1, &Report::FenceOpened { path: other }).unwrap();
        let (then, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        check.waived_by_operator(then, Some(0));
        let waived = |path| Report::FenceWaived { path, by: Waiver::Operator, after: Duration::from_secs(1) };
        assert!(check.settled(later, 0).is_err());
        check.reported(then, 0, &waived(PATH)).unwrap();
        assert_eq!(check.settled(later, 0), Ok(()));
        assert_eq!(check.settled(later, 1), Ok(()));
        assert!(check.reported(then, 1, &waived(other)).is_err());
    }

    #[test]
    fn a_write_to_a_shared_unit_is_not_sent_again_before_a_fence_has_ended() {
        let (mut check, now, lun) = (check(), Instant::START, Lun::default());
        let cdb = CdbBytes::new(&[0x8a]);
        check.lost(now, PATH, Some(lun), cdb);
        check.reported(now, 0, &Report::FenceOpened { path: PATH }).unwrap();
        assert!(check.started(lun, cdb).is_err());
        assert_eq!(check.started(lun, CdbBytes::new(&[0x88])), Ok(()));
        let proof = scsi_multipath::Proof::Reinstated;
        check.reported(now, 0, &Report::FenceProved { path: PATH, proof, after: Duration::ZERO }).unwrap();
        assert_eq!(check.started(lun, cdb), Ok(()));
    }
}
