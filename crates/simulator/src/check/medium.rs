//! Nothing older reaches the medium after a newer write was acknowledged, whether or not anybody reads it.
//!
//! Looks at the store of the array, below the device server: every execution of every copy of a write is seen.

use std::collections::BTreeMap;

use super::ledger::{Change, Ledger, Moment, Write};
use crate::stamp::{BlockAt, Content, WriteId};

/// Something that happened to the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Blocks were written, in this order from `first` on.
    Written {
        unit: u32,
        first: u32,
        contents: Vec<Content>,
    },
    Deallocated {
        unit: u32,
        first: u32,
        blocks: u32,
    },
    /// Blocks hold something older again.
    Lost {
        unit: u32,
        blocks: Vec<LostBlock>,
    },
}

/// A block whose newest content was in a cache that is gone, or beyond the end of a unit that became smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostBlock {
    pub(crate) lba: u32,
    /// What it holds now.
    pub(crate) kept: Content,
    /// What it held since, oldest first.
    pub(crate) dropped: Vec<Content>,
}

#[derive(Debug, Default)]
pub(crate) struct MediumCheck {
    blocks: BTreeMap<BlockAt, Block>,
    /// Blocks that a copy of a write reached on the medium.
    pub(crate) executions: u64,
}

#[derive(Clone, Debug)]
struct Block {
    content: Content,
    /// What the loss of a cache has taken from it since it was written last: a copy of that may come back, and is newer.
    dropped: Vec<Content>,
    /// When the youngest acknowledged write began.
    youngest: Moment,
    youngest_id: WriteId,
}

impl Default for Block {
    fn default() -> Self {
        Self { content: Content::Zero, dropped: Vec::new(), youngest: Moment(0), youngest_id: WriteId(0) }
    }
}

impl MediumCheck {
    /// A client was told that its write is done.
    pub(crate) fn acknowledged(&mut self, id: WriteId, write: &Write) {
        if write.change == Change::Trim {
            return;
        }
        for at in write.blocks() {
            let block = self.blocks.entry(at).or_default();
            if write.began > block.youngest {
                block.youngest = write.began;
                block.youngest_id = id;
            }
        }
    }

    pub(crate) fn effect(&mut self, ledger: &Ledger, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Written { unit, first, contents } => contents
                .iter()
                .zip(*first..)
                .try_for_each(|(content, lba)| self.written(ledger, BlockAt { unit: *unit, lba }, *content)),
            Effect::Deallocated { unit, first, blocks } => {
                for lba in *first..first + blocks {
                    self.blocks.entry(BlockAt { unit: *unit, lba }).or_default().content = Content::Zero;
                }
                Ok(())
            }
            Effect::Lost { unit, blocks } => {
                for LostBlock { lba, kept, dropped } in blocks {
                    let block = self.blocks.entry(BlockAt { unit: *unit, lba: *lba }).or_default();
                    block.content = *kept;
                    block.dropped.clone_from(dropped);
                }
                Ok(())
            }
        }
    }

    fn written(&mut self, ledger: &Ledger, at: BlockAt, content: Content) -> Result<(), String> {
        self.executions += 1;
        let block = self.blocks.entry(at).or_default();
        let before = std::mem::replace(&mut block.content, content);
        let dropped = std::mem::take(&mut block.dropped);
        let Content::Write(id) = content else {
            // Whose zeros these are cannot be seen; the register checker sees what they do.
            return if content == Content::Zero {
                Ok(())
            } else {
                Err(format!("garbage was written to {at}"))
            };
        };
        let Some(write) = ledger.get(id).filter(|write| write.covers(at)) else {
            return Err(format!("{id} reached {at}, where it does not belong"));
        };
        let Some(ended) = write.ended.moment() else { return Ok(()) };
        if ended < block.youngest {
            return Err(format!(
                "ghost: {id} ({:?}) reached {at} after {} was acknowledged, which began later",
                write.ended, block.youngest_id
            ));
        }
        match before {
            Content::Write(other)
                if other != id && !dropped.contains(&content) && undoes(ledger, write, other) =>
            {
                Err(format!("ghost: another copy of {id} undid {other} at {at}; both had been acknowledged"))
            }
            _ => Ok(()),
        }
    }
}

/// Both had been acknowledged, and this one did not begin after the other had ended. (A write may come back over an
/// older one that the loss of a cache has brought back.)
fn undoes(ledger: &Ledger, write: &Write, other: WriteId) -> bool {
    let other = ledger.get(other).and_then(|other| other.ended.acknowledged());
    write.ended.acknowledged().is_some() && other.is_some_and(|ended| write.began < ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execute(check: &mut MediumCheck, ledger: &Ledger, id: WriteId) -> Result<(), String> {
        let effect = Effect::Written { unit: 0, first: 5, contents: vec![Content::Write(id)] };
        check.effect(ledger, &effect)
    }

    fn acknowledge(check: &mut MediumCheck, ledger: &mut Ledger, id: WriteId) {
        ledger.end(id, true);
        check.acknowledged(id, ledger.get(id).unwrap());
    }

    #[test]
    fn a_second_copy_is_harmless_until_a_newer_write_was_acknowledged() {
        let (mut check, mut ledger) = (MediumCheck::default(), Ledger::default());
        let old = ledger.begin(0, 5, 1, Change::Stamp);
        execute(&mut check, &ledger, old).unwrap();
        acknowledge(&mut check, &mut ledger, old);
        execute(&mut check, &ledger, old).unwrap();
        let new = ledger.begin(0, 5, 1, Change::Stamp);
        execute(&mut check, &ledger, new).unwrap();
        execute(&mut check, &ledger, old).unwrap();
        acknowledge(&mut check, &mut ledger, new);
        assert!(execute(&mut check, &ledger, old).unwrap_err().contains("ghost"));
    }

    #[test]
    fn a_failed_write_that_lands_late_is_a_ghost_too() {
        let (mut check, mut ledger) = (MediumCheck::default(), Ledger::default());
        let failed = ledger.begin(0, 5, 1, Change::Stamp);
        ledger.end(failed, false);
        execute(&mut check, &ledger, failed).unwrap();
        let new = ledger.begin(0, 5, 1, Change::Stamp);
        execute(&mut check, &ledger, new).unwrap();
        acknowledge(&mut check, &mut ledger, new);
        assert!(execute(&mut check, &ledger, failed).is_err());
    }

    #[test]
    fn a_copy_of_the_newest_write_may_come_back_over_what_a_lost_cache_left() {
        let (mut check, mut ledger) = (MediumCheck::default(), Ledger::default());
        let old = ledger.begin(0, 5, 1, Change::Stamp);
        acknowledge(&mut check, &mut ledger, old);
        let new = ledger.begin(0, 5, 1, Change::Stamp);
        acknowledge(&mut check, &mut ledger, new);
        execute(&mut check, &ledger, new).unwrap();
        check.blocks.entry(BlockAt { unit: 0, lba: 5 }).or_default().content = Content::Write(old);
        execute(&mut check, &ledger, new).unwrap();
    }

    #[test]
    fn of_two_writes_at_the_same_time_a_late_copy_must_not_undo_the_other() {
        let (mut check, mut ledger) = (MediumCheck::default(), Ledger::default());
        let one = ledger.begin(0, 5, 1, Change::Stamp);
        let two = ledger.begin(0, 5, 1, Change::Stamp);
        execute(&mut check, &ledger, one).unwrap();
        execute(&mut check, &ledger, two).unwrap();
        acknowledge(&mut check, &mut ledger, one);
        acknowledge(&mut check, &mut ledger, two);
        assert!(execute(&mut check, &ledger, one).is_err());
    }
}
