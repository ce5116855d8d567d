//! What was flushed stays, and what a cache lost is told (I8, I9).
//!
//! A logical unit may lose what is in its volatile cache. It must not lose a write that was acknowledged before a
//! flush that was acknowledged was asked for, nor one that was acknowledged as durable. What it may lose has to be
//! told: after the initiator was told of a loss, one flush fails before one succeeds that would have covered it.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Duration, Instant};

use super::ledger::{Ledger, Moment};
use super::medium::{Effect, LostBlock};
use crate::stamp::{BlockAt, Content, WriteId};

/// How long an answer is on its way to a client at most.
const CROSSING_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct DurabilityCheck {
    /// When the youngest flush that was acknowledged was asked for, of each unit.
    flushed: BTreeMap<u32, Moment>,
    /// The newest write of each block that a cache lost and nothing has replaced since, and when.
    lost: BTreeMap<BlockAt, (WriteId, Instant)>,
    /// When units lost something last.
    lost_at: BTreeMap<u32, Instant>,
    /// Units of whose losses the initiator was told, and since when: over a connection that is as old.
    told: BTreeMap<u32, Instant>,
    /// Units that have said since a flush failed last that their cache may be lost: the next one is to fail.
    owed: BTreeSet<u32>,
    /// Promises before this are not kept by anybody: the process that gave them is dead.
    forgotten: Moment,
    /// A flush that succeeded although none had failed yet. Another may have failed at the same time, and its answer
    /// be on its way to another client.
    suspected: Option<(Instant, u32, String)>,
    /// Acknowledged writes that a cache lost.
    pub(crate) losses: u64,
}

impl DurabilityCheck {
    pub(crate) fn effect(&mut self, now: Instant, ledger: &Ledger, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Written { unit, first, contents } => {
                let last = first + u32::try_from(contents.len()).expect("writes are short");
                self.replaced(*unit, *first, last);
                Ok(())
            }
            Effect::Deallocated { unit, first, blocks } => {
                self.replaced(*unit, *first, first + blocks);
                Ok(())
            }
            Effect::Lost { unit, blocks } => {
                self.told.remove(unit);
                self.lost_at.insert(*unit, now);
                blocks.iter().try_for_each(|lost| self.lost_block(now, ledger, *unit, lost))
            }
        }
    }

    fn replaced(&mut self, unit: u32, first: u32, end: u32) {
        if !self.lost.is_empty() {
            for lba in first..end {
                self.lost.remove(&BlockAt { unit, lba });
            }
        }
    }

    fn lost_block(
        &mut self,
        now: Instant,
        ledger: &Ledger,
        unit: u32,
        lost: &LostBlock,
    ) -> Result<(), String> {
        let at = BlockAt { unit, lba: lost.lba };
        let flushed = self.flushed.get(&unit).copied().unwrap_or_default().max(self.forgotten);
        for dropped in &lost.dropped {
            let Content::Write(id) = dropped else { continue };
            let Some(write) = ledger.get(*id).filter(|_| lost.kept != *dropped) else { continue };
            let Some(acknowledged) = write.ended.acknowledged() else { continue };
            if acknowledged > self.forgotten && acknowledged < flushed {
                return Err(format!(
                    "{at} lost {id}, which was acknowledged before a flush that was acknowledged"
                ));
            }
            if acknowledged > self.forgotten && write.is_durable {
                return Err(format!("{at} lost {id}, which was acknowledged as durable"));
            }
        }
        self.losses += 1;
        match lost.dropped.last() {
            Some(Content::Write(id)) => self.lost.insert(at, (*id, now)),
            _ => self.lost.remove(&at),
        };
        Ok(())
    }

    /// The initiator has received what says that the unit may have lost its cache, over a connection that is as old.
    /// What a new session is greeted with says nothing about the time before.
    pub(crate) fn told(&mut self, unit: u32, connected: Instant, for_sure: bool) {
        self.owed.insert(unit);
        if for_sure && self.lost_at.get(&unit).is_some_and(|lost_at| connected < *lost_at) {
            let since = self.told.entry(unit).or_insert(connected);
            *since = connected.min(*since);
        }
    }

    /// A write was acknowledged as durable.
    pub(crate) fn acknowledged(&self, id: WriteId, is_durable: bool) -> Result<(), String> {
        match self.lost.iter().find(|(_, (lost, _))| is_durable && *lost == id) {
            Some((at, _)) => Err(format!("{id} was acknowledged as durable after {at} had lost it")),
            None => Ok(()),
        }
    }

    /// A flush failed. True if it had to: it is the first since the unit said that its cache may be lost.
    pub(crate) fn is_owed(&self, unit: u32) -> bool {
        self.owed.contains(&unit)
    }

    /// A client gave up on a flush: it may have been the one that failed.
    pub(crate) fn flush_abandoned(&mut self, unit: u32) {
        self.lost.retain(|at, _| at.unit != unit);
        self.suspected.take_if(|(_, of, _)| *of == unit);
    }

    /// Whether what was suspected has turned out to be so.
    pub(crate) fn judge(&mut self, now: Instant) -> Result<(), String> {
        match self.suspected.take_if(|(since, _, _)| *since + CROSSING_MAX <= now) {
            Some((_, _, text)) => Err(text),
            None => Ok(()),
        }
    }

    /// A client was told how the flush ended that it had asked for at `began`.
    pub(crate) fn flushed(
        &mut self,
        now: Instant,
        ledger: &Ledger,
        unit: u32,
        began: Moment,
        failed: bool,
    ) -> Result<(), String> {
        let forgotten = self.forgotten;
        let covered = |id: WriteId, before: Moment| {
            let ended = ledger.get(id).and_then(|write| write.ended.acknowledged());
            ended.is_some_and(|ended| ended < before && ended > forgotten)
        };
        if failed {
            self.owed.remove(&unit);
            self.lost.retain(|at, (id, _)| at.unit != unit || !covered(*id, Moment(u64::MAX)));
            self.suspected.take_if(|(_, of, _)| *of == unit);
            return Ok(());
        }
        self.judge(now)?;
        let flushed = self.flushed.entry(unit).or_default();
        *flushed = began.max(*flushed);
        // What nobody could know of: this flush ends the matter.
        let told = self.told.get(&unit).copied();
        let is_known = |lost: Instant| told.is_some_and(|since| since < lost);
        self.lost.retain(|at, (id, lost)| at.unit != unit || is_known(*lost) || !covered(*id, began));
        if let Some((at, (id, _))) =
            self.lost.iter().find(|(at, (id, _))| at.unit == unit && covered(*id, began))
            && self.suspected.is_none()
        {
            let text = format!(
                "a flush was acknowledged that was to cover {id}, which {at} had lost, and no flush has failed since"
            );
            self.suspected = Some((now, unit, text));
        }
        Ok(())
    }

    /// The process that had acknowledged writes is gone, and with it what it knew of them.
    pub(crate) fn forget(&mut self, now: Moment) {
        self.forgotten = now;
        self.lost.clear();
        self.suspected = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Change;
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::START + Duration::from_secs(secs)
    }

    fn lose(id: WriteId) -> Effect {
        let lost = LostBlock { lba: 3, kept: Content::Zero, dropped: vec![Content::Write(id)] };
        Effect::Lost { unit: 0, blocks: vec![lost] }
    }

    fn written(ledger: &mut Ledger) -> WriteId {
        let id = ledger.begin(0, 3, 1, Change::Stamp);
        ledger.end(id, true);
        id
    }

    #[test]
    fn a_write_that_was_flushed_must_not_be_lost() {
        let (mut check, mut ledger) = (DurabilityCheck::default(), Ledger::default());
        let id = written(&mut ledger);
        let began = ledger.moment();
        check.flushed(at(1), &ledger, 0, began, false).unwrap();
        assert!(check.effect(at(1), &ledger, &lose(id)).is_err());
    }

    #[test]
    fn a_flush_that_was_asked_for_before_the_write_was_acknowledged_promises_nothing() {
        let (mut check, mut ledger) = (DurabilityCheck::default(), Ledger::default());
        let began = ledger.moment();
        let id = written(&mut ledger);
        check.flushed(at(1), &ledger, 0, began, false).unwrap();
        check.effect(at(1), &ledger, &lose(id)).unwrap();
    }

    #[test]
    fn after_a_loss_that_was_told_one_flush_fails_and_the_next_may_succeed() {
        let (mut check, mut ledger) = (DurabilityCheck::default(), Ledger::default());
        let id = written(&mut ledger);
        check.effect(at(1), &ledger, &lose(id)).unwrap();
        check.told(0, Instant::START, true);
        let began = ledger.moment();
        check.flushed(at(2), &ledger, 0, began, false).unwrap();
        assert!(check.judge(at(9)).is_err());
        check.flushed(at(10), &ledger, 0, began, false).unwrap();
        check.flushed(at(10), &ledger, 0, began, true).unwrap();
        check.flushed(at(11), &ledger, 0, began, false).unwrap();
        assert_eq!(check.judge(at(99)), Ok(()));
    }

    #[test]
    fn who_is_told_of_a_later_loss_over_a_later_connection_was_not_told_of_the_one_before() {
        let (mut check, mut ledger) = (DurabilityCheck::default(), Ledger::default());
        let id = written(&mut ledger);
        check.effect(at(1), &ledger, &lose(id)).unwrap();
        check.effect(at(5), &ledger, &Effect::Lost { unit: 0, blocks: vec![] }).unwrap();
        check.told(0, at(3), true);
        let began = ledger.moment();
        check.flushed(at(6), &ledger, 0, began, false).unwrap();
        assert_eq!(check.judge(at(9)), Ok(()));
    }

    #[test]
    fn a_durable_write_must_not_be_lost() {
        let (mut check, mut ledger) = (DurabilityCheck::default(), Ledger::default());
        let id = ledger.begin_durable(0, 3, 1, Change::Stamp);
        ledger.end(id, true);
        assert!(check.effect(at(1), &ledger, &lose(id)).is_err());
    }
}
