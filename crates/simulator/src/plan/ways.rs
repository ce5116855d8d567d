//! Which ways lead to a disk, and what operators do with them. Drawn apart, so that whatever else a seed draws stays what
//! it was before these were there.

use array::AccessChanges;
use clock::Duration;
use host::config::Multipath;
use scsi_multipath::Alua;

use super::{Plan, Profile};
use crate::fault::{Kind, PlannedFault};
use crate::random::Random;

/// How disks come by their paths, and what those are asked and told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    pub(crate) multipath: Multipath,
    pub(crate) alua: Alua,
    /// Who may change access states, as the array says.
    pub(crate) access_changes: AccessChanges,
    pub(crate) path_check: Option<Duration>,
}

/// What makes these draws differ from all others.
const WAYS_DRAWS: u64 = 0x7761_7973_2077_6179;
const CHANGES_DRAWS: u64 = 0x6368_616e_6765_7320;
const OPERATOR_DRAWS: u64 = 0x6f70_6572_6174_6f72;
/// Runs that an operator has something to say in.
const OPERATOR_PERCENT: u64 = 16;

/// What operators say, the more often the more can go wrong.
const SAYINGS: &[Kind] = &[
    Kind::OperatorFails,
    Kind::OperatorFails,
    Kind::OperatorFails,
    Kind::OperatorDrains,
    Kind::OperatorDrains,
    Kind::OperatorDrains,
    Kind::OperatorDrains,
    Kind::OperatorRescans,
    Kind::OperatorRescans,
    Kind::OperatorSetsPolicy,
    Kind::OperatorSetsNoPath,
    Kind::OperatorSetsRemoval,
    Kind::OperatorWaives,
    Kind::OperatorWaives,
];

impl Ways {
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ WAYS_DRAWS);
        let multipath = match random.below(100) {
            0..6 => Multipath::Off,
            6..26 => Multipath::Always,
            _ => Multipath::On,
        };
        let access_changes = match random.below(100) {
            0..4 => AccessChanges::None,
            4..40 => AccessChanges::ImplicitAndExplicit,
            _ => AccessChanges::Implicit,
        };
        Self {
            multipath,
            access_changes,
            alua: if random.percent(40) { Alua::Explicit } else { Alua::Implicit },
            path_check: random.percent(15).then(|| Duration::from_millis(random.spread(500, 60_000))),
        }
    }

    /// A disk has one path at a time, whatever else there is.
    pub(crate) fn is_single(&self) -> bool {
        match self.multipath {
            Multipath::Off => true,
            Multipath::On => self.access_changes == AccessChanges::None,
            Multipath::Always => false,
        }
    }

    /// Whether a disk may tell the array to change an access state.
    pub(crate) fn are_changed(&self) -> bool {
        self.alua == Alua::Explicit && self.access_changes == AccessChanges::ImplicitAndExplicit
    }
}

impl Plan {
    /// Occasions to change access states, and what comes of it: most changes are taken as they are meant.
    pub(super) fn draw_changes(&mut self) {
        if self.profile == Profile::Calm || !self.ways.are_changed() {
            return;
        }
        let mut random = Random::new(self.seed ^ CHANGES_DRAWS);
        for _ in 0..random.within(1..=4) {
            self.draw_fault(&mut random, Kind::AccessLost, (2_000, 20_000));
        }
        for _ in 0..random.below(3) {
            let kind = random.pick(&[Kind::ChangeRefused, Kind::ChangeLate, Kind::ChangeLies]);
            self.draw_fault(&mut random, kind, (5_000, 60_000));
        }
    }

    /// What an operator says, at any moment.
    pub(super) fn draw_operator(&mut self) {
        let mut random = Random::new(self.seed ^ OPERATOR_DRAWS);
        if !random.percent(OPERATOR_PERCENT) {
            return;
        }
        let has_twin = self.faults.iter().any(|fault| fault.kind == Kind::IdentityTwice);
        for _ in 0..random.within(1..=6) {
            let kind = random.pick(SAYINGS);
            // A disk that goes while another unit shows its name leaves the name to that one.
            if !(has_twin && kind == Kind::OperatorSetsRemoval) {
                self.draw_fault(&mut random, kind, (50, 20_000));
            }
        }
    }

    fn draw_fault(&mut self, random: &mut Random, kind: Kind, (shortest, longest): (u64, u64)) {
        let at = Duration::from_millis(random.below(self.storm.as_millis().max(1)));
        let duration = Duration::from_millis(random.spread(shortest, longest));
        self.faults.push(PlannedFault { kind, at, duration, chance: random.next() });
    }
}
