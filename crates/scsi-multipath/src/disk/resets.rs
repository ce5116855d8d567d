//! What follows resets of the logical unit that are our own.

use clock::Instant;

use super::Disk;
use super::path::Standing;
use crate::disposition::FollowUp;

impl Disk {
    /// A reset of ours was answered, or never will be. It ends our own commands on every other nexus too, and unless
    /// TAS is set nobody says so (SAM, command termination by another I_T nexus). And whoever is idle says what it has
    /// to say when it is asked the next time: that should be while it is known what it is about.
    pub(super) fn reset_ended(&mut self, now: Instant) {
        for position in 0..self.paths.len() {
            self.sweep_when_verified(now, self.paths[position].id);
            let path = &mut self.paths[position];
            // Not INQUIRY, which no unit attention is reported for.
            let what = if path.unit.reports_access { FollowUp::ACCESS } else { FollowUp::MODES };
            if path.standing == Standing::Verified {
                path.probe.want(what, now);
            }
        }
        self.tend(now);
    }
}
