//! Unit attention conditions: what an initiator must be told before its next command is executed (SAM, 5.14).
//!
//! A condition is the additional sense that tells it.

use alloc::vec::Vec;

use scsi::AdditionalSense;

/// What one nexus has still to be told about one logical unit, in the order of telling.
#[derive(Debug, Default)]
pub(crate) struct Attentions {
    queue: Vec<AdditionalSense>,
    /// 3F/0E is told until the nexus has read what is there.
    stands: bool,
}

/// More than every condition that can sensibly stand at once; a longer queue says less than "start over".
const QUEUE_MAX: usize = 8;

impl Attentions {
    /// One condition is kept once. When there is no room, everything is replaced by 29/00, after which an
    /// initiator assumes nothing.
    pub(crate) fn raise(&mut self, attention: AdditionalSense) {
        if self.queue.contains(&attention) {
            return;
        }
        if self.queue.len() == QUEUE_MAX {
            self.queue.clear();
            self.queue.push(AdditionalSense::POWER_ON_OR_RESET);
            return;
        }
        let place = self.queue.iter().position(|other| precedence(*other) > precedence(attention));
        self.queue.insert(place.unwrap_or(self.queue.len()), attention);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.stands
    }

    /// REPORTED LUNS DATA HAS CHANGED is told again and again from now on.
    pub(crate) fn stand(&mut self) {
        self.stands = true;
    }

    /// The nexus has read the identity.
    pub(crate) fn identified(&mut self) {
        self.stands = false;
    }

    /// Tells the next one, and so clears it.
    pub(crate) fn tell(&mut self) -> Option<AdditionalSense> {
        if self.queue.is_empty() {
            return self.stands.then_some(AdditionalSense::REPORTED_LUNS_DATA_CHANGED);
        }
        Some(self.queue.remove(0))
    }

    pub(crate) fn clear(&mut self, attention: AdditionalSense) {
        self.queue.retain(|other| *other != attention);
    }
}

/// Which is told first; lower is earlier (SAM, 5.14: precedence of unit attention conditions).
const fn precedence(attention: AdditionalSense) -> u8 {
    match attention {
        AdditionalSense::POWER_ON | AdditionalSense::DEVICE_INTERNAL_RESET => 0,
        AdditionalSense::POWER_ON_OR_RESET => 1,
        AdditionalSense::BUS_RESET => 2,
        AdditionalSense::BUS_DEVICE_RESET_FUNCTION => 3,
        AdditionalSense::I_T_NEXUS_LOSS => 4,
        AdditionalSense::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_told_before_changes_and_changes_in_their_order() {
        let mut attentions = Attentions::default();
        attentions.raise(AdditionalSense::CAPACITY_DATA_CHANGED);
        attentions.raise(AdditionalSense::ALUA_STATE_CHANGED);
        attentions.raise(AdditionalSense::POWER_ON_OR_RESET);
        assert_eq!(attentions.tell(), Some(AdditionalSense::POWER_ON_OR_RESET));
        assert_eq!(attentions.tell(), Some(AdditionalSense::CAPACITY_DATA_CHANGED));
        assert_eq!(attentions.tell(), Some(AdditionalSense::ALUA_STATE_CHANGED));
        assert_eq!(attentions.tell(), None);
    }

    #[test]
    fn the_same_condition_is_told_once() {
        let mut attentions = Attentions::default();
        attentions.raise(AdditionalSense::CAPACITY_DATA_CHANGED);
        attentions.raise(AdditionalSense::CAPACITY_DATA_CHANGED);
        assert_eq!(attentions.tell(), Some(AdditionalSense::CAPACITY_DATA_CHANGED));
        assert!(attentions.is_empty());
    }

    #[test]
    fn a_queue_that_runs_over_says_start_over() {
        let mut attentions = Attentions::default();
        for qualifier in 0..=u8::try_from(QUEUE_MAX).unwrap() {
            attentions.raise(AdditionalSense::new(0x5d, qualifier));
        }
        assert_eq!(attentions.tell(), Some(AdditionalSense::POWER_ON_OR_RESET));
        assert!(attentions.is_empty());
    }
}
