//! What a nexus owes to disks: proofs that nothing that was sent on a lost path can take effect any more.

use multipath::PathId;
use scsi::Lun;
use scsi_multipath::Proof;

/// One path that is to be fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    pub(crate) path: PathId,
    pub(crate) lun: Lun,
    /// Which of the nexus's sessions, counted from 1, the path was of; 0 if it was one of a process before this.
    pub(crate) session: u64,
    /// The target portal group that the session was with.
    pub(crate) group: Option<u16>,
    /// A login that was to pay it died before it was answered.
    pub(crate) abandoned: bool,
}

impl Debt {
    /// Whether a later session with that portal group reinstates the one that the path was of. Another group is
    /// another SCSI target port, and so another nexus (RFC 7143, 3.4.1 and 6.3.5).
    pub(crate) fn is_payable(&self, session: u64, group: Option<u16>) -> bool {
        let same_group = match (self.group, group) {
            (Some(theirs), Some(ours)) => theirs == ours,
            // A target that names no group has one.
            (None, _) | (_, None) => true,
        };
        self.session < session && same_group
    }

    pub(crate) const fn proof(&self) -> Proof {
        if self.abandoned { Proof::ReinstatedAgain } else { Proof::Reinstated }
    }
}
