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

    /// What a login and a reset prove, given the last session that a login was to reinstate which died before it was
    /// answered.
    pub(crate) fn proof(&self, abandoned: Option<u64>) -> Proof {
        if abandoned.is_some_and(|session| self.session <= session) {
            Proof::ReinstatedAgain
        } else {
            Proof::Reinstated
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(session: u64, group: Option<u16>) -> Debt {
        Debt { path: PathId(1), lun: Lun::default(), session, group }
    }

    #[test]
    fn only_a_later_session_with_the_same_portal_group_pays() {
        assert!(debt(3, Some(1)).is_payable(4, Some(1)));
        assert!(
            !debt(3, Some(1)).is_payable(3, Some(1)),
            "what is to be fenced may still be on its way on it"
        );
        assert!(!debt(3, Some(1)).is_payable(4, Some(2)), "another group is another nexus");
        assert!(debt(0, None).is_payable(1, Some(2)));
    }

    #[test]
    fn a_login_without_an_answer_taints_the_sessions_before_it_and_no_later_one() {
        assert_eq!(debt(3, None).proof(None), Proof::Reinstated);
        assert_eq!(debt(3, None).proof(Some(3)), Proof::ReinstatedAgain);
        assert_eq!(debt(4, None).proof(Some(3)), Proof::Reinstated);
    }
}
